//! The table kept as it should be: loaded, updated, watched, repaired, removed.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::ffi::c_int;
use core::time::Duration;
use std::time::Instant;

use portcullis_conntrack::{Conntrack, Flow};
use portcullis_core::backend::{
    Applied, Counter, Dataplane, DataplaneError, DataplaneOptions, DesiredState, Event, Health, Lower as _,
    LowerErrorKind, TrackedAt, TrackedFlow, Usage,
};
use portcullis_core::ir::{DecisionEntry, Delta};
use portcullis_core::label::Name;

use crate::apply::drift::{self, Drift};
use crate::apply::ended::{EndedFlows, Noted};
use crate::apply::event::{self, Told};
use crate::apply::halt::Halt;
use crate::apply::ipvs;
use crate::apply::lost::{Came, EventCounts, LostEvents};
use crate::apply::masters::Masters;
use crate::apply::netlink::{Events, LogMessage, Netlink, Watch};
use crate::apply::retired::{RetiredDecisions, sum};
use crate::apply::transport::{ApplyError, Transport as _, both};
use crate::command::Command;
use crate::lower::Lowering;
use crate::lower::base_chains;
use crate::lower::base_names::BaseNames;
use crate::lower::decision_chains::HookKind;
use crate::lower::interned::Meaning;
use crate::options::Options;

/// Enforces snapshots in the network namespace of the thread that made it.
///
/// A load or update takes effect as a whole. When the kernel refuses, or the process ends half-way, every packet gets,
/// at each hook, its old or its new decision, and the next load puts the rest right. Dropping it leaves the table in force; see
/// [`Dataplane::remove`].
///
/// Events come by the nflog group of the options, which takes one listener. When another program listens, policy is
/// enforced all the same, and [`Dataplane::next_event`] fails and tries again each time it is called. Decisions of retired
/// policies are remembered for their events: the latest 2,048 of them, or as many as the table has if
/// that is more. Their last counts wait until they are read, those of 8,192 at most.
#[derive(Debug)]
pub struct Enforcer {
    pub(super) options: Options,
    pub(super) table: Name,
    pub(super) netlink: Netlink,
    pub(super) watch: Watch,
    conntrack: Conntrack,
    lowering: Option<Lowering>,
    /// Whether the kernel may hold something else than `lowering` says, because it refused a part of an update.
    is_behind: bool,
    /// The number that a generated name ended in last, whether or not it is still there.
    last_number: u64,
    /// The kernel's generation after our last batch; `None` once others changed nf_tables.
    pub(super) generation: Option<u32>,
    /// Whether others changed the table since it was last compared or loaded.
    pub(super) is_touched: bool,
    /// Whether others may have, because more was told than the watch holds.
    pub(super) is_unsure: bool,
    /// How often the whole table was read to be compared.
    #[cfg(test)]
    reads: usize,
    retired: RetiredDecisions,
    ended: EndedFlows,
    masters: Masters,
    /// Opened together with `netlink` and `conntrack`, so that all are of one network namespace.
    events: Events,
    lost: LostEvents,
}

impl Enforcer {
    /// Opens netlink and asks the kernel for everything that tables need. Changes nothing.
    ///
    /// # Errors
    /// When rights or kernel features are missing.
    pub fn open(options: Options) -> Result<Self, DataplaneError> {
        options.check()?;
        let mut netlink = Netlink::open()?;
        netlink.probe(&options.families())?;
        let watch = Watch::open(netlink.address()?)?;
        let events = Events::open()?;
        Ok(Self {
            table: options.shared.name.clone(),
            options,
            netlink,
            watch,
            conntrack: Conntrack::open().map_err(|error| ApplyError::tracking(&error))?,
            lowering: None,
            is_behind: false,
            last_number: 0,
            generation: None,
            is_touched: false,
            is_unsure: false,
            #[cfg(test)]
            reads: 0,
            retired: RetiredDecisions::default(),
            ended: EndedFlows::default(),
            masters: Masters::open()?,
            events,
            lost: LostEvents::default(),
        })
    }

