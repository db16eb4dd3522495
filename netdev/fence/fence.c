//go:build ignore

// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// The fence: one program per direction on each network device of a node. A
// frame that a managed HAVIP would answer (ingress) or speak with (egress)
// passes only while that HAVIP is open and CLOCK_BOOTTIME is before the
// deadline of its session. DESIGN.md has the table of frames and the reasons.
//
// Needs Linux 5.8 (bpf_ktime_get_boot_ns). Direct packet access is not used:
// bpf_skb_load_bytes works on linear and paged frames alike.
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// Limits.
#define VLAN_TAGS_MAX 4  // tags inside the frame; an accelerated one comes on top
#define IP6_HEADERS_MAX 8 // extension headers walked in search of ICMPv6

// Verdicts of the direct-action classifier. TCX_NEXT and TC_ACT_UNSPEC are both
// -1: this program has no objection and leaves the frame to the next one.
#define PASS -1
#define DROP 2

#define ETH_TYPE_AT 12
#define ETH_IP4 0x0800
#define ETH_ARP 0x0806
#define ETH_IP6 0x86dd
#define ETH_8021Q 0x8100
#define ETH_8021AD 0x88a8
#define ETH_QINQ_OLD 0x9100

#define PROTO_TCP 6
#define IP_OFFSET 0x1fff // of a fragment, in its header's word

#define ICMP6_NS 135 // RFC 4861, section 4.3
#define ICMP6_NA 136 // RFC 4861, section 4.4

enum direction { INGRESS, EGRESS };

// Why a frame passed or was dropped: the index in counters. Dropped from SHUT on.
enum reason { OTHER, OPEN, ANNOUNCE, MALFORMED, SHUT, EXPIRED, REASONS };

struct addr { __u32 w[4]; }; // network order, IPv4 as ::ffff:a.b.c.d

struct arp { // RFC 826 with Ethernet and IPv4
	__be16 htype, ptype;
	__u8 hlen, plen;
	__be16 op;
	__u8 sha[6];
	__u8 spa[4];
	__u8 tha[6];
	__u8 tpa[4];
};

// The managed HAVIPs: 0 = shut, s > 0 = open until deadlines[s-1]. The loader
// sets the size, from internal/limits.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct addr);
	__type(value, __u32);
} havips SEC(".maps");

// Whose word the answers of a probe's port are: frames of TCP leave from that local
// port only while that HAVIP is open. The loader sets the size, from internal/limits.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct addr);
} ports SEC(".maps");

// Absolute deadlines, nanoseconds of CLOCK_BOOTTIME, written through a mapping.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} deadlines SEC(".maps");

// Frames, at direction * REASONS + reason.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2 * REASONS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

// Whose fence this is: the first 16 bytes of a hash of the owner's name. No frame
// needs it; whoever finds the programs on a device reads it.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u8[16]);
} owner SEC(".maps");

// A program holds the maps that its code names, so a mention is enough.
#define HOLD(map) asm volatile("" : : "r"(&map))

// judge_addr is the rule itself, for one address on the guarded side of a frame.
static __always_inline enum reason judge_addr(const struct addr *a)
{
	volatile __u32 *state = bpf_map_lookup_elem(&havips, a);
	if (!state)
		return OTHER;
	__u32 slot = *state;
	if (slot == 0)
		return SHUT;
	slot -= 1;
	volatile __u64 *deadline = bpf_map_lookup_elem(&deadlines, &slot);
	if (!deadline)
		return SHUT; // a state of a newer version: silence is the safe reading
	return bpf_ktime_get_boot_ns() < *deadline ? OPEN : EXPIRED;
}

static __always_inline enum reason judge_ip4(const __u8 *ip)
{
	struct addr a = { { 0, 0, bpf_htonl(0xffff), 0 } };
	__builtin_memcpy(&a.w[3], ip, 4);
	return judge_addr(&a);
}

static __always_inline enum reason judge_arp(struct __sk_buff *skb, __u32 at, enum direction dir)
{
	struct arp arp;
	if (bpf_skb_load_bytes(skb, at, &arp, sizeof(arp)))
		return MALFORMED;
	if (arp.ptype != bpf_htons(ETH_IP4) || arp.hlen != 6 || arp.plen != 4)
		return OTHER;
	if (dir == EGRESS)
		return judge_ip4(arp.spa);
	enum reason r = judge_ip4(arp.tpa);
	if (r >= SHUT && __builtin_memcmp(arp.spa, arp.tpa, 4) == 0)
		return ANNOUNCE; // the owner's own claim, which every neighbour must learn
	return r;
}

