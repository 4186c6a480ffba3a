//! The lowering against the IR interpreter: whole snapshots, every delta, and every state between two batches.

mod claims;
mod closed;
mod ended;
mod sources;
mod table;
mod tunnels;

use std::collections::BTreeMap;

use crate::command::AddressKind;
use crate::lower::Lowering;
use crate::options::{Limits, Options};
use crate::update::Existing;
use portcullis_core::backend::{
    Binding, Bindings, DataplaneOptions, DesiredState, Interface, Lower as _, LowerErrorKind,
};
use portcullis_core::compile::{CompileScope, Compiler};
use portcullis_core::ir::{DecisionEntry, Delta, Interpreter, Snapshot, View};
use portcullis_core::model::{Cluster, EndpointId, EndpointKind};
use portcullis_core::packet::Packet;
use portcullis_core::settings::Settings;
use portcullis_core::verdict::{Hook, Verdict};
use portcullis_testkit::generate::Generator;

use table::{Destination, Table, Way};

/// A question: what a hook of an endpoint says to a packet.
type Question = (EndpointId, Hook, Packet);

struct World {
    lowering: Lowering,
    table: Table,
    bindings: Bindings,
    meanings: BTreeMap<String, DecisionEntry>,
    /// The interface of a workload that was here before the last update and still is.
    workload: Option<String>,
}

fn interface(number: usize) -> Interface {
    Interface::new(&format!("e{number}")).unwrap()
}

fn host(number: usize) -> Binding {
    Binding::Host { interfaces: vec![interface(number)] }
}

const fn for_all() -> Binding {
    Binding::AllInterfaces { interfaces: Vec::new() }
}

fn workload(number: usize) -> Binding {
    Binding::WorkloadAnyAddress { interface: Interface::new(&format!("w{number}")).unwrap() }
}

fn bindings(snapshot: &Snapshot) -> Bindings {
    // Two endpoints for all interfaces would stand for the same packets.
    let mut all = false;
    let bind = |(number, id): (usize, &EndpointId)| {
        let binding = match id.kind {
            EndpointKind::Workload => workload(number),
            EndpointKind::Host if number.is_multiple_of(3) => {
                return (!core::mem::replace(&mut all, true)).then(|| (id.clone(), for_all()));
            }
            EndpointKind::Host => host(number),
        };
        Some((id.clone(), binding))
    };
    snapshot.endpoints.keys().enumerate().filter_map(bind).collect()
}

impl World {
    fn new(snapshot: &Snapshot, table: Table, options: &Options) -> Self {
        let bindings = bindings(snapshot);
        let existing = Existing {
            tables: options.families(),
            chains: table.chains.keys().cloned().collect(),
            sets: table.sets.keys().cloned().collect(),
            counters: table.counters.iter().cloned().collect(),
            last_number: 0,
        };
        let (lowering, update) =
            Lowering::load(options.clone(), DesiredState::new(snapshot, &bindings), &existing).unwrap();
        let mut world = Self { lowering, table, bindings, meanings: BTreeMap::new(), workload: None };
        world.choose_workload(snapshot);
        world.learn();
        for stage in update.stages() {
            world.table.apply(&stage.commands);
        }
        world
    }

    /// Chooses a workload of `old` that is bound.
    fn choose_workload(&mut self, old: &Snapshot) {
        let mut known = self.bindings.endpoints().filter(|(id, _)| old.endpoints.contains_key(*id));
        self.workload = known.find_map(|(_, binding)| match binding {
            Binding::WorkloadAnyAddress { interface } => Some(interface.name().to_owned()),
            _ => None,
        });
    }

    fn learn(&mut self) {
        self.meanings.extend(
            self.lowering
                .decisions()
                .map(|(name, decision)| (name.to_string(), DecisionEntry::clone(decision))),
        );
    }

