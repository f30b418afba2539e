/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The handle, and what the host as a whole must be set to. */
#include "netns/host.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"

const uint8_t net_gw_mac[6] = {0x02, 0x76, 0x70, 0x73, 0x00, 0x01};
const struct net_addr net_gw4 = {.family = AF_INET, .v6.s6_addr = {169, 254, 1, 1}, .len = 32};
const struct net_addr net_gw6 = {
	.family = AF_INET6, .v6.s6_addr = {0xfe, 0x80, [15] = 1}, .len = 128};

/* A tag that ends in a digit would make "a1" + 1 and "a" + 11 the same link. */
static bool tag_valid(const char *tag)
{
	size_t n = tag ? strlen(tag) : 0;

	if (n == 0 || n > NET_TAG_MAX || tag[0] < 'a' || tag[0] > 'z')
		return false;
	for (size_t i = 0; i < n; i++)
		if (!(tag[i] >= 'a' && tag[i] <= 'z') && !(tag[i] >= '0' && tag[i] <= '9') &&
		    tag[i] != '-')
			return false;
	return tag[n - 1] < '0' || tag[n - 1] > '9';
}

static int pool_check(const struct net_addr *pool, int family, struct vps_err *err)
{
	char text[NET_ADDR_STR];

	if (!pool->family)
		return 0;
	if (pool->family != family || pool->len > net_addr_bits(pool) || pool->len < 8)
		return vps_err_set(err, VPS_ECONF, "pool %s is no %s prefix",
				   net_addr_str(pool, true, text),
				   family == AF_INET ? "IPv4" : "IPv6");
	return 0;
}

/* No guest gets more than a sixteenth of the host's table unless its plan says so. */
static uint32_t default_cap(void)
{
	char buf[32];
	uint64_t max;

	/* Not there: the tracker's module is not loaded yet. Its usual size is 262,144. */
	if (fs_read_buf(AT_FDCWD, "/proc/sys/net/netfilter/nf_conntrack_max", buf, sizeof(buf)) <
		    0 ||
	    parse_u64(buf, UINT64_MAX, &max) < 0)
		max = 262144;
	max /= 16;
	return max < 4096 ? 4096 : max > 65536 ? 65536 : (uint32_t)max;
}

int net_host_open(const struct net_conf *conf, struct net_host **ret, struct vps_err *err)
{
	auto_done(net_host_closep) struct net_host *h = NULL;
	int r;

	if (!tag_valid(conf->tag))
		return vps_err_set(
			err, VPS_ECONF,
			"network tag '%s': 1 to %d of a-z, 0-9 and -, no digit at the end",
			conf->tag ? conf->tag : "", NET_TAG_MAX);
	r = pool_check(&conf->pool4, AF_INET, err);
	if (r == 0)
		r = pool_check(&conf->pool6, AF_INET6, err);
	if (r < 0)
		return r;
	h = calloc(1, sizeof(*h));
	if (!h)
		return vps_err_sys(err, -ENOMEM, "network");
	h->leases = -1;
	h->rt = (struct nl)NL_INIT;
	h->nft = (struct nl)NL_INIT;
	strcpy(h->tag, conf->tag);
	h->pool4 = conf->pool4;
	h->pool6 = conf->pool6;
	h->nat = conf->nat;
	h->ct_default = default_cap();
	h->macvlan_unfiltered = conf->macvlan_unfiltered;
	r = fs_mkdir_p(AT_FDCWD, conf->lease_dir, 0700);
	if (r == 0)
		h->leases = r = fs_open_dir(AT_FDCWD, conf->lease_dir);
	if (r < 0)
		return vps_err_sys(err, r, "open the leases in '%s'", conf->lease_dir);
	r = nl_open(&h->rt, NETLINK_ROUTE);
	if (r < 0)
		return vps_err_sys(err, r, "open rtnetlink");
	r = nl_open(&h->nft, NETLINK_NETFILTER);
	if (r == -EPROTONOSUPPORT)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "this kernel has no nfnetlink (modprobe nfnetlink nf_tables)");
	if (r < 0)
		return vps_err_sys(err, r, "open nfnetlink");
	*ret = take_ptr(h);
	return 0;
}

struct net_host *net_host_close(struct net_host *h)
{
	if (!h)
		return NULL;
	mem_closep(&h->leases);
	nl_done(&h->rt);
	nl_done(&h->nft);
	free(h);
	return NULL;
}

