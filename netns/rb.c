/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "netns/rb.h"

#include <arpa/inet.h>
#include <libnftnl/chain.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/udata.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tuple_common.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "base/mem.h"

#define R(n) (NFT_REG32_00 + (n))

void rb_chain(struct rb *rb, const char *name, const char *type, unsigned hook, int prio)
{
	struct nftnl_chain *c = nftnl_chain_alloc();
	struct nlmsghdr *m = nft_cmd(rb->b, NFT_MSG_NEWCHAIN, nft_family(rb->t), NLM_F_CREATE);

	if (!c || !m) {
		rb->b->oom = true;
		nftnl_chain_free(c);
		return;
	}
	nftnl_chain_set_str(c, NFTNL_CHAIN_TABLE, rb->h->tag);
	nftnl_chain_set_str(c, NFTNL_CHAIN_NAME, name);
	if (type) {
		nftnl_chain_set_str(c, NFTNL_CHAIN_TYPE, type);
		nftnl_chain_set_u32(c, NFTNL_CHAIN_HOOKNUM, hook);
		nftnl_chain_set_s32(c, NFTNL_CHAIN_PRIO, prio);
		nftnl_chain_set_u32(c, NFTNL_CHAIN_POLICY, NF_ACCEPT);
	}
	nftnl_chain_nlmsg_build_payload(m, c);
	nft_cmd_end(rb->b, m);
	nftnl_chain_free(c);
}

void rb_rule(struct rb *rb, const char *chain)
{
	rb->r = nftnl_rule_alloc();
	if (!rb->r) {
		rb->b->oom = true;
		return;
	}
	nftnl_rule_set_str(rb->r, NFTNL_RULE_TABLE, rb->h->tag);
	nftnl_rule_set_str(rb->r, NFTNL_RULE_CHAIN, chain);
}

void rb_end(struct rb *rb, const char *comment)
{
	struct nlmsghdr *m =
		nft_cmd(rb->b, NFT_MSG_NEWRULE, nft_family(rb->t), NLM_F_CREATE | NLM_F_APPEND);
	struct nftnl_udata_buf *u = comment ? nftnl_udata_buf_alloc(NFT_USERDATA_MAXLEN) : NULL;

	rb->n++;
	if (rb->r && m) {
		if (u && nftnl_udata_put_strz(u, NFTNL_UDATA_RULE_COMMENT, comment))
			nftnl_rule_set_data(rb->r, NFTNL_RULE_USERDATA, nftnl_udata_buf_data(u),
					    nftnl_udata_buf_len(u));
		nftnl_rule_nlmsg_build_payload(m, rb->r);
		nft_cmd_end(rb->b, m);
	} else {
		rb->b->oom = true;
	}
	if (u)
		nftnl_udata_buf_free(u);
	if (rb->r)
		nftnl_rule_free(rb->r);
	rb->r = NULL;
}

/* The rule owns it. NULL when out of memory, which the batch remembers. */
static struct nftnl_expr *expr(struct rb *rb, const char *name)
{
	struct nftnl_expr *e = rb->r ? nftnl_expr_alloc(name) : NULL;

	if (e)
		nftnl_rule_add_expr(rb->r, e);
	else
		rb->b->oom = true;
	return e;
}

static void set32(struct nftnl_expr *e, uint16_t what, uint32_t v)
{
	if (e)
		nftnl_expr_set_u32(e, what, v);
}

static void set_str(struct nftnl_expr *e, uint16_t what, const char *s)
{
	if (e)
		nftnl_expr_set_str(e, what, s);
}

static void set_data(struct nftnl_expr *e, uint16_t what, const void *p, size_t len)
{
	if (e)
		nftnl_expr_set(e, what, p, (uint32_t)len);
}

void rb_meta(struct rb *rb, enum nft_meta_keys key, unsigned reg)
{
	struct nftnl_expr *e = expr(rb, "meta");

	set32(e, NFTNL_EXPR_META_KEY, key);
	set32(e, NFTNL_EXPR_META_DREG, R(reg));
}

void rb_payload(struct rb *rb, enum nft_payload_bases base, unsigned off, unsigned len,
		unsigned reg)
{
	struct nftnl_expr *e = expr(rb, "payload");

	set32(e, NFTNL_EXPR_PAYLOAD_BASE, base);
	set32(e, NFTNL_EXPR_PAYLOAD_OFFSET, off);
	set32(e, NFTNL_EXPR_PAYLOAD_LEN, len);
	set32(e, NFTNL_EXPR_PAYLOAD_DREG, R(reg));
}

