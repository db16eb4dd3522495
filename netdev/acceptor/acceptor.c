//go:build ignore

// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// A voter's acceptor in the kernel: it acknowledges the renewals of sessions that the process has
// delegated to it (lease.Delegation), at the device on which they come in. Whatever it does not
// acknowledge goes on to the process. And the holder's count: it counts the acknowledgements of this
// node's own renewals, and moves the deadline of the fence by them (shell.Counter); these go on to the
// process as well. DESIGN.md says what keeps it safe.
//
// Needs Linux 6.6 (TCX). Frames may be paged, so they are read with bpf_skb_load_bytes.
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define PASS -1 // TCX_NEXT: the frame is the next program's, and then the process's

#define ETH_BYTES 14
#define ETH_IP4 0x0800
#define ETH_IP6 0x86dd
#define IP4_BYTES 20
#define IP6_BYTES 40
#define PROTO_UDP 17
#define UDP_BYTES 8
#define IP_FRAGMENT 0x3fff // more fragments, or an offset
#define PACKET_HOST 0

// A frame of protection 2 (membership/datagram/frame.go) with a fixed message of version 3
// (failover/wire/fixed.go), as 15 words of 8 bytes.
#define HEAD 0x0102000000000000ULL // version 1, protection 2, type 0, 0; then the sender's key
#define HEAD_MASK 0xffffffff00000000ULL
#define ANSWER 0x0000010000000000ULL // type 1: an answer in the receiver's channel
#define RENEWAL 0x0301000000000000ULL // version 3, kind 1
#define ACK 0x0302000000000000ULL // version 3, kind 2
#define WORDS 15
#define FRAME_BYTES (8 * WORDS)

enum word { W_HEAD, W_FROM, W_TO, W_TO_KEY, W_CHANNEL, W_INVITE, W_NUMBER, W_KIND, W_SESSION, W_ROUND, W_SENT, W_LENGTH, W_CONFIG, W_BOOT, W_TAG };

// One delegation, and what was promised by it. Words of a frame are in its byte order.
struct delegation {
	struct bpf_spin_lock lock; // guards granted and what stands from round on
	__u32 granted; // 0: recalled
	__u64 suspended; // of the page when it was granted
	__u64 invite, session, length, config, boot; // as in the frame
	__u64 key_in[2], key_out[2]; // of SipHash
	__be32 peer[4]; // the holder's address, IPv4 as ::ffff:a.b.c.d
	__u64 promise; // P in nanoseconds
	__u64 round;
	__s64 sent, heard, until; // nanoseconds: the holder's clock, CLOCK_BOOTTIME, CLOCK_BOOTTIME
	__u64 acked; // how many since it was granted
};

// By the channel's number, as in the frame: 64 random bits of the holder's. The size is lease.NodesMax.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct delegation);
} delegations SEC(".maps");

// The page that agent and lease plane share (failover/plane/page.go): the loader puts it in.
#define PAGE_WORDS 512
#define PAGE_DEADLINE 2
#define PAGE_SUSPENDED 3
struct page { __u64 word[PAGE_WORDS]; };
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct page);
} page SEC(".maps");

// The deadline of the fence (netdev/fence), nanoseconds of CLOCK_BOOTTIME: the loader puts that map in.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} deadlines SEC(".maps");

// The rounds that this node's renewals have begun, each at its number modulo ROUNDS (lease.RoundsMax). The process
// writes them through a mapping: round last, and own when its own voter has acknowledged that round.
#define ROUNDS 8
struct begun { __u64 round, own; __s64 sent, length; };
struct rounds { struct begun at[ROUNDS]; };
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rounds);
} rounds SEC(".maps");

// What is counted, and whose acknowledgements. Words of a frame are in its byte order.
#define VOTERS 16
struct voter {
	__u64 channel, invite; // of this node's frames to it
	__u64 key[2]; // of its answers
	__be32 peer[4];
};
struct counting {
	struct bpf_spin_lock lock; // guards the rest
	__u32 granted; // 0: stopped
	__u64 grant; // one more with each change of this by the process
	__u64 session, config; // as in the frame
	__u32 majority, voters;
	struct voter voter[VOTERS];
	__u64 round[ROUNDS];
	__u32 acked[ROUNDS]; // one bit for each voter
	__u64 moved; // how often the deadline was
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counting);
} counting SEC(".maps");

