/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An OCI image layout (image-spec 1.1, image-layout.md) in a folder, or unpacked from a tar. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/inroot.h"
#include "base/json.h"
#include "images/store.h"

#define CHUNK (256u << 10)

/* A blob of the layout as a regular file. */
static int open_part(const struct img_parts *p, const struct img_desc *d, struct vps_err *err)
{
	char path[DIGEST_LEN + 16];
	struct stat st;
	snprintf(path, sizeof(path), "blobs/sha256/%s", img_hex(d->digest));
	autoclose int fd = inroot_open(p->dir, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	if (fd == -ENOENT)
		return vps_err_set(err, VPS_EBADIMAGE, "the layout has no %s", path);
	if (fd < 0)
		return vps_err_sys(err, fd, "open %s", path);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return vps_err_set(err, VPS_EBADIMAGE, "%s is not a regular file", path);
	return take_fd(fd);
}

/* Into the work folder, hashed on the way and verified: what is read later is what was hashed. */
static int take_part(const struct img_parts *p, const struct img_desc *d, uint64_t max,
		     struct img_ingest **ret, struct vps_err *err)
{
	auto_done(img_ingest_freep) struct img_ingest *in = NULL;
	autoclose int fd = open_part(p, d, err);
	if (fd < 0)
		return fd;
	autofree char *buf = malloc(CHUNK);
	if (!buf)
		return vps_err_sys(err, -ENOMEM, "import");
	int r = img_ingest_begin(p->w, d->digest, d->size, max, &in, err);
	if (r < 0)
		return r;
	for (;;) {
		ssize_t n = fs_read_full(fd, buf, CHUNK);
		if (n < 0)
			return vps_err_sys(err, (int)n, "read a blob");
		if (n == 0)
			break;
		if ((r = img_ingest_write(in, buf, (size_t)n, err)) < 0)
			return r;
		if (progress_tell(p->o->progress, 0, "copy", img_ingest_bytes(in), d->size))
			return vps_err_set(err, VPS_EINTERRUPTED, "interrupted");
	}
	if ((r = img_ingest_end(in, NULL, err)) < 0)
		return r;
	*ret = take_ptr(in);
	return 0;
}

/* An index is only looked at; manifest and config stay. */
static int take_doc(const struct img_parts *p, const struct img_desc *d, char **text, size_t *len,
		    struct vps_err *err)
{
	auto_done(img_ingest_freep) struct img_ingest *in = NULL;
	int r = take_part(p, d, IMG_DOC_MAX, &in, err);
	if (r < 0)
		return r;
	if (d->media != IMG_MEDIA_INDEX) {
		r = img_ingest_keep(in, err);
		return r < 0 ? r : img_blob_read(p->w->s, d->digest, text, len, err);
	}
	autoclose int fd = img_ingest_open(in, err);
	autofree char *buf = malloc(d->size + 1);
	if (fd < 0 || !buf)
		return vps_err_sys(err, fd < 0 ? fd : -ENOMEM, "read an index");
	ssize_t n = fs_read_full(fd, buf, d->size);
	if (n < 0 || (uint64_t)n != d->size)
		return vps_err_sys(err, n < 0 ? (int)n : -EIO, "read an index");
	buf[n] = 0;
	*text = take_ptr(buf);
	*len = (size_t)n;
	return 0;
}

/* fd of a verified packed layer. */
static int verified_layer(const struct img_parts *p, const struct img_desc *d,
			  struct vps_err *err)
{
	if (!p->ours || p->o->keep_blobs) {
		auto_done(img_ingest_freep) struct img_ingest *in = NULL;
		int r = take_part(p, d, 0, &in, err);
		if (r < 0 || (p->o->keep_blobs && (r = img_ingest_keep(in, err)) < 0))
			return r;
		return img_ingest_open(in, err);
	}
	char got[DIGEST_LEN];
	uint64_t size;
	autoclose int fd = open_part(p, d, err);
	if (fd < 0)
		return fd;
	int r = digest_of_fd(fd, got, &size);
	if (r < 0)
		return vps_err_sys(err, r, "read a layer");
	if (size != d->size || !str_eq(got, d->digest))
		return vps_err_set(err, VPS_EDIGEST, "layer is %s (%llu bytes), not the stated %s",
				   got, (unsigned long long)size, d->digest);
	if (lseek(fd, 0, SEEK_SET) < 0)
		return vps_err_sys(err, -errno, "read a layer");
	return take_fd(fd);
}

static int take_layers(const struct img_parts *p, const struct img_manifest *m,
		       const struct img_info *i, struct vps_err *err)
{
	for (size_t k = 0; k < m->n_layers; k++) {
		int r = img_layer_has(p->w, i->layers[k], err);
		if (r < 0)
			return r;
		if (r > 0)
			continue;
		autoclose int fd = verified_layer(p, &m->layers[k], err);
		if (fd < 0)
			return vps_err_wrap(err, fd, "layer %zu", k + 1);
		struct img_layer_src src = {
			.fd = fd,
			.parent = k ? i->layers[k - 1] : NULL,
			.diff_id = i->diff_ids[k],
			.size = m->layers[k].size,
			.key = (unsigned)k,
		};
		r = img_layer_from_fd(p->w, &src, p->o, NULL, err);
		if (r < 0)
			return vps_err_wrap(err, r, "layer %zu", k + 1);
	}
	return 0;
}

static int take_image(const struct img_parts *p, const struct img_desc *d, const char *ref,
		      char *digest, struct vps_err *err)
{
	autofree char *text = NULL, *conf = NULL;
	size_t len, clen;
	auto_done(img_manifest_done) struct img_manifest m = { 0 };
	auto_done(img_info_done) struct img_info i = { 0 };
	int r = take_doc(p, d, &text, &len, err);
	if (r < 0)
		return r;
	if (d->media == IMG_MEDIA_INDEX) {
		/* one of several platforms: one step down, not more */
		struct img_desc leaf;
		r = img_index_pick(text, len, d->media_type, p->o->arch, NULL, &leaf, err);
		if (r < 0)
			return r;
		if (leaf.media != IMG_MEDIA_MANIFEST)
			return vps_err_set(err, VPS_EBADIMAGE, "index in an index in an index");
		return take_image(p, &leaf, ref, digest, err);
	}
	if ((r = img_manifest_parse(text, len, d->media_type, &p->o->caps, &m, err)) < 0 ||
	    (r = take_doc(p, &m.config, &conf, &clen, err)) < 0 ||
	    (r = img_config_parse(conf, clen, m.n_layers, &i, err)) < 0 ||
	    (r = img_arch_check(&i, p->o, err)) < 0 || (r = take_layers(p, &m, &i, err)) < 0)
		return r;
	memcpy(digest, d->digest, DIGEST_LEN);
	return img_register(p->w, digest, ref, err);
}

static int read_index(const struct img_parts *p, char **text, size_t *len, struct vps_err *err)
{
	autofree char *layout = NULL;
	auto_json j = NULL;
	size_t n;
	int r = inroot_read_file(p->dir, "oci-layout", 4096, &layout, &n);
	if (r < 0)
		return vps_err_sys(err, r, "read oci-layout");
	if ((r = img_json_parse("oci-layout", layout, n, &j, err)) < 0)
		return r;
	const char *v = json_str(json_get(j, "imageLayoutVersion"), "");
	if (!str_starts(v, "1."))
		return vps_err_set(err, VPS_EBADIMAGE, "OCI layout of an unknown version");
	r = inroot_read_file(p->dir, "index.json", IMG_DOC_MAX, text, len);
	return r < 0 ? vps_err_sys(err, r, "read index.json") : 0;
}

/* How well an entry answers to a name: its full name, or at least its tag. */
static int answers(const struct img_index_item *it, const struct img_ref *r, const char *want)
{
	char name[IMG_REF_MAX + 1];
	if (it->name && img_ref_canonical(it->name, name, NULL) == 0 && str_eq(name, want))
		return 2;
	return str_eq(it->tag, r->tag[0] ? r->tag : "latest");
}

/* Under the name that the caller gave: the entry that answers to it, or the only one for this machine.
 * Never one of several by chance. */
static int import_one(const struct img_parts *p, const struct img_index *x, char *digest,
		      struct vps_err *err)
{
	char want[IMG_REF_MAX + 1];
	struct img_ref r;
	const struct img_index_item *best = NULL;
	int score = -1;
	bool several = false;
	int e = img_ref_parse(p->ref, &r, err);
	if (e < 0 || (e = img_ref_name(&r, want, err)) < 0)
		return e;
	for (size_t i = 0; i < x->n; i++) {
		const struct img_index_item *it = &x->v[i];
		int f = img_index_fit(it, p->o->arch, NULL);
		int sc = f ? 8 * answers(it, &r, want) + f : -1;
		if (sc > score)
			several = false;
		else if (sc == score && best && !str_eq(it->desc.digest, best->desc.digest))
			several = true;
		if (sc > score) {
			score = sc;
			best = it;
		}
	}
	if (!best)
		return vps_err_set(err, VPS_EBADIMAGE, "the archive has no image for linux/%s",
				   p->o->arch);
	if (several)
		return vps_err_set(err, VPS_EUSAGE, "the archive holds several images, and not one of "
				   "them is '%s': import it without a name", want);
	return take_image(p, &best->desc, p->ref, digest, err);
}

static int import_named(const struct img_parts *p, const struct img_index *x, char *digest,
			struct vps_err *err)
{
	size_t n = 0;
	for (size_t i = 0; i < x->n; i++) {
		const struct img_index_item *it = &x->v[i];
		char d[DIGEST_LEN];
		/* the same name for several platforms: only ours */
		if (!it->name || img_ref_check(it->name, NULL) < 0 ||
		    !img_index_fit(it, p->o->arch, NULL))
			continue;
		int r = take_image(p, &it->desc, it->name, d, err);
		if (r < 0)
			return r;
		if (!n++)
			memcpy(digest, d, DIGEST_LEN);
	}
	if (!n)
		return vps_err_set(err, VPS_EUSAGE,
				   "the archive does not name its image for linux/%s: give it a name",
				   p->o->arch);
	return 0;
}

int img_import_oci(const struct img_parts *p, char *digest, struct vps_err *err)
{
	autofree char *text = NULL;
	size_t len;
	auto_done(img_index_done) struct img_index x = { 0 };
	int r = read_index(p, &text, &len, err);
	if (r < 0 || (r = img_index_parse(text, len, NULL, &x, err)) < 0)
		return r;
	return p->ref ? import_one(p, &x, digest, err) :
			import_named(p, &x, digest, err);
}
