//! Which decision each number in the kernel stands for, and the last counters of retired decisions.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;

use portcullis_core::backend::Counter;
use portcullis_core::ir::DecisionEntry;

/// A number keeps its decision until the kernel gets another one for it, also while the number is unused.
#[derive(Debug, Default)]
pub(crate) struct Decisions {
    by_number: BTreeMap<u32, Arc<DecisionEntry>>,
    /// The counters that were reported for unused numbers.
    told: BTreeMap<u32, Counter>,
    /// The last counts of decisions that have no number any more.
    last: VecDeque<(Arc<DecisionEntry>, Counter)>,
}

impl Decisions {
    /// The decision that a number stands for.
    pub(crate) fn get(&self, number: u32) -> Option<&Arc<DecisionEntry>> {
        self.by_number.get(&number)
    }

    pub(crate) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.by_number.keys().copied()
    }

    /// The number stands for `decision` from now on; for the one before, `counted` is the last that it counted.
    pub(crate) fn replace(&mut self, number: u32, decision: Arc<DecisionEntry>, counted: Counter) {
        let told = self.told.remove(&number);
        if let Some(before) = self.by_number.insert(number, decision)
            && told != Some(counted)
        {
            self.keep_last(before, counted);
        }
    }

    /// What there is to tell: every used decision; those that are not used any more with what they counted last, once. The
    /// counts come from the kernel, by number.
    pub(crate) fn tell(
        &mut self,
        counted: &BTreeMap<u32, Counter>,
        is_used: impl Fn(u32) -> bool,
    ) -> Vec<(Arc<DecisionEntry>, Counter)> {
        let mut all: Vec<_> = self.last.drain(..).collect();
        for (number, decision) in &self.by_number {
            let Some(counter) = counted.get(number).copied() else { continue };
            // A packet in flight may count after the decision was told; then it is told again.
            if is_used(*number) || self.told.insert(*number, counter) != Some(counter) {
                all.push((Arc::clone(decision), counter));
            }
        }
        all
    }

    /// Takes over what another one has not told yet.
    pub(crate) fn take_over(&mut self, mut other: Self, counted: &BTreeMap<u32, Counter>) {
        for (decision, counter) in other.tell(counted, |_| false) {
            self.keep_last(decision, counter);
        }
    }

    fn keep_last(&mut self, decision: Arc<DecisionEntry>, counter: Counter) {
        if self.last.len() >= MOST_KEPT {
            self.last.pop_front();
        }
        self.last.push_back((decision, counter));
    }
}

/// Last counts that wait to be told, at most.
pub(crate) const MOST_KEPT: usize = 65_536;

#[cfg(test)]
mod tests {
    use portcullis_core::verdict::{Cause, Verdict};

    use super::*;

    fn decision(verdict: Verdict) -> Arc<DecisionEntry> {
        Arc::new(DecisionEntry { verdict, cause: Cause::NoPolicy, logs: Vec::new(), l7: None })
    }

    fn counter(packets: u64) -> Counter {
        Counter { packets, bytes: packets * 100 }
    }

    #[test]
    fn a_retired_decision_is_told_once_with_its_last_count() {
        let (allow, deny) = (decision(Verdict::Allow), decision(Verdict::Deny));
        let mut decisions = Decisions::default();
        decisions.replace(1, Arc::clone(&allow), Counter::default());
        assert_eq!(decisions.tell(&[(1, counter(3))].into(), |_| true), [(Arc::clone(&allow), counter(3))]);
        // Not used any more, and a packet came in between.
        let told = decisions.tell(&[(1, counter(4))].into(), |_| false);
        assert_eq!(told, [(Arc::clone(&allow), counter(4))]);
        assert_eq!(decisions.tell(&[(1, counter(4))].into(), |_| false), []);
        // One was in flight still, and the number is given to another decision.
        decisions.replace(1, Arc::clone(&deny), counter(5));
        assert_eq!(decisions.get(1), Some(&deny));
        let told = decisions.tell(&[(1, counter(0))].into(), |_| true);
        assert_eq!(told, [(allow, counter(5)), (deny, counter(0))]);
    }
}
