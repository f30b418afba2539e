/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/base_util.h"

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/sys.h"

static void make_pair(int type, int s[2])
{
	assert_int_equal(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, s), 0);
}

static void close_pair(int s[2])
{
	close(s[0]);
	close(s[1]);
}

static bool is_cloexec(int fd)
{
	int flags = fcntl(fd, F_GETFD);

	assert_true(flags >= 0);
	return flags & FD_CLOEXEC;
}

static void test_fds_travel(void **state)
{
	int s[2], p[2], got[SYS_MAX_FDS];
	size_t n = SYS_MAX_FDS;
	char buf[8] = "";

	make_pair(SOCK_STREAM, s);
	assert_int_equal(pipe(p), 0); /* not close-on-exec at this end */
	assert_int_equal(sys_send_fds(s[0], "hi", 2, p, 2), 2);
	assert_int_equal(sys_recv_fds(s[1], buf, sizeof(buf), got, &n), 2);
	assert_string_equal(buf, "hi");
	assert_int_equal(n, 2);
	assert_true(is_cloexec(got[0]) && is_cloexec(got[1]));
	assert_int_equal(write(got[1], "x", 1), 1);
	assert_int_equal(read(p[0], buf, 1), 1);
	close_pair(got);
	close_pair(p);

	/* Without fds. */
	n = SYS_MAX_FDS;
	assert_int_equal(sys_send_fds(s[0], "yo", 2, NULL, 0), 2);
	assert_int_equal(sys_recv_fds(s[1], buf, sizeof(buf), got, &n), 2);
	assert_int_equal(n, 0);

	/* The end. */
	close(s[0]);
	n = SYS_MAX_FDS;
	assert_int_equal(sys_recv_fds(s[1], buf, sizeof(buf), got, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(sys_send_fds(s[1], "x", 1, NULL, 0), -EPIPE); /* and no SIGPIPE */
	close(s[1]);
}

static void test_full_load_of_fds_with_credentials(void **state)
{
	int s[2], fds[SYS_MAX_FDS + 1], got[SYS_MAX_FDS], on = 1;
	size_t n = SYS_MAX_FDS;
	char c;

	make_pair(SOCK_STREAM, s);
	assert_int_equal(setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)), 0);
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		fds[i] = s[0];
	assert_int_equal(sys_send_fds(s[0], "x", 1, fds, SYS_MAX_FDS + 1), -EINVAL);
	assert_int_equal(sys_send_fds(s[0], "", 0, fds, 1), -EINVAL);
	assert_int_equal(sys_send_fds(s[0], "x", 1, fds, SYS_MAX_FDS), 1);
	assert_int_equal(sys_recv_fds(s[1], &c, 1, got, &n), 1);
	assert_int_equal(n, SYS_MAX_FDS);
	for (size_t i = 0; i < n; i++)
		close(got[i]);
	close_pair(s);
}

static void test_unwanted_fds_are_closed(void **state)
{
	int s[2], fds[3], got[2] = {-7, -7};
	size_t n = 2;
	char c;

	make_pair(SOCK_STREAM, s);
	fds[0] = fds[1] = fds[2] = s[0];

	unsigned before = count_fds();

	assert_int_equal(sys_send_fds(s[0], "x", 1, fds, 3), 1);
	assert_int_equal(sys_recv_fds(s[1], &c, 1, got, &n), -EMSGSIZE);
	assert_int_equal(got[0], -7);
	n = 0;
	assert_int_equal(sys_send_fds(s[0], "x", 1, fds, 1), 1);
	assert_int_equal(sys_recv_fds(s[1], &c, 1, NULL, &n), -EMSGSIZE);
	assert_int_equal(count_fds(), before);
	close_pair(s);
}

/* A sender that is not ours may send up to SCM_MAX_FD (253) at once. */
static void test_truncated_control_leaks_nothing(void **state)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(100 * sizeof(int))];
	} ctl = {0};
	struct iovec iov = {.iov_base = (char *)"x", .iov_len = 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = ctl.bytes,
			     .msg_controllen = sizeof(ctl.bytes)};
	int s[2], got[SYS_MAX_FDS];
	size_t n = SYS_MAX_FDS;
	char c;

	make_pair(SOCK_STREAM, s);

	struct cmsghdr *cm = CMSG_FIRSTHDR(&msg);

	cm->cmsg_level = SOL_SOCKET;
	cm->cmsg_type = SCM_RIGHTS;
	cm->cmsg_len = CMSG_LEN(100 * sizeof(int));
	for (size_t i = 0; i < 100; i++)
		memcpy(CMSG_DATA(cm) + i * sizeof(int), &s[0], sizeof(int));

	unsigned before = count_fds();

	assert_int_equal(sendmsg(s[0], &msg, 0), 1);
	assert_int_equal(sys_recv_fds(s[1], &c, 1, got, &n), -EMSGSIZE);
	assert_int_equal(count_fds(), before);
	close_pair(s);
}

