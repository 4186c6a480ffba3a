//! Packet sockets: what sends raw frames, and what says which of them arrived where.

use core::fmt;
use std::collections::BTreeSet;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, recvfrom, sendto,
    setsockopt, socket, sockopt,
};

/// In each frame of a row: 16 bytes with its number.
pub(crate) fn mark(row: usize) -> Vec<u8> {
    format!("{BEGIN}{row:07}]").into_bytes()
}

const BEGIN: &str = "[attack:";

/// The rows whose marks are in these bytes.
fn marks(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let found = bytes.windows(16).filter(|part| part.starts_with(BEGIN.as_bytes()) && part.ends_with(b"]"));
    found.filter_map(|part| std::str::from_utf8(&part[BEGIN.len()..15]).ok()?.parse().ok())
}

/// Sends frames out of `eth0` of the namespace it was made in, and hears what comes into that namespace.
pub(crate) struct Tap {
    socket: OwnedFd,
    at: LinkAddr,
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tap({})", self.at)
    }
}

impl Tap {
    /// In the namespace of this thread.
    pub(crate) fn here() -> Self {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).unwrap();
        roomy(&socket);
        Self { socket, at: link("eth0").unwrap() }
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        sendto(self.socket.as_raw_fd(), frame, &self.at, MsgFlags::empty()).unwrap();
    }

    /// The hardware address of `eth0`.
    pub(crate) fn address(&self) -> [u8; 6] {
        self.at.addr().unwrap()
    }

    /// Notes the rows of what came in.
    pub(crate) fn hear(&self, rows: &mut BTreeSet<usize>) {
        hear(&self.socket, |from: Option<LinkAddr>| from.is_none_or(|from| from.pkttype() != OUTGOING), rows);
    }
}

/// `PACKET_OUTGOING` of packet(7).
const OUTGOING: u8 = 4;

/// Hears what the sockets of its namespace get, behind every hook of netfilter and tc.
#[derive(Debug)]
pub(crate) struct Ear(Vec<OwnedFd>);

impl Ear {
    /// In the namespace of this thread.
    pub(crate) fn here() -> Self {
        let (v4, v6) = (AddressFamily::Inet, AddressFamily::Inet6);
        let wanted = [
            (v4, SockProtocol::Icmp),
            (v4, SockProtocol::Udp),
            (v4, SockProtocol::Tcp),
            (v6, SockProtocol::IcmpV6),
            (v6, SockProtocol::Udp),
            (v6, SockProtocol::Tcp),
        ];
        let open = |(family, protocol)| {
            let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
            let socket = socket(family, SockType::Raw, flags, protocol).unwrap();
            roomy(&socket);
            socket
        };
        Self(wanted.into_iter().map(open).collect())
    }

    /// Notes the rows of what came in.
    pub(crate) fn hear(&self, rows: &mut BTreeSet<usize>) {
        self.0.iter().for_each(|socket| hear(socket, |_: Option<()>| true, rows));
    }
}

fn hear<A: SockaddrLike>(socket: &OwnedFd, counts: impl Fn(Option<A>) -> bool, rows: &mut BTreeSet<usize>) {
    let mut buffer = [0; 4096];
    while let Ok((length, from)) = recvfrom::<A>(socket.as_raw_fd(), &mut buffer) {
        if counts(from) {
            rows.extend(marks(&buffer[..length]));
        }
    }
}

/// Nothing that arrives is lost for want of room.
fn roomy(socket: &OwnedFd) {
    setsockopt(socket, sockopt::RcvBufForce, &(16 << 20)).unwrap();
}

/// The link of this name in the namespace of this thread.
pub(crate) fn link(name: &str) -> Option<LinkAddr> {
    let mut all = nix::ifaddrs::getifaddrs().unwrap().filter(|one| one.interface_name == name);
    all.find_map(|one| one.address?.as_link_addr().copied())
}

#[cfg(test)]
mod tests {
    use super::{mark, marks};

    #[test]
    fn a_mark_is_found_anywhere() {
        let frame =
            [b"head".to_vec(), mark(12), b"[attack:".to_vec(), mark(7), b"[attack:00000".to_vec()].concat();
        assert_eq!(marks(&frame).collect::<Vec<_>>(), [12, 7]);
        assert_eq!(mark(0).len(), 16);
    }
}
