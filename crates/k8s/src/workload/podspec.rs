//! The parts of a pod that policy depends on. Other fields are ignored.

use alloc::string::String;
use alloc::vec::Vec;

use serde::Deserialize;

use crate::meta::ObjectMeta;

/// The template a workload makes pods from.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodTemplate {
    /// The metadata of the pods; only labels matter.
    pub metadata: Option<ObjectMeta>,
    /// The specification of the pods.
    pub spec: Option<PodSpec>,
}

/// What a pod asks for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec {
    /// The containers.
    pub containers: Option<Vec<Container>>,
    /// The init containers; only the named ports of those that keep running (sidecars) count.
    pub init_containers: Option<Vec<Container>>,
    /// Whether the pod shares its node's network.
    pub host_network: Option<bool>,
    /// The node the pod was placed on.
    pub node_name: Option<String>,
    /// The service account; missing means `default`.
    pub service_account_name: Option<String>,
    /// The old spelling of `serviceAccountName`.
    pub service_account: Option<String>,
}

/// A container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Container {
    /// The ports it says it listens on.
    pub ports: Option<Vec<ContainerPort>>,
    /// `Always` makes a sidecar of an init container: it keeps running beside the containers.
    pub restart_policy: Option<String>,
}

/// A port of a container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerPort {
    /// Its name, by which rules can refer to it.
    pub name: Option<String>,
    /// Its number, 1 to 65535.
    pub container_port: Option<i64>,
    /// `TCP` (also when missing), `UDP` or `SCTP`.
    pub protocol: Option<String>,
}

/// A condition of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodCondition {
    /// Which condition: `Ready` matters.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// `True`, `False` or `Unknown`.
    pub status: Option<String>,
}

/// What was observed of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    pub phase: Option<String>,
    /// The conditions.
    pub conditions: Option<Vec<PodCondition>>,
    /// The first address.
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
    /// All addresses.
    #[serde(rename = "podIPs")]
    pub pod_ips: Option<Vec<PodIp>>,
    /// The first address of the pod's node.
    #[serde(rename = "hostIP")]
    pub host_ip: Option<String>,
    /// All addresses of the pod's node.
    #[serde(rename = "hostIPs")]
    pub host_ips: Option<Vec<HostIp>>,
}

/// An address of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodIp {
    /// The address.
    pub ip: Option<String>,
}

/// An address of a pod's node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct HostIp {
    /// The address.
    pub ip: Option<String>,
}
