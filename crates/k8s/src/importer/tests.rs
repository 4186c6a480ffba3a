use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use portcullis_core::model::{Cluster, EndpointId};
use serde_json::{Value, json};

use super::*;
use crate::frontend::BackendState;
use crate::kind::{Kind, Relevance};
use crate::workload::PodCount;

fn import_with(options: ImportOptions, objects: &[Value]) -> Import {
    let mut importer = Importer::new(options);
    for object in objects {
        let (version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
        importer.add(Object::deserialize(Kind::of(version, kind).kind().unwrap(), object).unwrap()).unwrap();
    }
    importer.finish().unwrap()
}

fn import(objects: &[Value]) -> (Cluster, Import) {
    let import = import_with(ImportOptions::new(), objects);
    (import.updates.iter().cloned().collect(), import)
}

fn pod(name: &str, owner: Option<(&str, &str)>) -> Value {
    let owners: Vec<Value> = owner.iter().map(|(kind, name)| json!({"kind": kind, "name": name})).collect();
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "n", "ownerReferences": owners}})
}

fn workload(kind: &str, name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": "n"},
           "spec": {"template": {"metadata": {"labels": {"app": name}}}}})
}

fn names(cluster: &Cluster) -> Vec<String> {
    cluster.endpoints().keys().map(ToString::to_string).collect()
}

#[test]
fn a_workload_stands_for_one_pod_unless_its_pods_are_given() {
    let (cluster, _) = import(&[workload("Deployment", "web")]);
    assert_eq!(names(&cluster), ["n/web"]);
    let web = &cluster.endpoints()[&EndpointId::workload("n", "web")];
    assert_eq!(web.labels.value("app"), Some("web"));
    assert_eq!(web.addresses.len(), 1);

    let pod = pod("web-5d59d67564-x", Some(("ReplicaSet", "web-5d59d67564")));
    let (cluster, import) = import(&[workload("Deployment", "web"), pod]);
    assert_eq!(names(&cluster), ["n/web-5d59d67564-x"]);
    let [web] = import.workloads[&EndpointId::workload("n", "web")].as_slice() else { panic!("{import:?}") };
    assert_eq!(web.pods, [EndpointId::workload("n", "web-5d59d67564-x")]);
    assert_eq!(web.count, PodCount::One);
}

#[test]
fn what_another_workload_makes_does_not_stand_for_itself() {
    let mut set = workload("ReplicaSet", "web-1");
    set["metadata"]["ownerReferences"] = json!([{"kind": "Deployment", "name": "web"}]);
    let (cluster, _) = import(&[workload("Deployment", "web"), set]);
    assert_eq!(names(&cluster), ["n/web"]);
}

#[test]
fn two_workloads_of_one_name_stay_two() {
    let (cluster, import) = import(&[workload("Deployment", "web"), workload("StatefulSet", "web")]);
    assert_eq!(names(&cluster), ["n/web", "n/web-statefulset"]);
    assert_eq!(import.warnings.len(), 1);
}

#[test]
fn host_network_and_finished_pods_are_no_endpoints() {
    let mut host = pod("host", None);
    host["spec"] = json!({"hostNetwork": true, "nodeName": "node-1"});
    host["status"] = json!({"podIP": "192.0.2.1", "hostIP": "192.0.2.1"});
    let mut done = pod("done", None);
    done["status"] = json!({"phase": "Succeeded", "podIP": "10.0.0.9"});
    let (cluster, import) = import(&[host, done]);
    assert!(cluster.endpoints().is_empty());
    assert_eq!(import.places[&EndpointId::workload("n", "host")], PodPlace::Node("node-1".into()));
    assert_eq!(import.places[&EndpointId::workload("n", "done")], PodPlace::Finished);
    assert_eq!(cluster.nodes()["node-1"].addresses, ["192.0.2.1".parse::<core::net::IpAddr>().unwrap()]);
}

