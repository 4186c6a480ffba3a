//! A node that rewrites destinations of services, as kube-proxy does.

use std::net::IpAddr;

use crate::backends::{Variants, on_every, with_services};
use crate::frames::Ip;
use crate::packets::bound;
use crate::table::{Expected, Table, Unguarded, Wire as _, arrives_unguarded, check};
use crate::wide::nft;
use crate::world::Who::{A, C, Far, M, N, Outside, Second, Stranger};
use crate::world::{FAMILIES, Family, Who, World};

/// The services of A and C, at port 8888 of these addresses.
fn service(of: Who, family: Family) -> IpAddr {
    let last = if of == A { 10 } else { 12 };
    match family {
        Family::V4 => [10, 96, 0, last].into(),
        Family::V6 => format!("fd00:96::{last}").parse().unwrap(),
    }
}

fn kube_proxy(world: &World) -> String {
    let rule = |(of, family): (Who, Family)| {
        let word = if family == Family::V4 { "ip" } else { "ip6" };
        let (to, at) = (service(of, family), world.address(of, family));
        let at = if family == Family::V4 { at.to_string() } else { format!("[{at}]") };
        format!("{word} daddr {to} th dport 8888 meta l4proto {{ tcp, udp }} dnat {word} to {at}:80\n")
    };
    let rules: String = [A, C].into_iter().flat_map(|of| FAMILIES.map(|family| rule((of, family)))).collect();
    format!(
        "table inet kube {{
            chain before {{ type nat hook prerouting priority -100
                {rules} }}
        }}"
    )
}

/// `port` is the first source port: flows of another run are not new ones.
fn table(world: &World, port: u16) -> Table {
    let mut table = Table::default();
    for family in FAMILIES {
        let at = |who| world.address(who, family);
        let to = |of| service(of, family);
        table.passes(format!("M to the service of A, {family}"), M, A, |mark| {
            vec![world.link(M).ip(&Ip::udp((at(M), port + 1), (to(A), 8_888), mark))]
        });
        for (number, (by, of)) in (0..).zip([(M, C), (N, A), (N, C)]) {
            let what = format!("{by} to the service of {of}");
            table.attack(format!("{what}, {family}"), by, |mark| {
                vec![world.link(by).ip(&Ip::udp((at(by), port + 2), (to(of), 8_888), mark))]
            });
            for flags in [0, 1, 2, 4, 16, 18, 41, 255] {
                table.add(
                    format!("{what}, flags {flags:02x}, {family}"),
                    by,
                    Expected::Dropped,
                    Unguarded::Depends,
                    |mark| {
                        vec![world.link(by).ip(&Ip::tcp((at(by), port + 3), (to(of), 8_888), flags, mark))]
                    },
                );
            }
            table.attack(format!("{what}, a port without rules, {family}"), by, |mark| {
                vec![world.link(by).ip(&Ip::udp((at(by), port + 4), (to(of), 9_999), mark))]
            });
            table.attack(format!("{what}, protocol 47, {family}"), by, |mark| {
                vec![world.link(by).ip(&Ip::new(at(by), to(of), 47, &[&[0; 8][..], mark].concat()))]
            });
            table.add(
                format!("{what}, as Far, {family}"),
                by,
                Expected::Dropped,
                Unguarded::Depends,
                |mark| vec![world.link(by).ip(&Ip::udp((at(Far), port + 5), (to(of), 8_888), mark))],
            );
            table.add(
                format!("{what}, fragments, {family}"),
                by,
                Expected::Dropped,
                Unguarded::Depends,
                |mark| {
                    let whole = Ip::udp((at(by), port + 6), (to(of), 8_888), &[mark, mark].concat());
                    let [first, second] = [
                        whole.fragment(40 + number, 0, true, &whole.body[..24]),
                        whole.fragment(40 + number, 24, false, &whole.body[24..]),
                    ];
                    vec![world.link(by).ip(&first), world.link(by).ip(&second)]
                },
            );
            // An attempt that is denied makes no flow that anybody could speak of.
            let (kind, code) = if family == Family::V4 { (3, 3) } else { (1, 4) };
            let attempt = |from: u16| world.link(by).ip(&Ip::udp((at(by), from), (to(of), 8_888), b"denied"));
            for victim in [A, C, Far, Outside] {
                let name = format!("{what}, an error about it to {victim}, {family}");
                table.attack(name, by, |mark| {
                    let inner = Ip::udp((to(of), 8_888), (at(by), port + 7), mark);
                    let error = Ip::error(at(by), at(victim), kind, code, &inner);
                    vec![attempt(port + 7), world.link(by).ip(&error)]
                });
            }
            let name = format!("{what}, an error about it to the service, {family}");
            table.add(name, by, Expected::Dropped, Unguarded::Depends, |mark| {
                let inner = Ip::udp((to(of), 8_888), (at(by), port + 9), mark);
                let error = Ip::error(at(by), to(of), kind, code, &inner);
                vec![attempt(port + 9), world.link(by).ip(&error)]
            });
            let name = format!("{what}, an answer from outside, {family}");
            table.attack(name, Second, |mark| {
                world.send(by, &attempt(port + 7));
                vec![world.link(Second).ip(&Ip::udp((to(of), 8_888), (at(by), port + 7), mark))]
            });
            let name = format!("{what}, an error from outside about it, {family}");
            table.attack(name, Stranger, |mark| {
                let inner = Ip::udp((at(by), port + 7), (to(of), 8_888), mark);
                vec![world.link(Stranger).ip(&Ip::error(at(Stranger), at(by), kind, code, &inner))]
            });
        }
        for victim in [C, Far, Outside] {
            let (kind, code) = if family == Family::V4 { (3, 3) } else { (1, 4) };
            let name = format!("an error of M about its flow through a service to {victim}, {family}");
            table.attack(name, M, |mark| {
                let question = Ip::udp((at(M), port + 8), (to(A), 8_888), b"allowed");
                let inner = Ip::udp((to(A), 8_888), (at(M), port + 8), mark);
                vec![
                    world.link(M).ip(&question),
                    world.link(M).ip(&Ip::error(at(M), at(victim), kind, code, &inner)),
                ]
            });
        }
    }
    table
}

#[test]
fn services_are_no_way_around_policy() {
    on_every(Variants::Default, |under| {
        let world = World::new();
        let under = under.at(&world.site);
        nft(&kube_proxy(&world));
        arrives_unguarded(&table(&world, 1_000), &world);
        let (compiler, ids) = world.policy();
        let mut dataplane = under.load(with_services(), &compiler, &bound(&world, &ids));
        check(under.backend.name(), &table(&world, 2_000), &world);
        dataplane.remove().unwrap();
    });
}
