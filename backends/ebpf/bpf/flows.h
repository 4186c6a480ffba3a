/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Flows that were allowed, so that their later packets and their answers pass. */
#pragma once
#include "maps.h"
#include "packet.h"

/* Who sent: the local or the remote end, in any packet so far. */
#define SENT_LOCAL 1
#define SENT_REMOTE 2
#define CLOSING 4
/* Who sent the packet that policy was asked about. */
#define BEGAN_LOCAL 8
/* Policy denies this flow now (decision D16). It counts as unknown until a packet opens the flow anew. */
#define TERMINATED 16
/* Packets from the initiator skip later hooks: an untracked or pre-DNAT rule already allowed this flow. */
#define EXEMPTED 32
/* The decision about packets from the initiator is deferred. The flow is known only at the interface that deferred it. */
#define DEFERRED 64

#define SECOND 1000000000ull

/* The node itself, as the peer of a flow. */
#define OF_NODE 0xffffffff

/* Where a packet is, as the flow table sees it. */
struct place {
	u32 interface;
	u32 from_local;
	u32 begins; /* flags of the flow that begins here */
	u32 peer;   /* interface of the other end, where its address may get a new owner; else 0 */
};

/*
 * How a packet stands to the flow table. FINAL: later hooks of the same end need not ask, because the packet is a reply or
 * its flow is exempt.
 */
#define UNKNOWN 0
#define KNOWN 1
#define FINAL 2

INLINE u64 timeout_of(u32 protocol, u32 flags)
{
	int both = (flags & (SENT_LOCAL | SENT_REMOTE)) == (SENT_LOCAL | SENT_REMOTE);

	switch (protocol) {
	case PROTO_TCP:
		if (flags & CLOSING)
			return TIMEOUT_TCP_CLOSING * SECOND;
		return both ? TIMEOUT_TCP * SECOND : TIMEOUT_TCP_NEW * SECOND;
	case PROTO_UDP:
		return both ? TIMEOUT_UDP * SECOND : TIMEOUT_UDP_NEW * SECOND;
	case PROTO_SCTP:
		return both ? TIMEOUT_SCTP * SECOND : TIMEOUT_TCP_NEW * SECOND;
	case PROTO_ICMP:
	case PROTO_ICMPV6:
		return TIMEOUT_ICMP * SECOND;
	default:
		return TIMEOUT_OTHER * SECOND;
	}
}

INLINE void key_v4(struct flow_v4 *key, const u32 *local, const u32 *remote, u32 ports, u32 interface, u32 protocol)
{
	key->local = local[0];
	key->remote = remote[0];
	key->ports = ports;
	key->interface = interface;
	key->protocol = protocol;
}

INLINE void key_v6(struct flow_v6 *key, const u32 *local, const u32 *remote, u32 ports, u32 interface, u32 protocol)
{
	__builtin_memcpy(key->local, local, 16);
	__builtin_memcpy(key->remote, remote, 16);
	key->ports = ports;
	key->interface = interface;
	key->protocol = protocol;
}

INLINE int is_alive(const struct flow_state *state, u32 protocol, u64 now)
{
	/* Another CPU may have written a later time. */
	return !(state->flags & TERMINATED) && (s64)(now - state->seen) < (s64)timeout_of(protocol, state->flags);
}

