/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Batches, tables, sets and elements by libnftnl. */
#include "netns/nft_io.h"

#include <arpa/inet.h>
#include <libnftnl/expr.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>

#include "base/mem.h"

#define CMD_ROOM    (64u << 10)
#define ELEMS_A_CMD 64

int nft_family(enum nft_table t)
{
	return t == NFT_T_INET ? NFPROTO_INET : t == NFT_T_ARP ? NFPROTO_ARP : NFPROTO_BRIDGE;
}

void nft_batch_done(struct nft_batch *b)
{
	if (!b)
		return;
	free(b->buf);
	*b = (struct nft_batch){0};
}

static struct nlmsghdr *put_header(struct nft_batch *b, uint16_t type, int family, uint16_t flags)
{
	struct nlmsghdr *h;
	struct nfgenmsg *g;

	if (b->cap - b->len < CMD_ROOM) {
		size_t cap = b->cap ? b->cap * 2 : 4 * CMD_ROOM;
		char *p = b->buf ? realloc(b->buf, cap) : calloc(1, cap);

		if (p && b->buf) /* no library clears the padding between attributes, and it is hashed */
			memset(p + b->cap, 0, cap - b->cap);
		if (!p) {
			/* Reuse what is there: the batch will never be sent. */
			b->oom = true;
			b->len = 0;
			if (!b->buf)
				return NULL;
		} else {
			b->buf = p;
			b->cap = cap;
		}
	}
	h = (void *)(b->buf + b->len);
	memset(h, 0, sizeof(*h) + sizeof(*g));
	h->nlmsg_len = sizeof(*h) + sizeof(*g);
	h->nlmsg_type = type;
	h->nlmsg_flags = NLM_F_REQUEST | flags;
	h->nlmsg_seq = b->seq++;
	g = (void *)(h + 1);
	g->nfgen_family = (uint8_t)family;
	g->version = NFNETLINK_V0;
	return h;
}

void nft_batch_begin(struct nft_batch *b, uint32_t gen)
{
	struct nlmsghdr *h;

	b->len = 0;
	b->seq = 1;
	b->hash = NET_HASH_INIT;
	h = put_header(b, NFNL_MSG_BATCH_BEGIN, AF_UNSPEC, 0);
	if (!h)
		return;
	((struct nfgenmsg *)(h + 1))->res_id = htons(NFNL_SUBSYS_NFTABLES);
	if (gen)
		nl_put_u32(h, NFNL_BATCH_GENID, htonl(gen));
	b->len += h->nlmsg_len;
}

struct nlmsghdr *nft_cmd(struct nft_batch *b, uint16_t type, int family, uint16_t flags)
{
	return put_header(b, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), family, flags);
}

void nft_cmd_end(struct nft_batch *b, struct nlmsghdr *h)
{
	b->hash = net_hash(b->hash, &h->nlmsg_type, sizeof(h->nlmsg_type));
	b->hash = net_hash(b->hash, h + 1, h->nlmsg_len - sizeof(*h));
	b->last = b->len;
	b->len += (h->nlmsg_len + 3) & ~3u;
	b->dirty = true;
}

/* Which command failed, in words an operator can look up. */
static const char *command_name(const struct nft_batch *b, uint32_t seq)
{
	static const char *const names[] = {
		[NFT_MSG_NEWTABLE] = "add table",
		[NFT_MSG_DELTABLE] = "delete table",
		[NFT_MSG_NEWCHAIN] = "add chain",
		[NFT_MSG_NEWRULE] = "add rule",
		[NFT_MSG_NEWSET] = "add set",
		[NFT_MSG_NEWSETELEM] = "add element",
		[NFT_MSG_DELSETELEM] = "delete element",
		[NFT_MSG_NEWOBJ] = "add object",
		[NFT_MSG_DELOBJ] = "delete object",
	};

	for (size_t at = 0; at + sizeof(struct nlmsghdr) <= b->len;) {
		const struct nlmsghdr *h = (void *)(b->buf + at);
		unsigned type = h->nlmsg_type & 0xff;

		if (h->nlmsg_seq == seq && h->nlmsg_type >> 8 == NFNL_SUBSYS_NFTABLES &&
		    type < ARRAY_LEN(names) && names[type])
			return names[type];
		at += (h->nlmsg_len + 3) & ~3u;
	}
	return "batch";
}

