/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Can this plan be done, and done safely? */
#include "netns/attach.h"

#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>

#include "netns/nft.h"

static bool ifname_valid(const char *s)
{
	size_t n = strnlen(s, IFNAMSIZ);

	if (n == 0 || n >= IFNAMSIZ || strcmp(s, "lo") == 0 || strcmp(s, ".") == 0 ||
	    strcmp(s, "..") == 0)
		return false;
	for (size_t i = 0; i < n; i++)
		if (s[i] <= ' ' || s[i] > '~' || s[i] == '/' || s[i] == ':' || s[i] == '%')
			return false;
	return true;
}

bool plan_has(const struct net_plan *p, int family)
{
	for (size_t i = 0; i < p->n_addrs; i++)
		if (p->addrs[i].family == family)
			return true;
	return false;
}

/* An address that one machine can have and the world can answer to. */
static bool unicast(const struct net_addr *a)
{
	const uint8_t *b = net_addr_bytes(a);

	if (a->family == AF_INET)
		return b[0] != 0 && b[0] != 127 && b[0] < 224 && !(b[0] == 169 && b[1] == 254);
	return a->family == AF_INET6 && !IN6_IS_ADDR_UNSPECIFIED(&a->v6) &&
	       !IN6_IS_ADDR_LOOPBACK(&a->v6) && !IN6_IS_ADDR_MULTICAST(&a->v6) &&
	       !IN6_IS_ADDR_LINKLOCAL(&a->v6) && !IN6_IS_ADDR_V4MAPPED(&a->v6);
}

static int check_addrs(const struct net_plan *p, struct vps_err *err)
{
	char text[NET_ADDR_STR];

	if (p->n_addrs > NET_ADDRS_MAX)
		return vps_err_set(err, VPS_EUSAGE, "more than %d addresses", NET_ADDRS_MAX);
	for (size_t i = 0; i < p->n_addrs; i++) {
		const struct net_addr *a = &p->addrs[i];

		if (!unicast(a) || a->len > net_addr_bits(a))
			return vps_err_set(err, VPS_EUSAGE, "%s is no address for a VPS",
					   net_addr_str(a, false, text));
		for (size_t k = 0; k < i; k++)
			if (net_addr_eq(a, &p->addrs[k]))
				return vps_err_set(err, VPS_EUSAGE, "address %s is there twice",
						   net_addr_str(a, false, text));
	}
	return 0;
}

static int check_publish(const struct net_plan *p, struct vps_err *err)
{
	if (p->n_publish && p->mode != NET_ROUTED)
		return vps_err_set(
			err, VPS_EUNSUPPORTED,
			"publishing ports needs the routed network: elsewhere the VPS is "
			"on the wire with its own address");
	if (p->n_publish > NET_PUBLISH_MAX)
		return vps_err_set(err, VPS_EUSAGE, "more than %d published ports",
				   NET_PUBLISH_MAX);
	for (size_t i = 0; i < p->n_publish; i++) {
		const struct net_publish *x = &p->publish[i];

		if ((x->proto != IPPROTO_TCP && x->proto != IPPROTO_UDP) || !x->host_port ||
		    !x->guest_port)
			return vps_err_set(err, VPS_EUSAGE,
					   "a published port is tcp or udp, 1 to 65535");
		if (x->host.family ? !plan_has(p, x->host.family) : p->n_addrs == 0)
			return vps_err_set(err, VPS_EUSAGE,
					   "port %u cannot be published: the VPS has no address of "
					   "that family",
					   x->host_port);
		for (size_t k = 0; k < i; k++)
			if (p->publish[k].proto == x->proto &&
			    p->publish[k].host_port == x->host_port &&
			    (p->publish[k].host.family == x->host.family &&
			     net_addr_eq(&p->publish[k].host, &x->host)))
				return vps_err_set(err, VPS_EUSAGE, "port %u is published twice",
						   x->host_port);
	}
	return 0;
}

