//! Keys that occur twice in a mapping.

use portcullis_k8s::ImportOptions;
use serde::Deserialize;

use super::{one, one_json, refused};
use crate::{Limits, Loader, ReadErrorKind};

/// The warnings for a manifest, or its errors.
fn load(text: &str) -> Result<Vec<String>, String> {
    let mut loader = Loader::new(Limits::default(), ImportOptions::new());
    loader.add_stream(if text.starts_with('{') { "a.json" } else { "a.yaml" }, text.as_bytes());
    match loader.finish() {
        Ok(loaded) => Ok(loaded.warnings.iter().map(ToString::to_string).collect()),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn different_values_are_refused_where_they_are_read() {
    let text = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: ns}\nspec:\n  podSelector: {}\n  ingress:\n  - from: []\n    ports: []\n    from: [{podSelector: {}}]\n";
    let expected =
        "a.yaml:9:5: NetworkPolicy ns/p: spec.ingress[0].from: duplicate key `from`, first seen at 7:5";
    assert_eq!(refused(text), expected);
    assert_eq!(load(text), Err(expected.to_owned()));
    let json = r#"{"apiVersion": "v1", "kind": "T", "a": {"b": 1, "b": 2}}"#;
    let error = one_json(json).deserialize::<serde_json::Value>().unwrap_err();
    assert_eq!(error.to_string(), "a.json:1:49: T: a.b: duplicate key `b`, first seen at 1:41");
    assert_eq!(error.kind(), ReadErrorKind::DuplicateKey);
    // Two spellings of one key.
    assert!(refused("apiVersion: v1\nkind: T\nyes: 1\n'true': 2\n").contains("duplicate key `true`"));
    // A large mapping is compared in another way.
    let mut text = String::from("apiVersion: v1\nkind: T\n");
    for number in 0..50 {
        text.push_str(&format!("k{number}: a\n"));
    }
    text.push_str("k7: b\n");
    assert!(refused(&text).starts_with("a.yaml:53:1: T: k7: duplicate key `k7`, first seen at 10:1"));
}

#[test]
fn a_first_value_that_is_null_does_not_hide_the_second() {
    #[derive(Debug, Deserialize)]
    struct Thing {
        #[expect(dead_code, reason = "only read")]
        value: Option<u32>,
    }
    let document = one("apiVersion: v1\nkind: T\nvalue:\nvalue: 3\n");
    let error = document.deserialize::<Thing>().unwrap_err();
    assert_eq!(error.to_string(), "a.yaml:4:1: T: value: duplicate key `value`, first seen at 3:1");
    let document = one("apiVersion: v1\nkind: T\nother:\nother: 3\nvalue: 3\n");
    assert!(document.deserialize::<Thing>().is_ok(), "what is not read may be anything");
}

#[test]
fn what_an_object_is_must_be_beyond_doubt() {
    for (text, expected) in [
        (
            "apiVersion: v1\nkind: T\nkind: Pod\n",
            "a.yaml:3:1: T: kind: duplicate key `kind`, first seen at 2:1",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\napiVersion: v2\n",
            "a.yaml:3:1: ConfigMap: apiVersion: duplicate key `apiVersion`, first seen at 1:1",
        ),
        (
            "apiVersion: v1\nkind: List\nitems: []\nitems: [{apiVersion: v1, kind: Pod}]\n",
            "a.yaml:4:1: List: items: duplicate key `items`, first seen at 3:1",
        ),
    ] {
        assert_eq!(super::error(text), expected);
    }
}

#[test]
fn equal_values_are_told() {
    for (text, field) in [
        (
            "kind: NetworkPolicy\napiVersion: networking.k8s.io/v1\nmetadata:\n  name: p\n  labels:\n    app: a\n    x: w\n    app: a\nspec: {podSelector: {}}\n",
            "metadata.labels.app",
        ),
        (
            "kind: NetworkPolicy\napiVersion: networking.k8s.io/v1\nmetadata: {name: p}\nspec:\n  ingress:\n  - {ports: [{port: 80}], ports: [{port: 0x50}]}\n  podSelector: {matchLabels: {a: b, c: d}}\n  podSelector: {matchLabels: {c: d, a: b}}\n",
            "spec.ingress[0].ports",
        ),
        (
            "{\"kind\": \"Pod\", \"apiVersion\": \"v1\", \"metadata\": {\"name\": \"p\", \"name\": \"p\"}}",
            "metadata.name",
        ),
        ("kind: Pod\napiVersion: v1\nkind: Pod\nmetadata: {name: a}\n", "kind"),
    ] {
        let warnings = load(text).unwrap();
        assert!(!warnings.is_empty(), "{text}");
        let all = warnings.join("\n");
        assert!(all.contains(&format!(": {field}: duplicate key `")), "{all}");
        assert!(warnings.iter().all(|warning| warning.ends_with(", with the same value")), "{all}");
    }
}

#[test]
fn what_no_policy_depends_on_may_differ() {
    for text in [
        "kind: ConfigMap\napiVersion: v1\nmetadata: {name: a}\ndata:\n  a: 1\n  a: 2\n",
        "kind: Service\napiVersion: v1\nmetadata: {name: a, annotations: {a: b, a: c}, labels: {a: b, a: c}}\n",
        "kind: Deployment\napiVersion: apps/v1\nmetadata: {name: a}\nspec:\n  selector: {}\n  template:\n    metadata:\n      annotations: {checksum/config: b, checksum/config: c}\n      annotations: {other: x}\n",
        "kind: Pod\napiVersion: v1\nmetadata: {name: a}\nspec:\n  containers:\n  - {name: a, image: a, image: b}\n",
        "kind: Ingress\napiVersion: networking.k8s.io/v1\nmetadata: {name: a}\nspec: {rules: [], rules: [1]}\n",
    ] {
        let warnings = load(text).unwrap();
        assert!(warnings.len() >= text.matches("annotations").count().max(1), "{text}: {warnings:?}");
        for warning in warnings {
            assert!(warning.ends_with("with another value; policy does not depend on it"), "{warning}");
        }
    }
    for text in [
        "kind: Deployment\napiVersion: apps/v1\nmetadata: {name: a}\nspec: {template: {metadata: {labels: {app: a, app: b}}}}\n",
        "kind: Pod\napiVersion: v1\nmetadata: {name: a, labels: {app: a, app: b}}\n",
        "kind: Namespace\napiVersion: v1\nmetadata: {name: a, labels: {app: a}, labels: {}}\n",
        "kind: NetworkPolicy\napiVersion: networking.k8s.io/v1\nmetadata: {name: p, annotations: {a: b, a: c}}\nspec: {podSelector: {}}\n",
        "kind: Service\napiVersion: v1\nmetadata: {name: a}\nspec: {selector: {a: b, a: c}}\n",
    ] {
        assert!(load(text).unwrap_err().contains(": duplicate key `"), "{text}");
    }
}

#[test]
fn a_value_that_is_doubtful_inside_is_not_equal() {
    let text = "apiVersion: v1\nkind: T\na: {b: 1}\na: {b: 1, b: 2}\n";
    assert_eq!(refused(text), "a.yaml:4:1: T: a: duplicate key `a`, first seen at 3:1");
    // What follows is another matter.
    let text = "apiVersion: v1\nkind: T\na: 1\na: 1\nc: {b: 1, b: 2}\n";
    assert_eq!(refused(text), "a.yaml:5:11: T: c.b: duplicate key `b`, first seen at 5:5");
}

#[test]
fn a_merge_sees_each_key_once() {
    let text = "apiVersion: v1\nkind: T\na: &a {x: 1, x: 1, z: 2}\nb:\n  <<: *a\n  z: 3\n  z: 3\n";
    assert_eq!(format!("{:?}", one(text).root().get("b").unwrap()), "{\"z\": 3, \"x\": 1}");
    assert_eq!(one(text).root().get("b").unwrap().len(), 2);
}

#[test]
fn thousands_of_repeats_cost_no_more_than_others() {
    let mut text = String::from("kind: ConfigMap\napiVersion: v1\nmetadata: {name: a}\ndata:\n");
    for number in 0..100_000 {
        text.push_str(&format!("  k{}: {number}\n", number % 50_000));
    }
    let warnings = load(&text).unwrap();
    assert_eq!(warnings.len(), 21);
    assert!(warnings[20].ends_with("49980 more duplicate keys"), "{}", warnings[20]);
    let pod = text.replace("ConfigMap", "Pod");
    assert_eq!(load(&pod).unwrap().len(), 21);
}

#[test]
fn a_merge_takes_the_doubt_along() {
    let head =
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: d, namespace: shop}\n";
    let inside = format!(
        "{head}spec: {{podSelector: {{}}, policyTypes: [Ingress], <<: {{ingress: [{{}}], ingress: []}}}}\n"
    );
    let expected =
        "a.yaml:4:69: NetworkPolicy shop/d: spec.ingress: duplicate key `ingress`, first seen at 4:54";
    assert_eq!(load(&inside), Err(expected.to_owned()));
    let twice = format!(
        "{head}spec: {{podSelector: {{}}, policyTypes: [Ingress], <<: {{<<: {{ingress: [{{}}], ingress: []}}}}}}\n"
    );
    assert!(load(&twice).unwrap_err().contains("spec.ingress: duplicate key `ingress`"));
    // From an object that does not matter.
    let policy = head.replace('\n', "\n  ");
    let list = format!(
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  metadata: {{name: c}}\n  \
         data: &d {{ingress: [{{}}], ingress: []}}\n- {policy}spec: {{podSelector: {{}}, policyTypes: [Ingress], <<: *d}}\n"
    );
    assert!(load(&list).unwrap_err().contains("NetworkPolicy shop/d: spec.ingress: duplicate key `ingress`"));
    // What comes after the merge wins, and nothing is lost.
    let own = format!(
        "{head}spec: {{<<: {{ingress: [{{}}], ingress: []}}, podSelector: {{}}, policyTypes: [Ingress], ingress: []}}\n"
    );
    assert!(load(&own).is_ok());
    // Equal but for what is doubtful in one of them.
    for second in ["{<<: *d}", "*d"] {
        let same = format!(
            "apiVersion: v1\nkind: List\nitems:\n- {{apiVersion: v1, kind: ConfigMap, data: &d {{podSelector: {{}}, ingress: [{{}}], ingress: []}}}}\n- {policy}spec: {{podSelector: {{}}, ingress: [{{}}]}}\n  spec: {second}\n"
        );
        let error = load(&same).unwrap_err();
        assert!(error.contains("duplicate key `spec`"), "{error}");
    }
}

