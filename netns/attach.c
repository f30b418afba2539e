/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "netns/attach.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "netns/host.h"
#include "netns/nft.h"

static struct net_addr whole(const struct net_addr *a)
{
	struct net_addr w = *a;

	w.len = (uint8_t)net_addr_bits(a);
	return w;
}

static const char *family_name(const struct net_addr *a, char *buf)
{
	return net_addr_str(a, false, buf);
}

int ends_add_addr(struct ends *e, const struct net_addr *a, struct vps_err *err)
{
	struct net_addr w = whole(a);
	struct route to = {.dst = w, .oif = e->host};
	char text[NET_ADDR_STR];
	int r = route_add(&e->h->rt, &to);

	family_name(a, text);
	if (r == -EEXIST)
		return vps_err_set(err, VPS_EEXISTS, "this host already has a route to %s", text);
	if (r < 0)
		return nl_fail(&e->h->rt, err, r, "route %s to '%s'", text, e->ifname);
	r = neigh_set(&e->h->rt, e->host, &w, e->mac);
	if (r < 0)
		return nl_fail(&e->h->rt, err, r, "neighbour %s on '%s'", text, e->ifname);
	if (e->machine)
		return 0;
	r = addr_add(&e->in, e->guest, &w, false);
	if (r < 0)
		return nl_fail(&e->in, err, r, "address %s inside", text);
	return 0;
}

void ends_del_addr(struct ends *e, const struct net_addr *a)
{
	struct net_addr w = whole(a);
	struct route to = {.dst = w, .oif = e->host};

	if (!e->machine)
		addr_del(&e->in, e->guest, &w);
	route_del(&e->h->rt, &to);
	neigh_del(&e->h->rt, e->host, &w);
}

static const struct net_addr *first(const struct net_plan *p, int family)
{
	for (size_t i = 0; i < p->n_addrs; i++)
		if (p->addrs[i].family == family)
			return &p->addrs[i];
	return NULL;
}

static int default_route(struct ends *e, const struct net_addr *gw, const struct net_addr *src,
			 struct vps_err *err)
{
	struct route r = {
		.dst = {.family = gw->family}, .via = *gw, .oif = e->guest, .onlink = true};
	char text[NET_ADDR_STR];
	int rc;

	if (src)
		r.src = *src;
	rc = route_replace(&e->in, &r);
	if (rc < 0)
		return nl_fail(&e->in, err, rc, "default route by %s inside",
			       family_name(gw, text));
	return 0;
}

int ends_set_routes(struct ends *e, const struct net_plan *p, struct vps_err *err)
{
	const struct net_addr *gws[2] = {&net_gw4, &net_gw6};
	int r = 0;

	for (int i = 0; i < 2 && r == 0 && !e->machine; i++) {
		const struct net_addr *src = first(p, gws[i]->family);

		if (!src)
			continue;
		r = neigh_set(&e->in, e->guest, gws[i], net_gw_mac);
		if (r < 0)
			return nl_fail(&e->in, err, r, "the gateway's neighbour entry inside");
		r = default_route(e, gws[i], src, err);
	}
	return r;
}

int ends_set_rate(struct ends *e, uint64_t rate_in, struct vps_err *err)
{
	struct link_info l;
	int r = link_get_index(&e->h->rt, e->host, &l);

	if (r == 0)
		r = rate_set(&e->h->rt, e->host, rate_in, l.mtu);
	if (r == -ENOENT)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "this kernel cannot limit a rate (modprobe sch_tbf)");
	if (r < 0)
		return nl_fail(&e->h->rt, err, r, "rate limit on '%s'", e->ifname);
	return 0;
}

int ends_set_ipv6(struct ends *e, bool on, struct vps_err *err)
{
	int r = host_link_sysctls(e->ifname, on, true);

	if (r < 0)
		return vps_err_sys(err, r, "IPv6 settings of '%s'", e->ifname);
	if (!on)
		return 0;
	/* /128 without a prefix route: 2,000 guests would make one fe80::/64 list of 2,000 routes.
	 */
	r = addr_add(&e->h->rt, e->host, &net_gw6, false);
	if (r < 0)
		return nl_fail(&e->h->rt, err, r, "address fe80::1 on '%s'", e->ifname);
	return 0;
}

