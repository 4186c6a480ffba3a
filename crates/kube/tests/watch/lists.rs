//! The first list, and lists again.

use std::time::Duration;

use crate::seen::{NAMESPACES, PODS, POLICIES, Seen, pod, policy};
use crate::server::Server;

fn with_pods(number: usize) -> Server {
    let server = Server::start();
    for i in 0..number {
        server.put(PODS, pod(&format!("p{i}"), i + 1));
    }
    server
}

#[test]
fn a_list_in_pages_is_one_replacement() {
    let server = with_pods(1_203);
    server.kind(PODS, |kind| kind.streams = false);
    let mut seen = Seen::of(&server);
    seen.until("synced", |seen| seen.synced == 1);
    assert_eq!(seen.cluster.endpoints().len(), 1_203);
    assert_eq!(
        seen.replaced.iter().filter(|(kind, _)| *kind == "Pod").collect::<Vec<_>>(),
        [&("Pod", 1_203)]
    );
    let script = server.script();
    let pages = script.requests.iter().filter(|request| request.starts_with("/api/v1/pods?limit=500"));
    assert_eq!(pages.count(), 3);
}

#[test]
fn a_streaming_list_is_one_replacement_and_synced_comes_after_all_kinds() {
    let server = with_pods(700);
    let mut seen = Seen::of(&server);
    seen.until("synced", |seen| seen.synced == 1);
    assert_eq!(seen.cluster.endpoints().len(), 700);
    let mut kinds = seen.replaced.clone();
    kinds.sort_unstable();
    assert_eq!(kinds, [("Namespace", 0), ("NetworkPolicy", 0), ("Pod", 700)]);
    assert!(server.script().requests.iter().all(|request| !request.contains("limit=")));
}

#[test]
fn a_list_that_breaks_off_is_thrown_away() {
    let server = with_pods(700);
    server.kind(PODS, |kind| {
        kind.streams = false;
        // The token of the second page is refused twice.
        kind.failing_pages = 2;
    });
    let mut seen = Seen::of(&server);
    seen.until("synced", |seen| seen.synced == 1);
    assert_eq!(seen.replaced.iter().filter(|(kind, _)| *kind == "Pod").count(), 1);
    assert_eq!(seen.cluster.endpoints().len(), 700);
}

#[test]
fn objects_are_put_changed_and_removed() {
    let server = with_pods(1);
    server.kind(NAMESPACES, |kind| kind.streams = false);
    let mut seen = Seen::of(&server);
    seen.until("synced", |seen| seen.synced == 1);
    server.put(PODS, pod("new", 77));
    server.put(POLICIES, policy("deny"));
    seen.until("put", |seen| seen.has_pod("new") && seen.cluster.policies().len() == 1);
    server.put(PODS, pod("new", 78));
    seen.until("changed", |seen| {
        let new = seen.cluster.endpoints().values().find(|endpoint| &*endpoint.id.name == "new").unwrap();
        new.addresses == ["10.0.0.78".parse::<std::net::IpAddr>().unwrap()]
    });
    server.delete(PODS, "p0");
    server.delete(POLICIES, "deny");
    seen.until("removed", |seen| !seen.has_pod("p0") && seen.cluster.policies().is_empty());
    // All of it came by the watch.
    assert_eq!(seen.replaced.len(), 3);
}

#[test]
fn a_window_is_resumed_from_its_bookmark_without_a_list() {
    let server = with_pods(1);
    let mut seen = Seen::of(&server);
    seen.until("synced", |seen| seen.synced == 1);
    // Nothing happens to pods, and the version of the server moves on.
    server.put(NAMESPACES, serde_json::json!({"metadata": {"name": "other", "uid": "o"}}));
    let version = server.script().version;
    let resumed = format!("resourceVersion={version}");
    seen.during(Duration::from_millis(2_500));
    let script = server.script();
    let pods = script.requests.iter().filter(|request| request.starts_with("/api/v1/pods?"));
    assert!(pods.clone().any(|request| request.ends_with(&resumed)), "{:?}", script.requests);
    assert_eq!(pods.filter(|request| request.contains("sendInitialEvents")).count(), 1);
    assert_eq!(seen.replaced.len(), 3);
}

#[test]
fn a_slow_reader_holds_the_server_back_and_loses_nothing() {
    let server = with_pods(1);
    let options = portcullis_kube::Options::new().window(Duration::from_secs(1));
    let mut seen = Seen::with(&server, options.capacity(std::num::NonZeroUsize::MIN));
    seen.until("synced", |seen| seen.synced == 1);
    for i in 0..300 {
        server.put(PODS, pod(&format!("many{i}"), 1_000 + i));
    }
    std::thread::sleep(Duration::from_millis(1_500));
    seen.until("all", |seen| seen.cluster.endpoints().len() == 301);
}
