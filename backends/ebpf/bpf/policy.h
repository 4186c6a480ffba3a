/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* From a packet at a hook of an endpoint to its decision. */
#pragma once
#include "account.h"
#include "count.h"
#include "maps.h"
#include "packet.h"

/* No class was found yet. */
#define UNSOUGHT 0xffffffff

/* Kernels before 6.2 take no key of a look-up from the memory that a function was handed: it has to be on the stack. */
INLINE u32 class_of(u32 v6, const u32 *address, u32 active)
{
	struct classes *around;
	struct address *found;

	if (v6) {
		struct net_v6 net = { 128, { address[0], address[1], address[2], address[3] } };

		found = map_lookup(&addresses_v6, net.address);
		if (found)
			return found->classes.buffers[active & 1];
		around = map_lookup(&networks_v6, &net);
	} else {
		struct net_v4 net = { 32, address[0] };

		found = map_lookup(&addresses_v4, &net.address);
		if (found)
			return found->classes.buffers[active & 1];
		around = map_lookup(&networks_v4, &net);
	}
	return around ? around->buffers[active & 1] : 0;
}

INLINE u32 row_of(u32 projection, u32 class)
{
	u32 block = projection * blocks_per_projection + ((class & 0xffff) >> 8);
	struct rows *found = map_lookup(&rows, &block);

	return found ? found->rows[class & 0xff] : 0;
}

INLINE u32 step(u32 node, u32 index)
{
	u32 slot = node & NODE_REFERENCE;
	struct page *page = map_lookup(&pages, &slot);

	return page ? page->words[index & 0xff] : 0;
}

/* The node of the run that a value is in. Counting takes no branch, so that nothing has to be foreseen. */
INLINE u32 search(u32 node, u32 value)
{
	u32 slot = node & NODE_REFERENCE;
	struct runs *found = map_lookup(&runs, &slot);
	u64 run = 0;

	if (!found)
		return 0;
#pragma unroll
	for (int i = 0; i < RUNS - 1; i++)
		run += ((u64)found->starts[i] - value - 1) >> 63;
	return found->nodes[run & (RUNS - 1)];
}

/* From a node with this tag to one with another, by a value of 16 bits: a page or two, then a list or two. */
INLINE u32 descend(u32 node, u32 tag, u32 value)
{
	if (node >> 30 != tag)
		return node;
	node = node & NODE_RUNS ? search(node, value) : step(node, value >> 8);
	if (node >> 30 != tag)
		return node;
	node = node & NODE_RUNS ? search(node, value) : step(node, value);
	return node >> 30 == tag ? search(node, value) : node;
}

/* Few policies ask for it. */
FUNCTION u32 descend_source(u32 node, u32 port)
{
	return descend(node, TAG_SOURCE, port);
}

/* The leaf for a packet. A missing entry is zero, which denies. */
INLINE u32 find_leaf(u32 node, const struct packet *p)
{
	if (node >> 30 == TAG_PROTOCOL) {
		u32 value = p->protocol << 16 | p->key;

		node = node & NODE_RUNS ? search(node, value) : step(node, p->protocol);
		if (node >> 30 == TAG_PROTOCOL)
			node = search(node, value);
	}
	if (node >> 30 == TAG_SOURCE)
		node = descend_source(node, p->source_port);
	node = descend(node, TAG_KEY, p->key);
	return node >> 30 == TAG_LEAF ? node : 0;
}

/* One look-up of policy: the hook, and the classes that are known already. */
struct question {
	u32 program;
	u32 hook;
	u32 interface;
	u32 active;
	u32 source_class;
	u32 destination_class;
	u32 payer; /* the interface that the packet came in by; its account sends the event */
};

struct event {
	u64 time;
	u32 decision;
	u32 interface;
	u8 hook;
	u8 action;
	u8 protocol;
	u8 v6;
	u16 source_port;
	u16 key;
	u32 source[4];
	u32 destination[4];
};
_Static_assert(sizeof(struct event) == EVENT_BYTES, "layout.h");

/* Written where it is read, because the stack has no room for it. */
FUNCTION int send_event(const struct packet *p, const struct question *q, u32 leaf)
{
	if (!p || !q)
		return 0;
	struct account *account = account_of(q->payer);
	u64 now = coarse_ns();

	if (!account)
		return 0;
	struct event *event = may_send(account, now) ? ringbuf_reserve(&events, sizeof(*event), 0) : 0;

	if (!event) {
		lose_event(account, q->payer);
		count(&reasons, REASON_LOST_EVENT, 0);
		return 0;
	}
	event->time = now;
	event->decision = leaf & NODE_REFERENCE;
	event->interface = q->interface;
	event->hook = q->hook;
	event->action = leaf >> 28 & 3;
	event->protocol = p->protocol;
	event->v6 = p->v6;
	event->source_port = p->source_port;
	event->key = p->key;
	__builtin_memcpy(event->source, p->source, 16);
	__builtin_memcpy(event->destination, p->destination, 16);
	ringbuf_submit(event, 0);
	return 0;
}

/* What the program says, as an action. Of a packet without bytes it is neither counted nor told. */
INLINE u32 judge(const struct packet *p, struct question *q, u32 bytes)
{
	u32 number = q->program;
	struct program *program = map_lookup(&programs, &number);
	u32 node = 0;

	if (program) {
		struct body *body = &program->bodies[p->v6 & 1];

		node = body->cells;
		if (body->columns) {
			u32 cell = body->cells;

			if (body->source != NO_PROJECTION) {
				if (q->source_class == UNSOUGHT)
					q->source_class = class_of(p->v6, p->source, q->active);
				cell += row_of(body->source, q->source_class) * body->columns;
			}
			if (body->destination != NO_PROJECTION) {
				if (q->destination_class == UNSOUGHT)
					q->destination_class = class_of(p->v6, p->destination, q->active);
				cell += row_of(body->destination, q->destination_class);
			}
			u32 line = cell / LINE_CELLS;
			struct cells *found = map_lookup(&cells, &line);

			node = found ? found->cells[cell % LINE_CELLS] : 0;
		}
	}
	u32 leaf = find_leaf(node, p);

	if (bytes) {
		count(&counters, leaf & NODE_REFERENCE, bytes);
		if (leaf & NODE_EVENT)
			send_event(p, q, leaf);
	}
	return leaf >> 28 & 3;
}

/* The same as a function, for programs that ask several hooks. */
FUNCTION u32 judge_hook(const struct packet *p, struct question *q, u32 bytes)
{
	if (!p || !q)
		return ACTION_DENY;
	return judge(p, q, bytes);
}

/* What the endpoint's program of this hook says. */
INLINE u32 judge_at(const struct packet *p, struct question *q, const struct buffer *buffer, u32 hook)
{
	q->hook = hook;
	q->program = buffer->programs[hook];
	return judge_hook(p, q, p->bytes);
}
