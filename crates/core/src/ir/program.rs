//! Programs: from two classes to an L4 table.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::ir::{ClassId, L4TableId, ProjectionId};
use crate::net::IpVersion;

/// A function from classes to rows: two classes on one row look the same to the programs that use it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Projection {
    /// Number of rows; at least 1. Every row is below it.
    pub rows: u32,
    /// Classes on a row other than 0. Every class that is not listed is on row 0.
    pub row_of: BTreeMap<ClassId, u32>,
}

impl Projection {
    /// The projection that puts every class on row 0.
    #[must_use]
    pub const fn trivial() -> Self {
        Self { rows: 1, row_of: BTreeMap::new() }
    }

    /// The row of `class`.
    #[must_use]
    pub fn row(&self, class: ClassId) -> u32 {
        self.row_of.get(&class).copied().unwrap_or(0)
    }

    /// Puts classes on other rows.
    pub(super) fn set_rows(&mut self, rows: impl Iterator<Item = (ClassId, u32)>) {
        for (class, row) in rows {
            if row == 0 {
                self.row_of.remove(&class);
            } else {
                self.row_of.insert(class, row);
            }
        }
    }
}

/// What one hook says for all packets: one body for each address family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Program {
    /// For IPv4 packets.
    pub v4: Body,
    /// For IPv6 packets.
    pub v6: Body,
}

impl Program {
    /// The body for packets of `version`.
    #[must_use]
    pub const fn body(&self, version: IpVersion) -> &Body {
        match version {
            IpVersion::V4 => &self.v4,
            IpVersion::V6 => &self.v6,
        }
    }
}

/// A matrix of L4 tables over the rows of two projections.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Body {
    /// Projects the class of the source address.
    pub source: ProjectionId,
    /// Projects the class of the destination address.
    pub destination: ProjectionId,
    /// Number of columns: the rows of the destination projection.
    pub columns: u32,
    /// The cells, row by row: that of source row `s` and destination row `d` is at `s * columns + d`.
    pub cells: Vec<L4TableId>,
}

impl Body {
    /// The cell of source row `source` and destination row `destination`.
    #[must_use]
    pub fn cell(&self, source: u32, destination: u32) -> Option<L4TableId> {
        let index =
            u64::from(source).checked_mul(u64::from(self.columns))?.checked_add(u64::from(destination))?;
        if destination >= self.columns {
            return None;
        }
        self.cells.get(usize::try_from(index).ok()?).copied()
    }
}
