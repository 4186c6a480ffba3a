//! Takes real decisions with the reference evaluator in a program that has no standard library.
//!
//! Exit code 0: every decision is the right one. 1: one is wrong. 101: panic.
#![no_std]
#![no_main]

extern crate alloc;

mod runtime;

use alloc::vec;
use core::net::{IpAddr, Ipv4Addr};

use portcullis_core::label::Labels;
use portcullis_core::model::{
    Action, Cluster, DefaultAction, Directions, Endpoint, EndpointId, EntityKinds, EntityMatch,
    EntitySelector, L4Match, Policy, PolicyId, PortMatch, PortRange, Rule, Tier, Update,
};
use portcullis_core::packet::{Packet, Protocol};
use portcullis_core::reference::Reference;
use portcullis_core::selector::Selector;
use portcullis_core::settings::Settings;
use portcullis_core::verdict::{Hook, Verdict};
// Linked although nothing of it is called here: linking is what fails when a crate needs std.
use portcullis_k8s as _;
use portcullis_matcher as _;
// Likewise, a dependency that nothing names is not linked.
#[cfg(feature = "control-std")]
use serde as _;

/// Whether the evaluator lets the summary service reach the database, and nobody else.
fn decides() -> bool {
    let address = |last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
    let pod = |name: &str, last| {
        let mut endpoint = Endpoint::new(EndpointId::workload("yaobank", name));
        endpoint.labels = Labels::from_iter([("app", name)]);
        endpoint.addresses = vec![address(last)];
        endpoint
    };
    let select = |text: &str| {
        let expr = Selector::parse(text).ok()?.into_expr();
        Some(EntitySelector { kinds: EntityKinds::WORKLOAD, expr })
    };
    let (Some(database), Some(summary), Some(port)) =
        (select("app == 'database'"), select("app in {'summary'}"), PortRange::new(2379, 2380))
    else {
        return false;
    };

    let mut rule = Rule::new(Action::Allow);
    rule.peers = vec![EntityMatch::select(summary)];
    rule.l4 = vec![L4Match {
        protocol: Some(Protocol::TCP),
        destination_ports: vec![PortMatch::Range(port)],
        ..L4Match::default()
    }];
    let id = PolicyId::new("NetworkPolicy", Some("yaobank".into()), "database-policy");
    let mut policy = Policy::new(id.clone(), "default", database, Directions::INGRESS);
    policy.ingress = vec![rule];

    let tier = Tier { name: "default".into(), order: None, default_action: DefaultAction::Deny };
    let cluster = Cluster::from_iter([
        Update::Tier(tier),
        Update::Policy(policy),
        Update::Endpoint(pod("customer", 1)),
        Update::Endpoint(pod("summary", 2)),
        Update::Endpoint(pod("database", 3)),
    ]);
    let settings = Settings::default();
    let reference = Reference::new(&cluster, &settings);

    let cases = [
        (2, Protocol::TCP, 2379, Verdict::Allow),
        (1, Protocol::TCP, 2379, Verdict::Deny),
        (2, Protocol::UDP, 2379, Verdict::Deny),
        (2, Protocol::TCP, 2381, Verdict::Deny),
    ];
    cases.into_iter().all(|(from, protocol, port, expected)| {
        let packet = Packet::new(address(from), address(3), protocol).to_port(port);
        let endpoint = EndpointId::workload("yaobank", "database");
        let decision = reference.decide(&endpoint, Hook::WorkloadIngress, &packet);
        decision.verdict == expected && decision.cause.policy() == Some(&id)
    })
}
