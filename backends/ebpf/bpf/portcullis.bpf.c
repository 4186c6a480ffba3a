/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The programs. They are fixed: policy is in the maps only.
 *
 * from_workload and to_workload guard a workload's host-side interface, from_network and to_network an interface of the
 * host. What one of them lets pass goes on to other programs on the interface.
 */
#include "flows.h"
#include "maps.h"
#include "packet.h"
#include "policy.h"

INLINE u32 now_side(void)
{
	u32 zero = 0;
	u32 *side = map_lookup(&phase, &zero);

	return side ? *side & 1 : 0;
}

INLINE const struct side *endpoint_at(u32 interface, u32 now)
{
	struct endpoint *endpoint = map_lookup(&endpoints, &interface);

	if (!endpoint)
		return 0;
	const struct side *side = now & 1 ? &endpoint->sides[1] : &endpoint->sides[0];

	return side->flags & PRESENT ? side : 0;
}

/* The host endpoint that guards an interface. */
INLINE const struct side *guard_of(u32 interface, u32 now)
{
	const struct side *side = endpoint_at(interface, now);

	return side && !(side->flags & UNGUARDED) ? side : 0;
}

INLINE int drop(u32 reason, struct __sk_buff *skb)
{
	count(&reasons, reason, skb->len);
	return TC_DROP;
}

INLINE int reason_of(int parsed)
{
	if (parsed == BAD_ETHERTYPE)
		return REASON_ETHERTYPE;
	return parsed == BAD_FRAGMENT ? REASON_FRAGMENT : REASON_MALFORMED;
}

/* Whether an address is one that the workload is bound to. */
INLINE int is_own(const struct side *side, u32 v6, const u32 *address)
{
	if (!v6) {
		if (!(side->flags & HAS_V4))
			return 0;
#pragma unroll
		for (int i = 0; i < BOUND_ADDRESSES; i++)
			if (side->v4[i] == address[0])
				return 1;
		return 0;
	}
	if (!(side->flags & HAS_V6))
		return 0;
#pragma unroll
	for (int i = 0; i < BOUND_ADDRESSES; i++)
		if (side->v6[i][0] == address[0] && side->v6[i][1] == address[1] && side->v6[i][2] == address[2] &&
		    side->v6[i][3] == address[3])
			return 1;
	return 0;
}

/* Neighbour discovery needs link-local addresses, which nobody binds (Calico felix/rules/endpoints.go). */
INLINE int is_discovery(const struct packet *p)
{
	u32 kind = p->key >> 8;

	return p->v6 && p->protocol == PROTO_ICMPV6 && !(p->flags & LATER_FRAGMENT) &&
	       (kind == 135 || kind == 136 || (kind >= 130 && kind <= 133));
}

INLINE int has_ports(const struct packet *p)
{
	return p->protocol == PROTO_TCP || p->protocol == PROTO_UDP || p->protocol == PROTO_SCTP;
}

/* What becomes of a packet at one place. */
#define REFUSED 0
#define ACCEPTED 1
#define ESTABLISHED 2
#define EXEMPT 3 /* by a hook that ends the host endpoint's say */
#define ANSWERED 4 /* established, and settled */

/* The class of a packet that was on its way while classes got other numbers. */
#define STALE 0xfffffffe

/* Policy, where the flow table does not know the packet. */
INLINE int decide(const struct packet *p, const struct place *at, struct question *q, u32 bytes)
{
	if (q->source_class == STALE) {
		count(&reasons, REASON_STALE, bytes);
		return REFUSED;
	}
	u32 action = judge(p, q, bytes);

	if (action == ACTION_DENY)
		return REFUSED;
	if (q->hook != HOOK_PRE_DNAT || action == ACTION_ALLOW)
		if (track && !(p->flags & NO_FLOW))
			remember(p, at);
	return action == ACTION_ALLOW ? EXEMPT : ACCEPTED;
}

/* The same as a function, for programs that ask several hooks. */
FUNCTION int decide_hook(const struct packet *p, const struct place *at, struct question *q, u32 bytes)
{
	if (!p || !at || !q)
		return REFUSED;
	return decide(p, at, q, bytes);
}

