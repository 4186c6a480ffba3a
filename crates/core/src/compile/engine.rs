//! The engine: takes objects in and keeps the tables up to date.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::compile::addresses::Addresses;
use crate::compile::groups::{GroupId, GroupKey, GroupLabels, Groups, SelectorIndex};
use crate::compile::policies::{Policies, PolicyIx, cmp_policies};
use crate::compile::programs::{GroupPrograms, ProgramChanges, ProgramKey, Programs, TierKey};
use crate::compile::rules::Questions;
use crate::compile::signature::{PortPredicate, PortPredicateId, Ports, Predicate, PredicateId};
use crate::compile::tables::Tables;
use crate::ir::{
    ClassId, Delta, EndpointEntry, HookPrograms, Id, IdentityNamespace, L7Program, Program, ProgramId,
    ProjectionChange, ProjectionId, Snapshot,
};
use crate::label::{Labels, Name};
use crate::model::{
    Action, Cluster, DefaultAction, Endpoint, EndpointId, EndpointKind, Enforcement, EntityKinds,
    NetworkSetId, Placement, Policy, PolicyId, Rule, ServiceId, Update, cmp_order,
};
use crate::net::Cidr;
use crate::reference::{Settings, StagedPolicies};
use crate::verdict::{Direction, Hook};

/// Which endpoints get programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CompileScope {
    /// All: for analysis.
    #[default]
    All,
    /// Those on one node: for enforcement. Policies that apply to none of them cost nothing in the tables.
    Node(Name),
}

/// Why an update was refused. The engine is unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateError {
    owner: Name,
    direction: Direction,
    rule: usize,
}

impl UpdateError {
    /// The policy (as `kind namespace/name`) or profile (by name) that was refused.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The position of the rule, from 0.
    #[must_use]
    pub const fn rule(&self) -> usize {
        self.rule
    }
}

impl fmt::Display for UpdateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} rule {}: an HTTP match needs the action allow",
            self.owner, self.direction, self.rule
        )
    }
}

impl core::error::Error for UpdateError {}

/// The incremental compiler.
///
/// Deterministic: the same objects in any order and any batching give the same snapshot up to the naming of ids.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    scope: CompileScope,
    cluster: Cluster,
    dirty: Dirty,
    groups: Groups,
    owners: BTreeMap<OwnerId, OwnerState>,
    addresses: Addresses,
    questions: Questions,
    predicate_index: SelectorIndex<PredicateId>,
    /// Named-port questions; there are few, so every one is put to every new group.
    named_ports: BTreeSet<PortPredicateId>,
    /// Prefixes that were given a service's answers, to be taken back.
    service_prefixes: BTreeMap<ServiceId, BTreeSet<Cidr>>,
    policies: Policies,
    programs: Programs,
    tables: Tables,
    snapshot: Snapshot,
}

/// Objects that changed since the last commit.
#[derive(Debug, Default)]
struct Dirty {
    policies: BTreeSet<PolicyId>,
    tiers: BTreeSet<Name>,
    profiles: BTreeSet<Name>,
    owners: BTreeSet<OwnerId>,
    namespaces: BTreeSet<Name>,
    service_accounts: BTreeSet<(Name, Name)>,
    services: BTreeSet<ServiceId>,
}

/// Something that owns prefixes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum OwnerId {
    Endpoint(EndpointId),
    NetworkSet(NetworkSetId),
    Node(Name),
}

#[derive(Debug)]
struct OwnerState {
    group: GroupId,
    prefixes: Vec<Cidr>,
}

/// Work that one step of a commit leaves to the next.
#[derive(Default)]
struct Work {
    /// Groups whose policies, tiers or profiles changed.
    rekey: BTreeSet<GroupId>,
    /// Groups whose answers changed.
    answers: BTreeSet<GroupId>,
    /// Groups that may have lost their last member.
    emptied: BTreeSet<GroupId>,
    /// Endpoints whose entry may have changed.
    endpoints: BTreeSet<EndpointId>,
    /// Changes of the address table.
    addresses: BTreeMap<Cidr, Option<ClassId>>,
}

impl Engine {
    /// An engine without objects.
    #[must_use]
    pub fn new(settings: Settings, scope: CompileScope) -> Self {
        let mut questions = Questions::new();
        let programs = Programs::new(&settings, &mut questions);
        let mut engine = Self {
            settings,
            scope,
            cluster: Cluster::new(),
            dirty: Dirty::default(),
            groups: Groups::default(),
            owners: BTreeMap::new(),
            addresses: Addresses::new(),
            questions,
            predicate_index: SelectorIndex::new(),
            named_ports: BTreeSet::new(),
            service_prefixes: BTreeMap::new(),
            policies: Policies::new(),
            programs,
            tables: Tables::new(),
            snapshot: Snapshot::new(),
        };
        engine.ask_new_questions(&mut Work::default());
        engine
    }

