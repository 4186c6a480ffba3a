//! Whether one rule matches one packet.

use core::net::IpAddr;

use crate::model::{EntityMatch, EntitySelector, L4Match, PortMatch, Rule};
use crate::net::{Cidr, IpVersion};
use crate::packet::{Icmp, Packet, Protocol};
use crate::principal::Principal;
use crate::reference::entity::Entities;
use crate::reference::trace::{Miss, RuleOutcome};
use crate::verdict::Direction;

/// An end of the packet that a match is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Source,
    Destination,
}

/// Whether `rule`, standing in a list of `direction`, matches `packet`.
pub(super) fn rule_outcome(
    entities: &Entities<'_>,
    rule: &Rule,
    direction: Direction,
    packet: &Packet,
) -> RuleOutcome {
    match conditions(entities, rule, direction, packet) {
        Err(miss) => RuleOutcome::Missed(miss),
        Ok(()) => match (&rule.http, &packet.http) {
            (None, _) => RuleOutcome::Matched,
            (Some(_), None) => RuleOutcome::NeedsHttp,
            (Some(http), Some(request)) if http.matches(request) => RuleOutcome::Matched,
            (Some(_), Some(_)) => RuleOutcome::Missed(Miss::Http),
        },
    }
}

/// Everything but HTTP.
fn conditions(
    entities: &Entities<'_>,
    rule: &Rule,
    direction: Direction,
    packet: &Packet,
) -> Result<(), Miss> {
    if rule.ip_version.is_some_and(|version| version != packet.version()) {
        return Err(Miss::IpVersion);
    }
    let (near, far) = match direction {
        Direction::Ingress => (End::Destination, End::Source),
        Direction::Egress => (End::Source, End::Destination),
    };
    entity(entities, &rule.local, near, packet)?;

    let anyone = [EntityMatch::default()];
    let peers = if rule.peers.is_empty() { &anyone[..] } else { &rule.peers };
    let anything = [L4Match::default()];
    let l4 = if rule.l4.is_empty() { &anything[..] } else { &rule.l4 };

    // Some peer and some L4 item must match together: a named port depends on the peer it belongs to.
    let mut nearest_miss = Miss::IpVersion;
    for peer in peers {
        if let Err(miss) = entity(entities, peer, far, packet) {
            nearest_miss = nearest_miss.max(miss);
            continue;
        }
        let (source, destination) = match direction {
            Direction::Ingress => (peer, &rule.local),
            Direction::Egress => (&rule.local, peer),
        };
        for item in l4 {
            match transport(entities, item, source, destination, packet) {
                Ok(()) => return Ok(()),
                Err(miss) => nearest_miss = nearest_miss.max(miss),
            }
        }
    }
    Err(nearest_miss)
}

fn entity(entities: &Entities<'_>, want: &EntityMatch, end: End, packet: &Packet) -> Result<(), Miss> {
    let (address, miss) = match end {
        End::Source => (packet.source, Miss::Source),
        End::Destination => (packet.destination, Miss::Destination),
    };
    let selected = want.selector.as_ref().is_none_or(|s| entities.selects(s, address))
        && want.not_selector.as_ref().is_none_or(|s| !entities.selects(s, address))
        && nets(&want.nets, address).unwrap_or(want.nets.is_empty())
        && nets(&want.not_nets, address).map_or(want.not_nets.is_empty(), |inside| !inside)
        && want
            .service
            .as_ref()
            .is_none_or(|id| entities.is_backend(id, address, end == End::Destination, packet));
    if !selected {
        return Err(miss);
    }
    match (&want.identity, &packet.principal, end) {
        (Some(identity), Some(principal), End::Source) => {
            let known = Principal::parse(principal).ok_or(Miss::Identity)?;
            let labels = entities.identity(known.namespace, known.service_account);
            if identity.expr.matches(&labels) { Ok(()) } else { Err(Miss::Identity) }
        }
        _ => Ok(()),
    }
}

/// Whether `address` lies in one of `list`; `None` when the list says nothing about its family.
fn nets(list: &[Cidr], address: IpAddr) -> Option<bool> {
    let version = IpVersion::of(&address);
    list.iter().any(|net| net.version() == version).then(|| list.iter().any(|net| net.contains(&address)))
}

fn transport(
    entities: &Entities<'_>,
    want: &L4Match,
    source: &EntityMatch,
    destination: &EntityMatch,
    packet: &Packet,
) -> Result<(), Miss> {
    if want.protocol.is_some_and(|p| p != packet.protocol) || want.not_protocol == Some(packet.protocol) {
        return Err(Miss::Protocol);
    }
    if want.icmp.is_some() || want.not_icmp.is_some() {
        if !matches!(packet.protocol, Protocol::ICMP | Protocol::ICMPV6) {
            return Err(Miss::Icmp);
        }
        let message = packet.icmp.unwrap_or(Icmp::UNKNOWN);
        if want.icmp.is_some_and(|icmp| !icmp.matches(message))
            || want.not_icmp.is_some_and(|icmp| icmp.matches(message))
        {
            return Err(Miss::Icmp);
        }
    }
    let source =
        PortSide { entities, side: source, address: packet.source, port: packet.source_port, packet };
    if !source.allows(&want.source_ports, &want.not_source_ports) {
        return Err(Miss::SourcePort);
    }
    let destination =
        PortSide { side: destination, address: packet.destination, port: packet.destination_port, ..source };
    if destination.allows(&want.destination_ports, &want.not_destination_ports) {
        Ok(())
    } else {
        Err(Miss::DestinationPort)
    }
}

/// One port of the packet, and what is needed to resolve names for it.
#[derive(Clone, Copy)]
struct PortSide<'a> {
    entities: &'a Entities<'a>,
    side: &'a EntityMatch,
    address: IpAddr,
    port: u16,
    packet: &'a Packet,
}

impl PortSide<'_> {
    fn allows(&self, positive: &[PortMatch], negative: &[PortMatch]) -> bool {
        (positive.is_empty() || positive.iter().any(|port| self.matches(port)))
            && !negative.iter().any(|port| self.matches(port))
    }

    fn matches(&self, port: &PortMatch) -> bool {
        if !self.packet.protocol.has_ports() {
            return false;
        }
        match port {
            PortMatch::Range(range) => range.contains(self.port),
            PortMatch::Named(name) => {
                let selector: Option<&EntitySelector> = self.side.selector.as_ref();
                self.entities.endpoints_at(self.address).any(|endpoint| {
                    selector.is_none_or(|s| self.entities.selects_endpoint(s, endpoint))
                        && endpoint.ports.iter().any(|candidate| {
                            candidate.name == *name
                                && candidate.protocol == self.packet.protocol
                                && candidate.port == self.port
                        })
                })
            }
        }
    }
}
