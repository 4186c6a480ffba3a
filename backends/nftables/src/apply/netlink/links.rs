//! Interfaces that belong to another one: netfilter sees their packets at that one, or not at all.

use alloc::collections::{BTreeMap, BTreeSet};

use netlink_packet_core::{Emitable as _, NLM_F_DUMP, NLM_F_REQUEST};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockProtocol};

use super::attr::{as_text, find, read, text};
use super::socket::{DUMP_INTERRUPTED, Socket, TYPE_DONE, TYPE_ERROR, error_of, replies};
use crate::apply::faults;
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

/// One interface.
#[derive(Clone, Debug)]
struct Link {
    index: u32,
    name: String,
    kind: String,
    /// The index of the interface that it is a part of.
    master: Option<u32>,
}

impl Links {
    /// # Errors
    /// When the kernel gives no socket.
    pub(crate) fn open() -> Result<Self, ApplyError> {
        Ok(Self { socket: Socket::open(SockProtocol::NetlinkRoute)?, sequence: 0 })
    }

    /// What the interfaces of these names are parts of. `None` for one that is part of nothing, or not there.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub(crate) fn masters<'n>(
        &mut self,
        names: &BTreeSet<&'n str>,
    ) -> Result<BTreeMap<&'n str, Option<Master>>, ApplyError> {
        faults::asking_links()?;
        if names.len() > ASKED_ONE_BY_ONE {
            let all = self.all()?;
            let by_index: BTreeMap<u32, &Link> = all.iter().map(|link| (link.index, link)).collect();
            let by_name: BTreeMap<&str, &Link> = all.iter().map(|link| (link.name.as_str(), link)).collect();
            let master = |name: &str| {
                let index = by_name.get(name)?.master?;
                Some(named(index, by_index.get(&index).copied()))
            };
            return Ok(names.iter().map(|name| (*name, master(name))).collect());
        }
        let mut masters = BTreeMap::new();
        for name in names {
            let master = match self.one(0, Some(name))?.and_then(|link| link.master) {
                Some(index) => Some(named(index, self.one(index, None)?.as_ref())),
                None => None,
            };
            masters.insert(*name, master);
        }
        Ok(masters)
    }

    /// The index of the interface of this name. `None` when it is not there.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub(crate) fn index(&mut self, name: &str) -> Result<Option<u32>, ApplyError> {
        Ok(self.one(0, Some(name))?.map(|link| link.index))
    }

    /// One interface, by index or by name. `None` when there is none.
    fn one(&mut self, index: u32, name: Option<&str>) -> Result<Option<Link>, ApplyError> {
        self.ask(index, name, 0)?;
        loop {
            let received = self.socket.receive(MsgFlags::empty())?;
            for (reply, _) in replies(&received).filter(|(reply, _)| reply.sequence == self.sequence) {
                match reply.kind {
                    NEW_LINK => return Ok(link(reply.payload)),
                    TYPE_ERROR => match error_of(reply.payload) {
                        None | Some(Errno::ENODEV | Errno::ENXIO) => return Ok(None),
                        Some(errno) => return Err(ApplyError::kernel("ask about an interface", errno)),
                    },
                    _ => {}
                }
            }
        }
    }

    /// All interfaces.
    fn all(&mut self) -> Result<Vec<Link>, ApplyError> {
        for _ in 0..ATTEMPTS {
            self.ask(0, None, NLM_F_DUMP)?;
            if let Some(links) = self.dumped()? {
                return Ok(links);
            }
        }
        Err(ApplyError::environment("interfaces come and go too fast to be read"))
    }

    /// `None` when interfaces came or went meanwhile.
    fn dumped(&mut self) -> Result<Option<Vec<Link>>, ApplyError> {
        let (mut links, mut overtaken) = (Vec::new(), false);
        loop {
            let received = self.socket.receive(MsgFlags::empty())?;
            for (reply, flags) in replies(&received).filter(|(reply, _)| reply.sequence == self.sequence) {
                overtaken |= flags & DUMP_INTERRUPTED != 0;
                match reply.kind {
                    NEW_LINK => links.extend(link(reply.payload)),
                    TYPE_DONE => return Ok((!overtaken).then_some(links)),
                    TYPE_ERROR => match error_of(reply.payload) {
                        Some(errno) => return Err(ApplyError::kernel("read the interfaces", errno)),
                        None => return Ok((!overtaken).then_some(links)),
                    },
                    _ => {}
                }
            }
        }
    }

    fn ask(&mut self, index: u32, name: Option<&str>, flags: u16) -> Result<(), ApplyError> {
        self.sequence = self.sequence.wrapping_add(1);
        let attributes: Vec<_> = name.map(|name| text(IFNAME, name)).into_iter().collect();
        let mut body = vec![0; attributes.as_slice().buffer_len()];
        attributes.as_slice().emit(&mut body);
        let length = body.len().saturating_add(2 * LINK_HEADER);
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(GET_LINK.to_ne_bytes());
        message.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend([0; 8]);
        message.extend(index.to_ne_bytes());
        message.extend([0; 8]);
        message.extend(body);
        self.socket.send(&message)
    }
}

/// Up to so many interfaces are asked for one by one, more are read with all others.
const ASKED_ONE_BY_ONE: usize = 8;
const ATTEMPTS: usize = 20;

fn link(payload: &[u8]) -> Option<Link> {
    let word = |bytes: &[u8]| Some(u32::from_ne_bytes(bytes.try_into().ok()?));
    let attributes = read(payload.get(LINK_HEADER..)?);
    let info = find(&attributes, LINKINFO).map(read).unwrap_or_default();
    Some(Link {
        index: word(payload.get(4..8)?)?,
        name: find(&attributes, IFNAME).map(as_text).unwrap_or_default(),
        kind: find(&info, INFO_KIND).map(as_text).unwrap_or_default(),
        master: find(&attributes, MASTER).and_then(word).filter(|index| *index != 0),
    })
}

fn named(index: u32, link: Option<&Link>) -> Master {
    let name = link.map_or_else(|| format!("interface {index}"), |link| link.name.clone());
    Master { name, kind: link.map(|link| link.kind.clone()).unwrap_or_default() }
}
