//! Requests to the kernel about links, filters and routes (rtnetlink(7)).

use core::net::IpAddr;
use std::io::{Error, ErrorKind};
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// Sends a request with this content behind its header. The messages that the kernel answers, by kind and content, up to the end of
/// the answer: `flags` ask for a dump or an acknowledgement.
pub(crate) fn ask(kind: u16, flags: u16, request: &[u8]) -> Result<Vec<(u16, Vec<u8>)>, Error> {
    let socket: OwnedFd =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    let length = request.len().saturating_add(HEADER);
    let mut message = Vec::with_capacity(length);
    message.extend(u32::try_from(length).map_err(|_| ErrorKind::InvalidInput)?.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((flags | REQUEST).to_ne_bytes());
    // Sequence and sender.
    for word in [1_u32, 0] {
        message.extend(word.to_ne_bytes());
    }
    message.extend(request);
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

/// Where the node sends what is for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// To itself.
    Here,
    /// Out by the interface of this index.
    By(u32),
    Nowhere,
}

/// The route to an address.
pub(crate) fn route_to(address: IpAddr) -> Route {
    let (family, bits, octets) = match address {
        IpAddr::V4(address) => (INET, 32, address.octets().to_vec()),
        IpAddr::V6(address) => (INET6, 128, address.octets().to_vec()),
    };
    // A `struct rtmsg`, then the destination.
    let mut request = vec![family, bits, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    request.extend(u16::try_from(octets.len().saturating_add(4)).unwrap_or_default().to_ne_bytes());
    request.extend(DESTINATION.to_ne_bytes());
    request.extend(octets);
    let Ok(answers) = ask(GET_ROUTE, ACKNOWLEDGE, &request) else { return Route::Nowhere };
    let found = answers.iter().find(|(kind, _)| *kind == NEW_ROUTE);
    let Some((kind, attributes)) =
        found.and_then(|(_, content)| Some((*content.get(7)?, content.get(ROUTE_HEADER..)?)))
    else {
        return Route::Nowhere;
    };
    let by = attribute(attributes, OUT_INTERFACE).and_then(|bytes| bytes.first_chunk::<4>());
    match (kind, by) {
        (LOCAL, _) => Route::Here,
        (UNICAST, Some(index)) => Route::By(u32::from_ne_bytes(*index)),
        _ => Route::Nowhere,
    }
}

/// The content of the first attribute of this type.
pub(crate) fn attribute(mut rest: &[u8], wanted: u16) -> Option<&[u8]> {
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
/// `NLM_F_REQUEST`, `NLM_F_ACK`, `NLM_F_DUMP`.
const REQUEST: u16 = 1;
pub(crate) const ACKNOWLEDGE: u16 = 4;
pub(crate) const DUMP: u16 = 0x300;
/// `NLMSG_ERROR`, `NLMSG_DONE`, `RTM_NEWROUTE`, `RTM_GETROUTE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;
/// `NLA_TYPE_MASK`, `RTA_DST`, `RTA_OIF`.
const ATTRIBUTE_TYPE: u16 = 0x3fff;
const DESTINATION: u16 = 1;
const OUT_INTERFACE: u16 = 4;
/// `RTN_UNICAST`, `RTN_LOCAL`; the size of a `struct rtmsg`.
const UNICAST: u8 = 1;
const LOCAL: u8 = 2;
const ROUTE_HEADER: usize = 12;
/// `AF_INET`, `AF_INET6`.
const INET: u8 = 2;
const INET6: u8 = 10;
