//! What happens around policy: flows that are there already, processes that take over, pods that come and go, counters
//! and events.

use std::process::Command;
use std::time::{Duration, Instant};

use portcullis::backend::{
    Binding, Dataplane, DataplaneErrorKind, DataplaneOptions, DesiredState, EventAction, LoggedEvents,
};
use portcullis::ir::Delta;
use portcullis::verdict::Verdict;

use crate::backends::{UnderTest, Variants, bind, complete, interface, next_event, on_every_node};
use crate::foreign::leftovers;
use crate::node::{Pod, carries, connect, tcp, udp};
use crate::traffic::Traffic;
use crate::{ONLY_80, PODS, SHUT, compiled, tighten};

#[test]
fn established_flows_survive_tighter_policy_and_restarts() {
    on_every_node(2, Variants::AttachModes, |under, pods| {
        let (open, ids) = compiled(PODS, pods);
        let (shut, _) = compiled(&format!("{PODS}{SHUT}"), pods);
        let bindings = bind(pods, &ids);
        let load = |compiler| under.load(DataplaneOptions::new(), compiler, &bindings);
        let before = leftovers(pods);
        let mut dataplane = load(&open);
        for to in pods[1].addresses {
            let client = &pods[0];
            let mut flow = client.run(move || connect(to, 80)).recv().unwrap();
            assert!(carries(&mut flow));
            drop(dataplane);
            let second = load(&shut);
            assert!(carries(&mut flow) && !client.run(move || tcp(to, 80)).recv().unwrap());
            // Nobody is there.
            drop(second);
            assert!(carries(&mut flow) && !client.run(move || udp(to, 80)).recv().unwrap());
            dataplane = load(&open);
            assert!(carries(&mut flow) && client.run(move || tcp(to, 80)).recv().unwrap());
        }
        dataplane.remove().unwrap();
        assert_eq!(leftovers(pods), before);
        let to = pods[1].addresses[0];
        assert!(pods[0].run(move || tcp(to, 80)).recv().unwrap());
    });
}

/// A transfer goes on and new connections are tried all the time, while one process after the other takes over.
#[test]
fn processes_that_take_over_drop_no_flow_and_let_nothing_through() {
    on_every_node(2, Variants::AttachModes, |under, pods| {
        replacing_drops_no_flow_and_lets_nothing_through([under.clone(), under.clone()], pods);
    });
}