#[test]
fn synthetic_addresses_are_stable_and_avoid_what_is_in_use() {
    let mut taken = pod("a", None);
    taken["status"] = json!({"podIP": "198.18.0.1"});
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "p", "namespace": "n"},
        "spec": {"ingress": [{"from": [{"ipBlock": {"cidr": "198.18.0.0/30"}}, {"ipBlock": {"cidr": "0.0.0.0/0"}}]}]}});
    let objects = [taken, pod("b", None), pod("c", None), policy];
    let (cluster, first) = import(&objects);
    let address = |name: &str| cluster.endpoints()[&EndpointId::workload("n", name)].addresses[0].to_string();
    assert_eq!((address("b"), address("c")), ("198.18.0.4".to_string(), "198.18.0.5".to_string()));
    let reversed: Vec<Value> = objects.iter().rev().cloned().collect();
    let again: Cluster = import_with(ImportOptions::new(), &reversed).updates.into_iter().collect();
    assert_eq!(again, first.updates.into_iter().collect());
}

#[test]
fn namespaces_tiers_and_profiles_exist_without_objects() {
    let (cluster, _) = import(&[pod("a", None)]);
    assert_eq!(cluster.namespaces()["n"].labels.value("kubernetes.io/metadata.name"), Some("n"));
    assert_eq!(
        cluster.tiers().keys().map(ToString::to_string).collect::<Vec<_>>(),
        ["default", "kube-admin", "kube-baseline"]
    );
    assert!(!cluster.profiles()["kns.n"].ingress.is_empty());
    assert!(cluster.profiles()["ksa.n.default"].ingress.is_empty());
}

#[test]
fn a_service_without_slices_has_the_pods_it_selects() {
    let mut web = pod("web", None);
    web["metadata"]["labels"] = json!({"app": "web"});
    web["status"] = json!({"podIP": "10.0.0.1"});
    web["spec"] = json!({"containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "n"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}, {"port": 443}]}});
    let (cluster, _) = import(&[web.clone(), service.clone()]);
    let backends = |cluster: &Cluster| -> Vec<u16> {
        cluster
            .services()
            .values()
            .flat_map(|s| &s.backends)
            .filter_map(|b| b.port)
            .map(|(_, port)| port)
            .collect()
    };
    assert_eq!(backends(&cluster), [443, 8080]);
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "s-1", "namespace": "n", "labels": {"kubernetes.io/service-name": "s"}},
        "endpoints": [{"addresses": ["10.0.0.7"]}], "ports": [{"port": 9000}]});
    let (cluster, _) = import(&[web, service, slice]);
    assert_eq!(backends(&cluster), [9000]);
}

