//! The flow table as a list: what it means, without any care for speed.

use core::time::Duration;

use portcullis_core::packet::{Icmp, Packet, Protocol};
use portcullis_core::verdict::Verdict;
use portcullis_matcher::{Basis, Ends, FlowState, Matcher, PacketKey};

/// A packet as a test makes it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) packet: Packet,
    pub(crate) flags: Option<u8>,
    pub(crate) echo: u16,
    pub(crate) about: Option<Box<Seen>>,
}

/// A tracked flow. `first` is the packet that it began with.
#[derive(Clone, Debug)]
pub(crate) struct Tracked {
    number: u64,
    pub(crate) first: Packet,
    pub(crate) echo: u16,
    pub(crate) ends: Ends,
    pub(crate) verdict: Verdict,
    pub(crate) seen: u64,
    picked_up: bool,
    replied: bool,
    handshake: bool,
    fins: [bool; 2],
    reset: bool,
}

/// Flows in the order in which they were last prolonged.
#[derive(Debug)]
pub(crate) struct Model {
    capacity: usize,
    timeout: fn(FlowState) -> u64,
    now: u64,
    made: u64,
    pub(crate) flows: Vec<Tracked>,
    pub(crate) evicted: u64,
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

impl Model {
    pub(crate) fn new(capacity: usize, timeout: fn(FlowState) -> u64) -> Self {
        Self { capacity, timeout, now: 0, made: 0, flows: Vec::new(), evicted: 0 }
    }

    pub(crate) fn check(&mut self, matcher: &Matcher, now: u64, ends: Ends, seen: &Seen) -> (Verdict, Basis) {
        self.pass(now);
        let verdict = pair(matcher, ends, &seen.packet);
        if let Some(about) = seen.about.as_deref().filter(|_| is_error(&seen.packet)) {
            return self.related(ends, &seen.packet, about).unwrap_or((verdict, Basis::Policy));
        }
        let Some(at) = self.flows.iter().position(|flow| flow.way(seen, ends).is_some()) else {
            return self.begin(ends, seen, verdict);
        };
        let reply = self.flows[at].way(seen, ends) == Some(true);
        let is_tcp = seen.packet.protocol == Protocol::TCP;
        let over = is_over(self.flows[at].state());
        if is_tcp && seen.flags.is_some_and(|flags| flags & (SYN | ACK) == SYN) {
            let retry = !reply && !self.flows[at].replied && !over;
            if verdict == Verdict::Deny {
                if retry {
                    self.flows.remove(at);
                }
            } else if over {
                self.flows.remove(at);
                return self.begin(ends, seen, verdict);
            } else if retry {
                self.flows[at].verdict = verdict;
                self.prolong(at, |flow| flow.picked_up = false);
            }
            return (verdict, Basis::Policy);
        }
        let verdict = self.flows[at].verdict;
        if !over {
            self.prolong(at, |flow| flow.follow(reply, is_tcp, seen.flags.unwrap_or(ACK)));
        }
        (verdict, if reply { Basis::Reply } else { Basis::Established })
    }

    /// Of packets in one millisecond, the first that brings the flow to its state gives it its place.
    fn prolong(&mut self, at: usize, change: impl FnOnce(&mut Tracked)) {
        let before = (self.flows[at].state(), self.flows[at].seen);
        change(&mut self.flows[at]);
        self.flows[at].seen = self.now;
        if before != (self.flows[at].state(), self.now) {
            let flow = self.flows.remove(at);
            self.flows.push(flow);
        }
    }

    /// Forgets the selected flows that are denied now.
    pub(crate) fn cut(&mut self, matcher: &Matcher, which: impl Fn(&Tracked) -> bool) -> Vec<Tracked> {
        let mut cut = Vec::new();
        self.flows.retain_mut(|flow| {
            if !which(flow) {
                return true;
            }
            let verdict = pair(matcher, flow.ends, &flow.first);
            if verdict == Verdict::Deny {
                cut.push(flow.clone());
                return false;
            }
            flow.verdict = verdict;
            true
        });
        cut
    }

    pub(crate) fn pass(&mut self, now: u64) {
        self.now = self.now.max(now);
        let (now, timeout) = (self.now, self.timeout);
        self.flows.retain(|flow| now - flow.seen <= timeout(flow.state()));
    }

    pub(crate) fn idle(&self, flow: &Tracked) -> Duration {
        Duration::from_millis(self.now - flow.seen)
    }

    fn begin(&mut self, ends: Ends, seen: &Seen, verdict: Verdict) -> (Verdict, Basis) {
        let ours = ends.source.is_some() || ends.destination.is_some();
        let flags = seen.flags.unwrap_or(SYN);
        let opens = match seen.packet.protocol {
            Protocol::TCP => flags & (FIN | RST) == 0 && (flags & SYN == 0) != (flags & ACK == 0),
            Protocol::ICMP | Protocol::ICMPV6 => answer_to(&seen.packet).is_some(),
            _ => true,
        };
        if verdict == Verdict::Deny || !ours || !opens {
            return (verdict, Basis::Policy);
        }
        if self.flows.len() == self.capacity {
            let worth = |flow: &Tracked| (flow.replied && !is_over(flow.state()), flow.seen, flow.state());
            let victim = (0..self.flows.len()).min_by_key(|at| worth(&self.flows[*at])).unwrap();
            self.flows.remove(victim);
            self.evicted += 1;
        }
        self.made += 1;
        self.flows.push(Tracked {
            number: self.made,
            first: seen.packet.clone(),
            echo: seen.echo,
            ends,
            verdict,
            seen: self.now,
            picked_up: flags & SYN == 0,
            replied: false,
            handshake: false,
            fins: [false; 2],
            reset: false,
        });
        (verdict, Basis::New)
    }

