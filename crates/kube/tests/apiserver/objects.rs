//! One object of every kind.

use serde_json::{Value, json};

/// A kind of object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) api: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) namespaced: bool,
}

impl Known {
    const fn new(api: &'static str, kind: &'static str, plural: &'static str, namespaced: bool) -> Self {
        Self { api, kind, plural, namespaced }
    }

    pub(crate) fn all_path(&self) -> String {
        let root = if self.api.contains('/') { "apis" } else { "api" };
        format!("/{root}/{}/{}", self.api, self.plural)
    }

    pub(crate) fn path(&self) -> String {
        let root = if self.api.contains('/') { "apis" } else { "api" };
        let place = if self.namespaced { "namespaces/n/" } else { "" };
        format!("/{root}/{}/{place}{}", self.api, self.plural)
    }

    pub(crate) fn is_custom(&self) -> bool {
        self.api.contains("projectcalico") || self.api.starts_with("policy.")
    }

    /// An object of it.
    pub(crate) fn object(&self, name: &str) -> Value {
        let number: u8 = name.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(250);
        let peers = json!([{"namespaces": {}}]);
        let mut body = match self.kind {
            "Namespace" | "ServiceAccount" | "Node" => json!({}),
            "Pod" => json!({"spec": {"nodeName": "o1", "containers": [{"name": "c", "image": "i",
                "ports": [{"name": "web", "containerPort": 80}]}]}}),
            "Service" => json!({"spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}}),
            "Endpoints" => {
                json!({"subsets": [{"addresses": [{"ip": format!("10.2.0.{number}")}], "ports": [{"port": 80}]}]})
            }
            "EndpointSlice" => {
                json!({"addressType": "IPv4", "endpoints": [{"addresses": [format!("10.3.0.{number}")]}],
                "ports": [{"port": 80}]})
            }
            "NetworkPolicy" if self.api == "networking.k8s.io/v1" => {
                json!({"spec": {"podSelector": {"matchLabels": {"a": "b"}}, "ingress": [{"from": [{"podSelector": {}}]}]}})
            }
            "ClusterNetworkPolicy" => {
                json!({"spec": {"tier": "Admin", "priority": number, "subject": {"namespaces": {}},
                "ingress": [{"action": "Deny", "from": peers}]}})
            }
            "AdminNetworkPolicy" => json!({"spec": {"priority": number, "subject": {"namespaces": {}},
                "ingress": [{"action": "Deny", "from": peers}]}}),
            "GlobalNetworkPolicy" | "NetworkPolicy" => {
                json!({"spec": {"order": number, "selector": "all()", "types": ["Ingress"], "ingress": [{"action": "Deny"}]}})
            }
            "Tier" => json!({"spec": {"order": number}}),
            "NetworkSet" | "GlobalNetworkSet" => json!({"spec": {"nets": [format!("10.4.{number}.0/24")]}}),
            "HostEndpoint" => {
                json!({"spec": {"node": "o1", "interfaceName": "eth0", "expectedIPs": [format!("10.5.0.{number}")]}})
            }
            other => panic!("{other}"),
        };
        body["apiVersion"] = json!(self.api);
        body["kind"] = json!(self.kind);
        body["metadata"] = json!({"name": name, "labels": {"a": "b"}});
        if self.kind == "EndpointSlice" {
            body["metadata"]["labels"]["kubernetes.io/service-name"] = json!(name);
        }
        body
    }
}

pub(crate) const ALL: &[Known] = &[
    Known::new("v1", "Namespace", "namespaces", false),
    Known::new("v1", "ServiceAccount", "serviceaccounts", true),
    Known::new("v1", "Node", "nodes", false),
    Known::new("v1", "Pod", "pods", true),
    Known::new("v1", "Service", "services", true),
    Known::new("v1", "Endpoints", "endpoints", true),
    Known::new("discovery.k8s.io/v1", "EndpointSlice", "endpointslices", true),
    Known::new("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", true),
    Known::new("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy", "clusternetworkpolicies", false),
    Known::new("policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy", "adminnetworkpolicies", false),
    Known::new("crd.projectcalico.org/v1", "GlobalNetworkPolicy", "globalnetworkpolicies", false),
    Known::new("crd.projectcalico.org/v1", "NetworkPolicy", "networkpolicies", true),
    Known::new("crd.projectcalico.org/v1", "Tier", "tiers", false),
    Known::new("crd.projectcalico.org/v1", "NetworkSet", "networksets", true),
    Known::new("crd.projectcalico.org/v1", "GlobalNetworkSet", "globalnetworksets", false),
    Known::new("crd.projectcalico.org/v1", "HostEndpoint", "hostendpoints", false),
];
