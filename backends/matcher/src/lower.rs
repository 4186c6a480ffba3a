//! From snapshots and deltas to matchers.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use portcullis_core::backend::{DesiredState, Lower, LowerError};
use portcullis_core::ir::{
    Body, DecisionEntry, DecisionId, Delta, Id, L4Table, L4TableId, Program, ProgramId, Snapshot,
};
use portcullis_core::verdict::Verdict;

use crate::addresses::Addresses;
use crate::answer::Answer;
use crate::cow_vec::{CowVec, index};
use crate::endpoints::Endpoints;
use crate::l4_table::{self, InlineTable};
use crate::matcher::Matcher;
use crate::program::Programs;
use crate::projection::RowMap;

/// The update is the matcher of the next generation, to be [published](crate::Publisher); the one before goes on answering
/// for its own. Bindings do not matter: every endpoint of the snapshot is answered for.
impl Lower for Matcher {
    type Options = ();
    type Existing = ();
    type Update = Self;

    fn load((): (), desired: DesiredState<'_>, (): &()) -> Result<(Self, Self), LowerError> {
        let matcher = Self::lower(desired.snapshot)?;
        Ok((matcher.clone(), matcher))
    }

    fn update(&mut self, _: DesiredState<'_>, delta: &Delta) -> Result<Self, LowerError> {
        *self = self.apply(delta)?;
        Ok(self.clone())
    }

    fn generation(&self) -> u64 {
        Self::generation(self)
    }
}

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
            programs: CowVec::new(),
            projections: CowVec::new(),
            inline_tables: CowVec::new(),
            overflow_tables: CowVec::new(),
            decisions: CowVec::new(),
            uses: CowVec::new(),
            l7: CowVec::new(),
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
            matcher.projections.set(index(id.number()), RowMap::lower(projection));
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
            return Err(LowerError::generation(self.generation, delta.from));
        }
        let mut next = self.clone();
        next.generation = delta.to;
        let mut altered = Vec::new();
        for (id, decision) in &delta.decisions {
            if next.set_decision(*id, decision.as_ref()) {
                altered.push(*id);
            }
        }
        for (id, program) in &delta.l7 {
            next.l7.set(index(id.number()), program.as_ref().map(|program| Arc::new(program.clone())));
        }
        for (id, table) in &delta.tables {
            next.set_table(*id, table.as_ref())?;
        }
        next.repeat_verdicts(&altered);
        for (id, change) in &delta.projections {
            match (change, next.projections.entry(index(id.number()))) {
                (Some(change), Some(rows)) => rows.change(change),
                (None, Some(rows)) => *rows = RowMap::default(),
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

    /// Whether answers that carry this decision now have another verdict.
    fn set_decision(&mut self, id: DecisionId, decision: Option<&DecisionEntry>) -> bool {
        let before = self.answer_of(id);
        self.decisions.set(index(id.number()), decision.map(|decision| Arc::new(decision.clone())));
        self.answer_of(id) != before
    }

    /// The answer that carries a decision. A decision that is not there denies.
    fn answer_of(&self, id: DecisionId) -> Option<Answer> {
        let decision = self.decisions.get(index(id.number())).and_then(Option::as_ref);
        Answer::new(decision.map_or(Verdict::Deny, |decision| decision.verdict), id)
    }

    fn set_table(&mut self, id: L4TableId, table: Option<&L4Table>) -> Result<(), LowerError> {
        let at = index(id.number());
        let known = |id: DecisionId| {
            self.decisions.get(index(id.number())).and_then(Option::as_ref)?;
            self.answer_of(id)
        };
        let (inline, overflow) = match table {
            Some(table) => l4_table::lower(table, &known).ok_or_else(|| broken_table(id))?,
            None => (InlineTable::default(), None),
        };
        let (old, old_overflow) =
            (self.inline_tables.get(at).copied(), self.overflow_tables.get(at).cloned().flatten());
        inline.decisions().for_each(|decision| self.use_decision(decision, true));
        overflow
            .iter()
            .flat_map(|overflow| overflow.decisions())
            .for_each(|decision| self.use_decision(decision, true));
        old.iter().flat_map(InlineTable::decisions).for_each(|decision| self.use_decision(decision, false));
        old_overflow
            .iter()
            .flat_map(|old| old.decisions())
            .for_each(|decision| self.use_decision(decision, false));
        self.inline_tables.set(at, inline);
        if overflow.is_some() || old_overflow.is_some() {
            self.overflow_tables.set(at, overflow);
        }
        Ok(())
    }

    fn use_decision(&mut self, id: DecisionId, more: bool) {
        if let Some(uses) = self.uses.entry(index(id.number())) {
            *uses = if more { uses.saturating_add(1) } else { uses.saturating_sub(1) };
        }
    }

    /// Brings tables up to date that name an altered decision but did not change themselves. The compiler interns
    /// decisions by content, so that this finds work only in deltas from elsewhere.
    fn repeat_verdicts(&mut self, altered: &[DecisionId]) {
        let used = |id: &&DecisionId| self.uses.get(index(id.number())).is_some_and(|uses| *uses > 0);
        let altered: Vec<(DecisionId, Answer)> =
            altered.iter().filter(used).filter_map(|id| Some((*id, self.answer_of(*id)?))).collect();
        if altered.is_empty() {
            return;
        }
        let names =
            |inline: &InlineTable| inline.decisions().any(|id| altered.iter().any(|(found, _)| *found == id));
        let indices: Vec<usize> = (0..)
            .zip(self.inline_tables.iter())
            .filter(|(_, inline)| names(inline))
            .map(|(at, _)| at)
            .collect();
        for at in indices {
            if let Some(inline) = self.inline_tables.entry(at) {
                inline.repeat(&altered);
            }
        }
        let overflow: Vec<usize> = (0..)
            .zip(self.overflow_tables.iter())
            .filter(|(_, overflow)| overflow.is_some())
            .map(|(at, _)| at)
            .collect();
        for at in overflow {
            if let Some(Some(overflow)) = self.overflow_tables.entry(at) {
                Arc::make_mut(overflow).repeat(&altered);
            }
        }
    }

    fn set_program(&mut self, id: ProgramId, program: Option<&Program>) -> Result<(), LowerError> {
        let lowered = match program {
            Some(program) if !(self.is_sound(&program.v4) && self.is_sound(&program.v6)) => {
                return Err(broken_program(id));
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
            self.projections.get(index(projection.number())).is_some_and(|rows| !rows.is_vacant())
        });
        let tables = body.cells.iter().all(|table| {
            let at = index(table.number());
            self.inline_tables.get(at).is_some_and(InlineTable::is_complete)
                || matches!(self.overflow_tables.get(at), Some(Some(_)))
        });
        whole && projected && tables
    }
}

fn broken_table(table: L4TableId) -> LowerError {
    LowerError::invalid_entry(format_args!("table {table} has a gap or names a decision that does not exist"))
}

fn broken_program(program: ProgramId) -> LowerError {
    let reason = "has a wrong number of cells or names what does not exist";
    LowerError::invalid_entry(format_args!("program {program} {reason}"))
}
