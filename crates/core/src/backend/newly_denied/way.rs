//! The hooks that a flow met.

use alloc::vec::Vec;

use crate::backend::Inspected;
use crate::model::EndpointId;
use crate::packet::Packet;
use crate::verdict::{Decision, Hook, Verdict};

/// One way that the first packet of a flow can have taken: who was asked about it.
#[derive(Clone, Debug)]
pub(super) struct Way<'a> {
    packet: Packet,
    /// Before destination NAT.
    arrived: Packet,
    /// The host endpoint whose pre-DNAT policy was asked.
    pre_dnat: Option<&'a EndpointId>,
    /// What the same host endpoint is asked unless its pre-DNAT policy allowed the packet.
    behind: Option<(&'a EndpointId, Hook)>,
    rest: Vec<(&'a EndpointId, Hook)>,
}

/// What a hook said, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The packet passes, and the same host endpoint has no further say.
    Allowed,
    /// The packet passes here: this hook does not decide, exempts it, or was not asked.
    Passed,
    /// The packet is dropped.
    Denied,
}

impl Answer {
    pub(super) const fn new(decision: &Decision, inspected: Inspected) -> Self {
        match (decision.verdict, inspected) {
            (Verdict::Continue, _) => Self::Passed,
            // An exemption is good for its own hook only.
            (Verdict::Allow, _) if decision.cause.is_exemption() => Self::Passed,
            (Verdict::Allow, _) | (Verdict::Inspect, Inspected::HandOver) => Self::Allowed,
            (Verdict::Inspect, Inspected::Drop) | (Verdict::Deny, _) => Self::Denied,
        }
    }
}

impl<'a> Way<'a> {
    /// A way on which nobody is asked about `packet`.
    pub(super) fn new(packet: &Packet) -> Self {
        let (packet, arrived) = (packet.clone(), packet.clone());
        Self { packet, arrived, pre_dnat: None, behind: None, rest: Vec::new() }
    }

    pub(super) fn arrived_as(mut self, arrived: &Packet) -> Self {
        self.arrived.clone_from(arrived);
        self
    }

    pub(super) const fn pre_dnat(mut self, endpoint: Option<&'a EndpointId>) -> Self {
        self.pre_dnat = endpoint;
        self
    }

    pub(super) fn behind(mut self, endpoint: Option<&'a EndpointId>, hook: Option<Hook>) -> Self {
        self.behind = endpoint.zip(hook);
        self
    }

    pub(super) fn then(mut self, endpoint: Option<&'a EndpointId>, hook: Hook) -> Self {
        self.rest.extend(endpoint.map(|endpoint| (endpoint, hook)));
        self
    }

    /// Whether the packet passes every hook on the way, as `ask` answers.
    pub(super) fn passes(&self, ask: impl Fn(&EndpointId, Hook, &Packet) -> Answer) -> bool {
        let behind = match self.pre_dnat.map(|endpoint| ask(endpoint, Hook::PreDnat, &self.arrived)) {
            Some(Answer::Denied) => return false,
            Some(Answer::Allowed) => None,
            Some(Answer::Passed) | None => self.behind,
        };
        let mut asked = behind.iter().chain(&self.rest);
        asked.all(|(endpoint, hook)| ask(endpoint, *hook, &self.packet) != Answer::Denied)
    }
}
