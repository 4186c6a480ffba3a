//! Which hooks a packet meets on its way, and how their answers combine.
//!
//! The order on a node is that of Calico's chains: untracked policy, pre-DNAT policy, and for forwarded packets the
//! forward policy of the interface it comes in by, the egress policy of the workload it comes from, the ingress policy
//! of the workload it goes to, and the forward policy of the interface it goes out by (`felix/rules/static.go`,
//! `StaticFilterForwardChains`). A host endpoint for all interfaces guards those of workloads too, for forwarded packets
//! and before destination NAT; one for a single interface never does (`felix/rules/dispatch.go`, `hostDispatchChains`).

use alloc::vec::Vec;

use crate::evaluate::Evaluate;
use crate::label::Name;
use crate::model::{EndpointId, EndpointKind};
use crate::packet::Packet;
use crate::path::discovery::{Destination, Source, is_discovery};
use crate::path::{Consulted, End, Side, Topology, Translation};
use crate::settings::WorkloadToHost;
use crate::verdict::{Cause, Decision, Hook, Verdict};

/// A flow with the nodes it touches.
pub(super) struct Way<'w> {
    from: &'w End,
    to: &'w End,
    from_node: Option<&'w Name>,
    to_node: Option<&'w Name>,
    /// As the source sent it.
    sent: &'w Packet,
    /// After destination NAT, if there is any.
    packet: &'w Packet,
    /// The node that translates, if there is anything to translate.
    translator: Option<&'w Name>,
    /// Whether one endpoint stands for both ends, and they are two.
    is_between_replicas: bool,
}

impl<'w> Way<'w> {
    pub(super) fn new(
        topology: &'w Topology<'_>,
        from: &'w End,
        to: &'w End,
        packet: &'w Packet,
        translation: Option<Translation<'w>>,
    ) -> Self {
        let (from_node, to_node) = (topology.node_of(from), topology.node_of(to));
        let translator = translation.and_then(|how| how.node.or(from_node).or(to_node));
        let sent = translation.map_or(packet, |how| how.before);
        Self { from, to, from_node, to_node, sent, packet, translator, is_between_replicas: false }
    }

    /// The way between two workloads that `end` stands for, on nodes that are not known.
    pub(super) const fn between_replicas(end: &'w End, packet: &'w Packet) -> Self {
        Self {
            from: end,
            to: end,
            from_node: None,
            to_node: None,
            sent: packet,
            packet,
            translator: None,
            is_between_replicas: true,
        }
    }

    /// Whether the source's node sends what the destination gets.
    fn is_translated_at_source(&self) -> bool {
        self.translator.is_none() || self.translator == self.from_node
    }

    /// A node between the two ends.
    fn transit(&self) -> Option<&'w Name> {
        self.translator.filter(|node| Some(*node) != self.from_node && Some(*node) != self.to_node)
    }

    /// Whether the packet goes from its source to its destination without leaving the node.
    fn stays(&self) -> bool {
        self.from_node.is_some() && self.from_node == self.to_node && self.is_translated_at_source()
    }

    /// Traffic that never leaves the network stack it starts in: to the same endpoint (decision D10), or between names
    /// of one host. An address alone says nothing: two pods may have the same one.
    fn is_local(&self) -> bool {
        let same_host = self.from_node.is_some() && self.from_node == self.to_node;
        let same_host = same_host || self.packet.source == self.packet.destination;
        self.transit().is_none()
            && !self.is_between_replicas
            && (self.from == self.to || (is_host(self.from) && is_host(self.to) && same_host))
    }

    /// The packet that reaches the node of the destination.
    fn arriving(&self) -> &'w Packet {
        let translated_here = self.translator == self.to_node && !self.is_translated_at_source();
        if translated_here { self.sent } else { self.packet }
    }
}

impl Topology<'_> {
    /// Whether the packet keeps neighbours found on a link (decision D23). An address of a node counts for its workloads, and
    /// for neighbours with an address of the link.
    fn is_discovery(&self, way: &Way<'_>) -> bool {
        if way.translator.is_some() || way.is_between_replicas {
            return false;
        }
        let source = if self.owns(way.from, way.packet.source) { Source::Own } else { Source::Other };
        let is_near = matches!(way.from, End::Outside) || way.stays();
        let is_of_node = is_near && is_host(way.to) && self.owns(way.to, way.packet.destination);
        let destination = if is_of_node { Destination::Node } else { Destination::Other };
        is_discovery(way.packet, source, destination)
    }
}

