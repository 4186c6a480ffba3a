//! Batches carried out on a table that others may change at the same time.

use alloc::collections::{BTreeMap, BTreeSet};

use portcullis_core::backend::{Counter, DataplaneError, DataplaneErrorKind};
use portcullis_core::label::Name;

use crate::apply::enforcer::Enforcer;
use crate::apply::halt::Halt;
use crate::apply::netlink::Outcome;
use crate::apply::transport::{ApplyError, Transport as _};
use crate::command::Command;
use crate::update::{Existing, Stage, Update};

impl Enforcer {
    /// Hears what others did since it was asked last.
    pub(super) fn listen_to_others(&mut self) -> Result<(), ApplyError> {
        let told = self.watch.tables(&self.table)?;
        self.is_touched |= told.of_table;
        self.is_unsure |= told.is_cut_short;
        if told.anything {
            self.generation = None;
        }
        Ok(())
    }

    /// Carries out the batches of `update` and returns the last values of the counters that it removes. Nobody else changed the
    /// table between its first batch and its last.
    pub(super) fn carry_out(&mut self, update: &Update) -> Result<BTreeMap<Name, Counter>, Halt> {
        let mut counted = BTreeMap::new();
        for stage in update.stages() {
            if stage.after_grace {
                std::thread::sleep(Stage::GRACE);
            }
            counted.extend(self.last_counts(stage)?);
            self.commit(&stage.commands)?;
        }
        // The kernel told of everything that came before our last batch.
        self.listen_to_others()?;
        if self.is_touched || self.is_unsure { Err(Halt::touched()) } else { Ok(counted) }
    }

    /// Carries out one batch. Mostly others change tables of their own, and nothing is told of ours.
    pub(super) fn commit(&mut self, batch: &[Command]) -> Result<(), Halt> {
        if batch.is_empty() {
            return Ok(());
        }
        for _ in 0..ATTEMPTS {
            let generation = match self.generation {
                Some(generation) => generation,
                None => self.netlink.generation()?,
            };
            self.generation = None;
            match self.netlink.commit_at(&self.table, batch, generation)? {
                Outcome::Done => {
                    self.generation = Some(next(generation));
                    return Ok(());
                }
                Outcome::Overtaken => {
                    self.listen_to_others()?;
                    if self.is_touched || self.is_unsure {
                        return Err(Halt::touched());
                    }
                }
                Outcome::Unknown(error) => return Err(Halt::Again(error.into())),
            }
        }
        let reason = "others change nf_tables so often that no update gets through";
        Err(DataplaneError::new(DataplaneErrorKind::Contended, reason).into())
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
    pub(super) fn undo(&mut self, update: &Update, existing: &Existing) {
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
        self.generation = None;
    }
}

/// The generation after a transaction. The kernel leaves out 0, which stands for any.
const fn next(generation: u32) -> u32 {
    match generation.wrapping_add(1) {
        0 => 1,
        next => next,
    }
}

/// Up to so many counters are asked for one by one, more are read with all others.
const ASKED_ONE_BY_ONE: usize = 64;

/// How often a batch is tried while others change nf_tables.
const ATTEMPTS: usize = 10;
