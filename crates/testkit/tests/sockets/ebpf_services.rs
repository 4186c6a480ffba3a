//! The eBPF program on a node that rewrites destinations and sources, as kube-proxy does.

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use portcullis::backend::Bindings;
use portcullis::compile::Compiler;
use portcullis::ebpf::{NodeBackends, Options, Reason};
use portcullis::model::{EndpointId, Update};
use portcullis::scenario::{LoadOptions, Scenario};

use crate::compiled;
use crate::ebpf::{
    bind, interface, on_a_node_with_bpf, options, remove, start_enforcer, update, with_more_services,
};
use crate::node::{Pod, carries, connect, ip, serve};
use crate::wide::{NODE, Site, Tries, answers, datagrams, datagrams_from, nft, site};

/// Runs `test` on a node with an uplink.
pub(crate) fn on_a_site(pods: usize, test: impl FnOnce(&Site, &Path) + Send + 'static) {
    on_a_node_with_bpf(0, move |_, pins| test(&site(pods), pins));
}

/// Services of the node, by the last byte of their address: where they lead to.
const SERVICES: [(u8, [&str; 2], u16); 9] = [
    (10, ["10.0.9.10", "fd00:9::10"], 80),
    (11, ["10.0.9.11", "fd00:9::11"], 80),
    (12, ["10.0.9.12", "fd00:9::12"], 80),
    (20, ["10.0.8.10", "fd00:8::10"], 80),
    (21, ["10.0.8.11", "fd00:8::11"], 80),
    (30, ["192.0.2.10", "2001:db8:2::10"], 80),
    (31, ["192.0.2.11", "2001:db8:2::11"], 80),
    (40, NODE, 80),
    (41, NODE, 8080),
];
pub(crate) const CLIENT: u8 = 10;
pub(crate) const SERVER: u8 = 11;
pub(crate) const VAULT: u8 = 12;
pub(crate) const REMOTE: u8 = 20;
const STRANGER: u8 = 21;
const OUTSIDE: u8 = 30;
const BEYOND: u8 = 31;
pub(crate) const API: u8 = 40;
pub(crate) const ADMIN: u8 = 41;

/// What gets another source address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Masquerade {
    /// What comes back to the pod that sent it, which cannot work otherwise.
    Hairpin,
    /// Everything that was sent to a service or a port of the node, and what leaves the cluster.
    All,
}

/// The rules of kube-proxy: services and ports of the node in maps, its mark for what is to be masqueraded.
pub(crate) fn kube_proxy(masquerade: Masquerade) -> String {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for (last, [to4, to6], port) in SERVICES {
        for protocol in ["tcp", "udp"] {
            v4.push(format!("10.96.0.{last} . {protocol} . 8888 : {to4} . {port}"));
            v6.push(format!("fd00:96::{last} . {protocol} . 8888 : {to6} . {port}"));
        }
    }
    let [node4, node6] = NODE;
    for (port, [to4, to6]) in [(30_080, SERVICES[1].1), (30_081, SERVICES[2].1)] {
        for protocol in ["tcp", "udp"] {
            v4.push(format!("{node4} . {protocol} . {port} : {to4} . 80"));
            v6.push(format!("{node6} . {protocol} . {port} : {to6} . 80"));
        }
    }
    let to_mark = match masquerade {
        Masquerade::All => "meta mark set meta mark or 0x4000",
        Masquerade::Hairpin => "counter",
    };
    let pairs = |at: usize| {
        SERVICES[..3].iter().map(|(_, to, _)| format!("{0} . {0}", to[at])).collect::<Vec<_>>().join(", ")
    };
    let after = match masquerade {
        Masquerade::All => {
            "meta mark & 0x4000 == 0x4000 meta mark set meta mark xor 0x4000 masquerade
            ip saddr 10.0.9.0/24 ip daddr != 10.0.0.0/8 oifname up0 masquerade
            ip6 saddr fd00:9::/64 ip6 daddr != fd00::/8 oifname up0 masquerade"
        }
        Masquerade::Hairpin => "counter",
    };
    format!(
        "table inet kube {{
        map v4 {{ type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; elements = {{ {} }} }}
        map v6 {{ type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; elements = {{ {} }} }}
        chain services {{
            ip daddr . meta l4proto . th dport @v4 {to_mark}
            ip6 daddr . meta l4proto . th dport @v6 {to_mark}
            dnat ip to ip daddr . meta l4proto . th dport map @v4
            dnat ip6 to ip6 daddr . meta l4proto . th dport map @v6
        }}
        chain before {{ type nat hook prerouting priority -100; jump services; }}
        chain own {{ type nat hook output priority -100; jump services; }}
        chain after {{
            type nat hook postrouting priority 100
            {after}
            ip saddr . ip daddr {{ {} }} masquerade
            ip6 saddr . ip6 daddr {{ {} }} masquerade
        }}
    }}
    ",
        v4.join(", "),
        v6.join(", "),
        pairs(0),
        pairs(1)
    )
}

