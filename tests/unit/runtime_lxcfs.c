/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A real lxcfs, where it is installed: started once, seen from inside, killed, replaced. Needs root and FUSE. */
#include "tests/unit/base_util.h"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/sys.h"
#include "runtime/lxcfs.h"

static pid_t instance(struct test_dir *t)
{
	char text[128];
	int pid = 0;

	if (fs_read_buf(t->fd, "lxcfs.pid", text, sizeof(text)) > 0)
		sscanf(text, "%*s %d", &pid);
	return pid;
}

/* Whatever a test did: no server and no mount stays. */
static int stop_and_remove(void **state)
{
	struct test_dir *t = *state;

	lxcfs_stop(t->fd, t->path, NULL);
	return test_dir_remove(state);
}
#define lxcfs_test(f) cmocka_unit_test_setup_teardown(f, test_dir_make, stop_and_remove)

static void test_starts_once_and_stops(void **state)
{
	struct test_dir *t = *state;
	autoclose int a = lxcfs_ensure(t->fd, t->path, "auto", NULL, NULL);
	pid_t pid = instance(t);

	assert_true(a >= 0);
	assert_true(faccessat(a, "proc/meminfo", F_OK, 0) == 0);

	autoclose int b = lxcfs_ensure(t->fd, t->path, "auto", NULL, NULL);

	assert_true(b >= 0);
	assert_int_equal(instance(t), pid);
	close_fd(&a);
	close_fd(&b);
	assert_int_equal(lxcfs_stop(t->fd, t->path, NULL), 0);
	assert_int_equal(lxcfs_pidfd(t->fd), -ESRCH);
	assert_false(fs_exists(t->fd, "lxcfs"));
	assert_int_equal(lxcfs_stop(t->fd, t->path, NULL), 0);
}

static void test_racing_starts(void **state)
{
	struct test_dir *t = *state;
	int status;

	for (int i = 0; i < 6; i++)
		if (fork() == 0)
			_exit(lxcfs_ensure(t->fd, t->path, "auto", NULL, NULL) < 0);
	while (wait(&status) > 0)
		assert_int_equal(status, 0);

	/* One mount, not six. */
	autofree char *mounts = NULL;
	size_t n = 0;

	assert_int_equal(fs_read(AT_FDCWD, "/proc/self/mountinfo", 1 << 20, &mounts, NULL), 0);
	for (char *p = mounts; (p = strstr(p, t->path)); p++)
		n++;
	assert_int_equal(n, 1);
	assert_int_equal(lxcfs_stop(t->fd, t->path, NULL), 0);
}

static void test_off(void **state)
{
	struct test_dir *t = *state;
	struct vps_err err = {0};

	assert_int_equal(lxcfs_ensure(t->fd, t->path, "off", NULL, NULL), -ENOENT);
	assert_int_equal(lxcfs_ensure(t->fd, t->path, "/no/such", NULL, &err), -VPS_ECONF);
	vps_err_clear(&err);
	/* One that ends at once: an error in time, nothing left. */
	assert_int_equal(lxcfs_ensure(t->fd, t->path, "/bin/false", NULL, &err), -VPS_EUNSUPPORTED);
	assert_int_equal(lxcfs_pidfd(t->fd), -ESRCH);
}

/* A "VPS": its own mount and pid namespace, with some of the files bound; answers questions on a pipe. */
static pid_t fake_vps(const char *run, int ask[2], int answer[2])
{
	assert_int_equal(pipe(ask) | pipe(answer), 0);

	pid_t pid = fork();

	if (pid > 0) {
		close(ask[0]);
		close(answer[1]);
		return pid;
	}

	char c, buf[4096];

	close(ask[1]);
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		_exit(1);
	for (int i = 0; lxcfs_files[i]; i++) {
		autofree char *from = str_fmt("%s/lxcfs/%s", run, lxcfs_files[i]);
		autofree char *to = str_fmt("/%s", lxcfs_files[i]);

		if (mount(from, to, NULL, MS_BIND, NULL) < 0 && errno != ENOENT)
			_exit(2);
	}
	do {
		int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
		ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof(buf));

		c = n > 0 ? 'y' : 'n';
		if (fd >= 0)
			close(fd);
	} while (write(answer[1], &c, 1) == 1 && read(ask[0], &c, 1) == 1);
	_exit(0);
}

