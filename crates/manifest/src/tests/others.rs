//! Documents that are no Kubernetes objects.

use portcullis_k8s::ImportOptions;

use super::{error_in, read, read_with, shown};
use crate::{Limits, Loaded, Loader};

fn load(name: &str, text: &str) -> Loaded {
    let mut loader = Loader::new(Limits::default(), ImportOptions::new());
    loader.add_stream(name, text.as_bytes());
    loader.finish().unwrap()
}

fn counted(name: &str, text: &str) -> Vec<(&'static str, u64)> {
    let loaded = load(name, text);
    assert!(loaded.skipped.is_empty(), "{:?}", loaded.skipped);
    loaded.others.into_iter().collect()
}

#[test]
fn documents_are_counted_by_what_they_are() {
    for (name, text, what) in [
        ("values.yaml", "image: a\n", "Helm values"),
        ("c/values-prod.yaml", "kind: DaemonSet\nimage: a\n", "Helm values"),
        ("c/prod.values.yml", "a: b\n", "Helm values"),
        ("c/Chart.yaml", "apiVersion: v2\nname: a\nversion: 1.0.0\n", "Helm chart"),
        ("kustomization.yaml", "resources: [a.yaml]\n", "Kustomization"),
        ("k/kustomization.yml", "kind: Kustomization\n", "Kustomization"),
        ("x.yaml", "patchesStrategicMerge: [a.yaml]\n", "Kustomization"),
        ("docker-compose.yml", "version: '3'\nservices:\n  web: {image: nginx}\n", "Compose file"),
        (".github/workflows/ci.yaml", "on: push\njobs: {}\n", "CI workflow"),
        ("ci.yaml", "on: [push]\njobs: {build: {steps: []}}\n", "CI workflow"),
        (".gitlab-ci.yml", "build:\n  script: !reference [.a, script]\n", "CI workflow"),
        (".drone.yml", "kind: pipeline\ntype: docker\n", "CI workflow"),
        ("api.yaml", "openapi: 3.0.0\npaths: {}\n", "OpenAPI specification"),
        ("api.json", "{\"swagger\": \"2.0\"}", "OpenAPI specification"),
        ("values.schema.json", "{\"$schema\": \"x\"}", "Helm values"),
        ("a.schema.json", "{\"$schema\": \"x\"}", "JSON schema"),
        ("stack.yaml", "AWSTemplateFormatVersion: x\nA: !Ref B\n", "CloudFormation template"),
        ("rules.yaml", "groups: [{name: a, rules: []}]\n", "Prometheus rules"),
        ("ds.yaml", "apiVersion: 1\ndatasources: []\n", "Grafana provisioning"),
        ("play.yaml", "- hosts: all\n  tasks: []\n", "Ansible playbook"),
        ("p.yaml", "- op: replace\n  path: /spec/replicas\n  value: 3\n", "JSON patch"),
        ("p.json", "[{\"op\": \"add\", \"path\": \"/a\", \"value\": 1}]", "JSON patch"),
        ("l.yaml", "- a\n- b\n", "other list"),
        ("l.yaml", "[]\n", "other list"),
        ("a.yaml", "a: b\n", "other document"),
        ("a.yaml", "a: 1\na: 2\n<<: {b: c}\n<<: {d: e}\n", "other document"),
        ("a.json", "{}", "other document"),
    ] {
        assert_eq!(counted(name, text), [(what, 1)], "{name}: {text}");
    }
}

#[test]
fn half_a_head_is_an_error() {
    for (text, expected) in [
        ("kind: Pod\n", "a.yaml:1:1: Pod: missing field `apiVersion`"),
        ("apiVersion: v1\nmetadata: {name: a}\n", "a.yaml:1:1: missing field `kind`"),
        (
            "apiVersion: 1\nmetadata: {name: a}\n",
            "a.yaml:1:13: apiVersion: expected text, found the integer `1`",
        ),
        ("apiversion: v1\nKind: Pod\nmetadata: {name: a}\n", "a.yaml:1:1: missing field `apiVersion`"),
        ("kind: {[a]: b}\n", "a.yaml:1:8: kind: a key must be text, not a list or a mapping"),
    ] {
        assert_eq!(shown(&read(text)), [expected], "{text}");
    }
}

#[test]
fn an_object_without_any_head_is_told() {
    let loaded = load("a.yaml", "---\nmetadata: {name: a}\nspec: {podSelector: {}}\n");
    assert_eq!(loaded.others.into_iter().collect::<Vec<_>>(), [("other document", 1)]);
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings, ["a.yaml:2:1: passed over, because it has neither `apiVersion` nor `kind`"]);
}

