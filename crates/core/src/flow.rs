//! Flows between two ends: which hooks a new connection meets, and what they say together.
//!
//! A new flow needs egress to be allowed where it starts and ingress to be allowed where it ends (Kubernetes
//! NetworkPolicy documentation; Calico `felix/rules/endpoints.go`). Which hooks that means depends on what the ends
//! are and on which node they live; the answer of each hook comes from an engine.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::label::Name;
use crate::model::{Cluster, Endpoint, EndpointId, EndpointKind};
use crate::net::canonical;
use crate::packet::Packet;
use crate::reference::{Reference, Settings, WorkloadToHost};
use crate::verdict::{Cause, Decision, Direction, Hook, Verdict};

/// An engine: something that can answer for one hook of one endpoint.
pub trait DecideHook {
    /// What `hook` of `endpoint` says to `packet`. Never fails: an unknown endpoint is denied.
    fn decide_hook(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> Decision;
}

impl DecideHook for Reference<'_> {
    fn decide_hook(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> Decision {
        self.decide(endpoint, hook, packet)
    }
}

impl<E: DecideHook + ?Sized> DecideHook for &E {
    fn decide_hook(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> Decision {
        (**self).decide_hook(endpoint, hook, packet)
    }
}

/// One end of a flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// A workload or host endpoint.
    Endpoint(EndpointId),
    /// A node itself (its processes and host-network pods).
    Node(Name),
    /// Any other address.
    Outside,
}

/// What one end says to a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// The combined answer of this end: never [`Verdict::Continue`].
    pub decision: Decision,
    /// Every hook that was asked, in order, with its answer. Empty when an exception decided.
    pub consulted: Vec<Consulted>,
}

impl Side {
    fn exception(verdict: Verdict, cause: Cause) -> Self {
        Self { decision: Decision::new(verdict, cause), consulted: Vec::new() }
    }
}

/// One hook that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consulted {
    /// The endpoint the hook belongs to: that of the flow's end, or a host endpoint on the way.
    pub endpoint: EndpointId,
    /// Which hook.
    pub hook: Hook,
    /// Its answer.
    pub decision: Decision,
}

/// What both ends say to a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowDecision {
    /// Deny when an end denies, else Inspect when an end inspects, else Allow.
    pub verdict: Verdict,
    /// The source's side; `None` when the source is not subject to policy here.
    pub egress: Option<Side>,
    /// The destination's side; `None` when the destination is not subject to policy here.
    pub ingress: Option<Side>,
}

/// Who lives where, as far as flows need it.
#[derive(Debug)]
pub struct Topology<'a> {
    cluster: &'a Cluster,
    settings: &'a Settings,
    by_address: BTreeMap<IpAddr, End>,
    hosts: BTreeMap<&'a Name, &'a EndpointId>,
}

impl<'a> Topology<'a> {
    /// Indexes `cluster`.
    #[must_use]
    pub fn new(cluster: &'a Cluster, settings: &'a Settings) -> Self {
        let mut by_address = BTreeMap::new();
        let of_kind = |kind| cluster.endpoints().values().filter(move |e| e.id.kind == kind);
        // Workloads first: when a host endpoint or node shares an address with one, the workload is meant.
        for endpoint in of_kind(EndpointKind::Workload).chain(of_kind(EndpointKind::Host)) {
            for address in &endpoint.addresses {
                by_address.entry(canonical(*address)).or_insert_with(|| End::Endpoint(endpoint.id.clone()));
            }
        }
        for node in cluster.nodes().values() {
            for address in &node.addresses {
                by_address.entry(canonical(*address)).or_insert_with(|| End::Node(node.name.clone()));
            }
        }
        let mut hosts: BTreeMap<&Name, &Endpoint> = BTreeMap::new();
        for endpoint in of_kind(EndpointKind::Host) {
            if let Some(node) = &endpoint.node {
                let best = hosts.entry(node).or_insert(endpoint);
                if rank(cluster, endpoint) < rank(cluster, best) {
                    *best = endpoint;
                }
            }
        }
        let hosts = hosts.into_iter().map(|(node, endpoint)| (node, &endpoint.id)).collect();
        Self { cluster, settings, by_address, hosts }
    }

