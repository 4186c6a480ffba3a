//! Chains that carry out a decision: one for each decision and hook kind, with the counter and the events.

use portcullis_core::backend::{Inspected, LoggedEvents};
use portcullis_core::ir::DecisionEntry;
use portcullis_core::label::Name;
use portcullis_core::net::IpVersion;
use portcullis_core::verdict::{RuleRef, Verdict};

use crate::command::Content;
use crate::command::{AddressKind, Field, Part, Target};
use crate::lower::base_chains;
use crate::lower::base_names::BaseNames;
use crate::lower::names::label;
use crate::options::Options;

/// What an answer means at the hook that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum HookKind {
    /// At workload, host and forward hooks: what is not dropped goes on to the next hook.
    Tracked,
    /// The same for what processes of the host send: what goes to a workload of this node is not dropped.
    FromHost,
    /// Before destination NAT: Allow also skips the host endpoint's later hooks.
    PreDnat,
    /// Before connection tracking, for packets that come in: for those to the host itself Allow does the same, and the
    /// packet stays untracked; for those that will be forwarded Allow does nothing.
    UntrackedIngress,
    /// Before connection tracking, for what processes of the host send.
    UntrackedEgress,
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

fn outcome(decision: &DecisionEntry, hook_kind: HookKind, inspect: Inspected) -> Outcome {
    match (decision.verdict, hook_kind, inspect) {
        (_, HookKind::Staged, _) | (Verdict::Inspect, _, Inspected::HandOver) => Outcome::Pass,
        (Verdict::Deny | Verdict::Inspect, _, _) => Outcome::Drop,
        (Verdict::Continue, _, _) | (Verdict::Allow, HookKind::Tracked | HookKind::FromHost, _) => {
            Outcome::Pass
        }
        // An exemption is good for its own hook only (Calico `felix/rules/static.go`).
        (Verdict::Allow, _, _) if decision.cause.is_exemption() => Outcome::Pass,
        (Verdict::Allow, _, _) => Outcome::PassAll,
    }
}

/// Whether a hook that can only answer this may as well not be asked.
pub(crate) fn is_no_op(decision: &DecisionEntry, hook_kind: HookKind, inspect: Inspected) -> bool {
    outcome(decision, hook_kind, inspect) == Outcome::Pass && decision.logs.is_empty()
}

/// The rules of the chain called `name`, which is also the name of its counter.
pub(crate) fn rules(
    name: &Name,
    decision: &DecisionEntry,
    hook_kind: HookKind,
    options: &Options,
    base_names: &BaseNames,
) -> Content {
    let outcome = outcome(decision, hook_kind, options.shared.inspected);
    let mut rules = Vec::new();
    if outcome == Outcome::Drop {
        rules.extend(exemptions(hook_kind, base_names));
    }
    if hook_kind != HookKind::Staged {
        let mut prefixes: Vec<String> = decision.logs.iter().map(|rule| log_prefix(name, rule)).collect();
        let loud = match options.shared.events {
            LoggedEvents::LogRules => false,
            LoggedEvents::Denied => outcome == Outcome::Drop,
            // `All`, and what later versions of the contract add: rather too many events than too few.
            _ => true,
        };
        if loud {
            prefixes.push(label(&format!("{name} {} {}", decision.verdict, decision.cause)));
        }
        let interface = match hook_kind {
            HookKind::FromHost | HookKind::UntrackedEgress => Field::OutputInterface,
            _ => Field::InputInterface,
        };
        rules.extend(base_chains::events(options, interface, prefixes));
    }
    let count = Part::Count(name.clone());
    if outcome == Outcome::PassAll && hook_kind == HookKind::UntrackedIngress {
        // What will be forwarded is tracked and asked about as if there were no untracked policy (decision D25).
        // Source: Calico's documentation of doNotTrack, which is for traffic of the host itself.
        // Not only `unicast` is forwarded: the look-up knows no policy routing and no VRF, so what it has no route for may be.
        let elsewhere = AddressKind::ALL.map(Part::DestinationIsNot);
        let parts = elsewhere.into_iter().chain([count.clone(), Part::Go(Target::Return)]).collect();
        rules.push((parts, Some(label(&format!("forwarded, so not decided: {}", decision.cause)))));
    }
    let mut parts = vec![count];
    if outcome == Outcome::PassAll {
        parts.push(Part::SetMark(options.mark));
        if matches!(hook_kind, HookKind::UntrackedIngress | HookKind::UntrackedEgress) {
            parts.push(Part::NoTrack);
        }
    }
    parts.push(Part::Go(if outcome == Outcome::Drop { Target::Drop } else { Target::Return }));
    let staged = if hook_kind == HookKind::Staged { "staged: " } else { "" };
    rules.push((parts, Some(label(&format!("{staged}{}: {}", decision.verdict, decision.cause)))));
    rules
}

/// The prefix of what a Log rule logs.
pub(crate) fn log_prefix(name: &str, rule: &RuleRef) -> String {
    label(&format!("{name} log {} {} rule {}", rule.policy, rule.direction, rule.index))
}

/// Whether the packets of a decision are dropped.
#[cfg(feature = "apply")]
pub(crate) fn drops(decision: &DecisionEntry, hook_kind: HookKind, inspect: Inspected) -> bool {
    outcome(decision, hook_kind, inspect) == Outcome::Drop
}

/// Rules that let packets pass which no policy may drop. Only packets that would be dropped meet them.
fn exemptions(hook_kind: HookKind, base_names: &BaseNames) -> Content {
    let rule = |parts: Vec<Part>| (parts.into_iter().chain([Part::Go(Target::Return)]).collect(), None);
    match hook_kind {
        // A workload's traffic to itself is never denied (decision D10). The packet has to come in through the
        // workload's own interface to count as that.
        HookKind::Tracked => FAMILIES
            .map(|version| {
                let (set, key) = base_names.own(version);
                rule(vec![Part::In(key, set)])
            })
            .to_vec(),
        // The host reaches its workloads (decision D11). What goes there directly is not asked about, see
        // `base_chains`; but after destination NAT in the output hook, as of a service, the packet still names the
        // interface that its old destination is routed by. Source: Calico `felix/rules/static.go`,
        // `filterOutputChain`.
        HookKind::FromHost => FAMILIES
            .map(|version| {
                let (set, key) = base_names.workload_addresses(version);
                rule(vec![Part::IsTranslated, Part::In(key, set)])
            })
            .to_vec(),
        HookKind::PreDnat | HookKind::UntrackedIngress | HookKind::UntrackedEgress | HookKind::Staged => {
            Vec::new()
        }
    }
}

const FAMILIES: [IpVersion; 2] = [IpVersion::V4, IpVersion::V6];
