//! The node that is attacked: who is there, what policy says of them, and the flows that live while it is attacked.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, UdpSocket};

use crate::cluster::{compiled, placed};
use crate::frames::Link;
use crate::node::{Pod, ip};
use crate::table::Wire;
use crate::taps::{Ear, Tap, link};
use crate::wide::{NODE, Site, answers, datagrams, site};
use portcullis::compile::Compiler;
use portcullis::model::{Cluster, EndpointId};

/// Who sends, and who may get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Who {
    /// A pod that no policy selects.
    A,
    /// Nobody may reach it.
    B,
    /// A may reach its port 80, and so may the first host outside.
    C,
    /// It may reach port 80 of A, and nobody may reach it.
    M,
    /// It may send nothing, and nobody may reach it.
    N,
    /// The sockets of the node.
    Node,
    /// The second node, which is the way to all that follow.
    Second,
    /// A pod of the second node.
    Far,
    /// The first host outside.
    Outside,
    /// Another one.
    Stranger,
}

use Who::{A, B, C, Far, M, N, Node, Outside, Second, Stranger};

/// The pods of the node, in the order of their names.
pub(crate) const PODS: [Who; 5] = [A, B, C, M, N];

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Family {
    V4,
    V6,
}

pub(crate) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::V4 { "IPv4" } else { "IPv6" })
    }
}

/// The flows that policy allows and that go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Live {
    /// A asks C.
    AskC,
    /// A asks outside, as it would a name server.
    AskOutside,
    /// M asks A.
    OfM,
    /// Outside asks C.
    FromOutside,
}

impl Live {
    pub(crate) const ALL: [Self; 4] = [Self::AskC, Self::AskOutside, Self::OfM, Self::FromOutside];

    /// Who began it, and with whom.
    pub(crate) const fn ends(self) -> (Who, Who) {
        match self {
            Self::AskC => (A, C),
            Self::AskOutside => (A, Outside),
            Self::OfM => (M, A),
            Self::FromOutside => (Outside, C),
        }
    }
}

/// What policy says of the pods.
const POLICY: &str = "
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: shop, labels: {app: a}}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: shop, labels: {app: b}}
---
apiVersion: v1
kind: Pod
metadata: {name: c, namespace: shop, labels: {app: c}}
---
apiVersion: v1
kind: Pod
metadata: {name: m, namespace: shop, labels: {app: m}}
---
apiVersion: v1
kind: Pod
metadata: {name: mute, namespace: shop, labels: {app: mute}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: nobody, namespace: shop}
spec:
  podSelector: {matchExpressions: [{key: app, operator: In, values: [b, m, mute]}]}
  policyTypes: [Ingress]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: c, namespace: shop}
spec:
  podSelector: {matchLabels: {app: c}}
  ingress:
    - from:
        - podSelector: {matchLabels: {app: a}}
        - ipBlock: {cidr: 192.0.2.10/32}
        - ipBlock: {cidr: '2001:db8:2::10/128'}
      ports: [{port: 80}, {port: 80, protocol: UDP}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: m, namespace: shop}
spec:
  podSelector: {matchLabels: {app: m}}
  policyTypes: [Egress]
  egress:
    - to: [{podSelector: {matchLabels: {app: a}}}]
      ports: [{port: 80}, {port: 80, protocol: UDP}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: mute, namespace: shop}
spec:
  podSelector: {matchLabels: {app: mute}}
  policyTypes: [Egress]
";

/// The number of the overlay network that ends at the node.
pub(crate) const OVERLAY: u32 = 42;

pub(crate) struct World {
    pub(crate) site: Site,
    taps: BTreeMap<Who, Tap>,
    links: BTreeMap<Who, Link>,
    ear: Ear,
    /// The hardware address of the node's end of the overlay network.
    pub(crate) overlay: [u8; 6],
    flows: BTreeMap<(Live, Family), UdpSocket>,
}

/// Compiles what policy says of these pods.
pub(crate) fn policy_of(pods: &[Pod]) -> (Compiler, Vec<EndpointId>) {
    compiled(POLICY, pods)
}

/// These pods, and what policy says of them.
pub(crate) fn cluster_of(pods: &[Pod]) -> Cluster {
    placed(POLICY, pods).0
}

