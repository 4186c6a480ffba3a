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
