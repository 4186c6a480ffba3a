/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Somebody else's tc program: counts UDP packets over IPv4, drops those to one port, and answers what it was told for all
 * others. backends/ebpf/bpf/build.sh builds it.
 */
#include "../../../../../backends/ebpf/bpf/kernel.h"

struct {
	UINT(type, MAP_ARRAY);
	UINT(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, u64);
} seen SEC(".maps");

volatile const u32 port = 0;
volatile const s32 answer = TC_NEXT;

SEC("classifier")
int foreign(struct __sk_buff *skb)
{
	u8 ip[20], udp[8];
	u32 zero = 0;

	if (swap16((u16)skb->protocol) != 0x0800 || load_relative(skb, 0, ip, 20, FROM_NETWORK_HEADER) ||
	    ip[9] != 17 || load_relative(skb, (ip[0] & 15) * 4, udp, 8, FROM_NETWORK_HEADER))
		return answer;
	u64 *count = map_lookup(&seen, &zero);

	if (count)
		__sync_fetch_and_add(count, 1);
	return (u32)(udp[2] << 8 | udp[3]) == port ? TC_DROP : answer;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
