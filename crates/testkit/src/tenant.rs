//! Objects that one tenant can make as large as an API server lets it: what compiling must not choke on.
//!
//! Each [`Shape`] grows in one size. `portcullis-bench -- tenant` prints what compiling costs at doubled sizes; tests hold the
//! number of classes to what the shape needs.

use core::net::{IpAddr, Ipv4Addr};

use portcullis::label::{Labels, Name, Scope};
use portcullis::model::*;
use portcullis::net::Cidr;
use portcullis::packet::Protocol;
use portcullis::selector::{Expr, LabelRef};

/// A cluster that grows in one size.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// What there is many of.
    pub name: &'static str,
    /// A size that fits into one object of an API server, or that a namespace may hold.
    pub size: u32,
    /// The objects at a size.
    pub objects: fn(u32) -> Vec<Update>,
    /// What happens to it afterwards: one object more, or one that changed a little.
    pub change: fn(u32) -> Update,
    /// The most classes that it needs at a size, the one of unknown addresses included.
    pub classes: fn(u32) -> u32,
}

/// All shapes whose tables need no more than a few entries for each part of the objects.
pub const SHAPES: &[Shape] = &[
    Shape {
        name: "networks of one rule",
        size: 32_000,
        objects: |n| with_pod(policy("p", [networks(n, 0, 443)])),
        change: |n| Update::Policy(policy("p", [networks(n + 1, 0, 443)])),
        classes: |_| 4,
    },
    Shape {
        name: "networks of one rule with four exceptions each",
        size: 6_000,
        objects: |n| with_pod(policy("p", [networks(n, 4, 443)])),
        change: |n| Update::Policy(policy("p", [networks(n + 1, 4, 443)])),
        classes: |_| 4,
    },
    Shape {
        name: "exceptions of one network",
        size: 32_000,
        objects: |n| with_pod(policy("p", [excepting(n, 443)])),
        change: |n| Update::Policy(policy("p", [excepting(n + 1, 443)])),
        classes: |_| 4,
    },
    Shape {
        name: "networks inside each other, by rule and port",
        size: 4_000,
        objects: |n| with_pod(policy("p", (0..n).map(nested))),
        change: |n| Update::Policy(policy("p", (1..=n).map(nested))),
        classes: |n| n + 4,
    },
    Shape {
        name: "networks with exceptions of each other, of one rule",
        size: 16_000,
        objects: |n| with_pod(policy("p", [overlapping(n)])),
        change: |n| Update::Policy(policy("p", [overlapping(n + 1)])),
        classes: |_| 4,
    },
    Shape {
        name: "networks of both ends of one rule",
        size: 16_000,
        objects: |n| with_pod(policy("p", [of_both_ends(0..n)])),
        change: |n| Update::Policy(policy("p", [of_both_ends(0..n + 1)])),
        classes: |_| 6,
    },
    Shape {
        name: "networks sixteen deep, by rule and port",
        size: 9_000,
        objects: |n| with_pod(policy("p", (0..n).map(deep))),
        change: |n| Update::Policy(policy("p", (0..=n).map(deep))),
        classes: |n| n + 4,
    },
    Shape {
        name: "selectors of one rule, and a pod for each",
        size: 4_000,
        objects: |n| pods(n, policy("p", [selecting(n, L4Match::tcp(443))])),
        change: |n| Update::Policy(policy("p", [selecting(n + 1, L4Match::tcp(443))])),
        classes: |_| 4,
    },
    Shape {
        name: "selectors of one rule with a named port",
        size: 4_000,
        objects: |n| pods(n, egress("p", [selecting_to(n)])),
        change: |n| Update::Policy(egress("p", [selecting_to(n + 1)])),
        classes: |_| 16,
    },
    Shape {
        name: "selectors and ports of one rule",
        size: 2_000,
        objects: |n| with_pod(policy("p", [with_ports(selecting(n, L4Match::default()), n)])),
        change: |n| Update::Policy(policy("p", [with_ports(selecting(n + 1, L4Match::default()), n)])),
        classes: |_| 4,
    },
    Shape {
        name: "rules with a network and a port each",
        size: 9_000,
        objects: |n| with_pod(policy("p", (0..n).map(network_and_port))),
        change: |n| Update::Policy(policy("p", (0..=n).map(network_and_port))),
        classes: |n| n + 4,
    },
    Shape {
        name: "rules with one selector and a network each",
        size: 9_000,
        objects: |n| with_pod(policy("p", (0..n).map(selected_network))),
        change: |n| Update::Policy(policy("p", (0..=n).map(selected_network))),
        classes: |n| n + 4,
    },
    Shape {
        name: "rules with a network of the subject each",
        size: 9_000,
        objects: |n| with_pod(policy("p", (0..n).map(local_network))),
        change: |n| Update::Policy(policy("p", (0..=n).map(local_network))),
        classes: |n| n + 4,
    },
    Shape {
        name: "peers of one rule, each a selector and a network",
        size: 9_000,
        objects: |n| with_pod(policy("p", [selected_networks(n)])),
        change: |n| Update::Policy(policy("p", [selected_networks(n + 1)])),
        classes: |n| n + 4,
    },
    Shape {
        name: "ports of one rule",
        size: 16_000,
        objects: |n| with_pod(policy("p", [with_ports(Rule::allow(), n)])),
        change: |n| Update::Policy(policy("p", [with_ports(Rule::allow(), n + 1)])),
        classes: |_| 4,
    },
    Shape {
        name: "source ports and ports of one rule",
        size: 8_000,
        objects: |n| with_pod(policy("p", [Rule::allow().to_port(both_ports(n))])),
        change: |n| Update::Policy(policy("p", [Rule::allow().to_port(both_ports(n + 1))])),
        classes: |_| 4,
    },
    Shape {
        name: "rules with a source port and a port each",
        size: 8_000,
        objects: |n| with_pod(policy("p", (0..n).map(source_and_port))),
        change: |n| Update::Policy(policy("p", (0..=n).map(source_and_port))),
        classes: |_| 4,
    },
    Shape {
        name: "ports that one rule leaves out",
        size: 16_000,
        objects: |n| with_pod(policy("p", [leaving_out(n)])),
        change: |n| Update::Policy(policy("p", [leaving_out(n + 1)])),
        classes: |_| 4,
    },
    Shape {
        name: "rules with ports inside each other",
        size: 16_000,
        objects: |n| with_pod(policy("p", (0..n).map(range_from_the_end))),
        change: |n| Update::Policy(policy("p", (0..=n).map(range_from_the_end))),
        classes: |_| 4,
    },
    Shape {
        name: "rules with an ICMP message each",
        size: 8_000,
        objects: |n| with_pod(policy("p", (0..n).map(message))),
        change: |n| Update::Policy(policy("p", (0..=n).map(message))),
        classes: |_| 4,
    },
    Shape {
        name: "Log rules with a port each",
        size: 8_000,
        objects: |n| with_pod(policy("p", (0..n).map(log_of_port))),
        change: |n| Update::Policy(policy("p", (0..=n).map(log_of_port))),
        classes: |_| 4,
    },
    Shape {
        name: "ports that pass through tiers",
        size: 4_000,
        objects: |n| {
            let pods = core::iter::once(Update::Endpoint(pod(0, &[])));
            let passing = Update::Policy(policy("first", [with_ports(Rule::pass(), n)]));
            pods.chain([passing]).chain((0..n).flat_map(port_in_own_tier)).collect()
        },
        change: |n| port_in_own_tier(n).swap_remove(1),
        classes: |_| 4,
    },
    Shape {
        name: "rules with a request and a port each",
        size: 8_000,
        objects: |n| with_pod(policy("p", (0..n).map(request))),
        change: |n| Update::Policy(policy("p", (0..=n).map(request))),
        classes: |_| 4,
    },
    Shape {
        name: "named ports of one rule, all of them a pod's",
        size: 4_000,
        objects: |n| {
            vec![Update::Endpoint(with_named_ports(n)), Update::Policy(policy("p", [named_ports(n)]))]
        },
        change: |n| Update::Policy(policy("p", [named_ports(n + 1)])),
        classes: |_| 4,
    },
    Shape {
        name: "rules with a selector and a named port each",
        size: 4_000,
        objects: |n| pods(n, egress("p", (0..n).map(selected_named_port))),
        change: |n| Update::Policy(egress("p", (0..=n).map(selected_named_port))),
        classes: |n| n + 16,
    },
    Shape {
        name: "policies on one pod",
        size: 10_000,
        objects: |n| {
            let policies = (0..n).map(|at| Update::Policy(numbered_policy(at)));
            core::iter::once(Update::Endpoint(pod(0, &[]))).chain(policies).collect()
        },
        change: |n| Update::Policy(numbered_policy(n)),
        classes: |n| n + 4,
    },
    Shape {
        name: "policies that select one pod as a peer, each on a pod of its own",
        size: 4_000,
        objects: |n| {
            let policies = (0..n).map(|at| Update::Policy(of_own_pod(at)));
            let pods = (0..n).map(|at| Update::Endpoint(pod(at, &[("number", &at.to_string())])));
            pods.chain(policies).collect()
        },
        change: |n| Update::Policy(of_own_pod(n)),
        classes: |n| n + 4,
    },
    Shape {
        name: "tiers, with a policy each on one pod",
        size: 10_000,
        objects: |n| {
            core::iter::once(Update::Endpoint(pod(0, &[]))).chain((0..n).flat_map(in_own_tier)).collect()
        },
        change: |n| in_own_tier(n).swap_remove(1),
        classes: |n| n + 4,
    },
    Shape {
        name: "pods with a label of their own",
        size: 16_000,
        objects: |n| pods(n, policy("p", [Rule::allow()])),
        change: |n| Update::Endpoint(pod(n, &[("number", &n.to_string())])),
        classes: |_| 4,
    },
    Shape {
        name: "labels of one pod",
        size: 16_000,
        objects: |n| {
            vec![Update::Endpoint(labelled(n)), Update::Policy(policy("p", [selecting(8, L4Match::tcp(1))]))]
        },
        change: |n| Update::Endpoint(labelled(n + 1)),
        classes: |_| 4,
    },
    Shape {
        name: "values of one selector",
        size: 16_000,
        objects: |n| pods(16, policy("p", [Rule::allow().from(one_of(n))])),
        change: |n| Update::Policy(policy("p", [Rule::allow().from(one_of(n + 1))])),
        classes: |_| 4,
    },
    Shape {
        name: "networks of one network set",
        size: 32_000,
        objects: |n| {
            let from = EntitySelector { kinds: EntityKinds::NETWORK_SET, expr: Expr::All };
            let mut objects = with_pod(policy("p", [Rule::allow().from(from)]));
            objects.push(Update::NetworkSet(network_set(0, 0..n)));
            objects
        },
        change: |n| Update::NetworkSet(network_set(0, 0..n + 1)),
        classes: |_| 4,
    },
    Shape {
        name: "network sets of one selector",
        size: 16_000,
        objects: |n| {
            let from = EntitySelector { kinds: EntityKinds::NETWORK_SET, expr: Expr::All };
            let mut objects = with_pod(policy("p", [Rule::allow().from(from)]));
            objects.extend((0..n).map(|at| Update::NetworkSet(network_set(at, at..at + 1))));
            objects
        },
        change: |n| Update::NetworkSet(network_set(n, n..n + 1)),
        classes: |_| 4,
    },
    Shape {
        name: "services, each named by a rule, with one backend",
        size: 8_000,
        objects: |n| {
            let rules = (0..n).map(|at| Rule::allow().to(service_id(at)));
            let mut objects = with_pod(egress("p", rules));
            objects.extend((0..n).map(|at| Update::Service(service(at, 5_000, 1))));
            objects
        },
        change: |n| Update::Service(service(n / 2, 5_001, 1)),
        classes: |_| 4,
    },
    Shape {
        name: "backends of one service",
        size: 16_000,
        objects: |n| {
            let mut objects = with_pod(egress("p", [Rule::allow().to(service_id(0))]));
            objects.push(Update::Service(service(0, 5_000, n)));
            objects
        },
        change: |n| Update::Service(service(0, 5_000, n + 1)),
        classes: |_| 4,
    },
];

