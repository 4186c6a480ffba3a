//! One call does what a change needs, and nothing is forgotten when the dataplane fails in between.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use portcullis::backend::{
    Binding, DataplaneError, DataplaneErrorKind, DataplaneOptions, Interface, NodeInterfaces, TrackedAt,
};
use portcullis::compile::{CompileScope, Compiler};
use portcullis::local_node::{ChangeError, LocalNode};
use portcullis::model::{
    Action, Endpoint, EndpointId, EntityKinds, EntitySelector, HttpMatch, Policy, PolicyId, Rule, Update,
};
use portcullis::packet::{Packet, Protocol};
use portcullis::selector::Expr;
use portcullis::settings::{Settings, WorkloadToHost};
use portcullis_testkit::recording::Recorder;

const PODS: [(&str, &str, &str); 2] = [("web", "10.0.0.1", "veth-web"), ("db", "10.0.0.2", "veth-db")];

fn id(name: &str) -> EndpointId {
    EndpointId::workload("shop", name)
}

fn endpoint(name: &str, address: &str) -> Update {
    let mut endpoint = Endpoint::new(id(name));
    endpoint.addresses.push(address.parse().unwrap());
    Update::Endpoint(endpoint)
}

fn binding(address: &str, interface: &str) -> Binding {
    Binding::workload(Interface::new(interface).unwrap(), [address.parse().unwrap()])
}

/// A policy of all pods whose every packet meets this action.
fn policy(name: &str, action: Action) -> Update {
    let subject = EntitySelector { kinds: EntityKinds::WORKLOAD, expr: Expr::All };
    let id = PolicyId::new("GlobalNetworkPolicy", None, name);
    let mut policy = Policy::new(id, "default", subject, portcullis::model::Directions::BOTH);
    policy.ingress.push(Rule::new(action));
    policy.egress.push(Rule::new(action));
    Update::Policy(policy)
}

/// A node that nothing was asked of.
fn open(recorder: &Recorder) -> LocalNode {
    let compiler = Compiler::new(Settings::default(), CompileScope::All);
    LocalNode::new(compiler, recorder.open(DataplaneOptions::new())).unwrap()
}

fn interfaces() -> NodeInterfaces {
    NodeInterfaces::new().with_interface("veth-web", 4)
}

/// Two pods, which may talk, and flows end that are newly denied.
fn start(recorder: &Recorder) -> LocalNode {
    two_pods(open(recorder).ending_newly_denied(|| Ok(interfaces())))
}

/// Two pods, which may talk.
fn two_pods(mut node: LocalNode) -> LocalNode {
    let changed = node.change(|change| {
        for (name, address, interface) in PODS {
            change.apply(endpoint(name, address));
            change.bind(id(name), binding(address, interface));
        }
        change.apply(policy("all", Action::Allow));
    });
    assert!(changed.unwrap().applied.is_complete() && node.is_current());
    node
}

