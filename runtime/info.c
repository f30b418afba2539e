// SPDX-License-Identifier: GPL-2.0-or-later
/* What is there: get and list. No locks; a thousand are read in some 20 system calls each. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "runtime/internal.h"
#include "runtime/migrate/record.h"
#include "runtime/migrate/suspend.h"
#include "runtime/monitor.h"

const char *vps_status_name(enum vps_status s)
{
	static const char *const names[] = {
		[VPS_STOPPED] = "stopped",   [VPS_STARTING] = "starting",
		[VPS_RUNNING] = "running",   [VPS_PAUSED] = "paused",
		[VPS_STOPPING] = "stopping", [VPS_RESTARTING] = "restarting",
		[VPS_BROKEN] = "broken",	    [VPS_SUSPENDED] = "suspended",
		[VPS_MOVED] = "moved",	     [VPS_ARRIVING] = "arriving",
	};

	return names[s];
}

void vps_info_done(struct vps_info *i)
{
	if (!i)
		return;
	spec_done(&i->spec);
	free(i->last_error);
	free(i->path);
	memset(i, 0, sizeof(*i));
	spec_init(&i->spec);
	i->exit_code = -1;
}

static bool is_alive(const struct proc_ident *id)
{
	struct proc_ident now;

	return id->pid > 0 && proc_ident_of(id->pid, &now) == 0 && proc_ident_eq(&now, id);
}

/* A monitor becomes `vps _restart` by exec: the same process, without the monitor's lock. */
static bool restarts(const struct monitor_status *m)
{
	char path[32], comm[32] = "";

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)m->pid);
	return fs_read_buf(AT_FDCWD, path, comm, sizeof(comm)) > 0 && strncmp(comm, "vps", 3) == 0;
}

/* Between runs nothing but the monitor's own files tell. */
static void fill_idle(struct vps_info *i, int run_dir, const struct monitor_status *m)
{
	if (!m)
		return;
	/* torn down, and what comes next is the monitor's to say */
	if (m->phase == MONITOR_ENDED && monitor_alive(run_dir) == 1)
		i->status = VPS_STOPPING;
	if (m->phase != MONITOR_BACKOFF || (monitor_alive(run_dir) != 1 && !restarts(m)))
		return;
	i->status = VPS_RESTARTING;
	i->monitor = m->pid;
	i->restarts = m->restarts;
}

static void fill_run(struct vps_info *i, int run_dir)
{
	struct run_state s;
	struct monitor_status m = {0};
	bool has_m = monitor_status_read(run_dir, &m) == 0;

	if (run_state_read(run_dir, &s) < 0 || !run_state_is_of_this_boot(&s)) {
		fill_idle(i, run_dir, has_m ? &m : NULL);
		return;
	}
	if (s.phase == RUN_STARTING) {
		/* Held from before this state was written until the launcher's end. */
		if (monitor_alive(run_dir) == 1)
			i->status = VPS_STARTING;
		return;
	}
	i->started = s.started;
	if (!is_alive(&s.init)) {
		if (has_m && monitor_alive(run_dir) == 1)
			i->status = VPS_STOPPING; /* it is being torn down */
		return;
	}
	i->init = s.init.pid;
	i->status = s.phase == RUN_RUNNING ? VPS_RUNNING : VPS_PAUSED;
	if (!has_m)
		return;
	if (m.phase == MONITOR_STOPPING)
		i->status = VPS_STOPPING;
	i->monitor = m.pid;
	i->ready = m.ready;
	i->oom_kills = m.oom_kills;
	i->restarts = m.restarts;
}

static void fill_moved(struct vps_info *i, int instance_dir)
{
	auto_ho_file f = {0};

	if (i->status != VPS_STOPPED || ho_file_read(instance_dir, &f, NULL) < 0)
		return;
	if (f.rec.phase == HO_COMMITTED || f.rec.phase == HO_GONE)
		i->status = VPS_MOVED;
	else if (f.rec.phase == HO_PREPARED)
		i->status = VPS_ARRIVING;
}

