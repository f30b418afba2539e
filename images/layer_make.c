/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Layers: unpacked once, named by chain id, never changed. A layer is made in a work folder and
 * renamed into place after syncfs, so that what has a chain id's name is whole on disk.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/lock.h"
#include "images/store.h"
#include "images/unpack.h"

#define LOCK_STEP_MS   250

/* ---- layer.json ---------------------------------------------------------- */

static int write_json(int dir, const struct img_layer *l, uint64_t dropped)
{
	auto_strbuf sb = STRBUF_INIT;
	struct json_out o = JSON_OUT(&sb, true);
	jo_object(&o, NULL);
	jo_str(&o, "chain", l->chain);
	jo_str(&o, "diff_id", l->diff_id);
	jo_str(&o, "parent", l->parent[0] ? l->parent : NULL);
	jo_u64(&o, "size", l->size);
	jo_u64(&o, "tar_size", l->tar_size);
	jo_u64(&o, "entries", l->entries);
	jo_int(&o, "newest", l->newest);
	jo_u64(&o, "xattrs_dropped", dropped);
	jo_strv(&o, "refused", l->refused);
	jo_end_object(&o);
	sb_addc(&sb, '\n');
	int r = sb_ok(&sb);
	return r < 0 ? r : fs_write_rename(dir, "layer.json", sb.s, sb.len, 0600);
}

/* ---- the layers below, top first ------------------------------------------ */

struct lowers {
	int fd[127];
	size_t n;
};

static void lowers_done(struct lowers *l)
{
	while (l->n)
		close(l->fd[--l->n]);
}

static int lowers_open(struct img_store *s, const char *parent, struct lowers *ret,
		       struct vps_err *err)
{
	char chain[DIGEST_LEN] = "";
	if (parent && *parent)
		memcpy(chain, parent, DIGEST_LEN);
	while (chain[0]) {
		if (ret->n == ARRAY_LEN(ret->fd))
			return vps_err_set(err, VPS_EBADIMAGE, "more than 127 layers");
		auto_done(img_layer_done) struct img_layer l = { 0 };
		int r = img_layer_read(s, chain, &l, err);
		if (r < 0)
			return r;
		int fd = img_layer_open(s, chain, err);
		if (fd < 0)
			return fd;
		ret->fd[ret->n++] = fd;
		memcpy(chain, l.parent, DIGEST_LEN);
	}
	return 0;
}

/* ---- making -------------------------------------------------------------- */

static int lease_and_look(struct img_work *w, const char *chain, struct vps_err *err)
{
	autoclose int lock = img_lock(w->s, false, err);
	if (lock < 0)
		return lock;
	int r = img_lease_locked(w, chain);
	if (r < 0)
		return vps_err_sys(err, r, "lease a layer");
	return fs_exists(w->s->layers, img_hex(chain));
}

int img_layer_has(struct img_work *w, const char *chain, struct vps_err *err)
{
	if (!digest_valid(chain))
		return vps_err_set(err, EINVAL, "not a chain id");
	return lease_and_look(w, chain, err);
}

/* One at a time unpacks a chain id; who waits can still be interrupted. */
static int layer_lock(struct img_work *w, const char *chain, const struct img_opts *o, unsigned key,
		      struct vps_err *err)
{
	char name[DIGEST_LEN + 8];
	snprintf(name, sizeof(name), "lock.%s", img_hex(chain));
	for (;;) {
		int fd = lock_take(w->s->tmp, name, true, LOCK_STEP_MS);
		if (fd != -EWOULDBLOCK)
			return fd < 0 ? vps_err_sys(err, fd, "lock a layer") : fd;
		if (progress_tell(o->progress, key, "wait for another unpack", 0, 0))
			return vps_err_set(err, VPS_EINTERRUPTED, "interrupted");
	}
}

static void layer_unlock(struct img_work *w, const char *chain, int *fd)
{
	char name[DIGEST_LEN + 8];
	if (*fd < 0)
		return;
	snprintf(name, sizeof(name), "lock.%s", img_hex(chain));
	unlinkat(w->s->tmp, name, 0);
	close_fd(fd);
}

/* From the work folder to layers/; somebody else's of the same name is as good. */
static int place_layer(struct img_work *w, const char *dir, const char *chain, struct vps_err *err)
{
	struct img_store *s = w->s;
	/* The one sync for all the files. It also reports what went wrong while writing back. */
	if (syncfs(s->layers) < 0)
		return vps_err_sys(err, -errno, "write the layer to disk");
	autoclose int lock = img_lock(s, false, err);
	if (lock < 0)
		return lock;
	bool there = fs_exists(s->layers, img_hex(chain));
	int r = there ? img_lease_locked(w, chain) : img_lease_new_locked(w, chain);
	if (r < 0)
		return vps_err_sys(err, r, "lease a layer");
	if (there)
		return 0;
	if (renameat(w->fd, dir, s->layers, img_hex(chain)) < 0)
		return vps_err_sys(err, -errno, "place a layer");
	r = fs_sync_dir(s->layers, ".");
	return r < 0 ? vps_err_sys(err, r, "place a layer") : 0;
}