volatile const __u16 port = 7403; // that the voter listens on; the loader sets it
volatile const __u8 counts = 1; // 0: the loader leaves the count out, where the kernel does not take it

#define ROTATE(x, b) (((x) << (b)) | ((x) >> (64 - (b))))
#define SIP_ROUND                                                  \
	do {                                                       \
		v0 += v1; v1 = ROTATE(v1, 13); v1 ^= v0; v0 = ROTATE(v0, 32); \
		v2 += v3; v3 = ROTATE(v3, 16); v3 ^= v2;           \
		v0 += v3; v3 = ROTATE(v3, 21); v3 ^= v0;           \
		v2 += v1; v1 = ROTATE(v1, 17); v1 ^= v2; v2 = ROTATE(v2, 32); \
	} while (0)

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define LE64(x) (x)
#else
#define LE64(x) __builtin_bswap64(x)
#endif

// tag is SipHash-2-4 (Aumasson and Bernstein, 2012) over a frame without its tag, in the frame's byte order.
static __always_inline __u64 tag(const __u64 *w, const __u64 *key) {
	__u64 v0 = key[0] ^ 0x736f6d6570736575ULL, v1 = key[1] ^ 0x646f72616e646f6dULL;
	__u64 v2 = key[0] ^ 0x6c7967656e657261ULL, v3 = key[1] ^ 0x7465646279746573ULL;
#pragma unroll
	for (int i = 0; i < W_TAG; i++) {
		__u64 m = LE64(w[i]);
		v3 ^= m;
		SIP_ROUND;
		SIP_ROUND;
		v0 ^= m;
	}
	__u64 b = (__u64)(8 * W_TAG) << 56;
	v3 ^= b;
	SIP_ROUND;
	SIP_ROUND;
	v0 ^= b;
	v2 ^= 0xff;
	SIP_ROUND;
	SIP_ROUND;
	SIP_ROUND;
	SIP_ROUND;
	return LE64(v0 ^ v1 ^ v2 ^ v3);
}

// Where a renewal stands in a frame, and whose it is.
struct place {
	int addresses, address_bytes; // in the IP header
	int udp;
	__be32 from[4];
};

// find looks for a UDP datagram of the size of a renewal to the port. 0: it is none.
static __always_inline int find(struct __sk_buff *skb, struct place *at) {
	__u8 ip[IP6_BYTES];
	__be16 u[4]; // from, to, length, checksum
	if (skb->pkt_type != PACKET_HOST || bpf_skb_load_bytes(skb, ETH_BYTES, ip, IP4_BYTES))
		return 0;
	if (skb->protocol == bpf_htons(ETH_IP4)) {
		if (ip[0] != 0x45 || ip[9] != PROTO_UDP || ((ip[6] << 8 | ip[7]) & IP_FRAGMENT))
			return 0;
		at->addresses = ETH_BYTES + 12;
		at->address_bytes = 4;
		at->udp = ETH_BYTES + IP4_BYTES;
		at->from[0] = at->from[1] = 0;
		at->from[2] = bpf_htonl(0xffff);
		__builtin_memcpy(&at->from[3], &ip[12], 4);
	} else if (skb->protocol == bpf_htons(ETH_IP6)) {
		if (bpf_skb_load_bytes(skb, ETH_BYTES, ip, IP6_BYTES) || ip[0] >> 4 != 6 || ip[6] != PROTO_UDP)
			return 0;
		at->addresses = ETH_BYTES + 8;
		at->address_bytes = 16;
		at->udp = ETH_BYTES + IP6_BYTES;
		__builtin_memcpy(at->from, &ip[8], 16);
	} else {
		return 0;
	}
	if (bpf_skb_load_bytes(skb, at->udp, u, UDP_BYTES))
		return 0;
	return u[1] == bpf_htons(port) && u[2] == bpf_htons(UDP_BYTES + FRAME_BYTES);
}

