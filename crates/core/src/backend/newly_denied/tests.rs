use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use crate::backend::{
    Binding, Bindings, DataplaneOptions, DesiredState, Inspected, Interface, NewlyDenied, NodeInterfaces,
    TrackedAt, TrackedFlow,
};
use crate::compile::{CompileScope, Compiler};
use crate::ir::{Previous, Snapshot};
use crate::label::{Labels, Scope};
use crate::model::{
    Action, Directions, Endpoint, EndpointId, EntityKinds, EntityMatch, EntitySelector, HttpMatch, Placement,
    Policy, PolicyId, Rule, Update,
};
use crate::packet::{Packet, Protocol};
use crate::selector::{Expr, LabelRef};
use crate::settings::{Settings, WorkloadToHost};

use Placement::{ApplyOnForward, Normal, PreDnat};

const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";
const OUTSIDE: &str = "192.0.2.1";
const ELSEWHERE: &str = "192.0.2.2";
const NODE: &str = "198.51.100.1";
const LOOPBACK: &str = "127.0.0.1";
const SERVICE: &str = "10.96.0.1";

/// Indexes of interfaces.
const POD_A: u32 = 4;
const POD_B: u32 = 5;
const UP: u32 = 6;
const OTHER: u32 = 7;

fn labels(app: &str) -> Labels {
    let mut labels = Labels::new();
    labels.insert("app", app);
    labels
}

fn policy(name: &str, app: &str, placement: Placement, directions: Directions, rule: Rule) -> Update {
    let expr = Expr::Eq(LabelRef::new(Scope::Own, "app"), app.into());
    let subject = EntitySelector { kinds: EntityKinds::CALICO, expr };
    let mut policy =
        Policy::new(PolicyId::new("GlobalNetworkPolicy", None, name), "default", subject, directions);
    policy.placement = placement;
    if directions.ingress {
        policy.ingress.push(rule.clone());
    }
    if directions.egress {
        policy.egress.push(rule);
    }
    Update::Policy(policy)
}

/// Who has a policy of its own in a world.
#[derive(Clone, Copy, Debug)]
enum Whose {
    /// The workload `a`; all others allow everything.
    A,
    /// The host endpoint for all interfaces.
    All,
    /// The host endpoint of the uplink.
    Up,
}

/// Pods `a` and `b`, and the host endpoints `all` and `up`. `whose` has these policies of one rule; the pods have one
/// that allows everything otherwise.
fn world_of(whose: Whose, policies: &[(Placement, Directions, Rule)]) -> Snapshot {
    let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
    for (name, address) in [("a", A), ("b", B)] {
        let mut pod = Endpoint::new(EndpointId::workload("shop", name));
        pod.labels = labels(name);
        pod.addresses.push(address.parse().unwrap());
        compiler.apply(Update::Endpoint(pod)).unwrap();
    }
    for (name, interface) in [("all", "*"), ("up", "up")] {
        let mut host = Endpoint::new(EndpointId::host(name));
        host.labels = labels(name);
        host.interface = Some(interface.into());
        compiler.apply(Update::Endpoint(host)).unwrap();
    }
    let app = match whose {
        Whose::A => "a",
        Whose::All => "all",
        Whose::Up => "up",
    };
    for pod in ["a", "b"].into_iter().filter(|pod| *pod != app) {
        compiler.apply(policy(pod, pod, Normal, Directions::BOTH, allows())).unwrap();
    }
    for (at, (placement, directions, rule)) in policies.iter().enumerate() {
        let name = format!("{app}-{at}");
        compiler.apply(policy(&name, app, *placement, *directions, rule.clone())).unwrap();
    }
    let _ = compiler.commit();
    compiler.snapshot().clone()
}

/// The same with one policy.
fn world(whose: Whose, placement: Placement, directions: Directions, rule: &Rule) -> Snapshot {
    world_of(whose, &[(placement, directions, rule.clone())])
}

fn without(snapshot: &Snapshot, id: &EndpointId) -> Snapshot {
    let mut less = snapshot.clone();
    assert!(less.endpoints.remove(id).is_some());
    less
}

fn interface(name: &str, index: u32) -> Interface {
    Interface::new(name).unwrap().with_index(index)
}

