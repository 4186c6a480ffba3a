//! Programs: which there are, what their cells are, and how they follow the classes.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::compile::effort::{CompileLimits, Steps};
use crate::compile::ids::{PolicyIx, PreludeIx, ProfileIx};
use crate::compile::intern::{Fresh, Interner};
use crate::compile::l4_table::build_table;
use crate::compile::policies::{Policies, RuleList};
use crate::compile::preludes::Preludes;
use crate::compile::program_changes::{Family, ProgramChanges};
use crate::compile::program_rules::{Item, ProgramRules, RuleOwner};
use crate::compile::projections::Projections;
use crate::compile::rules::{PredicateSet, Predicates};
use crate::compile::signature::Signature;
use crate::compile::tables::Tables;
use crate::ir::{
    Arena, Body, ClassId, EndpointEntry, HookPrograms, L4TableId, Program, ProgramId, ProjectionId,
};
use crate::label::Name;
use crate::model::{Cluster, ProfileOrigin};
use crate::settings::Settings;
use crate::verdict::{Cause, Hook, Verdict};

/// What a program is made of. Two groups with equal keys share a program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ProgramKey {
    pub(super) hook: Hook,
    pub(super) tiers: Vec<TierKey>,
    /// For hooks that end in profiles.
    pub(super) profiles: Vec<ProfileIx>,
    /// For hooks where it depends on the node; that of every node at all others.
    pub(super) prelude: PreludeIx,
}

/// The part of one tier: at least one policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TierKey {
    pub(super) name: Name,
    /// Whether its end denies.
    pub(super) deny: bool,
    pub(super) policies: Vec<PolicyIx>,
}

/// The programs of a group's local members; one reference to each is owned.
#[derive(Debug, Clone)]
pub(super) struct GroupPrograms {
    pub(super) entry: Arc<EndpointEntry>,
}

impl GroupPrograms {
    pub(super) fn ids(&self) -> impl Iterator<Item = ProgramId> + '_ {
        let of = |programs: &HookPrograms| programs.0.values().copied().collect::<Vec<_>>();
        let staged = self.entry.staged.iter().flat_map(of);
        of(&self.entry.enforced).into_iter().chain(staged)
    }
}

#[derive(Debug)]
pub(super) struct Programs {
    limits: CompileLimits,
    /// Whether classes have more predicates than there may be: then no program is made.
    too_many_predicates: bool,
    /// Bodies that are not made, because they would be too large.
    refused: BTreeSet<(ProgramId, Family)>,
    pub(super) keys: Interner<ProgramId, ProgramKey>,
    bodies: Arena<ProgramId, Bodies>,
    pub(super) projections: Projections,
    pub(super) preludes: Preludes,
}

/// The bodies of a program.
#[derive(Debug)]
struct Bodies {
    v4: BodyState,
    /// `None` when no rule tells the families apart: then the other body stands for both.
    v6: Option<BodyState>,
}

/// One body. It owns a reference to both projections, and to the table of every cell.
#[derive(Debug)]
struct BodyState {
    source: ProjectionId,
    destination: ProjectionId,
    columns: u32,
    cells: Vec<L4TableId>,
    /// Steps of the cells, by row and column, that took more than [`FEW_STEPS`].
    steps: BTreeMap<(u32, u32), u64>,
    /// What stands in place of the cells when they would be too many, or take too long: there are none then.
    refused: Option<RefusedBody>,
}

/// One table for all packets. It owns a reference to both.
#[derive(Clone, Copy, Debug)]
struct RefusedBody {
    /// The projection without predicates.
    projection: ProjectionId,
    table: L4TableId,
}

/// Steps that every cell counts for.
const FEW_STEPS: u64 = 64;

impl Programs {
    pub(super) fn new(settings: &Settings, predicates: &mut Predicates) -> Self {
        Self {
            limits: CompileLimits::default(),
            too_many_predicates: false,
            refused: BTreeSet::new(),
            keys: Interner::new(),
            bodies: Arena::new(),
            projections: Projections::new(),
            preludes: Preludes::new(settings, predicates),
        }
    }

    /// The program for `key`, with one user more. A new one acquires its predicates at once and gets its cells in
    /// [`Programs::settle`].
    pub(super) fn acquire(
        &mut self,
        key: ProgramKey,
        cluster: &Cluster,
        policies: &mut Policies,
        predicates: &mut Predicates,
    ) -> ProgramId {
        let direction = key.hook.direction();
        let (id, fresh) = self.keys.acquire(key);
        if fresh == Fresh::Yes
            && let Some(key) = self.keys.lookup(id)
        {
            for policy in key.tiers.iter().flat_map(|tier| &tier.policies) {
                policies.acquire(*policy, direction, cluster, predicates);
            }
            for profile in &key.profiles {
                policies.acquire_profile(*profile, direction, predicates);
            }
        }
        id
    }

