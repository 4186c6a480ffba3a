//! Calico's kinds that policy depends on.

use crate::meta::Placing;

/// One of Calico's kinds that policy depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CalicoKind {
    Policy(PolicyKind),
    StagedKubernetes,
    Tier,
    NetworkSet,
    GlobalNetworkSet,
    HostEndpoint,
    WorkloadEndpoint,
    Profile,
}

/// The four kinds of policy that hold Calico rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PolicyKind {
    /// `NetworkPolicy`.
    Namespaced,
    /// `GlobalNetworkPolicy`.
    Global,
    /// `StagedNetworkPolicy`.
    StagedNamespaced,
    /// `StagedGlobalNetworkPolicy`.
    StagedGlobal,
}

/// The group that an object was given in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// `projectcalico.org`: the API, which validates.
    Api,
    /// `crd.projectcalico.org`: its storage in the cluster, which does not.
    Storage,
}

impl CalicoKind {
    /// All of them.
    pub(crate) const ALL: [Self; 11] = [
        Self::Policy(PolicyKind::Global),
        Self::GlobalNetworkSet,
        Self::HostEndpoint,
        Self::Policy(PolicyKind::Namespaced),
        Self::NetworkSet,
        Self::Profile,
        Self::Policy(PolicyKind::StagedGlobal),
        Self::StagedKubernetes,
        Self::Policy(PolicyKind::StagedNamespaced),
        Self::Tier,
        Self::WorkloadEndpoint,
    ];

    /// The kind that the API spells so.
    pub(super) fn of(kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.api_name() == kind)
    }

    /// The kind as the API spells it.
    pub(crate) const fn api_name(self) -> &'static str {
        match self {
            Self::Policy(kind) => kind.api_name(),
            Self::StagedKubernetes => "StagedKubernetesNetworkPolicy",
            Self::Tier => "Tier",
            Self::NetworkSet => "NetworkSet",
            Self::GlobalNetworkSet => "GlobalNetworkSet",
            Self::HostEndpoint => "HostEndpoint",
            Self::WorkloadEndpoint => "WorkloadEndpoint",
            Self::Profile => "Profile",
        }
    }

    /// The kind in the identity of an object, see [`PolicyKind::id_name`].
    pub(crate) const fn id_name(self) -> &'static str {
        match self {
            Self::Policy(kind) => kind.id_name(),
            _ => self.api_name(),
        }
    }

    /// Whether objects of this kind live in a namespace.
    pub(crate) const fn placing(self) -> Placing {
        match self {
            Self::Policy(PolicyKind::Namespaced | PolicyKind::StagedNamespaced)
            | Self::StagedKubernetes
            | Self::NetworkSet
            | Self::WorkloadEndpoint => Placing::Namespaced,
            Self::Policy(PolicyKind::Global | PolicyKind::StagedGlobal)
            | Self::Tier
            | Self::GlobalNetworkSet
            | Self::HostEndpoint
            | Self::Profile => Placing::Cluster,
        }
    }
}

impl PolicyKind {
    /// The kind in the identity of the policy. The kind NetworkPolicy also exists in Kubernetes, so Calico's is
    /// written with its group, as `kubectl` does.
    pub(crate) const fn id_name(self) -> &'static str {
        match self {
            Self::Namespaced => "NetworkPolicy.projectcalico.org",
            _ => self.api_name(),
        }
    }

    /// The kind as the API spells it, by which ties are broken.
    pub(crate) const fn api_name(self) -> &'static str {
        match self {
            Self::Namespaced => "NetworkPolicy",
            Self::Global => "GlobalNetworkPolicy",
            Self::StagedNamespaced => "StagedNetworkPolicy",
            Self::StagedGlobal => "StagedGlobalNetworkPolicy",
        }
    }

    pub(crate) const fn is_global(self) -> bool {
        matches!(self, Self::Global | Self::StagedGlobal)
    }

    pub(crate) const fn is_staged(self) -> bool {
        matches!(self, Self::StagedNamespaced | Self::StagedGlobal)
    }
}

/// The versions of these kinds, with the group of each.
pub(super) const API_VERSIONS: [(&str, Group); 2] =
    [("projectcalico.org/v3", Group::Api), ("crd.projectcalico.org/v1", Group::Storage)];
