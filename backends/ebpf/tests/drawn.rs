//! Measurements count every wrong verdict. As root only.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use core::net::IpAddr;

use portcullis_core::backend::{Binding, Bindings, DesiredState, Interface};
use portcullis_core::compile::{CompileScope, Compiler};
use portcullis_core::model::{
    Action, Directions, Endpoint, EndpointId, EntityKinds, EntityMatch, EntitySelector, L4Match, Policy,
    PolicyId, PortMatch, PortRange, Rule, Update,
};
use portcullis_core::packet::{Packet, Protocol};
use portcullis_core::selector::Selector;
use portcullis_core::settings::Settings;
use portcullis_ebpf::oracle::{Draws, END_WORDS, Sandbox, Tracking};
use portcullis_ebpf::{Lowering, Options};
use portcullis_testkit::kernel_can_be_asked;

/// Our programs and those of measurements.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../benches/bpf/measure.bpf.o");

/// Of two pods and two local workloads, in both families, the second pod may reach port 80 and nobody port 81.
fn compiler() -> (Compiler, Bindings) {
    let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
    let mut bindings = Bindings::new();
    for (number, name) in (1..).zip(["local-1", "local-2", "pod-1", "pod-2"]) {
        let mut endpoint = Endpoint::new(EndpointId::workload("test", name));
        endpoint.labels.insert("name", name);
        let addresses: [IpAddr; 2] =
            [format!("10.0.0.{number}").parse().unwrap(), format!("fd00::{number}").parse().unwrap()];
        endpoint.addresses = addresses.to_vec();
        if name.starts_with("local") {
            let interface = Interface::new(name).unwrap().with_index(10 + number);
            bindings.bind(endpoint.id.clone(), Binding::workload(interface, addresses));
        }
        compiler.apply(Update::Endpoint(endpoint)).unwrap();
    }
    let select = |text: &str| EntitySelector {
        kinds: EntityKinds::WORKLOAD,
        expr: Selector::parse(text).unwrap().into_expr(),
    };
    let mut rule = Rule::new(Action::Allow);
    rule.peers = vec![EntityMatch::select(select("name == 'pod-2'"))];
    rule.l4 = vec![L4Match {
        protocol: Some(Protocol::UDP),
        destination_ports: vec![PortMatch::Range(PortRange::single(80))],
        ..L4Match::default()
    }];
    let id = PolicyId::new("NetworkPolicy", Some("test".into()), "policy");
    let mut policy =
        Policy::new(id, "default", select("name in {'local-1', 'local-2'}"), Directions::INGRESS);
    policy.ingress = vec![rule];
    compiler.apply(Update::Policy(policy)).unwrap();
    let _ = compiler.commit();
    (compiler, bindings)
}

/// Packets from pods 1 and 2, of these classes, to ports 80 and 81 of both workloads; port 80 is said to be open to class 2.
fn draws(v6: bool, classes: [u16; 2]) -> Draws {
    let address = |number: u16| -> IpAddr {
        if v6 { format!("fd00::{number}") } else { format!("10.0.0.{number}") }.parse().unwrap()
    };
    let packet = Packet::new(address(3), address(1), Protocol::UDP).from_port(40_000).to_port(80);
    let peers = [3_u16, 4].iter().zip(classes).map(|(number, class)| [number.to_be(), class]).collect();
    let join = |a: u16, b: u16| {
        let ([a, b], [c, d]) = (a.to_ne_bytes(), b.to_ne_bytes());
        u32::from_ne_bytes([a, b, c, d])
    };
    let end = |number: u8| -> [u32; END_WORDS] {
        let last = if v6 { [0, 0, 0, number] } else { [10, 0, 0, number] };
        let (open, closed) = ([join(80_u16.to_be(), 2), 2], [join(81_u16.to_be(), 0), 1]);
        let services = [open, closed, open, closed].concat();
        let words = [&[u32::from_ne_bytes(last), 10 + u32::from(number)], &services[..]].concat();
        words.try_into().unwrap()
    };
    Draws::new(&packet, peers, vec![end(1), end(2)]).unwrap()
}

#[test]
fn drawn_packets_are_checked() {
    if !kernel_can_be_asked() {
        println!("SKIPPED: no kernel was asked, that needs root");
        return;
    }
    let (compiler, bindings) = compiler();
    let (lowering, update) =
        Lowering::fitting(Options::new(), DesiredState::new(compiler.snapshot(), &bindings)).unwrap();
    let mut checked = 0;
    for v6 in [false, true] {
        for tracking in [Tracking::Untracked, Tracking::Tracked] {
            let mut sandbox = Sandbox::measuring(OBJECT, &lowering, &update, tracking).unwrap();
            let right = draws(v6, [1, 2]);
            sandbox.draw(&right).unwrap();
            sandbox.time_drawn_nothing(&right, 1_000).unwrap();
            sandbox.time_drawn(&right, 1_000).unwrap();
            // The classes are exchanged: half of what goes to port 80 is to be let through, and is not.
            let wrong = draws(v6, [2, 1]);
            sandbox.draw(&wrong).unwrap();
            let error = sandbox.time_drawn(&wrong, 1_000).unwrap_err().to_string();
            let (count, _) = error.split_once(" of 1000 verdicts are wrong").unwrap();
            assert!((300..700).contains(&count.parse::<u32>().unwrap()), "{error}");
            sandbox.time_drawn_nothing(&wrong, 1_000).unwrap();
            checked += 1;
        }
    }
    println!("{checked} sandboxes, 1,000 right and 1,000 wrong verdicts each");
}