int nft_commit(struct net_host *h, struct nft_batch *b, struct vps_err *err)
{
	struct nlmsghdr *end;
	uint32_t bad = 0, last;
	int r;

	if (b->oom)
		return vps_err_sys(err, -ENOMEM, "firewall batch");
	if (!b->dirty)
		return 0;
	((struct nlmsghdr *)(b->buf + b->last))->nlmsg_flags |= NLM_F_ACK;
	last = b->seq - 1;
	end = put_header(b, NFNL_MSG_BATCH_END, AF_UNSPEC, 0);
	if (b->oom)
		return vps_err_sys(err, -ENOMEM, "firewall batch");
	((struct nfgenmsg *)(end + 1))->res_id = htons(NFNL_SUBSYS_NFTABLES);
	b->len += end->nlmsg_len;
	r = nl_batch(&h->nft, b->buf, b->len, last, &bad);
	if (r < 0)
		return nl_fail(&h->nft, err, r, "nftables: %s", command_name(b, bad));
	return 0;
}

void nft_put_table(struct net_host *h, struct nft_batch *b, enum nft_table t, const void *udata,
		   size_t len)
{
	struct nlmsghdr *m = nft_cmd(b, NFT_MSG_NEWTABLE, nft_family(t), NLM_F_CREATE);

	if (!m)
		return;
	nl_put_str(m, NFTA_TABLE_NAME, h->tag);
	nl_put_u32(m, NFTA_TABLE_FLAGS, 0);
	if (len)
		nl_put(m, NFTA_TABLE_USERDATA, udata, len);
	nft_cmd_end(b, m);
}

void nft_del_table(struct net_host *h, struct nft_batch *b, enum nft_table t)
{
	struct nlmsghdr *m = nft_cmd(b, NFT_MSG_DELTABLE, nft_family(t), 0);

	if (!m)
		return;
	nl_put_str(m, NFTA_TABLE_NAME, h->tag);
	nft_cmd_end(b, m);
}

static struct nftnl_expr *limit_expr(bool bytes, uint64_t rate, uint32_t burst)
{
	struct nftnl_expr *e = nftnl_expr_alloc("limit");

	if (!e)
		return NULL;
	nftnl_expr_set_u64(e, NFTNL_EXPR_LIMIT_RATE, rate);
	nftnl_expr_set_u64(e, NFTNL_EXPR_LIMIT_UNIT, 1); /* a second */
	nftnl_expr_set_u32(e, NFTNL_EXPR_LIMIT_BURST, burst);
	nftnl_expr_set_u32(e, NFTNL_EXPR_LIMIT_TYPE, bytes ? NFT_LIMIT_PKT_BYTES : NFT_LIMIT_PKTS);
	nftnl_expr_set_u32(e, NFTNL_EXPR_LIMIT_FLAGS, NFT_LIMIT_F_INV);
	return e;
}

void nft_put_set(struct net_host *h, struct nft_batch *b, enum nft_table t, enum nft_set s)
{
	const struct nft_set_def *d = &nft_sets[s];
	struct nftnl_set *set = nftnl_set_alloc();
	struct nlmsghdr *m = nft_cmd(b, NFT_MSG_NEWSET, nft_family(t), NLM_F_CREATE);
	static const uint8_t order[] = {0, 4, 1, 0, 0, 0, 1, 4, 1, 0, 0, 0};
	uint32_t flags = d->counted ? NFT_SET_EVAL : d->data_len ? NFT_SET_MAP : 0;

	if (!set || !m) {
		b->oom = true;
		nftnl_set_free(set);
		return;
	}
	nftnl_set_set_str(set, NFTNL_SET_TABLE, h->tag);
	nftnl_set_set_str(set, NFTNL_SET_NAME, d->name);
	nftnl_set_set_u32(set, NFTNL_SET_ID, (uint32_t)s + 1);
	nftnl_set_set_u32(set, NFTNL_SET_KEY_TYPE, d->key_type);
	nftnl_set_set_u32(set, NFTNL_SET_KEY_LEN, d->key_len);
	if (d->data_len) {
		nftnl_set_set_u32(set, NFTNL_SET_DATA_TYPE, d->data_type);
		nftnl_set_set_u32(set, NFTNL_SET_DATA_LEN, d->data_len);
	}
	nftnl_set_set_u32(set, NFTNL_SET_FLAGS, flags);
	if (d->counted) /* without a number the kernel takes 65,535, which guests could fill */
		nftnl_set_set_u32(set, NFTNL_SET_DESC_SIZE, 1u << 24);
	/* Byte order of key and data, host's, for nft(8) to print names
	 * (NFTNL_UDATA_SET_*BYTEORDER). */
	nftnl_set_set_data(set, NFTNL_SET_USERDATA, order, sizeof(order));
	if (d->limit) {
		struct nftnl_expr *e = limit_expr(d->limit == 2, 1, d->limit == 2 ? 0 : 5);

		if (e)
			nftnl_set_add_expr(set, e);
		else
			b->oom = true;
	}
	nftnl_set_nlmsg_build_payload(m, set);
	nft_cmd_end(b, m);
	nftnl_set_free(set);
}

