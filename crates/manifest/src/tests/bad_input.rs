//! Input that is refused: one clean line each.

use super::{error, error_in, read, read_with, refused, shown, with_value};
use crate::{Limits, ReadErrorKind};

const HEAD: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  namespace: ns\n";

#[test]
fn malformed_yaml_names_the_object_as_far_as_it_was_read() {
    for (text, place) in [
        ("spec: [a\n", "6:7"),
        ("spec: 'a\n", "6:7"),
        ("spec: a: b\n", "6:8"),
        ("spec:\n\t- a\n", "7:2"),
        ("spec: @a\n", "6:7"),
        ("spec: *nothing\n", "6:7"),
        ("spec: - a\n", "6:7"),
        ("spec:\n- a\n-b\n", "8:1"),
        ("spec\n", "6:1"),
        ("spec: \"\\q\"\n", "6:7"),
        ("... x\n", "6:5"),
        ("spec: ]\n", "6:7"),
    ] {
        let printed = error(&format!("{HEAD}{text}"));
        assert!(
            printed.starts_with(&format!("a.yaml:{place}: Pod ns/p: malformed YAML: ")),
            "{text:?}: {printed}"
        );
    }
    assert!(error("a: [\n").starts_with("a.yaml:1:4: malformed YAML"));
    assert!(error("%YAML 1.2\n").starts_with("a.yaml:2:1: malformed YAML"));
    assert!(error("%YAML 3.0\n---\na: 1\n").contains("malformed YAML"));
}

