//! The flow table: step by step, and against a list that means the same.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test helpers stop at the first surprise")]

#[path = "flows/model.rs"]
mod model;
#[path = "flows/world.rs"]
mod world;

use core::time::Duration;

use portcullis_core::packet::{Packet, Protocol};
use portcullis_core::verdict::{Hook, Verdict};
use portcullis_matcher::{
    Basis, Ends, Flow, FlowLimits, FlowPacket, FlowState, FlowTable, Matcher, TcpFlags,
};
use proptest::prelude::*;

use model::{Model, Seen};
use world::{ENDPOINTS, Says, World, address};

const SYN: TcpFlags = TcpFlags::SYN;
const ACK: TcpFlags = TcpFlags::ACK;
const OUTSIDE: u32 = 9;

/// A table beside a world, with a clock in seconds.
struct Rig {
    world: World,
    table: FlowTable,
    now: u64,
}

impl Rig {
    /// Endpoint 0 may open everything; endpoint 1 takes what comes from others to port 1; nothing else.
    fn new(capacity: u32) -> Self {
        let mut world = World::new();
        world.set(0, Hook::WorkloadEgress, Says::always(Verdict::Allow));
        let (no, yes) = (Verdict::Deny, Verdict::Allow);
        let says = Says { ports: [no, yes, no, no], icmp: [no, no, yes, no], other: no };
        world.set(1, Hook::WorkloadIngress, says);
        Self { world, table: FlowTable::new(&FlowLimits::new(capacity)).unwrap(), now: 0 }
    }

    fn ask(&mut self, from: u32, to: u32, packet: &FlowPacket<'_>) -> (Verdict, Basis) {
        let ends = Ends::workloads(self.world.handle(from), self.world.handle(to));
        let now = Duration::from_secs(self.now);
        let answer = self.table.check(&self.world.matcher, now, ends, packet);
        (answer.verdict, answer.basis)
    }

    fn tcp(&mut self, from: (u32, u16), to: (u32, u16), flags: TcpFlags) -> (Verdict, Basis) {
        let packet = packet(Protocol::TCP, from, to);
        self.ask(from.0, to.0, &FlowPacket::new(&packet).with_tcp(flags))
    }

    fn udp(&mut self, from: (u32, u16), to: (u32, u16)) -> (Verdict, Basis) {
        let packet = packet(Protocol::UDP, from, to);
        self.ask(from.0, to.0, &FlowPacket::new(&packet))
    }

    fn connect(&mut self, from: (u32, u16), to: (u32, u16)) {
        assert_eq!(self.tcp(from, to, SYN), (Verdict::Allow, Basis::New));
        assert_eq!(self.tcp(to, from, SYN.with(ACK)), (Verdict::Allow, Basis::Reply));
        assert_eq!(self.tcp(from, to, ACK), (Verdict::Allow, Basis::Established));
    }

    fn states(&self) -> Vec<FlowState> {
        let mut states: Vec<_> = self.table.flows().map(|flow| flow.state).collect();
        states.sort_unstable();
        states
    }
}

fn packet(protocol: Protocol, from: (u32, u16), to: (u32, u16)) -> Packet {
    Packet::new(address(from.0, false), address(to.0, false), protocol).from_port(from.1).to_port(to.1)
}

const DENIED: (Verdict, Basis) = (Verdict::Deny, Basis::Policy);

#[test]
fn replies_pass_and_nothing_else_comes_in() {
    let mut rig = Rig::new(8);
    assert_eq!(rig.tcp((1, 1), (0, 700), SYN.with(ACK)), DENIED, "nobody asked");
    assert_eq!(rig.tcp((0, 700), (1, 2), SYN), DENIED, "the destination does not take port 2");
    assert!(rig.table.is_empty(), "what is denied leaves no trace");
    rig.connect((0, 700), (1, 1));
    assert_eq!(rig.states(), [FlowState::TcpEstablished]);
    assert_eq!(rig.tcp((1, 1), (0, 700), ACK), (Verdict::Allow, Basis::Reply));
    assert_eq!(rig.tcp((1, 1), (0, 701), ACK), DENIED, "another port");
    assert_eq!(rig.tcp((2, 1), (0, 700), ACK), DENIED, "another source");
    assert_eq!(rig.udp((1, 1), (0, 700)), DENIED, "another protocol");
    assert_eq!(rig.tcp((1, 1), (0, 700), SYN), DENIED, "the other end opens nothing");
}

