//! The lowering against a model of the maps: whole snapshots, updates write by write, and packets that are on their way
//! meanwhile. Needs no kernel.
//!
//! `PORTCULLIS_SEEDS` sets how many clusters each property takes.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::std_instead_of_alloc,
    reason = "test helpers stop at the first surprise"
)]

mod capacity;
mod edits;
mod scenarios;
mod style;
mod world;

use portcullis_core::backend::{Binding, Bindings, DesiredState, Lower as _};
use portcullis_core::compile::{CompileScope, Compiler};
use portcullis_core::model::{Cluster, EndpointId, Enforcement};
use portcullis_core::reference::Reference;
use portcullis_core::settings::Settings;
use portcullis_core::verdict::RuleRef;
use portcullis_ebpf::{Lowering, Options};
use portcullis_testkit::differential::{self, hooks};
use portcullis_testkit::generate::Generator;

use portcullis_testkit::lowered::plain;
use portcullis_testkit::lowered::reader::{Question, Reader};
use style::Style;
use world::{CAPACITY, World, indexes, interface};

/// How many clusters.
fn seeds(usual: u64) -> u64 {
    std::env::var("PORTCULLIS_SEEDS").map_or(usual, |value| value.parse().unwrap())
}

/// Every rule that is enforced.
fn rules(cluster: &Cluster) -> Vec<RuleRef> {
    let is_enforced = |rule: &RuleRef| cluster.policies()[&rule.policy].enforcement == Enforcement::Enforced;
    differential::rules(cluster).into_iter().map(|(rule, _)| rule).filter(is_enforced).collect()
}

#[test]
fn the_maps_say_what_the_reference_says() {
    let (mut asked, mut aimed) = (0_u64, 0_u64);
    for seed in 0..seeds(30) {
        let mut world = World::new(seed, Style::of(seed), CAPACITY);
        let cluster = world.cluster.clone();
        let settings = Settings::default();
        let reference = Reference::new(&cluster, &settings);
        let mut generator = Generator::new(seed ^ 0x5eed);
        let mut packets: Vec<_> = (0..30).map(|_| generator.packet()).collect();
        for rule in rules(&cluster) {
            if let Some(hit) = generator.hit(&cluster, &rule) {
                let misses = generator.near_misses(&cluster, &rule, &hit);
                aimed += 1 + misses.len() as u64;
                packets.push(hit.packet);
                packets.extend(misses.into_iter().map(|(_, packet)| packet));
            }
        }
        let state = world.state();
        for packet in packets.into_iter().map(plain) {
            for address in [packet.source, packet.destination] {
                let sides =
                    world.maps.addresses.get(&address).copied().or_else(|| world.maps.longest(&address));
                let is_service = world.style.services().iter().any(|net| net.contains(&address));
                assert_eq!(
                    sides.is_some_and(|sides| sides[0] >> 31 == 1),
                    is_service,
                    "seed {seed}: {address}"
                );
            }
            for (id, binding) in world.bindings.clone() {
                for hook in hooks(id.kind) {
                    let question = Question { interface: indexes(&binding)[0], hook, packet: packet.clone() };
                    let answer = Reader::ask(&question, &mut world.maps);
                    assert_eq!(answer, state.answer(&question), "seed {seed}: {question:?}");
                    let want = reference.decide(&id, hook, &packet);
                    let got = answer.decision.unwrap();
                    assert_eq!(
                        (got.verdict, got.cause, got.logs),
                        (want.verdict, want.cause, want.logs),
                        "seed {seed}: {question:?}"
                    );
                    asked += 1;
                }
            }
        }
    }
    println!("{asked} decisions, {aimed} packets were aimed at rules");
    assert!(asked > 0 && aimed > 0);
}

#[test]
fn one_host_endpoint_is_for_all_interfaces() {
    let compiler = Compiler::new(Settings::default(), CompileScope::All);
    let binding = |(name, at): (&str, u32)| {
        (EndpointId::host(name), Binding::AllInterfaces { interfaces: vec![interface(at)] })
    };
    let load = |names: &[(&str, u32)]| {
        let bindings: Bindings = names.iter().copied().map(binding).collect();
        Lowering::load(Options::new(), DesiredState::new(compiler.snapshot(), &bindings), &())
            .map(drop)
            .map_err(|error| error.to_string())
    };
    assert_eq!(load(&[("a", 1)]), Ok(()));
    assert_eq!(
        load(&[("a", 1), ("b", 2)]),
        Err("hep/a and hep/b are both bound to all interfaces".to_owned())
    );
}

#[test]
fn packets_on_their_way_get_the_answer_of_a_state_that_was_in_force() {
    let mut total = world::Tally::default();
    for seed in 0..seeds(6) {
        let mut world = World::new(seed, Style::of(seed), CAPACITY);
        world.name = format!("seed {seed}");
        for _ in 0..40 {
            world.change();
            if world.below(6) == 0 {
                world.quiesce();
            }
        }
        total.add(&world.tally);
    }
    println!("{total:?}");
    assert!(total.turns > 0 && total.waits > 0 && total.spanning > 0 && total.covered > 0);
}
