//! A node with more around it: a second node that routes, a pod behind that, and hosts outside.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::mpsc::Receiver;

use crate::node::{PATIENCE, PORTS, Pod, ip, node, serve, tcp, udp};

/// The node, its pods, and what it reaches through its uplink.
pub(crate) struct Site {
    /// Pods of the node.
    pub(crate) pods: Vec<Pod>,
    /// The second node. Its `interface` is the node's uplink; everything below is behind it.
    pub(crate) second: Pod,
    /// Hosts behind the second node: pods of its own, and hosts that no cluster knows.
    pub(crate) far: Vec<Pod>,
}

/// The node's own addresses, at its uplink.
pub(crate) const NODE: [&str; 2] = ["172.16.9.1", "fd00:16::1"];
/// The second node's.
const SECOND: [&str; 2] = ["172.16.9.2", "fd00:16::2"];
/// Two pods of the second node, and two hosts outside.
const FAR: [[&str; 2]; 4] = [
    ["10.0.8.10", "fd00:8::10"],
    ["10.0.8.11", "fd00:8::11"],
    ["192.0.2.10", "2001:db8:2::10"],
    ["192.0.2.11", "2001:db8:2::11"],
];

/// Makes the calling thread's namespace the node. Everybody serves [`PORTS`], the node itself too.
pub(crate) fn site(pods: usize) -> Site {
    let pods = node(pods);
    let open = |name: &str, addresses: [&str; 2]| {
        Pod::open(name.into(), addresses.map(|text| text.parse().unwrap()))
    };
    let second = open("up0", SECOND);
    ip(&format!("link add up0 type veth peer name eth0 netns {}\nlink set up0 up\n", second.thread));
    for (own, next) in NODE.into_iter().zip(SECOND) {
        let (length, any) = if own.contains(':') { (64, "::/0") } else { (24, "default") };
        ip(&format!("addr add {own}/{length} dev up0{}\n", nodad(own)));
        ip(&format!("route add {any} via {next}\n"));
    }
    second.run(|| {
        for name in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/{name}"), "1").unwrap();
        }
        for name in ["accept_dad", "accept_ra"] {
            std::fs::write(format!("/proc/sys/net/ipv6/conf/default/{name}"), "0").unwrap();
        }
        ip("link set lo up\nlink set eth0 up\n");
        for (own, (next, pods)) in
            SECOND.into_iter().zip(NODE.into_iter().zip(["10.0.9.0/24", "fd00:9::/64"]))
        {
            let length = if own.contains(':') { 64 } else { 24 };
            ip(&format!("addr add {own}/{length} dev eth0{}\nroute add {pods} via {next}\n", nodad(own)));
        }
        serve_all(SECOND.map(|text| text.parse().unwrap()));
    });
    let far: Vec<Pod> =
        (0..).zip(FAR).map(|(number, addresses)| behind(&second, number, open("eth0", addresses))).collect();
    serve_all(NODE.map(|text| text.parse().unwrap()));
    let site = Site { pods, second, far };
    site.meet();
    site
}

fn nodad(address: &str) -> &str {
    if address.contains(':') { " nodad" } else { "" }
}

/// Connects `host` to `second`.
fn behind(second: &Pod, number: usize, host: Pod) -> Pod {
    let ([v4, v6], thread) = (host.addresses, host.thread);
    let outside = move || {
        ip(&format!(
            "link add far{number} type veth peer name eth0 netns {thread}\naddr add 169.254.1.1/32 dev far{number}\n\
             link set far{number} up\naddr add fe80::1/64 dev far{number} nodad\n\
             route add {v4}/32 dev far{number}\nroute add {v6}/128 dev far{number}\n"
        ));
    };
    second.run(outside).recv().unwrap();
    let inside = move || {
        ip(&format!(
            "link set lo up\nlink set eth0 up\naddr add {v4}/32 dev eth0\naddr add {v6}/128 dev eth0 nodad\n\
             route add 169.254.1.1 dev eth0\nroute add default via 169.254.1.1\n\
             route add ::/0 via fe80::1 dev eth0\n"
        ));
        serve_all([v4, v6]);
    };
    host.run(inside).recv().unwrap();
    host
}

