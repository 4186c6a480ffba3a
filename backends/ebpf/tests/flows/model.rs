//! What may pass where flows are remembered, written from the documentation of the flow table.

use std::collections::BTreeSet;
use std::net::IpAddr;

use portcullis_core::backend::{Binding, Bindings, DesiredState, Interface};
use portcullis_core::compile::{CompileScope, Compiler};
use portcullis_core::ir::Interpreter;
use portcullis_core::label::{Labels, Scope};
use portcullis_core::model::*;
use portcullis_core::net::IpVersion;
use portcullis_core::packet::{Packet, Protocol};
use portcullis_core::selector::{Expr, LabelRef};
use portcullis_core::settings::Settings;
use portcullis_core::verdict::{Hook, Verdict};
use portcullis_ebpf::oracle::Sandbox;
use portcullis_ebpf::{Lowering, Options};

use crate::frames::{Body, Frame, ICMP, ICMPV6, SCTP, SYN, TCP};

/// Which way a frame passes an interface, and by which it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    Out,
    In { from: u32 },
}

pub(crate) const OUT: Way = Way::Out;
pub(crate) const IN: Way = Way::In { from: 99 };

/// Two workloads: `w` may talk with `x` on a few ports both ways, `v` with nobody. Each has two addresses of each family,
/// and one of them is the same.
pub(crate) struct Node {
    compiler: Compiler,
    pub(crate) sandbox: Sandbox,
    flows: BTreeSet<Flow>,
    firsts: BTreeSet<(u32, bool, IpAddr, IpAddr, u8, u16)>,
}

pub(crate) const W: u32 = 1;
pub(crate) const V: u32 = 4_242;

/// Interface, protocol, local end, remote end; of ICMP the identifier, the question, and whether the local end asks.
type Flow = (u32, u8, (IpAddr, u16), (IpAddr, u16));

fn labelled(value: &str) -> Labels {
    let mut labels = Labels::new();
    labels.insert("app", value);
    labels
}

fn pod(name: &str, addresses: [&str; 2]) -> Update {
    let mut pod = Endpoint::new(EndpointId::workload("a", name));
    pod.addresses = addresses.map(|address| address.parse().unwrap()).to_vec();
    pod.labels = labelled(name);
    Update::Endpoint(pod)
}

fn select(value: &str) -> EntitySelector {
    let app = LabelRef::new(Scope::Own, "app");
    EntitySelector { kinds: EntityKinds::WORKLOAD, expr: Expr::Eq(app, value.into()) }
}

fn policy(subject: &str, rules: &[(Option<u8>, &[u16])]) -> Update {
    let id = PolicyId::new("GlobalNetworkPolicy", None, subject);
    let mut policy = Policy::new(id, "default", select(subject), Directions::BOTH);
    for (protocol, ports) in rules {
        let mut rule = Rule::new(Action::Allow);
        rule.peers = vec![EntityMatch::select(select("x"))];
        let ports = ports.iter().map(|port| PortMatch::Range(PortRange::new(*port, *port).unwrap()));
        rule.l4 = vec![L4Match {
            protocol: protocol.map(Protocol),
            destination_ports: ports.collect(),
            ..L4Match::default()
        }];
        policy.ingress.push(rule.clone());
        policy.egress.push(rule);
    }
    Update::Policy(policy)
}

