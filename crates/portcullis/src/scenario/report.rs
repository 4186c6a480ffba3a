//! Answers in the form that programs read.

use alloc::borrow::Cow;
use core::net::IpAddr;

use portcullis_core::packet::Packet;
use portcullis_core::path::{End, FlowDecision, Side};
use portcullis_core::verdict::Verdict;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::answer::{Answer, Part, Resolved};
use super::flow::{Flow, Port};
use super::ports::PortSet;
use super::{Location, Scenario};
use crate::render::{Renderer, TracedHook};

/// The answer to one flow, as one JSON object.
///
/// ```json
/// {"id":1,"verdict":"deny","egress":{"verdict":"allow","cause":"no-policy","tier":null,"policy":null,"rule":null},
///  "ingress":{"verdict":"deny","cause":"rule","tier":"default",
///             "policy":{"kind":"NetworkPolicy","namespace":"a","name":"b"},"rule":0,
///             "location":{"file":"a.yaml","line":9,"column":5}},
///  "flow":{"from":"a/client","to":"a/server","protocol":"TCP","port":80,"source":"10.0.0.1","destination":"10.0.0.2"}}
/// ```
///
/// A side is `null` where that end is not subject to policy. With several parts, `egress`, `ingress` and the addresses
/// of `flow` are those of the part that decides. What follows is there only when there is something to say:
///
/// | field | when | is |
/// |---|---|---|
/// | `expect` | the flow expects a verdict | that verdict |
/// | `asExpected` | as above | whether every part has it |
/// | `service` | the flow goes to a service | its `namespace` and `name` |
/// | `parts` | the answer has several parts, or is for every port, or for a service | one object for each: `from`, `to`, `source`, `destination`, `protocol`, `port` or `ports` (`"1-79, 81-65535"`), `servicePort`, `sourcePorts`, `verdict`, `egress`, `ingress` |
/// | `staged` | staged policies were asked about | `verdict`, `egress` and `ingress` with them in force |
/// | `location` | a rule or policy of a side was read from a file | where it begins |
/// | `trace` | [`Report::traced`] | the hooks of `egress` and `ingress` with every tier, policy and rule that was looked at |
/// | `warnings` | there are any | texts: about the flow, and about policies that answers leave out |
///
/// `docs/schemas/answer.json` in the repository is the schema.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report<'a> {
    id: Option<&'a RawValue>,
    #[serde(flatten)]
    answer: AnswerReport<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    staged: Option<AnswerReport<'a>>,
    flow: FlowReport<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expect: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    as_expected: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<ServiceReport<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<PartReport<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Cow<'a, str>>,
    #[serde(skip)]
    answers: (&'a Answer, Option<&'a Answer>),
}

#[derive(Debug, Serialize)]
struct AnswerReport<'a> {
    verdict: &'static str,
    egress: Option<SideReport<'a>>,
    ingress: Option<SideReport<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<TraceReport>,
}

#[derive(Debug, Serialize)]
struct TraceReport {
    egress: Vec<TracedHook>,
    ingress: Vec<TracedHook>,
}

#[derive(Debug, Serialize)]
struct SideReport<'a> {
    verdict: &'static str,
    cause: &'static str,
    tier: Option<&'a str>,
    policy: Option<PolicyReport<'a>>,
    rule: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<Location>,
}

#[derive(Debug, Serialize)]
struct PolicyReport<'a> {
    kind: &'a str,
    namespace: Option<&'a str>,
    name: &'a str,
}

/// The flow as it was asked, with the addresses of the packet that decided.
#[derive(Debug, Serialize)]
struct FlowReport<'a> {
    from: String,
    to: String,
    protocol: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<PortReport<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp: Option<[u8; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<IpAddr>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum PortReport<'a> {
    Number(u16),
    Name(&'a str),
}

#[derive(Debug, Serialize)]
struct ServiceReport<'a> {
    namespace: &'a str,
    name: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PartReport<'a> {
    #[serde(serialize_with = "end")]
    from: (&'a End, IpAddr),
    #[serde(serialize_with = "end")]
    to: (&'a End, IpAddr),
    source: IpAddr,
    destination: IpAddr,
    protocol: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "ports")]
    source_ports: Option<&'a PortSet>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "ports")]
    ports: Option<&'a PortSet>,
    #[serde(flatten)]
    answer: AnswerReport<'a>,
}

