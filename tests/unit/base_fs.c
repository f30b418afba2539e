/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/base_util.h"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

static size_t count_entries(int dirfd, const char *path)
{
	auto_strv names = NULL;

	assert_int_equal(fs_list(dirfd, path, &names), 0);
	return strv_len(names);
}

static mode_t mode_of(int dirfd, const char *path)
{
	struct stat st;

	assert_int_equal(fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st.st_mode & 07777;
}

static void test_read(void **state)
{
	struct test_dir *t = *state;
	char *buf = (void *)1;
	size_t len = 5;

	put_file(t->fd, "f", "hello\n");
	put_file(t->fd, "empty", "");
	assert_int_equal(fs_read(t->fd, "f", 5, &buf, &len), -EFBIG);
	assert_int_equal(fs_read(t->fd, "none", 5, &buf, &len), -ENOENT);
	assert_int_equal(fs_read(t->fd, ".", 5, &buf, &len), -EISDIR);
	assert_ptr_equal(buf, (void *)1);
	assert_int_equal(len, 5);
	assert_int_equal(fs_read(t->fd, "f", 6, &buf, &len), 0);
	assert_int_equal(len, 6);
	assert_string_equal(buf, "hello\n");
	free(buf);
	assert_int_equal(fs_read(t->fd, "empty", 0, &buf, &len), 0);
	assert_int_equal(len, 0);
	assert_string_equal(buf, "");
	free(buf);
}

static void test_read_of_any_size(void **state)
{
	static const size_t sizes[] = {4094, 4095, 4096, 4097, 8191, 8192, 100000};
	struct test_dir *t = *state;
	autofree char *data = malloc(100001);

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		autofree char *got = NULL;
		size_t len = 0;

		memset(data, 'a' + (int)i, sizes[i]);
		data[sizes[i]] = '\0';
		put_file(t->fd, "f", data);
		assert_int_equal(fs_read(t->fd, "f", sizes[i], &got, &len), 0);
		assert_int_equal(len, sizes[i]);
		assert_string_equal(got, data);
		assert_int_equal(fs_read(t->fd, "f", sizes[i] - 1, &got, &len), -EFBIG);
	}
}

static void test_read_of_procfs(void **state)
{
	autofree char *got = NULL;
	size_t len = 0;

	/* stat says 0 bytes. */
	assert_int_equal(fs_read(AT_FDCWD, "/proc/self/status", 1 << 16, &got, &len), 0);
	assert_true(len > 100);
	assert_int_equal(strlen(got), len);
}

static void test_read_buf(void **state)
{
	struct test_dir *t = *state;
	char buf[6];

	put_file(t->fd, "f", "abcd\n");
	assert_int_equal(fs_read_buf(t->fd, "f", buf, 6), 4);
	assert_string_equal(buf, "abcd");
	assert_int_equal(fs_read_buf(t->fd, "f", buf, 5), -EFBIG);
	put_file(t->fd, "f", "ab\n\n");
	assert_int_equal(fs_read_buf(t->fd, "f", buf, 6), 3);
	assert_string_equal(buf, "ab\n");
	assert_int_equal(fs_read_buf(t->fd, "none", buf, 6), -ENOENT);
}

static void test_at_an_offset(void **state)
{
	const struct test_dir *t = *state;
	autoclose int fd = openat(t->fd, "f", O_RDWR | O_CREAT, 0600);
	char buf[8] = "";

	assert_int_equal(fs_pwrite_all(fd, "word", 4, 3), 0);
	assert_int_equal(fs_pread_all(fd, buf, 4, 3), 0);
	assert_memory_equal(buf, "word", 4);
	assert_int_equal(fs_pread_full(fd, buf, sizeof(buf), 0), 7);
	assert_memory_equal(buf, "\0\0\0word", 7);
	assert_int_equal(fs_pread_full(fd, buf, 1, 7), 0);
	assert_int_equal(fs_pread_all(fd, buf, 5, 3), -ENODATA);
	assert_int_equal(fs_pread_all(-1, buf, 1, 0), -EBADF);
	assert_int_equal(fs_pwrite_all(-1, buf, 1, 0), -EBADF);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 0);
}