uint32_t plan_gso(const struct net_plan *p)
{
	uint64_t piece = p->rate_out / 8 / 200; /* 5 ms */

	if (!p->rate_out || piece > 65536)
		return 65536;
	return piece < 3000 ? 3000 : (uint32_t)piece;
}

/* The MTU of the way to the internet. Addresses of documentation: only the routing table is asked.
 */
static uint32_t uplink_mtu(struct net_host *h)
{
	static const struct net_addr far[2] = {
		{.family = AF_INET, .v6.s6_addr = {192, 0, 2, 1}, .len = 32},
		{.family = AF_INET6, .v6.s6_addr = {0x20, 1, 0x0d, 0xb8, [15] = 1}, .len = 128}};
	uint32_t mtu = 0;

	for (int i = 0; i < 2; i++) {
		struct link_info l;
		uint8_t type;
		int oif;

		if (route_lookup(&h->rt, &far[i], &type, &oif) == 0 && oif > 1 &&
		    link_get_index(&h->rt, oif, &l) == 0 && (!mtu || l.mtu < mtu))
			mtu = l.mtu;
	}
	return mtu >= 1280 && mtu <= 65535 ? mtu : 1500;
}

uint32_t net_mtu(struct net_host *h, const struct net_plan *p)
{
	struct link_info l;

	if (p->mtu)
		return p->mtu;
	if (p->mode == NET_ROUTED)
		return uplink_mtu(h);
	if (p->mode == NET_NONE || link_get(&h->rt, p->parent, &l) < 0)
		return 1500;
	return l.mtu;
}

void net_gateway(struct net_addr *ret4, struct net_addr *ret6, uint8_t mac[6])
{
	*ret4 = net_gw4;
	*ret6 = net_gw6;
	memcpy(mac, net_gw_mac, 6);
}

static int find_guest_end(struct ends *e, const struct net_plan *p, struct vps_err *err)
{
	struct link_info l;
	int r = link_get(&e->in, p->guest_if, &l);

	if (r < 0)
		return nl_fail(&e->in, err, r, "find '%s' inside", p->guest_if);
	e->guest = l.index;
	return 0;
}

static int make_veth(struct ends *e, const struct net_plan *p, int netns_fd, uint32_t mtu,
		     struct vps_err *err)
{
	uint8_t port_mac[6];
	struct link_veth v = {
		.name = e->ifname,
		.peer = p->guest_if,
		.peer_ns = netns_fd,
		.mac = net_gw_mac,
		.peer_mac = e->mac,
		.mtu = mtu,
		.peer_gso = p->rate_out ? plan_gso(p) : 0,
	};
	struct link_info l;
	int r;

	if (p->mode == NET_BRIDGE) {
		/* High, as a bridge takes the lowest address of its ports for its own. */
		memcpy(port_mac, e->mac, 6);
		port_mac[0] = 0xfe;
		v.mac = port_mac;
	}
	r = link_add_veth(&e->h->rt, &v);
	if (r < 0)
		return nl_fail(&e->h->rt, err, r, "make link '%s' with '%s' inside", e->ifname,
			       p->guest_if);
	r = link_get(&e->h->rt, e->ifname, &l);
	if (r < 0)
		return nl_fail(&e->h->rt, err, r, "find link '%s'", e->ifname);
	e->host = l.index;
	e->guest = l.parent; /* a veth's is its peer */
	return 0;
}

static int bring_up(struct nl *n, int index, const char *name, struct vps_err *err)
{
	int r = link_up(n, index);

	return r < 0 ? nl_fail(n, err, r, "bring up '%s'", name) : 0;
}