    /// The objects as they are, changes that are not yet committed included.
    #[must_use]
    pub const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The tables as of the last commit.
    #[must_use]
    pub const fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Takes one change in. It has no effect on the tables before [`Engine::commit`].
    ///
    /// # Errors
    /// When a rule with an HTTP match has another action than Allow, which no policy language has.
    pub fn apply(&mut self, update: Update) -> Result<(), UpdateError> {
        check(&update)?;
        let dirty = &mut self.dirty;
        match &update {
            Update::Policy(policy) => {
                dirty.policies.insert(policy.id.clone());
            }
            Update::RemovePolicy(id) => {
                dirty.policies.insert(id.clone());
            }
            Update::Tier(tier) => {
                dirty.tiers.insert(tier.name.clone());
            }
            Update::RemoveTier(name) => {
                dirty.tiers.insert(name.clone());
            }
            Update::Profile(profile) => {
                dirty.profiles.insert(profile.name.clone());
            }
            Update::RemoveProfile(name) => {
                dirty.profiles.insert(name.clone());
            }
            Update::Endpoint(endpoint) => {
                dirty.owners.insert(OwnerId::Endpoint(endpoint.id.clone()));
            }
            Update::RemoveEndpoint(id) => {
                dirty.owners.insert(OwnerId::Endpoint(id.clone()));
            }
            Update::NetworkSet(set) => {
                dirty.owners.insert(OwnerId::NetworkSet(set.id.clone()));
            }
            Update::RemoveNetworkSet(id) => {
                dirty.owners.insert(OwnerId::NetworkSet(id.clone()));
            }
            Update::Node(node) => {
                dirty.owners.insert(OwnerId::Node(node.name.clone()));
            }
            Update::RemoveNode(name) => {
                dirty.owners.insert(OwnerId::Node(name.clone()));
            }
            Update::Namespace(namespace) => {
                dirty.namespaces.insert(namespace.name.clone());
            }
            Update::RemoveNamespace(name) => {
                dirty.namespaces.insert(name.clone());
            }
            Update::ServiceAccount(account) => {
                dirty.service_accounts.insert((account.namespace.clone(), account.name.clone()));
            }
            Update::RemoveServiceAccount(namespace, name) => {
                dirty.service_accounts.insert((namespace.clone(), name.clone()));
            }
            Update::Service(service) => {
                dirty.services.insert(service.id.clone());
            }
            Update::RemoveService(id) => {
                dirty.services.insert(id.clone());
            }
        }
        self.cluster.apply(update);
        Ok(())
    }

    /// Brings the tables up to date with all changes since the last commit, and tells what changed in them.
    ///
    /// Applied to the snapshot before, the delta gives the snapshot after. Without a change in the tables it is
    /// empty and the generation stays.
    pub fn commit(&mut self) -> Delta {
        let dirty = core::mem::take(&mut self.dirty);
        let identities_dirty = !dirty.namespaces.is_empty() || !dirty.service_accounts.is_empty();
        let mut work = Work::default();
        self.take_inherited(&dirty, &mut work);
        self.take_policies(&dirty, &mut work);
        self.take_owners(&dirty.owners, &mut work);
        for service in &dirty.services {
            self.answer_service(service);
        }

        let mut changes = ProgramChanges::default();
        let old_programs = self.rekey(&mut work);
        self.ask_new_questions(&mut work);
        for program in old_programs {
            self.programs.keys.release(program);
        }
        self.programs.sweep(&mut self.policies, &mut self.questions, &mut self.tables, &mut changes);
        self.drop_old_questions(&mut work);
        for group in core::mem::take(&mut work.emptied) {
            if self.groups.lookup(group).is_some_and(|group| group.members == 0)
                && let Some(state) = self.groups.remove(group)
            {
                for policy in state.policies {
                    if let Some(policy) = self.policies.lookup_mut(policy) {
                        policy.groups.remove(&group);
                    }
                }
            }
        }
        self.settle_addresses(&mut work, &mut changes);
        let swept = self.tables.sweep();
        let delta = self.delta(work, changes, &swept, identities_dirty);
        self.tables.end_commit();
        self.programs.end_commit();
        self.addresses.classes.end_commit();
        self.questions.predicates.end_commit();
        self.questions.ports.end_commit();
        delta
    }

