//! What the flow table is told about a packet.

use portcullis_core::packet::{Packet, Protocol};
use portcullis_core::verdict::{Direction, Hook};

use crate::endpoints::EndpointHandle;

/// A packet header and what connection tracking reads beyond it.
///
/// Addresses and ports are those that policy sees: after destination NAT and before source NAT, for both directions
/// of a flow. Principal and HTTP request are not looked at.
#[derive(Clone, Copy, Debug)]
pub struct FlowPacket<'a> {
    pub(super) packet: &'a Packet,
    pub(super) tcp: Option<TcpFlags>,
    pub(super) echo: u16,
    pub(super) about: Option<&'a FlowPacket<'a>>,
}

impl<'a> FlowPacket<'a> {
    /// A packet of which nothing but the header is known.
    #[must_use]
    pub const fn new(packet: &'a Packet) -> Self {
        Self { packet, tcp: None, echo: 0, about: None }
    }

    /// With the flags of its TCP header. Without them a new flow counts as opened by SYN, and every later packet
    /// as a plain ACK: the flow then ends by time only, and a new connection that uses the ports of an old one is
    /// taken for it.
    #[must_use]
    pub const fn with_tcp(self, flags: TcpFlags) -> Self {
        Self { tcp: Some(flags), ..self }
    }

    /// With the identifier of an ICMP or ICMPv6 query such as an echo request. Without it, all queries of one type
    /// from one address to another are one flow.
    #[must_use]
    pub const fn with_echo(self, identifier: u16) -> Self {
        Self { echo: identifier, ..self }
    }

    /// With the packet that an ICMP or ICMPv6 error is about: the one whose header it carries, as that was sent.
    #[must_use]
    pub const fn about(self, embedded: &'a FlowPacket<'a>) -> Self {
        Self { about: Some(embedded), ..self }
    }

    /// Whether this asks for a new TCP connection.
    pub(super) fn is_syn(&self) -> bool {
        self.packet.protocol == Protocol::TCP
            && self.tcp.is_some_and(|flags| flags.has(TcpFlags::SYN) && !flags.has(TcpFlags::ACK))
    }

    /// Whether this is an error about another packet that may pass as related to its flow: destination unreachable,
    /// time exceeded and parameter problem of ICMP, and these and packet too big of ICMPv6.
    ///
    /// Linux also relates source quench, which RFC 6633 retires, and redirects, which change the routes of who
    /// receives them (`net/netfilter/nf_conntrack_proto_icmp.c`); here these two are left to policy.
    pub(super) fn is_error(&self) -> bool {
        let Some(icmp) = self.packet.icmp else { return false };
        match self.packet.protocol {
            Protocol::ICMP => matches!(icmp.kind, 3 | 11 | 12),
            Protocol::ICMPV6 => matches!(icmp.kind, 1..=4),
            _ => false,
        }
    }
}

/// The flags of a TCP header: its octet 13.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TcpFlags(u8);

impl TcpFlags {
    /// The sender has no more data.
    pub const FIN: Self = Self(0x01);
    /// A new connection.
    pub const SYN: Self = Self(0x02);
    /// The connection is gone.
    pub const RST: Self = Self(0x04);
    /// An acknowledgement.
    pub const ACK: Self = Self(0x10);

    /// The flags as they are on the wire.
    #[must_use]
    pub const fn new(octet: u8) -> Self {
        Self(octet)
    }

    /// These and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Which of our endpoints a packet comes from and goes to. An end that is not ours is `None` and not asked.
///
/// They come from where the packet was seen (the interface), not from its addresses alone: a flow belongs to its
/// ends, so that who takes over an address, or forges one, does not take over its flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ends {
    /// Where the packet comes from.
    pub source: Option<FlowEnd>,
    /// Where it goes to.
    pub destination: Option<FlowEnd>,
}

impl Ends {
    /// Two workloads, or a workload and an end that is not ours.
    #[must_use]
    pub fn workloads(source: Option<EndpointHandle>, destination: Option<EndpointHandle>) -> Self {
        let of = |endpoint| FlowEnd { endpoint, gate: Gate::Workload };
        Self { source: source.map(of), destination: destination.map(of) }
    }
}

/// An endpoint, and its part in a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowEnd {
    /// The endpoint.
    pub endpoint: EndpointHandle,
    /// Its part in the flow.
    pub gate: Gate,
}

/// The part of an endpoint in a flow. It decides which hook is asked.
///
/// The hooks before connection tracking are not here, because nothing passes them as a reply: ask
/// [`Matcher::verdict`](crate::Matcher::verdict).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Gate {
    /// A workload.
    Workload,
    /// A host endpoint, for processes of the host.
    Host,
    /// A host endpoint that forwarded packets pass.
    Forward,
}

impl Gate {
    pub(super) const fn hook(self, direction: Direction) -> Hook {
        match (self, direction) {
            (Self::Workload, Direction::Ingress) => Hook::WorkloadIngress,
            (Self::Workload, Direction::Egress) => Hook::WorkloadEgress,
            (Self::Host, Direction::Ingress) => Hook::HostIngress,
            (Self::Host, Direction::Egress) => Hook::HostEgress,
            (Self::Forward, Direction::Ingress) => Hook::ForwardIngress,
            (Self::Forward, Direction::Egress) => Hook::ForwardEgress,
        }
    }
}
