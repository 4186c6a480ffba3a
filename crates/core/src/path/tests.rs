use alloc::string::{String, ToString};
use alloc::vec;
use core::cell::RefCell;
use core::net::IpAddr;

use super::*;
use crate::evaluate::Evaluate;
use crate::model::{Cluster, Endpoint, Node, Update};
use crate::packet::Protocol;
use crate::settings::{Settings, WorkloadToHost};

/// Answers Continue or Allow everywhere, and writes down what it was asked.
#[derive(Default)]
struct Notes {
    asked: RefCell<Vec<String>>,
    early: Option<Verdict>,
}

impl Evaluate for Notes {
    fn evaluate(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> Decision {
        self.asked.borrow_mut().push(alloc::format!("{hook} {endpoint} {}", packet.destination_port));
        let verdict = match hook {
            Hook::PreDnat => self.early.unwrap_or(Verdict::Continue),
            Hook::WorkloadIngress | Hook::WorkloadEgress | Hook::HostIngress | Hook::HostEgress => {
                Verdict::Allow
            }
            _ => Verdict::Continue,
        };
        Decision::new(verdict, Cause::NoPolicy)
    }
}

/// Nodes n1 to n3 with addresses 192.0.2.1 and so on, pods p1 to p3 on them with addresses 10.0.0.1 and so on, on each
/// node a host endpoint for the uplink (`u1`) and one for all interfaces (`w1`).
fn cluster() -> Cluster {
    let mut updates = Vec::new();
    for number in 1..=3_u8 {
        let node = Name::from(alloc::format!("n{number}"));
        let host = IpAddr::from([192, 0, 2, number]);
        updates.push(Update::Node(Node {
            name: node.clone(),
            labels: crate::label::Labels::new(),
            addresses: vec![host],
        }));
        let endpoint = |id, interface: Option<&str>, address: Option<IpAddr>| {
            let mut endpoint = Endpoint::new(id);
            endpoint.node = Some(node.clone());
            endpoint.interface = interface.map(Name::from);
            endpoint.addresses = address.into_iter().collect();
            Update::Endpoint(endpoint)
        };
        updates.push(endpoint(EndpointId::host(alloc::format!("u{number}")), Some("eth0"), Some(host)));
        updates.push(endpoint(EndpointId::host(alloc::format!("w{number}")), Some("*"), None));
        let pod = IpAddr::from([10, 0, 0, number]);
        updates.push(endpoint(EndpointId::workload("x", alloc::format!("p{number}")), None, Some(pod)));
    }
    updates.into_iter().collect()
}

fn pod(number: u8) -> End {
    End::Endpoint(EndpointId::workload("x", alloc::format!("p{number}")))
}

fn node(number: u8) -> End {
    End::Node(Name::from(alloc::format!("n{number}")))
}

/// The hooks of both sides, with the port that each sees: 30000 as sent, 80 after translation.
fn asked(from: &End, to: &End, translator: Option<u8>) -> [Vec<String>; 2] {
    let (cluster, settings) = (cluster(), Settings::default());
    let topology = Topology::new(&cluster, &settings);
    let addresses = [IpAddr::from([198, 51, 100, 1]), IpAddr::from([203, 0, 113, 1])];
    let packet = Packet::new(addresses[0], addresses[1], Protocol::TCP).to_port(80);
    let before = packet.clone().to_port(30_000);
    let translator = translator.map(|number| Name::from(alloc::format!("n{number}")));
    let translation = Translation { before: &before, node: translator.as_ref() };
    let notes = Notes::default();
    let answer = topology.decide_translated(&notes, from, to, &packet, translation);
    let all = notes.asked.into_inner();
    let first = answer.egress.map_or(0, |side| side.consulted.len());
    assert_eq!(answer.ingress.map_or(0, |side| side.consulted.len()), all.len() - first);
    [all[..first].to_vec(), all[first..].to_vec()]
}

#[test]
fn a_pod_asks_its_own_node_to_translate() {
    let [egress, ingress] = asked(&pod(1), &pod(2), None);
    assert_eq!(
        egress,
        [
            "pre-dnat hep/w1 30000",
            "forward-ingress hep/w1 80",
            "workload-egress x/p1 80",
            "forward-egress hep/u1 80"
        ]
    );
    assert_eq!(
        ingress,
        [
            "untracked-ingress hep/u2 80",
            "pre-dnat hep/u2 80",
            "forward-ingress hep/u2 80",
            "workload-ingress x/p2 80",
            "forward-egress hep/w2 80"
        ]
    );
    let [egress, ingress] = asked(&node(1), &pod(2), None);
    assert_eq!(egress, ["untracked-egress hep/u1 30000", "host-egress hep/u1 80"]);
    assert_eq!(ingress.len(), 5);
}

#[test]
fn a_node_port_of_a_node_in_between() {
    let [egress, ingress] = asked(&End::Outside, &pod(2), Some(3));
    assert!(egress.is_empty());
    let transit = [
        "untracked-ingress hep/u3 30000",
        "pre-dnat hep/u3 30000",
        "forward-ingress hep/u3 80",
        "forward-egress hep/u3 80",
    ];
    assert_eq!(ingress[..4], transit);
    assert_eq!(ingress[4..6], ["untracked-ingress hep/u2 80", "pre-dnat hep/u2 80"]);
    // The pod's own node knows nothing of the backend yet.
    let [egress, ingress] = asked(&pod(1), &pod(2), Some(3));
    assert_eq!(
        egress,
        [
            "pre-dnat hep/w1 30000",
            "forward-ingress hep/w1 30000",
            "workload-egress x/p1 30000",
            "forward-egress hep/u1 30000"
        ]
    );
    assert_eq!(ingress[..4], transit);
    // Back to the pod and the node that it came from, by way of another one: no exception holds.
    let [egress, ingress] = asked(&pod(1), &pod(1), Some(3));
    assert_eq!((egress.len(), ingress.len()), (4, 9));
    let [egress, ingress] = asked(&node(1), &pod(1), Some(3));
    assert_eq!((egress.len(), ingress.len()), (2, 9));
    let [_, ingress] = asked(&pod(1), &End::Outside, Some(3));
    assert_eq!(ingress, transit);
}

#[test]
fn a_node_port_of_the_node_of_the_backend() {
    for translator in [None, Some(2)] {
        let [_, ingress] = asked(&End::Outside, &pod(2), translator);
        assert_eq!(
            ingress,
            [
                "untracked-ingress hep/u2 30000",
                "pre-dnat hep/u2 30000",
                "forward-ingress hep/u2 80",
                "workload-ingress x/p2 80",
                "forward-egress hep/w2 80"
            ]
        );
    }
    let [_, ingress] = asked(&End::Outside, &node(2), Some(2));
    assert_eq!(
        ingress,
        ["untracked-ingress hep/u2 30000", "pre-dnat hep/u2 30000", "host-ingress hep/u2 80"]
    );
    let [egress, ingress] = asked(&pod(2), &node(2), Some(2));
    assert_eq!(egress, ["pre-dnat hep/w2 30000", "workload-egress x/p2 80"]);
    assert!(ingress.is_empty());
}

/// What `engine` says to a packet of `from` to `to` when host policy decides about traffic to the own node.
fn to_host(engine: &Notes, cluster: &Cluster, action: WorkloadToHost) -> FlowDecision {
    let settings = Settings::default().with_workload_to_host(action);
    let topology = Topology::new(cluster, &settings);
    let packet =
        Packet::new(IpAddr::from([10, 0, 0, 1]), IpAddr::from([192, 0, 2, 1]), Protocol::TCP).to_port(80);
    topology.decide(engine, &pod(1), &node(1), &packet)
}

#[test]
fn traffic_to_the_own_node_is_judged_by_the_endpoint_for_all_interfaces_alone() {
    let (with, notes) = (cluster(), Notes::default());
    assert!(to_host(&notes, &with, WorkloadToHost::HostPolicy).ingress.is_some());
    let wanted = ["pre-dnat hep/w1 80", "workload-egress x/p1 80", "host-ingress hep/w1 80"];
    assert_eq!(notes.asked.into_inner(), wanted);
    // A pre-DNAT Allow skips the endpoint's later hooks.
    let notes = Notes { early: Some(Verdict::Allow), ..Notes::default() };
    let ingress = to_host(&notes, &with, WorkloadToHost::HostPolicy).ingress.unwrap();
    assert_eq!(ingress.decision.cause, Cause::WorkloadToHost);
    assert_eq!(notes.asked.into_inner(), wanted[..2]);
    // An endpoint for one interface never sees what workloads send.
    let mut named = cluster();
    for number in 1..=3 {
        named.apply(Update::RemoveEndpoint(EndpointId::host(alloc::format!("w{number}"))));
    }
    let notes = Notes::default();
    let answer = to_host(&notes, &named, WorkloadToHost::HostPolicy);
    assert_eq!((answer.verdict, notes.asked.into_inner()), (Verdict::Allow, vec![wanted[1].to_string()]));
}

#[test]
fn a_node_without_host_endpoints_drops_what_its_workloads_send_when_told_to() {
    let mut bare = cluster();
    for id in bare.endpoints().keys().filter(|id| id.namespace.is_none()).cloned().collect::<Vec<_>>() {
        bare.apply(Update::RemoveEndpoint(id));
    }
    let answer = to_host(&Notes::default(), &bare, WorkloadToHost::Drop);
    assert_eq!(answer.ingress.unwrap().decision, Decision::new(Verdict::Deny, Cause::WorkloadToHost));
    let answer = to_host(&Notes::default(), &bare, WorkloadToHost::Accept);
    assert_eq!((answer.verdict, answer.ingress), (Verdict::Allow, None));
}

#[test]
fn two_pods_with_one_address_are_not_one() {
    let mut twins = cluster();
    let mut twin = Endpoint::new(EndpointId::workload("x", "twin"));
    (twin.addresses, twin.node) = (vec![IpAddr::from([10, 0, 0, 1])], Some("n2".into()));
    let id = End::Endpoint(twin.id.clone());
    twins.apply(Update::Endpoint(twin));
    let settings = Settings::default();
    let topology = Topology::new(&twins, &settings);
    let address = IpAddr::from([10, 0, 0, 1]);
    let packet = Packet::new(address, address, Protocol::TCP).to_port(80);
    let cause = |from: &End, to: &End| {
        topology.decide(&Notes::default(), from, to, &packet).ingress.map(|side| side.decision.cause)
    };
    assert_eq!(cause(&pod(1), &pod(1)), Some(Cause::Loopback));
    assert_eq!(cause(&pod(1), &id), Some(Cause::NoPolicy));
}
