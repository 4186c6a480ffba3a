//! What an embedder can choose.

use std::path::{Path, PathBuf};

use portcullis_core::backend::{DataplaneOptions, Ended, LowerError, LowerErrorKind};
use portcullis_core::settings::Tunnel;

/// What is chosen about the program and its maps, beside what every dataplane takes. [`Options::new`] gives the defaults;
/// each setter returns the changed options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub(crate) dataplane: DataplaneOptions,
    pub(crate) mark: u32,
    pub(crate) node_backends: NodeBackends,
    pub(crate) capacity: Capacity,
    /// How far the maps may grow.
    pub(crate) growth: Option<Capacity>,
    pub(crate) attach_mode: AttachMode,
    /// `None` for the folder that the name says.
    pins: Option<PathBuf>,
}

/// How the program gets onto interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum AttachMode {
    /// TCX where the kernel has it, clsact otherwise.
    #[default]
    Auto,
    /// Links of TCX, before the other programs there. Linux 6.6 or later.
    Tcx,
    /// Filters of the clsact qdisc, before the other filters there.
    Clsact,
}

/// What keeps a workload from processes of the node that a [service](DataplaneOptions::with_services) leads to, though its egress
/// policy does not allow them. They are behind no second interface, so a program at their sockets has to decide. What the
/// kernel answers without a socket (a reset from a closed port) or takes for a tunnel of its own is not guarded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeBackends {
    /// The program is attached to the root of the hierarchy of control groups (cgroup2), wherever that is mounted. Loading
    /// fails where it is not.
    #[default]
    Guarded,
    /// The same at this folder of the hierarchy. All processes of the node that services can lead to have to be under it; for
    /// nodes that do not have a machine for themselves.
    GuardedAt(PathBuf),
    /// Nothing: such a service is open to every workload. For nodes whose services never lead to the node itself.
    Unguarded,
}

/// How many entries the maps hold. The kernel sets the memory aside when they are made; an update that needs more is
/// refused before anything is written. Bytes are those that Linux 6.18 accounts; see `Enforcer::memory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Interfaces with an endpoint; those that an update removes count until it is done. 321 bytes each.
    pub endpoints: u32,
    /// Single IPv4 addresses. 88 bytes each.
    pub addresses_v4: u32,
    /// Single IPv6 addresses. 96 bytes each.
    pub addresses_v6: u32,
    /// IPv4 networks; the kernel takes their memory as they come.
    pub networks_v4: u32,
    /// IPv6 networks; the kernel takes their memory as they come.
    pub networks_v6: u32,
    /// Classes of addresses, at most 65,536. 2 bytes for each projection. A change of policy that divides addresses in another
    /// way has old and new classes at once.
    pub classes: u32,
    /// Different ways in which local programs tell classes apart.
    pub projections: u32,
    /// Different programs of local endpoints and hooks. 32 bytes each.
    pub programs: u32,
    /// Cells of these programs. 4 bytes each. Those of a program lie in a row, so leave three times what a fresh load needs.
    pub cells: u32,
    /// Lists of up to eight ranges of protocols and ports, which is what most policies take. 64 bytes each; equal ones
    /// are shared.
    pub runs: u32,
    /// Pages of protocols and ports, for policies with more ranges. 1 KiB each; equal ones are shared.
    pub pages: u32,
    /// Different decisions. 8 bytes each, and 16 for each CPU.
    pub decisions: u32,
    /// Tracked IPv4 flows; the least recently used make room. 112 bytes each. One workload's flows take half of the table at
    /// most, whatever [`DataplaneOptions::flows_per_interface`] says.
    pub flows_v4: u32,
    /// Tracked IPv6 flows; the least recently used make room. 136 bytes each. One workload's flows take half of the table at
    /// most.
    pub flows_v6: u32,
    /// Flows of each family that were ended and may not go on; the kernel takes their memory as they come.
    pub cuts: u32,
    /// Bytes of events that wait to be read; a power of two and a multiple of the page size.
    pub event_bytes: u32,
}

