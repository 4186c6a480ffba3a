//! `-k`, with programs that stand for `kubectl` and `kustomize`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::{Folder, Run, portcullis};

const BUILT: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: prod}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: prod}
spec: {podSelector: {}}
";

/// A program of that name that gives out `built.yaml` of the folder it is asked about when it is called as it should be.
fn program(folder: &Folder, name: &str, command: &str) {
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = {command} ] && [ \"$2\" = -- ] || exit 9\necho 'a field is deprecated' >&2\nexec /bin/cat \"$3/built.yaml\"\n"
    );
    let path = folder.write(&format!("bin/{name}"), script);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Asks about a flow of the overlay, with no other programs than those of the folder.
fn eval(folder: &Folder, args: &[&str]) -> Run {
    let flow = ["--from", "192.0.2.1", "--to", "prod/web", "--port", "80", "-o", "jsonl"];
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .current_dir(folder.path())
        .env("PATH", Path::new(folder.path()).join("bin"))
        .arg("eval")
        .args(args)
        .args(flow)
        .output()
        .unwrap();
    Run {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn what_a_kustomization_builds_is_read() {
    for (name, command) in [("kubectl", "kustomize"), ("kustomize", "build")] {
        let folder = Folder::new(&format!("kustomize-{name}"));
        folder.write("over/prod/built.yaml", BUILT);
        program(&folder, name, command);
        let run = eval(&folder, &["-k", "over/prod"]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert!(run.stdout.contains("\"verdict\":\"deny\""), "{}", run.stdout);
        assert_eq!(run.stderr, format!("warning: over/prod: `{name} {command}`: a field is deprecated\n"));
        assert_eq!(eval(&folder, &["-k", "over/prod", "-q"]).stderr, "");
        // Its positions are those of the output.
        folder.write("over/prod/built.yaml", BUILT.replace("spec:", "spce:"));
        let run = eval(&folder, &["-k", "over/prod"]);
        assert_eq!(run.code, 1);
        assert!(run.stderr.contains("over/prod:9:1: NetworkPolicy prod/closed: spce: "), "{}", run.stderr);
    }
}

#[test]
fn what_the_program_refuses_is_bad_input() {
    let folder = Folder::new("kustomize-fails");
    folder.write("over/kustomization.yaml", "resources: [gone.yaml]\n");
    program(&folder, "kubectl", "kustomize");
    let run = eval(&folder, &["-k", "over"]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""));
    assert!(
        run.stderr.starts_with("error: over: `kubectl kustomize` fails: a field is deprecated; "),
        "{}",
        run.stderr
    );
    let run = eval(&folder, &["-k", "https://example.org/x"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("https://example.org/x: no such directory"), "{}", run.stderr);
}

#[test]
fn without_a_program_it_cannot_be_done() {
    let folder = Folder::new("kustomize-missing");
    folder.write("over/kustomization.yaml", "resources: []\n");
    let run = eval(&folder, &["-k", "over"]);
    assert_eq!(run.code, 3);
    assert_eq!(run.stderr, "error: over: `-k` needs `kubectl` or `kustomize`, and neither is installed\n");
}

#[test]
fn something_must_be_read() {
    let flow = ["eval", "--from", "a/b", "--to", "a/b"];
    let run = portcullis(&flow);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("--filename <PATH>"), "{}", run.stderr);
    let run = portcullis(&[&flow[..], &["-f", "examples", "--exclude", "a["]].concat());
    assert_eq!(run.code, 2);
    assert!(run.stderr.starts_with("error: --exclude: the pattern `a[`: "), "{}", run.stderr);
}
