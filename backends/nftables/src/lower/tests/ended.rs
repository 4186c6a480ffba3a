//! Flows that were ended: their other end does not begin them again, their first end is asked about.

use std::net::IpAddr;

use portcullis_core::backend::{Bindings, DataplaneOptions, DesiredState, Ended, Lower as _};
use portcullis_core::ir::Snapshot;
use portcullis_core::net::IpVersion;
use portcullis_core::packet::{Packet, Protocol};

use super::table::{Table, Way};
use crate::command::{Command, ConnectionState, Element, Elements, SetKind, Value};
use crate::lower::Lowering;
use crate::lower::base_names::{BaseNames, Ports};
use crate::options::Options;
use crate::update::Existing;

fn table(options: Options) -> Table {
    let (snapshot, bindings) = (Snapshot::new(), Bindings::new());
    let desired = DesiredState::new(&snapshot, &bindings);
    let (_, update) = Lowering::load(options, desired, &Existing::default()).unwrap();
    let mut table = Table::default();
    update.stages().iter().for_each(|stage| table.apply(&stage.commands));
    table
}

fn end(table: &mut Table, packet: &Packet, ports: Ports) {
    let (set, key) = BaseNames::ended(IpVersion::of(&packet.source), ports);
    let number = |number| Value::Number(number);
    let [source, destination] = [packet.source, packet.destination].map(Value::Address);
    let protocol = number(packet.protocol.0.into());
    let values = match ports {
        Ports::Some => {
            vec![protocol, source, number(packet.source_port), destination, number(packet.destination_port)]
        }
        Ports::None => vec![protocol, source, destination],
    };
    let elements = vec![Element { key: values, target: None }];
    table.apply(&[Command::AddElements(Elements { set, key, kind: SetKind::Timed(60), elements })]);
}

#[test]
fn the_other_end_does_not_begin_an_ended_flow_again() {
    let [a, b, c, d] =
        ["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"].map(|text| text.parse::<IpAddr>().unwrap());
    for (client, server) in [(a, b), (c, d)] {
        for (protocol, ports) in [
            (Protocol::TCP, Ports::Some),
            (Protocol::UDP, Ports::Some),
            (Protocol::SCTP, Ports::Some),
            (Protocol(33), Ports::Some),
            (Protocol(47), Ports::None),
        ] {
            for ended in [Ended::Drop, Ended::Reset] {
                let mut table = table(DataplaneOptions::new().with_ended(ended).into());
                let answer = Packet::new(server, client, protocol).from_port(80).to_port(40_000);
                let other = answer.clone().from_port(81);
                let first = Packet::new(client, server, protocol).from_port(40_000).to_port(80);
                let run = |table: &Table, chain: &str, packet: &Packet, state, syn| {
                    let mut way = Way::through(packet, "eth0", "eth1");
                    (way.state, way.syn) = (Some(state), syn);
                    table.run(chain, &mut way)
                };
                for chain in ["forward", "input", "output"] {
                    assert!(!run(&table, chain, &answer, ConnectionState::New, false).dropped);
                }
                end(&mut table, &answer, ports);
                for chain in ["forward", "input", "output"] {
                    let fate = run(&table, chain, &answer, ConnectionState::New, false);
                    assert!(fate.dropped, "{chain} {protocol}");
                    assert_eq!(fate.counted, ["ended"]);
                    assert_eq!(fate.reset, ended == Ended::Reset && protocol == Protocol::TCP);
                    // A flow that policy allowed since, the first packet of a connection, what the first end sends, another flow.
                    for (packet, state, syn) in [
                        (&answer, ConnectionState::Established, false),
                        (&answer, ConnectionState::New, true),
                        (&first, ConnectionState::New, false),
                        (&other, ConnectionState::New, false),
                    ] {
                        let fate = run(&table, chain, packet, state, syn);
                        let same =
                            protocol != Protocol::TCP && syn || ports == Ports::None && packet == &other;
                        assert_eq!(fate.dropped, same, "{chain} {packet:?} {state:?} {syn}");
                    }
                }
            }
        }
    }
}
