/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From a running VPS to a directory, with everything that must stand still meanwhile; and what a kill leaves of it. */
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/lock.h"
#include "base/sys.h"
#include "runtime/container/criu.h"
#include "runtime/migrate/checkpoint.h"
#include "runtime/migrate/record.h"
#include "runtime/migrate/suspend.h"

#define UNDO_MS 90000 /* of a criu that has lost its command */
#define THAW_MS 10000

/* ---- take and leave ---------------------------------------------------------------- */

static void taking_done(struct checkpoint_taking *t)
{
	t->cg = cg_close(t->cg);
	net_plan_done(&t->net);
	close_fd(&t->run_dir);
}

static int set_phase(struct checkpoint_taking *t, struct run_state *s, enum run_phase phase, struct vps_err *err)
{
	s->phase = phase;
	return run_state_write(t->run_dir, s, err);
}

static int hold(struct vps_locked *l, const struct net_plan *p, bool on, struct vps_err *err)
{
	struct net_host *net;
	int r = host_net(l->h, &net, err);

	return r ?: net_hold(net, l->id, p, on, err);
}

static int open_parts(struct vps_locked *l, struct checkpoint_taking *t, struct vps_err *err)
{
	struct cg_host *ch;
	char name[ID_STR];
	int r = host_cgroups(l->h, &ch, err);

	r = r ?: cg_open(ch, id_str(l->id, name), &t->cg, err);
	r = r ?: plan_net(&l->spec, &t->net, err);
	t->run_dir = store_run_dir(l->h, l->id);
	return r;
}

/* It is running, and its run state says that something is at it. */
static int begin(struct vps_locked *l, struct vps_hold *held, struct checkpoint_taking *t, struct run_state *s,
		 struct vps_err *err)
{
	int r = need_running(l, s, err);

	*t = (struct checkpoint_taking){.hold = VPS_HOLD_INIT, .run_dir = -1};
	if (r < 0)
		return r;
	if (s->phase == RUN_PAUSED)
		return vps_err_set(err, VPS_ESTATE, "'%s' is paused: unpause it first", l->spec.name);
	r = open_parts(l, t, err);
	t->init = s->init;
	t->ran = s->started ? (uint64_t)time(NULL) - s->started : 0;
	t->live = (struct vps_live){.spec = &l->spec, .conf = &l->h->conf, .instance_dir = l->dir,
				    .run_dir = t->run_dir, .cg = t->cg, .init = &t->init, .hold = &t->hold};
	r = r ?: set_phase(t, s, RUN_CHECKPOINT, err);
	if (r < 0) {
		taking_done(t);
	} else if (held) {
		t->hold = *held;
		*held = VPS_HOLD_INIT;
	}
	return r;
}

int checkpoint_take(struct vps_locked *l, int dir, unsigned rounds, struct vps_hold *held, struct checkpoint_taking *t,
		    struct vps_err *err)
{
	const struct vps_driver *driver = driver_of(&l->spec);
	struct run_state s;
	int r;

	if (!driver->checkpoint)
		return vps_err_set(err, VPS_EUNSUPPORTED, "a running %s cannot be written down", driver->name);
	r = begin(l, held, t, &s, err);
	if (r < 0)
		return r;
	r = hold(l, &t->net, true, err);
	r = r ?: driver->checkpoint(&t->live, dir, rounds, err);
	if (r == 0)
		return 0;
	hold(l, &t->net, false, NULL);
	set_phase(t, &s, RUN_RUNNING, NULL);
	taking_done(t);
	return r;
}

struct round {
	struct checkpoint_taking t;
	struct run_state s;
	void (*unlock)(void *arg);
	void *arg;
	bool unlocked;
};

static void runs_again(void *arg)
{
	struct round *x = arg;

	/* else it stays locked to the end, where that is an error */
	if (set_phase(&x->t, &x->s, RUN_RUNNING, NULL) < 0)
		return;
	x->unlocked = true;
	x->unlock(x->arg);
}

int checkpoint_precopy(struct vps_locked *l, int dir, unsigned round, struct vps_hold *held, void (*unlock)(void *arg),
		       void *arg, struct precopy_stats *ret, struct vps_err *err)
{
	const struct vps_driver *driver = driver_of(&l->spec);
	struct round x = {.unlock = unlock, .arg = arg};
	int r, w = 0;

	if (!driver->precopy)
		return vps_err_set(err, VPS_EUNSUPPORTED, "of a running %s nobody tells what changes", driver->name);
	r = begin(l, held, &x.t, &x.s, err);
	if (r < 0)
		return r;
	x.t.live.running = runs_again;
	x.t.live.running_arg = &x;
	r = driver->precopy(&x.t.live, dir, round, ret, err);
	*held = x.t.hold;
	if (!x.unlocked)
		w = set_phase(&x.t, &x.s, RUN_RUNNING, r < 0 ? NULL : err);
	taking_done(&x.t);
	return r ?: w;
}