    /// What the table says: the enforced decision and the staged one, and whether the packet is dropped. `None` when
    /// the hook is not asked, because it could do nothing.
    fn ask(&self, question: &Question) -> Option<(DecisionEntry, Option<DecisionEntry>, bool)> {
        let (id, hook, packet) = question;
        let name = match self.bindings.of(id)? {
            Binding::WorkloadAnyAddress { interface } => interface.name(),
            Binding::Host { interfaces } => interfaces[0].name(),
            _ => at_all_interfaces(*hook, packet, self.workload.as_deref()),
        };
        let chain = match hook {
            Hook::WorkloadIngress => "ingress",
            Hook::WorkloadEgress => "egress",
            Hook::HostIngress => "host_ingress",
            Hook::HostEgress => "host_egress",
            Hook::ForwardIngress => "forward_ingress",
            Hook::ForwardEgress => "forward_egress",
            Hook::PreDnat => "pre_dnat",
            Hook::UntrackedIngress => "untracked_ingress",
            Hook::UntrackedEgress => "untracked_egress",
        };
        let known = self.table.chains.keys().find(|name| {
            name.strip_prefix(chain)
                .is_some_and(|rest| rest.is_empty() || rest.trim_start_matches('_').parse::<u64>().is_ok())
        })?;
        let mut way = Way {
            destination: Destination::OfThisHost(AddressKind::Local),
            ..Way::through(packet, name, name)
        };
        let fate = self.table.run(known, &mut way);
        let meaning = |name: &String| self.meanings.get(name).cloned();
        let (last, staged) = fate.counted.split_last()?;
        let logs = meaning(last)?.logs.len();
        assert_eq!(fate.logged.len(), logs, "{fate:?}");
        Some((meaning(last)?, staged.first().map(|name| meaning(name).unwrap()), fate.dropped))
    }
}

/// Where a packet of the endpoint for all interfaces passes: half of them at an interface of a workload, but for those that
/// the host itself sends.
fn at_all_interfaces<'a>(hook: Hook, packet: &Packet, workload: Option<&'a str>) -> &'a str {
    let guards_workloads =
        matches!(hook, Hook::PreDnat | Hook::ForwardIngress | Hook::ForwardEgress | Hook::HostIngress);
    workload.filter(|_| guards_workloads && packet.source_port % 2 == 1).unwrap_or("other")
}

const fn is_untracked(hook: Hook) -> bool {
    matches!(hook, Hook::UntrackedIngress | Hook::UntrackedEgress)
}

/// What the tables of `snapshot` say.
fn expected(snapshot: &Snapshot, question: &Question, view: View) -> Option<DecisionEntry> {
    let (id, hook, packet) = question;
    let decision = Interpreter::new(snapshot).with_view(view).look_up(id, *hook, packet)?;
    snapshot.decisions.lookup(decision).cloned()
}

fn same(a: &DecisionEntry, b: &DecisionEntry) -> bool {
    a == b
}

/// Whether what is enforced and what is counted for staged policies is that of `snapshot`.
fn holds(world: &World, snapshot: &Snapshot, question: &Question) -> Result<(), String> {
    enforces(world, snapshot, question)?;
    beside_the_decision(world, snapshot, question)?;
    let wanted = expected(snapshot, question, View::Staged);
    match (world.ask(question), wanted) {
        (Some((_, Some(staged), _)), Some(wanted)) if !same(&staged, &wanted) => {
            Err(format!("staged {staged:?} instead of {wanted:?}"))
        }
        _ => Ok(()),
    }
}

