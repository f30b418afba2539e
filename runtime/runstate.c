// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * <run>/<id>/state.json and what becomes of it when somebody is killed.
 *
 * A start writes it (phase starting) before it makes the first thing, and a teardown removes it
 * after the last: a run directory without it holds nothing but a monitor's files. Who sets it: the
 * command that holds the VPS's lock.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/sys.h"
#include "runtime/events.h"
#include "runtime/internal.h"
#include "runtime/migrate/suspend.h"
#include "runtime/monitor.h"
#include "vmm/api.h"

#define STATE_FILE     "state.json"
#define STATE_FILE_MAX 4096
/* A launcher that lost its command, or a monitor at its end, needs milliseconds; a loaded host
 * more. */
#define SETTLE_MS 10000

static const char *const phase_names[] = {"starting", "running", "paused", "checkpoint"};

static int parse_state(const char *text, size_t len, struct run_state *ret)
{
	auto_json j = NULL;
	struct run_state s = {0};
	const char *phase, *boot, *name;
	size_t i;

	if (json_parse(text, len, &j, NULL) < 0)
		return -EINVAL;
	phase = json_str(json_get(j, "phase"), "");
	boot = json_str(json_get(j, "boot_id"), "");
	name = json_str(json_get(j, "name"), "");
	for (i = 0; i < ARRAY_LEN(phase_names) && !str_eq(phase_names[i], phase); i++)
		;
	if (i == ARRAY_LEN(phase_names) || strlen(boot) >= sizeof(s.init.boot_id) ||
	    strlen(name) >= sizeof(s.name))
		return -EINVAL;
	s.phase = (enum run_phase)i;
	strcpy(s.init.boot_id, boot);
	strcpy(s.name, name);
	s.init.pid = (pid_t)json_int(json_get(j, "pid"), 0);
	s.init.start_time = json_u64(json_get(j, "start_time"), 0);
	s.started = json_u64(json_get(j, "started"), 0);
	s.stop_signal = (int)json_int(json_get(j, "stop_signal"), 0);
	s.stop_timeout_ms = (unsigned)json_u64(json_get(j, "stop_timeout_ms"), 0);
	*ret = s;
	return 0;
}

int run_state_read(int run_dir, struct run_state *ret)
{
	char buf[STATE_FILE_MAX];
	ssize_t n = fs_read_buf(run_dir, STATE_FILE, buf, sizeof(buf));

	return n < 0 ? (int)n : parse_state(buf, (size_t)n, ret);
}

int run_state_write(int run_dir, const struct run_state *s, struct vps_err *err)
{
	auto_strbuf sb = STRBUF_INIT;
	struct json_out o = JSON_OUT(&sb, false);
	int r;

	jo_object(&o, NULL);
	jo_str(&o, "phase", phase_names[s->phase]);
	jo_str(&o, "boot_id", *s->init.boot_id ? s->init.boot_id : proc_boot_id());
	jo_int(&o, "pid", s->init.pid);
	jo_u64(&o, "start_time", s->init.start_time);
	jo_u64(&o, "started", s->started);
	jo_int(&o, "stop_signal", s->stop_signal);
	jo_u64(&o, "stop_timeout_ms", s->stop_timeout_ms);
	jo_str(&o, "name", s->name);
	jo_end_object(&o);
	sb_addc(&sb, '\n');
	r = sb_ok(&sb);
	r = r ?: fs_write_rename(run_dir, STATE_FILE, sb.s, sb.len, 0600);
	return r < 0 ? vps_err_sys(err, r, "writing the run state") : 0;
}

bool run_state_is_of_this_boot(const struct run_state *s)
{
	return str_eq(s->init.boot_id, proc_boot_id());
}

int run_init(struct vps_host *h, unsigned id, const char *who, struct run_state *ret,
	     struct vps_err *err)
{
	autoclose int run_dir = store_run_dir(h, id);
	struct run_state s;
	struct proc_ident now;

