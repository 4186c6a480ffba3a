//! Frames, field by field.

use std::net::{IpAddr, Ipv6Addr};

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const SCTP: u8 = 132;
pub(crate) const ICMP: u8 = 1;
pub(crate) const ICMPV6: u8 = 58;

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// A part of a packet. The offset counts 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) id: u16,
    pub(crate) offset: u16,
    pub(crate) more: bool,
}

/// What is behind the IP header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// Ports, and the flags of TCP or the type of the first SCTP chunk.
    Ports(u8, u16, u16, u8),
    /// Type, code and identifier.
    Message(u8, u8, u16),
    /// An ICMP error of this type about a packet.
    Error(u8, Box<Frame>),
    /// Any other protocol.
    Other(u8),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) body: Body,
    pub(crate) part: Option<Part>,
    /// IPv6 extension headers, the first first.
    pub(crate) extensions: Vec<u8>,
    /// Ethertypes of VLAN tags, the outer first.
    pub(crate) tags: Vec<u16>,
    /// Hop limit of IPv6.
    pub(crate) hops: u8,
    /// The address that a message to or from neighbours is about.
    pub(crate) target: Option<Ipv6Addr>,
    /// Bytes behind a message.
    pub(crate) data: usize,
}

impl Frame {
    pub(crate) fn new(source: &str, destination: &str, body: Body) -> Self {
        Self::between(source.parse().unwrap(), destination.parse().unwrap(), body)
    }

    fn between(source: IpAddr, destination: IpAddr, body: Body) -> Self {
        Self {
            source,
            destination,
            body,
            part: None,
            extensions: Vec::new(),
            tags: Vec::new(),
            hops: 64,
            target: None,
            data: 0,
        }
    }

    pub(crate) fn part(mut self, id: u16, offset: u16, more: bool) -> Self {
        self.part = Some(Part { id, offset, more });
        self
    }

    /// The other way, with ports the other way round.
    pub(crate) fn back(&self) -> Self {
        let mut back = self.clone();
        (back.source, back.destination) = (self.destination, self.source);
        if let Body::Ports(protocol, from, to, flags) = self.body {
            back.body = Body::Ports(protocol, to, from, flags);
        }
        back
    }

    /// The same with other TCP flags.
    pub(crate) fn flags(&self, flags: u8) -> Self {
        let mut other = self.clone();
        if let Body::Ports(protocol, from, to, _) = self.body {
            other.body = Body::Ports(protocol, from, to, flags);
        }
        other
    }

    /// An error about this packet, back to whom sent it.
    pub(crate) fn error(&self, kind: u8) -> Self {
        Self::between(self.destination, self.source, Body::Error(kind, Box::new(self.clone())))
    }

    /// The same with another hop limit.
    pub(crate) fn hops(mut self, hops: u8) -> Self {
        self.hops = hops;
        self
    }

    /// The same message about an address.
    pub(crate) fn target(mut self, target: &str) -> Self {
        self.target = Some(target.parse().unwrap());
        self
    }

    /// The same message with more behind it.
    pub(crate) fn data(mut self, bytes: usize) -> Self {
        self.data = bytes;
        self
    }

    pub(crate) fn is_v4(&self) -> bool {
        self.source.is_ipv4()
    }

    pub(crate) fn protocol(&self) -> u8 {
        match self.body {
            Body::Ports(protocol, ..) | Body::Other(protocol) => protocol,
            _ if self.is_v4() => ICMP,
            _ => ICMPV6,
        }
    }

    fn transport(&self) -> Vec<u8> {
        match &self.body {
            Body::Ports(protocol, from, to, flags) => {
                let ports = [from.to_be_bytes(), to.to_be_bytes()].concat();
                match *protocol {
                    TCP => [&ports[..], &[0, 0, 0, 1, 0, 0, 0, 0, 0x50, *flags, 1, 0, 0, 0, 0, 0]].concat(),
                    SCTP => [&ports[..], &[0; 8], &[*flags, 0, 0, 4]].concat(),
                    _ => [&ports[..], &[0, 16, 0, 0], &[7; 8]].concat(),
                }
            }
            Body::Message(kind, code, id) => {
                let [high, low] = id.to_be_bytes();
                let target = self.target.map(|target| target.octets().to_vec()).unwrap_or_default();
                [&[*kind, *code, 0, 0, high, low, 0, 1][..], &target, &vec![7; self.data]].concat()
            }
            Body::Error(kind, about) => [vec![*kind, 1, 0, 0, 0, 0, 0, 0], about.packet()].concat(),
            Body::Other(_) => vec![9; 16],
        }
    }

    /// The IP packet. Of a later fragment, the payload is that of a first one: it must not be taken for ports.
    pub(crate) fn packet(&self) -> Vec<u8> {
        let payload = self.transport();
        let part = self.part.map(|part| (part.id, part.offset, u16::from(part.more)));
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let total = (payload.len() as u16 + 20).to_be_bytes();
                let (id, offset, more) = part.unwrap_or_default();
                let mut bytes = vec![0x45, 0, total[0], total[1]];
                bytes.extend(id.to_be_bytes());
                bytes.extend((offset | more << 13).to_be_bytes());
                bytes.extend([64, self.protocol(), 0, 0]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                [bytes, payload].concat()
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut headers = self.extensions.clone();
                headers.extend(part.map(|_| 44));
                let mut chain = Vec::new();
                for (place, kind) in headers.iter().enumerate() {
                    let next = headers.get(place + 1).copied().unwrap_or(self.protocol());
                    match (*kind, part) {
                        (44, Some((id, offset, more))) => {
                            chain.extend([next, 0]);
                            chain.extend((offset << 3 | more).to_be_bytes());
                            chain.extend(u32::from(id).to_be_bytes());
                        }
                        // Its length counts four bytes, less two.
                        (51, _) => chain.extend([next, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
                        _ => chain.extend([next, 0, 0, 0, 0, 0, 0, 0]),
                    }
                }
                let length = ((chain.len() + payload.len()) as u16).to_be_bytes();
                let first = headers.first().copied().unwrap_or(self.protocol());
                let mut bytes = vec![0x60, 0, 0, 0, length[0], length[1], first, self.hops];
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                [bytes, chain, payload].concat()
            }
            _ => panic!("two families"),
        }
    }

    /// The whole frame.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![2; 12];
        for tag in &self.tags {
            bytes.extend(tag.to_be_bytes());
            bytes.extend([0, 5]);
        }
        bytes.extend(if self.is_v4() { [8, 0] } else { [0x86, 0xdd] });
        bytes.extend(self.packet());
        bytes
    }
}
