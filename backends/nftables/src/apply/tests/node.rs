//! Two pods, their policy, and the enforcer of their node: what `Ok` says is looked at with packets.

use core::net::IpAddr;
use core::sync::atomic::{AtomicU16, Ordering};
use core::time::Duration;
use std::net::UdpSocket;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use portcullis_core::backend::{
    Applied, Binding, Bindings, Dataplane as _, DataplaneError, DesiredState, Health, Interface,
};
use portcullis_core::compile::{CompileScope, Compiler};
use portcullis_core::label::{Labels, Scope};
use portcullis_core::model::{
    Action, Directions, Endpoint, EndpointId, EntityKinds, EntityMatch, EntitySelector, L4Match, NetworkSet,
    NetworkSetId, Policy, PolicyId, PortMatch, PortRange, Rule, Update,
};
use portcullis_core::packet::Protocol;
use portcullis_core::selector::{Expr, LabelRef};
use portcullis_core::settings::Settings;

use super::in_namespace;
use crate::Options;
use crate::apply::Enforcer;

pub(super) const PORTS: [u16; 2] = [80, 8080];
/// The source port of the next datagram, below those that the kernel gives out.
static NEXT_PORT: AtomicU16 = AtomicU16::new(10_000);

/// A thread in a network namespace of its own, behind the interface `veth{number}` of the node.
struct Pod {
    jobs: Sender<Box<dyn FnOnce() + Send>>,
    number: u8,
}

impl Pod {
    fn start(number: u8) -> Self {
        let (jobs, todo) = channel::<Box<dyn FnOnce() + Send>>();
        let (tell, told) = channel();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            tell.send(nix::unistd::gettid()).unwrap();
            todo.iter().for_each(|job| job());
        });
        let thread = told.recv().unwrap();
        let pod = Self { jobs, number };
        let (name, address) = (pod.name(), pod.address());
        ip(&format!("link add {name} type veth peer name eth0 netns {thread}"));
        ip(&format!("addr add 169.254.1.1/32 dev {name}"));
        ip(&format!("link set {name} up"));
        ip(&format!("route add {address}/32 dev {name}"));
        let inside = move || {
            ip("link set lo up");
            ip("link set eth0 up");
            ip(&format!("addr add {address}/32 dev eth0"));
            ip("route add 169.254.1.1 dev eth0");
            ip("route add default via 169.254.1.1");
            for port in PORTS {
                let socket = UdpSocket::bind((address, port)).unwrap();
                std::thread::spawn(move || {
                    let mut buffer = [0; 64];
                    while let Ok((count, from)) = socket.recv_from(&mut buffer) {
                        let _ = socket.send_to(buffer.get(..count).unwrap(), from);
                    }
                });
            }
        };
        pod.run(inside).recv().unwrap();
        pod
    }

    fn name(&self) -> String {
        format!("veth{}", self.number)
    }

    fn address(&self) -> IpAddr {
        [10, 0, 9, self.number].into()
    }

    fn id(&self) -> EndpointId {
        EndpointId::workload("shop", self.name().as_str())
    }

    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
        let (tell, told) = channel();
        self.jobs.send(Box::new(move || drop(tell.send(job())))).unwrap();
        told
    }

    /// Whether a datagram from a fresh port is answered.
    fn reaches(&self, other: &Self, port: u16) -> bool {
        let to = other.address();
        let ask = move || {
            // One that no probe had before, or the datagram would be of its flow.
            let socket = loop {
                if let Ok(socket) = UdpSocket::bind(("0.0.0.0", NEXT_PORT.fetch_add(1, Ordering::Relaxed))) {
                    break socket;
                }
            };
            socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            socket.send_to(b"hello", (to, port)).is_ok() && socket.recv(&mut [0; 16]).is_ok()
        };
        self.run(ask).recv().unwrap()
    }
}