static void fill_last(struct vps_info *i, int instance_dir)
{
	struct monitor_last last;
	char buf[512];
	ssize_t n;

	if (monitor_last_read(instance_dir, &last) == 0) {
		i->exit_code = last.exit_code;
		i->stopped = last.stopped;
		if (!i->started)
			i->started = last.started;
		if (!i->init)
			i->oom_kills = last.oom_kills;
	}
	n = fs_read_buf(instance_dir, "last-error", buf, sizeof(buf));
	if (n > 0)
		i->last_error = strdup(buf);
}

static int fill(struct vps_host *h, unsigned id, struct vps_info *i, struct vps_err *err)
{
	autoclose int dir = store_dir(h, id);
	autoclose int run_dir = -1;
	struct vps_err why = {0};
	int r;

	if (dir < 0)
		return dir;
	r = store_read_spec(dir, &i->spec, &why);
	if (r == -ENOENT)
		return r;
	i->path = str_fmt("%s/instances/%u", h->conf.root, id);
	if (!i->path)
		return vps_err_sys(err, -ENOMEM, "list");
	run_dir = store_run_dir(h, id);
	if (run_dir >= 0)
		fill_run(i, run_dir);
	fill_moved(i, dir);
	if (i->status == VPS_STOPPED && fs_exists(dir, SUSPENDED))
		i->status = VPS_SUSPENDED;
	fill_last(i, dir);
	if (r < 0) { /* broken */
		i->spec.id = id;
		i->status = VPS_BROKEN;
		str_set(&i->last_error, why.msg);
	}
	return 0;
}

int info_of(struct vps_host *h, unsigned id, struct vps_info *ret, struct vps_err *err)
{
	struct vps_info i = {.exit_code = -1};
	int r;

	spec_init(&i.spec);
	r = fill(h, id, &i, err);
	if (r < 0) {
		vps_info_done(&i);
		return r;
	}
	*ret = i;
	return 0;
}

/* The monitor counts when the kernel wakes it; who asks right after a kill wants the truth. Too dear for
 * a list. */
static void count_oom(struct vps_host *h, struct vps_info *i)
{
	auto_done(cg_closep) struct cg *cg = NULL;
	struct cg_host *ch;
	char name[ID_STR];
	uint64_t n;

	if (i->init > 0 && host_cgroups(h, &ch, NULL) == 0 &&
	    cg_open(ch, id_str(i->spec.id, name), &cg, NULL) == 0 &&
	    cg_oom_count(cg, -1, &n) == 0 && n > i->oom_kills)
		i->oom_kills = n;
}

int vps_get(struct vps_host *h, const char *who, struct vps_info *ret, struct vps_err *err)
{
	struct vps_info i;
	unsigned id;
	int r = store_find(h, who, &id, err);

	if (r < 0)
		return r;
	r = info_of(h, id, &i, err);
	if (r == -ENOENT)
		return vps_err_set(err, VPS_ENOVPS, "there is no VPS '%s'", who);
	if (r < 0)
		return vps_err_wrap(err, r, "'%s'", who);
	count_oom(h, &i);
	*ret = i;
	return 0;
}

int vps_list(struct vps_host *h, struct vps_info **ret, size_t *ret_n, struct vps_err *err)
{
	autofree unsigned *ids = NULL;
	struct vps_info *list;
	size_t n_ids, n = 0;
	int r = store_ids(h, &ids, &n_ids, err);

	if (r < 0)
		return r;
	list = calloc(n_ids + 1, sizeof(*list));
	if (!list)
		return vps_err_sys(err, -ENOMEM, "list");
	for (size_t k = 0; k < n_ids; k++) {
		r = info_of(h, ids[k], &list[n], err);
		if (r == 0) {
			n++;
		} else if (r == -ENOENT) {
			/* A killed create or delete, or one under way: the lock tells. */
			(void)store_scrap_id(h, ids[k], NULL);
		} else {
			vps_list_free(list, n);
			return r;
		}
	}
	*ret = list;
	*ret_n = n;
	return 0;
}

void vps_list_free(struct vps_info *list, size_t n)
{
	for (size_t i = 0; list && i < n; i++)
		vps_info_done(&list[i]);
	free(list);
}
