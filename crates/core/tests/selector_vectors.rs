//! The selector language, case by case: what is read, what is refused and where, and what it means.

use portcullis_core::label::{Labels, Scope};
use portcullis_core::selector::{
    Expr, LabelRef, MAX_LABEL, MAX_TEXT, Selector, SelectorError, SelectorErrorKind as Kind,
};

/// Text and canonical text.
const VALID: &[(&str, &str)] = &[
    // Nothing means everything.
    ("", "all()"),
    (" \t ", "all()"),
    // Blanks.
    ("\tall(\t)\t", "all()"),
    ("has( \ta\t )", "has(a)"),
    ("a\t==\t\"b\"", "a == \"b\""),
    ("a=='b'&&c!='d'||has(e)", "((a == \"b\" && c != \"d\") || has(e))"),
    ("a in\t{ 'x'\t,\t'y' }", "a in {\"x\", \"y\"}"),
    // Gaps inside operators of two words.
    ("a not \t in {}", "a not in {}"),
    ("a notin{}", "a not in {}"),
    ("a startswith'x'", "a starts with \"x\""),
    ("a starts\twith\"x\"", "a starts with \"x\""),
    ("a endswith 'x'", "a ends with \"x\""),
    ("a contains'x'", "a contains \"x\""),
    ("a in{'x'}", "a in {\"x\"}"),
    // Words are operators after a label only, calls only with their parenthesis.
    ("in in {\"in\"}", "in in {\"in\"}"),
    ("not not in {'x'}", "not not in {\"x\"}"),
    ("contains contains 'contains'", "contains contains \"contains\""),
    ("starts starts with 'x'", "starts starts with \"x\""),
    ("with ends with 'x'", "with ends with \"x\""),
    ("has == 'x'", "has == \"x\""),
    ("all != 'x'", "all != \"x\""),
    ("global in {'x'}", "global in {\"x\"}"),
    ("has(has)", "has(has)"),
    ("has(all) && has(in)", "(has(all) && has(in))"),
    ("allx == 'x'", "allx == \"x\""),
    ("notin notin{'x'}", "notin not in {\"x\"}"),
    ("global( \t)", "global()"),
    // Labels.
    ("0 == 'x'", "0 == \"x\""),
    ("-a == 'x'", "-a == \"x\""),
    ("/ == 'x'", "/ == \"x\""),
    ("..A_b/9- == 'x'", "..A_b/9- == \"x\""),
    // Values hold anything but their quote.
    ("a == ''", "a == \"\""),
    ("a == '\\'", "a == \"\\\""),
    ("a == \"it's\"", "a == \"it's\""),
    ("a == 'say \"x\"'", "a == 'say \"x\"'"),
    ("a == 'x\ny\0z'", "a == \"x\ny\0z\""),
    ("a == 'żółw\u{a0}\u{feff}'", "a == \"żółw\u{a0}\u{feff}\""),
    ("a == '&& || ( { !'", "a == \"&& || ( { !\""),
    ("a == 'all()' && b == \"global()\"", "(a == \"all()\" && b == \"global()\")"),
    // Sets.
    ("a in {}", "a in {}"),
    ("a in { }", "a in {}"),
    ("a in {'x\\'}", "a in {\"x\\\"}"),
    ("a in {'x',}", "a in {\"x\"}"),
    ("a in {'x' , 'x' , }", "a in {\"x\"}"),
    ("a in {'b', \"a\", 'B', 'b', ''}", "a in {\"\", \"B\", \"a\", \"b\"}"),
    ("a not in {'ż', 'z', '\"', \"'\"}", "a not in {'\"', \"'\", \"z\", \"ż\"}"),
    // Negation.
    ("!a == 'b'", "!a == \"b\""),
    ("!!a == 'b'", "a == \"b\""),
    ("! ! !a!='b'", "!a != \"b\""),
    ("!(a == 'b')", "!a == \"b\""),
    ("!(!(has(a)))", "!!has(a)"),
    ("!!(!!(has(a)))", "has(a)"),
    ("!(!!(!has(a)))", "!!has(a)"),
    ("!all()", "!all()"),
    ("!global()", "!global()"),
    // Precedence and grouping.
    ("has(a) || has(b) && has(c) || has(d)", "(has(a) || (has(b) && has(c)) || has(d))"),
    ("(has(a) || has(b)) && (has(c) || has(d))", "((has(a) || has(b)) && (has(c) || has(d)))"),
    ("((has(a)))", "has(a)"),
    ("((has(a)) && ((has(b))))", "(has(a) && has(b))"),
    ("(has(a) && has(b)) && has(c)", "((has(a) && has(b)) && has(c))"),
    ("has(a) || (has(b) || has(c))", "(has(a) || (has(b) || has(c)))"),
    ("!(has(a) && !(has(b) || !has(c)))", "!(has(a) && !(has(b) || !has(c)))"),
    ("has(a)&&has(a)", "(has(a) && has(a))"),
    ("all() || all()", "(all() || all())"),
];

