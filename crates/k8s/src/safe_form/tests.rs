extern crate std;

mod mutate;
mod objects;

pub(crate) use mutate::spoil;

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;

use portcullis_core::model::{
    Action, Cluster, Directions, EndpointId, EndpointKind, EntityMatch, Order, Placement, Policy, Rule,
};
use portcullis_core::packet::{Packet, Protocol};
use portcullis_core::reference::Reference;
use portcullis_core::settings::Settings;
use portcullis_core::verdict::{Hook, Verdict};
use serde_json::{Value, json};

use crate::BaselineReading;
use crate::kind::{Kind, Relevance};
use crate::standing::Standing;
use crate::tier;
use crate::world::tests::objects::{Random, object};
use crate::world::{Observed, UnreadablePolicy, World, WorldOptions};

const POLICIES: [(&str, &str); 6] = [
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy"),
    ("policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy"),
    ("policy.networking.k8s.io/v1alpha1", "BaselineAdminNetworkPolicy"),
    ("projectcalico.org/v3", "NetworkPolicy"),
    ("projectcalico.org/v3", "GlobalNetworkPolicy"),
];

fn kind_of(object: &Value) -> Kind {
    let text = |field: &str| object[field].as_str().unwrap();
    let Relevance::Relevant(kind) = Kind::of(text("apiVersion"), text("kind")) else { panic!("{object}") };
    kind
}

fn observed(object: &Value) -> Observed {
    Observed::from_value(kind_of(object), object.clone()).unwrap()
}

fn world(objects: &[Value], baseline: BaselineReading) -> World {
    let mut world = World::new(WorldOptions::new().baseline(baseline));
    for object in objects {
        let changes = world.put(observed(object));
        assert!(changes.refusals.is_empty(), "{object}: {changes:?}");
    }
    world
}

fn model(world: &World) -> Cluster {
    world.model().collect()
}

