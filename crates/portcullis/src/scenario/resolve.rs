//! From the names in a flow to ends, addresses and a packet.

use core::net::IpAddr;

use portcullis_core::flow::{DecideHook, End, FlowDecision, Topology};
use portcullis_core::label::Name;
use portcullis_core::model::{EndpointId, EndpointKind, NetworkSetId};
use portcullis_core::net::IpVersion;
use portcullis_core::packet::{Packet, Protocol};
use portcullis_core::settings::Settings;

use super::Scenario;
use super::flow::{Flow, FlowError};
use super::near::nearest;
use super::peer::Peer;
use super::text::quoted;
use portcullis_k8s::PodPlace;

/// Looks flows up in a scenario and asks an engine about them.
///
/// The engine is a parameter: anything that implements [`DecideHook`] answers the same questions.
#[derive(Debug)]
pub struct Evaluator<'a> {
    scenario: &'a Scenario,
    topology: Topology<'a>,
}

/// A flow whose ends and addresses are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Where it starts.
    pub from: End,
    /// Where it ends.
    pub to: End,
    /// Its first packet.
    pub packet: Packet,
}

impl<'a> Evaluator<'a> {
    /// An evaluator for `scenario`; notes once who owns which address.
    #[must_use]
    pub fn new(scenario: &'a Scenario, settings: &'a Settings) -> Self {
        Self { scenario, topology: Topology::new(scenario.cluster(), settings) }
    }

    /// The scenario.
    #[must_use]
    pub const fn scenario(&self) -> &'a Scenario {
        self.scenario
    }

    /// Looks up both ends of `flow` and chooses the addresses of its packet.
    ///
    /// The packet has the family that the flow names. When it names none, it has the first family in which both
    /// ends have an address: IPv4, then IPv6, and for ICMPv6 the other way round. Each end then takes its first
    /// address of that family (decision D22); a network set its first network's lowest address, which for a CIDR is
    /// the network address itself. A pod in its node's network is the node, and an address that a known pod, host
    /// endpoint or node owns is that end.
    ///
    /// # Errors
    /// An end is unknown, has finished (decision D14), or has no address of the family.
    pub fn resolve(&self, flow: &Flow) -> Result<Resolved, FlowError> {
        let from = self.candidate("from", flow.from())?;
        let to = self.candidate("to", flow.to())?;
        let wanted = match (flow.family(), flow.protocol()) {
            (Some(IpVersion::V4), _) => &[IpVersion::V4][..],
            (Some(IpVersion::V6), _) => &[IpVersion::V6][..],
            (None, Protocol::ICMPV6) => &[IpVersion::V6, IpVersion::V4][..],
            (None, _) => &[IpVersion::V4, IpVersion::V6][..],
        };
        let both = |version: &IpVersion| Some((from.address(*version)?, to.address(*version)?));
        let Some((source, destination)) = wanted.iter().find_map(both) else {
            return Err(no_common_address(flow, &from, &to));
        };
        let mut packet = Packet::new(source, destination, flow.protocol());
        if flow.protocol().has_ports() {
            packet = packet.from_port(flow.source_port()).to_port(flow.port());
        }
        packet.icmp = flow.icmp();
        packet.principal = flow.principal().map(Name::from);
        packet.http = flow.http().cloned();
        let end =
            |candidate: Candidate, address| candidate.end.unwrap_or_else(|| self.topology.end_at(address));
        Ok(Resolved { from: end(from, source), to: end(to, destination), packet })
    }

    /// What `engine` says to a flow.
    #[must_use]
    pub fn decide(&self, engine: &(impl DecideHook + ?Sized), flow: &Resolved) -> FlowDecision {
        self.topology.decide(engine, &flow.from, &flow.to, &flow.packet)
    }

    fn candidate(&self, field: &'static str, peer: &Peer) -> Result<Candidate, FlowError> {
        let cluster = self.scenario.cluster();
        match peer {
            Peer::Address(address) => Ok(Candidate { end: None, addresses: vec![*address] }),
            Peer::Workload { namespace, name } => {
                let id = EndpointId::workload(namespace.clone(), name.clone());
                if let Some(endpoint) = cluster.endpoints().get(&id) {
                    return Ok(Candidate::endpoint(id, endpoint.addresses.clone()));
                }
                match self.scenario.places.get(&id) {
                    Some(PodPlace::Node(node)) => self.node(field, node, Some(peer)),
                    Some(PodPlace::Unplaced) => Err(FlowError::new(
                        field,
                        format!(
                            "{} uses the network of its node, and the node is not known",
                            quoted(&peer.to_string())
                        ),
                    )),
                    Some(PodPlace::Finished) => Err(FlowError::new(
                        field,
                        format!("{} has finished, so it has no traffic", quoted(&peer.to_string())),
                    )),
                    Some(PodPlace::Pod(pod)) => {
                        let addresses = cluster.endpoints().get(pod).map(|pod| pod.addresses.clone());
                        Ok(Candidate::endpoint(pod.clone(), addresses.unwrap_or_default()))
                    }
                    _ => {
                        let workloads =
                            cluster.endpoints().keys().filter(|id| id.kind == EndpointKind::Workload);
                        let known = workloads.chain(self.scenario.places.keys()).map(EndpointId::to_string);
                        Err(unknown(field, "pod", &peer.to_string(), known))
                    }
                }
            }
            Peer::Node(name) => self.node(field, name, None),
            Peer::HostEndpoint(name) => {
                let id = EndpointId::host(name.clone());
                let Some(endpoint) = cluster.endpoints().get(&id) else {
                    let hosts = cluster.endpoints().keys().filter(|id| id.kind == EndpointKind::Host);
                    return Err(unknown(
                        field,
                        "host endpoint",
                        &peer.to_string(),
                        hosts.map(EndpointId::to_string),
                    ));
                };
                // An endpoint that is known by its interface has the addresses of its node.
                let node = endpoint.node.as_ref().and_then(|node| cluster.nodes().get(node));
                let addresses = match node {
                    Some(node) if endpoint.addresses.is_empty() => node.addresses.clone(),
                    _ => endpoint.addresses.clone(),
                };
                Ok(Candidate::endpoint(id, addresses))
            }
            Peer::NetworkSet { namespace, name } => {
                let id = NetworkSetId { namespace: namespace.clone(), name: name.clone() };
                let Some(set) = cluster.network_sets().get(&id) else {
                    let known = cluster.network_sets().keys().map(|id| {
                        Peer::NetworkSet { namespace: id.namespace.clone(), name: id.name.clone() }
                            .to_string()
                    });
                    return Err(unknown(field, "network set", &peer.to_string(), known));
                };
                Ok(Candidate { end: None, addresses: set.nets.iter().map(|net| net.address()).collect() })
            }
        }
    }

    fn node(&self, field: &'static str, name: &Name, pod: Option<&Peer>) -> Result<Candidate, FlowError> {
        let nodes = self.scenario.cluster().nodes();
        match (nodes.get(name), pod) {
            (Some(node), _) => {
                Ok(Candidate { end: Some(End::Node(name.clone())), addresses: node.addresses.clone() })
            }
            (None, Some(pod)) => Err(FlowError::new(
                field,
                format!(
                    "{} uses the network of node {}, which is not known",
                    quoted(&pod.to_string()),
                    quoted(name)
                ),
            )),
            (None, None) => {
                let known = nodes.keys().map(|name| Peer::Node(name.clone()).to_string());
                Err(unknown(field, "node", &Peer::Node(name.clone()).to_string(), known))
            }
        }
    }
}

