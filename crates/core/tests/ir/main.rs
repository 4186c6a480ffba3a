//! The decision IR on random snapshots: verification, forms, differences.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a helper of a test fails by panicking")]

extern crate alloc;

mod before;
mod canonical;
mod diff;
mod form;
mod generate;
#[cfg(feature = "serde")]
mod serialise;
mod verify;

/// Random cases of each property.
const CASES: u64 = 400;
