//! A policy that does not fit closes its own subjects, and everybody else is served.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use core::net::Ipv4Addr;

use portcullis::backend::{Binding, DataplaneOptions, Interface};
use portcullis::compile::{CompileLimits, CompileScope, Compiler};
use portcullis::label::Name;
use portcullis::local_node::{ChangeError, Changed, LocalNode};
use portcullis::model::{
    Endpoint, EndpointId, EntityMatch, EntitySelector, L4Match, Policy, PolicyId, Rule, RuleBuilder, Update,
};
use portcullis::net::Cidr;
use portcullis::packet::{Packet, Protocol};
use portcullis::settings::Settings;
use portcullis_testkit::recording::Recorder;
use portcullis_testkit::tenant::PRODUCTS;

/// Pods by namespace, address and interface. All but `client` have a policy of their namespace.
const PODS: [(&str, &str, &str); 4] = [
    ("client", "10.0.0.1", "veth-client"),
    ("greedy", "10.0.0.2", "veth-greedy"),
    ("modest", "10.0.0.3", "veth-modest"),
    ("late", "10.0.0.4", "veth-late"),
];

fn node(recorder: &Recorder) -> LocalNode {
    node_within(CompileLimits::new(), recorder)
}

fn node_within(limits: CompileLimits, recorder: &Recorder) -> LocalNode {
    let compiler = Compiler::new(Settings::default(), CompileScope::All).with_limits(limits);
    let mut node = LocalNode::new(compiler, recorder.open(DataplaneOptions::new())).unwrap();
    let changed = node.change(|change| {
        for (namespace, address, interface) in PODS {
            let id = EndpointId::workload(namespace, "pod");
            let mut pod = Endpoint::new(id.clone());
            pod.addresses.push(address.parse().unwrap());
            change.apply(Update::Endpoint(pod));
            change
                .bind(id, Binding::workload(Interface::new(interface).unwrap(), [address.parse().unwrap()]));
        }
    });
    assert_eq!(changed.unwrap().closed, []);
    node
}

fn id(namespace: &str, name: &str) -> PolicyId {
    PolicyId::new("NetworkPolicy", Some(namespace.into()), name)
}

/// Port 80 from anyone, and port 1 to `networks` from as many networks that are classes of their own.
fn policy(namespace: &str, name: &str, networks: u16) -> Policy {
    let subject = EntitySelector::workloads("all()").unwrap().in_namespace(namespace);
    // No two policies share one.
    let place = PODS.iter().position(|(name, ..)| *name == namespace).unwrap();
    let number: usize = name.trim_start_matches("p-").parse().unwrap_or(99);
    let network = |at: u16| -> RuleBuilder {
        let address = 0xC000_0000 + (place * 100 + number) * 0x1_0000 + usize::from(at) * 16;
        let address = Ipv4Addr::from_bits(u32::try_from(address).unwrap());
        let net = Cidr::new(address.into(), 28).unwrap();
        Rule::allow().from(EntityMatch::nets(vec![net])).to_port(L4Match::tcp(1 + at))
    };
    let rules = core::iter::once(Rule::allow().to_port(L4Match::tcp(80)));
    Policy::ingress(id(namespace, name), subject, rules.chain((0..networks).map(network)))
}

fn apply(node: &mut LocalNode, policies: impl IntoIterator<Item = Policy>) -> Result<Changed, ChangeError> {
    node.change(|change| policies.into_iter().for_each(|policy| change.apply(Update::Policy(policy))))
}

/// Whether the client reaches port 80 of the pod in a namespace. Every flow is a new one.
fn serves(recorder: &Recorder, namespace: &str, source_port: u16) -> bool {
    let (_, address, interface) = PODS.iter().find(|(name, ..)| *name == namespace).unwrap();
    let mut packet =
        Packet::new("10.0.0.1".parse().unwrap(), address.parse().unwrap(), Protocol::TCP).to_port(80);
    packet.source_port = source_port;
    recorder.send("veth-client", interface, &packet)
}

fn closed(node: &LocalNode) -> Vec<PolicyId> {
    node.closed_policies().map(|closed| closed.policy).collect()
}

/// The client may send: its own hook has no policy, which denies without a profile.
fn client() -> Policy {
    let subject = EntitySelector::workloads("all()").unwrap();
    Policy::egress(PolicyId::new("GlobalNetworkPolicy", None, "out"), subject, [Rule::allow()])
}

