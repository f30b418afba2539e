// SPDX-License-Identifier: GPL-2.0-or-later
/* stop, and the ends that a monitor asks for. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/sys.h"
#include "runtime/ctl.h"
#include "runtime/events.h"
#include "runtime/internal.h"
#include "runtime/migrate/suspend.h"
#include "runtime/monitor.h"

#define THAW_MS 5000
#define ASK_STEP_MS 20
#define KILL_MS 20000 /* SIGKILL works at once unless the kernel itself hangs */

/* Files of a monitor that is gone. Only with the lock held: who starts makes the directory under
 * it. */
static void drop_run_dir(struct vps_locked *l)
{
	autoclose int run_dir = store_run_dir(l->h, l->id);
	char name[ID_STR];

	if (run_dir >= 0 && monitor_alive(run_dir) == 0)
		fs_remove_tree(l->h->run_fd, id_str(l->id, name));
}

int cancel_backoff(struct vps_locked *l)
{
	autoclose int run_dir = store_run_dir(l->h, l->id);
	struct monitor_status st;
	int was;

	if (run_dir < 0)
		return 0;
	was = monitor_status_read(run_dir, &st) == 0 && st.phase == MONITOR_BACKOFF;
	if (monitor_alive(run_dir) == 1) {
		int fd = ctl_stop_begin(run_dir, NULL);
		if (fd >= 0)
			ctl_stop_end(fd);
	}
	/* When nobody listens it is `vps _restart` already: that one looks for the status file once
	 * it has the lock, which is ours now. */
	unlinkat(run_dir, "monitor", 0);
	drop_run_dir(l);
	return was;
}

static int kill_all(struct vps_locked *l, struct vps_err *err)
{
	auto_done(cg_closep) struct cg *cg = NULL;
	struct cg_host *ch;
	char name[ID_STR];
	int r = host_cgroups(l->h, &ch, err);

	r = r ?: cg_open(ch, id_str(l->id, name), &cg, err);
	return r ?: cg_kill(cg, KILL_MS, err);
}

/* Until it polls readable or the time is over: 1, 0. */
static int wait_pidfd(int pidfd, uint64_t end)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	int r;

	do {
		uint64_t now = sys_now_mono();

		r = poll(&p, 1, now < end ? (int)((end - now + 999999) / 1000000) : 0);
	} while (r < 0 && errno == EINTR);
	return r > 0;
}

/* 1 when init ended in time, 0 when not. ctl: the monitor's connection, or -1. */
static int wait_end(int ctl, int pidfd, uint64_t end)
{
	int code;

	if (!wait_pidfd(pidfd, end))
		return 0;
	/* the monitor drains the console and writes the record: that is part of the stop */
	if (ctl >= 0)
		ctl_stop_wait(ctl, KILL_MS, &code);
	return 1;
}

/* The definition's own, as it is now: `set` changes it live. */
static int signal_of(const struct vps_locked *l, const struct run_state *s)
{
	int sig = l->spec.stop_signal ? spec_signal_parse(l->spec.stop_signal) : 0;

	if (sig <= 0)
		sig = s->stop_signal > 0 ? s->stop_signal : SIGTERM;
	return sig;
}

/*
 * An init that has just begun has no handlers yet, and a signal without a handler is lost on it: it gets another one
 * when it has. The first is for those whose sigtimedwait(2) does not show.
 */
static int ask_init(struct vps_locked *l, const struct run_state *s, int pidfd, uint64_t end,
		    struct vps_err *err)
{
	uint64_t step = (uint64_t)ASK_STEP_MS * 1000000, now;
	int sig = signal_of(l, s), deaf = proc_takes_signal(s->init.pid, sig) == 0, r;

