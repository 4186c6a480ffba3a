//! The table kept as it should be: loaded, updated, watched, repaired, removed.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use core::ffi::c_int;
use core::time::Duration;

use portcullis_conntrack::{Conntrack, Flow};
use portcullis_core::backend::{
    Applied, Counter, Dataplane, DataplaneError, DataplaneErrorKind, DataplaneOptions, DesiredState, Event,
    Health, Lower as _, LowerErrorKind, TrackedAt, TrackedFlow, Usage,
};
use portcullis_core::ir::{DecisionEntry, Delta};
use portcullis_core::label::Name;

use crate::apply::ended::EndedFlows;
use crate::apply::event::{self, Told};
use crate::apply::ipvs;
use crate::apply::lost::{Came, EventCounts, LostEvents};
use crate::apply::masters::Masters;
use crate::apply::netlink::{Events, LogMessage, Netlink};
use crate::apply::retired::{RetiredDecisions, sum};
use crate::apply::transport::{ApplyError, Transport as _, both};
use crate::command::Command;
use crate::lower::Lowering;
use crate::lower::base_chains;
use crate::lower::base_names::BaseNames;
use crate::lower::decision_chains::HookKind;
use crate::lower::interned::Meaning;
use crate::options::Options;
use crate::update::{Existing, Stage, Update};

/// Enforces snapshots in the network namespace of the thread that made it.
///
/// A load or update takes effect as a whole. When the kernel refuses, or the process ends half-way, every packet gets,
/// at each hook, its old or its new decision, and the next load puts the rest right. Dropping it leaves the table in force; see
/// [`Dataplane::remove`].
///
/// Events come by the nflog group of the options, which takes one listener. When another program listens, policy is
/// enforced all the same, and [`Dataplane::next_event`] fails and tries again each time it is called. Decisions of retired
/// policies are remembered for their events and last counts: the latest 8,192 of them, or as many as the table has if
/// that is more.
#[derive(Debug)]
pub struct Enforcer {
    options: Options,
    pub(super) table: Name,
    netlink: Netlink,
    conntrack: Conntrack,
    lowering: Option<Lowering>,
    /// Whether the kernel may hold something else than `lowering` says, because it refused a part of an update.
    is_behind: bool,
    /// The number that a generated name ended in last, whether or not it is still there.
    last_number: u64,
    /// The kernel's generation after our last batch.
    generation: u32,
    /// Whether another program changed nf_tables since the table was last compared.
    unsure: bool,
    retired: RetiredDecisions,
    ended: EndedFlows,
    masters: Masters,
    /// Opened together with `netlink` and `conntrack`, so that all are of one network namespace.
    events: Events,
    lost: LostEvents,
}

