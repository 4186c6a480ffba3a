/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Our programs and, beside them, those of measurements, in one object: so that they share maps. */
#include "../../backends/ebpf/bpf/portcullis.bpf.c"

#include "draw.h"

/* What a run costs that does nothing. */
SEC("classifier")
int nothing(struct __sk_buff *skb)
{
	(void)skb;
	return TC_NEXT;
}

/* What a run costs that draws a packet. */
SEC("classifier")
int drawn_nothing(struct __sk_buff *skb)
{
	struct drawn now;

	return draw(&now) ? redraw(skb, &now, now.allowed ? TC_NEXT : TC_DROP) : TC_DROP;
}

/* A packet to the workload at the interface that was drawn with it. */
SEC("classifier")
int drawn_verdict(struct __sk_buff *skb)
{
	struct drawn now;

	if (!draw(&now))
		return TC_DROP;
	return redraw(skb, &now, guard_in(skb, now.interface, skb->ingress_ifindex));
}
