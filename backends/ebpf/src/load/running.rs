//! One loaded program with its maps, in force on interfaces.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::time::Duration;

use aya::Ebpf;
use aya::maps::{MapData, PerCpuArray};
use nix::time::{ClockId, clock_gettime};
use portcullis_core::backend::{
    Applied, Counter, DataplaneError, DesiredState, Health, Lower as _, Unreached,
};
use portcullis_core::ir::{DecisionEntry, Delta};

use crate::error::{Context as _, LoadError};
use crate::load::attach;
use crate::load::attachments::{Attachments, Touched};
use crate::load::cgroup;
use crate::load::decisions::Decisions;
use crate::load::events::Events;
use crate::load::flow_tables::{self, Copied, Earlier, FlowTables, SCTP_IDLE_SECONDS};
use crate::load::interfaces::{Resolved, There};
use crate::load::maps::{Maps, sum};
use crate::load::mark_generation::MarkGeneration;
use crate::load::memory::Memory;
use crate::load::object::{self, Behaviour};
use crate::load::older_flows::OlderFlows;
use crate::load::pins::{Pins, interface_of};
use crate::load::reason::Reason;
use crate::load::take_map::take;
use crate::lower::Lowering;
use crate::options::Options;
use crate::write::{Update, Write};

/// The program of one load.
pub(crate) struct Running {
    ebpf: Ebpf,
    maps: Maps,
    reasons: PerCpuArray<MapData, [u64; 2]>,
    pub(crate) events: Events,
    pub(crate) flows: FlowTables,
    pub(crate) memory: Memory,
    pub(crate) lowering: Lowering,
    pub(crate) decisions: Decisions,
    pub(crate) attachments: Attachments,
    kept: Kept,
    /// When cuts were looked through last, since the machine started.
    cuts_looked_at: Duration,
    /// Whether the maps are not what the lowering says, because the kernel refused something. Only another load helps.
    pub(crate) is_behind: bool,
}

/// How often cuts are looked through; each takes a system call.
const CUTS_LOOKED_AT_EVERY: Duration = Duration::from_mins(1);

/// The pins that stay beside those of interfaces. All others go, once they are of no use.
#[derive(Debug)]
struct Kept {
    flows: [String; 4],
    socket_guard: Option<String>,
    generation: Option<MarkGeneration>,
    /// Whether others are still there.
    is_alone: bool,
}

/// The kernel's coarse monotonic clock, by which the programs note times.
fn now() -> Result<Duration, LoadError> {
    clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map(Duration::from).context("the clock")
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl core::fmt::Debug for Running {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Running").field("attachments", &self.attachments).finish_non_exhaustive()
    }
}

