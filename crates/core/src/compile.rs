//! The incremental compiler: model objects in, [IR](crate::ir) deltas out.
//!
//! A [`Compiler`] keeps the tables of [`Snapshot`](crate::ir::Snapshot) up to date while objects come and go. Compiling from scratch is
//! applying everything once; there is no second path.
//!
//! How a change travels, in [`Compiler::commit`]:
//!
//! 1. Owners of addresses with equal labels are one *group*; selectors are evaluated once for a group.
//! 2. The policies that apply to a group, in order, are the key of its *programs*. Groups with equal keys share them.
//! 3. The rules of programs in use ask *questions* of addresses. Only these are answered: labels that no active rule
//!    mentions never split a class.
//! 4. The answers for a prefix, those of its owners and of the prefixes above it together, are its *class*.
//! 5. A program sees a class through a *projection* to the questions it asks itself, and has one cell for each pair
//!    of answers. New answers mean new cells; everything else stays.
//!
//! Every step touches only what the one before it changed, and equal results keep their ids, so an unrelated change
//! gives an empty [`Delta`](crate::ir::Delta).

mod addresses;
mod compiler;
mod fold;
mod groups;
mod idset;
mod intern;
mod labels;
mod owners;
mod policies;
mod preludes;
mod programs;
mod ranges;
mod rows;
mod rules;
mod selectors;
mod signature;
mod tables;

pub use compiler::{CompileScope, Compiler, UpdateError};
