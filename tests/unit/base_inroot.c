/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The root is <dir>/root; <dir>/secret is what must never be reached. */
#include "tests/unit/base_util.h"

#include <linux/magic.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/inroot.h"
#include "base/sys.h"

#define SAME ((uid_t)-1)

static int root;

static int make_root(void **state)
{
	struct test_dir *t;

	if (test_dir_make(state) < 0)
		return -1;
	t = *state;
	if (mkdirat(t->fd, "root", 0755) < 0 || mkdirat(t->fd, "root/etc", 0755) < 0)
		return -1;
	put_file(t->fd, "secret", "host");
	put_file(t->fd, "root/etc/passwd", "tenant");
	root = fs_open_dir(t->fd, "root");
	return root < 0 ? -1 : 0;
}

static int remove_root(void **state)
{
	close(root);
	return test_dir_remove(state);
}

static void assert_reads(const char *path, const char *text)
{
	autofree char *got = NULL;
	size_t len = 0;

	assert_int_equal(inroot_read_file(root, path, 4096, &got, &len), 0);
	assert_int_equal(len, strlen(text));
	assert_string_equal(got, text);
}

static int try_read(const char *path)
{
	autofree char *got = NULL;

	return inroot_read_file(root, path, 4096, &got, NULL);
}

static void test_links_stay_inside(void **state)
{
	struct test_dir *t = *state;
	autofree char *abs = str_fmt("%s/secret", t->path);

	assert_int_equal(symlinkat("/etc/passwd", root, "abs"), 0);
	assert_int_equal(symlinkat("../../../../etc/passwd", root, "dots"), 0);
	assert_int_equal(symlinkat(abs, root, "host"), 0);
	assert_int_equal(symlinkat("../secret", root, "up"), 0);
	assert_reads("abs", "tenant");
	assert_reads("dots", "tenant");
	assert_reads("/etc/passwd", "tenant");
	assert_reads("../../etc/passwd", "tenant");
	assert_reads("etc/../../../etc/passwd", "tenant");
	assert_int_equal(try_read("host"), -ENOENT);
	assert_int_equal(try_read("up"), -ENOENT);
	assert_int_equal(try_read("../secret"), -ENOENT);
	assert_int_equal(try_read(abs), -ENOENT);
}

static void test_magic_links_are_refused(void **state)
{
	autoclose int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);

	/* procfs as the root: what a tenant's mounted /proc would offer. */
	assert_true(proc >= 0);
	assert_int_equal(inroot_open(proc, "self/root", O_PATH | O_DIRECTORY, 0), -ELOOP);
	assert_int_equal(inroot_open(proc, "self/cwd/x", O_PATH, 0), -ELOOP);
	assert_int_equal(inroot_open(proc, "self/exe", O_RDONLY, 0), -ELOOP);
}

static void test_open_creates(void **state)
{
	autoclose int fd = inroot_open(root, "etc/new", O_WRONLY | O_CREAT | O_EXCL, 0640);

	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(inroot_open(root, "etc/new", O_WRONLY | O_CREAT | O_EXCL, 0640), -EEXIST);
	/* A mode without O_CREAT is not the caller's mistake here. */
	autoclose int again = inroot_open(root, "etc/new", O_RDONLY, 0640);

	assert_true(again >= 0);
	/* O_CREAT through a dangling link lands inside. */
	assert_int_equal(symlinkat("/etc/via-link", root, "dangling"), 0);

	autoclose int via = inroot_open(root, "dangling", O_WRONLY | O_CREAT, 0600);

	assert_true(via >= 0);
	assert_true(fs_exists(root, "etc/via-link"));
}

static void test_open_parent(void **state)
{
	static const char *const bad[] = {"", "/", ".", "..", "etc/", "etc/.", "etc/.."};
	const char *name = NULL;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(inroot_open_parent(root, bad[i], &name), -EINVAL);
	assert_null(name);
	assert_int_equal(inroot_open_parent(root, "none/x", &name), -ENOENT);
	assert_int_equal(inroot_open_parent(root, "etc/passwd/x", &name), -ENOTDIR);

	autoclose int fd = inroot_open_parent(root, "/etc/passwd", &name);

	assert_true(fd >= 0);
	assert_string_equal(name, "passwd");
	assert_true(fs_exists(fd, "passwd"));

	autoclose int top = inroot_open_parent(root, "x", &name);
	autoclose int top2 = inroot_open_parent(root, "/x", &name);

	assert_true(fs_exists(top, "etc") && fs_exists(top2, "etc"));
}

