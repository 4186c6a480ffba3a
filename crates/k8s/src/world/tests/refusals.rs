//! Objects that cannot be read, and objects that come in odd ways.

use super::*;
use crate::tier;

fn pod(name: &str, uid: &str, status: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "n", "uid": uid},
           "spec": {}, "status": status})
}

fn world() -> World {
    World::new(WorldOptions::new())
}

fn model(world: &World) -> Cluster {
    world.model().collect()
}

fn endpoints(world: &World) -> Vec<String> {
    model(world).endpoints().keys().map(ToString::to_string).collect()
}

fn key(object: &Value) -> ObjectKey {
    ObjectKey::of_value(kind_of(object), object).unwrap()
}

#[test]
fn a_pod_that_cannot_be_read_stays_what_it_was() {
    let mut world = world();
    let good = pod("p", "1", &json!({"podIP": "10.0.0.1"}));
    world.put(observed(&good));
    let changes = world.put(observed(&pod("p", "1", &json!({"podIP": "10.0.0.256"}))));
    assert!(changes.updates.is_empty());
    assert_eq!(changes.refusals[0].stands, Standing::LastGood);
    assert_eq!(
        changes.refusals[0].errors.to_string(),
        "Pod n/p: status.podIP: `10.0.0.256` is not an IP address"
    );
    assert_eq!(world.refusals().count(), 1);
    assert_eq!(endpoints(&world), ["n/p"]);
    // Of another pod of that name, nothing is known.
    let changes = world.put(observed(&pod("p", "2", &json!({"podIP": 7}))));
    assert_eq!(changes.refusals[0].stands, Standing::Nothing);
    assert_eq!(
        changes.refusals[0].errors.to_string(),
        "Pod n/p: status.podIP: invalid type: integer `7`, expected a string"
    );
    assert!(endpoints(&world).is_empty());
    // The news of the end of the first comes late.
    assert!(world.remove(&key(&good)).updates.is_empty());
    world.put(observed(&pod("p", "2", &json!({"podIP": "10.0.0.2"}))));
    assert_eq!(endpoints(&world), ["n/p"]);
    assert_eq!(world.refusals().count(), 0);
}

#[test]
fn an_address_is_free_when_its_pod_has_finished() {
    let mut world = world();
    let address = "10.0.0.1".parse().unwrap();
    world.put(observed(&pod("old", "1", &json!({"podIP": "10.0.0.1"}))));
    let changes = world.put(observed(&pod("new", "2", &json!({"podIP": "10.0.0.1"}))));
    assert_eq!(
        changes.warnings[0].message,
        "has the address `10.0.0.1`, which the pod n/old has as well: one of them is stale"
    );
    assert_eq!(world.endpoints_at(address).count(), 2);
    world.put(observed(&pod("old", "1", &json!({"phase": "Succeeded", "podIP": "10.0.0.1"}))));
    assert_eq!(world.endpoints_at(address).map(ToString::to_string).collect::<Vec<_>>(), ["n/new"]);
}

#[test]
fn pods_of_a_namespace_or_account_of_which_nothing_is_known_are_closed() {
    for (bad, good) in [
        (
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "labels": {"a b": "c"}}}),
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}),
        ),
        (
            json!({"apiVersion": "v1", "kind": "ServiceAccount",
                   "metadata": {"name": "default", "namespace": "n", "labels": {"a": 7}}}),
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "n"}}),
        ),
    ] {
        let mut world = world();
        world.put(observed(&pod("p", "1", &json!({"podIP": "10.0.0.1"}))));
        let changes = world.put(observed(&bad));
        assert_eq!(changes.refusals[0].stands, Standing::Nothing);
        assert!(endpoints(&world).is_empty(), "{bad}");
        world.put(observed(&pod("q", "1", &json!({"podIP": "10.0.0.2"}))));
        assert!(endpoints(&world).is_empty(), "{bad}");
        world.put(observed(&good));
        assert_eq!(endpoints(&world), ["n/p", "n/q"]);
        // Once understood, it stays what it was.
        assert_eq!(world.put(observed(&bad)).refusals[0].stands, Standing::LastGood);
        assert_eq!(endpoints(&world), ["n/p", "n/q"]);
        world.put(observed(&pod("p", "1", &json!({"podIP": "10.0.0.1"}))));
        world.remove(&key(&bad));
        assert_eq!(endpoints(&world), ["n/p", "n/q"]);
    }
}

