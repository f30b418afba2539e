/* SPDX-License-Identifier: GPL-2.0-or-later */
/* eth0 as the host would set it up in a container, by plain rtnetlink(7): a few requests, once. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fs.h"
#include "netns/netns.h"
#include "runtime/guest/guest.h"

struct req {
	struct nlmsghdr h;
	union {
		struct ifinfomsg link;
		struct ifaddrmsg addr;
		struct rtmsg route;
		struct ndmsg neigh;
	};
	char attrs[128];
};

static void start(struct req *q, uint16_t type, uint16_t flags, size_t body)
{
	*q = (struct req){.h = {.nlmsg_len = NLMSG_LENGTH(body), .nlmsg_type = type,
				.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags}};
}

static void put(struct req *q, uint16_t type, const void *data, size_t len)
{
	struct rtattr *a = (struct rtattr *)((char *)q + NLMSG_ALIGN(q->h.nlmsg_len));

	a->rta_type = type;
	a->rta_len = (uint16_t)RTA_LENGTH(len);
	memcpy(RTA_DATA(a), data, len);
	q->h.nlmsg_len = NLMSG_ALIGN(q->h.nlmsg_len) + RTA_ALIGN(a->rta_len);
}

static void put_addr(struct req *q, uint16_t type, const struct net_addr *a)
{
	put(q, type, a->family == AF_INET ? (const void *)&a->v4 : (const void *)&a->v6,
	    a->family == AF_INET ? 4 : 16);
}

/* Send and wait for the kernel's word. */
static int talk(int nl, struct req *q)
{
	struct { struct nlmsghdr h; struct nlmsgerr e; char rest[512]; } ans;
	ssize_t n;

	if (send(nl, q, q->h.nlmsg_len, 0) < 0)
		return -errno;
	do
		n = recv(nl, &ans, sizeof(ans), 0);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n < NLMSG_LENGTH(sizeof(int)) || ans.h.nlmsg_type != NLMSG_ERROR ? -EPROTO
										: ans.e.error;
}

static int set_up(int nl, unsigned index, uint32_t mtu)
{
	struct req q;

	start(&q, RTM_NEWLINK, 0, sizeof(q.link));
	q.link.ifi_index = (int)index;
	q.link.ifi_flags = q.link.ifi_change = IFF_UP;
	if (mtu)
		put(&q, IFLA_MTU, &mtu, sizeof(mtu));
	return talk(nl, &q);
}

static int add_addr(int nl, unsigned index, const struct net_addr *a)
{
	struct req q;

	start(&q, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof(q.addr));
	q.addr.ifa_family = (uint8_t)a->family;
	q.addr.ifa_prefixlen = a->len;
	q.addr.ifa_index = index;
	/* nobody else can have it: the host saw to that */
	q.addr.ifa_flags = a->family == AF_INET6 ? IFA_F_NODAD : 0;
	put_addr(&q, IFA_LOCAL, a);
	put_addr(&q, IFA_ADDRESS, a);
	return talk(nl, &q);
}

/* -EADDRNOTAVAIL: it is not there. */
static int del_addr(int nl, unsigned index, const struct net_addr *a)
{
	struct req q;

	start(&q, RTM_DELADDR, 0, sizeof(q.addr));
	q.addr.ifa_family = (uint8_t)a->family;
	q.addr.ifa_prefixlen = a->len;
	q.addr.ifa_index = index;
	put_addr(&q, IFA_LOCAL, a);
	return talk(nl, &q);
}

static int add_neigh(int nl, unsigned index, const struct net_addr *a, const uint8_t mac[6])
{
	struct req q;

	start(&q, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, sizeof(q.neigh));
	q.neigh.ndm_family = (uint8_t)a->family;
	q.neigh.ndm_ifindex = (int)index;
	q.neigh.ndm_state = NUD_PERMANENT;
	put_addr(&q, NDA_DST, a);
	put(&q, NDA_LLADDR, mac, 6);
	return talk(nl, &q);
}

