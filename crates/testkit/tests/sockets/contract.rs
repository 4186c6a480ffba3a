//! What every dataplane promises, as a table of checks that run on any of them.

use std::net::IpAddr;

use portcullis::backend::{
    Applied, Binding, Bindings, Dataplane, DataplaneErrorKind, DataplaneOptions, DesiredState, EventAction,
    Interface, LoggedEvents, LowerErrorKind,
};
use portcullis::compile::{CompileScope, Compiler};
use portcullis::ir::Delta;
use portcullis::model::{EndpointId, PolicyId, Update};
use portcullis::packet::Protocol;
use portcullis::scenario::{LoadOptions, Scenario};
use portcullis::settings::Settings;
use portcullis::verdict::Verdict;

use crate::backends::next_event;
use crate::terminate::settle;

/// A node with three pods, and processes that enforce policy there.
pub(crate) trait Rig {
    /// The dataplane of a new process.
    fn open(&mut self, options: DataplaneOptions) -> Box<dyn Dataplane>;
    /// The host's end of a pod's interface.
    fn interface(&self, pod: usize) -> Interface;
    /// A pod's addresses.
    fn addresses(&self, pod: usize) -> [IpAddr; 2];
    /// Whether a datagram of a new flow is answered.
    fn send(&mut self, from: usize, to: usize, port: u16) -> bool;
    /// Begins a flow that stays, and gives its number.
    fn begin(&mut self, from: usize, to: usize, port: u16) -> usize;
    /// Whether it goes on.
    fn goes_on(&mut self, flow: usize) -> bool;
    /// Whether the backend hooks each interface by itself, so that it notices one that is gone. Others match names.
    fn hooks_interfaces(&self) -> bool;
    /// Takes a pod's interface away.
    fn lose(&mut self, pod: usize);
}

const CLIENT: usize = 0;
const SERVER: usize = 1;
const OTHER: usize = 2;
const NAMES: [&str; 3] = ["client", "server", "other"];

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop, labels: {app: client}}
---
apiVersion: v1
kind: Pod
metadata: {name: other, namespace: shop, labels: {app: other}}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: shop, labels: {app: server}}
";

/// Nothing gets in to the pod `APP`.
const SHUT: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: shut-APP, namespace: shop}
spec: {podSelector: {matchLabels: {app: APP}}}
";

/// The policy of a node, and where its pods are.
struct World {
    compiler: Compiler,
    bindings: Bindings,
}

fn id(pod: usize) -> EndpointId {
    EndpointId::workload("shop", NAMES[pod])
}

fn binding(rig: &dyn Rig, pod: usize) -> Binding {
    Binding::workload(rig.interface(pod), rig.addresses(pod))
}

impl World {
    /// Three pods without any policy.
    fn new(rig: &dyn Rig) -> Self {
        let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
        let scenario = Scenario::parse("pods", PODS, LoadOptions::new()).unwrap();
        scenario.cluster().updates().for_each(|update| compiler.apply(update).unwrap());
        for pod in 0..NAMES.len() {
            let mut endpoint = scenario.cluster().endpoints()[&id(pod)].clone();
            (endpoint.addresses, endpoint.node) = (rig.addresses(pod).to_vec(), Some("node".into()));
            compiler.apply(Update::Endpoint(endpoint)).unwrap();
        }
        let _ = compiler.commit();
        let bindings = (0..NAMES.len()).map(|pod| (id(pod), binding(rig, pod))).collect();
        Self { compiler, bindings }
    }

    /// Nothing gets in to this pod any more.
    fn shut(&mut self, pod: usize) -> Delta {
        let text = SHUT.replace("APP", NAMES[pod]);
        let scenario = Scenario::parse("shut", &text, LoadOptions::new()).unwrap();
        for policy in scenario.cluster().policies().values() {
            self.compiler.apply(Update::Policy(policy.clone())).unwrap();
        }
        self.compiler.commit()
    }

