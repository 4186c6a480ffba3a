//! What a rule can see of a packet: protocol, ports, ICMP type, and the attributes an L7 proxy adds.

use core::fmt;
use core::net::IpAddr;

use crate::label::Name;
use crate::net::{IpVersion, canonical};

/// An IP protocol number (the IPv4 protocol field, or the IPv6 upper-layer header).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Protocol(pub u8);

impl Protocol {
    /// ICMP for IPv4.
    pub const ICMP: Self = Self(1);
    /// TCP.
    pub const TCP: Self = Self(6);
    /// UDP.
    pub const UDP: Self = Self(17);
    /// ICMP for IPv6.
    pub const ICMPV6: Self = Self(58);
    /// SCTP.
    pub const SCTP: Self = Self(132);
    /// UDP-Lite.
    pub const UDPLITE: Self = Self(136);

    /// The protocol that users call `name`, as Calico spells it. Case matters.
    ///
    /// Source: Calico `api/pkg/lib/numorstring/protocol.go`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "TCP" => Self::TCP,
            "UDP" => Self::UDP,
            "ICMP" => Self::ICMP,
            "ICMPv6" => Self::ICMPV6,
            "SCTP" => Self::SCTP,
            "UDPLite" => Self::UDPLITE,
            _ => return None,
        })
    }

    /// Whether rules can match ports of this protocol: TCP, UDP and SCTP.
    ///
    /// UDP-Lite has ports on the wire, but no policy language here can match them.
    #[must_use]
    pub const fn has_ports(self) -> bool {
        matches!(self, Self::TCP | Self::UDP | Self::SCTP)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TCP => f.write_str("TCP"),
            Self::UDP => f.write_str("UDP"),
            Self::ICMP => f.write_str("ICMP"),
            Self::ICMPV6 => f.write_str("ICMPv6"),
            Self::SCTP => f.write_str("SCTP"),
            Self::UDPLITE => f.write_str("UDPLite"),
            Self(number) => write!(f, "{number}"),
        }
    }
}

/// An ICMP or ICMPv6 message type and code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Icmp {
    /// The type field.
    pub kind: u8,
    /// The code field.
    pub code: u8,
}

impl Icmp {
    /// Stands for a message whose type is not known; no rule can name type 255.
    pub const UNKNOWN: Self = Self { kind: u8::MAX, code: u8::MAX };
}

/// HTTP attributes of a request, as a proxy saw them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct HttpRequest {
    /// The method, for example `GET`. Compared exactly.
    pub method: Name,
    /// The request target as it was on the wire; see [`crate::http::normalise_path`].
    pub path: Name,
}

/// The header of a packet, seen **after** destination NAT and **before** source NAT.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Packet {
    /// Source address.
    pub source: IpAddr,
    /// Destination address, same family as the source.
    pub destination: IpAddr,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Source port; 0 where the protocol has none, or when it is not known. No rule can name port 0.
    pub source_port: u16,
    /// Destination port; 0 where the protocol has none. No rule can name port 0.
    pub destination_port: u16,
    /// Type and code of an ICMP or ICMPv6 message; `None` counts as [`Icmp::UNKNOWN`]. Other protocols ignore it.
    pub icmp: Option<Icmp>,
    /// The authenticated identity of the peer (a SPIFFE id), when a proxy supplies one. `Some("")` means that the
    /// proxy saw plain text.
    pub principal: Option<Name>,
    /// The HTTP request, when a proxy supplies one.
    pub http: Option<HttpRequest>,
}

impl Packet {
    /// A packet without ports, ICMP fields or L7 attributes. Addresses are made [`canonical`].
    #[must_use]
    pub fn new(source: IpAddr, destination: IpAddr, protocol: Protocol) -> Self {
        Self {
            source: canonical(source),
            destination: canonical(destination),
            protocol,
            source_port: 0,
            destination_port: 0,
            icmp: None,
            principal: None,
            http: None,
        }
    }

    /// Sets the destination port.
    #[must_use]
    pub fn to_port(mut self, port: u16) -> Self {
        self.destination_port = port;
        self
    }

    /// Sets the source port.
    #[must_use]
    pub fn from_port(mut self, port: u16) -> Self {
        self.source_port = port;
        self
    }

    /// Sets the ICMP type and code.
    #[must_use]
    pub fn with_icmp(mut self, kind: u8, code: u8) -> Self {
        self.icmp = Some(Icmp { kind, code });
        self
    }

    /// The family of the packet: that of its destination.
    #[must_use]
    pub const fn version(&self) -> IpVersion {
        IpVersion::of(&self.destination)
    }
}
