//! Kinds that come and go.

use std::time::Duration;

use portcullis_kube::State;
use serde_json::{Value, json};

use crate::seen::{PODS, Seen, pod};
use crate::server::{DEFINITIONS, Server};

const STORED: &str = "/apis/crd.projectcalico.org/v1/globalnetworkpolicies";
const SERVED: &str = "/apis/projectcalico.org/v3/globalnetworkpolicies";
const STORED_DEFINITION: &str = "globalnetworkpolicies.crd.projectcalico.org";
const SERVED_DEFINITION: &str = "globalnetworkpolicies.projectcalico.org";

fn policy(name: &str, order: u32) -> Value {
    json!({"metadata": {"name": name, "uid": name}, "spec": {"order": order, "types": ["Ingress"]}})
}

fn define(server: &Server, name: &str) {
    server.put(DEFINITIONS, json!({"metadata": {"name": name}}));
}

/// A server with stored policies of Calico, and a watch that has seen one.
fn with_policy() -> (Server, Seen) {
    let server = Server::start();
    server.put(PODS, pod("a", 1));
    let mut seen = Seen::of(&server);
    seen.until("synced", |seen| seen.synced == 1);
    define(&server, STORED_DEFINITION);
    std::thread::sleep(Duration::from_millis(400));
    server.add_kind(STORED, "crd.projectcalico.org/v1", "GlobalNetworkPolicy");
    server.put(STORED, policy("deny", 1));
    seen.until("the policy", |seen| seen.cluster.policies().len() == 1);
    seen.always = vec!["a"];
    (server, seen)
}

#[test]
fn a_kind_that_comes_later_is_followed() {
    let (server, mut seen) = with_policy();
    server.put(STORED, policy("two", 2));
    seen.until("two", |seen| seen.cluster.policies().len() == 2);
    assert_eq!(seen.synced, 1);
}

#[test]
fn a_kind_is_emptied_when_its_definition_is_seen_to_go_and_followed_when_it_is_back() {
    let (server, mut seen) = with_policy();
    server.script().kinds.remove(STORED);
    server.cut();
    seen.until("absent", |seen| seen.state("GlobalNetworkPolicy") == Some(&State::Absent));
    seen.during(Duration::from_millis(1_500));
    assert_eq!(seen.cluster.policies().len(), 1, "a 404 alone empties nothing");

    server.delete(DEFINITIONS, STORED_DEFINITION);
    seen.until("emptied", |seen| seen.cluster.policies().is_empty());
    define(&server, STORED_DEFINITION);
    server.add_kind(STORED, "crd.projectcalico.org/v1", "GlobalNetworkPolicy");
    server.put(STORED, policy("again", 1));
    seen.until("again", |seen| seen.cluster.policies().len() == 1);
}

#[test]
fn a_kind_whose_definitions_may_not_be_listed_is_never_emptied() {
    let (server, mut seen) = with_policy();
    server.kind(DEFINITIONS, |kind| kind.status = Some(403));
    server.delete(DEFINITIONS, STORED_DEFINITION);
    server.script().kinds.remove(STORED);
    server.cut();
    seen.until("absent", |seen| seen.state("GlobalNetworkPolicy") == Some(&State::Absent));
    seen.during(Duration::from_millis(1_500));
    assert_eq!(seen.cluster.policies().len(), 1);
    assert!(matches!(seen.state("CustomResourceDefinition"), Some(State::Refused { status: 403, .. })));
}

#[test]
fn calicos_kinds_are_those_that_it_stores() {
    let (server, mut seen) = with_policy();
    // An extension server serves them as well.
    server.add_kind(SERVED, "projectcalico.org/v3", "GlobalNetworkPolicy");
    server.put(SERVED, policy("served", 1));
    define(&server, "unrelated.example.com");
    seen.during(Duration::from_millis(1_000));
    let names: Vec<String> = seen.cluster.policies().keys().map(|id| id.name.to_string()).collect();
    assert_eq!(names, ["deny"]);
    // Now they are stored in that form.
    define(&server, SERVED_DEFINITION);
    seen.until("served", |seen| seen.cluster.policies().keys().any(|id| &*id.name == "served"));
    assert_eq!(seen.cluster.policies().len(), 1);
}

#[test]
fn a_version_that_is_not_known_is_told() {
    let server = Server::start();
    server.add_kind(
        "/apis/policy.networking.k8s.io/v9/clusternetworkpolicies",
        "policy.networking.k8s.io/v9",
        "ClusterNetworkPolicy",
    );
    let mut seen = Seen::of(&server);
    seen.until("synced", |seen| seen.synced == 1);
    let Some(State::Unsupported(reason)) = seen.state("ClusterNetworkPolicy") else {
        panic!("{:?}", seen.states);
    };
    assert!(reason.contains("v9"), "{reason}");
}

#[test]
fn a_kind_that_is_left_out_is_not_asked_for() {
    let server = Server::start();
    server.kind(PODS, |kind| kind.status = Some(403));
    let options = portcullis_kube::Options::new().without("Pod");
    let mut seen = Seen::with(&server, options);
    seen.until("synced", |seen| seen.synced == 1);
    assert!(!server.script().requests.iter().any(|request| request.contains("/pods")));
}

#[test]
fn a_kind_that_may_not_be_seen_keeps_the_watch_from_being_synced() {
    let server = Server::start();
    server.put(PODS, pod("a", 1));
    server.kind(PODS, |kind| kind.status = Some(403));
    let mut seen = Seen::of(&server);
    seen.until("refused", |seen| matches!(seen.state("Pod"), Some(State::Refused { status: 403, .. })));
    seen.during(Duration::from_millis(800));
    assert_eq!(seen.synced, 0);
    server.kind(PODS, |kind| kind.status = None);
    seen.until("synced", |seen| seen.synced == 1);
    assert!(seen.has_pod("a"));
}
