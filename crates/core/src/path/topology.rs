//! Who lives where, and which host endpoint guards what.

use alloc::collections::BTreeMap;
use core::net::IpAddr;

use crate::label::Name;
use crate::model::{Cluster, Endpoint, EndpointId, EndpointKind};
use crate::net::canonical;
use crate::path::End;
use crate::settings::Settings;

/// Who lives where, as far as flows need it.
#[derive(Debug)]
pub struct Topology<'a> {
    cluster: &'a Cluster,
    pub(super) settings: &'a Settings,
    by_address: BTreeMap<IpAddr, End>,
    uplinks: BTreeMap<&'a Name, &'a EndpointId>,
    wildcards: BTreeMap<&'a Name, &'a EndpointId>,
}

impl<'a> Topology<'a> {
    /// Indexes `cluster`.
    #[must_use]
    pub fn new(cluster: &'a Cluster, settings: &'a Settings) -> Self {
        let mut by_address = BTreeMap::new();
        let of_kind = |kind| cluster.endpoints().values().filter(move |e| e.id.kind == kind);
        let hosts = |wildcard| of_kind(EndpointKind::Host).filter(move |e| e.is_wildcard() == wildcard);
        // Workloads first: when a host endpoint or node shares an address with one, the workload is meant. A named
        // host endpoint guards the interface that has the address, so it comes before the one for all others.
        for endpoint in of_kind(EndpointKind::Workload).chain(hosts(false)).chain(hosts(true)) {
            for address in &endpoint.addresses {
                by_address.entry(canonical(*address)).or_insert_with(|| End::Endpoint(endpoint.id.clone()));
            }
        }
        for node in cluster.nodes().values() {
            for address in &node.addresses {
                by_address.entry(canonical(*address)).or_insert_with(|| End::Node(node.name.clone()));
            }
        }
        let (mut uplinks, mut wildcards) = (BTreeMap::<&Name, &Endpoint>::new(), BTreeMap::new());
        for endpoint in of_kind(EndpointKind::Host) {
            let Some(node) = &endpoint.node else { continue };
            let best = uplinks.entry(node).or_insert(endpoint);
            if rank(cluster, endpoint) < rank(cluster, best) {
                *best = endpoint;
            }
            if endpoint.is_wildcard() {
                wildcards.entry(node).or_insert(&endpoint.id);
            }
        }
        let uplinks = uplinks.into_iter().map(|(node, endpoint)| (node, &endpoint.id)).collect();
        Self { cluster, settings, by_address, uplinks, wildcards }
    }

    /// The end that owns `address`.
    #[must_use]
    pub fn end_at(&self, address: IpAddr) -> End {
        self.by_address.get(&canonical(address)).cloned().unwrap_or(End::Outside)
    }

    /// The host endpoint that guards the uplink of `node`, the interface to other hosts, if it has one: the one for an
    /// interface or address of its own that names an address of the node (the foremost, if several do), else the one
    /// for all interfaces, else the first by name.
    #[must_use]
    pub fn host_endpoint(&self, node: &Name) -> Option<&'a EndpointId> {
        self.uplinks.get(node).copied()
    }

    /// The host endpoint for all interfaces (`*`) of `node`, if it has one; the first by name. Only this one guards
    /// the interfaces of workloads, whatever guards the uplink.
    #[must_use]
    pub fn wildcard_endpoint(&self, node: &Name) -> Option<&'a EndpointId> {
        self.wildcards.get(node).copied()
    }

    /// The node that an end lives on.
    pub(super) fn node_of<'b>(&'b self, end: &'b End) -> Option<&'b Name> {
        match end {
            End::Endpoint(id) => self.cluster.endpoints().get(id)?.node.as_ref(),
            End::Node(node) => Some(node),
            End::Outside => None,
        }
    }

    /// Whether `address` is one of the end's.
    pub(super) fn owns(&self, end: &End, address: IpAddr) -> bool {
        let is_it = |own: &IpAddr| canonical(*own) == canonical(address);
        let of_node =
            |node: &Name| self.cluster.nodes().get(node).is_some_and(|node| node.addresses.iter().any(is_it));
        match end {
            End::Endpoint(id) => self.cluster.endpoints().get(id).is_some_and(|endpoint| {
                let is_on_host = id.kind == EndpointKind::Host;
                endpoint.addresses.iter().any(is_it)
                    || (is_on_host && endpoint.node.as_ref().is_some_and(of_node))
            }),
            End::Node(node) => of_node(node),
            End::Outside => false,
        }
    }

    pub(super) fn is_subject(&self, end: &End) -> bool {
        match end {
            End::Endpoint(_) => true,
            End::Node(node) => self.host_endpoint(node).is_some(),
            End::Outside => false,
        }
    }
}

/// How well a host endpoint stands for the uplink of its node; lower is better, and names break ties by iteration
/// order. Of several that name addresses of the node, the one with the node's foremost address is best.
fn rank(cluster: &Cluster, endpoint: &Endpoint) -> (u8, usize) {
    if endpoint.is_wildcard() {
        return (1, 0);
    }
    let node = endpoint.node.as_ref().and_then(|name| cluster.nodes().get(name));
    let owns = |address: &IpAddr| endpoint.addresses.iter().any(|own| canonical(*own) == canonical(*address));
    match node.and_then(|node| node.addresses.iter().position(owns)) {
        Some(position) => (0, position),
        None => (2, 0),
    }
}
