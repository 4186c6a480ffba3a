//! Kubernetes label selectors.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use portcullis_core::label::{Name, Scope};
use portcullis_core::quote::quoted;
use portcullis_core::selector::{Expr, LabelRef};
use serde::Deserialize;

use crate::context::Context;
use crate::path::Path;
use crate::repeats;
use crate::validate;

/// A Kubernetes label selector (`metav1.LabelSelector`). Empty selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelSelector {
    /// Labels that must be present with exactly these values.
    #[serde(deserialize_with = "repeats::texts")]
    pub match_labels: Option<BTreeMap<String, String>>,
    /// Further requirements; all must hold.
    pub match_expressions: Option<Vec<LabelSelectorRequirement>>,
}

/// One requirement of a [`LabelSelector`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelSelectorRequirement {
    /// The label key.
    pub key: Option<String>,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: Option<String>,
    /// The values of `In` and `NotIn`.
    pub values: Option<Vec<String>>,
}

/// How strictly the spelling of a selector is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// As for built-in kinds, whose selectors the API server checks: everything wrong is an error.
    Checked,
    /// As for custom resources, whose selectors the server stores unchecked: keys, values and numbers of values
    /// that no selector should have are warnings and make the selector [`Soundness::Odd`].
    Unchecked,
}

/// Whether a selector follows the spelling rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Soundness {
    /// It does.
    Sound,
    /// It does not, so implementations disagree about it. The expression takes it literally.
    Odd,
}

impl LabelSelector {
    /// The selector as an expression over the labels of `scope`; errors are noted for every part that the API
    /// server would refuse.
    ///
    /// `NotIn` and `DoesNotExist` hold for objects without the label; `In` and `Exists` do not.
    /// Source: kubernetes `apimachinery/pkg/apis/meta/v1/validation/validation.go` and `pkg/labels/selector.go`.
    pub(crate) fn expr(&self, scope: Scope, path: &Path<'_>, cx: &mut Context<'_>) -> Expr {
        self.read(scope, Spelling::Checked, path, cx).0
    }

    /// As [`LabelSelector::expr`], for the given strictness.
    pub(crate) fn read(
        &self,
        scope: Scope,
        spelling: Spelling,
        path: &Path<'_>,
        cx: &mut Context<'_>,
    ) -> (Expr, Soundness) {
        let mut reader = Reader { scope, spelling, soundness: Soundness::Sound };
        let mut terms = Vec::new();
        let labels = path.field("matchLabels");
        for (key, value) in self.match_labels.iter().flatten() {
            reader.key(key, &labels.key(key), cx);
            reader.value(value, &labels.key(key), cx);
            terms.push(Expr::Eq(LabelRef::new(scope, cx.name(key)), cx.name(value)));
        }
        let expressions = path.field("matchExpressions");
        for (i, requirement) in self.match_expressions.iter().flatten().enumerate() {
            terms.extend(reader.requirement(requirement, &expressions.index(i), cx));
        }
        (conjunction(terms), reader.soundness)
    }
}

struct Reader {
    scope: Scope,
    spelling: Spelling,
    soundness: Soundness,
}

impl Reader {
    fn odd(&mut self, path: &Path<'_>, reason: String, cx: &mut Context<'_>) {
        self.soundness = Soundness::Odd;
        match self.spelling {
            Spelling::Checked => cx.error(path, reason),
            Spelling::Unchecked => cx.warn(path, reason),
        }
    }

    fn key(&mut self, key: &str, path: &Path<'_>, cx: &mut Context<'_>) {
        if let Err(reason) = validate::label_key(key) {
            self.odd(path, format!("the label key {} is not valid: {reason}", quoted(key)), cx);
        }
    }

    fn value(&mut self, value: &str, path: &Path<'_>, cx: &mut Context<'_>) {
        if let Err(reason) = validate::label_value(value) {
            self.odd(path, format!("the label value {} is not valid: {reason}", quoted(value)), cx);
        }
    }

    fn requirement(
        &mut self,
        requirement: &LabelSelectorRequirement,
        path: &Path<'_>,
        cx: &mut Context<'_>,
    ) -> Option<Expr> {
        let key_path = path.field("key");
        let key = match requirement.key.as_deref() {
            Some(key) => key,
            None => {
                cx.error(&key_path, "a label key is required");
                ""
            }
        };
        if requirement.key.is_some() {
            self.key(key, &key_path, cx);
        }
        let values = requirement.values.as_deref().unwrap_or_default();
        let values_path = path.field("values");
        for (i, value) in values.iter().enumerate() {
            self.value(value, &values_path.index(i), cx);
        }
        let label = LabelRef::new(self.scope, cx.name(key));
        let operator = requirement.operator.as_deref().unwrap_or_default();
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                self.odd(&values_path, format!("`{operator}` needs at least one value"), cx);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                self.odd(&values_path, format!("`{operator}` takes no values"), cx);
            }
            _ => {}
        }
        match operator {
            "In" => Some(Expr::In(label, value_set(values, cx))),
            "NotIn" => Some(Expr::NotIn(label, value_set(values, cx))),
            "Exists" => Some(Expr::Has(label)),
            "DoesNotExist" => Some(Expr::Not(Expr::Has(label).into())),
            _ => {
                cx.error(
                    &path.field("operator"),
                    format!("{} is not one of `In`, `NotIn`, `Exists`, `DoesNotExist`", quoted(operator)),
                );
                None
            }
        }
    }
}

