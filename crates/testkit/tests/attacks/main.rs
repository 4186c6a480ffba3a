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
#[expect(dead_code, reason = "other test targets use more of it")]
#[path = "../common/cluster.rs"]
mod cluster;
mod frames;
#[expect(dead_code, reason = "other test targets use more of it")]
#[path = "../common/node.rs"]
mod node;
mod packets;
mod rows;
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
    ("nftables", r"M inside .*", FORGED),
    ("nftables", r"error .* of M about (AskC|AskOutside|FromOutside) to .*", FORGED),
    ("nftables", r"ICMPv6 13[0-356] with data to .*, (64|255) hops", DISCOVERY),
    ("nftables", r"ICMPv6 13[0-356] (from outside to C, 64 hops|as another to the node)", DISCOVERY),
    ("nftables", r"neighbour solicitation (with .* hops|as another)", DISCOVERY),
    ("nftables", r"tunnel at port .* of A .*", TUNNELS),
    ("nftables", r"IPv. of A in protocol 4 .*", TUNNELS),
    ("nftables", r"VXLAN of (A|Stranger|Far) .*", TUNNELS),
    ("nftables", r"VXLAN of Second to the node with IPv. of A", TUNNELS),
    ("nftables", r"Second inside AskC .*", FORGED),
    ("ebpf", r"error ([123]|11|12)\.. of M about an answer to (Far|Outside), .*", ERRORS),
    ("ebpf", r"error 4\.. of M about an answer to (Far|Outside), IPv6", ERRORS),
    ("ebpf", r"protocol 58 type .*", DISCOVERY),
    ("ebpf", r"ICMPv6 13[0-356] with data to .*, (64|255) hops", DISCOVERY),
    ("ebpf", r"ICMPv6 13[0-356] as another to .*", DISCOVERY),
    ("ebpf", r"ICMPv6 13[0-356] from outside to C, 64 hops", DISCOVERY),
    ("ebpf", r"neighbour solicitation (with .* hops|as another)", DISCOVERY),
    ("ebpf", r"tunnel at port .* of A .*", TUNNELS),
    ("ebpf", r"IPv. of A in protocol 4 .*", TUNNELS),
    ("ebpf", r"VXLAN of (A|Stranger|Far) .*", TUNNELS),
    ("ebpf", r"VXLAN of Second to the node with IPv. of A", TUNNELS),
    ("ebpf", r"outside as A to C, .*", FORGED),
    ("ebpf", r"Second inside AskC .*", FORGED),
];

const FORGED: &str = "sources are looked at behind the state of connections, or not at all at an uplink";
const ERRORS: &str = "the destination of an ICMP error is not compared with the packet inside";
const DISCOVERY: &str = "the exemption of ICMPv6 discovery looks at the type alone";
const TUNNELS: &str = "packets inside packets are not looked for";