fn pods() -> Bindings {
    let pod = |name: &str, index, address: &str| {
        let interface = interface(&format!("pod-{name}"), index);
        (EndpointId::workload("shop", name), Binding::workload(interface, [address.parse().unwrap()]))
    };
    Bindings::from([pod("a", POD_A, A), pod("b", POD_B, B)])
}

fn with_all(mut bindings: Bindings) -> Bindings {
    let interfaces = vec![interface("other", OTHER)];
    bindings.bind(EndpointId::host("all"), Binding::AllInterfaces { interfaces });
    bindings
}

fn with_up(mut bindings: Bindings) -> Bindings {
    bindings.bind(EndpointId::host("up"), Binding::Host { interfaces: vec![interface("up", UP)] });
    bindings
}

fn node() -> NodeInterfaces {
    NodeInterfaces::new().with_interface("up", UP).with_address("up", NODE.parse().unwrap())
}

fn between(source: &str, destination: &str) -> Packet {
    Packet::new(source.parse().unwrap(), destination.parse().unwrap(), Protocol::TCP)
        .from_port(40_000)
        .to_port(80)
}

fn flow(at: TrackedAt, source: &str, destination: &str) -> TrackedFlow {
    let packet = between(source, destination);
    TrackedFlow { arrived: packet.clone(), packet, at }
}

fn sent(index: u32, source: &str, destination: &str) -> TrackedFlow {
    flow(TrackedAt::Interface { index, from_endpoint: true }, source, destination)
}

fn received(index: u32, source: &str, destination: &str) -> TrackedFlow {
    flow(TrackedAt::Interface { index, from_endpoint: false }, source, destination)
}

fn tracked(source: &str, destination: &str) -> TrackedFlow {
    flow(TrackedAt::Node, source, destination)
}

/// A change of policy, and where.
struct Change<'a> {
    before: &'a Snapshot,
    after: &'a Snapshot,
    bindings: &'a Bindings,
    options: DataplaneOptions,
}

impl<'a> Change<'a> {
    fn new(before: &'a Snapshot, after: &'a Snapshot, bindings: &'a Bindings) -> Self {
        Self { before, after, bindings, options: DataplaneOptions::new() }
    }

    fn denies(&self, flow: &TrackedFlow) -> bool {
        let desired = DesiredState::new(self.after, self.bindings);
        let node = node();
        NewlyDenied::new(Previous::from(self.before), desired, &self.options, &node).contains(flow)
    }
}

const FORWARD_IN: (Placement, Directions) = (ApplyOnForward, Directions::INGRESS);
const FORWARD_OUT: (Placement, Directions) = (ApplyOnForward, Directions::EGRESS);
const BEFORE: (Placement, Directions) = (PreDnat, Directions::INGRESS);

fn allows() -> Rule {
    Rule::new(Action::Allow)
}

fn denies() -> Rule {
    Rule::new(Action::Deny)
}

fn inspects() -> Rule {
    Rule { http: Some(HttpMatch { methods: vec!["GET".into()], paths: Vec::new() }), ..allows() }
}

#[test]
fn what_the_endpoint_for_all_interfaces_denies_now() {
    let bindings = with_all(pods());
    for hook @ (placement, directions) in [FORWARD_IN, FORWARD_OUT, BEFORE] {
        let open = world(Whose::All, placement, directions, &allows());
        let shut = world(Whose::All, placement, directions, &denies());
        // Flows from before the endpoint was there count, too.
        let none = without(&open, &EndpointId::host("all"));
        for old in [&open, &none] {
            let (shuts, opens) = (Change::new(old, &shut, &bindings), Change::new(old, &open, &bindings));
            let in_the_way = [(A, B), (A, OUTSIDE), (OUTSIDE, B), (OUTSIDE, ELSEWHERE)];
            for (source, destination) in in_the_way {
                let flow = tracked(source, destination);
                assert!(shuts.denies(&flow), "{hook:?} {source} {destination}");
                assert!(!opens.denies(&flow), "{hook:?} {source} {destination}");
            }
            // The node reaches its pods; a pod reaches itself and the node, but for pre-DNAT policy.
            for node in [LOOPBACK, NODE] {
                assert!(!shuts.denies(&tracked(node, B)), "{hook:?}");
                assert!(!shuts.denies(&tracked(node, LOOPBACK)), "{hook:?}");
                assert_eq!(shuts.denies(&tracked(A, node)), hook == BEFORE, "{hook:?}");
            }
            assert_eq!(shuts.denies(&tracked(A, A)), hook == BEFORE, "{hook:?}");
            // The same where each interface has an entry: the sender's, and the receiver's.
            let at_sender = hook != FORWARD_OUT;
            let (sent, received) = (sent(POD_A, A, B), received(POD_B, A, B));
            assert_eq!(shuts.denies(&sent), at_sender, "{hook:?}");
            assert_eq!(shuts.denies(&received), !at_sender, "{hook:?}");
            assert!(!opens.denies(&sent) && !opens.denies(&received), "{hook:?}");
        }
    }
}