    /// Compares the table with the one that was written. The kernel tells when others change it, so that this costs next to nothing
    /// until then. After that, everything is read: names, places, rules, elements.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn drift(&mut self) -> Result<Drift, DataplaneError> {
        self.listen_to_others()?;
        let Some(lowering) = &self.lowering else { return Err(DataplaneError::not_loaded()) };
        if !self.is_touched && !self.is_unsure {
            return Ok(Drift::None);
        }
        #[cfg(test)]
        {
            self.reads = self.reads.saturating_add(1);
        }
        let drift = drift::compare(&mut self.netlink, &self.table, &lowering.state.expected(), &self.ended)?;
        if drift == Drift::None {
            // It was put back, or not changed.
            (self.is_touched, self.is_unsure) = (false, false);
        }
        Ok(drift)
    }

    /// Writes down the flows that are about to be ended, so that no packet of their other end begins them again.
    fn keep_ended(&mut self, flows: &[Flow]) -> Result<(), DataplaneError> {
        let shared = &self.options.shared;
        if self.lowering.is_none() || flows.is_empty() {
            return Ok(());
        }
        let noted = self.ended.note(flows, shared.ended, shared.tcp_idle_seconds, Instant::now());
        match self.write_ended(noted) {
            Ok(()) => Ok(()),
            Err(halt) => {
                // The sets may not be what they should be; a load writes them again.
                self.is_behind = true;
                Err(halt.into_error())
            }
        }
    }

    fn write_ended(&mut self, Noted { commands, renewals }: Noted) -> Result<(), Halt> {
        self.commit(&commands)?;
        let all: Vec<Command> = renewals.iter().flatten().cloned().collect();
        if all.is_empty() || self.commit(&all).is_ok() {
            return Ok(());
        }
        // The time of some is over.
        for renewal in renewals {
            if self.commit(&renewal).is_err() {
                let [_, add] = renewal;
                self.commit(&[add])?;
            }
        }
        Ok(())
    }

    #[cfg(all(test, feature = "oracle"))]
    pub(super) fn limit(&mut self, limits: crate::Limits) {
        self.options.limits = limits;
        self.lowering.iter_mut().for_each(|lowering| lowering.limit(limits));
    }

    /// [`Enforcer::drift`], whether or not others were heard.
    #[cfg(all(test, feature = "oracle"))]
    pub(super) fn read_back(&mut self) -> Drift {
        self.is_unsure = true;
        self.drift().unwrap_or_else(|error| Drift::Stray(error.to_string().as_str().into()))
    }

    /// As a new process is: it knows nothing of what is in force.
    #[cfg(all(test, feature = "oracle"))]
    pub(super) fn forget_for_test(&mut self) {
        let options = self.options.clone();
        // A group of events has one listener.
        drop(self.events.stop(self.options.log_group()));
        if let Ok(fresh) = Self::open(options) {
            *self = fresh;
        }
    }

    /// How often the whole table was read.
    #[cfg(all(test, feature = "oracle"))]
    pub(super) const fn reads_for_test(&self) -> usize {
        self.reads
    }

    #[cfg(all(test, feature = "oracle"))]
    pub(super) const fn watched(&self) -> &Watch {
        &self.watch
    }

    #[cfg(all(test, feature = "oracle"))]
    pub(super) fn retired(&self) -> [usize; 5] {
        self.retired.sizes()
    }

    #[cfg(all(test, feature = "oracle"))]
    pub(super) fn lowered(&self) -> u64 {
        self.lowering.as_ref().map_or(0, portcullis_core::backend::Lower::generation)
    }

    /// What a log message says.
    fn resolve(&self, message: &LogMessage) -> Told {
        event::resolve(message, self.meaning(message.chain()), self.options.shared.inspected)
    }

    /// The events that came and that nobody read yet.
    fn waiting(&mut self) -> Result<Came, DataplaneError> {
        let messages: Vec<LogMessage> = self.events.waiting()?.cloned().collect();
        let mut waiting = Came::default();
        for message in messages.iter().filter(|message| matches!(self.resolve(message), Told::Event(_))) {
            waiting.one(message.interface());
        }
        Ok(waiting)
    }

    /// How many packets asked for an event.
    fn asked_in_all(&mut self) -> Result<u64, DataplaneError> {
        let name = Name::from(base_chains::EVENTS);
        let counted = self.netlink.some_counters(&self.table, [&name])?;
        Ok(counted.get(&name).map_or(0, |counter| counter.packets))
    }

    /// The same, and by interface.
    fn asked(&mut self) -> Result<EventCounts, DataplaneError> {
        let (budgets, _) = BaseNames::event_budgets();
        let by_interface = self.netlink.budgets(&self.table, &budgets)?;
        Ok(EventCounts { all: self.asked_in_all()?, by_interface })
    }

    /// The decision that the chain called `name` stands for, also when the chain is gone.
    pub(super) fn meaning(&self, name: &str) -> Option<&Meaning> {
        self.lowering
            .as_ref()
            .and_then(|lowering| lowering.meaning().get(name))
            .or_else(|| self.retired.find(name))
    }
}

