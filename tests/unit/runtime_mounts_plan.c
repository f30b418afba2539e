/* SPDX-License-Identifier: GPL-2.0-or-later */
/* runtime/container/mounts_plan.c: what is mounted, without mounting. */
#include "tests/unit/base_util.h"

#include <sys/mount.h>

#include "runtime/container/container.h"

static const struct mnt *find(const struct mnt_plan *p, const char *dst)
{
	for (size_t i = 0; i < p->n; i++)
		if (str_eq(p->m[i].dst, dst))
			return &p->m[i];
	return NULL;
}

static void plan(const struct mnt_input *in, struct mnt_plan *p)
{
	assert_int_equal(mnt_plan(in, p), 0);
}

static void test_walls(void **state)
{
	static const char *const masked[] = {
		"proc/asound", "proc/acpi", "proc/kcore", "proc/keys", "proc/latency_stats",
		"proc/timer_list", "proc/timer_stats", "proc/sched_debug", "proc/scsi",
		"sys/firmware",
	};
	static const char *const read_only[] = {
		"proc/bus", "proc/fs", "proc/irq", "proc/sysrq-trigger",
	};
	auto_done(mnt_plan_done) struct mnt_plan p = {0};
	const struct mnt_input in = {.memory = SPEC_UNSET};

	plan(&in, &p);
	for (size_t i = 0; i < ARRAY_LEN(masked); i++) {
		const struct mnt *m = find(&p, masked[i]);

		assert_non_null(m);
		assert_int_equal(m->kind, MNT_MASK);
		assert_true(m->optional);
	}
	for (size_t i = 0; i < ARRAY_LEN(read_only); i++) {
		const struct mnt *m = find(&p, read_only[i]);

		assert_non_null(m);
		assert_int_equal(m->kind, MNT_READONLY);
		assert_true(m->attrs & MOUNT_ATTR_RDONLY);
	}
	assert_true(find(&p, "sys")->attrs & MOUNT_ATTR_RDONLY);
	assert_false(find(&p, "sys/fs/cgroup")->attrs & MOUNT_ATTR_RDONLY);
	assert_null(find(&p, "dev/.vps/proc"));
	assert_null(find(&p, "run"));
}

/* A mount that is shown before what it lies on would vanish below it. */
static void test_order(void **state)
{
	struct spec_mount own[] = {{(char *)"/srv/a", (char *)"/dev/shm/x", false},
				   {(char *)"/srv/b", (char *)"//proc/kcore", true}};
	auto_done(mnt_plan_done) struct mnt_plan p = {0};
	const struct mnt_input in = {.memory = 1 << 30, .system = true, .whole = true,
				     .mounts = own, .n_mounts = 2};

	plan(&in, &p);
	for (size_t i = 0; i < p.n; i++)
		for (size_t j = i + 1; j < p.n; j++) {
			size_t n = strlen(p.m[j].dst);

			if (strncmp(p.m[i].dst, p.m[j].dst, n) == 0 && p.m[i].dst[n] == '/')
				fail_msg("%s comes before %s", p.m[i].dst, p.m[j].dst);
		}
	/* The operator's come below the masks, not on top of them. */
	assert_int_equal(find(&p, "proc/kcore")->kind, MNT_BIND);
	assert_int_equal(p.m[p.n - 1].kind, MNT_MASK);
	assert_int_equal(find(&p, "dev/.vps/proc")->kind, MNT_PROC);
}

static void test_no_setuid_no_devices(void **state)
{
	auto_done(mnt_plan_done) struct mnt_plan p = {0};
	const struct mnt_input in = {.memory = SPEC_MAX, .system = true, .whole = true};

	plan(&in, &p);
	for (size_t i = 0; i < p.n; i++) {
		const struct mnt *m = &p.m[i];

		assert_true(m->attrs & MOUNT_ATTR_NOSUID);
		if (m->kind != MNT_DEV && m->kind != MNT_DEVPTS)
			assert_true(m->attrs & MOUNT_ATTR_NODEV);
		if (m->kind != MNT_BIND)
			assert_true(m->strict);
	}
}

static void test_sizes(void **state)
{
	auto_done(mnt_plan_done) struct mnt_plan small = {0}, free_ = {0};
	const struct mnt_input limited = {.memory = 100 << 20, .system = true};
	const struct mnt_input unlimited = {.memory = SPEC_UNSET, .system = true};

	plan(&limited, &small);
	plan(&unlimited, &free_);
	assert_int_equal(find(&small, "dev/shm")->size, (100 << 20) / 100 * 50);
	assert_int_equal(find(&small, "run")->size, (100 << 20) / 100 * 20);
	assert_int_equal(find(&small, "dev/shm")->inodes, 16384);
	assert_int_equal(find(&free_, "dev/shm")->size, 0);
	assert_int_equal(find(&free_, "dev/shm")->inodes, 1 << 20);
	assert_int_equal(find(&small, "dev/shm")->mode, 01777);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_walls),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_no_setuid_no_devices),
		cmocka_unit_test(test_sizes),
	};

	return cmocka_run_group_tests_name("container/mounts_plan", tests, NULL, NULL);
}
