//! What is there without an object of its own.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use portcullis_core::label::{Labels, Name};
use portcullis_core::model::{
    Action, Cluster, Directions, Namespace, Placement, Policy, Profile, ProfileOrigin, Rule, Update,
};
use portcullis_core::reference::Reference;
use portcullis_core::settings::Settings;

use crate::cluster::METADATA_NAME;
use crate::error::{ConvertError, ConvertErrors, ObjectRef, Warning};
use crate::tier;

/// The prefix of the profile of a namespace. Source: Calico `libcalico-go/lib/backend/k8s/conversion/constants.go`.
const NAMESPACE_PROFILE: &str = "kns.";
/// The prefix of the profile of a service account. Source: as above.
const SERVICE_ACCOUNT_PROFILE: &str = "ksa.";
/// The profile that allows everything. Source: Calico `libcalico-go/lib/resources/profile.go`.
const ALLOW_PROFILE: &str = "projectcalico-default-allow";

/// Adds the built-in tiers, and warns of policies whose tier does not exist (decision D3).
pub(crate) fn tiers(updates: &mut Vec<Update>, warnings: &mut Vec<Warning>) {
    let mut known: BTreeSet<Name> = updates
        .iter()
        .filter_map(|update| match update {
            Update::Tier(tier) => Some(tier.name.clone()),
            _ => None,
        })
        .collect();
    for tier in tier::built_in() {
        if known.insert(tier.name.clone()) {
            updates.push(Update::Tier(tier));
        }
    }
    for update in &*updates {
        let Update::Policy(policy) = update else { continue };
        if !known.contains(&policy.tier) {
            warnings.push(missing_tier(policy));
        }
    }
}

/// Says that the tier of `policy` does not exist.
pub(crate) fn missing_tier(policy: &Policy) -> Warning {
    Warning {
        object: object_of(policy),
        field: "spec.tier".into(),
        message: format!(
            "tier `{}` does not exist: the policy applies after all tiers, and denies what it does not allow",
            policy.tier
        ),
    }
}

/// Warns of untracked policies that select a host endpoint for all interfaces, where they do not act (decision D25).
/// Source: Calico `felix/dataplane/linux/endpoint_mgr.go`, `updateHostEndpoints`.
pub(crate) fn untracked_on_wildcards(updates: &[Update], warnings: &mut Vec<Warning>) {
    // A host endpoint has the labels of its own and of its profiles, so nothing else is needed to select one.
    let seen = updates.iter().filter(|update| match update {
        Update::Endpoint(endpoint) => endpoint.is_wildcard(),
        Update::Profile(_) => true,
        _ => false,
    });
    let (cluster, settings) = (seen.cloned().collect::<Cluster>(), Settings::default());
    let reference = Reference::new(&cluster, &settings);
    let untracked = updates.iter().filter_map(|update| match update {
        Update::Policy(policy) if policy.placement == Placement::Untracked => Some(policy),
        _ => None,
    });
    for policy in untracked {
        let mut selected = cluster.endpoints().keys().filter(|endpoint| reference.selects(policy, endpoint));
        let Some(first) = selected.next() else { continue };
        let others = match selected.count() {
            0 => String::new(),
            1 => " and one more".into(),
            others => format!(" and {others} more"),
        };
        warnings.push(Warning {
            object: object_of(policy),
            field: "spec.doNotTrack".into(),
            message: format!(
                "ignored for HostEndpoint {}{others}: untracked policy does not act on an endpoint with \
                 `interfaceName: \"*\"`",
                first.name
            ),
        });
    }
}

/// How messages call a policy.
fn object_of(policy: &Policy) -> ObjectRef {
    ObjectRef {
        kind: policy.id.kind.split('.').next().unwrap_or_default().to_string(),
        namespace: policy.id.namespace.as_ref().map(ToString::to_string),
        name: policy.id.name.to_string(),
    }
}

/// Adds the profiles that endpoints refer to and that exist without an object: those of namespaces, which allow
/// everything, those of service accounts, which have no rules, and Calico's default for host endpoints.
pub(super) fn profiles(updates: &mut Vec<Update>) {
    let (mut known, mut used) = (BTreeSet::new(), BTreeSet::new());
    for update in &*updates {
        match update {
            Update::Profile(profile) => {
                known.insert(profile.name.clone());
            }
            Update::Endpoint(endpoint) => used.extend(endpoint.profiles.iter().cloned()),
            _ => {}
        }
    }
    updates.extend(used.difference(&known).filter_map(implicit_profile).map(Update::Profile));
}

