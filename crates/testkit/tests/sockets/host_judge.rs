//! What the reference says about packets that cross a node with host endpoints, compared with what comes through.

use std::net::IpAddr;

use portcullis::model::{Cluster, EndpointId};
use portcullis::packet::{Packet, Protocol};
use portcullis::path::{End, Side, Topology};
use portcullis::reference::Reference;
use portcullis::settings::Settings;
use portcullis::verdict::{Decision, Hook, Verdict};

use crate::node::Pod;
use crate::wide::{NODE, Site, Tries};

/// Whoever takes part: the pod whose thread it is (the node has none), and what the model knows of it.
pub(crate) struct Party<'a> {
    pod: Option<&'a Pod>,
    end: End,
    addresses: [IpAddr; 2],
}

/// The node and its pods, and those beyond the uplink.
pub(crate) fn parties<'a>(
    site: &'a Site,
    local: &[EndpointId],
    remote: &[EndpointId],
) -> [Vec<Party<'a>>; 2] {
    let party = |pod: &'a Pod, end| Party { pod: Some(pod), end, addresses: pod.addresses };
    let node =
        Party { pod: None, end: End::Node("node".into()), addresses: NODE.map(|text| text.parse().unwrap()) };
    let pods = site.pods.iter().zip(local).map(|(pod, id)| party(pod, End::Endpoint(id.clone())));
    let near = pods.chain([node]).collect();
    let remote = site.far.iter().zip(remote).map(|(pod, id)| party(pod, End::Endpoint(id.clone())));
    let outside = site.far.iter().skip(2).map(|pod| party(pod, End::Outside));
    let far = remote.chain(outside).chain([party(&site.second, End::Node("second".into()))]).collect();
    [near, far]
}

/// What the reference says about the way of a packet over this node, and the way back of its answers.
pub(crate) struct Judge<'a> {
    cluster: &'a Cluster,
    reference: Reference<'a>,
    topology: Topology<'a>,
    guard: &'a EndpointId,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(cluster: &'a Cluster, settings: &'a Settings, guard: &'a EndpointId) -> Self {
        let (reference, topology) = (Reference::new(cluster, settings), Topology::new(cluster, settings));
        Self { cluster, reference, topology, guard }
    }

    fn is_local(&self, end: &End) -> bool {
        let node = match end {
            End::Endpoint(id) => self.cluster.endpoints()[id].node.as_ref(),
            End::Node(node) => Some(node),
            End::Outside => None,
        };
        node.is_some_and(|node| node.as_str() == "node")
    }

    /// Whether `from` gets an answer. Where only one end is of this node, only that is asked.
    fn passes(&self, from: &End, to: &End, packet: &Packet) -> bool {
        let answer = self.topology.decide(&self.reference, from, to, packet);
        let comes_in = self.is_local(to);
        if comes_in && self.is_local(from) {
            // Nothing within the node is untracked, so answers pass.
            return answer.verdict == Verdict::Allow;
        }
        let side = if comes_in { answer.ingress } else { answer.egress };
        let allowed = side.as_ref().is_none_or(|side| side.decision.verdict == Verdict::Allow);
        let local = if comes_in { to } else { from };
        let of_node = matches!(local, End::Node(_));
        // For a workload an untracked Allow decides nothing (decision D25).
        let untracked = of_node && side.as_ref().is_some_and(is_untracked);
        allowed && self.comes_back(comes_in, of_node, untracked, packet)
    }

    /// Flows that untracked policy allowed are not remembered, so their answers need rules of their own; and it is asked
    /// about every packet.
    fn comes_back(&self, came_in: bool, of_node: bool, untracked: bool, packet: &Packet) -> bool {
        let mut reply = Packet::new(packet.destination, packet.source, packet.protocol);
        (reply.source_port, reply.destination_port) = (packet.destination_port, packet.source_port);
        let ask = |hook| self.reference.decide(self.guard, hook, &reply);
        let hooks: &[Hook] = match (came_in, of_node) {
            (true, true) => &[Hook::UntrackedEgress, Hook::HostEgress],
            (true, false) => &[Hook::ForwardEgress],
            (false, true) => &[Hook::UntrackedIngress, Hook::PreDnat, Hook::HostIngress],
            (false, false) => &[Hook::UntrackedIngress],
        };
        for hook in hooks {
            let is_asked = untracked || matches!(hook, Hook::UntrackedIngress | Hook::UntrackedEgress);
            let decision = ask(*hook);
            if is_asked && decision.verdict != Verdict::Continue && !is_exempt(&decision) {
                return decision.verdict == Verdict::Allow;
            }
        }
        // Nobody denied it, and an exemption of the last hook is good for it.
        true
    }
}

fn is_exempt(decision: &Decision) -> bool {
    decision.cause.is_exemption()
}

fn is_untracked(side: &Side) -> bool {
    side.consulted.iter().any(|asked| {
        let hook = matches!(asked.hook, Hook::UntrackedIngress | Hook::UntrackedEgress);
        hook && asked.decision.verdict == Verdict::Allow && !is_exempt(&asked.decision)
    })
}

/// Tries every way over the uplink, both directions and families.
pub(crate) fn compare(
    judge: &Judge<'_>,
    [near, far]: &[Vec<Party<'_>>; 2],
    ports: &[(u16, Protocol)],
    round: &str,
) -> Option<(usize, usize)> {
    check(judge, &over_the_uplink(near, far), ports, round)
}

/// Tries every way over the uplink, and those between the pods and the node itself.
pub(crate) fn compare_all(
    judge: &Judge<'_>,
    [near, far]: &[Vec<Party<'_>>; 2],
    ports: &[(u16, Protocol)],
    round: &str,
) -> Option<(usize, usize)> {
    let mut ways = over_the_uplink(near, far);
    for from in near {
        ways.extend(near.iter().filter(|to| to.end != from.end).map(|to| (from, to)));
    }
    check(judge, &ways, ports, round)
}

/// From one to another.
type Way<'w> = (&'w Party<'w>, &'w Party<'w>);

fn over_the_uplink<'w>(near: &'w [Party<'w>], far: &'w [Party<'w>]) -> Vec<Way<'w>> {
    near.iter().flat_map(|one| far.iter().flat_map(move |other| [(one, other), (other, one)])).collect()
}

fn check(
    judge: &Judge<'_>,
    ways: &[Way<'_>],
    ports: &[(u16, Protocol)],
    round: &str,
) -> Option<(usize, usize)> {
    let mut wanted = Vec::new();
    for (from, to) in ways {
        for (source, destination) in from.addresses.into_iter().zip(to.addresses) {
            for (port, protocol) in ports {
                let packet = Packet::new(source, destination, *protocol).to_port(*port).from_port(40_000);
                let allowed = judge.passes(&from.end, &to.end, &packet);
                wanted.push((from.pod, packet, allowed));
            }
        }
    }
    // Policies that allow or deny everything show little.
    let first = wanted.first()?.2;
    if wanted.iter().all(|(.., allowed)| *allowed == first) {
        return None;
    }
    let mut tries = Tries::default();
    wanted.iter().for_each(|(from, packet, allowed)| tries.add_packet(*from, packet, *allowed));
    Some(tries.check(round))
}
