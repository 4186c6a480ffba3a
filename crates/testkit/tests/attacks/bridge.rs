//! Pods that are ports of one bridge: they reach each other without the node's routing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use portcullis::backend::{DataplaneOptions, DesiredState};

use crate::backends::{Variants, bind, on_every};
use crate::frames::{ARP, IPV4, Ip, Link, VLAN, arp, octets};
use crate::node::{Pod, ip};
use crate::table::{Expected, Table, Unguarded, Wire, arrives_unguarded, check};
use crate::taps::{Tap, link};
use crate::world::Who::{A, B, C, M, N};
use crate::world::{FAMILIES, Family, PODS, Who, policy_of};

/// A node with one bridge, and the pods at its ports.
struct Bridge {
    pods: Vec<Pod>,
    taps: BTreeMap<Who, Tap>,
    gateway: [u8; 6],
}

impl Bridge {
    /// Makes the calling thread's namespace the node.
    fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        for name in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/{name}"), "1").unwrap();
        }
        for name in ["iptables", "ip6tables", "arptables"] {
            // Where the module is there at all.
            let _ = std::fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{name}"), "0");
        }
        // An address of its own: a bridge without one takes the lowest of its ports, and with each change of it the kernel forgets
        // all neighbours, permanent ones as well.
        ip(
            "link set lo up\nlink add br0 address 02:00:00:00:07:01 type bridge mcast_snooping 0\nlink set br0 up\naddr add 10.0.7.1/24 dev br0\n\
            addr add fd00:7::1/64 dev br0 nodad\n",
        );
        let mut pods = Vec::new();
        let mut taps = BTreeMap::new();
        for (number, who) in PODS.into_iter().enumerate() {
            let addresses = [format!("10.0.7.{}", 10 + number), format!("fd00:7::{}", 10 + number)];
            let pod = Pod::open(format!("port{number}"), addresses.map(|text| text.parse().unwrap()));
            let (Pod { interface, thread, .. }, [v4, v6]) = (&pod, pod.addresses);
            ip(&format!(
                "link add {interface} type veth peer name eth0 netns {thread}\nlink set {interface} master br0\n\
                 link set {interface} up\n"
            ));
            let inside = move || {
                ip(&format!(
                    "link set lo up\nlink set eth0 up\naddr add {v4}/24 dev eth0\naddr add {v6}/64 dev eth0 nodad\n"
                ));
                Tap::here()
            };
            let tap = pod.run(inside).recv().unwrap();
            let own = tap.address().map(|byte| format!("{byte:02x}")).join(":");
            for address in [v4, v6] {
                ip(&format!("neigh add {address} lladdr {own} dev br0 nud permanent\n"));
            }
            taps.insert(who, tap);
            pods.push(pod);
        }
        for pod in &pods {
            forwards(&pod.interface);
        }
        Self { pods, taps, gateway: link("br0").unwrap().addr().unwrap() }
    }

    fn address(&self, who: Who, family: Family) -> IpAddr {
        let at = PODS.iter().position(|one| *one == who).unwrap();
        self.pods[at].addresses[usize::from(family == Family::V6)]
    }

    fn link(&self, from: Who, to: Who) -> Link {
        Link { own: self.taps[&from].address(), next: self.taps[&to].address() }
    }
}