/* The guest's end: of a machine, joined to its card before anything can pass. */
static int bring_up_guest(struct ends *e, const struct net_plan *p, struct vps_err *err)
{
	int r = e->machine ? tap_join(&e->in, e->guest, p->tap, err) : 0;

	return r ?: bring_up(&e->in, e->guest, p->guest_if, err);
}

static int attach_routed(struct ends *e, const struct net_plan *p, int netns_fd,
			 struct vps_err *err)
{
	int r = make_veth(e, p, netns_fd, net_mtu(e->h, p), err);

	if (r < 0)
		return r;
	r = link_set_routed(&e->h->rt, e->host);
	if (r == 0)
		r = host_link_answer_at_once(e->ifname);
	if (r < 0)
		return nl_fail(&e->h->rt, err, r, "settings of '%s'", e->ifname);
	r = ends_set_ipv6(e, plan_has(p, AF_INET6), err);
	if (r == 0 && p->rate_in)
		r = ends_set_rate(e, p->rate_in, err);
	if (r == 0)
		r = bring_up(&e->h->rt, e->host, e->ifname, err);
	if (r == 0)
		r = bring_up_guest(e, p, err);
	for (size_t i = 0; i < p->n_addrs && r == 0; i++)
		r = ends_add_addr(e, &p->addrs[i], err);
	if (r == 0)
		r = ends_set_routes(e, p, err);
	if (r == 0)
		link_wait_ready(&e->h->rt, e->host);
	return r;
}

static int own_addrs(struct ends *e, const struct net_plan *p, struct vps_err *err)
{
	char text[NET_ADDR_STR];
	int r = 0;

	if (e->machine)
		return 0;
	for (size_t i = 0; i < p->n_addrs; i++) {
		r = addr_add(&e->in, e->guest, &p->addrs[i], true);
		if (r < 0)
			return nl_fail(&e->in, err, r, "address %s inside",
				       net_addr_str(&p->addrs[i], true, text));
	}
	if (p->gw4.family)
		r = default_route(e, &p->gw4, first(p, AF_INET), err);
	if (r == 0 && p->gw6.family)
		r = default_route(e, &p->gw6, first(p, AF_INET6), err);
	return r;
}

static int attach_bridge(struct ends *e, const struct net_plan *p, int netns_fd,
			 struct vps_err *err)
{
	struct link_info br;
	int r = link_get(&e->h->rt, p->parent, &br);

	if (r < 0)
		return nl_fail(&e->h->rt, err, r, "find bridge '%s'", p->parent);
	r = make_veth(e, p, netns_fd, p->mtu ? p->mtu : br.mtu, err);
	if (r < 0)
		return r;
	r = host_link_sysctls(e->ifname, false, false);
	if (r < 0)
		return vps_err_sys(err, r, "settings of '%s'", e->ifname);
	r = link_enslave(&e->h->rt, e->host, br.index, e->mac);
	if (r < 0)
		return nl_fail(&e->h->rt, err, r, "make '%s' a port of '%s'", e->ifname, p->parent);
	if (p->rate_in)
		r = ends_set_rate(e, p->rate_in, err);
	if (r == 0)
		r = bring_up(&e->h->rt, e->host, e->ifname, err);
	if (r == 0)
		r = bring_up_guest(e, p, err);
	if (r == 0)
		r = own_addrs(e, p, err);
	if (r == 0)
		link_wait_ready(&e->h->rt, e->host);
	return r;
}

static int attach_macvlan(struct ends *e, const struct net_plan *p, int netns_fd,
			  struct vps_err *err)
{
	struct link_info parent;
	int r = link_get(&e->h->rt, p->parent, &parent);

	if (r == 0)
		r = link_add_macvlan(&e->h->rt, parent.index, netns_fd, p->guest_if, e->mac,
				     p->mtu ? p->mtu : parent.mtu);
	if (r < 0)
		return nl_fail(&e->h->rt, err, r, "make a macvlan on '%s'", p->parent);
	r = find_guest_end(e, p, err);
	if (r == 0)
		r = bring_up_guest(e, p, err);
	if (r == 0)
		r = own_addrs(e, p, err);
	return r;
}

