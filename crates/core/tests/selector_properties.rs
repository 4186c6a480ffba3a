//! What holds for every selector.

use portcullis_core::label::{LabelSource, Labels, Scope};
use portcullis_core::selector::{Expr, LabelRef, Selector};
use proptest::prelude::*;

/// Few labels and values, so that selectors and labels meet; some hold what is hard to print or to read.
fn key() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "in", "not", "has", "all", "x.y/z-0_"])
}

fn value() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "x", "xy", "yx", "\"", "'", "all()", "ż", "\n", "\\", "&& ||"])
}

fn labels() -> impl Strategy<Value = Labels> {
    prop::collection::vec((key(), value()), 0..6).prop_map(Labels::from_iter)
}

/// Expressions as the parser builds them.
fn expr() -> impl Strategy<Value = Expr> {
    let label = || key().prop_map(|key| LabelRef::new(Scope::Own, key));
    let values = || {
        prop::collection::btree_set(value(), 0..4)
            .prop_map(|values| values.into_iter().map(Into::into).collect::<Vec<_>>())
    };
    let test = prop_oneof![
        Just(Expr::All),
        Just(Expr::Global),
        label().prop_map(Expr::Has),
        (label(), value()).prop_map(|(l, v)| Expr::Eq(l, v.into())),
        (label(), value()).prop_map(|(l, v)| Expr::Ne(l, v.into())),
        (label(), values()).prop_map(|(l, v)| Expr::In(l, v)),
        (label(), values()).prop_map(|(l, v)| Expr::NotIn(l, v)),
        (label(), value()).prop_map(|(l, v)| Expr::Contains(l, v.into())),
        (label(), value()).prop_map(|(l, v)| Expr::StartsWith(l, v.into())),
        (label(), value()).prop_map(|(l, v)| Expr::EndsWith(l, v.into())),
    ];
    test.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|e| Expr::Not(Box::new(e))),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expr::And),
            prop::collection::vec(inner, 2..4).prop_map(Expr::Or),
        ]
    })
}

/// Takes pairs of negations away, as reading the canonical text does.
fn without_double_negations(expr: &Expr) -> Expr {
    match expr {
        Expr::Not(inner) => match &**inner {
            Expr::Not(twice) => without_double_negations(twice),
            _ => Expr::Not(Box::new(without_double_negations(inner))),
        },
        Expr::And(operands) => Expr::And(operands.iter().map(without_double_negations).collect()),
        Expr::Or(operands) => Expr::Or(operands.iter().map(without_double_negations).collect()),
        test => test.clone(),
    }
}

/// Words and symbols of the language in any order, and texts of any characters.
fn text() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "a", "b", "in", "not", "not in", "contains", "starts", "with", "ends", "has(", "all()", "global()",
        "(", ")", "{", "}", ",", "==", "!=", "!", "=", "&&", "||", "&", "\"x\"", "'y'", "''", "'", "\"", " ",
        "\t", "\n", "ż",
    ]);
    prop_oneof![
        prop::collection::vec(word, 0..24).prop_map(|words| words.concat()),
        any::<String>(),
        expr().prop_map(|expr| expr.to_string()),
    ]
}

proptest! {
    #[test]
    fn canonical_text_reads_back(expr in expr()) {
        let text = expr.to_string();
        let again = Selector::parse(&text).unwrap();
        prop_assert_eq!(again.expr(), &without_double_negations(&expr), "{}", text);
    }

    #[test]
    fn canonical_text_means_the_same(expr in expr(), labels in labels()) {
        let again = Selector::parse(&expr.to_string()).unwrap();
        prop_assert_eq!(again.matches(&labels), expr.matches(&labels));
        // From the second time on the text is stable too.
        let text = again.to_string();
        prop_assert_eq!(Selector::parse(&text).unwrap().to_string(), text);
    }

    #[test]
    fn any_text_is_read_or_refused_with_a_place(text in text()) {
        match Selector::parse(&text) {
            Ok(selector) => {
                let canonical = selector.to_string();
                prop_assert!(Selector::parse(&canonical).is_ok(), "{:?} became {:?}", text, canonical);
            }
            Err(error) => {
                prop_assert!(text.get(error.span()).is_some(), "{:?}: {:?}", text, error.span());
                let message = error.to_string();
                prop_assert!(!message.chars().any(char::is_control), "{:?}", message);
            }
        }
    }

    #[test]
    fn blanks_between_words_change_nothing(expr in expr(), gap in "[ \t]{1,3}") {
        // Only where blanks stand already and outside quotes: the values are left alone.
        let mut text = String::new();
        let mut quote = None;
        for c in expr.to_string().chars() {
            match quote {
                Some(open) if c == open => quote = None,
                None if matches!(c, '"' | '\'') => quote = Some(c),
                _ => {}
            }
            if c == ' ' && quote.is_none() { text.push_str(&gap) } else { text.push(c) }
        }
        prop_assert_eq!(Selector::parse(&text).unwrap().to_string(), without_double_negations(&expr).to_string());
    }

    #[test]
    fn restrictions_are_necessary(expr in expr(), labels in labels()) {
        let restrictions = expr.restrictions();
        if expr.matches(&labels) {
            for (label, restriction) in &restrictions {
                prop_assert!(!restriction.is_impossible(), "{} {:?}", label, restriction);
                let value = labels.label(label.scope, &label.key);
                prop_assert!(restriction.admits(value), "{} {:?} {:?}", label, restriction, value);
            }
        }
        for restriction in restrictions.values() {
            prop_assert!(restriction.must_be_present || restriction.must_be_absent);
            prop_assert!(restriction.one_of.as_ref().is_none_or(|v| v.is_sorted_by(|a, b| a < b)));
        }
    }

    #[test]
    fn negate_and_and_mean_what_they_say(left in expr(), right in expr(), labels in labels()) {
        let (l, r) = (left.matches(&labels), right.matches(&labels));
        prop_assert_eq!(left.clone().negate().matches(&labels), !l);
        prop_assert_eq!(left.clone().and(right.clone()).matches(&labels), l && r);
        prop_assert_eq!(Expr::any_of([left, right]).matches(&labels), l || r);
    }

    #[test]
    fn order_and_equality_agree(left in expr(), right in expr()) {
        prop_assert_eq!(left == right, left.cmp(&right).is_eq());
        prop_assert_eq!(left.cmp(&right), right.cmp(&left).reverse());
        let copy = left.clone();
        prop_assert!(copy == left && copy.cmp(&left).is_eq());
        // Different trees have different texts.
        prop_assert_eq!(left == right, left.to_string() == right.to_string());
    }

    #[test]
    fn other_scopes_see_no_own_label(expr in expr(), labels in labels()) {
        let namespace = expr.clone().in_scope(Scope::Namespace);
        prop_assert_eq!(namespace.matches(&labels), expr.matches(&Labels::new()));
        prop_assert_eq!(namespace.in_scope(Scope::Own), expr);
    }
}
