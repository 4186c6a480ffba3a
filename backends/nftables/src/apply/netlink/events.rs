//! Events of the nflog group: what Log rules and decisions send.

use core::fmt;
use core::time::Duration;
use std::time::Instant;

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily, NetfilterSubsystem,
};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockProtocol};

use super::attr::{as_text, as_u32, bytes, find, read};
use super::socket::{FAMILY_HEADER, Socket, TYPE_ERROR, error_of, replies};
use crate::apply::transport::ApplyError;

/// Listens to one nflog group of one network namespace: that of the thread which opened it.
pub(crate) struct Events {
    socket: Socket,
    /// Whether the group is ours.
    listens: bool,
    /// The number of the last request.
    sequence: u32,
    waiting: alloc::collections::VecDeque<LogMessage>,
}

/// What one rule logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogMessage {
    /// The prefix that the rule gave it. Its first word is the chain of the decision, see
    /// [`Lowering::decision`](crate::Lowering::decision), its second says `log`, or the verdict.
    pub(crate) prefix: String,
    /// The beginning of the packet, from its IP header.
    pub(crate) packet: Vec<u8>,
    /// The netfilter hook that the packet was at, as the kernel numbers them.
    pub(crate) hook: Option<u8>,
    /// The kernel's indexes of the interfaces that it came in by and goes out by.
    pub(crate) interfaces: [Option<u32>; 2],
}

impl LogMessage {
    /// The chain of the decision that sent it.
    #[must_use]
    pub(crate) fn chain(&self) -> &str {
        self.prefix.split(' ').next().unwrap_or_default()
    }

    /// The interface that the packet came in by, or goes out by where a process of this host sent it.
    pub(crate) fn interface(&self) -> Option<u32> {
        let [input, output] = self.interfaces;
        input.or(output)
    }

    /// Whether a Log rule sent it; otherwise it is the decision itself.
    #[must_use]
    #[cfg(feature = "oracle")]
    pub(crate) fn is_log(&self) -> bool {
        self.prefix.split(' ').nth(1) == Some("log")
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

const CONFIGURE: u8 = 1;
const PACKET: u16 = 0x0400;
const CFG_COMMAND: u16 = 1;
const CFG_MODE: u16 = 2;
const CFG_BIND: u8 = 1;
const CFG_UNBIND: u8 = 2;
const CFG_PF_BIND: u8 = 3;
const EPERM: i32 = Errno::EPERM as i32;
const EBUSY: i32 = Errno::EBUSY as i32;
const COPY_PACKET: u8 = 2;
/// The protocol, two bytes, and the hook.
const ATTR_HEADER: u16 = 1;
const ATTR_INPUT: u16 = 4;
const ATTR_OUTPUT: u16 = 5;
const ATTR_PAYLOAD: u16 = 9;
const ATTR_PREFIX: u16 = 10;
/// Bytes of the packet that come along.
const COPIED: u32 = 128;
/// How long the kernel may take to answer a request. It answers at once.
const PATIENCE: Duration = Duration::from_secs(1);

impl Events {
    /// Opens a socket in the network namespace of the calling thread. It listens to nothing yet.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub(crate) fn open() -> Result<Self, ApplyError> {
        let waiting = alloc::collections::VecDeque::new();
        Ok(Self {
            socket: Socket::open(SockProtocol::NetlinkNetFilter)?,
            listens: false,
            sequence: 0,
            waiting,
        })
    }

    /// Listens to `group`, which has one listener at most, unless it does already.
    ///
    /// # Errors
    /// When the right is missing, the kernel has no nflog, or another process listens already.
    pub(crate) fn listen(&mut self, group: u16) -> Result<(), ApplyError> {
        if self.listens {
            return Ok(());
        }
        // The kernel refuses a second listener with the same number as a process without the right. This command does
        // nothing for one with the right.
        self.configure(group, CFG_COMMAND, &[CFG_PF_BIND]).map_err(|error| match error.errno() {
            Some(EPERM) => {
                ApplyError::environment("reading events needs root, or the capability CAP_NET_ADMIN")
            }
            _ => error,
        })?;
        self.configure(group, CFG_COMMAND, &[CFG_BIND]).map_err(|error| match error.errno() {
            Some(EPERM | EBUSY) => ApplyError::environment(&format!(
                "another program listens to nflog group {group}, which takes one"
            )),
            _ => error,
        })?;
        let mut mode = COPIED.to_be_bytes().to_vec();
        mode.extend([COPY_PACKET, 0]);
        if let Err(error) = self.configure(group, CFG_MODE, &mode) {
            // The next attempt begins anew: the kernel refuses to bind a group twice.
            drop(self.configure(group, CFG_COMMAND, &[CFG_UNBIND]));
            return Err(error);
        }
        self.listens = true;
        Ok(())
    }

    /// Leaves `group` to others, and forgets what waits.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub(crate) fn stop(&mut self, group: u16) -> Result<(), ApplyError> {
        if self.listens {
            self.configure(group, CFG_COMMAND, &[CFG_UNBIND])?;
            self.listens = false;
            self.fill()?;
            self.waiting.clear();
        }
        Ok(())
    }