static void test_mkdir_p(void **state)
{
	struct test_dir *t = *state;
	struct stat st;
	mode_t mask = umask(077);
	autoclose int fd = inroot_mkdir_p(root, "/var//lib/x/", 02755, geteuid(), getegid());

	umask(mask);
	assert_true(fd >= 0);
	assert_int_equal(fstatat(root, "var/lib/x", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 02755);
	assert_int_equal(fstatat(root, "var", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 02755);

	/* Existing directories keep theirs. */
	autoclose int again = inroot_mkdir_p(root, "var/lib/y", 0700, SAME, SAME);

	assert_true(again >= 0);
	assert_int_equal(fstatat(root, "var/lib", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 02755);

	autoclose int self = inroot_mkdir_p(root, "/", 0700, SAME, SAME);

	assert_true(self >= 0);
	assert_true(fs_exists(self, "etc"));

	/* Links on the way are followed inside the root; ".." ends at it. */
	assert_int_equal(symlinkat("/run", root, "var/run"), 0);
	assert_int_equal(mkdirat(root, "run", 0755), 0);

	autoclose int via = inroot_mkdir_p(root, "var/run/a/b", 0755, SAME, SAME);
	autoclose int up = inroot_mkdir_p(root, "../../c/../d", 0755, SAME, SAME);

	assert_true(via >= 0 && up >= 0);
	assert_true(fs_exists(root, "run/a/b"));
	assert_true(fs_exists(root, "d"));
	assert_false(fs_exists(t->fd, "c"));
	assert_false(fs_exists(t->fd, "d"));
}

static void test_mkdir_p_with_something_in_the_way(void **state)
{
	struct test_dir *t = *state;

	assert_int_equal(symlinkat("/nowhere", root, "dangling"), 0);
	assert_int_equal(symlinkat("../outside", root, "out"), 0);
	assert_int_equal(inroot_mkdir_p(root, "etc/passwd", 0755, SAME, SAME), -ENOTDIR);
	assert_int_equal(inroot_mkdir_p(root, "etc/passwd/x", 0755, SAME, SAME), -ENOTDIR);
	assert_int_equal(inroot_mkdir_p(root, "dangling/x", 0755, SAME, SAME), -ENOTDIR);
	assert_int_equal(inroot_mkdir_p(root, "out/x", 0755, SAME, SAME), -ENOTDIR);
	assert_int_equal(inroot_mkdir_p(root, "", 0755, SAME, SAME), -ENOENT);
	assert_false(fs_exists(t->fd, "outside"));
}

static void test_owner_and_mode(void **state)
{
	struct stat st;

	if (geteuid() != 0) {
		print_message("# SKIP: chown needs root\n");
		skip();
	}

	autoclose int fd = inroot_mkdir_p(root, "a/b", 06711, 1234, 5678);

	assert_true(fd >= 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(fstatat(root, i ? "a/b" : "a", &st, 0), 0);
		assert_int_equal(st.st_uid, 1234);
		assert_int_equal(st.st_gid, 5678);
		assert_int_equal(st.st_mode & 07777, 06711);
	}

	/* Of a file, chown clears these bits. */
	assert_int_equal(inroot_write_file(root, "a/f", "1", 1, 06755, 1234, 5678), 0);
	assert_int_equal(fstatat(root, "a/f", &st, 0), 0);
	assert_int_equal(st.st_uid, 1234);
	assert_int_equal(st.st_gid, 5678);
	assert_int_equal(st.st_mode & 07777, 06755);
}

static void test_write_file(void **state)
{
	struct test_dir *t = *state;
	auto_strv names = NULL;
	struct stat st;

	/* A link in its place is replaced, where it led is untouched. */
	assert_int_equal(symlinkat("../../secret", root, "etc/hosts"), 0);
	assert_int_equal(inroot_write_file(root, "etc/hosts", "new", 3, 0644, SAME, SAME), 0);
	assert_reads("etc/hosts", "new");
	assert_file(t->fd, "secret", "host");
	assert_int_equal(fstatat(root, "etc/hosts", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(S_ISREG(st.st_mode));
	assert_int_equal(st.st_mode & 07777, 0644);

	/* A linked directory is followed, inside. */
	assert_int_equal(symlinkat("/etc", root, "link"), 0);
	assert_int_equal(inroot_write_file(root, "link/a", "1", 1, 0600, SAME, SAME), 0);
	assert_reads("etc/a", "1");

	assert_int_equal(mkdirat(root, "etc/d", 0755), 0);
	assert_int_equal(inroot_write_file(root, "etc/d", "1", 1, 0600, SAME, SAME), -EISDIR);
	assert_int_equal(inroot_write_file(root, "none/x", "1", 1, 0600, SAME, SAME), -ENOENT);
	assert_int_equal(inroot_write_file(root, "etc/..", "1", 1, 0600, SAME, SAME), -EINVAL);
	assert_int_equal(fs_list(root, "etc", &names), 0);
	assert_int_equal(strv_len(names), 4); /* a d hosts passwd: no temp left */
}

static void test_read_file_only_regular(void **state)
{
	autofree char *got = NULL;

	assert_int_equal(mkfifoat(root, "fifo", 0600), 0);
	assert_int_equal(try_read("fifo"), -EINVAL); /* and does not wait for a writer */
	assert_int_equal(try_read("etc"), -EINVAL);
	assert_int_equal(try_read("none"), -ENOENT);
	assert_int_equal(inroot_read_file(root, "etc/passwd", 5, &got, NULL), -EFBIG);
	assert_null(got);
}

static void test_questions(void **state)
{
	assert_int_equal(symlinkat("/etc/passwd", root, "good"), 0);
	assert_int_equal(symlinkat("/../secret", root, "bad"), 0);
	assert_int_equal(symlinkat("loop", root, "loop"), 0);
	assert_int_equal(inroot_exists(root, "good"), 1);
	assert_int_equal(inroot_exists(root, "bad"), 0);
	assert_int_equal(inroot_exists(root, "etc/passwd/x"), 0);
	assert_int_equal(inroot_exists(root, "loop"), -ELOOP);
	assert_int_equal(inroot_is_executable(root, "good"), 0);
	assert_int_equal(inroot_is_executable(root, "etc"), 0);
	assert_int_equal(inroot_is_executable(root, "none"), 0);
	assert_int_equal(fchmodat(root, "etc/passwd", 0711, 0), 0);
	assert_int_equal(inroot_is_executable(root, "good"), 1);
}

static void test_fd_checks(void **state)
{
	autoclose int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	autoclose int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	autoclose int proc = open("/proc", O_PATH | O_CLOEXEC);

	assert_int_equal(inroot_fd_is_char(null, 1, 3), 0);
	assert_int_equal(inroot_fd_is_char(zero, 1, 3), -EXDEV);
	assert_int_equal(inroot_fd_is_char(root, 1, 3), -EXDEV);
	assert_int_equal(inroot_fd_is_char(-1, 1, 3), -EBADF);
	assert_int_equal(inroot_fd_is_fs(proc, PROC_SUPER_MAGIC), 0);
	assert_int_equal(inroot_fd_is_fs(root, PROC_SUPER_MAGIC), -EXDEV);
}

static void test_reopen(void **state)
{
	autoclose int at = inroot_open(root, "etc/passwd", O_PATH, 0);
	char buf[8] = "";

	/* The file of the fd, whatever its name leads to by now. */
	assert_int_equal(renameat(root, "etc/passwd", root, "etc/old"), 0);
	put_file(root, "etc/passwd", "other");

	autoclose int fd = inroot_reopen(at, O_RDONLY);

	assert_true(fd >= 0);
	assert_int_equal(fs_read_full(fd, buf, sizeof(buf)), 6);
	assert_string_equal(buf, "tenant");
}

/* For ever: exchange the directory "swap" with a link out of the root. */
static void swap_for_ever(int dir)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failed test does not reach its kill */
	for (;;)
		renameat2(dir, "swap", dir, "other", RENAME_EXCHANGE);
}

static void test_swapped_links_never_lead_out(void **state)
{
	struct test_dir *t = *state;
	int seen_inside = 0;

	assert_int_equal(mkdirat(root, "swap", 0755), 0);
	put_file(root, "swap/secret", "inside");
	assert_int_equal(symlinkat("..", root, "other"), 0);

	pid_t pid = fork();

	if (pid == 0)
		swap_for_ever(root);
	for (int i = 0; i < 20000; i++) {
		autofree char *got = NULL;

		if (inroot_read_file(root, "swap/secret", 64, &got, NULL) == 0) {
			assert_string_equal(got, "inside");
			seen_inside++;
		}
		if (i % 100 == 0)
			inroot_write_file(root, "swap/w", "x", 1, 0600, SAME, SAME);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_true(seen_inside > 0);
	assert_false(fs_exists(t->fd, "w"));
	assert_file(t->fd, "secret", "host");
}

#define root_test(f) cmocka_unit_test_setup_teardown(f, make_root, remove_root)

int main(void)
{
	const struct CMUnitTest tests[] = {
		root_test(test_links_stay_inside),
		root_test(test_magic_links_are_refused),
		root_test(test_open_creates),
		root_test(test_open_parent),
		root_test(test_mkdir_p),
		root_test(test_mkdir_p_with_something_in_the_way),
		root_test(test_owner_and_mode),
		root_test(test_write_file),
		root_test(test_read_file_only_regular),
		root_test(test_questions),
		root_test(test_fd_checks),
		root_test(test_reopen),
		root_test(test_swapped_links_never_lead_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
