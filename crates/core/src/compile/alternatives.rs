//! The peers of a rule, with those put together that no packet tells apart.
//!
//! A rule does the same for each of its peers, and the cause of a verdict names the rule, not the peer. So many plain networks,
//! or many plain selectors, are one condition: addresses that differ only in which of them they meet stay in one class.

use alloc::vec;
use alloc::vec::Vec;

use crate::compile::net_set::{NetBlock, NetUnion};
use crate::model::{EntityMatch, EntitySelector, IdentityMatch, L4Match, PortMatch, Rule, ServiceId};
use crate::net::{Cidr, IpVersion};

/// Which end of a packet a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

/// What one end of a packet of one family must be, for some of the peers of a rule together.
#[derive(Clone, Debug)]
pub(super) struct AddressMatch {
    pub(super) end: End,
    /// Something that one of these selects: sorted, without duplicates. `None` is anyone.
    pub(super) select: Option<Vec<EntitySelector>>,
    pub(super) not_selector: Option<EntitySelector>,
    pub(super) nets: NetUnion,
    pub(super) service: Option<ServiceId>,
    /// For a source only.
    pub(super) identity: Option<IdentityMatch>,
}

impl AddressMatch {
    /// `None` when it matches no address of `version`: its networks leave none over, or a list of them says nothing about the
    /// family, see [`EntityMatch::nets`].
    pub(super) fn of(entity: &EntityMatch, end: End, version: IpVersion) -> Option<Self> {
        if !speaks_of(&entity.nets, version) || !speaks_of(&entity.not_nets, version) {
            return None;
        }
        let nets = NetUnion::of([block(entity)], version);
        (nets != NetUnion::None).then(|| Self {
            end,
            select: entity.selector.clone().map(|selector| vec![selector]),
            not_selector: entity.not_selector.clone(),
            nets,
            service: entity.service.clone(),
            identity: entity.identity.clone().filter(|_| end == End::Source),
        })
    }

    /// The selectors that named ports of this end are about.
    pub(super) fn selectors(&self) -> &[EntitySelector] {
        self.select.as_deref().unwrap_or_default()
    }
}

/// The peers of `rule` for packets of `version`; none when it can match no such packet.
pub(super) fn alternatives(rule: &Rule, end: End, version: IpVersion) -> Vec<AddressMatch> {
    if rule.peers.is_empty() {
        return AddressMatch::of(&EntityMatch::default(), end, version).into_iter().collect();
    }
    let mut blocks: Vec<NetBlock<'_>> = Vec::new();
    let mut selectors: Vec<EntitySelector> = Vec::new();
    let mut rest: Vec<&EntityMatch> = Vec::new();
    let with_selectors = !tells_selectors_apart(&rule.l4, end);
    for peer in &rule.peers {
        let plain = peer.not_selector.is_none()
            && peer.service.is_none()
            && (peer.identity.is_none() || end == End::Destination);
        match &peer.selector {
            None if plain => {
                if speaks_of(&peer.nets, version) && speaks_of(&peer.not_nets, version) {
                    blocks.push(block(peer));
                }
            }
            Some(selector) if plain && with_selectors && peer.nets.is_empty() && peer.not_nets.is_empty() => {
                selectors.push(selector.clone());
            }
            _ => rest.push(peer),
        }
    }
    selectors.sort_unstable();
    selectors.dedup();
    let anyone = AddressMatch {
        end,
        select: None,
        not_selector: None,
        nets: NetUnion::All,
        service: None,
        identity: None,
    };
    let mut peers: Vec<AddressMatch> = Vec::new();
    let nets = NetUnion::of(blocks, version);
    if nets != NetUnion::None {
        peers.push(AddressMatch { nets, ..anyone.clone() });
    }
    if !selectors.is_empty() {
        peers.push(AddressMatch { select: Some(selectors), ..anyone });
    }
    peers.extend(rest.into_iter().filter_map(|peer| AddressMatch::of(peer, end, version)));
    peers
}

/// Whether named ports make it matter which of several selectors selects the endpoint at an address with two. A port that one
/// of the endpoints has is a port of all selected ones together, so a positive list makes no difference; a negative one does:
/// it is about the endpoints that the same peer selects.
fn tells_selectors_apart(l4: &[L4Match], end: End) -> bool {
    let named = |ports: &[PortMatch]| ports.iter().any(|port| matches!(port, PortMatch::Named(_)));
    l4.iter().any(|l4| match end {
        End::Source => named(&l4.not_source_ports),
        End::Destination => named(&l4.not_destination_ports),
    })
}

fn block(entity: &EntityMatch) -> NetBlock<'_> {
    NetBlock { nets: &entity.nets, not_nets: &entity.not_nets }
}

fn speaks_of(nets: &[Cidr], version: IpVersion) -> bool {
    nets.is_empty() || nets.iter().any(|net| net.version() == version)
}
