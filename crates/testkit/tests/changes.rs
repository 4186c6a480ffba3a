//! The report of changed decisions against both snapshots, on generated clusters and changes.

use portcullis::compile::{CompileScope, Compiler};
use portcullis::ir::{Interpreter, Tendency};
use portcullis::model::Cluster;
use portcullis::settings::Settings;
use portcullis::verdict::{Hook, Verdict};
use portcullis_testkit::generate::Generator;

const fn permissive(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Deny => 0,
        Verdict::Inspect => 1,
        Verdict::Continue => 2,
        Verdict::Allow => 3,
    }
}

#[test]
fn every_changed_verdict_is_reported_once_and_nothing_else_is() {
    let rounds: u64 = std::env::var("PORTCULLIS_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(40);
    let (mut reported, mut same) = (0, 0);
    for seed in 0..rounds.div_ceil(4) {
        let mut generator = Generator::new(seed);
        let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
        let mut cluster = Cluster::new();
        for update in generator.cluster() {
            cluster.apply(update.clone());
            assert_eq!(compiler.apply(update), Ok(()));
        }
        compiler.commit();
        for step in 0..8 {
            let before = compiler.snapshot().clone();
            let mut ids: Vec<_> = cluster.endpoints().keys().cloned().collect();
            for _ in 0..=generator.below(3) {
                let update = generator.change(&cluster);
                cluster.apply(update.clone());
                assert_eq!(compiler.apply(update), Ok(()));
            }
            let delta = compiler.commit();
            let after = compiler.snapshot();
            let changes = before.changes(after);
            assert!(!delta.is_empty() || changes.0.is_empty(), "seed {seed} step {step}");
            ids.extend(cluster.endpoints().keys().cloned());
            ids.sort();
            ids.dedup();
            for _ in 0..20 {
                let mut packet = generator.packet();
                packet.principal = None;
                packet.http = None;
                for id in &ids {
                    for hook in Hook::ALL {
                        let old = Interpreter::new(&before).decide(id, hook, &packet).verdict;
                        let new = Interpreter::new(after).decide(id, hook, &packet).verdict;
                        let change = changes.of(&before, after, id, hook, &packet);
                        let said = change.map(|change| change.tendency);
                        let holds = match permissive(old).cmp(&permissive(new)) {
                            core::cmp::Ordering::Less => said == Some(Tendency::Loosened),
                            core::cmp::Ordering::Greater => said == Some(Tendency::Tightened),
                            core::cmp::Ordering::Equal => {
                                said.is_none() || said == Some(Tendency::Attributes)
                            }
                        };
                        assert!(
                            holds,
                            "seed {seed} step {step}: {id} {hook}: {old} to {new} is {said:?}\n{packet:?}"
                        );
                        if said.is_some() { reported += 1 } else { same += 1 }
                    }
                }
            }
        }
    }
    println!("{reported} changed decisions reported, {same} unchanged ones not");
    assert!(reported > 0 && same > 0);
}

#[test]
fn a_report_has_no_overlaps_and_is_the_mirror_of_the_way_back() {
    for seed in 0..20 {
        let mut generator = Generator::new(seed);
        let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
        let updates = generator.cluster();
        for update in updates {
            assert_eq!(compiler.apply(update), Ok(()));
        }
        compiler.commit();
        let before = compiler.snapshot().clone();
        let mut cluster = Cluster::new();
        for _ in 0..6 {
            let update = generator.change(&cluster);
            cluster.apply(update.clone());
            assert_eq!(compiler.apply(update), Ok(()));
        }
        compiler.commit();
        let after = compiler.snapshot();
        let (there, back) = (before.changes(after), after.changes(&before));
        assert_eq!(there.tightened().count() + there.loosened().count(), there.0.len());
        assert_eq!(there.0.len(), back.0.len(), "seed {seed}");
        let count = |changes: &portcullis::ir::Changes, tendency| {
            changes.0.iter().filter(|change| change.tendency == tendency).count()
        };
        assert_eq!(count(&there, Tendency::Tightened), count(&back, Tendency::Loosened), "seed {seed}");
        for (at, change) in there.0.iter().enumerate() {
            for other in there.0.iter().skip(at + 1) {
                let apart = change.hook != other.hook
                    || change.version != other.version
                    || change.endpoints.is_disjoint(&other.endpoints)
                    || change.source.is_disjoint(&other.source)
                    || change.destination.is_disjoint(&other.destination)
                    || change.protocols != other.protocols
                    || change.source_ports.1 < other.source_ports.0
                    || other.source_ports.1 < change.source_ports.0
                    || change.keys.1 < other.keys.0
                    || other.keys.1 < change.keys.0;
                assert!(apart, "seed {seed}: {change:?} and {other:?}");
            }
        }
        assert!(after.changes(after).0.is_empty());
    }
}
