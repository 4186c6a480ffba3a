//! Random valid snapshots, small enough that random packets meet every part of them.
//!
//! Ids are even or odd with a meaning: what has an even id never answers Continue, so it may serve every hook.

use alloc::collections::BTreeMap;
use core::net::IpAddr;

use portcullis_core::ir::{
    Body, ClassId, DecisionEntry, DecisionId, Effect, EndpointEntry, Guard, HookPrograms, Id,
    IdentityNamespace, Interval, L4Table, L4TableId, L7Program, L7ProgramId, L7Step, PortMap, Program,
    ProgramId, Projection, ProjectionId, Snapshot, SourceInterval,
};
use portcullis_core::label::{Labels, NAME_KEY, Name, Scope};
use portcullis_core::model::{EndpointId, EndpointKind, HttpMatch, IdentityMatch, PathMatch, PolicyId};
use portcullis_core::net::Cidr;
use portcullis_core::packet::{HttpRequest, Packet, Protocol};
use portcullis_core::selector::{Expr, LabelRef};
use portcullis_core::verdict::{Cause, Direction, Hook, RuleRef, Verdict};

/// A small deterministic source of numbers (splitmix64).
#[derive(Debug)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(self.next() % u64::from(bound.max(1))).unwrap()
    }

    pub(crate) fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(u32::try_from(from.len()).unwrap())).unwrap()].clone()
    }
}

const FINALS: u32 = 6;
const LOGGING: u32 = 4;
const WITH_L7: u32 = 4;
const L7: u32 = 4;
const TABLES: u32 = 8;
const PROJECTIONS: u32 = 4;
const PROGRAMS: u32 = 6;
const CLASSES: u32 = 6;

const NETS: [&str; 14] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.0.1/32",
    "10.1.0.2/32",
    "10.1.0.3/32",
    "10.2.0.1/32",
    "192.168.0.0/16",
    "192.168.1.1/32",
    "::/0",
    "fd00::/8",
    "fd00::1/128",
    "fd00::2/128",
    "2001:db8::/32",
];

const ADDRESSES: [&[&str]; 2] = [
    &[
        "10.1.0.1",
        "10.1.0.2",
        "10.1.0.3",
        "10.1.9.9",
        "10.2.0.1",
        "10.9.9.9",
        "192.168.1.1",
        "192.168.2.2",
        "8.8.8.8",
    ],
    &["fd00::1", "fd00::2", "fd00::3", "2001:db8::1", "2606::1"],
];

const PORTS: [u16; 9] = [0, 1, 79, 80, 443, 8080, 1023, 1024, 65535];

const PROTOCOLS: [Protocol; 7] = [
    Protocol::TCP,
    Protocol::UDP,
    Protocol::SCTP,
    Protocol::ICMP,
    Protocol::ICMPV6,
    Protocol::UDPLITE,
    Protocol(47),
];

/// A fresh snapshot.
pub(crate) fn snapshot(rng: &mut Rng) -> Snapshot {
    let mut new = Snapshot::new();
    new.generation = u64::from(rng.below(100));
    for id in 0..FINALS {
        new.decisions.put(DecisionId::new(id), final_decision(rng, id));
    }
    for id in FINALS..FINALS + LOGGING {
        let logs = (0..=rng.below(2)).map(|_| rule(rng)).collect();
        new.decisions.put(DecisionId::new(id), DecisionEntry { logs, ..final_decision(rng, id) });
    }
    for id in 0..L7 {
        new.l7.put(L7ProgramId::new(id), l7_program(rng, id));
    }
    settle(&mut new, rng);
    for id in 0..TABLES {
        new.tables.put(L4TableId::new(id), table(rng, id));
    }
    for id in 0..PROJECTIONS {
        new.projections.put(ProjectionId::new(id), projection(rng));
    }
    for id in 0..PROGRAMS {
        let program = Program { v4: body(&new, rng, id), v6: body(&new, rng, id) };
        new.programs.put(ProgramId::new(id), program);
    }
    for net in NETS {
        if rng.one_in(2) {
            new.addresses.insert(net.parse().unwrap(), class(rng));
        }
    }
    for id in endpoints() {
        if !rng.one_in(4) {
            let entry = endpoint(rng, id.kind);
            new.endpoints.insert(id, entry);
        }
    }
    for name in ["yaobank", "kube-system", "white space \"and\" quotes\n"] {
        if rng.one_in(2) {
            new.identities.insert(name.into(), namespace(rng));
        }
    }
    new
}

