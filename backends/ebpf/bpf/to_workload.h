/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The program for what goes to a workload. */
#pragma once
#include "ask_sender.h"
#include "defer.h"
#include "discovery.h"
#include "drop.h"
#include "endpoint.h"
#include "fragments.h"
#include "mark.h"
#include "parse.h"

/* A packet to the workload behind `interface`, which came in by `from`. */
INLINE int guard_in(struct __sk_buff *skb, u32 interface, u32 from)
{
	u32 active = read_active_buffer();
	const struct buffer *buffer = endpoint_at(interface, active);
	struct packet p = {};
	struct place at = { interface, 0, 0, 0, from, is_final(skb) };

	if (!buffer || buffer->flags & HOST)
		return drop_unless_arp(skb);
	int parsed = parse(skb, &p);

	if (parsed == PASS_ARP)
		return TC_NEXT;
	if (parsed != PARSED)
		return drop(reason_of(parsed));
	if (!(buffer->flags & ANY_ADDRESS) && !is_own(buffer, p.v6, p.destination)) {
		if (is_discovery(&p))
			return TC_NEXT;
		return drop(REASON_ADDRESS);
	}
	if (p.flags & LATER_FRAGMENT)
		return later_fragment(&p, &at);
	if (services)
		at.peer = from ? from : OF_NODE;
	/* From the node itself (decision D11), or from the workload back to itself (decision D10). */
	if (!from || from == interface) {
		if (track && !(p.flags & NO_FLOW) && (p.flags & OPENS || !is_established(&p, &at)))
			remember(&p, &at);
		count(&reasons, REASON_EXEMPT, 0);
		return accept(&p, &at);
	}
	if (services && is_lost(skb, from, active))
		return drop(REASON_UNKNOWN_INTERFACE);
	u32 class = services ? carried_class(skb, active) : UNSOUGHT;
	struct question q;

	if (services) {
		if (ask_sender(skb, &p, &at, &q, from, active, class) == REFUSED)
			return TC_DROP;
		at = (struct place){ interface, 0, 0, from, from, is_final(skb) };
	}
	q = (struct question){ buffer->programs[HOOK_WORKLOAD_INGRESS], HOOK_WORKLOAD_INGRESS, interface, active,
			      class, UNSOUGHT, from };
	int asked = buffer->flags & COVERED ?
			    ask_covered_in(&p, &at, &q, buffer) :
			    ask(&p, &at, &q);

	return asked == REFUSED ? TC_DROP : accept(&p, &at);
}

SEC("classifier")
int to_workload(struct __sk_buff *skb)
{
	return guard_in(skb, skb->ifindex, skb->ingress_ifindex);
}
