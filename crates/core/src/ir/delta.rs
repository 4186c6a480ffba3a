//! The difference between two snapshots.

use alloc::vec::Vec;

use crate::ir::{
    ClassId, DecisionEntry, DecisionId, EndpointEntry, IdentityNamespace, L4Table, L4TableId, L7Program,
    L7ProgramId, Program, ProgramId, ProjectionId,
};
use crate::label::Name;
use crate::model::EndpointId;
use crate::net::Cidr;

/// The entries that changed, in their new form; `None` for those that are gone. Each list is sorted by key.
///
/// Applied to the snapshot it starts from, it gives the next one. A backend that wants to add before it removes
/// makes two passes over each list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "a dataplane that is not told a delta does not enforce it"]
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
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[error("the delta starts from generation {expected}, the snapshot is at {found}")]
pub struct DeltaError {
    /// The generation of the snapshot.
    pub found: u64,
    /// The generation that the delta starts from.
    pub expected: u64,
}