fn added_twice(first: &Value, second: &Value) -> Result<Import, String> {
    let mut importer = Importer::new(ImportOptions::new());
    for object in [first, second] {
        let (version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
        let added =
            importer.add(Object::deserialize(Kind::of(version, kind).kind().unwrap(), object).unwrap());
        added.map_err(|errors| errors[0].to_string())?;
    }
    Ok(importer.finish().unwrap())
}

/// `base` with the value at the pointer replaced, missing objects made.
fn with(base: &Value, path: &str, value: Value) -> Value {
    let mut changed = base.clone();
    let keys = path.split('/').skip(1);
    *keys.fold(&mut changed, |at, key| match key.parse::<usize>() {
        Ok(index) => &mut at[index],
        Err(_) => &mut at[key],
    }) = value;
    changed
}

#[test]
fn an_object_of_the_same_meaning_is_counted_and_another_one_refused() {
    let meta = |name: &str| json!({"name": name, "namespace": "n", "labels": {"a": "b"}});
    let object = |version: &str, kind: &str, rest: Value| {
        let mut object = json!({"apiVersion": version, "kind": kind, "metadata": meta("x")});
        object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        object
    };
    let policy = object(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        json!({"spec": {"podSelector": {}, "ingress": [{"ports": [{"port": 80}]}]}}),
    );
    let pod = object("v1", "Pod", json!({"spec": {"containers": []}, "status": {"podIP": "10.0.0.1"}}));
    let set = object("projectcalico.org/v3", "NetworkSet", json!({"spec": {"nets": ["192.0.2.0/24"]}}));
    let service = object("v1", "Service", json!({"spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}}));
    let slice = object(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]}),
    );
    let deployment =
        object("apps/v1", "Deployment", json!({"spec": {"template": {"metadata": {"labels": {"c": "d"}}}}}));
    let cluster =
        |version, kind, rest| with(&object(version, kind, rest), "/metadata/namespace", Value::Null);
    let namespace = cluster("v1", "Namespace", json!({}));
    let node = cluster(
        "v1",
        "Node",
        json!({"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}}),
    );
    let felix = object(
        "projectcalico.org/v3",
        "FelixConfiguration",
        json!({"spec": {"failsafeInboundHostPorts": []}}),
    );
    let felix = with(&with(&felix, "/metadata/name", json!("default")), "/metadata/namespace", Value::Null);
    for (first, path, value) in [
        (&felix, "/spec/logSeverityScreen", json!("Info")),
        (&felix, "/metadata/annotations", json!({"a": "b"})),
        (&policy, "/metadata/annotations", json!({"kubectl.kubernetes.io/last-applied-configuration": "{}"})),
        (&policy, "/metadata/resourceVersion", json!("9")),
        (&policy, "/metadata/labels", json!({"other": "label"})),
        (&policy, "/spec/policyTypes", json!(["Ingress"])),
        (&policy, "/spec/ingress/0/ports/0/protocol", json!("TCP")),
        (&policy, "/status", json!({"conditions": []})),
        (&pod, "/metadata/managedFields", json!([{"manager": "kubelet"}])),
        (&pod, "/status/phase", json!("Running")),
        (&set, "/apiVersion", json!("crd.projectcalico.org/v1")),
        (&set, "/metadata/creationTimestamp", Value::Null),
        (&service, "/metadata/annotations", json!({"a": "b"})),
        (&service, "/metadata/labels", json!({"helm.sh/chart": "web-1"})),
        (&slice, "/metadata/ownerReferences", json!([{"kind": "Service", "name": "x"}])),
        (&deployment, "/metadata/generation", json!(4)),
        (&namespace, "/metadata/labels/kubernetes.io~metadata.name", json!("x")),
        (&node, "/metadata/annotations", json!({"a": "b"})),
    ] {
        let path = path.to_string();
        let mut second = with(first, &path, value);
        if let Some(labels) = second["metadata"]["labels"].as_object_mut()
            && let Some(value) = labels.remove("kubernetes.io~metadata.name")
        {
            labels.insert("kubernetes.io/metadata.name".into(), value);
        }
        let import = added_twice(first, &second).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(import.repeated.values().sum::<u64>(), 1, "{path}");
        let once = import_with(ImportOptions::new(), core::slice::from_ref(first));
        assert_eq!((import.updates, once.repeated.len()), (once.updates, 0), "{path}");
    }
    for (first, path, value) in [
        (&felix, "/spec/failsafeInboundHostPorts", Value::Null),
        (&felix, "/spec/defaultEndpointToHostAction", json!("Accept")),
        (&policy, "/spec/ingress/0/ports/0/port", json!(81)),
        (&policy, "/spec/policyTypes", json!(["Ingress", "Egress"])),
        (&policy, "/spec/ingress", json!([])),
        (&pod, "/metadata/labels", json!({"a": "c"})),
        (&pod, "/status/podIP", json!("10.0.0.2")),
        (&pod, "/status/phase", json!("Succeeded")),
        (&pod, "/spec/hostNetwork", json!(true)),
        (&set, "/spec/nets", json!(["192.0.2.0/25"])),
        (&set, "/metadata/labels/a", json!("c")),
        (&service, "/spec/ports/0/targetPort", json!(81)),
        (&slice, "/endpoints", json!([])),
        (&deployment, "/spec/template/metadata/labels/c", json!("e")),
        (&namespace, "/metadata/labels", Value::Null),
        (&node, "/status/addresses/0/address", json!("192.0.2.2")),
    ] {
        let second = with(first, path, value);
        for (first, second) in [(first, &second), (&second, first)] {
            let error = added_twice(first, second).unwrap_err();
            assert!(
                error.contains("metadata.name: an object of this name was given before, with other"),
                "{path}: {error}"
            );
        }
    }
}

fn warnings(objects: &[Value]) -> Vec<String> {
    import_with(ImportOptions::new(), objects).warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn namespaces_whose_labels_are_asked_for_and_not_known() {
    let asking = |selector: Value| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": "z"},
               "spec": {"ingress": [{"from": [{"namespaceSelector": selector}]}]}})
    };
    let team = asking(json!({"matchLabels": {"team": "a"}}));
    let said = "NetworkPolicy z/p: asks for the label `team` of namespaces, and 1 namespace (n) is not in the input: it has no labels but its name here";
    assert_eq!(warnings(&[pod("a", None), team.clone()]), [said]);
    assert_eq!(warnings(&[workload("Deployment", "a"), team.clone()]), [said]);
    // Nobody is there, nobody asks, or the namespace was given.
    assert!(warnings(core::slice::from_ref(&team)).is_empty());
    assert!(warnings(&[pod("a", None), asking(json!({}))]).is_empty());
    assert!(
        warnings(&[pod("a", None), asking(json!({"matchLabels": {"kubernetes.io/metadata.name": "n"}}))])
            .is_empty()
    );
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}});
    assert!(warnings(&[pod("a", None), team.clone(), namespace]).is_empty());
    // Many are one line.
    let mut objects: Vec<Value> =
        (0..50).map(|n| with(&pod("a", None), "/metadata/namespace", json!(format!("n{n:02}")))).collect();
    objects.push(team);
    let many = warnings(&objects);
    assert_eq!(many.len(), 1);
    assert!(many[0].contains("50 namespaces (n00, n01, n02, …) are not"), "{many:?}");
    // The subject of a policy of the cluster asks as well.
    let subject = json!({"apiVersion": "policy.networking.k8s.io/v1alpha1", "kind": "AdminNetworkPolicy", "metadata": {"name": "p"},
        "spec": {"priority": 1, "subject": {"namespaces": {"matchLabels": {"guard": "on"}}}}});
    assert_eq!(warnings(&[pod("a", None), subject]).len(), 1);
}

