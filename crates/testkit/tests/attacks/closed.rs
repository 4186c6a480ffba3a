//! Interfaces without a workload: those that are closed, and those of nobody that have a workload's name.

use portcullis::backend::DesiredState;
use portcullis::ir::Delta;

use crate::backends::{Variants, complete, interface, on_every};
use crate::frames::Ip;
use crate::node::ip;
use crate::packets::{bound, options};
use crate::rows::Networks;
use crate::table::{Table, arrives_unguarded, check};
use crate::taps::Tap;
use crate::world::Who::{A, C, Far, N, Node};
use crate::world::{FAMILIES, Family, PODS, Who, World};

/// What comes from N and what goes to it, of everything that policy lets A do.
fn both_ways(what: &str, world: &World) -> Table {
    let mut table = Table::default();
    for family in FAMILIES {
        for to in [A, C, Node, Far] {
            let name = format!("{what}: UDP to {to}, {family}");
            table.attack(name, N, |mark| datagram(world, N, to, family, mark));
            let name = format!("{what}: TCP to {to}, {family}");
            table.attack(name, N, |mark| {
                let [from, to] = [N, to].map(|who| world.address(who, family));
                vec![world.link(N).ip(&Ip::tcp((from, 1_111), (to, 80), 2, mark))]
            });
        }
        for from in [A, C, Far] {
            let name = format!("{what}: UDP from {from}, {family}");
            table.attack(name, from, |mark| datagram(world, from, N, family, mark));
        }
        let name = format!("{what}: as A to C, {family}");
        table.attack(name, N, |mark| {
            let [from, to] = [A, C].map(|who| world.address(who, family));
            vec![world.link(N).ip(&Ip::udp((from, 1_111), (to, 80), mark))]
        });
    }
    table
}

fn datagram(world: &World, from: Who, to: Who, family: Family, mark: &[u8]) -> Vec<Vec<u8>> {
    let [source, to] = [from, to].map(|who| world.address(who, family));
    vec![world.link(from).ip(&Ip::udp((source, 1_111), (to, 80), mark))]
}

#[test]
fn nothing_passes_an_interface_that_is_closed_or_of_nobody() {
    on_every(Variants::Default, |under| {
        let mut world = World::new();
        let under = under.at(&world.site);
        let name = under.backend.name();
        arrives_unguarded(&both_ways("unguarded", &world), &world);
        let (compiler, ids) = world.policy();
        let mut bindings = bound(&world, &ids);
        let last = PODS.len() - 1;
        let own = interface(&world.site.pods[last].interface);
        let _ = bindings.unbind(&ids[last]);
        // Nobody's, but of a workload's name.
        let mut dataplane = under.load(options(Networks::Known), &compiler, &bindings);
        check(name, &both_ways("of nobody", &world), &world);
        bindings.close(own.clone());
        let generation = compiler.snapshot().generation;
        let same = Delta { from: generation, to: generation, ..Delta::default() };
        let desired = DesiredState::new(compiler.snapshot(), &bindings);
        complete(&dataplane.update(desired, &same).unwrap());
        check(name, &both_ways("closed", &world), &world);
        // The process is gone.
        drop(dataplane);
        check(name, &both_ways("closed, without a process", &world), &world);
        let mut dataplane = under.load(options(Networks::Unknown), &compiler, &bindings);
        check(name, &both_ways("closed at the load", &world), &world);
        dataplane.remove().unwrap();
        // The interface is made anew, under its name, while the dataplane runs.
        let _ = bindings.reopen(own.name());
        let mut dataplane = under.load(options(Networks::Known), &compiler, &bindings);
        anew(&mut world);
        let _ = dataplane.maintain(DesiredState::new(compiler.snapshot(), &bindings)).unwrap();
        check(name, &both_ways("made anew", &world), &world);
        dataplane.remove().unwrap();
    });
}

/// N gets another interface of the same name, and keeps everything else.
fn anew(world: &mut World) {
    let pod = world.pod(N);
    let (interface, thread, [v4, v6]) = (pod.interface.clone(), pod.thread, pod.addresses);
    ip(&format!(
        "link del {interface}\nlink add {interface} type veth peer name eth0 netns {thread}\n\
         addr add 169.254.1.1/32 dev {interface}\nlink set {interface} up\naddr add fe80::1/64 dev {interface} nodad\n\
         route add {v4}/32 dev {interface}\nroute add {v6}/128 dev {interface}\n"
    ));
    let tap = pod.run(move || {
        ip(&format!(
            "link set eth0 up\naddr add {v4}/32 dev eth0\naddr add {v6}/128 dev eth0 nodad\n\
             route add 169.254.1.1 dev eth0\nroute add default via 169.254.1.1\nroute add ::/0 via fe80::1 dev eth0\n"
        ));
        Tap::here()
    });
    let tap = tap.recv().unwrap();
    world.replace(N, tap);
}
