//! Services and the slices that list their backends.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::Deserialize;

use crate::intstr::IntOrString;
use crate::meta::ObjectMeta;
use crate::repeats;

/// A `Service`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Service {
    /// The metadata.
    pub metadata: ObjectMeta,
    /// What was asked for.
    pub spec: Option<ServiceSpec>,
    /// What was observed.
    pub status: Option<ServiceStatus>,
}

/// What a [`Service`] asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceSpec {
    /// `ClusterIP` (also when missing), `NodePort`, `LoadBalancer` or `ExternalName`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The labels of the pods behind the service. Without it, another controller writes the slices.
    #[serde(deserialize_with = "repeats::texts")]
    pub selector: Option<BTreeMap<String, String>>,
    /// The ports.
    pub ports: Option<Vec<ServicePort>>,
    /// The first address inside the cluster; `None` as text for a headless service.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<String>,
    /// All addresses inside the cluster.
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Option<Vec<String>>,
    /// Other addresses that nodes take traffic for.
    #[serde(rename = "externalIPs")]
    pub external_ips: Option<Vec<String>>,
    /// The address that the load balancer was asked to have.
    #[serde(rename = "loadBalancerIP")]
    pub load_balancer_ip: Option<String>,
    /// The networks that may use the load balancer; missing or empty means all.
    pub load_balancer_source_ranges: Option<Vec<String>>,
    /// The name that an `ExternalName` service stands for.
    pub external_name: Option<String>,
    /// `Cluster` (also when missing) or `Local`: which backends traffic to the cluster addresses reaches.
    pub internal_traffic_policy: Option<String>,
    /// `Cluster` (also when missing) or `Local`: which backends traffic to node ports and external addresses reaches.
    pub external_traffic_policy: Option<String>,
    /// Whether backends that are not ready are reached like ready ones.
    pub publish_not_ready_addresses: Option<bool>,
}

/// What was observed of a [`Service`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceStatus {
    /// The load balancer.
    pub load_balancer: Option<LoadBalancerStatus>,
}

/// What was observed of a load balancer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct LoadBalancerStatus {
    /// Where it takes traffic.
    pub ingress: Option<Vec<LoadBalancerIngress>>,
}

/// One way into a load balancer. One that only has a host name has no address to know it by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LoadBalancerIngress {
    /// Its address.
    pub ip: Option<String>,
    /// `VIP` (also when missing): nodes translate the address; `Proxy`: only the load balancer does.
    pub ip_mode: Option<String>,
}

/// A port of a [`Service`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServicePort {
    /// Its name; may be missing when the service has one port.
    pub name: Option<String>,
    /// The port of the service itself.
    pub port: Option<i64>,
    /// The port of the backends: a number, or the name of a container port. Missing means the same as `port`.
    pub target_port: Option<IntOrString>,
    /// The port on the addresses of every node; missing or 0 means none.
    pub node_port: Option<i64>,
    /// `TCP` (also when missing), `UDP` or `SCTP`.
    pub protocol: Option<String>,
}

/// An `Endpoints` object of `v1`: backends as they were listed before there were slices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Endpoints {
    /// The metadata; the name is that of the service.
    pub metadata: ObjectMeta,
    /// Backends with the ports that they share.
    pub subsets: Option<Vec<EndpointSubset>>,
}

/// Backends of an [`Endpoints`] object that share ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointSubset {
    /// Those that are ready.
    pub addresses: Option<Vec<EndpointAddress>>,
    /// Those that are not.
    pub not_ready_addresses: Option<Vec<EndpointAddress>>,
    /// Their ports.
    pub ports: Option<Vec<SlicePort>>,
}

/// A backend in an [`EndpointSubset`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointAddress {
    /// Its address.
    pub ip: Option<String>,
    /// The node it is on.
    pub node_name: Option<String>,
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

/// A backend in an [`EndpointSlice`]. Policy that names the service ignores readiness, as Calico does; what reaches the
/// service does not. Source: Calico `felix/serviceindex/serviceindex.go`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SliceEndpoint {
    /// Its addresses.
    pub addresses: Option<Vec<String>>,
    /// Its state.
    pub conditions: Option<SliceConditions>,
    /// The node it is on.
    pub node_name: Option<String>,
}

/// The state of a backend. A condition that is missing counts as the usual state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SliceConditions {
    /// Whether it takes traffic; missing counts as true.
    pub ready: Option<bool>,
    /// Whether it would take traffic if it were not being deleted; missing counts as `ready`.
    pub serving: Option<bool>,
    /// Whether it is being deleted; missing counts as false.
    pub terminating: Option<bool>,
}

/// A port in an [`EndpointSlice`] or an [`EndpointSubset`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SlicePort {
    /// The name of the service's port.
    pub name: Option<String>,
    /// The number; missing means every port, which no rule can express.
    pub port: Option<i64>,
    /// `TCP` (also when missing), `UDP` or `SCTP`.
    pub protocol: Option<String>,
}