fn surroundings(random: &mut Random) -> Vec<Value> {
    let mut objects = BTreeMap::new();
    let mut add = |object: Value| {
        let of = |field: &str| object["metadata"][field].to_string();
        objects.insert((object["kind"].to_string(), of("namespace"), of("name")), object);
    };
    for (index, (namespace, name)) in [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")].into_iter().enumerate()
    {
        let mut pod = object(random, ("v1", "Pod"));
        pod["metadata"]["namespace"] = json!(namespace);
        pod["metadata"]["name"] = json!(name);
        pod["spec"]["hostNetwork"] = json!(false);
        pod["status"] = json!({"phase": "Running", "podIP": alloc::format!("10.0.0.{}", index + 1)});
        add(pod);
    }
    for kind in ["HostEndpoint", "HostEndpoint", "Tier", "Tier", "GlobalNetworkSet", "Profile"] {
        add(object(random, ("projectcalico.org/v3", kind)));
    }
    add(object(random, ("v1", "Namespace")));
    for _ in 0..random.below(4) {
        let of = random.pick(&POLICIES);
        add(object(random, of));
    }
    objects.into_values().collect()
}

/// A packet that `before` denies and `after` does not, at some hook of an endpoint.
fn widening(before: &Cluster, after: &Cluster) -> Option<String> {
    let settings = Settings::default();
    let (old, new) = (Reference::new(before, &settings), Reference::new(after, &settings));
    let known: Vec<IpAddr> = before.endpoints().values().flat_map(|o| o.addresses.iter().copied()).collect();
    // A pod of which nothing is known is closed where it is: neither does it get anything, nor does anybody from it.
    let is_closed = |id: &EndpointId| id.namespace.is_some() && !after.endpoints().contains_key(id);
    let closed: Vec<IpAddr> =
        before.endpoints().values().filter(|o| is_closed(&o.id)).flat_map(|o| o.addresses.clone()).collect();
    for (id, endpoint) in before.endpoints().iter().filter(|(id, _)| !is_closed(id)) {
        let own = endpoint.addresses.first().copied().unwrap_or([10, 9, 9, 9].into());
        for hook in Hook::ALL {
            let is_workload = matches!(hook, Hook::WorkloadIngress | Hook::WorkloadEgress);
            if is_workload != (id.kind == EndpointKind::Workload) {
                continue;
            }
            for packet in packets(own, &known) {
                if [packet.source, packet.destination].iter().any(|end| closed.contains(end)) {
                    continue;
                }
                let (was, is) = (old.decide(id, hook, &packet), new.decide(id, hook, &packet));
                if was.verdict == Verdict::Deny && is.verdict != Verdict::Deny {
                    return Some(alloc::format!("{id} {hook} {packet:?}: {was:?}, then {is:?}"));
                }
            }
        }
    }
    None
}

fn packets(own: IpAddr, known: &[IpAddr]) -> Vec<Packet> {
    let outside: [IpAddr; 3] = [[192, 0, 2, 1].into(), [10, 0, 0, 99].into(), [203, 0, 113, 1].into()];
    let far = outside.iter().chain(known).filter(|far| **far != own && far.is_ipv4() == own.is_ipv4());
    let ways = far.flat_map(|far| [(*far, own), (own, *far)]);
    ways.flat_map(|(source, destination)| {
        let packet = |protocol| Packet::new(source, destination, protocol);
        let tcp = [22, 80, 81].map(|port| packet(Protocol::TCP).to_port(port).from_port(40_000));
        tcp.into_iter().chain([packet(Protocol::UDP).to_port(80), packet(Protocol(47))])
    })
    .collect()
}

fn rounds() -> u64 {
    let given = std::env::var("PORTCULLIS_SAFE_FORMS").ok();
    given.map_or(100, |count| count.parse().expect("a number of policies"))
}

/// One mistake in a policy: what stands in its place lets nothing pass that the policy as it was meant stops.
#[test]
fn a_safe_form_lets_nothing_pass_that_was_denied() {
    let (mut refused, mut by_kind) = (0u64, BTreeMap::new());
    for seed in 0..rounds() {
        let mut random = Random(seed ^ 0x5afe_f0f5);
        let mut objects = surroundings(&mut random);
        let of = random.pick(&POLICIES);
        let policy = object(&mut random, of);
        let same = |other: &Value| {
            other["kind"] == policy["kind"]
                && other["apiVersion"] == policy["apiVersion"]
                && other["metadata"]["name"] == policy["metadata"]["name"]
                && other["metadata"].get("namespace") == policy["metadata"].get("namespace")
        };
        objects.retain(|other| !same(other));
        let baseline = random.pick(&[BaselineReading::PerDirection, BaselineReading::PerPod]);
        let without = world(&objects, baseline);
        objects.push(policy.clone());
        let before = model(&world(&objects, baseline));
        drop(without);
        for _ in 0..4 {
            let mut spoilt = policy.clone();
            let Some(how) = spoil(&mut spoilt, &mut random) else { continue };
            // Without a name it does not come so far.
            let Ok(observed) = Observed::from_value(kind_of(&policy), spoilt.clone()) else { continue };
            if observed.key() != super::tests::observed(&policy).key() {
                continue;
            }
            let mut world = World::new(WorldOptions::new().baseline(baseline));
            let others = objects.iter().take(objects.len() - 1);
            for other in others {
                world.put(super::tests::observed(other));
            }
            let changes = world.put(observed);
            let Some(refusal) = changes.refusals.first() else { continue };
            assert!(refusal.errors.iter().all(|error| !error.field().is_empty()), "{how}: {refusal:?}");
            assert_eq!(refusal.stands, Standing::SafeForm);
            refused += 1;
            *by_kind.entry(of).or_insert(0u64) += 1;
            if let Some(wider) = widening(&before, &model(&world)) {
                panic!(
                    "seed {seed}, {how}: {wider}\n{policy}\n{spoilt}\n{:#?}\n{refusal:#?}",
                    model(&world).policies()
                );
            }
        }
    }
    assert!(refused > rounds(), "{refused}");
    assert_eq!(by_kind.len(), POLICIES.len(), "{by_kind:?}");
}

fn network_policy(spec: &Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
           "metadata": {"name": "p", "namespace": "n"}, "spec": spec})
}

fn cluster_policy(spec: &Value) -> Value {
    json!({"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
           "metadata": {"name": "p"}, "spec": spec})
}

fn global_policy(spec: &Value) -> Value {
    json!({"apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy", "metadata": {"name": "p"},
           "spec": spec})
}

/// The policies that stand in the place of an object, and what is said about it.
fn safe(object: &Value) -> (Vec<Policy>, String) {
    let mut world = World::new(WorldOptions::new());
    let changes = world.put(observed(object));
    assert_eq!(changes.refusals.len(), 1, "{object}");
    assert_eq!(changes.refusals[0].stands, Standing::SafeForm);
    (model(&world).policies().values().cloned().collect(), changes.refusals[0].errors.to_string())
}

fn strict(object: &Value) -> Policy {
    let world = world(core::slice::from_ref(object), BaselineReading::PerDirection);
    model(&world).policies().values().next().unwrap().clone()
}

fn nothing(action: Action) -> Rule {
    let mut rule = Rule::new(action);
    rule.peers = vec![EntityMatch::nobody()];
    rule
}

