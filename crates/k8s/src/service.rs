//! Services and the slices that list their backends.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::Deserialize;

use crate::intstr::IntOrString;
use crate::meta::ObjectMeta;

/// A `Service`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Service {
    /// The metadata.
    pub metadata: ObjectMeta,
    /// What was asked for.
    pub spec: Option<ServiceSpec>,
}

/// What a [`Service`] asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServiceSpec {
    /// The labels of the pods behind the service. Without it, somebody else writes the slices.
    pub selector: Option<BTreeMap<String, String>>,
    /// The ports.
    pub ports: Option<Vec<ServicePort>>,
}

/// A port of a [`Service`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServicePort {
    /// The port of the service itself.
    pub port: Option<i64>,
    /// The port of the backends: a number, or the name of a container port. Missing means the same as `port`.
    pub target_port: Option<IntOrString>,
    /// `TCP` (also when missing), `UDP` or `SCTP`.
    pub protocol: Option<String>,
}

/// An `EndpointSlice`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointSlice {
    /// The metadata; the label `kubernetes.io/service-name` names the service.
    pub metadata: ObjectMeta,
    /// `IPv4`, `IPv6` or `FQDN`.
    pub address_type: Option<String>,
    /// The backends.
    pub endpoints: Option<Vec<SliceEndpoint>>,
    /// The ports of every backend.
    pub ports: Option<Vec<SlicePort>>,
}

/// A backend in an [`EndpointSlice`]. Readiness is ignored, as Calico does.
/// Source: Calico `felix/serviceindex/serviceindex.go`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SliceEndpoint {
    /// Its addresses.
    pub addresses: Option<Vec<String>>,
}

/// A port in an [`EndpointSlice`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SlicePort {
    /// The number; missing means every port, which no rule can express.
    pub port: Option<i64>,
    /// `TCP` (also when missing), `UDP` or `SCTP`.
    pub protocol: Option<String>,
}
