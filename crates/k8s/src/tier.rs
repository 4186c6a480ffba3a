//! The tiers that always exist, and the compatibility tier of decision D8.

use portcullis_core::label::Name;
use portcullis_core::model::{DefaultAction, Order, PolicyId, Tier};

/// The tier of ClusterNetworkPolicies of tier `Admin`.
pub(crate) const ADMIN: &str = "kube-admin";
/// The tier of NetworkPolicies, and of Calico policies that name none.
pub(crate) const DEFAULT: &str = "default";
/// The tier of ClusterNetworkPolicies of tier `Baseline`.
pub(crate) const BASELINE: &str = "kube-baseline";
/// The tier that keeps isolated pods away from the Baseline tier; see [`crate::BaselineReading::PerPod`].
pub const SHIELD: &str = "networkpolicy-shields-baseline";

/// What is added to the name of a NetworkPolicy for its policy in [`SHIELD`]; no object can have such a name.
const SHIELD_SUFFIX: &str = "#baseline";

/// The id of the policy in [`SHIELD`] that stands for the NetworkPolicy `policy`.
pub(crate) fn shield_id(policy: &PolicyId) -> PolicyId {
    let name = alloc::format!("{}{SHIELD_SUFFIX}", policy.name);
    PolicyId::new(policy.kind.clone(), policy.namespace.clone(), name)
}

/// The NetworkPolicy that `policy` of the tier [`SHIELD`] stands for; `None` for the policies that users write.
#[must_use]
pub fn shielding_policy(policy: &PolicyId) -> Option<PolicyId> {
    let name = policy.name.as_str().strip_suffix(SHIELD_SUFFIX)?;
    Some(PolicyId::new(policy.kind.clone(), policy.namespace.clone(), name))
}

/// The position of [`SHIELD`]: after `default`, before `kube-baseline`.
const SHIELD_ORDER: u32 = 9_999_999;

/// The tiers that exist without an object of theirs. Source: Calico `libcalico-go/lib/names/policy.go`.
const BUILT_IN: [(&str, u32, DefaultAction); 3] = [
    (ADMIN, 1_000, DefaultAction::Pass),
    (DEFAULT, 1_000_000, DefaultAction::Deny),
    (BASELINE, 10_000_000, DefaultAction::Pass),
];

/// The tiers that exist without an object of theirs.
pub(crate) fn built_in() -> impl Iterator<Item = Tier> {
    BUILT_IN.into_iter().map(|(name, order, default_action)| Tier {
        name: Name::new(name),
        order: Some(Order::from(order)),
        default_action,
    })
}

/// Whether the position and the end of a tier are known without its object.
pub(crate) fn is_built_in(name: &str) -> bool {
    BUILT_IN.iter().any(|(known, ..)| *known == name)
}

/// The tier of policies that exist and of which it is not known where they belong: before all others. Such policies deny. No object
/// can have such a name, so that no policy of a user gets in here.
pub const CLOSED: &str = "#unreadable-policies";

/// The position before all others.
pub(crate) fn first() -> Order {
    Order::new(f64::MIN).unwrap_or(Order::from(0))
}

/// The tier [`CLOSED`].
pub(crate) fn closed() -> Tier {
    Tier { name: Name::new(CLOSED), order: Some(first()), default_action: DefaultAction::Deny }
}

/// The tier [`SHIELD`].
pub(crate) fn shield() -> Tier {
    Tier {
        name: Name::new(SHIELD),
        order: Some(Order::from(SHIELD_ORDER)),
        default_action: DefaultAction::Pass,
    }
}
