/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The program for what comes in by an interface of the host. */
#pragma once
#include "defer.h"
#include "drop.h"
#include "endpoint.h"
#include "fragments.h"
#include "mark.h"
#include "parse.h"
#include "route.h"
#include "sources.h"
#include "to_host.h"

/*
 * What an untracked rule allowed to the node itself, on a node that rewrites destinations: should this one be rewritten, the other
 * policies have their say. Nothing is counted here, because the packet is most likely for the node.
 */
FUNCTION int enter_untracked(struct __sk_buff *skb, const struct packet *p, const struct buffer *buffer, u32 class, u32 active)
{
	if (!p || !buffer)
		return REFUSED;
	struct question q = { buffer->programs[HOOK_PRE_DNAT], HOOK_PRE_DNAT, skb->ifindex, active, class, UNSOUGHT,
			      skb->ifindex };
	u32 action = judge_hook(p, &q, 0);

	if (action == ACTION_ALLOW)
		finalize(skb);
	else if (action == ACTION_DENY || !set_free(skb, class, active))
		confine(skb);
	return ACCEPTED;
}

SEC("classifier")
int from_network(struct __sk_buff *skb)
{
	u32 active = read_active_buffer(), interface = skb->ifindex;
	const struct buffer *buffer = guard_of(interface, active);
	struct packet p = {};
	struct place at = { interface, 0, 0, 0, interface, 0 };
	int parsed = parse(skb, &p);

	if (parsed == PASS_ARP || parsed == BAD_ETHERTYPE)
		return TC_NEXT;
	if (parsed != PARSED)
		return buffer || has_tunnel_peers ? drop(reason_of(parsed)) : TC_NEXT;
	if (has_tunnel_peers && is_tunnel(&p) && !is_tunnel_peer(&p) && is_for_node(skb, &p))
		return drop(REASON_TUNNEL);
	struct question q = { 0, HOOK_UNTRACKED_INGRESS, interface, active, UNSOUGHT, UNSOUGHT, interface };

	if (services) {
		q.source_class = class_of(p.v6, p.source, active) & ~SERVICE;
		carry_class(skb, q.source_class, active);
	}
	if (!buffer) {
		if (is_forged(&p))
			return drop(REASON_FORGED);
		/* What is no answer to a flow that was allowed to leave here is none where it arrives. */
		if (services && is_known(&p, &at) == FINAL)
			finalize(skb);
		return TC_NEXT;
	}
	if (p.flags & LATER_FRAGMENT)
		return later_fragment(&p, &at);
	int untracked = 0;

	if (!(buffer->flags & TRACKED_ONLY)) {
		q.program = buffer->programs[HOOK_UNTRACKED_INGRESS];
		u32 action = judge_hook(&p, &q, p.bytes);

		if (action == ACTION_DENY)
			return TC_DROP;
		/* What is forwarded is asked about as if no untracked policy applied (decision D25). */
		untracked = action == ACTION_ALLOW && is_for_node(skb, &p);
		if (untracked && !services)
			return is_forged(&p) ? drop(REASON_FORGED) : accept(&p, &at);
	}
	at.begins = services ? DEFERRED : 0;
	int known = is_known(&p, &at);

	if (known == CUT)
		return TC_DROP;
	if (known) {
		if (known == FINAL)
			finalize(skb);
		count(&reasons, REASON_ESTABLISHED, 0);
		return accept(&p, &at);
	}
	/* No flow that is known here came from a workload of this node. */
	if (is_forged(&p))
		return drop(REASON_FORGED);
	if (untracked)
		return enter_untracked(skb, &p, buffer, q.source_class, active) == REFUSED ? TC_DROP : accept(&p, &at);
	q.hook = HOOK_PRE_DNAT;
	q.program = buffer->programs[HOOK_PRE_DNAT];
	at.begins = EXEMPTED;
	int decided = decide_hook(&p, &at, &q);

	if (decided == REFUSED)
		return TC_DROP;
	if (decided == EXEMPT) {
		finalize(skb);
		return accept(&p, &at);
	}
	at.begins = 0;
	if (services && has_ports(&p)) {
		q.destination_class = class_of(p.v6, p.destination, active);
		if (q.destination_class & SERVICE)
			return defer(skb, &p, &at);
	}
	if (is_for_node(skb, &p)) {
		q.hook = HOOK_HOST_INGRESS;
		q.program = buffer->programs[HOOK_HOST_INGRESS];
	} else {
		q.hook = HOOK_FORWARD_INGRESS;
		q.program = buffer->programs[HOOK_FORWARD_INGRESS];
	}
	return decide_hook(&p, &at, &q) == REFUSED ? TC_DROP : accept(&p, &at);
}
