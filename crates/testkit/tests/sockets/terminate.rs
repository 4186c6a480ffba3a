//! Exactly the flows end that policy denies by now; all others go on.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use portcullis::backend::{Bindings, Dataplane, DataplaneOptions, DesiredState, NewlyDenied};
use portcullis::compile::{CompileScope, Compiler};
use portcullis::ir::{Delta, Interpreter, Snapshot};
use portcullis::label::Labels;
use portcullis::model::{
    Action, Cluster, Endpoint, EndpointId, EndpointKind, Profile, ProfileOrigin, Rule, Update,
};
use portcullis::packet::{Packet, Protocol};
use portcullis::settings::Settings;
use portcullis::verdict::{Hook, Verdict};
use portcullis_testkit::generate::Generator;

use crate::backends::{Variants, bind, complete, on_every_node};
use crate::node::{Pod, carries, connect, tcp};
use crate::policies::probes;
use crate::services::{BACKENDS, small_kube_proxy};
use crate::{PODS, SHUT, compiled, place, tighten};

/// Ends the flows that the last commit newly denies, which `options` are in force. How many entries these were.
pub(crate) fn terminate(
    dataplane: &mut dyn Dataplane,
    compiler: &Compiler,
    bindings: &Bindings,
    options: &DataplaneOptions,
) -> usize {
    let node = portcullis::backends::node_interfaces().unwrap();
    let desired = DesiredState::new(compiler.snapshot(), bindings);
    let denied = NewlyDenied::new(compiler.previous(), desired, options, &node);
    dataplane.terminate(&|flow| denied.contains(flow)).unwrap()
}

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
        let _ = changing.change(6);
        changing
    }

    fn apply(&mut self, update: Update) {
        self.cluster.apply(update.clone());
        self.compiler.apply(update).unwrap();
    }

    /// So many changes of everything but who the pods are.
    fn change(&mut self, count: u64) -> Delta {
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
        self.compiler.commit()
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
fn exactly_the_flows_that_policy_denies_by_now_are_terminated() {
    on_every_node(3, Variants::Default, |under, pods| {
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
            let delta = changing.change(count);
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
            let options = DataplaneOptions::new();
            let mut dataplane = under.open(options.clone());
            complete(&dataplane.load(DesiredState::new(&old, &bindings)).unwrap());
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
            complete(&dataplane.update(DesiredState::new(new, &bindings), &delta).unwrap());
            assert_eq!(going_on(&mut flows), all, "seed {seed}, not terminated yet");
            settle();
            entries += terminate(&mut *dataplane, &changing.compiler, &bindings, &options);
            let after = going_on(&mut flows);
            for ((packet, _), goes_on) in flows.iter().zip(&after) {
                assert_eq!(*goes_on, stays(packet), "seed {seed}: {packet:?}");
            }
            established += flows.len();
            stopped += after.iter().filter(|goes_on| !**goes_on).count();
            // Nothing is left to do.
            assert_eq!(terminate(&mut *dataplane, &changing.compiler, &bindings, &options), 0, "seed {seed}");
            dataplane.remove().unwrap();
        }
        eprintln!(
            "{under}: {tightenings} tightenings of {seed}: {established} flows, {stopped} stopped, by {entries} entries of tables; the others went on"
        );
        assert!(entries >= stopped);
    });
}

/// The flows that the old policy allows and the new one denies stop, whoever sends; others go on.
#[test]
fn flows_that_policy_denies_now_are_terminated() {
    on_every_node(2, Variants::Default, |under, pods| {
        let (mut compiler, ids) = compiled(PODS, pods);
        let (bindings, options) = (bind(pods, &ids), DataplaneOptions::new());
        let mut dataplane = under.load(options.clone(), &compiler, &bindings);
        let (client, server) = (&pods[0], &pods[1]);
        let to = server.addresses;
        let back = client.addresses;
        let mut ended = client.run(move || to.map(|to| connect(to, 80))).recv().unwrap();
        let mut kept = server.run(move || back.map(|back| connect(back, 8080))).recv().unwrap();
        let datagrams = client.run(move || associate(to[0])).recv().unwrap();
        let delta = tighten(&mut compiler, SHUT);
        complete(&dataplane.update(DesiredState::new(compiler.snapshot(), &bindings), &delta).unwrap());
        assert!(ended.iter_mut().chain(&mut kept).all(carries) && is_answered(&datagrams));
        settle();
        // Two connections and the datagrams: one entry each.
        assert_eq!(terminate(&mut *dataplane, &compiler, &bindings, &options), 3);
        assert!(ended.iter_mut().all(|flow| !carries(flow)) && !is_answered(&datagrams));
        assert!(kept.iter_mut().all(carries));
        assert_eq!(terminate(&mut *dataplane, &compiler, &bindings, &options), 0);
        // What the server sends is allowed, and does not bring back what it answers to.
        assert!(ended.iter_mut().all(|flow| !carries(flow)));
        // Over a restart.
        drop(dataplane);
        let mut dataplane = under.load(options, &compiler, &bindings);
        assert!(ended.iter_mut().all(|flow| !carries(flow)) && kept.iter_mut().all(carries));
        let (open, _) = compiled(PODS, pods);
        complete(&dataplane.load(DesiredState::new(open.snapshot(), &bindings)).unwrap());
        assert!(client.run(move || tcp(to[0], 80)).recv().unwrap());
        dataplane.remove().unwrap();
    });
}

