//! Programs and everything below them: what the maps hold, and what has to be written for more.

mod interned;
mod l4_trie;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use portcullis_core::backend::{Inspected, LoggedEvents, LowerError, Usage};
use portcullis_core::ir::{
    Body, ClassId, DecisionEntry, DecisionId, Id as _, L4TableId, ProgramId, Projection, ProjectionId,
    Snapshot,
};

use crate::layout::{BLOCK_ROWS, Cells, LINE_CELLS, NO_PROJECTION, Node, Page, ProgramWords, Runs};
use crate::lower::refcounted::Refcounted;
use crate::lower::slots::Slots;
use crate::options::{Capacity, Options};
use crate::write::Write;
use interned::Interned;
use l4_trie::LoadedTable;

/// What the arrays of the program hold. Slot 0 of each denies.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    events: LoggedEvents,
    inspected: Inspected,
    classes: u32,
    arrays: Arrays,
    programs: Refcounted<ProgramId, LoadedProgram>,
    projections: Refcounted<ProjectionId, LoadedProjection>,
    tables: Refcounted<L4TableId, LoadedTable>,
    /// Tables have no slots; they are numbered.
    next_table: u32,
    decisions: Refcounted<DecisionId, (Node, Arc<DecisionEntry>)>,
    runs: Interned<Runs>,
    pages: Interned<Page>,
    writes: Vec<Write>,
}

#[derive(Clone, Debug)]
struct Arrays {
    programs: Slots,
    projections: Slots,
    cells: Slots,
    runs: Slots,
    pages: Slots,
    decisions: Slots,
}

impl Arrays {
    fn all(&mut self) -> [&mut Slots; 6] {
        let Self { programs, projections, cells, runs, pages, decisions } = self;
        [programs, projections, cells, runs, pages, decisions]
    }
}

#[derive(Clone, Debug)]
struct LoadedProgram {
    bodies: [LoadedBody; 2],
}

#[derive(Clone, Debug)]
struct LoadedBody {
    projections: [Option<(ProjectionId, u32)>; 2],
    tables: BTreeMap<L4TableId, u32>,
    /// First line and number of lines.
    lines: Option<(u32, u32)>,
    words: [u32; 4],
}

/// The row of each class. Rows of classes that no address has do not matter.
#[derive(Clone, Debug)]
struct LoadedProjection {
    rows: Arc<Vec<u16>>,
}

impl Image {
    pub(crate) fn new(options: &Options) -> Self {
        let Capacity { classes, projections, programs, cells, runs, pages, decisions, .. } = options.capacity;
        let line = u32::try_from(LINE_CELLS).unwrap_or(1);
        let lines = cells.checked_div(line).unwrap_or(0);
        Self {
            events: options.dataplane.events,
            inspected: options.dataplane.inspected,
            classes,
            arrays: Arrays {
                programs: Slots::new("programs", 1, programs),
                projections: Slots::new("projections", 0, projections),
                cells: Slots::new("cells", 0, lines).of_units(line),
                runs: Slots::new("runs", 1, runs.min(Node::MAX)),
                pages: Slots::new("pages", 1, pages.min(Node::MAX)),
                decisions: Slots::new("decisions", 1, decisions.min(Node::MAX)),
            },
            programs: Refcounted::default(),
            projections: Refcounted::default(),
            tables: Refcounted::default(),
            next_table: 0,
            decisions: Refcounted::default(),
            runs: Interned::default(),
            pages: Interned::default(),
            writes: Vec::new(),
        }
    }

    /// The writes, in order, for the entries that were made since the last call.
    pub(crate) fn take_writes(&mut self) -> Vec<Write> {
        core::mem::take(&mut self.writes)
    }

    /// The decision in a slot.
    pub(crate) fn decision(&self, slot: u32) -> Option<&Arc<DecisionEntry>> {
        Some(&self.decisions.get(slot)?.1)
    }

    /// Every decision with its slot.
    pub(crate) fn decisions(&self) -> impl Iterator<Item = (u32, &Arc<DecisionEntry>)> {
        self.decisions.iter().map(|(_, slot, (_, decision))| (slot, decision))
    }

    /// Whether slots were given back that wait for packets in flight.
    pub(crate) fn waits(&mut self) -> bool {
        self.arrays.all().into_iter().any(|slots| slots.has_waiting())
    }

    /// How much of each array is in use.
    pub(crate) fn usage(&self) -> Vec<Usage> {
        let Arrays { programs, projections, cells, runs, pages, decisions } = &self.arrays;
        [programs, projections, cells, runs, pages, decisions].map(Slots::usage).into()
    }

    /// To be called when no packet is in flight that came before the last write.
    pub(crate) fn reclaim(&mut self) {
        self.arrays.all().into_iter().for_each(Slots::reclaim);
    }

    /// Whether a body asks for both addresses.
    pub(crate) fn looks_both_ways(&self) -> bool {
        self.programs.iter().any(|(_, _, program)| {
            program.bodies.iter().any(|body| body.projections.iter().all(Option::is_some))
        })
    }