/// Text, kind of error, and the offending part as start and text.
const INVALID: &[(&str, Kind, usize, &str)] = &[
    // White space that is not a blank, and other characters the language does not know.
    ("a ==\n'b'", Kind::UnexpectedCharacter, 4, "\n"),
    ("has(a)\n", Kind::UnexpectedCharacter, 6, "\n"),
    ("\n", Kind::UnexpectedCharacter, 0, "\n"),
    ("\r", Kind::UnexpectedCharacter, 0, "\r"),
    ("\u{feff}all()", Kind::UnexpectedCharacter, 0, "\u{feff}"),
    ("all()\u{a0}", Kind::UnexpectedCharacter, 5, "\u{a0}"),
    ("żółw == 'x'", Kind::UnexpectedCharacter, 0, "ż"),
    ("aż == 'x'", Kind::UnexpectedCharacter, 1, "ż"),
    ("a:b == 'x'", Kind::UnexpectedCharacter, 1, ":"),
    ("has(a*)", Kind::UnexpectedCharacter, 5, "*"),
    ("a in [\"x\"]", Kind::UnexpectedCharacter, 5, "["),
    ("has(a) # all", Kind::UnexpectedCharacter, 7, "#"),
    ("a == `b`", Kind::UnexpectedCharacter, 5, "`"),
    // Calls are one word with their parenthesis.
    ("has (a)", Kind::ExpectedOperator, 4, "("),
    ("all ()", Kind::ExpectedOperator, 4, "("),
    ("allx()", Kind::ExpectedOperator, 4, "("),
    ("xall()", Kind::ExpectedOperator, 4, "("),
    ("Has(a)", Kind::ExpectedOperator, 3, "("),
    ("ALL()", Kind::ExpectedOperator, 3, "("),
    ("has()", Kind::ExpectedLabel, 4, ")"),
    ("has('a')", Kind::ExpectedLabel, 4, "'"),
    ("has(", Kind::ExpectedLabel, 4, ""),
    ("has(a b)", Kind::ExpectedCallEnd, 6, "b"),
    ("has(a", Kind::ExpectedCallEnd, 5, ""),
    ("all(a)", Kind::ExpectedCallEnd, 4, "a"),
    ("global(()", Kind::ExpectedCallEnd, 7, "("),
    // Operators.
    ("a", Kind::ExpectedOperator, 1, ""),
    ("a b", Kind::ExpectedOperator, 2, "b"),
    ("a IN {'x'}", Kind::ExpectedOperator, 2, "IN"),
    ("a containsx 'x'", Kind::ExpectedOperator, 2, "containsx"),
    ("a contains- 'x'", Kind::ExpectedOperator, 2, "contains-"),
    ("a in_ {'x'}", Kind::ExpectedOperator, 2, "in_"),
    ("a not inx {'x'}", Kind::ExpectedOperator, 2, "not"),
    ("a not {'x'}", Kind::ExpectedOperator, 2, "not"),
    ("a notin9{'x'}", Kind::ExpectedOperator, 2, "notin9"),
    ("a starts 'x'", Kind::ExpectedOperator, 2, "starts"),
    ("a starts\nwith 'x'", Kind::ExpectedOperator, 2, "starts"),
    ("a ends withs 'x'", Kind::ExpectedOperator, 2, "ends"),
    ("a && has(b)", Kind::ExpectedOperator, 2, "&&"),
    ("a 'b'", Kind::ExpectedOperator, 2, "'"),
    ("a = 'b'", Kind::IncompleteOperator, 2, "="),
    ("has(a) & has(b)", Kind::IncompleteOperator, 7, "&"),
    ("has(a) |", Kind::IncompleteOperator, 7, "|"),
    ("a ! = 'b'", Kind::ExpectedOperator, 2, "!"),
    ("a === 'b'", Kind::ExpectedString, 4, "="),
    // Values.
    ("a == b", Kind::ExpectedString, 5, "b"),
    ("a == 1", Kind::ExpectedString, 5, "1"),
    ("a == {'b'}", Kind::ExpectedString, 5, "{"),
    ("a == ", Kind::ExpectedString, 5, ""),
    ("a contains !has(b)", Kind::ExpectedString, 11, "!"),
    ("'a' == 'b'", Kind::ExpectedOperand, 0, "'"),
    ("a == 'b", Kind::UnterminatedString, 5, "'b"),
    ("a == \"b'", Kind::UnterminatedString, 5, "\"b'"),
    ("a == 'it's'", Kind::ExpectedConnective, 9, "s"),
    ("a == \"x\\\"y\"", Kind::ExpectedConnective, 9, "y"),
    // Sets.
    ("a in 'x'", Kind::ExpectedSet, 5, "'"),
    ("a in ('x')", Kind::ExpectedSet, 5, "("),
    ("a in {,}", Kind::ExpectedSetValue, 6, ","),
    ("a in {,'x'}", Kind::ExpectedSetValue, 6, ","),
    ("a in {'x',,'y'}", Kind::ExpectedSetValue, 10, ","),
    ("a in {'x',,}", Kind::ExpectedSetValue, 10, ","),
    ("a in {x}", Kind::ExpectedSetValue, 6, "x"),
    ("a in {", Kind::ExpectedSetValue, 6, ""),
    ("a in {'x' 'y'}", Kind::ExpectedSetEnd, 10, "'"),
    ("a in {'x'", Kind::ExpectedSetEnd, 9, ""),
    // Connectives and parentheses.
    ("!", Kind::ExpectedOperand, 1, ""),
    ("()", Kind::ExpectedOperand, 1, ")"),
    ("&& has(a)", Kind::ExpectedOperand, 0, "&&"),
    ("has(a) &&", Kind::ExpectedOperand, 9, ""),
    ("has(a) || || has(b)", Kind::ExpectedOperand, 10, "||"),
    ("has(a) !", Kind::ExpectedConnective, 7, "!"),
    ("has(a) has(b)", Kind::ExpectedConnective, 7, "has"),
    ("all()x", Kind::ExpectedConnective, 5, "x"),
    ("has(a) == 'b'", Kind::ExpectedConnective, 7, "=="),
    ("all(), all()", Kind::ExpectedConnective, 5, ","),
    ("has(a))", Kind::UnmatchedParenthesis, 6, ")"),
    ("(has(a)))", Kind::UnmatchedParenthesis, 8, ")"),
    ("all() && (has(a)", Kind::UnclosedParenthesis, 9, "("),
    ("!((has(a))", Kind::UnclosedParenthesis, 1, "("),
    ("!=a", Kind::ExpectedOperand, 1, "="),
    ("a == |", Kind::ExpectedString, 5, "|"),
    ("= 'a'", Kind::ExpectedOperand, 0, "="),
];