/// What holds beside the decision of a hook: the host's own packets reach its workloads (decision D11), and an untracked
/// Allow marks and untracks only what is for the host itself (decision D25).
fn beside_the_decision(world: &World, snapshot: &Snapshot, question: &Question) -> Result<(), String> {
    let (id, hook, packet) = question;
    if let Some(workload) = &world.workload {
        let mut way = Way::through(packet, "", workload);
        if ["raw_output", "output"].iter().any(|chain| world.table.run(chain, &mut way).dropped) {
            return Err("the host does not reach its workload".into());
        }
    }
    let (Hook::UntrackedIngress, Some(Binding::Host { interfaces })) = (hook, world.bindings.of(id)) else {
        return Ok(());
    };
    let Some(want) = expected(snapshot, question, View::Enforced) else { return Ok(()) };
    let exempt = want.cause.is_exemption();
    let here = AddressKind::ALL.map(Destination::OfThisHost);
    for destination in here.into_iter().chain([Destination::Unicast, Destination::NoRoute]) {
        let local = here.contains(&destination);
        let mut way = Way { destination, ..Way::through(packet, interfaces[0].name(), "other") };
        let dropped = world.table.run("raw_prerouting", &mut way).dropped;
        let open = want.verdict == Verdict::Allow && !exempt && local;
        if dropped != matches!(want.verdict, Verdict::Deny | Verdict::Inspect)
            || (way.mark != 0) != open
            || way.tracked == open
        {
            return Err(format!("{want:?}, {destination:?}, but {way:?}, dropped: {dropped}"));
        }
    }
    Ok(())
}

/// Whether what is enforced is that of `snapshot`.
fn enforces(world: &World, snapshot: &Snapshot, question: &Question) -> Result<(), String> {
    let want = expected(snapshot, question, View::Enforced);
    if is_untracked(question.1) && world.bindings.of(&question.0) == Some(&for_all()) {
        let got = world.ask(question);
        return got.map_or(Ok(()), |got| Err(format!("untracked policy for all interfaces: {got:?}")));
    }
    match (world.ask(question), want) {
        (None, None) => Ok(()),
        (None, Some(want)) => {
            let quiet = matches!(want.verdict, Verdict::Allow | Verdict::Continue) && want.logs.is_empty();
            if quiet { Ok(()) } else { Err(format!("nothing instead of {want:?}")) }
        }
        (Some((got, _, dropped)), Some(want)) => {
            let drops = matches!(want.verdict, Verdict::Deny | Verdict::Inspect);
            if !same(&got, &want) || drops != dropped {
                return Err(format!("{got:?} (dropped: {dropped}) instead of {want:?}"));
            }
            Ok(())
        }
        (Some((got, _, dropped)), None) => {
            if dropped {
                Ok(())
            } else {
                Err(format!("{got:?} of an endpoint that is gone"))
            }
        }
    }
}

fn questions(generator: &mut Generator, snapshot: &Snapshot, count: usize) -> Vec<Question> {
    let hooks: Vec<(EndpointId, Hook)> = snapshot
        .endpoints
        .iter()
        .flat_map(|(id, entry)| entry.enforced.0.keys().map(|hook| (id.clone(), *hook)))
        .collect();
    if hooks.is_empty() {
        return Vec::new();
    }
    let mut ask = |_| {
        let (id, hook) = hooks[usize::try_from(generator.below(hooks.len() as u64)).unwrap()].clone();
        (id, hook, generator.packet())
    };
    (0..count).map(&mut ask).collect()
}

/// An update that does not fit changes nothing in the lowering.
fn is_refused(lowering: &mut Lowering, desired: DesiredState<'_>, delta: &Delta) {
    let before = lowering.clone();
    let limits = core::mem::replace(&mut lowering.options.limits, Limits { chains: 0, sets: 0, elements: 0 });
    let error = lowering.update(desired, delta).unwrap_err();
    assert!(matches!(error.kind(), LowerErrorKind::Limit { limit: 0, .. }), "{error}");
    lowering.options.limits = limits;
    assert_eq!(lowering.generation(), before.generation());
    assert_eq!((lowering.bindings(), lowering.closes), (before.bindings(), before.closes));
    assert_eq!(lowering.assigned, before.assigned);
    let (left, right) = (&lowering.state, &before.state);
    assert_eq!(left.addresses, right.addresses);
    assert_eq!((&left.live, &left.programs), (&right.live, &right.programs));
    assert_eq!((&left.sets, &left.base_chains), (&right.sets, &right.base_chains));
    assert_eq!(left.interned.without_cache(), right.interned.without_cache());
    assert!(left.peer_sets.iter().eq(right.peer_sets.iter()));
    assert_eq!(left.expected(), right.expected());
}

