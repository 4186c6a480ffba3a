//! Which parts of an L4 table decide otherwise than another's.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::ir::changes::{Protocols, Tendency};
use crate::ir::{DecisionEntry, DecisionId, Effect, Guard, L4Table, L4TableId, L7Program, Snapshot};
use crate::packet::Protocol;
use crate::verdict::Verdict;

/// A part of two tables that is decided otherwise.
#[derive(Clone, Debug)]
pub(super) struct TableChange {
    pub(super) protocols: Protocols,
    pub(super) source_ports: (u16, u16),
    pub(super) keys: (u16, u16),
    pub(super) before: Option<DecisionId>,
    pub(super) after: Option<DecisionId>,
    pub(super) tendency: Tendency,
}

/// A cell before and after; `None` where there is no program.
type TableStep = (Option<L4TableId>, Option<L4TableId>);

/// The tables of both snapshots, and the comparisons that were made.
pub(super) struct Tables<'a> {
    before: &'a Snapshot,
    after: &'a Snapshot,
    known: BTreeMap<TableStep, Arc<[TableChange]>>,
}

impl<'a> Tables<'a> {
    pub(super) const fn new(before: &'a Snapshot, after: &'a Snapshot) -> Self {
        Self { before, after, known: BTreeMap::new() }
    }

    pub(super) fn compare(&mut self, ids: TableStep) -> Arc<[TableChange]> {
        if let Some(known) = self.known.get(&ids) {
            return Arc::clone(known);
        }
        let old = ids.0.and_then(|id| self.before.tables.lookup(id));
        let new = ids.1.and_then(|id| self.after.tables.lookup(id));
        let found: Arc<[TableChange]> = self.differences(old, new).into();
        self.known.insert(ids, Arc::clone(&found));
        found
    }

    fn differences(&self, old: Option<&L4Table>, new: Option<&L4Table>) -> Vec<TableChange> {
        let tables = [old, new].into_iter().flatten();
        let named: BTreeSet<Protocol> =
            tables.flat_map(|table| table.protocols.iter().map(|(protocol, _)| *protocol)).collect();
        let mut changes = Vec::new();
        for protocol in &named {
            let ports = Bounds::of(*protocol, [old, new]);
            self.protocol_differences(*protocol, &ports, (old, new), &mut changes);
        }
        // A protocol that neither table names stands for all of them.
        let others = (0..=u8::MAX).map(Protocol).find(|protocol| !named.contains(protocol));
        if let Some(other) = others {
            let named: Arc<[Protocol]> = named.into_iter().collect();
            let before = old.and_then(|table| table.decision(other, 0, 0));
            let after = new.and_then(|table| table.decision(other, 0, 0));
            if let Some(tendency) = self.tendency(before, after) {
                changes.push(TableChange {
                    protocols: Protocols::AllBut(named),
                    source_ports: (0, u16::MAX),
                    keys: (0, u16::MAX),
                    before,
                    after,
                    tendency,
                });
            }
        }
        changes
    }

    fn protocol_differences(
        &self,
        protocol: Protocol,
        bounds: &Bounds,
        (old, new): (Option<&L4Table>, Option<&L4Table>),
        changes: &mut Vec<TableChange>,
    ) {
        let mut first_source = 0;
        for source in &bounds.sources {
            let mut first_key = 0;
            for key in &bounds.keys {
                let before = old.and_then(|table| table.decision(protocol, *source, *key));
                let after = new.and_then(|table| table.decision(protocol, *source, *key));
                if let Some(tendency) = self.tendency(before, after) {
                    changes.push(TableChange {
                        protocols: Protocols::One(protocol),
                        source_ports: (first_source, *source),
                        keys: (first_key, *key),
                        before,
                        after,
                        tendency,
                    });
                }
                first_key = key.saturating_add(1);
            }
            first_source = source.saturating_add(1);
        }
    }

    /// `None` when nothing that is enforced differs.
    fn tendency(&self, before: Option<DecisionId>, after: Option<DecisionId>) -> Option<Tendency> {
        let old = before.and_then(|id| self.before.decisions.lookup(id));
        let new = after.and_then(|id| self.after.decisions.lookup(id));
        let strict = |decision: Option<&DecisionEntry>| match decision.map(|decision| decision.verdict) {
            None | Some(Verdict::Deny) => 0u8,
            Some(Verdict::Inspect) => 1,
            Some(Verdict::Continue) => 2,
            Some(Verdict::Allow) => 3,
        };
        match strict(old).cmp(&strict(new)) {
            core::cmp::Ordering::Less => Some(Tendency::Loosened),
            core::cmp::Ordering::Greater => Some(Tendency::Tightened),
            core::cmp::Ordering::Equal => {
                let old = old.and_then(|decision| l7(self.before, decision));
                let new = new.and_then(|decision| l7(self.after, decision));
                let labels_matter = old.is_some() && self.before.identities != self.after.identities;
                (old != new || labels_matter).then_some(Tendency::Attributes)
            }
        }
    }
}

/// What is asked of principal and request, with verdicts for decisions: a new cause is no change.
fn l7<'a>(snapshot: &'a Snapshot, decision: &DecisionEntry) -> Option<Vec<(&'a Guard, Outcome)>> {
    let program: &L7Program = snapshot.l7.lookup(decision.l7?)?;
    let steps = program.steps.iter().filter_map(|step| {
        let outcome = match &step.effect {
            Effect::Decide(id) => Outcome::Decide(snapshot.decisions.lookup(*id)?.verdict),
            Effect::SkipTo(step) => Outcome::SkipTo(*step),
            Effect::Log(_) => Outcome::GoOn,
        };
        Some((&step.guard, outcome))
    });
    Some(steps.collect())
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Decide(Verdict),
    SkipTo(u32),
    GoOn,
}

/// The last ports of the intervals that neither table divides further.
struct Bounds {
    sources: BTreeSet<u16>,
    keys: BTreeSet<u16>,
}

impl Bounds {
    fn of(protocol: Protocol, tables: [Option<&L4Table>; 2]) -> Self {
        let mut bounds = Self { sources: BTreeSet::from([u16::MAX]), keys: BTreeSet::from([u16::MAX]) };
        for (named, sources) in tables.into_iter().flatten().flat_map(|table| &table.protocols) {
            if *named == protocol {
                bounds.sources.extend(sources.iter().map(|interval| interval.last));
                let keys = sources.iter().flat_map(|interval| &interval.keys.0);
                bounds.keys.extend(keys.map(|interval| interval.last));
            }
        }
        bounds
    }
}