    /// Namespaces, service accounts and profiles: what groups inherit labels and rules from.
    fn take_inherited(&mut self, dirty: &Dirty, work: &mut Work) {
        let mut stale: BTreeSet<GroupId> = BTreeSet::new();
        for namespace in &dirty.namespaces {
            stale.extend(self.groups.in_namespace(namespace));
        }
        for (namespace, account) in &dirty.service_accounts {
            let groups = self.groups.in_namespace(namespace);
            stale.extend(groups.into_iter().filter(|id| {
                self.groups
                    .lookup(*id)
                    .is_some_and(|group| group.key.service_account.as_ref() == Some(account))
            }));
        }
        for name in &dirty.profiles {
            let now = self.cluster.profiles().get(name);
            if self.policies.known_profile(name).is_some_and(|known| known.profile.as_deref() == now) {
                continue;
            }
            self.policies.retire_profile(name);
            let groups = self.groups.with_profile(name);
            work.rekey.extend(groups.iter().copied());
            stale.extend(groups);
        }
        for group in stale {
            self.evaluate(group, work);
        }
    }

    fn take_policies(&mut self, dirty: &Dirty, work: &mut Work) {
        for id in &dirty.policies {
            let now = self.cluster.policies().get(id);
            let current = self.policies.current(id);
            if let Some(ix) = current {
                if self.policies.lookup(ix).map(|state| &*state.policy) == now {
                    continue;
                }
                for group in self.policies.retire(ix) {
                    if let Some(state) = self.groups.lookup_mut(group) {
                        state.policies.remove(&ix);
                    }
                    work.rekey.insert(group);
                }
            }
            let Some(policy) = now else { continue };
            let ix = self.policies.insert(policy);
            for group in self.groups.candidates(&policy.subject.expr) {
                let Some(state) = self.groups.lookup_mut(group) else { continue };
                let labels = GroupLabels { cluster: &self.cluster, key: &state.key };
                if labels.selected_by(&policy.subject) {
                    state.policies.insert(ix);
                    if let Some(policy) = self.policies.lookup_mut(ix) {
                        policy.groups.insert(group);
                    }
                    work.rekey.insert(group);
                }
            }
        }
        if !dirty.tiers.is_empty() {
            let policies = &self.policies;
            let concerned = |ix: &PolicyIx| {
                policies.lookup(*ix).is_some_and(|state| dirty.tiers.contains(&state.policy.tier))
            };
            let groups = self.groups.iter().filter(|(_, group)| group.policies.iter().any(concerned));
            work.rekey.extend(groups.map(|(id, _)| id));
        }
    }

    fn take_owners(&mut self, dirty: &BTreeSet<OwnerId>, work: &mut Work) {
        for id in dirty {
            let now = self.describe(id);
            let old = self.owners.get(id);
            let local = match id {
                OwnerId::Endpoint(endpoint) => {
                    work.endpoints.insert(endpoint.clone());
                    let endpoint = self.cluster.endpoints().get(endpoint);
                    endpoint.filter(|endpoint| self.is_local(endpoint)).map(|endpoint| endpoint.id.clone())
                }
                OwnerId::NetworkSet(_) | OwnerId::Node(_) => None,
            };
            let group = now.as_ref().map(|(key, _)| match self.groups.find(key) {
                Some(group) => (group, false),
                None => (self.groups.create(key.clone()), true),
            });
            // Link first, so that a group that stays in use is never taken for an empty one.
            let new_state =
                now.zip(group).map(|((_, prefixes), (group, fresh))| (OwnerState { group, prefixes }, fresh));
            let same = match (old, &new_state) {
                (Some(old), Some((new, _))) => old.group == new.group && old.prefixes == new.prefixes,
                _ => false,
            };
            if !same {
                if let Some((state, _)) = &new_state {
                    self.link(state);
                }
                if let Some(old) = self.owners.remove(id) {
                    self.unlink(&old, id, work);
                }
            }
            if let Some((state, fresh)) = new_state {
                let group = state.group;
                if !same {
                    self.owners.insert(id.clone(), state);
                }
                if let (OwnerId::Endpoint(id), Some(state)) = (id, self.groups.lookup_mut(group)) {
                    match local {
                        Some(local) => drop(state.local.insert(local)),
                        None => drop(state.local.remove(id)),
                    }
                    // A group gets its programs with its first local member and gives them up with the last.
                    if state.local.is_empty() == state.programs.is_some() {
                        work.rekey.insert(group);
                    }
                }
                if fresh {
                    self.evaluate(group, work);
                }
            }
        }
    }

