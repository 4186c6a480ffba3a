//! `portcullis compile`.

use std::fs;

use portcullis::ir::Snapshot;

use crate::{Folder, portcullis};

const BASE: &str = "examples/yaobank/base";
const POLICY: &str = "examples/yaobank/2-database-policy";

#[test]
fn prints_the_tables_and_reports_sizes_and_times() {
    let run = portcullis(&["compile", "-f", BASE, "-f", POLICY]);
    assert_eq!(run.code, 0, "{run:?}");
    let snapshot = Snapshot::parse(&run.stdout).unwrap();
    assert_eq!(snapshot.endpoints.len(), 5);
    assert_eq!(snapshot.text().to_string(), run.stdout);
    for line in
        ["classes", "programs", "cells", "tables", "bytes, encoded", "read", "compile", "lower to matcher"]
    {
        assert!(run.stderr.contains(line), "{line}: {}", run.stderr);
    }
    // The same objects, from other arguments: the same bytes.
    let again = portcullis(&["compile", "-q", "-f", POLICY, "-f", BASE]);
    assert_eq!((again.stdout, again.stderr.as_str()), (run.stdout, ""));
}

#[test]
fn an_agent_of_one_node_compiles_less() {
    let all = portcullis(&["compile", "-q", "-f", BASE, "-f", POLICY]);
    let none = portcullis(&["compile", "-q", "-f", BASE, "-f", POLICY, "--node", "no-such-node"]);
    assert_eq!(none.code, 0);
    assert!(Snapshot::parse(&none.stdout).unwrap().endpoints.is_empty());
    assert_ne!(all.stdout, none.stdout);
}

#[test]
fn bytes_go_to_a_file() {
    let folder = Folder::new("compile");
    let file = format!("{}/tables", folder.path());
    let command = format!(
        "exec {} compile -q -f {BASE} -f {POLICY} -o binary > {file}",
        env!("CARGO_BIN_EXE_portcullis")
    );
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let status = std::process::Command::new("sh").args(["-c", &command]).current_dir(root).status().unwrap();
    assert!(status.success());
    let text = portcullis(&["compile", "-q", "-f", BASE, "-f", POLICY]).stdout;
    let snapshot = Snapshot::from_bytes(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(snapshot.text().to_string(), text);
}

#[test]
fn bad_manifests_are_refused_as_by_eval() {
    let folder = Folder::new("compile-bad");
    let file = folder.write("bad.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: P}\n");
    let run = portcullis(&["compile", "-f", &file]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""));
    assert!(run.stderr.starts_with(&format!("error: {file}:3")), "{run:?}");
}
