//! The kernel refuses, or the machine changes, at every place of a load and of an update.

use core::cell::Cell;

use super::*;
use crate::error::LoadError;
use crate::load::faults::{Place, when};

fn refusal() -> LoadError {
    LoadError::plain("a test refuses this")
}

/// Deletes an interface at the moment that `place` names.
fn deleting(name: String, place: Place) -> impl FnMut(Place) -> Result<(), LoadError> {
    let mut is_there = true;
    move |reached| {
        if reached == place && core::mem::take(&mut is_there) {
            ip(&format!("link del {name}"));
        }
        Ok(())
    }
}

#[test]
fn an_interface_that_goes_between_look_and_attachment_is_its_endpoints_failure() {
    on_a_node(3, |mut node| {
        let last = node.pods[2].id();
        for by_load in [false, true] {
            let index = node.pods[2].interface().index().unwrap();
            for place in [Place::InterfacesAreKnown, Place::Attach(index)] {
                let bound = node.bindings.unbind(&last).unwrap();
                node.apply(policy(&[80]));
                assert!(node.load().unwrap().is_complete());
                assert_eq!(node.open(), [true, false]);
                node.bindings.bind(last.clone(), bound);
                node.apply(policy(&[8080]));
                let fault = deleting(node.pods[2].name(), place);
                let applied = when(fault, || if by_load { node.load() } else { node.update() }).unwrap();
                let [unreached] = &applied.unreached[..] else { panic!("{applied:?}") };
                assert_eq!(unreached.endpoint.as_ref(), Some(&last), "{unreached}");
                assert_eq!(node.open(), [false, true]);
                assert!(!node.pinned().iter().any(|name| name.starts_with(&format!("{index}-"))));
                node.pods[2].plug(&format!("index {index}"));
                assert!(node.update().unwrap().is_complete());
                assert!(
                    node.pods[0].reaches(&node.pods[2], 8080) && !node.pods[0].reaches(&node.pods[2], 80)
                );
            }
        }
        node.plane.remove().unwrap();
    });
}

#[test]
fn one_interface_that_takes_no_program_is_its_endpoints_failure() {
    on_a_node(3, |mut node| {
        let last = node.pods[2].id();
        let bound = node.bindings.unbind(&last).unwrap();
        node.apply(policy(&[80]));
        assert!(node.load().unwrap().is_complete());
        node.bindings.bind(last.clone(), bound);
        let refused = Place::Attach(node.pods[2].interface().index().unwrap());
        for (port, by_load) in [(8080, false), (80, true)] {
            node.apply(policy(&[port]));
            let fault = move |place| if place == refused { Err(refusal()) } else { Ok(()) };
            let applied = when(fault, || if by_load { node.load() } else { node.update() }).unwrap();
            let [unreached] = &applied.unreached[..] else { panic!("{applied:?}") };
            assert_eq!(unreached.endpoint.as_ref(), Some(&last));
            assert_eq!(unreached.reason, "a test refuses this");
            assert_eq!(node.open(), [port == 80, port == 8080]);
        }
        assert!(node.maintain().unwrap().applied.is_complete());
        assert!(node.pods[0].reaches(&node.pods[2], 80) && !node.pods[0].reaches(&node.pods[2], 8080));
        // Where it is refused everywhere, nothing is in force.
        let before = node.programs();
        let fault = |place| if matches!(place, Place::Attach(_)) { Err(refusal()) } else { Ok(()) };
        node.apply(policy(&[8080]));
        assert_eq!(when(fault, || node.load()).unwrap_err().kind(), DataplaneErrorKind::Refused);
        assert_eq!((node.open(), node.programs()), ([true, false], before));
        node.plane.remove().unwrap();
    });
}

/// The places where a load can fail, and where it does not name an interface.
const PLACES: [Place; 4] = [Place::Write, Place::InterfacesAreKnown, Place::Verify, Place::Detach];

/// The first load of a process fails: the interfaces have nothing, or what the process before left there.
#[test]
fn a_first_load_that_fails_changes_nothing() {
    use AttachMode::{Clsact, Tcx};
    on_a_node(2, |mut node| {
        for [before, after] in [[Tcx, Tcx], [Clsact, Clsact], [Tcx, Clsact], [Clsact, Tcx]] {
            for place in PLACES {
                node.reopen(Options::new().with_attach_mode(after));
                node.apply(policy(&[8080]));
                let fault = move |reached| if reached == place { Err(refusal()) } else { Ok(()) };
                let error = when(fault, || node.load()).unwrap_err();
                assert_eq!(error.to_string(), "a test refuses this");
                assert!(!node.pins.exists(), "{place:?}: {:?}", node.pinned());
                assert!(node.gets_programs(&vec![vec![]; 4]));
                assert_eq!(node.open(), [true, true]);

                node.reopen(Options::new().with_attach_mode(before));
                node.apply(policy(&[80]));
                assert!(node.load().unwrap().is_complete());
                let (pinned, programs) = (node.pinned(), node.programs());
                node.reopen(Options::new().with_attach_mode(after));
                node.apply(policy(&[8080]));
                // Not bound any more, and so the last that loses its program.
                let gone = (place == Place::Detach).then(|| node.pods[0].id());
                let gone = gone.map(|id| (id.clone(), node.bindings.unbind(&id).unwrap()));
                let fault = move |reached| if reached == place { Err(refusal()) } else { Ok(()) };
                assert!(when(fault, || node.load()).is_err());
                assert_eq!(node.open(), [true, false], "{before:?}, {after:?}, {place:?}");
                assert_eq!(node.pinned(), pinned, "{before:?}, {after:?}, {place:?}");
                assert!(node.gets_programs(&programs), "{before:?}, {after:?}, {place:?}");
                gone.into_iter().for_each(|(id, binding)| node.bindings.bind(id, binding));
                assert!(node.load().unwrap().is_complete());
                assert_eq!(node.open(), [false, true], "{before:?}, {after:?}, {place:?}");
                node.plane.remove().unwrap();
            }
        }
    });
}

