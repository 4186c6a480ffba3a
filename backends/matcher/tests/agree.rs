//! The matcher against the IR interpreter, on generated snapshots and on the deltas between them.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test helpers stop at the first surprise")]

extern crate alloc;

use alloc::collections::BTreeMap;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portcullis_core::backend::{Bindings, DesiredState, Lower, LowerErrorKind};
use portcullis_core::evaluate::Evaluate;
use portcullis_core::ir::{
    Body, ClassId, DecisionEntry, DecisionId, Effect, EndpointEntry, Guard, HookPrograms, Id, Interpreter,
    Interval, L4Table, L4TableId, L7Program, L7ProgramId, L7Step, PortMap, Program, ProgramId, Projection,
    ProjectionId, Snapshot, SourceInterval, View,
};
use portcullis_core::model::{EndpointId, HttpMatch};
use portcullis_core::net::Cidr;
use portcullis_core::packet::{HttpRequest, Packet, Protocol};
use portcullis_core::verdict::{Cause, Hook, Verdict};
use portcullis_matcher::{Answer, Directory, Matcher, PacketKey, Pair, Query};

/// xorshift64*: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        u32::try_from((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % u64::from(bound)).unwrap()
    }

    fn port(&mut self) -> u16 {
        u16::try_from(match self.below(3) {
            0 => self.below(4),
            1 => 60 + self.below(60),
            _ => self.below(65_536),
        })
        .unwrap()
    }

    /// Few bits vary, so that prefixes nest and packets hit them.
    fn address(&mut self) -> IpAddr {
        let low = self.below(64);
        if self.below(3) == 0 {
            IpAddr::V6(Ipv6Addr::from(
                (0xfd00_u128 << 112) | u128::from(low) | u128::from(self.below(4)) << 60,
            ))
        } else {
            IpAddr::V4(Ipv4Addr::from(0x0a00_0000 | low | self.below(4) << 16))
        }
    }

    /// Mostly near each other, some far away.
    fn class(&mut self) -> ClassId {
        ClassId::new(if self.below(4) == 0 { self.below(40_000) } else { self.below(30) })
    }

    fn cidr(&mut self) -> Cidr {
        let address = self.address();
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match self.below(3) {
            0 => longest,
            1 => longest - self.below(9),
            _ => self.below(longest + 1),
        };
        Cidr::new(address, u8::try_from(prefix).unwrap()).unwrap()
    }

    fn map(&mut self) -> PortMap {
        let breaks = if self.below(6) == 0 { 40 } else { self.below(4) };
        let mut lasts: Vec<u16> = (0..breaks).map(|_| self.port()).chain([u16::MAX]).collect();
        lasts.sort_unstable();
        lasts.dedup();
        let mut intervals: Vec<Interval> = Vec::new();
        for last in lasts {
            let decision = DecisionId::new(self.below(DECISIONS));
            match intervals.last_mut() {
                Some(before) if before.decision == decision => before.last = last,
                _ => intervals.push(Interval { last, decision }),
            }
        }
        PortMap::new(intervals)
    }

    fn table(&mut self) -> L4Table {
        let mut table = L4Table::constant(DecisionId::new(self.below(DECISIONS)));
        for protocol in [Protocol::ICMP, Protocol::TCP, Protocol::UDP, Protocol(255)] {
            if self.below(2) == 0 {
                continue;
            }
            let mut lasts = vec![u16::MAX];
            if self.below(4) == 0 {
                lasts.insert(0, 1 + self.port() / 2);
            }
            let sources = lasts.into_iter().map(|last| SourceInterval { last, keys: self.map() }).collect();
            table.protocols.push((protocol, sources));
        }
        table
    }

    fn projection(&mut self) -> Projection {
        let mut projection =
            Projection { rows: [1, 2, 3, 4, 300][self.below(5) as usize], ..Projection::trivial() };
        for _ in 0..self.below(40) {
            let (class, row) = (self.class(), self.below(projection.rows));
            if row != 0 {
                projection.row_of.insert(class, row);
            }
        }
        projection
    }

    fn body(&mut self, snapshot: &Snapshot) -> Body {
        let [source, destination] = [(); 2].map(|()| ProjectionId::new(self.below(PROJECTIONS)));
        let rows = |id| snapshot.projections.lookup(id).unwrap().rows;
        // Large matrices take long and show nothing that a long row does not.
        let destination = if rows(source) > 10 { ProjectionId::new(0) } else { destination };
        let columns = rows(destination);
        let cells = (0..rows(source) * columns).map(|_| L4TableId::new(self.below(TABLES))).collect();
        Body { source, destination, columns, cells }
    }

    fn decision(&mut self) -> DecisionEntry {
        DecisionEntry {
            verdict: [Verdict::Allow, Verdict::Deny, Verdict::Continue, Verdict::Inspect]
                [self.below(4) as usize],
            cause: Cause::Profile {
                profile: format!("p{}", self.below(1000)).as_str().into(),
                index: Some(self.below(9) as usize),
            },
            logs: Vec::new(),
            l7: (self.below(3) == 0).then(|| L7ProgramId::new(0)),
        }
    }

    fn hooks(&mut self) -> HookPrograms {
        let hooks = Hook::ALL.into_iter().filter(|_| self.below(3) != 0).collect::<Vec<_>>();
        HookPrograms(hooks.into_iter().map(|hook| (hook, ProgramId::new(self.below(PROGRAMS)))).collect())
    }

    fn set_programs(&mut self, snapshot: &mut Snapshot) {
        for id in 0..PROGRAMS {
            let program = Program { v4: self.body(snapshot), v6: self.body(snapshot) };
            snapshot.programs.put(ProgramId::new(id), program);
        }
    }

    /// Changes parts of `snapshot` and counts its generation up.
    fn change(&mut self, snapshot: &mut Snapshot) {
        snapshot.generation += 1;
        for _ in 0..self.below(60) {
            let cidr = self.cidr();
            if self.below(3) == 0 {
                snapshot.addresses.remove(&cidr);
            } else {
                snapshot.addresses.insert(cidr, self.class());
            }
        }
        for _ in 0..self.below(4) {
            let id = endpoint(self.below(ENDPOINTS));
            if self.below(3) == 0 {
                snapshot.endpoints.remove(&id);
            } else {
                let staged = (self.below(2) == 0).then(|| self.hooks());
                snapshot.endpoints.insert(id, EndpointEntry { enforced: self.hooks(), staged });
            }
        }
        if self.below(3) == 0 {
            snapshot.decisions.put(DecisionId::new(self.below(DECISIONS)), self.decision());
            snapshot.tables.put(L4TableId::new(self.below(TABLES)), self.table());
        }
        if self.below(4) == 0 {
            let id = ProjectionId::new(1 + self.below(PROJECTIONS - 1));
            let mut projection = self.projection();
            projection.row_of.extend(snapshot.projections.lookup(id).unwrap().row_of.clone());
            let rows = projection.row_of.values().max().copied().unwrap_or(0) + 1;
            projection.rows = projection.rows.max(rows);
            snapshot.projections.put(id, projection);
            self.set_programs(snapshot);
        }
    }

    fn snapshot(&mut self) -> Snapshot {
        let mut snapshot = Snapshot::new();
        for id in 0..DECISIONS {
            snapshot.decisions.put(DecisionId::new(id), self.decision());
        }
        let http = HttpMatch { methods: vec!["GET".into()], paths: vec![] };
        let step = |guard, decision| L7Step { guard, effect: Effect::Decide(DecisionId::new(decision)) };
        let steps = vec![step(Guard { http: Some(http), ..Guard::default() }, 1), step(Guard::default(), 2)];
        snapshot.l7.put(L7ProgramId::new(0), L7Program { steps });
        for id in 0..TABLES {
            snapshot.tables.put(L4TableId::new(id), self.table());
        }
        snapshot.projections.put(ProjectionId::new(0), Projection::trivial());
        for id in 1..PROJECTIONS {
            snapshot.projections.put(ProjectionId::new(id), self.projection());
        }
        self.set_programs(&mut snapshot);
        for _ in 0..8 {
            self.change(&mut snapshot);
        }
        snapshot
    }

    fn packet(&mut self) -> Packet {
        let source = self.address();
        let mut destination = self.address();
        while destination.is_ipv4() != source.is_ipv4() {
            destination = self.address();
        }
        let protocol = Protocol([1, 6, 6, 17, 58, 132, 254, 255][self.below(8) as usize]);
        let mut packet =
            Packet::new(source, destination, protocol).to_port(self.port()).from_port(self.port());
        if self.below(4) == 0 {
            packet = packet.with_icmp(u8::try_from(self.below(4)).unwrap(), 0);
        }
        if self.below(5) == 0 {
            let method = ["GET", "PUT"][self.below(2) as usize];
            packet.http = Some(HttpRequest { method: method.into(), path: "/".into() });
        }
        packet
    }
}

