/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "netns/link.h"

#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <string.h>
#include <time.h>

/* Queues of a veth default to the number of CPUs at both ends: about 1 KiB each, which 2,000
 * guests on 64 CPUs would feel. veth transmits without a queue lock, so one is enough. */
#define QUEUES 1

#define OPER_UP 6 /* IF_OPER_UP of <linux/if.h>, which does not go with <net/if.h> */

struct reader {
	int (*fn)(const struct link_info *l, void *arg);
	void *arg;
};

static void read_stats(const struct nlattr *a, struct net_stats *ret)
{
	struct rtnl_link_stats64 s = {0};

	if (!a)
		return;
	memcpy(&s, nl_data(a), nl_len(a) < sizeof(s) ? nl_len(a) : sizeof(s));
	*ret = (struct net_stats){
		.rx_bytes = s.rx_bytes,
		.tx_bytes = s.tx_bytes,
		.rx_packets = s.rx_packets,
		.tx_packets = s.tx_packets,
		.rx_dropped = s.rx_dropped,
		.tx_dropped = s.tx_dropped,
	};
}

static int read_link(const struct nlmsghdr *h, void *arg)
{
	const struct reader *rd = arg;
	struct ifinfomsg ifi;
	struct link_info l = {0};

	if (h->nlmsg_type != RTM_NEWLINK || h->nlmsg_len < sizeof(*h) + sizeof(ifi))
		return 0;
	memcpy(&ifi, h + 1, sizeof(ifi));
	l.index = ifi.ifi_index;
	l.flags = ifi.ifi_flags;
	l.mtu = nl_u32(nl_find(h, sizeof(ifi), IFLA_MTU), 0);
	l.master = (int)nl_u32(nl_find(h, sizeof(ifi), IFLA_MASTER), 0);
	l.parent = (int)nl_u32(nl_find(h, sizeof(ifi), IFLA_LINK), 0);
	const struct nlattr *oper = nl_find(h, sizeof(ifi), IFLA_OPERSTATE);

	if (nl_len(oper) == 1)
		l.operstate = *(const uint8_t *)nl_data(oper);
	nl_str(nl_find(h, sizeof(ifi), IFLA_IFNAME), l.name, sizeof(l.name));
	nl_str(nl_find_in(nl_find(h, sizeof(ifi), IFLA_LINKINFO), IFLA_INFO_KIND), l.kind,
	       sizeof(l.kind));

	const struct nlattr *mac = nl_find(h, sizeof(ifi), IFLA_ADDRESS);

	if (nl_len(mac) == 6)
		memcpy(l.mac, nl_data(mac), 6);
	read_stats(nl_find(h, sizeof(ifi), IFLA_STATS64), &l.stats);
	return rd->fn(&l, rd->arg);
}

static int keep(const struct link_info *l, void *arg)
{
	*(struct link_info *)arg = *l;
	return 0;
}

static int get(struct nl *n, const char *name, int index, struct link_info *ret)
{
	struct ifinfomsg ifi = {.ifi_index = index};
	struct nlmsghdr *h = nl_begin(n, RTM_GETLINK, 0, &ifi, sizeof(ifi));
	struct link_info l = {0};
	struct reader rd = {keep, &l};

	if (name)
		nl_put_str(h, IFLA_IFNAME, name);

	int r = nl_talk(n, h, read_link, &rd);

	if (r < 0)
		return r;
	if (l.index <= 0)
		return -ENODEV;
	*ret = l;
	return 0;
}

int link_get(struct nl *n, const char *name, struct link_info *ret)
{
	return get(n, name, 0, ret);
}

int link_get_index(struct nl *n, int index, struct link_info *ret)
{
	return get(n, NULL, index, ret);
}

