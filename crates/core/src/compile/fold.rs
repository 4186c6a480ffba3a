//! Folding an ordered list of rules into one L4 table, for one source and one destination signature.
//!
//! This is where first match, Pass, tier defaults and profiles disappear. Every key (protocol, source port,
//! destination port or ICMP type and code) starts out open; each rule in order takes the open keys it matches and
//! decides them, passes them to the next tier, or notes a log entry for them.

use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use hashbrown::HashMap;

use crate::compile::ranges::{FULL, Open, Ranges, complement, intersect, normalise, port_map};
use crate::compile::rules::{CompiledL4, CompiledPort, CompiledPorts, CompiledRule};
use crate::compile::signature::{PredicateId, Signature};
use crate::compile::tables::Tables;
use crate::ir::{
    DecisionEntry, DecisionId, Effect, Guard, L4Table, L4TableId, L7Program, L7Step, PortMap, SourceInterval,
};
use crate::label::Name;
use crate::model::{Action, HttpMatch, IdentityMatch, PolicyId};
use crate::packet::Protocol;
use crate::verdict::{Cause, Direction, RuleRef, Verdict};

/// One element of a program's list.
#[derive(Debug)]
pub(super) enum Item<'a> {
    /// A rule.
    Rule { rule: &'a CompiledRule, owner: Owner<'a> },
    /// The end of a tier: keys that are still open are denied for the cause, or go on without one.
    TierEnd(Option<Cause>),
}

/// Whose rule it is, which gives its decisions their cause.
#[derive(Clone, Debug)]
pub(super) enum Owner<'a> {
    Policy {
        id: &'a PolicyId,
        tier: &'a Name,
    },
    Profile {
        name: &'a Name,
    },
    /// Not a user's rule: an exemption, or the default profile of a namespace.
    BuiltIn(Cause),
}

/// The list of a program, and what happens at its end.
#[derive(Debug)]
pub(super) struct Chain<'a> {
    pub(super) direction: Direction,
    pub(super) items: Vec<Item<'a>>,
    pub(super) end: (Verdict, Cause),
    /// For long lists: which items a far end can concern.
    index: Option<ItemIndex>,
}

/// Items by one predicate of the far end that they need.
#[derive(Debug, Default)]
struct ItemIndex {
    by_predicate: HashMap<PredicateId, Vec<usize>>,
    /// Items that need none.
    always: Vec<usize>,
}

/// Up to this many items a list is walked as it is.
const SHORT: usize = 16;

impl<'a> Chain<'a> {
    pub(super) fn new(direction: Direction, items: Vec<Item<'a>>, end: (Verdict, Cause)) -> Self {
        let index = (items.len() > SHORT).then(|| ItemIndex::new(&items));
        Self { direction, items, end, index }
    }

    /// The items that may concern a far end with this signature, in order.
    fn relevant(&self, far: &Signature) -> Vec<usize> {
        let Some(index) = &self.index else { return (0..self.items.len()).collect() };
        let mut relevant = index.always.clone();
        for predicate in &far.holds {
            relevant.extend(index.by_predicate.get(predicate).into_iter().flatten());
        }
        relevant.sort_unstable();
        relevant.dedup();
        relevant
    }
}

impl ItemIndex {
    fn new(items: &[Item<'_>]) -> Self {
        let mut index = Self::default();
        for (at, item) in items.iter().enumerate() {
            match item {
                Item::TierEnd(_) => index.always.push(at),
                Item::Rule { rule, .. } => {
                    for peer in &rule.peers {
                        match peer.entity.must.last() {
                            Some(predicate) => index.by_predicate.entry(*predicate).or_default().push(at),
                            None => index.always.push(at),
                        }
                    }
                }
            }
        }
        index
    }
}

/// The table for packets whose addresses have these signatures. The caller owns one reference to it.
pub(super) fn fold(
    chain: &Chain<'_>,
    source: &Signature,
    destination: &Signature,
    tables: &mut Tables,
) -> L4TableId {
    let mut fold = Fold {
        chain,
        candidates: Vec::new(),
        source,
        destination,
        tables,
        memo: BTreeMap::new(),
        acquired: Vec::new(),
    };
    fold.collect();
    fold.run()
}

struct Fold<'f, 'a> {
    chain: &'f Chain<'a>,
    candidates: Vec<Candidate<'f>>,
    source: &'f Signature,
    destination: &'f Signature,
    tables: &'f mut Tables,
    /// Decisions made so far, by (item, log entries); an item past the end stands for the chain's own end.
    memo: BTreeMap<(usize, Vec<usize>), DecisionId>,
    /// References to give back once the table owns its own.
    acquired: Vec<DecisionId>,
}

/// An item that concerns these addresses.
enum Candidate<'f> {
    Rule { item: usize, rule: &'f CompiledRule, ways: Vec<Way<'f>> },
    TierEnd { item: usize, deny: bool },
}

