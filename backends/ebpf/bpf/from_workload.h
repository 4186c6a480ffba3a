/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The program for what a workload sends. */
#pragma once
#include "claims.h"
#include "defer.h"
#include "discovery.h"
#include "drop.h"
#include "endpoint.h"
#include "fragments.h"
#include "mark.h"
#include "parse.h"
#include "route.h"
#include "to_host.h"

/*
 * What a workload sends, where `*` covers its interface: pre-DNAT policy of `*`, its forward policy unless the packet is for the
 * node itself, and then the workload's own. EXEMPT: pre-DNAT policy allowed it.
 */
FUNCTION int ask_covered(struct __sk_buff *skb, const struct packet *p, const struct place *at, struct question *q,
			 const struct buffer *buffer)
{
	if (!p || !at || !q || !buffer)
		return REFUSED;
	int known = is_known(p, at);

	if (known == CUT)
		return REFUSED;
	if (known) {
		count(&reasons, REASON_ESTABLISHED, 0);
		return known == FINAL ? ANSWERED : ESTABLISHED;
	}
	u32 action = judge_at(p, q, buffer, HOOK_PRE_DNAT);

	if (action == ACTION_DENY)
		return REFUSED;
	/* Where the mark has no room for that, forward policy is asked where the packet leaves. */
	if (action == ACTION_ALLOW && services)
		set_free(skb, q->source_class, q->active);
	if (at->begins & DEFERRED) {
		count(&reasons, REASON_EXEMPT, 0);
	} else {
		if (action != ACTION_ALLOW && !is_for_node(skb, p) &&
		    judge_at(p, q, buffer, HOOK_FORWARD_INGRESS) == ACTION_DENY)
			return REFUSED;
		if (judge_at(p, q, buffer, HOOK_WORKLOAD_EGRESS) == ACTION_DENY)
			return REFUSED;
	}
	begin(p, at);
	return action == ACTION_ALLOW ? EXEMPT : ACCEPTED;
}

SEC("classifier")
int from_workload(struct __sk_buff *skb)
{
	u32 active = read_active_buffer(), interface = skb->ifindex;
	const struct buffer *buffer = endpoint_at(interface, active);
	struct packet p = {};
	struct place at = { interface, 1, 0, 0, interface, 0 };

	/* Nobody owns an address at a closed interface. */
	if (!buffer && check_claims)
		return drop(REASON_UNKNOWN_INTERFACE);
	if (!buffer || buffer->flags & HOST)
		return drop_unless_arp(skb);
	int parsed = parse(skb, &p);

	if (parsed == PASS_ARP)
		return !check_claims || is_honest_arp(skb, buffer) ? TC_NEXT : drop(REASON_CLAIM);
	if (parsed != PARSED)
		return drop(reason_of(parsed));
	if (check_claims && is_advertisement(&p) && !is_honest_advertisement(&p, buffer))
		return drop(REASON_CLAIM);
	if (p.flags & SIGNALS && is_discovery_of(skb, &p, buffer)) {
		count(&reasons, REASON_EXEMPT, 0);
		return TC_NEXT;
	}
	if (!(buffer->flags & ANY_ADDRESS) && !is_own(buffer, p.v6, p.source))
		return drop(REASON_ADDRESS);
	if (p.flags & LATER_FRAGMENT)
		return later_fragment(&p, &at);
	struct question q = { buffer->programs[HOOK_WORKLOAD_EGRESS], HOOK_WORKLOAD_EGRESS, interface, active,
			      UNSOUGHT, UNSOUGHT, interface };

	if (services) {
		q.source_class = class_of(p.v6, p.source, active) & ~SERVICE;
		carry_class(skb, q.source_class, active);
		if (has_ports(&p)) {
			q.destination_class = class_of(p.v6, p.destination, active);
			if (q.destination_class & SERVICE) {
				if (!(buffer->flags & COVERED))
					return defer(skb, &p, &at);
				at.begins = DEFERRED;
			}
		}
	}
	int asked = buffer->flags & COVERED ? ask_covered(skb, &p, &at, &q, buffer) : ask(&p, &at, &q);

	if (asked == REFUSED) {
		/* A workload may always reach itself (decision D10). */
		if (is_own(buffer, p.v6, p.destination)) {
			count(&reasons, REASON_EXEMPT, 0);
			return accept(&p, &at);
		}
		return TC_DROP;
	}
	if (asked == ANSWERED) {
		finalize(skb);
	} else if (to_host && !at.begins && is_for_node(skb, &p)) {
		int entered = buffer->flags & COVERED && asked == EXEMPT ?
				      enter_node_freely(skb, &p) :
				      enter_node(skb, &p, &at, &q, buffer);

		if (entered == REFUSED)
			return TC_DROP;
	}
	return accept(&p, &at);
}
