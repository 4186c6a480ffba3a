//! Rules of Calico policies and profiles.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use portcullis_core::label::Name;
use portcullis_core::model::{Action, HttpMatch, IcmpMatch, L4Match, PathMatch, PortMatch, Rule};
use portcullis_core::net::IpVersion;
use portcullis_core::packet::Protocol;
use portcullis_core::quote::quoted;

use crate::calico::entity::{self, End, Entity, Identity, Services};
use crate::calico::families::{Families, Family};
use crate::calico::scalar;
use crate::calico::spec::{EntitySpec, HttpSpec, IcmpSpec, RuleSpec};
use crate::context::Context;
use crate::intstr::IntOrString;
use crate::path::Path;
use crate::validate;

/// The direction that a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// To the subject.
    Ingress,
    /// From the subject.
    Egress,
}

/// What the rules of one object have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    /// The namespace of the policy, for kinds that have one.
    pub(super) namespace: Option<&'a Name>,
    /// Whether networks of both families may stand in one rule.
    pub(super) families: Families,
}

/// Converts a list of rules.
///
/// Rules that are refused are left out; the errors they noted refuse the object.
pub(super) fn rules(
    cx: &mut Context<'_>,
    path: &Path<'_>,
    specs: Option<&[RuleSpec]>,
    direction: Direction,
    common: Rules<'_>,
) -> Vec<Rule> {
    let specs = specs.unwrap_or_default();
    if specs.len() > MAX_RULES {
        cx.error(path, format!("must have no more than {MAX_RULES} items"));
    }
    specs
        .iter()
        .enumerate()
        .filter_map(|(index, spec)| rule(cx, &path.index(index), spec, direction, common))
        .collect()
}

/// Source: Calico `libcalico-go/lib/backend/syncersv1/updateprocessors/rules.go`; what is refused:
/// `libcalico-go/lib/validator/v3/validator.go` and the rules in the resource definitions.
fn rule(
    cx: &mut Context<'_>,
    path: &Path<'_>,
    spec: &RuleSpec,
    direction: Direction,
    common: Rules<'_>,
) -> Option<Rule> {
    let action = action(cx, &path.field("action"), spec.action.as_deref());
    let header = header(cx, path, spec);
    let (source, destination) = ends(cx, path, spec, &header, direction, common);
    check_ports(cx, path, header.protocol, &source, &destination);
    let http = spec
        .http
        .as_ref()
        .and_then(|http| self::http(cx, &path.field("http"), http, action, direction, header.protocol));
    let annotations = spec.metadata.iter().flat_map(|metadata| metadata.annotations.iter().flatten());
    for (key, _) in annotations {
        if let Err(reason) = validate::label_key(&key.to_lowercase()) {
            cx.error(&path.field("metadata").field("annotations").key(key), reason);
        }
    }

    let l4 = L4Match {
        protocol: header.protocol,
        not_protocol: header.not_protocol,
        icmp: header.icmp,
        not_icmp: header.not_icmp,
        source_ports: source.ports,
        not_source_ports: source.not_ports,
        destination_ports: destination.ports,
        not_destination_ports: destination.not_ports,
    };
    let (peer, local) = match direction {
        Direction::Ingress => (source.matches, destination.matches),
        Direction::Egress => (destination.matches, source.matches),
    };
    let mut rule = Rule::new(action?);
    rule.ip_version = header.version.or(header.implied);
    rule.peers = if peer.is_any() { Vec::new() } else { vec![peer] };
    rule.local = local;
    rule.l4 = if l4 == L4Match::default() { Vec::new() } else { vec![l4] };
    rule.http = http;
    Some(rule)
}

/// What a rule says about family, protocol and ICMP.
struct Header {
    version: Option<IpVersion>,
    protocol: Option<Protocol>,
    not_protocol: Option<Protocol>,
    /// The family that the protocol belongs to.
    implied: Option<IpVersion>,
    icmp: Option<IcmpMatch>,
    not_icmp: Option<IcmpMatch>,
}

