//! Verdict times on the shape of a large cluster: 100,000 pods, 5,000 classes, 1,000 programs, 8 port classes.
//!
//! Run with `cargo bench -p portcullis-matcher`. Every timed verdict is also checked: the sum of the verdicts must be
//! that of an evaluation straight from the generator's formula.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measuring program"
)]

extern crate alloc;

use alloc::collections::BTreeMap;
use core::hint::black_box;
use core::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use portcullis_core::ir::{
    Body, ClassId, DecisionEntry, DecisionId, Delta, EndpointEntry, HookPrograms, Id, Interval, L4Table,
    L4TableId, PortMap, Program, ProgramId, Projection, ProjectionId, Snapshot, SourceInterval,
};
use portcullis_core::model::EndpointId;
use portcullis_core::net::Cidr;
use portcullis_core::packet::Protocol;
use portcullis_core::verdict::{Cause, Hook, Verdict};
use portcullis_matcher::{Answer, Directory, EndpointHandle, Matcher, PacketKey, Pair, Query};

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        u32::try_from((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % u64::from(bound)).unwrap()
    }
}

fn pod(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 + number)
}

/// The class of a pod; classes lie scattered over the pods.
fn class(number: u32) -> u32 {
    1 + number.wrapping_mul(2_654_435_761) % CLASSES
}

/// The row of a class in a program: which of [`TABLES`] tables holds for it.
fn row(program: u32, class: u32) -> u32 {
    class.wrapping_mul(40_503).wrapping_add(program.wrapping_mul(97)).wrapping_mul(2_654_435_761) >> 29
}

/// Table `t` allows TCP to the ports 1000 * (1..=t).
fn allows(table: u32, port: u16) -> bool {
    port.is_multiple_of(1000) && (1..=table).contains(&(u32::from(port) / 1000))
}

fn decisions(snapshot: &mut Snapshot) {
    for (id, verdict) in [(0, Verdict::Deny), (1, Verdict::Allow)] {
        let decision = DecisionEntry { verdict, cause: Cause::NoPolicy, logs: vec![], l7: None };
        snapshot.decisions.put(DecisionId::new(id), decision);
    }
}

fn table(ports: impl Iterator<Item = u16>) -> L4Table {
    let mut intervals = Vec::new();
    for port in ports {
        intervals.push(Interval { last: port - 1, decision: DecisionId::new(0) });
        intervals.push(Interval { last: port, decision: DecisionId::new(1) });
    }
    intervals.push(Interval { last: u16::MAX, decision: DecisionId::new(0) });
    let sources = vec![SourceInterval { last: u16::MAX, keys: PortMap::new(intervals) }];
    L4Table { protocols: vec![(Protocol::TCP, sources)], other: DecisionId::new(0) }
}

fn endpoint(number: u32) -> EndpointId {
    EndpointId::workload("n", format!("e{number}").as_str())
}

fn one_sided(projection: u32, columns: u32, tables: u32) -> Program {
    let cells = (0..columns).map(|row| L4TableId::new(row % tables)).collect();
    let (source, destination) = (ProjectionId::new(0), ProjectionId::new(projection));
    let body = Body { source, destination, columns, cells };
    Program { v4: body.clone(), v6: body }
}

fn cluster() -> Snapshot {
    let mut snapshot = Snapshot::new();
    decisions(&mut snapshot);
    for t in 0..TABLES {
        snapshot.tables.put(L4TableId::new(t), table((1..=t).map(|i| u16::try_from(i * 1000).unwrap())));
    }
    snapshot.projections.put(ProjectionId::new(0), Projection::trivial());
    for p in 0..PROGRAMS {
        let listed = (1..=CLASSES).map(|c| (ClassId::new(c), row(p, c))).filter(|(_, row)| *row != 0);
        let projection = Projection { rows: TABLES, row_of: listed.collect() };
        snapshot.projections.put(ProjectionId::new(p + 1), projection);
        snapshot.programs.put(ProgramId::new(p), one_sided(p + 1, TABLES, TABLES));
        add_endpoint(&mut snapshot, p, p);
    }
    for number in 0..PODS {
        snapshot.addresses.insert(Cidr::host(IpAddr::V4(pod(number))), ClassId::new(class(number)));
    }
    snapshot
}

fn add_endpoint(snapshot: &mut Snapshot, number: u32, program: u32) {
    let enforced = HookPrograms(BTreeMap::from([(Hook::WorkloadEgress, ProgramId::new(program))]));
    snapshot.endpoints.insert(endpoint(number), EndpointEntry { enforced, staged: None });
}

/// What a packet is, in eight bytes, so that reading the list of packets costs next to nothing.
#[derive(Clone, Copy)]
struct Flow {
    peer: u32,
    local: u16,
    port: u16,
}

