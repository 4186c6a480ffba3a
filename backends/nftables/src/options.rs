//! What an embedder can choose.

use portcullis_core::label::Name;
use portcullis_core::net::Cidr;
use portcullis_core::settings::WorkloadToHost;

use crate::binding::Interface;

/// Choices about the table. [`Options::new`] gives the defaults; each setter returns the changed options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub(crate) table: Name,
    pub(crate) log_group: u16,
    pub(crate) events: LoggedEvents,
    pub(crate) mark: u32,
    pub(crate) inspect: Inspected,
    pub(crate) workload_to_host: WorkloadToHost,
    pub(crate) workload_prefixes: Vec<Interface>,
    pub(crate) local_nets: Vec<Cidr>,
    pub(crate) limits: Limits,
}

/// Which decisions send an event to the nflog group. Rules with the action Log always do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LoggedEvents {
    /// Log rules only.
    #[default]
    LogRules,
    /// Denied packets as well.
    Denies,
    /// Every decision.
    All,
}

/// What happens to a new flow that only an HTTP rule can decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Inspected {
    /// It is dropped: nothing here reads HTTP.
    #[default]
    Drop,
    /// It passes, because an L7 enforcer behind this table decides.
    HandOver,
}

/// How large the table may grow. An update beyond a limit is refused before anything is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most chains.
    pub chains: usize,
    /// Most sets and maps.
    pub sets: usize,
    /// Most elements of all sets and maps together.
    pub elements: usize,
}

impl Default for Limits {
    /// 8,192 chains and 4,096 sets, which nf_tables still changes in well under a second, and 4,000,000 elements.
    fn default() -> Self {
        Self { chains: 8_192, sets: 4_096, elements: 4_000_000 }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// Table `portcullis`, nflog group 4789, mark bit 20, HTTP rules fail closed, no interface or network is known to
    /// hold workloads only.
    #[must_use]
    pub fn new() -> Self {
        Self {
            table: "portcullis".into(),
            log_group: 4789,
            events: LoggedEvents::default(),
            mark: 0x0010_0000,
            inspect: Inspected::default(),
            workload_to_host: WorkloadToHost::default(),
            workload_prefixes: Vec::new(),
            local_nets: Vec::new(),
            limits: Limits::default(),
        }
    }

    /// The name of the table; a letter, then letters, digits, `_` or `-`.
    #[must_use]
    pub fn with_table(mut self, name: &str) -> Self {
        self.table = name.into();
        self
    }

    /// The nflog group that events go to.
    #[must_use]
    pub const fn with_log_group(mut self, group: u16) -> Self {
        self.log_group = group;
        self
    }

    /// Which decisions send an event.
    #[must_use]
    pub const fn with_events(mut self, events: LoggedEvents) -> Self {
        self.events = events;
        self
    }

    /// The one bit of the packet mark that is ours. It is only used on nodes with untracked or pre-DNAT policy, to
    /// tell later hooks that such a policy allowed the packet; it is cleared again there. All other bits stay as
    /// they are.
    #[must_use]
    pub const fn with_mark(mut self, bit: u32) -> Self {
        self.mark = bit;
        self
    }

    /// What happens to flows that only an HTTP rule can decide.
    #[must_use]
    pub const fn with_inspected(mut self, inspect: Inspected) -> Self {
        self.inspect = inspect;
        self
    }

    /// What happens to traffic from a workload to its own host.
    #[must_use]
    pub const fn with_workload_to_host(mut self, action: WorkloadToHost) -> Self {
        self.workload_to_host = action;
        self
    }

    /// Interfaces whose name begins so hold workloads: one without a binding is cut off. May be given more than once.
    #[must_use]
    pub fn with_workload_interfaces(mut self, prefix: Interface) -> Self {
        self.workload_prefixes.push(prefix);
        self
    }

    /// Addresses in this network belong to workloads of this node: one without a binding is cut off when it is
    /// forwarded. May be given more than once.
    #[must_use]
    pub fn with_local_net(mut self, net: Cidr) -> Self {
        self.local_nets.push(net);
        self
    }

    /// How large the table may grow.
    #[must_use]
    pub const fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The name of the table.
    #[must_use]
    pub fn table(&self) -> &str {
        self.table.as_str()
    }

    /// The nflog group that events go to.
    #[must_use]
    pub const fn log_group(&self) -> u16 {
        self.log_group
    }
}
