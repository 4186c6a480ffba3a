//! The state before a change, from what the change replaced.

use alloc::collections::BTreeMap;

use crate::ir::images::Images;
use crate::ir::{
    ClassId, DecisionEntry, DecisionId, DeltaError, EndpointEntry, IdentityNamespace, L4Table, L4TableId,
    L7Program, L7ProgramId, Program, ProgramId, Projection, ProjectionId, Snapshot,
};
use crate::label::Name;
use crate::model::EndpointId;
use crate::net::Cidr;

/// The entries that deltas replaced, as they were before: an undo log of a [`Snapshot`]. [`Previous`](super::Previous)
/// looks into it.
///
/// [`Snapshot::apply`] gives one for each delta. It is about as large as the delta, and takes no room when the snapshot
/// before was empty, so a first load is not kept twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BeforeImages {
    /// The generation that is remembered.
    from: u64,
    /// The generation of the snapshot beside which it is remembered.
    to: u64,
    /// Whether an entry without an image was absent before. If not, an entry without an image has not changed.
    pub(super) is_complete: bool,
    pub(super) decisions: Images<DecisionId, Option<DecisionEntry>>,
    pub(super) l7: Images<L7ProgramId, Option<L7Program>>,
    pub(super) tables: Images<L4TableId, Option<L4Table>>,
    pub(super) projections: Images<ProjectionId, ProjectionBefore>,
    pub(super) programs: Images<ProgramId, Option<Program>>,
    pub(super) addresses: Images<Cidr, Option<ClassId>>,
    pub(super) endpoints: Images<EndpointId, Option<EndpointEntry>>,
    pub(super) identities: Images<Name, Option<IdentityNamespace>>,
}

/// A projection before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ProjectionBefore {
    /// There was none of this id.
    Absent,
    /// It was this one. Another projection may have its id now.
    Whole(Projection),
    /// It still exists. It had `rows` rows and these classes on these rows (0 for classes that were not listed). All
    /// other classes have kept their rows.
    Patch { rows: u32, set: BTreeMap<ClassId, u32> },
}

impl BeforeImages {
    /// Those of a snapshot of this generation that did not change.
    #[must_use]
    pub const fn unchanged(generation: u64) -> Self {
        Self {
            from: generation,
            to: generation,
            is_complete: false,
            decisions: Images::new(),
            l7: Images::new(),
            tables: Images::new(),
            projections: Images::new(),
            programs: Images::new(),
            addresses: Images::new(),
            endpoints: Images::new(),
            identities: Images::new(),
        }
    }

    /// Those of `snapshot`, before anything of a delta to generation `to` was written down.
    pub(super) fn begin(snapshot: &Snapshot, to: u64) -> Self {
        let is_complete = snapshot.is_empty();
        Self { from: snapshot.generation, to, is_complete, ..Self::unchanged(to) }
    }

    /// The generation that is remembered.
    #[must_use]
    pub const fn from_generation(&self) -> u64 {
        self.from
    }

    /// The generation of the snapshot beside which it is remembered.
    #[must_use]
    pub const fn to_generation(&self) -> u64 {
        self.to
    }

    /// Adds what a later delta replaced, so that the state before both is remembered.
    ///
    /// # Errors
    /// When `later` does not start where these end. These are unchanged then.
    pub fn append(&mut self, later: Self) -> Result<(), DeltaError> {
        if later.from != self.to {
            return Err(DeltaError { found: self.to, expected: later.from });
        }
        self.to = later.to;
        if self.is_complete {
            return Ok(());
        }
        self.is_complete = later.is_complete;
        self.decisions.append(later.decisions, earliest);
        self.l7.append(later.l7, earliest);
        self.tables.append(later.tables, earliest);
        self.programs.append(later.programs, earliest);
        self.addresses.append(later.addresses, earliest);
        self.endpoints.append(later.endpoints, earliest);
        self.identities.append(later.identities, earliest);
        self.projections.append(later.projections, ProjectionBefore::beside);
        Ok(())
    }
}

/// The earliest image of an entry is the one that holds.
fn earliest<T>(earlier: T, _: T) -> T {
    earlier
}

impl ProjectionBefore {
    /// The image of a projection that a delta changed.
    pub(super) fn of_change<'a>(old: &Projection, changed: impl Iterator<Item = &'a ClassId>) -> Self {
        let set = changed.map(|class| (*class, old.row(*class))).collect();
        Self::Patch { rows: old.rows, set }
    }

    /// The same projection, told beside a state in which it was as `between` says.
    fn beside(self, between: Self) -> Self {
        let Self::Patch { rows, set } = self else { return self };
        match between {
            Self::Patch { set: mut both, .. } => {
                both.extend(set);
                Self::Patch { rows, set: both }
            }
            Self::Whole(projection) => Self::whole(projection, rows, &set),
            // There is nothing to patch. Both states follow each other, so this does not happen.
            Self::Absent => Self::whole(Projection::trivial(), rows, &set),
        }
    }

    fn whole(mut projection: Projection, rows: u32, set: &BTreeMap<ClassId, u32>) -> Self {
        projection.rows = rows;
        projection.set_rows(set.iter().map(|(class, row)| (*class, *row)));
        Self::Whole(projection)
    }
}
