//! One event, as the kernel program sends it.
#![cfg_attr(not(feature = "oracle"), expect(unreachable_pub, reason = "the oracle hands records on"))]

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portcullis_core::net::IpVersion;
use portcullis_core::packet::{Icmp, Packet, Protocol};
use portcullis_core::verdict::Hook;

use crate::layout::EVENT_BYTES;

/// One packet that was decided, as the kernel program reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRecord {
    /// When, in nanoseconds of `CLOCK_MONOTONIC_COARSE`.
    pub time: u64,
    /// The number of the decision: see [`Lowering::decision`](crate::Lowering::decision).
    pub decision: u32,
    /// The interface whose endpoint was asked.
    pub interface: u32,
    /// The hook that was asked.
    pub hook: Hook,
    /// Whether the packet was dropped.
    pub dropped: bool,
    /// The packet, as far as rules see it.
    pub packet: Packet,
}

impl EventRecord {
    /// Reads one record of the ring buffer. `None` when it is not one of ours.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; EVENT_BYTES] = bytes.first_chunk()?;
        let (time, rest) = bytes.split_first_chunk::<8>()?;
        let (decision, rest) = rest.split_first_chunk::<4>()?;
        let (interface, rest) = rest.split_first_chunk::<4>()?;
        let ([hook, action, protocol, version], rest) = rest.split_first_chunk::<4>()?;
        let (source_port, rest) = rest.split_first_chunk::<2>()?;
        let (key, rest) = rest.split_first_chunk::<2>()?;
        let (source, rest) = rest.split_first_chunk::<16>()?;
        let destination = rest.first_chunk::<16>()?;
        let version = if *version == 0 { IpVersion::V4 } else { IpVersion::V6 };
        let mut packet =
            Packet::new(address(version, source), address(version, destination), Protocol(*protocol))
                .from_port(u16::from_ne_bytes(*source_port));
        let key = u16::from_ne_bytes(*key);
        if matches!(packet.protocol, Protocol::ICMP | Protocol::ICMPV6) {
            let [kind, code] = key.to_be_bytes();
            packet.icmp = Some(Icmp { kind, code });
        } else {
            packet.destination_port = key;
        }
        Some(Self {
            time: u64::from_ne_bytes(*time),
            decision: u32::from_ne_bytes(*decision),
            interface: u32::from_ne_bytes(*interface),
            hook: *Hook::ALL.get(usize::from(*hook))?,
            dropped: *action == 0,
            packet,
        })
    }
}

fn address(version: IpVersion, bytes: &[u8; 16]) -> IpAddr {
    match (version, bytes.first_chunk::<4>()) {
        (IpVersion::V4, Some(bytes)) => Ipv4Addr::from(*bytes).into(),
        _ => Ipv6Addr::from(*bytes).into(),
    }
}