fn endpoint(number: u32) -> EndpointId {
    EndpointId::workload("n", format!("e{number}").as_str())
}

/// Asks both about random packets and gives the number of verdicts of each kind.
fn compare(random: &mut Random, snapshot: &Snapshot, matcher: &Matcher, packets: u32) -> [u32; 4] {
    let interpreter = Interpreter::new(snapshot);
    let mut seen = [0; 4];
    for _ in 0..packets {
        let packet = random.packet();
        let id = endpoint(random.below(ENDPOINTS));
        let hook = Hook::ALL[random.below(9) as usize];
        let want = interpreter.decide(&id, hook, &packet);
        assert_eq!(matcher.evaluate(&id, hook, &packet), want, "{id} {hook} {packet:?}");
        let staged = interpreter.with_view(View::Staged).decide(&id, hook, &packet);
        assert_eq!(matcher.view(View::Staged).evaluate(&id, hook, &packet), staged);
        if let Some(handle) = matcher.handle(&id) {
            let key = PacketKey::new(&packet).unwrap();
            let decision = interpreter.look_up(&id, hook, &packet);
            assert_eq!(matcher.answer(handle, hook, &key).decision(), decision);
            let plain = decision.and_then(|id| snapshot.decisions.lookup(id)).map(|found| found.verdict);
            assert_eq!(matcher.verdict(handle, hook, &key), plain.unwrap_or(Verdict::Deny));
        }
        seen[want.verdict as usize] += 1;
    }
    seen
}

