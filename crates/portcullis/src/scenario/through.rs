//! Flows to services: each backend that takes traffic, after destination NAT (decision D27).

use alloc::collections::BTreeSet;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portcullis_core::label::Name;
use portcullis_core::model::EndpointKind;
use portcullis_core::net::IpVersion;
use portcullis_core::path::End;
use portcullis_core::quote::quoted;
use portcullis_core::verdict::Cause;
use portcullis_k8s::{Frontend, FrontendBackend, FrontendKind, TrafficPolicy};

use super::answer::{Plan, Question, Resolved, Way};
use super::candidate::Candidate;
use super::direct::no_family_in_common;
use super::flow::{Flow, FlowError, Port};
use super::reach::{Called, Entry, Front, asked_ports, in_service, listed_ports, traffic_policy};
use super::resolve::{Apart, Evaluator, families, packet};

impl Evaluator<'_> {
    /// Adds the questions of a flow to an address that services have: those with the port, or all when no port is
    /// named.
    pub(super) fn through_address(
        &self,
        flow: &Flow,
        source: &Candidate,
        address: IpAddr,
        plan: &mut Plan,
    ) -> Result<(), FlowError> {
        let services = self.reach.at(address);
        let has_port = |frontend: &Frontend, front| {
            let entry = Entry::Address(address, front);
            !asked_ports(frontend, entry, flow.protocol(), flow.port()).is_empty()
        };
        let asked = services.iter().filter(|(frontend, front)| has_port(frontend, *front));
        let mut asked: Vec<_> = asked.collect();
        if asked.is_empty() {
            asked.extend(services.first());
        }
        let entry = |front| Entry::Address(address, front);
        let behind: Vec<_> = asked.into_iter().map(|(frontend, front)| (*frontend, entry(*front))).collect();
        self.through_all(flow, source, &behind, flow.port(), plan)
    }

    /// Adds the questions of a flow to every service that may be meant. Where services share an address and a port, one
    /// of them gets the traffic, and which one the objects do not say.
    pub(super) fn through_all(
        &self,
        flow: &Flow,
        source: &Candidate,
        behind: &[(&Frontend, Entry<'_>)],
        port: Option<&Port>,
        plan: &mut Plan,
    ) -> Result<(), FlowError> {
        if let (Some(port), true) = (port, behind.len() > 1) {
            let services: Vec<String> =
                behind.iter().map(|(frontend, _)| Called(&frontend.id).to_string()).collect();
            plan.warn(format!(
                "port {port} there is one of {}: the answer is for all of them, and traffic goes to one",
                services.join(" and ")
            ));
        }
        for (frontend, entry) in behind {
            self.through(flow, source, frontend, *entry, port, plan)?;
        }
        Ok(())
    }

    /// Adds the questions of a flow from `source` to the ports of `frontend` that `port` names.
    pub(super) fn through(
        &self,
        flow: &Flow,
        source: &Candidate,
        frontend: &Frontend,
        entry: Entry<'_>,
        port: Option<&Port>,
        plan: &mut Plan,
    ) -> Result<(), FlowError> {
        let service = Called(&frontend.id);
        plan.service.get_or_insert_with(|| frontend.id.clone());
        if let FrontendKind::ExternalName(name) = &frontend.kind {
            let reason = format!(
                "{service} is another name for the host {}; ask about an address of that host",
                quoted(name)
            );
            return Err(FlowError::new("to", reason));
        }
        let (near, front) = ends(flow, source, frontend, entry)?;
        let version = IpVersion::of(&near);
        let from = self.end(source, near);
        let (is_near, place) = self.locality(&from, frontend, entry, plan);
        let backends = frontend.backends.iter();
        if frontend.kind == FrontendKind::Headless {
            return self.headless(flow, source, near, frontend, port, plan);
        }
        self.say_whose(frontend, entry, port, plan);
        let asked = asked_ports(frontend, entry, flow.protocol(), port);
        let unanswered = |cause, number: u16| {
            let to = front.unwrap_or_else(|| unspecified(version));
            let packet = packet(flow, near, to).to_port(number);
            let resolved = Resolved { from: from.clone(), to: End::Outside, packet };
            Question {
                resolved,
                ports: None,
                source_ports: None,
                service_port: None,
                way: Way::Nothing(cause),
            }
        };
        if asked.is_empty() {
            let what = match port.filter(|_| flow.protocol().has_ports()) {
                Some(port) => format!("{} port {}", flow.protocol(), quoted(&port.to_string())),
                None => format!("{} port", flow.protocol()),
            };
            plan.warn(format!(
                "{service} has no {what}, so nothing answers; it has {}",
                listed_ports(frontend)
            ));
            let number = match port {
                Some(Port::Number(number)) => *number,
                _ => 0,
            };
            plan.questions.push(unanswered(Cause::NoServicePort, number));
        }
        let is_shut_out =
            matches!(entry, Entry::Address(_, Front::Balancer)) && !frontend.load_balancer.admits(&near);
        if is_shut_out {
            let ranges = frontend.load_balancer.source_ranges.iter().map(ToString::to_string);
            plan.warn(format!(
                "the load balancer of {service} takes traffic from {} only (loadBalancerSourceRanges), and `{near}` is \
                 not in there, so nothing answers",
                ranges.collect::<Vec<_>>().join(", ")
            ));
        }
        for (index, number) in asked {
            if is_shut_out {
                plan.questions.push(unanswered(Cause::NoBackend, number));
                continue;
            }
            let target = |backend: &FrontendBackend| backend.targets.iter().any(|(at, _)| *at == index);
            let listening = backends.clone().filter(|backend| target(backend));
            let found = in_service(listening, version, |backend| is_near(backend));
            if found.is_empty() {
                plan.warn(format!(
                    "{service} has no ready backend for its {} port {number}{place}, so nothing answers",
                    flow.protocol()
                ));
                say_not_mirrored(frontend, plan);
                plan.questions.push(unanswered(Cause::NoBackend, number));
            }
            for backend in found {
                let targets = backend.targets.iter().filter(|(at, _)| *at == index);
                for (_, target) in targets {
                    let is_masqueraded = traffic_policy(frontend, entry) == TrafficPolicy::Cluster;
                    let hop = Hop { entry, front, outer: number, target: *target, is_masqueraded };
                    self.behind(flow, source, near, backend, hop, plan);
                }
            }
        }
        Ok(())
    }

    /// Adds the questions of a flow to one port of one backend.
    fn behind(
        &self,
        flow: &Flow,
        source: &Candidate,
        near: IpAddr,
        backend: &FrontendBackend,
        hop: Hop<'_>,
        plan: &mut Plan,
    ) {
        let to = self.topology.end_at(backend.address);
        let (from, near, way) = self.unlike(source, near, &to, backend.address);
        for (port, source_ports) in self.source_ports(flow, &from, &to) {
            let before = hop.front.map(|front| packet(flow, near, front).from_port(port).to_port(hop.outer));
            let way = match (&way, before) {
                (Way::Hooks, Some(before)) => {
                    let node = match hop.entry {
                        Entry::NodePort(_, node) => Some(node.clone()),
                        _ => None,
                    };
                    Way::Translated { before: Box::new(before), node }
                }
                (way, _) => way.clone(),
            };
            let packet = packet(flow, near, backend.address).from_port(port).to_port(hop.target);
            let resolved = Resolved { from: from.clone(), to: to.clone(), packet };
            let service_port = Some(hop.outer);
            plan.questions.push(Question { resolved, ports: None, source_ports, service_port, way });
        }
        if hop.is_masqueraded {
            self.doubt_source(
                &from,
                &hop,
                self.node_of(&to).or(backend.node.as_ref()),
                backend.address,
                plan,
            );
        }
    }

    /// Says that the source's address may not be what policy at `backend` sees.
    ///
    /// Traffic to node ports, external addresses and those of load balancers is masqueraded by the node that translates it,
    /// from any source, unless only backends on that node take it. Policy on that same node still sees the source.
    /// Source: kubernetes `pkg/proxy/iptables/proxier.go`, `syncProxyRules` ("masquerade traffic for ... external
    /// destinations").
    fn doubt_source(
        &self,
        from: &End,
        hop: &Hop<'_>,
        there: Option<&Name>,
        backend: IpAddr,
        plan: &mut Plan,
    ) {
        let (translator, address) = match hop.entry {
            Entry::NodePort(address, node) => (Some(node), address),
            Entry::Address(address, Front::External | Front::Balancer) => (self.node_of(from), address),
            Entry::Name | Entry::Address(_, Front::Cluster) => return,
        };
        let is_its_own = match from {
            End::Endpoint(id) => id.kind == EndpointKind::Host && self.node_of(from) == translator,
            End::Node(node) => Some(node) == translator,
            End::Outside => false,
        };
        if is_its_own || (translator.is_some() && translator == there) {
            return;
        }
        let who = match (translator, from) {
            (Some(node), _) => format!("node {node}"),
            (None, End::Outside) => format!("the node where traffic to `{address}` comes in"),
            (None, _) => "the source's node".to_owned(),
        };
        plan.warn(format!(
            "{who} may put its own address in place of the source's on the way to `{backend}`, and policy there would \
             see that; this answer is for the source that was asked about"
        ));
        let mut endpoints = self.scenario().cluster().endpoints().keys();
        if translator.is_none() && *from == End::Outside && endpoints.any(|id| id.kind == EndpointKind::Host)
        {
            let there = there.map_or_else(|| "the backend's node".to_owned(), |node| format!("node {node}"));
            plan.warn(format!(
                "traffic to `{address}` is taken to come in at {there}; where it comes in elsewhere, the host endpoint of \
                 that node decides too"
            ));
        }
    }

    /// Adds the questions of a flow to the addresses behind a headless service: clients connect to them, and the port is
    /// that of the backend.
    fn headless(
        &self,
        flow: &Flow,
        source: &Candidate,
        near: IpAddr,
        frontend: &Frontend,
        port: Option<&Port>,
        plan: &mut Plan,
    ) -> Result<(), FlowError> {
        let backends = in_service(frontend.backends.iter(), IpVersion::of(&near), |_| true);
        if backends.is_empty() {
            plan.warn(format!("{} has no ready backend, so nothing answers", Called(&frontend.id)));
            say_not_mirrored(frontend, plan);
            let to = unspecified(IpVersion::of(&near));
            let resolved =
                Resolved { from: self.end(source, near), to: End::Outside, packet: packet(flow, near, to) };
            let way = Way::Nothing(Cause::NoBackend);
            plan.questions.push(Question {
                resolved,
                ports: None,
                source_ports: None,
                service_port: None,
                way,
            });
        }
        for backend in backends {
            let to = self.topology.end_at(backend.address);
            let (from, near, way) = self.unlike(source, near, &to, backend.address);
            let resolved = Resolved { from, to, packet: packet(flow, near, backend.address) };
            let named = match port {
                Some(Port::Name(_)) => asked_ports(frontend, Entry::Name, flow.protocol(), port),
                _ => Vec::new(),
            };
            let targets = backend.targets.iter().filter(|(at, _)| named.iter().any(|(index, _)| at == index));
            let targets: BTreeSet<u16> = targets.map(|(_, number)| *number).collect();
            if targets.is_empty() {
                plan.questions.extend(self.at_ports(flow, &resolved, &way, port, &BTreeSet::new())?);
            }
            for number in targets {
                let port = Port::Number(number);
                plan.questions.extend(self.at_ports(flow, &resolved, &way, Some(&port), &BTreeSet::new())?);
            }
        }
        Ok(())
    }

    /// The source of a flow to a backend: another pod of its kind where the backend is the source itself. A pod that is
    /// alone reaches itself, which policy does not stop (decision D10).
    fn unlike(&self, source: &Candidate, near: IpAddr, to: &End, far: IpAddr) -> (End, IpAddr, Way) {
        let from = self.end(source, near);
        match self.apart(source, &from, to) {
            Apart::From(twin) => {
                let near = self.address_of(&twin, far);
                (End::Endpoint(twin), near, Way::Hooks)
            }
            Apart::OneForBoth => (from, near, Way::BetweenReplicas),
            Apart::AsTheyAre => (from, near, Way::Hooks),
        }
    }

    /// Which backends are near enough, and how messages say so.
    ///
    /// With the traffic policy `Local` these are the ones on the node that translates: for a cluster address that of the
    /// source, for a node port that of the address. Traffic from outside to another external address is sent to nodes that
    /// have backends, and traffic from pods and nodes to one is not kept local.
    /// Source: kubernetes `pkg/proxy/iptables/proxier.go`, `syncProxyRules`.
    fn locality<'e>(
        &'e self,
        from: &'e End,
        frontend: &Frontend,
        entry: Entry<'e>,
        plan: &mut Plan,
    ) -> (impl Fn(&FrontendBackend) -> bool + use<'e>, String) {
        let own = self.node_of(from).cloned();
        let is_local = traffic_policy(frontend, entry) == TrafficPolicy::Local;
        let (node, policy): (Option<Name>, &str) = match entry {
            _ if !is_local || frontend.kind == FrontendKind::Headless => (None, ""),
            Entry::Name | Entry::Address(_, Front::Cluster) => {
                if own.is_none() {
                    plan.warn(format!(
                        "{} sends traffic to backends on the source's node only (internalTrafficPolicy: Local), and that \
                         node is not known: the answer is for all of them",
                        Called(&frontend.id)
                    ));
                }
                (own, "internalTrafficPolicy")
            }
            Entry::NodePort(_, node) if own.as_ref() != Some(node) => {
                (Some(node.clone()), "externalTrafficPolicy")
            }
            Entry::NodePort(..) | Entry::Address(_, Front::External | Front::Balancer) => (None, ""),
        };
        let place = match &node {
            Some(node) => format!(" on node {node} ({policy}: Local)"),
            None => String::new(),
        };
        let is_near = move |backend: &FrontendBackend| {
            let at = self.topology.end_at(backend.address);
            node.is_none() || self.node_of(&at).or(backend.node.as_ref()) == node.as_ref()
        };
        (is_near, place)
    }

    /// Says that an address or a port is that of a service.
    fn say_whose(&self, frontend: &Frontend, entry: Entry<'_>, port: Option<&Port>, plan: &mut Plan) {
        let what = match (entry, port) {
            (Entry::Name, _) => return,
            (Entry::NodePort(_, node), Some(port)) => format!("port {port} of node {node} is a port"),
            (Entry::NodePort(address, _) | Entry::Address(address, _), _) => {
                format!("`{address}` is an address")
            }
        };
        let service = Called(&frontend.id);
        plan.warn(format!("{what} of {service}: the answer is for its backends, after destination NAT"));
    }
}