fn header(cx: &mut Context<'_>, path: &Path<'_>, spec: &RuleSpec) -> Header {
    let version = ip_version(cx, &path.field("ipVersion"), spec.ip_version);
    let protocol = protocol(cx, &path.field("protocol"), spec.protocol.as_ref());
    let not_protocol = self::protocol(cx, &path.field("notProtocol"), spec.not_protocol.as_ref());
    let implied = protocol.and_then(family_of);
    for (field, family) in [("protocol", implied), ("notProtocol", not_protocol.and_then(family_of))] {
        if let (Some(family), Some(version)) = (family, version)
            && family != version
        {
            cx.error(&path.field(field), format!("needs ipVersion {family}, not {version}"));
        }
    }
    let icmp = icmp(cx, &path.field("icmp"), spec.icmp);
    let not_icmp = self::icmp(cx, &path.field("notICMP"), spec.not_icmp);
    if spec.icmp.is_some() && implied.is_none() {
        cx.error(&path.field("icmp"), "needs protocol ICMP or ICMPv6");
    }
    Header { version, protocol, not_protocol, implied, icmp, not_icmp }
}

/// The source and the destination. The networks of all four lists and `ipVersion` must agree, or it is said that they do
/// not.
fn ends(
    cx: &mut Context<'_>,
    path: &Path<'_>,
    spec: &RuleSpec,
    header: &Header,
    direction: Direction,
    Rules { namespace, families }: Rules<'_>,
) -> (Entity, Entity) {
    let Header { version, implied, .. } = *header;
    let mut family = Family { families, version, is_mixed: false };
    let nothing = EntitySpec::default();
    let end = |services, identity| End { namespace, services, identity };
    let (source, destination) = match direction {
        Direction::Ingress => {
            (end(Services::Source, Identity::Checked), end(Services::Refused, Identity::Unknown))
        }
        Direction::Egress => {
            (end(Services::Refused, Identity::Unknown), end(Services::Destination, Identity::Unknown))
        }
    };
    let mut convert = |field, spec: &Option<EntitySpec>, end| {
        entity::convert(cx, &path.field(field), spec.as_ref().unwrap_or(&nothing), end, &mut family)
    };
    let source = convert("source", &spec.source, source);
    let destination = convert("destination", &spec.destination, destination);
    if family.is_mixed {
        let message = "it names networks of both families: for one of them it holds only where each of its lists names a network of that family";
        cx.warn(path, message);
    } else if let (Some(implied), Some(family)) = (implied, family.version)
        && implied != family
        && version.is_none()
    {
        cx.warn(
            path,
            format!(
                "its protocol is for IPv{implied} and its networks are IPv{family}, so it matches nothing"
            ),
        );
    }
    (source, destination)
}

fn action(cx: &mut Context<'_>, path: &Path<'_>, text: Option<&str>) -> Option<Action> {
    match text {
        Some("Allow") => Some(Action::Allow),
        Some("Deny") => Some(Action::Deny),
        Some("Pass") => Some(Action::Pass),
        Some("Log") => Some(Action::Log),
        Some(other) => {
            cx.error(path, format!("{} is not an action: Allow, Deny, Pass or Log", quoted(other)));
            None
        }
        None => {
            cx.error(path, "the action is missing: Allow, Deny, Pass or Log");
            None
        }
    }
}

fn ip_version(cx: &mut Context<'_>, path: &Path<'_>, version: Option<i64>) -> Option<IpVersion> {
    match version? {
        4 => Some(IpVersion::V4),
        6 => Some(IpVersion::V6),
        other => {
            cx.error(path, format!("`{other}` is not an IP version: 4 or 6"));
            None
        }
    }
}

fn protocol(cx: &mut Context<'_>, path: &Path<'_>, value: Option<&IntOrString>) -> Option<Protocol> {
    match scalar::protocol(value?) {
        Ok(protocol) => Some(protocol),
        Err(reason) => {
            cx.error(path, reason);
            None
        }
    }
}

/// The family that a protocol belongs to.
fn family_of(protocol: Protocol) -> Option<IpVersion> {
    match protocol {
        Protocol::ICMP => Some(IpVersion::V4),
        Protocol::ICMPV6 => Some(IpVersion::V6),
        _ => None,
    }
}

