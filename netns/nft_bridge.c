/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rules for guests on a bridge: the bridge table. What a routed guest cannot do to others for want
 * of a shared wire must be forbidden here frame by frame. */
#include "netns/rb.h"

#include <linux/if_ether.h>
#include <linux/netfilter.h>
#include <linux/netfilter_bridge.h>
#include <stddef.h>

#define LL NFT_PAYLOAD_LL_HEADER
#define NH NFT_PAYLOAD_NETWORK_HEADER
#define TH NFT_PAYLOAD_TRANSPORT_HEADER

static void go(struct rb *rb, const char *chain)
{
	rb_verdict(rb, NFT_GOTO, chain);
	rb_end(rb, NULL);
}

static void pass(struct rb *rb, const char *why)
{
	rb_verdict(rb, NF_ACCEPT, NULL);
	rb_end(rb, why);
}

static void drop(struct rb *rb, const char *why)
{
	rb_drop(rb);
	rb_end(rb, why);
}

static void frame_chains(struct rb *rb)
{
	static const struct {
		uint16_t type;
		const char *chain;
	} types[] = {{ETH_P_IP, "v4"}, {ETH_P_IPV6, "v6"}, {ETH_P_ARP, "asks"}};
	static const uint8_t special[6] = {0x01, 0x80, 0xc2},
			     mask[6] = {255, 255, 255, 255, 255, 0xf0};

	rb_held(rb, "pre", "held");
	rb_rule(rb, "pre");
	rb_iifname(rb, 0);
	rb_in(rb, SET_GUESTS);
	rb_verdict(rb, NFT_JUMP, "guest");
	rb_end(rb, NULL);

	/* 01:80:c2:00:00:0X (spanning tree, LLDP, 802.1X) does not come by prerouting. */
	rb_rule(rb, "in");
	rb_payload(rb, LL, 0, 6, 0);
	rb_mask(rb, 0, mask, 6);
	rb_cmp(rb, NFT_CMP_EQ, 0, special, 6);
	rb_iifname(rb, 0);
	rb_in(rb, SET_GUESTS);
	drop(rb, "bridge protocols");

	rb_rule(rb, "guest");
	rb_key(rb, SET_MACS, LL, 6, 6);
	go(rb, "frame");
	rb_rule(rb, "guest");
	drop(rb, "not its MAC address");

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		rb_rule(rb, "frame");
		rb_payload(rb, LL, 12, 2, 0);
		rb_eq16(rb, 0, types[i].type);
		go(rb, types[i].chain);
	}
	rb_rule(rb, "frame");
	drop(rb, "VLAN tag or foreign protocol");
}

/* key: ifname . Ethernet sender . ARP sender MAC . ARP sender address */
static void arp_key(struct rb *rb)
{
	rb_iifname(rb, 0);
	rb_payload(rb, LL, 6, 6, 4);
	rb_payload(rb, NH, 8, 6, 6);
	rb_payload(rb, NH, 14, 4, 8);
	rb_in(rb, SET_ARP4);
}

static void arp_chain(struct rb *rb)
{
	static const uint8_t request[8] = {0, 1, 8, 0, 6, 4, 0, 1},
			     reply[8] = {0, 1, 8, 0, 6, 4, 0, 2};
	static const uint8_t zero[4];

	rb_limits(rb, "asks");

	/* A probe for somebody else's address would look to its owner like a conflict. */
	rb_rule(rb, "asks");
	rb_payload(rb, NH, 14, 4, 0);
	rb_cmp(rb, NFT_CMP_EQ, 0, zero, 4);
	rb_verdict(rb, NFT_GOTO, "probe");
	rb_end(rb, NULL);
	for (int i = 0; i < 2; i++) {
		rb_rule(rb, "asks");
		rb_payload(rb, NH, 0, 8, 0);
		rb_cmp(rb, NFT_CMP_EQ, 0, i ? reply : request, 8);
		arp_key(rb);
		pass(rb, NULL);
	}
	rb_rule(rb, "asks");
	drop(rb, "not its ARP");

	rb_rule(rb, "probe");
	rb_payload(rb, NH, 0, 8, 0);
	rb_cmp(rb, NFT_CMP_EQ, 0, request, 8);
	arp_key(rb);
	rb_key(rb, SET_SRC4, NH, 24, 4);
	pass(rb, "probes for its own address");
	rb_rule(rb, "probe");
	drop(rb, "not its ARP");
}

static void ip4_chain(struct rb *rb)
{
	static const uint8_t ihl = 0x0f, zero[4];

	rb_rule(rb, "v4");
	rb_key(rb, SET_SRC4, NH, 12, 4);
	go(rb, "v4own");
	rb_rule(rb, "v4");
	rb_payload(rb, NH, 12, 4, 0);
	rb_cmp(rb, NFT_CMP_EQ, 0, zero, 4);
	rb_l4(rb, IPPROTO_UDP);
	rb_payload(rb, TH, 0, 4, 0);
	rb_cmp(rb, NFT_CMP_EQ, 0, (const uint8_t[]){0, 68, 0, 67}, 4);
	pass(rb, "DHCP client");
	rb_rule(rb, "v4");
	drop(rb, "not its address");

	rb_limits(rb, "v4own");
	rb_rule(rb, "v4own");
	rb_payload(rb, NH, 0, 1, 0);
	rb_mask(rb, 0, &ihl, 1);
	rb_ne8(rb, 0, 5);
	rb_payload(rb, NH, 9, 1, 0);
	rb_ne8(rb, 0, IPPROTO_IGMP);
	drop(rb, "IP options");
	rb_rule(rb, "v4own");
	rb_l4(rb, IPPROTO_UDP);
	rb_payload(rb, TH, 0, 2, 0);
	rb_eq16(rb, 0, 67);
	drop(rb, "DHCP server");
	rb_rule(rb, "v4own");
	pass(rb, NULL);
}

