//! Services as clients reach them: addresses and ports in front, backends behind.

use alloc::vec::Vec;
use core::net::IpAddr;

use portcullis_core::label::Name;
use portcullis_core::model::ServiceId;
use portcullis_core::net::{Cidr, IpVersion};
use portcullis_core::packet::Protocol;

/// A service as clients reach it. Policy never sees it: it sees the backends, after destination NAT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frontend {
    /// Which service.
    pub id: ServiceId,
    /// How it is reached.
    pub kind: FrontendKind,
    /// Its addresses inside the cluster.
    pub cluster_addresses: Vec<IpAddr>,
    /// Its external addresses, without those of its load balancer.
    pub external_addresses: Vec<IpAddr>,
    /// Its load balancer; without addresses where there is none.
    pub load_balancer: LoadBalancer,
    /// Which backends traffic to the cluster addresses reaches.
    pub internal_policy: TrafficPolicy,
    /// Which backends traffic to node ports and external addresses reaches.
    pub external_policy: TrafficPolicy,
    /// Its ports, as the object lists them.
    pub ports: Vec<FrontendPort>,
    /// What is behind it, ready or not, by address.
    pub backends: Vec<FrontendBackend>,
    /// Whether its `Endpoints` list addresses that become no backends, because they say that they shall not be mirrored.
    pub has_unmirrored_endpoints: bool,
}

impl Frontend {
    /// Every address that clients reach it at: its own, external ones and those of its load balancer.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let balanced = self.load_balancer.addresses.iter().chain(&self.load_balancer.proxied_addresses);
        self.cluster_addresses.iter().chain(&self.external_addresses).chain(balanced).copied()
    }
}

/// The load balancer of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadBalancer {
    /// The addresses that nodes translate, as the load balancer does.
    pub addresses: Vec<IpAddr>,
    /// The addresses that only the load balancer translates (`ipMode: Proxy`).
    pub proxied_addresses: Vec<IpAddr>,
    /// The networks that may use it.
    pub source_ranges: Vec<Cidr>,
}

impl LoadBalancer {
    /// Whether traffic from `source` may use it. Ranges of one family say nothing about the other one.
    ///
    /// Source: kubernetes `pkg/proxy/iptables/proxier.go`, `syncProxyRules`, the firewall chain; `pkg/proxy/serviceport.go`,
    /// `newBaseServiceInfo`, which keeps the ranges of its family.
    #[must_use]
    pub fn admits(&self, source: &IpAddr) -> bool {
        let version = IpVersion::of(source);
        let mut ranges = self.source_ranges.iter().filter(|range| range.version() == version).peekable();
        ranges.peek().is_none() || ranges.any(|range| range.contains(source))
    }
}

/// How a service is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrontendKind {
    /// At addresses of its own, which nodes rewrite to that of a backend.
    Translated,
    /// At the addresses of its backends; it has none of its own (`clusterIP: None`).
    Headless,
    /// It is another name for a host outside (`type: ExternalName`).
    ExternalName(Name),
}

/// Which backends traffic reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrafficPolicy {
    /// All.
    #[default]
    Cluster,
    /// Those on the node that translates the address.
    Local,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontendPort {
    /// Its name.
    pub name: Option<Name>,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number at the service's addresses.
    pub port: u16,
    /// Its number at every node's addresses.
    pub node_port: Option<u16>,
}

/// One address behind a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontendBackend {
    /// The address.
    pub address: IpAddr,
    /// The node that it is on, when that was said.
    pub node: Option<Name>,
    /// Whether it takes traffic.
    pub state: BackendState,
    /// Where it listens: positions in [`Frontend::ports`] with the port there, in order.
    pub targets: Vec<(usize, u16)>,
}

/// Whether a backend takes traffic; a greater state takes it before a lesser one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum BackendState {
    /// It does not.
    NotReady,
    /// It is being deleted and still serves: it takes traffic only where nothing is ready.
    Draining,
    /// It does.
    Ready,
}