impl Flow {
    fn key(self) -> PacketKey {
        PacketKey::v4(pod(u32::from(self.local)), pod(self.peer), Protocol::TCP, 40_000, self.port)
    }

    fn is_allowed(self) -> bool {
        allows(row(self.local.into(), class(self.peer)), self.port)
    }
}

/// Nanoseconds a verdict: best and median of the rounds.
fn report(name: &str, per_round: usize, mut round: impl FnMut() -> usize, want: usize) {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            let got = round();
            let nanoseconds = start.elapsed().as_secs_f64() * 1e9;
            assert_eq!(got, want, "{name}: wrong verdicts");
            nanoseconds / f64::from(u32::try_from(per_round).unwrap())
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("{name:<46} best {:>7.1} ns   median {:>7.1} ns", times[0], times[ROUNDS / 2]);
}

#[inline(always)]
fn ask(matcher: &Matcher, handles: &[EndpointHandle], flow: Flow) -> bool {
    let handle = handles[usize::from(flow.local)];
    matcher.verdict(handle, Hook::WorkloadEgress, &flow.key()) == Verdict::Allow
}

fn stream(name: &str, matcher: &Matcher, handles: &[EndpointHandle], flows: &[Flow], want: usize) {
    let allowed = || flows.iter().map(|flow| usize::from(ask(matcher, handles, *flow))).sum();
    report(name, flows.len(), allowed, want);
}

/// Which packet comes next is known only when the verdict before is.
fn chain(name: &str, matcher: &Matcher, handles: &[EndpointHandle], flows: &[Flow], want: usize) {
    let no = black_box(0);
    let walk = || {
        let (mut at, mut count) = (0, 0);
        while let Some(flow) = flows.get(at) {
            let allow = usize::from(ask(matcher, handles, *flow));
            count += allow;
            at += 1 + (allow & no);
        }
        count
    };
    report(name, flows.len(), walk, want);
}

/// Batches of 32 with queries built on the spot.
fn batch(name: &str, matcher: &Matcher, handles: &[EndpointHandle], flows: &[Flow], want: usize) {
    let round = || {
        let mut answers = [Answer::default(); 32];
        let mut count = 0;
        for flows in flows.chunks_exact(32) {
            let query = |i: usize| {
                let flow = flows[i];
                Query::new(handles[usize::from(flow.local)], Hook::WorkloadEgress, flow.key())
            };
            matcher.decide_batch(&core::array::from_fn::<_, 32, _>(query), &mut answers);
            count +=
                answers.iter().map(|answer| usize::from(answer.verdict() == Verdict::Allow)).sum::<usize>();
        }
        count
    };
    report(name, flows.len(), round, want);
}

/// Batches of 32 that find the endpoint of either end by its address.
fn pairs(name: &str, matcher: &Matcher, directory: &Directory, flows: &[Flow], want: usize) {
    let round = || {
        let mut pairs = [Pair::default(); 32];
        let mut count = 0;
        for flows in flows.chunks_exact(32) {
            let packets = core::array::from_fn::<_, 32, _>(|i| flows[i].key());
            matcher.pair_batch(directory, &packets, &mut pairs);
            count += pairs.iter().map(|pair| usize::from(pair.verdict() == Verdict::Allow)).sum::<usize>();
        }
        count
    };
    report(name, flows.len(), round, want);
}

/// `rules` rules on one endpoint, each for a class and a port of its own.
fn growth(rules: u32) {
    let mut snapshot = Snapshot::new();
    decisions(&mut snapshot);
    snapshot.projections.put(ProjectionId::new(0), Projection::trivial());
    let port = |rule: u32| u16::try_from(1000 + rule % 60_000).unwrap();
    let row_of = (0..rules).map(|rule| (ClassId::new(rule + 1), rule + 1)).collect();
    snapshot.projections.put(ProjectionId::new(1), Projection { rows: rules + 1, row_of });
    snapshot.tables.put(L4TableId::new(0), L4Table::constant(DecisionId::new(0)));
    for rule in 0..rules {
        snapshot.tables.put(L4TableId::new(rule + 1), table([port(rule)].into_iter()));
        snapshot.addresses.insert(Cidr::host(IpAddr::V4(pod(rule))), ClassId::new(rule + 1));
    }
    snapshot.programs.put(ProgramId::new(0), one_sided(1, rules + 1, rules + 1));
    add_endpoint(&mut snapshot, 0, 0);
    let matcher = Matcher::lower(&snapshot).unwrap();
    let handle = matcher.handle(&endpoint(0)).unwrap();
    let mut random = Random(11);
    // 1,000 flows are hot whatever the number of rules: what grows is the policy, not the traffic.
    let hot: Vec<u32> = (0..1000).map(|_| random.below(rules)).collect();
    let flows: Vec<Flow> = (0..100_000)
        .map(|i| {
            let peer = hot[i % 1000];
            Flow { peer, local: 0, port: port(peer) + u16::try_from(random.below(2)).unwrap() }
        })
        .collect();
    let want = flows.iter().filter(|flow| flow.port == port(flow.peer)).count();
    stream(&format!("{rules} rules on one endpoint, 1,000 hot flows"), &matcher, &[handle], &flows, want);
}