/* Whether an ICMP error is about a packet of a flow that is known here. */
FUNCTION int is_related(const struct packet *p, const struct place *at)
{
	if (!p || !at)
		return 0;
	/* The packet inside went the other way. It must be from the end that the error goes to. */
	const u32 *local = at->from_local ? p->inner_destination : p->inner_source;
	const u32 *remote = at->from_local ? p->inner_source : p->inner_destination;
	const u32 *end = at->from_local ? p->source : p->destination;
	u32 ports = at->from_local ? p->received_ports : p->sent_ports;
	struct flow_state *state;

	if (p->v6) {
		struct flow_v6 key;

		if (local[0] != end[0] || local[1] != end[1] || local[2] != end[2] || local[3] != end[3])
			return 0;
		key_v6(&key, local, remote, ports, at->interface, p->inner_protocol);
		state = map_lookup(&flows_v6, &key);
	} else {
		struct flow_v4 key;

		if (local[0] != end[0])
			return 0;
		key_v4(&key, local, remote, ports, at->interface, p->inner_protocol);
		state = map_lookup(&flows_v4, &key);
	}
	return state && is_alive(state, p->inner_protocol, coarse_ns());
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
	if (!state)
		return 0;
	u64 now = coarse_ns();

	if (!is_alive(state, p->protocol, now))
		return 0;
	u32 flags = state->flags | (at->from_local ? SENT_LOCAL : SENT_REMOTE) | (p->flags & CLOSES ? CLOSING : 0);

	/* One write a second is enough, and leaves the line to other CPUs. */
	if ((s64)(now - state->seen) > (s64)SECOND)
		state->seen = now;
	if (flags != state->flags)
		state->flags = flags;
	/* The address has a new owner; the flow was that of the old one. */
	if (at->peer && state->peer && at->peer != state->peer)
		return UNKNOWN;
	if (flags & EXEMPTED || !(flags & BEGAN_LOCAL) == !!at->from_local)
		return FINAL;
	return flags & DEFERRED & ~at->begins ? UNKNOWN : KNOWN;
}

/* Notes that a packet of a flow was allowed here. */
FUNCTION int remember(const struct packet *p, const struct place *at)
{
	if (!p || !at)
		return 0;
	struct flow_state state = { .seen = coarse_ns(),
				    .flags = at->begins | (at->from_local ? SENT_LOCAL | BEGAN_LOCAL : SENT_REMOTE),
				    .peer = at->peer };
	/* Packets of a flow that was terminated may be allowed the one way. That does not allow the other. */
	int goes_on = !(p->flags & OPENS) && (p->protocol == PROTO_TCP || p->protocol == PROTO_SCTP);
	struct flow_state *old;
	const u32 *local = at->from_local ? p->source : p->destination;
	const u32 *remote = at->from_local ? p->destination : p->source;
	u32 ports = at->from_local ? p->sent_ports : p->received_ports;

	if (p->v6) {
		struct flow_v6 key;

		key_v6(&key, local, remote, ports, at->interface, p->protocol);
		old = goes_on ? map_lookup(&flows_v6, &key) : 0;
		if (old && old->flags & TERMINATED)
			return 0;
		map_update(&flows_v6, &key, &state, 0);
	} else {
		struct flow_v4 key;

		key_v4(&key, local, remote, ports, at->interface, p->protocol);
		old = goes_on ? map_lookup(&flows_v4, &key) : 0;
		if (old && old->flags & TERMINATED)
			return 0;
		map_update(&flows_v4, &key, &state, 0);
	}
	return 0;
}

INLINE void key_fragments(struct fragments *key, const struct packet *p, const struct place *at)
{
	__builtin_memcpy(key->source, p->source, 16);
	__builtin_memcpy(key->destination, p->destination, 16);
	key->id = p->id;
	key->interface = at->interface;
	key->protocol = p->protocol;
	key->way = at->from_local | p->v6 << 1;
}

/* How long the later fragments of a packet may take. The kernel's ip_frag_time is as long. */
#define FRAGMENT_TIME (30 * SECOND)

FUNCTION int follows_first(const struct packet *p, const struct place *at)
{
	if (!p || !at)
		return 0;
	struct fragments key;

	key_fragments(&key, p, at);
	u64 *seen = map_lookup(&fragmented, &key);

	return seen && coarse_ns() - *seen < FRAGMENT_TIME;
}

FUNCTION int remember_first(const struct packet *p, const struct place *at)
{
	if (!p || !at)
		return 0;
	struct fragments key;
	u64 now = coarse_ns();

	key_fragments(&key, p, at);
	map_update(&fragmented, &key, &now, 0);
	return 0;
}