static int attach_link(struct ends *e, const struct net_plan *p, int netns_fd, struct vps_err *err)
{
	if (p->mode == NET_ROUTED)
		return attach_routed(e, p, netns_fd, err);
	if (p->mode == NET_BRIDGE)
		return attach_bridge(e, p, netns_fd, err);
	if (p->mode == NET_MACVLAN)
		return attach_macvlan(e, p, netns_fd, err);
	return 0;
}

static int id_check(struct net_host *h, unsigned id, struct vps_err *err)
{
	char name[64];

	if (snprintf(name, sizeof(name), "%s%u", h->tag, id) >= IFNAMSIZ)
		return vps_err_set(err, VPS_EUSAGE, "interface name '%s' is longer than %d", name,
				   IFNAMSIZ - 1);
	return 0;
}

static int firewall_first(struct net_host *h, unsigned id, const struct net_plan *p,
			  struct vps_err *err)
{
	int r = 0;

	if (p->mode == NET_ROUTED)
		r = host_prepare(plan_has(p, AF_INET6), err);
	if (r == 0)
		r = nft_ensure(h, p->mode, err);
	if (r == 0 && (p->mode == NET_ROUTED || p->mode == NET_BRIDGE))
		r = nft_guest_set(h, id, p, err);
	return r;
}

int net_attach(struct net_host *h, unsigned id, const struct net_plan *p, int netns_fd,
	       struct vps_err *err)
{
	struct ends e = {.h = h, .in = NL_INIT, .machine = *p->tap};
	int r = id_check(h, id, err);

	if (r == 0)
		r = net_check_plan(h, p, err);
	if (r < 0)
		return r;
	net_ifname(h, id, e.ifname);
	net_mac_of(h->tag, id, p, e.mac);
	r = net_detach(h, id, err); /* leftovers */
	if (r < 0)
		return r;
	r = nl_open_in(&e.in, NETLINK_ROUTE, netns_fd);
	if (r < 0)
		return vps_err_sys(err, r, "enter the VPS's network namespace");
	r = bring_up(&e.in, 1, "lo", err);
	if (r == 0)
		r = firewall_first(h, id, p, err);
	if (r == 0)
		r = attach_link(&e, p, netns_fd, err);
	if (r < 0) {
		if (p->mode == NET_MACVLAN)
			link_del(&e.in, p->guest_if);
		detach(h, id, false, NULL);
	}
	nl_done(&e.in);
	return r;
}

int net_detach(struct net_host *h, unsigned id, struct vps_err *err)
{
	return detach(h, id, true, err);
}

int detach(struct net_host *h, unsigned id, bool forget, struct vps_err *err)
{
	auto_done(net_plan_done) struct net_plan was = {0};
	char name[IFNAMSIZ];
	int r = id_check(h, id, err), known;

	if (r < 0)
		return r;
	/* The link first: without it nothing can be sent past rules that are not there. */
	r = link_del(&h->rt, net_ifname(h, id, name));
	if (r < 0 && r != -ENODEV)
		return nl_fail(&h->rt, err, r, "remove link '%s'", name);
	known = nft_record(h, id, &was);
	if (known == 0)
		return 0;
	if (known > 0 && forget)
		track_forget(h, was.addrs, was.n_addrs);
	return nft_guest_set(h, id, NULL, err);
}

int net_stats(struct net_host *h, unsigned id, struct net_stats *ret)
{
	char name[IFNAMSIZ];
	struct link_info l;
	int r = link_get(&h->rt, net_ifname(h, id, name), &l);

	if (r < 0)
		return r;
	*ret = (struct net_stats){
		.rx_bytes = l.stats.tx_bytes,
		.tx_bytes = l.stats.rx_bytes,
		.rx_packets = l.stats.tx_packets,
		.tx_packets = l.stats.rx_packets,
		.rx_dropped = l.stats.tx_dropped,
		.tx_dropped = l.stats.rx_dropped,
	};
	return 0;
}
