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

use crate::label::Name;
use crate::model::{Cluster, DefaultAction, EndpointId, Policy, Tier};
use crate::net::{Cidr, canonical};
use crate::packet::{Packet, Protocol};
use crate::verdict::{Cause, Decision, Direction, Hook, Verdict};

use entity::Entities;
pub use trace::{Miss, RuleOutcome, Step, Trace};

/// Settings that belong to a node or a cluster rather than to a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Whether staged policies act (decision D7).
    pub staged: StagedPolicies,
    /// Ports of a host endpoint that no policy can close.
    pub failsafes: Failsafes,
    /// What happens to traffic from a workload to its own host after the workload's own policy allowed it.
    pub workload_to_host: WorkloadToHost,
}

/// Whether staged policies act.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StagedPolicies {
    /// They are skipped, as in enforcement.
    #[default]
    Skip,
    /// They act as if they were enforced: the preview.
    Enforce,
}

/// Traffic from a workload to its own host. Source: Calico `DefaultEndpointToHostAction`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WorkloadToHost {
    /// Accepted without asking host endpoint policy, as the usual installations set it.
    #[default]
    Accept,
    /// Dropped, Calico's built-in default.
    Drop,
    /// Host endpoint policy decides.
    HostPolicy,
}

/// Ports that stay reachable whatever host endpoint policy says, so that a mistake cannot cut off a node.
///
/// They apply to traffic of the host itself, not to forwarded traffic. The default is Calico's list
/// (`felix/config/config_params.go`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failsafes {
    /// Ports of the host that others may reach.
    pub inbound: Vec<Failsafe>,
    /// Ports of others that the host may reach.
    pub outbound: Vec<Failsafe>,
}

/// One failsafe port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failsafe {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number, on the server's side.
    pub port: u16,
    /// The far end must lie in this network; `None` is any address.
    pub net: Option<Cidr>,
}

impl Failsafe {
    const fn tcp(port: u16) -> Self {
        Self { protocol: Protocol::TCP, port, net: None }
    }

    const fn udp(port: u16) -> Self {
        Self { protocol: Protocol::UDP, port, net: None }
    }
}

impl Failsafes {
    /// No failsafe ports at all.
    #[must_use]
    pub const fn none() -> Self {
        Self { inbound: Vec::new(), outbound: Vec::new() }
    }

    /// Whether `packet` is exempt at `hook`.
    ///
    /// Untracked hooks see both directions of a connection one packet at a time, so there the reply, known by its
    /// source port, is exempt too. Source: Calico `felix/rules/static.go`.
    #[must_use]
    pub fn exempt(&self, hook: Hook, packet: &Packet) -> bool {
        let (requests, replies) = match hook {
            Hook::HostIngress | Hook::PreDnat => (&self.inbound, None),
            Hook::HostEgress => (&self.outbound, None),
            Hook::UntrackedIngress => (&self.inbound, Some(&self.outbound)),
            Hook::UntrackedEgress => (&self.outbound, Some(&self.inbound)),
            Hook::WorkloadIngress | Hook::WorkloadEgress | Hook::ForwardIngress | Hook::ForwardEgress => {
                return false;
            }
        };
        let far = match hook.direction() {
            Direction::Ingress => packet.source,
            Direction::Egress => packet.destination,
        };
        let hit = |list: &[Failsafe], port: u16| {
            list.iter().any(|f| {
                f.protocol == packet.protocol && f.port == port && f.net.is_none_or(|net| net.contains(&far))
            })
        };
        hit(requests, packet.destination_port) || replies.is_some_and(|list| hit(list, packet.source_port))
    }
}

impl Default for Failsafes {
    fn default() -> Self {
        let common = [179, 2379, 2380, 5473, 6443, 6666, 6667].map(Failsafe::tcp);
        let mut inbound = alloc::vec![Failsafe::tcp(22), Failsafe::udp(68)];
        let mut outbound = alloc::vec![Failsafe::udp(53), Failsafe::udp(67)];
        inbound.extend(common);
        outbound.extend(common);
        Self { inbound, outbound }
    }
}

/// Whether `packet` is ICMPv6 neighbour or listener discovery, which no policy touches.
/// Source: Calico `felix/rules/static.go` (types 130 to 133, 135 and 136).
#[must_use]
pub fn is_neighbour_discovery(packet: &Packet) -> bool {
    packet.protocol == Protocol::ICMPV6
        && packet.icmp.is_some_and(|message| matches!(message.kind, 130..=133 | 135 | 136))
}

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