fn error(text: &str) -> Option<SelectorError> {
    Selector::parse(text).err()
}

#[test]
fn valid_texts_have_a_canonical_text() {
    for (text, canonical) in VALID {
        let selector = Selector::parse(text).unwrap_or_else(|e| panic!("{text:?}: {e}"));
        assert_eq!(selector.to_string(), *canonical, "{text:?}");
        assert_eq!(text.parse::<Selector>(), Ok(selector));
    }
}

#[test]
fn errors_name_the_place() {
    for (text, kind, start, found) in INVALID {
        let error = error(text).unwrap_or_else(|| panic!("{text:?} is read"));
        assert_eq!(error.kind(), *kind, "{text:?}: {error}");
        assert_eq!((error.span().start, text.get(error.span())), (*start, Some(*found)), "{text:?}: {error}");
        let message = error.to_string();
        assert!(!message.contains('\n') && !message.contains('\r'), "{message:?}");
        assert!(message.ends_with(&format!(" at offset {start}")), "{message:?}");
    }
}

#[test]
fn messages() {
    let message = |text: &str| error(text).map(|e| e.to_string());
    assert_eq!(message("a = 'b'").as_deref(), Some("`=` must be written twice at offset 2"));
    assert_eq!(message("a == b").as_deref(), Some("expected a quoted value, found `b` at offset 5"));
    assert_eq!(message("a ==").as_deref(), Some("expected a quoted value, found the end at offset 4"));
    assert_eq!(message("a\n").as_deref(), Some("unexpected character `\\n` at offset 1"));
    assert_eq!(message("\u{feff}").as_deref(), Some("unexpected character `\\u{feff}` at offset 0"));
    assert_eq!(message("(all()").as_deref(), Some("`(` is never closed at offset 0"));
    assert_eq!(message("all())").as_deref(), Some("`)` closes nothing at offset 5"));
    // Long texts are shortened.
    let long = message(&format!("a == {}", "x".repeat(5000))).unwrap();
    assert!(long.len() < 200 && long.contains("xx…`"), "{long}");
}