static void test_write_needs_an_existing_file(void **state)
{
	struct test_dir *t = *state;

	assert_int_equal(fs_write(t->fd, "f", "x"), -ENOENT);
	assert_int_equal(fs_write_sysctl("kernel.hostname"), -EINVAL);
	assert_int_equal(fs_write_sysctl("kernel..hostname=x"), -EINVAL);
	assert_int_equal(fs_write_sysctl("no.such=x"), -ENOENT);
	assert_false(fs_exists(t->fd, "f"));
	put_file(t->fd, "f", "old");
	assert_int_equal(fs_write(t->fd, "f", "new"), 0);
	assert_file(t->fd, "f", "new");
}

static void test_write_atomic(void **state)
{
	struct test_dir *t = *state;
	mode_t mask = umask(077);
	int r = fs_write_atomic(t->fd, "f", "one", 3, 0644);

	umask(mask);
	assert_int_equal(r, 0);
	assert_file(t->fd, "f", "one");
	assert_int_equal(mode_of(t->fd, "f"), 0644);
	assert_int_equal(fs_write_atomic(t->fd, "f", "second", 6, 0600), 0);
	assert_file(t->fd, "f", "second");
	assert_int_equal(mode_of(t->fd, "f"), 0600);
	assert_int_equal(fs_write_rename(t->fd, "f", "", 0, 0600), 0);
	assert_file(t->fd, "f", "");
	assert_int_equal(count_entries(t->fd, "."), 1);
}

static void test_write_atomic_keeps_old_content_open(void **state)
{
	struct test_dir *t = *state;
	char buf[8] = "";

	put_file(t->fd, "f", "old");

	autoclose int reader = openat(t->fd, "f", O_RDONLY | O_CLOEXEC);

	assert_int_equal(fs_write_atomic(t->fd, "f", "new", 3, 0644), 0);
	assert_int_equal(fs_read_full(reader, buf, sizeof(buf)), 3);
	assert_string_equal(buf, "old");
}

static void test_write_atomic_by_paths(void **state)
{
	struct test_dir *t = *state;
	autofree char *abs = str_fmt("%s/d/g", t->path);
	char name[256];

	assert_int_equal(mkdirat(t->fd, "d", 0755), 0);
	assert_int_equal(fs_write_atomic(t->fd, "d/f", "1", 1, 0644), 0);
	assert_int_equal(fs_write_atomic(AT_FDCWD, abs, "2", 1, 0644), 0);
	assert_file(t->fd, "d/f", "1");
	assert_file(t->fd, "d/g", "2");
	assert_int_equal(count_entries(t->fd, "d"), 2);

	/* The longest name there is. */
	memset(name, 'n', 255);
	name[255] = '\0';
	assert_int_equal(fs_write_atomic(t->fd, name, "3", 1, 0644), 0);
	assert_file(t->fd, name, "3");
}

static void test_write_atomic_failures_leave_nothing(void **state)
{
	struct test_dir *t = *state;
	unsigned fds = count_fds();

	assert_int_equal(mkdirat(t->fd, "dir", 0755), 0);
	put_file(t->fd, "dir/x", "");
	assert_int_equal(fs_write_atomic(t->fd, "dir", "1", 1, 0644), -EISDIR);
	assert_int_equal(fs_write_atomic(t->fd, "none/f", "1", 1, 0644), -ENOENT);
	assert_int_equal(fs_write_atomic(t->fd, "dir/", "1", 1, 0644), -EINVAL);
	assert_int_equal(fs_write_atomic(t->fd, "..", "1", 1, 0644), -EINVAL);
	assert_int_equal(count_entries(t->fd, "."), 1);
	assert_int_equal(count_fds(), fds);
}

static void test_write_atomic_on_a_full_disk(void **state)
{
	struct test_dir *t = *state;
	struct rlimit old, small = {.rlim_cur = 10};

	put_file(t->fd, "f", "old");
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small.rlim_max = old.rlim_max;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);

	int r = fs_write_atomic(t->fd, "f", "twelve bytes", 12, 0644);

	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(r, -EFBIG);
	assert_file(t->fd, "f", "old");
	assert_int_equal(count_entries(t->fd, "."), 1);
}