#[test]
fn workloads_of_kinds_that_are_not_read() {
    let unread =
        |name: &str| ObjectRef { kind: "Rollout".into(), namespace: Some("n".into()), name: name.into() };
    let said = |names: &[&str], objects: &[Value]| {
        let mut importer = Importer::new(ImportOptions::new());
        for object in objects {
            let (version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
            importer
                .add(Object::deserialize(Kind::of(version, kind).kind().unwrap(), object).unwrap())
                .unwrap();
        }
        names.iter().for_each(|name| importer.add_unread_workload(unread(name)));
        importer.finish().unwrap().warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let alone = said(&["web"], &[pod("other", Some(("ReplicaSet", "web-api-5d59d67564")))]);
    assert_eq!(
        alone,
        ["Rollout n/web: makes pods, and objects of its kind are not read: no pod stands for it"]
    );
    let many = said(&["a", "b", "c"], &[]);
    assert_eq!(many.len(), 1);
    assert!(many[0].ends_with("the same holds for 2 others (Rollout n/b, Rollout n/c)"), "{many:?}");
    assert!(said(&["web"], &[pod("p", Some(("Rollout", "web")))]).is_empty());
    assert!(said(&["web"], &[pod("p", Some(("ReplicaSet", "web-5d59d67564")))]).is_empty());
    let mut set = workload("ReplicaSet", "web-1");
    set["metadata"]["ownerReferences"] = json!([{"kind": "Rollout", "name": "web"}]);
    assert!(said(&["web"], &[set]).is_empty());
}

#[test]
fn addresses_of_two_running_pods() {
    let at = |name: &str, address: &str| with(&pod(name, None), "/status/podIP", json!(address));
    let two = warnings(&[at("a", "10.0.0.1"), at("b", "10.0.0.1"), at("c", "10.0.0.2")]);
    assert_eq!(
        two,
        ["Pod n/a: has the address `10.0.0.1`, which the pod n/b has as well: one of them is stale"]
    );
    let done = with(&at("b", "10.0.0.1"), "/status/phase", json!("Succeeded"));
    assert!(warnings(&[at("a", "10.0.0.1"), done]).is_empty());
    let host = with(&at("b", "10.0.0.1"), "/spec/hostNetwork", json!(true));
    assert!(warnings(&[at("a", "10.0.0.1"), host]).is_empty());
    let pods: Vec<Value> =
        (0..40).flat_map(|n| ["a", "b"].map(|x| at(&format!("{x}{n}"), &format!("10.0.1.{n}")))).collect();
    let many = warnings(&pods);
    assert_eq!(many.len(), 1);
    assert!(many[0].contains("39 other addresses (10.0.1.1 of n/a1 and n/b1, "), "{many:?}");
}

#[test]
fn the_other_reading_of_baseline_shields_both_directions() {
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "p", "namespace": "n"}, "spec": {"policyTypes": ["Egress"]}});
    let usual: Cluster =
        import_with(ImportOptions::new(), core::slice::from_ref(&policy)).updates.into_iter().collect();
    assert_eq!(usual.policies().len(), 1);
    let options = ImportOptions::new().baseline(BaselineReading::PerPod);
    let other: Cluster = import_with(options, &[policy]).updates.into_iter().collect();
    let shield =
        other.policies().values().find(|p| p.tier.as_str() == "networkpolicy-shields-baseline").unwrap();
    assert!(shield.directions.ingress && !shield.directions.egress);
    // The compiler takes no rules of a direction that is off.
    assert_eq!((shield.ingress.len(), shield.egress.len()), (1, 0));
}

