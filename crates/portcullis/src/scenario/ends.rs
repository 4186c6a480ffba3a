//! What a peer stands for: one end, or one for each kind of a workload's pods.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use std::sync::OnceLock;

use portcullis_core::label::Name;
use portcullis_core::model::{EndpointId, EndpointKind, NetworkSetId, ServiceId};
use portcullis_core::path::End;
use portcullis_core::quote::quoted;
use portcullis_k8s::workload::PodCount;
use portcullis_k8s::{PodPlace, WorkloadPods};

use super::answer::Plan;
use super::candidate::{Candidate, Standing};
use super::flow::FlowError;
use super::peer::Peer;
use super::pod_kinds::{Distinctions, PodKind};
use super::resolve::Evaluator;
use super::suggest::nearest;

impl Evaluator<'_> {
    /// The ends that `peer` stands for, never none; several only for a workload whose pods differ in something that
    /// policy looks at.
    pub(super) fn ends(&self, field: &'static str, peer: &Peer) -> Result<Arc<[Candidate]>, FlowError> {
        let cluster = self.scenario().cluster();
        let one = |candidate| Ok(Arc::from([candidate]));
        match peer {
            Peer::Address(address) => one(Candidate::of(None, vec![*address])),
            Peer::Workload { namespace, name } => {
                self.pods(field, &EndpointId::workload(namespace.clone(), name.clone()))
            }
            Peer::Node(name) => self.node(field, name, None).and_then(one),
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
    fn pods(&self, field: &'static str, id: &EndpointId) -> Result<Arc<[Candidate]>, FlowError> {
        let scenario = self.scenario();
        let workloads = scenario.workloads.get(id).map(Vec::as_slice).unwrap_or_default();
        if self.is_pod_itself(id, workloads) {
            return Ok(Arc::from([self.pod(field, id, id)?]));
        }
        match workloads {
            [workload] => {
                let known = self.kinds.get(id);
                if let Some(kinds) = known.and_then(OnceLock::get) {
                    return Ok(Arc::clone(kinds));
                }
                let kinds: Arc<[Candidate]> = self.kinds(field, id, workload)?.into();
                // Another thread may have been faster, with the same kinds.
                let _ = known.map(|known| known.set(Arc::clone(&kinds)));
                Ok(kinds)
            }
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
        let told = self.told.get_or_init(|| Distinctions::new(scenario.cluster()));
        let mut kinds: BTreeMap<PodKind, Candidate> = BTreeMap::new();
        for pod in running {
            let candidate = self.pod(field, id, pod)?;
            let kind = match (scenario.cluster().endpoints().get(pod), &candidate.end) {
                (Some(endpoint), _) => told.kind(endpoint),
                (None, end) => PodKind::at(end.clone()),
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
