//! Exactly the flows are cut that policy denies by now: random policies, changed at random, under open connections.

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use portcullis::compile::{CompileScope, Compiler};
use portcullis::ir::{Interpreter, Snapshot};
use portcullis::label::Labels;
use portcullis::model::{
    Action, Cluster, Endpoint, EndpointId, EndpointKind, Profile, ProfileOrigin, Rule, Update,
};
use portcullis::packet::{Packet, Protocol};
use portcullis::settings::Settings;
use portcullis::verdict::{Hook, Verdict};
use portcullis_testkit::generate::Generator;

use crate::ebpf::{bind, on_a_node_with_bpf, options, remove, start_enforcer};
use crate::foreign::leftovers;
use crate::node::{Pod, carries, connect};
use crate::{place, probes};

/// A cluster whose endpoints are the pods, and what compiles it.
struct Changing {
    generator: Generator,
    cluster: Cluster,
    compiler: Compiler,
    ids: Vec<EndpointId>,
    /// The same, in any order.
    others: Vec<EndpointId>,
}

impl Changing {
    fn new(seed: u64, pods: &[Pod]) -> Self {
        let mut generator = Generator::new(seed);
        let mut endpoints: Vec<Endpoint> = Vec::new();
        while endpoints.len() < pods.len() {
            if let Update::Endpoint(endpoint) = generator.object()
                && endpoint.id.kind == EndpointKind::Workload
                && endpoints.iter().all(|other| other.id != endpoint.id)
            {
                endpoints.push(endpoint);
            }
        }
        endpoints.sort_by(|a, b| a.id.cmp(&b.id));
        let ids: Vec<EndpointId> = endpoints.iter().map(|endpoint| endpoint.id.clone()).collect();
        let compiler = Compiler::new(Settings::default(), CompileScope::All);
        let mut changing = Self { generator, cluster: Cluster::new(), compiler, others: ids.clone(), ids };
        // Most generated profiles deny everything.
        let rules = vec![Rule::new(Action::Allow)];
        changing.apply(Update::Profile(Profile {
            name: "all".into(),
            ingress: rules.clone(),
            egress: rules,
            labels: Labels::new(),
            origin: ProfileOrigin::Declared,
        }));
        for (mut endpoint, pod) in endpoints.into_iter().zip(pods) {
            endpoint.profiles = vec!["all".into()];
            changing.apply(Update::Endpoint(place(endpoint, pod)));
        }
        changing.change(6);
        changing
    }

    fn apply(&mut self, update: Update) {
        self.cluster.apply(update.clone());
        self.compiler.apply(update).unwrap();
    }

    /// So many changes of everything but who the pods are.
    fn change(&mut self, count: u64) {
        let mut done = 0;
        while done < count {
            match self.generator.change(&self.cluster) {
                Update::Endpoint(with) => {
                    self.generator.shuffle(&mut self.others);
                    let mut endpoint = self.cluster.endpoints()[&self.others[0]].clone();
                    endpoint.labels = with.labels;
                    self.apply(Update::Endpoint(endpoint));
                }
                Update::RemoveEndpoint(_) | Update::Profile(_) | Update::RemoveProfile(_) => continue,
                other => self.apply(other),
            }
            done += 1;
        }
        self.compiler.commit();
    }
}

