/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rules for routed guests: the inet and arp tables. */
#include "netns/rb.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter_arp.h>
#include <string.h>

/* Before the kernel puts fragments together (-400): a false fragment must not reach the queue
 * where another tenant's fragments wait. */
#define PRIO_BEFORE_DEFRAG (-450)
#define PRIO_AFTER_TRACK   (-150)
#define PRIO_DNAT	   (-100)
#define PRIO_SNAT	   100

#define LL NFT_PAYLOAD_LL_HEADER
#define NH NFT_PAYLOAD_NETWORK_HEADER
#define TH NFT_PAYLOAD_TRANSPORT_HEADER

static void go(struct rb *rb, const char *chain)
{
	rb_verdict(rb, NFT_GOTO, chain);
	rb_end(rb, NULL);
}

static void drop(struct rb *rb, const char *why)
{
	rb_drop(rb);
	rb_end(rb, why);
}

static void source_chains(struct rb *rb)
{
	rb_held(rb, "pre", "held");
	rb_rule(rb, "pre");
	rb_iifname(rb, 0);
	rb_in(rb, SET_GUESTS);
	rb_verdict(rb, NFT_JUMP, "guest");
	rb_end(rb, NULL);

	rb_rule(rb, "guest");
	rb_key(rb, SET_MACS, LL, 6, 6);
	go(rb, "source");
	rb_rule(rb, "guest");
	drop(rb, "not its MAC address");

	rb_rule(rb, "source");
	rb_nfproto(rb, NFPROTO_IPV4);
	rb_key(rb, SET_SRC4, NH, 12, 4);
	go(rb, "v4");
	rb_rule(rb, "source");
	rb_nfproto(rb, NFPROTO_IPV6);
	rb_key(rb, SET_SRC6, NH, 8, 16);
	go(rb, "v6");
	rb_rule(rb, "source");
	drop(rb, "not its address");
}

/* Drop when the first len bytes of the destination, masked, are these. */
static void drop_dst(struct rb *rb, const char *chain, unsigned off, const void *prefix,
		     const void *mask, size_t len, const char *why)
{
	rb_rule(rb, chain);
	rb_payload(rb, NH, off, (unsigned)len, 0);
	if (mask)
		rb_mask(rb, 0, mask, len);
	rb_cmp(rb, NFT_CMP_EQ, 0, prefix, len);
	drop(rb, why);
}

static void ip4_chain(struct rb *rb)
{
	static const uint8_t ihl = 0x0f, local[2] = {169, 254}, loop = 127, none = 0, multi = 224;

	rb_limits(rb, "v4");

	rb_rule(rb, "v4");
	rb_payload(rb, NH, 0, 1, 0);
	rb_mask(rb, 0, &ihl, 1);
	rb_ne8(rb, 0, 5);
	drop(rb, "IP options");

	drop_dst(rb, "v4", 16, &loop, NULL, 1, "to loopback");
	drop_dst(rb, "v4", 16, &none, NULL, 1, "to this network");
	/* With a default route the host would pass these on: a cloud's metadata service, for one.
	 */
	drop_dst(rb, "v4", 16, local, NULL, 2, "to link-local");
	rb_rule(rb, "v4");
	rb_payload(rb, NH, 16, 1, 0);
	rb_cmp(rb, NFT_CMP_GTE, 0, &multi, 1);
	drop(rb, "to multicast or broadcast");

	rb_rule(rb, "v4");
	rb_l4(rb, IPPROTO_UDP);
	rb_payload(rb, TH, 0, 2, 0);
	rb_eq16(rb, 0, 67);
	drop(rb, "DHCP server");
}

/* Neighbour solicitations for the gateway pass, no other neighbour discovery does: nobody else is
 * on this wire, and all entries on the host are permanent. */
static void nd_rules(struct rb *rb)
{
	struct in6_addr solicited = {.s6_addr = {0xff, 2, [11] = 1, [12] = 0xff}};
	const struct in6_addr *to[2] = {&net_gw6.v6, &solicited};

	memcpy(&solicited.s6_addr[13], &net_gw6.v6.s6_addr[13], 3);
	for (int i = 0; i < 2; i++) {
		rb_rule(rb, "v6");
		rb_payload(rb, NH, 6, 2, 0); /* next header: no extension; hop limit */
		rb_eq16(rb, 0, IPPROTO_ICMPV6 << 8 | 255);
		rb_payload(rb, NH, 24, 16, 0);
		rb_cmp(rb, NFT_CMP_EQ, 0, to[i], 16);
		rb_payload(rb, TH, 0, 2, 0);
		rb_eq16(rb, 0, 135 << 8);
		rb_payload(rb, TH, 8, 16, 0);
		rb_cmp(rb, NFT_CMP_EQ, 0, &net_gw6.v6, 16);
		rb_verdict(rb, NF_ACCEPT, NULL);
		rb_end(rb, "asks for the gateway");
	}
}

