/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What a packet carries from one program to the next. */
#pragma once
#include "ask.h"

/*
 * It carries the class of the source before source NAT to the programs that the packet meets later on this node, and one of these
 * states. Both are in `tc_index`, 16 bits that belong to programs at tc and stay with a packet: class below, state in the two upper
 * ones. They also stay when it crosses into another network namespace, which clears the mark (`skb_scrub_packet`): so one bit of the mark
 * says that they are ours, and nobody else can write them.
 */
#define INDEX_STATE 14
#define INDEX_CLASS 0x3fffu
#define MARK_NONE 0
/* Up to two: numbers of classes are those of the mark generation, as far as one bit can tell. */
#define MARK_CLASS 1
/* Final: the endpoint of the incoming interface is not asked again, even if the addresses change later. */
#define MARK_FINAL 3

/*
 * With MARK_NONE, the bits of the class are zero where there is no mark, or say that the host endpoint of the interface has less to
 * say about the packet than it had otherwise. This one: it let the packet to the node itself, and to nobody else.
 */
#define MARK_CONFINED 1
/*
 * From here on, a class and below it the bit of the mark generation. From a workload: pre-DNAT policy allowed it, so that the forward
 * and host ingress policy of `*` have no say. From the network: untracked policy allowed it to the node itself.
 */
#define MARK_FREED 2

INLINE u32 mark_of(u32 active)
{
	return MARK_CLASS + ((active ^ mark_parity) & 1);
}

INLINE int is_marked(const struct __sk_buff *skb)
{
	return mark_bit && skb->mark & mark_bit;
}

INLINE u32 marked_bits(const struct __sk_buff *skb)
{
	if (!is_marked(skb))
		return 0;
	return (skb->tc_index & INDEX_CLASS) | ((skb->mark & mark_mask) >> mark_shift << INDEX_STATE);
}

INLINE void put_mark(struct __sk_buff *skb, u32 bits, u32 state)
{
	if (!mark_bit)
		return;
	skb->tc_index = (bits & INDEX_CLASS) | state << INDEX_STATE;
	skb->mark = (skb->mark & ~mark_mask) | mark_bit | (bits >> INDEX_STATE << mark_shift & mark_mask);
}

INLINE void carry_class(struct __sk_buff *skb, u32 class, u32 active)
{
	put_mark(skb, class, mark_of(active));
}

INLINE void finalize(struct __sk_buff *skb)
{
	put_mark(skb, marked_bits(skb), MARK_FINAL);
}

INLINE void confine(struct __sk_buff *skb)
{
	put_mark(skb, MARK_CONFINED, MARK_NONE);
}

/* Whether the mark has room for that. Where not, it stays as it is. */
INLINE int set_free(struct __sk_buff *skb, u32 class, u32 active)
{
	u32 bits = MARK_FREED + (class << 1 | ((active ^ mark_parity) & 1));

	if (bits > (INDEX_CLASS | mark_mask >> mark_shift << INDEX_STATE))
		return 0;
	put_mark(skb, bits, MARK_NONE);
	return 1;
}

INLINE u32 state_of(const struct __sk_buff *skb)
{
	return is_marked(skb) ? skb->tc_index >> INDEX_STATE & 3 : MARK_NONE;
}

INLINE int is_final(const struct __sk_buff *skb)
{
	return state_of(skb) == MARK_FINAL;
}

INLINE int is_confined(const struct __sk_buff *skb)
{
	return state_of(skb) == MARK_NONE && marked_bits(skb) == MARK_CONFINED;
}

INLINE int is_free(const struct __sk_buff *skb)
{
	return state_of(skb) == MARK_NONE && marked_bits(skb) >= MARK_FREED;
}

/* UNSOUGHT where no class was carried: the address of the packet is that of its source then. */
INLINE u32 carried_class(const struct __sk_buff *skb, u32 active)
{
	u32 state = state_of(skb), bits = marked_bits(skb);

	if (state == MARK_NONE) {
		if (bits < MARK_FREED)
			return UNSOUGHT;
		bits -= MARK_FREED;
		return (bits & 1) == ((active ^ mark_parity) & 1) ? bits >> 1 : STALE;
	}
	if (state == MARK_FINAL || state == mark_of(active))
		return bits;
	return STALE;
}
