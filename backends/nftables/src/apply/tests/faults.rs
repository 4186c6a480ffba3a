//! The kernel refuses, others interfere, or answers are lost at every batch of a load and of an update: the old policy or the new,
//! never a mix, never `Ok` without being in force, and the next good update is in force.

use alloc::rc::Rc;
use alloc::sync::Arc;
use core::cell::Cell;
use core::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use portcullis_core::backend::{Applied, DataplaneError, DataplaneErrorKind};

use crate::apply::Drift;
use crate::apply::faults::{Place, when};
use crate::apply::transport::ApplyError;
use crate::command::{Command, Elements, SetKind};

use super::nft;
use super::node::{Node, PORTS, ip, on_a_node};

/// What goes wrong with the batch whose turn it is.
type Fault = fn(Place<'_>) -> Result<(), ApplyError>;

/// Meets the batch number `turn`, and those after it when the fault is `lasting`.
fn at(
    turn: usize,
    lasting: bool,
    fault: Fault,
) -> (Rc<Cell<usize>>, impl FnMut(Place<'_>) -> Result<(), ApplyError>) {
    let batches = Rc::new(Cell::new(0));
    let seen = Rc::clone(&batches);
    let fault = move |place: Place<'_>| {
        if matches!(place, Place::Send(_)) {
            seen.set(seen.get() + 1);
        }
        let is_turn = seen.get() == turn || (lasting && seen.get() > turn);
        if is_turn { fault(place) } else { Ok(()) }
    };
    (batches, fault)
}

/// The last command is one that the kernel refuses: the chain that it names is gone.
fn vanished(place: Place<'_>) -> Result<(), ApplyError> {
    if let Place::Send(batch) = place {
        batch.push(Command::DeleteChain("vanished".into()));
    }
    Ok(())
}

/// The same in the middle: elements of a set that is not there, as if it were full.
fn no_room(place: Place<'_>) -> Result<(), ApplyError> {
    if let Place::Send(batch) = place {
        let full =
            Elements { set: "full".into(), key: Vec::new(), kind: SetKind::Values, elements: Vec::new() };
        let one = crate::command::Element { key: Vec::new(), target: None };
        let middle = batch.len() / 2;
        batch.insert(middle, Command::AddElements(Elements { elements: vec![one], ..full }));
    }
    Ok(())
}

/// The batch never gets to the kernel.
fn not_sent(place: Place<'_>) -> Result<(), ApplyError> {
    match place {
        Place::Send(_) => Err(ApplyError::kernel("send to nf_tables", Errno::ENOBUFS)),
        _ => Ok(()),
    }
}

/// It does, and the answer is lost.
fn answer_lost(place: Place<'_>) -> Result<(), ApplyError> {
    match place {
        Place::Answer => Err(ApplyError::no_answer("the batch was not acknowledged")),
        _ => Ok(()),
    }
}

/// The process stands still before the batch, and others go on meanwhile, in tables of their own.
fn late(place: Place<'_>) -> Result<(), ApplyError> {
    if let Place::Send(_) = place {
        nft(&["add", "table", "inet", "other"]);
        nft(&["add", "chain", "inet", "other", "c"]);
        nft(&["delete", "table", "inet", "other"]);
    }
    Ok(())
}

/// Others change our table before the batch, so that all passes.
fn opened(place: Place<'_>) -> Result<(), ApplyError> {
    if let Place::Send(_) = place
        && nft(&["list", "tables"]).contains("inet portcullis")
        && nft(&["list", "chains"]).contains("chain forward")
    {
        nft(&["insert", "rule", "inet", "portcullis", "forward", "accept"]);
    }
    Ok(())
}

/// Others take our table away after the batch.
fn taken_away(place: Place<'_>) -> Result<(), ApplyError> {
    if let Place::Answer = place
        && nft(&["list", "tables"]).contains("inet portcullis")
    {
        nft(&["delete", "table", "inet", "portcullis"]);
    }
    Ok(())
}

const FAULTS: [(&str, Fault); 7] = [
    ("an object vanished", vanished),
    ("a set is full", no_room),
    ("not sent", not_sent),
    ("the answer is lost", answer_lost),
    ("others are quicker", late),
    ("others open the table", opened),
    ("others take the table away", taken_away),
];

fn other(port: u16) -> u16 {
    if port == PORTS[0] { PORTS[1] } else { PORTS[0] }
}

/// Each fault at each batch of an update, once, and again in the load that comes in its place.
#[test]
fn an_update_that_meets_a_fault_is_in_force_or_an_error() {
    on_a_node(|mut node| {
        let mut port = PORTS[0];
        node.allow(port);
        assert_eq!(node.load().unwrap(), Applied::COMPLETE);
        assert_eq!(node.open_port(), Some(port));
        for (name, fault) in FAULTS {
            for lasting in [false, true] {
                for turn in 1.. {
                    let (old, new) = (port, other(port));
                    node.allow(new);
                    let (batches, fault) = at(turn, lasting, fault);
                    let result = when(fault, || node.update());
                    let context = format!("{name}, batch {turn}, lasting {lasting}: {result:?}");
                    port = judge(&mut node, &result, [old, new], &context);
                    if batches.get() < turn {
                        assert!(turn > 3, "{context}");
                        break;
                    }
                }
            }
        }
        assert!(nft(&["list", "tables"]).lines().all(|line| line.ends_with(" portcullis")));
    });
}

/// What has to hold after an attempt. The port that is open in the end.
fn judge(
    node: &mut Node,
    result: &Result<Applied, DataplaneError>,
    [old, new]: [u16; 2],
    context: &str,
) -> u16 {
    match result {
        Ok(applied) => {
            assert!(applied.is_complete(), "{context}");
            assert_eq!(node.open_port(), Some(new), "{context}");
        }
        Err(error) => {
            assert_ne!(error.kind(), DataplaneErrorKind::NotLoaded, "{context}");
            // Others may have taken it away or opened it for good.
            let others = context.starts_with("others open") || context.starts_with("others take");
            let open = node.open_port();
            assert!(others || [Some(old), Some(new)].contains(&open), "{open:?}: {context}");
            // What the update could not do, the next one does.
            let applied = node.update().unwrap();
            assert!(applied.is_complete(), "{context}");
            assert_eq!(node.open_port(), Some(new), "{context}");
        }
    }
    assert_eq!(node.enforcer.read_back(), Drift::None, "{context}");
    new
}

/// The same for a first load, and for one on what another process left.
#[test]
fn a_load_that_meets_a_fault_is_in_force_or_an_error() {
    on_a_node(|mut node| {
        for is_first in [true, false] {
            for (name, fault) in FAULTS {
                for turn in 1.. {
                    node.enforcer.forget_for_test();
                    let (old, new) = (PORTS[0], PORTS[1]);
                    if is_first {
                        let mut cleaner = crate::apply::Enforcer::open(crate::Options::new()).unwrap();
                        portcullis_core::backend::Dataplane::remove(&mut cleaner).unwrap();
                    } else {
                        node.allow(old);
                        assert!(node.load().unwrap().is_complete());
                        node.enforcer.forget_for_test();
                        node.allow(new);
                    }
                    if is_first {
                        node.allow(new);
                    }
                    let (batches, fault) = at(turn, true, fault);
                    let result = when(fault, || node.load());
                    let context = format!("{name}, batch {turn}, first {is_first}: {result:?}");
                    let open = node.open_port();
                    match &result {
                        Ok(_) => assert_eq!(open, Some(new), "{context}"),
                        Err(_) if is_first => assert!(open.is_none() || open == Some(new), "{context}"),
                        Err(_) if name.starts_with("others open") || name.starts_with("others take") => {}
                        Err(_) => assert!([Some(old), Some(new)].contains(&open), "{open:?}: {context}"),
                    }
                    if result.is_err() {
                        assert!(node.load().unwrap().is_complete());
                        assert_eq!(node.open_port(), Some(new), "{context}");
                    }
                    assert_eq!(node.enforcer.read_back(), Drift::None, "{context}");
                    if batches.get() < turn {
                        break;
                    }
                }
            }
        }
    });
}

/// Others write tables of their own all the time, as kube-proxy may: ours is not read for it, and updates get through.
#[test]
fn others_who_write_all_the_time_stop_no_update() {
    on_a_node(|mut node| {
        node.allow(PORTS[0]);
        assert!(node.load().unwrap().is_complete());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let writer = std::thread::spawn(move || {
            let mut written = 0;
            while !stopped.load(Ordering::Relaxed) {
                nft(&["add", "table", "inet", "other"]);
                nft(&["delete", "table", "inet", "other"]);
                written += 2;
            }
            written
        });
        let mut port = PORTS[0];
        for round in 0..40 {
            port = other(port);
            node.allow(port);
            assert!(node.update().unwrap().is_complete(), "round {round}");
            assert!(node.maintain().unwrap().repaired.is_empty());
        }
        assert_eq!(node.open_port(), Some(port));
        stop.store(true, Ordering::Relaxed);
        assert!(writer.join().unwrap() > 4);
        assert_eq!(node.enforcer.reads_for_test(), 0, "our table was read though nobody touched it");
    });
}

/// A look at interfaces that fails vetoes nothing, and is told once.
#[test]
fn interfaces_that_cannot_be_asked_about_are_a_warning() {
    on_a_node(|mut node| {
        let fault = |place: Place<'_>| match place {
            Place::Links => Err(ApplyError::kernel("read the interfaces", Errno::ENOMEM)),
            _ => Ok(()),
        };
        node.allow(PORTS[0]);
        let applied = when(fault, || node.load()).unwrap();
        assert!(applied.is_complete());
        assert_eq!(applied.warnings.len(), 1, "{applied:?}");
        assert!(applied.warnings[0].contains("ports of a bridge"), "{applied:?}");
        assert_eq!(node.open_port(), Some(PORTS[0]));
        node.allow(PORTS[1]);
        assert_eq!(when(fault, || node.update()).unwrap(), Applied::COMPLETE, "it was told");
        assert_eq!(node.open_port(), Some(PORTS[1]));
        // It is asked again, until there is an answer.
        ip("link add br0 type bridge");
        ip("link set veth2 master br0");
        let health = when(fault, || node.maintain()).unwrap();
        assert_eq!(health.applied, Applied::COMPLETE);
        let health = node.maintain().unwrap();
        assert_eq!(health.applied.unreached.len(), 1, "{health:?}");
    });
}

/// One question about all interfaces, and none while no interface changed.
#[test]
fn interfaces_are_asked_about_when_they_changed() {
    on_a_node(|mut node| {
        node.allow(PORTS[0]);
        assert!(node.load().unwrap().is_complete());
        let asked = Rc::new(Cell::new(0));
        let count = |node: &mut Node| {
            let asked = Rc::clone(&asked);
            asked.set(0);
            let seen = Rc::clone(&asked);
            let fault = move |place: Place<'_>| {
                seen.set(seen.get() + usize::from(matches!(place, Place::Links)));
                Ok(())
            };
            let health = when(fault, || node.maintain()).unwrap();
            (asked.get(), health.applied.unreached.len())
        };
        let _ = count(&mut node);
        assert_eq!(count(&mut node), (0, 0));
        ip("link add br0 type bridge");
        ip("link set veth2 master br0");
        assert_eq!(count(&mut node), (1, 1));
        // One that is not reached is looked at again when interfaces change.
        assert_eq!(count(&mut node), (0, 1));
        ip("link set veth2 nomaster");
        assert_eq!(count(&mut node), (1, 0));
    });
}
