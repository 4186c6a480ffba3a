//! A node that runs already is taken over for the first time: what connection tracking calls established goes on, and nothing else.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use portcullis::backend::{Binding, Bindings, DataplaneOptions, DesiredState};
use portcullis::model::EndpointId;
use portcullis::settings::WorkloadToHost;

use crate::backends::{Variants, bind, interface, on_every_node, on_every_site, with_services};
use crate::ebpf::{on_a_node_with_bpf, options, remove};
use crate::node::{Pod, carries, connect, patience, tcp, udp};
use crate::services::{
    API, CLIENT, CLOSED, Flows, Masquerade, OUTSIDE, PODS as SERVED, REMOTE, SERVER, bound, kube_proxy,
    service,
};
use crate::wide::{NODE, answers, datagrams, nft};
use crate::{PODS, SHUT, compiled};

/// Has the kernel track flows, but for those of TCP port 8080.
const TRACKED: &str = "table inet watched {
    chain raw { type filter hook prerouting priority raw; tcp dport 8080 notrack; tcp sport 8080 notrack; }
    chain seen { type filter hook forward priority 0; ct state new counter; }
}
";

/// Both ends of a connection.
struct Connection {
    client: TcpStream,
    server: TcpStream,
}

impl Connection {
    fn open(from: &Pod, to: &Pod, at: IpAddr) -> Self {
        let listener = to.run(move || TcpListener::bind(SocketAddr::new(at, 0)).unwrap()).recv().unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = from.run(move || connect(at, port)).recv().unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_read_timeout(Some(patience())).unwrap();
        Self { client, server }
    }
}

/// Whether a byte comes from one end to the other, at once or when TCP sends it again.
fn arrives(from: &mut TcpStream, to: &mut TcpStream) -> bool {
    from.write_all(b"x").is_ok() && (0..3).any(|_| to.read(&mut [0; 1]).is_ok_and(|count| count == 1))
}

#[test]
fn connections_older_than_the_first_load_go_on_and_others_are_asked_about() {
    on_every_node(2, Variants::AttachModes, |under, pods| {
        nft(TRACKED);
        let (shut, ids) = compiled(&format!("{PODS}{SHUT}"), pods);
        let bindings = bind(pods, &ids);
        let [client, server] = [&pods[0], &pods[1]];
        let to = server.addresses;
        let (mut echoes, mut untracked) = client
            .run(move || (to.map(|to| connect(to, 80)), to.map(|to| connect(to, 8080))))
            .recv()
            .unwrap();
        let sockets = client.run(move || to.map(|to| datagrams(to, 80))).recv().unwrap();
        // Nobody has sent anything in it but the handshake.
        let mut silent = to.map(|at| Connection::open(client, server, at));
        let mut pushed = to.map(|at| Connection::open(client, server, at));
        // The server begins these: nothing may come in, so only answers do.
        let mut back = client.addresses.map(|at| Connection::open(server, client, at));
        // What is not answered is not established.
        let unheard = client
            .run(move || {
                let socket = UdpSocket::bind(("0.0.0.0", 0)).unwrap();
                socket.send_to(b"hello", (to[0], 7)).unwrap();
                socket
            })
            .recv()
            .unwrap();
        assert!(echoes.iter_mut().chain(&mut untracked).all(carries) && sockets.iter().all(answers));
        let mut dataplane = under.load(DataplaneOptions::new(), &shut, &bindings);
        for Connection { client, server } in &mut pushed {
            assert!(arrives(server, client), "the server sends first");
            assert!(arrives(client, server), "the client answers");
        }
        for Connection { client, server } in &mut silent {
            assert!(arrives(client, server), "the client sends first");
        }
        for Connection { client, server } in &mut back {
            assert!(arrives(client, server) && arrives(server, client), "the other way round");
        }
        assert!(echoes.iter_mut().all(carries), "TCP");
        assert!(sockets.iter().all(|socket| (0..3).any(|_| answers(socket))), "UDP");
        assert!(!untracked.iter_mut().any(carries), "what is not tracked is asked about");
        let served = server
            .run(move || {
                let socket = UdpSocket::bind((to[0], 7)).unwrap();
                socket.set_read_timeout(Some(patience())).unwrap();
                socket
            })
            .recv()
            .unwrap();
        unheard.send_to(b"hello", (to[0], 7)).unwrap();
        assert!(served.recv(&mut [0; 16]).is_err(), "what nobody answered is asked about");
        for to in to {
            assert!(!client.run(move || tcp(to, 80) || udp(to, 80)).recv().unwrap(), "new ones are denied");
        }
        // They are not admitted for ever.
        let ended = dataplane.terminate(&|flow| flow.packet.destination_port == 80).unwrap();
        assert!(ended >= 4, "{ended}");
        assert!(!echoes.iter_mut().any(carries) && !sockets.iter().any(answers), "they were ended");
        assert!(pushed.iter_mut().all(|one| arrives(&mut one.client, &mut one.server)), "others were not");
        dataplane.remove().unwrap();
    });
}