/* An ICMPv6 message of bare_len bytes, or with one link-layer address option that tells the guest's
 * own MAC. */
static void nd_message(struct rb *rb, const char *chain, uint8_t type, unsigned bare_len,
		       uint8_t option, bool own_target)
{
	for (int with_option = 0; with_option < 2; with_option++) {
		rb_rule(rb, chain);
		rb_payload(rb, TH, 0, 2, 0);
		rb_eq16(rb, 0, (uint16_t)(type << 8));
		rb_payload(rb, NH, 4, 2, 0);
		rb_eq16(rb, 0, (uint16_t)(bare_len + (with_option ? 8 : 0)));
		if (own_target)
			rb_key(rb, SET_SRC6, TH, 8, 16);
		if (with_option) {
			rb_payload(rb, TH, bare_len, 2, 0);
			rb_eq16(rb, 0, (uint16_t)(option << 8 | 1));
			rb_key(rb, SET_MACS, TH, bare_len + 2, 6);
		}
		pass(rb, NULL);
	}
}

static void direct_icmp6(struct rb *rb, const char *chain)
{
	rb_rule(rb, chain);
	rb_payload(rb, NH, 6, 2, 0);
	rb_eq16(rb, 0, IPPROTO_ICMPV6 << 8 | 255);
	go(rb, chain[0] == 'n' ? "nd_msg" : "dad_msg");
	rb_rule(rb, chain);
	drop(rb, "neighbour discovery behind other headers");
}

static void nd_chains(struct rb *rb)
{
	direct_icmp6(rb, "nd");
	nd_message(rb, "nd_msg", 133, 8, 1, false);
	nd_message(rb, "nd_msg", 135, 24, 1, false);
	nd_message(rb, "nd_msg", 136, 24, 2, true);
	rb_rule(rb, "nd_msg");
	drop(rb, "router advertisement, redirect, neighbour discovery");

	/* From "::": only the question whether its own address is taken (with a nonce, RFC 7527),
	 * and multicast reports, which always have a hop-by-hop header in front. */
	rb_rule(rb, "dad");
	rb_payload(rb, NH, 6, 1, 0);
	rb_eq8(rb, 0, 0);
	rb_l4(rb, IPPROTO_ICMPV6);
	rb_payload(rb, TH, 0, 1, 0);
	rb_eq8(rb, 0, 143);
	pass(rb, "multicast listener report");
	direct_icmp6(rb, "dad");
	for (int nonce = 0; nonce < 2; nonce++) {
		rb_rule(rb, "dad_msg");
		rb_payload(rb, TH, 0, 2, 0);
		rb_eq16(rb, 0, 135 << 8);
		rb_payload(rb, NH, 4, 2, 0);
		rb_eq16(rb, 0, nonce ? 32 : 24);
		rb_key(rb, SET_SRC6, TH, 8, 16);
		if (nonce) {
			rb_payload(rb, TH, 24, 2, 0);
			rb_eq16(rb, 0, 14 << 8 | 1);
		}
		pass(rb, NULL);
	}
	rb_rule(rb, "dad_msg");
	drop(rb, "not its address");
}

static void ip6_chain(struct rb *rb)
{
	static const struct in6_addr zero6;
	static const uint8_t first = 133, last = 137;

	rb_rule(rb, "v6");
	rb_key(rb, SET_SRC6, NH, 8, 16);
	go(rb, "v6own");
	rb_rule(rb, "v6");
	rb_payload(rb, NH, 8, 16, 0);
	rb_cmp(rb, NFT_CMP_EQ, 0, &zero6, 16);
	go(rb, "dad");
	rb_rule(rb, "v6");
	drop(rb, "not its address");

	rb_limits(rb, "v6own");
	rb_ext6_rules(rb, "v6own");
	rb_rule(rb, "v6own");
	rb_l4(rb, IPPROTO_ICMPV6);
	rb_payload(rb, TH, 0, 1, 0);
	rb_cmp(rb, NFT_CMP_GTE, 0, &first, 1);
	rb_cmp(rb, NFT_CMP_LTE, 0, &last, 1);
	go(rb, "nd");
	rb_whole6_rules(rb, "v6own");
}

void nft_build_bridge(struct net_host *h, struct nft_batch *b, unsigned *ret_rules)
{
	static const char *const plain[] = {"guest",  "frame", "asks",	  "probe",
					    "v4",     "v4own", "v6",	  "nd",
					    "nd_msg", "dad",   "dad_msg", "v6own"};
	struct rb rb = {.h = h, .b = b, .t = NFT_T_BRIDGE};

	rb_sets(&rb);
	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
		rb_chain(&rb, plain[i], NULL, 0, 0);
	rb_frag6_chain(&rb);
	rb_chain(&rb, "pre", "filter", NF_BR_PRE_ROUTING, -300);
	rb_chain(&rb, "in", "filter", NF_BR_LOCAL_IN, -200);
	rb_chain(&rb, "held", "filter", NF_BR_POST_ROUTING, 0);
	frame_chains(&rb);
	arp_chain(&rb);
	ip4_chain(&rb);
	nd_chains(&rb);
	ip6_chain(&rb);
	*ret_rules = rb.n;
}
