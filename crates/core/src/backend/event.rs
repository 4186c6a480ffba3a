//! What a dataplane tells about single packets.

use alloc::sync::Arc;
use core::time::Duration;

use crate::ir::DecisionEntry;
use crate::packet::Packet;
use crate::verdict::Hook;

/// One packet that was decided, resolved to what decided it.
///
/// A packet that meets several hooks gives an event for each. [`DecisionEntry::logs`] names the Log rules that it matched on
/// the way.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The packet, as far as rules see it.
    pub packet: Packet,
    /// What decided it. It stays available after the policy that it came from is retired.
    pub decision: Arc<DecisionEntry>,
    /// What the dataplane did with the packet at this hook.
    pub action: EventAction,
    /// The hook, where the dataplane tells.
    pub hook: Option<Hook>,
    /// The kernel's index of the interface whose endpoint was asked, where the dataplane tells.
    pub interface: Option<u32>,
    /// Since the machine started, where the dataplane tells.
    pub time: Option<Duration>,
}

impl Event {
    /// An event without the optional parts.
    #[must_use]
    pub const fn new(packet: Packet, decision: Arc<DecisionEntry>, action: EventAction) -> Self {
        Self { packet, decision, action, hook: None, interface: None, time: None }
    }
}

/// What became of a packet at one hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventAction {
    /// It went on.
    Passed,
    /// It was dropped.
    Dropped,
}