#[test]
fn only_annotations_are_annotations() {
    let label = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  labels: {x.metadata.annotations: a, x.metadata.annotations: b}\n";
    assert!(load(label).unwrap_err().contains("duplicate key `x.metadata.annotations`"));
    // Of these one is read.
    let endpoints = "apiVersion: v1\nkind: Endpoints\nmetadata: {name: a, annotations: {b: c, b: d}}\n";
    assert!(load(endpoints).unwrap_err().contains("duplicate key `b`"));
}

#[test]
fn many_objects_with_a_doubt_each_cost_no_more_than_one_by_one() {
    let mut text = String::from("apiVersion: v1\nkind: List\nitems:\n");
    for number in 0..20_000 {
        text.push_str(&format!(
            "- {{apiVersion: v1, kind: Namespace, metadata: {{name: n{number}, annotations: {{a: b, a: c}}}}}}\n"
        ));
    }
    let start = std::time::Instant::now();
    assert_eq!(load(&text).unwrap().len(), 20_000);
    // It took minutes when each object looked through the doubts of all.
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

#[test]
fn numbers_with_a_fraction_are_keys_as_a_server_has_them() {
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {1.50: x}\n";
    assert_eq!(load(map), Ok(Vec::new()));
    assert!(refused("apiVersion: v1\nkind: T\n1.50: a\n'1.5': b\n").contains("duplicate key `1.5`"));
    assert!(load(&map.replace("1.50", "1e30")).unwrap_err().contains("a key must be text"));
}
