//! Sources that are not the sender's.

use std::net::IpAddr;

use crate::frames::Ip;
use crate::table::{Expected, Table, Unguarded};
use crate::world::Who::{A, B, C, Far, M, Node, Outside, Second};
use crate::world::{FAMILIES, Family, Live, Who, World};

/// From pods: in new flows, and inside those of others.
pub(crate) fn of_pods(table: &mut Table, world: &World) {
    for family in FAMILIES {
        let to = world.address(Far, family);
        // No policy holds A back.
        for who in [B, C, Node, Second, Outside] {
            let source = world.address(who, family);
            table
                .attack(format!("source of {who}, {family}"), A, |mark| datagram(world, A, source, to, mark));
        }
        // The kernel forwards the last ones only, if anything.
        let odd: &[&str] = match family {
            Family::V4 => &[
                "127.0.0.1",
                "0.0.0.0",
                "224.0.0.1",
                "255.255.255.255",
                "0.1.2.3",
                "169.254.1.1",
                "10.0.9.99",
            ],
            Family::V6 => {
                &["::", "::1", "ff02::1", "fe80::77", "::ffff:10.0.9.10", "::10.0.9.10", "fd00:9::99"]
            }
        };
        for source in odd {
            let name = format!("source {source}");
            let source: IpAddr = source.parse().unwrap();
            table.add(name, A, Expected::Dropped, Unguarded::Depends, |mark| {
                datagram(world, A, source, to, mark)
            });
        }
        for live in Live::ALL.into_iter().filter(|live| *live != Live::OfM) {
            inside(table, world, live, family, M);
        }
    }
}

/// From outside, with addresses of pods of the node: in new flows, and inside theirs.
pub(crate) fn from_outside(table: &mut Table, world: &World) {
    for family in FAMILIES {
        for who in [A, B] {
            let [source, to] = [who, C].map(|who| world.address(who, family));
            table.attack(format!("outside as {who} to C, {family}"), Second, |mark| {
                datagram(world, Second, source, to, mark)
            });
        }
        inside(table, world, Live::AskC, family, Second);
    }
}

/// Each end of a live flow is sent what seems to be the other's.
fn inside(table: &mut Table, world: &World, live: Live, family: Family, by: Who) {
    let [first, second] = world.ends(live, family);
    let (begins, answers) = live.ends();
    for (from, to, victim) in [(first, second, answers), (second, first, begins)] {
        // What is sent to those outside by somebody outside does not pass the node.
        if by == Second && victim == Outside {
            continue;
        }
        let name = format!("{by} inside {live:?} to {victim}, {family}");
        table.attack(name, by, |mark| vec![world.link(by).ip(&Ip::udp(from, to, mark))]);
    }
}

fn datagram(world: &World, by: Who, source: IpAddr, to: IpAddr, mark: &[u8]) -> Vec<Vec<u8>> {
    vec![world.link(by).ip(&Ip::udp((source, 999), (to, 80), mark))]
}