void rb_exthdr(struct rb *rb, uint8_t type, unsigned off, unsigned len, bool present, unsigned reg)
{
	struct nftnl_expr *e = expr(rb, "exthdr");

	if (e)
		nftnl_expr_set_u8(e, NFTNL_EXPR_EXTHDR_TYPE, type);
	set32(e, NFTNL_EXPR_EXTHDR_OFFSET, off);
	set32(e, NFTNL_EXPR_EXTHDR_LEN, len);
	set32(e, NFTNL_EXPR_EXTHDR_OP, NFT_EXTHDR_OP_IPV6);
	if (present)
		set32(e, NFTNL_EXPR_EXTHDR_FLAGS, NFT_EXTHDR_F_PRESENT);
	set32(e, NFTNL_EXPR_EXTHDR_DREG, R(reg));
}

void rb_mask(struct rb *rb, unsigned reg, const void *mask, size_t len)
{
	static const uint8_t zero[16];
	struct nftnl_expr *e = expr(rb, "bitwise");

	set32(e, NFTNL_EXPR_BITWISE_SREG, R(reg));
	set32(e, NFTNL_EXPR_BITWISE_DREG, R(reg));
	set32(e, NFTNL_EXPR_BITWISE_LEN, (uint32_t)len);
	set_data(e, NFTNL_EXPR_BITWISE_MASK, mask, len);
	set_data(e, NFTNL_EXPR_BITWISE_XOR, zero, len);
}

void rb_cmp(struct rb *rb, enum nft_cmp_ops op, unsigned reg, const void *data, size_t len)
{
	struct nftnl_expr *e = expr(rb, "cmp");

	set32(e, NFTNL_EXPR_CMP_SREG, R(reg));
	set32(e, NFTNL_EXPR_CMP_OP, op);
	set_data(e, NFTNL_EXPR_CMP_DATA, data, len);
}

void rb_eq8(struct rb *rb, unsigned reg, uint8_t v)
{
	rb_cmp(rb, NFT_CMP_EQ, reg, &v, 1);
}

void rb_ne8(struct rb *rb, unsigned reg, uint8_t v)
{
	rb_cmp(rb, NFT_CMP_NEQ, reg, &v, 1);
}

void rb_eq16(struct rb *rb, unsigned reg, uint16_t v)
{
	v = htons(v);
	rb_cmp(rb, NFT_CMP_EQ, reg, &v, 2);
}

void rb_eq32(struct rb *rb, unsigned reg, uint32_t v)
{
	rb_cmp(rb, NFT_CMP_EQ, reg, &v, 4);
}

static struct nftnl_expr *lookup(struct rb *rb, enum nft_set s)
{
	struct nftnl_expr *e = expr(rb, "lookup");

	set32(e, NFTNL_EXPR_LOOKUP_SREG, R(0));
	set_str(e, NFTNL_EXPR_LOOKUP_SET, nft_sets[s].name);
	set32(e, NFTNL_EXPR_LOOKUP_SET_ID, (uint32_t)s + 1);
	return e;
}

void rb_in(struct rb *rb, enum nft_set s)
{
	lookup(rb, s);
}