static int add_default(int nl, unsigned index, const struct net_addr *gw, const struct net_addr *src)
{
	uint32_t oif = index;
	struct req q;

	start(&q, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, sizeof(q.route));
	q.route = (struct rtmsg){.rtm_family = (uint8_t)gw->family, .rtm_table = RT_TABLE_MAIN,
				 .rtm_protocol = RTPROT_STATIC, .rtm_scope = RT_SCOPE_UNIVERSE,
				 .rtm_type = RTN_UNICAST, .rtm_flags = RTNH_F_ONLINK};
	put(&q, RTA_OIF, &oif, sizeof(oif));
	put_addr(&q, RTA_GATEWAY, gw);
	if (src)
		put_addr(&q, RTA_PREFSRC, src);
	return talk(nl, &q);
}

static int parse_mac(const char *s, uint8_t mac[6])
{
	unsigned b[6];
	int n = 0;

	if (sscanf(s, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &n) != 6 ||
	    s[n])
		return -EINVAL;
	for (int i = 0; i < 6; i++)
		mac[i] = (uint8_t)b[i];
	return 0;
}

/* ---- the one card -------------------------------------------------------------- */

static int gateway(int nl, unsigned index, const char *text, const char *mac_text,
		   const struct net_addr *src, struct vps_err *err)
{
	struct net_addr gw;
	uint8_t mac[6];
	int r = net_addr_parse(text, &gw);

	if (r >= 0 && mac_text) {
		r = parse_mac(mac_text, mac);
		r = r < 0 ? r : add_neigh(nl, index, &gw, mac);
	}
	if (r >= 0)
		r = add_default(nl, index, &gw, src && src->family == gw.family ? src : NULL);
	return r < 0 ? vps_err_sys(err, r, "gateway %s", text) : 0;
}

/* Nothing but what the host gave: no address by router advertisements. */
static void ipv6_static(void)
{
	static const char *const off[] = {"accept_ra", "autoconf"};
	char path[64];

	for (size_t i = 0; i < ARRAY_LEN(off); i++) {
		snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/eth0/%s", off[i]);
		fs_write(AT_FDCWD, path, "0"); /* a kernel without IPv6 has no such file */
	}
}

static int addresses(const struct guest_cfg *c, int nl, unsigned index, struct vps_err *err)
{
	struct net_addr a, first[2] = {0};
	const char *gws[2] = {c->gw4, c->gw6};
	int r = 0;

	for (char **t = c->addrs; t && *t && r >= 0; t++) {
		r = net_addr_parse(*t, &a);
		r = r < 0 ? r : add_addr(nl, index, &a);
		if (r < 0)
			return vps_err_sys(err, r, "address %s", *t);
		if (!first[a.family == AF_INET6].family)
			first[a.family == AF_INET6] = a;
	}
	for (int i = 0; i < 2 && r >= 0; i++)
		if (gws[i] && *gws[i])
			r = gateway(nl, index, gws[i], c->gw_mac,
				    first[i].family ? &first[i] : NULL, err);
	return r;
}

int links_up(const struct guest_cfg *c, struct vps_err *err)
{
	autoclose int nl = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	unsigned index;
	int r = nl < 0 ? -errno : set_up(nl, if_nametoindex("lo"), 0);

	if (r < 0)
		return vps_err_sys(err, r, "bring up lo");
	if (!c->nic)
		return 0;
	index = if_nametoindex("eth0");
	if (!index)
		return vps_err_set(err, ENODEV, "there is no network card");
	if (c->addrs)
		ipv6_static();
	r = set_up(nl, index, c->mtu);
	return r < 0 ? vps_err_sys(err, r, "bring up eth0") : addresses(c, nl, index, err);
}

/* First what is new: a guest that has the old address and the new one loses nothing in between. */
int links_change(const struct guest_cfg *c, struct vps_err *err)
{
	autoclose int nl = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	unsigned index = if_nametoindex("eth0");
	struct net_addr a;
	int r = nl < 0 ? vps_err_sys(err, -errno, "netlink") : 0;

	if (r == 0 && !index)
		r = vps_err_set(err, ENODEV, "there is no network card");
	r = r ?: addresses(c, nl, index, err);
	for (char **t = c->old_addrs; t && *t && r == 0; t++) {
		r = net_addr_parse(*t, &a);
		r = r < 0 ? r : del_addr(nl, index, &a);
		r = r == -EADDRNOTAVAIL ? 0 : r; /* the tenant was first */
		if (r < 0)
			vps_err_sys(err, r, "address %s", *t);
	}
	return r;
}