#[test]
fn a_rule_that_allows_and_is_not_clear_matches_nothing_and_the_others_stay() {
    let good = json!({"from": [{"podSelector": {}}]});
    let bad = json!({"from": [{"ipBlock": {"cidr": "10.0.0.0/33"}}]});
    let (policies, errors) = safe(&network_policy(&json!({"ingress": [bad, good.clone()]})));
    let expected = strict(&network_policy(&json!({"ingress": [good.clone()]})));
    assert_eq!(policies.len(), 1);
    assert_eq!(policies[0].ingress, [nothing(Action::Allow), expected.ingress[0].clone()]);
    assert_eq!(policies[0].subject, expected.subject);
    assert_eq!(
        errors,
        "NetworkPolicy n/p: spec.ingress[0].from[0].ipBlock.cidr: `10.0.0.0/33` is not a network: \
         the prefix is longer than the address"
    );
    let unknown = json!({"from": [{"podSelector": {}, "unheardOf": 1}]});
    let (policies, errors) = safe(&network_policy(&json!({"ingress": [good, unknown]})));
    assert_eq!(policies[0].ingress, [expected.ingress[0].clone(), nothing(Action::Allow)]);
    assert!(
        errors.starts_with("NetworkPolicy n/p: spec.ingress[1].from[0].unheardOf: unknown field"),
        "{errors}"
    );
}

#[test]
fn a_rule_that_denies_or_passes_and_is_not_clear_denies_everything_in_its_place() {
    let any = json!([{"namespaces": {}}]);
    let rule = |action: &str, bad: bool| {
        let mut rule = json!({"action": action, "from": any});
        if bad {
            rule["protocols"] = json!([{"tcp": {"destinationPort": {"number": 70_000}}}]);
        }
        rule
    };
    for (action, expected) in [
        ("Accept", nothing(Action::Allow)),
        ("Deny", Rule::new(Action::Deny)),
        ("Pass", Rule::new(Action::Deny)),
        ("deny", Rule::new(Action::Deny)),
    ] {
        let spec = json!({"tier": "Baseline", "priority": 7, "subject": {"namespaces": {}},
                          "ingress": [rule("Accept", false), rule(action, true), rule("Pass", false)]});
        let (policies, _) = safe(&cluster_policy(&spec));
        let actions: Vec<Action> = policies[0].ingress.iter().map(|rule| rule.action).collect();
        assert_eq!(actions, [Action::Allow, expected.action, Action::Pass], "{action}");
        assert_eq!(policies[0].ingress[1], expected);
        assert_eq!((policies[0].tier.as_str(), policies[0].order), ("kube-baseline", Some(Order::from(7))));
    }
}

#[test]
fn without_a_clear_subject_no_rule_is_clear() {
    let spec = json!({"podSelector": {"matchLabels": {"app": 7}}, "ingress": [{}]});
    let (policies, errors) = safe(&network_policy(&spec));
    let all = strict(&network_policy(&json!({})));
    assert_eq!(policies[0].subject, all.subject);
    assert_eq!((policies[0].directions, policies[0].ingress.len()), (Directions::INGRESS, 0));
    assert!(
        errors.starts_with("NetworkPolicy n/p: spec.podSelector.matchLabels.app: invalid type"),
        "{errors}"
    );
    // Those of the selectors that can be read still narrow it.
    let spec = json!({"selector": "((", "namespaceSelector": "has(x)", "ingress": [{"action": "Allow"}]});
    let (policies, _) = safe(&global_policy(&spec));
    assert_eq!(policies[0].subject, strict(&global_policy(&json!({"namespaceSelector": "has(x)"}))).subject);
    assert!(policies[0].ingress.is_empty());
}

#[test]
fn without_a_clear_position_a_policy_comes_first() {
    let spec = |tier: &str, order: &Value| json!({"tier": tier, "order": order, "ingress": [{"action": "Deny"}, {"action": "Allow"}]});
    let (policies, _) = safe(&global_policy(&spec("t", &json!("5"))));
    assert_eq!((policies[0].tier.as_str(), policies[0].order), ("t", Some(tier::first())));
    assert_eq!(policies[0].ingress, [Rule::new(Action::Deny)]);
    let (policies, _) = safe(&global_policy(&spec("T!", &json!(5))));
    assert_eq!(policies[0].tier, *tier::CLOSED);
    let (policies, _) =
        safe(&cluster_policy(&json!({"tier": "Basel", "priority": 7, "subject": {"namespaces": {}},
                "egress": [{"action": "Deny", "to": [{"namespaces": {}}]}]})));
    assert_eq!((policies[0].tier.as_str(), policies[0].order), ("kube-admin", Some(tier::first())));
    assert_eq!(
        (policies[0].directions, &policies[0].egress[..]),
        (Directions::EGRESS, &[Rule::new(Action::Deny)][..])
    );
}

