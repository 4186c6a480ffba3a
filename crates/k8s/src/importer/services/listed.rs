//! Backends as `EndpointSlice` and `Endpoints` objects list them.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;
use core::net::IpAddr;

use portcullis_core::label::Name;
use portcullis_core::model::{ServiceBackend, ServiceId};
use portcullis_core::net::IpVersion;
use portcullis_core::packet::Protocol;
use portcullis_core::quote::quoted;

use crate::cluster::ip;
use crate::context::Context;
use crate::error::{ConvertErrors, Warning};
use crate::frontend::{BackendState, FrontendBackend};
use crate::meta::Placing;
use crate::names::Names;
use crate::path::Path;
use crate::service::{EndpointSlice, Endpoints, SliceConditions, SlicePort};
use crate::validate;
use crate::workload::protocol;

/// The label that tells whose slice it is.
pub(crate) const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// The label that keeps `Endpoints` from being mirrored. Source: kubernetes `staging/src/k8s.io/api/discovery/v1`.
const SKIP_MIRROR_LABEL: &str = "endpointslice.kubernetes.io/skip-mirror";
/// The annotation of `Endpoints` that only serve an election. Source: kubernetes
/// `staging/src/k8s.io/client-go/tools/leaderelection/resourcelock`.
const LEADER_ANNOTATION: &str = "control-plane.alpha.kubernetes.io/leader";

/// Backends that objects list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listed(Vec<Entry>);

/// One address that an object lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(super) address: IpAddr,
    pub(super) node: Option<Name>,
    pub(super) state: BackendState,
    /// Name of the service's port, protocol and number.
    pub(super) ports: Vec<(Option<Name>, Protocol, u16)>,
}

/// What a slice lists, and for which service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OfSlice {
    pub(crate) service: Option<ServiceId>,
    pub(crate) listed: Listed,
}

/// What an `Endpoints` object lists, and for which service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OfEndpoints {
    pub(crate) service: ServiceId,
    pub(crate) mirroring: Mirroring,
    pub(crate) listed: Listed,
}

/// Whether `Endpoints` become slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mirroring {
    /// They do, where the service has no selector.
    Mirrored,
    /// They say that they shall not.
    Skipped,
}

impl Listed {
    /// Adds what another object of the same service lists.
    pub(super) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> + Clone {
        self.0.iter()
    }
}

/// Listed backends as policy sees them: whatever their state, and whatever their port is called.
pub(crate) fn seen<'a>(entries: impl Iterator<Item = &'a Entry>) -> BTreeSet<ServiceBackend> {
    let ports = |entry: &Entry| {
        let ports: Vec<_> = match entry.ports.as_slice() {
            [] => alloc::vec![None],
            ports => ports.iter().map(|(_, protocol, port)| Some((*protocol, *port))).collect(),
        };
        let address = entry.address;
        ports.into_iter().map(move |port| ServiceBackend { address, port })
    };
    entries.flat_map(ports).collect()
}

/// What a slice lists, and for which service.
pub(crate) fn slice(
    slice: &EndpointSlice,
    names: &mut Names,
) -> Result<(OfSlice, Vec<Warning>), ConvertErrors> {
    let mut cx = Context::new(names, slice.metadata.reference("EndpointSlice", Placing::Namespaced));
    let identity = slice.metadata.identify(Placing::Namespaced, validate::dns_subdomain, &mut cx);
    let ports = ports(slice.ports.as_deref(), &Path::root("ports"), &mut cx);
    let (names_hosts, family) = match slice.address_type.as_deref() {
        None => (false, None),
        Some("IPv4") => (false, Some(IpVersion::V4)),
        Some("IPv6") => (false, Some(IpVersion::V6)),
        Some("FQDN") => (true, None),
        Some(other) => {
            let reason = format!("{} is not an address type: IPv4, IPv6 or FQDN", quoted(other));
            cx.error(&Path::root("addressType"), reason);
            (true, None)
        }
    };
    let list = Path::root("endpoints");
    let mut entries = Vec::new();
    for (i, endpoint) in slice.endpoints.iter().flatten().enumerate().filter(|_| !names_hosts) {
        let item = list.index(i);
        let addresses = item.field("addresses");
        for (j, text) in endpoint.addresses.iter().flatten().enumerate() {
            let Some(address) = ip(text, &addresses.index(j), &mut cx) else { continue };
            if family.is_some_and(|family| family != IpVersion::of(&address)) {
                let kind = slice.address_type.as_deref().unwrap_or_default();
                cx.error(&addresses.index(j), format!("{} is no {kind} address", quoted(text)));
                continue;
            }
            entries.push(Entry {
                address,
                node: node(endpoint.node_name.as_deref(), &mut cx),
                state: state(endpoint.conditions.as_ref()),
                ports: ports.clone(),
            });
        }
    }
    let labels = slice.metadata.labels.as_ref();
    let service = labels.and_then(|labels| labels.get(SERVICE_NAME_LABEL)).map(|name| cx.name(name));
    if service.is_none() {
        cx.warn(
            &Path::root("metadata").field("labels"),
            format!("no label `{SERVICE_NAME_LABEL}`: no service uses it"),
        );
    }
    let read = identity.map(|identity| {
        let service = service.map(|name| ServiceId { namespace: identity.namespace(), name });
        OfSlice { service, listed: Listed(entries) }
    });
    cx.finish(read)
}

