//! Chains that carry out a decision: one for each decision and flavour, with the counter and the events.

use portcullis_core::ir::Decision;
use portcullis_core::label::Name;
use portcullis_core::net::IpVersion;
use portcullis_core::verdict::{Cause, Verdict};

use crate::command::{Part, Target};
use crate::fixed::Fixed;
use crate::names::label;
use crate::options::{Inspected, LoggedEvents, Options};
use crate::pool::Content;

/// What an answer means where it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Flavour {
    /// At workload, host and forward hooks: what is not dropped goes on to the next hook.
    Tracked,
    /// Before destination NAT: Allow also skips the host endpoint's later hooks.
    PreDnat,
    /// Before connection tracking: the same, and the packet stays untracked.
    Untracked,
    /// What staged policies would say: counted and nothing else.
    Staged,
}

/// What a decision does to the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Pass,
    /// Passes, and this host endpoint asks no further.
    PassAll,
    Drop,
}

fn outcome(decision: &Decision, flavour: Flavour, inspect: Inspected) -> Outcome {
    match (decision.verdict, flavour, inspect) {
        (_, Flavour::Staged, _) | (Verdict::Inspect, _, Inspected::HandOver) => Outcome::Pass,
        (Verdict::Deny | Verdict::Inspect, _, _) => Outcome::Drop,
        (Verdict::Continue, _, _) | (Verdict::Allow, Flavour::Tracked, _) => Outcome::Pass,
        // An exemption is good for its own hook only (Calico `felix/rules/static.go`).
        (Verdict::Allow, _, _) if matches!(decision.cause, Cause::Failsafe | Cause::NeighbourDiscovery) => {
            Outcome::Pass
        }
        (Verdict::Allow, _, _) => Outcome::PassAll,
    }
}

/// Whether a hook that can only answer this may as well not be asked.
pub(crate) fn is_void(decision: &Decision, flavour: Flavour, inspect: Inspected) -> bool {
    outcome(decision, flavour, inspect) == Outcome::Pass && decision.logs.is_empty()
}

/// The rules of the chain called `name`, which is also the name of its counter.
pub(crate) fn rules(
    name: &Name,
    decision: &Decision,
    flavour: Flavour,
    options: &Options,
    fixed: &Fixed,
) -> Content {
    let outcome = outcome(decision, flavour, options.inspect);
    let mut rules = Vec::new();
    if outcome == Outcome::Drop && flavour == Flavour::Tracked {
        for version in [IpVersion::V4, IpVersion::V6] {
            // A workload's traffic to itself is never denied (decision D10). The packet has to come in through the
            // workload's own interface to count as that.
            let (set, key) = fixed.own(version);
            rules.push((vec![Part::In(key, set), Part::Go(Target::Return)], None));
        }
    }
    if flavour != Flavour::Staged {
        for rule in &decision.logs {
            let text = format!("{name} log {} {} rule {}", rule.policy, rule.direction, rule.index);
            rules.push((vec![Part::Log(options.log_group, label(&text))], None));
        }
        let loud = match options.events {
            LoggedEvents::LogRules => false,
            LoggedEvents::Denies => outcome == Outcome::Drop,
            LoggedEvents::All => true,
        };
        if loud {
            let text = format!("{name} {} {}", decision.verdict, decision.cause);
            rules.push((vec![Part::Log(options.log_group, label(&text))], None));
        }
    }
    let mut parts = vec![Part::Count(name.clone())];
    if outcome == Outcome::PassAll {
        parts.push(Part::SetMark(options.mark));
        if flavour == Flavour::Untracked {
            parts.push(Part::NoTrack);
        }
    }
    parts.push(Part::Go(if outcome == Outcome::Drop { Target::Drop } else { Target::Return }));
    let staged = if flavour == Flavour::Staged { "staged: " } else { "" };
    rules.push((parts, Some(label(&format!("{staged}{}: {}", decision.verdict, decision.cause)))));
    rules
}
