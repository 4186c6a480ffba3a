/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Other shapes of the same decision, to be measured beside ours: our own code after public descriptions. They read packets
 * with our parser, so what differs is policy.
 */
#include "../../backends/ebpf/bpf/kernel.h"
#include "../../backends/ebpf/bpf/parse.h"
#include "draw.h"
#include "rivals.h"

/*
 * An LPM trie from address to identity, and an LPM trie of policy for each endpoint, asked twice: for the identity, and for
 * any. In its favour: a table of addresses for each family, with keys no longer than needed; no connection tracking, no
 * counters, no events, no check of the workload's own address; policies by interface in an array, which the kernel inlines.
 */
INLINE int judge_tries(struct __sk_buff *skb, u32 interface)
{
	struct packet p = {};
	u32 *found;

	if (parse(skb, &p) != PARSED || p.flags & LATER_FRAGMENT)
		return TC_DROP;
	if (p.v6) {
		struct address_v6 address = { 128, { p.source[0], p.source[1], p.source[2], p.source[3] } };

		found = map_lookup(&identities_v6, &address);
	} else {
		struct address_v4 address = { 32, p.source[0] };

		found = map_lookup(&identities_v4, &address);
	}
	void *policy = map_lookup(&policies, &interface);

	if (!policy)
		return TC_DROP;
	struct policy_key key = { 64, found ? *found : WORLD, INGRESS, p.protocol, swap16(p.key) };
	const struct policy *exact = map_lookup(policy, &key), *any = 0;

	if (!exact || exact->precedence != HIGHEST) {
		key.identity = ANY;
		any = map_lookup(policy, &key);
	}
	const struct policy *chosen = exact ? exact : any;

	if (exact && any &&
	    (any->precedence > exact->precedence ||
	     (any->precedence == exact->precedence && any->length > exact->length)))
		chosen = any;
	return chosen && !chosen->deny ? TC_NEXT : TC_DROP;
}

SEC("classifier")
int tries(struct __sk_buff *skb)
{
	return judge_tries(skb, skb->ifindex);
}

SEC("classifier")
int drawn_tries(struct __sk_buff *skb)
{
	struct drawn now;

	return draw(&now) ? redraw(skb, &now, judge_tries(skb, now.interface)) : TC_DROP;
}

/*
 * A program for each endpoint, one rule after the other, that is generated: this part reads the packet, notes what rules
 * look at, and jumps there. In its favour: one family and no check of the workload's own address; the place it jumps to
 * is a constant, so the kernel makes a plain jump of it; the verdict is returned and not handed to a third program.
 */
SEC("classifier")
int lines(struct __sk_buff *skb)
{
	struct packet p = {};
	u32 zero = 0;

	if (parse(skb, &p) != PARSED || p.flags & LATER_FRAGMENT)
		return TC_DROP;
	struct seen *to = map_lookup(&seen, &zero);

	if (!to)
		return TC_DROP;
	to->service = p.protocol << 16 | p.key;
	to->source = p.source[0];
	tail_call(skb, &segments, 0);
	return TC_DROP;
}

/* What reading a packet takes, which is in ours and in those above. */
INLINE int read_only(struct __sk_buff *skb)
{
	struct packet p = {};

	if (parse(skb, &p) != PARSED)
		return TC_DROP;
	/* Never so; but everything has to be read. */
	return (p.source[0] ^ p.destination[0] ^ p.protocol ^ p.key ^ p.flags) == 0xffffffff ? TC_DROP : TC_NEXT;
}

SEC("classifier")
int parsed(struct __sk_buff *skb)
{
	return read_only(skb);
}

SEC("classifier")
int drawn_parsed(struct __sk_buff *skb)
{
	struct drawn now;

	if (!draw(&now) || read_only(skb) == TC_DROP)
		return TC_DROP;
	return redraw(skb, &now, now.allowed ? TC_NEXT : TC_DROP);
}

SEC("classifier")
int drawn_nothing(struct __sk_buff *skb)
{
	struct drawn now;

	return draw(&now) ? redraw(skb, &now, now.allowed ? TC_NEXT : TC_DROP) : TC_DROP;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
