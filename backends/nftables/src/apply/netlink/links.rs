//! Interfaces that belong to another one: netfilter sees their packets at that one, or not at all.

use netlink_packet_core::{Emitable as _, NLM_F_REQUEST};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockProtocol};

use super::attr::{Read, as_text, find, read, text};
use super::socket::{Socket, TYPE_ERROR, error_of, replies};
use crate::apply::transport::ApplyError;

/// Asks about interfaces of the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Links {
    socket: Socket,
    sequence: u32,
}

/// The interface that another one is a part of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Master {
    pub(crate) name: String,
    /// What the kernel calls its kind, for example `bridge` or `vrf`.
    pub(crate) kind: String,
}

const GET_LINK: u16 = 18;
const NEW_LINK: u16 = 16;
/// Bytes of `struct ifinfomsg`, in which the index is the second word.
const LINK_HEADER: usize = 16;
const IFNAME: u16 = 3;
const MASTER: u16 = 10;
const LINKINFO: u16 = 18;
const INFO_KIND: u16 = 1;

impl Links {
    /// # Errors
    /// When the kernel gives no socket.
    pub(crate) fn open() -> Result<Self, ApplyError> {
        Ok(Self { socket: Socket::open(SockProtocol::NetlinkRoute)?, sequence: 0 })
    }

    /// What the interface of this name is a part of. `None` when it is part of nothing, or not there.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub(crate) fn master(&mut self, name: &str) -> Result<Option<Master>, ApplyError> {
        let Some((_, link)) = self.ask(0, Some(name))? else { return Ok(None) };
        let index = find(&link, MASTER).and_then(|bytes| Some(u32::from_ne_bytes(bytes.try_into().ok()?)));
        let Some(index) = index.filter(|index| *index != 0) else { return Ok(None) };
        let (_, master) = self.ask(index, None)?.unwrap_or_default();
        let info = find(&master, LINKINFO).map(read).unwrap_or_default();
        let name = find(&master, IFNAME).map_or_else(|| format!("interface {index}"), as_text);
        Ok(Some(Master { name, kind: find(&info, INFO_KIND).map(as_text).unwrap_or_default() }))
    }

    /// The index of the interface of this name. `None` when it is not there.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub(crate) fn index(&mut self, name: &str) -> Result<Option<u32>, ApplyError> {
        Ok(self.ask(0, Some(name))?.map(|(index, _)| index))
    }

    /// The index and the attributes of one interface, by index or by name. `None` when there is none.
    fn ask(&mut self, index: u32, name: Option<&str>) -> Result<Option<(u32, Read)>, ApplyError> {
        self.sequence = self.sequence.wrapping_add(1);
        let attributes: Vec<_> = name.map(|name| text(IFNAME, name)).into_iter().collect();
        let mut body = vec![0; attributes.as_slice().buffer_len()];
        attributes.as_slice().emit(&mut body);
        let length = body.len().saturating_add(2 * LINK_HEADER);
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(GET_LINK.to_ne_bytes());
        message.extend(NLM_F_REQUEST.to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend([0; 8]);
        message.extend(index.to_ne_bytes());
        message.extend([0; 8]);
        message.extend(body);
        self.socket.send(&message)?;
        loop {
            let received = self.socket.receive(MsgFlags::empty())?;
            for (reply, _) in replies(&received).filter(|(reply, _)| reply.sequence == self.sequence) {
                match reply.kind {
                    NEW_LINK => {
                        let index = reply.payload.get(4..8).and_then(|bytes| bytes.try_into().ok());
                        let attributes = read(reply.payload.get(LINK_HEADER..).unwrap_or_default());
                        return Ok(Some((index.map_or(0, u32::from_ne_bytes), attributes)));
                    }
                    TYPE_ERROR => match error_of(reply.payload) {
                        Some(Errno::ENODEV | Errno::ENXIO) => return Ok(None),
                        Some(errno) => return Err(ApplyError::kernel("ask about an interface", errno)),
                        None => return Ok(None),
                    },
                    _ => {}
                }
            }
        }
    }
}
