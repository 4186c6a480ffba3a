//! Every invariant is checked: one way to break each, at least.

use portcullis_core::ir::{
    ClassId, DecisionEntry, DecisionId, Effect, Guard, Id, Interval, L4Table, L4TableId, L7Program,
    L7ProgramId, L7Step, PortMap, Program, ProgramId, Projection, ProjectionId, Snapshot, SourceInterval,
};
use portcullis_core::label::{Name, Scope};
use portcullis_core::model::{EndpointId, HttpMatch, IdentityMatch, PolicyId};
use portcullis_core::packet::Protocol;
use portcullis_core::selector::{Expr, LabelRef};
use portcullis_core::verdict::{Cause, Direction, Hook, RuleRef, Verdict};

use crate::CASES;
use crate::generate::{self, Rng};

#[test]
fn generated_snapshots_are_valid() {
    for seed in 0..CASES {
        let mut rng = Rng(seed);
        let mut snapshot = generate::snapshot(&mut rng);
        snapshot.verify().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        for step in 0..3 {
            snapshot = generate::evolve(&snapshot, &mut rng);
            snapshot.verify().unwrap_or_else(|error| panic!("seed {seed}, step {step}: {error}"));
        }
    }
    Snapshot::new().verify().unwrap();
}

const MISSING: u32 = 1000;

fn intervals(pairs: &[(u16, u32)]) -> PortMap {
    let interval = |(last, id): &(u16, u32)| Interval { last: *last, decision: DecisionId::new(*id) };
    PortMap::new(pairs.iter().map(interval).collect())
}

/// Changes a map in place.
fn edit(keys: &mut PortMap, edit: impl FnOnce(&mut Vec<Interval>)) {
    let mut intervals = keys.intervals().to_vec();
    edit(&mut intervals);
    *keys = intervals.into();
}

fn sources(pairs: &[(u16, PortMap)]) -> Vec<SourceInterval> {
    pairs.iter().map(|(last, keys)| SourceInterval { last: *last, keys: keys.clone() }).collect()
}

/// Ids: decisions d0 allow, d1 deny, d2 with l0, d3 continue; table t0; projection j0 with two rows; program p0.
fn base() -> Snapshot {
    let mut new = Snapshot::new();
    let decision = |verdict| DecisionEntry { verdict, cause: Cause::NoPolicy, logs: Vec::new(), l7: None };
    new.decisions.put(DecisionId::new(0), decision(Verdict::Allow));
    new.decisions.put(DecisionId::new(1), decision(Verdict::Deny));
    let l7 = Some(L7ProgramId::new(0));
    new.decisions.put(DecisionId::new(2), DecisionEntry { l7, ..decision(Verdict::Inspect) });
    new.decisions.put(DecisionId::new(3), decision(Verdict::Continue));
    let http = Guard { identities: Vec::new(), http: Some(HttpMatch::default()) };
    new.l7.put(
        L7ProgramId::new(0),
        L7Program {
            steps: vec![
                L7Step { guard: http, effect: Effect::Decide(DecisionId::new(0)) },
                L7Step { guard: Guard::default(), effect: Effect::Decide(DecisionId::new(1)) },
            ],
        },
    );
    let tcp = sources(&[
        (1023, intervals(&[(79, 1), (80, 2), (65535, 1)])),
        (65535, intervals(&[(79, 1), (80, 0), (65535, 1)])),
    ]);
    let icmp = sources(&[(65535, intervals(&[(2047, 1), (65535, 0)]))]);
    let udplite = sources(&[(65535, intervals(&[(65535, 0)]))]);
    let protocols = vec![(Protocol::ICMP, icmp), (Protocol::TCP, tcp), (Protocol::UDPLITE, udplite)];
    new.tables.put(L4TableId::new(0), L4Table { protocols, other: DecisionId::new(1) });
    let row_of = [(ClassId::new(1), 1)].into();
    new.projections.put(ProjectionId::new(0), Projection { rows: 2, row_of });
    let body = portcullis_core::ir::Body {
        source: ProjectionId::new(0),
        destination: ProjectionId::new(0),
        columns: 2,
        cells: vec![L4TableId::new(0); 4],
    };
    new.programs.put(ProgramId::new(0), Program { v4: body.clone(), v6: body });
    let entry = |hooks: &[Hook]| portcullis_core::ir::EndpointEntry {
        enforced: portcullis_core::ir::HookPrograms(
            hooks.iter().map(|hook| (*hook, ProgramId::new(0))).collect(),
        ),
        staged: None,
    };
    new.endpoints.insert(EndpointId::workload("ns", "pod"), entry(&Hook::ALL[..2]));
    new.endpoints.insert(EndpointId::host("node"), entry(&Hook::ALL[2..]));
    new
}

fn table(snapshot: &mut Snapshot) -> &mut L4Table {
    snapshot.tables.lookup_mut(L4TableId::new(0)).unwrap()
}

