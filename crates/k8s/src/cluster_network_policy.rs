//! ClusterNetworkPolicy v1alpha2 of the network policy API.

mod convert;
mod peer;
#[cfg(test)]
mod tests;

pub(crate) use convert::{Parts, named_port, read_priority};
pub(crate) use peer::{Generation, PeerReading, RuleParts, check_count, complete, subject};

use alloc::string::String;
use alloc::vec::Vec;

use serde::Deserialize;

use crate::intstr::integral;
use crate::meta::{self, ObjectMeta};
use crate::selector::LabelSelector;
use crate::status::Status;

/// A `ClusterNetworkPolicy` of `policy.networking.k8s.io/v1alpha2`, standard and experimental channel.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterNetworkPolicy {
    /// Group and version; not checked.
    pub api_version: Option<String>,
    /// The kind; not checked.
    pub kind: Option<String>,
    /// The metadata.
    #[serde(deserialize_with = "meta::strict")]
    pub metadata: ObjectMeta,
    /// The specification; required.
    pub spec: Option<ClusterNetworkPolicySpec>,
    /// Written by implementations; ignored.
    pub status: Option<Status>,
}

/// The specification of a [`ClusterNetworkPolicy`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterNetworkPolicySpec {
    /// `Admin` or `Baseline`.
    pub tier: Option<String>,
    /// 0 to 1000; lower comes first.
    #[serde(deserialize_with = "integral")]
    pub priority: Option<i64>,
    /// The pods that the policy applies to.
    pub subject: Option<Subject>,
    /// Rules for traffic to those pods, in order; at most 25.
    pub ingress: Option<Vec<IngressRule>>,
    /// Rules for traffic from those pods, in order; at most 25.
    pub egress: Option<Vec<EgressRule>>,
}

/// Pods: exactly one of the fields.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Subject {
    /// All pods of these namespaces.
    pub namespaces: Option<LabelSelector>,
    /// Pods by their labels and those of their namespace.
    pub pods: Option<NamespacedPods>,
}

/// Pods by their labels and those of their namespace.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct NamespacedPods {
    /// The namespaces; missing is all.
    pub namespace_selector: Option<LabelSelector>,
    /// The pods; required.
    pub pod_selector: Option<LabelSelector>,
}

/// A rule for traffic to a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngressRule {
    /// A name for people; at most 100 characters.
    pub name: Option<String>,
    /// `Accept`, `Deny` or `Pass`.
    pub action: Option<String>,
    /// Sources, 1 to 25.
    pub from: Option<Vec<IngressPeer>>,
    /// Protocols and ports, 1 to 25; missing is everything.
    pub protocols: Option<Vec<Protocol>>,
}

/// A rule for traffic from a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EgressRule {
    /// A name for people; at most 100 characters.
    pub name: Option<String>,
    /// `Accept`, `Deny` or `Pass`.
    pub action: Option<String>,
    /// Destinations, 1 to 25.
    pub to: Option<Vec<EgressPeer>>,
    /// Protocols and ports, 1 to 25; missing is everything.
    pub protocols: Option<Vec<Protocol>>,
}

/// A source: exactly one of the fields.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngressPeer {
    /// All pods of these namespaces.
    pub namespaces: Option<LabelSelector>,
    /// Pods by their labels and those of their namespace.
    pub pods: Option<NamespacedPods>,
}

/// A destination: exactly one of the fields.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct EgressPeer {
    /// All pods of these namespaces.
    pub namespaces: Option<LabelSelector>,
    /// Pods by their labels and those of their namespace.
    pub pods: Option<NamespacedPods>,
    /// Networks, 1 to 25.
    pub networks: Option<Vec<String>>,
    /// Nodes by their labels, by the nodes' own addresses.
    pub nodes: Option<LabelSelector>,
    /// Domain names, 1 to 25, with an optional leading `*.`.
    pub domain_names: Option<Vec<String>>,
}

/// A protocol with its port: exactly one of the fields.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Protocol {
    /// TCP.
    pub tcp: Option<Ports>,
    /// UDP.
    pub udp: Option<Ports>,
    /// SCTP.
    pub sctp: Option<Ports>,
    /// The name of a port of the destination pod, of any protocol.
    pub destination_named_port: Option<String>,
}

/// The ports of a protocol.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Ports {
    /// The destination port; required.
    pub destination_port: Option<Port>,
}

/// A port or a range of ports: exactly one of the fields.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Port {
    /// One port.
    #[serde(deserialize_with = "integral")]
    pub number: Option<i64>,
    /// A range of at least two ports.
    pub range: Option<Range>,
}

/// A range of ports.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Range {
    /// First port.
    #[serde(deserialize_with = "integral")]
    pub start: Option<i64>,
    /// Last port, above `start`.
    #[serde(deserialize_with = "integral")]
    pub end: Option<i64>,
}
