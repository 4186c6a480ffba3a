//! Claims of addresses: ARP and neighbour advertisements.

use std::net::IpAddr;
use std::process::Command;

use crate::backends::{Variants, interface, on_every};
use crate::frames::{ARP, Ip, Link, arp};
use crate::packets::{bound, options};
use crate::rows::Networks;
use crate::table::{Finding, Table, Wire as _, findings, holds};
use crate::world::Who::{B, N, Node};
use crate::world::{Family, World};

/// What the node believes of an address behind the interface of N.
fn believes(world: &World, address: IpAddr) -> bool {
    let arguments = ["neigh", "show", &address.to_string(), "dev", &world.pod(N).interface];
    let output = Command::new("ip").args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.contains("lladdr")
}

/// ARP that says an address is N's: asked, announced and answered.
fn claim(world: &World, address: IpAddr) -> bool {
    let link = Link { next: [0xff; 6], ..world.link(N) };
    let gateway: IpAddr = "169.254.1.1".parse().unwrap();
    for message in [
        arp(1, (link.own, address), ([0; 6], address)),
        arp(2, (link.own, address), ([0xff; 6], address)),
        arp(1, (link.own, address), ([0; 6], gateway)),
    ] {
        world.send(N, &link.frame(ARP, &message));
    }
    std::thread::sleep(core::time::Duration::from_millis(100));
    let believed = believes(world, address);
    let _ = Command::new("ip")
        .args(["neigh", "del", &address.to_string(), "dev", &world.pod(N).interface])
        .status();
    believed
}

/// A neighbour advertisement that says an address is N's.
fn advertisements(world: &World) -> Table {
    let mut table = Table::default();
    let link = Link { next: [0x33, 0x33, 0, 0, 0, 1], ..world.link(N) };
    let [own, other, node] = [N, B, Node].map(|who| world.address(who, Family::V6));
    let advertise = |source: IpAddr, target: IpAddr, mark: &[u8]| {
        let IpAddr::V6(target) = target else { return Vec::new() };
        let option = [&[253, 3][..], mark, &[0; 6]].concat();
        let rest = [&[0x20, 0, 0, 0][..], &target.octets(), &[2, 1], &link.own, &option].concat();
        vec![link.ip(&Ip::icmp(source, "ff02::1".parse().unwrap(), 136, 0, &rest).hops(255))]
    };
    for (name, target) in
        [("another pod", other), ("the node", node), ("the gateway", "fe80::1".parse().unwrap())]
    {
        let name = format!("neighbour advertisement of {name}");
        table.attack(name, N, |mark| advertise(own, target, mark));
    }
    table.passes("neighbour advertisement of its own".into(), N, Node, |mark| advertise(own, own, mark));
    table
}

#[test]
fn a_pod_claims_no_address_but_its_own() {
    on_every(Variants::Default, |under| {
        let world = World::new();
        let under = under.at(&world.site);
        let interface = &world.pod(N).interface;
        std::fs::write(format!("/proc/sys/net/ipv4/conf/{interface}/arp_accept"), "1").unwrap();
        let other = world.address(B, Family::V4);
        assert!(claim(&world, other), "the node believes everything where nothing is enforced");
        let (compiler, ids) = world.policy();
        let mut dataplane = under.load(options(Networks::Unknown), &compiler, &bound(&world, &ids));
        let table = advertisements(&world);
        let mut found: Vec<Finding> = findings(&table, &table.run(&world));
        for (name, address) in [("another pod", other), ("another host", "10.0.9.99".parse().unwrap())] {
            let wrong = claim(&world, address).then(|| "the node believes it".into());
            found.push((format!("ARP claim of {name}"), wrong));
        }
        let wrong =
            (!claim(&world, world.address(N, Family::V4))).then(|| "the node does not believe it".into());
        found.push(("ARP claim of its own".into(), wrong));
        holds(under.backend.name(), &found);
        dataplane.remove().unwrap();
    });
}

/// Whether N hears the node ask for its hardware address, and so learns that of the node.
fn hears_the_node_ask(world: &World) -> bool {
    let neighbours = |arguments: &'static [&'static str]| {
        let run = move || Command::new("ip").arg("neigh").args(arguments).output().unwrap().stdout;
        String::from_utf8(world.pod(N).run(run).recv().unwrap()).unwrap()
    };
    neighbours(&["flush", "dev", "eth0"]);
    let address = world.address(N, Family::V4);
    let forget =
        || Command::new("ip").args(["neigh", "flush", "dev", &world.pod(N).interface]).status().unwrap();
    forget();
    let _ = std::net::UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", (address, 9));
    std::thread::sleep(core::time::Duration::from_millis(100));
    let heard = neighbours(&["show", "dev", "eth0"]).contains("lladdr");
    forget();
    heard
}

#[test]
fn no_arp_passes_an_interface_without_a_workload() {
    on_every(Variants::Default, |under| {
        let world = World::new();
        let under = under.at(&world.site);
        let pod = world.pod(N);
        std::fs::write(format!("/proc/sys/net/ipv4/conf/{}/arp_accept", pod.interface), "1").unwrap();
        let own = world.address(N, Family::V4);
        assert!(claim(&world, own) && hears_the_node_ask(&world), "nothing is enforced");
        let (compiler, ids) = world.policy();
        let mut bindings = bound(&world, &ids);
        let mut dataplane = under.load(options(Networks::Known), &compiler, &bindings);
        assert!(claim(&world, own) && hears_the_node_ask(&world), "a workload has it");
        dataplane.remove().unwrap();
        let mut found: Vec<Finding> = Vec::new();
        assert!(bindings.unbind(ids.last().unwrap()).is_some());
        for (state, networks) in [("of nobody", Networks::Known), ("closed", Networks::Unknown)] {
            if state == "closed" {
                bindings.close(interface(&pod.interface));
            }
            let mut dataplane = under.load(options(networks), &compiler, &bindings);
            let wrong = claim(&world, own).then(|| "the node believes it".into());
            found.push((format!("ARP from an interface {state}"), wrong));
            let wrong = hears_the_node_ask(&world).then(|| "it gets there".into());
            found.push((format!("ARP to an interface {state}"), wrong));
            dataplane.remove().unwrap();
        }
        holds(under.backend.name(), &found);
    });
}
