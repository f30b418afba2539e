/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Apply the plan of mounts_plan.c: every mount is made detached and attached by fd to a target that was
 * resolved inside the root. What an image put in the way (a link for /proc, a file for /dev)
 * is an error, never followed.
 */
#include "runtime/container/container.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/inroot.h"
#include "base/sys.h"

struct opt { const char *key, *value; };

static int new_mount(const char *type, const struct opt *opts, uint64_t attrs, struct vps_err *err)
{
	char words[256];
	autoclose int fs = sys_fsopen(type, 0);
	if (fs < 0)
		return vps_err_sys(err, fs, "mount %s", type);
	int r = 0;
	for (; r >= 0 && opts && opts->key; opts++)
		r = sys_fsconfig(fs, FSCONFIG_SET_STRING, opts->key, opts->value, 0);
	if (r >= 0)
		r = sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	if (r >= 0)
		r = sys_fsmount(fs, 0, (unsigned)attrs);
	if (r < 0) {
		sys_fs_message(fs, words, sizeof(words));
		return vps_err_sys(err, r, words[0] ? "mount %s: %s" : "mount %s%s", type, words);
	}
	return r;
}

static int new_tmpfs(const struct mnt *m, struct vps_err *err)
{
	char size[24], inodes[24], mode[12];
	struct opt opts[4] = {0};
	unsigned n = 0;
	snprintf(mode, sizeof(mode), "%o", (unsigned)m->mode);
	opts[n++] = (struct opt){"mode", mode};
	if (m->size) {
		snprintf(size, sizeof(size), "%llu", (unsigned long long)m->size);
		opts[n++] = (struct opt){"size", size};
	}
	if (m->inodes) {
		snprintf(inodes, sizeof(inodes), "%llu", (unsigned long long)m->inodes);
		opts[n++] = (struct opt){"nr_inodes", inodes};
	}
	return new_mount("tmpfs", opts, m->attrs, err);
}

/* max: ptys are one budget for the whole host (kernel.pty.max). */
static int new_devpts(const struct box *b, const struct mnt *m, struct vps_err *err)
{
	char gid[16];
	snprintf(gid, sizeof(gid), "%u", b->id_base + 5); /* Debian's and everybody's "tty" */
	const struct opt opts[] = {
		{"mode", "0620"}, {"ptmxmode", "0666"}, {"gid", gid}, {"max", "128"}, {0},
	};
	return new_mount("devpts", opts, m->attrs, err);
}

static int mask_tree(int target, int stage)
{
	struct stat st;
	if (fstat(target, &st) < 0)
		return -errno;
	return sys_open_tree(stage, S_ISDIR(st.st_mode) ? "empty.d" : "empty.f", OPEN_TREE_CLONE);
}

static int readonly_tree(int target, uint64_t attrs)
{
	struct mount_attr a = {.attr_set = attrs};
	autoclose int tree = sys_open_tree(target, "", OPEN_TREE_CLONE | AT_EMPTY_PATH);
	int r = tree < 0 ? tree : sys_mount_setattr(tree, "", AT_EMPTY_PATH, &a, sizeof(a));
	return r < 0 ? r : take_fd(tree);
}

/* Ids inside mean the same ids on the host where the file system can be idmapped; else they show as they
 * are, "nobody" for all that is not the VPS's. Private: a clone of a shared mount (all are on a host with
 * systemd) is its peer, and what is mounted below it would appear on the host, too, and stay. */
static int bind_tree(int tree, int userns, uint64_t attrs)
{
	struct mount_attr a = {
		.attr_set = attrs | MOUNT_ATTR_IDMAP,
		.propagation = MS_PRIVATE,
		.userns_fd = (uint64_t)userns,
	};
	int r = sys_mount_setattr(tree, "", AT_EMPTY_PATH, &a, sizeof(a));
	if (r == -EINVAL || r == -EPERM) {
		a.attr_set = attrs;
		a.userns_fd = 0;
		r = sys_mount_setattr(tree, "", AT_EMPTY_PATH, &a, sizeof(a));
	}
	return r < 0 ? r : tree;
}

int mount_make(struct box *b, const struct mnt *m, int target, int stage, int userns, struct mnt_made *made,
	       struct vps_err *err)
{
	int r = -EINVAL;
	switch (m->kind) {
	case MNT_TMPFS:
		return new_tmpfs(m, err);
	case MNT_DEV:
		return dev_make(b->run, b->init_exe, b->dev_saved, err);
	case MNT_DEVPTS:
		return new_devpts(b, m, err);
	case MNT_MQUEUE:
		return new_mount("mqueue", NULL, m->attrs, err);
	case MNT_CGROUP:
		return new_mount("cgroup2", NULL, m->attrs, err);
	case MNT_SYSFS:
		return new_mount("sysfs", NULL, m->attrs, err);
	case MNT_PROC:
		r = made->proc[0] >= 0 ? take_fd(made->proc[0]) : take_fd(made->proc[1]);
		break;
	case MNT_BIND:
		r = bind_tree(b->binds[m->tree], userns, m->attrs);
		if (r >= 0)
			r = take_fd(b->binds[m->tree]);
		break;
	case MNT_READONLY:
		r = readonly_tree(target, m->attrs);
		break;
	case MNT_MASK:
		r = mask_tree(target, stage);
		break;
	}
	return r < 0 ? vps_err_sys(err, r, "mount /%s", m->dst) : r;
}

