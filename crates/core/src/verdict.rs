//! Verdicts and their causes.

use alloc::vec::Vec;
use core::fmt;

use crate::label::Name;
use crate::model::PolicyId;

/// The answer of one hook. Matching on this enum must break when it grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Verdict {
    /// Accepted at this hook.
    Allow,
    /// Dropped.
    Deny,
    /// This hook does not decide; the next one on the packet's way does.
    Continue,
    /// An HTTP rule decides and the packet carries no HTTP attributes.
    Inspect,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Continue => "continue",
            Self::Inspect => "inspect",
        })
    }
}

/// Where on a packet's way a decision is taken (design section 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Hook {
    /// Traffic to a workload.
    WorkloadIngress,
    /// Traffic from a workload.
    WorkloadEgress,
    /// Traffic to processes of the host.
    HostIngress,
    /// Traffic from processes of the host.
    HostEgress,
    /// Traffic that enters through a host endpoint and is forwarded.
    ForwardIngress,
    /// Traffic that is forwarded and leaves through a host endpoint.
    ForwardEgress,
    /// Traffic that enters through a host endpoint, before destination NAT.
    PreDnat,
    /// Traffic that enters through a host endpoint, before connection tracking.
    UntrackedIngress,
    /// Traffic that leaves through a host endpoint, before connection tracking.
    UntrackedEgress,
}

impl Hook {
    /// Every hook.
    pub const ALL: [Self; 9] = [
        Self::WorkloadIngress,
        Self::WorkloadEgress,
        Self::HostIngress,
        Self::HostEgress,
        Self::ForwardIngress,
        Self::ForwardEgress,
        Self::PreDnat,
        Self::UntrackedIngress,
        Self::UntrackedEgress,
    ];

    /// Whether the endpoint is the packet's destination side at this hook.
    #[must_use]
    pub const fn direction(self) -> Direction {
        match self {
            Self::WorkloadIngress
            | Self::HostIngress
            | Self::ForwardIngress
            | Self::PreDnat
            | Self::UntrackedIngress => Direction::Ingress,
            Self::WorkloadEgress | Self::HostEgress | Self::ForwardEgress | Self::UntrackedEgress => {
                Direction::Egress
            }
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WorkloadIngress => "workload-ingress",
            Self::WorkloadEgress => "workload-egress",
            Self::HostIngress => "host-ingress",
            Self::HostEgress => "host-egress",
            Self::ForwardIngress => "forward-ingress",
            Self::ForwardEgress => "forward-egress",
            Self::PreDnat => "pre-dnat",
            Self::UntrackedIngress => "untracked-ingress",
            Self::UntrackedEgress => "untracked-egress",
        })
    }
}

/// A direction as the endpoint sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Direction {
    /// To the endpoint.
    Ingress,
    /// From the endpoint.
    Egress,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

/// A rule of a policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct RuleRef {
    /// The policy.
    pub policy: PolicyId,
    /// The policy's tier.
    pub tier: Name,
    /// Whether the rule stands in the ingress or the egress list.
    pub direction: Direction,
    /// Position in that list, from 0.
    pub index: usize,
}

/// Why a verdict is what it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Cause {
    /// A rule of a policy decided.
    Rule(RuleRef),
    /// A policy of the tier applied, no rule decided, and the tier ends in Deny.
    TierDefault {
        /// The tier.
        tier: Name,
        /// The last policy, in order, that applied to the endpoint in this tier and direction.
        policy: PolicyId,
    },
    /// A profile decided: by the rule at `index`, or, without an index, because it does not exist.
    Profile {
        /// The profile.
        profile: Name,
        /// Position of the rule, from 0.
        index: Option<usize>,
    },
    /// Profiles were asked and none decided, so the packet is dropped (decision D6).
    ProfileDefault,
    /// No policy decided: the endpoint's own default holds.
    NoPolicy,
    /// An endpoint may always reach its own address (decision D10).
    Loopback,
    /// A node may always reach the workloads on it (decision D11).
    Node,
    /// The configured action for traffic from a workload to its own host.
    WorkloadToHost,
    /// A failsafe port of a host endpoint.
    Failsafe,
    /// ICMPv6 neighbour and listener discovery is never subject to policy.
    NeighbourDiscovery,
    /// A workload may not send what one of the [tunnels](crate::settings::NodeSettings::tunnels) of its node carries.
    Tunnel,
    /// The service has no backend that takes traffic here. No hook says so: there is no packet to ask about.
    NoBackend,
    /// The service has no such port. No hook says so, as above.
    NoServicePort,
}

