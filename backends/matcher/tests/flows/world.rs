//! Three endpoints whose policy is set hook by hook, and packets between them and the outside.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portcullis_core::ir::{
    Body, DecisionEntry, DecisionId, EndpointEntry, HookPrograms, Id, Interval, L4Table, L4TableId, PortMap,
    Program, ProgramId, Projection, ProjectionId, Snapshot, SourceInterval,
};
use portcullis_core::model::EndpointId;
use portcullis_core::packet::Protocol;
use portcullis_core::verdict::{Cause, Hook, Verdict};
use portcullis_matcher::{EndpointHandle, Matcher};

/// What one hook says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Says {
    /// To TCP and UDP ports 0, 1, 2, and all others.
    pub(crate) ports: [Verdict; 4],
    /// To ICMP and ICMPv6 types 0, 1 to 3, 4 to 8, and all others.
    pub(crate) icmp: [Verdict; 4],
    /// To everything else.
    pub(crate) other: Verdict,
}

impl Says {
    pub(crate) const fn always(verdict: Verdict) -> Self {
        Self { ports: [verdict; 4], icmp: [verdict; 4], other: verdict }
    }
}

#[derive(Debug)]
pub(crate) struct World {
    snapshot: Snapshot,
    pub(crate) matcher: Matcher,
}

pub(crate) const ENDPOINTS: u32 = 3;
const HOOKS: [Hook; 2] = [Hook::WorkloadIngress, Hook::WorkloadEgress];
const VERDICTS: [Verdict; 4] = [Verdict::Deny, Verdict::Allow, Verdict::Inspect, Verdict::Continue];

impl World {
    /// All endpoints, and nothing allowed.
    pub(crate) fn new() -> Self {
        let mut snapshot = Snapshot::new();
        snapshot.projections.put(ProjectionId::new(0), Projection::trivial());
        for (id, verdict) in (0..).zip(VERDICTS) {
            let decision = DecisionEntry { verdict, cause: Cause::NoPolicy, logs: vec![], l7: None };
            snapshot.decisions.put(DecisionId::new(id), decision);
        }
        for number in 0..ENDPOINTS * 2 {
            snapshot.tables.put(L4TableId::new(number), table(Says::always(Verdict::Deny)));
            let trivial = ProjectionId::new(0);
            let cells = vec![L4TableId::new(number)];
            let body = Body { source: trivial, destination: trivial, columns: 1, cells };
            snapshot.programs.put(ProgramId::new(number), Program { v4: body.clone(), v6: body });
        }
        for endpoint in 0..ENDPOINTS {
            snapshot.endpoints.insert(id(endpoint), entry(endpoint));
        }
        let matcher = Matcher::lower(&snapshot).unwrap();
        Self { snapshot, matcher }
    }

    pub(crate) fn set(&mut self, endpoint: u32, hook: Hook, says: Says) {
        self.change(|snapshot| {
            snapshot.tables.put(L4TableId::new(program(endpoint, hook)), table(says));
        });
    }

    /// Removes the endpoint, and adds another one under its name.
    pub(crate) fn replace(&mut self, endpoint: u32) {
        self.remove(endpoint);
        self.change(|snapshot| drop(snapshot.endpoints.insert(id(endpoint), entry(endpoint))));
    }

    pub(crate) fn remove(&mut self, endpoint: u32) {
        self.change(|snapshot| drop(snapshot.endpoints.remove(&id(endpoint))));
    }

    /// The handle of an endpoint; `None` for the outside.
    pub(crate) fn handle(&self, endpoint: u32) -> Option<EndpointHandle> {
        self.matcher.handle(&id(endpoint))
    }

    fn change(&mut self, change: impl FnOnce(&mut Snapshot)) {
        let before = self.snapshot.clone();
        change(&mut self.snapshot);
        self.snapshot.generation += 1;
        self.matcher = self.matcher.apply(&before.diff(&self.snapshot)).unwrap();
    }
}

pub(crate) fn address(endpoint: u32, v6: bool) -> IpAddr {
    let v4 = Ipv4Addr::from(0x0a00_0000 | endpoint);
    if v6 { IpAddr::V6(Ipv6Addr::from((0xfd00_u128 << 112) | u128::from(endpoint))) } else { IpAddr::V4(v4) }
}

fn id(endpoint: u32) -> EndpointId {
    EndpointId::workload("n", format!("e{endpoint}").as_str())
}

fn program(endpoint: u32, hook: Hook) -> u32 {
    endpoint * 2 + u32::from(hook == HOOKS[1])
}

fn entry(endpoint: u32) -> EndpointEntry {
    let programs = HOOKS.map(|hook| (hook, ProgramId::new(program(endpoint, hook))));
    EndpointEntry { enforced: HookPrograms(programs.into()), staged: None }
}

fn table(says: Says) -> L4Table {
    let decision = |verdict| {
        (0..).zip(VERDICTS).find(|(_, v)| *v == verdict).map(|(id, _)| DecisionId::new(id)).unwrap()
    };
    let map = |lasts: [u16; 4], verdicts: [Verdict; 4]| {
        let mut intervals: Vec<Interval> = Vec::new();
        for (last, verdict) in lasts.into_iter().zip(verdicts) {
            let decision = decision(verdict);
            match intervals.last_mut() {
                Some(before) if before.decision == decision => before.last = last,
                _ => intervals.push(Interval { last, decision }),
            }
        }
        vec![SourceInterval { last: u16::MAX, keys: PortMap::new(intervals) }]
    };
    let ports = || map([0, 1, 2, u16::MAX], says.ports);
    let icmp = || map([0x00ff, 0x03ff, 0x08ff, u16::MAX], says.icmp);
    L4Table {
        protocols: vec![
            (Protocol::ICMP, icmp()),
            (Protocol::TCP, ports()),
            (Protocol::UDP, ports()),
            (Protocol::ICMPV6, icmp()),
        ],
        other: decision(says.other),
    }
}
