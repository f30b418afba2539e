/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A guest that is a machine: what its card sends and receives, with the rules of every guest. */
#include <errno.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/mem.h"
#include "tests/unit/netns_lab.h"

#define HDR 10 /* struct virtio_net_hdr */

static struct lab *lab;
static int tap = -1;

/* What a little machine does with pings. */
static struct machine {
	uint8_t mac[6];
	uint8_t forged; /* last byte of the address or MAC that it answers from; 0: its own */
	bool forge_mac;
	long seen;
} me;

static int setup(void **state)
{
	lab = lab_new();
	return 0;
}

static int teardown(void **state)
{
	close_fd(&tap);
	lab_free(lab);
	return 0;
}

static uint16_t checksum(const uint8_t *p, size_t n)
{
	uint32_t sum = 0;

	for (size_t i = 0; i + 1 < n; i += 2)
		sum += (uint32_t)p[i] << 8 | p[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void answer(uint8_t *f, size_t n)
{
	uint8_t *eth = f + HDR, *ip = eth + 14, *icmp = ip + 20, t[6];

	if (n < HDR + 14 + 28 || eth[12] != 8 || eth[13] != 0 || ip[9] != 1 || icmp[0] != 8)
		return;
	if (memcmp(eth, me.mac, 6) != 0)
		return;
	me.seen++;
	memcpy(t, eth, 6);
	memcpy(eth, eth + 6, 6);
	memcpy(eth + 6, t, 6);
	memcpy(t, ip + 12, 4);
	memcpy(ip + 12, ip + 16, 4);
	memcpy(ip + 16, t, 4);
	if (me.forged)
		*(me.forge_mac ? eth + 11 : ip + 15) = me.forged;
	put16(ip + 10, 0);
	put16(ip + 10, checksum(ip, 20));
	icmp[0] = 0;
	put16(icmp + 2, 0);
	put16(icmp + 2, checksum(icmp, n - HDR - 14 - 20));
	memset(f, 0, HDR);
	if (write(tap, f, n) != (ssize_t)n)
		perror("tap");
}

static void serve(int ms)
{
	struct pollfd p = {.fd = tap, .events = POLLIN};
	uint8_t f[2048];

	while (poll(&p, 1, ms) > 0) {
		ssize_t n = read(tap, f, sizeof(f) - 1);

		if (n > 0) {
			f[n] = 0;
			answer(f, (size_t)n);
		}
	}
}

static int ping(void *arg)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "ping -c1 -W2 -s 1400 -q %s >/dev/null", (const char *)arg);
	return system(cmd) == 0 ? 0 : 1;
}

/* Does a ping from ns come back? */
static bool pinged(int ns, const char *addr)
{
	int pid = lab_start(ns, ping, (void *)(uintptr_t)addr);

	serve(2500);
	return lab_wait(pid) == 0;
}

static bool attach(struct net_plan *p)
{
	struct vps_err err = {0};
	int r;

	lab->ns[1] = lab_ns();
	tap = net_tap_make(lab->ns[1], "tap0", &err);
	if (tap < 0) {
		printf("# SKIP: no tap here: %s\n", err.msg);
		return false;
	}
	strcpy(p->tap, "tap0");
	r = net_attach(lab->h, 1, p, lab->ns[1], &err);
	if (r == -VPS_EUNSUPPORTED) {
		printf("# SKIP: %s\n", err.msg);
		return false;
	}
	if (r < 0)
		fail_msg("%s", err.msg);
	net_mac_derive(LAB_TAG, 1, me.mac);
	me.forged = 0;
	me.seen = 0;
	return true;
}

static void test_routed(void **state)
{
	if (!lab)
		skip();

	auto_done(net_plan_done) struct net_plan p = lab_plan("10.77.0.1 fd77::1");
	auto_done(net_plan_done) struct net_plan q = lab_plan("10.77.0.1 10.77.0.9");

	if (!attach(&p))
		goto unable;
	lab_attach_default(lab, 2);
	/* The link inside is no host: no address, no word of its own. */
	assert_int_equal(lab_num(lab->ns[1], "ip -o addr show dev eth0 | wc -l"), 0);
	assert_int_equal(lab_num(lab->ns[1], "ip -o addr show dev tap0 | wc -l"), 0);
	assert_int_equal(lab_num(lab->ns[1], "ip -o link show dev tap0 | grep -o 'mtu [0-9]*' | cut -c5-"),
			 net_mtu(lab->h, &p));
	assert_true(pinged(-1, "10.77.0.1"));
	assert_true(pinged(lab->ns[2], "10.77.0.1"));

	/* The rules are those of every guest. */
	me.forged = 7;
	me.seen = 0;
	assert_false(pinged(-1, "10.77.0.1"));
	assert_int_equal(me.seen, 1);
	me.forge_mac = true;
	assert_false(pinged(-1, "10.77.0.1"));
	assert_int_equal(me.seen, 2);
	me.forged = 0;
	me.forge_mac = false;

	/* Addresses change at the host's end only. */
	strcpy(q.tap, "tap0");
	assert_int_equal(net_update(lab->h, 1, &p, &q, lab->ns[1], NULL), 0);
	assert_true(pinged(-1, "10.77.0.9"));
	assert_int_equal(lab_num(lab->ns[1], "ip -o addr show dev eth0 | wc -l"), 0);

	assert_int_equal(net_detach(lab->h, 1, NULL), 0);
	me.seen = 0;
	assert_false(pinged(-1, "10.77.0.1"));
	assert_int_equal(me.seen, 0);
	return;
unable:
	/* skip() does not come back to empty them */
	net_plan_done(&p);
	net_plan_done(&q);
	skip();
}

static void test_bridge(void **state)
{
	if (!lab)
		skip();

	auto_done(net_plan_done) struct net_plan p = {.mode = NET_BRIDGE, .parent = "br0", .guest_if = "eth0"};

	assert_int_equal(lab_sh(-1, "ip link add br0 type bridge && ip addr add 10.9.0.254/24 dev br0 && "
				    "ip link set br0 up"), 0);
	p.addrs = calloc(1, sizeof(*p.addrs));
	p.n_addrs = 1;
	assert_int_equal(net_addr_parse("10.9.0.1/24", &p.addrs[0]), 0);
	if (!attach(&p)) {
		net_plan_done(&p);
		skip();
	}
	assert_int_equal(lab_sh(-1, "ip neigh replace 10.9.0.1 lladdr %02x:%02x:%02x:%02x:%02x:%02x dev br0",
				me.mac[0], me.mac[1], me.mac[2], me.mac[3], me.mac[4], me.mac[5]), 0);
	assert_true(pinged(-1, "10.9.0.1"));
	me.forged = 7;
	assert_false(pinged(-1, "10.9.0.1"));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {T(test_routed), T(test_bridge)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
