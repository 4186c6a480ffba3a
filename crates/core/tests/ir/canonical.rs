//! The canonical form forgets names and nothing else.

use portcullis_core::ir::{Interpreter, View};

use crate::CASES;
use crate::generate::{self, Rng};

#[test]
fn names_do_not_matter() {
    for seed in 0..CASES {
        let mut rng = Rng(seed);
        let snapshot = generate::snapshot(&mut rng);
        let renamed = generate::renamed(&snapshot, &mut rng);
        assert_ne!(snapshot, renamed, "seed {seed}");
        renamed.verify().unwrap();
        assert_eq!(snapshot.canonical(), renamed.canonical(), "seed {seed}");
    }
}

#[test]
fn the_canonical_form_is_valid_final_and_without_garbage() {
    for seed in 0..CASES {
        let canonical = generate::snapshot(&mut Rng(seed)).canonical();
        canonical.verify().unwrap();
        assert_eq!(canonical.canonical(), canonical, "seed {seed}");
        assert_eq!(canonical.generation, 0);
        let mut unreferenced = canonical.unreferenced();
        unreferenced.identities = 0;
        assert!(unreferenced.is_empty(), "seed {seed}: {unreferenced:?}");
    }
}

#[test]
fn meaning_is_kept() {
    for seed in 0..CASES {
        let mut rng = Rng(seed);
        let snapshot = generate::snapshot(&mut rng);
        let canonical = snapshot.canonical();
        for _ in 0..3 {
            let packet = generate::packet(&mut rng);
            for endpoint in snapshot.endpoints.keys() {
                for hook in generate::hooks(endpoint.kind) {
                    for view in [View::Enforced, View::Staged] {
                        let ask = |snapshot| {
                            Interpreter::new(snapshot).with_view(view).decide(endpoint, *hook, &packet)
                        };
                        assert_eq!(ask(&snapshot), ask(&canonical), "seed {seed}, {packet:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn different_tables_have_different_forms() {
    let mut different = 0;
    for seed in 0..CASES {
        let mut rng = Rng(seed);
        let snapshot = generate::snapshot(&mut rng);
        let next = generate::evolve(&snapshot, &mut rng);
        let answers = |snapshot: &portcullis_core::ir::Snapshot| {
            let mut rng = Rng(seed + 1);
            let interpreter = Interpreter::new(snapshot);
            let mut answers = Vec::new();
            for _ in 0..10 {
                let packet = generate::packet(&mut rng);
                for endpoint in snapshot.endpoints.keys() {
                    for hook in generate::hooks(endpoint.kind) {
                        answers.push(interpreter.decide(endpoint, *hook, &packet));
                    }
                }
            }
            answers
        };
        if answers(&snapshot) != answers(&next) {
            different += 1;
            assert_ne!(snapshot.canonical(), next.canonical(), "seed {seed}");
        }
    }
    assert!(different > CASES / 10, "only {different} cases changed an answer");
}
