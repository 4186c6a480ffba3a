//! Clusters to decide about.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portcullis::backend::{Binding, Bindings, Interface};
use portcullis::compile::Compiler;
use portcullis::ebpf::oracle::{Draws, END_WORDS};
use portcullis::ir::Interpreter;
use portcullis::model::{Endpoint, EndpointId, Update};
use portcullis::packet::{Packet, Protocol};
use portcullis::verdict::{Hook, Verdict};

use crate::nftables::Failure;
use crate::nftables::world::{POD, compiler, peer, policy};
use crate::workloads::Random;

const POD_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);

/// One of the families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// The address of a peer.
    pub(super) fn peer(self, number: usize) -> IpAddr {
        match self {
            Self::V4 => peer(number).into(),
            Self::V6 => {
                let number = u128::try_from(number).unwrap_or(0);
                Ipv6Addr::from_bits((0xfd00_u128 << 112) | (1 << 64) | number).into()
            }
        }
    }

    /// The address of a local workload.
    pub(super) fn workload(self, number: u32) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::from_bits(POD.to_bits().saturating_add(number)).into(),
            Self::V6 => Ipv6Addr::from_bits(POD_V6.to_bits().saturating_add(number.into())).into(),
        }
    }
}

/// A packet of a new flow to a local workload.
pub(super) fn packet(family: Family, from: usize, to: u32, port: u16) -> Packet {
    Packet::new(family.peer(from), family.workload(to), Protocol::UDP).from_port(40_000).to_port(port)
}

/// The policy of rule `number` opens this port.
pub(super) fn port(number: usize) -> Result<u16, Failure> {
    Ok(u16::try_from(number)?.saturating_add(1_000))
}

/// The pod at interface 1 and so many policies on it, of one rule each: a port of its own for a peer of its own.
pub(super) fn rules(count: usize) -> Result<(Compiler, Bindings), Failure> {
    let mut updates = vec![local("pod", ("app", "pod"), 0)];
    for number in 0..count {
        let label = format!("p{number}");
        updates.push(remote(&label, &[("peer", &label)], number));
    }
    for number in 0..count {
        let peers = format!("peer == 'p{number}'");
        updates.push(policy(&format!("policy-{number}"), "app == 'pod'", &peers, port(number)?)?);
    }
    Ok((compiler(updates)?, [(EndpointId::workload("bench", "pod"), binding(0, 1)?)].into()))
}

fn binding(number: u32, index: u32) -> Result<Binding, Failure> {
    let interface = Interface::new(&format!("if{index}"))?.with_index(index);
    Ok(Binding::workload(interface, Family::ALL.map(|family| family.workload(number))))
}

fn local(name: &str, label: (&str, &str), number: u32) -> Update {
    let mut endpoint = Endpoint::new(EndpointId::workload("bench", name));
    endpoint.labels.insert(label.0, label.1);
    endpoint.addresses = Family::ALL.map(|family| family.workload(number)).to_vec();
    endpoint.node = Some("here".into());
    Update::Endpoint(endpoint)
}

fn remote(name: &str, labels: &[(&str, &str)], number: usize) -> Update {
    let mut endpoint = Endpoint::new(EndpointId::workload("bench", name));
    for (key, value) in labels {
        endpoint.labels.insert(*key, *value);
    }
    endpoint.addresses = Family::ALL.map(|family| family.peer(number)).to_vec();
    endpoint.node = Some("there".into());
    Update::Endpoint(endpoint)
}

/// Pods that are known, and bits of their numbers that are labels; about four pods have each class.
pub(super) const PODS: usize = 1 << 16;
pub(super) const CLASSES: usize = 1 << BITS;
const BITS: usize = 14;
/// Local workloads with policies of their own, and as many replicas of one.
pub(super) const GROUP: u32 = 64;
pub(super) const PORTS: [u16; 4] = [80, 443, 8_080, 9_090];

/// 65,536 pods of 16,383 classes, and 128 local workloads. Each opens four ports, each of them to a quarter of the classes.
pub(super) struct Crowd {
    pub(super) compiler: Compiler,
    pub(super) bindings: Bindings,
    pub(super) workloads: Vec<Workload>,
}