static void test_remove_temps(void **state)
{
	struct test_dir *t = *state;

	put_file(t->fd, ".tmp.state.abc123", "half");
	put_file(t->fd, ".tmp.x.zzzzzz", "");
	put_file(t->fd, "keep", "");
	put_file(t->fd, "a.tmp.b", "");
	assert_int_equal(fs_remove_temps(t->fd, ".", 60, false), 0); /* young */
	assert_int_equal(fs_remove_temps(t->fd, ".", 0, true), 2);
	assert_int_equal(count_entries(t->fd, "."), 4);
	assert_int_equal(fs_remove_temps(t->fd, ".", 0, false), 2);
	assert_int_equal(count_entries(t->fd, "."), 2);
	assert_true(fs_exists(t->fd, "keep"));
	assert_int_equal(fs_remove_temps(t->fd, "none", 0, false), -ENOENT);
}

static void test_mkdir_p(void **state)
{
	struct test_dir *t = *state;
	autofree char *abs = str_fmt("%s/p//q/", t->path);

	assert_int_equal(fs_mkdir_p(t->fd, "a/b/c", 0750), 0);
	assert_int_equal(fs_mkdir_p(t->fd, "a/b/c", 0750), 0);
	assert_int_equal(mode_of(t->fd, "a/b") & 0700, 0700);
	assert_int_equal(mode_of(t->fd, "a/b/c") & 07, 0);
	assert_int_equal(fs_mkdir_p(AT_FDCWD, abs, 0755), 0);
	assert_true(fs_exists(t->fd, "p/q"));
	put_file(t->fd, "file", "");
	assert_int_equal(fs_mkdir_p(t->fd, "file", 0755), -ENOTDIR);
	assert_int_equal(fs_mkdir_p(t->fd, "file/x", 0755), -ENOTDIR);
	assert_int_equal(fs_mkdir_p(t->fd, "", 0755), -ENOENT);
	assert_int_equal(fs_mkdir_p(AT_FDCWD, "/", 0755), 0);
}

static void test_exists_and_list(void **state)
{
	struct test_dir *t = *state;
	auto_strv names = NULL;

	assert_int_equal(symlinkat("nowhere", t->fd, "link"), 0);
	assert_true(fs_exists(t->fd, "link"));
	assert_false(fs_exists(t->fd, "nowhere"));
	put_file(t->fd, ".hidden", "");
	for (int i = 0; i < 100; i++) {
		char name[16];

		snprintf(name, sizeof(name), "f%d", i);
		put_file(t->fd, name, "");
	}
	assert_int_equal(fs_list(t->fd, ".", &names), 0);
	assert_int_equal(strv_len(names), 102);
	assert_true(strv_has(names, ".hidden"));
	assert_true(strv_has(names, "f99"));
	assert_false(strv_has(names, ".."));
	assert_int_equal(fs_list(t->fd, "f1", &names), -ENOTDIR);
}

static void test_sync_dir(void **state)
{
	struct test_dir *t = *state;

	put_file(t->fd, "f", "");
	assert_int_equal(fs_sync_dir(t->fd, "."), 0);
	assert_int_equal(fs_sync_dir(t->fd, "f"), -ENOTDIR);
}

static void test_remove_tree_does_not_follow_links(void **state)
{
	struct test_dir *t = *state;
	unsigned fds = count_fds();

	assert_int_equal(fs_mkdir_p(t->fd, "tree/sub/deep", 0755), 0);
	assert_int_equal(fs_mkdir_p(t->fd, "outside", 0755), 0);
	put_file(t->fd, "outside/keep", "");
	put_file(t->fd, "tree/sub/f", "");
	assert_int_equal(symlinkat("../outside", t->fd, "tree/link"), 0);
	assert_int_equal(symlinkat("/etc/passwd", t->fd, "tree/sub/link"), 0);
	assert_int_equal(mkfifoat(t->fd, "tree/fifo", 0600), 0);
	assert_int_equal(fs_remove_tree(t->fd, "tree"), 0);
	assert_false(fs_exists(t->fd, "tree"));
	assert_true(fs_exists(t->fd, "outside/keep"));

	/* The path itself a link: the link goes. */
	assert_int_equal(symlinkat("outside", t->fd, "l"), 0);
	assert_int_equal(fs_remove_tree(t->fd, "l"), 0);
	assert_false(fs_exists(t->fd, "l"));
	assert_true(fs_exists(t->fd, "outside/keep"));
	assert_int_equal(count_fds(), fds);
}