/// Shapes whose tables are as large as the product of two of their sizes, because what they say is: a compiler refuses them
/// from some size on, see [`CompileLimits`](portcullis::compile::CompileLimits). All of it is in policy `p`.
pub const PRODUCTS: &[Shape] = &[
    Shape {
        name: "rules with source ports inside each other, and a port each",
        size: 8_000,
        objects: |n| with_pod(policy("p", (0..n).map(source_range_and_port))),
        change: |n| Update::Policy(policy("p", (0..=n).map(source_range_and_port))),
        classes: |_| 4,
    },
    Shape {
        name: "rules with a source port and a port each, before ports for all",
        size: 8_000,
        objects: |n| with_pod(policy("p", before_ports((0..n).map(denied_source_and_port), n))),
        change: |n| Update::Policy(policy("p", before_ports((0..=n).map(denied_source_and_port), n))),
        classes: |_| 4,
    },
    Shape {
        name: "rules with a network of both ends each",
        size: 8_000,
        objects: |n| with_pod(policy("p", (0..n).map(|at| of_both_ends(at..at + 1)))),
        change: |n| Update::Policy(policy("p", (0..=n).map(|at| of_both_ends(at..at + 1)))),
        classes: |n| 2 * n + 4,
    },
    Shape {
        name: "rules with an exception of one network each",
        size: 8_000,
        objects: |n| with_pod(policy("p", (0..n).map(all_but_one))),
        change: |n| Update::Policy(policy("p", (0..=n).map(all_but_one))),
        classes: |n| n + 4,
    },
    Shape {
        name: "Log rules before ports",
        size: 8_000,
        objects: |n| with_pod(policy("p", before_ports((0..n).map(|_| Rule::log()), n))),
        change: |n| Update::Policy(policy("p", before_ports((0..=n).map(|_| Rule::log()), n))),
        classes: |_| 4,
    },
    Shape {
        name: "requests on all ports before ports",
        size: 8_000,
        objects: |n| with_pod(policy("p", before_ports((0..n).map(request_on_all), n))),
        change: |n| Update::Policy(policy("p", before_ports((0..=n).map(request_on_all), n))),
        classes: |_| 4,
    },
    Shape {
        name: "peers of one rule that cannot be put together, and named ports",
        size: 8_000,
        objects: |n| with_pod(policy("p", [to_named_ports(selected_networks(n), n)])),
        change: |n| Update::Policy(policy("p", [to_named_ports(selected_networks(n + 1), n)])),
        classes: |n| n + 4,
    },
];

