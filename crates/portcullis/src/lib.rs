//! The network-policy engine that CNI authors embed: one model of labels, selectors, rules and tiers, the evaluator that
//! defines what it means, and the compiler that turns it into tables.
//!
//! It opens no connection but with the feature `kube`, and only the features `nftables-` and `ebpf-` touch the kernel.
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `k8s` | yes | Kubernetes and Calico objects, without files (`no_std`) |
//! | `std` | yes | manifests with positions, flows and [`scenario`]s; implies `k8s` |
//! | `matcher` | yes | the in-process matcher, the fastest way to a verdict (`no_std`); with `std` also its publisher |
//! | `serde` | no | `Serialize` and `Deserialize` for the model, decisions and the IR, checked on the way in (`no_std`) |
//! | `nftables` | no | the nftables backend: lowering to one table |
//! | `nftables-json` | no | the backend with updates as JSON for `nft -j` |
//! | `nftables-apply` | no | the backend with netlink and the `nft` program (Linux) |
//! | `nftables-oracle` | no | the same with the kernel as judge of single packets, in a private namespace (Linux, root) |
//! | `ebpf` | no | the eBPF backend: lowering to the maps of one fixed program |
//! | `ebpf-load` | no | the same with what loads and attaches the program (Linux) |
//! | `ebpf-oracle` | no | the same with the program as judge of single packets (Linux, root) |
//! | `kube` | no | watches of a Kubernetes API server (`kube`, `tokio`, `rustls`) |
//! | `kube-client` | no | the same for a program that chooses the version feature of `k8s-openapi` itself |
//!
//! Without features, this is the `no_std` core. To enforce policy on a node, as a CNI does, start with
//! [`local_node::LocalNode`]; to ask about manifests, with `scenario::Scenario`. The README has a working example of each.
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

pub use portcullis_core::{
    backend, compile, evaluate, http, ir, label, model, net, packet, path, principal, quote, reference,
    selector, settings, shadow, verdict, wire,
};

#[cfg(feature = "ebpf")]
pub use portcullis_ebpf as ebpf;
#[cfg(feature = "k8s")]
pub use portcullis_k8s as k8s;
#[cfg(feature = "kube-client")]
pub use portcullis_kube as kube;
#[cfg(feature = "std")]
pub use portcullis_manifest as manifest;
#[cfg(feature = "matcher")]
pub use portcullis_matcher as matcher;
#[cfg(feature = "nftables")]
pub use portcullis_nftables as nftables;

pub mod backends;
pub mod local_node;
#[cfg(feature = "std")]
pub mod render;
#[cfg(feature = "std")]
pub mod scenario;

/// Compiles the examples of the README.
#[cfg(all(doctest, feature = "std"))]
#[doc = include_str!("../../../README.md")]
#[derive(Debug)]
pub struct ReadmeExamples;
