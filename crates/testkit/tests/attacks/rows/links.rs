//! What is before the IP header, and whom the link may deliver to.

use crate::frames::{ARP, IPV4, IPV6, Ip, Link, QINQ, VLAN, octets};
use crate::table::{Expected, Table, Unguarded};
use crate::world::Who::{A, B, C, Far, N, Node};
use crate::world::{FAMILIES, Family, World};

/// Tags, other kinds of packets, and noise. A, which nothing holds back, to B, which lets nobody in; and N, which may send
/// nothing.
pub(crate) fn tags(table: &mut Table, world: &World) {
    let tag = |kind: u16, number: u16| [kind, number].map(u16::to_be_bytes).concat();
    for (by, to) in [(A, B), (N, Far)] {
        for family in FAMILIES {
            let packet = |mark: &[u8]| {
                let [from, to] = [by, to].map(|who| world.address(who, family));
                Ip::udp((from, 1), (to, 80), mark)
            };
            for (name, tags) in [
                ("VLAN 0", vec![tag(VLAN, 0)]),
                ("VLAN 100", vec![tag(VLAN, 100)]),
                ("802.1ad 0", vec![tag(QINQ, 0)]),
                ("QinQ 0, 0", vec![tag(QINQ, 0), tag(VLAN, 0)]),
                ("QinQ 0, 100", vec![tag(QINQ, 0), tag(VLAN, 100)]),
                ("three tags", vec![tag(VLAN, 0), tag(VLAN, 0), tag(VLAN, 0)]),
            ] {
                let name = format!("{name} of {by}, {family}");
                table.add(name, by, Expected::Dropped, Unguarded::Depends, |mark| {
                    let link = world.link(by);
                    let packet = packet(mark);
                    let rest = [&packet.ethertype().to_be_bytes()[..], &packet.bytes()].concat();
                    vec![[&link.next[..], &link.own, &tags.concat(), &rest].concat()]
                });
            }
            let inside = if family == Family::V4 { 0x21 } else { 0x57 };
            for (name, ethertype, before) in [
                ("MPLS", 0x8847, vec![0, 1, 1, 64]),
                ("PPPoE", 0x8864, vec![0x11, 0, 0, 1, 0, 60, 0, inside]),
                ("NSH", 0x894f, vec![0; 8]),
                ("the other family's type", if family == Family::V4 { IPV6 } else { IPV4 }, vec![]),
            ] {
                let name = format!("{name} of {by}, {family}");
                table.add(name, by, Expected::Dropped, Unguarded::Depends, |mark| {
                    vec![world.link(by).frame(ethertype, &[&before[..], &packet(mark).bytes()].concat())]
                });
            }
            // The pod that it is for would take it, if a bridge brought it there; the gateway's own comes from elsewhere.
            let [own, next] = [world.link(by).own, world.link(by).next];
            for (name, link) in [
                ("a frame for another", Link { own, next: world.link(B).own }),
                ("a frame for everybody", Link { own, next: [0xff; 6] }),
                ("a frame of the gateway", Link { own: next, next }),
                ("a frame of another", Link { own: world.link(C).own, next }),
            ] {
                let name = format!("{name} by {by}, {family}");
                table.add(name, by, Expected::Dropped, Unguarded::Depends, |mark| {
                    vec![link.ip(&packet(mark))]
                });
            }
        }
        for ethertype in [0x88cc, 0x8035, 0x9000, 0x0600, 0x88f7] {
            let name = format!("type {ethertype:04x} of {by}");
            table.dropped_anyway(name, by, |mark| {
                let link = Link { next: [0xff; 6], ..world.link(by) };
                vec![link.frame(ethertype, &[&[0; 14][..], mark, &[0; 30]].concat())]
            });
        }
        for (name, ethertype, first) in [
            ("IPv4", IPV4, 0x4f),
            ("IPv4 of version 6", IPV4, 0x60),
            ("IPv6", IPV6, 0x6f),
            ("ARP", ARP, 0xff),
        ] {
            table.dropped_anyway(format!("noise as {name} of {by}"), by, |mark| {
                vec![world.link(by).frame(ethertype, &[&[first; 24][..], mark, &[0xa5; 40]].concat())]
            });
        }
    }
}

/// Nobody hears what one who may send nothing says to many.
pub(crate) fn multicast(table: &mut Table, world: &World) {
    for to in [
        "224.0.0.1",
        "224.0.0.5",
        "239.1.1.1",
        "255.255.255.255",
        "10.0.9.255",
        "ff02::1",
        "ff02::5",
        "ff05::2",
        "ff0e::5",
    ] {
        table.add(format!("{to} from N"), N, Expected::Dropped, Unguarded::Depends, |mark| {
            let to: std::net::IpAddr = to.parse().unwrap();
            let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
            vec![world.link(N).ip(&Ip::udp((world.address(N, family), 1), (to, 80), mark).hops(9))]
        });
    }
}

/// The way is written into the packet, and the node takes that; the one who has it at the end lets nobody in.
pub(crate) fn source_route(table: &mut Table, world: &World) {
    for (name, kind) in [("loose", 131), ("strict", 137)] {
        table.add(format!("{name} source route to B"), A, Expected::Dropped, Unguarded::Depends, |mark| {
            let [from, node, to] = [A, Node, B].map(|who| world.address(who, Family::V4));
            let mut packet = Ip::udp((from, 1), (node, 80), mark);
            packet.options = [&[kind, 7, 4][..], &octets(to), &[0]].concat();
            vec![world.link(A).ip(&packet)]
        });
    }
}
