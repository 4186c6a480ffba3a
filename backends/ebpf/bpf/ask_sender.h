/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What was deferred: the endpoint that the packet came from is asked. */
#pragma once
#include "ask.h"
#include "endpoint.h"
#include "mark.h"

/*
 * The endpoint of the interface that a packet came in by, where its destination was not known there: now it is. Where it leaves by
 * no other interface, it is for the node itself. ESTABLISHED where there is nothing to ask.
 * `at` and `q` are for this question and have to be filled in anew afterwards, because stacks add up.
 */
INLINE int ask_sender(const struct __sk_buff *skb, const struct packet *p, struct place *at, struct question *q, u32 from, u32 active,
		      u32 class)
{
	if (is_final(skb))
		return ESTABLISHED;
	if (is_confined(skb)) {
		count(&reasons, REASON_CONFINED, 0);
		return REFUSED;
	}
	const struct buffer *buffer = guard_of(from, active);

	if (!buffer || !has_ports(p))
		return ESTABLISHED;
	int is_host = !!(buffer->flags & HOST);

	*at = (struct place){ from, !is_host, 0, 0, from, 0 };
	*q = (struct question){ 0, is_host ? HOOK_FORWARD_INGRESS : HOOK_WORKLOAD_EGRESS, from, active, class, UNSOUGHT, from };
	if (buffer->flags & COVERED && skb->ifindex != from && !is_free(skb))
		return ask_covered_again(p, at, q, buffer);
	q->program = is_host ? buffer->programs[HOOK_FORWARD_INGRESS] : buffer->programs[HOOK_WORKLOAD_EGRESS];
	return ask_hook(p, at, q);
}
