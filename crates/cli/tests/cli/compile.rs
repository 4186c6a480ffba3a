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

/// The endpoints of the example, each behind an interface of its own.
const BOUND: [&str; 10] = [
    "--bind",
    "kube-system/coredns=veth4",
    "--bind",
    "default/visitor=veth0",
    "--bind",
    "yaobank/customer=veth1",
    "--bind",
    "yaobank/database=veth2",
    "--bind",
    "yaobank/summary=veth3",
];

fn to(target: &str, bound: &[&str]) -> crate::Run {
    portcullis(&[&["compile", "-q", "-f", BASE, "-f", POLICY, "--to", target], bound].concat())
}

#[test]
fn the_nftables_table_is_printed_as_text_and_as_json() {
    let text = to("nft", &BOUND);
    if cfg!(not(feature = "nftables-json")) {
        assert_eq!((text.code, text.stdout.as_str()), (3, ""));
        assert!(text.stderr.contains("feature `nftables-json`"), "{text:?}");
        return;
    }
    assert_eq!(text.code, 0, "{text:?}");
    assert!(text.stdout.starts_with("add table inet portcullis"), "{text:?}");
    let json = to("nft-json", &BOUND);
    assert_eq!(json.code, 0, "{json:?}");
    let value: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    let commands = value["nftables"].as_array().unwrap();
    // Both name each interface.
    for interface in ["veth0", "veth1", "veth2", "veth3"] {
        assert!(text.stdout.contains(interface) && json.stdout.contains(interface), "{interface}");
    }
    // The JSON has a command for each of the text, but for the check of neighbour claims, which has no JSON.
    let claims = |line: &str| {
        ["chain arp ", " advertisements", " workload_neighbours"].iter().any(|part| line.contains(part))
    };
    let made = |line: &&str| line.starts_with("add chain") && !claims(line);
    let chains = |text: &str| text.lines().filter(made).count();
    // One more chain makes nft see that packets add elements to a set, and goes at once.
    let added = |command: &&serde_json::Value| {
        command["add"].get("chain").is_some_and(|chain| chain["name"] != "event_budgets")
    };
    let json_chains = commands.iter().filter(added).count();
    assert_eq!(json_chains, chains(&text.stdout));
}

#[test]
fn an_endpoint_that_the_table_would_not_guard_is_an_error() {
    if cfg!(not(feature = "nftables-json")) {
        return;
    }
    for (bound, said) in [
        (&BOUND[..8], "yaobank/summary=veth0"),
        (&[&BOUND[..], &["--bind", "yaobank/typo=veth4"]].concat(), "`yaobank/typo`"),
        (&["--bind", "yaobank/summary"], "there is no `=`"),
        (&["--bind", "yaobank/summary=a b"], "no interface name"),
    ] {
        let run = to("nft", bound);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{bound:?}: {run:?}");
        assert!(run.stderr.contains(said), "{bound:?}: {run:?}");
    }
}
