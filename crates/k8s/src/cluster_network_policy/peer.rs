//! Subjects, peers and rules that all versions of the network policy API share.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use portcullis_core::label::Scope;
use portcullis_core::model::{Action, EntityKinds, EntityMatch, EntitySelector, L4Match, Rule};
use portcullis_core::quote::quoted;
use portcullis_core::selector::Expr;

use crate::cidr;
use crate::cluster_network_policy::{EgressPeer, IngressPeer, NamespacedPods, Subject};
use crate::context::Context;
use crate::network_policy::push;
use crate::path::Path;
use crate::selector::{LabelSelector, Soundness, Spelling, conjunction};

/// Which version of the API an object is of; they differ in a few checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Generation {
    /// v1alpha1: AdminNetworkPolicy.
    Admin,
    /// v1alpha1: BaselineAdminNetworkPolicy.
    BaselineAdmin,
    /// v1alpha2: ClusterNetworkPolicy.
    Cluster,
}

impl Generation {
    /// The most rules of a direction, peers of a rule, and ports of a rule.
    pub(crate) const fn limit(self) -> usize {
        match self {
            Self::Admin | Self::BaselineAdmin => 100,
            Self::Cluster => 25,
        }
    }
}

/// The most networks or domain names of one peer.
const LIST_MAX: usize = 25;
/// The longest network, in characters.
const NETWORK_MAX: usize = 43;
/// The longest rule name, in characters.
const NAME_MAX: usize = 100;

/// What a peer says.
#[expect(clippy::large_enum_variant, reason = "it lives for one statement")]
pub(crate) enum PeerReading {
    /// These addresses.
    Match(EntityMatch),
    /// Nothing that can be evaluated here. A rule that allows then matches nothing for this peer; a rule that denies
    /// or passes denies everything (decision D13).
    /// Source: network-policy-api `apis/v1alpha2/clusternetworkpolicy_types.go`, which asks for the same.
    Unclear,
}

/// The pods that a policy applies to; `None` when an error was noted.
///
/// A selector that no implementation would take, yet the server stores, is taken literally, with a warning.
pub(crate) fn subject(
    subject: Option<&Subject>,
    generation: Generation,
    path: &Path<'_>,
    cx: &mut Context<'_>,
) -> Option<EntitySelector> {
    let Some(subject) = subject else {
        cx.error(path, "a subject is required");
        return None;
    };
    let (expr, _) = pods_or_namespaces(
        (subject.namespaces.as_ref(), subject.pods.as_ref()),
        generation,
        &["namespaces", "pods"],
        path,
        cx,
    )?;
    Some(EntitySelector { kinds: EntityKinds::WORKLOAD, expr })
}

/// Reads the union of `namespaces` and `pods`; `fields` names all members of the union for the error.
fn pods_or_namespaces(
    (namespaces, pods): (Option<&LabelSelector>, Option<&NamespacedPods>),
    generation: Generation,
    fields: &[&str],
    path: &Path<'_>,
    cx: &mut Context<'_>,
) -> Option<(Expr, Soundness)> {
    match (namespaces, pods) {
        (Some(selector), None) => {
            Some(selector.read(Scope::Namespace, Spelling::Unchecked, &path.field("namespaces"), cx))
        }
        (None, Some(pods)) => pods.read(generation, &path.field("pods"), cx),
        _ => {
            one_of(fields, path, cx);
            None
        }
    }
}

fn one_of(fields: &[&str], path: &Path<'_>, cx: &mut Context<'_>) {
    cx.error(path, format!("exactly one of `{}` is required", fields.join("`, `")));
}

impl NamespacedPods {
    fn read(
        &self,
        generation: Generation,
        path: &Path<'_>,
        cx: &mut Context<'_>,
    ) -> Option<(Expr, Soundness)> {
        let mut terms = Vec::new();
        let mut soundness = Soundness::Sound;
        let fields = [
            (
                "namespaceSelector",
                &self.namespace_selector,
                Scope::Namespace,
                generation != Generation::Cluster,
            ),
            ("podSelector", &self.pod_selector, Scope::Own, true),
        ];
        let given = self.namespace_selector.is_some() || self.pod_selector.is_some();
        let before = cx.error_count();
        for (field, selector, scope, required) in fields {
            let path = path.field(field);
            if let Some(selector) = selector {
                let (expr, sound) = selector.read(scope, Spelling::Unchecked, &path, cx);
                push(&mut terms, expr);
                if sound == Soundness::Odd {
                    soundness = Soundness::Odd;
                }
            } else if required && (generation == Generation::Cluster || !given) {
                cx.error(&path, "a selector is required");
            } else if required {
                // Implementations decode the older kinds into the zero value, which selects everything.
                cx.warn(&path, "the selector is missing, which selects everything");
            }
        }
        (cx.error_count() == before).then(|| (conjunction(terms), soundness))
    }
}