#[test]
fn connections_end_and_ports_are_used_again() {
    let mut rig = Rig::new(8);
    rig.connect((0, 700), (1, 1));
    let fin = TcpFlags::FIN.with(ACK);
    assert_eq!(rig.tcp((0, 700), (1, 1), fin).1, Basis::Established);
    assert_eq!(rig.states(), [FlowState::TcpOriginatorDone]);
    assert_eq!(rig.tcp((1, 1), (0, 700), ACK).1, Basis::Reply, "half closed");
    assert_eq!(rig.tcp((1, 1), (0, 700), fin).1, Basis::Reply);
    assert_eq!(rig.tcp((0, 700), (1, 1), ACK).1, Basis::Established, "the last acknowledgement");
    assert_eq!(rig.states(), [FlowState::TcpDone]);
    rig.connect((0, 700), (1, 1));
    rig.connect((0, 701), (1, 1));
    rig.tcp((1, 1), (0, 701), TcpFlags::RST);
    assert_eq!(rig.states(), [FlowState::TcpEstablished, FlowState::TcpReset]);
    rig.now = 11;
    assert_eq!(rig.tcp((1, 1), (0, 701), ACK), DENIED, "10 s after RST the flow is gone");
    assert_eq!(rig.states(), [FlowState::TcpEstablished]);
}

#[test]
fn time_ends_flows_and_packets_prolong_them() {
    let mut rig = Rig::new(8);
    assert_eq!(rig.udp((0, 700), (1, 1)).1, Basis::New);
    rig.now = 30;
    assert_eq!(rig.udp((0, 700), (1, 1)).1, Basis::Established);
    rig.now = 60;
    assert_eq!(rig.udp((1, 1), (0, 700)).1, Basis::Reply);
    rig.now = 180;
    assert_eq!(rig.udp((1, 1), (0, 700)).1, Basis::Reply, "an answered flow lives for 120 s");
    rig.now = 20;
    assert_eq!(rig.udp((0, 701), (1, 1)).1, Basis::New, "a clock that goes back stands still");
    assert!(rig.table.flows().all(|flow| flow.idle == Duration::ZERO));
    rig.now = 211;
    assert_eq!(rig.udp((1, 1), (0, 701)), DENIED, "an unanswered one for 30 s");
    assert_eq!(rig.table.expire(Duration::from_secs(301)), 1);
    assert!(rig.table.is_empty());
}

#[test]
fn a_full_table_gives_up_unanswered_flows_first_and_never_widens() {
    let mut rig = Rig::new(3);
    rig.connect((0, 700), (1, 1));
    rig.now = 1;
    rig.tcp((0, 701), (1, 1), SYN);
    rig.udp((0, 702), (1, 1));
    rig.now = 2;
    rig.tcp((0, 703), (1, 1), SYN);
    assert_eq!((rig.table.len(), rig.table.evicted()), (3, 1));
    assert_eq!(rig.tcp((1, 1), (0, 700), ACK).1, Basis::Reply, "the answered one stays");
    assert_eq!(rig.tcp((1, 1), (0, 701), SYN.with(ACK)), DENIED, "the oldest unanswered one is gone");
    for port in 710..800 {
        rig.connect((0, port), (1, 1));
    }
    assert_eq!(rig.table.len(), 3);
    assert_eq!(rig.tcp((1, 1), (0, 700), ACK), DENIED);
    assert_eq!(rig.tcp((0, 700), (1, 1), ACK), (Verdict::Allow, Basis::New), "policy lets it be picked up");
    assert_eq!(rig.tcp((1, 1), (0, 700), ACK).1, Basis::Reply);

    let mut rig = Rig::new(2);
    rig.connect((0, 700), (1, 1));
    rig.now = 1;
    rig.connect((0, 701), (1, 1));
    rig.tcp((0, 701), (1, 1), TcpFlags::RST);
    rig.connect((0, 702), (1, 1));
    assert_eq!(rig.states(), [FlowState::TcpEstablished; 2], "the one that was reset went");
}

