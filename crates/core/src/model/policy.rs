//! Policies, tiers and profiles.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::fmt;

use crate::label::{Labels, Name};
use crate::model::{EntitySelector, Rule};

/// The identity of a policy: what a user would type to find it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct PolicyId {
    /// The kind of the source object, for example `NetworkPolicy` or `GlobalNetworkPolicy`.
    pub kind: Name,
    /// The namespace, for kinds that have one.
    pub namespace: Option<Name>,
    /// The object's name.
    pub name: Name,
}

impl PolicyId {
    /// An id from its parts.
    pub fn new(kind: impl Into<Name>, namespace: Option<Name>, name: impl Into<Name>) -> Self {
        Self { kind: kind.into(), namespace, name: name.into() }
    }
}

/// `kind namespace/name`, or `kind name` without a namespace.
impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// A sort position: any number but NaN. Lower comes first.
#[derive(Clone, Copy, Debug)]
pub struct Order(f64);

impl Order {
    /// `value` as an order; `None` for NaN.
    #[must_use]
    pub fn new(value: f64) -> Option<Self> {
        // Adding zero turns -0.0 into 0.0, so equal numbers are equal orders.
        if value.is_nan() { None } else { Some(Self(value + 0.0)) }
    }

    /// The number.
    #[must_use]
    pub const fn value(self) -> f64 {
        self.0
    }
}

impl From<u32> for Order {
    fn from(value: u32) -> Self {
        Self(f64::from(value))
    }
}

impl PartialEq for Order {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Order {}

impl PartialOrd for Order {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Order {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A policy: which endpoints it applies to, where in the order, and its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Policy {
    /// Which object this is.
    pub id: PolicyId,
    /// The tier it belongs to. A tier that does not exist sorts after all others and ends in Deny (decision D3).
    pub tier: Name,
    /// Position in the tier; `None` sorts last.
    pub order: Option<Order>,
    /// Breaks ties of equal order, bytewise; see [`TieBreak`].
    pub tie_key: Name,
    /// The endpoints that the policy applies to. Only workload and host endpoints can be subject to policy.
    pub subject: EntitySelector,
    /// The directions in which it takes part. Rules of a direction that is off do nothing in the reference, and the compiler
    /// [refuses](crate::compile::Compiler::apply) the policy.
    pub directions: Directions,
    /// Rules for traffic to the subject, in order.
    pub ingress: Vec<Rule>,
    /// Rules for traffic from the subject, in order.
    pub egress: Vec<Rule>,
    /// Whether it is enforced or only staged.
    pub enforcement: Enforcement,
    /// At which hooks of a host endpoint it takes part.
    pub placement: Placement,
}

impl Policy {
    /// The same policy with an empty list of rules in each direction.
    #[must_use]
    pub fn without_rules(&self) -> Self {
        Self {
            id: self.id.clone(),
            tier: self.tier.clone(),
            order: self.order,
            tie_key: self.tie_key.clone(),
            subject: self.subject.clone(),
            directions: self.directions,
            ingress: Vec::new(),
            egress: Vec::new(),
            enforcement: self.enforcement,
            placement: self.placement,
        }
    }

    /// An enforced policy without rules or order, on traffic of these directions: in each it denies everything until it
    /// has rules. See [`Policy::ingress`] and [`Policy::egress`] for policies with rules.
    #[must_use]
    pub fn new(id: PolicyId, tier: impl Into<Name>, subject: EntitySelector, directions: Directions) -> Self {
        Self {
            tie_key: TieBreak::Path.key(&id),
            id,
            tier: tier.into(),
            order: None,
            subject,
            directions,
            ingress: Vec::new(),
            egress: Vec::new(),
            enforcement: Enforcement::Enforced,
            placement: Placement::Normal,
        }
    }

    /// The sort position inside a tier.
    #[must_use]
    pub fn cmp_in_tier(&self, other: &Self) -> Ordering {
        cmp_order(self.order, other.order)
            .then_with(|| self.tie_key.cmp(&other.tie_key))
            .then_with(|| self.id.cmp(&other.id))
    }
}

/// How policies of equal order in one tier are told apart (decision D2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum TieBreak {
    /// By the text `name/namespace/kind`, as Calico does: `a-b` comes before `a`.
    /// Source: Calico `felix/calc/policy_sorter.go`.
    Path,
    /// By the bare name, for kinds whose order is (priority, name), such as ClusterNetworkPolicy.
    Name,
}

impl TieBreak {
    /// The key that `id` sorts by.
    #[must_use]
    pub fn key(self, id: &PolicyId) -> Name {
        match self {
            Self::Path => {
                let namespace = id.namespace.as_deref().unwrap_or_default();
                let text: String = format!("{}/{namespace}/{}", id.name, id.kind);
                Name::from(text)
            }
            Self::Name => id.name.clone(),
        }
    }
}

/// Compares optional orders; a missing one is last.
#[must_use]
pub(crate) fn cmp_order(a: Option<Order>, b: Option<Order>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}

/// The directions a policy takes part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Directions {
    /// Traffic to the subject.
    pub ingress: bool,
    /// Traffic from the subject.
    pub egress: bool,
}

impl Directions {
    /// Neither.
    pub const NONE: Self = Self { ingress: false, egress: false };
    /// Traffic to the subject only.
    pub const INGRESS: Self = Self { ingress: true, egress: false };
    /// Traffic from the subject only.
    pub const EGRESS: Self = Self { ingress: false, egress: true };
    /// Both.
    pub const BOTH: Self = Self { ingress: true, egress: true };
}

/// Whether a policy acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Enforcement {
    /// It acts.
    Enforced,
    /// It never acts; its effect can be asked for (decision D7).
    Staged,
}

/// Where on a host endpoint a policy takes part. Workload endpoints use `Normal` and `ApplyOnForward` policies,
/// and treat the others as absent. Source: Calico `felix/calc/event_sequencer.go`, `tierInfoToProtoTierInfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Placement {
    /// Traffic of the host's own processes.
    Normal,
    /// As `Normal`, and traffic that the host forwards.
    ApplyOnForward,
    /// Incoming traffic before destination NAT.
    PreDnat,
    /// All traffic of the interface, before connection tracking.
    Untracked,
}

/// A group of policies that is evaluated as a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Tier {
    /// Its name.
    pub name: Name,
    /// Position; `None` sorts last. Ties are broken by name.
    pub order: Option<Order>,
    /// What happens to traffic that a policy of the tier applied to and no rule decided.
    pub default_action: DefaultAction,
}

/// The action at the end of a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum DefaultAction {
    /// Drop.
    Deny,
    /// Go on with the next tier.
    Pass,
}

impl fmt::Display for DefaultAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deny => "deny",
            Self::Pass => "pass",
        })
    }
}

/// Rules and labels that endpoints refer to by name; asked after the last tier.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Profile {
    /// Its name.
    pub name: Name,
    /// Rules for traffic to the endpoint. Pass denies (decision D6).
    pub ingress: Vec<Rule>,
    /// Rules for traffic from the endpoint. Pass denies (decision D6).
    pub egress: Vec<Rule>,
    /// Labels that endpoints with this profile inherit in [`crate::label::Scope::Own`].
    pub labels: Labels,
    /// Who made it.
    pub origin: ProfileOrigin,
}

/// Who made a profile; decides only what a verdict is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum ProfileOrigin {
    /// A user's object.
    Declared,
    /// The built-in default of a namespace, which allows everything: a verdict of it means that no policy decided.
    Implicit,
}
