//! One pod begins more flows than there is room for.

use std::time::Instant;

use portcullis::backend::DataplaneOptions;

use crate::backends::{Variants, on_every};
use crate::frames::Ip;
use crate::packets::bound;
use crate::table::{Finding, Table, Wire as _, findings, holds};
use crate::world::Who::{A, B, C, M, Outside};
use crate::world::{FAMILIES, Family, Live, Who, World};

/// So many flows, which policy allows, of two datagrams each way: the second one is of a flow that is known.
pub(crate) fn flood(world: &World, from: Who, to: Who, flows: u16) {
    for family in FAMILIES {
        let [source, to] = [from, to].map(|who| world.address(who, family));
        for port in 10_000..10_000 + flows {
            let frame = world.link(from).ip(&Ip::udp((source, port), (to, 80), b"flood"));
            world.send(from, &frame);
            world.send(from, &frame);
        }
    }
}

/// What comes in the flows that live, to those who let nobody in, or only some.
fn answers(when: &str, world: &World) -> Table {
    let mut table = Table::default();
    for family in FAMILIES {
        for live in [Live::AskOutside, Live::OfM, Live::AskC] {
            let [first, second] = world.ends(live, family);
            let (begins, answers) = live.ends();
            table.passes(
                format!("an answer of {answers} to {begins} {when}, {family}"),
                answers,
                begins,
                |mark| vec![world.link(answers).ip(&Ip::udp(second, first, mark))],
            );
        }
        for (from, to) in [(A, B), (M, C), (A, M), (Outside, M)] {
            table.attack(format!("a new flow of {from} to {to} {when}, {family}"), from, |mark| {
                let [from_at, to] = [from, to].map(|who| world.address(who, family));
                vec![world.link(from).ip(&Ip::udp((from_at, 80), (to, 9_998), mark))]
            });
        }
    }
    table
}

#[test]
fn a_flood_of_one_pod_neither_ends_nor_opens_flows_of_others() {
    on_every(Variants::Default, |under| {
        let mut world = World::new();
        let under = under.at(&world.site);
        let name = under.backend.name();
        let (compiler, ids) = world.policy();
        let under = under.with_flows(4_096);
        let options = DataplaneOptions::new().with_flows_per_interface(1_024);
        let mut dataplane = under.load(options, &compiler, &bound(&world, &ids));
        world.begin_flows();
        let mut found: Vec<Finding> = Vec::new();
        let mut look = |when: &str| {
            let table = answers(when, &world);
            found.extend(findings(&table, &table.run(&world)));
        };
        look("before");
        // A long run has some more, up to 55000.
        let flows: u16 = std::env::var("PORTCULLIS_FLOOD").map_or(10_000, |number| number.parse().unwrap());
        for (from, to) in [(M, A), (A, C)] {
            let begin = Instant::now();
            flood(&world, from, to, flows);
            eprintln!("{name}: {from} began {flows} flows of each family in {:?}", begin.elapsed());
            look(&format!("after a flood of {from}"));
        }
        for family in [Family::V4, Family::V6] {
            let [_, to] = world.ends(Live::AskC, family);
            // One more of the pod that has too many is decided by itself, and allowed.
            let mut table = Table::default();
            table.passes(format!("a new flow of A to C, {family}"), A, C, |mark| {
                let source = world.address(A, family);
                vec![world.link(A).ip(&Ip::udp((source, 9_999), to, mark))]
            });
            found.extend(findings(&table, &table.run(&world)));
        }
        holds(name, &found);
        assert_eq!(world.broken_flows(), Vec::<String>::new());
        dataplane.remove().unwrap();
    });
}
