//! Refcounted of the maps that others refer to, counted.

use alloc::collections::BTreeMap;

/// Refcounted made from entries of the IR, under the slot or number that the kernel knows them by. An object never changes:
/// when its entry does, [`Refcounted::forget`] makes the next user get another one, and the old one stays for those that
/// have it.
#[derive(Clone, Debug)]
pub(crate) struct Refcounted<I, T> {
    current: BTreeMap<I, u32>,
    live: BTreeMap<u32, Object<I, T>>,
}

#[derive(Clone, Debug)]
struct Object<I, T> {
    id: I,
    users: usize,
    content: T,
}

impl<I, T> Default for Refcounted<I, T> {
    fn default() -> Self {
        Self { current: BTreeMap::new(), live: BTreeMap::new() }
    }
}

impl<I: Copy + Ord, T> Refcounted<I, T> {
    /// The object of `id` for one user more, if there is one.
    pub(crate) fn share(&mut self, id: I) -> Option<u32> {
        let slot = *self.current.get(&id)?;
        let object = self.live.get_mut(&slot)?;
        object.users = object.users.saturating_add(1);
        Some(slot)
    }

    /// A new object of `id` for its first user.
    pub(crate) fn insert(&mut self, id: I, slot: u32, content: T) {
        self.current.insert(id, slot);
        self.live.insert(slot, Object { id, users: 1, content });
    }

    /// The entry of `id` changed; whether an object was made from it.
    pub(crate) fn forget(&mut self, id: I) -> bool {
        self.current.remove(&id).is_some()
    }

    /// One user less. The content of the object when that was the last.
    pub(crate) fn release(&mut self, slot: u32) -> Option<T> {
        let object = self.live.get_mut(&slot)?;
        object.users = object.users.saturating_sub(1);
        if object.users > 0 {
            return None;
        }
        let object = self.live.remove(&slot)?;
        if self.current.get(&object.id) == Some(&slot) {
            self.current.remove(&object.id);
        }
        Some(object.content)
    }

    pub(crate) fn slot(&self, id: I) -> Option<u32> {
        self.current.get(&id).copied()
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&T> {
        Some(&self.live.get(&slot)?.content)
    }

    /// Refcounted that the next user of their id gets.
    pub(crate) fn current_mut(&mut self) -> impl Iterator<Item = (I, u32, &mut T)> {
        let current = &self.current;
        self.live.iter_mut().filter_map(|(slot, object)| {
            (current.get(&object.id) == Some(slot)).then_some((object.id, *slot, &mut object.content))
        })
    }

    /// Every object with its slot.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (I, u32, &T)> {
        self.live.iter().map(|(slot, object)| (object.id, *slot, &object.content))
    }
}
