//! What is asked about a flow, and what comes of it.

use core::fmt;

use portcullis_core::label::Name;
use portcullis_core::model::ServiceId;
use portcullis_core::packet::Packet;
use portcullis_core::path::{End, FlowDecision, Side};
use portcullis_core::verdict::{Cause, Decision, Verdict};

use super::cuts::Cuts;
use super::ports::PortSet;
use super::shield::without_shields;

/// A flow whose ends and addresses are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Where it starts.
    pub from: End,
    /// Where it ends.
    pub to: End,
    /// Its first packet, after destination NAT.
    pub packet: Packet,
}

/// One question that a flow comes to: one pair of ends and one packet, which stands for all [`Question::ports`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub(super) resolved: Resolved,
    pub(super) ports: Option<PortSet>,
    pub(super) source_ports: Option<PortSet>,
    pub(super) service_port: Option<u16>,
    pub(super) way: Way,
}

/// How a question is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By the hooks between its ends.
    Hooks,
    /// By the hooks between its ends, some of which see the packet before destination NAT.
    Translated {
        /// The packet as it was sent.
        before: Box<Packet>,
        /// The node that translates it, where that is not the source's own.
        node: Option<Name>,
    },
    /// By the hooks of one endpoint that stands for both ends (decision D33).
    BetweenReplicas,
    /// Without any: nothing answers there.
    Nothing(Cause),
}

impl Question {
    /// Its ends and its packet.
    #[must_use]
    pub const fn resolved(&self) -> &Resolved {
        &self.resolved
    }

    /// The ports that its packet stands for, when the flow asks about every port.
    #[must_use]
    pub const fn ports(&self) -> Option<&PortSet> {
        self.ports.as_ref()
    }
}

/// Everything that a flow comes to, before an engine is asked: the questions, never none, and what the author of the
/// flow should know about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub(super) questions: Vec<Question>,
    pub(super) service: Option<ServiceId>,
    pub(super) warnings: Vec<String>,
}

impl Plan {
    /// The questions, in the order of sources, destinations and ports.
    #[must_use]
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// The service that the flow goes to.
    #[must_use]
    pub const fn service(&self) -> Option<&ServiceId> {
        self.service.as_ref()
    }

    /// What the author of the flow should know: one line each.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Notes what the author of the flow should know, once.
    pub(super) fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }
}

/// The answer to a flow.
///
/// A flow to one pod and port has one [`Part`]. One to a service has a part for each ready backend, one from or to a
/// workload a part for each kind of its pods, and one without a port a part for each set of ports that are treated
/// alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    verdict: Verdict,
    parts: Vec<Part>,
    service: Option<ServiceId>,
    warnings: Vec<String>,
}

/// The answer to a part of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The ends and the packet that was decided; its port is the first of [`Part::ports`].
    pub resolved: Resolved,
    /// The ports that this is the answer for, when the flow asks about every port.
    pub ports: Option<PortSet>,
    /// The ephemeral source ports that this is the answer for, when policy tells them apart.
    pub source_ports: Option<PortSet>,
    /// The port of the service that the packet was sent to, before destination NAT.
    pub service_port: Option<u16>,
    /// The packet as it was sent, where destination NAT changed it before it came to the destination.
    pub sent: Option<Packet>,
    /// The answer.
    pub decision: FlowDecision,
}

impl Answer {
    /// Puts the decisions on the questions of a plan together. Ports that are treated alike become one part.
    pub(super) fn new(plan: &Plan, decisions: impl IntoIterator<Item = FlowDecision>) -> Self {
        let mut parts: Vec<Part> = Vec::new();
        // Ports of the same ends and protocol stand next to each other.
        let mut first = 0;
        for (question, decision) in plan.questions.iter().zip(decisions) {
            let part = Part {
                resolved: question.resolved.clone(),
                ports: question.ports.clone(),
                source_ports: question.source_ports.clone(),
                service_port: question.service_port,
                sent: match &question.way {
                    Way::Translated { before, .. } => Some((**before).clone()),
                    _ => None,
                },
                decision: without_shields(decision),
            };
            if parts.get(first).is_none_or(|known| !known.is_beside(&part)) {
                // Whole ranges of source ports are compared once all of their ports are together.
                join_sources(&mut parts, first);
                first = parts.len();
            }
            let alike = parts
                .iter_mut()
                .skip(first)
                .find(|known| known.decision == part.decision && known.source_ports == part.source_ports);
            match (&part.ports, alike) {
                (Some(ports), Some(Part { ports: Some(known), .. })) => known.extend(ports),
                _ => parts.push(part),
            }
        }
        join_sources(&mut parts, first);
        let verdicts = || parts.iter().map(|part| part.decision.verdict);
        // An answer without parts would allow what nobody asked about.
        let verdict = [Verdict::Deny, Verdict::Inspect].into_iter().find(|v| verdicts().any(|w| w == *v));
        let verdict = verdict.unwrap_or(if parts.is_empty() { Verdict::Deny } else { Verdict::Allow });
        Self { verdict, parts, service: plan.service.clone(), warnings: plan.warnings.clone() }
    }

