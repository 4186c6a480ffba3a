//! Any text is a selector or an error inside the text; canonical text means the same as the text it came from.
//!
//! Input: the selector up to the first line break, then one label a line, `key=value`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_core::label::Labels;
use portcullis_core::selector::{MAX_TEXT, Selector};

fuzz_target!(|text: &str| {
    let (text, rest) = text.split_once('\n').unwrap_or((text, ""));
    let selector = match Selector::parse(text) {
        Ok(selector) => selector,
        Err(error) => {
            // The span must be usable as it is: in range, in order, on character boundaries.
            let span = error.span();
            assert!(text.get(span.clone()).is_some(), "span {span:?} of {text:?}");
            assert!(!error.to_string().contains('\n'), "{error}");
            return;
        }
    };

    // Canonical text is longer (spaces, parentheses, quotes), so it can be over the limit that its source kept.
    let canonical = selector.to_string();
    if canonical.len() > MAX_TEXT {
        return;
    }
    let again = match Selector::parse(&canonical) {
        Ok(again) => again,
        Err(error) => panic!("{text:?} prints as {canonical:?}, which is refused: {error}"),
    };
    // Printing drops nothing but double negations, so printing and parsing once more changes nothing at all.
    let twice = Selector::parse(&again.to_string()).expect("canonical text is a selector");
    assert_eq!(again, twice);

    let labels: Labels = rest.lines().filter_map(|line| line.split_once('=')).collect();
    for labels in [&labels, &Labels::new()] {
        assert_eq!(
            selector.matches(labels),
            again.matches(labels),
            "{text:?} and {canonical:?} on {labels:?}"
        );
    }
});
