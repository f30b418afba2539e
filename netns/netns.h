/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The network of one numbered guest: link, addresses, firewall, rates. This room knows
 * nothing of VPSes: it is given an id, a plan and a network namespace fd.
 *
 * Routed (default): a veth pair; the host side `<tag><id>` has no address of the guest's
 * subnet, a /32 (/128) host route leads to each guest address, the guest's default route is the
 * link-local 169.254.1.1 / fe80::1 (static neighbour both ways). No bridge: no port wall, no shared
 * broadcast domain, and no neighbour to spoof.
 *
 * Firewall: one nftables table `inet <tag>` plus `arp`/`bridge` where needed, written through
 * libnftnl in one atomic batch a change; sets and maps are keyed by interface and address,
 * so that the number of rules does not grow with the number of guests.
 */
#ifndef VPS_NETNS_H
#define VPS_NETNS_H

#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

enum net_mode { NET_NONE, NET_ROUTED, NET_BRIDGE, NET_MACVLAN };

struct net_addr { /* family AF_INET or AF_INET6 */
	int family;
	union {
		struct in_addr v4;
		struct in6_addr v6;
	};
	uint8_t len; /* prefix length; routed: 32/128 on the wire, whatever is shown */
};
#define NET_ADDR_STR 50
/* "10.0.0.5", "10.0.0.5/24", "fd00::5/64"; without a length 32 or 128. 0 or -EINVAL. */
int net_addr_parse(const char *s, struct net_addr *ret);
/* with_len: append "/len". Returns buf of at least NET_ADDR_STR. */
char *net_addr_str(const struct net_addr *a, bool with_len, char *buf);
bool net_addr_eq(const struct net_addr *a, const struct net_addr *b); /* address only */

struct net_publish {	      /* host port -> guest port */
	struct net_addr host; /* family 0: any */
	uint16_t host_port, guest_port;
	uint8_t proto; /* IPPROTO_TCP or IPPROTO_UDP */
};

struct net_plan {
	enum net_mode mode;
	char parent[IFNAMSIZ];	 /* bridge or macvlan parent */
	char guest_if[IFNAMSIZ]; /* "eth0" */
	/* "", or the guest is a machine: its card is the tap of this name, which net_tap_make has made
	 * in the namespace. guest_if is joined to it and has no addresses: the guest sets its own. */
	char tap[IFNAMSIZ];
	uint8_t mac[6]; /* of the guest; all zero: derived from tag and id (locally administered) */
	uint32_t mtu;	/* 0: the uplink's or 1500 */
	struct net_addr *addrs;
	size_t n_addrs;
	struct net_addr gw4, gw6;   /* bridge/macvlan only; family 0: none */
	uint64_t rate_in, rate_out; /* bits a second towards / from the guest; 0: no limit */
	uint64_t pps;		    /* packets a second from the guest; 0: no limit */
	/* Tracked connections, both directions; rounded down to 1 or 1.5 times a power of two, 64
	 * to 1 Mi. 0: the host's default, a sixteenth of nf_conntrack_max, 4,096 to 65,536. */
	uint32_t conntrack_max;
	struct net_publish *publish;
	size_t n_publish;
};
void net_plan_done(struct net_plan *p);

struct net_conf {		      /* from vps.conf */
	const char *tag;	      /* interface prefix and table name */
	struct net_addr pool4, pool6; /* prefixes for --ip auto; family 0: none */
	bool nat;	       /* masquerade pool sources leaving by a non-guest interface */
	const char *lease_dir;	      /* <root>/leases, made when missing */
	/* Allow NET_MACVLAN, which no host can filter: a tenant's root forges any sender there. */
	bool macvlan_unfiltered;
};

struct net_host;
int net_host_open(const struct net_conf *conf, struct net_host **ret, struct vps_err *err);
struct net_host *net_host_close(struct net_host *h);
static inline void net_host_closep(struct net_host **h)
{
	*h = net_host_close(*h);
}

/* Can this host do what the plan asks for? Parent interface there, nftables there, rates possible.
 * -VPS_EUNSUPPORTED / -VPS_EUSAGE with words. */
int net_check_plan(struct net_host *h, const struct net_plan *p, struct vps_err *err);

/* Leases: who has which address and which published host port. A lease is a symlink
 * <lease_dir>/<address> or <lease_dir>/<proto>-<port>[-<hostaddr>] -> <id>, made atomically, so
 * that racing commands cannot both have it. want.family with an all-zero address: the first free
 * one of the pool, starting at pool + id. -VPS_EEXISTS (with the holder's id) or -VPS_ERESOURCE.
 * Network, broadcast and gateway addresses of a pool are never given. */
