/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whole tables: are they there and ours of today; making and rebuilding them; one guest's part. */
#include "netns/nft_io.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define TRIES 100

static void build(struct net_host *h, struct nft_batch *b, enum nft_table t, unsigned *ret_rules)
{
	if (t == NFT_T_INET)
		nft_build_inet(h, b, ret_rules);
	else if (t == NFT_T_ARP)
		nft_build_arp(h, b, ret_rules);
	else
		nft_build_bridge(h, b, ret_rules);
}

/* What the table's user data must say: a hash over everything in it that is not a guest's. So a new
 * version of vps, or other pools in vps.conf, make a new table. */
static int expect(struct net_host *h, enum nft_table t)
{
	auto_done(nft_batch_done) struct nft_batch b = {0};

	if (h->sig[t])
		return 0;
	nft_batch_begin(&b, 0);
	build(h, &b, t, &h->rules[t]);
	if (b.oom)
		return -ENOMEM;
	h->sig[t] = b.hash;
	return 0;
}

#define SIG_LEN (2 + sizeof(uint64_t))

static void signature(const struct net_host *h, enum nft_table t, uint8_t sig[SIG_LEN])
{
	sig[0] = 0x76;
	sig[1] = sizeof(uint64_t);
	memcpy(sig + 2, &h->sig[t], sizeof(uint64_t));
}

struct table_info {
	uint8_t sig[SIG_LEN];
	unsigned rules, want_flags;
};

static int read_table(const struct nlmsghdr *m, void *arg)
{
	struct table_info *i = arg;
	const struct nlattr *u = nl_find(m, sizeof(struct nfgenmsg), NFTA_TABLE_USERDATA);

	if (nl_len(u) == SIG_LEN)
		memcpy(i->sig, nl_data(u), SIG_LEN);
	i->want_flags = ntohl(nl_u32(nl_find(m, sizeof(struct nfgenmsg), NFTA_TABLE_FLAGS), 0));
	return 0;
}

static int count_rule(const struct nlmsghdr *m, void *arg)
{
	struct table_info *i = arg;

	if ((m->nlmsg_type & 0xff) == NFT_MSG_NEWRULE)
		i->rules++;
	return 0;
}

int nft_table_state(struct net_host *h, enum nft_table t, enum nft_state *ret)
{
	struct table_info i = {0};
	struct nlmsghdr *m;
	uint8_t sig[SIG_LEN];
	int r = expect(h, t);

	if (r < 0)
		return r;
	m = nft_query(h, NFT_MSG_GETTABLE, nft_family(t), 0);
	nl_put_str(m, NFTA_TABLE_NAME, h->tag);
	r = nl_talk(&h->nft, m, read_table, &i);
	if (r == -ENOENT) {
		*ret = NFT_MISSING;
		return 0;
	}
	for (int tries = 0; r == 0; tries++) {
		i.rules = 0;
		m = nft_query(h, NFT_MSG_GETRULE, nft_family(t), NLM_F_DUMP);
		nl_put_str(m, NFTA_RULE_TABLE, h->tag);
		r = nl_talk(&h->nft, m, count_rule, &i);
		if (r == -EINTR && tries < TRIES)
			r = 0;
		else
			break;
	}
	if (r < 0)
		return r;
	signature(h, t, sig);
	*ret = memcmp(sig, i.sig, SIG_LEN) == 0 && i.rules == h->rules[t] && i.want_flags == 0
		       ? NFT_GOOD
		       : NFT_OTHER;
	return 0;
}

static int put_guest(struct net_host *h, struct nft_batch *b, const struct nft_guest *g)
{
	auto_done(nft_elems_done) struct nft_elems l = {0};
	int r = nft_elems_of(h, g->id, &g->plan, &l);

	if (r == 0)
		nft_add_elems(h, b, l.e, l.n);
	return r;
}

int nft_rebuild(struct net_host *h, bool bridge, const struct nft_guests *l, uint32_t gen,
		struct vps_err *err)
{
	auto_done(nft_batch_done) struct nft_batch b = {0};
	enum nft_table first = bridge ? NFT_T_BRIDGE : NFT_T_INET;
	enum nft_table last = bridge ? NFT_T_BRIDGE : NFT_T_ARP;
	int r = 0;

	nft_batch_begin(&b, gen);
	for (enum nft_table t = first; t <= last && r == 0; t++) {
		uint8_t sig[SIG_LEN];
		unsigned rules;

		r = expect(h, t);
		signature(h, t, sig);
		nft_put_table(h, &b, t, NULL, 0); /* so that there is one to delete */
		nft_del_table(h, &b, t);
		nft_put_table(h, &b, t, sig, sizeof(sig));
		build(h, &b, t, &rules);
	}
	for (size_t i = 0; l && i < l->n && r == 0; i++)
		r = put_guest(h, &b, &l->g[i]);
	if (r < 0)
		return vps_err_sys(err, r, "build the firewall");
	return nft_commit(h, &b, err);
}

