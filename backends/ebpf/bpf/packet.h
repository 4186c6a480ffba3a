/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What policy sees of a packet. */
#pragma once
#include "kernel.h"
#include "layout.h"

#define ETH_IPV4 0x0800
#define ETH_ARP 0x0806
#define ETH_VLAN 0x8100
#define ETH_IPV6 0x86dd
#define ETH_QINQ 0x88a8

/* The link-layer header that the length of a buffer counts, where there is one. */
#define BYTES_LINK 14
/* Headers that are looked at are in the first bytes of a packet. */
#define MOST_HEADERS 256

#define PROTO_ICMP 1
#define PROTO_TCP 6
#define PROTO_UDP 17
#define PROTO_ICMPV6 58
#define PROTO_SCTP 132
/* Neighbour advertisement, a type of ICMPv6. */
#define ADVERTISEMENT 136

/* The packet may begin a flow, so policy is asked even where the flow is known: TCP with SYN but no ACK, SCTP INIT. */
#define OPENS 1
/* TCP with FIN or RST. */
#define CLOSES 2
/* A fragment that others follow, and one that is not the first. */
#define FIRST_FRAGMENT 4
#define LATER_FRAGMENT 8
/* An ICMP error; `inner_*` is the packet that it is about. */
#define ERROR 16
/* ICMP of no flow: neither query, answer nor error. */
#define NO_FLOW 32
/* Set before parsing: the node's IP took it, so it is as long as it says. The last bytes may be where programs cannot look. */
#define TAKEN 64
/* What neighbour discovery has: its type, hop limit and size, and for listeners its addresses. Where it goes is looked at later. */
#define SIGNALS 128

struct packet {
	u32 source[4];
	u32 destination[4];
	u32 v6;
	u32 protocol;
	u32 key; /* destination port, or type and code */
	u32 source_port;
	u32 flags;
	u32 id; /* of the fragments */
	u32 bytes; /* from the IP header on, as that says */
	/* Ports of the flow as its table has them, from the sender's and the receiver's side. */
	u32 sent_ports;
	u32 received_ports;
	u32 inner_protocol;
	u32 inner_source[4];
	u32 inner_destination[4]; /* of a neighbour advertisement, its target */
};

/* Results of parsing. */
#define PARSED 0
#define PASS_ARP 1
#define BAD_ETHERTYPE 2
#define BAD_PACKET 3
#define BAD_FRAGMENT 4

INLINE u32 ports_of(u16 local, u16 remote)
{
	return (u32)local << 16 | remote;
}

/*
 * The identifier of an ICMP query stands for ports. Who asked is part of it: an answer belongs to the flow of its question,
 * a question of the other end does not.
 */
INLINE int query(u32 v6, u8 kind, u32 *question)
{
	if (v6) {
		*question = 128;
		if (kind == 128)
			return 1;
		return kind == 129 ? 2 : 0;
	}
	*question = kind;
	if (kind == 8 || kind == 13 || kind == 15 || kind == 17)
		return 1;
	*question = kind == 0 ? 8 : kind - 1;
	return kind == 0 || kind == 14 || kind == 16 || kind == 18 ? 2 : 0;
}

INLINE void query_ports(struct packet *p, int asks, u32 question, u16 id)
{
	u32 asker = ports_of(id, question << 8 | 1), asked = ports_of(id, question << 8 | 2);

	p->sent_ports = asks == 1 ? asker : asked;
	p->received_ports = asks == 1 ? asked : asker;
}

INLINE int is_error(u32 v6, u8 kind)
{
	if (v6)
		return kind >= 1 && kind <= 4;
	return kind == 3 || kind == 11 || kind == 12;
}