impl Node {
    pub(crate) fn new() -> Self {
        let mut compiler = Compiler::new(Settings::default(), CompileScope::All);
        let echo = |protocol, kind| {
            let mut rule = Rule::new(Action::Allow);
            rule.peers = vec![EntityMatch::select(select("x"))];
            let icmp = Some(IcmpMatch { kind: Some(kind), code: None });
            rule.l4 = vec![L4Match { protocol: Some(Protocol(protocol)), icmp, ..L4Match::default() }];
            rule
        };
        let mut w = policy("w", &[(Some(TCP), &[80]), (Some(17), &[53]), (Some(SCTP), &[80])]);
        if let Update::Policy(policy) = &mut w {
            policy.ingress.extend([echo(ICMP, 8), echo(ICMPV6, 128)]);
            policy.egress.extend([echo(ICMP, 8), echo(ICMPV6, 128)]);
        }
        let objects = [
            pod("w", ["10.0.0.9", "fd00::9"]),
            pod("v", ["10.0.0.8", "fd00::8"]),
            pod("x", ["10.0.0.1", "fd00::1"]),
            pod("y", ["10.0.0.2", "fd00::2"]),
            w,
            policy("v", &[]),
        ];
        for object in objects {
            compiler.apply(object).unwrap();
        }
        let _ = compiler.commit();
        let bind = |(name, interface): (&str, u32)| {
            let own = own(interface);
            let interface = Interface::new(name).unwrap().with_index(interface);
            (EndpointId::workload("a", name), Binding::workload(interface, own))
        };
        let bindings = Bindings::from([("w", W), ("v", V)].map(bind));
        let (lowering, update) =
            Lowering::fitting(Options::new(), DesiredState::new(compiler.snapshot(), &bindings)).unwrap();
        let sandbox = Sandbox::tracking(&lowering, &update).unwrap();
        Self { compiler, sandbox, flows: BTreeSet::new(), firsts: BTreeSet::new() }
    }

    /// What the program does, and what it should do.
    pub(crate) fn pass(&mut self, interface: u32, way: Way, frame: &Frame) -> [bool; 2] {
        let bytes = frame.bytes();
        let passed = match way {
            Way::Out => self.sandbox.from_workload(interface, &bytes).unwrap(),
            Way::In { from } => self.sandbox.to_workload(interface, from, &bytes).unwrap(),
        };
        [passed, self.may_pass(interface, way, frame)]
    }

    fn may_pass(&mut self, interface: u32, way: Way, frame: &Frame) -> bool {
        let own = own(interface);
        if own.is_empty() {
            return false;
        }
        // Tiny fragments, and second ones that write over ports.
        let (offset, more) = frame.part.map_or((0, false), |part| (part.offset, part.more));
        if matches!(offset, 1 | 2) {
            return false;
        }
        let is_out = way == Way::Out;
        // An advertisement that names no address of the workload.
        let is_honest = frame.target.is_some_and(|target| {
            let target = IpAddr::from(target);
            own.contains(&target) || (target == frame.source && !own.contains(&frame.source))
        });
        if is_out
            && !is_honest
            && !frame.is_v4()
            && offset == 0
            && matches!(frame.body, Body::Message(136, ..))
        {
            return false;
        }
        let (local, remote) =
            if is_out { (frame.source, frame.destination) } else { (frame.destination, frame.source) };
        if is_discovery(&own, is_out, frame) {
            return true;
        }
        if !own.contains(&local) {
            return false;
        }
        let first = frame
            .part
            .map(|part| (interface, is_out, frame.source, frame.destination, frame.protocol(), part.id));
        if offset > 0 {
            return first.is_some_and(|first| self.firsts.contains(&first));
        }
        let flow = flow(interface, is_out, frame);
        let passes = match way {
            Way::In { from } if from == 0 || from == interface => {
                self.flows.extend(flow);
                true
            }
            _ if self.is_known(interface, is_out, frame, flow.as_ref()) => true,
            _ if self.allows(interface, is_out, frame) => {
                self.flows.extend(flow);
                true
            }
            _ => is_out && own.contains(&remote),
        };
        if passes && more {
            self.firsts.extend(first);
        }
        passes
    }

    fn is_known(&self, interface: u32, is_out: bool, frame: &Frame, own: Option<&Flow>) -> bool {
        match &frame.body {
            Body::Ports(TCP, _, _, flags) if flags & 0x12 == SYN => false,
            Body::Ports(SCTP, _, _, 1) => false,
            // The packet inside went the other way, and its sender gets the error.
            Body::Error(_, about) => {
                let is_first = about.part.is_none_or(|part| part.offset == 0);
                let flow = flow(interface, !is_out, about);
                is_first
                    && about.is_v4() == frame.is_v4()
                    && about.source == frame.destination
                    && about.extensions.is_empty()
                    && (about.is_v4() || about.part.is_none())
                    && flow.is_some_and(|flow| self.flows.contains(&flow))
            }
            _ => own.is_some_and(|flow| self.flows.contains(flow)),
        }
    }

