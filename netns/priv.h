/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of this room share. */
#ifndef VPS_NETNS_PRIV_H
#define VPS_NETNS_PRIV_H

#include <errno.h>

#include "netns/netlink.h"
#include "netns/netns.h"

#define NET_TAG_MAX	8
#define NET_ADDRS_MAX	256
#define NET_PUBLISH_MAX 1024
/* 100 Gbit/s: nft's nanosecond tokens overflow above 147. */
#define NET_RATE_MAX	100000000000ull
#define NET_RATE_MIN	8000ull		/* 1 kB/s */

struct net_host {
	char tag[NET_TAG_MAX + 1];
	struct net_addr pool4, pool6;
	bool nat, macvlan_unfiltered;
	uint32_t ct_default; /* cap on tracked connections of a guest whose plan says 0 */
	int leases;	     /* directory fd */
	struct nl rt;	     /* rtnetlink of the host's namespace */
	struct nl nft;	     /* nfnetlink of the same */
	/* What today's tables must look like: hash and number of rules; 0: not computed yet. */
	uint64_t sig[3];
	unsigned rules[3];
};

/* The gateway every routed guest has. No host has 169.254.1.1 as an address; the MAC is the same
 * everywhere, so that a guest that moves keeps its neighbour entry. */
extern const uint8_t net_gw_mac[6];
extern const struct net_addr net_gw4, net_gw6;

static inline const uint8_t *net_addr_bytes(const struct net_addr *a)
{
	return (const uint8_t *)&a->v6; /* v4 and v6 start at the same place */
}
static inline unsigned net_addr_bits(const struct net_addr *a)
{
	return a->family == AF_INET ? 32 : a->family == AF_INET6 ? 128 : 0;
}
bool net_addr_zero(const struct net_addr *a);
bool net_in_prefix(const struct net_addr *a, const struct net_addr *prefix);

#define NET_HASH_INIT 0xcbf29ce484222325ull
uint64_t net_hash(uint64_t h, const void *data, size_t len); /* FNV-1a; not against an enemy */

void net_mac_of(const char *tag, unsigned id, const struct net_plan *p, uint8_t mac[6]);
void net_mac_linklocal(const uint8_t mac[6], struct in6_addr *ret); /* EUI-64 */
char *net_ifname_of(const char *tag, unsigned id, char *buf);
/* Is name a guest's link? */
bool net_ifname_id(const char *tag, const char *name, unsigned *ret);

#endif
