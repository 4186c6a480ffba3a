//! The case corpus and the harness that runs it on every engine. For tests only, never published.
//!
//! A case pins one semantic rule: objects, flows, and what policy must say. Cases are data files under `cases/`; the
//! README of this crate documents the format. [`run`] evaluates every case with the reference evaluator, judges the
//! answers by what the case expects, and compares every other engine with the reference, cause included.
//! [`generate`] makes clusters and packets for properties.

extern crate alloc;

mod case;
#[expect(clippy::panic, reason = "it fails by panicking, as tests do")]
pub mod differential;
mod engines;
#[expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "small numbers and short lists of its own, in tests only"
)]
pub mod generate;
mod json;
mod kernel;
#[expect(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "readers of tables that our own code made stop at the first surprise"
)]
pub mod lowered;
pub mod mutate;
#[cfg(feature = "kernel")]
#[expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking, as tests do"
)]
pub mod pods;
pub mod recording;
mod run;
pub mod soak;
pub mod tenant;

pub use case::{Case, CaseError, Expectation, FlowCase, load};
pub use engines::Engines;
pub use json::to_json;
pub use kernel::{Kernel, kernel_can_be_asked, wanted_backends};
pub use run::{Outcome, run};
