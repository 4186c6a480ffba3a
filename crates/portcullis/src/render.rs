//! Rules, selectors and causes in words, for people: what a command line, a report or an agent's log prints.
//!
//! Everything is said in the language of the object it comes from: a Kubernetes policy in label selectors and without
//! tiers or profiles, which Kubernetes does not have, a Calico policy in Calico's selectors and with both. Texts are one
//! line; programs read [`Report`](crate::scenario::Report) instead.

mod cause;
mod rule;
mod selector;
mod trace;

use portcullis_core::label::Name;
use portcullis_core::model::PolicyId;

pub use cause::{Renderer, cause};
pub use rule::rule;
pub use selector::selector;
pub use trace::{TracedHook, TracedStep};

/// The language that an object is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dialect {
    /// Kubernetes: NetworkPolicy, ClusterNetworkPolicy, AdminNetworkPolicy, BaselineAdminNetworkPolicy.
    Kubernetes,
    /// Calico: selectors, tiers, profiles.
    Calico,
}

impl Dialect {
    /// The dialect of a policy, by its kind.
    #[must_use]
    pub fn of(policy: &PolicyId) -> Self {
        match policy.kind.as_str() {
            "NetworkPolicy"
            | "StagedKubernetesNetworkPolicy"
            | "ClusterNetworkPolicy"
            | "AdminNetworkPolicy"
            | "BaselineAdminNetworkPolicy" => Self::Kubernetes,
            _ => Self::Calico,
        }
    }
}

/// What a tier is called where its policies are Kubernetes': `None` for a tier that only Calico has.
fn kubernetes_tier(tier: &Name) -> Option<&'static str> {
    match tier.as_str() {
        "kube-admin" => Some("tier Admin"),
        "default" => Some("NetworkPolicies"),
        "kube-baseline" => Some("tier Baseline"),
        _ => None,
    }
}