    /// It gets in again.
    fn open(&mut self, pod: usize) -> Delta {
        let name = format!("shut-{}", NAMES[pod]).as_str().into();
        let id = PolicyId { kind: "NetworkPolicy".into(), namespace: Some("shop".into()), name };
        self.compiler.apply(Update::RemovePolicy(id)).unwrap();
        self.compiler.commit()
    }

    fn desired(&self) -> DesiredState<'_> {
        DesiredState::new(self.compiler.snapshot(), &self.bindings)
    }

    /// A delta that changes nothing.
    fn nothing(&self) -> Delta {
        let generation = self.compiler.snapshot().generation;
        Delta { from: generation, to: generation, ..Delta::default() }
    }

    /// Bindings that contradict each other, which no backend can do.
    fn contradiction(&self, rig: &dyn Rig) -> Bindings {
        let mut bindings = self.bindings.clone();
        let interfaces = vec![rig.interface(CLIENT)];
        bindings.bind(EndpointId::host("edge"), Binding::Host { interfaces });
        bindings
    }
}

/// Fails by panicking.
type Check = fn(&mut dyn Rig);

/// What is promised, and the check of it, which gets a node of its own.
pub(crate) const CONTRACT: &[(&str, Check)] = &[
    ("a load brings policy in force", a_load_brings_policy_in_force),
    ("updates are followed", updates_are_followed),
    ("an update needs a load", an_update_needs_a_load),
    ("an update that leaves deltas out brings everything in force", gaps_are_filled),
    ("a refused load changes nothing", a_refused_load_changes_nothing),
    ("after a refused update the next brings everything in force", a_refused_update_is_made_up_for),
    ("an interface that is gone is its endpoint's failure", a_gone_interface_is_its_endpoints_failure),
    ("an interface that is closed lets nothing pass", a_closed_interface_lets_nothing_pass),
    ("an endpoint that is not in the snapshot is denied everything", unknown_endpoints_are_denied),
    ("an address that is not the pod's is dropped", other_addresses_are_dropped),
    ("a new process takes over", a_new_process_takes_over),
    ("flows are terminated, and others go on", flows_are_terminated),
    ("counters tell retired decisions once more", counters_tell_retired_decisions_once_more),
    ("events are resolved, also of retired policies", events_are_resolved),
    ("what holds is not repaired, and usage keeps within limits", health_and_usage),
    ("removal takes everything away, also without a load", removal_takes_everything_away),
];

/// Opens a dataplane and puts `world` in force.
fn loaded(rig: &mut dyn Rig, world: &World) -> Box<dyn Dataplane> {
    let options = DataplaneOptions::new().with_events(LoggedEvents::Denied);
    let mut dataplane = rig.open(options.clone());
    assert_eq!(dataplane.options(), &options);
    let applied = dataplane.load(world.desired()).unwrap();
    assert!(applied.is_complete(), "{applied:?}");
    dataplane
}

fn follow(dataplane: &mut dyn Dataplane, world: &World, delta: &Delta) {
    let applied = dataplane.update(world.desired(), delta).unwrap();
    assert!(applied.is_complete(), "{applied:?}");
}

fn a_load_brings_policy_in_force(rig: &mut dyn Rig) {
    let mut world = World::new(rig);
    let _ = world.shut(SERVER);
    assert!(rig.send(CLIENT, SERVER, 80), "without policy everything passes");
    let _dataplane = loaded(rig, &world);
    assert!(!rig.send(CLIENT, SERVER, 80) && rig.send(SERVER, CLIENT, 80));
}

