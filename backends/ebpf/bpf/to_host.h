/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Packets of workloads for the node itself. */
#pragma once
#include "ask.h"
#include "discovery.h"

/*
 * A workload's packet for the node itself, which the workload's own policy allowed. Of host endpoints, only `*` guards its interface.
 * `at` and `q` are the caller's, because stacks add up; `at` is as it was afterwards.
 */
INLINE int enter_node(struct __sk_buff *skb, const struct packet *p, struct place *at, struct question *q, const struct buffer *buffer)
{
	if (is_discovery(p))
		return ACCEPTED;
	if (to_host != TO_HOST_POLICY) {
		count(&reasons, REASON_TO_HOST, 0);
		return REFUSED;
	}
	if (!(buffer->flags & COVERED))
		return ACCEPTED;
	/* Another workload may have the address by now, behind another interface. */
	*at = (struct place){ NODE, 0, 0, skb->ifindex, skb->ifindex, 0 };
	q->program = buffer->programs[HOOK_HOST_INGRESS];
	q->hook = HOOK_HOST_INGRESS;
	q->interface = NODE;
	int asked = ask_hook(p, at, q);

	*at = (struct place){ skb->ifindex, 1, 0, 0, skb->ifindex, 0 };
	return asked;
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
	struct place at = { NODE, 0, 0, skb->ifindex, skb->ifindex, 0 };
	int known = is_known(p, &at);

	if (known == UNKNOWN)
		begin(p, &at);
	return known == CUT ? REFUSED : ACCEPTED;
}
