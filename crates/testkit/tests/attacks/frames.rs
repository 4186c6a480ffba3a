//! Frames, byte by byte: what a raw socket sends.

use std::net::IpAddr;

pub(crate) const ICMP: u8 = 1;
pub(crate) const IPIP: u8 = 4;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;

/// Ethertypes.
pub(crate) const IPV4: u16 = 0x0800;
pub(crate) const ARP: u16 = 0x0806;
pub(crate) const VLAN: u16 = 0x8100;
pub(crate) const QINQ: u16 = 0x88a8;
pub(crate) const IPV6: u16 = 0x86dd;

/// The two ends of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) own: [u8; 6],
    pub(crate) next: [u8; 6],
}

impl Link {
    /// A frame to the next hop.
    pub(crate) fn frame(&self, ethertype: u16, payload: &[u8]) -> Vec<u8> {
        [&self.next[..], &self.own, &ethertype.to_be_bytes(), payload].concat()
    }

    /// The packet in a frame to the next hop.
    pub(crate) fn ip(&self, packet: &Ip) -> Vec<u8> {
        self.frame(packet.ethertype(), &packet.bytes())
    }
}

/// An IP packet. Its family is that of its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ip {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// Of what `body` is.
    pub(crate) protocol: u8,
    /// Time to live, or hop limit.
    pub(crate) hops: u8,
    /// Names a datagram among fragments.
    pub(crate) id: u16,
    /// Offset in 8 bytes, and whether more follow.
    pub(crate) part: Option<(u16, bool)>,
    /// Of IPv4; a multiple of 4 bytes.
    pub(crate) options: Vec<u8>,
    /// IPv6 extension headers: each type with what is behind its first byte.
    pub(crate) chain: Vec<(u8, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

impl Ip {
    pub(crate) fn new(source: IpAddr, destination: IpAddr, protocol: u8, body: &[u8]) -> Self {
        Self {
            source,
            destination,
            protocol,
            hops: 64,
            id: 0,
            part: None,
            options: Vec::new(),
            chain: Vec::new(),
            body: body.to_vec(),
        }
    }

    /// A datagram.
    pub(crate) fn udp(from: (IpAddr, u16), to: (IpAddr, u16), data: &[u8]) -> Self {
        let length = u16::try_from(8 + data.len()).unwrap();
        let fields = [from.1, to.1, length, 0].map(u16::to_be_bytes).concat();
        let mut packet = Self::new(from.0, to.0, UDP, &[&fields, data].concat());
        packet.seal(6, true);
        packet
    }

    /// A segment with these flags.
    pub(crate) fn tcp(from: (IpAddr, u16), to: (IpAddr, u16), flags: u8, data: &[u8]) -> Self {
        let ports = [from.1, to.1].map(u16::to_be_bytes).concat();
        let rest = [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x11, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0];
        let mut packet = Self::new(from.0, to.0, TCP, &[&ports, &rest[..], data].concat());
        packet.seal(16, true);
        packet
    }

    /// A message of ICMP, or of ICMPv6 by the family. `rest` is behind the checksum.
    pub(crate) fn icmp(source: IpAddr, destination: IpAddr, kind: u8, code: u8, rest: &[u8]) -> Self {
        let protocol = if source.is_ipv4() { ICMP } else { ICMPV6 };
        let mut packet = Self::new(source, destination, protocol, &[&[kind, code, 0, 0][..], rest].concat());
        packet.seal(2, source.is_ipv6());
        packet
    }

    /// An ICMP error about `inner`.
    pub(crate) fn error(source: IpAddr, destination: IpAddr, kind: u8, code: u8, inner: &Self) -> Self {
        Self::icmp(source, destination, kind, code, &[&[0; 4][..], &inner.bytes()].concat())
    }

    pub(crate) fn hops(mut self, hops: u8) -> Self {
        self.hops = hops;
        self
    }

    /// The fragment of `id` at this offset in bytes.
    pub(crate) fn fragment(&self, id: u16, offset: usize, more: bool, body: &[u8]) -> Self {
        let part = Some((u16::try_from(offset / 8).unwrap(), more));
        Self { id, part, body: body.to_vec(), ..self.clone() }
    }

    pub(crate) fn chain(mut self, chain: &[(u8, Vec<u8>)]) -> Self {
        self.chain = chain.to_vec();
        self
    }

    pub(crate) const fn ethertype(&self) -> u16 {
        if self.source.is_ipv4() { IPV4 } else { IPV6 }
    }

    /// Writes the checksum of the body at this offset.
    fn seal(&mut self, at: usize, over_addresses: bool) {
        let mut all = Vec::new();
        if over_addresses {
            let length = u32::try_from(self.body.len()).unwrap().to_be_bytes();
            all = [octets(self.source), octets(self.destination), length.to_vec(), vec![0, self.protocol]]
                .concat();
        }
        // The last byte may have none beside it.
        all.extend(&self.body);
        let sum = match checksum(&all) {
            0 if self.protocol == UDP => 0xffff,
            sum => sum,
        };
        self.body.splice(at..at + 2, sum.to_be_bytes());
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let words = u8::try_from(5 + self.options.len() / 4).unwrap();
                let length = u16::try_from(usize::from(words) * 4 + self.body.len()).unwrap();
                let (offset, more) = self.part.unwrap_or_default();
                let part = offset | if more { 0x2000 } else { 0 };
                let mut header = vec![0x40 | words, 0];
                header.extend([length, self.id, part].map(u16::to_be_bytes).concat());
                header.extend([self.hops, self.protocol, 0, 0]);
                header.extend([source.octets(), destination.octets()].concat());
                header.extend(&self.options);
                let sum = checksum(&header);
                header.splice(10..12, sum.to_be_bytes());
                [header, self.body.clone()].concat()
            }
            _ => {
                let fragment = self.part.map(|(offset, more)| {
                    let field = offset << 3 | u16::from(more);
                    let id = u32::from(self.id).to_be_bytes();
                    (44, [&[0][..], &field.to_be_bytes(), &id].concat())
                });
                let headers: Vec<_> = self.chain.iter().cloned().chain(fragment).collect();
                let next = headers.iter().map(|(kind, _)| *kind).chain([self.protocol]);
                let mut payload = Vec::new();
                for ((_, rest), next) in headers.iter().zip(next.clone().skip(1)) {
                    payload.push(next);
                    payload.extend(rest);
                }
                payload.extend(&self.body);
                let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
                let first = next.clone().next().unwrap_or(self.protocol);
                let start = [0x60, 0, 0, 0, length[0], length[1], first, self.hops];
                [&start[..], &octets(self.source), &octets(self.destination), &payload].concat()
            }
        }
    }
}

/// A VXLAN header with a frame behind it.
pub(crate) fn vxlan(network: u32, frame: &[u8]) -> Vec<u8> {
    [&[8, 0, 0, 0][..], &(network << 8).to_be_bytes(), frame].concat()
}

/// An ARP message: 1 asks, 2 answers.
pub(crate) fn arp(operation: u8, sender: ([u8; 6], IpAddr), target: ([u8; 6], IpAddr)) -> Vec<u8> {
    let fixed = [0, 1, 8, 0, 6, 4, 0, operation];
    [&fixed[..], &sender.0, &octets(sender.1), &target.0, &octets(target.1)].concat()
}

/// The bytes of an address.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// That of the internet, RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)));
    let mut sum = words.sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}
