//! From the names in a flow to ends, addresses and a packet.

use alloc::collections::BTreeSet;
use core::net::IpAddr;
use std::sync::OnceLock;

use portcullis_core::flow::{DecideHook, End, FlowDecision, Topology};
use portcullis_core::label::Name;
use portcullis_core::model::{EndpointId, EndpointKind, NetworkSetId};
use portcullis_core::net::IpVersion;
use portcullis_core::packet::{Packet, Protocol};
use portcullis_core::settings::Settings;

use super::Scenario;
use super::answer::{Answer, Plan, Question, Resolved, Way, nothing};
use super::cuts::Cuts;
use super::flow::{Flow, FlowError, Port};
use super::near::nearest;
use super::peer::Peer;
use super::ports::PortSet;
use super::text::quoted;
use portcullis_k8s::PodPlace;

/// Looks flows up in a scenario and asks an engine about them.
///
/// The engine is a parameter: anything that implements [`DecideHook`] answers the same questions.
#[derive(Debug)]
pub struct Evaluator<'a> {
    scenario: &'a Scenario,
    settings: &'a Settings,
    topology: Topology<'a>,
    cuts: OnceLock<Cuts>,
}

impl<'a> Evaluator<'a> {
    /// An evaluator for `scenario`; notes once who owns which address.
    #[must_use]
    pub fn new(scenario: &'a Scenario, settings: &'a Settings) -> Self {
        let topology = Topology::new(scenario.cluster(), settings);
        Self { scenario, settings, topology, cuts: OnceLock::new() }
    }

