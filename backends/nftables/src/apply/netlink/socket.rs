//! The socket: requests, dumps and batches.

use core::fmt;
use core::time::Duration;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use netlink_packet_core::{
    DefaultNla, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily, NetfilterSubsystem,
};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname, recv, sendto,
    setsockopt, socket, sockopt,
};

use super::attr;
use super::encode::Encoded;
use crate::apply::transport::ApplyError;
use crate::command::Command;

pub(super) struct Socket {
    fd: OwnedFd,
    /// The size of a batch that the socket takes.
    room: usize,
    buffer: Vec<u8>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Socket({})", self.fd.as_raw_fd())
    }
}

/// Bytes of netlink's own header.
const HEADER: usize = 16;
/// Bytes of netfilter's header behind it.
pub(super) const FAMILY_HEADER: usize = 4;
pub(super) const TYPE_ERROR: u16 = 2;
pub(super) const TYPE_DONE: u16 = 3;

/// One message as it came.
pub(super) struct Reply<'a> {
    pub(super) kind: u16,
    pub(super) sequence: u32,
    pub(super) payload: &'a [u8],
}

impl Socket {
    pub(super) fn open(protocol: SockProtocol) -> Result<Self, ApplyError> {
        Self::listen(protocol, 0)
    }

    /// One that is told what these groups are told.
    pub(super) fn listen(protocol: SockProtocol, groups: u32) -> Result<Self, ApplyError> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)
            .map_err(|errno| ApplyError::kernel("open a netlink socket", errno))?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))
            .map_err(|errno| ApplyError::kernel("bind a netlink socket", errno))?;
        // Answers to a large batch come all at once. Without the right to force it, the usual limit holds.
        let _ = setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER);
        Ok(Self { fd, room: 0, buffer: vec![0; BUFFER] })
    }

    pub(super) fn fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    pub(super) const fn owned(&self) -> &OwnedFd {
        &self.fd
    }

    /// Its address, by which the kernel names it as the sender of what it changes.
    pub(super) fn address(&self) -> Result<u32, ApplyError> {
        getsockname::<NetlinkAddr>(self.fd.as_raw_fd())
            .map(|address| address.pid())
            .map_err(|errno| ApplyError::kernel("ask for the address of a netlink socket", errno))
    }

    /// Asks nf_tables and collects the payloads of the answers, without netfilter's header.
    pub(super) fn request(
        &mut self,
        (family, kind): (NetfilterProtoFamily, u8),
        dump: bool,
        attributes: Vec<DefaultNla>,
        sequence: &mut u32,
    ) -> Result<Vec<Vec<u8>>, ApplyError> {
        let flags = if dump { NLM_F_DUMP } else { 0 };
        for _ in 0..ATTEMPTS {
            let mut header = NetlinkHeader::default();
            header.flags = NLM_F_REQUEST | flags;
            header.sequence_number = *sequence;
            *sequence = sequence.wrapping_add(1);
            let inner = NetfilterMessageInner::Other {
                subsys: NetfilterSubsystem::NfTables,
                message_type: kind,
                attributes: attributes.clone(),
            };
            let netfilter = NetfilterHeader::new(family, 0, 0);
            let mut message =
                NetlinkMessage::new(header, NetlinkPayload::from(NetfilterMessage::new(netfilter, inner)));
            message.finalize();
            let mut bytes = vec![0; message.buffer_len()];
            message.serialize(&mut bytes);
            self.send(&bytes)?;
            match self.answers(header.sequence_number, flags)? {
                Some(answers) => return Ok(answers),
                // The tables changed during the dump.
                None => continue,
            }
        }
        Err(ApplyError::environment("netfilter changes too fast to be read"))
    }

    /// `None` when a dump was overtaken by a change.
    fn answers(&mut self, sequence: u32, asked: u16) -> Result<Option<Vec<Vec<u8>>>, ApplyError> {
        let (mut answers, mut overtaken) = (Vec::new(), false);
        loop {
            let bytes = self.receive(MsgFlags::empty())?;
            let mut done = false;
            for (reply, flags) in replies(&bytes).filter(|(reply, _)| reply.sequence == sequence) {
                overtaken |= flags & DUMP_INTERRUPTED != 0;
                match reply.kind {
                    TYPE_DONE => done = true,
                    TYPE_ERROR => match error_of(reply.payload) {
                        None => done = true,
                        Some(Errno::ENOENT) => return Ok(Some(Vec::new())),
                        Some(Errno::EINTR) => return Ok(None),
                        Some(errno) => return Err(ApplyError::kernel("read netfilter", errno)),
                    },
                    _ => {
                        answers.push(reply.payload.get(FAMILY_HEADER..).unwrap_or_default().to_vec());
                        done |= asked != NLM_F_DUMP;
                    }
                }
            }
            if done {
                return Ok((!overtaken).then_some(answers));
            }
        }
    }

    /// Sends a batch. The kernel answers while it takes it, so that all answers are there afterwards.
    pub(super) fn commit(&mut self, batch: &Encoded, commands: &[Command]) -> Result<(), ApplyError> {
        if batch.bytes.len() > self.room {
            let size = batch.bytes.len().saturating_mul(2).max(SEND_BUFFER);
            setsockopt(&self.fd, sockopt::SndBufForce, &size)
                .map_err(|errno| ApplyError::kernel("make room for a batch", errno))?;
            self.room = batch.bytes.len();
        }
        self.send(&batch.bytes)?;
        let (mut acknowledged, mut failure) = (false, None);
        loop {
            let bytes = match self.receive(MsgFlags::MSG_DONTWAIT) {
                Ok(bytes) => bytes,
                Err(error) if error.is_empty_queue() => break,
                // Some answers, which of them is not known.
                Err(error) if error.errno() == Some(Errno::ENOBUFS as i32) => continue,
                Err(error) => return Err(error),
            };
            for (reply, _) in replies(&bytes).filter(|(reply, _)| reply.kind == TYPE_ERROR) {
                let position = reply.sequence.wrapping_sub(batch.first);
                // Answers to an earlier batch, which were not read because the socket had no room for all of them.
                if position > batch.last.wrapping_add(1).wrapping_sub(batch.first) {
                    continue;
                }
                let Some(errno) = error_of(reply.payload) else {
                    acknowledged |= reply.sequence == batch.last;
                    continue;
                };
                let position = position.checked_sub(1);
                let command = position
                    .and_then(|position| batch.commands.get(usize::try_from(position).ok()?))
                    .and_then(|index| commands.get(*index));
                let said = extended(reply.payload);
                failure.get_or_insert_with(|| ApplyError::refused(command, errno, said.as_deref()));
            }
        }
        match failure {
            Some(failure) => Err(failure),
            None if acknowledged => Ok(()),
            None => Err(ApplyError::no_answer("the batch was not acknowledged")),
        }
    }

    /// Waits until there is something to receive; whether there is.
    pub(super) fn wait(&self, patience: Duration) -> Result<bool, ApplyError> {
        let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)], patience) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::EINTR) => Ok(false),
            Err(errno) => Err(ApplyError::kernel("wait for netlink", errno)),
        }
    }

    pub(super) fn send(&self, bytes: &[u8]) -> Result<(), ApplyError> {
        loop {
            match sendto(self.fd.as_raw_fd(), bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(ApplyError::kernel("send to nf_tables", errno)),
            }
        }
    }

    pub(super) fn receive(&mut self, flags: MsgFlags) -> Result<Vec<u8>, ApplyError> {
        loop {
            match recv(self.fd.as_raw_fd(), &mut self.buffer, flags) {
                Ok(count) => return Ok(self.buffer.get(..count).unwrap_or_default().to_vec()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(ApplyError::kernel("receive from nf_tables", errno)),
            }
        }
    }
}

