/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Drops that are not a decision of policy. */
#pragma once
#include "packet.h"
#include "policy.h"

INLINE int drop(u32 reason)
{
	count(&reasons, reason, 0);
	return TC_DROP;
}

/* At a closed interface: neighbours are found all the same. */
INLINE int drop_unless_arp(struct __sk_buff *skb)
{
	return skb->protocol == swap16(ETH_ARP) ? TC_NEXT : drop(REASON_UNKNOWN_INTERFACE);
}

INLINE int reason_of(int parsed)
{
	if (parsed == BAD_ETHERTYPE)
		return REASON_ETHERTYPE;
	return parsed == BAD_FRAGMENT ? REASON_FRAGMENT : REASON_MALFORMED;
}
