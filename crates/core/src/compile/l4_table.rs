//! From an ordered list of rules to one L4 table, for one source and one destination signature.
//!
//! This is where first match, Pass, tier defaults and profiles disappear. Every key (protocol, source port,
//! destination port or ICMP type and code) starts out open; each rule in order takes the open keys it matches and
//! decides them, passes them to the next tier, or notes a log entry for them.

use alloc::borrow::Cow;
use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use crate::compile::decisions::Decisions;
use crate::compile::l7_steps::{KeyItem, guarded_decision};
use crate::compile::program_rules::{Item, ProgramRules};
use crate::compile::ranges::{FULL, Open, Ranges, intersect, normalise, port_map};
use crate::compile::rules::{CompiledL4, CompiledRule};
use crate::compile::signature::Signature;
use crate::compile::tables::Tables;
use crate::ir::{DecisionId, L4Table, L4TableId, PortMap, SourceInterval};
use crate::model::{Action, IdentityMatch};
use crate::packet::Protocol;
use crate::verdict::Direction;

/// The table for packets whose addresses have these signatures. The caller owns one reference to it.
pub(super) fn build_table(
    program: &ProgramRules<'_>,
    source: &Signature,
    destination: &Signature,
    tables: &mut Tables,
) -> L4TableId {
    let mut builder = TableBuilder {
        program,
        candidates: Vec::new(),
        source,
        destination,
        decisions: Decisions::new(program, tables),
    };
    builder.collect();
    builder.run()
}

struct TableBuilder<'f, 'a> {
    program: &'f ProgramRules<'a>,
    candidates: Vec<Candidate<'f>>,
    source: &'f Signature,
    destination: &'f Signature,
    decisions: Decisions<'f, 'a>,
}

/// An item that concerns these addresses.
enum Candidate<'f> {
    Rule { item: usize, rule: &'f CompiledRule, alternatives: Vec<Alternative<'f>> },
    TierEnd { item: usize, deny: bool },
}

/// One pair of a peer and an L4 alternative that may match.
#[derive(Clone, Copy)]
struct Alternative<'f> {
    l4: &'f CompiledL4,
    /// (protocol, port) must be among these, when a service is named.
    service: Option<&'f [(Protocol, u16)]>,
    identity: Option<&'f IdentityMatch>,
}

/// An alternative for one protocol: its keys, and the condition on the principal.
struct NarrowedAlternative<'f> {
    keys: Cow<'f, [(u16, u16)]>,
    identity: Option<&'f IdentityMatch>,
}

/// A candidate narrowed to one protocol and one source port interval.
enum NarrowedCandidate<'f> {
    Rule { item: usize, rule: &'f CompiledRule, alternatives: Vec<NarrowedAlternative<'f>> },
    TierEnd { item: usize, deny: bool },
}

impl<'f> NarrowedCandidate<'f> {
    /// What it does with the packets of one key; `None` when it matches none of them.
    fn at_key(&self, key: u16) -> Option<KeyItem<'f>> {
        Some(match self {
            Self::TierEnd { item, deny } => KeyItem::TierEnd { item: *item, deny: *deny },
            Self::Rule { item, rule, alternatives } => {
                let has_key = |alternative: &&NarrowedAlternative<'f>| {
                    alternative.keys.iter().any(|(first, last)| *first <= key && key <= *last)
                };
                let identities: Vec<Option<&'f IdentityMatch>> =
                    alternatives.iter().filter(has_key).map(|alternative| alternative.identity).collect();
                if identities.is_empty() {
                    return None;
                }
                KeyItem::Rule { item: *item, rule, identities }
            }
        })
    }
}

impl<'f, 'a> TableBuilder<'f, 'a> {
    /// Finds the items whose address conditions hold.
    fn collect(&mut self) {
        let program = self.program;
        // Once a rule takes every key, the rest of its tier cannot matter, and later tiers only after a Pass.
        let mut closed = false;
        let mut passed = false;
        let peer = match program.direction {
            Direction::Ingress => self.source,
            Direction::Egress => self.destination,
        };
        for item in program.relevant(peer) {
            let Some(element) = program.items.get(item) else { continue };
            match element {
                Item::TierEnd(cause) => {
                    if closed && !passed {
                        return;
                    }
                    self.candidates.push(Candidate::TierEnd { item, deny: cause.is_some() });
                    (closed, passed) = (false, false);
                }
                Item::Rule { .. } if closed => {}
                Item::Rule { rule, .. } => {
                    let alternatives = self.alternatives(rule);
                    if alternatives.is_empty() {
                        continue;
                    }
                    match rule.action {
                        Action::Pass => passed = true,
                        Action::Allow | Action::Deny => closed = takes_all(rule, &alternatives),
                        Action::Log => {}
                    }
                    self.candidates.push(Candidate::Rule { item, rule, alternatives });
                }
            }
        }
    }

