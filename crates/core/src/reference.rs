//! The reference evaluator: what policy means, written as plainly as possible.
//!
//! It is the specification that every other engine is checked against, and the explainer. It walks tiers, policies
//! and rules one by one, so its cost grows with the number of policies; it is never optimised and shares nothing with
//! a compiler but the model. When not to use it: on a packet path.
//!
//! The order of evaluation follows Calico's documentation of tiers and `felix/rules/endpoints.go`, into which
//! Kubernetes NetworkPolicy (tier `default`) and ClusterNetworkPolicy (tiers around it) fit without a special case.

mod entity;
mod matching;
mod trace;
mod walk;

use alloc::vec::Vec;
use core::net::IpAddr;

use crate::evaluate::Evaluate;
use crate::label::Name;
use crate::model::{Cluster, DefaultAction, EndpointId, Policy, Tier};
use crate::net::canonical;
use crate::packet::Packet;
use crate::settings::Settings;
use crate::verdict::{Cause, Decision, Hook, Verdict};

use entity::Entities;

pub use trace::{Miss, RuleOutcome, Step, Trace};

/// The evaluator over one state of a cluster.
#[derive(Debug)]
pub struct Reference<'a> {
    cluster: &'a Cluster,
    settings: &'a Settings,
    entities: Entities<'a>,
    tiers: Vec<OrderedTier<'a>>,
}

/// A tier with its policies, both in evaluation order.
#[derive(Debug)]
struct OrderedTier<'a> {
    name: &'a Name,
    tier: Option<&'a Tier>,
    policies: Vec<&'a Policy>,
}

impl OrderedTier<'_> {
    fn default_action(&self) -> DefaultAction {
        self.tier.map_or(DefaultAction::Deny, |tier| tier.default_action)
    }
}

impl<'a> Reference<'a> {
    /// An evaluator for `cluster`. Sorts the policies once and notes who owns which address.
    #[must_use]
    pub fn new(cluster: &'a Cluster, settings: &'a Settings) -> Self {
        Self { cluster, settings, entities: Entities::new(cluster), tiers: walk::ordered_tiers(cluster) }
    }

    /// What `hook` of `endpoint` says to `packet`.
    ///
    /// Every packet has an answer: an endpoint that is not known is denied everything (fails closed).
    #[must_use]
    pub fn decide(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> Decision {
        self.run(endpoint, hook, packet, &mut None)
    }

    /// As [`Reference::decide`], with every tier, policy and rule that was consulted on the way.
    #[must_use]
    pub fn explain(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> (Decision, Trace) {
        let mut trace = Some(Trace::default());
        let decision = self.run(endpoint, hook, packet, &mut trace);
        (decision, trace.unwrap_or_default())
    }

    fn run(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet, trace: &mut Option<Trace>) -> Decision {
        match self.cluster.endpoints().get(endpoint) {
            Some(endpoint) => walk::Walk::new(self, endpoint, hook, packet, trace).run(),
            None => Decision::new(Verdict::Deny, Cause::NoPolicy),
        }
    }

    /// Whether `policy` has `endpoint` as a subject: it is selected, wherever on the way the policy acts. `false` for an
    /// endpoint that is not known.
    #[must_use]
    pub fn selects(&self, policy: &Policy, endpoint: &EndpointId) -> bool {
        let endpoint = self.cluster.endpoints().get(endpoint);
        endpoint.is_some_and(|endpoint| self.entities.selects_endpoint(&policy.subject, endpoint))
    }

    /// Names of tiers that policies refer to and that do not exist (decision D3), in order.
    pub fn missing_tiers(&self) -> impl Iterator<Item = &Name> {
        self.tiers.iter().filter(|tier| tier.tier.is_none()).map(|tier| tier.name)
    }

    /// The endpoints that own `address`, in order of identity.
    pub fn endpoints_at(&self, address: IpAddr) -> impl Iterator<Item = &'a EndpointId> + '_ {
        self.entities.endpoints_at(canonical(address)).map(|endpoint| &endpoint.id)
    }
}

impl Evaluate for Reference<'_> {
    fn evaluate(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> Decision {
        self.decide(endpoint, hook, packet)
    }
}
