//! FelixConfiguration: the settings of Calico's node agent, of which five concern verdicts.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use portcullis_core::label::Name;
use portcullis_core::packet::Protocol;
use portcullis_core::quote::quoted;
use portcullis_core::settings::{Failsafe, WorkloadToHost};
use serde::Deserialize;

use crate::calico::net;
use crate::context::Context;
use crate::error::{ConvertErrors, Warning};
use crate::meta::{self, ObjectMeta, Placing};
use crate::names::Names;
use crate::path::Path;
use crate::validate;

/// A FelixConfiguration of `projectcalico.org/v3` or `crd.projectcalico.org/v1`.
///
/// Of its many fields only those that change verdicts are read; the others are neither kept nor checked.
#[derive(Clone, Debug, Deserialize)]
pub struct FelixConfiguration {
    #[serde(default, deserialize_with = "meta::strict")]
    pub(crate) metadata: ObjectMeta,
    spec: Option<Box<Spec>>,
}

/// The fields that are read. `null` counts as absent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    default_endpoint_to_host_action: Option<String>,
    failsafe_inbound_host_ports: Option<Vec<Port>>,
    failsafe_outbound_host_ports: Option<Vec<Port>>,
    #[serde(rename = "allowIPIPPacketsFromWorkloads")]
    allow_ipip: Option<bool>,
    #[serde(rename = "allowVXLANPacketsFromWorkloads")]
    allow_vxlan: Option<bool>,
}

/// One failsafe port. A misspelt `net` would open the port to everybody, so unknown fields are refused.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Port {
    protocol: Option<String>,
    port: Option<i64>,
    net: Option<String>,
}

/// What a FelixConfiguration says; what it does not say is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FelixSettings {
    /// The node it is for, or `None` for all of them.
    pub(crate) node: Option<Name>,
    pub(crate) workload_to_host: Option<WorkloadToHost>,
    pub(crate) inbound: Option<Vec<Failsafe>>,
    pub(crate) outbound: Option<Vec<Failsafe>>,
    /// Whether workloads may send IP in IP (protocol 4).
    pub(crate) allow_ipip: Option<bool>,
    /// Whether workloads may send VXLAN.
    pub(crate) allow_vxlan: Option<bool>,
}

impl FelixSettings {
    /// The name of the object that configures one node.
    pub(crate) fn object_of(node: &Name) -> Name {
        Name::from(format!("{NODE_PREFIX}{node}"))
    }
}

impl FelixConfiguration {
    /// The settings, or `None` for an object that Calico never looks at because of its name.
    ///
    /// The name is `default`, or `node.` and a node's name. Source: Calico
    /// `libcalico-go/lib/backend/syncersv1/updateprocessors/felixconfigprocessor.go`.
    pub(crate) fn convert(
        &self,
        names: &mut Names,
    ) -> Result<(Option<FelixSettings>, Vec<Warning>), ConvertErrors> {
        let reference = self.metadata.reference("FelixConfiguration", Placing::Cluster);
        let mut cx = Context::new(names, reference);
        let id = self.metadata.identify(Placing::Cluster, validate::dns_subdomain, &mut cx);
        let path = Path::root("spec");
        let none = Spec::default();
        let spec = self.spec.as_deref().unwrap_or(&none);
        let action_path = path.field("defaultEndpointToHostAction");
        let action = spec.default_endpoint_to_host_action.as_deref().filter(|text| !text.is_empty());
        let workload_to_host = action.and_then(|text| to_host_action(&mut cx, &action_path, text));
        let inbound = spec.failsafe_inbound_host_ports.as_deref();
        let inbound = failsafes(&mut cx, &path.field("failsafeInboundHostPorts"), inbound);
        let outbound = spec.failsafe_outbound_host_ports.as_deref();
        let outbound = failsafes(&mut cx, &path.field("failsafeOutboundHostPorts"), outbound);
        let settings = id.map(|id| {
            let node = id.name.strip_prefix(NODE_PREFIX).filter(|node| !node.is_empty());
            if node.is_none() && id.name.as_str() != DEFAULT {
                let message = "only `default` and `node.NAME` configure anything, so the object is ignored";
                cx.warn(&Path::root("metadata").field("name"), message);
                return None;
            }
            let node = node.map(|node| cx.name(node));
            Some(FelixSettings {
                node,
                workload_to_host,
                inbound,
                outbound,
                allow_ipip: spec.allow_ipip,
                allow_vxlan: spec.allow_vxlan,
            })
        });
        cx.finish(settings)
    }
}

/// Reads what happens to traffic of workloads to their host. Felix compares without regard to case.
/// Source: Calico `felix/config/config_params.go` (`DefaultEndpointToHostAction`).
fn to_host_action(cx: &mut Context<'_>, path: &Path<'_>, text: &str) -> Option<WorkloadToHost> {
    let actions = [
        ("Drop", WorkloadToHost::Drop),
        ("Accept", WorkloadToHost::Accept),
        ("Return", WorkloadToHost::HostPolicy),
    ];
    let found = actions.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    if found.is_none() {
        cx.error(path, format!("{} is not an action: Drop, Accept or Return", quoted(text)));
    }
    found.map(|(_, action)| action)
}

/// Reads a list of failsafe ports. An empty list is a list without ports; only a missing one says nothing.
fn failsafes(cx: &mut Context<'_>, path: &Path<'_>, ports: Option<&[Port]>) -> Option<Vec<Failsafe>> {
    let ports = ports?.iter().enumerate();
    Some(ports.filter_map(|(index, port)| failsafe(cx, &path.index(index), port)).collect())
}

/// Source: Calico `libcalico-go/lib/validator/v3/validator.go`, `validateProtoPort`, and the parser of port lists in
/// `felix/config`, which takes protocols in any case.
fn failsafe(cx: &mut Context<'_>, path: &Path<'_>, port: &Port) -> Option<Failsafe> {
    let before = cx.error_count();
    let protocols = [("TCP", Protocol::TCP), ("UDP", Protocol::UDP), ("SCTP", Protocol::SCTP)];
    let protocol_path = path.field("protocol");
    let protocol = match port.protocol.as_deref() {
        None => {
            cx.error(&protocol_path, "the protocol is missing: TCP, UDP or SCTP");
            None
        }
        Some(text) => {
            let found = protocols.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
            if found.is_none() {
                cx.error(&protocol_path, format!("{} is not a protocol: TCP, UDP or SCTP", quoted(text)));
            }
            found.map(|(_, protocol)| protocol)
        }
    };
    let number = port.port.and_then(|number| u16::try_from(number).ok()).filter(|number| *number != 0);
    match port.port {
        None => cx.error(&path.field("port"), "the port is missing"),
        Some(text) if number.is_none() => {
            let reason = format!("{} is not a port, use 1 to 65535", quoted(&text.to_string()));
            cx.error(&path.field("port"), reason);
        }
        Some(_) => {}
    }
    let net = port.net.as_deref().filter(|text| !text.is_empty());
    let net = net.and_then(|text| net::network_or_address(cx, &path.field("net"), text));
    // A net that could not be read is an error by now; without one the port would be open to everybody.
    if cx.error_count() > before {
        return None;
    }
    Some(Failsafe { protocol: protocol?, port: number?, net })
}

/// The name of the configuration of all nodes.
const DEFAULT: &str = "default";
/// What the name of the configuration of one node begins with.
const NODE_PREFIX: &str = "node.";
