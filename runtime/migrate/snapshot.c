// SPDX-License-Identifier: GPL-2.0-or-later
/* The verbs of snapshots. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/fs.h"
#include "runtime/events.h"
#include "runtime/migrate/migrate.h"
#include "runtime/migrate/suspend.h"

#define PATTERN	     "snap-%Y%m%d-%H%M%S"
#define PATTERN_AUTO "auto-%Y%m%d-%H%M"

static void tell(struct vps_locked *l, const char *event, const char *snapshot)
{
	const struct event_field f = {.key = "snapshot", .str = snapshot};

	event_add(l->h->run_fd, l->id, l->spec.name, event, &f, 1);
}

/* ---- create -------------------------------------------------------------------------- */

/* By the pattern; where that is taken, with a number behind it. */
static int make_name(struct vps_locked *l, bool scheduled, char *buf, size_t size, struct vps_err *err)
{
	const char *pattern = l->spec.snapshot_pattern ?: scheduled ? PATTERN_AUTO : PATTERN;
	time_t now = time(NULL);
	struct tm tm;
	char base[SPEC_NAME_MAX + 1];

	if (!localtime_r(&now, &tm) || pattern_name(pattern, &tm, base) < 0)
		return vps_err_set(err, VPS_EUSAGE, "the pattern '%s' gives no name", pattern);
	for (unsigned i = 1; i < 1000; i++) {
		autofree char *path = NULL;

		snprintf(buf, size, i == 1 ? "%s" : "%s.%u", base, i);
		path = str_fmt(SNAPSHOTS "/%s", buf);
		if (path && !fs_exists(l->dir, path))
			return 0;
	}
	return vps_err_set(err, VPS_EEXISTS, "no free name after '%s'", base);
}

static int create_locked(struct vps_locked *l, const char *name, const struct vps_snapshot_opts *o,
			 const struct progress *p, struct vps_snapshot *ret, struct vps_err *err)
{
	char made[SPEC_NAME_MAX + 8];
	auto_snap s;
	int r = 0;

	snap_init(&s);
	if (!name) {
		r = make_name(l, o && o->scheduled, made, sizeof(made), err);
		name = made;
	}
	if (r == 0 && spec_name_check(name, err) < 0)
		return vps_err_wrap(err, -VPS_EUSAGE, "name of the snapshot");
	r = r ?: snap_make(l, name, o, p, &s, err);
	if (r < 0)
		return r;
	tell(l, "snapshot", name);
	if (ret) {
		*ret = s.s;
		memset(&s.s, 0, sizeof(s.s));
	}
	return 0;
}

int vps_snapshot_create(struct vps_host *h, const char *who, const char *name, const struct vps_snapshot_opts *o,
			const struct progress *p, struct vps_snapshot *ret, struct vps_err *err)
{
	auto_locked l = VPS_LOCKED_INIT;
	int r = vps_lock(h, who, "snapshot create", &l, err);

	if (r < 0)
		return r;
	r = create_locked(&l, name, o, p, ret, err);
	return r < 0 ? vps_err_wrap(err, r, "snapshot of %s", l.spec.name) : 0;
}

/* ---- delete --------------------------------------------------------------------------- */

int vps_snapshot_delete(struct vps_host *h, const char *who, const char *name, struct vps_err *err)
{
	auto_locked l = VPS_LOCKED_INIT;
	auto_snap s;
	struct vps_err why = {0};
	int r = vps_lock(h, who, "snapshot delete", &l, err);

	if (r < 0)
		return r;
	snap_init(&s);
	r = snap_open(&l, name, &s, &why);
	if (r == -VPS_ENOVPS)
		return vps_err_set(err, VPS_ENOVPS, "%s", why.msg);
	/* One that cannot be read goes as well. */
	r = snap_remove(&l, name, err);
	if (r == 0)
		tell(&l, "snapshot-delete", name);
	return r < 0 ? vps_err_wrap(err, r, "delete snapshot %s of %s", name, l.spec.name) : 0;
}

/* ---- restore ----------------------------------------------------------------------------- */