#[test]
fn without_a_clear_placement_a_policy_denies_at_every_hook() {
    let spec = json!({"doNotTrack": "yes", "applyOnForward": true, "ingress": [{"action": "Deny"}]});
    let (policies, _) = safe(&global_policy(&spec));
    let placements: Vec<Placement> = policies.iter().map(|policy| policy.placement).collect();
    assert_eq!(placements, [Placement::ApplyOnForward, Placement::PreDnat, Placement::Untracked]);
    assert!(policies.iter().all(|policy| policy.ingress == [Rule::new(Action::Deny)]));
    // The policies beside its own go with it.
    let mut world = World::new(WorldOptions::new());
    world.put(observed(&global_policy(&spec)));
    world.put(observed(&global_policy(&json!({"ingress": [{"action": "Deny"}]}))));
    assert_eq!(model(&world).policies().len(), 1);
}

#[test]
fn an_unknown_field_of_the_spec_makes_the_rules_unclear() {
    let (policies, errors) =
        safe(&network_policy(&json!({"podSelector": {}, "ingress": [{}], "unheardOf": 1})));
    assert_eq!((policies[0].directions, policies[0].ingress.len()), (Directions::BOTH, 0));
    assert!(errors.starts_with("NetworkPolicy n/p: spec.unheardOf: unknown field `unheardOf`"), "{errors}");
}

#[test]
fn another_version_is_refused_whole() {
    let mut policy = network_policy(&json!({"podSelector": {"matchLabels": {"a": "b"}}, "ingress": [{}]}));
    policy["apiVersion"] = json!("networking.k8s.io/v2");
    let Relevance::Relevant(kind) = Kind::of("networking.k8s.io/v1", "NetworkPolicy") else { panic!() };
    for observed in [
        Observed::from_value(kind, policy.clone()).unwrap(),
        Observed::from_json(kind, policy.to_string().as_bytes()).unwrap(),
    ] {
        let mut world = World::new(WorldOptions::new());
        let changes = world.put(observed);
        assert_eq!(
            changes.refusals[0].errors.to_string(),
            "NetworkPolicy n/p: apiVersion: version `v2` of kind `NetworkPolicy` is not known, only `v1`"
        );
        let model = model(&world);
        let policy = model.policies().values().next().unwrap();
        assert_eq!(policy.subject, strict(&network_policy(&json!({}))).subject);
        assert_eq!((policy.directions, policy.ingress.len()), (Directions::BOTH, 0));
    }
}

#[test]
fn what_is_wrong_in_the_metadata_alone_takes_nothing_from_the_policy() {
    let spec = json!({"podSelector": {"matchLabels": {"a": "b"}}, "ingress": [{}]});
    let mut policy = network_policy(&spec);
    policy["metadata"]["unheardOf"] = json!(1);
    let (policies, errors) = safe(&policy);
    assert_eq!(policies, [strict(&network_policy(&spec))]);
    assert!(errors.contains("metadata.unheardOf"), "{errors}");
    // A text that says something twice is not clear, although a value of it looks so.
    let text = network_policy(&spec).to_string().replace("\"ingress\":", "\"ingress\":[],\"ingress\":");
    let observed = Observed::from_json(kind_of(&policy), text.as_bytes()).unwrap();
    let mut world = World::new(WorldOptions::new());
    let changes = world.put(observed);
    assert!(changes.refusals[0].errors.to_string().contains("duplicate field `ingress`"));
    assert!(model(&world).policies().values().next().unwrap().ingress.is_empty());
}

#[test]
fn the_last_good_policy_stays_when_asked_for() {
    let good = network_policy(&json!({"ingress": [{}]}));
    let bad = network_policy(&json!({"ingress": 7}));
    for (stands, expected) in
        [(UnreadablePolicy::SafeForm, Standing::SafeForm), (UnreadablePolicy::LastGood, Standing::LastGood)]
    {
        let mut world = World::new(WorldOptions::new().unreadable_policies(stands));
        assert_eq!(world.put(observed(&bad)).refusals[0].stands, Standing::SafeForm);
        world.put(observed(&good));
        let changes = world.put(observed(&bad));
        assert_eq!(
            (changes.refusals[0].stands, changes.updates.is_empty()),
            (expected, expected == Standing::LastGood)
        );
    }
}

/// A policy of very many bad rules costs no more for each of them.
#[test]
fn many_bad_rules_are_read_in_time() {
    let rules: Vec<Value> = (0..20_000).map(|_| json!({"from": [{"ipBlock": {"cidr": "x"}}]})).collect();
    let (policies, errors) = safe(&network_policy(&json!({"ingress": rules})));
    assert_eq!(policies[0].ingress.len(), 20_000);
    assert_eq!(errors.lines().count(), 100);
}
