/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A monitor that is killed, a keeper that is killed: the VPS and its console go on. */
#include "tests/unit/runtime_monitor_util.h"

#include <errno.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "base/sys.h"
#include "runtime/keeper.h"

#define SHELL_LOOP "trap 'echo HUP; exit 66' HUP; while read x; do echo \"got $x\"; [ $x = bye ] && exit 9; done"

static void say_and_hear(struct fix *f, const char *word)
{
	char line[64], want[64];
	autoclose int fd = attach(f, false);

	snprintf(line, sizeof(line), "%s\n", word);
	snprintf(want, sizeof(want), "got %s", word);
	assert_int_equal(ctl_send(fd, CTL_INPUT, line, strlen(line)), 0);
	assert_true(expect(fd, want));
}

static int exit_code_of(struct fix *f, enum monitor_cause *ret)
{
	struct monitor_last l;

	assert_int_equal(monitor_last_read(f->inst, &l), 0);
	if (ret)
		*ret = l.cause;
	return l.exit_code;
}

/* Does this kernel tell exit codes by pidfd (6.15)? */
static bool kernel_tells(void)
{
	struct { uint64_t mask; char rest[56]; } info = {.mask = 1u << 3};
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);

	autoclose int fd = sys_pidfd_open(pid, 0);

	waitpid(pid, NULL, 0);
	return ioctl(fd, _IOC(_IOC_READ | _IOC_WRITE, 0xFF, 11, 64), &info) == 0 && (info.mask & 8);
}

static void test_kill_and_adopt(void **state)
{
	struct fix *f = *state;
	enum monitor_cause cause;

	fix_start(f, true, SHELL_LOOP);
	say_and_hear(f, "one");
	fix_kill_monitor(f);
	usleep(100000);
	assert_int_equal(kill(f->init, 0), 0);
	fix_adopt(f);
	say_and_hear(f, "two");
	/* And again: what adopts can be killed like any other. */
	fix_kill_monitor(f);
	fix_adopt(f);
	say_and_hear(f, "three");

	autoclose int fd = attach(f, false);

	assert_int_equal(ctl_send(fd, CTL_INPUT, "bye\n", 4), 0);
	assert_int_equal(waitpid(f->init, NULL, 0), f->init); /* as PID 1 of the host does */
	fix_wait_monitor(f);
	if (kernel_tells()) {
		assert_int_equal(exit_code_of(f, &cause), 9);
		assert_int_equal(cause, MONITOR_EXITED);
	} else {
		print_message("the kernel does not tell exit codes by pidfd (before 6.15)\n");
		assert_true(exit_code_of(f, &cause) == -1 || exit_code_of(f, &cause) == 9);
	}
	assert_false(file_has(f->inst, "console.log", "HUP"));
	assert_true(file_has(f->inst, "console.log", "got one"));
	assert_true(file_has(f->inst, "console.log", "got three"));
}

/* The zombie tells, too: with kernels that know no better, if the monitor is faster than PID 1. */
static void test_code_of_a_zombie(void **state)
{
	struct fix *f = *state;

	fix_start(f, true, SHELL_LOOP);
	fix_kill_monitor(f);
	fix_adopt(f);

	autoclose int fd = attach(f, false);

	assert_int_equal(ctl_send(fd, CTL_INPUT, "bye\n", 4), 0);
	assert_int_equal(read_exit(fd, NULL, NULL), 9); /* nobody has reaped it */
	fix_wait_monitor(f);
	assert_int_equal(waitpid(f->init, NULL, 0), f->init);
}

static void test_adopt_pipes(void **state)
{
	struct fix *f = *state;

	/* With the reader gone, its next echo would kill it. */
	fix_start(f, false, "while read x; do echo \"got $x\"; done; exit 3");
	say_and_hear(f, "one");
	fix_kill_monitor(f);
	fix_adopt(f);
	say_and_hear(f, "two");

	autoclose int fd = attach(f, true);

	assert_int_equal(ctl_send(fd, CTL_INPUT, NULL, 0), 0); /* the keeper does not keep stdin open */
	assert_int_equal(waitpid(f->init, NULL, 0), f->init);
	int code = read_exit(fd, NULL, NULL);

	assert_true(code == 3 || (code == -1 && !kernel_tells()));
	fix_wait_monitor(f);
}

static void test_state_is_inherited(void **state)
{
	struct fix *f = *state;
	struct monitor_status st;

	f->a.restart = MONITOR_RESTART_ALWAYS;
	f->a.restarts = 4;
	f->a.failures = 2;
	fix_start(f, true, "sleep 60");

	int fd = ctl_stop_begin(f->dir, NULL);

	fix_kill_monitor(f);
	assert_int_equal(ctl_stop_wait(fd, 5000, NULL), 0); /* the end of file, not for ever */
	close(fd);
	f->a.restarts = f->a.failures = 0;
	fix_adopt(f);
	assert_int_equal(monitor_status_read(f->dir, &st), 0);
	assert_int_equal(st.restarts, 4);
	assert_int_equal(st.failures, 2);
	assert_int_equal(st.phase, MONITOR_STOPPING);
	kill(f->init, SIGKILL);
	waitpid(f->init, NULL, 0);
	fix_wait_monitor(f);
	assert_false(file_has(f->t->fd, "calls", "_restart")); /* it was being stopped */
}

