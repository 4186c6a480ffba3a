//! Which addresses and ports are those of services.

use alloc::collections::BTreeMap;
use core::fmt;
use core::net::IpAddr;

use portcullis_core::label::Name;
use portcullis_core::model::ServiceId;
use portcullis_core::net::IpVersion;
use portcullis_core::packet::Protocol;
use portcullis_k8s::{BackendState, Frontend, FrontendBackend, FrontendKind, TrafficPolicy};

use super::flow::Port;

/// Services by the addresses and ports that lead to them.
#[derive(Debug, Default)]
pub(super) struct Reach<'a> {
    by_id: BTreeMap<&'a ServiceId, &'a Frontend>,
    by_address: BTreeMap<IpAddr, Vec<(&'a Frontend, Front)>>,
    node_ports: BTreeMap<(Protocol, u16), &'a Frontend>,
    proxied: BTreeMap<IpAddr, &'a Frontend>,
}

/// The services that a port leads to, with the way in.
pub(super) type Behind<'a, 'e> = Vec<(&'a Frontend, Entry<'e>)>;

/// Which kind of address leads to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Front {
    /// One inside the cluster.
    Cluster,
    /// An external one.
    External,
    /// That of a load balancer.
    Balancer,
}

/// How a flow comes to a service.
#[derive(Clone, Copy, Debug)]
pub(super) enum Entry<'e> {
    /// By the service's name.
    Name,
    /// By an address of the service.
    Address(IpAddr, Front),
    /// By a port on an address of this node.
    NodePort(IpAddr, &'e Name),
}

impl<'a> Reach<'a> {
    pub(super) fn new(frontends: &'a [Frontend]) -> Self {
        let mut reach = Self::default();
        for frontend in frontends {
            reach.by_id.insert(&frontend.id, frontend);
            if frontend.kind != FrontendKind::Translated {
                continue;
            }
            for (addresses, front) in [
                (&frontend.cluster_addresses, Front::Cluster),
                (&frontend.external_addresses, Front::External),
                (&frontend.load_balancer.addresses, Front::Balancer),
            ] {
                for address in addresses {
                    let known = reach.by_address.entry(*address).or_default();
                    // Nodes look for external addresses before those of load balancers.
                    if known.iter().all(|(other, _)| other.id != frontend.id) {
                        known.push((frontend, front));
                    }
                }
            }
            for address in &frontend.load_balancer.proxied_addresses {
                reach.proxied.entry(*address).or_insert(frontend);
            }
            for port in &frontend.ports {
                if let Some(number) = port.node_port {
                    reach.node_ports.entry((port.protocol, number)).or_insert(frontend);
                }
            }
        }
        reach
    }

    pub(super) fn service(&self, id: &ServiceId) -> Option<&'a Frontend> {
        self.by_id.get(id).copied()
    }

    /// The services at `address`.
    pub(super) fn at(&self, address: IpAddr) -> &[(&'a Frontend, Front)] {
        self.by_address.get(&address).map(Vec::as_slice).unwrap_or_default()
    }

    /// The service whose load balancer has `address` to itself: nodes do not translate it.
    pub(super) fn proxied(&self, address: IpAddr) -> Option<&'a Frontend> {
        self.proxied.get(&address).copied()
    }

    /// The ports on an address of a node that are those of services, of those that `asked` means: node ports, and ports
    /// of services that have the address as an external one. No port of a node has a name.
    pub(super) fn on_host<'e>(
        &self,
        address: IpAddr,
        node: &'e Name,
        protocol: Protocol,
        asked: Option<&Port>,
    ) -> BTreeMap<u16, Behind<'a, 'e>> {
        let (first, last) = match asked {
            None => (0, u16::MAX),
            Some(Port::Number(number)) => (*number, *number),
            Some(Port::Name(_)) => return BTreeMap::new(),
        };
        let mut ports: BTreeMap<u16, Behind<'a, 'e>> = BTreeMap::new();
        for (frontend, front) in self.at(address) {
            let known = frontend.ports.iter().filter(|port| port.protocol == protocol);
            for port in known.filter(|port| (first..=last).contains(&port.port)) {
                ports.entry(port.port).or_default().push((frontend, Entry::Address(address, *front)));
            }
        }
        for ((_, number), frontend) in self.node_ports.range((protocol, first)..=(protocol, last)) {
            ports.entry(*number).or_insert_with(|| vec![(frontend, Entry::NodePort(address, node))]);
        }
        ports
    }
}

/// The ports of `frontend` that `port` asks about, with their numbers as clients write them: positions in its list.
pub(super) fn asked_ports(
    frontend: &Frontend,
    entry: Entry<'_>,
    protocol: Protocol,
    port: Option<&Port>,
) -> Vec<(usize, u16)> {
    let ports = frontend.ports.iter().enumerate().filter(|(_, known)| known.protocol == protocol);
    let outer = ports.filter_map(|(index, known)| match entry {
        Entry::NodePort(..) => Some((index, known.node_port?, known)),
        _ => Some((index, known.port, known)),
    });
    let asked = outer.filter(|(_, number, known)| match port {
        None => true,
        Some(Port::Number(asked)) => asked == number,
        Some(Port::Name(name)) => known.name.as_ref().is_some_and(|known| known.as_str() == &**name),
    });
    asked.map(|(index, number, _)| (index, number)).collect()
}

/// The backends of one family that take traffic; with `node`, only those on it.
///
/// Where nothing is ready, those that are being deleted and still serve take it.
/// Source: kubernetes `pkg/proxy/topology.go`, `CategorizeEndpoints`.
pub(super) fn in_service<'f>(
    backends: impl Iterator<Item = &'f FrontendBackend> + Clone,
    version: IpVersion,
    is_near: impl Fn(&FrontendBackend) -> bool,
) -> Vec<&'f FrontendBackend> {
    let of = |state| {
        let usable = backends.clone().filter(|backend| backend.state == state);
        let usable = usable.filter(|backend| IpVersion::of(&backend.address) == version && is_near(backend));
        usable.collect::<Vec<_>>()
    };
    let ready = of(BackendState::Ready);
    if ready.is_empty() { of(BackendState::Draining) } else { ready }
}

/// The traffic policy that counts for traffic that comes by `entry`.
pub(super) const fn traffic_policy(frontend: &Frontend, entry: Entry<'_>) -> TrafficPolicy {
    match entry {
        Entry::Name | Entry::Address(_, Front::Cluster) => frontend.internal_policy,
        Entry::Address(_, Front::External | Front::Balancer) | Entry::NodePort(..) => {
            frontend.external_policy
        }
    }
}

/// A service in messages: `Service shop/web`.
pub(super) struct Called<'a>(pub(super) &'a ServiceId);

impl fmt::Display for Called<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Service {}/{}", self.0.namespace, self.0.name)
    }
}

/// The ports of a service in messages: `TCP 80 (http), UDP 53`.
pub(super) fn listed_ports(frontend: &Frontend) -> String {
    let ports: Vec<String> = frontend
        .ports
        .iter()
        .map(|port| match &port.name {
            Some(name) => format!("{} {} ({name})", port.protocol, port.port),
            None => format!("{} {}", port.protocol, port.port),
        })
        .collect();
    if ports.is_empty() { "none".into() } else { ports.join(", ") }
}
