//! Objects of every kind that policy depends on.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

use portcullis_core::quote::quoted;
use serde::{Deserialize, Deserializer};

use crate::admin_network_policy::{AdminNetworkPolicy, BaselineAdminNetworkPolicy};
use crate::autoscaling::HorizontalPodAutoscaler;
use crate::calico::{self, CalicoObject, FelixConfiguration};
use crate::cluster::{Namespace, Node, ServiceAccount};
use crate::cluster_network_policy::ClusterNetworkPolicy;
use crate::error::ObjectRef;
use crate::foreign;
use crate::meta::{ObjectMeta, Placing};
use crate::near;
use crate::network_policy::{ExtensionsNetworkPolicy, NetworkPolicy};
use crate::service::{EndpointSlice, Endpoints, Service};
use crate::workload::{Pod, Workload, WorkloadKind};

/// Whether policy depends on objects of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Relevance {
    /// It does: read it with [`Object::deserialize`].
    Relevant,
    /// It does not: skip the object.
    Ignored,
    /// It is a policy of another network plugin, which is not read: answers leave it out, and must say so (decision
    /// D30).
    Foreign,
    /// It would, but the object's version or kind is not known, so skipping it could change verdicts. Holds the
    /// reason, one line.
    Unsupported(String),
}

/// Whether policy depends on objects of this `apiVersion` and `kind`.
#[must_use]
pub fn relevance(api_version: &str, kind: &str) -> Relevance {
    match Known::find(api_version, kind) {
        Ok(Known::Calico) => calico::relevance(api_version, kind),
        Ok(_) => Relevance::Relevant,
        Err(relevance) => relevance,
    }
}

/// How an object is read.
#[derive(Clone, Copy)]
enum Known {
    Namespace,
    ServiceAccount,
    Node,
    Pod,
    Service,
    EndpointSlice,
    Endpoints,
    HorizontalPodAutoscaler,
    Workload(WorkloadKind),
    NetworkPolicy,
    ExtensionsNetworkPolicy,
    ClusterNetworkPolicy,
    AdminNetworkPolicy,
    BaselineAdminNetworkPolicy,
    FelixConfiguration,
    Calico,
}

impl Known {
    fn find(api_version: &str, kind: &str) -> Result<Self, Relevance> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let known = match (group, kind) {
            ("", "Namespace") => Self::Namespace,
            ("", "ServiceAccount") => Self::ServiceAccount,
            ("", "Node") => Self::Node,
            ("", "Pod") => Self::Pod,
            ("", "Service") => Self::Service,
            ("discovery.k8s.io", "EndpointSlice") => Self::EndpointSlice,
            ("", "Endpoints") => Self::Endpoints,
            ("autoscaling", "HorizontalPodAutoscaler") => Self::HorizontalPodAutoscaler,
            ("", "ReplicationController")
            | ("apps" | "extensions", "Deployment" | "DaemonSet" | "ReplicaSet")
            | ("apps", "StatefulSet")
            | ("batch", "Job" | "CronJob") => match WorkloadKind::from_name(kind) {
                Some(kind) => Self::Workload(kind),
                None => return Err(Relevance::Ignored),
            },
            ("networking.k8s.io", "NetworkPolicy") => Self::NetworkPolicy,
            ("extensions", "NetworkPolicy") => Self::ExtensionsNetworkPolicy,
            ("policy.networking.k8s.io", "ClusterNetworkPolicy") => Self::ClusterNetworkPolicy,
            ("policy.networking.k8s.io", "AdminNetworkPolicy") => Self::AdminNetworkPolicy,
            ("policy.networking.k8s.io", "BaselineAdminNetworkPolicy") => Self::BaselineAdminNetworkPolicy,
            ("policy.networking.k8s.io", _) => {
                return Err(Relevance::Unsupported(format!("unknown policy kind {}", quoted(kind))));
            }
            ("projectcalico.org" | "crd.projectcalico.org", "FelixConfiguration") => Self::FelixConfiguration,
            ("projectcalico.org" | "crd.projectcalico.org", _) => Self::Calico,
            _ => return Err(misplaced(group, api_version, kind)),
        };
        let versions: &[&str] = match known {
            Self::EndpointSlice => &["v1", "v1beta1"],
            Self::HorizontalPodAutoscaler => &["v1", "v2", "v2beta1", "v2beta2"],
            Self::Workload(kind) => match (group, kind) {
                ("apps", _) => &["v1", "v1beta2", "v1beta1"],
                ("extensions", _) => &["v1beta1"],
                ("batch", WorkloadKind::CronJob) => &["v1", "v1beta1"],
                _ => &["v1"],
            },
            Self::ExtensionsNetworkPolicy => &["v1beta1"],
            Self::ClusterNetworkPolicy => &["v1alpha2"],
            Self::AdminNetworkPolicy | Self::BaselineAdminNetworkPolicy => &["v1alpha1"],
            Self::FelixConfiguration if group == "projectcalico.org" => &["v3"],
            Self::Calico => return Ok(known),
            _ => &["v1"],
        };
        if versions.contains(&version) {
            Ok(known)
        } else {
            Err(Relevance::Unsupported(format!(
                "version {} of kind `{kind}` is not known, only `{}`",
                quoted(version),
                versions.join("`, `")
            )))
        }
    }
}

