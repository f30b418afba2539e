/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rules by small words, close to what `nft --debug=netlink` prints. Registers are the 32-bit ones,
 * counted from 0; a concatenated key starts at register 0, each part padded to four bytes.
 *
 * How the kernel reads a rule decides how it must be written: an expression that cannot load its
 * value (no such header, packet too short) ends the rule without a match. So "drop what is not in
 * the set" would let pass what cannot be read. Chains here say "go on with what is in the set" and
 * end in drop.
 */
#ifndef VPS_NETNS_RB_H
#define VPS_NETNS_RB_H

#include <linux/netfilter/nf_tables.h>
#include <stdio.h> /* libnftnl's headers want it */

#include "netns/nft.h"

struct nftnl_rule;

struct rb {
	struct net_host *h;
	struct nft_batch *b;
	enum nft_table t;
	struct nftnl_rule *r;
	unsigned n; /* rules so far */
};

/* type NULL: a chain that others jump to. */
void rb_chain(struct rb *rb, const char *name, const char *type, unsigned hook, int prio);
void rb_rule(struct rb *rb, const char *chain);
/* Ends the rule; the words become its comment. */
void rb_end(struct rb *rb, const char *comment);

void rb_meta(struct rb *rb, enum nft_meta_keys key, unsigned reg);
void rb_payload(struct rb *rb, enum nft_payload_bases base, unsigned off, unsigned len,
		unsigned reg);
void rb_exthdr(struct rb *rb, uint8_t type, unsigned off, unsigned len, bool present, unsigned reg);
void rb_mask(struct rb *rb, unsigned reg, const void *mask, size_t len);
void rb_cmp(struct rb *rb, enum nft_cmp_ops op, unsigned reg, const void *data, size_t len);
void rb_eq8(struct rb *rb, unsigned reg, uint8_t v);
void rb_ne8(struct rb *rb, unsigned reg, uint8_t v);
void rb_eq16(struct rb *rb, unsigned reg,
	     uint16_t v); /* v in host order, packet in network order */
void rb_eq32(struct rb *rb, unsigned reg, uint32_t v); /* host order both */
void rb_in(struct rb *rb, enum nft_set s);	       /* key from register 0 on is in the set */
void rb_not_in(struct rb *rb, enum nft_set s);
void rb_map(struct rb *rb, enum nft_set s, unsigned dreg);
/* reg = hash of len bytes from register sreg on, modulo mod, plus offset */
void rb_hash(struct rb *rb, unsigned sreg, size_t len, uint32_t mod, uint32_t offset, unsigned reg);
void rb_ct_port(struct rb *rb, bool dst, unsigned reg); /* of the first packet's direction */
/* Count this connection under the key from register 0 on; matches when there are more than max. */
void rb_count_over(struct rb *rb, enum nft_set s, uint32_t max);
void rb_ct_new(struct rb *rb);
void rb_fib_local(struct rb *rb); /* destination is one of the host's own addresses */
void rb_dnat(struct rb *rb, int family, unsigned addr_reg, unsigned port_reg);
void rb_masquerade(struct rb *rb);
void rb_verdict(struct rb *rb, int verdict, const char *chain);
void rb_drop(struct rb *rb); /* counts, drops */

/* Frequent matches. */
void rb_iifname(struct rb *rb, unsigned reg);
void rb_l4(struct rb *rb, uint8_t proto);
void rb_nfproto(struct rb *rb, uint8_t proto);
/* iifname . <payload> is in the set */
void rb_key(struct rb *rb, enum nft_set s, enum nft_payload_bases base, unsigned off, unsigned len);
/* Whole rules: nothing from (chain from) and nothing to (chain to) a guest that is held. */
void rb_held(struct rb *rb, const char *from, const char *to);
/* Whole rules: packets over the guest's limits are dropped. */
void rb_limits(struct rb *rb, const char *chain);
/* IPv6 fragments whose first one hides the transport header, and fragmented neighbour discovery: a
 * chain. */
void rb_frag6_chain(struct rb *rb);
/* Checks on extension headers and DHCPv6 both tables want in their IPv6 chain. */
void rb_ext6_rules(struct rb *rb, const char *chain);
/* The end of an IPv6 chain: accept when the headers can be followed to the last, else drop. */
void rb_whole6_rules(struct rb *rb, const char *chain);
/* All sets of a table. */
void rb_sets(struct rb *rb);

#endif
