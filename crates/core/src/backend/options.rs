//! What means the same in every dataplane.

use crate::label::Name;
use crate::net::Cidr;
use crate::settings::WorkloadToHost;
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
}
