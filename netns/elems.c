/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From a plan to set elements, and plans as bytes. Pure. */
#include <string.h>

#include "base/mem.h"
#include "netns/nft_io.h"

/* Numbers of nft(8)'s datatypes: only its listing reads them. Six bits each in a concatenation. */
enum { T_IP4 = 7, T_IP6 = 8, T_ETHER = 9, T_PROTO = 12, T_PORT = 13, T_MARK = 19, T_IFNAME = 41 };
#define CAT2(a, b)	 ((a) << 6 | (b))
#define CAT3(a, b, c)	 (CAT2(a, b) << 6 | (c))
#define CAT4(a, b, c, d) (CAT3(a, b, c) << 6 | (d))

#define IN (1u << NFT_T_INET)
#define AR (1u << NFT_T_ARP)
#define BR (1u << NFT_T_BRIDGE)

const struct nft_set_def nft_sets[SET_COUNT] = {
	[SET_GUESTS] = {"guests", 16, 0, T_IFNAME, .tables = IN | AR | BR},
	[SET_MACS] = {"macs", 24, 0, CAT2(T_IFNAME, T_ETHER), .tables = IN | BR},
	[SET_SRC4] = {"src4", 20, 0, CAT2(T_IFNAME, T_IP4), .tables = IN | BR},
	[SET_SRC6] = {"src6", 32, 0, CAT2(T_IFNAME, T_IP6), .tables = IN | BR},
	[SET_PPS] = {"pps", 16, 0, T_IFNAME, .limit = 1, .tables = IN | BR},
	[SET_RATE] = {"rate", 16, 0, T_IFNAME, .limit = 2, .tables = IN | BR},
	[SET_REC] = {"rec", 20, 0, CAT2(T_IFNAME, T_MARK), .tables = IN | BR},
	[SET_CTCAP] = {"ctcap", 16, 4, T_IFNAME, T_MARK, .tables = IN},
	[SET_CONNS] = {"conns", 20, 0, CAT2(T_IFNAME, T_MARK), .counted = true, .tables = IN},
	[SET_SELF] = {"self", 32, 0, CAT2(T_IFNAME, T_IFNAME), .tables = IN},
	[SET_PUB4] = {"pub4", 8, 8, CAT2(T_PROTO, T_PORT), CAT2(T_IP4, T_PORT), .tables = IN},
	[SET_PUB6] = {"pub6", 8, 20, CAT2(T_PROTO, T_PORT), CAT2(T_IP6, T_PORT), .tables = IN},
	[SET_PUB4A] = {"pub4a", 12, 8, CAT3(T_IP4, T_PROTO, T_PORT), CAT2(T_IP4, T_PORT),
		       .tables = IN},
	[SET_PUB6A] = {"pub6a", 24, 20, CAT3(T_IP6, T_PROTO, T_PORT), CAT2(T_IP6, T_PORT),
		       .tables = IN},
	[SET_HELD] = {"held", 16, 0, T_IFNAME, .tables = IN | BR},
	[SET_ARP4] = {"arp4", 36, 0, CAT4(T_IFNAME, T_ETHER, T_ETHER, T_IP4), .tables = AR | BR},
};

void nft_elems_done(struct nft_elems *l)
{
	if (!l)
		return;
	free(l->e);
	*l = (struct nft_elems){0};
}

bool nft_elem_same(const struct nft_elem *a, const struct nft_elem *b)
{
	return a->table == b->table && a->set == b->set && a->rate == b->rate &&
	       a->burst == b->burst && a->udata_len == b->udata_len &&
	       memcmp(a->key, b->key, NFT_KEY_MAX) == 0 &&
	       memcmp(a->data, b->data, NFT_DATA_MAX) == 0 &&
	       memcmp(a->udata, b->udata, a->udata_len) == 0;
}

uint32_t nft_ct_cap(unsigned class)
{
	return class % 2 ? 96u << class / 2 : 64u << class / 2;
}

uint32_t nft_ct_parts(unsigned class)
{
	uint32_t parts = 1;

	while (nft_ct_cap(class) > 1024 && nft_ct_cap(class) / parts > NFT_CT_PART)
		parts *= 2;
	return parts;
}

unsigned nft_ct_class(uint32_t max)
{
	unsigned class = 0;

	while (class + 1 < NFT_CT_CLASSES && nft_ct_cap(class + 1) <= max)
		class ++;
	return class;
}