/* The definition after it: as it is now, but for what belongs to the disk. */
static int restored_spec(struct vps_locked *l, const struct snap *s, struct vps_spec *now, struct vps_err *err)
{
	bool guests = img_disk_is_guests(s->dir);
	int r;

	if (suspended_is(l))
		return need_stopped(l, "restored", err);
	if (l->spec.remove_on_exit)
		return vps_err_set(err, VPS_ESTATE, "it is deleted when it stops (run --rm); clone the snapshot");
	if (guests && l->spec.isolation != ISOLATION_VM)
		return vps_err_set(err, VPS_EUNSUPPORTED, "the snapshot's disk was written by a guest kernel, so it is "
				   "for --isolation vm only; 'vps set %s --isolation vm' first", l->spec.name);
	if (l->spec.isolation == ISOLATION_VM && !str_eq(s->spec.disk_backend, "loop"))
		return vps_err_set(err, VPS_EUNSUPPORTED, "the snapshot's disk is no image file (%s), which a machine "
				   "needs; 'vps set %s --isolation container' first", s->spec.disk_backend,
				   l->spec.name);
	r = spec_copy(now, &l->spec);
	if (r < 0)
		spec_init(now);
	r = r ?: str_set(&now->image, s->spec.image);
	r = r ?: str_set(&now->image_digest, s->spec.image_digest);
	r = r ?: str_set(&now->disk_backend, s->spec.disk_backend);
	return r < 0 ? vps_err_sys(err, r, "restore") : 0;
}

static int exchange(struct vps_locked *l, const struct vps_spec *now, const struct vps_stop_opts *stop,
		    struct vps_err *err)
{
	struct run_state state;
	bool running = need_running(l, &state, NULL) == 0;
	int r = 0;

	if (running)
		r = stop_locked(l, stop, err);
	else if (cancel_backoff(l) > 0)
		running = true;
	r = r ?: need_stopped(l, "restored", err);
	r = r ?: set_exchange(l, now, err);
	if (r < 0 || !running)
		return r;
	r = start_locked(l, NULL, NULL, err);
	return r < 0 ? vps_err_wrap(err, r, "restored, but it does not start") : 0;
}

static int restore_locked(struct vps_locked *l, const char *name, const struct vps_snapshot_restore_opts *o,
			  const struct progress *p, struct vps_err *err)
{
	struct vps_stop_opts stop = o->stop;
	auto_done(spec_done) struct vps_spec now;
	struct img_disk_spec was, d;
	auto_snap s;
	int r;

	snap_init(&s);
	spec_init(&now);
	r = snap_open(l, name, &s, err);
	r = r ?: restored_spec(l, &s, &now, err);
	if (r < 0)
		return r;
	snap_disk(&s.spec, &was);
	plan_disk(&now, &d);
	/* Two quota disks for a moment, and each counts for itself. */
	if (img_disk_project(l->dir) == d.project)
		d.project++;
	r = switch_begin(l, &(struct switch_disk){s.dir, &was, &d, s.booted, !o->no_memory}, p, err);
	if (r < 0)
		return r;
	/* Where it goes on from is not where it would stop. */
	stop.kill |= s.s.memory && !o->no_memory;
	r = exchange(l, &now, &stop, err);
	if (r < 0)
		(void)set_finish(l, NULL); /* nothing decided: the copy goes */
	return r;
}

int vps_snapshot_restore(struct vps_host *h, const char *who, const char *name,
			 const struct vps_snapshot_restore_opts *o, const struct progress *p, struct vps_err *err)
{
	auto_locked l = VPS_LOCKED_INIT;
	int r = vps_lock(h, who, "snapshot restore", &l, err);

	if (r < 0)
		return r;
	r = restore_locked(&l, name, o, p, err);
	if (r < 0)
		return vps_err_wrap(err, r, "restore %s", l.spec.name);
	tell(&l, "snapshot-restore", name);
	return 0;
}

/* ---- what is due -------------------------------------------------------------------------- */

typedef void tell_fn(void *arg, const char *vps, const char *what, int r, const struct vps_err *e);

