//! The kernel program, asked while its maps change. As root only.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use portcullis_core::backend::{
    Binding, Bindings, DataplaneOptions, DesiredState, Interface, LoggedEvents, Lower as _, LowerErrorKind,
};
use portcullis_core::compile::{CompileScope, Compiler};
use portcullis_core::ir::{Interpreter, Snapshot};
use portcullis_core::model::{Cluster, EndpointId, EndpointKind};
use portcullis_core::packet::Packet;
use portcullis_core::settings::Settings;
use portcullis_core::verdict::{Hook, Verdict};
use portcullis_ebpf::oracle::{EventRecord, Sandbox};
use portcullis_ebpf::{Capacity, Lowering, Options, Write};
use portcullis_testkit::generate::Generator;
use portcullis_testkit::kernel_can_be_asked;

const CAPACITY: Capacity = Capacity {
    endpoints: 256,
    addresses_v4: 1_024,
    addresses_v6: 1_024,
    networks_v4: 1_024,
    networks_v6: 1_024,
    classes: 1_024,
    projections: 256,
    programs: 512,
    cells: 16_384,
    runs: 2_048,
    pages: 2_048,
    decisions: 2_048,
    flows_v4: 1_024,
    flows_v6: 1_024,
    cuts: 1_024,
    event_bytes: 65_536,
};

fn bindings(cluster: &Cluster) -> Bindings {
    let binding = |(id, index): (&EndpointId, u32)| {
        let interface = Interface::new(&format!("if{index}")).unwrap().with_index(index);
        let binding = match id.kind {
            EndpointKind::Workload => Binding::WorkloadAnyAddress { interface },
            EndpointKind::Host => Binding::Host { interfaces: vec![interface] },
        };
        (id.clone(), binding)
    };
    cluster.endpoints().keys().zip(10..).map(binding).collect()
}

fn index_of(binding: &Binding) -> u32 {
    binding.interfaces().first().and_then(Interface::index).unwrap()
}

fn passes(snapshot: &Snapshot, bindings: &Bindings, question: &(EndpointId, Hook, Packet)) -> bool {
    let (id, hook, packet) = question;
    // An endpoint that is not bound has no interface that packets could pass.
    let verdict = Interpreter::new(snapshot).decide(id, *hook, packet).verdict;
    bindings.of(id).is_some() && matches!(verdict, Verdict::Allow | Verdict::Continue)
}

/// Whether the event and its counter are those of the decision that the snapshot has for the packet.
fn tell(
    sandbox: &mut Sandbox,
    lowering: &Lowering,
    snapshot: &Snapshot,
    (id, hook, packet): &(EndpointId, Hook, Packet),
    interface: u32,
    event: &EventRecord,
) {
    let decision = lowering.decision(event.decision).unwrap();
    let wanted = Interpreter::new(snapshot).look_up(id, *hook, packet).unwrap();
    assert_eq!(Some(decision), snapshot.decisions.lookup(wanted), "{id} {hook} {packet:?}");
    assert_eq!((event.hook, event.interface), (*hook, interface));
    assert_eq!(event.dropped, matches!(decision.verdict, Verdict::Deny | Verdict::Inspect));
    assert_eq!((event.packet.source, event.packet.destination), (packet.source, packet.destination));
    let before = sandbox.counter(event.decision).unwrap().packets;
    assert!(sandbox.ask(interface, *hook, packet).unwrap().is_some());
    let after = sandbox.counter(event.decision).unwrap().packets;
    assert_eq!(before + 1, after, "{id} {hook} {packet:?}");
}

