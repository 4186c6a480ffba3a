//! Any bytes as objects: refused, or a model on which both engines agree. One mistake in a policy among them is refused,
//! left out with a word about it, or allows no more.
#![no_main]

use std::net::IpAddr;
use std::str;

use libfuzzer_sys::fuzz_target;
use portcullis::compile::{CompileScope, Compiler};
use portcullis::ir::Interpreter;
use portcullis::model::{Cluster, EndpointKind};
use portcullis::packet::{Packet, Protocol};
use portcullis::reference::Reference;
use portcullis::scenario::{LoadOptions, Scenario};
use portcullis::verdict::Hook;
use portcullis_testkit::mutate::{self, Outcome};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(scenario) = Scenario::parse("fuzz.yaml", text, LoadOptions::new()) else { return };
    // Any number that depends on the input: another byte is another mistake.
    let seed = bytes.iter().fold(0u64, |seed, byte| seed.rotate_left(7) ^ u64::from(*byte));
    let outcome = mutate::check(text, seed);
    assert!(!matches!(outcome, Outcome::Wider(..)), "{outcome}");

    let settings = scenario.settings().clone();
    let cluster = scenario.cluster();
    let compiler = Compiler::from_cluster(cluster.clone(), settings.clone(), CompileScope::All).unwrap();
    let (reference, tables) = (Reference::new(cluster, &settings), Interpreter::new(compiler.snapshot()));
    for (id, endpoint) in cluster.endpoints().iter().take(4) {
        for hook in Hook::ALL {
            let workload = matches!(hook, Hook::WorkloadIngress | Hook::WorkloadEgress);
            if workload != (id.kind == EndpointKind::Workload) {
                continue;
            }
            for packet in endpoint.addresses.iter().take(2).flat_map(|own| packets(*own, cluster)) {
                let decision = reference.decide(id, hook, &packet);
                assert_eq!(decision, tables.decide(id, hook, &packet), "{id} {hook} {packet:?}");
                assert_eq!(decision, reference.explain(id, hook, &packet).0, "explained");
            }
        }
    }
});

/// Packets between `own` and an outside address or one of the cluster, both ways, of several protocols.
fn packets(own: IpAddr, cluster: &Cluster) -> Vec<Packet> {
    let outside: IpAddr =
        if own.is_ipv4() { [192, 0, 2, 1].into() } else { [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into() };
    let known = cluster.endpoints().values().flat_map(|endpoint| &endpoint.addresses);
    let peer = known.copied().find(|address| *address != own && address.is_ipv4() == own.is_ipv4());
    let icmp = if own.is_ipv4() { Protocol::ICMP } else { Protocol::ICMPV6 };
    let ways = [Some(outside), peer].into_iter().flatten().flat_map(|far| [(far, own), (own, far)]);
    ways.flat_map(|(source, destination)| {
        let packet = |protocol| Packet::new(source, destination, protocol);
        [
            packet(Protocol::TCP).to_port(80).from_port(40_000),
            packet(Protocol::TCP).to_port(2379),
            packet(Protocol::UDP).to_port(53),
            packet(Protocol::SCTP),
            packet(icmp).with_icmp(8, 0),
            packet(Protocol(47)),
        ]
    })
    .collect()
}
