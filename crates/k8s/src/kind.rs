//! Kinds of objects: which of them policy depends on, and how each is read.

mod calico;
mod fields;
#[cfg(test)]
mod tests;

use alloc::format;
use alloc::string::String;

use portcullis_core::quote::quoted;

use crate::foreign;
use crate::meta::Placing;
use crate::near;
use crate::workload::WorkloadKind;

use calico::API_VERSIONS;
pub(crate) use calico::{CalicoKind, Group, PolicyKind};

/// A kind of object that policy depends on, in one of its versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(Known);

/// Whether policy depends on objects of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Relevance {
    /// It does: read it with [`Object::deserialize`](crate::Object::deserialize).
    Relevant(Kind),
    /// It does not: skip the object.
    Ignored,
    /// It is a policy of another network plugin, which is not read: answers leave it out, and must say so (decision
    /// D30).
    Foreign,
    /// It would, but the object's version or kind is not known, so skipping it could change verdicts. Holds the
    /// reason, one line.
    Unsupported(String),
}

/// How an object is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
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
    Calico(CalicoKind, Group),
}

impl Kind {
    /// Classifies a kind by the `apiVersion` and `kind` of a document. Do so once, and hand the kind on.
    ///
    /// ```
    /// use portcullis_k8s::{Kind, Relevance};
    ///
    /// assert!(matches!(Kind::of("networking.k8s.io/v1", "NetworkPolicy"), Relevance::Relevant(_)));
    /// assert_eq!(Kind::of("v1", "ConfigMap"), Relevance::Ignored);
    /// assert_eq!(Kind::of("cilium.io/v2", "CiliumNetworkPolicy"), Relevance::Foreign);
    /// ```
    #[must_use]
    pub fn of(api_version: &str, kind: &str) -> Relevance {
        match Known::find(api_version, kind) {
            Ok(known) => Relevance::Relevant(Self(known)),
            Err(relevance) => relevance,
        }
    }

    /// The kind, as a user writes it. The kind NetworkPolicy exists in Kubernetes and in Calico, so Calico's is written with
    /// its group, as `kubectl` does. All versions of a kind have one name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            Known::Namespace => "Namespace",
            Known::ServiceAccount => "ServiceAccount",
            Known::Node => "Node",
            Known::Pod => "Pod",
            Known::Service => "Service",
            Known::EndpointSlice => "EndpointSlice",
            Known::Endpoints => "Endpoints",
            Known::HorizontalPodAutoscaler => "HorizontalPodAutoscaler",
            Known::Workload(kind) => kind.name(),
            Known::NetworkPolicy | Known::ExtensionsNetworkPolicy => "NetworkPolicy",
            Known::ClusterNetworkPolicy => "ClusterNetworkPolicy",
            Known::AdminNetworkPolicy => "AdminNetworkPolicy",
            Known::BaselineAdminNetworkPolicy => "BaselineAdminNetworkPolicy",
            Known::FelixConfiguration => "FelixConfiguration",
            Known::Calico(kind, _) => kind.id_name(),
        }
    }

    /// Whether objects of this kind live in a namespace.
    #[must_use]
    pub const fn is_namespaced(self) -> bool {
        matches!(self.placing(), Placing::Namespaced)
    }

    pub(crate) const fn placing(self) -> Placing {
        match self.0 {
            Known::Namespace
            | Known::Node
            | Known::ClusterNetworkPolicy
            | Known::AdminNetworkPolicy
            | Known::BaselineAdminNetworkPolicy
            | Known::FelixConfiguration => Placing::Cluster,
            Known::ServiceAccount
            | Known::Pod
            | Known::Service
            | Known::EndpointSlice
            | Known::Endpoints
            | Known::HorizontalPodAutoscaler
            | Known::Workload(_)
            | Known::NetworkPolicy
            | Known::ExtensionsNetworkPolicy => Placing::Namespaced,
            Known::Calico(kind, _) => kind.placing(),
        }
    }

    /// Whether its objects are policies.
    #[must_use]
    pub const fn is_policy(self) -> bool {
        matches!(
            self.0,
            Known::NetworkPolicy
                | Known::ExtensionsNetworkPolicy
                | Known::ClusterNetworkPolicy
                | Known::AdminNetworkPolicy
                | Known::BaselineAdminNetworkPolicy
                | Known::Calico(CalicoKind::Policy(_) | CalicoKind::StagedKubernetes, _)
        )
    }

    /// How its objects are read.
    pub(crate) const fn known(self) -> Known {
        self.0
    }
}

impl Relevance {
    /// The kind, when policy depends on its objects.
    #[must_use]
    pub const fn kind(&self) -> Option<Kind> {
        match self {
            Self::Relevant(kind) => Some(*kind),
            _ => None,
        }
    }
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
            ("projectcalico.org" | "crd.projectcalico.org", _) => {
                return Self::find_calico(group, api_version, kind);
            }
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

    /// Calico's kinds: their versions are told with their groups. The other kinds of these groups configure Calico
    /// itself, but for policies of its other editions.
    fn find_calico(group: &str, api_version: &str, kind: &str) -> Result<Self, Relevance> {
        let Some(known) = CalicoKind::of(kind) else { return Err(unread(group, kind)) };
        match API_VERSIONS.iter().find(|(version, _)| *version == api_version) {
            Some((_, group)) => Ok(Self::Calico(known, *group)),
            None => Err(Relevance::Unsupported(format!(
                "version {} of kind `{kind}` is not known, only `{}`",
                quoted(api_version),
                API_VERSIONS.map(|(version, _)| version).join("`, `")
            ))),
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
        _ if CalicoKind::of(kind).is_some() => "projectcalico.org/v3",
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
fn unread(group: &str, kind: &str) -> Relevance {
    let known: &[&str] = match group {
        "" => {
            &["Namespace", "ServiceAccount", "Node", "Pod", "Service", "Endpoints", "ReplicationController"]
        }
        "apps" => &["Deployment", "DaemonSet", "ReplicaSet", "StatefulSet"],
        "batch" => &["Job", "CronJob"],
        "discovery.k8s.io" => &["EndpointSlice"],
        "networking.k8s.io" | "extensions" => &["NetworkPolicy"],
        _ => &[],
    };
    let is_calico = group.ends_with("projectcalico.org");
    let felix: &[&str] = if is_calico { &["FelixConfiguration"] } else { &[] };
    let is_served = matches!(group, "projectcalico.org" | "crd.projectcalico.org");
    let calico = CalicoKind::ALL.iter().filter(|_| is_served).map(|kind| kind.api_name());
    let is_own = !group.contains('.') || group.ends_with(".k8s.io");
    let policies: &[&str] = if is_own { &POLICIES } else { &[] };
    let known = known.iter().chain(felix).chain(policies).copied().chain(calico);
    match known.into_iter().find(|known| near::is_near(kind, known)) {
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
