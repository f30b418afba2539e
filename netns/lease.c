/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Leases: symbolic links in one directory, name: what is leased, target: whose it is. symlink(2)
 * either makes the link or says EEXIST, so two commands cannot both have one. Taking ports and
 * giving back happens under a lock besides, because "any address" and "this address" of one port
 * are two names.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fs.h"
#include "base/lock.h"
#include "base/str.h"
#include "netns/lease.h"

#define LOCK	     ".lock"
#define LOCK_WAIT_MS 10000
/* A pool is searched this far; a full /16 and more. */
#define SEARCH_MAX 1000000u

/* Holder of a lease: 1 and *ret, 0 none, -errno. */
static int holder(struct net_host *h, const char *name, unsigned *ret)
{
	char buf[24];
	uint64_t id;
	ssize_t n = readlinkat(h->leases, name, buf, sizeof(buf) - 1);

	if (n < 0)
		return errno == ENOENT ? 0 : -errno;
	buf[n] = '\0';
	if (parse_u64(buf, UINT32_MAX, &id) < 0)
		return -EBADMSG;
	*ret = (unsigned)id;
	return 1;
}

/* 1: id has it now; 0: somebody else has it (*ret_holder). */
static int take(struct net_host *h, unsigned id, const char *name, unsigned *ret_holder)
{
	char target[16];

	snprintf(target, sizeof(target), "%u", id);
	for (int tries = 0; tries < 10; tries++) {
		if (symlinkat(target, h->leases, name) == 0)
			return 1;
		if (errno != EEXIST)
			return -errno;

		int r = holder(h, name, ret_holder);

		if (r < 0)
			return r;
		if (r == 1)
			return *ret_holder == id;
	}
	return -EAGAIN;
}

