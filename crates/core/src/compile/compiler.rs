//! The compiler: takes objects in and keeps the tables up to date.

mod assign;
mod changes;
mod check;
mod delta;
mod excess;
mod members;
mod predicates;
mod slots;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::compile::addresses::Addresses;
use crate::compile::effort::CompileLimits;
use crate::compile::groups::Groups;
use crate::compile::ids::{GroupId, PredicateId};
use crate::compile::named_ports::NamedPorts;
use crate::compile::owners::{AddressOwnerId, Owners};
use crate::compile::policies::{Policies, PolicyState};
use crate::compile::program_changes::ProgramChanges;
use crate::compile::programs::Programs;
use crate::compile::rules::Predicates;
use crate::compile::selectors::SelectorIndex;
use crate::compile::tables::Tables;
use crate::ir::{BeforeImages, ClassId, Delta, Previous, Snapshot};
use crate::label::Name;
use crate::model::{Cluster, EndpointId, Policy, PolicyId, ServiceId, Update};
use crate::net::Cidr;
use crate::settings::Settings;

pub use check::UpdateError;
pub use excess::Excess;
pub use slots::Slots;

/// Which endpoints get programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CompileScope {
    /// All: for analysis.
    #[default]
    All,
    /// Those on one node: for enforcement. Policies that apply to none of them cost nothing in the tables.
    Node(Name),
}

/// The incremental compiler.
///
/// Deterministic: the same objects in any order and any batching give the same snapshot up to the naming of ids.
#[derive(Debug)]
pub struct Compiler {
    settings: Settings,
    scope: CompileScope,
    cluster: Cluster,
    dirty: Dirty,
    groups: Groups,
    owners: Owners,
    /// Profiles that have labels.
    labelled: BTreeSet<Name>,
    addresses: Addresses,
    predicates: Predicates,
    /// Predicates by their selectors, each with the position of the selector in its predicate.
    predicate_index: SelectorIndex<(PredicateId, u32)>,
    named_ports: NamedPorts,
    /// Prefixes for which predicates of a service hold, to be taken back.
    service_prefixes: BTreeMap<ServiceId, BTreeSet<Cidr>>,
    policies: Policies,
    programs: Programs,
    tables: Tables,
    snapshot: Snapshot,
    /// What the last commit replaced in the snapshot.
    before: BeforeImages,
}

/// Objects that changed since the last commit.
#[derive(Debug, Default)]
struct Dirty {
    /// With what they were at the last commit.
    policies: BTreeMap<PolicyId, Option<Box<Policy>>>,
    tiers: BTreeSet<Name>,
    profiles: BTreeSet<Name>,
    /// In the order of arrival; one that changed twice is listed twice.
    owners: Vec<AddressOwnerId>,
    namespaces: BTreeSet<Name>,
    service_accounts: BTreeSet<(Name, Name)>,
    services: BTreeSet<ServiceId>,
}

impl Dirty {
    /// All objects of `cluster`, none of which was there before.
    fn everything(cluster: &Cluster) -> Self {
        let endpoints = cluster.endpoints().keys().cloned().map(AddressOwnerId::Endpoint);
        let sets = cluster.network_sets().keys().cloned().map(AddressOwnerId::NetworkSet);
        let nodes = cluster.nodes().keys().cloned().map(AddressOwnerId::Node);
        Self {
            policies: cluster.policies().keys().map(|id| (id.clone(), None)).collect(),
            tiers: cluster.tiers().keys().cloned().collect(),
            profiles: cluster.profiles().keys().cloned().collect(),
            owners: endpoints.chain(sets).chain(nodes).collect(),
            namespaces: cluster.namespaces().keys().cloned().collect(),
            service_accounts: cluster.service_accounts().keys().cloned().collect(),
            services: cluster.services().keys().cloned().collect(),
        }
    }

    fn policy(&mut self, id: &PolicyId, before: &Cluster) {
        self.policies.entry(id.clone()).or_insert_with(|| before.policies().get(id).cloned().map(Box::new));
    }
}

/// Work that one step of a commit leaves to the next.
#[derive(Default)]
struct Work {
    /// Groups whose policies, tiers or profiles changed.
    rekey: Vec<GroupId>,
    /// Groups whose signature changed.
    changed_signatures: Vec<GroupId>,
    /// Groups that may have lost their last member.
    emptied: Vec<GroupId>,
    /// Endpoints whose entry may have changed.
    endpoints: Vec<EndpointId>,
    /// Changes of the address table, sorted.
    addresses: Vec<(Cidr, Option<ClassId>)>,
}

impl Compiler {
    /// A compiler without objects.
    #[must_use]
    pub fn new(settings: Settings, scope: CompileScope) -> Self {
        let mut predicates = Predicates::new();
        let programs = Programs::new(&settings, &mut predicates);
        let mut compiler = Self {
            settings,
            scope,
            cluster: Cluster::new(),
            dirty: Dirty::default(),
            groups: Groups::default(),
            owners: Owners::default(),
            labelled: BTreeSet::new(),
            addresses: Addresses::new(),
            predicates,
            predicate_index: SelectorIndex::new(),
            named_ports: NamedPorts::new(),
            service_prefixes: BTreeMap::new(),
            policies: Policies::new(),
            programs,
            tables: Tables::new(),
            snapshot: Snapshot::new(),
            before: BeforeImages::unchanged(0),
        };
        compiler.evaluate_new_predicates(&mut Work::default());
        compiler.with_limits(CompileLimits::default())
    }

