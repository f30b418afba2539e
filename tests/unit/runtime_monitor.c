/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The real vps-monitor: console, end of init, restart, stop. Needs root (the control socket answers nobody else). */
#include "tests/unit/runtime_monitor_util.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

static struct monitor_last last_of(struct fix *f)
{
	struct monitor_last l;

	assert_int_equal(monitor_last_read(f->inst, &l), 0);
	return l;
}

static struct monitor_status status_of(struct fix *f)
{
	struct monitor_status s = {0};

	monitor_status_read(f->dir, &s);
	return s;
}

static void test_run_and_exit(void **state)
{
	struct fix *f = *state;
	struct stat st;

	put_file(f->dir, "state.json", "{}");
	fix_start(f, true, "echo hello; sleep 0.2; exit 7");
	assert_int_equal(monitor_alive(f->dir), 1);
	assert_int_equal(status_of(f).phase, MONITOR_UP);
	assert_int_equal(status_of(f).pid, f->monitor);
	assert_true(status_of(f).ready); /* no way to say so: ready at once */
	assert_int_equal(fstatat(f->dir, "ctl", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);

	autoclose int fd = ctl_connect(f->dir);

	assert_int_equal(ctl_send(fd, CTL_WATCH, NULL, 0), 0);
	assert_int_equal(read_exit(fd, NULL, NULL), 7);
	fix_wait_monitor(f);
	assert_int_equal(last_of(f).exit_code, 7);
	assert_int_equal(last_of(f).cause, MONITOR_EXITED);
	assert_int_equal(last_of(f).started, 1700000000);
	assert_true(file_has(f->inst, "console.log", "hello\r\n"));
	assert_true(file_has(f->run, "events",
			     "\"event\":\"exit\",\"cause\":\"exited\",\"exit_code\":7"));
	/* It had it torn down, and left nothing of its own. */
	assert_true(file_has(f->t->fd, "calls", "_teardown 101"));
	assert_false(fs_exists(f->dir, "state.json"));
	assert_false(fs_exists(f->dir, "ctl"));
	assert_false(fs_exists(f->dir, "monitor"));
	assert_false(fs_exists(f->dir, "monitor.lock"));
	assert_int_equal(monitor_alive(f->dir), 0);
}

static void test_teardown_is_tried_again(void **state)
{
	struct fix *f = *state;

	put_file(f->dir, "state.json", "{}");
	put_file(f->t->fd, "no-teardown", "");
	fix_start(f, true, "exit 0");
	eventually(file_has(f->t->fd, "calls", "_teardown"));
	assert_int_equal(unlinkat(f->t->fd, "no-teardown", 0), 0);
	fix_wait_monitor(f);
	assert_false(fs_exists(f->dir, "state.json"));
}

static void test_attach(void **state)
{
	struct fix *f = *state;
	struct ctl_attach size = {.rows = 33, .cols = 111};

	fix_start(f, true, "while read x; do case $x in size) stty size;; bye) exit 5;; "
			   "*) echo \"got $x\";; esac; done");

	autoclose int a = attach(f, false);
	autoclose int b = attach(f, false);

	assert_int_equal(ctl_send(a, CTL_INPUT, "one\n", 4), 0);
	assert_true(expect(a, "got one"));
	assert_true(expect(b, "got one"));
	assert_int_equal(ctl_send(b, CTL_WINSIZE, &size, sizeof(size)), 0);
	assert_int_equal(ctl_send(b, CTL_INPUT, "size\n", 5), 0);
	assert_true(expect(b, "33 111"));
	close_fd(&a); /* one that leaves is no matter to the others */
	assert_int_equal(ctl_send(b, CTL_INPUT, "bye\n", 4), 0);
	assert_int_equal(read_exit(b, NULL, NULL), 5);
	fix_wait_monitor(f);
}

static void test_exclusive(void **state)
{
	struct fix *f = *state;
	struct ctl_attach ask = {.exclusive = 0};

	fix_start(f, true, "read x");

	autoclose int a = attach(f, true);
	autoclose int b = ctl_connect(f->dir);

	assert_int_equal(ctl_ask(b, CTL_ATTACH, &ask, sizeof(ask), 5000, NULL), -VPS_ELOCKED);
	close_fd(&a);
	eventually(ctl_ask(b, CTL_ATTACH, &ask, sizeof(ask), 5000, NULL) == 0);
	ask.exclusive = 1;

	autoclose int c = ctl_connect(f->dir);

	assert_int_equal(ctl_ask(c, CTL_ATTACH, &ask, sizeof(ask), 5000, NULL), -VPS_ELOCKED);
}

/* 3 MB at a client that does not read: init is not held up, the client loses the oldest. */
static void test_slow_client(void **state)
{
	struct fix *f = *state;
	uint64_t bytes = 0, lost = 0;

	f->a.hold_for_attach = true;
	fix_start(f, true, "stty -onlcr; head -c 3000000 /dev/zero | tr '\\0' x; echo THE END; sleep 30");

	autoclose int slow = attach(f, false);
	autoclose int fast = attach(f, false);

	assert_true(expect(fast, "THE END"));
	close_fd(&fast);

	/* What the slow one still gets ends with the newest. */
	char buf[CTL_DATA_MAX + 1];
	size_t len;
	bool end = false;

	while (!end) {
		int r = ctl_recv(slow, buf, &len, 5000);

		assert_true(r > 0);
		if (r == CTL_LOST)
			lost += *(uint64_t *)(void *)buf;
		if (r == CTL_OUT) {
			bytes += len;
			end = memmem(buf, len, "THE END", 7) != NULL;
		}
	}
	assert_true(lost > 1000000);
	/* Held for it: at most its queue and what the kernel buffers. */
	assert_true(bytes < 512 << 10);
	assert_int_equal(bytes + lost, 3000008);
}

static void test_log_is_bounded(void **state)
{
	struct fix *f = *state;
	struct stat a, b = {0};

	f->a.console_log_max = 100000;
	fix_start(f, true, "head -c 1000000 /dev/zero | tr '\\0' x; echo THE END");
	fix_wait_monitor(f);
	assert_int_equal(fstatat(f->inst, "console.log", &a, 0), 0);
	assert_int_equal(fstatat(f->inst, "console.log.1", &b, 0), 0);
	assert_true(a.st_size + b.st_size <= 100000);
	assert_true(a.st_size + b.st_size >= 50000);
	assert_int_equal(a.st_mode & 07777, 0600);
	assert_true(file_has(f->inst, "console.log", "THE END"));
}

static void test_no_log(void **state)
{
	struct fix *f = *state;

	f->a.console_log_max = 0;
	fix_start(f, true, "echo x");
	fix_wait_monitor(f);
	assert_false(fs_exists(f->inst, "console.log"));
}

/* A getty's vhangup(2) cuts our own slave off too; what is written afterwards still arrives. */
static void test_hangup_inside(void **state)
{
	struct fix *f = *state;

	fix_start(f, true,
		  "trap '' HUP; tty=$(tty); echo before; sleep 0.2; "
		  "perl -e 'use POSIX; syscall(153) == 0 or die' 2>/dev/null || python3 -c '"
		  "import ctypes; ctypes.CDLL(None).vhangup()'; "
		  "sleep 0.3; echo after > $tty; sleep 0.2; exit 3");
	fix_wait_monitor(f);
	assert_int_equal(last_of(f).exit_code, 3);
	assert_true(file_has(f->inst, "console.log", "before"));
	assert_true(file_has(f->inst, "console.log", "after"));
}

static void test_pipes(void **state)
{
	struct fix *f = *state;
	uint64_t bytes = 0, lost = 0;

	f->a.hold_for_attach = true;
	fix_start(f, false, "cat; echo to-stderr >&2; sleep 0.3; head -c 3000000 /dev/zero; exit 4");
	assert_false(status_of(f).ready);

	autoclose int fd = attach(f, true);

	assert_int_equal(ctl_send(fd, CTL_INPUT, "abc", 3), 0);
	assert_true(expect(fd, "abc"));
	assert_int_equal(ctl_send(fd, CTL_INPUT, NULL, 0), 0); /* the end: cat ends */
	assert_true(expect(fd, "to-stderr"));
	/* Exclusive pipes lose nothing, however slow the reader is. */
	usleep(500000);
	assert_int_equal(read_exit(fd, &bytes, &lost), 4);
	assert_int_equal(lost, 0);
	assert_int_equal(bytes, 3000000);
	fix_wait_monitor(f);
}

/* The VPS has ended, the place is free for the next start, and a slow reader still gets the rest. */
static void test_last_words(void **state)
{
	struct fix *f = *state;
	uint64_t bytes = 0;

	f->a.hold_for_attach = true;
	fix_start(f, false, "head -c 120000 /dev/zero; exit 6");

	autoclose int fd = attach(f, true);

	eventually(monitor_alive(f->dir) == 0);
	assert_int_equal(last_of(f).exit_code, 6);
	assert_int_equal(read_exit(fd, &bytes, NULL), 6);
	assert_int_equal(bytes, 120000);
	fix_wait_monitor(f);
	assert_false(file_has(f->run, "events", "\"console\""));
}

/* The event of a bad end has the last lines. */
static void test_last_lines(void **state)
{
	struct fix *f = *state;

	fix_start(f, false, "seq 1 2000; echo 'the \"end\"'; exit 6");
	eventually(monitor_alive(f->dir) == 0);
	fix_wait_monitor(f);
	assert_true(file_has(f->run, "events", "\"console\":\"1997\\u000a1998\\u000a1999\\u000a2000\\u000athe \\\"end\\\"\"}"));
}

static void test_hold_for_attach(void **state)
{
	struct fix *f = *state;

	f->a.hold_for_attach = true;
	fix_start(f, true, "echo first words; exit 3");
	usleep(300000);
	assert_false(file_has(f->inst, "console.log", "first"));

	autoclose int fd = attach(f, false);

	assert_true(expect(fd, "first words"));
	assert_int_equal(read_exit(fd, NULL, NULL), 3);
	fix_wait_monitor(f);
}

static void run_for_cause(struct fix *f, const char *script, enum monitor_cause cause, int code)
{
	fix_start(f, true, script);
	eventually(monitor_alive(f->dir) == 0 || file_has(f->t->fd, "calls", "_restart"));
	assert_int_equal(last_of(f).cause, cause);
	assert_int_equal(last_of(f).exit_code, code);
}

static void test_crash(void **state)
{
	struct fix *f = *state;

	run_for_cause(f, "kill -SEGV $$", MONITOR_SIGNALED, 139);
	assert_false(file_has(f->t->fd, "calls", "_restart"));
}

static void test_halt(void **state)
{
	struct fix *f = *state;

	f->a.restart = MONITOR_RESTART_ALWAYS;
	run_for_cause(f, "kill -INT $$", MONITOR_HALT, 0);
	assert_false(file_has(f->t->fd, "calls", "_restart"));
}

static void test_reboot(void **state)
{
	struct fix *f = *state;

	f->a.conf = "/etc/some.conf";
	run_for_cause(f, "kill -HUP $$", MONITOR_REBOOT, 0);
	eventually(file_has(f->t->fd, "calls", "_restart"));
	assert_true(now_ms() - f->started_ms < 900);
	assert_true(file_has(f->t->fd, "calls", "--config /etc/some.conf _restart 101"));
	assert_int_equal(status_of(f).phase, MONITOR_BACKOFF);
	assert_int_equal(status_of(f).restarts, 1);
	assert_int_equal(status_of(f).failures, 1);
	/* `vps _restart` runs in its place and starts afresh: nobody holds the lock. */
	assert_int_equal(monitor_alive(f->dir), 0);
}

static void test_back_off(void **state)
{
	struct fix *f = *state;

	f->a.restart = MONITOR_RESTART_ON_FAILURE;
	f->a.restarts = 5;
	f->a.failures = 1;
	fix_start(f, true, "exit 1");
	eventually(status_of(f).phase == MONITOR_BACKOFF);
	assert_int_equal(monitor_alive(f->dir), 1);
	assert_int_equal(status_of(f).restarts, 6);
	assert_int_equal(status_of(f).failures, 2);
	eventually(file_has(f->t->fd, "calls", "_restart"));
	/* The second failure in a row waits two seconds. */
	assert_true(now_ms() - f->started_ms >= 1900);
	assert_true(now_ms() - f->started_ms < 4000);
}

static void test_stop_in_back_off(void **state)
{
	struct fix *f = *state;

	f->a.restart = MONITOR_RESTART_ALWAYS;
	f->a.failures = 4;
	fix_start(f, true, "exit 1");
	eventually(status_of(f).phase == MONITOR_BACKOFF);

	int fd = ctl_stop_begin(f->dir, NULL);

	assert_true(fd >= 0);
	ctl_stop_end(fd);
	fix_wait_monitor(f);
	assert_false(fs_exists(f->dir, "monitor"));
	assert_false(file_has(f->t->fd, "calls", "_restart"));
}

static void test_stop(void **state)
{
	struct fix *f = *state;
	int code = -2;

	f->a.restart = MONITOR_RESTART_ALWAYS;
	put_file(f->dir, "state.json", "{}");
	fix_start(f, true, "sleep 60");

	int fd = ctl_stop_begin(f->dir, NULL);

	assert_true(fd >= 0);
	assert_int_equal(status_of(f).phase, MONITOR_STOPPING);
	assert_int_equal(ctl_stop_wait(fd, 100, &code), -ETIMEDOUT);
	kill(f->init, SIGKILL);
	assert_int_equal(ctl_stop_wait(fd, 5000, &code), 0);
	assert_int_equal(code, 137);
	assert_int_equal(last_of(f).cause, MONITOR_STOP);
	/* The one who stops it tears down: the monitor waits for that. */
	usleep(100000);
	assert_int_equal(monitor_alive(f->dir), 1);
	assert_false(fs_exists(f->t->fd, "calls"));
	assert_int_equal(unlinkat(f->dir, "state.json", 0), 0);
	ctl_stop_end(fd);
	assert_int_equal(monitor_alive(f->dir), 0); /* already: end waits for it */
	fix_wait_monitor(f);
	assert_false(fs_exists(f->t->fd, "calls"));
}

/* `vps stop` was killed half-way. */
static void test_stop_abandoned(void **state)
{
	struct fix *f = *state;

	f->a.restart = MONITOR_RESTART_ALWAYS;
	put_file(f->dir, "state.json", "{}");
	fix_start(f, true, "sleep 60");

	int fd = ctl_stop_begin(f->dir, NULL);

	kill(f->init, SIGTERM);
	assert_int_equal(ctl_stop_wait(fd, 5000, NULL), 0);
	close(fd);
	fix_wait_monitor(f);
	assert_true(file_has(f->t->fd, "calls", "_teardown 101"));
	assert_false(file_has(f->t->fd, "calls", "_restart"));
}

/* ... before it had even asked init. */
static void test_stop_abandoned_early(void **state)
{
	struct fix *f = *state;

	fix_start(f, true, "sleep 60");

	int one = ctl_stop_begin(f->dir, NULL), two = ctl_stop_begin(f->dir, NULL);

	assert_int_equal(status_of(f).phase, MONITOR_STOPPING);
	close(one);
	usleep(50000);
	assert_int_equal(status_of(f).phase, MONITOR_STOPPING); /* the other still wants it */
	close(two);
	for (int i = 0; i < 500 && status_of(f).phase != MONITOR_UP; i++)
		usleep(10000);
	assert_int_equal(status_of(f).phase, MONITOR_UP);
	kill(f->init, SIGKILL);
	fix_wait_monitor(f);
	assert_int_not_equal(last_of(f).cause, MONITOR_STOP);
}

static void test_policy_changes_live(void **state)
{
	struct fix *f = *state;
	struct ctl_policy p = {.restart = MONITOR_RESTART_NO, .console_log_max = 1 << 20};

	f->a.restart = MONITOR_RESTART_ALWAYS;
	fix_start(f, true, "read x");

	autoclose int fd = ctl_connect(f->dir);

	assert_int_equal(ctl_ask(fd, CTL_POLICY, &p, sizeof(p), 5000, NULL), 0);
	p.restart = 99;
	assert_int_equal(ctl_ask(fd, CTL_POLICY, &p, sizeof(p), 5000, NULL), -EINVAL);
	kill(f->init, SIGKILL);
	fix_wait_monitor(f);
	assert_false(file_has(f->t->fd, "calls", "_restart"));
}

static void send_notify(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), 0), strlen(text));
}

