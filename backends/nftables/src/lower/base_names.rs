//! Names of the sets and chains that every table has. A base chain has one fixed name. The names of the others get a
//! suffix once a table was replaced while it was in use, so that old and new ones exist side by side.

use portcullis_core::label::Name;
use portcullis_core::net::IpVersion;
use portcullis_core::verdict::Hook;

use crate::command::{Field, SetKind};

#[derive(Clone, Debug, Default)]
pub(crate) struct BaseNames {
    suffix: String,
}

/// Whether a protocol has ports, as connection tracking and the first four bytes of its header say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ports {
    Some,
    None,
}

/// A base set: its name and the fields of its key.
pub(crate) type BaseSet = (Name, Vec<Field>);

impl BaseNames {
    /// Names that end in this number.
    pub(crate) fn numbered(name: &Name) -> Self {
        Self { suffix: format!("_{name}") }
    }

    pub(crate) fn name(&self, base: &str) -> Name {
        format!("{base}{}", self.suffix).as_str().into()
    }

    fn of_family(&self, base: &str, version: IpVersion) -> Name {
        let family = match version {
            IpVersion::V4 => "v4",
            IpVersion::V6 => "v6",
        };
        self.name(&format!("{base}_{family}"))
    }

    /// Interface and address of workloads that send, to their egress program.
    pub(crate) fn from(&self, version: IpVersion) -> BaseSet {
        (self.of_family("from", version), vec![Field::InputInterface, Field::Source(version)])
    }

    /// Interface and address of workloads that receive, to their ingress program.
    pub(crate) fn to(&self, version: IpVersion) -> BaseSet {
        (self.of_family("to", version), vec![Field::OutputInterface, Field::Destination(version)])
    }

    /// Interface and address of workloads that send, known before connection tracking.
    pub(crate) fn sources(&self, version: IpVersion) -> BaseSet {
        (self.of_family("sources", version), vec![Field::InputInterface, Field::Source(version)])
    }

    /// Interfaces of workloads whose packets may come from any address, known before connection tracking.
    pub(crate) fn any_address(&self) -> BaseSet {
        (self.name("any_address"), vec![Field::InputInterface])
    }

    /// Interfaces of workloads that may send from any address, to their egress program.
    pub(crate) fn senders(&self) -> BaseSet {
        (self.name("senders"), vec![Field::Family, Field::InputInterface])
    }

    /// Interfaces of workloads that may receive at any address.
    pub(crate) fn receivers(&self) -> BaseSet {
        (self.name("receivers"), vec![Field::Family, Field::OutputInterface])
    }

    /// Interfaces of all bound workloads.
    pub(crate) fn workloads(&self) -> BaseSet {
        (self.name("workloads"), vec![Field::InputInterface])
    }

    /// Interfaces that nothing passes.
    pub(crate) fn closed(&self) -> BaseSet {
        (self.name("closed"), vec![Field::InputInterface])
    }

    /// Interface and address of workloads, which neighbour advertisements may be about.
    pub(crate) fn neighbour_targets(&self) -> BaseSet {
        (self.name("neighbour_targets"), vec![Field::InputInterface, Field::NeighbourTarget])
    }

    /// Interface and IPv4 address of workloads, which ARP may say is theirs.
    pub(crate) fn arp_sources(&self) -> BaseSet {
        (self.name("arp_sources"), vec![Field::InputInterface, Field::ArpSender])
    }

    /// Interfaces of workloads that may say so of any address.
    pub(crate) fn arp_any_address(&self) -> BaseSet {
        (self.name("arp_any_address"), vec![Field::InputInterface])
    }

    /// Interfaces of all bound workloads, for ARP.
    pub(crate) fn arp_workloads(&self) -> BaseSet {
        (self.name("arp_workloads"), vec![Field::InputInterface])
    }

    /// Interfaces that no ARP passes.
    pub(crate) fn arp_closed(&self) -> BaseSet {
        (self.name("arp_closed"), vec![Field::InputInterface])
    }

