/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The program for tests of one hook. */
#pragma once
#include "endpoint.h"
#include "parse.h"
#include "policy.h"

/*
 * For tests: one hook, named by cb[0], of the endpoint at the interface cb[1]. Nothing is remembered. The event of
 * the decision tells what decided.
 */
SEC("classifier")
int probe(struct __sk_buff *skb)
{
	u32 active = read_active_buffer(), hook = skb->cb[0];
	const struct buffer *buffer = endpoint_at(skb->cb[1], active);
	struct packet p = {};
	int parsed = parse(skb, &p);

	if (!buffer || parsed != PARSED || p.flags & LATER_FRAGMENT || hook >= HOOKS)
		return TC_DROP;
	struct question q = { buffer->programs[hook], hook, skb->cb[1], active, UNSOUGHT, UNSOUGHT, skb->cb[1] };

	return judge_hook(&p, &q, p.bytes) == ACTION_DENY ? TC_DROP : TC_NEXT;
}
