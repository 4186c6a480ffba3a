//! Answers in the form that programs read.

use core::net::IpAddr;

use portcullis_core::flow::{End, FlowDecision, Side};
use portcullis_core::packet::Packet;
use portcullis_core::verdict::Verdict;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::answer::{Answer, Part, Resolved};
use super::flow::{Flow, Port};
use super::ports::PortSet;

/// The answer to one flow, as one JSON object.
///
/// ```json
/// {"id":1,"verdict":"deny","egress":{"verdict":"allow","cause":"no-policy","tier":null,"policy":null,"rule":null},
///  "ingress":{"verdict":"deny","cause":"rule","tier":"default",
///             "policy":{"kind":"NetworkPolicy","namespace":"a","name":"b"},"rule":0},
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
/// | `parts` | the answer has several parts, or is for every port, or for a service | one object for each: `from`, `to`, `source`, `destination`, `protocol`, `port` or `ports` (`"1-79, 81-65535"`), `verdict`, `egress`, `ingress` |
/// | `staged` | staged policies were asked about | `verdict`, `egress` and `ingress` with them in force |
/// | `warnings` | there are any | texts |
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
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
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
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "ports")]
    ports: Option<&'a PortSet>,
    #[serde(flatten)]
    answer: AnswerReport<'a>,
}

impl<'a> Report<'a> {
    /// The answer to `flow`; `staged` is the answer with staged policies in force, when it was asked for.
    #[must_use]
    pub fn new(flow: &'a Flow, answer: &'a Answer, staged: Option<&'a Answer>) -> Self {
        let deciding = answer.deciding().map(|part| &part.resolved.packet);
        let whole = |part: &Part| part.ports.is_some();
        let in_parts =
            answer.parts().len() > 1 || answer.service().is_some() || answer.parts().iter().any(whole);
        Self {
            id: flow.raw_id(),
            answer: overall(answer),
            staged: staged.map(overall),
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
            parts: answer.parts().iter().filter(|_| in_parts).map(part).collect(),
            warnings: answer.warnings(),
        }
    }
}

fn overall(answer: &Answer) -> AnswerReport<'_> {
    let sides = answer.deciding().map(|part| sides(&part.decision));
    let (egress, ingress) = sides.map_or((None, None), |sides| (sides.egress, sides.ingress));
    AnswerReport { verdict: name(answer.verdict()), egress, ingress }
}

fn part(part: &Part) -> PartReport<'_> {
    let Resolved { from, to, packet } = &part.resolved;
    let Packet { source, destination, protocol, destination_port, .. } = packet;
    PartReport {
        from: (from, *source),
        to: (to, *destination),
        source: *source,
        destination: *destination,
        protocol: protocol.to_string(),
        port: (protocol.has_ports() && part.ports.is_none()).then_some(*destination_port),
        ports: part.ports.as_ref(),
        answer: sides(&part.decision),
    }
}

fn sides(decision: &FlowDecision) -> AnswerReport<'_> {
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

/// An end as a peer is written; an outside one as its address.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
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
