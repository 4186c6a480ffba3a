//! Objects that are no policies: what can be read of them counts, and what cannot widens nothing.

use portcullis_core::label::Name;
use portcullis_core::model::{EndpointId, NetworkSetId};

use super::*;
use crate::world::tests::objects::KINDS;

/// Kinds of which policy asks something.
const OTHERS: [(&str, &str); 13] = [
    ("v1", "Namespace"),
    ("v1", "ServiceAccount"),
    ("v1", "Node"),
    ("v1", "Pod"),
    ("v1", "Service"),
    ("v1", "Endpoints"),
    ("discovery.k8s.io/v1", "EndpointSlice"),
    ("projectcalico.org/v3", "Tier"),
    ("projectcalico.org/v3", "NetworkSet"),
    ("projectcalico.org/v3", "GlobalNetworkSet"),
    ("projectcalico.org/v3", "HostEndpoint"),
    ("projectcalico.org/v3", "WorkloadEndpoint"),
    ("projectcalico.org/v3", "Profile"),
];

/// One mistake in an object of any kind that was never understood: nothing passes that was denied.
#[test]
fn an_object_that_cannot_be_read_lets_nothing_pass_that_was_denied() {
    let (mut refused, mut by_kind) = (0u64, BTreeMap::new());
    for seed in 0..rounds() * 3 {
        let mut random = Random(seed ^ 0x0b1e_c75a);
        let mut objects = surroundings(&mut random);
        for of in [POLICIES[1], POLICIES[2], POLICIES[4], POLICIES[5], POLICIES[5]] {
            add(&mut objects, object(&mut random, of));
        }
        let of = random.pick(&OTHERS);
        let meant = object(&mut random, of);
        add(&mut objects, meant.clone());
        let baseline = random.pick(&[BaselineReading::PerDirection, BaselineReading::PerPod]);
        let before = model(&world(&objects, baseline));
        for _ in 0..4 {
            let mut spoilt = meant.clone();
            let Some(how) = spoil(&mut spoilt, &mut random) else { continue };
            let Ok(read) = Observed::from_value(kind_of(&meant), spoilt.clone()) else { continue };
            if read.key() != observed(&meant).key() {
                continue;
            }
            let mut world = World::new(WorldOptions::new().baseline(baseline));
            let mut told = Cluster::new();
            for other in objects.iter().filter(|other| **other != meant) {
                told.extend(world.put(observed(other)).updates);
            }
            let changes = world.put(read);
            told.extend(changes.updates);
            assert!(told == model(&world), "seed {seed}, {how}: told and derived differ");
            let Some(refusal) = changes.refusals.first() else { continue };
            assert!(!refusal.errors.is_empty());
            refused += 1;
            *by_kind.entry(of).or_insert(0u64) += 1;
            if let Some(wider) = widening(&before, &told) {
                panic!("seed {seed}, {how}: {wider}\n{meant}\n{spoilt}\n{refusal:?}\n{objects:?}\n{told:?}");
            }
            // When it is understood again, nothing is left of it.
            told.extend(world.put(observed(&meant)).updates);
            assert!(told == before, "seed {seed}, {how}: something is left");
        }
    }
    assert!(refused > rounds(), "{refused}");
    assert_eq!(by_kind.len(), OTHERS.len(), "{by_kind:?}");
    assert!(OTHERS.iter().all(|of| KINDS.contains(of)));
}

/// Adds an object in the place of the one that has its name.
fn add(objects: &mut Vec<Value>, object: Value) {
    let key = |object: &Value| observed(object).key().clone().with_uid("");
    objects.retain(|other| key(other) != key(&object));
    objects.push(object);
}

fn calico(kind: &str, metadata: &Value, spec: &Value) -> Value {
    json!({"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": metadata, "spec": spec})
}

fn deny_from(selector: &str) -> Value {
    calico(
        "GlobalNetworkPolicy",
        &json!({"name": "p"}),
        &json!({"ingress": [{"action": "Deny", "source": {"selector": selector}}, {"action": "Allow"}]}),
    )
}

fn pod(name: &str, address: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "n"},
           "spec": {}, "status": {"podIP": address}})
}

