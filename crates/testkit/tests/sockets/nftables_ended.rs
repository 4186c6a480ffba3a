//! Flows that were ended stay ended on nftables, whoever goes on sending: connection tracking would pick them up from the other end.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind as bind_to, connect as connect_to, setsockopt,
    socket, sockopt,
};
use portcullis::backend::{Binding, Bindings, Dataplane as _, DataplaneOptions, DesiredState, Ended};
use portcullis::compile::Compiler;
use portcullis::model::EndpointId;
use portcullis::nftables::Enforcer;
use portcullis::settings::Settings;

use crate::backends::{bind, complete, in_namespaces, interface};
use crate::node::{Pod, connect, node, patience};
use crate::{PODS, SHUT, compile, compiled, tighten};

fn on_a_node(pods: usize, test: impl FnOnce(&[Pod]) + Send + 'static) {
    if portcullis_testkit::kernel_can_be_asked() {
        in_namespaces(move || test(&node(pods)));
    }
}

/// What the servers push from.
const PUSHES: u16 = 9_000;

/// Pushes to everybody who connects or sends a datagram, for ever.
fn pushes(at: IpAddr) {
    let listener = TcpListener::bind((at, PUSHES)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut stream = stream;
                while stream.write_all(&[0; 64]).is_ok() {
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
        }
    });
    let socket = UdpSocket::bind((at, PUSHES)).unwrap();
    std::thread::spawn(move || {
        let mut to = std::collections::BTreeSet::new();
        socket.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
        loop {
            if let Ok((_, from)) = socket.recv_from(&mut [0; 64]) {
                to.insert(from);
            }
            for from in &to {
                let _ = socket.send_to(b"push", from);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    });
}

/// A connection and a socket, to what pushes at `to`.
struct Flows(TcpStream, UdpSocket);

impl Flows {
    fn begin(to: IpAddr) -> Self {
        let any: IpAddr = if to.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
        let datagrams = UdpSocket::bind((any, 0)).unwrap();
        datagrams.connect((to, PUSHES)).unwrap();
        datagrams.set_read_timeout(Some(patience())).unwrap();
        datagrams.send(b"hello").unwrap();
        Self(connect(to, PUSHES), datagrams)
    }

    /// Whether data comes for a while, more than can have been on its way; for TCP and for UDP. The client keeps sending.
    fn flow(&mut self) -> [bool; 2] {
        let (mut last, mut buffer) = ([None, None], [0; 1 << 16]);
        // What waits is of before.
        self.1.set_nonblocking(true).unwrap();
        while self.1.recv(&mut buffer).is_ok() {}
        self.1.set_nonblocking(false).unwrap();
        let end = Instant::now() + Duration::from_millis(700);
        self.0.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        self.1.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        while Instant::now() < end {
            let _ = self.0.write(b"x");
            let _ = self.1.send(b"x");
            if self.0.read(&mut buffer).is_ok_and(|count| count > 0) {
                last[0] = Some(Instant::now());
            }
            if self.1.recv(&mut buffer).is_ok() {
                last[1] = Some(Instant::now());
            }
        }
        last.map(|last| last.is_some_and(|last| last > end - Duration::from_millis(300)))
    }
}

fn end(enforcer: &mut Enforcer) -> usize {
    enforcer.terminate(&|flow| flow.packet.destination_port == PUSHES).unwrap()
}

fn load(options: &DataplaneOptions, compiler: &Compiler, bindings: &Bindings) -> Enforcer {
    let mut enforcer = Enforcer::open(options.clone().into()).unwrap();
    complete(&enforcer.load(DesiredState::new(compiler.snapshot(), bindings)).unwrap());
    enforcer
}

fn update(enforcer: &mut Enforcer, compiler: &mut Compiler, bindings: &Bindings, policies: &str) {
    let delta = tighten(compiler, policies);
    complete(&enforcer.update(DesiredState::new(compiler.snapshot(), bindings), &delta).unwrap());
}

#[test]
fn a_server_that_goes_on_sending_does_not_bring_an_ended_flow_back() {
    on_a_node(2, |pods| {
        let (client, server) = (&pods[0], &pods[1]);
        let to = server.addresses;
        server.run(move || to.into_iter().for_each(pushes)).recv().unwrap();
        let any = |ids: &[EndpointId]| -> Bindings {
            let of = |(pod, id): (&Pod, &EndpointId)| {
                (id.clone(), Binding::WorkloadAnyAddress { interface: interface(&pod.interface) })
            };
            pods.iter().zip(ids).map(of).collect()
        };
        for any_address in [false, true] {
            let (mut compiler, ids) = compiled(PODS, pods);
            let bindings = if any_address { any(&ids) } else { bind(pods, &ids) };
            let options = DataplaneOptions::new();
            let mut enforcer = load(&options, &compiler, &bindings);
            let mut flows: Vec<Flows> =
                to.into_iter().map(|to| client.run(move || Flows::begin(to)).recv().unwrap()).collect();
            assert!(flows.iter_mut().all(|flows| flows.flow() == [true; 2]));
            update(&mut enforcer, &mut compiler, &bindings, SHUT);
            assert!(flows.iter_mut().all(|flows| flows.flow() == [true; 2]), "kept by default");
            assert!(end(&mut enforcer) >= 4);
            for round in ["at once", "later"] {
                assert!(flows.iter_mut().all(|flows| flows.flow() == [false; 2]), "{round}");
            }
            assert_eq!(end(&mut enforcer), 0, "nothing begins again");
            // Another process, and a repair.
            drop(enforcer);
            let mut enforcer = load(&options, &compiler, &bindings);
            assert!(flows.iter_mut().all(|flows| flows.flow() == [false; 2]), "after a restart");
            // Policy allows it again: the client goes on where it was, and new ones come about.
            let (open, _) = compiled(PODS, pods);
            complete(&enforcer.load(DesiredState::new(open.snapshot(), &bindings)).unwrap());
            let mut new = client.run(move || Flows::begin(to[0])).recv().unwrap();
            assert_eq!(new.flow(), [true; 2]);
            assert!(flows.iter_mut().all(|flows| flows.flow()[1]), "datagrams that policy allows again");
            enforcer.remove().unwrap();
        }
    });
}

/// A connection from a port that an ended one had before.
fn connect_from(port: u16, to: SocketAddr) -> TcpStream {
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&fd, sockopt::ReuseAddr, &true).unwrap();
    let at = |address: SocketAddr| SockaddrStorage::from(address);
    let raw = std::os::fd::AsRawFd::as_raw_fd(&fd);
    bind_to(raw, &at(([0, 0, 0, 0], port).into())).unwrap();
    setsockopt(&fd, sockopt::SendTimeout, &nix::sys::time::TimeVal::new(1, 0)).unwrap();
    connect_to(raw, &at(to)).unwrap();
    let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(&fd, sockopt::Linger, &linger).unwrap();
    let stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(patience())).unwrap();
    stream
}

