//! Others change what is in force: an update that says ok has repaired it, and `maintain` tells.

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::SchedClassifierLink;

use super::*;
use crate::load::object::{self, Behaviour, OBJECT};

/// What others do to the interface of the second pod, and how that is told. Everything passes then, or nothing.
type Change = fn(&Node) -> &'static [&'static str];

fn index(node: &Node) -> u32 {
    node.pods[1].interface().index().unwrap()
}

fn tc(line: &str) {
    let output = Command::new("tc").args(line.split(' ')).output().unwrap();
    assert!(output.status.success(), "tc {line}: {output:?}");
}

const BOTH: &[&str] = &["veth2 ingress", "veth2 egress"];

fn pins_are_deleted(node: &Node) -> &'static [&'static str] {
    for direction in Direction::BOTH {
        std::fs::remove_file(node.pins.join(format!("{}-{}", index(node), direction.name()))).unwrap();
    }
    BOTH
}

/// By `bpftool link update`, for example, or by an enforcer that knows of no lock: its program looks into other maps.
fn a_link_gets_another_program(node: &Node) -> &'static [&'static str] {
    let pin = node.pins.join(format!("{}-egress", index(node)));
    let options = Options::new().with_capacity(Capacity::SMALL);
    let mut other = object::load(OBJECT, &options, Behaviour::PLAIN, &[]).unwrap();
    let program = object::program(&mut other, "from_workload").unwrap();
    let link: FdLink = PinnedLink::from_pin(pin).unwrap().into();
    let id = program.attach_to_link(SchedClassifierLink::try_from(link).unwrap()).unwrap();
    // The pin keeps it.
    drop(program.take_link(id).unwrap());
    &["veth2 egress"]
}

/// Under the same name and with the same index, so that nothing but its programs tells it from the one before.
fn the_interface_is_made_anew(node: &Node) -> &'static [&'static str] {
    let index = index(node);
    ip(&format!("link del {}", node.pods[1].name()));
    node.pods[1].plug(&format!("index {index}"));
    BOTH
}

fn the_qdisc_is_deleted(node: &Node) -> &'static [&'static str] {
    tc(&format!("qdisc del dev {} clsact", node.pods[1].name()));
    BOTH
}

fn a_filter_is_deleted(node: &Node) -> &'static [&'static str] {
    tc(&format!("filter del dev {} egress", node.pods[1].name()));
    &["veth2 egress"]
}

/// With the handle and in the place of ours.
fn a_filter_gets_another_program(node: &Node) -> &'static [&'static str] {
    let filters = qdisc::filters(index(node), Direction::Egress).unwrap();
    let filter = filters.iter().find(|filter| filter.program.is_some()).unwrap();
    let options = Options::new().with_capacity(Capacity::SMALL);
    let mut other = object::load(OBJECT, &options, Behaviour::PLAIN, &[]).unwrap();
    let program = object::program(&mut other, "from_workload").unwrap();
    let (name, kind) = (node.pods[1].name(), Direction::Egress.attach_type());
    let link =
        SchedClassifierLink::attached(&name, kind, filter.priority, filter.handle.into(), None).unwrap();
    let id = program.attach_to_link(link).unwrap();
    // Dropping it would remove the filter.
    core::mem::forget(program.take_link(id).unwrap());
    &["veth2 egress"]
}

const CHANGES: &[(AttachMode, Change)] = &[
    (AttachMode::Tcx, pins_are_deleted),
    (AttachMode::Tcx, a_link_gets_another_program),
    (AttachMode::Tcx, the_interface_is_made_anew),
    (AttachMode::Clsact, the_interface_is_made_anew),
    (AttachMode::Clsact, the_qdisc_is_deleted),
    (AttachMode::Clsact, a_filter_is_deleted),
    (AttachMode::Clsact, a_filter_gets_another_program),
];

