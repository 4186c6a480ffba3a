//! Tables of flows are copied when their size changes; and what maps cost.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use portcullis::backend::{Dataplane as _, DataplaneOptions, LoggedEvents};
use portcullis::ebpf::{Capacity, Options};

use crate::backends::bind;
use crate::ebpf::{on_a_node_with_bpf, options, remove, start_enforcer};
use crate::node::{carries, connect, tcp};
use crate::traffic::datagrams;
use crate::{PODS, SHUT, compiled};

/// The names of all tables of flows that are pinned.
fn tables(pins: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(pins).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("flows_")).collect();
    names.sort();
    names
}

fn sized(flows: u32) -> Options {
    let capacity = Capacity { flows_v4: flows, flows_v6: flows / 2, ..*options().capacity() };
    options()
        .with_capacity(capacity)
        .with_dataplane(DataplaneOptions::new().with_events(LoggedEvents::Denied))
}

/// Policy denies everything that is not established; a transfer and idle flows go on while tables grow and shrink.
#[test]
fn flows_outlive_a_change_of_the_size_of_their_table() {
    on_a_node_with_bpf(2, |pods, pins| {
        let (open, ids) = compiled(PODS, pods);
        let (shut, _) = compiled(&format!("{PODS}{SHUT}"), pods);
        let bindings = bind(pods, &ids);
        drop(start_enforcer(sized(4_096), pins, open.snapshot(), &bindings).unwrap());
        let to = pods[1].addresses;
        let mut idle = pods[0].run(move || to.map(|to| connect(to, 8080))).recv().unwrap();
        assert!(idle.iter_mut().all(carries));
        let mut flow = pods[0].run(move || connect(to[0], 80)).recv().unwrap();
        assert!(carries(&mut flow));
        let mut enforcer = start_enforcer(sized(4_096), pins, shut.snapshot(), &bindings).unwrap();
        let (stop, moved) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let going = || {
            let stop = Arc::clone(&stop);
            move || !stop.load(Ordering::Relaxed)
        };
        let (transferring, count) = (going(), Arc::clone(&moved));
        let transfer = pods[0].beside(move || {
            while transferring() && carries(&mut flow) {
                count.fetch_add(1, Ordering::Relaxed);
            }
            carries(&mut flow)
        });
        let sizes = [65_536, 1_024, 131_072, 2_048, 16_384];
        let mut resize = |size| {
            let next = start_enforcer(sized(size), pins, shut.snapshot(), &bindings).unwrap();
            // What it dropped until the next took over, and a little of what came after.
            let events: Vec<_> = std::iter::from_fn(|| enforcer.next_event().unwrap()).collect();
            enforcer = next;
            assert_eq!(tables(pins), [format!("flows_v4-2-{size}"), format!("flows_v6-2-{}", size / 2)]);
            events
        };
        for size in sizes.into_iter().cycle().take(15) {
            assert_eq!(resize(size), [], "something of an established flow was dropped");
        }
        let sending = going();
        let flood = pods[0].beside(move || datagrams(to[0], sending));
        let mut denied = 0;
        for size in sizes {
            let events = resize(size);
            assert!(events.iter().all(|event| event.packet.destination_port == 8080), "{events:?}");
            denied += events.len();
        }
        stop.store(true, Ordering::Relaxed);
        assert!(transfer.recv().unwrap(), "the transfer broke off");
        let (tried, answered) = flood.recv().unwrap();
        assert!(idle.iter_mut().all(carries), "an idle flow was lost");
        assert!(!pods[0].run(move || tcp(to[0], 80)).recv().unwrap());
        let moved = moved.load(Ordering::Relaxed);
        eprintln!(
            "20 sizes: {moved} round trips, {tried} forbidden datagrams, {answered} answered, {denied} events"
        );
        assert!(moved > 1_000 && tried > 1_000 && denied > 0);
        assert_eq!(answered, 0);
        // A process that was killed before it removed the earlier tables: they are read again, and go.
        drop(enforcer);
        let enforcer = start_enforcer(sized(4_096), pins, shut.snapshot(), &bindings).unwrap();
        assert!(idle.iter_mut().all(carries));
        remove(enforcer);
    });
}

#[test]
fn the_bytes_of_maps_are_those_that_the_kernel_accounts() {
    on_a_node_with_bpf(2, |pods, pins| {
        let (engine, ids) = compiled(PODS, pods);
        let bindings = bind(pods, &ids);
        let large = Options::new();
        let enforcer = start_enforcer(large, pins, engine.snapshot(), &bindings).unwrap();
        let bytes = enforcer.memory().unwrap();
        let capacity = Capacity::default();
        let total: u64 = bytes.values().sum();
        eprintln!("default capacity: {total} bytes of maps: {bytes:?}");
        for (map, entries) in [
            ("endpoints", capacity.endpoints),
            ("addresses_v4", capacity.addresses_v4),
            ("addresses_v6", capacity.addresses_v6),
            ("flows_v4", capacity.flows_v4),
            ("flows_v6", capacity.flows_v6),
        ] {
            eprintln!("{map}: {} bytes an entry", bytes[map] / u64::from(entries));
        }
        // Before Linux 6.4 the kernel tells an estimate, without its own share of each entry.
        let pages = u64::from(capacity.pages) * 1_024;
        assert!((pages..pages + 128 * 1_024).contains(&bytes["pages"]), "{bytes:?}");
        assert!((60 << 20..130 << 20).contains(&total), "{total}");
        remove(enforcer);
        let small = start_enforcer(options(), pins, engine.snapshot(), &bindings).unwrap();
        assert!(small.memory().unwrap()["addresses_v4"] < bytes["addresses_v4"] / 10);
        remove(small);
    });
}