    /// Deny when a part is denied, else Inspect when a part is inspected, else Allow.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The parts, never none, in the order of sources, destinations and first ports.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The first part with the verdict of the whole.
    #[must_use]
    pub fn deciding(&self) -> Option<&Part> {
        self.parts.iter().find(|part| part.decision.verdict == self.verdict)
    }

    /// The service that the flow goes to.
    #[must_use]
    pub const fn service(&self) -> Option<&ServiceId> {
        self.service.as_ref()
    }

    /// What the author of the flow should know about the answer: one line each.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether parts differ in their verdict.
    #[must_use]
    pub fn is_mixed(&self) -> bool {
        self.parts.iter().any(|part| part.decision.verdict != self.verdict)
    }

    /// Whether every part has the verdict `expected`. A mixed answer meets no expectation.
    #[must_use]
    pub fn meets(&self, expected: Verdict) -> bool {
        self.verdict == expected && !self.is_mixed()
    }
}

impl Part {
    /// Whether nothing answers there: the service has no such port, or nothing takes traffic behind it. No hook was
    /// asked then.
    #[must_use]
    pub fn is_unanswered(&self) -> bool {
        let cause = self.decision.ingress.as_ref().map(|side| &side.decision.cause);
        matches!(cause, Some(Cause::NoBackend | Cause::NoServicePort))
    }

    /// Whether `other` is about other ports of the same ends.
    fn is_beside(&self, other: &Self) -> bool {
        let Resolved { from, to, packet } = &self.resolved;
        let addresses = |packet: &Packet| (packet.source, packet.destination, packet.protocol);
        let is_same_port =
            self.ports.is_some() || packet.destination_port == other.resolved.packet.destination_port;
        *from == other.resolved.from
            && *to == other.resolved.to
            && addresses(packet) == addresses(&other.resolved.packet)
            && self.ports.is_some() == other.ports.is_some()
            && self.service_port == other.service_port
            && is_same_port
    }
}

/// Joins the parts from `first` on that differ in their source ports alone.
fn join_sources(parts: &mut Vec<Part>, first: usize) {
    let mut joined: Vec<Part> = Vec::new();
    for part in parts.drain(first.min(parts.len())..) {
        let alike =
            joined.iter_mut().find(|known| known.decision == part.decision && known.ports == part.ports);
        match (alike, &part.source_ports) {
            (Some(Part { source_ports: Some(known), .. }), Some(ports)) => known.extend(ports),
            _ => joined.push(part),
        }
    }
    for part in &mut joined {
        part.source_ports.take_if(|ports| *ports == Cuts::ephemeral());
    }
    parts.append(&mut joined);
}

/// The answer where nothing answers: no hook is asked, and no connection comes about.
pub(super) fn nothing(cause: &Cause) -> FlowDecision {
    let decision = Decision::new(Verdict::Deny, cause.clone());
    let side = Side { decision, consulted: Vec::new() };
    FlowDecision { verdict: Verdict::Deny, egress: None, ingress: Some(side) }
}

/// The protocol with the port, the set of ports or the ICMP message that the part is about, and the source ports where
/// they make a difference: `TCP 80`.
impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let packet = &self.resolved.packet;
        write!(f, "{}", packet.protocol)?;
        match (&self.ports, packet.icmp) {
            (Some(ports), _) => write!(f, " {ports}")?,
            (None, Some(icmp)) => write!(f, " {}/{}", icmp.kind, icmp.code)?,
            (None, None) if packet.protocol.has_ports() => write!(f, " {}", packet.destination_port)?,
            (None, None) => {}
        }
        match &self.source_ports {
            Some(ports) => write!(f, " from source ports {ports}"),
            None => Ok(()),
        }
    }
}
