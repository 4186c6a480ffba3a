//! HostEndpoint and WorkloadEndpoint.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use portcullis_core::label::{Labels, Name};
use portcullis_core::model::{Endpoint, EndpointId, NamedPort};
use portcullis_core::quote::quoted;

use crate::calico::list::{self, Limit};
use crate::calico::net;
use crate::calico::scalar;
use crate::calico::spec::{EndpointPortSpec, HostEndpointSpec, WorkloadEndpointSpec};
use crate::calico::{NAMESPACE_LABEL, ORCHESTRATOR_LABEL, SERVICE_ACCOUNT_LABEL};
use crate::context::Context;
use crate::path::Path;
use crate::validate;

/// Converts a host endpoint.
///
/// Only `expectedIPs` give it addresses that selectors can find. Source: Calico
/// `libcalico-go/lib/validator/v3/validator.go` and the rules in the resource definition.
pub(super) fn host(cx: &mut Context<'_>, name: &str, labels: Labels, spec: &HostEndpointSpec) -> Endpoint {
    let path = Path::root("spec");
    let node_path = path.field("node");
    let node = list::text(cx, &node_path, spec.node.as_deref(), 253);
    match node {
        None => cx.error(&node_path, "the node is missing"),
        Some(node) => check_name(cx, &node_path, node),
    }
    let interface_path = path.field("interfaceName");
    let interface = spec.interface_name.as_deref().filter(|name| !name.is_empty());
    if let Some(interface) = interface {
        check_interface(cx, &interface_path, interface);
    }
    let ips_path = path.field("expectedIPs");
    let ips = list::set(cx, &ips_path, spec.expected_ips.as_deref(), Limit::None);
    if interface.is_none() && ips.is_empty() {
        cx.error(&interface_path, "an interfaceName or expectedIPs must be given");
    }
    let mut endpoint = Endpoint::new(EndpointId::host(cx.name(name)));
    endpoint.addresses =
        ips.iter().enumerate().filter_map(|(i, ip)| net::address(cx, &ips_path.index(i), ip)).collect();
    endpoint.labels = labels;
    endpoint.node = node.map(|node| cx.name(node));
    endpoint.interface = interface.map(|interface| cx.name(interface));
    let given: Vec<EndpointPortSpec> = spec.ports.iter().flatten().map(EndpointPortSpec::from).collect();
    endpoint.ports = ports(cx, &path.field("ports"), &given, Unnamed::Refused);
    endpoint.profiles = profiles(cx, &path.field("profiles"), spec.profiles.as_deref());
    endpoint
}

/// Converts a workload endpoint. It is called `namespace/pod`, or by its own name when it names no pod.
///
/// Its profiles are those it lists, so that one without any is denied where no policy decides. A label that poses
/// as an inherited one is dropped, and the well-known labels are set from the fields they repeat.
/// Source: Calico `libcalico-go/lib/backend/syncersv1/updateprocessors/workloadendpointprocessor.go`.
pub(super) fn workload(
    cx: &mut Context<'_>,
    namespace: &Name,
    name: &str,
    labels: &Labels,
    spec: &WorkloadEndpointSpec,
) -> Endpoint {
    let path = Path::root("spec");
    let filled = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    for (field, value) in
        [("node", &spec.node), ("pod", &spec.pod), ("serviceAccountName", &spec.service_account_name)]
    {
        if let Some(value) = filled(value) {
            check_name(cx, &path.field(field), &value);
        }
    }
    if let Some(interface) = filled(&spec.interface_name) {
        check_interface(cx, &path.field("interfaceName"), &interface);
    }
    let profiles = profiles(cx, &path.field("profiles"), spec.profiles.as_deref());
    let account = filled(&spec.service_account_name)
        .map(|account| cx.name(&account))
        .or_else(|| account_of_profiles(cx, namespace, &profiles))
        .or_else(|| labels.value(SERVICE_ACCOUNT_LABEL).map(|account| cx.name(account)));

    let pod = filled(&spec.pod);
    let mut endpoint =
        Endpoint::new(EndpointId::workload(namespace.clone(), cx.name(pod.as_deref().unwrap_or(name))));
    endpoint.labels = labels
        .iter()
        .filter(|(key, _)| !key.starts_with(NAMESPACE_PREFIX) && !key.starts_with(SERVICE_ACCOUNT_PREFIX))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let mut set = |key: &str, value: Name| {
        let key = cx.name(key);
        endpoint.labels.insert(key, value);
    };
    set(NAMESPACE_LABEL, namespace.clone());
    if let Some(account) = &account {
        set(SERVICE_ACCOUNT_LABEL, account.clone());
    }
    if let Some(orchestrator) = filled(&spec.orchestrator) {
        let orchestrator = Name::from(orchestrator);
        set(ORCHESTRATOR_LABEL, orchestrator);
    }
    let networks_path = path.field("ipNetworks");
    endpoint.addresses = list::set(cx, &networks_path, spec.ip_networks.as_deref(), Limit::None)
        .iter()
        .enumerate()
        .filter_map(|(index, text)| net::single_address(cx, &networks_path.index(index), text))
        .collect();
    endpoint.service_account = account;
    endpoint.node = filled(&spec.node).map(|node| cx.name(&node));
    endpoint.interface = filled(&spec.interface_name).map(|interface| cx.name(&interface));
    endpoint.ports =
        ports(cx, &path.field("ports"), spec.ports.as_deref().unwrap_or_default(), Unnamed::HostPort);
    endpoint.profiles = profiles;
    endpoint
}

