//! Decisions of retired policies, until their counts are reported and their events are read.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;

use portcullis_core::backend::Counter;
use portcullis_core::ir::DecisionEntry;
use portcullis_core::label::Name;

use crate::lower::decision_chains::HookKind;
use crate::lower::interned::Meaning;

/// The decisions of chains that are gone, or about to go: the latest [`RetiredDecisions::KEPT`], or
/// as many as the table has, if that is more; older ones are forgotten. Their counts are kept for as long as nobody reads them, see
/// [`RetiredDecisions::MOST_UNTOLD`].
#[derive(Debug, Default)]
pub(crate) struct RetiredDecisions {
    /// Decisions that are equal are one.
    by_chain: BTreeMap<Name, Meaning>,
    order: VecDeque<Name>,
    /// Counts of earlier chains whose decision another chain carries out now, by name of the present chain.
    carried: BTreeMap<Name, Counter>,
    /// Last counts, until they are reported.
    untold: BTreeMap<Arc<DecisionEntry>, Counter>,
    /// All decisions of `by_chain`, with the number of chains.
    decisions: BTreeMap<Arc<DecisionEntry>, usize>,
}

impl RetiredDecisions {
    /// How many are remembered at least, for events that wait. One takes about 150 bytes, and a decision once about 300.
    pub(crate) const KEPT: usize = 2_048;
    /// Most decisions whose last counts wait to be read, where nobody reads counters: the first of them in their order are
    /// forgotten when there are more. Those that counted nothing are not kept.
    pub(crate) const MOST_UNTOLD: usize = 8_192;

    /// Remembers the decisions of chains that are about to go. None is forgotten before [`RetiredDecisions::trim`], so that
    /// their last counts find them.
    pub(crate) fn note(&mut self, retired: impl IntoIterator<Item = (Name, Meaning)>) {
        for (name, Meaning { decision, hook_kind }) in retired {
            let decision =
                self.decisions.get_key_value(&decision).map_or(decision, |(known, _)| Arc::clone(known));
            let chains = self.decisions.entry(Arc::clone(&decision)).or_default();
            *chains = chains.saturating_add(1);
            match self.by_chain.insert(name.clone(), Meaning { decision, hook_kind }) {
                None => self.order.push_back(name),
                Some(former) => self.forget(&former.decision),
            }
        }
    }

    /// One chain less has this decision.
    fn forget(&mut self, decision: &Arc<DecisionEntry>) {
        if let Some(chains) = self.decisions.get_mut(decision) {
            *chains = chains.saturating_sub(1);
            if *chains == 0 {
                self.decisions.remove(decision);
            }
        }
    }

    /// Forgets the oldest decisions. A table of `decisions` that is replaced as a whole is remembered as a whole.
    pub(crate) fn trim(&mut self, decisions: usize) {
        while self.order.len() > Self::KEPT.max(decisions) {
            let Some(oldest) = self.order.pop_front() else { break };
            if let Some(meaning) = self.by_chain.remove(&oldest) {
                self.forget(&meaning.decision);
            }
        }
        while self.untold.len() > Self::MOST_UNTOLD.max(decisions) {
            self.untold.pop_first();
        }
    }

    /// Takes the last values of counters whose chains are gone; of others, nothing. A decision that a chain of `present`
    /// carries out, at hooks of whichever kind, continues from its value. Staged decisions are not counted.
    pub(crate) fn count(&mut self, mut counted: BTreeMap<Name, Counter>, present: &BTreeMap<Name, Meaning>) {
        // A chain that somebody took away has no last value, but what it carried.
        let lost =
            self.carried.keys().filter(|name| !present.contains_key(*name) && !counted.contains_key(*name));
        let lost: Vec<Name> = lost.cloned().collect();
        counted.extend(lost.into_iter().map(|name| (name, Counter::default())));
        if counted.is_empty() {
            return;
        }
        let enforced = present.iter().filter(|(_, meaning)| meaning.hook_kind != HookKind::Staged);
        let chain_of: BTreeMap<_, _> = enforced.map(|(name, meaning)| (&*meaning.decision, name)).collect();
        for (name, counter) in counted {
            // Only a chain that goes gives its count away.
            let Some(retired) = self.by_chain.get(&name).filter(|_| !present.contains_key(&name)) else {
                continue;
            };
            let counter = sum(self.carried.remove(&name).unwrap_or_default(), counter);
            if retired.hook_kind == HookKind::Staged || counter == Counter::default() {
                continue;
            }
            let total = match chain_of.get(&*retired.decision) {
                Some(chain) => self.carried.entry((*chain).clone()).or_default(),
                None => self.untold.entry(Arc::clone(&retired.decision)).or_default(),
            };
            *total = sum(*total, counter);
        }
    }

