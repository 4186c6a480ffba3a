//! How the maps are laid out. `bpf/layout.h` says the same to the kernel program; a test compares the two.

use portcullis_core::verdict::Hook;

/// Bytes of an event.
#[cfg(any(test, feature = "load"))]
pub(crate) const EVENT_BYTES: usize = 56;
/// What interfaces pay for is counted by their index, up to this many.
#[cfg(any(test, feature = "load"))]
pub(crate) const ACCOUNTS: u32 = 16_384;
/// Words of an account.
#[cfg(any(test, feature = "load"))]
pub(crate) const ACCOUNT_WORDS: usize = 16;
/// Tunnels that are known by protocol and port.
pub(crate) const TUNNELS: usize = 16;
/// In the map `active_buffer`: the process that filled it has been followed by another.
#[cfg(any(test, feature = "load"))]
pub(crate) const RETIRED: u32 = 2;
/// Words of a page.
pub(crate) const PAGE_WORDS: usize = 256;
/// Runs in a list.
pub(crate) const RUNS: usize = 8;
/// Classes in a block of rows.
pub(crate) const BLOCK_ROWS: usize = 256;
/// Cells in a line.
pub(crate) const LINE_CELLS: usize = 16;
/// Addresses of each family that an endpoint can be bound to.
pub(crate) const BOUND_ADDRESSES: usize = 4;

/// One page of a table: 256 nodes.
pub(crate) type Page = [u32; PAGE_WORDS];
/// Up to eight runs of a value: where all but the first start, one word that is not used, and the node of each.
pub(crate) type Runs = [u32; 2 * RUNS];
/// The rows of 256 classes.
pub(crate) type Rows = [u16; BLOCK_ROWS];
/// 16 cells.
pub(crate) type Cells = [u32; LINE_CELLS];
/// Source projection, destination projection, columns and first cell, for IPv4 and then for IPv6.
pub(crate) type ProgramWords = [u32; 8];
/// Both buffers of an endpoint.
pub(crate) type EndpointWords = [u32; 2 * BUFFER_WORDS];

/// Words of one buffer of an endpoint: a program for each hook, flags, IPv4 addresses, IPv6 addresses.
pub(crate) const BUFFER_WORDS: usize = Hook::ALL.len() + 1 + BOUND_ADDRESSES + 4 * BOUND_ADDRESSES;

/// There is no such projection: all classes are on row 0, so the address need not be looked up.
pub(crate) const NO_PROJECTION: u32 = u32::MAX;
/// In the value of an address: it may be rewritten by destination NAT.
pub(crate) const SERVICE: u32 = 1 << 31;

/// The endpoint exists in this buffer.
pub(crate) const PRESENT: u32 = 1;
/// It is a host endpoint.
pub(crate) const HOST: u32 = 1 << 1;
/// It may use any address.
pub(crate) const ANY_ADDRESS: u32 = 1 << 2;
/// It has IPv4 addresses.
pub(crate) const HAS_V4: u32 = 1 << 3;
/// It has IPv6 addresses.
pub(crate) const HAS_V6: u32 = 1 << 4;
/// It is an interface of the host without a host endpoint.
pub(crate) const UNGUARDED: u32 = 1 << 5;
/// Untracked policy does not act on it.
pub(crate) const TRACKED_ONLY: u32 = 1 << 6;
/// The host endpoint for all interfaces covers this workload's interface; its programs are in the places of hooks that a workload
/// has not.
pub(crate) const COVERED: u32 = 1 << 7;

/// The node itself, in the place of an interface, whose numbers begin at 1. Tracked flows are told with it.
#[cfg(any(test, feature = "load"))]
pub(crate) const NODE: u32 = 0;
/// Traffic of workloads to the node itself is dropped.
#[cfg(any(test, feature = "load"))]
pub(crate) const TO_HOST_DROP: u32 = 1;
/// The host endpoint for all interfaces is asked about it.
#[cfg(any(test, feature = "load"))]
pub(crate) const TO_HOST_POLICY: u32 = 2;

/// A word of a page, list or cell: a decision, or which page or list to look into next. Zero denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node(pub(crate) u32);

/// By what the page or list of a node is looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Index {
    /// A page by the upper, then the lower byte of the key; a list by the key.
    Key,
    /// The same with the source port.
    Source,
    /// A page by the protocol; a list by protocol and key.
    Protocol,
}

/// What a decision does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Deny,
    Allow,
    /// The hook does not decide.
    Continue,
    /// Allowed here, but not exempt from the later hooks of a host endpoint.
    AllowHere,
}

impl Node {
    /// Most pages and most decisions that a node can name.
    pub(crate) const MAX: u32 = (1 << 27) - 1;
    const EVENT: u32 = 1 << 27;
    const RUNS: u32 = 1 << 27;

    pub(crate) const fn page(index: Index, slot: u32) -> Self {
        let tag = match index {
            Index::Key => 1,
            Index::Source => 2,
            Index::Protocol => 3,
        };
        Self((tag << 30) | (slot & Self::MAX))
    }

