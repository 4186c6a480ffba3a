//! One call does what a change needs, and nothing is forgotten when the dataplane fails in between.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use portcullis::backend::{Binding, DataplaneOptions, Interface, NodeInterfaces};
use portcullis::compile::{CompileScope, Compiler};
use portcullis::local_node::{ChangeError, LocalNode, NewlyDeniedFlows};
use portcullis::model::{
    Action, Endpoint, EndpointId, EntityKinds, EntitySelector, HttpMatch, Policy, PolicyId, Rule, Update,
};
use portcullis::packet::{Packet, Protocol};
use portcullis::selector::Expr;
use portcullis::settings::Settings;
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

/// Two pods, which may talk.
fn start(recorder: &Recorder, flows: NewlyDeniedFlows) -> LocalNode {
    let compiler = Compiler::new(Settings::default(), CompileScope::All);
    let options = DataplaneOptions::new();
    let mut node = LocalNode::new(compiler, recorder.open(options.clone()), options)
        .with_flows(flows)
        .with_interfaces(|| NodeInterfaces::new().with_interface("veth-web", 4));
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
    for (flows, ended) in [(NewlyDeniedFlows::End, 2), (NewlyDeniedFlows::Keep, 0)] {
        let recorder = Recorder::default();
        let mut node = start(&recorder, flows);
        assert!(passes(&recorder, 1) && passes(&recorder, 2));
        let changed = node.change(|change| change.apply(policy("all", Action::Deny))).unwrap();
        assert_eq!(changed.ended_flows, ended, "{flows:?}");
        assert_eq!(recorder.generation(), Some(node.snapshot().generation));
        assert_eq!(passes(&recorder, 1), flows == NewlyDeniedFlows::Keep, "{flows:?}");
        assert!(!passes(&recorder, 3), "{flows:?}");
        // Without a change of policy, no flow is looked at.
        assert_eq!(node.catch_up().unwrap().ended_flows, 0);
    }
}

#[test]
fn what_the_dataplane_missed_is_made_up_for() {
    let recorder = Recorder::default();
    let mut node = start(&recorder, NewlyDeniedFlows::End);
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
    let mut node = start(&recorder, NewlyDeniedFlows::End);
    assert!(passes(&recorder, 1));
    recorder.refuse_after(0);
    assert!(node.change(|change| change.apply(policy("all", Action::Deny))).is_err());
    assert_eq!(node.change(|change| change.apply(policy("all", Action::Allow))).unwrap().ended_flows, 0);
    assert!(passes(&recorder, 1) && passes(&recorder, 2));
}

#[test]
fn a_load_that_is_refused_is_tried_again() {
    let recorder = Recorder::default();
    let compiler = Compiler::new(Settings::default(), CompileScope::All);
    let options = DataplaneOptions::new();
    let mut node = LocalNode::new(compiler, recorder.open(options.clone()), options);
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
    let mut node = start(&recorder, NewlyDeniedFlows::End);
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
    let mut node = start(&recorder, NewlyDeniedFlows::End);
    let veth = Interface::new("veth-db").unwrap();
    assert!(passes(&recorder, 1));
    // The pod goes: its interface stays closed until it is gone. Its flows are denied.
    let gone = node.change(|change| {
        change.apply(Update::RemoveEndpoint(id("db")));
        change.unbind(id("db"));
        change.close(veth.clone());
    });
    assert!(gone.is_ok());
    assert!(!passes(&recorder, 2));
    let _ = node.change(|change| change.reopen(veth.clone())).unwrap();
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
