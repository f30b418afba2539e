/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From init's end to our own, or to the next run. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "runtime/events.h"
#include "runtime/monitor/impl.h"
#include "runtime/monitor_files.h"
#include "runtime/restart.h"

#define REAP_MS	      2000
#define TEARDOWN_TRIES 6
#define LINGER_MS     2000

/* <linux/pidfd.h> of 6.15; Debian 12's has neither. */
struct pidfd_exit_info {
	uint64_t mask, cgroupid;
	uint32_t pid, tgid, ppid, ids[8];
	int32_t exit_code;
};
#define PIDFD_INFO_WANT_EXIT (1u << 3)
#define PIDFD_ASK_INFO	     _IOWR(0xFF, 11, struct pidfd_exit_info)
_Static_assert(sizeof(struct pidfd_exit_info) == 64, "PIDFD_INFO_SIZE_VER0");

/* ---- helpers -------------------------------------------------------------- */

/* argv of `vps --root R --run T [--config C] VERB ID`, executed. Returns only on failure. */
void helper_exec(struct monitor *m, const char *verb)
{
	char path[4096], id[12];
	struct sigaction dfl = {.sa_handler = SIG_DFL};
	char *argv[12];
	int n = 0;
	const char *words[] = {"vps", "--root", m->a.root, "--run", m->a.run,
			       m->a.conf ? "--config" : NULL, m->a.conf, verb, id, NULL};

	snprintf(id, sizeof(id), "%u", m->a.id);
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (words[i])
			argv[n++] = (char *)(uintptr_t)words[i];
	argv[n] = NULL;
	/* execve keeps what is ignored. */
	for (int sig = 1; sig < NSIG; sig++)
		sigaction(sig, &dfl, NULL);
	umask(022);
	monitor_program("vps", BINDIR, path, sizeof(path));
	execve(path, argv, environ);
	umask(077);
	ignore_signals();
}

int helper_start(struct monitor *m, const char *verb)
{
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		helper_exec(m, verb);
		_exit(127);
	}
	m->helper = sys_pidfd_open(pid, 0);
	if (m->helper < 0)
		waitpid(pid, NULL, 0);
	return m->helper < 0 ? m->helper : 0;
}

void helper_event(struct monitor *m)
{
	siginfo_t si = {0};

	if (waitid(P_PIDFD, (id_t)m->helper, &si, WEXITED | WNOHANG) == 0 && si.si_pid == 0)
		return;
	close_fd(&m->helper);
	if (m->heal) {
		m->heal = false;
		lxcfs_watch(m);
	}
}

/* ---- init's end ------------------------------------------------------------ */

static uint64_t up_seconds(const struct monitor *m)
{
	uint64_t start = m->a.init.start_time * (SEC / (uint64_t)sysconf(_SC_CLK_TCK));
	uint64_t now = sys_now_boot();

	return now > start ? (now - start) / SEC : 0;
}

static void say_end(struct monitor *m)
{
	char last[CONSOLE_TAIL + 1];
	const struct event_field f[] = {
		{.key = "cause", .str = monitor_cause_name(m->cause)},
		{.key = "exit_code", .num = m->exit_code},
		{.key = "console", .str = last},
	};
	bool bad = m->cause == MONITOR_SIGNALED || (m->cause == MONITOR_EXITED && m->exit_code != 0);

	console_last(m, last);
	event_add(m->run_fd, m->a.id, m->a.name, "exit", f, ARRAY_LEN(f) - !(bad && *last));
}

static void record(struct monitor *m)
{
	m->due[T_OOM] = 0; /* no later time to tell */
	oom_count(m);

	struct restart_decision d = restart_decide(m->a.restart, m->a.restart_max, m->cause,
						   m->exit_code, up_seconds(m), m->st.failures);
	struct monitor_last last = {
		.exit_code = m->exit_code,
		.cause = m->cause,
		.started = m->a.started,
		.stopped = sys_now_real() / SEC,
		.oom_kills = m->st.oom_kills,
		.restarts = m->st.restarts,
		.init = m->a.init.pid,
		.init_start = m->a.init.start_time,
	};

	/* A disk that is full keeps no record; the clients still learn the code. */
	monitor_last_write(m->a.instance_dir, &last);
	m->restart = d.restart;
	m->restart_delay_s = d.delay_s;
	if (d.restart) {
		m->st.failures = d.failures;
		m->st.restarts++;
	}
	m->st.phase = MONITOR_ENDED;
	m->recorded = true;
	m->due[T_REAP] = m->due[T_OOM] = m->due[T_OOM_LOOK] = m->due[T_HOLD] = m->due[T_LXCFS] = 0;
	close_fd(&m->a.oom);
	close_fd(&m->a.oom_stat);
	close_fd(&m->a.notify);
	close_fd(&m->a.pidfd);
	close_fd(&m->a.gate);
	close_fd(&m->lxcfs);
	console_drain(m);
	say_end(m);
	status_changed(m);
}

static void ended(struct monitor *m, int wstatus)
{
	m->cause = restart_cause(wstatus, m->stop, &m->exit_code);
	record(m);
}

