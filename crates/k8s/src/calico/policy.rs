//! NetworkPolicy, GlobalNetworkPolicy and their staged forms.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;

use portcullis_core::label::Name;
use portcullis_core::model::{
    Directions, Enforcement, EntityKinds, EntitySelector, Order, Placement, Policy, PolicyId, TieBreak,
};
use portcullis_core::quote::quoted;
use portcullis_core::selector::Expr;

use crate::calico::families::Families;
use crate::calico::list::{self, Limit};
use crate::calico::rule::{self, Direction, Rules};
use crate::calico::selector::{self, Place};
use crate::calico::spec::PolicySpec;
use crate::context::Context;
use crate::kind::PolicyKind;
use crate::path::Path;
use crate::tier;
use crate::validate;

/// Converts a policy; a staged deletion gives none.
///
/// `namespace` is the policy's own, present exactly for the namespaced kinds.
pub(super) fn convert(
    cx: &mut Context<'_>,
    kind: PolicyKind,
    namespace: Option<&Name>,
    name: &str,
    spec: &PolicySpec,
    families: Families,
) -> Option<Policy> {
    let path = Path::root("spec");
    check_name(cx, kind, name);
    check_fields(cx, &path, kind, spec);
    if staged_action(cx, &path.field("stagedAction"), spec.staged_action.as_deref()) == StagedAction::Delete {
        check_deletion(cx, &path, spec);
        warn_of_deletion(cx, &path.field("stagedAction"));
        return None;
    }

    let tier = tier_name(cx, &path.field("tier"), spec.tier.as_deref());
    let id = PolicyId::new(kind.id_name(), namespace.cloned(), name);
    let subject = subject(cx, &path, kind, namespace, spec);
    let mut policy = Policy::new(id, tier, subject, Directions::NONE);
    policy.tie_key = TieBreak::Path.key(&PolicyId::new(kind.api_name(), namespace.cloned(), name));
    policy.order = order(cx, &path.field("order"), spec.order);
    let common = Rules { namespace, families };
    policy.ingress =
        rule::rules(cx, &path.field("ingress"), spec.ingress.as_deref(), Direction::Ingress, common);
    policy.egress = rule::rules(cx, &path.field("egress"), spec.egress.as_deref(), Direction::Egress, common);
    policy.directions = directions(cx, &path, spec);
    // The model takes no rules that do nothing; `directions` warned of them.
    if !policy.directions.ingress {
        policy.ingress.clear();
    }
    if !policy.directions.egress {
        policy.egress.clear();
    }
    policy.enforcement = if kind.is_staged() { Enforcement::Staged } else { Enforcement::Enforced };
    policy.placement = placement(cx, &path, spec);
    performance_hints(cx, &path.field("performanceHints"), spec.performance_hints.as_deref());
    Some(policy)
}

/// A sort position: any finite number.
pub(super) fn order(cx: &mut Context<'_>, path: &Path<'_>, value: Option<f64>) -> Option<Order> {
    let value = value?;
    if !value.is_finite() {
        cx.error(path, "must be a finite number");
        return None;
    }
    Order::new(value)
}

/// What a staged object stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StagedAction {
    /// A policy: `Set`, the default, and `Learn` and `Ignore`, which are shown in the same way.
    Preview,
    /// The end of a policy: Calico drops the object before it reaches any dataplane.
    Delete,
}

/// Reads `stagedAction`.
pub(super) fn staged_action(cx: &mut Context<'_>, path: &Path<'_>, text: Option<&str>) -> StagedAction {
    match text {
        None | Some("" | "Set" | "Learn" | "Ignore") => StagedAction::Preview,
        Some("Delete") => StagedAction::Delete,
        Some(other) => {
            cx.error(path, format!("{} is not a staged action: Set, Delete, Learn or Ignore", quoted(other)));
            StagedAction::Preview
        }
    }
}

/// Says that a staged deletion shows nothing.
pub(super) fn warn_of_deletion(cx: &mut Context<'_>, path: &Path<'_>) {
    cx.warn(path, "`Delete` previews the end of a policy, which has no verdict of its own");
}

