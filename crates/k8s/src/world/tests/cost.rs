//! What an event costs: how many objects and entries of indexes it looks at does not depend on how many there are.

use super::*;
use crate::world::steps;

const OF_CALICO: &str = "projectcalico.org/v3";

/// Object `number` of a kind, in namespace `number % 10`, in one of two forms.
fn of(kind: &str, number: u32, form: u32) -> Value {
    let [_, high, middle, low] = number.to_be_bytes();
    let address = |net: u32| format!("{}.{high}.{middle}.{low}", 10 + net + form);
    let namespaced = json!({"name": format!("o{number}"), "namespace": format!("n{}", number % 10)});
    let cluster = json!({"name": format!("o{number}")});
    let (version, metadata, rest) = match kind {
        "Pod" => (
            "v1",
            namespaced,
            json!({
            "spec": {"nodeName": format!("o{}", number % 7)},
            "status": {"podIP": address(0), "hostIP": format!("192.168.0.{}", number % 7)}}),
        ),
        "Node" => (
            "v1",
            cluster,
            json!({"status": {"addresses": [{"type": "InternalIP", "address": address(10)}]}}),
        ),
        "Service" => (
            "v1",
            namespaced,
            json!({
            "spec": {"selector": {"a": "b"}, "clusterIP": address(20), "ports": [{"port": 80}]}}),
        ),
        "EndpointSlice" => {
            let mut metadata = namespaced;
            metadata["labels"] = json!({"kubernetes.io/service-name": metadata["name"]});
            (
                "discovery.k8s.io/v1",
                metadata,
                json!({"addressType": "IPv4", "endpoints": [{"addresses": [address(0)]}]}),
            )
        }
        "NetworkPolicy" => (
            "networking.k8s.io/v1",
            namespaced,
            json!({
            "spec": {"podSelector": {"matchLabels": {"a": format!("v{form}")}}}}),
        ),
        "GlobalNetworkPolicy" => (
            OF_CALICO,
            cluster,
            json!({"spec": {"order": form, "ingress": [{
            "action": "Deny", "source": {"selector": "a == 'b'"}}]}}),
        ),
        "NetworkSet" => (OF_CALICO, namespaced, json!({"spec": {"nets": [address(30)]}})),
        "HostEndpoint" => {
            (OF_CALICO, cluster, json!({"spec": {"node": "n", "interfaceName": format!("e{form}")}}))
        }
        "WorkloadEndpoint" => {
            let pod = metadata_name(&namespaced);
            (OF_CALICO, namespaced, json!({"spec": {"pod": pod, "ipNetworks": [address(40)]}}))
        }
        "Profile" => (OF_CALICO, cluster, json!({"spec": {"labelsToApply": {"a": format!("v{form}")}}})),
        "FelixConfiguration" => (
            OF_CALICO,
            json!({"name": format!("node.o{number}")}),
            json!({
            "spec": {"allowVXLANPacketsFromWorkloads": form == 1}}),
        ),
        other => panic!("{other}"),
    };
    let mut object = json!({"apiVersion": version, "kind": kind, "metadata": metadata});
    for (field, value) in rest.as_object().unwrap() {
        object[field] = value.clone();
    }
    object
}

fn metadata_name(metadata: &Value) -> Value {
    metadata["name"].clone()
}

const MANY: [&str; 11] = [
    "Pod",
    "Node",
    "Service",
    "EndpointSlice",
    "NetworkPolicy",
    "GlobalNetworkPolicy",
    "NetworkSet",
    "HostEndpoint",
    "WorkloadEndpoint",
    "Profile",
    "FelixConfiguration",
];

/// The looks of a change, a removal and an addition of object 5 of each kind, in a cluster with `count` of each.
fn looks(count: u32) -> Vec<(String, u64)> {
    let mut world = World::new(WorldOptions::new());
    for kind in MANY {
        for number in 0..count {
            let changes = world.put(observed(&of(kind, number, 0)));
            assert!(changes.refusals.is_empty(), "{changes:?}");
        }
    }
    let mut looks = Vec::new();
    let mut measure = |what: String, event: &mut dyn FnMut()| {
        let before = steps::taken();
        event();
        looks.push((what, steps::taken() - before));
    };
    for kind in MANY {
        let key = observed(&of(kind, 5, 0)).key().clone();
        measure(format!("{kind} changes"), &mut || drop(world.put(observed(&of(kind, 5, 1)))));
        measure(format!("{kind} goes"), &mut || drop(world.remove(&key)));
        measure(format!("{kind} comes"), &mut || drop(world.put(observed(&of(kind, 5, 0)))));
    }
    // It closes the pods of its namespace, where there are none.
    let unreadable = json!({"apiVersion": "v1", "kind": "ServiceAccount",
                            "metadata": {"name": "default", "namespace": "none", "labels": {"a": 7}}});
    measure("an unreadable account comes".into(), &mut || drop(world.put(observed(&unreadable))));
    measure("it goes".into(), &mut || drop(world.remove(observed(&unreadable).key())));
    looks
}

#[test]
fn an_event_looks_at_no_more_where_there_is_more() {
    let (few, many) = (looks(50), looks(1_000));
    assert_eq!(few, many);
    assert!(few.iter().all(|(_, looks)| *looks < 60), "{few:?}");
}

/// A question about one namespace looks at that one.
#[test]
fn a_question_about_a_namespace_looks_at_no_other() {
    let looks = |namespaces: u32| {
        let mut world = World::new(WorldOptions::new());
        for number in 0..namespaces * 10 {
            for kind in ["Pod", "WorkloadEndpoint"] {
                let mut object = of(kind, number, 0);
                object["metadata"]["namespace"] = json!(format!("m{}", number / 10));
                world.put(observed(&object));
            }
        }
        let before = steps::taken();
        let _ = world.workloads(&"m3".into());
        steps::taken() - before
    };
    assert_eq!(looks(5), looks(200));
}