static void test_remove_tree_odds_and_ends(void **state)
{
	struct test_dir *t = *state;
	autofree char *abs = str_fmt("%s/d/", t->path);

	assert_int_equal(fs_remove_tree(t->fd, "none"), 0);
	assert_int_equal(fs_remove_tree(t->fd, "none/none"), 0);
	assert_int_equal(fs_remove_tree(t->fd, "."), -EINVAL);
	assert_int_equal(fs_remove_tree(t->fd, ".."), -EINVAL);
	assert_int_equal(fs_remove_tree(t->fd, ""), -EINVAL);
	assert_int_equal(fs_remove_tree(AT_FDCWD, "/"), -EINVAL);
	put_file(t->fd, "f", "");
	assert_int_equal(fs_remove_tree(t->fd, "f"), 0);
	assert_int_equal(fs_mkdir_p(t->fd, "d/e", 0755), 0);
	assert_int_equal(fs_remove_tree(AT_FDCWD, abs), 0);
	assert_int_equal(count_entries(t->fd, "."), 0);
}

/* A chain of directories of that depth, a file on each level. */
static void make_deep(int dirfd, const char *name, int depth)
{
	int fd = dirfd;

	for (int i = 0; i < depth; i++) {
		assert_int_equal(mkdirat(fd, i ? "d" : name, 0755), 0);

		int next = fs_open_dir(fd, i ? "d" : name);

		assert_true(next >= 0);
		put_file(next, "f", "");
		if (fd != dirfd)
			close(fd);
		fd = next;
	}
	close(fd);
}

/* Deeper than a path or an fd table can be. */
static void test_remove_tree_of_great_depth(void **state)
{
	struct test_dir *t = *state;
	struct rlimit old, few;

	make_deep(t->fd, "tree", 5000);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	few = old;
	few.rlim_cur = 64;
	setrlimit(RLIMIT_NOFILE, &few);

	int r = fs_remove_tree(t->fd, "tree");

	setrlimit(RLIMIT_NOFILE, &old);
	assert_int_equal(r, 0);
	assert_int_equal(count_entries(t->fd, "."), 0);
}

/* Its names for directories moved up are taken, by files and by full directories. */
static void test_remove_tree_with_taken_names(void **state)
{
	struct test_dir *t = *state;
	char name[32];

	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "tree/.deep.%d%s", i, i % 2 ? "" : "/x");
		assert_int_equal(fs_mkdir_p(t->fd, i % 2 ? "tree" : name, 0755), 0);
		if (i % 2)
			put_file(t->fd, name, "");
	}

	autoclose int tree = fs_open_dir(t->fd, "tree");

	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "chain%d", i);
		make_deep(tree, name, 50);
	}
	assert_int_equal(fs_remove_tree(t->fd, "tree"), 0);
	assert_int_equal(count_entries(t->fd, "."), 0);
}

static void test_remove_tree_of_great_width(void **state)
{
	struct test_dir *t = *state;
	char name[32];

	assert_int_equal(mkdirat(t->fd, "tree", 0755), 0);
	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "tree/%d", i);
		if (i % 10 == 0)
			assert_int_equal(mkdirat(t->fd, name, 0755), 0);
		else
			put_file(t->fd, name, "");
	}
	assert_int_equal(fs_remove_tree(t->fd, "tree"), 0);
	assert_false(fs_exists(t->fd, "tree"));
}

static void test_remove_tree_stops_at_a_mount(void **state)
{
	struct test_dir *t = *state;
	autofree char *mnt = str_fmt("%s/tree/sub/mnt", t->path);

	assert_int_equal(fs_mkdir_p(t->fd, "tree/sub/mnt", 0755), 0);
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", mnt, "tmpfs", 0, NULL) < 0) {
		print_message("# SKIP: no right to mount here\n");
		skip();
	}
	/* An fd from before the unshare sees the old namespace's mounts. */
	close(t->fd);
	t->fd = fs_open_dir(AT_FDCWD, t->path);
	put_file(t->fd, "tree/sub/mnt/keep", "");

	int inside = fs_remove_tree(t->fd, "tree");
	int itself = fs_remove_tree(t->fd, "tree/sub/mnt");
	bool kept = fs_exists(t->fd, "tree/sub/mnt/keep");

	assert_int_equal(umount2(mnt, MNT_DETACH), 0);

	/* A file bound over a file. */
	autofree char *file = str_fmt("%s/bound", t->path);

	put_file(t->fd, "bound", "");
	assert_int_equal(mount("/proc/version", file, NULL, MS_BIND, NULL), 0);
	assert_int_equal(fs_remove_tree(t->fd, "bound"), -EXDEV);
	assert_int_equal(umount2(file, MNT_DETACH), 0);
	assert_int_equal(inside, -EXDEV);
	assert_int_equal(itself, -EXDEV);
	assert_true(kept);
}

