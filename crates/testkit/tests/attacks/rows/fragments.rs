//! Fragments of datagrams that policy denies, and of those that it allows.

use crate::frames::Ip;
use crate::table::{Expected, Table, Unguarded};
use crate::world::Who::{A, B, C, Far, N};
use crate::world::{FAMILIES, Family, Who, World};

pub(crate) fn all(table: &mut Table, world: &World) {
    for family in FAMILIES {
        let mut id = if family == Family::V4 { 1_000 } else { 2_000 };
        let mut attack = |table: &mut Table, name: &str, by: Who, frames: &dyn Fn(u16, &[u8]) -> Vec<Ip>| {
            id += 1;
            // Defragmentation, where something in the kernel asks for it, keeps some of them.
            table.add(format!("{name}, {family}"), by, Expected::Dropped, Unguarded::Depends, |mark| {
                frames(id, mark).iter().map(|packet| world.link(by).ip(packet)).collect()
            });
        };
        let long = |by: Who, to: Who, port: u16, mark: &[u8]| {
            let [from, to] = [by, to].map(|who| world.address(who, family));
            Ip::udp((from, 3_333), (to, port), &[mark, mark, &[0; 8]].concat())
        };
        for (by, to, port) in [(A, C, 8080), (A, B, 80), (N, Far, 80)] {
            attack(table, &format!("fragments of {by} to port {port} of {to}"), by, &|id, mark| {
                let whole = long(by, to, port, mark);
                vec![
                    whole.fragment(id, 0, true, &whole.body[..24]),
                    whole.fragment(id, 24, false, &whole.body[24..]),
                ]
            });
            attack(table, &format!("later fragment of {by} to {to} alone"), by, &|id, mark| {
                let whole = long(by, to, port, mark);
                vec![whole.fragment(id, 24, false, &whole.body[24..])]
            });
            attack(table, &format!("later fragment of {by} to {to} before the first"), by, &|id, mark| {
                let whole = long(by, to, port, mark);
                vec![
                    whole.fragment(id, 24, false, &whole.body[24..]),
                    whole.fragment(id, 0, true, &whole.body[..24]),
                ]
            });
            attack(table, &format!("tiny fragments of {by} to {to}"), by, &|id, mark| {
                let [from, to] = [by, to].map(|who| world.address(who, family));
                let whole = Ip::tcp((from, 3_333), (to, port), 2, mark);
                vec![
                    whole.fragment(id, 0, true, &whole.body[..8]),
                    whole.fragment(id, 8, false, &whole.body[8..]),
                ]
            });
        }
        attack(table, "a first fragment over another", A, &|id, mark| {
            let open = long(A, C, 80, &[0; 16]);
            let closed = long(A, C, 8080, mark);
            vec![
                open.fragment(id, 0, true, &open.body[..24]),
                closed.fragment(id, 0, true, &closed.body[..24]),
                closed.fragment(id, 24, false, &[0; 24]),
            ]
        });
        attack(table, "a later fragment to somebody else", A, &|id, mark| {
            let open = long(A, C, 80, &[0; 16]);
            let other = long(A, B, 80, mark);
            vec![
                open.fragment(id, 0, true, &open.body[..24]),
                other.fragment(id, 24, false, &other.body[24..]),
            ]
        });
        attack(table, "a first fragment without ports", A, &|id, mark| {
            let whole = long(A, C, 80, mark);
            vec![whole.fragment(id, 0, true, &[]), whole.fragment(id, 8, false, &whole.body[8..])]
        });
        let name = format!("fragments to an open port, {family}");
        table.passes(name, A, C, |mark| {
            let whole = long(A, C, 80, mark);
            let parts = [
                whole.fragment(77, 0, true, &whole.body[..24]),
                whole.fragment(77, 24, false, &whole.body[24..]),
            ];
            parts.iter().map(|packet| world.link(A).ip(packet)).collect()
        });
    }
}