/// The next snapshot after `old`: a few random changes.
pub(crate) fn evolve(old: &Snapshot, rng: &mut Rng) -> Snapshot {
    let mut new = old.clone();
    new.generation += 1;
    for _ in 0..=rng.below(3) {
        edit(&mut new, rng);
    }
    settle(&mut new, rng);
    new
}

fn edit(new: &mut Snapshot, rng: &mut Rng) {
    match rng.below(10) {
        0 => {
            let id = rng.below(FINALS);
            new.decisions.put(DecisionId::new(id), final_decision(rng, id));
        }
        1 => {
            let id = rng.below(L7);
            new.l7.put(L7ProgramId::new(id), l7_program(rng, id));
        }
        2 => {
            let id = rng.below(TABLES);
            new.tables.put(L4TableId::new(id), table(rng, id));
        }
        3 => {
            new.projections.put(ProjectionId::new(rng.below(PROJECTIONS)), projection(rng));
        }
        4 => {
            let id = ProjectionId::new(rng.below(PROJECTIONS));
            let mut changed = new.projections.lookup(id).unwrap().clone();
            let row = rng.below(changed.rows);
            let class = ClassId::new(1 + rng.below(CLASSES));
            if row == 0 {
                changed.row_of.remove(&class);
            } else {
                changed.row_of.insert(class, row);
            }
            new.projections.put(id, changed);
        }
        5 => {
            let id = rng.below(PROGRAMS);
            let program = Program { v4: body(new, rng, id), v6: body(new, rng, id) };
            new.programs.put(ProgramId::new(id), program);
        }
        6 | 7 => {
            let net: Cidr = rng.pick(&NETS).parse().unwrap();
            if rng.one_in(3) {
                new.addresses.remove(&net);
            } else {
                new.addresses.insert(net, class(rng));
            }
        }
        8 => {
            let id = rng.pick(&endpoints());
            if rng.one_in(4) {
                new.endpoints.remove(&id);
            } else {
                let entry = endpoint(rng, id.kind);
                new.endpoints.insert(id, entry);
            }
        }
        _ => {
            new.identities.insert("yaobank".into(), namespace(rng));
        }
    }
}

