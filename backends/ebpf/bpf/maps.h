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
};

/* Fragments of one packet, on their way in one direction through one interface. */
struct fragments {
	u32 source[4];
	u32 destination[4];
	u32 id;
	u32 interface;
	u32 protocol;
	u32 way;
};

struct bucket {
	u64 filled;
	u64 tokens;
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

struct {
	UINT(type, MAP_PERCPU_ARRAY);
	UINT(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, struct bucket);
} event_budget SEC(".maps");

struct {
	UINT(type, MAP_RINGBUF);
	UINT(max_entries, 4096);
} events SEC(".maps");

/* Chosen before the program is loaded, and constant from then on. */
volatile const u32 blocks_per_projection = 64;
/* Whether flows are remembered. */
volatile const u32 track = 1;
/* Whether destinations of services are decided where the packet leaves. */
volatile const u32 services = 0;
/* Bits of the packet mark that carry the source's class, and how far they are shifted; and the two bits above them. 0: none. */
volatile const u32 mark_mask = 0;
volatile const u32 mark_shift = 0;
volatile const u32 mark_state = 0;
/* What is added to the active buffer for the state of a mark: which process generation wrote it. */
volatile const u32 mark_parity = 0;
/* What becomes of a workload's packets for the node itself. */
volatile const u32 to_host = 0;
/* Events for each CPU: in a second, and at once. 0: no limit. */
volatile const u32 events_per_second = 1000;
volatile const u32 events_at_once = 1000;
