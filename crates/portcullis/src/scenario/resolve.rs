//! From the names in a flow to questions, and from questions to an answer.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::net::IpAddr;
use std::sync::OnceLock;

use portcullis_core::evaluate::Evaluate;
use portcullis_core::label::Name;
use portcullis_core::model::{Cluster, EndpointId, EndpointKind, ServiceId};
use portcullis_core::net::{IpVersion, canonical};
use portcullis_core::packet::{Packet, Protocol};
use portcullis_core::path::{End, FlowDecision, Topology, Translation};
use portcullis_core::quote::quoted;
use portcullis_core::settings::Settings;

use super::Scenario;
use super::answer::{Answer, Plan, Question, Resolved, Way, nothing};
use super::candidate::{Candidate, Standing};
use super::cuts::Cuts;
use super::flow::{Flow, FlowError, Port};
use super::peer::Peer;
use super::pod_kinds::Distinctions;
use super::reach::{Called, Entry, Front, Reach};

/// Looks flows up in a scenario and asks an engine about them.
///
/// The engine is a parameter: anything that implements [`Evaluate`] answers the same questions.
#[derive(Debug)]
pub struct Evaluator<'a> {
    scenario: &'a Scenario,
    settings: &'a Settings,
    pub(super) topology: Topology<'a>,
    pub(super) reach: Reach<'a>,
    pub(super) told: OnceLock<Distinctions>,
    /// The kinds of pods of each workload, once a flow has named it.
    pub(super) kinds: BTreeMap<&'a EndpointId, OnceLock<Arc<[Candidate]>>>,
    cuts: OnceLock<Cuts>,
    shared: OnceLock<BTreeMap<IpAddr, Vec<EndpointId>>>,
}

