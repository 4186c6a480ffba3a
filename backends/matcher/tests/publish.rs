//! Publication: many readers while one thread publishes.
#![cfg(feature = "std")]
#![expect(clippy::unwrap_used, reason = "test helpers stop at the first surprise")]

extern crate alloc;

use alloc::sync::{Arc, Weak};
use core::net::{IpAddr, Ipv4Addr};
use core::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use portcullis_core::ir::{
    Body, DecisionEntry, DecisionId, EndpointEntry, HookPrograms, Id, L4Table, L4TableId, Program, ProgramId,
    Projection, ProjectionId, Snapshot,
};
use portcullis_core::model::EndpointId;
use portcullis_core::packet::{Packet, Protocol};
use portcullis_core::verdict::{Cause, Hook, Verdict};
use portcullis_matcher::{Matcher, PacketKey, Publisher};

const READERS: usize = 4;
const GENERATIONS: u64 = 5_000;

/// Two endpoints with opposite verdicts, which swap from each generation to the next.
fn snapshot(generation: u64) -> Snapshot {
    let mut snapshot = Snapshot { generation, ..Snapshot::new() };
    snapshot.projections.put(ProjectionId::new(0), Projection::trivial());
    for side in [0, 1] {
        let even = (generation + u64::from(side)).is_multiple_of(2);
        let verdict = if even { Verdict::Allow } else { Verdict::Deny };
        let decision = DecisionEntry { verdict, cause: Cause::NoPolicy, logs: vec![], l7: None };
        snapshot.decisions.put(DecisionId::new(side), decision);
        snapshot.tables.put(L4TableId::new(side), L4Table::constant(DecisionId::new(side)));
        let trivial = ProjectionId::new(0);
        let body =
            Body { source: trivial, destination: trivial, columns: 1, cells: vec![L4TableId::new(side)] };
        snapshot.programs.put(ProgramId::new(side), Program { v4: body.clone(), v6: body });
        let hooks = HookPrograms([(Hook::WorkloadIngress, ProgramId::new(side))].into());
        snapshot.endpoints.insert(endpoint(side), EndpointEntry { enforced: hooks, staged: None });
    }
    snapshot
}

fn endpoint(side: u32) -> EndpointId {
    EndpointId::workload("n", format!("e{side}").as_str())
}

fn key() -> PacketKey {
    let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    PacketKey::new(&Packet::new(address, address, Protocol::TCP).to_port(80)).unwrap()
}

#[test]
fn readers_see_whole_generations_in_order() {
    let first = Matcher::lower(&snapshot(0)).unwrap();
    let handles = [first.handle(&endpoint(0)).unwrap(), first.handle(&endpoint(1)).unwrap()];
    let mut publisher = Publisher::new(first);
    let published = AtomicU64::new(0);
    let mut old: Vec<Weak<Matcher>> = Vec::new();
    let mut idle = publisher.reader();
    assert_eq!(idle.current().generation(), 0);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..READERS)
            .map(|_| {
                let (mut reader, published) = (publisher.reader(), &published);
                scope.spawn(move || {
                    let (mut seen, mut last, key) = (0, 0, key());
                    while last < GENERATIONS {
                        let already = published.load(Ordering::Acquire);
                        let matcher = reader.current();
                        let generation = matcher.generation();
                        assert!(generation >= last, "generation {generation} after {last}");
                        assert!(generation >= already, "generation {generation} when {already} was out");
                        let verdicts =
                            handles.map(|handle| matcher.verdict(handle, Hook::WorkloadIngress, &key));
                        let want = match generation % 2 {
                            0 => [Verdict::Allow, Verdict::Deny],
                            _ => [Verdict::Deny, Verdict::Allow],
                        };
                        assert_eq!(verdicts, want, "generation {generation} is whole");
                        seen += u64::from(generation != last);
                        last = generation;
                    }
                    seen
                })
            })
            .collect();
        for generation in 1..=GENERATIONS {
            old.push(Arc::downgrade(publisher.current()));
            let delta = snapshot(generation - 1).diff(&snapshot(generation));
            publisher.apply(&delta).unwrap();
            published.store(generation, Ordering::Release);
        }
        let seen: Vec<u64> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(seen.iter().all(|generations| *generations > 1), "readers ran meanwhile: {seen:?}");
    });
    // The reader that slept holds one generation, the first; every other old one is gone.
    assert_eq!(publisher.reclaim(), 1);
    let alive = |old: &[Weak<Matcher>]| old.iter().filter(|matcher| matcher.upgrade().is_some()).count();
    assert_eq!(alive(&old), 1);
    assert_eq!(idle.current().generation(), GENERATIONS);
    assert_eq!(publisher.reclaim(), 0);
    assert_eq!(alive(&old), 0);
}

#[test]
fn only_later_generations_are_published() {
    let mut publisher = Publisher::new(Matcher::lower(&snapshot(5)).unwrap());
    let mut reader = publisher.reader();
    let mut sibling = reader.clone();
    let refused = publisher.publish(Matcher::lower(&snapshot(5)).unwrap()).unwrap_err();
    assert_eq!(refused.to_string(), "generation 5 does not come after generation 5");
    assert!(publisher.apply(&snapshot(4).diff(&snapshot(6))).is_err(), "it starts elsewhere");
    assert_eq!(publisher.apply(&snapshot(5).diff(&snapshot(5))), Ok(()), "nothing to publish");
    assert_eq!(reader.current().generation(), 5);
    publisher.publish(Matcher::lower(&snapshot(8)).unwrap()).unwrap();
    assert_eq!(reader.current().generation(), 8);
    drop(publisher);
    assert_eq!(sibling.current().generation(), 8, "a reader outlives its publisher");
}
