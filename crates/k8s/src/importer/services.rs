//! Services and their backends.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use portcullis_core::label::Name;
use portcullis_core::model::{Endpoint, ServiceBackend, ServiceEndpoints, ServiceId, Update};
use portcullis_core::net::IpVersion;
use portcullis_core::packet::Protocol;

use crate::cluster::ip;
use crate::context::{Context, quoted};
use crate::error::{ConvertError, Warning};
use crate::intstr::IntOrString;
use crate::meta::Placing;
use crate::names::Names;
use crate::path::Path;
use crate::service::{EndpointSlice, Service};
use crate::validate;
use crate::workload::protocol;

/// The label that tells whose slice it is.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// The services and slices of the input.
#[derive(Debug, Default)]
pub(super) struct Services {
    services: BTreeMap<ServiceId, Plan>,
    slices: BTreeMap<ServiceId, BTreeSet<ServiceBackend>>,
}

/// Where the backends of a service are when no slice tells.
#[derive(Debug)]
struct Plan {
    /// Labels of the pods behind it; `None` when somebody else writes the slices.
    selector: Option<BTreeMap<String, String>>,
    targets: Vec<(Protocol, Target)>,
}

#[derive(Debug)]
enum Target {
    Number(u16),
    Named(Name),
}

impl Services {
    pub(super) fn add(
        &mut self,
        service: &Service,
        names: &mut Names,
    ) -> Result<Vec<Warning>, Vec<ConvertError>> {
        let mut cx = Context::new(names, service.metadata.reference("Service", Placing::Namespaced));
        let identity = service.metadata.identify(Placing::Namespaced, validate::dns_subdomain, &mut cx);
        let spec = service.spec.clone().unwrap_or_default();
        let root = Path::root("spec");
        let list = root.field("ports");
        let mut targets = Vec::new();
        for (i, port) in spec.ports.iter().flatten().enumerate() {
            let item = list.index(i);
            let protocol = protocol(port.protocol.as_deref(), &item.field("protocol"), &mut cx);
            let target = match &port.target_port {
                None => number(port.port, &item.field("port"), &mut cx).map(Target::Number),
                Some(IntOrString::Int(0)) => {
                    number(port.port, &item.field("port"), &mut cx).map(Target::Number)
                }
                Some(IntOrString::Int(port)) => {
                    number(Some(i64::from(*port)), &item.field("targetPort"), &mut cx).map(Target::Number)
                }
                Some(IntOrString::String(name)) => Some(Target::Named(cx.name(name))),
            };
            targets.extend(protocol.zip(target));
        }
        let id = identity.map(|identity| ServiceId { namespace: identity.namespace(), name: identity.name });
        let (id, warnings) = cx.finish(id)?;
        self.services.insert(id, Plan { selector: spec.selector.filter(|s| !s.is_empty()), targets });
        Ok(warnings)
    }

    pub(super) fn add_slice(
        &mut self,
        slice: &EndpointSlice,
        names: &mut Names,
    ) -> Result<Vec<Warning>, Vec<ConvertError>> {
        let mut cx = Context::new(names, slice.metadata.reference("EndpointSlice", Placing::Namespaced));
        let identity = slice.metadata.identify(Placing::Namespaced, validate::dns_subdomain, &mut cx);
        let root = Path::root("ports");
        let mut ports = Vec::new();
        for (i, port) in slice.ports.iter().flatten().enumerate() {
            let item = root.index(i);
            let protocol = protocol(port.protocol.as_deref(), &item.field("protocol"), &mut cx);
            if port.port.is_some() {
                let number = number(port.port, &item.field("port"), &mut cx);
                ports.extend(protocol.zip(number));
            }
        }
        let mut backends = BTreeSet::new();
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
                if ports.is_empty() {
                    backends.insert(ServiceBackend { address, port: None });
                }
                backends.extend(ports.iter().map(|port| ServiceBackend { address, port: Some(*port) }));
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
        let namespace = identity.map(|identity| identity.namespace());
        let (namespace, warnings) = cx.finish(namespace)?;
        if let Some(name) = service {
            self.slices.entry(ServiceId { namespace, name }).or_default().extend(backends);
        }
        Ok(warnings)
    }

    /// Adds the services. Backends are those of the slices; of a service without any, the pods that its selector
    /// selects, so that a manifest without slices means what it will mean in a cluster.
    pub(super) fn finish(mut self, updates: &mut Vec<Update>) {
        let mut found: Vec<ServiceEndpoints> = Vec::new();
        for (id, plan) in self.services {
            let backends: BTreeSet<ServiceBackend> = match self.slices.remove(&id) {
                Some(backends) => backends,
                None => plan.select(&id, updates),
            };
            found.push(ServiceEndpoints { id, backends: backends.into_iter().collect() });
        }
        let rest = self.slices.into_iter();
        found.extend(
            rest.map(|(id, backends)| ServiceEndpoints { id, backends: backends.into_iter().collect() }),
        );
        updates.extend(found.into_iter().map(Update::Service));
    }
}

impl Plan {
    fn select(&self, id: &ServiceId, updates: &[Update]) -> BTreeSet<ServiceBackend> {
        let mut backends = BTreeSet::new();
        let Some(selector) = &self.selector else { return backends };
        for update in updates {
            let Update::Endpoint(endpoint) = update else { continue };
            let selected = endpoint.id.namespace.as_ref() == Some(&id.namespace)
                && selector.iter().all(|(key, value)| endpoint.labels.value(key) == Some(value));
            if selected {
                for address in &endpoint.addresses {
                    backends.extend(self.ports(endpoint, *address));
                }
            }
        }
        backends
    }

    fn ports(&self, endpoint: &Endpoint, address: IpAddr) -> Vec<ServiceBackend> {
        let mut backends = Vec::new();
        for (protocol, target) in &self.targets {
            match target {
                Target::Number(port) => {
                    backends.push(ServiceBackend { address, port: Some((*protocol, *port)) })
                }
                Target::Named(name) => {
                    let ports = endpoint.ports.iter().filter(|p| p.name == *name && p.protocol == *protocol);
                    backends
                        .extend(ports.map(|p| ServiceBackend { address, port: Some((p.protocol, p.port)) }));
                }
            }
        }
        backends
    }
}

fn number(port: Option<i64>, path: &Path<'_>, cx: &mut Context<'_>) -> Option<u16> {
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
