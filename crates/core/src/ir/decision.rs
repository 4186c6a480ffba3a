//! Decisions, and the L7 programs behind some of them.

use alloc::vec::Vec;

use crate::ir::{DecisionId, L7ProgramId};
use crate::model::{HttpMatch, IdentityMatch};
use crate::verdict::{Cause, RuleRef, Verdict};

/// What becomes of a packet, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct DecisionEntry {
    /// The verdict for a packet without principal and HTTP request. [`Verdict::Inspect`] when the first rule that
    /// could decide needs HTTP attributes; then [`DecisionEntry::l7`] is present.
    pub verdict: Verdict,
    /// Why.
    pub cause: Cause,
    /// The Log rules that match on the way, in order.
    pub logs: Vec<RuleRef>,
    /// What to run when the packet carries a principal or an HTTP request.
    pub l7: Option<L7ProgramId>,
}

/// The rules that match at L4 and depend on a principal or an HTTP request, in order, with what lies between them.
///
/// Steps run from the first; a step whose guard holds takes effect, others are skipped. The last step has no guard
/// and decides, so every run ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct L7Program {
    /// The steps.
    pub steps: Vec<L7Step>,
}

/// One step of an [`L7Program`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct L7Step {
    /// When it takes effect.
    pub guard: Guard,
    /// What it does.
    pub effect: Effect,
}

/// The attribute conditions of a step; all must hold. Empty always holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Guard {
    /// Alternatives for the principal; empty is no condition. A packet without a principal satisfies it; one with a
    /// malformed principal does not.
    pub identities: Vec<IdentityMatch>,
    /// The HTTP condition. A packet without HTTP attributes makes the run end in [`Verdict::Inspect`] here.
    pub http: Option<HttpMatch>,
}

/// What a step does when its guard holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Effect {
    /// Ends the run with this decision, whose own L7 program is absent and whose log list is empty: the log entries
    /// are those of the Log steps that ran.
    Decide(DecisionId),
    /// Continues at this step, which is always a later one.
    SkipTo(u32),
    /// Notes the rule and continues with the next step.
    Log(RuleRef),
}
