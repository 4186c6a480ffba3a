//! From pods and pod templates to endpoints.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use portcullis_core::label::{Labels, Name};
use portcullis_core::model::{Endpoint, EndpointId, NamedPort};
use portcullis_core::packet::Protocol;
use portcullis_core::quote::quoted;

use crate::cluster::ip;
use crate::context::Context;
use crate::error::{ConvertErrors, Warning};
use crate::frontend::BackendState;
use crate::importer::PodPlace;
use crate::meta::{Identity, ObjectMeta, Placing, shared_labels};
use crate::names::Names;
use crate::path::Path;
use crate::validate;
use crate::workload::{Container, Pod, PodSpec, PodStatus, Workload, account_of};

/// Whether a pod has a network of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hosting {
    /// It has, and is subject to policy.
    Own,
    /// It uses its node's (decision D9): neither subject nor peer.
    Host,
    /// It has finished (decision D14): neither subject nor peer.
    Finished,
}

/// The object that made a pod, by kind and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Owner {
    pub(crate) kind: Name,
    pub(crate) name: Name,
}

/// A pod, or a workload that stands for one, as far as policy depends on it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PodRecord {
    pub(crate) hosting: Hosting,
    /// The endpoint; for host-network and finished pods never part of the model.
    pub(crate) endpoint: Endpoint,
    /// Addresses of the node, as the pod's status says.
    pub(crate) host_addresses: Vec<IpAddr>,
    /// Who made it.
    pub(crate) owners: Vec<Owner>,
    /// Whether services send traffic to it.
    pub(crate) state: BackendState,
}

impl PodRecord {
    /// Where the pod is, when it has no network of its own.
    pub(crate) fn place(&self) -> Option<PodPlace> {
        match self.hosting {
            Hosting::Own => None,
            Hosting::Host => Some(self.endpoint.node.clone().map_or(PodPlace::Unplaced, PodPlace::Node)),
            Hosting::Finished => Some(PodPlace::Finished),
        }
    }

    /// The addresses of its node that the pod tells, each once.
    pub(crate) fn node_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let own = if self.hosting == Hosting::Host { self.endpoint.addresses.as_slice() } else { &[] };
        let others = own.iter().filter(|address| !self.host_addresses.contains(address));
        self.host_addresses.iter().chain(others).copied()
    }
}

/// Labels that start like this would pose as inherited ones. Calico drops them from workloads.
/// Source: Calico `libcalico-go/lib/backend/syncersv1/updateprocessors/workloadendpointprocessor.go`.
const RESERVED_PREFIXES: [&str; 2] = ["pcns.", "pcsa."];

impl Pod {
    /// The endpoint of the pod, with Calico's well-known labels and profile names. Addresses are those of
    /// `status.podIPs`.
    ///
    /// `None` for pods that are no endpoints: those in their node's network (decision D9) and completed ones
    /// (decision D14).
    ///
    /// # Errors
    /// When a part of the pod that policy depends on is not valid.
    pub fn convert(&self) -> Result<(Option<Endpoint>, Vec<Warning>), ConvertErrors> {
        let (record, warnings) = self.record(&mut Names::default())?;
        let endpoint = (record.hosting == Hosting::Own).then_some(record.endpoint);
        Ok((endpoint, warnings))
    }

    pub(crate) fn record(&self, names: &mut Names) -> Result<(PodRecord, Vec<Warning>), ConvertErrors> {
        let mut cx = Context::new(names, self.metadata.reference("Pod", Placing::Namespaced));
        let identity = self.metadata.identify(Placing::Namespaced, validate::dns_subdomain, &mut cx);
        let none = PodStatus::default();
        let status = self.status.as_ref().unwrap_or(&none);
        let addresses = pod_addresses(status, &mut cx);
        let host_addresses = host_addresses(status, &mut cx);
        let endpoint = identity.map(|identity| {
            endpoint(&identity, self.metadata.labels.as_ref(), &self.spec, &Path::root("spec"), &mut cx)
        });
        let hosting = match status.phase.as_deref() {
            Some("Succeeded" | "Failed") => Hosting::Finished,
            None | Some("" | "Pending" | "Running" | "Unknown") => hosting(&self.spec),
            Some(other) => {
                let status = Path::root("status");
                cx.error(
                    &status.field("phase"),
                    format!(
                        "{} is not one of `Pending`, `Running`, `Succeeded`, `Failed`, `Unknown`",
                        quoted(other)
                    ),
                );
                Hosting::Own
            }
        };
        let owners = owners(&self.metadata, &mut cx);
        let record = endpoint.map(|mut endpoint| {
            endpoint.addresses = addresses;
            PodRecord { hosting, endpoint, host_addresses, owners, state: self.state() }
        });
        cx.finish(record)
    }

