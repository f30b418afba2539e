/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vps-monitor: set-up and the loop. runtime/monitor.h tells the whole story. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "runtime/events.h"
#include "runtime/monitor/impl.h"
#include "runtime/monitor_files.h"

#define HOLD_MS 30000

/* In .bss: pages that are never touched cost nothing. */
static struct monitor the_monitor;

void say(struct monitor *m, const char *event, const char *key, const char *str, int64_t num)
{
	struct event_field f = {.key = key, .str = str, .num = num};

	event_add(m->run_fd, m->a.id, m->a.name, event, &f, key ? 1 : 0);
}

void status_changed(struct monitor *m)
{
	m->due[T_STATUS] = 0;
	monitor_status_write(m->a.run_dir, &m->st);
	clients_status(m);
}

void open_gate(struct monitor *m)
{
	m->due[T_HOLD] = 0;
	m->a.hold_for_attach = false;
	if (m->a.gate < 0)
		return;
	while (write(m->a.gate, GATE_WORD, 1) < 0 && errno == EINTR)
		;
	close_fd(&m->a.gate);
	if (m->a.notify < 0 && !m->st.ready) {
		m->st.ready = true;
		status_changed(m);
	}
}

/* A keeper is not ended by what ends a session, nor by a careless `pkill vps`. */
void ignore_signals(void)
{
	static const int sigs[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGUSR1, SIGUSR2};
	struct sigaction ign = {.sa_handler = SIG_IGN}, dfl = {.sa_handler = SIG_DFL};
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		sigaction(sig, &dfl, NULL);
	for (size_t i = 0; i < ARRAY_LEN(sigs); i++)
		sigaction(sigs[i], &ign, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void leave_session(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	setsid();
	umask(077);
	(void)!chdir("/");
	for (int i = 0; i < 3 && null >= 0; i++)
		dup2(null, i);
	if (null > 2)
		close(null);
	ignore_signals();
}

static void close_on_exec(const struct monitor_args *a)
{
	for (const struct monitor_arg *t = monitor_arg_table; t->key; t++) {
		int fd = t->type == ARG_FD ? *(int *)monitor_arg_at(a, t) : -1;

		if (fd >= 0)
			fcntl(fd, F_SETFD, FD_CLOEXEC);
	}
}

/* What the monitor before us knew. */
static void inherit_status(struct monitor *m)
{
	struct monitor_status was;

	if (monitor_status_read(m->a.run_dir, &was) < 0)
		return;
	m->st = was;
	m->oom_told = was.oom_kills;
	m->stop = was.phase == MONITOR_STOPPING;
	if (was.phase > MONITOR_STOPPING)
		m->st.phase = MONITOR_UP;
}

static int setup(struct monitor *m, struct vps_err *err)
{
	int r;

	m->run_fd = fs_open_dir(m->a.run_dir, "..");
	if (m->run_fd < 0)
		return vps_err_sys(err, m->run_fd, "open the run directory");
	m->lock = m->a.lock >= 0 ? take_fd(m->a.lock) : monitor_lock(m->a.run_dir);
	if (m->lock == -EWOULDBLOCK)
		return vps_err_set(err, VPS_ESTATE, "'%s' has a monitor already", m->a.name);
	if (m->lock < 0)
		return vps_err_sys(err, m->lock, "lock the monitor's place");
	m->st.restarts = m->a.restarts;
	m->st.failures = m->a.failures;
	m->st.ready = m->a.ready || (m->a.notify < 0 && !m->a.hold_for_attach);
	if (m->a.adopt) {
		inherit_status(m);
		keeper_take(m);
	}
	m->st.pid = getpid();
	if (m->a.notify >= 0)
		fcntl(m->a.notify, F_SETFL, fcntl(m->a.notify, F_GETFL) | O_NONBLOCK);
	keeper_hand_over(m);
	console_open(m);
	lxcfs_watch(m);
	r = listen_at(m->a.run_dir, MONITOR_CTL_FILE, 64);
	if (r < 0)
		return vps_err_sys(err, r, "listen on '%s/%u/ctl'", m->a.run, m->a.id);
	m->ctl = r;
	r = monitor_status_write(m->a.run_dir, &m->st);
	return r < 0 ? vps_err_sys(err, r, "write the monitor's status") : 0;
}

static void report(struct monitor *m, const struct vps_err *err)
{
	if (m->a.report >= 0)
		(void)!write(m->a.report, err, sizeof(*err));
	close_fd(&m->a.report);
}

/* ---- the loop --------------------------------------------------------------- */

static void watch(struct monitor *m, enum slot s, int fd, short events)
{
	m->set[s].fd = fd;
	m->set[s].events = events;
}

static void fill_set(struct monitor *m)
{
	struct stat st;
	bool v1_oom = m->a.oom >= 0 && fstat(m->a.oom, &st) == 0 && !S_ISREG(st.st_mode);

	/* An adopter that waits for init to be reaped looks for the hang-up only. */
	watch(m, P_INIT, m->a.pidfd, m->due[T_REAP] ? 0 : POLLIN);
	watch(m, P_CTL, m->ctl, POLLIN);
	watch(m, P_NOTIFY, m->notes < NOTE_BUDGET ? m->a.notify : -1, POLLIN);
	watch(m, P_OOM, m->due[T_OOM_LOOK] ? -1 : m->a.oom, v1_oom ? POLLIN : POLLPRI);
	watch(m, P_KEEPER, m->keeper, POLLIN);
	watch(m, P_LXCFS, m->lxcfs, POLLIN);
	watch(m, P_HELPER, m->helper, POLLIN);
	console_poll(m);
	clients_poll(m);
	for (int i = 0; i < P_CLIENTS + MAX_CLIENTS; i++)
		m->set[i].revents = 0;
}

static int wait_ms(const struct monitor *m)
{
	uint64_t next = 0, now = sys_now_mono();

	for (int i = 0; i < T_N; i++)
		if (m->due[i] && (!next || m->due[i] < next))
			next = m->due[i];
	if (!next)
		return -1;
	return next <= now ? 0 : (int)((next - now + MS - 1) / MS);
}

static void timers(struct monitor *m)
{
	uint64_t now = sys_now_mono();

	if (m->due[T_TICK] && m->due[T_TICK] <= now) {
		m->due[T_TICK] = 0;
		m->notes = m->con.spent = 0;
		m->con.paused = false;
	}
	if (m->due[T_STATUS] && m->due[T_STATUS] <= now)
		status_changed(m);
	if (m->due[T_OOM] && m->due[T_OOM] <= now) {
		m->due[T_OOM] = 0;
		oom_count(m);
	}
	if (m->due[T_OOM_LOOK] && m->due[T_OOM_LOOK] <= now)
		m->due[T_OOM_LOOK] = 0;
	if (m->due[T_HOLD] && m->due[T_HOLD] <= now)
		open_gate(m);
	if (m->due[T_KEEPER] && m->due[T_KEEPER] <= now)
		keeper_hand_over(m);
	end_timers(m, now);
}

static void events(struct monitor *m)
{
	struct pollfd *s = m->set;

	/* Bytes before the end, clients before new ones (an fd number may come again). */
	console_event(m);
	clients_event(m);
	if (s[P_CTL].revents)
		client_accept(m);
	if (s[P_NOTIFY].revents && m->a.notify >= 0)
		notify_event(m);
	if (s[P_OOM].revents && m->a.oom >= 0)
		oom_event(m);
	if (s[P_KEEPER].revents && m->keeper >= 0) {
		close_fd(&m->keeper); /* it never speaks first: it died */
		keeper_hand_over(m);
	}
	if (s[P_LXCFS].revents && m->lxcfs >= 0)
		lxcfs_died(m);
	if (s[P_HELPER].revents && m->helper >= 0)
		helper_event(m);
	if (s[P_INIT].revents && m->a.pidfd >= 0)
		init_event(m);
}

static void loop(struct monitor *m)
{
	while (!m->over) {
		fill_set(m);
		if (poll(m->set, P_CLIENTS + MAX_CLIENTS, wait_ms(m)) > 0)
			events(m);
		timers(m);
		end_step(m);
	}
}

/* Names go while the lock is held, so that a start which finds no monitor finds no traces either. The
 * directory stays: it is the caller's, unless the VPS was deleted (run --rm) and nobody is left to do it. */
static void finish(struct monitor *m)
{
	struct stat st;
	char id[12];

	if (m->keeper >= 0)
		keeper_drop(m->keeper, m->a.id);
	unlinkat(m->a.run_dir, MONITOR_CTL_FILE, 0);
	unlinkat(m->a.run_dir, MONITOR_STATUS_FILE, 0);
	unlinkat(m->a.run_dir, MONITOR_LOCK_FILE, 0);
	snprintf(id, sizeof(id), "%u", m->a.id);
	if (fstat(m->a.instance_dir, &st) == 0 && st.st_nlink == 0)
		unlinkat(m->run_fd, id, AT_REMOVEDIR);
	close_fd(&m->lock);
	clients_last_words(m);
	clients_close(m);
}

int main(int argc, char **argv)
{
	struct monitor *m = &the_monitor;
	struct vps_err err = {0};

	leave_session();
	if (argc == 4 && str_eq(argv[0], "vps-keeper"))
		return keeper_main(atoi(argv[2]), atoi(argv[3]));
	m->lock = m->ctl = m->keeper = m->lxcfs = m->helper = m->told = -1;
	clients_init(m);
	if (argc < 1 || monitor_args_parse(argv + 1, &m->a) < 0)
		return 2;
	close_on_exec(&m->a);
	if (setup(m, &err) < 0) {
		report(m, &err);
		return 1; /* the gate shuts: init gives up */
	}
	if (m->a.hold_for_attach)
		timer_in(m, T_HOLD, HOLD_MS);
	else
		open_gate(m);
	report(m, &err);
	loop(m);
	finish(m);
	return 0;
}