pub(super) fn ip(line: &str) {
    let output = Command::new("ip").args(line.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {line}: {output:?}");
}

pub(super) struct Node {
    pods: [Pod; 2],
    compiler: Compiler,
    pub(super) bindings: Bindings,
    pub(super) enforcer: Enforcer,
}

/// Runs `test` on a node.
pub(super) fn on_a_node(test: impl FnOnce(Node) + Send + 'static) {
    in_namespace(|| {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        ip("link set lo up");
        let pods = [Pod::start(1), Pod::start(2)];
        assert!((0..5).any(|_| pods[0].reaches(&pods[1], 80)), "the test of the test: all is open");
        let compiler = Compiler::new(Settings::default(), CompileScope::All);
        let enforcer = Enforcer::open(Options::new()).unwrap();
        let mut node = Node { pods, compiler, bindings: Bindings::new(), enforcer };
        let pods =
            node.pods.each_ref().map(|pod| (pod.id(), Interface::new(&pod.name()).unwrap(), pod.address()));
        for (id, interface, address) in pods {
            node.bindings.bind(id.clone(), Binding::workload(interface, [address]));
            let mut endpoint = Endpoint::new(id);
            endpoint.labels = labels("pod");
            endpoint.addresses = vec![address];
            node.apply(Update::Endpoint(endpoint));
        }
        // What each sends passes.
        let id = PolicyId::new("GlobalNetworkPolicy", None, "out");
        let mut out = Policy::new(id, "default", select("pod"), Directions::EGRESS);
        out.egress = vec![Rule::new(Action::Allow)];
        node.apply(Update::Policy(out));
        test(node);
    });
}

impl Node {
    fn apply(&mut self, update: Update) {
        self.compiler.apply(update).unwrap();
    }

    /// What may come in at pods from now on: UDP to this port, but from no address of a set that changes each time, so that
    /// objects of every kind are written.
    pub(super) fn allow(&mut self, port: u16) {
        let id = PolicyId::new("GlobalNetworkPolicy", None, "pods");
        let mut policy = Policy::new(id, "default", select("pod"), Directions::INGRESS);
        let mut from_set = Rule::new(Action::Deny);
        from_set.peers = vec![EntityMatch::select(select("set"))];
        let mut to_port = Rule::new(Action::Allow);
        to_port.l4 = vec![L4Match {
            protocol: Some(Protocol::UDP),
            destination_ports: [port, 9_001, 9_003]
                .map(|port| PortMatch::Range(PortRange::single(port)))
                .into(),
            ..L4Match::default()
        }];
        policy.ingress = vec![from_set, to_port];
        self.apply(Update::Policy(policy));
        let number = NEXT_PORT.fetch_add(1, Ordering::Relaxed) % 200;
        self.apply(Update::NetworkSet(NetworkSet {
            id: NetworkSetId { namespace: None, name: "set".into() },
            labels: labels("set"),
            nets: [format!("10.8.{number}.0/24"), format!("10.10.{number}.7/32")]
                .map(|net| net.parse().unwrap())
                .into(),
        }));
    }

    pub(super) fn load(&mut self) -> Result<Applied, DataplaneError> {
        let _ = self.compiler.commit();
        self.enforcer.load(DesiredState::new(self.compiler.snapshot(), &self.bindings))
    }

    pub(super) fn update(&mut self) -> Result<Applied, DataplaneError> {
        let delta = self.compiler.commit();
        self.enforcer.update(DesiredState::new(self.compiler.snapshot(), &self.bindings), &delta)
    }

    pub(super) fn maintain(&mut self) -> Result<Health, DataplaneError> {
        self.enforcer.maintain(DesiredState::new(self.compiler.snapshot(), &self.bindings))
    }

    /// Which port of the second pod the first reaches, if exactly one.
    pub(super) fn open_port(&self) -> Option<u16> {
        // The machine is busy.
        let open: Vec<u16> = PORTS
            .into_iter()
            .filter(|port| (0..3).any(|_| self.pods[0].reaches(&self.pods[1], *port)))
            .collect();
        <[u16; 1]>::try_from(open).ok().map(|[port]| port)
    }

    /// Whether `maintain` has something to do.
    pub(super) fn is_told(&self) -> bool {
        assert_eq!(self.enforcer.change_fd(), Some(self.enforcer.watched().fd()));
        let mut fds = [PollFd::new(self.enforcer.watched().as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
    }
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