/* A machine has told its status before it ended (vmm/api.h). */
static void ended_unseen(struct monitor *m)
{
	for (int i = 0; i < NOTE_BUDGET && m->a.notify >= 0 && m->told < 0; i++)
		notify_event(m);
	if (m->told >= 0) {
		ended(m, m->told);
		return;
	}
	m->exit_code = -1;
	m->cause = m->stop ? MONITOR_STOP : MONITOR_LOST;
	record(m);
}

/* While init is a zombie, proc(5) tells its wait status: field 52 of stat. */
static int zombie_status(const struct proc_ident *id, int *ret)
{
	char path[32], text[1024], *p;
	unsigned long long start = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", id->pid);
	if (fs_read_buf(AT_FDCWD, path, text, sizeof(text)) < 0)
		return -ESRCH;
	/* The command may hold anything; behind its last ')' each field follows one space. */
	p = strrchr(text, ')');
	for (int field = 3; p && (p = strchr(p, ' ')); field++) {
		p++;
		if (field == 3 && *p != 'Z')
			return -ESRCH;
		if (field == 22 && (sscanf(p, "%llu", &start) != 1 || start != id->start_time))
			return -ESRCH;
		if (field == 52)
			return sscanf(p, "%d", ret) == 1 ? 0 : -ESRCH;
	}
	return -ESRCH;
}

/* An adopter is not init's parent. It sees the zombie if it is faster than the parent; after that, from
 * Linux 6.15 on, the pidfd tells (it hangs up when init has been reaped). Else nobody can know. */
static void ended_elsewhere(struct monitor *m, bool last_try)
{
	struct pidfd_exit_info info = {.mask = PIDFD_INFO_WANT_EXIT};
	int status;

	if (zombie_status(&m->a.init, &status) == 0) {
		ended(m, status);
		return;
	}
	if (ioctl(m->a.pidfd, PIDFD_ASK_INFO, &info) == 0) {
		if (info.mask & PIDFD_INFO_WANT_EXIT) {
			ended(m, info.exit_code);
			return;
		}
	} else if (errno != ESRCH) {
		last_try = true;
	}
	if (last_try || (m->set[P_INIT].revents & POLLHUP))
		ended_unseen(m);
	else if (!m->due[T_REAP])
		timer_in(m, T_REAP, REAP_MS);
}

void init_event(struct monitor *m)
{
	siginfo_t si = {0};

	if (waitid(P_PIDFD, (id_t)m->a.pidfd, &si, WEXITED | WNOHANG) < 0) {
		if (errno != EINTR)
			ended_elsewhere(m, false);
	} else if (si.si_pid != 0) {
		ended(m, si.si_code == CLD_EXITED ? si.si_status << 8 : si.si_status);
	}
}

/* ---- teardown and after ------------------------------------------------------ */

static bool torn_down(const struct monitor *m)
{
	return faccessat(m->a.run_dir, "state.json", F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT;
}

static void teardown(struct monitor *m)
{
	if (m->due[T_TEARDOWN])
		return;
	if (m->teardowns >= TEARDOWN_TRIES) {
		/* The next command that looks finds a dead init and a state, and does it. */
		say(m, "teardown-failed", NULL, NULL, 0);
		m->over = true;
		return;
	}
	helper_start(m, "_teardown");
	timer_in(m, T_TEARDOWN, 1000ull << m->teardowns++);
}

static void back_off(struct monitor *m)
{
	m->st.phase = MONITOR_BACKOFF;
	m->st.ready = false;
	m->st.next = sys_now_real() / SEC + m->restart_delay_s;
	timer_in(m, T_BACKOFF, m->restart_delay_s * 1000ull);
	status_changed(m);
	say(m, "restart", "in_seconds", NULL, m->restart_delay_s);
}

/* What comes next; called after each round of the loop, does one thing at a time. */
void end_step(struct monitor *m)
{
	if (!init_ended(m) || m->over)
		return;
	if (!m->drained)
		console_drain(m);
	clients_exit(m);
	if (m->st.phase == MONITOR_BACKOFF || m->helper >= 0 || clients_stopping(m))
		return;
	if (!torn_down(m)) {
		teardown(m);
	} else if (m->restart && !m->stop) {
		back_off(m);
	} else if (!clients_pending(m) && m->drained) {
		m->over = true;
	} else if (!m->due[T_LINGER]) {
		timer_in(m, T_LINGER, LINGER_MS);
	}
}

static bool fired(struct monitor *m, enum timer t, uint64_t now)
{
	if (!m->due[t] || m->due[t] > now)
		return false;
	m->due[t] = 0;
	return true;
}

void end_timers(struct monitor *m, uint64_t now)
{
	if (fired(m, T_REAP, now))
		ended_elsewhere(m, true);
	fired(m, T_TEARDOWN, now);
	if (fired(m, T_LINGER, now))
		m->over = true;
	if (fired(m, T_LXCFS, now) && m->helper < 0 && !init_ended(m))
		m->heal = helper_start(m, "_lxcfs-heal") == 0;
	if (fired(m, T_THAW, now) && faccessat(m->a.run_dir, STILL_NOTE, F_OK, AT_SYMLINK_NOFOLLOW) == 0 &&
	    (m->helper >= 0 || helper_start(m, "_thaw") < 0))
		timer_in(m, T_THAW, 1000);
	if (fired(m, T_BACKOFF, now)) {
		helper_exec(m, "_restart");
		timer_in(m, T_BACKOFF, 60000); /* no `vps` there just now: an upgrade */
	}
}
