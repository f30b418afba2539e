/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An image's root as one EROFS. mkfs.erofs sees the layers stacked as a container would, in a mount
 * namespace of its own, and is the root of a user namespace and nothing more: names and attributes
 * in an image are its maker's. No compression: the host's page cache is what VMs share, and a guest
 * reads without unpacking.
 *
 * A is our child and still host root; it makes the namespaces and becomes the other root last.
 */
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <sys/wait.h>

#include "base/fs.h"
#include "base/lock.h"
#include "base/proc.h"
#include "base/sys.h"
#include "images/store.h"

#define N_IDS	   65536u
#define MAX_LAYERS 127
/* erofs_fs.h: the superblock's seconds and nanoseconds of its making. */
#define MADE_AT	   (1024 + 24)
#define MADE_LEN   12
#define UUID	   "76707300-0000-4000-8000-000000000000" /* nobody looks for it by that */
#define SUM_XATTR  "trusted.vps.sha256"

struct build {
	int out;
	uint32_t id_base;
	int layers[MAX_LAYERS];
	size_t n;
};

/* ---- A ------------------------------------------------------------------------- */

static int write_map(pid_t pid, const char *what, uint32_t base)
{
	char path[48], map[40];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, what);
	snprintf(map, sizeof(map), "0 %u %u\n", base, N_IDS);
	return fs_write(AT_FDCWD, path, map);
}

/* A user namespace comes with a process in it; this one only waits. */
static int make_userns(uint32_t base, struct vps_err *err)
{
	int ready[2], ns = -1, r = 0;
	char path[48], c;
	pid_t pid;

	if (pipe2(ready, O_CLOEXEC) < 0)
		return vps_err_sys(err, -errno, "make a pipe");
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (unshare(CLONE_NEWUSER) == 0 && write(ready[1], "", 1) == 1)
			pause();
		_exit(1);
	}
	close_fd(&ready[1]);
	if (pid < 0 || read(ready[0], &c, 1) != 1)
		r = pid < 0 ? -errno : -EPERM;
	if (r >= 0)
		r = write_map(pid, "gid_map", base);
	if (r >= 0)
		r = write_map(pid, "uid_map", base);
	snprintf(path, sizeof(path), "/proc/%d/ns/user", pid);
	if (r >= 0 && (ns = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		r = -errno;
	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	close_fd(&ready[0]);
	return r < 0 ? vps_err_sys(err, r, "make a user namespace") : ns;
}

static int make_stage(struct vps_err *err)
{
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return vps_err_sys(err, -errno, "make mounts private");
	/* any directory that every host has and nothing here needs */
	if (mount("stage", "/sys", "tmpfs", MS_NODEV | MS_NOSUID, "size=64k,mode=0755") < 0 ||
	    chdir("/sys") < 0 || mkdir("empty", 0755) < 0 || mkdir("root", 0755) < 0)
		return vps_err_sys(err, -errno, "make the stage");
	return 0;
}

static int place(int tree, int userns, size_t i, struct vps_err *err)
{
	struct mount_attr a = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV | MOUNT_ATTR_IDMAP,
			       .userns_fd = (uint64_t)userns};
	char name[24];
	int r = sys_mount_setattr(tree, "", AT_EMPTY_PATH, &a, sizeof(a));

	if (r == -EINVAL)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "the file system of the image store has no idmapped mounts: keep "
				   "it on ext4, xfs or btrfs");
	snprintf(name, sizeof(name), "%zx", i);
	if (r >= 0 && mkdir(name, 0755) < 0)
		r = -errno;
	if (r >= 0)
		r = sys_move_mount(tree, "", AT_FDCWD, name, MOVE_MOUNT_F_EMPTY_PATH);
	return r < 0 ? vps_err_sys(err, r, "place layer %zu", i) : 0;
}

