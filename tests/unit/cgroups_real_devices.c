/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Device rules on this machine, by v1 and by BPF. */
#include "tests/unit/cgroups_real.h"

#include <fcntl.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

static int try_device(const char *path, int flags)
{
	autoclose int fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? errno : 0;
}

/* Bits: what is allowed. */
static void try_devices(struct fix *f)
{
	int mask = 0;
	mask |= try_device("/dev/null", O_RDWR) == 0 ? 1 : 0;
	mask |= try_device("/dev/zero", O_RDONLY) == 0 ? 2 : 0;
	mask |= try_device("/dev/zero", O_RDWR) == 0 ? 4 : 0;
	mask |= try_device("/dev/full", O_RDONLY) == 0 ? 8 : 0;
	char path[64];
	snprintf(path, sizeof(path), "/tmp/%s-node", tag);
	if (mknod(path, S_IFCHR | 0600, makedev(1, 7)) == 0) {
		mask |= 16;
		unlink(path);
	}
	_exit(mask);
}

static const struct cg_device null_zero[] = { { 'c', 1, 3, "rwm" }, { 'c', 1, 5, "r" },
					      { 'c', 1, 5, "m" } };
static const struct cg_device full[] = { { 'c', 1, 7, "rm" }, { 'c', 1, 3, "rw" } };
static const struct cg_device everything[] = { { 'a', -1, -1, "rwm" } };

static void test_devices(void **state)
{
	struct fix *f = *state;
	assert_int_equal(run(f, try_devices), 31);
	ok(cg_devices_set(f->cg, null_zero, ARRAY_LEN(null_zero), &err));
	assert_int_equal(run(f, try_devices), 1 | 2);
	ok(cg_devices_set(f->cg, full, ARRAY_LEN(full), &err));
	assert_int_equal(run(f, try_devices), 1 | 8 | 16);
	ok(cg_devices_set(f->cg, NULL, 0, &err));
	assert_int_equal(run(f, try_devices), 0);
	ok(cg_devices_set(f->cg, everything, 1, &err));
	assert_int_equal(run(f, try_devices), 31);
}

static int attached(int fd)
{
	uint32_t ids[8];
	union bpf_attr attr = { 0 };
	attr.query.target_fd = (uint32_t)fd;
	attr.query.attach_type = BPF_CGROUP_DEVICE;
	attr.query.prog_ids = (uintptr_t)ids;
	attr.query.prog_cnt = ARRAY_LEN(ids);
	return syscall(SYS_bpf, BPF_PROG_QUERY, &attr, sizeof(attr)) < 0 ? -errno
									 : (int)attr.query.prog_cnt;
}

static void set_bpf(struct fix *f, const struct cg_device *rules, size_t n)
{
	struct cg_devrule *merged = NULL;
	size_t n_merged;
	ok(cg_devices_merge(rules, n, &merged, &n_merged, &err));
	int r = cg_devbpf_attach(f->cg->v2_fd, merged, n_merged, &err);
	free(merged);
	ok(r);
}

/* BPF works on any v2 group, so also where v1 holds the controllers. */
static void test_device_bpf(void **state)
{
	struct fix *f = *state;
	if (attached(f->cg->v2_fd) < 0) {
		print_message("skipped: no BPF for cgroups here\n");
		skip();
	}
	set_bpf(f, null_zero, ARRAY_LEN(null_zero));
	assert_int_equal(run(f, try_devices), 1 | 2);
	set_bpf(f, full, ARRAY_LEN(full));
	assert_int_equal(run(f, try_devices), 1 | 8 | 16);
	assert_int_equal(attached(f->cg->v2_fd), 1);
	set_bpf(f, everything, 1);
	assert_int_equal(run(f, try_devices), 31);
	assert_int_equal(attached(f->cg->v2_fd), 1);
	struct cg_device many[CG_DEVICES_MAX];
	for (int i = 0; i < CG_DEVICES_MAX; i++)
		many[i] = (struct cg_device){ 'b', 8, i, "r" };
	set_bpf(f, many, ARRAY_LEN(many)); /* the verifier takes the longest too */
	assert_int_equal(run(f, try_devices), 0);
}

int run_device_tests(void)
{
	const struct CMUnitTest tests[] = { T(test_devices), T(test_device_bpf) };
	return cmocka_run_group_tests_name("devices", tests, NULL, NULL);
}
