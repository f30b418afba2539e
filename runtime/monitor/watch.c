/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What else a monitor watches: sd_notify(3) datagrams, OOM kills, the keeper, lxcfs. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "runtime/lxcfs.h"
#include "runtime/monitor/impl.h"
#include "vmm/api.h"

#define OOM_SETTLE_MS 200   /* v1 tells before the kill is counted */
#define OOM_LOOK_MS   100   /* v2 tells of each time that a limit is met, hundreds of times a second */
#define OOM_QUIET_MS  10000 /* a VPS that is killed in a loop does not fill the event log */
#define STATUS_MS     1000
#define KEEPER_TRIES  25
#define KEEPER_NAP_MS 20
#define LXCFS_TRIES   8

/* ---- READY=1 ------------------------------------------------------------- */

static void set_text(struct monitor *m, const char *s)
{
	autofree char *safe = str_escape(s);

	if (!safe)
		return;
	snprintf(m->st.text, sizeof(m->st.text), "%s", safe);
	if (!m->due[T_STATUS])
		timer_in(m, T_STATUS, STATUS_MS);
}

static void notify_line(struct monitor *m, const char *line)
{
	uint64_t n;

	if (str_eq(line, "READY=1") && !m->st.ready) {
		m->st.ready = true;
		say(m, "ready", NULL, NULL, 0);
		status_changed(m);
	} else if (str_eq(line, "VPS_FILES=1")) { /* by vps-guest */
		fs_write_rename(m->a.instance_dir, FIRST_BOOT_DONE, "", 0, 0600);
	} else if (str_starts(line, VMM_WAIT_STATUS)) {
		if (parse_u64(line + strlen(VMM_WAIT_STATUS), UINT16_MAX, &n) == 0)
			m->told = (int)n;
	} else if (str_starts(line, "STATUS=")) {
		set_text(m, line + strlen("STATUS="));
	}
}

void notify_event(struct monitor *m)
{
	char buf[4096];
	ssize_t n = recv(m->a.notify, buf, sizeof(buf) - 1, MSG_DONTWAIT);

	if (n < 0 && errno != EAGAIN && errno != EINTR)
		close_fd(&m->a.notify);
	if (n <= 0)
		return;
	buf[n] = '\0';
	for (char *p = buf, *line; (line = strsep(&p, "\n"));)
		notify_line(m, line);
	m->notes++;
	if (!m->due[T_TICK])
		timer_in(m, T_TICK, TICK_MS);
}

/* ---- OOM ----------------------------------------------------------------- */

static uint64_t kills(const struct monitor *m)
{
	char text[1024];
	ssize_t n = m->a.oom_stat < 0 ? -1 : pread(m->a.oom_stat, text, sizeof(text) - 1, 0);
	unsigned long long v = 0;

	if (n <= 0)
		return m->st.oom_kills;
	text[n] = '\0';
	for (char *p = text, *line; (line = strsep(&p, "\n"));)
		if (sscanf(line, "oom_kill %llu", &v) == 1)
			return v;
	return m->st.oom_kills;
}

void oom_count(struct monitor *m)
{
	uint64_t n = kills(m);

	if (n > m->st.oom_kills) {
		m->st.oom_kills = n;
		status_changed(m);
	}
	if (m->st.oom_kills > m->oom_told && !m->due[T_OOM]) {
		m->oom_told = m->st.oom_kills;
		say(m, "oom", "oom_kills", NULL, (int64_t)m->oom_told);
		timer_in(m, T_OOM, OOM_QUIET_MS);
	}
}

/* v2: memory.events, a file that polls POLLPRI and is armed again by reading it. v1: an eventfd. */
void oom_event(struct monitor *m)
{
	uint64_t v;

	if (m->set[P_OOM].revents & (POLLHUP | POLLNVAL)) {
		close_fd(&m->a.oom);
		return;
	}
	if (m->set[P_OOM].events == POLLIN) {
		if (read(m->a.oom, &v, sizeof(v)) < 0 && errno != EAGAIN && errno != EINTR)
			close_fd(&m->a.oom);
		if (!m->due[T_OOM])
			timer_in(m, T_OOM, OOM_SETTLE_MS);
		return;
	}

	char buf[1024];

	if (pread(m->a.oom, buf, sizeof(buf), 0) < 0)
		close_fd(&m->a.oom); /* the group is gone */
	oom_count(m);
	timer_in(m, T_OOM_LOOK, OOM_LOOK_MS);
}