struct maker {
	struct nft_elems *l;
	char ifname[IFNAMSIZ];
	uint8_t mac[6];
	enum nft_table table;
	uint32_t ct_default;
	int r;
};

/* A fresh element whose key starts with the interface's name. NULL when out of memory. */
static struct nft_elem *add(struct maker *m, enum nft_table t, enum nft_set s)
{
	if (m->r < 0)
		return NULL;
	m->r = mem_grow(m->l->e, m->l->n, m->l->cap);
	if (m->r < 0)
		return NULL;

	struct nft_elem *e = &m->l->e[m->l->n++];

	*e = (struct nft_elem){.table = (uint8_t)t, .set = (uint8_t)s};
	memcpy(e->key, m->ifname, IFNAMSIZ);
	return e;
}

static void add_key(struct maker *m, enum nft_table t, enum nft_set s, const void *key, size_t len)
{
	struct nft_elem *e = add(m, t, s);

	if (e)
		memcpy(e->key + IFNAMSIZ, key, len);
}

static void add_arp(struct maker *m, enum nft_table t, struct in_addr ip)
{
	uint8_t key[20] = {0};

	memcpy(key, m->mac, 6);
	memcpy(key + 8, m->mac, 6);
	memcpy(key + 16, &ip, 4);
	add_key(m, t, SET_ARP4, key, sizeof(key));
}

static void add_sources(struct maker *m, const struct net_plan *p)
{
	enum nft_table arp = m->table == NFT_T_INET ? NFT_T_ARP : m->table;
	bool any6 = false;
	struct in6_addr ll;

	for (size_t i = 0; i < p->n_addrs; i++) {
		const struct net_addr *a = &p->addrs[i];

		if (a->family == AF_INET) {
			add_key(m, m->table, SET_SRC4, &a->v4, 4);
			add_arp(m, arp, a->v4);
		} else {
			add_key(m, m->table, SET_SRC6, &a->v6, 16);
			any6 = true;
		}
	}
	if (any6) {
		net_mac_linklocal(m->mac, &ll);
		add_key(m, m->table, SET_SRC6, &ll, 16);
	}
}

static void add_limit(struct maker *m, enum nft_table t, enum nft_set s, uint64_t rate,
		      uint32_t burst)
{
	struct nft_elem *e = add(m, t, s);

	if (!e)
		return;
	e->rate = rate;
	e->burst = burst;
}

/* Added to what a second carries: nft_limit_init (net/netfilter/nft_limit.c) makes the bucket of a limit
 * by bytes that large. The largest packet a guest hands over in one piece fits at any rate. */
#define RATE_BURST 65536

static void add_limits(struct maker *m, const struct net_plan *p)
{
	if (p->pps) {
		uint64_t burst = p->pps / 10 > 5 ? p->pps / 10 : 5;

		add_limit(m, m->table, SET_PPS, p->pps,
			  burst > UINT32_MAX ? UINT32_MAX : (uint32_t)burst);
	}
	if (p->rate_out)
		add_limit(m, m->table, SET_RATE, p->rate_out / 8, RATE_BURST);
	if (m->table == NFT_T_INET) {
		uint32_t class = nft_ct_class(p->conntrack_max ? p->conntrack_max : m->ct_default);
		struct nft_elem *e = add(m, NFT_T_INET, SET_CTCAP);

		if (e)
			memcpy(e->data, &class, sizeof(class));
	}
}

static const struct net_addr *first_of(const struct net_plan *p, int family)
{
	for (size_t i = 0; i < p->n_addrs; i++)
		if (p->addrs[i].family == family)
			return &p->addrs[i];
	return NULL;
}

static void add_publish(struct maker *m, const struct net_publish *pub, const struct net_addr *to)
{
	bool v4 = to->family == AF_INET;
	size_t len = v4 ? 4 : 16, at = 0;
	struct nft_elem *e;

	if (pub->host.family && !net_addr_zero(&pub->host))
		e = add(m, NFT_T_INET, v4 ? SET_PUB4A : SET_PUB6A);
	else
		e = add(m, NFT_T_INET, v4 ? SET_PUB4 : SET_PUB6);
	if (!e)
		return;
	memset(e->key, 0, sizeof(e->key));
	if (e->set == SET_PUB4A || e->set == SET_PUB6A) {
		memcpy(e->key, net_addr_bytes(&pub->host), len);
		at = len;
	}
	e->key[at] = pub->proto;
	e->key[at + 4] = (uint8_t)(pub->host_port >> 8);
	e->key[at + 5] = (uint8_t)pub->host_port;
	memcpy(e->data, net_addr_bytes(to), len);
	e->data[len] = (uint8_t)(pub->guest_port >> 8);
	e->data[len + 1] = (uint8_t)pub->guest_port;
}

