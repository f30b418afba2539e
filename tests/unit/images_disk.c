/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Disks on loop devices and plain directories; what any host can do. */
#include "tests/unit/images_disk_util.h"

static const struct img_disk_spec loop64 = {.backend = DISK_LOOP, .size = 64 * MIB};

static int attach(struct test_dir *t, enum img_backend b)
{
	struct vps_err err = {0};
	int mount_fd = -1;

	assert_ok(img_disk_attach(t->fd, b, false, &mount_fd, &err));
	return mount_fd;
}

static void create(struct test_dir *t, const struct img_disk_spec *d)
{
	struct vps_err err = {0};
	enum img_backend b;

	assert_ok(img_disk_create(t->fd, d, &b, &err));
	assert_int_equal(b, d->backend);
}

static void assert_root_dir(int mount_fd, const char *name)
{
	struct stat st;

	assert_int_equal(fstatat(mount_fd, name, &st, 0), 0);
	assert_int_equal(st.st_mode, S_IFDIR | 0755);
	assert_int_equal(st.st_uid, 0);
	assert_int_equal(st.st_gid, 0);
}

/* Growing a mounted ext4 is the initial namespace's CAP_SYS_RESOURCE's. */
static bool can_grow_live(void)
{
	if (has_cap(CAP_SYS_RESOURCE))
		return true;
	print_message("# SKIP: live grow: this process lacks CAP_SYS_RESOURCE\n");
	return false;
}

static void test_names(void **state)
{
	enum img_backend b;

	assert_int_equal(img_backend_parse("quota", &b), 0);
	assert_int_equal(b, DISK_QUOTA);
	assert_int_equal(img_backend_parse("zfs", &b), -EINVAL);
	for (b = DISK_AUTO; b <= DISK_DIR; b++) {
		enum img_backend again;

		assert_int_equal(img_backend_parse(img_backend_name(b), &again), 0);
		assert_int_equal(again, b);
	}
}

static void test_check(void **state)
{
	struct test_dir *t = *state;
	struct vps_err err = {0};
	enum img_backend b;
	struct img_disk_spec d = {0};

	assert_ok(img_disk_check(t->fd, &d, &b, &err));
	assert_int_equal(b, DISK_DIR);
	d.size = 64 * MIB;
	d.project = 7;
	assert_ok(img_disk_check(t->fd, &d, &b, &err));
	assert_true(b == DISK_LOOP || b == DISK_QUOTA);

	d = (struct img_disk_spec){.backend = DISK_LOOP};
	assert_refused(img_disk_check(t->fd, &d, &b, &err), VPS_EUNSUPPORTED);
	d.size = MIB;
	assert_refused(img_disk_check(t->fd, &d, &b, &err), VPS_EUSAGE);
	/* 10 GiB are 80 groups of at least 16 inodes: 100 cannot be told apart from 1280. */
	d = (struct img_disk_spec){.backend = DISK_LOOP, .size = 10240 * MIB, .inodes = 100};
	assert_refused(img_disk_check(t->fd, &d, &b, &err), VPS_EUNSUPPORTED);
	d.inodes = 1ull << 40;
	assert_refused(img_disk_check(t->fd, &d, &b, &err), VPS_EUSAGE);
	d = (struct img_disk_spec){.backend = DISK_DIR, .size = 64 * MIB};
	assert_refused(img_disk_check(t->fd, &d, &b, &err), VPS_EUNSUPPORTED);
	d = (struct img_disk_spec){.backend = DISK_DIR, .inodes = 64};
	assert_refused(img_disk_check(t->fd, &d, &b, &err), VPS_EUNSUPPORTED);
}

