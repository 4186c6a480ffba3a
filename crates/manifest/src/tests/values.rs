//! What values mean, in YAML and JSON.

use super::{error, one, one_json, with_value};
use crate::{NodeKind, Position};

#[test]
fn plain_scalars_are_yaml_1_1() {
    for (text, kind) in [
        ("yes", NodeKind::Bool),
        ("off", NodeKind::Bool),
        ("012", NodeKind::Int),
        ("0x10", NodeKind::Int),
        ("1_000", NodeKind::Int),
        ("1.0", NodeKind::Float),
        ("~", NodeKind::Null),
        ("", NodeKind::Null),
        ("null", NodeKind::Null),
        (".inf", NodeKind::Float),
        ("2001-01-01", NodeKind::String),
        ("10.0.0.0/8", NodeKind::String),
        ("'yes'", NodeKind::String),
        ("\"012\"", NodeKind::String),
        ("|\n  yes", NodeKind::String),
        ("!!str yes", NodeKind::String),
        ("!!str", NodeKind::String),
        ("! 12", NodeKind::String),
        ("!!int '12'", NodeKind::Int),
        ("!!float 1", NodeKind::Float),
        ("<<", NodeKind::String),
        ("[]", NodeKind::Sequence),
        ("!!map {}", NodeKind::Mapping),
    ] {
        let document = one(&with_value(text));
        assert_eq!(document.root().get("v").unwrap().kind(), kind, "{text}");
    }
    let document = one(&with_value("012"));
    assert_eq!(document.root().get("v").unwrap().as_int(), Some(10));
    let document = one(&with_value("!!str"));
    assert_eq!(document.root().get("v").unwrap().as_str(), Some(""));
}

#[test]
fn keys_become_the_text_that_the_server_makes_of_them() {
    let document = one("apiVersion: v1\nkind: T\n012: a\nyes: b\n'n': c\n");
    let keys: Vec<_> = document.root().entries().map(|entry| entry.key()).collect();
    assert_eq!(keys, ["apiVersion", "kind", "10", "true", "n"]);
    assert_eq!(
        error("apiVersion: v1\nkind: T\nmap:\n  1.5e30: a\n"),
        "a.yaml:4:3: T: map: a key must be text, put `1.5e30` in quotes"
    );
    assert_eq!(
        error("apiVersion: v1\nkind: T\nmap:\n  ~: a\n"),
        "a.yaml:4:3: T: map: a key must be text, this one is null"
    );
    assert_eq!(
        error("apiVersion: v1\nkind: T\n? [a]\n: b\n"),
        "a.yaml:3:3: T: a key must be text, not a list or a mapping"
    );
    assert_eq!(
        error("apiVersion: v1\nkind: T\n? {a: b}\n: b\n"),
        "a.yaml:3:3: T: a key must be text, not a list or a mapping"
    );
}

#[test]
fn tags_of_other_programs_are_refused() {
    for tag in ["!Ref", "!!binary", "!!set", "!<tag:example.com,2000:x>"] {
        let printed = error(&with_value(&format!("{tag} a")));
        assert!(printed.starts_with("a.yaml:3:"), "{printed}");
        assert!(printed.ends_with("is not supported"), "{printed}");
    }
    assert!(error(&with_value("!!seq {}")).ends_with("v: the tag `!!seq` is not supported"));
    assert!(error(&with_value("!!int x")).ends_with("v: `x` does not fit its tag `!!int`"));
}

#[test]
fn aliases_and_merge_keys() {
    let document = one("apiVersion: v1\nkind: T\nbase: &b {x: 1, w: [2]}\nmore: &m {w: 3, z: 4}\nsame: *b\n\
         one: {<<: *b, w: own}\ntwo: {<<: [*b, *m]}\nthree: &t {<<: *b}\nfour: {<<: *t, v: 5}\nseven: &n 7\nm: *n\n");
    let root = document.root();
    let show = |key| format!("{:?}", root.get(key).unwrap());
    assert_eq!(show("same"), r#"{"x": 1, "w": [2]}"#);
    assert_eq!(show("one"), r#"{"w": "own", "x": 1}"#);
    assert_eq!(show("two"), r#"{"x": 1, "w": [2], "z": 4}"#);
    assert_eq!(show("four"), r#"{"v": 5, "x": 1, "w": [2]}"#);
    assert_eq!(show("m"), "7");
    assert_eq!(root.get("two").unwrap().len(), 3);
    assert_eq!(root.get("one").unwrap().len(), 2);
    // Errors inside point at the text that was written.
    assert_eq!(document.locate("four.w[0]"), Position::new(3, 21));
}

#[test]
fn doubtful_merges_are_refused() {
    assert_eq!(
        error("apiVersion: v1\nkind: T\nbase: &b {x: 1}\none: {x: 2, <<: *b}\n"),
        "a.yaml:4:13: T: one: the merged key `x` is set before the merge as well"
    );
    for value in ["{<<: 1}", "{<<: [{}, 1]}", "{<<: ~}"] {
        assert_eq!(
            error(&with_value(value)),
            "a.yaml:3:5: T: v: the merge key `<<` needs a mapping or a list of mappings"
        );
    }
    assert!(error(&with_value("{<<: {a: 1}, <<: {b: 1}}")).contains("duplicate key `<<`"));
    assert_eq!(format!("{:?}", one(&with_value("{'<<': 1}")).root().get("v").unwrap()), r#"{"<<": 1}"#);
}

#[test]
fn block_scalars_keep_their_text() {
    let document = one("apiVersion: v1\nkind: T\na: |\n  x\n   y\n\n  z\nb: >-\n  x\n  y\nc: |+\n  x\n\n");
    assert_eq!(document.root().get_str("a"), Some("x\n y\n\nz\n"));
    assert_eq!(document.root().get_str("b"), Some("x y"));
    assert_eq!(document.root().get_str("c"), Some("x\n\n"));
}

#[test]
fn json_values() {
    let document = one_json(
        r#" {"apiVersion":"v1","kind":"T","a":[1,-2.5,1e3,true,false,null,{}],"b":{"x":[],"y":"\u00e9\ud83d\ude00\n\"\\\/"},
          "c": 18446744073709551615, "yes": "yes"} "#,
    );
    let root = document.root();
    assert_eq!(format!("{:?}", root.get("a").unwrap()), "[1, -2.5, 1e3, true, false, null, {}]");
    assert_eq!(root.get("b").unwrap().get_str("y"), Some("é😀\n\"\\/"));
    assert_eq!(root.get("c").unwrap().as_int(), Some(u64::MAX.into()));
    assert_eq!(root.get("a").unwrap().items().nth(1).unwrap().as_float(), Some(-2.5));
    assert_eq!(document.locate("b.y"), Position::new(1, 84));
    assert_eq!(document.locate("c"), Position::new(2, 16));
}

#[test]
fn yaml_and_json_agree() {
    let json =
        r#"{"apiVersion": "v1", "kind": "T", "v": {"a": [1, "2", null, true, 1.5, {"b": "c\nd"}], "e": ""}}"#;
    let as_json = one_json(json);
    let as_yaml = one(&format!("---\n{json}\n"));
    assert_eq!(format!("{:?}", as_json.root()), format!("{:?}", as_yaml.root()));
}
