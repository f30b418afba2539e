// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A running VPS kept still for the last part of a copy, and never longer.
 *
 *   loop disk            its file system is frozen (FIFREEZE, ioctl_fifreeze): clean on disk, reads go on
 *   dir, quota           its processes are (cgroup.freeze): the file system is the host's
 *   btrfs                nothing: a snapshot of a subvolume is of one instant
 *   machine              the guest's agent freezes its own file system; a guest without an answering agent has its CPUs
 *                        stopped (vmm/api.h, pause): a copy as after a power cut, which its journal is for
 *
 * Who lets it go on, whatever happens: freezing and thawing are done by a guard, a child in a session of its own. It thaws at our
 * word, at our death (its line breaks), and after GUARD_MS, which makes the copy fail. If both are killed, the note
 * <run>/<id>/frozen is there still and the VPS's lock is free: its monitor sees the connection end that both had, and has
 * the lock taken (`vps _thaw`); whoever takes it thaws (still_finish), without a monitor at the latest the
 * hourly `host gc`. A guest's agent thaws when the connection ends.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/fs.h"
#include "base/sys.h"
#include "runtime/ctl.h"
#include "runtime/guest/agent.h"
#include "runtime/microvm/microvm.h"
#include "runtime/migrate/migrate.h"

#define NOTE	  "frozen"
#define GUARD_MS  60000
#define FREEZE_MS 10000
#define AGENT_MS  5000
#define CTL_MS	  2000

/* ---- the two ways of the host ------------------------------------------------------------ */

static int open_fs(struct vps_locked *l, int *ret, struct vps_err *err)
{
	autoclose int mount = -1;
	struct img_disk_spec d;
	int r;

	plan_disk(&l->spec, &d);
	r = img_disk_attach(l->dir, d.backend, false, &mount, err);
	if (r < 0)
		return r;
	*ret = openat(mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *ret < 0 ? vps_err_sys(err, -errno, "open the disk") : 0;
}

static int freeze(struct still *s, struct vps_err *err)
{
	if (s->how == STILL_GROUP)
		return vps_freeze(s->l, &s->state, true, FREEZE_MS, err);
	if (ioctl(s->root, FIFREEZE, 0) == 0)
		return 0;
	return errno == EBUSY ? vps_err_set(err, VPS_ESTATE, "its file system is frozen already, by somebody else")
			      : vps_err_sys(err, -errno, "freeze the file system");
}

static int thaw(struct still *s, struct vps_err *err)
{
	if (s->how == STILL_GROUP)
		return vps_freeze(s->l, &s->state, false, FREEZE_MS, err);
	return ioctl(s->root, FITHAW, 0) < 0 ? vps_err_sys(err, -errno, "thaw the file system") : 0;
}

/* ---- the guard ------------------------------------------------------------------------------ */

static void __attribute__((noreturn)) guard(struct still *s, int line)
{
	static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE};
	struct pollfd p = {.fd = line, .events = POLLIN};
	struct vps_err err = {0};
	bool in_time;
	int r;

	setsid();
	for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
		signal(ignored[i], SIG_IGN);
	r = freeze(s, &err);
	(void)!send(line, &err, sizeof(err), MSG_NOSIGNAL);
	if (r < 0)
		_exit(0);
	do
		r = poll(&p, 1, GUARD_MS);
	while (r < 0 && errno == EINTR);
	in_time = r > 0;
	/* Read, or our end would reset the line, and the last word on it would be lost. */
	(void)!recv(line, &(char){0}, 1, MSG_DONTWAIT);
	thaw(s, &err);
	if (!in_time && !err.code)
		vps_err_set(&err, VPS_ETIMEDOUT, "the last part of the copy takes longer than %d s with the VPS still; "
			    "stop it for that, or put the state directory on XFS or btrfs, whose copies are instant",
			    GUARD_MS / 1000);
	(void)!send(line, &err, sizeof(err), MSG_NOSIGNAL);
	_exit(0);
}

