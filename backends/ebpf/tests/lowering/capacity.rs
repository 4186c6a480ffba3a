//! What fits, what does not, and that nothing is lost on the way.

use portcullis_core::backend::{Bindings, DesiredState, Lower as _, LowerError, LowerErrorKind};
use portcullis_core::ir::{Id as _, Snapshot};
use portcullis_ebpf::{Capacity, Lowering, Options};

use crate::seeds;
use crate::style::Style;
use crate::world::{CAPACITY, Tally, World, bound};
use portcullis_testkit::lowered::maps::{Maps, Reached};
use portcullis_testkit::lowered::reader::Reader;

/// The fields that policy can fill. Pages are for tables that are larger than any here; see `tests/ranges.rs`.
const FIELDS: [&str; 11] = [
    "endpoints",
    "addresses_v4",
    "addresses_v6",
    "networks_v4",
    "networks_v6",
    "classes",
    "projections",
    "programs",
    "cells",
    "runs",
    "decisions",
];

fn field<'a>(capacity: &'a mut Capacity, name: &str) -> &'a mut u32 {
    match name {
        "endpoints" => &mut capacity.endpoints,
        "addresses_v4" => &mut capacity.addresses_v4,
        "addresses_v6" => &mut capacity.addresses_v6,
        "networks_v4" => &mut capacity.networks_v4,
        "networks_v6" => &mut capacity.networks_v6,
        "classes" => &mut capacity.classes,
        "projections" => &mut capacity.projections,
        "programs" => &mut capacity.programs,
        "cells" => &mut capacity.cells,
        "runs" => &mut capacity.runs,
        "decisions" => &mut capacity.decisions,
        other => panic!("{other}"),
    }
}

/// The maps of a state that was never another.
fn fresh(options: &Options, snapshot: &Snapshot, bindings: &Bindings) -> Maps {
    let (_, update) = Lowering::load(options.clone(), DesiredState::new(snapshot, bindings), &()).unwrap();
    let mut maps = Maps::new(*options.capacity());
    for write in update.writes() {
        maps.write(write);
    }
    maps
}

/// What holds these maps and not one entry more. Slot 0 of most arrays is nobody's.
fn exactly(maps: &Maps, snapshot: &Snapshot) -> Capacity {
    let Reached { programs, projections, runs, pages, decisions, .. } = maps.reached();
    let v4 = |wanted: bool| move |v4: bool| v4 == wanted;
    let addresses =
        |is: &dyn Fn(bool) -> bool| maps.addresses.keys().filter(|a| is(a.is_ipv4())).count() as u32;
    let networks =
        |is: &dyn Fn(bool) -> bool| maps.networks.keys().filter(|n| is(n.address().is_ipv4())).count() as u32;
    let classes = snapshot.addresses.values().map(|class| class.number());
    let rows = snapshot.projections.iter().flat_map(|(_, p)| p.row_of.keys().map(|class| class.number()));
    Capacity {
        endpoints: maps.endpoints.len() as u32,
        addresses_v4: addresses(&v4(true)),
        addresses_v6: addresses(&v4(false)),
        networks_v4: networks(&v4(true)),
        networks_v6: networks(&v4(false)),
        classes: classes.chain(rows).max().unwrap_or(0) + 1,
        projections,
        programs: programs + 1,
        cells: maps.lines() * 16,
        runs: runs + 1,
        pages: pages + 1,
        decisions: decisions + 1,
        ..CAPACITY
    }
}

/// The limit that is too small, its value, and what is needed.
fn limit_of(error: &LowerError) -> (&'static str, u32, u64) {
    match error.kind() {
        LowerErrorKind::Limit { name, limit, needed } => (name, u32::try_from(*limit).unwrap(), *needed),
        other => panic!("{other:?}"),
    }
}

fn is_honest(error: &LowerError, name: &str, limit: u32, needed: u32) {
    let text = error.to_string();
    assert!(text.contains(&format!("`{name}` holds {limit}")) && !text.contains('\n'), "{text}");
    let (map, said_limit, said_needed) = limit_of(error);
    assert_eq!((map, said_limit), (name, limit), "{text}");
    assert!(said_needed > limit.into() && said_needed <= needed.into(), "{text}: it is {needed}");
}

/// Every field: what is needed exactly is enough, one less is refused by name.
#[test]
fn a_load_that_is_one_too_large_is_refused_and_says_why() {
    let mut refused = [0; FIELDS.len()];
    for seed in 0..seeds(30) {
        let world = World::new(seed, Style::of(seed), CAPACITY);
        let (snapshot, bindings) = (world.compiler.snapshot(), &bound(&world.bindings));
        let exact = exactly(&world.maps, snapshot);
        let load = |capacity| {
            Lowering::load(
                world.lowering.options().clone().with_capacity(capacity),
                DesiredState::new(snapshot, bindings),
                &(),
            )
        };
        load(exact).unwrap_or_else(|error| panic!("seed {seed}: {error} with {exact:?}"));
        for (number, name) in FIELDS.into_iter().enumerate() {
            let mut small = exact;
            let limit = field(&mut small, name);
            let needed = *limit;
            // Cells come in lines. The first class has no entry, and slot 0 is never asked for.
            *limit = limit.saturating_sub(if name == "cells" { 16 } else { 1 });
            let limit = *limit;
            if needed <= 1 && matches!(name, "classes" | "programs" | "runs" | "decisions") || needed == 0 {
                continue;
            }
            // Of classes, rows that no bound endpoint asks for are not loaded.
            let Err(error) = load(small) else {
                assert_eq!(name, "classes", "seed {seed}: {name} {needed}");
                continue;
            };
            is_honest(&error, name, limit, needed);
            refused[number] += 1;
        }
    }
    println!("{FIELDS:?}\n{refused:?} refused");
    assert!(refused.iter().all(|count| *count > 0), "{refused:?}");
}