/// The profile that a name stands for when no object describes it.
pub(crate) fn implicit_profile(name: &Name) -> Option<Profile> {
    let allow = || vec![Rule::new(Action::Allow)];
    let (rules, origin): (fn() -> Vec<Rule>, _) = if name.starts_with(NAMESPACE_PROFILE) {
        (allow, ProfileOrigin::Implicit)
    } else if name.starts_with(SERVICE_ACCOUNT_PROFILE) {
        (Vec::new, ProfileOrigin::Implicit)
    } else if name.as_str() == ALLOW_PROFILE {
        (allow, ProfileOrigin::Declared)
    } else {
        return None;
    };
    Some(Profile { name: name.clone(), ingress: rules(), egress: rules(), labels: Labels::new(), origin })
}

/// Adds namespaces and service accounts that only profiles describe. Where the object itself was given, it is what
/// Calico makes the profile from, so it alone counts.
pub(super) fn inherited(described: Vec<Update>, updates: &mut Vec<Update>) {
    let key = |update: &Update| match update {
        Update::Namespace(o) => Some((o.name.clone(), None)),
        Update::ServiceAccount(o) => Some((o.namespace.clone(), Some(o.name.clone()))),
        _ => None,
    };
    let given: BTreeSet<_> = updates.iter().filter_map(key).collect();
    for mut update in described {
        if key(&update).is_none_or(|key| given.contains(&key)) {
            continue;
        }
        if let Update::Namespace(namespace) = update {
            update = Update::Namespace(named(namespace));
        }
        updates.push(update);
    }
}

/// A namespace with the label that the server would set.
pub(crate) fn named(mut namespace: Namespace) -> Namespace {
    namespace.labels.insert(METADATA_NAME, namespace.name.clone());
    namespace
}

/// A namespace of which nothing is known but that something is in it.
pub(crate) fn bare_namespace(name: &Name) -> Namespace {
    named(Namespace { name: name.clone(), labels: Labels::new() })
}

/// Refuses workload endpoints of the same pod: one of them would be lost.
pub(super) fn check_endpoints(updates: &[Update]) -> Result<(), ConvertErrors> {
    let mut seen = BTreeSet::new();
    let mut errors = Vec::new();
    for update in updates {
        let Update::Endpoint(endpoint) = update else { continue };
        if !seen.insert(&endpoint.id) {
            let object = ObjectRef {
                kind: "WorkloadEndpoint".into(),
                namespace: endpoint.id.namespace.as_ref().map(ToString::to_string),
                name: endpoint.id.name.to_string(),
            };
            let reason = format!("two workload endpoints are those of the pod `{}`", endpoint.id.name);
            errors.push(ConvertError::new(object, "spec.pod", reason));
        }
    }
    ConvertErrors::check(errors)
}

/// Adds the namespaces that objects are in and that were not given, with the label that the server would set.
pub(super) fn namespaces(updates: &mut Vec<Update>) {
    let (mut known, mut used) = (BTreeSet::new(), BTreeSet::new());
    for update in &*updates {
        match update {
            Update::Namespace(namespace) => {
                known.insert(namespace.name.clone());
            }
            other => used.extend(namespace_of(other).cloned()),
        }
    }
    updates.extend(used.difference(&known).map(bare_namespace).map(Update::Namespace));
}

/// The namespace that a part of the model is in.
pub(crate) const fn namespace_of(part: &Update) -> Option<&Name> {
    match part {
        Update::Policy(policy) => policy.id.namespace.as_ref(),
        Update::Endpoint(endpoint) => endpoint.id.namespace.as_ref(),
        Update::NetworkSet(set) => set.id.namespace.as_ref(),
        Update::ServiceAccount(account) => Some(&account.namespace),
        Update::Service(service) => Some(&service.id.namespace),
        _ => None,
    }
}

/// Keeps the Baseline tier away from pods that a NetworkPolicy selects, in the directions it does not isolate
/// (decision D8, the other reading): behind the tier of NetworkPolicies, such a policy allows everything else.
/// Source: kube-network-policies `pkg/networkpolicy`, where any selecting policy gives a final verdict.
pub(super) fn shield_baseline(updates: &mut Vec<Update>) {
    let policies = updates.iter().filter_map(|update| match update {
        Update::Policy(policy) => Some(policy),
        _ => None,
    });
    let shields: Vec<Update> = policies.filter_map(shield_of).map(Update::Policy).collect();
    if !shields.is_empty() {
        updates.push(Update::Tier(tier::shield()));
        updates.extend(shields);
    }
}

/// The policy that keeps the Baseline tier away from what `policy` selects, in the directions that it does not isolate.
pub(crate) fn shield_of(policy: &Policy) -> Option<Policy> {
    let directions = Directions { ingress: !policy.directions.ingress, egress: !policy.directions.egress };
    if policy.id.kind.as_str() != "NetworkPolicy" || directions == Directions::NONE {
        return None;
    }
    let mut shield =
        Policy::new(tier::shield_id(&policy.id), tier::SHIELD, policy.subject.clone(), directions);
    for (is_on, rules) in [(directions.ingress, &mut shield.ingress), (directions.egress, &mut shield.egress)]
    {
        if is_on {
            rules.push(Rule::new(Action::Allow));
        }
    }
    Some(shield)
}