/* Its next word; -ECHILD: it is gone without. */
static int hear(struct still *s, struct vps_err *err)
{
	struct vps_err said = {0};
	ssize_t n;

	do
		n = recv(s->line, &said, sizeof(said), 0);
	while (n < 0 && errno == EINTR);
	if (n != sizeof(said))
		return -ECHILD;
	said.msg[sizeof(said.msg) - 1] = '\0';
	return said.code ? vps_err_set(err, said.code, "%s", said.msg) : 0;
}

static void end_guard(struct still *s)
{
	close_fd(&s->line);
	while (s->guard > 0 && waitpid(s->guard, NULL, 0) < 0 && errno == EINTR)
		;
	s->guard = -1;
}

static int start_guard(struct still *s, struct vps_err *err)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return vps_err_sys(err, -errno, "socketpair");
	s->guard = fork();
	if (s->guard == 0) {
		close(pair[0]);
		guard(s, pair[1]); /* with the VPS's lock: nobody has it before all goes on */
	}
	close(pair[1]);
	s->line = pair[0];
	return s->guard < 0 ? vps_err_sys(err, -errno, "fork") : 0;
}

static int begin(void *arg, struct vps_err *err)
{
	struct still *s = arg;
	int r;

	/* What is dirty is written before, not while everybody waits. */
	if (s->how == STILL_FS && syncfs(s->root) < 0)
		return vps_err_sys(err, -errno, "write the disk");
	r = fs_write_rename(s->run_dir, NOTE, "", 0, 0600);
	if (r < 0)
		return vps_err_sys(err, r, "note that it is frozen");
	/* One that is older than this, or none: it goes without. */
	s->ctl = ctl_connect(s->run_dir);
	if (s->ctl >= 0)
		(void)ctl_ask(s->ctl, CTL_STILL, NULL, 0, CTL_MS, NULL);
	s->since = sys_now_mono();
	r = start_guard(s, err);
	r = r ?: hear(s, err);
	if (r == 0)
		return 0;
	end_guard(s);
	if (r == -ECHILD)
		(void)thaw(s, NULL);
	unlinkat(s->run_dir, NOTE, 0);
	close_fd(&s->ctl);
	return vps_err_sys(err, r, "freeze");
}

static int end(void *arg, struct vps_err *err)
{
	struct still *s = arg;
	int r;

	(void)!send(s->line, "", 1, MSG_NOSIGNAL);
	r = hear(s, err);
	end_guard(s);
	if (r == -ECHILD) { /* it was killed: was all still to the end? */
		r = thaw(s, err);
		r = r < 0 ? r : vps_err_set(err, ECHILD, "the process that kept it still was killed");
	}
	s->frozen_us = (sys_now_mono() - s->since) / 1000;
	unlinkat(s->run_dir, NOTE, 0);
	close_fd(&s->ctl);
	return r;
}

/* ---- a machine's agent -------------------------------------------------------------------------- */

static int guest_begin(void *arg, struct vps_err *err)
{
	struct still *s = arg;

	s->since = sys_now_mono();
	return agent_call(s->agent, AGENT_FREEZE, NULL, 0, FREEZE_MS, NULL, err);
}

static int guest_end(void *arg, struct vps_err *err)
{
	struct still *s = arg;
	int r = agent_call(s->agent, AGENT_THAW, NULL, 0, FREEZE_MS, NULL, err);

	s->frozen_us = (sys_now_mono() - s->since) / 1000;
	return r;
}

/* Without the lock of whoever else talks to it. */
static bool open_agent(struct still *s)
{
	struct vps_locked *l = s->l;
	const struct vps_live live = {.spec = &l->spec, .conf = &l->h->conf, .instance_dir = l->dir,
				      .run_dir = s->run_dir, .init = &s->state.init};

	s->agent = vm_agent(&live, AGENT_MS, NULL);
	return s->agent >= 0;
}

/* ---- which ------------------------------------------------------------------------------------------ */

