// SPDX-License-Identifier: GPL-2.0-or-later
/* Addresses and host ports of a definition: taken before the definition that names them is written,
 * given back after one that does not is. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "runtime/internal.h"
#include "runtime/spec_fields.h"

static bool pool_is_set(const char *pool)
{
	return pool && *pool && !str_eq(pool, "none");
}

/* What an operator who says nothing gets: an address of each pool. */
int lease_default_ips(struct vps_host *h, struct vps_spec *s)
{
	int r = 0;

	if (s->ips || (s->net && !str_eq(s->net, "routed")))
		return 0;
	if (pool_is_set(h->conf.pool4))
		r = strv_add(&s->ips, "auto");
	if (r == 0 && pool_is_set(h->conf.pool6) && fs_exists(AT_FDCWD, "/proc/sys/net/ipv6"))
		r = strv_add(&s->ips, "auto6");
	if (r == 0 && !s->ips)
		r = strv_add(&s->ips, "none");
	return r;
}

static bool is_auto(const char *ip)
{
	return str_eq(ip, "auto") || str_eq(ip, "auto6");
}

/* The address that the same wish got before: an automatic one by its place among its kind, so that
 * adding or taking away another leaves it alone. */
static const char *kept_addr(const struct vps_spec *was, char *const *ips, size_t i)
{
	size_t nth = 0, seen = 0;

	if (!was || !was->ips || strv_len(was->ips) != strv_len(was->addrs))
		return NULL;
	for (size_t k = 0; k < i; k++)
		nth += str_eq(ips[k], ips[i]);
	for (size_t k = 0; was->ips[k]; k++)
		if (str_eq(was->ips[k], ips[i]) && (!is_auto(ips[i]) || seen++ == nth))
			return was->addrs[k];
	return NULL;
}

static int lease_one(struct net_host *net, unsigned id, const char *ip, char ***addrs,
		     struct vps_err *err)
{
	char text[NET_ADDR_STR];
	struct net_addr want = {0}, got;
	int r = 0;

	if (is_auto(ip))
		want.family = str_eq(ip, "auto") ? AF_INET : AF_INET6;
	else
		r = net_addr_parse(ip, &want);
	if (r < 0)
		return vps_err_sys(err, r, "address '%s'", ip);
	r = net_lease_addr(net, id, &want, &got, err);
	if (r < 0)
		return r;
	/* the length that was asked for stays: it is what the inside sees */
	if (!is_auto(ip))
		got.len = want.len;
	net_addr_str(&got, true, text);
	r = strv_add(addrs, text);
	return r < 0 ? vps_err_sys(err, r, "address") : 0;
}

static void unlease_missing(struct net_host *net, unsigned id, const struct vps_spec *have,
			    const struct vps_spec *keep)
{
	for (char **a = have ? have->addrs : NULL; a && *a; a++) {
		struct net_addr addr;
		bool found = false;
		if (net_addr_parse(*a, &addr) < 0)
			continue;
		for (char **k = keep ? keep->addrs : NULL; k && *k && !found; k++) {
			struct net_addr kept;
			found = net_addr_parse(*k, &kept) == 0 && net_addr_eq(&addr, &kept);
		}
		if (!found)
			net_unlease_addr(net, id, &addr);
	}
	for (char **p = have ? have->publish : NULL; p && *p; p++) {
		struct net_publish pub;
		if (!(keep && keep->publish && strv_has(keep->publish, *p)) &&
		    spec_publish_parse(*p, &pub) == 0)
			net_unlease_port(net, id, &pub);
	}
}

static int lease_addrs(struct net_host *net, const struct vps_spec *was, struct vps_spec *now,
		       struct vps_err *err)
{
	now->addrs = strv_free(now->addrs);
	for (size_t i = 0; now->ips && now->ips[i]; i++) {
		const char *kept = kept_addr(was, now->ips, i);
		int r;
		if (str_eq(now->ips[i], "none"))
			continue;
		if (kept) {
			r = strv_add(&now->addrs, kept);
			if (r < 0)
				r = vps_err_sys(err, r, "address");
		} else {
			r = lease_one(net, now->id, now->ips[i], &now->addrs, err);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

static int lease_ports(struct net_host *net, const struct vps_spec *was, const struct vps_spec *now,
		       struct vps_err *err)
{
	for (char **p = now->publish; p && *p; p++) {
		struct net_publish pub;
		int r;
		if (was && was->publish && strv_has(was->publish, *p))
			continue;
		r = spec_publish_parse(*p, &pub);
		r = r < 0 ? vps_err_sys(err, r, "publish '%s'", *p)
			  : net_lease_ports(net, now->id, &pub, 1, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int lease_take(struct vps_host *h, const struct vps_spec *was, struct vps_spec *now,
	       struct vps_err *err)
{
	struct net_host *net;
	int r = host_net(h, &net, err);

	if (r < 0)
		return r;
	r = lease_addrs(net, was, now, err);
	r = r ?: lease_ports(net, was, now, err);
	if (r < 0)
		unlease_missing(net, now->id, now, was);
	return r;
}

void lease_give_back(struct vps_host *h, const struct vps_spec *have, const struct vps_spec *keep)
{
	struct net_host *net;

	if (host_net(h, &net, NULL) == 0)
		unlease_missing(net, have->id, have, keep);
}
