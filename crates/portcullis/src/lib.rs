//! The network-policy engine that CNI authors embed: one model of labels, selectors, rules and tiers, and the
//! evaluator that defines what it means.
#![cfg_attr(not(feature = "std"), no_std)]

#[cfg(feature = "std")]
extern crate alloc;

pub use portcullis_core::{
    compile, flow, http, ir, label, model, net, packet, principal, reference, selector, verdict,
};

#[cfg(feature = "k8s")]
pub use portcullis_k8s as k8s;
#[cfg(feature = "std")]
pub use portcullis_manifest as manifest;

#[cfg(feature = "std")]
pub mod scenario;