#[test]
fn limits() {
    let label = "a".repeat(MAX_LABEL);
    assert!(Selector::parse(&format!("has({label})")).is_ok());
    assert!(Selector::parse(&format!("{label} == ''")).is_ok());
    for text in [format!("has({label}a)"), format!("{label}a == ''"), format!("{label}in {{'x'}}")] {
        assert_eq!(error(&text).map(|e| e.kind()), Some(Kind::LabelTooLong), "{text}");
    }
    // The value is as long as the text may be.
    let text = |bytes: usize| format!("a == '{}'", "x".repeat(bytes - 7));
    assert!(Selector::parse(&text(MAX_TEXT)).is_ok());
    let error = error(&text(MAX_TEXT + 1)).unwrap();
    assert_eq!(error.kind(), Kind::TooLong);
    assert_eq!(error.span(), MAX_TEXT + 1..MAX_TEXT + 1);
}

#[test]
fn deep_nesting_is_refused_at_the_group_that_goes_too_far() {
    let text = "!(".repeat(600) + "has(a)" + &")".repeat(600);
    let error = error(&text).unwrap();
    assert_eq!(error.kind(), Kind::TooDeep);
    let group = text.get(error.span()).unwrap();
    assert!(group.starts_with("!(!(") && group.ends_with("))"), "{group}");
    assert!(Selector::parse(group.strip_prefix("!(").and_then(|g| g.strip_suffix(")")).unwrap()).is_ok());
}

/// Selector, then for the label `a` missing, empty, `x` and `xyx`: whether it matches.
const MEANING: &[(&str, [bool; 4])] = &[
    ("all()", [true, true, true, true]),
    ("global()", [true, true, true, true]),
    ("!all()", [false, false, false, false]),
    ("has(a)", [false, true, true, true]),
    ("!has(a)", [true, false, false, false]),
    ("a == 'x'", [false, false, true, false]),
    ("!a == 'x'", [true, true, false, true]),
    ("a == ''", [false, true, false, false]),
    ("a != 'x'", [true, true, false, true]),
    ("!a != 'x'", [false, false, true, false]),
    ("a in {'x', 'xyx'}", [false, false, true, true]),
    ("a in {'X'}", [false, false, false, false]),
    ("a in {''}", [false, true, false, false]),
    ("a in {}", [false, false, false, false]),
    ("!a in {}", [true, true, true, true]),
    ("a not in {'x', 'q'}", [true, true, false, true]),
    ("a not in {}", [true, true, true, true]),
    ("!a not in {}", [false, false, false, false]),
    ("a contains 'y'", [false, false, false, true]),
    ("a contains ''", [false, true, true, true]),
    ("!a contains 'y'", [true, true, true, false]),
    ("a starts with 'x'", [false, false, true, true]),
    ("a starts with ''", [false, true, true, true]),
    ("a starts with 'yx'", [false, false, false, false]),
    ("a ends with 'yx'", [false, false, false, true]),
    ("a ends with ''", [false, true, true, true]),
    ("!a ends with 'yx'", [true, true, true, false]),
    ("has(a) && a != 'x'", [false, true, false, true]),
    ("!has(a) || a == 'xyx'", [true, false, false, true]),
    ("a == 'x' || a == '' && has(b)", [false, false, true, false]),
    ("!(a == 'x' || a == 'xyx')", [true, true, false, false]),
    ("!(!(a == 'x'))", [false, false, true, false]),
];

#[test]
fn meaning_of_operators_and_missing_labels() {
    let labels = [
        Labels::new(),
        Labels::from_iter([("a", "")]),
        Labels::from_iter([("a", "x")]),
        Labels::from_iter([("a", "xyx")]),
    ];
    for (text, want) in MEANING {
        let selector = Selector::parse(text).unwrap();
        assert_eq!(labels.each_ref().map(|labels| selector.matches(labels)), *want, "{text}");
    }
}

