//! Programs: from two classes to an L4 table.

use alloc::sync::Arc;

use portcullis_core::ir::{Body, Id, Program};
use portcullis_core::net::IpVersion;

/// Both bodies of a lowered program: one cache line.
#[derive(Clone, Debug, Default)]
#[repr(align(64))]
pub(crate) struct Programs {
    v4: Lowered,
    v6: Lowered,
}

/// A lowered body. Vacant when it has no cells.
#[derive(Clone, Debug)]
pub(crate) struct Lowered {
    cells: Arc<[u32]>,
    /// The projection of the side that is looked at, or of the source when both are.
    projection: u32,
    /// The projection of the destination when both are looked at.
    projection_across: u32,
    columns: u32,
    looks: Looks,
    /// Whether one side is looked at, and whether it is the source: flags of their own need no jump table.
    looks_at_one: bool,
    looks_at_source: bool,
}

/// Which addresses a body looks at. A side with a single row is not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Looks {
    Source,
    Destination,
    Both,
    Neither,
}

impl Default for Lowered {
    fn default() -> Self {
        Self {
            cells: Arc::from([]),
            projection: 0,
            projection_across: 0,
            columns: 1,
            looks: Looks::Neither,
            looks_at_one: false,
            looks_at_source: false,
        }
    }
}

impl Programs {
    pub(crate) fn lower(program: &Program) -> Self {
        Self { v4: Lowered::new(&program.v4), v6: Lowered::new(&program.v6) }
    }

    #[inline]
    pub(crate) const fn body(&self, version: IpVersion) -> &Lowered {
        match version {
            IpVersion::V4 => &self.v4,
            IpVersion::V6 => &self.v6,
        }
    }
}

impl Lowered {
    fn new(body: &Body) -> Self {
        let rows = body.cells.len().checked_div(usize::try_from(body.columns).unwrap_or(usize::MAX));
        let looks = match (rows, body.columns) {
            (Some(1), 1) => Looks::Neither,
            (Some(1), _) => Looks::Destination,
            (_, 1) => Looks::Source,
            _ => Looks::Both,
        };
        let side = if looks == Looks::Destination { body.destination } else { body.source };
        Self {
            cells: body.cells.iter().map(|cell| cell.number()).collect(),
            projection: side.number(),
            projection_across: body.destination.number(),
            columns: body.columns,
            looks,
            looks_at_one: matches!(looks, Looks::Source | Looks::Destination),
            looks_at_source: looks == Looks::Source,
        }
    }

    #[inline]
    pub(crate) const fn looks(&self) -> Looks {
        self.looks
    }

    /// The address that is looked at when it is one.
    #[inline(always)]
    pub(crate) const fn peer<A: Copy>(&self, source: A, destination: A) -> Option<A> {
        if !self.looks_at_one {
            None
        } else if self.looks_at_source {
            Some(source)
        } else {
            Some(destination)
        }
    }

    #[inline]
    pub(crate) const fn projection(&self) -> u32 {
        self.projection
    }

    #[inline]
    pub(crate) const fn projection_across(&self) -> u32 {
        self.projection_across
    }

    /// The table of a body that looks at one side, for a row of that side, or at none, for 0.
    #[inline]
    pub(crate) fn cell(&self, row: u32) -> Option<u32> {
        self.cells.get(usize::try_from(row).ok()?).copied()
    }

    /// The table at a row and a column.
    #[inline]
    pub(crate) fn cell_of_both(&self, row: u32, column: u32) -> Option<u32> {
        if column >= self.columns {
            return None;
        }
        self.cell(row.checked_mul(self.columns)?.checked_add(column)?)
    }
}
