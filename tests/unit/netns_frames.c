/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/netns_frames.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <string.h>

static void put(struct frame *f, const void *p, size_t n)
{
	if (n)
		memcpy(f->b + f->len, p, n);
	f->len += n;
}

static void put8(struct frame *f, unsigned v)
{
	f->b[f->len++] = (uint8_t)v;
}

static void put16(struct frame *f, unsigned v)
{
	put8(f, v >> 8);
	put8(f, v & 255);
}

static void put32(struct frame *f, uint32_t v)
{
	put16(f, v >> 16);
	put16(f, v & 65535);
}

static void put_addr(struct frame *f, const char *text)
{
	uint8_t a[16];

	if (inet_pton(AF_INET, text, a) == 1)
		put(f, a, 4);
	else if (inet_pton(AF_INET6, text, a) == 1)
		put(f, a, 16);
}

static uint16_t sum(const uint8_t *p, size_t n, uint32_t s)
{
	for (size_t i = 0; i + 1 < n; i += 2)
		s += (uint32_t)(p[i] << 8 | p[i + 1]);
	if (n & 1)
		s += (uint32_t)(p[n - 1] << 8);
	while (s >> 16)
		s = (s & 65535) + (s >> 16);
	return (uint16_t)~s;
}

static void eth(struct frame *f, const uint8_t *dst, const uint8_t *src, unsigned type)
{
	put(f, dst, 6);
	put(f, src, 6);
	put16(f, type);
}

/* An IPv4 packet around payload: options padded to 4, fragment field as given. */
static void ip4(struct frame *f, const char *src, const char *dst, unsigned proto,
		const uint8_t *opt, size_t n_opt, unsigned frag, const uint8_t *data, size_t n)
{
	size_t at = f->len, hl = 20 + n_opt;

	put8(f, 0x40 | hl / 4);
	put8(f, 0);
	put16(f, (unsigned)(hl + n));
	put16(f, 0x1234);
	put16(f, frag);
	put8(f, 64);
	put8(f, proto);
	put16(f, 0);
	put_addr(f, src);
	put_addr(f, dst);
	put(f, opt, n_opt);

	uint16_t c = sum(f->b + at, hl, 0);

	f->b[at + 10] = (uint8_t)(c >> 8);
	f->b[at + 11] = (uint8_t)c;
	put(f, data, n);
}

static void ip6(struct frame *f, const char *src, const char *dst, unsigned next, unsigned hops,
		const uint8_t *data, size_t n)
{
	put32(f, 0x60000000);
	put16(f, (unsigned)n);
	put8(f, next);
	put8(f, hops);
	put_addr(f, src);
	put_addr(f, dst);
	put(f, data, n);
}

static size_t udp(uint8_t *b, unsigned sport, unsigned dport)
{
	struct frame f = {0};

	put16(&f, sport);
	put16(&f, dport);
	put16(&f, 8 + 8);
	put16(&f, 0); /* IPv4: no checksum */
	put(&f, FRAME_MARK, 8);
	memcpy(b, f.b, f.len);
	return f.len;
}

static void ip4_udp(struct frame *f, const char *src, const char *dst, unsigned sport,
		    unsigned dport)
{
	uint8_t b[64];
	size_t n = udp(b, sport, dport);

	ip4(f, src, dst, IPPROTO_UDP, NULL, 0, 0, b, n);
}

static void fix6(const char *src, const char *dst, unsigned proto, uint8_t *b, size_t n, size_t at)
{
	struct frame p = {0};

	put_addr(&p, src);
	put_addr(&p, dst);
	put32(&p, (uint32_t)n);
	put32(&p, proto);
	put(&p, b, n);

	uint16_t c = sum(p.b, p.len, 0);

	b[at] = (uint8_t)(c >> 8);
	b[at + 1] = (uint8_t)c;
}

static size_t udp6(uint8_t *b, const char *src, const char *dst, unsigned sport, unsigned dport)
{
	size_t n = udp(b, sport, dport);

	fix6(src, dst, IPPROTO_UDP, b, n, 6);
	return n;
}