/// Random changes: after every single write, each packet gets its old or its new answer, and in the end the new one.
#[test]
fn between_any_two_writes_every_packet_gets_its_old_or_its_new_answer() {
    if !kernel_can_be_asked() {
        println!("SKIPPED: no kernel was asked, that needs root");
        return;
    }
    let seeds: u64 = std::env::var("PORTCULLIS_SEEDS").map_or(6, |value| value.parse().unwrap());
    let (mut asked, mut writes, mut updates, mut turns, mut waits, mut refused) = (0u64, 0, 0, 0, 0, 0);
    for seed in 0..seeds {
        let mut generator = Generator::new(seed);
        let mut cluster: Cluster = generator.cluster().into_iter().collect();
        let mut compiler =
            Compiler::from_cluster(cluster.clone(), Settings::default(), CompileScope::All).unwrap();
        let mut bound = bindings(&cluster);
        let options =
            Options::from(DataplaneOptions::new().with_events(LoggedEvents::All)).with_capacity(CAPACITY);
        let (mut sandbox, mut lowering) =
            Sandbox::load(options, DesiredState::new(compiler.snapshot(), &bound)).unwrap();
        for step in 0..60 {
            let old = compiler.snapshot().clone();
            let old_bound = bound.clone();
            for _ in 0..=generator.below(4) {
                let update = generator.change(&cluster);
                cluster.apply(update.clone());
                compiler.apply(update).unwrap();
            }
            let delta = compiler.commit();
            let new = compiler.snapshot();
            let rebound = bindings(&cluster);
            // Numbers of interfaces are not given to other endpoints in one step.
            if rebound.endpoints().all(|(id, binding)| old_bound.of(id).is_none_or(|old| old == binding))
                && old_bound.endpoints().all(|(id, _)| rebound.of(id).is_some())
            {
                bound = rebound;
            } else {
                let kept = bound.endpoints().filter(|(id, _)| cluster.endpoints().contains_key(*id));
                bound = kept.map(|(id, binding)| (id.clone(), binding.clone())).collect();
            }
            let update = match lowering.update(DesiredState::new(new, &bound), &delta) {
                Ok(update) => update,
                Err(error) => panic!("seed {seed} step {step}: {error}"),
            };
            let ids: Vec<EndpointId> =
                old_bound.endpoints().chain(bound.endpoints()).map(|(id, _)| id.clone()).collect();
            let questions: Vec<(EndpointId, Hook, Packet)> = (0..24)
                .filter_map(|_| {
                    let index = usize::try_from(generator.below(ids.len().max(1) as u64)).unwrap();
                    let id = ids.get(index)?.clone();
                    let hooks: Vec<Hook> = Hook::ALL
                        .into_iter()
                        .filter(|hook| {
                            matches!(hook, Hook::WorkloadIngress | Hook::WorkloadEgress)
                                == (id.kind == EndpointKind::Workload)
                        })
                        .collect();
                    let hook = usize::try_from(generator.below(hooks.len() as u64)).unwrap();
                    // What only a proxy sees does not reach the kernel.
                    let packet = Packet { principal: None, http: None, ..generator.packet() };
                    Some((id, *hooks.get(hook)?, packet))
                })
                .collect();
            let answers: Vec<[bool; 2]> = questions
                .iter()
                .map(|question| [passes(&old, &old_bound, question), passes(new, &bound, question)])
                .collect();
            let known = lowering.clone();
            let mut check = |sandbox: &mut Sandbox, at: &dyn core::fmt::Debug, last: bool| {
                for (question, [before, after]) in questions.iter().zip(&answers) {
                    let (id, hook, packet) = question;
                    let Some(binding) = bound.of(id).or(old_bound.of(id)) else { continue };
                    let Some((passed, event)) = sandbox.ask(index_of(binding), *hook, packet).unwrap() else {
                        continue;
                    };
                    if let (true, Some(event)) = (last, event) {
                        tell(sandbox, &known, new, question, index_of(binding), &event);
                    }
                    asked += 1;
                    let fine = passed == *after || (!last && passed == *before);
                    assert!(
                        fine,
                        "seed {seed} step {step} at {at:?}: {id} {hook} {packet:?}: {passed}, not {before} or {after}"
                    );
                }
            };
            for (number, write) in update.writes().iter().enumerate() {
                sandbox.write(write).unwrap();
                writes += 1;
                turns += u64::from(matches!(write, Write::Flip(_)));
                waits += u64::from(matches!(write, Write::GracePeriod));
                check(&mut sandbox, &number, false);
            }
            check(&mut sandbox, &"the end", true);
            if generator.below(3) == 0 {
                for write in lowering.quiesce().writes() {
                    sandbox.write(write).unwrap();
                    check(&mut sandbox, &"quiescing", true);
                }
            }
            updates += 1;
            // What does not fit is refused, and the state stays what it was.
            if step % 20 == 7 {
                let mut small = lowering.clone();
                let before = format!("{:?}", small.generation());
                let wrong = small.update(DesiredState::new(new, &bound), &delta);
                assert!(delta.from == delta.to || wrong.is_err());
                assert_eq!(before, format!("{:?}", small.generation()));
                refused += 1;
            }
        }
    }
    println!(
        "{updates} updates, {writes} writes, {turns} turns, {waits} waits, {refused} refusals, {asked} packets asked in between"
    );
    assert!(turns > 0 && waits > 0);
}

/// An update that does not fit is refused with the map and the limit; afterwards everything still works.
#[test]
fn what_does_not_fit_is_refused_whole() {
    let (mut refused, mut done) = (0, 0);
    for seed in 0..6 {
        let mut generator = Generator::new(seed);
        let mut cluster: Cluster = generator.cluster().into_iter().collect();
        let mut compiler =
            Compiler::from_cluster(cluster.clone(), Settings::default(), CompileScope::All).unwrap();
        let bound = bindings(&cluster);
        let (mut lowering, _) =
            Lowering::fitting(Options::new(), DesiredState::new(compiler.snapshot(), &bound)).unwrap();
        for _ in 0..80 {
            let update = generator.object();
            cluster.apply(update.clone());
            compiler.apply(update).unwrap();
            let delta = compiler.commit();
            let before = format!("{lowering:?}");
            match lowering.update(DesiredState::new(compiler.snapshot(), &bound), &delta) {
                Ok(_) => done += 1,
                Err(error) => {
                    refused += 1;
                    let LowerErrorKind::Limit { name, limit, needed } = error.kind() else {
                        panic!("{error}");
                    };
                    assert!(needed > limit && error.to_string().contains(name), "{error}");
                    assert_eq!(before, format!("{lowering:?}"), "{error}");
                    break;
                }
            }
        }
    }
    println!("{done} updates, {refused} refused");
    assert!(refused > 0 && done > 0);
}
