//! A node with more around it: a second node that routes, a pod behind that, and hosts outside.

use core::time::Duration;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::Receiver;

use nix::mount::MsFlags;
use portcullis::packet::{Packet, Protocol};

use crate::node::{PORTS, Pod, ip, node, patience, serve, tcp, udp};

/// The node, its pods, and what it reaches through its uplink.
pub(crate) struct Site {
    /// Pods of the node.
    pub(crate) pods: Vec<Pod>,
    /// The second node. Its `interface` is the node's uplink; everything below is behind it.
    pub(crate) second: Pod,
    /// Hosts behind the second node: pods of its own, and hosts that no cluster knows.
    pub(crate) far: Vec<Pod>,
    /// The control group of all of them.
    pub(crate) group: Group,
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
    let group = Group::enter();
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
    let site = Site { pods, second, far, group };
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

/// Serves more ports at the node, in whose thread this is called.
pub(crate) fn serve_more(ports: &[u16]) {
    for (at, port) in NODE.iter().flat_map(|at| ports.iter().map(move |port| (at, *port))) {
        serve(SocketAddr::new(at.parse().unwrap(), port));
    }
}

impl Site {
    /// Everybody serves these ports, too.
    pub(crate) fn serve_more(&self, ports: &'static [u16]) {
        serve_more(ports);
        for pod in self.pods.iter().chain([&self.second]).chain(&self.far) {
            let addresses = pod.addresses;
            let more = move || {
                for (at, port) in
                    addresses.into_iter().flat_map(|at| ports.iter().map(move |port| (at, *port)))
                {
                    serve(SocketAddr::new(at, port));
                }
            };
            pod.run(more).recv().unwrap();
        }
    }

