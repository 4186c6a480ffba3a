//! Doubts that only show when all objects are known.
//!
//! Each is one warning for the whole input, with the first few of what it is about.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Display;
use core::net::IpAddr;

use portcullis_core::label::{NAME_KEY, Name, Scope};
use portcullis_core::model::{EndpointId, EndpointKind, EntityMatch, Policy, Update};
use portcullis_core::selector::Expr;

use crate::cluster::METADATA_NAME;
use crate::error::{ObjectRef, Warning};
use crate::workload::{Owner, PodRecord};

/// Warns of namespaces that hold pods or network sets and were not given, when a policy asks for labels of namespaces:
/// it finds none on them but their name.
pub(crate) fn unknown_namespaces(updates: &[Update], warnings: &mut Vec<Warning>) {
    let given: BTreeSet<&Name> = updates
        .iter()
        .filter_map(|update| match update {
            Update::Namespace(namespace) => Some(&namespace.name),
            _ => None,
        })
        .collect();
    let unknown: BTreeSet<&Name> = updates
        .iter()
        .filter_map(|update| match update {
            Update::Endpoint(endpoint) => endpoint.id.namespace.as_ref(),
            Update::NetworkSet(set) => set.id.namespace.as_ref(),
            _ => None,
        })
        .filter(|namespace| !given.contains(*namespace))
        .collect();
    if unknown.is_empty() {
        return;
    }
    let asking = updates.iter().find_map(|update| match update {
        Update::Policy(policy) => Some((policy, asked_label(policy)?)),
        _ => None,
    });
    let Some((policy, label)) = asking else { return };
    let which = some_of("namespace", unknown.iter());
    let lacking = match unknown.len() {
        1 => "is not in the input: it has no labels but its name here",
        _ => "are not in the input: they have no labels but their names here",
    };
    let message = format!("asks for the label `{label}` of namespaces, and {which} {lacking}");
    warnings.push(Warning { object: policy_reference(policy), field: String::new(), message });
}

/// The first label of namespaces that a policy asks for, names apart.
fn asked_label(policy: &Policy) -> Option<Name> {
    let mut found = None;
    let mut look = |expr: &Expr| {
        expr.for_each_label(|label| {
            if label.scope == Scope::Namespace && label.key != NAME_KEY && label.key != METADATA_NAME {
                found.get_or_insert_with(|| label.key.clone());
            }
        });
    };
    look(&policy.subject.expr);
    for rule in policy.ingress.iter().chain(&policy.egress) {
        for side in rule.peers.iter().chain(core::iter::once(&rule.local)) {
            let EntityMatch { selector, not_selector, .. } = side;
            selector.iter().chain(not_selector).for_each(|selector| look(&selector.expr));
        }
    }
    found
}

/// How messages call a policy.
fn policy_reference(policy: &Policy) -> ObjectRef {
    ObjectRef {
        kind: policy.id.kind.to_string(),
        namespace: policy.id.namespace.as_ref().map(ToString::to_string),
        name: policy.id.name.to_string(),
    }
}

/// Warns of objects that make pods and are of a kind that is not read, when none of their pods is in the input: no
/// pod stands for them, so no answer is about them.
pub(super) fn unread_workloads<'a>(
    unread: &BTreeSet<ObjectRef>,
    pods: impl Iterator<Item = &'a PodRecord>,
    warnings: &mut Vec<Warning>,
) {
    if unread.is_empty() {
        return;
    }
    let mut owners: BTreeMap<&str, BTreeSet<&Owner>> = BTreeMap::new();
    for pod in pods {
        let namespace = pod.endpoint.id.namespace.as_deref().unwrap_or_default();
        owners.entry(namespace).or_default().extend(&pod.owners);
    }
    let has_pods = |workload: &ObjectRef| {
        let owners = owners.get(workload.namespace.as_deref().unwrap_or_default());
        owners.into_iter().flatten().any(|owner| makes(workload, owner))
    };
    let without: Vec<&ObjectRef> = unread.iter().filter(|workload| !has_pods(workload)).collect();
    let Some(first) = without.first() else { return };
    let message = match without.len() {
        1 => "makes pods, and objects of its kind are not read: no pod stands for it".into(),
        _ => format!(
            "makes pods, and objects of its kind are not read: no pod stands for it; the same holds for {}",
            some_of("other", without.iter().skip(1))
        ),
    };
    warnings.push(Warning { object: (*first).clone(), field: String::new(), message });
}

/// Whether `owner` is the workload, or what it made to make pods: by the way controllers name these.
fn makes(workload: &ObjectRef, owner: &Owner) -> bool {
    let direct = owner.kind.as_str() == workload.kind && owner.name.as_str() == workload.name;
    let between =
        ["ReplicaSet", "ReplicationController", "StatefulSet", "Job"].contains(&owner.kind.as_str());
    let suffix = owner.name.strip_prefix(workload.name.as_str()).and_then(|rest| rest.strip_prefix('-'));
    let plain =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    direct || (between && suffix.is_some_and(plain))
}

/// Warns of addresses that two running pods have: a stale object, or an address that was given out again.
pub(crate) fn shared_addresses(updates: &[Update], warnings: &mut Vec<Warning>) {
    let mut owned: Vec<(IpAddr, &EndpointId)> = updates
        .iter()
        .filter_map(|update| match update {
            Update::Endpoint(endpoint) if endpoint.id.kind == EndpointKind::Workload => Some(endpoint),
            _ => None,
        })
        .flat_map(|endpoint| endpoint.addresses.iter().map(|address| (*address, &endpoint.id)))
        .collect();
    owned.sort_unstable();
    let shared: Vec<(IpAddr, &EndpointId, &EndpointId)> = owned
        .windows(2)
        .filter_map(|pair| match pair {
            [(address, one), (again, other)] if address == again && one != other => {
                Some((*address, *one, *other))
            }
            _ => None,
        })
        .collect();
    let Some((address, one, other)) = shared.first() else { return };
    let mut message =
        format!("has the address `{address}`, which the pod {other} has as well: one of them is stale");
    if shared.len() > 1 {
        let others =
            shared.iter().skip(1).map(|(address, one, other)| format!("{address} of {one} and {other}"));
        message.push_str("; the same holds for ");
        message.push_str(&some_of("other address", others));
    }
    let object = ObjectRef {
        kind: "Pod".into(),
        namespace: one.namespace.as_ref().map(ToString::to_string),
        name: one.name.to_string(),
    };
    warnings.push(Warning { object, field: String::new(), message });
}

/// How many there are, and the first few of them.
fn some_of<T: Display>(noun: &str, items: impl ExactSizeIterator<Item = T>) -> String {
    const SHOWN: usize = 3;
    let count = items.len();
    let mut text = format!(
        "{count} {noun}{}",
        if count == 1 {
            ""
        } else if noun.ends_with('s') {
            "es"
        } else {
            "s"
        }
    );
    let mut before = " (";
    for item in items.take(SHOWN) {
        text.push_str(before);
        text.push_str(&item.to_string());
        before = ", ";
    }
    text.push_str(if count > SHOWN { ", …)" } else { ")" });
    text
}