    /// Takes out programs that no endpoint uses any more.
    pub(super) fn sweep(
        &mut self,
        policies: &mut Policies,
        predicates: &mut Predicates,
        tables: &mut Tables,
        changes: &mut ProgramChanges,
    ) {
        for (id, key) in self.keys.sweep() {
            let direction = key.hook.direction();
            for policy in key.tiers.iter().flat_map(|tier| &tier.policies) {
                policies.release(*policy, direction, predicates);
            }
            for profile in &key.profiles {
                policies.release_profile(*profile, direction, predicates);
            }
            if let Some(bodies) = self.bodies.take(id) {
                for (family, body) in bodies.each() {
                    self.refused.remove(&(id, family));
                    if let Some(refused) = body.refused {
                        self.projections.release(refused.projection, (id, family));
                        tables.tables.release(refused.table);
                    }
                    self.projections.release(body.source, (id, family));
                    self.projections.release(body.destination, (id, family));
                    body.cells.iter().for_each(|table| tables.tables.release(*table));
                }
            }
            changes.programs_gone.push(id);
        }
    }

    pub(super) const fn limits(&self) -> &CompileLimits {
        &self.limits
    }

    /// Before the first program.
    pub(super) const fn set_limits(&mut self, limits: CompileLimits) {
        self.limits = limits;
    }

    /// The programs that are not made, each once.
    pub(super) fn refused(&self) -> impl Iterator<Item = &ProgramKey> {
        let mut ids: Vec<ProgramId> = self.refused.iter().map(|(id, _)| *id).collect();
        ids.dedup();
        ids.into_iter().filter_map(|id| self.keys.lookup(id))
    }

    pub(super) const fn has_too_many_predicates(&self) -> bool {
        self.too_many_predicates
    }

    pub(super) fn end_commit(&mut self) {
        self.keys.end_commit();
        self.projections.sets.end_commit();
    }

    /// Makes projections and cells follow the classes that came and went, and gives new programs theirs.
    pub(super) fn settle(
        &mut self,
        (created, gone): (&[ClassId], &[(ClassId, Signature)]),
        classes: &Interner<ClassId, Signature>,
        policies: &Policies,
        too_many_predicates: bool,
        tables: &mut Tables,
        changes: &mut ProgramChanges,
    ) {
        // Rows that are new in this commit: their cells are new.
        let mut fresh_rows: Vec<(ProjectionId, u32)> = Vec::new();
        // From the last id on, so that sorted lists of them are cut at their end.
        for (class, signature) in gone.iter().rev() {
            self.projections.forget_class(*class, signature, changes);
        }
        for class in created {
            if let Some(signature) = classes.lookup(*class) {
                self.projections.take_class(*class, signature, &mut fresh_rows, changes);
            }
        }
        fresh_rows.sort_unstable();
        let new_programs = self.keys.take_created();
        let mut stale: Vec<(ProgramId, Family)> = Vec::new();
        for (projection, _) in &fresh_rows {
            stale.extend(self.projections.users(*projection));
        }
        for program in &new_programs {
            self.create_bodies(*program, policies, classes, changes);
            stale.extend(Family::ALL.map(|family| (*program, family)));
        }
        let was_too_many = core::mem::replace(&mut self.too_many_predicates, too_many_predicates);
        if was_too_many != too_many_predicates {
            stale.extend(self.bodies.iter().flat_map(|(id, _)| Family::ALL.map(|family| (id, family))));
        } else {
            // Nothing but rows that went can make a refused body fit.
            let shrunk: BTreeSet<ProjectionId> =
                changes.rows.iter().filter(|(.., row)| *row == 0).map(|(id, ..)| *id).collect();
            let may_fit = |(program, family): &(ProgramId, Family)| {
                let body = self.bodies.lookup(*program).and_then(|bodies| bodies.body(*family));
                body.is_some_and(|body| shrunk.contains(&body.source) || shrunk.contains(&body.destination))
            };
            stale.retain(|user| !self.refused.contains(user));
            stale.extend(self.refused.iter().filter(|user| may_fit(user)));
        }
        stale.sort_unstable();
        stale.dedup();
        for (program, family) in &stale {
            self.fill(*program, *family, &fresh_rows, policies, tables);
            self.refuse_or_make(*program, *family, classes, tables, changes);
        }
        stale.dedup_by_key(|(program, _)| *program);
        let flat = |(id, _): &(ProgramId, Family)| Some((*id, self.bodies.lookup(*id)?.flat()));
        changes.programs = stale.iter().filter_map(flat).collect();
    }