#[test]
fn a_namespace_object_outranks_the_profile_made_from_it() {
    let profile = json!({"apiVersion": "projectcalico.org/v3", "kind": "Profile", "metadata": {"name": "kns.n"},
        "spec": {"labelsToApply": {"pcns.team": "profile"}}});
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "labels": {"team": "a"}}});
    let team = |objects: &[Value]| {
        let (cluster, _) = import(objects);
        let labels = &cluster.namespaces()["n"].labels;
        assert_eq!(labels.value("kubernetes.io/metadata.name"), Some("n"));
        labels.value("team").map(ToString::to_string)
    };
    assert_eq!(team(core::slice::from_ref(&profile)).as_deref(), Some("profile"));
    assert_eq!(team(&[profile.clone(), namespace.clone()]).as_deref(), Some("a"));
    assert_eq!(team(&[namespace, profile]).as_deref(), Some("a"));
}

#[test]
fn two_workload_endpoints_of_one_pod_are_refused() {
    let mut importer = Importer::new(ImportOptions::new());
    for name in ["a", "b"] {
        let version = "projectcalico.org/v3";
        let object = json!({"metadata": {"name": name, "namespace": "n"}, "spec": {"pod": "p"}});
        importer
            .add(Object::deserialize(Kind::of(version, "WorkloadEndpoint").kind().unwrap(), object).unwrap())
            .unwrap();
    }
    let errors = importer.finish().unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "WorkloadEndpoint n/p: spec.pod: two workload endpoints are those of the pod `p`"
    );
}

fn backends(cluster: &Cluster) -> Vec<String> {
    let all = cluster.services().values().flat_map(|service| &service.backends);
    all.map(|backend| {
        let port = backend.port.map(|(protocol, port)| format!("{protocol} {port}"));
        format!("{} {}", backend.address, port.unwrap_or_default())
    })
    .collect()
}

fn service(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "n"}, "spec": spec})
}

