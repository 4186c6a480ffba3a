/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What a workload tells its neighbours about itself: ARP and neighbour advertisements may only name its own addresses. */
#pragma once
#include "endpoint.h"
#include "packet.h"

/* A sender without an address claims none; it looks whether another has the one that it wants (RFC 5227). */
FUNCTION int is_honest_arp(struct __sk_buff *skb, const struct buffer *buffer)
{
	u16 type = swap16((u16)skb->protocol);
	u32 offset = 0, sender;
	u8 arp[18];

	if (!buffer)
		return 0;
	if (buffer->flags & ANY_ADDRESS)
		return 1;
	if (skip_tags(skb, &type, &offset))
		return 0;
	if (load_relative(skb, offset, arp, sizeof(arp), FROM_NETWORK_HEADER))
		return 0;
	/* Ethernet and IPv4: where the sender's address lies follows from that. */
	if (arp[0] || arp[1] != 1 || arp[2] != 8 || arp[3] || arp[4] != 6 || arp[5] != 4)
		return 0;
	__builtin_memcpy(&sender, arp + 14, 4);
	return !sender || is_own(buffer, 0, &sender);
}

INLINE int is_advertisement(const struct packet *p)
{
	return p->v6 && p->protocol == PROTO_ICMPV6 && p->key >> 8 == ADVERTISEMENT && !(p->flags & LATER_FRAGMENT);
}

/* Nobody binds link-local addresses: one passes when it is the source as well, which is how the kernel answers for it. */
FUNCTION int is_honest_advertisement(const struct packet *p, const struct buffer *buffer)
{
	if (!p || !buffer)
		return 0;
	const u32 *target = p->inner_destination;

	if (buffer->flags & ANY_ADDRESS)
		return 1;
	if ((target[0] & swap32(0xffc00000)) == swap32(0xfe800000))
		return target[0] == p->source[0] && target[1] == p->source[1] && target[2] == p->source[2] &&
		       target[3] == p->source[3];
	return is_own(buffer, 1, target);
}