fn through_services(masquerade: Masquerade) {
    on_every_site(3, move |under, site| {
        nft(&kube_proxy(masquerade));
        let (compiler, ids) = compiled(&format!("{SERVED}{CLOSED}"), &site.pods);
        let mut flows = Vec::new();
        for last in [CLIENT, SERVER, REMOTE, OUTSIDE, API] {
            for to in service(last) {
                flows.push(Flows::begin(&site.pods[0], to, 8888));
            }
        }
        for to in site.far[0].addresses {
            flows.push(Flows::begin(&site.pods[0], to, 80));
        }
        for to in NODE {
            flows.push(Flows::begin(&site.far[0], to.parse().unwrap(), 30_080));
        }
        let mut dataplane = under.load(with_services(), &compiler, &bound(site, &ids));
        flows.iter_mut().for_each(|flow| flow.go_on("after the first load"));
        for to in service(SERVER) {
            assert!(!site.pods[0].run(move || tcp(to, 8888) || udp(to, 8888)).recv().unwrap());
        }
        drop(dataplane);
        dataplane = under.load(with_services(), &compiler, &bound(site, &ids));
        flows.iter_mut().for_each(|flow| flow.go_on("after a restart"));
        dataplane.remove().unwrap();
    });
}

#[test]
fn older_connections_to_services_go_on() {
    through_services(Masquerade::Hairpin);
}

#[test]
fn older_connections_to_services_go_on_when_sources_are_masqueraded() {
    through_services(Masquerade::All);
}

/// Every hook of a host endpoint for all interfaces, which lets nothing pass: in, out, through and to the node.
#[test]
fn older_connections_of_the_host_go_on() {
    on_every_site(2, |under, site| {
        nft(TRACKED);
        let (compiler, ids) = compiled(&format!("{PODS}{HOST_SHUT}"), &site.pods);
        let star = EndpointId::host("all");
        let mut bindings: Bindings = bind(&site.pods, &ids);
        bindings.bind(star, Binding::AllInterfaces { interfaces: vec![interface(&site.second.interface)] });
        let mut flows = Vec::new();
        let node: [IpAddr; 2] = NODE.map(|text| text.parse().unwrap());
        for at in 0..2 {
            flows.push(Flows::begin(&site.pods[0], node[at], 80));
            flows.push(Flows::begin(&site.pods[0], site.far[0].addresses[at], 80));
            flows.push(Flows::begin(&site.far[0], site.pods[0].addresses[at], 80));
            flows.push(Flows::begin(&site.far[0], node[at], 80));
        }
        let options = DataplaneOptions::new().with_workload_to_host(WorkloadToHost::HostPolicy);
        let mut dataplane = under.load(options, &compiler, &bindings);
        flows.iter_mut().for_each(|flow| flow.go_on("after the first load"));
        for to in node {
            assert!(!site.pods[0].run(move || udp(to, 80)).recv().unwrap());
            assert!(!site.far[0].run(move || udp(to, 80)).recv().unwrap());
        }
        dataplane.remove().unwrap();
    });
}

const HOST_SHUT: &str = "
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: all, labels: {host: 'yes'}}
spec: {node: first, interfaceName: '*'}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: shut}
spec: {selector: host == 'yes', types: [Ingress, Egress]}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: shut-through}
spec: {selector: host == 'yes', applyOnForward: true, types: [Ingress, Egress]}
";

/// A workload gets no more room than its account has, and what has none is told.
#[test]
fn older_connections_have_the_room_of_their_interface() {
    on_a_node_with_bpf(2, |pods, pins| {
        nft(TRACKED);
        let (shut, ids) = compiled(&format!("{PODS}{SHUT}"), pods);
        let bindings = bind(pods, &ids);
        let to = pods[1].addresses[0];
        let sockets =
            pods[0].run(move || (0..12).map(|_| datagrams(to, 80)).collect::<Vec<_>>()).recv().unwrap();
        assert!(sockets.iter().all(answers));
        let bounded =
            options().with_dataplane(DataplaneOptions::new().with_flows_per_interface(5)).with_pins(pins);
        let mut enforcer = portcullis::ebpf::Enforcer::open(bounded).unwrap();
        let load = |enforcer: &mut portcullis::ebpf::Enforcer| {
            use portcullis::backend::Dataplane as _;
            enforcer.load(DesiredState::new(shut.snapshot(), &bindings)).unwrap()
        };
        let warnings = load(&mut enforcer).warnings;
        assert!(
            warnings.len() == 1 && warnings[0].starts_with("7 connections that are older than this load"),
            "{warnings:?}"
        );
        let living = sockets.iter().filter(|socket| answers(socket)).count();
        assert_eq!(living, 5);
        // Another load has nothing to take over.
        assert_eq!(load(&mut enforcer).warnings, [""; 0]);
        assert_eq!(sockets.iter().filter(|socket| answers(socket)).count(), 5);
        remove(enforcer);
    });
}
