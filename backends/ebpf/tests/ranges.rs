//! Tables of any number of ranges, which the maps hold as lists, lists of lists, and pages. As root only.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use core::net::IpAddr;

use portcullis_core::backend::{Binding, Bindings, DesiredState, Interface};
use portcullis_core::compile::{CompileScope, Compiler};
use portcullis_core::ir::Interpreter;
use portcullis_core::model::{
    Action, Directions, Endpoint, EndpointId, EntityKinds, EntitySelector, L4Match, Policy, PolicyId,
    PortMatch, PortRange, Rule, Update,
};
use portcullis_core::packet::{Packet, Protocol};
use portcullis_core::selector::Selector;
use portcullis_core::settings::Settings;
use portcullis_core::verdict::{Hook, Verdict};
use portcullis_ebpf::oracle::Sandbox;
use portcullis_ebpf::{Lowering, Options, Write};
use portcullis_testkit::generate::Generator;
use portcullis_testkit::kernel_can_be_asked;

/// So many ranges of ports, none of which touch: their first and last ports.
fn ranges(generator: &mut Generator, count: u64) -> Vec<(u16, u16)> {
    let room = 65_000 / count;
    let range = |number: u64, generator: &mut Generator| {
        let first = 1 + number * room + generator.below(room / 3);
        // Single ports as often as not.
        let length = generator.below(2) * generator.below(room / 3);
        (u16::try_from(first).unwrap(), u16::try_from(first + length).unwrap())
    };
    (0..count).map(|number| range(number, generator)).collect()
}

fn matches(ranges: &[(u16, u16)]) -> Vec<PortMatch> {
    ranges.iter().map(|(first, last)| PortMatch::Range(PortRange::new(*first, *last).unwrap())).collect()
}

/// Each range has a rule of its own, so that no two have the same decision.
fn policy(l4: impl Iterator<Item = L4Match>) -> Policy {
    let expr = Selector::parse("all()").unwrap().into_expr();
    let subject = EntitySelector { kinds: EntityKinds::WORKLOAD, expr };
    let mut policy = Policy::new(
        PolicyId::new("NetworkPolicy", Some("shop".into()), "ports"),
        "default",
        subject,
        Directions::INGRESS,
    );
    policy.ingress = l4
        .map(|l4| {
            let mut rule = Rule::new(Action::Allow);
            rule.l4 = vec![l4];
            rule
        })
        .collect();
    policy
}

#[test]
fn the_kernel_finds_every_range_whatever_their_number() {
    if !kernel_can_be_asked() {
        println!("SKIPPED: no kernel was asked, that needs root");
        return;
    }
    let pod: IpAddr = "10.0.0.7".parse().unwrap();
    let peer: IpAddr = "10.0.0.8".parse().unwrap();
    let id = EndpointId::workload("shop", "web");
    let (mut asked, mut lists, mut pages) = (0, 0, 0);
    let mut generator = Generator::new(9);
    for (count, sources) in
        [(1, 0), (3, 0), (4, 0), (31, 0), (32, 0), (33, 0), (900, 0), (2, 3), (20, 5), (2, 40), (300, 40)]
    {
        let destinations = ranges(&mut generator, count);
        let from = if sources == 0 { Vec::new() } else { ranges(&mut generator, sources) };
        let protocols = [Protocol::TCP, Protocol::UDP, Protocol::SCTP];
        let l4 = destinations.iter().enumerate().map(|(number, range)| L4Match {
            protocol: protocols.get(number % 3).copied(),
            destination_ports: matches(&[*range]),
            source_ports: matches(&from),
            ..L4Match::default()
        });
        let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
        let mut web = Endpoint::new(id.clone());
        web.addresses = vec![pod];
        compiler.apply(Update::Endpoint(web)).unwrap();
        compiler.apply(Update::Policy(policy(l4))).unwrap();
        let _ = compiler.commit();
        let interface = Interface::new("if7").unwrap().with_index(7);
        let bindings = Bindings::from([(id.clone(), Binding::workload(interface, [pod]))]);
        let (lowering, update) =
            Lowering::fitting(Options::new(), DesiredState::new(compiler.snapshot(), &bindings)).unwrap();
        lists += update.writes().iter().filter(|write| matches!(write, Write::Runs(..))).count();
        pages += update.writes().iter().filter(|write| matches!(write, Write::Page(..))).count();
        let mut sandbox = Sandbox::of(&lowering, &update).unwrap();
        let interpreter = Interpreter::new(compiler.snapshot());
        let edges = |ranges: &[(u16, u16)]| -> Vec<u16> {
            let around = |(first, last): &(u16, u16)| [first - 1, *first, *last, last + 1];
            ranges.iter().flat_map(around).chain([0, u16::MAX]).collect()
        };
        let source_ports = if from.is_empty() { vec![40_000] } else { edges(&from) };
        for (number, port) in edges(&destinations).into_iter().enumerate() {
            for source_port in source_ports.iter().skip(number % 7).step_by(7).chain(source_ports.first()) {
                for protocol in protocols.into_iter().chain([Protocol(47)]) {
                    let packet = Packet::new(peer, pod, protocol).from_port(*source_port).to_port(port);
                    let decision = interpreter.decide(&id, Hook::WorkloadIngress, &packet);
                    let (passed, _) = sandbox.ask(7, Hook::WorkloadIngress, &packet).unwrap().unwrap();
                    assert_eq!(passed, decision.verdict == Verdict::Allow, "{count}, {sources}: {packet:?}");
                    asked += 1;
                }
            }
        }
    }
    println!("{asked} packets, {lists} lists, {pages} pages");
    assert!(lists > 0 && pages > 0);
}