/// The same for processes of several kinds in turn.
pub(crate) fn replacing_drops_no_flow_and_lets_nothing_through(under: [UnderTest; 2], pods: &[Pod]) {
    let (compiler, ids) = compiled(&format!("{PODS}{ONLY_80}"), pods);
    let bindings = bind(pods, &ids);
    let before = leftovers(pods);
    let options = DataplaneOptions::new().with_events(LoggedEvents::Denied);
    let mut dataplane = under[0].load(options.clone(), &compiler, &bindings);
    let traffic = Traffic::start(&pods[0], pods[1].addresses[0]);
    // Each process tells what it dropped until the next took over, and a little of what came after.
    let mut denied = 0;
    let mut look = |dataplane: &mut dyn Dataplane| {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match dataplane.next_event() {
                Ok(Some(event)) => {
                    assert_eq!(event.packet.destination_port, 8080, "{event:?}");
                    denied += 1;
                }
                Ok(None) => break,
                // The listener of the process before is given up a little after it closed.
                Err(error) => {
                    assert!(
                        error.kind() == DataplaneErrorKind::Environment && Instant::now() < deadline,
                        "{error}"
                    );
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
    };
    for next in under.iter().cycle().skip(1).take(20) {
        look(&mut *dataplane);
        // Where one process alone can have the dataplane's place on the machine, this one ends first; elsewhere, both are there for a
        // moment, and the next listens for events when this one is gone.
        if next.backend.name() == "ebpf" {
            drop(dataplane);
            dataplane = next.load(options.clone(), &compiler, &bindings);
        } else {
            let next = next.load(options.clone(), &compiler, &bindings);
            dataplane = next;
        }
        // That it listens from now on, and some time with each, however fast it takes over.
        look(&mut *dataplane);
        std::thread::sleep(Duration::from_millis(100));
    }
    let counts = traffic.finish();
    look(&mut *dataplane);
    eprintln!("{}, {}: 20 replacements: {counts:?}, {denied} events", under[0], under[1]);
    assert!(counts.moved.is_some_and(|moved| moved > 100), "the transfer broke off");
    assert!(counts.allowed > 20 && counts.forbidden > 0 && counts.datagrams > 1_000 && denied > 0);
    assert_eq!(counts.wrong, 0);
    dataplane.remove().unwrap();
    assert_eq!(leftovers(pods), before);
}

#[test]
fn counters_and_events_name_policy_and_rule() {
    on_every_node(2, Variants::Default, |under, pods| {
        let (mut compiler, ids) = compiled(&format!("{PODS}{SHUT}"), pods);
        let options = DataplaneOptions::new().with_events(LoggedEvents::Denied);
        let bindings = bind(pods, &ids);
        let mut dataplane = under.load(options, &compiler, &bindings);
        let (to, from) = (pods[1].addresses[0], pods[0].addresses[0]);
        assert!(!pods[0].run(move || udp(to, 80)).recv().unwrap());
        let event = next_event(&mut *dataplane);
        assert_eq!(event.action, EventAction::Dropped);
        assert_eq!((event.packet.source, event.packet.destination), (from, to));
        assert_eq!(event.packet.destination_port, 80);
        assert!(event.interface.is_none_or(|index| Some(index) == interface(&pods[1].interface).index()));
        assert_eq!(event.decision.verdict, Verdict::Deny);
        assert_eq!(event.decision.cause.policy().unwrap().to_string(), "NetworkPolicy shop/shut");
        let counted = |dataplane: &mut dyn Dataplane| {
            let counters = dataplane.counters().unwrap();
            let of = counters.into_iter().filter(|(decision, _)| *decision == event.decision);
            of.map(|(_, counter)| counter.packets).collect::<Vec<_>>()
        };
        assert_eq!(counted(&mut *dataplane), [1]);
        let delta = tighten(&mut compiler, ONLY_80);
        complete(&dataplane.update(DesiredState::new(compiler.snapshot(), &bindings), &delta).unwrap());
        assert!(!pods[0].run(move || udp(to, 8080)).recv().unwrap());
        assert_eq!(next_event(&mut *dataplane).packet.destination_port, 8080);
        dataplane.remove().unwrap();
    });
}

/// From the interface that is there before anybody knows whose it is, to the one that is gone before its pod.
#[test]
fn a_pod_comes_and_goes() {
    on_every_node(3, Variants::Default, |under, pods| {
        let (compiler, ids) = compiled(&format!("{PODS}{ONLY_80}"), &pods[..2]);
        let mut bindings = bind(&pods[..1], &ids);
        bindings.close(interface(&pods[1].interface));
        let mut dataplane = under.load(DataplaneOptions::new(), &compiler, &bindings);
        let reach = |from: usize, to: usize, port| {
            let to = pods[to].addresses;
            pods[from].run(move || to.into_iter().any(|to| tcp(to, port))).recv().unwrap()
        };
        assert!(!reach(0, 1, 80) && !reach(1, 0, 80));
        // What nobody speaks of is nobody's.
        assert!(reach(0, 2, 80) && reach(2, 0, 80));
        let same = Delta {
            from: compiler.snapshot().generation,
            to: compiler.snapshot().generation,
            ..Delta::default()
        };
        let update = |dataplane: &mut dyn Dataplane, bindings: &_| {
            complete(&dataplane.update(DesiredState::new(compiler.snapshot(), bindings), &same).unwrap());
        };
        let server = Binding::workload(interface(&pods[1].interface), pods[1].addresses);
        bindings.bind(ids[1].clone(), server);
        update(&mut *dataplane, &bindings);
        assert!(reach(0, 1, 80) && reach(1, 0, 80) && !reach(0, 1, 8080));
        // Its workload ends, and the interface is still there.
        let _ = bindings.unbind(&ids[1]);
        bindings.close(interface(&pods[1].interface));
        update(&mut *dataplane, &bindings);
        assert!(!reach(0, 1, 80) && !reach(1, 0, 80) && reach(0, 2, 80));
        let gone = interface(&pods[1].interface);
        assert!(Command::new("ip").args(["link", "del", gone.name()]).status().unwrap().success());
        assert!(bindings.reopen(gone.name()));
        update(&mut *dataplane, &bindings);
        let health = dataplane.maintain(DesiredState::new(compiler.snapshot(), &bindings)).unwrap();
        assert!(health.applied.is_complete(), "{health:?}");
        assert!(reach(0, 2, 80));
        dataplane.remove().unwrap();
    });
}

/// From the IP header on, also where the packet has one of the link: 20, 8 and the five that are sent.
#[test]
fn bytes_are_counted_from_the_ip_header_on() {
    on_every_node(2, Variants::Default, |under, pods| {
        let (compiler, ids) = compiled(&format!("{PODS}{SHUT}"), pods);
        let mut dataplane = under.load(DataplaneOptions::new(), &compiler, &bind(pods, &ids));
        let to = pods[1].addresses[0];
        assert!(!pods[0].run(move || udp(to, 80)).recv().unwrap());
        let counters = dataplane.counters().unwrap();
        let denied = counters.iter().filter(|(decision, _)| decision.verdict == Verdict::Deny);
        assert_eq!(denied.map(|(_, counter)| counter.bytes).sum::<u64>(), 33);
        dataplane.remove().unwrap();
    });
}