fn select(kinds: EntityKinds, (expr, soundness): (Expr, Soundness)) -> PeerReading {
    match soundness {
        Soundness::Sound => PeerReading::Match(EntityMatch::select(EntitySelector { kinds, expr })),
        Soundness::Odd => PeerReading::Unclear,
    }
}

impl IngressPeer {
    /// Reads the peer; `None` when an error was noted. It names pods only, never host-network ones.
    pub(crate) fn read(
        &self,
        generation: Generation,
        path: &Path<'_>,
        cx: &mut Context<'_>,
    ) -> Option<PeerReading> {
        let union = (self.namespaces.as_ref(), self.pods.as_ref());
        let read = pods_or_namespaces(union, generation, &["namespaces", "pods"], path, cx)?;
        Some(select(EntityKinds::WORKLOAD, read))
    }
}

impl EgressPeer {
    /// Reads the peer; `None` when an error was noted.
    pub(crate) fn read(
        &self,
        generation: Generation,
        path: &Path<'_>,
        cx: &mut Context<'_>,
    ) -> Option<PeerReading> {
        const FIELDS: [&str; 5] = ["namespaces", "pods", "networks", "nodes", "domainNames"];
        let present = [
            self.namespaces.is_some(),
            self.pods.is_some(),
            self.networks.is_some(),
            self.nodes.is_some(),
            self.domain_names.is_some(),
        ];
        if present.into_iter().filter(|p| *p).count() != 1 {
            one_of(&FIELDS, path, cx);
            return None;
        }
        if let Some(networks) = &self.networks {
            return read_networks(networks, &path.field("networks"), cx).map(PeerReading::Match);
        }
        if let Some(nodes) = &self.nodes {
            // By the nodes' own addresses. Source: network-policy-api `site-src/npeps/npep-126-egress-traffic-control.md`.
            let read = nodes.read(Scope::Own, Spelling::Unchecked, &path.field("nodes"), cx);
            return Some(select(EntityKinds::NODE, read));
        }
        if let Some(names) = &self.domain_names {
            read_domain_names(names, &path.field("domainNames"), cx);
            if generation == Generation::BaselineAdmin {
                cx.error(&path.field("domainNames"), "domain names cannot be used in this kind");
            }
            return Some(PeerReading::Unclear);
        }
        let union = (self.namespaces.as_ref(), self.pods.as_ref());
        let read = pods_or_namespaces(union, generation, &FIELDS, path, cx)?;
        Some(select(EntityKinds::WORKLOAD, read))
    }

    /// Whether the peer is of a sort that has no named ports.
    pub(crate) const fn lacks_named_ports(&self) -> bool {
        self.networks.is_some() || self.nodes.is_some() || self.domain_names.is_some()
    }
}

fn check_list(list: &[String], path: &Path<'_>, cx: &mut Context<'_>) {
    if list.is_empty() {
        cx.error(path, "at least one item is required");
    }
    if list.len() > LIST_MAX {
        cx.error(path, format!("{} items are more than the {LIST_MAX} allowed", list.len()));
    }
    for (i, item) in list.iter().enumerate() {
        if list.iter().take(i).any(|earlier| earlier == item) {
            cx.error(&path.index(i), format!("{} is in the list twice", quoted(item)));
        }
    }
}

fn read_networks(networks: &[String], path: &Path<'_>, cx: &mut Context<'_>) -> Option<EntityMatch> {
    let before = cx.error_count();
    check_list(networks, path, cx);
    let mut nets = Vec::new();
    for (i, text) in networks.iter().enumerate() {
        let item = path.index(i);
        if text.chars().count() > NETWORK_MAX {
            cx.error(&item, format!("must have no more than {NETWORK_MAX} characters"));
        }
        nets.extend(cidr::parse(text, &item, cx));
    }
    (cx.error_count() == before).then(|| EntityMatch::nets(nets))
}

/// Names cannot be resolved here; the caller has to resolve them before.
fn read_domain_names(names: &[String], path: &Path<'_>, cx: &mut Context<'_>) {
    check_list(names, path, cx);
    for (i, name) in names.iter().enumerate() {
        let item = path.index(i);
        if is_domain_name(name) {
            cx.warn(&item, format!("{} is not resolved here and matches no address", quoted(name)));
        } else {
            cx.error(
                &item,
                format!(
                    "{} is not a domain name of two labels or more, with an optional `*.` before it",
                    quoted(name)
                ),
            );
        }
    }
}