INLINE int is_known(const struct packet *p, const struct place *at)
{
	if (!track)
		return UNKNOWN;
	if (p->flags & (OPENS | NO_FLOW))
		return p->flags & ERROR && is_related(p, at) ? SETTLED : UNKNOWN;
	return is_established(p, at);
}

/*
 * One hook that remembers flows. `q` says which; its program is filled in already.
 */
INLINE int ask(const struct packet *p, const struct place *at, struct question *q, u32 bytes)
{
	int known = is_known(p, at);

	if (known) {
		count(&reasons, REASON_ESTABLISHED, bytes);
		return known == SETTLED ? ANSWERED : ESTABLISHED;
	}
	return decide(p, at, q, bytes);
}

/* The same as a function, for hooks that few packets meet. */
FUNCTION int ask_hook(const struct packet *p, const struct place *at, struct question *q, u32 bytes)
{
	if (!p || !at || !q)
		return REFUSED;
	return ask(p, at, q, bytes);
}

/* Later fragments follow the first, which was decided; they have no ports to be decided by. */
INLINE int later_fragment(const struct packet *p, const struct place *at, struct __sk_buff *skb)
{
	if (follows_first(p, at)) {
		count(&reasons, REASON_ESTABLISHED, skb->len);
		return TC_NEXT;
	}
	return drop(REASON_FRAGMENT, skb);
}

INLINE int accept(const struct packet *p, const struct place *at)
{
	if (p->flags & FIRST_FRAGMENT)
		remember_first(p, at);
	return TC_NEXT;
}

/*
 * The mark carries the class of the source before source NAT to the programs that the packet meets later on this node, and one of
 * these in the two bits above it.
 */
#define MARK_NONE 0
/* Up to two: numbers of classes are those of the epoch, as far as one bit can tell. */
#define MARK_CLASS 1
/* The endpoint that the packet came in by need not be asked again, whatever addresses are seen later. */
#define MARK_SETTLED 3

INLINE u32 mark_of(u32 now)
{
	return MARK_CLASS + ((now ^ epoch) & 1);
}

INLINE void carry_class(struct __sk_buff *skb, u32 class, u32 now)
{
	if (mark_mask)
		skb->mark = (skb->mark & ~(mark_mask | 3 << mark_state)) | (class << mark_shift & mark_mask) |
			    mark_of(now) << mark_state;
}

INLINE void settle(struct __sk_buff *skb)
{
	if (mark_mask)
		skb->mark |= MARK_SETTLED << mark_state;
}

INLINE u32 state_of(const struct __sk_buff *skb)
{
	return mark_mask ? skb->mark >> mark_state & 3 : MARK_NONE;
}

INLINE int is_settled(const struct __sk_buff *skb)
{
	return state_of(skb) == MARK_SETTLED;
}

/* UNSOUGHT where no class was carried: the address of the packet is that of its source then. */
INLINE u32 carried_class(const struct __sk_buff *skb, u32 now)
{
	u32 state = state_of(skb);

	if (state == MARK_NONE)
		return UNSOUGHT;
	if (state == MARK_SETTLED || state == mark_of(now))
		return (skb->mark & mark_mask) >> mark_shift;
	return STALE;
}

/*
 * Where a destination may be rewritten, the packet is decided when it has its real one: where it leaves, or where it is delivered.
 * Its answers come back with the address that is rewritten.
 */
FUNCTION int leave_open(struct __sk_buff *skb, const struct packet *p, struct place *at)
{
	if (!p || !at)
		return TC_DROP;
	at->begins = LEFT_OPEN;
	int known = is_known(p, at);

	if (known == SETTLED) {
		count(&reasons, REASON_ESTABLISHED, skb->len);
		settle(skb);
		return accept(p, at);
	}
	if (track && known == UNKNOWN)
		remember(p, at);
	count(&reasons, REASON_EXEMPT, skb->len);
	return accept(p, at);
}

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

/* A workload's packet for the node itself, which the workload's own policy allowed. */
FUNCTION int enter_node(const struct packet *p, u32 now, u32 class, u32 bytes)
{
	if (!p)
		return REFUSED;
	if (is_discovery(p))
		return ACCEPTED;
	if (to_host != TO_HOST_POLICY) {
		count(&reasons, REASON_TO_HOST, bytes);
		return REFUSED;
	}
	const struct side *side = guard_of(NODE, now);

	if (!side)
		return ACCEPTED;
	struct place at = { NODE, 0, 0, 0 };
	struct question q = { side->programs[HOOK_HOST_INGRESS], HOOK_HOST_INGRESS, NODE, now, class, UNSOUGHT };

	return ask_hook(p, &at, &q, bytes);
}

