//! The compiler against the reference evaluator, on generated clusters.

#[expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a generator of small numbers, for tests only"
)]
#[path = "compile/generate.rs"]
mod generate;

use generate::Gen;
use portcullis_core::compile::{CompileScope, Engine};
use portcullis_core::ir::{Interpreter, Snapshot, View};
use portcullis_core::model::{Cluster, EndpointKind, Update};
use portcullis_core::reference::{Reference, Settings, StagedPolicies};
use portcullis_core::verdict::Hook;

/// Number of generated clusters for each property; more in a long run.
fn rounds() -> u64 {
    std::env::var("PORTCULLIS_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(40)
}

fn hooks(kind: EndpointKind) -> Vec<Hook> {
    let workload = |hook: &Hook| matches!(hook, Hook::WorkloadIngress | Hook::WorkloadEgress);
    Hook::ALL.into_iter().filter(|hook| workload(hook) == (kind == EndpointKind::Workload)).collect()
}

/// Compares both engines on packets between all kinds of addresses. Returns the number of comparisons.
fn compare(seed: u64, cluster: &Cluster, snapshot: &Snapshot, packets: usize, what: &str) -> usize {
    let mut generator = Gen::new(seed ^ 0x5eed);
    let settings = Settings::default();
    let preview = Settings { staged: StagedPolicies::Enforce, ..Settings::default() };
    let reference = Reference::new(cluster, &settings);
    let pending = Reference::new(cluster, &preview);
    let interpreter = Interpreter::new(snapshot);
    let mut count = 0;
    for _ in 0..packets {
        let packet = generator.packet();
        for id in cluster.endpoints().keys() {
            for hook in hooks(id.kind) {
                let want = reference.decide(id, hook, &packet);
                let got = interpreter.decide(id, hook, &packet);
                assert_eq!(want, got, "{what}, seed {seed}: {id} {hook}\n{packet:?}\n{cluster:#?}");
                let want = pending.decide(id, hook, &packet);
                let got = interpreter.with_view(View::Pending).decide(id, hook, &packet);
                assert_eq!(want, got, "{what}, seed {seed}, pending: {id} {hook}\n{packet:?}\n{cluster:#?}");
                count += 1;
            }
        }
    }
    count
}

#[test]
fn compiled_tables_say_what_the_reference_says() {
    let mut count = 0;
    for seed in 0..rounds() {
        let updates = Gen::new(seed).cluster();
        let mut engine = Engine::new(Settings::default(), CompileScope::All);
        for update in &updates {
            engine.apply(update.clone()).unwrap();
        }
        engine.commit();
        engine.snapshot().verify().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let cluster: Cluster = updates.into_iter().collect();
        count += compare(seed, &cluster, engine.snapshot(), 40, "from scratch");
    }
    println!("{count} decisions compared");
}

#[test]
fn incremental_is_from_scratch_at_every_step() {
    let mut count = 0;
    for seed in 0..rounds().div_ceil(4) {
        let mut generator = Gen::new(seed);
        let mut updates = generator.cluster();
        generator.shuffle(&mut updates);
        let mut engine = Engine::new(Settings::default(), CompileScope::All);
        let mut cluster = Cluster::new();
        let mut copy = Snapshot::new();
        let mut batch = 0;
        for step in 0..120 {
            let update = match updates.pop() {
                Some(update) => update,
                None => generator.change(&cluster),
            };
            cluster.apply(update.clone());
            engine.apply(update).unwrap();
            if batch > 0 {
                batch -= 1;
                continue;
            }
            batch = generator.below(4);
            let delta = engine.commit();
            copy.apply(&delta).unwrap();
            assert_eq!(&copy, engine.snapshot(), "snapshot + delta, seed {seed} step {step}");
            copy.verify().unwrap_or_else(|error| panic!("seed {seed} step {step}: {error}"));
            let unreferenced = copy.unreferenced();
            assert!(unreferenced.is_empty(), "seed {seed} step {step}: {unreferenced:?}");
            assert!(engine.commit().is_empty(), "a commit without a change is empty");
            if step % 6 == 0 {
                let mut scratch = Engine::new(Settings::default(), CompileScope::All);
                for update in cluster.updates() {
                    scratch.apply(update).unwrap();
                }
                scratch.commit();
                let (old, new) = (engine.snapshot().canonical(), scratch.snapshot().canonical());
                assert_eq!(old, new, "incremental and from scratch, seed {seed} step {step}");
                count += compare(seed * 1000 + step, &cluster, engine.snapshot(), 4, "incremental");
            }
        }
        engine.commit();
        count += compare(seed, &cluster, engine.snapshot(), 20, "incremental, at the end");
        // Taking everything away leaves nothing behind.
        for id in cluster.endpoints().keys() {
            engine.apply(Update::RemoveEndpoint(id.clone())).unwrap();
        }
        engine.commit();
        let rest = engine.snapshot();
        assert!(rest.endpoints.is_empty() && rest.programs.is_empty() && rest.tables.is_empty());
        assert!(rest.decisions.is_empty() && rest.l7.is_empty() && rest.projections.is_empty());
        assert!(rest.addresses.is_empty(), "{:?}", rest.addresses);
    }
    println!("{count} decisions compared");
}
