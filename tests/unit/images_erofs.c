/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An image as one EROFS: what is in it, that it is made once and goes with its image. */
#include "images_tar.h"

#include <sys/mount.h>

#include "base/proc.h"

#define ID_BASE 2000000000u

static struct img_store *store;

static void import(void (*fill)(struct tar *), const char *ref, struct img_info *ret)
{
	auto_tar t = {0};
	struct vps_err err = {0};

	fill(&t);
	tar_end(&t);
	autoclose int fd = mem_fd(t.b.s, t.b.len);
	int r = img_import_rootfs_fd(store, fd, ref, NULL, ret, &err);

	if (r < 0)
		fail_msg("%s", err.msg);
}

static void fill(struct tar *t)
{
	tar_dir(t, "etc");
	tar_file(t, "etc/hostname", "web1\n");
	t->mode = 04755;
	t->uid = 1000;
	t->gid = 50;
	tar_file(t, "su", "program");
	t->mode = 0600;
	t->uid = t->gid = 0;
	tar_file(t, "secret", "only root's\n");
	t->mode = 0;
	tar_sym(t, "link", "etc/hostname");
	tar_head(t, "hard", '1', 0, "secret");
}

static unsigned count(int dir)
{
	auto_strv v = NULL;

	assert_int_equal(fs_list(dir, ".", &v), 0);
	return (unsigned)strv_len(v);
}

static int open_erofs(const struct img_info *i)
{
	struct vps_err err = {0};
	int fd = -1, r = img_erofs_open(store, i, ID_BASE, NULL, &fd, &err);

	if (r == -VPS_EUNSUPPORTED) {
		fprintf(stderr, "skipped: %s\n", err.msg);
		skip();
	}
	if (r < 0)
		fail_msg("%s", err.msg);
	return fd;
}

static void test_content(void **state)
{
	const struct test_dir *t = *state;
	auto_done(img_info_done) struct img_info i = {0};
	autofree char *mnt = str_fmt("%s/mnt", t->path);
	struct stat st, st2;
	uint32_t magic = 0;

	assert_int_equal(img_store_open(t->fd, &store, NULL), 0);
	import(fill, "one", &i);
	autoclose int fd = open_erofs(&i);
	assert_int_equal(pread(fd, &magic, 4, 1024), 4);
	assert_int_equal(magic, 0xe0f5e1e2);
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(st.st_uid == 0 && (st.st_mode & 07777) == 0400);
	assert_true(write(fd, "x", 1) < 0);

	/* once: the same file, and nothing left over */
	autoclose int again = open_erofs(&i);
	assert_int_equal(fstat(again, &st2), 0);
	assert_true(st.st_ino == st2.st_ino);
	assert_int_equal(count(store->tmp), 0);

	/* without the kernel's erofs the rest is the test host's */
	autofree char *path = str_fmt("/proc/self/fd/%d", fd);
	autofree char *cmd = str_fmt("mount -t erofs -o loop,ro /proc/%d/fd/%d %s", getpid(), fd, mnt);
	assert_int_equal(mkdir(mnt, 0755), 0);
	if (!path || !cmd || system(cmd) != 0) {
		fprintf(stderr, "not looked into: this kernel has no EROFS\n");
	} else {
		autoclose int root = fs_open_dir(AT_FDCWD, mnt);
		assert_file(root, "etc/hostname", "web1\n");
		assert_file(root, "link", "web1\n");
		assert_int_equal(fstatat(root, "su", &st, 0), 0);
		assert_true(st.st_uid == 1000 && st.st_gid == 50 && (st.st_mode & 07777) == 04755);
		assert_true(st.st_mtime == 1000000000);
		assert_int_equal(fstatat(root, "secret", &st, 0), 0);
		assert_int_equal(fstatat(root, "hard", &st2, 0), 0);
		assert_true(st.st_uid == 0 && st.st_ino == st2.st_ino && st.st_nlink == 2);
		close_fd(&root);
		umount2(mnt, MNT_DETACH);
	}
	assert_int_equal(img_gc(store, false, NULL, NULL), 0);
	assert_int_equal(count(store->erofs), 1);
	assert_int_equal(img_remove(store, "one", true, NULL), 0);
	assert_int_equal(img_gc(store, false, NULL, NULL), 0);
	assert_int_equal(count(store->erofs), 0);
	store = img_store_close(store);
}

/* mkfs.erofs that fails, or is not there, leaves nothing. */
static void test_failure(void **state)
{
	const struct test_dir *t = *state;
	auto_done(img_info_done) struct img_info i = {0};
	autofree char *old = strdup(getenv("PATH")), *path = str_fmt("%s/bin", t->path);
	struct vps_err err = {0};
	int fd = -1;

	assert_int_equal(img_store_open(t->fd, &store, NULL), 0);
	import(fill, "one", &i);
	assert_int_equal(mkdir(path, 0755), 0);
	chmod(t->path, 0755);
	put_file(t->fd, "bin/mkfs.erofs", "#!/bin/sh\necho no luck today >&2\nexit 1\n");
	assert_int_equal(fchmodat(t->fd, "bin/mkfs.erofs", 0755, 0), 0);
	autofree char *both = str_fmt("%s:%s", path, old);
	setenv("PATH", both, 1);
	assert_int_equal(img_erofs_open(store, &i, ID_BASE, NULL, &fd, &err), -EIO);
	if (!strstr(err.msg, "no luck today"))
		fail_msg("%s", err.msg);
	assert_int_equal(count(store->erofs), 0);
	assert_int_equal(count(store->tmp), 0);
	setenv("PATH", old, 1);
	store = img_store_close(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {dir_test(test_content), dir_test(test_failure)};

	if (geteuid() != 0) {
		fprintf(stderr, "skipped: wants root\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