/* The packet inside an ICMP error, whose ports become those of the packet that carries it. */
INLINE void parse_inner(struct __sk_buff *skb, struct packet *p, u32 offset)
{
	u8 header[40];
	u8 l4[8];
	u32 length = 20;

	if (p->v6) {
		if (load_relative(skb, offset, header, 40, FROM_NETWORK_HEADER) || header[0] >> 4 != 6)
			return;
		__builtin_memcpy(p->inner_source, header + 8, 16);
		__builtin_memcpy(p->inner_destination, header + 24, 16);
		p->inner_protocol = header[6];
		length = 40;
	} else {
		if (load_relative(skb, offset, header, 20, FROM_NETWORK_HEADER) || header[0] >> 4 != 4)
			return;
		/* Only a first fragment has ports. */
		if ((header[6] & 0x1f) | header[7])
			return;
		length = (header[0] & 15) * 4;
		if (length < 20)
			return;
		__builtin_memcpy(p->inner_source, header + 12, 4);
		__builtin_memcpy(p->inner_destination, header + 16, 4);
		p->inner_protocol = header[9];
	}
	if (p->inner_protocol == PROTO_TCP || p->inner_protocol == PROTO_UDP || p->inner_protocol == PROTO_SCTP) {
		if (load_relative(skb, offset + length, l4, 8, FROM_NETWORK_HEADER))
			return;
		u16 from = l4[0] << 8 | l4[1], to = l4[2] << 8 | l4[3];

		p->sent_ports = ports_of(from, to);
		p->received_ports = ports_of(to, from);
	} else if (p->inner_protocol == (p->v6 ? PROTO_ICMPV6 : PROTO_ICMP)) {
		u32 question;

		if (load_relative(skb, offset + length, l4, 8, FROM_NETWORK_HEADER))
			return;
		int asks = query(p->v6, l4[0], &question);

		if (!asks)
			return;
		query_ports(p, asks, question, l4[4] << 8 | l4[5]);
	}
	p->flags |= ERROR;
}

/* Everything behind the IP header. `room` is how long the packet says it is from `offset` on. */
FUNCTION int parse_transport(struct __sk_buff *skb, struct packet *p, u32 offset, u32 room)
{
	u8 l4[20] = {};
	u32 need;

	if (!p)
		return BAD_PACKET;
	if (p->flags & LATER_FRAGMENT)
		return PARSED;
	switch (p->protocol) {
	case PROTO_TCP:
		need = 20;
		break;
	case PROTO_UDP:
		need = 8;
		break;
	case PROTO_SCTP:
		need = 12;
		break;
	case PROTO_ICMP:
	case PROTO_ICMPV6:
		need = 4;
		break;
	default:
		return PARSED;
	}
	if (room < need)
		return p->flags & FIRST_FRAGMENT ? BAD_FRAGMENT : BAD_PACKET;
	if (p->protocol == PROTO_TCP) {
		if (load_relative(skb, offset, l4, 20, FROM_NETWORK_HEADER))
			return BAD_PACKET;
	} else if (p->protocol == PROTO_SCTP && room >= 16) {
		if (load_relative(skb, offset, l4, 16, FROM_NETWORK_HEADER))
			return BAD_PACKET;
	} else if (p->protocol == PROTO_SCTP) {
		if (load_relative(skb, offset, l4, 12, FROM_NETWORK_HEADER))
			return BAD_PACKET;
	} else if (room >= 8) {
		if (load_relative(skb, offset, l4, 8, FROM_NETWORK_HEADER))
			return BAD_PACKET;
	} else {
		if (load_relative(skb, offset, l4, 4, FROM_NETWORK_HEADER))
			return BAD_PACKET;
	}
	if (p->protocol == PROTO_ICMP || p->protocol == PROTO_ICMPV6) {
		u32 question;
		/* Each family has an ICMP of its own; the other number is a protocol like any other, which rules still match. */
		u32 own = p->v6 ? PROTO_ICMPV6 : PROTO_ICMP;

		p->key = l4[0] << 8 | l4[1];
		if (p->protocol != own)
			return PARSED;
		if (is_error(p->v6, l4[0])) {
			p->flags |= NO_FLOW;
			if (room >= 8)
				parse_inner(skb, p, offset + 8);
			return PARSED;
		}
		if (p->v6 && l4[0] == ADVERTISEMENT && room >= 24 &&
		    load_relative(skb, offset + 8, p->inner_destination, 16, FROM_NETWORK_HEADER))
			return BAD_PACKET;
		int asks = query(p->v6, l4[0], &question);

		if (asks && room >= 8)
			query_ports(p, asks, question, l4[4] << 8 | l4[5]);
		else
			p->flags |= NO_FLOW;
		return PARSED;
	}
	u16 from = l4[0] << 8 | l4[1], to = l4[2] << 8 | l4[3];

	p->source_port = from;
	p->key = to;
	p->sent_ports = ports_of(from, to);
	p->received_ports = ports_of(to, from);
	if (p->protocol == PROTO_TCP) {
		if ((l4[13] & 0x12) == 0x02)
			p->flags |= OPENS;
		if (l4[13] & 0x05)
			p->flags |= CLOSES;
	} else if (p->protocol == PROTO_SCTP && room >= 16 && l4[12] == 1) {
		p->flags |= OPENS;
	}
	return PARSED;
}