#[test]
fn lists_of_objects_as_calicoctl_takes_them() {
    let yaml = "- apiVersion: v1\n  kind: Pod\n  metadata: {name: a}\n- {apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: T}]}\n";
    let json = r#"[{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}, {"apiVersion": "v1", "kind": "T"}]"#;
    assert_eq!(
        shown(&read(yaml)),
        [
            "1:3:{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {\"name\": \"a\"}}",
            "4:40:{\"apiVersion\": \"v1\", \"kind\": \"T\"}"
        ]
    );
    for name in ["a.json", "stdin"] {
        let seen = shown(&read_with(&Limits::default(), name, json.as_bytes()));
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert!(seen[0].starts_with("1:2:") && seen[1].starts_with("1:66:"), "{seen:?}");
    }
    // Each item needs a head of its own.
    assert_eq!(
        shown(&read("- {apiVersion: v1, kind: T}\n- {kind: Pod}\n- {op: add, path: /a}\n- null\n"))[1..],
        [
            "a.yaml:2:3: Pod: [1]: missing field `apiVersion`",
            "a.yaml:3:3: [2]: missing field `apiVersion`",
            "a.yaml:4:3: [3]: expected an object, found null"
        ]
    );
    // Many in one line, as programs write them.
    let long = format!("[{}]", vec![r#"{"apiVersion": "v1", "kind": "T", "v": "x"}"#; 100_000].join(","));
    assert_eq!(read_with(&Limits::default(), "stdin", long.as_bytes()).len(), 100_000);
}

#[test]
fn compressed_files_are_named_so() {
    assert_eq!(
        error_in("a.yaml", b"\x1f\x8b\x08\x00rest"),
        "a.yaml:1:1: the file is compressed by gzip; unpack it first"
    );
}

#[test]
fn a_chart_of_other_charts_is_told() {
    let text = "apiVersion: v2\nname: a\ndependencies: [{name: b}]\n";
    let loaded = load("c/a/Chart.yaml", text);
    assert_eq!(
        loaded.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "c/a/Chart.yaml:1:1: the dependencies of this chart are not read; read what it renders to: `helm template RELEASE c/a | portcullis eval -f - ...`"
        ]
    );
}

#[test]
fn templates_of_openshift() {
    let template = |version: &str, object: &str| {
        format!(
            "apiVersion: {version}\nkind: Template\nmetadata: {{name: t}}\nobjects:\n- {object}\nparameters: []\n"
        )
    };
    let policy = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: '${NAME}'}}";
    for version in ["template.openshift.io/v1", "v1"] {
        let mut loader = Loader::new(Limits::default(), ImportOptions::new());
        loader.add_stream("t.yaml", template(version, policy).as_bytes());
        assert_eq!(
            loader.finish().unwrap_err().to_string(),
            "t.yaml:1:1: Template t: an unprocessed template of OpenShift; process it and read the result: `oc process --local -f t.yaml | portcullis eval -f - ...`, or leave it out with `--exclude`"
        );
        let loaded = load("t.yaml", &template(version, "{apiVersion: v1, kind: Secret}"));
        assert_eq!(loaded.skipped["Template"], 1);
    }
    assert_eq!(load("t.yaml", &template("example.org/v1", policy)).skipped["Template"], 1);
}

const POLICY: &str = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: d, namespace: shop}, spec: {podSelector: {}}}";

fn fails(name: &str, text: &str) -> String {
    let mut loader = Loader::new(Limits::default(), ImportOptions::new());
    loader.add_stream(name, text.as_bytes());
    loader.finish().unwrap_err().to_string()
}

#[test]
fn objects_are_not_lost_in_what_is_no_object() {
    for (text, place) in
        [(format!("items:\n- {POLICY}\n"), "a.yaml:2:3"), (format!("- - {POLICY}\n"), "a.yaml:1:5")]
    {
        let expected = format!("{place}: NetworkPolicy shop/d: the document holds objects, ");
        assert!(fails("a.yaml", &text).starts_with(&expected), "{}", fails("a.yaml", &text));
    }
    let template = format!(
        "apiVersion: template.openshift.io/v1\nkind: Template\nmetadata: {{name: x}}\nobjects:\n- {POLICY}\n"
    );
    assert!(fails("stdin", &template).contains("oc process"));
    let list = format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicyList\nmetadata: {{name: x}}\nitems:\n- {POLICY}\n"
    );
    assert_eq!(load("a.yaml", &list).locations.len(), 1);
    // A patch holds objects that become part of others.
    let patch = format!("- {{op: add, path: /x, value: {POLICY}}}\n");
    assert_eq!(counted("a.yaml", &patch), [("JSON patch", 1)]);
    let headless = load("a.yaml", "- metadata: {name: d}\n  spec: {podSelector: {}}\n");
    assert!(headless.warnings[0].to_string().contains("neither `apiVersion` nor `kind`"));
}

#[test]
fn an_object_with_half_a_head_is_none_of_what_its_file_is_called() {
    let text = "kind: NetworkPolicy\nmetadata: {name: d, namespace: shop}\nspec: {podSelector: {}}\n";
    assert_eq!(
        fails("values.yaml", text),
        "values.yaml:1:1: NetworkPolicy shop/d: missing field `apiVersion`"
    );
}

#[test]
fn policies_whose_names_are_left_to_the_server_are_as_many_as_they_are() {
    let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {generateName: p-, namespace: shop}\nspec: {podSelector: {}}\n";
    let loaded = load("a.yaml", &format!("{policy}---\n{policy}"));
    let places: Vec<String> =
        loaded.locations.iter().map(|(id, place)| format!("{} {}", id.name, place.position)).collect();
    assert_eq!(places, ["p-* 1:1", "p-*#2 6:1"]);
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {generateName: p-, namespace: shop}\n";
    let loaded = load("a.yaml", &format!("{pod}---\n{pod}"));
    let ids = loaded.updates.iter().filter_map(|update| match update {
        portcullis_core::model::Update::Endpoint(endpoint) => Some(endpoint.id.clone()),
        _ => None,
    });
    assert_eq!(ids.collect::<alloc::collections::BTreeSet<_>>().len(), 2);
}
