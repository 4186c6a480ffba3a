//! What one tenant can make large stays small in the tables, and nothing is kept for ever.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use core::net::IpAddr;

use portcullis::compile::{CompileLimits, CompileScope, Compiler, Slots, UpdateError};
use portcullis::evaluate::Evaluate;
use portcullis::ir::Interpreter;
use portcullis::label::Name;
use portcullis::model::{
    Cluster, Endpoint, EndpointId, EntitySelector, L4Match, Policy, PolicyId, Rule, Update,
};
use portcullis::packet::{Packet, Protocol};
use portcullis::reference::Reference;
use portcullis::settings::Settings;
use portcullis::verdict::{Hook, Verdict};
use portcullis_testkit::generate::Generator;
use portcullis_testkit::soak::{churn, clear};
use portcullis_testkit::tenant::{PRODUCTS, SHAPES};

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

fn intervals(compiler: &Compiler) -> usize {
    let maps = compiler.snapshot().tables.iter().flat_map(|(_, table)| table.port_maps());
    maps.map(|map| map.intervals().len()).sum()
}

/// Limits that grow with the size are enough at every size: nothing is worse than linear but for a logarithm.
#[test]
fn work_follows_the_size() {
    for shape in SHAPES {
        let size = shape.size.min(1_000);
        let limits = CompileLimits::new()
            .with_steps(20_000 + u64::from(size) * 200)
            .with_predicates(1_000 + u64::from(size) * 20);
        let mut compiler = compiler().with_limits(limits);
        for object in (shape.objects)(size) {
            compiler.apply(object).unwrap();
        }
        let _ = compiler.commit();
        assert!(compiler.excess().is_none(), "{}", shape.name);
        compiler.apply((shape.change)(size)).unwrap();
        let _ = compiler.commit();
        assert!(compiler.excess().is_none(), "{}, changed", shape.name);
        // A port is two, and sixteen rules meet at the innermost networks.
        let most = usize::try_from(size).unwrap() * 20 + 64;
        assert!(intervals(&compiler) <= most, "{}: {} intervals", shape.name, intervals(&compiler));
    }
}

/// What is as large as a product is not made: the policy is named, its program denies everything, and a smaller version is as
/// from nothing.
#[test]
fn a_product_is_refused_before_it_is_made() {
    for shape in PRODUCTS {
        let limits = CompileLimits::new().with_steps(20_000).with_predicates(20_000);
        let mut compiler = compiler().with_limits(limits);
        for object in (shape.objects)(400) {
            compiler.apply(object).unwrap();
        }
        let _ = compiler.commit();
        let excess = compiler.excess().unwrap_or_else(|| panic!("{} fits", shape.name));
        let names: Vec<_> = excess.policies.iter().map(|id| id.name.as_str()).collect();
        assert_eq!(names, ["p"], "{}: {}", shape.name, excess.limit);
        compiler.snapshot().verify().unwrap();
        let cells = |compiler: &Compiler| -> usize {
            compiler.snapshot().programs.iter().map(|(_, program)| program.v4.cells.len()).sum()
        };
        // Of both hooks of each pod.
        assert!(cells(&compiler) <= 2 && intervals(&compiler) <= 8, "{}", shape.name);
        let id = compiler.cluster().endpoints().keys().next().unwrap().clone();
        let packet = Packet::new("64.0.0.1".parse().unwrap(), "10.0.0.0".parse().unwrap(), Protocol::TCP);
        let said = Interpreter::new(compiler.snapshot()).evaluate(&id, Hook::WorkloadIngress, &packet);
        assert_eq!(said.verdict, Verdict::Deny);
        // An unrelated pod does not bring it back.
        let mut other = Endpoint::new(EndpointId::workload("other", "pod"));
        other.addresses.push("10.9.9.9".parse().unwrap());
        compiler.apply(Update::Endpoint(other)).unwrap();
        let _ = compiler.commit();
        assert!(compiler.excess().is_some(), "{}", shape.name);
        // The same, smaller.
        compiler.apply((shape.change)(8)).unwrap();
        let _ = compiler.commit();
        assert_eq!(compiler.excess(), None, "{}", shape.name);
        compiler.snapshot().verify().unwrap();
        let again =
            Compiler::from_cluster(compiler.cluster().clone(), Settings::default(), CompileScope::All);
        assert_eq!(compiler.snapshot().canonical(), again.unwrap().snapshot().canonical(), "{}", shape.name);
        let unreferenced = compiler.snapshot().unreferenced();
        assert_eq!(unreferenced, compiler.snapshot().canonical().unreferenced(), "{}", shape.name);
    }
}

/// A program that grew too large by classes that came fits again when they go, and is the same as if it had never been.
#[test]
fn a_program_fits_again_when_classes_go() {
    let limits = CompileLimits::new().with_steps(4_000);
    let mut compiler = compiler().with_limits(limits);
    let number = |at: u32| EntitySelector::workloads(&format!("number == '{at}'")).unwrap();
    let rules = (0..200).map(|at| Rule::allow().from(number(at)).to_port(L4Match::tcp(1)));
    let everyone = EntitySelector::workloads("all()").unwrap();
    let policy = Policy::ingress(PolicyId::new("GlobalNetworkPolicy", None, "p"), everyone, rules);
    compiler.apply(Update::Policy(policy)).unwrap();
    let pod = |at: u32| {
        let mut pod = Endpoint::new(EndpointId::workload("pods", format!("pod-{at}")));
        pod.labels = core::iter::once((Name::new("number"), Name::from(at.to_string()))).collect();
        pod.addresses.push(IpAddr::from([10, 0, 0, u8::try_from(at).unwrap()]));
        pod
    };
    let mut refused = Vec::new();
    let check = |compiler: &Compiler| {
        compiler.snapshot().verify().unwrap();
        let mut again = Compiler::new(Settings::default(), CompileScope::All).with_limits(limits);
        for pod in compiler.cluster().endpoints().values() {
            again.apply(Update::Endpoint(pod.clone())).unwrap();
        }
        for policy in compiler.cluster().policies().values() {
            again.apply(Update::Policy(policy.clone())).unwrap();
        }
        let _ = again.commit();
        assert_eq!(compiler.excess(), again.excess());
        assert_eq!(compiler.snapshot().canonical(), again.snapshot().canonical());
        compiler.excess().is_some()
    };
    for at in 0..100 {
        compiler.apply(Update::Endpoint(pod(at))).unwrap();
        let _ = compiler.commit();
        refused.push(check(&compiler));
    }
    for at in 0..100 {
        compiler.apply(Update::RemoveEndpoint(pod(at).id)).unwrap();
        let _ = compiler.commit();
        refused.push(check(&compiler));
    }
    assert!(!refused[0] && refused[99] && !refused[199], "{refused:?}");
    assert_eq!(refused.chunk_by(|a, b| a == b).count(), 3, "{refused:?}");
}

/// The shapes mean what their objects say: packets to and from every sort of address they name.
#[test]
fn shapes_are_decided_as_the_reference_does() {
    let settings = Settings::default();
    for shape in SHAPES.iter().chain(PRODUCTS) {
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