static void ip6_chain(struct rb *rb)
{
	static const uint8_t ll[2] = {0xfe, 0x80}, ll_mask[2] = {0xff, 0xc0}, multi = 0xff;
	static const uint8_t first = 133, last = 137;

	rb_limits(rb, "v6");
	nd_rules(rb);
	drop_dst(rb, "v6", 8, ll, ll_mask, 2, "from link-local");
	drop_dst(rb, "v6", 24, ll, ll_mask, 2, "to link-local");
	drop_dst(rb, "v6", 24, &multi, NULL, 1, "to multicast");
	rb_ext6_rules(rb, "v6");

	rb_rule(rb, "v6");
	rb_l4(rb, IPPROTO_ICMPV6);
	rb_payload(rb, TH, 0, 1, 0);
	rb_cmp(rb, NFT_CMP_GTE, 0, &first, 1);
	rb_cmp(rb, NFT_CMP_LTE, 0, &last, 1);
	drop(rb, "router advertisement, redirect, neighbour discovery");

	rb_whole6_rules(rb, "v6");
}

/* Ports come from the tracker: a packet may have no header to read them from, and must count too.
 */
static void track_rule(struct rb *rb, const char *chain, enum nft_meta_keys ifname, unsigned class,
		       bool v4)
{
	unsigned words = v4 ? 2 : 8;

	rb_rule(rb, chain);
	rb_meta(rb, ifname, 0);
	rb_map(rb, SET_CTCAP, 4);
	rb_eq32(rb, 4, class);
	rb_payload(rb, NH, v4 ? 12 : 8, words * 4, 5);
	rb_ct_port(rb, false, 5 + words);
	rb_ct_port(rb, true, 6 + words);
	rb_hash(rb, 5, words * 4 + 8, nft_ct_parts(class), class << 16, 4);
	rb_count_over(rb, SET_CONNS, nft_ct_cap(class) / nft_ct_parts(class));
	drop(rb, "over its tracked connections");
}

/* The default class comes first, and most guests are done there. */
static void caps_chain(struct rb *rb, const char *chain, enum nft_meta_keys ifname, bool v4)
{
	unsigned common = nft_ct_class(rb->h->ct_default);

	track_rule(rb, chain, ifname, common, v4);
	rb_rule(rb, chain);
	rb_meta(rb, ifname, 0);
	rb_map(rb, SET_CTCAP, 4);
	rb_eq32(rb, 4, common);
	rb_verdict(rb, NF_ACCEPT, NULL);
	rb_end(rb, NULL);
	for (unsigned i = 0; i < NFT_CT_CLASSES; i++)
		if (i != common)
			track_rule(rb, chain, ifname, i, v4);
}

static void track_chain(struct rb *rb, const char *base, enum nft_meta_keys ifname,
			const char *caps4, const char *caps6)
{
	for (int v6 = 0; v6 < 2; v6++) {
		rb_rule(rb, base);
		rb_ct_new(rb);
		rb_nfproto(rb, v6 ? NFPROTO_IPV6 : NFPROTO_IPV4);
		rb_meta(rb, ifname, 0);
		rb_in(rb, SET_GUESTS);
		go(rb, v6 ? caps6 : caps4);
		caps_chain(rb, v6 ? caps6 : caps4, ifname, !v6);
	}
}

static void dnat_rule(struct rb *rb, const char *chain, bool v4, bool with_addr)
{
	unsigned at = with_addr ? (v4 ? 1 : 4) : 0;
	enum nft_set s = v4 ? (with_addr ? SET_PUB4A : SET_PUB4) : with_addr ? SET_PUB6A : SET_PUB6;

	rb_rule(rb, chain);
	if (with_addr)
		rb_payload(rb, NH, v4 ? 16 : 24, v4 ? 4 : 16, 0);
	rb_meta(rb, NFT_META_L4PROTO, at);
	rb_payload(rb, TH, 2, 2, at + 1);
	rb_map(rb, s, 8);
	rb_dnat(rb, v4 ? NFPROTO_IPV4 : NFPROTO_IPV6, 8, v4 ? 9 : 12);
	rb_end(rb, NULL);
}

/* The host's own packets to a published port, and everybody else's. 127.0.0.1 and ::1 keep leading
 * to the host's own services: to send such a packet out of a guest's link needs route_localnet,
 * which would put one flushed firewall between a tenant and everything that trusts loopback. */
static void publish_chains(struct rb *rb)
{
	static const uint8_t loop = 127;
	static const struct in6_addr loop6 = IN6ADDR_LOOPBACK_INIT;

	for (int i = 0; i < 2; i++) {
		const char *base = i ? "host_to" : "publish";

		rb_rule(rb, base);
		rb_fib_local(rb);
		rb_nfproto(rb, NFPROTO_IPV4);
		rb_payload(rb, NH, 16, 1, 0);
		rb_ne8(rb, 0, loop);
		go(rb, "publish4");
		rb_rule(rb, base);
		rb_fib_local(rb);
		rb_nfproto(rb, NFPROTO_IPV6);
		rb_payload(rb, NH, 24, 16, 0);
		rb_cmp(rb, NFT_CMP_NEQ, 0, &loop6, 16);
		go(rb, "publish6");
	}
	dnat_rule(rb, "publish4", true, true);
	dnat_rule(rb, "publish4", true, false);
	dnat_rule(rb, "publish6", false, true);
	dnat_rule(rb, "publish6", false, false);
}