	r = sys_pidfd_send_signal(pidfd, sig);
	if (r < 0 && r != -ESRCH)
		return vps_err_sys(err, r, "stop signal");
	if (s->phase == RUN_PAUSED) /* it finds the signal the moment it goes on */
		return vps_freeze(l, s, false, THAW_MS, err);
	if (!deaf)
		return 0;
	while (proc_takes_signal(s->init.pid, sig) == 0 && (now = sys_now_mono()) < end)
		if (wait_pidfd(pidfd, now + step < end ? now + step : end))
			return 0;
	sys_pidfd_send_signal(pidfd, sig);
	return 0;
}

static int timeout_of(const struct vps_locked *l, const struct run_state *s,
		      const struct vps_stop_opts *o)
{
	if (o && o->kill)
		return 0;
	if (o && o->timeout_ms >= 0)
		return o->timeout_ms;
	if (l->spec.stop_timeout_ms != SPEC_UNSET)
		return (int)l->spec.stop_timeout_ms;
	return s->stop_timeout_ms ? (int)s->stop_timeout_ms : 10000;
}

static int end_init(struct vps_locked *l, const struct run_state *s, const struct vps_stop_opts *o,
		    int ctl, int pidfd, struct vps_err *err)
{
	bool kill = o && o->kill;
	uint64_t end = sys_now_mono() + (uint64_t)timeout_of(l, s, o) * 1000000;
	int r = kill ? 0 : ask_init(l, s, pidfd, end, err);

	if (r < 0)
		return r;
	if (!kill && wait_end(ctl, pidfd, end) == 1)
		return 0;
	r = kill_all(l, err);
	if (r < 0)
		return r;
	if (wait_end(ctl, pidfd, sys_now_mono() + (uint64_t)KILL_MS * 1000000) != 1)
		return vps_err_set(err, VPS_ETIMEDOUT, "init does not end, even killed");
	return 0;
}

struct ending {
	struct vps_locked *l;
	const struct run_state *s;
	const struct vps_stop_opts *o;
	int (*kill)(void *arg, struct vps_err *err);
	void *arg;
};

static int bring_end(const struct ending *e, int ctl, int pidfd, struct vps_err *err)
{
	int r;

	if (!e->kill)
		return end_init(e->l, e->s, e->o, ctl, pidfd, err);
	r = e->kill(e->arg, err);
	if (r == 0 && wait_end(ctl, pidfd, sys_now_mono() + (uint64_t)KILL_MS * 1000000) != 1)
		return vps_err_set(err, VPS_ETIMEDOUT, "init does not end, even killed");
	return r;
}

static int end_run(const struct ending *e, struct vps_err *err)
{
	struct vps_locked *l = e->l;
	autoclose int run_dir = store_run_dir(l->h, l->id);
	autoclose int pidfd = proc_ident_open(&e->s->init);
	int ctl = ctl_stop_begin(run_dir, NULL), r = 0;

	if (pidfd >= 0)
		r = bring_end(e, ctl, pidfd, err);
	if (r == 0 && ctl < 0) {
		struct monitor_args a;
		monitor_args_of(l, run_dir, e->s, &a);
		(void)monitor_lost(&a, NULL);
	}
	r = r ?: teardown(l->h, l->id, err);
	if (ctl >= 0 && r == 0)
		ctl_stop_end(ctl);
	else if (ctl >= 0)
		close(ctl); /* the monitor goes on alone */
	if (r < 0)
		return r;
	drop_run_dir(l);
	return 0;
}

int stop_killing(struct vps_locked *l, const struct run_state *s, int (*kill)(void *arg, struct vps_err *err),
		 void *arg, struct vps_err *err)
{
	const struct ending e = {.l = l, .s = s, .kill = kill, .arg = arg};

	return end_run(&e, err);
}

int stop_locked(struct vps_locked *l, const struct vps_stop_opts *o, struct vps_err *err)
{
	struct run_state s;
	const struct ending e = {.l = l, .s = &s, .o = o};
	int r = need_running(l, &s, err);

	r = r ?: end_run(&e, err);
	if (r == 0)
		event_add(l->h->run_fd, l->id, l->spec.name, "stop", NULL, 0);
	return r;
}