/// Makes dependent parts fit again: decisions with an L7 program, and the cells of programs.
fn settle(new: &mut Snapshot, rng: &mut Rng) {
    for id in FINALS + LOGGING..FINALS + LOGGING + WITH_L7 {
        let l7 = L7ProgramId::new(id % L7);
        let packet = Packet::new("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap(), Protocol::TCP);
        let said = new.run(new.l7.lookup(l7).unwrap(), &packet).unwrap();
        let decision =
            DecisionEntry { verdict: said.verdict, cause: said.cause, logs: said.logs, l7: Some(l7) };
        new.decisions.put(DecisionId::new(id), decision);
    }
    let ids: Vec<ProgramId> = new.programs.iter().map(|(id, _)| id).collect();
    for id in ids {
        let mut program = new.programs.lookup(id).unwrap().clone();
        for body in [&mut program.v4, &mut program.v6] {
            let rows = new.projections.lookup(body.source).unwrap().rows;
            let columns = new.projections.lookup(body.destination).unwrap().rows;
            if body.columns != columns || body.cells.len() != usize::try_from(rows * columns).unwrap() {
                body.columns = columns;
                body.cells = cells(rng, id.number(), rows * columns);
            }
        }
        new.programs.put(id, program);
    }
}

fn policy(rng: &mut Rng) -> PolicyId {
    let namespace = (!rng.one_in(3)).then(|| Name::from(rng.pick(&["yaobank", "-", "a b"])));
    PolicyId::new(
        rng.pick(&["NetworkPolicy", "GlobalNetworkPolicy"]),
        namespace,
        rng.pick(&["web", "db", "\u{e9}\t\""]),
    )
}

fn rule(rng: &mut Rng) -> RuleRef {
    RuleRef {
        policy: policy(rng),
        tier: rng.pick(&["default", "security", ""]).into(),
        direction: rng.pick(&[Direction::Ingress, Direction::Egress]),
        index: rng.below(3).try_into().unwrap(),
    }
}

fn cause(rng: &mut Rng) -> Cause {
    match rng.below(14) {
        0 => Cause::TierDefault { tier: "default".into(), policy: policy(rng) },
        1 => Cause::Profile { profile: "kns.yaobank".into(), index: Some(1) },
        2 => Cause::Profile { profile: "missing".into(), index: None },
        3 => Cause::ProfileDefault,
        4 => Cause::NoPolicy,
        5 => Cause::Loopback,
        6 => Cause::Node,
        7 => Cause::WorkloadToHost,
        8 => Cause::Failsafe,
        9 => Cause::NeighbourDiscovery,
        10 => Cause::NoBackend,
        11 => Cause::NoServicePort,
        12 => Cause::Tunnel,
        _ => Cause::Rule(rule(rng)),
    }
}

fn final_decision(rng: &mut Rng, id: u32) -> DecisionEntry {
    let verdict = match rng.below(if id.is_multiple_of(2) { 2 } else { 3 }) {
        0 => Verdict::Allow,
        1 => Verdict::Deny,
        _ => Verdict::Continue,
    };
    DecisionEntry { verdict, cause: cause(rng), logs: Vec::new(), l7: None }
}

/// An id below `bound` that may serve what has id `user`.
fn fitting(rng: &mut Rng, user: u32, bound: u32) -> u32 {
    let id = rng.below(bound);
    if user.is_multiple_of(2) { id / 2 * 2 } else { id }
}

fn l7_program(rng: &mut Rng, id: u32) -> L7Program {
    let count = rng.below(4);
    let mut steps: Vec<L7Step> = (0..count)
        .map(|index| {
            let mut guard = guard(rng);
            let effect = match rng.below(3) {
                0 => Effect::Decide(DecisionId::new(fitting(rng, id, FINALS))),
                1 => {
                    guard.http = None;
                    Effect::SkipTo(index + 1 + rng.below(count - index))
                }
                _ => Effect::Log(rule(rng)),
            };
            L7Step { guard, effect }
        })
        .collect();
    let end = Effect::Decide(DecisionId::new(fitting(rng, id, FINALS)));
    steps.push(L7Step { guard: Guard::default(), effect: end });
    L7Program { steps }
}

fn guard(rng: &mut Rng) -> Guard {
    let identities = (0..rng.below(3)).map(|_| IdentityMatch { expr: expr(rng, 3) }).collect();
    let http = rng.one_in(2).then(|| HttpMatch {
        methods: (0..rng.below(3)).map(|_| rng.pick(&["GET", "POST", "*"]).into()).collect(),
        paths: (0..rng.below(3))
            .map(|_| {
                let path = Name::from(rng.pick(&["/", "/a", "/a b", "/a/\"b\""]));
                if rng.one_in(2) { PathMatch::Exact(path) } else { PathMatch::Prefix(path) }
            })
            .collect(),
    });
    Guard { identities, http }
}

/// A random expression, including those that no selector text can say.
pub(crate) fn expr(rng: &mut Rng, depth: u32) -> Expr {
    let label = |rng: &mut Rng| {
        let scope = rng.pick(&[Scope::Own, Scope::Namespace, Scope::ServiceAccount]);
        LabelRef::new(scope, rng.pick(&["app", NAME_KEY, "odd (key)"]))
    };
    let value = |rng: &mut Rng| Name::from(rng.pick(&["web", "yaobank", "customer", "", "\"'"]));
    let values = |rng: &mut Rng| {
        let mut values: Vec<Name> = (0..rng.below(3)).map(|_| value(rng)).collect();
        values.sort();
        values.dedup();
        values
    };
    match rng.below(if depth == 0 { 10 } else { 13 }) {
        0 => Expr::All,
        1 => Expr::Global,
        2 => Expr::Has(label(rng)),
        3 => Expr::Eq(label(rng), value(rng)),
        4 => Expr::Ne(label(rng), value(rng)),
        5 => Expr::In(label(rng), values(rng)),
        6 => Expr::NotIn(label(rng), values(rng)),
        7 => Expr::Contains(label(rng), value(rng)),
        8 => Expr::StartsWith(label(rng), value(rng)),
        9 => Expr::EndsWith(label(rng), value(rng)),
        10 => Expr::Not(Box::new(expr(rng, depth - 1))),
        11 => Expr::And((0..rng.below(4)).map(|_| expr(rng, depth - 1)).collect()),
        _ => Expr::Or((0..rng.below(4)).map(|_| expr(rng, depth - 1)).collect()),
    }
}

fn table(rng: &mut Rng, id: u32) -> L4Table {
    let decision = |rng: &mut Rng| DecisionId::new(fitting(rng, id, FINALS + LOGGING + WITH_L7));
    let other = decision(rng);
    let mut protocols = Vec::new();
    let mut sorted = PROTOCOLS.to_vec();
    sorted.sort();
    for protocol in sorted {
        if rng.one_in(2) {
            continue;
        }
        let ends = |rng: &mut Rng, split: bool| {
            let mut ends: Vec<u16> =
                if split { (0..rng.below(3)).map(|_| rng.pick(&PORTS)).collect() } else { Vec::new() };
            ends.push(u16::MAX);
            ends.sort();
            ends.dedup();
            ends
        };
        let keyed = protocol.has_ports() || matches!(protocol, Protocol::ICMP | Protocol::ICMPV6);
        let mut sources: Vec<SourceInterval> = Vec::new();
        let split = protocol.has_ports() && rng.one_in(2);
        for last in ends(rng, split) {
            let mut keys: Vec<Interval> = Vec::new();
            for last in ends(rng, keyed) {
                let decision = decision(rng);
                keys.pop_if(|interval| interval.decision == decision);
                keys.push(Interval { last, decision });
            }
            let keys = PortMap::new(keys);
            sources.pop_if(|source| source.keys == keys);
            sources.push(SourceInterval { last, keys });
        }
        let constant = PortMap::new(vec![Interval { last: u16::MAX, decision: other }]);
        if sources != [SourceInterval { last: u16::MAX, keys: constant }] {
            protocols.push((protocol, sources));
        }
    }
    L4Table { protocols, other }
}

fn class(rng: &mut Rng) -> ClassId {
    ClassId::new(rng.below(CLASSES + 1))
}

fn projection(rng: &mut Rng) -> Projection {
    let rows = 1 + rng.below(3);
    let mut row_of = BTreeMap::new();
    for class in 1..=CLASSES {
        let row = rng.below(rows);
        if row != 0 {
            row_of.insert(ClassId::new(class), row);
        }
    }
    Projection { rows, row_of }
}

fn body(snapshot: &Snapshot, rng: &mut Rng, id: u32) -> Body {
    let source = ProjectionId::new(rng.below(PROJECTIONS));
    let destination = ProjectionId::new(rng.below(PROJECTIONS));
    let rows = snapshot.projections.lookup(source).unwrap().rows;
    let columns = snapshot.projections.lookup(destination).unwrap().rows;
    Body { source, destination, columns, cells: cells(rng, id, rows * columns) }
}

fn cells(rng: &mut Rng, id: u32, count: u32) -> Vec<L4TableId> {
    (0..count).map(|_| L4TableId::new(fitting(rng, id, TABLES))).collect()
}

/// The endpoints that may occur.
pub(crate) fn endpoints() -> Vec<EndpointId> {
    vec![
        EndpointId::workload("yaobank", "customer"),
        EndpointId::workload("yaobank", "summary \"1\""),
        EndpointId { kind: EndpointKind::Workload, namespace: None, name: "vm".into() },
        EndpointId::host("node-1"),
    ]
}

/// The hooks of a kind of endpoint.
pub(crate) fn hooks(kind: EndpointKind) -> &'static [Hook] {
    match kind {
        EndpointKind::Workload => &Hook::ALL[..2],
        EndpointKind::Host => &Hook::ALL[2..],
    }
}

