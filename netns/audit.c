/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Compare what is there with what should be, and put it right. */
#include "netns/nft_io.h"

#include <linux/netfilter.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "netns/host.h"
#include "netns/lease.h"
#include "netns/link.h"

#define TRIES 20

struct audit {
	struct net_host *h;
	const struct net_audit *a;
	unsigned *links; /* ids with a link, ascending */
	size_t n_links, cap_links;
	bool rebuild[2]; /* routed, bridge */
	int r;
};

PRINTF_LIKE(4, 5)
static void tell(struct audit *s, unsigned id, bool fixed, const char *fmt, ...)
{
	char what[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	if (s->a->found)
		s->a->found(s->a->arg, id, what, NULL, fixed);
}

/* What only the operator can mend. */
static void advise(struct audit *s, unsigned id, const char *help, const char *what)
{
	if (s->a->found)
		s->a->found(s->a->arg, id, what, help, false);
}

static bool has(const unsigned *ids, size_t n, unsigned id)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (ids[mid] == id)
			return true;
		if (ids[mid] < id)
			low = mid + 1;
		else
			high = mid;
	}
	return false;
}

static bool busy(const struct audit *s, unsigned id)
{
	return s->a->busy && s->a->busy(s->a->arg, id);
}

static bool is_live(const struct audit *s, unsigned id)
{
	return has(s->a->live, s->a->n_live, id);
}

static int note_link(const struct link_info *l, void *arg)
{
	struct audit *s = arg;
	unsigned id;

	if (!net_ifname_id(s->h->tag, l->name, &id))
		return 0;
	if (mem_grow(s->links, s->n_links, s->cap_links) < 0)
		return -ENOMEM;
	s->links[s->n_links++] = id;
	return 0;
}

static int by_number(const void *a, const void *b)
{
	unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;

	return x < y ? -1 : x > y;
}

static int list_links(struct audit *s, struct vps_err *err)
{
	int r;

	for (int i = 0; i < TRIES; i++) {
		s->n_links = 0;
		r = link_each(&s->h->rt, note_link, s);
		if (r != -EINTR)
			break;
	}
	if (r < 0)
		return nl_fail(&s->h->rt, err, r, "list the links");
	if (s->n_links)
		qsort(s->links, s->n_links, sizeof(*s->links), by_number);
	return 0;
}

static void drop_stray(struct audit *s, unsigned id, const char *what)
{
	bool fixed = false;

	if (busy(s, id))
		return;
	if (s->a->fix)
		fixed = net_detach(s->h, id, NULL) == 0;
	tell(s, id, fixed, "%s of a VPS that does not run", what);
}

static void check_links(struct audit *s)
{
	for (size_t i = 0; i < s->n_links; i++)
		if (!is_live(s, s->links[i]))
			drop_stray(s, s->links[i], "a network link");
}

static void check_table(struct audit *s, enum nft_table t, bool wanted)
{
	static const char *const family[] = {"inet", "arp", "bridge"};
	enum nft_state state;
	int r = nft_table_state(s->h, t, &state);

	if (r < 0) {
		s->r = r;
		return;
	}
	if (state == NFT_GOOD || (state == NFT_MISSING && !wanted))
		return;
	s->rebuild[t == NFT_T_BRIDGE] = true;
	tell(s, 0, s->a->fix, "firewall table '%s %s' is %s", family[t], s->h->tag,
	     state == NFT_MISSING ? "missing" : "not as this version of vps makes it");
}

