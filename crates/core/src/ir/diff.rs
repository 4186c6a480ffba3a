//! The difference between two snapshots, by comparing everything.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::ir::{Arena, Delta, Id, Projection, ProjectionChange, Snapshot};

impl Snapshot {
    /// The delta that leads from this snapshot to `new`: applied to this one it gives `new`.
    ///
    /// Compares every entry. The compiler knows which entries it touched and is faster; this defines the result.
    pub fn diff(&self, new: &Self) -> Delta {
        let projections = arena(&self.projections, &new.projections)
            .into_iter()
            .map(|(id, projection)| {
                let old = self.projections.lookup(id);
                (id, projection.map(|projection| projection_change(old, projection)))
            })
            .collect();
        Delta {
            from: self.generation,
            to: new.generation,
            decisions: owned(arena(&self.decisions, &new.decisions)),
            l7: owned(arena(&self.l7, &new.l7)),
            tables: owned(arena(&self.tables, &new.tables)),
            projections,
            programs: owned(arena(&self.programs, &new.programs)),
            addresses: map(&self.addresses, &new.addresses),
            endpoints: map(&self.endpoints, &new.endpoints),
            identities: map(&self.identities, &new.identities),
        }
    }
}

fn projection_change(old: Option<&Projection>, new: &Projection) -> ProjectionChange {
    let trivial = Projection::trivial();
    let set = map(&old.unwrap_or(&trivial).row_of, &new.row_of);
    ProjectionChange {
        rows: new.rows,
        set: set.into_iter().map(|(class, row)| (class, row.unwrap_or(0))).collect(),
    }
}

fn arena<'a, I: Id, T: PartialEq>(old: &Arena<I, T>, new: &'a Arena<I, T>) -> Vec<(I, Option<&'a T>)> {
    (0..old.bound().max(new.bound()))
        .map(I::new)
        .map(|id| (id, old.lookup(id), new.lookup(id)))
        .filter(|(_, old, new)| old != new)
        .map(|(id, _, new)| (id, new))
        .collect()
}

fn owned<I, T: Clone>(changes: Vec<(I, Option<&T>)>) -> Vec<(I, Option<T>)> {
    changes.into_iter().map(|(id, entry)| (id, entry.cloned())).collect()
}

fn map<K: Ord + Clone, V: PartialEq + Clone>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
) -> Vec<(K, Option<V>)> {
    let gone = old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), None));
    let set = new.iter().filter(|(key, value)| old.get(*key) != Some(*value));
    let mut changes: Vec<_> =
        gone.chain(set.map(|(key, value)| (key.clone(), Some(value.clone())))).collect();
    changes.sort_by(|(a, _), (b, _)| a.cmp(b));
    changes
}
