//! Kubernetes NetworkPolicy.

mod convert;
#[cfg(test)]
mod tests;

pub(crate) use convert::{port_number, push};

use alloc::string::String;
use alloc::vec::Vec;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::intstr::IntOrString;
use crate::meta::{self, ObjectMeta};
use crate::selector::LabelSelector;
use crate::status::Status;

/// A `NetworkPolicy` of `networking.k8s.io/v1`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkPolicy {
    /// Group and version; not checked.
    pub api_version: Option<String>,
    /// The kind; not checked.
    pub kind: Option<String>,
    /// The metadata.
    #[serde(deserialize_with = "meta::strict")]
    pub metadata: ObjectMeta,
    /// The specification. Missing is empty, which isolates every pod of the namespace for ingress.
    pub spec: Option<NetworkPolicySpec>,
    /// Written by servers 1.24 to 1.27; ignored.
    pub status: Option<Status>,
}

/// The specification of a [`NetworkPolicy`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkPolicySpec {
    /// The pods of the namespace that the policy applies to. Missing is all of them.
    pub pod_selector: Option<LabelSelector>,
    /// Traffic to allow to those pods.
    pub ingress: Option<Vec<IngressRule>>,
    /// Traffic to allow from those pods.
    pub egress: Option<Vec<EgressRule>>,
    /// `Ingress`, `Egress` or both.
    pub policy_types: Option<Vec<String>>,
}

/// A rule for traffic to a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngressRule {
    /// Ports. Empty is any protocol and port.
    pub ports: Option<Vec<PolicyPort>>,
    /// Sources. Empty is anywhere.
    pub from: Option<Vec<Peer>>,
}

/// A rule for traffic from a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EgressRule {
    /// Ports. Empty is any protocol and port.
    pub ports: Option<Vec<PolicyPort>>,
    /// Destinations. Empty is anywhere.
    pub to: Option<Vec<Peer>>,
}

/// A port of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyPort {
    /// `TCP` (also when missing), `UDP` or `SCTP`.
    pub protocol: Option<String>,
    /// The destination port, or the name of a port of the destination pod. Missing is every port.
    pub port: Option<IntOrString>,
    /// The last port of a range that begins with `port`.
    pub end_port: Option<i32>,
}

/// A source or destination of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Peer {
    /// Pods; of the policy's namespace unless `namespaceSelector` is set.
    pub pod_selector: Option<LabelSelector>,
    /// Namespaces whose pods are meant.
    pub namespace_selector: Option<LabelSelector>,
    /// Addresses.
    pub ip_block: Option<IpBlock>,
}

/// A network without parts of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IpBlock {
    /// The network.
    pub cidr: Option<String>,
    /// Parts of it that are not meant.
    pub except: Option<Vec<String>>,
}

/// A `NetworkPolicy` of `extensions/v1beta1`, which servers no longer know. It may carry a `status`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ExtensionsNetworkPolicy {
    api_version: Option<String>,
    kind: Option<String>,
    #[serde(deserialize_with = "meta::strict")]
    metadata: ObjectMeta,
    spec: Option<NetworkPolicySpec>,
    #[serde(rename = "status")]
    _status: Option<IgnoredAny>,
}

impl From<ExtensionsNetworkPolicy> for NetworkPolicy {
    fn from(old: ExtensionsNetworkPolicy) -> Self {
        let ExtensionsNetworkPolicy { api_version, kind, metadata, spec, _status } = old;
        Self { api_version, kind, metadata, spec, status: None }
    }
}
