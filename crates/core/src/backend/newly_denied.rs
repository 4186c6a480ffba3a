//! Which tracked flows a change of policy newly denies (decision D16).

mod way;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::backend::{
    Binding, Bindings, DataplaneOptions, DesiredState, NodeInterfaces, TrackedAt, TrackedFlow,
};
use crate::ir::{Interpreter, Lookup as _, Previous, Snapshot};
use crate::model::{Cluster, EndpointId};
use crate::net::canonical;
use crate::packet::Packet;
use crate::settings::WorkloadToHost;
use crate::verdict::Hook;

use way::{Answer, Way};

/// The one rule for all dataplanes: a flow is newly denied when policy decided about it, the policy before allowed it,
/// and the policy now denies it. [`Dataplane::terminate`](crate::backend::Dataplane::terminate) asks it about each
/// flow.
///
/// The rule asks the same hooks that the dataplane asked about the first packet:
///
/// - About a flow that is tracked [once for the node](TrackedAt::Node): every hook on its way. Workloads are known by
///   their addresses. The host endpoint of a single interface is asked where the entry tells the interface: by the
///   address of the node that the flow came to or began from. Where it does not tell, the flow is newly denied when it
///   is by every way that it can have taken.
/// - About a flow that is tracked [at an interface](TrackedAt::Interface): the hooks at that interface. Where source NAT
///   hides a workload, its own addresses stand for the source. What a workload sends to a service is decided where it
///   leaves; before that, only pre-DNAT policy was asked. Index 0 is the node as the destination of its workloads.
///
/// A flow that only an HTTP rule can decide is allowed when it is
/// [handed over](crate::backend::Inspected::HandOver). An endpoint that was not there before has not been asked, so it
/// did not deny; one that is bound and not there now denies. About a workload's traffic to itself only pre-DNAT policy
/// is asked (decision D10), and about the node's traffic to its workloads no policy is (decision D11).
///
/// Not found are flows whose entry does not tell enough: flows from behind the node's source NAT to a workload, and at
/// the interface of a host endpoint those that the node's source NAT has rewritten, which count as the node's own.
#[derive(Debug)]
pub struct NewlyDenied<'a> {
    before: Previous<'a>,
    after: &'a Snapshot,
    bindings: &'a Bindings,
    options: &'a DataplaneOptions,
    node: &'a NodeInterfaces,
    /// Workloads by address.
    workloads: BTreeMap<IpAddr, &'a EndpointId>,
    /// Who is bound to an interface, by index.
    bound: BTreeMap<u32, Vec<(&'a EndpointId, &'a Binding)>>,
    /// Host endpoints by the name of an interface; none guards an uplink.
    guards: BTreeMap<&'a str, Option<&'a EndpointId>>,
    /// The host endpoint for all interfaces.
    cover: Option<&'a EndpointId>,
    /// The host endpoints that may guard an interface that is not known.
    any_guard: Vec<Option<&'a EndpointId>>,
}

impl<'a> NewlyDenied<'a> {
    /// The flows that were allowed `before` and are denied by what is `desired` now. `options` are those of the
    /// dataplane.
    #[must_use]
    pub fn new(
        before: Previous<'a>,
        desired: DesiredState<'a>,
        options: &'a DataplaneOptions,
        node: &'a NodeInterfaces,
    ) -> Self {
        let bindings = desired.bindings;
        let cover = bindings.all_interfaces();
        let mut workloads = BTreeMap::new();
        let mut bound: BTreeMap<u32, Vec<(&EndpointId, &Binding)>> = BTreeMap::new();
        let mut guards: BTreeMap<&str, Option<&EndpointId>> = BTreeMap::new();
        for (id, binding) in bindings.endpoints() {
            for interface in binding.interfaces() {
                if let Some(index) = interface.index().or_else(|| node.index(interface.name())) {
                    bound.entry(index).or_default().push((id, binding));
                }
                if !binding.is_workload() {
                    guards.insert(interface.name(), Some(id));
                }
            }
            if let Binding::Workload { addresses, .. } = binding {
                workloads.extend(addresses.iter().map(|address| (canonical(*address), id)));
            }
        }
        guards.extend(bindings.uplinks().map(|uplink| (uplink.name(), None)));
        let hosts: BTreeSet<Option<&EndpointId>> = guards.values().copied().chain([cover]).collect();
        let any_guard = hosts.into_iter().collect();
        let after = desired.snapshot;
        Self { before, after, bindings, options, node, workloads, bound, guards, cover, any_guard }
    }