impl Enforcer {
    /// Brings all of `desired` in force, from whatever the table holds now. What was counted and lost before goes on.
    fn replace(&mut self, desired: DesiredState<'_>) -> Result<Applied, DataplaneError> {
        let mut attempts = 1..LOADS;
        loop {
            match self.load_once(desired) {
                Ok(()) => break,
                Err(Halt::Again(_)) if attempts.next().is_some() => {}
                Err(halt) => return Err(halt.into_error()),
            }
        }
        self.masters.forget();
        Ok(self.masters.applied(desired.bindings, true))
    }

    fn load_once(&mut self, desired: DesiredState<'_>) -> Result<(), Halt> {
        self.listen_to_others()?;
        // All that others did until here is about to be put right.
        let was_touched = self.is_touched || self.is_unsure || self.is_behind;
        (self.is_touched, self.is_unsure) = (false, false);
        let mut existing = self.netlink.existing(&self.table)?;
        existing.last_number = self.last_number;
        let (lowering, mut update) = Lowering::load(self.options.clone(), desired, &existing)
            .map_err(DataplaneError::from)
            .inspect_err(|_| self.is_touched |= was_touched)?;
        if let Some(first) = update.stages.first_mut().filter(|_| was_touched) {
            // The sets are made in the first stage, where they are not there.
            let seconds = self.options.shared.tcp_idle_seconds;
            first.commands.extend(self.ended.again(seconds, Instant::now()));
        }
        self.last_number = self.last_number.max(lowering.last_number());
        let owned = |(name, meaning): (&Name, &Meaning)| (name.clone(), meaning.clone());
        // The first packet may send an event. Policy is worth more than its events: without them it is in force all the
        // same, see `next_event`.
        drop(self.events.listen(self.options.log_group()));
        let counted = match self.carry_out(&update) {
            Ok(counted) => counted,
            Err(halt) => {
                self.undo(&update, &existing);
                // Packets may have met the new chains already.
                self.retired.note(lowering.meaning().iter().map(owned));
                self.retired.trim(lowering.meaning().len());
                self.is_behind = self.lowering.is_some();
                return Err(halt);
            }
        };
        if let Some(former) = &self.lowering {
            self.retired.note(former.meaning().iter().map(owned));
        }
        self.retired.count(counted, lowering.meaning());
        let former = self.lowering.as_ref().map_or(0, |former| former.meaning().len());
        self.retired.trim(former.max(lowering.meaning().len()));
        self.lowering = Some(lowering);
        self.is_behind = false;
        Ok(())
    }
}

