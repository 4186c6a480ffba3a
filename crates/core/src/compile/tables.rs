//! The interned tables that cells lead to: L4 tables, decisions and L7 programs.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::compile::intern::{Fresh, Interner};
use crate::ir::{DecisionEntry, DecisionId, Effect, L4Table, L4TableId, L7Program, L7ProgramId};

/// A table owns one reference to each decision in it, a decision one to its L7 program, an L7 program one to each
/// decision it leads to.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) tables: Interner<L4TableId, L4Table>,
    pub(super) decisions: Interner<DecisionId, DecisionEntry>,
    pub(super) l7: Interner<L7ProgramId, L7Program>,
}

/// What left the tables in one sweep, each list in id order.
#[derive(Debug, Default)]
pub(super) struct Swept {
    pub(super) tables: Vec<L4TableId>,
    pub(super) decisions: Vec<DecisionId>,
    pub(super) l7: Vec<L7ProgramId>,
}

impl Tables {
    pub(super) fn new() -> Self {
        Self { tables: Interner::new(), decisions: Interner::new(), l7: Interner::new() }
    }

    /// Interns `decision`, which owns a reference to its L7 program if that is new; the caller's reference to the L7
    /// program is used up.
    pub(super) fn decision(&mut self, decision: DecisionEntry) -> DecisionId {
        let l7 = decision.l7;
        let (id, fresh) = self.decisions.acquire(decision);
        if let (Fresh::No, Some(l7)) = (fresh, l7) {
            self.l7.release(l7);
        }
        id
    }

    /// Interns `program`; the caller keeps its own references to the decisions in it.
    pub(super) fn l7(&mut self, program: L7Program) -> L7ProgramId {
        let targets = targets(&program);
        let (id, fresh) = self.l7.acquire(program);
        if fresh == Fresh::Yes {
            for target in targets {
                self.decisions.retain(target);
            }
        }
        id
    }

    /// Interns `table`; the caller keeps its own references to the decisions in it.
    pub(super) fn table(&mut self, table: L4Table) -> L4TableId {
        let decisions = decisions(&table);
        let (id, fresh) = self.tables.acquire(table);
        if fresh == Fresh::Yes {
            for decision in decisions {
                self.decisions.retain(decision);
            }
        }
        id
    }

    /// One user less for each of these tables.
    pub(super) fn release_all(&mut self, tables: &[L4TableId]) {
        tables.iter().for_each(|table| self.tables.release(*table));
    }

    /// Removes everything that nothing uses any more.
    pub(super) fn sweep(&mut self) -> Swept {
        let mut swept = Swept::default();
        for (id, table) in self.tables.sweep() {
            decisions(&table).into_iter().for_each(|decision| self.decisions.release(decision));
            swept.tables.push(id);
        }
        loop {
            let decisions = self.decisions.sweep();
            for (id, decision) in &decisions {
                if let Some(l7) = decision.l7 {
                    self.l7.release(l7);
                }
                swept.decisions.push(*id);
            }
            let programs = self.l7.sweep();
            for (id, program) in &programs {
                targets(program).into_iter().for_each(|decision| self.decisions.release(decision));
                swept.l7.push(*id);
            }
            if decisions.is_empty() && programs.is_empty() {
                break;
            }
        }
        swept.decisions.sort_unstable();
        swept.l7.sort_unstable();
        swept
    }

    pub(super) fn end_commit(&mut self) {
        self.tables.end_commit();
        self.decisions.end_commit();
        self.l7.end_commit();
    }
}

/// Each decision of the table, once.
fn decisions(table: &L4Table) -> BTreeSet<DecisionId> {
    table.decisions().collect()
}

fn targets(program: &L7Program) -> BTreeSet<DecisionId> {
    program
        .steps
        .iter()
        .filter_map(|step| match &step.effect {
            Effect::Decide(id) => Some(*id),
            Effect::SkipTo(_) | Effect::Log(_) => None,
        })
        .collect()
}