/// What becomes of a kind that its group does not have: refused where the group is misspelt, skipped where the kind
/// is one that another project calls by the same name.
///
/// An API server refuses the former. Skipping it would drop a policy, or a pod that policies select.
fn misplaced(group: &str, api_version: &str, kind: &str) -> Relevance {
    if let Some(known) = GROUPS.iter().find(|known| group != **known && near::is_near(group, known)) {
        let api_version = quoted(api_version);
        return Relevance::Unsupported(format!("there is no group {api_version}; did you mean `{known}`?"));
    }
    let home = match kind {
        "Namespace" | "ServiceAccount" | "Node" | "Pod" | "Service" | "ReplicationController" => "v1",
        "EndpointSlice" => "discovery.k8s.io/v1",
        "Deployment" | "DaemonSet" | "ReplicaSet" | "StatefulSet" => "apps/v1",
        "Job" | "CronJob" => "batch/v1",
        "NetworkPolicy" => "networking.k8s.io/v1",
        "ClusterNetworkPolicy" => "policy.networking.k8s.io/v1alpha2",
        "AdminNetworkPolicy" | "BaselineAdminNetworkPolicy" => "policy.networking.k8s.io/v1alpha1",
        "FelixConfiguration" => "projectcalico.org/v3",
        _ if calico::is_policy_kind(kind) => "projectcalico.org/v3",
        _ => return unread(group, kind),
    };
    let foreign = group.contains('.') && !group.ends_with(".k8s.io") && !group.ends_with("projectcalico.org");
    if foreign {
        return unread(group, kind);
    }
    let api_version = quoted(api_version);
    Relevance::Unsupported(format!("{api_version} has no kind `{kind}`; it is one of `{home}`"))
}

/// What becomes of a kind that is not read. One that is almost spelt like a kind of its group that is read is refused: no
/// server has it, and skipping it would drop what its author meant.
pub(crate) fn unread(group: &str, kind: &str) -> Relevance {
    let known: &[&str] = match group {
        "" => {
            &["Namespace", "ServiceAccount", "Node", "Pod", "Service", "Endpoints", "ReplicationController"]
        }
        "apps" => &["Deployment", "DaemonSet", "ReplicaSet", "StatefulSet"],
        "batch" => &["Job", "CronJob"],
        "discovery.k8s.io" => &["EndpointSlice"],
        "networking.k8s.io" | "extensions" => &["NetworkPolicy"],
        "projectcalico.org" | "crd.projectcalico.org" => &calico::KINDS,
        _ => &[],
    };
    let felix: &[&str] = if group.ends_with("projectcalico.org") { &["FelixConfiguration"] } else { &[] };
    let is_own = !group.contains('.') || group.ends_with(".k8s.io");
    let policies: &[&str] = if is_own { &POLICIES } else { &[] };
    match known.iter().chain(felix).chain(policies).find(|known| near::is_near(kind, known)) {
        Some(known) => {
            let group = if group.is_empty() { "v1" } else { group };
            Relevance::Unsupported(format!("`{group}` has no kind {}; did you mean `{known}`?", quoted(kind)))
        }
        None if foreign::is_policy(group, kind) => Relevance::Foreign,
        None => Relevance::Ignored,
    }
}

/// Groups whose misspelt names no server has.
const GROUPS: [&str; 5] = [
    "networking.k8s.io",
    "policy.networking.k8s.io",
    "discovery.k8s.io",
    "projectcalico.org",
    "crd.projectcalico.org",
];

/// Kinds that no group of Kubernetes has a near namesake of.
const POLICIES: [&str; 8] = [
    "NetworkPolicy",
    "ClusterNetworkPolicy",
    "AdminNetworkPolicy",
    "BaselineAdminNetworkPolicy",
    "GlobalNetworkPolicy",
    "StagedNetworkPolicy",
    "StagedGlobalNetworkPolicy",
    "GlobalNetworkSet",
];