impl Cause {
    /// Whether it is an exemption of one hook, which holds for that hook alone: a packet that it lets pass at an untracked or
    /// pre-DNAT hook still meets the hooks behind, where an Allow of a rule ends the say of the host endpoint.
    /// Source: Calico `felix/rules/endpoints.go`, where failsafe chains accept in their own table only.
    #[must_use]
    pub const fn is_exemption(&self) -> bool {
        matches!(self, Self::Failsafe | Self::NeighbourDiscovery)
    }

    /// The name of the cause in machine output; stable.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Rule(_) => "rule",
            Self::TierDefault { .. } => "tier-default",
            Self::Profile { .. } => "profile",
            Self::ProfileDefault => "profile-default",
            Self::NoPolicy => "no-policy",
            Self::Loopback => "loopback",
            Self::Node => "node",
            Self::WorkloadToHost => "workload-to-host",
            Self::Failsafe => "failsafe",
            Self::NeighbourDiscovery => "neighbour-discovery",
            Self::Tunnel => "tunnel",
            Self::NoBackend => "no-backend",
            Self::NoServicePort => "no-service-port",
        }
    }

    /// The tier that decided, if one did.
    #[must_use]
    pub const fn tier(&self) -> Option<&Name> {
        match self {
            Self::Rule(rule) => Some(&rule.tier),
            Self::TierDefault { tier, .. } => Some(tier),
            _ => None,
        }
    }

    /// The policy that decided, if one did.
    #[must_use]
    pub const fn policy(&self) -> Option<&PolicyId> {
        match self {
            Self::Rule(rule) => Some(&rule.policy),
            Self::TierDefault { policy, .. } => Some(policy),
            _ => None,
        }
    }

    /// The position of the rule that decided, if one did.
    #[must_use]
    pub const fn rule_index(&self) -> Option<usize> {
        match self {
            Self::Rule(rule) => Some(rule.index),
            Self::Profile { index, .. } => *index,
            _ => None,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(rule) => write!(f, "{} {} rule {}", rule.policy, rule.direction, rule.index),
            Self::TierDefault { tier, policy } => {
                write!(f, "{policy}: no rule matches, tier {tier} ends in deny")
            }
            Self::Profile { profile, index: Some(index) } => write!(f, "profile {profile} rule {index}"),
            Self::Profile { profile, index: None } => write!(f, "profile {profile} does not exist"),
            Self::ProfileDefault => f.write_str("no profile rule matches"),
            Self::NoPolicy => f.write_str("no policy decides"),
            Self::Loopback => f.write_str("traffic to itself"),
            Self::Node => f.write_str("traffic from a node to its own workload"),
            Self::WorkloadToHost => f.write_str("traffic from a workload to its own node"),
            Self::Failsafe => f.write_str("failsafe port"),
            Self::NeighbourDiscovery => f.write_str("ICMPv6 neighbour discovery"),
            Self::Tunnel => f.write_str("workloads may not send packets inside of packets, as in a tunnel"),
            Self::NoBackend => f.write_str("the service has no ready backend"),
            Self::NoServicePort => f.write_str("the service has no such port"),
        }
    }
}

/// The full answer of one hook for one packet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Decision {
    /// The answer.
    pub verdict: Verdict,
    /// Why.
    pub cause: Cause,
    /// The Log rules that matched on the way, in order.
    pub logs: Vec<RuleRef>,
}

impl Decision {
    /// A decision without log entries.
    #[must_use]
    pub const fn new(verdict: Verdict, cause: Cause) -> Self {
        Self { verdict, cause, logs: Vec::new() }
    }
}
