//! Lists of objects.

use super::{error, one, one_json, read, shown};

fn identities(text: &str) -> Vec<String> {
    read(text)
        .iter()
        .map(|result| match result {
            Ok(document) => format!("{} {}", document.api_version(), document.identity()),
            Err(error) => error.to_string(),
        })
        .collect()
}

#[test]
fn lists_are_taken_apart() {
    assert_eq!(
        identities(
            "apiVersion: v1\nkind: List\nmetadata: {resourceVersion: ''}\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a, namespace: ns}}\n\
             - apiVersion: v1\n  kind: List\n  items: [{apiVersion: b/v1, kind: Job, metadata: {name: b}}]\n- {apiVersion: v1, kind: T}\n"
        ),
        ["v1 Pod ns/a", "b/v1 Job b", "v1 T"]
    );
    assert_eq!(identities("apiVersion: v1\nkind: List\nitems: []\n"), [""; 0]);
    assert_eq!(identities("apiVersion: v1\nkind: List\nitems:\n"), [""; 0]);
    assert_eq!(identities("apiVersion: v1\nkind: List\n"), [""; 0]);
}

#[test]
fn items_of_typed_lists_take_their_type_from_the_list() {
    let text = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicyList\nitems:\n- metadata: {name: a}\n- metadata: {name: b}\n  kind: Other\n- {apiVersion: x/v1, kind: null}\n";
    assert_eq!(
        identities(text),
        ["networking.k8s.io/v1 NetworkPolicy a", "networking.k8s.io/v1 Other b", "x/v1 NetworkPolicy"]
    );
    let document = one_json(
        r#"{"apiVersion": "v1", "kind": "PodList", "items": [{"metadata": {"name": "p", "namespace": "ns"}}]}"#,
    );
    assert_eq!((document.kind(), document.name(), document.namespace()), ("Pod", Some("p"), Some("ns")));
    assert_eq!(document.locate("metadata.name"), crate::Position::new(1, 73));
}

#[test]
fn a_kind_that_only_ends_in_list() {
    assert_eq!(one("apiVersion: x/v1\nkind: AllowList\nspec: {}\n").kind(), "AllowList");
    assert_eq!(
        one("apiVersion: x/v1\nkind: AllowList\nmetadata: {name: a}\nitems: [1.2.3.4]\n").kind(),
        "AllowList"
    );
}

#[test]
fn bad_lists() {
    assert_eq!(
        error("apiVersion: v1\nkind: List\nitems: {}\n"),
        "a.yaml:3:8: List: items: expected a list, found a mapping"
    );
    assert_eq!(
        error("apiVersion: v1\nkind: PodList\nitems: 1\n"),
        "a.yaml:3:8: PodList: items: expected a list, found the integer `1`"
    );
    assert_eq!(
        shown(&read(
            "apiVersion: v1\nkind: List\nitems:\n- null\n- a\n- {kind: Pod, metadata: {name: b}}\n- {}\n"
        )),
        [
            "a.yaml:4:3: items[0]: expected an object, found null",
            "a.yaml:5:3: items[1]: expected an object, found the text `a`",
            "a.yaml:6:3: Pod b: items[2]: missing field `apiVersion`",
            "a.yaml:7:3: items[3]: missing field `apiVersion`",
        ]
    );
}
