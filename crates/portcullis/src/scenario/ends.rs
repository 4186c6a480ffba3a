//! What a peer stands for: one end, or one for each kind of a workload's pods.

use alloc::collections::{BTreeMap, BTreeSet};
use core::net::IpAddr;

use portcullis_core::label::{Name, Scope};
use portcullis_core::model::{
    Cluster, Endpoint, EndpointId, EndpointKind, NamedPort, NetworkSetId, ServiceId,
};
use portcullis_core::net::{Cidr, IpVersion, canonical};
use portcullis_core::packet::Protocol;
use portcullis_core::path::End;
use portcullis_core::quote::quoted;
use portcullis_core::selector::Expr;
use portcullis_k8s::workload::PodCount;
use portcullis_k8s::{PodPlace, WorkloadPods};

use super::answer::Plan;
use super::flow::FlowError;
use super::near::nearest;
use super::peer::Peer;
use super::resolve::Evaluator;

/// An end with the addresses to choose from. Without an end, the owner of the chosen address is meant.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) end: Option<End>,
    pub(super) addresses: Vec<IpAddr>,
    /// Other pods of the same workload that policy cannot tell from this one.
    pub(super) twins: Vec<EndpointId>,
    pub(super) standing: Standing,
}

/// What an end is in its workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It was named itself.
    Itself,
    /// It is one of several known pods of the workload that was named.
    OneOfSeveral,
    /// It is the only known pod of the workload that was named, or stands for its pods, and there may be more.
    OneForMore,
}

impl Candidate {
    fn of(end: Option<End>, addresses: Vec<IpAddr>) -> Self {
        Self { end, addresses, twins: Vec::new(), standing: Standing::Itself }
    }

    fn endpoint(endpoint: &Endpoint) -> Self {
        Self::of(Some(End::Endpoint(endpoint.id.clone())), endpoint.addresses.clone())
    }

    pub(super) fn address(&self, version: IpVersion) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| IpVersion::of(address) == version)
    }
}

