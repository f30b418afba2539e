// SPDX-License-Identifier: GPL-2.0-or-later
/* The short verbs: kill, pause, restart, rename; and what all verbs share. */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/sys.h"
#include "runtime/events.h"
#include "runtime/internal.h"
#include "runtime/migrate/suspend.h"
#include "runtime/monitor.h"

#define FREEZE_TIMEOUT_MS 10000

const struct vps_driver *driver_of(const struct vps_spec *s)
{
	/* One row a wall. */
	static const struct vps_driver *const drivers[] = {
		[ISOLATION_CONTAINER] = &container_driver,
		[ISOLATION_VM] = &microvm_driver,
	};

	return drivers[s->isolation];
}

unsigned online_cpus(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	return n > 0 ? (unsigned)n : 1;
}

int need_running(struct vps_locked *l, struct run_state *ret, struct vps_err *err)
{
	return run_init(l->h, l->id, l->spec.name, ret, err);
}

int need_stopped(struct vps_locked *l, const char *done, struct vps_err *err)
{
	autoclose int run_dir = store_run_dir(l->h, l->id);
	struct monitor_status m;
	struct run_state s;

	if (suspended_is(l))
		return vps_err_set(err, VPS_ESTATE,
				   "'%s' is suspended; resume it, or forget its memory (vps stop --kill), to have it %s",
				   l->spec.name, done);
	if (run_dir < 0)
		return 0;
	if (run_state_read(run_dir, &s) != -ENOENT)
		return vps_err_set(err, VPS_ESTATE, "'%s' is running; it must be stopped to be %s",
				   l->spec.name, done);
	if (monitor_status_read(run_dir, &m) == 0 && m.phase == MONITOR_BACKOFF)
		return vps_err_set(err, VPS_ESTATE,
				   "'%s' is about to be restarted; stop it first to have it %s",
				   l->spec.name, done);
	return 0;
}

/* Without the lock: a signal changes nothing that a lock protects, and must get through while a
 * slow stop holds it. */
int vps_kill(struct vps_host *h, const char *who, int sig, struct vps_err *err)
{
	auto_done(spec_done) struct vps_spec spec;
	autoclose int pidfd = -1;
	struct run_state s;
	unsigned id;
	int r = store_find(h, who, &id, err);

	spec_init(&spec);
	if (sig < 1 || sig > SIGRTMAX)
		return vps_err_set(err, VPS_EUSAGE, "%d is not a signal", sig);
	r = r ?: run_init(h, id, who, &s, err);
	r = r ?: store_read_spec_of(h, id, &spec, err);
	if (r < 0)
		return r;
	if (driver_of(&spec)->signal) {
		autoclose int run_dir = store_run_dir(h, id);
		const struct vps_live live = {.spec = &spec,
					      .conf = &h->conf,
					      .instance_dir = -1,
					      .run_dir = run_dir,
					      .init = &s.init,
					      .paused = s.phase == RUN_PAUSED};

		return driver_of(&spec)->signal(&live, sig, err);
	}
	pidfd = proc_ident_open(&s.init);
	if (pidfd == -ESRCH)
		return vps_err_set(err, VPS_ESTATE, "'%s' is not running", who);
	r = pidfd < 0 ? pidfd : sys_pidfd_send_signal(pidfd, sig);
	return r < 0 ? vps_err_sys(err, r, "signal to '%s'", who) : 0;
}

static int open_cg(struct vps_locked *l, struct cg **ret, struct vps_err *err)
{
	struct cg_host *ch;
	char name[ID_STR];
	int r = host_cgroups(l->h, &ch, err);

	if (r < 0)
		return r;
	r = cg_open(ch, id_str(l->id, name), ret, err);
	return r < 0 ? vps_err_wrap(err, r, "cgroup of '%s'", l->spec.name) : 0;
}

int vps_freeze(struct vps_locked *l, const struct run_state *s, bool frozen, int timeout_ms,
	       struct vps_err *err)
{
	const struct vps_driver *d = driver_of(&l->spec);
	auto_done(cg_closep) struct cg *cg = NULL;
	autoclose int run_dir = store_run_dir(l->h, l->id);
	const struct vps_live live = {
		.spec = &l->spec, .instance_dir = l->dir, .run_dir = run_dir, .init = &s->init};

	if (d->pause)
		return d->pause(&live, frozen, err);
	int r = open_cg(l, &cg, err);
	return r ?: cg_freeze(cg, frozen, timeout_ms, err);
}

/* The state says paused before the first process stops and until after the last one goes on: a kill
 * in between leaves a VPS that unpause brings back. */