#[test]
fn another_host_endpoint_may_be_that_of_the_uplink() {
    let both = with_up(with_all(pods()));
    for (hook @ (placement, directions), leaves, enters) in
        [(FORWARD_IN, true, false), (FORWARD_OUT, false, true), (BEFORE, true, false)]
    {
        let open = world(Whose::All, placement, directions, &allows());
        let none = without(&open, &EndpointId::host("all"));
        let shut = world(Whose::All, placement, directions, &denies());
        let change = Change::new(&none, &shut, &both);
        assert_eq!(change.denies(&tracked(A, OUTSIDE)), leaves, "{hook:?}");
        assert_eq!(change.denies(&tracked(OUTSIDE, B)), enters, "{hook:?}");
    }
}

#[test]
fn what_a_workload_denies_now() {
    let open = world(Whose::A, Normal, Directions::BOTH, &allows());
    let (ingress, egress) = (Directions::INGRESS, Directions::EGRESS);
    let no_ingress = world_of(Whose::A, &[(Normal, ingress, denies()), (Normal, egress, allows())]);
    let no_egress = world_of(Whose::A, &[(Normal, ingress, allows()), (Normal, egress, denies())]);
    let gone = without(&open, &EndpointId::workload("shop", "a"));
    // Whatever guards the uplink, which nothing tells here, it stays as it is.
    for bindings in [pods(), with_all(pods()), with_up(pods()), with_up(with_all(pods()))] {
        for (after, sends, receives) in
            [(&no_ingress, false, true), (&no_egress, true, false), (&gone, true, true)]
        {
            let change = Change::new(&open, after, &bindings);
            for peer in [B, OUTSIDE] {
                assert_eq!(change.denies(&tracked(A, peer)), sends, "{peer}");
                assert_eq!(change.denies(&tracked(peer, A)), receives, "{peer}");
                assert_eq!(change.denies(&sent(POD_A, A, peer)), sends, "{peer}");
                assert_eq!(change.denies(&received(POD_A, peer, A)), receives, "{peer}");
            }
            assert!(!change.denies(&sent(POD_B, B, A)) && !change.denies(&received(POD_B, A, B)));
            // From the node, to itself, of no workload, at an interface that nobody has.
            for (source, destination) in [(NODE, A), (A, A), (OUTSIDE, ELSEWHERE)] {
                assert!(!change.denies(&tracked(source, destination)), "{source} {destination}");
            }
            assert!(!change.denies(&received(POD_A, NODE, A)) && !change.denies(&sent(POD_A, A, A)));
            assert!(!change.denies(&sent(99, A, B)));
            assert_eq!(change.denies(&sent(POD_A, A, NODE)), sends);
            assert_eq!(change.denies(&tracked(A, NODE)), sends);
        }
        // It was denied before, or it is allowed now.
        assert!(!Change::new(&no_ingress, &no_ingress, &bindings).denies(&tracked(B, A)));
        assert!(!Change::new(&no_ingress, &open, &bindings).denies(&tracked(B, A)));
    }
}