/// An object that policy depends on, as its manifest has it. Not yet checked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Object {
    /// A namespace.
    Namespace(Box<Namespace>),
    /// A service account.
    ServiceAccount(Box<ServiceAccount>),
    /// A node.
    Node(Box<Node>),
    /// A pod.
    Pod(Box<Pod>),
    /// Something that makes pods.
    Workload(Box<Workload>),
    /// A service.
    Service(Box<Service>),
    /// Backends of a service.
    EndpointSlice(Box<EndpointSlice>),
    /// Backends of a service, in the older form.
    Endpoints(Box<Endpoints>),
    /// What changes the number of a workload's pods.
    HorizontalPodAutoscaler(Box<HorizontalPodAutoscaler>),
    /// A NetworkPolicy of `networking.k8s.io/v1`.
    NetworkPolicy(Box<NetworkPolicy>),
    /// A NetworkPolicy of `extensions/v1beta1`.
    ExtensionsNetworkPolicy(Box<NetworkPolicy>),
    /// A ClusterNetworkPolicy.
    ClusterNetworkPolicy(Box<ClusterNetworkPolicy>),
    /// An AdminNetworkPolicy.
    AdminNetworkPolicy(Box<AdminNetworkPolicy>),
    /// The BaselineAdminNetworkPolicy.
    BaselineAdminNetworkPolicy(Box<BaselineAdminNetworkPolicy>),
    /// The configuration of Calico's node agent.
    FelixConfiguration(Box<FelixConfiguration>),
    /// An object of one of Calico's kinds of policy and of what policy selects.
    Calico(Box<CalicoObject>),
}

