//! The beginning of a packet, as far as rules see it.

use core::net::IpAddr;

use portcullis_core::packet::{Packet, Protocol};

/// Reads the packet that `bytes` begin, from its IP header on. `None` when that is cut off or none. Ports and ICMP fields
/// are left out where the bytes end before them, and in fragments but the first.
pub(crate) fn packet(bytes: &[u8]) -> Option<Packet> {
    let (source, destination, protocol, transport) = match bytes.first()? >> 4 {
        4 => v4(bytes)?,
        6 => v6(bytes)?,
        _ => return None,
    };
    let packet = Packet::new(source, destination, protocol);
    let (Some([a, b]), behind) = (at::<2>(transport, 0), at::<2>(transport, 2)) else { return Some(packet) };
    Some(match protocol {
        Protocol::ICMP | Protocol::ICMPV6 => packet.with_icmp(a, b),
        Protocol::TCP | Protocol::UDP | Protocol::SCTP => {
            packet.from_port(u16::from_be_bytes([a, b])).to_port(behind.map_or(0, u16::from_be_bytes))
        }
        _ => packet,
    })
}

type Layers<'a> = (IpAddr, IpAddr, Protocol, &'a [u8]);

fn v4(bytes: &[u8]) -> Option<Layers<'_>> {
    let words = usize::from(bytes.first()? & 0x0f);
    let [high, low] = at::<2>(bytes, 6)?;
    let first = u16::from_be_bytes([high & 0x1f, low]) == 0;
    let transport = bytes.get(words.checked_mul(4)?..).filter(|_| first).unwrap_or_default();
    Some((at::<4>(bytes, 12)?.into(), at::<4>(bytes, 16)?.into(), Protocol(*bytes.get(9)?), transport))
}

/// Behind AH nothing is looked at, as in IPv4.
fn v6(bytes: &[u8]) -> Option<Layers<'_>> {
    let (source, destination) = (at::<16>(bytes, 8)?.into(), at::<16>(bytes, 24)?.into());
    let (mut next, mut rest) = (*bytes.get(6)?, bytes.get(40..)?);
    while let Some([following, length]) = at::<2>(rest, 0) {
        let length = match next {
            HOP_BY_HOP | ROUTING | DESTINATION => usize::from(length).saturating_add(1).saturating_mul(8),
            FRAGMENT => 8,
            _ => break,
        };
        if next == FRAGMENT && at::<2>(rest, 2).is_some_and(|offset| u16::from_be_bytes(offset) >> 3 != 0) {
            return Some((source, destination, Protocol(following), &[]));
        }
        next = following;
        rest = rest.get(length..).unwrap_or_default();
    }
    Some((source, destination, Protocol(next), rest))
}

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

fn at<const N: usize>(bytes: &[u8], from: usize) -> Option<[u8; N]> {
    bytes.get(from..from.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use portcullis_core::wire::craft;

    use super::*;

    #[test]
    fn what_is_crafted_is_read_and_every_shorter_beginning_is_harmless() {
        for (source, destination) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            let icmp = if source.contains(':') { Protocol::ICMPV6 } else { Protocol::ICMP };
            for protocol in [Protocol::TCP, Protocol::UDP, Protocol::SCTP, icmp, Protocol(47)] {
                let mut want = Packet::new(source.parse().unwrap(), destination.parse().unwrap(), protocol);
                if protocol.has_ports() {
                    want = want.from_port(40_000).to_port(80);
                } else if protocol == icmp {
                    want = want.with_icmp(8, 3);
                }
                let bytes = craft(&want).unwrap();
                assert_eq!(packet(&bytes), Some(want.clone()));
                for length in 0..bytes.len() {
                    let read = packet(&bytes[..length]);
                    assert!(read.is_none_or(|read| read.source == want.source), "{protocol} {length}");
                }
            }
        }
    }

    #[test]
    fn ports_are_behind_options_and_extension_headers_and_not_in_later_fragments() {
        let packet_of = |bytes: &[u8]| packet(bytes).unwrap();
        let with_port = |source: &str, destination: &str| {
            Packet::new(source.parse().unwrap(), destination.parse().unwrap(), Protocol::UDP)
                .from_port(7)
                .to_port(9)
        };
        let plain = craft(&with_port("10.0.0.1", "10.0.0.2")).unwrap();
        let mut options = plain.clone();
        options[0] = 0x46;
        options.splice(20..20, [1, 1, 1, 0]);
        assert_eq!(packet_of(&options), with_port("10.0.0.1", "10.0.0.2"));
        let mut later = plain;
        later[7] = 1;
        assert_eq!((packet_of(&later).source_port, packet_of(&later).protocol), (0, Protocol::UDP));

        let want = with_port("fd00::1", "fd00::2");
        let plain = craft(&want).unwrap();
        let behind = |kind: u8, header: &[u8]| {
            let mut bytes = plain.clone();
            bytes[6] = kind;
            bytes.splice(40..40, header.iter().copied());
            bytes
        };
        let mut eight = [0_u8; 8];
        eight[0] = Protocol::UDP.0;
        for kind in [HOP_BY_HOP, ROUTING, DESTINATION, FRAGMENT] {
            assert_eq!(packet_of(&behind(kind, &eight)), want, "{kind}");
        }
        let behind_ah = packet_of(&behind(51, &eight));
        assert_eq!((behind_ah.protocol, behind_ah.destination_port), (Protocol(51), 0));
        eight[3] = 8;
        assert_eq!(packet_of(&behind(FRAGMENT, &eight)).destination_port, 0);
    }
}
