/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The program for what leaves by an interface of the host. */
#pragma once
#include "ask_sender.h"
#include "defer.h"
#include "drop.h"
#include "endpoint.h"
#include "fragments.h"
#include "mark.h"
#include "parse.h"

SEC("classifier")
int to_network(struct __sk_buff *skb)
{
	u32 active = read_active_buffer(), interface = skb->ifindex, from = skb->ingress_ifindex;
	const struct buffer *buffer = guard_of(interface, active);
	struct packet p = {};
	struct place at = { interface, 1, 0, 0, from, !from || is_final(skb) };
	int parsed = parse(skb, &p);

	if (parsed == PASS_ARP || parsed == BAD_ETHERTYPE)
		return TC_NEXT;
	if (parsed != PARSED)
		return buffer ? drop(reason_of(parsed)) : TC_NEXT;
	u32 class = services && from ? carried_class(skb, active) : UNSOUGHT;
	struct question q;

	if (services && from) {
		if (is_lost(skb, from, active))
			return drop(REASON_UNKNOWN_INTERFACE);
		if (p.flags & LATER_FRAGMENT)
			return later_fragment(&p, &at);
		if (ask_sender(skb, &p, &at, &q, from, active, class) == REFUSED)
			return TC_DROP;
		at = (struct place){ interface, 1, 0, 0, from, is_final(skb) };
	}
	if (!buffer) {
		if (services && from && !is_known(&p, &at))
			begin(&p, &at);
		return accept(&p, &at);
	}
	if (p.flags & LATER_FRAGMENT)
		return later_fragment(&p, &at);
	q = (struct question){ 0, HOOK_UNTRACKED_EGRESS, interface, active, class, UNSOUGHT, from };

	if (!from) {
		if (!(buffer->flags & TRACKED_ONLY)) {
			q.program = buffer->programs[HOOK_UNTRACKED_EGRESS];
			u32 action = judge_hook(&p, &q, p.bytes);

			if (action == ACTION_DENY)
				return TC_DROP;
			if (action == ACTION_ALLOW)
				return accept(&p, &at);
		}
		q.hook = HOOK_HOST_EGRESS;
		q.program = buffer->programs[HOOK_HOST_EGRESS];
	} else {
		q.hook = HOOK_FORWARD_EGRESS;
		q.program = buffer->programs[HOOK_FORWARD_EGRESS];
	}
	return ask_hook(&p, &at, &q) == REFUSED ? TC_DROP : accept(&p, &at);
}
