//! Programs: which there are, what their cells are, and how they follow the classes.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::compile::fold::{Chain, Item, Owner, fold};
use crate::compile::intern::{Fresh, Interner};
use crate::compile::policies::{Policies, PolicyIx, ProfileIx, Unit};
use crate::compile::rules::{Asked, Questions};
use crate::compile::signature::{PortPredicateId, PredicateId, Signature};
use crate::compile::tables::Tables;
use crate::ir::{Body, ClassId, EndpointEntry, HookPrograms, L4TableId, Program, ProgramId, ProjectionId};
use crate::label::Name;
use crate::model::{Action, EntityMatch, IcmpMatch, L4Match, PortMatch, PortRange, ProfileOrigin, Rule};
use crate::net::IpVersion;
use crate::packet::Protocol;
use crate::reference::Settings;
use crate::verdict::{Cause, Hook, Verdict};

/// What a program is made of. Two groups with equal keys share a program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ProgramKey {
    pub(super) hook: Hook,
    pub(super) tiers: Vec<TierKey>,
    /// For hooks that end in profiles.
    pub(super) profiles: Vec<ProfileIx>,
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
        let pending = self.entry.pending.iter().flat_map(of);
        of(&self.entry.enforced).into_iter().chain(pending)
    }
}

/// A projection's questions, and which answers have which row.
#[derive(Debug)]
struct ProjectionState {
    /// Answers by row; `None` where a row is free.
    rows: Vec<Option<RowState>>,
    row_of_answers: BTreeMap<Signature, u32>,
    row_of_class: BTreeMap<ClassId, u32>,
    users: BTreeSet<(ProgramId, Family)>,
}

#[derive(Debug)]
struct RowState {
    answers: Signature,
    classes: usize,
}

/// [`IpVersion`] as an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    const ALL: [Self; 2] = [Self::V4, Self::V6];

    const fn version(self) -> IpVersion {
        match self {
            Self::V4 => IpVersion::V4,
            Self::V6 => IpVersion::V6,
        }
    }
}

#[derive(Debug)]
pub(super) struct Programs {
    pub(super) keys: Interner<ProgramId, ProgramKey>,
    bodies: BTreeMap<(ProgramId, Family), BodyState>,
    projections: Interner<ProjectionId, Asked>,
    projection_states: BTreeMap<ProjectionId, ProjectionState>,
    by_predicate: BTreeMap<PredicateId, BTreeSet<ProjectionId>>,
    by_ports: BTreeMap<PortPredicateId, BTreeSet<ProjectionId>>,
    classes_with: BTreeMap<PredicateId, BTreeSet<ClassId>>,
    classes_with_ports: BTreeMap<PortPredicateId, BTreeSet<ClassId>>,
    preludes: BTreeMap<Hook, [(Unit, Cause); 2]>,
}

#[derive(Debug, Clone)]
struct BodyState {
    source: ProjectionId,
    destination: ProjectionId,
    cells: BTreeMap<(u32, u32), L4TableId>,
}

/// What changed in one commit, for the snapshot.
#[derive(Debug, Default)]
pub(super) struct ProgramChanges {
    /// New number of rows, and classes with a new row.
    pub(super) projections: BTreeMap<ProjectionId, (u32, BTreeMap<ClassId, u32>)>,
    pub(super) projections_gone: Vec<ProjectionId>,
    pub(super) programs: BTreeMap<ProgramId, Program>,
    pub(super) programs_gone: Vec<ProgramId>,
}

impl Programs {
    pub(super) fn new(settings: &Settings, questions: &mut Questions) -> Self {
        let preludes = Hook::ALL
            .into_iter()
            .map(|hook| {
                let mut unit = |rules: &[Rule]| {
                    let mut unit = Unit::default();
                    unit.acquire(rules, hook.direction(), questions);
                    unit
                };
                let (discovery, failsafe) =
                    (unit(&[discovery_rule()]), unit(&failsafe_rules(settings, hook)));
                (hook, [(discovery, Cause::NeighbourDiscovery), (failsafe, Cause::Failsafe)])
            })
            .collect();
        Self {
            keys: Interner::new(),
            bodies: BTreeMap::new(),
            projections: Interner::new(),
            projection_states: BTreeMap::new(),
            by_predicate: BTreeMap::new(),
            by_ports: BTreeMap::new(),
            classes_with: BTreeMap::new(),
            classes_with_ports: BTreeMap::new(),
            preludes,
        }
    }

