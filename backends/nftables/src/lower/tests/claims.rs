//! What workloads claim of themselves by ARP and by neighbour advertisements.

use std::net::IpAddr;

use portcullis_core::backend::{Binding, Bindings, DataplaneOptions, DesiredState, Interface, Lower as _};
use portcullis_core::compile::{CompileScope, Compiler};
use portcullis_core::model::{Endpoint, EndpointId, Update};
use portcullis_core::packet::{Packet, Protocol};
use portcullis_core::settings::Settings;

use super::table::{Destination, Table, Way};
use crate::command::AddressKind;
use crate::lower::Lowering;
use crate::options::Options;
use crate::update::Existing;

fn interface(name: &str) -> Interface {
    Interface::new(name).unwrap()
}

/// Two workloads behind one interface, one behind another, and one of any address.
fn table(options: DataplaneOptions) -> Table {
    let of = |on: &str, addresses: &[&str]| {
        Binding::workload(interface(on), addresses.iter().map(|text| text.parse().unwrap()))
    };
    let bindings = Bindings::from([
        (EndpointId::workload("t", "a"), of("cali0", &["10.0.0.1", "fd00::1"])),
        (EndpointId::workload("t", "b"), of("cali0", &["10.0.0.2", "fd00::2"])),
        (EndpointId::workload("t", "c"), of("cali1", &["10.0.0.3", "fd00::3"])),
        (EndpointId::workload("t", "any"), Binding::WorkloadAnyAddress { interface: interface("cali2") }),
    ]);
    let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
    for (id, _) in bindings.endpoints() {
        compiler.apply(Update::Endpoint(Endpoint::new(id.clone()))).unwrap();
    }
    drop(compiler.commit());
    let desired = DesiredState::new(compiler.snapshot(), &bindings);
    let (_, update) = Lowering::load(Options::from(options), desired, &Existing::default()).unwrap();
    let mut table = Table::default();
    update.stages().iter().for_each(|stage| table.apply(&stage.commands));
    table
}

fn named() -> DataplaneOptions {
    DataplaneOptions::new().with_workload_interfaces(interface("cali"))
}

#[test]
fn arp_names_addresses_of_the_sender_s_workloads() {
    let rows = [
        ("cali0", "10.0.0.1", true),
        ("cali0", "10.0.0.2", true),
        ("cali0", "10.0.0.3", false),
        ("cali1", "10.0.0.3", true),
        ("cali1", "10.0.0.1", false),
        ("cali1", "169.254.1.1", false),
        ("cali1", "0.0.0.0", true),
        ("cali1", "255.255.255.255", false),
        ("cali2", "192.0.2.1", true),
        ("eth0", "10.0.0.1", true),
        ("eth0", "192.0.2.1", true),
    ];
    let packet = Packet::new("fe80::1".parse().unwrap(), "fe80::2".parse().unwrap(), Protocol(0));
    for options in [DataplaneOptions::new(), named()] {
        let table = table(options.clone());
        for (input, sender, passes) in rows {
            let mut way = Way { arp: sender.parse().ok(), ..Way::through(&packet, input, "") };
            let fate = table.run("arp_input", &mut way);
            assert_eq!(fate.dropped, !passes, "{input} {sender}");
            assert_eq!(fate.counted.contains(&"arp_forged".to_owned()), !passes);
            // The node answers for whom it likes.
            let mut way = Way { arp: sender.parse().ok(), ..Way::through(&packet, "", input) };
            assert!(!table.run("arp_output", &mut way).dropped);
        }
        // Hardware addresses of another length: nobody knows where the sender is.
        let mut way = Way::through(&packet, "cali0", "");
        assert!(table.run("arp_input", &mut way).dropped);
        let unchecked = self::table(options.with_check_neighbour_claims(false));
        assert!(!unchecked.chains.keys().any(|name| name.starts_with("arp")));
    }
}

#[test]
fn advertisements_are_about_addresses_of_the_sender_s_workloads() {
    let rows = [
        ("cali0", "fd00::1", "fd00::1", true),
        ("cali0", "fd00::1", "fd00::2", true),
        ("cali0", "fd00::1", "fd00::3", false),
        ("cali1", "fd00::3", "fd00::1", false),
        ("cali1", "fd00::3", "2001:db8::1", false),
        ("cali1", "fd00::3", "fe80::1", false),
        ("cali1", "fe80::3", "fe80::3", true),
        ("cali1", "fe80::3", "fd00::3", true),
        ("cali1", "fe80::3", "fd00::1", false),
        ("cali2", "2001:db8::2", "2001:db8::1", true),
        ("eth0", "2001:db8::2", "fd00::1", true),
    ];
    for options in [DataplaneOptions::new(), named()] {
        for checks in [true, false] {
            let table = table(options.clone().with_check_neighbour_claims(checks));
            for (input, source, target, honest) in rows {
                for to in ["ff02::1", "fe80::1"] {
                    let [source, to] = [source, to].map(|text| text.parse::<IpAddr>().unwrap());
                    let packet = Packet::new(source, to, Protocol::ICMPV6).with_icmp(136, 0);
                    for hops in [255, 64] {
                        let mut way = Way::through(&packet, input, "");
                        (way.hops, way.target) = (hops, target.parse().unwrap());
                        way.destination = Destination::OfThisHost(AddressKind::Local);
                        let dropped = table.run("raw_prerouting", &mut way.clone()).dropped
                            || table.run("input", &mut way).dropped;
                        // Another hop limit is no discovery, so policy denies it; at eth0 there is none.
                        let passes = input == "eth0" || hops == 255 && (honest || !checks);
                        assert_eq!(dropped, !passes, "{input} {source} {target} {hops} {checks}");
                    }
                }
            }
        }
    }
}