    /// A workload's interface and address, twice.
    pub(crate) fn own(&self, version: IpVersion) -> BaseSet {
        let key = vec![Field::InputInterface, Field::Source(version), Field::Destination(version)];
        (self.of_family("self", version), key)
    }

    /// Addresses of this node's workloads: no packet from elsewhere comes from one, and the host's own packets to one are
    /// not asked about.
    pub(crate) fn workload_addresses(&self, version: IpVersion) -> BaseSet {
        (self.of_family("addresses", version), vec![Field::Destination(version)])
    }

    /// Directions of ended flows, of protocols with ports and of others. The same set in every table: what was ended stays
    /// ended when a table is replaced.
    pub(crate) fn ended(version: IpVersion, ports: Ports) -> BaseSet {
        let plain = Self::default();
        let (source, destination) = (Field::Source(version), Field::Destination(version));
        match ports {
            Ports::Some => {
                let key =
                    vec![Field::Protocol, source, Field::SourcePort, destination, Field::DestinationPort];
                (plain.of_family("ended", version), key)
            }
            Ports::None => {
                (plain.of_family("ended_no_ports", version), vec![Field::Protocol, source, destination])
            }
        }
    }

    /// How many events each interface had, and may have. The same set in every table, so that a load gives nobody a new budget.
    pub(crate) fn event_budgets() -> BaseSet {
        ("event_budgets".into(), vec![Field::InputInterface])
    }

    /// The sets that every table has and a load leaves as they are: packets or time change their elements.
    pub(crate) fn lasting() -> Vec<(BaseSet, SetKind)> {
        let ended = Self::all_ended().into_iter().map(|set| (set, SetKind::Timed(0)));
        ended.chain([(Self::event_budgets(), SetKind::Budgets)]).collect()
    }

    /// All sets of [`BaseNames::ended`].
    pub(crate) fn all_ended() -> [BaseSet; 4] {
        [
            (IpVersion::V4, Ports::Some),
            (IpVersion::V6, Ports::Some),
            (IpVersion::V4, Ports::None),
            (IpVersion::V6, Ports::None),
        ]
        .map(|(version, ports)| Self::ended(version, ports))
    }

    /// Nodes that tunnels are accepted from.
    pub(crate) fn tunnel_peers(&self, version: IpVersion) -> Name {
        self.of_family("tunnel_peers", version)
    }

    /// Networks of this node's workloads.
    pub(crate) fn local(&self, version: IpVersion) -> Name {
        self.of_family("local", version)
    }

    /// Interfaces with a host endpoint of their own, to its program for `hook`.
    pub(crate) fn host(&self, hook: Hook) -> BaseSet {
        (self.name(host(hook)), vec![Field::Family, interface(hook)])
    }

    /// The program for `hook` of the host endpoint for all other interfaces.
    pub(crate) fn host_all(&self, hook: Hook) -> BaseSet {
        (self.name(&format!("{}_all", host(hook))), vec![Field::Family])
    }

    /// The chain that asks the host endpoint for all interfaces at `hook`, and no other.
    pub(crate) fn host_all_chain(&self, hook: Hook) -> Name {
        self.name(&format!("{}_all", host(hook)))
    }

    /// The chain that asks host endpoints at `hook`.
    pub(crate) fn host_chain(&self, hook: Hook) -> Name {
        self.name(host(hook))
    }
}

/// The interface that a host endpoint is found by at `hook`.
pub(crate) const fn interface(hook: Hook) -> Field {
    match hook {
        Hook::HostEgress | Hook::ForwardEgress | Hook::UntrackedEgress => Field::OutputInterface,
        _ => Field::InputInterface,
    }
}

const fn host(hook: Hook) -> &'static str {
    match hook {
        Hook::HostIngress => "host_ingress",
        Hook::HostEgress => "host_egress",
        Hook::ForwardIngress => "forward_ingress",
        Hook::ForwardEgress => "forward_egress",
        Hook::PreDnat => "pre_dnat",
        Hook::UntrackedIngress => "untracked_ingress",
        Hook::UntrackedEgress => "untracked_egress",
        Hook::WorkloadIngress => "ingress",
        Hook::WorkloadEgress => "egress",
    }
}