/// Whether `text` matches the pattern of the API, in which a label may begin with any character from `A` to `z`,
/// among them `[`, `\`, `]`, `^`, `_` and the backquote. Source: network-policy-api `config/crd/experimental`.
fn is_domain_name(text: &str) -> bool {
    let text = text.strip_prefix("*.").unwrap_or(text);
    let text = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        let first = bytes.first().is_some_and(|b| matches!(b, b'A'..=b'z' | b'0'..=b'9'));
        let last = bytes.len() == 1 || bytes.last().is_some_and(u8::is_ascii_alphanumeric);
        let rest = bytes.iter().skip(1).all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        first && last && rest
    };
    text.contains('.') && text.split('.').all(is_label)
}

/// The parts of a rule that every version has.
pub(crate) struct RuleParts<'a> {
    pub(crate) generation: Generation,
    pub(crate) name: Option<&'a str>,
    pub(crate) action: Option<&'a str>,
}

impl RuleParts<'_> {
    /// Reads name and action; `None` when the action is not known.
    pub(crate) fn read(&self, path: &Path<'_>, cx: &mut Context<'_>) -> Option<Rule> {
        let known: &[(&str, Action)] = match self.generation {
            Generation::Cluster => {
                &[("Accept", Action::Allow), ("Deny", Action::Deny), ("Pass", Action::Pass)]
            }
            Generation::Admin => &[("Allow", Action::Allow), ("Deny", Action::Deny), ("Pass", Action::Pass)],
            Generation::BaselineAdmin => &[("Allow", Action::Allow), ("Deny", Action::Deny)],
        };
        if let Some(name) = self.name
            && name.chars().count() > NAME_MAX
        {
            cx.error(&path.field("name"), format!("must have no more than {NAME_MAX} characters"));
        }
        let action = self.action.unwrap_or_default();
        let Some((_, action)) = known.iter().find(|(name, _)| *name == action) else {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            cx.error(
                &path.field("action"),
                format!("{} is not one of `{}`", quoted(action), names.join("`, `")),
            );
            return None;
        };
        let mut rule = Rule::new(*action);
        rule.name = self.name.filter(|n| !n.is_empty()).map(|n| cx.name(n));
        Some(rule)
    }
}

/// Notes an error when a list of rules, peers or ports is too long, or lacks the one item it needs.
pub(crate) fn check_count(
    count: Option<usize>,
    least: usize,
    generation: Generation,
    path: &Path<'_>,
    cx: &mut Context<'_>,
) {
    let limit = generation.limit();
    match count {
        None if least > 0 => cx.error(path, "is required"),
        Some(count) if count < least => cx.error(path, "at least one item is required"),
        Some(count) if count > limit => {
            cx.error(path, format!("{count} items are more than the {limit} allowed"));
        }
        _ => {}
    }
}

/// Puts peers and ports into `rule`; a peer that is not clear makes the rule safe.
pub(crate) fn complete(
    mut rule: Rule,
    readings: Vec<PeerReading>,
    l4: Vec<L4Match>,
    path: &Path<'_>,
    cx: &mut Context<'_>,
) -> Rule {
    let unclear = readings.iter().any(|r| matches!(r, PeerReading::Unclear));
    if unclear && rule.action != Action::Allow {
        cx.warn(
            path,
            format!(
                "has a peer that cannot be evaluated; to be safe, this {} rule denies everything",
                rule.action
            ),
        );
        let mut safe = Rule::new(Action::Deny);
        safe.name = rule.name;
        return safe;
    }
    if unclear {
        cx.warn(path, "has a peer that cannot be evaluated; the rule matches nothing for this peer");
    }
    rule.peers = readings
        .into_iter()
        .map(|reading| match reading {
            PeerReading::Match(peer) => peer,
            PeerReading::Unclear => EntityMatch::nobody(),
        })
        .collect();
    rule.l4 = l4;
    rule
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domain_names() {
        for good in ["a.b", "*.a.b", "a.b.", "A_b.c", "[.b", "`a.b", "_x.b", "1.2", "a-b.c-d.e", "^.^"] {
            assert!(is_domain_name(good), "{good}");
        }
        for bad in [
            "", "a", "*", "*.a", "a..b", ".a.b", "a.b..", "*.*.a.b", "a.*.b", "-a.b", "a-.b", "a_.b",
            "a b.c", "ä.b", "a.[x_", "a[.b", "{.b", "@.b", "*a.b",
        ] {
            assert!(!is_domain_name(bad), "{bad}");
        }
    }
}