/// Waits until a port forwards, which the kernel lets it do some time after it is up.
fn forwards(port: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let state = || Command::new("ip").args(["-d", "link", "show", port]).output().unwrap().stdout;
    while !String::from_utf8_lossy(&state()).contains("state forwarding") {
        assert!(Instant::now() < deadline, "{port} does not forward");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Wire for Bridge {
    fn send(&self, from: Who, frame: &[u8]) {
        self.taps[&from].send(frame);
    }

    fn hear(&self, heard: &mut BTreeMap<Who, BTreeSet<usize>>) {
        for (who, tap) in &self.taps {
            tap.hear(heard.entry(*who).or_default());
        }
    }
}

fn table(bridge: &Bridge) -> Table {
    let mut table = Table::default();
    for family in FAMILIES {
        let at = |who| bridge.address(who, family);
        let datagram = |by: Who, source: Who, to: Who, port: u16, mark: &[u8]| {
            vec![bridge.link(by, to).ip(&Ip::udp((at(source), 1_111), (at(to), port), mark))]
        };
        for (by, to) in [(A, C), (M, A)] {
            let name = format!("bridge: {by} to {to} port 80, {family}");
            table.passes(name, by, to, |mark| datagram(by, by, to, 80, mark));
        }
        for (by, to, port) in [(A, B, 80), (A, C, 8080), (M, C, 80), (M, A, 8080), (N, A, 80), (M, B, 80)] {
            let name = format!("bridge: {by} to {to} port {port}, {family}");
            table.attack(name, by, |mark| datagram(by, by, to, port, mark));
        }
        for (by, source, to) in [(M, A, C), (N, A, C), (N, M, A), (A, B, C)] {
            let name = format!("bridge: {by} as {source} to {to}, {family}");
            table.attack(name, by, |mark| datagram(by, source, to, 80, mark));
        }
        for (by, to) in [(A, B), (N, A)] {
            let name = format!("bridge: {by} to {to} with a tag, {family}");
            table.add(name, by, Expected::Dropped, Unguarded::Depends, |mark| {
                let Link { own, next } = bridge.link(by, to);
                let packet = Ip::udp((at(by), 1_111), (at(to), 80), mark);
                let tag = [VLAN, 0, packet.ethertype()].map(u16::to_be_bytes).concat();
                vec![[&next[..], &own, &tag, &packet.bytes()].concat()]
            });
            let name = format!("bridge: {by} to {to} without ports, {family}");
            table.attack(name, by, |mark| {
                let packet = Ip::new(at(by), at(to), 132, &[&[0; 8][..], mark].concat());
                vec![bridge.link(by, to).ip(&packet)]
            });
        }
        // Through the node's own address on the bridge, back to another port.
        for (by, to) in [(A, B), (N, A)] {
            let name = format!("bridge: {by} to {to} through the node, {family}");
            table.attack(name, by, |mark| {
                let link = Link { next: bridge.gateway, ..bridge.link(by, to) };
                vec![link.ip(&Ip::udp((at(by), 1_111), (at(to), 80), mark))]
            });
        }
    }
    claims(&mut table, bridge);
    table
}

/// Who has which address, and who is the router.
fn claims(table: &mut Table, bridge: &Bridge) {
    let own = bridge.link(N, A).own;
    let all = Link { own, next: [0xff; 6] };
    let all_v6 = Link { own, next: [0x33, 0x33, 0, 0, 0, 1] };
    let nodes: IpAddr = "ff02::1".parse().unwrap();
    let [own4, other4] = [N, B].map(|who| bridge.address(who, Family::V4));
    let [own6, other6] = [N, B].map(|who| bridge.address(who, Family::V6));
    let gateway: IpAddr = "10.0.7.1".parse().unwrap();
    for (name, address) in [("B", other4), ("the node", gateway)] {
        for operation in [1, 2] {
            let name = format!("bridge: ARP {operation} of N as {name}");
            table.attack(name, N, |mark| {
                let message = arp(operation, (own, address), ([0; 6], bridge.address(A, Family::V4)));
                vec![all.frame(ARP, &[&message[..], mark].concat())]
            });
        }
    }
    table.passes("bridge: ARP of N as itself".into(), N, A, |mark| {
        let message = arp(1, (own, own4), ([0; 6], bridge.address(A, Family::V4)));
        vec![all.frame(ARP, &[&message[..], mark].concat())]
    });
    let option = |mark: &[u8]| [&[253, 3][..], mark, &[0; 6]].concat();
    let advertise = |source: IpAddr, target: IpAddr, mark: &[u8]| {
        let rest = [&[0x20, 0, 0, 0][..], &octets(target), &[2, 1], &own, &option(mark)].concat();
        vec![all_v6.ip(&Ip::icmp(source, nodes, 136, 0, &rest).hops(255))]
    };
    for (name, source, target) in [
        ("as B", other6, other6),
        ("of B's address", own6, other6),
        ("of the node's address", own6, "fd00:7::1".parse().unwrap()),
    ] {
        table.attack(format!("bridge: advertisement {name}"), N, |mark| advertise(source, target, mark));
    }
    table.passes("bridge: advertisement of its own".into(), N, A, |mark| advertise(own6, own6, mark));
    table.attack("bridge: router advertisement of N".into(), N, |mark| {
        let rest = [&[64, 0, 7, 8][..], &[0; 8], &[1, 1], &own, &option(mark)].concat();
        vec![all_v6.ip(&Ip::icmp("fe80::77".parse().unwrap(), nodes, 134, 0, &rest).hops(255))]
    });
    table.attack("bridge: N to everybody".into(), N, |mark| {
        vec![all.ip(&Ip::udp((own4, 1), ("10.0.7.255".parse().unwrap(), 80), mark))]
    });
    table.attack("bridge: N to everybody, IPv6".into(), N, |mark| {
        vec![all_v6.ip(&Ip::udp((own6, 1), (nodes, 80), mark))]
    });
    for kind in [130, 133, 135, 136] {
        table.attack(format!("bridge: ICMPv6 {kind} with data"), N, |mark| {
            let to = bridge.address(A, Family::V6);
            let data = [&[0; 4][..], mark, &[0x61; 580]].concat();
            vec![bridge.link(N, A).ip(&Ip::icmp(own6, to, kind, 0, &data).hops(64))]
        });
    }
    table.attack("bridge: noise of N as IPv4".into(), N, |mark| {
        vec![bridge.link(N, A).frame(IPV4, &[&[0x4f; 24][..], mark].concat())]
    });
}

#[test]
fn ports_of_a_bridge_are_enforced_or_refused() {
    on_every(Variants::Default, |under| {
        let bridge = Bridge::new();
        let name = under.backend.name();
        arrives_unguarded(&table(&bridge), &bridge);
        let (compiler, ids) = policy_of(&bridge.pods);
        let bindings = bind(&bridge.pods, &ids);
        let mut dataplane = under.open(DataplaneOptions::new());
        let refused = match dataplane.load(DesiredState::new(compiler.snapshot(), &bindings)) {
            Ok(applied) if applied.is_complete() => None,
            Ok(applied) => Some(format!("{:?}", applied.unreached)),
            Err(error) => Some(error.to_string()),
        };
        match refused {
            Some(reason) => {
                assert!(reason.contains("bridge"), "refused, and not for the bridge: {reason}");
                eprintln!("{name} refuses ports of a bridge: {reason}");
            }
            None => check(name, &table(&bridge), &bridge),
        }
        dataplane.remove().unwrap();
    });
}