    fn create_bodies(
        &mut self,
        program: ProgramId,
        policies: &Policies,
        classes: &Interner<ClassId, Signature>,
        changes: &mut ProgramChanges,
    ) {
        let Some(key) = self.keys.lookup(program) else { return };
        let direction = key.hook.direction();
        let common = self.rule_lists(key, policies).all(RuleList::is_common);
        let sets = |family: Family| {
            let (mut source, mut destination) = (PredicateSet::default(), PredicateSet::default());
            for rules in self.rule_lists(key, policies).filter_map(|list| list.rules(family.version())) {
                rules.sides(direction, &mut source, &mut destination);
            }
            source.normalise();
            destination.normalise();
            (source, destination)
        };
        let (v4, v6) = (sets(Family::V4), (!common).then(|| sets(Family::V6)));
        let mut body = |(source, destination), family| BodyState {
            source: self.projections.acquire(source, (program, family), classes, changes),
            destination: self.projections.acquire(destination, (program, family), classes, changes),
            columns: 0,
            cells: Vec::new(),
            steps: BTreeMap::new(),
            refused: None,
        };
        let bodies = Bodies { v4: body(v4, Family::V4), v6: v6.map(|v6| body(v6, Family::V6)) };
        self.bodies.put(program, bodies);
    }