/// A local workload, with the address of its number.
pub(super) struct Workload {
    pub(super) id: EndpointId,
    pub(super) number: u32,
    pub(super) interface: u16,
    peers: [Peers; PORTS.len()],
}

/// Two bits of the class, and what they have to be.
#[derive(Clone, Copy)]
struct Peers([(usize, usize); 2]);

impl Peers {
    /// Different for each number below 364.
    fn new(number: usize) -> Self {
        // One after the other, they would share a bit.
        let number = number.saturating_mul(37) % 364;
        let pairs = (0..BITS).flat_map(|a| (a.saturating_add(1)..BITS).map(move |b| (a, b)));
        let count = BITS.saturating_mul(BITS.saturating_sub(1)) / 2;
        let (a, b) = pairs.into_iter().nth(number % count).unwrap_or_default();
        let values = number / count;
        Self([(a, values & 1), (b, values >> 1 & 1)])
    }

    fn has(self, class: usize) -> bool {
        self.0.iter().all(|(bit, value)| class >> bit & 1 == *value)
    }

    /// The bits that count, and what they have to be.
    fn mask(self) -> [u16; 2] {
        self.0
            .into_iter()
            .fold([0, 0], |[mask, value], (bit, is)| [mask | 1 << bit, value | u16::from(is == 1) << bit])
    }

    fn selector(self) -> String {
        self.0.map(|(bit, value)| format!("b{bit} == '{value}'")).join(" && ")
    }
}

impl Workload {
    /// The peers that its first port is open to, as a selector.
    pub(super) fn selector(&self) -> String {
        self.peers[0].selector()
    }

    /// Whether pods of a class may reach a port.
    pub(super) fn lets(&self, class: usize, port: u16) -> bool {
        PORTS.iter().zip(&self.peers).any(|(open, peers)| *open == port && peers.has(class))
    }
}

/// The class of a pod. None has class 0, because the class of unknown addresses is one of so many.
pub(super) const fn class_of(pod: usize) -> usize {
    if pod.is_multiple_of(CLASSES) { 1 } else { pod % CLASSES }
}

/// The first interface. Packets of test runs come in by number 2; what comes from a workload itself is exempt.
const FIRST: u16 = 10;

impl Crowd {
    pub(super) fn new() -> Result<Self, Failure> {
        let mut updates = Vec::new();
        let mut workloads = Vec::new();
        let mut bindings = Bindings::new();
        for number in 0..GROUP.saturating_mul(2) {
            let replica = number >= GROUP;
            let first = if replica { 300 } else { usize::try_from(number)?.saturating_mul(PORTS.len()) };
            let peers = [0, 1, 2, 3].map(|rule: usize| Peers::new(first.saturating_add(rule)));
            let name = format!("local-{number}");
            let app = if replica { "replica".to_owned() } else { format!("app-{number}") };
            updates.push(local(&name, ("app", &app), number));
            if number <= GROUP {
                for (port, peers) in PORTS.into_iter().zip(peers) {
                    let subject = format!("app == '{app}'");
                    updates.push(policy(&format!("{app}-{port}"), &subject, &peers.selector(), port)?);
                }
            }
            let id = EndpointId::workload("bench", name);
            let interface = u16::try_from(number)?.saturating_add(FIRST);
            bindings.bind(id.clone(), binding(number, interface.into())?);
            workloads.push(Workload { id, number, interface, peers });
        }
        let keys: Vec<String> = (0..BITS).map(|bit| format!("b{bit}")).collect();
        for pod in 0..PODS {
            let value = |bit: usize| if class_of(pod) >> bit & 1 == 1 { "1" } else { "0" };
            let labels: Vec<(&str, &str)> =
                keys.iter().enumerate().map(|(bit, key)| (key.as_str(), value(bit))).collect();
            updates.push(remote(&format!("peer-{pod}"), &labels, pod));
        }
        Ok(Self { compiler: compiler(updates)?, bindings, workloads })
    }

