//! What other programs do to nf_tables, and what becomes of interfaces, told by the kernel as it happens.

use core::fmt;
use std::os::fd::AsRawFd as _;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::socket::{MsgFlags, SockProtocol};
use socket2::{SockFilter, SockRef};

use portcullis_core::label::Name;

use super::attr::{as_text, find, read};
use super::socket::{FAMILY_HEADER, Reply, Socket, replies};
use super::{NF_TABLES, encode};
use crate::apply::transport::ApplyError;
use crate::command::Family;

/// Listens to the changes of one network namespace: that of the thread which opened it.
pub(crate) struct Watch {
    tables: Socket,
    links: Socket,
    /// Readable when one of the two is.
    both: Epoll,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watch({:?}, {:?})", self.tables, self.links)
    }
}

/// What others did to nf_tables since the last question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Whether a table was changed that the question was about.
    pub(crate) of_table: bool,
    /// Whether more was told than the socket holds.
    pub(crate) is_cut_short: bool,
    /// Whether anything was told at all, also about other tables.
    pub(crate) anything: bool,
}

/// `NFNLGRP_NFTABLES` as a bit.
const GROUP_NF_TABLES: u32 = 1 << 6;
/// `RTMGRP_LINK`.
const GROUP_LINKS: u32 = 1;
/// Ends what is told of a transaction, and names no table.
const NEW_GENERATION: u16 = 15;

impl Watch {
    /// What the socket with the address `own` changes is not told.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub(crate) fn open(own: u32) -> Result<Self, ApplyError> {
        let failed = |errno| ApplyError::kernel("watch the kernel's tables", errno);
        let tables = Socket::listen(SockProtocol::NetlinkNetFilter, GROUP_NF_TABLES)?;
        // The kernel hands on what one transaction changed in a few buffers, each of one sender.
        let filter = not_from(own);
        SockRef::from(tables.owned())
            .attach_filter(&filter)
            .map_err(|error| failed(error.raw_os_error().map_or(Errno::EINVAL, Errno::from_raw)))?;
        let links = Socket::listen(SockProtocol::NetlinkRoute, GROUP_LINKS)?;
        let both = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed)?;
        for socket in [&tables, &links] {
            both.add(socket.owned(), EpollEvent::new(EpollFlags::EPOLLIN, 0)).map_err(failed)?;
        }
        Ok(Self { tables, links, both })
    }

    #[cfg(all(test, feature = "oracle"))]
    pub(crate) fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.both.0)
    }

    /// Polls as readable when something was told.
    pub(crate) fn fd(&self) -> i32 {
        self.both.0.as_raw_fd()
    }

    /// What others did since the last call; `table` is ours. Complete for all transactions before one of our own that was
    /// carried out: the kernel tells of a transaction before the next one begins.
    ///
    /// # Errors
    /// When the socket fails.
    pub(crate) fn tables(&mut self, table: &Name) -> Result<Told, ApplyError> {
        let mut told = Told::default();
        while let Some(received) = next(&mut self.tables)? {
            told.anything = true;
            match received {
                Received::Messages(bytes) => {
                    told.of_table |= replies(&bytes).any(|(reply, _)| is_about(&reply, table));
                }
                Received::Lost => told.is_cut_short = true,
            }
        }
        Ok(told)
    }

    /// Whether an interface came, went or changed since the last call.
    ///
    /// # Errors
    /// When the socket fails.
    pub(crate) fn links(&mut self) -> Result<bool, ApplyError> {
        let mut told = false;
        while next(&mut self.links)?.is_some() {
            told = true;
        }
        Ok(told)
    }
}

enum Received {
    Messages(Vec<u8>),
    /// There was more than the socket holds.
    Lost,
}

fn next(socket: &mut Socket) -> Result<Option<Received>, ApplyError> {
    match socket.receive(MsgFlags::MSG_DONTWAIT) {
        Ok(bytes) => Ok(Some(Received::Messages(bytes))),
        Err(error) if error.is_empty_queue() => Ok(None),
        Err(error) if error.errno() == Some(Errno::ENOBUFS as i32) => Ok(Some(Received::Lost)),
        Err(error) => Err(error),
    }
}

/// Whether a table of this name, or something in it, was changed.
fn is_about(reply: &Reply<'_>, table: &Name) -> bool {
    let [subsystem, message] = reply.kind.to_be_bytes();
    let number_of = |family: &Family| u8::from(encode::protocol_family(*family));
    let is_ours = |number: &u8| Family::ALL.iter().any(|family| number_of(family) == *number);
    if subsystem != NF_TABLES
        || u16::from(message) == NEW_GENERATION
        || !reply.payload.first().is_some_and(is_ours)
    {
        return false;
    }
    let attributes = read(reply.payload.get(FAMILY_HEADER..).unwrap_or_default());
    // The first attribute of messages of every kind is the table.
    find(&attributes, 1).is_some_and(|name| as_text(name) == **table)
}

/// A filter (`SO_ATTACH_FILTER`) that keeps away what the socket with this address caused: `nlmsg_pid` of the first message.
fn not_from(address: u32) -> [SockFilter; 4] {
    // The filter reads words in network order.
    let sender = u32::from_be_bytes(address.to_ne_bytes());
    [
        SockFilter::new(LOAD_WORD, 0, 0, SENDER),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, sender),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ]
}

/// `BPF_LD | BPF_W | BPF_ABS`, `BPF_JMP | BPF_JEQ | BPF_K`, `BPF_RET | BPF_K` (`linux/bpf_common.h`).
const LOAD_WORD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
/// Where `nlmsg_pid` stands in `struct nlmsghdr`.
const SENDER: u32 = 12;