fn endpoint(rng: &mut Rng, kind: EndpointKind) -> EndpointEntry {
    let programs = |rng: &mut Rng| {
        let strict = [Hook::WorkloadIngress, Hook::WorkloadEgress, Hook::HostIngress, Hook::HostEgress];
        let program = |hook: &Hook, rng: &mut Rng| {
            ProgramId::new(fitting(rng, if strict.contains(hook) { 0 } else { 1 }, PROGRAMS))
        };
        HookPrograms(hooks(kind).iter().map(|hook| (*hook, program(hook, rng))).collect())
    };
    EndpointEntry { enforced: programs(rng), staged: rng.one_in(3).then(|| programs(rng)) }
}

fn namespace(rng: &mut Rng) -> IdentityNamespace {
    let labels = |rng: &mut Rng| -> Labels {
        (0..rng.below(3)).map(|_| (rng.pick(&["app", "odd (key)"]), rng.pick(&["web", "", "x y"]))).collect()
    };
    let service_accounts =
        (0..rng.below(3)).map(|_| (Name::from(rng.pick(&["customer", "summary"])), labels(rng))).collect();
    IdentityNamespace { labels: labels(rng), service_accounts }
}

/// A packet without attributes.
pub(crate) fn plain_packet(rng: &mut Rng) -> Packet {
    let family = rng.pick(&ADDRESSES);
    let address = |rng: &mut Rng| -> IpAddr { rng.pick(family).parse().unwrap() };
    let (source, destination) = (address(rng), address(rng));
    let mut packet = Packet::new(source, destination, rng.pick(&PROTOCOLS));
    if packet.protocol.has_ports() {
        let port = |rng: &mut Rng| rng.pick(&PORTS).saturating_add(u16::try_from(rng.below(2)).unwrap());
        packet = packet.from_port(port(rng)).to_port(port(rng));
    }
    if rng.one_in(2) && matches!(packet.protocol, Protocol::ICMP | Protocol::ICMPV6) {
        packet = packet.with_icmp(rng.pick(&[0, 1, 4, 31]), rng.pick(&[0, 79, 80, 144]));
    }
    packet
}