static int stack(const struct build *b, struct vps_err *err)
{
	auto_strbuf opts = STRBUF_INIT;

	sb_add(&opts, "lowerdir=");
	for (size_t i = b->n; i > 0; i--) /* the uppermost first */
		sb_addf(&opts, "%zx:", i - 1);
	sb_add(&opts, "empty"); /* overlayfs wants two at least */
	if (sb_ok(&opts) < 0)
		return vps_err_sys(err, -ENOMEM, "overlay");
	if (mount("image", "root", "overlay", MS_RDONLY | MS_NODEV | MS_NOSUID, opts.s) < 0)
		return vps_err_sys(err, -errno, "stack the layers (overlay)");
	return 0;
}

static int become(int userns, struct vps_err *err)
{
	if (setns(userns, CLONE_NEWUSER) < 0 || setgroups(0, NULL) < 0 ||
	    setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return vps_err_sys(err, -errno, "drop privileges");
	return 0;
}

/* The same bytes from the same layers, on whatever host: a guest that moves has it mounted. Its checksum would be of the
 * time at which it was made. */
static int run_mkfs(const struct build *b, struct vps_err *err)
{
	/* the file is its stdout: the one fd that it has */
	static const char *const argv[] = {"mkfs.erofs", "--quiet", "-d1", "--preserve-mtime", "-Enosbcrc", "-U" UUID,
					   "/proc/self/fd/1", "root", NULL};
	struct proc_opts o = PROC_OPTS_INIT;

	o.out_fd = b->out;
	return proc_run_ok((char *const *)argv, &o, err);
}

static int work(const struct build *b, struct vps_err *err)
{
	int trees[MAX_LAYERS], r = 0;
	autoclose int userns = make_userns(b->id_base, err);

	if (userns < 0)
		return userns;
	/* open_tree(2) refuses mounts of a namespace that is not ours: before we leave it */
	for (size_t i = 0; i < b->n; i++) {
		trees[i] = sys_open_tree(b->layers[i], "", OPEN_TREE_CLONE | AT_EMPTY_PATH);
		if (trees[i] < 0)
			return vps_err_sys(err, trees[i], "open layer %zu", i);
	}
	if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) < 0)
		return vps_err_sys(err, -errno, "make namespaces");
	r = make_stage(err);
	for (size_t i = 0; r == 0 && i < b->n; i++)
		r = place(trees[i], userns, i, err);
	if (r == 0)
		r = stack(b, err);
	if (r == 0)
		r = become(userns, err);
	return r < 0 ? r : run_mkfs(b, err);
}

static int in_child(const struct build *b, struct vps_err *err)
{
	struct vps_err why = {0};
	int up[2];
	pid_t pid;

	if (pipe2(up, O_CLOEXEC) < 0)
		return vps_err_sys(err, -errno, "make a pipe");
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (work(b, &why) < 0 && write(up[1], &why, sizeof(why)) < 0)
			_exit(1);
		_exit(why.code ? 1 : 0);
	}
	close_fd(&up[1]);

	int status = 0, r = pid < 0 ? -errno : 0;

	if (pid > 0 && fs_read_full(up[0], &why, sizeof(why)) != sizeof(why))
		why.code = 0;
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	close_fd(&up[0]);
	if (why.code) {
		why.msg[sizeof(why.msg) - 1] = '\0';
		return vps_err_set(err, why.code, "%s", why.msg);
	}
	return r < 0 || status ? vps_err_sys(err, r < 0 ? r : -EIO, "make the EROFS") : 0;
}

/* ---- the store ----------------------------------------------------------------- */

static int open_layers(struct img_store *s, const struct img_info *image, struct build *b,
		       struct vps_err *err)
{
	if (image->n_layers == 0 || image->n_layers > MAX_LAYERS)
		return vps_err_set(err, VPS_EBADIMAGE, "%zu layers", image->n_layers);
	for (size_t i = 0; i < image->n_layers; i++) {
		int fd = img_layer_open(s, image->layers[i], err);

		if (fd < 0)
			return fd;
		b->layers[b->n++] = fd;
	}
	return 0;
}

