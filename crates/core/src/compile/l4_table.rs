//! From an ordered list of rules to one L4 table, for one source and one destination signature.
//!
//! This is where first match, Pass, tier defaults and profiles disappear. Every key (protocol, source port,
//! destination port or ICMP type and code) starts out open; each rule in order takes the open keys it matches and
//! decides them, passes them to the next tier, or notes a log entry for them.

use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::compile::decisions::Decisions;
use crate::compile::effort::{Steps, TooMany};
use crate::compile::l7_steps::{KeyItem, guarded_decision};
use crate::compile::program_rules::{Item, ItemPeer, ProgramRules};
use crate::compile::ranges::{FULL, Open, Ranges, Sweep, intersect, normalise, port_map};
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
    steps: &mut Steps,
) -> Result<L4TableId, TooMany> {
    let mut builder = TableBuilder {
        program,
        candidates: Vec::new(),
        tier_ends: Vec::new(),
        source,
        destination,
        decisions: Decisions::new(program, tables),
        steps,
    };
    let table = builder.collect().and_then(|()| builder.table());
    let id = table.map(|table| builder.decisions.tables.table(table));
    builder.decisions.release();
    id
}

struct TableBuilder<'f, 'a> {
    program: &'f ProgramRules<'a>,
    candidates: Vec<Candidate<'f>>,
    /// Positions of the ends of tiers among the candidates.
    tier_ends: Vec<usize>,
    source: &'f Signature,
    destination: &'f Signature,
    decisions: Decisions<'f, 'a>,
    steps: &'f mut Steps,
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

/// An alternative for one protocol.
struct ProtocolAlternative<'f> {
    /// Position of its rule among the candidates.
    candidate: usize,
    keys: Cow<'f, [(u16, u16)]>,
    identity: Option<&'f IdentityMatch>,
    /// The source ports it takes; `None` is any.
    sources: Option<Ranges>,
}

/// A candidate narrowed to one protocol and one source port interval.
enum NarrowedCandidate<'n, 'f> {
    Rule { item: usize, rule: &'f CompiledRule, alternatives: Vec<&'n ProtocolAlternative<'f>> },
    TierEnd { item: usize, deny: bool },
}

impl<'f, 'a> TableBuilder<'f, 'a> {
    /// Finds the items whose address conditions hold. Ends of tiers in which no rule concerns these addresses are left out,
    /// but for the first that denies: nothing is open after it.
    fn collect(&mut self) -> Result<(), TooMany> {
        let program = self.program;
        // Once a rule takes every key, the rest of its tier cannot matter, and later tiers only after a Pass.
        let mut closed = false;
        let mut passed = false;
        // The end of the tier that the rules before are in, and where the tiers after it begin.
        let mut tier: Option<usize> = None;
        let mut later = 0;
        let (peer, subject) = match program.direction {
            Direction::Ingress => (self.source, self.destination),
            Direction::Egress => (self.destination, self.source),
        };
        let relevant = program.relevant(peer, subject);
        self.steps.count(relevant.len())?;
        let rules = relevant.chunk_by(|(a, _), (b, _)| a == b);
        // After the last rule come the ends of all tiers that are left.
        for own in rules.chain(core::iter::once(&[(program.items.len(), 0)][..])) {
            let Some((item, _)) = own.first().copied() else { continue };
            if let Some(end) = tier.filter(|end| *end < item) {
                if closed && !passed {
                    return Ok(());
                }
                self.end_tier(end);
                if !passed && program.denying_end(end) == Some(end) {
                    return Ok(());
                }
                (closed, passed, tier, later) = (false, false, None, end.saturating_add(1));
            }
            if tier.is_none()
                && let Some(end) = program.denying_end(later).filter(|end| *end < item)
            {
                self.end_tier(end);
                return Ok(());
            }
            let Some(Item::Rule { rule, .. }) = program.items.get(item) else { continue };
            tier = program.tier_end(item);
            if closed {
                continue;
            }
            let alternatives = self.alternatives(rule, own);
            if alternatives.is_empty() {
                continue;
            }
            match rule.action {
                Action::Pass => passed = true,
                Action::Allow | Action::Deny => closed = takes_all(rule, &alternatives),
                Action::Log => {}
            }
            self.steps.count(alternatives.len())?;
            self.candidates.push(Candidate::Rule { item, rule, alternatives });
        }
        Ok(())
    }

    fn end_tier(&mut self, item: usize) {
        let deny = matches!(self.program.items.get(item), Some(Item::TierEnd(Some(_))));
        self.tier_ends.push(self.candidates.len());
        self.candidates.push(Candidate::TierEnd { item, deny });
    }

