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
    (
        "engines",
        r"(ICMPv6|protocol 58|neighbour solicitation) .*",
        "by chance: the exemption of ICMPv6 discovery looks at the type alone",
    ),
    ("nftables", r"ICMPv6 13[0-356] with data to .*, (64|255) hops", DISCOVERY),
    ("nftables", r"ICMPv6 13[0-356] from outside to C, 64 hops", DISCOVERY),
    ("nftables", r"neighbour solicitation with .* hops", DISCOVERY),
    ("nftables", r"VXLAN of Second to the node with IPv. of A", INSIDE),
    ("nftables", r"neighbour advertisement of (another pod|the node|the gateway)", CLAIMS),
    ("nftables", r"ARP claim of another (pod|host)", CLAIMS),
    ("ebpf", r"error ([123]|11|12)\.. of M about an answer to (Far|Outside), .*", ERRORS),
    ("ebpf", r"error 4\.. of M about an answer to (Far|Outside), IPv6", ERRORS),
    ("ebpf", r". to the service of ., an error about it to (A|Far|Outside), .*", ERRORS),
    ("ebpf", r"an error of M about its flow through a service to (Far|Outside), .*", ERRORS),
    ("ebpf", r"protocol 58 type .*", DISCOVERY),
    ("ebpf", r"ICMPv6 13[0-356] with data to .*, (64|255) hops", DISCOVERY),
    ("ebpf", r"ICMPv6 13[0-356] as another to .*", DISCOVERY),
    ("ebpf", r"ICMPv6 13[0-356] from outside to C, 64 hops", DISCOVERY),
    ("ebpf", r"neighbour solicitation (with .* hops|as another)", DISCOVERY),
    ("ebpf", r"VXLAN of (Stranger|Far) .*", TUNNELS),
    ("ebpf", r"VXLAN of Second to the node with IPv. of A", TUNNELS),
    ("ebpf", r"outside as A to C, .*", FORGED),
    ("ebpf", r"Second inside AskC .*", FORGED),
    ("ebpf", r"neighbour advertisement of (another pod|the node|the gateway)", CLAIMS),
    ("ebpf", r"ARP claim of another (pod|host)", CLAIMS),
    ("ebpf", r"bridge: (ARP . of N as (B|the node)|advertisement (as B|of B.*|of the .*))", CLAIMS),
    ("ebpf", r"bridge: ICMPv6 13. with data", DISCOVERY),
    ("ebpf", r"of nobody: .*", NOBODY),
    ("ebpf", r"made anew: .*", NOBODY),
    ("ebpf", r"a cut flow after .*", FLOOD),
    ("ebpf", r"an? .* after a flood .*", FLOOD),
    ("ebpf", r"the event of one beside a flood, .*", EVENTS),
];

const FORGED: &str = "sources are looked at behind the state of connections, or not at all at an uplink";
const ERRORS: &str = "the destination of an ICMP error is not compared with the packet inside";
const DISCOVERY: &str = "the exemption of ICMPv6 discovery looks at the type alone";
const INSIDE: &str =
    "a tunnel of a node is unwrapped before the source inside is looked at; the packet goes no further";
const TUNNELS: &str = "packets inside packets from outside are not looked for";
const CLAIMS: &str = "claims of addresses are not looked at";
const NOBODY: &str = "by chance: interfaces that nobody bound are not looked for";
const FLOOD: &str = "by chance: the table of flows is one for all interfaces, and forgets cut flows";
const EVENTS: &str = "by chance: the budget of events is one for all interfaces";
