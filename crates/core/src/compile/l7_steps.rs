//! Rules that depend on a principal or an HTTP request: the list of steps that an L7 engine runs.

use alloc::vec::Vec;

use crate::compile::decisions::Decisions;
use crate::compile::rules::CompiledRule;
use crate::ir::{DecisionEntry, DecisionId, Effect, Guard, L7Program, L7Step};
use crate::model::{Action, HttpMatch, IdentityMatch};
use crate::verdict::Verdict;

/// What an item of a program does with the packets of one key.
pub(super) enum KeyItem<'f> {
    /// The rule matches the header: one entry for each alternative that does, with its condition on the principal.
    Rule { item: usize, rule: &'f CompiledRule, identities: Vec<Option<&'f IdentityMatch>> },
    /// The tier ends, and denies what is still open if `deny`.
    TierEnd { item: usize, deny: bool },
}

/// The decision for the packets of one key, which meet `items` in this order: what holds without a principal and an HTTP
/// request, with the L7 program for packets that carry them.
pub(super) fn guarded_decision<'f>(
    decisions: &mut Decisions<'_, '_>,
    items: impl Iterator<Item = KeyItem<'f>>,
) -> DecisionId {
    let steps = steps(decisions, items);
    with_program(decisions, steps)
}

fn steps<'f>(decisions: &mut Decisions<'_, '_>, items: impl Iterator<Item = KeyItem<'f>>) -> Vec<L7Step> {
    let mut steps: Vec<L7Step> = Vec::new();
    // Steps that skip to the next tier and do not know yet where it starts.
    let mut open_skips: Vec<usize> = Vec::new();
    let mut reachable = true;
    for element in items {
        match element {
            KeyItem::Rule { .. } if !reachable => {}
            KeyItem::Rule { item, rule, identities } => {
                let guard = guard(&identities, rule.http.as_ref());
                let unconditional = guard == Guard::default();
                let effect = match rule.action {
                    Action::Allow | Action::Deny => {
                        reachable = !unconditional;
                        Effect::Decide(decisions.of_item(item, &[]))
                    }
                    Action::Pass => {
                        reachable = !unconditional;
                        open_skips.push(steps.len());
                        Effect::SkipTo(0)
                    }
                    Action::Log => match decisions.rule_ref(item) {
                        Some(rule) => Effect::Log(rule),
                        None => continue,
                    },
                };
                steps.push(L7Step { guard, effect });
            }
            KeyItem::TierEnd { item, deny } => {
                if reachable && deny {
                    let decision = decisions.of_item(item, &[]);
                    steps.push(L7Step { guard: Guard::default(), effect: Effect::Decide(decision) });
                    reachable = false;
                }
                if !open_skips.is_empty() {
                    let here = u32::try_from(steps.len()).unwrap_or(u32::MAX);
                    for index in open_skips.drain(..) {
                        if let Some(step) = steps.get_mut(index) {
                            step.effect = Effect::SkipTo(here);
                        }
                    }
                    reachable = true;
                }
                if !reachable {
                    break;
                }
            }
        }
    }
    if reachable {
        let decision = decisions.end_decision();
        steps.push(L7Step { guard: Guard::default(), effect: Effect::Decide(decision) });
    }
    steps
}

/// The decision for `steps`: what they say without attributes, with the steps themselves where those matter.
fn with_program(decisions: &mut Decisions<'_, '_>, steps: Vec<L7Step>) -> DecisionId {
    let mut logs = Vec::new();
    let mut next = 0;
    let (verdict, cause) = loop {
        let Some(step) = steps.get(next) else { break decisions.program.end.clone() };
        next = next.saturating_add(1);
        let needs_http = step.guard.http.is_some();
        match &step.effect {
            Effect::Log(rule) if !needs_http => logs.push(rule.clone()),
            Effect::Log(_) => {}
            Effect::SkipTo(target) => next = usize::try_from(*target).unwrap_or(usize::MAX),
            Effect::Decide(id) => {
                let Some(decision) = decisions.tables.decisions.lookup(*id) else {
                    break decisions.program.end.clone();
                };
                let verdict = if needs_http { Verdict::Inspect } else { decision.verdict };
                break (verdict, decision.cause.clone());
            }
        }
    };
    let conditional = steps.iter().any(|step| step.guard != Guard::default());
    let l7 = conditional.then(|| decisions.tables.l7(L7Program { steps }));
    decisions.acquire(DecisionEntry { verdict, cause, logs, l7 })
}

/// What a packet's attributes must satisfy when these alternatives match its header. One alternative without an
/// identity condition is enough to need none.
fn guard(matching: &[Option<&IdentityMatch>], http: Option<&HttpMatch>) -> Guard {
    let mut identities: Vec<IdentityMatch> = Vec::new();
    if matching.iter().all(Option::is_some) {
        identities.extend(matching.iter().copied().flatten().cloned());
        identities.sort();
        identities.dedup();
    }
    Guard { identities, http: http.cloned() }
}