/* 1: done, 0: try again. */
static int ensure_once(struct net_host *h, bool bridge, struct vps_err *err)
{
	auto_done(nft_guests_done) struct nft_guests l = {0};
	enum nft_state s = NFT_GOOD, s2 = NFT_GOOD;
	uint32_t gen;
	int r = nft_generation(h, &gen);

	if (r == 0)
		r = nft_table_state(h, bridge ? NFT_T_BRIDGE : NFT_T_INET, &s);
	if (r == 0 && !bridge)
		r = nft_table_state(h, NFT_T_ARP, &s2);
	if (r < 0)
		return nl_fail(&h->nft, err, r, "ask the kernel for the firewall table '%s'",
			       h->tag);
	if (s == NFT_GOOD && s2 == NFT_GOOD)
		return 1;
	r = nft_records(h, bridge ? NFT_T_BRIDGE : NFT_T_INET, &l);
	if (r < 0 && r != -ENOENT)
		return nl_fail(&h->nft, err, r, "read the firewall's records");

	struct vps_err e = {0};

	/* The generation makes sure that nobody attached a guest between our reading and writing.
	 */
	r = nft_rebuild(h, bridge, &l, gen, &e);
	if (r == -ERESTART || r == -EINTR)
		return 0;
	if (r < 0 && err && !err->code)
		*err = e;
	return r < 0 ? r : 1;
}

int nft_ensure(struct net_host *h, enum net_mode mode, struct vps_err *err)
{
	if (mode != NET_ROUTED && mode != NET_BRIDGE)
		return 0;
	for (int i = 0; i < TRIES; i++) {
		int r = ensure_once(h, mode == NET_BRIDGE, err);

		if (r != 0)
			return r < 0 ? r : 0;
	}
	return vps_err_set(err, EAGAIN, "the firewall is changed by others all the time");
}

/* What is in a but not in b. Lists are short: a guest's own. */
static int minus(const struct nft_elems *a, const struct nft_elems *b, struct nft_elems *ret)
{
	for (size_t i = 0; i < a->n; i++) {
		bool there = false;

		for (size_t k = 0; k < b->n && !there; k++)
			there = nft_elem_same(&a->e[i], &b->e[k]);
		if (there)
			continue;
		if (mem_grow(ret->e, ret->n, ret->cap) < 0)
			return -ENOMEM;
		ret->e[ret->n++] = a->e[i];
	}
	return 0;
}

/* 1: done, 0: the tables changed under us. */
static int guest_set_once(struct net_host *h, unsigned id, const struct net_plan *plan,
			  struct vps_err *err)
{
	auto_done(net_plan_done) struct net_plan old_plan = {0};
	auto_done(nft_elems_done) struct nft_elems old = {0}, new = {0}, gone = {0}, fresh = {0};
	auto_done(nft_batch_done) struct nft_batch b = {0};
	int r = nft_record(h, id, &old_plan);

	if (r < 0)
		return nl_fail(&h->nft, err, r, "read the firewall's record");
	if (r == 1)
		r = nft_elems_of(h, id, &old_plan, &old);
	if (r >= 0 && plan)
		r = nft_elems_of(h, id, plan, &new);
	if (r >= 0)
		r = minus(&old, &new, &gone);
	if (r >= 0)
		r = minus(&new, &old, &fresh);
	if (r < 0)
		return vps_err_sys(err, r, "firewall elements");
	nft_batch_begin(&b, 0);
	nft_del_elems(h, &b, gone.e, gone.n);
	nft_add_elems(h, &b, fresh.e, fresh.n);

	struct vps_err e = {0};

	r = nft_commit(h, &b, &e);
	/* ENOENT: an element (or the table) went away between reading and writing. */
	if (r == -ENOENT || r == -ERESTART)
		return 0;
	if ((r == -EEXIST || r == -EBUSY) && plan)
		return vps_err_set(err, VPS_EEXISTS,
				   "an address or published port of %s%u is in use by another",
				   h->tag, id);
	if (r < 0 && err && !err->code)
		*err = e;
	return r < 0 ? r : 1;
}

int nft_guest_set(struct net_host *h, unsigned id, const struct net_plan *plan, struct vps_err *err)
{
	int r = 0;

	for (int i = 0; i < 3 && r == 0; i++)
		r = guest_set_once(h, id, plan, err);
	if (r == 0)
		return vps_err_set(err, ENOENT, "the firewall table '%s' is not whole", h->tag);
	return r < 0 ? r : 0;
}

struct drops {
	void (*fn)(void *arg, int family, const char *table, const char *chain);
	void *arg;
	const char *tag;
};

static int read_chain(const struct nlmsghdr *m, void *arg)
{
	const size_t hdr = sizeof(struct nfgenmsg);
	struct drops *d = arg;
	const struct nlattr *hook = nl_find(m, hdr, NFTA_CHAIN_HOOK);
	char table[64], chain[64];
	uint8_t family;

	if ((m->nlmsg_type & 0xff) != NFT_MSG_NEWCHAIN || !hook)
		return 0;
	family = ((const struct nfgenmsg *)(m + 1))->nfgen_family;
	nl_str(nl_find(m, hdr, NFTA_CHAIN_TABLE), table, sizeof(table));
	nl_str(nl_find(m, hdr, NFTA_CHAIN_NAME), chain, sizeof(chain));
	if (ntohl(nl_u32(nl_find_in(hook, NFTA_HOOK_HOOKNUM), 0)) != NF_INET_FORWARD ||
	    ntohl(nl_u32(nl_find(m, hdr, NFTA_CHAIN_POLICY), htonl(NF_ACCEPT))) != NF_DROP ||
	    (family != NFPROTO_INET && family != NFPROTO_IPV4 && family != NFPROTO_IPV6) ||
	    strcmp(table, d->tag) == 0)
		return 0;
	d->fn(d->arg, family, table, chain);
	return 0;
}

int nft_forward_drops(struct net_host *h,
		      void (*fn)(void *arg, int family, const char *table, const char *chain),
		      void *arg)
{
	struct drops d = {fn, arg, h->tag};

	return nl_talk(&h->nft, nft_query(h, NFT_MSG_GETCHAIN, AF_UNSPEC, NLM_F_DUMP), read_chain,
		       &d);
}
