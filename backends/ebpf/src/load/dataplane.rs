//! The enforcer, as an agent drives it.

use alloc::sync::Arc;
use core::ffi::c_int;

use portcullis_core::backend::{
    Applied, Counter, Dataplane, DataplaneError, DataplaneOptions, DesiredState, Event, Health, TrackedFlow,
    Usage,
};
use portcullis_core::ir::{DecisionEntry, Delta};

use crate::load::enforcer::Enforcer;
use crate::load::reason::Reason;

/// - A policy of which a part could not be written is brought in force by the next update as by a load: with fresh maps.
/// - [`maintain`](Dataplane::maintain) waits for a grace period of the kernel when updates left something for later, which
///   takes some milliseconds, and looks at what is attached to each interface.
/// - [`terminate`](Dataplane::terminate) and [`usage`](Dataplane::usage) look at every entry of the flow tables. A TCP or SCTP
///   flow that was ended stays so until it is opened anew, or policy allows what the end sends that began it; of others, what an
///   end sends on that may begin such a flow is a new one. A flow whose beginning was not seen is ended when either end may
///   not begin it any more. The code of ICMP is taken to be 0.
/// - Counters begin at zero with the first load of a process. A later load goes on from them, also one that an update or
///   [`maintain`](Dataplane::maintain) does.
/// - [`event_fd`](Dataplane::event_fd) stays the same through loads.
/// - When the first load of a process fails after it reached some interfaces, these have the new policy and the others that of the
///   process before, each a whole one; an interface that is not bound any more may be open.
/// - [`remove`](Dataplane::remove) needs the BPF file system that the load had.
impl Dataplane for Enforcer {
    fn name(&self) -> &'static str {
        "ebpf"
    }

    fn options(&self) -> &DataplaneOptions {
        &Self::options(self).dataplane
    }

    fn load(&mut self, desired: DesiredState<'_>) -> Result<Applied, DataplaneError> {
        self.start(desired)
    }

    fn update(&mut self, desired: DesiredState<'_>, delta: &Delta) -> Result<Applied, DataplaneError> {
        self.follow(desired, delta)
    }

    fn maintain(&mut self, desired: DesiredState<'_>) -> Result<Health, DataplaneError> {
        self.look_after(desired)
    }

    fn counters(&mut self) -> Result<Vec<(Arc<DecisionEntry>, Counter)>, DataplaneError> {
        Ok(self.loaded_mut()?.counters()?)
    }

    fn next_event(&mut self) -> Result<Option<Event>, DataplaneError> {
        let running = self.loaded_mut()?;
        Ok(running.events.next(&running.decisions))
    }

    fn lost_events(&mut self) -> u64 {
        self.loaded().map_or(0, |running| {
            let in_kernel = running.reason(Reason::LostEvent).unwrap_or_default();
            in_kernel.saturating_add(running.events.lost())
        })
    }

    /// Those that were read too late are not among them.
    fn lost_events_by_interface(&mut self) -> Vec<(u32, u64)> {
        let lost = self.loaded().and_then(|running| Ok(running.lost_by_interface()?));
        lost.unwrap_or_default().into_iter().collect()
    }

    fn event_fd(&self) -> Option<c_int> {
        self.loaded().ok().map(|running| running.events.fd())
    }

    fn terminate(&mut self, is_denied: &dyn Fn(&TrackedFlow) -> bool) -> Result<usize, DataplaneError> {
        self.end_flows(is_denied)
    }

    fn usage(&mut self) -> Result<Vec<Usage>, DataplaneError> {
        self.used()
    }

    fn remove(&mut self) -> Result<(), DataplaneError> {
        self.take_away()
    }
}