    /// The program for `key`, with one user more. A new one asks its questions at once and gets its cells in
    /// [`Programs::settle`].
    pub(super) fn acquire(
        &mut self,
        key: ProgramKey,
        policies: &mut Policies,
        questions: &mut Questions,
    ) -> ProgramId {
        let direction = key.hook.direction();
        let (id, fresh) = self.keys.acquire(key);
        if fresh == Fresh::Yes
            && let Some(key) = self.keys.lookup(id)
        {
            for policy in key.tiers.iter().flat_map(|tier| &tier.policies) {
                policies.acquire(*policy, direction, questions);
            }
            for profile in &key.profiles {
                policies.acquire_profile(*profile, direction, questions);
            }
        }
        id
    }

    /// Takes out programs that no endpoint uses any more.
    pub(super) fn sweep(
        &mut self,
        policies: &mut Policies,
        questions: &mut Questions,
        tables: &mut Tables,
        changes: &mut ProgramChanges,
    ) {
        for (id, key) in self.keys.sweep() {
            let direction = key.hook.direction();
            for policy in key.tiers.iter().flat_map(|tier| &tier.policies) {
                policies.release(*policy, direction, questions);
            }
            for profile in &key.profiles {
                policies.release_profile(*profile, direction, questions);
            }
            for family in Family::ALL {
                if let Some(body) = self.bodies.remove(&(id, family)) {
                    for projection in [body.source, body.destination] {
                        if let Some(state) = self.projection_states.get_mut(&projection) {
                            state.users.remove(&(id, family));
                        }
                        self.projections.release(projection);
                    }
                    body.cells.values().for_each(|table| tables.tables.release(*table));
                }
            }
            changes.programs_gone.push(id);
        }
    }

    pub(super) fn end_commit(&mut self) {
        self.keys.end_commit();
        self.projections.end_commit();
    }

    /// Takes out projections that no program uses any more.
    pub(super) fn sweep_projections(&mut self, changes: &mut ProgramChanges) {
        for (id, asked) in self.projections.sweep() {
            self.projection_states.remove(&id);
            for predicate in &asked.predicates {
                forget(&mut self.by_predicate, predicate, id);
            }
            for ports in &asked.ports {
                forget(&mut self.by_ports, ports, id);
            }
            changes.projections.remove(&id);
            changes.projections_gone.push(id);
        }
    }

    /// Makes projections and cells follow the classes that came and went, and gives new programs theirs.
    pub(super) fn settle(
        &mut self,
        created: &[ClassId],
        gone: &[(ClassId, Signature)],
        classes: &Interner<ClassId, Signature>,
        policies: &Policies,
        tables: &mut Tables,
        changes: &mut ProgramChanges,
    ) {
        // Rows that got answers in this commit: their cells are new.
        let mut fresh_rows: BTreeSet<(ProjectionId, u32)> = BTreeSet::new();
        for (class, signature) in gone {
            self.forget_class(*class, signature, changes);
        }
        for class in created {
            if let Some(signature) = classes.lookup(*class) {
                self.take_class(*class, signature, &mut fresh_rows, changes);
            }
        }
        let new_programs = self.keys.take_created();
        for program in &new_programs {
            self.create_bodies(*program, policies, classes, changes);
        }
        let mut stale: BTreeSet<(ProgramId, Family)> = BTreeSet::new();
        for (projection, _) in &fresh_rows {
            if let Some(state) = self.projection_states.get(projection) {
                stale.extend(state.users.iter().copied());
            }
        }
        stale.extend(new_programs.iter().flat_map(|id| Family::ALL.map(|family| (*id, family))));
        for (program, family) in &stale {
            self.fill(*program, *family, &fresh_rows, policies, tables);
        }
        for program in stale.iter().map(|(program, _)| *program).collect::<BTreeSet<_>>() {
            if let Some(flat) = self.program(program) {
                changes.programs.insert(program, flat);
            }
        }
    }

    /// The program in the form of the IR.
    fn program(&self, id: ProgramId) -> Option<Program> {
        Some(Program { v4: self.body(id, Family::V4)?, v6: self.body(id, Family::V6)? })
    }

