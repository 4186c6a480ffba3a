//! The table kept as it should be: loaded, updated, watched, repaired, removed.

use alloc::collections::BTreeMap;
use core::fmt;

use portcullis_core::ir::{DecisionEntry, Delta, Snapshot};
use portcullis_core::label::Name;

use crate::apply::{ApplyError, Counter, Transport as _};
use crate::binding::Bindings;
use crate::command::Command;
use crate::cut::Asked;
use crate::lowering::{LowerError, Lowering};
use crate::netlink::{Flow, Netlink};
use crate::options::Options;
use crate::update::{Existing, Stage, Update};

/// Enforces snapshots in the network namespace of the thread that made it.
///
/// A load or update takes effect as a whole. When the kernel refuses, or the process ends half-way, every packet gets,
/// at each hook, its old or its new decision, and the next load puts the rest right. Dropping it leaves the table in force; see
/// [`Enforcer::remove`].
#[derive(Debug)]
pub struct Enforcer {
    options: Options,
    table: Name,
    netlink: Netlink,
    lowering: Option<Lowering>,
    bindings: Bindings,
    /// The kernel's generation after our last batch.
    generation: u32,
    /// Whether somebody changed nf_tables since the table was last looked at.
    unsure: bool,
}

/// Why the table is not what was asked for. What was in force before still is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnforceError {
    /// The policy cannot be lowered or does not fit. The kernel was not asked.
    Lower(LowerError),
    /// The kernel refuses, or cannot be asked.
    Apply(ApplyError),
    /// Somebody else changes nf_tables all the time, so that no batch gets through.
    Contended,
    /// Nothing was loaded yet.
    NotLoaded,
}

impl fmt::Display for EnforceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lower(error) => error.fmt(f),
            Self::Apply(error) => error.fmt(f),
            Self::Contended => f.write_str("others change nf_tables so often that no update gets through"),
            Self::NotLoaded => f.write_str("no snapshot was loaded yet"),
        }
    }
}

impl core::error::Error for EnforceError {}

impl From<LowerError> for EnforceError {
    fn from(error: LowerError) -> Self {
        Self::Lower(error)
    }
}

impl From<ApplyError> for EnforceError {
    fn from(error: ApplyError) -> Self {
        Self::Apply(error)
    }
}

