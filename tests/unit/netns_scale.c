/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Many guests: does the 2,000th cost what the 10th costs? Printed, not asserted: machines differ.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/sys.h"
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

static double ms(uint64_t since)
{
	return (double)(sys_now_mono() - since) / 1e6;
}

static void one(unsigned id, double *attach)
{
	char addrs[64];
	struct vps_err err = {0};
	autoclose int ns = -1;

	snprintf(addrs, sizeof(addrs), "10.77.%u.%u fd77::%x", id / 250, id % 250 + 2, id);

	auto_done(net_plan_done) struct net_plan p = lab_plan(addrs);

	p.rate_in = p.rate_out = 100000000;
	lab_publish(&p, IPPROTO_TCP, (uint16_t)(10000 + id), 80);
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_int_equal(setns(lab->host, CLONE_NEWNET), 0);

	uint64_t t = sys_now_mono();

	if (net_attach(lab->h, id, &p, ns, &err) < 0)
		fail_msg("attach %u: %s", id, err.msg);
	*attach = ms(t);
	/* The link lives as long as the namespace: the test's fd table is what keeps it. */
	assert_true(dup(ns) >= 0);
}

static void test_many(void **state)
{
	unsigned n = getenv("NETNS_SCALE") ? (unsigned)atoi(getenv("NETNS_SCALE")) : 200;
	unsigned step = n / 5 ? n / 5 : 1;
	double sum = 0, done = 0, t;

	if (!lab)
		skip();
	for (unsigned id = 1; id <= n; id++) {
		one(id, &t);
		sum += t;
		done++;
		if (id == 10 || id % step == 0) {
			print_message("  up to %4u guests: attach takes %.2f ms\n", id, sum / done);
			sum = done = 0;
		}
	}

	uint64_t s = sys_now_mono();

	assert_int_equal(lab_sh(-1, "ping -c1 -W2 -q 10.77.0.3 >/dev/null"), 0);
	s = sys_now_mono();
	for (unsigned id = n; id > n - 50 && id; id--)
		assert_int_equal(net_detach(lab->h, id, NULL), 0);
	print_message("  detach of the last 50: %.2f ms each\n", ms(s) / 50);

	unsigned *ids = calloc(n, sizeof(*ids));

	for (unsigned id = 1; id <= n - 50; id++)
		ids[id - 1] = id;

	struct net_audit a = {
		.live = ids, .n_live = n - 50, .defined = ids, .n_defined = n - 50, .fix = true};

	s = sys_now_mono();
	assert_int_equal(net_audit(lab->h, &a, NULL), 0);
	print_message("  audit of %u: %.0f ms\n", n - 50, ms(s));
	lab_sh(-1, "nft flush chain inet lab guest");
	s = sys_now_mono();
	assert_int_equal(net_audit(lab->h, &a, NULL), 0);
	print_message("  audit that rebuilds the firewall of %u: %.0f ms\n", n - 50, ms(s));
	free(ids);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_many, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
