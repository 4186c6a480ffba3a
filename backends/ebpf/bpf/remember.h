/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Flows come into the table, as many as their accounts have room for. */
#pragma once
#include "cuts.h"
#include "flows.h"

/* A look through the table for the flows of one account. */
struct census {
	u64 now;
	u32 payer;
	u32 here;
	u32 elsewhere;
};

INLINE long take_census(void *map, const void *key, u32 interface, u32 protocol, const struct flow_state *state,
			struct census *census)
{
	if (state->payer != census->payer)
		return 0;
	if (!is_alive(state, protocol, census->now))
		map_delete(map, key);
	else if (interface == state->payer && !(state->flags & DEFERRED))
		census->here += 1;
	else
		census->elsewhere += 1;
	return 0;
}

static FUNCTION long census_v4(void *map, const struct flow_v4 *key, const struct flow_state *state, struct census *census)
{
	(void)map;
	return take_census(&flows_v4, key, key->interface, key->protocol, state, census);
}

static FUNCTION long census_v6(void *map, const struct flow_v6 *key, const struct flow_state *state, struct census *census)
{
	(void)map;
	return take_census(&flows_v6, key, key->interface, key->protocol, state, census);
}

/* How often the table is looked through: for one account, and for all of them. It takes milliseconds when the table is large. */
#define CENSUS_OF_ACCOUNT SECOND
#define CENSUS (SECOND / 10)

/*
 * An account that seems full: flows that ended are not told of, so those that are left have to be counted. Here and not by the
 * agent, because that may be away.
 */
FUNCTION int recount(u32 payer, u32 v6)
{
	u32 zero = 0;
	struct account *account = account_of(payer);
	u64 *last = map_lookup(&last_count, &zero);
	struct census census = { .now = coarse_ns(), .payer = payer };

	if (!account || !last)
		return 0;
	u64 before = *last;

	if ((s64)(census.now - account->counted) < (s64)CENSUS_OF_ACCOUNT || (s64)(census.now - before) < (s64)CENSUS ||
	    __sync_val_compare_and_swap(last, before, census.now) != before)
		return 0;
	account->counted = census.now;
	/* Stored in each branch: Linux 6.1 refuses one call for both maps, which the compiler would make of equal ends. */
	if (v6) {
		for_each(&flows_v6, census_v6, &census, 0);
		account->flows[flows_slot(1, 0)] = census.here;
		account->flows[flows_slot(1, 1)] = census.elsewhere;
	} else {
		for_each(&flows_v4, census_v4, &census, 0);
		account->flows[flows_slot(0, 0)] = census.here;
		account->flows[flows_slot(0, 1)] = census.elsewhere;
	}
	return 1;
}

/* The account has no room. */
#define FULL 1

/* Flags of the flow that a packet begins. */
INLINE u32 flags_of(const struct packet *p, const struct place *at)
{
	/* Others may have begun what does not open the flow. */
	u32 midway = can_be_cut(p) && !(p->flags & OPENS) ? MIDWAY : 0;

	return at->begins | midway | (at->from_local ? SENT_LOCAL | BEGAN_LOCAL : SENT_REMOTE);
}

/* One way of each family, because stacks add up. */
#define REMEMBER(version)                                                                                             \
	{                                                                                                             \
		struct account *account = p && at ? account_of(at->payer) : 0;                                        \
		if (!account)                                                                                         \
			return 0;                                                                                     \
		u32 is_elsewhere = at->interface != at->payer || at->begins & DEFERRED;                               \
		u32 *held = &account->flows[flows_slot(version == 6, is_elsewhere)];                                  \
		int is_full = *held >= most_flows(account, version == 6, is_elsewhere);                               \
		struct flow_v##version key;                                                                           \
		struct flow_state state = {                                                                           \
			.seen = coarse_ns(), .flags = flags_of(p, at), .peer = at->peer, .payer = at->payer           \
		};                                                                                                    \
                                                                                                                      \
		if (at->from_local)                                                                                   \
			key_v##version(&key, p->source, p->destination, p->sent_ports, at->interface, p->protocol);   \
		else                                                                                                  \
			key_v##version(&key, p->destination, p->source, p->received_ports, at->interface, p->protocol); \
		if (state.flags & MIDWAY)                                                                             \
			map_delete(&cuts_v##version, &key);                                                           \
		if (!is_full && !map_update(&flows_v##version, &key, &state, NEW_ONLY)) {                             \
			__sync_fetch_and_add(held, 1);                                                                \
			return 0;                                                                                     \
		}                                                                                                     \
		return map_update(&flows_v##version, &key, &state, EXISTING_ONLY) && is_full ? FULL : 0;              \
	}

FUNCTION int remember_v4(const struct packet *p, const struct place *at)
REMEMBER(4)

FUNCTION int remember_v6(const struct packet *p, const struct place *at)
REMEMBER(6)

INLINE int try_to_remember(const struct packet *p, const struct place *at)
{
	return p->v6 ? remember_v6(p, at) : remember_v4(p, at);
}

/*
 * Notes that a packet of a flow was allowed here. A flow that its account has no room for is not noted: its packets are decided
 * one by one.
 */
INLINE void remember(const struct packet *p, const struct place *at)
{
	if (try_to_remember(p, at) == FULL && (!recount(at->payer, p->v6 & 1) || try_to_remember(p, at) == FULL))
		count(&reasons, REASON_FLOW_LIMIT, 0);
}
