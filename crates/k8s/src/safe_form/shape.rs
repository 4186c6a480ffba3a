//! Where the parts of a policy are, by kind.

use serde_json::{Value, json};

use crate::kind::{CalicoKind, Kind, Known, PolicyKind};

/// The fields of one kind of policy.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    /// Fields that say which endpoints the policy applies to.
    pub(super) subject: &'static [&'static str],
    /// Fields that say when it is asked.
    pub(super) position: &'static [&'static str],
    /// Fields that say at which hooks it is asked.
    pub(super) placement: &'static [&'static str],
    /// The field that says in which directions it takes part.
    pub(super) types: Option<&'static str>,
    /// Other fields that its spec may have, the rules apart.
    pub(super) others: &'static [&'static str],
    /// Fields that every spec has. Where one is missing, others may be as well.
    pub(super) required: &'static [&'static str],
    /// A spec that is right, without rules.
    pub(super) plain: fn() -> Value,
    /// How rules are read that are not clear.
    pub(super) rules: Rules,
    /// The directions of a policy that says nothing of them.
    pub(super) default: Defaults,
}

/// What rules of a kind may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rules {
    /// They allow, and nothing else.
    Allow,
    /// As the field `action` says, which calls allowing this.
    Actions(&'static str),
}

/// Which directions a policy takes part in that does not say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Defaults {
    /// Ingress, and egress when it has egress rules.
    Kubernetes,
    /// Egress when it has egress rules, ingress when it has ingress rules or no rules.
    Calico,
    /// Those that it has rules for.
    Rules,
}

impl Shape {
    /// The shape of enforced policies of a kind.
    pub(super) fn of(kind: Kind) -> Option<Self> {
        let none: &[&str] = &[];
        Some(match kind.known() {
            Known::NetworkPolicy | Known::ExtensionsNetworkPolicy => Self {
                subject: &["podSelector"],
                position: none,
                placement: none,
                types: Some("policyTypes"),
                others: none,
                required: none,
                plain: || json!({"podSelector": {}}),
                rules: Rules::Allow,
                default: Defaults::Kubernetes,
            },
            Known::ClusterNetworkPolicy => Self {
                subject: &["subject"],
                position: &["tier", "priority"],
                placement: none,
                types: None,
                others: none,
                required: &["tier", "priority", "subject"],
                plain: || json!({"tier": "Admin", "priority": 0, "subject": {"namespaces": {}}}),
                rules: Rules::Actions("Accept"),
                default: Defaults::Rules,
            },
            Known::AdminNetworkPolicy => Self {
                subject: &["subject"],
                position: &["priority"],
                placement: none,
                types: None,
                others: none,
                required: &["priority", "subject"],
                plain: || json!({"priority": 0, "subject": {"namespaces": {}}}),
                rules: Rules::Actions("Allow"),
                default: Defaults::Rules,
            },
            Known::BaselineAdminNetworkPolicy => Self {
                subject: &["subject"],
                position: none,
                placement: none,
                types: None,
                others: none,
                required: &["subject"],
                plain: || json!({"subject": {"namespaces": {}}}),
                rules: Rules::Actions("Allow"),
                default: Defaults::Rules,
            },
            Known::Calico(CalicoKind::Policy(kind), _) if !kind.is_staged() => Self {
                subject: if kind == PolicyKind::Global {
                    &["selector", "namespaceSelector", "serviceAccountSelector"]
                } else {
                    &["selector", "serviceAccountSelector"]
                },
                position: &["tier", "order"],
                placement: if kind == PolicyKind::Global {
                    &["doNotTrack", "preDNAT", "applyOnForward"]
                } else {
                    none
                },
                types: Some("types"),
                others: &["performanceHints"],
                required: none,
                plain: || json!({}),
                rules: Rules::Actions("Allow"),
                default: Defaults::Calico,
            },
            _ => return None,
        })
    }

    /// Whether a spec of the kind may have this field.
    pub(super) fn knows(&self, field: &str) -> bool {
        let groups = [self.subject, self.position, self.placement, self.others, &["ingress", "egress"]];
        groups.into_iter().flatten().any(|known| *known == field) || self.types == Some(field)
    }
}