    /// Whether it listens to a group.
    #[must_use]
    pub(crate) const fn listens(&self) -> bool {
        self.listens
    }

    /// The next event, if there is one within `patience`.
    ///
    /// # Errors
    /// When the socket fails. Events that were lost because they were not read in time are no error.
    pub(crate) fn next(&mut self, patience: Duration) -> Result<Option<LogMessage>, ApplyError> {
        let end = Instant::now() + patience;
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Ok(Some(event));
            }
            self.fill()?;
            if self.waiting.is_empty() {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() || !self.socket.wait(left)? {
                    return Ok(None);
                }
            }
        }
    }

    /// Polls as readable when there may be an event.
    pub(crate) fn fd(&self) -> i32 {
        self.socket.fd()
    }

    /// All events that came and were not taken yet.
    ///
    /// # Errors
    /// When the socket fails.
    pub(crate) fn waiting(&mut self) -> Result<impl Iterator<Item = &LogMessage>, ApplyError> {
        self.fill()?;
        Ok(self.waiting.iter())
    }

    fn fill(&mut self) -> Result<(), ApplyError> {
        loop {
            match self.receive() {
                Ok(received) => drop(self.sort(&received)),
                Err(error) if error.is_empty_queue() => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// What came, without waiting for it.
    fn receive(&mut self) -> Result<Vec<u8>, ApplyError> {
        loop {
            match self.socket.receive(MsgFlags::MSG_DONTWAIT) {
                // Some were lost; whoever counts what was sent knows how many.
                Err(error) if error.errno() == Some(Errno::ENOBUFS as i32) => {}
                received => return received,
            }
        }
    }

    /// Puts the events of what was received in the queue. The answer to the last request, if it is there.
    fn sort(&mut self, received: &[u8]) -> Option<Result<(), Errno>> {
        let mut answer = None;
        for (reply, _) in replies(received) {
            if reply.kind == TYPE_ERROR && reply.sequence == self.sequence {
                answer = Some(error_of(reply.payload).map_or(Ok(()), Err));
            }
            if reply.kind != PACKET {
                continue;
            }
            let attributes = read(reply.payload.get(FAMILY_HEADER..).unwrap_or_default());
            let prefix = find(&attributes, ATTR_PREFIX).map(as_text).unwrap_or_default();
            let packet = find(&attributes, ATTR_PAYLOAD).unwrap_or_default().to_vec();
            let hook = find(&attributes, ATTR_HEADER).and_then(|header| header.get(2).copied());
            let index = |kind| find(&attributes, kind).and_then(as_u32);
            let interfaces = [index(ATTR_INPUT), index(ATTR_OUTPUT)];
            self.waiting.push_back(LogMessage { prefix, packet, hook, interfaces });
        }
        answer
    }

    fn configure(&mut self, group: u16, kind: u16, value: &[u8]) -> Result<(), ApplyError> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK;
        self.sequence = self.sequence.wrapping_add(1);
        header.sequence_number = self.sequence;
        let inner = NetfilterMessageInner::Other {
            subsys: NetfilterSubsystem::ULog,
            message_type: CONFIGURE,
            attributes: vec![bytes(kind, value)],
        };
        let netfilter = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, group);
        let mut message =
            NetlinkMessage::new(header, NetlinkPayload::from(NetfilterMessage::new(netfilter, inner)));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes)?;
        let end = Instant::now() + PATIENCE;
        loop {
            match self.receive() {
                Ok(received) => {
                    if let Some(answer) = self.sort(&received) {
                        let what = format!("listen to nflog group {group}");
                        return answer.map_err(|errno| ApplyError::kernel(&what, errno));
                    }
                }
                Err(error) if error.is_empty_queue() => {
                    // The answer itself can be lost when the queue is full.
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        let reason = format!("the kernel does not answer about nflog group {group}");
                        return Err(ApplyError::environment(&reason));
                    }
                    self.socket.wait(left)?;
                }
                Err(error) => return Err(error),
            }
        }
    }
}