    /// The scenario.
    #[must_use]
    pub const fn scenario(&self) -> &'a Scenario {
        self.scenario
    }

    /// What `engine` says to `flow`.
    ///
    /// # Errors
    /// As [`Evaluator::plan`].
    pub fn answer(&self, engine: &(impl DecideHook + ?Sized), flow: &Flow) -> Result<Answer, FlowError> {
        Ok(self.decide(engine, &self.plan(flow)?))
    }

    /// Looks up both ends of `flow`, its addresses and its ports.
    ///
    /// The packet has the family that the flow names. When it names none, it has the first family in which both
    /// ends have an address: IPv4, then IPv6, and for ICMPv6 the other way round. Each end then takes its first
    /// address of that family (decision D22); a network set its first network's lowest address, which for a CIDR is
    /// the network address itself. A pod in its node's network is the node, and an address that a known pod, host
    /// endpoint or node owns is that end.
    ///
    /// A flow without a port is asked about at every range of ports that policy treats alike. One without a source
    /// port comes from an ephemeral port; where policy tells ephemeral ports apart, all of them are asked about.
    ///
    /// # Errors
    /// An end is unknown, has finished (decision D14), or has no address of the family.
    pub fn plan(&self, flow: &Flow) -> Result<Plan, FlowError> {
        let from = self.candidate("from", flow.from())?;
        let to = self.candidate("to", flow.to())?;
        let (source, destination) = addresses(flow, &from, &to)?;
        let mut packet = Packet::new(source, destination, flow.protocol());
        packet.icmp = flow.icmp();
        packet.principal = flow.principal().map(Name::from);
        packet.http = flow.http().cloned();
        let end =
            |candidate: Candidate, address| candidate.end.unwrap_or_else(|| self.topology.end_at(address));
        let resolved = Resolved { from: end(from, source), to: end(to, destination), packet };
        let questions = self.with_ports(flow, &resolved)?;
        Ok(Plan { questions, service: None, warnings: Vec::new() })
    }

    /// What `engine` says to the questions of a plan.
    #[must_use]
    pub fn decide(&self, engine: &(impl DecideHook + ?Sized), plan: &Plan) -> Answer {
        Answer::new(plan, plan.questions().iter().map(|question| self.decide_one(engine, question)))
    }

    /// What `engine` says to one question.
    fn decide_one(&self, engine: &(impl DecideHook + ?Sized), question: &Question) -> FlowDecision {
        let Resolved { from, to, packet } = question.resolved();
        match &question.way {
            Way::Hooks => self.topology.decide(engine, from, to, packet),
            Way::Nothing(cause) => nothing(cause),
        }
    }

    /// The questions of a flow between two known ends, one for each range of ports.
    fn with_ports(&self, flow: &Flow, resolved: &Resolved) -> Result<Vec<Question>, FlowError> {
        if !flow.protocol().has_ports() {
            return Ok(vec![Question { resolved: resolved.clone(), ports: None, way: Way::Hooks }]);
        }
        let ends = [&resolved.from, &resolved.to];
        let namespaces = || {
            ends.into_iter().filter_map(|end| match end {
                End::Endpoint(id) => id.namespace.as_ref(),
                _ => None,
            })
        };
        let cuts = self.cuts.get_or_init(|| Cuts::new(self.scenario.cluster(), self.settings));
        let sources: Vec<u16> = match flow.source_port() {
            Some(port) => vec![port],
            None => cuts.sources(namespaces()).iter().filter_map(PortSet::first).collect(),
        };
        let destinations: Vec<(u16, Option<PortSet>)> = match flow.port() {
            Some(Port::Number(port)) => vec![(*port, None)],
            Some(Port::Name(name)) => {
                self.named_ports(flow, name, &resolved.to)?.into_iter().map(|port| (port, None)).collect()
            }
            None => cuts
                .destinations(namespaces())
                .into_iter()
                .filter_map(|ports| Some((ports.first()?, Some(ports))))
                .collect(),
        };
        let mut questions = Vec::new();
        for source in sources {
            for (port, ports) in &destinations {
                let packet = resolved.packet.clone().from_port(source).to_port(*port);
                let resolved = Resolved { packet, ..resolved.clone() };
                questions.push(Question { resolved, ports: ports.clone(), way: Way::Hooks });
            }
        }
        Ok(questions)
    }

    /// The numbers of the container ports called `name`; usually one.
    fn named_ports(&self, flow: &Flow, name: &str, to: &End) -> Result<Vec<u16>, FlowError> {
        let endpoint = match to {
            End::Endpoint(id) => self.scenario.cluster().endpoints().get(id),
            _ => None,
        };
        let ports = endpoint.map(|endpoint| endpoint.ports.as_slice()).unwrap_or_default();
        let found =
            ports.iter().filter(|port| port.name.as_str() == name && port.protocol == flow.protocol());
        let numbers: BTreeSet<u16> = found.map(|port| port.port).collect();
        if numbers.is_empty() {
            let to = flow.to().to_string();
            let known = match ports {
                [] => "no port of it has a name".to_owned(),
                ports => {
                    let names: Vec<String> = ports
                        .iter()
                        .map(|port| format!("{} ({} {})", quoted(&port.name), port.protocol, port.port))
                        .collect();
                    format!("it has {}", names.join(", "))
                }
            };
            let reason = format!("{} has no {} port {}; {known}", quoted(&to), flow.protocol(), quoted(name));
            return Err(FlowError::new("port", reason));
        }
        Ok(numbers.into_iter().collect())
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

/// The first address of each end in the family that both have; see [`Evaluator::plan`].
fn addresses(flow: &Flow, from: &Candidate, to: &Candidate) -> Result<(IpAddr, IpAddr), FlowError> {
    let wanted = match (flow.family(), flow.protocol()) {
        (Some(IpVersion::V4), _) => &[IpVersion::V4][..],
        (Some(IpVersion::V6), _) => &[IpVersion::V6][..],
        (None, Protocol::ICMPV6) => &[IpVersion::V6, IpVersion::V4][..],
        (None, _) => &[IpVersion::V4, IpVersion::V6][..],
    };
    let both = |version: &IpVersion| Some((from.address(*version)?, to.address(*version)?));
    wanted.iter().find_map(both).ok_or_else(|| no_common_address(flow, from, to))
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