#[test]
fn a_syn_is_judged_by_the_policy_of_now() {
    let mut rig = Rig::new(8);
    rig.connect((0, 700), (1, 1));
    assert_eq!(rig.tcp((0, 701), (1, 1), SYN).1, Basis::New);
    rig.world.set(1, Hook::WorkloadIngress, Says::always(Verdict::Deny));
    assert_eq!(rig.tcp((0, 700), (1, 1), ACK).0, Verdict::Allow, "established flows are kept");
    assert_eq!(rig.tcp((0, 700), (1, 1), SYN), DENIED);
    assert_eq!(rig.tcp((0, 701), (1, 1), SYN), DENIED);
    assert_eq!(rig.states(), [FlowState::TcpEstablished], "an attempt that was never answered is over");
}

#[test]
fn cut_drops_exactly_what_policy_denies_now() {
    let mut rig = Rig::new(8);
    rig.connect((0, 700), (1, 1));
    rig.connect((0, 701), (OUTSIDE, 2));
    rig.udp((0, 702), (1, 1));
    let (no, yes) = (Verdict::Deny, Verdict::Inspect);
    rig.world.set(0, Hook::WorkloadEgress, Says { ports: [no, no, yes, no], icmp: [no; 4], other: no });
    assert!(rig.table.cut(&rig.world.matcher, |flow| flow.packet.source_port == 9).is_empty());
    assert_eq!(rig.table.len(), 3);
    let mut cut = rig.table.cut(&rig.world.matcher, |_| true);
    cut.sort_by_key(|flow| flow.packet.source_port);
    let ends = Ends::workloads(rig.world.handle(0), rig.world.handle(1));
    assert_eq!(
        cut.iter().map(|flow| flow.packet.clone()).collect::<Vec<_>>(),
        [packet(Protocol::TCP, (0, 700), (1, 1)), packet(Protocol::UDP, (0, 702), (1, 1)),]
    );
    assert!(cut.iter().all(|flow| flow.ends == ends));
    assert_eq!(rig.tcp((1, 1), (0, 700), ACK), DENIED);
    assert_eq!(rig.tcp((OUTSIDE, 2), (0, 701), ACK), (Verdict::Inspect, Basis::Reply));
    rig.world.remove(0);
    assert_eq!(rig.table.cut(&rig.world.matcher, |_| true).len(), 1, "its endpoint is gone");
}

#[test]
fn who_takes_over_an_address_does_not_take_over_its_flows() {
    let mut rig = Rig::new(8);
    rig.connect((0, 700), (1, 1));
    let stolen = packet(Protocol::TCP, (1, 1), (0, 700));
    let forged = FlowPacket::new(&stolen).with_tcp(ACK);
    assert_eq!(rig.ask(2, 0, &forged), DENIED, "endpoint 2 with the address of endpoint 1");
    rig.world.replace(1);
    assert_eq!(rig.ask(1, 0, &forged), DENIED, "a new endpoint with the name and address of the old one");
}