    fn alternatives(&self, rule: &'f CompiledRule) -> Vec<Alternative<'f>> {
        let (subject, other_end) = match self.program.direction {
            Direction::Ingress => (self.destination, self.source),
            Direction::Egress => (self.source, self.destination),
        };
        if !rule.local.matches(subject) {
            return Vec::new();
        }
        let mut alternatives = Vec::new();
        for peer in rule.peers.iter().filter(|peer| peer.entity.matches(other_end)) {
            let (entity, identity) = match self.program.direction {
                Direction::Ingress => (&rule.local, &peer.entity.identity),
                Direction::Egress => (&peer.entity, &rule.local.identity),
            };
            let service = entity.service.map(|id| self.destination.ports(id));
            alternatives.extend(peer.l4.iter().map(|l4| Alternative {
                l4,
                service,
                identity: identity.as_ref(),
            }));
        }
        alternatives
    }

    fn run(mut self) -> L4TableId {
        let other_protocols = self.protocol_map(None);
        // INVARIANT: no rule tells ports apart for a protocol that none names, so this map has one interval.
        let other = other_protocols
            .first()
            .and_then(|source| source.keys.0.first())
            .map_or_else(|| self.decisions.end_decision(), |interval| interval.decision);
        let mut protocols = Vec::new();
        for protocol in self.named_protocols() {
            let sources = self.protocol_map(Some(protocol));
            let same =
                sources.iter().all(|source| source.keys.0.iter().all(|interval| interval.decision == other));
            if !same {
                protocols.push((protocol, sources));
            }
        }
        protocols.shrink_to_fit();
        let id = self.decisions.tables.table(L4Table { protocols, other });
        self.decisions.release();
        id
    }

    /// Protocols that some candidate treats unlike others.
    fn named_protocols(&self) -> BTreeSet<Protocol> {
        const WITH_PORTS: [Protocol; 3] = [Protocol::TCP, Protocol::UDP, Protocol::SCTP];
        let mut named = BTreeSet::new();
        for candidate in &self.candidates {
            let Candidate::Rule { alternatives, .. } = candidate else { continue };
            for alternative in alternatives {
                named.extend(alternative.l4.not_protocol);
                if let Some(protocol) = alternative.l4.protocol {
                    named.insert(protocol);
                    continue;
                }
                if alternative.l4.messages.is_some() {
                    named.extend([Protocol::ICMP, Protocol::ICMPV6]);
                }
                if !alternative.l4.source.is_any() || !alternative.l4.destination.is_any() {
                    named.extend(WITH_PORTS);
                }
                named.extend(alternative.service.into_iter().flatten().map(|(protocol, _)| *protocol));
            }
        }
        named
    }

    /// The map of one protocol, or of all that no candidate names.
    fn protocol_map(&mut self, protocol: Option<Protocol>) -> Vec<SourceInterval> {
        let mut cuts: Vec<u16> = vec![u16::MAX];
        if protocol.is_some_and(Protocol::has_ports) {
            for candidate in &self.candidates {
                let Candidate::Rule { alternatives, .. } = candidate else { continue };
                for alternative in alternatives
                    .iter()
                    .filter(|alternative| alternative.l4.applies(protocol) && !alternative.l4.source.is_any())
                {
                    for (first, last) in alternative.l4.source.ranges(protocol, self.source) {
                        cuts.extend(first.checked_sub(1));
                        cuts.push(last);
                    }
                }
            }
            cuts.sort_unstable();
            cuts.dedup();
        }
        let mut intervals: Vec<SourceInterval> = Vec::new();
        for last in cuts {
            let keys = self.port_map(protocol, last);
            match intervals.last_mut() {
                Some(interval) if interval.keys == keys => interval.last = last,
                _ => intervals.push(SourceInterval { last, keys }),
            }
        }
        intervals.shrink_to_fit();
        intervals
    }

    fn takes_source(&self, alternative: &Alternative<'_>, protocol: Option<Protocol>, port: u16) -> bool {
        alternative.l4.source.is_any() || {
            let sources = alternative.l4.source.ranges(protocol, self.source);
            sources.iter().any(|(first, last)| *first <= port && port <= *last)
        }
    }

    /// The keys that an alternative matches. `None` when the protocol is not its own.
    fn keys(
        &self,
        alternative: &Alternative<'f>,
        protocol: Option<Protocol>,
    ) -> Option<Cow<'f, [(u16, u16)]>> {
        if !alternative.l4.applies(protocol) {
            return None;
        }
        let l4 = alternative.l4;
        let mut keys = if l4.destination.is_any() {
            Cow::Borrowed(&[FULL][..])
        } else {
            Cow::Owned(l4.destination.ranges(protocol, self.destination))
        };
        if let Some(ports) = alternative.service {
            let of_protocol =
                ports.iter().filter(|(p, _)| Some(*p) == protocol).map(|(_, port)| (*port, *port));
            let ports: Ranges = match protocol {
                // A backend's port can only be compared where the key is a port.
                Some(p) if p.has_ports() => of_protocol.collect(),
                _ => Ranges::new(),
            };
            keys = Cow::Owned(intersect(&keys, &normalise(ports)));
        }
        if let Some(messages) = &l4.messages {
            if !matches!(protocol, Some(Protocol::ICMP | Protocol::ICMPV6)) {
                return None;
            }
            keys = match *keys {
                [FULL] => Cow::Borrowed(messages.as_slice()),
                _ => Cow::Owned(intersect(&keys, messages)),
            };
        }
        Some(keys)
    }

