//! Things that have addresses: endpoints, network sets, nodes and services, and what they inherit labels from.

use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use crate::label::{Labels, Name};
use crate::net::Cidr;
use crate::packet::Protocol;

/// The two kinds of endpoint that can be subject to policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum EndpointKind {
    /// A workload: a pod, a VM.
    Workload,
    /// An interface, or all interfaces, of a host.
    Host,
}

/// The identity of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct EndpointId {
    /// Workload or host.
    pub kind: EndpointKind,
    /// The namespace of a workload. Host endpoints have none.
    pub namespace: Option<Name>,
    /// The object's name.
    pub name: Name,
}

impl EndpointId {
    /// The id of a workload.
    pub fn workload(namespace: impl Into<Name>, name: impl Into<Name>) -> Self {
        Self { kind: EndpointKind::Workload, namespace: Some(namespace.into()), name: name.into() }
    }

    /// The id of a host endpoint.
    pub fn host(name: impl Into<Name>) -> Self {
        Self { kind: EndpointKind::Host, namespace: None, name: name.into() }
    }
}

/// `namespace/name` for a workload, `hep/name` for a host endpoint, as the CLI writes them.
impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, &self.namespace) {
            (EndpointKind::Host, _) => write!(f, "hep/{}", self.name),
            (EndpointKind::Workload, Some(namespace)) => write!(f, "{namespace}/{}", self.name),
            (EndpointKind::Workload, None) => write!(f, "{}", self.name),
        }
    }
}

/// Something that policy can apply to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Endpoint {
    /// Which endpoint.
    pub id: EndpointId,
    /// Its own labels.
    pub labels: Labels,
    /// Its addresses; an IPv4-mapped one stands for its IPv4 address. May be empty; two endpoints may share an
    /// address.
    pub addresses: Vec<IpAddr>,
    /// Name of its service account, in its namespace.
    pub service_account: Option<Name>,
    /// The node it runs on.
    pub node: Option<Name>,
    /// For a host endpoint, the interface: a name, `*` for all, or `None` when only addresses identify it.
    pub interface: Option<Name>,
    /// Ports that rules can name.
    pub ports: Vec<NamedPort>,
    /// Names of its profiles, in order.
    pub profiles: Vec<Name>,
}

impl Endpoint {
    /// An endpoint without labels, addresses or profiles.
    #[must_use]
    pub fn new(id: EndpointId) -> Self {
        Self {
            id,
            labels: Labels::new(),
            addresses: Vec::new(),
            service_account: None,
            node: None,
            interface: None,
            ports: Vec::new(),
            profiles: Vec::new(),
        }
    }

    /// Whether it is a host endpoint for all interfaces of its node (`*`).
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.id.kind == EndpointKind::Host && self.interface.as_deref() == Some(WILDCARD_INTERFACE)
    }
}

/// The interface of a host endpoint that stands for all interfaces that no other host endpoint names.
pub const WILDCARD_INTERFACE: &str = "*";

/// A port with a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct NamedPort {
    /// The name.
    pub name: Name,
    /// The protocol.
    pub protocol: Protocol,
    /// The number.
    pub port: u16,
}

/// The identity of a network set; without a namespace it is global.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct NetworkSetId {
    /// The namespace, or `None` for a global set.
    pub namespace: Option<Name>,
    /// The object's name.
    pub name: Name,
}

/// Networks with labels.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct NetworkSet {
    /// Which set.
    pub id: NetworkSetId,
    /// Its own labels.
    pub labels: Labels,
    /// Its networks; they may overlap.
    pub nets: Vec<Cidr>,
}

/// Labels of a namespace. Its name needs no label: see [`crate::label::NAME_KEY`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Namespace {
    /// Its name.
    pub name: Name,
    /// Its labels.
    pub labels: Labels,
}

/// Labels of a service account. Its name needs no label: see [`crate::label::NAME_KEY`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct ServiceAccount {
    /// Its namespace.
    pub namespace: Name,
    /// Its name.
    pub name: Name,
    /// Its labels.
    pub labels: Labels,
}

/// A node: the host that workloads run on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Node {
    /// Its name.
    pub name: Name,
    /// Its labels.
    pub labels: Labels,
    /// Its own addresses; an IPv4-mapped one stands for its IPv4 address.
    pub addresses: Vec<IpAddr>,
}

/// The identity of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct ServiceId {
    /// Its namespace.
    pub namespace: Name,
    /// Its name.
    pub name: Name,
}

/// The backends of a service, after any choice of ready ones.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct ServiceEndpoints {
    /// Which service.
    pub id: ServiceId,
    /// Its backends.
    pub backends: Vec<ServiceBackend>,
}

/// One backend of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct ServiceBackend {
    /// Its address; an IPv4-mapped one stands for its IPv4 address.
    pub address: IpAddr,
    /// Protocol and port it listens on; `None` when the slice names no port, which as a destination matches nothing.
    pub port: Option<(Protocol, u16)>,
}
