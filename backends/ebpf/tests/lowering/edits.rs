//! Changes of the IR that the compiler hardly ever makes, but that a delta may say: other rows, decisions and ports under the
//! same numbers.

use std::collections::BTreeMap;
use std::rc::Rc;

use portcullis_core::backend::{DesiredState, Lower as _};
use portcullis_core::ir::{ClassId, DecisionId, ProjectionId, Snapshot};
use portcullis_core::packet::{Packet, Protocol};
use portcullis_core::verdict::Verdict;

use crate::seeds;
use crate::style::Style;
use portcullis_testkit::differential::hooks;
use portcullis_testkit::lowered::plain;
use portcullis_testkit::lowered::reader::{Question, Reader};

use crate::world::{CAPACITY, State, World, bound, indexes};

/// Around the ends of pages.
const PORTS: [u16; 10] = [0, 1, 0xfe, 0xff, 0x100, 0x1fe, 0x1ff, 0x200, 0xfffe, 0xffff];

fn edit(world: &mut World, snapshot: &mut Snapshot) {
    match world.below(4) {
        // Two classes change places in a projection.
        0 => {
            let ids: Vec<ProjectionId> = snapshot.projections.iter().map(|(id, _)| id).collect();
            let classes: Vec<ClassId> = snapshot.addresses.values().copied().collect();
            if ids.is_empty() || classes.is_empty() {
                return;
            }
            let id = ids[world.below(ids.len())];
            let [one, other] = [(); 2].map(|()| classes[world.below(classes.len())]);
            let projection = snapshot.projections.lookup_mut(id).unwrap();
            let (first, second) = (projection.row(one), projection.row(other));
            for (class, row) in [(one, second), (other, first)] {
                match row {
                    0 => projection.row_of.remove(&class),
                    row => projection.row_of.insert(class, row),
                };
            }
        }
        // A decision says something else.
        1 => {
            let ids: Vec<DecisionId> = snapshot.decisions.iter().map(|(id, _)| id).collect();
            if let Some(id) = ids.get(world.below(ids.len())) {
                let decision = snapshot.decisions.lookup_mut(*id).unwrap();
                decision.verdict = match decision.verdict {
                    Verdict::Deny => Verdict::Allow,
                    _ => Verdict::Deny,
                };
            }
        }
        // Runs of ports end elsewhere.
        2 => {
            let tables: Vec<_> = snapshot.tables.iter().map(|(id, _)| id).collect();
            if let Some(id) = tables.get(world.below(tables.len())) {
                let mut ends: Vec<u16> = PORTS.to_vec();
                world.generator.shuffle(&mut ends);
                for (_, sources) in &mut snapshot.tables.lookup_mut(*id).unwrap().protocols {
                    for source in sources {
                        let mut keys = source.keys.intervals().to_vec();
                        let mut lasts: Vec<u16> =
                            ends.iter().copied().filter(|end| *end < u16::MAX).take(keys.len() - 1).collect();
                        if lasts.len() + 1 == keys.len() {
                            lasts.sort_unstable();
                            lasts.push(u16::MAX);
                            keys.iter_mut().zip(lasts).for_each(|(run, last)| run.last = last);
                        }
                        source.keys = keys.into();
                    }
                }
            }
        }
        // Addresses change classes.
        _ => {
            let classes: Vec<ClassId> = snapshot.addresses.values().copied().collect();
            for class in snapshot.addresses.values_mut() {
                if world.generator.below(4) == 0 {
                    *class = classes[world.generator.below(classes.len() as u64) as usize];
                }
            }
        }
    }
}

#[test]
fn whatever_a_delta_says_the_maps_follow() {
    let (mut asked, mut writes, mut changed) = (0_u64, 0_u64, 0_u64);
    for seed in 0..seeds(12) {
        let mut world = World::new(seed, Style::of(seed), CAPACITY);
        let bindings = Rc::new(world.bindings.clone());
        let mut old = State { snapshot: world.state().snapshot, bindings: Rc::clone(&bindings) };
        for step in 0..20 {
            let mut snapshot = Snapshot::clone(&old.snapshot);
            for _ in 0..=world.below(3) {
                edit(&mut world, &mut snapshot);
            }
            snapshot.generation += 1;
            let delta = old.snapshot.diff(&snapshot);
            let new = State { snapshot: Rc::new(snapshot), bindings: Rc::clone(&bindings) };
            let update =
                world.lowering.update(DesiredState::new(&new.snapshot, &bound(&bindings)), &delta).unwrap();
            let questions = questions(&mut world, 12);
            for (number, write) in update.writes().iter().enumerate() {
                world.maps.write(write);
                writes += 1;
                let is_last = number + 1 == update.writes().len();
                for question in &questions {
                    let answer = Reader::ask(question, &mut world.maps);
                    let (before, after) = (old.answer(question), new.answer(question));
                    changed += u64::from(is_last && before != after);
                    let fine = answer == after || !is_last && answer == before;
                    assert!(
                        fine,
                        "seed {seed} step {step}: {question:?}: {answer:?}, not {before:?} or {after:?}"
                    );
                    asked += 1;
                }
            }
            old = new;
        }
    }
    println!("{asked} questions between {writes} writes, {changed} answers changed");
    assert!(changed > 0);
}

fn questions(world: &mut World, count: usize) -> Vec<Question> {
    let bound: BTreeMap<_, _> = world.bindings.clone();
    let all: Vec<_> = bound.iter().collect();
    if all.is_empty() {
        return Vec::new();
    }
    let question = |_| {
        let (id, binding) = all[world.below(all.len())];
        let hooks = hooks(id.kind);
        let mut packet: Packet = plain(world.generator.packet());
        if packet.protocol.has_ports() {
            packet = packet.to_port(PORTS[world.below(PORTS.len())]);
            packet.protocol = [Protocol::TCP, Protocol::UDP][world.below(2)];
        }
        Question { interface: indexes(binding)[0], hook: hooks[world.below(hooks.len())], packet }
    };
    (0..count).map(question).collect()
}