#[test]
fn every_state_says_what_the_snapshot_before_or_after_says() {
    let rounds = std::env::var("PORTCULLIS_ROUNDS").map_or(100, |rounds| rounds.parse().unwrap());
    let (mut asked, mut between, mut batches) = (0_usize, 0_usize, 0_usize);
    for seed in 0..rounds {
        let mut generator = Generator::new(seed);
        let mut cluster = Cluster::new();
        let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
        for update in generator.cluster() {
            cluster.apply(update.clone());
            let _ = compiler.apply(update);
        }
        let _ = compiler.commit();
        let mut old = compiler.snapshot().clone();
        // Half of the time the names of interfaces tell workloads.
        let mut options = Options::new();
        if seed % 2 == 1 {
            options = DataplaneOptions::new().with_workload_interfaces(Interface::new("w").unwrap()).into();
        }
        let mut world = World::new(&old, Table::default(), &options);
        for step in 0..12 {
            for question in questions(&mut generator, &old, 60) {
                holds(&world, &old, &question)
                    .unwrap_or_else(|error| panic!("seed {seed} step {step}: {question:?}: {error}"));
                asked += 1;
            }
            for _ in 0..=generator.below(3) {
                let update = generator.change(&cluster);
                cluster.apply(update.clone());
                let _ = compiler.apply(update);
            }
            let delta = compiler.commit();
            let new = compiler.snapshot().clone();
            // Endpoints that stay keep their interface.
            let fresh = bindings(&new);
            let number = 1000 + step * 100;
            for (index, (id, binding)) in fresh.endpoints().enumerate() {
                let binding = match binding {
                    Binding::AllInterfaces { .. } if world.bindings.all_interfaces().is_some() => {
                        host(number + index)
                    }
                    Binding::AllInterfaces { .. } => for_all(),
                    Binding::Host { .. } => host(number + index),
                    _ => workload(number + index),
                };
                if world.bindings.of(id).is_none() {
                    world.bindings.bind(id.clone(), binding);
                }
            }
            let gone = world.bindings.endpoints().map(|(id, _)| id.clone());
            let gone: Vec<_> = gone.filter(|id| !new.endpoints.contains_key(id)).collect();
            for id in gone {
                world.bindings.unbind(&id);
            }
            world.choose_workload(&old);
            let asks = questions(&mut generator, &new, 40);
            if step % 3 == 0 {
                is_refused(&mut world.lowering, DesiredState::new(&new, &world.bindings), &delta);
            }
            let update = world.lowering.update(DesiredState::new(&new, &world.bindings), &delta).unwrap();
            world.learn();
            for (index, stage) in update.stages().iter().enumerate() {
                world.table.apply(&stage.commands);
                batches += 1;
                for question in asks.iter().filter(|(id, _, _)| old.endpoints.contains_key(id)) {
                    let (was, is) = (enforces(&world, &old, question), enforces(&world, &new, question));
                    assert!(
                        was.is_ok() || is.is_ok(),
                        "seed {seed} step {step} after batch {index}: {question:?}: {was:?} {is:?}"
                    );
                    between += 1;
                }
            }
            old = new;
        }
        // From scratch beside what is there: the same answers, and nothing of the old is left.
        let again = World::new(&old, world.table.clone(), &options);
        let fresh = World::new(&old, Table::default(), &options);
        assert_eq!(again.table.chains.len(), fresh.table.chains.len(), "seed {seed}");
        assert_eq!(again.table.sets.len(), fresh.table.sets.len(), "seed {seed}");
        let elements = |table: &Table| table.sets.values().map(|(_, elements)| elements.len()).sum::<usize>();
        assert_eq!(elements(&again.table), elements(&fresh.table), "seed {seed}");
        for question in questions(&mut generator, &old, 40) {
            holds(&again, &old, &question)
                .unwrap_or_else(|e| panic!("seed {seed} reloaded: {question:?}: {e}"));
        }
    }
    println!("{asked} decisions, {between} between two of {batches} batches: no difference");
}
