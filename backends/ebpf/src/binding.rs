//! Which interfaces and addresses an endpoint has on this node.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::IpAddr;

use portcullis_core::model::EndpointId;
use portcullis_core::net::canonical;

/// Where the packets of one endpoint pass. Interfaces are named by the kernel's index (`ip link`, `if_nametoindex`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// A workload behind one host-side interface. Only packets with one of these addresses are its own: others that
    /// pass the interface are dropped. IPv4-mapped addresses stand for their IPv4 address.
    Workload {
        /// The host's end of its interface.
        interface: u32,
        /// Its addresses, at most four of each family.
        addresses: Vec<IpAddr>,
    },
    /// A workload behind one host-side interface, whatever the addresses. For networks that keep sources honest
    /// themselves. There is no exemption for traffic to itself (decision D10), because no address is known to be its
    /// own.
    WorkloadAnyAddress {
        /// The host's end of its interface.
        interface: u32,
    },
    /// A host endpoint on these interfaces of the host, and on no other.
    Host {
        /// The interfaces.
        interfaces: Vec<u32>,
    },
    /// The host endpoint for all interfaces (`*`), one on a node at most (decision D24). It covers the interfaces of all workloads as
    /// well, whatever other host endpoints there are: what a workload sends passes its pre-DNAT and, where it is
    /// forwarded, its forward ingress policy before the workload's egress; what was forwarded to a workload passes its forward egress
    /// policy after the workload's ingress. Packets of the node itself to its workloads pass none of it (decision D11), and
    /// untracked policy does not act on it (decision D25). What workloads send to their node, it is asked about where
    /// [host policy](portcullis_core::settings::WorkloadToHost::HostPolicy) decides. Source: Calico
    /// `felix/rules/static.go`, `filterForwardChain` and `StaticManglePreroutingChain`, which dispatch by interface with `*` as the
    /// default. While it is bound but not in the snapshot, its hooks deny: an incomplete snapshot fails closed.
    AllInterfaces {
        /// The interfaces of the host that no [`Binding::Host`] has. Those of workloads need not be named.
        interfaces: Vec<u32>,
    },
    /// Interfaces of the host that no host endpoint guards: everything passes. On a node with
    /// [services](crate::Options::with_services) they have to be bound, because what workloads send to services is decided
    /// where it leaves, and the class of a source is found where it comes in. Any identity will do that no endpoint has.
    Uplink {
        /// The interfaces.
        interfaces: Vec<u32>,
    },
}

/// The endpoints of this node.
pub type Bindings = BTreeMap<EndpointId, Binding>;

impl Binding {
    /// A workload with these addresses.
    #[must_use]
    pub fn workload(interface: u32, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self::Workload { interface, addresses: addresses.into_iter().map(canonical).collect() }
    }

    /// Whether its interfaces are those of the host, which have other programs than those of workloads.
    #[cfg(feature = "load")]
    pub(crate) const fn is_of_host(&self) -> bool {
        !self.is_workload()
    }

    /// Whether it is that of a workload.
    pub(crate) const fn is_workload(&self) -> bool {
        matches!(self, Self::Workload { .. } | Self::WorkloadAnyAddress { .. })
    }

    /// Whether it covers the interfaces of workloads.
    pub(crate) const fn is_for_all(&self) -> bool {
        matches!(self, Self::AllInterfaces { .. })
    }

    /// The interfaces it takes.
    #[must_use]
    pub fn interfaces(&self) -> &[u32] {
        match self {
            Self::Workload { interface, .. } | Self::WorkloadAnyAddress { interface } => {
                core::slice::from_ref(interface)
            }
            Self::Host { interfaces } | Self::AllInterfaces { interfaces } | Self::Uplink { interfaces } => {
                interfaces
            }
        }
    }
}
