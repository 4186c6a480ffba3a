//! How many events were lost: those that packets asked for, less those that came.

use alloc::collections::BTreeMap;

/// Counts since a load. A packet that asks is counted by the table, whatever becomes of its event after that.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventCounts {
    /// How many packets asked.
    pub(crate) all: u64,
    /// The same by the name of their interface, as far as the table tells it.
    pub(crate) by_interface: BTreeMap<String, u64>,
}

/// Events that came, by the index of their interface.
#[derive(Clone, Debug, Default)]
pub(crate) struct Came {
    all: u64,
    by_interface: BTreeMap<u32, u64>,
}

impl Came {
    /// One more, whose packet came in or goes out by this interface.
    pub(crate) fn one(&mut self, interface: Option<u32>) {
        self.all = self.all.saturating_add(1);
        if let Some(interface) = interface {
            let count = self.by_interface.entry(interface).or_default();
            *count = count.saturating_add(1);
        }
    }
}

/// What is known of events since the last load.
#[derive(Clone, Debug, Default)]
pub(crate) struct LostEvents {
    before: EventCounts,
    /// What was not read yet at that load.
    unread: Came,
    /// What was told since.
    pub(crate) told: Came,
    /// The last answer, for when the kernel cannot be asked.
    last: u64,
}

impl LostEvents {
    /// Counts from here on. What is `unread` belongs to `before`.
    pub(crate) fn begin(before: EventCounts, unread: Came) -> Self {
        Self { before, unread, ..Self::default() }
    }

    /// Those lost at least. `waiting` came and was not told yet.
    pub(crate) fn all(&mut self, asked: u64, waiting: &Came) -> u64 {
        let expected = asked.saturating_sub(self.before.all).saturating_add(self.unread.all);
        self.last = self.last.max(expected.saturating_sub(self.told.all).saturating_sub(waiting.all));
        self.last
    }

    /// The last answer of [`LostEvents::all`].
    pub(crate) const fn last(&self) -> u64 {
        self.last
    }

    /// Those lost at least of the interface with this name and index.
    pub(crate) fn at(&self, name: &str, index: u32, asked: u64, waiting: &Came) -> u64 {
        // The table forgets an interface that asked for nothing in a long time, and begins again.
        let before =
            self.before.by_interface.get(name).copied().filter(|before| *before <= asked).unwrap_or(0);
        let came = |came: &Came| came.by_interface.get(&index).copied().unwrap_or(0);
        let expected = asked.saturating_sub(before).saturating_add(came(&self.unread));
        expected.saturating_sub(came(&self.told)).saturating_sub(came(waiting))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn came(interfaces: &[Option<u32>]) -> Came {
        let mut came = Came::default();
        interfaces.iter().for_each(|interface| came.one(*interface));
        came
    }

    #[test]
    fn what_was_asked_for_and_did_not_come_is_lost() {
        let asked = |all, a, b| EventCounts { all, by_interface: [("a".into(), a), ("b".into(), b)].into() };
        let mut lost = LostEvents::begin(asked(10, 6, 4), came(&[Some(1)]));
        assert_eq!(lost.all(10, &came(&[Some(1)])), 0);
        lost.told = came(&[Some(1), Some(1), Some(2), None]);
        // One is unread from before, and five asked since: four were told, one waits, and one is gone.
        assert_eq!(lost.all(15, &came(&[Some(2)])), 1);
        assert_eq!(lost.at("a", 1, 9, &came(&[])), 2);
        assert_eq!(lost.at("b", 2, 5, &came(&[Some(2)])), 0);
        // It began again.
        assert_eq!(lost.at("b", 2, 3, &came(&[])), 2);
        assert_eq!(lost.all(15, &came(&[Some(2), Some(2)])), 1, "what was lost is not found again");
    }
}
