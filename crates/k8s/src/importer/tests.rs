use alloc::string::{String, ToString};
use alloc::vec::Vec;

use portcullis_core::model::{Cluster, EndpointId};
use serde_json::{Value, json};

use super::*;

fn import_with(options: ImportOptions, objects: &[Value]) -> Import {
    let mut importer = Importer::new(options);
    for object in objects {
        let (version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
        importer.add(Object::deserialize(version, kind, object).unwrap()).unwrap();
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

#[test]
fn a_duplicate_is_refused() {
    let mut importer = Importer::new(ImportOptions::new());
    let object = || Object::deserialize("v1", "Pod", pod("a", None)).unwrap();
    importer.add(object()).unwrap();
    let errors = importer.add(object()).unwrap_err();
    assert_eq!(errors[0].field(), "metadata.name");
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
        importer.add(Object::deserialize(version, "WorkloadEndpoint", object).unwrap()).unwrap();
    }
    let errors = importer.finish().unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "WorkloadEndpoint n/p: spec.pod: two workload endpoints are those of the pod `p`"
    );
}
