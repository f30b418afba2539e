/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a hostile guest sends, and where it arrives. "Arrives at the host" is counted by a table of
 * the test's own right behind ours in the same hooks; at the peer and beyond the uplink raw sockets
 * listen.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <linux/if_packet.h>

#include "base/mem.h"
#include "tests/unit/netns_frames.h"
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

struct watch {
	int out;	 /* the attacker's raw socket */
	int peer, far;	 /* listeners */
	const char *iif; /* what the host sees it come in by */
};

/* Drain a listener; frames that came in and carry the mark (or any, with all). */
static unsigned heard(int fd, bool all)
{
	unsigned n = 0;

	for (;;) {
		uint8_t b[2048];
		struct sockaddr_ll from;
		socklen_t len = sizeof(from);
		ssize_t r = recvfrom(fd, b, sizeof(b), 0, (struct sockaddr *)&from, &len);

		if (r < 0)
			return n;
		if (from.sll_pkttype != PACKET_OUTGOING &&
		    (all || memmem(b, (size_t)r, FRAME_MARK, 8)))
			n++;
	}
}

/* Packets of the attacker that the host's stack got to see. */
static unsigned host_saw(void)
{
	return (unsigned)lab_num(-1, "{ nft list table inet watch; nft list table arp watch; } | "
				     "awk '/counter packets/ {for (i = 1; i < NF; i++) "
				     "if ($i == \"packets\") n += $(i + 1)} END {print n + 0}'");
}

static void watch_host(const char *iif, int prio)
{
	assert_int_equal(
		lab_sh(-1,
		       "nft 'add table inet watch; add chain inet watch pre { type filter hook "
		       "prerouting priority %d; }; add rule inet watch pre iifname \"%s\" counter; "
		       "add table arp watch; add chain arp watch in { type filter hook input "
		       "priority 100; }; add rule arp watch in iifname \"%s\" counter'",
		       prio, iif, iif),
		0);
}

static void pause_ms(long ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&t, NULL);
}

static void send_frame(const struct watch *w, const struct frame *f)
{
	/* ENOBUFS, ENETDOWN: the wire is busy or gone, which no test here wants. */
	assert_int_equal(send(w->out, f->b, f->len, 0), (ssize_t)f->len);
}

/* Send every kind once and tell which arrived. Returns how many kinds did. */
static unsigned volley(const struct watch *w, const struct cast *c, bool quiet, bool slow)
{
	unsigned leaked = 0, sent = 0;

	heard(w->peer, true);
	heard(w->far, true);

	unsigned host = slow ? host_saw() : 0;

	for (size_t k = FRAME_HONEST; k < frame_kinds(); k++) {
		struct frame f;

		if (!frame_make(k, c, &f))
			continue;
		unsigned peer = 0, far = 0, now = host;

		sent++;
		/* What the kernels say of themselves now and then does not come three times in a
		 * row. */
		for (int i = 0; i < (slow ? 3 : 1); i++) {
			if (i)
				pause_ms(30);
			if (i) {
				heard(w->peer, true);
				heard(w->far, true);
			}
			host = i ? host_saw() : host;
			send_frame(w, &f);
			pause_ms(2);
			peer = heard(w->peer, true);
			far = heard(w->far, false);
			now = slow ? host_saw() : host;
			if (!peer && !far && now == host)
				break;
		}
		if (peer || far || now != host) {
			leaked++;
			if (!quiet)
				print_message("  leaks: %s (peer %u, far %u, host %u)\n", f.name,
					      peer, far, now - host);
		}
		host = now;
	}
	if (!quiet)
		print_message("  %u kinds of frame sent, %u arrived\n", sent, leaked);
	return leaked;
}

static void honest_pass(const struct watch *w, const struct cast *c)
{
	for (size_t k = 0; k < FRAME_HONEST; k++) {
		struct frame f;

		assert_true(frame_make(k, c, &f));
		heard(w->peer, true);
		send_frame(w, &f);
		pause_ms(20);
		if (heard(w->peer, false) == 0)
			fail_msg("%s did not arrive", f.name);
	}
}

