//! L4 tables: from protocol and ports to a decision.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::hash::{Hash, Hasher};

use crate::ir::{DecisionId, Id};
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
///
/// A copy shares its intervals, and to compare two takes no look at them unless they are the same: a rule with many source
/// ports has the same map for each of them.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(from = "Vec<Interval>", into = "Vec<Interval>"))]
pub struct PortMap {
    /// Of the intervals. It comes first when maps are ordered.
    hash: u64,
    intervals: Arc<[Interval]>,
}

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
    /// The map of these intervals, whose keys go up.
    #[must_use]
    pub fn new(intervals: Vec<Interval>) -> Self {
        Self { hash: hash(&intervals), intervals: intervals.into() }
    }

    /// Its intervals, in the order of keys.
    #[must_use]
    pub fn intervals(&self) -> &[Interval] {
        &self.intervals
    }

    /// The decision for `key`.
    #[must_use]
    pub fn decision(&self, key: u16) -> Option<DecisionId> {
        let index = self.intervals.partition_point(|interval| interval.last < key);
        self.intervals.get(index).map(|interval| interval.decision)
    }
}

impl From<Vec<Interval>> for PortMap {
    fn from(intervals: Vec<Interval>) -> Self {
        Self::new(intervals)
    }
}

impl From<PortMap> for Vec<Interval> {
    fn from(map: PortMap) -> Self {
        map.intervals.to_vec()
    }
}

impl PartialEq for PortMap {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
            && (Arc::ptr_eq(&self.intervals, &other.intervals) || self.intervals == other.intervals)
    }
}

impl Eq for PortMap {}

impl PartialOrd for PortMap {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PortMap {
    fn cmp(&self, other: &Self) -> Ordering {
        self.hash.cmp(&other.hash).then_with(|| {
            if Arc::ptr_eq(&self.intervals, &other.intervals) {
                Ordering::Equal
            } else {
                self.intervals.cmp(&other.intervals)
            }
        })
    }
}

impl Hash for PortMap {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// The same on every machine: ids and order follow from it.
fn hash(intervals: &[Interval]) -> u64 {
    intervals.iter().fold(0, |hash, interval| {
        let word = (u64::from(interval.last) << 32) | u64::from(interval.decision.number());
        // The multiplier of SplitMix64; https://prng.di.unimi.it/splitmix64.c.
        (hash.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}

impl L4Table {
    /// The table that gives `decision` to every packet.
    #[must_use]
    pub const fn constant(decision: DecisionId) -> Self {
        Self { protocols: Vec::new(), other: decision }
    }

    /// The maps in it in the order of their first place, each once.
    #[must_use]
    pub fn port_maps(&self) -> Vec<&PortMap> {
        let mut seen = BTreeSet::new();
        let maps = self.protocols.iter().flat_map(|(_, sources)| sources).map(|source| &source.keys);
        maps.filter(|map| seen.insert(*map)).collect()
    }

    /// The decisions that it leads to: those of its maps in order, then that of all other protocols. One may come again.
    pub fn decisions(&self) -> impl Iterator<Item = DecisionId> + '_ {
        let intervals = self.port_maps().into_iter().flat_map(PortMap::intervals);
        intervals.map(|interval| interval.decision).chain(core::iter::once(self.other))
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
