//! What one commit changes of the programs.

use alloc::vec::Vec;

use crate::ir::{ClassId, Program, ProgramId, ProjectionId};
use crate::net::IpVersion;

/// What changed in one commit, for the snapshot.
#[derive(Debug, Default)]
pub(super) struct ProgramChanges {
    /// New rows of classes; of two for one class the later holds.
    pub(super) rows: Vec<(ProjectionId, ClassId, u32)>,
    /// New projections.
    pub(super) projections: Vec<ProjectionId>,
    pub(super) projections_gone: Vec<ProjectionId>,
    /// By id.
    pub(super) programs: Vec<(ProgramId, Program)>,
    /// By id.
    pub(super) programs_gone: Vec<ProgramId>,
}

/// [`IpVersion`] as an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub(super) const fn version(self) -> IpVersion {
        match self {
            Self::V4 => IpVersion::V4,
            Self::V6 => IpVersion::V6,
        }
    }
}
