/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A running guest gets another plan. */
#include <string.h>

#include "base/mem.h"
#include "netns/attach.h"
#include "netns/nft.h"

static bool in_list(const struct net_addr *a, const struct net_plan *p)
{
	for (size_t i = 0; i < p->n_addrs; i++)
		if (net_addr_eq(a, &p->addrs[i]))
			return true;
	return false;
}

static int same_shape(const struct net_plan *was, const struct net_plan *now, struct vps_err *err)
{
	const char *what = NULL;

	if (was->mode != now->mode)
		what = "kind of network";
	else if (strcmp(was->parent, now->parent) != 0)
		what = "parent interface";
	else if (strcmp(was->guest_if, now->guest_if) != 0)
		what = "name of the interface inside";
	else if (strcmp(was->tap, now->tap) != 0)
		what = "kind of card";
	else if (memcmp(was->mac, now->mac, 6) != 0)
		what = "MAC address";
	else if (was->mtu != now->mtu)
		what = "MTU";
	if (what)
		return vps_err_set(err, VPS_ESTATE,
				   "the %s cannot change while the VPS runs; stop it first", what);
	return 0;
}

static int add_new(struct ends *e, const struct net_plan *was, const struct net_plan *now,
		   struct vps_err *err)
{
	int r = 0;

	for (size_t i = 0; i < now->n_addrs && r == 0; i++) {
		const struct net_addr *a = &now->addrs[i];

		if (in_list(a, was))
			continue;
		if (now->mode == NET_ROUTED) {
			r = ends_add_addr(e, a, err);
		} else if (!e->machine) {
			r = addr_add(&e->in, e->guest, a, true);
			if (r < 0)
				nl_fail(&e->in, err, r, "address inside");
		}
	}
	return r;
}

static void remove_old(struct ends *e, const struct net_plan *was, const struct net_plan *now,
		       bool forget)
{
	for (size_t i = 0; i < was->n_addrs; i++) {
		const struct net_addr *a = &was->addrs[i];

		if (in_list(a, now))
			continue;
		if (now->mode == NET_ROUTED)
			ends_del_addr(e, a);
		else if (!e->machine)
			addr_del(&e->in, e->guest, a);
		if (forget)
			track_forget(e->h, a, 1);
	}
}

static int apply(struct ends *e, const struct net_plan *was, const struct net_plan *now,
		 struct vps_err *err)
{
	bool v6 = plan_has(now, AF_INET6), routed = now->mode == NET_ROUTED;
	int r = 0;

	if (routed && v6 && !plan_has(was, AF_INET6))
		r = ends_set_ipv6(e, true, err);
	if (r == 0)
		r = add_new(e, was, now, err);
	if (r == 0 && routed)
		r = ends_set_routes(e, now, err);
	if (r == 0 && now->rate_in != was->rate_in && now->mode != NET_MACVLAN)
		r = ends_set_rate(e, now->rate_in, err);
	if (r == 0 && plan_gso(now) != plan_gso(was))
		link_set_gso(&e->in, e->guest, plan_gso(now)); /* a help, not a wall */
	if (r < 0)
		return r;
	remove_old(e, was, now, true);
	if (routed && !v6 && plan_has(was, AF_INET6))
		r = ends_set_ipv6(e, false, err);
	return r;
}

static int find_ends(struct ends *e, unsigned id, const struct net_plan *p, int netns_fd,
		     struct vps_err *err)
{
	struct link_info l;
	int r;

	net_ifname(e->h, id, e->ifname);
	net_mac_of(e->h->tag, id, p, e->mac);
	r = nl_open_in(&e->in, NETLINK_ROUTE, netns_fd);
	if (r < 0)
		return vps_err_sys(err, r, "enter the VPS's network namespace");
	if (p->mode != NET_MACVLAN) {
		r = link_get(&e->h->rt, e->ifname, &l);
		if (r < 0)
			return nl_fail(&e->h->rt, err, r, "find link '%s'", e->ifname);
		/* By number: the tenant may have renamed its end. */
		e->host = l.index;
		e->guest = l.parent;
		return 0;
	}
	r = link_get(&e->in, p->guest_if, &l);
	if (r < 0)
		return nl_fail(&e->in, err, r, "find '%s' inside", p->guest_if);
	e->guest = l.index;
	return 0;
}

/* Back to the old plan, as far as it goes: what the new one brought goes, what it took comes back.
 */
static void undo(struct ends *e, unsigned id, const struct net_plan *was,
		 const struct net_plan *now)
{
	remove_old(e, now, was, false); /* what failed may be another guest's */
	for (size_t i = 0; i < was->n_addrs; i++)
		if (!in_list(&was->addrs[i], now) && was->mode == NET_ROUTED)
			ends_add_addr(e, &was->addrs[i], NULL);
	if (was->mode == NET_ROUTED) {
		ends_set_routes(e, was, NULL);
		ends_set_ipv6(e, plan_has(was, AF_INET6), NULL);
	}
	if (was->mode != NET_MACVLAN)
		ends_set_rate(e, was->rate_in, NULL);
	nft_guest_set(e->h, id, was, NULL);
}

int net_update(struct net_host *h, unsigned id, const struct net_plan *was,
	       const struct net_plan *now, int netns_fd, struct vps_err *err)
{
	struct ends e = {.h = h, .in = NL_INIT, .machine = *now->tap};
	bool filtered = now->mode == NET_ROUTED || now->mode == NET_BRIDGE;
	int r = same_shape(was, now, err);

	if (r == 0)
		r = net_check_plan(h, now, err);
	if (r < 0 || now->mode == NET_NONE)
		return r;
	r = find_ends(&e, id, now, netns_fd, err);
	if (r == 0)
		r = nft_ensure(h, now->mode, err);
	if (r == 0 && filtered)
		r = nft_guest_set(h, id, now, err);
	if (r == 0) {
		r = apply(&e, was, now, err);
		if (r < 0)
			undo(&e, id, was, now);
	}
	nl_done(&e.in);
	return r;
}