static void test_ready(void **state)
{
	struct fix *f = *state;
	int sv[2];
	char buf[CTL_DATA_MAX];
	size_t len;

	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, sv), 0);
	f->a.notify = sv[0];
	fix_start(f, true, "read x");
	close(sv[0]);
	assert_false(status_of(f).ready);

	autoclose int fd = ctl_connect(f->dir);

	assert_int_equal(ctl_send(fd, CTL_WATCH, NULL, 0), 0);
	assert_int_equal(ctl_recv(fd, buf, &len, 5000), CTL_STATUS);
	send_notify(sv[1], "STATUS=half \x1b[31mway\nNOTREADY=1\nXREADY=1");
	eventually(str_eq(status_of(f).text, "half \\x1b[31mway"));
	assert_false(status_of(f).ready);
	send_notify(sv[1], "READY=1\nSTATUS=done");
	for (struct ctl_status s = {0}; !s.ready; memcpy(&s, buf, sizeof(s)))
		assert_int_equal(ctl_recv(fd, buf, &len, 5000), CTL_STATUS);
	assert_true(status_of(f).ready);
	eventually(file_has(f->run, "events", "\"event\":\"ready\""));
	close(sv[1]);
}

static unsigned long waits_of(pid_t pid)
{
	char path[64], text[8192], *p;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	assert_true(fs_read_buf(AT_FDCWD, path, text, sizeof(text)) > 0);
	p = strstr(text, "\nvoluntary_ctxt_switches:");
	assert_non_null(p);
	return strtoul(strchr(p, ':') + 1, NULL, 10);
}

