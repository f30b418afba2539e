/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What needs neither root nor a network: text, MAC addresses, records, elements. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "netns/nft.h"

static void good(const char *in, const char *out)
{
	struct net_addr a;
	char buf[NET_ADDR_STR];

	if (net_addr_parse(in, &a) < 0)
		fail_msg("'%s' refused", in);
	assert_string_equal(net_addr_str(&a, true, buf), out);
}

static void bad(const char *in)
{
	struct net_addr a = {.family = 77};

	if (net_addr_parse(in, &a) != -EINVAL)
		fail_msg("'%s' taken", in);
	assert_int_equal(a.family, 77);
}

static void test_addresses(void **state)
{
	static const char *const junk[] = {"",
					   "/",
					   "/24",
					   "10.0.0",
					   "10.0.0.5/",
					   "10.0.0.5/33",
					   "10.0.0.5/-1",
					   "10.0.0.5/+1",
					   "10.0.0.5/ 1",
					   " 10.0.0.5",
					   "10.0.0.5 ",
					   "10.0.0.256",
					   "010.0.0.5x",
					   "1.2.3.4.5",
					   "fd00::5/129",
					   "fd00::5::",
					   "fe80::1%eth0",
					   "::ffff:10.0.0.5",
					   "::10.0.0.5",
					   "eth0",
					   "10.0.0.5/24/24",
					   "10.0.0.5\n",
					   "fd00::5/0x10",
					   "1111:2222:3333:4444:5555:6666:7777:8888:9999"};
	struct net_addr a, b;

	good("10.0.0.5", "10.0.0.5/32");
	good("10.0.0.5/24", "10.0.0.5/24");
	good("0.0.0.0/0", "0.0.0.0/0");
	good("fd00::5", "fd00::5/128");
	good("FD00:0:0::5/64", "fd00::5/64");
	good("::", "::/128");
	good("::1", "::1/128");
	for (size_t i = 0; i < ARRAY_LEN(junk); i++)
		bad(junk[i]);
	assert_int_equal(net_addr_parse("10.0.0.5/24", &a), 0);
	assert_int_equal(net_addr_parse("10.0.0.5/32", &b), 0);
	assert_true(net_addr_eq(&a, &b));
	assert_int_equal(net_addr_parse("10.0.0.6", &b), 0);
	assert_false(net_addr_eq(&a, &b));
	assert_int_equal(net_addr_parse("fd00::5", &b), 0);
	assert_false(net_addr_eq(&a, &b));
}

static void test_names(void **state)
{
	char name[IFNAMSIZ];
	unsigned id = 0;

	assert_string_equal(net_ifname_of("v", 101, name), "v101");
	assert_true(net_ifname_id("v", "v101", &id));
	assert_int_equal(id, 101);
	assert_false(net_ifname_id("v", "v0101", &id));
	assert_false(net_ifname_id("v", "veth0", &id));
	assert_false(net_ifname_id("v", "v", &id));
	assert_false(net_ifname_id("v", "v99999999999", &id));
	assert_false(net_ifname_id("v", "w101", &id));
}

static void test_macs(void **state)
{
	uint8_t a[6], b[6];
	struct in6_addr ll;

	net_mac_derive("v", 1, a);
	assert_int_equal(a[0] & 3, 2); /* local, unicast */
	net_mac_derive("v", 1, b);
	assert_memory_equal(a, b, 6);
	net_mac_derive("w", 1, b);
	assert_memory_not_equal(a, b, 6);
	for (unsigned i = 2; i < 70000; i += 7) {
		net_mac_derive("v", i, b);
		assert_memory_not_equal(a, b, 6);
	}
	net_mac_linklocal((const uint8_t[]){0x02, 0x11, 0x22, 0x33, 0x44, 0x55}, &ll);
	assert_memory_equal(&ll, "\xfe\x80\0\0\0\0\0\0\0\x11\x22\xff\xfe\x33\x44\x55", 16);
}

static struct net_plan plan(size_t n_addrs, size_t n_publish)
{
	struct net_plan p = {.mode = NET_ROUTED,
			     .rate_in = 1,
			     .rate_out = 8000000,
			     .pps = 3,
			     .conntrack_max = 1000,
			     .mtu = 1400,
			     .mac = {2, 3, 4, 5, 6, 7}};

	p.addrs = calloc(n_addrs + 1, sizeof(*p.addrs));
	p.publish = calloc(n_publish + 1, sizeof(*p.publish));
	for (size_t i = 0; i < n_addrs; i++) {
		p.addrs[i].family = i % 2 ? AF_INET6 : AF_INET;
		p.addrs[i].len = i % 2 ? 128 : 32;
		p.addrs[i].v6.s6_addr[0] = 10;
		p.addrs[i].v6.s6_addr[3] = (uint8_t)i;
	}
	for (size_t i = 0; i < n_publish; i++) {
		p.publish[i] = (struct net_publish){.proto = IPPROTO_TCP,
						    .host_port = (uint16_t)(i + 1),
						    .guest_port = (uint16_t)(i + 2)};
		if (i % 3 == 0)
			p.publish[i].host = p.addrs[i % 2];
	}
	p.n_addrs = n_addrs;
	p.n_publish = n_publish;
	return p;
}

