// SPDX-License-Identifier: GPL-2.0-or-later
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/fs.h"
#include "runtime/events.h"
#include "runtime/internal.h"
#include "runtime/migrate/record.h"
#include "runtime/migrate/suspend.h"

/* Renaming the definition is the point of no return; what a kill leaves after it: claim.c. */
int delete_locked(struct vps_locked *l, struct vps_err *err)
{
	if (renameat(l->dir, "spec.json", l->dir, "spec.json.deleting") < 0)
		return vps_err_sys(err, -errno, "marking '%s' as deleted", l->spec.name);
	int r = fs_sync_dir(l->dir, ".");
	if (r < 0)
		return vps_err_sys(err, r, "marking '%s' as deleted", l->spec.name);
	r = store_scrap(l, err);
	if (r == 0)
		event_add(l->h->run_fd, l->id, l->spec.name, "delete", NULL, 0);
	return r;
}

/* A VPS whose definition cannot be read can still be removed, by its number and by force. */
static int delete_broken(struct vps_host *h, const char *who, struct vps_err *err)
{
	auto_locked l = VPS_LOCKED_INIT;
	unsigned id;
	int r = store_find(h, who, &id, err);

	if (r < 0)
		return r;
	spec_init(&l.spec);
	l.h = h;
	l.id = id;
	l.dir = store_dir(h, id);
	if (l.dir < 0)
		return vps_err_sys(err, l.dir, "'%s'", who);
	l.lock = store_lock_dir(h, l.dir, who, "delete", h->lock_timeout_ms, err);
	if (l.lock < 0)
		return l.lock;
	if (renameat(l.dir, "spec.json", l.dir, "spec.json.deleting") < 0 && errno != ENOENT)
		return vps_err_sys(err, -errno, "marking '%s' as deleted", who);
	return store_scrap(&l, err);
}

int vps_delete(struct vps_host *h, const char *who, bool force, struct vps_err *err)
{
	auto_locked l = VPS_LOCKED_INIT;
	struct vps_stop_opts kill = {.kill = true};
	struct vps_err why = {0};
	struct run_state s;
	int r = vps_lock(h, who, "delete", &l, &why);

	if (r == -VPS_ECONF && force)
		return delete_broken(h, who, err);
	if (r < 0)
		return vps_err_set(err, why.code, "%s", why.msg);
	r = ho_not_moving(&l, "deleted", err);
	if (r < 0)
		return vps_err_wrap(err, r, "delete %s", l.spec.name);
	if (force && need_running(&l, &s, NULL) == 0)
		r = stop_locked(&l, &kill, err);
	else if (force)
		cancel_backoff(&l);
	if (r == 0 && force)
		r = suspended_drop(&l, err);
	r = r ?: need_stopped(&l, "deleted (or: delete --force)", err);
	if (!force)
		r = r ?: ho_undecided(&l, err);
	r = r ?: delete_locked(&l, err);
	return r < 0 ? vps_err_wrap(err, r, "delete %s", l.spec.name) : 0;
}
