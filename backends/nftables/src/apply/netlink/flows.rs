//! Flows that the kernel tracks.

use core::net::IpAddr;

use netlink_packet_core::DefaultNla;

use portcullis_core::backend::{TrackedAt, TrackedFlow};
use portcullis_core::packet::{Packet, Protocol};

use super::Netlink;
use super::attr::{Read, bytes, find, read};
use super::socket::Conntrack;
use crate::apply::transport::ApplyError;

/// A tracked flow, and how the kernel knows it.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    pub(crate) tracked: TrackedFlow,
    /// What its first packet looks like on the wire, and an answer: addresses and ports before and behind NAT.
    pub(crate) directions: [Packet; 2],
    /// The tuple of its first direction, by which the kernel knows it, and its zone.
    identity: Vec<DefaultNla>,
}

impl Flow {
    /// One that the kernel does not know.
    #[cfg(test)]
    pub(crate) const fn for_test(tracked: TrackedFlow, directions: [Packet; 2]) -> Self {
        Self { tracked, directions, identity: Vec::new() }
    }
}

const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ZONE: u16 = 18;

impl Netlink {
    /// All flows that the namespace tracks.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub(crate) fn flows(&mut self) -> Result<Vec<Flow>, ApplyError> {
        let mut flows = Vec::new();
        for message in self.socket.conntrack(Conntrack::List, Vec::new(), &mut self.sequence)? {
            let attributes = read(&message);
            let (Some(original), Some(reply)) =
                (find(&attributes, TUPLE_ORIGINAL), find(&attributes, TUPLE_REPLY))
            else {
                continue;
            };
            let first = tuple(original);
            let answer = tuple(reply);
            let (Some(packet), Some(arrived), Some(answers)) =
                (packet(&first, &answer), arrived(&first), arrived(&answer))
            else {
                continue;
            };
            let directions = [arrived.clone(), answers];
            let mut identity = vec![bytes(TUPLE_ORIGINAL | NESTED, original)];
            identity.extend(find(&attributes, ZONE).map(|zone| bytes(ZONE, zone)));
            let tracked = TrackedFlow { packet, arrived, at: TrackedAt::Node };
            flows.push(Flow { tracked, directions, identity });
        }
        Ok(flows)
    }

    /// Makes the kernel forget `flows`: their next packet is decided anew. How many there still were.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn cut(&mut self, flows: &[Flow]) -> Result<usize, ApplyError> {
        let mut cut = 0_usize;
        for flow in flows {
            let family = Conntrack::Delete { ipv6: flow.tracked.packet.destination.is_ipv6() };
            let gone = self.socket.conntrack(family, flow.identity.clone(), &mut self.sequence)?;
            cut = cut.saturating_add(usize::from(!gone.is_empty()));
        }
        Ok(cut)
    }
}

const NESTED: u16 = 1 << 15;

/// One direction.
#[derive(Default)]
struct Tuple {
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    protocol: u8,
    source_port: u16,
    destination_port: u16,
    icmp: Option<(u8, u8)>,
}

fn tuple(attribute: &[u8]) -> Tuple {
    let parts = read(attribute);
    let inner = |kind| find(&parts, kind).map(read).unwrap_or_default();
    let (addresses, protocol): (Read, Read) = (inner(1), inner(2));
    let v4 = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    let v6 = |bytes: &[u8]| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from);
    let byte = |kind| find(&protocol, kind).and_then(|bytes| bytes.first().copied());
    let port =
        |kind| find(&protocol, kind).and_then(|bytes| Some(u16::from_be_bytes(bytes.try_into().ok()?)));
    Tuple {
        source: find(&addresses, 1).and_then(v4).or_else(|| find(&addresses, 3).and_then(v6)),
        destination: find(&addresses, 2).and_then(v4).or_else(|| find(&addresses, 4).and_then(v6)),
        protocol: byte(1).unwrap_or(0),
        source_port: port(2).unwrap_or(0),
        destination_port: port(3).unwrap_or(0),
        icmp: byte(5).zip(byte(6)).or_else(|| byte(8).zip(byte(9))),
    }
}

/// The destination after NAT is where replies come from.
fn packet(original: &Tuple, reply: &Tuple) -> Option<Packet> {
    between(original, reply.source?, reply.source_port)
}

fn arrived(original: &Tuple) -> Option<Packet> {
    between(original, original.destination?, original.destination_port)
}

fn between(original: &Tuple, destination: IpAddr, port: u16) -> Option<Packet> {
    let mut packet = Packet::new(original.source?, destination, Protocol(original.protocol));
    packet.source_port = original.source_port;
    packet.destination_port = port;
    match original.icmp {
        Some((kind, code)) => Some(packet.with_icmp(kind, code)),
        None => Some(packet),
    }
}
