//! What stands in the place of an object that cannot be read (decision D13).
//!
//! The strict reading decides what is clear: it is asked about each part of a policy alone, beside parts that are known to
//! be right. So no second reading exists that could be more lenient than the first one in anything else.

mod parts;
mod policy;
mod shape;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use portcullis_core::label::Labels;
use portcullis_core::model::{Action, Policy, Rule};
use serde_json::{Value, json};

use crate::error::ConvertErrors;
use crate::form::Form;
use crate::kind::{CalicoKind, Kind, Known};
use crate::names::Names;
use crate::standing::{Clarity, Standing};
use crate::tier;
use crate::world::ObjectKey;

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
}

impl Kind {
    /// Whether something other than nothing can stand in the place of an object of this kind that was never understood.
    pub(crate) const fn has_safe_form(self) -> bool {
        self.is_policy() || matches!(self.known(), Known::Calico(CalicoKind::HostEndpoint, _))
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
    let nothing = |form| SafeForm {
        form,
        clarity: Clarity::Unclear,
        errors: errors.clone(),
        stands: Standing::Nothing,
    };
    match kind.known() {
        // Staged policies decide nothing.
        Known::Calico(CalicoKind::Policy(_) | CalicoKind::StagedKubernetes, _) => {
            nothing(Some(Form::Policies(Vec::new())))
        }
        Known::Calico(CalicoKind::HostEndpoint, _) => match raw
            .and_then(|raw| host_endpoint(kind, key, raw, names))
        {
            Some(form) => {
                SafeForm { form: Some(form), clarity: Clarity::Unclear, errors, stands: Standing::SafeForm }
            }
            None => nothing(None),
        },
        _ => nothing(None),
    }
}

/// A host endpoint without labels, ports and profiles, with as much of its place as can be read: without policies that
/// select it, only failsafe ports are open. Source: Calico's documentation of host endpoints.
fn host_endpoint(kind: Kind, key: &ObjectKey, raw: &Value, names: &mut Names) -> Option<Form> {
    let spec = raw.get("spec")?;
    let texts = |field| spec.get(field).and_then(Value::as_str);
    let metadata = json!({"name": key.name().as_str()});
    let mut read = |spec: Value| {
        let object = json!({"metadata": metadata.clone(), "spec": spec});
        let (form, _) = parts::strict(kind, key, &object, names).ok()?;
        Some(form)
    };
    let node = json!(texts("node")?);
    let interface = texts("interfaceName").map(|name| json!(name));
    let listed = spec.get("expectedIPs").and_then(Value::as_array).into_iter().flatten();
    let addresses: Vec<&Value> = listed
        .filter(|address| read(json!({"node": node.clone(), "expectedIPs": [address]})).is_some())
        .collect();
    let whole = json!({"node": node.clone(), "interfaceName": interface, "expectedIPs": addresses});
    let form = read(whole).or_else(|| read(json!({"node": node.clone(), "expectedIPs": addresses})))?;
    let Form::Endpoint(mut endpoint) = form else { return None };
    endpoint.labels = Labels::new();
    Some(Form::Endpoint(Box::new(*endpoint)))
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

fn deny_all() -> Rule {
    Rule::new(Action::Deny)
}