    /// Everybody is found by everybody, before anything is measured by its absence.
    fn meet(&self) {
        let all: Vec<&Pod> = self.pods.iter().chain([&self.second]).chain(&self.far).collect();
        let node: [IpAddr; 2] = NODE.map(|text| text.parse().unwrap());
        let mut waiting = Vec::new();
        for from in &all {
            let others = all.iter().filter(|to| to.thread != from.thread).flat_map(|to| to.addresses);
            for to in others.chain(node) {
                waiting.push((
                    from.addresses[0],
                    to,
                    from.beside(move || (0..20).any(|_| udp(to, PORTS[0]))),
                ));
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
pub(crate) struct Tries<'a>(Vec<Try<'a>>);

struct Try<'a> {
    what: String,
    allowed: bool,
    begin: Box<dyn Fn() -> Receiver<bool> + 'a>,
}

impl<'a> Tries<'a> {
    /// TCP and UDP from `from` to both addresses of `to`.
    pub(crate) fn add(&mut self, what: &str, from: &'a Pod, to: [IpAddr; 2], port: u16, allowed: bool) {
        for (to, protocol) in BOTH.into_iter().flat_map(|protocol| to.map(|to| (to, protocol))) {
            self.one(what, Some(from), to, port, protocol, allowed);
        }
    }

    /// The same from the node, in whose thread this is called.
    pub(crate) fn add_here(&mut self, what: &str, to: [IpAddr; 2], port: u16, allowed: bool) {
        for (to, protocol) in BOTH.into_iter().flat_map(|protocol| to.map(|to| (to, protocol))) {
            self.one(what, None, to, port, protocol, allowed);
        }
    }

    /// TCP alone.
    pub(crate) fn add_tcp(&mut self, what: &str, from: &'a Pod, to: [IpAddr; 2], port: u16, allowed: bool) {
        to.into_iter().for_each(|to| self.one(what, Some(from), to, port, Protocol::TCP, allowed));
    }

    /// One probe, from `from` or from the node, in whose thread this is called.
    pub(crate) fn add_packet(&mut self, from: Option<&'a Pod>, packet: &Packet, allowed: bool) {
        let (to, port) = (packet.destination, packet.destination_port);
        self.one(&format!("from {}", packet.source), from, to, port, packet.protocol, allowed);
    }

    fn one(
        &mut self,
        what: &str,
        from: Option<&'a Pod>,
        to: IpAddr,
        port: u16,
        protocol: Protocol,
        allowed: bool,
    ) {
        let what = format!("{what}: {protocol} to {to} port {port}");
        let probe: fn(IpAddr, u16) -> bool = if protocol == Protocol::TCP { tcp } else { udp };
        let begin = move || match from {
            Some(pod) => pod.beside(move || probe(to, port)),
            None => here(move || probe(to, port)),
        };
        self.0.push(Try { what, allowed, begin: Box::new(begin) });
    }

    /// The same ones, all of them allowed.
    pub(crate) fn open(mut self) -> Self {
        self.0.iter_mut().for_each(|one| one.allowed = true);
        self
    }

    /// Compares all of them. How many there were, and how many came through.
    pub(crate) fn check(self, round: &str) -> (usize, usize) {
        let waiting: Vec<_> = self.0.iter().map(|one| (one.begin)()).collect();
        let results: Vec<_> = waiting.into_iter().map(|came| came.recv().unwrap()).collect();
        let (mut wrong, mut again) = (Vec::new(), 0);
        for (one, came) in self.0.iter().zip(&results) {
            // A machine that is busy loses packets; a policy that drops them does so again.
            let late = || (0..2).any(|_| (one.begin)().recv().unwrap());
            again += usize::from(one.allowed && !came);
            if one.allowed != (*came || one.allowed && late()) {
                wrong.push(format!("{}, allowed: {}", one.what, one.allowed));
            }
        }
        let count = self.0.len();
        assert!(wrong.is_empty(), "{round}: {} of {count} wrong:\n{}", wrong.len(), wrong.join("\n"));
        if again > 0 {
            eprintln!("{round}: {again} of {count} came through at a second try");
        }
        (count, self.0.iter().filter(|one| one.allowed).count())
    }
}

const BOTH: [Protocol; 2] = [Protocol::TCP, Protocol::UDP];

/// Runs `job` in a new thread, which is in the namespaces of this one.
fn here(job: impl FnOnce() -> bool + Send + 'static) -> Receiver<bool> {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(job()));
    told
}

/// A flow of datagrams that stays.
pub(crate) fn datagrams(to: IpAddr, port: u16) -> UdpSocket {
    let any: IpAddr = if to.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
    datagrams_from((any, 0), to, port)
}

/// The same from a certain port.
pub(crate) fn datagrams_from(from: (IpAddr, u16), to: IpAddr, port: u16) -> UdpSocket {
    // A program that another test starts at this moment holds copies of all sockets until it is executed.
    let bound = (0..100).find_map(|_| {
        UdpSocket::bind(from).inspect_err(|_| std::thread::sleep(Duration::from_millis(20))).ok()
    });
    let socket = bound.unwrap();
    socket.connect((to, port)).unwrap();
    socket.set_read_timeout(Some(patience())).unwrap();
    socket
}

/// Whether a datagram of the flow is answered.
pub(crate) fn answers(socket: &UdpSocket) -> bool {
    socket.send(b"hello").is_ok() && socket.recv(&mut [0; 16]).is_ok()
}

/// A control group of the calling thread and those that it starts from then on. What guards sockets there does not see
/// those of other tests. The thread has a mount namespace of its own.
pub(crate) struct Group {
    mount: PathBuf,
    outer: PathBuf,
    /// Its folder.
    pub(crate) folder: PathBuf,
}

impl Group {
    fn enter() -> Self {
        let number = nix::unistd::gettid();
        let mount = std::env::temp_dir().join(format!("portcullis-groups-{number}"));
        std::fs::create_dir_all(&mount).unwrap();
        let none: Option<&str> = None;
        nix::mount::mount(Some("groups"), &mount, Some("cgroup2"), MsFlags::empty(), none).unwrap();
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
        let outer = mount.join(own);
        let folder = outer.join(format!("portcullis-{number}"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("cgroup.type"), "threaded").unwrap();
        std::fs::write(folder.join("cgroup.threads"), number.to_string()).unwrap();
        Self { mount, outer, folder }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let threads = std::fs::read_to_string(self.folder.join("cgroup.threads")).unwrap_or_default();
        for thread in threads.lines() {
            let _ = std::fs::write(self.outer.join("cgroup.threads"), thread);
        }
        let _ = std::fs::remove_dir(&self.folder);
        let _ = nix::mount::umount(&self.mount);
        let _ = std::fs::remove_dir(&self.mount);
    }
}