static void test_truncated_message_leaks_nothing(void **state)
{
	int s[2], got[SYS_MAX_FDS];
	size_t n = SYS_MAX_FDS;
	char buf[4];

	make_pair(SOCK_SEQPACKET, s);

	unsigned before = count_fds();

	assert_int_equal(sys_send_fds(s[0], "longer", 6, s, 1), 6);
	assert_int_equal(sys_recv_fds(s[1], buf, sizeof(buf), got, &n), -EMSGSIZE);
	assert_int_equal(count_fds(), before);
	close_pair(s);
}

static void test_errors_are_negative_errno(void **state)
{
	assert_int_equal(sys_openat2(AT_FDCWD, "/none", O_RDONLY, 0, 0), -ENOENT);
	assert_int_equal(sys_openat2(-1, "x", O_RDONLY, 0, 0), -EBADF);
	assert_int_equal(sys_pidfd_open(-1, 0), -EINVAL);
	assert_int_equal(sys_pidfd_send_signal(-1, 0), -EBADF);
	assert_int_equal(sys_pidfd_getfd(-1, 0), -EBADF);
	assert_int_equal(sys_close_range(5, 4, 0), -EINVAL);
	assert_int_equal(sys_memfd("x", ~0u), -EINVAL);
}

static void test_fds_are_cloexec_at_birth(void **state)
{
	autoclose int file = sys_openat2(AT_FDCWD, "/proc/self/stat", O_RDONLY, 0, 0);
	autoclose int mem = sys_memfd("unit", MFD_ALLOW_SEALING);
	autoclose int pid = sys_pidfd_open(getpid(), 0);

	assert_true(is_cloexec(file));
	assert_true(is_cloexec(mem));
	assert_true(is_cloexec(pid));
	assert_int_equal(sys_pidfd_send_signal(pid, 0), 0);
	assert_int_equal(fcntl(mem, F_GET_SEALS), 0);
}

static void test_clone3_with_pidfd(void **state)
{
	int pidfd = -1, status = 0;
	struct clone_args args = {
		.flags = CLONE_PIDFD,
		.pidfd = (uint64_t)(uintptr_t)&pidfd,
		.exit_signal = SIGCHLD,
	};
	pid_t pid = sys_clone3(&args, sizeof(args));

	if (pid == 0)
		_exit(42);
	assert_true(pid > 0);
	assert_true(is_cloexec(pidfd));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 42);
	assert_int_equal(sys_pidfd_send_signal(pidfd, 0), -ESRCH);
	close(pidfd);
}

static void test_fs_message(void **state)
{
	char buf[128] = "junk";
	char small[4];
	int fd = sys_fsopen("tmpfs", 0);

	if (fd == -EPERM) {
		print_message("# SKIP: no right to open a mount context\n");
		skip();
	}
	assert_true(fd >= 0);
	sys_fs_message(fd, buf, sizeof(buf));
	assert_string_equal(buf, "");
	assert_true(sys_fsconfig(fd, 1 /* FSCONFIG_SET_STRING */, "size", "junk", 0) < 0);
	sys_fs_message(fd, buf, sizeof(buf));
	assert_non_null(strstr(buf, "size"));
	assert_null(strchr(buf, '\n'));
	assert_true(buf[0] != 'e' || buf[1] != ' ');
	assert_true(sys_fsconfig(fd, 1, "size", "junk", 0) < 0);
	sys_fs_message(fd, small, sizeof(small));
	assert_int_equal(strlen(small), 3);
	close(fd);
}

static void test_clocks(void **state)
{
	uint64_t a = sys_now_mono();
	uint64_t b = sys_now_mono();

	assert_true(b >= a);
	assert_true(sys_now_boot() >= a);
	/* After 2020, in nanoseconds. */
	assert_true(sys_now_real() > 1577836800ull * 1000000000u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fds_travel),
		cmocka_unit_test(test_full_load_of_fds_with_credentials),
		cmocka_unit_test(test_unwanted_fds_are_closed),
		cmocka_unit_test(test_truncated_control_leaks_nothing),
		cmocka_unit_test(test_truncated_message_leaks_nothing),
		cmocka_unit_test(test_errors_are_negative_errno),
		cmocka_unit_test(test_fds_are_cloexec_at_birth),
		cmocka_unit_test(test_clone3_with_pidfd),
		cmocka_unit_test(test_fs_message),
		cmocka_unit_test(test_clocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