/// Whether the pod `n/p` lets in a packet from an address.
fn lets_in(world: &World, source: &str) -> bool {
    let (cluster, settings) = (model(world), Settings::default());
    let packet = Packet::new(source.parse().unwrap(), [10, 0, 0, 1].into(), Protocol::TCP).to_port(80);
    let reference = Reference::new(&cluster, &settings);
    let decision = reference.decide(&EndpointId::workload("n", "p"), Hook::WorkloadIngress, &packet);
    decision.verdict != Verdict::Deny
}

fn around(objects: &[Value]) -> World {
    let mut world = World::new(WorldOptions::new());
    for object in objects {
        world.put(observed(object));
    }
    world
}

#[test]
fn a_set_of_which_a_net_cannot_be_read_may_be_any_net_for_a_rule_that_denies() {
    let set = |nets: &Value| {
        calico("GlobalNetworkSet", &json!({"name": "bad", "labels": {"is": "bad"}}), &json!({"nets": nets}))
    };
    for (selector, is_selected) in [("is == 'bad'", true), ("is == 'good'", false), ("!has(is)", false)] {
        let world = around(&[pod("p", "10.0.0.1"), deny_from(selector), set(&json!(["192.0.2.0/24", "x"]))]);
        assert_eq!(lets_in(&world, "192.0.2.1"), !is_selected, "{selector}");
        assert_eq!(lets_in(&world, "203.0.113.1"), !is_selected, "{selector}");
    }
    // A rule that allows has what can be read, and no more.
    let allow = calico(
        "GlobalNetworkPolicy",
        &json!({"name": "p"}),
        &json!({"ingress": [{"action": "Allow", "source": {"selector": "is == 'bad'"}}]}),
    );
    let mut world = around(&[pod("p", "10.0.0.1"), allow, set(&json!(["192.0.2.0/24", "x"]))]);
    assert!(lets_in(&world, "192.0.2.1"));
    assert!(!lets_in(&world, "203.0.113.1"));
    // Nor what is in none of the set, which may be anything.
    world.put(observed(&calico(
        "GlobalNetworkPolicy",
        &json!({"name": "p"}),
        &json!({"ingress": [{"action": "Allow", "source": {"notSelector": "is == 'bad'"}}]}),
    )));
    assert!(!lets_in(&world, "203.0.113.1"));
    let changes = world.put(observed(&set(&json!(["192.0.2.0/24"]))));
    assert_eq!(changes.refusals.len(), 0);
    assert!(lets_in(&world, "203.0.113.1"));
    assert!(!lets_in(&world, "192.0.2.1"));
}

#[test]
fn a_set_of_which_a_label_cannot_be_read_may_have_any_label_for_a_rule_that_denies() {
    let set = calico(
        "GlobalNetworkSet",
        &json!({"name": "bad", "labels": {"is": "bad", "env": 7}}),
        &json!({"nets": ["192.0.2.0/24"]}),
    );
    for selector in ["is == 'bad'", "env == 'x'", "env != 'x'", "has(other)", "is == 'good' || env == 'x'"] {
        let world = around(&[pod("p", "10.0.0.1"), deny_from(selector), set.clone()]);
        assert!(!lets_in(&world, "192.0.2.1"), "{selector}");
        assert!(lets_in(&world, "203.0.113.1"), "{selector}");
    }
    for selector in ["is == 'good'", "is == 'good' && env == 'x'", "!has(is)"] {
        let world = around(&[pod("p", "10.0.0.1"), deny_from(selector), set.clone()]);
        assert!(lets_in(&world, "192.0.2.1"), "{selector}");
    }
    for (selector, is_let_in) in [("is == 'bad'", true), ("!has(other)", false), ("env == 'x'", false)] {
        let allow = calico(
            "GlobalNetworkPolicy",
            &json!({"name": "p"}),
            &json!({"ingress": [{"action": "Allow", "source": {"selector": selector}}]}),
        );
        let world = around(&[pod("p", "10.0.0.1"), allow, set.clone()]);
        assert_eq!(lets_in(&world, "192.0.2.1"), is_let_in, "{selector}");
    }
}

