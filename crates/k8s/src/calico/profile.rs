//! Profiles.

use alloc::format;

use portcullis_core::label::{Labels, NAME_KEY, Name};
use portcullis_core::model::{Action, Namespace, Profile, ProfileOrigin, Rule, ServiceAccount};
use portcullis_core::quote::quoted;

use crate::calico::endpoint::{NAMESPACE_PREFIX, SERVICE_ACCOUNT_PREFIX};
use crate::calico::families::Families;
use crate::calico::rule::{self, Direction, Rules};
use crate::calico::spec::ProfileSpec;
use crate::context::Context;
use crate::form::{Carrier, ProfileRecord};
use crate::meta;
use crate::path::Path;
use crate::validate;

/// Whose labels a profile carries, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owner {
    /// `kns.NAMESPACE`: those of a namespace, marked `pcns.`.
    Namespace(Name),
    /// `ksa.NAMESPACE.ACCOUNT`: those of a service account, marked `pcsa.`.
    ServiceAccount(Name, Name),
    /// Any other name: nobody's.
    Nobody,
}

/// Converts a profile.
///
/// Calico gives endpoints the labels of their namespace and service account through the profiles `kns.…` and
/// `ksa.…`, marked by a prefix. Here those labels belong to the namespace and the service account themselves, so
/// such a profile also carries them for one of these. Source: Calico
/// `libcalico-go/lib/backend/k8s/conversion/conversion.go`.
pub(super) fn convert(
    cx: &mut Context<'_>,
    name: &Name,
    spec: &ProfileSpec,
    families: Families,
) -> ProfileRecord {
    let path = Path::root("spec");
    if spec.types.is_some() {
        cx.warn(&path.field("types"), "a profile has no types, the field does nothing");
    }
    let common = Rules { namespace: None, families };
    let ingress_path = path.field("ingress");
    let ingress = rule::rules(cx, &ingress_path, spec.ingress.as_deref(), Direction::Ingress, common);
    let egress_path = path.field("egress");
    let egress = rule::rules(cx, &egress_path, spec.egress.as_deref(), Direction::Egress, common);
    for (path, rules) in [(&ingress_path, &ingress), (&egress_path, &egress)] {
        warn_of_pass(cx, path, rules);
    }

    let labels_path = path.field("labelsToApply");
    meta::check_labels(spec.labels_to_apply.as_ref(), &labels_path, cx);
    let owner = owner(cx, name);
    let (mut own, mut carried) = (Labels::new(), Labels::new());
    for (key, value) in spec.labels_to_apply.iter().flatten() {
        let path = labels_path.key(key);
        let (marker, bare) = if let Some(bare) = key.strip_prefix(NAMESPACE_PREFIX) {
            (Some(matches!(owner, Owner::Namespace(_))), bare)
        } else if let Some(bare) = key.strip_prefix(SERVICE_ACCOUNT_PREFIX) {
            (Some(matches!(owner, Owner::ServiceAccount(..))), bare)
        } else {
            (None, key.as_str())
        };
        match marker {
            None => drop(own.insert(cx.name(bare), cx.name(value))),
            Some(false) => cx.error(
                &path,
                "a label of a namespace (`pcns.`) needs a profile `kns.NAMESPACE`, one of a service account (`pcsa.`) a profile `ksa.NAMESPACE.ACCOUNT`",
            ),
            Some(true) if bare == NAME_KEY => check_given_name(cx, &path, &owner, value),
            Some(true) => drop(carried.insert(cx.name(bare), cx.name(value))),
        }
    }

    let profile =
        Profile { name: name.clone(), ingress, egress, labels: own, origin: ProfileOrigin::Declared };
    let carrier = match owner {
        _ if carried.is_empty() => None,
        Owner::Namespace(name) => Some(Carrier::Namespace(Namespace { name, labels: carried })),
        Owner::ServiceAccount(namespace, name) => {
            Some(Carrier::ServiceAccount(ServiceAccount { namespace, name, labels: carried }))
        }
        Owner::Nobody => None,
    };
    ProfileRecord { profile, carrier }
}

fn owner(cx: &mut Context<'_>, name: &Name) -> Owner {
    if let Some(namespace) = name.strip_prefix("kns.")
        && validate::dns_label(namespace).is_ok()
    {
        return Owner::Namespace(cx.name(namespace));
    }
    // A namespace has no dot in its name, a service account may have.
    if let Some((namespace, account)) = name.strip_prefix("ksa.").and_then(|rest| rest.split_once('.'))
        && validate::dns_label(namespace).is_ok()
        && validate::dns_subdomain(account).is_ok()
    {
        return Owner::ServiceAccount(cx.name(namespace), cx.name(account));
    }
    Owner::Nobody
}

/// Every namespace and service account carries its own name already.
fn check_given_name(cx: &mut Context<'_>, path: &Path<'_>, owner: &Owner, value: &str) {
    let name = match owner {
        Owner::Namespace(name) | Owner::ServiceAccount(_, name) => name,
        Owner::Nobody => return,
    };
    if name != value {
        cx.error(path, format!("must be `{name}`, not {}", quoted(value)));
    }
}

fn warn_of_pass(cx: &mut Context<'_>, path: &Path<'_>, rules: &[Rule]) {
    for (index, rule) in rules.iter().enumerate() {
        if rule.action == Action::Pass {
            cx.warn(
                &path.index(index),
                "there is nothing to pass on to after a profile, so `Pass` denies here",
            );
        }
    }
}
