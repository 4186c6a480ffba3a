//! Packets inside packets.

use std::net::IpAddr;

use crate::frames::{IPIP, IPV4, IPV6, Ip, Link, vxlan};
use crate::table::Table;
use crate::world::Who::{A, C, Far, N, Node, Outside, Second, Stranger};
use crate::world::{FAMILIES, Family, OVERLAY, Who, World};

/// A pod sends encapsulated packets: to its node, which unwraps them, and to others. No policy holds A back.
pub(crate) fn of_pods(table: &mut Table, world: &World) {
    for (by, inner) in [A, N].into_iter().flat_map(|by| FAMILIES.map(|family| (by, family))) {
        for source in [Outside, A] {
            let name = format!("VXLAN of {by} to the node with {inner} of {source}");
            table.attack(name, by, |mark| {
                vec![overlay(world, by, by, 4789, &question(world, source, inner, mark))]
            });
        }
        for (to, port) in [(Second, 4789), (Second, 8472), (Far, 4789), (Far, 8472)] {
            let name = format!("tunnel at port {port} of {by} to {to} with {inner}");
            table.attack(name, by, |mark| {
                let [from, to] = [by, to].map(|who| world.address(who, Family::V4));
                let frame = wrapped([2; 6], &question(world, Outside, inner, mark));
                vec![world.link(by).ip(&Ip::udp((from, 50_000), (to, port), &vxlan(OVERLAY, &frame)))]
            });
        }
        for outer in FAMILIES {
            let name = format!("{inner} of {by} in protocol 4 of {outer}");
            table.attack(name, by, |mark| {
                let [from, to] = [by, Far].map(|who| world.address(who, outer));
                let inner = question(world, Outside, inner, mark);
                vec![world.link(by).ip(&Ip::new(from, to, IPIP, &inner.bytes()))]
            });
        }
    }
}

/// Somebody outside sends them to the node, which knows the nodes.
pub(crate) fn to_the_node(table: &mut Table, world: &World) {
    for inner in FAMILIES {
        for (by, source) in [(Stranger, Outside), (Far, Outside), (Stranger, A), (Second, A)] {
            let name = format!("VXLAN of {by} to the node with {inner} of {source}");
            table.attack(name, by, |mark| {
                vec![overlay(world, by, by, 4789, &question(world, source, inner, mark))]
            });
        }
        let name = format!("VXLAN of Second to the node with {inner} of Outside");
        table.passes(name, Second, C, |mark| {
            vec![overlay(world, Second, Second, 4789, &question(world, Outside, inner, mark))]
        });
    }
}

/// What C lets in from `source`.
fn question(world: &World, source: Who, family: Family, mark: &[u8]) -> Ip {
    Ip::udp((world.address(source, family), 30_000), (world.address(C, family), 80), mark)
}

/// To the node's end of the overlay network.
fn overlay(world: &World, by: Who, source: Who, port: u16, inner: &Ip) -> Vec<u8> {
    let [from, to]: [IpAddr; 2] = [source, Node].map(|who| world.address(who, Family::V4));
    let frame = wrapped(world.overlay, inner);
    world.link(by).ip(&Ip::udp((from, 50_000), (to, port), &vxlan(OVERLAY, &frame)))
}

fn wrapped(next: [u8; 6], inner: &Ip) -> Vec<u8> {
    let ethertype = if inner.source.is_ipv4() { IPV4 } else { IPV6 };
    Link { own: [2, 0, 0, 0, 0, 9], next }.frame(ethertype, &inner.bytes())
}