    fn body(&self, id: ProgramId, family: Family) -> Option<Body> {
        let state = self.bodies.get(&(id, family))?;
        let columns = self.row_count(state.destination);
        // INVARIANT: `fill` made a cell for every pair of rows, and the map is in row-major order.
        Some(Body {
            source: state.source,
            destination: state.destination,
            columns,
            cells: state.cells.values().copied().collect(),
        })
    }

    fn row_count(&self, projection: ProjectionId) -> u32 {
        let rows = self.projection_states.get(&projection).map_or(1, |state| state.rows.len());
        u32::try_from(rows).unwrap_or(u32::MAX)
    }

    fn projections_for(&self, signature: &Signature) -> BTreeSet<ProjectionId> {
        let by_predicate = signature.holds.iter().filter_map(|id| self.by_predicate.get(id));
        let by_ports = signature.ports.iter().filter_map(|(id, _)| self.by_ports.get(id));
        by_predicate.chain(by_ports).flatten().copied().collect()
    }

    fn take_class(
        &mut self,
        class: ClassId,
        signature: &Signature,
        fresh_rows: &mut BTreeSet<(ProjectionId, u32)>,
        changes: &mut ProgramChanges,
    ) {
        for predicate in &signature.holds {
            self.classes_with.entry(*predicate).or_default().insert(class);
        }
        for (ports, _) in &signature.ports {
            self.classes_with_ports.entry(*ports).or_default().insert(class);
        }
        for projection in self.projections_for(signature) {
            let Some(asked) = self.projections.lookup(projection) else { continue };
            let Some(state) = self.projection_states.get_mut(&projection) else { continue };
            let answers = signature.project(&asked.predicates, &asked.ports);
            let (row, fresh) = state.place(class, answers);
            if fresh {
                fresh_rows.insert((projection, row));
            }
            state.note(projection, class, row, changes);
        }
    }

    fn forget_class(&mut self, class: ClassId, signature: &Signature, changes: &mut ProgramChanges) {
        for predicate in &signature.holds {
            forget(&mut self.classes_with, predicate, class);
        }
        for (ports, _) in &signature.ports {
            forget(&mut self.classes_with_ports, ports, class);
        }
        for projection in self.projections_for(signature) {
            if let Some(state) = self.projection_states.get_mut(&projection)
                && state.displace(class)
            {
                state.note(projection, class, 0, changes);
            }
        }
    }

    fn create_bodies(
        &mut self,
        program: ProgramId,
        policies: &Policies,
        classes: &Interner<ClassId, Signature>,
        changes: &mut ProgramChanges,
    ) {
        for family in Family::ALL {
            let (mut source, mut destination) = (Asked::default(), Asked::default());
            if let Some(key) = self.keys.lookup(program) {
                let direction = key.hook.direction();
                for unit in self.units(key, policies) {
                    if let Some(rules) = unit.rules(family.version()) {
                        rules.sides(direction, &mut source, &mut destination);
                    }
                }
            }
            source.normalise();
            destination.normalise();
            let source = self.acquire_projection(source, classes, changes);
            let destination = self.acquire_projection(destination, classes, changes);
            for projection in [source, destination] {
                if let Some(state) = self.projection_states.get_mut(&projection) {
                    state.users.insert((program, family));
                }
            }
            self.bodies.insert((program, family), BodyState { source, destination, cells: BTreeMap::new() });
        }
    }