    /// The count of `chain`, whose counter has the value `counter`, together with its predecessors.
    pub(crate) fn with_carried(&self, chain: &Name, counter: Counter) -> Counter {
        sum(self.carried.get(chain).copied().unwrap_or_default(), counter)
    }

    /// The decision that the chain stood for.
    pub(crate) fn find(&self, chain: &str) -> Option<&Meaning> {
        self.by_chain.get(chain)
    }

    /// Last counts that were not reported yet.
    pub(crate) fn take_untold(&mut self) -> impl Iterator<Item = (Arc<DecisionEntry>, Counter)> {
        core::mem::take(&mut self.untold).into_iter()
    }

    /// Entries of each kind.
    #[cfg(test)]
    pub(crate) fn sizes(&self) -> [usize; 5] {
        let Self { by_chain, order, carried, untold, decisions } = self;
        [by_chain.len(), order.len(), carried.len(), untold.len(), decisions.len()]
    }
}

pub(crate) const fn sum(a: Counter, b: Counter) -> Counter {
    Counter { packets: a.packets.saturating_add(b.packets), bytes: a.bytes.saturating_add(b.bytes) }
}

#[cfg(test)]
mod tests {
    use portcullis_core::model::PolicyId;
    use portcullis_core::verdict::{Cause, Direction, RuleRef, Verdict};

    use super::*;

    fn meaning(verdict: Verdict) -> Meaning {
        let decision = DecisionEntry { verdict, cause: Cause::NoPolicy, logs: Vec::new(), l7: None };
        Meaning { decision: Arc::new(decision), hook_kind: HookKind::Tracked }
    }

    fn counter(packets: u64) -> Counter {
        Counter { packets, bytes: packets * 10 }
    }

    #[test]
    fn the_last_count_is_told_once_and_the_meaning_stays() {
        let mut retired = RetiredDecisions::default();
        retired.note([("d1".into(), meaning(Verdict::Deny))]);
        retired.count([("d1".into(), counter(3))].into(), &BTreeMap::new());
        let told: Vec<_> = retired.take_untold().collect();
        assert_eq!(told, [(meaning(Verdict::Deny).decision, counter(3))]);
        assert_eq!(retired.take_untold().count(), 0);
        assert_eq!(retired.find("d1"), Some(&meaning(Verdict::Deny)));
        retired
            .note((2..10_000).map(|number| (format!("d{number}").as_str().into(), meaning(Verdict::Allow))));
        retired.trim(9_999);
        assert_eq!((retired.find("d1").is_some(), retired.by_chain.len()), (true, 9_999));
        retired.trim(5);
        assert_eq!((retired.find("d1"), retired.by_chain.len()), (None, RetiredDecisions::KEPT));
        // Equal decisions are kept once.
        assert_eq!(retired.decisions.len(), 1);
    }

    fn of_policy(number: usize) -> Meaning {
        let decision = DecisionEntry {
            verdict: Verdict::Deny,
            cause: Cause::NoPolicy,
            logs: vec![RuleRef {
                policy: PolicyId::new("NetworkPolicy", Some("shop".into()), format!("p{number}").as_str()),
                tier: "default".into(),
                direction: Direction::Ingress,
                index: 0,
            }],
            l7: None,
        };
        Meaning { decision: Arc::new(decision), hook_kind: HookKind::Tracked }
    }