	if (run_dir < 0 || run_state_read(run_dir, &s) < 0 || !run_state_is_of_this_boot(&s) ||
	    s.phase == RUN_STARTING || proc_ident_of(s.init.pid, &now) < 0 ||
	    !proc_ident_eq(&now, &s.init))
		return vps_err_set(err, VPS_ESTATE, "'%s' is not running", who);
	*ret = s;
	return 0;
}

/* ---- teardown -------------------------------------------------------------------- */

static int teardown_cgroup(struct vps_host *h, unsigned id, struct vps_err *err)
{
	auto_done(cg_closep) struct cg *cg = NULL;
	struct cg_host *ch;
	char name[ID_STR];
	int r = host_cgroups(h, &ch, err);

	if (r < 0)
		return r;
	r = cg_open(ch, id_str(id, name), &cg, NULL);
	if (r == 0 && cg_populated(cg) != 0)
		r = cg_kill(cg, SETTLE_MS, err);
	if (r < 0 && r != -ENOENT)
		return vps_err_wrap(err, r, "ending the processes of VPS %u", id);
	return cg_destroy(ch, name, err);
}

/* Processes first: nothing inside shall see the network or its limits go. */
int teardown(struct vps_host *h, unsigned id, struct vps_err *err)
{
	autoclose int run_dir = store_run_dir(h, id);
	struct net_host *net;
	int r;

	if (run_dir == -ENOENT || (run_dir >= 0 && !fs_exists(run_dir, STATE_FILE)))
		return 0;
	if (run_dir < 0)
		return vps_err_sys(err, run_dir, "run directory of VPS %u", id);
	r = teardown_cgroup(h, id, err);
	r = r ?: host_net(h, &net, err);
	r = r ?: net_detach(net, id, err);
	if (r < 0)
		return vps_err_wrap(err, r, "VPS %u", id);
	unlinkat(run_dir, VMM_SOCKET, 0);
	if (unlinkat(run_dir, STATE_FILE, 0) < 0 && errno != ENOENT)
		return vps_err_sys(err, -errno, "run state of VPS %u", id);
	return 0;
}

/* ---- reconcile ---------------------------------------------------------------------- */

static enum monitor_policy policy_of(enum spec_restart r)
{
	return r == RESTART_ALWAYS	 ? MONITOR_RESTART_ALWAYS
	       : r == RESTART_ON_FAILURE ? MONITOR_RESTART_ON_FAILURE
					 : MONITOR_RESTART_NO;
}

void monitor_args_of(const struct vps_locked *l, int run_dir, const struct run_state *s,
		     struct monitor_args *ret)
{
	monitor_args_init(ret);
	ret->id = l->id;
	ret->name = l->spec.name;
	ret->root = l->h->conf.root;
	ret->run = l->h->conf.run;
	/* The default configuration is found without being told, and may be missing. */
	ret->conf = fs_exists(AT_FDCWD, l->h->conf_path) ? l->h->conf_path : NULL;
	ret->run_dir = run_dir;
	ret->instance_dir = l->dir;
	ret->init = s->init;
	ret->started = s->started;
	ret->console_log_max = l->h->conf.console_log_max;
	ret->restart = policy_of(l->spec.restart);
	ret->restart_max = l->spec.restart_max;
}

/* Wait until nobody holds monitor.lock: a launcher dies by itself when its command is gone. */
static int settle(int run_dir, unsigned id, struct vps_err *err)
{
	int fd = lock_take(run_dir, "monitor.lock", true, SETTLE_MS);

	if (fd == -EWOULDBLOCK)
		return vps_err_set(err, VPS_ELOCKED,
				   "an interrupted start of VPS %u is still being undone", id);
	if (fd < 0)
		return vps_err_sys(err, fd, "monitor lock of VPS %u", id);
	close(fd);
	return 0;
}

/* Its command was killed between the last state and the word to go: the launcher then gives up, and
 * the state is not true for long. A monitor that is up has written its status. */