#[test]
fn icmp_queries_are_flows_and_errors_belong_to_one() {
    let mut rig = Rig::new(8);
    let echo = |from, to, kind| packet(Protocol::ICMP, (from, 0), (to, 0)).with_icmp(kind, 0);
    let (ask, answer) = (echo(0, 1, 8), echo(1, 0, 0));
    assert_eq!(rig.ask(1, 0, &FlowPacket::new(&answer).with_echo(5)), DENIED);
    assert_eq!(rig.ask(0, 1, &FlowPacket::new(&ask).with_echo(5)).1, Basis::New);
    assert_eq!(rig.ask(1, 0, &FlowPacket::new(&answer).with_echo(5)).1, Basis::Reply);
    assert_eq!(rig.ask(1, 0, &FlowPacket::new(&answer).with_echo(6)), DENIED, "another identifier");
    assert_eq!(rig.ask(1, 0, &FlowPacket::new(&echo(1, 0, 8)).with_echo(5)), DENIED, "a query of its own");

    rig.connect((0, 700), (1, 1));
    let sent = packet(Protocol::TCP, (0, 700), (1, 1));
    let sent = FlowPacket::new(&sent);
    let error = |from, to, kind| packet(Protocol::ICMP, (from, 0), (to, 0)).with_icmp(kind, 1);
    let related = (Verdict::Allow, Basis::Related);
    assert_eq!(rig.ask(1, 0, &FlowPacket::new(&error(1, 0, 3)).about(&sent)), related);
    assert_eq!(
        rig.ask(OUTSIDE, 0, &FlowPacket::new(&error(OUTSIDE, 0, 11)).about(&sent)),
        related,
        "a router"
    );
    assert_eq!(rig.ask(2, 0, &FlowPacket::new(&error(2, 0, 3)).about(&sent)), DENIED, "an endpoint between");
    assert_eq!(rig.ask(1, 0, &FlowPacket::new(&error(1, 0, 5)).about(&sent)), DENIED, "a redirect");
    assert_eq!(rig.ask(1, 0, &FlowPacket::new(&error(1, 0, 3))), DENIED, "about nothing");
    assert_eq!(rig.ask(1, 2, &FlowPacket::new(&error(1, 2, 3)).about(&sent)), DENIED, "not to its sender");
    let other = packet(Protocol::TCP, (0, 701), (1, 1));
    let other = FlowPacket::new(&other);
    assert_eq!(rig.ask(1, 0, &FlowPacket::new(&error(1, 0, 3)).about(&other)), DENIED, "about no flow");
    rig.world.replace(0);
    assert_eq!(rig.ask(1, 0, &FlowPacket::new(&error(1, 0, 3)).about(&sent)), DENIED, "the flow of another");
}

#[test]
fn without_flags_a_reply_establishes_and_time_ends() {
    let mut rig = Rig::new(8);
    let (there, back) = (packet(Protocol::TCP, (0, 700), (1, 1)), packet(Protocol::TCP, (1, 1), (0, 700)));
    assert_eq!(rig.ask(0, 1, &FlowPacket::new(&there)).1, Basis::New);
    assert_eq!(rig.states(), [FlowState::TcpSynSent]);
    assert_eq!(rig.ask(1, 0, &FlowPacket::new(&back)).1, Basis::Reply);
    assert_eq!(rig.states(), [FlowState::TcpEstablished]);
}

#[test]
fn sizes_are_checked() {
    let error = FlowTable::new(&FlowLimits::new(0)).unwrap_err().to_string();
    assert_eq!(error, "a flow table for 0 flows: it holds 1 to 16777216");
    assert!(FlowTable::new(&FlowLimits::new(FlowLimits::MAX_CAPACITY + 1)).is_err());
}

/// One step of the comparison.
#[derive(Clone, Debug)]
enum Step {
    Packet {
        from: u32,
        to: u32,
        forged: bool,
        seen: Seen,
    },
    /// The last packet once more, or one that answers it, with other flags.
    Again {
        answer: bool,
        flags: Option<u8>,
    },
    Wait(u64),
    Policy {
        endpoint: u32,
        hook: Hook,
        says: Says,
    },
    Cut {
        port: Option<u16>,
    },
    Replace(u32),
}

fn flags() -> impl Strategy<Value = Option<u8>> {
    prop_oneof![
        3 => Just(Some(2u8)),
        3 => Just(Some(18)),
        5 => Just(Some(16)),
        2 => Just(Some(17)),
        1 => Just(Some(4)),
        1 => proptest::option::of(0..32u8),
        2 => Just(None),
    ]
}

