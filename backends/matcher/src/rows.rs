//! Projections: from a class to a row.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use portcullis_core::ir::{ClassId, Id, Projection, ProjectionChange};

use crate::pages::index;

/// A lowered projection: an array over a window of classes when that is cheap, else a small hash table. Every class
/// outside is on row 0.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows(Form);

#[derive(Clone, Debug, Default)]
enum Form {
    /// No projection has this id.
    #[default]
    Vacant,
    Dense8 {
        base: u32,
        rows: Arc<[u8]>,
    },
    Dense32 {
        base: u32,
        rows: Arc<[u32]>,
    },
    /// Open addressing, at most half full: `class << 32 | row`, 0 when vacant. The length is a power of two.
    Sparse(Arc<[u64]>),
}

impl Rows {
    pub(crate) fn lower(projection: &Projection) -> Self {
        Self::from_entries(&projection.row_of.iter().map(|(c, r)| (c.number(), *r)).collect::<Vec<_>>())
    }

    /// From classes in order, each with its row.
    fn from_entries(entries: &[(u32, u32)]) -> Self {
        let (Some((base, _)), Some((last, _))) = (entries.first(), entries.last()) else {
            return Self(Form::Dense8 { base: 0, rows: Arc::from([]) });
        };
        let window = index(last.saturating_sub(*base)).saturating_add(1);
        let narrow = entries.iter().all(|(_, row)| u8::try_from(*row).is_ok());
        let bytes = if narrow { window } else { window.saturating_mul(4) };
        // A hash table takes 16 to 32 bytes an entry; an array is quicker, so it may be larger.
        if bytes > entries.len().saturating_mul(64).max(256) {
            return Self(Form::Sparse(sparse(entries)));
        }
        let mut rows = vec![0u32; window];
        for (class, row) in entries {
            if let Some(slot) = rows.get_mut(index(class.saturating_sub(*base))) {
                *slot = *row;
            }
        }
        let base = *base;
        Self(if narrow {
            Form::Dense8 {
                base,
                rows: rows.iter().map(|row| u8::try_from(*row).unwrap_or(u8::MAX)).collect(),
            }
        } else {
            Form::Dense32 { base, rows: rows.into() }
        })
    }

    pub(crate) const fn is_vacant(&self) -> bool {
        matches!(self.0, Form::Vacant)
    }

    /// The row of `class`; `None` when there is no such projection.
    #[inline]
    pub(crate) fn row(&self, class: u32) -> Option<u32> {
        Some(match &self.0 {
            Form::Dense8 { base, rows } => {
                rows.get(index(class.wrapping_sub(*base))).map_or(0, |row| u32::from(*row))
            }
            Form::Dense32 { base, rows } => rows.get(index(class.wrapping_sub(*base))).copied().unwrap_or(0),
            Form::Sparse(slots) => find(slots, class),
            Form::Vacant => return None,
        })
    }

    pub(crate) fn change(&mut self, change: &ProjectionChange) {
        if change.set.is_empty() && !self.is_vacant() {
            return;
        }
        if let Form::Dense8 { base, rows } = &mut self.0 {
            let place = |class: &ClassId, len: usize| {
                class.number().checked_sub(*base).map(index).filter(|at| *at < len)
            };
            let len = rows.len();
            let fits = change.set.iter().all(|(c, r)| place(c, len).is_some() && u8::try_from(*r).is_ok());
            if fits {
                let rows = Arc::make_mut(rows);
                for (class, row) in &change.set {
                    if let Some(slot) = place(class, len).and_then(|at| rows.get_mut(at)) {
                        *slot = u8::try_from(*row).unwrap_or(u8::MAX);
                    }
                }
                return;
            }
        }
        let changed = |class: u32| change.set.binary_search_by_key(&class, |(c, _)| c.number()).is_ok();
        let mut entries: Vec<_> = self.entries().into_iter().filter(|(class, _)| !changed(*class)).collect();
        entries.extend(change.set.iter().filter(|(_, row)| *row != 0).map(|(c, row)| (c.number(), *row)));
        entries.sort_unstable();
        *self = Self::from_entries(&entries);
    }

    fn entries(&self) -> Vec<(u32, u32)> {
        let listed = |base: u32, rows: &mut dyn Iterator<Item = u32>| -> Vec<(u32, u32)> {
            (base..).zip(rows).filter(|(_, row)| *row != 0).collect()
        };
        match &self.0 {
            Form::Vacant => Vec::new(),
            Form::Dense8 { base, rows } => listed(*base, &mut rows.iter().map(|row| u32::from(*row))),
            Form::Dense32 { base, rows } => listed(*base, &mut rows.iter().copied()),
            Form::Sparse(slots) => {
                slots.iter().filter(|slot| **slot != 0).map(|slot| halves(*slot)).collect()
            }
        }
    }
}

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
pub(crate) fn halves(slot: u64) -> (u32, u32) {
    let low = u32::try_from(slot & 0xFFFF_FFFF).unwrap_or(u32::MAX);
    let high = u32::try_from(slot.wrapping_shr(32)).unwrap_or(u32::MAX);
    (high, low)
}
