//! Who lives where, and which host endpoint guards what.

use alloc::collections::BTreeMap;
use core::net::IpAddr;

use crate::evaluate::Evaluate;
use crate::label::Name;
use crate::model::{Cluster, Endpoint, EndpointId, EndpointKind};
use crate::net::canonical;
use crate::packet::Packet;
use crate::path::hooks::{Path, Way};
use crate::path::{End, FlowDecision, Translation};
use crate::settings::Settings;
use crate::verdict::Verdict;

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

    /// What `engine` says to a flow from `from` to `to` whose first packet is `packet`.
    #[must_use]
    pub fn decide(
        &self,
        engine: &(impl Evaluate + ?Sized),
        from: &End,
        to: &End,
        packet: &Packet,
    ) -> FlowDecision {
        self.decide_way(engine, &Way::new(self, from, to, packet, None))
    }

    /// As [`Topology::decide`], for a packet whose destination was rewritten on the way.
    ///
    /// `packet` is the packet after that, and `to` is the end that owns its destination. Untracked and pre-DNAT hooks
    /// up to the node that translates see the packet as it was sent, and so does everything on the source's node when
    /// another one translates; all other hooks see `packet`. A node between source and destination, such as one whose
    /// node port was named, asks the host endpoint of its uplink twice, for the packet that comes in and for the one
    /// that goes out again; both are part of the destination's side.
    #[must_use]
    pub fn decide_translated(
        &self,
        engine: &(impl Evaluate + ?Sized),
        from: &End,
        to: &End,
        packet: &Packet,
        translation: Translation<'_>,
    ) -> FlowDecision {
        self.decide_way(engine, &Way::new(self, from, to, packet, Some(translation)))
    }

    /// What `engine` says to a flow between two workloads that one endpoint stands for, such as two pods of a deployment
    /// (decision D33). Both have its labels, and its node is that of neither.
    #[must_use]
    pub fn decide_between_replicas(
        &self,
        engine: &(impl Evaluate + ?Sized),
        endpoint: &EndpointId,
        packet: &Packet,
    ) -> FlowDecision {
        self.decide_way(engine, &Way::between_replicas(&End::Endpoint(endpoint.clone()), packet))
    }

    fn decide_way(&self, engine: &(impl Evaluate + ?Sized), way: &Way<'_>) -> FlowDecision {
        let egress = Path::new(self, engine, way).egress();
        let ingress = Path::new(self, engine, way).ingress(egress.as_ref());
        let of = |side: &Option<_>| side.as_ref().map(|side: &super::Side| side.decision.verdict);
        let verdicts = [of(&egress), of(&ingress)];
        let verdict = if verdicts.contains(&Some(Verdict::Deny)) {
            Verdict::Deny
        } else if verdicts.contains(&Some(Verdict::Inspect)) {
            Verdict::Inspect
        } else {
            Verdict::Allow
        };
        FlowDecision { verdict, egress, ingress }
    }

    /// The node that an end lives on.
    pub(super) fn node_of<'b>(&'b self, end: &'b End) -> Option<&'b Name> {
        match end {
            End::Endpoint(id) => self.cluster.endpoints().get(id)?.node.as_ref(),
            End::Node(node) => Some(node),
            End::Outside => None,
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
