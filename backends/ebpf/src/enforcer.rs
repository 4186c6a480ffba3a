//! The program in force: loaded, attached, updated, taken over by the next process, removed.

use alloc::collections::{BTreeMap, BTreeSet};
use core::fmt;
use std::path::Path;

use aya::Ebpf;
use aya::maps::{MapData, PerCpuArray, RingBuf};
use portcullis_core::ir::{DecisionEntry, Delta, Snapshot};

use crate::attach::{self, Pins};
use crate::binding::{Binding, Bindings};
use crate::cgroup;
use crate::cut::Tightened;
use crate::epoch::Epoch;
use crate::error::LowerError;
use crate::event::Event;
use crate::flows::{Copied, Flows};
use crate::load_error::LoadError;
use crate::lowering::Lowering;
use crate::maps::{Maps, sum, take};
use crate::memory::Memory;
use crate::object::{self, Behaviour};
use crate::options::{Attachment, Options};

/// Enforces snapshots on interfaces of the network namespace of the thread that made it.
///
/// When the process ends, also by a signal, the program stays in force with the policy it has: links of TCX are pinned, and
/// filters of clsact stay by themselves. The next [`Enforcer::start`] makes fresh maps, fills them, and then replaces the
/// program of each interface by one that looks into them; both enforce a whole policy, and both look into the same table of
/// flows. An upgrade is the same, also one from TCX to clsact or back. Where the table of flows has another size or layout,
/// its entries are copied: before the programs are replaced, and once more after that, for what happened in between.
///
/// There is to be one enforcer in a network namespace. Other programs may be on the same interfaces: ours goes before those
/// that were there, and what it passes is shown to them. What a program before ours accepts (`TC_ACT_OK`), ours never sees;
/// all of TCX is before all of clsact.
///
/// Dropping it leaves everything in force; see [`Enforcer::remove`].
pub struct Enforcer {
    pins: Pins,
    ebpf: Ebpf,
    maps: Maps,
    events: RingBuf<MapData>,
    reasons: PerCpuArray<MapData, [u64; 2]>,
    flows: Flows,
    memory: Memory,
    lowering: Lowering,
    /// Interfaces with programs, and whether those are for a host endpoint.
    attached: BTreeMap<u32, bool>,
    attachment: Attachment,
}

impl fmt::Debug for Enforcer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enforcer").field("pins", &self.pins).field("attached", &self.attached).finish()
    }
}

/// Why what is in force is not what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnforceError {
    /// The policy cannot be lowered or does not fit. The kernel was not asked, what was in force still is.
    Lower(LowerError),
    /// The kernel refuses. Every packet gets its old or its new decision; [`Enforcer::start`] again puts the rest right.
    Load(LoadError),
}

impl fmt::Display for EnforceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lower(error) => error.fmt(f),
            Self::Load(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for EnforceError {}

impl From<LowerError> for EnforceError {
    fn from(error: LowerError) -> Self {
        Self::Lower(error)
    }
}

impl From<LoadError> for EnforceError {
    fn from(error: LoadError) -> Self {
        Self::Load(error)
    }
}

/// What happened to packets without a decision of policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Dropped: nobody is bound to the interface, or, on a node with services, to the one that the packet came in by.
    UnknownInterface,
    /// Dropped: the packet is not what it says it is, or too short.
    Malformed,
    /// Dropped: a fragment whose first did not come before it or was denied, or one that could hide ports.
    Fragment,
    /// Dropped: the address is not one of the workload's.
    Address,
    /// Dropped: neither IP nor ARP.
    Ethertype,
    /// An event that was not sent, because there were too many.
    LostEvent,
    /// Passed: the flow was allowed before.
    Established,
    /// Passed: from the node itself, from a workload to itself, or to be decided where it leaves or is delivered.
    Exempt,
    /// Dropped: from a workload to the node itself, as
    /// [`Options::with_workload_to_host`](crate::Options::with_workload_to_host) says.
    WorkloadToHost,
    /// Dropped: on a node with services, on its way while addresses got other classes. It comes through when it is sent again.
    Stale,
    /// Dropped: an untracked rule allowed it to the node itself, and pre-DNAT policy does not allow it to where destination NAT
    /// took it.
    Confined,
}

