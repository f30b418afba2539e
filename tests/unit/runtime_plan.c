/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Plans: definition in, limits, network and PID 1 out. No root, nothing applied. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>

#include "runtime/initplan.h"
#include "runtime/internal.h"

static void with(struct vps_spec *s, const char *option, const char *value)
{
	struct vps_err err = {0};

	if (spec_set(s, option, value, &err) < 0)
		fail_msg("%s", err.msg);
}

static void test_limits(void **state)
{
	auto_done(spec_done) struct vps_spec s;
	auto_done(cg_limits_done) struct cg_limits l;

	spec_init(&s);
	s.id = 101;
	with(&s, "memory", "64M");
	with(&s, "swap", "0");
	with(&s, "io-max", "8:16:rbps=1M");
	assert_int_equal(plan_limits(&s, 8, &l, NULL), 0);
	assert_int_equal(l.memory_max, 64 << 20);
	assert_int_equal(l.swap_max, 0);
	assert_true(l.memory_high == CG_UNSET && l.cpu_max == CG_UNSET && !l.cpuset);
	assert_int_equal(l.pids_max, 8192); /* never without: fork bombs */
	assert_int_equal(l.cgroups_max, 4096);
	assert_int_equal(l.n_io_max, 1);
	assert_int_equal(l.io_max[0].major, 8);
	assert_int_equal(l.io_max[0].minor, 16);
	assert_true(l.io_max[0].wbps == CG_UNSET);
}

static void cpuset_is(unsigned id, const char *cpus, const char *asked, unsigned n, const char *want)
{
	auto_done(spec_done) struct vps_spec s;
	auto_done(cg_limits_done) struct cg_limits l;

	spec_init(&s);
	s.id = id;
	with(&s, "cpus", cpus);
	with(&s, "cpuset", asked);
	assert_int_equal(plan_limits(&s, n, &l, NULL), 0);
	if (want)
		assert_string_equal(l.cpuset, want);
	else
		assert_null(l.cpuset);
}

/* nproc inside shall be ceil(cpus), and not all VPSes on the same CPUs. */
static void test_cpuset(void **state)
{
	cpuset_is(0, "1.5", "", 8, "0,1");
	cpuset_is(1, "1.5", "", 8, "2,3");
	cpuset_is(3, "3", "", 8, "1,2,3");
	cpuset_is(5, "1", "", 2, "1");
	cpuset_is(7, "0.2", "", 4, "3");
	cpuset_is(7, "3", "", 4, "1,2,3");
	cpuset_is(5, "3", "", 4, "3,0,1");
	cpuset_is(1, "2", "", 2, NULL);
	cpuset_is(1, "4", "", 2, NULL);
	cpuset_is(1, "max", "", 2, NULL);
	cpuset_is(1, "1", "0-3", 8, "0-3");
}

static void test_net(void **state)
{
	auto_done(spec_done) struct vps_spec s;
	auto_done(net_plan_done) struct net_plan p = {0};
	auto_done(net_plan_done) struct net_plan b = {0};

	spec_init(&s);
	strv_add(&s.addrs, "10.1.2.3/32");
	strv_add(&s.addrs, "fd00::5/64");
	with(&s, "publish", "[2001:db8::1]:8080:80/udp");
	with(&s, "publish", "127.0.0.1:22:2222");
	with(&s, "rate", "1M:2M");
	with(&s, "pps", "max");
	assert_int_equal(plan_net(&s, &p, NULL), 0);
	assert_int_equal(p.mode, NET_ROUTED);
	assert_int_equal(p.n_addrs, 2);
	assert_int_equal(p.addrs[1].family, AF_INET6);
	assert_int_equal(p.n_publish, 2);
	assert_int_equal(p.publish[0].proto, IPPROTO_UDP);
	assert_int_equal(p.publish[0].host.family, AF_INET6);
	assert_int_equal(p.publish[1].host_port, 22);
	assert_int_equal(p.publish[1].guest_port, 2222);
	assert_int_equal(p.rate_in, 1000000);
	assert_int_equal(p.rate_out, 2000000);
	assert_int_equal(p.pps, 0);
	assert_string_equal(p.guest_if, "eth0");

	s.publish = strv_free(s.publish);
	with(&s, "net", "bridge=br0");
	with(&s, "gateway", "10.1.2.1");
	with(&s, "mac", "02:00:00:aa:bb:cc");
	assert_int_equal(plan_net(&s, &b, NULL), 0);
	assert_int_equal(b.mode, NET_BRIDGE);
	assert_string_equal(b.parent, "br0");
	assert_int_equal(b.mac[5], 0xcc);
	assert_int_equal(b.gw4.family, AF_INET);
}

static void test_devices(void **state)
{
	auto_done(spec_done) struct vps_spec s;
	autofree struct cg_device *d = NULL;
	size_t n, base;

	spec_init(&s);
	assert_int_equal(plan_devices(&s, &d, &base, NULL), 0);
	free(take_ptr(d));
	with(&s, "feature", "fuse,tun");
	with(&s, "device", "/dev/null:r");
	assert_int_equal(plan_devices(&s, &d, &n, NULL), 0);
	assert_int_equal(n, base + 3);
	assert_int_equal(d[base].minor, 229);
	assert_string_equal(d[n - 1].access, "r");
	assert_int_equal(d[n - 1].minor, 3);
	with(&s, "device", "/dev/no-such-device");
	free(take_ptr(d));
	assert_int_equal(plan_devices(&s, &d, &n, NULL), -VPS_EUSAGE);
}