int link_each(struct nl *n, int (*fn)(const struct link_info *l, void *arg), void *arg)
{
	struct ifinfomsg ifi = {0};
	struct reader rd = {fn, arg};
	struct nlmsghdr *h = nl_begin(n, RTM_GETLINK, NLM_F_DUMP, &ifi, sizeof(ifi));

	nl_put_u32(h, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	return nl_talk(n, h, read_link, &rd);
}

static void put_common(struct nlmsghdr *h, const char *name, const uint8_t *mac, uint32_t mtu)
{
	nl_put_str(h, IFLA_IFNAME, name);
	nl_put(h, IFLA_ADDRESS, mac, 6);
	if (mtu)
		nl_put_u32(h, IFLA_MTU, mtu);
	nl_put_u32(h, IFLA_NUM_TX_QUEUES, QUEUES);
	nl_put_u32(h, IFLA_NUM_RX_QUEUES, QUEUES);
}

int link_add_veth(struct nl *n, const struct link_veth *v)
{
	struct ifinfomsg ifi = {0};
	struct nlmsghdr *h = nl_begin(n, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &ifi, sizeof(ifi));

	put_common(h, v->name, v->mac, v->mtu);

	struct nlattr *info = nl_nest(h, IFLA_LINKINFO);

	nl_put_str(h, IFLA_INFO_KIND, "veth");

	struct nlattr *data = nl_nest(h, IFLA_INFO_DATA);
	struct nlattr *peer = nl_nest(h, VETH_INFO_PEER);

	/* The nest starts with a bare ifinfomsg, attributes follow. */
	memcpy((char *)h + h->nlmsg_len, &ifi, sizeof(ifi));
	h->nlmsg_len += sizeof(ifi);
	put_common(h, v->peer, v->peer_mac, v->mtu);
	nl_put_u32(h, IFLA_NET_NS_FD, (uint32_t)v->peer_ns);
	if (v->peer_gso)
		nl_put_u32(h, IFLA_GSO_MAX_SIZE, v->peer_gso);
	nl_nest_end(h, peer);
	nl_nest_end(h, data);
	nl_nest_end(h, info);
	return nl_talk(n, h, NULL, NULL);
}

int link_add_macvlan(struct nl *n, int parent, int ns, const char *name, const uint8_t *mac,
		     uint32_t mtu)
{
	struct ifinfomsg ifi = {0};
	struct nlmsghdr *h = nl_begin(n, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &ifi, sizeof(ifi));

	put_common(h, name, mac, mtu);
	nl_put_u32(h, IFLA_LINK, (uint32_t)parent);
	nl_put_u32(h, IFLA_NET_NS_FD, (uint32_t)ns);

	struct nlattr *info = nl_nest(h, IFLA_LINKINFO);

	nl_put_str(h, IFLA_INFO_KIND, "macvlan");

	struct nlattr *data = nl_nest(h, IFLA_INFO_DATA);

	nl_put_u32(h, IFLA_MACVLAN_MODE, MACVLAN_MODE_PRIVATE);
	nl_nest_end(h, data);
	nl_nest_end(h, info);
	return nl_talk(n, h, NULL, NULL);
}

int link_del(struct nl *n, const char *name)
{
	struct ifinfomsg ifi = {0};
	struct nlmsghdr *h = nl_begin(n, RTM_DELLINK, 0, &ifi, sizeof(ifi));

	nl_put_str(h, IFLA_IFNAME, name);
	return nl_talk(n, h, NULL, NULL);
}

int link_up(struct nl *n, int index)
{
	struct ifinfomsg ifi = {.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};

	return nl_talk(n, nl_begin(n, RTM_NEWLINK, 0, &ifi, sizeof(ifi)), NULL, NULL);
}

void link_wait_ready(struct nl *n, int index)
{
	struct timespec ms = {.tv_nsec = 1000000};
	struct link_info l;

	for (int i = 0; i < 200; i++) {
		if (link_get_index(n, index, &l) < 0 || l.operstate == OPER_UP)
			return;
		nanosleep(&ms, NULL);
	}
}

int link_set_gso(struct nl *n, int index, uint32_t size)
{
	struct ifinfomsg ifi = {.ifi_index = index};
	struct nlmsghdr *h = nl_begin(n, RTM_NEWLINK, 0, &ifi, sizeof(ifi));

	nl_put_u32(h, IFLA_GSO_MAX_SIZE, size);
	return nl_talk(n, h, NULL, NULL);
}

static int set_port(struct nl *n, int index)
{
	struct ifinfomsg ifi = {.ifi_family = AF_BRIDGE, .ifi_index = index};
	struct nlmsghdr *h = nl_begin(n, RTM_SETLINK, 0, &ifi, sizeof(ifi));
	struct nlattr *port = nl_nest(h, IFLA_PROTINFO | NLA_F_NESTED);

	nl_put_u8(h, IFLA_BRPORT_LEARNING, 0);
	nl_put_u8(h, IFLA_BRPORT_UNICAST_FLOOD, 0);
	nl_put_u8(h, IFLA_BRPORT_GUARD, 1); /* a BPDU from here shuts the port */
	nl_put_u8(h, IFLA_BRPORT_PROTECT, 1);
	nl_nest_end(h, port);
	return nl_talk(n, h, NULL, NULL);
}

static int add_static_fdb(struct nl *n, int index, const uint8_t mac[6])
{
	struct ndmsg nd = {.ndm_family = AF_BRIDGE,
			   .ndm_ifindex = index,
			   .ndm_state = NUD_NOARP, /* static: does not age, does not move */
			   .ndm_flags = NTF_MASTER};
	struct nlmsghdr *h =
		nl_begin(n, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &nd, sizeof(nd));

	nl_put(h, NDA_LLADDR, mac, 6);
	return nl_talk(n, h, NULL, NULL);
}

int link_enslave(struct nl *n, int index, int bridge, const uint8_t mac[6])
{
	struct ifinfomsg ifi = {.ifi_index = index};
	struct nlmsghdr *h = nl_begin(n, RTM_NEWLINK, 0, &ifi, sizeof(ifi));

	nl_put_u32(h, IFLA_MASTER, (uint32_t)bridge);

	int r = nl_talk(n, h, NULL, NULL);

	if (r == 0)
		r = set_port(n, index);
	if (r == 0)
		r = add_static_fdb(n, index, mac);
	return r;
}

struct conf {
	uint16_t key;
	uint32_t value;
};

static int set_conf(struct nl *n, int index, const struct conf *c, size_t n_c)
{
	struct ifinfomsg ifi = {.ifi_index = index};
	struct nlmsghdr *h = nl_begin(n, RTM_NEWLINK, 0, &ifi, sizeof(ifi));
	struct nlattr *spec = nl_nest(h, IFLA_AF_SPEC);

	struct nlattr *inet = nl_nest(h, AF_INET);
	struct nlattr *conf = nl_nest(h, IFLA_INET_CONF);

	for (size_t i = 0; i < n_c; i++)
		nl_put_u32(h, c[i].key, c[i].value);
	nl_nest_end(h, conf);
	nl_nest_end(h, inet);

	struct nlattr *inet6 = nl_nest(h, AF_INET6);

	nl_put_u8(h, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
	nl_nest_end(h, inet6);
	nl_nest_end(h, spec);

	int r = nl_talk(n, h, NULL, NULL);

	/* A host booted with ipv6.disable=1 has no such family. */
	return r == -EAFNOSUPPORT ? 0 : r;
}

int link_set_routed(struct nl *n, int index)
{
	static const struct conf c[] = {
		{IPV4_DEVCONF_FORWARDING, 1},
		{IPV4_DEVCONF_RP_FILTER, 1}, /* a second wall against false sources */
		{IPV4_DEVCONF_PROXY_ARP, 1}, /* a guest that lost its neighbour entry asks */
		{IPV4_DEVCONF_ACCEPT_REDIRECTS, 0},
		{IPV4_DEVCONF_SECURE_REDIRECTS, 0},
		{IPV4_DEVCONF_SEND_REDIRECTS, 0},
		{IPV4_DEVCONF_ACCEPT_SOURCE_ROUTE, 0},
		{IPV4_DEVCONF_ROUTE_LOCALNET, 0},
		{IPV4_DEVCONF_BC_FORWARDING, 0},
		{IPV4_DEVCONF_ARP_NOTIFY, 0},
		{IPV4_DEVCONF_ARP_ACCEPT, 0},
	};

	return set_conf(n, index, c, sizeof(c) / sizeof(c[0]));
}
