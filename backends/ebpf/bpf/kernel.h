/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What this program needs of the kernel's interface; so that no header of the system is an input of the build. */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;
typedef long long s64;
typedef signed char s8;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
/*
 * A function of its own for the verifier, too: it is checked once, for all arguments, instead of at each call. Pointers may
 * be null then, as far as it knows.
 */
#define FUNCTION __attribute__((noinline))
#define UINT(name, value) int (*name)[value]
#define TYPE(name, value) value *name

/* enum bpf_map_type, flags of maps and updates. */
#define MAP_HASH 1
#define MAP_ARRAY 2
#define MAP_PERCPU_ARRAY 6
#define MAP_LRU_HASH 9
#define MAP_LPM_TRIE 11
#define MAP_ARRAY_OF_MAPS 12
#define MAP_RINGBUF 27
#define NO_PREALLOC 1
#define NEW_ONLY 1
#define EXISTING_ONLY 2

/* Stable numbers of helpers. */
static void *(*map_lookup)(void *map, const void *key) = (void *)1;
static long (*map_update)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*map_delete)(void *map, const void *key) = (void *)3;
static long (*pull_data)(void *skb, u32 length) = (void *)39;
static long (*load_relative)(const void *skb, u32 offset, void *to, u32 length, u32 from) = (void *)68;
static long (*fib_lookup)(void *context, void *params, int length, u32 flags) = (void *)69;
static void *(*ringbuf_reserve)(void *map, u64 size, u64 flags) = (void *)131;
static void (*ringbuf_submit)(void *data, u64 flags) = (void *)132;
static u64 (*coarse_ns)(void) = (void *)160;
static long (*for_each)(void *map, void *callback, void *context, u64 flags) = (void *)164;

#define FROM_NETWORK_HEADER 1
#define RINGBUF_NO_WAKEUP 1

#define TC_NEXT -1
#define TC_DROP 2
/* The same at a socket. */
#define WITHHOLD 0
#define DELIVER 1

/*
 * In a value of a hash map, it makes the kernel write an element in place that is there. Without, a new element takes its place,
 * and a reader on its way can miss both.
 */
struct bpf_spin_lock {
	u32 value;
};

struct __sk_buff {
	u32 len;
	u32 pkt_type;
	u32 mark;
	u32 queue_mapping;
	u32 protocol;
	u32 vlan_present;
	u32 vlan_tci;
	u32 vlan_proto;
	u32 priority;
	u32 ingress_ifindex;
	u32 ifindex;
	u32 tc_index;
	u32 cb[5];
	u32 hash;
	u32 tc_classid;
	u32 data;
	u32 data_end;
	u32 napi_id;
	u32 family;
	u32 remote_ip4;
	u32 local_ip4;
	u32 remote_ip6[4];
	u32 local_ip6[4];
	u32 remote_port;
	u32 local_port;
	u32 data_meta;
	u64 flow_keys;
	u64 tstamp;
	u32 wire_len;
	u32 gso_segs;
	u64 sk;
	u32 gso_size;
};

struct lpm_key {
	u32 length;
	u8 address[16];
};

INLINE u16 swap16(u16 value)
{
	return __builtin_bswap16(value);
}

INLINE u32 swap32(u32 value)
{
	return __builtin_bswap32(value);
}