static int strict_target(int root, const struct mnt *m, struct vps_err *err)
{
	for (int i = 0; i < 2; i++) {
		/* No O_NOFOLLOW: with O_PATH it would open the link itself. */
		int fd = sys_openat2(root, m->dst, O_PATH | (m->make ? O_DIRECTORY : 0), 0,
				     RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
		if (fd == -ENOENT && m->optional)
			return fd;
		if (fd == -ELOOP)
			return vps_err_set(err, VPS_EBADIMAGE,
					   "/%s of the VPS is or is below a symbolic link", m->dst);
		if (fd == -ENOTDIR)
			return vps_err_set(err, VPS_EBADIMAGE,
					   "/%s of the VPS is not a directory", m->dst);
		if (fd != -ENOENT || !m->make)
			return fd < 0 ? vps_err_sys(err, fd, "open /%s", m->dst) : fd;
		if (mkdirat(root, m->dst, m->mode) < 0)
			return vps_err_sys(err, -errno, "make /%s", m->dst);
	}
	return vps_err_sys(err, -ENOENT, "open /%s", m->dst);
}

/* The operator's target: links lead on inside the root, what is missing is made like its source. */
static int bind_target(int root, const struct mnt *m, int tree, struct vps_err *err)
{
	struct stat st;
	if (fstat(tree, &st) < 0)
		return vps_err_sys(err, -errno, "mount on /%s", m->dst);
	if (S_ISDIR(st.st_mode)) {
		int fd = inroot_mkdir_p(root, m->dst, m->mode, (uid_t)-1, (gid_t)-1);
		return fd < 0 ? vps_err_sys(err, fd, "make /%s", m->dst) : fd;
	}
	int fd = inroot_open(root, m->dst, O_PATH, 0);
	if (fd != -ENOENT)
		return fd < 0 ? vps_err_sys(err, fd, "open /%s", m->dst) : fd;
	autofree char *dir = strdup(m->dst);
	char *slash = dir ? strrchr(dir, '/') : NULL;
	if (!dir)
		return vps_err_sys(err, -ENOMEM, "mount on /%s", m->dst);
	if (slash) {
		*slash = 0;
		autoclose int d = inroot_mkdir_p(root, dir, 0755, (uid_t)-1, (gid_t)-1);
		if (d < 0)
			return vps_err_sys(err, d, "make /%s", dir);
	}
	autoclose int f = inroot_open(root, m->dst, O_CREAT | O_EXCL | O_WRONLY, 0644);
	if (f < 0)
		return vps_err_sys(err, f, "make /%s", m->dst);
	fd = inroot_open(root, m->dst, O_PATH, 0);
	return fd < 0 ? vps_err_sys(err, fd, "open /%s", m->dst) : fd;
}

static void remember(struct mnt_made *made, const struct mnt *m, int *tree)
{
	if (m->kind == MNT_DEV)
		made->dev = take_fd(*tree);
	else if (m->kind == MNT_DEVPTS)
		made->devpts = take_fd(*tree);
}

static int apply_one(struct box *b, const struct mnt *m, int root, int stage, int userns,
		     struct mnt_made *made, struct vps_err *err)
{
	autoclose int target = m->strict ? strict_target(root, m, err)
					 : bind_target(root, m, b->binds[m->tree], err);
	if (target < 0)
		return target == -ENOENT && m->optional ? 0 : target;
	autoclose int tree = mount_make(b, m, target, stage, userns, made, err);
	if (tree < 0)
		return tree;
	int r = sys_move_mount(tree, "", target, "",
			       MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
	if (r < 0)
		return vps_err_sys(err, r, "mount on /%s", m->dst);
	remember(made, m, &tree);
	return 0;
}

int mounts_apply(struct box *b, int root, int stage, int userns, struct mnt_made *made,
		 struct vps_err *err)
{
	/* Its clones, the masks, inherit the flags. */
	struct mount_attr a = {
		.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
			    MOUNT_ATTR_NOEXEC,
	};
	int r = sys_mount_setattr(stage, "", AT_EMPTY_PATH, &a, sizeof(a));
	if (r < 0)
		return vps_err_sys(err, r, "make the stage read-only");
	for (size_t i = 0; i < b->plan.n; i++) {
		r = apply_one(b, &b->plan.m[i], root, stage, userns, made, err);
		if (r < 0)
			return r;
	}
	return 0;
}