/* The tar as the decoder wrote it, to a blob named by what it hashed to. */
static int keep_tar(struct img_work *w, int keep, const char *name, const char *diff_id,
		    struct vps_err *err)
{
	if (fsync(keep) < 0)
		return vps_err_sys(err, -errno, "write to the image store");
	autoclose int lock = img_lock(w->s, false, err);
	if (lock < 0)
		return lock;
	bool there = fs_exists(w->s->blobs, img_hex(diff_id));
	int r = there ? img_lease_locked(w, diff_id) : img_lease_new_locked(w, diff_id);
	if (r == 0 && renameat(w->fd, name, w->s->blobs, img_hex(diff_id)) < 0)
		r = -errno;
	if (r == 0)
		r = fs_sync_dir(w->s->blobs, ".");
	return r < 0 ? vps_err_sys(err, r, "place a blob") : 0;
}

static int make_layer(struct img_work *w, const struct img_layer_src *src, const struct img_opts *o,
		      const char *dir, int fs, struct img_layer *l, struct vps_err *err)
{
	auto_done(lowers_done) struct lowers low = { .n = 0 };
	int r = lowers_open(w->s, src->parent, &low, err);
	if (r < 0)
		return r;
	char keep_name[40];
	snprintf(keep_name, sizeof(keep_name), "%s.tar", dir);
	autoclose int keep = -1;
	if (src->keep) {
		keep = openat(w->fd, keep_name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (keep < 0)
			return vps_err_sys(err, -errno, "make a temporary file");
	}
	struct unpack_job job = {
		.fd = src->fd,
		.keep = keep,
		.root = fs,
		.lower = low.fd,
		.n_lower = low.n,
		.mode = src->parts  ? UNPACK_MEMBERS :
			src->look ? UNPACK_LOOK :
				    UNPACK_LAYER,
		.need_end = !src->diff_id,
		.size = src->size,
		.key = src->key,
		.opts = o,
	};
	auto_done(unpack_result_done) struct unpack_result res = { 0 };
	if ((r = unpack_run(&job, &res, err)) < 0)
		return r;
	if (res.members || src->parts) {
		l->members = true;
		unlinkat(w->fd, keep_name, 0);
		return 0;
	}
	if (src->diff_id && !str_eq(src->diff_id, res.diff_id))
		return vps_err_set(err, VPS_EDIGEST, "layer unpacks to %s, not the stated diff id %s",
				   res.diff_id, src->diff_id);
	memcpy(l->diff_id, res.diff_id, DIGEST_LEN);
	if (src->parent && *src->parent)
		memcpy(l->parent, src->parent, DIGEST_LEN);
	img_chain_next(src->parent, l->diff_id, l->chain);
	if (keep >= 0 && (r = keep_tar(w, keep, keep_name, l->diff_id, err)) < 0)
		return r;
	l->size = res.size;
	l->tar_size = res.tar_size;
	l->entries = res.entries;
	l->newest = res.newest;
	l->refused = take_ptr(res.refused);
	autoclose int d = fs_open_dir(w->fd, dir);
	r = d < 0 ? d : write_json(d, l, res.xattrs_dropped);
	if (r < 0)
		return vps_err_sys(err, r, "write layer.json");
	return place_layer(w, dir, l->chain, err);
}

static int unpack_new(struct img_work *w, const struct img_layer_src *src, const struct img_opts *o,
		      struct img_layer *l, struct vps_err *err)
{
	char dir[32], sub[40];
	snprintf(dir, sizeof(dir), "layer.%u", w->count++);
	snprintf(sub, sizeof(sub), "%s/fs", dir);
	int r = fs_mkdir_p(w->fd, sub, 0700);
	autoclose int fs = r < 0 ? r : fs_open_dir(w->fd, sub);
	if (fs < 0)
		return vps_err_sys(err, fs, "make a layer's folder");
	r = make_layer(w, src, o, dir, fs, l, err);
	if (r == 0 && l->members)
		snprintf(l->members_dir, sizeof(l->members_dir), "%s", sub);
	else
		fs_remove_tree(w->fd, dir); /* gone already when all went well */
	return r;
}

int img_layer_from_fd(struct img_work *w, const struct img_layer_src *src, const struct img_opts *o,
		      struct img_layer *ret, struct vps_err *err)
{
	struct img_opts opts = img_opts_fill(o);
	auto_done(img_layer_done) struct img_layer l = { 0 };
	char chain[DIGEST_LEN] = "";
	int lock = -1, r = 0;

	if (src->diff_id) {
		if (!digest_valid(src->diff_id))
			return vps_err_set(err, VPS_EBADIMAGE, "diff id is not a sha256 digest");
		img_chain_next(src->parent, src->diff_id, chain);
		r = lease_and_look(w, chain, err);
		if (r == 0) {
			lock = r = layer_lock(w, chain, &opts, src->key, err);
			if (r >= 0)
				r = lease_and_look(w, chain, err);
		}
	}
	if (r == 0)
		r = unpack_new(w, src, &opts, &l, err);
	else if (r > 0)
		r = img_layer_read(w->s, chain, &l, err);
	layer_unlock(w, chain, &lock);
	if (r < 0)
		return r;
	if (progress_tell(opts.progress, src->key, "unpack", src->size, src->size))
		return vps_err_set(err, VPS_EINTERRUPTED, "interrupted");
	if (ret) {
		*ret = l;
		l = (struct img_layer){ 0 };
	}
	return 0;
}