static struct cast routed_cast(void)
{
	struct cast c = {.me4 = "10.77.0.1",
			 .me6 = "fd77::1",
			 .peer4 = "10.77.0.2",
			 .peer6 = "fd77::2",
			 .host4 = HOST4,
			 .host6 = HOST6,
			 .far4 = FAR4,
			 .far6 = FAR6,
			 .gw = {0x02, 0x76, 0x70, 0x73, 0x00, 0x01}};

	net_mac_derive(LAB_TAG, 1, c.me);
	net_mac_derive(LAB_TAG, 2, c.peer);
	snprintf(c.ll, sizeof(c.ll), "fe80::%x:%xff:fe%02x:%x", (c.me[0] ^ 2) << 8 | c.me[1],
		 c.me[2], c.me[3], c.me[4] << 8 | c.me[5]);
	return c;
}

static void quiet_guest(int ns)
{
	/* Nothing of the guest kernel's own: every packet seen is ours. */
	lab_sh(ns, "echo 0 >/proc/sys/net/ipv6/conf/eth0/router_solicitations; "
		   "ip neigh replace 169.254.1.1 lladdr 02:76:70:73:00:01 dev eth0 nud permanent "
		   "2>/dev/null; true");
}

static struct watch routed_lab(void)
{
	lab_attach_default(lab, 1);
	lab_attach_default(lab, 2);
	quiet_guest(lab->ns[1]);
	quiet_guest(lab->ns[2]);
	watch_host("lab1", -440);
	return (struct watch){.out = lab_packet(lab, lab->ns[1], "eth0"),
			      .peer = lab_packet(lab, lab->ns[2], "eth0"),
			      .far = lab_packet(lab, lab->far, "wan0"),
			      .iif = "lab1"};
}

static void watch_done(struct watch *w)
{
	close(w->out);
	close(w->peer);
	close(w->far);
}

static void test_routed(void **state)
{
	NEED_LAB();

	struct cast c = routed_cast();
	struct watch w = routed_lab();

	pause_ms(2500); /* the kernels' own reports */
	honest_pass(&w, &c);
	assert_int_equal(volley(&w, &c, false, true), 0);
	assert_int_equal(lab_num(-1, "ip neigh show dev lab1 | grep -vc PERMANENT"), 0);

	/* Can this test fail? Without the firewall most kinds arrive. */
	lab_sh(-1, "nft flush chain inet lab pre; nft flush chain arp lab in");
	assert_true(volley(&w, &c, true, true) > 40);
	watch_done(&w);
}

/* Another guest comes and goes, all the time. */
static int come_and_go(void *arg)
{
	struct net_plan p = lab_plan("10.77.0.3 fd77::3");
	struct vps_err err = {0};
	struct net_host *h;
	int ns = lab_ns();

	lab_publish(&p, IPPROTO_TCP, 8080, 80);
	p.pps = 1000;
	p.rate_out = 10000000;
	if (net_host_open(&lab->conf, &h, &err) < 0)
		return 2;
	for (;;) {
		if (net_attach(h, 3, &p, ns, &err) < 0 || net_detach(h, 3, &err) < 0) {
			fprintf(stderr, "come and go: %s\n", err.msg);
			return 1;
		}
	}
}

static int my_plan(void *arg, unsigned id, struct net_plan *ret, struct vps_err *err)
{
	char addrs[64];

	snprintf(addrs, sizeof(addrs), "10.77.0.%u fd77::%u", id, id);
	*ret = lab_plan(addrs);
	return 0;
}

static bool three_is_busy(void *arg, unsigned id)
{
	return id == 3;
}

