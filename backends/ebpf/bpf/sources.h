/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Sources that nothing from outside may have, and peers of tunnels. */
#pragma once
#include "maps.h"
#include "packet.h"

/*
 * Whether the source is the address of a workload of this node, or of its networks of workloads. What comes in by an interface of
 * the host is from elsewhere then, whatever it says. Kernels before 6.2 want keys of look-ups on the stack.
 */
FUNCTION int is_forged(const struct packet *p)
{
	if (!p)
		return 1;
	if (p->v6) {
		struct net_v6 net = { 128, { p->source[0], p->source[1], p->source[2], p->source[3] } };

		return map_lookup(&local_v6, net.address) || (has_local_nets && map_lookup(&local_nets_v6, &net));
	}
	struct net_v4 net = { 32, p->source[0] };

	return map_lookup(&local_v4, &net.address) || (has_local_nets && map_lookup(&local_nets_v4, &net));
}

FUNCTION int is_tunnel_peer(const struct packet *p)
{
	if (!p)
		return 0;
	if (p->v6) {
		struct net_v6 net = { 128, { p->source[0], p->source[1], p->source[2], p->source[3] } };

		return !!map_lookup(&tunnel_peers_v6, &net);
	}
	struct net_v4 net = { 32, p->source[0] };

	return !!map_lookup(&tunnel_peers_v4, &net);
}

/* Whether the packet carries another one, as the tunnels of this node do. */
INLINE int is_tunnel(const struct packet *p)
{
	u32 kind = p->protocol << 16 | (has_ports(p) ? p->key : 0);

#pragma unroll
	for (int i = 0; i < TUNNELS; i++)
		if (tunnels[i] && tunnels[i] == kind)
			return 1;
	return 0;
}