    fn link(&mut self, state: &OwnerState) {
        let Some(group) = self.groups.lookup_mut(state.group) else { return };
        group.members = group.members.saturating_add(1);
        for prefix in &state.prefixes {
            let count = group.prefixes.entry(*prefix).or_default();
            *count = count.saturating_add(1);
            self.addresses.add_owner(*prefix, state.group);
        }
    }

    fn unlink(&mut self, state: &OwnerState, id: &OwnerId, work: &mut Work) {
        let Some(group) = self.groups.lookup_mut(state.group) else { return };
        group.members = group.members.saturating_sub(1);
        if let OwnerId::Endpoint(id) = id {
            group.local.remove(id);
            if group.local.is_empty() && group.programs.is_some() {
                work.rekey.insert(state.group);
            }
        }
        for prefix in &state.prefixes {
            if let Some(count) = group.prefixes.get_mut(prefix) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    group.prefixes.remove(prefix);
                }
            }
            self.addresses.remove_owner(*prefix, state.group);
        }
        if group.members == 0 {
            work.emptied.insert(state.group);
            work.rekey.insert(state.group);
        }
    }

    /// The group key and prefixes of an owner, or `None` when it is gone.
    fn describe(&self, id: &OwnerId) -> Option<(GroupKey, Vec<Cidr>)> {
        let plain = |kind, namespace: Option<&Name>, labels: &Labels| GroupKey {
            kind,
            namespace: namespace.cloned(),
            service_account: None,
            labels: labels.clone(),
            profiles: Vec::new(),
            ports: Vec::new(),
        };
        let (key, mut prefixes) = match id {
            OwnerId::Endpoint(id) => {
                let endpoint = self.cluster.endpoints().get(id)?;
                let kind = match id.kind {
                    EndpointKind::Workload => EntityKinds::WORKLOAD,
                    EndpointKind::Host => EntityKinds::HOST,
                };
                let mut ports = endpoint.ports.clone();
                ports.sort_unstable();
                ports.dedup();
                let key = GroupKey {
                    service_account: endpoint.service_account.clone(),
                    profiles: endpoint.profiles.clone(),
                    ports,
                    ..plain(kind, id.namespace.as_ref(), &endpoint.labels)
                };
                (key, hosts(&endpoint.addresses))
            }
            OwnerId::NetworkSet(id) => {
                let set = self.cluster.network_sets().get(id)?;
                (plain(EntityKinds::NETWORK_SET, id.namespace.as_ref(), &set.labels), set.nets.clone())
            }
            OwnerId::Node(name) => {
                let node = self.cluster.nodes().get(name)?;
                (plain(EntityKinds::NODE, None, &node.labels), hosts(&node.addresses))
            }
        };
        prefixes.sort_unstable();
        prefixes.dedup();
        Some((key, prefixes))
    }

    fn is_local(&self, endpoint: &Endpoint) -> bool {
        match &self.scope {
            CompileScope::All => true,
            CompileScope::Node(node) => endpoint.node.as_ref() == Some(node),
        }
    }

    /// Puts every question and every policy subject to a group anew.
    fn evaluate(&mut self, id: GroupId, work: &mut Work) {
        let Some(group) = self.groups.lookup_mut(id) else { return };
        let labels = GroupLabels { cluster: &self.cluster, key: &group.key };
        let mut signature = crate::compile::signature::Signature::default();
        for predicate in self.predicate_index.candidates(&labels) {
            if let Some(Predicate::Select(selector)) = self.questions.predicates.lookup(predicate)
                && labels.selected_by(selector)
            {
                signature.holds.push(predicate);
            }
        }
        for question in &self.named_ports {
            if let Some(PortPredicate::Named(selector, name)) = self.questions.ports.lookup(*question) {
                let ports = labels.named_ports(selector.as_ref(), name);
                if !ports.is_empty() {
                    signature.ports.push((*question, ports));
                }
            }
        }
        let mut policies = BTreeSet::new();
        for ix in self.policies.subjects.candidates(&labels) {
            if self.policies.lookup(ix).is_some_and(|state| labels.selected_by(&state.policy.subject)) {
                policies.insert(ix);
            }
        }
        if group.signature != signature {
            group.signature = signature;
            work.answers.insert(id);
        }
        if group.policies != policies {
            work.rekey.insert(id);
            for ix in group.policies.difference(&policies) {
                if let Some(state) = self.policies.lookup_mut(*ix) {
                    state.groups.remove(&id);
                }
            }
            for ix in &policies {
                if let Some(state) = self.policies.lookup_mut(*ix) {
                    state.groups.insert(id);
                }
            }
            group.policies = policies;
        }
    }

    /// Gives groups with local members the programs of their policies. Returns the programs they had, whose
    /// references are still to be given back: after the new ones are known, so that what both use stays.
    fn rekey(&mut self, work: &mut Work) -> Vec<ProgramId> {
        let mut old = Vec::new();
        for id in core::mem::take(&mut work.rekey) {
            let Some(group) = self.groups.lookup(id) else { continue };
            let programs = if group.local.is_empty() {
                None
            } else {
                let (kind, policies) = (group.key.kind, self.ordered(&group.policies));
                let profiles = group.key.profiles.clone();
                let enforce_staged = self.settings.staged == StagedPolicies::Enforce;
                let enforced = self.hook_programs(kind, &policies, &profiles, enforce_staged);
                let staged = |(_, tier): &(_, Vec<PolicyIx>)| tier.iter().any(|ix| self.is_staged(*ix));
                let pending = !enforce_staged && policies.iter().any(staged);
                let pending = pending.then(|| self.hook_programs(kind, &policies, &profiles, true));
                Some(GroupPrograms { entry: Arc::new(EndpointEntry { enforced, pending }) })
            };
            let Some(group) = self.groups.lookup_mut(id) else { continue };
            work.endpoints.extend(group.local.iter().cloned());
            if let Some(programs) = core::mem::replace(&mut group.programs, programs) {
                old.extend(programs.ids());
            }
        }
        old
    }

    fn is_staged(&self, ix: PolicyIx) -> bool {
        self.policies.lookup(ix).is_some_and(|state| state.policy.enforcement == Enforcement::Staged)
    }

    /// The policies by tier, both in evaluation order; see [`crate::reference`].
    fn ordered(&self, policies: &BTreeSet<PolicyIx>) -> Vec<(Name, Vec<PolicyIx>)> {
        let mut by_tier: BTreeMap<Name, Vec<PolicyIx>> = BTreeMap::new();
        for ix in policies {
            if let Some(state) = self.policies.lookup(*ix) {
                by_tier.entry(state.policy.tier.clone()).or_default().push(*ix);
            }
        }
        let mut tiers: Vec<(Name, Vec<PolicyIx>)> = by_tier.into_iter().collect();
        for (_, policies) in &mut tiers {
            policies.sort_by(|a, b| cmp_policies(&self.policies, *a, *b));
        }
        let known = self.cluster.tiers();
        tiers.sort_by(|(a, _), (b, _)| match (known.get(a), known.get(b)) {
            (Some(x), Some(y)) => cmp_order(x.order, y.order).then_with(|| a.cmp(b)),
            (x, y) => x.is_none().cmp(&y.is_none()).then_with(|| a.cmp(b)),
        });
        tiers
    }

    fn hook_programs(
        &mut self,
        kind: EntityKinds,
        tiers: &[(Name, Vec<PolicyIx>)],
        profiles: &[Name],
        staged: bool,
    ) -> HookPrograms {
        let hooks = Hook::ALL.into_iter().filter(|hook| {
            let workload = matches!(hook, Hook::WorkloadIngress | Hook::WorkloadEgress);
            workload == (kind == EntityKinds::WORKLOAD)
        });
        let mut programs = BTreeMap::new();
        for hook in hooks {
            let ends_in_deny =
                !matches!(hook, Hook::PreDnat | Hook::UntrackedIngress | Hook::UntrackedEgress);
            let mut key = ProgramKey { hook, tiers: Vec::new(), profiles: Vec::new() };
            for (name, policies) in tiers {
                let takes_part = |ix: &PolicyIx| {
                    self.policies.lookup(*ix).is_some_and(|state| takes_part(&state.policy, hook, staged))
                };
                let policies: Vec<PolicyIx> = policies.iter().copied().filter(takes_part).collect();
                if !policies.is_empty() {
                    let action = self.cluster.tiers().get(name).map(|tier| tier.default_action);
                    let deny = ends_in_deny && action != Some(DefaultAction::Pass);
                    key.tiers.push(TierKey { name: name.clone(), deny, policies });
                }
            }
            if matches!(
                hook,
                Hook::WorkloadIngress | Hook::WorkloadEgress | Hook::HostIngress | Hook::HostEgress
            ) {
                let profile = |name| self.policies.profile_ix(name, self.cluster.profiles().get(name));
                key.profiles = profiles.iter().map(profile).collect();
            }
            let program = self.programs.acquire(key, &mut self.policies, &mut self.questions);
            programs.insert(hook, program);
        }
        HookPrograms(programs)
    }

    /// Puts questions that are new to whatever may answer them.
    fn ask_new_questions(&mut self, work: &mut Work) {
        for id in self.questions.predicates.take_created() {
            match self.questions.predicates.lookup(id).cloned() {
                Some(Predicate::Select(selector)) => {
                    self.predicate_index.insert(id, &selector.expr);
                    for group in self.groups.candidates(&selector.expr) {
                        let Some(state) = self.groups.lookup_mut(group) else { continue };
                        let labels = GroupLabels { cluster: &self.cluster, key: &state.key };
                        if labels.selected_by(&selector)
                            && let Err(at) = state.signature.holds.binary_search(&id)
                        {
                            state.signature.holds.insert(at, id);
                            work.answers.insert(group);
                        }
                    }
                }
                Some(Predicate::Nets(nets)) => {
                    for net in nets {
                        self.addresses.add_predicate(net, id);
                    }
                }
                Some(Predicate::Service(service)) => self.answer_service(&service),
                None => {}
            }
        }
        for id in self.questions.ports.take_created() {
            match self.questions.ports.lookup(id).cloned() {
                Some(PortPredicate::Named(selector, name)) => {
                    self.named_ports.insert(id);
                    let candidates = match &selector {
                        Some(selector) => self.groups.candidates(&selector.expr),
                        None => self.groups.ids(),
                    };
                    for group in candidates {
                        let Some(state) = self.groups.lookup_mut(group) else { continue };
                        let labels = GroupLabels { cluster: &self.cluster, key: &state.key };
                        let ports = labels.named_ports(selector.as_ref(), &name);
                        let at = state.signature.ports.binary_search_by_key(&id, |(id, _)| *id);
                        if let (false, Err(at)) = (ports.is_empty(), at) {
                            state.signature.ports.insert(at, (id, ports));
                            work.answers.insert(group);
                        }
                    }
                }
                Some(PortPredicate::Service(service)) => self.answer_service(&service),
                None => {}
            }
        }
    }

    /// Takes back the answers to questions that nobody asks any more.
    fn drop_old_questions(&mut self, work: &mut Work) {
        for (id, predicate) in self.questions.predicates.sweep() {
            match predicate {
                Predicate::Select(selector) => {
                    self.predicate_index.remove(id, &selector.expr);
                    for group in self.groups.candidates(&selector.expr) {
                        let Some(state) = self.groups.lookup_mut(group) else { continue };
                        if let Ok(at) = state.signature.holds.binary_search(&id) {
                            state.signature.holds.remove(at);
                            work.answers.insert(group);
                        }
                    }
                }
                Predicate::Nets(nets) => {
                    for net in nets {
                        self.addresses.remove_predicate(net, id);
                    }
                }
                Predicate::Service(service) => {
                    for net in self.service_prefixes.get(&service).into_iter().flatten() {
                        self.addresses.remove_predicate(*net, id);
                    }
                    self.answer_service(&service);
                }
            }
        }
        for (id, question) in self.questions.ports.sweep() {
            match question {
                PortPredicate::Named(..) => {
                    self.named_ports.remove(&id);
                    for group in self.groups.ids() {
                        let Some(state) = self.groups.lookup_mut(group) else { continue };
                        if let Ok(at) = state.signature.ports.binary_search_by_key(&id, |(id, _)| *id) {
                            state.signature.ports.remove(at);
                            work.answers.insert(group);
                        }
                    }
                }
                PortPredicate::Service(service) => {
                    for net in self.service_prefixes.get(&service).into_iter().flatten() {
                        self.addresses.set_ports(*net, id, Ports::new());
                    }
                    self.answer_service(&service);
                }
            }
        }
    }

    /// Brings the answers about a service up to date.
    fn answer_service(&mut self, id: &ServiceId) {
        let predicate = self.questions.predicates.find(&Predicate::Service(id.clone()));
        let question = self.questions.ports.find(&PortPredicate::Service(id.clone()));
        let mut now: BTreeMap<Cidr, Ports> = BTreeMap::new();
        if predicate.is_some() || question.is_some() {
            for backend in self.cluster.services().get(id).into_iter().flat_map(|service| &service.backends) {
                now.entry(Cidr::host(backend.address)).or_default().extend(backend.port);
            }
        }
        let old = self.service_prefixes.remove(id).unwrap_or_default();
        for net in &old {
            if !now.contains_key(net) {
                if let Some(predicate) = predicate {
                    self.addresses.clear_predicate(*net, predicate);
                }
                if let Some(question) = question {
                    self.addresses.set_ports(*net, question, Ports::new());
                }
            }
        }
        for (net, ports) in &mut now {
            ports.sort_unstable();
            ports.dedup();
            if let Some(predicate) = predicate {
                self.addresses.clear_predicate(*net, predicate);
                self.addresses.add_predicate(*net, predicate);
            }
            if let Some(question) = question {
                self.addresses.set_ports(*net, question, ports.clone());
            }
        }
        if !now.is_empty() {
            self.service_prefixes.insert(id.clone(), now.into_keys().collect());
        }
    }

    /// Classes, then rows and cells.
    fn settle_addresses(&mut self, work: &mut Work, changes: &mut ProgramChanges) {
        for group in core::mem::take(&mut work.answers) {
            if let Some(group) = self.groups.lookup(group) {
                for prefix in group.prefixes.keys() {
                    self.addresses.mark(*prefix);
                }
            }
        }
        let listed = &mut work.addresses;
        self.addresses.settle(&self.groups, |net, class| {
            listed.insert(net, class);
        });
        let gone = self.addresses.classes.sweep();
        let created = self.addresses.classes.take_created();
        let classes = &self.addresses.classes;
        self.programs.settle(&created, &gone, classes, &self.policies, &mut self.tables, changes);
        self.programs.sweep_projections(changes);
    }

    /// Writes the changes into the snapshot and lists them.
    fn delta(
        &mut self,
        work: Work,
        changes: ProgramChanges,
        swept: &crate::compile::tables::Swept,
        identities_dirty: bool,
    ) -> Delta {
        let tables = &mut self.tables;
        let decisions = tables.decisions.take_created();
        let l7 = tables.l7.take_created();
        let l4 = tables.tables.take_created();
        let mut delta = Delta {
            from: self.snapshot.generation,
            to: self.snapshot.generation,
            decisions: entries(decisions, &swept.decisions, |id| tables.decisions.lookup(id).cloned()),
            l7: entries(l7, &swept.l7, |id| tables.l7.lookup(id).cloned()),
            tables: entries(l4, &swept.tables, |id| tables.tables.lookup(id).cloned()),
            ..Delta::default()
        };
        delta.projections = self.projection_changes(&changes);
        let mut programs: BTreeMap<ProgramId, Option<Program>> = BTreeMap::new();
        let known = |id: ProgramId| self.snapshot.programs.lookup(id);
        programs
            .extend(changes.programs_gone.iter().filter(|id| known(**id).is_some()).map(|id| (*id, None)));
        let changed = changes.programs.into_iter().filter(|(id, program)| known(*id) != Some(program));
        programs.extend(changed.map(|(id, program)| (id, Some(program))));
        delta.programs = programs.into_iter().collect();
        let listed = |net: &Cidr| self.snapshot.addresses.get(net).copied();
        delta.addresses = work.addresses.into_iter().filter(|(net, class)| listed(net) != *class).collect();
        for id in work.endpoints {
            let entry = self.entry(&id);
            if self.snapshot.endpoints.get(&id) != entry.as_deref() {
                delta.endpoints.push((id, entry.map(|entry| (*entry).clone())));
            }
        }
        if identities_dirty || !delta.l7.is_empty() {
            delta.identities = self.identity_changes();
        }
        if !delta.is_empty() {
            delta.to = delta.from.saturating_add(1);
        }
        // The delta starts from the snapshot's own generation, so this cannot fail.
        let applied = self.snapshot.apply(&delta);
        debug_assert!(applied.is_ok(), "a delta follows from its own snapshot");
        delta
    }

    /// The programs of a local endpoint.
    fn entry(&self, id: &EndpointId) -> Option<Arc<EndpointEntry>> {
        let owner = self.owners.get(&OwnerId::Endpoint(id.clone()))?;
        let group = self.groups.lookup(owner.group)?;
        if !group.local.contains(id) {
            return None;
        }
        group.programs.as_ref().map(|programs| programs.entry.clone())
    }

    fn projection_changes(&self, changes: &ProgramChanges) -> Vec<(ProjectionId, Option<ProjectionChange>)> {
        let mut list: BTreeMap<ProjectionId, Option<ProjectionChange>> = BTreeMap::new();
        let known = |id: ProjectionId| self.snapshot.projections.lookup(id);
        for id in &changes.projections_gone {
            if known(*id).is_some() {
                list.insert(*id, None);
            }
        }
        for (id, (rows, set)) in &changes.projections {
            let old = known(*id);
            let row = |class: ClassId| old.map_or(0, |projection| projection.row(class));
            let set: Vec<(ClassId, u32)> = set
                .iter()
                .map(|(class, new)| (*class, *new))
                .filter(|(class, new)| row(*class) != *new)
                .collect();
            if !set.is_empty() || old.map(|projection| projection.rows) != Some(*rows) {
                list.insert(*id, Some(ProjectionChange { rows: *rows, set }));
            }
        }
        list.into_iter().collect()
    }

    /// The labels that identities are matched against, as far as they differ from the snapshot's.
    fn identity_changes(&self) -> Vec<(Name, Option<IdentityNamespace>)> {
        let mut now: BTreeMap<Name, IdentityNamespace> = BTreeMap::new();
        let asked = |program: &L7Program| program.steps.iter().any(|step| !step.guard.identities.is_empty());
        if self.tables.l7.iter().any(|(_, program)| asked(program)) {
            for (name, namespace) in self.cluster.namespaces() {
                now.entry(name.clone()).or_default().labels = namespace.labels.clone();
            }
            for ((namespace, name), account) in self.cluster.service_accounts() {
                let accounts = &mut now.entry(namespace.clone()).or_default().service_accounts;
                accounts.insert(name.clone(), account.labels.clone());
            }
        }
        let old = &self.snapshot.identities;
        let mut changed: BTreeMap<Name, Option<IdentityNamespace>> =
            old.keys().filter(|name| !now.contains_key(*name)).map(|name| (name.clone(), None)).collect();
        let new = now.into_iter().filter(|(name, namespace)| old.get(name) != Some(namespace));
        changed.extend(new.map(|(name, namespace)| (name, Some(namespace))));
        changed.into_iter().collect()
    }
}

