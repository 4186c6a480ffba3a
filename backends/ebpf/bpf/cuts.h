/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Flows that were ended because policy denies them now (decision D16). They stay so until they are opened anew. */
#pragma once
#include "count.h"
#include "flows.h"

/* Of others, any packet may begin a flow, so there is nothing that could go on. */
INLINE int can_be_cut(const struct packet *p)
{
	return p->protocol == PROTO_TCP || p->protocol == PROTO_SCTP;
}

INLINE struct cut *cut_of(const struct packet *p, const struct place *at)
{
	const u32 *local = at->from_local ? p->source : p->destination;
	const u32 *remote = at->from_local ? p->destination : p->source;
	u32 ports = at->from_local ? p->sent_ports : p->received_ports;

	if (p->v6) {
		struct flow_v6 key;

		key_v6(&key, local, remote, ports, at->interface, p->protocol);
		return map_lookup(&cuts_v6, &key);
	}
	struct flow_v4 key;

	key_v4(&key, local, remote, ports, at->interface, p->protocol);
	return map_lookup(&cuts_v4, &key);
}

/*
 * CUT for a packet of a flow that was ended. UNKNOWN where there is none; also for one from the end that began the flow, because
 * policy has an answer about that, which may be another one by now.
 */
FUNCTION int is_cut(const struct packet *p, const struct place *at)
{
	if (!p || !at)
		return UNKNOWN;
	struct cut *cut = cut_of(p, at);

	if (!cut)
		return UNKNOWN;
	u64 now = coarse_ns(), silence = now - cut->seen;

	if ((s64)silence > (s64)timeout_of(p->protocol, SENT_LOCAL | SENT_REMOTE))
		return UNKNOWN;
	if ((s64)silence > (s64)SECOND)
		cut->seen = now;
	int is_from_initiator = !(cut->began & BEGAN_LOCAL) == !at->from_local;

	if (is_from_initiator && !(cut->began & MIDWAY))
		return UNKNOWN;
	count(&reasons, REASON_CUT, 0);
	return CUT;
}