void checkpoint_forget(struct vps_locked *l, struct vps_hold *held)
{
	const struct vps_driver *driver = driver_of(&l->spec);
	struct checkpoint_taking t = {.hold = held ? *held : VPS_HOLD_INIT, .run_dir = -1};
	struct run_state s;

	if (!driver->precopy_end || need_running(l, &s, NULL) < 0)
		return;
	if (open_parts(l, &t, NULL) == 0) {
		t.live = (struct vps_live){.spec = &l->spec, .conf = &l->h->conf, .instance_dir = l->dir,
					   .run_dir = t.run_dir, .cg = t.cg, .init = &s.init, .hold = &t.hold};
		driver->precopy_end(&t.live);
	}
	if (held)
		*held = t.hold;
	taking_done(&t);
}

/* A criu that was killed itself leaves TCP sockets in repair mode, tcp(7): they would be silent for ever. */
static void repair_off(int pidfd, pid_t pid)
{
	char path[40];
	auto_strv fds = NULL;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	if (fs_list(AT_FDCWD, path, &fds) < 0)
		return;
	for (char **f = fds; f && *f; f++) {
		int on = 0, off = 0;
		socklen_t len = sizeof(on);
		autoclose int fd = sys_pidfd_getfd(pidfd, atoi(*f));

		if (fd >= 0 && getsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, &len) == 0 && on)
			setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &off, sizeof(off));
	}
}

static void repair_all(struct cg *cg)
{
	autofree pid_t *pids = NULL;
	size_t n = 0;

	if (cg_pids(cg, &pids, &n) < 0)
		return;
	for (size_t i = 0; i < n; i++) {
		autoclose int pidfd = sys_pidfd_open(pids[i], 0);
		if (pidfd >= 0)
			repair_off(pidfd, pids[i]);
	}
}

static int end_held(void *arg, struct vps_err *err)
{
	struct checkpoint_taking *t = arg;

	return driver_of(t->live.spec)->checkpoint_end(&t->live, false, err);
}

int checkpoint_leave(struct vps_locked *l, struct checkpoint_taking *t, bool go_on, struct vps_err *err)
{
	struct run_state s;
	int r = run_state_read(t->run_dir, &s);

	if (r < 0)
		vps_err_sys(err, r, "run state");
	else if (go_on)
		r = driver_of(&l->spec)->checkpoint_end(&t->live, true, err);
	if (r == 0 && go_on)
		repair_all(t->cg); /* when criu was killed meanwhile */
	if (r == 0 && !go_on)
		r = stop_killing(l, &s, end_held, t, err);
	/* What its end has sent is dropped: the other side of a connection shall not hear of it. */
	int h = hold(l, &t->net, false, r < 0 ? NULL : err);
	r = r ?: h;
	if (go_on && r == 0)
		r = set_phase(t, &s, RUN_RUNNING, err);
	taking_done(t);
	return r;
}

/* ---- after a kill ------------------------------------------------------------------------ */

/* criu has read end-of-file instead of an answer, or will, and undoes what it did. */
static void wait_undone(int run_dir, struct cg *cg)
{
	uint64_t end = sys_now_mono() + UNDO_MS * 1000000ull;
	autoclose int lock = lock_take(run_dir, CHECKPOINT_LOCK, true, UNDO_MS);

	while (sys_now_mono() < end && criu_is_at(cg))
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
}

static int end_frozen(void *arg, struct vps_err *err)
{
	return cg_kill(arg, THAW_MS, err);
}

int checkpoint_recover(struct vps_locked *l, struct run_state *s, bool *ret_living, struct vps_err *err)
{
	struct checkpoint_taking t = {.hold = VPS_HOLD_INIT, .run_dir = -1};
	int r = open_parts(l, &t, err);

	*ret_living = true;
	if (r == 0) {
		wait_undone(t.run_dir, t.cg);
		if (suspended_is(l) || ho_is_elsewhere(l)) { /* the point of no return was passed */
			r = stop_killing(l, s, end_frozen, t.cg, err);
			*ret_living = false;
		} else {
			repair_all(t.cg);
			r = vps_freeze(l, s, false, THAW_MS, err);
			r = r ?: set_phase(&t, s, RUN_RUNNING, err);
		}
		int h = hold(l, &t.net, false, r < 0 ? NULL : err);
		r = r ?: h;
	}
	taking_done(&t);
	return r < 0 ? vps_err_wrap(err, r, "an interrupted checkpoint") : 0;
}
