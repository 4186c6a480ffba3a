/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* How the maps are laid out. src/layout.rs says the same to the lowering; its tests compare the two. */
#pragma once

#define PAGE_WORDS 256
#define RUNS 8
#define BLOCK_ROWS 256
#define LINE_CELLS 16
#define BOUND_ADDRESSES 4
#define HOOKS 9
#define BUFFER_WORDS 30
#define NO_PROJECTION 0xffffffff
#define SERVICE (1u << 31)

/* Flags of an endpoint. */
#define PRESENT (1u << 0)
#define HOST (1u << 1)
#define ANY_ADDRESS (1u << 2)
#define HAS_V4 (1u << 3)
#define HAS_V6 (1u << 4)
/* An interface of the host without a host endpoint. */
#define UNGUARDED (1u << 5)
/* Untracked policy does not act on the host endpoint, which is the one for all interfaces (decision D25). */
#define TRACKED_ONLY (1u << 6)
/*
 * The interface of a workload that the host endpoint for all interfaces covers (decision D24). Programs of hooks that a workload has
 * not are those of the host endpoint.
 */
#define COVERED (1u << 7)

/* The node itself, in the place of an interface. */
#define NODE 0
/* In the map `active_buffer`: the process that filled it has been followed by another, which decides from now on. */
#define RETIRED 2
/* What becomes of a workload's packets for it: 0 is accepted. */
#define TO_HOST_DROP 1
#define TO_HOST_POLICY 2

/*
 * A node: tag in the two upper bits; of a leaf, then two bits of action and one for an event; of others, this bit says that
 * they name a list of runs, not a page.
 */
#define NODE_REFERENCE 0x7ffffff
#define NODE_EVENT (1u << 27)
#define NODE_RUNS (1u << 27)
#define TAG_LEAF 0
#define TAG_KEY 1
#define TAG_SOURCE 2
#define TAG_PROTOCOL 3
#define ACTION_DENY 0
#define ACTION_ALLOW 1
#define ACTION_CONTINUE 2
#define ACTION_ALLOW_HERE 3

#define HOOK_WORKLOAD_INGRESS 0
#define HOOK_WORKLOAD_EGRESS 1
#define HOOK_HOST_INGRESS 2
#define HOOK_HOST_EGRESS 3
#define HOOK_FORWARD_INGRESS 4
#define HOOK_FORWARD_EGRESS 5
#define HOOK_PRE_DNAT 6
#define HOOK_UNTRACKED_INGRESS 7
#define HOOK_UNTRACKED_EGRESS 8

/* Why a packet was dropped, or what happened to it, without a decision of policy. */
#define REASON_UNKNOWN_INTERFACE 0
#define REASON_MALFORMED 1
#define REASON_FRAGMENT 2
#define REASON_ADDRESS 3
#define REASON_ETHERTYPE 4
#define REASON_LOST_EVENT 5
#define REASON_ESTABLISHED 6
#define REASON_EXEMPT 7
#define REASON_TO_HOST 8
#define REASON_STALE 9
#define REASON_CONFINED 10
#define REASON_CUT 11
#define REASON_FORGED 12
#define REASON_TUNNEL 13
#define REASON_CLAIM 14
#define REASON_FLOW_LIMIT 15
#define REASONS 16

/* Longest silence of a flow, in seconds; that of TCP is chosen. */
#define TIMEOUT_TCP_NEW 120
#define TIMEOUT_TCP_CLOSING 120
#define TIMEOUT_UDP 180
#define TIMEOUT_UDP_NEW 60
#define TIMEOUT_SCTP 21600
#define TIMEOUT_ICMP 30
#define TIMEOUT_OTHER 600

#define EVENT_BYTES 56

/* What interfaces pay for is counted by their index, up to this many; a power of two. */
#define ACCOUNTS 16384
/* Words of an account. */
#define ACCOUNT_WORDS 16
/* Tunnels that are known by protocol and port. */
#define TUNNELS 16
