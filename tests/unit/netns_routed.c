/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Routed guests: who reaches whom, NAT, published ports, detaching. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "tests/unit/netns_lab.h"

static struct lab *lab;

static int setup(void **state)
{
	lab = lab_new();
	return 0;
}

static int teardown(void **state)
{
	lab_free(lab);
	return 0;
}

#define NEED_LAB()                                                                                 \
	do {                                                                                       \
		if (!lab)                                                                          \
			skip();                                                                    \
	} while (0)

static void test_paths(void **state)
{
	char who[64];
	int pid;

	NEED_LAB();
	lab_attach_default(lab, 1);
	lab_attach_default(lab, 2);
	if (getenv("LAB_SHOW"))
		lab_sh(-1, "%s", getenv("LAB_SHOW"));
	assert_int_equal(lab_sh(lab->ns[1], "ping -c1 -W2 -q " HOST4 ">/dev/null"), 0);
	assert_int_equal(lab_sh(lab->ns[1], "ping -c1 -W2 -q " HOST6 ">/dev/null"), 0);
	assert_int_equal(lab_sh(lab->ns[1], "ping -c1 -W2 -q " FAR4 ">/dev/null"), 0);
	assert_int_equal(lab_sh(lab->ns[1], "ping -c1 -W2 -q " FAR6 ">/dev/null"), 0);
	assert_int_equal(lab_sh(lab->ns[1], "ping -c1 -W2 -q 10.77.0.2 >/dev/null"), 0);
	assert_int_equal(lab_sh(lab->ns[2], "ping -c1 -W2 -q fd77::1 >/dev/null"), 0);
	assert_int_equal(lab_sh(-1, "ping -c1 -W2 -q 10.77.0.1 >/dev/null"), 0);
	assert_int_equal(lab_sh(-1, "ping -c1 -W2 -q fd77::2 >/dev/null"), 0);

	/* NAT: far sees the host. */
	pid = lab_serve(lab->far, IPPROTO_TCP, 80);
	assert_int_equal(lab_ask(lab->ns[1], IPPROTO_TCP, FAR4, 80, who), 0);
	assert_string_equal(who, HOST4);
	lab_wait(pid);
	pid = lab_serve(lab->far, IPPROTO_TCP, 80);
	assert_int_equal(lab_ask(lab->ns[1], IPPROTO_TCP, FAR6, 80, who), 0);
	assert_string_equal(who, HOST6);
	lab_wait(pid);
	/* No NAT between guests. */
	pid = lab_serve(lab->ns[2], IPPROTO_TCP, 80);
	assert_int_equal(lab_ask(lab->ns[1], IPPROTO_TCP, "10.77.0.2", 80, who), 0);
	assert_string_equal(who, "10.77.0.1");
	lab_wait(pid);
}

static void expect_ask(int from, int proto, const char *addr, uint16_t port, int server_ns,
		       uint16_t server_port, const char *seen)
{
	int pid = lab_serve(server_ns, proto, server_port);
	char who[64];

	if (lab_ask(from, proto, addr, port, who) != 0)
		fail_msg("no answer from %s port %u", addr, port);
	if (seen)
		assert_string_equal(who, seen);
	assert_int_equal(lab_wait(pid), 0);
}

