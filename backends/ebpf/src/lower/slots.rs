//! Which slots of an array are in use.

use alloc::collections::BTreeMap;

use portcullis_core::backend::{LowerError, Usage};

/// The slots of one array. A slot that was given back is not handed out again before [`Slots::reclaim`], because packets in
/// flight may still read it.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    name: &'static str,
    /// Slots before this one are reserved.
    first: u32,
    limit: u32,
    /// How much of the capacity one slot is.
    unit: u32,
    /// Free runs: first slot and length. No two touch.
    free: BTreeMap<u32, u32>,
    /// Runs that were given back since the last reclaim.
    waiting: BTreeMap<u32, u32>,
}

impl Slots {
    /// Slots `first` to `limit - 1`. `name` is the field of the capacity that they count against.
    pub(crate) fn new(name: &'static str, first: u32, limit: u32) -> Self {
        let free =
            if first < limit { [(first, limit.saturating_sub(first))].into() } else { BTreeMap::new() };
        Self { name, first, limit, unit: 1, free, waiting: BTreeMap::new() }
    }

    /// Each slot counts for `unit` of the capacity.
    pub(crate) fn of_units(self, unit: u32) -> Self {
        Self { unit, ..self }
    }

    /// The first of `length` slots in a row, or `None` when there are none now.
    pub(crate) fn take(&mut self, length: u32) -> Option<u32> {
        let (first, found) = self.free.iter().find(|(_, found)| **found >= length).map(|(a, b)| (*a, *b))?;
        self.free.remove(&first);
        let rest = found.saturating_sub(length);
        if rest > 0 {
            self.free.insert(first.saturating_add(length), rest);
        }
        Some(first)
    }

    pub(crate) fn give_back(&mut self, first: u32, length: u32) {
        self.waiting.insert(first, length);
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Makes everything that was given back available.
    pub(crate) fn reclaim(&mut self) {
        for (mut first, mut length) in core::mem::take(&mut self.waiting) {
            if let Some((before, run)) = self.free.range(..first).next_back().map(|(a, b)| (*a, *b))
                && before.saturating_add(run) == first
            {
                self.free.remove(&before);
                first = before;
                length = length.saturating_add(run);
            }
            if let Some(run) = self.free.remove(&first.saturating_add(length)) {
                length = length.saturating_add(run);
            }
            self.free.insert(first, length);
        }
    }

    /// How much of the capacity is in use, and the capacity. Slots that wait for a grace period are in use.
    pub(crate) fn usage(&self) -> Usage {
        let free = self.free.values().copied().fold(0, u32::saturating_add);
        let used = u64::from(self.limit.saturating_sub(free)).saturating_sub(u64::from(self.first));
        let unit = u64::from(self.unit);
        let limit = Some(u64::from(self.limit).saturating_mul(unit));
        Usage { name: self.name, used: used.saturating_mul(unit), limit }
    }

    /// The error of a request for `length` slots that cannot be met.
    pub(crate) fn full(&self, length: u32) -> LowerError {
        let free = self.free.values().copied().fold(0, u32::saturating_add);
        let needed = u64::from(self.limit).saturating_sub(u64::from(free)).saturating_add(u64::from(length));
        let needed = needed.max(u64::from(self.limit).saturating_add(1));
        let needed = needed.saturating_mul(u64::from(self.unit));
        let limit = self.limit.saturating_mul(self.unit);
        LowerError::limit(self.name, limit, needed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_come_back_only_after_a_reclaim_and_runs_grow_together() {
        let mut slots = Slots::new("pages", 1, 5);
        assert_eq!(slots.take(2), Some(1));
        assert_eq!(slots.take(1), Some(3));
        assert_eq!(slots.take(2), None);
        slots.give_back(1, 2);
        slots.give_back(3, 1);
        assert_eq!(slots.take(2), None);
        slots.reclaim();
        assert_eq!(slots.take(4), Some(1));
        assert_eq!(slots.full(1), LowerError::limit("pages", 5_u32, 6_u32));
    }
}
