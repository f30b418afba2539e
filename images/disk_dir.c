/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The plain directory: a disk without a limit; and what all directory backends share. */
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/sys.h"
#include "images/disk.h"

static int make_0755(int fs, const char *name, struct vps_err *err)
{
	if (mkdirat(fs, name, 0755) < 0)
		return vps_err_sys(err, -errno, "make %s", name);
	/* The umask of whoever called us must not end up in the tenant's root directory. */
	if (fchmodat(fs, name, 0755, 0) < 0 || fchownat(fs, name, 0, 0, AT_SYMLINK_NOFOLLOW) < 0)
		return vps_err_sys(err, -errno, "mode of %s", name);
	return 0;
}

int disk_dir_fill(int fs, struct vps_err *err)
{
	int r = make_0755(fs, "upper", err);
	if (r == 0)
		r = make_0755(fs, "work", err);
	if (r < 0)
		return r;
	r = fs_sync_dir(fs, ".");
	return r < 0 ? vps_err_sys(err, r, "sync") : 0;
}

/*
 * nodev: a device node that a tenant got onto its disk must not open through this mount; overlay's
 * own whiteouts (char 0:0) are made and read, never opened, so they do not mind.
 * nosuid and noexec are cleared, even when the host mounted its own file system with them: what a
 * tenant may execute is decided by the flags of the overlay mount on top, where its files are
 * opened; this mount below only lends storage.
 */
int disk_mount_flags(int mount, bool read_only)
{
	struct mount_attr attr = {
		.attr_set = MOUNT_ATTR_NODEV | (read_only ? MOUNT_ATTR_RDONLY : 0),
		.attr_clr = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC,
	};
	return sys_mount_setattr(mount, "", AT_EMPTY_PATH, &attr, sizeof attr);
}

int disk_dir_attach(int disk, bool read_only, int *ret_mount, struct vps_err *err)
{
	autoclose int fs = fs_open_dir(disk, DISK_FS);
	if (fs < 0)
		return vps_err_sys(err, fs, "open " DISK_FS);
	autoclose int mount =
		sys_open_tree(fs, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (mount < 0)
		return vps_err_sys(err, mount, "clone the mount");
	int r = disk_mount_flags(mount, read_only);
	if (r < 0)
		return vps_err_sys(err, r, "set mount flags");
	*ret_mount = take_fd(mount);
	return 0;
}

static int dir_check(int dir, const struct img_disk_spec *d, struct vps_err *err)
{
	if (d->size || d->inodes)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "a plain directory cannot enforce a size; use --disk-backend "
				   "auto, quota or loop");
	return 0;
}

int disk_dir_make(int tmp, struct vps_err *err)
{
	int r = make_0755(tmp, DISK_FS, err);
	if (r < 0)
		return r;
	autoclose int fs = fs_open_dir(tmp, DISK_FS);
	if (fs < 0)
		return vps_err_sys(err, fs, "open " DISK_FS);
	return disk_dir_fill(fs, err);
}

static int dir_make(int tmp, const struct img_disk_spec *d, struct vps_err *err)
{
	return disk_dir_make(tmp, err);
}

static int dir_copy(int disk, int tmp, const struct img_disk_spec *to, const struct disk_copying *c,
		    struct vps_err *err)
{
	int r = disk_dir_make(tmp, err);

	return r ?: disk_copy_tree(disk, tmp, c, err);
}

static int dir_resize(int disk, const struct img_disk_spec *was, const struct img_disk_spec *now,
		      int mount_fd, struct vps_err *err)
{
	return dir_check(disk, now, err);
}

/* Nobody counts here, and walking the tree for each `vps list` would be dear. */
static int dir_usage(int disk, const struct img_disk_spec *d, int mount_fd,
		     struct img_disk_usage *ret)
{
	return -EOPNOTSUPP;
}

const struct disk_ops disk_dir_ops = {
	.check = dir_check,
	.make = dir_make,
	.attach = disk_dir_attach,
	.resize = dir_resize,
	.usage = dir_usage,
	.copy = dir_copy,
};
