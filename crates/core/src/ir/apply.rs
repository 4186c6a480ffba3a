//! Deltas are applied to snapshots.

use alloc::collections::BTreeMap;

use crate::ir::before::ProjectionBefore;
use crate::ir::images::Images;
use crate::ir::{
    Arena, BeforeImages, Delta, DeltaError, Id, Projection, ProjectionChange, ProjectionId, Snapshot,
};

impl Snapshot {
    /// Brings the snapshot to the delta's next generation, and gives what the delta replaced.
    ///
    /// # Errors
    /// When the delta starts from another generation; the snapshot is then unchanged.
    pub fn apply(&mut self, delta: &Delta) -> Result<BeforeImages, DeltaError> {
        if self.generation != delta.from {
            return Err(DeltaError { found: self.generation, expected: delta.from });
        }
        let mut before = BeforeImages::begin(self, delta.to);
        // What is put into an empty snapshot replaces nothing.
        let keep = !before.is_complete;
        before.decisions = put_all(&mut self.decisions, &delta.decisions, keep);
        before.l7 = put_all(&mut self.l7, &delta.l7, keep);
        before.tables = put_all(&mut self.tables, &delta.tables, keep);
        before.programs = put_all(&mut self.programs, &delta.programs, keep);
        let projections = delta.projections.iter();
        let replaced = projections.map(|(id, change)| (*id, self.change_projection(*id, change.as_ref())));
        before.projections = images(replaced, keep);
        before.addresses = set_all(&mut self.addresses, &delta.addresses, keep);
        before.endpoints = set_all(&mut self.endpoints, &delta.endpoints, keep);
        before.identities = set_all(&mut self.identities, &delta.identities, keep);
        self.generation = delta.to;
        Ok(before)
    }

    fn change_projection(&mut self, id: ProjectionId, change: Option<&ProjectionChange>) -> ProjectionBefore {
        let old = self.projections.take(id);
        let Some(change) = change else {
            return old.map_or(ProjectionBefore::Absent, ProjectionBefore::Whole);
        };
        let image = match &old {
            Some(old) => ProjectionBefore::of_change(old, change.set.iter().map(|(class, _)| class)),
            None => ProjectionBefore::Absent,
        };
        let mut projection = old.unwrap_or_else(Projection::trivial);
        projection.rows = change.rows;
        projection.set_rows(change.set.iter().copied());
        self.projections.put(id, projection);
        image
    }
}

/// Makes every change, and keeps what it replaced if that is wanted.
fn images<K: Ord, T>(replaced: impl Iterator<Item = (K, T)>, keep: bool) -> Images<K, T> {
    if keep {
        return Images::from_replaced(replaced.collect());
    }
    replaced.for_each(drop);
    Images::new()
}

fn put_all<I: Id, T: Clone>(
    arena: &mut Arena<I, T>,
    changes: &[(I, Option<T>)],
    keep: bool,
) -> Images<I, Option<T>> {
    let replaced = changes.iter().map(|(id, entry)| match entry {
        Some(entry) => (*id, arena.put(*id, entry.clone())),
        None => (*id, arena.take(*id)),
    });
    images(replaced, keep)
}

fn set_all<K: Clone + Ord, V: Clone>(
    map: &mut BTreeMap<K, V>,
    changes: &[(K, Option<V>)],
    keep: bool,
) -> Images<K, Option<V>> {
    if changes.is_empty() {
        return Images::new();
    }
    if changes.len() > map.len() {
        let old = changes.iter().map(|(key, _)| (key.clone(), map.get(key).cloned()));
        let images = if keep { Images::from_replaced(old.collect()) } else { Images::new() };
        // Building a map from a sorted list is much cheaper than one insertion after the other.
        changes.iter().filter(|(_, value)| value.is_none()).for_each(|(key, _)| drop(map.remove(key)));
        let set = changes.iter().filter_map(|(key, value)| Some((key.clone(), value.clone()?)));
        map.append(&mut set.collect());
        return images;
    }
    let replaced = changes.iter().map(|(key, value)| match value {
        Some(value) => (key.clone(), map.insert(key.clone(), value.clone())),
        None => (key.clone(), map.remove(key)),
    });
    images(replaced, keep)
}
