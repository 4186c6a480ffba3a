//! Reading objects into types.

use alloc::collections::BTreeMap;

use serde::Deserialize;

use super::{one, one_json};
use crate::{Document, Position};

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Policy {
    #[serde(default)]
    api_version: String,
    kind: String,
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    ingress: Option<Vec<Rule>>,
    #[serde(default)]
    order: Option<f64>,
    #[serde(default = "seven")]
    seven: u8,
}

const fn seven() -> u8 {
    7
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    #[serde(default)]
    from: Vec<Peer>,
    #[serde(default)]
    ports: Vec<Port>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Peer {
    ip_block: IpBlock,
}

#[derive(Debug, PartialEq, Deserialize)]
struct IpBlock {
    cidr: String,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    port: u16,
    #[serde(default)]
    protocol: Option<Protocol>,
    #[serde(default)]
    open: bool,
}

#[derive(Debug, PartialEq, Deserialize)]
enum Protocol {
    #[serde(rename = "TCP")]
    Tcp,
    #[serde(rename = "UDP")]
    Udp,
    Number(u8),
}

fn policy(rest: &str) -> Document {
    one(&format!("apiVersion: v1\nkind: P\nmetadata:\n  name: x\n  namespace: ns\n{rest}"))
}

fn refused(rest: &str) -> String {
    policy(rest).deserialize::<Policy>().unwrap_err().to_string()
}

#[test]
fn what_fits() {
    let document = policy(
        "  labels: {a: '1', b: \"yes\"}\nspec:\n  ingress:\n  - from:\n    - ipBlock: {cidr: 10.0.0.0/8}\n    ports:\n    - {port: 80, protocol: TCP, open: true}\n    - {port: 0x50, protocol: {Number: 6}}\n  order: 3\n",
    );
    let policy: Policy = document.deserialize().unwrap();
    assert_eq!(policy.metadata.labels["b"], "yes");
    assert_eq!(policy.spec.order, Some(3.0));
    let rule = &policy.spec.ingress.unwrap()[0];
    assert_eq!(rule.from[0].ip_block.cidr, "10.0.0.0/8");
    assert_eq!(rule.ports[0], Port { port: 80, protocol: Some(Protocol::Tcp), open: true });
    assert_eq!(rule.ports[1], Port { port: 80, protocol: Some(Protocol::Number(6)), open: false });
}

#[test]
fn a_null_field_is_absent() {
    let policy: Policy = policy("  labels: ~\nspec:\n  ingress:\n  - {from: null, ports: }\n  seven: ~\n")
        .deserialize()
        .unwrap();
    assert_eq!(policy.spec.ingress, Some(vec![Rule::default()]));
    assert_eq!(policy.spec.seven, 7);
    assert!(policy.metadata.labels.is_empty());
    let policy: Policy =
        one("apiVersion: v1\nkind: P\nmetadata: {name: x}\nspec: null\n").deserialize().unwrap();
    assert_eq!(policy.spec, Spec::default());
}

#[test]
fn null_elsewhere_is_refused() {
    assert_eq!(refused("spec:\n  ingress: [null]\n"), "a.yaml:7:13: P ns/x: spec.ingress[0]: null in a list");
    assert_eq!(refused("spec:\n  ingress:\n  -\n"), "a.yaml:8:4: P ns/x: spec.ingress[0]: null in a list");
    assert_eq!(
        refused("  labels:\n    a: x\n    b:\n"),
        "a.yaml:8:5: P ns/x: metadata.labels.b: expected text, found null"
    );
    assert_eq!(refused("spec:\n  wrong: ~\n"), "a.yaml:7:3: P ns/x: spec.wrong: unknown field `wrong`");
    assert!(
        one("apiVersion: v1\nkind: P\nmetadata: {name: ~}\n")
            .deserialize::<Policy>()
            .unwrap_err()
            .to_string()
            .ends_with("a.yaml:3:11: P: metadata: missing field `name`")
    );
}

#[test]
fn nothing_is_coerced() {
    for (text, expected) in [
        (
            "  labels: {a: 1}\n",
            "6:15: P ns/x: metadata.labels.a: expected text, found the integer `1`; put it in quotes",
        ),
        (
            "  labels: {a: yes}\n",
            "6:15: P ns/x: metadata.labels.a: expected text, found the truth value `yes`; put it in quotes",
        ),
        (
            "  labels: {a: 1.0}\n",
            "6:15: P ns/x: metadata.labels.a: expected text, found the number `1.0`; put it in quotes",
        ),
        (
            "  labels: {app.io/a: [x]}\n",
            "6:22: P ns/x: metadata.labels[app.io/a]: expected text, found a list",
        ),
        ("spec: x\n", "6:7: P ns/x: spec: expected a mapping, found the text `x`"),
        ("spec: []\n", "6:7: P ns/x: spec: expected a mapping, found a list"),
        ("spec: {ingress: {}}\n", "6:17: P ns/x: spec.ingress: expected a list, found a mapping"),
        ("spec: {order: '3'}\n", "6:15: P ns/x: spec.order: expected a number, found the text `3`"),
        ("spec: {seven: 300}\n", "6:15: P ns/x: spec.seven: `300` is not within 0 to 255"),
        ("spec: {seven: -1}\n", "6:15: P ns/x: spec.seven: `-1` is not within 0 to 255"),
        ("spec: {seven: 1.0}\n", "6:15: P ns/x: spec.seven: expected an integer, found the number `1.0`"),
        (
            "spec: {ingress: [{}, {ports: [{port: '80'}]}]}\n",
            "6:38: P ns/x: spec.ingress[1].ports[0].port: expected an integer, found the text `80`",
        ),
        (
            "spec: {ingress: [{ports: [{port: 70000}]}]}\n",
            "6:34: P ns/x: spec.ingress[0].ports[0].port: `70000` is not within 0 to 65535",
        ),
        (
            "spec: {ingress: [{ports: [{port: 1, open: 1}]}]}\n",
            "6:43: P ns/x: spec.ingress[0].ports[0].open: expected true or false, found the integer `1`",
        ),
        (
            "spec: {ingress: [{ports: [{port: 1, protocol: tcp}]}]}\n",
            "6:47: P ns/x: spec.ingress[0].ports[0].protocol: `tcp` is not one of `TCP`, `UDP`, `Number`",
        ),
        (
            "spec: {ingress: [{ports: [{port: 1, protocol: {Number: 256}}]}]}\n",
            "6:56: P ns/x: spec.ingress[0].ports[0].protocol.Number: `256` is not within 0 to 255",
        ),
        (
            "spec: {ingress: [{ports: [{port: 1, protocol: 6}]}]}\n",
            "6:47: P ns/x: spec.ingress[0].ports[0].protocol: expected text, found the integer `6`; put it in quotes",
        ),
        (
            "spec: {ingress: [{from: [{ipBlock: {}}]}]}\n",
            "6:36: P ns/x: spec.ingress[0].from[0].ipBlock: missing field `cidr`",
        ),
        (
            "spec: {ingress: [{from: [{ipBlok: {}}]}]}\n",
            "6:27: P ns/x: spec.ingress[0].from[0].ipBlok: unknown field `ipBlok`",
        ),
        ("sepc: {}\n", "6:1: P ns/x: sepc: unknown field `sepc`"),
    ] {
        assert_eq!(refused(text), format!("a.yaml:{expected}"), "{text}");
    }
}

#[test]
fn json_is_as_strict() {
    let document =
        one_json(r#"{"apiVersion": "v1", "kind": "P", "metadata": {"name": "x", "labels": {"a": true}}}"#);
    assert_eq!(
        document.deserialize::<Policy>().unwrap_err().to_string(),
        "a.json:1:77: P x: metadata.labels.a: expected text, found the truth value `true`; put it in quotes"
    );
}

#[test]
fn any_value() {
    let document = policy("spec: {a: [1, -1, 18446744073709551615, 1.5, true, null-ish], b: {}}\n");
    let value: serde_json::Value = document.deserialize().unwrap();
    assert_eq!(value["spec"], serde_json::json!({"a": [1, -1, u64::MAX, 1.5, true, "null-ish"], "b": {}}));
}

#[test]
fn positions_by_path() {
    let document = policy(
        "  labels:\n    app.kubernetes.io/name: a\n    app: b\n    a[0]: c\nspec:\n  ingress:\n  - from: []\n  - from:\n    - ipBlock:\n        cidr: x\n",
    );
    for (path, line, column) in [
        ("", 1, 1),
        ("metadata.name", 4, 9),
        ("metadata.labels.app.kubernetes.io/name", 7, 29),
        ("metadata.labels[app.kubernetes.io/name]", 7, 29),
        ("metadata.labels.app", 8, 10),
        ("metadata.labels[a[0]]", 9, 11),
        ("spec.ingress[1].from[0].ipBlock.cidr", 15, 15),
        ("spec.ingress[1].from[0].ipBlock.except[3]", 15, 9),
        ("spec.ingress[7].from", 12, 5),
        ("spec.egress", 11, 3),
        ("nothing.here", 1, 1),
        ("spec.ingress[x", 12, 5),
    ] {
        assert_eq!(document.locate(path), Position::new(line, column), "{path}");
    }
    assert_eq!(
        document.refuse("spec.ingress[1].from[0].ipBlock.cidr", "not a CIDR").to_string(),
        "a.yaml:15:15: P ns/x: spec.ingress[1].from[0].ipBlock.cidr: not a CIDR"
    );
    assert_eq!(document.refuse("", "no").to_string(), "a.yaml:1:1: P ns/x: no");
}