/// An ICMP condition; one without a type is none.
fn icmp(cx: &mut Context<'_>, path: &Path<'_>, spec: Option<IcmpSpec>) -> Option<IcmpMatch> {
    let spec = spec?;
    let kind = small_number(cx, &path.field("type"), spec.kind, 254);
    let code = small_number(cx, &path.field("code"), spec.code, 255);
    if spec.code.is_some() && spec.kind.is_none() {
        cx.error(&path.field("code"), "needs a type beside it");
    }
    kind.map(|kind| IcmpMatch { kind: Some(kind), code })
}

fn small_number(cx: &mut Context<'_>, path: &Path<'_>, value: Option<i64>, max: u8) -> Option<u8> {
    let value = value?;
    match u8::try_from(value) {
        Ok(small) if small <= max => Some(small),
        _ => {
            cx.error(path, format!("`{value}` is not a number from 0 to {max}"));
            None
        }
    }
}

/// Numbers need a protocol that has ports; names alone may go without a protocol, and then mean the ports of that
/// name of any protocol.
fn check_ports(
    cx: &mut Context<'_>,
    path: &Path<'_>,
    protocol: Option<Protocol>,
    source: &Entity,
    destination: &Entity,
) {
    if protocol.is_some_and(Protocol::has_ports) {
        return;
    }
    for (end, entity) in [("source", source), ("destination", destination)] {
        for (field, ports) in [("ports", &entity.ports), ("notPorts", &entity.not_ports)] {
            let only_names = ports.iter().all(|port| matches!(port, PortMatch::Named(_)));
            if !ports.is_empty() && (protocol.is_some() || !only_names) {
                cx.error(&path.field(end).field(field), "needs protocol TCP, UDP or SCTP");
            }
        }
    }
}

/// HTTP conditions; an empty one is none.
fn http(
    cx: &mut Context<'_>,
    path: &Path<'_>,
    spec: &HttpSpec,
    action: Option<Action>,
    direction: Direction,
    protocol: Option<Protocol>,
) -> Option<HttpMatch> {
    if action.is_some_and(|action| action != Action::Allow) {
        cx.error(path, "is only allowed in Allow rules");
    }
    if direction == Direction::Egress {
        cx.error(path, "is only allowed in ingress rules");
    }
    if protocol.is_some_and(|protocol| protocol != Protocol::TCP) {
        cx.error(path, "needs protocol TCP or none");
    }
    let methods_path = path.field("methods");
    let methods: &[String] = spec.methods.as_deref().unwrap_or_default();
    if methods.len() > MAX_HTTP {
        cx.error(&methods_path, format!("must have no more than {MAX_HTTP} items"));
    }
    let mut seen = BTreeSet::new();
    for (index, method) in methods.iter().enumerate() {
        if !seen.insert(method.as_str()) {
            cx.error(&methods_path.index(index), format!("{} is given twice", quoted(method)));
        }
    }
    let paths_path = path.field("paths");
    let paths = spec.paths.as_deref().unwrap_or_default();
    if paths.len() > MAX_HTTP {
        cx.error(&paths_path, format!("must have no more than {MAX_HTTP} items"));
    }
    let mut matches = HttpMatch { methods: methods.iter().map(|m| cx.name(m)).collect(), paths: Vec::new() };
    for (index, spec) in paths.iter().enumerate() {
        let path = paths_path.index(index);
        let filled = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
        let (text, make): (String, fn(Name) -> PathMatch) = match (filled(&spec.exact), filled(&spec.prefix))
        {
            (Some(exact), None) => (exact, PathMatch::Exact),
            (None, Some(prefix)) => (prefix, PathMatch::Prefix),
            _ => {
                cx.error(&path, "needs either exact or prefix");
                continue;
            }
        };
        if text.chars().count() > MAX_PATH {
            cx.error(&path, format!("must have no more than {MAX_PATH} characters"));
        }
        if !text.starts_with('/') || text.contains(['?', '#', ' ']) {
            cx.error(
                &path,
                format!("{} is not a path: begin with `/`, without `?`, `#` or space", quoted(&text)),
            );
        }
        matches.paths.push(make(cx.name(&text)));
    }
    Some(matches).filter(|matches| *matches != HttpMatch::default())
}

/// Most rules in one direction.
const MAX_RULES: usize = 1024;
/// Most methods and most paths in one rule.
const MAX_HTTP: usize = 20;
/// Longest path, in characters.
const MAX_PATH: usize = 1024;
