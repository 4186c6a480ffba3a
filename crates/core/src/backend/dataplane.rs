//! What enforces policy on a machine.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ffi::c_int;

use crate::backend::{Applied, DataplaneError, DataplaneOptions, DesiredState, Event};
use crate::ir::{DecisionEntry, Delta};
use crate::packet::Packet;

/// Enforces policy on this machine. See the [module](crate::backend) for what every implementation promises.
///
/// A value works in the network namespace of the thread that made it. Dropping it leaves the policy in force, so that an
/// agent can be restarted; [`Dataplane::remove`] takes it away.
pub trait Dataplane: Send {
    /// The name of the backend, for example `nftables`.
    fn name(&self) -> &'static str;

    /// What it was opened with.
    fn options(&self) -> &DataplaneOptions;

    /// Brings `desired` in force and replaces the state of an earlier load or an earlier process. Flows that were
    /// allowed go on.
    ///
    /// # Errors
    /// When it does not fit or the kernel refuses; what was in force stays.
    fn load(&mut self, desired: DesiredState<'_>) -> Result<Applied, DataplaneError>;

    /// Follows `delta`, which leads to the snapshot of `desired`, and changed bindings. When the delta does not start where
    /// the dataplane is, for example because the update before failed, all of `desired` is brought in force.
    ///
    /// # Errors
    /// When it does not fit or the kernel refuses; what was in force stays. When nothing was loaded yet.
    fn update(&mut self, desired: DesiredState<'_>, delta: &Delta) -> Result<Applied, DataplaneError>;

    /// Finishes the work that updates left for later, compares the kernel with the state it was given, and repairs it. An
    /// agent calls it every few seconds and when an interface appears.
    ///
    /// # Errors
    /// When the kernel cannot be read or cannot be repaired; the next call tries again.
    fn maintain(&mut self, desired: DesiredState<'_>) -> Result<Health, DataplaneError>;

    /// The counter of each decision since it was first in force through this value, also through further loads. The
    /// decision of a retired policy is reported once more, with its last count. Drops that no endpoint's program
    /// decided, as at closed interfaces, need not be among them.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    fn counters(&mut self) -> Result<Vec<(Arc<DecisionEntry>, Counter)>, DataplaneError>;

    /// The next event that waits, if any. Does not block; see [`Dataplane::event_fd`].
    ///
    /// # Errors
    /// When events cannot be read.
    fn next_event(&mut self) -> Result<Option<Event>, DataplaneError>;

    /// How many events were lost at least since the last call of [`Dataplane::load`] that succeeded, because nobody read them in
    /// time or there were too many.
    fn lost_events(&mut self) -> u64;

    /// The same by the interface that the packets came in by: the kernel's index, and how many. Only interfaces that lost some.
    /// Fewer than [`Dataplane::lost_events`] where the dataplane does not tell the interface of all.
    fn lost_events_by_interface(&mut self) -> Vec<(u32, u64)> {
        Vec::new()
    }

    /// A file descriptor that polls as readable when [`Dataplane::next_event`] may have one. It is the dataplane's own and
    /// valid until removal or drop. `None` where there is nothing to wait on.
    fn event_fd(&self) -> Option<c_int>;

    /// A file descriptor that polls as readable when [`Dataplane::maintain`] has something to do at once: an interface came or
    /// went, or others changed what this dataplane has in the kernel. `maintain` makes it unreadable again. The dataplane's own,
    /// valid from the first load until removal or drop. `None` where there is nothing to wait on: an agent calls `maintain` every few
    /// seconds all the same.
    fn change_fd(&self) -> Option<c_int> {
        None
    }

    /// Ends the tracked flows that `is_denied` picks, so that their next packet is decided anew (decision D16); others go on.
    /// How many entries of flow tables these were.
    ///
    /// # Errors
    /// When the kernel cannot be asked. Some flows may be ended then, and others not.
    fn terminate(&mut self, is_denied: &dyn Fn(&TrackedFlow) -> bool) -> Result<usize, DataplaneError>;

    /// How much of each limit is used.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    fn usage(&mut self) -> Result<Vec<Usage>, DataplaneError>;

    /// Takes everything of this dataplane off the machine, with the state of earlier processes, and also without a load. No
    /// error when there is nothing. Counts end with it: ask for [`Dataplane::counters`] before.
    ///
    /// # Errors
    /// When the kernel refuses, or the place where the state of earlier processes is kept is not there to be read.
    fn remove(&mut self) -> Result<(), DataplaneError>;
}

/// What a decision counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Counter {
    /// Packets that the decision was taken for. Packets of flows that were allowed before are not decided again.
    pub packets: u64,
    /// Their bytes from the IP header on, headers of the link not included.
    pub bytes: u64,
}

/// How a dataplane was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// What is in force now.
    pub applied: Applied,
    /// What had been changed from outside and was repaired: a name of an object for each.
    pub repaired: Vec<String>,
}

/// How much of a limit is used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Usage {
    /// The limit, by the name it has in the backend's options.
    pub name: &'static str,
    /// What is used.
    pub used: u64,
    /// What there is room for; `None` where nothing bounds it.
    pub limit: Option<u64>,
}

/// A flow that the dataplane lets pass without asking policy again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackedFlow {
    /// Its first packet as policy saw it: the destination after destination NAT, the source before source NAT.
    pub packet: Packet,
    /// The same before destination NAT, as pre-DNAT policy saw it. Equal where nothing was rewritten, or where the
    /// dataplane does not know.
    pub arrived: Packet,
    /// Where the flow is tracked.
    pub at: TrackedAt,
}

/// Where a flow is tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrackedAt {
    /// Once for the whole node, as connection tracking does: every hook on its way was asked.
    Node,
    /// At one interface; hooks at other interfaces have entries of their own.
    Interface {
        /// The kernel's index; 0 is the node itself.
        index: u32,
        /// Whether its first packet came from the endpoint of the interface (a workload that sends, or a host
        /// endpoint's node that does), rather than to it.
        from_endpoint: bool,
    },
}
