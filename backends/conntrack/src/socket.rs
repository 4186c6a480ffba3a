//! The socket: one request, then its answers.

use std::io::{Error, ErrorKind};
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, setsockopt,
    socket, sockopt,
};

#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

/// One message of the kernel.
pub(crate) enum Answer<'a> {
    /// What is behind the header of netfilter.
    Message(&'a [u8]),
    /// The request was carried out.
    Acknowledged,
}

impl Socket {
    pub(crate) fn open() -> Result<Self, Error> {
        let protocol = SockProtocol::NetlinkNetFilter;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        // Without the right to force it, the usual limit holds.
        let _ = setsockopt(&fd, sockopt::RcvBufForce, &BUFFER);
        Ok(Self { fd, sequence: 0, buffer: vec![0; BUFFER] })
    }

    /// Sends a request for a family of addresses.
    pub(crate) fn send(&mut self, kind: u16, flags: u16, family: u8, content: &[u8]) -> Result<(), Error> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = content.len().saturating_add(HEADER).saturating_add(FAMILY_HEADER);
        let mut message = Vec::with_capacity(length);
        message.extend(u32::try_from(length).map_err(|_| ErrorKind::InvalidInput)?.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((flags | REQUEST).to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend([0; 4]);
        // `struct nfgenmsg`: family, version, resource.
        message.extend([family, 0, 0, 0]);
        message.extend(content);
        loop {
            match sendto(self.fd.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Hands the answers to the last request to `each` until the kernel says that there are no more, or `each` that it wants no more.
    pub(crate) fn receive(&mut self, mut each: impl FnMut(Answer<'_>) -> bool) -> Result<(), Error> {
        loop {
            let count = match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let mut rest = self.buffer.get(..count).unwrap_or_default();
            while !rest.is_empty() {
                let message = Message::read(rest).ok_or(ErrorKind::InvalidData)?;
                rest = message.rest;
                if message.sequence != self.sequence {
                    continue;
                }
                let goes_on = match (message.kind, message.error) {
                    (ERROR, Some(0)) => each(Answer::Acknowledged),
                    (ERROR | DONE, Some(code)) if code < 0 => {
                        return Err(Errno::from_raw(code.saturating_neg()).into());
                    }
                    (ERROR, _) => return Err(ErrorKind::InvalidData.into()),
                    (DONE, _) => return Ok(()),
                    _ => each(Answer::Message(message.content.get(FAMILY_HEADER..).unwrap_or_default())),
                };
                if !goes_on {
                    return Ok(());
                }
            }
        }
    }
}

struct Message<'a> {
    kind: u16,
    sequence: u32,
    content: &'a [u8],
    /// The first word of the content, which is the error number of an [`ERROR`] and of a [`DONE`].
    error: Option<i32>,
    rest: &'a [u8],
}

impl<'a> Message<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk::<4>()?));
        let length = usize::try_from(word(0)?).ok()?;
        let content = bytes.get(HEADER..length)?;
        let next = length.next_multiple_of(4).min(bytes.len());
        Some(Self {
            kind: u16::from_ne_bytes(*bytes.get(4..)?.first_chunk::<2>()?),
            sequence: word(8)?,
            content,
            error: content.first_chunk::<4>().map(|word| i32::from_ne_bytes(*word)),
            rest: bytes.get(next..)?,
        })
    }
}

/// `struct nlmsghdr` and `struct nfgenmsg`.
const HEADER: usize = 16;
const FAMILY_HEADER: usize = 4;
/// The kernel fills at most 32 KiB at once.
const BUFFER: usize = 1 << 18;
/// `NLM_F_REQUEST`, `NLMSG_ERROR`, `NLMSG_DONE`.
const REQUEST: u16 = 1;
const ERROR: u16 = 2;
const DONE: u16 = 3;
