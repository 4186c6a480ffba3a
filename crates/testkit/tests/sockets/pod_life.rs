//! The interface of a workload from its creation to its removal, with packets all the time: what nobody bound passes nothing.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use portcullis::backend::{Binding, Dataplane, DataplaneOptions, DesiredState, Interface};
use portcullis::ir::Delta;

use crate::backends::{Variants, bind, complete, interface, on_every_node};
use crate::node::{Pod, ip};
use crate::{PODS, compiled};

const PORT: u16 = 7_000;
/// The source ports of the node's own end.
const OF_NODE: u16 = 7_001;

/// Datagrams every few milliseconds between two pods and between a pod and the node, in both directions.
struct Flood {
    ends: Arc<AtomicBool>,
    arrived: Arc<AtomicUsize>,
}

impl Flood {
    /// Between `pods`, and between the second of them and the node, which is this thread's namespace.
    fn start(pods: [&Pod; 2]) -> Self {
        let flood = Self { ends: Arc::default(), arrived: Arc::default() };
        let node = "169.254.1.1".parse().unwrap();
        let ways = [
            (Some(pods[0]), PORT, pods[1].addresses[0], PORT),
            (Some(pods[1]), PORT, pods[0].addresses[0], PORT),
            (Some(pods[1]), OF_NODE, node, OF_NODE),
            (None, OF_NODE, pods[1].addresses[0], OF_NODE),
        ];
        for (pod, own, to, port) in ways {
            let (ends, arrived) = (Arc::clone(&flood.ends), Arc::clone(&flood.arrived));
            let start = move || {
                let socket = UdpSocket::bind(("0.0.0.0", own)).unwrap();
                socket.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
                std::thread::spawn(move || {
                    while !ends.load(Ordering::Relaxed) {
                        let _ = socket.send_to(b"x", (to, port));
                        arrived.fetch_add(usize::from(socket.recv(&mut [0; 8]).is_ok()), Ordering::Relaxed);
                    }
                });
            };
            match pod {
                Some(pod) => pod.run(start).recv().unwrap(),
                None => start(),
            }
        }
        flood
    }

    /// How many arrived since the last call, after some time for those that are on their way.
    fn arrived(&self) -> usize {
        std::thread::sleep(Duration::from_millis(80));
        self.arrived.swap(0, Ordering::Relaxed)
    }

    /// Whether something arrives. What was closed takes a moment until neighbours are found again.
    fn flows(&self) -> bool {
        (0..80).any(|_| self.arrived() > 0)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

fn create(pod: &Pod) {
    ip(&format!("link add {} type veth peer name eth0 netns {}\n", pod.interface, pod.thread));
}

fn bring_up(pod: &Pod) {
    let (name, v4) = (pod.interface.as_str(), pod.addresses[0]);
    ip(&format!("addr add 169.254.1.1/32 dev {name}\nlink set {name} up\nroute add {v4}/32 dev {name}\n"));
    let inside = move || {
        ip(&format!(
            "link set eth0 up\naddr add {v4}/32 dev eth0\nroute add 169.254.1.1 dev eth0\n\
             route add default via 169.254.1.1\n"
        ));
    };
    pod.run(inside).recv().unwrap();
}

#[test]
fn a_workload_s_interface_passes_nothing_until_it_is_bound() {
    on_every_node(2, Variants::AttachModes, |under, pods| {
        let (compiler, ids) = compiled(PODS, pods);
        let mut bindings = bind(&pods[..1], &ids[..1]);
        let options = DataplaneOptions::new().with_workload_interfaces(Interface::new("cali").unwrap());
        let same = Delta {
            from: compiler.snapshot().generation,
            to: compiler.snapshot().generation,
            ..Delta::default()
        };
        let flood = Flood::start([&pods[0], &pods[1]]);
        assert!(flood.flows(), "the test of the test");
        let mut dataplane = under.load(options, &compiler, &bindings);
        // What an agent does that waits for the descriptor.
        let look = |dataplane: &mut dyn Dataplane, bindings: &_| {
            let health = dataplane.maintain(DesiredState::new(compiler.snapshot(), bindings)).unwrap();
            complete(&health.applied);
        };
        let update = |dataplane: &mut dyn Dataplane, bindings: &_| {
            complete(&dataplane.update(DesiredState::new(compiler.snapshot(), bindings), &same).unwrap());
        };
        let is_closed = |when: &str| {
            let _ = flood.arrived();
            assert_eq!(flood.arrived(), 0, "{when}");
        };
        is_closed("it was there before the load");
        for round in 0..3 {
            let bound = Binding::workload(interface(&pods[1].interface), [pods[1].addresses[0]]);
            bindings.bind(ids[1].clone(), bound);
            update(&mut *dataplane, &bindings);
            assert!(flood.flows(), "it is bound");
            let _ = bindings.unbind(&ids[1]);
            if round == 0 {
                bindings.close(interface(&pods[1].interface));
            }
            update(&mut *dataplane, &bindings);
            is_closed("it is not bound any more");
            let _ = bindings.reopen(&pods[1].interface);
            ip(&format!("link del {}\n", pods[1].interface));
            look(&mut *dataplane, &bindings);
            create(&pods[1]);
            // In the third round, nobody looks before it is up.
            match round {
                0 => look(&mut *dataplane, &bindings),
                1 => update(&mut *dataplane, &bindings),
                _ => {}
            }
            bring_up(&pods[1]);
            if round == 2 {
                look(&mut *dataplane, &bindings);
                let passed = flood.arrived();
                // Those of interfaces that eBPF has not seen yet pass: an agent looks before it brings them up.
                assert!(passed == 0 || under.backend.name() == "ebpf", "{passed}");
            }
            assert_eq!(flood.arrived(), 0, "it was made anew in round {round}");
        }
        dataplane.remove().unwrap();
        assert!(flood.flows());
    });
}

/// Whether a socket has something to read, which stays there.
fn is_readable(fd: core::ffi::c_int) -> bool {
    recv(fd, &mut [0; 32], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) != Err(Errno::EAGAIN)
}

/// The descriptor says that there is something to do when an interface comes or goes, and nothing once that is done.
#[test]
fn an_agent_is_woken_when_an_interface_comes_or_goes() {
    on_every_node(1, Variants::AttachModes, |under, pods| {
        let (compiler, ids) = compiled(PODS, pods);
        let bindings = bind(pods, &ids[..1]);
        let options = DataplaneOptions::new().with_workload_interfaces(Interface::new("cali").unwrap());
        let mut dataplane = under.open(options);
        assert_eq!(dataplane.change_fd(), None);
        complete(&dataplane.load(DesiredState::new(compiler.snapshot(), &bindings)).unwrap());
        if under.backend.name() != "ebpf" {
            return;
        }
        let fd = dataplane.change_fd().unwrap();
        let mut settle = || {
            // What the dataplane does is told as well.
            for _ in 0..3 {
                let _ = dataplane.maintain(DesiredState::new(compiler.snapshot(), &bindings)).unwrap();
            }
            dataplane.change_fd().unwrap()
        };
        assert_eq!(settle(), fd);
        for line in ["link add cali9 type veth peer name other9\n", "link del cali9\n"] {
            assert!(!is_readable(fd));
            ip(line);
            assert!(is_readable(fd), "{line}");
            settle();
        }
        assert!(!is_readable(fd));
        dataplane.remove().unwrap();
    });
}