// turn_round makes the frame one from here to where it came from. The sums over addresses and ports stay.
static __always_inline int turn_round(struct __sk_buff *skb, const struct place *at) {
	__u8 mac[12], back[12], ip[32], ip_back[32];
	__be16 ports[2], ports_back[2];
	if (bpf_skb_load_bytes(skb, 0, mac, 12) || bpf_skb_load_bytes(skb, at->udp, ports, 4))
		return -1;
	__builtin_memcpy(back, mac + 6, 6);
	__builtin_memcpy(back + 6, mac, 6);
	ports_back[0] = ports[1];
	ports_back[1] = ports[0];
	if (bpf_skb_store_bytes(skb, 0, back, 12, 0) || bpf_skb_store_bytes(skb, at->udp, ports_back, 4, 0))
		return -1;
	if (at->address_bytes == 4) {
		if (bpf_skb_load_bytes(skb, at->addresses, ip, 8))
			return -1;
		__builtin_memcpy(ip_back, ip + 4, 4);
		__builtin_memcpy(ip_back + 4, ip, 4);
		return bpf_skb_store_bytes(skb, at->addresses, ip_back, 8, 0);
	}
	if (bpf_skb_load_bytes(skb, at->addresses, ip, 32))
		return -1;
	__builtin_memcpy(ip_back, ip + 16, 16);
	__builtin_memcpy(ip_back + 16, ip, 16);
	return bpf_skb_store_bytes(skb, at->addresses, ip_back, 32, 0);
}

static __always_inline int same_address(const __be32 *a, const __be32 *b) {
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3];
}

// promise acknowledges a renewal if its delegation lets it. The clock was read after the frame has come, and
// before the page is: a promise that begins before the voters were suspended is one that was made before that.
static __always_inline int promise(struct delegation *d, const volatile __u64 *suspended, const __u64 *w) {
	__s64 now = bpf_ktime_get_boot_ns();
	__u64 round = bpf_be64_to_cpu(w[W_ROUND]);
	__s64 sent = bpf_be64_to_cpu(w[W_SENT]);
	int ok = 0;
	bpf_spin_lock(&d->lock);
	if (d->granted && d->suspended == *suspended && w[W_SESSION] == d->session && w[W_CONFIG] == d->config &&
	    w[W_LENGTH] == d->length && w[W_BOOT] == d->boot && round > d->round && sent > d->sent) {
		d->round = round;
		d->sent = sent;
		d->heard = now;
		if (now + (__s64)d->promise > d->until)
			d->until = now + (__s64)d->promise;
		d->acked++;
		ok = 1;
	}
	bpf_spin_unlock(&d->lock);
	return ok;
}

// answer acknowledges a renewal, or leaves it to the process.
static __always_inline int answer(struct __sk_buff *skb, const struct place *at, const __u64 *was) {
	__u64 w[WORDS];
	struct delegation *d = bpf_map_lookup_elem(&delegations, &was[W_CHANNEL]);
	__u32 zero = 0;
	struct page *p = bpf_map_lookup_elem(&page, &zero);
	if (!d || !p || was[W_INVITE] != d->invite || !same_address(at->from, d->peer))
		return PASS;
	__u64 key_out[2] = { d->key_out[0], d->key_out[1] };
	if (tag(was, d->key_in) != was[W_TAG])
		return PASS;
	if (!promise(d, &p->word[PAGE_SUSPENDED], was))
		return PASS;
	// From here on a failure is a lost answer: the promise stands, and the holder asks again.
	__builtin_memcpy(w, was, sizeof(w));
	w[W_HEAD] = bpf_cpu_to_be64(HEAD | ANSWER | bpf_be64_to_cpu(was[W_TO_KEY]) >> 32);
	w[W_TO_KEY] = bpf_cpu_to_be64(bpf_be64_to_cpu(was[W_HEAD]) << 32);
	w[W_FROM] = was[W_TO];
	w[W_TO] = was[W_FROM];
	w[W_KIND] = bpf_cpu_to_be64(ACK);
	w[W_TAG] = tag(w, key_out);
	__s64 changed = bpf_csum_diff((__be32 *)was, FRAME_BYTES, (__be32 *)w, FRAME_BYTES, 0);
	if (bpf_skb_store_bytes(skb, at->udp + UDP_BYTES, w, FRAME_BYTES, 0) ||
	    bpf_l4_csum_replace(skb, at->udp + 6, 0, changed, BPF_F_MARK_MANGLED_0) || turn_round(skb, at))
		return 2; // TCX_DROP: half an answer
	return bpf_redirect(skb->ifindex, 0);
}

