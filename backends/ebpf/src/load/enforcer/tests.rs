//! In force or an error: what `Ok` says is looked at with packets, after every kind of failure. As root only.

use core::time::Duration;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use aya::programs::{ProgramInfo, SchedClassifier};
use nix::mount::{MsFlags, mount, umount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use portcullis_core::backend::{
    Applied, Binding, Bindings, Dataplane, DataplaneError, DataplaneErrorKind, DataplaneOptions,
    DesiredState, Health, Interface, LoggedEvents,
};
use portcullis_core::compile::{CompileScope, Compiler};
use portcullis_core::ir::Delta;
use portcullis_core::label::{Labels, Scope};
use portcullis_core::model::{
    Action, Directions, Endpoint, EndpointId, EntityKinds, EntitySelector, L4Match, NetworkSet, NetworkSetId,
    Policy, PolicyId, PortMatch, PortRange, Rule, Update,
};
use portcullis_core::packet::Protocol;
use portcullis_core::selector::{Expr, LabelRef};
use portcullis_core::settings::Settings;
use portcullis_core::verdict::Verdict;
use portcullis_testkit::kernel_can_be_asked;
use portcullis_testkit::pods::{PORTS, Pod, ip};

use crate::load::direction::Direction;
use crate::load::enforcer::Enforcer;
use crate::load::qdisc;
use crate::options::{AttachMode, Capacity, NodeBackends, Options};
use crate::write::Write;

mod closed;
mod drift;
mod faults;
mod start;

/// Runs `test` on a node with so many pods, and a BPF file system of its own.
fn on_a_node(pods: u8, test: impl FnOnce(Node) + Send + 'static) {
    if !kernel_can_be_asked() {
        println!("SKIPPED: no kernel was asked, that needs root");
        return;
    }
    let run = move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let folder = std::env::temp_dir().join(format!("portcullis-ebpf-{}", nix::unistd::gettid()));
        std::fs::create_dir_all(&folder).unwrap();
        mount(Some("bpf"), &folder, Some("bpf"), MsFlags::empty(), none).unwrap();
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        ip("link set lo up");
        let pods: Vec<Pod> = (1..=pods).map(Pod::start).collect();
        for pod in &pods {
            for other in pods.iter().filter(|other| other.number != pod.number) {
                assert!((0..5).any(|_| pod.reaches(other, 80)), "the test of the test: all is open");
            }
        }
        test(Node::new(pods, folder.join("pins")));
        umount(&folder).unwrap();
        std::fs::remove_dir(&folder).unwrap();
    };
    std::thread::spawn(run).join().unwrap_or_else(|error| std::panic::resume_unwind(error));
}

/// Pods, their policy, and the dataplane that enforces it.
struct Node {
    pods: Vec<Pod>,
    pins: PathBuf,
    compiler: Compiler,
    bindings: Bindings,
    plane: Enforcer,
}

fn labels(app: &str) -> Labels {
    let mut labels = Labels::new();
    labels.insert("app", app);
    labels
}

fn select(app: &str) -> EntitySelector {
    let label = LabelRef::new(Scope::Own, "app");
    EntitySelector { kinds: EntityKinds::CALICO, expr: Expr::Eq(label, app.into()) }
}

/// What may come in at pods: everything, nothing, or UDP to these ports.
fn policy(ports: &[u16]) -> Update {
    let id = PolicyId::new("GlobalNetworkPolicy", None, "pods");
    let mut policy = Policy::new(id, "default", select("pod"), Directions::INGRESS);
    policy.ingress = ports
        .iter()
        .map(|port| {
            let mut rule = Rule::new(Action::Allow);
            rule.l4 = vec![L4Match {
                protocol: Some(Protocol::UDP),
                destination_ports: vec![PortMatch::Range(PortRange::single(*port))],
                ..L4Match::default()
            }];
            rule
        })
        .collect();
    Update::Policy(policy)
}