    /// Whether services send traffic to the pod. What was not observed counts as well.
    ///
    /// Source: kubernetes `staging/src/k8s.io/endpointslice/utils.go`, `podToEndpoint`: ready is the condition `Ready`
    /// of a pod that is not being deleted; one that is, and is `Ready`, is serving and terminating.
    fn state(&self) -> BackendState {
        let status = self.status.as_ref();
        let is_running =
            matches!(status.and_then(|status| status.phase.as_deref()), None | Some("" | "Running"));
        let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition.kind.as_deref() == Some("Ready"));
        let is_ready = ready.is_none_or(|ready| ready.status.as_deref() == Some("True"));
        match (is_running && is_ready, &self.metadata.deletion_timestamp) {
            (false, _) => BackendState::NotReady,
            (true, Some(_)) => BackendState::Draining,
            (true, None) => BackendState::Ready,
        }
    }
}

impl Workload {
    /// The pod that stands for this workload, named like it.
    pub(crate) fn record(&self, names: &mut Names) -> Result<(PodRecord, Vec<Warning>), ConvertErrors> {
        let mut cx = Context::new(names, self.metadata.reference(self.kind.name(), Placing::Namespaced));
        let identity = self.metadata.identify(Placing::Namespaced, validate::dns_subdomain, &mut cx);
        let empty = (ObjectMeta::default(), PodSpec::default());
        let meta = self.template.metadata.as_ref().unwrap_or(&empty.0);
        let spec = self.template.spec.as_ref().unwrap_or(&empty.1);
        let root = Path::root("spec");
        if self.is_scaled_to_zero {
            let reason = "it asks for no pods: answers are for those that it will have, also behind services";
            cx.warn(&root.field("replicas"), reason);
        }
        let job = root.field("jobTemplate");
        let job_spec = job.field("spec");
        let parent = if self.kind == super::WorkloadKind::CronJob { &job_spec } else { &root };
        let template = parent.field("template");
        let metadata = template.field("metadata");
        crate::meta::check_labels(meta.labels.as_ref(), &metadata.field("labels"), &mut cx);
        let endpoint = identity.map(|identity| {
            endpoint(&identity, meta.labels.as_ref(), spec, &template.field("spec"), &mut cx)
        });
        let owners = owners(&self.metadata, &mut cx);
        let record = endpoint.map(|endpoint| PodRecord {
            hosting: hosting(spec),
            endpoint,
            host_addresses: Vec::new(),
            owners,
            state: BackendState::Ready,
        });
        cx.finish(record)
    }
}

fn hosting(spec: &PodSpec) -> Hosting {
    if spec.host_network == Some(true) { Hosting::Host } else { Hosting::Own }
}

fn owners(meta: &ObjectMeta, cx: &mut Context<'_>) -> Vec<Owner> {
    meta.owner_references
        .iter()
        .flatten()
        .filter_map(|owner| Some((owner.kind.as_deref()?, owner.name.as_deref()?)))
        .map(|(kind, name)| Owner { kind: cx.name(kind), name: cx.name(name) })
        .collect()
}

/// An endpoint without addresses.
///
/// Its named ports are those of containers and of init containers that keep running beside them (`restartPolicy:
/// Always`), never of init containers that end (decision D32). Source: Kubernetes `pkg/api/v1/pod/util.go`, the look-up
/// of a port by name, and pull requests 127976 and 128850.
///
/// It carries the pod's labels and those that Calico adds: `projectcalico.org/namespace`,
/// `projectcalico.org/orchestrator` and `projectcalico.org/serviceaccount`, which override labels of the same name.
/// Source: Calico `libcalico-go/lib/backend/k8s/conversion/workload_endpoint_default.go`.
fn endpoint(
    identity: &Identity,
    labels: Option<&alloc::collections::BTreeMap<String, String>>,
    spec: &PodSpec,
    spec_path: &Path<'_>,
    cx: &mut Context<'_>,
) -> Endpoint {
    let namespace = identity.namespace();
    let account = account_of(spec);
    if let Err(reason) = validate::dns_subdomain(account) {
        cx.error(&spec_path.field("serviceAccountName"), format!("{} {reason}", quoted(account)));
    }
    let account = cx.name(account);
    let mut labels: Labels = shared_labels(labels, cx);
    let reserved: Vec<Name> = labels
        .iter()
        .filter(|(key, _)| RESERVED_PREFIXES.iter().any(|prefix| key.starts_with(prefix)))
        .map(|(key, _)| key.clone())
        .collect();
    for key in reserved {
        labels.remove(&key);
    }
    for (key, value) in [
        ("projectcalico.org/namespace", namespace.clone()),
        ("projectcalico.org/orchestrator", cx.name("k8s")),
        ("projectcalico.org/serviceaccount", account.clone()),
    ] {
        labels.insert(cx.name(key), value);
    }
    let mut endpoint = Endpoint::new(EndpointId::workload(namespace.clone(), identity.name.clone()));
    endpoint.labels = labels;
    endpoint.profiles =
        alloc::vec![cx.name(&format!("kns.{namespace}")), cx.name(&format!("ksa.{namespace}.{account}"))];
    endpoint.service_account = Some(account);
    endpoint.node = spec.node_name.as_deref().filter(|n| !n.is_empty()).map(|n| cx.name(n));
    for (field, containers) in [("containers", &spec.containers), ("initContainers", &spec.init_containers)] {
        let path = spec_path.field(field);
        for (i, container) in containers.iter().flatten().enumerate() {
            let ports = container_ports(container, &path.index(i), cx);
            if field == "containers" || container.restart_policy.as_deref() == Some("Always") {
                endpoint.ports.extend(ports);
            }
        }
    }
    endpoint.ports.sort();
    endpoint.ports.dedup();
    endpoint
}