// judge_nd finds a neighbour solicitation (ingress) or advertisement (egress)
// behind any extension headers and judges its target address.
static __always_inline enum reason judge_nd(struct __sk_buff *skb, __u32 at, __u8 next,
					    enum direction dir)
{
	for (int i = 0; i < IP6_HEADERS_MAX; i++) {
		__u8 h[4];
		if (next == 58) {
			__u8 type;
			struct addr target;
			if (bpf_skb_load_bytes(skb, at, &type, 1))
				return MALFORMED;
			if (type != (dir == INGRESS ? ICMP6_NS : ICMP6_NA))
				return OTHER;
			if (bpf_skb_load_bytes(skb, at + 8, &target, sizeof(target)))
				return MALFORMED;
			return judge_addr(&target);
		}
		if (next != 0 && next != 43 && next != 44 && next != 51 && next != 60)
			return OTHER;
		if (bpf_skb_load_bytes(skb, at, h, sizeof(h)))
			return MALFORMED;
		if (next == 44) { // fragment: only the first one has the ICMPv6 header
			if (h[2] || h[3] & 0xf8)
				return OTHER;
			at += 8;
		} else if (next == 51) { // authentication, in words of four bytes
			at += (h[1] + 2) * 4;
		} else { // hop-by-hop, routing, destination options
			at += (h[1] + 1) * 8;
		}
		next = h[0];
	}
	return OTHER;
}

// judge_port is for a frame of TCP that leaves, whose header is at. The answers of a
// probe are the kernel's own (the handshake, and what it repeats later), so the place
// to stop them is where they leave. That a HAVIP is unknown does not open its port.
static __always_inline enum reason judge_port(struct __sk_buff *skb, __u32 at)
{
	__be16 from;
	if (bpf_skb_load_bytes(skb, at, &from, sizeof(from)))
		return OTHER;
	__u32 port = bpf_ntohs(from);
	struct addr *whose = bpf_map_lookup_elem(&ports, &port);
	if (!whose)
		return OTHER;
	struct addr a = *whose;
	enum reason r = judge_addr(&a);
	return r == OTHER ? SHUT : r;
}

// judge_leaving judges the source address r has the verdict of, and the port behind it.
static __always_inline enum reason judge_leaving(struct __sk_buff *skb, __u32 at, __u8 proto, enum reason r)
{
	if (r >= SHUT || proto != PROTO_TCP)
		return r;
	enum reason port = judge_port(skb, at);
	return port == OTHER ? r : port;
}

static __always_inline enum reason judge_ip6(struct __sk_buff *skb, __u32 at, enum direction dir)
{
	__u8 fixed[8];
	struct addr a;
	if (bpf_skb_load_bytes(skb, at, fixed, sizeof(fixed)))
		return MALFORMED;
	if (bpf_skb_load_bytes(skb, at + (dir == INGRESS ? 24 : 8), &a, sizeof(a)))
		return MALFORMED;
	enum reason r = judge_addr(&a);
	if (r >= SHUT)
		return r;
	if (dir == EGRESS && fixed[6] == PROTO_TCP)
		return judge_leaving(skb, at + 40, fixed[6], r);
	enum reason nd = judge_nd(skb, at + 40, fixed[6], dir);
	return nd >= SHUT || r == OTHER ? nd : r;
}

static __always_inline enum reason judge(struct __sk_buff *skb, enum direction dir)
{
	__u32 at = ETH_TYPE_AT;
	__be16 type;
	if (bpf_skb_load_bytes(skb, at, &type, sizeof(type)))
		return MALFORMED;
	for (int i = 0; i < VLAN_TAGS_MAX; i++) {
		if (type != bpf_htons(ETH_8021Q) && type != bpf_htons(ETH_8021AD) &&
		    type != bpf_htons(ETH_QINQ_OLD))
			break;
		at += 4;
		if (bpf_skb_load_bytes(skb, at, &type, sizeof(type)))
			return MALFORMED;
	}
	at += 2;
	if (type == bpf_htons(ETH_ARP))
		return judge_arp(skb, at, dir);
	if (type == bpf_htons(ETH_IP6))
		return judge_ip6(skb, at, dir);
	if (type != bpf_htons(ETH_IP4))
		return OTHER;
	__u8 ip[4], head[10]; // every IPv4 fragment carries both addresses
	if (bpf_skb_load_bytes(skb, at + (dir == INGRESS ? 16 : 12), ip, sizeof(ip)))
		return MALFORMED;
	enum reason r = judge_ip4(ip);
	if (dir == INGRESS || bpf_skb_load_bytes(skb, at, head, sizeof(head)) || (head[6] << 8 | head[7]) & IP_OFFSET)
		return r;
	return judge_leaving(skb, at + (head[0] & 0xf) * 4, head[9], r);
}

static __always_inline int fence(struct __sk_buff *skb, enum direction dir)
{
	HOLD(owner);
	enum reason r = judge(skb, dir);
	__u32 i = dir * REASONS + r;
	__u64 *count = bpf_map_lookup_elem(&counters, &i);
	if (count)
		*count += 1;
	return r >= SHUT ? DROP : PASS;
}

// The section is "tc" and not "tcx/...": both hooks take the type, and kernels
// without TCX do not know the other attach types.
SEC("tc")
int fence_ingress(struct __sk_buff *skb)
{
	return fence(skb, INGRESS);
}

SEC("tc")
int fence_egress(struct __sk_buff *skb)
{
	return fence(skb, EGRESS);
}

// The anchor sits on lo, has no objection to anything, and holds the maps: they
// outlive the process also while no device has the fence, and the next process
// finds them in one place.
SEC("tc")
int fence_anchor(struct __sk_buff *skb)
{
	HOLD(havips);
	HOLD(ports);
	HOLD(deadlines);
	HOLD(counters);
	HOLD(owner);
	return PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
