//! Which decision each number in the kernel stands for, and the last counters of retired decisions.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;

use portcullis_core::backend::Counter;
use portcullis_core::ir::DecisionEntry;

/// A number keeps its decision until the kernel gets another one for it, also while the number is unused.
#[derive(Debug, Default)]
pub(crate) struct Decisions {
    by_number: BTreeMap<u32, Arc<DecisionEntry>>,
    /// What the decision of a number counted in earlier loads, with which the kernel does not begin.
    before: BTreeMap<u32, Counter>,
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
        let counted = self.total(number, counted);
        self.before.remove(&number);
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
            let Some(counter) = counted.get(number).map(|counted| self.total(*number, *counted)) else {
                continue;
            };
            // A packet in flight may count after the decision was told; then it is told again.
            if is_used(*number) || self.told.insert(*number, counter) != Some(counter) {
                all.push((Arc::clone(decision), counter));
            }
        }
        all
    }

    /// Takes over from the decisions of an earlier load, which `counted` is of: a decision that both have goes on from its count, and
    /// the last count of another is kept until it is told. Counts that are not known are zero.
    pub(crate) fn take_over(
        &mut self,
        mut other: Self,
        counted: &BTreeMap<u32, Counter>,
        is_used: impl Fn(u32) -> bool,
    ) {
        other.last.drain(..).for_each(|(decision, counter)| self.keep_last(decision, counter));
        let numbers: BTreeMap<Arc<DecisionEntry>, u32> =
            self.by_number.iter().map(|(number, decision)| (Arc::clone(decision), *number)).collect();
        for (number, decision) in &other.by_number {
            let counter = other.total(*number, counted.get(number).copied().unwrap_or_default());
            if !is_used(*number) && other.told.get(number) == Some(&counter) {
                continue;
            }
            match numbers.get(decision) {
                Some(number) => {
                    let before = self.before.entry(*number).or_default();
                    *before = added(*before, counter);
                }
                None => self.keep_last(Arc::clone(decision), counter),
            }
        }
    }

    /// What the decision of a number counted in all loads, when it is `counted` since the last.
    fn total(&self, number: u32, counted: Counter) -> Counter {
        added(self.before.get(&number).copied().unwrap_or_default(), counted)
    }

    fn keep_last(&mut self, decision: Arc<DecisionEntry>, counter: Counter) {
        if self.last.len() >= MOST_KEPT {
            self.last.pop_front();
        }
        self.last.push_back((decision, counter));
    }
}

fn added(one: Counter, other: Counter) -> Counter {
    Counter {
        packets: one.packets.saturating_add(other.packets),
        bytes: one.bytes.saturating_add(other.bytes),
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

    /// Through loads, a decision that stays goes on from its count and is not told as retired; one that goes is told once.
    #[test]
    fn counts_go_on_through_a_load() {
        let (allow, deny) = (decision(Verdict::Allow), decision(Verdict::Deny));
        let mut decisions = Decisions::default();
        decisions.replace(1, Arc::clone(&allow), Counter::default());
        decisions.replace(2, Arc::clone(&deny), Counter::default());
        let mut counted = BTreeMap::from([(1, counter(3)), (2, counter(4))]);
        for load in 1..3 {
            let mut next = Decisions::default();
            next.replace(7, Arc::clone(&allow), Counter::default());
            next.take_over(decisions, &counted, |_| true);
            let told = next.tell(&[(7, counter(2))].into(), |_| true);
            let gone = if load == 1 { vec![(Arc::clone(&deny), counter(4))] } else { Vec::new() };
            let stays = (Arc::clone(&allow), counter(if load == 1 { 5 } else { 7 }));
            assert_eq!(told, [gone, vec![stays]].concat(), "load {load}");
            (decisions, counted) = (next, BTreeMap::from([(7, counter(2))]));
        }
        decisions.replace(7, Arc::clone(&deny), counter(2));
        assert_eq!(decisions.tell(&BTreeMap::new(), |_| true), [(allow, counter(7))]);
    }
}