fn with_pod(policy: Policy) -> Vec<Update> {
    vec![Update::Endpoint(pod(0, &[])), Update::Policy(policy)]
}

fn pods(n: u32, policy: Policy) -> Vec<Update> {
    let pods = (0..n).map(|at| Update::Endpoint(pod(at, &[("number", &at.to_string())])));
    pods.chain([Update::Policy(policy)]).collect()
}

/// A pod of the tenant, with the named port `http`.
fn pod(number: u32, labels: &[(&str, &str)]) -> Endpoint {
    let mut pod = Endpoint::new(EndpointId::workload("tenant", format!("pod-{number}")));
    pod.labels = labels.iter().map(|(key, value)| (Name::new(key), Name::new(value))).collect();
    pod.addresses = vec![address(0x0A00_0000, number)];
    pod.ports = vec![NamedPort { name: "http".into(), protocol: Protocol::TCP, port: 8080 }];
    pod
}

fn labelled(n: u32) -> Endpoint {
    let labels: Labels = (0..n).map(|at| (Name::from(format!("label-{at}")), Name::new("x"))).collect();
    Endpoint { labels, ..pod(0, &[]) }
}

fn with_named_ports(n: u32) -> Endpoint {
    let port =
        |at: u32| NamedPort { name: format!("port-{at}").into(), protocol: Protocol::TCP, port: port(at) };
    Endpoint { ports: (0..n).map(port).collect(), ..pod(0, &[]) }
}

