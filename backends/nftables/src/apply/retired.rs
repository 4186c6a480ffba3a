//! Decisions of retired policies, until their counts are told and their events are read.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;

use portcullis_core::backend::Counter;
use portcullis_core::ir::DecisionEntry;
use portcullis_core::label::Name;

use crate::lower::interned::Meaning;

/// What chains stood for that are gone, or about to go. Of the latest [`RetiredDecisions::KEPT`], others are forgotten.
#[derive(Debug, Default)]
pub(crate) struct RetiredDecisions {
    by_chain: BTreeMap<Name, Retired>,
    order: VecDeque<Name>,
    /// What earlier chains counted of decisions that others carry out now, by name of the present chain.
    carried: BTreeMap<Name, Counter>,
}

#[derive(Debug)]
struct Retired {
    meaning: Meaning,
    /// What it counted last, until that is told.
    untold: Option<Counter>,
}

impl RetiredDecisions {
    /// How many are remembered.
    pub(crate) const KEPT: usize = 8_192;

    /// Remembers what chains stand for that are about to go.
    pub(crate) fn note(&mut self, retired: impl IntoIterator<Item = (Name, Meaning)>) {
        for (name, meaning) in retired {
            if self.by_chain.insert(name.clone(), Retired { meaning, untold: None }).is_none() {
                self.order.push_back(name);
            }
        }
        while self.order.len() > Self::KEPT {
            if let Some(oldest) = self.order.pop_front() {
                self.by_chain.remove(&oldest);
                self.carried.remove(&oldest);
            }
        }
    }

    /// Takes what the counters of chains that are gone counted last. A decision that a chain of `present` carries out goes
    /// on counting from there.
    pub(crate) fn count(&mut self, counted: BTreeMap<Name, Counter>, present: &BTreeMap<Name, Meaning>) {
        if counted.is_empty() {
            return;
        }
        let chain_of: BTreeMap<_, _> =
            present.iter().map(|(name, meaning)| ((&*meaning.decision, meaning.hook_kind), name)).collect();
        for (name, counter) in counted {
            let before = self.carried.remove(&name).unwrap_or_default();
            let Some(retired) = self.by_chain.get_mut(&name) else { continue };
            let counter = sum(before, counter);
            match chain_of.get(&(&*retired.meaning.decision, retired.meaning.hook_kind)) {
                Some(chain) => {
                    let carried = self.carried.entry((*chain).clone()).or_default();
                    *carried = sum(*carried, counter);
                }
                None => retired.untold = Some(counter),
            }
        }
    }

    /// What `chain`, whose counter says `counter`, counted with its predecessors.
    pub(crate) fn with_carried(&self, chain: &Name, counter: Counter) -> Counter {
        sum(self.carried.get(chain).copied().unwrap_or_default(), counter)
    }

    /// What the chain stood for.
    pub(crate) fn find(&self, chain: &str) -> Option<&Meaning> {
        self.by_chain.get(chain).map(|retired| &retired.meaning)
    }

    /// Last counts that were not told yet.
    pub(crate) fn take_untold(&mut self) -> impl Iterator<Item = (Arc<DecisionEntry>, Counter)> {
        let told =
            |retired: &mut Retired| Some((Arc::clone(&retired.meaning.decision), retired.untold.take()?));
        self.by_chain.values_mut().filter_map(told)
    }
}

const fn sum(a: Counter, b: Counter) -> Counter {
    Counter { packets: a.packets.saturating_add(b.packets), bytes: a.bytes.saturating_add(b.bytes) }
}

#[cfg(test)]
mod tests {
    use portcullis_core::verdict::{Cause, Verdict};

    use super::*;
    use crate::lower::decision_chains::HookKind;

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
        assert_eq!((retired.find("d1"), retired.by_chain.len()), (None, RetiredDecisions::KEPT));
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