impl Object {
    /// Reads an object of the given `apiVersion` and `kind` from the whole document, both fields included.
    ///
    /// Policies are read as an API server reads them in strict mode: unknown fields are refused. Of other objects
    /// only what policy depends on is read.
    ///
    /// # Errors
    /// When the kind is not [relevant](relevance), a field that is read has the wrong type, or a policy has an
    /// unknown field.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        api_version: &str,
        kind: &str,
        deserializer: D,
    ) -> Result<Self, D::Error> {
        let known = Known::find(api_version, kind).map_err(|relevance| {
            serde::de::Error::custom(match relevance {
                Relevance::Unsupported(reason) => reason,
                _ => format!("kind {} of {} means nothing to policy", quoted(kind), quoted(api_version)),
            })
        })?;
        Ok(match known {
            Known::Namespace => Self::Namespace(read(deserializer)?),
            Known::ServiceAccount => Self::ServiceAccount(read(deserializer)?),
            Known::Node => Self::Node(read(deserializer)?),
            Known::Pod => Self::Pod(read(deserializer)?),
            Known::Service => Self::Service(read(deserializer)?),
            Known::EndpointSlice => Self::EndpointSlice(read(deserializer)?),
            Known::Endpoints => Self::Endpoints(read(deserializer)?),
            Known::HorizontalPodAutoscaler => Self::HorizontalPodAutoscaler(read(deserializer)?),
            Known::Workload(kind) => Self::Workload(Box::new(Workload::deserialize(kind, deserializer)?)),
            Known::NetworkPolicy => Self::NetworkPolicy(read(deserializer)?),
            Known::ExtensionsNetworkPolicy => {
                let old = ExtensionsNetworkPolicy::deserialize(deserializer)?;
                Self::ExtensionsNetworkPolicy(Box::new(old.into()))
            }
            Known::ClusterNetworkPolicy => Self::ClusterNetworkPolicy(read(deserializer)?),
            Known::AdminNetworkPolicy => Self::AdminNetworkPolicy(read(deserializer)?),
            Known::BaselineAdminNetworkPolicy => Self::BaselineAdminNetworkPolicy(read(deserializer)?),
            Known::FelixConfiguration => Self::FelixConfiguration(read(deserializer)?),
            Known::Calico => {
                Self::Calico(Box::new(CalicoObject::deserialize(api_version, kind, deserializer)?))
            }
        })
    }

    /// The kind, as a user writes it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Namespace(_) => "Namespace",
            Self::ServiceAccount(_) => "ServiceAccount",
            Self::Node(_) => "Node",
            Self::Pod(_) => "Pod",
            Self::Workload(o) => o.kind.name(),
            Self::Service(_) => "Service",
            Self::EndpointSlice(_) => "EndpointSlice",
            Self::Endpoints(_) => "Endpoints",
            Self::HorizontalPodAutoscaler(_) => "HorizontalPodAutoscaler",
            Self::NetworkPolicy(_) | Self::ExtensionsNetworkPolicy(_) => "NetworkPolicy",
            Self::ClusterNetworkPolicy(_) => "ClusterNetworkPolicy",
            Self::AdminNetworkPolicy(_) => "AdminNetworkPolicy",
            Self::BaselineAdminNetworkPolicy(_) => "BaselineAdminNetworkPolicy",
            Self::FelixConfiguration(_) => "FelixConfiguration",
            Self::Calico(o) => o.kind(),
        }
    }

    /// The metadata.
    #[must_use]
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Namespace(o) => &o.metadata,
            Self::ServiceAccount(o) => &o.metadata,
            Self::Node(o) => &o.metadata,
            Self::Pod(o) => &o.metadata,
            Self::Workload(o) => &o.metadata,
            Self::Service(o) => &o.metadata,
            Self::EndpointSlice(o) => &o.metadata,
            Self::Endpoints(o) => &o.metadata,
            Self::HorizontalPodAutoscaler(o) => &o.metadata,
            Self::NetworkPolicy(o) | Self::ExtensionsNetworkPolicy(o) => &o.metadata,
            Self::ClusterNetworkPolicy(o) => &o.metadata,
            Self::AdminNetworkPolicy(o) => &o.metadata,
            Self::BaselineAdminNetworkPolicy(o) => &o.metadata,
            Self::FelixConfiguration(o) => &o.metadata,
            Self::Calico(o) => o.metadata(),
        }
    }

    /// How messages call the object.
    #[must_use]
    pub fn reference(&self) -> ObjectRef {
        self.metadata().reference(self.kind(), self.placing())
    }

    /// Puts a namespaced object that names no namespace into `namespace`, as `kubectl -n` does; other objects stay as they
    /// are.
    pub fn set_default_namespace(&mut self, namespace: &str) {
        if matches!(self.placing(), Placing::Namespaced) {
            let given = &mut self.metadata_mut().namespace;
            if given.as_deref().unwrap_or_default().is_empty() {
                *given = Some(namespace.into());
            }
        }
    }

    pub(crate) fn metadata_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Namespace(o) => &mut o.metadata,
            Self::ServiceAccount(o) => &mut o.metadata,
            Self::Node(o) => &mut o.metadata,
            Self::Pod(o) => &mut o.metadata,
            Self::Workload(o) => &mut o.metadata,
            Self::Service(o) => &mut o.metadata,
            Self::EndpointSlice(o) => &mut o.metadata,
            Self::Endpoints(o) => &mut o.metadata,
            Self::HorizontalPodAutoscaler(o) => &mut o.metadata,
            Self::NetworkPolicy(o) | Self::ExtensionsNetworkPolicy(o) => &mut o.metadata,
            Self::ClusterNetworkPolicy(o) => &mut o.metadata,
            Self::AdminNetworkPolicy(o) => &mut o.metadata,
            Self::BaselineAdminNetworkPolicy(o) => &mut o.metadata,
            Self::FelixConfiguration(o) => &mut o.metadata,
            Self::Calico(o) => o.metadata_mut(),
        }
    }

    pub(crate) fn placing(&self) -> Placing {
        match self {
            Self::Namespace(_)
            | Self::Node(_)
            | Self::ClusterNetworkPolicy(_)
            | Self::AdminNetworkPolicy(_)
            | Self::BaselineAdminNetworkPolicy(_)
            | Self::FelixConfiguration(_) => Placing::Cluster,
            Self::ServiceAccount(_)
            | Self::Pod(_)
            | Self::Workload(_)
            | Self::Service(_)
            | Self::EndpointSlice(_)
            | Self::Endpoints(_)
            | Self::HorizontalPodAutoscaler(_)
            | Self::NetworkPolicy(_)
            | Self::ExtensionsNetworkPolicy(_) => Placing::Namespaced,
            Self::Calico(o) => o.placing(),
        }
    }
}

