//! The invariants of a snapshot.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};

use crate::ir::{
    Arena, Body, ClassId, DecisionEntry, DecisionId, Effect, EndpointEntry, Guard, Id, L4Table, L4TableId,
    L7Program, L7ProgramId, PortMap, Program, ProgramId, Projection, ProjectionId, Snapshot, SourceInterval,
};
use crate::model::{EndpointId, EndpointKind};
use crate::packet::{Packet, Protocol};
use crate::selector::Expr;
use crate::verdict::{self, Hook, Verdict};

/// Deepest identity expression. A test counts one level, a negation one and an `&&` or `||` three, as in
/// [`MAX_DEPTH`](crate::selector::MAX_DEPTH); there is room for what a conversion puts around a user's selector.
pub const MAX_EXPR_DEPTH: usize = 512;

impl Snapshot {
    /// Checks every invariant; linear in the size of the snapshot.
    ///
    /// A snapshot that passes gives every packet at every hook of its endpoints a decision, and has one way to say
    /// what an L4 table says.
    ///
    /// Endpoints:
    ///
    /// 1. A workload has a program for the two workload hooks and no other; a host endpoint for the seven others.
    ///    The same holds for staged programs.
    /// 2. Every program that an endpoint names exists.
    /// 3. A workload or host hook never answers Continue: no later hook would decide.
    ///
    /// Projections and programs:
    ///
    /// 4. A projection has at least one row, and every class it lists is on a row from 1 to below the number of rows.
    /// 5. No projection lists [`ClassId::UNKNOWN`]: it is on row 0.
    /// 6. Both projections of a body exist.
    /// 7. A body has as many columns as its destination projection has rows.
    /// 8. A body has a cell for every source row and column, and no more.
    /// 9. Every table that a cell names exists.
    ///
    /// L4 tables:
    ///
    /// 10. Protocols are sorted and each occurs once.
    /// 11. Source intervals are not empty, are sorted without overlap and end at 65,535; likewise keys.
    /// 12. Neighbouring source intervals differ in their keys; neighbouring keys differ in their decision.
    /// 13. A protocol without ports has one source interval; one that is neither ICMP nor ICMPv6 has one key interval.
    /// 14. No protocol has a map that says the same as the table's other protocols for all ports.
    /// 15. Every decision that a table names exists.
    ///
    /// Decisions and L7 programs:
    ///
    /// 16. Every L7 program that a decision names exists.
    /// 17. A decision without L7 program is not Inspect.
    /// 18. A decision with an L7 program has the verdict, cause and log entries that the L7 program gives to a packet
    ///     without principal and HTTP request.
    /// 19. An L7 program has at least one step; the last one decides and has no guard.
    /// 20. A skip leads to a later step of the same program.
    /// 21. A step with an HTTP condition does not skip: without HTTP attributes it would be open where to go on.
    /// 22. Every decision that a step names exists, has no L7 program, no log entries and is not Inspect.
    /// 23. In an identity's expression each list of values is sorted and free of duplicates, and the expression is no
    ///     deeper than [`MAX_EXPR_DEPTH`].
    ///
    /// Entries that nothing refers to are no error; see [`Snapshot::unreferenced`].
    ///
    /// # Errors
    /// The first invariant that does not hold, and where.
    pub fn verify(&self) -> Result<(), VerifyError> {
        for (id, projection) in self.projections.iter() {
            check_projection(id, projection)?;
        }
        for (id, program) in self.l7.iter() {
            self.check_l7(id, program)?;
        }
        self.check_decisions()?;
        for (id, table) in self.tables.iter() {
            self.check_table(id, table)?;
        }
        for (id, program) in self.programs.iter() {
            self.check_body(id, &program.v4)?;
            self.check_body(id, &program.v6)?;
        }
        self.check_endpoints()
    }

    fn check_l7(&self, id: L7ProgramId, program: &L7Program) -> Result<(), VerifyError> {
        let last = program.steps.last();
        let decides = |effect: &Effect| matches!(effect, Effect::Decide(_));
        if !last.is_some_and(|step| decides(&step.effect) && step.guard == Guard::default()) {
            return Err(VerifyError::new(19, id, "the last step does not decide, or has a guard"));
        }
        for (index, step) in program.steps.iter().enumerate() {
            let fail = |invariant, what| {
                Err(VerifyError::new(invariant, id, what).with_detail(alloc::format!("step {index}")))
            };
            match &step.effect {
                Effect::Log(_) => {}
                Effect::SkipTo(target) => {
                    let target = usize::try_from(*target).unwrap_or(usize::MAX);
                    if target <= index || target >= program.steps.len() {
                        return fail(20, "a skip does not lead to a later step");
                    }
                    if step.guard.http.is_some() {
                        return fail(21, "a step with an HTTP condition skips");
                    }
                }
                Effect::Decide(decision) => match self.decisions.lookup(*decision) {
                    None => return fail(22, "the decision does not exist"),
                    Some(found) if !is_final(found) => {
                        return fail(22, "the decision has an L7 program or log entries, or is inspect");
                    }
                    Some(_) => {}
                },
            }
            for identity in &step.guard.identities {
                if expr_depth(&identity.expr) > MAX_EXPR_DEPTH {
                    return fail(23, "an expression is too deep");
                }
                if identity.expr.any(has_unsorted_values) {
                    return fail(23, "a list of values is not sorted or has duplicates");
                }
            }
        }
        Ok(())
    }