/* memory.events of v2 wakes each time that a limit is met. Another file that polls POLLPRI and is told of at will
 * stands for it. */
static void test_oom_v2_does_not_keep_it_busy(void **state)
{
	struct fix *f = *state;
	char name[65] = "";
	unsigned long was;

	f->a.oom = open("/proc/sys/kernel/hostname", O_RDONLY | O_CLOEXEC);
	put_file(f->t->fd, "stat", "oom_kill 0\n");
	f->a.oom_stat = openat(f->t->fd, "stat", O_RDONLY | O_CLOEXEC);
	assert_true(f->a.oom >= 0 && gethostname(name, sizeof(name) - 1) == 0);
	fix_start(f, true, "read x");
	was = waits_of(f->monitor);
	for (int i = 0; i < 500; i++) {
		if (sethostname(name, strlen(name)) < 0) /* in a user namespace, perhaps */
			skip();
		usleep(1000);
	}
	was = waits_of(f->monitor) - was;
	if (was < 1 || was > 60)
		fail_msg("it woke %lu times", was);
	put_file(f->t->fd, "stat", "oom_kill 2\n");
	assert_int_equal(sethostname(name, strlen(name)), 0);
	eventually(status_of(f).oom_kills == 2);
	kill(f->init, SIGKILL);
	fix_wait_monitor(f);
	close(f->a.oom);
	close(f->a.oom_stat);
}

