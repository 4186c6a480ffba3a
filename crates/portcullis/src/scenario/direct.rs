//! Flows to an end that answers itself.

use alloc::collections::{BTreeMap, BTreeSet};
use core::net::IpAddr;

use portcullis_core::label::Name;
use portcullis_core::model::{EndpointId, EndpointKind};
use portcullis_core::packet::Protocol;
use portcullis_core::path::End;
use portcullis_core::quote::quoted;
use portcullis_core::settings::Tunnel;

use super::answer::{Plan, Question, Resolved, Way};
use super::candidate::{Candidate, Standing};
use super::flow::{Flow, FlowError, Port};
use super::ports::PortSet;
use super::reach::Behind;
use super::resolve::{Apart, Evaluator, families, packet};

impl Evaluator<'_> {
    /// Adds the questions of a flow between two ends. Ports of a node that are those of services lead there.
    pub(super) fn direct(
        &self,
        flow: &Flow,
        source: &Candidate,
        destination: &Candidate,
        plan: &mut Plan,
    ) -> Result<(), FlowError> {
        let (near, far) = addresses(flow, source, destination)?;
        let (mut from, to) = (self.end(source, near), self.end(destination, far));
        let (mut near, mut way) = (near, Way::Hooks);
        let asked_about_itself = destination.standing != Standing::Itself;
        match self.apart(source, &from, &to) {
            Apart::From(twin) if asked_about_itself => {
                near = self.address_of(&twin, near);
                from = End::Endpoint(twin);
            }
            Apart::OneForBoth if asked_about_itself => way = Way::BetweenReplicas,
            // The other pods are asked about, and no two of them are this one.
            Apart::AsTheyAre
                if from == to
                    && matches!(&to, End::Endpoint(id) if id.kind == EndpointKind::Workload)
                    && [source, destination].iter().all(|end| end.standing == Standing::OneOfSeveral) =>
            {
                return Ok(());
            }
            _ => {}
        }
        let translated = self.ports_of_services(flow, &to, far);
        match flow.port() {
            Some(Port::Number(number)) => {
                if let Some(behind) = translated.get(number) {
                    return self.through_all(flow, source, behind, flow.port(), plan);
                }
            }
            Some(_) => {}
            None => {
                for (number, behind) in &translated {
                    let port = Port::Number(*number);
                    self.through_all(flow, source, behind, Some(&port), plan)?;
                }
            }
        }
        let taken: BTreeSet<u16> = translated.into_keys().collect();
        let resolved = Resolved { from, to, packet: packet(flow, near, far) };
        plan.questions.extend(self.at_ports(flow, &resolved, &way, flow.port(), &taken)?);
        Ok(())
    }

    /// The address of a pod in the family of another one.
    pub(super) fn address_of(&self, pod: &EndpointId, like: IpAddr) -> IpAddr {
        let endpoint = self.scenario().cluster().endpoints().get(pod);
        let addresses = endpoint.map(|endpoint| endpoint.addresses.as_slice()).unwrap_or_default();
        let same_family = addresses.iter().find(|address| address.is_ipv4() == like.is_ipv4());
        same_family.copied().unwrap_or(like)
    }

    /// The ports of the node at `address` that lead to services.
    fn ports_of_services<'e>(
        &'e self,
        flow: &Flow,
        to: &'e End,
        address: IpAddr,
    ) -> BTreeMap<u16, Behind<'e, 'e>> {
        let is_host = match to {
            End::Endpoint(id) => id.kind == EndpointKind::Host,
            End::Node(_) => true,
            End::Outside => false,
        };
        match self.node_of(to).filter(|_| is_host) {
            Some(node) => self.reach.on_host(address, node, flow.protocol(), flow.port()),
            None => BTreeMap::new(),
        }
    }

    /// The questions of a flow between two known ends, one for each range of ports but those in `without`.
    pub(super) fn at_ports(
        &self,
        flow: &Flow,
        resolved: &Resolved,
        way: &Way,
        port: Option<&Port>,
        without: &BTreeSet<u16>,
    ) -> Result<Vec<Question>, FlowError> {
        let question = |resolved, ports, source_ports| Question {
            resolved,
            ports,
            source_ports,
            service_port: None,
            way: way.clone(),
        };
        if !flow.protocol().has_ports() {
            return Ok(vec![question(resolved.clone(), None, None)]);
        }
        let destinations: Vec<(u16, Option<PortSet>)> = match port {
            Some(Port::Number(port)) => vec![(*port, None)],
            Some(Port::Name(name)) => {
                self.named_ports(flow, name, &resolved.to)?.into_iter().map(|port| (port, None)).collect()
            }
            None => {
                let ranges = self.cuts().destinations(namespaces(&resolved.from, &resolved.to));
                let without = &(without | &self.tunnels(flow, &resolved.from));
                let ranges = ranges.into_iter().flat_map(|range| range.without(without));
                ranges.filter_map(|ports| Some((ports.first()?, Some(ports)))).collect()
            }
        };
        let sources = self.source_ports(flow, &resolved.from, &resolved.to);
        let mut questions = Vec::new();
        for (source, source_ports) in sources {
            for (port, ports) in &destinations {
                let packet = resolved.packet.clone().from_port(source).to_port(*port);
                let resolved = Resolved { packet, ..resolved.clone() };
                questions.push(question(resolved, ports.clone(), source_ports.clone()));
            }
        }
        Ok(questions)
    }

    /// The ports of `flow`'s protocol that are tunnels which a workload may not send. No policy opens them, so a question
    /// about every port is not about these.
    fn tunnels(&self, flow: &Flow, from: &End) -> BTreeSet<u16> {
        let End::Endpoint(id) = from else { return BTreeSet::new() };
        if id.kind != EndpointKind::Workload || flow.protocol() != Protocol::UDP {
            return BTreeSet::new();
        }
        let node = self.scenario().cluster().endpoints().get(id).and_then(|endpoint| endpoint.node.as_ref());
        let port = |tunnel: &Tunnel| match tunnel {
            Tunnel::Udp(port) => Some(*port),
            _ => None,
        };
        self.settings().of_node(node).tunnels.iter().filter_map(port).collect()
    }

    /// The source ports to ask about: one for each range of ephemeral ports that policy treats alike, with that range
    /// when there are several.
    pub(super) fn source_ports(&self, flow: &Flow, from: &End, to: &End) -> Vec<(u16, Option<PortSet>)> {
        if let Some(port) = flow.source_port() {
            return vec![(port, None)];
        }
        let ranges = self.cuts().sources(namespaces(from, to));
        let is_one = ranges.len() == 1;
        ranges.into_iter().filter_map(|ports| Some((ports.first()?, (!is_one).then_some(ports)))).collect()
    }

    /// The numbers of the container ports called `name`; usually one.
    fn named_ports(&self, flow: &Flow, name: &str, to: &End) -> Result<Vec<u16>, FlowError> {
        let endpoint = match to {
            End::Endpoint(id) => self.scenario().cluster().endpoints().get(id),
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
}

/// The namespaces whose policies may decide a flow between two ends.
fn namespaces<'e>(from: &'e End, to: &'e End) -> impl Iterator<Item = &'e Name> {
    [from, to].into_iter().filter_map(|end| match end {
        End::Endpoint(id) => id.namespace.as_ref(),
        _ => None,
    })
}

/// The first address of each end in the family that both have; see [`Evaluator::plan`].
fn addresses(flow: &Flow, from: &Candidate, to: &Candidate) -> Result<(IpAddr, IpAddr), FlowError> {
    let both = |version: &_| Some((from.address(*version)?, to.address(*version)?));
    families(flow).iter().find_map(both).ok_or_else(|| no_common_address(flow, from, to))
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
    no_family_in_common(flow)
}

/// The ends have no addresses that a packet can have.
pub(super) fn no_family_in_common(flow: &Flow) -> FlowError {
    let (from, to) = (flow.from().to_string(), flow.to().to_string());
    FlowError::new("to", format!("{} and {} have no address family in common", quoted(&from), quoted(&to)))
}
