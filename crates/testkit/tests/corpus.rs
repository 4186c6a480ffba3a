//! Every case of the corpus, on every engine.

extern crate alloc;

use alloc::collections::BTreeSet;
use std::path::Path;

use portcullis_testkit::{kernel_can_be_asked, load, run};

#[test]
fn every_case_holds_on_every_engine() {
    let cases =
        load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")).unwrap_or_else(|error| panic!("{error}"));
    let (mut checks, mut failed, mut names) = (0, 0, BTreeSet::new());
    let (mut by_kernel, mut unasked) = (0, 0);
    for case in &cases {
        assert!(names.insert(&case.name), "two cases are called {}", case.name);
        let outcome = run(case);
        assert!(outcome.checks > 0, "{} checks nothing", case.name);
        checks += outcome.checks;
        by_kernel += outcome.kernel.0;
        unasked += outcome.kernel.1;
        if !outcome.failures.is_empty() {
            failed += 1;
            println!("{} ({}):\n  {}", case.name, case.rule, outcome.failures.join("\n  "));
        }
    }
    println!("{} cases, {checks} checks on reference, IR interpreter and matcher", cases.len());
    if kernel_can_be_asked() {
        println!(
            "nftables on the kernel: {by_kernel} packets decided, {unasked} that it cannot be asked about"
        );
        assert!(by_kernel > 500, "the kernel decided only {by_kernel} packets");
    } else {
        println!(
            "SKIPPED: nftables on the kernel, for all {} cases: that needs root, `nft` and `ip`",
            cases.len()
        );
    }
    assert!(cases.len() >= 150, "only {} cases were found", cases.len());
    assert_eq!(failed, 0, "{failed} cases failed");
}
