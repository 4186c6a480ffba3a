//! A service as its object describes it, before its backends are known.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use portcullis_core::label::Name;
use portcullis_core::model::ServiceId;
use portcullis_core::quote::quoted;

use crate::cidr;
use crate::cluster::ip;
use crate::context::Context;
use crate::error::{ConvertErrors, Warning};
use crate::frontend::{
    BackendState, Frontend, FrontendBackend, FrontendKind, FrontendPort, LoadBalancer, TrafficPolicy,
};
use crate::importer::services::candidates::{Candidate, Candidates};
use crate::importer::services::listed::{Entry, by_address, number};
use crate::intstr::IntOrString;
use crate::meta::Placing;
use crate::names::Names;
use crate::path::Path;
use crate::service::{Service, ServiceSpec};
use crate::validate;
use crate::workload::protocol;

/// A service without its backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Labels of the pods behind it; `None` when another controller writes the slices.
    pub(crate) selector: Option<BTreeMap<String, String>>,
    /// The service as clients reach it.
    pub(crate) frontend: Frontend,
    /// The ports of the backends, one for each port of the service.
    targets: Vec<Target>,
    /// Whether the pods that it selects are reached whatever their state.
    publishes_all: bool,
}

/// Where a backend listens.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Number(u16),
    Named(Name),
}

impl Plan {
    /// Reads a service.
    pub(crate) fn read(service: &Service, names: &mut Names) -> Result<(Self, Vec<Warning>), ConvertErrors> {
        let mut cx = Context::new(names, service.metadata.reference("Service", Placing::Namespaced));
        let identity = service.metadata.identify(Placing::Namespaced, validate::dns_subdomain, &mut cx);
        let empty = ServiceSpec::default();
        let spec = service.spec.as_ref().unwrap_or(&empty);
        let root = Path::root("spec");
        let (cluster_addresses, is_headless) = cluster_addresses(spec, &root, &mut cx);
        let kind = match spec.kind.as_deref() {
            Some("ExternalName") => {
                let name = spec.external_name.as_deref().unwrap_or_default();
                FrontendKind::ExternalName(cx.name(name))
            }
            None | Some("" | "ClusterIP") if is_headless => FrontendKind::Headless,
            None | Some("" | "ClusterIP" | "NodePort" | "LoadBalancer") => FrontendKind::Translated,
            Some(other) => {
                let kinds = "`ClusterIP`, `NodePort`, `LoadBalancer`, `ExternalName`";
                cx.error(&root.field("type"), format!("{} is not one of {kinds}", quoted(other)));
                FrontendKind::Translated
            }
        };
        let has_node_ports = matches!(spec.kind.as_deref(), Some("NodePort" | "LoadBalancer"));
        let (ports, targets) = ports(spec, has_node_ports, &root, &mut cx);
        let mut external_addresses = Vec::new();
        let list = root.field("externalIPs");
        for (i, text) in spec.external_ips.iter().flatten().enumerate() {
            external_addresses.extend(ip(text, &list.index(i), &mut cx));
        }
        let is_balanced = spec.kind.as_deref() == Some("LoadBalancer");
        let load_balancer =
            if is_balanced { load_balancer(service, spec, &root, &mut cx) } else { LoadBalancer::default() };
        let mut policy = |field, text: Option<&str>| match text {
            None | Some("" | "Cluster") => TrafficPolicy::Cluster,
            Some("Local") => TrafficPolicy::Local,
            Some(other) => {
                let reason = format!("{} is not one of `Cluster`, `Local`", quoted(other));
                cx.error(&root.field(field), reason);
                TrafficPolicy::Cluster
            }
        };
        let internal_policy = policy("internalTrafficPolicy", spec.internal_traffic_policy.as_deref());
        let external_policy = policy("externalTrafficPolicy", spec.external_traffic_policy.as_deref());
        // The controllers write no slices for another name. Source: kubernetes
        // `pkg/controller/endpointslice/endpointslice_controller.go`, `syncService`.
        let selects = !matches!(kind, FrontendKind::ExternalName(_));
        let selector = spec.selector.clone().filter(|selector| selects && !selector.is_empty());
        let publishes_all = spec.publish_not_ready_addresses == Some(true);
        let plan = identity.map(|identity| Self {
            selector,
            frontend: Frontend {
                id: ServiceId { namespace: identity.namespace(), name: identity.name },
                kind,
                cluster_addresses,
                external_addresses: without_duplicates(external_addresses),
                load_balancer,
                internal_policy,
                external_policy,
                ports,
                backends: Vec::new(),
                has_unmirrored_endpoints: false,
            },
            targets,
            publishes_all,
        });
        cx.finish(plan)
    }