    /// Of these peers of a rule.
    fn alternatives(&self, rule: &'f CompiledRule, peers: &[ItemPeer]) -> Vec<Alternative<'f>> {
        let (subject, other_end) = match self.program.direction {
            Direction::Ingress => (self.destination, self.source),
            Direction::Egress => (self.source, self.destination),
        };
        if !rule.local.matches(subject) {
            return Vec::new();
        }
        let mut alternatives = Vec::new();
        let peers = peers.iter().filter_map(|(_, peer)| rule.peers.get(*peer));
        for peer in peers.filter(|peer| peer.entity.matches(other_end)) {
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

    fn table(&mut self) -> Result<L4Table, TooMany> {
        let other_protocols = self.protocol_map(None)?;
        // INVARIANT: no rule tells ports apart for a protocol that none names, so this map has one interval.
        let other = other_protocols
            .first()
            .and_then(|source| source.keys.intervals().first())
            .map_or_else(|| self.decisions.end_decision(), |interval| interval.decision);
        let mut protocols = Vec::new();
        for protocol in self.named_protocols() {
            let sources = self.protocol_map(Some(protocol))?;
            let only = |keys: &PortMap| keys.intervals().iter().all(|interval| interval.decision == other);
            if !sources.iter().all(|source| only(&source.keys)) {
                protocols.push((protocol, sources));
            }
        }
        protocols.shrink_to_fit();
        Ok(L4Table { protocols, other })
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
    fn protocol_map(&mut self, protocol: Option<Protocol>) -> Result<Vec<SourceInterval>, TooMany> {
        let alternatives = self.of_protocol(protocol)?;
        // Positions in `alternatives`, which is the order of evaluation.
        let (asking, always): (Vec<usize>, Vec<usize>) = (0..alternatives.len())
            .partition(|at| alternatives.get(*at).is_some_and(|alternative| alternative.sources.is_some()));
        let mut sweep = Sweep::new(asking.into_iter().flat_map(|at| {
            let sources = alternatives.get(at).and_then(|alternative| alternative.sources.as_ref());
            sources.into_iter().flatten().map(move |range| (*range, at))
        }));
        let mut intervals: Vec<SourceInterval> = Vec::new();
        // Many source ports meet the same alternatives, and different ones may lead to the same map.
        let mut known: BTreeMap<Vec<usize>, PortMap> = BTreeMap::new();
        let mut maps: BTreeSet<PortMap> = BTreeSet::new();
        while let Some(last) = sweep.advance() {
            let active: Vec<usize> = sweep.active().collect();
            self.steps.count(active.len().saturating_add(1))?;
            let keys = match known.get(&active) {
                Some(keys) => keys.clone(),
                None => {
                    let mut chosen: Vec<usize> = active.iter().chain(&always).copied().collect();
                    // Two sorted runs.
                    chosen.sort();
                    let chosen = chosen.into_iter().filter_map(|at| alternatives.get(at));
                    let made = self.port_map(chosen)?;
                    let keys = maps.get(&made).unwrap_or(&made).clone();
                    maps.insert(keys.clone());
                    known.insert(active, keys.clone());
                    keys
                }
            };
            match intervals.last_mut() {
                Some(interval) if interval.keys == keys => interval.last = last,
                _ => intervals.push(SourceInterval { last, keys }),
            }
        }
        intervals.shrink_to_fit();
        Ok(intervals)
    }

    /// The map for source ports that meet these alternatives, which are sorted.
    fn port_map<'n>(
        &mut self,
        alternatives: impl Iterator<Item = &'n ProtocolAlternative<'f>>,
    ) -> Result<PortMap, TooMany>
    where
        'f: 'n,
    {
        let candidates = self.narrowed(alternatives);
        self.steps.count(candidates.len())?;
        let guarded = candidates.iter().any(|candidate| match candidate {
            NarrowedCandidate::TierEnd { .. } => false,
            NarrowedCandidate::Rule { rule, alternatives, .. } => {
                rule.http.is_some() || alternatives.iter().any(|alternative| alternative.identity.is_some())
            }
        });
        if guarded { self.guarded_port_map(&candidates) } else { self.plain_port_map(&candidates) }
    }

    /// The alternatives that can match packets of a protocol, in the order of evaluation.
    fn of_protocol(&mut self, protocol: Option<Protocol>) -> Result<Vec<ProtocolAlternative<'f>>, TooMany> {
        let mut list = Vec::new();
        let mut steps = 0_usize;
        for (candidate, element) in self.candidates.iter().enumerate() {
            let Candidate::Rule { alternatives, .. } = element else { continue };
            for alternative in alternatives {
                let sources = if alternative.l4.source.is_any() {
                    None
                } else {
                    Some(alternative.l4.source.ranges(protocol, self.source))
                };
                if sources.as_ref().is_some_and(Vec::is_empty) {
                    continue;
                }
                let Some(keys) = self.keys(alternative, protocol).filter(|keys| !keys.is_empty()) else {
                    continue;
                };
                let sources = sources.filter(|sources| *sources != [FULL]);
                steps = steps.saturating_add(keys.len()).saturating_add(sources.as_ref().map_or(0, Vec::len));
                let identity = alternative.identity;
                list.push(ProtocolAlternative { candidate, keys, identity, sources });
            }
        }
        self.steps.count(steps)?;
        Ok(list)
    }

    /// The candidates with these alternatives, which are sorted, and the ends of tiers.
    fn narrowed<'n>(
        &self,
        alternatives: impl Iterator<Item = &'n ProtocolAlternative<'f>>,
    ) -> Vec<NarrowedCandidate<'n, 'f>> {
        let mut alternatives = alternatives.peekable();
        let mut ends = self.tier_ends.iter().peekable();
        let mut narrowed = Vec::new();
        loop {
            let next = alternatives.peek().map(|alternative| alternative.candidate);
            let at = match (next, ends.peek()) {
                (Some(rule), Some(end)) if rule < **end => rule,
                (Some(rule), None) => rule,
                (_, Some(end)) => {
                    let at = **end;
                    ends.next();
                    at
                }
                (None, None) => break,
            };
            match self.candidates.get(at) {
                Some(Candidate::TierEnd { item, deny }) => {
                    narrowed.push(NarrowedCandidate::TierEnd { item: *item, deny: *deny });
                }
                Some(Candidate::Rule { item, rule, .. }) => {
                    let mut own = Vec::new();
                    while let Some(alternative) = alternatives.next_if(|next| next.candidate == at) {
                        own.push(alternative);
                    }
                    narrowed.push(NarrowedCandidate::Rule { item: *item, rule, alternatives: own });
                }
                None => break,
            }
        }
        narrowed
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

    fn plain_port_map(&mut self, candidates: &[NarrowedCandidate<'_, 'f>]) -> Result<PortMap, TooMany> {
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
                    self.steps.count(keys.len())?;
                    for (first, last, mut logs) in open.take(keys) {
                        self.steps.count(logs.len().saturating_add(1))?;
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
                NarrowedCandidate::TierEnd { item, deny: true } => {
                    for (first, last, logs) in open.take_all() {
                        self.steps.count(logs.len().saturating_add(1))?;
                        decided.push((first, last, self.decisions.of_item(*item, &logs)));
                    }
                    core::mem::swap(&mut open, &mut passed);
                    if open.is_empty() {
                        break;
                    }
                }
                NarrowedCandidate::TierEnd { deny: false, .. } => {
                    // The fewer go to the more: many keys may be open through many tiers.
                    if open.len() < passed.len() {
                        core::mem::swap(&mut open, &mut passed);
                    }
                    self.steps.count(passed.len())?;
                    for (first, last, logs) in passed.take_all() {
                        open.put(first, last, logs);
                    }
                    if open.is_empty() {
                        break;
                    }
                }
            }
        }
        for (first, last, logs) in open.take_all() {
            self.steps.count(logs.len().saturating_add(1))?;
            let decision = self.decisions.of_item(self.program.items.len(), &logs);
            decided.push((first, last, decision));
        }
        Ok(port_map(decided))
    }

    /// As [`TableBuilder::plain_port_map`] where rules depend on a principal or a request.
    fn guarded_port_map(&mut self, candidates: &[NarrowedCandidate<'_, 'f>]) -> Result<PortMap, TooMany> {
        let ends: Vec<usize> = (0..candidates.len())
            .filter(|at| matches!(candidates.get(*at), Some(NarrowedCandidate::TierEnd { .. })))
            .collect();
        let mut sweep = Sweep::new(candidates.iter().enumerate().flat_map(|(at, candidate)| {
            let alternatives = match candidate {
                NarrowedCandidate::Rule { alternatives, .. } => alternatives.as_slice(),
                NarrowedCandidate::TierEnd { .. } => &[],
            };
            let keyed = alternatives.iter().enumerate();
            keyed.flat_map(move |(nth, alternative)| {
                alternative.keys.iter().map(move |keys| (*keys, (at, nth)))
            })
        }));
        let mut decided = Vec::new();
        let mut first = 0;
        while let Some(last) = sweep.advance() {
            let mut met: Vec<usize> = sweep.active().map(|(at, _)| at).chain(ends.iter().copied()).collect();
            self.steps.count(met.len())?;
            met.sort_unstable();
            met.dedup();
            let conditions = met.iter().filter_map(|at| match candidates.get(*at)? {
                NarrowedCandidate::Rule { rule, .. } => rule.http.as_ref(),
                NarrowedCandidate::TierEnd { .. } => None,
            });
            self.steps
                .count(conditions.map(|http| http.paths.len().saturating_add(http.methods.len())).sum())?;
            let items = met.into_iter().filter_map(|at| match candidates.get(at)? {
                NarrowedCandidate::TierEnd { item, deny } => {
                    Some(KeyItem::TierEnd { item: *item, deny: *deny })
                }
                NarrowedCandidate::Rule { item, rule, alternatives } => {
                    let own = sweep.active_from((at, 0)).take_while(|(other, _)| *other == at);
                    let identities = own
                        .filter_map(|(_, nth)| alternatives.get(nth))
                        .map(|alternative| alternative.identity);
                    Some(KeyItem::Rule { item: *item, rule, identities: identities.collect() })
                }
            });
            decided.push((first, last, guarded_decision(&mut self.decisions, items)));
            first = last.saturating_add(1);
        }
        Ok(port_map(decided))
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
