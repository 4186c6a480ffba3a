//! What a run of many flows came to, and whether it passes.

use core::fmt::Write as _;
use std::process::ExitCode;

use portcullis::scenario::{Flow, Scenario};
use portcullis::verdict::Verdict;

use crate::args::EvalArgs;
use crate::eval::Judgement;
use crate::output::to_stderr;

/// Counts of answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    allow: u64,
    deny: u64,
    inspect: u64,
    expecting: u64,
    unexpected: u64,
}

impl Tally {
    /// Counts an answer; whether it is as expected.
    pub(crate) fn count(&mut self, flow: &Flow, judgement: &Judgement) -> bool {
        let count = match judgement.answer.verdict() {
            Verdict::Allow | Verdict::Continue => &mut self.allow,
            Verdict::Deny => &mut self.deny,
            Verdict::Inspect => &mut self.inspect,
        };
        *count = count.saturating_add(1);
        let Some(expected) = flow.expect() else { return true };
        self.expecting = self.expecting.saturating_add(1);
        let met = judgement.answer.meets(expected);
        self.unexpected = self.unexpected.saturating_add(u64::from(!met));
        met
    }

    pub(crate) fn add(&mut self, other: Self) {
        for (sum, more) in [
            (&mut self.allow, other.allow),
            (&mut self.deny, other.deny),
            (&mut self.inspect, other.inspect),
            (&mut self.expecting, other.expecting),
            (&mut self.unexpected, other.unexpected),
        ] {
            *sum = sum.saturating_add(more);
        }
    }

    pub(crate) const fn flows(&self) -> u64 {
        self.allow.saturating_add(self.deny).saturating_add(self.inspect)
    }

    /// `12 flows: 9 allow, 3 deny; 1 not as expected`.
    fn summary(&self) -> String {
        let flows = self.flows();
        let mut text = format!("{flows} flow{}", if flows == 1 { "" } else { "s" });
        let counts = [(self.allow, "allow"), (self.deny, "deny"), (self.inspect, "inspect")];
        let counts: Vec<String> = (counts.iter().filter(|(count, _)| *count > 0))
            .map(|(count, word)| format!("{count} {word}"))
            .collect();
        if !counts.is_empty() {
            // Writing into a string cannot fail.
            let _ = write!(text, ": {}", counts.join(", "));
        }
        match (self.expecting, self.unexpected) {
            (0, _) => {}
            (_, 0) => text.push_str("; all as expected"),
            (_, count) => drop(write!(text, "; {count} not as expected")),
        }
        text
    }
}

/// Reports the result of the run and ends it. A gate without questions or without objects fails, because nothing was
/// checked.
pub(crate) fn end(tally: &Tally, scenario: &Scenario, args: &EvalArgs) -> ExitCode {
    let is_gate = args.fail_on_deny || tally.expecting > 0;
    let mut failed = tally.unexpected > 0 || (args.fail_on_deny && tally.deny > 0);
    let nothing = [
        (tally.flows() == 0, "there is no flow, so nothing was checked"),
        (is_empty(scenario), "the input has neither a policy nor a pod, so nothing was checked"),
    ];
    for (_, reason) in nothing.into_iter().filter(|(is, _)| *is && !args.allow_empty) {
        if is_gate {
            to_stderr(&format!("error: {reason}; `--allow-empty` lets it pass\n"));
            failed = true;
        } else if !args.quiet {
            to_stderr(&format!("warning: {reason}\n"));
        }
    }
    if args.flows.is_some() && (!args.quiet || failed) {
        to_stderr(&format!("{}\n", tally.summary()));
    }
    if failed { ExitCode::from(FAILED) } else { ExitCode::SUCCESS }
}

fn is_empty(scenario: &Scenario) -> bool {
    let cluster = scenario.cluster();
    let is_pod = |id: &portcullis::model::EndpointId| id.kind == portcullis::model::EndpointKind::Workload;
    cluster.policies().is_empty() && !cluster.endpoints().keys().any(is_pod)
}

/// The exit code of a gate that failed.
const FAILED: u8 = 4;