static void test_dir(void **state)
{
	struct test_dir *t = *state;
	struct vps_err err = {0};
	struct img_disk_spec d = {.backend = DISK_DIR}, big = {.backend = DISK_DIR, .size = MIB};
	struct img_disk_usage u;
	struct stat st;

	umask(077); /* must not show */
	create(t, &d);
	umask(022);
	assert_refused(img_disk_create(t->fd, &d, &(enum img_backend){0}, &err), VPS_EEXISTS);
	assert_int_equal(fstatat(t->fd, "disk", &st, 0), 0);
	assert_int_equal(st.st_mode, S_IFDIR | 0700);
	autoclose int m = attach(t, DISK_DIR);
	assert_root_dir(m, "upper");
	assert_root_dir(m, "work");
	/* Detached: nothing of it shows in our mount table. */
	assert_int_equal(openat(m, "upper/f", O_CREAT | O_WRONLY | O_CLOEXEC, 0600) >= 0, 1);
	assert_true(fs_exists(t->fd, "disk/fs/upper/f"));
	assert_int_equal(img_disk_usage(t->fd, &d, m, &u), -EOPNOTSUPP);
	assert_refused(img_disk_resize(t->fd, &d, &big, m, &err), VPS_EUNSUPPORTED);
	close_fd(&m);
	assert_ok(img_disk_attach(t->fd, DISK_DIR, true, &m, &err));
	assert_int_equal(openat(m, "upper/g", O_CREAT | O_WRONLY | O_CLOEXEC, 0600), -1);
	assert_int_equal(errno, EROFS);
	assert_ok(img_disk_destroy(t->fd, DISK_DIR, &err));
	assert_ok(img_disk_destroy(t->fd, DISK_DIR, &err));
	assert_false(fs_exists(t->fd, "disk"));
}

static void test_dir_flags(void **state)
{
	struct test_dir *t = *state;
	struct vps_err err = {0};
	struct img_disk_spec d = {.backend = DISK_DIR};
	char path[128];
	struct statfs sf;
	int m = -1;

	/* A host that mounts its state nosuid,noexec must not take set-uid from its tenants. */
	snprintf(path, sizeof path, "%s/strict", t->path);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(mount("none", path, "tmpfs", MS_NOSUID | MS_NOEXEC, NULL), 0);
	autoclose int dir = fs_open_dir(AT_FDCWD, path);
	assert_ok(img_disk_create(dir, &d, &(enum img_backend){0}, &err));
	assert_ok(img_disk_attach(dir, DISK_DIR, false, &m, &err));
	assert_int_equal(fstatfs(m, &sf), 0);
	assert_int_equal(sf.f_flags & (MS_NOSUID | MS_NOEXEC), 0);
	assert_int_equal(sf.f_flags & MS_NODEV, MS_NODEV);
	close(m);
	close_fd(&dir);
	assert_int_equal(umount2(path, MNT_DETACH), 0);
}

static void test_loop_limit(void **state)
{
	struct test_dir *t = *state;
	struct vps_err err = {0};
	struct img_disk_usage u;
	struct statfs sf;
	int error;

	create(t, &loop64);
	autoclose int m = attach(t, DISK_LOOP);
	assert_root_dir(m, "upper");
	assert_root_dir(m, "work");
	autoclose int top = overlay_on(m, t->path);
	/* df inside */
	assert_int_equal(fstatfs(top, &sf), 0);
	uint64_t df = (uint64_t)sf.f_blocks * (uint64_t)sf.f_bsize;
	assert_in_range(df, 50 * MIB, 64 * MIB);
	/* Nothing is reserved for the host's root; the kernel keeps 2 % for itself. */
	assert_in_range(sf.f_bfree - sf.f_bavail, 0, sf.f_blocks / 40);
	int64_t n = fill_file(top, "big", 100 * MIB, &error);
	assert_int_equal(error, ENOSPC);
	assert_in_range(n, 45 * MIB, 64 * MIB);
	assert_int_equal(img_disk_usage(t->fd, &loop64, -1, &u), 0);
	assert_int_equal(u.size, df);
	assert_true(u.used >= (uint64_t)n);
	/* What the tenant deletes goes back to the host. */
	struct stat full, empty;
	assert_int_equal(fstatat(t->fd, "disk/disk.img", &full, 0), 0);
	assert_int_equal(unlinkat(top, "big", 0), 0);
	for (int i = 0; i < 100; i++) {
		syncfs(top);
		usleep(50000);
		assert_int_equal(fstatat(t->fd, "disk/disk.img", &empty, 0), 0);
		if (empty.st_blocks * 512ull < 8 * MIB)
			break;
	}
	assert_in_range(empty.st_blocks * 512ull, 0, 8 * MIB);
	assert_int_equal(fstatfs(m, &sf), 0);
	assert_int_equal(sf.f_flags & MS_NOSUID, 0);
	assert_int_equal(sf.f_flags & MS_NODEV, MS_NODEV);
	overlay_off(&top, t->path);
	close_fd(&m);
	assert_no_loops(t->path);
	assert_ok(img_disk_destroy(t->fd, DISK_LOOP, &err));
	assert_false(fs_exists(t->fd, "disk"));
}

