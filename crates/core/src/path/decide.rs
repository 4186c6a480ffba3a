//! What an engine says to a whole flow.

use crate::evaluate::Evaluate;
use crate::model::EndpointId;
use crate::packet::Packet;
use crate::path::hooks::{Path, Way};
use crate::path::{End, FlowDecision, Side, Topology, Translation};
use crate::verdict::Verdict;

impl Topology<'_> {
    /// What `engine` says to a flow from `from` to `to` whose first packet is `packet`.
    #[must_use]
    pub fn decide(
        &self,
        engine: &(impl Evaluate + ?Sized),
        from: &End,
        to: &End,
        packet: &Packet,
    ) -> FlowDecision {
        self.decide_way(engine, &Way::new(self, from, to, packet, None))
    }

    /// As [`Topology::decide`], for a packet whose destination was rewritten on the way.
    ///
    /// `packet` is the packet after that, and `to` is the end that owns its destination. Untracked and pre-DNAT hooks
    /// up to the node that translates see the packet as it was sent, and so does everything on the source's node when
    /// another one translates; all other hooks see `packet`. A node between source and destination, such as one whose
    /// node port was named, asks the host endpoint of its uplink twice, for the packet that comes in and for the one
    /// that goes out again; both are part of the destination's side.
    #[must_use]
    pub fn decide_translated(
        &self,
        engine: &(impl Evaluate + ?Sized),
        from: &End,
        to: &End,
        packet: &Packet,
        translation: Translation<'_>,
    ) -> FlowDecision {
        self.decide_way(engine, &Way::new(self, from, to, packet, Some(translation)))
    }

    /// What `engine` says to a flow between two workloads that one endpoint stands for, such as two pods of a deployment
    /// (decision D33). Both have its labels, and its node is that of neither.
    #[must_use]
    pub fn decide_between_replicas(
        &self,
        engine: &(impl Evaluate + ?Sized),
        endpoint: &EndpointId,
        packet: &Packet,
    ) -> FlowDecision {
        self.decide_way(engine, &Way::between_replicas(&End::Endpoint(endpoint.clone()), packet))
    }

    fn decide_way(&self, engine: &(impl Evaluate + ?Sized), way: &Way<'_>) -> FlowDecision {
        let egress = Path::new(self, engine, way).egress();
        let ingress = Path::new(self, engine, way).ingress(egress.as_ref());
        let of = |side: &Option<_>| side.as_ref().map(|side: &Side| side.decision.verdict);
        let verdicts = [of(&egress), of(&ingress)];
        let verdict = if verdicts.contains(&Some(Verdict::Deny)) {
            Verdict::Deny
        } else if verdicts.contains(&Some(Verdict::Inspect)) {
            Verdict::Inspect
        } else {
            Verdict::Allow
        };
        FlowDecision { verdict, egress, ingress }
    }
}