#define V4 "/proc/sys/net/ipv4/"
#define V6 "/proc/sys/net/ipv6/"

bool host_sysctl_is(const char *path, const char *value)
{
	char now[32];

	return fs_read_buf(AT_FDCWD, path, now, sizeof(now)) >= 0 && strcmp(now, value) == 0;
}

/* With forwarding on, the kernel forgets the routes it learned from router advertisements on
 * interfaces whose accept_ra is 1, the host's own default route among them; 2 keeps them. */
static int keep_ra_routes(void)
{
	auto_strv all = NULL;
	int r = fs_list(AT_FDCWD, V6 "conf", &all);

	for (size_t i = 0; r == 0 && all && all[i]; i++) {
		autofree char *path = str_fmt(V6 "conf/%s/accept_ra", all[i]);

		if (!path)
			return -ENOMEM;
		if (strcmp(all[i], "all") != 0 && host_sysctl_is(path, "1")) {
			r = fs_write(AT_FDCWD, path, "2");
			if (r == -ENOENT)
				r = 0; /* the interface went away */
		}
	}
	return r;
}

/* Neighbour entries made by one tenant inside its namespace count against the whole host's
 * table. Our own are permanent and exempt; the host's uplink neighbours are not. */
static void raise_neigh(const char *family)
{
	static const struct {
		const char *name;
		uint64_t least;
	} t[] = {{"gc_thresh3", 65536}, {"gc_thresh2", 32768}, {"gc_thresh1", 4096}};

	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		autofree char *path =
			str_fmt("/proc/sys/net/%s/neigh/default/%s", family, t[i].name);
		char now[32], want[32];
		uint64_t v;

		/* Not there in a network namespace that is not the first: nothing to do. */
		if (!path || fs_read_buf(AT_FDCWD, path, now, sizeof(now)) < 0 ||
		    parse_u64(now, UINT64_MAX, &v) < 0 || v >= t[i].least)
			continue;
		snprintf(want, sizeof(want), "%u", (unsigned)t[i].least);
		fs_write(AT_FDCWD, path, want);
	}
}

int host_prepare(bool v6, struct vps_err *err)
{
	int r = 0;

	if (!host_sysctl_is(V4 "ip_forward", "1"))
		r = fs_write(AT_FDCWD, V4 "ip_forward", "1");
	if (r < 0)
		return vps_err_sys(err, r, "turn on IPv4 forwarding");
	raise_neigh("ipv4");
	if (!v6)
		return 0;
	if (!fs_exists(AT_FDCWD, V6 "conf/all/forwarding"))
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "this host has no IPv6 (booted with ipv6.disable=1?)");
	if (!host_sysctl_is(V6 "conf/all/forwarding", "1")) {
		r = keep_ra_routes();
		if (r == 0)
			r = fs_write(AT_FDCWD, V6 "conf/all/forwarding", "1");
	}
	if (r < 0)
		return vps_err_sys(err, r, "turn on IPv6 forwarding");
	raise_neigh("ipv6");
	return 0;
}

static int set_link(const char *family, const char *part, const char *ifname, const char *name,
		    const char *value)
{
	autofree char *path = str_fmt("/proc/sys/net/%s/%s/%s/%s", family, part, ifname, name);
	int r;

	if (!path)
		return -ENOMEM;
	r = fs_write(AT_FDCWD, path, value);
	return r == -ENOENT ? 0 : r;
}

int host_link_sysctls(const char *ifname, bool v6, bool routed)
{
	static const char *const off[] = {"accept_ra", "accept_redirects", "autoconf"};
	int r = 0;

	/* A guest without IPv6 gets no IPv6 on its wire at all. */
	if (!v6 || !routed)
		return set_link("ipv6", "conf", ifname, "disable_ipv6", "1");
	for (size_t i = 0; i < ARRAY_LEN(off) && r == 0; i++)
		r = set_link("ipv6", "conf", ifname, off[i], "0");
	if (r == 0)
		r = set_link("ipv6", "conf", ifname, "accept_source_route", "-1");
	if (r == 0)
		r = set_link("ipv6", "conf", ifname, "disable_ipv6", "0");
	if (r == 0)
		r = set_link("ipv6", "conf", ifname, "forwarding", "1");
	return r;
}

int host_link_answer_at_once(const char *ifname)
{
	return set_link("ipv4", "neigh", ifname, "proxy_delay", "0");
}
