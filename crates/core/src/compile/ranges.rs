//! Sets and maps of 16-bit keys, as intervals.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::ir::{DecisionId, Interval, PortMap};

/// Sorted, disjoint, inclusive intervals.
pub(super) type Ranges = Vec<(u16, u16)>;

pub(super) const FULL: (u16, u16) = (0, u16::MAX);

/// Sorts `ranges` and joins those that touch.
pub(super) fn normalise(mut ranges: Ranges) -> Ranges {
    ranges.sort_unstable();
    let mut joined: Ranges = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match joined.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = (*end).max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}

/// Everything that is not in `ranges` (normalised).
pub(super) fn complement(ranges: &[(u16, u16)]) -> Ranges {
    let mut rest = Vec::new();
    let mut next = Some(0);
    for (first, last) in ranges {
        if let Some(start) = next
            && start < *first
        {
            rest.push((start, first.saturating_sub(1)));
        }
        next = last.checked_add(1);
    }
    if let Some(start) = next {
        rest.push((start, u16::MAX));
    }
    rest
}

/// What is in both (each normalised).
pub(super) fn intersect(a: &[(u16, u16)], b: &[(u16, u16)]) -> Ranges {
    let mut both = Vec::new();
    let (mut left, mut right) = (a.iter().peekable(), b.iter().peekable());
    while let (Some((a1, a2)), Some((b1, b2))) = (left.peek(), right.peek()) {
        let (first, last) = ((*a1).max(*b1), (*a2).min(*b2));
        if first <= last {
            both.push((first, last));
        }
        if a2 < b2 {
            left.next();
        } else {
            right.next();
        }
    }
    both
}

/// Keys that are still open, each interval with a value of its own.
#[derive(Debug, Clone, Default)]
pub(super) struct Open<V> {
    /// First key to (last key, value); disjoint.
    pieces: BTreeMap<u16, (u16, V)>,
}

impl<V: Clone + PartialEq> Open<V> {
    pub(super) fn full(value: V) -> Self {
        Self { pieces: BTreeMap::from([(0, (u16::MAX, value))]) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Number of intervals.
    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Takes the open keys inside `ranges` out.
    pub(super) fn take(&mut self, ranges: &[(u16, u16)]) -> Vec<(u16, u16, V)> {
        let mut taken = Vec::new();
        for &(first, last) in ranges {
            // The piece that starts before the range and reaches into it.
            let before = self.pieces.range(..first).next_back().map(|(start, (end, _))| (*start, *end));
            if let Some((start, end)) = before
                && end >= first
                && let Some((_, value)) = self.pieces.remove(&start)
            {
                self.pieces.insert(start, (first.saturating_sub(1), value.clone()));
                self.pieces.insert(first, (end, value));
            }
            while let Some((start, end)) =
                self.pieces.range(first..=last).next().map(|(start, (end, _))| (*start, *end))
            {
                let Some((_, value)) = self.pieces.remove(&start) else { break };
                if end > last {
                    self.pieces.insert(last.saturating_add(1), (end, value.clone()));
                }
                taken.push((start, end.min(last), value));
            }
        }
        taken
    }

    /// Takes every open key out.
    pub(super) fn take_all(&mut self) -> Vec<(u16, u16, V)> {
        core::mem::take(&mut self.pieces)
            .into_iter()
            .map(|(first, (last, value))| (first, last, value))
            .collect()
    }

    /// Opens keys that are not open.
    pub(super) fn put(&mut self, first: u16, last: u16, value: V) {
        self.pieces.insert(first, (last, value));
    }
}

/// A walk over all keys, in intervals in which the same ranges are met.
#[derive(Debug)]
pub(super) struct Sweep<K> {
    /// What starts and what ends at a key: keys in order.
    starts: Vec<(u16, K)>,
    ends: Vec<(u16, K)>,
    started: usize,
    ended: usize,
    /// Ranges met by the current interval: a range more than once is counted.
    active: BTreeMap<K, usize>,
    /// The first key of the next interval; `None` past the last.
    next: Option<u16>,
}

impl<K: Copy + Ord> Sweep<K> {
    /// A walk over inclusive ranges, each with a key of its own or one it shares.
    pub(super) fn new(ranges: impl Iterator<Item = ((u16, u16), K)>) -> Self {
        let (mut starts, mut ends) = (Vec::new(), Vec::new());
        for ((first, last), key) in ranges {
            starts.push((first, key));
            ends.push((last, key));
        }
        starts.sort_unstable();
        ends.sort_unstable();
        Self { starts, ends, started: 0, ended: 0, active: BTreeMap::new(), next: Some(0) }
    }

    /// Goes on to the next interval and returns its last key.
    pub(super) fn advance(&mut self) -> Option<u16> {
        let first = self.next?;
        while let Some((_, key)) = self.ends.get(self.ended).filter(|(last, _)| *last < first) {
            if let Some(count) = self.active.get_mut(key) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.active.remove(key);
                }
            }
            self.ended = self.ended.saturating_add(1);
        }
        while let Some((_, key)) = self.starts.get(self.started).filter(|(start, _)| *start <= first) {
            let count = self.active.entry(*key).or_default();
            *count = count.saturating_add(1);
            self.started = self.started.saturating_add(1);
        }
        let start = self.starts.get(self.started).map_or(u16::MAX, |(start, _)| start.saturating_sub(1));
        let end = self.ends.get(self.ended).map_or(u16::MAX, |(last, _)| *last);
        let last = start.min(end);
        self.next = last.checked_add(1);
        Some(last)
    }

