/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The node's routing, as the kernel tells it. */
#pragma once
#include "packet.h"

struct fib {
	u8 family;
	u8 protocol;
	u16 source_port;
	u16 destination_port;
	u16 total_length;
	u32 interface;
	u32 flow;
	u32 source[4];
	u32 destination[4];
	u8 rest[16];
};
_Static_assert(sizeof(struct fib) == 64, "struct bpf_fib_lookup");

/* Whether the node itself is the destination: the kernel's routing would not forward the packet. */
FUNCTION int is_for_node(struct __sk_buff *skb, const struct packet *p)
{
	if (!p)
		return 1;
	struct fib fib = { .family = p->v6 ? 10 : 2, .protocol = p->protocol, .interface = skb->ifindex };

	__builtin_memcpy(fib.source, p->source, 16);
	__builtin_memcpy(fib.destination, p->destination, 16);
	long found = fib_lookup(skb, &fib, sizeof(fib), 0);

	/* Forwarded; or it would be, through a tunnel of the route, or if the neighbour were known or the packet smaller. */
	return !(found == 0 || found == 6 || found == 7 || found == 8);
}
