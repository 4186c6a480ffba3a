//! The clsact qdisc of an interface: whether anything uses it, and its removal. The rest is aya's.

use std::io::{Error, ErrorKind};
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use crate::load::direction::Direction;

/// A filter of the qdisc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) priority: u16,
    pub(crate) handle: u32,
    /// The number of its eBPF program, if it is one.
    pub(crate) program: Option<u32>,
}

/// The filters of a direction.
pub(crate) fn filters(interface: u32, direction: Direction) -> Result<Vec<Filter>, Error> {
    let parent = match direction {
        Direction::Ingress => INGRESS,
        Direction::Egress => EGRESS,
    };
    let dump = Request { kind: GET_FILTER, flags: REQUEST | DUMP, interface, handle: 0, parent };
    let answers = dump.send()?;
    Ok(answers
        .iter()
        .filter(|(kind, _)| *kind == NEW_FILTER)
        .filter_map(|(_, content)| read_filter(content))
        .collect())
}

/// Whether any filter is there, in either direction.
pub(crate) fn has_filters(interface: u32) -> Result<bool, Error> {
    for direction in Direction::BOTH {
        if !filters(interface, direction)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// From a `struct tcmsg` and the attributes behind it.
fn read_filter(content: &[u8]) -> Option<Filter> {
    let word = |at: usize| Some(u32::from_ne_bytes(*content.get(at..)?.first_chunk::<4>()?));
    let (handle, info) = (word(8)?, word(16)?);
    let options = attribute(content.get(20..)?, OPTIONS);
    let program = options.and_then(|options| attribute(options, PROGRAM_ID));
    Some(Filter {
        priority: u16::try_from(info >> 16).ok()?,
        handle,
        program: program.and_then(|bytes| Some(u32::from_ne_bytes(*bytes.first_chunk::<4>()?))),
    })
}

/// The content of the first attribute of this type.
fn attribute(mut rest: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let (length, behind) = rest.split_first_chunk::<2>()?;
        let kind = u16::from_ne_bytes(*behind.first_chunk::<2>()?);
        let length = usize::from(u16::from_ne_bytes(*length));
        let content = rest.get(4..length)?;
        if kind & ATTRIBUTE_TYPE == wanted {
            return Some(content);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

/// Removes it, and all filters with it.
pub(crate) fn delete(interface: u32) -> Result<(), Error> {
    let flags = REQUEST | ACKNOWLEDGE;
    let delete =
        Request { kind: DELETE_QDISC, flags, interface, handle: CLSACT << 16, parent: CLSACT_PARENT };
    delete.send().map(drop)
}

/// A `struct nlmsghdr` and the `struct tcmsg` behind it.
struct Request {
    kind: u16,
    flags: u16,
    interface: u32,
    handle: u32,
    parent: u32,
}

impl Request {
    /// Sends it. The messages that the kernel answers, by kind and content, up to the end of the answer.
    fn send(&self) -> Result<Vec<(u16, Vec<u8>)>, Error> {
        let socket: OwnedFd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        let sequence: u32 = 1;
        let mut message = Vec::with_capacity(LENGTH);
        message.extend(u32::try_from(LENGTH).unwrap_or(0).to_ne_bytes());
        message.extend(self.kind.to_ne_bytes());
        message.extend(self.flags.to_ne_bytes());
        // Sequence and sender; family and padding.
        for word in [sequence, 0, 0, self.interface, self.handle, self.parent, 0] {
            message.extend(word.to_ne_bytes());
        }
        send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut answers = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = buffer.get(..length).unwrap_or_default();
            while !rest.is_empty() {
                let message = Answer::read(rest).ok_or(ErrorKind::InvalidData)?;
                match (message.kind, message.error) {
                    (ERROR, Some(0)) | (DONE, _) => return Ok(answers),
                    (ERROR, Some(code)) => return Err(Errno::from_raw(code.saturating_neg()).into()),
                    (kind, _) => answers.push((kind, message.content.to_owned())),
                }
                rest = message.rest;
            }
        }
    }
}

struct Answer<'a> {
    kind: u16,
    content: &'a [u8],
    /// The first word of the content, which is the error number of an [`ERROR`].
    error: Option<i32>,
    rest: &'a [u8],
}

impl<'a> Answer<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (length, _) = bytes.split_first_chunk::<4>()?;
        let kind = bytes.get(4..)?.first_chunk::<2>()?;
        let length = usize::try_from(u32::from_ne_bytes(*length)).ok()?;
        let content = bytes.get(HEADER..length)?;
        let next = length.next_multiple_of(4).min(bytes.len());
        Some(Self {
            kind: u16::from_ne_bytes(*kind),
            content,
            error: content.first_chunk::<4>().map(|word| i32::from_ne_bytes(*word)),
            rest: bytes.get(next..)?,
        })
    }
}

const HEADER: usize = 16;
const LENGTH: usize = HEADER + 20;
/// `NLM_F_REQUEST`, `NLM_F_ACK`, `NLM_F_DUMP`.
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const DUMP: u16 = 0x300;
/// `NLMSG_ERROR`, `NLMSG_DONE`, `RTM_DELQDISC`, `RTM_NEWTFILTER`, `RTM_GETTFILTER`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
const DELETE_QDISC: u16 = 37;
const NEW_FILTER: u16 = 44;
const GET_FILTER: u16 = 46;
/// `TCA_OPTIONS`, `TCA_BPF_ID`, `NLA_TYPE_MASK`.
const OPTIONS: u16 = 2;
const PROGRAM_ID: u16 = 11;
const ATTRIBUTE_TYPE: u16 = 0x3fff;
/// `TC_H_CLSACT` in halves: as a handle, as the place of the qdisc, and as the parents of its filters.
const CLSACT: u32 = 0xffff;
const CLSACT_PARENT: u32 = 0xffff_fff1;
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;
