//! Where flows are kept: a fixed number of slots, hash chains through them, and one list by age for each state.

use alloc::boxed::Box;
use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use core::hash::BuildHasher;
use core::iter::repeat_n;

use hashbrown::DefaultHashBuilder;
use portcullis_core::verdict::Verdict;

use crate::cow_vec::index;
use crate::flows::state::FlowState;
use crate::flows::tuple::{Side, SidedEnds, Tuple};

/// A tracked flow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) tuple: Tuple,
    pub(super) ends: SidedEnds,
    pub(super) originator: Side,
    pub(super) verdict: Verdict,
    pub(super) state: FlowState,
    /// When a packet last prolonged it, in milliseconds.
    pub(super) seen: u64,
}

/// INVARIANT: every slot is in exactly one of: the free list (through `chain`), or one hash chain (through `chain`)
/// and the list of its state (through `older` and `newer`). Times in a list never fall from old to new.
#[derive(Debug)]
pub(super) struct Slab {
    slots: Box<[Slot]>,
    /// The first slot of each hash chain. The length is a power of two.
    buckets: Box<[u32]>,
    free: u32,
    lists: [List; FlowState::ALL.len()],
    len: usize,
    hasher: DefaultHashBuilder,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    entry: Option<Entry>,
    chain: u32,
    older: u32,
    newer: u32,
}

#[derive(Clone, Copy, Debug)]
struct List {
    oldest: u32,
    newest: u32,
}

/// No slot.
const NONE: u32 = u32::MAX;

impl Slab {
    pub(super) fn new(capacity: u32) -> Result<Self, TryReserveError> {
        let mut slots = Vec::new();
        slots.try_reserve_exact(index(capacity))?;
        slots.extend((1..=capacity).map(|next| Slot {
            entry: None,
            chain: if next == capacity { NONE } else { next },
            older: NONE,
            newer: NONE,
        }));
        let mut buckets = Vec::new();
        buckets.try_reserve_exact(index(capacity).next_power_of_two())?;
        buckets.extend(repeat_n(NONE, index(capacity).next_power_of_two()));
        Ok(Self {
            slots: slots.into(),
            buckets: buckets.into(),
            free: if capacity == 0 { NONE } else { 0 },
            lists: [List { oldest: NONE, newest: NONE }; FlowState::ALL.len()],
            len: 0,
            hasher: DefaultHashBuilder::default(),
        })
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn capacity(&self) -> usize {
        self.slots.len()
    }

    pub(super) const fn is_full(&self) -> bool {
        self.free == NONE
    }

    pub(super) fn get(&self, at: u32) -> Option<&Entry> {
        self.slots.get(index(at))?.entry.as_ref()
    }

    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut Entry> {
        self.slots.get_mut(index(at))?.entry.as_mut()
    }

    /// The numbers of all slots.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> + use<> {
        0..u32::try_from(self.slots.len()).unwrap_or(NONE)
    }

    pub(super) fn find(&self, tuple: &Tuple, accepts: impl Fn(&Entry) -> bool) -> Option<(u32, &Entry)> {
        let mut at = *self.buckets.get(self.bucket(tuple))?;
        loop {
            let slot = self.slots.get(index(at))?;
            match &slot.entry {
                Some(entry) if entry.tuple == *tuple && accepts(entry) => return Some((at, entry)),
                _ => at = slot.chain,
            }
        }
    }

    /// Does nothing when there is no room.
    pub(super) fn insert(&mut self, entry: Entry) {
        let (at, bucket, state) = (self.free, self.bucket(&entry.tuple), entry.state);
        let (Some(slot), Some(head)) = (self.slots.get_mut(index(at)), self.buckets.get_mut(bucket)) else {
            return;
        };
        self.free = slot.chain;
        *slot = Slot { entry: Some(entry), chain: *head, older: NONE, newer: NONE };
        *head = at;
        self.len = self.len.saturating_add(1);
        self.link(at, state);
    }

    pub(super) fn remove(&mut self, at: u32) -> Option<Entry> {
        let Slot { entry, chain, .. } = *self.slots.get(index(at))?;
        let entry = entry?;
        self.unlink(at, entry.state);
        let bucket = self.bucket(&entry.tuple);
        let mut before = NONE;
        let mut here = *self.buckets.get(bucket)?;
        while here != at && here != NONE {
            (before, here) = (here, self.slots.get(index(here))?.chain);
        }
        match self.slots.get_mut(index(before)) {
            Some(slot) => slot.chain = chain,
            None => *self.buckets.get_mut(bucket)? = chain,
        }
        *self.slots.get_mut(index(at))? = Slot { entry: None, chain: self.free, older: NONE, newer: NONE };
        self.free = at;
        self.len = self.len.saturating_sub(1);
        Some(entry)
    }

    /// A packet at `now`, not before any other time here, that leaves the flow in `state`. The second one in a
    /// millisecond changes nothing, so that it costs nothing.
    pub(super) fn touch(&mut self, at: u32, state: FlowState, now: u64) {
        let Some(entry) = self.get_mut(at) else { return };
        let before = entry.state;
        if (before, entry.seen) == (state, now) {
            return;
        }
        (entry.state, entry.seen) = (state, now);
        self.unlink(at, before);
        self.link(at, state);
    }

    /// The flow in `state` that waits longest.
    pub(super) fn oldest(&self, state: FlowState) -> Option<(u32, &Entry)> {
        let at = self.lists.get(state.index())?.oldest;
        Some((at, self.get(at)?))
    }

    fn bucket(&self, tuple: &Tuple) -> usize {
        let mask = self.buckets.len().wrapping_sub(1);
        usize::try_from(self.hasher.hash_one(tuple) & u64::try_from(mask).unwrap_or(0)).unwrap_or(0)
    }

    /// Puts `at` at the new end of the list of `state`.
    fn link(&mut self, at: u32, state: FlowState) {
        let Some(list) = self.lists.get_mut(state.index()) else { return };
        let older = core::mem::replace(&mut list.newest, at);
        if older == NONE {
            list.oldest = at;
        }
        if let Some(slot) = self.slots.get_mut(index(older)) {
            slot.newer = at;
        }
        if let Some(slot) = self.slots.get_mut(index(at)) {
            (slot.older, slot.newer) = (older, NONE);
        }
    }

    fn unlink(&mut self, at: u32, state: FlowState) {
        let Some(&Slot { older, newer, .. }) = self.slots.get(index(at)) else { return };
        let Some(list) = self.lists.get_mut(state.index()) else { return };
        match self.slots.get_mut(index(older)) {
            Some(slot) => slot.newer = newer,
            None => list.oldest = newer,
        }
        match self.slots.get_mut(index(newer)) {
            Some(slot) => slot.older = older,
            None => list.newest = older,
        }
    }
}