static void fill(int fd, off_t at, char c, size_t n)
{
	char buf[4096];

	memset(buf, c, sizeof(buf));
	for (; n > 0; n -= sizeof(buf), at += sizeof(buf))
		assert_int_equal(pwrite(fd, buf, sizeof(buf), at), sizeof(buf));
}

static void assert_same(int a, int b, size_t len)
{
	autofree char *x = malloc(len), *y = malloc(len);

	assert_int_equal(pread(a, x, len, 0), len);
	assert_int_equal(pread(b, y, len, 0), len);
	assert_memory_equal(x, y, len);
}

static void test_copy_keeps_holes(void **state)
{
	struct test_dir *t = *state;
	autoclose int in = openat(t->fd, "in", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	autoclose int out = openat(t->fd, "out", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	const size_t len = 8 << 20;
	struct stat a, b;

	fill(in, 1 << 20, 'x', 65536);
	fill(in, 5 << 20, 'y', 4096);
	assert_int_equal(ftruncate(in, len), 0); /* a hole at the end, too */
	/* Old data in the way must not shine through a hole. */
	fill(out, 0, 'z', 2 << 20);
	assert_int_equal(fs_copy_data(in, out, len), 0);
	assert_int_equal(fstat(in, &a), 0);
	assert_int_equal(fstat(out, &b), 0);
	assert_int_equal(b.st_size, len);
	assert_same(in, out, len);
	assert_int_equal(lseek(in, 0, SEEK_CUR), len);
	assert_int_equal(lseek(out, 0, SEEK_CUR), len);
	if ((size_t)a.st_blocks * 512 < len / 2)
		assert_true((size_t)b.st_blocks * 512 < len / 2);
}

static void test_copy_a_part(void **state)
{
	struct test_dir *t = *state;
	autoclose int in = openat(t->fd, "in", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	autoclose int out = openat(t->fd, "out", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_int_equal(fs_write_all(in, "0123456789", 10), 0);
	assert_int_equal(lseek(in, 2, SEEK_SET), 2);
	assert_int_equal(fs_copy_data(in, out, 5), 0);
	assert_file(t->fd, "out", "23456");
	assert_int_equal(fs_copy_data(in, out, 4), -ENODATA);
}

static void test_copy_through_pipes(void **state)
{
	struct test_dir *t = *state;
	autoclose int out = openat(t->fd, "out", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	int p[2];

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	assert_int_equal(fs_write_all(p[1], "abcdef", 6), 0);
	assert_int_equal(fs_copy_data(p[0], out, 4), 0);
	assert_file(t->fd, "out", "abcd");
	close(p[1]);
	assert_int_equal(fs_copy_data(p[0], out, 4), -ENODATA);
	close(p[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		dir_test(test_read),
		dir_test(test_read_of_any_size),
		dir_test(test_read_of_procfs),
		dir_test(test_read_buf),
		dir_test(test_at_an_offset),
		dir_test(test_write_needs_an_existing_file),
		dir_test(test_write_atomic),
		dir_test(test_write_atomic_keeps_old_content_open),
		dir_test(test_write_atomic_by_paths),
		dir_test(test_write_atomic_failures_leave_nothing),
		dir_test(test_write_atomic_on_a_full_disk),
		dir_test(test_remove_temps),
		dir_test(test_mkdir_p),
		dir_test(test_exists_and_list),
		dir_test(test_sync_dir),
		dir_test(test_remove_tree_does_not_follow_links),
		dir_test(test_remove_tree_odds_and_ends),
		dir_test(test_remove_tree_of_great_depth),
		dir_test(test_remove_tree_with_taken_names),
		dir_test(test_remove_tree_of_great_width),
		dir_test(test_copy_keeps_holes),
		dir_test(test_copy_a_part),
		dir_test(test_copy_through_pipes),
		/* Last: it leaves for a mount namespace of its own. */
		dir_test(test_remove_tree_stops_at_a_mount),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