    fn rule_lists<'p>(
        &'p self,
        key: &'p ProgramKey,
        policies: &'p Policies,
    ) -> impl Iterator<Item = &'p RuleList> {
        let direction = key.hook.direction();
        let prelude = self.preludes.of(key.prelude, key.hook).map(|(list, _)| list);
        let of_policies = key.tiers.iter().flat_map(|tier| &tier.policies);
        let of_policies = of_policies
            .filter_map(move |ix| policies.lookup(*ix))
            .map(move |state| state.rule_list(direction));
        let profiles = key.profiles.iter().filter_map(move |ix| policies.profile(*ix));
        prelude.into_iter().chain(of_policies).chain(profiles.map(move |state| state.rule_list(direction)))
    }

    /// Makes the cells of a body that are missing or have a fresh row. Where that takes too many steps, the body has none
    /// afterwards.
    fn fill(
        &mut self,
        program: ProgramId,
        family: Family,
        fresh_rows: &[(ProjectionId, u32)],
        policies: &Policies,
        tables: &mut Tables,
    ) {
        let Some(body) = self.bodies.lookup_mut(program).and_then(|bodies| bodies.body_mut(family)) else {
            return;
        };
        // Put back below; the body that is left has no cells.
        let old = Cells {
            source: body.source,
            destination: body.destination,
            columns: core::mem::take(&mut body.columns),
            cells: core::mem::take(&mut body.cells),
            steps: core::mem::take(&mut body.steps),
        };
        let filled = if self.too_many_predicates {
            tables.release_all(&old.cells);
            None
        } else {
            self.filled((program, family), &old, fresh_rows, policies, tables)
        };
        if let (Some(cells), Some(body)) =
            (filled, self.bodies.lookup_mut(program).and_then(|bodies| bodies.body_mut(family)))
        {
            (body.columns, body.cells, body.steps) = (cells.columns, cells.cells, cells.steps);
        }
    }

    /// The cells, made from what they were. `None` when they take too many steps; no table is held then.
    fn filled(
        &self,
        (program, family): (ProgramId, Family),
        old: &Cells,
        fresh_rows: &[(ProjectionId, u32)],
        policies: &Policies,
        tables: &mut Tables,
    ) -> Option<Cells> {
        let Cells { source, destination, .. } = *old;
        let key = self.keys.lookup(program)?;
        if self.rule_lists(key, policies).any(RuleList::is_too_large) {
            tables.release_all(&old.cells);
            return None;
        }
        let sources = self.projections.lookup(source)?;
        let destinations = self.projections.lookup(destination)?;
        let is_fresh = |projection, row| fresh_rows.binary_search(&(projection, row)).is_ok();
        let columns = self.projections.row_count(destination);
        let fresh_columns: Vec<bool> = (0..columns).map(|row| is_fresh(destination, row)).collect();
        // Free rows are not counted: how many there are depends on what was before.
        let mut left = sources
            .used_rows()
            .checked_mul(destinations.used_rows())
            .and_then(|cells| cells.checked_mul(FEW_STEPS))
            .and_then(|steps| self.limits.steps.checked_sub(steps));
        let mut steps = old.steps.clone();
        steps.retain(|(row, column), _| {
            let is_old = !is_fresh(source, *row) && !is_fresh(destination, *column);
            is_old && sources.has_row(*row) && destinations.has_row(*column)
        });
        left = steps.values().fold(left, |left, more| left?.checked_sub(*more));
        let Some(mut left) = left else {
            tables.release_all(&old.cells);
            return None;
        };
        let rules = self.program_rules(key, family, policies);
        let mut cells: Vec<L4TableId> =
            Vec::with_capacity(sources.rows.len().saturating_mul(fresh_columns.len()));
        for (row, from) in (0_u32..).zip(&sources.rows) {
            let fresh_row = is_fresh(source, row);
            for ((column, to), fresh_column) in (0_u32..).zip(&destinations.rows).zip(&fresh_columns) {
                let before = old.cell(row, column);
                if let Some(before) = before
                    && !fresh_row
                    && !fresh_column
                {
                    cells.push(before);
                    continue;
                }
                let table = match (from, to, cells.first()) {
                    (Some(from), Some(to), _) => {
                        let mut count = Steps::up_to(left.saturating_add(FEW_STEPS));
                        let made = build_table(&rules, &from.signature, &to.signature, tables, &mut count);
                        let more = count.done().saturating_sub(FEW_STEPS);
                        let Ok(made) = made else {
                            tables.release_all(&cells);
                            // What is behind this cell, and not in `cells`.
                            old.behind((row, column)).for_each(|table| tables.tables.release(table));
                            return None;
                        };
                        left = left.saturating_sub(more);
                        if more > 0 {
                            steps.insert((row, column), more);
                        }
                        made
                    }
                    // A free row is on no packet's alternative; any table will do. Row 0 is never free.
                    (_, _, Some(table)) => {
                        tables.tables.retain(*table);
                        *table
                    }
                    (_, _, None) => continue,
                };
                before.into_iter().for_each(|before| tables.tables.release(before));
                cells.push(table);
            }
        }
        Some(Cells { source, destination, columns, cells, steps })
    }

    /// Gives a body without cells the one table that stands for it, or takes that away when it has cells.
    fn refuse_or_make(
        &mut self,
        program: ProgramId,
        family: Family,
        classes: &Interner<ClassId, Signature>,
        tables: &mut Tables,
        changes: &mut ProgramChanges,
    ) {
        let Some(body) = self.bodies.lookup(program).and_then(|bodies| bodies.body(family)) else { return };
        let (is_refused, had) = (body.cells.is_empty(), body.refused);
        let refused = match (is_refused, had) {
            (true, None) => {
                let user = (program, family);
                let projection = self.projections.acquire(PredicateSet::default(), user, classes, changes);
                self.refused.insert(user);
                self.closed_table(program, family, tables).map(|table| RefusedBody { projection, table })
            }
            (false, Some(had)) => {
                self.projections.release(had.projection, (program, family));
                tables.tables.release(had.table);
                self.refused.remove(&(program, family));
                None
            }
            (true, Some(_)) | (false, None) => return,
        };
        if let Some(body) = self.bodies.lookup_mut(program).and_then(|bodies| bodies.body_mut(family)) {
            body.refused = refused;
        }
    }

    /// The table of a program that is not made: what is built in holds as for unknown addresses, all else is denied.
    fn closed_table(&self, program: ProgramId, family: Family, tables: &mut Tables) -> Option<L4TableId> {
        let key = self.keys.lookup(program)?;
        let mut items = Vec::new();
        if let Some((list, cause)) = self.preludes.of(key.prelude, key.hook) {
            push_rules(&mut items, list, family, &RuleOwner::BuiltIn(cause.clone()));
        }
        let end = (Verdict::Deny, Cause::NoPolicy);
        let rules = ProgramRules::new(key.hook.direction(), items, end);
        let nobody = Signature::default();
        // What is built in is not a tenant's.
        build_table(&rules, &nobody, &nobody, tables, &mut Steps::up_to(u64::MAX)).ok()
    }

    /// The ordered list that a program stands for.
    fn program_rules<'p>(
        &'p self,
        key: &'p ProgramKey,
        family: Family,
        policies: &'p Policies,
    ) -> ProgramRules<'p> {
        let direction = key.hook.direction();
        let mut items = Vec::new();
        if let Some((list, cause)) = self.preludes.of(key.prelude, key.hook) {
            push_rules(&mut items, list, family, &RuleOwner::BuiltIn(cause.clone()));
        }
        for tier in &key.tiers {
            let mut last = None;
            for state in tier.policies.iter().filter_map(|ix| policies.lookup(*ix)) {
                let owner = RuleOwner::Policy { id: &state.policy.id, tier: &tier.name };
                push_rules(&mut items, state.rule_list(direction), family, &owner);
                last = Some(&state.policy.id);
            }
            let deny = last.filter(|_| tier.deny);
            let cause =
                deny.map(|policy| Cause::TierDefault { tier: tier.name.clone(), policy: policy.clone() });
            items.push(Item::TierEnd(cause));
        }
        let mut end = match key.hook {
            Hook::WorkloadIngress | Hook::WorkloadEgress | Hook::HostIngress | Hook::HostEgress => {
                let none = key.profiles.is_empty();
                (Verdict::Deny, if none { Cause::NoPolicy } else { Cause::ProfileDefault })
            }
            Hook::ForwardIngress
            | Hook::ForwardEgress
            | Hook::PreDnat
            | Hook::UntrackedIngress
            | Hook::UntrackedEgress => (Verdict::Continue, Cause::NoPolicy),
        };
        for state in key.profiles.iter().filter_map(|ix| policies.profile(*ix)) {
            let Some(profile) = &state.profile else {
                end = (Verdict::Deny, Cause::Profile { profile: state.name.clone(), index: None });
                break;
            };
            let owner = match profile.origin {
                ProfileOrigin::Implicit => RuleOwner::BuiltIn(Cause::NoPolicy),
                ProfileOrigin::Declared => RuleOwner::Profile { name: &state.name },
            };
            push_rules(&mut items, state.rule_list(direction), family, &owner);
        }
        ProgramRules::new(direction, items, end)
    }
}

