//! ICMP errors: about flows of others, and about the sender's own, to anybody.

use crate::frames::Ip;
use crate::table::Table;
use crate::world::Who::{A, B, C, Far, M, Outside};
use crate::world::{FAMILIES, Family, Live, Who, World};

/// Types and codes of errors: unreachable (port, host, too big), redirect, time exceeded, parameter problem.
const fn kinds(family: Family) -> &'static [(u8, u8)] {
    match family {
        Family::V4 => &[(3, 1), (3, 3), (3, 4), (4, 0), (5, 1), (11, 0), (12, 0)],
        Family::V6 => &[(1, 0), (1, 4), (2, 0), (3, 0), (4, 0), (4, 1)],
    }
}

/// M and a host outside speak of flows that are not theirs, to either end.
pub(crate) fn about_others(table: &mut Table, world: &World) {
    for family in FAMILIES {
        for (live, (kind, code)) in [Live::AskC, Live::AskOutside, Live::FromOutside]
            .into_iter()
            .flat_map(|live| kinds(family).iter().map(move |kind| (live, *kind)))
        {
            let [first, second] = world.ends(live, family);
            let (begins, answers) = live.ends();
            for (inner, victim) in [((first, second), begins), ((second, first), answers)] {
                let source = world.address(M, family);
                table.attack(
                    format!("error {kind}.{code} of M about {live:?} to {victim}, {family}"),
                    M,
                    |mark| {
                        let inner = Ip::udp(inner.0, inner.1, mark);
                        let to = inner.source;
                        vec![world.link(M).ip(&Ip::error(source, to, kind, code, &inner))]
                    },
                );
            }
        }
        // A stranger, about a flow that does not pass it, to one who lets nobody in but C's peers.
        let [first, second] = world.ends(Live::AskC, family);
        for (to, inner) in [(B, (second, first)), (B, (first, second)), (C, (first, second))] {
            let name = format!("error from outside to {to} about a flow of {}, {family}", inner.0.0);
            let source = world.address(Who::Stranger, family);
            table.attack(name, Who::Stranger, |mark| {
                let (kind, code) = kinds(family)[0];
                let error = Ip::error(
                    source,
                    world.address(to, family),
                    kind,
                    code,
                    &Ip::udp(inner.0, inner.1, mark),
                );
                vec![world.link(Who::Stranger).ip(&error)]
            });
        }
    }
}

/// M has one flow, and speaks of it to those who have no part in it; the other end may hear of it.
pub(crate) fn to_third_parties(table: &mut Table, world: &World) {
    for family in FAMILIES {
        let [own, peer] = world.ends(Live::OfM, family);
        let source = world.address(M, family);
        for (kind, code) in kinds(family) {
            for victim in [B, C, Far, Outside] {
                for (inner, what) in [((peer, own), "an answer"), ((own, peer), "a question")] {
                    let name = format!("error {kind}.{code} of M about {what} to {victim}, {family}");
                    table.attack(name, M, |mark| {
                        let to = world.address(victim, family);
                        let inner = Ip::udp(inner.0, inner.1, mark);
                        vec![world.link(M).ip(&Ip::error(source, to, *kind, *code, &inner))]
                    });
                }
            }
            // A question of its own is nothing that M could send an error about.
            let name = format!("error {kind}.{code} of M about a question to A, {family}");
            table.attack(name, M, |mark| {
                vec![world.link(M).ip(&Ip::error(source, peer.0, *kind, *code, &Ip::udp(own, peer, mark)))]
            });
        }
        // Host and port unreachable are what a host sends.
        let (kind, code) = if family == Family::V4 { (3, 3) } else { (1, 4) };
        table.passes(format!("error {kind}.{code} of M about an answer to A, {family}"), M, A, |mark| {
            vec![world.link(M).ip(&Ip::error(source, peer.0, kind, code, &Ip::udp(peer, own, mark)))]
        });
        // About a flow that policy denied, to the one it was meant for.
        for (victim, port) in [(A, 8080), (B, 80), (Outside, 80)] {
            let name = format!("error of M about a denied flow to {victim}, {family}");
            table.attack(name, M, |mark| {
                let to = (world.address(victim, family), port);
                let denied = Ip::udp((source, 7_777), to, b"denied");
                let error = Ip::error(source, to.0, kind, code, &Ip::udp(to, (source, 7_777), mark));
                vec![world.link(M).ip(&denied), world.link(M).ip(&error)]
            });
        }
    }
}
