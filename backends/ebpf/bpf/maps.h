/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The maps. Their sizes are set when they are made, from `Capacity`. */
#pragma once
#include "kernel.h"
#include "layout.h"

/* One of the two buffers of an endpoint; the other belongs to the state before or after. */
struct buffer {
	u32 programs[HOOKS];
	u32 flags;
	u32 v4[BOUND_ADDRESSES];
	u32 v6[BOUND_ADDRESSES][4];
};
struct endpoint {
	struct buffer buffers[2];
	struct bpf_spin_lock lock;
};
_Static_assert(sizeof(struct buffer) == 4 * BUFFER_WORDS, "layout.h");

struct body {
	u32 source;
	u32 destination;
	u32 columns; /* 0: there is one cell, and it is in `cells` */
	u32 cells;
};
struct program {
	struct body bodies[2];
};
struct page {
	u32 words[PAGE_WORDS];
};
/* Up to eight runs of a value: where all but the first start, in order, and the node of each. */
struct runs {
	u32 starts[RUNS]; /* the last one is not used */
	u32 nodes[RUNS];
};
struct rows {
	u16 rows[BLOCK_ROWS];
};
struct cells {
	u32 cells[LINE_CELLS];
};
struct classes {
	u32 buffers[2];
};
struct address {
	struct classes classes;
	struct bpf_spin_lock lock;
};
struct counter {
	u64 packets;
	u64 bytes;
};

/* A flow as one interface sees it. `local` is the end behind a workload's interface, or the node's side of a host's. */
struct flow_v4 {
	u32 local;
	u32 remote;
	u32 ports;
	u32 interface;
	u32 protocol;
};
struct flow_v6 {
	u32 local[4];
	u32 remote[4];
	u32 ports;
	u32 interface;
	u32 protocol;
};
struct flow_state {
	u64 seen;
	u32 flags;
	u32 peer;
	u32 payer; /* the interface that its first packet came in by; its account holds the flow */
	u32 unused;
};

/* A flow that was ended. The key is that of the flow. */
struct cut {
	u64 seen;
	u32 began; /* flags of the flow: who began it */
	u32 unused;
};

/*
 * What one interface takes of tables that all share. Interfaces whose indexes are a multiple of ACCOUNTS apart have one account
 * together.
 */
struct account {
	u64 counted;     /* when its flows were counted last */
	u64 second;      /* the one that `sent` is about */
	u64 lost;        /* events */
	u32 sent;        /* events */
	u32 interface;   /* that lost events */
	u32 is_workload; /* others have a limit of their own */
	u32 flows[4];    /* by family, then at the interface itself and elsewhere */
	u32 unused[3];
};
_Static_assert(sizeof(struct account) == 4 * ACCOUNT_WORDS, "layout.h");

/* Fragments of one packet, on their way in one direction through one interface. */
struct fragments {
	u32 source[4];
	u32 destination[4];
	u32 id;
	u32 interface;
	u32 protocol;
	u32 way;
};

struct {
	UINT(type, MAP_ARRAY);
	UINT(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, u32);
} active_buffer SEC(".maps");

/* Replacing the inner map makes the kernel wait for a grace period: until no program runs that began before. */
struct inner {
	UINT(type, MAP_ARRAY);
	UINT(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, u32);
};
struct {
	UINT(type, MAP_ARRAY_OF_MAPS);
	UINT(max_entries, 1);
	TYPE(key, u32);
	struct inner *values[];
} grace_period SEC(".maps");

struct {
	UINT(type, MAP_HASH);
	UINT(max_entries, 1024);
	TYPE(key, u32);
	TYPE(value, struct endpoint);
} endpoints SEC(".maps");

struct {
	UINT(type, MAP_HASH);
	UINT(max_entries, 1024);
	TYPE(key, u32);
	TYPE(value, struct address);
} addresses_v4 SEC(".maps");

struct address_v6 {
	u32 words[4];
};
struct {
	UINT(type, MAP_HASH);
	UINT(max_entries, 1024);
	TYPE(key, struct address_v6);
	TYPE(value, struct address);
} addresses_v6 SEC(".maps");

struct net_v4 {
	u32 length;
	u32 address;
};
struct {
	UINT(type, MAP_LPM_TRIE);
	UINT(max_entries, 1024);
	UINT(map_flags, NO_PREALLOC);
	TYPE(key, struct net_v4);
	TYPE(value, struct classes);
} networks_v4 SEC(".maps");

struct net_v6 {
	u32 length;
	u32 address[4];
};
struct {
	UINT(type, MAP_LPM_TRIE);
	UINT(max_entries, 1024);
	UINT(map_flags, NO_PREALLOC);
	TYPE(key, struct net_v6);
	TYPE(value, struct classes);
} networks_v6 SEC(".maps");

struct {
	UINT(type, MAP_ARRAY);
	UINT(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, struct program);
} programs SEC(".maps");

struct {
	UINT(type, MAP_ARRAY);
	UINT(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, struct rows);
} rows SEC(".maps");

struct {
	UINT(type, MAP_ARRAY);
	UINT(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, struct cells);
} cells SEC(".maps");

struct {
	UINT(type, MAP_ARRAY);
	UINT(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, struct page);
} pages SEC(".maps");

struct {
	UINT(type, MAP_ARRAY);
	UINT(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, struct runs);
} runs SEC(".maps");