/// The same on a node with services, whose marks and guard of sockets have pins of their own.
#[test]
fn a_first_load_that_fails_leaves_no_pins() {
    on_a_node(2, |mut node| {
        let options = || {
            let services = DataplaneOptions::new().with_services("10.96.0.0/12".parse().unwrap());
            Options::from(services).with_node_backends(NodeBackends::Unguarded)
        };
        node.apply(policy(&[80]));
        for has_earlier in [false, true] {
            let (pinned, programs) = (node.pinned(), node.programs());
            for place in PLACES {
                node.reopen(options());
                let fault = move |reached| if reached == place { Err(refusal()) } else { Ok(()) };
                assert!(when(fault, || node.load()).is_err());
                assert_eq!(node.pinned(), pinned, "{place:?}");
                assert!(node.gets_programs(&programs), "{place:?}");
                assert_eq!(node.pins.exists(), has_earlier);
            }
            // With flow tables of another size.
            node.reopen(options().with_capacity(Capacity { flows_v4: 4_096, ..Capacity::default() }));
            assert!(
                when(|place| if place == Place::Detach { Err(refusal()) } else { Ok(()) }, || node.load())
                    .is_err()
            );
            assert_eq!(node.pinned(), pinned);
            assert!(node.gets_programs(&programs));
            node.reopen(options());
            assert!(node.load().unwrap().is_complete());
        }
        node.plane.remove().unwrap();
    });
}

/// The kernel refuses the n-th write of a load, as it does where it has no memory or a map is full: the policy before is in force.
#[test]
fn a_load_that_was_cut_short_changes_nothing() {
    on_a_node(2, |mut node| {
        node.apply(policy(&[80]));
        assert!(node.load().unwrap().is_complete());
        node.apply(policy(&[8080]));
        let writes = Cell::new(0);
        for refused in 0.. {
            writes.set(0);
            let count = refused;
            let mut seen = 0;
            let fault = move |place| {
                seen += usize::from(place == Place::Write);
                if place == Place::Write && seen == count + 1 { Err(refusal()) } else { Ok(()) }
            };
            let result = when(fault, || node.load());
            if result.is_ok() {
                assert!(refused > 8, "{refused} writes");
                break;
            }
            assert_eq!(node.open(), [true, false], "after {refused} writes");
        }
        assert_eq!(node.open(), [false, true]);
        node.plane.remove().unwrap();
    });
}

/// Each kind of write, refused where it is the only one of its kind: no memory for a node of a prefix tree, a hash map that is full,
/// and so on. Old policy or new, and the next update that is not refused has all in force.
#[test]
fn an_update_whose_write_is_refused_is_made_up_for() {
    let network: fn(&Write) -> bool = |write| matches!(write, Write::Address(net, _) if !net.is_host());
    let address: fn(&Write) -> bool = |write| matches!(write, Write::Address(net, _) if net.is_host());
    let endpoint: fn(&Write) -> bool = |write| matches!(write, Write::Endpoint(..));
    let list: fn(&Write) -> bool = |write| matches!(write, Write::Runs(..));
    on_a_node(2, move |mut node| {
        node.apply(policy(&[80]));
        assert!(node.load().unwrap().is_complete());
        for (number, kind) in [network, address, endpoint, list].into_iter().enumerate() {
            let (old, new) = if number % 2 == 0 { (80, 8080) } else { (8080, 80) };
            // Another list of ports each time.
            let Update::Policy(mut with_set) = policy(&[new, 9_000 + u16::try_from(number).unwrap()]) else {
                panic!()
            };
            let mut from_set = Rule::new(Action::Deny);
            from_set.peers = vec![portcullis_core::model::EntityMatch::select(select("set"))];
            with_set.ingress.insert(0, from_set);
            node.apply(Update::Policy(with_set));
            node.apply(Update::NetworkSet(NetworkSet {
                id: NetworkSetId { namespace: None, name: "set".into() },
                labels: labels("set"),
                nets: [format!("10.9.{number}.0/24"), format!("10.10.{number}.7/32")]
                    .map(|net| net.parse().unwrap())
                    .into(),
            }));
            // Twice: the update after it is a load, which has no luck either.
            for by_load in [false, true] {
                let error = if by_load {
                    let fault = |place| if place == Place::Write { Err(refusal()) } else { Ok(()) };
                    when(fault, || node.update()).unwrap_err()
                } else {
                    node.plane.running.as_mut().unwrap().refuse(Some(kind));
                    node.update().unwrap_err()
                };
                assert_eq!(error.kind(), DataplaneErrorKind::Refused, "{error}");
                let now = node.open();
                assert!(
                    now == [old == 80, old == 8080] || now == [new == 80, new == 8080],
                    "{number}: {now:?}"
                );
                node.plane.running.as_mut().unwrap().refuse(None);
            }
            assert!(node.update().unwrap().is_complete());
            assert_eq!(node.open(), [new == 80, new == 8080]);
        }
        node.plane.remove().unwrap();
    });
}
