/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Disks: the directory of one, its making and removal, and the choice of a backend. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "images/disk.h"

#define DISK	 "disk"
#define DISK_TMP "disk.tmp"

static const struct {
	const char *name;
	const struct disk_ops *ops;
} backends[] = {
	[DISK_AUTO] = {"auto", NULL},
	[DISK_QUOTA] = {"quota", &disk_quota_ops},
	[DISK_BTRFS] = {"btrfs", &disk_btrfs_ops},
	[DISK_LOOP] = {"loop", &disk_loop_ops},
	[DISK_DIR] = {"dir", &disk_dir_ops},
};

const char *img_backend_name(enum img_backend b)
{
	return (size_t)b < ARRAY_LEN(backends) ? backends[b].name : "unknown";
}

int img_backend_parse(const char *s, enum img_backend *ret)
{
	for (size_t i = 0; i < ARRAY_LEN(backends); i++)
		if (str_eq(s, backends[i].name)) {
			*ret = (enum img_backend)i;
			return 0;
		}
	return -EINVAL;
}

static const struct disk_ops *ops_of(enum img_backend b, struct vps_err *err)
{
	if ((size_t)b < ARRAY_LEN(backends) && backends[b].ops)
		return backends[b].ops;
	vps_err_set(err, EINVAL, "disk backend %d has to be a real one", (int)b);
	return NULL;
}

/* The order of preference: quota grows and shrinks live and costs nothing; loop works anywhere.
 * btrfs is never chosen: statfs(2) there does not know qgroup limits, so df inside would tell
 * the host's size. */
static int check_auto(int dir_fd, const struct img_disk_spec *d, enum img_backend *ret,
		      struct vps_err *err)
{
	struct vps_err why_quota = {0};

	if (!d->size && !d->inodes) {
		*ret = DISK_DIR;
		return 0;
	}
	if (disk_quota_ops.check(dir_fd, d, &why_quota) == 0) {
		*ret = DISK_QUOTA;
		return 0;
	}
	int r = disk_loop_ops.check(dir_fd, d, err);
	if (r < 0)
		return vps_err_wrap(err, r, "no disk backend fits (quota: %.200s); loop",
				    why_quota.msg);
	*ret = DISK_LOOP;
	return 0;
}

int img_disk_check(int dir_fd, const struct img_disk_spec *d, enum img_backend *ret,
		   struct vps_err *err)
{
	if (d->backend == DISK_AUTO)
		return check_auto(dir_fd, d, ret, err);
	const struct disk_ops *ops = ops_of(d->backend, err);
	if (!ops)
		return -EINVAL;
	int r = ops->check(dir_fd, d, err);
	if (r < 0)
		return r;
	*ret = d->backend;
	return 0;
}

/* Remove dir_fd/name, half-made or whole, whatever its backend: a killed create leaves no
 * record of what it was about to make. */
static int disk_remove(int dir_fd, const char *name)
{
	autoclose int disk = fs_open_dir(dir_fd, name);
	uint32_t project = 0;
	int r;

	if (disk == -ENOENT)
		return 0;
	if (disk >= 0) {
		autoclose int fs = fs_open_dir(disk, DISK_FS);

		if (fs >= 0)
			project = disk_quota_project(fs);
		close_fd(&fs);
		r = disk_btrfs_remove(disk, DISK_FS);
		if (r < 0)
			return r;
	}
	r = fs_remove_tree(dir_fd, name);
	/* The limit goes last: as long as files count against the project, it holds. */
	if (r == 0 && project)
		r = disk_quota_clear(dir_fd, project);
	return r;
}

/* What fills a disk that is being made. */
struct filling {
	const struct disk_ops *ops;
	const struct img_disk_spec *d;
	int from; /* a copy of this disk, or -1 */
	const struct img_disk_spec *was;
	const struct disk_copying *c;
};

static bool same_limits(const struct img_disk_spec *a, const struct img_disk_spec *b)
{
	return a->size == b->size && a->inodes == b->inodes;
}

static int fill(const struct filling *f, int tmp, struct vps_err *err)
{
	int r;

	if (f->from < 0)
		return f->ops->make(tmp, f->d, err);
	r = f->ops->copy(f->from, tmp, f->d, f->c, err);
	if (r == 0 && f->d && !same_limits(f->was, f->d))
		r = f->ops->resize(tmp, f->was, f->d, -1, err);
	return r;
}

static int create_in(int dir_fd, const struct filling *f, struct vps_err *err)
{
	if (mkdirat(dir_fd, DISK_TMP, 0700) < 0)
		return vps_err_sys(err, -errno, "make " DISK_TMP);
	autoclose int tmp = fs_open_dir(dir_fd, DISK_TMP);
	if (tmp < 0)
		return vps_err_sys(err, tmp, "open " DISK_TMP);
	int r = fill(f, tmp, err);
	if (r < 0)
		return r;
	r = fs_sync_dir(tmp, ".");
	if (r < 0)
		return vps_err_sys(err, r, "sync " DISK_TMP);
	if (renameat2(dir_fd, DISK_TMP, dir_fd, DISK, RENAME_NOREPLACE) < 0) {
		r = -errno;
		return vps_err_sys(err, r == -EEXIST ? -VPS_EEXISTS : r, "name the disk");
	}
	r = fs_sync_dir(dir_fd, ".");
	return r < 0 ? vps_err_sys(err, r, "sync the disk's directory") : 0;
}