/// A packet that may have a principal and an HTTP request.
pub(crate) fn packet(rng: &mut Rng) -> Packet {
    let mut packet = plain_packet(rng);
    if rng.one_in(2) {
        let principals = ["spiffe://x/ns/yaobank/sa/customer", "spiffe://x/ns/kube-system/sa/summary", ""];
        packet.principal = Some(rng.pick(&principals).into());
    }
    if rng.one_in(2) {
        let path = rng.pick(&["/", "/a", "/a/c", "/%"]).into();
        packet.http = Some(HttpRequest { method: rng.pick(&["GET", "PUT"]).into(), path });
    }
    packet
}

/// The same snapshot under other ids, with gaps between them.
pub(crate) fn renamed(old: &Snapshot, rng: &mut Rng) -> Snapshot {
    fn shuffle<I: Id>(ids: impl Iterator<Item = I>, rng: &mut Rng) -> BTreeMap<I, I> {
        let ids: Vec<I> = ids.collect();
        let mut numbers: Vec<u32> = (0..u32::try_from(ids.len()).unwrap()).map(|n| n * 3 + 1).collect();
        for i in (1..numbers.len()).rev() {
            numbers.swap(i, usize::try_from(rng.below(u32::try_from(i + 1).unwrap())).unwrap());
        }
        ids.into_iter().zip(numbers).map(|(id, number)| (id, I::new(number))).collect()
    }
    let mut classes = shuffle((1..=CLASSES).map(ClassId::new), rng);
    classes.insert(ClassId::UNKNOWN, ClassId::UNKNOWN);
    let projections = shuffle(old.projections.iter().map(|(id, _)| id), rng);
    let programs = shuffle(old.programs.iter().map(|(id, _)| id), rng);
    let tables = shuffle(old.tables.iter().map(|(id, _)| id), rng);
    let decisions = shuffle(old.decisions.iter().map(|(id, _)| id), rng);
    let l7 = shuffle(old.l7.iter().map(|(id, _)| id), rng);
    let mut rows: BTreeMap<ProjectionId, BTreeMap<u32, u32>> = BTreeMap::new();
    let mut new = Snapshot::new();
    new.generation = old.generation + 7;
    new.identities = old.identities.clone();
    new.addresses = old.addresses.iter().map(|(net, class)| (*net, classes[class])).collect();
    for (id, projection) in old.projections.iter() {
        // Row 0 stays; the others are turned round, and a row that no class is on is added.
        let last = projection.rows;
        let rows = rows
            .entry(id)
            .or_insert_with(|| (0..last).map(|r| (r, if r == 0 { 0 } else { last - r })).collect());
        let row_of = projection.row_of.iter().map(|(class, row)| (classes[class], rows[row])).collect();
        new.projections.put(projections[&id], Projection { rows: last + 1, row_of });
    }
    for (id, program) in old.programs.iter() {
        let body = |body: &Body| {
            let (down, across) = (&rows[&body.source], &rows[&body.destination]);
            let columns = body.columns + 1;
            let height = u32::try_from(down.len()).unwrap() + 1;
            let filler = tables[&body.cells[0]];
            let mut cells = vec![filler; usize::try_from(height * columns).unwrap()];
            for (s, new_s) in down {
                for (d, new_d) in across {
                    cells[usize::try_from(new_s * columns + new_d).unwrap()] =
                        tables[&body.cell(*s, *d).unwrap()];
                }
            }
            Body {
                source: projections[&body.source],
                destination: projections[&body.destination],
                columns,
                cells,
            }
        };
        new.programs.put(programs[&id], Program { v4: body(&program.v4), v6: body(&program.v6) });
    }
    for (id, table) in old.tables.iter() {
        let mut table = table.clone();
        table.other = decisions[&table.other];
        for source in table.protocols.iter_mut().flat_map(|(_, sources)| sources) {
            let named = |old: &Interval| Interval { decision: decisions[&old.decision], ..*old };
            source.keys = source.keys.intervals().iter().map(named).collect::<Vec<_>>().into();
        }
        new.tables.put(tables[&id], table);
    }
    for (id, decision) in old.decisions.iter() {
        new.decisions
            .put(decisions[&id], DecisionEntry { l7: decision.l7.map(|id| l7[&id]), ..decision.clone() });
    }
    for (id, program) in old.l7.iter() {
        let mut program = program.clone();
        for step in &mut program.steps {
            if let Effect::Decide(id) = &mut step.effect {
                *id = decisions[id];
            }
        }
        new.l7.put(l7[&id], program);
    }
    for (id, entry) in &old.endpoints {
        let view = |view: &HookPrograms| {
            HookPrograms(view.0.iter().map(|(hook, id)| (*hook, programs[id])).collect())
        };
        let entry =
            EndpointEntry { enforced: view(&entry.enforced), staged: entry.staged.as_ref().map(view) };
        new.endpoints.insert(id.clone(), entry);
    }
    new
}