#[test]
fn the_ports_of_an_ended_flow_serve_a_new_one_that_policy_allows() {
    on_a_node(2, |pods| {
        let (mut compiler, ids) = compiled(PODS, pods);
        let (bindings, options) = (bind(pods, &ids), DataplaneOptions::new());
        let mut enforcer = load(&options, &compiler, &bindings);
        let to = pods[1].addresses[0];
        pods[1].run(move || pushes(to)).recv().unwrap();
        let first = pods[0].run(move || connect_from(41_000, (to, PUSHES).into())).recv().unwrap();
        update(&mut enforcer, &mut compiler, &bindings, SHUT);
        assert_eq!(end(&mut enforcer), 1);
        drop(first);
        std::thread::sleep(Duration::from_millis(100));
        let (open, _) = compiled(PODS, pods);
        complete(&enforcer.load(DesiredState::new(open.snapshot(), &bindings)).unwrap());
        let again = pods[0].run(move || {
            let mut stream = connect_from(41_000, (to, PUSHES).into());
            (0..20).all(|_| stream.read(&mut [0; 64]).is_ok_and(|count| count > 0))
        });
        assert!(again.recv().unwrap());
        enforcer.remove().unwrap();
    });
}

#[test]
fn both_ends_of_an_ended_connection_learn_of_it_where_that_is_wanted() {
    on_a_node(2, |pods| {
        let (mut compiler, ids) = compiled(PODS, pods);
        let bindings = bind(pods, &ids);
        let options = DataplaneOptions::new().with_ended(Ended::Reset);
        let mut enforcer = load(&options, &compiler, &bindings);
        for to in pods[1].addresses {
            let accepted = pods[1].run(move || {
                let listener = TcpListener::bind((to, 9_100)).unwrap();
                std::thread::spawn(move || listener.accept().unwrap().0)
            });
            let accepted = accepted.recv().unwrap();
            let mut client = pods[0].run(move || connect(to, 9_100)).recv().unwrap();
            let mut server = accepted.join().unwrap();
            server.set_read_timeout(Some(patience())).unwrap();
            update(&mut enforcer, &mut compiler, &bindings, SHUT);
            assert_eq!(enforcer.terminate(&|flow| flow.packet.destination_port == 9_100).unwrap(), 1);
            for (end, name) in [(&mut server, "server"), (&mut client, "client")] {
                end.write_all(b"x").unwrap();
                let error = end.read(&mut [0; 8]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{name} of {to}");
            }
            let (open, _) = compiled(PODS, pods);
            compiler = open;
            complete(&enforcer.load(DesiredState::new(compiler.snapshot(), &bindings)).unwrap());
        }
        enforcer.remove().unwrap();
    });
}

/// The first pod is a host outside.
const EDGE: &str = "
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: edge, labels: {edge: here}}
spec: {node: node, interfaceName: cali0}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: edge}
spec: {selector: has(edge), order: 1, ingress: [{action: Allow}], egress: [{action: Allow}]}
";
const EDGE_SHUT: &str = "
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: edge}
spec:
  selector: has(edge)
  order: 1
  types: [Ingress, Egress]
  ingress: [{action: Deny, protocol: TCP, destination: {ports: [9000]}}, {action: Deny, protocol: UDP, destination: {ports: [9000]}}, {action: Allow}]
  egress: [{action: Allow}]
