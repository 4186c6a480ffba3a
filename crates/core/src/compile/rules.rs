//! Policies and profiles with their conditions turned into predicate ids, for one address family at a time.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::compile::alternatives::{AddressMatch, End, alternatives};
use crate::compile::ids::{PortPredicateId, PredicateId};
use crate::compile::intern::Interner;
use crate::compile::net_set::NetUnion;
use crate::compile::ranges::{FULL, Ranges, complement, intersect, normalise};
use crate::compile::signature::{PortPredicate, Predicate, Signature};
use crate::model::{
    Action, EntityMatch, EntitySelector, HttpMatch, IcmpMatch, IdentityMatch, L4Match, PortMatch, PortRange,
    Rule,
};
use crate::net::IpVersion;
use crate::packet::{Icmp, Protocol};
use crate::verdict::Direction;

/// All predicates that active rules ask.
#[derive(Debug)]
pub(super) struct Predicates {
    pub(super) plain: Interner<PredicateId, Predicate>,
    pub(super) ports: Interner<PortPredicateId, PortPredicate>,
}

impl Predicates {
    pub(super) fn new() -> Self {
        Self { plain: Interner::new(), ports: Interner::new() }
    }
}

/// The rules of one list that can match packets of one family, in order.
#[derive(Debug, Default)]
pub(super) struct CompiledRules {
    pub(super) rules: Vec<CompiledRule>,
    /// Whether the rules ask for more named ports, each of the endpoints of one peer, than [`MOST_NAMED_PORTS`]: then there
    /// are no rules here, and no program is made of them.
    pub(super) is_too_large: bool,
}

/// Most pairs of a peer and a named port in one list of rules.
const MOST_NAMED_PORTS: usize = 1 << 16;

/// One rule.
#[derive(Debug)]
pub(super) struct CompiledRule {
    /// Position in the user's list.
    pub(super) index: usize,
    pub(super) action: Action,
    pub(super) peers: Vec<CompiledPeer>,
    pub(super) local: CompiledEntity,
    pub(super) http: Option<HttpMatch>,
}

/// One alternative for the peer, with the L4 alternatives that go with it.
#[derive(Debug)]
pub(super) struct CompiledPeer {
    pub(super) entity: CompiledEntity,
    /// Shared by the peers of a rule, unless it names ports: these are those of the peer's endpoints.
    pub(super) l4: Arc<[CompiledL4]>,
    names_ports: bool,
}

/// The address conditions of one end.
#[derive(Debug, Default)]
pub(super) struct CompiledEntity {
    pub(super) must: Vec<PredicateId>,
    pub(super) must_not: Vec<PredicateId>,
    /// Destination only: (protocol, port) must be among these.
    pub(super) service: Option<PortPredicateId>,
    /// Source only.
    pub(super) identity: Option<IdentityMatch>,
}

impl CompiledEntity {
    pub(super) fn matches(&self, signature: &Signature) -> bool {
        self.must.iter().all(|id| signature.holds(*id))
            && !self.must_not.iter().any(|id| signature.holds(*id))
    }
}

/// One L4 alternative.
#[derive(Debug, Clone, Default)]
pub(super) struct CompiledL4 {
    pub(super) protocol: Option<Protocol>,
    pub(super) not_protocol: Option<Protocol>,
    /// The keys of ICMP messages that match, when there is a condition on them.
    pub(super) messages: Option<Ranges>,
    pub(super) source: CompiledPorts,
    pub(super) destination: CompiledPorts,
}

/// The port conditions of one end.
#[derive(Debug, Clone, Default)]
pub(super) struct CompiledPorts {
    pub(super) any_of: Vec<CompiledPort>,
    pub(super) none_of: Vec<CompiledPort>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum CompiledPort {
    Range(PortRange),
    Named(PortPredicateId),
}

impl CompiledL4 {
    /// Whether the protocol condition holds; `None` is a protocol that no rule names.
    pub(super) fn applies(&self, protocol: Option<Protocol>) -> bool {
        self.protocol.is_none_or(|wanted| Some(wanted) == protocol)
            && self.not_protocol.is_none_or(|unwanted| Some(unwanted) != protocol)
    }
}

impl CompiledPorts {
    pub(super) fn is_any(&self) -> bool {
        self.any_of.is_empty() && self.none_of.is_empty()
    }