static int check_numbers(const struct net_plan *p, struct vps_err *err)
{
	if ((p->rate_in && (p->rate_in < NET_RATE_MIN || p->rate_in > NET_RATE_MAX)) ||
	    (p->rate_out && (p->rate_out < NET_RATE_MIN || p->rate_out > NET_RATE_MAX)))
		return vps_err_set(err, VPS_EUSAGE, "a rate is 8 kbit/s to 100 Gbit/s");
	if (p->pps > 1000000000)
		return vps_err_set(err, VPS_EUSAGE, "a packet rate is at most 1,000,000,000");
	if (p->mtu && (p->mtu < (plan_has(p, AF_INET6) ? 1280u : 576u) || p->mtu > 65535))
		return vps_err_set(err, VPS_EUSAGE, "mtu is 576 (with IPv6: 1280) to 65535");
	if (p->mac[0] & 1)
		return vps_err_set(err, VPS_EUSAGE, "a multicast MAC address cannot be a VPS's");
	if (p->conntrack_max && p->conntrack_max < 64)
		return vps_err_set(err, VPS_EUSAGE, "a cap on connections is at least 64");
	if (p->mode == NET_BRIDGE && p->conntrack_max)
		return vps_err_set(
			err, VPS_EUNSUPPORTED,
			"the host does not track connections on a bridge: no cap possible");
	if (p->mode == NET_MACVLAN && (p->conntrack_max || p->pps || p->rate_in || p->rate_out))
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "macvlan frames do not pass the host: no rate, packet rate or "
				   "connection cap possible (use routed or bridge)");
	return 0;
}

static int check_parent(struct net_host *h, const struct net_plan *p, struct vps_err *err)
{
	struct link_info l;
	int r;

	if (p->mode != NET_BRIDGE && p->mode != NET_MACVLAN)
		return 0;
	/* A tenant's root makes frames of any sender and, on top of its macvlan, further macvlans:
	 * no hook of the host's can tell these frames from the host's own. */
	if (p->mode == NET_MACVLAN && !h->macvlan_unfiltered)
		return vps_err_set(
			err, VPS_EUNSUPPORTED,
			"macvlan cannot keep a VPS from forging its MAC and IP address; use "
			"the routed network or a bridge (vps.conf can allow macvlan for "
			"tenants you trust)");
	if (!ifname_valid(p->parent))
		return vps_err_set(err, VPS_EUSAGE, "bad name of the %s",
				   p->mode == NET_BRIDGE ? "bridge" : "parent interface");
	r = link_get(&h->rt, p->parent, &l);
	if (r == -ENODEV)
		return vps_err_set(err, VPS_EUNSUPPORTED, "there is no interface '%s'", p->parent);
	if (r < 0)
		return nl_fail(&h->rt, err, r, "look at '%s'", p->parent);
	if (p->mode == NET_BRIDGE && strcmp(l.kind, "bridge") != 0)
		return vps_err_set(err, VPS_EUNSUPPORTED, "'%s' is not a Linux bridge", p->parent);
	return 0;
}

/* A route to the host's own address would take it away from the host. */
static int check_host_addrs(struct net_host *h, const struct net_plan *p, struct vps_err *err)
{
	char text[NET_ADDR_STR];

	for (size_t i = 0; i < p->n_addrs && p->mode != NET_NONE; i++) {
		uint8_t type = 0;
		int oif;

		if (route_lookup(&h->rt, &p->addrs[i], &type, &oif) == 0 &&
		    (type == RTN_LOCAL || type == RTN_BROADCAST))
			return vps_err_set(err, VPS_EEXISTS, "%s is an address of the host itself",
					   net_addr_str(&p->addrs[i], false, text));
	}
	return 0;
}

int net_check_plan(struct net_host *h, const struct net_plan *p, struct vps_err *err)
{
	uint32_t gen;
	int r;

	if (p->mode > NET_MACVLAN)
		return vps_err_set(err, VPS_EUSAGE, "unknown kind of network");
	if (p->mode == NET_NONE)
		return 0;
	if (!ifname_valid(p->guest_if))
		return vps_err_set(err, VPS_EUSAGE, "bad name of the interface inside");
	r = check_addrs(p, err);
	if (r == 0)
		r = check_publish(p, err);
	if (r == 0)
		r = check_numbers(p, err);
	if (r == 0)
		r = check_parent(h, p, err);
	if (r == 0)
		r = check_host_addrs(h, p, err);
	if (r < 0)
		return r;
	r = nft_generation(h, &gen);
	if (r < 0)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "this kernel has no nf_tables (%s); modprobe nf_tables",
				   vps_code_str(r));
	return 0;
}