fn policy(name: &str, rules: impl IntoIterator<Item = RuleBuilder>) -> Policy {
    Policy::ingress(policy_id(name), everyone(), rules)
}

fn egress(name: &str, rules: impl IntoIterator<Item = RuleBuilder>) -> Policy {
    Policy::egress(policy_id(name), everyone(), rules)
}

fn policy_id(name: &str) -> PolicyId {
    PolicyId::new("NetworkPolicy", Some("tenant".into()), name)
}

fn everyone() -> EntitySelector {
    EntitySelector { kinds: EntityKinds::WORKLOAD, expr: Expr::All }.in_namespace("tenant")
}

fn numbered(label: &str, number: u32) -> EntitySelector {
    let label = LabelRef::new(Scope::Own, label);
    let expr = Expr::equal(label, number.to_string());
    EntitySelector { kinds: EntityKinds::WORKLOAD, expr }.in_namespace("tenant")
}

fn one_of(n: u32) -> EntitySelector {
    let label = LabelRef::new(Scope::Own, "number");
    let mut values: Vec<Name> = (0..n).map(|at| at.to_string().into()).collect();
    values.sort_unstable();
    EntitySelector { kinds: EntityKinds::WORKLOAD, expr: Expr::In(label, values) }.in_namespace("tenant")
}