/* `stop --kill` gets through to a VPS whose polite stop waits, lock in hand. */
static void kill_past_lock(struct vps_host *h, const char *who)
{
	struct vps_locked l = VPS_LOCKED_INIT;
	struct monitor_status st;
	struct run_state s;
	autoclose int run_dir = -1;

	l.h = h;
	if (store_find(h, who, &l.id, NULL) < 0 || run_init(h, l.id, who, &s, NULL) < 0)
		return;
	run_dir = store_run_dir(h, l.id);
	if (run_dir >= 0 && monitor_status_read(run_dir, &st) == 0 && st.phase == MONITOR_STOPPING)
		kill_all(&l, NULL);
}

/* It has no memory in which to end itself. */
static int stop_suspended(struct vps_locked *l, bool kill, struct vps_err *err)
{
	int r;

	if (!kill)
		return vps_err_set(err, VPS_ESTATE,
				   "'%s' is suspended: resume it first, or forget its memory: vps stop --kill %s",
				   l->spec.name, l->spec.name);
	r = suspended_drop(l, err);
	if (r == 0)
		event_add(l->h->run_fd, l->id, l->spec.name, "stop", NULL, 0);
	return r;
}

int vps_stop(struct vps_host *h, const char *who, const struct vps_stop_opts *o,
	     struct vps_err *err)
{
	auto_locked l = VPS_LOCKED_INIT;
	struct run_state s;
	bool killed = false;
	int r;

	if (o && o->kill) {
		kill_past_lock(h, who);
		killed = true;
	}
	r = vps_lock(h, who, "stop", &l, err);
	if (r < 0)
		return r;
	if (need_running(&l, &s, NULL) == 0)
		r = stop_locked(&l, o, err);
	else if (suspended_is(&l))
		r = stop_suspended(&l, killed, err);
	else if (cancel_backoff(&l) == 0 && !killed)
		return vps_err_set(err, VPS_ESTATE, "'%s' is not running", l.spec.name);
	if (r == 0 && l.spec.remove_on_exit)
		r = delete_locked(&l, err);
	return r < 0 ? vps_err_wrap(err, r, "stop %s", l.spec.name) : 0;
}

/* ---- the monitor's own calls ----------------------------------------------------- */

int vps_teardown_by_monitor(struct vps_host *h, unsigned id, struct vps_err *err)
{
	auto_locked l = VPS_LOCKED_INIT;
	char who[ID_STR];
	int r;

	/* Whoever holds the lock may be at a long wait, and then tears down himself. */
	h->lock_timeout_ms = 120000;
	r = vps_lock(h, id_str(id, who), "_teardown", &l, err); /* reconcile does it */
	if (r == -VPS_ENOVPS)
		return 0;
	if (r == 0 && l.spec.remove_on_exit && need_running(&l, &(struct run_state){0}, NULL) < 0)
		r = delete_locked(&l, err);
	return r;
}

int vps_restart_by_monitor(struct vps_host *h, unsigned id, struct vps_err *err)
{
	auto_locked l = VPS_LOCKED_INIT;
	struct start_more more = {0};
	struct monitor_status st;
	autoclose int run_dir = -1;
	char who[ID_STR];
	int r;

	h->lock_timeout_ms = 120000;
	r = vps_lock(h, id_str(id, who), "_restart", &l, err);
	if (r < 0)
		return r;
	run_dir = store_run_dir(h, id);
	/* An operator's stop or start in between took the status file away, or wrote another. */
	if (run_dir < 0 || monitor_status_read(run_dir, &st) < 0 || st.phase != MONITOR_BACKOFF)
		return 0;
	more.restarts = st.restarts;
	more.failures = st.failures;
	r = start_locked(&l, NULL, &more, err);
	return r < 0 ? vps_err_wrap(err, r, "restart %s", l.spec.name) : 0;
}