#[test]
fn generated_snapshots_and_deltas_agree_with_the_interpreter() {
    let mut seen = [0; 4];
    for seed in 1..=60 {
        let mut random = Random(u64::wrapping_mul(seed, 0x9E37_79B9_7F4A_7C15));
        let mut snapshot = random.snapshot();
        let mut matcher = Matcher::lower(&snapshot).unwrap();
        for _ in 0..12 {
            for (sum, count) in seen.iter_mut().zip(compare(&mut random, &snapshot, &matcher, 150)) {
                *sum += count;
            }
            let (old, before) = (snapshot.clone(), matcher.clone());
            random.change(&mut snapshot);
            let delta = old.diff(&snapshot);
            matcher = before.apply(&delta).unwrap();
            assert_eq!(matcher.generation(), snapshot.generation);
            // The matcher of the old generation is not disturbed by what the new one shares with it.
            compare(&mut random, &old, &before, 40);
            assert!(matcher.apply(&delta).is_err(), "a delta applies once");
        }
        compare(&mut random, &snapshot, &Matcher::lower(&snapshot).unwrap(), 100);
    }
    assert!(seen.iter().all(|count| *count > 1000), "every verdict is exercised: {seen:?}");
}

/// Batches and pairs of several lengths, against single answers.
#[test]
fn batches_say_what_single_packets_get() {
    for seed in 1..=30 {
        let mut random = Random(u64::wrapping_mul(seed, 0x9E37_79B9_7F4A_7C15));
        let snapshot = random.snapshot();
        let matcher = Matcher::lower(&snapshot).unwrap();
        let handles: Vec<_> = (0..ENDPOINTS).filter_map(|e| matcher.handle(&endpoint(e))).collect();
        let keys: Vec<_> = (0..150).map(|_| PacketKey::new(&random.packet()).unwrap()).collect();
        let asked: Vec<_> = keys
            .iter()
            .map(|key| {
                let handle = handles[random.below(u32::try_from(handles.len()).unwrap()) as usize];
                (handle, Hook::ALL[random.below(9) as usize], *key)
            })
            .collect();
        let want: Vec<_> =
            asked.iter().map(|(handle, hook, key)| matcher.answer(*handle, *hook, key)).collect();
        let queries: Vec<_> =
            asked.into_iter().map(|(handle, hook, key)| Query::new(handle, hook, key)).collect();
        for len in [0, 1, 31, 32, 33, 100, 150] {
            let mut answers = vec![Answer::default(); len];
            assert_eq!(matcher.decide_batch(&queries, &mut answers), len);
            assert_eq!(answers, want[..len]);
        }

        let mut directory = Directory::new();
        let mut listed = BTreeMap::new();
        for _ in 0..200 {
            let (address, handle) =
                (random.address(), handles[usize::try_from(seed).unwrap() % handles.len()]);
            let handle = (random.below(4) != 0).then_some(handle);
            directory.set(address, handle);
            listed.insert(address, handle);
        }
        let packets: Vec<_> = (0..77).map(|_| random.packet()).collect();
        let keys: Vec<_> = packets.iter().map(|packet| PacketKey::new(packet).unwrap()).collect();
        let mut pairs = vec![Pair::default(); 77];
        assert_eq!(matcher.pair_batch(&directory, &keys, &mut pairs), 77);
        for ((packet, key), pair) in packets.iter().zip(&keys).zip(pairs) {
            let end = |address| listed.get(&address).copied().flatten();
            let ends = (end(packet.source), end(packet.destination));
            assert_eq!(directory.ends(key), ends);
            assert_eq!(pair, matcher.pair(ends.0, ends.1, key));
            assert_eq!(pair.egress(), ends.0.map(|end| matcher.answer(end, Hook::WorkloadEgress, key)));
            assert_eq!(pair.ingress(), ends.1.map(|end| matcher.answer(end, Hook::WorkloadIngress, key)));
        }
    }
}

