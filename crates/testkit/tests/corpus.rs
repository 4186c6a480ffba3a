//! Every case of the corpus, on every engine.

extern crate alloc;

use alloc::collections::BTreeSet;
use std::path::Path;

use portcullis_testkit::{load, run};

#[test]
fn every_case_holds_on_every_engine() {
    let cases =
        load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")).unwrap_or_else(|error| panic!("{error}"));
    let (mut checks, mut failed, mut names) = (0, 0, BTreeSet::new());
    for case in &cases {
        assert!(names.insert(&case.name), "two cases are called {}", case.name);
        let outcome = run(case);
        assert!(outcome.checks > 0, "{} checks nothing", case.name);
        checks += outcome.checks;
        if !outcome.failures.is_empty() {
            failed += 1;
            println!("{} ({}):\n  {}", case.name, case.rule, outcome.failures.join("\n  "));
        }
    }
    println!("{} cases, {checks} checks on 3 engines (reference, IR interpreter, matcher)", cases.len());
    assert!(cases.len() >= 150, "only {} cases were found", cases.len());
    assert_eq!(failed, 0, "{failed} cases failed");
}