impl Running {
    /// Loads the program into the kernel and puts it in the place of `earlier`, or of the program of an earlier process. When that
    /// fails, the one before is in force as before.
    pub(crate) fn start(
        options: &Options,
        pins: &mut Pins,
        desired: DesiredState<'_>,
        there: &There,
        mut earlier: Option<&mut Self>,
    ) -> Result<(Self, Applied), DataplaneError> {
        let resolved = Resolved::new(desired.bindings, there, &options.dataplane.workload_interfaces);
        let resolved_state = DesiredState::new(desired.snapshot, &resolved.bindings);
        let (lowering, update) = Lowering::load(options.clone(), resolved_state, &())?;
        // Programs that an earlier process left have noted all flows; where there are none, nobody has.
        let is_first = !pins.names().any(|name| interface_of(name).is_some());
        let mut warnings = flow_tables::set_aside_others(pins)?;
        let capacity = options.capacity();
        let tables = [
            ("flows_v4", capacity.flows_v4),
            ("flows_v6", capacity.flows_v6),
            ("cuts_v4", capacity.cuts),
            ("cuts_v6", capacity.cuts),
        ];
        let flow_pins = tables.map(|(map, entries)| flow_tables::pin_of(map, entries));
        let has_marks = !options.dataplane.services.is_empty();
        let generation = if has_marks { Some(MarkGeneration::next(pins, &mut warnings)?) } else { None };
        let mut shared: Vec<_> =
            tables.iter().zip(&flow_pins).map(|((map, _), pin)| (*map, pins.path(pin))).collect();
        if has_marks {
            shared.push(("active_buffer", MarkGeneration::fresh(pins)));
        }
        let behaviour = Behaviour {
            track: 1,
            events: options.dataplane.events_per_second.max(1),
            mark_parity: generation.as_ref().map_or(0, |generation| generation.parity),
            ..Behaviour::PLAIN
        };
        let mut ebpf = object::load(object::OBJECT, options, behaviour, &shared)?;
        let memory = Memory::of(&ebpf)?;
        let mut running = Self {
            flows: FlowTables::open(&mut ebpf)?,
            maps: Maps::open(&mut ebpf)?,
            events: Events::new(take(&mut ebpf, "events")?, capacity.event_bytes)?,
            reasons: take(&mut ebpf, "reasons")?,
            ebpf,
            memory,
            lowering,
            decisions: Decisions::default(),
            attachments: Attachments::none_yet(attach::attach_mode(options.attach_mode())),
            kept: Kept { flows: flow_pins, socket_guard: None, generation, is_alone: false },
            cuts_looked_at: Duration::ZERO,
            is_behind: false,
        };
        flow_tables::note(pins, &running.kept.flows);
        running.carry_out(&update)?;
        let mut touched = Touched::default();
        let none_yet = is_first.then(|| OlderFlows::none_yet(&resolved.bindings, options));
        let older = none_yet.and_then(|older| running.take_over_older(older, &mut warnings));
        match running.begin(pins, &resolved, &mut touched) {
            Ok(mut unreached) => {
                // Flows that began until the last interface was guarded.
                older.and_then(|older| running.take_over_older(older, &mut warnings));
                // The new state is in force. What cannot be read of the one before is lost, and leftovers that cannot be removed
                // now are removed by the next `maintain`.
                drop(running.tidy(pins));
                drop(running.take_stock());
                if let Some(earlier) = &mut earlier {
                    running.take_over(earlier);
                }
                unreached.extend(resolved.unreached);
                unreached.sort();
                let mut applied = Applied::but_for(unreached);
                applied.warnings = warnings;
                Ok((running, applied))
            }
            Err(error) => {
                running.give_up(pins, &mut touched, earlier);
                Err(error.into())
            }
        }
    }

    /// Takes over flows that are older than the programs, but for those that were before. Where that is not possible, they are
    /// decided anew, and nothing comes back.
    fn take_over_older(&mut self, mut older: OlderFlows, warnings: &mut Vec<String>) -> Option<OlderFlows> {
        match now().and_then(|now| older.take_over(&mut self.flows, nanoseconds(now))) {
            Ok(0) => {}
            Ok(left_out) => warnings.push(format!(
                "{left_out} connections that are older than this load have no room in the flow tables and are decided anew"
            )),
            Err(error) => {
                warnings.push(format!("connections that are older than this load are decided anew: {error}"));
                return None;
            }
        }
        Some(older)
    }

    /// Attaches everything, in place of what is there.
    fn begin(
        &mut self,
        pins: &mut Pins,
        resolved: &Resolved<'_>,
        touched: &mut Touched,
    ) -> Result<Vec<Unreached>, LoadError> {
        let earlier: Vec<Earlier> = flow_tables::pinned_beside(pins, &self.kept.flows);
        let mut copied = Copied::default();
        self.flows.carry_over(&earlier, &mut copied)?;
        // What interfaces leave open is decided at sockets from here on.
        self.kept.socket_guard = cgroup::guard(&mut self.ebpf, pins, self.lowering.options())?;
        if let Some(generation) = &self.kept.generation {
            generation.begin(pins)?;
        }
        let unreached = self.attachments.attach(&mut self.ebpf, pins, resolved, touched)?;
        if !earlier.is_empty() {
            // What the programs before noted after the first copy, to the last packet.
            self.maps.wait_for_grace_period()?;
            self.flows.carry_over(&earlier, &mut copied)?;
        }
        // Last, because an interface without programs is open.
        Attachments::detach_others(pins, resolved, touched)?;
        Ok(unreached)
    }

    /// Puts back what `touched` interfaces had: programs of `earlier`, of an earlier process, or none.
    fn give_up(&self, pins: &mut Pins, touched: &mut Touched, mut earlier: Option<&mut Self>) {
        let owner = earlier.as_mut().map(|earlier| (&mut earlier.attachments, &mut earlier.ebpf));
        // The error that led here is told. Where something cannot be put back, the new programs stay, with what they need, and the
        // next load puts that right.
        if Attachments::put_back(touched, pins, owner).is_ok() {
            let generation = self.kept.generation.as_ref().map(MarkGeneration::pin);
            for pin in self.kept.socket_guard.as_deref().into_iter().chain(generation) {
                drop(pins.unpin(pin));
            }
        }
        if let Some(earlier) = earlier {
            earlier.is_behind = true;
        }
    }

