//! Content of an array that is there once, however many use it.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::hash::Hash;

use hashbrown::HashMap;

/// Which slot holds which content, and how many users it has. Content in a slot never changes.
#[derive(Clone, Debug)]
pub(super) struct Interned<T> {
    slots: HashMap<Arc<T>, u32>,
    users: BTreeMap<u32, (Arc<T>, usize)>,
}

impl<T> Default for Interned<T> {
    fn default() -> Self {
        Self { slots: HashMap::new(), users: BTreeMap::new() }
    }
}

impl<T: Eq + Hash> Interned<T> {
    /// The slot with this content for one user more, if there is one.
    pub(super) fn share(&mut self, content: &T) -> Option<u32> {
        let slot = *self.slots.get(content)?;
        if let Some((_, users)) = self.users.get_mut(&slot) {
            *users = users.saturating_add(1);
        }
        Some(slot)
    }

    /// New content for its first user.
    pub(super) fn insert(&mut self, slot: u32, content: T) {
        let content = Arc::new(content);
        self.slots.insert(Arc::clone(&content), slot);
        self.users.insert(slot, (content, 1));
    }

    /// One user less; whether that was the last, and the slot is free.
    pub(super) fn release(&mut self, slot: u32) -> bool {
        let Some((content, users)) = self.users.get_mut(&slot) else { return false };
        *users = users.saturating_sub(1);
        if *users > 0 {
            return false;
        }
        self.slots.remove(content);
        self.users.remove(&slot);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_there_once_until_its_last_user_goes() {
        let mut shared = Interned::default();
        assert_eq!(shared.share(&"a"), None);
        shared.insert(7, "a");
        assert_eq!(shared.share(&"a"), Some(7));
        assert!(!shared.release(7));
        assert!(shared.release(7));
        assert_eq!(shared.share(&"a"), None);
        assert!(!shared.release(7));
    }
}