/// The hooks asked so far for one side.
pub(super) struct Path<'p, E: ?Sized> {
    topology: &'p Topology<'p>,
    engine: &'p E,
    way: &'p Way<'p>,
    consulted: Vec<Consulted>,
}

impl<'p, E: Evaluate + ?Sized> Path<'p, E> {
    pub(super) const fn new(topology: &'p Topology<'p>, engine: &'p E, way: &'p Way<'p>) -> Self {
        Self { topology, engine, way, consulted: Vec::new() }
    }

    /// The source's side: the hooks of its node, up to where the packet leaves it.
    pub(super) fn egress(mut self) -> Option<Side> {
        let way = self.way;
        if matches!(way.from, End::Outside) {
            return None;
        }
        if way.is_local() {
            return self.exception(way.from, Cause::Loopback);
        }
        if self.topology.is_discovery(way) {
            return self.exception(way.from, Cause::NeighbourDiscovery);
        }
        // What another node translates leaves this one as it was sent.
        let packet = if way.is_translated_at_source() { way.packet } else { way.sent };
        let uplink = way.from_node.and_then(|node| self.topology.host_endpoint(node));
        match way.from {
            End::Endpoint(id) if id.kind == EndpointKind::Workload => {
                if let Some(wildcard) = way.from_node.and_then(|node| self.topology.wildcard_endpoint(node)) {
                    let early = (Hook::PreDnat, way.sent);
                    if way.stays() && is_host(way.to) {
                        self.first_of(wildcard, &[early]);
                    } else {
                        self.first_of(wildcard, &[early, (Hook::ForwardIngress, packet)]);
                    }
                }
                self.ask(id, Hook::WorkloadEgress, packet);
                if !way.stays()
                    && let Some(uplink) = uplink
                {
                    self.ask(uplink, Hook::ForwardEgress, packet);
                }
            }
            End::Endpoint(_) | End::Node(_) => {
                if way.stays() {
                    return self.exception(way.from, Cause::Node);
                }
                let host = match way.from {
                    End::Endpoint(id) => id,
                    _ => uplink?,
                };
                self.first_of(host, &[(Hook::UntrackedEgress, way.sent), (Hook::HostEgress, packet)]);
            }
            End::Outside => {}
        }
        self.side()
    }

    /// The destination's side: the hooks of a node on the way, and those of the destination's node. `egress` is the
    /// source's side.
    pub(super) fn ingress(mut self, egress: Option<&Side>) -> Option<Side> {
        let way = self.way;
        if let Some(uplink) = way.transit().and_then(|node| self.topology.host_endpoint(node)) {
            self.forwarded_in(uplink, way.sent);
            self.ask(uplink, Hook::ForwardEgress, way.packet);
        }
        if matches!(way.to, End::Outside) {
            return self.side();
        }
        if way.is_local() {
            return self.exception(way.to, Cause::Loopback);
        }
        if self.topology.is_discovery(way) {
            return self.exception(way.to, Cause::NeighbourDiscovery);
        }
        let uplink = way.to_node.and_then(|node| self.topology.host_endpoint(node));
        match way.to {
            End::Endpoint(id) if id.kind == EndpointKind::Workload => {
                // No policy stands between a host and the workloads on it (decision D11). Source: Calico
                // `felix/rules/static.go`, `filterOutputChain`.
                if way.stays() && is_host(way.from) {
                    return self.exception(way.to, Cause::Node);
                }
                if !way.stays()
                    && let Some(uplink) = uplink
                {
                    self.forwarded_in(uplink, way.arriving());
                }
                self.ask(id, Hook::WorkloadIngress, way.packet);
                if let Some(wildcard) = way.to_node.and_then(|node| self.topology.wildcard_endpoint(node)) {
                    self.ask(wildcard, Hook::ForwardEgress, way.packet);
                }
            }
            End::Endpoint(_) | End::Node(_) => {
                if way.stays() {
                    return self.workload_to_own_host(egress);
                }
                let host = match way.to {
                    End::Endpoint(id) => Some(id),
                    _ => uplink,
                };
                if let Some(host) = host {
                    let early = way.arriving();
                    let hooks = [
                        (Hook::UntrackedIngress, early),
                        (Hook::PreDnat, early),
                        (Hook::HostIngress, way.packet),
                    ];
                    self.first_of(host, &hooks);
                }
            }
            End::Outside => {}
        }
        self.side()
    }

