/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From a definition to a machine: what is refused, what vps-vmm and the guest are told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/microvm/microvm.h"

static void with(struct vps_spec *s, const char *option, const char *value)
{
	struct vps_err err = {0};

	if (spec_set(s, option, value, &err) < 0)
		fail_msg("%s", err.msg);
}

static void machine(struct vps_spec *s)
{
	spec_init(s);
	s->id = 101;
	with(s, "image", "debian:12");
	with(s, "isolation", "vm");
}

static void test_refused(void **state)
{
	static const struct {
		const char *option, *value;
	} no[] = {
		{"mount", "/srv:/srv"},	 {"device", "/dev/fuse"}, {"cap-add", "net_admin"},
		{"cap-drop", "all"},	 {"feature", "nesting"},  {"seccomp", "unconfined"},
		{"memory", "64M"},	 {"memory", "max"},	  {"cpus", "65"},
		{"disk-backend", "dir"}, {"disk", "max"},
	};
	auto_done(spec_done) struct vps_spec fine;

	machine(&fine);
	assert_int_equal(spec_check(&fine, NULL), 0);
	for (size_t i = 0; i < ARRAY_LEN(no); i++) {
		auto_done(spec_done) struct vps_spec s;
		struct vps_err err = {0};

		machine(&s);
		with(&s, no[i].option, no[i].value);
		if (spec_check(&s, &err) == 0)
			fail_msg("%s=%s goes with isolation vm", no[i].option, no[i].value);
		if (!strstr(err.msg, no[i].option))
			fail_msg("'%s' does not name %s", err.msg, no[i].option);
		with(&s, "isolation", "container");
		if (strcmp(no[i].option, "disk") != 0)
			assert_int_equal(spec_check(&s, NULL), 0);
	}
}

static void test_size(void **state)
{
	auto_done(spec_done) struct vps_spec s;
	auto_done(cg_limits_done) struct cg_limits l;
	struct img_disk_spec d;

	machine(&s);
	assert_int_equal(vm_memory(&s), 512 << 20);
	assert_int_equal(vm_cpus(&s, 6), 6);
	with(&s, "memory", "301M");
	with(&s, "memory-high", "200M");
	with(&s, "cpus", "1.5");
	with(&s, "pids", "100");
	assert_int_equal(vm_memory(&s), 300 << 20);
	assert_int_equal(vm_cpus(&s, 6), 2);
	assert_int_equal(vm_cpus(&s, 1), 2); /* more than the host has is the operator's wish */
	with(&s, "cpus", "max");
	assert_int_equal(vm_cpus(&s, 1000), VMM_MAX_CPUS);

	/* The group holds more than the guest; the guest's own processes are not its. */
	assert_int_equal(plan_limits(&s, 8, &l, NULL), 0);
	assert_true(l.memory_max > vm_memory(&s) + (16 << 20) && l.memory_max < vm_memory(&s) + (64 << 20));
	assert_int_equal(l.memory_high - (200 << 20), l.memory_max - (300 << 20));
	assert_true(l.memory_low == CG_UNSET);
	assert_int_equal(l.pids_max, VM_THREADS);
	plan_disk(&s, &d);
	assert_int_equal(d.backend, DISK_LOOP);
}

static bool has(char *const *v, const char *word)
{
	for (; v && *v; v++)
		if (strcmp(*v, word) == 0)
			return true;
	return false;
}

