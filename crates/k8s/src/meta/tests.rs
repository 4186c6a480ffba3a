//! Which metadata is refused.

use alloc::string::ToString;

use super::strict::is_timestamp;
use super::*;
use crate::names::Names;

fn identify(json: serde_json::Value, placing: Placing) -> Result<(String, usize), String> {
    let meta = strict(json).map_err(|e| e.to_string())?;
    let mut names = Names::default();
    let mut cx = Context::new(&mut names, meta.reference("Thing", placing));
    let identity = meta.identify_strict(placing, validate::dns_subdomain, &mut cx);
    let (identity, warnings) = cx
        .finish(identity)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    let namespace = identity.namespace.as_deref().unwrap_or("-").to_string();
    Ok((format!("{namespace}/{}", identity.name), warnings.len()))
}

#[test]
fn names_and_namespaces_have_defaults() {
    let ok = |v, p| identify(v, p).unwrap();
    assert_eq!(ok(serde_json::json!({"name": "a"}), Placing::Namespaced), ("default/a".into(), 0));
    assert_eq!(ok(serde_json::json!({"name": "a", "namespace": ""}), Placing::Namespaced).0, "default/a");
    assert_eq!(ok(serde_json::json!({"name": "a", "namespace": "n"}), Placing::Namespaced).0, "n/a");
    assert_eq!(ok(serde_json::json!({"name": "a", "namespace": "n"}), Placing::Cluster), ("-/a".into(), 1));
    assert_eq!(ok(serde_json::json!({"generateName": "a-"}), Placing::Cluster), ("-/a-*".into(), 1));
}

#[test]
fn wrong_metadata_is_refused() {
    for (json, part) in [
        (serde_json::json!({}), "metadata.name: a name is required"),
        (serde_json::json!({"name": ""}), "metadata.name"),
        (serde_json::json!({"name": "A"}), "metadata.name: `A` must be a DNS subdomain"),
        (serde_json::json!({"name": "a", "namespace": "a.b"}), "metadata.namespace: `a.b`"),
        (serde_json::json!({"generateName": "A-"}), "metadata.generateName"),
        (serde_json::json!({"name": "a", "labels": {"": "x"}}), "metadata.labels[]"),
        (
            serde_json::json!({"name": "a", "labels": {"a": "x y"}}),
            "metadata.labels[a]: the label value `x y`",
        ),
        (serde_json::json!({"name": "a", "labels": {"a": 1}}), "invalid type"),
        (serde_json::json!({"name": "a", "annotations": {"a b": "x"}}), "metadata.annotations[a b]"),
        (serde_json::json!({"name": "a", "annotations": {"a": "x".repeat(262_144)}}), "262145 bytes"),
        (serde_json::json!({"name": "a", "lables": {}}), "unknown field"),
        (serde_json::json!({"name": "a", "Labels": {}}), "unknown field"),
        (serde_json::json!({"name": 5}), "invalid type"),
        (serde_json::json!({"name": "a", "creationTimestamp": "yesterday"}), "is not a time"),
        (serde_json::json!({"name": "a", "finalizers": ["a b"]}), "metadata.finalizers[0]"),
        (serde_json::json!({"name": "a", "ownerReferences": [{}]}), "metadata.ownerReferences[0].uid"),
    ] {
        let error = identify(json.clone(), Placing::Namespaced).unwrap_err();
        assert!(error.contains(part), "{json}: {error}");
    }
}

#[test]
fn everything_a_server_returns_is_known() {
    let json = serde_json::json!({
        "name": "a", "namespace": "n", "uid": "1", "resourceVersion": "5", "generation": 1,
        "creationTimestamp": "2024-02-29T10:00:00Z", "deletionTimestamp": null, "selfLink": "/x",
        "deletionGracePeriodSeconds": 3, "managedFields": [{"manager": "kubectl"}],
        "annotations": {"Example.COM/x": null}, "finalizers": ["a/b"], "labels": null, "clusterName": "",
        "initializers": {"pending": [{"name": "x"}]},
        "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "n", "uid": "u",
            "controller": true, "blockOwnerDeletion": true}],
    });
    assert_eq!(identify(json, Placing::Namespaced).unwrap(), ("n/a".into(), 0));
}

#[test]
fn null_in_labels_and_annotations_is_the_empty_text() {
    let json = serde_json::json!({"name": "a", "labels": {"a": null, "b": "c"}, "annotations": {"d": null}});
    for meta in [strict(json.clone()).unwrap(), ObjectMeta::deserialize(json).unwrap()] {
        let labels: Vec<_> = meta.labels.as_ref().unwrap().iter().collect();
        assert_eq!(labels, [(&"a".to_string(), &String::new()), (&"b".to_string(), &"c".to_string())]);
        assert_eq!(meta.annotations.unwrap()["d"], "");
    }
}

#[test]
fn times() {
    for good in ["2024-01-31T12:00:00Z", "2024-02-29T00:00:00.123+01:00", "2024-12-31T23:59:59,5-11:30"] {
        assert!(is_timestamp(good), "{good}");
    }
    for bad in [
        "",
        "2024-01-31",
        "2023-02-29T00:00:00Z",
        "2024-01-31T12:00:00",
        "2024-13-01T00:00:00Z",
        "2024-01-31T24:00:00Z",
        "2024-01-31t12:00:00Z",
        "2024-01-31T12:00:00.Z",
        "2024-01-31T12:00:00Zx",
    ] {
        assert!(!is_timestamp(bad), "{bad}");
    }
}