/// Pods of the node, and two of the second.
pub(crate) const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop, labels: {app: client}}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: shop, labels: {app: server}}
---
apiVersion: v1
kind: Pod
metadata: {name: vault, namespace: shop, labels: {app: vault}}
---
apiVersion: v1
kind: Pod
metadata: {name: remote, namespace: west, labels: {app: remote}}
spec: {nodeName: second}
status: {podIP: 10.0.8.10, podIPs: [{ip: 10.0.8.10}, {ip: 'fd00:8::10'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: stranger, namespace: west, labels: {app: stranger}}
spec: {nodeName: second}
status: {podIP: 10.0.8.11, podIPs: [{ip: 10.0.8.11}, {ip: 'fd00:8::11'}]}
";

/// The client may reach the server, a pod of the second node, one host outside and the node, all at port 80. The server lets in the
/// client and that pod, and may reach nobody. The vault has no policy.
pub(crate) const RULES: &str = "
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: client, namespace: shop}
spec:
  podSelector: {matchLabels: {app: client}}
  policyTypes: [Egress]
  egress:
    - to:
        - podSelector: {matchLabels: {app: server}}
        - {namespaceSelector: {}, podSelector: {matchLabels: {app: remote}}}
        - ipBlock: {cidr: 192.0.2.10/32}
        - ipBlock: {cidr: '2001:db8:2::10/128'}
        - ipBlock: {cidr: 172.16.9.1/32}
        - ipBlock: {cidr: 'fd00:16::1/128'}
      ports: [{port: 80}, {port: 80, protocol: UDP}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server, namespace: shop}
spec:
  podSelector: {matchLabels: {app: server}}
  policyTypes: [Ingress, Egress]
  ingress:
    - from:
        - podSelector: {matchLabels: {app: client}}
        - {namespaceSelector: {}, podSelector: {matchLabels: {app: remote}}}
";

/// The same policies without any rule.
const CLOSED: &str = "
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: client, namespace: shop}
spec: {podSelector: {matchLabels: {app: client}}, policyTypes: [Egress]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server, namespace: shop}
spec: {podSelector: {matchLabels: {app: server}}, policyTypes: [Ingress, Egress]}
";

pub(crate) fn service(last: u8) -> [IpAddr; 2] {
    [format!("10.96.0.{last}"), format!("fd00:96::{last}")].map(|text| text.parse().unwrap())
}

fn direct(last: u8) -> [IpAddr; 2] {
    let (_, to, _) = SERVICES.into_iter().find(|(number, ..)| *number == last).unwrap();
    to.map(|text| text.parse().unwrap())
}

pub(crate) fn with_services(site: &Site) -> Options {
    let services = ["10.96.0.0/12", "fd00:96::/112"].map(|net| net.parse().unwrap());
    with_more_services(options(), services)
        .with_node_backends(NodeBackends::GuardedAt(site.group.folder.clone()))
}

