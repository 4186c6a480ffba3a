//! The difference between two snapshots.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use crate::ir::{
    Arena, ClassId, DecisionEntry, DecisionId, EndpointEntry, Id, IdentityNamespace, L4Table, L4TableId,
    L7Program, L7ProgramId, Program, ProgramId, Projection, ProjectionId, Snapshot,
};
use crate::label::Name;
use crate::model::EndpointId;
use crate::net::Cidr;

/// The entries that changed, in their new form; `None` for those that are gone. Each list is sorted by key.
///
/// Applied to the snapshot it starts from, it gives the next one. A backend that wants to add before it removes
/// makes two passes over each list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Generation of the snapshot this starts from.
    pub from: u64,
    /// Generation of the snapshot this leads to.
    pub to: u64,
    /// Changed decisions.
    pub decisions: Vec<(DecisionId, Option<DecisionEntry>)>,
    /// Changed L7 programs.
    pub l7: Vec<(L7ProgramId, Option<L7Program>)>,
    /// Changed L4 tables.
    pub tables: Vec<(L4TableId, Option<L4Table>)>,
    /// Changed projections, row by row: one class more does not repeat the others.
    pub projections: Vec<(ProjectionId, Option<ProjectionChange>)>,
    /// Changed programs.
    pub programs: Vec<(ProgramId, Option<Program>)>,
    /// Changed prefixes.
    pub addresses: Vec<(Cidr, Option<ClassId>)>,
    /// Changed endpoints.
    pub endpoints: Vec<(EndpointId, Option<EndpointEntry>)>,
    /// Changed labels of namespaces and their service accounts.
    pub identities: Vec<(Name, Option<IdentityNamespace>)>,
}

/// The new state of a projection, as far as it differs. A projection that was not there before starts trivial.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProjectionChange {
    /// The number of rows now.
    pub rows: u32,
    /// Classes with a new row, sorted by class; row 0 for those that are no longer listed.
    pub set: Vec<(ClassId, u32)>,
}

impl Delta {
    /// Whether nothing changed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.decisions.is_empty()
            && self.l7.is_empty()
            && self.tables.is_empty()
            && self.projections.is_empty()
            && self.programs.is_empty()
            && self.addresses.is_empty()
            && self.endpoints.is_empty()
            && self.identities.is_empty()
    }
}

/// Why a delta could not be applied: it starts from another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeltaError {
    /// The generation of the snapshot.
    pub found: u64,
    /// The generation that the delta starts from.
    pub expected: u64,
}

impl fmt::Display for DeltaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the delta starts from generation {}, the snapshot is at {}", self.expected, self.found)
    }
}

impl core::error::Error for DeltaError {}

impl Snapshot {
    /// Brings the snapshot to the delta's next generation.
    ///
    /// # Errors
    /// When the delta starts from another generation; the snapshot is then unchanged.
    pub fn apply(&mut self, delta: &Delta) -> Result<(), DeltaError> {
        if self.generation != delta.from {
            return Err(DeltaError { found: self.generation, expected: delta.from });
        }
        put_all(&mut self.decisions, &delta.decisions);
        put_all(&mut self.l7, &delta.l7);
        put_all(&mut self.tables, &delta.tables);
        put_all(&mut self.programs, &delta.programs);
        for (id, change) in &delta.projections {
            match change {
                Some(change) => self.change_projection(*id, change),
                None => drop(self.projections.take(*id)),
            }
        }
        set_all(&mut self.addresses, &delta.addresses);
        set_all(&mut self.endpoints, &delta.endpoints);
        set_all(&mut self.identities, &delta.identities);
        self.generation = delta.to;
        Ok(())
    }

    fn change_projection(&mut self, id: ProjectionId, change: &ProjectionChange) {
        let mut projection = self.projections.take(id).unwrap_or_else(Projection::trivial);
        projection.rows = change.rows;
        for (class, row) in &change.set {
            if *row == 0 {
                projection.row_of.remove(class);
            } else {
                projection.row_of.insert(*class, *row);
            }
        }
        self.projections.put(id, projection);
    }
}

fn put_all<I: Id, T: Clone>(arena: &mut Arena<I, T>, changes: &[(I, Option<T>)]) {
    for (id, entry) in changes {
        match entry {
            Some(entry) => drop(arena.put(*id, entry.clone())),
            None => drop(arena.take(*id)),
        }
    }
}

fn set_all<K: Clone + Ord, V: Clone>(map: &mut BTreeMap<K, V>, changes: &[(K, Option<V>)]) {
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
