//! The tiers that always exist, and the compatibility tier of decision D8.

use alloc::vec;
use alloc::vec::Vec;

use portcullis_core::label::Name;
use portcullis_core::model::{DefaultAction, Order, Tier};

/// The tier of ClusterNetworkPolicies of tier `Admin`.
pub(crate) const ADMIN: &str = "kube-admin";
/// The tier of NetworkPolicies, and of Calico policies that name none.
pub(crate) const DEFAULT: &str = "default";
/// The tier of ClusterNetworkPolicies of tier `Baseline`.
pub(crate) const BASELINE: &str = "kube-baseline";
/// The tier that keeps isolated pods away from [`BASELINE`]; see [`crate::BaselineReading::PerPod`].
pub(crate) const SHIELD: &str = "networkpolicy-shields-baseline";

/// The position of [`SHIELD`]: after `default`, before `kube-baseline`.
const SHIELD_ORDER: u32 = 9_999_999;

/// The tiers that exist without an object of theirs. Source: Calico `libcalico-go/lib/names/policy.go`.
pub(crate) fn built_in() -> Vec<Tier> {
    let tier = |name: &str, order: u32, default_action| Tier {
        name: Name::new(name),
        order: Some(Order::from(order)),
        default_action,
    };
    vec![
        tier(ADMIN, 1_000, DefaultAction::Pass),
        tier(DEFAULT, 1_000_000, DefaultAction::Deny),
        tier(BASELINE, 10_000_000, DefaultAction::Pass),
    ]
}

/// The tier [`SHIELD`].
pub(crate) fn shield() -> Tier {
    Tier {
        name: Name::new(SHIELD),
        order: Some(Order::from(SHIELD_ORDER)),
        default_action: DefaultAction::Pass,
    }
}