    pub(crate) const fn runs(index: Index, slot: u32) -> Self {
        Self(Self::page(index, slot).0 | Self::RUNS)
    }

    pub(crate) const fn leaf(action: Action, event: Event, slot: u32) -> Self {
        let action = match action {
            Action::Deny => 0,
            Action::Allow => 1,
            Action::Continue => 2,
            Action::AllowHere => 3,
        };
        let event = match event {
            Event::Silent => 0,
            Event::Sent => Self::EVENT,
        };
        Self((action << 28) | event | (slot & Self::MAX))
    }
}

/// Whether a decision sends an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Silent,
    Sent,
}

/// The number of a hook in the kernel program: its place in [`Hook::ALL`].
pub(crate) fn hook_index(hook: Hook) -> usize {
    Hook::ALL.iter().position(|other| *other == hook).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `#define NAME VALUE` of the header; values are plain numbers, `0x…` or `(1u << n)`.
    fn defined(name: &str) -> u64 {
        let text = include_str!("../bpf/layout.h");
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix("#define ")?.strip_prefix(name)?.strip_prefix(' '))
            .unwrap_or_else(|| panic!("{name} is not defined"));
        let value = value.trim();
        let plain = value.trim_end_matches('u');
        if let Some(hex) = plain.strip_prefix("0x") {
            return u64::from_str_radix(hex, 16).unwrap();
        }
        if let Some(shift) = value.strip_prefix("(1u << ").and_then(|rest| rest.strip_suffix(')')) {
            return 1 << shift.parse::<u32>().unwrap();
        }
        plain.parse().unwrap()
    }

    #[test]
    fn the_kernel_program_has_the_same_numbers() {
        let ours: [(&str, u64); 33] = [
            ("ACCOUNTS", u64::from(ACCOUNTS)),
            ("ACCOUNT_WORDS", ACCOUNT_WORDS as u64),
            ("TUNNELS", TUNNELS as u64),
            ("RETIRED", u64::from(RETIRED)),
            ("EVENT_BYTES", EVENT_BYTES as u64),
            ("PAGE_WORDS", PAGE_WORDS as u64),
            ("RUNS", RUNS as u64),
            ("BLOCK_ROWS", BLOCK_ROWS as u64),
            ("LINE_CELLS", LINE_CELLS as u64),
            ("BOUND_ADDRESSES", BOUND_ADDRESSES as u64),
            ("HOOKS", Hook::ALL.len() as u64),
            ("BUFFER_WORDS", BUFFER_WORDS as u64),
            ("NO_PROJECTION", u64::from(NO_PROJECTION)),
            ("SERVICE", u64::from(SERVICE)),
            ("PRESENT", u64::from(PRESENT)),
            ("HOST", u64::from(HOST)),
            ("ANY_ADDRESS", u64::from(ANY_ADDRESS)),
            ("HAS_V4", u64::from(HAS_V4)),
            ("HAS_V6", u64::from(HAS_V6)),
            ("UNGUARDED", u64::from(UNGUARDED)),
            ("TRACKED_ONLY", u64::from(TRACKED_ONLY)),
            ("COVERED", u64::from(COVERED)),
            ("TO_HOST_DROP", u64::from(TO_HOST_DROP)),
            ("TO_HOST_POLICY", u64::from(TO_HOST_POLICY)),
            ("NODE", u64::from(NODE)),
            ("NODE_REFERENCE", u64::from(Node::MAX)),
            ("NODE_EVENT", u64::from(Node::EVENT)),
            ("NODE_RUNS", u64::from(Node::RUNS)),
            ("TAG_KEY", u64::from(Node::page(Index::Key, 0).0 >> 30)),
            ("TAG_SOURCE", u64::from(Node::page(Index::Source, 0).0 >> 30)),
            ("TAG_PROTOCOL", u64::from(Node::page(Index::Protocol, 0).0 >> 30)),
            ("ACTION_CONTINUE", u64::from(Node::leaf(Action::Continue, Event::Silent, 0).0 >> 28)),
            ("ACTION_ALLOW_HERE", u64::from(Node::leaf(Action::AllowHere, Event::Silent, 0).0 >> 28)),
        ];
        for (name, value) in ours {
            assert_eq!(defined(name), value, "{name}");
        }
        for (hook, name) in [
            (Hook::WorkloadIngress, "HOOK_WORKLOAD_INGRESS"),
            (Hook::WorkloadEgress, "HOOK_WORKLOAD_EGRESS"),
            (Hook::HostIngress, "HOOK_HOST_INGRESS"),
            (Hook::HostEgress, "HOOK_HOST_EGRESS"),
            (Hook::ForwardIngress, "HOOK_FORWARD_INGRESS"),
            (Hook::ForwardEgress, "HOOK_FORWARD_EGRESS"),
            (Hook::PreDnat, "HOOK_PRE_DNAT"),
            (Hook::UntrackedIngress, "HOOK_UNTRACKED_INGRESS"),
            (Hook::UntrackedEgress, "HOOK_UNTRACKED_EGRESS"),
        ] {
            assert_eq!(defined(name), hook_index(hook) as u64, "{name}");
        }
    }
}
