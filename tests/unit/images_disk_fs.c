/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Disks whose limit the host's file system enforces: project quota on ext4 and xfs, qgroups on
 * btrfs. Each on a file system of the test's own; skipped where this kernel lacks it. */
#include "tests/unit/images_disk_util.h"

#include <linux/fs.h>
#include <sys/ioctl.h>

#define PROJECT 700000u

/* A fresh file system at <test dir>/fs; false, and why, when this kernel does not mount it. */
static bool make_fs(struct test_dir *t, const char *const *mkfs, const char *opts, int *ret_dir)
{
	autofree char *img = str_fmt("%s/fs.img", t->path), *at = str_fmt("%s/fs", t->path);
	const char *argv[16];
	size_t n = 0;

	autoclose int fd = open(img, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_int_equal(ftruncate(fd, 512 * MIB), 0);
	autofree char *tool = proc_find(mkfs[0]);
	if (!tool) {
		print_message("# SKIP: no %s\n", mkfs[0]);
		return false;
	}
	while (mkfs[n]) {
		argv[n] = mkfs[n];
		n++;
	}
	argv[n++] = img;
	argv[n] = NULL;
	assert_int_equal(run_program(argv), 0);
	mkdir(at, 0755);
	if (run_cmd("mount", "-o", opts, img, at) != 0) {
		print_message("# SKIP: this kernel does not mount %s with %s\n", mkfs[0], opts);
		return false;
	}
	*ret_dir = fs_open_dir(AT_FDCWD, at);
	assert_true(*ret_dir >= 0);
	return true;
}

static int fs_teardown(void **state)
{
	struct test_dir *t = *state;
	const char *const below[] = {"merged", "at", "fs"};

	for (size_t i = 0; i < ARRAY_LEN(below); i++) {
		autofree char *path = str_fmt("%s/%s", t->path, below[i]);

		umount2(path, MNT_DETACH);
	}
	return test_dir_remove(state);
}
#define fs_test(f) cmocka_unit_test_setup_teardown(f, test_dir_make, fs_teardown)

static const char *const mkfs_ext4[] = {"mkfs.ext4", "-q", "-F", "-O", "project,quota", "-E",
					"quotatype=prjquota", NULL};
static const char *const mkfs_ext4_plain[] = {"mkfs.ext4", "-q", "-F", NULL};
static const char *const mkfs_xfs[] = {"mkfs.xfs", "-q", "-f", NULL};
static const char *const mkfs_btrfs[] = {"mkfs.btrfs", "-q", "-f", NULL};

static void assert_limited(int error)
{
	assert_true(error == EDQUOT || error == ENOSPC);
}

/* ---- project quota -------------------------------------------------------- */

static void quota_limits(struct test_dir *t, int dir)
{
	struct vps_err err = {0};
	struct img_disk_spec d = {.size = 32 * MIB, .inodes = 200, .project = PROJECT};
	struct img_disk_spec grown = {.size = 64 * MIB, .inodes = 400, .project = PROJECT};
	struct img_disk_spec tiny = {.size = 8 * MIB, .inodes = 400, .project = PROJECT};
	struct img_disk_usage u;
	enum img_backend b = DISK_AUTO;
	struct statfs sf;
	int error, m = -1;

	assert_ok(img_disk_create(dir, &d, &b, &err));
	assert_int_equal(b, DISK_QUOTA); /* AUTO prefers it */
	d.backend = grown.backend = tiny.backend = DISK_QUOTA;
	assert_ok(img_disk_attach(dir, b, false, &m, &err));
	autoclose int top = overlay_on(m, t->path);
	/* df inside */
	assert_int_equal(fstatfs(top, &sf), 0);
	assert_int_equal((uint64_t)sf.f_blocks * (uint64_t)sf.f_bsize, 32 * MIB);
	assert_int_equal(sf.f_files, 200);
	switch_cap(CAP_SYS_RESOURCE, false);
	assert_in_range(fill_file(top, "a", 100 * MIB, &error), 16 * MIB, 33 * MIB);
	assert_limited(error);
	switch_cap(CAP_SYS_RESOURCE, true);
	assert_int_equal(img_disk_usage(dir, &d, -1, &u), 0);
	assert_int_equal(u.size, 32 * MIB);
	assert_in_range(u.used, 16 * MIB, 33 * MIB);
	assert_int_equal(u.inodes, 200);
	/* Live, both ways; a shrink below what is there changes nothing. */
	assert_ok(img_disk_resize(dir, &d, &grown, m, &err));
	assert_in_range(fill_file(top, "a", 48 * MIB, &error), 48 * MIB, 49 * MIB);
	assert_refused(img_disk_resize(dir, &grown, &tiny, m, &err), VPS_ERESOURCE);
	assert_int_equal(fstatfs(top, &sf), 0);
	assert_int_equal((uint64_t)sf.f_blocks * (uint64_t)sf.f_bsize, 64 * MIB);
	assert_int_equal(unlinkat(top, "a", 0), 0);
	syncfs(top);
	assert_ok(img_disk_resize(dir, &grown, &tiny, m, &err));
	overlay_off(&top, t->path);
	close(m);
}

static void quota_inodes(struct test_dir *t, int dir)
{
	struct vps_err err = {0};
	struct img_disk_spec d = {.backend = DISK_QUOTA, .size = 32 * MIB, .inodes = 100,
				  .project = PROJECT + 1};
	autofree char *sub = str_fmt("%s/fs/second", t->path);
	enum img_backend b;
	unsigned n = 0;
	char name[32];
	int m = -1;

	assert_int_equal(mkdir(sub, 0700), 0);
	autoclose int second = fs_open_dir(AT_FDCWD, sub);
	assert_ok(img_disk_create(second, &d, &b, &err));
	assert_ok(img_disk_attach(second, b, false, &m, &err));
	switch_cap(CAP_SYS_RESOURCE, false);
	for (; n < 1000; n++) {
		snprintf(name, sizeof name, "upper/%u", n);
		autoclose int fd = openat(m, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
		if (fd < 0)
			break;
	}
	assert_limited(errno);
	switch_cap(CAP_SYS_RESOURCE, true);
	assert_in_range(n, 90, 100);
	close(m);
	/* Two disks on one project would share one limit. */
	struct img_disk_spec twin = d;
	autofree char *third = str_fmt("%s/fs/third", t->path);
	assert_int_equal(mkdir(third, 0700), 0);
	autoclose int other = fs_open_dir(AT_FDCWD, third);
	assert_refused(img_disk_create(other, &twin, &b, &err), VPS_ERESOURCE);
	assert_false(fs_exists(other, "disk"));
	assert_false(fs_exists(other, "disk.tmp"));
	/* The refusal must not have taken the first one's limit away. */
	struct img_disk_usage u;
	assert_int_equal(img_disk_usage(second, &d, -1, &u), 0);
	assert_int_equal(u.size, 32 * MIB);
	/* Gone, the project is free again and carries no limit. */
	assert_ok(img_disk_destroy(second, b, &err));
	syncfs(dir);
	assert_ok(img_disk_create(other, &twin, &b, &err));
	assert_ok(img_disk_destroy(other, b, &err));
}

/* Inside its user namespace a tenant's root has every capability; the project is not its. */
static void quota_tenant(struct test_dir *t, int dir)
{
	struct vps_err err = {0};
	struct img_disk_spec d = {.backend = DISK_QUOTA, .size = 32 * MIB, .project = PROJECT + 2};
	autofree char *sub = str_fmt("%s/fs/tenant", t->path);
	enum img_backend b;
	int m = -1, status;

	assert_int_equal(mkdir(sub, 0700), 0);
	autoclose int own = fs_open_dir(AT_FDCWD, sub);
	assert_ok(img_disk_create(own, &d, &b, &err));
	assert_ok(img_disk_attach(own, b, false, &m, &err));
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct fsxattr fa;
		int fd = fs_open_dir(m, "upper");

		if (unshare(CLONE_NEWUSER) < 0)
			_exit(2);
		fs_write(AT_FDCWD, "/proc/self/uid_map", "0 0 1");
		if (ioctl(fd, FS_IOC_FSGETXATTR, &fa) < 0 || fa.fsx_projid != PROJECT + 2)
			_exit(3);
		fa.fsx_projid = 0;
		if (ioctl(fd, FS_IOC_FSSETXATTR, &fa) == 0)
			_exit(4);
		fa.fsx_projid = PROJECT + 2;
		fa.fsx_xflags &= ~FS_XFLAG_PROJINHERIT;
		_exit(ioctl(fd, FS_IOC_FSSETXATTR, &fa) == 0 ? 5 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(m);
	assert_ok(img_disk_destroy(own, b, &err));
}

static void child_create(int dir, const struct img_disk_spec *d)
{
	img_disk_create(dir, d, &(enum img_backend){0}, NULL);
}

/* Whenever it dies: the next create succeeds, and destroy leaves nothing. */
static void killed_creates(int dir, const struct img_disk_spec *d)
{
	struct vps_err err = {0};
	enum img_backend b;

	for (unsigned us = 0; us < 4000; us += 100) {
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (pid == 0) {
			child_create(dir, d);
			_exit(0);
		}
		usleep(us);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		if (!fs_exists(dir, "disk"))
			assert_ok(img_disk_create(dir, d, &b, &err));
		assert_ok(img_disk_destroy(dir, d->backend, &err));
		assert_false(fs_exists(dir, "disk"));
		assert_false(fs_exists(dir, "disk.tmp"));
	}
}

static void quota_all(struct test_dir *t, const char *const *mkfs)
{
	struct vps_err err = {0};
	struct img_disk_spec d = {.backend = DISK_QUOTA, .size = 32 * MIB, .project = PROJECT + 3};
	autoclose int dir = -1;
	enum img_backend b;

	if (!make_fs(t, mkfs, "loop,prjquota", &dir))
		skip();
	quota_limits(t, dir);
	quota_inodes(t, dir);
	quota_tenant(t, dir);
	assert_ok(img_disk_destroy(dir, DISK_QUOTA, &err));
	syncfs(dir);
	killed_creates(dir, &d);
	d.project = 0;
	assert_refused(img_disk_check(dir, &d, &b, &err), EINVAL);
}

static void test_quota_ext4(void **state)
{
	quota_all(*state, mkfs_ext4);
}

static void test_quota_xfs(void **state)
{
	quota_all(*state, mkfs_xfs);
}

static void test_quota_off(void **state)
{
	struct test_dir *t = *state;
	struct vps_err err = {0};
	struct img_disk_spec d = {.backend = DISK_QUOTA, .size = 32 * MIB, .project = PROJECT};
	autoclose int dir = -1;
	enum img_backend b;

	if (!make_fs(t, mkfs_ext4_plain, "loop", &dir))
		skip();
	assert_int_equal(img_disk_check(dir, &d, &b, &err), -VPS_EUNSUPPORTED);
	assert_non_null(strstr(err.msg, "quota")); /* why */
	assert_non_null(strstr(err.msg, "--disk-backend loop")); /* what helps */
	vps_err_clear(&err);
	assert_refused(img_disk_create(dir, &d, &b, &err), VPS_EUNSUPPORTED);
	assert_false(fs_exists(dir, "disk"));
	d.backend = DISK_AUTO;
	assert_ok(img_disk_check(dir, &d, &b, &err));
	assert_int_equal(b, DISK_LOOP);
}

/* ---- btrfs ---------------------------------------------------------------- */

static void test_btrfs_off(void **state)
{
	struct test_dir *t = *state;
	struct vps_err err = {0};
	struct img_disk_spec d = {.backend = DISK_BTRFS, .size = 32 * MIB};
	struct img_disk_usage u;
	autoclose int dir = -1;
	enum img_backend b;
	int m = -1;

	if (!make_fs(t, mkfs_btrfs, "loop", &dir))
		skip();
	assert_int_equal(img_disk_check(dir, &d, &b, &err), -VPS_EUNSUPPORTED);
	assert_non_null(strstr(err.msg, "btrfs quota enable"));
	vps_err_clear(&err);
	d.backend = DISK_AUTO;
	assert_ok(img_disk_check(dir, &d, &b, &err));
	assert_int_equal(b, DISK_LOOP);
	/* A loop image on btrfs works as anywhere. */
	assert_ok(img_disk_create(dir, &d, &b, &err));
	assert_ok(img_disk_attach(dir, b, false, &m, &err));
	close(m);
	assert_ok(img_disk_destroy(dir, b, &err));
	/* Without a limit the subvolume needs no quota. */
	d = (struct img_disk_spec){.backend = DISK_BTRFS};
	assert_ok(img_disk_create(dir, &d, &b, &err));
	assert_int_equal(img_disk_usage(dir, &d, -1, &u), -EOPNOTSUPP);
	assert_ok(img_disk_destroy(dir, b, &err));
}

static void btrfs_limits(struct test_dir *t, int dir)
{
	struct vps_err err = {0};
	struct img_disk_spec d = {.backend = DISK_BTRFS, .size = 32 * MIB};
	struct img_disk_spec grown = {.backend = DISK_BTRFS, .size = 96 * MIB};
	struct img_disk_usage u;
	enum img_backend b;
	int error, m = -1;

	assert_ok(img_disk_create(dir, &d, &b, &err));
	assert_int_equal(b, DISK_BTRFS);
	assert_ok(img_disk_attach(dir, b, false, &m, &err));
	autoclose int top = overlay_on(m, t->path);
	assert_in_range(fill_file(top, "a", 100 * MIB, &error), 16 * MIB, 33 * MIB);
	assert_int_equal(error, EDQUOT);
	assert_ok(img_disk_resize(dir, &d, &grown, m, &err));
	assert_in_range(fill_file(top, "a", 64 * MIB, &error), 64 * MIB, 65 * MIB);
	assert_int_equal(error, 0);
	assert_refused(img_disk_resize(dir, &grown, &d, m, &err), VPS_ERESOURCE);
	assert_int_equal(img_disk_usage(dir, &d, m, &u), 0);
	assert_int_equal(u.size, 96 * MIB);
	assert_in_range(u.used, 63 * MIB, 66 * MIB);
	overlay_off(&top, t->path);
	close(m);
	assert_ok(img_disk_destroy(dir, b, &err));
	assert_false(fs_exists(dir, "disk"));
}

static void test_btrfs(void **state)
{
	struct test_dir *t = *state;
	struct vps_err err = {0};
	struct img_disk_spec d = {.backend = DISK_BTRFS, .size = 32 * MIB};
	struct img_disk_spec files = {.backend = DISK_BTRFS, .size = 32 * MIB, .inodes = 100};
	autofree char *at = str_fmt("%s/fs", t->path);
	autoclose int dir = -1;
	enum img_backend b;

	if (!make_fs(t, mkfs_btrfs, "loop", &dir))
		skip();
	assert_int_equal(run_cmd("btrfs", "quota", "enable", at), 0);
	btrfs_limits(t, dir);
	assert_refused(img_disk_check(dir, &files, &b, &err), VPS_EUNSUPPORTED);
	killed_creates(dir, &d);
	/* df would tell the host's size: never by itself. */
	d.backend = DISK_AUTO;
	assert_ok(img_disk_check(dir, &d, &b, &err));
	assert_int_equal(b, DISK_LOOP);
}

int main(void)
{
	need_root_ns();
	const struct CMUnitTest tests[] = {
		fs_test(test_quota_off),
		fs_test(test_quota_ext4),
		fs_test(test_quota_xfs),
		fs_test(test_btrfs_off),
		fs_test(test_btrfs),
	};
	if (access("/dev/loop-control", R_OK | W_OK) < 0) {
		printf("# SKIP: no /dev/loop-control: %s\n", strerror(errno));
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
