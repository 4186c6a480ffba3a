//! ICMPv6 discovery: as a way for data, and as it has to work.

use std::net::{IpAddr, Ipv6Addr};

use crate::frames::{ICMPV6, Ip};
use crate::table::{Expected, Table, Unguarded};
use crate::world::Who::{B, C, Far, N, Node, Outside, Second, Stranger};
use crate::world::{Family, World};

/// Group membership, routers, neighbours, redirects, and what is near them.
const TYPES: [u8; 12] = [130, 131, 132, 133, 134, 135, 136, 137, 141, 142, 143, 151];

/// With 600 bytes, to whom the sender may not send.
pub(crate) fn as_data(table: &mut Table, world: &World) {
    let v6 = |who| world.address(who, Family::V6);
    let data = |mark: &[u8]| [&[0; 4][..], mark, &[0x61; 580]].concat();
    for kind in TYPES {
        for hops in [64, 255, 1] {
            // A router does not pass on what may make no further hop.
            let unguarded = if hops == 1 { Unguarded::KernelDrops } else { Unguarded::Arrives };
            for to in [B, C, Far, Outside] {
                let name = format!("ICMPv6 {kind} with data to {to}, {hops} hops");
                table.add(name, N, Expected::Dropped, unguarded, |mark| {
                    let packet = Ip::icmp(v6(N), v6(to), kind, 0, &data(mark)).hops(hops);
                    vec![world.link(N).ip(&packet)]
                });
            }
            // With one hop, the other hears of it from the node, as often as the kernel allows.
            if hops != 1 {
                table.attack(format!("ICMPv6 {kind} as another to C, {hops} hops"), N, |mark| {
                    vec![world.link(N).ip(&Ip::icmp(v6(Outside), v6(C), kind, 0, &data(mark)).hops(hops))]
                });
            }
            if hops == 64 {
                table.attack(format!("ICMPv6 {kind} from outside to C, {hops} hops"), Stranger, |mark| {
                    vec![
                        world
                            .link(Stranger)
                            .ip(&Ip::icmp(v6(Stranger), v6(C), kind, 0, &data(mark)).hops(hops)),
                    ]
                });
            }
        }
        // From the link-local address of the next router, behind which nobody is on the link of C.
        let name = format!("ICMPv6 {kind} from a link-local address outside to C");
        table.dropped_anyway(name, Second, |mark| {
            let packet = Ip::icmp("fe80::2".parse().unwrap(), v6(C), kind, 0, &data(mark)).hops(255);
            vec![world.link(Second).ip(&packet)]
        });
        let to = world.address(Node, Family::V6);
        table.attack(format!("ICMPv6 {kind} with data to the node, 64 hops"), N, |mark| {
            vec![world.link(N).ip(&Ip::icmp(v6(N), to, kind, 0, &data(mark)).hops(64))]
        });
        table.attack(format!("ICMPv6 {kind} as another to the node"), N, |mark| {
            vec![world.link(N).ip(&Ip::icmp(v6(C), to, kind, 0, &data(mark)).hops(255))]
        });
        for to in [B, Far, Outside] {
            table.attack(format!("protocol 58 type {kind} in IPv4 to {to}"), N, |mark| {
                let [source, to] = [N, to].map(|who| world.address(who, Family::V4));
                let body = [&[kind, 0, 0, 0][..], &data(mark)].concat();
                vec![world.link(N).ip(&Ip::new(source, to, ICMPV6, &body).hops(255))]
            });
        }
    }
}

/// Neighbours and routers are found by one who may send nothing.
pub(crate) fn real(table: &mut Table, world: &World) {
    let own = world.link(N).own;
    let gateway: Ipv6Addr = "fe80::1".parse().unwrap();
    let group: IpAddr = "ff02::1:ff00:1".parse().unwrap();
    let link_local: IpAddr = "fe80::77".parse().unwrap();
    let solicit = |source: IpAddr, to: IpAddr, mark: &[u8]| {
        let address = if source.is_unspecified() { Vec::new() } else { [&[1, 1][..], &own].concat() };
        // An option of an unknown type is passed over.
        let option = [&[253, 3][..], mark, &[0; 6]].concat();
        let rest = [&[0; 4][..], &gateway.octets(), &address, &option].concat();
        Ip::icmp(source, to, 135, 0, &rest).hops(255)
    };
    let ask = |table: &mut Table, name: &str, source: IpAddr, to: IpAddr| {
        let name = format!("neighbour solicitation from {name}");
        table.passes(name, N, Node, |mark| vec![world.link(N).ip(&solicit(source, to, mark))]);
    };
    ask(table, "its address", world.address(N, Family::V6), group);
    ask(table, "a link-local address", link_local, group);
    ask(table, "its address to the router's", world.address(N, Family::V6), gateway.into());
    for hops in [254, 64, 1] {
        table.attack(format!("neighbour solicitation with {hops} hops"), N, |mark| {
            vec![world.link(N).ip(&solicit(link_local, group, mark).hops(hops))]
        });
    }
    let other = world.address(B, Family::V6);
    table.attack("neighbour solicitation as another".into(), N, |mark| {
        vec![world.link(N).ip(&solicit(other, group, mark))]
    });
    table.passes("router solicitation".into(), N, Node, |mark| {
        let option = [&[253, 3][..], mark, &[0; 6]].concat();
        let rest = [&[0; 4][..], &[1, 1], &own, &option].concat();
        vec![world.link(N).ip(&Ip::icmp(link_local, "ff02::2".parse().unwrap(), 133, 0, &rest).hops(255))]
    });
}