fn push_rules<'p>(items: &mut Vec<Item<'p>>, list: &'p RuleList, family: Family, owner: &RuleOwner<'p>) {
    if let Some(rules) = list.rules(family.version()) {
        items.extend(rules.rules.iter().map(|rule| Item::Rule { rule, owner: owner.clone() }));
    }
}

impl Bodies {
    fn body(&self, family: Family) -> Option<&BodyState> {
        match family {
            Family::V4 => Some(&self.v4),
            Family::V6 => self.v6.as_ref(),
        }
    }

    const fn body_mut(&mut self, family: Family) -> Option<&mut BodyState> {
        match family {
            Family::V4 => Some(&mut self.v4),
            Family::V6 => self.v6.as_mut(),
        }
    }

    fn each(&self) -> impl Iterator<Item = (Family, &BodyState)> {
        core::iter::once((Family::V4, &self.v4)).chain(self.v6.iter().map(|body| (Family::V6, body)))
    }

    /// The program in the form of the IR.
    fn flat(&self) -> Program {
        Program { v4: self.v4.flat(), v6: self.v6.as_ref().unwrap_or(&self.v4).flat() }
    }
}

/// The cells of a body, with what they took.
struct Cells {
    source: ProjectionId,
    destination: ProjectionId,
    columns: u32,
    cells: Vec<L4TableId>,
    steps: BTreeMap<(u32, u32), u64>,
}

impl Cells {
    fn place(&self, row: u32, column: u32) -> Option<usize> {
        if column >= self.columns {
            return None;
        }
        let (row, columns) = (usize::try_from(row).ok()?, usize::try_from(self.columns).ok()?);
        row.checked_mul(columns)?.checked_add(usize::try_from(column).ok()?)
    }

    fn cell(&self, row: u32, column: u32) -> Option<L4TableId> {
        self.cells.get(self.place(row, column)?).copied()
    }

    /// The cells from this one on, row by row; those of a row that was not there are behind nothing.
    fn behind(&self, (row, column): (u32, u32)) -> impl Iterator<Item = L4TableId> + '_ {
        let start = self.place(row, column.min(self.columns.saturating_sub(1))).unwrap_or(usize::MAX);
        let start = start.saturating_add(usize::from(column >= self.columns));
        self.cells.get(start..).unwrap_or_default().iter().copied()
    }
}

impl BodyState {
    /// In the form of the IR.
    fn flat(&self) -> Body {
        if let Some(refused) = self.refused {
            let RefusedBody { projection, table } = refused;
            return Body {
                source: projection,
                destination: projection,
                columns: 1,
                cells: alloc::vec![table],
            };
        }
        Body {
            source: self.source,
            destination: self.destination,
            columns: self.columns,
            cells: self.cells.clone(),
        }
    }
}