    fn check_decisions(&self) -> Result<(), VerifyError> {
        // One run for each L7 program, however many decisions name it.
        let mut plain: BTreeMap<L7ProgramId, Option<verdict::Decision>> = BTreeMap::new();
        for (id, decision) in self.decisions.iter() {
            let Some(l7) = decision.l7 else {
                if decision.verdict == Verdict::Inspect {
                    return Err(VerifyError::new(17, id, "inspect without an L7 program"));
                }
                continue;
            };
            let Some(program) = self.l7.lookup(l7) else {
                return Err(VerifyError::new(16, id, "the L7 program does not exist"));
            };
            let said = plain.entry(l7).or_insert_with(|| self.run(program, &plain_packet()));
            let same = said.as_ref().is_some_and(|said| {
                said.verdict == decision.verdict && said.cause == decision.cause && said.logs == decision.logs
            });
            if !same {
                return Err(VerifyError::new(18, id, "differs from what its L7 program says by itself"));
            }
        }
        Ok(())
    }

    fn check_table(&self, id: L4TableId, table: &L4Table) -> Result<(), VerifyError> {
        let fail = |invariant, what| Err(VerifyError::new(invariant, id, what));
        if !table.protocols.is_sorted_by(|(a, _), (b, _)| a < b) {
            return fail(10, "protocols are not sorted, or one occurs twice");
        }
        if self.decisions.lookup(table.other).is_none() {
            return fail(15, "the decision for other protocols does not exist");
        }
        for (protocol, sources) in &table.protocols {
            let fail = |invariant, what| {
                Err(VerifyError::new(invariant, id, what).with_detail(protocol.to_string()))
            };
            let maps: Vec<&PortMap> = sources.iter().map(|source| &source.keys).collect();
            if !covers_all(sources.iter().map(|source| source.last)) {
                return fail(11, "source intervals do not cover every port once");
            }
            let distinct: BTreeSet<&PortMap> = maps.iter().copied().collect();
            let intervals = || distinct.iter().map(|map| map.intervals());
            if intervals().any(|map| !covers_all(map.iter().map(|interval| interval.last))) {
                return fail(11, "keys are not covered once each");
            }
            if !maps.is_sorted_by(|a, b| a != b) {
                return fail(12, "two neighbouring source intervals say the same");
            }
            if intervals().any(|map| !map.is_sorted_by(|a, b| a.decision != b.decision)) {
                return fail(12, "two neighbouring keys say the same");
            }
            let keyed = protocol.has_ports() || is_icmp(*protocol);
            if (!protocol.has_ports() && sources.len() > 1)
                || (!keyed && intervals().any(|map| map.len() > 1))
            {
                return fail(13, "ports of a protocol that has none");
            }
            if is_constant(sources, table.other) {
                return fail(14, "the protocol says the same as all others");
            }
            let mut decisions = intervals().flatten().map(|interval| interval.decision);
            if decisions.any(|decision| self.decisions.lookup(decision).is_none()) {
                return fail(15, "a decision does not exist");
            }
        }
        Ok(())
    }

    fn check_body(&self, id: ProgramId, body: &Body) -> Result<(), VerifyError> {
        let fail = |invariant, what| Err(VerifyError::new(invariant, id, what));
        let source = self.projections.lookup(body.source);
        let destination = self.projections.lookup(body.destination);
        let (Some(source), Some(destination)) = (source, destination) else {
            return fail(6, "a projection does not exist");
        };
        if body.columns != destination.rows {
            return fail(7, "the columns are not the rows of the destination projection");
        }
        let cells = u64::from(source.rows).saturating_mul(u64::from(body.columns));
        if u64::try_from(body.cells.len()) != Ok(cells) {
            return fail(8, "the cells are not rows times columns");
        }
        if body.cells.iter().any(|table| self.tables.lookup(*table).is_none()) {
            return fail(9, "a table does not exist");
        }
        Ok(())
    }