    /// Entries of the IR changed: slots that were made from them, and slots that refer to those, are not used again. Returns
    /// the programs that have to be made anew.
    pub(crate) fn forget(&mut self, changed: &Changed) -> BTreeSet<ProgramId> {
        let decisions: BTreeSet<DecisionId> =
            changed.decisions.iter().copied().filter(|id| self.decisions.forget(*id)).collect();
        let mut tables: BTreeSet<L4TableId> =
            changed.tables.iter().copied().filter(|id| self.tables.forget(*id)).collect();
        if !decisions.is_empty() {
            let uses = |table: &LoadedTable| table.decisions.keys().any(|id| decisions.contains(id));
            let more: Vec<L4TableId> =
                self.tables.iter().filter(|(_, _, table)| uses(table)).map(|(id, _, _)| id).collect();
            tables.extend(more.into_iter().filter(|id| self.tables.forget(*id)));
        }
        let projections: BTreeSet<ProjectionId> =
            changed.projections.iter().copied().filter(|id| self.projections.forget(*id)).collect();
        let mut programs: BTreeSet<ProgramId> =
            changed.programs.iter().copied().filter(|id| self.programs.forget(*id)).collect();
        if !tables.is_empty() || !projections.is_empty() {
            let uses = |body: &LoadedBody| {
                body.projections.iter().flatten().any(|(id, _)| projections.contains(id))
                    || body.tables.keys().any(|id| tables.contains(id))
            };
            let more: Vec<ProgramId> = self
                .programs
                .iter()
                .filter(|(_, _, program)| program.bodies.iter().any(uses))
                .map(|(id, _, _)| id)
                .collect();
            programs.extend(more.into_iter().filter(|id| self.programs.forget(*id)));
        }
        programs
    }

    /// Whether a projection was made from the entry, and the row that it has for `class`.
    pub(crate) fn row(&self, projection: ProjectionId, class: ClassId) -> Option<u16> {
        let slot = self.projections.slot(projection)?;
        let rows = &self.projections.get(slot)?.rows;
        Some(rows.get(index(class.number())).copied().unwrap_or(0))
    }

    /// Gives classes that no address has yet the rows that `snapshot` says. Their number was checked when the projection
    /// was made, and classes before.
    pub(crate) fn set_rows(&mut self, snapshot: &Snapshot, classes: &BTreeSet<ClassId>) {
        let per_projection = self.blocks_per_projection();
        for (id, slot, loaded) in self.projections.current_mut() {
            let Some(projection) = snapshot.projections.lookup(id) else { continue };
            let mut blocks = BTreeSet::new();
            for class in classes {
                let row = u16::try_from(projection.row(*class)).unwrap_or(u16::MAX);
                let at = index(class.number());
                if loaded.rows.get(at).copied().unwrap_or(0) == row {
                    continue;
                }
                let rows = Arc::make_mut(&mut loaded.rows);
                if rows.len() <= at {
                    rows.resize(at.saturating_add(1), 0);
                }
                if let Some(old) = rows.get_mut(at) {
                    *old = row;
                }
                blocks.insert(at.checked_div(BLOCK_ROWS).unwrap_or(0));
            }
            for block in blocks {
                self.writes.push(rows_write(slot, per_projection, block, &loaded.rows));
            }
        }
    }

    /// The slot of `id`'s program, for one user more.
    pub(crate) fn program(&mut self, id: ProgramId, snapshot: &Snapshot) -> Result<u32, LowerError> {
        if let Some(slot) = self.programs.share(id) {
            return Ok(slot);
        }
        let program = snapshot.programs.lookup(id).ok_or(LowerError::invalid())?;
        let bodies = [self.body(&program.v4, snapshot)?, self.body(&program.v6, snapshot)?];
        let slot = self.take(|arrays| &mut arrays.programs, 1)?;
        let mut words = ProgramWords::default();
        for (word, value) in words.iter_mut().zip(bodies.iter().flat_map(|body| body.words)) {
            *word = value;
        }
        self.writes.push(Write::Program(slot, words));
        self.programs.insert(id, slot, LoadedProgram { bodies });
        Ok(slot)
    }

    /// One user of a program less.
    pub(crate) fn release_program(&mut self, slot: u32) {
        let Some(program) = self.programs.release(slot) else { return };
        self.arrays.programs.give_back(slot, 1);
        for body in program.bodies {
            for (_, slot) in body.projections.into_iter().flatten() {
                if self.projections.release(slot).is_some() {
                    self.arrays.projections.give_back(slot, 1);
                }
            }
            if let Some((first, count)) = body.lines {
                self.arrays.cells.give_back(first, count);
            }
            body.tables.into_values().for_each(|number| self.release_table(number));
        }
    }

