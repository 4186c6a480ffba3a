//! Nobody gets into a live flow of others: forged datagrams, forged answers, and ICMP errors about it.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendto, socket,
};
use portcullis::backend::{DataplaneOptions, Interface};
use portcullis::packet::{Packet, Protocol};
use portcullis::wire::craft;

use crate::backends::{Variants, bind, on_every_node};
use crate::node::patience;
use crate::{PODS, compiled};

/// The third pod may send nothing.
const MUTE: &str = "
---
apiVersion: v1
kind: Pod
metadata: {name: zz-mute, namespace: shop, labels: {app: mute}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: mute, namespace: shop}
spec: {podSelector: {matchLabels: {app: mute}}, policyTypes: [Egress], egress: []}
";

/// Sends an IP packet with the header that it has.
fn send(packet: &[u8], to: IpAddr) {
    let (family, at) = match to {
        IpAddr::V4(v4) => (AddressFamily::Inet, SockaddrStorage::from(std::net::SocketAddrV4::new(v4, 0))),
        IpAddr::V6(v6) => {
            (AddressFamily::Inet6, SockaddrStorage::from(std::net::SocketAddrV6::new(v6, 0, 0, 0)))
        }
    };
    let raw = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw).unwrap();
    let sent = sendto(std::os::fd::AsRawFd::as_raw_fd(&raw), packet, &at, MsgFlags::empty()).unwrap();
    assert_eq!(sent, packet.len());
}

/// "Port unreachable" from `from` to the sender of `about`.
fn unreachable(from: IpAddr, about: &[u8], to: IpAddr) -> Vec<u8> {
    let (protocol, kind) = if to.is_ipv4() { (Protocol::ICMP, (3, 3)) } else { (Protocol::ICMPV6, (1, 4)) };
    let mut packet = craft(&Packet::new(from, to, protocol).with_icmp(kind.0, kind.1)).unwrap();
    let header = if to.is_ipv4() { 20 } else { 40 };
    packet.truncate(header + 8);
    packet[header + 4..].fill(0);
    packet.extend(about);
    let length = u16::try_from(packet.len()).unwrap();
    let sum = |mut bytes: Vec<u8>| {
        if bytes.len() % 2 == 1 {
            bytes.push(0);
        }
        let pairs = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
        let mut sum: u32 = pairs.sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (!u16::try_from(sum).unwrap()).to_be_bytes()
    };
    let mut covered = Vec::new();
    if to.is_ipv4() {
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        packet[10..12].fill(0);
        let of_header = sum(packet[..20].to_vec());
        packet[10..12].copy_from_slice(&of_header);
    } else {
        packet[4..6].copy_from_slice(&(length - 40).to_be_bytes());
        covered.extend(&packet[8..40]);
        covered.extend(u32::from(length - 40).to_be_bytes());
        covered.extend([0, 0, 0, 58]);
    }
    packet[header + 2..header + 4].fill(0);
    covered.extend(&packet[header..]);
    let checksum = sum(covered);
    packet[header + 2..header + 4].copy_from_slice(&checksum);
    packet
}

/// What the owner of the socket hears in a moment: data, or an error of the flow.
fn hears(socket: &UdpSocket) -> Option<String> {
    use std::io::ErrorKind;
    match socket.recv(&mut [0; 128]) {
        Ok(count) => Some(format!("{count} bytes")),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
        Err(error) => Some(error.to_string()),
    }
}

#[test]
fn nobody_gets_into_a_flow_of_others() {
    on_every_node(3, Variants::Default, |under, pods| {
        let (compiler, ids) = compiled(&format!("{PODS}{MUTE}"), pods);
        let bindings = bind(pods, &ids);
        let named = DataplaneOptions::new().with_workload_interfaces(Interface::new("cali").unwrap());
        for options in [DataplaneOptions::new(), named] {
            let mut dataplane = under.load(options, &compiler, &bindings);
            for family in [0, 1] {
                let [client, server, mute] = [0, 1, 2].map(|pod| pods[pod].addresses[family]);
                let node: IpAddr = ["169.254.1.1", "fe80::1"][family].parse().unwrap();
                let flow = pods[0].run(move || {
                    let any: IpAddr = if server.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
                    let socket = UdpSocket::bind((any, 0)).unwrap();
                    socket.connect((server, 80)).unwrap();
                    socket.set_read_timeout(Some(patience())).unwrap();
                    socket
                });
                let flow = flow.recv().unwrap();
                flow.send(b"hello").unwrap();
                assert_eq!(hears(&flow).as_deref(), Some("5 bytes"), "{under}");
                flow.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
                let port = flow.local_addr().unwrap().port();

                let datagram = |source, from, destination, to| {
                    craft(&Packet::new(source, destination, Protocol::UDP).from_port(from).to_port(to))
                        .unwrap()
                };
                let (asks, answers) =
                    (datagram(client, port, server, 80), datagram(server, 80, client, port));
                let attacks = [
                    ("a datagram of the client", asks.clone(), server),
                    ("an answer of the server", answers.clone(), client),
                    ("an error to the client", unreachable(mute, &asks, client), client),
                    (
                        "an error to the client, as from the server",
                        unreachable(server, &asks, client),
                        client,
                    ),
                    ("an error to the client, as from the node", unreachable(node, &asks, client), client),
                ];
                for (what, packet, to) in attacks {
                    pods[2].run(move || send(&packet, to)).recv().unwrap();
                    assert_eq!(hears(&flow), None, "{under}: {what}");
                }
                // The ends of the flow say such things.
                let real = unreachable(server, &asks, client);
                pods[1].run(move || send(&real, client)).recv().unwrap();
                assert!(hears(&flow).is_some(), "{under}: an error of the server");
                flow.send(b"hello").unwrap();
                assert_eq!(hears(&flow).as_deref(), Some("5 bytes"), "{under}");
            }
            dataplane.remove().unwrap();
        }
    });
}
