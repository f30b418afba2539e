// SPDX-License-Identifier: GPL-2.0-or-later
/* cp: a tar stream packed or unpacked by a helper inside the VPS, or inside a stopped one's root.
 * Between entering and the end nothing but system calls and our own code runs there. */
#include <stdlib.h>
#include <string.h>

#include "runtime/inside.h"
#include "runtime/internal.h"
#include "runtime/microvm/microvm.h"
#include "runtime/tar.h"

struct copy {
	const char *path;
	int fd;
	long uid, gid;
};

static int pack_inside(void *arg, struct vps_err *err)
{
	const struct copy *c = arg;

	return tar_pack_path(c->path, c->fd, err);
}

static int unpack_inside(void *arg, struct vps_err *err)
{
	const struct copy *c = arg;

	return tar_unpack_path(c->path, c->uid, c->gid, c->fd, err);
}

/* In a stopped VPS, under its lock: a start must not mount the same disk meanwhile. */
/* A disk that a guest's kernel could write is no other kernel's to mount (I5). */
static int copy_machine(struct vps_locked *l, int (*fn)(void *, struct vps_err *), struct copy *c,
			struct vps_err *err)
{
	auto_done(root_done) struct stopped_root root = STOPPED_ROOT_INIT;
	struct vps_run run = {
		.spec = &l->spec, .conf = &l->h->conf, .instance_dir = l->dir, .run_dir = -1,
		.lxcfs_root = -1, .checkpoint = -1};
	int r = microvm_driver.check(&l->spec, &l->h->conf, err);

	r = r ?: root_open_image(l, &root, err);
	r = r ?: root_open_machine_disk(l, &root, err);
	if (r < 0)
		return r;
	run.image = root.erofs;
	run.disk_image = root.disk_image;
	return fn == pack_inside ? vm_pack_stopped(&run, c->path, c->fd, err)
				 : vm_unpack_stopped(&run, c->path, c->uid, c->gid, c->fd, err);
}

static int copy_stopped(struct vps_host *h, const char *who, const char *verb,
			int (*fn)(void *, struct vps_err *), struct copy *c, struct vps_err *err)
{
	auto_locked l = VPS_LOCKED_INIT;
	auto_done(root_done) struct stopped_root root = STOPPED_ROOT_INIT;
	struct vps_run run = {.checkpoint = -1};
	int r = vps_lock(h, who, verb, &l, err);

	r = r ?: need_stopped(&l, "copied from or into", err);
	if (r == 0 && l.spec.isolation == ISOLATION_VM && img_disk_is_guests(l.dir))
		return copy_machine(&l, fn, c, err);
	/* A machine's disk that no guest kernel has had yet is like any other. */
	r = r ?: root_open(&l, &root, err);
	if (r < 0)
		return r;
	run.spec = &l.spec;
	run.conf = &h->conf;
	run.layers = root.layers;
	run.n_layers = root.n_layers;
	run.disk_mount = root.disk;
	run.instance_dir = l.dir;
	run.run_dir = -1;
	run.lxcfs_root = -1;
	return container_driver.inside_stopped(&run, fn, c, err);
}

static int copy_running(struct inside *i, int (*fn)(void *, struct vps_err *), struct copy *c,
			struct vps_err *err)
{
	if (i->driver->inside)
		return i->driver->inside(&i->live, fn, c, err);
	return fn == pack_inside ? i->driver->pack(&i->live, c->path, c->fd, err)
				 : i->driver->unpack(&i->live, c->path, c->uid, c->gid, c->fd, err);
}

static int copy(struct vps_host *h, const char *who, const char *verb,
		int (*fn)(void *, struct vps_err *), struct copy *c, struct vps_err *err)
{
	auto_done(inside_done) struct inside i = INSIDE_INIT;
	autofree char *path = str_fmt("%s%s", *c->path == '/' ? "" : "/", c->path);
	struct run_state state;
	unsigned id;
	int r = store_find(h, who, &id, err);

	if (!path)
		r = vps_err_sys(err, -ENOMEM, "cp");
	if (r < 0)
		return r;
	c->path = path;
	if (run_init(h, id, who, &state, NULL) < 0) {
		r = copy_stopped(h, who, verb, fn, c, err);
	} else {
		r = inside_open(h, who, &i, err);
		r = r ?: copy_running(&i, fn, c, err);
	}
	return r < 0 ? vps_err_wrap(err, r, "cp") : 0;
}

int vps_copy_out(struct vps_host *h, const char *who, const char *path, int tar_fd,
		 struct vps_err *err)
{
	struct copy c = {.path = path, .fd = tar_fd, .uid = -1, .gid = -1};

	return copy(h, who, "cp", pack_inside, &c, err);
}

int vps_copy_in(struct vps_host *h, const char *who, const char *path, int tar_fd, long chown_uid,
		long chown_gid, struct vps_err *err)
{
	struct copy c = {.path = path, .fd = tar_fd, .uid = chown_uid, .gid = chown_gid};

	if (chown_uid > 65535 || chown_gid > 65535)
		return vps_err_set(err, VPS_EUSAGE, "ids inside end at 65535");
	return copy(h, who, "cp", unpack_inside, &c, err);
}

int vps_tar_pack(int dirfd, const char *name, const char *as, int tar_fd, struct vps_err *err)
{
	return tar_pack(dirfd, name, as, tar_fd, err);
}

int vps_tar_unpack(int dirfd, const char *as, int tar_fd, struct vps_err *err)
{
	struct tar_unpack_opts o = {.as = as, .host = true, .uid = -1, .gid = -1};

	return tar_unpack(dirfd, &o, tar_fd, err);
}