/// The pods, and an uplink that no host endpoint guards.
pub(crate) fn bound(site: &Site, compiler: &(Compiler, Vec<EndpointId>)) -> Bindings {
    let mut bindings = bind(&site.pods, &compiler.1);
    bindings.uplink(interface(&site.second));
    bindings
}

const STRAY: u8 = 99;

/// Serves an address of the service networks.
fn stray(last: u8) {
    for at in service(last) {
        let nodad = if at.is_ipv6() { " nodad" } else { "" };
        ip(&format!("addr add {at} dev lo{nodad}\n"));
        serve(SocketAddr::new(at, 80));
    }
}

/// Everything that is tried, with the right answers.
fn tries(site: &Site) -> Tries<'_> {
    let mut tries = Tries::default();
    let [client, server, vault] = [&site.pods[0], &site.pods[1], &site.pods[2]];
    let everybody = SERVICES.map(|(last, ..)| last);
    for to in everybody {
        let named = [SERVER, REMOTE, OUTSIDE, API].contains(&to);
        tries.add(&format!("client to service {to}"), client, service(to), 8888, named || to == CLIENT);
        if ![CLIENT, ADMIN].contains(&to) {
            tries.add(&format!("client to {to}"), client, direct(to), 80, named);
            tries.add(&format!("client to {to}"), client, direct(to), 8080, false);
        }
        tries.add(&format!("server to service {to}"), server, service(to), 8888, to == SERVER);
        // The server sees the vault, not the node, though the packet may have the node's address by then.
        tries.add(&format!("vault to service {to}"), vault, service(to), 8888, to != SERVER);
        if ![VAULT, ADMIN].contains(&to) {
            tries.add(&format!("vault to {to}"), vault, direct(to), 80, to != SERVER);
        }
        tries.add_here(&format!("node to service {to}"), service(to), 8888, true);
        tries.add_here(&format!("node to {to}"), direct(to), 80, true);
    }
    tries.add("client to a service without a rule", client, service(STRAY), 80, false);
    tries.add("vault to a service without a rule", vault, service(STRAY), 80, true);
    let node: [IpAddr; 2] = NODE.map(|text| text.parse().unwrap());
    for (far, last) in site.far.iter().zip([REMOTE, STRANGER, OUTSIDE, BEYOND]) {
        tries.add(&format!("{last} to the server's port of the node"), far, node, 30_080, last == REMOTE);
        tries.add(&format!("{last} to the vault's port of the node"), far, node, 30_081, true);
        tries.add(&format!("{last} to the server"), far, direct(SERVER), 80, last == REMOTE);
        tries.add(&format!("{last} to the vault"), far, direct(VAULT), 80, true);
    }
    tries
}

fn services_lead_to_what_policy_names(masquerade: Masquerade) {
    on_a_site(3, move |site, pins| {
        let compiler = compiled(&format!("{PODS}{RULES}"), &site.pods);
        nft(&kube_proxy(masquerade));
        // An address of the service networks that nothing rewrites, and that somebody has nevertheless.
        site.second.run(|| stray(STRAY)).recv().unwrap();
        // The test of the test: without policy all of it works.
        let (all, came) = tries(site).open().check("without policy");
        assert_eq!(all, came);
        let bindings = bound(site, &compiler);
        let enforcer = start_enforcer(with_services(site), pins, compiler.0.snapshot(), &bindings).unwrap();
        let (all, came) = tries(site).check("with policy");
        eprintln!("{masquerade:?}: {all} connections, {came} came through: as policy says");
        remove(enforcer);
    });
}

#[test]
fn policy_names_backends_and_most_sources_stay() {
    services_lead_to_what_policy_names(Masquerade::Hairpin);
}

#[test]
fn policy_names_backends_and_sources_are_masqueraded() {
    services_lead_to_what_policy_names(Masquerade::All);
}

/// Flows that stay, one of each protocol.
pub(crate) struct Flows {
    what: String,
    stream: TcpStream,
    socket: UdpSocket,
}