    /// The keys of the ranges that the current interval lies in.
    pub(super) fn active(&self) -> impl Iterator<Item = K> + '_ {
        self.active.keys().copied()
    }

    /// Those from `key` on.
    pub(super) fn active_from(&self, key: K) -> impl Iterator<Item = K> + '_ {
        self.active.range(key..).map(|(key, _)| *key)
    }
}

/// Puts decided intervals together; they cover every key, in any order.
pub(super) fn port_map(mut decided: Vec<(u16, u16, DecisionId)>) -> PortMap {
    decided.sort_unstable();
    let mut intervals: Vec<Interval> = Vec::with_capacity(decided.len());
    for (_, last, decision) in decided {
        match intervals.last_mut() {
            Some(interval) if interval.decision == decision => interval.last = last,
            _ => intervals.push(Interval { last, decision }),
        }
    }
    PortMap::new(intervals)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn set_operations() {
        let ports = normalise(vec![(80, 90), (443, 443), (91, 100), (85, 95)]);
        assert_eq!(ports, vec![(80, 100), (443, 443)]);
        assert_eq!(complement(&ports), vec![(0, 79), (101, 442), (444, u16::MAX)]);
        assert_eq!(complement(&[]), vec![FULL]);
        assert_eq!(complement(&[FULL]), vec![]);
        assert_eq!(intersect(&ports, &[(90, 443)]), vec![(90, 100), (443, 443)]);
        assert_eq!(normalise(vec![(0, u16::MAX), (u16::MAX, u16::MAX)]), vec![FULL]);
    }

    #[test]
    fn a_sweep_meets_every_key_with_the_ranges_around_it() {
        let ranges =
            [((0, 0), 'a'), ((10, 20), 'b'), ((15, 15), 'c'), ((20, u16::MAX), 'd'), ((12, 14), 'b')];
        let mut sweep = Sweep::new(ranges.into_iter());
        let mut next = Some(0);
        while let Some(last) = sweep.advance() {
            let first = next.unwrap();
            let active: Vec<char> = sweep.active().collect();
            for key in [first, last] {
                let mut around: Vec<char> = ranges
                    .iter()
                    .filter(|((a, b), _)| (*a..=*b).contains(&key))
                    .map(|(_, name)| *name)
                    .collect();
                around.sort_unstable();
                around.dedup();
                assert_eq!(active, around, "{key}");
            }
            next = last.checked_add(1);
        }
        assert_eq!(next, None);
        assert_eq!(Sweep::<u8>::new([].into_iter()).advance(), Some(u16::MAX));
    }

    #[test]
    fn open_keys_are_taken_once() {
        let mut open = Open::full('a');
        assert_eq!(open.take(&[(10, 20)]), vec![(10, 20, 'a')]);
        assert_eq!(open.take(&[(15, 25)]), vec![(21, 25, 'a')]);
        open.put(10, 20, 'b');
        assert_eq!(
            open.take(&[(5, 11), (65_535, 65_535)]),
            vec![(5, 9, 'a'), (10, 11, 'b'), (65_535, 65_535, 'a')]
        );
        assert_eq!(open.take_all(), vec![(0, 4, 'a'), (12, 20, 'b'), (26, 65_534, 'a')]);
        assert!(open.is_empty());
    }
}