impl Reason {
    /// All of them, in the order of `bpf/layout.h`.
    pub const ALL: [Self; 11] = [
        Self::UnknownInterface,
        Self::Malformed,
        Self::Fragment,
        Self::Address,
        Self::Ethertype,
        Self::LostEvent,
        Self::Established,
        Self::Exempt,
        Self::WorkloadToHost,
        Self::Stale,
        Self::Confined,
    ];
}

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes of them, with their Ethernet headers.
    pub bytes: u64,
}

impl From<[u64; 2]> for Counter {
    fn from([packets, bytes]: [u64; 2]) -> Self {
        Self { packets, bytes }
    }
}

impl Enforcer {
    /// Enforces `snapshot` for the endpoints of `bindings`, in place of whatever an earlier process left in `pins`, a folder
    /// in a BPF file system, for example `/sys/fs/bpf/portcullis`.
    ///
    /// # Errors
    /// When it does not fit, the machine cannot do it, or an interface is not there. Interfaces that were not reached yet
    /// keep what they had.
    pub fn start(
        options: Options,
        pins: &Path,
        snapshot: &Snapshot,
        bindings: &Bindings,
    ) -> Result<Self, EnforceError> {
        let (lowering, update) = Lowering::load(options, snapshot, bindings)?;
        let pins = Pins::open(pins)?;
        let capacity = *lowering.options().capacity();
        let flows = [
            ("flows_v4", pins.flows("flows_v4", capacity.flows_v4)),
            ("flows_v6", pins.flows("flows_v6", capacity.flows_v6)),
        ];
        let marks = !lowering.options().services.is_empty();
        let epoch = if marks { Some(Epoch::next(pins.folder())?) } else { None };
        let parity = epoch.as_ref().map_or(0, |epoch| epoch.parity);
        let behaviour =
            Behaviour { track: 1, events: [EVENTS_A_SECOND; 2], epoch: parity, ..Behaviour::PLAIN };
        let mut shared = flows.to_vec();
        shared.extend(epoch.as_ref().map(|epoch| ("phase", epoch.fresh.clone())));
        let mut ebpf = object::load(lowering.options(), behaviour, &shared)?;
        let memory = Memory::of(&ebpf)?;
        let mut flow_tables = Flows::open(&mut ebpf)?;
        let mut maps = Maps::open(&mut ebpf)?;
        maps.carry_out(&update)?;
        let flow_pins = flows.map(|(_, path)| path);
        let earlier = pins.earlier_flows(&flow_pins)?;
        let mut copied = Copied::default();
        flow_tables.carry_over(&earlier, &mut copied)?;
        let events = take(&mut ebpf, "events")?;
        let reasons = take(&mut ebpf, "reasons")?;
        let attached = BTreeMap::new();
        let attachment = attach::attachment(lowering.options().attachment());
        let mut enforcer = Self {
            pins,
            ebpf,
            maps,
            events,
            reasons,
            flows: flow_tables,
            memory,
            lowering,
            attached,
            attachment,
        };
        // What interfaces leave open is decided from here on.
        let guard = cgroup::guard(&mut enforcer.ebpf, enforcer.pins.folder(), enforcer.lowering.options())?;
        if let Some(epoch) = &epoch {
            epoch.begin()?;
        }
        enforcer.attach(bindings)?;
        enforcer.detach(bindings)?;
        if !earlier.is_empty() {
            // What the programs before noted after the first copy, to the last packet.
            enforcer.maps.wait()?;
            enforcer.flows.carry_over(&earlier, &mut copied)?;
        }
        cgroup::keep(enforcer.pins.folder(), guard.as_deref())?;
        Epoch::keep(enforcer.pins.folder(), epoch.as_ref())?;
        enforcer.pins.keep_flows(&flow_pins)?;
        Ok(enforcer)
    }

    /// Follows `delta`, which leads to `snapshot`, and changed bindings.
    ///
    /// # Errors
    /// When it does not fit: nothing changed. Or when the kernel refuses; then start again.
    pub fn update(
        &mut self,
        snapshot: &Snapshot,
        delta: &Delta,
        bindings: &Bindings,
    ) -> Result<(), EnforceError> {
        let update = self.lowering.update(snapshot, delta, bindings)?;
        // An interface that nobody is bound to yet lets nothing pass, nor one that the programs are not made for.
        self.attach(bindings)?;
        self.maps.carry_out(&update)?;
        self.detach(bindings)?;
        Ok(())
    }

