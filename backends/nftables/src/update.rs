//! The commands for the kernel, in order.

use alloc::collections::BTreeSet;
use core::fmt;

use portcullis_core::label::Name;

use crate::command::{Command, Family};
use crate::lower::interned::Meaning;
use crate::text::text;

/// Batches that lead from one state of the table to the next. Each takes effect as a whole; between any two of them
/// every packet gets, at each hook, its old or its new decision.
///
/// Nothing is deleted in the batch that stops using it: a packet in flight keeps the old rules, but reads the new sets.
///
/// It prints itself as nft text, a blank line between batches. Loading the text of a whole snapshot with `nft -f` does
/// what a load does where there was no table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    pub(crate) table: Name,
    pub(crate) stages: Vec<Stage>,
    /// Decisions whose chains go.
    pub(crate) retired: Vec<(Name, Meaning)>,
}

/// One batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stage {
    /// Whether packets that were on their way before the batches so far must be done before this one: wait for
    /// [`Stage::GRACE`].
    pub(crate) after_grace: bool,
    /// What changes, in order.
    pub(crate) commands: Vec<Command>,
}

impl Stage {
    /// How long a packet may take through the table, with a wide margin.
    #[cfg_attr(not(feature = "apply"), allow(dead_code, reason = "only an enforcer uses it"))]
    pub(crate) const GRACE: core::time::Duration = core::time::Duration::from_millis(1);
}

impl Update {
    /// The batches as JSON for `nft -j -f`, one value for each.
    ///
    /// # Errors
    /// When the check of [neighbour claims](portcullis_core::backend::DataplaneOptions::with_check_neighbour_claims) is on, whose
    /// sets nft takes as text only. When the types of the crate `nftables` cannot be serialised, which would be a fault of it.
    #[cfg(feature = "nftables-json")]
    pub fn json(&self) -> Result<Vec<serde_json::Value>, portcullis_core::backend::LowerError> {
        self.stages.iter().map(|stage| crate::json::batch(&self.table, &stage.commands)).collect()
    }

    pub(crate) const fn new(table: Name) -> Self {
        Self { table, stages: Vec::new(), retired: Vec::new() }
    }

    /// The batches, in order.
    #[cfg_attr(not(feature = "apply"), allow(dead_code, reason = "only an enforcer uses it"))]
    pub(crate) fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// Adds a batch unless it is empty.
    pub(crate) fn push(&mut self, after_grace: bool, commands: Vec<Command>) {
        if !commands.is_empty() {
            self.stages.push(Stage { after_grace: after_grace && !self.stages.is_empty(), commands });
        }
    }
}

impl fmt::Display for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, stage) in self.stages.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&text(&self.table, &stage.commands))?;
        }
        Ok(())
    }
}

/// What the tables hold already: nothing, unless an enforcer has looked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Existing {
    /// The families that there are tables for.
    pub(crate) tables: BTreeSet<Family>,
    /// Their chains.
    pub(crate) chains: BTreeSet<Name>,
    /// Their named sets and maps.
    pub(crate) sets: BTreeSet<Name>,
    /// Their named counters.
    pub(crate) counters: BTreeSet<Name>,
    /// A number that names ended in before and are not to end in again; 0 for none.
    pub(crate) last_number: u64,
}

impl Existing {
    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.sets.is_empty() && self.counters.is_empty()
    }

    /// What removes all objects: rules first, maps before the chains that they lead to. Tables stay.
    pub(crate) fn removal(self) -> Vec<Command> {
        let mut commands: Vec<Command> = self.chains.iter().cloned().map(Command::FlushChain).collect();
        commands.extend(self.sets.into_iter().map(Command::DeleteSet));
        commands.extend(self.chains.into_iter().map(Command::DeleteChain));
        commands.extend(self.counters.into_iter().map(Command::DeleteCounter));
        commands
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.chains.iter().chain(&self.sets).chain(&self.counters).map(Name::as_str)
    }
}