    /// A compiler with the objects of `cluster`, whose tables are up to date. Takes the cluster, because the compiler keeps
    /// one: nothing is held twice.
    ///
    /// # Errors
    /// As [`Compiler::apply`], for the first object that is refused.
    pub fn from_cluster(
        cluster: Cluster,
        settings: Settings,
        scope: CompileScope,
    ) -> Result<Self, UpdateError> {
        check::check_all(&cluster)?;
        let mut compiler = Self::new(settings, scope);
        compiler.dirty = Dirty::everything(&cluster);
        compiler.cluster = cluster;
        // What changed is everything.
        let _ = compiler.commit();
        Ok(compiler)
    }

    /// The settings that it was made with.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Which endpoints get programs.
    #[must_use]
    pub const fn scope(&self) -> &CompileScope {
        &self.scope
    }

    /// The objects as they are, changes that are not yet committed included.
    #[must_use]
    pub const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Whether the policy is part of the tables: as of the last commit, it applies to an endpoint that gets programs.
    #[must_use]
    pub fn applies(&self, id: &PolicyId) -> bool {
        self.policies.current(id).and_then(|ix| self.policies.lookup(ix)).is_some_and(PolicyState::is_used)
    }

    /// The tables as of the last commit.
    #[must_use]
    pub const fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The state before the last commit, which is that of [`Compiler::snapshot`] when the commit changed nothing. It holds
    /// until the next commit, and no copy of the tables is made for it.
    #[must_use]
    pub fn previous(&self) -> Previous<'_> {
        // The images were made with this snapshot.
        Previous::new(&self.snapshot, &self.before).unwrap_or_else(|_| Previous::from(&self.snapshot))
    }

    /// What the last commit replaced. Those of several commits can be [appended](BeforeImages::append), for a
    /// dataplane that did not follow each of them.
    #[must_use]
    pub const fn before_images(&self) -> &BeforeImages {
        &self.before
    }

    /// Whether [`Compiler::apply`] would take `update`. That does not depend on other objects.
    ///
    /// # Errors
    /// As [`Compiler::apply`].
    pub fn check(update: &Update) -> Result<(), UpdateError> {
        check::check(update)
    }

    /// Takes one change in. It has no effect on the tables before [`Compiler::commit`].
    ///
    /// # Errors
    /// When a rule with an HTTP match has another action than Allow, which no policy language has, and when a policy has
    /// rules in a direction that its [`directions`](Policy::directions) leave out, because they would do nothing.
    pub fn apply(&mut self, update: Update) -> Result<(), UpdateError> {
        Self::check(&update)?;
        let dirty = &mut self.dirty;
        match &update {
            Update::Policy(policy) => {
                dirty.policy(&policy.id, &self.cluster);
            }
            Update::RemovePolicy(id) => {
                dirty.policy(id, &self.cluster);
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
                dirty.owners.push(AddressOwnerId::Endpoint(endpoint.id.clone()));
            }
            Update::RemoveEndpoint(id) => {
                dirty.owners.push(AddressOwnerId::Endpoint(id.clone()));
            }
            Update::NetworkSet(set) => {
                dirty.owners.push(AddressOwnerId::NetworkSet(set.id.clone()));
            }
            Update::RemoveNetworkSet(id) => {
                dirty.owners.push(AddressOwnerId::NetworkSet(id.clone()));
            }
            Update::Node(node) => {
                dirty.owners.push(AddressOwnerId::Node(node.name.clone()));
            }
            Update::RemoveNode(name) => {
                dirty.owners.push(AddressOwnerId::Node(name.clone()));
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
            self.evaluate_service(service);
        }

        let mut changes = ProgramChanges::default();
        let old_programs = self.rekey(&mut work);
        self.evaluate_new_predicates(&mut work);
        for program in old_programs {
            self.programs.keys.release(program);
        }
        self.programs.sweep(&mut self.policies, &mut self.predicates, &mut self.tables, &mut changes);
        self.drop_unused_predicates(&mut work);
        // From the last id on, so that sorted lists of them are cut at their end.
        work.emptied.sort_unstable();
        for group in core::mem::take(&mut work.emptied).into_iter().rev() {
            if self.groups.lookup(group).is_some_and(|group| group.members.is_empty())
                && let Some(state) = self.groups.remove(group)
            {
                for policy in state.policies.as_slice() {
                    if let Some(policy) = self.policies.lookup_mut(*policy) {
                        policy.groups.remove(group);
                    }
                }
            }
        }
        self.update_classes(&mut work, &mut changes);
        let swept = self.tables.sweep();
        let delta = self.delta(work, changes, &swept, identities_dirty);
        self.tables.end_commit();
        self.programs.end_commit();
        self.policies.end_commit();
        self.addresses.classes.end_commit();
        self.predicates.plain.end_commit();
        self.predicates.ports.end_commit();
        delta
    }
}

const _: () = {
    const fn shared_between_threads<T: Send + Sync>() {}
    shared_between_threads::<Compiler>();
    shared_between_threads::<Snapshot>();
    shared_between_threads::<Delta>();
};