/// One pair of a peer and an L4 alternative that may match.
#[derive(Clone, Copy)]
struct Way<'f> {
    l4: &'f CompiledL4,
    /// (protocol, port) must be among these, when a service is named.
    service: Option<&'f [(Protocol, u16)]>,
    identity: Option<&'f IdentityMatch>,
}

/// A way for one protocol: its keys, and the condition on the principal.
struct Narrow<'f> {
    keys: Cow<'f, [(u16, u16)]>,
    identity: Option<&'f IdentityMatch>,
}

/// A candidate narrowed to one protocol and one source port interval.
enum Narrowed<'f> {
    Rule { item: usize, rule: &'f CompiledRule, ways: Vec<Narrow<'f>> },
    TierEnd { item: usize, deny: bool },
}

impl<'f, 'a> Fold<'f, 'a> {
    /// Finds the items whose address conditions hold.
    fn collect(&mut self) {
        let chain = self.chain;
        // Once a rule takes every key, the rest of its tier cannot matter, and later tiers only after a Pass.
        let mut closed = false;
        let mut passed = false;
        let far = match chain.direction {
            Direction::Ingress => self.source,
            Direction::Egress => self.destination,
        };
        for item in chain.relevant(far) {
            let Some(element) = chain.items.get(item) else { continue };
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
                    let ways = self.ways(rule);
                    if ways.is_empty() {
                        continue;
                    }
                    match rule.action {
                        Action::Pass => passed = true,
                        Action::Allow | Action::Deny => closed = takes_all(rule, &ways),
                        Action::Log => {}
                    }
                    self.candidates.push(Candidate::Rule { item, rule, ways });
                }
            }
        }
    }

    fn ways(&self, rule: &'f CompiledRule) -> Vec<Way<'f>> {
        let (near, far) = match self.chain.direction {
            Direction::Ingress => (self.destination, self.source),
            Direction::Egress => (self.source, self.destination),
        };
        if !rule.local.matches(near) {
            return Vec::new();
        }
        let mut ways = Vec::new();
        for peer in rule.peers.iter().filter(|peer| peer.entity.matches(far)) {
            let (entity, identity) = match self.chain.direction {
                Direction::Ingress => (&rule.local, &peer.entity.identity),
                Direction::Egress => (&peer.entity, &rule.local.identity),
            };
            let service = entity.service.map(|id| self.destination.ports(id));
            ways.extend(peer.l4.iter().map(|l4| Way { l4, service, identity: identity.as_ref() }));
        }
        ways
    }

    fn run(mut self) -> L4TableId {
        let other_line = self.plane(None);
        // INVARIANT: no rule tells ports apart for a protocol that none names, so this map has one interval.
        let other = other_line
            .first()
            .and_then(|source| source.keys.0.first())
            .map_or_else(|| self.end_decision(), |interval| interval.decision);
        let mut protocols = Vec::new();
        for protocol in self.named_protocols() {
            let sources = self.plane(Some(protocol));
            let same =
                sources.iter().all(|source| source.keys.0.iter().all(|interval| interval.decision == other));
            if !same {
                protocols.push((protocol, sources));
            }
        }
        protocols.shrink_to_fit();
        let id = self.tables.table(L4Table { protocols, other });
        for decision in self.acquired {
            self.tables.decisions.release(decision);
        }
        id
    }

    /// Protocols that some candidate treats unlike others.
    fn named_protocols(&self) -> BTreeSet<Protocol> {
        const WITH_PORTS: [Protocol; 3] = [Protocol::TCP, Protocol::UDP, Protocol::SCTP];
        let mut named = BTreeSet::new();
        for candidate in &self.candidates {
            let Candidate::Rule { ways, .. } = candidate else { continue };
            for way in ways {
                named.extend(way.l4.not_protocol);
                if let Some(protocol) = way.l4.protocol {
                    named.insert(protocol);
                    continue;
                }
                if way.l4.messages.is_some() {
                    named.extend([Protocol::ICMP, Protocol::ICMPV6]);
                }
                if !way.l4.source.is_any() || !way.l4.destination.is_any() {
                    named.extend(WITH_PORTS);
                }
                named.extend(way.service.into_iter().flatten().map(|(protocol, _)| *protocol));
            }
        }
        named
    }

    /// The map of one protocol, or of all that no candidate names.
    fn plane(&mut self, protocol: Option<Protocol>) -> Vec<SourceInterval> {
        let mut cuts: Vec<u16> = vec![u16::MAX];
        if protocol.is_some_and(Protocol::has_ports) {
            for candidate in &self.candidates {
                let Candidate::Rule { ways, .. } = candidate else { continue };
                for way in ways.iter().filter(|way| applies(way.l4, protocol) && !way.l4.source.is_any()) {
                    for (first, last) in port_ranges(&way.l4.source, protocol, self.source) {
                        cuts.extend(first.checked_sub(1));
                        cuts.push(last);
                    }
                }
            }
            cuts.sort_unstable();
            cuts.dedup();
        }
        let mut lines: Vec<SourceInterval> = Vec::new();
        for last in cuts {
            let keys = self.line(protocol, last);
            match lines.last_mut() {
                Some(line) if line.keys == keys => line.last = last,
                _ => lines.push(SourceInterval { last, keys }),
            }
        }
        lines.shrink_to_fit();
        lines
    }

    fn takes_source(&self, way: &Way<'_>, protocol: Option<Protocol>, port: u16) -> bool {
        way.l4.source.is_any() || {
            let sources = port_ranges(&way.l4.source, protocol, self.source);
            sources.iter().any(|(first, last)| *first <= port && port <= *last)
        }
    }

    /// The keys a way matches. `None` when the protocol is not its own.
    fn keys(&self, way: &Way<'f>, protocol: Option<Protocol>) -> Option<Cow<'f, [(u16, u16)]>> {
        if !applies(way.l4, protocol) {
            return None;
        }
        let l4 = way.l4;
        let mut keys = if l4.destination.is_any() {
            Cow::Borrowed(&[FULL][..])
        } else {
            Cow::Owned(port_ranges(&l4.destination, protocol, self.destination))
        };
        if let Some(ports) = way.service {
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
    fn line(&mut self, protocol: Option<Protocol>, source_port: u16) -> PortMap {
        let mut narrowed = Vec::with_capacity(self.candidates.len());
        let mut guarded = false;
        for candidate in &self.candidates {
            match candidate {
                Candidate::TierEnd { item, deny } => {
                    narrowed.push(Narrowed::TierEnd { item: *item, deny: *deny });
                }
                Candidate::Rule { item, rule, ways } => {
                    let ways: Vec<Narrow<'f>> = ways
                        .iter()
                        .filter(|way| self.takes_source(way, protocol, source_port))
                        .filter_map(|way| {
                            Some(Narrow { keys: self.keys(way, protocol)?, identity: way.identity })
                        })
                        .filter(|way| !way.keys.is_empty())
                        .collect();
                    if !ways.is_empty() {
                        guarded =
                            guarded || rule.http.is_some() || ways.iter().any(|way| way.identity.is_some());
                        narrowed.push(Narrowed::Rule { item: *item, rule, ways });
                    }
                }
            }
        }
        if guarded { self.guarded_line(&narrowed) } else { self.plain_line(&narrowed) }
    }

    fn plain_line(&mut self, narrowed: &[Narrowed<'f>]) -> PortMap {
        let mut decided: Vec<(u16, u16, DecisionId)> = Vec::new();
        let mut open: Open<Vec<usize>> = Open::full(Vec::new());
        let mut passed: Open<Vec<usize>> = Open::default();
        for element in narrowed {
            match element {
                Narrowed::Rule { item, rule, ways } => {
                    if open.is_empty() {
                        continue;
                    }
                    let joined;
                    let keys: &[(u16, u16)] = match &ways[..] {
                        [only] => &only.keys,
                        _ => {
                            let all = ways.iter().flat_map(|way| way.keys.iter().copied());
                            joined = normalise(all.collect());
                            &joined
                        }
                    };
                    for (first, last, mut logs) in open.take(keys) {
                        match rule.action {
                            Action::Allow | Action::Deny => {
                                decided.push((first, last, self.memoised(*item, &logs)));
                            }
                            Action::Pass => passed.put(first, last, logs),
                            Action::Log => {
                                logs.push(*item);
                                open.put(first, last, logs);
                            }
                        }
                    }
                }
                Narrowed::TierEnd { item, deny } => {
                    for (first, last, logs) in open.take_all() {
                        if *deny {
                            decided.push((first, last, self.memoised(*item, &logs)));
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
            let decision = self.memoised(self.chain.items.len(), &logs);
            decided.push((first, last, decision));
        }
        port_map(decided)
    }

    /// As [`Fold::plain_line`] where rules depend on a principal or a request: each atom of keys gets the list of
    /// steps that an L7 engine runs, and the decision that holds without such attributes.
    fn guarded_line(&mut self, narrowed: &[Narrowed<'f>]) -> PortMap {
        let mut cuts: BTreeSet<u16> = BTreeSet::from([u16::MAX]);
        for element in narrowed {
            let Narrowed::Rule { ways, .. } = element else { continue };
            for (first, last) in ways.iter().flat_map(|way| way.keys.iter()) {
                cuts.extend(first.checked_sub(1));
                cuts.insert(*last);
            }
        }
        let mut decided = Vec::new();
        let mut first = 0;
        for last in cuts {
            decided.push((first, last, self.guarded_atom(narrowed, last)));
            first = last.saturating_add(1);
        }
        port_map(decided)
    }

    fn guarded_atom(&mut self, narrowed: &[Narrowed<'f>], key: u16) -> DecisionId {
        let mut steps: Vec<L7Step> = Vec::new();
        // Steps that skip to the next tier and do not know yet where it starts.
        let mut pending: Vec<usize> = Vec::new();
        let mut reachable = true;
        for element in narrowed {
            match element {
                Narrowed::Rule { .. } if !reachable => {}
                Narrowed::Rule { item, rule, ways } => {
                    let matching: Vec<Option<&IdentityMatch>> = ways
                        .iter()
                        .filter(|way| way.keys.iter().any(|(first, last)| *first <= key && key <= *last))
                        .map(|way| way.identity)
                        .collect();
                    if matching.is_empty() {
                        continue;
                    }
                    let guard = guard(&matching, rule.http.as_ref());
                    let unconditional = guard == Guard::default();
                    let effect = match rule.action {
                        Action::Allow | Action::Deny => {
                            reachable = !unconditional;
                            Effect::Decide(self.memoised(*item, &[]))
                        }
                        Action::Pass => {
                            reachable = !unconditional;
                            pending.push(steps.len());
                            Effect::SkipTo(0)
                        }
                        Action::Log => match self.rule_ref(*item) {
                            Some(rule) => Effect::Log(rule),
                            None => continue,
                        },
                    };
                    steps.push(L7Step { guard, effect });
                }
                Narrowed::TierEnd { item, deny } => {
                    if reachable && *deny {
                        let decision = self.memoised(*item, &[]);
                        steps.push(L7Step { guard: Guard::default(), effect: Effect::Decide(decision) });
                        reachable = false;
                    }
                    if !pending.is_empty() {
                        let here = u32::try_from(steps.len()).unwrap_or(u32::MAX);
                        for index in pending.drain(..) {
                            if let Some(step) = steps.get_mut(index) {
                                step.effect = Effect::SkipTo(here);
                            }
                        }
                        reachable = true;
                    }
                    if !reachable {
                        break;
                    }
                }
            }
        }
        if reachable {
            let decision = self.end_decision();
            steps.push(L7Step { guard: Guard::default(), effect: Effect::Decide(decision) });
        }
        self.guarded_decision(steps)
    }

    /// The decision for `steps`: what they say without attributes, with the steps themselves where those matter.
    fn guarded_decision(&mut self, steps: Vec<L7Step>) -> DecisionId {
        let mut logs = Vec::new();
        let mut next = 0;
        let (verdict, cause) = loop {
            let Some(step) = steps.get(next) else { break self.chain.end.clone() };
            next = next.saturating_add(1);
            let needs_http = step.guard.http.is_some();
            match &step.effect {
                Effect::Log(rule) if !needs_http => logs.push(rule.clone()),
                Effect::Log(_) => {}
                Effect::SkipTo(target) => next = usize::try_from(*target).unwrap_or(usize::MAX),
                Effect::Decide(id) => {
                    let Some(decision) = self.tables.decisions.lookup(*id) else {
                        break self.chain.end.clone();
                    };
                    let verdict = if needs_http { Verdict::Inspect } else { decision.verdict };
                    break (verdict, decision.cause.clone());
                }
            }
        };
        let conditional = steps.iter().any(|step| step.guard != Guard::default());
        let l7 = conditional.then(|| self.tables.l7(L7Program { steps }));
        let id = self.tables.decision(DecisionEntry { verdict, cause, logs, l7 });
        self.acquired.push(id);
        id
    }

    fn end_decision(&mut self) -> DecisionId {
        self.memoised(self.chain.items.len(), &[])
    }

    /// The decision of an item, after these log entries.
    fn memoised(&mut self, item: usize, logs: &[usize]) -> DecisionId {
        let key = (item, logs.to_vec());
        if let Some(id) = self.memo.get(&key) {
            return *id;
        }
        let (verdict, cause) = match self.chain.items.get(item) {
            Some(Item::Rule { rule, owner }) => {
                let verdict = if rule.action == Action::Allow { Verdict::Allow } else { Verdict::Deny };
                (verdict, owner.cause(rule.index, self.chain.direction))
            }
            Some(Item::TierEnd(Some(cause))) => (Verdict::Deny, cause.clone()),
            Some(Item::TierEnd(None)) | None => self.chain.end.clone(),
        };
        let logs = logs.iter().filter_map(|item| self.rule_ref(*item)).collect();
        let id = self.tables.decision(DecisionEntry { verdict, cause, logs, l7: None });
        self.acquired.push(id);
        self.memo.insert(key, id);
        id
    }

    /// The rule that an item stands for, if a policy owns it.
    fn rule_ref(&self, item: usize) -> Option<RuleRef> {
        match self.chain.items.get(item)? {
            Item::Rule { rule, owner } => owner.rule_ref(rule.index, self.chain.direction),
            Item::TierEnd(_) => None,
        }
    }
}

impl Owner<'_> {
    fn rule_ref(&self, index: usize, direction: Direction) -> Option<RuleRef> {
        match self {
            Self::Policy { id, tier } => {
                Some(RuleRef { policy: (*id).clone(), tier: (*tier).clone(), direction, index })
            }
            Self::Profile { .. } | Self::BuiltIn(_) => None,
        }
    }

    fn cause(&self, index: usize, direction: Direction) -> Cause {
        match self {
            Self::Policy { id, tier } => {
                Cause::Rule(RuleRef { policy: (*id).clone(), tier: (*tier).clone(), direction, index })
            }
            Self::Profile { name } => Cause::Profile { profile: (*name).clone(), index: Some(index) },
            Self::BuiltIn(cause) => cause.clone(),
        }
    }
}

impl CompiledPorts {
    fn is_any(&self) -> bool {
        self.any_of.is_empty() && self.none_of.is_empty()
    }
}

/// Whether one of the ways matches every packet whatever its L4 header, principal and request.
fn takes_all(rule: &CompiledRule, ways: &[Way<'_>]) -> bool {
    rule.http.is_none()
        && ways.iter().any(|way| {
            way.service.is_none()
                && way.identity.is_none()
                && way.l4.protocol.is_none()
                && way.l4.not_protocol.is_none()
                && way.l4.messages.is_none()
                && way.l4.source.is_any()
                && way.l4.destination.is_any()
        })
}

/// Whether the protocol condition holds; `None` is a protocol that no rule names.
fn applies(l4: &CompiledL4, protocol: Option<Protocol>) -> bool {
    l4.protocol.is_none_or(|wanted| Some(wanted) == protocol)
        && l4.not_protocol.is_none_or(|unwanted| Some(unwanted) != protocol)
}

/// The ports that satisfy `ports` for a packet of `protocol` whose address has `signature`. A protocol without ports
/// satisfies no positive list and every negative one.
fn port_ranges(ports: &CompiledPorts, protocol: Option<Protocol>, signature: &Signature) -> Ranges {
    let Some(protocol) = protocol.filter(|p| p.has_ports()) else {
        return if ports.any_of.is_empty() { vec![FULL] } else { Ranges::new() };
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
    let allowed = if ports.any_of.is_empty() { vec![FULL] } else { resolve(&ports.any_of) };
    if ports.none_of.is_empty() {
        allowed
    } else {
        intersect(&allowed, &complement(&resolve(&ports.none_of)))
    }
}

/// What a packet's attributes must satisfy when these alternatives match its header. One alternative without an
/// identity condition is enough to need none.
fn guard(matching: &[Option<&IdentityMatch>], http: Option<&HttpMatch>) -> Guard {
    let mut identities: Vec<IdentityMatch> = Vec::new();
    if matching.iter().all(Option::is_some) {
        identities.extend(matching.iter().copied().flatten().cloned());
        identities.sort();
        identities.dedup();
    }
    Guard { identities, http: http.cloned() }
}