static void test_oom(void **state)
{
	struct fix *f = *state;

	f->a.oom = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	put_file(f->t->fd, "stat", "low 0\noom 1\noom_kill 0\n");
	f->a.oom_stat = openat(f->t->fd, "stat", O_RDONLY | O_CLOEXEC);
	fix_start(f, true, "read x");
	put_file(f->t->fd, "stat", "low 0\noom 1\noom_kill 2\n");
	assert_int_equal(eventfd_write(f->a.oom, 1), 0);
	eventually(status_of(f).oom_kills == 2);
	/* told after it is counted */
	eventually(file_has(f->run, "events", "\"event\":\"oom\",\"oom_kills\":2"));
	put_file(f->t->fd, "stat", "oom_kill 3\n");
	kill(f->init, SIGKILL);
	fix_wait_monitor(f);
	assert_int_equal(last_of(f).oom_kills, 3); /* counted once more at the end */
	close(f->a.oom);
	close(f->a.oom_stat);
}

static void test_junk(void **state)
{
	struct fix *f = *state;
	struct ctl_head h = {.version = 9, .type = CTL_STOP};
	char c, big[10000] = {CTL_VERSION, CTL_INPUT, 0xff, 0xff};

	fix_start(f, true, "read x");

	autoclose int a = ctl_connect(f->dir), b = ctl_connect(f->dir), d = ctl_connect(f->dir);

	assert_int_equal(send(a, &h, sizeof(h), 0), sizeof(h));
	assert_int_equal(recv(a, &c, 1, 0), 0);
	assert_int_equal(send(b, big, sizeof(big), 0), sizeof(big));
	assert_int_equal(recv(b, &c, 1, 0), 0);
	assert_int_equal(ctl_ask(d, CTL_INPUT, "x", 1, 5000, NULL), -EPROTO); /* not attached */
	assert_int_equal(ctl_ask(d, CTL_DONE, NULL, 0, 5000, NULL), -EPROTO); /* stopped nothing */
	assert_int_equal(ctl_ask(d, CTL_ATTACH, "x", 1, 5000, NULL), -EPROTO); /* cut */
	assert_int_equal(ctl_ask(d, (enum ctl_type)63, NULL, 0, 5000, NULL), -EPROTO);
	assert_int_equal(monitor_alive(f->dir), 1);
}