#[test]
fn what_an_http_rule_decides_is_denied_where_it_is_dropped() {
    let before = world(Whose::A, Normal, Directions::INGRESS, &allows());
    let after = world(Whose::A, Normal, Directions::INGRESS, &inspects());
    let bindings = pods();
    for (inspected, is_denied) in [(Inspected::Drop, true), (Inspected::HandOver, false)] {
        let options = DataplaneOptions::new().with_inspected(inspected);
        let change = Change { options, ..Change::new(&before, &after, &bindings) };
        assert_eq!(change.denies(&tracked(B, A)), is_denied, "{inspected:?}");
        assert_eq!(change.denies(&received(POD_A, B, A)), is_denied, "{inspected:?}");
    }
    // At a pre-DNAT hook, too.
    let before = world(Whose::All, PreDnat, Directions::INGRESS, &allows());
    let after = world(Whose::All, PreDnat, Directions::INGRESS, &inspects());
    let bindings = with_all(pods());
    for (inspected, is_denied) in [(Inspected::Drop, true), (Inspected::HandOver, false)] {
        let options = DataplaneOptions::new().with_inspected(inspected);
        let change = Change { options, ..Change::new(&before, &after, &bindings) };
        assert_eq!(change.denies(&tracked(A, B)), is_denied, "{inspected:?}");
        assert_eq!(change.denies(&sent(POD_A, A, B)), is_denied, "{inspected:?}");
    }
}

#[test]
fn what_the_endpoint_of_an_interface_denies_now() {
    // Hook, and whether it decides traffic to the node, of the node, and what is forwarded in and out there.
    let table = [
        (Normal, Directions::INGRESS, [true, false, false, false]),
        (Normal, Directions::EGRESS, [false, true, false, false]),
        (ApplyOnForward, Directions::INGRESS, [true, false, true, false]),
        (ApplyOnForward, Directions::EGRESS, [false, true, false, true]),
        (PreDnat, Directions::INGRESS, [true, false, true, false]),
    ];
    for (placement, directions, [to_node, of_node, forwarded_in, forwarded_out]) in table {
        let open = world(Whose::Up, placement, directions, &allows());
        let shut = world(Whose::Up, placement, directions, &denies());
        let what = format!("{placement:?} {directions:?}");
        for bindings in [with_up(pods()), with_up(with_all(pods()))] {
            let change = Change::new(&open, &shut, &bindings);
            assert_eq!(change.denies(&received(UP, OUTSIDE, NODE)), to_node, "{what}");
            assert_eq!(change.denies(&sent(UP, NODE, OUTSIDE)), of_node, "{what}");
            assert_eq!(change.denies(&received(UP, OUTSIDE, B)), forwarded_in, "{what}");
            assert_eq!(change.denies(&sent(UP, A, OUTSIDE)), forwarded_out, "{what}");
            assert!(!change.denies(&received(OTHER, OUTSIDE, NODE)), "{what}");
            // Where flows are tracked for the node, its address tells the interface. What is forwarded may have come in
            // and gone out elsewhere.
            assert_eq!(change.denies(&tracked(OUTSIDE, NODE)), to_node, "{what}");
            assert_eq!(change.denies(&tracked(NODE, OUTSIDE)), of_node, "{what}");
            assert!(!change.denies(&tracked(OUTSIDE, B)) && !change.denies(&tracked(A, OUTSIDE)), "{what}");
            assert!(!change.denies(&tracked(NODE, LOOPBACK)) && !change.denies(&tracked(NODE, B)), "{what}");
        }
    }
}

#[test]
fn an_uplink_is_guarded_by_nobody() {
    let open = world(Whose::All, Normal, Directions::BOTH, &allows());
    let shut = world(Whose::All, Normal, Directions::BOTH, &denies());
    let mut bindings = with_all(pods());
    assert!(Change::new(&open, &shut, &bindings).denies(&tracked(OUTSIDE, NODE)));
    bindings.uplink(interface("up", UP));
    let change = Change::new(&open, &shut, &bindings);
    assert!(!change.denies(&tracked(OUTSIDE, NODE)) && !change.denies(&tracked(NODE, OUTSIDE)));
    assert!(!change.denies(&received(UP, OUTSIDE, NODE)));
    assert!(change.denies(&received(OTHER, OUTSIDE, NODE)));
}