    /// Takes over what was counted and told but not read yet. What the kernel does not tell any more counts as zero.
    fn take_over(&mut self, earlier: &mut Self) {
        // Packets in flight count and tell as well.
        drop(self.maps.wait_for_grace_period());
        let counted = |number| Some((number, earlier.maps.counter(number).ok()?));
        let counted = earlier.decisions.numbers().filter_map(counted).collect();
        earlier.events.drain(&earlier.decisions);
        let lost = earlier.reason(Reason::LostEvent).unwrap_or_default();
        self.events.take_over(&mut earlier.events, lost);
        let is_used = |number| earlier.lowering.decision(number).is_some();
        self.decisions.take_over(core::mem::take(&mut earlier.decisions), &counted, is_used);
    }

    /// Forgets flows that were ended and are silent for so long that both ends gave up, now and then.
    fn forget_cuts(&mut self) -> Result<(), LoadError> {
        let now = now()?;
        if now.saturating_sub(self.cuts_looked_at) < CUTS_LOOKED_AT_EVERY {
            return Ok(());
        }
        self.cuts_looked_at = now;
        let idle = self.lowering.options().dataplane.tcp_idle_seconds.max(SCTP_IDLE_SECONDS);
        self.flows.forget_cuts(nanoseconds(now), nanoseconds(Duration::from_secs(idle.into())))
    }

    /// Tells the accounts of interfaces which flows they have already.
    fn take_stock(&mut self) -> Result<(), LoadError> {
        let held = self.flows.held()?;
        held.into_iter().try_for_each(|(interface, held)| self.maps.accounts.set_held(interface, held))
    }

    /// Drops what earlier loads left beside what this one uses. Called when no interface has a program of theirs any more.
    fn tidy(&mut self, pins: &mut Pins) -> Result<(), LoadError> {
        let generation = self.kept.generation.as_ref();
        if MarkGeneration::retire(pins, generation)? {
            // Packets that their programs see at this moment, too.
            self.maps.wait_for_grace_period()?;
        }
        cgroup::keep(pins, self.kept.socket_guard.as_deref())?;
        MarkGeneration::keep(pins, self.kept.generation.as_ref())?;
        flow_tables::keep(pins, &self.kept.flows)?;
        self.kept.is_alone = true;
        Ok(())
    }

    /// The generation that is in force.
    pub(crate) fn generation(&self) -> u64 {
        self.lowering.generation()
    }

    /// Follows `delta`. When that fails, the policy before is in force, or what of it and of this one makes each packet get
    /// its old or its new decision.
    pub(crate) fn update(
        &mut self,
        pins: &mut Pins,
        desired: DesiredState<'_>,
        delta: &Delta,
        there: &There,
        is_told: bool,
    ) -> Result<Vec<Unreached>, DataplaneError> {
        if is_told || self.attachments.look_is_due() {
            self.attachments.repair(&mut self.ebpf, pins)?;
        }
        let resolved = self.resolve(desired, there);
        let desired = DesiredState::new(desired.snapshot, &resolved.bindings);
        let update = self.lowering.update(desired, delta)?;
        self.bring_in_force(pins, &update, &resolved)
    }

