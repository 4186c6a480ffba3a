//! Pods, the workloads that stand for pods, and addresses for those that have none.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};

use portcullis_core::label::{Labels, Name};
use portcullis_core::model::{Endpoint, EndpointId, EntityMatch, Node, Update};
use portcullis_core::net::Cidr;

use crate::error::{ObjectRef, Warning};
use crate::form::WorkloadRecord;
use crate::importer::PodPlace;
use crate::importer::owners::{Owners, key};
use crate::workload::PodRecord;

/// Where pods without an address get one from, in this order: the range for benchmarks of networks (RFC 2544), then
/// the range reserved for future use (RFC 1112). Addresses in use are left out, and so are networks of eight bits
/// and more that a policy or network set names.
pub const SYNTHETIC_RANGES: [&str; 2] = ["198.18.0.0/15", "240.0.0.0/4"];

/// The endpoints of pods and of workloads without pods, sorted by identity. Notes those that are no endpoints, and
/// adds nodes that are only known through their pods.
pub(super) fn endpoints(
    pods: Vec<PodRecord>,
    mut workloads: Vec<WorkloadRecord>,
    owners: &mut Owners,
    known: &BTreeSet<EndpointId>,
    updates: &mut Vec<Update>,
    places: &mut BTreeMap<EndpointId, PodPlace>,
    warnings: &mut Vec<Warning>,
) -> Vec<Endpoint> {
    add_nodes(&pods, updates);
    workloads.sort_by(|a, b| (&a.pod.endpoint.id, a.kind).cmp(&(&b.pod.endpoint.id, b.kind)));

    let mut endpoints: BTreeMap<EndpointId, Endpoint> = BTreeMap::new();
    for pod in pods {
        place(pod, known, &mut endpoints, places);
    }
    for WorkloadRecord { kind, pod: mut record, .. } in workloads {
        let workload = key(kind, &record.endpoint.id);
        // One of its pods, or what makes its pods, speaks for it.
        if owners.covers(&workload) {
            continue;
        }
        let id = record.endpoint.id.clone();
        if endpoints.contains_key(&id) || places.contains_key(&id) || known.contains(&id) {
            let other = format!("{}-{}", id.name, kind.name().to_ascii_lowercase());
            warnings.push(Warning {
                object: ObjectRef {
                    kind: kind.name().into(),
                    namespace: id.namespace.as_ref().map(|n| n.as_str().into()),
                    name: id.name.as_str().into(),
                },
                field: "metadata.name".into(),
                message: format!("another pod or workload has this name: this one is called `{other}`"),
            });
            record.endpoint.id.name = Name::from(other);
        }
        owners.represent(workload, record.endpoint.id.clone());
        place(record, known, &mut endpoints, places);
    }
    endpoints.into_values().collect()
}

fn place(
    pod: PodRecord,
    known: &BTreeSet<EndpointId>,
    endpoints: &mut BTreeMap<EndpointId, Endpoint>,
    places: &mut BTreeMap<EndpointId, PodPlace>,
) {
    let id = pod.endpoint.id.clone();
    match pod.place() {
        // A WorkloadEndpoint says more than the pod that it was made from.
        None if known.contains(&id) => {}
        None => drop(endpoints.insert(id, pod.endpoint)),
        Some(place) => drop(places.insert(id, place)),
    }
}

/// Adds the nodes that pods name and that were not given, with the addresses that the pods' status tells.
fn add_nodes(pods: &[PodRecord], updates: &mut Vec<Update>) {
    let given: BTreeSet<Name> = updates
        .iter()
        .filter_map(|update| match update {
            Update::Node(node) => Some(node.name.clone()),
            _ => None,
        })
        .collect();
    let mut nodes: BTreeMap<&Name, BTreeSet<IpAddr>> = BTreeMap::new();
    for pod in pods {
        let Some(node) = pod.endpoint.node.as_ref().filter(|node| !given.contains(*node)) else { continue };
        nodes.entry(node).or_default().extend(pod.node_addresses());
    }
    updates.extend(nodes.into_iter().map(|(name, addresses)| {
        let addresses = addresses.into_iter().collect();
        Update::Node(Node { name: name.clone(), labels: Labels::new(), addresses })
    }));
}

/// Gives every endpoint without an address one of [`SYNTHETIC_RANGES`]; the same input gives the same addresses.
pub(super) fn give_addresses(endpoints: &mut [Endpoint], updates: &mut [Update]) {
    let mut without: Vec<&mut Endpoint> = Vec::new();
    let mut taken: Vec<(u32, u32)> = Vec::new();
    let take = |taken: &mut Vec<(u32, u32)>, address: &IpAddr| {
        if let IpAddr::V4(v4) = address {
            taken.push((v4.to_bits(), v4.to_bits()));
        }
    };
    let take_net = |taken: &mut Vec<(u32, u32)>, net: &Cidr| {
        if let (IpAddr::V4(first), IpAddr::V4(last), true) =
            (net.address(), net.last_address(), net.prefix() >= 8)
        {
            taken.push((first.to_bits(), last.to_bits()));
        }
    };
    for update in &*updates {
        match update {
            Update::Endpoint(endpoint) => endpoint.addresses.iter().for_each(|a| take(&mut taken, a)),
            Update::Node(node) => node.addresses.iter().for_each(|a| take(&mut taken, a)),
            Update::NetworkSet(set) => set.nets.iter().for_each(|net| take_net(&mut taken, net)),
            Update::Policy(policy) => {
                for rule in policy.ingress.iter().chain(&policy.egress) {
                    let sides = rule.peers.iter().chain(core::iter::once(&rule.local));
                    let nets = sides.flat_map(|side: &EntityMatch| side.nets.iter().chain(&side.not_nets));
                    nets.for_each(|net| take_net(&mut taken, net));
                }
            }
            _ => {}
        }
    }
    let calico = updates.iter_mut().filter_map(|update| match update {
        Update::Endpoint(endpoint) if endpoint.id.namespace.is_some() => Some(endpoint),
        _ => None,
    });
    for endpoint in endpoints.iter_mut().chain(calico) {
        endpoint.addresses.iter().for_each(|a| take(&mut taken, a));
        if endpoint.addresses.is_empty() {
            without.push(endpoint);
        }
    }
    taken.sort_unstable();
    without.sort_by(|a, b| a.id.cmp(&b.id));
    let mut free = free_addresses(&taken);
    for endpoint in without {
        // There are more addresses than memory could hold endpoints.
        endpoint.addresses.extend(free.next().map(IpAddr::V4));
    }
}

/// The addresses of the synthetic ranges that are in none of `taken` (sorted), network addresses left out.
fn free_addresses(taken: &[(u32, u32)]) -> impl Iterator<Item = Ipv4Addr> {
    let ranges = SYNTHETIC_RANGES.iter().filter_map(|range| range.parse::<Cidr>().ok());
    let mut taken = taken.iter().peekable();
    let mut blocked_to: Option<u32> = None;
    let ranges: Vec<(u32, u32)> = ranges
        .filter_map(|net| match (net.address(), net.last_address()) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                Some((first.to_bits().saturating_add(1), last.to_bits()))
            }
            _ => None,
        })
        .collect();
    let candidates = ranges.into_iter().flat_map(|(first, last)| first..last);
    candidates
        .filter(move |candidate| {
            // Both lists ascend, so one pass over them is enough.
            while let Some((_, last)) = taken.next_if(|(first, _)| first <= candidate) {
                blocked_to = blocked_to.max(Some(*last));
            }
            blocked_to.is_none_or(|last| *candidate > last)
        })
        .map(Ipv4Addr::from_bits)
}