    /// A workload reaches its own host: what the configuration says. Where it leaves the decision to host policy, that
    /// is the policy of the host endpoint for all interfaces, the only one that guards those of workloads.
    /// Source: Calico `felix/rules/static.go`, `filterWorkloadToHostChain`; `felix/dataplane/linux/bpf_ep_mgr.go`.
    fn workload_to_own_host(mut self, egress: Option<&Side>) -> Option<Side> {
        let accept = |path: &Self| path.exception(path.way.to, Cause::WorkloadToHost);
        match self.topology.settings.of_node(self.way.to_node).workload_to_host {
            WorkloadToHost::Accept => accept(&self),
            WorkloadToHost::Drop => Some(Side::exception(Verdict::Deny, Cause::WorkloadToHost)),
            WorkloadToHost::HostPolicy => {
                let early = egress.is_some_and(|side| {
                    side.consulted.iter().any(|asked| {
                        asked.hook == Hook::PreDnat
                            && asked.decision.verdict == Verdict::Allow
                            && !is_exemption(&asked.decision)
                    })
                });
                match self.way.to_node.and_then(|node| self.topology.wildcard_endpoint(node)) {
                    Some(wildcard) if !early => {
                        self.ask(wildcard, Hook::HostIngress, self.way.packet);
                        self.side()
                    }
                    _ => accept(&self),
                }
            }
        }
    }

    /// The hooks of a packet that comes in through `uplink` and is forwarded; `early` is the packet before this node
    /// translated it.
    fn forwarded_in(&mut self, uplink: &EndpointId, early: &Packet) {
        let hooks = [
            (Hook::UntrackedIngress, early),
            (Hook::PreDnat, early),
            (Hook::ForwardIngress, self.way.packet),
        ];
        self.first_of(uplink, &hooks);
    }

    fn ask(&mut self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> Verdict {
        if self.is_denied() {
            return Verdict::Deny;
        }
        let decision = self.engine.evaluate(endpoint, hook, packet);
        let verdict = decision.verdict;
        let is_before_nat = packet != self.way.packet;
        self.consulted.push(Consulted { endpoint: endpoint.clone(), hook, is_before_nat, decision });
        verdict
    }

    /// Asks the hooks of a host endpoint until one decides.
    ///
    /// An untracked or pre-DNAT Allow skips the host endpoint's later hooks, not the workload's own; for a packet that
    /// is forwarded an untracked Allow decides nothing, as if there were no untracked policy (decision D25). An
    /// exemption, such as a failsafe port, is good for its own hook only: it does not open traffic that is forwarded.
    /// Source: Calico `felix/rules/static.go`, and its documentation of doNotTrack.
    fn first_of(&mut self, endpoint: &EndpointId, hooks: &[(Hook, &Packet)]) {
        let is_forwarded = hooks.iter().any(|(hook, _)| *hook == Hook::ForwardIngress);
        for (hook, packet) in hooks {
            let goes_on = match self.ask(endpoint, *hook, packet) {
                Verdict::Continue => true,
                Verdict::Allow => {
                    let is_untracked = *hook == Hook::UntrackedIngress;
                    let last = self.consulted.last();
                    (is_forwarded && is_untracked) || last.is_some_and(|asked| is_exemption(&asked.decision))
                }
                Verdict::Deny | Verdict::Inspect => false,
            };
            if !goes_on {
                return;
            }
        }
    }

    fn is_denied(&self) -> bool {
        self.consulted.iter().any(|c| c.decision.verdict == Verdict::Deny)
    }

    /// An Allow that no policy is asked about, where `end` is subject to policy.
    fn exception(&self, end: &End, cause: Cause) -> Option<Side> {
        self.topology.is_subject(end).then(|| Side::exception(Verdict::Allow, cause))
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

/// Whether a hook did not look at policy.
const fn is_exemption(decision: &Decision) -> bool {
    decision.cause.is_exemption()
}

fn is_host(end: &End) -> bool {
    match end {
        End::Endpoint(id) => id.kind == EndpointKind::Host,
        End::Node(_) => true,
        End::Outside => false,
    }
}
