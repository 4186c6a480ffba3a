//! From snapshots and deltas to updates of the table. Pure.

mod addresses;
pub(crate) mod base_chain;
pub(crate) mod base_chains;
pub(crate) mod base_names;
mod claims;
pub(crate) mod decision_chains;
mod decision_tree;
pub(crate) mod discovery;
mod dispatch_maps;
pub(crate) mod interned;
mod l4_chains;
mod lowering;
mod names;
mod peer_sets;
mod program_chains;
mod ranges;
pub(crate) mod state;
mod transaction;

pub use lowering::Lowering;

#[cfg(test)]
#[expect(clippy::std_instead_of_core, clippy::std_instead_of_alloc, reason = "tests have std")]
mod tests;