    /// The end that owns `address`.
    #[must_use]
    pub fn end_at(&self, address: IpAddr) -> End {
        self.by_address.get(&canonical(address)).cloned().unwrap_or(End::Outside)
    }

    /// The host endpoint that guards the way in and out of `node`, if it has one: the one that names an address of
    /// the node, else the one for all interfaces, else the first by name.
    #[must_use]
    pub fn host_endpoint(&self, node: &Name) -> Option<&'a EndpointId> {
        self.hosts.get(node).copied()
    }

    /// What `engine` says to a flow from `from` to `to` whose first packet is `packet`.
    #[must_use]
    pub fn decide(
        &self,
        engine: &(impl DecideHook + ?Sized),
        from: &End,
        to: &End,
        packet: &Packet,
    ) -> FlowDecision {
        let egress = self.egress(engine, from, to, packet);
        let ingress = self.ingress(engine, from, to, packet);
        let of = |side: &Option<Side>| side.as_ref().map(|side| side.decision.verdict);
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

    fn egress(
        &self,
        engine: &(impl DecideHook + ?Sized),
        from: &End,
        to: &End,
        packet: &Packet,
    ) -> Option<Side> {
        let mut path = Path { engine, packet, consulted: Vec::new() };
        let place = self.place(from);
        match from {
            End::Outside => return None,
            End::Endpoint(_) | End::Node(_) if self.is_local(from, to, packet) => {
                return self.is_subject(from).then(|| Side::exception(Verdict::Allow, Cause::Loopback));
            }
            End::Endpoint(id) if id.kind == EndpointKind::Workload => {
                path.ask(id, Hook::WorkloadEgress);
                // Only what leaves the node passes the host endpoint's forward hook.
                if (place.is_none() || place != self.place(to))
                    && let Some(host) = place.and_then(|node| self.host_endpoint(node))
                {
                    path.first_of(host, &[Hook::ForwardEgress]);
                }
            }
            End::Endpoint(id) => path.first_of(id, &[Hook::UntrackedEgress, Hook::HostEgress]),
            End::Node(node) => {
                let host = self.host_endpoint(node)?;
                path.first_of(host, &[Hook::UntrackedEgress, Hook::HostEgress]);
            }
        }
        path.side()
    }

    fn ingress(
        &self,
        engine: &(impl DecideHook + ?Sized),
        from: &End,
        to: &End,
        packet: &Packet,
    ) -> Option<Side> {
        let mut path = Path { engine, packet, consulted: Vec::new() };
        let (source_place, place) = (self.place(from), self.place(to));
        let same_node = place.is_some() && place == source_place;
        match to {
            End::Outside => return None,
            End::Endpoint(_) | End::Node(_) if self.is_local(from, to, packet) => {
                return self.is_subject(to).then(|| Side::exception(Verdict::Allow, Cause::Loopback));
            }
            End::Endpoint(id) if id.kind == EndpointKind::Workload => {
                if same_node && is_host(from) {
                    return Some(Side::exception(Verdict::Allow, Cause::Node));
                }
                if !same_node && let Some(host) = place.and_then(|node| self.host_endpoint(node)) {
                    path.first_of(host, &[Hook::UntrackedIngress, Hook::PreDnat, Hook::ForwardIngress]);
                }
                path.ask(id, Hook::WorkloadIngress);
            }
            End::Endpoint(_) | End::Node(_) => {
                let host = match to {
                    End::Endpoint(id) => id,
                    _ => self.host_endpoint(place?)?,
                };
                if same_node && !is_host(from) {
                    match self.settings.workload_to_host {
                        WorkloadToHost::Accept => {
                            return Some(Side::exception(Verdict::Allow, Cause::WorkloadToHost));
                        }
                        WorkloadToHost::Drop => {
                            return Some(Side::exception(Verdict::Deny, Cause::WorkloadToHost));
                        }
                        WorkloadToHost::HostPolicy => {}
                    }
                }
                path.first_of(host, &[Hook::UntrackedIngress, Hook::PreDnat, Hook::HostIngress]);
            }
        }
        path.side()
    }

    /// The node that an end lives on.
    fn place<'b>(&'b self, end: &'b End) -> Option<&'b Name> {
        match end {
            End::Endpoint(id) => self.cluster.endpoints().get(id)?.node.as_ref(),
            End::Node(node) => Some(node),
            End::Outside => None,
        }
    }

    /// Traffic that never leaves the network stack it starts in: to itself, or between names of one host.
    fn is_local(&self, from: &End, to: &End, packet: &Packet) -> bool {
        from == to
            || packet.source == packet.destination
            || (is_host(from)
                && is_host(to)
                && self.place(from).is_some()
                && self.place(from) == self.place(to))
    }

    fn is_subject(&self, end: &End) -> bool {
        match end {
            End::Endpoint(_) => true,
            End::Node(node) => self.host_endpoint(node).is_some(),
            End::Outside => false,
        }
    }
}

