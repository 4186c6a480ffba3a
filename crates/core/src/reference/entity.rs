//! Who owns an address, and what its labels are.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::label::{LabelSource, Labels, NAME_KEY, Name, Scope};
use crate::model::{
    Cluster, Endpoint, EndpointKind, EntityKinds, EntitySelector, NetworkSet, Node, ServiceId,
};
use crate::net::canonical;
use crate::packet::Packet;

/// All owners of addresses.
#[derive(Debug)]
pub(super) struct Entities<'a> {
    cluster: &'a Cluster,
    endpoints: BTreeMap<IpAddr, Vec<&'a Endpoint>>,
    nodes: BTreeMap<IpAddr, Vec<&'a Node>>,
}

impl<'a> Entities<'a> {
    pub(super) fn new(cluster: &'a Cluster) -> Self {
        let mut endpoints: BTreeMap<IpAddr, Vec<&Endpoint>> = BTreeMap::new();
        for endpoint in cluster.endpoints().values() {
            for address in &endpoint.addresses {
                endpoints.entry(canonical(*address)).or_default().push(endpoint);
            }
        }
        let mut nodes: BTreeMap<IpAddr, Vec<&Node>> = BTreeMap::new();
        for node in cluster.nodes().values() {
            for address in &node.addresses {
                nodes.entry(canonical(*address)).or_default().push(node);
            }
        }
        Self { cluster, endpoints, nodes }
    }

    pub(super) fn endpoints_at(&self, address: IpAddr) -> impl Iterator<Item = &'a Endpoint> + '_ {
        self.endpoints.get(&address).into_iter().flatten().copied()
    }

    /// Everything that owns `address`.
    fn owners(&self, address: IpAddr) -> impl Iterator<Item = Entity<'a>> + '_ {
        let cluster = self.cluster;
        let endpoints = self.endpoints_at(address).map(Owner::Endpoint);
        let nodes = self.nodes.get(&address).into_iter().flatten().copied().map(Owner::Node);
        let sets = cluster
            .network_sets()
            .values()
            .filter(move |set| set.nets.iter().any(|net| net.contains(&address)))
            .map(Owner::NetworkSet);
        endpoints.chain(nodes).chain(sets).map(move |owner| Entity { cluster, owner })
    }

    /// Whether `address` belongs to something that `selector` selects.
    pub(super) fn selects(&self, selector: &EntitySelector, address: IpAddr) -> bool {
        self.owners(address).any(|entity| entity.selected_by(selector))
    }

    /// Whether `selector` selects `endpoint` itself.
    pub(super) fn selects_endpoint(&self, selector: &EntitySelector, endpoint: &'a Endpoint) -> bool {
        Entity { cluster: self.cluster, owner: Owner::Endpoint(endpoint) }.selected_by(selector)
    }

    /// Whether `address` is a backend of the service; as a destination, protocol and port must agree too.
    /// Source: Calico `EntityRule.services`: a source is compared by address only.
    pub(super) fn is_backend(
        &self,
        id: &ServiceId,
        address: IpAddr,
        destination: bool,
        packet: &Packet,
    ) -> bool {
        let port = Some((packet.protocol, packet.destination_port));
        self.cluster.services().get(id).is_some_and(|service| {
            service.backends.iter().any(|backend| {
                canonical(backend.address) == address && (!destination || backend.port == port)
            })
        })
    }

    /// The labels of a service account that is known by name only.
    pub(super) fn identity<'b>(&'b self, namespace: &'b str, service_account: &'b str) -> Identity<'b> {
        Identity { cluster: self.cluster, namespace, service_account }
    }
}

/// An owner of addresses, with the cluster that its inherited labels come from.
#[derive(Clone, Copy, Debug)]
struct Entity<'a> {
    cluster: &'a Cluster,
    owner: Owner<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Owner<'a> {
    Endpoint(&'a Endpoint),
    NetworkSet(&'a NetworkSet),
    Node(&'a Node),
}

impl<'a> Entity<'a> {
    fn selected_by(&self, selector: &EntitySelector) -> bool {
        selector.kinds.contains(self.kind()) && selector.expr.matches(self)
    }

    const fn kind(&self) -> EntityKinds {
        match self.owner {
            Owner::Endpoint(endpoint) => match endpoint.id.kind {
                EndpointKind::Workload => EntityKinds::WORKLOAD,
                EndpointKind::Host => EntityKinds::HOST,
            },
            Owner::NetworkSet(_) => EntityKinds::NETWORK_SET,
            Owner::Node(_) => EntityKinds::NODE,
        }
    }

    fn labels(&self) -> &'a Labels {
        match self.owner {
            Owner::Endpoint(endpoint) => &endpoint.labels,
            Owner::NetworkSet(set) => &set.labels,
            Owner::Node(node) => &node.labels,
        }
    }

    fn profiles(&self) -> &'a [Name] {
        match self.owner {
            Owner::Endpoint(endpoint) => &endpoint.profiles,
            Owner::NetworkSet(_) | Owner::Node(_) => &[],
        }
    }

    fn namespace(&self) -> Option<&'a Name> {
        match self.owner {
            Owner::Endpoint(endpoint) => endpoint.id.namespace.as_ref(),
            Owner::NetworkSet(set) => set.id.namespace.as_ref(),
            Owner::Node(_) => None,
        }
    }

    fn service_account(&self) -> Option<&'a Name> {
        match self.owner {
            Owner::Endpoint(endpoint) => endpoint.service_account.as_ref(),
            Owner::NetworkSet(_) | Owner::Node(_) => None,
        }
    }
}

/// Own labels first, then each profile's in list order (Calico `felix/labelindex/named_port_index.go`).
impl LabelSource for Entity<'_> {
    fn label(&self, scope: Scope, key: &str) -> Option<&str> {
        match scope {
            Scope::Own => self.labels().value(key).or_else(|| {
                let profiles = self.profiles().iter().filter_map(|name| self.cluster.profiles().get(name));
                profiles.filter_map(|profile| profile.labels.value(key)).next()
            }),
            Scope::Namespace => namespace_label(self.cluster, self.namespace()?, key),
            Scope::ServiceAccount => {
                service_account_label(self.cluster, self.namespace()?, self.service_account()?, key)
            }
        }
    }
}

/// A principal's namespace and service account as a source of labels; own labels are all missing.
#[derive(Debug)]
pub(super) struct Identity<'a> {
    cluster: &'a Cluster,
    namespace: &'a str,
    service_account: &'a str,
}

impl LabelSource for Identity<'_> {
    fn label(&self, scope: Scope, key: &str) -> Option<&str> {
        match scope {
            Scope::Own => None,
            Scope::Namespace => namespace_label(self.cluster, self.namespace, key),
            Scope::ServiceAccount => {
                service_account_label(self.cluster, self.namespace, self.service_account, key)
            }
        }
    }
}

fn namespace_label<'a>(cluster: &'a Cluster, namespace: &'a str, key: &str) -> Option<&'a str> {
    if key == NAME_KEY {
        return Some(namespace);
    }
    cluster.namespaces().get(namespace)?.labels.value(key)
}

fn service_account_label<'a>(
    cluster: &'a Cluster,
    namespace: &str,
    name: &'a str,
    key: &str,
) -> Option<&'a str> {
    if key == NAME_KEY {
        return Some(name);
    }
    cluster.service_accounts().get(&(Name::new(namespace), Name::new(name)))?.labels.value(key)
}