/* nft(8) skips user data of types it does not know. */
#define UDATA_TYPE 0x76

static bool fill_elem(struct nftnl_set *set, const struct nft_elem *e, bool with_value)
{
	const struct nft_set_def *d = &nft_sets[e->set];
	struct nftnl_set_elem *x = nftnl_set_elem_alloc();

	if (!x)
		return false;
	nftnl_set_elem_set(x, NFTNL_SET_ELEM_KEY, e->key, d->key_len);
	nftnl_set_elem_add(set, x);
	if (!with_value)
		return true;
	if (d->data_len)
		nftnl_set_elem_set(x, NFTNL_SET_ELEM_DATA, e->data, d->data_len);
	if (e->udata_len) {
		uint8_t udata[NFT_UDATA_MAX + 2] = {UDATA_TYPE, e->udata_len};

		memcpy(udata + 2, e->udata, e->udata_len);
		nftnl_set_elem_set(x, NFTNL_SET_ELEM_USERDATA, udata, e->udata_len + 2u);
	}
	if (d->limit) {
		struct nftnl_expr *l = limit_expr(d->limit == 2, e->rate, e->burst);

		if (!l)
			return false;
		nftnl_set_elem_add_expr(x, l);
	}
	return true;
}

static void put_elems(struct net_host *h, struct nft_batch *b, const struct nft_elem *e, size_t n,
		      bool add)
{
	struct nftnl_set *set = nftnl_set_alloc();
	struct nlmsghdr *m = nft_cmd(b, add ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM,
				     nft_family(e->table), add ? NLM_F_CREATE : 0);

	if (!set || !m) {
		b->oom = true;
		nftnl_set_free(set);
		return;
	}
	nftnl_set_set_str(set, NFTNL_SET_TABLE, h->tag);
	nftnl_set_set_str(set, NFTNL_SET_NAME, nft_sets[e->set].name);
	for (size_t i = 0; i < n; i++)
		if (!fill_elem(set, &e[i], add))
			b->oom = true;
	nftnl_set_elems_nlmsg_build_payload(m, set);
	nft_cmd_end(b, m);
	nftnl_set_free(set);
}

/* Elements of one set that follow each other go into one command. */
static void put_runs(struct net_host *h, struct nft_batch *b, const struct nft_elem *e, size_t n,
		     bool add)
{
	for (size_t i = 0; i < n;) {
		size_t k = 1;

		while (i + k < n && k < ELEMS_A_CMD && e[i + k].set == e[i].set &&
		       e[i + k].table == e[i].table)
			k++;
		put_elems(h, b, e + i, k, add);
		i += k;
	}
}

void nft_add_elems(struct net_host *h, struct nft_batch *b, const struct nft_elem *e, size_t n)
{
	put_runs(h, b, e, n, true);
}

void nft_del_elems(struct net_host *h, struct nft_batch *b, const struct nft_elem *e, size_t n)
{
	put_runs(h, b, e, n, false);
}

struct nlmsghdr *nft_query(struct net_host *h, uint16_t type, int family, uint16_t flags)
{
	struct nfgenmsg g = {.nfgen_family = (uint8_t)family, .version = NFNETLINK_V0};

	return nl_begin(&h->nft, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), flags, &g,
			sizeof(g));
}

static int read_generation(const struct nlmsghdr *m, void *arg)
{
	*(uint32_t *)arg = ntohl(nl_u32(nl_find(m, sizeof(struct nfgenmsg), NFTA_GEN_ID), 0));
	return 0;
}

int nft_generation(struct net_host *h, uint32_t *ret)
{
	uint32_t gen = 0;
	int r = nl_talk(&h->nft, nft_query(h, NFT_MSG_GETGEN, AF_UNSPEC, 0), read_generation, &gen);

	if (r < 0)
		return r;
	*ret = gen;
	return gen ? 0 : -EBADMSG;
}

struct dump {
	struct nft_elems *l;
	enum nft_table t;
	enum nft_set s;
	int r;
};

