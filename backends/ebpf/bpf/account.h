/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What an interface takes of tables that all share: an account for each, so that one cannot take what others need. */
#pragma once
#include "maps.h"

#define SECOND 1000000000ull

INLINE struct account *account_of(u32 interface)
{
	u32 slot = interface & (ACCOUNTS - 1);

	return map_lookup(&accounts, &slot);
}

/* Whether the account may send one more event. */
INLINE int may_send(struct account *account, u64 now)
{
	u64 second = now / SECOND, before = account->second;

	if (!events_per_second)
		return 1;
	if (before != second && __sync_val_compare_and_swap(&account->second, before, second) == before)
		account->sent = 0;
	/* Without an end, the number would begin anew. */
	if (account->sent >= events_per_second)
		return 0;
	return __sync_fetch_and_add(&account->sent, 1) < events_per_second;
}

INLINE void lose_event(struct account *account, u32 interface)
{
	account->interface = interface;
	__sync_fetch_and_add(&account->lost, 1);
}

/* The place of a flow's number in its account: those at the interface itself, and those elsewhere. */
INLINE u32 flows_slot(u32 v6, u32 is_elsewhere)
{
	return (v6 & 1) << 1 | (is_elsewhere & 1);
}

INLINE u32 most_flows(const struct account *account, u32 v6, u32 is_elsewhere)
{
	u32 most = account->is_workload ? (v6 ? workload_flows_v6 : workload_flows_v4) :
					  (v6 ? host_flows_v6 : host_flows_v4);

	/* A flow is at its receiver's interface too, and at that where it leaves the node. */
	return most << (is_elsewhere & 1);
}