    /// An agent that never reads counters, in a cluster whose policies come and go.
    #[test]
    fn what_is_kept_is_bounded_when_nobody_reads_counters() {
        let mut retired = RetiredDecisions::default();
        let none = BTreeMap::new();
        for number in 0..100_000 {
            let name: Name = format!("d{number}").as_str().into();
            retired.note([(name.clone(), of_policy(number))]);
            // Every second one met packets.
            retired.count([(name, counter(u64::from(number % 2 == 0)))].into(), &none);
            retired.trim(40);
        }
        let (kept, untold) = (RetiredDecisions::KEPT, RetiredDecisions::MOST_UNTOLD);
        assert_eq!(retired.sizes(), [kept, kept, 0, untold, kept]);
        assert_eq!(retired.take_untold().count(), untold);
        assert_eq!(retired.sizes()[3], 0);
        // The same few policies again and again: their counts are folded.
        for number in 0..10_000 {
            let name: Name = format!("e{number}").as_str().into();
            retired.note([(name.clone(), of_policy(number % 7))]);
            retired.count([(name, counter(1))].into(), &none);
            retired.trim(40);
        }
        assert_eq!(retired.sizes(), [kept, kept, 0, 7, 7]);
        let told: u64 = retired.take_untold().map(|(_, counter)| counter.packets).sum();
        assert_eq!(told, 10_000);
    }

    /// A table that somebody took away has no last values; what was carried over before is told.
    #[test]
    fn what_a_lost_chain_carried_is_told() {
        let mut retired = RetiredDecisions::default();
        retired.note([("d1".into(), meaning(Verdict::Deny))]);
        retired.count([("d1".into(), counter(3))].into(), &[("d2".into(), meaning(Verdict::Deny))].into());
        retired.note([("d2".into(), meaning(Verdict::Deny))]);
        retired.count(BTreeMap::new(), &BTreeMap::new());
        assert_eq!(retired.take_untold().map(|(_, counter)| counter).collect::<Vec<_>>(), [counter(3)]);
        assert_eq!(retired.sizes()[2], 0);
    }

    #[test]
    fn a_decision_that_stays_keeps_what_it_carries() {
        let mut retired = RetiredDecisions::default();
        retired.note([("d1".into(), meaning(Verdict::Deny))]);
        let present = BTreeMap::from([(Name::from("d2"), meaning(Verdict::Deny))]);
        retired.count([("d1".into(), counter(3)), ("d2".into(), counter(0))].into(), &present);
        assert_eq!(retired.with_carried(&"d2".into(), counter(0)), counter(3));
        // The counters of the whole table once more, for the sake of another chain.
        retired.note([("d0".into(), meaning(Verdict::Allow))]);
        retired.count([("d0".into(), counter(7)), ("d2".into(), counter(1))].into(), &present);
        assert_eq!(retired.with_carried(&"d2".into(), counter(1)), counter(4));
    }

    #[test]
    fn a_decision_goes_on_at_hooks_of_another_kind_and_staged_ones_are_not_told() {
        let mut retired = RetiredDecisions::default();
        let at = |hook_kind| Meaning { hook_kind, ..meaning(Verdict::Deny) };
        retired.note([("d1".into(), at(HookKind::FromHost)), ("d2".into(), at(HookKind::Staged))]);
        let present = [("d3".into(), at(HookKind::Staged)), ("d4".into(), at(HookKind::Tracked))].into();
        retired.count([("d1".into(), counter(3)), ("d2".into(), counter(5))].into(), &present);
        assert_eq!(retired.take_untold().count(), 0);
        assert_eq!(retired.with_carried(&"d3".into(), counter(1)), counter(1));
        assert_eq!(retired.with_carried(&"d4".into(), counter(1)), counter(4));
    }

    #[test]
    fn a_decision_that_another_chain_carries_out_counts_on() {
        let mut retired = RetiredDecisions::default();
        for (old, new, packets) in [("d1", "d2", 3), ("d2", "d3", 4)] {
            retired.note([(old.into(), meaning(Verdict::Deny))]);
            let present = [(Name::from(new), meaning(Verdict::Deny))].into();
            retired.count([(Name::from(old), counter(packets))].into(), &present);
        }
        assert_eq!(retired.take_untold().count(), 0);
        assert_eq!(retired.with_carried(&"d3".into(), counter(1)), counter(8));
    }
}
