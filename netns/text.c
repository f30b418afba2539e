/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Addresses and names as text; everything here is pure. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "netns/priv.h"

int net_addr_parse(const char *s, struct net_addr *ret)
{
	char host[INET6_ADDRSTRLEN];
	const char *slash = strchr(s, '/');
	size_t n = slash ? (size_t)(slash - s) : strlen(s);
	struct net_addr a = {0};
	uint64_t len;

	if (n == 0 || n >= sizeof(host))
		return -EINVAL;
	memcpy(host, s, n);
	host[n] = '\0';
	if (inet_pton(AF_INET, host, &a.v4) == 1) {
		a.family = AF_INET;
	} else if (inet_pton(AF_INET6, host, &a.v6) == 1) {
		/* ::ffff:10.0.0.5 would be a second spelling of an IPv4 address. */
		if (IN6_IS_ADDR_V4MAPPED(&a.v6) || IN6_IS_ADDR_V4COMPAT(&a.v6))
			if (!IN6_IS_ADDR_UNSPECIFIED(&a.v6) && !IN6_IS_ADDR_LOOPBACK(&a.v6))
				return -EINVAL;
		a.family = AF_INET6;
	} else {
		return -EINVAL;
	}
	len = net_addr_bits(&a);
	if (slash && parse_u64(slash + 1, len, &len) < 0)
		return -EINVAL;
	a.len = (uint8_t)len;
	*ret = a;
	return 0;
}

char *net_addr_str(const struct net_addr *a, bool with_len, char *buf)
{
	if (a->family != AF_INET && a->family != AF_INET6) {
		strcpy(buf, "-");
		return buf;
	}
	inet_ntop(a->family, net_addr_bytes(a), buf, INET6_ADDRSTRLEN);
	if (with_len) {
		size_t n = strlen(buf);

		snprintf(buf + n, NET_ADDR_STR - n, "/%u", a->len);
	}
	return buf;
}

bool net_addr_eq(const struct net_addr *a, const struct net_addr *b)
{
	return a->family == b->family &&
	       memcmp(net_addr_bytes(a), net_addr_bytes(b), net_addr_bits(a) / 8) == 0;
}

bool net_addr_zero(const struct net_addr *a)
{
	static const uint8_t none[16];

	return memcmp(net_addr_bytes(a), none, net_addr_bits(a) / 8) == 0;
}

void net_plan_done(struct net_plan *p)
{
	if (!p)
		return;
	free(p->addrs);
	free(p->publish);
	*p = (struct net_plan){0};
}

uint64_t net_hash(uint64_t h, const void *data, size_t len)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * 0x100000001b3ull;
	return h;
}

uint8_t *net_mac_derive(const char *tag, unsigned id, uint8_t mac[6])
{
	uint64_t h = net_hash(NET_HASH_INIT, tag, strlen(tag));

	mac[0] = 0x02; /* locally administered, unicast */
	mac[1] = (uint8_t)h;
	mac[2] = (uint8_t)(h >> 8);
	mac[3] = (uint8_t)(id >> 16) ^ (uint8_t)(id >> 24);
	mac[4] = (uint8_t)(id >> 8);
	mac[5] = (uint8_t)id;
	return mac;
}

void net_mac_of(const char *tag, unsigned id, const struct net_plan *p, uint8_t mac[6])
{
	static const uint8_t none[6];

	if (memcmp(p->mac, none, 6) == 0)
		net_mac_derive(tag, id, mac);
	else
		memcpy(mac, p->mac, 6);
}

void net_mac_linklocal(const uint8_t mac[6], struct in6_addr *ret)
{
	*ret = (struct in6_addr){.s6_addr = {0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1],
					     mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]}};
}

bool net_in_prefix(const struct net_addr *a, const struct net_addr *prefix)
{
	const uint8_t *x = net_addr_bytes(a), *y = net_addr_bytes(prefix);

	if (a->family != prefix->family || !a->family)
		return false;
	for (unsigned bit = 0; bit < prefix->len; bit++)
		if ((x[bit / 8] ^ y[bit / 8]) & (0x80 >> (bit % 8)))
			return false;
	return true;
}

char *net_ifname(const struct net_host *h, unsigned id, char *buf)
{
	return net_ifname_of(h->tag, id, buf);
}

char *net_ifname_of(const char *tag, unsigned id, char *buf)
{
	memset(buf, 0, IFNAMSIZ);
	snprintf(buf, IFNAMSIZ, "%s%u", tag, id);
	return buf;
}

bool net_ifname_id(const char *tag, const char *name, unsigned *ret)
{
	size_t n = strlen(tag);
	uint64_t id;

	if (strncmp(name, tag, n) != 0 || (name[n] == '0' && name[n + 1]) ||
	    parse_u64(name + n, UINT32_MAX, &id) < 0)
		return false;
	*ret = (unsigned)id;
	return true;
}
