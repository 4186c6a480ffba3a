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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Addresses {
    V4 { source: Ipv4Addr, destination: Ipv4Addr },
    V6 { source: Ipv6Addr, destination: Ipv6Addr },
}

impl PacketKey {
    /// The key of `packet`; `None` when its two addresses are of different families once IPv4-mapped ones are
    /// [`canonical`]. A principal or HTTP request is left out, so the verdict is that of the plain packet.
    #[must_use]
    pub fn new(packet: &Packet) -> Option<Self> {
        let addresses = match (canonical(packet.source), canonical(packet.destination)) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Addresses::V4 { source, destination },
            (IpAddr::V6(source), IpAddr::V6(destination)) => Addresses::V6 { source, destination },
            _ => return None,
        };
        let (protocol, source_port) = (packet.protocol, packet.source_port);
        Some(Self { addresses, protocol, source_port, key: L4Table::key(packet) })
    }
}
