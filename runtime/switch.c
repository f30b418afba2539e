// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The other wall for a stopped VPS (set --isolation). A disk that a guest kernel could write is never mounted
 * here (I5), and a machine has only an image file: where the disk at hand will not do, its files are copied.
 *
 * The old side packs its merged root: a container's in its own namespaces, a machine's by its own kernel,
 * which boots for that. Behind the container's wall the stream is unpacked over the image's layers and a fresh
 * disk; what equals the image is not written.
 *
 * The same way a snapshot's disk becomes a VPS's (switch_begin, set_exchange).
 *
 *   switch/new/disk   the copy; of no account until set's marker is there, then about to be the disk
 *   switch/new/suspended   of a snapshot with memory: what it goes on from
 *   switch/new/first-boot, booted   of a snapshot: whether the next boot is the first on that disk
 *   switch/old/disk   what was the disk; to be removed
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "runtime/inside.h"
#include "runtime/microvm/microvm.h"
#include "runtime/migrate/feeder.h"
#include "runtime/migrate/migrate.h"
#include "runtime/migrate/suspend.h"
#include "runtime/tar.h"

#define SWITCH "switch"
#define NEW    SWITCH "/new"
#define OLD    SWITCH "/old"
#define DISK   "disk"
#define FIRST_BOOT "first-boot"
#define BOOTED	   "booted"

/* ---- what is there, and away with it ---------------------------------------------- */

static int destroy(struct vps_locked *l, const char *dir, struct vps_err *err)
{
	autoclose int fd = fs_open_dir(l->dir, dir);

	return fd < 0 ? 0 : img_disk_destroy(fd, DISK_AUTO, err);
}

int switch_clean(struct vps_locked *l, struct vps_err *err)
{
	int r;

	if (!fs_exists(l->dir, SWITCH))
		return 0;
	r = destroy(l, NEW, err);
	r = r ?: destroy(l, OLD, err);
	if (r < 0)
		return r;
	r = fs_remove_tree(l->dir, SWITCH);
	return r < 0 ? vps_err_sys(err, r, "remove " SWITCH) : 0;
}

static int rename_disk(int dir, const char *from, const char *to, struct vps_err *err)
{
	int r = renameat(dir, from, dir, to) < 0 ? -errno : fs_sync_dir(dir, ".");

	return r < 0 ? vps_err_sys(err, r, "rename '%s'", from) : 0;
}

/* The files of the first boot belong to a disk. */
static int exchange_boot(int dir)
{
	if (fs_exists(dir, NEW "/" FIRST_BOOT) && unlinkat(dir, FIRST_BOOT_DONE, 0) < 0 && errno != ENOENT)
		return -errno;
	return fs_exists(dir, NEW "/" BOOTED) ? fs_write_rename(dir, FIRST_BOOT_DONE, "", 0, 0600) : 0;
}

/* May be cut anywhere and be called again: as long as the new disk is in its place, it has not happened. */
int switch_commit(struct vps_locked *l, struct vps_err *err)
{
	int r;

	if (!fs_exists(l->dir, NEW "/" DISK))
		return 0;
	r = exchange_boot(l->dir);
	if (r < 0)
		return vps_err_sys(err, r, "first boot");
	/* Of no account before the VPS, which is stopped, has the disk that goes with it: its marker comes before a start. */
	if (fs_exists(l->dir, NEW "/" SUSPENDED)) {
		r = fs_remove_tree(l->dir, SUSPENDED);
		r = r < 0 ? vps_err_sys(err, r, "remove " SUSPENDED)
			  : rename_disk(l->dir, NEW "/" SUSPENDED, SUSPENDED, err);
		if (r < 0)
			return r;
	}
	if (fs_exists(l->dir, DISK)) {
		r = fs_mkdir_p(l->dir, OLD, 0700);
		r = r < 0 ? vps_err_sys(err, r, "make " OLD)
			  : rename_disk(l->dir, DISK, OLD "/" DISK, err);
	}
	return r ?: rename_disk(l->dir, NEW "/" DISK, DISK, err);
}

/* ---- the copy ------------------------------------------------------------------------ */

struct stream {
	int fd;
	int left_out;
};

static int open_top(struct vps_err *err)
{
	int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? vps_err_sys(err, -errno, "open the root") : fd;
}

static int pack_inside(void *arg, struct vps_err *err)
{
	const struct stream *s = arg;
	autoclose int top = open_top(err);

	return top < 0 ? top : tar_pack_tree(top, s->fd, err);
}

static int unpack_inside(void *arg, struct vps_err *err)
{
	const struct stream *s = arg;
	autoclose int top = -1;

	umask(0);
	top = open_top(err);
	return top < 0 ? top : tar_sync(top, s->fd, err);
}

static struct vps_run run_of(struct vps_locked *l, const struct vps_spec *spec, const struct stopped_root *root)
{
	return (struct vps_run){
		.spec = spec,
		.conf = &l->h->conf,
		.layers = root->layers,
		.n_layers = root->n_layers,
		.disk_mount = root->disk,
		.image = root->erofs,
		.disk_image = root->disk_image,
		.instance_dir = l->dir,
		.run_dir = -1,
		.lxcfs_root = -1,
		.checkpoint = -1,
	};
}