void rb_not_in(struct rb *rb, enum nft_set s)
{
	set32(lookup(rb, s), NFTNL_EXPR_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
}

void rb_map(struct rb *rb, enum nft_set s, unsigned dreg)
{
	set32(lookup(rb, s), NFTNL_EXPR_LOOKUP_DREG, R(dreg));
}

void rb_hash(struct rb *rb, unsigned sreg, size_t len, uint32_t mod, uint32_t offset, unsigned reg)
{
	struct nftnl_expr *e = expr(rb, "hash");

	set32(e, NFTNL_EXPR_HASH_SREG, R(sreg));
	set32(e, NFTNL_EXPR_HASH_DREG, R(reg));
	set32(e, NFTNL_EXPR_HASH_LEN, (uint32_t)len);
	set32(e, NFTNL_EXPR_HASH_MODULUS, mod);
	set32(e, NFTNL_EXPR_HASH_OFFSET, offset);
	set32(e, NFTNL_EXPR_HASH_TYPE, NFT_HASH_JENKINS); /* the kernel picks a seed */
}

void rb_ct_port(struct rb *rb, bool dst, unsigned reg)
{
	struct nftnl_expr *e = expr(rb, "ct");

	set32(e, NFTNL_EXPR_CT_KEY, dst ? NFT_CT_PROTO_DST : NFT_CT_PROTO_SRC);
	if (e)
		nftnl_expr_set_u8(e, NFTNL_EXPR_CT_DIR, IP_CT_DIR_ORIGINAL);
	set32(e, NFTNL_EXPR_CT_DREG, R(reg));
}

void rb_count_over(struct rb *rb, enum nft_set s, uint32_t max)
{
	struct nftnl_expr *e = expr(rb, "dynset"), *c = nftnl_expr_alloc("connlimit");

	if (!e || !c) {
		rb->b->oom = true;
		nftnl_expr_free(c);
		return;
	}
	nftnl_expr_set_u32(c, NFTNL_EXPR_CONNLIMIT_COUNT, max);
	nftnl_expr_set_u32(c, NFTNL_EXPR_CONNLIMIT_FLAGS, NFT_CONNLIMIT_F_INV);
	set32(e, NFTNL_EXPR_DYNSET_SREG_KEY, R(0));
	set32(e, NFTNL_EXPR_DYNSET_OP, NFT_DYNSET_OP_ADD);
	set_str(e, NFTNL_EXPR_DYNSET_SET_NAME, nft_sets[s].name);
	set32(e, NFTNL_EXPR_DYNSET_SET_ID, (uint32_t)s + 1);
	nftnl_expr_add_expr(e, NFTNL_EXPR_DYNSET_EXPR, c);
}

void rb_ct_new(struct rb *rb)
{
	const uint32_t is_new = NF_CT_STATE_BIT(IP_CT_NEW), zero = 0;
	struct nftnl_expr *e = expr(rb, "ct");

	set32(e, NFTNL_EXPR_CT_KEY, NFT_CT_STATE);
	set32(e, NFTNL_EXPR_CT_DREG, R(0));
	rb_mask(rb, 0, &is_new, 4);
	rb_cmp(rb, NFT_CMP_NEQ, 0, &zero, 4);
}

void rb_fib_local(struct rb *rb)
{
	struct nftnl_expr *e = expr(rb, "fib");

	set32(e, NFTNL_EXPR_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
	set32(e, NFTNL_EXPR_FIB_FLAGS, NFTA_FIB_F_DADDR);
	set32(e, NFTNL_EXPR_FIB_DREG, R(0));
	rb_eq32(rb, 0, RTN_LOCAL);
}

void rb_dnat(struct rb *rb, int family, unsigned addr_reg, unsigned port_reg)
{
	struct nftnl_expr *e = expr(rb, "nat");

	set32(e, NFTNL_EXPR_NAT_TYPE, NFT_NAT_DNAT);
	set32(e, NFTNL_EXPR_NAT_FAMILY, (uint32_t)family);
	set32(e, NFTNL_EXPR_NAT_REG_ADDR_MIN, R(addr_reg));
	set32(e, NFTNL_EXPR_NAT_REG_PROTO_MIN, R(port_reg));
}

void rb_masquerade(struct rb *rb)
{
	expr(rb, "masq");
}

void rb_verdict(struct rb *rb, int verdict, const char *chain)
{
	struct nftnl_expr *e = expr(rb, "immediate");

	set32(e, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
	set32(e, NFTNL_EXPR_IMM_VERDICT, (uint32_t)verdict);
	if (chain)
		set_str(e, NFTNL_EXPR_IMM_CHAIN, chain);
}

void rb_drop(struct rb *rb)
{
	expr(rb, "counter");
	rb_verdict(rb, NF_DROP, NULL);
}

void rb_iifname(struct rb *rb, unsigned reg)
{
	rb_meta(rb, NFT_META_IIFNAME, reg);
}

void rb_l4(struct rb *rb, uint8_t proto)
{
	rb_meta(rb, NFT_META_L4PROTO, 0);
	rb_eq8(rb, 0, proto);
}

void rb_nfproto(struct rb *rb, uint8_t proto)
{
	rb_meta(rb, NFT_META_NFPROTO, 0);
	rb_eq8(rb, 0, proto);
}

void rb_key(struct rb *rb, enum nft_set s, enum nft_payload_bases base, unsigned off, unsigned len)
{
	rb_iifname(rb, 0);
	rb_payload(rb, base, off, len, 4);
	rb_in(rb, s);
}

void rb_held(struct rb *rb, const char *from, const char *to)
{
	for (int out = 0; out < 2; out++) {
		rb_rule(rb, out ? to : from);
		rb_meta(rb, out ? NFT_META_OIFNAME : NFT_META_IIFNAME, 0);
		rb_in(rb, SET_HELD);
		rb_drop(rb);
		rb_end(rb, "held");
	}
}

void rb_limits(struct rb *rb, const char *chain)
{
	rb_rule(rb, chain);
	rb_iifname(rb, 0);
	rb_in(rb, SET_PPS);
	rb_drop(rb);
	rb_end(rb, "over its packet rate");

	rb_rule(rb, chain);
	rb_iifname(rb, 0);
	rb_in(rb, SET_RATE);
	rb_drop(rb);
	rb_end(rb, "over its bit rate");
}

void rb_frag6_chain(struct rb *rb)
{
	static const uint8_t offset[2] = {0xff, 0xf8}, zero[2];

	rb_chain(rb, "frag6", NULL, 0, 0);

	rb_rule(rb, "frag6");
	rb_exthdr(rb, IPPROTO_FRAGMENT, 2, 2, false, 0);
	rb_mask(rb, 0, offset, 2);
	rb_cmp(rb, NFT_CMP_NEQ, 0, zero, 2);
	rb_verdict(rb, NF_ACCEPT, NULL);
	rb_end(rb, "not the first: harmless alone");

	rb_rule(rb, "frag6");
	rb_meta(rb, NFT_META_L4PROTO, 0);
	rb_ne8(rb, 0, IPPROTO_ICMPV6);
	rb_payload(rb, NFT_PAYLOAD_TRANSPORT_HEADER, 0, 8, 0);
	rb_verdict(rb, NFT_RETURN, NULL);
	rb_end(rb, "ports can be seen");

	for (uint8_t type = 128; type <= 129; type++) {
		rb_rule(rb, "frag6");
		rb_l4(rb, IPPROTO_ICMPV6);
		rb_payload(rb, NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1, 0);
		rb_eq8(rb, 0, type);
		rb_verdict(rb, NFT_RETURN, NULL);
		rb_end(rb, "large ping");
	}

	rb_rule(rb, "frag6");
	rb_drop(rb);
	rb_end(rb, "fragment hides its header (RFC 7112, RFC 6980)");
}

void rb_ext6_rules(struct rb *rb, const char *chain)
{
	rb_rule(rb, chain);
	rb_exthdr(rb, IPPROTO_ROUTING, 2, 1, false, 0);
	rb_eq8(rb, 0, 0);
	rb_drop(rb);
	rb_end(rb, "source route (RFC 5095)");

	rb_rule(rb, chain);
	rb_exthdr(rb, IPPROTO_FRAGMENT, 0, 1, true, 0);
	rb_eq8(rb, 0, 1);
	rb_verdict(rb, NFT_JUMP, "frag6");
	rb_end(rb, NULL);

	rb_rule(rb, chain);
	rb_l4(rb, IPPROTO_UDP);
	rb_payload(rb, NFT_PAYLOAD_TRANSPORT_HEADER, 0, 2, 0);
	rb_eq16(rb, 0, 547);
	rb_drop(rb);
	rb_end(rb, "DHCPv6 server");
}

void rb_whole6_rules(struct rb *rb, const char *chain)
{
	static const uint8_t zero = 0;

	/* The protocol alone does not tell: it is known too when options claim to reach past the
	 * end. */
	rb_rule(rb, chain);
	rb_meta(rb, NFT_META_L4PROTO, 0);
	rb_cmp(rb, NFT_CMP_GTE, 0, &zero, 1);
	rb_payload(rb, NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1, 0);
	rb_verdict(rb, NF_ACCEPT, NULL);
	rb_end(rb, "header chain is whole");
	rb_rule(rb, chain);
	rb_drop(rb);
	rb_end(rb, "header chain is broken");
}

void rb_sets(struct rb *rb)
{
	for (int s = 0; s < SET_COUNT; s++)
		if (nft_sets[s].tables & (1u << rb->t))
			nft_put_set(rb->h, rb->b, rb->t, (enum nft_set)s);
}
