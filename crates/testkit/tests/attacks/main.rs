//! Attacks on the kernel backends: raw frames between pods of a node, and who gets them.
//!
//! The table of [`rows`] is sent three times on each backend: without policy, which shows that the attacks arrive where
//! nothing stops them, and with policy, for a dataplane that knows the networks of the node and for one that does not.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    clippy::print_stderr,
    clippy::arithmetic_side_effects,
    reason = "helpers of tests fail by panicking, as tests do"
)]

#[expect(dead_code, reason = "other test targets use more of it")]
#[path = "../common/backends.rs"]
mod backends;
mod bridge;
mod claims;
mod closed;
#[path = "../common/cluster.rs"]
mod cluster;
mod cut;
mod engines;
mod events;
mod flood;
mod frames;
#[expect(dead_code, reason = "other test targets use more of it")]
#[path = "../common/node.rs"]
mod node;
mod packets;
mod rows;
mod services;
mod table;
mod taps;
#[expect(dead_code, reason = "other test targets use more of it")]
#[path = "../common/wide.rs"]
mod wide;
mod world;

/// Scenarios that a backend cannot run: none.
pub(crate) const CANNOT: &[(&str, &str, &str)] = &[];

/// Rows that do not hold: the backend, the names of the rows as a regular expression, and why. Each of them has to fail, so
/// that the list says no more than is true.
pub(crate) const KNOWN: &[(&str, &str, &str)] = &[
    ("nftables", r"VXLAN of Second to the node with IPv. of A", INSIDE),
    ("ebpf", r"ARP to an interface (of nobody|closed)", ASKED),
    ("ebpf", r"VXLAN of Second to the node with IPv. of A", UNBOUND),
];

const INSIDE: &str =
    "a tunnel of a node is unwrapped before the source inside is looked at; the packet goes no further";
const ASKED: &str = "ARP of the node itself is not looked at";
const UNBOUND: &str = "eBPF does not see what a tunnel brings whose interface is not bound";