// move moves the deadline on, from one that has not passed to a later one. The process does the same, and makes it 0
// where it has found it passed: so both take it over from the value that they have seen, or not at all.
static __always_inline int move(volatile __u64 *deadline, volatile __u64 *shown, __s64 now, __s64 reached) {
	__s64 was = *deadline;
	if (now >= was || reached <= was || __sync_val_compare_and_swap(deadline, was, reached) != was)
		return 0;
	was = *shown; // for the agent, which is told of nothing else
	if (was && was < reached)
		__sync_val_compare_and_swap(shown, was, reached);
	return 1;
}

// count counts an acknowledgement of one of this node's renewals. The clock is read after the frame has come, and before the
// deadline is looked at: who has found that passed since has made it 0.
static __always_inline void count(const struct place *at, const __u64 *w) {
	__u32 zero = 0, granted, voters, by;
	struct counting *c = bpf_map_lookup_elem(&counting, &zero);
	struct page *p = bpf_map_lookup_elem(&page, &zero);
	struct rounds *r = bpf_map_lookup_elem(&rounds, &zero);
	__u64 *deadline = bpf_map_lookup_elem(&deadlines, &zero);
	__u64 grant;
	if (!c || !p || !r || !deadline)
		return;
	bpf_spin_lock(&c->lock);
	granted = c->granted;
	grant = c->grant;
	voters = c->voters;
	bpf_spin_unlock(&c->lock);
	if (!granted)
		return;
	for (by = 0; by < VOTERS; by++)
		if (by < voters && c->voter[by].channel == w[W_CHANNEL])
			break;
	if (by >= VOTERS)
		return;
	const struct voter *v = &c->voter[by];
	__u64 key[2] = { v->key[0], v->key[1] };
	if (w[W_INVITE] != v->invite || !same_address(at->from, v->peer) || tag(w, key) != w[W_TAG])
		return;
	__s64 now = bpf_ktime_get_boot_ns();
	__u64 round = bpf_be64_to_cpu(w[W_ROUND]);
	__s64 sent = bpf_be64_to_cpu(w[W_SENT]), length = bpf_be64_to_cpu(w[W_LENGTH]);
	__u32 slot = round % ROUNDS;
	const volatile struct begun *b = &r->at[slot];
	if (!round || b->round != round || b->sent != sent || b->length != length)
		return;
	__u32 votes = b->own == round;
	bpf_spin_lock(&c->lock);
	if (c->grant == grant && w[W_SESSION] == c->session && w[W_CONFIG] == c->config) {
		if (c->round[slot] != round) {
			c->round[slot] = round;
			c->acked[slot] = 0;
		}
		c->acked[slot] |= 1U << by;
		__u32 acked = c->acked[slot];
#pragma unroll
		for (int i = 0; i < VOTERS; i++)
			votes += acked >> i & 1;
		if (votes >= c->majority && move(deadline, &p->word[PAGE_DEADLINE], now, sent + length))
			c->moved++;
	}
	bpf_spin_unlock(&c->lock);
}

SEC("tcx/ingress")
int accept(struct __sk_buff *skb) {
	struct place at;
	__u64 w[WORDS];
	if (!find(skb, &at) || bpf_skb_load_bytes(skb, at.udp + UDP_BYTES, w, FRAME_BYTES))
		return PASS;
	if (w[W_TO_KEY] & bpf_cpu_to_be64(0xffffffffULL))
		return PASS;
	__u64 head = w[W_HEAD] & bpf_cpu_to_be64(HEAD_MASK);
	if (head == bpf_cpu_to_be64(HEAD) && w[W_KIND] == bpf_cpu_to_be64(RENEWAL))
		return answer(skb, &at, w);
	if (counts && head == bpf_cpu_to_be64(HEAD | ANSWER) && w[W_KIND] == bpf_cpu_to_be64(ACK))
		count(&at, w);
	return PASS;
}

// recall ends a delegation: after it nothing is promised by it. The loader runs it with BPF_PROG_RUN; the channel
// stands behind an Ethernet header. It returns 1 if there was one.
SEC("tc")
int recall(struct __sk_buff *skb) {
	__u64 channel;
	if (bpf_skb_load_bytes(skb, ETH_BYTES, &channel, sizeof(channel)))
		return 0;
	struct delegation *d = bpf_map_lookup_elem(&delegations, &channel);
	if (!d)
		return 0;
	bpf_spin_lock(&d->lock);
	d->granted = 0;
	bpf_spin_unlock(&d->lock);
	return 1;
}

char _license[] SEC("license") = "Dual MIT/GPL";