static void expire(struct vps_host *h, const struct vps_spec *spec, const struct vps_snapshot *s, tell_fn *fn,
		   void *arg)
{
	autofree char *what = str_fmt("expired %s", s->name);
	char who[ID_STR];
	struct vps_err err = {0};
	int r = vps_snapshot_delete(h, id_str(spec->id, who), s->name, &err);

	fn(arg, spec->name, what ? what : s->name, r, &err);
}

/* When the last scheduled one was, or the schedule came to be. */
#define DUE_FILE "snapshot-due"

static uint64_t read_due(int dir)
{
	char buf[24];
	uint64_t v;

	return fs_read_buf(dir, DUE_FILE, buf, sizeof(buf)) > 0 && parse_u64(buf, UINT64_MAX, &v) == 0 ? v : 0;
}

static int write_due(int dir, uint64_t when)
{
	char buf[24];
	int n = snprintf(buf, sizeof(buf), "%llu", (unsigned long long)when);

	return fs_write_atomic(dir, DUE_FILE, buf, (size_t)n, 0600);
}

static bool is_due(const struct vps_spec *spec, int dir, uint64_t now)
{
	uint64_t last = read_due(dir);
	struct cron c;

	if (cron_parse(spec->snapshot_schedule, &c, NULL) < 0)
		return false;
	if (last == 0 || last > now) { /* new: from now on */
		(void)write_due(dir, now);
		return false;
	}
	return cron_last(&c, last, now) != 0;
}

static void take_due(struct vps_host *h, const struct vps_spec *spec, int dir, tell_fn *fn, void *arg)
{
	struct vps_snapshot_opts o = {.scheduled = true};
	struct vps_snapshot made = {0};
	auto_locked l = VPS_LOCKED_INIT;
	autofree char *what = NULL;
	struct vps_err err = {0};
	uint64_t now = (uint64_t)time(NULL);
	char who[ID_STR];
	int r;

	if (!is_due(spec, dir, now))
		return;
	if (spec->snapshot_expiry != SPEC_UNSET)
		o.expiry_ms = spec->snapshot_expiry;
	r = vps_lock(h, id_str(spec->id, who), "snapshot run", &l, &err);
	if (r == 0 && !is_due(&l.spec, dir, now))
		return; /* another run was here */
	/* First: one that fails each time is not tried each minute, but when it is due again. */
	if (r == 0) {
		r = write_due(dir, now);
		r = r < 0 ? vps_err_sys(&err, r, "note the time") : create_locked(&l, NULL, &o, NULL, &made, &err);
	}
	what = str_fmt("snapshot %s", made.name ? made.name : "");
	fn(arg, spec->name, what ? what : "snapshot", r, &err);
	vps_snapshot_done(&made);
}

static void run_one(struct vps_host *h, unsigned id, tell_fn *fn, void *arg)
{
	autoclose int dir = store_dir(h, id);
	auto_done(spec_done) struct vps_spec spec;
	struct vps_snapshot *v = NULL;
	char who[ID_STR];
	size_t n = 0;

	spec_init(&spec);
	if (dir < 0 || store_read_spec(dir, &spec, NULL) < 0)
		return;
	if (spec.snapshot_schedule)
		take_due(h, &spec, dir, fn, arg);
	if (!fs_exists(dir, SNAPSHOTS) || vps_snapshot_list(h, id_str(id, who), &v, &n, NULL) < 0)
		return;
	for (size_t i = 0; i < n; i++)
		if (v[i].expires && v[i].expires <= (uint64_t)time(NULL))
			expire(h, &spec, &v[i], fn, arg);
	vps_snapshot_list_free(v, n);
}

int vps_snapshot_run(struct vps_host *h, tell_fn *fn, void *arg, struct vps_err *err)
{
	autofree unsigned *ids = NULL;
	size_t n = 0;
	int r = store_ids(h, &ids, &n, err);

	for (size_t i = 0; r == 0 && i < n; i++)
		run_one(h, ids[i], fn, arg);
	return r;
}
