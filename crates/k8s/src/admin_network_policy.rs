//! AdminNetworkPolicy and BaselineAdminNetworkPolicy v1alpha1 of the network policy API.

mod convert;
#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;

use serde::Deserialize;

use crate::cluster_network_policy::{EgressPeer, IngressPeer, Subject};
use crate::intstr::integral;
use crate::meta::{self, ObjectMeta};
use crate::status::Status;

/// An `AdminNetworkPolicy` of `policy.networking.k8s.io/v1alpha1`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct AdminNetworkPolicy {
    /// Group and version; not checked.
    pub api_version: Option<String>,
    /// The kind; not checked.
    pub kind: Option<String>,
    /// The metadata.
    #[serde(deserialize_with = "meta::strict")]
    pub metadata: ObjectMeta,
    /// The specification; required.
    pub spec: Option<AdminNetworkPolicySpec>,
    /// Written by implementations; ignored.
    pub status: Option<Status>,
}

/// The specification of an [`AdminNetworkPolicy`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct AdminNetworkPolicySpec {
    /// 0 to 1000; lower comes first.
    #[serde(deserialize_with = "integral")]
    pub priority: Option<i64>,
    /// The pods that the policy applies to.
    pub subject: Option<Subject>,
    /// Rules for traffic to those pods, in order; at most 100.
    pub ingress: Option<Vec<IngressRule>>,
    /// Rules for traffic from those pods, in order; at most 100.
    pub egress: Option<Vec<EgressRule>>,
}

/// A `BaselineAdminNetworkPolicy` of `policy.networking.k8s.io/v1alpha1`. There is only one, named `default`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct BaselineAdminNetworkPolicy {
    /// Group and version; not checked.
    pub api_version: Option<String>,
    /// The kind; not checked.
    pub kind: Option<String>,
    /// The metadata.
    #[serde(deserialize_with = "meta::strict")]
    pub metadata: ObjectMeta,
    /// The specification; required.
    pub spec: Option<BaselineAdminNetworkPolicySpec>,
    /// Written by implementations; ignored.
    pub status: Option<Status>,
}

/// The specification of a [`BaselineAdminNetworkPolicy`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct BaselineAdminNetworkPolicySpec {
    /// The pods that the policy applies to.
    pub subject: Option<Subject>,
    /// Rules for traffic to those pods, in order; at most 100.
    pub ingress: Option<Vec<IngressRule>>,
    /// Rules for traffic from those pods, in order; at most 100.
    pub egress: Option<Vec<EgressRule>>,
}

/// A rule for traffic to a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngressRule {
    /// A name for people; at most 100 characters.
    pub name: Option<String>,
    /// `Allow`, `Deny` or `Pass`; no `Pass` in the baseline policy.
    pub action: Option<String>,
    /// Sources, 1 to 100.
    pub from: Option<Vec<IngressPeer>>,
    /// Ports, at most 100; missing is everything.
    pub ports: Option<Vec<Port>>,
}

/// A rule for traffic from a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EgressRule {
    /// A name for people; at most 100 characters.
    pub name: Option<String>,
    /// `Allow`, `Deny` or `Pass`; no `Pass` in the baseline policy.
    pub action: Option<String>,
    /// Destinations, 1 to 100.
    pub to: Option<Vec<EgressPeer>>,
    /// Ports, at most 100; missing is everything.
    pub ports: Option<Vec<Port>>,
}

/// A port of a rule: exactly one of the fields.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Port {
    /// One port.
    pub port_number: Option<PortNumber>,
    /// A range of ports.
    pub port_range: Option<PortRange>,
    /// The name of a port of the destination pod, of any protocol.
    pub named_port: Option<String>,
}

/// One port of a protocol.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PortNumber {
    /// `TCP` (also when missing), `UDP` or `SCTP`.
    pub protocol: Option<String>,
    /// The port; required.
    #[serde(deserialize_with = "integral")]
    pub port: Option<i64>,
}

/// A range of ports of a protocol.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PortRange {
    /// `TCP` (also when missing), `UDP` or `SCTP`.
    pub protocol: Option<String>,
    /// First port; required.
    #[serde(deserialize_with = "integral")]
    pub start: Option<i64>,
    /// Last port, not below `start`; required.
    #[serde(deserialize_with = "integral")]
    pub end: Option<i64>,
}
