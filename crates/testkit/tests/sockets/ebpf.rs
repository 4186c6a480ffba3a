//! What belongs to the eBPF backend alone: its options, and the reasons why packets met no policy.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use portcullis::backend::{Bindings, Dataplane as _, DataplaneError, DataplaneOptions, DesiredState};
use portcullis::backends;
use portcullis::ebpf::{AttachMode, Enforcer, Options, Reason};
use portcullis::ir::{Delta, Snapshot};

use crate::backends::{UnderTest, bind, in_namespaces};
use crate::lifecycle::replacing_drops_no_flow_and_lets_nothing_through;
use crate::node::{Pod, node};
use crate::wide::{Site, site};
use crate::{PODS, SHUT, compiled};

/// Runs `test` on a node.
pub(crate) fn on_a_node_with_bpf(pods: usize, test: impl FnOnce(&[Pod], &Path) + Send + 'static) {
    if portcullis_testkit::kernel_can_be_asked() {
        in_namespaces(move || test(&node(pods), Path::new("/sys/fs/bpf/portcullis")));
    }
}

/// Runs `test` on a node with an uplink.
pub(crate) fn on_a_site_with_bpf(pods: usize, test: impl FnOnce(&Site, &Path) + Send + 'static) {
    if portcullis_testkit::kernel_can_be_asked() {
        in_namespaces(move || test(&site(pods), Path::new("/sys/fs/bpf/portcullis")));
    }
}

/// The backend attached in one way.
pub(crate) fn under(mode: AttachMode) -> UnderTest {
    UnderTest::new(backends::named("ebpf").unwrap(), mode)
}

pub(crate) fn options() -> Options {
    attached(AttachMode::Auto)
}

/// The same, attached in one way.
pub(crate) fn attached(mode: AttachMode) -> Options {
    under(mode).ebpf(DataplaneOptions::new())
}

/// Brings a snapshot in force, for every endpoint of `bindings`.
pub(crate) fn start_enforcer(
    options: Options,
    pins: &Path,
    snapshot: &Snapshot,
    bindings: &Bindings,
) -> Result<Enforcer, DataplaneError> {
    let mut enforcer = Enforcer::open(options.with_pins(pins))?;
    let applied = enforcer.load(DesiredState::new(snapshot, bindings))?;
    assert!(applied.is_complete(), "{applied:?}");
    Ok(enforcer)
}

pub(crate) fn update(enforcer: &mut Enforcer, snapshot: &Snapshot, delta: &Delta, bindings: &Bindings) {
    let applied = enforcer.update(DesiredState::new(snapshot, bindings), delta).unwrap();
    assert!(applied.is_complete(), "{applied:?}");
}

pub(crate) fn remove(mut enforcer: Enforcer) {
    enforcer.remove().unwrap();
}

#[test]
fn changing_between_links_and_filters_leaves_no_gap() {
    on_a_node_with_bpf(2, |pods, _| {
        replacing_drops_no_flow_and_lets_nothing_through(
            [AttachMode::Tcx, AttachMode::Clsact].map(under),
            pods,
        );
    });
}

#[test]
fn reasons_say_why_no_policy_was_asked() {
    on_a_node_with_bpf(2, |pods, pins| {
        let (shut, ids) = compiled(&format!("{PODS}{SHUT}"), pods);
        let enforcer = start_enforcer(options(), pins, shut.snapshot(), &bind(pods, &ids)).unwrap();
        let to = pods[1].addresses[0];
        let none = |reason| enforcer.reasons().unwrap()[&reason];
        assert_eq!(none(Reason::UnknownInterface), 0);
        // An address that is not the pod's own.
        let alias = "10.0.9.77";
        let inside = move || {
            let add =
                Command::new("ip").args(["addr", "add", &format!("{alias}/32"), "dev", "eth0"]).status();
            assert!(add.unwrap().success());
            let socket = std::net::UdpSocket::bind((alias, 0)).unwrap();
            socket.send_to(b"hello", (to, 80)).unwrap();
        };
        let before = none(Reason::Address);
        pods[0].run(inside).recv().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert!(none(Reason::Address) > before);
        remove(enforcer);
    });
}
