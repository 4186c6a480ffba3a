//! What every engine answers: one packet at one hook of one endpoint.
//!
//! The reference evaluator, the interpreter of the IR, the matcher and both kernel oracles implement [`Evaluate`], so a
//! program that asks does not depend on which of them answers.

use crate::model::EndpointId;
use crate::packet::Packet;
use crate::verdict::{Decision, Hook};

/// An engine: a way to decide packets.
pub trait Evaluate {
    /// What `hook` of `endpoint` says to `packet`. Never fails: an unknown endpoint is denied.
    fn evaluate(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> Decision;
}

impl<E: Evaluate + ?Sized> Evaluate for &E {
    fn evaluate(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> Decision {
        (**self).evaluate(endpoint, hook, packet)
    }
}