impl Dataplane for Enforcer {
    fn name(&self) -> &'static str {
        "nftables"
    }

    fn options(&self) -> &DataplaneOptions {
        &self.options.shared
    }

    /// Packets are only hooked once all is there.
    fn load(&mut self, desired: DesiredState<'_>) -> Result<Applied, DataplaneError> {
        let mut applied = self.replace(desired)?;
        applied.warnings.extend(ipvs::warning());
        // What comes in between is known to both, so none is counted as lost that is not.
        if let (Ok(unread), Ok(asked)) = (self.waiting(), self.asked()) {
            self.lost = LostEvents::begin(asked, unread);
        }
        Ok(applied)
    }

    fn update(&mut self, desired: DesiredState<'_>, delta: &Delta) -> Result<Applied, DataplaneError> {
        if self.lowering.is_none() {
            return Err(DataplaneError::not_loaded());
        }
        self.listen_to_others()?;
        // What others did to the table is repaired by a load. Where that is not certain, the table is read.
        if self.is_behind || self.is_touched || (self.is_unsure && self.drift()? != Drift::None) {
            return self.replace(desired);
        }
        let Some(lowering) = &mut self.lowering else { return Err(DataplaneError::not_loaded()) };
        let rebound = lowering.bindings() != desired.bindings;
        let mut update = match lowering.update(desired, delta) {
            Ok(update) => update,
            Err(error) if matches!(error.kind(), LowerErrorKind::Generation { .. }) => {
                return self.replace(desired);
            }
            Err(error) => return Err(error.into()),
        };
        self.last_number = self.last_number.max(lowering.last_number());
        self.retired.note(core::mem::take(&mut update.retired));
        match self.carry_out(&update) {
            Ok(counted) => {
                if let Some(lowering) = &self.lowering {
                    self.retired.count(counted, lowering.meaning());
                    self.retired.trim(lowering.meaning().len());
                }
                Ok(self.masters.applied(desired.bindings, rebound))
            }
            // The table differs from the one that was written.
            Err(halt) => {
                self.is_behind = true;
                self.replace(desired).map_err(|second| both(halt.into_error(), second))
            }
        }
    }

    /// Costs next to nothing as long as nobody else changed the table and no interface changed, see [`Enforcer::drift`]. Once an
    /// interface changed, all are read, because it may have become a port of a bridge.
    fn maintain(&mut self, desired: DesiredState<'_>) -> Result<Health, DataplaneError> {
        if self.watch.links()? {
            self.masters.forget();
        }
        let mut health = Health::default();
        let Some(lowering) = &self.lowering else { return Err(DataplaneError::not_loaded()) };
        let is_desired =
            lowering.generation() == desired.snapshot.generation && lowering.bindings() == desired.bindings;
        match self.drift()? {
            Drift::None if is_desired && !self.is_behind => {
                health.applied = self.masters.applied(desired.bindings, false);
                return Ok(health);
            }
            Drift::None => {}
            Drift::Changed(name) | Drift::Stray(name) => health.repaired.push(name.as_str().to_owned()),
        }
        health.applied = self.replace(desired)?;
        Ok(health)
    }

    /// The counts of a decision at all hooks together. Staged decisions are not told.
    ///
    /// No decision, and so not here: packets of workloads without a binding, of endpoints that the snapshot does not know and of
    /// closed interfaces, which the table's counter `unknown` counts; packets to the host that
    /// [`WorkloadToHost::Drop`](portcullis_core::settings::WorkloadToHost::Drop) drops, counted by `workload_to_host`; and those that
    /// `forged` (another's source), `tunnels` (not from a node) and `ended` (of ended flows) count.
    fn counters(&mut self) -> Result<Vec<(Arc<DecisionEntry>, Counter)>, DataplaneError> {
        if self.lowering.is_none() {
            return Err(DataplaneError::not_loaded());
        }
        let counters = self.netlink.counters(&self.table)?;
        let of_decision = |(name, counter): (Name, Counter)| {
            let meaning = self.meaning(&name).filter(|meaning| meaning.hook_kind != HookKind::Staged)?;
            Some((Arc::clone(&meaning.decision), self.retired.with_carried(&name, counter)))
        };
        let mut all: Vec<_> = counters.into_iter().filter_map(of_decision).collect();
        all.extend(self.retired.take_untold());
        let mut merged: BTreeMap<Arc<DecisionEntry>, Counter> = BTreeMap::new();
        for (decision, counter) in all {
            let total = merged.entry(decision).or_default();
            *total = sum(*total, counter);
        }
        Ok(merged.into_iter().collect())
    }

    /// One event for each packet that a decision with Log rules, or one that the options name, was taken for.
    ///
    /// Packets that the counter `unknown` counts send one, too, with
    /// [`LoggedEvents::Denied`](portcullis_core::backend::LoggedEvents::Denied) or more; those that
    /// [`WorkloadToHost::Drop`](portcullis_core::settings::WorkloadToHost::Drop) drops send none.
    fn next_event(&mut self) -> Result<Option<Event>, DataplaneError> {
        self.events.listen(self.options.log_group())?;
        while let Some(message) = self.events.next(Duration::ZERO)? {
            if let Told::Event(event) = self.resolve(&message) {
                self.lost.told.one(message.interface());
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// The table counts what asked for an event; what of that did not come is lost. Those of chains that an earlier process
    /// made count as lost, too. When the kernel cannot be asked, the answer is the last one.
    fn lost_events(&mut self) -> u64 {
        match (self.asked_in_all(), self.waiting()) {
            (Ok(asked), Ok(waiting)) => self.lost.all(asked, &waiting),
            _ => self.lost.last(),
        }
    }

    /// The interface is that which a packet goes out by where a process of the host sent it. An interface is forgotten that
    /// asked for no event in an hour.
    fn lost_events_by_interface(&mut self) -> Vec<(u32, u64)> {
        let (Ok(asked), Ok(waiting)) = (self.asked(), self.waiting()) else { return Vec::new() };
        let mut lost = Vec::new();
        for (name, asked) in asked.by_interface {
            if let Ok(Some(index)) = self.masters.index(&name) {
                let count = self.lost.at(&name, index, asked, &waiting);
                lost.extend((count > 0).then_some((index, count)));
            }
        }
        lost
    }

    fn event_fd(&self) -> Option<c_int> {
        self.events.listens().then(|| self.events.fd())
    }

    /// Tells of changes of the table by others, and of every change of an interface. Changes of other tables make it readable as well,
    /// until the next call of [`Dataplane::maintain`] or [`Dataplane::update`].
    fn change_fd(&self) -> Option<c_int> {
        self.lowering.is_some().then(|| self.watch.fd())
    }

    fn terminate(&mut self, is_denied: &dyn Fn(&TrackedFlow) -> bool) -> Result<usize, DataplaneError> {
        let failed = |error| ApplyError::tracking(&error);
        let mut denied: Vec<Flow> = Vec::new();
        let find = |flow: Flow| {
            let tracked =
                TrackedFlow { packet: flow.translated(), arrived: flow.first.packet(), at: TrackedAt::Node };
            denied.extend(is_denied(&tracked).then_some(flow));
        };
        self.conntrack.list(find).map_err(failed)?;
        self.keep_ended(&denied)?;
        let mut ended: usize = 0;
        for flow in &denied {
            let was_there = self.conntrack.delete(flow).map_err(failed)?;
            ended = ended.saturating_add(usize::from(was_there));
        }
        Ok(ended)
    }

    fn usage(&mut self) -> Result<Vec<Usage>, DataplaneError> {
        let Some(lowering) = &self.lowering else { return Err(DataplaneError::not_loaded()) };
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let usage = |(name, limit, used)| Usage { name, used: number(used), limit: Some(number(limit)) };
        Ok(lowering.usage().map(usage).into())
    }

    /// Other tables are not touched.
    fn remove(&mut self) -> Result<(), DataplaneError> {
        let tables = self.netlink.existing(&self.table)?.tables;
        let removal = |family| [Command::AddTable(family), Command::DeleteTable(family)];
        self.netlink.commit(&self.table, &tables.into_iter().flat_map(removal).collect::<Vec<_>>())?;
        self.generation = None;
        if let Some(lowering) = self.lowering.take() {
            self.retired
                .note(lowering.meaning().iter().map(|(name, meaning)| (name.clone(), meaning.clone())));
            self.retired.trim(lowering.meaning().len());
        }
        self.is_behind = false;
        self.ended.forget();
        Ok(self.events.stop(self.options.log_group())?)
    }
}

/// How often a load begins anew while others change the table.
const LOADS: usize = 4;