static void test_record_round_trip(void **state)
{
	for (size_t n = 0; n < 40; n++) {
		auto_done(net_plan_done) struct net_plan p = plan(n, n * 7), q = {0};
		autofree uint8_t *b = NULL, *c = NULL;
		size_t len, len2;

		assert_int_equal(nft_pack(&p, &b, &len), 0);
		assert_int_equal(nft_unpack(b, len, &q), 0);
		assert_int_equal(nft_pack(&q, &c, &len2), 0);
		assert_int_equal(len, len2);
		assert_memory_equal(b, c, len);
		assert_int_equal(q.n_publish, n * 7);
		/* Short, long, and every byte wrong: an error or another plan, never a crash. */
		for (size_t i = 0; i < len && n < 3; i++) {
			struct net_plan x = {0};
			uint8_t was = b[i];

			assert_int_equal(nft_unpack(b, i, &x), -EBADMSG);
			for (int v = 0; v < 256; v += 5) {
				b[i] = (uint8_t)v;
				if (nft_unpack(b, len, &x) == 0)
					net_plan_done(&x);
			}
			b[i] = was;
		}
	}
}

static size_t count(const struct nft_elems *l, int set)
{
	size_t n = 0;

	for (size_t i = 0; i < l->n; i++)
		n += l->e[i].set == set;
	return n;
}

static void test_elements(void **state)
{
	const struct net_host host = {.tag = "v", .ct_default = 4096};
	auto_done(net_plan_done) struct net_plan p = plan(4, 2);
	auto_done(nft_elems_done) struct nft_elems l = {0}, none = {0}, br = {0};

	assert_int_equal(nft_elems_of(&host, 7, &p, &l), 0);
	assert_int_equal(count(&l, SET_GUESTS), 2); /* inet and arp */
	assert_int_equal(count(&l, SET_MACS), 1);
	assert_int_equal(count(&l, SET_SRC4), 2);
	assert_int_equal(count(&l, SET_SRC6), 3); /* and the link-local one */
	assert_int_equal(count(&l, SET_ARP4), 2);
	assert_int_equal(count(&l, SET_CTCAP), 1);
	assert_int_equal(count(&l, SET_PPS), 1);
	assert_int_equal(count(&l, SET_RATE), 1);
	assert_int_equal(count(&l, SET_SELF), 1);
	assert_int_equal(count(&l, SET_PUB4), 1);
	assert_int_equal(count(&l, SET_PUB4A), 1);
	assert_int_equal(count(&l, SET_PUB6), 1);
	assert_int_equal(count(&l, SET_REC), 1);
	for (size_t i = 0; i < l.n; i++)
		for (size_t k = 0; k < i; k++)
			assert_false(nft_elem_same(&l.e[i], &l.e[k]));
	p.mode = NET_NONE;
	assert_int_equal(nft_elems_of(&host, 7, &p, &none), 0);
	assert_int_equal(none.n, 0);
	p.mode = NET_BRIDGE;
	p.n_publish = 0;
	assert_int_equal(nft_elems_of(&host, 7, &p, &br), 0);
	for (size_t i = 0; i < br.n; i++)
		assert_int_equal(br.e[i].table, NFT_T_BRIDGE);
	assert_int_equal(count(&br, SET_ARP4), 3); /* and probes */
}

static void test_connection_classes(void **state)
{
	assert_int_equal(nft_ct_cap(nft_ct_class(65536)), 65536);
	assert_int_equal(nft_ct_cap(nft_ct_class(64)), 64);
	assert_int_equal(nft_ct_cap(nft_ct_class(1000)), 768);
	assert_int_equal(nft_ct_cap(nft_ct_class(UINT32_MAX)), 1048576);
	for (uint32_t n = 64; n < 3000000; n += 97) {
		uint32_t cap = nft_ct_cap(nft_ct_class(n));

		uint32_t parts = nft_ct_parts(nft_ct_class(n));

		assert_true(cap <= n && cap % parts == 0 &&
			    (cap <= 1024 ? parts == 1 : cap / parts <= NFT_CT_PART));
		assert_true(cap >= 1048576 || cap * 3 / 2 > n);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses), cmocka_unit_test(test_names),
		cmocka_unit_test(test_macs),	  cmocka_unit_test(test_record_round_trip),
		cmocka_unit_test(test_elements),  cmocka_unit_test(test_connection_classes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