static int read_limit(struct nftnl_expr *x, void *arg)
{
	struct nft_elem *e = arg;

	if (strcmp(nftnl_expr_get_str(x, NFTNL_EXPR_NAME), "limit") == 0) {
		e->rate = nftnl_expr_get_u64(x, NFTNL_EXPR_LIMIT_RATE);
		e->burst = nftnl_expr_get_u32(x, NFTNL_EXPR_LIMIT_BURST);
	}
	return 0;
}

static int read_elem(struct nftnl_set_elem *x, void *arg)
{
	struct dump *d = arg;
	const void *p;
	uint32_t len = 0;

	if (mem_grow(d->l->e, d->l->n, d->l->cap) < 0) {
		d->r = -ENOMEM;
		return -1;
	}

	struct nft_elem *e = &d->l->e[d->l->n++];

	*e = (struct nft_elem){.table = (uint8_t)d->t, .set = (uint8_t)d->s};
	p = nftnl_set_elem_get(x, NFTNL_SET_ELEM_KEY, &len);
	if (p)
		memcpy(e->key, p, len < NFT_KEY_MAX ? len : NFT_KEY_MAX);
	p = nft_sets[d->s].data_len ? nftnl_set_elem_get(x, NFTNL_SET_ELEM_DATA, &len) : NULL;
	if (p)
		memcpy(e->data, p, len < NFT_DATA_MAX ? len : NFT_DATA_MAX);
	p = nftnl_set_elem_get(x, NFTNL_SET_ELEM_USERDATA, &len);
	if (p && len > 2 && len - 2 <= NFT_UDATA_MAX && *(const uint8_t *)p == UDATA_TYPE) {
		e->udata_len = (uint8_t)(len - 2);
		memcpy(e->udata, (const uint8_t *)p + 2, e->udata_len);
	}
	nftnl_set_elem_expr_foreach(x, read_limit, e);
	return 0;
}

static int read_elems(const struct nlmsghdr *m, void *arg)
{
	struct dump *d = arg;
	struct nftnl_set *set;

	if ((m->nlmsg_type & 0xff) != NFT_MSG_NEWSETELEM)
		return 0;
	set = nftnl_set_alloc();
	if (!set)
		return -ENOMEM;
	if (nftnl_set_elems_nlmsg_parse(m, set) < 0)
		d->r = -EBADMSG;
	else
		nftnl_set_elem_foreach(set, read_elem, d);
	nftnl_set_free(set);
	return d->r;
}

int nft_dump_set(struct net_host *h, enum nft_table t, enum nft_set s, struct nft_elems *ret)
{
	for (int tries = 0;; tries++) {
		auto_done(nft_elems_done) struct nft_elems l = {0};
		struct dump d = {&l, t, s, 0};
		struct nlmsghdr *m = nft_query(h, NFT_MSG_GETSETELEM, nft_family(t), NLM_F_DUMP);
		int r;

		nl_put_str(m, NFTA_SET_ELEM_LIST_TABLE, h->tag);
		nl_put_str(m, NFTA_SET_ELEM_LIST_SET, nft_sets[s].name);
		r = nl_talk(&h->nft, m, read_elems, &d);
		if (r == -EINTR && tries < 100)
			continue; /* someone changed the rules meanwhile */
		if (r < 0)
			return r;
		*ret = l;
		l = (struct nft_elems){0};
		return 0;
	}
}

/* One chunk of a record, appended to l. -ENOENT when there is none. */
static int get_chunk(struct net_host *h, enum nft_table t, const char *ifname, uint32_t i,
		     struct nft_elems *l)
{
	struct dump d = {l, t, SET_REC, 0};
	struct nlmsghdr *m = nft_query(h, NFT_MSG_GETSETELEM, nft_family(t), 0);
	uint8_t key[20];

	memcpy(key, ifname, IFNAMSIZ);
	memcpy(key + IFNAMSIZ, &i, sizeof(i));
	nl_put_str(m, NFTA_SET_ELEM_LIST_TABLE, h->tag);
	nl_put_str(m, NFTA_SET_ELEM_LIST_SET, nft_sets[SET_REC].name);

	struct nlattr *list = nl_nest(m, NFTA_SET_ELEM_LIST_ELEMENTS | NLA_F_NESTED);
	struct nlattr *item = nl_nest(m, NFTA_LIST_ELEM | NLA_F_NESTED);
	struct nlattr *k = nl_nest(m, NFTA_SET_ELEM_KEY | NLA_F_NESTED);

	nl_put(m, NFTA_DATA_VALUE, key, sizeof(key));
	nl_nest_end(m, k);
	nl_nest_end(m, item);
	nl_nest_end(m, list);

