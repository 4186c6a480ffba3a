//! Deltas are applied to snapshots.

use alloc::collections::BTreeMap;

use crate::ir::before::ProjectionBefore;
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
        let mut images = (!before.is_complete).then_some(&mut before);
        put_all(&mut self.decisions, &delta.decisions, images.as_mut().map(|images| &mut images.decisions));
        put_all(&mut self.l7, &delta.l7, images.as_mut().map(|images| &mut images.l7));
        put_all(&mut self.tables, &delta.tables, images.as_mut().map(|images| &mut images.tables));
        put_all(&mut self.programs, &delta.programs, images.as_mut().map(|images| &mut images.programs));
        for (id, change) in &delta.projections {
            let image = self.change_projection(*id, change.as_ref());
            if let Some(images) = &mut images {
                images.projections.entry(*id).or_insert(image);
            }
        }
        set_all(&mut self.addresses, &delta.addresses, images.as_mut().map(|images| &mut images.addresses));
        set_all(&mut self.endpoints, &delta.endpoints, images.as_mut().map(|images| &mut images.endpoints));
        set_all(
            &mut self.identities,
            &delta.identities,
            images.as_mut().map(|images| &mut images.identities),
        );
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

fn put_all<I: Id, T: Clone>(
    arena: &mut Arena<I, T>,
    changes: &[(I, Option<T>)],
    mut images: Option<&mut BTreeMap<I, Option<T>>>,
) {
    for (id, entry) in changes {
        let old = match entry {
            Some(entry) => arena.put(*id, entry.clone()),
            None => arena.take(*id),
        };
        if let Some(images) = &mut images {
            images.entry(*id).or_insert(old);
        }
    }
}

fn set_all<K: Clone + Ord, V: Clone>(
    map: &mut BTreeMap<K, V>,
    changes: &[(K, Option<V>)],
    images: Option<&mut BTreeMap<K, Option<V>>>,
) {
    if let Some(images) = images {
        images.extend(changes.iter().map(|(key, _)| (key.clone(), map.get(key).cloned())));
    }
    if changes.len() > map.len() {
        // Building a map from a sorted list is much cheaper than one insertion after the other.
        changes.iter().filter(|(_, value)| value.is_none()).for_each(|(key, _)| drop(map.remove(key)));
        let set = changes.iter().filter_map(|(key, value)| Some((key.clone(), value.clone()?)));
        map.append(&mut set.collect());
        return;
    }
    for (key, value) in changes {
        match value {
            Some(value) => drop(map.insert(key.clone(), value.clone())),
            None => drop(map.remove(key)),
        }
    }
}
