//! The incremental compiler: model objects in, [IR](crate::ir) deltas out.
//!
//! A [`Compiler`] keeps the tables of [`Snapshot`](crate::ir::Snapshot) up to date while objects come and go. Compiling from scratch is
//! applying everything once; there is no second path.
//!
//! How a change travels, in [`Compiler::commit`]:
//!
//! 1. Address owners (endpoints, network sets, nodes) with equal labels are one *group*; selectors are evaluated once
//!    for a group.
//! 2. The policies that apply to a group, in order, are the key of its *programs*. Groups with equal keys share them.
//! 3. The rules of programs in use are made of *predicates* on addresses. Only these are evaluated: labels that no
//!    active rule mentions never split a class.
//! 4. The predicates that hold for a prefix, those of its owners and of the prefixes above it together, are its
//!    *signature*. Prefixes of one signature are one *class*.
//! 5. A program sees a class through a *projection*: its signature, restricted to the predicates of the program. The
//!    program has one cell for each pair of restricted signatures. A new one means new cells; everything else stays.
//!
//! Every step touches only what the one before it changed, and equal results keep their ids, so an unrelated change
//! gives an empty [`Delta`](crate::ir::Delta).

mod addresses;
mod alternatives;
mod compiler;
mod decisions;
mod effort;
mod free_ids;
mod group_key;
mod groups;
mod ids;
mod idset;
mod intern;
mod l4_table;
mod l7_steps;
mod labels;
mod named_ports;
mod net_set;
mod owners;
mod policies;
mod preludes;
mod program_changes;
mod program_rules;
mod programs;
mod projections;
mod ranges;
mod rules;
mod selectors;
mod signature;
mod tables;

pub use compiler::{CompileScope, Compiler, Excess, Slots, UpdateError};
pub use effort::CompileLimits;