#[test]
fn a_set_in_a_namespace_of_which_nothing_is_known_stays() {
    let set = calico(
        "NetworkSet",
        &json!({"name": "s", "namespace": "other", "labels": {"is": "bad"}}),
        &json!({"nets": ["192.0.2.0/24"]}),
    );
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other", "labels": {"a b": "c"}}});
    let deny = |namespaces: &str| {
        calico(
            "GlobalNetworkPolicy",
            &json!({"name": "p"}),
            &json!({"ingress": [
                {"action": "Deny", "source": {"selector": "is == 'bad'", "namespaceSelector": namespaces}},
                {"action": "Allow"}]}),
        )
    };
    for (namespaces, is_let_in) in [
        ("has(team)", false),
        ("kubernetes.io/metadata.name == 'other'", false),
        ("kubernetes.io/metadata.name == 'n'", true),
    ] {
        let world = around(&[pod("p", "10.0.0.1"), deny(namespaces), set.clone(), namespace.clone()]);
        assert_eq!(lets_in(&world, "192.0.2.1"), is_let_in, "{namespaces}");
        assert!(lets_in(&world, "203.0.113.1"), "{namespaces}");
    }
}

#[test]
fn a_slice_that_cannot_be_read_may_list_any_address_for_a_rule_that_denies() {
    let slice = |labels: &Value, address: &str| {
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
               "metadata": {"name": "s-1", "namespace": "n", "labels": labels}, "addressType": "IPv4",
               "endpoints": [{"addresses": ["192.0.2.1"]}, {"addresses": [address]}],
               "ports": [{"port": 80, "protocol": "TCP"}]})
    };
    let policy = |action: &str| {
        calico(
            "NetworkPolicy",
            &json!({"name": "p", "namespace": "n"}),
            &json!({"types": ["Egress"],
                    "egress": [{"action": action, "destination": {"services": {"name": "s"}}},
                               {"action": if action == "Deny" { "Allow" } else { "Deny" }}]}),
        )
    };
    let goes_out = |world: &World, to: [u8; 4]| {
        let (cluster, settings) = (model(world), Settings::default());
        let packet = Packet::new([10, 0, 0, 1].into(), to.into(), Protocol::TCP).to_port(80);
        let reference = Reference::new(&cluster, &settings);
        let decision = reference.decide(&EndpointId::workload("n", "p"), Hook::WorkloadEgress, &packet);
        decision.verdict != Verdict::Deny
    };
    let known = json!({"kubernetes.io/service-name": "s"});
    for labels in [known.clone(), json!({"kubernetes.io/service-name": 7})] {
        let world = around(&[pod("p", "10.0.0.1"), policy("Deny"), slice(&labels, "x")]);
        assert!(!goes_out(&world, [192, 0, 2, 1]));
        assert!(!goes_out(&world, [203, 0, 113, 1]));
    }
    let world = around(&[pod("p", "10.0.0.1"), policy("Allow"), slice(&known, "x")]);
    assert!(goes_out(&world, [192, 0, 2, 1]));
    assert!(!goes_out(&world, [203, 0, 113, 1]));
}

#[test]
fn a_profile_keeps_the_labels_and_rules_that_can_be_read() {
    let profile = calico(
        "Profile",
        &json!({"name": "q"}),
        &json!({"labelsToApply": {"a": "b"}, "ingress": [
            {"action": "Allow", "source": {"nets": ["x"]}}, {"action": "Deny", "protocol": "TCP"},
            {"action": "Deny", "source": {"nets": ["x"]}}, {"action": "Allow"}]}),
    );
    let world = around(&[profile]);
    let model = model(&world);
    let profile = &model.profiles()["q"];
    assert_eq!(profile.labels.value("a"), Some("b"));
    let actions: Vec<Action> = profile.ingress.iter().map(|rule| rule.action).collect();
    assert_eq!(actions, [Action::Allow, Action::Deny, Action::Deny, Action::Allow]);
    assert_eq!(profile.ingress[0], nothing(Action::Allow));
    assert_eq!(profile.ingress[2], Rule::new(Action::Deny));
}