/// The account that a profile `ksa.NAMESPACE.ACCOUNT` stands for: endpoints get its labels through that profile.
fn account_of_profiles(cx: &mut Context<'_>, namespace: &Name, profiles: &[Name]) -> Option<Name> {
    profiles
        .iter()
        .find_map(|p| p.strip_prefix("ksa.")?.strip_prefix(namespace.as_str())?.strip_prefix('.'))
        .map(|account| cx.name(account))
}

/// What a port without a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unnamed {
    /// An error.
    Refused,
    /// A port that is mapped on the host; rules cannot name it, so it is left out.
    HostPort,
}

fn ports(
    cx: &mut Context<'_>,
    path: &Path<'_>,
    specs: &[EndpointPortSpec],
    unnamed: Unnamed,
) -> Vec<NamedPort> {
    let mut ports = Vec::new();
    for (index, spec) in specs.iter().enumerate() {
        let path = path.index(index);
        let name = spec.name.as_deref().filter(|name| !name.is_empty());
        match name {
            Some(name) => {
                if let Err(reason) = validate::port_name(name) {
                    cx.error(&path.field("name"), format!("{}: {reason}", quoted(name)));
                }
            }
            None if unnamed == Unnamed::HostPort && spec.host_port.is_some_and(|port| port != 0) => {}
            None => cx.error(&path.field("name"), "the name is missing"),
        }
        let port = spec.port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
        if port.is_none() {
            cx.error(&path.field("port"), "must be a number from 1 to 65535");
        }
        let protocol_path = path.field("protocol");
        let protocol = match spec.protocol.as_ref().map(scalar::protocol) {
            None => {
                cx.error(&protocol_path, "the protocol is missing");
                None
            }
            Some(Err(reason)) => {
                cx.error(&protocol_path, reason);
                None
            }
            Some(Ok(protocol)) if !protocol.has_ports() => {
                cx.error(&protocol_path, format!("`{protocol}` has no ports, use TCP, UDP or SCTP"));
                None
            }
            Some(Ok(protocol)) => Some(protocol),
        };
        if let (Some(name), Some(protocol), Some(port)) = (name, protocol, port) {
            ports.push(NamedPort { name: cx.name(name), protocol, port });
        }
    }
    ports
}

fn profiles(cx: &mut Context<'_>, path: &Path<'_>, names: Option<&[String]>) -> Vec<Name> {
    let names = list::set(cx, path, names, Limit::None);
    for (index, name) in names.iter().enumerate() {
        check_name(cx, &path.index(index), name);
    }
    names.iter().map(|name| cx.name(name)).collect()
}

fn check_name(cx: &mut Context<'_>, path: &Path<'_>, name: &str) {
    if let Err(reason) = validate::dns_subdomain(name) {
        cx.error(path, format!("{} {reason}", quoted(name)));
    }
}

fn check_interface(cx: &mut Context<'_>, path: &Path<'_>, name: &str) {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if name != "*" && (name.len() > 15 || !name.bytes().all(known)) {
        cx.error(path, format!("{} is not the name of an interface", quoted(name)));
    }
}

/// How Calico marks a label that an endpoint inherits from its namespace.
pub(super) const NAMESPACE_PREFIX: &str = "pcns.";
/// How Calico marks a label that an endpoint inherits from its service account.
pub(super) const SERVICE_ACCOUNT_PREFIX: &str = "pcsa.";