    fn related(&self, ends: Ends, packet: &Packet, about: &Seen) -> Option<(Verdict, Basis)> {
        let newest = self.flows.iter().filter(|flow| {
            let sent = [flow.ends, swap(flow.ends)].into_iter().find(|ends| flow.way(about, *ends).is_some());
            sent.is_some_and(|sent| {
                packet.destination == about.packet.source
                    && sent.source == ends.destination
                    && (ends.source.is_none() || ends.source == sent.destination)
            })
        });
        newest.max_by_key(|flow| flow.number).map(|flow| (flow.verdict, Basis::Related))
    }
}

impl Tracked {
    /// Whether the packet belongs to the flow: `Some(false)` as its first packet, `Some(true)` the other way.
    fn way(&self, seen: &Seen, ends: Ends) -> Option<bool> {
        let (first, packet) = (&self.first, &seen.packet);
        if first.protocol != packet.protocol {
            return None;
        }
        let along = (first.source, first.destination) == (packet.source, packet.destination);
        let against = (first.source, first.destination) == (packet.destination, packet.source);
        let (mut same, mut reverse) = (along && self.ends == ends, against && self.ends == swap(ends));
        if matches!(packet.protocol, Protocol::ICMP | Protocol::ICMPV6) {
            same &= first.icmp == packet.icmp && self.echo == seen.echo;
            reverse &= answer_to(first) == packet.icmp && self.echo == seen.echo;
        } else {
            same &=
                (first.source_port, first.destination_port) == (packet.source_port, packet.destination_port);
            reverse &=
                (first.source_port, first.destination_port) == (packet.destination_port, packet.source_port);
            // Both directions of such a flow look the same.
            reverse &= packet.source != packet.destination || packet.source_port != packet.destination_port;
        }
        if same { Some(false) } else { reverse.then_some(true) }
    }

    fn follow(&mut self, reply: bool, is_tcp: bool, flags: u8) {
        if is_tcp && flags & RST != 0 {
            self.reset = true;
            return;
        }
        if reply && !self.replied {
            self.replied = true;
            self.handshake = !self.picked_up && flags & SYN != 0;
        } else if !reply && self.replied {
            self.handshake = false;
        }
        if is_tcp && self.replied && flags & FIN != 0 {
            self.fins[usize::from(reply)] = true;
        }
    }

    pub(crate) fn state(&self) -> FlowState {
        match (self.first.protocol, self.replied) {
            (Protocol::TCP, _) if self.reset => FlowState::TcpReset,
            (Protocol::TCP, false) if self.picked_up => FlowState::TcpPickedUp,
            (Protocol::TCP, false) => FlowState::TcpSynSent,
            (Protocol::TCP, true) => match (self.fins, self.handshake) {
                ([true, true], _) => FlowState::TcpDone,
                ([true, false], _) => FlowState::TcpOriginatorDone,
                ([false, true], _) => FlowState::TcpResponderDone,
                ([false, false], true) => FlowState::TcpSynReceived,
                ([false, false], false) => FlowState::TcpEstablished,
            },
            (Protocol::UDP | Protocol::UDPLITE, false) => FlowState::UdpUnreplied,
            (Protocol::UDP | Protocol::UDPLITE, true) => FlowState::UdpReplied,
            (Protocol::ICMP | Protocol::ICMPV6, false) => FlowState::IcmpUnreplied,
            (Protocol::ICMP | Protocol::ICMPV6, true) => FlowState::IcmpReplied,
            (_, false) => FlowState::OtherUnreplied,
            (_, true) => FlowState::OtherReplied,
        }
    }
}

fn is_over(state: FlowState) -> bool {
    matches!(state, FlowState::TcpDone | FlowState::TcpReset)
}

fn is_error(packet: &Packet) -> bool {
    let errors: &[u8] = match packet.protocol {
        Protocol::ICMP => &[3, 11, 12],
        Protocol::ICMPV6 => &[1, 2, 3, 4],
        _ => &[],
    };
    packet.icmp.is_some_and(|icmp| errors.contains(&icmp.kind))
}

/// What answers a query; `None` when the packet is none.
fn answer_to(query: &Packet) -> Option<Icmp> {
    let Icmp { kind, code } = query.icmp?;
    let pairs: &[(u8, u8)] = match query.protocol {
        Protocol::ICMP => &[(8, 0), (13, 14), (15, 16), (17, 18)],
        Protocol::ICMPV6 => &[(128, 129), (139, 140)],
        _ => &[],
    };
    pairs.iter().find(|(asks, _)| *asks == kind).map(|(_, answers)| Icmp { kind: *answers, code })
}

fn swap(ends: Ends) -> Ends {
    Ends { source: ends.destination, destination: ends.source }
}

fn pair(matcher: &Matcher, ends: Ends, packet: &Packet) -> Verdict {
    let handle = |end: Option<portcullis_matcher::FlowEnd>| end.map(|end| end.endpoint);
    matcher.pair(handle(ends.source), handle(ends.destination), &PacketKey::new(packet).unwrap()).verdict()
}
