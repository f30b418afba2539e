/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vps_wait: every change of a VPS is a rename or a removal in its run or instance directory, so inotify(7)
 * tells of all of them, and whether it is the one waited for is looked up anew each time. Only an init
 * that ends without a monitor changes no file: for that its pidfd is polled too.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/sys.h"
#include "runtime/internal.h"
#include "runtime/monitor.h"

#define CHANGES (IN_CREATE | IN_MOVED_TO | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF)
/* Where inotify cannot be had (max_user_instances is 128 a user), it is looked this often. */
#define LOOK_MS 200

struct waiter {
	struct vps_host *h;
	unsigned id;
	const char *who;
	char name[SPEC_NAME_MAX + 1]; /* for messages: who may be an id */
	enum vps_wait_for what;
	int inotify; /* or -1 */
	int pidfd;   /* of init, or -1 */
	pid_t init;
	bool gone;
	uint64_t deadline; /* 0: none */
};

/* What is not there yet is told by its parent's watch. Again is harmless. */
static void watch_path(const struct waiter *w, char *path)
{
	if (path)
		inotify_add_watch(w->inotify, path, CHANGES | IN_ONLYDIR | IN_DONT_FOLLOW);
	free(path);
}

static void watch(const struct waiter *w)
{
	const struct vps_conf *conf = &w->h->conf;

	if (w->inotify < 0)
		return;
	watch_path(w, strdup(conf->run));
	watch_path(w, str_fmt("%s/%u", conf->run, w->id));
	watch_path(w, str_fmt("%s/instances/%u", conf->root, w->id));
}

/* Keep a pidfd of the init that runs now. */
static void watch_init(struct waiter *w, pid_t init)
{
	autoclose int run_dir = -1;
	struct run_state s;

	if (init == w->init)
		return;
	close_fd(&w->pidfd);
	w->init = init;
	run_dir = init ? store_run_dir(w->h, w->id) : -1;
	if (run_dir >= 0 && run_state_read(run_dir, &s) == 0 && s.init.pid == init)
		w->pidfd = proc_ident_open(&s.init);
}

/* init has ended: its monitor sees to the rest, and where there is none, whoever takes the lock does. */
static void init_ended(struct waiter *w)
{
	autoclose int run_dir = store_run_dir(w->h, w->id);
	auto_locked l = VPS_LOCKED_INIT;
	char id[ID_STR];

	close_fd(&w->pidfd);
	if (run_dir >= 0 && monitor_alive(run_dir) == 0)
		vps_lock(w->h, id_str(w->id, id), "wait", &l, NULL);
}

/* 1: what was waited for is so. */
static int judge(struct waiter *w, const struct vps_info *i, struct vps_err *err)
{
	bool up = i->status == VPS_RUNNING || i->status == VPS_PAUSED;

	switch (w->what) {
	case VPS_WAIT_STOPPED:
		return vps_status_is_down(i->status);
	case VPS_WAIT_RUNNING:
		return up;
	case VPS_WAIT_READY:
		if (up && i->ready)
			return 1;
		if (!vps_status_is_down(i->status))
			return 0;
		return i->exit_code < 0 || !i->stopped
			       ? vps_err_set(err, VPS_ESTATE, "'%s' is not running", w->name)
			       : vps_err_set(err, VPS_ESTATE, "'%s' is not running: its init ended (%d)",
					     w->name, i->exit_code);
	case VPS_WAIT_DELETED:
		return 0;
	}
	return 0;
}

static int look(struct waiter *w, int *ret_exit, struct vps_err *err)
{
	auto_done(vps_info_done) struct vps_info i = {0};
	int r = info_of(w->h, w->id, &i, err);

	if (r == -ENOENT || r == -VPS_ENOVPS) {
		vps_err_clear(err);
		w->gone = true;
		if (w->what == VPS_WAIT_DELETED || w->what == VPS_WAIT_STOPPED)
			return 1;
		return vps_err_set(err, VPS_ENOVPS, "'%s' was deleted", w->name);
	}
	if (r < 0)
		return r;
	if (i.spec.name)
		snprintf(w->name, sizeof(w->name), "%s", i.spec.name);
	watch_init(w, i.init);
	if (ret_exit)
		*ret_exit = i.exit_code;
	return judge(w, &i, err);
}

static int out_of_time(const struct waiter *w, struct vps_err *err)
{
	static const char *const words[] = {"stopped", "running", "ready", "deleted"};
	autoclose int run_dir = store_run_dir(w->h, w->id);
	struct monitor_status st = {0};

	if (run_dir >= 0)
		monitor_status_read(run_dir, &st);
	return vps_err_set(err, VPS_ETIMEDOUT, "'%s' is not %s in time%s%s", w->name, words[w->what],
			   st.text[0] ? "; inside it says: " : "", st.text);
}

/* Until something changed. */
static int doze(struct waiter *w)
{
	struct pollfd p[] = {{.fd = w->inotify, .events = POLLIN}, {.fd = w->pidfd, .events = POLLIN}};
	int ms = LOOK_MS; /* a monitor that is killed changes no file */
	char buf[4096];

	if (w->deadline) {
		uint64_t now = sys_now_mono();
		uint64_t left = now < w->deadline ? (w->deadline - now + 999999) / 1000000 : 0;

		if (left < (uint64_t)ms)
			ms = (int)left;
		if (ms == 0)
			return -ETIMEDOUT;
	}
	if (poll(p, 2, ms) < 0)
		return errno == EINTR ? 0 : -errno;
	if (p[0].revents)
		while (read(w->inotify, buf, sizeof(buf)) > 0)
			;
	if (p[1].revents)
		init_ended(w);
	return 0;
}

int vps_wait(struct vps_host *h, const char *who, enum vps_wait_for what, int timeout_ms, int *ret_exit,
	     struct vps_err *err)
{
	autoclose int inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	struct waiter w = {.h = h, .who = who, .what = what, .inotify = inotify, .pidfd = -1};
	int r = store_find(h, who, &w.id, err);

	if (r == -VPS_ENOVPS && what == VPS_WAIT_DELETED) {
		vps_err_clear(err);
		if (w.id) /* named by its id */
			store_scrap_wait(h, w.id);
		return 0;
	}
	if (r < 0)
		return r;
	snprintf(w.name, sizeof(w.name), "%s", who);
	if (timeout_ms >= 0)
		w.deadline = sys_now_mono() + (uint64_t)timeout_ms * 1000000u + 1;
	for (;;) {
		watch(&w); /* before the look, or a change in between is missed */
		r = look(&w, ret_exit, err);
		if (r != 0)
			break;
		r = doze(&w);
		if (r == -ETIMEDOUT)
			r = look(&w, ret_exit, err) ?: out_of_time(&w, err);
		if (r != 0)
			break;
	}
	close_fd(&w.pidfd);
	/* it is gone, its disk and addresses may be about to */
	if (r >= 0 && w.gone)
		store_scrap_wait(h, w.id);
	return r < 0 ? r : 0;
}