/// What somebody else did to the table.
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
    pub fn open(options: Options) -> Result<Self, EnforceError> {
        let mut netlink = Netlink::open()?;
        netlink.probe()?;
        let generation = netlink.generation()?;
        let table = options.table().into();
        Ok(Self {
            options,
            table,
            netlink,
            lowering: None,
            bindings: Bindings::new(),
            generation,
            unsure: false,
        })
    }

    /// Enforces `snapshot` for the endpoints of `bindings`, in place of whatever the table holds: also what an earlier
    /// process left. Packets are only hooked once all is there.
    ///
    /// # Errors
    /// When it does not fit or the kernel refuses; what was in force stays.
    pub fn load(&mut self, snapshot: &Snapshot, bindings: &Bindings) -> Result<(), EnforceError> {
        let existing = self.netlink.existing(&self.table)?;
        let (lowering, update) = Lowering::load(self.options.clone(), snapshot, bindings, &existing)?;
        if let Err(error) = self.carry_out(&update) {
            self.undo(&update, &existing);
            return Err(error);
        }
        self.lowering = Some(lowering);
        self.bindings.clone_from(bindings);
        Ok(())
    }

    /// Follows `delta`, which leads to `snapshot`. When the kernel refuses, because the table is not what it was left
    /// as, the whole snapshot is loaded.
    ///
    /// # Errors
    /// When that fails, too; what was in force stays.
    pub fn update(
        &mut self,
        snapshot: &Snapshot,
        delta: &Delta,
        bindings: &Bindings,
    ) -> Result<(), EnforceError> {
        let Some(lowering) = &mut self.lowering else { return Err(EnforceError::NotLoaded) };
        let update = match lowering.update(snapshot, delta, bindings) {
            Ok(update) => update,
            // What does not fit now would not fit from scratch; anything else is put right by a load.
            Err(error) if error.limit().is_some() => return Err(error.into()),
            Err(_) => return self.load(snapshot, bindings),
        };
        match self.carry_out(&update) {
            Ok(()) => {
                self.bindings.clone_from(bindings);
                Ok(())
            }
            Err(_) => self.load(snapshot, bindings),
        }
    }

    /// Looks whether the table is what it was left as. Costs one question as long as nobody changed anything in
    /// nf_tables; otherwise all names, numbers of rules and elements are compared. The content of a rule that somebody
    /// replaced by another is not.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn drift(&mut self) -> Result<Drift, EnforceError> {
        let now = self.netlink.generation()?;
        let Some(lowering) = &self.lowering else { return Err(EnforceError::NotLoaded) };
        if now == self.generation && !self.unsure {
            return Ok(Drift::None);
        }
        let (chains, sets, counters) = lowering.expected();
        let existing = self.netlink.existing(&self.table)?;
        if existing.is_empty() {
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
        let ours = |name: &Name| sets.iter().any(|set| set.set == *name);
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

    /// Removes the table and all in it. Other tables are not touched. No error when there is none.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove(mut self) -> Result<(), EnforceError> {
        self.netlink.commit(&self.table, &[Command::AddTable, Command::DeleteTable])?;
        Ok(())
    }

    /// What each decision counted, by the name of its chain, which is also in the events.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn counters(&mut self) -> Result<BTreeMap<Name, (DecisionEntry, Counter)>, EnforceError> {
        let Some(lowering) = &self.lowering else { return Err(EnforceError::NotLoaded) };
        let counters = self.netlink.counters(&self.table)?;
        let of_decision = |(name, counter): (Name, Counter)| {
            let decision = lowering.decision(&name)?.clone();
            Some((name, (decision, counter)))
        };
        Ok(counters.into_iter().filter_map(of_decision).collect())
    }

    /// The decision that a chain carries out, for the first word of an event's prefix. `None` when the chain is gone:
    /// ask before the update that removes it.
    #[must_use]
    pub fn decision(&self, chain: &str) -> Option<&DecisionEntry> {
        self.lowering.as_ref()?.decision(chain)
    }

    /// Makes connection tracking forget exactly those flows of workloads of this node that `old` allowed and `new` denies,
    /// so that their next packet is decided anew (decision D16). How many were forgotten. Asked are the workloads and
    /// the host endpoint for all interfaces; host endpoints of single interfaces are not, because connection tracking does not tell
    /// by which one a flow came.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn cut_tightened(&mut self, old: &Snapshot, new: &Snapshot) -> Result<usize, EnforceError> {
        let flows = self.netlink.flows()?;
        let (old, new) =
            (Asked::new(&self.options, &self.bindings, old), Asked::new(&self.options, &self.bindings, new));
        let is_cut = |flow: &Flow| {
            let allows = |asked: &Asked<'_>| asked.allows(&flow.packet, &flow.arrived);
            allows(&old) && !allows(&new)
        };
        let tightened: Vec<Flow> = flows.into_iter().filter(is_cut).collect();
        Ok(self.netlink.cut(&tightened)?)
    }

    /// Carries out the batches of `update`.
    fn carry_out(&mut self, update: &Update) -> Result<(), EnforceError> {
        for stage in update.stages() {
            if stage.after_grace {
                std::thread::sleep(Stage::GRACE);
            }
            let mut attempts = 0..ATTEMPTS;
            // Mostly others change tables of their own, and the next look at ours finds nothing.
            while !self.netlink.commit_at(&self.table, &stage.commands, self.generation)? {
                attempts.next().ok_or(EnforceError::Contended)?;
                self.unsure = true;
                self.generation = self.netlink.generation()?;
            }
            let now = self.netlink.generation()?;
            self.unsure |= now != self.generation.wrapping_add(1);
            self.generation = now;
        }
        Ok(())
    }

    /// Takes back the new objects of a load that did not succeed. What cannot be taken back goes with the next load.
    fn undo(&mut self, update: &Update, existing: &Existing) {
        let mut new = Existing::default();
        for command in update.stages().iter().flat_map(|stage| &stage.commands) {
            match command {
                Command::AddChain(chain) if chain.hook.is_none() => {
                    new.chains.insert(chain.name.clone());
                }
                Command::AddSet(set) => {
                    new.sets.insert(set.name.clone());
                }
                Command::AddCounter(name) if !existing.counters.contains(name) => {
                    new.counters.insert(name.clone());
                }
                _ => {}
            }
        }
        let batch =
            if existing.is_empty() { vec![Command::AddTable, Command::DeleteTable] } else { new.removal() };
        drop(self.netlink.commit(&self.table, &batch));
    }
}

/// How often a batch is tried while others change nf_tables.
const ATTEMPTS: usize = 10;
