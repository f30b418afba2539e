/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The root file system: read-only layers and the writable disk, each idmapped (their ids stay unshifted on
 * disk), under overlayfs. Detached mounts as layers need 6.15, so they are attached to a private tmpfs with
 * short names: a hundred of them fit into mount(2)'s page of options.
 */
#include "runtime/container/container.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/sys.h"
#include "runtime/guestcfg.h"
#include "runtime/lxcfs.h"

/* Private: a clone of a shared mount (all are on a host with systemd) is its peer, or later its slave, and as such CRIU cannot
 * make it again. */
static int clone_tree(int fd, const char *path)
{
	struct mount_attr a = {.propagation = MS_PRIVATE};
	autoclose int tree = sys_open_tree(fd, path, OPEN_TREE_CLONE | AT_EMPTY_PATH);
	int r = tree < 0 ? tree : sys_mount_setattr(tree, "", AT_EMPTY_PATH, &a, sizeof(a));

	return r < 0 ? r : take_fd(tree);
}

static int *fd_array(size_t n)
{
	int *a = reallocarray(NULL, n ? n : 1, sizeof(int));
	for (size_t i = 0; a && i < n; i++)
		a[i] = -1;
	return a;
}

static int collect_views(struct box *b, struct vps_err *err)
{
	size_t n = 0;
	if (b->run->lxcfs_root < 0 || b->bare)
		return 0;
	while (lxcfs_files[n])
		n++;
	b->views = fd_array(n);
	if (!b->views)
		return vps_err_sys(err, -ENOMEM, "lxcfs");
	b->n_views = n;
	for (size_t i = 0; i < n; i++) {
		if (!lxcfs_wanted(lxcfs_files[i]))
			continue;
		b->views[i] = clone_tree(b->run->lxcfs_root, lxcfs_files[i]);
		if (b->views[i] < 0 && b->views[i] != -ENOENT)
			return vps_err_sys(err, b->views[i], "open %s of lxcfs", lxcfs_files[i]);
	}
	return 0;
}

int rootfs_collect(struct box *b, struct vps_err *err)
{
	const struct vps_run *run = b->run;
	b->layers = fd_array(run->n_layers);
	b->binds = fd_array(run->spec->n_mounts);
	if (!b->layers || !b->binds)
		return vps_err_sys(err, -ENOMEM, "layers");
	for (size_t i = 0; i < run->n_layers; i++) {
		b->layers[i] = clone_tree(run->layers[i], "");
		if (b->layers[i] < 0)
			return vps_err_sys(err, b->layers[i], "open layer %zu", i);
	}
	/* One file system, without what is mounted below it: submounts could not all be idmapped. */
	for (size_t i = 0; !b->bare && i < run->spec->n_mounts; i++) {
		const char *src = run->spec->mounts[i].src;
		b->binds[i] = clone_tree(AT_FDCWD, src);
		if (b->binds[i] < 0)
			return vps_err_sys(err, b->binds[i], "mount '%s'", src);
	}
	return collect_views(b, err);
}

static int idmap(int mount, int userns, uint64_t attrs, const char *what, struct vps_err *err)
{
	struct mount_attr a = {
		.attr_set = attrs | MOUNT_ATTR_IDMAP,
		.userns_fd = (uint64_t)userns,
	};
	int r = sys_mount_setattr(mount, "", AT_EMPTY_PATH, &a, sizeof(a));
	if (r == -EINVAL)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "the file system of %s cannot be mounted with other ids (idmapped "
				   "mounts): keep it on ext4, xfs or btrfs", what);
	return r < 0 ? vps_err_sys(err, r, "map the ids of %s", what) : 0;
}

static int attach(int mount, int stage, const char *name, struct vps_err *err)
{
	if (mkdirat(stage, name, 0755) < 0)
		return vps_err_sys(err, -errno, "make stage/%s", name);
	int r = sys_move_mount(mount, "", stage, name, MOVE_MOUNT_F_EMPTY_PATH);
	return r < 0 ? vps_err_sys(err, r, "attach stage/%s", name) : 0;
}

static int make_stage(const char *where, struct vps_err *err)
{
	autoclose int fs = sys_fsopen("tmpfs", 0);
	int r = fs < 0 ? fs : sys_fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0755", 0);
	if (r >= 0)
		r = sys_fsconfig(fs, FSCONFIG_SET_STRING, "size", "64k", 0);
	if (r >= 0)
		r = sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	if (r < 0)
		return vps_err_sys(err, r, "make the stage");
	autoclose int stage = sys_fsmount(fs, 0, 0);
	if (stage < 0)
		return vps_err_sys(err, stage, "mount the stage");
	/* On a directory that every host has and nothing here needs. Not on /: it would lie on top of the old
	 * root and take the umount that is meant for that. */
	r = sys_move_mount(stage, "", AT_FDCWD, where ? where : "/sys", MOVE_MOUNT_F_EMPTY_PATH);
	if (r >= 0 && fchdir(stage) < 0)
		r = -errno;
	if (r >= 0 && mkdirat(stage, "empty.d", 0555) < 0)
		r = -errno;
	if (r < 0)
		return vps_err_sys(err, r, "attach the stage");
	autoclose int f = openat(stage, "empty.f", O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0444);
	if (f < 0)
		return vps_err_sys(err, -errno, "make the stage");
	return take_fd(stage);
}

static int mount_overlay(size_t n_layers, struct vps_err *err)
{
	auto_strbuf opts = STRBUF_INIT;
	sb_add(&opts, "lowerdir=");
	for (size_t i = n_layers; i > 0; i--) /* the uppermost first */
		sb_addf(&opts, "%s%zx", i < n_layers ? ":" : "", i - 1);
	if (n_layers == 0)
		sb_add(&opts, "empty.d");
	sb_add(&opts, ",upperdir=disk/upper,workdir=disk/work," ROOT_OVERLAY_OPTIONS);
	if (sb_ok(&opts) < 0)
		return vps_err_sys(err, -ENOMEM, "overlay");
	if (mkdir("root", 0755) < 0)
		return vps_err_sys(err, -errno, "make stage/root");
	/* overlayfs works with its mounter's credentials, and this one passes quotas. */
	int r = caps_lower("cap_sys_resource");
	if (r < 0)
		return vps_err_sys(err, r, "lower CAP_SYS_RESOURCE");
	if (mount("vps", "root", "overlay", MS_NODEV, opts.s) < 0)
		return vps_err_sys(err, -errno, "mount the root (overlay)");
	return 0;
}

int rootfs_mount(struct box *b, int userns, struct vps_err *err)
{
	autoclose int stage = make_stage(b->stage_at, err);
	if (stage < 0)
		return stage;
	int r = idmap(b->disk, userns, MOUNT_ATTR_NODEV, "the disk", err);
	if (r >= 0)
		r = attach(b->disk, stage, "disk", err);
	for (size_t i = 0; r >= 0 && i < b->run->n_layers; i++) {
		char name[24];
		snprintf(name, sizeof(name), "%zx", i);
		r = idmap(b->layers[i], userns, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV,
			  "the image store", err);
		if (r >= 0)
			r = attach(b->layers[i], stage, name, err);
	}
	if (r >= 0)
		r = mount_overlay(b->run->n_layers, err);
	if (r < 0)
		return r;
	int root = openat(stage, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return root < 0 ? vps_err_sys(err, -errno, "open the root") : root;
}