static void forward_drop(void *arg, int family, const char *table, const char *chain)
{
	struct audit *s = arg;
	const char *fam = family == NFPROTO_IPV4 ? "ip" : family == NFPROTO_IPV6 ? "ip6" : "inet";
	bool legacy = family != NFPROTO_INET && str_eq(table, "filter") && str_eq(chain, "FORWARD");
	char what[256], help[256];

	snprintf(what, sizeof(what),
		 "chain '%s %.60s %.60s' drops by policy what is forwarded: guests may be cut off",
		 fam, table, chain);
	if (legacy)
		snprintf(help, sizeof(help),
			 "unless it lets them pass: for d in i o; do %stables -I FORWARD -$d %s+ "
			 "-j ACCEPT; done",
			 fam, s->h->tag);
	else
		snprintf(help, sizeof(help),
			 "unless it lets them pass: for d in i o; do nft insert rule %s %.60s %.60s "
			 "${d}ifname '%s*' accept; done",
			 fam, table, chain, s->h->tag);
	advise(s, 0, help, what);
}

static void check_host(struct audit *s, bool routed, bool v6)
{
	bool fixed = false;

	if (!routed)
		return;
	if (!host_sysctl_is("/proc/sys/net/ipv4/ip_forward", "1") ||
	    (v6 && !host_sysctl_is("/proc/sys/net/ipv6/conf/all/forwarding", "1"))) {
		if (s->a->fix)
			fixed = host_prepare(v6, NULL) == 0;
		tell(s, 0, fixed, "forwarding is off: routed guests reach nobody");
	}
	nft_forward_drops(s->h, forward_drop, s);
}

/* What each live guest should have: by its definition, else by its record. */
static int wanted(struct audit *s, const struct nft_guests *rec, struct nft_guests *ret)
{
	auto_done(nft_guests_done) struct nft_guests l = {0};

	for (size_t i = 0; i < s->a->n_live; i++) {
		unsigned id = s->a->live[i];
		int r = -ENOENT;

		if (mem_grow(l.g, l.n, l.cap) < 0)
			return -ENOMEM;

		struct nft_guest *g = &l.g[l.n];

		*g = (struct nft_guest){.id = id};
		if (s->a->get_plan)
			r = s->a->get_plan(s->a->arg, id, &g->plan, NULL);
		for (size_t k = 0; r < 0 && k < rec->n; k++) {
			autofree uint8_t *b = NULL;
			size_t len;

			if (rec->g[k].id != id)
				continue;
			r = nft_pack(&rec->g[k].plan, &b, &len);
			if (r == 0)
				r = nft_unpack(b, len, &g->plan);
		}
		if (r == -ENOMEM)
			return r;
		if (r == 0)
			l.n++;
	}
	*ret = l;
	l = (struct nft_guests){0};
	return 0;
}

static int by_place(const void *a, const void *b)
{
	const struct nft_elem *x = a, *y = b;

	if (x->table != y->table)
		return x->table - y->table;
	if (x->set != y->set)
		return x->set - y->set;
	return memcmp(x->key, y->key, NFT_KEY_MAX);
}

static int append(struct nft_elems *to, const struct nft_elems *from)
{
	for (size_t i = 0; i < from->n; i++) {
		if (mem_grow(to->e, to->n, to->cap) < 0)
			return -ENOMEM;
		to->e[to->n++] = from->e[i];
	}
	return 0;
}

static int expected(struct audit *s, const struct nft_guests *want, bool bridge,
		    struct nft_elems *ret)
{
	for (size_t i = 0; i < want->n; i++) {
		auto_done(nft_elems_done) struct nft_elems l = {0};
		int r;

		if ((want->g[i].plan.mode == NET_BRIDGE) != bridge)
			continue;
		r = nft_elems_of(s->h, want->g[i].id, &want->g[i].plan, &l);
		if (r == 0)
			r = append(ret, &l);
		if (r < 0)
			return r;
	}
	if (ret->n)
		qsort(ret->e, ret->n, sizeof(*ret->e), by_place);
	return 0;
}

static int present(struct audit *s, enum nft_table t, struct nft_elems *ret)
{
	for (int k = 0; k < SET_COUNT; k++) {
		auto_done(nft_elems_done) struct nft_elems l = {0};
		int r;

		if (!(nft_sets[k].tables & (1u << t)) || nft_sets[k].counted)
			continue;
		r = nft_dump_set(s->h, t, (enum nft_set)k, &l);
		if (r == 0)
			r = append(ret, &l);
		if (r < 0)
			return r == -ENOENT ? 0 : r; /* the table's state has told */
	}
	return 0;
}