#[test]
fn scopes_are_part_of_the_look_up() {
    struct Everywhere;
    impl portcullis_core::label::LabelSource for Everywhere {
        fn label(&self, scope: Scope, _: &str) -> Option<&str> {
            Some(match scope {
                Scope::Own => "own",
                Scope::Namespace => "namespace",
                Scope::ServiceAccount => "account",
            })
        }
    }
    let selector =
        Selector::parse("a == 'own' && !(b in {'namespace'} || has(c) && d == 'account')").unwrap();
    assert!(selector.matches(&Everywhere));
    let namespace = Selector::parse("a == 'namespace' && !(b == 'own')").unwrap();
    assert!(!namespace.matches(&Everywhere));
    let namespace = namespace.in_scope(Scope::Namespace);
    assert!(namespace.matches(&Everywhere));
    assert!(!namespace.clone().in_scope(Scope::ServiceAccount).matches(&Everywhere));
    // Own labels cannot pose as those of a namespace, whatever their name.
    assert!(!namespace.matches(&Labels::from_iter([("pcns.a", "namespace"), ("a", "namespace")])));
    assert_eq!(namespace.to_string(), "(ns:a == \"namespace\" && !ns:b == \"own\")");
    assert_eq!(namespace.in_scope(Scope::ServiceAccount).expr().label(), None);
}

#[test]
fn what_the_language_cannot_say_does_not_parse() {
    let label = |scope| LabelRef::new(scope, "a");
    for (expr, text) in [
        (Expr::Has(label(Scope::Namespace)), "has(ns:a)"),
        (Expr::equal(label(Scope::ServiceAccount), "x"), "sa:a == \"x\""),
        (Expr::equal(label(Scope::Own), "'\""), "a == \"'\"\"\""),
        (Expr::equal(label(Scope::Own), "x\" || all() || a == '"), "a == \"x\"\" || all() || a == '\""),
    ] {
        assert_eq!(expr.to_string(), text);
        assert!(Selector::parse(text).is_err(), "{text}");
    }
}

#[test]
fn parts_can_be_inspected() {
    let selector = Selector::parse("has(b) && !(a == 'global()' || c in {} && all())").unwrap();
    assert!(!selector.expr().contains_global());
    let mut labels = Vec::new();
    selector.expr().for_each_label(|label| labels.push(label.to_string()));
    assert_eq!(labels, ["b", "a", "c"]);
    assert!(selector.expr().any(|part| matches!(part, Expr::All)));
    assert!(Selector::parse("has(b) && !(has(a) || global())").unwrap().expr().contains_global());
}

/// Selector, then the restrictions in key order: label, present, absent, values.
type Row = (&'static str, &'static [(&'static str, bool, bool, Option<&'static [&'static str]>)]);

const RESTRICTIONS: &[Row] = &[
    ("all()", &[]),
    ("global() || has(a)", &[]),
    ("!all()", &[]),
    ("a != 'x' && b not in {'x'}", &[]),
    ("!(a == 'x')", &[]),
    ("!(!(has(a)))", &[]),
    ("a in {}", &[("a", true, false, Some(&[]))]),
    ("a in {'y', 'x'} && b contains 'q'", &[("a", true, false, Some(&["x", "y"])), ("b", true, false, None)]),
    ("a starts with 'x' || a == 'y'", &[("a", true, false, None)]),
    ("a == 'x' && (a == 'x' || a == 'y')", &[("a", true, false, Some(&["x"]))]),
    ("a == 'y' || a == 'x' || a in {'z', 'x'}", &[("a", true, false, Some(&["x", "y", "z"]))]),
    ("!has(a) || !has(a) && has(b)", &[("a", false, true, None)]),
    ("!has(a) || a == 'x'", &[]),
    ("!has(a) && a == 'x'", &[("a", true, true, Some(&["x"]))]),
    ("(!has(a) && a == 'x') || !has(a)", &[("a", false, true, None)]),
    ("(has(a) || has(b)) && has(c)", &[("c", true, false, None)]),
    ("(has(a) && a ends with 'x') || (a in {'p'} && has(b))", &[("a", true, false, None)]),
];

#[test]
fn restrictions_are_derived() {
    for (text, want) in RESTRICTIONS {
        let restrictions = Selector::parse(text).unwrap().expr().restrictions();
        let got: Vec<_> = restrictions
            .iter()
            .map(|(label, r)| {
                let values = r.one_of.as_ref().map(|v| v.iter().map(AsRef::as_ref).collect::<Vec<&str>>());
                (&*label.key, r.must_be_present, r.must_be_absent, values)
            })
            .collect();
        let want: Vec<_> = want.iter().map(|(k, p, a, v)| (*k, *p, *a, v.map(<[&str]>::to_vec))).collect();
        assert_eq!(got, want, "{text}");
    }
}
