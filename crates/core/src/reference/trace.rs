//! The record of one evaluation.

use alloc::vec::Vec;
use core::fmt;

use crate::label::Name;
use crate::model::{Action, DefaultAction, Enforcement, Order, PolicyId};

/// What the evaluator consulted, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The steps.
    pub steps: Vec<Step>,
}

/// One step of an evaluation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// A tier with at least one policy that applies to the endpoint at this hook.
    Tier {
        /// Its name.
        name: Name,
        /// Its position; `None` for last, and for a tier that does not exist.
        order: Option<Order>,
        /// What happens at its end.
        default_action: DefaultAction,
    },
    /// A policy that applies to the endpoint.
    Policy {
        /// Which policy.
        id: PolicyId,
        /// Its position.
        order: Option<Order>,
        /// A staged policy appears in the trace even where it is skipped.
        enforcement: Enforcement,
        /// Whether its rules were looked at.
        consulted: bool,
    },
    /// A rule of the last policy or profile.
    Rule {
        /// Position in its list, from 0.
        index: usize,
        /// What it does.
        action: Action,
        /// Whether it matched.
        outcome: RuleOutcome,
    },
    /// The end of the last tier was reached without a decision.
    TierEnd {
        /// What happens there; always Pass at untracked and pre-DNAT hooks.
        action: DefaultAction,
    },
    /// A profile is asked.
    Profile {
        /// Its name.
        name: Name,
        /// Whether it exists.
        exists: bool,
    },
    /// The packet is exempt from policy here, for the reason given by the decision's cause.
    Exempt,
    /// The packet is in a tunnel that workloads may not send, whatever policy says.
    Tunnel,
}

/// What became of one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleOutcome {
    /// It matched.
    Matched,
    /// It matched but for HTTP attributes that the packet does not carry.
    NeedsHttp,
    /// It did not match.
    Missed(Miss),
}

/// The first condition of a rule that did not hold. Where a rule lists alternatives, the condition that none of
/// them met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Miss {
    /// The packet's family.
    IpVersion,
    /// The source.
    Source,
    /// The destination.
    Destination,
    /// The peer's authenticated identity.
    Identity,
    /// The protocol.
    Protocol,
    /// The ICMP type or code.
    Icmp,
    /// The source port.
    SourcePort,
    /// The destination port.
    DestinationPort,
    /// The HTTP method or path.
    Http,
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IpVersion => "IP version differs",
            Self::Source => "source is not selected",
            Self::Destination => "destination is not selected",
            Self::Identity => "identity is not selected",
            Self::Protocol => "protocol differs",
            Self::Icmp => "ICMP type or code differs",
            Self::SourcePort => "source port differs",
            Self::DestinationPort => "destination port differs",
            Self::Http => "HTTP method or path differs",
        })
    }
}
