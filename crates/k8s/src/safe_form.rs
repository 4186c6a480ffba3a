//! What stands in the place of an object that cannot be read (decision D13).
//!
//! The strict reading decides what is clear: it is asked about each part of a policy alone, beside parts that are known to
//! be right. So no second reading exists that could be more lenient than the first one in anything else.

mod partial;
mod parts;
mod policy;
mod shape;
#[cfg(test)]
pub(crate) mod tests;

use alloc::vec;
use alloc::vec::Vec;

use portcullis_core::model::{Action, Policy, Rule};
use serde_json::Value;

use crate::error::ConvertErrors;
use crate::form::Form;
use crate::gap::Gap;
use crate::kind::{CalicoKind, Kind, Known};
use crate::names::Names;
use crate::standing::{Clarity, Standing};
use crate::tier;
use crate::world::ObjectKey;

use partial::Partial;
use shape::Shape;

/// The safe form of an object.
#[derive(Debug)]
pub(crate) struct SafeForm {
    /// `None` when nothing is known of the object but that it exists.
    pub(crate) form: Option<Form>,
    pub(crate) clarity: Clarity,
    /// What is wrong with the object, with the fields as far as they are known.
    pub(crate) errors: ConvertErrors,
    pub(crate) stands: Standing,
    /// What is not known of it, for rules that name it.
    pub(crate) gap: Option<Gap>,
}

impl Kind {
    /// Whether as much of an object of this kind is kept as can be read, when it was never understood as a whole.
    pub(crate) const fn has_safe_form(self) -> bool {
        self.is_policy()
            || matches!(
                self.known(),
                Known::Node
                    | Known::EndpointSlice
                    | Known::Endpoints
                    | Known::FelixConfiguration
                    | Known::Calico(
                        CalicoKind::NetworkSet
                            | CalicoKind::GlobalNetworkSet
                            | CalicoKind::HostEndpoint
                            | CalicoKind::WorkloadEndpoint
                            | CalicoKind::Profile,
                        _
                    )
            )
    }
}

/// The safe form of an object that was refused for `errors`. Without its text, nothing of it is known but its name.
pub(crate) fn of(
    kind: Kind,
    key: &ObjectKey,
    raw: Option<&Value>,
    errors: ConvertErrors,
    names: &mut Names,
) -> SafeForm {
    if let Some(shape) = Shape::of(kind) {
        return policy::safe_form(kind, key, &shape, raw, errors, names);
    }
    if let Known::Calico(CalicoKind::Policy(_) | CalicoKind::StagedKubernetes, _) = kind.known() {
        // Staged policies decide nothing.
        let form = Some(Form::Policies(Vec::new()));
        return SafeForm { form, clarity: Clarity::Unclear, errors, stands: Standing::Nothing, gap: None };
    }
    match partial::read(kind, key, raw, names) {
        Some(Partial { form, gap }) => {
            SafeForm { form: Some(form), clarity: Clarity::Unclear, errors, stands: Standing::SafeForm, gap }
        }
        None => SafeForm {
            form: None,
            clarity: Clarity::Unclear,
            errors,
            stands: Standing::Nothing,
            gap: partial::gap(kind, key),
        },
    }
}

/// `policy` where nothing is known of its tier: before all others it denies whatever it may deny.
pub(crate) fn closed(policy: &Policy) -> Policy {
    let mut closed = policy.clone();
    closed.tier = tier::CLOSED.into();
    closed.order = Some(tier::first());
    closed.ingress = if closed.directions.ingress { vec![deny_all()] } else { Vec::new() };
    closed.egress = if closed.directions.egress { vec![deny_all()] } else { Vec::new() };
    closed
}

pub(crate) fn deny_all() -> Rule {
    Rule::new(Action::Deny)
}
