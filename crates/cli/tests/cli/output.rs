//! How answers look: widths, colours, words, places, formats.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::{Folder, portcullis, portcullis_with};

const BASE: &str = "examples/yaobank/base";
const POLICY: &str = "examples/yaobank/2-database-policy";
const FLOWS: &str = "examples/yaobank/2-database-policy/flows.jsonl";

/// Runs the command on a terminal of its own, by the program `script`; what it wrote to it.
fn on_terminal(columns: u16, environment: &[(&str, &str)], args: &str) -> Option<String> {
    in_terminal(columns, environment, &format!("exec {} {args}", env!("CARGO_BIN_EXE_portcullis")))
}

/// Runs a command of the shell on a terminal.
fn in_terminal(columns: u16, environment: &[(&str, &str)], command: &str) -> Option<String> {
    let command = format!("stty rows 24 columns {columns}; {command}");
    let mut script = Command::new("script");
    script.args(["-qec", &command, "/dev/null"]);
    script.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).stdin(Stdio::null());
    // In CI a dumb terminal counts as one with colours.
    for variable in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
        script.env_remove(variable);
    }
    script.env("TERM", "xterm");
    script.envs(environment.iter().copied());
    let Ok(output) = script.output() else {
        let _ =
            writeln!(std::io::stderr(), "SKIPPED: there is no program `script`, so no terminal was tried");
        return None;
    };
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8(output.stdout).unwrap().replace("\r\n", "\n"))
}

fn without_colours(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut all, part| {
        all.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
        all
    })
}

#[test]
fn a_table_fits_its_terminal_and_loses_nothing() {
    let args = format!("eval -q -f {BASE} -f {POLICY} --flows {FLOWS}");
    let piped = portcullis(&args.split(' ').collect::<Vec<_>>());
    assert_eq!(piped.stdout.lines().count(), 6, "elsewhere a flow is a line: {piped:?}");
    let letters = |text: &str| {
        let mut letters: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
        letters.sort_unstable();
        letters
    };
    for columns in [60, 80, 100, 200] {
        let Some(table) = on_terminal(columns, &[], &args) else { return };
        let table = without_colours(&table);
        let widest = table.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= columns.into(), "{columns}: {table}");
        assert_eq!(letters(&table), letters(&piped.stdout), "{columns}: {table}");
        assert_eq!(columns == 200, table == piped.stdout, "{columns}: {table}");
    }
    // Everything is wide by request.
    let wide = on_terminal(80, &[], &format!("{args} -o wide")).unwrap();
    assert!(
        without_colours(&wide).contains(&format!("ingress rule 0 at {POLICY}/database-policy.yaml:13:7"))
    );
}

#[test]
fn colours_are_for_terminals_and_for_those_who_ask() {
    let args = format!("eval -q -f {BASE} -f {POLICY} --flows {FLOWS}");
    let escape = |text: &str| text.contains('\u{1b}');
    for (environment, more, coloured) in [
        (&[][..], "", true),
        (&[], " --color auto", true),
        (&[], " --color never", false),
        (&[("NO_COLOR", "1")], "", false),
        (&[("NO_COLOR", "")], "", true),
        (&[("NO_COLOR", "1")], " --color always", true),
        (&[("TERM", "dumb")], "", false),
    ] {
        let Some(table) = on_terminal(200, environment, &format!("{args}{more}")) else { return };
        assert_eq!(escape(&table), coloured, "{environment:?}{more}: {table}");
    }
    for (more, coloured) in [("auto", false), ("always", true), ("never", false)] {
        let run = portcullis(&[&args.split(' ').collect::<Vec<_>>()[..], &["--color", more]].concat());
        assert_eq!(escape(&run.stdout), coloured, "{more}");
        assert!(!coloured || run.stdout.contains("\u{1b}[31mdeny\u{1b}[0m"), "{run:?}");
    }
}

#[test]
fn progress_is_shown_on_a_terminal_after_a_second() {
    let bin = env!("CARGO_BIN_EXE_portcullis");
    let args = "eval -q -f - --from 203.0.113.1 --to yaobank/customer -o jsonl";
    for (seconds, end, shown) in
        [("1.8", ">/dev/null", true), ("0", ">/dev/null", false), ("1.8", ">/dev/null 2>&1", false)]
    {
        let command = format!("(sleep {seconds}; cat {BASE}/yaobank.yaml) | {bin} {args} {end}");
        let Some(text) = in_terminal(80, &[], &command) else { return };
        assert_eq!(text.contains("reading manifests"), shown, "{command}: {text:?}");
    }
}

const DIALECTS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
status: {podIP: 10.0.0.2}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: np, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: web}}}]
    ports: [{port: 5432}]
  - from:
    - namespaceSelector: {matchLabels: {team: a}}
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: base}
spec:
  tier: Baseline
  priority: 7
  subject: {pods: {podSelector: {matchLabels: {app: db}}}}
  egress:
  - name: shut
    action: Deny
    to: [{networks: [0.0.0.0/0]}]