/// Memory of this process in MB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

/// What lowering the snapshot of [`more_pods`] adds to the memory of a fresh process: one that has freed much would
/// hide it.
fn memory(pods: u32) {
    let snapshot = known_pods(pods);
    let before = resident();
    let matcher = Matcher::lower(&snapshot).unwrap();
    println!("{:<46} {:>12.1} MB", format!("{pods} pods, lowered"), resident() - before);
    black_box(matcher);
}

/// One program over `pods` known addresses in up to [`CLASSES`] classes.
fn known_pods(pods: u32) -> Snapshot {
    let mut snapshot = Snapshot::new();
    decisions(&mut snapshot);
    for t in 0..TABLES {
        snapshot.tables.put(L4TableId::new(t), table((1..=t).map(|i| u16::try_from(i * 1000).unwrap())));
    }
    snapshot.projections.put(ProjectionId::new(0), Projection::trivial());
    let row_of = (1..=CLASSES).map(|c| (ClassId::new(c), row(0, c))).filter(|(_, row)| *row != 0).collect();
    snapshot.projections.put(ProjectionId::new(1), Projection { rows: TABLES, row_of });
    snapshot.programs.put(ProgramId::new(0), one_sided(1, TABLES, TABLES));
    add_endpoint(&mut snapshot, 0, 0);
    for number in 0..pods {
        snapshot.addresses.insert(Cidr::host(IpAddr::V4(pod(number))), ClassId::new(class(number)));
    }
    snapshot
}

fn more_pods(pods: u32) {
    let matcher = Matcher::lower(&known_pods(pods)).unwrap();
    let handle = matcher.handle(&endpoint(0)).unwrap();
    let mut random = Random(7);
    let mut flow = || Flow {
        local: 0,
        peer: random.below(pods),
        port: u16::try_from((1 + random.below(8)) * 1000).unwrap(),
    };
    let some: Vec<Flow> = (0..1000).map(|_| flow()).collect();
    let hot: Vec<Flow> = (0..200_000).map(|i| some[i % some.len()]).collect();
    let uniform: Vec<Flow> = (0..200_000).map(|_| flow()).collect();
    let want = |flows: &[Flow]| flows.iter().filter(|flow| flow.is_allowed()).count();
    stream(&format!("{pods} pods, 1,000 hot flows"), &matcher, &[handle], &hot, want(&hot));
    stream(&format!("{pods} pods, uniform peers"), &matcher, &[handle], &uniform, want(&uniform));
}

/// `policies` policies on an endpoint each; policy `p` allows one port to the pods of class `p % CLASSES + 1`.
fn more_policies(policies: u32) {
    let mut snapshot = Snapshot::new();
    decisions(&mut snapshot);
    snapshot.tables.put(L4TableId::new(0), L4Table::constant(DecisionId::new(0)));
    snapshot.tables.put(L4TableId::new(1), table([1000].into_iter()));
    snapshot.projections.put(ProjectionId::new(0), Projection::trivial());
    let peers = |policy: u32| policy % CLASSES + 1;
    for policy in 0..policies {
        let row_of = BTreeMap::from([(ClassId::new(peers(policy)), 1)]);
        snapshot.projections.put(ProjectionId::new(policy + 1), Projection { rows: 2, row_of });
        snapshot.programs.put(ProgramId::new(policy), one_sided(policy + 1, 2, 2));
        add_endpoint(&mut snapshot, policy, policy);
    }
    for number in 0..PODS {
        snapshot.addresses.insert(Cidr::host(IpAddr::V4(pod(number))), ClassId::new(class(number)));
    }
    let matcher = Matcher::lower(&snapshot).unwrap();
    let handles: Vec<_> = (0..policies).map(|p| matcher.handle(&endpoint(p)).unwrap()).collect();
    let mut of_class = vec![Vec::new(); usize::try_from(CLASSES + 1).unwrap()];
    (0..PODS).for_each(|number| of_class[usize::try_from(class(number)).unwrap()].push(number));
    let mut random = Random(13);
    // Half of the flows go to a peer of the policy, the other half to any pod.
    let some: Vec<Flow> = (0..1000)
        .map(|i| {
            let policy = random.below(policies);
            let own = &of_class[usize::try_from(peers(policy)).unwrap()];
            let peer = match own.first() {
                Some(peer) if i % 2 == 0 => *peer,
                _ => random.below(PODS),
            };
            Flow { local: u16::try_from(policy).unwrap(), peer, port: 1000 }
        })
        .collect();
    let hot: Vec<Flow> = (0..200_000).map(|i| some[i % some.len()]).collect();
    let want = hot.iter().filter(|flow| class(flow.peer) == peers(flow.local.into())).count();
    stream(&format!("{policies} policies, 1,000 hot flows"), &matcher, &handles, &hot, want);
}

