//! Projections: from a class to a row, which is an index into a matrix of cells.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use portcullis_core::ir::{Id, Projection, ProjectionChange};

use crate::cow_vec::index;

/// A lowered projection: an array over a window of classes when that is cheap, else a small hash table. Every class
/// outside is on row 0.
#[derive(Clone, Debug, Default)]
pub(crate) struct RowMap(Form);

#[derive(Clone, Debug, Default)]
enum Form {
    /// No projection has this id.
    #[default]
    Vacant,
    Narrow(Window<u8>),
    Wide(Window<u16>),
    /// Open addressing, at most half full: `class << 32 | row`, 0 when vacant. The length is a power of two.
    Sparse(Arc<[u64]>),
}

/// The rows of the classes from `base`.
#[derive(Clone, Debug)]
struct Window<R> {
    base: u32,
    /// Number of classes on a row other than 0.
    listed: u32,
    rows: Arc<[R]>,
}

trait Row: Copy + Default + PartialEq + TryFrom<u32> {
    fn number(self) -> u32;
}

impl Row for u8 {
    #[inline]
    fn number(self) -> u32 {
        u32::from(self)
    }
}

impl Row for u16 {
    #[inline]
    fn number(self) -> u32 {
        u32::from(self)
    }
}

impl<R: Row> Window<R> {
    /// From classes in order. `None` when an array would be too large, or a row does not fit.
    fn new(entries: &[(u32, u32)]) -> Option<Self> {
        let base = entries.first().map_or(0, |(class, _)| *class);
        let window = entries.last().map_or(0, |(last, _)| index(last.saturating_sub(base)).saturating_add(1));
        let listed = u32::try_from(entries.len()).ok()?;
        if !is_cheap::<R>(window, entries.len()) {
            return None;
        }
        let mut rows = vec![R::default(); window];
        for (class, row) in entries {
            *rows.get_mut(index(class.wrapping_sub(base)))? = R::try_from(*row).ok()?;
        }
        Some(Self { base, listed, rows: rows.into() })
    }

    #[inline(always)]
    fn row(&self, class: u32) -> u32 {
        self.rows.get(index(class.wrapping_sub(self.base))).map_or(0, |row| row.number())
    }

    /// Whether the change could be made in the window or behind it. If not, part of it may have been made.
    fn change(&mut self, change: &ProjectionChange) -> bool {
        let last = change.set.last().and_then(|(class, _)| class.number().checked_sub(self.base));
        let window = last.map_or(0, |last| index(last).saturating_add(1));
        if window > self.rows.len() {
            if !is_cheap::<R>(window, index(self.listed)) {
                return false;
            }
            // With room for the next classes, which have the next numbers.
            let mut rows = Vec::with_capacity(window.next_multiple_of(64));
            rows.extend_from_slice(&self.rows);
            rows.resize(window.next_multiple_of(64), R::default());
            self.rows = rows.into();
        }
        let rows = Arc::make_mut(&mut self.rows);
        change.set.iter().all(|(class, row)| {
            let at = class.number().checked_sub(self.base).map(index);
            let (Some(slot), Ok(row)) = (at.and_then(|at| rows.get_mut(at)), R::try_from(*row)) else {
                return false;
            };
            let listed = |row: R| u32::from(row != R::default());
            self.listed = self.listed.saturating_sub(listed(*slot)).saturating_add(listed(row));
            *slot = row;
            true
        })
    }

    fn entries(&self) -> Vec<(u32, u32)> {
        let rows = (self.base..).zip(self.rows.iter());
        rows.map(|(class, row)| (class, row.number())).filter(|(_, row)| *row != 0).collect()
    }
}

/// A hash table takes 16 to 32 bytes an entry; an array is quicker, so it may be larger.
fn is_cheap<R>(window: usize, listed: usize) -> bool {
    window.saturating_mul(size_of::<R>()) <= listed.saturating_mul(64).max(256)
}