/// Created and removed entries of one arena as a list by id.
fn entries<I: Id, T>(created: Vec<I>, gone: &[I], lookup: impl Fn(I) -> Option<T>) -> Vec<(I, Option<T>)> {
    let mut list: Vec<(I, Option<T>)> = gone.iter().map(|id| (*id, None)).collect();
    list.extend(created.into_iter().map(|id| (id, lookup(id))));
    list.sort_by_key(|(id, _)| *id);
    list
}

fn hosts(addresses: &[core::net::IpAddr]) -> Vec<Cidr> {
    addresses.iter().map(|address| Cidr::host(*address)).collect()
}

/// Whether `policy` takes part at `hook`, staged ones included when `staged` says so.
/// Source: see [`crate::reference`].
fn takes_part(policy: &Policy, hook: Hook, staged: bool) -> bool {
    let direction = match hook.direction() {
        Direction::Ingress => policy.directions.ingress,
        Direction::Egress => policy.directions.egress,
    };
    let placed = match hook {
        Hook::WorkloadIngress | Hook::WorkloadEgress | Hook::HostIngress | Hook::HostEgress => {
            matches!(policy.placement, Placement::Normal | Placement::ApplyOnForward)
        }
        Hook::ForwardIngress | Hook::ForwardEgress => policy.placement == Placement::ApplyOnForward,
        Hook::PreDnat => policy.placement == Placement::PreDnat,
        Hook::UntrackedIngress | Hook::UntrackedEgress => policy.placement == Placement::Untracked,
    };
    direction && placed && (staged || policy.enforcement == Enforcement::Enforced)
}

fn check(update: &Update) -> Result<(), UpdateError> {
    let (owner, ingress, egress): (Name, &[Rule], &[Rule]) = match update {
        Update::Policy(policy) => (alloc::format!("{}", policy.id).into(), &policy.ingress, &policy.egress),
        Update::Profile(profile) => (profile.name.clone(), &profile.ingress, &profile.egress),
        _ => return Ok(()),
    };
    for (direction, rules) in [(Direction::Ingress, ingress), (Direction::Egress, egress)] {
        let bad = rules.iter().position(|rule| rule.http.is_some() && rule.action != Action::Allow);
        if let Some(rule) = bad {
            return Err(UpdateError { owner, direction, rule });
        }
    }
    Ok(())
}