static char again(int ask[2], int answer[2])
{
	char c = '?';

	assert_int_equal(write(ask[1], "x", 1), 1);
	assert_int_equal(read(answer[0], &c, 1), 1);
	return c;
}

static bool is_fuse(pid_t pid, const char *file)
{
	autofree char *path = str_fmt("/proc/%d/mountinfo", pid);
	autofree char *want = str_fmt(" /%s ", file);
	autofree char *text = NULL;

	assert_int_equal(fs_read(AT_FDCWD, path, 1 << 20, &text, NULL), 0);

	char *at = strstr(text, want);

	return at && strstr(at, "fuse.lxcfs") && strstr(at, "fuse.lxcfs") < strchr(at, '\n');
}

static void test_crash_and_heal(void **state)
{
	struct test_dir *t = *state;
	struct proc_ident init;
	int ask[2], answer[2];
	char c = '?';
	autoclose int root = lxcfs_ensure(t->fd, t->path, "auto", NULL, NULL);
	pid_t vps = fake_vps(t->path, ask, answer);

	close_fd(&root);
	assert_int_equal(read(answer[0], &c, 1), 1);
	assert_int_equal(c, 'y');
	assert_int_equal(proc_ident_of(vps, &init), 0);

	autoclose int pidfd = lxcfs_pidfd(t->fd);

	assert_int_equal(sys_pidfd_send_signal(pidfd, SIGKILL), 0);
	while (lxcfs_pidfd(t->fd) >= 0)
		usleep(1000);
	assert_int_equal(again(ask, answer), 'n'); /* the crash is felt … */
	assert_int_equal(lxcfs_heal(t->fd, t->path, "auto", &init, NULL, NULL), 0);
	assert_int_equal(again(ask, answer), 'y'); /* … and mended */
	assert_true(is_fuse(vps, "proc/meminfo"));
	assert_true(is_fuse(vps, "sys/devices/system/cpu/online"));
	/* Healing what is well changes nothing. */
	assert_int_equal(lxcfs_heal(t->fd, t->path, "auto", &init, NULL, NULL), 0);
	assert_int_equal(again(ask, answer), 'y');

	/* Without lxcfs the plain files show. */
	autoclose int second = lxcfs_pidfd(t->fd);

	assert_int_equal(sys_pidfd_send_signal(second, SIGKILL), 0);
	while (lxcfs_pidfd(t->fd) >= 0)
		usleep(1000);
	assert_int_equal(again(ask, answer), 'n');
	assert_int_not_equal(lxcfs_heal(t->fd, t->path, "off", &init, NULL, NULL), 0);
	assert_int_equal(again(ask, answer), 'y');
	assert_false(is_fuse(vps, "proc/meminfo"));
	close(ask[1]);
	assert_int_equal(waitpid(vps, NULL, 0), vps);
	assert_int_equal(lxcfs_stop(t->fd, t->path, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		lxcfs_test(test_starts_once_and_stops),
		lxcfs_test(test_racing_starts),
		lxcfs_test(test_off),
		lxcfs_test(test_crash_and_heal),
	};
	autofree char *program = proc_find("lxcfs");

	if (geteuid() != 0 || !program || access("/dev/fuse", R_OK | W_OK) < 0) {
		printf("skipped: needs root, lxcfs and /dev/fuse\n");
		return 77;
	}
	unshare(CLONE_NEWCGROUP); /* its mount of cgroup2 would change the host's options: cg_enter_monitors() */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
