//! Any bytes as objects: refused, or a model on which both engines agree.
#![no_main]

use std::str;

use libfuzzer_sys::fuzz_target;
use portcullis::compile::{CompileScope, Engine};
use portcullis::ir::Interpreter;
use portcullis::model::EndpointKind;
use portcullis::packet::{Packet, Protocol};
use portcullis::reference::{Reference, Settings};
use portcullis::scenario::{LoadOptions, Scenario};
use portcullis::verdict::Hook;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(scenario) = Scenario::parse("fuzz.yaml", text, LoadOptions::new()) else { return };
    let settings = Settings::default();
    let cluster = scenario.cluster();
    let mut engine = Engine::new(settings.clone(), CompileScope::All);
    for update in cluster.updates() {
        engine.apply(update).unwrap();
    }
    engine.commit();
    let (reference, tables) = (Reference::new(cluster, &settings), Interpreter::new(engine.snapshot()));
    let outside = "192.0.2.1".parse().unwrap();
    let inside = |address: &std::net::IpAddr| address.is_ipv4();
    for (id, endpoint) in cluster.endpoints().iter().take(4) {
        let Some(address) = endpoint.addresses.iter().copied().find(inside) else { continue };
        for hook in Hook::ALL {
            let workload = matches!(hook, Hook::WorkloadIngress | Hook::WorkloadEgress);
            if workload != (id.kind == EndpointKind::Workload) {
                continue;
            }
            for (source, destination) in [(outside, address), (address, outside)] {
                let packet = Packet::new(source, destination, Protocol::TCP).to_port(80);
                assert_eq!(reference.decide(id, hook, &packet), tables.decide(id, hook, &packet));
            }
        }
    }
});
