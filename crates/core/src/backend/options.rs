//! What means the same in every dataplane.

use crate::backend::Interface;
use crate::label::Name;
use crate::net::Cidr;
use crate::settings::{Tunnel, WorkloadToHost};
use alloc::vec::Vec;

/// Which decisions send an event. Decisions on the way to which a rule with the action Log matches always do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum LoggedEvents {
    /// Those with Log rules only.
    #[default]
    LogRules,
    /// Denied packets as well.
    Denied,
    /// Every decision.
    All,
}

/// What happens to a new flow that only an HTTP rule can decide (decision D4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Inspected {
    /// It is dropped: a dataplane reads no HTTP.
    #[default]
    Drop,
    /// It passes, because an L7 enforcer behind the dataplane decides.
    HandOver,
}

/// What becomes of the packets of a flow that was [ended](crate::backend::Dataplane::terminate) while policy still denies it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ended {
    /// They are dropped.
    #[default]
    Drop,
    /// TCP is answered with a reset, so that both ends learn of it at once; the rest is dropped.
    Reset,
}

/// Choices that every dataplane takes. Each backend has options of its own besides.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DataplaneOptions {
    /// What the dataplane's objects are called on the machine: the nftables table, the folder of pins. One dataplane of a
    /// name and kind can be in a network namespace.
    pub name: Name,
    /// Which decisions send an event.
    pub events: LoggedEvents,
    /// What happens to flows that only an HTTP rule can decide.
    pub inspected: Inspected,
    /// What happens to traffic from a workload to its own host. The dataplane does this, whatever the
    /// [settings](crate::settings::NodeSettings::workload_to_host) of the compiler say; `LocalNode` refuses a difference.
    pub workload_to_host: WorkloadToHost,
    /// Addresses that destination NAT on this node rewrites: those of services. Only dataplanes that see packets before
    /// destination NAT need them.
    pub services: Vec<Cidr>,
    /// Interfaces whose name begins so hold workloads: one without a binding is closed, as [`Bindings::close`] would do.
    ///
    /// [`Bindings::close`]: crate::backend::Bindings::close
    pub workload_interfaces: Vec<Interface>,
    /// Networks whose addresses are those of workloads of this node. One without a binding is closed, and a packet from
    /// anywhere else that claims to come from such an address is dropped.
    pub local_nets: Vec<Cidr>,
    /// Addresses of the nodes of the cluster, this one included. Tunnels that end at this node are accepted from these only. Without any, they are accepted from everywhere but workloads.
    pub tunnel_peers: Vec<Cidr>,
    /// The tunnels that may end at this node. What [workloads send](crate::settings::NodeSettings::tunnels) is the compiler's.
    pub tunnels: Vec<Tunnel>,
    /// Whether ARP and neighbour advertisements of a workload are dropped when they claim an address that is not its own.
    pub check_neighbour_claims: bool,
    /// What becomes of flows that were ended.
    pub ended: Ended,
    /// Seconds without a packet after which an established TCP flow is forgotten, by dataplanes with a flow table of
    /// their own. The default is that of the kernel's connection tracking, five days.
    pub tcp_idle_seconds: u32,
    /// Most flows that are tracked for one interface, by dataplanes with a flow table of their own. Packets of flows
    /// beyond it are decided one by one.
    pub flows_per_interface: u32,
    /// Most events a second from one interface. Those beyond it count as lost; counters count all.
    pub events_per_second: u32,
}

impl Default for DataplaneOptions {
    /// Name `portcullis`, events of Log rules, HTTP rules fail closed, workloads reach their host.
    fn default() -> Self {
        Self {
            name: "portcullis".into(),
            events: LoggedEvents::default(),
            inspected: Inspected::default(),
            workload_to_host: WorkloadToHost::default(),
            services: Vec::new(),
            workload_interfaces: Vec::new(),
            local_nets: Vec::new(),
            tunnel_peers: Vec::new(),
            tunnels: Tunnel::DEFAULT.to_vec(),
            check_neighbour_claims: true,
            ended: Ended::default(),
            tcp_idle_seconds: 432_000,
            flows_per_interface: 16_384,
            events_per_second: 100,
        }
    }
}

impl DataplaneOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What the dataplane's objects are called: a letter, then letters, digits, `_` or `-`.
    #[must_use]
    pub fn with_name(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// Which decisions send an event.
    #[must_use]
    pub const fn with_events(mut self, events: LoggedEvents) -> Self {
        self.events = events;
        self
    }

    /// What happens to flows that only an HTTP rule can decide.
    #[must_use]
    pub const fn with_inspected(mut self, inspected: Inspected) -> Self {
        self.inspected = inspected;
        self
    }

    /// What happens to traffic from a workload to its own host.
    #[must_use]
    pub const fn with_workload_to_host(mut self, action: WorkloadToHost) -> Self {
        self.workload_to_host = action;
        self
    }

    /// A network of service addresses. May be given more than once.
    #[must_use]
    pub fn with_services(mut self, net: Cidr) -> Self {
        self.services.push(net);
        self
    }

    /// Interfaces whose name begins so hold workloads: one without a binding is closed. May be given more than once.
    #[must_use]
    pub fn with_workload_interfaces(mut self, prefix: Interface) -> Self {
        self.workload_interfaces.push(prefix);
        self
    }

    /// A network of workloads of this node. May be given more than once.
    #[must_use]
    pub fn with_local_net(mut self, net: Cidr) -> Self {
        self.local_nets.push(net);
        self
    }

    /// Addresses of nodes that tunnels are accepted from. May be given more than once.
    #[must_use]
    pub fn with_tunnel_peers(mut self, net: Cidr) -> Self {
        self.tunnel_peers.push(net);
        self
    }

    /// The tunnels that may end at this node, in place of the default: IPv4 in IP and VXLAN.
    #[must_use]
    pub fn with_tunnels(mut self, tunnels: &[Tunnel]) -> Self {
        self.tunnels = tunnels.to_vec();
        self
    }

    /// Whether ARP and neighbour advertisements of a workload may only claim its own addresses.
    #[must_use]
    pub const fn with_check_neighbour_claims(mut self, check: bool) -> Self {
        self.check_neighbour_claims = check;
        self
    }

    /// What becomes of flows that were ended.
    #[must_use]
    pub const fn with_ended(mut self, ended: Ended) -> Self {
        self.ended = ended;
        self
    }

    /// Seconds without a packet after which an established TCP flow is forgotten.
    #[must_use]
    pub const fn with_tcp_idle_seconds(mut self, seconds: u32) -> Self {
        self.tcp_idle_seconds = seconds;
        self
    }

    /// Most flows that are tracked for one interface.
    #[must_use]
    pub const fn with_flows_per_interface(mut self, flows: u32) -> Self {
        self.flows_per_interface = flows;
        self
    }

    /// Most events a second from one interface.
    #[must_use]
    pub const fn with_events_per_second(mut self, events: u32) -> Self {
        self.events_per_second = events;
        self
    }
}