fn updates_are_followed(rig: &mut dyn Rig) {
    let mut world = World::new(rig);
    let mut dataplane = loaded(rig, &world);
    for _ in 0..3 {
        assert!(rig.send(CLIENT, SERVER, 80));
        let delta = world.shut(SERVER);
        follow(&mut *dataplane, &world, &delta);
        assert!(!rig.send(CLIENT, SERVER, 80) && rig.send(CLIENT, OTHER, 80));
        let delta = world.open(SERVER);
        follow(&mut *dataplane, &world, &delta);
    }
    // Bindings alone: a pod goes, and another comes.
    let away = world.bindings.unbind(&id(OTHER)).unwrap();
    follow(&mut *dataplane, &world, &world.nothing());
    assert!(rig.send(CLIENT, SERVER, 80));
    world.bindings.bind(id(OTHER), away);
    let delta = world.shut(OTHER);
    follow(&mut *dataplane, &world, &delta);
    assert!(!rig.send(CLIENT, OTHER, 80) && rig.send(OTHER, CLIENT, 80));
}

fn an_update_needs_a_load(rig: &mut dyn Rig) {
    let world = World::new(rig);
    let mut dataplane = rig.open(DataplaneOptions::new());
    let error = dataplane.update(world.desired(), &world.nothing()).unwrap_err();
    assert_eq!(error.kind(), DataplaneErrorKind::NotLoaded);
}

fn gaps_are_filled(rig: &mut dyn Rig) {
    let mut world = World::new(rig);
    let mut dataplane = loaded(rig, &world);
    let _ = world.shut(SERVER);
    let delta = world.shut(OTHER);
    follow(&mut *dataplane, &world, &delta);
    assert!(!rig.send(CLIENT, SERVER, 80) && !rig.send(CLIENT, OTHER, 80) && rig.send(SERVER, CLIENT, 80));
}

fn a_refused_load_changes_nothing(rig: &mut dyn Rig) {
    let mut world = World::new(rig);
    let _ = world.shut(SERVER);
    let mut dataplane = loaded(rig, &world);
    let _ = world.open(SERVER);
    let bindings = world.contradiction(rig);
    let error = dataplane.load(DesiredState::new(world.compiler.snapshot(), &bindings)).unwrap_err();
    assert_eq!(error.kind(), DataplaneErrorKind::DoesNotFit);
    let lower = error.lower().unwrap();
    assert!(matches!(lower.kind(), LowerErrorKind::Bindings(_)), "{lower}");
    assert!(!rig.send(CLIENT, SERVER, 80), "what was in force stays");
}

fn a_refused_update_is_made_up_for(rig: &mut dyn Rig) {
    let mut world = World::new(rig);
    let mut dataplane = loaded(rig, &world);
    for _ in 0..2 {
        let delta = world.shut(SERVER);
        let bindings = world.contradiction(rig);
        let desired = DesiredState::new(world.compiler.snapshot(), &bindings);
        assert_eq!(dataplane.update(desired, &delta).unwrap_err().kind(), DataplaneErrorKind::DoesNotFit);
        assert!(rig.send(CLIENT, SERVER, 80), "what was in force stays");
        // Refused again, never ok without being in force.
        let error = dataplane.update(desired, &world.nothing()).unwrap_err();
        assert_eq!(error.kind(), DataplaneErrorKind::DoesNotFit);
        assert!(rig.send(CLIENT, SERVER, 80));
        let delta = world.shut(OTHER);
        follow(&mut *dataplane, &world, &delta);
        assert!(!rig.send(CLIENT, SERVER, 80) && !rig.send(CLIENT, OTHER, 80));
        let _ = world.open(SERVER);
        let delta = world.open(OTHER);
        follow(&mut *dataplane, &world, &delta);
        assert!(rig.send(CLIENT, SERVER, 80) && rig.send(CLIENT, OTHER, 80));
    }
}

