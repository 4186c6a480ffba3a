/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The rivals' maps. */
#pragma once
#include "../../backends/ebpf/bpf/kernel.h"

#define MAP_PROG_ARRAY 3

static long (*tail_call)(void *context, void *map, u32 index) = (void *)12;

/* Identities that are no workload's. */
#define ANY 0
#define WORLD 2

#define INGRESS 0
#define HIGHEST 0xffffffff

struct address_v4 {
	u32 length;
	u32 address;
};
struct {
	UINT(type, MAP_LPM_TRIE);
	UINT(max_entries, 131072);
	UINT(map_flags, NO_PREALLOC);
	TYPE(key, struct address_v4);
	TYPE(value, u32);
} identities_v4 SEC(".maps");

struct address_v6 {
	u32 length;
	u32 address[4];
};
struct {
	UINT(type, MAP_LPM_TRIE);
	UINT(max_entries, 131072);
	UINT(map_flags, NO_PREALLOC);
	TYPE(key, struct address_v6);
	TYPE(value, u32);
} identities_v6 SEC(".maps");

struct policy_key {
	u32 length;
	u32 identity;
	u8 direction;
	u8 protocol;
	u16 port; /* in the order of the wire */
};
struct policy {
	u32 precedence;
	u16 proxy;
	u8 deny;
	u8 length;
};
struct policy_map {
	UINT(type, MAP_LPM_TRIE);
	UINT(max_entries, 65536);
	UINT(map_flags, NO_PREALLOC);
	UINT(key_size, sizeof(struct policy_key));
	UINT(value_size, sizeof(struct policy));
};
/* By interface. */
struct {
	UINT(type, MAP_ARRAY_OF_MAPS);
	UINT(max_entries, 256);
	TYPE(key, u32);
	struct policy_map *values[];
} policies SEC(".maps");

/* What generated rules look at. */
struct seen {
	u32 service; /* protocol << 16 | port */
	u32 source;
};
struct {
	UINT(type, MAP_PERCPU_ARRAY);
	UINT(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, struct seen);
} seen SEC(".maps");

/* The generated program, in pieces that the verifier takes. */
struct {
	UINT(type, MAP_PROG_ARRAY);
	UINT(max_entries, 33);
	TYPE(key, u32);
	TYPE(value, u32);
} segments SEC(".maps");
