//! Every case of the corpus, on every engine.

extern crate alloc;

use alloc::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use portcullis_testkit::{kernel_can_be_asked, load, run, wanted_backends};

#[test]
fn every_case_holds_on_every_engine() {
    let cases =
        load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")).unwrap_or_else(|error| panic!("{error}"));
    let (mut checks, mut failed, mut names) = (0, 0, BTreeSet::new());
    let mut by_kernel = BTreeMap::new();
    for case in &cases {
        assert!(names.insert(&case.name), "two cases are called {}", case.name);
        let outcome = run(case);
        assert!(outcome.checks > 0, "{} checks nothing", case.name);
        checks += outcome.checks;
        for (name, (more, fewer)) in outcome.kernel {
            let (asked, unasked) = by_kernel.entry(name).or_insert((0, 0));
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
        for backend in wanted_backends() {
            let name = backend.name();
            let (asked, unasked) = by_kernel.get(name).copied().unwrap_or_default();
            println!(
                "{name} on the kernel: {asked} packets decided, {unasked} that it cannot be asked about"
            );
            assert!(asked > 500, "{name} decided only {asked} packets");
        }
    } else {
        println!("SKIPPED: the kernel, for all {} cases: that needs root, `nft` and `ip`", cases.len());
    }
    assert!(cases.len() >= 150, "only {} cases were found", cases.len());
    assert_eq!(failed, 0, "{failed} cases failed");
}