fn l7(snapshot: &mut Snapshot) -> &mut Vec<L7Step> {
    &mut snapshot.l7.lookup_mut(L7ProgramId::new(0)).unwrap().steps
}

fn pod(snapshot: &mut Snapshot) -> &mut portcullis_core::ir::EndpointEntry {
    snapshot.endpoints.get_mut(&EndpointId::workload("ns", "pod")).unwrap()
}

fn identity(expr: Expr) -> Guard {
    Guard { identities: vec![IdentityMatch { expr }], http: None }
}

fn log() -> RuleRef {
    let policy = PolicyId::new("NetworkPolicy", None, "a");
    RuleRef { policy, tier: "default".into(), direction: Direction::Ingress, index: 0 }
}

type Break = fn(&mut Snapshot);

/// The number of the invariant, the subject, and how to break it.
const BREAKS: &[(u8, &str, Break)] = &[
    (1, "ns/pod", |s| {
        let _ = pod(s).enforced.0.remove(&Hook::WorkloadEgress);
    }),
    (1, "ns/pod", |s| {
        let _ = pod(s).enforced.0.insert(Hook::HostEgress, ProgramId::new(0));
    }),
    (1, "ns/pod", |s| pod(s).staged = Some(portcullis_core::ir::HookPrograms::default())),
    (1, "hep/node", |s| {
        let _ = s.endpoints.get_mut(&EndpointId::host("node")).unwrap().enforced.0.remove(&Hook::PreDnat);
    }),
    (2, "ns/pod", |s| {
        let _ = pod(s).enforced.0.insert(Hook::WorkloadEgress, ProgramId::new(MISSING));
    }),
    (3, "ns/pod", |s| table(s).other = DecisionId::new(3)),
    (3, "ns/pod", |s| l7(s)[0].effect = Effect::Decide(DecisionId::new(3))),
    (4, "j0", |s| s.projections.lookup_mut(ProjectionId::new(0)).unwrap().rows = 0),
    (4, "j0", |s| s.projections.lookup_mut(ProjectionId::new(0)).unwrap().rows = 1),
    (4, "j0", |s| {
        let _ = s.projections.lookup_mut(ProjectionId::new(0)).unwrap().row_of.insert(ClassId::new(2), 0);
    }),
    (5, "j0", |s| {
        let _ = s.projections.lookup_mut(ProjectionId::new(0)).unwrap().row_of.insert(ClassId::UNKNOWN, 1);
    }),
    (6, "p0", |s| s.programs.lookup_mut(ProgramId::new(0)).unwrap().v6.source = ProjectionId::new(MISSING)),
    (6, "p0", |s| {
        let _ = s.projections.take(ProjectionId::new(0));
    }),
    (7, "p0", |s| s.programs.lookup_mut(ProgramId::new(0)).unwrap().v6.columns = 4),
    (8, "p0", |s| {
        let _ = s.programs.lookup_mut(ProgramId::new(0)).unwrap().v4.cells.pop();
    }),
    (8, "p0", |s| s.programs.lookup_mut(ProgramId::new(0)).unwrap().v4.cells.push(L4TableId::new(0))),
    (9, "p0", |s| s.programs.lookup_mut(ProgramId::new(0)).unwrap().v4.cells[3] = L4TableId::new(MISSING)),
    (10, "t0", |s| table(s).protocols.reverse()),
    (10, "t0", |s| {
        let first = table(s).protocols[0].clone();
        table(s).protocols.insert(0, first);
    }),
    (11, "t0", |s| table(s).protocols[1].1.clear()),
    (11, "t0", |s| {
        let _ = table(s).protocols[1].1.pop();
    }),
    (11, "t0", |s| edit(&mut table(s).protocols[1].1[0].keys, Vec::clear)),
    (11, "t0", |s| edit(&mut table(s).protocols[1].1[0].keys, |keys| keys[2].last = 65534)),
    (11, "t0", |s| edit(&mut table(s).protocols[1].1[0].keys, |keys| keys[1].last = 79)),
    (11, "t0", |s| table(s).protocols[1].1[0].last = 65535),
    (12, "t0", |s| table(s).protocols[1].1[1].keys = table(s).protocols[1].1[0].keys.clone()),
    (12, "t0", |s| edit(&mut table(s).protocols[1].1[0].keys, |keys| keys[1].decision = DecisionId::new(1))),
    (13, "t0", |s| {
        let icmp = &mut table(s).protocols[0].1;
        icmp.insert(0, SourceInterval { last: 5, keys: intervals(&[(65535, 0)]) });
    }),
    (13, "t0", |s| table(s).protocols[2].1[0].keys = intervals(&[(1, 1), (65535, 0)])),
    (14, "t0", |s| table(s).protocols[2].1[0].keys = intervals(&[(65535, 1)])),
    (15, "t0", |s| table(s).other = DecisionId::new(MISSING)),
    (15, "t0", |s| {
        edit(&mut table(s).protocols[1].1[0].keys, |keys| keys[1].decision = DecisionId::new(MISSING))
    }),
    (16, "d2", |s| {
        let _ = s.l7.take(L7ProgramId::new(0));
    }),
    (17, "d2", |s| s.decisions.lookup_mut(DecisionId::new(2)).unwrap().l7 = None),
    (18, "d2", |s| s.decisions.lookup_mut(DecisionId::new(2)).unwrap().verdict = Verdict::Allow),
    (18, "d2", |s| s.decisions.lookup_mut(DecisionId::new(2)).unwrap().cause = Cause::Failsafe),
    (18, "d2", |s| s.decisions.lookup_mut(DecisionId::new(2)).unwrap().logs.push(log())),
    (19, "l0", |s| l7(s).clear()),
    (19, "l0", |s| {
        let _ = l7(s).pop();
    }),
    (19, "l0", |s| l7(s)[1].effect = Effect::Log(log())),
    (20, "l0", |s| l7(s)[0] = L7Step { guard: identity(Expr::All), effect: Effect::SkipTo(0) }),
    (20, "l0", |s| l7(s)[0] = L7Step { guard: identity(Expr::All), effect: Effect::SkipTo(2) }),
    (21, "l0", |s| l7(s)[0].effect = Effect::SkipTo(1)),
    (22, "l0", |s| l7(s)[0].effect = Effect::Decide(DecisionId::new(MISSING))),
    (22, "l0", |s| l7(s)[0].effect = Effect::Decide(DecisionId::new(2))),
    (22, "l0", |s| s.decisions.lookup_mut(DecisionId::new(0)).unwrap().logs.push(log())),
    (23, "l0", |s| {
        let unsorted = vec![Name::from("b"), Name::from("a")];
        let expr = Expr::In(LabelRef::new(Scope::Namespace, "k"), unsorted);
        l7(s)[0].guard = identity(Expr::Not(Box::new(expr)));
    }),
    (23, "l0", |s| {
        let twice = vec![Name::from("a"), Name::from("a")];
        l7(s)[0].guard = identity(Expr::NotIn(LabelRef::new(Scope::Namespace, "k"), twice));
    }),
    (23, "l0", |s| {
        let deep = (0..512).fold(Expr::All, |inner, _| Expr::Not(Box::new(inner)));
        l7(s)[0].guard = identity(deep);
    }),
];