fn address(base: u32, number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(base.wrapping_add(number)))
}

/// The networks of documentation, as it were: every second /28 from 64.0.0.0 on.
fn network(number: u32) -> Cidr {
    cidr(0x4000_0000_u32.wrapping_add(number.wrapping_mul(32)), 28)
}

fn cidr(base: u32, prefix: u8) -> Cidr {
    let address = IpAddr::V4(Ipv4Addr::from_bits(base));
    Cidr::new(address, prefix).unwrap_or_else(|_| Cidr::host(address))
}

fn networks(n: u32, exceptions: u32, port: u16) -> RuleBuilder {
    let peer = |at: u32| EntityMatch {
        not_nets: (0..exceptions)
            .map(|exception| Cidr::host(address(0x4000_0000 + at.wrapping_mul(32), exception * 3)))
            .collect(),
        ..EntityMatch::nets(vec![network(at)])
    };
    Rule::allow().from_any_of((0..n).map(peer)).to_port(L4Match::tcp(port))
}

fn excepting(n: u32, port: u16) -> RuleBuilder {
    let peer = EntityMatch {
        not_nets: (0..n).map(network).collect(),
        ..EntityMatch::nets(vec![cidr(0x4000_0000, 3)])
    };
    Rule::allow().from(peer).to_port(L4Match::tcp(port))
}

fn nested(at: u32) -> RuleBuilder {
    let nets = [8, 16, 24].map(|prefix| cidr(0x4000_0000 + at.wrapping_mul(256), prefix)).to_vec();
    Rule::allow().from(EntityMatch::nets(nets)).to_port(L4Match::tcp(443))
}

/// Each overlaps the next ones, and leaves out the first of these.
fn overlapping(n: u32) -> RuleBuilder {
    let peer = |at: u32| EntityMatch {
        not_nets: vec![network(at + 1)],
        ..EntityMatch::nets(vec![cidr(0x4000_0000 + at * 32, 26)])
    };
    Rule::allow().from_any_of((0..n).map(peer)).to_port(L4Match::tcp(443))
}

/// From networks of others to networks in which pods are.
fn of_both_ends(numbers: core::ops::Range<u32>) -> RuleBuilder {
    let own = numbers.clone().map(|at| cidr(0x0A00_0000 + at * 2, 31)).collect();
    let port = port(numbers.start);
    Rule::allow()
        .from(EntityMatch::nets(numbers.map(network).collect()))
        .to(EntityMatch::nets(own))
        .to_port(L4Match::tcp(port))
}