impl Flows {
    pub(crate) fn begin(from: &Pod, to: IpAddr, port: u16) -> Self {
        let what = format!("{} to {to} port {port}", from.addresses[0]);
        let (stream, socket) = from.run(move || (connect(to, port), datagrams(to, port))).recv().unwrap();
        let mut flows = Self { what, stream, socket };
        flows.go_on("at first");
        flows
    }

    pub(crate) fn go_on(&mut self, when: &str) {
        // A machine that is busy is late.
        assert!((0..3).any(|_| carries(&mut self.stream)), "{when}: TCP of {}", self.what);
        assert!((0..3).any(|_| answers(&self.socket)), "{when}: UDP of {}", self.what);
    }

    /// Whether nothing comes back of either.
    pub(crate) fn are_dead(&mut self) -> bool {
        !carries(&mut self.stream) && !answers(&self.socket)
    }
}

/// Policy tightens, in place and by a restart, and takes nothing from flows that are there already.
fn flows_through_services_go_on(masquerade: Masquerade) {
    on_a_site(3, move |site, pins| {
        nft(&kube_proxy(masquerade));
        // On a machine that is busy, the kernel must not forget what it rewrites meanwhile.
        for name in ["nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"] {
            std::fs::write(format!("/proc/sys/net/netfilter/{name}"), "600").unwrap();
        }
        let policy = |rules: &str| compiled(&format!("{PODS}{rules}"), &site.pods);
        let (mut open, shut) = (policy(RULES), policy(CLOSED));
        let bindings = bound(site, &open);
        let mut enforcer = start_enforcer(with_services(site), pins, open.0.snapshot(), &bindings).unwrap();
        let mut flows = Vec::new();
        for last in [CLIENT, SERVER, REMOTE, OUTSIDE, API] {
            for to in service(last) {
                flows.push(Flows::begin(&site.pods[0], to, 8888));
            }
        }
        for to in NODE {
            flows.push(Flows::begin(&site.far[0], to.parse().unwrap(), 30_080));
        }
        let mut go_on = |when: &str| flows.iter_mut().for_each(|flow| flow.go_on(when));
        let nothing_new = |when: &str| {
            let mut tries = Tries::default();
            for last in [SERVER, REMOTE, OUTSIDE, API] {
                tries.add("client", &site.pods[0], service(last), 8888, false);
            }
            tries.add("remote", &site.far[0], NODE.map(|text| text.parse().unwrap()), 30_080, false);
            tries.check(when);
        };
        // In place.
        let scenario = Scenario::parse("closed", CLOSED, LoadOptions::new()).unwrap();
        for policy in scenario.cluster().policies().values() {
            open.0.apply(Update::Policy(policy.clone())).unwrap();
        }
        let delta = open.0.commit();
        update(&mut enforcer, open.0.snapshot(), &delta, &bindings);
        go_on("tighter");
        nothing_new("tighter");
        for _ in 0..3 {
            enforcer = start_enforcer(with_services(site), pins, shut.0.snapshot(), &bindings).unwrap();
            go_on("after a restart");
        }
        nothing_new("after a restart");
        remove(enforcer);
        go_on("without policy");
    });
}

#[test]
fn flows_through_services_go_on_when_policy_tightens() {
    flows_through_services_go_on(Masquerade::Hairpin);
}

#[test]
fn masqueraded_flows_go_on_when_policy_tightens() {
    flows_through_services_go_on(Masquerade::All);
}

