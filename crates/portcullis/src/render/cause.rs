//! Causes in words.

use alloc::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use portcullis_core::model::EndpointId;
use portcullis_core::packet::Packet;
use portcullis_core::path::{End, FlowDecision, Side};
use portcullis_core::reference::{Reference, Step};
use portcullis_core::verdict::{Cause, Direction, Hook, Verdict};

use super::Dialect;
use crate::scenario::{Answer, Scenario};

/// Why a side of `direction` says what it does, in the dialect of the policy that decided.
#[must_use]
pub fn cause(cause: &Cause, direction: Direction) -> String {
    match cause {
        // What a NetworkPolicy isolates and no rule of any allows is denied; Kubernetes has no tier that would.
        Cause::TierDefault { policy, .. } if Dialect::of(policy) == Dialect::Kubernetes => {
            format!("{policy}: no {direction} rule allows it")
        }
        other => other.to_string(),
    }
}

/// Puts answers about a scenario in words; what it needs the reference evaluator for is remembered.
#[derive(Debug)]
pub struct Renderer<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) reference: &'a Reference<'a>,
    /// Whether any policy has the endpoint as a subject at the hook.
    selected: Mutex<BTreeMap<(EndpointId, Hook), bool>>,
}

impl<'a> Renderer<'a> {
    /// A renderer of answers about `scenario`. `reference` evaluates its cluster, with the settings of the answers.
    #[must_use]
    pub const fn new(scenario: &'a Scenario, reference: &'a Reference<'a>) -> Self {
        Self { scenario, reference, selected: Mutex::new(BTreeMap::new()) }
    }

    /// Why a side says what it does: [`cause`], and where no policy decided, which endpoint none selects.
    #[must_use]
    pub fn side(&self, side: &Side, direction: Direction, packet: &Packet) -> String {
        if side.decision.cause != Cause::NoPolicy {
            return cause(&side.decision.cause, direction);
        }
        // The last hook is the end's own; those before it are host endpoints on the way.
        let last = side.consulted.iter().rfind(|asked| asked.decision.cause == Cause::NoPolicy);
        let Some(asked) = last else { return cause(&side.decision.cause, direction) };
        let mut text = if self.is_selected(&asked.endpoint, asked.hook, packet) {
            format!("no policy that selects {} decides its {direction}", asked.endpoint)
        } else {
            format!("no policy selects {} for {direction}", asked.endpoint)
        };
        if side.decision.verdict == Verdict::Deny {
            text.push_str(", and it has no profile");
        }
        text
    }

    /// As [`Renderer::side`], with the place of the rule or policy.
    #[must_use]
    pub fn located_side(&self, side: &Side, direction: Direction, packet: &Packet) -> String {
        let mut text = self.side(side, direction, packet);
        if let Some(location) = self.scenario.cause_location(&side.decision.cause) {
            text.push_str(&format!(" at {location}"));
        }
        text
    }

    /// Why a flow has the verdict it has, in one sentence: what the side that decided says. A flow that both sides allow is
    /// decided by a side where policy had a say, the destination's first.
    #[must_use]
    pub fn deciding(&self, decision: &FlowDecision, packet: &Packet) -> String {
        let egress = decision.egress.as_ref().map(|side| (side, Direction::Egress));
        let ingress = decision.ingress.as_ref().map(|side| (side, Direction::Ingress));
        let sides: [Option<(&Side, Direction)>; 2] = match decision.verdict {
            Verdict::Allow | Verdict::Continue => [ingress, egress],
            Verdict::Deny | Verdict::Inspect => [egress, ingress],
        };
        let decisive = |(side, _): &(&Side, Direction)| match decision.verdict {
            Verdict::Allow | Verdict::Continue => side.decision.cause != Cause::NoPolicy,
            verdict => side.decision.verdict == verdict,
        };
        let mut known = sides.into_iter().flatten();
        match known.clone().find(decisive) {
            Some((side, direction)) => self.side(side, direction, packet),
            None => match (known.next(), known.next()) {
                (None, _) => "no end is subject to policy".into(),
                (Some((side, direction)), None) => self.side(side, direction, packet),
                (Some((ingress, _)), Some((egress, _))) => {
                    let free = |side: &Side| {
                        let mut asked = side.consulted.iter();
                        asked.all(|it| !self.is_selected(&it.endpoint, it.hook, packet))
                    };
                    if free(ingress) && free(egress) {
                        "no policy selects either end".into()
                    } else {
                        "no policy decides".into()
                    }
                }
            },
        }
    }

    /// Why an answer has its verdict, in one sentence. Where parts differ, which of them differ comes first: `allow on TCP 80;
    /// otherwise deny: ...`.
    #[must_use]
    pub fn answer(&self, answer: &Answer) -> String {
        let Some(deciding) = answer.deciding() else { return String::new() };
        let why = self.deciding(&deciding.decision, &deciding.resolved.packet);
        match self.differing(answer) {
            Some(differing) => format!("{differing}: {why}"),
            None => why,
        }
    }

    /// Which parts of an answer have another verdict than the whole, and how the rest fares: `allow on TCP 80; otherwise
    /// deny`. None where all parts have the same verdict.
    #[must_use]
    pub fn differing(&self, answer: &Answer) -> Option<String> {
        if !answer.is_mixed() {
            return None;
        }
        let others = answer.parts().iter().filter(|part| part.decision.verdict != answer.verdict());
        let mut shown: Vec<String> = Vec::new();
        let mut more = 0_usize;
        for part in others {
            if shown.len() < SHOWN {
                let to = match &part.resolved.to {
                    End::Endpoint(id) if part.ports.is_none() => format!(" at {id}"),
                    _ => String::new(),
                };
                shown.push(format!("{} on {part}{to}", part.decision.verdict));
            } else {
                more = more.saturating_add(1);
            }
        }
        if more > 0 {
            shown.push(format!("{more} more"));
        }
        Some(format!("{}; otherwise {}", shown.join(", "), answer.verdict()))
    }

    fn is_selected(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> bool {
        let key = (endpoint.clone(), hook);
        let mut selected = self.selected.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = selected.get(&key) {
            return *known;
        }
        // Which policies apply depends on the endpoint and the hook alone. What is exempt shows none of them.
        let (_, trace) = self.reference.explain(endpoint, hook, packet);
        let is_policy = |step: &Step| matches!(step, Step::Policy { consulted: true, .. });
        let is = trace.steps.iter().any(is_policy);
        if !trace.steps.iter().any(|step| matches!(step, Step::Exempt | Step::Tunnel)) {
            selected.insert(key, is);
        }
        is
    }
}

/// Parts that are named.
const SHOWN: usize = 4;
