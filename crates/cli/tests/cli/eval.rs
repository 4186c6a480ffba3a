//! `portcullis eval`: answers, formats, peers, options and exit codes.

use std::io::Write as _;

use crate::{Folder, portcullis, portcullis_with};

const BASE: &str = "examples/yaobank/base";
const POLICY: &str = "examples/yaobank/2-database-policy";
const TIERS: &str = "examples/yaobank/4-tiers";

/// One flow, as JSON.
fn verdict(args: &[&str]) -> String {
    let mut all = vec!["eval", "-q", "-o", "jsonl"];
    all.extend(args);
    let run = portcullis(&all);
    assert_eq!(run.code, 0, "{args:?}: {run:?}");
    run.stdout.trim_end().to_owned()
}

#[test]
fn the_answers_of_the_contract() {
    let flows = format!("{POLICY}/flows.jsonl");
    let run = portcullis(&["eval", "-f", BASE, "-f", POLICY, "--flows", &flows, "-o", "jsonl"]);
    assert_eq!(run.code, 0, "{run:?}");
    let open = r#"{"verdict":"allow","cause":"no-policy","tier":null,"policy":null,"rule":null}"#;
    let policy = r#""tier":"default","policy":{"kind":"NetworkPolicy","namespace":"yaobank","name":"database-policy"}"#;
    let at = |line: u8, column: u8| {
        format!(r#""location":{{"file":"{POLICY}/database-policy.yaml","line":{line},"column":{column}}}"#)
    };
    // The rule, and where no rule decides, the policy.
    let allowed = format!(r#"{{"verdict":"allow","cause":"rule",{policy},"rule":0,{}}}"#, at(13, 7));
    let denied = format!(r#"{{"verdict":"deny","cause":"tier-default",{policy},"rule":null,{}}}"#, at(2, 1));
    let line = |id: &str, verdict: &str, ingress: &str, [from, to]: [(&str, u8); 2], port: u16| {
        let ends = format!(r#""from":"{}","to":"{}","protocol":"TCP","port":{port}"#, from.0, to.0);
        let addresses = format!(r#""source":"10.48.0.{}","destination":"10.48.0.{}""#, from.1, to.1);
        format!(
            r#"{{"id":"{id}","verdict":"{verdict}","egress":{open},"ingress":{ingress},"flow":{{{ends},{addresses}}}}}"#
        )
    };
    let (customer, summary) = (("yaobank/customer", 11), ("yaobank/summary", 12));
    let (database, visitor) = (("yaobank/database", 13), ("default/visitor", 99));
    let lines = [
        line("customer to summary", "allow", open, [customer, summary], 80),
        line("summary to database", "allow", &allowed, [summary, database], 2379),
        line("attack: customer to database", "deny", &denied, [customer, database], 2379),
        line("summary to another database port", "deny", &denied, [summary, database], 2380),
        line("visitor to database", "deny", &denied, [visitor, database], 2379),
    ];
    assert_eq!(run.stdout, format!("{}\n", lines.join("\n")));

    let json = portcullis(&["eval", "-f", BASE, "-f", POLICY, "--flows", &flows, "-o", "json"]);
    assert_eq!(json.stdout, format!("[\n{}\n]\n", lines.join(",\n")));

    // The same question in any order of files, and on the other engine: the same bytes.
    let other = ["eval", "-f", POLICY, "-f", BASE, "--flows", &flows, "-o", "jsonl", "--engine", "matcher"];
    assert_eq!(portcullis(&other).stdout, run.stdout);
}

#[test]
fn the_table_has_a_line_for_each_flow() {
    let flows = format!("{POLICY}/flows.jsonl");
    let run = portcullis(&["eval", "-f", BASE, "-f", POLICY, "--flows", &flows]);
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(lines.len(), 6);
    assert!(lines[0].starts_with("ID "), "{}", lines[0]);
    let attack: Vec<&str> = lines[3].split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    assert_eq!(
        attack,
        [
            "attack: customer to database",
            "yaobank/customer",
            "yaobank/database",
            "TCP 2379",
            "deny",
            "NetworkPolicy yaobank/database-policy: no ingress rule allows it",
        ]
    );
    assert!(!run.stdout.contains('\u{1b}'), "colours belong on a terminal only");
}

#[test]
fn one_flow_is_explained_tier_by_tier_for_both_ends() {
    let question = ["--from", "yaobank/customer", "--to", "yaobank/database", "--port", "2379"];
    let mut args = vec!["eval", "-f", BASE, "-f", TIERS];
    args.extend(question);
    let run = portcullis(&args);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let expected = include_str!("explained.txt");
    assert_eq!(run.stdout, expected);
    for more in [&["--explain"][..], &["--engine", "matcher"]] {
        let mut args = args.clone();
        args.extend(more);
        assert_eq!(portcullis(&args).stdout, expected, "{more:?}");
    }
}

#[test]
fn every_way_to_name_an_end() {
    let to = |from: &str, to: &str| {
        verdict(&["-f", BASE, "-f", TIERS, "--from", from, "--to", to, "--port", "2379"])
    };
    let allowed = to("yaobank/summary", "yaobank/database");
    assert!(allowed.starts_with(r#"{"id":null,"verdict":"allow","egress":{"#), "{allowed}");
    // The address of a pod is the pod.
    let answer = |line: &str| line.split_once(r#","flow""#).map(|(answer, _)| answer.to_owned());
    assert_eq!(answer(&to("10.48.0.12", "yaobank/database")), answer(&allowed));
    assert_eq!(answer(&to("yaobank/summary", "10.48.0.13")), answer(&allowed));
    for outside in ["203.0.113.7", "2001:db8::7", "node/bank-control"] {
        let args = ["-f", BASE, "-f", TIERS, "--from", outside, "--to", "yaobank/database", "--port", "2379"];
        let mut all = vec!["eval", "-q", "-o", "jsonl"];
        all.extend(args);
        let run = portcullis(&all);
        if outside.contains("2001") {
            // The database has no IPv6 address.
            assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:?}");
            continue;
        }
        assert!(
            run.stdout.starts_with(r#"{"id":null,"verdict":"deny","egress":null,"#),
            "{outside}: {run:?}"
        );
    }
    for (peer, says) in [
        ("hep/x", "there is no host endpoint `hep/x`"),
        ("set/x", "there is no network set `set/x`"),
        ("set/shop/x", "there is no network set `set/shop/x`"),
        ("yaobank/none", "there is no pod `yaobank/none`"),
        ("node/none", "there is no node `node/none`"),
    ] {
        let run = portcullis(&["eval", "-q", "-f", BASE, "--from", peer, "--to", "yaobank/database"]);
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{peer}");
        assert!(run.stderr.starts_with(&format!("error: --from: {says}")), "{run:?}");
    }
}

#[test]
fn flows_are_read_strictly_and_ids_come_back() {
    let ask = |line: &str| {
        portcullis_with(&["eval", "-q", "-f", BASE, "--flows", "-", "-o", "jsonl"], line.as_bytes())
    };
    for id in ["7", "\"x\"", "null", "[1,{\"a\":2}]", "1.50"] {
        let run = ask(&format!(r#"{{"id": {id}, "from": "yaobank/customer", "to": "1.2.3.4"}}"#));
        assert!(run.stdout.starts_with(&format!(r#"{{"id":{id},"verdict":"allow","#)), "{id}: {run:?}");
    }
    for (line, says) in [
        ("{\"from\": \"yaobank/customer\"}", "to"),
        ("{\"from\": \"yaobank/customer\", \"to\": \"1.2.3.4\", \"prt\": 80}", "prt"),
        ("{\"from\": \"yaobank/customer\", \"to\": \"1.2.3.4\", \"port\": 70000}", "port"),
        ("{\"from\": \"yaobank/customer\", \"to\": \"1.2.3.4\", \"port\": \"80\"}", "port"),
        ("{\"from\": \"yaobank/customer\", \"to\": \"1.2.3.4\", \"protocol\": \"TPC\"}", "protocol"),
        ("{\"from\": \"yaobank/customer\", \"to\": \"1.2.3.4\", \"protocol\": 256}", "protocol"),
        ("{\"from\": \"yaobank/customer\", \"to\": \"1.2.3.4\", \"family\": 5}", "family"),
        ("{\"from\": \"yaobank\", \"to\": \"1.2.3.4\"}", "from"),
        ("{\"from\": \"1.2.3.4\", \"to\": \"::1\"}", "address"),
        ("not json", "JSON"),
    ] {
        let good = r#"{"from": "yaobank/customer", "to": "1.2.3.4"}"#;
        let run = ask(&format!("{good}\n{line}\n{good}\n"));
        assert_eq!(run.code, 1, "{line}: {run:?}");
        assert_eq!(run.stdout.lines().count(), 1, "{line}: the flow before is answered: {run:?}");
        assert!(run.stderr.starts_with("error: stdin:2"), "{line}: {run:?}");
        assert!(run.stderr.contains(says), "{line}: {run:?}");
    }
}

#[test]
fn flows_in_every_format_have_the_same_answers() {
    let folder = Folder::new("formats");
    let lines = "{\"id\": \"a\", \"from\": \"yaobank/summary\", \"to\": \"yaobank/database\", \"port\": 2379}\n\
        {\"id\": \"b\", \"from\": \"1.2.3.4\", \"to\": \"yaobank/database\", \"port\": 80, \"protocol\": \"UDP\", \"expect\": \"deny\"}\n";
    let array = format!("[{}]", lines.trim_end().replace('\n', ",\n"));
    let yaml = "- {id: a, from: yaobank/summary, to: yaobank/database, port: 2379}\n\
        - id: b\n  from: 1.2.3.4\n  to: yaobank/database\n  port: 80\n  protocol: UDP\n  expect: deny\n";
    let csv = "id,from,to,port,protocol,expect\na,yaobank/summary,yaobank/database,2379,,\n\
        b,1.2.3.4,yaobank/database,80,UDP,deny\n";
    let ask = |flows: &str, stdin: &str| {
        let args = ["eval", "-f", BASE, "-f", POLICY, "-o", "jsonl", "--flows", flows];
        let run = portcullis_with(&args, stdin.as_bytes());
        assert_eq!(run.code, 0, "{run:?}");
        assert_eq!(run.stderr, "2 flows: 1 allow, 1 deny; all as expected\n");
        run.stdout
    };
    let answers = ask("-", lines);
    assert_eq!(answers.lines().count(), 2, "{answers}");
    for (name, text) in [("f.jsonl", lines), ("f.json", &array), ("f.yaml", yaml), ("f.csv", csv)] {
        assert_eq!(ask("-", text), answers, "{text}");
        assert_eq!(ask(&folder.write(name, text), ""), answers, "{name}");
    }
    // The flows before a bad one are answered, and its line is named.
    for (name, text) in [
        ("bad.yaml", format!("{yaml}- {{from: 1.2.3.4}}\n")),
        ("bad.csv", format!("{csv},1.2.3.4,,,,\n")),
        ("bad.json", array.replace("]", ",\n{\"from\": \"1.2.3.4\"}]")),
    ] {
        let file = folder.write(name, text);
        let run = portcullis(&["eval", "-f", BASE, "-f", POLICY, "-o", "jsonl", "--flows", &file]);
        assert_eq!((run.code, &run.stdout), (1, &answers), "{name}: {run:?}");
        assert!(
            run.stderr.contains(&format!("error: {file}:")) && run.stderr.contains(": to: required"),
            "{run:?}"
        );
    }
}

const STAGED: &str = "
apiVersion: projectcalico.org/v3
kind: StagedGlobalNetworkPolicy
metadata: {name: shut}
spec: {selector: all(), types: [Ingress]}
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: shop}
spec: {nodeName: n1}
status: {podIP: 10.0.0.1}
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: hep, labels: {role: host}}
spec: {node: n1, interfaceName: '*', expectedIPs: [192.0.2.1]}
---
apiVersion: v1
kind: Node
metadata: {name: n1}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: lock}
spec: {selector: role == 'host', types: [Ingress]}
";

#[test]
fn options_that_change_the_answer() {
    let folder = Folder::new("options");
    let file = folder.write("objects.yaml", STAGED);
    let ask = |args: &[&str]| {
        let mut all = vec!["-f", &file];
        all.extend(args);
        verdict(&all)
    };
    let pod = ["--from", "203.0.113.7", "--to", "shop/a", "--port", "80"];
    for engine in ["reference", "matcher"] {
        let plain = ask(&[&pod[..], &["--engine", engine]].concat());
        assert!(plain.contains(r#""verdict":"allow""#), "{plain}");
        let staged = ask(&[&pod[..], &["--staged", "--engine", engine]].concat());
        assert!(staged.contains("StagedGlobalNetworkPolicy") && staged.contains(r#""deny""#), "{staged}");
        let ssh = ["--from", "203.0.113.7", "--to", "hep/hep", "--port", "22", "--engine", engine];
        assert!(ask(&ssh).contains(r#""cause":"failsafe""#));
        let closed = ask(&[&ssh[..], &["--failsafe", "none"]].concat());
        assert!(closed.contains(r#""cause":"tier-default""#), "{closed}");
        let home = ["--from", "shop/a", "--to", "node/n1", "--port", "80", "--engine", engine];
        assert!(ask(&home).contains(r#""verdict":"allow""#));
        for (action, word) in [("drop", "deny"), ("policy", "deny")] {
            let said = ask(&[&home[..], &["--workload-to-host", action]].concat());
            assert!(said.starts_with(&format!(r#"{{"id":null,"verdict":"{word}""#)), "{action}: {said}");
        }
    }
}

#[test]
fn flags_come_before_what_the_input_configures() {
    let felix =
        "apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {name: node.n1}\nspec: ";
    let spec = "{defaultEndpointToHostAction: Drop, failsafeInboundHostPorts: [], \
                allowVXLANPacketsFromWorkloads: false}\n";
    let folder = Folder::new("felix");
    let file = folder.write("objects.yaml", format!("{STAGED}\n---\n{felix}{spec}"));
    let ask = |args: &[&str]| {
        let run = portcullis(&[&["eval", "-f", &file, "-o", "jsonl"][..], args].concat());
        assert_eq!(run.code, 0, "{run:?}");
        (run.stdout.contains(r#""verdict":"allow","egress""#), run.stderr)
    };
    for engine in ["reference", "matcher"] {
        let ssh = ["--from", "203.0.113.7", "--to", "hep/hep", "--port", "22", "--engine", engine];
        let home = ["--from", "shop/a", "--to", "node/n1", "--port", "80", "--engine", engine];
        let vxlan = ["--from", "shop/a", "--to", "203.0.113.7", "--port", "4789", "--protocol", "UDP"];
        let vxlan = [&vxlan[..], &["--engine", engine]].concat();
        for (flow, flag, value, field) in [
            (&ssh[..], "--failsafe", "default", "failsafeInboundHostPorts"),
            (&home[..], "--workload-to-host", "accept", "defaultEndpointToHostAction"),
            (
                &vxlan[..],
                "--tunnels",
                "4,udp:8472",
                "allowIPIPPacketsFromWorkloads and allowVXLANPacketsFromWorkloads",
            ),
        ] {
            let (allowed, said) = ask(flow);
            assert!(!allowed && !said.contains("overrides"), "{flow:?}: {said}");
            let (allowed, said) = ask(&[flow, &[flag, value]].concat());
            let note = format!("note: {flag} overrides {field}");
            assert!(allowed && said.contains(&note), "{flow:?}: {said}");
        }
    }
}

#[test]
fn exit_codes() {
    let denied =
        ["eval", "-q", "-f", BASE, "-f", POLICY, "--from", "default/visitor", "--to", "yaobank/database"];
    assert_eq!(portcullis(&denied).code, 0);
    assert_eq!(portcullis(&[&denied[..], &["--fail-on-deny"]].concat()).code, 4);
    let allowed = ["eval", "-q", "-f", BASE, "--from", "default/visitor", "--to", "yaobank/database"];
    assert_eq!(portcullis(&[&allowed[..], &["--fail-on-deny"]].concat()).code, 0);
}

/// Whether `run` could not ask the kernel for a reason that lies in this build or machine. It is said past the harness,
/// which keeps what passing tests print. A build without the kernel engines must say so wherever it runs; one with them
/// may not, and may miss no more than root or a program.
fn is_without_kernel(run: &crate::Run, engine: &str) -> bool {
    if cfg!(not(feature = "kernel-engines")) {
        assert_eq!((run.code, run.stdout.as_str()), (3, ""), "{run:?}");
        assert!(run.stderr.contains("the feature `kernel-engines`"), "{run:?}");
        return true;
    }
    let reasons = ["root is needed", "there is no program", "not permitted"];
    let missing = run.code == 3 && reasons.iter().any(|reason| run.stderr.contains(reason));
    if missing {
        let required = std::env::var_os("PORTCULLIS_KERNEL").is_some_and(|value| value == "required");
        assert!(!required, "the kernel cannot be asked: {}", run.stderr);
        assert_eq!(run.stdout, "", "{run:?}");
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: the command did NOT ask the kernel through {engine}: {}",
            run.stderr.trim_end()
        );
    }
    missing
}

/// The kernel decides, or the command says why it cannot be asked: the feature, root, or a program.
#[test]
fn the_kernel_decides_or_the_command_says_why_not() {
    for engine in ["nftables", "ebpf"] {
        let flow =
            ["--from", "default/visitor", "--to", "yaobank/database", "--engine", engine, "-o", "jsonl"];
        let run = portcullis(&[&["eval", "-q", "-f", BASE, "-f", POLICY][..], &flow].concat());
        if is_without_kernel(&run, engine) {
            continue;
        }
        let reference =
            portcullis(&[&["eval", "-q", "-f", BASE, "-f", POLICY][..], &flow[..4], &flow[6..]].concat());
        assert_eq!((run.code, &run.stdout), (0, &reference.stdout), "{run:?}");
        assert!(run.stdout.contains(r#""verdict":"deny""#), "{run:?}");
    }
    // No kernel forwards a packet from a loopback address, so no policy is asked.
    let odd = ["--from", "127.0.0.9", "--to", "yaobank/database", "--engine", "nftables"];
    let run = portcullis(&[&["eval", "-q", "-f", BASE][..], &odd].concat());
    if !is_without_kernel(&run, "nftables") {
        assert_eq!(run.code, 3, "{run:?}");
        assert!(run.stderr.contains("does not route 127.0.0.9"), "{run:?}");
    }
}

#[test]
fn manifests_from_standard_input_lists_and_json() {
    let list = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "shop"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "shop"}},
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
         "metadata": {"name": "shut", "namespace": "shop"}, "spec": {"podSelector": {}}}]}"#;
    let args = ["eval", "-f", "-", "--from", "203.0.113.7", "--to", "shop/a", "-o", "jsonl"];
    let run = portcullis_with(&args, list.as_bytes());
    assert!(run.stdout.contains(r#""verdict":"deny""#), "{run:?}");
    assert_eq!(run.stderr, "skipped: 1 objects that policy does not depend on (ConfigMap 1)\n");
}
