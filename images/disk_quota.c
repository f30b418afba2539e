/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A directory with a project quota: ext4 and xfs mounted with prjquota. disk/fs carries the
 * project id and the inherit flag, so everything below counts against it, and statfs(2) below tells
 * the limits (ext4_statfs_project, xfs_qm_statvfs): df inside is true without our doing.
 *
 * A tenant cannot leave its project: project id and inherit flag change only from the initial
 * user namespace, and a rename or link into another project is -EXDEV.
 *
 * ext4 lets holders of CAP_SYS_RESOURCE pass the limit. No tenant has it here (it counts in the initial
 * user namespace only), and overlayfs, which works with its mounter's credentials, lowers it first.
 *
 * quotactl(2), quotactl_fd since Linux 5.14; the generic commands serve both file systems.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/dqblk_xfs.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/quota.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/fs.h"
#include "base/mem.h"
#include "images/disk.h"

#define XFS_MAGIC 0x58465342 /* "XFSB"; not in linux/magic.h */
#define LOOKS	  20
#define LOOK_NS	  50000000

static int quota_call(int fd, unsigned cmd, uint32_t id, void *arg)
{
	return syscall(SYS_quotactl_fd, fd, QCMD(cmd, PRJQUOTA), id, arg) < 0 ? -errno : 0;
}

static int set_limits(int fd, uint32_t project, uint64_t size, uint64_t inodes)
{
	struct if_dqblk dq = {
		.dqb_bhardlimit = size / QIF_DQBLKSIZE,
		.dqb_bsoftlimit = size / QIF_DQBLKSIZE,
		.dqb_ihardlimit = inodes,
		.dqb_isoftlimit = inodes,
		.dqb_valid = QIF_LIMITS,
	};
	return quota_call(fd, Q_SETQUOTA, project, &dq);
}

/* A project nobody ever used is -ENOENT on xfs, zeros on ext4; here both are zeros. */
static int get_quota(int fd, uint32_t project, struct if_dqblk *ret)
{
	struct if_dqblk dq = {0};
	int r = quota_call(fd, Q_GETQUOTA, project, &dq);

	if (r < 0 && r != -ENOENT)
		return r;
	*ret = dq;
	return 0;
}

/* 1: project limits are enforced here; 0: not; -errno: the kernel cannot tell. */
static int enforced(int fd)
{
	struct fs_quota_statv st = {.qs_version = FS_QSTATV_VERSION1};
	const unsigned want = FS_QUOTA_PDQ_ACCT | FS_QUOTA_PDQ_ENFD;
	int r = quota_call(fd, Q_XGETQSTATV, 0, &st);

	if (r == -ESRCH || r == -EINVAL) /* no quota of any kind is on */
		return 0;
	return r < 0 ? r : (st.qs_flags & want) == want;
}

static int say_how(int dir, const char *fs_name, int r, struct vps_err *err)
{
	if (r == -ENOSYS || r == -EOPNOTSUPP)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "this kernel has no project quota for %s; use "
				   "--disk-backend loop", fs_name);
	if (r < 0)
		return vps_err_sys(err, r, "ask %s for its quota state", fs_name);
	if (strcmp(fs_name, "xfs") == 0)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "project quota is off on this xfs; mount it with -o prjquota "
				   "(the root file system: kernel argument rootflags=prjquota), "
				   "or use --disk-backend loop");
	return vps_err_set(err, VPS_EUNSUPPORTED,
			   "project quota is off on this ext4; unmounted: tune2fs -O "
			   "project,quota -Q prjquota DEVICE, then mount -o prjquota; or use "
			   "--disk-backend loop");
}

/* Does anybody's data count against the project yet? Two tenants on one would share a limit. */
static int check_free(int dir, uint32_t project, struct vps_err *err)
{
	struct if_dqblk dq;

	/* xfs frees removed inodes in the background: the id of a disk destroyed just now is free
	 * only in a moment. */
	for (unsigned i = 0; i < LOOKS; i++) {
		int r = get_quota(dir, project, &dq);

		if (r < 0)
			return vps_err_sys(err, r, "look at project %u", project);
		if (!dq.dqb_curspace && !dq.dqb_curinodes)
			return 0;
		nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);
	}
	return vps_err_set(err, VPS_ERESOURCE,
			   "project id %u is in use on this file system (%llu bytes, %llu inodes); "
			   "see: repquota -P", project, (unsigned long long)dq.dqb_curspace,
			   (unsigned long long)dq.dqb_curinodes);
}

static int quota_check(int dir, const struct img_disk_spec *d, struct vps_err *err)
{
	struct statfs sf;

	if (fstatfs(dir, &sf) < 0)
		return vps_err_sys(err, -errno, "statfs");
	if (sf.f_type != EXT4_SUPER_MAGIC && sf.f_type != XFS_MAGIC)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "project quota needs ext4 or xfs here; use --disk-backend loop");
	if (d->project == 0)
		return vps_err_set(err, EINVAL, "a quota disk needs a project id of its own");
	if (d->size && d->size < QIF_DQBLKSIZE)
		return vps_err_set(err, VPS_EUSAGE, "a disk of %llu bytes is too small",
				   (unsigned long long)d->size);
	int r = enforced(dir);
	return r == 1 ? 0 : say_how(dir, sf.f_type == XFS_MAGIC ? "xfs" : "ext4", r, err);
}

static int set_project(int fs, uint32_t project)
{
	struct fsxattr fa;

	if (ioctl(fs, FS_IOC_FSGETXATTR, &fa) < 0)
		return -errno;
	fa.fsx_projid = project;
	fa.fsx_xflags |= FS_XFLAG_PROJINHERIT;
	return ioctl(fs, FS_IOC_FSSETXATTR, &fa) < 0 ? -errno : 0;
}