/// An end with the addresses to choose from. Without an end, the owner of the chosen address is meant.
struct Candidate {
    end: Option<End>,
    addresses: Vec<IpAddr>,
}

impl Candidate {
    fn endpoint(id: EndpointId, addresses: Vec<IpAddr>) -> Self {
        Self { end: Some(End::Endpoint(id)), addresses }
    }

    fn address(&self, version: IpVersion) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| IpVersion::of(address) == version)
    }
}

fn no_common_address(flow: &Flow, from: &Candidate, to: &Candidate) -> FlowError {
    for (field, peer, candidate) in [("from", flow.from(), from), ("to", flow.to(), to)] {
        let peer = peer.to_string();
        if candidate.addresses.is_empty() {
            return FlowError::new(field, format!("{} has no address", quoted(&peer)));
        }
        if let Some(version) = flow.family()
            && candidate.address(version).is_none()
        {
            return FlowError::new("family", format!("{} has no IPv{version} address", quoted(&peer)));
        }
    }
    let (from, to) = (flow.from().to_string(), flow.to().to_string());
    FlowError::new("to", format!("{} and {} have no address family in common", quoted(&from), quoted(&to)))
}

fn unknown(field: &'static str, what: &str, name: &str, known: impl Iterator<Item = String>) -> FlowError {
    let mut count = 0_usize;
    let near = nearest(name, known.inspect(|_| count = count.saturating_add(1)));
    let reason = match (near.as_slice(), count) {
        ([], 0) => format!("there is no {what} {}, nor any other {what} in the input", quoted(name)),
        ([], _) => format!("there is no {what} {}", quoted(name)),
        (names, _) => {
            let names: Vec<String> = names.iter().map(|name| quoted(name).to_string()).collect();
            format!("there is no {what} {}; did you mean {}?", quoted(name), names.join(" or "))
        }
    };
    FlowError::new(field, reason)
}