static void test_loop_inodes(void **state)
{
	struct test_dir *t = *state;
	struct vps_err err = {0};
	struct img_disk_spec d = {.backend = DISK_LOOP, .size = 64 * MIB, .inodes = 256};
	struct img_disk_spec same = {.backend = DISK_LOOP, .size = 256 * MIB, .inodes = 256};
	struct img_disk_spec twice = {.backend = DISK_LOOP, .size = 256 * MIB, .inodes = 512};
	struct img_disk_usage u;
	unsigned made = 0;
	char name[32];

	create(t, &d);
	autoclose int m = attach(t, DISK_LOOP);
	for (; made < 1000; made++) {
		snprintf(name, sizeof name, "upper/%u", made);
		autoclose int fd = openat(m, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
		if (fd < 0)
			break;
	}
	assert_int_equal(errno, ENOSPC);
	assert_in_range(made, 200, 256);
	assert_int_equal(img_disk_usage(t->fd, &d, m, &u), 0);
	assert_int_equal(u.inodes, 256);
	assert_int_equal(u.inodes_used, 256);
	/* Two groups have twice the inodes: 256 could no longer be kept. */
	assert_refused(img_disk_resize(t->fd, &d, &same, m, &err), VPS_EUNSUPPORTED);
	close_fd(&m);
	assert_no_loops(t->path);
	assert_ok(img_disk_resize(t->fd, &d, &twice, m, &err));
	assert_int_equal(img_disk_usage(t->fd, &d, -1, &u), 0);
	assert_int_equal(u.inodes, 512);
}

static void test_loop_grow_live(void **state)
{
	struct test_dir *t = *state;
	struct vps_err err = {0};
	struct img_disk_spec big = {.backend = DISK_LOOP, .size = 1024 * MIB};
	struct img_disk_spec bigger = {.backend = DISK_LOOP, .size = 10240 * MIB};
	struct img_disk_usage before, after;
	int error;

	create(t, &loop64);
	autoclose int m = attach(t, DISK_LOOP);
	if (!can_grow_live()) {
		assert_refused(img_disk_resize(t->fd, &loop64, &big, m, &err), VPS_EUNSUPPORTED);
		skip();
	}
	fill_file(m, "upper/f", 100 * MIB, &error);
	assert_int_equal(error, ENOSPC);
	assert_int_equal(img_disk_usage(t->fd, &loop64, m, &before), 0);
	assert_ok(img_disk_resize(t->fd, &loop64, &big, m, &err));
	assert_int_equal(img_disk_usage(t->fd, &big, m, &after), 0);
	assert_in_range(after.size, before.size + 900 * MIB, 1024 * MIB);
	assert_true(fill_file(m, "upper/f", 100 * MIB, &error) >= (int64_t)(100 * MIB));
	assert_int_equal(error, 0);
	/* By name alone, too, and again is fine. */
	assert_ok(img_disk_resize(t->fd, &big, &bigger, -1, &err));
	assert_ok(img_disk_resize(t->fd, &bigger, &bigger, -1, &err));
	assert_int_equal(img_disk_usage(t->fd, &bigger, -1, &after), 0);
	assert_in_range(after.size, 9 * 1024 * MIB, 10240 * MIB);
	assert_int_equal(count_loops(t->path), 1);
}

static void test_loop_grow_stopped(void **state)
{
	struct test_dir *t = *state;
	struct vps_err err = {0};
	struct img_disk_spec big = {.backend = DISK_LOOP, .size = 11 * 1024 * MIB};
	autofree char *img = str_fmt("%s/disk/disk.img", t->path);
	struct img_disk_usage off, on;
	struct stat st;
	int error;

	create(t, &loop64);
	int m = attach(t, DISK_LOOP);
	fill_file(m, "upper/f", 20 * MIB, &error);
	close(m);
	assert_no_loops(t->path);
	assert_ok(img_disk_resize(t->fd, &loop64, &big, -1, &err));
	assert_ok(img_disk_resize(t->fd, &big, &big, -1, &err));
	assert_no_loops(t->path);
	assert_int_equal(run_cmd("e2fsck", "-f", "-n", img), 0);
	/* Stopped, the superblock tells the same as df. */
	assert_int_equal(img_disk_usage(t->fd, &big, -1, &off), 0);
	m = attach(t, DISK_LOOP);
	assert_int_equal(img_disk_usage(t->fd, &big, m, &on), 0);
	assert_int_equal(off.size, on.size);
	assert_int_equal(off.inodes, on.inodes);
	assert_in_range(on.size, 10 * 1024 * MIB, 11 * 1024 * MIB);
	assert_int_equal(fstatat(m, "upper/f", &st, 0), 0);
	assert_int_equal(st.st_size, 20 * MIB);
	close(m);
	assert_no_loops(t->path);
}

static void test_loop_shrink(void **state)
{
	struct test_dir *t = *state;
	struct vps_err err = {0};
	struct img_disk_spec big = {.backend = DISK_LOOP, .size = 512 * MIB};
	struct img_disk_usage u;
	struct stat st;
	int error;

	create(t, &big);
	autoclose int m = attach(t, DISK_LOOP);
	fill_file(m, "upper/f", 100 * MIB, &error);
	assert_int_equal(error, 0);
	assert_refused(img_disk_resize(t->fd, &big, &loop64, m, &err), VPS_ESTATE);
	close_fd(&m);
	assert_no_loops(t->path);
	assert_refused(img_disk_resize(t->fd, &big, &loop64, -1, &err), VPS_ERESOURCE);
	assert_int_equal(fstatat(t->fd, "disk/disk.img", &st, 0), 0);
	assert_int_equal(st.st_size, 512 * MIB);
	m = attach(t, DISK_LOOP);
	fill_file(m, "upper/f", 20 * MIB, &error);
	close_fd(&m);
	assert_no_loops(t->path);
	assert_ok(img_disk_resize(t->fd, &big, &loop64, -1, &err));
	assert_int_equal(fstatat(t->fd, "disk/disk.img", &st, 0), 0);
	assert_int_equal(st.st_size, 64 * MIB);
	assert_false(fs_exists(t->fd, "disk/disk.new"));
	m = attach(t, DISK_LOOP);
	assert_int_equal(fstatat(m, "upper/f", &st, 0), 0);
	assert_int_equal(st.st_size, 20 * MIB);
	assert_int_equal(img_disk_usage(t->fd, &loop64, m, &u), 0);
	assert_in_range(u.size, 30 * MIB, 64 * MIB);
}

static void test_loop_one_device(void **state)
{
	struct test_dir *t = *state;
	struct vps_err err = {0};
	int ro = -1;

	/* Two devices on one image would be two file systems on one disk. */
	create(t, &loop64);
	autoclose int a = attach(t, DISK_LOOP), b = attach(t, DISK_LOOP);
	assert_int_equal(count_loops(t->path), 1);
	assert_int_equal(mkdirat(a, "upper/x", 0755), 0);
	assert_int_equal(faccessat(b, "upper/x", F_OK, 0), 0);
	assert_ok(img_disk_attach(t->fd, DISK_LOOP, true, &ro, &err));
	assert_int_equal(mkdirat(ro, "upper/y", 0755), -1);
	assert_int_equal(errno, EROFS);
	assert_int_equal(mkdirat(a, "upper/y", 0755), 0);
	close(ro);
	close_fd(&a);
	assert_int_equal(count_loops(t->path), 1);
	close_fd(&b);
	assert_no_loops(t->path);
}

static void test_loop_guest(void **state)
{
	struct test_dir *t = *state;
	struct vps_err err = {0};
	struct img_disk_spec big = {.backend = DISK_LOOP, .size = 128 * MIB};
	int guest = -1, m = -1;
	struct stat st;

	create(t, &loop64);
	m = attach(t, DISK_LOOP);
	assert_refused(img_disk_guest_open(t->fd, false, &guest, &err), VPS_ELOCKED);
	close(m);
	assert_no_loops(t->path);
	/* Read-only, a guest kernel leaves nothing behind. */
	assert_ok(img_disk_guest_open(t->fd, true, &guest, &err));
	assert_int_equal(pwrite(guest, "x", 1, 0), -1);
	assert_refused(img_disk_attach(t->fd, DISK_LOOP, false, &m, &err), VPS_ELOCKED);
	close(guest);
	m = attach(t, DISK_LOOP);
	close(m);
	assert_no_loops(t->path);
	/* Writable, it does, for good (I5). */
	assert_ok(img_disk_guest_open(t->fd, false, &guest, &err));
	assert_refused(img_disk_attach(t->fd, DISK_LOOP, false, &m, &err), VPS_EUNSUPPORTED);
	close(guest);
	assert_refused(img_disk_attach(t->fd, DISK_LOOP, false, &m, &err), VPS_EUNSUPPORTED);
	assert_refused(img_disk_attach(t->fd, DISK_LOOP, true, &m, &err), VPS_EUNSUPPORTED);
	assert_int_equal(count_loops(t->path), 0);
	assert_ok(img_disk_resize(t->fd, &loop64, &big, -1, &err));
	assert_int_equal(fstatat(t->fd, "disk/disk.img", &st, 0), 0);
	assert_int_equal(st.st_size, 128 * MIB);
	assert_refused(img_disk_resize(t->fd, &big, &loop64, -1, &err), VPS_EUNSUPPORTED);
	/* Its superblock is read as figures only, whatever they are. */
	autoclose int img = openat(t->fd, "disk/disk.img", O_RDWR | O_CLOEXEC);
	uint8_t junk[1024];
	struct img_disk_usage u;
	memset(junk, 0xff, sizeof junk);
	junk[0x38] = 0x53;
	junk[0x39] = 0xef;
	assert_int_equal(pwrite(img, junk, sizeof junk, 1024), sizeof junk);
	assert_int_equal(img_disk_usage(t->fd, &big, -1, &u), -EUCLEAN);
}

static void test_audit(void **state)
{
	struct test_dir *t = *state;
	struct vps_err err = {0};
	auto_strv found = NULL;
	autofree char *img = str_fmt("%s/disk/disk.img", t->path);

	create(t, &loop64);
	autoclose int m = attach(t, DISK_LOOP);
	assert_ok(img_disk_audit(t->fd, false, &found, &err));
	assert_int_equal(strv_len(found), 0);
	close_fd(&m);
	assert_no_loops(t->path);
	/* Somebody's hand-made device. */
	assert_int_equal(run_cmd("losetup", "-f", img), 0);
	assert_ok(img_disk_audit(t->fd, false, &found, &err));
	assert_int_equal(strv_len(found), 1);
	assert_true(str_starts(found[0], "/dev/loop"));
	assert_non_null(strstr(found[0], img));
	found = strv_free(found);
	assert_ok(img_disk_audit(t->fd, true, &found, &err));
	assert_int_equal(strv_len(found), 1);
	assert_no_loops(t->path);
}

static void test_host_full(void **state)
{
	struct test_dir *t = *state;
	struct vps_err err = {0};
	struct img_disk_spec d = {.backend = DISK_LOOP, .size = 1024 * MIB};
	autofree char *path = str_fmt("%s/small", t->path);
	enum img_backend b;

	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(mount("none", path, "tmpfs", 0, "size=64k"), 0);
	autoclose int dir = fs_open_dir(AT_FDCWD, path);
	assert_refused(img_disk_create(dir, &d, &b, &err), VPS_ERESOURCE);
	auto_strv left = NULL;
	assert_int_equal(fs_list(dir, ".", &left), 0);
	assert_int_equal(strv_len(left), 0);
	close_fd(&dir);
	assert_int_equal(umount2(path, MNT_DETACH), 0);
}

/* ---- kill -9 -------------------------------------------------------------- */

/* Run fn in a child and kill it after us microseconds, its helpers with it. */
static void killed_after(unsigned us, void (*fn)(struct test_dir *), struct test_dir *t)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		setpgid(0, 0);
		fn(t);
		_exit(0);
	}
	setpgid(pid, pid);
	usleep(us);
	kill(-pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void child_create(struct test_dir *t)
{
	img_disk_create(t->fd, &loop64, &(enum img_backend){0}, NULL);
}

static void test_kill_create(void **state)
{
	struct test_dir *t = *state;
	struct vps_err err = {0};
	unsigned whole = 0, absent = 0;

	for (unsigned us = 0; us < 24000; us += 400) {
		killed_after(us, child_create, t);
		if (fs_exists(t->fd, "disk")) {
			int m = attach(t, DISK_LOOP);

			assert_root_dir(m, "upper");
			assert_root_dir(m, "work");
			close(m);
			whole++;
		} else {
			absent++;
			create(t, &loop64);
		}
		assert_no_loops(t->path);
		assert_ok(img_disk_destroy(t->fd, DISK_LOOP, &err));
		auto_strv left = NULL;
		assert_int_equal(fs_list(t->fd, ".", &left), 0);
		assert_int_equal(strv_len(left), 0);
	}
	print_message("# killed: %u times absent, %u times whole\n", absent, whole);
	assert_true(absent > 0);
}

static void child_attach(struct test_dir *t)
{
	int m = -1;

	img_disk_attach(t->fd, DISK_LOOP, false, &m, NULL);
	pause();
}

static void test_kill_attach(void **state)
{
	struct test_dir *t = *state;

	create(t, &loop64);
	for (unsigned us = 0; us < 12000; us += 300) {
		killed_after(us, child_attach, t);
		assert_no_loops(t->path);
	}
	close(attach(t, DISK_LOOP));
}

static const struct img_disk_spec loop512 = {.backend = DISK_LOOP, .size = 512 * MIB};

static void child_grow(struct test_dir *t)
{
	img_disk_resize(t->fd, &loop64, &loop512, -1, NULL);
}

static void child_shrink(struct test_dir *t)
{
	img_disk_resize(t->fd, &loop512, &loop64, -1, NULL);
}

static void test_kill_resize(void **state)
{
	struct test_dir *t = *state;
	struct vps_err err = {0};
	autofree char *img = str_fmt("%s/disk/disk.img", t->path);
	struct stat st;
	int error;

	create(t, &loop64);
	int m = attach(t, DISK_LOOP);
	fill_file(m, "upper/f", 8 * MIB, &error);
	close(m);
	for (unsigned us = 0; us < 40000; us += 2000) {
		assert_no_loops(t->path);
		killed_after(us, child_grow, t);
		assert_no_loops(t->path);
		assert_ok(img_disk_resize(t->fd, &loop64, &loop512, -1, &err));
		assert_no_loops(t->path);
		killed_after(us, child_shrink, t);
		assert_no_loops(t->path);
		/* Dying in the middle must not have touched the image that counts. */
		int r = run_cmd("e2fsck", "-f", "-p", img);
		assert_true(r == 0 || r == 1);
		assert_ok(img_disk_resize(t->fd, &loop512, &loop64, -1, &err));
		assert_false(fs_exists(t->fd, "disk/disk.new"));
	}
	m = attach(t, DISK_LOOP);
	assert_int_equal(fstatat(m, "upper/f", &st, 0), 0);
	assert_int_equal(st.st_size, 8 * MIB);
	close(m);
	assert_no_loops(t->path);
}

/* ---- many at once --------------------------------------------------------- */

#define STARTERS 12

static void test_race(void **state)
{
	struct test_dir *t = *state;
	pid_t pids[STARTERS];
	char name[32];

	for (int i = 0; i < STARTERS; i++) {
		pids[i] = fork();
		assert_true(pids[i] >= 0);
		if (pids[i])
			continue;
		snprintf(name, sizeof name, "%d", i);
		mkdirat(t->fd, name, 0700);
		int dir = fs_open_dir(t->fd, name), bad = 0;
		enum img_backend b;

		bad |= img_disk_create(dir, &loop64, &b, NULL) < 0;
		for (int k = 0; k < 20 && !bad; k++) {
			struct vps_err err = {0};
			int m = -1;

			if (img_disk_attach(dir, DISK_LOOP, false, &m, &err) < 0) {
				fprintf(stderr, "# attach %d.%d: %s\n", i, k, err.msg);
				bad = 1;
			}
			/* Ours and nobody else's. */
			snprintf(name, sizeof name, "upper/%d", i);
			if (mkdirat(m, name, 0755) < 0 && (k == 0 || errno != EEXIST))
				bad = 1;
			close(m);
		}
		_exit(bad);
	}
	for (int i = 0; i < STARTERS; i++) {
		int status;

		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	assert_no_loops(t->path);
}

int main(void)
{
	need_root_ns();
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		dir_test(test_check),
		dir_test(test_dir),
		dir_test(test_dir_flags),
		dir_test(test_loop_limit),
		dir_test(test_loop_inodes),
		dir_test(test_loop_grow_live),
		dir_test(test_loop_grow_stopped),
		dir_test(test_loop_shrink),
		dir_test(test_loop_one_device),
		dir_test(test_loop_guest),
		dir_test(test_audit),
		dir_test(test_host_full),
		dir_test(test_kill_create),
		dir_test(test_kill_attach),
		dir_test(test_kill_resize),
		dir_test(test_race),
	};
	if (access("/dev/loop-control", R_OK | W_OK) < 0) {
		printf("# SKIP: no /dev/loop-control: %s\n", strerror(errno));
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