#[test]
fn what_workloads_send_to_the_node() {
    let open = world(Whose::All, Normal, Directions::INGRESS, &allows());
    let shut = world(Whose::All, Normal, Directions::INGRESS, &denies());
    let bindings = with_all(pods());
    for (action, is_denied) in
        [(WorkloadToHost::Accept, false), (WorkloadToHost::Drop, false), (WorkloadToHost::HostPolicy, true)]
    {
        let options = DataplaneOptions::new().with_workload_to_host(action);
        let change = Change { options, ..Change::new(&open, &shut, &bindings) };
        assert_eq!(change.denies(&tracked(A, NODE)), is_denied, "{action:?}");
        // The entry of the node has it, not that of the interface.
        assert!(!change.denies(&sent(POD_A, A, NODE)), "{action:?}");
        assert_eq!(change.denies(&received(0, A, NODE)), is_denied, "{action:?}");
    }
}

#[test]
fn pre_dnat_policy_sees_the_destination_before_it_is_rewritten() {
    let net = "10.96.0.0/16".parse().unwrap();
    let rule = Rule { local: EntityMatch { nets: vec![net], ..EntityMatch::default() }, ..denies() };
    let open = world(Whose::All, PreDnat, Directions::INGRESS, &allows());
    let shut = world(Whose::All, PreDnat, Directions::INGRESS, &rule);
    let bindings = with_all(pods());
    let change = Change::new(&open, &shut, &bindings);
    let through = TrackedFlow { arrived: between(A, SERVICE), ..tracked(A, B) };
    assert!(change.denies(&through) && !change.denies(&tracked(A, B)));
}

#[test]
fn what_a_workload_sends_to_a_service_is_decided_where_it_leaves() {
    let net = "10.96.0.0/16".parse().unwrap();
    let (open, shut) = (
        world(Whose::A, Normal, Directions::EGRESS, &allows()),
        world(Whose::A, Normal, Directions::EGRESS, &denies()),
    );
    let bindings = with_up(with_all(pods()));
    let options = DataplaneOptions::new().with_services(net);
    let change = Change { options: options.clone(), ..Change::new(&open, &shut, &bindings) };
    assert!(!change.denies(&sent(POD_A, A, SERVICE)), "noted without a decision");
    assert!(change.denies(&sent(POD_A, A, OUTSIDE)), "the entry with the real destination");
    assert!(Change::new(&open, &shut, &bindings).denies(&sent(POD_A, A, SERVICE)), "no service here");
    // Pre-DNAT policy was asked before.
    let (open, shut) = (
        world(Whose::All, PreDnat, Directions::INGRESS, &allows()),
        world(Whose::All, PreDnat, Directions::INGRESS, &denies()),
    );
    let change = Change { options: options.clone(), ..Change::new(&open, &shut, &bindings) };
    assert!(change.denies(&sent(POD_A, A, SERVICE)));
    // So it was at a host's interface, and its other hooks were not.
    for (placement, is_denied) in [(PreDnat, true), (ApplyOnForward, false)] {
        let open = world(Whose::Up, placement, Directions::INGRESS, &allows());
        let shut = world(Whose::Up, placement, Directions::INGRESS, &denies());
        let change = Change { options: options.clone(), ..Change::new(&open, &shut, &bindings) };
        assert_eq!(change.denies(&received(UP, OUTSIDE, SERVICE)), is_denied, "{placement:?}");
    }
}

#[test]
fn a_workload_that_source_nat_hides_is_known_by_its_interface() {
    let nets = vec![format!("{A}/32").parse().unwrap()];
    let rule = Rule { local: EntityMatch { nets, ..EntityMatch::default() }, ..denies() };
    let open = world(Whose::A, Normal, Directions::EGRESS, &allows());
    let shut = world(Whose::A, Normal, Directions::EGRESS, &rule);
    let bindings = pods();
    let change = Change::new(&open, &shut, &bindings);
    assert!(change.denies(&sent(POD_A, NODE, OUTSIDE)));
    assert!(!change.denies(&sent(POD_B, NODE, OUTSIDE)));
    assert!(!change.denies(&sent(POD_A, "2001:db8::1", "2001:db8::2")), "it has no address of this family");
    assert!(!change.denies(&sent(POD_A, B, OUTSIDE)), "another workload's");
}

