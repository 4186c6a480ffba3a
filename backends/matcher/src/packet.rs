//! What the fast path reads of a packet.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portcullis_core::ir::L4Table;
use portcullis_core::net::canonical;
use portcullis_core::packet::{Packet, Protocol};

/// A packet header without L7 attributes: what [`Matcher::verdict`](crate::Matcher::verdict) looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PacketKey {
    pub(crate) addresses: Addresses,
    pub(crate) protocol: Protocol,
    pub(crate) source_port: u16,
    pub(crate) key: u16,
}

/// As numbers, which is what the tables are keyed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Addresses {
    V4 { source: u32, destination: u32 },
    V6 { source: u128, destination: u128 },
}

impl PacketKey {
    /// The key of an IPv4 packet. `key` is the destination port, or what [`L4Table::key`] gives for protocols without
    /// ports; source port 0 when there is none.
    #[inline]
    #[must_use]
    pub const fn v4(
        source: Ipv4Addr,
        destination: Ipv4Addr,
        protocol: Protocol,
        source_port: u16,
        key: u16,
    ) -> Self {
        let addresses = Addresses::V4 { source: source.to_bits(), destination: destination.to_bits() };
        Self { addresses, protocol, source_port, key }
    }

    /// As [`PacketKey::v4`]. The addresses must not be IPv4-mapped ones: they would be looked up as what they are.
    #[inline]
    #[must_use]
    pub const fn v6(
        source: Ipv6Addr,
        destination: Ipv6Addr,
        protocol: Protocol,
        source_port: u16,
        key: u16,
    ) -> Self {
        let addresses = Addresses::V6 { source: source.to_bits(), destination: destination.to_bits() };
        Self { addresses, protocol, source_port, key }
    }

    /// The key of `packet`; `None` when its two addresses are of different families once IPv4-mapped ones are
    /// [`canonical`]. A principal or HTTP request is left out, so the verdict is that of the plain packet.
    #[must_use]
    pub fn new(packet: &Packet) -> Option<Self> {
        let (protocol, source_port, key) = (packet.protocol, packet.source_port, L4Table::key(packet));
        match (canonical(packet.source), canonical(packet.destination)) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                Some(Self::v4(source, destination, protocol, source_port, key))
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                Some(Self::v6(source, destination, protocol, source_port, key))
            }
            _ => None,
        }
    }
}