/* The old side, in a child of its own: the two ends of a stream must not wait for each other. */
static int pack_old(void *arg, int fd, struct feeder_report *rep)
{
	auto_done(root_done) struct stopped_root root = STOPPED_ROOT_INIT;
	struct vps_locked *l = arg;
	struct vps_err *err = &rep->err;
	struct stream s = {.fd = fd};
	struct vps_run run;
	bool machine = l->spec.isolation == ISOLATION_VM;
	int r = machine ? root_open_image(l, &root, err) : root_open(l, &root, err);

	if (r == 0 && machine)
		r = root_open_machine_disk(l, &root, err);
	if (r < 0)
		return r;
	run = run_of(l, &l->spec, &root);
	return machine ? vm_export(&run, fd, err) : container_driver.inside_stopped(&run, pack_inside, &s, err);
}

static int unpack_new(struct vps_locked *l, const struct vps_spec *now, int dir, enum img_backend b, int fd,
		      struct vps_err *err)
{
	auto_done(root_done) struct stopped_root root = STOPPED_ROOT_INIT;
	struct stream s = {.fd = fd};
	autoclose int upper = -1;
	struct vps_run run;
	int r = root_open_image(l, &root, err);

	r = r ?: img_disk_attach(dir, b, false, &root.disk, err);
	if (r < 0)
		return r;
	upper = openat(root.disk, "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	run = run_of(l, now, &root);
	r = container_driver.inside_stopped(&run, unpack_inside, &s, err);
	/* The disk's file system, then that of the disk's image file. */
	if (r >= 0 && (upper < 0 || syncfs(upper) < 0 || syncfs(dir) < 0))
		r = vps_err_sys(err, -errno, "write the new disk");
	return r < 0 ? r : 0;
}

static int copy(struct vps_locked *l, struct vps_spec *now, int dir, struct vps_err *err)
{
	struct vps_err packed = {0}, unpacked = {0};
	struct feeder f = FEEDER_INIT;
	struct img_disk_spec d;
	enum img_backend b;
	int r, w;

	plan_disk(now, &d);
	r = img_disk_create(dir, &d, &b, err);
	r = r ?: str_set(&now->disk_backend, img_backend_name(b));
	if (r < 0)
		return vps_err_sys(err, r, "new disk");
	r = feeder_start(pack_old, l, &f, err);
	if (r < 0)
		return r;
	r = unpack_new(l, now, dir, b, f.data, &unpacked);
	/* The packer's words first: a stream that ends too early is only what follows from them. */
	w = feeder_end(&f, NULL, &packed);
	if (r < 0 && (w == 0 || packed.code == EPIPE))
		return vps_err_set(err, unpacked.code, "%s", unpacked.msg);
	return w < 0 ? vps_err_set(err, packed.code, "%s", packed.msg) : 0;
}

static bool must_copy(struct vps_locked *l, const struct vps_spec *now)
{
	if (now->isolation == ISOLATION_VM)
		return !str_eq(l->spec.disk_backend, "loop");
	return img_disk_is_guests(l->dir);
}

/* Before anything is asked of the host: a disk of the kind that the new wall can have. */
int switch_plan(struct vps_locked *l, struct vps_spec *now, struct vps_err *err)
{
	int r = 0;

	if (now->isolation == l->spec.isolation)
		return 0;
	if (now->isolation == ISOLATION_VM)
		r = str_set(&now->disk_backend, "loop");
	else if (must_copy(l, now))
		r = str_set(&now->disk_backend, l->h->conf.disk_backend);
	return r < 0 ? vps_err_sys(err, r, "isolation") : 0;
}

int switch_prepare(struct vps_locked *l, struct vps_spec *now, struct vps_err *err)
{
	autoclose int dir = -1;
	int r;

	if (now->isolation == l->spec.isolation || !must_copy(l, now))
		return 0;
	r = fs_mkdir_p(l->dir, NEW, 0700);
	dir = r < 0 ? r : fs_open_dir(l->dir, NEW);
	if (dir < 0)
		return vps_err_sys(err, dir, "make " NEW);
	r = copy(l, now, dir, err);
	if (r < 0) {
		switch_clean(l, NULL);
		return vps_err_wrap(err, r, "copying the files to a new disk");
	}
	r = fs_sync_dir(l->dir, NEW);
	return r < 0 ? vps_err_sys(err, r, "write the new disk") : 0;
}

int switch_begin(struct vps_locked *l, const struct switch_disk *d, const struct progress *p, struct vps_err *err)
{
	autoclose int dir = -1;
	int r = fs_mkdir_p(l->dir, NEW, 0700);

	dir = r < 0 ? r : fs_open_dir(l->dir, NEW);
	if (dir < 0)
		return vps_err_sys(err, dir, "make " NEW);
	r = img_disk_copy(d->from, d->was, dir, d->d, NULL, p, err);
	if (r == 0 && d->memory && snap_has_memory(d->from))
		r = snap_memory_back(l, d->from, dir, p, err);
	if (r == 0) {
		r = fs_write_rename(dir, d->booted ? BOOTED : FIRST_BOOT, "", 0, 0600);
		r = r ?: fs_sync_dir(dir, ".");
		if (r < 0)
			vps_err_sys(err, r, "write the new disk");
	}
	if (r < 0)
		switch_clean(l, NULL);
	return r;
}
