//! What Calico objects become, and which are refused.

mod objects;
mod policies;
mod rules;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use portcullis_core::model::{Policy, Rule, Update};
use portcullis_core::selector::{Expr, Selector};
use serde_json::{Value, json};

use crate::kind::{Kind, Relevance};
use crate::names::Names;
use crate::object::Object;

/// Converts an object; the error and warning texts joined by line breaks.
fn convert(kind: &str, metadata: &Value, spec: &Value) -> Result<(Vec<Update>, String), String> {
    let document =
        json!({"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": metadata, "spec": spec});
    let Relevance::Relevant(kind) = Kind::of("projectcalico.org/v3", kind) else { panic!("{kind}") };
    let Object::Calico(object) = Object::deserialize(kind, document).map_err(|e| e.to_string())? else {
        panic!("not of Calico")
    };
    let lines = |texts: Vec<String>| texts.join("\n");
    match object.convert(&mut Names::default()) {
        Ok((form, warnings)) => {
            Ok((form.into_updates(), lines(warnings.iter().map(ToString::to_string).collect())))
        }
        Err(errors) => {
            assert!(!errors.is_empty(), "a refusal without a reason");
            Err(lines(errors.iter().map(ToString::to_string).collect()))
        }
    }
}

/// A policy `n/p`, or `p` for the global kinds, and the warnings.
fn policy_and_warnings(kind: &str, spec: &Value) -> Result<(Policy, String), String> {
    let metadata =
        if kind.contains("Global") { json!({"name": "p"}) } else { json!({"name": "p", "namespace": "n"}) };
    let (mut updates, warnings) = convert(kind, &metadata, spec)?;
    match (updates.pop(), updates.is_empty()) {
        (Some(Update::Policy(policy)), true) => Ok((policy, warnings)),
        other => panic!("not one policy: {other:?}"),
    }
}

fn policy(kind: &str, spec: &Value) -> Policy {
    policy_and_warnings(kind, spec).unwrap().0
}

/// The only ingress rule of a policy of `kind`.
fn ingress(kind: &str, rule: &Value) -> Rule {
    let mut policy = policy(kind, &json!({"ingress": [rule]}));
    assert_eq!(policy.ingress.len(), 1);
    policy.ingress.remove(0)
}

/// The only egress rule of a policy of `kind`.
fn egress(kind: &str, rule: &Value) -> Rule {
    let mut policy = policy(kind, &json!({"egress": [rule]}));
    assert_eq!(policy.egress.len(), 1);
    policy.egress.remove(0)
}

/// The error for an ingress rule of a GlobalNetworkPolicy.
fn refused(rule: &Value) -> String {
    match policy_and_warnings("GlobalNetworkPolicy", &json!({"ingress": [rule]})) {
        Ok(_) => panic!("accepted: {rule}"),
        Err(error) => error,
    }
}

/// `rule` with `"action": "Allow"`.
fn allow(mut rule: Value) -> Value {
    rule.as_object_mut().unwrap().entry("action").or_insert_with(|| json!("Allow"));
    rule
}

/// The expression of a selector text over own labels.
fn own(text: &str) -> Expr {
    Selector::parse(text).unwrap().into_expr()
}

/// "Is in namespace `name`".
fn in_namespace(name: &str) -> Expr {
    Expr::Eq(super::selector::namespace_name(), name.into())
}

/// "Has a namespace".
fn has_namespace() -> Expr {
    Expr::Has(super::selector::namespace_name())
}

/// The expression of a selector text over the labels of the namespace.
fn of_namespace(text: &str) -> Expr {
    own(text).in_scope(portcullis_core::label::Scope::Namespace)
}

/// The expression of a selector text over the labels of the service account.
fn of_account(text: &str) -> Expr {
    own(text).in_scope(portcullis_core::label::Scope::ServiceAccount)
}

/// Asserts that every line of a table is refused with a message that holds the given part.
fn assert_refused(table: &[(Value, &str)]) {
    for (rule, part) in table {
        let error = refused(&allow(rule.clone()));
        assert!(error.contains(part), "{rule}: {error}");
        assert!(
            error.contains("spec.ingress[0]") || error.contains("unknown field") || error.contains("invalid"),
            "{error}"
        );
    }
}

/// `count` different texts.
fn many(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|i| format!("{prefix}{i}")).collect()
}
