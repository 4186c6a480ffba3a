//! Interning under stable ids.

use alloc::vec::Vec;
use core::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::compile::free_ids::FreeIds;
use crate::ir::{Arena, Id};

/// Gives equal values one id and counts who uses it.
///
/// Ids of entries that are gone are used again as [`FreeIds`] says.
#[derive(Debug)]
pub(super) struct Interner<I: Id, T> {
    entries: Arena<I, T>,
    refs: Vec<u32>,
    /// Ids with the hashes of their entries: growing never looks at an entry.
    index: HashTable<(u64, I)>,
    hasher: DefaultHashBuilder,
    unused: Vec<I>,
    ids: FreeIds<I>,
    created: Vec<I>,
}

impl<I: Id, T: Eq + Hash + Clone> Interner<I, T> {
    /// As [`Interner::acquire`]; copies `value` only when it is new.
    pub(super) fn acquire_ref(&mut self, value: &T) -> (I, Fresh) {
        let hash = self.hasher.hash_one(value);
        match self.find_hashed(hash, value) {
            Some(id) => {
                self.retain(id);
                (id, Fresh::No)
            }
            None => (self.insert(hash, value.clone()), Fresh::Yes),
        }
    }
}

impl<I: Id, T: Eq + Hash> Interner<I, T> {
    pub(super) fn new() -> Self {
        Self {
            entries: Arena::new(),
            refs: Vec::new(),
            index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            unused: Vec::new(),
            ids: FreeIds::new(),
            created: Vec::new(),
        }
    }

    /// The id of `value`, with one user more, and whether it is new.
    pub(super) fn acquire(&mut self, value: T) -> (I, Fresh) {
        let hash = self.hasher.hash_one(&value);
        if let Some(id) = self.find_hashed(hash, &value) {
            self.retain(id);
            return (id, Fresh::No);
        }
        (self.insert(hash, value), Fresh::Yes)
    }

    fn find_hashed(&self, hash: u64, value: &T) -> Option<I> {
        let same = |(other, id): &(u64, I)| *other == hash && self.entries.lookup(*id) == Some(value);
        self.index.find(hash, same).map(|(_, id)| *id)
    }

    fn insert(&mut self, hash: u64, value: T) -> I {
        let id = self.ids.take();
        self.entries.put(id, value);
        let slot = index(id);
        if slot >= self.refs.len() {
            self.refs.resize(slot.saturating_add(1), 0);
        }
        if let Some(refs) = self.refs.get_mut(slot) {
            *refs = 1;
        }
        self.index.insert_unique(hash, (hash, id), |(hash, _)| *hash);
        self.created.push(id);
        id
    }

    /// One user more.
    pub(super) fn retain(&mut self, id: I) {
        if let Some(refs) = self.refs.get_mut(index(id)) {
            *refs = refs.saturating_add(1);
        }
    }

    /// One user less. The entry stays until [`Interner::sweep`].
    pub(super) fn release(&mut self, id: I) {
        if let Some(refs) = self.refs.get_mut(index(id)) {
            *refs = refs.saturating_sub(1);
            if *refs == 0 {
                self.unused.push(id);
            }
        }
    }

    /// Takes out every entry that nobody uses, and returns them in id order.
    pub(super) fn sweep(&mut self) -> Vec<(I, T)> {
        if self.unused.is_empty() {
            return Vec::new();
        }
        let mut unused = core::mem::take(&mut self.unused);
        unused.sort_unstable();
        unused.dedup();
        let mut gone = Vec::new();
        for id in unused {
            if self.refs.get(index(id)) != Some(&0) {
                continue;
            }
            let Some(value) = self.entries.take(id) else { continue };
            let hash = self.hasher.hash_one(&value);
            if let Ok(entry) = self.index.find_entry(hash, |(_, other)| *other == id) {
                entry.remove();
            }
            self.ids.give_back(id);
            gone.push((id, value));
        }
        if !gone.is_empty() {
            let entries = &self.entries;
            self.created.retain(|id| entries.lookup(*id).is_some());
        }
        gone
    }

    /// The id of `value`, if it has one.
    pub(super) fn find(&self, value: &T) -> Option<I> {
        let hash = self.hasher.hash_one(value);
        self.find_hashed(hash, value)
    }

    pub(super) fn lookup(&self, id: I) -> Option<&T> {
        self.entries.lookup(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (I, &T)> {
        self.entries.iter()
    }

    /// Ids created since the last call that still exist, in id order.
    pub(super) fn take_created(&mut self) -> Vec<I> {
        if self.created.is_empty() {
            return Vec::new();
        }
        let mut created = core::mem::take(&mut self.created);
        created.sort_unstable();
        created.dedup();
        created
    }

    /// Ends a commit: ids freed in the one before it become available.
    pub(super) fn end_commit(&mut self) {
        self.ids.end_commit();
        self.created.clear();
    }

    /// How many entries there are, and how many ids were ever given out at most.
    pub(super) const fn slots(&self) -> (usize, u32) {
        (self.entries.len(), self.ids.bound())
    }
}

/// Whether an id was made by this call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fresh {
    Yes,
    No,
}

fn index(id: impl Id) -> usize {
    usize::try_from(id.number()).unwrap_or(usize::MAX)
}