fn deep(at: u32) -> RuleBuilder {
    let (chain, depth) = (at / 16, u8::try_from(at % 16).unwrap_or_default());
    Rule::allow().from(cidr(0x4000_0000 + chain * 0x1_0000, 16 + depth)).to_port(L4Match::tcp(port(at)))
}

fn all_but_one(at: u32) -> RuleBuilder {
    let peer = EntityMatch { not_nets: vec![network(at)], ..EntityMatch::nets(vec![cidr(0x4000_0000, 3)]) };
    Rule::allow().from(peer).to_port(L4Match::tcp(port(at)))
}

fn selected_networks(n: u32) -> RuleBuilder {
    let peer = |at| EntityMatch { nets: vec![network(at)], ..EntityMatch::select(everyone()) };
    Rule::allow().from_any_of((0..n).map(peer))
}

fn leaving_out(n: u32) -> RuleBuilder {
    let ports = (0..n).map(|at| PortMatch::Range(PortRange::single(port(at)))).collect();
    Rule::allow().to_port(L4Match { not_destination_ports: ports, ..L4Match::protocol(Protocol::TCP) })
}

fn range_from_the_end(at: u32) -> RuleBuilder {
    Rule::allow().from(everyone()).to_port(L4Match::tcp(range(u16::MAX - port(at))))
}

fn source_range_and_port(at: u32) -> RuleBuilder {
    let source_ports = vec![range(port(at))];
    Rule::allow().to_port(L4Match { source_ports, ..L4Match::tcp(port(at)) })
}

/// All ports from one on.
fn range(first: u16) -> PortMatch {
    PortRange::new(first, u16::MAX).map_or(PortMatch::Range(PortRange::single(first)), PortMatch::Range)
}

fn denied_source_and_port(at: u32) -> RuleBuilder {
    let source_ports = vec![PortMatch::Range(PortRange::single(port(at)))];
    Rule::deny().to_port(L4Match { source_ports, ..L4Match::tcp(port(at)) })
}

fn before_ports(first: impl Iterator<Item = RuleBuilder>, n: u32) -> impl Iterator<Item = RuleBuilder> {
    first.chain((0..n).map(|at| Rule::allow().to_port(L4Match::tcp(port(at)))))
}

fn message(at: u32) -> RuleBuilder {
    let [kind, code] = u16::try_from(at % 0x1_0000).unwrap_or_default().to_be_bytes();
    let icmp = Some(IcmpMatch { kind: Some(kind), code: Some(code) });
    Rule::allow().to_port(L4Match { icmp, ..L4Match::protocol(Protocol::ICMP) })
}

fn log_of_port(at: u32) -> RuleBuilder {
    Rule::log().to_port(L4Match::tcp(port(at)))
}

fn request_on_all(at: u32) -> RuleBuilder {
    let paths = vec![PathMatch::Exact(format!("/{at}").into())];
    Rule::allow().http(HttpMatch { methods: Vec::new(), paths })
}

fn network_and_port(at: u32) -> RuleBuilder {
    Rule::allow().from(network(at)).to_port(L4Match::tcp(port(at)))
}

fn selected_network(at: u32) -> RuleBuilder {
    let peer = EntityMatch { nets: vec![network(at)], ..EntityMatch::select(everyone()) };
    Rule::allow().from(peer).to_port(L4Match::tcp(port(at)))
}

fn local_network(at: u32) -> RuleBuilder {
    Rule::allow().to(network(at)).to_port(L4Match::tcp(port(at)))
}

fn selecting(n: u32, l4: L4Match) -> RuleBuilder {
    Rule::allow().from_any_of((0..n).map(|at| numbered("number", at))).to_port(l4)
}

fn selecting_to(n: u32) -> RuleBuilder {
    let named = L4Match::tcp(PortMatch::Named("http".into()));
    Rule::allow().to_any_of((0..n).map(|at| numbered("number", at))).to_port(named)
}