/* How much of the packet lies in one piece. */
INLINE u32 linear_bytes(struct __sk_buff *skb)
{
	return (u64)skb->data_end - (u64)skb->data;
}

/*
 * Whether the packet is as long as it says. The length of the buffer may count a link-layer header or not; where that makes a
 * difference, the last byte is looked for.
 */
INLINE int is_there(struct __sk_buff *skb, u32 end)
{
	u8 last;

	if (end + BYTES_LINK <= skb->len)
		return 1;
	if (linear_bytes(skb) < skb->len)
		/* The last byte is elsewhere. The kernel looks before it delivers. */
		return end <= skb->len;
	return end <= skb->len && load_relative(skb, end - 1, &last, 1, FROM_NETWORK_HEADER) == 0;
}

/* From the IP header on, of a packet whose header does not say how long it is: one that the card will cut. */
INLINE u32 bytes_of_large(struct __sk_buff *skb, const struct packet *p, u32 offset)
{
	/* At a socket, the link header is not in the buffer any more. */
	return skb->len - offset - (p->flags & TAKEN ? 0 : BYTES_LINK);
}

INLINE int parse_v4(struct __sk_buff *skb, struct packet *p, u32 offset)
{
	u8 ip[20];

	if (load_relative(skb, offset, ip, 20, FROM_NETWORK_HEADER))
		return BAD_PACKET;
	u32 header = (ip[0] & 15) * 4, total = ip[2] << 8 | ip[3];

	/* Large packets that the card will cut have no length of their own. */
	if (total == 0 && skb->gso_size)
		total = 0xffff;
	if (ip[0] >> 4 != 4 || header < 20 || total < header)
		return BAD_PACKET;
	/* What it says it holds must be there. */
	if (total < 0xffff && !(p->flags & TAKEN) && !is_there(skb, total + offset))
		return BAD_PACKET;
	p->bytes = total < 0xffff ? total : bytes_of_large(skb, p, offset);
	__builtin_memcpy(p->source, ip + 12, 4);
	__builtin_memcpy(p->destination, ip + 16, 4);
	p->protocol = ip[9];
	u32 fragment = ip[6] << 8 | ip[7];

	if (fragment & 0x3fff) {
		p->id = ip[4] << 8 | ip[5];
		/* A second fragment this early would write over the ports of the first (RFC 1858, RFC 3128). */
		if ((fragment & 0x1fff) == 1 || (fragment & 0x1fff) == 2)
			return BAD_FRAGMENT;
		p->flags |= fragment & 0x1fff ? LATER_FRAGMENT : FIRST_FRAGMENT;
	}
	return parse_transport(skb, p, offset + header, total - header);
}

/* Addresses that no router carries: fe80::/10, and groups of the link, ff02::/16. */
INLINE int is_link_local(const u32 *address)
{
	return (address[0] & swap32(0xffc00000)) == swap32(0xfe800000);
}

INLINE int is_link_group(const u32 *address)
{
	return (address[0] & swap32(0xffff0000)) == swap32(0xff020000);
}

INLINE int is_unspecified(const u32 *address)
{
	return !(address[0] | address[1] | address[2] | address[3]);
}

/*
 * Whether a message may be neighbour discovery (RFC 4861 sections 6.1 and 7.1: hop limit 255, code 0) or about listeners (RFC 2710
 * section 3, RFC 3810 section 5: hop limit 1, from a link-local address or none). What a router says, advertisements and redirects,
 * is neither. A larger packet than these ever are carries something else: with options of 64 bytes, with 10 groups.
 */
#define HOPS_NEIGHBOURS 255
#define HOPS_LISTENERS 1
#define MOST_NEIGHBOURS 128
#define MOST_LISTENERS 256

INLINE int may_signal(const struct packet *p, u32 hops, u32 bytes)
{
	u32 kind = p->key >> 8;

	if (p->key & 0xff)
		return 0;
	if (kind == 133 || kind == 135 || kind == 136)
		return hops == HOPS_NEIGHBOURS && bytes <= MOST_NEIGHBOURS;
	if ((kind >= 130 && kind <= 132) || kind == 143)
		return hops == HOPS_LISTENERS && bytes <= MOST_LISTENERS && is_link_group(p->destination) &&
		       (is_link_local(p->source) || is_unspecified(p->source));
	return 0;
}