static void masquerade_pool(struct rb *rb, const struct net_addr *pool)
{
	bool v4 = pool->family == AF_INET;
	uint8_t mask[16] = {0};
	size_t len = v4 ? 4 : 16;

	if (!pool->family)
		return;
	for (unsigned i = 0; i < pool->len; i++)
		mask[i / 8] |= (uint8_t)(0x80 >> (i % 8));

	uint8_t prefix[16];

	for (size_t i = 0; i < len; i++)
		prefix[i] = net_addr_bytes(pool)[i] & mask[i];
	rb_rule(rb, "leave");
	rb_nfproto(rb, v4 ? NFPROTO_IPV4 : NFPROTO_IPV6);
	rb_payload(rb, NH, v4 ? 12 : 8, (unsigned)len, 0);
	rb_mask(rb, 0, mask, len);
	rb_cmp(rb, NFT_CMP_EQ, 0, prefix, len);
	rb_meta(rb, NFT_META_OIFNAME, 0);
	rb_not_in(rb, SET_GUESTS);
	rb_masquerade(rb);
	rb_end(rb, "pool leaves the host");
}

static void snat_chain(struct rb *rb)
{
	rb_rule(rb, "leave");
	rb_iifname(rb, 0);
	rb_meta(rb, NFT_META_OIFNAME, 4);
	rb_in(rb, SET_SELF);
	rb_masquerade(rb);
	rb_end(rb, "to its own published port");
	if (rb->h->nat) {
		masquerade_pool(rb, &rb->h->pool4);
		masquerade_pool(rb, &rb->h->pool6);
	}
}

void nft_build_inet(struct net_host *h, struct nft_batch *b, unsigned *ret_rules)
{
	struct rb rb = {.h = h, .b = b, .t = NFT_T_INET};
	static const char *const plain[] = {"guest",	 "source",   "v4",	  "v6",
					    "publish4",	 "publish6", "caps4_out", "caps4_in",
					    "caps6_out", "caps6_in"};

	rb_sets(&rb);
	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
		rb_chain(&rb, plain[i], NULL, 0, 0);
	rb_frag6_chain(&rb);
	rb_chain(&rb, "pre", "filter", NF_INET_PRE_ROUTING, PRIO_BEFORE_DEFRAG);
	rb_chain(&rb, "held", "filter", NF_INET_POST_ROUTING, PRIO_AFTER_TRACK);
	rb_chain(&rb, "track_out", "filter", NF_INET_PRE_ROUTING, PRIO_AFTER_TRACK);
	rb_chain(&rb, "track_in", "filter", NF_INET_FORWARD, PRIO_AFTER_TRACK);
	rb_chain(&rb, "publish", "nat", NF_INET_PRE_ROUTING, PRIO_DNAT);
	rb_chain(&rb, "host_to", "nat", NF_INET_LOCAL_OUT, PRIO_DNAT);
	rb_chain(&rb, "leave", "nat", NF_INET_POST_ROUTING, PRIO_SNAT);
	ip4_chain(&rb);
	ip6_chain(&rb);
	source_chains(&rb);
	/* Both directions count for the guest: what it opens, and what is opened to it. */
	track_chain(&rb, "track_out", NFT_META_IIFNAME, "caps4_out", "caps6_out");
	track_chain(&rb, "track_in", NFT_META_OIFNAME, "caps4_in", "caps6_in");
	publish_chains(&rb);
	snat_chain(&rb);
	*ret_rules = rb.n;
}

void nft_build_arp(struct net_host *h, struct nft_batch *b, unsigned *ret_rules)
{
	/* Ethernet, IPv4, request */
	static const uint8_t request[8] = {0, 1, 8, 0, 6, 4, 0, 1};
	struct rb rb = {.h = h, .b = b, .t = NFT_T_ARP};

	rb_sets(&rb);
	rb_chain(&rb, "guest", NULL, 0, 0);
	rb_chain(&rb, "in", "filter", NF_ARP_IN, 0);

	rb_rule(&rb, "in");
	rb_iifname(&rb, 0);
	rb_in(&rb, SET_GUESTS);
	go(&rb, "guest");

	rb_rule(&rb, "guest");
	rb_payload(&rb, NH, 0, 8, 0);
	rb_cmp(&rb, NFT_CMP_EQ, 0, request, 8);
	rb_payload(&rb, NH, 24, 4, 0);
	rb_cmp(&rb, NFT_CMP_EQ, 0, &net_gw4.v4, 4);
	rb_iifname(&rb, 0);
	rb_payload(&rb, LL, 6, 6, 4);
	rb_payload(&rb, NH, 8, 6, 6);
	rb_payload(&rb, NH, 14, 4, 8);
	rb_in(&rb, SET_ARP4);
	rb_verdict(&rb, NF_ACCEPT, NULL);
	rb_end(&rb, "asks for the gateway");
	rb_rule(&rb, "guest");
	drop(&rb, "not its ARP");
	*ret_rules = rb.n;
}