    /// Holds every class at every port of every policy to the interpreter of the IR.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let interpreter = Interpreter::new(self.compiler.snapshot());
        let different = usize::try_from(GROUP)?.saturating_add(1);
        for workload in self.workloads.iter().take(different) {
            for (class, port) in (1..CLASSES).flat_map(|class| PORTS.map(|port| (class, port))) {
                let family = if class.is_multiple_of(2) { Family::V4 } else { Family::V6 };
                let packet = packet(family, class, workload.number, port);
                let verdict = interpreter.decide(&workload.id, Hook::WorkloadIngress, &packet).verdict;
                if (verdict == Verdict::Allow) != workload.lets(class, port) {
                    return Err(format!("{packet:?}: the interpreter says {verdict}").into());
                }
            }
        }
        Ok(())
    }

    /// So many pods, in no order.
    pub(super) fn pods(count: usize) -> Vec<usize> {
        let mut random = Random::new(7);
        let mut pods: Vec<usize> = (0..PODS).collect();
        for at in 1..pods.len() {
            let other = random.below(u32::try_from(at).unwrap_or(u32::MAX).saturating_add(1));
            pods.swap(at, usize::try_from(other).unwrap_or_default());
        }
        pods.truncate(count);
        pods
    }

    /// Packets from any of `pods` to any port of any workload.
    pub(super) fn draws(family: Family, pods: &[usize], to: &[Workload]) -> Result<Draws, Failure> {
        let ends = to.iter().map(|workload| workload.drawn(family, [0, 1, 2, 3])).collect();
        Self::all(family, pods, to, ends)
    }

    /// Packets from pods that may reach the first port of replicas, to that port.
    pub(super) fn flows(family: Family, count: usize, replicas: &[Workload]) -> Result<Draws, Failure> {
        let replica = replicas.first().ok_or("no workload")?;
        let mut pods = Self::pods(PODS);
        pods.retain(|pod| replica.lets(class_of(*pod), PORTS[0]));
        let each = count.min(8_192);
        pods.truncate(each);
        let replicas = replicas.get(..count / each).ok_or("too few workloads")?;
        let ends = replicas.iter().map(|replica| replica.drawn(family, [0; 4])).collect();
        Self::all(family, &pods, replicas, ends)
    }

    fn all(
        family: Family,
        pods: &[usize],
        to: &[Workload],
        ends: Vec<[u32; END_WORDS]>,
    ) -> Result<Draws, Failure> {
        let (pod, workload) = pods.first().zip(to.first()).ok_or("nothing to draw")?;
        let first = packet(family, *pod, workload.number, PORTS[0]);
        let peer = |pod: &usize| -> Result<[u16; 2], Failure> {
            Ok([u16::try_from(*pod)?.to_be(), u16::try_from(class_of(*pod))?])
        };
        let peers = pods.iter().map(peer).collect::<Result<_, _>>()?;
        Draws::new(&first, peers, ends).ok_or_else(|| "these packets cannot be drawn".into())
    }
}

impl Workload {
    /// `struct drawn_end` of `bpf/draw.h`, with these of its ports.
    fn drawn(&self, family: Family, ports: [usize; 4]) -> [u32; END_WORDS] {
        let address = match family.workload(self.number) {
            IpAddr::V4(address) => address.octets(),
            IpAddr::V6(address) => {
                let [.., a, b, c, d] = address.octets();
                [a, b, c, d]
            }
        };
        let mut words = vec![u32::from_ne_bytes(address), self.interface.into()];
        for port in ports {
            let (number, peers) = (PORTS.get(port).copied(), self.peers.get(port));
            let [mask, value] = peers.map_or([0, 1], |peers| peers.mask());
            for [low, high] in [[number.unwrap_or_default().to_be(), mask], [value, 0]] {
                let ([a, b], [c, d]) = (low.to_ne_bytes(), high.to_ne_bytes());
                words.push(u32::from_ne_bytes([a, b, c, d]));
            }
        }
        words.try_into().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn peers_differ_and_their_masks_say_the_same() {
        let mut masks = HashSet::new();
        for number in 0..364 {
            let peers = Peers::new(number);
            let [mask, value] = peers.mask();
            assert!(masks.insert((mask, value)), "{number}");
            let by_mask = |class: usize| u16::try_from(class).unwrap() & mask == value;
            assert!((0..CLASSES).all(|class| peers.has(class) == by_mask(class)));
            assert_eq!((0..CLASSES).filter(|class| peers.has(*class)).count(), CLASSES / 4);
        }
    }
}
