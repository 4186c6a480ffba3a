//! Every case of the corpus, on every engine.

extern crate alloc;

use alloc::collections::BTreeSet;
use std::path::Path;

use portcullis_testkit::{Dataplane, kernel_can_be_asked, load, run};

#[test]
fn every_case_holds_on_every_engine() {
    let cases =
        load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")).unwrap_or_else(|error| panic!("{error}"));
    let (mut checks, mut failed, mut names) = (0, 0, BTreeSet::new());
    let mut by_kernel = [(0, 0); Dataplane::ALL.len()];
    for case in &cases {
        assert!(names.insert(&case.name), "two cases are called {}", case.name);
        let outcome = run(case);
        assert!(outcome.checks > 0, "{} checks nothing", case.name);
        checks += outcome.checks;
        for ((asked, unasked), (more, fewer)) in by_kernel.iter_mut().zip(outcome.kernel) {
            *asked += more;
            *unasked += fewer;
        }
        if !outcome.failures.is_empty() {
            failed += 1;
            println!("{} ({}):\n  {}", case.name, case.rule, outcome.failures.join("\n  "));
        }
    }
    println!("{} cases, {checks} checks on reference, IR interpreter and matcher", cases.len());
    if kernel_can_be_asked() {
        let wanted = Dataplane::wanted();
        let counted = Dataplane::ALL.into_iter().zip(by_kernel);
        for (dataplane, (asked, unasked)) in counted.filter(|(dataplane, _)| wanted.contains(dataplane)) {
            println!(
                "{} on the kernel: {asked} packets decided, {unasked} that it cannot be asked about",
                dataplane.name()
            );
            assert!(asked > 500, "{} decided only {asked} packets", dataplane.name());
        }
    } else {
        println!("SKIPPED: the kernel, for all {} cases: that needs root, `nft` and `ip`", cases.len());
    }
    assert!(cases.len() >= 150, "only {} cases were found", cases.len());
    assert_eq!(failed, 0, "{failed} cases failed");
}