static int quota_make(int tmp, const struct img_disk_spec *d, struct vps_err *err)
{
	int r = check_free(tmp, d->project, err);
	if (r < 0)
		return r;
	if (mkdirat(tmp, DISK_FS, 0755) < 0 || fchmodat(tmp, DISK_FS, 0755, 0) < 0)
		return vps_err_sys(err, -errno, "make " DISK_FS);
	autoclose int fs = fs_open_dir(tmp, DISK_FS);
	if (fs < 0)
		return vps_err_sys(err, fs, "open " DISK_FS);
	r = set_project(fs, d->project);
	if (r < 0)
		return vps_err_sys(err, r, "set project id %u", d->project);
	r = set_limits(fs, d->project, d->size, d->inodes);
	if (r < 0)
		return vps_err_sys(err, r, "set the limit of project %u", d->project);
	/* Only now: upper/ and work/ inherit. */
	return disk_dir_fill(fs, err);
}

uint32_t disk_quota_project(int fs)
{
	struct fsxattr fa;

	return ioctl(fs, FS_IOC_FSGETXATTR, &fa) < 0 ? 0 : fa.fsx_projid;
}

int disk_quota_clear(int dir, uint32_t project)
{
	int r = set_limits(dir, project, 0, 0);

	/* Quota switched off since: nothing enforces the limit and nothing is left to do. */
	return r == -ESRCH || r == -ENOSYS || r == -EOPNOTSUPP ? 0 : r;
}

/* The project that the disk really has: the spec may be wrong, the inode is what counts. */
static int open_fs(int disk, uint32_t *ret_project)
{
	int fs = fs_open_dir(disk, DISK_FS);

	if (fs >= 0)
		*ret_project = disk_quota_project(fs);
	if (fs >= 0 && *ret_project == 0) {
		close(fs);
		return -ENODATA;
	}
	return fs;
}

static int too_small(const struct if_dqblk *dq, const struct img_disk_spec *now,
		     struct vps_err *err)
{
	if (now->size && dq->dqb_curspace > now->size)
		return vps_err_set(err, VPS_ERESOURCE,
				   "%llu bytes are in use; remove files or ask for more than that",
				   (unsigned long long)dq->dqb_curspace);
	if (now->inodes && dq->dqb_curinodes > now->inodes)
		return vps_err_set(err, VPS_ERESOURCE,
				   "%llu inodes are in use; remove files or ask for more than that",
				   (unsigned long long)dq->dqb_curinodes);
	return 0;
}

/* xfs frees the space of removed files in the background, for some tenths of a second. */
static int wait_small(int fs, uint32_t project, const struct img_disk_spec *now,
		      struct vps_err *err)
{
	struct if_dqblk dq;
	int r;

	for (unsigned i = 0; ; i++) {
		r = get_quota(fs, project, &dq);
		if (r < 0)
			return vps_err_sys(err, r, "look at project %u", project);
		r = too_small(&dq, now, i < LOOKS ? NULL : err);
		if (r == 0 || i == LOOKS)
			return r;
		nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);
	}
}

static int quota_resize(int disk, const struct img_disk_spec *was, const struct img_disk_spec *now,
			int mount_fd, struct vps_err *err)
{
	uint32_t project = 0;
	autoclose int fs = open_fs(disk, &project);

	if (fs < 0)
		return vps_err_sys(err, fs, "find the disk's project");
	if (now->size && now->size < QIF_DQBLKSIZE)
		return vps_err_set(err, VPS_EUSAGE, "that is too small for a disk");
	int r = enforced(fs);
	if (r != 1)
		return vps_err_set(err, VPS_EUNSUPPORTED, "project quota is no longer on here");
	/* Limit first, then look: a running tenant cannot fill the gap between. */
	r = set_limits(fs, project, now->size, now->inodes);
	if (r < 0)
		return vps_err_sys(err, r, "set the limit of project %u", project);
	r = wait_small(fs, project, now, err);
	if (r < 0)
		set_limits(fs, project, was->size, was->inodes);
	return r;
}

static int quota_usage(int disk, const struct img_disk_spec *d, int mount_fd,
		       struct img_disk_usage *ret)
{
	struct if_dqblk dq;
	uint32_t project = 0;
	autoclose int fs = open_fs(disk, &project);

	if (fs < 0)
		return fs;
	int r = get_quota(fs, project, &dq);
	if (r < 0)
		return r;
	*ret = (struct img_disk_usage){
		.size = dq.dqb_bhardlimit * QIF_DQBLKSIZE,
		.used = dq.dqb_curspace,
		.inodes = dq.dqb_ihardlimit,
		.inodes_used = dq.dqb_curinodes,
	};
	return 0;
}

static int quota_attach(int disk, bool read_only, int *ret_mount, struct vps_err *err)
{
	autoclose int fs = fs_open_dir(disk, DISK_FS);

	/* The host may have been rebooted into a mount without prjquota: a tenant without its
	 * limit is worse than one that does not start. */
	int r = fs < 0 ? fs : enforced(fs);
	if (r != 1)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "project quota is not in force on this file system any more; "
				   "mount it with -o prjquota");
	return disk_dir_attach(disk, read_only, ret_mount, err);
}

/* What is only kept counts against nobody. */
static int quota_copy(int disk, int tmp, const struct img_disk_spec *to, const struct disk_copying *c,
		      struct vps_err *err)
{
	int r = to ? quota_make(tmp, to, err) : disk_dir_make(tmp, err);

	return r ?: disk_copy_tree(disk, tmp, c, err);
}

const struct disk_ops disk_quota_ops = {
	.check = quota_check,
	.make = quota_make,
	.attach = quota_attach,
	.resize = quota_resize,
	.usage = quota_usage,
	.copy = quota_copy,
};