    fn units<'p>(&'p self, key: &'p ProgramKey, policies: &'p Policies) -> impl Iterator<Item = &'p Unit> {
        let direction = key.hook.direction();
        let prelude = self.preludes.get(&key.hook).into_iter().flatten().map(|(unit, _)| unit);
        let of_policies = key.tiers.iter().flat_map(|tier| &tier.policies);
        let of_policies =
            of_policies.filter_map(move |ix| policies.lookup(*ix)).map(move |state| state.unit(direction));
        let profiles = key.profiles.iter().filter_map(move |ix| policies.profile(*ix));
        prelude.chain(of_policies).chain(profiles.map(move |state| state.unit(direction)))
    }

    fn acquire_projection(
        &mut self,
        asked: Asked,
        classes: &Interner<ClassId, Signature>,
        changes: &mut ProgramChanges,
    ) -> ProjectionId {
        let (id, fresh) = self.projections.acquire(asked);
        if fresh == Fresh::No {
            return id;
        }
        let mut state = ProjectionState {
            rows: vec![Some(RowState { answers: Signature::default(), classes: 0 })],
            row_of_answers: BTreeMap::from([(Signature::default(), 0)]),
            row_of_class: BTreeMap::new(),
            users: BTreeSet::new(),
        };
        if let Some(asked) = self.projections.lookup(id) {
            let mut members: BTreeSet<ClassId> = BTreeSet::new();
            for predicate in &asked.predicates {
                self.by_predicate.entry(*predicate).or_default().insert(id);
                members.extend(self.classes_with.get(predicate).into_iter().flatten());
            }
            for ports in &asked.ports {
                self.by_ports.entry(*ports).or_default().insert(id);
                members.extend(self.classes_with_ports.get(ports).into_iter().flatten());
            }
            let rows = &mut changes.projections.entry(id).or_default().1;
            for class in members {
                let Some(signature) = classes.lookup(class) else { continue };
                let (row, _) = state.place(class, signature.project(&asked.predicates, &asked.ports));
                rows.insert(class, row);
            }
        }
        changes.projections.entry(id).or_default().0 = u32::try_from(state.rows.len()).unwrap_or(u32::MAX);
        self.projection_states.insert(id, state);
        id
    }

    /// Makes the cells of a body that are missing or have a fresh row.
    fn fill(
        &mut self,
        program: ProgramId,
        family: Family,
        fresh_rows: &BTreeSet<(ProjectionId, u32)>,
        policies: &Policies,
        tables: &mut Tables,
    ) {
        let Some(mut body) = self.bodies.remove(&(program, family)) else { return };
        if let Some(key) = self.keys.lookup(program)
            && let Some(sources) = self.projection_states.get(&body.source)
            && let Some(destinations) = self.projection_states.get(&body.destination)
        {
            let chain = self.chain(key, family, policies);
            for (source, from) in (0u32..).zip(&sources.rows) {
                for (destination, to) in (0u32..).zip(&destinations.rows) {
                    let fresh = fresh_rows.contains(&(body.source, source))
                        || fresh_rows.contains(&(body.destination, destination));
                    if !fresh && body.cells.contains_key(&(source, destination)) {
                        continue;
                    }
                    let table = match (from, to) {
                        (Some(from), Some(to)) => fold(&chain, &from.answers, &to.answers, tables),
                        // A free row is on no packet's way; any table will do. Row 0 is never free.
                        _ => match body.cells.get(&(0, 0)) {
                            Some(table) => {
                                tables.tables.retain(*table);
                                *table
                            }
                            None => continue,
                        },
                    };
                    if let Some(old) = body.cells.insert((source, destination), table) {
                        tables.tables.release(old);
                    }
                }
            }
        }
        self.bodies.insert((program, family), body);
    }

    /// The ordered list that a program stands for.
    fn chain<'p>(&'p self, key: &'p ProgramKey, family: Family, policies: &'p Policies) -> Chain<'p> {
        let direction = key.hook.direction();
        let mut items = Vec::new();
        for (unit, cause) in self.preludes.get(&key.hook).into_iter().flatten() {
            push_rules(&mut items, unit, family, &Owner::BuiltIn(cause.clone()));
        }
        for tier in &key.tiers {
            let mut last = None;
            for state in tier.policies.iter().filter_map(|ix| policies.lookup(*ix)) {
                let owner = Owner::Policy { id: &state.policy.id, tier: &tier.name };
                push_rules(&mut items, state.unit(direction), family, &owner);
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
                ProfileOrigin::Implicit => Owner::BuiltIn(Cause::NoPolicy),
                ProfileOrigin::Declared => Owner::Profile { name: &state.name },
            };
            push_rules(&mut items, state.unit(direction), family, &owner);
        }
        Chain { direction, items, end }
    }
}

fn push_rules<'p>(items: &mut Vec<Item<'p>>, unit: &'p Unit, family: Family, owner: &Owner<'p>) {
    if let Some(rules) = unit.rules(family.version()) {
        items.extend(rules.rules.iter().map(|rule| Item::Rule { rule, owner: owner.clone() }));
    }
}

