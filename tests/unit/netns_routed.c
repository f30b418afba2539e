/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Routed guests: who reaches whom, NAT, published ports, detaching. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

#define NEED_LAB()          \
	do {                \
		if (!lab)   \
			skip(); \
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_paths, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
