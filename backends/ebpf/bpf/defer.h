/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Packets that are decided later, because their destination may be rewritten. */
#pragma once
#include "ask.h"
#include "endpoint.h"
#include "fragments.h"
#include "mark.h"

/*
 * Where a destination may be rewritten, the packet is decided when it has its real one: where it leaves, or where it is delivered.
 * Its answers come back with the address that is rewritten.
 */
FUNCTION int defer(struct __sk_buff *skb, const struct packet *p, struct place *at)
{
	if (!p || !at)
		return TC_DROP;
	at->begins = DEFERRED;
	int known = is_known(p, at);

	if (known == CUT)
		return TC_DROP;
	if (known == FINAL) {
		count(&reasons, REASON_ESTABLISHED, 0);
		finalize(skb);
		return accept(p, at);
	}
	if (track && known == UNKNOWN)
		remember(p, at);
	count(&reasons, REASON_EXEMPT, 0);
	return accept(p, at);
}

/*
 * Whether the mark cannot be read because nobody is bound to the interface that the packet seems to have come in by: it came
 * through the port of a bridge, or out of a tunnel.
 */
INLINE int is_lost(const struct __sk_buff *skb, u32 from, u32 active)
{
	return is_marked(skb) && !endpoint_at(from, active);
}