    fn body(&mut self, body: &Body, snapshot: &Snapshot) -> Result<LoadedBody, LowerError> {
        let mut projections = [None; 2];
        let mut words = [NO_PROJECTION, NO_PROJECTION, 0, 0];
        for ((id, place), word) in
            [body.source, body.destination].into_iter().zip(&mut projections).zip(&mut words)
        {
            if let Some(slot) = self.projection(id, snapshot)? {
                *place = Some((id, slot));
                *word = slot;
            }
        }
        let mut tables = BTreeMap::new();
        let mut nodes = Vec::with_capacity(body.cells.len());
        for id in &body.cells {
            let number = match tables.get(id) {
                Some(number) => *number,
                None => {
                    let number = self.table(*id, snapshot)?;
                    tables.insert(*id, number);
                    number
                }
            };
            nodes.push(self.tables.get(number).ok_or(LowerError::invalid())?.node);
        }
        let lines = match nodes[..] {
            [] => return Err(LowerError::invalid()),
            // No columns stand for a body of one cell.
            [only] => {
                words = [NO_PROJECTION, NO_PROJECTION, 0, only.0];
                None
            }
            _ => {
                let count = u32::try_from(nodes.len().div_ceil(LINE_CELLS)).unwrap_or(u32::MAX);
                let first = self.take(|arrays| &mut arrays.cells, count)?;
                for (line, nodes) in (first..).zip(nodes.chunks(LINE_CELLS)) {
                    let mut cells = Box::new(Cells::default());
                    for (cell, node) in cells.iter_mut().zip(nodes) {
                        *cell = node.0;
                    }
                    self.writes.push(Write::Cells(line, cells));
                }
                words[2] = body.columns;
                words[3] = first.saturating_mul(u32::try_from(LINE_CELLS).unwrap_or(1));
                Some((first, count))
            }
        };
        Ok(LoadedBody { projections, tables, lines, words })
    }

    /// The slot of a projection for one user more; `None` for one that puts all classes on row 0.
    fn projection(&mut self, id: ProjectionId, snapshot: &Snapshot) -> Result<Option<u32>, LowerError> {
        let projection = snapshot.projections.lookup(id).ok_or(LowerError::invalid())?;
        if projection.rows <= 1 {
            return Ok(None);
        }
        if let Some(slot) = self.projections.share(id) {
            return Ok(Some(slot));
        }
        let mut rows = Vec::new();
        if let Some((last, _)) = projection.row_of.last_key_value() {
            self.check_class(*last)?;
            rows.resize(index(last.number()).saturating_add(1), 0);
        }
        for (class, row) in &projection.row_of {
            let row = u16::try_from(*row).map_err(|_| too_many_rows(projection))?;
            if let Some(place) = rows.get_mut(index(class.number())) {
                *place = row;
            }
        }
        let slot = self.take(|arrays| &mut arrays.projections, 1)?;
        let per_projection = self.blocks_per_projection();
        // All blocks: the slot may have been another projection's.
        for block in 0..index(per_projection) {
            self.writes.push(rows_write(slot, per_projection, block, &rows));
        }
        self.projections.insert(id, slot, LoadedProjection { rows: Arc::new(rows) });
        Ok(Some(slot))
    }

    /// Whether `class` fits.
    pub(crate) fn check_class(&self, class: ClassId) -> Result<(), LowerError> {
        if class.number() < self.classes.min(1 << 16) {
            return Ok(());
        }
        Err(LowerError::limit("classes", self.classes, index(class.number()).saturating_add(1)))
    }

    fn blocks_per_projection(&self) -> u32 {
        self.classes.div_ceil(u32::try_from(BLOCK_ROWS).unwrap_or(1))
    }

    /// Slots of one array, after waiting for packets on their way when only that gives room.
    fn take(&mut self, of: fn(&mut Arrays) -> &mut Slots, length: u32) -> Result<u32, LowerError> {
        if let Some(first) = of(&mut self.arrays).take(length) {
            return Ok(first);
        }
        if of(&mut self.arrays).has_waiting() {
            self.writes.push(Write::GracePeriod);
            self.reclaim();
            if let Some(first) = of(&mut self.arrays).take(length) {
                return Ok(first);
            }
        }
        Err(of(&mut self.arrays).full(length))
    }
}

/// Entries of the IR that are not what they were.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changed {
    pub(crate) decisions: Vec<DecisionId>,
    pub(crate) tables: Vec<L4TableId>,
    pub(crate) projections: Vec<ProjectionId>,
    pub(crate) programs: Vec<ProgramId>,
}

impl Changed {
    /// Whether there are any.
    pub(crate) const fn any(&self) -> bool {
        !(self.decisions.is_empty()
            && self.tables.is_empty()
            && self.projections.is_empty()
            && self.programs.is_empty())
    }
}

fn rows_write(slot: u32, per_projection: u32, block: usize, rows: &[u16]) -> Write {
    let mut content = Box::new([0; BLOCK_ROWS]);
    for (place, row) in content.iter_mut().zip(rows.chunks(BLOCK_ROWS).nth(block).unwrap_or_default()) {
        *place = *row;
    }
    let first = slot.saturating_mul(per_projection);
    Write::Rows(first.saturating_add(u32::try_from(block).unwrap_or(u32::MAX)), content)
}

/// Rows are 16 bits wide, as classes are.
fn too_many_rows(projection: &Projection) -> LowerError {
    LowerError::limit("classes", 1 << 16, index(projection.rows))
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