/// Calico's validator holds names of policies to one or two DNS labels, so that a tier's name can stand in front.
/// A name of another form identifies the object all the same, so this is a doubt and not an error.
fn check_name(cx: &mut Context<'_>, kind: PolicyKind, name: &str) {
    let label = |text: &str| !text.contains('.') && validate::dns_subdomain(text).is_ok();
    let regular = match name.split_once('.') {
        None => label(name),
        Some((tier, rest)) => label(tier) && label(rest),
    };
    let imported = ["knp.default.", "ossg.default."]
        .iter()
        .filter_map(|prefix| name.strip_prefix(prefix))
        .any(|rest| validate::dns_subdomain(rest).is_ok());
    if !regular && (kind.is_global() || !imported) {
        cx.warn(
            &Path::root("metadata").field("name"),
            format!(
                "Calico refuses the name {}: use one DNS label, or a tier, a dot and a DNS label",
                quoted(name)
            ),
        );
    }
}

/// Refuses fields that other kinds have and this one does not.
fn check_fields(cx: &mut Context<'_>, path: &Path<'_>, kind: PolicyKind, spec: &PolicySpec) {
    let mut foreign = |field: &'static str| {
        cx.error(&path.field(field), format!("a {} has no such field", kind.api_name()));
    };
    if !kind.is_global() {
        for (field, given) in [
            ("namespaceSelector", spec.namespace_selector.is_some()),
            ("doNotTrack", spec.do_not_track.is_some()),
            ("preDNAT", spec.pre_dnat.is_some()),
            ("applyOnForward", spec.apply_on_forward.is_some()),
        ] {
            if given {
                foreign(field);
            }
        }
    }
    if !kind.is_staged() && spec.staged_action.is_some() {
        foreign("stagedAction");
    }
}

/// A staged deletion has a tier and nothing else. Source: Calico `libcalico-go/lib/validator/v3/validator.go`.
fn check_deletion(cx: &mut Context<'_>, path: &Path<'_>, spec: &PolicySpec) {
    let text = |text: &Option<String>| text.as_ref().is_some_and(|t| !t.is_empty());
    for (field, given) in [
        ("order", spec.order.is_some()),
        ("selector", text(&spec.selector)),
        ("namespaceSelector", text(&spec.namespace_selector)),
        ("serviceAccountSelector", text(&spec.service_account_selector)),
        ("types", spec.types.is_some()),
        ("ingress", spec.ingress.as_ref().is_some_and(|rules| !rules.is_empty())),
        ("egress", spec.egress.as_ref().is_some_and(|rules| !rules.is_empty())),
        ("doNotTrack", spec.do_not_track == Some(true)),
        ("preDNAT", spec.pre_dnat == Some(true)),
        ("applyOnForward", spec.apply_on_forward == Some(true)),
        ("performanceHints", spec.performance_hints.as_ref().is_some_and(|hints| !hints.is_empty())),
    ] {
        if given {
            cx.error(&path.field(field), "must not be given when the staged action is `Delete`");
        }
    }
}

fn tier_name(cx: &mut Context<'_>, path: &Path<'_>, text: Option<&str>) -> Name {
    let text = text.filter(|t| !t.is_empty()).unwrap_or(tier::DEFAULT);
    if let Err(reason) = validate::dns_label(text) {
        cx.error(path, format!("{} is not the name of a tier: {reason}", quoted(text)));
    }
    cx.name(text)
}

