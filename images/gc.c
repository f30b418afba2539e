/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Collecting what nobody uses: mark from references, pins and the leases of work in progress; what is not
 * marked is renamed into our work folder, all under the exclusive lock and quick; deleting it
 * comes after. A kill in between leaves a dead work folder, which the next one removes.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "images/store.h"

#define HEX_LEN 65

struct marks {
	char (*v)[HEX_LEN];
	size_t n, cap;
};

static void marks_done(struct marks *m)
{
	free(m->v);
	*m = (struct marks){ 0 };
}

static int mark(struct marks *m, const char *hex)
{
	if (mem_grow(m->v, m->n, m->cap) < 0)
		return -ENOMEM;
	snprintf(m->v[m->n++], HEX_LEN, "%s", hex);
	return 0;
}

static int cmp_hex(const void *a, const void *b) { return strcmp(a, b); }

static bool marked(const struct marks *m, const char *name)
{
	char key[HEX_LEN];
	if (strlen(name) >= HEX_LEN)
		return false;
	strcpy(key, name);
	return m->n && bsearch(key, m->v, m->n, sizeof(*m->v), cmp_hex);
}

/* Manifest, config, layer blobs and layers of one image. What cannot be read cannot be marked, and then
 * nothing may be swept: a running VPS may stand on it. */
static int mark_image(struct img_store *s, const char *digest, struct marks *m, struct vps_err *err)
{
	autofree char *text = NULL;
	size_t len;
	struct img_opts o = img_opts_fill(NULL);
	auto_done(img_manifest_done) struct img_manifest mf = { 0 };
	auto_done(img_info_done) struct img_info i = { 0 };
	int r = img_info_load(s, digest, &i, err);
	if (r < 0 || (r = img_blob_read(s, digest, &text, &len, err)) < 0 ||
	    (r = img_manifest_parse(text, len, NULL, &o.caps, &mf, err)) < 0)
		return vps_err_wrap(err, r, "nothing collected, as image %.19s cannot be read "
				    "(remove it, or pull or import it again)", digest);
	r = mark(m, img_hex(digest));
	if (r == 0)
		r = mark(m, img_hex(mf.config.digest));
	for (size_t k = 0; r == 0 && k < mf.n_layers; k++) {
		r = mark(m, img_hex(mf.layers[k].digest));
		if (r == 0)
			r = mark(m, img_hex(i.diff_ids[k])); /* a kept tar */
		if (r == 0)
			r = mark(m, img_hex(i.layers[k]));
	}
	return r < 0 ? vps_err_sys(err, r, "gc") : 0;
}

static int mark_all(struct img_store *s, struct marks *m, struct vps_err *err)
{
	auto_done(img_refs_done) struct img_refs refs = { 0 }, pins = { 0 };
	auto_strv leases = NULL;
	const struct img_refs *lists[] = { &refs, &pins };
	int r = img_refs_read(s, &refs);
	if (r == 0)
		r = img_pins_read(s, &pins);
	if (r == 0)
		r = img_leases_read(s, &leases);
	if (r < 0)
		return vps_err_sys(err, r, "read the image references");
	for (size_t l = 0; l < 2; l++)
		for (size_t i = 0; i < lists[l]->n; i++) {
			bool seen = false;
			for (size_t k = i; k-- && !seen;)
				seen = str_eq(lists[l]->v[k].digest, lists[l]->v[i].digest);
			if (!seen && (r = mark_image(s, lists[l]->v[i].digest, m, err)) < 0)
				return r;
		}
	for (size_t i = 0; leases && leases[i]; i++)
		if (mark(m, leases[i]) < 0)
			return vps_err_sys(err, -ENOMEM, "gc");
	if (m->n)
		qsort(m->v, m->n, sizeof(*m->v), cmp_hex);
	return 0;
}