";

/// Kubernetes has neither Calico's selectors, nor tiers of this kind, nor profiles, so its objects are not told in them.
#[test]
fn kubernetes_is_said_in_the_words_of_kubernetes() {
    let folder = Folder::new("dialects");
    let file = folder.write("k.yaml", DIALECTS);
    let explain = |from: &str, to: &str, more: &[&str]| {
        let args = ["eval", "-f", &file, "--from", from, "--to", to, "--port", "80"];
        let run = portcullis(&[&args[..], more].concat());
        assert_eq!(run.code, 0, "{run:?}");
        run.stdout
    };
    let text = explain("shop/web", "shop/db", &[]);
    for line in [
        "egress from shop/web: allow, no policy selects shop/web for egress\n".to_owned(),
        format!(
            "ingress to shop/db: deny, NetworkPolicy shop/np: no ingress rule allows it at {file}:12:1\n"
        ),
        format!("    NetworkPolicies\n      NetworkPolicy shop/np at {file}:12:1\n"),
        "        rule 0 at 18:5 allow from pods app=web in namespace shop on TCP 5432: missed, ".to_owned(),
        "        rule 1 at 20:5 allow from all pods in namespaces team=a: missed, ".to_owned(),
    ] {
        assert!(text.contains(&line), "{line:?} in {text}");
    }
    for word in ["projectcalico", "profile", "tier default", "1000", "=="] {
        assert!(!text.contains(word), "{word} in {text}");
    }
    let text = explain("shop/db", "192.0.2.1", &[]);
    for line in [
        format!("egress from shop/db: deny, ClusterNetworkPolicy base egress rule 0 at {file}:31:5\n"),
        format!("    tier Baseline\n      ClusterNetworkPolicy base (priority 7) at {file}:23:1\n"),
        "        rule 0 at 31:5 deny (shut) to 0.0.0.0/0: matched\n".to_owned(),
    ] {
        assert!(text.contains(&line), "{line:?} in {text}");
    }
}

/// What keeps the Baseline tier away is no object, and no answer names it.
#[test]
fn only_policies_that_exist_are_named() {
    let folder = Folder::new("per-pod");
    let file = folder.write("k.yaml", DIALECTS);
    let base = ["eval", "-f", &file, "--from", "shop/db", "--to", "192.0.2.1", "--baseline", "per-pod"];
    let open = r#""verdict":"allow","egress":{"verdict":"allow","cause":"no-policy","tier":null,"policy":null,"rule":null}"#;
    for engine in ["auto", "reference", "matcher"] {
        for format in ["jsonl", "json", "table", "wide"] {
            let run = portcullis(&[&base[..], &["-o", format, "--engine", engine]].concat());
            assert_eq!(run.code, 0, "{run:?}");
            assert!(!run.stdout.contains('#') && !run.stdout.contains("shields"), "{run:?}");
            assert!(!format.starts_with("json") || run.stdout.contains(open), "{run:?}");
        }
    }
    for more in [&["--explain"][..], &["--explain", "-o", "json"]] {
        let run = portcullis(&[&base[..], more].concat());
        assert!(!run.stdout.contains('#') && !run.stdout.contains("shields"), "{run:?}");
        assert!(run.stdout.contains("NetworkPolicy shop/np"), "{run:?}");
    }
    let run = portcullis(&base);
    assert!(
        run.stdout.contains("tier Baseline is not asked: NetworkPolicy shop/np selects the pod"),
        "{run:?}"
    );
}

#[test]
fn objects_without_a_namespace_go_where_the_command_line_says() {
    let objects = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Pod\n\
        metadata: {name: b, namespace: other}\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
        metadata: {name: shut}\nspec: {podSelector: {}}\n";
    for (options, pod, verdict) in [
        (&[][..], "default/a", "deny"),
        (&["-n", "shop"], "shop/a", "deny"),
        (&["--namespace", "shop"], "other/b", "allow"),
    ] {
        let args = ["eval", "-f", "-", "--from", "192.0.2.1", "--to", pod, "-o", "jsonl"];
        let run = portcullis_with(&[&args[..], options].concat(), objects.as_bytes());
        assert!(run.stdout.contains(&format!(r#""verdict":"{verdict}","egress""#)), "{options:?}: {run:?}");
    }
    let args = ["eval", "-f", "-", "--from", "192.0.2.1", "--to", "default/a", "-n", "shop"];
    assert_eq!(portcullis_with(&args, objects.as_bytes()).code, 1, "there is no such pod then");
    // Messages name the object where it was put.
    let bad = "apiVersion: v1\nkind: Pod\nmetadata: {name: A}\n";
    let run = portcullis_with(&args, bad.as_bytes());
    assert!(run.stderr.contains("Pod shop/A"), "{run:?}");
}