static int give_back(struct net_host *h, unsigned id, const char *name)
{
	unsigned who;
	int r = holder(h, name, &who);

	if (r <= 0)
		return r;
	if (who != id)
		return -EPERM;
	return unlinkat(h->leases, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

static int sync_leases(struct net_host *h)
{
	return fs_sync_dir(h->leases, ".");
}

static int lock_leases(struct net_host *h, struct vps_err *err)
{
	int fd = lock_take(h->leases, LOCK, true, LOCK_WAIT_MS);

	if (fd == -EWOULDBLOCK)
		return vps_err_set(err, VPS_ELOCKED, "another command holds the lock on addresses");
	if (fd < 0)
		return vps_err_sys(err, fd, "lock the leases");
	return fd;
}

/* The pool's address number i; false when the pool is not that large. */
static bool nth(const struct net_addr *pool, uint64_t i, struct net_addr *ret)
{
	unsigned host_bits = net_addr_bits(pool) - pool->len;
	uint8_t *b;

	if (host_bits < 64 && i >> host_bits)
		return false;
	*ret = *pool;
	ret->len = (uint8_t)net_addr_bits(pool);
	b = pool->family == AF_INET ? (uint8_t *)&ret->v4 : ret->v6.s6_addr;
	for (unsigned k = 0; k < host_bits; k++) {
		unsigned bit = net_addr_bits(pool) - 1 - k;

		if (k < 64 && (i >> k) & 1)
			b[bit / 8] |= (uint8_t)(0x80 >> (bit % 8));
		else
			b[bit / 8] &= (uint8_t) ~(0x80 >> (bit % 8));
	}
	return true;
}

/* Network, gateway (the first host), and for IPv4 broadcast. Pools of one or two addresses have
 * none. */
static bool reserved(const struct net_addr *pool, const struct net_addr *a)
{
	unsigned host_bits = net_addr_bits(pool) - pool->len;
	struct net_addr x;

	if (host_bits < 2 || !net_in_prefix(a, pool))
		return false;
	if ((nth(pool, 0, &x) && net_addr_eq(&x, a)) || (nth(pool, 1, &x) && net_addr_eq(&x, a)))
		return true;
	return pool->family == AF_INET && nth(pool, (1ull << host_bits) - 1, &x) &&
	       net_addr_eq(&x, a);
}

static const struct net_addr *pool_of(const struct net_host *h, int family)
{
	const struct net_addr *p = family == AF_INET ? &h->pool4 : &h->pool6;

	return p->family ? p : NULL;
}

static int lease_first(struct net_host *h, unsigned id, int family, struct net_addr *ret,
		       struct vps_err *err)
{
	const struct net_addr *pool = pool_of(h, family);
	const char *what = family == AF_INET ? "IPv4" : "IPv6";
	unsigned host_bits;
	char target[16];
	uint64_t size;

	if (!pool)
		return vps_err_set(err, VPS_ERESOURCE,
				   "no pool of %s addresses is set up (pool%c in vps.conf)", what,
				   family == AF_INET ? '4' : '6');
	host_bits = net_addr_bits(pool) - pool->len;
	size = host_bits >= 32 ? 1ull << 32 : 1ull << host_bits;
	for (uint64_t i = 0; i < size && i < SEARCH_MAX; i++) {
		char name[NET_ADDR_STR];
		struct net_addr a;

		if (!nth(pool, (id + i) % size, &a) || reserved(pool, &a))
			continue;

		snprintf(target, sizeof(target), "%u", id);
		/* Not take(): what id has already is not free. */
		if (symlinkat(target, h->leases, net_addr_str(&a, false, name)) < 0) {
			if (errno == EEXIST)
				continue;
			return vps_err_sys(err, -errno, "lease %s", name);
		}

		int r = sync_leases(h);

		if (r < 0)
			return vps_err_sys(err, r, "lease %s", name);
		*ret = a;
		return 0;
	}

	char text[NET_ADDR_STR];

	return vps_err_set(err, VPS_ERESOURCE, "all addresses of the pool %s are taken",
			   net_addr_str(pool, true, text));
}

int net_lease_addr(struct net_host *h, unsigned id, const struct net_addr *want,
		   struct net_addr *ret, struct vps_err *err)
{
	char name[NET_ADDR_STR];
	const struct net_addr *pool;
	unsigned who = 0;
	int r;

	if (want->family != AF_INET && want->family != AF_INET6)
		return vps_err_set(err, VPS_EUSAGE, "address of an unknown family");
	if (net_addr_zero(want))
		return lease_first(h, id, want->family, ret, err);
	net_addr_str(want, false, name);
	pool = pool_of(h, want->family);
	if (pool && reserved(pool, want))
		return vps_err_set(err, VPS_EUSAGE,
				   "%s is the pool's network, gateway or broadcast address", name);
	r = take(h, id, name, &who);
	if (r == 0)
		return vps_err_set(err, VPS_EEXISTS, "address %s is taken by VPS %u", name, who);
	if (r == 1)
		r = sync_leases(h);
	if (r < 0)
		return vps_err_sys(err, r, "lease %s", name);
	*ret = *want;
	return 0;
}

#define PORT_NAME (NET_ADDR_STR + 16)

static char *port_name(const struct net_publish *p, bool any, char *buf)
{
	char addr[NET_ADDR_STR];
	const char *proto = p->proto == IPPROTO_UDP ? "udp" : "tcp";

	if (any || !p->host.family || net_addr_zero(&p->host))
		snprintf(buf, PORT_NAME, "%s-%u", proto, p->host_port);
	else
		snprintf(buf, PORT_NAME, "%s-%u-%s", proto, p->host_port,
			 net_addr_str(&p->host, false, addr));
	return buf;
}

/* Somebody else who holds the port on an address that p's includes: 1 and *ret. */
static int find_overlap(struct net_host *h, unsigned id, const struct net_publish *p, unsigned *ret)
{
	char name[PORT_NAME], any[PORT_NAME + 1];
	auto_strv all = NULL;
	int r;

	port_name(p, false, name);
	port_name(p, true, any);
	if (strcmp(name, any) != 0) {
		r = holder(h, any, ret);
		return r == 1 ? *ret != id : r;
	}
	strcat(any, "-");
	r = fs_list(h->leases, ".", &all);
	for (size_t i = 0; r == 0 && all && all[i]; i++)
		if (str_starts(all[i], any)) {
			r = holder(h, all[i], ret);
			r = r == 1 ? *ret != id : r;
		}
	return r;
}

/* Does a program of the host's own listen there? It would be cut off (port 22!). */
static bool host_listens(const struct net_publish *p)
{
	int families[2] = {AF_INET6, AF_INET}, one = 1;
	bool busy = false;

	for (int i = 0; i < 2 && !busy; i++) {
		struct sockaddr_in6 a6 = {.sin6_family = AF_INET6,
					  .sin6_port = htons(p->host_port)};
		struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_port = htons(p->host_port)};

		if (p->host.family && p->host.family != families[i])
			continue;
		if (p->host.family == AF_INET)
			a4.sin_addr = p->host.v4;
		if (p->host.family == AF_INET6)
			a6.sin6_addr = p->host.v6;

		autoclose int fd = socket(
			families[i],
			(p->proto == IPPROTO_UDP ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);

		if (fd < 0)
			continue;
		if (p->proto == IPPROTO_TCP) /* old connections in TIME_WAIT do not count */
			setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (families[i] == AF_INET6)
			setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
		busy = bind(fd,
			    families[i] == AF_INET ? (struct sockaddr *)&a4
						   : (struct sockaddr *)&a6,
			    families[i] == AF_INET ? sizeof(a4) : sizeof(a6)) < 0 &&
		       errno == EADDRINUSE;
	}
	return busy;
}

/* 1: new, 0: id's already. */
static int lease_port(struct net_host *h, unsigned id, const struct net_publish *p,
		      struct vps_err *err)
{
	const char *proto = p->proto == IPPROTO_UDP ? "udp" : "tcp";
	char name[PORT_NAME];
	unsigned who = 0;
	int r;

	if ((p->proto != IPPROTO_TCP && p->proto != IPPROTO_UDP) || !p->host_port || !p->guest_port)
		return vps_err_set(err, VPS_EUSAGE, "a published port is tcp or udp, 1 to 65535");
	port_name(p, false, name);
	r = holder(h, name, &who);
	if (r == 1 && who == id)
		return 0;
	if (r == 0)
		r = find_overlap(h, id, p, &who);
	if (r == 1)
		return vps_err_set(err, VPS_EEXISTS, "port %u/%s is taken by VPS %u", p->host_port,
				   proto, who);
	if (r == 0 && host_listens(p))
		return vps_err_set(err, VPS_EEXISTS,
				   "port %u/%s is in use by a program of the host itself",
				   p->host_port, proto);
	if (r == 0)
		r = take(h, id, name, &who);
	return r < 0 ? vps_err_sys(err, r, "lease port %u/%s", p->host_port, proto) : r;
}

int net_lease_ports(struct net_host *h, unsigned id, const struct net_publish *pub, size_t n,
		    struct vps_err *err)
{
	autofree bool *fresh = calloc(n + 1, sizeof(*fresh));
	autoclose int lock = -1;
	int r = 0;

	if (n == 0)
		return 0;
	if (!fresh)
		return vps_err_sys(err, -ENOMEM, "lease ports");
	lock = lock_leases(h, err);
	if (lock < 0)
		return lock;
	for (size_t i = 0; i < n && r >= 0; i++) {
		r = lease_port(h, id, &pub[i], err);
		fresh[i] = r == 1;
	}
	if (r >= 0) {
		r = sync_leases(h);
		if (r < 0)
			vps_err_sys(err, r, "lease ports");
	}
	if (r >= 0)
		return 0;
	for (size_t i = 0; i < n; i++) { /* all or none */
		char name[PORT_NAME];

		if (fresh[i])
			give_back(h, id, port_name(&pub[i], false, name));
	}
	return r;
}

int net_unlease_addr(struct net_host *h, unsigned id, const struct net_addr *a)
{
	char name[NET_ADDR_STR];
	int r = give_back(h, id, net_addr_str(a, false, name));

	return r < 0 ? r : sync_leases(h);
}

int net_unlease_port(struct net_host *h, unsigned id, const struct net_publish *p)
{
	char name[PORT_NAME];
	int r = give_back(h, id, port_name(p, false, name));

	return r < 0 ? r : sync_leases(h);
}

int lease_each(struct net_host *h, int (*fn)(const char *name, unsigned id, void *arg), void *arg)
{
	auto_strv all = NULL;
	int r = fs_list(h->leases, ".", &all);

	for (size_t i = 0; r == 0 && all && all[i]; i++) {
		unsigned id;

		if (all[i][0] == '.')
			continue;
		r = holder(h, all[i], &id);
		if (r == 1)
			r = fn(all[i], id, arg);
		else if (r == -EINVAL || r == -EBADMSG)
			r = 0; /* not a lease */
	}
	return r;
}

int lease_drop(struct net_host *h, const char *name, unsigned id)
{
	int r = give_back(h, id, name);

	return r < 0 ? r : sync_leases(h);
}

struct all_of {
	struct net_host *h;
	unsigned id;
};

static int drop_if(const char *name, unsigned id, void *arg)
{
	struct all_of *a = arg;

	return id == a->id ? give_back(a->h, id, name) : 0;
}

int net_unlease_all(struct net_host *h, unsigned id, struct vps_err *err)
{
	struct all_of a = {h, id};
	int r = lease_each(h, drop_if, &a);

	if (r == 0)
		r = sync_leases(h);
	return r < 0 ? vps_err_sys(err, r, "give back the leases of VPS %u", id) : 0;
}
