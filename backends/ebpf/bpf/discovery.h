/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Neighbour and listener discovery, which no policy is asked about (decision D23). It stays on its link. */
#pragma once
#include "endpoint.h"
#include "packet.h"
#include "route.h"

INLINE int stays_on_link(const u32 *destination)
{
	return is_link_local(destination) || is_link_group(destination);
}

/* The kernel says of every group that it does not forward to it, though a daemon may have it do so. */
INLINE int is_group(const u32 *address)
{
	return (address[0] & swap32(0xff000000)) == swap32(0xff000000);
}

/* Answers of fib_lookup: forwarded, for the node or without a route, forwarded to a neighbour who is still to be found. */
#define FORWARDED 0
#define NOT_FORWARDED 4
#define FORWARDED_UNRESOLVED 7

/* The node itself takes what goes there; nobody knows a link of it. */
#define KEPT 0xffffffff
#define NO_LINK 0
#define OF_SOURCE 0
#define OF_DESTINATION 1

/* By which interface the node reaches an end of the packet that is on a link of its own. */
FUNCTION u32 link_of(struct __sk_buff *skb, const struct packet *p, u32 end)
{
	if (!p)
		return NO_LINK;
	const u32 *address = end == OF_SOURCE ? p->source : p->destination;
	struct fib fib = { .family = 10, .protocol = PROTO_ICMPV6, .interface = skb->ifindex };

	__builtin_memcpy(fib.destination, address, 16);
	long found = fib_lookup(skb, &fib, sizeof(fib), 0);

	if (found == NOT_FORWARDED)
		return KEPT;
	if (found != FORWARDED && found != FORWARDED_UNRESOLVED)
		return NO_LINK;
	/* Otherwise this is a router's address by now. */
	if (fib.destination[0] != address[0] || fib.destination[1] != address[1] || fib.destination[2] != address[2] ||
	    fib.destination[3] != address[3])
		return NO_LINK;
	return fib.interface;
}

/*
 * From a workload: its address is its own, link-local or none, and nobody forwards the packet. Where both addresses are behind one
 * interface of the node, which then is a bridge, a neighbour there is meant.
 */
FUNCTION int is_discovery_of(struct __sk_buff *skb, const struct packet *p, const struct buffer *buffer)
{
	if (!p || !buffer)
		return 0;
	if (!(buffer->flags & ANY_ADDRESS) && !is_link_local(p->source) && !is_unspecified(p->source) &&
	    !is_own(buffer, 1, p->source))
		return 0;
	if (stays_on_link(p->destination))
		return 1;
	if (is_group(p->destination))
		return 0;
	u32 to = link_of(skb, p, OF_DESTINATION);

	return to == KEPT || (to != NO_LINK && to == link_of(skb, p, OF_SOURCE));
}

/* To a workload. Had the packet come by a router, its hop limit were smaller. */
INLINE int is_discovery_to(const struct packet *p, const struct buffer *buffer)
{
	return p->flags & SIGNALS &&
	       (stays_on_link(p->destination) || buffer->flags & ANY_ADDRESS || is_own(buffer, 1, p->destination));
}

/* From the network to the node. */
INLINE int is_discovery_in(struct __sk_buff *skb, const struct packet *p)
{
	return p->flags & SIGNALS &&
	       (stays_on_link(p->destination) || (!is_group(p->destination) && is_for_node(skb, p)));
}