#[test]
fn the_policy_that_does_not_fit_closes_its_own_subjects_only() {
    let recorder = Recorder::default();
    let mut node = node(&recorder);
    recorder.limit_classes(20);
    let served = apply(&mut node, [client(), policy("greedy", "p", 2), policy("modest", "p", 3)]).unwrap();
    assert_eq!(served.closed, []);
    assert!(serves(&recorder, "greedy", 1) && serves(&recorder, "modest", 1));

    // Too large: its subjects are closed, the others go on, and the event names it with the reason.
    let changed = apply(&mut node, [policy("greedy", "p", 500)]).unwrap();
    assert!(changed.applied.is_complete() && node.is_current());
    let [one] = &changed.closed[..] else { panic!("{changed:?}") };
    assert_eq!(one.policy, id("greedy", "p"));
    assert!(one.to_string().starts_with("NetworkPolicy greedy/p: everything is denied"), "{one}");
    assert!(one.reason.to_string().contains("`classes` holds 20"), "{one}");
    assert!(!serves(&recorder, "greedy", 2) && serves(&recorder, "modest", 2));

    // Changes of others are in force as if it were not there.
    let changed = apply(&mut node, [policy("late", "p", 4)]).unwrap();
    assert_eq!((changed.closed, closed(&node)), (vec![], vec![id("greedy", "p")]));
    assert!(serves(&recorder, "late", 3) && !serves(&recorder, "greedy", 3));

    // Telling it again costs no further try.
    let refused = recorder.refused_for_room();
    assert_eq!(apply(&mut node, [policy("greedy", "p", 500)]).unwrap().closed, []);
    assert_eq!(recorder.refused_for_room(), refused);

    // It shrinks: it is in force as it is written.
    let changed = apply(&mut node, [policy("greedy", "p", 1)]).unwrap();
    assert_eq!((changed.closed, closed(&node)), (vec![], vec![]));
    assert!(serves(&recorder, "greedy", 4));
    assert_eq!(node.cluster().policies()[&id("greedy", "p")], policy("greedy", "p", 1));
}

#[test]
fn a_closed_policy_opens_when_others_make_room() {
    let recorder = Recorder::default();
    let mut node = node(&recorder);
    recorder.limit_classes(20);
    let _ = apply(&mut node, [client(), policy("modest", "p", 10)]).unwrap();
    assert_eq!(apply(&mut node, [policy("greedy", "p", 12)]).unwrap().closed.len(), 1);
    assert!(!serves(&recorder, "greedy", 1));
    let changed = node.change(|change| change.apply(Update::RemovePolicy(id("modest", "p")))).unwrap();
    assert_eq!(changed.reopened, [id("greedy", "p")]);
    assert_eq!(closed(&node), []);
    assert!(serves(&recorder, "greedy", 2));
    // And when the limit grew, which only the dataplane knows: some calls of `maintain` later.
    assert_eq!(apply(&mut node, [policy("greedy", "p", 100)]).unwrap().closed.len(), 1);
    recorder.limit_classes(200);
    let calls = (0..200).find(|_| {
        let _ = node.maintain().unwrap();
        closed(&node).is_empty()
    });
    assert!(calls.is_some() && serves(&recorder, "greedy", 3));
}

/// A kernel that refuses the way back, and has no room after it: the policy is still the one that is closed.
#[test]
fn a_way_back_that_is_refused_leaves_the_policy_closed() {
    let recorder = Recorder::default();
    let mut node = node(&recorder);
    recorder.limit_classes(20);
    let _ = apply(&mut node, [client(), policy("modest", "p", 10)]).unwrap();
    assert_eq!(apply(&mut node, [policy("greedy", "p", 100)]).unwrap().closed.len(), 1);
    recorder.limit_classes(200);
    let refused = (0..200).find_map(|_| {
        recorder.refuse_after(0);
        node.maintain().err()
    });
    assert!(matches!(refused, Some(ChangeError::Dataplane(_))), "{refused:?}");
    assert_eq!(closed(&node), [id("greedy", "p")]);
    assert!(!serves(&recorder, "greedy", 1) && serves(&recorder, "modest", 1));
    recorder.limit_classes(20);
    let _ = node.maintain().unwrap();
    assert_eq!(closed(&node), [id("greedy", "p")]);
    assert!(node.is_current() && !serves(&recorder, "greedy", 2) && serves(&recorder, "modest", 2));
    assert_ne!(node.cluster().policies()[&id("greedy", "p")], policy("greedy", "p", 100));
}

#[test]
fn one_that_is_removed_is_forgotten() {
    let recorder = Recorder::default();
    let mut node = node(&recorder);
    recorder.limit_classes(5);
    let _ = apply(&mut node, [client(), policy("greedy", "p", 50)]).unwrap();
    assert_eq!(closed(&node), [id("greedy", "p")]);
    let changed = node.change(|change| change.apply(Update::RemovePolicy(id("greedy", "p")))).unwrap();
    assert_eq!((changed.closed, closed(&node)), (vec![], vec![]));
    assert!(node.cluster().policies().get(&id("greedy", "p")).is_none());
}