impl Node {
    fn new(pods: Vec<Pod>, pins: PathBuf) -> Self {
        let plane = Enforcer::open(Options::new().with_pins(&pins)).unwrap();
        let compiler = Compiler::new(Settings::default(), CompileScope::All);
        let mut node = Self { pods, pins, compiler, bindings: Bindings::new(), plane };
        for number in 0..node.pods.len() {
            let pod = &node.pods[number];
            node.bindings.bind(pod.id(), Binding::workload(pod.interface(), [pod.address()]));
            let mut endpoint = Endpoint::new(node.pods[number].id());
            endpoint.labels = labels("pod");
            endpoint.addresses = vec![node.pods[number].address()];
            node.apply(Update::Endpoint(endpoint));
        }
        // What each sends passes.
        let id = PolicyId::new("GlobalNetworkPolicy", None, "out");
        let mut out = Policy::new(id, "default", select("pod"), Directions::EGRESS);
        out.egress = vec![Rule::new(Action::Allow)];
        node.apply(Update::Policy(out));
        node
    }

    fn reopen(&mut self, options: Options) {
        self.plane = Enforcer::open(options.with_pins(&self.pins)).unwrap();
    }

    fn apply(&mut self, update: Update) {
        self.compiler.apply(update).unwrap();
    }

    fn load(&mut self) -> Result<Applied, DataplaneError> {
        let _ = self.compiler.commit();
        let plane: &mut dyn Dataplane = &mut self.plane;
        plane.load(DesiredState::new(self.compiler.snapshot(), &self.bindings))
    }

    fn update(&mut self) -> Result<Applied, DataplaneError> {
        let delta: Delta = self.compiler.commit();
        let plane: &mut dyn Dataplane = &mut self.plane;
        plane.update(DesiredState::new(self.compiler.snapshot(), &self.bindings), &delta)
    }

    /// Which ports of the second pod the first reaches. What was closed takes a moment until neighbours are found again.
    fn open(&self) -> [bool; 2] {
        PORTS.map(|port| (0..3).any(|_| self.pods[0].reaches(&self.pods[1], port)))
    }

    fn maintain(&mut self) -> Result<Health, DataplaneError> {
        let desired = DesiredState::new(self.compiler.snapshot(), &self.bindings);
        self.plane.maintain(desired)
    }