static bool monitor_came_up(int run_dir)
{
	struct monitor_status st;
	uint64_t end = sys_now_mono() + SETTLE_MS * 1000000ull;

	while (monitor_status_read(run_dir, &st) == -ENOENT) {
		if (monitor_alive(run_dir) != 1 || sys_now_mono() > end)
			return monitor_status_read(run_dir, &st) == 0;
		nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
	}
	return true;
}

/* init is alive. Has it a keeper? */
static int reconcile_living(struct vps_locked *l, int run_dir, const struct run_state *s)
{
	struct monitor_args a;
	struct cg_host *cg;
	int r;

	if (monitor_alive(run_dir) == 1 && monitor_came_up(run_dir))
		return 1;
	if (monitor_alive(run_dir) == 1)
		return 1;
	monitor_args_of(l, run_dir, s, &a);
	r = monitor_adopt(&a, host_cgroups(l->h, &cg, NULL) < 0 ? -1 : cg_monitors_fd(cg, NULL), NULL);
	if (r == 0)
		event_add(l->h->run_fd, l->id, l->spec.name, "adopt", NULL, 0);
	/* Without a keeper it still runs, and every verb but console still works on it. */
	return r == -ESRCH ? 0 : 1;
}

/* A resume or a checkpoint that was killed may have left its link held: the next run must not find it so. */
static int let_link_go(struct vps_locked *l, struct vps_err *err)
{
	auto_done(net_plan_done) struct net_plan p = {0};
	struct net_host *net;
	int r = plan_net(&l->spec, &p, err);

	r = r ?: host_net(l->h, &net, err);
	return r ?: net_hold(net, l->id, &p, false, err);
}

static int reconcile_dead(struct vps_locked *l, int run_dir, const struct run_state *s,
			  struct vps_err *err)
{
	int r = s->phase == RUN_STARTING || s->phase == RUN_CHECKPOINT ? let_link_go(l, err) : 0;

	if (r < 0)
		return r;
	if (s->phase == RUN_STARTING) {
		r = settle(run_dir, l->id, err);
		if (r < 0)
			return r;
	} else if (monitor_alive(run_dir) == 0) {
		struct monitor_args a;
		monitor_args_of(l, run_dir, s, &a);
		(void)monitor_lost(&a, NULL);
	}
	return teardown(l->h, l->id, err);
}

int reconcile(struct vps_locked *l, struct run_state *ret, bool *ret_running, struct vps_err *err)
{
	autoclose int run_dir = store_run_dir(l->h, l->id);
	autoclose int pidfd = -1;
	struct run_state s = {0};
	int r;

	if (ret_running)
		*ret_running = false;
	if (run_dir == -ENOENT) {
		/* No monitor writes here now, and we hold the lock: temps are of the killed. */
		fs_remove_temps(l->dir, ".", 0, false);
		return 0;
	}
	if (run_dir < 0)
		return vps_err_sys(err, run_dir, "run directory of '%s'", l->spec.name);
	r = run_state_read(run_dir, &s);
	if (r == -ENOENT) {
		char name[ID_STR]; /* empty when a run ended by itself; a back-off keeps its files there */
		unlinkat(l->h->run_fd, id_str(l->id, name), AT_REMOVEDIR);
		return 0;
	}
	if (r < 0) /* never written by halves, so somebody else's hand: what it says is not known */
		return vps_err_set(err, VPS_ECONF, "'%s': " STATE_FILE " is unreadable: %s",
				   l->spec.name, vps_code_str(r));
	if (s.phase == RUN_CHECKPOINT && run_init(l->h, l->id, l->spec.name, &s, NULL) == 0) {
		bool living;

		r = checkpoint_recover(l, &s, &living, err);
		if (r < 0 || !living)
			return r;
	}
	pidfd = s.phase == RUN_STARTING ? -ESRCH : proc_ident_open(&s.init);
	if (pidfd >= 0 && reconcile_living(l, run_dir, &s) == 1) {
		if (ret)
			*ret = s;
		if (ret_running)
			*ret_running = true;
		return 0;
	}
	return reconcile_dead(l, run_dir, &s, err);
}
