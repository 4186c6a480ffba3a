//! Staged Kubernetes NetworkPolicies.

use portcullis_core::label::Name;
use portcullis_core::model::{Enforcement, Policy, PolicyId};

use crate::calico::list::{self, Limit};
use crate::calico::policy::{self, StagedAction};
use crate::calico::spec::StagedKubernetesSpec;
use crate::context::Context;
use crate::kind::CalicoKind;
use crate::network_policy::NetworkPolicySpec;
use crate::path::Path;
use crate::selector::LabelSelector;

/// Converts a staged Kubernetes NetworkPolicy as the NetworkPolicy it stages; a staged deletion gives none.
///
/// Source: Calico `api/pkg/apis/projectcalico/v3/stagedkubernetesnetworkpolicy.go`.
pub(super) fn convert(
    cx: &mut Context<'_>,
    namespace: &Name,
    name: &str,
    spec: &StagedKubernetesSpec,
) -> Option<Policy> {
    let path = Path::root("spec");
    let action_path = path.field("stagedAction");
    if policy::staged_action(cx, &action_path, spec.staged_action.as_deref()) == StagedAction::Delete {
        check_deletion(cx, &path, spec);
        policy::warn_of_deletion(cx, &action_path);
        return None;
    }
    let types_path = path.field("policyTypes");
    if spec.policy_types.as_ref().is_some_and(alloc::vec::Vec::is_empty) {
        cx.error(&types_path, "must not be empty, leave it out for the default");
    }
    list::set(cx, &types_path, spec.policy_types.as_deref(), Limit::Items(2));
    let staged = NetworkPolicySpec {
        pod_selector: spec.pod_selector.clone(),
        ingress: spec.ingress.clone(),
        egress: spec.egress.clone(),
        policy_types: spec.policy_types.clone(),
    };
    let parts = staged.convert(namespace, &path, cx);
    let mut policy = parts.into_policy(PolicyId::new(
        cx.name(CalicoKind::StagedKubernetes.id_name()),
        Some(namespace.clone()),
        name,
    ));
    policy.enforcement = Enforcement::Staged;
    Some(policy)
}

/// A staged deletion says nothing else. Source: Calico `libcalico-go/lib/validator/v3/validator.go`.
fn check_deletion(cx: &mut Context<'_>, path: &Path<'_>, spec: &StagedKubernetesSpec) {
    for (field, given) in [
        ("podSelector", spec.pod_selector.as_ref().is_some_and(|s| *s != LabelSelector::default())),
        ("ingress", spec.ingress.as_ref().is_some_and(|rules| !rules.is_empty())),
        ("egress", spec.egress.as_ref().is_some_and(|rules| !rules.is_empty())),
        ("policyTypes", spec.policy_types.is_some()),
    ] {
        if given {
            cx.error(&path.field(field), "must not be given when the staged action is `Delete`");
        }
    }
}