#[test]
fn a_host_endpoint_keeps_what_can_be_read() {
    let endpoint = calico(
        "HostEndpoint",
        &json!({"name": "h", "labels": {"a": "b"}}),
        &json!({"node": "n1", "interfaceName": "eth0", "expectedIPs": ["10.0.0.1", "x"], "profiles": ["open"]}),
    );
    let mut world = World::new(WorldOptions::new());
    let changes = world.put(observed(&endpoint));
    assert_eq!(changes.refusals[0].stands, Standing::SafeForm);
    let cluster = model(&world);
    let read = cluster.endpoints().values().next().unwrap();
    assert_eq!(read.interface.as_deref(), Some("eth0"));
    assert_eq!(read.addresses, [IpAddr::from([10, 0, 0, 1])]);
    assert_eq!(read.labels.value("a"), Some("b"));
    assert_eq!(read.profiles, [Name::new("open")]);
    assert!(cluster.policies().is_empty());
    // Which policies are for it is not known when a label is not: it is closed.
    let mut unlabelled = endpoint.clone();
    unlabelled["metadata"]["labels"]["env"] = json!(7);
    let mut world = World::new(WorldOptions::new());
    world.put(observed(&unlabelled));
    let cluster = model(&world);
    assert_eq!(cluster.policies().len(), 3);
    let settings = Settings::default();
    let reference = Reference::new(&cluster, &settings);
    let packet = Packet::new([192, 0, 2, 1].into(), [10, 0, 0, 1].into(), Protocol::TCP).to_port(80);
    for hook in [Hook::HostIngress, Hook::ForwardIngress] {
        assert_eq!(reference.decide(&EndpointId::host("h"), hook, &packet).verdict, Verdict::Deny, "{hook}");
    }
    let mut good = endpoint;
    good["spec"]["expectedIPs"] = json!([]);
    world.put(observed(&good));
    assert!(model(&world).policies().is_empty());
}

#[test]
fn a_workload_endpoint_that_cannot_be_read_closes_its_pod() {
    let endpoint = calico(
        "WorkloadEndpoint",
        &json!({"name": "w", "namespace": "n"}),
        &json!({"pod": "p", "ipNetworks": ["x"]}),
    );
    let mut world = around(&[pod("p", "10.0.0.1"), pod("q", "10.0.0.2"), endpoint.clone()]);
    assert_eq!(model(&world).endpoints().len(), 1);
    world.remove(observed(&endpoint).key());
    assert_eq!(model(&world).endpoints().len(), 2);
    // Whose it is, is not known: it may be that of any pod that has no other.
    let mut good = endpoint;
    good["spec"]["ipNetworks"] = json!(["10.0.0.9"]);
    world.put(observed(&good));
    for pod in [json!(7), json!("q!"), json!(null)] {
        let spec = json!({"pod": pod, "node": 7});
        let lost = calico("WorkloadEndpoint", &json!({"name": "v", "namespace": "n"}), &spec);
        world.put(observed(&lost));
        let ids: Vec<String> = model(&world).endpoints().keys().map(ToString::to_string).collect();
        assert_eq!(ids, ["n/p"]);
        world.remove(observed(&lost).key());
        assert_eq!(model(&world).endpoints().len(), 2);
    }
}

/// A text that says something twice says nothing: neither of the two values is taken.
#[test]
fn what_is_said_twice_is_not_read() {
    let set =
        r#"{"metadata": {"name": "s", "labels": {"a": "b", "a": "c"}}, "spec": {"nets": ["10.0.0.0/8"]}}"#;
    let Relevance::Relevant(kind) = Kind::of("projectcalico.org/v3", "GlobalNetworkSet") else { panic!() };
    let mut world = World::new(WorldOptions::new());
    let changes = world.put(Observed::from_json(kind, set.as_bytes()).unwrap());
    assert!(changes.refusals[0].errors.to_string().contains("duplicate field `a`"), "{changes:?}");
    let id = NetworkSetId { namespace: None, name: "s".into() };
    let cluster = model(&world);
    let set = &cluster.network_sets()[&id];
    assert_eq!(set.labels.value("a"), None);
    assert!(set.nets.is_empty());
    // Also beside another fault, where the parts are read alone.
    let policy = r#"{"metadata": {"name": "p", "namespace": "n"}, "spec": {"podSelector": {"matchLabels":
        {"a": "b", "a": "c"}}, "ingress": [{}, {"from": 7}]}}"#;
    let Relevance::Relevant(kind) = Kind::of("networking.k8s.io/v1", "NetworkPolicy") else { panic!() };
    let mut world = World::new(WorldOptions::new());
    world.put(Observed::from_json(kind, policy.as_bytes()).unwrap());
    let cluster = model(&world);
    let policy = cluster.policies().values().next().unwrap();
    assert_eq!(policy.subject, strict(&network_policy(&json!({}))).subject);
    assert!(policy.ingress.is_empty());
}