    /// The map of one protocol for the source ports of one interval, given by its last port.
    fn port_map(&mut self, protocol: Option<Protocol>, source_port: u16) -> PortMap {
        let mut candidates = Vec::with_capacity(self.candidates.len());
        let mut guarded = false;
        for candidate in &self.candidates {
            match candidate {
                Candidate::TierEnd { item, deny } => {
                    candidates.push(NarrowedCandidate::TierEnd { item: *item, deny: *deny });
                }
                Candidate::Rule { item, rule, alternatives } => {
                    let alternatives: Vec<NarrowedAlternative<'f>> = alternatives
                        .iter()
                        .filter(|alternative| self.takes_source(alternative, protocol, source_port))
                        .filter_map(|alternative| {
                            Some(NarrowedAlternative {
                                keys: self.keys(alternative, protocol)?,
                                identity: alternative.identity,
                            })
                        })
                        .filter(|alternative| !alternative.keys.is_empty())
                        .collect();
                    if !alternatives.is_empty() {
                        guarded = guarded
                            || rule.http.is_some()
                            || alternatives.iter().any(|alternative| alternative.identity.is_some());
                        candidates.push(NarrowedCandidate::Rule { item: *item, rule, alternatives });
                    }
                }
            }
        }
        if guarded { self.guarded_port_map(&candidates) } else { self.plain_port_map(&candidates) }
    }

    fn plain_port_map(&mut self, candidates: &[NarrowedCandidate<'f>]) -> PortMap {
        let mut decided: Vec<(u16, u16, DecisionId)> = Vec::new();
        let mut open: Open<Vec<usize>> = Open::full(Vec::new());
        let mut passed: Open<Vec<usize>> = Open::default();
        for element in candidates {
            match element {
                NarrowedCandidate::Rule { item, rule, alternatives } => {
                    if open.is_empty() {
                        continue;
                    }
                    let joined;
                    let keys: &[(u16, u16)] = match &alternatives[..] {
                        [only] => &only.keys,
                        _ => {
                            let all =
                                alternatives.iter().flat_map(|alternative| alternative.keys.iter().copied());
                            joined = normalise(all.collect());
                            &joined
                        }
                    };
                    for (first, last, mut logs) in open.take(keys) {
                        match rule.action {
                            Action::Allow | Action::Deny => {
                                decided.push((first, last, self.decisions.of_item(*item, &logs)));
                            }
                            Action::Pass => passed.put(first, last, logs),
                            Action::Log => {
                                logs.push(*item);
                                open.put(first, last, logs);
                            }
                        }
                    }
                }
                NarrowedCandidate::TierEnd { item, deny } => {
                    for (first, last, logs) in open.take_all() {
                        if *deny {
                            decided.push((first, last, self.decisions.of_item(*item, &logs)));
                        } else {
                            passed.put(first, last, logs);
                        }
                    }
                    core::mem::swap(&mut open, &mut passed);
                    if open.is_empty() {
                        break;
                    }
                }
            }
        }
        for (first, last, logs) in open.take_all() {
            let decision = self.decisions.of_item(self.program.items.len(), &logs);
            decided.push((first, last, decision));
        }
        port_map(decided)
    }

    /// As [`TableBuilder::plain_port_map`] where rules depend on a principal or a request.
    fn guarded_port_map(&mut self, candidates: &[NarrowedCandidate<'f>]) -> PortMap {
        let mut cuts: BTreeSet<u16> = BTreeSet::from([u16::MAX]);
        for element in candidates {
            let NarrowedCandidate::Rule { alternatives, .. } = element else { continue };
            for (first, last) in alternatives.iter().flat_map(|alternative| alternative.keys.iter()) {
                cuts.extend(first.checked_sub(1));
                cuts.insert(*last);
            }
        }
        let mut decided = Vec::new();
        let mut first = 0;
        for last in cuts {
            let items = candidates.iter().filter_map(|element| element.at_key(last));
            decided.push((first, last, guarded_decision(&mut self.decisions, items)));
            first = last.saturating_add(1);
        }
        port_map(decided)
    }
}

/// Whether one of the alternatives matches every packet whatever its L4 header, principal and request.
fn takes_all(rule: &CompiledRule, alternatives: &[Alternative<'_>]) -> bool {
    rule.http.is_none()
        && alternatives.iter().any(|alternative| {
            alternative.service.is_none()
                && alternative.identity.is_none()
                && alternative.l4.protocol.is_none()
                && alternative.l4.not_protocol.is_none()
                && alternative.l4.messages.is_none()
                && alternative.l4.source.is_any()
                && alternative.l4.destination.is_any()
        })
}