/*
 * Whether the mark cannot be read because nobody is bound to the interface that the packet seems to have come in by: it came
 * through the port of a bridge, or out of a tunnel.
 */
INLINE int is_lost(const struct __sk_buff *skb, u32 from, u32 now)
{
	return state_of(skb) != MARK_NONE && !endpoint_at(from, now);
}

SEC("classifier")
int from_workload(struct __sk_buff *skb)
{
	u32 now = now_side(), interface = skb->ifindex;
	const struct side *side = endpoint_at(interface, now);
	struct packet p = {};
	struct place at = { interface, 1, 0, 0 };

	if (!side || side->flags & HOST)
		return drop(REASON_UNKNOWN_INTERFACE, skb);
	int parsed = parse(skb, &p);

	if (parsed == PASS_ARP)
		return TC_NEXT;
	if (parsed != PARSED)
		return drop(reason_of(parsed), skb);
	if (!(side->flags & ANY_ADDRESS) && !is_own(side, p.v6, p.source)) {
		if (is_discovery(&p))
			return TC_NEXT;
		return drop(REASON_ADDRESS, skb);
	}
	if (p.flags & LATER_FRAGMENT)
		return later_fragment(&p, &at, skb);
	struct question q = { side->programs[HOOK_WORKLOAD_EGRESS], HOOK_WORKLOAD_EGRESS, interface, now,
			      UNSOUGHT, UNSOUGHT };

	if (services) {
		q.source_class = class_of(p.v6, p.source, now) & ~SERVICE;
		carry_class(skb, q.source_class, now);
		if (has_ports(&p)) {
			q.destination_class = class_of(p.v6, p.destination, now);
			if (q.destination_class & SERVICE)
				return leave_open(skb, &p, &at);
		}
	}
	int asked = ask(&p, &at, &q, skb->len);

	if (asked == REFUSED) {
		/* A workload may always reach itself (decision D10). */
		if (is_own(side, p.v6, p.destination)) {
			count(&reasons, REASON_EXEMPT, skb->len);
			return accept(&p, &at);
		}
		return TC_DROP;
	}
	if (asked == ANSWERED)
		settle(skb);
	else if (to_host && is_for_node(skb, &p) && enter_node(&p, now, q.source_class, skb->len) == REFUSED)
		return TC_DROP;
	return accept(&p, &at);
}

/*
 * The endpoint of the interface that a packet came in by, where its destination was not known there: now it is.
 */
FUNCTION int ask_sender(const struct packet *p, u32 from, u32 now, u32 class, u32 bytes)
{
	if (!p)
		return REFUSED;
	const struct side *side = guard_of(from, now);

	if (!side || !has_ports(p))
		return ACCEPTED;
	u32 hook = side->flags & HOST ? HOOK_FORWARD_INGRESS : HOOK_WORKLOAD_EGRESS;
	struct place at = { from, side->flags & HOST ? 0 : 1, 0, 0 };
	u32 program = side->flags & HOST ? side->programs[HOOK_FORWARD_INGRESS] : side->programs[HOOK_WORKLOAD_EGRESS];
	struct question q = { program, hook, from, now, class, UNSOUGHT };

	return ask_hook(p, &at, &q, bytes);
}