static void ip6_udp(struct frame *f, const char *src, const char *dst, unsigned sport,
		    unsigned dport)
{
	uint8_t b[64];
	size_t n = udp6(b, src, dst, sport, dport);

	ip6(f, src, dst, IPPROTO_UDP, 64, b, n);
}

/* ICMPv6 of type with a 4-byte word, an optional address and option. */
static size_t icmp6(uint8_t *b, const char *src, const char *dst, unsigned type, uint32_t word,
		    const char *target, unsigned option, const uint8_t *mac)
{
	struct frame f = {0};

	put8(&f, type);
	put8(&f, 0);
	put16(&f, 0);
	put32(&f, word);
	if (type == 134)
		put(&f, "\0\0\0\0\0\0\0\0", 8);
	if (target)
		put_addr(&f, target);
	if (option) {
		put8(&f, option);
		put8(&f, 1);
		put(&f, mac, 6);
	}
	if (type == 128)
		put(&f, FRAME_MARK, 8);
	memcpy(b, f.b, f.len);
	fix6(src, dst, IPPROTO_ICMPV6, b, f.len, 2);
	return f.len;
}

static void arp(struct frame *f, unsigned op, const uint8_t *sha, const char *sip,
		const uint8_t *tha, const char *tip)
{
	put16(f, 1);
	put16(f, 0x0800);
	put8(f, 6);
	put8(f, 4);
	put16(f, op);
	put(f, sha, 6);
	put_addr(f, sip);
	put(f, tha, 6);
	put_addr(f, tip);
	put(f, FRAME_MARK "----------", 18);
}

static const uint8_t bcast[6] = {255, 255, 255, 255, 255, 255}, none[6],
		     mdns[6] = {1, 0, 0x5e, 0, 0, 0xfb}, allnodes[6] = {0x33, 0x33, 0, 0, 0, 1},
		     other[6] = {0x02, 0xde, 0xad, 0xbe, 0xef, 1}, stp[6] = {1, 0x80, 0xc2},
		     lldp[6] = {1, 0x80, 0xc2, 0, 0, 0xe};
#define LL_ALL "ff02::1"

/* Where a unicast frame goes. */
static const uint8_t *to(const struct cast *c)
{
	return c->bridge ? c->peer : c->gw;
}

static void v4(struct frame *f, const struct cast *c, const char *src, const char *dst)
{
	eth(f, to(c), c->me, 0x0800);
	ip4_udp(f, src, dst, 5000, 5001);
}

static void v6(struct frame *f, const struct cast *c, const char *src, const char *dst)
{
	eth(f, to(c), c->me, 0x86dd);
	ip6_udp(f, src, dst, 5000, 5001);
}

static void mac4(struct frame *f, const struct cast *c, const uint8_t *mac)
{
	eth(f, to(c), mac, 0x0800);
	ip4_udp(f, c->me4, c->peer4, 5000, 5001);
}

static void opt4(struct frame *f, const struct cast *c, unsigned type)
{
	uint8_t opt[8] = {(uint8_t)type, 7, 4}, b[64];
	size_t n = udp(b, 5000, 5001);

	inet_pton(AF_INET, c->far4, opt + 3);
	eth(f, to(c), c->me, 0x0800);
	ip4(f, c->me4, c->peer4, IPPROTO_UDP, opt, 8, 0, b, n);
}

static void frag4(struct frame *f, const struct cast *c, const char *src, unsigned sport,
		  unsigned frag)
{
	uint8_t b[64];
	size_t n = udp(b, sport, 68);

	eth(f, to(c), c->me, 0x0800);
	ip4(f, src, c->peer4, IPPROTO_UDP, NULL, 0, frag, b, n);
}

/* ICMPv6 behind headers: chain of next-header numbers (0 hop-by-hop, 60 destination, 44 fragment).
 */
