//! A node that rewrites destinations and sources, as kube-proxy does.

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use portcullis::backend::{Bindings, DesiredState};
use portcullis::model::EndpointId;

use crate::backends::{Variants, bind, complete, interface, on_every_node, on_every_site, with_services};
use crate::node::{Pod, carries, connect, ip, serve, tcp};
use crate::wide::{NODE, Site, Tries, answers, datagrams, datagrams_from, nft};
use crate::{compiled, tighten};

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
pub(crate) const STRANGER: u8 = 21;
pub(crate) const OUTSIDE: u8 = 30;
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
pub(crate) const CLOSED: &str = "
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

/// The pods, and an uplink that no host endpoint guards.
pub(crate) fn bound(site: &Site, ids: &[EndpointId]) -> Bindings {
    let mut bindings = bind(&site.pods, ids);
    bindings.uplink(interface(&site.second.interface));
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
    on_every_site(3, move |under, site| {
        let (compiler, ids) = compiled(&format!("{PODS}{RULES}"), &site.pods);
        nft(&kube_proxy(masquerade));
        // An address of the service networks that nothing rewrites, and that somebody has nevertheless.
        site.second.run(|| stray(STRAY)).recv().unwrap();
        // The test of the test: without policy all of it works.
        let (all, came) = tries(site).open().check("without policy");
        assert_eq!(all, came);
        let mut dataplane = under.load(with_services(), &compiler, &bound(site, &ids));
        let (all, came) = tries(site).check("with policy");
        eprintln!("{under}, {masquerade:?}: {all} connections, {came} came through: as policy says");
        dataplane.remove().unwrap();
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
    on_every_site(3, move |under, site| {
        nft(&kube_proxy(masquerade));
        // On a machine that is busy, the kernel must not forget what it rewrites meanwhile.
        for name in ["nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"] {
            std::fs::write(format!("/proc/sys/net/netfilter/{name}"), "600").unwrap();
        }
        let policy = |rules: &str| compiled(&format!("{PODS}{rules}"), &site.pods);
        let ((mut open, ids), (shut, _)) = (policy(RULES), policy(CLOSED));
        let bindings = bound(site, &ids);
        let mut dataplane = under.load(with_services(), &open, &bindings);
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
        let delta = tighten(&mut open, CLOSED);
        complete(&dataplane.update(DesiredState::new(open.snapshot(), &bindings), &delta).unwrap());
        go_on("tighter");
        nothing_new("tighter");
        for _ in 0..3 {
            drop(dataplane);
            dataplane = under.load(with_services(), &shut, &bindings);
            go_on("after a restart");
        }
        nothing_new("after a restart");
        dataplane.remove().unwrap();
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
    on_every_site(3, |under, site| {
        nft(&kube_proxy(Masquerade::All));
        // The kernel forgets flows before we do.
        std::fs::write("/proc/sys/net/netfilter/nf_conntrack_udp_timeout", "1").unwrap();
        let (compiler, ids) = compiled(&format!("{PODS}{RULES}"), &site.pods);
        let mut dataplane = under.load(with_services(), &compiler, &bound(site, &ids));
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
        dataplane.remove().unwrap();
    });
}

/// As kube-proxy writes them: a service whose backend is rewritten to, and masquerading of what needs it.
const KUBE_PROXY: &str = "table ip kube {
    chain services {
        type nat hook prerouting priority -100
        ip daddr 10.96.0.10 tcp dport 8888 dnat to 10.0.9.11:80
        ip daddr 10.96.0.11 tcp dport 8888 dnat to 10.0.9.12:80
        ip daddr 10.96.0.12 tcp dport 8888 dnat to 10.0.9.10:80
    }
    chain after {
        type nat hook postrouting priority 100
        ct status dnat ip saddr 10.0.9.0/24 masquerade
    }
}
";

/// The client may reach the pod `server` and nobody else; the third pod lets in the client only.
pub(crate) const BACKENDS: &str = "
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
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: client, namespace: shop}
spec:
  podSelector: {matchLabels: {app: client}}
  policyTypes: [Egress]
  egress: [{to: [{podSelector: {matchLabels: {app: server}}}], ports: [{port: 80}]}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server, namespace: shop}
spec:
  podSelector: {matchLabels: {app: server}}
  ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]
";

/// Loads the services' rules.
pub(crate) fn small_kube_proxy() {
    nft(KUBE_PROXY);
}

#[test]
fn policy_names_backends_and_services_rewrite_to_them() {
    on_every_node(3, Variants::Default, |under, pods| {
        let (compiler, ids) = compiled(BACKENDS, pods);
        small_kube_proxy();
        let bindings = bind(pods, &ids);
        let service = |last: u8| -> IpAddr { [10, 96, 0, last].into() };
        let try_it =
            |from: usize, to: IpAddr, port: u16| pods[from].run(move || tcp(to, port)).recv().unwrap();
        // The test of the test: without policy, all three services work, also from the pod behind one of them.
        for last in [10, 11, 12] {
            assert!(try_it(0, service(last), 8888), "{last}");
        }
        let mut dataplane = under.load(with_services(), &compiler, &bindings);
        let [client, server, vault] = [0, 1, 2];
        let direct = |pod: usize| pods[pod].addresses[0];
        for (what, from, to, port, allowed) in [
            ("the backend that policy names", client, service(10), 8888, true),
            ("another backend", client, service(11), 8888, false),
            ("itself, through a service", client, service(12), 8888, true),
            ("the server, directly", client, direct(server), 80, true),
            ("the server, another port", client, direct(server), 8080, false),
            ("the vault, directly", client, direct(vault), 80, false),
            // The server sees the vault, not the node, though the packet has the node's address by then.
            ("a source that policy does not name, masqueraded", vault, service(10), 8888, false),
            ("a pod without policy", server, service(11), 8888, true),
        ] {
            assert_eq!(try_it(from, to, port), allowed, "{what}");
        }
        dataplane.remove().unwrap();
    });
}