impl Evaluator<'_> {
    /// The ends that `peer` stands for, never none; several only for a workload whose pods differ in something that
    /// policy looks at.
    pub(super) fn ends(&self, field: &'static str, peer: &Peer) -> Result<Vec<Candidate>, FlowError> {
        let cluster = self.scenario().cluster();
        let one = |candidate| Ok(vec![candidate]);
        match peer {
            Peer::Address(address) => one(Candidate::of(None, vec![*address])),
            Peer::Workload { namespace, name } => {
                self.pods(field, &EndpointId::workload(namespace.clone(), name.clone()))
            }
            Peer::Node(name) => self.node(field, name, None).map(|node| vec![node]),
            Peer::HostEndpoint(name) => {
                let id = EndpointId::host(name.clone());
                let Some(endpoint) = cluster.endpoints().get(&id) else {
                    let hosts = cluster.endpoints().keys().filter(|id| id.kind == EndpointKind::Host);
                    let known = hosts.map(EndpointId::to_string);
                    return Err(unknown(field, "host endpoint", &peer.to_string(), known));
                };
                // An endpoint that is known by its interface has the addresses of its node.
                let node = endpoint.node.as_ref().and_then(|node| cluster.nodes().get(node));
                let addresses = match node {
                    Some(node) if endpoint.addresses.is_empty() => node.addresses.clone(),
                    _ => endpoint.addresses.clone(),
                };
                one(Candidate::of(Some(End::Endpoint(id)), addresses))
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
                one(Candidate::of(None, set.nets.iter().map(|net| net.address()).collect()))
            }
            Peer::Service { .. } => Err(FlowError::new(
                field,
                format!("{} is a service, which sends no traffic; name a pod", quoted(&peer.to_string())),
            )),
        }
    }

    /// The pod of that name, or the pods of the workload of that name. A pod wins.
    fn pods(&self, field: &'static str, id: &EndpointId) -> Result<Vec<Candidate>, FlowError> {
        let scenario = self.scenario();
        let workloads = scenario.workloads.get(id).map(Vec::as_slice).unwrap_or_default();
        if self.is_pod_itself(id, workloads) {
            return Ok(vec![self.pod(field, id, id)?]);
        }
        match workloads {
            [workload] => self.kinds(field, id, workload),
            [] => {
                let endpoints = scenario.cluster().endpoints().keys();
                let pods = endpoints.filter(|id| id.kind == EndpointKind::Workload);
                let named = pods.chain(scenario.places.keys()).chain(scenario.workloads.keys());
                let known: BTreeSet<String> = named.map(EndpointId::to_string).collect();
                Err(unknown(field, "pod", &id.to_string(), known.into_iter()))
            }
            several => {
                let kinds: Vec<&str> = several.iter().map(|workload| workload.kind.as_str()).collect();
                let names = kinds.iter().map(|kind| {
                    let name = format!("{id}-{}", kind.to_ascii_lowercase());
                    quoted(&name).to_string()
                });
                let reason = format!(
                    "{} is a {}; name one of them: {}",
                    quoted(&id.to_string()),
                    kinds.join(" and a "),
                    names.collect::<Vec<_>>().join(" or ")
                );
                Err(FlowError::new(field, reason))
            }
        }
    }

    /// Whether `id` is a pod, and not one that stands for those of a workload.
    fn is_pod_itself(&self, id: &EndpointId, workloads: &[WorkloadPods]) -> bool {
        let scenario = self.scenario();
        let stands_for_pods = workloads.iter().any(|workload| workload.pods == [id.clone()]);
        let is_pod = scenario.cluster().endpoints().contains_key(id) || scenario.places.contains_key(id);
        is_pod && !stands_for_pods
    }

    /// Says that a pod hides the workloads of its name.
    pub(super) fn doubt_name(&self, id: &EndpointId, plan: &mut Plan) {
        let workloads = self.scenario().workloads.get(id).map(Vec::as_slice).unwrap_or_default();
        if !self.is_pod_itself(id, workloads) {
            return;
        }
        for workload in workloads {
            let name = id.to_string();
            let other = format!("{id}-{}", workload.kind.to_ascii_lowercase());
            plan.warn(format!(
                "{} is a pod and a {}: the pod is meant; the other is {}",
                quoted(&name),
                workload.kind,
                quoted(&other)
            ));
        }
    }

    /// The pods of a workload, one for each kind that policy can tell from the others.
    fn kinds(
        &self,
        field: &'static str,
        id: &EndpointId,
        workload: &WorkloadPods,
    ) -> Result<Vec<Candidate>, FlowError> {
        let scenario = self.scenario();
        let is_running = |pod: &&EndpointId| scenario.places.get(*pod) != Some(&PodPlace::Finished);
        let mut running: Vec<&EndpointId> = workload.pods.iter().filter(is_running).collect();
        if running.is_empty() {
            running.extend(workload.pods.first());
        }
        let standing = match (running.as_slice(), workload.count) {
            ([_], PodCount::One) => Standing::Itself,
            ([_], PodCount::Several) => Standing::OneForMore,
            _ => Standing::OneOfSeveral,
        };
        let told = self.told.get_or_init(|| Told::new(scenario.cluster()));
        let mut kinds: BTreeMap<Kind, Candidate> = BTreeMap::new();
        for pod in running {
            let candidate = self.pod(field, id, pod)?;
            let kind = match (scenario.cluster().endpoints().get(pod), &candidate.end) {
                (Some(endpoint), _) => told.kind(endpoint),
                (None, end) => Kind { node: end.clone(), ..Kind::default() },
            };
            match kinds.get_mut(&kind) {
                Some(first) => first.twins.push(pod.clone()),
                None => drop(kinds.insert(kind, Candidate { standing, ..candidate })),
            }
        }
        let mut found: Vec<Candidate> = kinds.into_values().collect();
        found.sort_by(|a, b| a.end.cmp(&b.end));
        Ok(found)
    }

    /// One pod, which the flow calls `named`.
    fn pod(&self, field: &'static str, named: &EndpointId, pod: &EndpointId) -> Result<Candidate, FlowError> {
        if let Some(endpoint) = self.scenario().cluster().endpoints().get(pod) {
            return Ok(Candidate::endpoint(endpoint));
        }
        let name = named.to_string();
        match self.scenario().places.get(pod) {
            Some(PodPlace::Node(node)) => self.node(field, node, Some(&name)),
            Some(PodPlace::Unplaced) => Err(FlowError::new(
                field,
                format!("{} uses the network of its node, and the node is not known", quoted(&name)),
            )),
            _ => Err(FlowError::new(field, format!("{} has finished, so it has no traffic", quoted(&name)))),
        }
    }

    fn node(&self, field: &'static str, name: &Name, pod: Option<&str>) -> Result<Candidate, FlowError> {
        let nodes = self.scenario().cluster().nodes();
        match (nodes.get(name), pod) {
            (Some(node), _) => Ok(Candidate::of(Some(End::Node(name.clone())), node.addresses.clone())),
            (None, Some(pod)) => Err(FlowError::new(
                field,
                format!("{} uses the network of node {}, which is not known", quoted(pod), quoted(name)),
            )),
            (None, None) => {
                let known = nodes.keys().map(|name| Peer::Node(name.clone()).to_string());
                Err(unknown(field, "node", &Peer::Node(name.clone()).to_string(), known))
            }
        }
    }

    /// What an unknown service may have been meant to be.
    pub(super) fn no_service(&self, id: &ServiceId) -> FlowError {
        let peer = |id: &ServiceId| {
            Peer::Service { namespace: id.namespace.clone(), name: id.name.clone() }.to_string()
        };
        let known = self.scenario().frontends.iter().map(|frontend| peer(&frontend.id));
        unknown("to", "service", &peer(id), known)
    }
}

