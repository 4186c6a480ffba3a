//! Configuration beside policy: staged policies, failsafe ports, tunnels, and the way of workloads to their host.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::label::Name;
use crate::net::Cidr;
use crate::packet::{Packet, Protocol};
use crate::verdict::{Direction, Hook};

mod tunnel;

pub use tunnel::{Tunnel, TunnelError};

/// Configuration beside policy: for the whole evaluation, and for each node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Settings {
    /// Whether staged policies act (decision D7).
    pub staged: StagedPolicies,
    /// The settings of every node that has none of its own.
    pub every_node: NodeSettings,
    /// The settings of single nodes.
    pub nodes: BTreeMap<Name, NodeSettings>,
}

/// Settings of a node, which concern its host endpoints, and the way of its workloads to it and out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct NodeSettings {
    /// Ports of a host endpoint that no policy can close.
    pub failsafes: Failsafes,
    /// What happens to traffic from a workload to its own host after the workload's own policy allowed it.
    ///
    /// Evaluation answers by it. What is enforced on a node is
    /// [`DataplaneOptions::workload_to_host`](crate::backend::DataplaneOptions::workload_to_host) of its dataplane.
    pub workload_to_host: WorkloadToHost,
    /// Tunnels that workloads may not send, whatever policy says (decision D28). The default is [`Tunnel::DEFAULT`].
    #[cfg_attr(feature = "serde", serde(default = "Tunnel::usual"))]
    pub tunnels: Vec<Tunnel>,
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self {
            failsafes: Failsafes::default(),
            workload_to_host: WorkloadToHost::default(),
            tunnels: Tunnel::usual(),
        }
    }
}

impl Settings {
    /// The settings of `node`; `None` is a node that is not known.
    #[must_use]
    pub fn of_node(&self, node: Option<&Name>) -> &NodeSettings {
        node.and_then(|node| self.nodes.get(node)).unwrap_or(&self.every_node)
    }

    /// Whether staged policies act.
    #[must_use]
    pub const fn with_staged(mut self, staged: StagedPolicies) -> Self {
        self.staged = staged;
        self
    }

    /// The failsafe ports of all nodes, those with settings of their own included.
    #[must_use]
    pub fn with_failsafes(mut self, failsafes: &Failsafes) -> Self {
        self.each_node().for_each(|node| node.failsafes.clone_from(failsafes));
        self
    }

    /// What happens on all nodes, those with settings of their own included, to traffic from workloads to their host.
    #[must_use]
    pub fn with_workload_to_host(mut self, action: WorkloadToHost) -> Self {
        self.each_node().for_each(|node| node.workload_to_host = action);
        self
    }

    /// The tunnels that workloads may not send, on all nodes, those with settings of their own included. With none, policy
    /// alone decides about encapsulated packets.
    #[must_use]
    pub fn with_tunnels(mut self, tunnels: &[Tunnel]) -> Self {
        self.each_node().for_each(|node| node.tunnels = tunnels.to_vec());
        self
    }

    fn each_node(&mut self) -> impl Iterator<Item = &mut NodeSettings> {
        core::iter::once(&mut self.every_node).chain(self.nodes.values_mut())
    }
}

/// Whether staged policies act.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum StagedPolicies {
    /// They are skipped, as in enforcement.
    #[default]
    Skip,
    /// They act as if they were enforced.
    Enforce,
}

/// Traffic from a workload to its own host. Source: Calico `DefaultEndpointToHostAction`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum WorkloadToHost {
    /// Accepted without asking host endpoint policy, as the usual installations set it.
    #[default]
    Accept,
    /// Dropped, Calico's built-in default.
    Drop,
    /// Host endpoint policy decides.
    HostPolicy,
}

/// Ports that stay reachable under any host endpoint policy, so that a mistake cannot cut off a node.
///
/// They apply to traffic of the host itself, not to forwarded traffic. The default is Calico's list
/// (`felix/config/config_params.go`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Failsafes {
    /// Ports of the host that others may reach.
    pub inbound: Vec<Failsafe>,
    /// Ports of others that the host may reach.
    pub outbound: Vec<Failsafe>,
}

/// One failsafe port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Failsafe {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number, on the server's side.
    pub port: u16,
    /// The far end must lie in this network; `None` is any address.
    pub net: Option<Cidr>,
}

impl Failsafe {
    const fn tcp(port: u16) -> Self {
        Self { protocol: Protocol::TCP, port, net: None }
    }

    const fn udp(port: u16) -> Self {
        Self { protocol: Protocol::UDP, port, net: None }
    }
}

impl Failsafes {
    /// No failsafe ports at all.
    #[must_use]
    pub const fn none() -> Self {
        Self { inbound: Vec::new(), outbound: Vec::new() }
    }

    /// Whether `packet` is exempt at `hook`.
    ///
    /// Untracked hooks see both directions of a connection one packet at a time, so there the reply, known by its
    /// source port, is exempt too. Source: Calico `felix/rules/static.go`.
    #[must_use]
    pub fn exempt(&self, hook: Hook, packet: &Packet) -> bool {
        let (requests, replies) = match hook {
            Hook::HostIngress | Hook::PreDnat => (&self.inbound, None),
            Hook::HostEgress => (&self.outbound, None),
            Hook::UntrackedIngress => (&self.inbound, Some(&self.outbound)),
            Hook::UntrackedEgress => (&self.outbound, Some(&self.inbound)),
            Hook::WorkloadIngress | Hook::WorkloadEgress | Hook::ForwardIngress | Hook::ForwardEgress => {
                return false;
            }
        };
        let far = match hook.direction() {
            Direction::Ingress => packet.source,
            Direction::Egress => packet.destination,
        };
        let hit = |list: &[Failsafe], port: u16| {
            list.iter().any(|f| {
                f.protocol == packet.protocol && f.port == port && f.net.is_none_or(|net| net.contains(&far))
            })
        };
        hit(requests, packet.destination_port) || replies.is_some_and(|list| hit(list, packet.source_port))
    }
}

impl Default for Failsafes {
    fn default() -> Self {
        let common = [179, 2379, 2380, 5473, 6443, 6666, 6667].map(Failsafe::tcp);
        let mut inbound = alloc::vec![Failsafe::tcp(22), Failsafe::udp(68)];
        let mut outbound = alloc::vec![Failsafe::udp(53), Failsafe::udp(67)];
        inbound.extend(common);
        outbound.extend(common);
        Self { inbound, outbound }
    }
}