/// How a packet comes to a backend.
#[derive(Clone, Copy)]
struct Hop<'e> {
    entry: Entry<'e>,
    /// The address before destination NAT, when it is known.
    front: Option<IpAddr>,
    /// The port before destination NAT.
    outer: u16,
    /// The port after it.
    target: u16,
    /// Whether backends on every node take it, so that the node that translates it may put its own address in it where
    /// it comes by a node port or an external address.
    is_masqueraded: bool,
}

/// The source's address, and the service's in the same family where it has one.
fn ends(
    flow: &Flow,
    source: &Candidate,
    frontend: &Frontend,
    entry: Entry<'_>,
) -> Result<(IpAddr, Option<IpAddr>), FlowError> {
    let of = |version: &IpVersion, addresses: &[IpAddr]| {
        addresses.iter().copied().find(|address| IpVersion::of(address) == *version)
    };
    let both = |version: &IpVersion| {
        let near = source.address(*version)?;
        match entry {
            Entry::Address(address, _) | Entry::NodePort(address, _) => {
                let front = of(version, &[address])?;
                Some((near, Some(front)))
            }
            Entry::Name if !frontend.cluster_addresses.is_empty() => {
                let front = of(version, &frontend.cluster_addresses)?;
                Some((near, Some(front)))
            }
            // A manifest that was never applied has no address: the family is one that a backend has.
            Entry::Name => {
                let mut backends = frontend.backends.iter();
                let is_possible = frontend.backends.is_empty()
                    || backends.any(|backend| IpVersion::of(&backend.address) == *version);
                is_possible.then_some((near, None))
            }
        }
    };
    families(flow).iter().find_map(both).ok_or_else(|| no_family_in_common(flow))
}

/// Says why addresses that `Endpoints` list are no backends.
fn say_not_mirrored(frontend: &Frontend, plan: &mut Plan) {
    if frontend.has_unmirrored_endpoints {
        plan.warn(format!(
            "the Endpoints of {} say that they shall not be mirrored, and it has no EndpointSlice: nodes do not see the \
             addresses that they list",
            Called(&frontend.id)
        ));
    }
}

const fn unspecified(version: IpVersion) -> IpAddr {
    match version {
        IpVersion::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpVersion::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}
