//! The model through the feature `serde`: what is written is read back equal, and what is wrong is refused.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper of a test fails by panicking")]

use core::fmt::Debug;

use portcullis_core::backend::{DataplaneError, LowerError, OracleError, OracleErrorKind};
use portcullis_core::label::{Labels, Name, Scope};
use portcullis_core::model::{
    Action, Cluster, DefaultAction, Directions, Endpoint, EndpointId, Enforcement, EntityKinds, EntityMatch,
    EntitySelector, HttpMatch, IcmpMatch, IdentityMatch, L4Match, NamedPort, Namespace, NetworkSet,
    NetworkSetId, Node, Order, PathMatch, Placement, Policy, PolicyId, PortMatch, PortRange, Profile,
    ProfileOrigin, Rule, ServiceAccount, ServiceBackend, ServiceEndpoints, ServiceId, Tier, Update,
};
use portcullis_core::net::{Cidr, IpVersion};
use portcullis_core::packet::{Packet, Protocol};
use portcullis_core::selector::{Expr, LabelRef, Selector};
use portcullis_core::settings::Settings;
use portcullis_core::verdict::{Cause, Decision, Direction, RuleRef, Verdict};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let text = serde_json::to_string(value).unwrap();
    let read: T = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(&read, value, "{text}");
    // Equal values have equal texts.
    assert_eq!(serde_json::to_string(&read).unwrap(), text);
}

fn name() -> impl Strategy<Value = Name> {
    select(vec!["web", "db", "a/b", "", "white \"space\"\n", "ü", "true", "7"]).prop_map(Name::from)
}

fn labels() -> impl Strategy<Value = Labels> {
    vec((name(), name()), 0..4).prop_map(Labels::from_iter)
}

fn expr() -> impl Strategy<Value = Expr> {
    let scopes = vec![Scope::Own, Scope::Own, Scope::Namespace, Scope::ServiceAccount];
    let label = (select(scopes), name()).prop_map(|(scope, key)| LabelRef::new(scope, key)).boxed();
    let test = prop_oneof![
        Just(Expr::All),
        Just(Expr::Global),
        label.clone().prop_map(Expr::has),
        (label.clone(), name()).prop_map(|(label, value)| Expr::equal(label, value)),
        (label.clone(), vec(name(), 0..3)).prop_map(|(label, values)| Expr::one_of(label, values)),
        (label.clone(), vec(name(), 0..3)).prop_map(|(label, values)| Expr::none_of(label, values)),
        (label, name()).prop_map(|(label, value)| Expr::StartsWith(label, value)),
    ];
    test.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|inner| Expr::Not(Box::new(inner))),
            vec(inner.clone(), 0..3).prop_map(Expr::And),
            vec(inner, 0..3).prop_map(Expr::Or),
        ]
    })
}

fn selector() -> impl Strategy<Value = EntitySelector> {
    let kinds = select(vec![
        EntityKinds::NONE,
        EntityKinds::WORKLOAD,
        EntityKinds::CALICO,
        EntityKinds::NODE.union(EntityKinds::HOST),
    ]);
    (kinds, expr()).prop_map(|(kinds, expr)| EntitySelector { kinds, expr })
}

fn net() -> impl Strategy<Value = Cidr> {
    select(vec!["0.0.0.0/0", "10.0.0.0/8", "10.1.2.3/32", "::/0", "fd00::/8", "fd00::1/128"])
        .prop_map(|net| net.parse().unwrap())
}

fn service() -> impl Strategy<Value = ServiceId> {
    (name(), name()).prop_map(|(namespace, name)| ServiceId { namespace, name })
}

fn entity() -> impl Strategy<Value = EntityMatch> {
    let identity = expr().prop_map(|expr| IdentityMatch { expr });
    (of(selector()), of(selector()), vec(net(), 0..3), vec(net(), 0..2), of(service()), of(identity))
        .prop_map(|(selector, not_selector, nets, not_nets, service, identity)| EntityMatch {
            selector,
            not_selector,
            nets,
            not_nets,
            service,
            identity,
        })
}

fn ports() -> impl Strategy<Value = Vec<PortMatch>> {
    let range = (any::<u16>(), any::<u16>()).prop_map(|(a, b)| PortRange::new(a.min(b), a.max(b)).unwrap());
    vec(prop_oneof![range.prop_map(PortMatch::from), name().prop_map(PortMatch::Named)], 0..3)
}