    /// The pods of `candidates` that the selector selects, with the ports they listen on.
    pub(super) fn select(&self, candidates: &Candidates<'_>) -> Vec<FrontendBackend> {
        let Some(selector) = &self.selector else { return Vec::new() };
        let selected = candidates.selected(&self.frontend.id.namespace, selector);
        by_address(selected.flat_map(|candidate| {
            let targets = self.targets_of(candidate);
            candidate.addresses.iter().map(move |address| FrontendBackend {
                address: *address,
                node: candidate.endpoint.node.clone(),
                state: self.state(candidate.state),
                targets: targets.clone(),
            })
        }))
    }

    /// Backends as slices or `Endpoints` list them: those ports that have the name and protocol of one of the service.
    ///
    /// Source: kubernetes `pkg/proxy/endpointslicecache.go`, which knows ports by the name of the service's port.
    pub(super) fn listed<'a>(&self, entries: impl Iterator<Item = &'a Entry>) -> Vec<FrontendBackend> {
        by_address(entries.map(|entry| {
            let ports = self.frontend.ports.iter().enumerate();
            let targets = ports.flat_map(|(index, port)| {
                let same = entry
                    .ports
                    .iter()
                    .filter(|(name, protocol, _)| *name == port.name && *protocol == port.protocol);
                same.map(move |(_, _, number)| (index, *number))
            });
            FrontendBackend {
                address: entry.address,
                node: entry.node.clone(),
                state: entry.state,
                targets: targets.collect(),
            }
        }))
    }

    /// The state that the controllers write into the slice of a pod that the selector selects. What slices and
    /// `Endpoints` list has a state already, which `publishNotReadyAddresses` does not change.
    ///
    /// Source: kubernetes `staging/src/k8s.io/endpointslice/utils.go`, `podToEndpoint`.
    fn state(&self, state: BackendState) -> BackendState {
        if self.publishes_all { BackendState::Ready } else { state }
    }

    fn targets_of(&self, candidate: &Candidate<'_>) -> Vec<(usize, u16)> {
        let ports = self.frontend.ports.iter().zip(&self.targets).enumerate();
        ports
            .flat_map(|(index, (port, target))| {
                let numbers: Vec<u16> = match target {
                    Target::Number(number) => alloc::vec![*number],
                    Target::Named(name) => {
                        let named = candidate.endpoint.ports.iter();
                        named
                            .filter(|p| p.name == *name && p.protocol == port.protocol)
                            .map(|p| p.port)
                            .collect()
                    }
                };
                numbers.into_iter().map(move |number| (index, number))
            })
            .collect()
    }
}

/// The addresses inside the cluster, and whether the service has none on purpose.
fn cluster_addresses(spec: &ServiceSpec, root: &Path<'_>, cx: &mut Context<'_>) -> (Vec<IpAddr>, bool) {
    let mut addresses = Vec::new();
    let mut is_headless = false;
    let list = root.field("clusterIPs");
    let single = root.field("clusterIP");
    let mut add = |text: &str, path: &Path<'_>| match text {
        "" => {}
        "None" => is_headless = true,
        _ => addresses.extend(ip(text, path, cx)),
    };
    for (i, text) in spec.cluster_ips.iter().flatten().enumerate() {
        add(text, &list.index(i));
    }
    if let Some(text) = spec.cluster_ip.as_deref() {
        add(text, &single);
    }
    (without_duplicates(addresses), is_headless)
}