fn a_gone_interface_is_its_endpoints_failure(rig: &mut dyn Rig) {
    let mut world = World::new(rig);
    let mut dataplane = loaded(rig, &world);
    rig.lose(OTHER);
    let only_other = |applied: &Applied| {
        assert!(applied.unreached.iter().all(|one| one.endpoint == Some(id(OTHER))), "{applied:?}");
    };
    for _ in 0..2 {
        let delta = world.shut(SERVER);
        only_other(&dataplane.update(world.desired(), &delta).unwrap());
        assert!(!rig.send(CLIENT, SERVER, 80) && rig.send(SERVER, CLIENT, 80));
        only_other(&dataplane.maintain(world.desired()).unwrap().applied);
        let delta = world.open(SERVER);
        only_other(&dataplane.update(world.desired(), &delta).unwrap());
        assert!(rig.send(CLIENT, SERVER, 80));
    }
    // It is told when it is bound anew, and by a process that starts.
    let lost = world.bindings.unbind(&id(OTHER)).unwrap();
    follow(&mut *dataplane, &world, &world.nothing());
    world.bindings.bind(id(OTHER), lost);
    let delta = world.shut(SERVER);
    let applied = dataplane.update(world.desired(), &delta).unwrap();
    assert_eq!(applied.unreached.len(), usize::from(rig.hooks_interfaces()), "{applied:?}");
    only_other(&applied);
    assert!(!rig.send(CLIENT, SERVER, 80) && rig.send(SERVER, CLIENT, 80));
    drop(dataplane);
    let mut dataplane = rig.open(DataplaneOptions::new());
    let applied = dataplane.load(world.desired()).unwrap();
    assert_eq!(applied.unreached.len(), usize::from(rig.hooks_interfaces()), "{applied:?}");
    only_other(&applied);
    assert!(!rig.send(CLIENT, SERVER, 80) && rig.send(SERVER, CLIENT, 80));
    let _ = world.bindings.unbind(&id(OTHER));
    let delta = world.open(SERVER);
    follow(&mut *dataplane, &world, &delta);
    assert!(rig.send(CLIENT, SERVER, 80));
}

fn a_closed_interface_lets_nothing_pass(rig: &mut dyn Rig) {
    let mut world = World::new(rig);
    let bound = world.bindings.unbind(&id(OTHER)).unwrap();
    world.bindings.close(rig.interface(OTHER));
    let mut dataplane = loaded(rig, &world);
    assert!(!rig.send(CLIENT, OTHER, 80) && !rig.send(OTHER, CLIENT, 80) && rig.send(CLIENT, SERVER, 80));
    // Its workload is known now.
    world.bindings.bind(id(OTHER), bound);
    follow(&mut *dataplane, &world, &world.nothing());
    assert!(rig.send(CLIENT, OTHER, 80) && rig.send(OTHER, CLIENT, 80));
    let (flow, kept) = (rig.begin(CLIENT, OTHER, 80), rig.begin(CLIENT, SERVER, 80));
    // And not any more: flows that were allowed end, too.
    let _ = world.bindings.unbind(&id(OTHER));
    world.bindings.close(rig.interface(OTHER));
    follow(&mut *dataplane, &world, &world.nothing());
    assert!(!rig.send(CLIENT, OTHER, 80) && !rig.send(OTHER, CLIENT, 80) && rig.send(CLIENT, SERVER, 80));
    assert!(!rig.goes_on(flow) && rig.goes_on(kept));
}

fn unknown_endpoints_are_denied(rig: &mut dyn Rig) {
    let mut world = World::new(rig);
    let _ = world.bindings.unbind(&id(OTHER));
    world.bindings.bind(EndpointId::workload("shop", "unheard-of"), binding(rig, OTHER));
    let mut dataplane = loaded(rig, &world);
    assert!(!rig.send(CLIENT, OTHER, 80) && !rig.send(OTHER, CLIENT, 80) && rig.send(CLIENT, SERVER, 80));
    // A host endpoint, too.
    let _ = world.bindings.unbind(&EndpointId::workload("shop", "unheard-of"));
    let interfaces = vec![rig.interface(OTHER)];
    world.bindings.bind(EndpointId::host("unheard-of"), Binding::Host { interfaces });
    follow(&mut *dataplane, &world, &world.nothing());
    assert!(!rig.send(CLIENT, OTHER, 80) && !rig.send(OTHER, CLIENT, 80) && rig.send(CLIENT, SERVER, 80));
}