static void test_argv(void **state)
{
	auto_done(spec_done) struct vps_spec s;
	auto_done(net_plan_done) struct net_plan net = {0};
	auto_strv argv = NULL;
	auto_strv none = NULL;
	auto_strv restored = NULL;
	struct vps_conf conf = {.tag = (char *)(uintptr_t) "vps"};
	struct vps_run run = {.spec = &s, .conf = &conf, .net = &net, .checkpoint = -1};
	struct vm_size size;
	struct vm_fds f = {.rounds = {[0 ... VMM_ROUNDS_MAX - 1] = -1}, .modules = -1, .errand = -1, .restore = -1, .kvm = 4, .kernel = 5, .initrd = {6, 7}, .image = 8, .disk = 9, .tap = 10,
			   .gate = 11, .ctl = 12, .notify = 13, .console = {14, 15}, .stdio = {-1, -1, -1}};
	char want[64];
	uint8_t mac[6];

	machine(&s);
	with(&s, "memory", "256M");
	with(&s, "cpus", "2");
	with(&s, "cmdline", "debug a=b,c");
	size = vm_size_of(&s, 8);
	assert_int_equal(plan_net(&s, &net, NULL), 0);
	assert_string_equal(net.tap, VM_TAP);
	net.mtu = 1400;
	assert_int_equal(vm_argv(&run, &f, &size, &argv), 0);
	assert_string_equal(argv[0], "vps-vmm");
	assert_true(has(argv, "memory=268435456") && has(argv, "cpus=2") && has(argv, "kvm=4"));
	assert_true(has(argv, "kernel=5") && has(argv, "initrd=6") && has(argv, "initrd=7"));
	assert_true(has(argv, "cmdline=console=ttyS0 quiet panic=1 net.ifnames=0 debug a=b,c"));
	assert_true(has(argv, "disk=8,ro,serial=image") && has(argv, "disk=9,serial=disk"));
	assert_true(has(argv, "gate=11") && has(argv, "ctl=12") && has(argv, "notify=13"));
	assert_true(has(argv, "console=14,15"));
	net_mac_derive("vps", 101, mac);
	snprintf(want, sizeof(want), "net=10,%02x:%02x:%02x:%02x:%02x:%02x,mtu=1400", mac[0], mac[1],
		 mac[2], mac[3], mac[4], mac[5]);
	assert_true(has(argv, want));

	with(&s, "mac", "02:00:5e:00:00:07");
	net_plan_done(&net);
	assert_int_equal(plan_net(&s, &net, NULL), 0);
	f.stdio[0] = 20;
	f.stdio[1] = 21;
	f.stdio[2] = 22;
	assert_int_equal(vm_argv(&run, &f, &size, &none), 0);
	assert_true(has(none, "net=10,02:00:5e:00:00:07,mtu=0"));
	/* a restored one has its kernel in its memory, and the size that it had */
	f.restore = 30;
	f.rounds[0] = 40;
	f.rounds[1] = 41;
	f.kernel = f.initrd[0] = f.initrd[1] = -1;
	size = (struct vm_size){.memory = 512 << 20, .cpus = 3};
	f.modules = 31;
	assert_int_equal(vm_argv(&run, &f, &size, &restored), 0);
	assert_true(has(restored, "round=40") && has(restored, "round=41"));
	assert_true(has(restored, "restore=30") && has(restored, "memory=536870912") && has(restored, "cpus=3"));
	assert_true(has(restored, "disk=31,ro,serial=modules"));
	for (char **a = restored; *a; a++)
		assert_true(strncmp(*a, "cmdline", 7) != 0 && strncmp(*a, "initrd", 6) != 0 && strncmp(*a, "kernel", 6) != 0);
	assert_true(has(none, "port=16,20,in") && has(none, "port=17,21,out") && has(none, "port=18,22,out"));
}

static void test_guest(void **state)
{
	auto_done(spec_done) struct vps_spec s;
	auto_done(net_plan_done) struct net_plan net = {0};
	auto_done(guest_cfg_done) struct guest_cfg c = {0};
	struct guest_file file = {.path = (char *)(uintptr_t) "/etc/x", .data = (char *)(uintptr_t) "a\0b", .len = 3};
	char *argv[] = {(char *)(uintptr_t) "/bin/true", NULL};
	struct vps_run run = {.spec = &s, .net = &net, .argv = argv, .under_init = true, .files = &file, .checkpoint = -1,
			      .n_files = 1, .hostname = "web1"};

	machine(&s);
	with(&s, "pids", "3");
	with(&s, "sysctl", "net.ipv4.ip_forward=1");
	s.addrs = calloc(3, sizeof(char *));
	s.addrs[0] = strdup("10.0.0.5/24");
	s.addrs[1] = strdup("fd00::5/64");
	assert_int_equal(plan_net(&s, &net, NULL), 0);
	assert_int_equal(vm_guest_cfg(&run, &c), 0);
	assert_int_equal(c.role, GUEST_COMMAND);
	assert_true(c.tty && c.nic && c.stop_signal == 0);
	assert_string_equal(c.argv[0], "/bin/true");
	assert_string_equal(c.addrs[0], "10.0.0.5/32");
	assert_string_equal(c.addrs[1], "fd00::5/128");
	assert_string_equal(c.gw4, "169.254.1.1");
	assert_string_equal(c.gw6, "fe80::1");
	assert_non_null(c.gw_mac);
	assert_true(has(c.sysctls, "net.ipv4.ip_forward=1") && has(c.sysctls, "kernel.threads-max=20"));
	assert_int_equal(c.n_files, 1);
	assert_memory_equal(c.files[0].data, "a\0b", 3);
	assert_ptr_not_equal(c.files[0].data, file.data);
	guest_cfg_done(&c);

	/* On a wire of others nothing is made up. */
	memset(&c, 0, sizeof(c));
	net_plan_done(&net);
	with(&s, "net", "bridge=br0");
	with(&s, "gateway", "10.0.0.1");
	run.under_init = false;
	assert_int_equal(plan_net(&s, &net, NULL), 0);
	assert_int_equal(vm_guest_cfg(&run, &c), 0);
	assert_int_equal(c.role, GUEST_SYSTEM);
	assert_false(c.tty);
	assert_string_equal(c.addrs[0], "10.0.0.5/24");
	assert_string_equal(c.gw4, "10.0.0.1");
	assert_true(!c.gw6 && !c.gw_mac);
}

