//! Programs: from two classes to an L4 table.

use alloc::sync::Arc;

use portcullis_core::ir::{Body, Id, Program};
use portcullis_core::net::IpVersion;

/// Both bodies of a lowered program.
#[derive(Clone, Debug, Default)]
pub(crate) struct Programs(Option<(Lowered, Lowered)>);

/// A lowered body. A side with a single row is not looked at.
#[derive(Clone, Debug)]
pub(crate) struct Lowered {
    /// The projection of the source class, unless there is a single row.
    pub(crate) source: Option<u32>,
    /// The projection of the destination class, unless there is a single column.
    pub(crate) destination: Option<u32>,
    columns: u32,
    cells: Cells,
}

#[derive(Clone, Debug)]
enum Cells {
    /// Cells that are not there name no table.
    Few([u32; 8]),
    Many(Arc<[u32]>),
}

impl Programs {
    pub(crate) fn lower(program: &Program) -> Self {
        Self(Some((Lowered::new(&program.v4), Lowered::new(&program.v6))))
    }

    #[inline]
    pub(crate) fn body(&self, version: IpVersion) -> Option<&Lowered> {
        let (v4, v6) = self.0.as_ref()?;
        Some(match version {
            IpVersion::V4 => v4,
            IpVersion::V6 => v6,
        })
    }
}

impl Lowered {
    fn new(body: &Body) -> Self {
        let columns = usize::try_from(body.columns).unwrap_or(usize::MAX);
        let cells = if body.cells.len() <= 8 {
            let mut few = [u32::MAX; 8];
            few.iter_mut().zip(&body.cells).for_each(|(slot, cell)| *slot = cell.number());
            Cells::Few(few)
        } else {
            Cells::Many(body.cells.iter().map(|cell| cell.number()).collect())
        };
        Self {
            source: (body.cells.len() > columns).then_some(body.source.number()),
            destination: (columns > 1).then_some(body.destination.number()),
            columns: body.columns,
            cells,
        }
    }

    #[inline]
    pub(crate) fn cell(&self, row: u32, column: u32) -> Option<u32> {
        if column >= self.columns {
            return None;
        }
        let at = row.checked_mul(self.columns)?.checked_add(column)?;
        let at = usize::try_from(at).ok()?;
        match &self.cells {
            Cells::Few(cells) => cells.get(at).copied(),
            Cells::Many(cells) => cells.get(at).copied(),
        }
    }
}
