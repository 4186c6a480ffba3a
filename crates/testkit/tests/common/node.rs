//! A node with pods behind veth pairs: network namespaces of threads, which end with them.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

type Job = Box<dyn FnOnce() + Send>;

/// How long a packet may take from pod to pod before it counts as dropped. `PORTCULLIS_PATIENCE_MS` is for slow machines.
pub(crate) fn patience() -> Duration {
    let milliseconds = std::env::var("PORTCULLIS_PATIENCE_MS").map_or(400, |value| value.parse().unwrap());
    Duration::from_millis(milliseconds)
}

/// The ports that every pod serves, with TCP and with UDP.
pub(crate) const PORTS: [u16; 2] = [80, 8080];

/// The source port of the next datagram, below those that the kernel gives out.
static NEXT_PORT: AtomicU16 = AtomicU16::new(10_000);

/// A thread in a namespace of its own.
pub(crate) struct Pod {
    jobs: Sender<Job>,
    /// The thread that holds its namespace.
    pub(crate) thread: i32,
    /// The host's end of its interface.
    pub(crate) interface: String,
    /// Its addresses.
    pub(crate) addresses: [IpAddr; 2],
}

impl Pod {
    fn start(number: usize) -> Self {
        let addresses = [format!("10.0.9.{}", 10 + number), format!("fd00:9::{}", 10 + number)];
        Self::open(format!("cali{number}"), addresses.map(|text| text.parse().unwrap()))
    }

    /// A namespace without any interface yet.
    pub(crate) fn open(interface: String, addresses: [IpAddr; 2]) -> Self {
        let (jobs, todo) = channel::<Job>();
        let (tell, told) = channel();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            tell.send(nix::unistd::gettid().as_raw()).unwrap();
            todo.iter().for_each(|job| job());
        });
        let thread = told.recv().unwrap();
        Self { jobs, thread, interface, addresses }
    }

    /// Runs `job` in the pod, and gives a way to wait for its result.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> std::sync::mpsc::Receiver<T> {
        let (tell, told) = channel();
        self.jobs.send(Box::new(move || drop(tell.send(job())))).unwrap();
        told
    }

    /// The same, beside other jobs.
    pub(crate) fn beside<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> std::sync::mpsc::Receiver<T> {
        let (tell, told) = channel();
        let job = move || drop(tell.send(job()));
        self.jobs.send(Box::new(|| drop(std::thread::spawn(job)))).unwrap();
        told
    }
}

/// Makes the calling thread's namespace the node, with so many pods that serve [`PORTS`].
pub(crate) fn node(pods: usize) -> Vec<Pod> {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    for name in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        std::fs::write(format!("/proc/sys/{name}"), "1").unwrap();
    }
    for name in ["accept_dad", "accept_ra"] {
        std::fs::write(format!("/proc/sys/net/ipv6/conf/default/{name}"), "0").unwrap();
    }
    ip("link set lo up\n");
    let pods: Vec<Pod> = (0..pods).map(Pod::start).collect();
    for pod in &pods {
        let (Pod { interface, thread, .. }, [v4, v6]) = (pod, pod.addresses);
        ip(&format!(
            "link add {interface} type veth peer name eth0 netns {thread}\naddr add 169.254.1.1/32 dev {interface}\n\
             link set {interface} up\naddr add fe80::1/64 dev {interface} nodad\n\
             route add {v4}/32 dev {interface}\nroute add {v6}/128 dev {interface}\n"
        ));
        let inside = move || {
            ip(&format!(
                "link set lo up\nlink set eth0 up\naddr add {v4}/32 dev eth0\naddr add {v6}/128 dev eth0 nodad\n\
                 route add 169.254.1.1 dev eth0\nroute add default via 169.254.1.1\n\
                 route add ::/0 via fe80::1 dev eth0\n"
            ));
            for port in PORTS {
                for address in [v4, v6] {
                    serve(SocketAddr::new(address, port));
                }
            }
        };
        pod.run(inside).recv().unwrap();
    }
    // Neighbours are found before anything is measured by its absence.
    for pod in &pods {
        for other in pods.iter().filter(|other| other.interface != pod.interface) {
            for address in other.addresses {
                let reached = || pod.run(move || udp(address, PORTS[0])).recv().unwrap();
                assert!((0..5).any(|_| reached()), "{address} cannot be reached");
            }
        }
    }
    pods
}

/// Answers TCP and UDP at `at`.
pub(crate) fn serve(at: SocketAddr) {
    let (tcp, udp) = (TcpListener::bind(at).unwrap(), UdpSocket::bind(at).unwrap());
    std::thread::spawn(move || {
        for stream in tcp.incoming().flatten() {
            std::thread::spawn(move || {
                let mut stream = stream;
                let mut reader = stream.try_clone().unwrap();
                let _ = std::io::copy(&mut reader, &mut stream);
            });
        }
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((count, from)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(&buffer[..count], from);
        }
    });
}

/// Whether a new connection comes about.
pub(crate) fn tcp(to: IpAddr, port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::new(to, port), patience()).is_ok()
}

/// Whether a datagram is answered.
pub(crate) fn udp(to: IpAddr, port: u16) -> bool {
    let any: IpAddr = if to.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
    // A port that no probe had before: the kernel would take the datagram for one of the earlier flow, which may pass.
    let socket = loop {
        if let Ok(socket) = UdpSocket::bind((any, NEXT_PORT.fetch_add(1, Ordering::Relaxed))) {
            break socket;
        }
    };
    socket.set_read_timeout(Some(patience())).unwrap();
    socket.send_to(b"hello", (to, port)).is_ok() && socket.recv(&mut [0; 16]).is_ok()
}

/// A connection that stays.
pub(crate) fn connect(to: IpAddr, port: u16) -> TcpStream {
    // It has to come about, so there is no need to hurry: on a busy machine neighbours are found at the second request.
    let stream = TcpStream::connect_timeout(&SocketAddr::new(to, port), Duration::from_secs(5)).unwrap();
    stream.set_read_timeout(Some(patience())).unwrap();
    stream
}

/// Whether a connection still carries data there and back.
pub(crate) fn carries(stream: &mut TcpStream) -> bool {
    use std::io::Read as _;
    stream.write_all(b"x").is_ok() && stream.read(&mut [0; 1]).is_ok_and(|count| count == 1)
}

/// Runs `ip` for each line.
pub(crate) fn ip(batch: &str) {
    for line in batch.lines() {
        let family = if line.contains("::") { "-6" } else { "-4" };
        let output =
            Command::new("ip").arg(family).args(line.split(' ')).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "ip {line}: {output:?}");
    }
}