int img_disk_create(int dir_fd, const struct img_disk_spec *d, enum img_backend *ret,
		    struct vps_err *err)
{
	enum img_backend b;
	int r;

	if (fs_exists(dir_fd, DISK))
		return vps_err_set(err, VPS_EEXISTS, "the disk is there already");
	/* First: a killed create of ours may hold the project id that check looks at. */
	r = disk_remove(dir_fd, DISK_TMP);
	if (r < 0)
		return vps_err_sys(err, r, "remove an unfinished disk");
	r = img_disk_check(dir_fd, d, &b, err);
	if (r < 0)
		return r;
	r = create_in(dir_fd, &(struct filling){.ops = backends[b].ops, .d = d, .from = -1}, err);
	if (r < 0) {
		disk_remove(dir_fd, DISK_TMP);
		return vps_err_wrap(err, r, "make a %s disk", backends[b].name);
	}
	*ret = b;
	return 0;
}

static int open_disk(int dir_fd, enum img_backend b, const struct disk_ops **ops,
		     struct vps_err *err)
{
	*ops = ops_of(b, err);
	if (!*ops)
		return -EINVAL;
	int disk = fs_open_dir(dir_fd, DISK);
	return disk < 0 ? vps_err_sys(err, disk, "open the disk") : disk;
}

int img_disk_copy(int from_dir, const struct img_disk_spec *was, int dir_fd, const struct img_disk_spec *d,
		  const struct img_still *still, const struct progress *p, struct vps_err *err)
{
	const struct disk_copying c = {.still = still, .progress = p};
	const struct disk_ops *ops = NULL;
	autoclose int from = open_disk(from_dir, was->backend, &ops, err);
	int r;

	if (from < 0)
		return from;
	if (d && d->backend != was->backend)
		return vps_err_set(err, EINVAL, "a copy of a disk is of the same kind");
	if (fs_exists(dir_fd, DISK))
		return vps_err_set(err, VPS_EEXISTS, "the disk is there already");
	r = disk_remove(dir_fd, DISK_TMP);
	if (r < 0)
		return vps_err_sys(err, r, "remove an unfinished disk");
	r = d ? ops->check(dir_fd, d, err) : 0;
	r = r ?: create_in(dir_fd, &(struct filling){ops, d, from, was, &c}, err);
	if (r < 0) {
		disk_remove(dir_fd, DISK_TMP);
		return vps_err_wrap(err, r, "copy the disk");
	}
	return 0;
}

int img_disk_resize(int dir_fd, const struct img_disk_spec *was, const struct img_disk_spec *now,
		    int mount_fd, struct vps_err *err)
{
	const struct disk_ops *ops = NULL;
	autoclose int disk = open_disk(dir_fd, was->backend, &ops, err);

	if (disk < 0)
		return disk;
	if (now->backend != was->backend && now->backend != DISK_AUTO)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "a disk keeps its backend (%s); make a new one and copy",
				   img_backend_name(was->backend));
	int r = ops->resize(disk, was, now, mount_fd, err);
	return r < 0 ? vps_err_wrap(err, r, "resize the disk") : 0;
}

int img_disk_attach(int dir_fd, enum img_backend b, bool read_only, int *ret_mount,
		    struct vps_err *err)
{
	const struct disk_ops *ops = NULL;
	autoclose int disk = open_disk(dir_fd, b, &ops, err);

	if (disk < 0)
		return disk;
	int r = ops->attach(disk, read_only, ret_mount, err);
	return r < 0 ? vps_err_wrap(err, r, "attach the disk") : 0;
}

uint32_t img_disk_project(int dir_fd)
{
	autoclose int fs = fs_open_dir(dir_fd, DISK "/" DISK_FS);

	return fs < 0 ? 0 : disk_quota_project(fs);
}

int img_disk_usage(int dir_fd, const struct img_disk_spec *d, int mount_fd,
		   struct img_disk_usage *ret)
{
	const struct disk_ops *ops = NULL;
	autoclose int disk = open_disk(dir_fd, d->backend, &ops, NULL);

	return disk < 0 ? disk : ops->usage(disk, d, mount_fd, ret);
}

int img_disk_destroy(int dir_fd, enum img_backend b, struct vps_err *err)
{
	(void)b; /* the files themselves tell; a killed create left no record */
	int r = disk_remove(dir_fd, DISK_TMP);
	if (r == 0)
		r = disk_remove(dir_fd, DISK);
	return r < 0 ? vps_err_sys(err, r, "remove the disk") : 0;
}