static int forget_when(int fd)
{
	static const uint8_t never[MADE_LEN];

	return pwrite(fd, never, sizeof(never), MADE_AT) == sizeof(never) ? 0 : -EIO;
}

int img_erofs_digest(int fd, char digest[DIGEST_LEN], struct vps_err *err)
{
	ssize_t n = fgetxattr(fd, SUM_XATTR, digest, DIGEST_LEN - 1);
	uint64_t size;
	int r;

	digest[n > 0 ? n : 0] = '\0';
	if (n > 0 && digest_valid(digest))
		return 0;
	r = digest_of_fd(fd, digest, &size);
	if (r < 0)
		return vps_err_sys(err, r, "read the EROFS");
	/* else it is computed again */
	(void)fsetxattr(fd, SUM_XATTR, digest, strlen(digest), 0);
	return 0;
}

/* In the work folder, and into place when it is whole. */
static int make(struct img_store *s, const struct img_info *image, uint32_t id_base,
		const char *name, struct vps_err *err)
{
	auto_work struct img_work w = IMG_WORK_INIT;
	struct build b = {.id_base = id_base};
	int r = img_work_begin(s, &w, err);

	if (r < 0)
		return r;
	autoclose int out = openat(w.fd, "erofs", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	char digest[DIGEST_LEN];

	b.out = out;
	if (out < 0 || fchown(out, id_base, id_base) < 0)
		return vps_err_sys(err, -errno, "make the EROFS");
	r = open_layers(s, image, &b, err);
	if (r == 0)
		r = in_child(&b, err);
	while (b.n)
		close(b.layers[--b.n]);
	r = r ?: forget_when(out);
	r = r ?: img_erofs_digest(out, digest, err);
	if (r < 0)
		return vps_err_sys(err, r, "make the EROFS");
	if (fchown(out, 0, 0) < 0 || fchmod(out, 0400) < 0 || fsync(out) < 0 ||
	    renameat(w.fd, "erofs", s->erofs, name) < 0)
		return vps_err_sys(err, -errno, "place the EROFS");
	r = fs_sync_dir(s->erofs, ".");
	return r < 0 ? vps_err_sys(err, r, "place the EROFS") : 0;
}

int img_erofs_check(struct vps_err *err)
{
	autofree char *path = proc_find("mkfs.erofs");

	return path ? 0
		    : vps_err_set(err, VPS_EUNSUPPORTED,
				  "mkfs.erofs is not installed: apt-get install erofs-utils");
}

int img_erofs_open(struct img_store *s, const struct img_info *image, uint32_t id_base,
		   const struct img_opts *o, int *ret_fd, struct vps_err *err)
{
	char lock_name[DIGEST_LEN + 16];
	const char *name;
	int fd, r;

	if (!image->n_layers)
		return vps_err_set(err, VPS_EBADIMAGE, "an image without layers");
	name = img_hex(image->layers[image->n_layers - 1]);
	fd = openat(s->erofs, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT) {
		r = img_erofs_check(err);
		if (r < 0)
			return r;
		if (o && progress_tell(o->progress, 0, "make the EROFS", 0, 0))
			return vps_err_set(err, VPS_EINTERRUPTED, "interrupted");
		snprintf(lock_name, sizeof(lock_name), "lock.erofs.%s", name);
		autoclose int lock = lock_take(s->tmp, lock_name, true, LOCK_FOREVER);

		r = lock < 0 ? vps_err_sys(err, lock, "lock the EROFS") : 0;
		if (r == 0 && !fs_exists(s->erofs, name))
			r = make(s, image, id_base, name, err);
		if (lock >= 0)
			unlinkat(s->tmp, lock_name, 0);
		if (r < 0)
			return vps_err_wrap(err, r, "image as a disk for machines");
		fd = openat(s->erofs, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	}
	if (fd < 0)
		return vps_err_sys(err, -errno, "open the image's EROFS");
	*ret_fd = fd;
	return 0;
}