/// The load balancer: the addresses that it was asked to have and has, and who may use it.
///
/// Source: kubernetes `pkg/proxy/serviceport.go`, `newBaseServiceInfo`: nodes translate no address whose `ipMode` is
/// `Proxy`.
fn load_balancer(
    service: &Service,
    spec: &ServiceSpec,
    root: &Path<'_>,
    cx: &mut Context<'_>,
) -> LoadBalancer {
    let (mut addresses, mut proxied) = (Vec::new(), Vec::new());
    if let Some(text) = spec.load_balancer_ip.as_deref().filter(|text| !text.is_empty()) {
        addresses.extend(ip(text, &root.field("loadBalancerIP"), cx));
    }
    let status = Path::root("status");
    let balancer = status.field("loadBalancer");
    let list = balancer.field("ingress");
    let observed = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    for (i, entry) in observed.and_then(|it| it.ingress.as_ref()).into_iter().flatten().enumerate() {
        let item = list.index(i);
        let Some(text) = entry.ip.as_deref().filter(|text| !text.is_empty()) else { continue };
        match entry.ip_mode.as_deref() {
            None | Some("" | "VIP") => addresses.extend(ip(text, &item.field("ip"), cx)),
            Some("Proxy") => proxied.extend(ip(text, &item.field("ip"), cx)),
            Some(other) => {
                cx.error(&item.field("ipMode"), format!("{} is not one of `VIP`, `Proxy`", quoted(other)));
            }
        }
    }
    addresses.retain(|address| !proxied.contains(address));
    let list = root.field("loadBalancerSourceRanges");
    let mut source_ranges = Vec::new();
    for (i, text) in spec.load_balancer_source_ranges.iter().flatten().enumerate() {
        // The API server takes space around a range.
        source_ranges.extend(cidr::parse(text.trim(), &list.index(i), cx));
    }
    LoadBalancer {
        addresses: without_duplicates(addresses),
        proxied_addresses: without_duplicates(proxied),
        source_ranges,
    }
}

fn without_duplicates(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut kept = Vec::with_capacity(addresses.len());
    for address in addresses {
        if !kept.contains(&address) {
            kept.push(address);
        }
    }
    kept
}

fn ports(
    spec: &ServiceSpec,
    has_node_ports: bool,
    root: &Path<'_>,
    cx: &mut Context<'_>,
) -> (Vec<FrontendPort>, Vec<Target>) {
    let list = root.field("ports");
    let (mut ports, mut targets) = (Vec::new(), Vec::new());
    for (i, given) in spec.ports.iter().flatten().enumerate() {
        let item = list.index(i);
        let protocol = protocol(given.protocol.as_deref(), &item.field("protocol"), cx);
        let port = number(given.port, &item.field("port"), cx);
        let target = match &given.target_port {
            None | Some(IntOrString::Int(0)) => port.map(Target::Number),
            Some(IntOrString::Int(target)) => {
                number(Some(i64::from(*target)), &item.field("targetPort"), cx).map(Target::Number)
            }
            Some(IntOrString::String(name)) => Some(Target::Named(cx.name(name))),
        };
        let node_port = match given.node_port {
            None | Some(0) => None,
            some => number(some, &item.field("nodePort"), cx),
        };
        let name = given.name.as_deref().filter(|name| !name.is_empty()).map(|name| cx.name(name));
        if let (Some(protocol), Some(port), Some(target)) = (protocol, port, target) {
            let node_port = node_port.filter(|_| has_node_ports);
            ports.push(FrontendPort { name, protocol, port, node_port });
            targets.push(target);
        }
    }
    (ports, targets)
}
