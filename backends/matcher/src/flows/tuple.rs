//! The key of a flow: the same for both directions.

use core::net::{IpAddr, Ipv6Addr};

use portcullis_core::packet::{Icmp, Packet, Protocol};

use crate::flows::packet::{Ends, FlowEnd, FlowPacket};

/// Addresses, ports and protocol, in an order that does not depend on the direction of the packet.
///
/// For ICMP the lower side is who asks, whatever the addresses: a query in the other direction is another flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Tuple {
    lower: Point,
    upper: Point,
    protocol: u8,
    /// Type and code of an ICMP query.
    query: (u8, u8),
}

/// An address (an IPv4 one in its IPv4-mapped form), and a port or the identifier of an ICMP query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Point {
    address: u128,
    port: u16,
}

/// One of the two sides of a [`Tuple`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Side {
    #[default]
    Lower,
    Upper,
}

/// The ends of a flow in the order of its [`Tuple`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SidedEnds {
    lower: Option<FlowEnd>,
    upper: Option<FlowEnd>,
}

impl Tuple {
    /// The key of the flow of `packet`, and the side that sent it. `None` for ICMP messages that are neither query
    /// nor answer: they are no part of a flow.
    pub(super) fn of(packet: &FlowPacket<'_>) -> Option<(Self, Side)> {
        let FlowPacket { packet, echo, .. } = *packet;
        let protocol = packet.protocol.0;
        if matches!(packet.protocol, Protocol::ICMP | Protocol::ICMPV6) {
            let (kind, sender) = query(packet.protocol, packet.icmp?.kind)?;
            let source = Point { address: number(packet.source), port: echo };
            let destination = Point { address: number(packet.destination), port: echo };
            let (lower, upper) = match sender {
                Side::Lower => (source, destination),
                Side::Upper => (destination, source),
            };
            return Some((Self { lower, upper, protocol, query: (kind, packet.icmp?.code) }, sender));
        }
        let source = Point { address: number(packet.source), port: packet.source_port };
        let destination = Point { address: number(packet.destination), port: packet.destination_port };
        let sender = if source <= destination { Side::Lower } else { Side::Upper };
        let (lower, upper) = (source.min(destination), source.max(destination));
        Some((Self { lower, upper, protocol, query: (0, 0) }, sender))
    }

    /// Whether this is an ICMP query, which the lower side asks and the upper side answers.
    pub(super) const fn is_query(&self) -> bool {
        matches!(Protocol(self.protocol), Protocol::ICMP | Protocol::ICMPV6)
    }

    /// A packet of the flow that `sender` sends, and its identifier. For ICMP `sender` is the lower side.
    pub(super) fn packet(&self, sender: Side) -> (Packet, u16) {
        let (source, destination) = match sender {
            Side::Lower => (self.lower, self.upper),
            Side::Upper => (self.upper, self.lower),
        };
        let address = |point: Point| IpAddr::V6(Ipv6Addr::from_bits(point.address));
        let mut packet = Packet::new(address(source), address(destination), Protocol(self.protocol));
        if self.is_query() {
            packet.icmp = Some(Icmp { kind: self.query.0, code: self.query.1 });
            return (packet, source.port);
        }
        (packet.from_port(source.port).to_port(destination.port), 0)
    }
}

impl SidedEnds {
    pub(super) const fn new(ends: Ends, sender: Side) -> Self {
        match sender {
            Side::Lower => Self { lower: ends.source, upper: ends.destination },
            Side::Upper => Self { lower: ends.destination, upper: ends.source },
        }
    }

    pub(super) const fn from(self, sender: Side) -> Ends {
        match sender {
            Side::Lower => Ends { source: self.lower, destination: self.upper },
            Side::Upper => Ends { source: self.upper, destination: self.lower },
        }
    }
}

const fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The type of the query that `kind` is or answers, and the side that sends such a message.
///
/// Source: `net/netfilter/nf_conntrack_proto_icmp.c` and `nf_conntrack_proto_icmpv6.c`: echo, timestamp, information
/// and address mask; echo and node information.
const fn query(protocol: Protocol, kind: u8) -> Option<(u8, Side)> {
    Some(match (protocol, kind) {
        (Protocol::ICMP, 8 | 13 | 15 | 17) | (Protocol::ICMPV6, 128 | 139) => (kind, Side::Lower),
        (Protocol::ICMP, 0) => (8, Side::Upper),
        (Protocol::ICMP, 14 | 16 | 18) | (Protocol::ICMPV6, 129 | 140) => {
            (kind.saturating_sub(1), Side::Upper)
        }
        _ => return None,
    })
}