/// Every field: an update that does not fit changes nothing, and the next one that does is carried out.
#[test]
fn an_update_that_does_not_fit_changes_nothing() {
    let mut refused = [0; FIELDS.len()];
    for seed in 0..seeds(24) {
        for (number, name) in FIELDS.into_iter().enumerate() {
            let world = World::new(seed, Style::of(seed), CAPACITY);
            let mut capacity = CAPACITY;
            // As much as it has now, and a little. Cells come in lines.
            let spare = if name == "cells" { 16 } else { 1 };
            *field(&mut capacity, name) =
                *field(&mut exactly(&world.maps, world.compiler.snapshot()), name) + spare;
            let mut world = World::of(world.generator.clone(), world.style, world.cluster.clone(), capacity);
            (world.silent, world.printing) = (true, true);
            for _ in 0..16 {
                let fits = world.try_change(|error, lowering, printed| {
                    let (map, limit, needed) = limit_of(error);
                    assert_eq!((map, limit), (name, *field(&mut capacity, name)), "{error}");
                    assert!(needed > limit.into(), "{error}");
                    assert_eq!(format!("{lowering:?}"), printed, "{error}");
                });
                if !fits {
                    refused[number] += 1;
                    world.clear();
                    assert!(world.lowering.generation() == world.compiler.snapshot().generation);
                }
            }
        }
    }
    println!("{FIELDS:?}\n{refused:?} refused");
    assert!(refused.iter().all(|count| *count > 0), "{refused:?}");
}

/// Whatever the sequence, once settled the maps are those of a fresh load but for the numbers of slots.
#[test]
fn updates_lead_to_what_a_fresh_load_gives_and_lose_nothing() {
    let mut asked = 0_u64;
    for seed in 0..seeds(3) {
        let mut world = World::new(seed, Style::of(seed), CAPACITY);
        world.name = format!("seed {seed}");
        for step in 0..30 {
            world.change();
            if step % 5 != 4 {
                continue;
            }
            world.quiesce();
            assert!(world.lowering.quiesce().is_empty());
            let mut fresh =
                fresh(world.lowering.options(), world.compiler.snapshot(), &bound(&world.bindings));
            assert_eq!(world.maps.reached(), fresh.reached(), "seed {seed} step {step}");
            assert_eq!(world.maps.addresses, fresh.addresses, "seed {seed} step {step}");
            assert_eq!(world.maps.networks, fresh.networks, "seed {seed} step {step}");
            assert!(world.maps.endpoints.keys().eq(fresh.endpoints.keys()), "seed {seed} step {step}");
            for (interface, words) in &world.maps.endpoints {
                let (first, second) = words.split_at(30);
                assert_eq!(first, second);
                // Flags and addresses; the programs' numbers are their own.
                assert_eq!(first[9..], fresh.endpoints[interface][9..30]);
            }
            for _ in 0..200 {
                let Some(question) = world.question() else { break };
                let one = Reader::ask(&question, &mut world.maps);
                assert_eq!(one, Reader::ask(&question, &mut fresh), "seed {seed}: {question:?}");
                asked += 1;
            }
        }
    }
    println!("{asked} questions, the same answers");
}

/// Changes a world so often, and then another one in the same way whose maps hold everything twice: three times for cells,
/// because those of one program lie in a row, which leaves gaps.
fn twice(seed: u64, steps: usize, silent: bool) -> Tally {
    let mut needed = exactly(&Maps::new(CAPACITY), &Snapshot::new());
    let mut rehearsal = World::new(seed, Style::of(seed), CAPACITY);
    let start = (rehearsal.generator.clone(), rehearsal.cluster.clone());
    rehearsal.silent = true;
    for step in 0..=steps {
        let snapshot = rehearsal.compiler.snapshot();
        let maps = fresh(rehearsal.lowering.options(), snapshot, &bound(&rehearsal.bindings));
        let mut exact = exactly(&maps, snapshot);
        for name in FIELDS {
            let most = field(&mut needed, name);
            *most = (*most).max(*field(&mut exact, name));
        }
        if step < steps {
            rehearsal.change();
        }
    }
    for name in FIELDS {
        *field(&mut needed, name) *= if name == "cells" { 3 } else { 2 };
    }
    let mut world = World::of(start.0, Style::of(seed), start.1, needed);
    world.name = format!("seed {seed}, {needed:?}");
    world.silent = silent;
    for _ in 0..steps {
        world.change();
    }
    assert_eq!(world.cluster, rehearsal.cluster);
    world.tally
}

/// Maps that hold everything twice never run out, however long it goes on.
#[test]
fn twice_the_room_is_enough_for_ever() {
    let mut total = Tally::default();
    (0..seeds(2)).for_each(|seed| total.add(&twice(seed, 100, true)));
    println!("{total:?}");
}

/// Where slots are scarce, they are used again as soon as they may be, and not sooner.
#[test]
fn packets_on_their_way_do_not_meet_slots_that_are_used_again() {
    let mut total = Tally::default();
    (0..seeds(4)).for_each(|seed| total.add(&twice(seed, 25, false)));
    println!("{total:?}");
    assert!(total.spanning > 0);
}