static bool is_manifest(struct img_store *s, const char *hex)
{
	autofree char *text = NULL;
	size_t len;
	enum img_media kind;
	char first;
	int fd = openat(s->blobs, hex, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	bool json = fd >= 0 && read(fd, &first, 1) == 1 && first == '{';
	close_fd(&fd);
	return json && fs_read(s->blobs, hex, IMG_DOC_MAX, &text, &len) == 0 &&
	       img_doc_kind(text, len, NULL, &kind, NULL) == 0 && kind == IMG_MEDIA_MANIFEST;
}

struct sweep {
	struct img_store *s;
	struct img_work *w; /* NULL: dry */
	const struct marks *m;
	struct img_gc_result res;
};

/* What is not marked in one folder; unknown names go too: nothing else belongs there. */
static int sweep_dir(struct sweep *sw, int dirfd, bool layers, struct vps_err *err)
{
	auto_strv names = NULL;
	int r = fs_list(dirfd, ".", &names);
	if (r < 0)
		return vps_err_sys(err, r, "gc");
	for (size_t i = 0; names && names[i]; i++) {
		char to[24];
		if (marked(sw->m, names[i]))
			continue;
		bool manifest = !layers && is_manifest(sw->s, names[i]);
		if (!sw->w) {
			sw->res.bytes += img_tree_bytes(dirfd, names[i]);
		} else {
			snprintf(to, sizeof(to), "dead.%u", sw->w->count++);
			if (renameat(dirfd, names[i], sw->w->fd, to) < 0)
				return vps_err_sys(err, -errno, "gc");
		}
		sw->res.layers += layers;
		sw->res.blobs += !layers;
		sw->res.images += manifest;
	}
	return 0;
}

/* What is left of an image that was exported. */
static int sweep_exports(struct sweep *sw, struct vps_err *err)
{
	auto_strv names = NULL;
	int r = fs_list(sw->s->exports, ".", &names);
	for (size_t i = 0; r == 0 && sw->w && names && names[i]; i++) {
		char of[DIGEST_LEN];
		bool known = fs_read_buf(sw->s->exports, names[i], of, sizeof(of)) > 0 && digest_valid(of);
		if (!(known && marked(sw->m, img_hex(of))) && unlinkat(sw->s->exports, names[i], 0) < 0)
			r = -errno;
	}
	return r < 0 ? vps_err_sys(err, r, "gc") : 0;
}

static int mark_and_sweep(struct sweep *sw, struct vps_err *err)
{
	auto_done(marks_done) struct marks m = { 0 };
	autoclose int lock = img_lock(sw->s, true, err);
	if (lock < 0)
		return lock;
	int r = mark_all(sw->s, &m, err);
	if (r < 0)
		return r;
	sw->m = &m;
	/* who writes one of these holds the lock */
	const int dirs[] = { sw->s->refs, sw->s->pins, sw->s->exports };
	for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
		r = fs_remove_temps(dirs[i], ".", 0, !sw->w);
		if (r < 0)
			return vps_err_sys(err, r, "gc");
		sw->res.temps += (unsigned)r;
	}
	r = sweep_exports(sw, err);
	r = r < 0 ? r : sweep_dir(sw, sw->s->layers, true, err);
	r = r < 0 ? r : sweep_dir(sw, sw->s->erofs, false, err);
	return r < 0 ? r : sweep_dir(sw, sw->s->blobs, false, err);
}

static int sweep_one(struct img_store *s, int work, const char *hex, unsigned *n)
{
	char to[32];
	const int dirs[] = { s->layers, s->blobs };
	for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
		snprintf(to, sizeof(to), "undo.%u", (*n)++);
		if (renameat(dirs[i], hex, work, to) < 0 && errno != ENOENT)
			return -errno;
	}
	return 0;
}

int img_sweep_new(struct img_store *s, int work)
{
	auto_strv names = NULL;
	auto_done(marks_done) struct marks m = { 0 };
	unsigned n = 0, found = 0;
	int r = fs_list(work, ".", &names);
	if (r < 0)
		return r;
	for (size_t i = 0; names && names[i]; i++)
		found += str_starts(names[i], "new.");
	if (!found)
		return 0;
	autoclose int lock = img_lock(s, true, NULL);
	if (lock < 0)
		return lock;
	/* our own leases are over; everybody else's count */
	for (size_t i = 0; names[i]; i++)
		if (str_starts(names[i], "use.") && unlinkat(work, names[i], 0) < 0)
			return -errno;
	r = mark_all(s, &m, NULL);
	for (size_t i = 0; r == 0 && names[i]; i++)
		if (str_starts(names[i], "new.") && !marked(&m, names[i] + 4))
			r = sweep_one(s, work, names[i] + 4, &n);
	return r;
}

int img_gc(struct img_store *s, bool dry, struct img_gc_result *ret, struct vps_err *err)
{
	auto_work struct img_work w = IMG_WORK_INIT;
	struct sweep sw = { .s = s };
	int r = img_work_clean(s, dry, &sw.res.bytes);
	if (r < 0)
		return vps_err_sys(err, r, "gc");
	sw.res.temps = (unsigned)r;
	if (!dry && (r = img_work_begin(s, &w, err)) < 0)
		return r;
	sw.w = dry ? NULL : &w;
	uint64_t own = dry ? 0 : img_tree_bytes(s->tmp, w.name);
	if ((r = mark_and_sweep(&sw, err)) < 0)
		return r;
	if (!dry)
		sw.res.bytes += img_tree_bytes(s->tmp, w.name) - own;
	if (ret)
		*ret = sw.res;
	return 0;
}
