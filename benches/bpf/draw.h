/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * For measurements: another packet in every run of a test run, from any of many peers to any of many workloads.
 *
 * The packet is written at the end of the run before, so that a run finds it as it finds packets of the network: in the cache,
 * with no store of its own on the way. The tables are small, so that the caches are left to what is measured.
 */
#pragma once
#include "../../backends/ebpf/bpf/kernel.h"

#define DRAWN_SERVICES 4

/* A peer: the last two bytes of its address, as they stand on the wire, and its class as the measurement numbers them. */
struct drawn_peer {
	u16 address;
	u16 class;
};
/* A port, as it stands on the wire, and the classes that may reach it. */
struct drawn_service {
	u16 port;
	u16 mask;
	u16 value;
	u16 reserved;
};
/* A workload: the last four bytes of its address. */
struct drawn_end {
	u32 address;
	u32 interface;
	struct drawn_service services[DRAWN_SERVICES];
};

struct drawing {
	u64 random;
	u64 peers; /* their number, less one: the mask of an index */
	u64 ends; /* the same */
	u64 place; /* peer, workload and service of the packet, in its 20 lower bits, the 20 above, and those above */
	u64 runs;
	u64 wrong; /* verdicts */
};

struct {
	UINT(type, MAP_ARRAY);
	UINT(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, struct drawn_peer);
} drawn_peers SEC(".maps");

struct {
	UINT(type, MAP_ARRAY);
	UINT(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, struct drawn_end);
} drawn_ends SEC(".maps");

struct {
	UINT(type, MAP_ARRAY);
	UINT(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, struct drawing);
} drawing SEC(".maps");

/* What there is to know about the packet. */
struct drawn {
	struct drawing *state;
	u32 interface;
	u32 allowed;
};

/* Whether there is a packet. */
INLINE int draw(struct drawn *now)
{
	u32 zero = 0;

	now->state = map_lookup(&drawing, &zero);
	if (!now->state)
		return 0;
	u64 place = now->state->place;
	u32 at = place & 0xfffff, to = place >> 20 & 0xfffff;
	const struct drawn_peer *peer = map_lookup(&drawn_peers, &at);
	const struct drawn_end *end = map_lookup(&drawn_ends, &to);

	if (!peer || !end)
		return 0;
	const struct drawn_service *service = &end->services[place >> 40 & (DRAWN_SERVICES - 1)];

	now->interface = end->interface;
	now->allowed = (peer->class & service->mask) == service->value;
	return 1;
}

/* Checks the verdict and writes the next packet. */
INLINE int redraw(struct __sk_buff *skb, const struct drawn *now, int verdict)
{
	struct drawing *state = now->state;
	u64 random = state->random;

	state->runs += 1;
	if ((verdict != TC_DROP) != now->allowed)
		state->wrong += 1;
	random ^= random << 13;
	random ^= random >> 7;
	random ^= random << 17;
	state->random = random;
	u32 at = random & state->peers, to = random >> 20 & state->ends;
	u64 which = random >> 40 & (DRAWN_SERVICES - 1);
	const struct drawn_peer *peer = map_lookup(&drawn_peers, &at);
	const struct drawn_end *end = map_lookup(&drawn_ends, &to);

	if (!peer || !end)
		return verdict;
	state->place = at | (u64)to << 20 | which << 40;
	u16 port = end->services[which].port;
	u8 *data = (u8 *)(long)skb->data, *limit = (u8 *)(long)skb->data_end;

	if (swap16((u16)skb->protocol) == 0x86dd) {
		if (data + 14 + 40 + 4 > limit)
			return verdict;
		*(u16 *)(data + 14 + 22) = peer->address;
		*(u32 *)(data + 14 + 36) = end->address;
		*(u16 *)(data + 14 + 42) = port;
	} else {
		if (data + 14 + 20 + 4 > limit)
			return verdict;
		*(u16 *)(data + 14 + 14) = peer->address;
		*(u32 *)(data + 14 + 16) = end->address;
		*(u16 *)(data + 14 + 22) = port;
	}
	return verdict;
}
