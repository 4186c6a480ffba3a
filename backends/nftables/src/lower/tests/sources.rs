//! Packets with an address that is not their sender's are dropped before connection tracking is asked.

use std::net::IpAddr;

use portcullis_core::backend::{Binding, Bindings, DataplaneOptions, DesiredState, Interface, Lower as _};
use portcullis_core::compile::{CompileScope, Compiler};
use portcullis_core::model::{Endpoint, EndpointId, Update};
use portcullis_core::packet::{Packet, Protocol};
use portcullis_core::settings::Settings;

use super::table::{Table, Way};
use crate::command::ConnectionState;
use crate::lower::Lowering;
use crate::options::Options;
use crate::update::Existing;

fn interface(name: &str) -> Interface {
    Interface::new(name).unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Two workloads behind one interface, one behind another, and one of any address. Policy is not asked here.
fn bindings() -> Bindings {
    let of = |on: &str, addresses: &[&str]| {
        Binding::workload(interface(on), addresses.iter().map(|text| address(text)))
    };
    Bindings::from([
        (EndpointId::workload("t", "a"), of("cali0", &["10.0.0.1", "fd00::1"])),
        (EndpointId::workload("t", "b"), of("cali0", &["10.0.0.2", "fd00::2"])),
        (EndpointId::workload("t", "c"), of("cali1", &["10.0.0.3", "fd00::3"])),
        (EndpointId::workload("t", "any"), Binding::WorkloadAnyAddress { interface: interface("cali2") }),
    ])
}

fn table(options: Options) -> Table {
    let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
    for (id, _) in bindings().endpoints() {
        compiler.apply(Update::Endpoint(Endpoint::new(id.clone()))).unwrap();
    }
    drop(compiler.commit());
    let bindings = bindings();
    let desired = DesiredState::new(compiler.snapshot(), &bindings);
    let (_, update) = Lowering::load(options, desired, &Existing::default()).unwrap();
    let mut table = Table::default();
    update.stages().iter().for_each(|stage| table.apply(&stage.commands));
    table
}

/// With and without names that tell workloads, and networks of theirs.
fn all_options() -> [Options; 3] {
    let named = DataplaneOptions::new().with_workload_interfaces(interface("cali"));
    let nets = named.clone().with_local_net("10.0.0.0/24".parse().unwrap());
    [Options::new(), named.into(), nets.with_local_net("fd00::/64".parse().unwrap()).into()]
}

#[test]
fn a_source_is_its_sender_s_whatever_connection_tracking_would_say() {
    let rows = [
        // Each sender, and what it may claim to be.
        ("cali0", ["10.0.0.1", "fd00::1"], true),
        ("cali0", ["10.0.0.2", "fd00::2"], true),
        ("cali0", ["10.0.0.3", "fd00::3"], false),
        ("cali1", ["10.0.0.1", "fd00::1"], false),
        ("cali1", ["10.0.0.3", "fd00::3"], true),
        ("cali1", ["192.0.2.1", "2001:db8::1"], false),
        ("cali1", ["0.0.0.0", "::"], false),
        ("cali1", ["127.0.0.1", "::1"], false),
        ("cali1", ["169.254.1.1", "fe80::1"], false),
        ("cali1", ["224.0.0.1", "ff02::1"], false),
        ("cali2", ["10.0.0.3", "fd00::3"], true),
        ("cali2", ["192.0.2.1", "fe80::1"], true),
        ("eth0", ["192.0.2.1", "2001:db8::1"], true),
        ("eth0", ["10.0.0.1", "fd00::1"], false),
        ("lo", ["10.0.0.1", "fd00::1"], true),
    ];
    for options in all_options() {
        let table = table(options.clone());
        for (input, sources, passes) in rows {
            for source in sources.map(address) {
                let to = address(if source.is_ipv4() { "10.0.0.9" } else { "fd00::9" });
                for protocol in [Protocol::TCP, Protocol::UDP, Protocol::ICMP, Protocol::ICMPV6, Protocol(47)]
                {
                    let packet = Packet::new(source, to, protocol).to_port(80).with_icmp(3, 0);
                    let fate = table.run("raw_prerouting", &mut Way::through(&packet, input, ""));
                    assert_eq!(fate.dropped, !passes, "{input} {source} {protocol}");
                    assert_eq!(fate.counted.contains(&"forged".to_owned()), !passes);
                }
            }
        }
        // The networks of the node's workloads are theirs, also an address that nobody has yet.
        let packet = Packet::new(address("10.0.0.77"), address("10.0.0.1"), Protocol::UDP);
        let dropped = table.run("raw_prerouting", &mut Way::through(&packet, "eth0", "")).dropped;
        assert_eq!(dropped, !options.shared.local_nets.is_empty());
    }
}

#[test]
fn what_is_about_a_flow_comes_from_its_ends_and_from_routers() {
    let rows = [
        ("cali1", ["10.0.0.1", "192.0.2.1"], false),
        ("cali1", ["10.0.0.3", "192.0.2.1"], true),
        ("cali1", ["192.0.2.1", "10.0.0.3"], true),
        ("cali1", ["fd00::1", "2001:db8::1"], false),
        ("cali1", ["2001:db8::1", "fd00::3"], true),
        ("cali2", ["10.0.0.1", "192.0.2.1"], true),
        ("eth0", ["10.0.0.1", "192.0.2.1"], true),
    ];
    for options in all_options() {
        let table = table(options);
        for (input, ends, passes) in rows {
            let flow = ends.map(address);
            let packet = Packet::new(flow[1], flow[0], Protocol::ICMP).with_icmp(3, 3);
            for chain in ["forward", "input"] {
                let mut way = Way::through(&packet, input, "");
                way.state = Some(ConnectionState::Related);
                way.flow = Some(flow);
                assert_eq!(table.run(chain, &mut way).dropped, !passes, "{chain} {input} {ends:?}");
            }
        }
    }
}