fn serve_all(addresses: [IpAddr; 2]) {
    for address in addresses {
        PORTS.into_iter().for_each(|port| serve(SocketAddr::new(address, port)));
    }
}

impl Site {
    /// Everybody is found by everybody, before anything is measured by its absence.
    fn meet(&self) {
        let all: Vec<&Pod> = self.pods.iter().chain([&self.second]).chain(&self.far).collect();
        let node: [IpAddr; 2] = NODE.map(|text| text.parse().unwrap());
        let mut waiting = Vec::new();
        for from in &all {
            let others = all.iter().filter(|to| to.thread != from.thread).flat_map(|to| to.addresses);
            for to in others.chain(node) {
                waiting.push((from.addresses[0], to, from.beside(move || (0..5).any(|_| udp(to, PORTS[0])))));
            }
        }
        for (from, to, came) in waiting {
            assert!(came.recv().unwrap(), "{from} does not reach {to}");
        }
    }
}

/// Loads rules into netfilter of the calling thread's namespace.
pub(crate) fn nft(rules: &str) {
    let path = std::env::temp_dir().join(format!("portcullis-nft-{}", nix::unistd::gettid()));
    std::fs::write(&path, rules).unwrap();
    let loaded = Command::new("nft").arg("-f").arg(&path).output().unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(loaded.status.success(), "{loaded:?}\n{rules}");
}

/// Connections that are tried at the same time.
#[derive(Default)]
pub(crate) struct Tries {
    waiting: Vec<(String, bool, Receiver<bool>)>,
}

impl Tries {
    /// TCP and UDP from `from` to both addresses of `to`.
    pub(crate) fn add(&mut self, what: &str, from: &Pod, to: [IpAddr; 2], port: u16, allowed: bool) {
        for to in to {
            let what = |protocol| format!("{what}: {protocol} to {to} port {port}");
            self.waiting.push((what("TCP"), allowed, from.beside(move || tcp(to, port))));
            self.waiting.push((what("UDP"), allowed, from.beside(move || udp(to, port))));
        }
    }

    /// The same from the node, in whose thread this is called.
    pub(crate) fn add_here(&mut self, what: &str, to: [IpAddr; 2], port: u16, allowed: bool) {
        for to in to {
            for (protocol, probe) in [("TCP", tcp as fn(IpAddr, u16) -> bool), ("UDP", udp)] {
                let (tell, told) = std::sync::mpsc::channel();
                // The new thread is in the namespace of this one.
                std::thread::spawn(move || tell.send(probe(to, port)));
                self.waiting.push((format!("{what}: {protocol} to {to} port {port}"), allowed, told));
            }
        }
    }

    /// The same ones, all of them allowed.
    pub(crate) fn open(mut self) -> Self {
        self.waiting.iter_mut().for_each(|(_, allowed, _)| *allowed = true);
        self
    }

    /// Compares all of them. How many there were, and how many came through.
    pub(crate) fn check(self, round: &str) -> (usize, usize) {
        let count = self.waiting.len();
        let results: Vec<_> = self
            .waiting
            .into_iter()
            .map(|(what, allowed, came)| (what, allowed, came.recv().unwrap()))
            .collect();
        let wrong: Vec<_> = results
            .iter()
            .filter(|(_, allowed, came)| allowed != came)
            .map(|(what, allowed, _)| format!("{what}, allowed: {allowed}"))
            .collect();
        assert!(wrong.is_empty(), "{round}: {} of {count} wrong:\n{}", wrong.len(), wrong.join("\n"));
        (count, results.iter().filter(|(_, _, came)| *came).count())
    }
}

/// A flow of datagrams that stays.
pub(crate) fn datagrams(to: IpAddr, port: u16) -> UdpSocket {
    let any: IpAddr = if to.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
    let socket = UdpSocket::bind((any, 0)).unwrap();
    socket.connect((to, port)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Whether a datagram of the flow is answered.
pub(crate) fn answers(socket: &UdpSocket) -> bool {
    socket.send(b"hello").is_ok() && socket.recv(&mut [0; 16]).is_ok()
}
