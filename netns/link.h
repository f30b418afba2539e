/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Links, addresses, routes, neighbours and queues over one rtnetlink socket. Every function returns
 * 0 or -errno; the kernel's words are in n->ext. See rtnetlink(7). */
#ifndef VPS_NETNS_LINK_H
#define VPS_NETNS_LINK_H

#include "netns/priv.h"

struct link_info {
	int index, master, parent;
	unsigned flags;
	uint32_t mtu;
	uint8_t mac[6], operstate; /* IF_OPER_* */
	char name[IFNAMSIZ], kind[16];
	struct net_stats stats; /* as the kernel counts: rx is what the host received */
};
int link_get(struct nl *n, const char *name, struct link_info *ret); /* -ENODEV */
int link_get_index(struct nl *n, int index, struct link_info *ret);
/* All links; fn's negative result stops. */
int link_each(struct nl *n, int (*fn)(const struct link_info *l, void *arg), void *arg);

struct link_veth {
	const char *name, *peer;
	int peer_ns;
	const uint8_t *mac, *peer_mac;
	uint32_t mtu;
	uint32_t
		peer_gso; /* largest packet that the peer hands over in one piece; 0: the default */
};
/* Both ends down. The peer is born in its namespace: it never exists in ours. */
int link_add_veth(struct nl *n, const struct link_veth *v);
/* A macvlan in private mode, born in ns. */
int link_add_macvlan(struct nl *n, int parent, int ns, const char *name, const uint8_t *mac,
		     uint32_t mtu);
int link_del(struct nl *n, const char *name); /* -ENODEV */
int link_up(struct nl *n, int index);
/* Wait (200 ms at most) until the kernel has seen that both ends of a veth are up: before, the end
 * that came up first drops what it should send. */
void link_wait_ready(struct nl *n, int index);
int link_set_gso(struct nl *n, int index, uint32_t size);
/* Port of a bridge that learns nothing from the guest: its one MAC address is a static entry. */
int link_enslave(struct nl *n, int index, int bridge, const uint8_t mac[6]);
/* Host side of a routed pair: no address of its own, forwarding, strict source check, proxy ARP. */
int link_set_routed(struct nl *n, int index);

int addr_add(struct nl *n, int index, const struct net_addr *a, bool prefix_route);
int addr_del(struct nl *n, int index, const struct net_addr *a);

struct route {
	struct net_addr dst; /* len 0: default route */
	struct net_addr via; /* family 0: none */
	struct net_addr src; /* preferred source; family 0: none */
	int oif;
	bool onlink;
};
int route_add(struct nl *n, const struct route *r); /* -EEXIST */
int route_replace(struct nl *n, const struct route *r);
int route_del(struct nl *n, const struct route *r);
/* Where a packet to a would go: type RTN_*, interface; -ENETUNREACH. */
int route_lookup(struct nl *n, const struct net_addr *a, uint8_t *ret_type, int *ret_oif);

/* Permanent neighbour entries: exempt from the table's limits (since Linux 5.0) and never
 * relearned. */
int neigh_set(struct nl *n, int index, const struct net_addr *a, const uint8_t mac[6]);
int neigh_del(struct nl *n, int index, const struct net_addr *a);

/* Join a tap in the namespace to the guest's end of the link; that end must not be up yet. */
int tap_join(struct nl *in, int guest, const char *tap, struct vps_err *err);

/* Shape what leaves by a link to bits a second (tc-tbf(8)); 0: no shaping. */
int rate_set(struct nl *n, int index, uint64_t bits, uint32_t mtu);

#endif