#[test]
fn every_invariant_is_checked() {
    base().verify().unwrap();
    for (invariant, subject, break_it) in BREAKS {
        let mut broken = base();
        break_it(&mut broken);
        let error = broken.verify().expect_err(&format!("invariant {invariant}"));
        assert_eq!((error.invariant(), error.subject()), (*invariant, *subject), "{error}");
        let text = error.to_string();
        assert!(!text.contains('\n') && text.contains(subject), "{text}");
    }
    let covered: alloc::collections::BTreeSet<u8> = BREAKS.iter().map(|(invariant, ..)| *invariant).collect();
    assert!(covered.into_iter().eq(1..=23), "one case for each invariant at least");
}

#[test]
fn hooks_that_may_continue_do() {
    let mut snapshot = base();
    // Only the host endpoint's hooks that need not decide use a program that continues.
    let body = snapshot.programs.lookup(ProgramId::new(0)).unwrap().v4.clone();
    snapshot.tables.put(L4TableId::new(1), L4Table::constant(DecisionId::new(3)));
    let body = portcullis_core::ir::Body { cells: vec![L4TableId::new(1); 4], ..body };
    snapshot.programs.put(ProgramId::new(1), Program { v4: body.clone(), v6: body });
    let host = snapshot.endpoints.get_mut(&EndpointId::host("node")).unwrap();
    for hook in [Hook::ForwardIngress, Hook::ForwardEgress, Hook::PreDnat, Hook::UntrackedIngress] {
        host.enforced.0.insert(hook, ProgramId::new(1));
    }
    snapshot.verify().unwrap();
}

#[test]
fn an_error_names_what_is_wrong() {
    let mut broken = base();
    edit(&mut table(&mut broken).protocols[1].1[0].keys, |keys| keys[1].last = 79);
    let text = broken.verify().unwrap_err().to_string();
    assert_eq!(text, "`t0`, TCP: keys are not covered once each (invariant 11)");
}

#[test]
fn garbage_is_found() {
    let mut snapshot = base();
    assert!(!snapshot.unreferenced().is_empty(), "d3 is in no table");
    snapshot.decisions.take(DecisionId::new(3));
    assert!(snapshot.unreferenced().is_empty());
    snapshot.identities.insert("ns".into(), Default::default());
    assert_eq!(snapshot.unreferenced().identities, 1);
    snapshot.endpoints.clear();
    let all = snapshot.unreferenced();
    assert_eq!(all.programs, [ProgramId::new(0)]);
    assert_eq!(all.projections, [ProjectionId::new(0)]);
    assert_eq!(all.tables, [L4TableId::new(0)]);
    assert_eq!(all.decisions, [0, 1, 2].map(DecisionId::new));
    assert_eq!(all.l7, [L7ProgramId::new(0)]);
}