#[test]
fn many_addresses_come_and_go() {
    let mut random = Random(7);
    let mut snapshot = random.snapshot();
    let mut matcher = Matcher::lower(&snapshot).unwrap();
    for round in 0..6u32 {
        let old = snapshot.clone();
        snapshot.generation += 1;
        for host in 0..3000u32 {
            let address = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 | host));
            if (round + host) % 3 == 0 || round == 5 {
                snapshot.addresses.remove(&Cidr::host(address));
            } else {
                snapshot.addresses.insert(Cidr::host(address), ClassId::new(host % 40));
            }
        }
        matcher = matcher.apply(&old.diff(&snapshot)).unwrap();
        compare(&mut random, &snapshot, &matcher, 3000);
    }
}

#[test]
fn a_handle_dies_with_its_endpoint() {
    let mut random = Random(3);
    let mut snapshot = random.snapshot();
    let allow = DecisionEntry { verdict: Verdict::Allow, cause: Cause::NoPolicy, logs: vec![], l7: None };
    snapshot.decisions.put(DecisionId::new(0), allow);
    snapshot.tables.put(L4TableId::new(0), L4Table::constant(DecisionId::new(0)));
    let trivial = ProjectionId::new(0);
    let body = Body { source: trivial, destination: trivial, columns: 1, cells: vec![L4TableId::new(0)] };
    snapshot.programs.put(ProgramId::new(0), Program { v4: body.clone(), v6: body });
    let hooks = HookPrograms([(Hook::WorkloadIngress, ProgramId::new(0))].into());
    let entry = EndpointEntry { enforced: hooks, staged: None };
    snapshot.endpoints = [(endpoint(0), entry.clone())].into();
    let first = Matcher::lower(&snapshot).unwrap();
    let handle = first.handle(&endpoint(0)).unwrap();
    let key = PacketKey::new(&random.packet()).unwrap();
    assert_eq!(first.verdict(handle, Hook::WorkloadIngress, &key), Verdict::Allow);
    assert_eq!(first.pair(None, Some(handle), &key).verdict(), Verdict::Allow);
    assert_eq!(
        first.pair(Some(handle), Some(handle), &key).verdict(),
        Verdict::Deny,
        "it has no egress program"
    );

    let mut second = snapshot.clone();
    second.generation += 1;
    second.endpoints.clear();
    let gone = first.apply(&snapshot.diff(&second)).unwrap();
    assert_eq!(gone.verdict(handle, Hook::WorkloadIngress, &key), Verdict::Deny);
    let mut third = second.clone();
    third.generation += 1;
    third.endpoints.insert(endpoint(1), entry);
    let reused = gone.apply(&second.diff(&third)).unwrap();
    assert_eq!(reused.verdict(handle, Hook::WorkloadIngress, &key), Verdict::Deny);
    let other = reused.handle(&endpoint(1)).unwrap();
    assert_eq!(reused.verdict(other, Hook::WorkloadIngress, &key), Verdict::Allow);
    assert_eq!(first.verdict(handle, Hook::WorkloadIngress, &key), Verdict::Allow);
}

