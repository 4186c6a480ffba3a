//! What programs read and write is what `docs/schemas` says.

use serde_json::Value;

use crate::{Folder, portcullis, portcullis_with};

const FLOW: &str = include_str!("../../../../docs/schemas/flow.json");
const ANSWER: &str = include_str!("../../../../docs/schemas/answer.json");

/// The words of JSON Schema that the two schemas use; any other is an error, so that none is passed over.
fn faults(schema: &Value, root: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let is_of = |kind: &str| match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("unknown type {other}"),
    };
    for (word, rule) in schema.as_object().unwrap() {
        let met = match word.as_str() {
            "$schema" | "title" | "description" | "$defs" => true,
            "type" => match rule {
                Value::String(kind) => is_of(kind),
                kinds => list(kinds).iter().any(|kind| is_of(kind.as_str().unwrap())),
            },
            "enum" => list(rule).contains(value),
            "minimum" => value.as_i64() >= rule.as_i64(),
            "maximum" => value.as_i64() <= rule.as_i64(),
            "required" => list(rule).iter().all(|name| value.get(name.as_str().unwrap()).is_some()),
            "additionalProperties" => value.as_object().into_iter().flatten().all(|(name, _)| {
                let is_known = schema["properties"].get(name).is_some();
                if !is_known {
                    found.push(format!("{at}: `{name}` is not in the schema"));
                }
                is_known
            }),
            "properties" => {
                for (name, rule) in rule.as_object().unwrap() {
                    if let Some(inner) = value.get(name) {
                        faults(rule, root, inner, &format!("{at}.{name}"), found);
                    }
                }
                true
            }
            "items" => {
                for (index, item) in list(value).iter().enumerate() {
                    faults(rule, root, item, &format!("{at}[{index}]"), found);
                }
                true
            }
            "anyOf" => {
                let tries: Vec<Vec<String>> = list(rule)
                    .iter()
                    .map(|schema| {
                        let mut wrong = Vec::new();
                        faults(schema, root, value, at, &mut wrong);
                        wrong
                    })
                    .collect();
                if tries.iter().all(|wrong| !wrong.is_empty()) {
                    found.extend(tries.into_iter().next_back().unwrap_or_default());
                }
                true
            }
            "$ref" => {
                let name = rule.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                faults(&root["$defs"][name], root, value, at, found);
                true
            }
            other => panic!("the schema uses `{other}`, which is not checked"),
        };
        if !met {
            found.push(format!("{at}: {word} {rule} does not hold for {value}"));
        }
    }
}

fn check(schema: &str, text: &str) -> Vec<String> {
    let schema: Value = serde_json::from_str(schema).unwrap();
    let value: Value = serde_json::from_str(text).unwrap();
    let mut found = Vec::new();
    faults(&schema, &schema, &value, "$", &mut found);
    found
}

/// Objects and flows that make use of every field there is.
const OBJECTS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: shop, labels: {app: a}}
spec: {nodeName: n1, containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: shop, labels: {app: b}}
status: {podIP: 10.0.0.2}
---
apiVersion: v1
kind: Node
metadata: {name: n1}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
---
apiVersion: v1
kind: Service
metadata: {name: a, namespace: shop}
spec: {selector: {app: a}, clusterIP: 10.96.0.1, ports: [{port: 8080, targetPort: http}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: np, namespace: shop}
spec: {podSelector: {matchLabels: {app: a}}, ingress: [{ports: [{port: 80}]}]}
---
apiVersion: projectcalico.org/v3
kind: StagedGlobalNetworkPolicy
metadata: {name: shut}
spec: {selector: app == 'b', types: [Egress], order: 1.5, egress: [{action: Log}, {action: Deny}]}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: l7}
spec:
  selector: app == 'b'
  types: [Ingress]
  ingress: [{action: Allow, http: {methods: [GET]}}, {action: Pass}]
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: c, namespace: shop}
spec: {}
";

const FLOWS: &[&str] = &[
    r#"{"from": "shop/b", "to": "shop/a", "port": 80}"#,
    r#"{"id": {"n": 1}, "from": "shop/b", "to": "shop/a", "expect": "allow"}"#,
    r#"{"id": "x", "from": "shop/b", "to": "shop/a", "port": "http", "expect": "deny"}"#,
    r#"{"from": "shop/a", "to": "shop/b", "protocol": 6, "port": 80}"#,
    r#"{"from": "shop/a", "to": "shop/b", "port": 80, "http": {"method": "GET", "path": "/"}, "principal": "spiffe://x/ns/a/sa/b"}"#,
    r#"{"from": "node/n1", "to": "shop/a", "protocol": "UDP", "port": 53, "sourcePort": 5353, "family": 4}"#,
    r#"{"from": "203.0.113.1", "to": "shop/a", "protocol": "ICMP", "icmpType": 3, "icmpCode": 4}"#,
    r#"{"from": "shop/a", "to": "shop/a", "port": null, "family": null}"#,
    r#"{"from": "shop/b", "to": "10.96.0.1", "port": 8080}"#,
];

#[test]
fn flows_and_answers_keep_their_schemas() {
    let folder = Folder::new("schemas");
    let file = folder.write("k.yaml", OBJECTS);
    for flow in FLOWS {
        assert_eq!(check(FLOW, flow), Vec::<String>::new(), "{flow}");
    }
    let flows = FLOWS.join("\n");
    let mut seen = String::new();
    for more in [&[][..], &["--staged"], &["--explain", "--staged"], &["--baseline", "per-pod", "--trace"]] {
        let args = ["eval", "-f", &file, "--flows", "-", "-o", "jsonl"];
        let run = portcullis_with(&[&args[..], more].concat(), flows.as_bytes());
        assert_eq!(run.stdout.lines().count(), FLOWS.len(), "{run:?}");
        for line in run.stdout.lines() {
            assert_eq!(check(ANSWER, line), Vec::<String>::new(), "{line}");
        }
        seen.push_str(&run.stdout);
    }
    for field in ["trace", "staged", "asExpected", "parts", "warnings", "location", "icmp", "needs-http"] {
        assert!(seen.contains(&format!("\"{field}\"")), "no answer has `{field}`");
    }
    // One flow is one object, many are a list.
    let args = ["eval", "-q", "-f", &file, "--from", "shop/b", "--to", "shop/a", "-o", "json"];
    let run = portcullis(&args);
    assert_eq!(check(ANSWER, &run.stdout), Vec::<String>::new());
}

#[test]
fn the_schemas_refuse_what_the_command_refuses() {
    for (flow, says) in [
        ("{}", "required"),
        (r#"{"from": "a/b", "to": "a/c", "prt": 1}"#, "prt"),
        (r#"{"from": "a/b", "to": 1}"#, "$.to"),
        (r#"{"from": "a/b", "to": "a/c", "port": 70000}"#, "$.port"),
        (r#"{"from": "a/b", "to": "a/c", "family": 5}"#, "$.family"),
        (r#"{"from": "a/b", "to": "a/c", "http": {"method": "GET"}}"#, "$.http"),
        (r#"{"from": "a/b", "to": "a/c", "expect": "maybe"}"#, "$.expect"),
    ] {
        assert!(check(FLOW, flow).join("\n").contains(says), "{flow}: {:?}", check(FLOW, flow));
        let run =
            portcullis_with(&["eval", "-q", "-f", "examples/yaobank/base", "--flows", "-"], flow.as_bytes());
        assert_eq!(run.code, 1, "{flow}: {run:?}");
    }
}
