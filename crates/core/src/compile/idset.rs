//! Small sorted sets of ids.

use alloc::vec::Vec;

use smallvec::SmallVec;

/// A set as a sorted list. Most sets here have a few members, and large ones grow at their end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IdSet<I>(SmallVec<[I; INLINE]>);

impl<I> Default for IdSet<I> {
    fn default() -> Self {
        Self(SmallVec::new())
    }
}

impl<I: Copy + Ord> IdSet<I> {
    pub(super) fn from_unsorted(mut ids: Vec<I>) -> Self {
        ids.sort_unstable();
        ids.dedup();
        Self(ids.into_iter().collect())
    }

    pub(super) fn insert(&mut self, id: I) {
        if self.0.last().is_none_or(|last| *last < id) {
            self.0.push(id);
        } else if let Err(at) = self.0.binary_search(&id) {
            self.0.insert(at, id);
        }
    }

    pub(super) fn remove(&mut self, id: I) {
        if let Ok(at) = self.0.binary_search(&id) {
            self.0.remove(at);
        }
    }

    pub(super) fn contains(&self, id: I) -> bool {
        self.0.binary_search(&id).is_ok()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn as_slice(&self) -> &[I] {
        &self.0
    }
}

/// Members that need no allocation: four ids take the room of a pointer and a capacity.
const INLINE: usize = 4;