static int choose(struct still *s, struct vps_err *err)
{
	struct img_disk_spec d;

	plan_disk(&s->l->spec, &d);
	if (d.backend == DISK_BTRFS)
		return STILL_NONE;
	if (s->l->spec.isolation == ISOLATION_VM)
		return s->state.phase != RUN_PAUSED && open_agent(s) ? STILL_GUEST
		       : s->state.phase == RUN_PAUSED		     ? STILL_NONE
								     : STILL_GROUP;
	if (d.backend == DISK_LOOP) {
		int r = open_fs(s->l, &s->root, err);
		return r < 0 ? r : STILL_FS;
	}
	return s->state.phase == RUN_PAUSED ? STILL_NONE : STILL_GROUP;
}

int still_open(struct vps_locked *l, struct still *ret, struct vps_err *err)
{
	struct still *s = ret;
	int r;

	*s = (struct still)STILL_INIT;
	s->l = l;
	if (need_running(l, &s->state, NULL) < 0)
		return 0;
	s->run_dir = store_run_dir(l->h, l->id);
	r = s->run_dir < 0 ? vps_err_sys(err, s->run_dir, "run directory") : choose(s, err);
	if (r < 0)
		return r;
	s->how = (unsigned)r;
	s->cb = s->how == STILL_GUEST ? (struct img_still){guest_begin, guest_end, s}
				      : (struct img_still){begin, end, s};
	return 0;
}

void still_done(struct still *s)
{
	close_fd(&s->root);
	close_fd(&s->run_dir);
	close_fd(&s->agent);
	close_fd(&s->ctl);
}

const char *still_name(const struct still *s)
{
	if (s->run_dir < 0)
		return "stopped";
	switch (s->how) {
	case STILL_FS:
		return "frozen file system";
	case STILL_GUEST:
		return "file system frozen by the guest";
	case STILL_GROUP:
		return s->l->spec.isolation == ISOLATION_VM ? "stopped CPUs" : "frozen processes";
	default:
		return s->state.phase == RUN_PAUSED ? "paused" : "one instant";
	}
}

/* ---- after kills ---------------------------------------------------------------------------------------- */

bool still_is_left(int run_dir)
{
	return run_dir >= 0 && fs_exists(run_dir, NOTE);
}

int still_finish(struct vps_locked *l, struct vps_err *err)
{
	autoclose int run_dir = store_run_dir(l->h, l->id);
	auto_done(still_done) struct still s = STILL_INIT;
	struct img_disk_spec d;
	struct run_state state;
	int r = 0;

	if (!still_is_left(run_dir))
		return 0;
	plan_disk(&l->spec, &d);
	if (d.backend == DISK_LOOP && l->spec.isolation == ISOLATION_CONTAINER && !img_disk_is_guests(l->dir)) {
		r = open_fs(l, &s.root, err);
		if (r == 0 && ioctl(s.root, FITHAW, 0) < 0 && errno != EINVAL)
			r = vps_err_sys(err, -errno, "thaw the file system of '%s'", l->spec.name);
	} else if (need_running(l, &state, NULL) == 0 && state.phase != RUN_PAUSED) {
		struct vps_err why = {0};

		r = vps_freeze(l, &state, false, FREEZE_MS, &why);
		if (r == -VPS_ESTATE) /* a machine that goes on already */
			r = 0;
		if (r < 0)
			vps_err_set(err, why.code, "%s", why.msg);
	}
	if (r == 0)
		unlinkat(run_dir, NOTE, 0);
	return r;
}

int vps_thaw_by_monitor(struct vps_host *h, unsigned id, struct vps_err *err)
{
	auto_locked l = VPS_LOCKED_INIT;
	char who[ID_STR];
	int r;

	h->lock_timeout_ms = 120000;
	r = vps_lock(h, id_str(id, who), "_thaw", &l, err); /* that is all */
	return r == -VPS_ENOVPS ? 0 : r;
}