fn listed(metadata: Value) -> Value {
    let mut endpoints = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "s", "namespace": "n"},
        "subsets": [{"addresses": [{"ip": "192.0.2.1"}], "notReadyAddresses": [{"ip": "192.0.2.2"}],
                     "ports": [{"port": 6443}]},
                    {"addresses": [{"ip": "192.0.2.3"}], "ports": [{"port": 53, "protocol": "UDP"}]}]});
    for (key, value) in metadata.as_object().unwrap() {
        endpoints["metadata"][key] = value.clone();
    }
    endpoints
}

#[test]
fn endpoints_are_used_where_the_controller_would_mirror_them() {
    let mirrored = ["192.0.2.1 TCP 6443", "192.0.2.2 TCP 6443", "192.0.2.3 UDP 53"];
    let plain = service(json!({"ports": [{"port": 443, "targetPort": 6443}]}));
    assert_eq!(backends(&import(&[plain.clone(), listed(json!({}))]).0), mirrored);
    let empty = service(json!({"selector": {}, "ports": [{"port": 443}]}));
    assert_eq!(backends(&import(&[empty, listed(json!({}))]).0), mirrored);
    let headless = service(json!({"clusterIP": "None"}));
    assert_eq!(backends(&import(&[headless, listed(json!({}))]).0), mirrored);
    for (why, objects) in [
        ("there is no service", vec![listed(json!({}))]),
        ("the service has a selector", vec![service(json!({"selector": {"app": "x"}})), listed(json!({}))]),
        (
            "the label says so",
            vec![
                plain.clone(),
                listed(json!({"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}})),
            ],
        ),
        (
            "they serve an election",
            vec![
                plain.clone(),
                listed(json!({"annotations": {"control-plane.alpha.kubernetes.io/leader": "{}"}})),
            ],
        ),
    ] {
        assert!(backends(&import(&objects).0).is_empty(), "{why}");
    }
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "s-1", "namespace": "n", "labels": {"kubernetes.io/service-name": "s"}},
        "endpoints": [{"addresses": ["192.0.2.9"]}], "ports": [{"port": 1}]});
    assert_eq!(backends(&import(&[plain, listed(json!({})), slice]).0), ["192.0.2.9 TCP 1"]);
}

