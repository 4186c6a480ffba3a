//! Small builders that the workloads share. What they make has the form that the Kubernetes importer gives it.

use core::net::{IpAddr, Ipv4Addr};
use std::collections::HashMap;

use portcullis::label::{Labels, NAME_KEY, Name, Scope};
use portcullis::model::{
    Action, DefaultAction, Directions, Endpoint, EndpointId, EntityKinds, EntityMatch, EntitySelector,
    L4Match, Namespace, Order, Policy, PolicyId, PortMatch, PortRange, Profile, ProfileOrigin, Rule, Tier,
    Update,
};
use portcullis::packet::Protocol;
use portcullis::selector::{Expr, LabelRef};

/// A generator of numbers that is the same everywhere (SplitMix64).
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`; 0 when that is 0.
    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        let high = self.next() >> 32;
        u32::try_from((high * u64::from(limit)) >> 32).unwrap_or(0)
    }
}

/// One copy of every text, as an importer keeps it.
#[derive(Debug, Default)]
pub(crate) struct Names(HashMap<String, Name>);

impl Names {
    pub(crate) fn name(&mut self, text: &str) -> Name {
        if let Some(name) = self.0.get(text) {
            return name.clone();
        }
        let name = Name::from(text);
        self.0.insert(text.to_owned(), name.clone());
        name
    }
}

/// The tiers that always exist.
pub(super) fn tiers(sink: &mut dyn FnMut(Update)) {
    for (name, order, default_action) in [
        ("kube-admin", 1_000, DefaultAction::Pass),
        ("default", 1_000_000, DefaultAction::Deny),
        ("kube-baseline", 10_000_000, DefaultAction::Pass),
    ] {
        sink(Update::Tier(Tier { name: name.into(), order: Some(Order::from(order)), default_action }));
    }
}

/// A namespace with these labels, and the profiles that its pods refer to.
pub(super) fn namespace(
    names: &mut Names,
    name: &str,
    labels: &[(&str, &str)],
    sink: &mut dyn FnMut(Update),
) {
    let labels: Labels = labels.iter().map(|(key, value)| (names.name(key), names.name(value))).collect();
    sink(Update::Namespace(Namespace { name: names.name(name), labels }));
    for (profile, rules) in
        [(format!("kns.{name}"), vec![Rule::new(Action::Allow)]), (format!("ksa.{name}.default"), vec![])]
    {
        sink(Update::Profile(Profile {
            name: names.name(&profile),
            ingress: rules.clone(),
            egress: rules,
            labels: Labels::new(),
            origin: ProfileOrigin::Implicit,
        }));
    }
}

/// The address of pod `number`: pods count up from 10.0.0.0.
fn pod_address(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0a00_0000 | number))
}

/// Pod `number` of a cluster, on one of 1,000 nodes.
pub(crate) fn pod(names: &mut Names, namespace: &str, number: u32, labels: &[(&str, &str)]) -> Endpoint {
    let id = EndpointId::workload(names.name(namespace), format!("pod-{number}"));
    let mut pod = Endpoint::new(id);
    pod.labels = labels.iter().map(|(key, value)| (names.name(key), names.name(value))).collect();
    pod.addresses = vec![pod_address(number)];
    pod.service_account = Some(names.name("default"));
    pod.node = Some(names.name(&format!("node-{}", number % 1_000)));
    pod.profiles =
        vec![names.name(&format!("kns.{namespace}")), names.name(&format!("ksa.{namespace}.default"))];
    pod
}

/// A NetworkPolicy without rules.
pub(super) fn policy(
    names: &mut Names,
    namespace: &str,
    name: &str,
    subject: Expr,
    directions: Directions,
) -> Policy {
    let id = PolicyId::new(names.name("NetworkPolicy"), Some(names.name(namespace)), name);
    let expr = in_namespace(names, namespace).and(subject);
    let mut policy = Policy::new(
        id,
        names.name("default"),
        EntitySelector { kinds: EntityKinds::WORKLOAD, expr },
        directions,
    );
    policy.order = Some(Order::from(1_000));
    policy
}

/// The namespace of this name.
pub(super) fn in_namespace(names: &mut Names, namespace: &str) -> Expr {
    Expr::equal(LabelRef::new(Scope::Namespace, names.name(NAME_KEY)), names.name(namespace))
}

/// A label of the pod itself.
pub(super) fn own(names: &mut Names, key: &str, value: &str) -> Expr {
    Expr::equal(LabelRef::new(Scope::Own, names.name(key)), names.name(value))
}

/// Pods that the expression selects.
pub(super) fn pods(expr: Expr) -> EntityMatch {
    EntityMatch::select(EntitySelector { kinds: EntityKinds::WORKLOAD, expr })
}

/// A rule with these peers and TCP destination ports; without ports, for every protocol.
pub(super) fn rule(action: Action, peers: Vec<EntityMatch>, ports: &[(u16, u16)]) -> Rule {
    let ports: Vec<PortMatch> = ports
        .iter()
        .filter_map(|(first, last)| PortRange::new(*first, *last))
        .map(PortMatch::Range)
        .collect();
    let l4 = L4Match { protocol: Some(Protocol::TCP), destination_ports: ports, ..L4Match::default() };
    let l4 = if l4.destination_ports.is_empty() { Vec::new() } else { vec![l4] };
    Rule { peers, l4, ..Rule::new(action) }
}
