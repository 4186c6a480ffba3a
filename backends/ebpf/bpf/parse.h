/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The parser: a short way for most packets, and the complete one. */
#pragma once
#include "packet.h"

/* The beginnings of most packets: no options, no extension headers, then UDP or TCP. */
struct transport {
	u16 from;
	u16 to;
	u8 rest[16];
};
#define BYTES_UDP 8
#define BYTES_TCP 20
struct plain_v4 {
	u8 version;
	u8 service;
	u16 total;
	u16 id;
	u16 fragment;
	u8 hops;
	u8 protocol;
	u16 sum;
	u32 source;
	u32 destination;
	struct transport transport;
};
struct plain_v6 {
	u8 version;
	u8 rest[3];
	u16 room;
	u8 protocol;
	u8 hops;
	u32 source[4];
	u32 destination[4];
	struct transport transport;
};
#define BYTES_V4 20
#define BYTES_V6 40

/* Whether the transport is whole. `room` is how long the packet says it is behind the IP header. */
INLINE int is_plain(u32 protocol, u32 room, u32 loaded)
{
	if (protocol == PROTO_UDP)
		return room >= BYTES_UDP;
	return protocol == PROTO_TCP && room >= BYTES_TCP && loaded >= BYTES_TCP;
}

INLINE void note_plain(struct packet *p, const struct transport *t, u32 protocol)
{
	p->protocol = protocol;
	p->source_port = swap16(t->from);
	p->key = swap16(t->to);
	p->sent_ports = ports_of(p->source_port, p->key);
	p->received_ports = ports_of(p->key, p->source_port);
	/* As in parse_transport, which counts these four bytes as well. */
	if (protocol == PROTO_TCP)
		p->flags = ((t->rest[9] & 0x12) == 0x02 ? OPENS : 0) | (t->rest[9] & 0x05 ? CLOSES : 0);
}

INLINE int parse_plain_v4(struct __sk_buff *skb, struct packet *p)
{
	struct plain_v4 ip;
	u32 length = skb->len, loaded = length >= BYTES_LINK + BYTES_V4 + BYTES_TCP ? BYTES_TCP : BYTES_UDP;

	if (loaded == BYTES_TCP) {
		if (load_relative(skb, 0, &ip, BYTES_V4 + BYTES_TCP, FROM_NETWORK_HEADER))
			return 0;
	} else if (load_relative(skb, 0, &ip, BYTES_V4 + BYTES_UDP, FROM_NETWORK_HEADER)) {
		return 0;
	}
	u32 total = swap16(ip.total);

	if (ip.version != 0x45 || ip.fragment & swap16(0x3fff) || total < BYTES_V4 || total + BYTES_LINK > length ||
	    !is_plain(ip.protocol, total - BYTES_V4, loaded))
		return 0;
	p->bytes = total;
	p->source[0] = ip.source;
	p->destination[0] = ip.destination;
	note_plain(p, &ip.transport, ip.protocol);
	return 1;
}

INLINE int parse_plain_v6(struct __sk_buff *skb, struct packet *p)
{
	struct plain_v6 ip;
	u32 length = skb->len, loaded = length >= BYTES_LINK + BYTES_V6 + BYTES_TCP ? BYTES_TCP : BYTES_UDP;

	if (loaded == BYTES_TCP) {
		if (load_relative(skb, 0, &ip, BYTES_V6 + BYTES_TCP, FROM_NETWORK_HEADER))
			return 0;
	} else if (load_relative(skb, 0, &ip, BYTES_V6 + BYTES_UDP, FROM_NETWORK_HEADER)) {
		return 0;
	}
	u32 room = swap16(ip.room);

	if (ip.version >> 4 != 6 || room + BYTES_V6 + BYTES_LINK > length || !is_plain(ip.protocol, room, loaded))
		return 0;
	p->v6 = 1;
	p->bytes = room + BYTES_V6;
	__builtin_memcpy(p->source, ip.source, 16);
	__builtin_memcpy(p->destination, ip.destination, 16);
	note_plain(p, &ip.transport, ip.protocol);
	return 1;
}

/*
 * Most packets cost one call of a helper. A packet that is not plain is read again from the start by the complete parser.
 * For plain packets both parsers give the same result.
 */
INLINE int parse(struct __sk_buff *skb, struct packet *p)
{
	u32 type = skb->protocol;

	if (type == swap16(ETH_IPV4)) {
		if (parse_plain_v4(skb, p))
			return PARSED;
	} else if (type == swap16(ETH_IPV6)) {
		if (parse_plain_v6(skb, p))
			return PARSED;
	}
	/* Headers that are not in one piece yet. */
	u32 linear = linear_bytes(skb);

	if (linear < skb->len && linear < MOST_HEADERS)
		pull_data(skb, skb->len < MOST_HEADERS ? skb->len : MOST_HEADERS);
	return parse_slowly(skb, p);
}
