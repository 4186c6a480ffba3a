/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The program for what is delivered to a socket of the node. */
#pragma once
#include "ask_sender.h"
#include "drop.h"
#include "endpoint.h"
#include "mark.h"
#include "parse.h"
#include "route.h"
#include "to_host.h"

/*
 * Where a packet is delivered to a socket: what may have been left open because its destination could be rewritten, and was not
 * forwarded then. The mark is gone where packets cross into another network namespace, so sockets of workloads are not concerned.
 */
SEC("cgroup_skb/ingress")
int to_node(struct __sk_buff *skb)
{
	u32 interface = skb->ifindex;

	if (!is_marked(skb) || is_final(skb))
		return DELIVER;
	/* The program of the next process is there as well. Nothing is noted any more, or that would take it for established. */
	if (is_retired())
		return DELIVER;
	u32 active = read_active_buffer(), class = carried_class(skb, active);
	const struct buffer *buffer = guard_of(interface, active);
	struct packet p = { .flags = TAKEN };

	/* An untracked rule allowed it here. */
	if (!buffer || (buffer->flags & HOST && state_of(skb) == MARK_NONE))
		return DELIVER;
	/* Source NAT comes later than this, so the source can still be told. */
	if (class == STALE)
		class = UNSOUGHT;
	/* IP and transport have their headers in one piece by now. */
	int parsed = parse_slowly(skb, &p);

	if (parsed != PARSED) {
		count(&reasons, reason_of(parsed), 0);
		return WITHHOLD;
	}
	if (!has_ports(&p))
		return DELIVER;
	struct place at = { interface, 0, 0, 0, interface, 0 };
	struct question q = { buffer->programs[HOOK_HOST_INGRESS], HOOK_HOST_INGRESS, interface, active, class, UNSOUGHT, interface };

	if (buffer->flags & HOST)
		return ask_hook(&p, &at, &q) == REFUSED ? WITHHOLD : DELIVER;
	if (ask_sender(skb, &p, &at, &q, interface, active, class) == REFUSED)
		return WITHHOLD;
	if (!to_host)
		return DELIVER;
	/* The source may be hidden to both questions. */
	q = (struct question){ 0, HOOK_HOST_INGRESS, NODE, active, class, UNSOUGHT, interface };
	int entered = is_free(skb) ? enter_node_freely(skb, &p) : enter_node(skb, &p, &at, &q, buffer);

	return entered == REFUSED ? WITHHOLD : DELIVER;
}
