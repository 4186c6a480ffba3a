/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Later fragments of a packet that passed. */
#pragma once
#include "ask.h"
#include "drop.h"

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
