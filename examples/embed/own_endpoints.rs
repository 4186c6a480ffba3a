//! Policy without Kubernetes: endpoints, labels and rules of your own, compiled and asked on the fast path.
#![allow(
    clippy::print_stdout,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "an example: a program that prints, with the standard library"
)]

use core::net::IpAddr;

use portcullis::compile::{CompileScope, Compiler};
use portcullis::matcher::{Matcher, PacketKey};
use portcullis::model::{
    Action, Directions, Endpoint, EndpointId, EntityKinds, EntityMatch, EntitySelector, L4Match, Policy,
    PolicyId, PortMatch, PortRange, Rule, Update,
};
use portcullis::packet::{Packet, Protocol};
use portcullis::selector::Selector;
use portcullis::settings::Settings;
use portcullis::verdict::Hook;

const SENSOR: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(10, 1, 0, 7));
const BROKER: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(10, 1, 0, 1));

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let select = |text: &str| -> Result<EntitySelector, Box<dyn std::error::Error>> {
        let expr = Selector::parse(text)?.into_expr();
        Ok(EntitySelector { kinds: EntityKinds::WORKLOAD, expr })
    };
    let endpoint = |name: &str, role: &str, address| {
        let mut endpoint = Endpoint::new(EndpointId::workload("plant", name));
        endpoint.labels.insert("role", role);
        endpoint.addresses = vec![address];
        Update::Endpoint(endpoint)
    };

    // Sensors may publish to the broker, and nobody else may reach it.
    let mut rule = Rule::new(Action::Allow);
    rule.peers = vec![EntityMatch::select(select("role == 'sensor'")?)];
    rule.l4 = vec![L4Match {
        protocol: Some(Protocol::TCP),
        destination_ports: vec![PortMatch::Range(PortRange::single(8883))],
        ..L4Match::default()
    }];
    let id = PolicyId::new("Policy", None, "broker");
    let mut policy = Policy::new(id, "default", select("role == 'broker'")?, Directions::INGRESS);
    policy.ingress = vec![rule];

    let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
    compiler.apply(endpoint("sensor", "sensor", SENSOR))?;
    compiler.apply(endpoint("broker", "broker", BROKER))?;
    compiler.apply(Update::Policy(policy))?;
    let _ = compiler.commit();

    let matcher = Matcher::lower(compiler.snapshot())?;
    let broker = matcher.handle(&EndpointId::workload("plant", "broker")).ok_or("the broker is not known")?;
    for (from, port) in [(SENSOR, 8883), (SENSOR, 22), (IpAddr::from([192, 0, 2, 1]), 8883)] {
        let packet = Packet::new(from, BROKER, Protocol::TCP).to_port(port);
        // The fast path takes a key and gives a verdict; `decide` also tells the cause.
        let key = PacketKey::new(&packet).ok_or("addresses of two families")?;
        let verdict = matcher.verdict(broker, Hook::WorkloadIngress, &key);
        let cause = matcher.decide(broker, Hook::WorkloadIngress, &packet).cause;
        println!("{from} -> broker port {port}: {verdict} ({cause})");
    }
    Ok(())
}