    fn check_endpoints(&self) -> Result<(), VerifyError> {
        let continuing = self.programs_that_continue();
        for (id, entry) in &self.endpoints {
            for programs in entry.views() {
                let fail = |invariant, what| Err(VerifyError::new(invariant, Subject::endpoint(id), what));
                if !programs.0.keys().copied().eq(hooks_of(id.kind)) {
                    return fail(1, "the hooks are not those of its kind");
                }
                for (hook, program) in &programs.0 {
                    if self.programs.lookup(*program).is_none() {
                        return fail(2, "a program does not exist");
                    }
                    if must_decide(*hook) && continuing.contains(program) {
                        return fail(3, "a hook that must decide can answer continue");
                    }
                }
            }
        }
        Ok(())
    }

    /// Programs that have a decision with verdict Continue in some cell.
    fn programs_that_continue(&self) -> BTreeSet<ProgramId> {
        let is_continue = |id: DecisionId| {
            self.decisions.lookup(id).is_some_and(|decision| decision.verdict == Verdict::Continue)
        };
        let l7: BTreeSet<L7ProgramId> = ids_where(&self.l7, |program| {
            program.steps.iter().any(|step| matches!(step.effect, Effect::Decide(id) if is_continue(id)))
        });
        let decisions: BTreeSet<DecisionId> = ids_where(&self.decisions, |decision| {
            decision.verdict == Verdict::Continue || decision.l7.is_some_and(|id| l7.contains(&id))
        });
        if decisions.is_empty() {
            return BTreeSet::new();
        }
        let tables: BTreeSet<L4TableId> =
            ids_where(&self.tables, |table| table.decisions().any(|id| decisions.contains(&id)));
        ids_where(&self.programs, |program| {
            program.bodies().into_iter().any(|body| body.cells.iter().any(|id| tables.contains(id)))
        })
    }

    /// The entries that nothing refers to, directly or through others: garbage that a compiler should have removed.
    ///
    /// Not counted are classes that only projections know, as these come and go with the addresses.
    #[must_use]
    pub fn unreferenced(&self) -> Unreferenced {
        let mut programs = BTreeSet::new();
        let mut projections = BTreeSet::new();
        let mut tables = BTreeSet::new();
        let mut decisions = BTreeSet::new();
        let mut l7 = BTreeSet::new();
        for entry in self.endpoints.values() {
            programs.extend(entry.views().flat_map(|programs| programs.0.values().copied()));
        }
        for program in programs.iter().filter_map(|id| self.programs.lookup(*id)) {
            for body in program.bodies() {
                projections.extend([body.source, body.destination]);
                tables.extend(body.cells.iter().copied());
            }
        }
        for table in tables.iter().filter_map(|id| self.tables.lookup(*id)) {
            decisions.extend(table.decisions());
        }
        l7.extend(decisions.iter().filter_map(|id| self.decisions.lookup(*id)?.l7));
        let mut identities = false;
        for step in l7.iter().filter_map(|id| self.l7.lookup(*id)).flat_map(|program| &program.steps) {
            identities |= !step.guard.identities.is_empty();
            if let Effect::Decide(id) = step.effect {
                decisions.insert(id);
            }
        }
        Unreferenced {
            projections: others(&self.projections, &projections),
            programs: others(&self.programs, &programs),
            tables: others(&self.tables, &tables),
            decisions: others(&self.decisions, &decisions),
            l7: others(&self.l7, &l7),
            identities: if identities { 0 } else { self.identities.len() },
        }
    }
}

/// Why a snapshot is not valid: one invariant that does not hold, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}`{}{}: {what} (invariant {invariant})", .subject.0, if .detail.is_some() { ", " } else { "" }, .detail.as_deref().unwrap_or_default())]
pub struct VerifyError {
    invariant: u8,
    subject: Subject,
    what: &'static str,
    detail: Option<String>,
}

impl VerifyError {
    fn new(invariant: u8, subject: impl Into<Subject>, what: &'static str) -> Self {
        Self { invariant, subject: subject.into(), what, detail: None }
    }

    fn with_detail(mut self, detail: String) -> Self {
        self.detail = Some(detail);
        self
    }

    /// The number of the invariant in the documentation of [`Snapshot::verify`].
    #[must_use]
    pub const fn invariant(&self) -> u8 {
        self.invariant
    }

    /// What breaks it: an id, or an endpoint.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject.0
    }
}

/// What an error is about, as the text form writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Subject(String);

impl Subject {
    fn endpoint(id: &EndpointId) -> Self {
        Self(id.to_string())
    }
}

impl<I: Id> From<I> for Subject {
    fn from(id: I) -> Self {
        Self(id.to_string())
    }
}

