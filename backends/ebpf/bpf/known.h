/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Whether a packet belongs to a flow that was allowed. */
#pragma once
#include "cuts.h"
#include "flows.h"

/*
 * Whether an ICMP error is about a packet of a flow that was allowed here. As connection tracking has it (nf_conntrack_inet_error in
 * nf_conntrack_proto_icmp.c): it goes to whom sent the packet inside. Whichever end sends it, so that nobody else gets it.
 */
FUNCTION int is_related(const struct packet *p, const struct place *at)
{
	if (!p || !at)
		return 0;
	/* The packet inside went the other way. */
	const u32 *local = at->from_local ? p->inner_destination : p->inner_source;
	const u32 *remote = at->from_local ? p->inner_source : p->inner_destination;
	const u32 *sender = p->inner_source, *to = p->destination;
	u32 ports = at->from_local ? p->received_ports : p->sent_ports;
	struct flow_state *state;

	if (p->v6) {
		struct flow_v6 key;

		if (sender[0] != to[0] || sender[1] != to[1] || sender[2] != to[2] || sender[3] != to[3])
			return 0;
		key_v6(&key, local, remote, ports, at->interface, p->inner_protocol);
		state = map_lookup(&flows_v6, &key);
	} else {
		struct flow_v4 key;

		if (sender[0] != to[0])
			return 0;
		key_v4(&key, local, remote, ports, at->interface, p->inner_protocol);
		state = map_lookup(&flows_v4, &key);
	}
	if (!state || !is_alive(state, p->inner_protocol, coarse_ns()))
		return 0;
	if (at->peer && state->peer && at->peer != state->peer)
		return 0;
	/* Of a flow that is noted and not allowed yet, an error is one only where it was found to be one before. */
	return !(state->flags & DEFERRED) || at->checked;
}

/* How the packet stands to the flow table at this interface. */
INLINE int is_established(const struct packet *p, const struct place *at)
{
	const u32 *local = at->from_local ? p->source : p->destination;
	const u32 *remote = at->from_local ? p->destination : p->source;
	u32 ports = at->from_local ? p->sent_ports : p->received_ports;
	struct flow_state *state;

	if (p->v6) {
		struct flow_v6 key;

		key_v6(&key, local, remote, ports, at->interface, p->protocol);
		state = map_lookup(&flows_v6, &key);
	} else {
		struct flow_v4 key;

		key_v4(&key, local, remote, ports, at->interface, p->protocol);
		state = map_lookup(&flows_v4, &key);
	}
	u64 now = state ? coarse_ns() : 0;

	if (!state || !is_alive(state, p->protocol, now))
		return can_be_cut(p) ? is_cut(p, at) : UNKNOWN;
	u32 flags = state->flags | (at->from_local ? SENT_LOCAL : SENT_REMOTE) | (p->flags & CLOSES ? CLOSING : 0);

	/* One write a second is enough, and leaves the line to other CPUs. */
	if ((s64)(now - state->seen) > (s64)SECOND)
		state->seen = now;
	if (flags != state->flags)
		state->flags = flags;
	/* The address has a new owner; the flow was that of the old one. */
	if (at->peer && state->peer && at->peer != state->peer)
		return UNKNOWN;
	int is_answer = !(flags & BEGAN_LOCAL) == !!at->from_local;

	/* Nothing answers what was never allowed. */
	if (is_answer && flags & DEFERRED && !at->checked)
		return UNKNOWN;
	if (flags & EXEMPTED || is_answer)
		return FINAL;
	return flags & DEFERRED & ~at->begins ? UNKNOWN : KNOWN;
}