/* A packet to the workload behind `interface`, which came in by `from`. */
INLINE int guard_in(struct __sk_buff *skb, u32 interface, u32 from)
{
	u32 now = now_side();
	const struct side *side = endpoint_at(interface, now);
	struct packet p = {};
	struct place at = { interface, 0, 0, 0 };

	if (!side || side->flags & HOST)
		return drop(REASON_UNKNOWN_INTERFACE, skb);
	int parsed = parse(skb, &p);

	if (parsed == PASS_ARP)
		return TC_NEXT;
	if (parsed != PARSED)
		return drop(reason_of(parsed), skb);
	if (!(side->flags & ANY_ADDRESS) && !is_own(side, p.v6, p.destination)) {
		if (is_discovery(&p))
			return TC_NEXT;
		return drop(REASON_ADDRESS, skb);
	}
	if (p.flags & LATER_FRAGMENT)
		return later_fragment(&p, &at, skb);
	if (services)
		at.peer = from ? from : OF_NODE;
	/* From the node itself (decision D11), or from the workload back to itself (decision D10). */
	if (!from || from == interface) {
		if (track && !(p.flags & NO_FLOW) && (p.flags & OPENS || !is_established(&p, &at)))
			remember(&p, &at);
		count(&reasons, REASON_EXEMPT, skb->len);
		return accept(&p, &at);
	}
	if (services && is_lost(skb, from, now))
		return drop(REASON_UNKNOWN_INTERFACE, skb);
	u32 class = services ? carried_class(skb, now) : UNSOUGHT;

	if (services && !is_settled(skb) && ask_sender(&p, from, now, class, skb->len) == REFUSED)
		return TC_DROP;
	struct question q = { side->programs[HOOK_WORKLOAD_INGRESS], HOOK_WORKLOAD_INGRESS, interface, now,
			      class, UNSOUGHT };

	return ask(&p, &at, &q, skb->len) == REFUSED ? TC_DROP : accept(&p, &at);
}

SEC("classifier")
int to_workload(struct __sk_buff *skb)
{
	return guard_in(skb, skb->ifindex, skb->ingress_ifindex);
}

SEC("classifier")
int from_network(struct __sk_buff *skb)
{
	u32 now = now_side(), interface = skb->ifindex, bytes = skb->len;
	const struct side *side = guard_of(interface, now);
	struct packet p = {};
	struct place at = { interface, 0, 0, 0 };
	int parsed = parse(skb, &p);

	if (parsed == PASS_ARP || parsed == BAD_ETHERTYPE)
		return TC_NEXT;
	if (parsed != PARSED)
		return side ? drop(reason_of(parsed), skb) : TC_NEXT;
	struct question q = { 0, HOOK_UNTRACKED_INGRESS, interface, now, UNSOUGHT, UNSOUGHT };

	if (services) {
		q.source_class = class_of(p.v6, p.source, now) & ~SERVICE;
		carry_class(skb, q.source_class, now);
	}
	if (!side)
		return TC_NEXT;
	if (p.flags & LATER_FRAGMENT)
		return later_fragment(&p, &at, skb);
	q.program = side->programs[HOOK_UNTRACKED_INGRESS];
	u32 action = judge_hook(&p, &q, bytes);

	if (action == ACTION_DENY)
		return TC_DROP;
	if (action == ACTION_ALLOW) {
		settle(skb);
		return accept(&p, &at);
	}
	at.begins = services ? LEFT_OPEN : 0;
	int known = is_known(&p, &at);

	if (known) {
		if (known == SETTLED)
			settle(skb);
		count(&reasons, REASON_ESTABLISHED, bytes);
		return accept(&p, &at);
	}
	q.hook = HOOK_PRE_DNAT;
	q.program = side->programs[HOOK_PRE_DNAT];
	at.begins = EXEMPTED;
	int decided = decide_hook(&p, &at, &q, bytes);

	if (decided == REFUSED)
		return TC_DROP;
	if (decided == EXEMPT) {
		settle(skb);
		return accept(&p, &at);
	}
	at.begins = 0;
	if (services && has_ports(&p)) {
		q.destination_class = class_of(p.v6, p.destination, now);
		if (q.destination_class & SERVICE)
			return leave_open(skb, &p, &at);
	}
	if (is_for_node(skb, &p)) {
		q.hook = HOOK_HOST_INGRESS;
		q.program = side->programs[HOOK_HOST_INGRESS];
	} else {
		q.hook = HOOK_FORWARD_INGRESS;
		q.program = side->programs[HOOK_FORWARD_INGRESS];
	}
	return decide_hook(&p, &at, &q, bytes) == REFUSED ? TC_DROP : accept(&p, &at);
}