    fn resolve<'a>(&self, desired: DesiredState<'a>, there: &There) -> Resolved<'a> {
        Resolved::new(desired.bindings, there, &self.lowering.options().dataplane.workload_interfaces)
    }

    /// Does what updates left for later, and puts right what others changed.
    pub(crate) fn maintain(
        &mut self,
        pins: &mut Pins,
        desired: DesiredState<'_>,
        there: &There,
    ) -> Result<Health, DataplaneError> {
        let mut health = Health::default();
        self.attachments.repair(&mut self.ebpf, pins)?;
        if let Some(guard) = &self.kept.socket_guard
            && !cgroup::is_attached(&mut self.ebpf, pins, guard)?
        {
            self.kept.socket_guard = cgroup::guard(&mut self.ebpf, pins, self.lowering.options())?;
            self.kept.is_alone = false;
            health.repaired.push("socket guard".to_owned());
        }
        let resolved = self.resolve(desired, there);
        let update = self.lowering.rebind(DesiredState::new(desired.snapshot, &resolved.bindings))?;
        health.applied.unreached = self.bring_in_force(pins, &update, &resolved)?;
        let update = self.lowering.quiesce();
        self.follow(&update)?;
        if !self.kept.is_alone {
            self.tidy(pins)?;
        }
        self.forget_cuts()?;
        self.attachments.detach_left(pins)?;
        health.repaired.splice(0..0, self.attachments.take_repaired());
        Ok(health)
    }

    fn bring_in_force(
        &mut self,
        pins: &mut Pins,
        update: &Update,
        resolved: &Resolved<'_>,
    ) -> Result<Vec<Unreached>, DataplaneError> {
        let mut touched = Touched::default();
        // An interface with programs lets nothing pass before its endpoint is written, nor one that they are not made for.
        let result = self
            .attachments
            .attach(&mut self.ebpf, pins, resolved, &mut touched)
            .and_then(|unreached| self.carry_out(update).map(|()| unreached));
        let mut unreached = match result {
            Ok(unreached) => unreached,
            Err(error) => {
                self.is_behind = true;
                self.attachments.undo(&mut self.ebpf, pins, &touched);
                return Err(error.into());
            }
        };
        self.attachments.leave_others(pins, resolved);
        unreached.extend(resolved.unreached.iter().cloned());
        unreached.sort();
        Ok(unreached)
    }

    /// Carries out the writes of an update that is lowered already.
    fn follow(&mut self, update: &Update) -> Result<(), LoadError> {
        let result = self.carry_out(update);
        self.is_behind |= result.is_err();
        result
    }

    fn carry_out(&mut self, update: &Update) -> Result<(), LoadError> {
        for write in update.writes() {
            let Write::Decision(number, decision) = write else {
                self.maps.write(write)?;
                continue;
            };
            let mut counted = Counter::default();
            if self.decisions.get(*number).is_some() {
                // The number was free through a grace period, so nothing is counted or sent for the decision before any more.
                self.events.drain(&self.decisions);
                counted = self.maps.counter(*number)?;
            }
            self.maps.write(write)?;
            self.decisions.replace(*number, Arc::clone(decision), counted);
        }
        Ok(())
    }

    /// Waits until every packet that is in flight has left the programs.
    pub(crate) fn wait_for_grace_period(&mut self) -> Result<(), LoadError> {
        self.maps.wait_for_grace_period()
    }

    /// What each decision counted that has a number.
    fn counted(&self) -> Result<BTreeMap<u32, Counter>, LoadError> {
        self.decisions.numbers().map(|number| Ok((number, self.maps.counter(number)?))).collect()
    }

    /// See [`Decisions::tell`].
    pub(crate) fn counters(&mut self) -> Result<Vec<(Arc<DecisionEntry>, Counter)>, LoadError> {
        let counted = self.counted()?;
        Ok(self.decisions.tell(&counted, |number| self.lowering.decision(number).is_some()))
    }

    /// How many packets there were for each reason.
    pub(crate) fn reasons(&self) -> Result<BTreeMap<Reason, u64>, LoadError> {
        Reason::ALL.into_iter().map(|reason| Ok((reason, self.reason(reason)?))).collect()
    }

    /// How many events each interface lost.
    pub(crate) fn lost_by_interface(&self) -> Result<BTreeMap<u32, u64>, LoadError> {
        self.maps.accounts.lost()
    }

    /// How many packets there were for a reason.
    pub(crate) fn reason(&self, reason: Reason) -> Result<u64, LoadError> {
        let number = Reason::ALL.iter().position(|other| *other == reason).unwrap_or_default();
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let [packets, _] = sum(&self.reasons.get(&number, 0).context("reasons")?);
        Ok(packets)
    }

    #[cfg(test)]
    pub(crate) const fn refuse_counters(&mut self) {
        self.maps.hides_counters = true;
    }

    #[cfg(test)]
    pub(crate) const fn refuse(&mut self, which: Option<fn(&Write) -> bool>) {
        self.maps.refused = which;
    }

    #[cfg(test)]
    pub(crate) fn refuse_after(&mut self, writes: Option<usize>) {
        self.maps.writes_left = writes;
    }
}
