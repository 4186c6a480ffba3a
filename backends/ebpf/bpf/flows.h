/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The table of flows: its keys, and how long a flow lives in it. */
#pragma once
#include "account.h"
#include "maps.h"
#include "packet.h"

/* Who sent: the local or the remote end, in any packet so far. */
#define SENT_LOCAL 1
#define SENT_REMOTE 2
#define CLOSING 4
/* Who sent the packet that policy was asked about. */
#define BEGAN_LOCAL 8
/* Packets from the initiator skip later hooks: an untracked or pre-DNAT rule already allowed this flow. */
#define EXEMPTED 32
/* The decision about packets from the initiator is deferred. The flow is known only at the interface that deferred it. */
#define DEFERRED 64
/* The first packet that was seen did not open the flow, so the other end may have begun it. */
#define MIDWAY 128

/* The node itself, as the peer of a flow. */
#define OF_NODE 0xffffffff

/* Where a packet is, as the flow table sees it. */
struct place {
	u32 interface;
	u32 from_local;
	u32 begins;  /* flags of the flow that begins here */
	u32 peer;    /* interface of the other end, where its address may get a new owner; else 0 */
	u32 payer;   /* the interface that the packet came in by */
	u32 checked; /* whether it was found to be an answer where it came in, or comes from the node itself */
};

/*
 * How a packet stands to the flow table. FINAL: later hooks of the same end need not ask, because the packet is a reply or
 * its flow is exempt.
 */
#define UNKNOWN 0
#define KNOWN 1
#define FINAL 2
/* Its flow was ended: it is dropped, whatever policy says. */
#define CUT 3

INLINE u64 timeout_of(u32 protocol, u32 flags)
{
	int both = (flags & (SENT_LOCAL | SENT_REMOTE)) == (SENT_LOCAL | SENT_REMOTE);

	switch (protocol) {
	case PROTO_TCP:
		if (flags & CLOSING)
			return TIMEOUT_TCP_CLOSING * SECOND;
		return both ? tcp_idle_seconds * SECOND : TIMEOUT_TCP_NEW * SECOND;
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
	return (s64)(now - state->seen) < (s64)timeout_of(protocol, state->flags);
}