/* Headers that may stand between IPv6 and what it carries. AH (51) is a protocol of its own, as in IPv4: nothing looks behind it. */
#define MOST_EXTENSIONS 8

INLINE int parse_v6(struct __sk_buff *skb, struct packet *p, u32 offset)
{
	u8 ip[40];

	if (load_relative(skb, offset, ip, 40, FROM_NETWORK_HEADER))
		return BAD_PACKET;
	if (ip[0] >> 4 != 6)
		return BAD_PACKET;
	u32 room = ip[4] << 8 | ip[5], next = ip[6], at = offset + 40;

	if (room == 0 && skb->gso_size)
		room = 0xffff;
	if (room < 0xffff && !(p->flags & TAKEN) && !is_there(skb, room + at))
		return BAD_PACKET;
	p->bytes = room < 0xffff ? room + 40 : bytes_of_large(skb, p, offset);
	__builtin_memcpy(p->source, ip + 8, 16);
	__builtin_memcpy(p->destination, ip + 24, 16);
#pragma clang loop unroll(disable)
	for (int i = 0; i < MOST_EXTENSIONS; i++) {
		u8 extension[8];
		u32 length;

		if (next != 0 && next != 43 && next != 44 && next != 60)
			break;
		if (room < 8 || load_relative(skb, at, extension, 8, FROM_NETWORK_HEADER))
			return BAD_PACKET;
		if (next == 44) {
			u32 fragment = extension[2] << 8 | extension[3];

			/* A packet in fragments of fragments is nobody's. */
			if (p->flags & (FIRST_FRAGMENT | LATER_FRAGMENT))
				return BAD_FRAGMENT;
			__builtin_memcpy(&p->id, extension + 4, 4);
			if (fragment >> 3) {
				if (fragment >> 3 <= 2)
					return BAD_FRAGMENT;
				/* What follows is not a header. */
				p->flags |= LATER_FRAGMENT;
				p->protocol = extension[0];
				return PARSED;
			}
			if (fragment & 1)
				p->flags |= FIRST_FRAGMENT;
			length = 8;
		} else {
			length = (extension[1] + 1) * 8;
		}
		if (room < length)
			return p->flags & FIRST_FRAGMENT ? BAD_FRAGMENT : BAD_PACKET;
		next = extension[0];
		at += length;
		room -= length;
	}
	if (next == 0 || next == 43 || next == 44 || next == 60)
		return BAD_PACKET;
	p->protocol = next;
	int parsed = parse_transport(skb, p, at, room);

	/* The whole buffer counts: a bridge carries what stands behind the packet, too. */
	if (next == PROTO_ICMPV6 && parsed == PARSED && !(p->flags & (FIRST_FRAGMENT | LATER_FRAGMENT)) &&
	    may_signal(p, ip[7], skb->len - offset - BYTES_LINK))
		p->flags |= SIGNALS;
	return parsed;
}

/* Steps over tags that the card did not take off, to the type and the place of what they carry. Not 0 where the packet ends. */
INLINE int skip_tags(struct __sk_buff *skb, u16 *type, u32 *offset)
{
#pragma unroll
	for (int i = 0; i < 2; i++) {
		u8 tag[4];

		if (*type != ETH_VLAN && *type != ETH_QINQ)
			break;
		if (load_relative(skb, *offset, tag, 4, FROM_NETWORK_HEADER))
			return 1;
		*type = tag[2] << 8 | tag[3];
		*offset += 4;
	}
	return 0;
}

/* Any packet at all. */
FUNCTION int parse_slowly(struct __sk_buff *skb, struct packet *p)
{
	if (!p)
		return BAD_PACKET;
	u16 type = swap16((u16)skb->protocol);
	u32 offset = 0;

	if (skip_tags(skb, &type, &offset))
		return BAD_PACKET;
	if (type == ETH_IPV4)
		return parse_v4(skb, p, offset);
	if (type == ETH_IPV6) {
		p->v6 = 1;
		return parse_v6(skb, p, offset);
	}
	return type == ETH_ARP ? PASS_ARP : BAD_ETHERTYPE;
}

INLINE int has_ports(const struct packet *p)
{
	return p->protocol == PROTO_TCP || p->protocol == PROTO_UDP || p->protocol == PROTO_SCTP;
}