/// The named ports of `container`. Unnamed ports are checked and dropped: no rule can refer to them.
fn container_ports(container: &Container, path: &Path<'_>, cx: &mut Context<'_>) -> Vec<NamedPort> {
    let mut ports = Vec::new();
    let list = path.field("ports");
    for (i, port) in container.ports.iter().flatten().enumerate() {
        let item = list.index(i);
        let protocol = protocol(port.protocol.as_deref(), &item.field("protocol"), cx);
        let number = port.container_port.and_then(|n| u16::try_from(n).ok()).filter(|n| *n != 0);
        if number.is_none() {
            let reason = match port.container_port {
                Some(n) => format!("{n} is not between 1 and 65535"),
                None => "a port number is required".into(),
            };
            cx.error(&item.field("containerPort"), reason);
        }
        let Some(name) = port.name.as_deref().filter(|n| !n.is_empty()) else { continue };
        if let Err(reason) = validate::port_name(name) {
            cx.error(&item.field("name"), format!("{}: {reason}", quoted(name)));
        }
        if let (Some(protocol), Some(port)) = (protocol, number) {
            ports.push(NamedPort { name: cx.name(name), protocol, port });
        }
    }
    ports
}

/// The protocol that `text` names; TCP when missing.
pub(crate) fn protocol(text: Option<&str>, path: &Path<'_>, cx: &mut Context<'_>) -> Option<Protocol> {
    match text {
        None | Some("TCP") => Some(Protocol::TCP),
        Some("UDP") => Some(Protocol::UDP),
        Some("SCTP") => Some(Protocol::SCTP),
        Some(other) => {
            cx.error(path, format!("{} is not one of `TCP`, `UDP`, `SCTP`", quoted(other)));
            None
        }
    }
}

fn pod_addresses(status: &PodStatus, cx: &mut Context<'_>) -> Vec<IpAddr> {
    let listed = status.pod_ips.iter().flatten().map(|entry| entry.ip.as_deref());
    addresses(("podIP", status.pod_ip.as_deref()), "podIPs", listed, cx)
}

fn host_addresses(status: &PodStatus, cx: &mut Context<'_>) -> Vec<IpAddr> {
    let listed = status.host_ips.iter().flatten().map(|entry| entry.ip.as_deref());
    addresses(("hostIP", status.host_ip.as_deref()), "hostIPs", listed, cx)
}

/// The addresses of a list field and of its older single form, without duplicates. Empty texts count as missing.
fn addresses<'a>(
    single: (&str, Option<&str>),
    list: &str,
    listed: impl Iterator<Item = Option<&'a str>>,
    cx: &mut Context<'_>,
) -> Vec<IpAddr> {
    let status = Path::root("status");
    let list = status.field(list);
    let mut found: Vec<IpAddr> = Vec::new();
    let mut add = |address: Option<IpAddr>| {
        if let Some(address) = address.filter(|a| !found.contains(a)) {
            found.push(address);
        }
    };
    for (i, text) in listed.enumerate() {
        if let Some(text) = text.filter(|t| !t.is_empty()) {
            let item = list.index(i);
            add(ip(text, &item.field("ip"), cx));
        }
    }
    if let Some(text) = single.1.filter(|t| !t.is_empty()) {
        add(ip(text, &status.field(single.0), cx));
    }
    found
}
