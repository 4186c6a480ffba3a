/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Counters of packets. */
#pragma once
#include "maps.h"

INLINE void count(void *map, u32 slot, u32 bytes)
{
	struct counter *counter = map_lookup(map, &slot);

	if (counter) {
		counter->packets += 1;
		counter->bytes += bytes;
	}
}
