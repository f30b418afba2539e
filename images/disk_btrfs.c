/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A btrfs subvolume with a qgroup limit on its referenced bytes. Deleting is cheap and snapshots
 * are natural, but statfs(2) in a subvolume tells the whole file system, so df inside shows the
 * host's size: a choice for who asks for it by name, never AUTO's. btrfs counts no inodes.
 *
 * Figures of the quota tree follow the last transaction (≤ 30 s behind). Ioctls: linux/btrfs.h,
 * btrfs-ioctl(2); quota state through sysfs since Linux 5.9.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "base/fs.h"
#include "base/mem.h"
#include "images/disk.h"

#define SUBVOL_ROOT_INO 256 /* BTRFS_FIRST_FREE_OBJECTID: each subvolume's own directory */
#define MIN_SIZE	(1u << 20)

static bool on_btrfs(int fd)
{
	struct statfs sf;

	return fstatfs(fd, &sf) == 0 && sf.f_type == BTRFS_SUPER_MAGIC;
}

/* Copy item key type/offset of the quota tree; -ENOENT when there is none. */
static int quota_item(int fd, uint32_t type, uint64_t offset, void *item, size_t size)
{
	struct btrfs_ioctl_search_args args = {
		.key = {
			.tree_id = BTRFS_QUOTA_TREE_OBJECTID,
			.min_offset = offset, .max_offset = offset,
			.max_transid = UINT64_MAX,
			.min_type = type, .max_type = type,
			.nr_items = 1,
		},
	};
	struct btrfs_ioctl_search_header h;

	if (ioctl(fd, BTRFS_IOC_TREE_SEARCH, &args) < 0)
		return -errno; /* ENOENT: no quota tree, quota is off */
	if (args.key.nr_items == 0)
		return -ENOENT;
	memcpy(&h, args.buf, sizeof h);
	if (h.len < size || h.len > sizeof args.buf - sizeof h)
		return -EUCLEAN;
	memcpy(item, args.buf + sizeof h, size);
	return 0;
}

static int subvol_id(int fd, uint64_t *ret)
{
	struct btrfs_ioctl_ino_lookup_args args = {.objectid = SUBVOL_ROOT_INO};

	if (ioctl(fd, BTRFS_IOC_INO_LOOKUP, &args) < 0)
		return -errno;
	*ret = args.treeid;
	return 0;
}

/* fd: outside of the subvolume. The ioctl's own transaction is charged to the subvolume of its
 * fd, and one that is over its limit could not even be given a higher one. */
static int set_limit(int fd, uint64_t id, uint64_t size)
{
	struct btrfs_ioctl_qgroup_limit_args args = {
		.qgroupid = id,
		.lim = {
			.flags = BTRFS_QGROUP_LIMIT_MAX_RFER,
			.max_rfer = size ? size : UINT64_MAX, /* all ones: takes the limit away */
		},
	};
	return ioctl(fd, BTRFS_IOC_QGROUP_LIMIT, &args) < 0 ? -errno : 0;
}

static int btrfs_check(int dir, const struct img_disk_spec *d, struct vps_err *err)
{
	/* Only the fixed head: newer kernels append fields. */
	struct btrfs_qgroup_status_item st;

	if (!on_btrfs(dir))
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "the state directory is not on btrfs; use --disk-backend auto");
	if (d->inodes)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "btrfs cannot limit the number of files; leave out --inodes or "
				   "use --disk-backend loop");
	if (!d->size)
		return 0;
	if (d->size < MIN_SIZE)
		return vps_err_set(err, VPS_EUSAGE, "a btrfs disk needs at least 1 MiB");
	int r = quota_item(dir, BTRFS_QGROUP_STATUS_KEY, 0, &st, sizeof st);
	if (r == -ENOENT)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "quotas are off on this btrfs; run: btrfs quota enable MOUNTPOINT, "
				   "or use --disk-backend loop");
	if (r < 0)
		return vps_err_sys(err, r, "read the btrfs quota state");
	return 0;
}

static int btrfs_make(int tmp, const struct img_disk_spec *d, struct vps_err *err)
{
	struct btrfs_ioctl_vol_args args = {.name = DISK_FS};
	uint64_t id = 0;

	if (ioctl(tmp, BTRFS_IOC_SUBVOL_CREATE, &args) < 0)
		return vps_err_sys(err, -errno, "make the subvolume");
	autoclose int fs = fs_open_dir(tmp, DISK_FS);
	if (fs < 0)
		return vps_err_sys(err, fs, "open " DISK_FS);
	if (fchmod(fs, 0755) < 0)
		return vps_err_sys(err, -errno, "mode of " DISK_FS);
	int r = subvol_id(fs, &id);
	if (r == 0 && d->size)
		r = set_limit(tmp, id, d->size);
	if (r < 0)
		return vps_err_sys(err, r, "limit subvolume %llu", (unsigned long long)id);
	return disk_dir_fill(fs, err);
}