/* Whose it is, by the name in its key; 0 when the key has none. */
static unsigned owner(const struct audit *s, const struct nft_elem *e)
{
	char name[IFNAMSIZ];
	unsigned id;

	memcpy(name, e->key, IFNAMSIZ);
	name[IFNAMSIZ - 1] = '\0';
	return net_ifname_id(s->h->tag, name, &id) ? id : 0;
}

static void differ(struct audit *s, const struct nft_elem *e, const char *what)
{
	unsigned id = owner(s, e);

	if (id && busy(s, id))
		return;
	s->rebuild[e->table == NFT_T_BRIDGE] = true;
	tell(s, id, s->a->fix, "an element of firewall set '%s' %s", nft_sets[e->set].name, what);
}

static void compare(struct audit *s, const struct nft_elems *want, const struct nft_elems *there)
{
	size_t i = 0, k = 0;

	while (i < want->n || k < there->n) {
		int c = i == want->n ? 1 : k == there->n ? -1 : by_place(&want->e[i], &there->e[k]);

		if (c < 0)
			differ(s, &want->e[i++], "is missing");
		else if (c > 0)
			differ(s, &there->e[k++], "belongs to nobody that runs");
		else if (!nft_elem_same(&want->e[i++], &there->e[k++]))
			differ(s, &want->e[i - 1], "is not as the VPS's definition says");
	}
}

static int check_elements(struct audit *s, const struct nft_guests *want, bool bridge)
{
	auto_done(nft_elems_done) struct nft_elems exp = {0}, now = {0};
	int r = expected(s, want, bridge, &exp);

	if (r == 0)
		r = present(s, bridge ? NFT_T_BRIDGE : NFT_T_INET, &now);
	if (r == 0 && !bridge)
		r = present(s, NFT_T_ARP, &now);
	if (r < 0)
		return r;
	if (now.n)
		qsort(now.e, now.n, sizeof(*now.e), by_place);
	if (!s->rebuild[bridge]) /* else it is all new anyway */
		compare(s, &exp, &now);
	return 0;
}

/* Guests that came after the caller made its list keep what they have. */
static int add_newcomers(struct audit *s, const struct nft_guests *rec, struct nft_guests *want)
{
	for (size_t i = 0; i < rec->n; i++) {
		autofree uint8_t *b = NULL;
		size_t len;
		int r;

		if (is_live(s, rec->g[i].id) || !busy(s, rec->g[i].id))
			continue;
		if (mem_grow(want->g, want->n, want->cap) < 0)
			return -ENOMEM;
		r = nft_pack(&rec->g[i].plan, &b, &len);
		if (r == 0)
			r = nft_unpack(b, len, &want->g[want->n].plan);
		if (r < 0)
			return r;
		want->g[want->n++].id = rec->g[i].id;
	}
	return 0;
}

static int get_records(struct audit *s, bool bridge, struct nft_guests *ret)
{
	int r = nft_records(s->h, bridge ? NFT_T_BRIDGE : NFT_T_INET, ret);

	return r == -ENOENT ? 0 : r;
}

static int rebuild(struct audit *s, bool bridge, struct vps_err *err)
{
	for (int i = 0; i < TRIES; i++) {
		auto_done(nft_guests_done) struct nft_guests rec = {0}, want = {0}, mine = {0};
		struct vps_err e = {0};
		uint32_t gen;
		int r = nft_generation(s->h, &gen);

		if (r == 0)
			r = get_records(s, bridge, &rec);
		if (r == 0)
			r = wanted(s, &rec, &want);
		if (r == 0)
			r = add_newcomers(s, &rec, &want);
		for (size_t k = 0; r == 0 && k < want.n; k++) {
			enum net_mode mode = want.g[k].plan.mode;

			if (mode != (bridge ? NET_BRIDGE : NET_ROUTED))
				continue;
			r = mem_grow(mine.g, mine.n, mine.cap);
			if (r < 0)
				break;
			mine.g[mine.n++] = want.g[k];
			want.g[k].plan = (struct net_plan){0};
		}
		if (r == 0)
			r = nft_rebuild(s->h, bridge, &mine, gen, &e);
		if (r == -ERESTART || r == -EINTR)
			continue;
		if (r < 0 && e.code && err && !err->code)
			*err = e;
		return r < 0 ? vps_err_sys(err, r, "rebuild the firewall") : 0;
	}
	return vps_err_set(err, EAGAIN, "the firewall is changed by others all the time");
}