fn selected_named_port(at: u32) -> RuleBuilder {
    Rule::allow().to(numbered("number", at)).to_port(L4Match::tcp(PortMatch::Named("http".into())))
}

fn with_ports(rule: RuleBuilder, n: u32) -> RuleBuilder {
    (0..n).fold(rule, |rule, at| rule.to_port(L4Match::tcp(port(at))))
}

fn named_ports(n: u32) -> RuleBuilder {
    to_named_ports(Rule::allow(), n)
}

fn to_named_ports(rule: RuleBuilder, n: u32) -> RuleBuilder {
    let named = |at: u32| L4Match::tcp(PortMatch::Named(format!("port-{at}").into()));
    (0..n).fold(rule, |rule, at| rule.to_port(named(at)))
}

fn both_ports(n: u32) -> L4Match {
    let ports: Vec<PortMatch> = (0..n).map(|at| PortMatch::Range(PortRange::single(port(at)))).collect();
    L4Match { source_ports: ports.clone(), destination_ports: ports, ..L4Match::protocol(Protocol::TCP) }
}

fn source_and_port(at: u32) -> RuleBuilder {
    let source_ports = vec![PortMatch::Range(PortRange::single(port(at)))];
    Rule::allow().to_port(L4Match { source_ports, ..L4Match::tcp(port(at)) })
}

fn request(at: u32) -> RuleBuilder {
    let paths = vec![PathMatch::Exact(format!("/{at}").into())];
    Rule::allow().http(HttpMatch { methods: Vec::new(), paths }).to_port(L4Match::tcp(port(at)))
}

fn numbered_policy(at: u32) -> Policy {
    policy(&format!("p-{at}"), [network_and_port(at)])
}

/// A policy of which all selectors select pod 0.
fn of_own_pod(at: u32) -> Policy {
    let label = LabelRef::new(Scope::Own, "number");
    let mut values: Vec<Name> = vec!["0".into(), format!("none-{at}").into()];
    values.sort_unstable();
    let peer = EntitySelector { kinds: EntityKinds::WORKLOAD, expr: Expr::In(label, values) };
    let rule = Rule::allow().from(peer.in_namespace("tenant"));
    Policy::ingress(policy_id(&format!("p-{at}")), numbered("number", at), [rule])
}

fn port_in_own_tier(at: u32) -> Vec<Update> {
    let rule = Rule::allow().to_port(L4Match::udp(port(at)));
    in_tier_of_its_own(at, policy(&format!("p-{at}"), [rule]))
}

fn in_own_tier(at: u32) -> Vec<Update> {
    in_tier_of_its_own(at, numbered_policy(at))
}

fn in_tier_of_its_own(at: u32, mut policy: Policy) -> Vec<Update> {
    let name = format!("tier-{at}");
    let tier = Tier {
        name: name.as_str().into(),
        order: Some(Order::from(at)),
        default_action: DefaultAction::Pass,
    };
    policy.tier = name.into();
    vec![Update::Tier(tier), Update::Policy(policy)]
}

fn network_set(number: u32, networks: core::ops::Range<u32>) -> NetworkSet {
    NetworkSet {
        id: NetworkSetId { namespace: Some("tenant".into()), name: format!("set-{number}").into() },
        labels: core::iter::once((Name::new("set"), Name::from(number.to_string()))).collect(),
        nets: networks.map(network).collect(),
    }
}

fn service_id(number: u32) -> ServiceId {
    ServiceId { namespace: "tenant".into(), name: format!("service-{number}").into() }
}

fn service(number: u32, port: u16, backends: u32) -> ServiceEndpoints {
    let backend =
        |at| ServiceBackend { address: address(0x0B00_0000, at), port: Some((Protocol::TCP, port)) };
    ServiceEndpoints { id: service_id(number), backends: (0..backends).map(backend).collect() }
}

/// Ports that are not neighbours, as long as there are any.
fn port(at: u32) -> u16 {
    u16::try_from(at.wrapping_mul(2) % 65_521).unwrap_or_default()
}