static void test_published(void **state)
{
	NEED_LAB();

	auto_done(net_plan_done) struct net_plan p = lab_plan("10.77.0.1 fd77::1");

	lab_publish(&p, IPPROTO_TCP, 8080, 80);
	lab_publish(&p, IPPROTO_UDP, 5353, 53);
	lab_publish(&p, IPPROTO_TCP, 8081, 81);
	p.publish[2].host = lab_addr(HOST4);
	lab_attach(lab, 1, &p);
	lab_attach_default(lab, 2);
	/* From beyond: the guest sees who asks. */
	expect_ask(lab->far, IPPROTO_TCP, HOST4, 8080, lab->ns[1], 80, FAR4);
	expect_ask(lab->far, IPPROTO_TCP, HOST6, 8080, lab->ns[1], 80, FAR6);
	expect_ask(lab->far, IPPROTO_UDP, HOST4, 5353, lab->ns[1], 53, FAR4);
	expect_ask(lab->far, IPPROTO_UDP, HOST6, 5353, lab->ns[1], 53, FAR6);
	expect_ask(lab->far, IPPROTO_TCP, HOST4, 8081, lab->ns[1], 81, FAR4);
	/* From another guest, from the host, from the guest itself. */
	expect_ask(lab->ns[2], IPPROTO_TCP, HOST4, 8080, lab->ns[1], 80, "10.77.0.2");
	expect_ask(lab->ns[2], IPPROTO_TCP, HOST6, 8080, lab->ns[1], 80, "fd77::2");
	expect_ask(-1, IPPROTO_TCP, HOST4, 8080, lab->ns[1], 80, HOST4);
	expect_ask(-1, IPPROTO_TCP, HOST6, 8080, lab->ns[1], 80, HOST6);
	expect_ask(lab->ns[1], IPPROTO_TCP, HOST4, 8080, lab->ns[1], 80, NULL);
	expect_ask(lab->ns[1], IPPROTO_TCP, HOST6, 8080, lab->ns[1], 80, NULL);
	/* Loopback stays the host's own, other addresses stay what they are. */
	expect_ask(-1, IPPROTO_TCP, "127.0.0.1", 8080, -1, 8080, "127.0.0.1");
	expect_ask(lab->ns[2], IPPROTO_TCP, FAR4, 8080, lab->far, 8080, HOST4);
	assert_int_not_equal(lab_ask(lab->far, IPPROTO_TCP, HOST6, 8081, NULL), 0);

	/* The same port for another guest: refused, the first keeps it, nothing is left. */
	auto_done(net_plan_done) struct net_plan q = lab_plan("10.77.0.3");
	struct vps_err err = {0};

	lab_publish(&q, IPPROTO_TCP, 8080, 80);
	lab->ns[3] = lab_ns();
	assert_int_equal(net_attach(lab->h, 3, &q, lab->ns[3], &err), -VPS_EEXISTS);
	assert_int_not_equal(lab_sh(-1, "ip link show lab3 2>/dev/null"), 0);
	assert_int_not_equal(lab_sh(-1, "nft list ruleset | grep -q lab3"), 0);
	expect_ask(lab->far, IPPROTO_TCP, HOST4, 8080, lab->ns[1], 80, FAR4);

	/* The next owner of the address gets nothing of this one's connections. */
	assert_true(lab_num(-1, "grep -c 'src=10.77.0.1 ' /proc/net/nf_conntrack") > 0);
	assert_true(lab_num(-1, "grep -c 'src=fd77:0000:0000:0000:0000:0000:0000:0001 ' "
				"/proc/net/nf_conntrack") > 0);
	assert_int_equal(net_detach(lab->h, 1, NULL), 0);
	assert_int_equal(lab_num(-1,
				 "grep -Ec '10.77.0.1 |fd77:0000:0000:0000:0000:0000:0000:0001 ' "
				 "/proc/net/nf_conntrack"),
			 0);
	assert_int_not_equal(lab_ask(lab->far, IPPROTO_TCP, HOST4, 8080, NULL), 0);
}

static void test_detach_leaves_nothing(void **state)
{
	NEED_LAB();
	lab_attach_default(lab, 2);

	auto_done(net_plan_done) struct net_plan p =
		lab_plan("10.77.0.1 10.77.1.1 fd77::1 fd77::1:1");
	const char *see = "{ nft list ruleset; ip -d link; ip route show table all; "
			  "ip -6 route show table all; ip neigh show nud permanent; ip neigh show proxy; } | " /* others come and go by themselves */
			  "sed 's/packets [0-9]* bytes [0-9]*//;s/expires.*//' | grep -v 'ct "
			  "count' | sort | md5sum | "
			  "tr -dc 0-9 | head -c 9";

	for (uint16_t i = 0; i < 40; i++) /* the record spans several chunks */
		lab_publish(&p, IPPROTO_TCP, (uint16_t)(9000 + i), 80);
	p.pps = 1000;
	p.rate_in = p.rate_out = 50000000;
	p.conntrack_max = 1000;

	long before = lab_num(-1, "%s", see);

	lab_attach(lab, 1, &p);
	assert_int_not_equal(lab_num(-1, "%s", see), before);
	assert_int_equal(net_detach(lab->h, 1, NULL), 0);
	assert_int_equal(lab_num(-1, "%s", see), before);
	/* Again, and over a link that is still there. */
	assert_int_equal(net_detach(lab->h, 1, NULL), 0);
	lab_attach(lab, 1, &p);
	lab_attach(lab, 1, &p);
	assert_int_equal(lab_sh(lab->ns[1], "ping -c1 -W2 -q 10.77.0.2 >/dev/null"), 0);
	/* The namespace goes, and the link with it: elements remain until detach. */
	assert_int_equal(lab_sh(-1, "ip link del lab1"), 0);
	assert_int_equal(net_detach(lab->h, 1, NULL), 0);
	assert_int_equal(lab_num(-1, "%s", see), before);
}