    /// Does what updates left for later; see [`Lowering::settle`].
    ///
    /// # Errors
    /// When the kernel refuses; then start again.
    pub fn settle(&mut self) -> Result<(), EnforceError> {
        let update = self.lowering.settle();
        Ok(self.maps.carry_out(&update)?)
    }

    /// Cuts the flows that `old` allowed and `new`, which is in force by now, denies; others go on (decision D16). How many
    /// entries of the flow tables that were: a flow between two workloads of this node has one at each.
    ///
    /// Policy is asked again about the first packet of each flow, at the interface that noted it. A TCP or SCTP flow that was
    /// cut stays so until it is opened anew; of others, what an end sends on that may begin such a flow is a new one. Left
    /// alone is what policy did not decide, and what cannot be known: flows from
    /// the node itself or behind its source NAT to a workload; of flows to [services](Options::with_services), the entry with
    /// the service's address, but not the one with the backend's. The code of ICMP is taken to be 0. At host endpoints,
    /// flows that begin with an address of the node are asked about as the node's own.
    ///
    /// # Errors
    /// When the kernel cannot be asked. Some flows may be cut then, and others not.
    pub fn cut_tightened(&mut self, old: &Snapshot, new: &Snapshot) -> Result<usize, EnforceError> {
        let tightened = Tightened::new(self.lowering.options(), self.lowering.bindings(), old, new);
        Ok(self.flows.cut(|flow| tightened.contains(flow))?)
    }

    /// The bytes of each map, as the kernel accounts them now. The kernel before Linux 6.4 tells an estimate.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn memory(&self) -> Result<BTreeMap<String, u64>, EnforceError> {
        Ok(self.memory.bytes()?)
    }

    /// What each decision counted, by its number. Packets of flows that were allowed before are not counted here.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn counters(&self) -> Result<BTreeMap<u32, (DecisionEntry, Counter)>, EnforceError> {
        let mut counters = BTreeMap::new();
        for (number, decision) in self.lowering.decisions() {
            counters.insert(number, (decision.clone(), self.maps.counter(number)?.into()));
        }
        Ok(counters)
    }

    /// What happened to packets without a decision of policy.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn reasons(&self) -> Result<BTreeMap<Reason, Counter>, EnforceError> {
        let mut counters = BTreeMap::new();
        for (number, reason) in (0..).zip(Reason::ALL) {
            let values = self.reasons.get(&number, 0).map_err(|error| LoadError::new("reasons", &error))?;
            counters.insert(reason, sum(&values).into());
        }
        Ok(counters)
    }

    /// The next event that waits, if any.
    pub fn next_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = Event::read(&self.events.next()?) {
                return Some(event);
            }
        }
    }

    /// The decision that an event names. `None` when it is not used any more: ask before the update that drops it.
    #[must_use]
    pub fn decision(&self, number: u32) -> Option<&DecisionEntry> {
        self.lowering.decision(number)
    }

    /// How the programs got onto the interfaces: [`Attachment::Tcx`] or [`Attachment::Clsact`].
    #[must_use]
    pub const fn attachment(&self) -> Attachment {
        self.attachment
    }

    /// Takes the programs off all interfaces and leaves nothing behind. A clsact qdisc that others use by now stays.
    ///
    /// # Errors
    /// When a pin cannot be removed.
    pub fn remove(self) -> Result<(), EnforceError> {
        Ok(self.pins.remove()?)
    }

    fn attach(&mut self, bindings: &Bindings) -> Result<(), LoadError> {
        for binding in bindings.values() {
            let is_host = binding.is_of_host();
            for interface in binding.interfaces() {
                if self.attached.get(interface) != Some(&is_host) {
                    self.pins.attach(&mut self.ebpf, *interface, binding, self.attachment)?;
                    self.attached.insert(*interface, is_host);
                }
            }
        }
        Ok(())
    }

    fn detach(&mut self, bindings: &Bindings) -> Result<(), LoadError> {
        let kept: BTreeSet<u32> = bindings.values().flat_map(Binding::interfaces).copied().collect();
        self.pins.detach_but(|interface| kept.contains(&interface))?;
        self.attached.retain(|interface, _| kept.contains(interface));
        Ok(())
    }
}

/// On each CPU, and at once.
const EVENTS_A_SECOND: u32 = 1_000;