impl Default for Capacity {
    /// A node with 250 pods in a cluster with 100,000 addresses of 16,384 classes: 94 MB on two CPUs, and 0.26 MB for each
    /// further CPU. The rows are 34 of them, the addresses 24, the flows 22, the lists of ranges 8.
    fn default() -> Self {
        Self {
            endpoints: 1_024,
            addresses_v4: 131_072,
            addresses_v6: 131_072,
            networks_v4: 65_536,
            networks_v6: 65_536,
            classes: 16_384,
            projections: 1_024,
            programs: 2_048,
            cells: 1 << 18,
            runs: 131_072,
            pages: 2_048,
            decisions: 16_384,
            flows_v4: 131_072,
            flows_v6: 65_536,
            cuts: 65_536,
            event_bytes: 1 << 20,
        }
    }
}

impl Capacity {
    /// How many flows of a table of this size one interface may have that its own packets began, and as many again at each of
    /// the others on their way: of a workload, and of an interface of the host, which carries those of many.
    #[cfg(feature = "load")]
    pub(crate) fn flow_bounds(table: u32, per_interface: u32) -> [u32; 2] {
        let most = (table / 6).max(1);
        [per_interface.min(most), per_interface.max(table / 8).clamp(1, most)]
    }

    /// Next to nothing.
    pub(crate) const SMALL: Self = Self {
        endpoints: 16,
        addresses_v4: 16,
        addresses_v6: 16,
        networks_v4: 16,
        networks_v6: 16,
        classes: 256,
        projections: 4,
        programs: 16,
        cells: 64,
        runs: 16,
        pages: 16,
        decisions: 16,
        flows_v4: 1_024,
        flows_v6: 1_024,
        cuts: 1_024,
        event_bytes: 1 << 16,
    };

    /// Makes room for what did not fit; whether that is possible.
    pub(crate) fn grow(&mut self, error: &LowerError) -> bool {
        let LowerErrorKind::Limit { name, limit, needed } = error.kind() else { return false };
        let field = match *name {
            "endpoints" => &mut self.endpoints,
            "addresses_v4" => &mut self.addresses_v4,
            "addresses_v6" => &mut self.addresses_v6,
            "networks_v4" => &mut self.networks_v4,
            "networks_v6" => &mut self.networks_v6,
            "classes" if *limit < 1 << 16 => &mut self.classes,
            "projections" => &mut self.projections,
            "programs" => &mut self.programs,
            "cells" => &mut self.cells,
            "runs" => &mut self.runs,
            "pages" => &mut self.pages,
            "decisions" => &mut self.decisions,
            _ => return false,
        };
        let wanted = needed.next_power_of_two().max(16);
        let Ok(wanted) = u32::try_from(wanted) else { return false };
        let larger = wanted.max(field.saturating_mul(2));
        let grows = larger > *field && larger < 1 << 27;
        *field = larger;
        grows
    }

    /// The same, but no field grows beyond that of `most`.
    #[cfg(feature = "load")]
    pub(crate) fn grow_up_to(&mut self, most: &Self, error: &LowerError) -> bool {
        let mut larger = *self;
        if !larger.grow(error) {
            return false;
        }
        larger.clamp(self, most);
        let grows = larger != *self;
        *self = larger;
        grows
    }