static void test_update(void **state)
{
	NEED_LAB();

	auto_done(net_plan_done) struct net_plan was = lab_plan("10.77.0.1"),
						 now = lab_plan("10.77.0.9 fd77::1"),
						 bad = lab_plan("10.77.0.2");
	struct vps_err err = {0};

	lab_publish(&now, IPPROTO_TCP, 8080, 80);
	now.rate_in = 20000000;
	lab_attach(lab, 1, &was);
	lab_attach_default(lab, 2);
	if (net_update(lab->h, 1, &was, &now, lab->ns[1], &err) < 0)
		fail_msg("update: %s", err.msg);
	assert_int_equal(lab_sh(lab->ns[1], "ping -c1 -W2 -q 10.77.0.2 >/dev/null"), 0);
	assert_int_equal(lab_sh(lab->ns[1], "ping -c1 -W2 -q fd77::2 >/dev/null"), 0);
	assert_int_not_equal(lab_sh(-1, "ping -c1 -W1 -q 10.77.0.1 >/dev/null"), 0);
	assert_int_equal(lab_sh(-1, "tc qdisc show dev lab1 | grep -q 'tbf.*20Mbit'"), 0);
	expect_ask(lab->far, IPPROTO_TCP, HOST4, 8080, lab->ns[1], 80, FAR4);
	/* An address that another has a route for: refused, all is as before. */
	assert_int_equal(net_update(lab->h, 1, &now, &bad, lab->ns[1], &err), -VPS_EEXISTS);
	assert_int_equal(lab_sh(lab->ns[1], "ping -c1 -W2 -q 10.77.0.2 >/dev/null"), 0);
	assert_int_equal(lab_sh(lab->ns[1], "ping -c1 -W2 -q fd77::2 >/dev/null"), 0);
	assert_int_equal(lab_sh(-1, "tc qdisc show dev lab1 | grep -q 'tbf.*20Mbit'"), 0);
	expect_ask(lab->far, IPPROTO_TCP, HOST4, 8080, lab->ns[1], 80, FAR4);
	/* The tenant calls its link something else: its business. */
	assert_int_equal(lab_sh(lab->ns[1], "ip link set eth0 down; ip link set eth0 name wan; "
					    "ip link set wan up"),
			 0);
	/* Back. */
	assert_int_equal(net_update(lab->h, 1, &now, &was, lab->ns[1], &err), 0);
	assert_int_equal(lab_sh(lab->ns[1], "ping -c1 -W2 -q 10.77.0.2 >/dev/null"), 0);
	assert_int_not_equal(lab_sh(-1, "tc qdisc show dev lab1 | grep -q tbf"), 0);
	assert_int_not_equal(lab_sh(-1, "ip -6 addr show dev lab1 | grep -q inet6"), 0);
}

static void test_guest_that_sets_itself_up(void **state)
{
	NEED_LAB();
	lab_attach_default(lab, 1);
	/* As a distribution's network scripts do: everything flushed, neighbours are asked for. */
	assert_int_equal(lab_sh(lab->ns[1],
				"ip addr flush dev eth0; ip link set eth0 down; "
				"ip link set eth0 up; ip addr add 10.77.0.1/32 dev eth0; "
				"ip route add 169.254.1.1 dev eth0 src 10.77.0.1; "
				"ip route add default via 169.254.1.1; "
				"ip addr add fd77::1/128 dev eth0 nodad; "
				"ip -6 route add default via fe80::1 dev eth0"),
			 0);
	assert_int_equal(lab_sh(lab->ns[1], "ping -c1 -W3 -q " FAR4 " >/dev/null"), 0);
	assert_int_equal(lab_sh(lab->ns[1], "ping -c1 -W3 -q " FAR6 " >/dev/null"), 0);
	assert_int_equal(lab_sh(lab->ns[1], "ip neigh | grep -q '169.254.1.1.*02:76:70:73:00:01'"),
			 0);
}