int disk_btrfs_remove(int disk, const char *name)
{
	struct btrfs_ioctl_vol_args args = {0};
	struct btrfs_ioctl_qgroup_create_args qg = {.create = 0};
	struct stat st;

	if (!on_btrfs(disk))
		return 0;
	if (fstatat(disk, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISDIR(st.st_mode) || st.st_ino != SUBVOL_ROOT_INO)
		return 0; /* a plain directory */
	autoclose int fs = fs_open_dir(disk, name);
	if (fs < 0)
		return fs;
	int has_id = subvol_id(fs, (uint64_t *)&qg.qgroupid);
	close_fd(&fs);
	strncpy(args.name, name, sizeof args.name - 1);
	if (ioctl(disk, BTRFS_IOC_SNAP_DESTROY, &args) < 0)
		return -errno;
	/* Best effort: Linux 6.11 and newer say EBUSY and drop the qgroup with the subvolume. */
	if (has_id == 0)
		(void)ioctl(disk, BTRFS_IOC_QGROUP_CREATE, &qg);
	return 0;
}

/* Overlayfs' own; of the original it knows inodes that the snapshot has under other names. */
static int fresh_work(int fs, struct vps_err *err)
{
	int r = fs_remove_tree(fs, "work");

	if (r == 0 && mkdirat(fs, "work", 0755) < 0)
		r = -errno;
	return r < 0 ? vps_err_sys(err, r, "empty work/") : 0;
}

/* A snapshot is of one instant: nobody has to be still for it. */
static int btrfs_copy(int disk, int tmp, const struct img_disk_spec *to, const struct disk_copying *c,
		      struct vps_err *err)
{
	struct btrfs_ioctl_vol_args_v2 args = {.name = DISK_FS};
	autoclose int from = fs_open_dir(disk, DISK_FS);
	uint64_t id = 0;
	int r;

	if (from < 0)
		return vps_err_sys(err, from, "open " DISK_FS);
	if (syncfs(from) < 0)
		return vps_err_sys(err, -errno, "write the disk");
	args.fd = from;
	if (ioctl(tmp, BTRFS_IOC_SNAP_CREATE_V2, &args) < 0)
		return vps_err_sys(err, -errno, "snapshot the subvolume");
	autoclose int fs = fs_open_dir(tmp, DISK_FS);
	if (fs < 0)
		return vps_err_sys(err, fs, "open " DISK_FS);
	r = fresh_work(fs, err);
	if (r == 0 && to && to->size) {
		r = subvol_id(fs, &id);
		r = r ?: set_limit(tmp, id, to->size);
		if (r < 0)
			return vps_err_sys(err, r, "limit subvolume %llu", (unsigned long long)id);
	}
	if (r == 0 && syncfs(fs) < 0)
		r = vps_err_sys(err, -errno, "write the copy");
	return r;
}

static int btrfs_attach(int disk, bool read_only, int *ret_mount, struct vps_err *err)
{
	return disk_dir_attach(disk, read_only, ret_mount, err);
}

static int read_usage(int fs, uint64_t id, struct img_disk_usage *ret)
{
	struct btrfs_qgroup_info_item info;
	struct btrfs_qgroup_limit_item lim;
	int r = quota_item(fs, BTRFS_QGROUP_INFO_KEY, id, &info, sizeof info);

	if (r < 0)
		return r;
	r = quota_item(fs, BTRFS_QGROUP_LIMIT_KEY, id, &lim, sizeof lim);
	if (r < 0 && r != -ENOENT)
		return r;
	*ret = (struct img_disk_usage){.used = le64toh(info.rfer)};
	if (r == 0 && le64toh(lim.flags) & BTRFS_QGROUP_LIMIT_MAX_RFER)
		ret->size = le64toh(lim.max_rfer);
	return 0;
}

static int btrfs_resize(int disk, const struct img_disk_spec *was, const struct img_disk_spec *now,
			int mount_fd, struct vps_err *err)
{
	struct img_disk_usage u;
	uint64_t id = 0;
	int r = btrfs_check(disk, now, err);

	if (r < 0)
		return r;
	autoclose int fs = fs_open_dir(disk, DISK_FS);
	if (fs < 0)
		return vps_err_sys(err, fs, "open " DISK_FS);
	r = subvol_id(fs, &id);
	/* Limit first, then commit and look: a running tenant cannot fill the gap between. */
	if (r == 0)
		r = set_limit(disk, id, now->size);
	if (r == 0 && syncfs(fs) < 0)
		r = -errno;
	if (r == 0)
		r = read_usage(fs, id, &u);
	if (r < 0)
		return vps_err_sys(err, r, "limit subvolume %llu", (unsigned long long)id);
	if (now->size && u.used > now->size) {
		/* Synced: read_usage sees limits, too, as of the last commit. */
		if (set_limit(disk, id, was->size) == 0)
			syncfs(fs);
		return vps_err_set(err, VPS_ERESOURCE,
				   "%llu bytes are in use; remove files or ask for more than that",
				   (unsigned long long)u.used);
	}
	return 0;
}

static int btrfs_usage(int disk, const struct img_disk_spec *d, int mount_fd,
		       struct img_disk_usage *ret)
{
	uint64_t id = 0;
	autoclose int fs = fs_open_dir(disk, DISK_FS);
	int r = fs < 0 ? fs : subvol_id(fs, &id);

	if (r < 0)
		return r;
	r = read_usage(fs, id, ret);
	return r == -ENOENT ? -EOPNOTSUPP : r; /* quota off: nobody counts */
}

const struct disk_ops disk_btrfs_ops = {
	.check = btrfs_check,
	.make = btrfs_make,
	.attach = btrfs_attach,
	.resize = btrfs_resize,
	.usage = btrfs_usage,
	.copy = btrfs_copy,
};