/// An open connection, or two sockets that know each other.
enum Flow {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

impl Flow {
    fn begin(packet: &Packet) -> Self {
        let (to, port) = (packet.destination, packet.destination_port);
        if packet.protocol == Protocol::TCP {
            let stream = connect(to, port);
            // Ends at once: nothing is sent again that the next round would take for a flow of its own.
            let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
            setsockopt(&stream, sockopt::Linger, &linger).unwrap();
            return Self::Tcp(stream);
        }
        let any: IpAddr = if to.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
        let socket = UdpSocket::bind((any, 0)).unwrap();
        socket.connect((to, port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
        Self::Udp(socket)
    }

    fn source(&self) -> SocketAddr {
        match self {
            Self::Tcp(stream) => stream.local_addr().unwrap(),
            Self::Udp(socket) => socket.local_addr().unwrap(),
        }
    }

    fn goes_on(&mut self) -> bool {
        match self {
            Self::Tcp(stream) => carries(stream),
            Self::Udp(socket) => socket.send(b"hello").is_ok() && socket.recv(&mut [0; 16]).is_ok(),
        }
    }
}

/// Which flows go on, all asked at once.
fn going_on(flows: &mut [(Packet, Flow)]) -> Vec<bool> {
    std::thread::scope(|scope| {
        let asked: Vec<_> = flows.iter_mut().map(|(_, flow)| scope.spawn(|| flow.goes_on())).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    })
}

/// Whether each end of a flow allows it: the sender, then the receiver.
fn allowed(snapshot: &Snapshot, pods: &[Pod], ids: &[EndpointId], packet: &Packet) -> [bool; 2] {
    let interpreter = Interpreter::new(snapshot);
    let ends = [(packet.source, Hook::WorkloadEgress), (packet.destination, Hook::WorkloadIngress)];
    ends.map(|(address, hook)| {
        let at = pods.iter().position(|pod| pod.addresses.contains(&address)).unwrap();
        matches!(interpreter.decide(&ids[at], hook, packet).verdict, Verdict::Allow | Verdict::Continue)
    })
}

#[test]
fn exactly_the_flows_that_policy_denies_by_now_are_cut() {
    on_a_node_with_bpf(3, |pods, pins| {
        let rounds = std::env::var("PORTCULLIS_ROUNDS").map_or(12, |rounds| rounds.parse().unwrap());
        let (mut tightenings, mut established, mut stopped, mut entries) = (0, 0, 0, 0);
        let mut seed = 0;
        while tightenings < rounds {
            seed += 1;
            let mut changing = Changing::new(seed, pods);
            let old = changing.compiler.snapshot().clone();
            let begun: Vec<(usize, Packet)> = probes(pods, &changing.ids, &changing.cluster)
                .into_iter()
                .filter_map(|(from, packet, allowed)| allowed.then_some((from, packet)))
                .collect();
            let count = 1 + changing.generator.below(3);
            changing.change(count);
            let new = changing.compiler.snapshot();
            let ids = &changing.ids;
            let stays = |packet: &Packet| allowed(new, pods, ids, packet) == [true; 2];
            // Where all flows end or none does, there is little to see.
            let staying = begun.iter().filter(|(_, packet)| stays(packet)).count();
            if staying == 0 || staying == begun.len() {
                continue;
            }
            tightenings += 1;
            let bindings = bind(pods, ids);
            drop(start_enforcer(options(), pins, &old, &bindings).unwrap());
            let begin = |(from, packet): (usize, Packet)| {
                let flow = pods[from].run({
                    let packet = packet.clone();
                    move || Flow::begin(&packet)
                });
                let flow = flow.recv().unwrap();
                (packet.from_port(flow.source().port()), flow)
            };
            let mut flows: Vec<(Packet, Flow)> = begun.into_iter().map(begin).collect();
            let all = vec![true; flows.len()];
            assert_eq!(going_on(&mut flows), all, "seed {seed}, old policy");
            let mut enforcer = start_enforcer(options(), pins, new, &bindings).unwrap();
            assert_eq!(going_on(&mut flows), all, "seed {seed}, not cut yet");
            let ends = |snapshot, packet| allowed(snapshot, pods, ids, packet);
            let expected: usize = flows
                .iter()
                .map(|(packet, _)| {
                    let (before, after) = (ends(&old, packet), ends(new, packet));
                    before.iter().zip(after).filter(|(before, after)| **before && !after).count()
                })
                .sum();
            assert_eq!(enforcer.cut_tightened(&old, new).unwrap(), expected, "seed {seed}");
            let after = going_on(&mut flows);
            for ((packet, _), goes_on) in flows.iter().zip(&after) {
                assert_eq!(*goes_on, stays(packet), "seed {seed}: {packet:?}");
            }
            established += flows.len();
            stopped += after.iter().filter(|goes_on| !**goes_on).count();
            entries += expected;
            remove(enforcer);
            assert_eq!(leftovers(pods), Vec::<String>::new());
        }
        eprintln!(
            "{tightenings} tightenings of {seed}: {established} flows, {stopped} stopped, by {entries} entries cut; the others went on"
        );
    });
}