static void check_live(struct audit *s, const struct nft_guests *want)
{
	for (size_t i = 0; i < want->n; i++) {
		unsigned id = want->g[i].id;
		enum net_mode mode = want->g[i].plan.mode;

		if ((mode == NET_ROUTED || mode == NET_BRIDGE) && !has(s->links, s->n_links, id) &&
		    !busy(s, id))
			advise(s, id, "restart the VPS", "the network link is gone");
	}
}

static int check_lease(const char *name, unsigned id, void *arg)
{
	struct audit *s = arg;
	bool fixed = false;

	if (has(s->a->defined, s->a->n_defined, id) || busy(s, id))
		return 0;
	if (s->a->fix)
		fixed = lease_drop(s->h, name, id) == 0;
	tell(s, id, fixed, "lease '%s' of a VPS that does not exist", name);
	return 0;
}

static int check_guests(struct audit *s, struct vps_err *err)
{
	auto_done(nft_guests_done) struct nft_guests rec = {0}, rec2 = {0}, want = {0};
	bool routed = false, bridged = false, v6 = false;
	int r = get_records(s, false, &rec);

	if (r == 0)
		r = get_records(s, true, &rec2);
	for (size_t i = 0; r == 0 && i < rec2.n; i++) {
		r = mem_grow(rec.g, rec.n, rec.cap);
		if (r == 0) {
			rec.g[rec.n++] = rec2.g[i];
			rec2.g[i].plan = (struct net_plan){0};
		}
	}
	if (r == 0)
		r = wanted(s, &rec, &want);
	if (r < 0)
		return vps_err_sys(err, r, "read the firewall's records");
	for (size_t i = 0; i < rec.n; i++)
		if (!is_live(s, rec.g[i].id) && !has(s->links, s->n_links, rec.g[i].id))
			drop_stray(s, rec.g[i].id, "firewall elements");
	for (size_t i = 0; i < want.n; i++) {
		routed |= want.g[i].plan.mode == NET_ROUTED;
		bridged |= want.g[i].plan.mode == NET_BRIDGE;
		for (size_t k = 0; k < want.g[i].plan.n_addrs; k++)
			v6 |= want.g[i].plan.addrs[k].family == AF_INET6;
	}
	check_table(s, NFT_T_INET, routed);
	check_table(s, NFT_T_ARP, routed);
	check_table(s, NFT_T_BRIDGE, bridged);
	check_host(s, routed, v6);
	check_live(s, &want);
	r = s->r ? s->r : check_elements(s, &want, false);
	if (r == 0)
		r = check_elements(s, &want, true);
	return r < 0 ? vps_err_sys(err, r, "read the firewall") : 0;
}

int net_audit(struct net_host *h, const struct net_audit *a, struct vps_err *err)
{
	struct audit s = {.h = h, .a = a};
	int r = list_links(&s, err);

	if (r == 0) {
		check_links(&s);
		r = check_guests(&s, err);
	}
	if (r == 0 && a->fix && s.rebuild[0])
		r = rebuild(&s, false, err);
	if (r == 0 && a->fix && s.rebuild[1])
		r = rebuild(&s, true, err);
	if (r == 0) {
		r = lease_each(h, check_lease, &s);
		if (r < 0)
			vps_err_sys(err, r, "read the leases");
	}
	free(s.links);
	return r;
}