/// What an `Endpoints` object lists, for the service of its name.
///
/// Source of [`Mirroring`]: kubernetes `pkg/controller/endpointslicemirroring/endpointslicemirroring_controller.go`,
/// `shouldMirror`.
pub(crate) fn endpoints(
    endpoints: &Endpoints,
    names: &mut Names,
) -> Result<(OfEndpoints, Vec<Warning>), ConvertErrors> {
    let mut cx = Context::new(names, endpoints.metadata.reference("Endpoints", Placing::Namespaced));
    let identity = endpoints.metadata.identify(Placing::Namespaced, validate::dns_subdomain, &mut cx);
    let list = Path::root("subsets");
    let mut entries = Vec::new();
    for (i, subset) in endpoints.subsets.iter().flatten().enumerate() {
        let item = list.index(i);
        let ports = ports(subset.ports.as_deref(), &item.field("ports"), &mut cx);
        for (field, addresses, state) in [
            ("addresses", &subset.addresses, BackendState::Ready),
            ("notReadyAddresses", &subset.not_ready_addresses, BackendState::NotReady),
        ] {
            let list = item.field(field);
            for (j, given) in addresses.iter().flatten().enumerate() {
                let item = list.index(j);
                let text = given.ip.as_deref().unwrap_or_default();
                let Some(address) = ip(text, &item.field("ip"), &mut cx) else { continue };
                let node = node(given.node_name.as_deref(), &mut cx);
                entries.push(Entry { address, node, state, ports: ports.clone() });
            }
        }
    }
    let labels = endpoints.metadata.labels.as_ref();
    let skips = labels.and_then(|labels| labels.get(SKIP_MIRROR_LABEL)).is_some_and(|value| value == "true");
    let annotations = endpoints.metadata.annotations.as_ref();
    let elects = annotations.is_some_and(|annotations| annotations.contains_key(LEADER_ANNOTATION));
    let mirroring = if skips || elects { Mirroring::Skipped } else { Mirroring::Mirrored };
    let read = identity.map(|identity| {
        let service = ServiceId { namespace: identity.namespace(), name: identity.name };
        OfEndpoints { service, mirroring, listed: Listed(entries) }
    });
    cx.finish(read)
}

/// Joins entries of one address: the best state, and every port.
pub(super) fn by_address(backends: impl Iterator<Item = FrontendBackend>) -> Vec<FrontendBackend> {
    let mut joined: BTreeMap<IpAddr, FrontendBackend> = BTreeMap::new();
    for backend in backends {
        match joined.get_mut(&backend.address) {
            Some(known) => {
                known.state = known.state.max(backend.state);
                known.node = known.node.take().or(backend.node);
                known.targets.extend(backend.targets);
            }
            None => drop(joined.insert(backend.address, backend)),
        }
    }
    joined
        .into_values()
        .map(|mut backend| {
            backend.targets.sort_unstable();
            backend.targets.dedup();
            backend
        })
        .collect()
}

/// A port number, which is required.
pub(super) fn number(port: Option<i64>, path: &Path<'_>, cx: &mut Context<'_>) -> Option<u16> {
    let number = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
    if number.is_none() {
        let reason = match port {
            Some(port) => format!("{} is not between 1 and 65535", quoted(&format!("{port}"))),
            None => "a port number is required".into(),
        };
        cx.error(path, reason);
    }
    number
}

fn ports(
    ports: Option<&[SlicePort]>,
    list: &Path<'_>,
    cx: &mut Context<'_>,
) -> Vec<(Option<Name>, Protocol, u16)> {
    let mut read = Vec::new();
    for (i, port) in ports.unwrap_or_default().iter().enumerate() {
        let item = list.index(i);
        let protocol = protocol(port.protocol.as_deref(), &item.field("protocol"), cx);
        if port.port.is_some() {
            let number = number(port.port, &item.field("port"), cx);
            let name = port.name.as_deref().filter(|name| !name.is_empty()).map(|name| cx.name(name));
            read.extend(protocol.zip(number).map(|(protocol, number)| (name, protocol, number)));
        }
    }
    read
}

fn node(name: Option<&str>, cx: &mut Context<'_>) -> Option<Name> {
    name.filter(|name| !name.is_empty()).map(|name| cx.name(name))
}

/// Missing conditions count as those of a backend that takes traffic.
/// Source: kubernetes `pkg/proxy/endpointslicecache.go`, `addEndpoints`.
fn state(conditions: Option<&SliceConditions>) -> BackendState {
    let Some(conditions) = conditions else { return BackendState::Ready };
    let ready = conditions.ready.unwrap_or(true);
    let serving = conditions.serving.unwrap_or(ready);
    if ready {
        BackendState::Ready
    } else if serving && conditions.terminating == Some(true) {
        BackendState::Draining
    } else {
        BackendState::NotReady
    }
}
