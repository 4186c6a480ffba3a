//! Verdicts in the form that programs read.

use portcullis_core::flow::{FlowDecision, Side};
use portcullis_core::verdict::Verdict;
use serde::Serialize;
use serde_json::value::RawValue;

use super::flow::Flow;

/// The answer to one flow, as one JSON object.
///
/// ```json
/// {"id":1,"verdict":"deny","egress":{"verdict":"allow","cause":"no-policy","tier":null,"policy":null,"rule":null},
///  "ingress":{"verdict":"deny","cause":"rule","tier":"default",
///             "policy":{"kind":"NetworkPolicy","namespace":"a","name":"b"},"rule":0}}
/// ```
///
/// A side is `null` where that end is not subject to policy. `staged` is there only when it was asked for.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    id: Option<&'a RawValue>,
    #[serde(flatten)]
    answer: AnswerReport<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    staged: Option<AnswerReport<'a>>,
}

#[derive(Debug, Serialize)]
struct AnswerReport<'a> {
    verdict: &'static str,
    egress: Option<SideReport<'a>>,
    ingress: Option<SideReport<'a>>,
}

#[derive(Debug, Serialize)]
struct SideReport<'a> {
    verdict: &'static str,
    cause: &'static str,
    tier: Option<&'a str>,
    policy: Option<PolicyReport<'a>>,
    rule: Option<usize>,
}

#[derive(Debug, Serialize)]
struct PolicyReport<'a> {
    kind: &'a str,
    namespace: Option<&'a str>,
    name: &'a str,
}

impl<'a> Report<'a> {
    /// The answer `decision` to `flow`; `staged` is the answer with staged policies in force, when it was asked for.
    #[must_use]
    pub fn new(flow: &'a Flow, decision: &'a FlowDecision, staged: Option<&'a FlowDecision>) -> Self {
        Self { id: flow.raw_id(), answer: answer(decision), staged: staged.map(answer) }
    }
}

fn answer(decision: &FlowDecision) -> AnswerReport<'_> {
    AnswerReport {
        verdict: name(decision.verdict),
        egress: decision.egress.as_ref().map(side),
        ingress: decision.ingress.as_ref().map(side),
    }
}

fn side(side: &Side) -> SideReport<'_> {
    let cause = &side.decision.cause;
    SideReport {
        verdict: name(side.decision.verdict),
        cause: cause.name(),
        tier: cause.tier().map(|tier| tier.as_str()),
        policy: cause.policy().map(|policy| PolicyReport {
            // The model tells Calico's NetworkPolicy apart as `NetworkPolicy.projectcalico.org`.
            kind: policy.kind.split('.').next().unwrap_or_default(),
            namespace: policy.namespace.as_ref().map(|namespace| namespace.as_str()),
            name: policy.name.as_str(),
        }),
        rule: cause.rule_index(),
    }
}

/// The word for a verdict; a flow has no other than these three.
const fn name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow | Verdict::Continue => "allow",
        Verdict::Deny => "deny",
        Verdict::Inspect => "inspect",
    }
}
