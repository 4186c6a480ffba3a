//! Neighbour and listener discovery of IPv6: what a link needs whatever policy says, and what only looks like it.
//!
//! A type number exempts nothing: with it alone, anybody could send anything to anyone. Discovery stays on its link, and
//! its hop limit proves that. A packet of a flow has no hop limit, so the addresses that it names say whether it stays.
//! Dataplanes see real packets and ask for all of this before they ask a hook:
//!
//! | | types | hop limit | bytes, IP header included | source | destination |
//! |---|---|---|---|---|---|
//! | neighbours | [`NEIGHBOUR_TYPES`] | 255 | [`NEIGHBOUR_BYTES`] | the sender's own, link-local, `::` | link-local, of link scope, an address of the node |
//! | listeners | [`LISTENER_TYPES`] | 1 | [`LISTENER_BYTES`] | link-local, `::` | of link scope |
//!
//! In both, the code is 0 and the packet is no fragment. Nothing that is forwarded is exempt.
//!
//! Sources: RFC 4861 sections 4, 6.1 and 7.1 and RFC 6980 (neighbours), RFC 2710 section 3 and RFC 3810 section 5
//! (listeners); Calico `felix/rules/static.go`, which accepts such types from a workload to its host and nowhere else.

use core::net::{IpAddr, Ipv6Addr};

use crate::packet::{Packet, Protocol};

/// Router solicitation, neighbour solicitation, neighbour advertisement. Router advertisements (134) and redirects (137) are
/// not here: a router sends them, and policy decides whether it may.
pub const NEIGHBOUR_TYPES: [u8; 3] = [133, 135, 136];

/// Listener query, report and done, and report of version 2.
pub const LISTENER_TYPES: [u8; 4] = [130, 131, 132, 143];

/// The hop limit that a router would have made smaller.
pub const NEIGHBOUR_HOPS: u8 = 255;

/// The hop limit that no router forwards.
pub const LISTENER_HOPS: u8 = 1;

/// Bytes of a packet about neighbours at most, from the IP header on: 40 of that, 24 of the message and 64 of options. The
/// kernel sends one or two options of 8 bytes (link address, nonce of RFC 7527).
pub const NEIGHBOUR_BYTES: u16 = 128;

/// Bytes of a packet about listeners at most, from the IP header on: 40 of that, 8 of the router alert, 8 of the message and
/// 10 groups of 20 bytes. A workload has a group for each of its addresses.
pub const LISTENER_BYTES: u16 = 256;

/// How a message has to travel to be discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Discovery {
    /// Between neighbours.
    Neighbours,
    /// About listeners.
    Listeners,
}

impl Discovery {
    /// What `packet` would be on a link; `None` for everything that is no discovery.
    fn of(packet: &Packet) -> Option<Self> {
        let icmp = packet.icmp.filter(|icmp| packet.protocol == Protocol::ICMPV6 && icmp.code == 0)?;
        if NEIGHBOUR_TYPES.contains(&icmp.kind) {
            Some(Self::Neighbours)
        } else if LISTENER_TYPES.contains(&icmp.kind) {
            Some(Self::Listeners)
        } else {
            None
        }
    }
}

/// Who owns the source address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The sender.
    Own,
    /// Somebody else, or nobody that is known.
    Other,
}

/// Who owns the destination address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// A node that may be on the sender's link.
    Node,
    /// Anybody else.
    Other,
}

/// Whether `packet` is discovery that stays on its link.
pub(super) fn is_discovery(packet: &Packet, source: Source, destination: Destination) -> bool {
    let (IpAddr::V6(from), IpAddr::V6(to)) = (packet.source, packet.destination) else { return false };
    let is_of_link = is_link_local(from) || from.is_unspecified();
    match Discovery::of(packet) {
        Some(Discovery::Neighbours) => {
            (is_of_link || source == Source::Own)
                && (is_link_local(to) || is_link_group(to) || destination == Destination::Node)
        }
        Some(Discovery::Listeners) => is_of_link && is_link_group(to),
        None => false,
    }
}

/// Whether no router carries the address: `fe80::/10`.
const fn is_link_local(address: Ipv6Addr) -> bool {
    let [first, ..] = address.segments();
    first & 0xffc0 == 0xfe80
}

/// Whether it is a group of the link: `ff02::/16`. Groups of smaller scope never leave a machine.
const fn is_link_group(address: Ipv6Addr) -> bool {
    let [first, ..] = address.segments();
    first == 0xff02
}