/// What the server sends and sends does not bring the flow back.
#[test]
fn a_download_that_policy_denies_now_is_terminated() {
    on_every_node(2, Variants::Default, |under, pods| {
        let (mut compiler, ids) = compiled(PODS, pods);
        let (bindings, options) = (bind(pods, &ids), DataplaneOptions::new());
        let mut dataplane = under.load(options.clone(), &compiler, &bindings);
        let mut download = download(&pods[0], &pods[1]);
        let delta = tighten(&mut compiler, SHUT);
        complete(&dataplane.update(DesiredState::new(compiler.snapshot(), &bindings), &delta).unwrap());
        assert!(flows_on(&mut download));
        assert_eq!(terminate(&mut *dataplane, &compiler, &bindings, &options), 1);
        assert!(!flows_on(&mut download), "the server's own packets brought the flow back");
        dataplane.remove().unwrap();
    });
}

/// Until what was received is acknowledged. What was not is sent again by the other end, and where connection tracking
/// forgot the flow, it takes that for the beginning of another.
pub(crate) fn settle() {
    std::thread::sleep(Duration::from_millis(300));
}

/// A UDP socket whose peer has answered once.
fn associate(to: IpAddr) -> UdpSocket {
    let socket = UdpSocket::bind((IpAddr::from([0, 0, 0, 0]), 0)).unwrap();
    socket.connect((to, 80)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
    assert!(is_answered(&socket));
    socket
}

fn is_answered(socket: &UdpSocket) -> bool {
    socket.send(b"hello").is_ok() && socket.recv(&mut [0; 16]).is_ok()
}

/// A connection on which the server sends and sends.
fn download(client: &Pod, server: &Pod) -> TcpStream {
    let to = server.addresses[0];
    let serve = move || {
        let listener = TcpListener::bind((to, 9_000)).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(&[0; 1_400]).is_ok() {
                std::thread::sleep(Duration::from_micros(200));
            }
        });
    };
    server.run(serve).recv().unwrap();
    client.run(move || connect(to, 9_000)).recv().unwrap()
}

/// Whether more comes than can have been on its way: the window fills when nothing is acknowledged.
fn flows_on(download: &mut TcpStream) -> bool {
    let mut buffer = vec![0; 1 << 16];
    let deadline = std::time::Instant::now() + Duration::from_secs(3);
    while std::time::Instant::now() < deadline {
        if !download.read(&mut buffer).is_ok_and(|count| count > 0) {
            return false;
        }
    }
    true
}

/// Through a service and source NAT.
#[test]
fn flows_through_services_are_terminated() {
    on_every_node(3, Variants::Default, |under, pods| {
        let (mut compiler, ids) = compiled(BACKENDS, pods);
        let bindings = bind(pods, &ids);
        small_kube_proxy();
        let options = crate::backends::with_services();
        let mut dataplane = under.load(options.clone(), &compiler, &bindings);
        let service: IpAddr = [10, 96, 0, 10].into();
        let mut flow = pods[0].run(move || connect(service, 8888)).recv().unwrap();
        let vault = pods[2].addresses[0];
        let mut other = pods[1].run(move || connect(vault, 8080)).recv().unwrap();
        assert!(carries(&mut flow) && carries(&mut other));
        let delta = tighten(&mut compiler, CLIENT_SHUT);
        complete(&dataplane.update(DesiredState::new(compiler.snapshot(), &bindings), &delta).unwrap());
        assert!(carries(&mut flow) && carries(&mut other));
        settle();
        assert_eq!(terminate(&mut *dataplane, &compiler, &bindings, &options), 1);
        assert!(!carries(&mut flow) && carries(&mut other));
        dataplane.remove().unwrap();
    });
}

/// The client of [`BACKENDS`] may reach nobody.
const CLIENT_SHUT: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: client, namespace: shop}
spec: {podSelector: {matchLabels: {app: client}}, policyTypes: [Egress], egress: []}
";