/// What policies look at: the labels and the networks that they name, and the services, by the addresses of their
/// backends.
#[derive(Debug, Default)]
pub(super) struct Told {
    labels: BTreeSet<Name>,
    nets: BTreeSet<Cidr>,
    services: BTreeMap<IpAddr, BTreeSet<Membership>>,
}

/// A service that an address is a backend of, and where it listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Membership {
    service: ServiceId,
    port: Option<(Protocol, u16)>,
}

/// Everything that policy can tell two pods of one namespace by.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    labels: Vec<(Name, Name)>,
    nets: Vec<Cidr>,
    account: Option<Name>,
    profiles: Vec<Name>,
    ports: Vec<NamedPort>,
    services: BTreeSet<Membership>,
    node: Option<End>,
}

impl Told {
    fn new(cluster: &Cluster) -> Self {
        let mut told = Self::default();
        let policies = cluster.policies().values();
        policies.clone().for_each(|policy| told.look(&policy.subject.expr));
        let rules = policies.flat_map(|policy| policy.ingress.iter().chain(&policy.egress));
        let profiles = cluster.profiles().values();
        let rules = rules.chain(profiles.flat_map(|profile| profile.ingress.iter().chain(&profile.egress)));
        let mut services = BTreeSet::new();
        for side in rules.flat_map(|rule| rule.peers.iter().chain(core::iter::once(&rule.local))) {
            services.extend(&side.service);
            side.selector.iter().chain(&side.not_selector).for_each(|selector| told.look(&selector.expr));
            told.nets.extend(side.nets.iter().chain(&side.not_nets));
        }
        told.nets.extend(cluster.network_sets().values().flat_map(|set| &set.nets));
        for service in services.into_iter().filter_map(|id| cluster.services().get(id)) {
            for backend in &service.backends {
                let known = told.services.entry(canonical(backend.address)).or_default();
                known.insert(Membership { service: service.id.clone(), port: backend.port });
            }
        }
        told
    }

    fn look(&mut self, expr: &Expr) {
        expr.for_each_label(|label| {
            if label.scope == Scope::Own && !self.labels.contains(&label.key) {
                self.labels.insert(label.key.clone());
            }
        });
    }

    fn kind(&self, endpoint: &Endpoint) -> Kind {
        let labels = endpoint.labels.iter().filter(|(key, _)| self.labels.contains(*key));
        let addresses = endpoint.addresses.iter();
        let services = addresses.filter_map(|address| self.services.get(&canonical(*address)));
        let holds = |net: &&Cidr| endpoint.addresses.iter().any(|address| net.contains(address));
        Kind {
            labels: labels.map(|(key, value)| (key.clone(), value.clone())).collect(),
            nets: self.nets.iter().filter(holds).copied().collect(),
            account: endpoint.service_account.clone(),
            profiles: endpoint.profiles.clone(),
            ports: endpoint.ports.clone(),
            services: services.flatten().cloned().collect(),
            node: endpoint.node.clone().map(End::Node),
        }
    }
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
