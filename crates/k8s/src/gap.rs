//! What is not known of an object that rules name, and the rules that allow for it (decision D13).
//!
//! A gap never widens: a rule that allows matches only what it matches whatever fills the gap, and a rule that denies matches
//! all that it may match. A rule that passes on, and of which that is not the same, denies: what comes after it is not known.

mod guard;
#[cfg(test)]
mod tests;

use alloc::vec;
use alloc::vec::Vec;

use portcullis_core::label::{LabelSource, Labels, NAME_KEY, Name, Scope};
use portcullis_core::model::{
    Directions, EntityKinds, EntitySelector, Placement, Policy, PolicyId, Rule, ServiceId,
};
use portcullis_core::selector::{Expr, LabelRef};

use crate::cluster::METADATA_NAME;
use crate::safe_form::deny_all;
use crate::tier;

pub(crate) use guard::{guard, is_guarded};

/// What is not known of one object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Gap {
    /// Something that has addresses and labels.
    Entity(EntityGap),
    /// The backends of a service, or of some service of a namespace.
    Service(Name, Option<Name>),
}

/// What is not known of something that has addresses and labels.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EntityGap {
    /// What it is.
    pub(crate) kinds: EntityKinds,
    /// The labels that are known.
    pub(crate) labels: Labels,
    /// Whether it may have other labels. In the model it has the label [`UNREADABLE`] then.
    pub(crate) has_more_labels: bool,
    /// Whether it has profiles, whose labels it inherits: where it is in the model, they are known there.
    pub(crate) inherits: bool,
    /// Where it is.
    pub(crate) namespace: Whereabouts,
    /// Whether it may have other addresses, which can be any.
    pub(crate) has_more_addresses: bool,
    /// Whether it may have named ports at addresses, or under names, that are not known.
    pub(crate) has_more_ports: bool,
}

/// The namespace of something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whereabouts {
    /// It has none.
    Cluster,
    /// This one. Its labels are looked at as if they were not known, so that the gap does not depend on them.
    Namespace(Name),
    /// It can be any, and so can be the service account.
    Anywhere,
}

/// The label of what may have labels that are not known. No object can have a label of this name, and no selector that a
/// user writes asks for it.
pub(crate) const UNREADABLE: &str = "#unreadable";

/// Puts the label [`UNREADABLE`] on something.
pub(crate) fn mark(labels: &mut Labels) {
    labels.insert(UNREADABLE, "");
}

/// That something has the label [`UNREADABLE`].
fn is_marked() -> Expr {
    Expr::Has(LabelRef::new(Scope::Own, UNREADABLE))
}

impl Gap {
    /// Whether endpoints have the label [`UNREADABLE`] because of it.
    pub(crate) fn marks_endpoints(&self) -> bool {
        match self {
            Self::Entity(entity) => entity.has_more_labels && entity.is_any_of(ENDPOINTS),
            Self::Service(..) => false,
        }
    }

    fn is_of(&self, service: &ServiceId) -> bool {
        match self {
            Self::Entity(_) => false,
            Self::Service(namespace, name) => {
                *namespace == service.namespace && name.as_ref().is_none_or(|name| *name == service.name)
            }
        }
    }
}

impl EntityGap {
    /// A gap of something in the cluster of which all that is told is known.
    pub(crate) const fn none(kinds: EntityKinds) -> Self {
        Self {
            kinds,
            labels: Labels::new(),
            has_more_labels: false,
            inherits: false,
            namespace: Whereabouts::Cluster,
            has_more_addresses: false,
            has_more_ports: false,
        }
    }

    /// The gap, if there is one.
    pub(crate) fn into_gap(self) -> Option<Gap> {
        let is_some = self.has_more_labels || self.has_more_addresses || self.has_more_ports;
        is_some.then_some(Gap::Entity(self))
    }

    fn is_any_of(&self, kinds: EntityKinds) -> bool {
        KINDS.into_iter().any(|kind| self.kinds.contains(kind) && kinds.contains(kind))
    }

    /// Whether `selector` selects it; `None` when that is not known.
    fn selected_by(&self, selector: &EntitySelector) -> Option<bool> {
        if self.is_any_of(selector.kinds) { self.holds(&selector.expr) } else { Some(false) }
    }

    fn holds(&self, expr: &Expr) -> Option<bool> {
        match expr {
            Expr::Not(inner) => self.holds(inner).map(|holds| !holds),
            Expr::And(operands) => self.first(operands, false),
            Expr::Or(operands) => self.first(operands, true),
            test => match test.label() {
                Some(label) if !self.knows(label) => None,
                _ => Some(test.matches(self)),
            },
        }
    }

    /// `decisive` when an operand is, its contrary when none can be.
    fn first(&self, operands: &[Expr], decisive: bool) -> Option<bool> {
        let mut result = Some(!decisive);
        for operand in operands {
            match self.holds(operand) {
                Some(holds) if holds == decisive => return Some(decisive),
                Some(_) => {}
                None => result = None,
            }
        }
        result
    }

    fn knows(&self, label: &LabelRef) -> bool {
        match (label.scope, &self.namespace) {
            (Scope::Own, _) => {
                let is_complete = !self.has_more_labels && !self.inherits;
                is_complete || self.labels.value(&label.key).is_some()
            }
            (_, Whereabouts::Anywhere) => false,
            (Scope::ServiceAccount, _) | (Scope::Namespace, Whereabouts::Cluster) => true,
            (Scope::Namespace, Whereabouts::Namespace(_)) => [NAME_KEY, METADATA_NAME].contains(&&*label.key),
        }
    }
}

/// The labels that are known.
impl LabelSource for EntityGap {
    fn label(&self, scope: Scope, key: &str) -> Option<&str> {
        match (scope, &self.namespace) {
            (Scope::Own, _) => self.labels.value(key),
            (Scope::Namespace, Whereabouts::Namespace(name)) if [NAME_KEY, METADATA_NAME].contains(&key) => {
                Some(name)
            }
            _ => None,
        }
    }
}

/// The policies that deny everything of endpoints with the label [`UNREADABLE`]: which policies are for them is not known.
pub(crate) fn closing() -> [Policy; 3] {
    let policy = |suffix: &str, placement, directions: Directions| {
        let subject = EntitySelector { kinds: ENDPOINTS, expr: is_marked() };
        let id = PolicyId::new(CLOSING, None, alloc::format!("{UNREADABLE}{suffix}"));
        let mut policy = Policy::new(id, tier::CLOSED, subject, directions);
        policy.order = Some(tier::first());
        policy.placement = placement;
        let rules = |is_on: bool| -> Vec<Rule> { if is_on { vec![deny_all()] } else { Vec::new() } };
        (policy.ingress, policy.egress) = (rules(directions.ingress), rules(directions.egress));
        policy
    };
    [
        policy("", Placement::ApplyOnForward, Directions::BOTH),
        policy("#pre-dnat", Placement::PreDnat, Directions::INGRESS),
        policy("#untracked", Placement::Untracked, Directions::BOTH),
    ]
}

/// The kind in the identity of the policies of [`closing`]. No kind of object is called so.
pub(crate) const CLOSING: &str = "Endpoint";
/// What can be subject to policy.
pub(crate) const ENDPOINTS: EntityKinds = EntityKinds::WORKLOAD.union(EntityKinds::HOST);
const KINDS: [EntityKinds; 4] =
    [EntityKinds::WORKLOAD, EntityKinds::HOST, EntityKinds::NETWORK_SET, EntityKinds::NODE];
