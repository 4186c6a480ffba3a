//! Gates: when a run fails with code 4, and what it says then.

use crate::{Folder, portcullis, portcullis_with};

const BASE: &str = "examples/yaobank/base";
const POLICY: &str = "examples/yaobank/2-database-policy";

fn flow(from: &str, port: u16, expect: &str) -> String {
    format!(r#"{{"from": "{from}", "to": "yaobank/database", "port": {port}, "expect": "{expect}"}}"#)
}

/// Flows on standard input, exit code, and what standard error must hold.
#[test]
fn many_flows() {
    let (allow, deny) = (flow("yaobank/summary", 2379, "allow"), flow("yaobank/customer", 2379, "deny"));
    let (wrong, plain) =
        (flow("yaobank/customer", 2379, "allow"), r#"{"from": "default/visitor", "to": "yaobank/database"}"#);
    let met = format!("{allow}\n{deny}\n");
    for (flows, more, code, says) in [
        (format!("{met}{plain}\n"), &[][..], 0, &["3 flows: 1 allow, 2 deny; all as expected\n"][..]),
        (format!("{plain}\n"), &[], 0, &["1 flow: 1 deny\n"]),
        (format!("{plain}\n"), &["--fail-on-deny"], 4, &["1 flow: 1 deny\n"]),
        (allow.clone(), &["--fail-on-deny"], 0, &["1 flow: 1 allow; all as expected\n"]),
        (
            format!("{met}{wrong}\n"),
            &[],
            4,
            &[
                "stdin:3: expected allow, and the answer is deny\n",
                "  ingress to yaobank/database: deny, NetworkPolicy yaobank/database-policy: no ingress rule allows it",
                "rule 0 at 13:7 allow from pods app=summary in namespace yaobank on TCP 2379: missed",
                "\n3 flows: 1 allow, 2 deny; 1 not as expected\n",
            ],
        ),
        // A failure is told even to those who want quiet.
        (wrong.clone(), &["-q"], 4, &["stdin:1: expected allow", "1 flow: 1 deny; 1 not as expected\n"]),
        (met.clone(), &["-q"], 0, &[]),
        // Nothing to check is no success.
        (String::new(), &[], 0, &["warning: there is no flow, so nothing was checked\n", "0 flows\n"]),
        (
            String::new(),
            &["--fail-on-deny"],
            4,
            &["error: there is no flow, so nothing was checked; `--allow-empty` lets it pass\n"],
        ),
        (String::new(), &["--fail-on-deny", "--allow-empty"], 0, &["0 flows\n"]),
    ] {
        let args = ["eval", "-f", BASE, "-f", POLICY, "--flows", "-", "-o", "jsonl"];
        for engine in ["auto", "reference", "matcher"] {
            let all = [&args[..], more, &["--engine", engine]].concat();
            let run = portcullis_with(&all, flows.as_bytes());
            assert_eq!(run.code, code, "{flows} {more:?}: {run:?}");
            assert_eq!(run.stdout.lines().count(), flows.lines().count(), "{run:?}");
            for text in says {
                assert!(run.stderr.contains(text), "{flows} {more:?}: {text:?} in {run:?}");
            }
            assert_eq!(says.is_empty(), run.stderr.is_empty(), "{run:?}");
        }
    }
}

/// No answer for all ports is one verdict when ports differ.
#[test]
fn an_answer_that_is_mixed_meets_no_expectation() {
    for expected in ["allow", "deny"] {
        let flow =
            format!(r#"{{"from": "yaobank/summary", "to": "yaobank/database", "expect": "{expected}"}}"#);
        let args = ["eval", "-f", BASE, "-f", POLICY, "--flows", "-"];
        let run = portcullis_with(&args, flow.as_bytes());
        assert_eq!(run.code, 4, "{run:?}");
        assert!(run.stderr.contains("the answer is deny in part"), "{run:?}");
        assert!(run.stdout.contains(&format!("deny in part (expected {expected})")), "{run:?}");
        assert!(run.stdout.contains("allow on TCP 2379; otherwise deny: NetworkPolicy"), "{run:?}");
    }
}

#[test]
fn one_flow() {
    let ask = |more: &[&str]| {
        let args = ["eval", "-f", BASE, "-f", POLICY, "--to", "yaobank/database", "--port", "2379"];
        portcullis(&[&args[..], more].concat())
    };
    for (more, code, stderr) in [
        (&["--from", "yaobank/customer", "--expect", "deny"][..], 0, ""),
        (&["--from", "yaobank/customer", "--expect", "allow"], 4, "expected allow, and the answer is deny\n"),
        (
            &["--from", "yaobank/summary", "--expect", "inspect"],
            4,
            "expected inspect, and the answer is allow\n",
        ),
        (&["--from", "yaobank/customer", "--fail-on-deny"], 4, ""),
        (&["--from", "yaobank/summary", "--fail-on-deny"], 0, ""),
    ] {
        let run = ask(more);
        assert_eq!((run.code, run.stderr.as_str()), (code, stderr), "{more:?}: {run:?}");
    }
}

#[test]
fn input_without_policies_and_pods_is_no_success() {
    let folder = Folder::new("gate-empty");
    let file = folder.write("only.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n");
    let args = ["eval", "-f", &file, "--from", "192.0.2.1", "--to", "192.0.2.2", "-o", "jsonl"];
    for (more, code, says) in [
        (&[][..], 0, "warning: the input has neither a policy nor a pod, so nothing was checked\n"),
        (&["-q"], 0, ""),
        (&["--expect", "allow"], 4, "error: the input has neither a policy nor a pod"),
        (&["--fail-on-deny"], 4, "`--allow-empty` lets it pass"),
        (&["--fail-on-deny", "--allow-empty"], 0, ""),
    ] {
        let run = portcullis(&[&args[..], more].concat());
        assert_eq!(run.code, code, "{more:?}: {run:?}");
        assert!(run.stderr.contains(says) && run.stderr.is_empty() == says.is_empty(), "{more:?}: {run:?}");
    }
}
