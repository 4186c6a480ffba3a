//! `portcullis selector`, completions and help.

use crate::{portcullis, portcullis_with};

#[test]
fn a_valid_selector_prints_its_canonical_form_and_what_it_matches() {
    let run = portcullis(&["selector", "a=='b'&&has( c )", "--labels", "a=b,c=d", "-l", "a=b"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    assert_eq!(run.stdout, "valid: (a == \"b\" && has(c))\nmatches: a=b,c=d\ndoes not match: a=b\n");
}

#[test]
fn a_bad_selector_is_pointed_at() {
    let run = portcullis(&["selector", "a == "]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""));
    assert_eq!(run.stderr, "error: expected a quoted value, found the end at offset 5\n  a == \n       ^\n");
}

#[test]
fn a_stream_answers_line_by_line() {
    let input = b"{\"selector\": \"has(a)\", \"labels\": [{\"a\": \"b\"}, {}]}\n{\"selector\": \"a=\"}\n";
    let run = portcullis_with(&["selector", "-"], input);
    assert_eq!(run.code, 0);
    assert_eq!(
        run.stdout,
        "{\"valid\":true,\"canonical\":\"has(a)\",\"error\":null,\"matches\":[true,false]}\n\
         {\"valid\":false,\"canonical\":null,\"error\":{\"message\":\"`=` must be written twice at offset 1\",\
         \"offset\":1},\"matches\":[]}\n"
    );
    let run = portcullis_with(&["selector", "-"], b"{\"selector\": \"a\"}\nnot json\n");
    assert_eq!(run.code, 1);
    assert!(run.stderr.starts_with("error: stdin:2"), "{run:?}");
}

#[test]
fn completions_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let run = portcullis(&["completions", shell]);
        assert_eq!(run.code, 0, "{shell}");
        for command in ["eval", "compile", "selector"] {
            assert!(run.stdout.contains(command), "{shell}: {command}");
        }
    }
}

#[test]
fn help_names_every_option_and_wrong_usage_is_exit_2() {
    let run = portcullis(&["eval", "--help"]);
    assert_eq!(run.code, 0);
    for option in [
        "--filename",
        "--flows",
        "--output",
        "--engine",
        "--explain",
        "--staged",
        "--trace",
        "--fail-on-deny",
        "--allow-empty",
        "--expect",
        "--color",
        "--namespace",
        "--strict",
        "--quiet",
        "--from",
        "--to",
        "--port",
        "--protocol",
        "--source-port",
        "--icmp-type",
        "--icmp-code",
        "--family",
        "--principal",
        "--method",
        "--path",
        "--failsafe",
        "--workload-to-host",
        "--tunnels",
        "--baseline",
        "Exit codes",
    ] {
        assert!(run.stdout.contains(option), "{option}");
    }
    for args in [
        &["eval"][..],
        &["eval", "-f", "x"],
        &["eval", "-f", "x", "--from", "a/b"],
        &["eval", "-f", "x", "--from", "a/b/c", "--to", "d/e"],
        &["eval", "-f", "x", "--flows", "y", "--engine", "iptables"],
        &["eval", "-f", "-", "--flows", "-"],
        &["eval", "-f", "x", "--flows", "y", "--expect", "deny"],
        &["eval", "-f", "x", "--flows", "y", "--explain", "-o", "table"],
        &["eval", "-f", "x", "--flows", "y", "--color", "sometimes"],
        &["eval", "-f", "x", "--flows", "y", "-n", "Shop"],
        &["frobnicate"],
    ] {
        let run = portcullis(args);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{args:?}");
        assert!(run.stderr.starts_with("error: "), "{args:?}: {run:?}");
    }
}

#[test]
fn text_that_would_redraw_the_terminal_is_escaped_and_the_mark_stays_below_it() {
    let run = portcullis(&["selector", "a\u{202e} == \u{1b}[2J", "-l", "a=b"]);
    assert_eq!(run.code, 1);
    assert_eq!(
        run.stderr,
        "error: unexpected character `\\u{202e}` at offset 1\n  a\\u{202e} == \\u{1b}[2J\n   ^^^^^^^^\n"
    );
    let run = portcullis(&["selector", "has(a)", "-l", "a=\u{1b}[2J\u{2066}"]);
    assert_eq!(run.stdout, "valid: has(a)\nmatches: a=\\u{1b}[2J\\u{2066}\n");
    let run = portcullis(&["eval", "-f", "no\u{202e}such\n.yaml", "--flows", "-"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.starts_with("error: no\\u{202e}such\\n.yaml: "), "{run:?}");
    assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
}
