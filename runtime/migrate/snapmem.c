// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Snapshots with memory: the checkpoint is taken as the way to keep the VPS still for the last part of the disk's copy, so
 * both are of the same instant. Brought back, it becomes the VPS's suspended memory, in the step in which the disk is exchanged.
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/sys.h"
#include "runtime/migrate/checkpoint.h"
#include "runtime/migrate/migrate.h"
#include "runtime/migrate/suspend.h"

static int memory_begin(void *arg, struct vps_err *err)
{
	struct snap_memory *m = arg;
	const struct img_still *still = m->still.how == STILL_FS ? &m->still.cb : NULL;
	int r;

	m->since = sys_now_mono();
	r = checkpoint_take(m->l, m->dir, 0, NULL, m->taking, err);
	if (r < 0)
		return r;
	/* Nobody runs, but what they wrote is not in the image yet. */
	r = still ? still->freeze(still->arg, err) : 0;
	if (r < 0)
		checkpoint_leave(m->l, m->taking, true, NULL);
	else
		m->ran = m->taking->ran;
	return r;
}

static int memory_end(void *arg, struct vps_err *err)
{
	struct snap_memory *m = arg;
	const struct img_still *still = m->still.how == STILL_FS ? &m->still.cb : NULL;
	int r = still ? still->thaw(still->arg, err) : 0;
	int e = checkpoint_leave(m->l, m->taking, true, r < 0 ? NULL : err);

	m->still.frozen_us = (sys_now_mono() - m->since) / 1000;
	return r < 0 ? r : e;
}

int snap_memory_copy(struct vps_locked *l, int snap_dir, const struct img_disk_spec *d, struct still *still,
		     const struct progress *p, struct vps_err *err)
{
	struct checkpoint_taking taking;
	struct snap_memory m = {.l = l, .still = *still, .taking = &taking};
	const struct img_still cb = {memory_begin, memory_end, &m};
	autoclose int dir = -1;
	int r;

	/* The guest cannot answer while its CPUs are stopped. */
	if (still->run_dir < 0)
		return vps_err_set(err, VPS_ESTATE, "'%s' does not run: it has no memory to keep", l->spec.name);
	m.still.cb.arg = &m.still;
	if (mkdirat(snap_dir, SNAP_MEMORY, 0700) < 0)
		return vps_err_sys(err, -errno, "make " SNAP_MEMORY);
	dir = m.dir = fs_open_dir(snap_dir, SNAP_MEMORY);
	if (dir < 0)
		return vps_err_sys(err, dir, "open " SNAP_MEMORY);
	if (d->backend == DISK_BTRFS) { /* whose copy asks nobody to stand still */
		r = memory_begin(&m, err);
		if (r < 0)
			return r;
		r = img_disk_copy(l->dir, d, snap_dir, NULL, NULL, p, err);
		int e = memory_end(&m, r < 0 ? NULL : err);
		r = r < 0 ? r : e;
	} else {
		r = img_disk_copy(l->dir, d, snap_dir, NULL, &cb, p, err);
	}
	still->frozen_us = m.still.frozen_us;
	return r ?: checkpoint_seal(l->h, &l->spec, m.ran, dir, NULL, p, err);
}

bool snap_has_memory(int snap_dir)
{
	return fs_exists(snap_dir, SNAP_MEMORY);
}

static int copy_file(int from, int to, const char *name)
{
	autoclose int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	autoclose int out = openat(to, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	struct stat st;
	int r;

	if (in < 0 || out < 0 || fstat(in, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EBADMSG;
	if (ftruncate(out, st.st_size) < 0)
		return -errno;
	r = st.st_size ? fs_copy_data(in, out, (uint64_t)st.st_size) : 0;
	return r == 0 && fsync(out) < 0 ? -errno : r;
}

int snap_memory_back(struct vps_locked *l, int snap_dir, int to, const struct progress *p, struct vps_err *err)
{
	autoclose int from = fs_open_dir(snap_dir, SNAP_MEMORY);
	autoclose int dir = -1;
	auto_strv names = NULL;
	int r = from < 0 ? vps_err_sys(err, from, "open " SNAP_MEMORY)
			 : checkpoint_verify(l->h, &l->spec, from, NULL, p, NULL, err);

	if (r < 0)
		return vps_err_wrap(err, r, "the snapshot's memory (--no-memory leaves it out)");
	r = mkdirat(to, SUSPENDED, 0700) < 0 ? -errno : 0;
	dir = r < 0 ? r : fs_open_dir(to, SUSPENDED);
	r = dir < 0 ? dir : fs_list(from, ".", &names);
	for (char **n = names; r == 0 && n && *n; n++) /* without a driver's notes */
		if (checkpoint_name_ok(*n) || str_eq(*n, CHECKPOINT_MANIFEST) || str_eq(*n, CHECKPOINT_MAC))
			r = copy_file(from, dir, *n);
	r = r ?: fs_sync_dir(dir, ".");
	return r < 0 ? vps_err_sys(err, r, "copy the memory") : 0;
}
