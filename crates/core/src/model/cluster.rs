//! Everything that policy can see, and the changes to it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::label::Name;
use crate::model::{
    Endpoint, EndpointId, Namespace, NetworkSet, NetworkSetId, Node, Policy, PolicyId, Profile,
    ServiceAccount, ServiceEndpoints, ServiceId, Tier,
};

/// One change: an object in its new form, or the identity of one that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Update {
    /// A policy was added or changed.
    Policy(Policy),
    /// A policy is gone.
    RemovePolicy(PolicyId),
    /// A tier was added or changed.
    Tier(Tier),
    /// A tier is gone.
    RemoveTier(Name),
    /// A profile was added or changed.
    Profile(Profile),
    /// A profile is gone.
    RemoveProfile(Name),
    /// An endpoint was added or changed.
    Endpoint(Endpoint),
    /// An endpoint is gone.
    RemoveEndpoint(EndpointId),
    /// A network set was added or changed.
    NetworkSet(NetworkSet),
    /// A network set is gone.
    RemoveNetworkSet(NetworkSetId),
    /// A namespace was added or changed.
    Namespace(Namespace),
    /// A namespace is gone.
    RemoveNamespace(Name),
    /// A service account was added or changed.
    ServiceAccount(ServiceAccount),
    /// A service account (namespace, name) is gone.
    RemoveServiceAccount(Name, Name),
    /// A node was added or changed.
    Node(Node),
    /// A node is gone.
    RemoveNode(Name),
    /// A service's backends were added or changed.
    Service(ServiceEndpoints),
    /// A service is gone.
    RemoveService(ServiceId),
}

/// All objects, keyed by identity. Iteration order is the order of identities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    policies: BTreeMap<PolicyId, Policy>,
    tiers: BTreeMap<Name, Tier>,
    profiles: BTreeMap<Name, Profile>,
    endpoints: BTreeMap<EndpointId, Endpoint>,
    network_sets: BTreeMap<NetworkSetId, NetworkSet>,
    namespaces: BTreeMap<Name, Namespace>,
    service_accounts: BTreeMap<(Name, Name), ServiceAccount>,
    nodes: BTreeMap<Name, Node>,
    services: BTreeMap<ServiceId, ServiceEndpoints>,
}

impl Cluster {
    /// A cluster without objects.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Carries out one change. Removing what is not there changes nothing.
    pub fn apply(&mut self, update: Update) {
        match update {
            Update::Policy(o) => drop(self.policies.insert(o.id.clone(), o)),
            Update::RemovePolicy(id) => drop(self.policies.remove(&id)),
            Update::Tier(o) => drop(self.tiers.insert(o.name.clone(), o)),
            Update::RemoveTier(id) => drop(self.tiers.remove(&id)),
            Update::Profile(o) => drop(self.profiles.insert(o.name.clone(), o)),
            Update::RemoveProfile(id) => drop(self.profiles.remove(&id)),
            Update::Endpoint(o) => drop(self.endpoints.insert(o.id.clone(), o)),
            Update::RemoveEndpoint(id) => drop(self.endpoints.remove(&id)),
            Update::NetworkSet(o) => drop(self.network_sets.insert(o.id.clone(), o)),
            Update::RemoveNetworkSet(id) => drop(self.network_sets.remove(&id)),
            Update::Namespace(o) => drop(self.namespaces.insert(o.name.clone(), o)),
            Update::RemoveNamespace(id) => drop(self.namespaces.remove(&id)),
            Update::ServiceAccount(o) => {
                drop(self.service_accounts.insert((o.namespace.clone(), o.name.clone()), o));
            }
            Update::RemoveServiceAccount(namespace, name) => {
                drop(self.service_accounts.remove(&(namespace, name)))
            }
            Update::Node(o) => drop(self.nodes.insert(o.name.clone(), o)),
            Update::RemoveNode(id) => drop(self.nodes.remove(&id)),
            Update::Service(o) => drop(self.services.insert(o.id.clone(), o)),
            Update::RemoveService(id) => drop(self.services.remove(&id)),
        }
    }

