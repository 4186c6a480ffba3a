/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The endpoint of an interface. */
#pragma once
#include "maps.h"

INLINE u32 read_active_buffer(void)
{
	u32 zero = 0;
	u32 *buffer = map_lookup(&active_buffer, &zero);

	return buffer ? *buffer & 1 : 0;
}

INLINE int is_retired(void)
{
	u32 zero = 0;
	u32 *buffer = map_lookup(&active_buffer, &zero);

	return buffer && *buffer & RETIRED;
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