/// Entries of a snapshot that nothing refers to; see [`Snapshot::unreferenced`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unreferenced {
    /// Projections that no program in use names.
    pub projections: Vec<ProjectionId>,
    /// Programs that no endpoint names.
    pub programs: Vec<ProgramId>,
    /// L4 tables that no cell of a program in use names.
    pub tables: Vec<L4TableId>,
    /// Decisions that no table or L7 program in use names.
    pub decisions: Vec<DecisionId>,
    /// L7 programs that no decision in use names.
    pub l7: Vec<L7ProgramId>,
    /// Number of namespaces whose labels are kept although no L7 program in use looks at an identity.
    pub identities: usize,
}

impl Unreferenced {
    /// Whether everything is in use.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.projections.is_empty()
            && self.programs.is_empty()
            && self.tables.is_empty()
            && self.decisions.is_empty()
            && self.l7.is_empty()
            && self.identities == 0
    }
}

impl EndpointEntry {
    /// The enforced programs, and the staged ones if there are any.
    pub(super) fn views(&self) -> impl Iterator<Item = &super::HookPrograms> {
        core::iter::once(&self.enforced).chain(&self.staged)
    }
}

impl Program {
    /// Both bodies.
    pub(super) const fn bodies(&self) -> [&Body; 2] {
        [&self.v4, &self.v6]
    }
}

fn check_projection(id: ProjectionId, projection: &Projection) -> Result<(), VerifyError> {
    let rows = 1..projection.rows;
    if projection.rows == 0 || projection.row_of.values().any(|row| !rows.contains(row)) {
        return Err(VerifyError::new(4, id, "a class is on a row that does not exist, or listed for row 0"));
    }
    if projection.row_of.contains_key(&ClassId::UNKNOWN) {
        return Err(VerifyError::new(5, id, "the unknown class is listed"));
    }
    Ok(())
}

/// Whether a decision can end the run of an L7 program.
fn is_final(decision: &DecisionEntry) -> bool {
    decision.l7.is_none() && decision.logs.is_empty() && decision.verdict != Verdict::Inspect
}

/// Whether intervals with these ends cover 0 to 65,535 without gap or overlap.
fn covers_all(ends: impl Iterator<Item = u16> + Clone) -> bool {
    ends.clone().last() == Some(u16::MAX) && ends.is_sorted_by(|a, b| a < b)
}

fn is_constant(sources: &[SourceInterval], decision: DecisionId) -> bool {
    match sources {
        [only] => matches!(only.keys.intervals(), [interval] if interval.decision == decision),
        _ => false,
    }
}

const fn is_icmp(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::ICMP | Protocol::ICMPV6)
}

/// The hooks of an endpoint of this kind, in order.
fn hooks_of(kind: EndpointKind) -> impl Iterator<Item = Hook> {
    Hook::ALL.into_iter().filter(move |hook| match hook {
        Hook::WorkloadIngress | Hook::WorkloadEgress => kind == EndpointKind::Workload,
        _ => kind == EndpointKind::Host,
    })
}

/// Whether the hook is the last that is asked: there is no other to continue with.
const fn must_decide(hook: Hook) -> bool {
    matches!(hook, Hook::WorkloadIngress | Hook::WorkloadEgress | Hook::HostIngress | Hook::HostEgress)
}

/// A packet without attributes; L7 programs look at nothing else.
fn plain_packet() -> Packet {
    let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    Packet::new(nowhere, nowhere, Protocol::TCP)
}

pub(super) fn has_unsorted_values(expr: &Expr) -> bool {
    match expr {
        Expr::In(_, values) | Expr::NotIn(_, values) => !values.is_sorted_by(|a, b| a < b),
        _ => false,
    }
}

/// The levels that one part of an expression adds to its depth.
pub(super) const fn expr_levels(expr: &Expr) -> usize {
    match expr {
        Expr::And(_) | Expr::Or(_) => 3,
        _ => 1,
    }
}

/// The depth of `expr`, found without recursion; stops counting beyond the limit.
fn expr_depth(expr: &Expr) -> usize {
    let mut deepest: usize = 0;
    let mut open: Vec<(&Expr, usize)> = alloc::vec![(expr, 0)];
    while let Some((part, above)) = open.pop() {
        let depth = above.saturating_add(expr_levels(part));
        deepest = deepest.max(depth);
        if deepest > MAX_EXPR_DEPTH {
            break;
        }
        open.extend(part.operands().iter().map(|operand| (operand, depth)));
    }
    deepest
}

fn ids_where<I: Id, T>(arena: &Arena<I, T>, test: impl Fn(&T) -> bool) -> BTreeSet<I> {
    arena.iter().filter(|(_, entry)| test(entry)).map(|(id, _)| id).collect()
}

fn others<I: Id, T>(arena: &Arena<I, T>, used: &BTreeSet<I>) -> Vec<I> {
    arena.iter().map(|(id, _)| id).filter(|id| !used.contains(id)).collect()
}
