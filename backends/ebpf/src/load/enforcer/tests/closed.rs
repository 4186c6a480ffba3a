//! Interfaces of workloads that nobody bound: nothing passes them, whenever they come.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;

/// Sends a datagram every few milliseconds, in both directions, and counts what arrives at either end.
struct Flood {
    ends: Arc<AtomicBool>,
    arrived: Arc<AtomicUsize>,
}

impl Flood {
    const PORT: u16 = 7_000;

    fn start(pods: [&Pod; 2]) -> Self {
        let flood = Self { ends: Arc::default(), arrived: Arc::default() };
        for (pod, other) in [(pods[0], pods[1]), (pods[1], pods[0])] {
            let (ends, arrived) = (Arc::clone(&flood.ends), Arc::clone(&flood.arrived));
            let to = other.address();
            let start = move || {
                let socket = UdpSocket::bind(("0.0.0.0", Self::PORT)).unwrap();
                socket.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
                std::thread::spawn(move || {
                    while !ends.load(Ordering::Relaxed) {
                        let _ = socket.send_to(b"x", (to, Self::PORT));
                        arrived.fetch_add(usize::from(socket.recv(&mut [0; 8]).is_ok()), Ordering::Relaxed);
                    }
                });
            };
            pod.run(start).recv().unwrap();
        }
        flood
    }

    /// How much arrived since the last call, after some time for what is on its way.
    fn arrived(&self) -> usize {
        std::thread::sleep(Duration::from_millis(60));
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

#[test]
fn an_interface_of_a_workload_is_closed_from_its_creation_to_its_removal() {
    on_a_node(3, |mut node| {
        let flood = Flood::start([&node.pods[0], &node.pods[2]]);
        for mode in [AttachMode::Tcx, AttachMode::Clsact] {
            let shared = DataplaneOptions::new().with_workload_interfaces(Interface::new("veth").unwrap());
            node.reopen(Options::from(shared).with_attach_mode(mode));
            assert_eq!(node.plane.change_fd(), None);
            node.apply(policy(&[80, Flood::PORT]));
            // It is there before the load.
            let last = node.pods[2].id();
            let bound = node.bindings.unbind(&last).unwrap();
            assert!(flood.flows(), "the test of the test");
            assert!(node.load().unwrap().is_complete());
            let _ = flood.arrived();
            assert_eq!(flood.arrived(), 0);
            assert!(node.plane.change_fd().is_some());
            // Bound, and not any more.
            node.bindings.bind(last.clone(), bound.clone());
            assert!(node.update().unwrap().is_complete());
            assert!(flood.flows());
            let _ = node.bindings.unbind(&last);
            assert!(node.update().unwrap().is_complete());
            let _ = flood.arrived();
            assert_eq!(flood.arrived(), 0);
            // It goes and comes: the agent is woken, and looks.
            let _ = node.maintain().unwrap();
            assert!(!node.is_told());
            ip("link del veth3");
            assert!(node.is_told());
            assert!(node.maintain().unwrap().applied.is_complete());
            assert!(!node.is_told());
            node.pods[2].plug_down("");
            assert!(node.is_told());
            assert!(node.maintain().unwrap().applied.is_complete());
            node.pods[2].plug_up();
            assert_eq!(flood.arrived(), 0);
            ip("link del veth3");
            node.pods[2].plug_down("");
            // An update sees it as well.
            assert!(node.update().unwrap().is_complete());
            node.pods[2].plug_up();
            assert_eq!(flood.arrived(), 0);
            let bound = Binding::workload(node.pods[2].interface(), [node.pods[2].address()]);
            node.bindings.bind(last, bound);
            assert!(node.update().unwrap().is_complete());
            assert!(flood.flows());
        }
        node.plane.remove().unwrap();
    });
}