static void nd(struct frame *f, const struct cast *c, const char *src, const char *dst,
	       unsigned type, const char *target, unsigned option, const uint8_t *mac,
	       const char *chain)
{
	uint8_t b[256], p[128];
	bool multi = strncmp(dst, "ff", 2) == 0;
	size_t n = icmp6(p, src, dst, type,
			 type == 134   ? 0x40000708
			 : type == 136 ? 0x20000000
				       : 0,
			 target, option, mac),
	       at = 0;

	for (const char *x = chain; *x; x++) {
		uint8_t next = x[1] == 'h' ? 0 : x[1] == 'd' ? 60 : x[1] == 'f' ? 44 : 58;

		memset(b + at, 0, 8);
		b[at] = next;
		if (*x != 'f') {
			b[at + 2] = 1; /* PadN */
			b[at + 3] = 4;
		} else {
			b[at + 7] = 9;
		}
		at += 8;
	}
	memcpy(b + at, p, n);
	eth(f, multi ? allnodes : to(c), c->me, 0x86dd);
	ip6(f, src, dst,
	    chain[0] == 'h'   ? 0
	    : chain[0] == 'd' ? 60
	    : chain[0] == 'f' ? 44
			      : 58,
	    255, b, at + n);
}

/* First fragment that ends before the transport header: options fill it. */
static void hidden6(struct frame *f, const struct cast *c, unsigned last)
{
	uint8_t b[32] = {0};

	b[0] = 60; /* fragment header, next: destination options */
	b[3] = 1;  /* offset 0, more */
	b[7] = 7;
	b[8] = (uint8_t)last;
	b[9] = 1; /* 16 bytes */
	b[10] = 1;
	b[11] = 12;
	memcpy(b + 12, FRAME_MARK, 8);
	eth(f, to(c), c->me, 0x86dd);
	ip6(f, c->me6, c->peer6, 44, 64, b, 24);
}

static void ext6_udp(struct frame *f, const struct cast *c, unsigned type, unsigned sport)
{
	uint8_t b[96] = {IPPROTO_UDP, 0, 1, 4};
	size_t n = udp6(b + 8, c->me6, c->peer6, sport, 546);

	eth(f, to(c), c->me, 0x86dd);
	ip6(f, c->me6, c->peer6, type, 64, b, 8 + n);
}

static void broken6(struct frame *f, const struct cast *c)
{
	uint8_t b[16] = {IPPROTO_UDP, 200};

	memcpy(b + 8, FRAME_MARK, 8);
	eth(f, to(c), c->me, 0x86dd);
	ip6(f, c->me6, c->peer6, 60, 64, b, sizeof(b));
}

static void rh0(struct frame *f, const struct cast *c)
{
	uint8_t b[96] = {IPPROTO_UDP, 2, 0, 1};
	size_t n;

	inet_pton(AF_INET6, c->far6, b + 8);
	n = udp6(b + 24, c->me6, c->peer6, 5000, 5001);
	eth(f, to(c), c->me, 0x86dd);
	ip6(f, c->me6, c->peer6, 43, 64, b, 24 + n);
}

static void tagged(struct frame *f, const struct cast *c, unsigned outer, unsigned tci, bool twice,
		   const char *src)
{
	eth(f, to(c), c->me, outer);
	put16(f, tci);
	if (twice) {
		put16(f, 0x8100);
		put16(f, 20);
	}
	put16(f, 0x0800);
	ip4_udp(f, src, c->peer4, 5000, 5001);
}

static void other_type(struct frame *f, const struct cast *c, const uint8_t *dst, unsigned type)
{
	eth(f, dst, c->me, type);
	put(f, FRAME_MARK "0123456789012345678901234567890123456789", 48);
}

static void arp_frame(struct frame *f, const struct cast *c, const uint8_t *dst, const uint8_t *src,
		      unsigned op, const uint8_t *sha, const char *sip, const char *tip)
{
	eth(f, dst, src, 0x0806);
	arp(f, op, sha, sip, op == 1 ? none : to(c), tip);
}

