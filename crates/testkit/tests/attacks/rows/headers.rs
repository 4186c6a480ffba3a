//! Odd headers of what policy denies: flags, protocols, chains of extension headers.

use crate::frames::{Ip, UDP};
use crate::table::{Expected, Table, Unguarded};
use crate::world::Who::{A, B, C, Far, N};
use crate::world::{FAMILIES, Family, World};

/// FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32.
const FLAGS: [u8; 14] = [0, 1, 2, 4, 8, 16, 17, 18, 20, 24, 32, 41, 3, 255];

const PROTOCOLS: [u8; 36] = [
    0, 2, 3, 5, 8, 9, 12, 27, 33, 41, 43, 44, 46, 47, 50, 51, 59, 60, 81, 88, 89, 94, 97, 103, 108, 112, 115,
    132, 133, 135, 136, 137, 139, 140, 253, 255,
];

/// Without any flow: to one who lets nobody in, and to a port that is not open.
pub(crate) fn flags(table: &mut Table, world: &World) {
    for (family, flags) in FAMILIES.into_iter().flat_map(|family| FLAGS.map(|flags| (family, flags))) {
        for (by, to, port) in [(A, B, 80), (A, C, 8080), (N, Far, 80)] {
            table.attack(format!("flags {flags:02x} of {by} to {to} port {port}, {family}"), by, |mark| {
                let [from, to] = [by, to].map(|who| world.address(who, family));
                vec![world.link(by).ip(&Ip::tcp((from, 1_234), (to, port), flags, mark))]
            });
        }
    }
    for family in FAMILIES {
        table.attack(format!("UDP from and to port 0, {family}"), A, |mark| {
            let [from, to] = [A, C].map(|who| world.address(who, family));
            vec![world.link(A).ip(&Ip::udp((from, 0), (to, 0), mark))]
        });
    }
}

pub(crate) fn protocols(table: &mut Table, world: &World) {
    for (family, protocol) in FAMILIES.into_iter().flat_map(|family| PROTOCOLS.map(|number| (family, number)))
    {
        for (by, to) in [(A, B), (A, C), (N, Far)] {
            let name = format!("protocol {protocol} of {by} to {to}, {family}");
            table.add(name, by, Expected::Dropped, Unguarded::Depends, |mark| {
                let [from, to] = [by, to].map(|who| world.address(who, family));
                let body = [&[0, 0, 0, 80, 0, 80][..], mark, &[0; 18]].concat();
                vec![world.link(by).ip(&Ip::new(from, to, protocol, &body))]
            });
        }
    }
}

const HOP: u8 = 0;
const ROUTING: u8 = 43;
const AUTHENTICATION: u8 = 51;
const OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;

/// What is behind the first byte of a header of 8 bytes; of so many times 8 bytes more.
fn header(kind: u8, more: u8) -> (u8, Vec<u8>) {
    let length = 7 + usize::from(more) * 8;
    let mut rest = vec![0; length];
    rest[0] = more;
    match kind {
        // One option that pads it all.
        HOP | OPTIONS => rest[1..3].copy_from_slice(&[1, u8::try_from(length - 3).unwrap()]),
        // In words of 4 bytes, less 2.
        AUTHENTICATION => rest[0] = u8::try_from((length + 1) / 4 - 2).unwrap(),
        _ => {}
    }
    (kind, rest)
}

/// Before a port that is not open, and before one that is.
pub(crate) fn extensions(table: &mut Table, world: &World) {
    let chains = [
        ("hop-by-hop options", vec![header(HOP, 0)]),
        ("destination options", vec![header(OPTIONS, 0)]),
        ("long destination options", vec![header(OPTIONS, 12)]),
        ("routing", vec![header(ROUTING, 2)]),
        (
            "hop-by-hop, routing, destination options",
            vec![header(HOP, 0), header(ROUTING, 0), header(OPTIONS, 0)],
        ),
        ("eight destination options", vec![header(OPTIONS, 0); 8]),
        ("nine destination options", vec![header(OPTIONS, 0); 9]),
        ("forty destination options", vec![header(OPTIONS, 0); 40]),
        ("mobility", vec![header(MOBILITY, 0)]),
        ("two hop-by-hop options", vec![header(HOP, 0), header(HOP, 0)]),
        ("authentication", vec![header(AUTHENTICATION, 2)]),
        ("authentication behind options", vec![header(OPTIONS, 0), header(AUTHENTICATION, 2)]),
    ];
    for (name, chain) in &chains {
        for (by, to, port) in [(A, C, 8080), (A, B, 80), (N, Far, 80)] {
            let name = format!("{name} of {by} before port {port} of {to}");
            table.add(name, by, Expected::Dropped, Unguarded::Depends, |mark| {
                let [from, to] = [by, to].map(|who| world.address(who, Family::V6));
                vec![world.link(by).ip(&Ip::udp((from, 1_234), (to, port), mark).chain(chain))]
            });
        }
    }
    for (name, chain) in &chains[..6] {
        table.passes(format!("{name} before an open port"), A, C, |mark| {
            let [from, to] = [A, C].map(|who| world.address(who, Family::V6));
            vec![world.link(A).ip(&Ip::udp((from, 1_235), (to, 80), mark).chain(chain))]
        });
    }
    // A length that says more, or less, than there is.
    for (name, length) in [("no length", 0_u16), ("too long", 2_000), ("too short", 9)] {
        for family in FAMILIES {
            table.add(
                format!("{name} in the header, {family}"),
                A,
                Expected::Dropped,
                Unguarded::Depends,
                |mark| {
                    let [from, to] = [A, B].map(|who| world.address(who, family));
                    let mut bytes = Ip::new(from, to, UDP, &Ip::udp((from, 1), (to, 80), mark).body).bytes();
                    let at = if family == Family::V4 { 2 } else { 4 };
                    bytes.splice(at..at + 2, length.to_be_bytes());
                    vec![world.link(A).frame(Ip::udp((from, 1), (to, 1), &[]).ethertype(), &bytes)]
                },
            );
        }
    }
}
