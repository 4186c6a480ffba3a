use proptest::prelude::*;

use crate::limits::Limits;
use crate::position::Position;
use crate::yaml;

/// What the quick path makes of `text`, after checking that the full parser makes the same of it.
fn takes(text: &str) -> bool {
    let limits = Limits::default();
    let start = Position::new(7, 1);
    let Some(builder) = super::read(text, start, &limits) else { return false };
    let quick = builder.finish();
    let full = yaml::parse_any(text, start, &limits);
    match (quick, full) {
        (quick, Ok(Some(full))) => assert_eq!(quick, full, "{text}"),
        (quick, full) => panic!("{text}\nquick: {quick:?}\nfull: {full:?}"),
    }
    true
}

#[test]
fn takes_ordinary_manifests() {
    for text in [
        "a: b\n",
        "---\na: b",
        "# c\n---\n# c\n\na: b\n  # c\nc: 1\n",
        "a:\nb:\n- c\n- d: e\n  f:\n  - g\n  h:\n    i: j\nk: {}\nl: []\n",
        "a:\n  - b\n  - c:\n    - d\n  - e\nf: \"g h\"\ni: ''\nj: 'k # l: m'\n",
        "- a\n- b: c\n  d: e\n-  \n".trim_end_matches("-  \n"),
        "apiVersion: v1\nkind: Pod\nmetadata:\n  labels:\n    app.kubernetes.io/name: x\n  name: y\nspec:\n  ip: 10.0.0.1:80\n  on: yes\n  n: -1\n  z: ~\n",
        "a:   b c  d\nb: x,y (z); $w*\n",
        "a: 1\na: 2\n",
        "1.5: a\n",
        "a:\n  b:\n",
    ] {
        assert!(takes(text), "{text}");
    }
}

#[test]
fn leaves_the_rest_to_the_full_parser() {
    for text in [
        "",
        "---\n",
        "a\n",
        "a: b\n  c\n",
        "a: b\n c: d\n",
        "a:\n  b: c\n d: e\n",
        "a:\n  b\n",
        "a: |\n  b\n",
        "a: >-\n  b\n",
        "a: &x b\n",
        "a: *x\n",
        "a: !!str 1\n",
        "a: [b]\n",
        "a: {b: c}\n",
        "{a: b}\n",
        "\"a\": b\n",
        "? a\n",
        "a: b # c\n",
        "a: # c\n",
        "a: 'b\n  c'\n",
        "a: 'b''c'\n",
        "a: \"b\\n\"\n",
        "a: b: c\n",
        "a: b:\n",
        "a : b\n",
        "a:b\n",
        "a: - b\n",
        "-\n",
        "- - a\n",
        "-  a\n",
        "- a\nb: c\n",
        "a: b\n- c\n",
        "a: b\n---\n",
        "--- a\n",
        "...\n",
        "%YAML 1.1\n---\na: b\n",
        "a: b \n",
        "a: b\t\n",
        "\ta: b\n",
        "a: b\r\n",
        "a: é\n",
        " a: b\n",
        "<<: a\n",
        "a: .5\n",
        "a: ?\n",
        "a: @b\n",
        "a: %b\n",
        "a: ,b\n",
        "a: --- b\n",
    ] {
        assert!(!takes(text), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever the quick path takes, it reads as the full parser does: same values, same positions, same errors.
    #[test]
    fn agrees_with_the_full_parser(
        lines in prop::collection::vec((prop::sample::select(INDENTS), prop::sample::select(LINES)), 0..9),
        ends_in_break in prop::bool::ANY,
    ) {
        let mut text = String::new();
        for (indent, line) in lines {
            text.push_str(&" ".repeat(indent));
            text.push_str(line);
            text.push('\n');
        }
        if !ends_in_break {
            text.pop();
        }
        takes(&text);
    }

    /// The same for values made of any characters.
    #[test]
    fn agrees_on_values(value in "[ -~]{0,8}", key in "[ -~]{1,4}", item in "[ -~]{0,6}") {
        takes(&format!("a: {value}\n"));
        takes(&format!("{key}: x\n"));
        takes(&format!("a:\n- {item}\n"));
        takes(&format!("a:\n  - {item}\n    {value}\n"));
        takes(&format!("{value}\n"));
        takes(&format!("a: x\n{value}\n"));
    }
}

const INDENTS: &[usize] = &[0, 0, 0, 2, 2, 2, 4, 4, 6, 1, 3];

const LINES: &[&str] = &[
    "a:",
    "b:",
    "c:",
    "d: x",
    "e: 1",
    "f: \"x y\"",
    "g: {}",
    "h: []",
    "- i",
    "- j: x",
    "- k:",
    "- ",
    "-",
    "- []",
    "# l",
    "",
    "m",
    "---",
    "...",
    "n: x # y",
    "o:  ",
    "- 'p'",
    "q: |",
    "- r:s",
    "yes: no",
    "012: ~",
    "1.5: x",
    "- - t",
    "u: a: b",
];
