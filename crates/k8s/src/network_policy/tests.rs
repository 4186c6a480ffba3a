use alloc::string::ToString as _;

use portcullis_core::compile::Compiler;
use portcullis_core::model::{Directions, Update};
use serde_json::json;

use crate::network_policy::NetworkPolicy;

/// A section without its type is told and not handed on: the compiler takes no rules of a direction that is off.
#[test]
fn rules_of_a_direction_that_the_types_leave_out_are_a_warning() {
    for (types, directions, rules, warned) in [
        (json!(["Ingress"]), Directions::INGRESS, (1, 0), "spec.egress"),
        (json!(["Egress"]), Directions::EGRESS, (0, 1), "spec.ingress"),
        (json!(["Ingress", "Egress"]), Directions::BOTH, (1, 1), ""),
    ] {
        let object = json!({
            "metadata": {"name": "p", "namespace": "n"},
            "spec": {"policyTypes": types, "ingress": [{}], "egress": [{}]},
        });
        let policy: NetworkPolicy = serde_json::from_value(object).unwrap();
        let (policy, warnings) = policy.convert().unwrap();
        assert_eq!(policy.directions, directions);
        assert_eq!((policy.ingress.len(), policy.egress.len()), rules);
        assert_eq!(warnings.len(), usize::from(!warned.is_empty()), "{warnings:?}");
        assert!(warnings.iter().all(|warning| warning.to_string().contains(warned)), "{warnings:?}");
        assert_eq!(Compiler::check(&Update::Policy(policy)), Ok(()));
    }
}
