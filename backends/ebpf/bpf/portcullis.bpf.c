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

INLINE u32 read_active_buffer(void)
{
	u32 zero = 0;
	u32 *buffer = map_lookup(&active_buffer, &zero);

	return buffer ? *buffer & 1 : 0;
}

INLINE const struct buffer *endpoint_at(u32 interface, u32 active)
{
	struct endpoint *endpoint = map_lookup(&endpoints, &interface);

	if (!endpoint)
		return 0;
	const struct buffer *buffer = active & 1 ? &endpoint->buffers[1] : &endpoint->buffers[0];

	return buffer->flags & PRESENT ? buffer : 0;
}

/* The host endpoint that guards an interface. */
INLINE const struct buffer *guard_of(u32 interface, u32 active)
{
	const struct buffer *buffer = endpoint_at(interface, active);

	return buffer && !(buffer->flags & UNGUARDED) ? buffer : 0;
}

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

/* Whether an address is one that the workload is bound to. */
INLINE int is_own(const struct buffer *buffer, u32 v6, const u32 *address)
{
	if (!v6) {
		if (!(buffer->flags & HAS_V4))
			return 0;
#pragma unroll
		for (int i = 0; i < BOUND_ADDRESSES; i++)
			if (buffer->v4[i] == address[0])
				return 1;
		return 0;
	}
	if (!(buffer->flags & HAS_V6))
		return 0;
#pragma unroll
	for (int i = 0; i < BOUND_ADDRESSES; i++)
		if (buffer->v6[i][0] == address[0] && buffer->v6[i][1] == address[1] && buffer->v6[i][2] == address[2] &&
		    buffer->v6[i][3] == address[3])
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
#define ANSWERED 4 /* established, and final */

/* The class of a packet that was on its way while classes got other numbers. */
#define STALE 0xfffffffe

/* Notes what a packet begins. */
INLINE void begin(const struct packet *p, const struct place *at)
{
	if (track && !(p->flags & NO_FLOW))
		remember(p, at);
}

/* Policy, where the flow table does not know the packet. */
INLINE int decide(const struct packet *p, const struct place *at, struct question *q)
{
	if (q->source_class == STALE) {
		count(&reasons, REASON_STALE, 0);
		return REFUSED;
	}
	u32 action = judge(p, q, p->bytes);

	if (action == ACTION_DENY)
		return REFUSED;
	if (q->hook != HOOK_PRE_DNAT || action == ACTION_ALLOW)
		begin(p, at);
	return action == ACTION_ALLOW ? EXEMPT : ACCEPTED;
}

/* The same as a function, for programs that ask several hooks. */
FUNCTION int decide_hook(const struct packet *p, const struct place *at, struct question *q)
{
	if (!p || !at || !q)
		return REFUSED;
	return decide(p, at, q);
}

INLINE int is_known(const struct packet *p, const struct place *at)
{
	if (!track)
		return UNKNOWN;
	if (p->flags & (OPENS | NO_FLOW))
		return p->flags & ERROR && is_related(p, at) ? FINAL : UNKNOWN;
	return is_established(p, at);
}

/*
 * One hook that remembers flows. `q` says which; its program is filled in already.
 */
INLINE int ask(const struct packet *p, const struct place *at, struct question *q)
{
	int known = is_known(p, at);

	if (known) {
		count(&reasons, REASON_ESTABLISHED, 0);
		return known == FINAL ? ANSWERED : ESTABLISHED;
	}
	return decide(p, at, q);
}

/* The same as a function, for hooks that few packets meet. */
FUNCTION int ask_hook(const struct packet *p, const struct place *at, struct question *q)
{
	if (!p || !at || !q)
		return REFUSED;
	return ask(p, at, q);
}

/*
 * Where `*` covers the interface of a workload: two hooks, of which both have to allow. Of a packet to the workload, its own policy and
 * forward policy of `*`; of one from it, the same the other way round. Calls are not nested deeper than they have to be,
 * because stacks add up.
 */
INLINE int ask_both(const struct packet *p, const struct place *at, struct question *q, const struct buffer *buffer, u32 first, u32 second)
{
	if (is_known(p, at)) {
		count(&reasons, REASON_ESTABLISHED, 0);
		return ESTABLISHED;
	}
	if (q->source_class == STALE) {
		count(&reasons, REASON_STALE, 0);
		return REFUSED;
	}
	q->hook = first;
	q->program = buffer->programs[first];
	if (judge_hook(p, q, p->bytes) == ACTION_DENY)
		return REFUSED;
	q->hook = second;
	q->program = buffer->programs[second];
	if (judge_hook(p, q, p->bytes) == ACTION_DENY)
		return REFUSED;
	begin(p, at);
	return ACCEPTED;
}

FUNCTION int ask_covered_in(const struct packet *p, const struct place *at, struct question *q, const struct buffer *buffer)
{
	if (!p || !at || !q || !buffer)
		return REFUSED;
	return ask_both(p, at, q, buffer, HOOK_WORKLOAD_INGRESS, HOOK_FORWARD_EGRESS);
}

FUNCTION int ask_covered_again(const struct packet *p, const struct place *at, struct question *q, const struct buffer *buffer)
{
	if (!p || !at || !q || !buffer)
		return REFUSED;
	return ask_both(p, at, q, buffer, HOOK_FORWARD_INGRESS, HOOK_WORKLOAD_EGRESS);
}

/* Later fragments follow the first, which was decided; they have no ports to be decided by. */
INLINE int later_fragment(const struct packet *p, const struct place *at)
{
	if (follows_first(p, at)) {
		count(&reasons, REASON_ESTABLISHED, 0);
		return TC_NEXT;
	}
	return drop(REASON_FRAGMENT);
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

INLINE u32 marked_bits(const struct __sk_buff *skb)
{
	return (skb->mark & mark_mask) >> mark_shift;
}

INLINE void put_mark(struct __sk_buff *skb, u32 bits, u32 state)
{
	if (mark_mask)
		skb->mark = (skb->mark & ~(mark_mask | 3 << mark_state)) | (bits << mark_shift & mark_mask) |
			    state << mark_state;
}

INLINE void carry_class(struct __sk_buff *skb, u32 class, u32 active)
{
	put_mark(skb, class, mark_of(active));
}

INLINE void finalize(struct __sk_buff *skb)
{
	if (mark_mask)
		skb->mark |= MARK_FINAL << mark_state;
}

INLINE void confine(struct __sk_buff *skb)
{
	put_mark(skb, MARK_CONFINED, MARK_NONE);
}

/* Whether the mark has room for that. Where not, it stays as it is. */
INLINE int set_free(struct __sk_buff *skb, u32 class, u32 active)
{
	u32 bits = MARK_FREED + (class << 1 | ((active ^ mark_parity) & 1));

	if (bits > mark_mask >> mark_shift)
		return 0;
	put_mark(skb, bits, MARK_NONE);
	return 1;
}

INLINE u32 state_of(const struct __sk_buff *skb)
{
	return mark_mask ? skb->mark >> mark_state & 3 : MARK_NONE;
}

INLINE int is_final(const struct __sk_buff *skb)
{
	return state_of(skb) == MARK_FINAL;
}

INLINE int is_marked(const struct __sk_buff *skb)
{
	return mark_mask && (state_of(skb) != MARK_NONE || marked_bits(skb));
}

INLINE int is_confined(const struct __sk_buff *skb)
{
	return mark_mask && state_of(skb) == MARK_NONE && marked_bits(skb) == MARK_CONFINED;
}

INLINE int is_free(const struct __sk_buff *skb)
{
	return mark_mask && state_of(skb) == MARK_NONE && marked_bits(skb) >= MARK_FREED;
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

/*
 * Where a destination may be rewritten, the packet is decided when it has its real one: where it leaves, or where it is delivered.
 * Its answers come back with the address that is rewritten.
 */
FUNCTION int defer(struct __sk_buff *skb, const struct packet *p, struct place *at)
{
	if (!p || !at)
		return TC_DROP;
	at->begins = DEFERRED;
	int known = is_known(p, at);

	if (known == FINAL) {
		count(&reasons, REASON_ESTABLISHED, 0);
		finalize(skb);
		return accept(p, at);
	}
	if (track && known == UNKNOWN)
		remember(p, at);
	count(&reasons, REASON_EXEMPT, 0);
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

/* A workload's packet for the node itself, which the workload's own policy allowed. Of host endpoints, only `*` guards its interface. */
FUNCTION int enter_node(struct __sk_buff *skb, const struct packet *p, const struct buffer *buffer, u32 active, u32 class)
{
	if (!p || !buffer)
		return REFUSED;

	if (is_discovery(p))
		return ACCEPTED;
	if (to_host != TO_HOST_POLICY) {
		count(&reasons, REASON_TO_HOST, 0);
		return REFUSED;
	}
	if (!(buffer->flags & COVERED))
		return ACCEPTED;
	/* Another workload may have the address by now, behind another interface. */
	struct place at = { NODE, 0, 0, skb->ifindex };
	struct question q = { buffer->programs[HOOK_HOST_INGRESS], HOOK_HOST_INGRESS, NODE, active, class, UNSOUGHT };

	return ask_hook(p, &at, &q);
}

/* The same where pre-DNAT policy of `*` allowed it: its host ingress policy has no say, now and later in the flow. */
FUNCTION int enter_node_freely(struct __sk_buff *skb, const struct packet *p)
{
	if (!p)
		return REFUSED;
	if (to_host != TO_HOST_POLICY && !is_discovery(p)) {
		count(&reasons, REASON_TO_HOST, 0);
		return REFUSED;
	}
	struct place at = { NODE, 0, 0, skb->ifindex };

	if (!is_known(p, &at))
		begin(p, &at);
	return ACCEPTED;
}

/*
 * Whether the mark cannot be read because nobody is bound to the interface that the packet seems to have come in by: it came
 * through the port of a bridge, or out of a tunnel.
 */
INLINE int is_lost(const struct __sk_buff *skb, u32 from, u32 active)
{
	return is_marked(skb) && !endpoint_at(from, active);
}

/*
 * What a workload sends, where `*` covers its interface: pre-DNAT policy of `*`, its forward policy unless the packet is for the
 * node itself, and then the workload's own. EXEMPT: pre-DNAT policy allowed it.
 */
FUNCTION int ask_covered(struct __sk_buff *skb, const struct packet *p, const struct place *at, struct question *q,
			 const struct buffer *buffer)
{
	if (!p || !at || !q || !buffer)
		return REFUSED;
	int known = is_known(p, at);

	if (known) {
		count(&reasons, REASON_ESTABLISHED, 0);
		return known == FINAL ? ANSWERED : ESTABLISHED;
	}
	q->hook = HOOK_PRE_DNAT;
	q->program = buffer->programs[HOOK_PRE_DNAT];
	u32 action = judge_hook(p, q, p->bytes);

	if (action == ACTION_DENY)
		return REFUSED;
	/* Where the mark has no room for that, forward policy is asked where the packet leaves. */
	if (action == ACTION_ALLOW && services)
		set_free(skb, q->source_class, q->active);
	if (at->begins & DEFERRED) {
		count(&reasons, REASON_EXEMPT, 0);
	} else {
		if (action != ACTION_ALLOW && !is_for_node(skb, p)) {
			q->hook = HOOK_FORWARD_INGRESS;
			q->program = buffer->programs[HOOK_FORWARD_INGRESS];
			if (judge_hook(p, q, p->bytes) == ACTION_DENY)
				return REFUSED;
		}
		q->hook = HOOK_WORKLOAD_EGRESS;
		q->program = buffer->programs[HOOK_WORKLOAD_EGRESS];
		if (judge_hook(p, q, p->bytes) == ACTION_DENY)
			return REFUSED;
	}
	begin(p, at);
	return action == ACTION_ALLOW ? EXEMPT : ACCEPTED;
}

SEC("classifier")
int from_workload(struct __sk_buff *skb)
{
	u32 active = read_active_buffer(), interface = skb->ifindex;
	const struct buffer *buffer = endpoint_at(interface, active);
	struct packet p = {};
	struct place at = { interface, 1, 0, 0 };

	if (!buffer || buffer->flags & HOST)
		return drop_unless_arp(skb);
	int parsed = parse(skb, &p);

	if (parsed == PASS_ARP)
		return TC_NEXT;
	if (parsed != PARSED)
		return drop(reason_of(parsed));
	if (!(buffer->flags & ANY_ADDRESS) && !is_own(buffer, p.v6, p.source)) {
		if (is_discovery(&p))
			return TC_NEXT;
		return drop(REASON_ADDRESS);
	}
	if (p.flags & LATER_FRAGMENT)
		return later_fragment(&p, &at);
	struct question q = { buffer->programs[HOOK_WORKLOAD_EGRESS], HOOK_WORKLOAD_EGRESS, interface, active,
			      UNSOUGHT, UNSOUGHT };

	if (services) {
		q.source_class = class_of(p.v6, p.source, active) & ~SERVICE;
		carry_class(skb, q.source_class, active);
		if (has_ports(&p)) {
			q.destination_class = class_of(p.v6, p.destination, active);
			if (q.destination_class & SERVICE) {
				if (!(buffer->flags & COVERED))
					return defer(skb, &p, &at);
				at.begins = DEFERRED;
			}
		}
	}
	int asked = buffer->flags & COVERED ? ask_covered(skb, &p, &at, &q, buffer) : ask(&p, &at, &q);

	if (asked == REFUSED) {
		/* A workload may always reach itself (decision D10). */
		if (is_own(buffer, p.v6, p.destination)) {
			count(&reasons, REASON_EXEMPT, 0);
			return accept(&p, &at);
		}
		return TC_DROP;
	}
	if (asked == ANSWERED) {
		finalize(skb);
	} else if (to_host && !at.begins && is_for_node(skb, &p)) {
		int entered = buffer->flags & COVERED && asked == EXEMPT ?
				      enter_node_freely(skb, &p) :
				      enter_node(skb, &p, buffer, active, q.source_class);

		if (entered == REFUSED)
			return TC_DROP;
	}
	return accept(&p, &at);
}

/*
 * The endpoint of the interface that a packet came in by, where its destination was not known there: now it is. Where it leaves by
 * no other interface, it is for the node itself.
 */
FUNCTION int ask_sender(const struct __sk_buff *skb, const struct packet *p, u32 from, u32 active, u32 class)
{
	if (!p)
		return REFUSED;

	if (is_final(skb))
		return ACCEPTED;
	if (is_confined(skb)) {
		count(&reasons, REASON_CONFINED, 0);
		return REFUSED;
	}
	const struct buffer *buffer = guard_of(from, active);

	if (!buffer || !has_ports(p))
		return ACCEPTED;
	struct place at = { from, buffer->flags & HOST ? 0 : 1, 0, 0 };
	struct question q = { 0, buffer->flags & HOST ? HOOK_FORWARD_INGRESS : HOOK_WORKLOAD_EGRESS, from, active, class, UNSOUGHT };

	if (buffer->flags & COVERED && skb->ifindex != from && !is_free(skb))
		return ask_covered_again(p, &at, &q, buffer);
	q.program = buffer->flags & HOST ? buffer->programs[HOOK_FORWARD_INGRESS] : buffer->programs[HOOK_WORKLOAD_EGRESS];
	return ask_hook(p, &at, &q);
}

/* A packet to the workload behind `interface`, which came in by `from`. */
INLINE int guard_in(struct __sk_buff *skb, u32 interface, u32 from)
{
	u32 active = read_active_buffer();
	const struct buffer *buffer = endpoint_at(interface, active);
	struct packet p = {};
	struct place at = { interface, 0, 0, 0 };

	if (!buffer || buffer->flags & HOST)
		return drop_unless_arp(skb);
	int parsed = parse(skb, &p);

	if (parsed == PASS_ARP)
		return TC_NEXT;
	if (parsed != PARSED)
		return drop(reason_of(parsed));
	if (!(buffer->flags & ANY_ADDRESS) && !is_own(buffer, p.v6, p.destination)) {
		if (is_discovery(&p))
			return TC_NEXT;
		return drop(REASON_ADDRESS);
	}
	if (p.flags & LATER_FRAGMENT)
		return later_fragment(&p, &at);
	if (services)
		at.peer = from ? from : OF_NODE;
	/* From the node itself (decision D11), or from the workload back to itself (decision D10). */
	if (!from || from == interface) {
		if (track && !(p.flags & NO_FLOW) && (p.flags & OPENS || !is_established(&p, &at)))
			remember(&p, &at);
		count(&reasons, REASON_EXEMPT, 0);
		return accept(&p, &at);
	}
	if (services && is_lost(skb, from, active))
		return drop(REASON_UNKNOWN_INTERFACE);
	u32 class = services ? carried_class(skb, active) : UNSOUGHT;

	if (services && ask_sender(skb, &p, from, active, class) == REFUSED)
		return TC_DROP;
	struct question q = { buffer->programs[HOOK_WORKLOAD_INGRESS], HOOK_WORKLOAD_INGRESS, interface, active,
			      class, UNSOUGHT };
	int asked = buffer->flags & COVERED ?
			    ask_covered_in(&p, &at, &q, buffer) :
			    ask(&p, &at, &q);

	return asked == REFUSED ? TC_DROP : accept(&p, &at);
}

SEC("classifier")
int to_workload(struct __sk_buff *skb)
{
	return guard_in(skb, skb->ifindex, skb->ingress_ifindex);
}

/*
 * What an untracked rule allowed to the node itself, on a node that rewrites destinations: should this one be rewritten, the other
 * policies have their say. Nothing is counted here, because the packet is most likely for the node.
 */
FUNCTION int enter_untracked(struct __sk_buff *skb, const struct packet *p, const struct buffer *buffer, u32 class, u32 active)
{
	if (!p || !buffer)
		return REFUSED;
	struct question q = { buffer->programs[HOOK_PRE_DNAT], HOOK_PRE_DNAT, skb->ifindex, active, class, UNSOUGHT };
	u32 action = judge_hook(p, &q, 0);

	if (action == ACTION_ALLOW)
		finalize(skb);
	else if (action == ACTION_DENY || !set_free(skb, class, active))
		confine(skb);
	return ACCEPTED;
}

SEC("classifier")
int from_network(struct __sk_buff *skb)
{
	u32 active = read_active_buffer(), interface = skb->ifindex;
	const struct buffer *buffer = guard_of(interface, active);
	struct packet p = {};
	struct place at = { interface, 0, 0, 0 };
	int parsed = parse(skb, &p);

	if (parsed == PASS_ARP || parsed == BAD_ETHERTYPE)
		return TC_NEXT;
	if (parsed != PARSED)
		return buffer ? drop(reason_of(parsed)) : TC_NEXT;
	struct question q = { 0, HOOK_UNTRACKED_INGRESS, interface, active, UNSOUGHT, UNSOUGHT };

	if (services) {
		q.source_class = class_of(p.v6, p.source, active) & ~SERVICE;
		carry_class(skb, q.source_class, active);
	}
	if (!buffer)
		return TC_NEXT;
	if (p.flags & LATER_FRAGMENT)
		return later_fragment(&p, &at);
	int untracked = 0;

	if (!(buffer->flags & TRACKED_ONLY)) {
		q.program = buffer->programs[HOOK_UNTRACKED_INGRESS];
		u32 action = judge_hook(&p, &q, p.bytes);

		if (action == ACTION_DENY)
			return TC_DROP;
		/* What is forwarded is asked about as if no untracked policy applied (decision D25). */
		untracked = action == ACTION_ALLOW && is_for_node(skb, &p);
		if (untracked && !services)
			return accept(&p, &at);
	}
	at.begins = services ? DEFERRED : 0;
	int known = is_known(&p, &at);

	if (known) {
		if (known == FINAL)
			finalize(skb);
		count(&reasons, REASON_ESTABLISHED, 0);
		return accept(&p, &at);
	}
	if (untracked)
		return enter_untracked(skb, &p, buffer, q.source_class, active) == REFUSED ? TC_DROP : accept(&p, &at);
	q.hook = HOOK_PRE_DNAT;
	q.program = buffer->programs[HOOK_PRE_DNAT];
	at.begins = EXEMPTED;
	int decided = decide_hook(&p, &at, &q);

	if (decided == REFUSED)
		return TC_DROP;
	if (decided == EXEMPT) {
		finalize(skb);
		return accept(&p, &at);
	}
	at.begins = 0;
	if (services && has_ports(&p)) {
		q.destination_class = class_of(p.v6, p.destination, active);
		if (q.destination_class & SERVICE)
			return defer(skb, &p, &at);
	}
	if (is_for_node(skb, &p)) {
		q.hook = HOOK_HOST_INGRESS;
		q.program = buffer->programs[HOOK_HOST_INGRESS];
	} else {
		q.hook = HOOK_FORWARD_INGRESS;
		q.program = buffer->programs[HOOK_FORWARD_INGRESS];
	}
	return decide_hook(&p, &at, &q) == REFUSED ? TC_DROP : accept(&p, &at);
}

SEC("classifier")
int to_network(struct __sk_buff *skb)
{
	u32 active = read_active_buffer(), interface = skb->ifindex, from = skb->ingress_ifindex;
	const struct buffer *buffer = guard_of(interface, active);
	struct packet p = {};
	struct place at = { interface, 1, 0, 0 };
	int parsed = parse(skb, &p);

	if (parsed == PASS_ARP || parsed == BAD_ETHERTYPE)
		return TC_NEXT;
	if (parsed != PARSED)
		return buffer ? drop(reason_of(parsed)) : TC_NEXT;
	u32 class = services && from ? carried_class(skb, active) : UNSOUGHT;

	if (services && from) {
		if (is_lost(skb, from, active))
			return drop(REASON_UNKNOWN_INTERFACE);
		if (p.flags & LATER_FRAGMENT)
			return later_fragment(&p, &at);
		if (ask_sender(skb, &p, from, active, class) == REFUSED)
			return TC_DROP;
	}
	if (!buffer)
		return accept(&p, &at);
	if (p.flags & LATER_FRAGMENT)
		return later_fragment(&p, &at);
	struct question q = { 0, HOOK_UNTRACKED_EGRESS, interface, active, class, UNSOUGHT };

	if (!from) {
		if (!(buffer->flags & TRACKED_ONLY)) {
			q.program = buffer->programs[HOOK_UNTRACKED_EGRESS];
			u32 action = judge_hook(&p, &q, p.bytes);

			if (action == ACTION_DENY)
				return TC_DROP;
			if (action == ACTION_ALLOW)
				return accept(&p, &at);
		}
		q.hook = HOOK_HOST_EGRESS;
		q.program = buffer->programs[HOOK_HOST_EGRESS];
	} else {
		q.hook = HOOK_FORWARD_EGRESS;
		q.program = buffer->programs[HOOK_FORWARD_EGRESS];
	}
	return ask_hook(&p, &at, &q) == REFUSED ? TC_DROP : accept(&p, &at);
}

/*
 * Where a packet is delivered to a socket: what may have been left open because its destination could be rewritten, and was not
 * forwarded then. The mark is gone where packets cross into another network namespace, so sockets of workloads are not concerned.
 */
SEC("cgroup_skb/ingress")
int to_node(struct __sk_buff *skb)
{
	u32 interface = skb->ifindex;

	if (!is_marked(skb) || is_final(skb))
		return DELIVER;
	u32 active = read_active_buffer(), class = carried_class(skb, active);
	const struct buffer *buffer = guard_of(interface, active);
	struct packet p = { .flags = TAKEN };

	/* An untracked rule allowed it here. */
	if (!buffer || (buffer->flags & HOST && state_of(skb) == MARK_NONE))
		return DELIVER;
	/* Source NAT comes later than this, so the source can still be told. */
	if (class == STALE)
		class = UNSOUGHT;
	/* IP and transport have their headers in one piece by now. */
	int parsed = parse_slowly(skb, &p);

	if (parsed != PARSED) {
		count(&reasons, reason_of(parsed), 0);
		return WITHHOLD;
	}
	if (!has_ports(&p))
		return DELIVER;
	if (buffer->flags & HOST) {
		struct place at = { interface, 0, 0, 0 };
		struct question q = { buffer->programs[HOOK_HOST_INGRESS], HOOK_HOST_INGRESS, interface, active, class, UNSOUGHT };

		return ask_hook(&p, &at, &q) == REFUSED ? WITHHOLD : DELIVER;
	}
	if (ask_sender(skb, &p, interface, active, class) == REFUSED)
		return WITHHOLD;
	if (!to_host)
		return DELIVER;
	int entered = is_free(skb) ? enter_node_freely(skb, &p) : enter_node(skb, &p, buffer, active, class);

	return entered == REFUSED ? WITHHOLD : DELIVER;
}

/*
 * For tests: one hook, named by cb[0], of the endpoint at the interface cb[1]. Nothing is remembered. The event of
 * the decision tells what decided.
 */
SEC("classifier")
int probe(struct __sk_buff *skb)
{
	u32 active = read_active_buffer(), hook = skb->cb[0];
	const struct buffer *buffer = endpoint_at(skb->cb[1], active);
	struct packet p = {};
	int parsed = parse(skb, &p);

	if (!buffer || parsed != PARSED || p.flags & LATER_FRAGMENT || hook >= HOOKS)
		return TC_DROP;
	struct question q = { buffer->programs[hook], hook, skb->cb[1], active, UNSOUGHT, UNSOUGHT };

	return judge_hook(&p, &q, p.bytes) == ACTION_DENY ? TC_DROP : TC_NEXT;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