/* What a running guest is told: what is new, what goes, and nothing that stays. */
static void test_change(void **state)
{
	auto_done(spec_done) struct vps_spec was;
	auto_done(spec_done) struct vps_spec now;
	auto_done(guest_cfg_done) struct guest_cfg c = {0};

	machine(&was);
	machine(&now);
	with(&now, "pids", "300");
	assert_int_equal(vm_guest_change(&was, &now, &c), 0);
	assert_true(has(c.sysctls, "kernel.threads-max=300") && !c.nic && !c.addrs && !c.old_addrs);
	guest_cfg_done(&c);
	assert_int_equal(vm_guest_change(&now, &was, &c), 0);
	assert_true(has(c.sysctls, "kernel.threads-max=4194304"));
	guest_cfg_done(&c);

	strv_add(&was.addrs, "10.0.0.5");
	strv_add(&was.addrs, "10.0.0.6");
	strv_add(&now.addrs, "10.0.0.6");
	strv_add(&now.addrs, "fd00::5");
	with(&was, "pids", "300");
	with(&now, "stop-signal", "TERM");
	assert_int_equal(vm_guest_change(&was, &now, &c), 0);
	assert_true(!c.sysctls && c.nic && c.stop_signal == 15);
	assert_true(has(c.addrs, "10.0.0.6/32") && has(c.addrs, "fd00::5/128") && c.gw6 && c.gw4);
	assert_true(has(c.old_addrs, "10.0.0.5/32") && !has(c.old_addrs, "10.0.0.6/32"));
}

static void test_sizes(void **state)
{
	static const char *const bad[] = {"", "memory=1:5\n", "cpus=1:1\n", "memory=1:5\ncpus=2:99\n", "memory=1:5\ncpus=1:1",
					  "memory=2:-1\ncpus=1:1\n", "memory=1:5\ncpus=1:1\nmodules=2:..\n",
					  "memory=1:5\ncpus=1:1\nmodules=20:modules-/x/6.1.erofs\n"};
	const char good[] = "memory=3:128\nnew=1:?\ncpus=1:2\nmodules=17:modules-6.1.erofs\n";
	struct vm_size s = {0};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(vm_size_parse(bad[i], strlen(bad[i]), &s), -EPROTO);
	assert_int_equal(vm_size_parse(good, strlen(good), &s), 0);
	assert_true(s.memory == 128 && s.cpus == 2);
	assert_string_equal(s.modules, "modules-6.1.erofs");
}

static void test_kernel(void **state)
{
	uint8_t head[1024] = {0};
	char release[128];

	vm_kernel_release(head, sizeof(head), release);
	assert_string_equal(release, "");
	memcpy(head + 0x202, "HdrS", 4);
	vm_kernel_release(head, sizeof(head), release);
	assert_string_equal(release, "");
	head[0x20e] = 0x40;
	strcpy((char *)head + 0x240, "6.1.0-44-cloud-amd64 (debian-kernel@lists.debian.org) #1 SMP");
	vm_kernel_release(head, sizeof(head), release);
	assert_string_equal(release, "6.1.0-44-cloud-amd64");
	/* It becomes a path. */
	strcpy((char *)head + 0x240, "../../etc x");
	vm_kernel_release(head, sizeof(head), release);
	assert_string_equal(release, "");
	head[0x20e] = 0xf0;
	head[0x20f] = 0xff;
	vm_kernel_release(head, sizeof(head), release);
	assert_string_equal(release, "");
	memset(head + 0x210, 'a', sizeof(head) - 0x210);
	head[0x20e] = 0xf0;
	head[0x20f] = 0x01;
	vm_kernel_release(head, sizeof(head), release);
	assert_string_equal(release, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused), cmocka_unit_test(test_size), cmocka_unit_test(test_argv),
		cmocka_unit_test(test_guest), cmocka_unit_test(test_change),
		cmocka_unit_test(test_sizes),	cmocka_unit_test(test_kernel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