fn l4() -> impl Strategy<Value = L4Match> {
    let protocol = || of(any::<u8>().prop_map(Protocol));
    let icmp = || of((of(any::<u8>()), of(any::<u8>())).prop_map(|(kind, code)| IcmpMatch { kind, code }));
    (protocol(), protocol(), icmp(), icmp(), ports(), ports(), ports(), ports()).prop_map(
        |(protocol, not_protocol, icmp, not_icmp, source_ports, not_source_ports, to, not_to)| L4Match {
            protocol,
            not_protocol,
            icmp,
            not_icmp,
            source_ports,
            not_source_ports,
            destination_ports: to,
            not_destination_ports: not_to,
        },
    )
}

fn rule() -> impl Strategy<Value = Rule> {
    let path = prop_oneof![name().prop_map(PathMatch::Exact), name().prop_map(PathMatch::Prefix)];
    let http = (vec(name(), 0..2), vec(path, 0..2)).prop_map(|(methods, paths)| HttpMatch { methods, paths });
    let action = select(vec![Action::Allow, Action::Deny, Action::Pass, Action::Log]);
    let version = of(select(IpVersion::ALL.to_vec()));
    (action, of(name()), version, vec(entity(), 0..2), entity(), vec(l4(), 0..2), of(http)).prop_map(
        |(action, name, ip_version, peers, local, l4, http)| Rule {
            action,
            name,
            ip_version,
            peers,
            local,
            l4,
            http,
        },
    )
}

fn order() -> impl Strategy<Value = Option<Order>> {
    let number = prop_oneof![any::<f64>(), Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(-0.0)];
    number.prop_map(Order::new)
}

fn policy_id() -> impl Strategy<Value = PolicyId> {
    (name(), of(name()), name()).prop_map(|(kind, namespace, name)| PolicyId::new(kind, namespace, name))
}

fn policy() -> impl Strategy<Value = Policy> {
    let placement =
        select(vec![Placement::Normal, Placement::ApplyOnForward, Placement::PreDnat, Placement::Untracked]);
    let parts = (policy_id(), name(), order(), selector(), any::<[bool; 3]>(), placement);
    (parts, vec(rule(), 0..2), vec(rule(), 0..2)).prop_map(|(parts, ingress, egress)| {
        let (id, tier, order, subject, [to, from, staged], placement) = parts;
        let mut policy = Policy::new(id, tier, subject, Directions { ingress: to, egress: from });
        (policy.order, policy.ingress, policy.egress) = (order, ingress, egress);
        policy.enforcement = if staged { Enforcement::Staged } else { Enforcement::Enforced };
        policy.placement = placement;
        policy
    })
}

fn address() -> impl Strategy<Value = core::net::IpAddr> {
    any::<core::net::IpAddr>().prop_map(|address| address.to_canonical())
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let id = prop_oneof![
        (name(), name()).prop_map(|(namespace, name)| EndpointId::workload(namespace, name)),
        name().prop_map(EndpointId::host),
    ];
    let port = (name(), any::<u8>(), any::<u16>()).prop_map(|(name, protocol, port)| NamedPort {
        name,
        protocol: Protocol(protocol),
        port,
    });
    let names = (of(name()), of(name()), of(name()), vec(name(), 0..3));
    (id, labels(), vec(address(), 0..3), names, vec(port, 0..3)).prop_map(
        |(id, labels, addresses, (service_account, node, interface, profiles), ports)| {
            let mut endpoint = Endpoint::new(id);
            endpoint.labels = labels;
            endpoint.addresses = addresses;
            (endpoint.service_account, endpoint.node) = (service_account, node);
            (endpoint.interface, endpoint.profiles, endpoint.ports) = (interface, profiles, ports);
            endpoint
        },
    )
}