struct {
	UINT(type, MAP_PERCPU_ARRAY);
	UINT(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, struct counter);
} counters SEC(".maps");

struct {
	UINT(type, MAP_PERCPU_ARRAY);
	UINT(max_entries, REASONS);
	TYPE(key, u32);
	TYPE(value, struct counter);
} reasons SEC(".maps");

struct {
	UINT(type, MAP_LRU_HASH);
	UINT(max_entries, 1024);
	TYPE(key, struct flow_v4);
	TYPE(value, struct flow_state);
} flows_v4 SEC(".maps");

struct {
	UINT(type, MAP_LRU_HASH);
	UINT(max_entries, 1024);
	TYPE(key, struct flow_v6);
	TYPE(value, struct flow_state);
} flows_v6 SEC(".maps");

struct {
	UINT(type, MAP_LRU_HASH);
	UINT(max_entries, 4096);
	TYPE(key, struct fragments);
	TYPE(value, u64);
} fragmented SEC(".maps");

/* Only user space adds to these, so that no flood of flows takes anything out of them. */
struct {
	UINT(type, MAP_HASH);
	UINT(max_entries, 1024);
	UINT(map_flags, NO_PREALLOC);
	TYPE(key, struct flow_v4);
	TYPE(value, struct cut);
} cuts_v4 SEC(".maps");

struct {
	UINT(type, MAP_HASH);
	UINT(max_entries, 1024);
	UINT(map_flags, NO_PREALLOC);
	TYPE(key, struct flow_v6);
	TYPE(value, struct cut);
} cuts_v6 SEC(".maps");

struct {
	UINT(type, MAP_ARRAY);
	UINT(max_entries, ACCOUNTS);
	TYPE(key, u32);
	TYPE(value, struct account);
} accounts SEC(".maps");

/* When flows were counted last, of any account. */
struct {
	UINT(type, MAP_ARRAY);
	UINT(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, u64);
} last_count SEC(".maps");

struct {
	UINT(type, MAP_RINGBUF);
	UINT(max_entries, 4096);
} events SEC(".maps");

/* The addresses that workloads of this node are bound to. */
struct {
	UINT(type, MAP_HASH);
	UINT(max_entries, 1024);
	TYPE(key, u32);
	TYPE(value, u32);
} local_v4 SEC(".maps");

struct {
	UINT(type, MAP_HASH);
	UINT(max_entries, 1024);
	TYPE(key, struct address_v6);
	TYPE(value, u32);
} local_v6 SEC(".maps");

struct {
	UINT(type, MAP_LPM_TRIE);
	UINT(max_entries, 1);
	UINT(map_flags, NO_PREALLOC);
	TYPE(key, struct net_v4);
	TYPE(value, u32);
} local_nets_v4 SEC(".maps");

struct {
	UINT(type, MAP_LPM_TRIE);
	UINT(max_entries, 1);
	UINT(map_flags, NO_PREALLOC);
	TYPE(key, struct net_v6);
	TYPE(value, u32);
} local_nets_v6 SEC(".maps");

struct {
	UINT(type, MAP_LPM_TRIE);
	UINT(max_entries, 1);
	UINT(map_flags, NO_PREALLOC);
	TYPE(key, struct net_v4);
	TYPE(value, u32);
} tunnel_peers_v4 SEC(".maps");

struct {
	UINT(type, MAP_LPM_TRIE);
	UINT(max_entries, 1);
	UINT(map_flags, NO_PREALLOC);
	TYPE(key, struct net_v6);
	TYPE(value, u32);
} tunnel_peers_v6 SEC(".maps");

/* Chosen before the program is loaded, and constant from then on. */
volatile const u32 blocks_per_projection = 64;
/* Whether flows are remembered. */
volatile const u32 track = 1;
/* Whether destinations of services are decided where the packet leaves. */
volatile const u32 services = 0;
/*
 * The bit of the packet mark that says that `tc_index` is ours (0: none), and bits for the upper part of classes that do not fit in
 * there, with how far they are shifted.
 */
volatile const u32 mark_bit = 0;
volatile const u32 mark_mask = 0;
volatile const u32 mark_shift = 0;
/* What is added to the active buffer for the state of a mark: which process generation wrote it. */
volatile const u32 mark_parity = 0;
/* What becomes of a workload's packets for the node itself. */
volatile const u32 to_host = 0;
/* Events of each account in a second. 0: no limit. */
volatile const u32 events_per_second = 100;
/* Seconds of silence after which a TCP flow is forgotten. */
volatile const u32 tcp_idle_seconds = 432000;
/* Flows of an account that are at its own interface, for each family; twice as many may be elsewhere. */
volatile const u32 workload_flows_v4 = 16384;
volatile const u32 workload_flows_v6 = 8192;
volatile const u32 host_flows_v4 = 16384;
volatile const u32 host_flows_v6 = 8192;
/* Whether there are networks of local workloads. */
volatile const u32 has_local_nets = 0;
/* Whether tunnels that end at this node are accepted from certain peers only, and which these are: protocol, then port. 0: none. */
volatile const u32 has_tunnel_peers = 0;
volatile const u32 tunnels[TUNNELS] = {};
/* Whether workloads may claim their own addresses only. */
volatile const u32 check_claims = 1;
