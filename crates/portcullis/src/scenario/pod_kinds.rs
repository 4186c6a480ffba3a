//! Pods that policy can tell apart.

use alloc::collections::{BTreeMap, BTreeSet};
use core::net::IpAddr;

use portcullis_core::label::{Name, Scope};
use portcullis_core::model::{Cluster, Endpoint, NamedPort, ServiceId};
use portcullis_core::net::{Cidr, canonical};
use portcullis_core::packet::Protocol;
use portcullis_core::path::End;
use portcullis_core::selector::Expr;

/// By which policies can tell pods apart: the labels and the networks that they name, and the services, by the addresses of
/// their backends.
#[derive(Debug, Default)]
pub(super) struct Distinctions {
    labels: BTreeSet<Name>,
    nets: BTreeSet<Cidr>,
    services: BTreeMap<IpAddr, BTreeSet<Membership>>,
}

/// A service that an address is a backend of, and where it listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Membership {
    service: ServiceId,
    port: Option<(Protocol, u16)>,
}

/// Everything that policy can tell two pods of one namespace by.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PodKind {
    labels: Vec<(Name, Name)>,
    nets: Vec<Cidr>,
    account: Option<Name>,
    profiles: Vec<Name>,
    ports: Vec<NamedPort>,
    services: BTreeSet<Membership>,
    node: Option<End>,
}

impl PodKind {
    /// A pod of which only the end is known.
    pub(super) fn at(end: Option<End>) -> Self {
        Self { node: end, ..Self::default() }
    }
}

impl Distinctions {
    pub(super) fn new(cluster: &Cluster) -> Self {
        let mut all = Self::default();
        let policies = cluster.policies().values();
        policies.clone().for_each(|policy| all.look(&policy.subject.expr));
        let rules = policies.flat_map(|policy| policy.ingress.iter().chain(&policy.egress));
        let profiles = cluster.profiles().values();
        let rules = rules.chain(profiles.flat_map(|profile| profile.ingress.iter().chain(&profile.egress)));
        let mut services = BTreeSet::new();
        for side in rules.flat_map(|rule| rule.peers.iter().chain(core::iter::once(&rule.local))) {
            services.extend(&side.service);
            side.selector.iter().chain(&side.not_selector).for_each(|selector| all.look(&selector.expr));
            all.nets.extend(side.nets.iter().chain(&side.not_nets));
        }
        all.nets.extend(cluster.network_sets().values().flat_map(|set| &set.nets));
        for service in services.into_iter().filter_map(|id| cluster.services().get(id)) {
            for backend in &service.backends {
                let known = all.services.entry(canonical(backend.address)).or_default();
                known.insert(Membership { service: service.id.clone(), port: backend.port });
            }
        }
        all
    }

    fn look(&mut self, expr: &Expr) {
        expr.for_each_label(|label| {
            if label.scope == Scope::Own && !self.labels.contains(&label.key) {
                self.labels.insert(label.key.clone());
            }
        });
    }

    pub(super) fn kind(&self, endpoint: &Endpoint) -> PodKind {
        let labels = endpoint.labels.iter().filter(|(key, _)| self.labels.contains(*key));
        let addresses = endpoint.addresses.iter();
        let services = addresses.filter_map(|address| self.services.get(&canonical(*address)));
        let holds = |net: &&Cidr| endpoint.addresses.iter().any(|address| net.contains(address));
        PodKind {
            labels: labels.map(|(key, value)| (key.clone(), value.clone())).collect(),
            nets: self.nets.iter().filter(holds).copied().collect(),
            account: endpoint.service_account.clone(),
            profiles: endpoint.profiles.clone(),
            ports: endpoint.ports.clone(),
            services: services.flatten().cloned().collect(),
            node: endpoint.node.clone().map(End::Node),
        }
    }
}
