//! Numbers that are used again once those who knew their old meaning are gone.

use alloc::vec::Vec;

use crate::ir::Id;

/// Gives out ids, the lowest free one first where many are free.
///
/// An id that comes back rests for the commit that freed it and for the next one: a dataplane may still look at the old meaning
/// while it takes in the new one (`reference/nftables-layouts.md` of the design notes, section 5).
#[derive(Debug)]
pub(super) struct FreeIds<I> {
    next: u32,
    free: Vec<I>,
    resting: [Vec<I>; 2],
}

impl<I: Id> FreeIds<I> {
    pub(super) const fn new() -> Self {
        Self { next: 0, free: Vec::new(), resting: [Vec::new(), Vec::new()] }
    }

    pub(super) fn take(&mut self) -> I {
        self.free.pop().unwrap_or_else(|| {
            let id = I::new(self.next);
            self.next = self.next.saturating_add(1);
            id
        })
    }

    pub(super) fn give_back(&mut self, id: I) {
        self.resting[0].push(id);
    }

    /// Ends a commit: ids that came back in the one before it become available.
    pub(super) fn end_commit(&mut self) {
        let [new, old] = &mut self.resting;
        if !old.is_empty() {
            old.sort_unstable_by(|a, b| b.cmp(a));
            self.free.append(old);
        }
        core::mem::swap(new, old);
    }

    /// How many were ever given out: the length of a table that they index.
    pub(super) const fn bound(&self) -> u32 {
        self.next
    }
}
