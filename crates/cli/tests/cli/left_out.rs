//! What the command says about input that its answers leave out.

use crate::{Folder, portcullis};

const FOREIGN: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: m}
spec: {containers: [{name: c}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: a, namespace: m}
---
apiVersion: crd.antrea.io/v1beta1
kind: ClusterNetworkPolicy
metadata: {name: b}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: c, namespace: m}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: d, namespace: m}
";

#[test]
fn policies_of_another_plugin_are_named_even_when_quiet() {
    let folder = Folder::new("foreign");
    let file = folder.write("a.yaml", FOREIGN);
    for command in [&["eval", "--from", "192.0.2.1", "--to", "m/web", "--port", "80"][..], &["compile"]] {
        let run = portcullis(&[command, &["-f", &file, "-q"]].concat());
        assert_eq!(run.code, 0, "{run:?}");
        let lines: Vec<&str> = run.stderr.lines().collect();
        assert_eq!(lines.len(), 2, "{run:?}");
        assert!(
            lines[0].starts_with("warning: ")
                && lines[0].contains("a.yaml:6:1: 2 `CiliumNetworkPolicy` of `cilium.io`")
        );
        assert!(lines[1].contains("a.yaml:10:1: 1 `ClusterNetworkPolicy` of `crd.antrea.io`"));
        assert!(lines.iter().all(|line| line.contains("answers leave")), "{run:?}");
    }
}

#[test]
fn strict_refuses_them() {
    let folder = Folder::new("strict");
    let file = folder.write("a.yaml", FOREIGN);
    for command in [&["eval", "--from", "192.0.2.1", "--to", "m/web", "--port", "80"][..], &["compile"]] {
        let run = portcullis(&[command, &["-f", &file, "--strict"]].concat());
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:?}");
        assert!(
            run.stderr.contains("CiliumNetworkPolicy") && run.stderr.contains("ClusterNetworkPolicy"),
            "{run:?}"
        );
    }
    let plain = folder.write("b.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: m}\n");
    assert_eq!(portcullis(&["compile", "-f", &plain, "--strict", "-q"]).code, 0);
}

#[test]
fn an_object_given_twice_is_counted() {
    let folder = Folder::new("again");
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: m, labels: {a: b}, resourceVersion: '1'}\nspec: {containers: [{name: c}]}\n";
    let again = r#"{"kind": "List", "apiVersion": "v1", "items": [{"kind": "Pod", "apiVersion": "v1", "status": {"phase": "Running"},
        "spec": {}, "metadata": {"labels": {"a": "b"}, "namespace": "m", "name": "web", "resourceVersion": "2"}}]}"#;
    let files = [folder.write("a.yaml", pod), folder.write("b.json", again)];
    let args =
        ["eval", "-f", &files[0], "-f", &files[1], "--from", "192.0.2.1", "--to", "m/web", "--port", "80"];
    let run = portcullis(&args);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(run.stderr, "skipped: 1 objects that were given before with the same meaning (Pod 1)\n");
    assert_eq!(portcullis(&[&args[..], &["-q"]].concat()).stderr, "");
    let other = folder.write("b.json", again.replace("\"b\"", "\"c\""));
    let run = portcullis(&["compile", "-f", &files[0], "-f", &other]);
    assert_eq!(run.code, 1);
    assert!(
        run.stderr.contains("Pod m/web: metadata.name: an object of this name was given before, with other content; another one of this name is at")
            && run.stderr.contains("a.yaml:1:1"),
        "{run:?}"
    );
}

#[test]
fn a_workload_of_a_kind_that_is_not_read_is_named() {
    let folder = Folder::new("rollout");
    let rollout = "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: web}\nspec: {template: {spec: {containers: [{name: c}]}}}\n";
    let file =
        folder.write("a.yaml", format!("kind: ConfigMap\napiVersion: v1\n---\n{rollout}---\n{rollout}"));
    let run = portcullis(&["compile", "-f", &file, "-o", "none"]);
    assert_eq!(run.code, 0, "{run:?}");
    let warning = format!(
        "warning: {file}:4:1: Rollout default/web: makes pods, and objects of its kind are not read: no pod stands for it\n"
    );
    assert!(run.stderr.starts_with(&warning), "{run:?}");
    assert!(run.stderr.contains("(ConfigMap 1, Rollout 2)"), "{run:?}");
}
