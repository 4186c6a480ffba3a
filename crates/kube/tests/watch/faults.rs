//! What can go wrong, and that nothing is lost by it.

use std::thread;
use std::time::{Duration, Instant};

use portcullis_kube::State;
use serde_json::json;

use crate::seen::{PODS, POLICIES, Seen, pod, policy};
use crate::server::Server;

/// A server with the pods `a` and `b` and a policy, and a watch that has seen them.
fn followed() -> (Server, Seen) {
    let server = Server::start();
    server.put(PODS, pod("a", 1));
    server.put(PODS, pod("b", 2));
    server.put(POLICIES, policy("deny"));
    let mut seen = Seen::of(&server);
    seen.until("synced", |seen| seen.synced == 1);
    seen.always = vec!["a"];
    (server, seen)
}

#[test]
fn a_version_that_is_gone_is_followed_by_a_list_that_replaces() {
    let (server, mut seen) = followed();
    // What happens here is only known to a list.
    {
        let mut script = server.script();
        script.kinds.get_mut(PODS).unwrap().status = Some(500);
    }
    server.cut();
    seen.until("refused", |seen| matches!(seen.state("Pod"), Some(State::Refused { status: 500, .. })));
    server.delete(PODS, "b");
    server.put(PODS, pod("c", 3));
    server.compact(PODS);
    server.kind(PODS, |kind| kind.status = None);
    seen.until("replaced", |seen| seen.has_pod("c") && !seen.has_pod("b"));
    assert_eq!(seen.replaced.iter().filter(|(kind, _)| *kind == "Pod").count(), 2);
    assert_eq!(seen.synced, 1);
}

#[test]
fn refusals_that_come_later_take_nothing_away() {
    for status in [401, 403, 404, 410, 429, 500, 503] {
        let (server, mut seen) = followed();
        seen.always = vec!["a", "b"];
        server.kind(PODS, |kind| kind.status = Some(status));
        server.cut();
        let is_told = |seen: &Seen| match seen.state("Pod").unwrap() {
            State::Refused { status: told, reason } => *told == status && reason == "Refused",
            State::Absent => status == 404,
            // A list is tried at once, which is refused.
            _ => false,
        };
        seen.until(&format!("{status} is told"), is_told);
        // Other kinds go on meanwhile.
        server.put(POLICIES, policy("other"));
        seen.until("the policy", |seen| seen.cluster.policies().len() == 2);
        server.put(PODS, pod("c", 3));
        server.kind(PODS, |kind| kind.status = None);
        seen.until("the pod", |seen| seen.has_pod("c"));
        seen.until("it is followed", |seen| seen.state("Pod") == Some(&State::Following));
    }
}

