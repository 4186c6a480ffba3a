//! The decisions that the items of a program lead to.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::compile::program_rules::{Item, ProgramRules};
use crate::compile::tables::Tables;
use crate::ir::{DecisionEntry, DecisionId};
use crate::model::Action;
use crate::verdict::{RuleRef, Verdict};

/// Interns decisions for one table, and holds a reference to each until the table owns its own.
pub(super) struct Decisions<'f, 'a> {
    pub(super) program: &'f ProgramRules<'a>,
    pub(super) tables: &'f mut Tables,
    /// Decisions made so far, by (item, log entries); an item past the end stands for the end of the list.
    memo: BTreeMap<(usize, Vec<usize>), DecisionId>,
    acquired: Vec<DecisionId>,
}

impl<'f, 'a> Decisions<'f, 'a> {
    pub(super) const fn new(program: &'f ProgramRules<'a>, tables: &'f mut Tables) -> Self {
        Self { program, tables, memo: BTreeMap::new(), acquired: Vec::new() }
    }

    /// Interns `decision`.
    pub(super) fn acquire(&mut self, decision: DecisionEntry) -> DecisionId {
        let id = self.tables.decision(decision);
        self.acquired.push(id);
        id
    }

    /// The decision at the end of the list.
    pub(super) fn end_decision(&mut self) -> DecisionId {
        self.of_item(self.program.items.len(), &[])
    }

    /// The decision of an item, after these log entries.
    pub(super) fn of_item(&mut self, item: usize, logs: &[usize]) -> DecisionId {
        let key = (item, logs.to_vec());
        if let Some(id) = self.memo.get(&key) {
            return *id;
        }
        let (verdict, cause) = match self.program.items.get(item) {
            Some(Item::Rule { rule, owner }) => {
                let verdict = if rule.action == Action::Allow { Verdict::Allow } else { Verdict::Deny };
                (verdict, owner.cause(rule.index, self.program.direction))
            }
            Some(Item::TierEnd(Some(cause))) => (Verdict::Deny, cause.clone()),
            Some(Item::TierEnd(None)) | None => self.program.end.clone(),
        };
        let logs = logs.iter().filter_map(|item| self.rule_ref(*item)).collect();
        let id = self.acquire(DecisionEntry { verdict, cause, logs, l7: None });
        self.memo.insert(key, id);
        id
    }

    /// The rule that an item stands for, if a policy owns it.
    pub(super) fn rule_ref(&self, item: usize) -> Option<RuleRef> {
        match self.program.items.get(item)? {
            Item::Rule { rule, owner } => owner.rule_ref(rule.index, self.program.direction),
            Item::TierEnd(_) => None,
        }
    }

    /// Gives all references back.
    pub(super) fn release(self) {
        for decision in self.acquired {
            self.tables.decisions.release(decision);
        }
    }
}
