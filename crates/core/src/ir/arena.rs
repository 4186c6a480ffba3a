//! Ids, and the tables they index.

use alloc::vec::Vec;
use core::fmt;
use core::hash::Hash;
use core::marker::PhantomData;

/// An index into an [`Arena`] of its own.
pub trait Id: Copy + Ord + Hash + fmt::Debug + fmt::Display {
    /// The id with this number.
    fn new(number: u32) -> Self;
    /// The number.
    fn number(self) -> u32;
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident $letter:literal),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
        pub struct $name(u32);

        impl Id for $name {
            fn new(number: u32) -> Self {
                Self(number)
            }
            fn number(self) -> u32 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($letter, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}

ids! {
    /// A class of addresses that no rule can tell apart. Printed `c7`.
    ClassId "c",
    /// A [`Projection`](super::Projection). Printed `j7`.
    ProjectionId "j",
    /// A [`Program`](super::Program). Printed `p7`.
    ProgramId "p",
    /// An [`L4Table`](super::L4Table). Printed `t7`.
    L4TableId "t",
    /// A [`DecisionEntry`](super::DecisionEntry). Printed `d7`.
    DecisionId "d",
    /// An [`L7Program`](super::L7Program). Printed `l7`.
    L7ProgramId "l",
}

impl ClassId {
    /// The class of every address that no prefix covers: nothing selects it.
    pub const UNKNOWN: Self = Self(0);
}

/// A table indexed by an id. Slots can be vacant: ids stay stable while others come and go.
#[derive(Clone)]
pub struct Arena<I, T> {
    slots: Vec<Option<T>>,
    len: usize,
    ids: PhantomData<fn(I) -> I>,
}

impl<I: Id, T> Arena<I, T> {
    /// A table without entries.
    #[must_use]
    pub const fn new() -> Self {
        Self { slots: Vec::new(), len: 0, ids: PhantomData }
    }

    /// The entry of `id`.
    #[must_use]
    pub fn lookup(&self, id: I) -> Option<&T> {
        self.slots.get(slot(id))?.as_ref()
    }

    /// The entry of `id`, to be changed.
    #[must_use]
    pub fn lookup_mut(&mut self, id: I) -> Option<&mut T> {
        self.slots.get_mut(slot(id))?.as_mut()
    }

    /// Puts `entry` at `id` and returns what was there. Grows the table as far as needed.
    pub fn put(&mut self, id: I, entry: T) -> Option<T> {
        let index = slot(id);
        if index >= self.slots.len() {
            self.slots.resize_with(index.saturating_add(1), || None);
        }
        let old = self.slots.get_mut(index).and_then(|slot| slot.replace(entry));
        if old.is_none() {
            self.len = self.len.saturating_add(1);
        }
        old
    }

    /// Takes the entry of `id` out.
    pub fn take(&mut self, id: I) -> Option<T> {
        let old = self.slots.get_mut(slot(id)).and_then(Option::take);
        if old.is_some() {
            self.len = self.len.saturating_sub(1);
        }
        old
    }

    /// All entries in id order.
    pub fn iter(&self) -> impl Iterator<Item = (I, &T)> {
        (0u32..).zip(&self.slots).filter_map(|(number, slot)| Some((I::new(number), slot.as_ref()?)))
    }

    /// Number of entries.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One more than the highest id ever used: the size a backend needs for a flat copy.
    #[must_use]
    pub fn bound(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }
}

fn slot(id: impl Id) -> usize {
    usize::try_from(id.number()).unwrap_or(usize::MAX)
}

impl<I: Id, T> Default for Arena<I, T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<I: Id, T: PartialEq> PartialEq for Arena<I, T> {
    /// Equal entries under equal ids; vacant slots at the end do not count.
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<I: Id, T: Eq> Eq for Arena<I, T> {}

impl<I: Id, T: fmt::Debug> fmt::Debug for Arena<I, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}