fn read<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Box<T>, D::Error> {
    T::deserialize(deserializer).map(Box::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_that_matter() {
        for (version, kind) in [
            ("v1", "Pod"),
            ("apps/v1", "Deployment"),
            ("extensions/v1beta1", "NetworkPolicy"),
            ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy"),
            ("batch/v1beta1", "CronJob"),
            ("discovery.k8s.io/v1", "EndpointSlice"),
            ("v1", "Endpoints"),
            ("autoscaling/v2", "HorizontalPodAutoscaler"),
            ("projectcalico.org/v3", "FelixConfiguration"),
            ("crd.projectcalico.org/v1", "FelixConfiguration"),
        ] {
            assert_eq!(relevance(version, kind), Relevance::Relevant, "{version} {kind}");
        }
        for (version, kind) in [
            ("v1", "ConfigMap"),
            ("networking.k8s.io/v1", "Ingress"),
            ("projectcalico.org/v3", "IPPool"),
            ("serving.knative.dev/v1", "Service"),
            ("", ""),
        ] {
            assert_eq!(relevance(version, kind), Relevance::Ignored, "{version} {kind}");
        }
        for (version, kind) in [
            ("crd.antrea.io/v1beta1", "NetworkPolicy"),
            ("crd.antrea.io/v1beta1", "ClusterNetworkPolicy"),
            ("cilium.io/v2", "CiliumNetworkPolicy"),
            ("v1", "EgressNetworkPolicy"),
            ("k8s.cni.cncf.io/v1beta1", "MultiNetworkPolicy"),
            ("networking.k8s.aws/v1alpha1", "ClusterNetworkPolicy"),
            ("projectcalico.org/v3", "EgressGatewayPolicy"),
            ("crd.projectcalico.org/v1", "EgressGatewayPolicy"),
        ] {
            assert_eq!(relevance(version, kind), Relevance::Foreign, "{version} {kind}");
        }
        for (version, kind) in [
            ("networking.k8s.io/v2", "NetworkPolicy"),
            ("policy.networking.k8s.io/v1alpha1", "ClusterNetworkPolicy"),
            ("policy.networking.k8s.io/v1alpha2", "NodeNetworkPolicy"),
            ("v2", "Pod"),
            ("apps/v1", "Pod"),
            ("k8sV1", "NetworkPolicy"),
            ("networking.k8s.io/v1", "GlobalNetworkPolicy"),
            ("projectcalico/v3", "NetworkPolicy"),
            ("networking.k8s.io/v1", "Networkpolicy"),
            ("networking.k8s.io/v1", "NetworkPolicys"),
            ("v1", "pod"),
            ("apps/v1", "Deploymnet"),
            ("crd.projectcalico.org/v1", "GlobalNetworkSets"),
            ("projectcalico.org/v1", "FelixConfiguration"),
            ("v1", "FelixConfiguration"),
            ("v1", "Networkpolicy"),
            ("apps/v1", "networkPolicy"),
            ("networking.k8s.io/v1", "XNetworkPolicy"),
            ("networking.k8.io/v1", "NetworkPolicy"),
            ("projectcalico.org/v3", "GlobaNetworkPolicy"),
            ("projectcalico.og/v3", "GlobalNetworkSet"),
            ("policy.network.k8s.io/v1alpha1", "Networkpolicy"),
        ] {
            assert!(matches!(relevance(version, kind), Relevance::Unsupported(_)), "{version} {kind}");
        }
    }

    #[test]
    fn kinds_of_a_server_are_not_taken_for_misspelt_ones() {
        for (version, kinds) in [
            (
                "v1",
                "ConfigMap Secret Event PersistentVolume PersistentVolumeClaim LimitRange ResourceQuota PodTemplate Binding",
            ),
            ("apps/v1", "ControllerRevision"),
            ("networking.k8s.io/v1", "Ingress IngressClass IPAddress ServiceCIDR"),
            ("extensions/v1beta1", "Ingress PodSecurityPolicy"),
            ("policy/v1", "PodDisruptionBudget PodSecurityPolicy Eviction"),
            ("rbac.authorization.k8s.io/v1", "Role RoleBinding ClusterRole ClusterRoleBinding"),
            ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy MutatingAdmissionPolicy"),
            (
                "gateway.networking.k8s.io/v1",
                "Gateway GatewayClass HTTPRoute BackendTLSPolicy ReferenceGrant",
            ),
            ("node.k8s.io/v1", "RuntimeClass"),
            ("storage.k8s.io/v1", "StorageClass CSIDriver CSINode"),
            (
                "projectcalico.org/v3",
                "IPPool BGPPeer BGPConfiguration NodeStatus ClusterInformation IPReservation",
            ),
        ] {
            for kind in kinds.split(' ') {
                assert_eq!(relevance(version, kind), Relevance::Ignored, "{version} {kind}");
            }
        }
    }
}
