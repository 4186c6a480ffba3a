//! Rules in a few words.

use core::fmt::Display;

use portcullis_core::model::{EntityMatch, HttpMatch, IcmpMatch, L4Match, PathMatch, PortMatch, Rule};
use portcullis_core::quote::escaped;
use portcullis_core::verdict::Direction;

use super::{Dialect, selector};

/// What `rule`, standing in a list of `direction`, matches: on one line, long lists cut.
#[must_use]
pub fn rule(rule: &Rule, direction: Direction, dialect: Dialect) -> String {
    let entity = |it: &EntityMatch| entity(it, dialect);
    let (far, near) = match direction {
        Direction::Ingress => ("from", "to"),
        Direction::Egress => ("to", "from"),
    };
    let mut parts = Vec::new();
    if let Some(name) = &rule.name {
        parts.push(format!("({})", escaped(name)));
    }
    if let Some(version) = rule.ip_version {
        parts.push(format!("IPv{version}"));
    }
    if !rule.peers.is_empty() && !rule.peers.iter().any(EntityMatch::is_any) {
        parts.push(format!("{far} {}", list(rule.peers.iter().map(entity), " or ")));
    }
    if !rule.local.is_any() {
        parts.push(format!("{near} {}", entity(&rule.local)));
    }
    if !rule.l4.is_empty() && !rule.l4.contains(&L4Match::default()) {
        parts.push(format!("on {}", list(rule.l4.iter().map(transport), " or ")));
    }
    if let Some(matched) = &rule.http {
        parts.push(http(matched));
    }
    if parts.iter().all(|part| part.starts_with('(')) {
        parts.push("anything".into());
    }
    parts.join(" ")
}

fn entity(entity: &EntityMatch, dialect: Dialect) -> String {
    let mut parts = Vec::new();
    if let Some(selected) = &entity.selector {
        parts.push(selector(selected, dialect));
    }
    if let Some(selected) = &entity.not_selector {
        parts.push(format!("not {}", selector(selected, dialect)));
    }
    if !entity.nets.is_empty() {
        parts.push(list(entity.nets.iter(), ", "));
    }
    if !entity.not_nets.is_empty() {
        parts.push(format!("not {}", list(entity.not_nets.iter(), ", ")));
    }
    if let Some(service) = &entity.service {
        parts.push(format!("service {}/{}", service.namespace, service.name));
    }
    if parts.is_empty() { "anyone".into() } else { parts.join(" and ") }
}

fn transport(item: &L4Match) -> String {
    let mut parts = Vec::new();
    if let Some(protocol) = item.protocol {
        parts.push(protocol.to_string());
    }
    if let Some(protocol) = item.not_protocol {
        parts.push(format!("not {protocol}"));
    }
    if let Some(message) = item.icmp {
        parts.push(icmp(message));
    }
    if let Some(message) = item.not_icmp {
        parts.push(format!("not {}", icmp(message)));
    }
    for (words, ports) in [
        ("", &item.destination_ports),
        ("not ", &item.not_destination_ports),
        ("source port ", &item.source_ports),
        ("not source port ", &item.not_source_ports),
    ] {
        if !ports.is_empty() {
            parts.push(format!("{words}{}", list(ports.iter().map(port), ", ")));
        }
    }
    parts.join(" ")
}

fn icmp(message: IcmpMatch) -> String {
    match (message.kind, message.code) {
        (Some(kind), Some(code)) => format!("type {kind} code {code}"),
        (Some(kind), None) => format!("type {kind}"),
        (None, _) => "any type".into(),
    }
}

fn port(port: &PortMatch) -> String {
    match port {
        PortMatch::Range(range) => range.to_string(),
        PortMatch::Named(name) => name.to_string(),
    }
}

fn http(matched: &HttpMatch) -> String {
    let mut text = String::from("HTTP");
    for part in [
        list(matched.methods.iter().map(|method| escaped(method).to_string()), ", "),
        list(
            matched.paths.iter().map(|path| match path {
                PathMatch::Exact(path) => escaped(path).to_string(),
                PathMatch::Prefix(path) => format!("{}/...", escaped(path.trim_end_matches('/'))),
            }),
            ", ",
        ),
    ] {
        if !part.is_empty() {
            text.push(' ');
            text.push_str(&part);
        }
    }
    text
}

/// The first items, and how many there are besides.
fn list(items: impl Iterator<Item = impl Display>, part: &str) -> String {
    let mut items = items.map(|item| item.to_string());
    let shown: Vec<String> = items.by_ref().take(SHOWN).collect();
    let text = shown.join(part);
    match items.count() {
        0 => text,
        more => format!("{text}{part}{more} more"),
    }
}

/// Items of a list that are shown.
const SHOWN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_core::model::{Action, EntityKinds, EntitySelector, PortRange};
    use portcullis_core::net::Cidr;
    use portcullis_core::packet::Protocol;
    use portcullis_core::selector::Selector;

    #[test]
    fn rules_read_as_sentences() {
        let mut it = Rule::new(Action::Allow);
        assert_eq!(rule(&it, Direction::Ingress, Dialect::Kubernetes), "anything");
        let expr = Selector::parse("app == 'web'").unwrap().into_expr();
        it.peers = vec![
            EntityMatch::select(EntitySelector { kinds: EntityKinds::WORKLOAD, expr }),
            EntityMatch::nets((0..6).map(|n| format!("10.{n}.0.0/16").parse::<Cidr>().unwrap()).collect()),
        ];
        it.l4 = vec![L4Match {
            protocol: Some(Protocol::TCP),
            destination_ports: vec![
                PortMatch::Range(PortRange::single(80)),
                PortMatch::Range(PortRange::new(8000, 8080).unwrap()),
                PortMatch::Named("https".into()),
            ],
            ..L4Match::default()
        }];
        let peers = "pods app=web or 10.0.0.0/16, 10.1.0.0/16, 10.2.0.0/16, 10.3.0.0/16, 2 more";
        let ports = "TCP 80, 8000:8080, https";
        assert_eq!(rule(&it, Direction::Ingress, Dialect::Kubernetes), format!("from {peers} on {ports}"));
        assert_eq!(rule(&it, Direction::Egress, Dialect::Kubernetes), format!("to {peers} on {ports}"));
        it = Rule::new(Action::Allow);
        it.name = Some("api".into());
        it.http = Some(HttpMatch {
            methods: vec!["GET".into()],
            paths: vec![PathMatch::Exact("/a".into()), PathMatch::Prefix("/b/".into())],
        });
        assert_eq!(rule(&it, Direction::Ingress, Dialect::Kubernetes), "(api) HTTP GET /a, /b/...");
        it = Rule::new(Action::Deny);
        it.peers = vec![EntityMatch::nobody()];
        assert_eq!(rule(&it, Direction::Egress, Dialect::Kubernetes), "to nobody");
    }
}
