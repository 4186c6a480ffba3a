//! A selector within the limits can be used on a small stack, whatever its shape.
//!
//! These run in debug builds too, where a call takes most stack.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails by panicking")]

use core::hash::{Hash, Hasher};
use std::collections::hash_map::DefaultHasher;

use portcullis_core::label::{Labels, Scope};
use portcullis_core::selector::{MAX_RESOURCE_CHARS, MAX_TEXT, Selector, SelectorErrorKind};

/// Runs `work` on a thread with the smallest stack that the limits promise to be enough.
fn on_small_stack<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::Builder::new().stack_size(128 * 1024).spawn(work).unwrap().join().unwrap()
}

/// `open` and `close` as many times as fit into `chars` around `inner`.
fn nested(open: &str, inner: &str, close: &str, chars: usize) -> String {
    let levels = (chars - inner.len()) / (open.len() + close.len());
    open.repeat(levels) + inner + &close.repeat(levels)
}

/// The densest ways to nest: open, close.
const SHAPES: [(&str, &str); 9] = [
    ("(", ")"),
    ("!(", ")"),
    ("!!!(", ")"),
    ("(all()&&", ")"),
    ("(", "||all())"),
    ("!(all()||", ")"),
    ("all()||all()&&(", ")"),
    ("all()&&!(all()||", ")"),
    ("!(!(", "||all()))"),
];

fn exercise(selector: &Selector) {
    let labels = Labels::from_iter([("a", "b")]);
    let copy = selector.clone();
    assert_eq!(&copy, selector);
    assert!(copy.cmp(selector).is_eq());
    let hash = |s: &Selector| {
        let mut hasher = DefaultHasher::new();
        s.hash(&mut hasher);
        hasher.finish()
    };
    assert_eq!(hash(&copy), hash(selector));
    let again = Selector::parse(&selector.to_string()).unwrap();
    assert_eq!(again.matches(&labels), selector.matches(&labels));
    assert!(!format!("{selector:?}").is_empty());
    assert!(!format!("{selector:#?}").is_empty());
    assert!(!selector.expr().contains_global());
    assert!(selector.expr().restrictions().len() <= 1);
    let moved = copy.in_scope(Scope::Namespace);
    let mut count = 0;
    moved.expr().for_each_label(|label| {
        assert_eq!(label.scope, Scope::Namespace);
        count += 1;
    });
    assert_eq!(count, 1);
}

#[test]
fn every_selector_of_a_resource_fits() {
    for (open, close) in SHAPES {
        let text = nested(open, "has(a)", close, MAX_RESOURCE_CHARS);
        on_small_stack(move || exercise(&Selector::parse(&text).unwrap()));
    }
}

#[test]
fn the_deepest_selectors_fit() {
    for (open, close) in SHAPES {
        // The deepest text of this shape that is within the limits, by halving.
        let shape =
            |levels: usize| Selector::parse(&(open.repeat(levels) + "has(a)" + &close.repeat(levels)));
        let (mut fits, mut fails) = (1, MAX_TEXT);
        while fails - fits > 1 {
            let middle = fits.midpoint(fails);
            if shape(middle).is_ok() { fits = middle } else { fails = middle }
        }
        let selector = shape(fits).unwrap();
        on_small_stack(move || exercise(&selector));
    }
}

#[test]
fn endless_nesting_is_an_error_not_a_crash() {
    for (open, close) in SHAPES {
        let text = nested(open, "has(a)", close, MAX_TEXT);
        let unclosed = open.repeat(MAX_TEXT / open.len());
        on_small_stack(move || {
            match Selector::parse(&text) {
                Ok(selector) => exercise(&selector),
                Err(error) => assert_eq!(error.kind(), SelectorErrorKind::TooDeep, "{error}"),
            }
            assert!(Selector::parse(&unclosed).is_err());
        });
    }
}

#[test]
fn parentheses_that_group_nothing_are_free() {
    let text = nested("(", "has(a)", ")", MAX_TEXT);
    let selector = on_small_stack(move || Selector::parse(&text)).unwrap();
    assert_eq!(selector.to_string(), "has(a)");
}