fn header() -> impl Strategy<Value = (u32, u32, Seen)> {
    let party = || prop_oneof![4 => 0..ENDPOINTS, 1 => 7..9u32];
    let protocol = prop_oneof![
        5 => Just(Protocol::TCP),
        2 => Just(Protocol::UDP),
        1 => Just(Protocol::UDPLITE),
        1 => Just(Protocol(99)),
        3 => Just(Protocol::ICMP),
    ];
    let kind = prop_oneof![Just(0u8), Just(8), Just(3), Just(13), Just(14), Just(5), Just(11)];
    let fields = (party(), party(), 0..8u8, protocol, 0..2u16, 0..2u16, kind, flags(), 0..2u16);
    fields.prop_map(|(from, to, family, protocol, source, destination, kind, flags, echo)| {
        let v6 = family == 0;
        let protocol = if v6 && protocol == Protocol::ICMP { Protocol::ICMPV6 } else { protocol };
        let mut packet = Packet::new(address(from, v6), address(to, v6), protocol);
        if matches!(protocol, Protocol::ICMP | Protocol::ICMPV6) {
            // The same roles in both families.
            let kind = match kind {
                kind if !v6 => kind,
                0 | 14 => 129,
                8 | 13 => 128,
                other => other,
            };
            packet = packet.with_icmp(kind, 0);
        } else {
            packet = packet.from_port(source).to_port(destination);
        }
        (from, to, Seen { packet, flags, echo, about: None })
    })
}

fn step() -> impl Strategy<Value = Step> {
    let verdict = || {
        prop_oneof![
            3 => Just(Verdict::Deny),
            4 => Just(Verdict::Allow),
            1 => Just(Verdict::Inspect),
            1 => Just(Verdict::Continue),
        ]
    };
    let says = (
        [verdict(), verdict(), verdict(), verdict()],
        [verdict(), verdict(), verdict(), verdict()],
        verdict(),
    )
        .prop_map(|(ports, icmp, other)| Says { ports, icmp, other });
    let hook = prop_oneof![Just(Hook::WorkloadIngress), Just(Hook::WorkloadEgress)];
    let packet = (header(), 0..20u8).prop_map(|((from, to, seen), forged)| Step::Packet {
        from,
        to,
        forged: forged == 0,
        seen,
    });
    // Errors about packets that travel the other way.
    let error = (header(), 0..6u32, 0..4u8).prop_map(|((from, to, about), via, forged)| {
        let v6 = about.packet.source.is_ipv6();
        let protocol = if v6 { Protocol::ICMPV6 } else { Protocol::ICMP };
        let via = if via < ENDPOINTS { via } else { to };
        let back = if forged == 0 { to } else { from };
        let packet = Packet::new(address(via, v6), address(back, v6), protocol).with_icmp(3, 1);
        let seen = Seen { packet, flags: None, echo: 0, about: Some(Box::new(about)) };
        Step::Packet { from: via, to: back, forged: false, seen }
    });
    let again = (any::<bool>(), flags()).prop_map(|(answer, flags)| Step::Again { answer, flags });
    prop_oneof![
        15 => packet,
        30 => again,
        4 => error,
        5 => (0..40u64).prop_map(Step::Wait),
        3 => (0..ENDPOINTS, hook, says).prop_map(|(endpoint, hook, says)| Step::Policy { endpoint, hook, says }),
        1 => proptest::option::of(0..2u16).prop_map(|port| Step::Cut { port }),
        1 => (0..ENDPOINTS).prop_map(Step::Replace),
    ]
}

/// Makes an answer of a packet, and a packet of an answer.
fn turn(packet: &mut Packet) {
    core::mem::swap(&mut packet.source, &mut packet.destination);
    core::mem::swap(&mut packet.source_port, &mut packet.destination_port);
    if let Some(icmp) = &mut packet.icmp {
        icmp.kind = match icmp.kind {
            8 => 0,
            0 => 8,
            13 => 14,
            14 => 13,
            128 => 129,
            129 => 128,
            other => other,
        };
    }
}

fn timeout(state: FlowState) -> u64 {
    let place = FlowState::ALL.iter().position(|other| *other == state).unwrap();
    7 * u64::try_from(place % 5).unwrap() + 20
}

/// What can be compared, in one order.
fn listed(flows: impl Iterator<Item = (Packet, u16, Ends, Verdict, FlowState, Duration)>) -> Vec<String> {
    let mut listed: Vec<_> = flows.map(|flow| format!("{flow:?}")).collect();
    listed.sort_unstable();
    listed
}