impl RowMap {
    pub(crate) fn lower(projection: &Projection) -> Self {
        Self::from_entries(&projection.row_of.iter().map(|(c, r)| (c.number(), *r)).collect::<Vec<_>>())
    }

    /// From classes in order, each with its row.
    fn from_entries(entries: &[(u32, u32)]) -> Self {
        let narrow = || Window::new(entries).map(Form::Narrow);
        let wide = || Window::new(entries).map(Form::Wide);
        Self(narrow().or_else(wide).unwrap_or_else(|| Form::Sparse(sparse(entries))))
    }

    pub(crate) const fn is_vacant(&self) -> bool {
        matches!(self.0, Form::Vacant)
    }

    /// The row of `class`; [`NO_ROW`] when there is no such projection.
    #[inline(always)]
    pub(crate) fn row(&self, class: u32) -> u32 {
        match &self.0 {
            Form::Narrow(window) => window.row(class),
            Form::Wide(window) => window.row(class),
            _ => self.row_elsewhere(class),
        }
    }

    /// Apart, so that the compiler compares twice instead of jumping through a table.
    #[inline(never)]
    fn row_elsewhere(&self, class: u32) -> u32 {
        match &self.0 {
            Form::Sparse(slots) => find(slots, class),
            _ => NO_ROW,
        }
    }

    pub(crate) fn change(&mut self, change: &ProjectionChange) {
        let done = match &mut self.0 {
            Form::Narrow(window) => window.change(change),
            Form::Wide(window) => window.change(change),
            Form::Sparse(_) => change.set.is_empty(),
            Form::Vacant => false,
        };
        if done {
            return;
        }
        let changed = |class: u32| change.set.binary_search_by_key(&class, |(c, _)| c.number()).is_ok();
        let mut entries: Vec<_> = self.entries().into_iter().filter(|(class, _)| !changed(*class)).collect();
        entries.extend(change.set.iter().filter(|(_, row)| *row != 0).map(|(c, row)| (c.number(), *row)));
        entries.sort_unstable();
        *self = Self::from_entries(&entries);
    }

    fn entries(&self) -> Vec<(u32, u32)> {
        match &self.0 {
            Form::Vacant => Vec::new(),
            Form::Narrow(window) => window.entries(),
            Form::Wide(window) => window.entries(),
            Form::Sparse(slots) => {
                slots.iter().filter(|slot| **slot != 0).map(|slot| halves(*slot)).collect()
            }
        }
    }
}

/// Beyond every matrix of cells.
pub(crate) const NO_ROW: u32 = u32::MAX;

fn sparse(entries: &[(u32, u32)]) -> Arc<[u64]> {
    let len = entries.len().saturating_mul(2).next_power_of_two();
    let mut slots = vec![0u64; len];
    for (class, row) in entries {
        let mut at = home(*class, len);
        while slots.get(at).is_some_and(|slot| *slot != 0) {
            at = at.wrapping_add(1) & len.wrapping_sub(1);
        }
        if let Some(slot) = slots.get_mut(at) {
            *slot = u64::from(*class).wrapping_shl(32) | u64::from(*row);
        }
    }
    slots.into()
}

#[inline]
fn find(slots: &[u64], class: u32) -> u32 {
    let mut at = home(class, slots.len());
    // At most half of the slots are taken, so a vacant one ends the search.
    while let Some(slot) = slots.get(at) {
        let (found, row) = halves(*slot);
        if *slot == 0 || found == class {
            return row;
        }
        at = at.wrapping_add(1) & slots.len().wrapping_sub(1);
    }
    0
}

#[inline]
fn home(class: u32, len: usize) -> usize {
    index(class.wrapping_mul(0x9E37_79B9).rotate_left(16)) & len.wrapping_sub(1)
}

#[inline]
fn halves(slot: u64) -> (u32, u32) {
    let low = u32::try_from(slot & 0xFFFF_FFFF).unwrap_or(u32::MAX);
    let high = u32::try_from(slot.wrapping_shr(32)).unwrap_or(u32::MAX);
    (high, low)
}
