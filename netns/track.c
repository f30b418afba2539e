/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Connection tracking entries of addresses that change hands: with them, answers to the last
 * owner's connections, translated back, would reach the next one.
 */
#include "netns/attach.h"

#include <fcntl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"

/* include/net/netfilter/nf_internals.h, in use by conntrack(8): match only the source address. */
#define FILTER_IP_SRC 1u

/* A tuple attribute, header and all, is far smaller. */
#define TUPLE_MAX 128

struct entry {
	uint8_t family;
	uint8_t orig[TUPLE_MAX];
	uint16_t len;
};

struct found {
	const struct net_addr *a;
	size_t n_a;
	struct entry *e;
	size_t n, cap;
};

static bool tuple_from(const struct nlattr *tuple, const struct net_addr *a)
{
	const struct nlattr *src = nl_find_in(nl_find_in(tuple, CTA_TUPLE_IP),
					      a->family == AF_INET ? CTA_IP_V4_SRC : CTA_IP_V6_SRC);

	return nl_len(src) == net_addr_bits(a) / 8 &&
	       memcmp(nl_data(src), net_addr_bytes(a), nl_len(src)) == 0;
}

static int read_entry(const struct nlmsghdr *m, void *arg)
{
	const size_t hdr = sizeof(struct nfgenmsg);
	struct found *f = arg;
	const struct nlattr *orig = nl_find(m, hdr, CTA_TUPLE_ORIG);

	const struct nlattr *reply = nl_find(m, hdr, CTA_TUPLE_REPLY);
	bool ours = false;

	/* Without a filter, or a kernel that knows it (5.8), all are told of. */
	for (size_t i = 0; i < f->n_a && !ours; i++)
		ours = tuple_from(orig, &f->a[i]) || tuple_from(reply, &f->a[i]);
	if (!ours || nl_len(orig) > TUPLE_MAX)
		return 0;
	if (mem_grow(f->e, f->n, f->cap) < 0)
		return -ENOMEM;
	f->e[f->n].family = ((const struct nfgenmsg *)(m + 1))->nfgen_family;
	f->e[f->n].len = (uint16_t)nl_len(orig);
	memcpy(f->e[f->n++].orig, nl_data(orig), nl_len(orig));
	return 0;
}

static struct nlmsghdr *query(struct net_host *h, uint16_t type, int family, uint16_t flags)
{
	struct nfgenmsg g = {.nfgen_family = (uint8_t)family, .version = NFNETLINK_V0};

	return nl_begin(&h->nft, (uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | type), flags, &g,
			sizeof(g));
}

static void list_all(struct net_host *h, struct found *f)
{
	nl_talk(&h->nft, query(h, IPCTNL_MSG_CT_GET, AF_UNSPEC, NLM_F_DUMP), read_entry, f);
}

/* Entries whose original (or reply) source is the address: the kernel looks through all, but tells
 * of few. */
static void list_filtered(struct net_host *h, struct found *f, bool reply)
{
	struct nlmsghdr *m = query(h, IPCTNL_MSG_CT_GET, f->a->family, NLM_F_DUMP);
	struct nlattr *t = nl_nest(m, (reply ? CTA_TUPLE_REPLY : CTA_TUPLE_ORIG) | NLA_F_NESTED);
	struct nlattr *ip = nl_nest(m, CTA_TUPLE_IP | NLA_F_NESTED);

	nl_put(m, f->a->family == AF_INET ? CTA_IP_V4_SRC : CTA_IP_V6_SRC, net_addr_bytes(f->a),
	       net_addr_bits(f->a) / 8);
	nl_nest_end(m, ip);
	nl_nest_end(m, t);

	struct nlattr *filter = nl_nest(m, CTA_FILTER | NLA_F_NESTED);

	nl_put_u32(m, CTA_FILTER_ORIG_FLAGS, reply ? 0 : FILTER_IP_SRC);
	nl_put_u32(m, CTA_FILTER_REPLY_FLAGS, reply ? FILTER_IP_SRC : 0);
	nl_nest_end(m, filter);
	nl_talk(&h->nft, m, read_entry, f);
}

static void forget(struct net_host *h, struct found *f)
{
	for (size_t k = 0; k < f->n; k++) {
		struct nlmsghdr *m = query(h, IPCTNL_MSG_CT_DELETE, f->e[k].family, 0);

		nl_put(m, CTA_TUPLE_ORIG | NLA_F_NESTED, f->e[k].orig, f->e[k].len);
		nl_talk(&h->nft, m, NULL, NULL); /* ENOENT: it ended by itself */
	}
	free(f->e);
}

static uint64_t tracked_now(void)
{
	char buf[32];
	uint64_t n;

	if (fs_read_buf(AT_FDCWD, "/proc/sys/net/netfilter/nf_conntrack_count", buf, sizeof(buf)) <
		    0 ||
	    parse_u64(buf, UINT64_MAX, &n) < 0)
		return UINT64_MAX;
	return n;
}

/* Each dump walks the kernel's whole table (10 ms with 262,144 buckets): one for all addresses when
 * it does not tell of too many. */
#define FEW 20000

void track_forget(struct net_host *h, const struct net_addr *addrs, size_t n)
{
	uint64_t count = n ? tracked_now() : 0;

	if (count == 0)
		return;
	if (count <= FEW) {
		struct found f = {.a = addrs, .n_a = n};

		list_all(h, &f);
		forget(h, &f);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		struct found f = {.a = &addrs[i], .n_a = 1};

		list_filtered(h, &f, false);
		list_filtered(h, &f, true);
		forget(h, &f);
	}
}
