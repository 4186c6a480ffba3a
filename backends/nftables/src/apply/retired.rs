//! Decisions of retired policies, until their counts are reported and their events are read.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;

use portcullis_core::backend::Counter;
use portcullis_core::ir::DecisionEntry;
use portcullis_core::label::Name;

use crate::lower::decision_chains::HookKind;
use crate::lower::interned::Meaning;

/// The decisions of chains that are gone, or about to go: the latest [`RetiredDecisions::KEPT`], or
/// as many as the table has, if that is more; older ones are forgotten.
#[derive(Debug, Default)]
pub(crate) struct RetiredDecisions {
    by_chain: BTreeMap<Name, Retired>,
    order: VecDeque<Name>,
    /// Counts of earlier chains whose decision another chain carries out now, by name of the present chain.
    carried: BTreeMap<Name, Counter>,
}

#[derive(Debug)]
struct Retired {
    meaning: Meaning,
    /// Its last count, until that is reported.
    untold: Option<Counter>,
}

impl RetiredDecisions {
    /// How many are remembered at least.
    pub(crate) const KEPT: usize = 8_192;

    /// Remembers the decisions of chains that are about to go. None is forgotten before [`RetiredDecisions::trim`], so that
    /// their last counts find them.
    pub(crate) fn note(&mut self, retired: impl IntoIterator<Item = (Name, Meaning)>) {
        for (name, meaning) in retired {
            if self.by_chain.insert(name.clone(), Retired { meaning, untold: None }).is_none() {
                self.order.push_back(name);
            }
        }
    }

    /// Forgets the oldest decisions. A table of `decisions` that is replaced as a whole is remembered as a whole.
    pub(crate) fn trim(&mut self, decisions: usize) {
        while self.order.len() > Self::KEPT.max(decisions) {
            if let Some(oldest) = self.order.pop_front() {
                self.by_chain.remove(&oldest);
                self.carried.remove(&oldest);
            }
        }
    }

    /// Takes the last values of counters whose chains are gone; of others, nothing. A decision that a chain of `present`
    /// carries out, at hooks of whichever kind, continues from its value. Staged decisions are not counted.
    pub(crate) fn count(&mut self, counted: BTreeMap<Name, Counter>, present: &BTreeMap<Name, Meaning>) {
        if counted.is_empty() {
            return;
        }
        let enforced = present.iter().filter(|(_, meaning)| meaning.hook_kind != HookKind::Staged);
        let chain_of: BTreeMap<_, _> = enforced.map(|(name, meaning)| (&*meaning.decision, name)).collect();
        for (name, counter) in counted {
            // Only a chain that goes gives its count away.
            let Some(retired) = self.by_chain.get_mut(&name).filter(|_| !present.contains_key(&name)) else {
                continue;
            };
            let counter = sum(self.carried.remove(&name).unwrap_or_default(), counter);
            if retired.meaning.hook_kind == HookKind::Staged {
                continue;
            }
            match chain_of.get(&*retired.meaning.decision) {
                Some(chain) => {
                    let carried = self.carried.entry((*chain).clone()).or_default();
                    *carried = sum(*carried, counter);
                }
                None => retired.untold = Some(counter),
            }
        }
    }

    /// The count of `chain`, whose counter has the value `counter`, together with its predecessors.
    pub(crate) fn with_carried(&self, chain: &Name, counter: Counter) -> Counter {
        sum(self.carried.get(chain).copied().unwrap_or_default(), counter)
    }

    /// The decision that the chain stood for.
    pub(crate) fn find(&self, chain: &str) -> Option<&Meaning> {
        self.by_chain.get(chain).map(|retired| &retired.meaning)
    }

    /// Last counts that were not reported yet.
    pub(crate) fn take_untold(&mut self) -> impl Iterator<Item = (Arc<DecisionEntry>, Counter)> {
        let told =
            |retired: &mut Retired| Some((Arc::clone(&retired.meaning.decision), retired.untold.take()?));
        self.by_chain.values_mut().filter_map(told)
    }
}

pub(crate) const fn sum(a: Counter, b: Counter) -> Counter {
    Counter { packets: a.packets.saturating_add(b.packets), bytes: a.bytes.saturating_add(b.bytes) }
}

#[cfg(test)]
mod tests {
    use portcullis_core::verdict::{Cause, Verdict};

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