impl<'a> Evaluator<'a> {
    /// An evaluator for `scenario`; notes once who owns which address.
    #[must_use]
    pub fn new(scenario: &'a Scenario, settings: &'a Settings) -> Self {
        let topology = Topology::new(scenario.cluster(), settings);
        let reach = Reach::new(&scenario.frontends);
        let (told, cuts, shared) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        let kinds = scenario.workloads.keys().map(|id| (id, OnceLock::new())).collect();
        Self { scenario, settings, topology, reach, told, kinds, cuts, shared }
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
    pub fn answer(&self, engine: &(impl Evaluate + ?Sized), flow: &Flow) -> Result<Answer, FlowError> {
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
    /// * A workload is each kind of its pods that policy can tell from the others. Asked about itself it is two of its
    ///   pods, unless it has one and will not have more (decision D33).
    /// * A service, by its name, one of its addresses or a node port, is each backend that takes traffic, after
    ///   destination NAT (decision D27). A headless service is the addresses of its backends. A port that the service
    ///   does not have, and a service where nothing takes traffic, are denied: nothing answers.
    /// * A flow without a port is asked about at every range of ports that policy treats alike; to a service, at every
    ///   port of the service. One without a source port comes from an ephemeral port; where policy tells ephemeral ports
    ///   apart, all of them are asked about.
    ///
    /// # Errors
    /// The port is 0, or an end is unknown, is several workloads, has finished (decision D14), or has no address of the family.
    pub fn plan(&self, flow: &Flow) -> Result<Plan, FlowError> {
        if flow.protocol().has_ports() && matches!(flow.port(), Some(Port::Number(0))) {
            let reason = "no connection goes to port 0; leave the port out to ask about every port";
            return Err(FlowError::new("port", reason));
        }
        let mut plan = Plan { questions: Vec::new(), service: None, warnings: Vec::new() };
        for source in &*self.ends("from", flow.from())? {
            self.toward(flow, source, &mut plan)?;
        }
        for peer in [flow.from(), flow.to()] {
            match peer {
                Peer::Address(address) => self.doubt_address(*address, peer == flow.from(), &mut plan),
                Peer::Workload { namespace, name } => {
                    self.doubt_name(&EndpointId::workload(namespace.clone(), name.clone()), &mut plan);
                }
                _ => {}
            }
        }
        Ok(plan)
    }

    /// Adds the questions of a flow from `source`.
    fn toward(&self, flow: &Flow, source: &Candidate, plan: &mut Plan) -> Result<(), FlowError> {
        match flow.to() {
            Peer::Service { namespace, name } => {
                let id = ServiceId { namespace: namespace.clone(), name: name.clone() };
                let frontend = self.reach.service(&id).ok_or_else(|| self.no_service(&id))?;
                return self.through(flow, source, frontend, Entry::Name, flow.port(), plan);
            }
            Peer::Address(address) => {
                let services = self.reach.at(*address);
                let is_outside = self.topology.end_at(*address) == End::Outside;
                let inside = services.iter().any(|(_, front)| *front == Front::Cluster);
                if !services.is_empty() && (is_outside || inside) {
                    return self.through_address(flow, source, *address, plan);
                }
            }
            _ => {}
        }
        for destination in &*self.ends("to", flow.to())? {
            self.direct(flow, source, destination, plan)?;
        }
        Ok(())
    }

    /// What `engine` says to the questions of a plan.
    #[must_use]
    pub fn decide(&self, engine: &(impl Evaluate + ?Sized), plan: &Plan) -> Answer {
        Answer::new(plan, plan.questions().iter().map(|question| self.decide_one(engine, question)))
    }

    /// What `engine` says to one question.
    fn decide_one(&self, engine: &(impl Evaluate + ?Sized), question: &Question) -> FlowDecision {
        let Resolved { from, to, packet } = question.resolved();
        match (&question.way, from) {
            (Way::Translated { before, node }, _) => {
                let translation = Translation { before, node: node.as_ref() };
                self.topology.decide_translated(engine, from, to, packet, translation)
            }
            (Way::BetweenReplicas, End::Endpoint(id)) => {
                self.topology.decide_between_replicas(engine, id, packet)
            }
            (Way::Hooks | Way::BetweenReplicas, _) => self.topology.decide(engine, from, to, packet),
            (Way::Nothing(cause), _) => nothing(cause),
        }
    }

    pub(super) const fn settings(&self) -> &Settings {
        self.settings
    }

    /// Where verdicts can change with a port.
    pub(super) fn cuts(&self) -> &Cuts {
        self.cuts.get_or_init(|| Cuts::new(self.scenario.cluster(), self.settings))
    }

    /// The node that `end` lives on.
    pub(super) fn node_of<'e>(&'e self, end: &'e End) -> Option<&'e Name> {
        match end {
            End::Endpoint(id) => self.scenario.cluster().endpoints().get(id)?.node.as_ref(),
            End::Node(node) => Some(node),
            End::Outside => None,
        }
    }

    /// The owner of `address`, where `candidate` is not a certain end.
    pub(super) fn end(&self, candidate: &Candidate, address: IpAddr) -> End {
        candidate.end.clone().unwrap_or_else(|| self.topology.end_at(address))
    }

    /// Another pod of `source`'s kind, or word that the endpoint stands for both ends, when a flow from `source` would
    /// come back to it.
    pub(super) fn apart(&self, source: &Candidate, from: &End, to: &End) -> Apart {
        let End::Endpoint(id) = to else { return Apart::AsTheyAre };
        if from != to || id.kind != EndpointKind::Workload {
            return Apart::AsTheyAre;
        }
        match (source.twins.first(), source.standing) {
            (Some(twin), _) => Apart::From(twin.clone()),
            (None, Standing::OneForMore) => Apart::OneForBoth,
            (None, _) => Apart::AsTheyAre,
        }
    }

    /// What the author should know about an address that a flow names.
    fn doubt_address(&self, address: IpAddr, is_source: bool, plan: &mut Plan) {
        let shared = self.shared.get_or_init(|| shared_addresses(self.scenario.cluster()));
        if let Some(pods) = shared.get(&address) {
            let pods: Vec<String> = pods.iter().map(|pod| quoted(&pod.to_string()).to_string()).collect();
            plan.warn(format!("`{address}` is the address of {}: the first is meant", pods.join(" and ")));
        } else if is_source && let Some((frontend, _)) = self.reach.at(address).first() {
            let service = Called(&frontend.id);
            plan.warn(format!("`{address}` is an address of {service}, and a service sends no traffic"));
        } else if !is_source
            && self.reach.at(address).is_empty()
            && let Some(frontend) = self.reach.proxied(address)
        {
            plan.warn(format!(
                "`{address}` is the address of the load balancer of {}, which nodes do not translate (ipMode: Proxy): \
                 the answer is for the way to that address; ask about the way from the load balancer too",
                Called(&frontend.id)
            ));
        }
    }
}

/// The addresses that several workloads have, with these.
fn shared_addresses(cluster: &Cluster) -> BTreeMap<IpAddr, Vec<EndpointId>> {
    let mut owners: BTreeMap<IpAddr, Vec<EndpointId>> = BTreeMap::new();
    for endpoint in cluster.endpoints().values().filter(|e| e.id.kind == EndpointKind::Workload) {
        for address in &endpoint.addresses {
            let owners = owners.entry(canonical(*address)).or_default();
            if !owners.contains(&endpoint.id) {
                owners.push(endpoint.id.clone());
            }
        }
    }
    owners.retain(|_, owners| owners.len() > 1);
    owners
}

/// How a flow that would come back to its source is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Apart {
    /// Its ends differ, or the flow really is one to itself.
    AsTheyAre,
    /// Between this pod of the same kind and the destination.
    From(EndpointId),
    /// The endpoint stands for both ends.
    OneForBoth,
}

/// The families that a flow may have, the preferred one first; see [`Evaluator::plan`].
pub(super) const fn families(flow: &Flow) -> &'static [IpVersion] {
    match (flow.family(), flow.protocol()) {
        (Some(IpVersion::V4), _) => &[IpVersion::V4],
        (Some(IpVersion::V6), _) => &[IpVersion::V6],
        (None, Protocol::ICMPV6) => &[IpVersion::V6, IpVersion::V4],
        (None, _) => &[IpVersion::V4, IpVersion::V6],
    }
}

/// The packet of a flow, without ports.
pub(super) fn packet(flow: &Flow, source: IpAddr, destination: IpAddr) -> Packet {
    let mut packet = Packet::new(source, destination, flow.protocol());
    packet.icmp = flow.icmp();
    packet.principal = flow.principal().map(Name::from);
    packet.http = flow.http().cloned();
    packet
}
