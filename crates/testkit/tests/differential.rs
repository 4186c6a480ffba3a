//! What the fuzz targets `evaluate` and `incremental_history` run, on their seeds and on inputs drawn here.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::fs;
use std::path::Path;

use portcullis_testkit::differential::{Tally, evaluate, incremental};

/// The seeds of a fuzz target.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Inputs of all lengths, from none on.
fn drawn(count: u32) -> impl Iterator<Item = Vec<u8>> {
    (0..count).map(|number| {
        let mut state = number.wrapping_mul(2_654_435_761);
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 24
        };
        let length = number % 130;
        let byte =
            |at: u32, value: u32| if (16..20).contains(&at) { 0 } else { u8::try_from(value).unwrap() };
        (0..length).map(|at| byte(at, next())).collect()
    })
}

fn run(target: &str, count: u32, check: fn(&[u8]) -> Tally) -> Tally {
    let mut total = Tally::default();
    for input in seeds(target).into_iter().chain(drawn(count)) {
        let tally = check(&input);
        total.decisions += tally.decisions;
        total.lowered += tally.lowered;
        total.states += tally.states;
    }
    total
}

#[test]
fn every_engine_says_what_the_reference_says() {
    let total = run("evaluate", 300, evaluate);
    // Both kernel backends answer half as often as the four engines, but for hooks at which nothing can happen.
    assert!(total.decisions > 20_000 && total.lowered > total.decisions / 4, "{total:?}");
}

#[test]
fn any_history_is_from_nothing() {
    let total = run("incremental_history", 150, incremental);
    assert!(total.states > 100 && total.decisions > 1_000, "{total:?}");
}