    /// Whether the dataplane says that `maintain` has something to do.
    fn is_told(&self) -> bool {
        let mut fds = [PollFd::new(self.plane.watch.as_ref().unwrap().as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
    }

    /// What is pinned and marked.
    fn pinned(&self) -> Vec<String> {
        let Ok(folder) = std::fs::read_dir(&self.pins) else { return Vec::new() };
        let mut names: Vec<_> =
            folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The numbers of the programs on the interfaces of pods, by interface and direction.
    fn programs(&self) -> Vec<Vec<u32>> {
        let directions = self.pods.iter().flat_map(|pod| Direction::BOTH.map(|direction| (pod, direction)));
        let of = |(pod, direction): (&Pod, Direction)| {
            let (_, programs) = SchedClassifier::query_tcx(&pod.name(), direction.attach_type()).unwrap();
            let filters = qdisc::filters(pod.interface().index().unwrap(), direction).unwrap();
            programs.iter().map(ProgramInfo::id).chain(filters.iter().filter_map(|one| one.program)).collect()
        };
        directions.map(of).collect()
    }

    /// Whether the interfaces of pods get to have these programs. The kernel takes a link off a little after its pin went.
    fn gets_programs(&self, wanted: &[Vec<u32>]) -> bool {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.programs() != wanted {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }

    fn refuse_after(&mut self, writes: Option<usize>) {
        self.plane.running.as_mut().unwrap().refuse_after(writes);
    }
}

/// An interface that is gone when its pod is bound is the failure of that pod, told beside success. The commonest race of a
/// network plugin.
#[test]
fn an_interface_that_is_gone_is_its_endpoints_failure_alone() {
    on_a_node(2, |mut node| {
        node.apply(policy(&[80]));
        assert_eq!(node.load().unwrap(), Applied::COMPLETE);
        assert_eq!(node.open(), [true, false]);
        let ghosts = [Interface::new("ghost").unwrap(), Interface::new("ghost").unwrap().with_index(9_999)];
        for (number, ghost) in ghosts.into_iter().enumerate() {
            let id = EndpointId::workload("shop", "ghost");
            node.bindings.bind(id.clone(), Binding::workload(ghost.clone(), ["10.0.9.99".parse().unwrap()]));
            node.apply(policy(if number == 0 { &[8080] } else { &[80] }));
            // Told with every update, and so long as it is gone.
            for _ in 0..2 {
                let applied = node.update().unwrap();
                let [unreached] = &applied.unreached[..] else { panic!("{applied:?}") };
                assert_eq!((unreached.endpoint.as_ref(), &unreached.interface), (Some(&id), &ghost));
                assert!(unreached.reason.starts_with("there is no"), "{unreached}");
            }
            assert_eq!(node.open(), [number == 1, number == 0]);
            // A load says the same.
            assert_eq!(node.load().unwrap().unreached.len(), 1);
        }
        // It comes, by its name, and is reached by what comes next.
        let late = Pod::start(3);
        let id = EndpointId::workload("shop", "ghost");
        let mut endpoint = Endpoint::new(id.clone());
        endpoint.labels = labels("pod");
        endpoint.addresses = vec![late.address()];
        node.apply(Update::Endpoint(endpoint));
        assert!((0..3).any(|_| node.pods[0].reaches(&late, 8080)), "it is not guarded yet");
        let (named, numbered) = (Interface::new(&late.name()).unwrap(), late.interface());
        node.bindings.bind(id.clone(), Binding::workload(named, [late.address()]));
        assert!(node.update().unwrap().is_complete());
        assert!(!node.pods[0].reaches(&late, 8080) && node.pods[0].reaches(&late, 80));
        // One that goes is told by the next look.
        ip(&format!("link del {}", late.name()));
        let desired = DesiredState::new(node.compiler.snapshot(), &node.bindings);
        let health = node.plane.maintain(desired).unwrap();
        assert_eq!(health.applied.unreached.len(), 1, "{health:?}");
        // By its index as well, by every update, and it is guarded anew when the index comes back.
        node.bindings.bind(id, Binding::workload(numbered.clone(), [late.address()]));
        let (name, index) = (numbered.name(), numbered.index().unwrap());
        let pin = node.pins.join(format!("{index}-ingress"));
        for _ in 0..2 {
            assert_eq!(node.update().unwrap().unreached.len(), 1);
            assert!(!pin.exists());
            ip(&format!("link add {name} index {index} type veth peer name other"));
            assert!(node.update().unwrap().is_complete());
            assert!(pin.exists());
            ip(&format!("link del {name}"));
        }
        assert_eq!(node.update().unwrap().unreached.len(), 1);
        node.plane.remove().unwrap();
        assert!(!node.pins.exists());
    });
}

/// The kernel refuses the n-th write of an update, for every n: each packet gets its old or its new decision, and the next
/// update that returns without an error has everything in force.
#[test]
fn an_update_that_was_cut_short_is_made_up_for() {
    on_a_node(2, |mut node| {
        node.apply(policy(&[80]));
        assert!(node.load().unwrap().is_complete());
        let (mut refused, mut open) = (0, [true, false]);
        for writes in 0.. {
            let ports = if open[0] { 8080 } else { 80 };
            node.apply(policy(&[ports]));
            node.refuse_after(Some(writes));
            let result = node.update();
            node.refuse_after(None);
            let now = node.open();
            let new = [ports == 80, ports == 8080];
            match result {
                Ok(applied) => {
                    assert!(applied.is_complete());
                    assert_eq!(now, new, "after {writes} writes");
                    break;
                }
                Err(error) => assert_eq!(error.kind(), DataplaneErrorKind::Refused, "{error}"),
            }
            assert!(now == open || now == new, "{writes} writes: {now:?}");
            refused += 1;
            // A delta that says nothing about the ports.
            node.apply(Update::NetworkSet(NetworkSet {
                id: NetworkSetId { namespace: None, name: format!("set-{writes}").into() },
                labels: labels("set"),
                nets: vec![format!("10.7.{writes}.0/24").parse().unwrap()],
            }));
            assert!(node.update().unwrap().is_complete());
            assert_eq!(node.open(), new, "after {writes} writes and another update");
            open = new;
        }
        println!("{refused} writes were refused");
        assert!(refused > 2);
        node.plane.remove().unwrap();
    });
}

/// A policy that does not fit leaves the one before in force. When it fits again, the next update is not refused because of
/// the one that was.
#[test]
fn after_a_refusal_the_next_update_brings_everything_in_force() {
    on_a_node(2, |mut node| {
        node.reopen(Options::new().with_capacity(Capacity { networks_v4: 2, ..Capacity::default() }));
        node.apply(policy(&[80]));
        assert!(node.load().unwrap().is_complete());
        let set = |nets: &[&str]| {
            Update::NetworkSet(NetworkSet {
                id: NetworkSetId { namespace: None, name: "set".into() },
                labels: labels("set"),
                nets: nets.iter().map(|net| net.parse().unwrap()).collect(),
            })
        };
        let mut from_set = Rule::new(Action::Deny);
        from_set.peers = vec![portcullis_core::model::EntityMatch::select(select("set"))];
        let Update::Policy(mut with_set) = policy(&[8080]) else { panic!() };
        with_set.ingress.insert(0, from_set);
        node.apply(Update::Policy(with_set));
        node.apply(set(&["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"]));
        for _ in 0..2 {
            let error = node.update().unwrap_err();
            assert_eq!(error.kind(), DataplaneErrorKind::DoesNotFit);
            let text = error.to_string();
            assert!(text.contains("`networks_v4` holds 2") && error.lower().is_some(), "{text}");
            assert_eq!(node.open(), [true, false]);
        }
        node.apply(set(&["10.1.0.0/16"]));
        assert!(node.update().unwrap().is_complete());
        assert_eq!(node.open(), [false, true]);
        // Deltas lead on from there again.
        node.apply(policy(&[80, 8080]));
        assert!(node.update().unwrap().is_complete());
        assert_eq!(node.open(), [true, true]);
        node.plane.remove().unwrap();
    });
}

/// Where it may, the enforcer takes larger maps for policy that does not fit. Beyond that it refuses, and what is in force stays.
#[test]
fn maps_grow_as_far_as_they_may() {
    on_a_node(2, |mut node| {
        let small = Capacity { networks_v4: 2, ..Capacity::default() };
        let most = Capacity { networks_v4: 100, ..Capacity::default() };
        node.reopen(Options::new().with_capacity(small).with_growth(most));
        let with_networks = |port: u16, networks: u16| {
            let mut from_nets = Rule::new(Action::Deny);
            let net = |at: u16| format!("10.7.{at}.0/25").parse().unwrap();
            from_nets.peers =
                vec![portcullis_core::model::EntityMatch::nets((0..networks).map(net).collect())];
            let Update::Policy(mut with_nets) = policy(&[port]) else { panic!() };
            with_nets.ingress.insert(0, from_nets);
            Update::Policy(with_nets)
        };
        node.apply(with_networks(80, 1));
        assert!(node.load().unwrap().is_complete());
        assert_eq!((node.open(), *node.plane.options().capacity()), ([true, false], small));
        node.apply(with_networks(8080, 40));
        assert!(node.update().unwrap().is_complete());
        assert_eq!(node.open(), [false, true]);
        let grown = *node.plane.options().capacity();
        assert_eq!(grown, Capacity { networks_v4: grown.networks_v4, ..small });
        assert!((40..=100).contains(&grown.networks_v4), "{grown:?}");
        // Too much for ever.
        node.apply(with_networks(80, 200));
        for _ in 0..2 {
            let error = node.update().unwrap_err();
            assert!(error.lower().is_some(), "{error}");
            assert_eq!((node.open(), *node.plane.options().capacity()), ([false, true], grown));
        }
        // Deltas lead on once it fits.
        node.apply(with_networks(80, 41));
        assert!(node.update().unwrap().is_complete());
        assert_eq!(node.open(), [true, false]);
        node.plane.remove().unwrap();
    });
}

/// The kernel refuses the flip of the buffers, or the grace period that the update after a flip begins with.
#[test]
fn an_update_without_its_flip_is_made_up_for() {
    on_a_node(2, |mut node| {
        let mut from_set = Rule::new(Action::Deny);
        from_set.peers = vec![portcullis_core::model::EntityMatch::select(select("set"))];
        node.apply(policy(&[80]));
        assert!(node.load().unwrap().is_complete());
        // The second flips, so that the third has to wait first.
        let flips: fn(&Write) -> bool = |write| matches!(write, Write::Flip(_));
        let waits: fn(&Write) -> bool = |write| matches!(write, Write::GracePeriod);
        for (kind, number) in [Some(flips), None, Some(waits)].into_iter().zip(1..) {
            let (old, new) = if number % 2 == 1 { (80, 8080) } else { (8080, 80) };
            // Networks of a class of their own, and rules that tell them apart: only together they make sense.
            node.apply(Update::NetworkSet(NetworkSet {
                id: NetworkSetId { namespace: None, name: format!("set-{number}").into() },
                labels: labels("set"),
                nets: vec!["10.0.9.1/32".parse().unwrap(), format!("10.8.{number}.0/24").parse().unwrap()],
            }));
            let Update::Policy(mut with_set) = policy(&[new]) else { panic!() };
            let mut allow = with_set.ingress[0].clone();
            allow.peers = from_set.peers.clone();
            with_set.ingress = vec![allow, from_set.clone()];
            node.apply(Update::Policy(with_set));
            if kind.is_some() {
                node.plane.running.as_mut().unwrap().refuse(kind);
                // The write is in the update, or it would not fail.
                let error = node.update().unwrap_err();
                assert_eq!(error.kind(), DataplaneErrorKind::Refused, "{error}");
                assert_eq!(node.open(), [old == 80, old == 8080]);
                node.plane.running.as_mut().unwrap().refuse(None);
            }
            assert!(node.update().unwrap().is_complete());
            assert_eq!(node.open(), [new == 80, new == 8080]);
        }
        node.plane.remove().unwrap();
    });
}

/// What is in force is told as that, also when the counts of the load before cannot be read.
#[test]
fn a_load_does_not_fail_for_what_was_counted_before() {
    on_a_node(2, |mut node| {
        node.apply(policy(&[80]));
        assert!(node.load().unwrap().is_complete());
        assert_eq!(node.open(), [true, false]);
        node.plane.running.as_mut().unwrap().refuse_counters();
        assert!(node.plane.counters().is_err());
        node.apply(policy(&[8080]));
        assert!(node.load().unwrap().is_complete());
        assert_eq!(node.open(), [false, true]);
        node.plane.counters().unwrap();
        node.plane.remove().unwrap();
    });
}

/// A load that fails when it takes programs off puts them back, and takes back its generation of marks.
#[test]
fn a_load_that_fails_leaves_interfaces_guarded_that_are_not_bound_any_more() {
    on_a_node(2, |mut node| {
        let services = DataplaneOptions::new().with_services("10.96.0.0/12".parse().unwrap());
        node.reopen(Options::from(services).with_node_backends(NodeBackends::Unguarded));
        node.apply(policy(&[80]));
        assert!(node.load().unwrap().is_complete());
        let marks = |node: &Node| {
            let names = std::fs::read_dir(&node.pins).unwrap().map(|entry| entry.unwrap().file_name());
            names.filter(|name| name.to_string_lossy().starts_with("marks-")).collect::<Vec<_>>()
        };
        let before = marks(&node);
        assert_eq!(before.len(), 1);
        let obstacle = node.pins.join("99999-ingress");
        std::fs::create_dir(&obstacle).unwrap();
        let id = node.pods[0].id();
        node.bindings.unbind(&id);
        let error = node.load().unwrap_err();
        assert_eq!(error.kind(), DataplaneErrorKind::Refused, "{error}");
        let back = |node: &Node| PORTS.map(|port| (0..3).any(|_| node.pods[1].reaches(&node.pods[0], port)));
        assert_eq!((back(&node), node.open()), ([true, false], [true, false]));
        assert_eq!(marks(&node), before);
        std::fs::remove_dir(&obstacle).unwrap();
        assert!(node.load().unwrap().is_complete());
        assert_eq!((back(&node), node.open()), ([true, true], [true, false]));
        node.plane.remove().unwrap();
    });
}

/// A program that cannot be taken off is not the failure of the update: the look after it tries again, and tells.
#[test]
fn a_program_that_cannot_be_taken_off_is_tried_again() {
    on_a_node(2, |mut node| {
        node.apply(policy(&[80]));
        assert!(node.load().unwrap().is_complete());
        let pin = node.pins.join(format!("{}-egress", node.pods[1].interface().index().unwrap()));
        std::fs::remove_file(&pin).unwrap();
        std::fs::create_dir(&pin).unwrap();
        let id = node.pods[1].id();
        node.bindings.unbind(&id);
        node.apply(policy(&[8080]));
        assert!(node.update().unwrap().is_complete());
        let desired = DesiredState::new(node.compiler.snapshot(), &node.bindings);
        for _ in 0..2 {
            assert!(node.plane.maintain(desired).is_err());
        }
        std::fs::remove_dir(&pin).unwrap();
        assert!(node.plane.maintain(desired).unwrap().applied.is_complete());
        assert_eq!(node.open(), [true, true]);
        node.plane.remove().unwrap();
    });
}

/// The program at sockets is put back as well, and counts among what was repaired.
#[test]
fn the_socket_guard_is_put_back() {
    on_a_node(1, |mut node| {
        let folder = node.pins.with_file_name("").with_extension("cgroup");
        std::fs::create_dir_all(&folder).unwrap();
        let none: Option<&str> = None;
        mount(Some("none"), &folder, Some("cgroup2"), MsFlags::empty(), none).unwrap();
        let group = folder.join(format!("portcullis-{}", nix::unistd::gettid()));
        std::fs::create_dir(&group).unwrap();
        let services = DataplaneOptions::new().with_services("10.96.0.0/12".parse().unwrap());
        node.reopen(Options::from(services).with_node_backends(NodeBackends::GuardedAt(group.clone())));
        assert!(node.load().unwrap().is_complete());
        let guards = |node: &Node| {
            let names = std::fs::read_dir(&node.pins).unwrap().map(|entry| entry.unwrap().path());
            names.filter(|path| path.to_string_lossy().contains("/to_node-")).collect::<Vec<_>>()
        };
        let [guard] = &guards(&node)[..] else { panic!("{:?}", guards(&node)) };
        std::fs::remove_file(guard).unwrap();
        let desired = DesiredState::new(node.compiler.snapshot(), &node.bindings);
        assert_eq!(node.plane.maintain(desired).unwrap().repaired, ["socket guard"]);
        assert_eq!(guards(&node).len(), 1);
        assert_eq!(node.plane.maintain(desired).unwrap().repaired, [""; 0]);
        node.plane.remove().unwrap();
        std::fs::remove_dir(&group).unwrap();
        umount(&folder).unwrap();
        std::fs::remove_dir(&folder).unwrap();
    });
}

/// A load that fails on its way leaves what an earlier one of this process brought in force.
#[test]
fn a_load_that_fails_leaves_what_was_in_force() {
    on_a_node(2, |mut node| {
        node.apply(policy(&[80]));
        assert!(node.load().unwrap().is_complete());
        // A mark that is no folder cannot be taken away, which is found after the new programs are attached.
        let obstacle = node.pins.join("77-ingress");
        std::fs::create_dir(&obstacle).unwrap();
        node.apply(policy(&[8080]));
        let error = node.load().unwrap_err();
        assert_eq!(error.kind(), DataplaneErrorKind::Refused, "{error}");
        assert_eq!(node.open(), [true, false]);
        assert!(node.update().is_err());
        assert_eq!(node.open(), [true, false]);
        std::fs::remove_dir(&obstacle).unwrap();
        assert!(node.update().unwrap().is_complete());
        assert_eq!(node.open(), [false, true]);
        node.plane.remove().unwrap();
    });
}

/// Nothing passes a closed interface; an interface that is bound is open as policy says, and one that is no more is not touched.
#[test]
fn closed_interfaces_let_nothing_pass() {
    on_a_node(2, |mut node| {
        let (first, second) = (node.pods[0].interface(), node.pods[1].interface());
        let ids = [node.pods[0].id(), node.pods[1].id()];
        node.apply(policy(&[80, 8080]));
        node.bindings.unbind(&ids[1]);
        node.bindings.close(second.clone());
        assert!(node.load().unwrap().is_complete());
        assert_eq!(node.open(), [false, false]);
        node.bindings.bind(ids[1].clone(), Binding::workload(second.clone(), [node.pods[1].address()]));
        assert!(node.update().unwrap().is_complete());
        assert_eq!(node.open(), [true, true]);
        node.bindings.unbind(&ids[0]);
        node.bindings.close(first.clone());
        assert!(node.update().unwrap().is_complete());
        assert_eq!(node.open(), [false, false]);
        node.bindings.reopen(first.name());
        assert!(node.update().unwrap().is_complete());
        assert_eq!(node.open(), [true, true]);
        node.plane.remove().unwrap();
    });
}

/// What others take off an interface is put back, whichever way it was attached.
#[test]
fn programs_that_others_took_off_are_put_back() {
    on_a_node(2, |mut node| {
        for mode in [AttachMode::Tcx, AttachMode::Clsact] {
            node.reopen(Options::new().with_attach_mode(mode));
            node.apply(policy(&[80]));
            assert!(node.load().unwrap().is_complete());
            let interface = node.pods[1].interface();
            let index = interface.index().unwrap();
            if mode == AttachMode::Clsact {
                let gone = ["qdisc", "del", "dev", interface.name(), "clsact"];
                assert!(Command::new("tc").args(gone).status().unwrap().success());
            } else {
                // The link goes with its pin.
                for direction in Direction::BOTH {
                    std::fs::remove_file(node.pins.join(format!("{index}-{}", direction.name()))).unwrap();
                }
            }
            assert_eq!(node.open(), [true, true]);
            let desired = DesiredState::new(node.compiler.snapshot(), &node.bindings);
            let health = node.plane.maintain(desired).unwrap();
            assert_eq!(health.repaired, ["veth2 ingress", "veth2 egress"]);
            assert!(health.applied.is_complete());
            assert_eq!(node.open(), [true, false]);
            assert_eq!(node.plane.maintain(desired).unwrap().repaired, [""; 0]);
        }
        node.plane.remove().unwrap();
    });
}

/// What an earlier process left is taken away by one that loaded nothing, and there is no error when there is nothing.
#[test]
fn what_an_earlier_process_left_is_removed_without_a_load() {
    on_a_node(2, |mut node| {
        node.apply(policy(&[]));
        assert!(node.load().unwrap().is_complete());
        node.reopen(Options::new());
        assert_eq!(node.open(), [false, false]);
        assert_eq!(node.update().unwrap_err().kind(), DataplaneErrorKind::NotLoaded);
        node.plane.remove().unwrap();
        assert_eq!(node.open(), [true, true]);
        assert!(!node.pins.exists());
        node.plane.remove().unwrap();
        // Without the file system of the pins, nobody can tell what is in force.
        for nowhere in [Path::new("/nowhere/at/all"), &std::env::temp_dir()] {
            let nowhere = Options::new().with_pins(nowhere);
            let error = Enforcer::open(nowhere).unwrap().remove().unwrap_err();
            assert_eq!(error.kind(), DataplaneErrorKind::Environment, "{error}");
        }
        // Also when this process made them.
        assert!(node.load().unwrap().is_complete());
        let moved = node.pins.with_file_name("moved");
        std::fs::rename(&node.pins, &moved).unwrap();
        assert_eq!(node.plane.remove().unwrap_err().kind(), DataplaneErrorKind::Environment);
        std::fs::rename(&moved, &node.pins).unwrap();
        node.plane.remove().unwrap();
    });
}

/// A number of a decision means the same until its events are read, and each retired decision is told once more. There are so
/// few numbers that they are used again at once.
#[test]
fn events_and_counts_of_retired_decisions_keep_their_meaning() {
    on_a_node(2, |mut node| {
        // As few as two policies need.
        let capacity = Capacity { decisions: 12, ..Capacity::default() };
        let shared = DataplaneOptions::new().with_events(LoggedEvents::Denied);
        node.reopen(Options::from(shared).with_capacity(capacity));
        let named = |name: &str| {
            let id = PolicyId::new("GlobalNetworkPolicy", None, name);
            let mut policy = Policy::new(id, "default", select("pod"), Directions::INGRESS);
            policy.ingress = vec![Rule::new(Action::Deny)];
            Update::Policy(policy)
        };
        let rounds: u16 = 12;
        node.apply(named("p0"));
        assert!(node.load().unwrap().is_complete());
        for round in 0..rounds {
            assert!(!node.pods[0].reaches(&node.pods[1], 100 + round));
            node.apply(Update::RemovePolicy(PolicyId::new(
                "GlobalNetworkPolicy",
                None,
                format!("p{round}").as_str(),
            )));
            node.apply(named(&format!("p{}", round + 1)));
            assert!(node.update().unwrap().is_complete());
        }
        let name_of = |decision: &portcullis_core::ir::DecisionEntry| {
            decision.cause.policy().map(|id| id.name.to_string())
        };
        for round in 0..rounds {
            let event = node.plane.next_event().unwrap().unwrap();
            assert_eq!(event.packet.destination_port, 100 + round);
            assert_eq!(event.decision.verdict, Verdict::Deny);
            assert_eq!(name_of(&event.decision), Some(format!("p{round}")));
            assert_eq!(event.interface, node.pods[1].interface().index());
        }
        assert_eq!(node.plane.next_event().unwrap(), None);
        assert_eq!(node.plane.lost_events(), 0);
        let counters = node.plane.counters().unwrap();
        for round in 0..rounds {
            let of_round = counters.iter().filter(|(decision, counter)| {
                name_of(decision) == Some(format!("p{round}")) && counter.packets > 0
            });
            let told: Vec<u64> = of_round.map(|(_, counter)| counter.packets).collect();
            assert_eq!(told, [1], "round {round}");
        }
        // Told once.
        let again = node.plane.counters().unwrap();
        assert!(again.iter().all(|(decision, _)| {
            name_of(decision).is_none_or(|name| name == format!("p{rounds}") || name == "out")
        }));
        node.plane.remove().unwrap();
    });
}

/// The descriptor of events can be waited on, and every limit says how much of it is used.
#[test]
fn events_can_be_waited_for_and_limits_say_how_full_they_are() {
    on_a_node(2, |mut node| {
        node.reopen(Options::from(DataplaneOptions::new().with_events(LoggedEvents::Denied)));
        assert_eq!(node.plane.event_fd(), None);
        node.apply(policy(&[80]));
        assert!(node.load().unwrap().is_complete());
        let is_readable = |node: &Node| {
            let running = node.plane.running.as_ref().unwrap();
            let mut fds = [PollFd::new(running.events.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
        };
        assert!(!is_readable(&node));
        assert_eq!(node.open(), [true, false]);
        assert!(is_readable(&node));
        // Taken out of the ring buffer.
        let running = node.plane.running.as_mut().unwrap();
        running.events.drain(&running.decisions);
        assert!(is_readable(&node));
        // The same descriptor goes on through a load, for events of before and of after it.
        let fd = node.plane.event_fd();
        assert!(node.load().unwrap().is_complete());
        assert_eq!(node.plane.event_fd(), fd);
        assert!(is_readable(&node));
        while node.plane.next_event().unwrap().is_some() {}
        assert!(!is_readable(&node));
        assert_eq!(node.open(), [true, false]);
        assert!(is_readable(&node));
        assert!(node.plane.next_event().unwrap().is_some());
        while node.plane.next_event().unwrap().is_some() {}
        assert!(!is_readable(&node));
        let usage = node.plane.usage().unwrap();
        let used = |name: &str| usage.iter().find(|usage| usage.name == name).unwrap().used;
        let addresses = u64::try_from(node.compiler.snapshot().addresses.len()).unwrap();
        assert_eq!((used("endpoints"), used("addresses_v4"), used("networks_v4")), (2, addresses, 0));
        assert!(used("flows_v4") >= 2 && used("programs") > 0 && used("decisions") > 0, "{usage:?}");
        assert!(usage.iter().all(|usage| usage.limit.is_some_and(|limit| usage.used <= limit)));
        node.plane.remove().unwrap();
    });
}
