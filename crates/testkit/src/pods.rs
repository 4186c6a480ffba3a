//! Pods for the tests that backends have of themselves: threads in network namespaces of their own, which answer datagrams.
//! As root only, inside a network namespace that the test made.

use alloc::boxed::Box;
use core::net::IpAddr;
use core::sync::atomic::{AtomicU16, Ordering};
use core::time::Duration;
use std::net::UdpSocket;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};

use nix::sched::{CloneFlags, unshare};
use portcullis::backend::Interface;
use portcullis::model::EndpointId;

/// The UDP ports that every pod answers at.
pub const PORTS: [u16; 2] = [80, 8080];
/// The source port of the next datagram, below those that the kernel gives out.
static NEXT_PORT: AtomicU16 = AtomicU16::new(10_000);

/// A thread in a network namespace of its own, behind the interface `veth{number}` of the node.
#[derive(Debug)]
pub struct Pod {
    jobs: Sender<Box<dyn FnOnce() + Send>>,
    /// Of its interface and its address.
    pub number: u8,
    thread: i32,
}

impl Pod {
    /// Starts one, with its interface.
    ///
    /// # Panics
    /// Like all of them, when the machine does not do as it is told.
    #[must_use]
    pub fn start(number: u8) -> Self {
        let (jobs, todo) = channel::<Box<dyn FnOnce() + Send>>();
        let (tell, told) = channel();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            tell.send(nix::unistd::gettid()).unwrap();
            todo.iter().for_each(|job| job());
        });
        let thread = told.recv().unwrap();
        let pod = Self { jobs, number, thread: thread.as_raw() };
        pod.plug("");
        let address = pod.address();
        pod.run(move || {
            ip("link set lo up");
            for port in PORTS {
                let socket = UdpSocket::bind((address, port)).unwrap();
                std::thread::spawn(move || {
                    let mut buffer = [0; 64];
                    while let Ok((count, from)) = socket.recv_from(&mut buffer) {
                        let _ = socket.send_to(&buffer[..count], from);
                    }
                });
            }
        })
        .recv()
        .unwrap();
        pod
    }

    /// Makes its interface; `more` is told to `ip link add`.
    pub fn plug(&self, more: &str) {
        self.plug_down(more);
        self.plug_up();
    }

    /// The same, and leaves it down.
    pub fn plug_down(&self, more: &str) {
        let (name, thread) = (self.name(), self.thread);
        let line = format!("link add {name} {more} type veth peer name eth0 netns {thread}");
        ip(&line.split_whitespace().collect::<Vec<_>>().join(" "));
    }

    /// Takes an interface that is there into service.
    pub fn plug_up(&self) {
        let (name, address) = (self.name(), self.address());
        ip(&format!("addr add 169.254.1.1/32 dev {name}"));
        ip(&format!("link set {name} up"));
        ip(&format!("route add {address}/32 dev {name}"));
        self.run(move || {
            ip("link set eth0 up");
            ip(&format!("addr add {address}/32 dev eth0"));
            ip("route add 169.254.1.1 dev eth0");
            ip("route add default via 169.254.1.1");
        })
        .recv()
        .unwrap();
    }

    /// The name of its interface.
    #[must_use]
    pub fn name(&self) -> String {
        format!("veth{}", self.number)
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        [10, 0, 9, self.number].into()
    }

    /// The endpoint that it is.
    #[must_use]
    pub fn id(&self) -> EndpointId {
        EndpointId::workload("shop", self.name().as_str())
    }

    /// Its interface, as it is now.
    #[must_use]
    pub fn interface(&self) -> Interface {
        let index = nix::net::if_::if_nametoindex(self.name().as_str()).unwrap();
        Interface::new(&self.name()).unwrap().with_index(index)
    }

    /// Does something inside. The result comes when it is done.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
        let (tell, told) = channel();
        self.jobs.send(Box::new(move || drop(tell.send(job())))).unwrap();
        told
    }

    /// Whether a datagram from a fresh port is answered.
    #[must_use]
    pub fn reaches(&self, other: &Self, port: u16) -> bool {
        let to = other.address();
        let ask = move || {
            // One that no probe had before, or the datagram would be of its flow.
            let socket = loop {
                if let Ok(socket) = UdpSocket::bind(("0.0.0.0", NEXT_PORT.fetch_add(1, Ordering::Relaxed))) {
                    break socket;
                }
            };
            socket.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
            socket.send_to(b"hello", (to, port)).is_ok() && socket.recv(&mut [0; 16]).is_ok()
        };
        self.run(ask).recv().unwrap()
    }
}

/// Runs `ip` with these words.
///
/// # Panics
/// When it fails.
pub fn ip(line: &str) {
    let output = Command::new("ip").args(line.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {line}: {output:?}");
}
