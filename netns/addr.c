/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Addresses, routes, neighbours. */
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "netns/link.h"

static size_t bytes(const struct net_addr *a)
{
	return net_addr_bits(a) / 8;
}

static struct nlmsghdr *addr_msg(struct nl *n, uint16_t type, uint16_t flags, int index,
				 const struct net_addr *a)
{
	struct ifaddrmsg m = {
		.ifa_family = (uint8_t)a->family,
		.ifa_prefixlen = a->len,
		.ifa_index = (uint32_t)index,
		.ifa_scope = a->family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&a->v6)
				     ? RT_SCOPE_LINK
				     : RT_SCOPE_UNIVERSE,
	};
	struct nlmsghdr *h = nl_begin(n, type, flags, &m, sizeof(m));

	nl_put(h, IFA_LOCAL, net_addr_bytes(a), bytes(a));
	return h;
}

int addr_add(struct nl *n, int index, const struct net_addr *a, bool prefix_route)
{
	struct nlmsghdr *h = addr_msg(n, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, index, a);
	uint32_t flags = prefix_route ? 0 : IFA_F_NOPREFIXROUTE;

	nl_put(h, IFA_ADDRESS, net_addr_bytes(a), bytes(a));
	if (a->family == AF_INET6)
		flags |= IFA_F_NODAD; /* ours by lease: usable at once */
	if (a->family == AF_INET && a->len < 31) {
		struct in_addr bcast = a->v4;

		bcast.s_addr |= htonl(a->len ? 0xffffffffu >> a->len : 0xffffffffu);
		nl_put(h, IFA_BROADCAST, &bcast, sizeof(bcast));
	}
	nl_put_u32(h, IFA_FLAGS, flags | IFA_F_PERMANENT);
	return nl_talk(n, h, NULL, NULL);
}

int addr_del(struct nl *n, int index, const struct net_addr *a)
{
	return nl_talk(n, addr_msg(n, RTM_DELADDR, 0, index, a), NULL, NULL);
}

static struct nlmsghdr *route_msg(struct nl *n, uint16_t type, uint16_t flags,
				  const struct route *r)
{
	bool direct = !r->via.family;
	struct rtmsg m = {
		.rtm_family = (uint8_t)r->dst.family,
		.rtm_dst_len = r->dst.len,
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = RTPROT_STATIC,
		.rtm_scope = direct && r->dst.family == AF_INET ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE,
		.rtm_type = RTN_UNICAST,
		.rtm_flags = r->onlink ? RTNH_F_ONLINK : 0,
	};
	struct nlmsghdr *h = nl_begin(n, type, flags, &m, sizeof(m));

	if (r->dst.len)
		nl_put(h, RTA_DST, net_addr_bytes(&r->dst), bytes(&r->dst));
	if (!direct)
		nl_put(h, RTA_GATEWAY, net_addr_bytes(&r->via), bytes(&r->via));
	if (r->src.family)
		nl_put(h, RTA_PREFSRC, net_addr_bytes(&r->src), bytes(&r->src));
	nl_put_u32(h, RTA_OIF, (uint32_t)r->oif);
	return h;
}

int route_add(struct nl *n, const struct route *r)
{
	return nl_talk(n, route_msg(n, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, r), NULL, NULL);
}

int route_replace(struct nl *n, const struct route *r)
{
	return nl_talk(n, route_msg(n, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, r), NULL, NULL);
}

int route_del(struct nl *n, const struct route *r)
{
	return nl_talk(n, route_msg(n, RTM_DELROUTE, 0, r), NULL, NULL);
}

struct lookup {
	uint8_t type;
	int oif;
};

static int read_route(const struct nlmsghdr *h, void *arg)
{
	struct lookup *l = arg;
	struct rtmsg m;

	if (h->nlmsg_type != RTM_NEWROUTE || h->nlmsg_len < sizeof(*h) + sizeof(m))
		return 0;
	memcpy(&m, h + 1, sizeof(m));
	l->type = m.rtm_type;
	l->oif = (int)nl_u32(nl_find(h, sizeof(m), RTA_OIF), 0);

	/* Several next hops: the first one's interface will do. */
	const struct nlattr *multi = nl_find(h, sizeof(m), RTA_MULTIPATH);
	struct rtnexthop hop;

	if (!l->oif && nl_len(multi) >= sizeof(hop)) {
		memcpy(&hop, nl_data(multi), sizeof(hop));
		l->oif = hop.rtnh_ifindex;
	}
	return 0;
}

int route_lookup(struct nl *n, const struct net_addr *a, uint8_t *ret_type, int *ret_oif)
{
	/* The entry, not a ready route: for that the kernel would choose a source address, and look
	 * at every link for one. */
	struct rtmsg m = {.rtm_family = (uint8_t)a->family,
			  .rtm_dst_len = (uint8_t)net_addr_bits(a),
			  .rtm_flags = RTM_F_FIB_MATCH};
	struct nlmsghdr *h = nl_begin(n, RTM_GETROUTE, 0, &m, sizeof(m));
	struct lookup l = {0};

	nl_put(h, RTA_DST, net_addr_bytes(a), bytes(a));

	int r = nl_talk(n, h, read_route, &l);

	if (r < 0)
		return r;
	*ret_type = l.type;
	*ret_oif = l.oif;
	return 0;
}

static struct nlmsghdr *neigh_msg(struct nl *n, uint16_t type, uint16_t flags, int index,
				  const struct net_addr *a)
{
	struct ndmsg m = {
		.ndm_family = (uint8_t)a->family, .ndm_ifindex = index, .ndm_state = NUD_PERMANENT};
	struct nlmsghdr *h = nl_begin(n, type, flags, &m, sizeof(m));

	nl_put(h, NDA_DST, net_addr_bytes(a), bytes(a));
	return h;
}

int neigh_set(struct nl *n, int index, const struct net_addr *a, const uint8_t mac[6])
{
	struct nlmsghdr *h = neigh_msg(n, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, index, a);

	nl_put(h, NDA_LLADDR, mac, 6);
	return nl_talk(n, h, NULL, NULL);
}

int neigh_del(struct nl *n, int index, const struct net_addr *a)
{
	return nl_talk(n, neigh_msg(n, RTM_DELNEIGH, 0, index, a), NULL, NULL);
}