    fn allows(&self, interface: u32, is_out: bool, frame: &Frame) -> bool {
        let mut packet = Packet::new(frame.source, frame.destination, Protocol(frame.protocol()));
        match &frame.body {
            Body::Ports(_, from, to, _) => packet = packet.from_port(*from).to_port(*to),
            Body::Message(kind, code, _) => packet = packet.with_icmp(*kind, *code),
            Body::Error(kind, _) => packet = packet.with_icmp(*kind, 1),
            Body::Other(_) => {}
        }
        let id = EndpointId::workload("a", if interface == W { "w" } else { "v" });
        let hook = if is_out { Hook::WorkloadEgress } else { Hook::WorkloadIngress };
        let verdict = Interpreter::new(self.compiler.snapshot()).decide(&id, hook, &packet).verdict;
        matches!(verdict, Verdict::Allow | Verdict::Continue)
    }
}

/// Neighbour and listener discovery; the test's network has no address of the node, nor routes.
fn is_discovery(own: &[IpAddr], is_out: bool, frame: &Frame) -> bool {
    let (IpAddr::V6(source), IpAddr::V6(destination)) = (frame.source, frame.destination) else {
        return false;
    };
    let Body::Message(kind, 0, _) = frame.body else { return false };
    let link_local = |address: std::net::Ipv6Addr| address.segments()[0] & 0xffc0 == 0xfe80;
    let group = destination.segments()[0] == 0xff02;
    let on_link = link_local(source) || source.is_unspecified();
    let length = frame.packet().len();
    let is_whole = frame.part.is_none();
    is_whole
        && match (kind, frame.hops) {
            (133 | 135 | 136, 255) if length <= 128 => {
                let sender = !is_out || on_link || own.contains(&frame.source);
                let to_own = !is_out && own.contains(&frame.destination);
                sender && (group || link_local(destination) || to_own)
            }
            (130..=132 | 143, 1) if length <= 256 => on_link && group,
            _ => false,
        }
}

/// The addresses that the workload at an interface is bound to; none at interfaces that nobody is bound to.
fn own(interface: u32) -> Vec<IpAddr> {
    let all: &[&str] = match interface {
        W => &["10.0.0.9", "fd00::9", "10.0.0.19", "fd00::19"],
        V => &["10.0.0.8", "fd00::8", "10.0.0.9", "fd00::9"],
        _ => &[],
    };
    all.iter().map(|address| address.parse().unwrap()).collect()
}

/// The flow of a packet; none for ICMP that is neither question nor answer.
fn flow(interface: u32, is_out: bool, frame: &Frame) -> Option<Flow> {
    let (sender, receiver) = match frame.body {
        Body::Ports(_, from, to, _) => (from, to),
        Body::Message(kind, _, id) => {
            let (asks, question) = match (IpVersion::of(&frame.source), kind) {
                (IpVersion::V4, 8 | 13 | 15 | 17) | (IpVersion::V6, 128) => (true, kind),
                (IpVersion::V4, 0) => (false, 8),
                (IpVersion::V4, 14 | 16 | 18) | (IpVersion::V6, 129) => (false, kind - 1),
                _ => return None,
            };
            let asker = u16::from(question) << 1 | u16::from(asks);
            (id, asker)
        }
        Body::Error(..) => return None,
        Body::Other(_) => (0, 0),
    };
    if let Body::Message(..) = frame.body {
        // The second number says who asks: the local end or the remote one.
        let local_asks = (receiver & 1 == 1) == is_out;
        let question = receiver & !1 | u16::from(local_asks);
        let (local, remote) =
            if is_out { (frame.source, frame.destination) } else { (frame.destination, frame.source) };
        return Some((interface, frame.protocol(), (local, sender), (remote, question)));
    }
    let [sender, receiver] = [(frame.source, sender), (frame.destination, receiver)];
    let (local, remote) = if is_out { (sender, receiver) } else { (receiver, sender) };
    Some((interface, frame.protocol(), local, remote))
}