#[test]
fn policies_of_a_tier_that_cannot_be_read_deny_before_all_others() {
    let policy = |tier: &str| {
        json!({"apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy", "metadata": {"name": "p"},
               "spec": {"tier": tier, "order": 5, "ingress": [{"action": "Allow"}]}})
    };
    let tier = |name: &str, order: &Value| {
        json!({"apiVersion": "projectcalico.org/v3", "kind": "Tier", "metadata": {"name": name},
               "spec": {"order": order}})
    };
    let mut world = world();
    world.put(observed(&policy("t")));
    world.put(observed(&tier("t", &json!("first"))));
    let cluster = model(&world);
    let closed = cluster.policies().values().next().unwrap();
    assert_eq!(closed.tier, *tier::CLOSED);
    assert_eq!(closed.ingress, [portcullis_core::model::Rule::new(portcullis_core::model::Action::Deny)]);
    assert!(cluster.tiers().contains_key(tier::CLOSED));
    world.put(observed(&tier("t", &json!(1))));
    let cluster = model(&world);
    assert_eq!(cluster.policies().values().next().unwrap().tier, *"t");
    assert!(!cluster.tiers().contains_key(tier::CLOSED));
    // What a built-in tier says is known.
    world.put(observed(&policy("default")));
    world.put(observed(&tier("default", &json!("first"))));
    assert_eq!(model(&world).policies().values().next().unwrap().tier, *"default");
    assert!(model(&world).tiers().contains_key("default"));
}

/// Tiers that the conversion makes are not for users to be in: a policy that names one is in a tier that is not there.
#[test]
fn no_policy_of_a_user_gets_into_the_tiers_of_the_conversion() {
    let names = [tier::CLOSED.trim_start_matches('#'), tier::SHIELD];
    let mut world = world();
    for name in names {
        let changes = world.put(observed(&json!({
            "apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy",
            "metadata": {"name": format!("{name}.p")},
            "spec": {"tier": name, "order": 5, "ingress": [{"action": "Allow"}]},
        })));
        assert!(changes.warnings.iter().any(|warning| warning.message.contains("tier")), "{changes:?}");
    }
    let cluster = model(&world);
    assert_eq!(cluster.policies().len(), 2);
    for name in [tier::CLOSED, tier::SHIELD].into_iter().chain(names) {
        assert!(!cluster.tiers().contains_key(name), "{name}");
    }
}

#[test]
fn an_object_of_another_kind_in_a_list_keeps_nothing() {
    let mut world = world();
    world.put(observed(&pod("a", "1", &json!({}))));
    let other = observed(&json!({"apiVersion": "v1", "kind": "ServiceAccount",
                                 "metadata": {"name": "a", "namespace": "n"}}));
    world.replace(kind("v1", "Pod"), [Ok(other)]);
    assert_eq!(endpoints(&world), [""; 0]);
}

#[test]
fn a_list_with_an_object_that_has_no_name_takes_nothing_away() {
    let mut world = world();
    let kind = kind("v1", "Pod");
    let pods = |names: &[&str]| -> Vec<Result<Observed, Unidentified>> {
        names.iter().map(|name| Observed::from_value(kind, pod(name, "1", &json!({})))).collect()
    };
    world.replace(kind, pods(&["a", "b"]));
    assert_eq!(endpoints(&world), ["n/a", "n/b"]);
    let changes = world.replace(kind, pods(&["c", ""]));
    assert_eq!(changes.refusals.len(), 1);
    assert_eq!(
        changes.refusals[0].errors.to_string(),
        "Pod : metadata.name: a name is required; nothing is taken to be gone"
    );
    assert_eq!(endpoints(&world), ["n/a", "n/b", "n/c"]);
    world.replace(kind, pods(&["c"]));
    assert_eq!(endpoints(&world), ["n/c"]);
}

#[test]
fn the_first_workload_endpoint_of_a_pod_counts() {
    let endpoint = |name: &str, address: &str| {
        json!({"apiVersion": "projectcalico.org/v3", "kind": "WorkloadEndpoint",
               "metadata": {"name": name, "namespace": "n"},
               "spec": {"pod": "p", "ipNetworks": [address], "profiles": []}})
    };
    let mut world = world();
    world.put(observed(&pod("p", "1", &json!({"podIP": "10.0.0.9"}))));
    world.put(observed(&endpoint("b", "10.0.0.2")));
    let changes = world.put(observed(&endpoint("a", "10.0.0.1")));
    assert_eq!(changes.warnings.len(), 1, "{changes:?}");
    let id = EndpointId::workload("n", "p");
    let address = |world: &World| model(world).endpoints()[&id].addresses[0].to_string();
    assert_eq!(address(&world), "10.0.0.1");
    world.remove(&key(&endpoint("a", "")));
    assert_eq!(address(&world), "10.0.0.2");
    world.remove(&key(&endpoint("b", "")));
    assert_eq!(address(&world), "10.0.0.9");
}

#[test]
fn two_kinds_of_one_name_are_two_objects() {
    let policy = |version: &str| {
        json!({"apiVersion": version, "kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": "n"},
               "spec": {}})
    };
    let mut world = world();
    world.put(observed(&policy("networking.k8s.io/v1")));
    world.put(observed(&policy("projectcalico.org/v3")));
    assert_eq!(model(&world).policies().len(), 2);
    world.remove(&key(&policy("networking.k8s.io/v1")));
    assert_eq!(model(&world).policies().len(), 1);
    let error = Observed::from_object(
        kind("v1", "Pod"),
        Object::deserialize(kind("networking.k8s.io/v1", "NetworkPolicy"), &policy("networking.k8s.io/v1"))
            .unwrap(),
    );
    assert_eq!(error.unwrap_err().to_string(), "Pod: kind: the object is a NetworkPolicy");
}