static void test_hands_off(void **state)
{
	NEED_LAB();
	/* The host's own rules, before and after. */
	assert_int_equal(
		lab_sh(-1, "nft 'add table inet mine; add chain inet mine f { type filter hook "
			   "forward priority 0; policy accept; }; add rule inet mine f ip "
			   "saddr 192.0.2.1 drop'; echo 1 >/proc/sys/net/ipv6/conf/up0/accept_ra"),
		0);

	long mine = lab_num(-1, "nft list table inet mine | md5sum | tr -dc 0-9 | head -c 9");

	lab_attach_default(lab, 1);
	assert_int_equal(net_detach(lab->h, 1, NULL), 0);
	assert_int_equal(lab_num(-1, "nft list table inet mine | md5sum | tr -dc 0-9 | head -c 9"),
			 mine);
	assert_int_equal(lab_num(-1, "cat /proc/sys/net/ipv6/conf/up0/accept_ra"), 2);
	assert_int_equal(lab_num(-1, "cat /proc/sys/net/ipv6/conf/all/forwarding"), 1);

	/* An address of the host's own. */
	auto_done(net_plan_done) struct net_plan p = lab_plan(HOST4);
	struct vps_err err = {0};

	assert_int_equal(net_attach(lab->h, 1, &p, lab->ns[1], &err), -VPS_EEXISTS);
	/* An address that goes elsewhere already: found late, all is undone. */
	assert_int_equal(lab_sh(-1, "ip route add 10.77.0.50/32 via " FAR4), 0);
	p.addrs[0] = lab_addr("10.77.0.50");
	assert_int_equal(net_attach(lab->h, 1, &p, lab->ns[1], &err), -VPS_EEXISTS);
	assert_int_not_equal(lab_sh(-1, "nft list ruleset | grep -q lab1"), 0);
	assert_int_not_equal(lab_sh(-1, "ip link show lab1 2>/dev/null"), 0);
	assert_int_equal(lab_sh(-1, "ip route show 10.77.0.50 | grep -q " FAR4), 0);
	/* A namespace that is none. */
	p.addrs[0] = lab_addr("10.77.0.1");
	assert_true(net_attach(lab->h, 1, &p, 0, NULL) < 0);
	assert_int_not_equal(lab_sh(-1, "nft list ruleset | grep -q lab1"), 0);
}

/* A new version's rules, other pools: the table is made anew with all guests in it. */
static void test_other_conf(void **state)
{
	struct net_conf conf;
	struct net_host *h;

	NEED_LAB();
	lab_attach_default(lab, 1);
	conf = lab->conf;
	conf.nat = false;
	assert_int_equal(net_host_open(&conf, &h, NULL), 0);
	net_host_close(lab->h);
	lab->h = h;
	lab_attach_default(lab, 2);
	assert_int_not_equal(lab_sh(-1, "nft list ruleset | grep -q masquerade.*pool"), 0);
	assert_int_equal(lab_sh(lab->ns[1], "ping -c1 -W2 -q 10.77.0.2 >/dev/null"), 0);
	assert_int_equal(lab_sh(lab->ns[1], "ping -c1 -W2 -q fd77::2 >/dev/null"), 0);
	/* Rules taken out by hand come back with the next guest. */
	lab_sh(-1, "nft flush chain inet lab guest");
	lab_attach_default(lab, 3);
	assert_int_equal(lab_sh(-1, "nft list chain inet lab guest | grep -q 'not its MAC'"), 0);
	assert_int_equal(lab_sh(lab->ns[1], "ping -c1 -W2 -q 10.77.0.3 >/dev/null"), 0);
	/* And all of it. */
	lab_sh(-1, "nft flush ruleset");
	lab_attach_default(lab, 4);
	assert_int_equal(lab_sh(-1, "nft list chain inet lab guest | grep -q 'not its MAC'"), 0);
}

static void test_none_and_stats(void **state)
{
	struct net_plan none = {.mode = NET_NONE};
	struct net_stats st = {0};

	NEED_LAB();
	lab_attach(lab, 5, &none);
	assert_int_equal(lab_sh(lab->ns[5], "ping -c1 -W2 -q 127.0.0.1 >/dev/null"), 0);
	assert_int_equal(lab_num(lab->ns[5], "ip -o link | wc -l"), 1);
	lab_attach_default(lab, 1);
	assert_int_equal(lab_sh(lab->ns[1], "ping -c1 -s 1000 -W2 -q " HOST4 " >/dev/null"), 0);
	assert_int_equal(net_stats(lab->h, 1, &st), 0);
	assert_true(st.tx_bytes >= 1000 && st.rx_bytes >= 1000 && st.tx_packets && st.rx_packets);
	assert_int_equal(net_stats(lab->h, 7, &st), -ENODEV);
}