#[test]
fn a_selector_finds_host_network_pods_and_no_finished_ones() {
    let pod = |name: &str, spec: Value, status: Value| {
        json!({"apiVersion": "v1", "kind": "Pod", "spec": spec, "status": status,
               "metadata": {"name": name, "namespace": "n", "labels": {"app": "x"}}})
    };
    let objects = [
        pod(
            "a",
            json!({}),
            json!({"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "False"}]}),
        ),
        pod(
            "b",
            json!({"hostNetwork": true, "nodeName": "w"}),
            json!({"podIP": "192.0.2.1", "phase": "Running"}),
        ),
        pod("c", json!({}), json!({"podIP": "10.0.0.3", "phase": "Failed"})),
        service(json!({"selector": {"app": "x"}, "ports": [{"port": 80}]})),
    ];
    let (cluster, import) = import(&objects);
    assert_eq!(backends(&cluster), ["10.0.0.1 TCP 80", "192.0.2.1 TCP 80"]);
    let states: Vec<_> =
        import.frontends[0].backends.iter().map(|b| (b.address.to_string(), b.state)).collect();
    let want = [("10.0.0.1", BackendState::NotReady), ("192.0.2.1", BackendState::Ready)];
    assert_eq!(states, want.map(|(address, state)| (address.to_string(), state)));
}

/// The workloads of a name: kind, pods, and whether there may be several.
fn workloads(import: &Import, name: &str) -> Vec<(String, Vec<String>, PodCount)> {
    let found = import.workloads.get(&EndpointId::workload("n", name)).into_iter().flatten();
    found
        .map(|workload| {
            let pods = workload.pods.iter().map(|pod| pod.name.to_string()).collect();
            (workload.kind.to_string(), pods, workload.count)
        })
        .collect()
}

#[test]
fn pods_alone_tell_their_workload() {
    let labelled = |name: &str, owner: Option<(&str, &str)>, labels: Value| {
        let mut pod = pod(name, owner);
        pod["metadata"]["labels"] = labels;
        pod
    };
    let one = |kind: &str, pod: &str| vec![(kind.to_string(), vec![pod.to_string()], PodCount::One)];
    for (pod, name, kind) in [
        (
            labelled(
                "web-7f6d-abcde",
                Some(("ReplicaSet", "web-7f6d")),
                json!({"pod-template-hash": "7f6d"}),
            ),
            "web",
            "Deployment",
        ),
        (pod("web-5d59d67564-x", Some(("ReplicaSet", "web-5d59d67564"))), "web", "Deployment"),
        (pod("web-0", Some(("StatefulSet", "web"))), "web", "StatefulSet"),
        (pod("web-x7k2p", Some(("DaemonSet", "web"))), "web", "DaemonSet"),
        (pod("web-x7k2p", Some(("ReplicationController", "web"))), "web", "ReplicationController"),
        (pod("web-x7k2p", Some(("Job", "web"))), "web", "Job"),
        (pod("web-29012345-x7k2p", Some(("Job", "web-29012345"))), "web", "CronJob"),
        (labelled("web-7f6d-abcde", None, json!({"pod-template-hash": "7f6d"})), "web", "Deployment"),
        (
            labelled("web-0", None, json!({"statefulset.kubernetes.io/pod-name": "web-0"})),
            "web",
            "StatefulSet",
        ),
        (labelled("web-x", None, json!({"batch.kubernetes.io/job-name": "web"})), "web", "Job"),
        (labelled("web-x", None, json!({"job-name": "web-29012345"})), "web", "CronJob"),
    ] {
        let pod_name = pod["metadata"]["name"].as_str().unwrap().to_string();
        let (_, import) = import(core::slice::from_ref(&pod));
        assert_eq!(workloads(&import, name), one(kind, &pod_name), "{pod}");
    }
    // A ReplicaSet of its own, and a Job of its own: what is before their last dash is nobody.
    for (owner, label) in [(("ReplicaSet", "my-set"), "7f6d"), (("Job", "my-12"), "")] {
        let pod = labelled("my-set-abcde", Some(owner), json!({"pod-template-hash": label}));
        let (_, import) = import(&[pod]);
        assert_eq!(workloads(&import, "my"), vec![], "{owner:?}");
    }
}

#[test]
fn a_workload_may_have_several_pods() {
    let of = |objects: &[Value]| workloads(&import(objects).1, "web").remove(0).2;
    let scaled = |kind: &str, spec: Value| {
        let mut object = workload(kind, "web");
        for (key, value) in spec.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        if kind == "Job" {
            object["apiVersion"] = json!("batch/v1");
        }
        object
    };
    assert_eq!(of(&[scaled("Deployment", json!({}))]), PodCount::One);
    assert_eq!(of(&[scaled("Deployment", json!({"replicas": 1}))]), PodCount::One);
    assert_eq!(of(&[scaled("Deployment", json!({"replicas": 2}))]), PodCount::Several);
    assert_eq!(of(&[scaled("StatefulSet", json!({"replicas": 2}))]), PodCount::Several);
    assert_eq!(of(&[scaled("DaemonSet", json!({}))]), PodCount::Several);
    assert_eq!(of(&[scaled("Job", json!({}))]), PodCount::One);
    assert_eq!(of(&[scaled("Job", json!({"parallelism": 2}))]), PodCount::Several);
    let autoscaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "a", "namespace": "n"},
        "spec": {"maxReplicas": 5, "scaleTargetRef": {"kind": "Deployment", "name": "web"}}});
    assert_eq!(of(&[scaled("Deployment", json!({})), autoscaler]), PodCount::Several);
    let set = Some(("ReplicaSet", "web-5d59d67564"));
    assert_eq!(of(&[pod("web-5d59d67564-x", set), pod("web-5d59d67564-y", set)]), PodCount::Several);
    let mut done = pod("web-5d59d67564-y", set);
    done["status"] = json!({"phase": "Failed"});
    assert_eq!(of(&[pod("web-5d59d67564-x", set), done]), PodCount::One);
}