fn update() -> impl Strategy<Value = Update> {
    let backend = (address(), of((any::<u8>().prop_map(Protocol), any::<u16>())))
        .prop_map(|(address, port)| ServiceBackend { address, port });
    prop_oneof![
        4 => policy().prop_map(Update::Policy),
        1 => policy_id().prop_map(Update::RemovePolicy),
        1 => (name(), order(), any::<bool>()).prop_map(|(name, order, pass)| {
            let default_action = if pass { DefaultAction::Pass } else { DefaultAction::Deny };
            Update::Tier(Tier { name, order, default_action })
        }),
        1 => (name(), vec(rule(), 0..2), labels(), any::<bool>()).prop_map(|(name, ingress, labels, implicit)| {
            let origin = if implicit { ProfileOrigin::Implicit } else { ProfileOrigin::Declared };
            Update::Profile(Profile { name, ingress, egress: Vec::new(), labels, origin })
        }),
        2 => endpoint().prop_map(Update::Endpoint),
        1 => (of(name()), name(), labels(), vec(net(), 0..3)).prop_map(|(namespace, name, labels, nets)| {
            Update::NetworkSet(NetworkSet { id: NetworkSetId { namespace, name }, labels, nets })
        }),
        1 => (name(), labels()).prop_map(|(name, labels)| Update::Namespace(Namespace { name, labels })),
        1 => (name(), name(), labels()).prop_map(|(namespace, name, labels)| {
            Update::ServiceAccount(ServiceAccount { namespace, name, labels })
        }),
        1 => (name(), name()).prop_map(|(namespace, name)| Update::RemoveServiceAccount(namespace, name)),
        1 => (name(), labels(), vec(address(), 0..2)).prop_map(|(name, labels, addresses)| {
            Update::Node(Node { name, labels, addresses })
        }),
        1 => (service(), vec(backend, 0..3)).prop_map(|(id, backends)| {
            Update::Service(ServiceEndpoints { id, backends })
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn updates_come_back(update in update()) {
        round_trip(&update);
    }

    #[test]
    fn clusters_come_back(updates in vec(update(), 0..8)) {
        round_trip(&Cluster::from_iter(updates));
    }

    #[test]
    fn expressions_come_back(expr in expr()) {
        round_trip(&expr);
    }

    #[test]
    fn decisions_come_back(policy in policy_id(), tier in name(), index in any::<usize>(), kind in 0..6) {
        let rule = RuleRef { policy: policy.clone(), tier: tier.clone(), direction: Direction::Egress, index };
        let cause = match kind {
            0 => Cause::Rule(rule.clone()),
            1 => Cause::TierDefault { tier, policy },
            2 => Cause::Profile { profile: tier, index: None },
            3 => Cause::NoPolicy,
            4 => Cause::Tunnel,
            _ => Cause::NeighbourDiscovery,
        };
        round_trip(&Decision { verdict: Verdict::Deny, cause, logs: vec![rule] });
    }

    #[test]
    fn packets_come_back(from in any::<[u8; 4]>(), to in any::<[u8; 4]>(), protocol in any::<u8>(), port in any::<u16>()) {
        round_trip(&Packet::new(from.into(), to.into(), Protocol(protocol)).to_port(port));
    }
}

#[test]
fn orders_are_exact() {
    for value in [0.0, 100.0, 10.5, 3.891_828_283_581_539e-187, 1e300, f64::INFINITY, f64::NEG_INFINITY] {
        round_trip(&Order::new(value).unwrap());
    }
    assert_eq!(serde_json::to_value(Order::from(100)).unwrap(), json!(100.0));
    assert_eq!(serde_json::from_value::<Order>(json!(100)).unwrap(), Order::from(100));
}

#[test]
fn settings_come_back() {
    round_trip(&Settings::default());
}

/// A type, a text that it cannot have, and what the error says.
fn refused<T: DeserializeOwned + Debug>(value: Value, says: &str) {
    let error = serde_json::from_value::<T>(value.clone()).unwrap_err().to_string();
    assert!(error.contains(says), "{value}: {error}");
}

#[test]
fn what_is_wrong_is_refused() {
    refused::<Cidr>(json!("10.0.0.0"), "a prefix length is missing");
    refused::<Cidr>(json!("10.0.0.0/33"), "longer than the address");
    refused::<Selector>(json!("app =="), "expected a quoted value");
    for range in ["", ":", "80:", "9:8", "+80", "65536", "1:2:3", " 80", "080000"] {
        refused::<PortRange>(json!(range), "not a port");
    }
    refused::<Order>(json!("nan"), "expected a number");
    refused::<Order>(json!("first"), "the text of a number");
    refused::<Order>(json!(null), "did not match");
    refused::<EntityKinds>(json!(["pod"]), "unknown variant");
    refused::<Expr>(json!({"selector": "app"}), "expected");
    refused::<Expr>(json!({"form": "in own \"a\" [\"c\" \"b\"]"}), "not sorted");
    refused::<Expr>(json!({"form": "all all"}), "the end of the text");
    let deep = "not ".repeat(600) + "all";
    refused::<Expr>(json!({ "form": deep }), "too deep");
    refused::<Verdict>(json!("maybe"), "unknown variant");
    let mixed = Packet::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), Protocol::TCP);
    let mut mixed = serde_json::to_value(mixed).unwrap();
    mixed["source"] = json!("fd00::1");
    refused::<Packet>(mixed, "two families");
    let twice = serde_json::from_str::<Labels>(r#"{"a": "b", "a": "c"}"#).unwrap_err().to_string();
    assert!(twice.contains("`a` stands there twice"), "{twice}");
}

/// A misspelt condition must not become a wider rule, nor a missing list an empty one.
#[test]
fn unknown_and_missing_fields_are_refused() {
    let rule = Rule::allow().from("10.0.0.0/8".parse::<Cidr>().unwrap()).to_port(L4Match::tcp(80));
    let rule = rule.rules(Direction::Ingress).pop().unwrap();
    let whole = serde_json::to_value(&rule).unwrap();
    for list in ["peers", "l4", "local", "action"] {
        let mut value = whole.clone();
        let part = value.as_object_mut().unwrap().remove(list).unwrap();
        refused::<Rule>(value.clone(), &format!("missing field `{list}`"));
        value[format!("{list}s")] = part;
        refused::<Rule>(value, &format!("unknown field `{list}s`"));
    }
    let mut value = whole;
    value["l4"][0]["destination_port"] = json!(["80"]);
    refused::<Rule>(value, "unknown field `destination_port`");
}

#[test]
fn errors_travel_with_their_message_and_their_place() {
    let error = Selector::parse("app ==").unwrap_err();
    let value = serde_json::to_value(&error).unwrap();
    assert_eq!(value, json!({"message": error.to_string(), "start": 6, "end": 6}));
    let error = "10.0.0.0".parse::<Cidr>().unwrap_err();
    let message = error.to_string();
    assert_eq!(serde_json::to_value(error).unwrap(), json!({"message": message}));
}

/// A program tells a limit that is too small from missing rights without reading the message.
#[test]
fn errors_of_backends_travel_with_their_kind() {
    let value = |error: &LowerError| serde_json::to_value(error).unwrap();
    let error = LowerError::generation(3, 4);
    let none = Value::Null;
    let of_no_limit = json!({
        "message": error.to_string(), "kind": "generation", "name": none, "limit": none, "needed": none
    });
    assert_eq!(value(&error), of_no_limit);
    let error = LowerError::limit("chains", 8_192_u32, 9_000_u32);
    let limit = json!({
        "message": error.to_string(), "kind": "limit", "name": "chains", "limit": 8_192, "needed": 9_000
    });
    assert_eq!(value(&error), limit);
    let error = DataplaneError::from(error);
    let expected = json!({"message": error.to_string(), "kind": "does-not-fit"});
    assert_eq!(serde_json::to_value(&error).unwrap(), expected);
    let error = OracleError::new(OracleErrorKind::Unaskable, "no such packet");
    let expected = json!({"message": "no such packet", "kind": "unaskable"});
    assert_eq!(serde_json::to_value(&error).unwrap(), expected);
}

/// Of two objects with one identity, neither is dropped silently, and what removes an object is none.
#[test]
fn a_cluster_is_a_list_of_objects_that_differ_in_identity() {
    let tier = |pass| {
        let default_action = if pass { DefaultAction::Pass } else { DefaultAction::Deny };
        json!({"tier": Tier { name: "t".into(), order: None, default_action }})
    };
    let other = json!({"namespace": Namespace { name: "t".into(), labels: Labels::new() }});
    let cluster: Cluster = serde_json::from_value(json!([tier(true), other])).unwrap();
    assert_eq!((cluster.tiers().len(), cluster.namespaces().len()), (1, 1));
    refused::<Cluster>(json!([tier(true), other, tier(false)]), "entry 2 of the cluster");
    refused::<Cluster>(json!([tier(true), tier(true)]), "has the identity of an entry before it");
    refused::<Cluster>(
        json!([other, {"remove-tier": "t"}]),
        "entry 1 of the cluster, counted from 0, removes",
    );
}