impl World {
    /// Makes the calling thread's namespace the node.
    pub(crate) fn new() -> Self {
        let site = site(PODS.len());
        // The kernel itself helps as little as it may be set to.
        for name in ["rp_filter", "accept_source_route", "accept_local"] {
            for interface in std::fs::read_dir("/proc/sys/net/ipv4/conf").unwrap() {
                let value = if name == "rp_filter" { "0" } else { "1" };
                std::fs::write(interface.unwrap().path().join(name), value).unwrap();
            }
        }
        let [own, _] = NODE;
        ip(&format!(
            "link add overlay type vxlan id {OVERLAY} dstport 4789 local {own} nolearning\nlink set overlay up\n"
        ));
        let overlay = link("overlay").unwrap().addr().unwrap();
        let mut world = Self {
            site,
            taps: BTreeMap::new(),
            links: BTreeMap::new(),
            ear: Ear::here(),
            overlay,
            flows: BTreeMap::new(),
        };
        for who in PODS.into_iter().chain([Second, Far, Outside, Stranger]) {
            let next = match who {
                Far | Outside | Stranger => {
                    let name = match who {
                        Far => "far0",
                        Outside => "far2",
                        _ => "far3",
                    };
                    world.site.second.run(move || link(name).unwrap()).recv().unwrap()
                }
                _ => link(&world.pod(who).interface).unwrap(),
            };
            let tap = world.pod(who).run(Tap::here).recv().unwrap();
            world.links.insert(who, Link { own: tap.address(), next: next.addr().unwrap() });
            world.taps.insert(who, tap);
        }
        world
    }

    /// Compiles the policy.
    pub(crate) fn policy(&self) -> (Compiler, Vec<EndpointId>) {
        policy_of(&self.site.pods)
    }

    /// The namespace of anybody but the node.
    pub(crate) fn pod(&self, who: Who) -> &Pod {
        match who {
            A => &self.site.pods[0],
            B => &self.site.pods[1],
            C => &self.site.pods[2],
            M => &self.site.pods[3],
            N => &self.site.pods[4],
            Far => &self.site.far[0],
            Outside => &self.site.far[2],
            Stranger => &self.site.far[3],
            Second | Node => &self.site.second,
        }
    }

    pub(crate) fn address(&self, who: Who, family: Family) -> IpAddr {
        let at = usize::from(family == Family::V6);
        if who == Node { NODE[at].parse().unwrap() } else { self.pod(who).addresses[at] }
    }

    pub(crate) fn link(&self, who: Who) -> Link {
        self.links[&who]
    }

    /// The interface of a pod was made anew.
    pub(crate) fn replace(&mut self, who: Who, tap: Tap) {
        let next = link(&self.pod(who).interface).unwrap().addr().unwrap();
        self.links.insert(who, Link { own: tap.address(), next });
        self.taps.insert(who, tap);
    }

    /// Begins the live flows anew.
    pub(crate) fn begin_flows(&mut self) {
        self.flows.clear();
        for (live, family) in Live::ALL.into_iter().flat_map(|live| FAMILIES.map(|family| (live, family))) {
            let (from, to) = live.ends();
            let to = self.address(to, family);
            let flow = self.pod(from).run(move || datagrams(to, 80)).recv().unwrap();
            self.flows.insert((live, family), flow);
        }
        assert_eq!(self.broken_flows(), Vec::<String>::new());
    }

    /// Those that do not go on.
    pub(crate) fn broken_flows(&self) -> Vec<String> {
        // The machine is busy.
        let goes_on = |flow: &UdpSocket| (0..3).any(|_| answers(flow));
        let broken = self.flows.iter().filter(|(_, flow)| !goes_on(flow));
        broken.map(|((live, family), _)| format!("{live:?} {family}")).collect()
    }

    /// The ends of a live flow: who began it, and the other.
    pub(crate) fn ends(&self, live: Live, family: Family) -> [(IpAddr, u16); 2] {
        let port = self.flows[&(live, family)].local_addr().unwrap().port();
        let (from, to) = live.ends();
        [(self.address(from, family), port), (self.address(to, family), 80)]
    }
}

impl Wire for World {
    fn send(&self, from: Who, frame: &[u8]) {
        self.taps[&from].send(frame);
    }

    fn hear(&self, heard: &mut BTreeMap<Who, BTreeSet<usize>>) {
        for (who, tap) in &self.taps {
            tap.hear(heard.entry(*who).or_default());
        }
        self.ear.hear(heard.entry(Node).or_default());
    }
}