    /// The ports that satisfy the condition for a packet of `protocol` whose address has `signature`. A protocol without
    /// ports satisfies no positive list and every negative one.
    pub(super) fn ranges(&self, protocol: Option<Protocol>, signature: &Signature) -> Ranges {
        let Some(protocol) = protocol.filter(|p| p.has_ports()) else {
            return if self.any_of.is_empty() { vec![FULL] } else { Ranges::new() };
        };
        let resolve = |list: &[CompiledPort]| {
            let mut ranges = Ranges::new();
            for port in list {
                match port {
                    CompiledPort::Range(range) => ranges.push((range.first(), range.last())),
                    CompiledPort::Named(id) => {
                        let ports = signature.ports(*id).iter().filter(|(p, _)| *p == protocol);
                        ranges.extend(ports.map(|(_, port)| (*port, *port)));
                    }
                }
            }
            normalise(ranges)
        };
        let allowed = if self.any_of.is_empty() { vec![FULL] } else { resolve(&self.any_of) };
        if self.none_of.is_empty() {
            allowed
        } else {
            intersect(&allowed, &complement(&resolve(&self.none_of)))
        }
    }
}

/// Compiles `rules`, standing in a list of `direction`, for packets of `version`. Rules that can never match such
/// packets are left out.
pub(super) fn compile(
    rules: &[Rule],
    direction: Direction,
    version: IpVersion,
    predicates: &mut Predicates,
) -> CompiledRules {
    if rules.iter().map(named_ports).fold(0, usize::saturating_add) > MOST_NAMED_PORTS {
        return CompiledRules { rules: Vec::new(), is_too_large: true };
    }
    let rules = rules
        .iter()
        .enumerate()
        .filter_map(|(index, rule)| compile_rule(index, rule, direction, version, predicates))
        .collect();
    CompiledRules { rules, is_too_large: false }
}

/// Pairs of a peer and a named port. Not fewer than [`alternatives`] leaves.
fn named_ports(rule: &Rule) -> usize {
    let named = |ports: &[PortMatch]| ports.iter().filter(|port| matches!(port, PortMatch::Named(_))).count();
    let of_alternative = |l4: &L4Match| {
        let lists =
            [&l4.source_ports, &l4.not_source_ports, &l4.destination_ports, &l4.not_destination_ports];
        lists.map(|list| named(list)).into_iter().fold(0, usize::saturating_add)
    };
    let all = rule.l4.iter().map(of_alternative).fold(0, usize::saturating_add);
    // Peers that are plain selectors, or plain networks, are one.
    let plain = |peer: &&EntityMatch| {
        peer.not_selector.is_none()
            && peer.service.is_none()
            && peer.identity.is_none()
            && (peer.selector.is_none() || peer.nets.is_empty() && peer.not_nets.is_empty())
    };
    let negated =
        rule.l4.iter().any(|l4| named(&l4.not_source_ports) > 0 || named(&l4.not_destination_ports) > 0);
    let peers = if negated {
        rule.peers.len()
    } else {
        rule.peers.iter().filter(|peer| !plain(peer)).count().saturating_add(2)
    };
    all.saturating_mul(peers.max(1))
}

fn compile_rule(
    index: usize,
    rule: &Rule,
    direction: Direction,
    version: IpVersion,
    predicates: &mut Predicates,
) -> Option<CompiledRule> {
    let (subject_end, peer_end) = match direction {
        Direction::Ingress => (End::Destination, End::Source),
        Direction::Egress => (End::Source, End::Destination),
    };
    let local = AddressMatch::of(&rule.local, subject_end, version)?;
    if rule.ip_version.is_some_and(|wanted| wanted != version) {
        return None;
    }
    let peers = alternatives(rule, peer_end, version);
    if peers.is_empty() {
        return None;
    }
    let local_selectors = local.selectors();
    let mut shared: Option<Arc<[CompiledL4]>> = None;
    let names_ports = named_ports(rule) > 0;
    let peers = peers
        .into_iter()
        .map(|peer| {
            let (source, destination) = match direction {
                Direction::Ingress => (peer.selectors(), local_selectors),
                Direction::Egress => (local_selectors, peer.selectors()),
            };
            let l4 = rule.l4.iter().map(|l4| CompiledL4 {
                protocol: l4.protocol,
                not_protocol: l4.not_protocol,
                messages: messages(l4.icmp, l4.not_icmp),
                source: CompiledPorts {
                    any_of: compile_ports(&l4.source_ports, source, predicates),
                    none_of: compile_ports(&l4.not_source_ports, source, predicates),
                },
                destination: CompiledPorts {
                    any_of: compile_ports(&l4.destination_ports, destination, predicates),
                    none_of: compile_ports(&l4.not_destination_ports, destination, predicates),
                },
            });
            let compiled = || -> Arc<[CompiledL4]> {
                if rule.l4.is_empty() { vec![CompiledL4::default()].into() } else { l4.collect() }
            };
            let l4 = if names_ports { compiled() } else { shared.get_or_insert_with(compiled).clone() };
            CompiledPeer { entity: compile_entity(peer, predicates), l4, names_ports }
        })
        .collect();
    let local = compile_entity(local, predicates);
    Some(CompiledRule { index, action: rule.action, peers, local, http: rule.http.clone() })
}

/// The keys of the messages that satisfy both conditions; `None` without one.
fn messages(icmp: Option<IcmpMatch>, not_icmp: Option<IcmpMatch>) -> Option<Ranges> {
    Some(match (icmp.map(icmp_keys), not_icmp.map(icmp_keys)) {
        (None, None) => return None,
        (Some(keys), None) => keys,
        (None, Some(not)) => complement(&not),
        (Some(keys), Some(not)) => intersect(&keys, &complement(&not)),
    })
}

/// The keys of the messages that `icmp` matches.
fn icmp_keys(icmp: IcmpMatch) -> Ranges {
    let kinds: Vec<u8> = match icmp.kind {
        Some(kind) => vec![kind],
        None => (0..=u8::MAX).collect(),
    };
    let key = |message: Icmp| u16::from_be_bytes([message.kind, message.code]);
    normalise(
        kinds
            .into_iter()
            .map(|kind| match icmp.code {
                Some(code) => (key(Icmp { kind, code }), key(Icmp { kind, code })),
                None => (key(Icmp { kind, code: 0 }), key(Icmp { kind, code: u8::MAX })),
            })
            .collect(),
    )
}

fn compile_entity(entity: AddressMatch, predicates: &mut Predicates) -> CompiledEntity {
    let mut compiled = CompiledEntity::default();
    let mut ask = |predicate| predicates.plain.acquire(predicate).0;
    if let Some(selectors) = entity.select {
        compiled.must.push(ask(Predicate::Select(selectors)));
    }
    if let Some(selector) = entity.not_selector {
        compiled.must_not.push(ask(Predicate::Select(vec![selector])));
    }
    match entity.nets {
        // INVARIANT: what holds for nobody was left out.
        NetUnion::All | NetUnion::None => {}
        NetUnion::Among(nets) => compiled.must.push(ask(Predicate::Nets(nets))),
        NetUnion::Except(nets) => compiled.must_not.push(ask(Predicate::Nets(nets))),
    }
    if let Some(service) = entity.service {
        match entity.end {
            End::Source => compiled.must.push(ask(Predicate::Service(service))),
            End::Destination => {
                compiled.service = Some(predicates.ports.acquire(PortPredicate::Service(service)).0);
            }
        }
    }
    compiled.identity = entity.identity;
    compiled
}

fn compile_ports(
    ports: &[PortMatch],
    selectors: &[EntitySelector],
    predicates: &mut Predicates,
) -> Vec<CompiledPort> {
    ports
        .iter()
        .map(|port| match port {
            PortMatch::Range(range) => CompiledPort::Range(*range),
            PortMatch::Named(name) => {
                let predicate = PortPredicate::Named(selectors.to_vec(), name.clone());
                CompiledPort::Named(predicates.ports.acquire(predicate).0)
            }
        })
        .collect()
}

impl CompiledRules {
    /// Calls `visit` for every predicate, as often as it was acquired.
    pub(super) fn for_each_predicate(&self, mut visit: impl FnMut(AnyPredicateId)) {
        for rule in &self.rules {
            rule.local.for_each_predicate(&mut visit);
            for peer in &rule.peers {
                peer.entity.for_each_predicate(&mut visit);
                for l4 in peer.naming_ports() {
                    for ports in [&l4.source, &l4.destination] {
                        for port in ports.any_of.iter().chain(&ports.none_of) {
                            if let CompiledPort::Named(id) = port {
                                visit(AnyPredicateId::Ports(*id));
                            }
                        }
                    }
                }
            }
        }
    }