/* ---- the keeper ---------------------------------------------------------- */

/* Our own executable under another name, in a session of its own and not our child. Comes back when
 * it listens or has ended (it ends at once when another one was faster). */
static void keeper_start(struct monitor *m)
{
	char fds[2][12], c;
	int p[2];
	pid_t pid;

	if (pipe2(p, O_CLOEXEC) < 0)
		return;
	pid = fork();
	if (pid == 0) {
		char *argv[] = {(char *)(uintptr_t) "vps-keeper", (char *)(uintptr_t)m->a.run,
				fds[0], fds[1], NULL};
		char *env[] = {NULL};

		setsid();
		if (fork() != 0)
			_exit(0);
		snprintf(fds[0], sizeof(fds[0]), "%d", m->run_fd);
		snprintf(fds[1], sizeof(fds[1]), "%d", p[1]);
		sys_close_range(3, ~0u, 1u << 2 /* CLOSE_RANGE_CLOEXEC */);
		fcntl(m->run_fd, F_SETFD, 0);
		fcntl(p[1], F_SETFD, 0);
		execve("/proc/self/exe", argv, env);
		_exit(127);
	}
	close(p[1]);
	if (pid > 0) {
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		while (read(p[0], &c, 1) < 0 && errno == EINTR)
			;
	}
	close(p[0]);
}

static int keeper_find(struct monitor *m)
{
	for (int i = 0; i < KEEPER_TRIES; i++) {
		int fd = keeper_connect(m->run_fd);

		if (fd >= 0)
			return fd;
		if (i % 5 == 0)
			keeper_start(m);
		else /* another one is between its lock and its socket, or just ends */
			poll(NULL, 0, KEEPER_NAP_MS);
	}
	return -ECONNREFUSED;
}

static void fds_now(const struct monitor *m, int fds[KEEP_N])
{
	fds[KEEP_CONSOLE] = m->a.console;
	fds[KEEP_IN] = m->a.pipes[0];
	fds[KEEP_OUT] = m->a.pipes[1];
	fds[KEEP_ERR] = m->a.pipes[2];
	fds[KEEP_NOTIFY] = m->a.notify;
	fds[KEEP_OOM] = m->a.oom;
	fds[KEEP_OOM_STAT] = m->a.oom_stat;
}

/* Without a keeper the VPS runs all the same, but a killed monitor costs its console; so it is tried
 * again. */
void keeper_hand_over(struct monitor *m)
{
	int fds[KEEP_N], r = -ECONNREFUSED;

	fds_now(m, fds);
	for (int i = 0; r < 0 && i < 2; i++) {
		if (m->keeper < 0)
			m->keeper = keeper_find(m);
		r = m->keeper < 0 ? m->keeper : keeper_put(m->keeper, m->a.id, fds);
		if (r < 0)
			close_fd(&m->keeper);
	}
	m->due[T_KEEPER] = 0;
	if (r < 0)
		timer_in(m, T_KEEPER, 30000);
}

void keeper_take(struct monitor *m)
{
	int fds[KEEP_N];

	m->keeper = keeper_find(m);
	if (m->keeper < 0 || keeper_get(m->keeper, m->a.id, fds) < 0)
		return;
	m->a.console = fds[KEEP_CONSOLE];
	for (int i = 0; i < 3; i++)
		m->a.pipes[i] = fds[KEEP_IN + i];
	m->a.notify = fds[KEEP_NOTIFY];
	if (m->a.oom < 0) {
		m->a.oom = take_fd(fds[KEEP_OOM]);
		m->a.oom_stat = take_fd(fds[KEEP_OOM_STAT]);
	}
	close_fd(&fds[KEEP_OOM]);
	close_fd(&fds[KEEP_OOM_STAT]);
}

/* ---- lxcfs --------------------------------------------------------------- */

void lxcfs_watch(struct monitor *m)
{
	m->lxcfs = m->a.lxcfs ? lxcfs_pidfd(m->run_fd) : -1;
	if (m->a.lxcfs && m->lxcfs < 0)
		lxcfs_died(m);
}

/* Every monitor of the host sees it at once: they come one after another. Each try waits twice as
 * long; after the last one the VPS keeps the plain files until it is started again. */
void lxcfs_died(struct monitor *m)
{
	close_fd(&m->lxcfs);
	if (m->lxcfs_tries++ < LXCFS_TRIES && !init_ended(m))
		timer_in(m, T_LXCFS, (20ull << m->lxcfs_tries) + m->a.id % 100 * 5);
}