#[test]
fn what_others_changed_is_repaired_by_the_next_update_and_told() {
    on_a_node(2, |mut node| {
        for (mode, change) in CHANGES {
            node.reopen(Options::new().with_attach_mode(*mode));
            node.apply(policy(&[80]));
            assert!(node.load().unwrap().is_complete());
            assert_eq!(node.open(), [true, false]);
            for by_update in [true, false] {
                let changed = change(&node);
                assert_ne!(node.open(), [true, false], "the test of the test");
                if by_update {
                    assert!(node.update().unwrap().is_complete());
                    assert_eq!(node.open(), [true, false], "{changed:?}");
                }
                let health = node.maintain().unwrap();
                assert_eq!(health.repaired, changed);
                assert!(health.applied.is_complete());
                assert_eq!(node.open(), [true, false], "{changed:?}");
                assert_eq!(node.maintain().unwrap().repaired, [""; 0]);
            }
        }
        node.plane.remove().unwrap();
    });
}

#[test]
fn an_interface_made_anew_under_its_name_is_guarded_or_told() {
    on_a_node(2, |mut node| {
        let (id, named) = (node.pods[1].id(), Interface::new(&node.pods[1].name()).unwrap());
        // By its name alone: the new one is the pod's.
        node.bindings.bind(id.clone(), Binding::workload(named, [node.pods[1].address()]));
        node.apply(policy(&[80]));
        assert!(node.load().unwrap().is_complete());
        let anew = |node: &Node| {
            ip(&format!("link del {}", node.pods[1].name()));
            node.pods[1].plug("");
        };
        anew(&node);
        assert!(node.update().unwrap().is_complete());
        assert_eq!(node.open(), [true, false]);
        // By its index as well: the new one is another.
        node.bindings.bind(id.clone(), Binding::workload(node.pods[1].interface(), [node.pods[1].address()]));
        assert!(node.update().unwrap().is_complete());
        anew(&node);
        for _ in 0..2 {
            let applied = node.update().unwrap();
            let [unreached] = &applied.unreached[..] else { panic!("{applied:?}") };
            assert_eq!(unreached.endpoint.as_ref(), Some(&id));
        }
        node.plane.remove().unwrap();
    });
}

#[test]
fn a_folder_of_pins_that_others_removed_is_made_again() {
    on_a_node(2, |mut node| {
        node.apply(policy(&[80]));
        assert!(node.load().unwrap().is_complete());
        for by_update in [true, false] {
            std::fs::remove_dir_all(&node.pins).unwrap();
            assert_eq!(node.open(), [true, true]);
            if by_update {
                assert!(node.update().unwrap().is_complete());
            } else {
                assert_eq!(node.maintain().unwrap().repaired, ["folder of pins"]);
            }
            assert_eq!(node.open(), [true, false]);
            assert_eq!(node.maintain().unwrap().repaired, [""; 0]);
        }
        node.plane.remove().unwrap();
    });
}

/// The folder of pins is locked by the process whose policy is in force.
#[test]
fn a_second_enforcer_is_told_who_the_first_is() {
    on_a_node(2, |mut node| {
        node.apply(policy(&[80]));
        assert!(node.load().unwrap().is_complete());
        let mut second = Enforcer::open(Options::new().with_pins(&node.pins)).unwrap();
        let desired = DesiredState::new(node.compiler.snapshot(), &node.bindings);
        for error in [second.load(desired).unwrap_err(), second.remove().unwrap_err()] {
            assert_eq!(error.kind(), DataplaneErrorKind::Environment);
            let text = error.to_string();
            assert!(text.contains("pins`: another dataplane of this process enforces policy"), "{text}");
        }
        assert_eq!(node.open(), [true, false]);
        node.apply(policy(&[8080]));
        assert!(node.update().unwrap().is_complete());
        assert_eq!(node.open(), [false, true]);
        // It ends, and the second may.
        node.reopen(Options::new());
        let desired = DesiredState::new(node.compiler.snapshot(), &node.bindings);
        assert!(second.load(desired).unwrap().is_complete());
        second.remove().unwrap();
        assert_eq!(node.open(), [true, true]);
    });
}
