//! The fields of Calico objects, as the API spells them.
//!
//! Every field is optional here, so that a missing one is reported with its path and beside all other problems.
//! `null` counts as absent, as the API server reads it.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::intstr::IntOrString;
use crate::network_policy::{EgressRule, IngressRule};
use crate::repeats;
use crate::selector::LabelSelector;

/// The spec of all four policy kinds that hold Calico rules; which fields a kind has is checked in its conversion.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PolicySpec {
    pub(crate) tier: Option<String>,
    pub(crate) order: Option<f64>,
    pub(crate) selector: Option<String>,
    pub(crate) namespace_selector: Option<String>,
    pub(crate) service_account_selector: Option<String>,
    pub(crate) types: Option<Vec<String>>,
    pub(crate) ingress: Option<Vec<RuleSpec>>,
    pub(crate) egress: Option<Vec<RuleSpec>>,
    pub(crate) do_not_track: Option<bool>,
    #[serde(rename = "preDNAT")]
    pub(crate) pre_dnat: Option<bool>,
    pub(crate) apply_on_forward: Option<bool>,
    pub(crate) performance_hints: Option<Vec<String>>,
    pub(crate) staged_action: Option<String>,
}

/// One rule.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RuleSpec {
    pub(crate) action: Option<String>,
    pub(crate) ip_version: Option<i64>,
    pub(crate) protocol: Option<IntOrString>,
    pub(crate) not_protocol: Option<IntOrString>,
    pub(crate) icmp: Option<IcmpSpec>,
    #[serde(rename = "notICMP")]
    pub(crate) not_icmp: Option<IcmpSpec>,
    pub(crate) source: Option<EntitySpec>,
    pub(crate) destination: Option<EntitySpec>,
    pub(crate) http: Option<HttpSpec>,
    pub(crate) metadata: Option<RuleMetadata>,
}

/// An ICMP type and code.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IcmpSpec {
    #[serde(rename = "type")]
    pub(crate) kind: Option<i64>,
    pub(crate) code: Option<i64>,
}

/// Who one end of a connection must be.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct EntitySpec {
    pub(crate) nets: Option<Vec<String>>,
    pub(crate) not_nets: Option<Vec<String>>,
    pub(crate) selector: Option<String>,
    pub(crate) not_selector: Option<String>,
    pub(crate) namespace_selector: Option<String>,
    pub(crate) services: Option<ServiceSpec>,
    pub(crate) ports: Option<Vec<IntOrString>>,
    pub(crate) not_ports: Option<Vec<IntOrString>>,
    pub(crate) service_accounts: Option<ServiceAccountSpec>,
}

/// A service whose backends are meant.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceSpec {
    pub(crate) name: Option<String>,
    pub(crate) namespace: Option<String>,
}

/// Service accounts, by name and by label.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceAccountSpec {
    pub(crate) names: Option<Vec<String>>,
    pub(crate) selector: Option<String>,
}

/// HTTP conditions.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpSpec {
    pub(crate) methods: Option<Vec<String>>,
    pub(crate) paths: Option<Vec<HttpPathSpec>>,
}

/// One HTTP path condition.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpPathSpec {
    pub(crate) exact: Option<String>,
    pub(crate) prefix: Option<String>,
}

/// Notes on a rule; they have no meaning here, only a form.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleMetadata {
    #[serde(default, deserialize_with = "repeats::texts")]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
}

/// The spec of a staged Kubernetes NetworkPolicy: that of a NetworkPolicy and an action.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StagedKubernetesSpec {
    pub(crate) pod_selector: Option<LabelSelector>,
    pub(crate) ingress: Option<Vec<IngressRule>>,
    pub(crate) egress: Option<Vec<EgressRule>>,
    pub(crate) policy_types: Option<Vec<String>>,
    pub(crate) staged_action: Option<String>,
}

/// The spec of a tier.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TierSpec {
    pub(crate) order: Option<f64>,
    pub(crate) default_action: Option<String>,
}

/// The spec of both kinds of network set.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NetworkSetSpec {
    pub(crate) nets: Option<Vec<String>>,
}

/// The spec of a host endpoint.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HostEndpointSpec {
    pub(crate) node: Option<String>,
    pub(crate) interface_name: Option<String>,
    #[serde(rename = "expectedIPs")]
    pub(crate) expected_ips: Option<Vec<String>>,
    pub(crate) profiles: Option<Vec<String>>,
    pub(crate) ports: Option<Vec<HostPortSpec>>,
}

/// A port of a host endpoint.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HostPortSpec {
    pub(crate) name: Option<String>,
    pub(crate) protocol: Option<IntOrString>,
    pub(crate) port: Option<i64>,
}

/// A port of a workload endpoint, of which other fields are passed over.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EndpointPortSpec {
    pub(crate) name: Option<String>,
    pub(crate) protocol: Option<IntOrString>,
    pub(crate) port: Option<i64>,
    pub(crate) host_port: Option<i64>,
}

impl From<&HostPortSpec> for EndpointPortSpec {
    fn from(port: &HostPortSpec) -> Self {
        let HostPortSpec { name, protocol, port } = port.clone();
        Self { name, protocol, port, host_port: None }
    }
}

/// The part of a workload endpoint's spec that policy can see. No resource definition exists for this kind and
/// versions differ in their fields, so others are passed over.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WorkloadEndpointSpec {
    pub(crate) orchestrator: Option<String>,
    pub(crate) node: Option<String>,
    pub(crate) pod: Option<String>,
    pub(crate) service_account_name: Option<String>,
    pub(crate) ip_networks: Option<Vec<String>>,
    pub(crate) interface_name: Option<String>,
    pub(crate) profiles: Option<Vec<String>>,
    pub(crate) ports: Option<Vec<EndpointPortSpec>>,
}

/// The spec of a profile.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ProfileSpec {
    pub(crate) ingress: Option<Vec<RuleSpec>>,
    pub(crate) egress: Option<Vec<RuleSpec>>,
    #[serde(default, deserialize_with = "repeats::texts")]
    pub(crate) labels_to_apply: Option<BTreeMap<String, String>>,
    /// Not a field of profiles, though often written; it has no meaning and is passed over with a warning.
    pub(crate) types: Option<IgnoredAny>,
}
