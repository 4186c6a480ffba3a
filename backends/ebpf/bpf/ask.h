/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Asks the flow table, then policy. */
#pragma once
#include "known.h"
#include "policy.h"
#include "remember.h"

/* What becomes of a packet at one place. */
#define REFUSED 0
#define ACCEPTED 1
#define ESTABLISHED 2
#define EXEMPT 3 /* by a hook that ends the host endpoint's say */
#define ANSWERED 4 /* established, and final */

/* The class of a packet that was on its way while classes got other numbers. */
#define STALE 0xfffffffe

/* Notes what a packet begins. */
INLINE void begin(const struct packet *p, const struct place *at)
{
	if (track && !(p->flags & NO_FLOW))
		remember(p, at);
}

/* Policy, where the flow table does not know the packet. */
INLINE int decide(const struct packet *p, const struct place *at, struct question *q)
{
	if (q->source_class == STALE) {
		count(&reasons, REASON_STALE, 0);
		return REFUSED;
	}
	u32 action = judge(p, q, p->bytes);

	if (action == ACTION_DENY)
		return REFUSED;
	if (q->hook != HOOK_PRE_DNAT || action == ACTION_ALLOW)
		begin(p, at);
	return action == ACTION_ALLOW ? EXEMPT : ACCEPTED;
}

/* The same as a function, for programs that ask several hooks. */
FUNCTION int decide_hook(const struct packet *p, const struct place *at, struct question *q)
{
	if (!p || !at || !q)
		return REFUSED;
	return decide(p, at, q);
}

INLINE int is_known(const struct packet *p, const struct place *at)
{
	if (!track)
		return UNKNOWN;
	if (p->flags & (OPENS | NO_FLOW))
		return p->flags & ERROR && is_related(p, at) ? FINAL : UNKNOWN;
	return is_established(p, at);
}

/*
 * One hook that remembers flows. `q` says which; its program is filled in already.
 */
INLINE int ask(const struct packet *p, const struct place *at, struct question *q)
{
	int known = is_known(p, at);

	if (known == CUT)
		return REFUSED;
	if (known) {
		count(&reasons, REASON_ESTABLISHED, 0);
		return known == FINAL ? ANSWERED : ESTABLISHED;
	}
	return decide(p, at, q);
}

/* The same as a function, for hooks that few packets meet. */
FUNCTION int ask_hook(const struct packet *p, const struct place *at, struct question *q)
{
	if (!p || !at || !q)
		return REFUSED;
	return ask(p, at, q);
}

/*
 * Where `*` covers the interface of a workload: two hooks, of which both have to allow. Of a packet to the workload, its own policy and
 * forward policy of `*`; of one from it, the same the other way round. Calls are not nested deeper than they have to be,
 * because stacks add up.
 */
INLINE int ask_both(const struct packet *p, const struct place *at, struct question *q, const struct buffer *buffer, u32 first, u32 second)
{
	int known = is_known(p, at);

	if (known == CUT)
		return REFUSED;
	if (known) {
		count(&reasons, REASON_ESTABLISHED, 0);
		return ESTABLISHED;
	}
	if (q->source_class == STALE) {
		count(&reasons, REASON_STALE, 0);
		return REFUSED;
	}
	if (judge_at(p, q, buffer, first) == ACTION_DENY || judge_at(p, q, buffer, second) == ACTION_DENY)
		return REFUSED;
	begin(p, at);
	return ACCEPTED;
}

FUNCTION int ask_covered_in(const struct packet *p, const struct place *at, struct question *q, const struct buffer *buffer)
{
	if (!p || !at || !q || !buffer)
		return REFUSED;
	return ask_both(p, at, q, buffer, HOOK_WORKLOAD_INGRESS, HOOK_FORWARD_EGRESS);
}

FUNCTION int ask_covered_again(const struct packet *p, const struct place *at, struct question *q, const struct buffer *buffer)
{
	if (!p || !at || !q || !buffer)
		return REFUSED;
	return ask_both(p, at, q, buffer, HOOK_FORWARD_INGRESS, HOOK_WORKLOAD_EGRESS);
}
