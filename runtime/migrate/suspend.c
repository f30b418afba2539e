/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "runtime/migrate/suspend.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/fs.h"
#include "base/sys.h"
#include "runtime/events.h"
#include "runtime/migrate/checkpoint.h"
#include "runtime/tar.h"

#define THAW_MS 10000

bool suspended_is(const struct vps_locked *l)
{
	return fs_exists(l->dir, SUSPENDED);
}

/* A fresh directory of this name in the VPS's own. */
static int fresh_dir(struct vps_locked *l, const char *name, struct vps_err *err)
{
	int r = fs_remove_tree(l->dir, name);

	if (r == 0 && mkdirat(l->dir, name, 0700) < 0)
		r = -errno;
	r = r ?: fs_open_dir(l->dir, name);
	return r < 0 ? vps_err_sys(err, r, "make %s", name) : r;
}

static int rename_synced(struct vps_locked *l, const char *from, const char *to, struct vps_err *err)
{
	int r = fs_remove_tree(l->dir, to);

	if (r == 0 && renameat(l->dir, from, l->dir, to) < 0)
		r = -errno;
	r = r ?: fs_sync_dir(l->dir, ".");
	return r < 0 ? vps_err_sys(err, r, "'%s': %s", l->spec.name, to) : 0;
}

static int read_seal(int dir, char seal[DIGEST_MAC_LEN])
{
	ssize_t n = fs_read_buf(dir, CHECKPOINT_MAC, seal, DIGEST_MAC_LEN);

	return n == DIGEST_MAC_LEN - 1 ? 0 : -EBADMSG;
}

/* ---- suspend ------------------------------------------------------------------------ */

/* The checkpoint goes into one file, elsewhere; in its place stays where that is, and its seal: no older memory fits
 * the disk. */
static int export_to(const char *to, int *dir, struct vps_locked *l, struct vps_err *err)
{
	char seal[DIGEST_MAC_LEN];
	autofree char *abs = NULL;
	autoclose int fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int r = fd < 0 ? -errno : tar_pack_tree(*dir, fd, err);

	if (r == -EEXIST)
		return vps_err_set(err, VPS_EEXISTS, "%s is there already", to);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r == 0)
		abs = realpath(to, NULL);
	if (r == 0 && !abs)
		r = -errno;
	if (r < 0) {
		if (fd >= 0)
			unlink(to);
		return vps_err_sys(err, r, "%s", to);
	}
	if (read_seal(*dir, seal) < 0)
		return vps_err_set(err, EIO, "the seal cannot be read again");
	close_fd(dir);
	*dir = fresh_dir(l, SUSPENDED_TMP, err);
	if (*dir < 0)
		return *dir;
	r = fs_write_atomic(*dir, SUSPENDED_PLACE, abs, strlen(abs), 0600);
	r = r ?: fs_write_atomic(*dir, CHECKPOINT_MAC, seal, strlen(seal), 0600);
	return r < 0 ? vps_err_sys(err, r, "suspend") : 0;
}

static int write_down(struct vps_locked *l, const char *to, const struct progress *p,
		      struct checkpoint_taking *t, struct vps_err *err)
{
	autoclose int dir = fresh_dir(l, SUSPENDED_TMP, err);
	int r = dir < 0 ? dir : checkpoint_take(l, dir, 0, NULL, t, err);

	if (r < 0)
		return r;
	r = checkpoint_seal(l->h, &l->spec, t->ran, dir, NULL, p, err);
	if (r == 0 && to)
		r = export_to(to, &dir, l, err);
	if (r == 0)
		r = rename_synced(l, SUSPENDED_TMP, SUSPENDED, err);
	if (r < 0)
		checkpoint_leave(l, t, true, NULL);
	return r;
}

int vps_suspend(struct vps_host *h, const char *who, const struct vps_suspend_opts *o, const struct progress *p,
		struct vps_err *err)
{
	auto_locked l = VPS_LOCKED_INIT;
	struct checkpoint_taking t;
	int r = vps_lock(h, who, "suspend", &l, err);

	if (r < 0)
		return r;
	if (suspended_is(&l))
		return vps_err_set(err, VPS_ESTATE, "'%s' is suspended already", l.spec.name);
	r = write_down(&l, o ? o->file : NULL, p, &t, err);
	if (r < 0)
		fs_remove_tree(l.dir, SUSPENDED_TMP);
	else
		r = checkpoint_leave(&l, &t, false, err);
	if (r < 0)
		return vps_err_wrap(err, r, "suspend %s", l.spec.name);
	event_add(h->run_fd, l.id, l.spec.name, "suspend", NULL, 0);
	return 0;
}

/* ---- resume ---------------------------------------------------------------------------- */

