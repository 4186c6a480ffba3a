//! L4 tables: from protocol and ports to a decision.

use alloc::vec::Vec;

use crate::ir::DecisionId;
use crate::packet::{Icmp, Packet, Protocol};

/// Protocol, source port and key to a decision.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct L4Table {
    /// Protocols with a map of their own, sorted by protocol, each once.
    pub protocols: Vec<(Protocol, Vec<SourceInterval>)>,
    /// The decision for every other protocol.
    pub other: DecisionId,
}

/// What holds for source ports up to `last`, from one more than the interval before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct SourceInterval {
    /// Last source port of the interval.
    pub last: u16,
    /// The map from keys to decisions.
    pub keys: PortMap,
}

/// A function from 16-bit keys to decisions, as intervals that cover 0 to 65,535 without gap or overlap. Neighbours
/// differ in their decision.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct PortMap(pub Vec<Interval>);

/// A decision for all keys up to `last`, from one more than the interval before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Interval {
    /// Last key of the interval.
    pub last: u16,
    /// The decision.
    pub decision: DecisionId,
}

impl PortMap {
    /// The decision for `key`.
    #[must_use]
    pub fn decision(&self, key: u16) -> Option<DecisionId> {
        let index = self.0.partition_point(|interval| interval.last < key);
        self.0.get(index).map(|interval| interval.decision)
    }
}

impl L4Table {
    /// The table that gives `decision` to every packet.
    #[must_use]
    pub const fn constant(decision: DecisionId) -> Self {
        Self { protocols: Vec::new(), other: decision }
    }

    /// The decision for a packet of `protocol` with this source port and key (see [`L4Table::key`]).
    #[must_use]
    pub fn decision(&self, protocol: Protocol, source_port: u16, key: u16) -> Option<DecisionId> {
        let Ok(found) = self.protocols.binary_search_by_key(&protocol, |(protocol, _)| *protocol) else {
            return Some(self.other);
        };
        let (_, sources) = self.protocols.get(found)?;
        let index = sources.partition_point(|interval| interval.last < source_port);
        sources.get(index)?.keys.decision(key)
    }

    /// The key of a packet: type and code for ICMP and ICMPv6 (`type << 8 | code`), the destination port for TCP, UDP
    /// and SCTP, and 0 for everything else.
    #[must_use]
    pub fn key(packet: &Packet) -> u16 {
        match packet.protocol {
            Protocol::ICMP | Protocol::ICMPV6 => {
                let message = packet.icmp.unwrap_or(Icmp::UNKNOWN);
                u16::from_be_bytes([message.kind, message.code])
            }
            protocol if protocol.has_ports() => packet.destination_port,
            _ => 0,
        }
    }
}