impl ProjectionState {
    /// Puts a class on the row of its answers, and tells whether the row is fresh.
    fn place(&mut self, class: ClassId, answers: Signature) -> (u32, bool) {
        if let Some(row) = self.row_of_answers.get(&answers).copied() {
            self.occupy(class, row);
            return (row, false);
        }
        let free = self.rows.iter().position(Option::is_none);
        let index = free.unwrap_or(self.rows.len());
        let row = u32::try_from(index).unwrap_or(u32::MAX);
        let state = Some(RowState { answers: answers.clone(), classes: 0 });
        match self.rows.get_mut(index) {
            Some(slot) => *slot = state,
            None => self.rows.push(state),
        }
        self.row_of_answers.insert(answers, row);
        self.occupy(class, row);
        (row, true)
    }

    fn occupy(&mut self, class: ClassId, row: u32) {
        if self.row_of_class.insert(class, row) != Some(row)
            && let Some(state) = self.row_mut(row)
        {
            state.classes = state.classes.saturating_add(1);
        }
    }

    /// Takes a class off its row, and tells whether it was on one. Frees the row with its last class.
    fn displace(&mut self, class: ClassId) -> bool {
        let Some(row) = self.row_of_class.remove(&class) else { return false };
        let Some(state) = self.row_mut(row) else { return true };
        state.classes = state.classes.saturating_sub(1);
        if state.classes == 0 && row != 0 {
            let answers = state.answers.clone();
            self.row_of_answers.remove(&answers);
            if let Some(slot) = usize::try_from(row).ok().and_then(|index| self.rows.get_mut(index)) {
                *slot = None;
            }
        }
        true
    }

    fn row_mut(&mut self, row: u32) -> Option<&mut RowState> {
        self.rows.get_mut(usize::try_from(row).ok()?)?.as_mut()
    }

    fn note(&self, id: ProjectionId, class: ClassId, row: u32, changes: &mut ProgramChanges) {
        let (rows, set) = changes.projections.entry(id).or_default();
        *rows = u32::try_from(self.rows.len()).unwrap_or(u32::MAX);
        set.insert(class, row);
    }
}

fn forget<K: Ord, I: Ord>(map: &mut BTreeMap<K, BTreeSet<I>>, key: &K, id: I) {
    if let Some(ids) = map.get_mut(key) {
        ids.remove(&id);
        if ids.is_empty() {
            map.remove(key);
        }
    }
}

/// See [`crate::reference::is_neighbour_discovery`].
fn discovery_rule() -> Rule {
    let l4 = [130, 131, 132, 133, 135, 136].map(|kind| L4Match {
        protocol: Some(Protocol::ICMPV6),
        icmp: Some(IcmpMatch { kind: Some(kind), code: None }),
        ..L4Match::default()
    });
    Rule { l4: l4.to_vec(), ..Rule::new(Action::Allow) }
}

/// See [`crate::reference::Failsafes::exempt`].
fn failsafe_rules(settings: &Settings, hook: Hook) -> Vec<Rule> {
    let failsafes = &settings.failsafes;
    let (requests, replies) = match hook {
        Hook::HostIngress | Hook::PreDnat => (&failsafes.inbound[..], &[][..]),
        Hook::HostEgress => (&failsafes.outbound[..], &[][..]),
        Hook::UntrackedIngress => (&failsafes.inbound[..], &failsafes.outbound[..]),
        Hook::UntrackedEgress => (&failsafes.outbound[..], &failsafes.inbound[..]),
        Hook::WorkloadIngress | Hook::WorkloadEgress | Hook::ForwardIngress | Hook::ForwardEgress => {
            return Vec::new();
        }
    };
    let rule = |failsafe: &crate::reference::Failsafe, reply: bool| {
        let port = vec![PortMatch::Range(PortRange::single(failsafe.port))];
        let mut l4 = L4Match { protocol: Some(failsafe.protocol), ..L4Match::default() };
        if reply {
            l4.source_ports = port;
        } else {
            l4.destination_ports = port;
        }
        let peers = failsafe.net.map(|net| EntityMatch::nets(vec![net])).into_iter().collect();
        Rule { l4: vec![l4], peers, ..Rule::new(Action::Allow) }
    };
    let requests = requests.iter().map(|failsafe| rule(failsafe, false));
    requests.chain(replies.iter().map(|failsafe| rule(failsafe, true))).collect()
}
