//! Two pods, their policy, and the enforcer of their node: what `Ok` says is looked at with packets.

use core::sync::atomic::{AtomicU16, Ordering};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use portcullis_core::backend::{
    Applied, Binding, Bindings, Dataplane as _, DataplaneError, DesiredState, Health, Interface,
};
use portcullis_core::compile::{CompileScope, Compiler};
use portcullis_core::label::{Labels, Scope};
use portcullis_core::model::{
    Action, Directions, Endpoint, EntityKinds, EntityMatch, EntitySelector, L4Match, NetworkSet,
    NetworkSetId, Policy, PolicyId, PortMatch, PortRange, Rule, Update,
};
use portcullis_core::packet::Protocol;
use portcullis_core::selector::{Expr, LabelRef};
use portcullis_core::settings::Settings;
pub(super) use portcullis_testkit::pods::{PORTS, Pod, ip};

use super::in_namespace;
use crate::Options;
use crate::apply::Enforcer;

/// Numbers of the networks that are written, so that each change is one.
static NEXT_SET: AtomicU16 = AtomicU16::new(0);

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
        let number = NEXT_SET.fetch_add(1, Ordering::Relaxed) % 200;
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
