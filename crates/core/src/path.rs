//! Flows between two ends: which hooks a new connection meets, and how their answers combine.
//!
//! A new flow needs egress to be allowed where it starts and ingress to be allowed where it ends (Kubernetes
//! NetworkPolicy documentation; Calico `felix/rules/endpoints.go`). Which hooks that means depends on what the ends
//! are and on which node they live; the answer of each hook comes from an engine.

mod decide;
pub mod discovery;
mod hooks;
#[cfg(test)]
mod tests;
mod topology;

use alloc::vec::Vec;

use crate::label::Name;
use crate::model::EndpointId;
use crate::packet::Packet;
use crate::verdict::{Cause, Decision, Direction, Hook, Verdict};

pub use topology::Topology;

/// One end of a flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// A workload or host endpoint.
    Endpoint(EndpointId),
    /// A node itself (its processes and host-network pods).
    Node(Name),
    /// Any other address.
    Outside,
}

/// What one end says to a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// The combined answer of this end: never [`Verdict::Continue`].
    pub decision: Decision,
    /// Every hook that was asked, in order, with its answer. Empty when an exception decided.
    pub consulted: Vec<Consulted>,
}

impl Side {
    fn exception(verdict: Verdict, cause: Cause) -> Self {
        Self { decision: Decision::new(verdict, cause), consulted: Vec::new() }
    }
}

/// One hook that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consulted {
    /// The endpoint the hook belongs to: that of the flow's end, or a host endpoint on the way.
    pub endpoint: EndpointId,
    /// Which hook.
    pub hook: Hook,
    /// Whether it saw the packet as it was sent, and destination NAT changed that packet later.
    pub is_before_nat: bool,
    /// Its answer.
    pub decision: Decision,
}

/// What both ends say to a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowDecision {
    /// Deny when an end denies, else Inspect when an end inspects, else Allow.
    pub verdict: Verdict,
    /// The source's side; `None` when the source is not subject to policy here.
    pub egress: Option<Side>,
    /// The destination's side; `None` when the destination is not subject to policy here.
    pub ingress: Option<Side>,
}

/// Destination NAT that the packet of a flow met on its way, such as that of a service.
#[derive(Clone, Copy, Debug)]
pub struct Translation<'a> {
    /// The packet as it was sent.
    pub before: &'a Packet,
    /// The node that translated it, where that is not the node of the source: for a node port the node it was sent
    /// to. `None` is the source's own node, or, for a source outside, the node of the destination.
    pub node: Option<&'a Name>,
}

impl FlowDecision {
    /// The side for `direction`: [`FlowDecision::ingress`] or [`FlowDecision::egress`].
    #[must_use]
    pub const fn side(&self, direction: Direction) -> Option<&Side> {
        match direction {
            Direction::Ingress => self.ingress.as_ref(),
            Direction::Egress => self.egress.as_ref(),
        }
    }
}