    /// The same, where `objects` tell the addresses of workloads that are bound with [any
    /// address](Binding::WorkloadAnyAddress). Flows that are tracked once for the node are not known to be theirs
    /// otherwise.
    #[must_use]
    pub fn with_objects(mut self, objects: &Cluster) -> Self {
        for (id, binding) in self.bindings.endpoints() {
            if let (Binding::WorkloadAnyAddress { .. }, Some(endpoint)) =
                (binding, objects.endpoints().get(id))
            {
                for address in &endpoint.addresses {
                    self.workloads.entry(canonical(*address)).or_insert(id);
                }
            }
        }
        self
    }

    /// Whether `flow` is one of them.
    #[must_use]
    pub fn contains(&self, flow: &TrackedFlow) -> bool {
        let ways = match flow.at {
            TrackedAt::Node => self.through_node(flow),
            TrackedAt::Interface { index: 0, .. } => self.at_node(flow),
            TrackedAt::Interface { index, from_endpoint } => {
                let bound = self.bound.get(&index).map_or(&[][..], Vec::as_slice);
                let of = |(id, binding): &(&'a EndpointId, &'a Binding)| match binding {
                    Binding::Host { .. } | Binding::AllInterfaces { .. } => {
                        alloc::vec![self.at_host(flow, id, from_endpoint)]
                    }
                    Binding::Workload { addresses, .. } => {
                        self.at_workload(flow, id, addresses, from_endpoint)
                    }
                    Binding::WorkloadAnyAddress { .. } => self.at_workload(flow, id, &[], from_endpoint),
                };
                bound.iter().flat_map(of).collect()
            }
        };
        let mut possible =
            ways.iter().filter(|way| way.passes(|id, hook, packet| self.did_answer(id, hook, packet)));
        let mut denied = 0_usize;
        possible.all(|way| {
            denied = denied.saturating_add(1);
            !way.passes(|id, hook, packet| self.answers(id, hook, packet))
        }) && denied > 0
    }

    /// What an endpoint said before.
    fn did_answer(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> Answer {
        if self.before.endpoint(endpoint).is_none() {
            return Answer::Passed;
        }
        Answer::new(&self.before.decide(endpoint, hook, packet), self.options.inspected)
    }

    /// What it says now.
    fn answers(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> Answer {
        Answer::new(&Interpreter::new(self.after).decide(endpoint, hook, packet), self.options.inspected)
    }

    /// What connection tracking of the node knows.
    fn through_node(&self, flow: &TrackedFlow) -> Vec<Way<'a>> {
        let (packet, arrived) = (&flow.packet, &flow.arrived);
        let workload = |address| self.workloads.get(address).copied();
        let (from, to) = (workload(&packet.source), workload(&packet.destination));
        let from_node = from.is_none() && self.node.has(&packet.source);
        let to_node = to.is_none() && self.is_for_node(&packet.destination);
        if from_node && (to_node || to.is_some()) {
            return Vec::new();
        }
        let way = Way::new(packet).arrived_as(arrived);
        if from.is_some() && from == to {
            return alloc::vec![way.pre_dnat(self.cover)];
        }
        let none = || alloc::vec![None];
        let entering = match from {
            Some(_) => alloc::vec![self.cover],
            None if from_node => none(),
            None if to_node => self.guards_of(&[&arrived.destination, &packet.destination]),
            None => self.any_guard.clone(),
        };
        let leaving = match to {
            Some(_) => alloc::vec![self.cover],
            None if to_node => none(),
            None if from_node => self.guards_of(&[&packet.source]),
            None => self.any_guard.clone(),
        };
        let behind = match (from, to_node) {
            (_, false) => Some(Hook::ForwardIngress),
            (None, true) => Some(Hook::HostIngress),
            (Some(_), true) => self.workload_to_node(),
        };
        let leaves = if from_node { Hook::HostEgress } else { Hook::ForwardEgress };
        let mut ways = Vec::new();
        for enters in entering {
            let way = way.clone().pre_dnat(enters).behind(enters, behind);
            let way = way.then(from, Hook::WorkloadEgress).then(to, Hook::WorkloadIngress);
            ways.extend(leaving.iter().map(|guard| way.clone().then(*guard, leaves)));
        }
        ways
    }

    /// What workloads send to the node itself has an entry of its own, beside that at their interface.
    fn at_node(&self, flow: &TrackedFlow) -> Vec<Way<'a>> {
        let way = Way::new(&flow.packet).arrived_as(&flow.arrived).pre_dnat(self.cover);
        alloc::vec![way.behind(self.cover, self.workload_to_node())]
    }

