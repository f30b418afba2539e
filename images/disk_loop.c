/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A sparse ext4 image on a loop device: works on any file system and is what a VM needs.
 * Whoever uses disk.img holds an flock(2) on it: a loop device for as long as it lives (see
 * loopdev.h), a VMM, or a resize. df inside is true: the file system is the tenant's own.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/sys.h"
#include "images/disk.h"
#include "images/ext4.h"
#include "images/loopdev.h"

#define MIN_SIZE     (16ull << 20)
#define LOCK_WAIT_NS (3 * 1000000000ull)

static uint64_t round_size(uint64_t size)
{
	return size / EXT4_BLOCK * EXT4_BLOCK;
}

static int check_limits(const struct img_disk_spec *d, struct vps_err *err)
{
	if (!d->size)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "a loop disk needs a size; give --disk or use --disk-backend dir");
	if (d->size < MIN_SIZE)
		return vps_err_set(err, VPS_EUSAGE, "a loop disk needs at least 16 MiB");
	if (d->size > INT64_MAX)
		return vps_err_set(err, VPS_EUSAGE, "that size is beyond any disk");
	if (!d->inodes || ext4_inodes_near(ext4_inodes_for(d->size, d->inodes), d->inodes))
		return 0;
	/* One inode table block in each group is the least there is. */
	uint64_t least = ext4_inodes_for(d->size, 1);
	if (d->inodes < least * 4)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "a loop disk of this size cannot have exactly %llu inodes; its "
				   "count goes in steps of %llu: ask for a multiple of that",
				   (unsigned long long)d->inodes, (unsigned long long)least);
	return vps_err_set(err, VPS_EUSAGE, "%llu inodes do not fit on a disk of this size",
			   (unsigned long long)d->inodes);
}

static int loop_check(int dir, const struct img_disk_spec *d, struct vps_err *err)
{
	autofree char *mke2fs = proc_find("mke2fs");
	int r = check_limits(d, err);

	if (r < 0)
		return r;
	if (!mke2fs)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "mke2fs is missing; install e2fsprogs");
	if (faccessat(AT_FDCWD, "/dev/loop-control", R_OK | W_OK, AT_EACCESS) < 0)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "/dev/loop-control: %s; load the loop module (modprobe loop)",
				   vps_code_str(errno));
	return 0;
}

static int make_skeleton(int tmp, struct vps_err *err)
{
	if (mkdirat(tmp, "skel", 0755) < 0 || fchmodat(tmp, "skel", 0755, 0) < 0)
		return vps_err_sys(err, -errno, "make skel");
	autoclose int skel = fs_open_dir(tmp, "skel");
	if (skel < 0)
		return vps_err_sys(err, skel, "open skel");
	int r = disk_dir_fill(skel, err);
	return r < 0 ? r : take_fd(skel);
}

/* On btrfs: an image is rewritten in place; copy-on-write would scatter it and checksums would forbid direct I/O.
 * Reflinks are only between files that are alike in that. Other file systems say no, which is fine. */
static void set_nocow(int img)
{
	unsigned flags = FS_NOCOW_FL;

	(void)ioctl(img, FS_IOC_SETFLAGS, &flags);
}