/// How the table in the kernel differs from the table that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drift {
    /// Nothing that shows.
    None,
    /// An object is missing, or has other rules or elements: its name, or the table's when that is gone.
    Changed(Name),
    /// There is an object that is not ours.
    Stray(Name),
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
        let generation = netlink.generation()?;
        let events = Events::open()?;
        Ok(Self {
            table: options.shared.name.clone(),
            options,
            netlink,
            conntrack: Conntrack::open().map_err(|error| ApplyError::tracking(&error))?,
            lowering: None,
            is_behind: false,
            last_number: 0,
            generation,
            unsure: false,
            retired: RetiredDecisions::default(),
            ended: EndedFlows::default(),
            masters: Masters::open()?,
            events,
            lost: LostEvents::default(),
        })
    }

    /// Compares the table with the one that was written. Costs one question to the kernel as long as no program changed
    /// nf_tables; otherwise all names, numbers of rules and elements are compared. The content of a rule that was
    /// replaced by another rule is not.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn drift(&mut self) -> Result<Drift, DataplaneError> {
        let now = self.netlink.generation()?;
        let Some(lowering) = &self.lowering else { return Err(DataplaneError::not_loaded()) };
        if now == self.generation && !self.unsure {
            return Ok(Drift::None);
        }
        let (chains, sets, counters) = lowering.state.expected();
        let existing = self.netlink.existing(&self.table)?;
        if !lowering.state.families.is_subset(&existing.tables) {
            return Ok(Drift::Changed(self.table.clone()));
        }
        let rules = self.netlink.rules(&self.table)?;
        for (name, count) in &chains {
            if !existing.chains.contains(name) || rules.get(name).copied().unwrap_or(0) != *count {
                return Ok(Drift::Changed(name.clone()));
            }
        }
        for set in &sets {
            if !existing.sets.contains(&set.set) || !self.netlink.holds(&self.table, set)? {
                return Ok(Drift::Changed(set.set.clone()));
            }
        }
        if let Some(name) = counters.iter().find(|name| !existing.counters.contains(*name)) {
            return Ok(Drift::Changed(name.clone()));
        }
        let lasting: Vec<Name> = BaseNames::lasting().into_iter().map(|((name, _), _)| name).collect();
        if let Some(name) = lasting.iter().find(|name| !existing.sets.contains(*name)) {
            return Ok(Drift::Changed(name.clone()));
        }
        let ours = |name: &Name| lasting.contains(name) || sets.iter().any(|set| set.set == *name);
        let stray = existing.chains.iter().find(|name| !chains.contains_key(*name));
        let stray = stray.or_else(|| existing.sets.iter().find(|name| !ours(name)));
        if let Some(name) = stray {
            return Ok(Drift::Stray(name.clone()));
        }
        // Others changed tables of their own.
        self.generation = now;
        self.unsure = false;
        Ok(Drift::None)
    }

    /// Carries out the batches of `update` and returns the last values of the counters that it removes.
    fn carry_out(&mut self, update: &Update) -> Result<BTreeMap<Name, Counter>, DataplaneError> {
        let mut counted = BTreeMap::new();
        for stage in update.stages() {
            if stage.after_grace {
                std::thread::sleep(Stage::GRACE);
            }
            counted.extend(self.last_counts(stage)?);
            let mut attempts = 0..ATTEMPTS;
            // Mostly others change tables of their own, and the next look at ours finds nothing.
            while !self.netlink.commit_at(&self.table, &stage.commands, self.generation)? {
                if attempts.next().is_none() {
                    let reason = "others change nf_tables so often that no update gets through";
                    return Err(DataplaneError::new(DataplaneErrorKind::Contended, reason));
                }
                self.unsure = true;
                self.generation = self.netlink.generation()?;
            }
            let now = self.netlink.generation()?;
            self.unsure |= now != self.generation.wrapping_add(1);
            self.generation = now;
        }
        Ok(counted)
    }

    /// The values of the counters that `stage` removes. No packet reaches them any more.
    fn last_counts(&mut self, stage: &Stage) -> Result<BTreeMap<Name, Counter>, ApplyError> {
        let gone: Vec<&Name> = stage
            .commands
            .iter()
            .filter_map(|command| match command {
                Command::DeleteCounter(name) => Some(name),
                _ => None,
            })
            .collect();
        if gone.len() > ASKED_ONE_BY_ONE {
            let mut counters = self.netlink.counters(&self.table)?;
            let gone: BTreeSet<&Name> = gone.into_iter().collect();
            counters.retain(|name, _| gone.contains(name));
            return Ok(counters);
        }
        self.netlink.some_counters(&self.table, gone)
    }

    /// Takes back the new objects of a load that did not succeed. What cannot be taken back goes with the next load.
    fn undo(&mut self, update: &Update, existing: &Existing) {
        let mut new = Existing::default();
        let there = |command: &&Command| existing.tables.contains(&command.family());
        for command in update.stages().iter().flat_map(|stage| &stage.commands).filter(there) {
            match command {
                Command::AddChain(chain) if chain.hook.is_none() => {
                    new.chains.insert(chain.name.clone());
                }
                Command::AddSet(set) if !existing.sets.contains(&set.name) => {
                    new.sets.insert(set.name.clone());
                }
                Command::AddCounter(name) if !existing.counters.contains(name) => {
                    new.counters.insert(name.clone());
                }
                _ => {}
            }
        }
        let mut batch = new.removal();
        for family in self.options.families().difference(&existing.tables) {
            batch.extend([Command::AddTable(*family), Command::DeleteTable(*family)]);
        }
        drop(self.netlink.commit(&self.table, &batch));
    }

    /// Writes down the flows that are about to be ended, so that no packet of their other end begins them again.
    fn keep_ended(&mut self, flows: &[Flow]) -> Result<(), DataplaneError> {
        let shared = &self.options.shared;
        if self.lowering.is_none() || flows.is_empty() {
            return Ok(());
        }
        let mut update = Update::new(self.table.clone());
        update.push(false, self.ended.note(flows, shared.ended, shared.tcp_idle_seconds));
        match self.carry_out(&update) {
            Ok(_) => Ok(()),
            Err(error) => {
                // The sets are not what they should be; they are written again from nothing.
                self.ended.forget();
                self.is_behind = true;
                Err(error)
            }
        }
    }

    #[cfg(all(test, feature = "oracle"))]
    pub(super) fn limit(&mut self, limits: crate::Limits) {
        self.options.limits = limits;
        self.lowering.iter_mut().for_each(|lowering| lowering.limit(limits));
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
    /// Brings all of `desired` in force. What was counted and lost before goes on.
    fn replace(&mut self, desired: DesiredState<'_>) -> Result<Applied, DataplaneError> {
        self.masters.forget();
        self.masters.follow(desired.bindings)?;
        let mut existing = self.netlink.existing(&self.table)?;
        existing.last_number = self.last_number;
        if BaseNames::all_ended().iter().any(|(set, _)| !existing.sets.contains(set)) {
            self.ended.forget();
        }
        let (lowering, update) = Lowering::load(self.options.clone(), desired, &existing)?;
        self.last_number = self.last_number.max(lowering.last_number());
        let owned = |(name, meaning): (&Name, &Meaning)| (name.clone(), meaning.clone());
        // The first packet may send an event. Policy is worth more than its events: without them it is in force all the
        // same, see `next_event`.
        drop(self.events.listen(self.options.log_group()));
        let counted = match self.carry_out(&update) {
            Ok(counted) => counted,
            Err(error) => {
                self.undo(&update, &existing);
                // Packets may have met the new chains already.
                self.retired.note(lowering.meaning().iter().map(owned));
                self.retired.trim(lowering.meaning().len());
                self.is_behind = self.lowering.is_some();
                return Err(error);
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
        Ok(Applied::but_for(self.masters.unreached(desired.bindings)))
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
        // What others did to the table is repaired by a load.
        if self.is_behind || self.drift()? != Drift::None {
            return self.replace(desired);
        }
        let Some(lowering) = &mut self.lowering else { return Err(DataplaneError::not_loaded()) };
        if lowering.bindings() != desired.bindings {
            self.masters.follow(desired.bindings)?;
        }
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
                Ok(Applied::but_for(self.masters.unreached(desired.bindings)))
            }
            // The table differs from the one that was written.
            Err(first) => {
                self.is_behind = true;
                self.replace(desired).map_err(|second| both(first, second))
            }
        }
    }

    /// Costs one question to the kernel as long as no program changed nf_tables, see [`Enforcer::drift`], and one or two about each
    /// interface of a workload, which may have become a port of a bridge.
    fn maintain(&mut self, desired: DesiredState<'_>) -> Result<Health, DataplaneError> {
        let mut health = Health::default();
        let Some(lowering) = &self.lowering else { return Err(DataplaneError::not_loaded()) };
        let is_desired =
            lowering.generation() == desired.snapshot.generation && lowering.bindings() == desired.bindings;
        match self.drift()? {
            Drift::None if is_desired && !self.is_behind => {
                self.masters.forget();
                self.masters.follow(desired.bindings)?;
                health.applied = Applied::but_for(self.masters.unreached(desired.bindings));
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

/// Up to so many counters are asked for one by one, more are read with all others.
const ASKED_ONE_BY_ONE: usize = 64;

/// How often a batch is tried while others change nf_tables.
const ATTEMPTS: usize = 10;