    /// The objects as changes to an empty cluster.
    pub fn updates(&self) -> impl Iterator<Item = Update> + '_ {
        let tiers = self.tiers.values().cloned().map(Update::Tier);
        let profiles = self.profiles.values().cloned().map(Update::Profile);
        let namespaces = self.namespaces.values().cloned().map(Update::Namespace);
        let accounts = self.service_accounts.values().cloned().map(Update::ServiceAccount);
        let nodes = self.nodes.values().cloned().map(Update::Node);
        let sets = self.network_sets.values().cloned().map(Update::NetworkSet);
        let services = self.services.values().cloned().map(Update::Service);
        let endpoints = self.endpoints.values().cloned().map(Update::Endpoint);
        let policies = self.policies.values().cloned().map(Update::Policy);
        let inherited = tiers.chain(profiles).chain(namespaces).chain(accounts);
        inherited.chain(nodes).chain(sets).chain(services).chain(endpoints).chain(policies)
    }

    /// The changes that make this cluster `other`: the objects that are new or differ, then those that are gone.
    ///
    /// ```
    /// use portcullis_core::model::{Cluster, Namespace, Update};
    ///
    /// let namespace = Namespace { name: "shop".into(), labels: [("a", "b")].into_iter().collect() };
    /// let with: Cluster = [Update::Namespace(namespace.clone())].into_iter().collect();
    /// assert_eq!(Cluster::new().difference(&with), [Update::Namespace(namespace)]);
    /// assert_eq!(with.difference(&Cluster::new()), [Update::RemoveNamespace("shop".into())]);
    /// assert!(with.difference(&with).is_empty());
    /// ```
    #[must_use]
    pub fn difference(&self, other: &Self) -> Vec<Update> {
        let mut changes = Vec::new();
        put(&self.tiers, &other.tiers, Update::Tier, &mut changes);
        put(&self.profiles, &other.profiles, Update::Profile, &mut changes);
        put(&self.namespaces, &other.namespaces, Update::Namespace, &mut changes);
        put(&self.service_accounts, &other.service_accounts, Update::ServiceAccount, &mut changes);
        put(&self.nodes, &other.nodes, Update::Node, &mut changes);
        put(&self.network_sets, &other.network_sets, Update::NetworkSet, &mut changes);
        put(&self.services, &other.services, Update::Service, &mut changes);
        put(&self.endpoints, &other.endpoints, Update::Endpoint, &mut changes);
        put(&self.policies, &other.policies, Update::Policy, &mut changes);
        // What others refer to goes last.
        gone(&self.policies, &other.policies, Update::RemovePolicy, &mut changes);
        gone(&self.endpoints, &other.endpoints, Update::RemoveEndpoint, &mut changes);
        gone(&self.services, &other.services, Update::RemoveService, &mut changes);
        gone(&self.network_sets, &other.network_sets, Update::RemoveNetworkSet, &mut changes);
        gone(&self.nodes, &other.nodes, Update::RemoveNode, &mut changes);
        let remove = |(namespace, name)| Update::RemoveServiceAccount(namespace, name);
        gone(&self.service_accounts, &other.service_accounts, remove, &mut changes);
        gone(&self.namespaces, &other.namespaces, Update::RemoveNamespace, &mut changes);
        gone(&self.profiles, &other.profiles, Update::RemoveProfile, &mut changes);
        gone(&self.tiers, &other.tiers, Update::RemoveTier, &mut changes);
        changes
    }

    /// The policies.
    #[must_use]
    pub const fn policies(&self) -> &BTreeMap<PolicyId, Policy> {
        &self.policies
    }

    /// The tiers.
    #[must_use]
    pub const fn tiers(&self) -> &BTreeMap<Name, Tier> {
        &self.tiers
    }

    /// The profiles.
    #[must_use]
    pub const fn profiles(&self) -> &BTreeMap<Name, Profile> {
        &self.profiles
    }

    /// The endpoints.
    #[must_use]
    pub const fn endpoints(&self) -> &BTreeMap<EndpointId, Endpoint> {
        &self.endpoints
    }

    /// The network sets.
    #[must_use]
    pub const fn network_sets(&self) -> &BTreeMap<NetworkSetId, NetworkSet> {
        &self.network_sets
    }

    /// The namespaces.
    #[must_use]
    pub const fn namespaces(&self) -> &BTreeMap<Name, Namespace> {
        &self.namespaces
    }

    /// The service accounts, by (namespace, name).
    #[must_use]
    pub const fn service_accounts(&self) -> &BTreeMap<(Name, Name), ServiceAccount> {
        &self.service_accounts
    }

    /// The nodes.
    #[must_use]
    pub const fn nodes(&self) -> &BTreeMap<Name, Node> {
        &self.nodes
    }

    /// The services.
    #[must_use]
    pub const fn services(&self) -> &BTreeMap<ServiceId, ServiceEndpoints> {
        &self.services
    }
}

/// Adds the objects of `to` that `from` has not, or has in another form.
fn put<K: Ord, V: Clone + PartialEq>(
    from: &BTreeMap<K, V>,
    to: &BTreeMap<K, V>,
    update: fn(V) -> Update,
    changes: &mut Vec<Update>,
) {
    let new = to.iter().filter(|(key, object)| from.get(*key) != Some(*object));
    changes.extend(new.map(|(_, object)| update(object.clone())));
}

/// Adds the removal of what `to` has not.
fn gone<K: Ord + Clone, V>(
    from: &BTreeMap<K, V>,
    to: &BTreeMap<K, V>,
    remove: fn(K) -> Update,
    changes: &mut Vec<Update>,
) {
    let gone = from.keys().filter(|key| !to.contains_key(*key));
    changes.extend(gone.cloned().map(remove));
}

impl Extend<Update> for Cluster {
    fn extend<I: IntoIterator<Item = Update>>(&mut self, updates: I) {
        for update in updates {
            self.apply(update);
        }
    }
}

impl FromIterator<Update> for Cluster {
    fn from_iter<I: IntoIterator<Item = Update>>(updates: I) -> Self {
        let mut cluster = Self::new();
        cluster.extend(updates);
        cluster
    }
}