static void add_published(struct maker *m, const struct net_plan *p)
{
	if (p->n_publish)
		add_key(m, NFT_T_INET, SET_SELF, m->ifname, IFNAMSIZ);
	for (size_t i = 0; i < p->n_publish; i++)
		for (int k = 0; k < 2; k++) {
			int family = k ? AF_INET6 : AF_INET;
			const struct net_addr *to = first_of(p, family);

			if (to &&
			    (!p->publish[i].host.family || p->publish[i].host.family == family))
				add_publish(m, &p->publish[i], to);
		}
}

static void add_record(struct maker *m, const struct net_plan *p)
{
	autofree uint8_t *rec = NULL;
	size_t len = 0;

	if (m->r == 0)
		m->r = nft_pack(p, &rec, &len);
	for (uint32_t i = 0; m->r == 0 && (size_t)i * NFT_UDATA_MAX < len; i++) {
		struct nft_elem *e = add(m, m->table, SET_REC);
		size_t n = len - (size_t)i * NFT_UDATA_MAX;

		if (!e)
			return;
		memcpy(e->key + IFNAMSIZ, &i, sizeof(i));
		e->udata_len = (uint8_t)(n < NFT_UDATA_MAX ? n : NFT_UDATA_MAX);
		memcpy(e->udata, rec + (size_t)i * NFT_UDATA_MAX, e->udata_len);
	}
}

int nft_elems_of(const struct net_host *h, unsigned id, const struct net_plan *p,
		 struct nft_elems *ret)
{
	auto_done(nft_elems_done) struct nft_elems l = {0};
	struct maker m = {.l = &l, .ct_default = h->ct_default};

	if (p->mode == NET_ROUTED || p->mode == NET_BRIDGE) {
		m.table = p->mode == NET_ROUTED ? NFT_T_INET : NFT_T_BRIDGE;
		net_ifname(h, id, m.ifname);
		net_mac_of(h->tag, id, p, m.mac);
		add(&m, m.table, SET_GUESTS);
		if (m.table == NFT_T_INET)
			add(&m, NFT_T_ARP, SET_GUESTS);
		add_key(&m, m.table, SET_MACS, m.mac, 6);
		add_sources(&m, p);
		if (p->mode == NET_BRIDGE && first_of(p, AF_INET))
			add_arp(&m, NFT_T_BRIDGE, (struct in_addr){0}); /* probes, RFC 5227 */
		add_limits(&m, p);
		if (p->mode == NET_ROUTED)
			add_published(&m, p);
		add_record(&m, p);
	}
	if (m.r < 0)
		return m.r;
	*ret = l;
	l = (struct nft_elems){0};
	return 0;
}

/* The record: version, total length, then fixed fields in host order (it never leaves this
 * kernel's memory), then the lists. */
#define REC_VERSION 1

struct rec_head {
	uint8_t version, mode, mac[6];
	uint32_t len;
	uint32_t conntrack_max, mtu;
	uint64_t rate_in, rate_out, pps;
	uint16_t n_addrs, n_publish;
	uint32_t pad;
};
struct rec_addr {
	uint8_t family4, len, addr[16];
};
struct rec_publish {
	struct rec_addr host;
	uint8_t proto, pad;
	uint16_t host_port, guest_port;
};

static struct rec_addr pack_addr(const struct net_addr *a)
{
	struct rec_addr r = {.len = a->len};

	r.family4 = a->family == AF_INET ? 4 : a->family == AF_INET6 ? 6 : 0;
	memcpy(r.addr, net_addr_bytes(a), net_addr_bits(a) / 8);
	return r;
}

