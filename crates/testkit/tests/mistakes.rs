//! One mistake in a policy is refused or changes nothing for the worse.
//!
//! `PORTCULLIS_ROUNDS` sets how many mistakes are made; 200 without it.

#![expect(clippy::panic, reason = "helpers of tests fail by panicking, as tests do")]

extern crate alloc;

use alloc::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use portcullis_testkit::mutate::{Mistake, Outcome, check};
use portcullis_testkit::{Case, load};
use proptest::prelude::*;

/// The objects of every case that can be read.
fn corpus() -> &'static [Case] {
    static CASES: OnceLock<Vec<Case>> = OnceLock::new();
    CASES.get_or_init(|| {
        let cases = load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("cases"));
        cases
            .unwrap_or_else(|error| panic!("{error}"))
            .into_iter()
            .filter(|case| !case.flows.is_empty())
            .collect()
    })
}

fn rounds() -> u32 {
    std::env::var("PORTCULLIS_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: rounds(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_mistake_never_widens(case in 0..corpus().len(), seed in any::<u64>()) {
        let case = &corpus()[case];
        let outcome = check(&case.objects, seed);
        prop_assert!(!matches!(outcome, Outcome::Wider(..)), "{}: {outcome}", case.name);
    }
}

/// The property would also hold if nothing was ever spoilt, so it is counted what came of every sort of mistake: an API
/// server refuses them all in strict mode, and so do we, but for kinds that are another's.
#[test]
fn every_sort_of_mistake_is_made_and_refused() {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    let mut accepted = Vec::new();
    for (index, case) in corpus().iter().enumerate() {
        for round in 0..2 {
            let seed = (index as u64) * 1_000 + round;
            let outcome = check(&case.objects, seed);
            *counts
                .entry(outcome.to_string().split(": wider").next().unwrap_or_default().to_owned())
                .or_default() += 1;
            if matches!(outcome, Outcome::NoWider(_) | Outcome::Wider(..)) {
                accepted.push(format!("{} {seed}: {outcome}", case.name));
            }
        }
    }
    for mistake in
        [Mistake::Misspelt, Mistake::Unknown, Mistake::WrongType, Mistake::NullItem, Mistake::NoSuchValue]
    {
        let refused = counts.get(&Outcome::Refused(mistake).to_string()).copied().unwrap_or_default();
        assert!(refused > 10, "{mistake:?} was refused {refused} times only: {counts:?}");
    }
    assert_eq!(accepted, Vec::<String>::new(), "{counts:?}");
}