#[test]
fn a_workload_without_pods_is_told() {
    for (replicas, told) in [(0, 1), (1, 0)] {
        let mut object = workload("Deployment", "web");
        object["spec"]["replicas"] = json!(replicas);
        let (_, import) = import(&[object]);
        let warnings: Vec<_> = import.warnings.iter().filter(|w| w.field == "spec.replicas").collect();
        assert_eq!(warnings.len(), told, "{warnings:?}");
    }
}

#[test]
fn workloads_that_share_a_name_have_their_kind_for_another_one() {
    let (_, import) = import(&[
        pod("web-5d59d67564-x", Some(("ReplicaSet", "web-5d59d67564"))),
        pod("web-0", Some(("StatefulSet", "web"))),
    ]);
    assert_eq!(workloads(&import, "web").len(), 2);
    assert_eq!(workloads(&import, "web-deployment")[0].1, ["web-5d59d67564-x"]);
    assert_eq!(workloads(&import, "web-statefulset")[0].1, ["web-0"]);
}

/// User text that would forge a line, redraw a terminal, reverse a name or fill a screen.
const HOSTILE: [&str; 4] = ["a\nerror: b", "\u{1b}[2J", "a\u{202e}nimda", "x\u{200b}\u{2028}y"];

#[test]
fn messages_show_user_text_on_one_line() {
    let long = "long".repeat(1000);
    for text in HOSTILE.into_iter().chain([long.as_str()]) {
        let meta = json!({"name": text, "namespace": text, "labels": {text: text}});
        let objects = [
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": text}}),
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta,
                "spec": {"containers": [{"ports": [{"containerPort": 1, "protocol": text, "name": text}]}]}}),
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta,
                "spec": {"policyTypes": [text], "podSelector": {"matchExpressions": [{"key": text, "operator": text}]},
                    "ingress": [{"from": [{"ipBlock": {"cidr": text}}], "ports": [{"port": text}]}]}}),
            json!({"apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy", "metadata": meta,
                "spec": {"tier": text, "selector": text, "types": [text],
                    "ingress": [{"action": text, "source": {"nets": [text]}}]}}),
        ];
        for object in &objects {
            let kind = Kind::of(object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
            let object = Object::deserialize(kind.kind().unwrap(), object).unwrap();
            let errors = Importer::new(ImportOptions::new()).add(object).unwrap_err();
            for shown in errors.iter().map(ToString::to_string) {
                assert_eq!(portcullis_core::quote::escaped(&shown).to_string(), shown);
                assert!(shown.len() < 2000, "{shown}");
            }
        }
        for (version, kind) in [(text, "Pod"), ("v1", text), ("policy.networking.k8s.io/v1alpha2", text)] {
            if let Relevance::Unsupported(reason) = Kind::of(version, kind) {
                assert_eq!(portcullis_core::quote::escaped(&reason).to_string(), reason);
            }
        }
    }
}

#[test]
fn all_reasons_are_one_error() {
    fn add(object: &Value) -> Result<(), alloc::boxed::Box<dyn core::error::Error>> {
        let kind = Kind::of("v1", "Namespace").kind().unwrap();
        Ok(Importer::new(ImportOptions::new()).add(Object::deserialize(kind, object)?)?)
    }
    let error = add(&json!({"metadata": {"name": "A", "labels": {"-": "b"}}})).unwrap_err();
    let lines: Vec<String> = error.to_string().lines().map(String::from).collect();
    assert_eq!(lines.len(), 2, "{error}");
    assert!(lines[0].starts_with("Namespace A: metadata.name: `A` "), "{error}");
    assert!(lines[1].starts_with("Namespace A: metadata.labels[-]: "), "{error}");
    let errors = error.downcast_ref::<ConvertErrors>().unwrap();
    assert_eq!(
        errors.iter().map(crate::error::ConvertError::field).collect::<Vec<_>>(),
        ["metadata.name", "metadata.labels[-]"]
    );
}