    /// Gives back what [`compile`] acquired.
    pub(super) fn release(&self, predicates: &mut Predicates) {
        self.for_each_predicate(|predicate| match predicate {
            AnyPredicateId::Plain(id) => predicates.plain.release(id),
            AnyPredicateId::Ports(id) => predicates.ports.release(id),
        });
    }

    /// The predicates of the source and of the destination, for a list of `direction`.
    pub(super) fn sides(
        &self,
        direction: Direction,
        source: &mut PredicateSet,
        destination: &mut PredicateSet,
    ) {
        let (subject, peers) = match direction {
            Direction::Ingress => (&mut *destination, &mut *source),
            Direction::Egress => (&mut *source, &mut *destination),
        };
        for rule in &self.rules {
            rule.local.for_each_predicate(&mut |predicate| subject.add(predicate));
            for peer in &rule.peers {
                peer.entity.for_each_predicate(&mut |predicate| peers.add(predicate));
            }
        }
        for l4 in self.rules.iter().flat_map(|rule| &rule.peers).flat_map(CompiledPeer::naming_ports) {
            for (ports, side) in [(&l4.source, &mut *source), (&l4.destination, &mut *destination)] {
                for port in ports.any_of.iter().chain(&ports.none_of) {
                    if let CompiledPort::Named(id) = port {
                        side.add(AnyPredicateId::Ports(*id));
                    }
                }
            }
        }
    }
}

impl CompiledPeer {
    /// The L4 alternatives, where some of them name ports.
    fn naming_ports(&self) -> &[CompiledL4] {
        if self.names_ports { &self.l4 } else { &[] }
    }
}

impl CompiledEntity {
    fn for_each_predicate(&self, visit: &mut impl FnMut(AnyPredicateId)) {
        for id in self.must.iter().chain(&self.must_not) {
            visit(AnyPredicateId::Plain(*id));
        }
        if let Some(id) = self.service {
            visit(AnyPredicateId::Ports(id));
        }
    }
}

/// The id of a predicate of either kind.
#[derive(Clone, Copy)]
pub(super) enum AnyPredicateId {
    Plain(PredicateId),
    Ports(PortPredicateId),
}

/// The predicates that a program evaluates on one end of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PredicateSet {
    pub(super) predicates: Vec<PredicateId>,
    pub(super) ports: Vec<PortPredicateId>,
}

impl PredicateSet {
    fn add(&mut self, predicate: AnyPredicateId) {
        match predicate {
            AnyPredicateId::Plain(id) => self.predicates.push(id),
            AnyPredicateId::Ports(id) => self.ports.push(id),
        }
    }

    /// Sorts both lists and removes duplicates; call once, after the last predicate.
    pub(super) fn normalise(&mut self) {
        self.predicates.sort_unstable();
        self.predicates.dedup();
        self.ports.sort_unstable();
        self.ports.dedup();
    }
}