SEC("classifier")
int to_network(struct __sk_buff *skb)
{
	u32 now = now_side(), interface = skb->ifindex, bytes = skb->len, from = skb->ingress_ifindex;
	const struct side *side = guard_of(interface, now);
	struct packet p = {};
	struct place at = { interface, 1, 0, 0 };
	int parsed = parse(skb, &p);

	if (parsed == PASS_ARP || parsed == BAD_ETHERTYPE)
		return TC_NEXT;
	if (parsed != PARSED)
		return side ? drop(reason_of(parsed), skb) : TC_NEXT;
	u32 class = services && from ? carried_class(skb, now) : UNSOUGHT;

	if (services && from) {
		if (is_lost(skb, from, now))
			return drop(REASON_UNKNOWN_INTERFACE, skb);
		if (p.flags & LATER_FRAGMENT)
			return later_fragment(&p, &at, skb);
		if (!is_settled(skb) && ask_sender(&p, from, now, class, bytes) == REFUSED)
			return TC_DROP;
	}
	if (!side)
		return accept(&p, &at);
	if (p.flags & LATER_FRAGMENT)
		return later_fragment(&p, &at, skb);
	struct question q = { 0, HOOK_UNTRACKED_EGRESS, interface, now, class, UNSOUGHT };

	if (!from) {
		q.program = side->programs[HOOK_UNTRACKED_EGRESS];
		u32 action = judge_hook(&p, &q, bytes);

		if (action == ACTION_DENY)
			return TC_DROP;
		if (action == ACTION_ALLOW)
			return accept(&p, &at);
		q.hook = HOOK_HOST_EGRESS;
		q.program = side->programs[HOOK_HOST_EGRESS];
	} else {
		q.hook = HOOK_FORWARD_EGRESS;
		q.program = side->programs[HOOK_FORWARD_EGRESS];
	}
	return ask_hook(&p, &at, &q, bytes) == REFUSED ? TC_DROP : accept(&p, &at);
}

/*
 * Where a packet is delivered to a socket: what may have been left open because its destination could be rewritten, and was not
 * forwarded then. The mark is gone where packets cross into another network namespace, so sockets of workloads are not concerned.
 */
SEC("cgroup_skb/ingress")
int to_node(struct __sk_buff *skb)
{
	u32 interface = skb->ifindex, bytes = skb->len;

	if (state_of(skb) == MARK_NONE || is_settled(skb))
		return DELIVER;
	u32 now = now_side(), class = carried_class(skb, now);
	const struct side *side = guard_of(interface, now);
	struct packet p = { .flags = TAKEN };

	if (!side)
		return DELIVER;
	/* Source NAT comes later than this, so the source can still be told. */
	if (class == STALE)
		class = UNSOUGHT;
	/* IP and transport have their headers in one piece by now. */
	int parsed = parse_slowly(skb, &p);

	if (parsed != PARSED) {
		count(&reasons, reason_of(parsed), bytes);
		return WITHHOLD;
	}
	if (!has_ports(&p))
		return DELIVER;
	if (side->flags & HOST) {
		struct place at = { interface, 0, 0, 0 };
		struct question q = { side->programs[HOOK_HOST_INGRESS], HOOK_HOST_INGRESS, interface, now, class, UNSOUGHT };

		return ask_hook(&p, &at, &q, bytes) == REFUSED ? WITHHOLD : DELIVER;
	}
	if (ask_sender(&p, interface, now, class, bytes) == REFUSED)
		return WITHHOLD;
	return to_host && enter_node(&p, now, class, bytes) == REFUSED ? WITHHOLD : DELIVER;
}

/*
 * For tests: one hook, named by cb[0], of the endpoint at the interface cb[1]. Nothing is remembered. The event of
 * the decision tells what decided.
 */
SEC("classifier")
int probe(struct __sk_buff *skb)
{
	u32 now = now_side(), hook = skb->cb[0];
	const struct side *side = endpoint_at(skb->cb[1], now);
	struct packet p = {};
	int parsed = parse(skb, &p);

	if (!side || parsed != PARSED || p.flags & LATER_FRAGMENT || hook >= HOOKS)
		return TC_DROP;
	struct question q = { side->programs[hook], hook, skb->cb[1], now, UNSOUGHT, UNSOUGHT };

	return judge_hook(&p, &q, skb->len) == ACTION_DENY ? TC_DROP : TC_NEXT;
}

#include "measure.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";
