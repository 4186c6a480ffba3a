//! The network-policy engine that CNI authors embed: one model of labels, selectors, rules and tiers, the evaluator that
//! defines what it means, and the compiler that turns it into tables.
//!
//! When not to use it: to ask a running cluster anything. It opens no connection and starts no program.
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `k8s` | yes | Kubernetes and Calico objects, without files (`no_std`) |
//! | `std` | yes | manifests with positions, flows and [`scenario`]s; implies `k8s` |
//! | `matcher` | yes | the in-process matcher, the fastest way to a verdict (`no_std`); with `std` also its publisher |
//!
//! Without features, this is the `no_std` core. Start with [`scenario::Scenario`]; the README has a working example.
#![cfg_attr(not(feature = "std"), no_std)]

#[cfg(feature = "std")]
extern crate alloc;

pub use portcullis_core::{
    compile, flow, http, ir, label, model, net, packet, principal, reference, selector, shadow, verdict,
};

#[cfg(feature = "k8s")]
pub use portcullis_k8s as k8s;
#[cfg(feature = "std")]
pub use portcullis_manifest as manifest;
#[cfg(feature = "matcher")]
pub use portcullis_matcher as matcher;

#[cfg(feature = "std")]
pub mod scenario;

/// Compiles the examples of the README.
#[cfg(all(doctest, feature = "std"))]
#[doc = include_str!("../../../README.md")]
#[derive(Debug)]
pub struct ReadmeExamples;