    /// Cuts every field to that of `most`, but not below that of `least`.
    #[cfg(feature = "load")]
    fn clamp(&mut self, least: &Self, most: &Self) {
        let fields: [(&mut u32, u32, u32); 12] = [
            (&mut self.endpoints, least.endpoints, most.endpoints),
            (&mut self.addresses_v4, least.addresses_v4, most.addresses_v4),
            (&mut self.addresses_v6, least.addresses_v6, most.addresses_v6),
            (&mut self.networks_v4, least.networks_v4, most.networks_v4),
            (&mut self.networks_v6, least.networks_v6, most.networks_v6),
            (&mut self.classes, least.classes, most.classes),
            (&mut self.projections, least.projections, most.projections),
            (&mut self.programs, least.programs, most.programs),
            (&mut self.cells, least.cells, most.cells),
            (&mut self.runs, least.runs, most.runs),
            (&mut self.pages, least.pages, most.pages),
            (&mut self.decisions, least.decisions, most.decisions),
        ];
        for (field, least, most) in fields {
            *field = (*field).min(most).max(least);
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl From<DataplaneOptions> for Options {
    fn from(dataplane: DataplaneOptions) -> Self {
        Self::new().with_dataplane(dataplane)
    }
}

impl Options {
    /// The defaults of [`DataplaneOptions`] and [`Capacity`]: events of Log rules only, HTTP rules fail closed, no services,
    /// workloads may reach the node.
    #[must_use]
    pub fn new() -> Self {
        Self {
            dataplane: DataplaneOptions::default(),
            mark: 0x40,
            node_backends: NodeBackends::default(),
            capacity: Capacity::default(),
            growth: None,
            attach_mode: AttachMode::default(),
            pins: None,
        }
    }

    /// What every dataplane takes.
    ///
    /// TCP, UDP and SCTP to [services](DataplaneOptions::with_services) are decided where the packet leaves the node or enters
    /// its destination, when the real destination is known. So every interface that it may leave by has to be bound or an
    /// uplink, tunnels included, and [`NodeBackends`] says what guards processes of the node. Interfaces of workloads have to
    /// be routed, not ports of a bridge: behind one, the sender of a packet is not known, and it is dropped. Addresses of
    /// the node itself may be among them, because of node ports; host endpoints are asked later then, too: for processes of
    /// the node at their sockets, which the kernel's own tunnels (VXLAN, WireGuard) do not have.
    ///
    /// [Traffic from a workload to its host](DataplaneOptions::with_workload_to_host) is looked at once the workload's own
    /// policy allowed it. Neighbour discovery and answers pass with every choice; flows that are there already pass
    /// unless it is dropped. The default asks nothing and costs nothing; the others ask the kernel's routing about every packet
    /// that begins something.
    #[must_use]
    pub fn with_dataplane(mut self, dataplane: DataplaneOptions) -> Self {
        self.dataplane = dataplane;
        self
    }

    /// The folder of pins, in a BPF file system (`mount -t bpf bpf /sys/fs/bpf`). It is made when it is not there. The default is
    /// `/sys/fs/bpf/` and the [name](DataplaneOptions::with_name). `ip netns exec` mounts another `/sys`, where no BPF file
    /// system is: what it runs needs a mount of its own and this folder in it.
    #[must_use]
    pub fn with_pins(mut self, folder: impl Into<PathBuf>) -> Self {
        self.pins = Some(folder.into());
        self
    }

    /// The bit of the packet mark that is ours on a node with [services](DataplaneOptions::with_services): it says that `tc_index`, 16
    /// bits of a packet that belong to programs at tc, carries the class of the source past source NAT, and whether the packet is
    /// an answer. That is enough for 16,384 [classes](Capacity::classes); for each doubling give one bit more, all in one piece.
    /// Anything else is refused when the policy is lowered. The default is bit 6, `0x40`, which Calico, kube-proxy, Tailscale, the
    /// portmap plugin, the VPC plugin of AWS and the nftables dataplane do not use. All other bits stay as they are; no other
    /// program may change this one, nor the `tc_index` of packets that have it.
    #[must_use]
    pub const fn with_mark(mut self, bits: u32) -> Self {
        self.mark = bits;
        self
    }

    /// What keeps workloads from processes of the node that services lead to. Without services it makes no difference.
    #[must_use]
    pub fn with_node_backends(mut self, backends: NodeBackends) -> Self {
        self.node_backends = backends;
        self
    }

    /// The bit of the mark that is always set, those for the upper part of classes, and how far they are shifted.
    #[cfg(feature = "load")]
    pub(crate) fn mark_parts(&self) -> [u32; 3] {
        if self.dataplane.services.is_empty() {
            return [0; 3];
        }
        let highest = self.mark.checked_ilog2().and_then(|bit| 1_u32.checked_shl(bit)).unwrap_or_default();
        [highest, self.mark & !highest, self.mark.trailing_zeros() % 32]
    }

    /// Whether the program can do what is chosen for all dataplanes.
    pub(crate) fn check(&self) -> Result<(), LowerError> {
        let (tunnels, most) = (&self.dataplane.tunnels, crate::layout::TUNNELS);
        let is_known = |tunnel: &Tunnel| matches!(tunnel, Tunnel::Protocol(_) | Tunnel::Udp(_));
        if tunnels.len() > most || !tunnels.iter().all(is_known) {
            return Err(LowerError::unsupported(
                None,
                format!("eBPF knows {most} tunnels by protocol or UDP port"),
            ));
        }
        if self.dataplane.ended == Ended::Reset {
            return Err(LowerError::unsupported(
                None,
                "eBPF drops what comes in an ended flow and sends no reset",
            ));
        }
        self.check_mark()
    }

    /// Whether the mark can carry what it has to.
    fn check_mark(&self) -> Result<(), LowerError> {
        let in_one_piece =
            self.mark.leading_zeros() + self.mark.count_ones() + self.mark.trailing_zeros() == 32;
        let values = self.capacity.classes.min(1 << 16);
        // As many as 14 bits tell apart, and twice as many for each bit but the first.
        let numbers = (1_u64 << self.mark.count_ones()) << 13;
        if self.dataplane.services.is_empty()
            || in_one_piece && self.mark != 0 && u64::from(values) <= numbers
        {
            return Ok(());
        }
        let reason = format!(
            "{values} classes need one bit of the mark for each doubling from 8,192 on, in one piece, and not {:#010x}",
            self.mark
        );
        Err(LowerError::unsupported(None, reason))
    }

    /// How many entries the maps hold.
    #[must_use]
    pub const fn with_capacity(mut self, capacity: Capacity) -> Self {
        self.capacity = capacity;
        self
    }

    /// How far the maps may grow. When policy does not fit, the enforcer loads it anew into maps with twice the room, as often as it
    /// takes, while the policy before stays in force; when it would take more than `most`, or the kernel has no memory for it,
    /// the policy is refused as it would be without. What `most` says of flows and events makes no difference. Without this
    /// call nothing grows.
    #[must_use]
    pub const fn with_growth(mut self, most: Capacity) -> Self {
        self.growth = Some(most);
        self
    }

    /// How the program gets onto interfaces. What an earlier process attached the other way is taken over and removed.
    #[must_use]
    pub const fn with_attach_mode(mut self, mode: AttachMode) -> Self {
        self.attach_mode = mode;
        self
    }

    /// How the program gets onto interfaces.
    #[must_use]
    pub const fn attach_mode(&self) -> AttachMode {
        self.attach_mode
    }

    /// What every dataplane takes.
    #[must_use]
    pub const fn dataplane(&self) -> &DataplaneOptions {
        &self.dataplane
    }

    /// The folder of pins.
    #[must_use]
    pub fn pins(&self) -> PathBuf {
        self.pins.clone().unwrap_or_else(|| Path::new("/sys/fs/bpf").join(self.dataplane.name.as_str()))
    }

    /// How many entries the maps hold.
    #[must_use]
    pub const fn capacity(&self) -> &Capacity {
        &self.capacity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "load")]
    #[test]
    fn growth_doubles_up_to_the_most_and_never_shrinks() {
        let error = LowerError::limit("classes", 16_384_u32, 16_385_u32);
        let most = Capacity { classes: 40_000, cells: 1, ..Capacity::default() };
        let mut capacity = Capacity::default();
        assert!(capacity.grow_up_to(&most, &error));
        assert_eq!(capacity, Capacity { classes: 32_768, ..Capacity::default() });
        assert!(capacity.grow_up_to(&most, &error));
        assert_eq!(capacity.classes, 40_000);
        assert!(!capacity.grow_up_to(&most, &error), "it is as large as it may be");
        assert!(!capacity.grow_up_to(&most, &LowerError::limit("cells", 1_u32, 2_u32)), "nothing shrinks");
        assert!(!capacity.grow_up_to(&most, &LowerError::invalid()));
    }

    #[test]
    fn the_mark_has_to_carry_every_class() {
        let shared = DataplaneOptions::new().with_services("10.96.0.0/12".parse().unwrap());
        let services = || Options::from(shared.clone());
        let classes = |classes| Capacity { classes, ..Capacity::default() };
        for (options, fits) in [
            (services(), true),
            (services().with_capacity(classes(16_385)), false),
            (services().with_capacity(classes(16_385)).with_mark(0x0003_0000), true),
            (services().with_capacity(classes(32_769)).with_mark(0x0003_0000), false),
            (services().with_capacity(classes(1 << 16)).with_mark(0xe000_0000), true),
            (services().with_mark(0), false),
            (services().with_mark(0x8000_0000), true),
            (services().with_capacity(classes(1)).with_mark(5), false),
            (Options::new().with_mark(0), true),
        ] {
            assert_eq!(options.check_mark().is_ok(), fits, "{options:?}");
        }
    }
}