/* More clients than places: the surplus is turned away, the rest is served. */
static void test_many_clients(void **state)
{
	struct fix *f = *state;
	int fds[80];
	char c;

	fix_start(f, true, "read x; echo bye");
	for (int i = 0; i < 80; i++)
		assert_true((fds[i] = ctl_connect(f->dir)) >= 0);
	assert_int_equal(recv(fds[79], &c, 1, 0), 0);
	for (int i = 0; i < 79; i++)
		close(fds[i]);
	close(fds[79]);
	autoclose int fd = -1;

	for (int i = 0; fd < 0 && i < 100; i++) {
		struct ctl_attach a = {0};

		fd = ctl_connect(f->dir);
		if (ctl_ask(fd, CTL_ATTACH, &a, sizeof(a), 5000, NULL) < 0)
			close_fd(&fd);
	}
	assert_int_equal(ctl_send(fd, CTL_INPUT, "\n", 1), 0);
	assert_true(expect(fd, "bye"));
}

static void test_not_for_others(void **state)
{
	struct fix *f = *state;
	int status;

	fix_start(f, true, "read x");
	assert_int_equal(fchmod(f->t->fd, 0711) | fchmod(f->run, 0711) | fchmod(f->dir, 0711), 0);
	assert_int_equal(fchmodat(f->dir, "ctl", 0666, 0), 0); /* even if the mode were wrong */

	pid_t pid = fork();

	if (pid == 0) {
		char c;

		if (setuid(65534) < 0)
			_exit(1);
		int fd = ctl_connect(f->dir);

		_exit(fd == -EACCES || (fd >= 0 && recv(fd, &c, 1, 0) <= 0) ? 0 : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void test_one_monitor_only(void **state)
{
	struct fix *f = *state;
	pid_t first;

	fix_start(f, true, "sleep 60");
	first = f->monitor;

	pid_t init = f->init;

	assert_int_equal(fix_try_start(f, true, "sleep 60"), VPS_ESTATE);
	/* The second one's init gave up by itself: its gate was shut. */
	eventually(kill(f->init, 0) < 0 || waitpid(f->init, NULL, WNOHANG) == f->init);
	assert_int_equal(waitpid(f->monitor, NULL, 0), f->monitor);
	f->monitor = first;
	f->init = init;
	assert_int_equal(monitor_alive(f->dir), 1);
	assert_int_equal(status_of(f).pid, first);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		monitor_test(test_run_and_exit),
		monitor_test(test_teardown_is_tried_again),
		monitor_test(test_attach),
		monitor_test(test_exclusive),
		monitor_test(test_slow_client),
		monitor_test(test_log_is_bounded),
		monitor_test(test_no_log),
		monitor_test(test_hangup_inside),
		monitor_test(test_pipes),
		monitor_test(test_last_words),
		monitor_test(test_last_lines),
		monitor_test(test_hold_for_attach),
		monitor_test(test_crash),
		monitor_test(test_halt),
		monitor_test(test_reboot),
		monitor_test(test_back_off),
		monitor_test(test_stop_in_back_off),
		monitor_test(test_stop),
		monitor_test(test_stop_abandoned),
		monitor_test(test_stop_abandoned_early),
		monitor_test(test_policy_changes_live),
		monitor_test(test_ready),
		monitor_test(test_oom), monitor_test(test_oom_v2_does_not_keep_it_busy),
		monitor_test(test_junk),
		monitor_test(test_many_clients),
		monitor_test(test_not_for_others),
		monitor_test(test_one_monitor_only),
	};

	if (geteuid() != 0) {
		printf("skipped: the monitor's control socket serves root only\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