#[test]
fn a_workload_with_any_address() {
    let open = world(Whose::A, Normal, Directions::BOTH, &allows());
    let shut = world(Whose::A, Normal, Directions::BOTH, &denies());
    let mut bindings = pods();
    let id = EndpointId::workload("shop", "a");
    bindings.bind(id.clone(), Binding::WorkloadAnyAddress { interface: interface("pod-a", POD_A) });
    let change = Change::new(&open, &shut, &bindings);
    // Its interface tells.
    assert!(change.denies(&sent(POD_A, A, B)) && change.denies(&sent(POD_A, ELSEWHERE, B)));
    assert!(change.denies(&received(POD_A, B, A)) && change.denies(&sent(POD_A, A, A)));
    assert!(!change.denies(&received(POD_A, NODE, A)));
    // Where flows are tracked for the node, the address of its object does.
    assert!(!change.denies(&tracked(A, B)));
    let mut endpoint = Endpoint::new(id);
    endpoint.addresses.push(A.parse().unwrap());
    let objects = [Update::Endpoint(endpoint)].into_iter().collect();
    let (desired, node) = (DesiredState::new(&shut, &bindings), node());
    let knowing =
        NewlyDenied::new(Previous::from(&open), desired, &change.options, &node).with_objects(&objects);
    assert!(knowing.contains(&tracked(A, B)) && knowing.contains(&tracked(OUTSIDE, A)));
    assert!(!knowing.contains(&tracked(OUTSIDE, B)));
}

#[test]
fn several_workloads_share_an_interface() {
    let open = world(Whose::A, Normal, Directions::BOTH, &allows());
    let shut = world(Whose::A, Normal, Directions::BOTH, &denies());
    let mut bindings = pods();
    let shared = Binding::workload(interface("pod-a", POD_A), [B.parse().unwrap()]);
    bindings.bind(EndpointId::workload("shop", "b"), shared);
    let change = Change::new(&open, &shut, &bindings);
    assert!(change.denies(&sent(POD_A, A, OUTSIDE)) && change.denies(&received(POD_A, OUTSIDE, A)));
    assert!(!change.denies(&sent(POD_A, B, OUTSIDE)) && !change.denies(&received(POD_A, OUTSIDE, B)));
    assert!(!change.denies(&sent(POD_A, NODE, OUTSIDE)), "it may be of the one that is allowed");
}

#[test]
fn an_exemption_opens_its_own_hook_alone() {
    // Port 22 is a failsafe of the node's host endpoints: pre-DNAT policy exempts it, and forward policy has its say.
    let open = world(Whose::All, ApplyOnForward, Directions::INGRESS, &allows());
    let shut = world(Whose::All, ApplyOnForward, Directions::INGRESS, &denies());
    let bindings = with_all(pods());
    let change = Change::new(&open, &shut, &bindings);
    for mut flow in [tracked(A, OUTSIDE), sent(POD_A, A, OUTSIDE)] {
        flow.packet.destination_port = 22;
        flow.arrived.destination_port = 22;
        assert!(change.denies(&flow), "{flow:?}");
    }
    // An Allow of a rule ends what the host endpoint has to say.
    let freed = world_of(
        Whose::All,
        &[(PreDnat, Directions::INGRESS, allows()), (ApplyOnForward, Directions::INGRESS, denies())],
    );
    let change = Change::new(&open, &freed, &bindings);
    for flow in [tracked(A, OUTSIDE), sent(POD_A, A, OUTSIDE), tracked(OUTSIDE, B)] {
        assert!(!change.denies(&flow), "{flow:?}");
    }
}

#[test]
fn interfaces_are_known_by_name_where_no_index_is_given() {
    let open = world(Whose::Up, Normal, Directions::INGRESS, &allows());
    let shut = world(Whose::Up, Normal, Directions::INGRESS, &denies());
    let mut bindings = pods();
    let up = Interface::new("up").unwrap();
    bindings.bind(EndpointId::host("up"), Binding::Host { interfaces: vec![up] });
    assert!(Change::new(&open, &shut, &bindings).denies(&received(UP, OUTSIDE, NODE)));
}