fn packet(port: u16) -> Packet {
    Packet::new("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap(), Protocol::TCP).to_port(port)
}

fn passes(recorder: &Recorder, port: u16) -> bool {
    recorder.send("veth-web", "veth-db", &packet(port))
}

#[test]
fn a_change_is_in_force_and_ends_what_it_newly_denies() {
    for ended in [2, 0] {
        let recorder = Recorder::default();
        let mut node = if ended == 0 { two_pods(open(&recorder)) } else { start(&recorder) };
        assert!(passes(&recorder, 1) && passes(&recorder, 2));
        let changed = node.change(|change| change.apply(policy("all", Action::Deny))).unwrap();
        assert_eq!(changed.ended_flows, ended);
        assert_eq!(recorder.generation(), Some(node.snapshot().generation));
        assert_eq!(passes(&recorder, 1), ended == 0);
        assert!(!passes(&recorder, 3));
        // Without a change of policy, no flow is looked at.
        assert_eq!(node.catch_up().unwrap().ended_flows, 0);
    }
}

#[test]
fn what_the_dataplane_missed_is_made_up_for() {
    let recorder = Recorder::default();
    let mut node = start(&recorder);
    assert!(passes(&recorder, 1));
    let in_force = recorder.generation();
    // Denied, and not in force: the flow goes on, and so does the policy before.
    recorder.refuse_after(0);
    let refused = node.change(|change| change.apply(policy("all", Action::Deny)));
    assert!(matches!(refused, Err(ChangeError::Dataplane(_))), "{refused:?}");
    assert!(!node.is_current());
    assert_eq!(recorder.generation(), in_force);
    assert!(passes(&recorder, 1) && passes(&recorder, 2));
    // Another change that concerns none of it, refused as well.
    recorder.refuse_after(0);
    assert!(node.change(|change| change.apply(endpoint("other", "10.0.0.3"))).is_err());
    // The next one brings everything in force and ends the flows that the first one denied.
    let changed = node.change(|change| change.apply(endpoint("third", "10.0.0.4"))).unwrap();
    assert_eq!(changed.ended_flows, 2);
    assert!(node.is_current());
    assert_eq!(recorder.generation(), Some(node.snapshot().generation));
    assert!(!passes(&recorder, 1) && !passes(&recorder, 3));
}

#[test]
fn what_was_denied_and_allowed_again_in_between_goes_on() {
    let recorder = Recorder::default();
    let mut node = start(&recorder);
    assert!(passes(&recorder, 1));
    recorder.refuse_after(0);
    assert!(node.change(|change| change.apply(policy("all", Action::Deny))).is_err());
    assert_eq!(node.change(|change| change.apply(policy("all", Action::Allow))).unwrap().ended_flows, 0);
    assert!(passes(&recorder, 1) && passes(&recorder, 2));
}

#[test]
fn a_load_that_is_refused_is_tried_again() {
    let recorder = Recorder::default();
    let mut node = open(&recorder);
    recorder.refuse_after(0);
    assert!(node.change(|change| change.apply(endpoint("web", "10.0.0.1"))).is_err());
    assert_eq!(recorder.generation(), None);
    assert!(node.maintain().is_ok() && node.is_current());
    assert_eq!(recorder.generation(), Some(node.snapshot().generation));
    assert!(node.cluster().endpoints().contains_key(&id("web")));
}

#[test]
fn an_update_without_meaning_changes_nothing_at_all() {
    let recorder = Recorder::default();
    let mut node = start(&recorder);
    let (generation, bindings) = (recorder.generation(), node.bindings().clone());
    let Update::Policy(mut bad) = policy("bad", Action::Deny) else { return };
    bad.ingress[0].http = Some(HttpMatch { methods: vec!["GET".into()], paths: Vec::new() });
    let refused = node.change(|change| {
        change.apply(policy("all", Action::Deny));
        change.unbind(id("web"));
        change.apply(Update::Policy(bad));
    });
    assert!(matches!(refused, Err(ChangeError::Update(_))), "{refused:?}");
    assert_eq!(node.bindings(), &bindings);
    assert!(node.is_current() && !node.catch_up().unwrap().applied.unreached.iter().any(|_| true));
    assert_eq!(recorder.generation(), generation);
    assert!(passes(&recorder, 9));
}

#[test]
fn pods_come_and_go() {
    let recorder = Recorder::default();
    let mut node = start(&recorder);
    let veth = Interface::new("veth-db").unwrap();
    assert!(passes(&recorder, 1));
    // The pod goes: its interface stays closed until it is gone. Its flows are denied.
    let gone = node.change(|change| {
        change.apply(Update::RemoveEndpoint(id("db")));
        change.unbind(id("db"));
        change.close(veth.clone());
    });
    assert!(gone.is_ok());
    assert!(!passes(&recorder, 1) && !passes(&recorder, 2));
    let _ = node.change(|change| change.reopen(veth.name())).unwrap();
    // An interface that is gone already is told, and in nobody's way.
    recorder.lose("veth-db");
    let changed = node.change(|change| {
        change.apply(endpoint("db", "10.0.0.2"));
        change.bind(id("db"), binding("10.0.0.2", "veth-db"));
    });
    assert_eq!(changed.unwrap().applied.unreached.len(), 1);
    assert!(node.is_current());
    node.remove().unwrap();
    assert_eq!(recorder.generation(), None);
}

#[test]
fn flows_that_are_tracked_at_an_interface_are_ended_by_its_name() {
    // The bindings give no index: the look-up does.
    let recorder = Recorder::default();
    recorder.track_at(TrackedAt::Interface { index: 4, from_endpoint: true });
    let mut node = start(&recorder);
    assert!(passes(&recorder, 1));
    let changed = node.change(|change| change.apply(policy("all", Action::Deny))).unwrap();
    assert_eq!(changed.ended_flows, 1);
    assert!(!passes(&recorder, 1));
}

#[test]
fn a_look_up_that_fails_is_told_and_the_flows_are_ended_by_the_next_call() {
    let recorder = Recorder::default();
    recorder.track_at(TrackedAt::Interface { index: 4, from_endpoint: true });
    let mut failures = 1..=2;
    let look_up = move || match failures.next() {
        Some(_) => Err(DataplaneError::new(DataplaneErrorKind::Environment, "no interfaces today")),
        None => Ok(interfaces()),
    };
    let mut node = two_pods(open(&recorder).ending_newly_denied(look_up));
    assert!(passes(&recorder, 1));
    let changed = node.change(|change| change.apply(policy("all", Action::Deny)));
    assert!(matches!(&changed, Err(ChangeError::Flows { .. })), "{changed:?}");
    assert!(changed.unwrap_err().to_string().ends_with("no interfaces today"));
    // The change is in force, so that it is looked after; the flow is still there, which is told.
    assert!(!node.is_current() && !passes(&recorder, 2) && passes(&recorder, 1));
    recorder.tamper();
    assert!(matches!(node.maintain(), Err(ChangeError::Flows { .. })));
    assert_eq!(recorder.generation(), Some(node.snapshot().generation));
    assert!(passes(&recorder, 1));
    assert!(node.maintain().is_ok() && node.is_current());
    assert!(!passes(&recorder, 1));
}

#[test]
fn what_an_earlier_process_enforced_is_not_touched_before_the_first_change() {
    let recorder = Recorder::default();
    let mut earlier = start(&recorder);
    let _ = earlier.change(|change| change.apply(policy("all", Action::Deny))).unwrap();
    let in_force = recorder.generation();
    drop(earlier);
    let mut node = open(&recorder);
    assert!(node.maintain().unwrap().repaired.is_empty());
    assert!(recorder.generation() == in_force && !passes(&recorder, 1) && !node.is_current());
    let _ = node.change(|change| change.unbind(id("web"))).unwrap();
    assert_eq!(recorder.generation(), Some(node.snapshot().generation));
    assert!(node.is_current() && passes(&recorder, 1));
}

#[test]
fn contradictory_bindings_are_refused_and_stop_no_later_change() {
    let recorder = Recorder::default();
    let mut node = start(&recorder);
    let (generation, bindings) = (recorder.generation(), node.bindings().clone());
    let refused = node.change(|change| {
        change.apply(policy("all", Action::Deny));
        change.close(Interface::new("veth-db").unwrap());
    });
    assert!(matches!(refused, Err(ChangeError::Bindings(_))), "{refused:?}");
    assert!(node.is_current() && node.bindings() == &bindings && recorder.generation() == generation);
    let changed = node.change(|change| {
        change.apply(endpoint("next", "10.0.0.3"));
        change.bind(id("next"), binding("10.0.0.3", "veth-next"));
    });
    assert!(changed.unwrap().applied.is_complete());
    // The policy that came with the refused bindings was not noted either.
    assert!(passes(&recorder, 1) && node.bindings().of(&id("next")).is_some());
}

#[test]
fn a_dataplane_that_was_removed_is_loaded_again() {
    let recorder = Recorder::default();
    let mut node = start(&recorder);
    node.dataplane().remove().unwrap();
    assert_eq!(recorder.generation(), None);
    let _ = node.change(|change| change.apply(policy("all", Action::Deny))).unwrap();
    assert_eq!(recorder.generation(), Some(node.snapshot().generation));
    assert!(node.is_current() && !passes(&recorder, 1));
    node.dataplane().remove().unwrap();
    assert!(node.maintain().is_ok() && !passes(&recorder, 1));
}

#[test]
fn settings_that_differ_from_the_dataplane_are_refused() {
    let recorder = Recorder::default();
    let opened = |settings: Settings| {
        let options = DataplaneOptions::new().with_workload_to_host(WorkloadToHost::Drop);
        LocalNode::new(Compiler::new(settings, CompileScope::Node("a".into())), recorder.open(options))
    };
    let error = opened(Settings::default()).unwrap_err();
    assert_eq!(error.dataplane(), WorkloadToHost::Drop);
    assert!(error.to_string().contains("`drop`"));
    assert!(opened(Settings::default().with_workload_to_host(WorkloadToHost::Drop)).is_ok());
    // The settings of this node count, not those of another one.
    for (name, agrees) in [("a", true), ("b", false)] {
        let mut settings = Settings::default();
        let dropping = settings.clone().with_workload_to_host(WorkloadToHost::Drop).every_node;
        settings.nodes.insert(name.into(), dropping);
        assert_eq!(opened(settings).is_ok(), agrees, "{name}");
    }
}