#[test]
fn broken_snapshots_are_refused() {
    let mut snapshot = Random(5).snapshot();
    snapshot.tables.put(L4TableId::new(3), L4Table::constant(DecisionId::new(9999)));
    let error = Matcher::lower(&snapshot).unwrap_err().to_string();
    assert_eq!(error, "table t3 has a gap or names a decision that does not exist");
    let mut snapshot = Random(5).snapshot();
    let mut program = snapshot.programs.lookup(ProgramId::new(2)).unwrap().clone();
    program.v6.cells.clear();
    snapshot.programs.put(ProgramId::new(2), program);
    let error = Matcher::lower(&snapshot).unwrap_err().to_string();
    assert_eq!(error, "program p2 has a wrong number of cells or names what does not exist");
}

const DECISIONS: u32 = 24;
const TABLES: u32 = 20;
const PROJECTIONS: u32 = 8;
const PROGRAMS: u32 = 12;
const ENDPOINTS: u32 = 12;

#[test]
fn what_cannot_be_lowered_changes_nothing() {
    let bindings = Bindings::new();
    let first = Random(7).snapshot();
    let before = DesiredState::new(&first, &bindings);
    let (mut lowered, update) = <Matcher as Lower>::load((), before, &()).unwrap();
    assert_eq!((Lower::generation(&lowered), update.generation()), (first.generation, first.generation));

    let mut broken = first.clone();
    broken.generation += 1;
    broken.tables.put(L4TableId::new(3), L4Table::constant(DecisionId::new(9999)));
    let delta = first.diff(&broken);
    let error = Lower::update(&mut lowered, DesiredState::new(&broken, &bindings), &delta).unwrap_err();
    assert!(matches!(error.kind(), LowerErrorKind::InvalidEntry { .. }), "{error}");
    assert_eq!(Lower::generation(&lowered), first.generation);

    let mut second = first.clone();
    second.generation += 1;
    second.endpoints.clear();
    let delta = first.diff(&second);
    let next = Lower::update(&mut lowered, DesiredState::new(&second, &bindings), &delta).unwrap();
    assert_eq!((Lower::generation(&lowered), next.generation()), (second.generation, second.generation));
    assert_eq!(next.handle(&endpoint(1)), None);
    let error = Lower::update(&mut lowered, DesiredState::new(&second, &bindings), &delta).unwrap_err();
    assert!(matches!(error.kind(), LowerErrorKind::Generation { .. }), "{error}");
}
