/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between check.c, attach.c, update.c. */
#ifndef VPS_NETNS_ATTACH_H
#define VPS_NETNS_ATTACH_H

#include "netns/link.h"

bool plan_has(const struct net_plan *p, int family);

/* Both ends of one guest's link. */
struct ends {
	struct net_host *h;
	struct nl in;	 /* rtnetlink inside the guest's namespace */
	int host, guest; /* interface indices */
	bool machine;	 /* addresses and routes inside are the guest's own business */
	char ifname[IFNAMSIZ];
	uint8_t mac[6];
};

/* One address of a routed guest, at both ends. */
int ends_add_addr(struct ends *e, const struct net_addr *a, struct vps_err *err);
void ends_del_addr(struct ends *e, const struct net_addr *a);
/* The guest's default routes and gateway neighbours for the families it has. */
int ends_set_routes(struct ends *e, const struct net_plan *p, struct vps_err *err);
int ends_set_rate(struct ends *e, uint64_t rate_in, struct vps_err *err);
/* The host's end has IPv6 exactly when the guest has. */
int ends_set_ipv6(struct ends *e, bool on, struct vps_err *err);
/* Largest piece the guest hands over at once, for a rate that is policed; 65536: as ever. */
uint32_t plan_gso(const struct net_plan *p);

/* net_detach; forget: tracked connections of its addresses as well. Not when undoing an attach: the
 * address may turn out to be another guest's. */
int detach(struct net_host *h, unsigned id, bool forget, struct vps_err *err);
/* Forget tracked connections of these addresses: the next owner must not get their answers. */
void track_forget(struct net_host *h, const struct net_addr *addrs, size_t n);

#endif