int net_lease_addr(struct net_host *h, unsigned id, const struct net_addr *want,
		   struct net_addr *ret, struct vps_err *err);
int net_lease_ports(struct net_host *h, unsigned id, const struct net_publish *pub, size_t n,
		    struct vps_err *err);
int net_unlease_addr(struct net_host *h, unsigned id, const struct net_addr *a);
int net_unlease_port(struct net_host *h, unsigned id, const struct net_publish *p);
/* All of id's. */
int net_unlease_all(struct net_host *h, unsigned id, struct vps_err *err);

/* The MAC address a guest has whose plan names none. On a bridge that other hosts share, give each
 * VPS one of its own in the plan: tag and id are not unique there. Returns mac. Pure. */
uint8_t *net_mac_derive(const char *tag, unsigned id, uint8_t mac[6]);

/* As net_attach will have it: of the plan, else of the bridge or parent, else of the way out. */
uint32_t net_mtu(struct net_host *h, const struct net_plan *p);
/* What a routed guest's default routes lead to, and its MAC address: a machine sets them itself. */
void net_gateway(struct net_addr *ret4, struct net_addr *ret6, uint8_t mac[6]);

/* A tap in a network namespace, for the VMM; it goes with the last user of its fd, which is
 * returned: non-blocking, with struct virtio_net_hdr in front of each packet. -VPS_EUNSUPPORTED. */
int net_tap_make(int netns_fd, const char *name, struct vps_err *err);

/* Name of the host side, for id. Returns buf of IFNAMSIZ. */
char *net_ifname(const struct net_host *h, unsigned id, char *buf);

/* Give the namespace its network, in this order: table there (made or healed when missing), id's
 * elements in, veth made with the peer born inside the namespace, addresses, routes, rates, then
 * both ends up. lo is brought up in every mode. With NET_NONE only lo. Leftovers of the same id are
 * removed first. On failure all of it is undone. */
int net_attach(struct net_host *h, unsigned id, const struct net_plan *p, int netns_fd,
	       struct vps_err *err);
/* Change a running one to the new plan (addresses, rates, pps, ports, conntrack; not the mode).
 * netns_fd as before. One nft batch; on failure the old state is back. */
int net_update(struct net_host *h, unsigned id, const struct net_plan *was,
	       const struct net_plan *now, int netns_fd, struct vps_err *err);
/* id has come from another host and is attached: tell who still knows that one, by gratuitous ARP and unsolicited neighbour
 * advertisements on the links where this host answers for others (proxy_arp, proxy_ndp), or on its bridge. How many were
 * sent: nobody waits for an answer. */
int net_announce(struct net_host *h, unsigned id, const struct net_plan *p);
/* Remove link, routes and elements. Missing parts are fine. Works without the plan: by id. */
int net_detach(struct net_host *h, unsigned id, struct vps_err *err);

/* Let no packet pass to or from it, or let them pass again: while it is being checkpointed or restored, whoever is
 * on the other side of a connection shall see a slow network and nothing else. Lost packets come again. Its link
 * need not be there yet. Without effect on NET_MACVLAN and NET_NONE, which no host can hold up. net_detach does not
 * end it. */
int net_hold(struct net_host *h, unsigned id, const struct net_plan *p, bool held,
	     struct vps_err *err);

struct net_stats { /* from the guest's side of view */
	uint64_t rx_bytes, tx_bytes, rx_packets, tx_packets, rx_dropped, tx_dropped;
};
int net_stats(struct net_host *h, unsigned id, struct net_stats *ret);

/* host check / host gc. fn is called for each finding: id (0: the host as a whole), what is wrong,
 * in words. live: ids of guests that run now, sorted. fix: repair (rebuild the table from plans
 * through get_plan, remove links, elements, leases of ids that are not there). defined: ids that
 * exist. */
struct net_audit {
	const unsigned *live, *defined;
	size_t n_live, n_defined;
	bool fix;
	/* help: NULL where fix mends it, else what the operator may do */
	void (*found)(void *arg, unsigned id, const char *what, const char *help, bool fixed);
	/* fills the plan of a live guest; called only with fix, or to compare */
	int (*get_plan)(void *arg, unsigned id, struct net_plan *ret, struct vps_err *err);
	/* May be NULL. True: id came to life or into being after the lists were made, or a command
	 * holds its lock right now (try the lock): leave everything of it alone. Asked before
	 * anything is removed. */
	bool (*busy)(void *arg, unsigned id);
	void *arg;
};
int net_audit(struct net_host *h, const struct net_audit *a, struct vps_err *err);

#endif