#[test]
fn an_object_that_is_cut_off_comes_again() {
    let (server, mut seen) = followed();
    server.line(PODS, r#"CUT{"type":"ADDED","object":{"metadata":{"name":"c","namesp"#);
    thread::sleep(Duration::from_millis(100));
    server.kind(PODS, |_| {});
    server.put(PODS, pod("c", 3));
    // The server would cut at the same place again: it forgets that.
    server.compact(PODS);
    seen.until("c", |seen| seen.has_pod("c"));
    assert!(seen.unidentified.is_empty(), "{:?}", seen.unidentified);
}

#[test]
fn connections_that_are_cut_are_taken_up_where_they_stood() {
    let (server, mut seen) = followed();
    for i in 0..5 {
        server.cut();
        server.put(PODS, pod(&format!("c{i}"), 10 + i));
        seen.until("the pod", |seen| seen.has_pod(&format!("c{i}")));
    }
    assert_eq!(seen.replaced.len(), 3, "no list was needed");
}

#[test]
fn a_silent_connection_is_given_up() {
    let (server, mut seen) = followed();
    let now = Instant::now();
    server.kind(PODS, |kind| kind.silent_before = Some(now));
    server.put(PODS, pod("c", 3));
    let time = seen.until("c", |seen| seen.has_pod("c"));
    // The window of the test is a second.
    assert!(time < Duration::from_secs(4), "{time:?}");
}

#[test]
fn a_server_that_is_away_is_asked_again_every_ten_seconds_at_least() {
    let server = Server::start();
    server.put(PODS, pod("a", 1));
    server.script().refuses_connections = true;
    let mut seen = Seen::of(&server);
    let unreachable = |seen: &Seen| {
        seen.states.iter().any(|(kind, state)| kind.is_none() && matches!(state, State::Unreachable(_)))
    };
    seen.until("unreachable", unreachable);
    seen.during(Duration::from_millis(1_000));
    assert_eq!(seen.synced, 0);
    server.script().refuses_connections = false;
    seen.until("synced", |seen| seen.synced == 1);
    assert!(seen.has_pod("a"));
}

#[test]
fn an_object_that_cannot_be_read_is_a_refusal_and_nothing_else() {
    let (server, mut seen) = followed();
    let mut wrong = pod("wrong", 9);
    wrong["status"]["podIP"] = json!(7);
    server.put(PODS, wrong);
    let mut unclear = policy("unclear");
    unclear["spec"]["ingress"] = json!([{"from": [{"podSelecter": {}}]}]);
    server.put(POLICIES, unclear);
    server.put(PODS, pod("after", 10));
    seen.until("after", |seen| seen.has_pod("after") && seen.refusals.len() == 2);
    let mut refused: Vec<String> = seen.refusals.iter().map(|refusal| refusal.object.to_string()).collect();
    refused.sort();
    assert_eq!(refused, ["NetworkPolicy n/unclear", "Pod n/wrong"]);
    assert!(!seen.has_pod("wrong"));
    // Its safe form.
    assert_eq!(seen.cluster.policies().len(), 2);
    // The same in a list.
    server.compact(PODS);
    server.cut();
    server.put(PODS, pod("last", 11));
    seen.until("last", |seen| seen.has_pod("last") && seen.has_pod("after"));
    assert_eq!(seen.replaced.len(), 3, "the watch went on");
}

#[test]
fn what_cannot_be_told_apart_is_told_and_healed_by_a_list() {
    let nameless = json!({"type": "MODIFIED", "object": {"metadata": {"namespace": "n"}}}).to_string();
    let lines = [
        &*nameless,
        "no json",
        r#"{"type":"ADDED"}"#,
        r#"{"type":"WHAT","object":{}}"#,
        "\u{0}",
        "[1, 2]",
        r#"{"type":"DELETED","object":{"metadata":{}}}"#,
    ];
    for line in lines {
        let (server, mut seen) = followed();
        server.line(PODS, line);
        server.put(PODS, pod("after", 9));
        seen.until("after", |seen| seen.has_pod("after") && !seen.unidentified.is_empty());
        assert_eq!(seen.unidentified[0].kind(), "Pod");
        seen.until("listed again", |seen| seen.replaced.len() == 4);
        seen.always.push("after");
        server.compact(PODS);
        seen.during(Duration::from_millis(50));
    }
}

#[test]
fn a_huge_annotation_is_one_objects_trouble() {
    let (server, mut seen) = followed();
    let annotations = json!({"a/b": "x".repeat(10 << 20)});
    let (mut huge, mut strict) = (pod("huge", 9), policy("strict"));
    huge["metadata"]["annotations"] = annotations.clone();
    strict["metadata"]["annotations"] = annotations;
    server.put(PODS, huge);
    server.put(POLICIES, strict);
    server.put(PODS, pod("after", 10));
    // Policy does not depend on those of pods, and a server takes no such policy.
    seen.until("after", |seen| seen.has_pod("huge") && seen.has_pod("after") && !seen.refusals.is_empty());
    assert_eq!(seen.refusals.len(), 1);
    assert_eq!(seen.refusals[0].object.to_string(), "NetworkPolicy n/strict");
    assert!(
        seen.refusals[0].errors.to_string().contains("metadata.annotations"),
        "{}",
        seen.refusals[0].errors
    );
}

#[test]
fn a_version_that_the_server_has_not_come_to_is_given_up_after_three_attempts() {
    let (server, mut seen) = followed();
    seen.always = vec!["a", "b"];
    server.kind(PODS, |kind| kind.too_large = true);
    seen.until("a list", |seen| seen.replaced.iter().filter(|(kind, _)| *kind == "Pod").count() == 2);
    server.kind(PODS, |kind| kind.too_large = false);
    server.put(PODS, pod("c", 3));
    seen.until("c", |seen| seen.has_pod("c"));
}

#[test]
fn a_server_that_went_back_is_listed() {
    let (server, mut seen) = followed();
    {
        // As after its store was restored: an earlier version, and a pod less.
        let mut script = server.script();
        script.version = 50;
        let kind = script.kinds.get_mut(PODS).unwrap();
        kind.objects.remove("b");
    }
    seen.until("b is gone", |seen| !seen.has_pod("b"));
}

#[test]
fn credentials_are_read_again_when_they_are_refused() {
    let (server, mut seen) = followed();
    server.script().token = Some("two".into());
    server.cut();
    seen.until("refused", |seen| matches!(seen.state("Pod"), Some(State::Refused { status: 401, .. })));
    seen.rewrite_kubeconfig(&server.kubeconfig("two"));
    server.put(PODS, pod("c", 3));
    seen.until("c", |seen| seen.has_pod("c"));
}

#[test]
fn a_watch_that_is_dropped_ends() {
    let (server, seen) = followed();
    drop(seen);
    thread::sleep(Duration::from_millis(200));
    let requests = server.script().requests.len();
    thread::sleep(Duration::from_millis(2_000));
    assert_eq!(server.script().requests.len(), requests);
}
