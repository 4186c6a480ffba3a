//! Tunnels that end at the node are accepted from nodes only, where these are known.

use std::net::IpAddr;

use portcullis_core::backend::{Bindings, DataplaneOptions, DesiredState, Lower as _};
use portcullis_core::ir::Snapshot;
use portcullis_core::packet::{Packet, Protocol};

use super::table::{Table, Way};
use crate::command::ConnectionState;
use crate::lower::Lowering;
use crate::update::Existing;

#[test]
fn tunnels_come_from_nodes_whatever_connection_tracking_says() {
    let peers = ["172.16.0.0/24", "fd00:16::/64"].map(|text| text.parse().unwrap());
    for known in [&peers[..0], &peers[..1], &peers[..]] {
        let options =
            known.iter().fold(DataplaneOptions::new(), |options, net| options.with_tunnel_peers(*net));
        let (snapshot, bindings) = (Snapshot::new(), Bindings::new());
        let desired = DesiredState::new(&snapshot, &bindings);
        let (_, update) = Lowering::load(options.into(), desired, &Existing::default()).unwrap();
        let mut table = Table::default();
        update.stages().iter().for_each(|stage| table.apply(&stage.commands));
        let node: [IpAddr; 2] = ["172.16.0.1", "fd00:16::1"].map(|text| text.parse().unwrap());
        for (family, source, is_node) in [
            (0, "172.16.0.2", true),
            (0, "192.0.2.1", false),
            (1, "fd00:16::2", true),
            (1, "2001:db8::1", false),
        ] {
            let is_node = is_node && known.len() > family;
            for (protocol, port, tunnels) in [
                (Protocol(4), 0, true),
                (Protocol::UDP, 4789, true),
                (Protocol::UDP, 8472, true),
                (Protocol::UDP, 53, false),
                (Protocol::TCP, 4789, false),
                (Protocol(47), 0, false),
            ] {
                let packet = Packet::new(source.parse().unwrap(), node[family], protocol).to_port(port);
                for state in [ConnectionState::New, ConnectionState::Established] {
                    let mut way = Way::through(&packet, "eth0", "");
                    way.state = Some(state);
                    let fate = table.run("input", &mut way);
                    let dropped = !known.is_empty() && tunnels && !is_node;
                    assert_eq!(fate.dropped, dropped, "{known:?} {source} {protocol} {port}");
                    assert_eq!(fate.counted.contains(&"tunnels".to_owned()), dropped);
                }
            }
        }
    }
}