static int new_image(int dir, struct vps_err *err)
{
	int img = openat(dir, DISK_IMAGE, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (img < 0)
		return vps_err_sys(err, -errno, "make " DISK_IMAGE);
	set_nocow(img);
	return img;
}

static int loop_make(int tmp, const struct img_disk_spec *d, struct vps_err *err)
{
	autoclose int skel = make_skeleton(tmp, err);
	if (skel < 0)
		return skel;
	autoclose int img = new_image(tmp, err);
	if (img < 0)
		return img;
	int r = ext4_make(img, skel, round_size(d->size), d->inodes, err);
	if (r < 0)
		return r;
	r = fs_remove_tree(tmp, "skel");
	if (r < 0)
		return vps_err_sys(err, r, "remove skel");
	return fsync(img) < 0 ? vps_err_sys(err, -errno, "sync " DISK_IMAGE) : 0;
}

/* Open disk.img and try for its lock; *ret_locked tells. The name is looked at again with the
 * lock held: a shrink puts a new file there. */
static int open_image(int disk, int flags, bool *ret_locked)
{
	for (;;) {
		struct stat a, b;
		autoclose int img = openat(disk, DISK_IMAGE, flags | O_CLOEXEC | O_NOFOLLOW);

		if (img < 0)
			return -errno;
		bool locked = flock(img, LOCK_EX | LOCK_NB) == 0;
		if (!locked && errno != EWOULDBLOCK)
			return -errno;
		if (fstat(img, &a) < 0)
			return -errno;
		if (!S_ISREG(a.st_mode))
			return -EUCLEAN;
		if (fstatat(disk, DISK_IMAGE, &b, AT_SYMLINK_NOFOLLOW) < 0)
			return -errno;
		if (a.st_ino != b.st_ino)
			continue;
		*ret_locked = locked;
		return take_fd(img);
	}
}

struct image {
	int fd;	 /* -errno */
	int dev; /* the loop device that has the lock; -1: we do, or (see locked) a stranger */
	bool locked;
	char path[LOOP_PATH_LEN]; /* of dev */
};
static void image_done(struct image *i)
{
	close_fd(&i->dev);
	close_fd(&i->fd);
}
#define auto_image auto_done(image_done) struct image

/* Ours by lock, or held by a device. A device on its way out is waited for: it is in no list any
 * more and holds the lock still, and a start right after a stop would find the disk in use. */
static struct image get_image(int disk, int flags)
{
	const uint64_t deadline = sys_now_mono() + LOCK_WAIT_NS;

	for (;;) {
		struct image i = {.dev = -1};

		i.fd = open_image(disk, flags, &i.locked);
		if (i.fd >= 0 && !i.locked)
			i.dev = loop_find(i.fd, i.path);
		if (i.dev < 0)
			i.dev = -1;
		if (i.fd < 0 || i.locked || i.dev >= 0 || sys_now_mono() >= deadline)
			return i;
		image_done(&i);
		nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
	}
}

static int refuse_guest(int disk, struct vps_err *err)
{
	if (!fs_exists(disk, DISK_GUEST))
		return 0;
	return vps_err_set(err, VPS_EUNSUPPORTED,
			   "a guest kernel has written this disk, so the host will not mount it; "
			   "start the VPS with --isolation vm, or copy its files out through the "
			   "guest agent");
}

/* The device that has, or from now on has, disk.img; its fd keeps it. */
static int get_device(int disk, char path[LOOP_PATH_LEN], struct vps_err *err)
{
	auto_image i = get_image(disk, O_RDWR);

	if (i.fd < 0)
		return vps_err_sys(err, i.fd, "open " DISK_IMAGE);
	int r = refuse_guest(disk, err); /* under the lock: the mark is set under it, too */
	if (r < 0)
		return r;
	if (i.locked)
		return loop_attach(i.fd, EXT4_BLOCK, path, err);
	if (i.dev < 0)
		return vps_err_set(err, VPS_ELOCKED, "the disk is in use by another process");
	memcpy(path, i.path, LOOP_PATH_LEN);
	return take_fd(i.dev);
}

static int loop_backend_attach(int disk, bool read_only, int *ret_mount, struct vps_err *err)
{
	char path[LOOP_PATH_LEN];
	autoclose int dev = get_device(disk, path, err);

	return dev < 0 ? dev : ext4_mount(path, read_only, ret_mount, err);
}

/* ---- size ---------------------------------------------------------------- */

/* Inodes belong to groups and come and go with the size; nothing else can change them. */
static int check_inodes(const struct ext4_info *i, uint64_t blocks, const struct img_disk_spec *was,
			const struct img_disk_spec *now, struct vps_err *err)
{
	uint64_t groups = (blocks + 8 * EXT4_BLOCK - 1) / (8 * EXT4_BLOCK);
	uint64_t will_be = groups * i->inodes_per_group;

	if (!now->inodes || ext4_inodes_near(will_be, now->inodes))
		return 0;
	return vps_err_set(err, VPS_EUNSUPPORTED,
			   "the inodes of a loop disk go with its size: it would have %llu, not "
			   "%llu; ask for that number, or for no limit of inodes",
			   (unsigned long long)will_be, (unsigned long long)now->inodes);
}

static int grow_mounted(int disk, uint64_t size, struct vps_err *err)
{
	char path[LOOP_PATH_LEN];
	autoclose int mount = -1;
	autoclose int dev = get_device(disk, path, err);

	if (dev < 0)
		return dev;
	int r = loop_set_capacity(dev);
	if (r < 0)
		return vps_err_sys(err, r, "new capacity of %s", path);
	r = ext4_mount(path, false, &mount, err);
	if (r < 0)
		return r;
	r = ext4_grow(mount, size / EXT4_BLOCK);
	if (r == -EPERM)
		return vps_err_set(err, EPERM,
				   "the kernel grows a mounted ext4 only for holders of "
				   "CAP_SYS_RESOURCE; stop the VPS first, or run with it");
	return r < 0 ? vps_err_sys(err, r, "grow the file system on %s", path) : 0;
}

/* Mounted, running or not: the kernel does it, at once and crash-safely. */
static int grow(int disk, uint64_t size, struct vps_err *err)
{
	autoclose int img = openat(disk, DISK_IMAGE, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;

	if (img < 0 || fstat(img, &st) < 0)
		return vps_err_sys(err, -errno, "open " DISK_IMAGE);
	/* Each step may be the last one before a crash: a file larger than its file system is
	 * sound, and the same command again goes on from there. */
	if ((uint64_t)st.st_size < size && ftruncate(img, (off_t)size) < 0)
		return vps_err_sys(err, -errno, "lengthen the image");
	if (fsync(img) < 0)
		return vps_err_sys(err, -errno, "sync the image");
	return grow_mounted(disk, size, err);
}

/* resize2fs dying half-way would leave a broken file system, so it works on a copy
 * (a reflink where the host's file system can), which then takes the name. */
static int resize_copy(int disk, int img, uint64_t size, struct vps_err *err)
{
	struct stat st;

	if (unlinkat(disk, DISK_NEW, 0) < 0 && errno != ENOENT)
		return vps_err_sys(err, -errno, "remove " DISK_NEW);
	autoclose int new = openat(disk, DISK_NEW, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (new < 0 || fstat(img, &st) < 0)
		return vps_err_sys(err, -errno, "make " DISK_NEW);
	int r = ftruncate(new, st.st_size) < 0 || lseek(img, 0, SEEK_SET) < 0 ? -errno : 0;
	if (r == 0)
		r = fs_copy_data(img, new, (uint64_t)st.st_size);
	if (r < 0)
		r = vps_err_sys(err, r, "copy the image (its used part is needed once more)");
	if (r == 0)
		r = ext4_resize(new, size / EXT4_BLOCK, err);
	if (r == 0 && renameat(disk, DISK_NEW, disk, DISK_IMAGE) < 0)
		r = vps_err_sys(err, -errno, "name the new image");
	if (r < 0) {
		unlinkat(disk, DISK_NEW, 0);
		return r;
	}
	r = fs_sync_dir(disk, ".");
	return r < 0 ? vps_err_sys(err, r, "sync the disk's directory") : 0;
}

/* -EBUSY: not offline, err untouched. */
static int resize_offline(int disk, uint64_t size, struct vps_err *err)
{
	auto_image i = get_image(disk, O_RDWR);

	if (i.fd < 0)
		return vps_err_sys(err, i.fd, "open " DISK_IMAGE);
	return i.locked ? resize_copy(disk, i.fd, size, err) : -EBUSY;
}

static int shrink(int disk, const struct ext4_info *i, uint64_t size, struct vps_err *err)
{
	uint64_t used = (i->blocks - i->free_blocks) * i->block_size;

	if (used > size)
		return vps_err_set(err, VPS_ERESOURCE,
				   "%llu bytes are in use; remove files or ask for more than that",
				   (unsigned long long)used);
	int r = resize_offline(disk, size, err);
	return r == -EBUSY ? vps_err_set(err, VPS_ESTATE,
					 "a loop disk shrinks only while it is not in use; stop "
					 "the VPS") : r;
}

static int grow_somehow(int disk, uint64_t size, struct vps_err *err)
{
	struct vps_err why = {0};
	int r = grow(disk, size, &why);

	if (r == -EPERM) {
		r = resize_offline(disk, size, err);
		if (r != -EBUSY)
			return r;
		return vps_err_set(err, VPS_EUNSUPPORTED, "%s", why.msg);
	}
	return r < 0 ? vps_err_set(err, -r, "%s", why.msg) : 0;
}

/* The guest's own kernel grows what it mounted; the host only gives it the room. */
static int resize_guest(int disk, uint64_t size, struct vps_err *err)
{
	autoclose int img = openat(disk, DISK_IMAGE, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;

	if (img < 0 || fstat(img, &st) < 0)
		return vps_err_sys(err, -errno, "open " DISK_IMAGE);
	if ((uint64_t)st.st_size > size)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "a disk that a guest kernel has written cannot be shrunk from "
				   "outside; make a new one and copy");
	if (ftruncate(img, (off_t)size) < 0 || fsync(img) < 0)
		return vps_err_sys(err, -errno, "lengthen the image");
	return 0;
}

/* What the file system is now: of the device when there is one, as its metadata may not have
 * reached the file yet. */
static int read_now(int disk, struct ext4_info *ret)
{
	auto_image i = get_image(disk, O_RDONLY);

	return i.fd < 0 ? i.fd : ext4_read(i.dev >= 0 ? i.dev : i.fd, ret);
}

static int loop_resize(int disk, const struct img_disk_spec *was, const struct img_disk_spec *now,
		       int mount_fd, struct vps_err *err)
{
	struct img_disk_spec size_only = {.size = now->size};
	uint64_t size = round_size(now->size);
	struct ext4_info i;
	int r = check_limits(&size_only, err);

	if (r < 0)
		return r;
	if (fs_exists(disk, DISK_GUEST))
		return resize_guest(disk, size, err);
	r = read_now(disk, &i);
	if (r < 0 || i.block_size != EXT4_BLOCK)
		return vps_err_sys(err, r < 0 ? r : -EUCLEAN, "read the disk's superblock");
	r = check_inodes(&i, size / EXT4_BLOCK, was, now, err);
	if (r < 0)
		return r;
	if (size / EXT4_BLOCK < i.blocks)
		return shrink(disk, &i, size, err);
	return grow_somehow(disk, size, err);
}

/* ---- usage, guests, audit ------------------------------------------------- */

static int usage_of_mount(int mount, struct img_disk_usage *ret)
{
	struct statfs sf;

	if (fstatfs(mount, &sf) < 0)
		return -errno;
	*ret = (struct img_disk_usage){
		.size = (uint64_t)sf.f_blocks * (uint64_t)sf.f_bsize,
		.used = (uint64_t)(sf.f_blocks - sf.f_bfree) * (uint64_t)sf.f_bsize,
		.inodes = sf.f_files,
		.inodes_used = sf.f_files - sf.f_ffree,
	};
	return 0;
}

static int loop_usage(int disk, const struct img_disk_spec *d, int mount_fd,
		      struct img_disk_usage *ret)
{
	struct ext4_info i;
	bool locked;

	if (mount_fd >= 0)
		return usage_of_mount(mount_fd, ret);
	autoclose int img = open_image(disk, O_RDONLY, &locked);
	if (img < 0)
		return img;
	if (!locked) {
		char path[LOOP_PATH_LEN];
		autoclose int dev = loop_find(img, path), mount = -1;

		/* No device: a VMM has it, and the superblock in the file is all we may see. */
		if (dev >= 0 && ext4_mount(path, true, &mount, NULL) == 0)
			return usage_of_mount(mount, ret);
	}
	int r = ext4_read(img, &i);
	if (r < 0)
		return r;
	uint64_t blocks = i.blocks - i.overhead;
	*ret = (struct img_disk_usage){
		.size = blocks * i.block_size,
		.used = (blocks > i.free_blocks ? blocks - i.free_blocks : 0) * i.block_size,
		.inodes = i.inodes,
		.inodes_used = i.inodes - i.free_inodes,
	};
	return 0;
}

static int mark_guest(int disk)
{
	autoclose int mark = openat(disk, DISK_GUEST, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	return mark < 0 ? -errno : fs_sync_dir(disk, ".");
}

/* As a copy by blocks it is as much a guest's as its original (I5): marked before the first byte is there. */
static int loop_copy(int disk, int tmp, const struct img_disk_spec *to, const struct disk_copying *c,
		     struct vps_err *err)
{
	autoclose int in = openat(disk, DISK_IMAGE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	autoclose int out = -1;
	int r;

	if (in < 0)
		return vps_err_sys(err, -errno, "open " DISK_IMAGE);
	r = fs_exists(disk, DISK_GUEST) ? mark_guest(tmp) : 0;
	if (r < 0)
		return vps_err_sys(err, r, "mark the disk as a guest's");
	out = new_image(tmp, err);
	return out < 0 ? out : disk_copy_image(in, out, c, err);
}

const struct disk_ops disk_loop_ops = {
	.check = loop_check,
	.make = loop_make,
	.attach = loop_backend_attach,
	.resize = loop_resize,
	.usage = loop_usage,
	.copy = loop_copy,
};

bool img_disk_is_guests(int dir_fd)
{
	autoclose int disk = fs_open_dir(dir_fd, "disk");

	return disk >= 0 && fs_exists(disk, DISK_GUEST);
}

int img_disk_guest_open(int dir_fd, bool read_only, int *ret_fd, struct vps_err *err)
{
	autoclose int disk = fs_open_dir(dir_fd, "disk");
	if (disk < 0)
		return vps_err_sys(err, disk, "open the disk");
	auto_image i = get_image(disk, read_only ? O_RDONLY : O_RDWR);
	if (i.fd == -ENOENT)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "a VM needs a loop disk; make the VPS with --disk-backend loop");
	if (i.fd < 0)
		return vps_err_sys(err, i.fd, "open " DISK_IMAGE);
	if (!i.locked)
		return vps_err_set(err, VPS_ELOCKED, "the disk is in use");
	/* On disk before the guest has its first chance to write (I5). */
	int r = read_only ? 0 : mark_guest(disk);
	if (r < 0)
		return vps_err_sys(err, r, "mark the disk as a guest's");
	*ret_fd = take_fd(i.fd);
	return 0;
}

int img_disk_blocks_open(int dir_fd, int *ret_fd, struct vps_err *err)
{
	int fd = openat(dir_fd, "disk/" DISK_IMAGE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return vps_err_sys(err, -errno, "open " DISK_IMAGE);
	*ret_fd = fd;
	return 0;
}

int img_disk_blocks_create(int dir_fd, uint64_t size, int *ret_fd, struct vps_err *err)
{
	const struct img_disk_spec d = {.backend = DISK_LOOP, .size = size};
	autoclose int disk = -1;
	autoclose int img = -1;
	int r = check_limits(&d, err);

	if (r < 0)
		return r;
	if (mkdirat(dir_fd, "disk", 0700) < 0)
		return vps_err_sys(err, errno == EEXIST ? -VPS_EEXISTS : -errno, "make the disk");
	disk = fs_open_dir(dir_fd, "disk");
	r = disk < 0 ? disk : mark_guest(disk);
	if (r < 0)
		return vps_err_sys(err, r, "make the disk");
	img = new_image(disk, err);
	if (img < 0)
		return img;
	if (ftruncate(img, (off_t)size) < 0)
		return vps_err_sys(err, -errno, "size of " DISK_IMAGE);
	*ret_fd = take_fd(img);
	return 0;
}

int img_disk_audit(int dir_fd, bool fix, char ***ret_found, struct vps_err *err)
{
	char link[64], path[4096];

	snprintf(link, sizeof link, "/proc/self/fd/%d", dir_fd);
	ssize_t n = readlink(link, path, sizeof path - 1);
	if (n < 0)
		return vps_err_sys(err, -errno, "path of the directory");
	path[n] = '\0';
	int r = loop_audit(path, fix, ret_found);
	return r < 0 ? vps_err_sys(err, r, "look at the loop devices") : 0;
}