/// How well a host endpoint stands for its node; lower is better, and names break ties by iteration order.
fn rank(cluster: &Cluster, endpoint: &Endpoint) -> u8 {
    let node = endpoint.node.as_ref().and_then(|name| cluster.nodes().get(name));
    let owns = node.is_some_and(|node| node.addresses.iter().any(|a| endpoint.addresses.contains(a)));
    match (owns, endpoint.interface.as_deref()) {
        (true, _) => 0,
        (false, Some("*")) => 1,
        (false, _) => 2,
    }
}

fn is_host(end: &End) -> bool {
    match end {
        End::Endpoint(id) => id.kind == EndpointKind::Host,
        End::Node(_) => true,
        End::Outside => false,
    }
}

/// The hooks asked so far for one side.
struct Path<'p, E: ?Sized> {
    engine: &'p E,
    packet: &'p Packet,
    consulted: Vec<Consulted>,
}

impl<E: DecideHook + ?Sized> Path<'_, E> {
    fn ask(&mut self, endpoint: &EndpointId, hook: Hook) -> Verdict {
        if self.denied() {
            return Verdict::Deny;
        }
        let decision = self.engine.decide_hook(endpoint, hook, self.packet);
        let verdict = decision.verdict;
        self.consulted.push(Consulted { endpoint: endpoint.clone(), hook, decision });
        verdict
    }

    /// Asks the hooks of a host endpoint until one decides.
    ///
    /// An untracked or pre-DNAT Allow skips the host endpoint's later hooks, not the workload's own. An exemption,
    /// such as a failsafe port, is good for its own hook only: it does not open traffic that is forwarded.
    /// Source: Calico `felix/rules/static.go`.
    fn first_of(&mut self, endpoint: &EndpointId, hooks: &[Hook]) {
        for hook in hooks {
            let verdict = self.ask(endpoint, *hook);
            if verdict != Verdict::Continue && !(verdict == Verdict::Allow && self.exempt()) {
                return;
            }
        }
    }

    /// Whether the last hook did not look at policy.
    fn exempt(&self) -> bool {
        let last = self.consulted.last().map(|consulted| &consulted.decision.cause);
        matches!(last, Some(Cause::Failsafe | Cause::NeighbourDiscovery))
    }

    fn denied(&self) -> bool {
        self.consulted.iter().any(|c| c.decision.verdict == Verdict::Deny)
    }

    /// The combined answer: the first Deny, else the first Inspect, else the answer of the end's own hook, which
    /// for a workload is its workload hook and for a host the hook that decided.
    fn side(self) -> Option<Side> {
        let of = |verdict| self.consulted.iter().find(|c| c.decision.verdict == verdict);
        let own =
            || self.consulted.iter().find(|c| matches!(c.hook, Hook::WorkloadIngress | Hook::WorkloadEgress));
        let decisive =
            of(Verdict::Deny).or_else(|| of(Verdict::Inspect)).or_else(own).or(self.consulted.last())?;
        let mut decision = decisive.decision.clone();
        decision.logs = self.consulted.iter().flat_map(|c| c.decision.logs.iter().cloned()).collect();
        if decision.verdict == Verdict::Continue {
            decision.verdict = Verdict::Allow;
        }
        Some(Side { decision, consulted: self.consulted })
    }
}

impl FlowDecision {
    /// The side for `direction`: [`FlowDecision::ingress`] or [`FlowDecision::egress`].
    #[must_use]
    pub const fn side(&self, direction: Direction) -> Option<&Side> {
        match direction {
            Direction::Ingress => self.ingress.as_ref(),
            Direction::Egress => self.egress.as_ref(),
        }
    }
}