static int pause_locked(struct vps_locked *l, struct run_state *s, bool paused, struct vps_err *err)
{
	autoclose int run_dir = store_run_dir(l->h, l->id);
	int r = 0;

	if (paused) {
		s->phase = RUN_PAUSED;
		r = run_state_write(run_dir, s, err);
	}
	if (r < 0)
		return r;
	r = vps_freeze(l, s, paused, FREEZE_TIMEOUT_MS, err);
	if (r == 0 && paused)
		return 0;
	/* thawed, or (vps_freeze saw to it) not frozen after all */
	if (r == 0 || paused) {
		s->phase = RUN_RUNNING;
		int w = run_state_write(run_dir, s, err);
		r = r ?: w;
	}
	return r;
}

int vps_pause(struct vps_host *h, const char *who, bool paused, struct vps_err *err)
{
	auto_locked l = VPS_LOCKED_INIT;
	struct run_state s;
	int r = vps_lock(h, who, paused ? "pause" : "unpause", &l, err);

	r = r ?: need_running(&l, &s, err);
	if (r < 0)
		return r;
	if (!paused && s.phase != RUN_PAUSED)
		return vps_err_set(err, VPS_ESTATE, "'%s' is not paused", l.spec.name);
	if (paused && s.phase == RUN_PAUSED)
		return vps_err_set(err, VPS_ESTATE, "'%s' is paused already", l.spec.name);
	r = pause_locked(&l, &s, paused, err);
	if (r < 0)
		return vps_err_wrap(err, r, "%s %s", paused ? "pause" : "unpause", l.spec.name);
	event_add(h->run_fd, l.id, l.spec.name, paused ? "pause" : "unpause", NULL, 0);
	return 0;
}

int vps_restart(struct vps_host *h, const char *who, const struct vps_stop_opts *o,
		const struct vps_start_opts *so, struct vps_err *err)
{
	auto_locked l = VPS_LOCKED_INIT;
	struct run_state s;
	int r = vps_lock(h, who, "restart", &l, err);

	if (r < 0)
		return r;
	/* One lock for both halves: nobody sees it stopped in between and takes it away. */
	if (need_running(&l, &s, NULL) == 0)
		r = stop_locked(&l, o, err);
	r = r ?: start_locked(&l, so, NULL, err);
	return r < 0 ? vps_err_wrap(err, r, "restart %s", l.spec.name) : start_wait(&l, so, err);
}

/* ---- rename ----------------------------------------------------------------------- */

/*
 * A note of both names, the new one is claimed, spec.json says it (the commit point), the old one
 * is let go, the note goes. After a kill the note tells the next one who locks the VPS which claim
 * is too many.
 */
#define RENAME_NOTE "renaming"

int rename_finish(struct vps_locked *l, struct vps_err *err)
{
	char buf[2 * SPEC_NAME_MAX + 8], *name;
	ssize_t n = fs_read_buf(l->dir, RENAME_NOTE, buf, sizeof(buf));
	char *rest = buf;

	if (n == -ENOENT)
		return 0;
	while (n > 0 && (name = strsep(&rest, " ")))
		if (!str_eq(name, l->spec.name) && spec_name_check(name, NULL) == 0)
			release_name(l->h, l->id, name);
	if (unlinkat(l->dir, RENAME_NOTE, 0) < 0)
		return vps_err_sys(err, -errno, "rename");
	return 0;
}

static int rename_locked(struct vps_locked *l, const char *name, struct vps_err *err)
{
	autofree char *note = str_fmt("%s %s", l->spec.name, name);
	auto_done(spec_done) struct vps_spec s;
	int r;

	spec_init(&s);
	r = note ? fs_write_atomic(l->dir, RENAME_NOTE, note, strlen(note), 0600) : -ENOMEM;
	r = r ?: spec_copy(&s, &l->spec);
	r = r ?: str_set(&s.name, name);
	if (r < 0)
		return vps_err_sys(err, r, "rename");
	r = claim_name(l->h, l->id, name, err);
	r = r ?: store_write_spec(l->dir, &s, err);
	if (r == 0)
		str_set(&l->spec.name, name);
	if (r != -VPS_EEXISTS)
		rename_finish(l, NULL);
	else
		unlinkat(l->dir, RENAME_NOTE, 0);
	return r;
}

int vps_rename(struct vps_host *h, const char *who, const char *name, struct vps_err *err)
{
	auto_locked l = VPS_LOCKED_INIT;
	autofree char *old = NULL;
	int r = spec_name_check(name, err);

	r = r ?: vps_lock(h, who, "rename", &l, err);
	if (r < 0)
		return r;
	if (str_eq(l.spec.name, name))
		return 0;
	old = strdup(l.spec.name);
	r = old ? rename_locked(&l, name, err) : -ENOMEM;
	if (r < 0)
		return vps_err_wrap(err, r, "rename %s", l.spec.name);
	event_add(h->run_fd, l.id, name, "rename", &(struct event_field){.key = "was", .str = old},
		  1);
	return 0;
}