/// Source: Calico `libcalico-go/lib/backend/syncersv1/updateprocessors/{networkpolicy,globalnetworkpolicy}processor.go`.
fn subject(
    cx: &mut Context<'_>,
    path: &Path<'_>,
    kind: PolicyKind,
    namespace: Option<&Name>,
    spec: &PolicySpec,
) -> EntitySelector {
    let own = selector::read(cx, &path.field("selector"), spec.selector.as_deref(), Place::Own);
    let namespaces = match namespace {
        Some(namespace) => Some(selector::in_namespace(namespace)),
        None => selector::read(
            cx,
            &path.field("namespaceSelector"),
            spec.namespace_selector.as_deref(),
            Place::PolicyNamespace,
        ),
    };
    let place =
        if kind.is_global() { Place::GlobalPolicyServiceAccount } else { Place::PolicyServiceAccount };
    let accounts = selector::read(
        cx,
        &path.field("serviceAccountSelector"),
        spec.service_account_selector.as_deref(),
        place,
    );
    EntitySelector {
        // A host endpoint has no namespace, so a namespaced policy never reaches one.
        kinds: if kind.is_global() {
            EntityKinds::WORKLOAD.union(EntityKinds::HOST)
        } else {
            EntityKinds::WORKLOAD
        },
        expr: selector::all_of([namespaces, accounts, own]).unwrap_or(Expr::All),
    }
}

/// Without `types`: egress only when there are egress rules and no ingress rules, both when there are both, and
/// ingress otherwise. This differs from Kubernetes. Source: Calico `api/pkg/defaults/networkpolicy.go`.
fn directions(cx: &mut Context<'_>, path: &Path<'_>, spec: &PolicySpec) -> Directions {
    let any = |rules: &Option<_>| rules.as_ref().is_some_and(|rules: &alloc::vec::Vec<_>| !rules.is_empty());
    let (ingress, egress) = (any(&spec.ingress), any(&spec.egress));
    let Some(types) = &spec.types else {
        return Directions { ingress: ingress || !egress, egress };
    };
    let path = &path.field("types");
    if types.is_empty() {
        cx.error(path, "must not be empty, leave it out for the default");
    }
    let mut directions = Directions::NONE;
    for (index, text) in list::set(cx, path, Some(types), Limit::Items(2)).iter().enumerate() {
        match text.as_str() {
            "Ingress" => directions.ingress = true,
            "Egress" => directions.egress = true,
            other => {
                cx.error(&path.index(index), format!("{} is not a type: Ingress or Egress", quoted(other)))
            }
        }
    }
    for (kind, rules, active) in
        [("Ingress", ingress, directions.ingress), ("Egress", egress, directions.egress)]
    {
        if rules && !active {
            cx.warn(
                path,
                format!("`{kind}` is not among the types, so the rules of that direction do nothing"),
            );
        }
    }
    directions
}

/// Source: Calico `libcalico-go/lib/validator/v3/validator.go` and the rules in its resource definitions.
fn placement(cx: &mut Context<'_>, path: &Path<'_>, spec: &PolicySpec) -> Placement {
    let on = |flag: Option<bool>| flag == Some(true);
    let (untracked, pre_dnat, forward) =
        (on(spec.do_not_track), on(spec.pre_dnat), on(spec.apply_on_forward));
    if untracked && pre_dnat {
        cx.error(&path.field("preDNAT"), "cannot be true together with doNotTrack");
    }
    if (untracked || pre_dnat) && !forward {
        cx.error(&path.field("applyOnForward"), "must be true when preDNAT or doNotTrack is");
    }
    if pre_dnat {
        if spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()) {
            cx.error(&path.field("egress"), "a preDNAT policy cannot have egress rules");
        }
        if spec.types.as_ref().is_some_and(|types| types.iter().any(|t| t == "Egress")) {
            cx.error(&path.field("types"), "a preDNAT policy cannot have the type `Egress`");
        }
    }
    match (untracked, pre_dnat, forward) {
        (true, _, _) => Placement::Untracked,
        (_, true, _) => Placement::PreDnat,
        (_, _, true) => Placement::ApplyOnForward,
        _ => Placement::Normal,
    }
}

/// Hints change how a policy is programmed and never a verdict, so they are only checked.
fn performance_hints(cx: &mut Context<'_>, path: &Path<'_>, hints: Option<&[String]>) {
    let known = BTreeSet::from(["AssumeNeededOnEveryNode"]);
    for (index, hint) in list::set(cx, path, hints, Limit::None).iter().enumerate() {
        if !known.contains(hint.as_str()) {
            cx.error(&path.index(index), format!("{} is not a hint: AssumeNeededOnEveryNode", quoted(hint)));
        }
    }
}