static void test_killed_keeper_comes_back(void **state)
{
	struct fix *f = *state;
	pid_t k;

	fix_start(f, true, SHELL_LOOP);
	k = keeper_pid(f);
	assert_true(k > 0);
	assert_int_equal(kill(k, SIGKILL), 0);
	eventually(keeper_pid(f) > 0 && keeper_pid(f) != k);
	/* Not only there: it holds the fds again. */
	autoclose int conn = keeper_connect(f->run);
	int fds[KEEP_N] = {-1, -1, -1, -1, -1, -1, -1};

	eventually(keeper_get(conn, 101, fds) == 0);
	assert_true(fds[KEEP_CONSOLE] >= 0);
	close(fds[KEEP_CONSOLE]);
	fix_kill_monitor(f);
	fix_adopt(f);
	say_and_hear(f, "one");
}

/* Both gone: the console is lost, and says so; nothing else is. */
static void test_both_killed(void **state)
{
	struct fix *f = *state;
	struct ctl_attach ask = {0};
	struct vps_err err = {0};
	pid_t k;

	fix_start(f, true, "trap '' HUP; echo deaf; sleep 60 </dev/null >/dev/null 2>&1 & wait; wait");
	eventually(file_has(f->inst, "console.log", "deaf"));
	k = keeper_pid(f);
	kill(f->monitor, SIGSTOP); /* it cannot start another one */
	kill(k, SIGKILL);
	eventually(waitpid(k, NULL, WNOHANG) == k);
	fix_kill_monitor(f);
	fix_adopt(f);

	autoclose int fd = ctl_connect(f->dir);

	assert_int_equal(ctl_ask(fd, CTL_ATTACH, &ask, sizeof(ask), 5000, &err), -VPS_ESTATE);
	assert_non_null(strstr(err.msg, "console"));
	kill(f->init, SIGKILL);
	waitpid(f->init, NULL, 0);
	fix_wait_monitor(f);
}

static void test_lost(void **state)
{
	struct fix *f = *state;
	enum monitor_cause cause;
	struct monitor_last l;

	fix_start(f, true, "sleep 60");
	fix_kill_monitor(f);
	kill(f->init, SIGKILL);
	waitpid(f->init, NULL, 0);
	assert_int_equal(monitor_adopt(&f->a, -1, NULL), -ESRCH);
	assert_int_equal(monitor_lost(&f->a, NULL), 0);
	assert_int_equal(exit_code_of(f, &cause), -1);
	assert_int_equal(cause, MONITOR_LOST);
	assert_true(file_has(f->run, "events", "\"event\":\"lost\""));

	/* The keeper let go. */
	autoclose int conn = keeper_connect(f->run);
	int fds[KEEP_N];

	assert_true(conn >= 0);
	assert_int_equal(keeper_get(conn, 101, fds), -ENOENT);
	/* A record that is there is not replaced by a poorer one. */
	assert_int_equal(monitor_last_read(f->inst, &l), 0);
	l.exit_code = 5;
	assert_int_equal(monitor_last_write(f->inst, &l), 0);
	assert_int_equal(monitor_lost(&f->a, NULL), 0);
	assert_int_equal(exit_code_of(f, NULL), 5);
}

static void test_no_second_adopter(void **state)
{
	struct fix *f = *state;

	fix_start(f, true, "sleep 60");
	assert_int_equal(monitor_adopt(&f->a, -1, NULL), -VPS_ESTATE);
}

/* A reused pid is not adopted. */
static void test_wrong_identity(void **state)
{
	struct fix *f = *state;

	fix_start(f, true, "sleep 60");
	fix_kill_monitor(f);
	f->a.init.start_time++;
	assert_int_equal(monitor_adopt(&f->a, -1, NULL), -ESRCH);
	f->a.init.start_time--;
	fix_adopt(f);
}

static unsigned long private_kib(pid_t pid)
{
	char path[64], line[256];
	unsigned long kib, sum = 0;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);

	FILE *in = fopen(path, "re");

	assert_non_null(in);
	while (fgets(line, sizeof(line), in))
		if (sscanf(line, "Private_Clean: %lu", &kib) == 1 ||
		    sscanf(line, "Private_Dirty: %lu", &kib) == 1)
			sum += kib;
	fclose(in);
	return sum;
}

/* The target of 300 KiB a VPS; of this the file's own pages are shared once two run. */
static void test_memory(void **state)
{
	struct fix *f = *state;

	fix_start(f, true, SHELL_LOOP);
	say_and_hear(f, "one");
	print_message("private: monitor %lu KiB, keeper %lu KiB\n", private_kib(f->monitor),
		      private_kib(keeper_pid(f)));
#if !defined(__SANITIZE_ADDRESS__)
	assert_true(private_kib(f->monitor) <= 300);
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		monitor_test(test_kill_and_adopt),
		monitor_test(test_code_of_a_zombie),
		monitor_test(test_adopt_pipes),
		monitor_test(test_state_is_inherited),
		monitor_test(test_killed_keeper_comes_back),
		monitor_test(test_both_killed),
		monitor_test(test_lost),
		monitor_test(test_no_second_adopter),
		monitor_test(test_wrong_identity),
		monitor_test(test_memory),
	};

	if (geteuid() != 0) {
		printf("skipped: the monitor's control socket serves root only\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
