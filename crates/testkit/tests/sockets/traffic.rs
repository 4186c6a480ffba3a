//! Traffic that goes on while something is done to the enforcement, and what became of it.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use crate::node::{Pod, carries, connect, tcp};

/// From one pod to another, where policy opens port 80 for TCP and nothing else.
#[derive(Debug)]
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    moved: Arc<AtomicU64>,
    transfer: Receiver<bool>,
    connections: Receiver<(u64, u64)>,
    forbidden: Receiver<(u64, u64)>,
    datagrams: Receiver<(u64, u64)>,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Round trips of one connection. `None` when it broke off.
    pub(crate) moved: Option<u64>,
    /// New connections to the open port, and how many of them came about after a second SYN only.
    pub(crate) allowed: u64,
    pub(crate) late: u64,
    /// Connections and datagrams to the shut port that were tried, and that came about or were answered.
    pub(crate) forbidden: u64,
    pub(crate) datagrams: u64,
    pub(crate) wrong: u64,
}

impl Traffic {
    pub(crate) fn start(from: &Pod, to: IpAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let moved = Arc::new(AtomicU64::new(0));
        let going = || {
            let stop = Arc::clone(&stop);
            move || !stop.load(Ordering::Relaxed)
        };
        let transfer = {
            let (going, moved) = (going(), Arc::clone(&moved));
            from.beside(move || {
                let mut flow = connect(to, 80);
                // A packet that is lost is sent again; only a flow that stops counts.
                flow.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                while going() {
                    if !carries(&mut flow) {
                        return false;
                    }
                    moved.fetch_add(1, Ordering::Relaxed);
                }
                true
            })
        };
        let connections = {
            let going = going();
            from.beside(move || {
                let (mut allowed, mut late) = (0, 0);
                while going() {
                    let (begin, at) = (Instant::now(), SocketAddr::new(to, 80));
                    TcpStream::connect_timeout(&at, Duration::from_secs(10)).unwrap();
                    allowed += 1;
                    // The kernel sends a SYN again after a second. Listeners that are slow to accept lose some, too.
                    late += u64::from(begin.elapsed() > Duration::from_millis(950));
                    // The kernel keeps their ports for a minute, and has 28,000.
                    std::thread::sleep(Duration::from_millis(4));
                }
                (allowed, late)
            })
        };
        let forbidden = {
            let going = going();
            from.beside(move || {
                let (mut tried, mut wrong) = (0, 0);
                while going() {
                    wrong += u64::from(tcp(to, 8080));
                    tried += 1;
                }
                (tried, wrong)
            })
        };
        let datagrams = {
            let going = going();
            from.beside(move || datagrams(to, going))
        };
        Self { stop, moved, transfer, connections, forbidden, datagrams }
    }

    pub(crate) fn finish(self) -> Counts {
        self.stop.store(true, Ordering::Relaxed);
        let went_on = self.transfer.recv().unwrap();
        let (allowed, late) = self.connections.recv().unwrap();
        let (forbidden, connected) = self.forbidden.recv().unwrap();
        let (datagrams, answered) = self.datagrams.recv().unwrap();
        let moved = went_on.then(|| self.moved.load(Ordering::Relaxed));
        Counts { moved, allowed, late, forbidden, datagrams, wrong: connected + answered }
    }
}

/// Datagrams to the shut port, thousands a second: one of them meets any moment in which nothing is enforced. Those that are
/// answered are followed by many, because the flow is known then.
pub(crate) fn datagrams(to: IpAddr, going: impl Fn() -> bool) -> (u64, u64) {
    let any: IpAddr = if to.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
    let socket = UdpSocket::bind((any, 0)).unwrap();
    socket.set_nonblocking(true).unwrap();
    let (mut tried, mut answered) = (0, 0);
    while going() {
        tried += u64::from(socket.send_to(b"hello", (to, 8080)).is_ok());
        match socket.recv(&mut [0; 16]) {
            Ok(_) => answered += 1,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        std::thread::sleep(Duration::from_micros(50));
    }
    (tried, answered)
}
