//! What one tenant can make large stays small in the tables, and nothing is kept for ever.

use core::net::IpAddr;

use portcullis::compile::{CompileScope, Compiler, Slots, UpdateError};
use portcullis::evaluate::Evaluate;
use portcullis::ir::Interpreter;
use portcullis::model::Cluster;
use portcullis::packet::{Packet, Protocol};
use portcullis::reference::Reference;
use portcullis::settings::Settings;
use portcullis::verdict::Hook;
use portcullis_testkit::generate::Generator;
use portcullis_testkit::soak::{churn, clear};
use portcullis_testkit::tenant::SHAPES;

fn compiler() -> Compiler {
    Compiler::new(Settings::default(), CompileScope::All)
}

fn used(compiler: &Compiler, name: &str) -> usize {
    compiler.slots().iter().find(|slots| slots.name == name).unwrap().used
}

#[test]
fn classes_follow_what_rules_tell_apart_not_how_it_is_written() {
    for shape in SHAPES {
        let size = shape.size.min(300);
        let mut compiler = compiler();
        for object in (shape.objects)(size) {
            compiler.apply(object).unwrap();
        }
        let _ = compiler.commit();
        let most = usize::try_from((shape.classes)(size)).unwrap();
        assert!(used(&compiler, "classes") <= most, "{}: {:?}", shape.name, compiler.slots());
        compiler.snapshot().verify().unwrap();
        // One change more is one change in the tables, and the same as from nothing.
        compiler.apply((shape.change)(size)).unwrap();
        let _ = compiler.commit();
        compiler.snapshot().verify().unwrap();
        let again =
            Compiler::from_cluster(compiler.cluster().clone(), Settings::default(), CompileScope::All);
        let again = again.unwrap();
        assert_eq!(compiler.snapshot().canonical(), again.snapshot().canonical(), "{}", shape.name);
    }
}

/// The shapes mean what their objects say: packets to and from every sort of address they name.
#[test]
fn shapes_are_decided_as_the_reference_does() {
    let settings = Settings::default();
    for shape in SHAPES {
        let cluster: Cluster = (shape.objects)(20).into_iter().collect();
        let compiler = Compiler::from_cluster(cluster.clone(), settings.clone(), CompileScope::All).unwrap();
        let reference = Reference::new(&cluster, &settings);
        let interpreter = Interpreter::new(compiler.snapshot());
        let id = cluster.endpoints().keys().next().unwrap();
        let addresses: Vec<IpAddr> = ["10.0.0.0", "10.0.0.1", "11.0.0.0", "11.0.0.1", "64.0.0.0", "64.0.0.1"]
            .into_iter()
            .chain(["64.0.0.16", "64.0.0.32", "64.0.0.35", "64.0.2.96", "64.0.19.1", "64.1.0.0", "9.9.9.9"])
            .map(|text| text.parse().unwrap())
            .collect();
        for source in &addresses {
            for destination in &addresses {
                for (from, to) in [(0, 0), (2, 2), (4, 6), (1, 443), (9, 8080), (7, 5_000), (38, 38)] {
                    let mut packet = Packet::new(*source, *destination, Protocol::TCP);
                    (packet.source_port, packet.destination_port) = (from, to);
                    for hook in [Hook::WorkloadIngress, Hook::WorkloadEgress] {
                        let want = reference.decide(id, hook, &packet);
                        assert_eq!(
                            interpreter.evaluate(id, hook, &packet),
                            want,
                            "{}: {packet:?}",
                            shape.name
                        );
                    }
                }
            }
        }
    }
}

/// Adds and removes objects of every kind, then removes them all.
fn come_and_go(compiler: &mut Compiler, seed: u64, commits: u32) {
    churn(compiler, &mut Generator::new(seed), commits, |_, _| Ok::<_, UpdateError>(())).unwrap();
    clear(compiler).unwrap();
}

#[test]
fn numbers_are_used_again_whatever_came_and_went() {
    let mut compiler = compiler();
    let empty = compiler.slots();
    come_and_go(&mut compiler, 1, 40);
    let in_use = |slots: &[Slots]| slots.iter().map(|slots| (slots.name, slots.used)).collect::<Vec<_>>();
    assert_eq!(in_use(&compiler.slots()), in_use(&empty), "something is kept of objects that are gone");
    let early = compiler.slots();
    // The same sizes come and go, five times as often: the highest number depends on what is there at once.
    for round in 0..5 {
        come_and_go(&mut compiler, 2 + round, 40);
    }
    for (before, after) in early.iter().zip(compiler.slots()) {
        let most = before.numbered * 2 + 64;
        assert!(
            after.numbered <= most,
            "{}: {} numbers, then {}",
            after.name,
            before.numbered,
            after.numbered
        );
    }
    assert_eq!(in_use(&compiler.slots()), in_use(&empty));
}

/// One policy that changes all the time, which is what a controller that writes a status may do.
#[test]
fn versions_of_one_object_take_no_room() {
    let mut compiler = compiler();
    let shape = &SHAPES[0];
    for object in (shape.objects)(3) {
        compiler.apply(object).unwrap();
    }
    let _ = compiler.commit();
    for version in 0..2_000 {
        compiler.apply((shape.change)(version % 5)).unwrap();
        let _ = compiler.commit();
    }
    for slots in compiler.slots() {
        assert!(slots.numbered < 32, "{}: {} of {} numbers in use", slots.name, slots.used, slots.numbered);
    }
}
