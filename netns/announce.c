/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest has come from another host: neighbours that still know that one are told. Routed, this host answers for
 * the guest's addresses on the links where the operator has it do so (proxy_arp, proxy_ndp), and says so there: a
 * gratuitous ARP request (RFC 5227, 3), an unsolicited neighbour advertisement (RFC 4861, 7.2.6). On a bridge the same is
 * said in the guest's name, so that switches learn its port.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if_arp.h>
#include <netinet/icmp6.h>
#include <netinet/if_ether.h>
#include <netinet/ip6.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "netns/priv.h"

#define HOPS 255 /* of neighbour discovery: it has crossed no router */

struct link { char name[IFNAMSIZ]; int index; uint8_t mac[6]; };

static bool sysctl_is_on(const char *family, const char *ifname, const char *what)
{
	autofree char *path = str_fmt("/proc/sys/net/%s/conf/%s/%s", family, ifname, what);
	char buf[16];

	return path && fs_read_buf(AT_FDCWD, path, buf, sizeof(buf)) > 0 && !str_eq(buf, "0");
}

/* -ENODEV unless it is an Ethernet that is up. */
static int look_up(const char *name, struct link *ret)
{
	autoclose int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = {0};

	if (fd < 0)
		return -errno;
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	if (ioctl(fd, SIOCGIFFLAGS, &ifr) < 0 || !(ifr.ifr_flags & IFF_UP) || (ifr.ifr_flags & IFF_LOOPBACK))
		return -ENODEV;
	if (ioctl(fd, SIOCGIFHWADDR, &ifr) < 0 || ifr.ifr_hwaddr.sa_family != ARPHRD_ETHER)
		return -ENODEV;
	memcpy(ret->mac, ifr.ifr_hwaddr.sa_data, 6);
	if (ioctl(fd, SIOCGIFINDEX, &ifr) < 0)
		return -ENODEV;
	ret->index = ifr.ifr_ifindex;
	snprintf(ret->name, sizeof(ret->name), "%s", name);
	return 0;
}

static int send_frame(const struct link *l, const void *frame, size_t len)
{
	autoclose int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = l->index, .sll_halen = 6};

	if (fd < 0)
		return -errno;
	memcpy(to.sll_addr, frame, 6);
	return sendto(fd, frame, len, 0, (struct sockaddr *)&to, sizeof(to)) == (ssize_t)len ? 0 : -errno;
}

static int say_arp(const struct link *l, const uint8_t mac[6], const struct net_addr *a)
{
	struct __attribute__((packed)) {
		struct ether_header eth;
		struct ether_arp arp;
	} f = {
		.eth.ether_type = htons(ETHERTYPE_ARP),
		.arp.ea_hdr = {htons(ARPHRD_ETHER), htons(ETHERTYPE_IP), 6, 4, htons(ARPOP_REQUEST)},
	};

	memset(f.eth.ether_dhost, 0xff, 6);
	memcpy(f.eth.ether_shost, mac, 6);
	memcpy(f.arp.arp_sha, mac, 6);
	memcpy(f.arp.arp_spa, &a->v4, 4);
	memcpy(f.arp.arp_tpa, &a->v4, 4);
	return send_frame(l, &f, sizeof(f));
}

/* RFC 4443, 2.3: over addresses, length, protocol and message. */
static uint16_t icmp6_sum(const struct ip6_hdr *ip, const void *msg, size_t len)
{
	const uint8_t *parts[] = {(const uint8_t *)&ip->ip6_src, (const uint8_t *)&ip->ip6_dst, msg};
	size_t lens[] = {16, 16, len};
	uint32_t sum = (uint32_t)len + IPPROTO_ICMPV6;

	for (size_t p = 0; p < ARRAY_LEN(parts); p++)
		for (size_t i = 0; i < lens[p]; i += 2)
			sum += (uint32_t)parts[p][i] << 8 | parts[p][i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static int say_nd(const struct link *l, const uint8_t mac[6], const struct net_addr *a)
{
	struct __attribute__((packed)) {
		struct ether_header eth;
		struct ip6_hdr ip;
		struct nd_neighbor_advert na;
		uint8_t opt[8];
	} f = {
		.eth.ether_type = htons(ETHERTYPE_IPV6),
		.ip.ip6_plen = htons(sizeof(f.na) + sizeof(f.opt)),
		.na.nd_na_type = ND_NEIGHBOR_ADVERT,
		.opt = {ND_OPT_TARGET_LINKADDR, 1},
	};
	static const uint8_t all_nodes_mac[6] = {0x33, 0x33, 0, 0, 0, 1};
	uint8_t msg[sizeof(f.na) + sizeof(f.opt)];

	memcpy(f.eth.ether_dhost, all_nodes_mac, 6);
	memcpy(f.eth.ether_shost, mac, 6);
	f.ip.ip6_vfc = 6 << 4;
	f.ip.ip6_nxt = IPPROTO_ICMPV6;
	f.ip.ip6_hlim = HOPS;
	memcpy(&f.ip.ip6_src, &a->v6, 16);
	inet_pton(AF_INET6, "ff02::1", &f.ip.ip6_dst);
	f.na.nd_na_flags_reserved = ND_NA_FLAG_OVERRIDE;
	memcpy(&f.na.nd_na_target, &a->v6, 16);
	memcpy(f.opt + 2, mac, 6);
	memcpy(msg, &f.na, sizeof(f.na));
	memcpy(msg + sizeof(f.na), f.opt, sizeof(f.opt));
	f.na.nd_na_cksum = icmp6_sum(&(struct ip6_hdr){.ip6_src = *(struct in6_addr *)&a->v6,
						       .ip6_dst = {.s6_addr = {0xff, 2, [15] = 1}}},
				     msg, sizeof(msg));
	return send_frame(l, &f, sizeof(f));
}

static int say_all(const struct link *l, const uint8_t mac[6], const struct net_plan *p, bool v4, bool v6)
{
	int n = 0;

	for (size_t i = 0; i < p->n_addrs; i++) {
		const struct net_addr *a = &p->addrs[i];
		if (a->family == AF_INET && v4)
			n += say_arp(l, mac, a) == 0;
		else if (a->family == AF_INET6 && v6)
			n += say_nd(l, mac, a) == 0;
	}
	return n;
}

int net_announce(struct net_host *h, unsigned id, const struct net_plan *p)
{
	auto_strv names = NULL;
	uint8_t mac[6];
	struct link l;
	int n = 0;

	if (p->mode == NET_BRIDGE || p->mode == NET_MACVLAN) {
		net_mac_of(h->tag, id, p, mac);
		return look_up(p->parent, &l) < 0 ? 0 : say_all(&l, mac, p, true, true);
	}
	if (p->mode != NET_ROUTED || fs_list(AT_FDCWD, "/proc/sys/net/ipv4/conf", &names) < 0)
		return 0;
	for (char **name = names; name && *name; name++) {
		bool v4 = sysctl_is_on("ipv4", *name, "proxy_arp"), v6 = sysctl_is_on("ipv6", *name, "proxy_ndp");
		unsigned guest;
		/* a guest's own link answers for everything, and needs no news */
		if ((v4 || v6) && !net_ifname_id(h->tag, *name, &guest) && look_up(*name, &l) == 0)
			n += say_all(&l, l.mac, p, v4, v6);
	}
	return n;
}
