//! From snapshots and deltas to matchers.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::fmt;

use portcullis_core::ir::{
    Body, Decision, DecisionId, Delta, Id, L4Table, L4TableId, Program, ProgramId, Snapshot,
};

use crate::addresses::Addresses;
use crate::endpoints::Endpoints;
use crate::matcher::Matcher;
use crate::pages::{Pages, index};
use crate::ports::Ports;
use crate::program::Programs;
use crate::rows::Rows;

/// Why a snapshot or delta could not be lowered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LowerError(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Generation { found: u64, expected: u64 },
    Table(L4TableId),
    Program(ProgramId),
}

impl fmt::Display for LowerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Kind::Generation { found, expected } => {
                write!(f, "the delta starts from generation {expected}, the matcher is at {found}")
            }
            Kind::Table(table) => {
                write!(f, "table {table} has a gap or names a decision that does not exist")
            }
            Kind::Program(program) => {
                write!(f, "program {program} has a wrong number of cells or names what does not exist")
            }
        }
    }
}

impl core::error::Error for LowerError {}

impl Matcher {
    /// Lowers a whole snapshot.
    ///
    /// # Errors
    /// When a table or program of the snapshot breaks an invariant.
    pub fn lower(snapshot: &Snapshot) -> Result<Self, LowerError> {
        let mut matcher = Self {
            generation: snapshot.generation,
            addresses: Addresses::new(),
            endpoints: Endpoints::new(),
            programs: Pages::new(),
            rows: Pages::new(),
            ports: Pages::new(),
            verdicts: Pages::new(),
            decisions: Pages::new(),
            l7: Pages::new(),
            identities: Arc::new(BTreeMap::new()),
        };
        for (id, decision) in snapshot.decisions.iter() {
            matcher.set_decision(id, Some(decision));
        }
        for (id, program) in snapshot.l7.iter() {
            matcher.l7.set(index(id.number()), Some(Arc::new(program.clone())));
        }
        for (id, table) in snapshot.tables.iter() {
            matcher.set_table(id, Some(table))?;
        }
        for (id, projection) in snapshot.projections.iter() {
            matcher.rows.set(index(id.number()), Rows::lower(projection));
        }
        for (id, program) in snapshot.programs.iter() {
            matcher.set_program(id, Some(program))?;
        }
        matcher.addresses.change(snapshot.addresses.iter().map(|(cidr, class)| (cidr, Some(*class))));
        for (id, entry) in &snapshot.endpoints {
            matcher.endpoints.set(id, Some(entry));
        }
        let identities = snapshot.identities.iter();
        matcher.identities =
            Arc::new(identities.map(|(name, labels)| (name.clone(), Arc::new(labels.clone()))).collect());
        Ok(matcher)
    }

    /// The matcher of the delta's next generation. What the delta does not touch is shared with this one, which
    /// goes on answering for its own generation.
    ///
    /// # Errors
    /// When the delta starts from another generation, or an entry of it breaks an invariant.
    pub fn apply(&self, delta: &Delta) -> Result<Self, LowerError> {
        if delta.from != self.generation {
            let (found, expected) = (self.generation, delta.from);
            return Err(LowerError(Kind::Generation { found, expected }));
        }
        let mut next = self.clone();
        next.generation = delta.to;
        for (id, decision) in &delta.decisions {
            next.set_decision(*id, decision.as_ref());
        }
        for (id, program) in &delta.l7 {
            next.l7.set(index(id.number()), program.as_ref().map(|program| Arc::new(program.clone())));
        }
        for (id, table) in &delta.tables {
            next.set_table(*id, table.as_ref())?;
        }
        for (id, change) in &delta.projections {
            match (change, next.rows.entry(index(id.number()))) {
                (Some(change), Some(rows)) => rows.change(change),
                (None, Some(rows)) => *rows = Rows::default(),
                (_, None) => {}
            }
        }
        for (id, program) in &delta.programs {
            next.set_program(*id, program.as_ref())?;
        }
        next.addresses.change(delta.addresses.iter().map(|(cidr, class)| (cidr, *class)));
        for (id, entry) in &delta.endpoints {
            next.endpoints.set(id, entry.as_ref());
        }
        if !delta.identities.is_empty() {
            let identities = Arc::make_mut(&mut next.identities);
            for (name, labels) in &delta.identities {
                match labels {
                    Some(labels) => drop(identities.insert(name.clone(), Arc::new(labels.clone()))),
                    None => drop(identities.remove(name)),
                }
            }
        }
        Ok(next)
    }

    fn set_decision(&mut self, id: DecisionId, decision: Option<&Decision>) {
        let at = index(id.number());
        self.verdicts.set(at, decision.map(|decision| decision.verdict));
        self.decisions.set(at, decision.map(|decision| Arc::new(decision.clone())));
    }

    fn set_table(&mut self, id: L4TableId, table: Option<&L4Table>) -> Result<(), LowerError> {
        let ports = match table {
            Some(table) if !self.has_decisions(table) => return Err(LowerError(Kind::Table(id))),
            Some(table) => Ports::lower(table).ok_or(LowerError(Kind::Table(id)))?,
            None => Ports::default(),
        };
        self.ports.set(index(id.number()), ports);
        Ok(())
    }

    fn has_decisions(&self, table: &L4Table) -> bool {
        let maps =
            table.protocols.iter().flat_map(|(_, sources)| sources.iter().map(|source| &source.keys.0));
        let mut named = maps.flatten().map(|interval| interval.decision).chain([table.other]);
        named.all(|id| self.verdicts.get(index(id.number())).is_some_and(Option::is_some))
    }

    fn set_program(&mut self, id: ProgramId, program: Option<&Program>) -> Result<(), LowerError> {
        let lowered = match program {
            Some(program) if !(self.is_sound(&program.v4) && self.is_sound(&program.v6)) => {
                return Err(LowerError(Kind::Program(id)));
            }
            Some(program) => Programs::lower(program),
            None => Programs::default(),
        };
        self.programs.set(index(id.number()), lowered);
        Ok(())
    }

    /// Whether the cells fill whole rows and everything named exists.
    fn is_sound(&self, body: &Body) -> bool {
        let whole = body.cells.len().checked_rem(index(body.columns)) == Some(0) && !body.cells.is_empty();
        let projected = [body.source, body.destination].iter().all(|projection| {
            self.rows.get(index(projection.number())).is_some_and(|rows| !rows.is_vacant())
        });
        let tables = body.cells.iter().all(|table| {
            self.ports.get(index(table.number())).is_some_and(|ports| !matches!(ports, Ports::Vacant))
        });
        whole && projected && tables
    }
}