#define R FRAME_ROUTED
#define B FRAME_BRIDGE
/* clang-format off */
#define KINDS(X)                                                                                   \
	X(R | B, "honest IPv4", v4(f, c, c->me4, c->peer4))                                        \
	X(R | B, "honest IPv6", v6(f, c, c->me6, c->peer6))                                        \
	X(R | B, "unknown MAC", mac4(f, c, other))                                                 \
	X(R | B, "peer's MAC", mac4(f, c, c->peer))                                                \
	X(R | B, "gateway's MAC", mac4(f, c, c->gw))                                               \
	X(R | B, "broadcast as source MAC", mac4(f, c, bcast))                                     \
	X(R | B, "multicast as source MAC", mac4(f, c, mdns))                                      \
	X(R | B, "zero MAC", mac4(f, c, none))                                                     \
	X(R | B, "IPv4 of the peer, to far", v4(f, c, c->peer4, c->far4))                          \
	X(R | B, "IPv4 of the peer, to the peer", v4(f, c, c->peer4, c->peer4))                    \
	X(R | B, "IPv4 of the host", v4(f, c, c->host4, c->peer4))                                 \
	X(R | B, "IPv4 of the host, to the host", v4(f, c, c->host4, c->host4))                    \
	X(R | B, "IPv4 of far", v4(f, c, c->far4, c->peer4))                                       \
	X(R | B, "IPv4 unassigned", v4(f, c, "10.77.0.200", c->peer4))                             \
	X(R | B, "IPv4 anybody", v4(f, c, "8.8.8.8", c->peer4))                                    \
	X(R | B, "IPv4 loopback", v4(f, c, "127.0.0.1", c->peer4))                                 \
	X(R | B, "IPv4 loopback, to the host", v4(f, c, "127.0.0.1", c->host4))                    \
	X(R | B, "IPv4 gateway", v4(f, c, "169.254.1.1", c->peer4))                                \
	X(R | B, "IPv4 link-local", v4(f, c, "169.254.9.9", c->peer4))                             \
	X(R | B, "IPv4 zero", v4(f, c, "0.0.0.0", c->peer4))                                       \
	X(R | B, "IPv4 broadcast as source", v4(f, c, "255.255.255.255", c->peer4))                \
	X(R | B, "IPv4 pool broadcast as source", v4(f, c, "10.77.255.255", c->peer4))             \
	X(R | B, "IPv4 multicast as source", v4(f, c, "224.0.0.1", c->peer4))                      \
	X(R, "to IPv4 loopback", v4(f, c, c->me4, "127.0.0.1"))                                    \
	X(R, "to the metadata service", v4(f, c, c->me4, "169.254.169.254"))                       \
	X(R, "to IPv4 gateway", v4(f, c, c->me4, "169.254.1.1"))                                   \
	X(R, "to IPv4 zero", v4(f, c, c->me4, "0.0.0.0"))                                          \
	X(R, "to IPv4 multicast",                                                                  \
	  (eth(f, mdns, c->me, 0x0800), ip4_udp(f, c->me4, "224.0.0.251", 5353, 5353)))            \
	X(R, "to IPv4 broadcast",                                                                  \
	  (eth(f, bcast, c->me, 0x0800), ip4_udp(f, c->me4, "255.255.255.255", 5000, 5001)))       \
	X(R | B, "DHCP offer, broadcast",                                                          \
	  (eth(f, bcast, c->me, 0x0800), ip4_udp(f, c->me4, "255.255.255.255", 67, 68)))           \
	X(R | B, "DHCP offer", (eth(f, to(c), c->me, 0x0800), ip4_udp(f, c->me4, c->peer4, 67, 68))) \
	X(R | B, "DHCP offer from gateway",                                                        \
	  (eth(f, to(c), c->me, 0x0800), ip4_udp(f, c->host4, c->peer4, 67, 68)))                  \
	X(R | B, "loose source route", opt4(f, c, 131))                                            \
	X(R | B, "strict source route", opt4(f, c, 137))                                           \
	X(R | B, "record route", opt4(f, c, 7))                                                    \
	X(R | B, "first fragment, false source", frag4(f, c, c->far4, 5000, 0x2000))               \
	X(R | B, "later fragment, false source", frag4(f, c, c->far4, 5000, 0x0005))               \
	X(R | B, "first fragment, DHCP offer", frag4(f, c, c->me4, 67, 0x2000))                    \
	X(R | B, "IPv6 of the peer, to far", v6(f, c, c->peer6, c->far6))                          \
	X(R | B, "IPv6 of the peer, to the peer", v6(f, c, c->peer6, c->peer6))                    \
	X(R | B, "IPv6 of the host", v6(f, c, c->host6, c->peer6))                                 \
	X(R | B, "IPv6 of far", v6(f, c, c->far6, c->peer6))                                       \
	X(R | B, "IPv6 unassigned", v6(f, c, "fd77::200", c->peer6))                               \
	X(R | B, "IPv6 loopback", v6(f, c, "::1", c->peer6))                                       \
	X(R | B, "IPv6 zero", v6(f, c, "::", c->peer6))                                            \
	X(R | B, "IPv6 gateway", v6(f, c, "fe80::1", c->peer6))                                    \
	X(R | B, "IPv6 link-local of nobody", v6(f, c, "fe80::dead", c->peer6))                    \
	X(R | B, "IPv6 multicast as source", v6(f, c, "ff02::1", c->peer6))                        \
	X(R | B, "IPv4-mapped", v6(f, c, "::ffff:10.77.0.1", c->peer6))                            \
	X(R, "IPv6 own link-local, beyond the link", v6(f, c, c->ll, c->peer6))                     \
	X(R | B, "IPv6 options longer than the packet", broken6(f, c))                            \
	X(R, "to IPv6 link-local gateway", v6(f, c, c->me6, "fe80::1"))                            \
	X(R, "to IPv6 all nodes",                                                                  \
	  (eth(f, allnodes, c->me, 0x86dd), ip6_udp(f, c->me6, LL_ALL, 5000, 5001)))               \
	X(R | B, "RA", nd(f, c, "fe80::1", LL_ALL, 134, NULL, 1, c->me, ""))                       \
	X(R | B, "RA, own source", nd(f, c, c->me6, LL_ALL, 134, NULL, 1, c->me, ""))              \
	X(R | B, "RA to the peer", nd(f, c, c->me6, c->peer6, 134, NULL, 1, c->me, ""))            \
	X(R | B, "RA behind hop-by-hop", nd(f, c, c->me6, c->peer6, 134, NULL, 0, NULL, "h"))      \
	X(R | B, "RA behind destination options", nd(f, c, c->me6, c->peer6, 134, NULL, 0, NULL, "d")) \
	X(R | B, "RA behind three headers", nd(f, c, c->me6, c->peer6, 134, NULL, 0, NULL, "hdd"))  \
	X(R | B, "RA in an atomic fragment", nd(f, c, c->me6, c->peer6, 134, NULL, 0, NULL, "f"))   \
	X(R | B, "RA behind options and fragment", nd(f, c, c->me6, c->peer6, 134, NULL, 0, NULL, "hfd")) \
	X(R | B, "ICMPv6 hidden in a later fragment", hidden6(f, c, 58))                           \
	X(R | B, "UDP hidden in a later fragment", hidden6(f, c, 17))                              \
	X(R | B, "redirect", nd(f, c, c->me6, c->peer6, 137, c->far6, 2, c->me, ""))               \
	X(R | B, "redirect from gateway", nd(f, c, "fe80::1", c->peer6, 137, c->far6, 2, c->me, "")) \
	X(R | B, "NA for the gateway", nd(f, c, c->me6, LL_ALL, 136, "fe80::1", 2, c->me, ""))     \
	X(R | B, "NA for the peer", nd(f, c, c->me6, LL_ALL, 136, c->peer6, 2, c->me, ""))         \
	X(R | B, "NA for the host, unicast", nd(f, c, c->me6, c->peer6, 136, c->host6, 2, c->me, "")) \
	X(R | B, "NA, own target, false MAC", nd(f, c, c->me6, LL_ALL, 136, c->me6, 2, other, "")) \
	X(R | B, "NA behind options", nd(f, c, c->me6, c->peer6, 136, c->me6, 2, c->me, "d"))      \
	X(R | B, "NS with false MAC", nd(f, c, c->me6, LL_ALL, 135, c->peer6, 1, other, ""))       \
	X(R | B, "NS with false source", nd(f, c, c->far6, LL_ALL, 135, c->peer6, 1, c->me, ""))   \
	X(R | B, "DAD for the gateway", nd(f, c, "::", LL_ALL, 135, "fe80::1", 0, NULL, ""))       \
	X(R | B, "DAD for the peer", nd(f, c, "::", LL_ALL, 135, c->peer6, 0, NULL, ""))           \
	X(R, "RS", nd(f, c, c->me6, LL_ALL, 133, NULL, 1, c->me, ""))                              \
	X(B, "RS with false MAC", nd(f, c, c->me6, LL_ALL, 133, NULL, 1, other, ""))               \
	X(R | B, "DHCPv6 reply",                                                                   \
	  (eth(f, to(c), c->me, 0x86dd), ip6_udp(f, c->me6, c->peer6, 547, 546)))                  \
	X(R | B, "DHCPv6 reply behind options", ext6_udp(f, c, 60, 547))                           \
	X(R | B, "IPv6 source route", rh0(f, c))                                                   \
	X(R | B, "ARP request as the peer", arp_frame(f, c, bcast, c->me, 1, c->me, c->peer4, c->far4)) \
	X(R | B, "ARP request as the peer to gateway",                                             \
	  arp_frame(f, c, bcast, c->me, 1, c->me, c->peer4, "169.254.1.1"))                        \
	X(R | B, "ARP reply as the gateway",                                                       \
	  arp_frame(f, c, to(c), c->me, 2, c->me, "169.254.1.1", c->peer4))                        \
	X(R | B, "ARP reply as the host", arp_frame(f, c, to(c), c->me, 2, c->me, c->host4, c->peer4)) \
	X(R | B, "gratuitous ARP as far", arp_frame(f, c, bcast, c->me, 2, c->me, c->far4, c->far4)) \
	X(R | B, "gratuitous ARP request as the host",                                             \
	  arp_frame(f, c, bcast, c->me, 1, c->me, c->host4, c->host4))                             \
	X(R | B, "ARP with false sender MAC",                                                      \
	  arp_frame(f, c, bcast, c->me, 1, other, c->me4, c->bridge ? c->peer4 : "169.254.1.1"))   \
	X(R | B, "ARP with the peer's sender MAC",                                                 \
	  arp_frame(f, c, bcast, c->me, 2, c->peer, c->me4, c->peer4))                             \
	X(R | B, "ARP in a frame of false MAC",                                                    \
	  arp_frame(f, c, bcast, other, 1, c->me, c->me4, c->bridge ? c->peer4 : "169.254.1.1"))   \
	X(R | B, "ARP loopback", arp_frame(f, c, bcast, c->me, 1, c->me, "127.0.0.1", c->peer4))   \
	X(R | B, "ARP probe for the peer", arp_frame(f, c, bcast, c->me, 1, c->me, "0.0.0.0", c->peer4)) \
	X(R | B, "RARP-like operation", arp_frame(f, c, bcast, c->me, 3, c->me, c->me4, c->peer4)) \
	X(R | B, "VLAN 10", tagged(f, c, 0x8100, 10, false, c->me4))                               \
	X(R | B, "VLAN 0, false source", tagged(f, c, 0x8100, 0, false, c->far4))                  \
	X(R | B, "VLAN in VLAN", tagged(f, c, 0x88a8, 10, true, c->me4))                           \
	X(R | B, "VLAN in VLAN, false source", tagged(f, c, 0x8100, 0, true, c->peer4))            \
	X(R | B, "MPLS", other_type(f, c, to(c), 0x8847))                                          \
	X(R | B, "PPPoE discovery", other_type(f, c, bcast, 0x8863))                               \
	X(R | B, "802.1X", other_type(f, c, to(c), 0x888e))                                        \
	X(R | B, "LLDP", other_type(f, c, lldp, 0x88cc))                                           \
	X(R | B, "spanning tree", other_type(f, c, stp, 0x0026))                                   \
	X(R | B, "experimental type", other_type(f, c, bcast, 0x88b5))

/* clang-format on */
size_t frame_kinds(void)
{
#define X(where, what, how) +1
	return 0 KINDS(X);
#undef X
}

bool frame_make(size_t k, const struct cast *c, struct frame *f)
{
	unsigned in = c->bridge ? B : R;
	size_t i = 0;

	*f = (struct frame){0};
#define X(where, what, how)                                                                        \
	if (i++ == k) {                                                                            \
		f->name = (what);                                                                  \
		if (!((where)&in))                                                                 \
			return false;                                                              \
		how;                                                                               \
		return true;                                                                       \
	}
	KINDS(X)
#undef X
	return false;
}
