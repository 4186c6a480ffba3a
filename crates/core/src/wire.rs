//! Real packets for the packets that rules see, for backends that ask a kernel.

use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::net::canonical;
use crate::packet::{Icmp, Packet, Protocol};

/// A well-formed IP packet for `packet`: TCP with SYN, an SCTP INIT, a UDP datagram, an ICMP message, or 8 bytes of
/// payload for other protocols. IPv4-mapped addresses stand for IPv4.
///
/// `None` for what cannot be sent: two families in one packet, or an IPv6 packet whose upper-layer protocol is the
/// number of an extension header.
#[must_use]
pub fn craft(packet: &Packet) -> Option<Vec<u8>> {
    match (canonical(packet.source), canonical(packet.destination)) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => Some(v4(packet, source, destination)),
        (IpAddr::V6(source), IpAddr::V6(destination)) if !is_extension(packet.protocol) => {
            Some(v6(packet, source, destination))
        }
        _ => None,
    }
}

/// Hop-by-hop options, routing, fragment, no next header, destination options: what dataplanes look behind. AH is a protocol of
/// its own, as in IPv4.
const fn is_extension(protocol: Protocol) -> bool {
    matches!(protocol.0, 0 | 43 | 44 | 59 | 60)
}

fn v4(packet: &Packet, source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
    let pseudo = |length: usize| {
        let mut bytes = [source.octets(), destination.octets()].concat();
        bytes.extend([0, packet.protocol.0]);
        bytes.extend(u16::try_from(length).unwrap_or(0).to_be_bytes());
        bytes
    };
    let payload = transport(packet, pseudo);
    let total = u16::try_from(payload.len().saturating_add(20)).unwrap_or(u16::MAX);
    let mut header = vec![0x45, 0];
    header.extend(total.to_be_bytes());
    // An identification of its own, or the kernel fills one in for packets that the host sends.
    header.extend([0x50, 0x43, 0x40, 0, 64, packet.protocol.0, 0, 0]);
    header.extend(source.octets());
    header.extend(destination.octets());
    let sum = checksum(&header);
    put(&mut header, 10, sum);
    [header, payload].concat()
}

fn v6(packet: &Packet, source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
    let pseudo = |length: usize| {
        let mut bytes = [source.octets(), destination.octets()].concat();
        bytes.extend(u32::try_from(length).unwrap_or(0).to_be_bytes());
        bytes.extend([0, 0, 0, packet.protocol.0]);
        bytes
    };
    let payload = transport(packet, pseudo);
    let mut header = vec![0x60, 0, 0, 0];
    header.extend(u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes());
    header.extend([packet.protocol.0, 64]);
    header.extend(source.octets());
    header.extend(destination.octets());
    [header, payload].concat()
}

/// The transport header and what follows. `pseudo` is the pseudo header for a checksum over so many bytes.
fn transport(packet: &Packet, pseudo: impl Fn(usize) -> Vec<u8>) -> Vec<u8> {
    let mut ports = packet.source_port.to_be_bytes().to_vec();
    ports.extend(packet.destination_port.to_be_bytes());
    let summed = |mut bytes: Vec<u8>, at: usize| {
        let sum = checksum(&[pseudo(bytes.len()), bytes.clone()].concat());
        put(&mut bytes, at, sum);
        bytes
    };
    match packet.protocol {
        Protocol::TCP => {
            // Sequence number, no acknowledgement, 20 bytes of header, SYN, window.
            ports.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0x20, 0, 0, 0, 0, 0]);
            summed(ports, 16)
        }
        Protocol::UDP => {
            ports.extend([0, 12, 0, 0]);
            ports.extend(PAYLOAD);
            summed(ports, 6)
        }
        Protocol::UDPLITE => {
            // The checksum covers everything when the coverage is 0.
            ports.extend([0, 0, 0, 0]);
            ports.extend(PAYLOAD);
            summed(ports, 6)
        }
        Protocol::SCTP => sctp(ports),
        Protocol::ICMP => {
            let mut bytes = message(packet.icmp);
            let sum = checksum(&bytes);
            put(&mut bytes, 2, sum);
            bytes
        }
        Protocol::ICMPV6 => summed(message(packet.icmp), 2),
        _ => vec![0; 8],
    }
}

/// Four bytes that mean nothing.
const PAYLOAD: [u8; 4] = *b"pcls";

/// Type, code, a free checksum, and a body as long as the longest message of neighbour discovery needs.
fn message(icmp: Option<Icmp>) -> Vec<u8> {
    let message = icmp.unwrap_or(Icmp::UNKNOWN);
    let mut bytes = vec![message.kind, message.code];
    bytes.resize(32, 0);
    bytes
}

/// Verification tag 0 and one INIT chunk; the checksum is CRC32c (RFC 9260 appendix A).
fn sctp(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.extend([0; 8]);
    bytes.extend([1, 0, 0, 20]);
    // Tag, window, streams out and in, first number.
    bytes.extend([0, 0, 0, 1, 0, 0, 0x20, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
    let sum = crc32c(&bytes);
    for (byte, value) in bytes.iter_mut().skip(8).zip(sum.to_le_bytes()) {
        *byte = value;
    }
    bytes
}

fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    let crc =
        bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)));
    !crc
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(u16::from_be_bytes([*high, 0])),
        _ => 0,
    };
    let mut sum = bytes.chunks(2).map(word).fold(0, u32::wrapping_add);
    while sum > 0xffff {
        sum = (sum & 0xffff).wrapping_add(sum >> 16);
    }
    let [_, _, high, low] = sum.to_be_bytes();
    !u16::from_be_bytes([high, low])
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    for (byte, value) in bytes.iter_mut().skip(at).zip(value.to_be_bytes()) {
        *byte = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standards() {
        // RFC 1071 section 3, and the check value of CRC32c.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn headers_say_what_was_asked() {
        let mut packet =
            Packet::new("10.0.0.1".parse().unwrap(), "::ffff:10.0.0.2".parse().unwrap(), Protocol::TCP);
        packet.source_port = 1234;
        packet.destination_port = 80;
        let bytes = craft(&packet).unwrap();
        assert_eq!(bytes.len(), 40);
        assert_eq!(checksum(&bytes[..20]), 0);
        assert_eq!(&bytes[12..24], [10, 0, 0, 1, 10, 0, 0, 2, 4, 210, 0, 80]);
        let pseudo = [&bytes[12..20], &[0, 6, 0, 20]].concat();
        assert_eq!(checksum(&[&pseudo, &bytes[20..]].concat()), 0);
    }

    #[test]
    fn what_no_packet_can_say_is_refused() {
        let v6 = |protocol| {
            Packet::new("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap(), Protocol(protocol))
        };
        assert_eq!(craft(&v6(44)), None);
        assert!(craft(&v6(47)).is_some_and(|bytes| bytes[6] == 47 && bytes.len() == 48));
        let mixed = Packet::new("10.0.0.1".parse().unwrap(), "fd00::2".parse().unwrap(), Protocol::UDP);
        assert_eq!(craft(&mixed), None);
    }
}