	size_t before = l->n;
	int r = nl_talk(&h->nft, m, read_elems, &d);

	if (r < 0)
		return r;
	return l->n == before + 1 && l->e[before].udata_len ? 0 : -ENOENT;
}

static int get_record(struct net_host *h, enum nft_table t, unsigned id, struct net_plan *ret)
{
	auto_done(nft_elems_done) struct nft_elems l = {0};
	autofree uint8_t *buf = NULL;
	char ifname[IFNAMSIZ];
	size_t have = 0;
	int r;

	net_ifname_of(h->tag, id, ifname);
	for (uint32_t i = 0; i < NFT_REC_CHUNKS; i++) {
		r = get_chunk(h, t, ifname, i, &l);
		if (r < 0)
			return r == -ENOENT && i == 0 ? 0 : r;
		if (l.e[i].udata_len < NFT_UDATA_MAX ||
		    nft_pack_len(l.e[0].udata, l.e[0].udata_len) <= (i + 1) * NFT_UDATA_MAX)
			break;
	}
	buf = malloc(l.n * NFT_UDATA_MAX);
	if (!buf)
		return -ENOMEM;
	for (size_t i = 0; i < l.n; i++) {
		memcpy(buf + have, l.e[i].udata, l.e[i].udata_len);
		have += l.e[i].udata_len;
	}
	r = nft_unpack(buf, have, ret);
	return r < 0 ? r : 1;
}

int nft_record(struct net_host *h, unsigned id, struct net_plan *ret)
{
	for (int tries = 0;; tries++) {
		int r = get_record(h, NFT_T_INET, id, ret);

		if (r == 0)
			r = get_record(h, NFT_T_BRIDGE, id, ret);
		/* Torn by a rebuild between two chunks. */
		if ((r == -ENOENT || r == -EBADMSG) && tries < 10)
			continue;
		return r;
	}
}

static int by_key(const void *a, const void *b)
{
	const struct nft_elem *x = a, *y = b;
	int r = memcmp(x->key, y->key, IFNAMSIZ);
	uint32_t i, k;

	if (r)
		return r;
	memcpy(&i, x->key + IFNAMSIZ, 4);
	memcpy(&k, y->key + IFNAMSIZ, 4);
	return i < k ? -1 : i > k;
}

static int by_id(const void *a, const void *b)
{
	unsigned x = ((const struct nft_guest *)a)->id, y = ((const struct nft_guest *)b)->id;

	return x < y ? -1 : x > y;
}

void nft_guests_done(struct nft_guests *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < l->n; i++)
		net_plan_done(&l->g[i].plan);
	free(l->g);
	*l = (struct nft_guests){0};
}

/* The chunks e[0..n) of one guest. A broken record is left out: audit sees that it is missing. */
static int join(struct net_host *h, const struct nft_elem *e, size_t n, struct nft_guests *ret)
{
	autofree uint8_t *buf = malloc(n * NFT_UDATA_MAX);
	char name[IFNAMSIZ];
	size_t have = 0;
	unsigned id;

	if (!buf || mem_grow(ret->g, ret->n, ret->cap) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		memcpy(buf + have, e[i].udata, e[i].udata_len);
		have += e[i].udata_len;
	}
	memcpy(name, e->key, IFNAMSIZ);
	name[IFNAMSIZ - 1] = '\0';
	if (net_ifname_id(h->tag, name, &id)) {
		int r = nft_unpack(buf, have, &ret->g[ret->n].plan);

		if (r == -ENOMEM)
			return r;
		if (r == 0)
			ret->g[ret->n++].id = id;
	}
	return 0;
}

int nft_records(struct net_host *h, enum nft_table t, struct nft_guests *ret)
{
	auto_done(nft_elems_done) struct nft_elems l = {0};
	auto_done(nft_guests_done) struct nft_guests g = {0};
	int r = nft_dump_set(h, t, SET_REC, &l);

	if (r < 0)
		return r;
	if (l.n)
		qsort(l.e, l.n, sizeof(*l.e), by_key);
	for (size_t i = 0; i < l.n && r == 0;) {
		size_t k = 1;

		while (i + k < l.n && memcmp(l.e[i].key, l.e[i + k].key, IFNAMSIZ) == 0)
			k++;
		r = join(h, l.e + i, k, &g);
		i += k;
	}
	if (r < 0)
		return r;
	if (g.n)
		qsort(g.g, g.n, sizeof(*g.g), by_id);
	*ret = g;
	g = (struct nft_guests){0};
	return 0;
}