static int unpack_addr(const struct rec_addr *r, bool none_ok, struct net_addr *ret)
{
	struct net_addr a = {.len = r->len};

	if (r->family4 == 4)
		a.family = AF_INET;
	else if (r->family4 == 6)
		a.family = AF_INET6;
	else if (r->family4 != 0 || !none_ok)
		return -EBADMSG;
	if (a.len > net_addr_bits(&a))
		return -EBADMSG;
	memcpy(&a.v6, r->addr, net_addr_bits(&a) / 8);
	*ret = a;
	return 0;
}

int nft_pack(const struct net_plan *p, uint8_t **ret, size_t *ret_len)
{
	size_t len = sizeof(struct rec_head) + p->n_addrs * sizeof(struct rec_addr) +
		     p->n_publish * sizeof(struct rec_publish);
	uint8_t *b = calloc(1, len), *at = b;
	struct rec_head head = {
		.version = REC_VERSION,
		.mode = (uint8_t)p->mode,
		.len = (uint32_t)len,
		.conntrack_max = p->conntrack_max,
		.mtu = p->mtu,
		.rate_in = p->rate_in,
		.rate_out = p->rate_out,
		.pps = p->pps,
		.n_addrs = (uint16_t)p->n_addrs,
		.n_publish = (uint16_t)p->n_publish,
	};

	if (!b)
		return -ENOMEM;
	memcpy(head.mac, p->mac, 6);
	memcpy(at, &head, sizeof(head));
	at += sizeof(head);
	for (size_t i = 0; i < p->n_addrs; i++, at += sizeof(struct rec_addr)) {
		struct rec_addr a = pack_addr(&p->addrs[i]);

		memcpy(at, &a, sizeof(a));
	}
	for (size_t i = 0; i < p->n_publish; i++, at += sizeof(struct rec_publish)) {
		struct rec_publish r = {.host = pack_addr(&p->publish[i].host),
					.proto = p->publish[i].proto,
					.host_port = p->publish[i].host_port,
					.guest_port = p->publish[i].guest_port};

		memcpy(at, &r, sizeof(r));
	}
	*ret = b;
	*ret_len = len;
	return 0;
}

int nft_unpack(const uint8_t *b, size_t len, struct net_plan *ret)
{
	auto_done(net_plan_done) struct net_plan p = {0};
	struct rec_head head;

	if (len < sizeof(head))
		return -EBADMSG;
	memcpy(&head, b, sizeof(head));
	if (head.version != REC_VERSION || head.len != len || head.n_addrs > NET_ADDRS_MAX ||
	    head.n_publish > NET_PUBLISH_MAX || head.mode > NET_MACVLAN ||
	    len != sizeof(head) + head.n_addrs * sizeof(struct rec_addr) +
			    head.n_publish * sizeof(struct rec_publish))
		return -EBADMSG;
	b += sizeof(head);
	p.mode = head.mode;
	memcpy(p.mac, head.mac, 6);
	p.conntrack_max = head.conntrack_max;
	p.mtu = head.mtu;
	p.rate_in = head.rate_in;
	p.rate_out = head.rate_out;
	p.pps = head.pps;
	p.addrs = calloc(head.n_addrs + 1u, sizeof(*p.addrs));
	p.publish = calloc(head.n_publish + 1u, sizeof(*p.publish));
	if (!p.addrs || !p.publish)
		return -ENOMEM;
	for (; p.n_addrs < head.n_addrs; p.n_addrs++, b += sizeof(struct rec_addr)) {
		struct rec_addr a;

		memcpy(&a, b, sizeof(a));
		if (unpack_addr(&a, false, &p.addrs[p.n_addrs]) < 0)
			return -EBADMSG;
	}
	for (; p.n_publish < head.n_publish; p.n_publish++, b += sizeof(struct rec_publish)) {
		struct net_publish *to = &p.publish[p.n_publish];
		struct rec_publish r;

		memcpy(&r, b, sizeof(r));
		if (unpack_addr(&r.host, true, &to->host) < 0)
			return -EBADMSG;
		to->proto = r.proto;
		to->host_port = r.host_port;
		to->guest_port = r.guest_port;
	}
	*ret = p;
	p = (struct net_plan){0};
	return 0;
}

size_t nft_pack_len(const uint8_t *b, size_t len)
{
	struct rec_head head;

	if (len < sizeof(head))
		return 0;
	memcpy(&head, b, sizeof(head));
	return head.len;
}