/// Every term holds; no term is everything.
pub(crate) fn conjunction(mut terms: Vec<Expr>) -> Expr {
    match terms.len() {
        0 => Expr::All,
        1 => terms.pop().unwrap_or(Expr::All),
        _ => Expr::And(terms),
    }
}

/// Sorted, without duplicates, as [`Expr::In`] requires.
fn value_set(values: &[String], cx: &mut Context<'_>) -> Vec<Name> {
    let mut set: Vec<Name> = values.iter().map(|v| cx.name(v)).collect();
    set.sort_unstable();
    set.dedup();
    set
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use portcullis_core::label::Labels;

    use super::*;
    use crate::error::ObjectRef;
    use crate::names::Names;

    fn expr(json: serde_json::Value) -> Result<Expr, String> {
        let selector = LabelSelector::deserialize(json).map_err(|e| e.to_string())?;
        let mut names = Names::default();
        let object = ObjectRef { kind: "Thing".into(), namespace: None, name: "x".into() };
        let mut cx = Context::new(&mut names, object);
        let expr = selector.expr(Scope::Own, &Path::root("sel"), &mut cx);
        cx.finish(Some(expr)).map(|(e, _)| e).map_err(|e| e[0].to_string())
    }

    #[test]
    fn operators_on_present_and_missing_labels() {
        let labels: Labels = [("app", "web"), ("empty", "")].into_iter().collect();
        let matches = |json| expr(json).unwrap().matches(&labels);
        assert!(matches(serde_json::json!({})));
        assert!(matches(serde_json::json!({"matchLabels": null, "matchExpressions": null})));
        assert!(matches(serde_json::json!({"matchLabels": {"app": "web"}})));
        assert!(!matches(serde_json::json!({"matchLabels": {"app": ""}})));
        assert!(matches(serde_json::json!({"matchLabels": {"empty": ""}})));
        assert!(!matches(serde_json::json!({"matchLabels": {"missing": ""}})));
        assert!(!matches(serde_json::json!({"matchLabels": {"app": "web", "missing": "x"}})));
        let op = |key: &str, op: &str, values: &[&str]| {
            matches(serde_json::json!({"matchExpressions": [{"key": key, "operator": op, "values": values}]}))
        };
        assert!(op("app", "In", &["x", "web"]));
        assert!(!op("missing", "In", &["x"]));
        assert!(!op("app", "NotIn", &["x", "web"]));
        assert!(op("app", "NotIn", &["x"]));
        assert!(op("missing", "NotIn", &["x"]));
        assert!(op("empty", "Exists", &[]));
        assert!(!op("missing", "Exists", &[]));
        assert!(op("missing", "DoesNotExist", &[]));
        assert!(!op("app", "DoesNotExist", &[]));
    }

    #[test]
    fn what_the_server_refuses() {
        for (json, part) in [
            (serde_json::json!({"matchLabels": {"a b": "x"}}), "sel.matchLabels[a b]: the label key"),
            (serde_json::json!({"matchLabels": {"a": "x!"}}), "sel.matchLabels[a]: the label value `x!`"),
            (serde_json::json!({"matchLabels": {"a": null}}), "invalid type"),
            (serde_json::json!({"matchLabels": {"a": true}}), "invalid type"),
            (serde_json::json!({"matchlabels": {}}), "unknown field"),
            (serde_json::json!({"matchExpressions": [null]}), "invalid type"),
            (serde_json::json!({"matchExpressions": [{}]}), "sel.matchExpressions[0].key"),
            (
                serde_json::json!({"matchExpressions": [{"key": "a"}]}),
                "sel.matchExpressions[0].operator: `` is not",
            ),
            (
                serde_json::json!({"matchExpressions": [{"key": "a", "operator": "in", "values": ["x"]}]}),
                "`in` is not",
            ),
            (serde_json::json!({"matchExpressions": [{"key": "a", "operator": "In"}]}), "needs at least one"),
            (
                serde_json::json!({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": []}]}),
                "needs at least one",
            ),
            (
                serde_json::json!({"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["x"]}]}),
                "takes no values",
            ),
            (
                serde_json::json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["x y"]}]}),
                "values[0]",
            ),
            (
                serde_json::json!({"matchExpressions": [{"key": "a", "operator": "In", "values": [1]}]}),
                "invalid type",
            ),
        ] {
            let error = expr(json.clone()).unwrap_err();
            assert!(error.contains(part), "{json}: {error}");
        }
    }
}