fn other_addresses_are_dropped(rig: &mut dyn Rig) {
    let mut world = World::new(rig);
    let interface = rig.interface(OTHER);
    world.bindings.bind(id(OTHER), Binding::workload(interface.clone(), ["10.0.9.99".parse().unwrap()]));
    let mut dataplane = loaded(rig, &world);
    assert!(!rig.send(OTHER, CLIENT, 80) && !rig.send(CLIENT, OTHER, 80) && rig.send(CLIENT, SERVER, 80));
    world.bindings.bind(id(OTHER), Binding::WorkloadAnyAddress { interface });
    follow(&mut *dataplane, &world, &world.nothing());
    assert!(rig.send(OTHER, CLIENT, 80) && rig.send(CLIENT, OTHER, 80));
}

fn a_new_process_takes_over(rig: &mut dyn Rig) {
    let mut world = World::new(rig);
    let dataplane = loaded(rig, &world);
    let flow = rig.begin(CLIENT, SERVER, 80);
    drop(dataplane);
    assert!(rig.goes_on(flow));
    let _ = world.shut(SERVER);
    let dataplane = loaded(rig, &world);
    assert!(rig.goes_on(flow) && !rig.send(CLIENT, SERVER, 80));
    drop(dataplane);
    assert!(rig.goes_on(flow) && !rig.send(CLIENT, SERVER, 80), "policy stays in force without a process");
    let mut dataplane = loaded(rig, &world);
    let delta = world.open(SERVER);
    follow(&mut *dataplane, &world, &delta);
    assert!(rig.goes_on(flow) && rig.send(CLIENT, SERVER, 80));
}

fn flows_are_terminated(rig: &mut dyn Rig) {
    let mut world = World::new(rig);
    let mut dataplane = loaded(rig, &world);
    let ended = rig.begin(CLIENT, SERVER, 80);
    let kept = rig.begin(SERVER, CLIENT, 80);
    let delta = world.shut(SERVER);
    follow(&mut *dataplane, &world, &delta);
    assert!(rig.goes_on(ended) && rig.goes_on(kept), "established flows go on");
    assert_eq!(dataplane.terminate(&|_| false).unwrap(), 0);
    let server = rig.addresses(SERVER);
    settle();
    let denied = dataplane
        .terminate(&|flow| {
            flow.packet.protocol == Protocol::TCP
                && server.contains(&flow.packet.destination)
                && flow.packet.destination_port == 80
        })
        .unwrap();
    assert!(denied >= 1);
    assert!(!rig.goes_on(ended) && rig.goes_on(kept));
}

/// How many packets were counted for denials by the policy of this pod; `None` when no such decision is told.
fn denials(dataplane: &mut dyn Dataplane, pod: usize) -> Option<u64> {
    let counters = dataplane.counters().unwrap();
    let name = format!("shut-{}", NAMES[pod]);
    let of_policy = counters.iter().filter(|(decision, _)| {
        let policy = decision.cause.policy().is_some_and(|policy| *policy.name == *name);
        policy && decision.verdict == Verdict::Deny
    });
    of_policy.map(|(_, counter)| counter.packets).reduce(|a, b| a + b)
}