fn of_table(flow: Flow) -> (Packet, u16, Ends, Verdict, FlowState, Duration) {
    let echo = if flow.packet.icmp.is_some() { flow.echo } else { 0 };
    (flow.packet, echo, flow.ends, flow.verdict, flow.state, flow.idle)
}

fn of_model(model: &Model, flow: &model::Tracked) -> (Packet, u16, Ends, Verdict, FlowState, Duration) {
    let echo = if flow.first.icmp.is_some() { flow.echo } else { 0 };
    (flow.first.clone(), echo, flow.ends, flow.verdict, flow.state(), model.idle(flow))
}

fn flow_packet<'a>(seen: &'a Seen, about: Option<&'a FlowPacket<'a>>) -> FlowPacket<'a> {
    let mut packet = FlowPacket::new(&seen.packet).with_echo(seen.echo);
    if let Some(flags) = seen.flags {
        packet = packet.with_tcp(TcpFlags::new(flags));
    }
    about.map_or(packet, |about| packet.about(about))
}

fn both_check(
    table: &mut FlowTable,
    model: &mut Model,
    matcher: &Matcher,
    now: u64,
    ends: Ends,
    seen: &Seen,
) -> Basis {
    let about = seen.about.as_deref().map(|about| flow_packet(about, None));
    let packet = flow_packet(seen, about.as_ref());
    let answer = table.check(matcher, Duration::from_millis(now), ends, &packet);
    assert_eq!((answer.verdict, answer.basis), model.check(matcher, now, ends, seen), "{seen:?}");
    answer.basis
}

proptest! {
    #[test]
    fn the_table_means_what_the_list_means(
        capacity in 1..6u32,
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let limits = FlowState::ALL.iter().fold(FlowLimits::new(capacity), |limits, state| {
            limits.with_timeout(*state, Duration::from_millis(timeout(*state)))
        });
        let mut table = FlowTable::new(&limits).unwrap();
        let mut model = Model::new(usize::try_from(capacity).unwrap(), timeout);
        let mut world = World::new();
        for endpoint in 0..ENDPOINTS {
            world.set(endpoint, Hook::WorkloadEgress, Says::always(Verdict::Allow));
        }
        world.set(0, Hook::WorkloadIngress, Says::always(Verdict::Allow));
        let (mut now, mut last) = (0, None);
        for step in steps {
            match step {
                Step::Packet { from, to, forged, seen } => {
                    let source = if forged { (from + 1) % ENDPOINTS } else { from };
                    let ends = Ends::workloads(world.handle(source), world.handle(to));
                    both_check(&mut table, &mut model, &world.matcher, now, ends, &seen);
                    last = Some((source, to, seen));
                }
                Step::Again { answer, flags } => {
                    let Some((source, to, seen)) = &mut last else { continue };
                    if answer {
                        core::mem::swap(source, to);
                        turn(&mut seen.packet);
                    }
                    seen.flags = flags;
                    let ends = Ends::workloads(world.handle(*source), world.handle(*to));
                    both_check(&mut table, &mut model, &world.matcher, now, ends, seen);
                }
                Step::Wait(time) => now += time,
                Step::Policy { endpoint, hook, says } => world.set(endpoint, hook, says),
                Step::Cut { port } => {
                    model.pass(now);
                    table.expire(Duration::from_millis(now));
                    let of_port = |packet: &Packet| port.is_none_or(|port| packet.destination_port == port);
                    let cut = table.cut(&world.matcher, |flow| of_port(&flow.packet));
                    let want = model.cut(&world.matcher, |flow| of_port(&flow.first));
                    prop_assert_eq!(
                        listed(cut.into_iter().map(of_table)),
                        listed(want.iter().map(|flow| of_model(&model, flow)))
                    );
                }
                Step::Replace(endpoint) => world.replace(endpoint),
            }
            let kept = listed(model.flows.iter().map(|flow| of_model(&model, flow)));
            prop_assert!(table.len() <= table.capacity());
            prop_assert_eq!(listed(table.flows().map(of_table)), kept);
            prop_assert_eq!(table.evicted(), model.evicted);
        }
        model.pass(now);
        table.expire(Duration::from_millis(now));
        prop_assert_eq!(table.len(), model.flows.len());
    }
}