/// Source NAT gives the vault the address and port that the client had before, which the server let in.
#[test]
fn an_address_that_was_somebody_elses_opens_nothing() {
    on_a_site(3, |site, pins| {
        nft(&kube_proxy(Masquerade::All));
        // The kernel forgets flows before we do.
        std::fs::write("/proc/sys/net/netfilter/nf_conntrack_udp_timeout", "1").unwrap();
        let compiler = compiled(&format!("{PODS}{RULES}"), &site.pods);
        let bindings = bound(site, &compiler);
        let enforcer = start_enforcer(with_services(site), pins, compiler.0.snapshot(), &bindings).unwrap();
        for to in service(SERVER) {
            let [client, vault] = [0, 2].map(|pod: usize| {
                let any: IpAddr = if to.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
                move || {
                    let probe = move || (0..3).any(|_| answers(&datagrams_from((any, 7_777), to, 8888)));
                    let came = site.pods[pod].run(probe).recv().unwrap();
                    std::thread::sleep(Duration::from_millis(2_500));
                    came
                }
            });
            assert!(client(), "{to}");
            assert!(!vault(), "{to}");
            assert!(client(), "{to}");
        }
        remove(enforcer);
    });
}

/// Two enforcers, one of which is replaced while the other is not yet.
#[test]
fn classes_of_another_process_are_not_taken_for_our_own() {
    on_a_site(3, |site, pins| {
        nft(&kube_proxy(Masquerade::All));
        let compiler = compiled(&format!("{PODS}{RULES}"), &site.pods);
        let bindings = bound(site, &compiler);
        std::fs::create_dir_all(pins).unwrap();
        let start = |name: &str| {
            start_enforcer(with_services(site), &pins.join(name), compiler.0.snapshot(), &bindings).unwrap()
        };
        let check = |when: &str, allowed: bool| {
            let mut tries = Tries::default();
            tries.add("client", &site.pods[0], service(SERVER), 8888, allowed);
            // Whose source can still be told.
            tries.add("client", &site.pods[0], service(API), 8888, true);
            tries.add("client", &site.pods[0], service(ADMIN), 8888, false);
            tries.check(when);
        };
        // Both see every packet, the second first; the mark is that of the other.
        let (one, two) = (start("one"), start("two"));
        check("at first", true);
        let mut flows = Flows::begin(&site.pods[0], service(SERVER)[0], 8888);
        drop(two);
        let two = start("two");
        check("between one and the other", false);
        flows.go_on("between one and the other");
        assert!(two.reasons().unwrap()[&Reason::Stale] > 0);
        drop(one);
        let one = start("one");
        check("in the end", true);
        flows.go_on("in the end");
        [one, two].into_iter().for_each(remove);
        std::fs::remove_dir(pins).unwrap();
    });
}

/// Who sent a packet cannot be told when it came in by an interface that nobody is bound to.
#[test]
fn packets_that_crossed_a_bridge_are_dropped() {
    on_a_site(3, |site, pins| {
        nft(&kube_proxy(Masquerade::Hairpin));
        let compiler = compiled(&format!("{PODS}{RULES}"), &site.pods);
        let bindings = bound(site, &compiler);
        // The client's interface becomes a port, and the bridge does what the interface did.
        let Pod { interface, addresses: [v4, v6], .. } = &site.pods[0];
        ip(&format!(
            "link add br0 type bridge\nlink set br0 up\nlink set {interface} master br0\n\
             addr add 169.254.1.1/32 dev br0\naddr del fe80::1/64 dev {interface}\naddr add fe80::1/64 dev br0 nodad\n\
             route replace {v4}/32 dev br0\nroute replace {v6}/128 dev br0\n"
        ));
        site.pods[0].run(|| ip("-4 neigh flush dev eth0\n-6 neigh flush dev eth0\n")).recv().unwrap();
        let tries = |allowed: bool| {
            let mut tries = Tries::default();
            for last in [SERVER, VAULT, REMOTE, STRANGER] {
                tries.add("client", &site.pods[0], service(last), 8888, allowed);
            }
            tries
        };
        tries(true).check("without policy");
        let enforcer = start_enforcer(with_services(site), pins, compiler.0.snapshot(), &bindings).unwrap();
        tries(false).check("with policy");
        assert!(enforcer.reasons().unwrap()[&Reason::UnknownInterface] > 0);
        remove(enforcer);
    });
}
