//! From what rules logged to events.

use alloc::sync::Arc;

use portcullis_core::backend::{Event, EventAction, Inspected};
use portcullis_core::ir::DecisionEntry;
use portcullis_core::verdict::{Cause, Hook, Verdict};

use crate::apply::header;
use crate::apply::netlink::LogMessage;
use crate::lower::decision_chains::{self, HookKind};
use crate::lower::interned::Meaning;
use crate::lower::{base_chain, base_chains};

/// What a log message says.
pub(crate) enum Told {
    /// A packet was decided.
    Event(Event),
    /// More about a packet whose event was told: each Log rule and the decision log for themselves.
    Before,
    /// The decision is not known, or the packet cannot be read.
    Unknown,
}

/// Resolves `message`, whose chain stands for `meaning`.
pub(crate) fn resolve(message: &LogMessage, meaning: Option<&Meaning>, inspected: Inspected) -> Told {
    let unknown = || Meaning { decision: Arc::new(UNKNOWN), hook_kind: HookKind::Tracked };
    let meaning = match meaning {
        Some(meaning) => meaning.clone(),
        None if [base_chains::UNKNOWN, base_chain::FORGED, base_chains::TUNNELS]
            .contains(&message.chain()) =>
        {
            unknown()
        }
        None => return Told::Unknown,
    };
    let Meaning { decision, hook_kind } = meaning;
    // The first thing that a decision logs is its first Log rule, where it has one.
    if let Some(rule) = decision.logs.first()
        && message.prefix != decision_chains::log_prefix(message.chain(), rule)
    {
        return Told::Before;
    }
    let Some(packet) = header::packet(&message.packet) else { return Told::Unknown };
    let dropped = decision_chains::drops(&decision, hook_kind, inspected);
    let action = if dropped { EventAction::Dropped } else { EventAction::Passed };
    let [input, output] = message.interfaces;
    let (hook, interface) = match hook_kind {
        HookKind::PreDnat => (Some(Hook::PreDnat), input),
        HookKind::UntrackedIngress => (Some(Hook::UntrackedIngress), input),
        HookKind::UntrackedEgress => (Some(Hook::UntrackedEgress), output),
        HookKind::FromHost => (Some(Hook::HostEgress), output),
        // Chains do not know which endpoint asked them. What comes in for the host has one interface only.
        HookKind::Tracked => (None, input.filter(|_| message.hook == Some(LOCAL_IN))),
        HookKind::Staged => (None, None),
    };
    let mut event = Event::new(packet, decision, action);
    event.hook = hook;
    event.interface = interface;
    Told::Event(event)
}

/// The decision about a workload without a binding, an endpoint that the snapshot does not know, and at a closed interface.
const UNKNOWN: DecisionEntry =
    DecisionEntry { verdict: Verdict::Deny, cause: Cause::NoPolicy, logs: Vec::new(), l7: None };

/// netfilter's `NF_INET_LOCAL_IN`.
const LOCAL_IN: u8 = 1;
