//! What is remembered beside a snapshot is the snapshot before.

use alloc::collections::BTreeSet;

use portcullis_core::evaluate::Evaluate as _;
use portcullis_core::ir::{
    BeforeImages, ClassId, Id, Interpreter, L7Context as _, Lookup, Previous, Snapshot, View,
};

use crate::CASES;
use crate::generate::{self, Rng};

/// The ids that one of two tables may hold.
fn ids<I: Id>(old: u32, new: u32) -> impl Iterator<Item = I> {
    (0..old.max(new)).map(I::new)
}

/// Holds every look-up in `previous` to the same in `old`.
fn assert_same(previous: &Previous<'_>, old: &Snapshot, now: &Snapshot, what: &str) {
    assert_eq!(previous.generation(), old.generation, "{what}");
    for id in ids(old.programs.bound(), now.programs.bound()) {
        assert_eq!(previous.program(id), old.program(id), "{what}, {id}");
    }
    for id in ids(old.tables.bound(), now.tables.bound()) {
        assert_eq!(previous.l4_table(id), old.l4_table(id), "{what}, {id}");
    }
    for id in ids(old.decisions.bound(), now.decisions.bound()) {
        assert_eq!(previous.l7_decision(id), old.l7_decision(id), "{what}, {id}");
    }
    for id in ids(old.l7.bound(), now.l7.bound()) {
        assert_eq!(previous.l7_program(id), old.l7_program(id), "{what}, {id}");
    }
    let listed = |snapshot: &Snapshot| snapshot.addresses.values().copied().max().map_or(0, Id::number);
    let classes = listed(old).max(listed(now)) + 40;
    for id in ids(old.projections.bound(), now.projections.bound()) {
        for class in (0..classes).map(ClassId::new) {
            assert_eq!(previous.row(id, class), old.row(id, class), "{what}, {id} {class}");
        }
    }
    for net in old.addresses.keys().chain(now.addresses.keys()) {
        assert_eq!(previous.prefix(net), old.prefix(net), "{what}, {net}");
        assert_eq!(previous.class_of(net.address()), old.class_of(net.address()), "{what}, {net}");
    }
    for endpoint in old.endpoints.keys().chain(now.endpoints.keys()) {
        assert_eq!(previous.endpoint(endpoint), old.endpoint(endpoint), "{what}, {endpoint}");
    }
    for name in old.identities.keys().chain(now.identities.keys()) {
        assert_eq!(previous.l7_identity(name), old.l7_identity(name), "{what}, {name}");
    }
}

/// Asks both about packets. How many answers are not those of `now`.
fn ask(previous: &Previous<'_>, old: &Snapshot, now: &Snapshot, rng: &mut Rng) -> usize {
    let mut changed = 0;
    let endpoints: BTreeSet<_> =
        generate::endpoints().into_iter().chain(old.endpoints.keys().cloned()).collect();
    for _ in 0..3 {
        let packet = generate::packet(rng);
        for endpoint in &endpoints {
            for hook in generate::hooks(endpoint.kind) {
                let want = Interpreter::new(old).decide(endpoint, *hook, &packet);
                assert_eq!(
                    previous.evaluate(endpoint, *hook, &packet),
                    want,
                    "{endpoint} {hook}\n{packet:?}"
                );
                changed += usize::from(Interpreter::new(now).decide(endpoint, *hook, &packet) != want);
                let want = Interpreter::new(old).with_view(View::Staged).decide(endpoint, *hook, &packet);
                let got = previous.interpreter().with_view(View::Staged).decide(endpoint, *hook, &packet);
                assert_eq!(got, want, "{endpoint} {hook}, staged\n{packet:?}");
            }
        }
    }
    changed
}

#[test]
fn before_images_are_a_clone_of_the_snapshot_before_however_many_deltas_ago() {
    let mut changed = 0;
    for seed in 0..CASES / 16 {
        let mut rng = Rng(seed);
        let mut now = if rng.one_in(2) { Snapshot::new() } else { generate::snapshot(&mut rng) };
        let mut base = generate::snapshot(&mut rng);
        // Each state that there was, with what leads back to it.
        let mut history: Vec<(Snapshot, BeforeImages)> = Vec::new();
        for step in 0..6 {
            // Neighbours, strangers, the same under other names, and nothing at all: ids come, go, and come back.
            let mut next = match rng.below(6) {
                0 => generate::snapshot(&mut rng),
                1 => generate::renamed(&base, &mut rng),
                2 => Snapshot::new(),
                3 => now.clone(),
                _ => {
                    base = generate::evolve(&base, &mut rng);
                    base.clone()
                }
            };
            next.generation = now.generation + u64::from(rng.below(3) + 1);
            let delta = now.diff(&next);
            let old = now.clone();
            let before = now.apply(&delta).unwrap();
            assert_eq!(now, next);
            for (_, images) in &mut history {
                images.append(before.clone()).unwrap();
            }
            history.push((old, before));
            for (at, (old, images)) in history.iter().enumerate() {
                let previous = Previous::new(&now, images).unwrap();
                assert_same(&previous, old, &now, &format!("seed {seed}, state {at} from step {step}"));
                changed += ask(&previous, old, &now, &mut rng);
            }
        }
    }
    assert!(changed > 1000, "only {changed} answers differ from those of now");
}

#[test]
fn what_is_put_into_an_empty_snapshot_is_not_kept_twice() {
    let snapshot = generate::snapshot(&mut Rng(1));
    let mut loaded = Snapshot::new();
    let before = loaded.apply(&loaded.diff(&snapshot)).unwrap();
    let mut nothing = BeforeImages::unchanged(0);
    let mut other = Snapshot::new();
    nothing
        .append(
            other.apply(&other.diff(&Snapshot { generation: loaded.generation, ..Snapshot::new() })).unwrap(),
        )
        .unwrap();
    assert_eq!(before, nothing, "no entry is remembered");
}

#[test]
fn images_belong_to_one_generation() {
    let mut rng = Rng(3);
    let old = generate::snapshot(&mut rng);
    let mut now = old.clone();
    let next = generate::evolve(&old, &mut rng);
    let mut first = now.apply(&old.diff(&next)).unwrap();
    assert!(Previous::new(&old, &first).is_err());
    assert!(Previous::new(&now, &first).is_ok());
    let unchanged = first.clone();
    assert!(first.append(unchanged.clone()).is_err(), "it starts where the first one does");
    assert_eq!(first, unchanged);
    assert!(first.append(BeforeImages::unchanged(now.generation)).is_ok());
    assert_eq!(first, unchanged);
    assert_same(&Previous::from(&old), &old, &now, "nothing happened to it");
}
