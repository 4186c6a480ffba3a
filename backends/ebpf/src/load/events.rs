//! Events on their way to who reads them.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::ffi::c_int;
use core::time::Duration;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use aya::maps::{MapData, RingBuf};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use portcullis_core::backend::{Event, EventAction};

use crate::error::{Context as _, LoadError};
use crate::load::decisions::Decisions;
use crate::load::event::EventRecord;

/// The ring buffer of the kernel, and before it the events that were taken out of it because their numbers get another
/// meaning.
pub(crate) struct Events {
    ring: RingBuf<MapData>,
    waiting: VecDeque<Event>,
    /// As many as the ring buffer holds.
    most_waiting: usize,
    lost: u64,
    /// Polls as readable when the ring buffer does, or anything is waiting.
    poll: Epoll,
    /// Not zero while anything is waiting.
    signal: EventFd,
}

impl Events {
    /// `bytes` is how large the ring buffer is.
    pub(crate) fn new(ring: RingBuf<MapData>, bytes: u32) -> Result<Self, LoadError> {
        let what = "cannot wait for events";
        let poll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context(what)?;
        let signal =
            EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).context(what)?;
        let readable = EpollEvent::new(EpollFlags::EPOLLIN, 0);
        poll.add(ring.as_fd(), readable).context(what)?;
        poll.add(signal.as_fd(), readable).context(what)?;
        let most_waiting = usize::try_from(bytes).unwrap_or(usize::MAX) / RECORD_BYTES;
        Ok(Self { ring, waiting: VecDeque::new(), most_waiting, lost: 0, poll, signal })
    }

    /// What polls as readable when there may be an event.
    pub(crate) fn fd(&self) -> c_int {
        self.as_fd().as_raw_fd()
    }

    /// The same.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.0.as_fd()
    }

    /// Events that were taken out of the ring buffer and found no room.
    pub(crate) const fn lost(&self) -> u64 {
        self.lost
    }

    /// The next event.
    pub(crate) fn next(&mut self, decisions: &Decisions) -> Option<Event> {
        if let Some(event) = self.waiting.pop_front() {
            if self.waiting.is_empty() {
                // Nobody else reads it.
                let _ = self.signal.read();
            }
            return Some(event);
        }
        self.read(decisions)
    }

    /// Takes all events out of the ring buffer, while their numbers still mean what they meant.
    pub(crate) fn drain(&mut self, decisions: &Decisions) {
        while let Some(event) = self.read(decisions) {
            self.wait(event);
        }
    }

    /// Takes over what another one was [drained](Events::drain) of, and what is polled. Beside what it lost, `lost` events never
    /// reached its ring buffer.
    pub(crate) fn take_over(&mut self, other: &mut Self, lost: u64) {
        self.lost = self.lost.saturating_add(core::mem::take(&mut other.lost)).saturating_add(lost);
        let readable = EpollEvent::new(EpollFlags::EPOLLIN, 0);
        if other.poll.add(self.ring.as_fd(), readable).is_ok() {
            // A ring buffer that is not read any more may be readable for ever.
            let _ = other.poll.delete(other.ring.as_fd());
            core::mem::swap(&mut self.poll, &mut other.poll);
            core::mem::swap(&mut self.signal, &mut other.signal);
            core::mem::swap(&mut self.waiting, &mut other.waiting);
        }
        // Nothing, unless the kernel had no memory for the other poll.
        core::mem::take(&mut other.waiting).into_iter().for_each(|event| self.wait(event));
    }

    fn wait(&mut self, event: Event) {
        if self.waiting.len() >= self.most_waiting {
            self.lost = self.lost.saturating_add(1);
            return;
        }
        if self.waiting.is_empty() {
            // The counter is at zero, so that it takes one more.
            let _ = self.signal.write(1);
        }
        self.waiting.push_back(event);
    }

    fn read(&mut self, decisions: &Decisions) -> Option<Event> {
        loop {
            let record = EventRecord::read(&self.ring.next()?);
            let resolved = record.and_then(|record| Some((decisions.get(record.decision)?, record)));
            let Some((decision, record)) = resolved else {
                self.lost = self.lost.saturating_add(1);
                continue;
            };
            let action = if record.dropped { EventAction::Dropped } else { EventAction::Passed };
            let mut event = Event::new(record.packet, Arc::clone(decision), action);
            event.hook = Some(record.hook);
            event.interface = Some(record.interface);
            event.time = Some(Duration::from_nanos(record.time));
            return Some(event);
        }
    }
}

/// An event in the ring buffer, with its header.
const RECORD_BYTES: usize = crate::layout::EVENT_BYTES + 8;
