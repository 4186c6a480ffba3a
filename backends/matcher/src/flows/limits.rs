//! How large the flow table is, and how long flows live.

use alloc::collections::TryReserveError;
use core::time::Duration;

use crate::flows::state::FlowState;

/// The size of a [`FlowTable`](crate::FlowTable) and the timeouts of its flows.
#[derive(Clone, Debug)]
pub struct FlowLimits {
    pub(super) capacity: u32,
    /// By state, in milliseconds.
    pub(super) timeouts: [u64; FlowState::ALL.len()],
}

impl FlowLimits {
    /// The largest capacity of one table: 16,777,216 flows.
    pub const MAX_CAPACITY: u32 = 1 << 24;

    /// Room for `capacity` flows, about 150 bytes each, with the
    /// [default timeouts](FlowState::default_timeout) of Linux.
    #[must_use]
    pub fn new(capacity: u32) -> Self {
        Self { capacity, timeouts: FlowState::ALL.map(|state| millis(state.default_timeout())) }
    }

    /// Sets how long a flow stays in `state` without a packet, to the millisecond. With 0 it is gone a millisecond
    /// later.
    #[must_use]
    pub fn with_timeout(mut self, state: FlowState, timeout: Duration) -> Self {
        if let Some(slot) = self.timeouts.get_mut(state.index()) {
            *slot = millis(timeout);
        }
        self
    }
}

/// Whole milliseconds of `duration`; the largest number when there are more.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Why a flow table could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct FlowLimitsError(pub(super) Kind);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Kind {
    #[error("a flow table for {0} flows: it holds 1 to {most}", most = FlowLimits::MAX_CAPACITY)]
    Capacity(u32),
    #[error("no memory for the flow table: {0}")]
    Memory(#[source] TryReserveError),
}
