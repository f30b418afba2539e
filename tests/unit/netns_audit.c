/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Audit: what it finds, what it mends, what it leaves alone. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
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

struct findings {
	unsigned n, fixed;
	char text[8192];
	unsigned busy;
};

static void found(void *arg, unsigned id, const char *what, const char *help, bool fixed)
{
	struct findings *f = arg;
	size_t at = strlen(f->text);

	f->n++;
	f->fixed += fixed;
	snprintf(f->text + at, sizeof(f->text) - at, "%u: %s%s%s%s\n", id, what,
		 help ? "; " : "", help ? help : "", fixed ? " [fixed]" : "");
}

static int plan_of(void *arg, unsigned id, struct net_plan *ret, struct vps_err *err)
{
	char addrs[64];

	snprintf(addrs, sizeof(addrs), "10.77.0.%u fd77::%u", id, id);
	*ret = lab_plan(addrs);
	return 0;
}

static bool is_busy(void *arg, unsigned id)
{
	return ((struct findings *)arg)->busy == id;
}

static struct findings audit(bool fix, unsigned n_live, unsigned busy)
{
	static const unsigned ids[] = {1, 2, 3, 4};
	struct findings f = {.busy = busy};
	struct net_audit a = {.live = ids,
			      .n_live = n_live,
			      .defined = ids,
			      .n_defined = 2,
			      .fix = fix,
			      .found = found,
			      .get_plan = plan_of,
			      .busy = is_busy,
			      .arg = &f};
	struct vps_err err = {0};

	if (net_audit(lab->h, &a, &err) < 0)
		fail_msg("audit: %s", err.msg);
	return f;
}

static void expect(struct findings f, const char *what, bool fixed)
{
	char *at = strstr(f.text, what);

	if (!at || (strstr(at, "[fixed]") != NULL) != fixed)
		fail_msg("wanted '%s', found:\n%s", what, f.text);
}

static void clean(void)
{
	struct findings f = audit(false, 2, 0);

	if (f.n)
		fail_msg("not clean:\n%s", f.text);
	assert_int_equal(lab_sh(lab->ns[1], "ping -c1 -W2 -q 10.77.0.2 >/dev/null"), 0);
	assert_int_equal(lab_sh(lab->ns[2], "ping -c1 -W2 -q fd77::1 >/dev/null"), 0);
	assert_int_equal(lab_sh(lab->ns[1], "ping -c1 -W2 -q " FAR4 " >/dev/null"), 0);
}

/* Do harm, see it found, see that finding changes nothing, see it mended. */
static void harm(const char *cmd, const char *what)
{
	assert_int_equal(lab_sh(-1, "%s", cmd), 0);
	expect(audit(false, 2, 0), what, false);
	expect(audit(false, 2, 0), what, false);
	expect(audit(true, 2, 0), what, true);
	clean();
}

static void test_harm(void **state)
{
	char cmd[128];

	NEED_LAB();
	lab_attach_default(lab, 1);
	lab_attach_default(lab, 2);
	clean();
	harm("nft flush ruleset", "table 'inet lab' is missing");
	harm("nft delete table arp lab", "table 'arp lab' is missing");
	harm("nft flush table inet lab", "table 'inet lab' is not as");
	harm("nft flush chain inet lab guest", "table 'inet lab' is not as");
	harm("nft add rule inet lab guest accept", "table 'inet lab' is not as");
	harm("nft flush set inet lab src4", "1: an element of firewall set 'src4' is missing");
	harm("nft flush set inet lab guests", "2: an element of firewall set 'guests' is missing");
	harm("nft flush set inet lab rec", "1: an element of firewall set 'rec' is missing");
	harm("nft add element inet lab src4 '{ \"lab1\" . 8.8.8.8 }'",
	     "1: an element of firewall set 'src4' belongs to nobody");
	harm("nft add element inet lab pub4 '{ tcp . 22 : 10.77.0.1 . 22 }'",
	     "0: an element of firewall set 'pub4' belongs to nobody");
	harm("nft add element inet lab pps '{ \"lab1\" limit rate over 5/second }'",
	     "1: an element of firewall set 'pps' belongs to nobody");
	harm("nft add element arp lab arp4 '{ \"lab1\" . 02:00:00:00:00:01 . 02:00:00:00:00:01 . "
	     "8.8.8.8 }'",
	     "1: an element of firewall set 'arp4' belongs to nobody");
	harm("echo 0 >/proc/sys/net/ipv4/ip_forward", "forwarding is off");
	harm("ip link add lab77 type veth peer name x77",
	     "77: a network link of a VPS that does not");
	snprintf(cmd, sizeof(cmd), "ln -s 9 %s/10.77.3.3", lab->dir);
	harm(cmd, "9: lease '10.77.3.3' of a VPS that does not exist");
}

static void test_strays(void **state)
{
	NEED_LAB();
	lab_attach_default(lab, 1);
	lab_attach_default(lab, 2);
	lab_attach_default(lab, 3);
	expect(audit(false, 2, 0), "3: a network link of a VPS that does not run", false);
	/* One that has just come to life is left alone, by a rebuild too. */
	assert_int_equal(audit(true, 2, 3).n, 0);
	lab_sh(-1, "nft add rule inet lab guest accept");
	audit(true, 2, 3);
	assert_int_equal(lab_sh(lab->ns[3], "ping -c1 -W2 -q 10.77.0.2 >/dev/null"), 0);
	expect(audit(true, 2, 0), "3: a network link of a VPS that does not run", true);
	clean();
	/* Elements without a link. */
	lab_attach_default(lab, 3);
	lab_sh(-1, "ip link del lab3");
	expect(audit(true, 2, 0), "3: firewall elements of a VPS that does not run", true);
	clean();
	/* A live one whose link is gone: told, not mended. */
	lab_sh(-1, "ip link del lab2");
	expect(audit(true, 2, 0), "2: the network link is gone", false);
}

static void test_others_policy(void **state)
{
	NEED_LAB();
	lab_attach_default(lab, 1);
	lab_sh(-1,
	       "nft 'add table ip filter; add chain ip filter FORWARD { type filter hook forward "
	       "priority 0; policy drop; }'");
	expect(audit(true, 1, 0), "chain 'ip filter FORWARD' drops", false);
	expect(audit(true, 1, 0), "iptables -I FORWARD -$d lab+ -j ACCEPT", false);
	assert_int_equal(lab_sh(-1, "nft list chain ip filter FORWARD | grep -q 'policy drop'"), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {T(test_harm), T(test_strays), T(test_others_policy)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
