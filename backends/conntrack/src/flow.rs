//! One tracked flow. The numbers are those of `include/uapi/linux/netfilter/nfnetlink_conntrack.h`.

use core::net::IpAddr;
use core::time::Duration;

use portcullis_core::packet::{Packet, Protocol};

use crate::attributes::find;

/// A flow that the kernel tracks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Flow {
    /// A packet of the end that began it, as it arrives: before destination and source NAT.
    pub first: Tuple,
    /// A packet of the other end, as it arrives. So a packet of the first end leaves with the ends of this one exchanged.
    pub answer: Tuple,
    /// Whether both ends have sent: what connection tracking calls established.
    pub is_answered: bool,
    /// How long the kernel remembers it if no further packet comes.
    pub remaining: Duration,
    /// The state of a TCP flow.
    pub tcp: Option<TcpState>,
    /// The attributes of the first direction, by which the kernel knows it, and its zone.
    pub(crate) key: Vec<u8>,
    pub(crate) zone: Option<Vec<u8>>,
}

/// The ends of the packets of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tuple {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// IP protocol.
    pub protocol: Protocol,
    /// Source port; 0 for protocols without.
    pub source_port: u16,
    /// Destination port; 0 for protocols without.
    pub destination_port: u16,
    /// Type, code and identifier of ICMP.
    pub icmp: Option<(u8, u8, u16)>,
}

/// How far a TCP flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TcpState {
    /// Neither end has closed it.
    Open,
    /// One end or both have sent FIN.
    Closing,
    /// It was reset, or is over.
    Closed,
}

impl Tuple {
    /// A packet with these ends.
    #[must_use]
    pub fn packet(&self) -> Packet {
        self.packet_to(self.destination, self.destination_port)
    }

    /// The same packet with another destination.
    fn packet_to(&self, destination: IpAddr, port: u16) -> Packet {
        let mut packet = Packet::new(self.source, destination, self.protocol);
        packet.source_port = self.source_port;
        packet.destination_port = port;
        match self.icmp {
            Some((kind, code, _)) => packet.with_icmp(kind, code),
            None => packet,
        }
    }
}

impl Flow {
    /// The first packet with its source before source NAT and its destination after destination NAT, which is where answers come
    /// from.
    #[must_use]
    pub fn translated(&self) -> Packet {
        self.first.packet_to(self.answer.source, self.answer.source_port)
    }
}

pub(crate) const TUPLE_FIRST: u16 = 1;
const TUPLE_ANSWER: u16 = 2;
const STATUS: u16 = 3;
const PROTOCOL_INFO: u16 = 4;
const TIMEOUT: u16 = 7;
pub(crate) const ZONE: u16 = 18;
/// In `STATUS`: `IPS_SEEN_REPLY`.
const SEEN_REPLY: u32 = 2;
/// `TCP_CONNTRACK_FIN_WAIT` to `TCP_CONNTRACK_TIME_WAIT`, `TCP_CONNTRACK_CLOSE`.
const CLOSING: core::ops::RangeInclusive<u8> = 4..=7;
const CLOSED: u8 = 8;

/// The flow that a message describes. `None` when it lacks something.
pub(crate) fn read(message: &[u8]) -> Option<Flow> {
    let key = find(message, TUPLE_FIRST)?;
    let (first, answer) = (tuple(key)?, tuple(find(message, TUPLE_ANSWER)?)?);
    let word = |kind| Some(u32::from_be_bytes(*find(message, kind)?.first_chunk::<4>()?));
    let info = find(message, PROTOCOL_INFO).and_then(|info| find(info, 1));
    let state = info.and_then(|info| find(info, 1)).and_then(|state| state.first().copied());
    let tcp = (first.protocol == Protocol::TCP).then(|| match state {
        Some(CLOSED) => TcpState::Closed,
        Some(state) if CLOSING.contains(&state) => TcpState::Closing,
        _ => TcpState::Open,
    });
    Some(Flow {
        first,
        answer,
        is_answered: word(STATUS).unwrap_or_default() & SEEN_REPLY != 0,
        remaining: Duration::from_secs(word(TIMEOUT).unwrap_or_default().into()),
        tcp,
        key: key.to_vec(),
        zone: find(message, ZONE).map(<[u8]>::to_vec),
    })
}

fn tuple(attribute: &[u8]) -> Option<Tuple> {
    let (addresses, protocol) = (find(attribute, 1)?, find(attribute, 2)?);
    let v4 = |kind| Some(IpAddr::from(<[u8; 4]>::try_from(find(addresses, kind)?).ok()?));
    let v6 = |kind| Some(IpAddr::from(<[u8; 16]>::try_from(find(addresses, kind)?).ok()?));
    let byte = |kind| find(protocol, kind).and_then(|bytes| bytes.first().copied());
    let half = |kind| Some(u16::from_be_bytes(find(protocol, kind)?.try_into().ok()?));
    let icmp = |id, kind, code| Some((byte(kind)?, byte(code)?, half(id)?));
    Some(Tuple {
        source: v4(1).or_else(|| v6(3))?,
        destination: v4(2).or_else(|| v6(4))?,
        protocol: Protocol(byte(1)?),
        source_port: half(2).unwrap_or_default(),
        destination_port: half(3).unwrap_or_default(),
        icmp: icmp(4, 5, 6).or_else(|| icmp(7, 8, 9)),
    })
}
