/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside of the disks: what a backend does. disk.c owns the directory `disk/` (made as
 * `disk.tmp/`, renamed when whole) and calls one of these tables.
 *
 *   disk/            0700 root: files below carry the tenant's unshifted ids, also set-user-ID root
 *                    ones, so no other user of the host may walk in
 *   disk/fs/         dir, quota, btrfs: holds upper/ and work/
 *   disk/disk.img    loop: an ext4 image that holds upper/ and work/
 *   disk/disk.new    loop: an unfinished offline shrink; worthless, removed by the next command
 *   disk/guest-written  loop: a guest kernel had the image; the host never mounts it again (I5)
 */
#ifndef VPS_IMAGES_DISK_H
#define VPS_IMAGES_DISK_H

#include "images/images.h"

#define DISK_FS	   "fs"
#define DISK_IMAGE "disk.img"
#define DISK_NEW   "disk.new"
#define DISK_GUEST "guest-written"

struct disk_copying {
	const struct img_still *still; /* NULL: nobody writes */
	const struct progress *progress;
};

struct disk_ops {
	/* Can the limits be enforced on the file system of dir? No limits is settled by disk.c. */
	int (*check)(int dir, const struct img_disk_spec *d, struct vps_err *err);
	/* Fill tmp, which is empty. disk.c removes it on failure. */
	int (*make)(int tmp, const struct img_disk_spec *d, struct vps_err *err);
	int (*attach)(int disk, bool read_only, int *ret_mount, struct vps_err *err);
	int (*resize)(int disk, const struct img_disk_spec *was, const struct img_disk_spec *now,
		      int mount_fd, struct vps_err *err);
	int (*usage)(int disk, const struct img_disk_spec *d, int mount_fd,
		     struct img_disk_usage *ret);
	/* Fill tmp, which is empty, with a copy of disk. to: the limits that it gets; NULL: none, it is only kept. */
	int (*copy)(int disk, int tmp, const struct img_disk_spec *to, const struct disk_copying *c,
		    struct vps_err *err);
};

extern const struct disk_ops disk_dir_ops, disk_quota_ops, disk_btrfs_ops, disk_loop_ops;

/* Shared by the backends that are directories (disk_dir.c). */

/* Make upper/ and work/ below fs, 0755 root:root whatever the umask. */
int disk_dir_fill(int fs, struct vps_err *err);
/* A detached clone of the mount of disk/fs, rooted there. */
int disk_dir_attach(int disk, bool read_only, int *ret_mount, struct vps_err *err);
/* What the mount of a disk must and must not carry, whatever the host mounted it with. */
int disk_mount_flags(int mount, bool read_only);

/* Keep the source still; let it go on, whatever r was: r, or that it was not still. (disk_copy.c) */
int disk_still(const struct disk_copying *c, struct vps_err *err);
int disk_go_on(const struct disk_copying *c, int r, struct vps_err *err);
/* An image file, sparse; the upper/ of a directory. Synced. */
int disk_copy_image(int in, int out, const struct disk_copying *c, struct vps_err *err);
int disk_copy_tree(int disk, int tmp, const struct disk_copying *c, struct vps_err *err);
/* A plain directory's make and copy, also for what is only kept of others. */
int disk_dir_make(int tmp, struct vps_err *err);

/* What removal needs to know and do for one backend; both are no-ops on foreign directories. */
uint32_t disk_quota_project(int fs);
int disk_quota_clear(int dir, uint32_t project);
int disk_btrfs_remove(int disk, const char *name);

#endif