/* ---- PID 1 ------------------------------------------------------------------ */

struct want {
	const char *argv0;
	size_t argc;
	bool under_init, system;
	int sig;
};

static void init_is(const struct vps_spec *s, const struct img_info *i, const struct guest_facts *f,
		    const struct want *w)
{
	auto_done(init_plan_done) struct init_plan p = {0};

	assert_int_equal(init_plan_make(s, i, f, &p, NULL), 0);
	assert_int_equal(strv_len(p.argv), w->argc);
	if (w->argv0)
		assert_string_equal(p.argv[0], w->argv0);
	assert_int_equal(p.under_init, w->under_init);
	assert_int_equal(p.system, w->system);
	assert_int_equal(p.stop_signal, w->sig);
}

static void test_init(void **state)
{
	auto_done(spec_done) struct vps_spec s;
	auto_done(img_info_done) struct img_info i = {0};
	struct guest_facts none = {0};
	struct guest_facts sysd = {.init = GUEST_INIT_SYSTEMD, .sbin_init = true};
	struct guest_facts busy = {.init = GUEST_INIT_BUSYBOX, .sbin_init = true};
	struct guest_facts bare = {.init = GUEST_INIT_SYSTEMD};

	spec_init(&s);
	init_is(&s, &i, &none, &(struct want){NULL, 0, true, false, SIGTERM});
	init_is(&s, &i, &sysd, &(struct want){"/sbin/init", 1, false, true, SIGRTMIN + 3});
	init_is(&s, &i, &busy, &(struct want){"/sbin/init", 1, false, true, SIGUSR2});
	init_is(&s, &i, &bare, &(struct want){"/lib/systemd/systemd", 1, false, true, SIGRTMIN + 3});

	strv_add(&i.entrypoint, "/entry");
	strv_add(&i.cmd, "a");
	i.stop_signal = strdup("SIGQUIT");
	init_is(&s, &i, &none, &(struct want){"/entry", 2, true, false, SIGQUIT});
	/* an init of the image goes before its entrypoint: it is a server, not one program */
	init_is(&s, &i, &sysd, &(struct want){"/sbin/init", 1, false, true, SIGRTMIN + 3});

	with(&s, "command", "sh -c 'x y'");
	init_is(&s, &i, &sysd, &(struct want){"/entry", 4, true, false, SIGQUIT});
	/* the definition's word counts at the stop, not here */
	with(&s, "stop-signal", "INT");
	init_is(&s, &i, &sysd, &(struct want){"/entry", 4, true, false, SIGQUIT});
	with(&s, "command", "");
	with(&s, "init", "/my/own");
	init_is(&s, &i, &none, &(struct want){"/my/own", 1, false, false, SIGQUIT});
}

static void test_env(void **state)
{
	auto_done(spec_done) struct vps_spec s;
	auto_done(img_info_done) struct img_info i = {0};
	auto_done(init_plan_done) struct init_plan p = {0};
	struct guest_facts none = {0};

	spec_init(&s);
	strv_add(&i.env, "PATH=/image");
	strv_add(&i.env, "A=image");
	strv_add(&i.env, "broken");
	with(&s, "env", "A=spec");
	with(&s, "env", "B=2");
	i.user = strdup("www-data");
	assert_int_equal(init_plan_make(&s, &i, &none, &p, NULL), 0);
	assert_true(strv_has(p.env, "PATH=/image"));
	assert_true(strv_has(p.env, "A=spec") && strv_has(p.env, "B=2"));
	assert_false(strv_has(p.env, "A=image") || strv_has(p.env, "broken"));
	assert_true(strv_has(p.env, "container=vps"));
	assert_string_equal(p.user, "www-data");
	assert_int_equal(p.stop_timeout_ms, 10000);
}

static void test_resolv(void **state)
{
	auto_strv dns = NULL;
	auto_strv search = NULL;

	assert_int_equal(init_plan_parse_resolv("# x\nnameserver 127.0.0.53\nnameserver\t9.9.9.9\n"
						"search a.example b.example\nnameserver ::1\n"
						"nameserver 2001:db8::1\nnameserver junk\ndomain c\n"
						"options edns0\n",
						&dns, &search),
			 0);
	assert_int_equal(strv_len(dns), 2);
	assert_string_equal(dns[0], "9.9.9.9");
	assert_string_equal(dns[1], "2001:db8::1");
	assert_int_equal(strv_len(search), 1);
	assert_string_equal(search[0], "c");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limits), cmocka_unit_test(test_cpuset),
		cmocka_unit_test(test_net),    cmocka_unit_test(test_devices),
		cmocka_unit_test(test_init),   cmocka_unit_test(test_env),
		cmocka_unit_test(test_resolv),
	};

	return cmocka_run_group_tests_name("runtime/plan", tests, NULL, NULL);
}