static void test_macvlan(void **state)
{
	struct net_plan p = {.mode = NET_MACVLAN, .guest_if = "eth0", .parent = "up0"};
	struct vps_err err = {0};
	struct net_conf conf;
	struct net_host *h;

	NEED_LAB();
	lab->ns[1] = lab_ns();
	assert_int_equal(net_attach(lab->h, 1, &p, lab->ns[1], &err), -VPS_EUNSUPPORTED);
	print_message("  %s\n", err.msg);
	conf = lab->conf;
	conf.macvlan_unfiltered = true;
	assert_int_equal(net_host_open(&conf, &h, NULL), 0);
	net_host_close(lab->h);
	lab->h = h;

	auto_done(net_plan_done) struct net_plan q = lab_plan("198.51.100.7/24");

	q.mode = NET_MACVLAN;
	strcpy(q.parent, "up0");
	lab_attach(lab, 1, &q);
	assert_int_equal(lab_sh(lab->ns[1], "ping -c1 -W2 -q " FAR4 " >/dev/null"), 0);
}

static int attach_child(void *arg)
{
	unsigned id = (unsigned)(uintptr_t)arg;
	char addrs[64];
	struct vps_err err = {0};
	struct net_host *h;

	snprintf(addrs, sizeof(addrs), "10.77.0.%u fd77::%u", id, id);

	struct net_plan p = lab_plan(addrs);

	lab_publish(&p, IPPROTO_TCP, (uint16_t)(7000 + id), 80);
	p.rate_in = p.rate_out = 10000000;
	if (net_host_open(&lab->conf, &h, &err) < 0 ||
	    net_attach(h, id, &p, lab->ns[id], &err) < 0) {
		fprintf(stderr, "attach %u: %s\n", id, err.msg);
		return 1;
	}
	return 0;
}

/* I2: killed at any instruction, the same command again succeeds, and nothing is left in the end.
 */
static void test_killed(void **state)
{
	NEED_LAB();
	lab_attach_default(lab, 2);
	lab->ns[1] = lab_ns();
	for (int i = 0; i < 80; i++) {
		struct timespec t = {.tv_nsec = i * 70000};
		int pid = lab_start(-1, attach_child, (void *)1);

		nanosleep(&t, NULL);
		kill(pid, SIGKILL);
		lab_wait(pid);
		if (i % 2)
			continue; /* killed over what was left by the killed one */
		assert_int_equal(lab_run(-1, attach_child, (void *)1), 0);
		assert_int_equal(lab_sh(lab->ns[1], "ping -c1 -W2 -q 10.77.0.2 >/dev/null"), 0);
	}
	assert_int_equal(net_detach(lab->h, 1, NULL), 0);
	assert_int_not_equal(lab_sh(-1, "{ nft list ruleset; ip link; ip route; ip -6 route; } | "
					"grep -v 'ct count' | grep -qw -e lab1 -e 10.77.0.1"),
			     0);
}

/* Many at once, no table yet: one makes it, all are in it. */
static void test_together(void **state)
{
	int pids[LAB_GUESTS + 1];

	NEED_LAB();
	for (unsigned id = 1; id <= LAB_GUESTS; id++)
		lab->ns[id] = lab_ns();
	for (int round = 0; round < 10; round++) {
		lab_sh(-1, "nft delete table inet lab 2>/dev/null; nft delete table arp lab "
			   "2>/dev/null");
		for (unsigned id = 1; id <= LAB_GUESTS; id++)
			pids[id] = lab_start(-1, attach_child, (void *)(uintptr_t)id);
		for (unsigned id = 1; id <= LAB_GUESTS; id++)
			assert_int_equal(lab_wait(pids[id]), 0);
		for (unsigned id = 1; id <= LAB_GUESTS; id++)
			assert_int_equal(lab_sh(lab->ns[id],
						"ping -c1 -W2 -q 10.77.0.%u >/dev/null",
						id % LAB_GUESTS + 1),
					 0);
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_paths),
		T(test_published),
		T(test_detach_leaves_nothing),
		T(test_update),
		T(test_guest_that_sets_itself_up),
		T(test_hands_off),
		T(test_other_conf),
		T(test_none_and_stats),
		T(test_macvlan),
		T(test_killed),
		T(test_together),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