#[test]
fn the_key_of_a_stored_object_is_that_of_its_annotation() {
    let stored = json!({"apiVersion": "crd.projectcalico.org/v1", "kind": "GlobalNetworkSet",
        "metadata": {"name": "stored", "annotations": {
            "projectcalico.org/metadata": "{\"name\": \"real\", \"labels\": {\"a\": \"b\"}}"}},
        "spec": {"nets": ["10.0.0.0/8"]}});
    assert_eq!(key(&stored).name().as_str(), "real");
    let mut world = world();
    world.put(observed(&stored));
    assert_eq!(model(&world).network_sets().len(), 1);
    world.remove(&ObjectKey::of_json(kind_of(&stored), stored.to_string().as_bytes()).unwrap());
    assert!(model(&world).network_sets().is_empty());
}

/// Spoilt objects of every kind: nothing else changes, and what is refused is named.
#[test]
fn bad_objects_change_nothing_else() {
    let mut random = Random(7);
    let mut world = world();
    // Another namespace and other names, so that nothing of it depends on what comes.
    let others = [
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "other", "namespace": "other"},
               "status": {"podIP": "10.7.0.1"}}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
               "metadata": {"name": "other", "namespace": "other"}, "spec": {"podSelector": {}}}),
    ];
    for other in &others {
        world.put(observed(other));
    }
    let apart = |world: &World| -> Vec<Update> {
        world.model().filter(|update| format!("{update:?}").contains("other")).collect()
    };
    let expected = apart(&world);
    assert!(expected.len() >= 4);
    let (mut refused, mut kinds) = (0, BTreeMap::new());
    for round in 0..4u64 {
        for of in KINDS {
            let object = object(&mut random, of);
            let text = object.to_string();
            let kind = kind_of(&object);
            let cut = usize::try_from(random.below(text.len() as u64)).unwrap();
            let is_large = round == 0 && ["Pod", "NetworkPolicy"].contains(&of.1);
            let big = "x".repeat(if is_large { 10_000_000 } else { 10 });
            let mut annotated = object.clone();
            annotated["metadata"]["annotations"] = json!({"a": big});
            let nulls = text.replace("\"metadata\":{", "\"metadata\":{\"labels\":null,\"annotations\":null,");
            let twice = text.replacen('{', "{\"spec\":null,\"status\":7,", 1);
            let unknown = text.replacen('{', "{\"unheardOf\":{\"a\":[1]},", 1);
            let other_version = text.replacen(of.0, "example.com/v9", 1);
            let mut empty = object.clone();
            for (field, value) in empty.as_object_mut().unwrap() {
                if !["apiVersion", "kind", "metadata"].contains(&field.as_str()) {
                    *value = json!([null, {"a": null}]);
                }
            }
            let deep = text.replacen('{', &format!("{{\"deep\":{}", "[".repeat(500)), 1);
            for bad in [
                text.get(..cut).unwrap_or_default(),
                &annotated.to_string(),
                &nulls,
                &twice,
                &unknown,
                &other_version,
                &empty.to_string(),
                &deep,
                "",
                "[]",
                "null",
            ] {
                let Ok(observed) = Observed::from_json(kind, bad.as_bytes()) else { continue };
                let named = observed.key().reference();
                let changes = world.put(observed);
                if bad == other_version && of.1 != "Pod" {
                    let errors = &changes.refusals[0].errors;
                    assert_eq!(errors[0].field(), "apiVersion", "{errors}");
                }
                for refusal in changes.refusals {
                    assert_eq!(refusal.object, named);
                    assert!(refusal.errors.iter().all(|error| !error.reason().is_empty()));
                    assert!(world.refusals().any(|kept| *kept == refusal));
                    refused += 1;
                    *kinds.entry(of).or_insert(0) += 1;
                }
                assert_eq!(apart(&world), expected, "{bad}");
            }
        }
    }
    assert!(refused > 100, "{refused}");
    assert_eq!(kinds.len(), KINDS.len(), "{kinds:?}");
}

/// Objects of one name: of every two kinds, the bad one is its own and leaves the other as it was.
#[test]
fn names_that_collide_across_kinds_are_of_different_objects() {
    let mut random = Random(11);
    let mut world = world();
    let mut keys = BTreeSet::new();
    for of in KINDS {
        let mut object = object(&mut random, of);
        object["metadata"]["name"] = json!("default");
        if of.1 == "Tier" {
            object["spec"] = json!({"order": 1_000_000});
        }
        if object["metadata"]["namespace"].is_string() {
            object["metadata"]["namespace"] = json!("default");
        }
        let refused = world.put(observed(&object)).refusals;
        assert!(refused.is_empty(), "{refused:?}");
        assert!(keys.insert(place_of(&object)));
        assert_eq!(world.len(), keys.len());
        let before: Cluster = model(&world);
        let text = object.to_string();
        let spoilt = text.replacen('{', "{\"metadata\":7,", 1);
        // Without a name that can be told, it is no object.
        assert!(Observed::from_json(kind_of(&object), spoilt.as_bytes()).is_err());
        assert!(before == model(&world));
    }
}