#[test]
fn malformed_json() {
    for (text, expected) in [
        ("{", "1:2: malformed JSON: expected a key in double quotes, found the end"),
        (r#"{"kind": "Pod","#, "1:16: Pod: malformed JSON: expected a key in double quotes, found the end"),
        (r#"{"kind": "Pod" "a": 1}"#, "1:16: Pod: malformed JSON: expected `,` or `}`, found `\"`"),
        (r#"{"a" 1}"#, "1:6: malformed JSON: expected `:`, found `1`"),
        (r#"{"a": }"#, "1:7: malformed JSON: expected a value, found `}`"),
        (r#"{"a": 1,}"#, "1:9: malformed JSON: expected a key in double quotes, found `}`"),
        (r#"{"a": [1,]}"#, "1:10: malformed JSON: expected a value, found `]`"),
        (r#"{"a": [1}]"#, "1:9: malformed JSON: expected `,` or `]`, found `}`"),
        (r#"{"a": 01}"#, "1:7: malformed JSON: `01` is not a number"),
        (r#"{"a": 1.}"#, "1:7: malformed JSON: `1.` is not a number"),
        (r#"{"a": +1}"#, "1:7: malformed JSON: expected a value, found `+`"),
        (r#"{"a": 1e999}"#, "1:7: the number `1e999` is out of range"),
        (r#"{"a": tru}"#, "1:7: malformed JSON: expected a value, found `t`"),
        (r#"{"a": "\x"}"#, "1:8: malformed JSON: an unknown escape in a string"),
        (r#"{"a": "\u12"}"#, "1:8: malformed JSON: `\\u` needs four hexadecimal digits"),
        (r#"{"a": "\u+123"}"#, "1:8: malformed JSON: `\\u` needs four hexadecimal digits"),
        (r#"{"a": "\ud800x"}"#, "1:8: malformed JSON: half a surrogate pair in a string"),
        (r#"{"a": "\udc00"}"#, "1:8: malformed JSON: half a surrogate pair in a string"),
        ("{\"a\": \"x\ny\"}", "1:9: malformed JSON: a control character in a string"),
        (r#"{"a": "x"#, "1:7: malformed JSON: a string without an end"),
        ("{a: 1}", "1:2: malformed JSON: expected a key in double quotes, found `a`"),
        ("kind: Pod", "1:1: malformed JSON: expected an object"),
        ("{} x", "1:4: malformed JSON: expected an object"),
    ] {
        let first = shown(&read_with(&Limits::default(), "a.json", text.as_bytes())).remove(0);
        assert_eq!(first, format!("a.json:{expected}"), "{text}");
    }
}

#[test]
fn not_an_object() {
    for (text, expected) in [
        ("- a\n- {kind: Pod}\n", "1:3: [0]: expected an object, found the text `a`"),
        ("hello\n", "1:1: expected an object, found the text `hello`"),
        ("12\n", "1:1: expected an object, found the integer `12`"),
        ("kind: Pod\n", "1:1: Pod: missing field `apiVersion`"),
        ("kind: Pod\napiVersion: ~\n", "1:1: Pod: missing field `apiVersion`"),
        ("apiVersion: v1\nkind: ''\n", "1:1: missing field `kind`"),
        ("apiVersion: v1\nkind: 3\n", "2:7: kind: expected text, found the integer `3`"),
        ("apiVersion: 1.0\nkind: Pod\n", "1:13: Pod: apiVersion: expected text, found the number `1.0`"),
    ] {
        let first = shown(&read(text)).remove(0);
        assert_eq!(first, format!("a.yaml:{expected}"), "{text}");
    }
    assert_eq!(error_in("a.json", b"[null]"), "a.json:1:2: [0]: expected an object, found null");
}

#[test]
fn an_error_in_a_list_names_the_item() {
    let printed = error(
        "apiVersion: v1\nkind: List\nitems:\n- kind: Pod\n  metadata: {name: a}\n- kind: Pod\n  spec: {x: !y 1}\n  metadata: {name: b}\n",
    );
    assert_eq!(printed, "a.yaml:7:16: Pod b: spec.x: the tag `!y` is not supported");
    let printed = error(
        "apiVersion: v1\nitems:\n- kind: Pod\n  metadata: {name: a}\n- kind: Pod\n  metadata:\n    name: b\n  spec: [\n",
    );
    assert!(printed.starts_with("a.yaml:8:9: Pod b: malformed YAML"), "{printed}");
}

#[test]
fn ten_thousand_levels() {
    let levels = 10_000;
    let flow = with_value(&"[".repeat(levels));
    let flow_mappings = with_value(&"{a: ".repeat(levels));
    let closed = with_value(&format!("{}{}", "[".repeat(levels), "]".repeat(levels)));
    let block =
        with_value(&(0..levels).map(|level| format!("\n{}a:", " ".repeat(level + 1))).collect::<String>());
    let dashes = with_value(&format!("\n{}a", "- ".repeat(levels)));
    let questions = with_value(&format!("\n {}a", "? ".repeat(levels)));
    for text in [&flow, &flow_mappings, &closed, &block, &dashes, &questions] {
        let printed = error(text);
        assert!(printed.contains("nested deeper than 256 levels"), "{printed}");
        assert!(printed.starts_with("a.yaml:"), "{printed}");
    }
    for open in ["[", "{\"a\":", "[{\"a\":"] {
        let text = format!("{{\"kind\": \"Pod\", \"a\": {}", open.repeat(levels));
        let printed = error_in("a.json", text.as_bytes());
        assert!(printed.contains("Pod: nested deeper than 256 levels"), "{printed}");
    }
}

#[test]
fn the_depth_limit_is_exact() {
    let limits = Limits::default().with_depth(5);
    for (levels, fits) in [(4, true), (5, false)] {
        let yaml = with_value(&format!("{}{}", "[".repeat(levels), "]".repeat(levels)));
        let json = format!(
            r#"{{"apiVersion": "v1", "kind": "T", "v": {}{}}}"#,
            "[".repeat(levels),
            "]".repeat(levels)
        );
        let block = with_value(
            &(0..levels).map(|level| format!("\n{}a:", " ".repeat(level + 1))).collect::<String>(),
        );
        for (name, text) in [("a.yaml", yaml), ("a.json", json), ("a.yaml", block)] {
            let result = read_with(&limits, name, text.as_bytes()).remove(0);
            assert_eq!(result.is_ok(), fits, "{text}: {result:?}");
            if let Err(error) = result {
                assert_eq!(error.kind(), ReadErrorKind::Depth);
            }
        }
    }
    // What an alias stands for counts.
    let text = with_value("{a: &a [[[]]], b: *a}");
    assert!(read_with(&limits, "a.yaml", text.as_bytes()).remove(0).is_ok());
    let text = with_value("{a: &a [[[]]], b: [*a]}");
    let error = read_with(&limits, "a.yaml", text.as_bytes()).remove(0).unwrap_err();
    assert_eq!(error.kind(), ReadErrorKind::Depth);
}

#[test]
fn a_ten_megabyte_line() {
    let long = "x".repeat(10_000_000);
    // More than an API server takes is an error in YAML; JSON may stand in one line.
    let results = read_with(&Limits::default(), "a.yaml", with_value(&long).as_bytes());
    let refused = results.last().and_then(|result| result.as_ref().err()).unwrap();
    assert_eq!(refused.kind(), ReadErrorKind::LineSize);
    assert_eq!(refused.to_string(), "a.yaml:3:1: the line is longer than 4194304 bytes");
    let within = Limits::default().with_line_bytes(u32::MAX);
    let results = read_with(&within, "a.yaml", with_value(&long).as_bytes());
    assert_eq!(results[0].as_ref().unwrap().root().get_str("v").map(str::len), Some(long.len()));
    let document = super::one_json(&format!(r#"{{"apiVersion": "v1", "kind": "T", "v": "{long}"}}"#));
    assert_eq!(document.root().get_str("v").map(str::len), Some(long.len()));
    // As a key, or as nothing at all, it is an error of one short line.
    for text in [long.clone(), format!("{long}: 1"), with_value(&format!("[{}", "a, ".repeat(100_000)))] {
        assert!(error(&text).len() < 300);
    }
    let limits = within.with_document_bytes(1_000_000);
    for (name, text) in
        [("a.yaml", with_value(&long)), ("a.json", format!(r#"{{"v": "{long}"}}"#)), ("b", long)]
    {
        let results = read_with(&limits, name, text.as_bytes());
        assert_eq!(results.len(), 1);
        let error = results[0].as_ref().unwrap_err();
        assert_eq!(error.kind(), ReadErrorKind::DocumentSize);
        assert_eq!(
            error.to_string(),
            format!("{name}:1:1: the document that begins here is longer than 1000000 bytes")
        );
    }
}

#[test]
fn alias_bombs() {
    let mut text = with_value("&a0 [x, x, x, x, x, x, x, x, x, x]");
    for level in 1..12 {
        let inner = format!("*a{}, ", level - 1).repeat(10);
        text.push_str(&format!("k{level}: &a{level} [{inner}]\n"));
    }
    let printed = error(&text);
    assert!(printed.contains("T: more than 32000000 keys and values, aliases expanded"), "{printed}");
    let mut text = with_value("&a0 {x0: 1, y0: 1}");
    for level in 1..40 {
        text.push_str(&format!(
            "k{level}: &a{level} {{x{level}: *a{}, y{level}: *a{}}}\n",
            level - 1,
            level - 1
        ));
    }
    assert!(error(&text).contains("aliases expanded"));
    assert!(error(&with_value("&a [*a]")).ends_with("an alias inside the value that it names"));
    assert!(error(&with_value("&a {b: {<<: *a}}")).ends_with("an alias inside the value that it names"));
    // A merge key adds what it brings in.
    let limits = Limits::default().with_nodes(20);
    let text = with_value("&a {a: 1, b: 1, c: 1, d: 1}\nw: {<<: *a}\n");
    let error = read_with(&limits, "a.yaml", text.as_bytes()).remove(0).unwrap_err();
    assert_eq!(error.kind(), ReadErrorKind::Nodes);
}

#[test]
fn too_many_nodes() {
    let limits = Limits::default().with_nodes(10);
    for (name, text) in [
        ("a.yaml", with_value("[1, 2, 3, 4]")),
        ("a.json", r#"{"apiVersion": "v1", "kind": "T", "v": [1, 2, 3, 4]}"#.to_owned()),
    ] {
        let error = read_with(&limits, name, text.as_bytes()).remove(0).unwrap_err();
        assert_eq!(error.kind(), ReadErrorKind::Nodes);
        assert_eq!(error.reason(), "more than 10 keys and values, aliases expanded");
    }
    assert!(read_with(&limits, "a.yaml", with_value("[1, 2]").as_bytes()).remove(0).is_ok());
}

#[test]
fn text_that_is_not_utf8() {
    assert_eq!(error_in("a.yaml", b"a: b\nc: \xff\n"), "a.yaml:2:4: invalid UTF-8 at byte 8");
    assert_eq!(error_in("a.json", b"{\"a\": \"\xc3\"}"), "a.json:1:8: invalid UTF-8 at byte 7");
    assert_eq!(error_in("a.yaml", b"\xef\xbb\xbfa: \xe2\x82"), "a.yaml:1:4: invalid UTF-8 at byte 6");
    let results =
        read_with(&Limits::default(), "a.yaml", b"apiVersion: v1\nkind: T\n---\na: \x80\n---\nb: c\n");
    assert_eq!(shown(&results)[1..], ["a.yaml:4:4: invalid UTF-8 at byte 30"]);
    for text in [&b"\xff\xfea\0"[..], b"\xfe\xff\0a"] {
        assert_eq!(error_in("a.yaml", text), "a.yaml:1:1: the text is UTF-16; only UTF-8 is read");
    }
}

#[test]
fn characters_that_yaml_readers_disagree_on() {
    for (character, name) in [
        ('\0', "U+0000"),
        ('\u{7}', "U+0007"),
        ('\u{7f}', "U+007F"),
        ('\u{85}', "U+0085"),
        ('\u{2028}', "U+2028"),
        ('\u{feff}', "U+FEFF"),
    ] {
        for line in [format!("# a{character}b: c"), format!("é: 'x{character}y'"), format!("é: {character}")]
        {
            let printed = error(&format!("{HEAD}{line}\n"));
            assert!(printed.starts_with("a.yaml:6:"), "{printed}");
            assert!(printed.contains(&format!("the character {name} is not allowed")), "{printed}");
        }
    }
    assert!(error_in("a.json", b"{\"a\": \"\0\"}").contains("a control character in a string"));
}

#[test]
fn reading_goes_on_behind_a_bad_document() {
    let results = read("a: [\n---\napiVersion: v1\nkind: T\n---\nb: 'x\n...\napiVersion: v1\nkind: U\n");
    let kinds: Vec<_> =
        results.iter().map(|result| result.as_ref().map(crate::Document::kind).ok()).collect();
    assert_eq!(kinds, [None, Some("T"), None, Some("U")]);
}

#[test]
fn user_text_cannot_break_the_line() {
    let printed = refused("apiVersion: v1\nkind: \"P\\n\\e[31m\"\nmetadata: {name: \"a\\nb\"}\nx: 1\nx: 2\n");
    assert_eq!(printed, "a.yaml:5:1: P\\n\\u{1b}[31m a\\nb: x: duplicate key `x`, first seen at 4:1");
    assert_eq!(error_in("a\nb.yaml", b"x"), "a\\nb.yaml:1:1: expected an object, found the text `x`");
}

#[test]
fn messages_show_user_text_on_one_line() {
    let long = "long".repeat(20_000);
    // As YAML writes them in double quotes.
    for text in ["a\\nerror: b", "\\e[2J", "a\\u202enimda", "x\\u200b\\u2028y", &long] {
        for object in [
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: \"{text}\", namespace: \"{text}\"}}\nspec: []\n"
            ),
            format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {{hostNetwork: \"{text}\"}}\n"),
            format!("apiVersion: v1\nkind: Pod\n? \"{text}\"\n: 1\n? \"{text}\"\n: 2\nspec: 1\n"),
            format!(
                "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p}}\nspec: {{\"{text}\": 1}}\n"
            ),
            format!("apiVersion: \"{text}\"\nkind: NetworkPolicy\n"),
        ] {
            let mut loader = crate::Loader::new(Limits::default(), crate::k8s::ImportOptions::new());
            loader.add_stream("a\n\u{202e}.yaml", object.as_bytes());
            let refusal = loader.finish().unwrap_err();
            for error in refusal.errors() {
                let shown = error.to_string();
                assert!(shown.starts_with("a\\n\\u{202e}.yaml:"), "{shown}");
                assert_eq!(portcullis_core::quote::escaped(&shown).to_string(), shown);
                assert!(shown.chars().count() < 10_000, "{shown}");
            }
        }
    }
}