static int import_from(struct vps_locked *l, const char *from, struct vps_err *err)
{
	const struct tar_unpack_opts o = {.host = true, .uid = -1, .gid = -1};
	autoclose int fd = open(from, O_RDONLY | O_CLOEXEC);
	autoclose int dir = -1;
	int r;

	if (fd < 0)
		return vps_err_sys(err, -errno, "%s", from);
	dir = fresh_dir(l, SUSPENDED_IN, err);
	if (dir < 0)
		return dir;
	r = tar_unpack(dir, &o, fd, err);
	return r < 0 ? vps_err_wrap(err, r, "%s", from) : take_fd(dir);
}

int suspended_open(struct vps_locked *l, const struct start_more *more, int *ret_dir, uint64_t *ret_ran,
		   struct vps_err *err)
{
	const char *from = more->from;
	struct checkpoint_info info;
	char want[DIGEST_MAC_LEN], have[DIGEST_MAC_LEN] = "";
	autofree char *place = NULL;
	autoclose int dir = fs_open_dir(l->dir, SUSPENDED);
	int r;

	if (dir == -ENOENT)
		return 0;
	if (dir < 0)
		return vps_err_sys(err, dir, "open " SUSPENDED);
	if (read_seal(dir, want) < 0)
		return vps_err_set(err, VPS_EDIGEST, "the memory of '%s' has no seal", l->spec.name);
	if (!from && fs_read(dir, SUSPENDED_PLACE, PATH_MAX, &place, NULL) == 0)
		from = place;
	if (from) {
		close_fd(&dir);
		dir = import_from(l, from, err);
		if (dir < 0)
			return dir;
	}
	if (read_seal(dir, have) < 0 || !digest_mac_equal(want, have))
		r = vps_err_set(err, VPS_EDIGEST, "this is not what was written when it was suspended");
	else
		r = checkpoint_verify(l->h, &l->spec, dir, more->sums, more->progress, &info, err);
	if (r < 0)
		return vps_err_wrap(err, r, "'%s' cannot be resumed (vps stop --kill forgets its memory)",
				    l->spec.name);
	*ret_ran = info.ran;
	*ret_dir = take_fd(dir);
	return 1;
}

int suspended_use(struct vps_locked *l, struct vps_err *err)
{
	const char *was = suspended_is(l) ? SUSPENDED : SUSPENDED_IN;

	return rename_synced(l, was, SUSPENDED_USED, err);
}

void suspended_unuse(struct vps_locked *l)
{
	if (fs_exists(l->dir, SUSPENDED_USED) && !suspended_is(l))
		rename_synced(l, SUSPENDED_USED, SUSPENDED, NULL);
}

int suspended_drop(struct vps_locked *l, struct vps_err *err)
{
	int r = suspended_is(l) ? rename_synced(l, SUSPENDED, SUSPENDED_USED, err) : 0;

	r = r ?: fs_remove_tree(l->dir, SUSPENDED_USED);
	r = r ?: fs_remove_tree(l->dir, SUSPENDED_IN);
	return r < 0 ? vps_err_sys(err, r, "forget the memory of '%s'", l->spec.name) : 0;
}

int suspended_finish(struct vps_locked *l, bool running, const struct run_state *s, struct vps_err *err)
{
	static const char *const all[] = {SUSPENDED_TMP, SUSPENDED_IN, SUSPENDED_USED, SUSPENDED};
	bool resumed = running && (suspended_is(l) || fs_exists(l->dir, SUSPENDED_USED));
	int r = 0;

	if (resumed && s->phase == RUN_RUNNING)
		r = suspended_drop(l, err);
	if (r == 0 && resumed && s->phase == RUN_RUNNING)
		r = vps_freeze(l, s, false, THAW_MS, err); /* its gate was lost with the command */
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(all) - !running; i++)
		if (fs_exists(l->dir, all[i]))
			r = fs_remove_tree(l->dir, all[i]);
	return r < 0 ? vps_err_sys(err, r, "an interrupted suspend or resume") : 0;
}

int vps_resume(struct vps_host *h, const char *who, const struct vps_suspend_opts *o,
	       const struct vps_start_opts *so, const struct progress *p, struct vps_err *err)
{
	struct start_more more = {.from = o ? o->file : NULL, .progress = p};
	auto_locked l = VPS_LOCKED_INIT;
	int r = vps_lock(h, who, "resume", &l, err);

	if (r < 0)
		return r;
	if (!suspended_is(&l))
		return vps_err_set(err, VPS_ESTATE, "'%s' is not suspended", l.spec.name);
	r = start_locked(&l, so, &more, err);
	return r < 0 ? vps_err_wrap(err, r, "resume %s", l.spec.name) : start_wait(&l, so, err);
}