/* The firewall is made anew from the plans, all the time: a stranger's element calls for it. */
static int mend(void *arg)
{
	static const unsigned ids[] = {1, 2};
	struct net_audit a = {.live = ids,
			      .n_live = 2,
			      .defined = ids,
			      .n_defined = 2,
			      .fix = true,
			      .get_plan = my_plan,
			      .busy = three_is_busy};
	struct vps_err err = {0};
	struct net_host *h;

	if (net_host_open(&lab->conf, &h, &err) < 0)
		return 2;
	for (;;) {
		lab_sh(-1, "nft add element inet lab src4 '{ \"lab9\" . 10.9.9.9 }'");
		if (net_audit(h, &a, &err) < 0) {
			fprintf(stderr, "audit: %s\n", err.msg);
			return 1;
		}
	}
}

static void test_routed_while_changing(void **state)
{
	int busy, mender;

	NEED_LAB();

	struct cast c = routed_cast();
	struct watch w = routed_lab();

	pause_ms(2500);
	busy = lab_start(-1, come_and_go, NULL);
	mender = lab_start(-1, mend, NULL);
	pause_ms(200);

	unsigned before = host_saw();
	unsigned leaked = 0;

	for (int i = 0; i < 10; i++)
		leaked += volley(&w, &c, true, false);
	honest_pass(&w, &c);
	assert_int_equal(leaked, 0);
	/* Two honest ones, and nothing else. */
	assert_int_equal(host_saw() - before, 2);
	kill(busy, 9);
	kill(mender, 9);
	assert_int_equal(lab_wait(busy), 255); /* still at it: did not stop by error */
	assert_int_equal(lab_wait(mender), 255);
	watch_done(&w);
}

static void bridge_guest(unsigned id)
{
	char addrs[64];

	snprintf(addrs, sizeof(addrs), "10.77.0.%u/24 fd77::%u/64", id, id);

	auto_done(net_plan_done) struct net_plan p = lab_plan(addrs);

	p.mode = NET_BRIDGE;
	strcpy(p.parent, "br0");
	lab_attach(lab, id, &p);
	quiet_guest(lab->ns[id]);
}

static void test_bridge(void **state)
{
	NEED_LAB();

	struct cast c = routed_cast();

	assert_int_equal(lab_sh(-1, "ip link add br0 type bridge && ip link set br0 up && "
				    "ip addr add 10.77.0.254/24 dev br0 && "
				    "ip addr add fd77::254/64 dev br0 nodad"),
			 0);
	c.bridge = true;
	c.host4 = "10.77.0.254";
	c.host6 = "fd77::254";
	bridge_guest(1);
	bridge_guest(2);
	assert_int_equal(lab_sh(lab->ns[1], "ping -c1 -W2 -q 10.77.0.2 >/dev/null"), 0);
	assert_int_equal(lab_sh(lab->ns[1], "ping -c1 -W2 -q fd77::2 >/dev/null"), 0);
	assert_int_equal(lab_sh(lab->ns[2], "ping -c1 -W2 -q 10.77.0.254 >/dev/null"), 0);
	assert_int_equal(lab_sh(lab->ns[2], "ping -c1 -W2 -q fd77::254 >/dev/null"), 0);
	watch_host("br0", -440);

	struct watch w = {.out = lab_packet(lab, lab->ns[1], "eth0"),
			  .peer = lab_packet(lab, lab->ns[2], "eth0"),
			  .far = lab_packet(lab, -1, "br0")};

	pause_ms(8000); /* neighbour probes after the pings, reports */
	honest_pass(&w, &c);
	assert_int_equal(volley(&w, &c, false, true), 0);
	/* Nobody moved in the forwarding table. */
	assert_int_equal(lab_num(-1, "bridge fdb show br br0 dev lab1 | grep -vc permanent | "
				     "sed 's/^1$/1/'; true"),
			 1);
	lab_sh(-1, "nft flush chain bridge lab pre; nft flush chain bridge lab in");
	assert_true(volley(&w, &c, true, true) > 40);
	watch_done(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_routed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_routed_while_changing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bridge, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