/// A fresh start, where all policies are new at once: those of the tenant that asks for most are closed, the fewest that help.
#[test]
fn a_start_closes_the_policies_of_the_tenant_that_asks_for_most() {
    let recorder = Recorder::default();
    recorder.limit_classes(40);
    let mut node = node(&recorder);
    let greedy = (0..30).map(|at| policy("greedy", &format!("p-{at:02}"), 3 + at));
    let all: Vec<Policy> = [client(), policy("modest", "large", 12)].into_iter().chain(greedy).collect();
    let changed = apply(&mut node, all).unwrap();
    assert!(!changed.closed.is_empty() && changed.closed.len() < 30, "{:?}", changed.closed);
    assert!(changed.closed.iter().all(|closed| closed.policy.namespace.as_deref() == Some("greedy")));
    assert_eq!(changed.closed.len(), closed(&node).len());
    // The policies before the closed ones still decide: each is closed at its place.
    assert!(serves(&recorder, "modest", 1) && serves(&recorder, "greedy", 1));
    // One fewer would not do.
    let smallest = closed(&node).into_iter().min().unwrap();
    let written: Policy =
        policy("greedy", &smallest.name, 3 + smallest.name.trim_start_matches("p-").parse::<u16>().unwrap());
    let mut again = written.clone();
    again.order = Some(portcullis::model::Order::from(7));
    assert_eq!(apply(&mut node, [again]).unwrap().closed.len(), 1);
}

/// Pods can be what is too many: then the policies in force that tell them apart are closed.
#[test]
fn pods_that_do_not_fit_close_the_policies_that_tell_them_apart() {
    let recorder = Recorder::default();
    let mut node = node(&recorder);
    let subject = EntitySelector::workloads("all()").unwrap().in_namespace("greedy");
    let rules = (0..60_u16).map(|at| {
        let from = EntitySelector::workloads(&format!("number == '{at}'")).unwrap().in_namespace("greedy");
        Rule::allow().from(from).to_port(L4Match::tcp(1_000 + at))
    });
    let telling = Policy::ingress(id("greedy", "p"), subject, rules);
    let _ = apply(&mut node, [client(), policy("modest", "p", 3), telling]).unwrap();
    recorder.limit_classes(20);
    let mut told = Vec::new();
    for number in 0..60 {
        let mut pod = Endpoint::new(EndpointId::workload("greedy", format!("pod-{number}")));
        pod.labels = core::iter::once((Name::new("number"), Name::from(number.to_string()))).collect();
        pod.addresses.push(format!("10.9.0.{number}").parse().unwrap());
        let changed = node.change(|change| change.apply(Update::Endpoint(pod))).unwrap();
        told.extend(changed.closed.into_iter().map(|closed| closed.policy));
    }
    assert_eq!(told, [id("greedy", "p")]);
    assert!(serves(&recorder, "modest", 1));
}

/// What would be as large as a product of two of its sizes is closed by the compiler's limits alone.
#[test]
fn a_policy_that_is_a_product_is_closed_and_others_are_served() {
    let recorder = Recorder::default();
    let mut node = node_within(CompileLimits::new().with_steps(20_000).with_predicates(20_000), &recorder);
    let _ = apply(&mut node, [client(), policy("modest", "p", 3)]).unwrap();
    let mut source_port = 0;
    for shape in PRODUCTS {
        let product = |size| {
            let found = (shape.objects)(size).into_iter().find_map(|update| match update {
                Update::Policy(policy) => Some(policy),
                _ => None,
            });
            let subject = EntitySelector::workloads("all()").unwrap().in_namespace("greedy");
            Policy { id: id("greedy", "p"), subject, ..found.unwrap() }
        };
        source_port += 1;
        let changed = apply(&mut node, [product(400), policy("late", "p", 2)]).unwrap();
        assert!(node.is_current());
        let closed: Vec<_> = changed.closed.iter().map(|closed| closed.policy.clone()).collect();
        assert_eq!(closed, [id("greedy", "p")], "{}", shape.name);
        assert!(serves(&recorder, "modest", source_port) && serves(&recorder, "late", source_port));
        assert!(!serves(&recorder, "greedy", source_port), "{}", shape.name);
        let changed = apply(&mut node, [product(4)]).unwrap();
        assert_eq!((changed.closed, self::closed(&node)), (vec![], vec![]), "{}", shape.name);
    }
}

/// What no policy is to blame for closes none.
#[test]
fn where_closing_does_not_help_nothing_is_closed() {
    let recorder = Recorder::default();
    let mut node = node(&recorder);
    let _ = apply(&mut node, [client(), policy("modest", "p", 3)]).unwrap();
    recorder.limit_classes(0);
    let refused = apply(&mut node, [policy("greedy", "p", 3)]);
    assert!(matches!(refused, Err(ChangeError::Dataplane(_))), "{refused:?}");
    assert_eq!(closed(&node), []);
    assert_eq!(node.cluster().policies()[&id("greedy", "p")], policy("greedy", "p", 3));
    assert!(serves(&recorder, "modest", 1));
    recorder.limit_classes(50);
    assert_eq!(node.catch_up().unwrap().closed, []);
    assert!(node.is_current() && serves(&recorder, "greedy", 1));
}
