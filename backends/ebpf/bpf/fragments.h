/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Later fragments of a packet that passed. */
#pragma once
#include "drop.h"
#include "flows.h"

INLINE void key_fragments(struct fragments *key, const struct packet *p, const struct place *at)
{
	__builtin_memcpy(key->source, p->source, 16);
	__builtin_memcpy(key->destination, p->destination, 16);
	key->id = p->id;
	key->interface = at->interface;
	key->protocol = p->protocol;
	key->way = at->from_local | p->v6 << 1;
}

/* How long the later fragments of a packet may take. The kernel's ip_frag_time is as long. */
#define FRAGMENT_TIME (30 * SECOND)

FUNCTION int follows_first(const struct packet *p, const struct place *at)
{
	if (!p || !at)
		return 0;
	struct fragments key;

	key_fragments(&key, p, at);
	u64 *seen = map_lookup(&fragmented, &key);

	return seen && coarse_ns() - *seen < FRAGMENT_TIME;
}

FUNCTION int remember_first(const struct packet *p, const struct place *at)
{
	if (!p || !at)
		return 0;
	struct fragments key;
	u64 now = coarse_ns();

	key_fragments(&key, p, at);
	map_update(&fragmented, &key, &now, 0);
	return 0;
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