const ATTEMPTS: usize = 20;
const BUFFER: usize = 1 << 18;
const RECEIVE_BUFFER: usize = 1 << 23;
const SEND_BUFFER: usize = 1 << 20;
/// `NLM_F_DUMP_INTR`.
pub(super) const DUMP_INTERRUPTED: u16 = 0x10;

/// The messages in what was received, with their flags.
pub(super) fn replies(mut bytes: &[u8]) -> impl Iterator<Item = (Reply<'_>, u16)> {
    core::iter::from_fn(move || {
        let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?));
        let half = |at: usize| Some(u16::from_ne_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?));
        let length = usize::try_from(word(0)?).ok()?;
        let reply = Reply { kind: half(4)?, sequence: word(8)?, payload: bytes.get(HEADER..length)? };
        let flags = half(6)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((reply, flags))
    })
}

/// The error in an answer; `None` is an acknowledgement.
pub(super) fn error_of(payload: &[u8]) -> Option<Errno> {
    let code = i32::from_ne_bytes(payload.get(..4)?.try_into().ok()?);
    (code != 0).then(|| Errno::from_raw(code.saturating_neg()))
}

/// What the kernel says about an error in words, when it does. The words stand behind the message that failed.
fn extended(payload: &[u8]) -> Option<String> {
    let length = usize::try_from(u32::from_ne_bytes(payload.get(4..8)?.try_into().ok()?)).ok()?;
    let attributes = attr::read(payload.get(length.checked_add(4)?.next_multiple_of(4)..)?);
    attr::find(&attributes, 1).map(attr::as_text)
}