";

/// The node itself pushes to a host outside, which may not reach it any more: what it sends is allowed.
#[test]
fn a_process_of_the_node_does_not_bring_an_ended_flow_back() {
    on_a_node(1, |pods| {
        let scenario =
            portcullis::scenario::Scenario::parse("edge", EDGE, portcullis::scenario::LoadOptions::new());
        let cluster = scenario.unwrap().cluster().clone();
        let id = EndpointId::host("edge");
        let mut compiler = compile(&cluster, &Settings::default());
        let bindings =
            Bindings::from([(id, Binding::Host { interfaces: vec![interface(&pods[0].interface)] })]);
        let mut enforcer = load(&DataplaneOptions::new(), &compiler, &bindings);
        let to: IpAddr = [169, 254, 1, 1].into();
        pushes(to);
        let mut flows = pods[0].run(move || Flows::begin(to)).recv().unwrap();
        assert_eq!(flows.flow(), [true; 2]);
        update(&mut enforcer, &mut compiler, &bindings, EDGE_SHUT);
        assert_eq!(flows.flow(), [true; 2], "kept by default");
        assert_eq!(end(&mut enforcer), 2);
        assert_eq!(flows.flow(), [false; 2]);
        assert_eq!(flows.flow(), [false; 2]);
        enforcer.remove().unwrap();
    });
}
