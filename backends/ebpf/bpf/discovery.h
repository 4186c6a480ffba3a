/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Neighbour discovery, which no policy is asked about. */
#pragma once
#include "packet.h"

/* Neighbour discovery needs link-local addresses, which nobody binds (Calico felix/rules/endpoints.go). */
INLINE int is_discovery(const struct packet *p)
{
	u32 kind = p->key >> 8;

	return p->v6 && p->protocol == PROTO_ICMPV6 && !(p->flags & LATER_FRAGMENT) &&
	       (kind == 135 || kind == 136 || (kind >= 130 && kind <= 133));
}
