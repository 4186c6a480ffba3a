/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Packets of workloads for the node itself. */
#pragma once
#include "ask.h"
#include "discovery.h"

/* A workload's packet for the node itself, which the workload's own policy allowed. Of host endpoints, only `*` guards its interface. */
FUNCTION int enter_node(struct __sk_buff *skb, const struct packet *p, const struct buffer *buffer, u32 active, u32 class)
{
	if (!p || !buffer)
		return REFUSED;

	if (is_discovery(p))
		return ACCEPTED;
	if (to_host != TO_HOST_POLICY) {
		count(&reasons, REASON_TO_HOST, 0);
		return REFUSED;
	}
	if (!(buffer->flags & COVERED))
		return ACCEPTED;
	/* Another workload may have the address by now, behind another interface. */
	struct place at = { NODE, 0, 0, skb->ifindex };
	struct question q = { buffer->programs[HOOK_HOST_INGRESS], HOOK_HOST_INGRESS, NODE, active, class, UNSOUGHT };

	return ask_hook(p, &at, &q);
}

/* The same where pre-DNAT policy of `*` allowed it: its host ingress policy has no say, now and later in the flow. */
FUNCTION int enter_node_freely(struct __sk_buff *skb, const struct packet *p)
{
	if (!p)
		return REFUSED;
	if (to_host != TO_HOST_POLICY && !is_discovery(p)) {
		count(&reasons, REASON_TO_HOST, 0);
		return REFUSED;
	}
	struct place at = { NODE, 0, 0, skb->ifindex };

	if (!is_known(p, &at))
		begin(p, &at);
	return ACCEPTED;
}