fn counters_tell_retired_decisions_once_more(rig: &mut dyn Rig) {
    let mut world = World::new(rig);
    let _ = world.shut(SERVER);
    let mut dataplane = loaded(rig, &world);
    assert!(!rig.send(CLIENT, SERVER, 80));
    let counted = denials(&mut *dataplane, SERVER);
    assert!(counted.is_some_and(|packets| packets >= 1), "{counted:?}");
    assert!(!rig.send(CLIENT, SERVER, 80));
    let delta = world.open(SERVER);
    follow(&mut *dataplane, &world, &delta);
    // With what it counted since it was read last.
    assert!(denials(&mut *dataplane, SERVER) > counted);
    assert_eq!(denials(&mut *dataplane, SERVER), None);
    let delta = world.shut(SERVER);
    follow(&mut *dataplane, &world, &delta);
    assert_eq!(denials(&mut *dataplane, SERVER), Some(0), "it counts from the start");
}

fn events_are_resolved(rig: &mut dyn Rig) {
    let mut world = World::new(rig);
    let _ = world.shut(SERVER);
    let mut dataplane = loaded(rig, &world);
    assert!(!rig.send(CLIENT, SERVER, 80) && rig.send(SERVER, CLIENT, 80));
    // The policy is retired before its event is read, and another takes its place.
    let _ = world.open(SERVER);
    let delta = world.shut(OTHER);
    follow(&mut *dataplane, &world, &delta);
    assert!(!rig.send(CLIENT, OTHER, 80));
    for pod in [SERVER, OTHER] {
        let event = next_event(&mut *dataplane);
        assert_eq!(event.action, EventAction::Dropped);
        assert_eq!(event.decision.verdict, Verdict::Deny);
        let policy = event.decision.cause.policy().map(|policy| policy.name.to_string());
        assert_eq!(policy, Some(format!("shut-{}", NAMES[pod])), "{event:?}");
        assert_eq!(
            (event.packet.source, event.packet.destination),
            (rig.addresses(CLIENT)[0], rig.addresses(pod)[0])
        );
        assert_eq!((event.packet.protocol, event.packet.destination_port), (Protocol::UDP, 80));
    }
    assert_eq!(dataplane.next_event().unwrap(), None);
    assert_eq!(dataplane.lost_events(), 0);
}

fn health_and_usage(rig: &mut dyn Rig) {
    let mut world = World::new(rig);
    let mut dataplane = loaded(rig, &world);
    for _ in 0..2 {
        let delta = world.shut(SERVER);
        follow(&mut *dataplane, &world, &delta);
        let health = dataplane.maintain(world.desired()).unwrap();
        assert!(health.applied.is_complete() && health.repaired.is_empty(), "{health:?}");
        assert!(!rig.send(CLIENT, SERVER, 80) && rig.send(SERVER, CLIENT, 80));
        let delta = world.open(SERVER);
        follow(&mut *dataplane, &world, &delta);
    }
    let usage = dataplane.usage().unwrap();
    assert!(!usage.is_empty());
    assert!(usage.iter().all(|one| one.limit.is_none_or(|limit| one.used <= limit)), "{usage:?}");
}

fn removal_takes_everything_away(rig: &mut dyn Rig) {
    // Nothing is there.
    rig.open(DataplaneOptions::new()).remove().unwrap();
    let mut world = World::new(rig);
    let _ = world.shut(SERVER);
    drop(loaded(rig, &world));
    assert!(!rig.send(CLIENT, SERVER, 80));
    // What an earlier process left.
    rig.open(DataplaneOptions::new()).remove().unwrap();
    // Kernels may take the last program off a little later.
    let is_open = |rig: &mut dyn Rig| (0..20).any(|_| rig.send(CLIENT, SERVER, 80));
    assert!(is_open(rig));
    let mut dataplane = loaded(rig, &world);
    assert!(!rig.send(CLIENT, SERVER, 80));
    dataplane.remove().unwrap();
    dataplane.remove().unwrap();
    assert!(is_open(rig));
    let error = dataplane.update(world.desired(), &world.nothing()).unwrap_err();
    assert_eq!(error.kind(), DataplaneErrorKind::NotLoaded);
    let _ = dataplane.load(world.desired()).unwrap();
    assert!(!rig.send(CLIENT, SERVER, 80));
    dataplane.remove().unwrap();
}
