/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An import that is interrupted, killed, or out of disk leaves the store as it was. */
#include "images_tar.h"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>

static bool stop_at_once(void *arg, unsigned key, const char *what, uint64_t done, uint64_t total)
{
	return true;
}

static void test_interrupt(void **state)
{
	struct test_dir *t = *state;
	struct img_store *s = test_store(t->fd, "root");
	struct vps_err err = { 0 };
	struct progress p = { stop_at_once, NULL };
	struct img_opts o = { .progress = &p };
	auto_tar tar = { 0 };
	tar_file(&tar, "f", "x");
	assert_int_equal(img_gc(s, false, NULL, NULL), 0);
	autofree char *before = tree_text(t->fd, "root", false);
	int pipefd[2]; /* never ends by itself */
	assert_int_equal(pipe(pipefd), 0);
	assert_int_equal(fs_write_all(pipefd[1], tar.b.s, tar.b.len), 0);
	assert_int_equal(img_import_rootfs_fd(s, pipefd[0], "x:1", &o, NULL, &err),
			 -VPS_EINTERRUPTED);
	autofree char *after = tree_text(t->fd, "root", false);
	assert_string_equal(before, after);
	close(pipefd[0]);
	close(pipefd[1]);
	img_store_close(s);
}

/* kill -9 at several moments; what is left is gone with the next change. */
static void test_kill(void **state)
{
	struct test_dir *t = *state;
	struct img_store *s = test_store(t->fd, "root");
	assert_int_equal(img_gc(s, false, NULL, NULL), 0);
	autofree char *before = tree_text(t->fd, "root", false);
	auto_tar tar = { 0 };
	for (int i = 0; i < 2000; i++) {
		autofree char *n = str_fmt("d%d/f", i);
		tar_file(&tar, n, "some text");
	}
	tar_end(&tar);
	unsigned seen_temp = 0, finished = 0;
	for (int ms = 0; ms < 400; ms += 11) {
		autoclose int fd = mem_fd(tar.b.s, tar.b.len);
		pid_t pid = fork();
		if (pid == 0)
			_exit(img_import_rootfs_fd(s, fd, "kill:1", NULL, NULL, NULL) < 0);
		usleep((useconds_t)ms * 1000);
		kill(pid, SIGKILL);
		int st;
		assert_int_equal(waitpid(pid, &st, 0), pid);
		struct vps_err err = { 0 };
		struct img_gc_result g;
		/* its children die with it, but not at the same instant */
		usleep(20000);
		assert_ok(img_gc(s, false, &g, &err), &err);
		seen_temp += g.temps > 0;
		auto_done(img_info_done) struct img_info i = { 0 };
		if (img_inspect(s, "kill:1", &i, NULL) == 0) {
			assert_int_equal(i.entries, 4000);
			assert_int_equal(img_remove(s, "kill:1", false, NULL), 0);
			assert_ok(img_gc(s, false, NULL, &err), &err);
			finished++;
		}
		autofree char *after = tree_text(t->fd, "root", false);
		assert_string_equal(before, after);
	}
	print_message("killed %u times in the middle, %u times after the end\n", seen_temp, finished);
	assert_true(seen_temp > 0);
	img_store_close(s);
}

/* In a file system of 4 MiB. */
static void test_no_space(void **state)
{
	struct test_dir *t = *state;
	struct vps_err err = { 0 };
	autofree char *at = str_fmt("%s/small", t->path);
	assert_int_equal(mkdir(at, 0700), 0);
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("t", at, "tmpfs", 0, "size=4m") < 0) {
		print_message("skipped: cannot mount a tmpfs: %s\n", strerror(errno));
		skip();
	}
	autoclose int d = fs_open_dir(AT_FDCWD, at); /* t->fd is of the old namespace */
	struct img_store *s = test_store(d, "root");
	assert_int_equal(img_gc(s, false, NULL, NULL), 0);
	autofree char *before = tree_text(d, "root", false);
	autofree char *big = calloc(1, 8 << 20);
	auto_tar tar = { 0 };
	memset(big, 1, 8 << 20);
	tar_head(&tar, "big", '0', 8 << 20, NULL);
	tar_body(&tar, big, 8 << 20);
	tar_end(&tar);
	autoclose int fd = mem_fd(tar.b.s, tar.b.len);
	assert_int_equal(img_import_rootfs_fd(s, fd, "big:1", NULL, NULL, &err), -ENOSPC);
	autofree char *after = tree_text(d, "root", false);
	assert_string_equal(before, after);
	img_store_close(s);
	close_fd(&d);
	umount2(at, MNT_DETACH);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		dir_test(test_interrupt),
		dir_test(test_kill),
		dir_test(test_no_space), /* last: it leaves the mount namespace */
	};
	if (geteuid() != 0) {
		printf("skipped: unpacking needs root\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