    /// At an interface that a host endpoint guards.
    fn at_host(&self, flow: &TrackedFlow, id: &'a EndpointId, from_endpoint: bool) -> Way<'a> {
        let packet = &flow.packet;
        let way = Way::new(packet).arrived_as(&flow.arrived);
        if from_endpoint {
            let from_node = self.node.has(&packet.source);
            return way.then(Some(id), if from_node { Hook::HostEgress } else { Hook::ForwardEgress });
        }
        let behind = match self.is_for_node(&packet.destination) {
            _ if self.is_service(packet) => None,
            true => Some(Hook::HostIngress),
            false => Some(Hook::ForwardIngress),
        };
        way.pre_dnat(Some(id)).behind(Some(id), behind)
    }

    /// At the interface of a workload that has the addresses `own`; none are known where it may have any.
    fn at_workload(
        &self,
        flow: &TrackedFlow,
        id: &'a EndpointId,
        own: &[IpAddr],
        from_endpoint: bool,
    ) -> Vec<Way<'a>> {
        let Packet { source, destination, .. } = flow.packet;
        let has = |address: &IpAddr| own.iter().any(|own| canonical(*own) == *address);
        if !from_endpoint {
            // Of another workload at the interface; from itself (D10) or the node (D11), which policy does not decide;
            // or from behind source NAT of the node, which hides the source.
            let is_other = !own.is_empty() && !has(&destination);
            if is_other || has(&source) || self.node.has(&source) {
                return Vec::new();
            }
            let way = Way::new(&flow.packet).then(Some(id), Hook::WorkloadIngress);
            return alloc::vec![way.then(self.cover, Hook::ForwardEgress)];
        }
        if has(&destination) {
            return Vec::new();
        }
        // Where source NAT hides the workload, its own addresses tell what was asked.
        let sent = |source: IpAddr| {
            let hide = |packet: &Packet| Packet { source, ..packet.clone() };
            let way = Way::new(&hide(&flow.packet)).arrived_as(&hide(&flow.arrived)).pre_dnat(self.cover);
            if self.is_service(&flow.packet) {
                return way;
            }
            let is_forwarded = !self.is_for_node(&destination);
            way.behind(self.cover, is_forwarded.then_some(Hook::ForwardIngress))
                .then(Some(id), Hook::WorkloadEgress)
        };
        if own.is_empty() || has(&source) {
            return alloc::vec![sent(source)];
        }
        if self.workloads.contains_key(&source) {
            return Vec::new();
        }
        own.iter()
            .map(|own| canonical(*own))
            .filter(|own| own.is_ipv4() == source.is_ipv4())
            .map(sent)
            .collect()
    }

    /// The hook of the host endpoint for all interfaces that decides what workloads send to the node, beside pre-DNAT
    /// policy.
    fn workload_to_node(&self) -> Option<Hook> {
        (self.options.workload_to_host == WorkloadToHost::HostPolicy).then_some(Hook::HostIngress)
    }

    /// Who may guard the interface that has the first of `addresses` that an interface has.
    fn guards_of(&self, addresses: &[&IpAddr]) -> Vec<Option<&'a EndpointId>> {
        let interface = addresses.iter().find_map(|address| self.node.interface_of(address));
        match interface.and_then(|name| self.guards.get(name)) {
            Some(guard) => alloc::vec![*guard],
            None => self.any_guard.clone(),
        }
    }

    fn is_for_node(&self, destination: &IpAddr) -> bool {
        let is_broadcast = matches!(destination, IpAddr::V4(address) if address.is_broadcast());
        self.node.has(destination) || destination.is_multicast() || is_broadcast
    }

    /// Whether the destination is to be rewritten.
    fn is_service(&self, packet: &Packet) -> bool {
        packet.protocol.has_ports()
            && self.options.services.iter().any(|net| net.contains(&packet.destination))
    }
}

#[cfg(test)]
mod tests;