fn main() {
    if let Ok(pods) = std::env::var("VERDICT_MEMORY_OF") {
        return memory(pods.parse().unwrap());
    }
    let start = Instant::now();
    let snapshot = cluster();
    println!("snapshot generated in {:?}", start.elapsed());
    let start = Instant::now();
    let matcher = Matcher::lower(&snapshot).unwrap();
    println!("lowered in {:?}", start.elapsed());
    let handles: Vec<_> = (0..PROGRAMS).map(|p| matcher.handle(&endpoint(p)).unwrap()).collect();
    let mut random = Random(42);
    let mut flow = |programs: u32| Flow {
        local: u16::try_from(random.below(programs)).unwrap(),
        peer: random.below(PODS),
        port: u16::try_from((1 + random.below(8)) * 1000).unwrap(),
    };
    let some: Vec<Flow> = (0..1000).map(|_| flow(LOCAL)).collect();
    let hot: Vec<Flow> = (0..200_000).map(|i| some[i % some.len()]).collect();
    let local: Vec<Flow> = (0..200_000).map(|_| flow(LOCAL)).collect();
    let all: Vec<Flow> = (0..200_000).map(|_| flow(PROGRAMS)).collect();
    let want = |flows: &[Flow]| flows.iter().filter(|flow| flow.is_allowed()).count();
    let m = &matcher;
    stream("200 programs, 1,000 hot flows, stream", m, &handles, &hot, want(&hot));
    stream("200 programs, uniform peers, stream", m, &handles, &local, want(&local));
    stream("1,000 programs, uniform peers, stream", m, &handles, &all, want(&all));
    chain("200 programs, 1,000 hot flows, dependent", m, &handles, &hot, want(&hot));
    chain("200 programs, uniform peers, dependent", m, &handles, &local, want(&local));
    batch("200 programs, 1,000 hot flows, batches of 32", m, &handles, &hot, want(&hot));
    batch("200 programs, uniform peers, batches of 32", m, &handles, &local, want(&local));
    batch("1,000 programs, uniform peers, batches of 32", m, &handles, &all, want(&all));
    let mut directory = Directory::new();
    for (number, handle) in (0..).zip(&handles) {
        directory.set(IpAddr::V4(pod(number)), Some(*handle));
    }
    // Ends below this number are endpoints, and have no ingress program: left out, as they would be denied.
    let outside = |flows: &[Flow]| -> Vec<Flow> {
        let mut flows: Vec<Flow> = flows.iter().copied().filter(|flow| flow.peer >= PROGRAMS).collect();
        flows.truncate(flows.len() / 32 * 32);
        flows
    };
    let (hot, local, all) = (outside(&hot), outside(&local), outside(&all));
    pairs("by both addresses, 1,000 hot flows, batches", m, &directory, &hot, want(&hot));
    pairs("by both addresses, 200 sources, batches", m, &directory, &local, want(&local));
    pairs("by both addresses, 1,000 sources, batches", m, &directory, &all, want(&all));
    for rules in [1, 10, 100, 1000, 10_000, 100_000] {
        growth(rules);
    }
    for pods in [100, 1000, 10_000, 100_000, 1_000_000] {
        more_pods(pods);
    }
    for pods in [100_000, 1_000_000u32] {
        let this = std::env::current_exe().unwrap();
        let child = std::process::Command::new(this).env("VERDICT_MEMORY_OF", pods.to_string()).status();
        assert!(child.unwrap().success(), "measuring memory");
    }
    for policies in [1, 10, 100, 1000, 10_000] {
        more_policies(policies);
    }
    let mut events: Vec<u128> = (0..2000u32)
        .map(|i| {
            let address = Cidr::host(IpAddr::V4(pod(PODS + i)));
            let addresses = vec![(address, Some(ClassId::new(1 + i % CLASSES)))];
            let delta = Delta { from: 0, to: 1, addresses, ..Delta::default() };
            let start = Instant::now();
            let next = matcher.apply(&delta).unwrap();
            let took = start.elapsed().as_nanos();
            assert_eq!(next.generation(), 1);
            took
        })
        .collect();
    events.sort_unstable();
    println!("one pod more, old generation kept: median {} ns, p99 {} ns", events[1000], events[1980]);
}

const PODS: u32 = 100_000;
const CLASSES: u32 = 5_000;
const PROGRAMS: u32 = 1_000;
const LOCAL: u32 = 200;
const TABLES: u32 = 8;
const ROUNDS: usize = 61;