impl<'a> Report<'a> {
    /// The answer to `flow` in `scenario`; `staged` is the answer with staged policies in force, when it was asked for.
    #[must_use]
    pub fn new(
        scenario: &'a Scenario,
        flow: &'a Flow,
        answer: &'a Answer,
        staged: Option<&'a Answer>,
    ) -> Self {
        let deciding = answer.deciding().map(|part| &part.resolved.packet);
        let whole = |part: &Part| part.ports.is_some() || part.source_ports.is_some();
        let in_parts =
            answer.parts().len() > 1 || answer.service().is_some() || answer.parts().iter().any(whole);
        let left_out = scenario.foreign_policies().iter().map(|left_out| left_out.to_string().into());
        Self {
            id: flow.raw_id(),
            answer: overall(scenario, answer),
            staged: staged.map(|staged| overall(scenario, staged)),
            flow: FlowReport {
                from: flow.from().to_string(),
                to: flow.to().to_string(),
                protocol: flow.protocol().to_string(),
                port: flow.port().filter(|_| flow.protocol().has_ports()).map(|port| match port {
                    Port::Number(number) => PortReport::Number(*number),
                    Port::Name(name) => PortReport::Name(name),
                }),
                icmp: flow.icmp().map(|icmp| [icmp.kind, icmp.code]),
                source: deciding.map(|packet| packet.source),
                destination: deciding.map(|packet| packet.destination),
            },
            expect: flow.expect().map(name),
            as_expected: flow.expect().map(|expected| answer.meets(expected)),
            service: answer
                .service()
                .map(|id| ServiceReport { namespace: id.namespace.as_str(), name: id.name.as_str() }),
            parts: answer.parts().iter().filter(|_| in_parts).map(|it| part(scenario, it)).collect(),
            warnings: answer.warnings().iter().map(Into::into).chain(left_out).collect(),
            answers: (answer, staged),
        }
    }

    /// The same with every tier, policy and rule that was looked at; `staged` explains the answer with staged policies in
    /// force.
    #[must_use]
    pub fn traced(mut self, renderer: &Renderer<'_>, staged: Option<&Renderer<'_>>) -> Self {
        let (now, then) = self.answers;
        self.answer.trace = now.deciding().map(|part| trace(renderer, part));
        if let (Some(report), Some(answer), Some(renderer)) = (&mut self.staged, then, staged) {
            report.trace = answer.deciding().map(|part| trace(renderer, part));
        }
        for (report, part) in self.parts.iter_mut().zip(now.parts()) {
            report.answer.trace = Some(trace(renderer, part));
        }
        self
    }
}

fn trace(renderer: &Renderer<'_>, part: &Part) -> TraceReport {
    let of = |side: &Option<Side>| side.as_ref().map(|side| renderer.trace(side, part)).unwrap_or_default();
    TraceReport { egress: of(&part.decision.egress), ingress: of(&part.decision.ingress) }
}

fn overall<'a>(scenario: &Scenario, answer: &'a Answer) -> AnswerReport<'a> {
    let sides = answer.deciding().map(|part| sides(scenario, &part.decision));
    let (egress, ingress) = sides.map_or((None, None), |sides| (sides.egress, sides.ingress));
    AnswerReport { verdict: name(answer.verdict()), egress, ingress, trace: None }
}

fn part<'a>(scenario: &Scenario, part: &'a Part) -> PartReport<'a> {
    let Resolved { from, to, packet } = &part.resolved;
    let Packet { source, destination, protocol, destination_port, .. } = packet;
    PartReport {
        from: (from, *source),
        to: (to, *destination),
        source: *source,
        destination: *destination,
        protocol: protocol.to_string(),
        port: (protocol.has_ports() && part.ports.is_none()).then_some(*destination_port),
        service_port: part.service_port,
        source_ports: part.source_ports.as_ref(),
        ports: part.ports.as_ref(),
        answer: sides(scenario, &part.decision),
    }
}

fn sides<'a>(scenario: &Scenario, decision: &'a FlowDecision) -> AnswerReport<'a> {
    AnswerReport {
        verdict: name(decision.verdict),
        egress: decision.egress.as_ref().map(|it| side(scenario, it)),
        ingress: decision.ingress.as_ref().map(|it| side(scenario, it)),
        trace: None,
    }
}

fn side<'a>(scenario: &Scenario, side: &'a Side) -> SideReport<'a> {
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
        location: scenario.cause_location(cause),
    }
}

/// An end as a peer is written; an outside one as its address.
fn end<S: Serializer>((end, address): &(&End, IpAddr), serializer: S) -> Result<S::Ok, S::Error> {
    match end {
        End::Endpoint(id) => serializer.collect_str(id),
        End::Node(node) => serializer.collect_str(&format_args!("node/{node}")),
        End::Outside => serializer.collect_str(address),
    }
}

fn ports<S: Serializer>(ports: &Option<&PortSet>, serializer: S) -> Result<S::Ok, S::Error> {
    match ports {
        Some(ports) => serializer.collect_str(ports),
        None => serializer.serialize_none(),
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
