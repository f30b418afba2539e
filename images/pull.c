/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A registry's image into the store: manifest, config, the layers that are not there yet. Nothing
 * is read before its digest was found right; the reference appears last. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "images/registry.h"

struct pull {
	struct img_store *s;
	struct img_work work;
	struct img_opts o;
	const struct img_pull_opts *p;
	struct img_ref ref;
	struct reg *reg;
	char digest[DIGEST_LEN]; /* of the manifest */
	struct img_manifest m;
	struct img_info info; /* of the config: diff ids, chain ids */
	struct layer {
		bool there;
		size_t from; /* index of the layer whose download it shares; its own: itself */
		struct img_ingest *in;
	} *layers;
};

static void pull_done(struct pull *u)
{
	for (size_t i = 0; u->layers && i < u->m.n_layers; i++)
		img_ingest_free(u->layers[i].in);
	free(u->layers);
	u->reg = reg_close(u->reg);
	img_manifest_done(&u->m);
	img_info_done(&u->info);
	img_work_end(&u->work);
}

/* Opened by the first thing that is not in the store: an image that is there needs no network. */
static int need_registry(struct pull *u, struct vps_err *err)
{
	return u->reg ? 0 : reg_open(&u->ref, u->p, u->o.progress, &u->reg, err);
}

static int get_document(struct pull *u, const char *name, struct reg_doc *doc, struct vps_err *err)
{
	int r = need_registry(u, err);

	return r < 0 ? r : reg_manifest(u->reg, name, doc, err);
}

/* From the store when it has it. *ret is verified against digest either way. */
static int get_blob_text(struct pull *u, const struct img_desc *d, char **ret, size_t *ret_len,
			 struct vps_err *err)
{
	auto_done(img_ingest_freep) struct img_ingest *in = NULL;
	int r = img_blob_has(&u->work, d->digest, err);

	if (r < 0)
		return r;
	if (r == 0) {
		r = need_registry(u, err);
		if (r == 0)
			r = img_ingest_begin(&u->work, d->digest, d->size, IMG_DOC_MAX, &in, err);
		struct reg_blob b = {.desc = d, .in = in, .key = 0};
		if (r == 0)
			r = reg_blobs(u->reg, &b, 1, err);
		if (r == 0)
			r = img_ingest_keep(in, err);
		if (r < 0)
			return r;
	}
	return img_blob_read(u->s, d->digest, ret, ret_len, err);
}

/* ---- from reference to manifest ------------------------------------------- */

static int take_manifest(struct pull *u, const char *text, size_t len, const char *media_type,
			 struct vps_err *err)
{
	int r = img_manifest_parse(text, len, media_type, &u->o.caps, &u->m, err);

	return r < 0 ? r : img_blob_put(&u->work, text, len, u->digest, err);
}

/* An index by what it points to; a manifest by itself. At most two indexes deep. */
static int descend(struct pull *u, struct reg_doc *doc, struct vps_err *err)
{
	for (unsigned depth = 0; ; depth++) {
		const char *text = doc->text.s ? doc->text.s : "";
		struct img_desc d;
		enum img_media kind;

		int r = img_doc_kind(text, doc->text.len, doc->media_type, &kind, err);
		if (r < 0)
			return r;
		if (kind == IMG_MEDIA_MANIFEST)
			return take_manifest(u, text, doc->text.len, doc->media_type, err);
		if (depth == 2)
			return vps_err_set(err, VPS_EBADIMAGE, "index in index in index");
		r = img_index_pick(text, doc->text.len, doc->media_type, u->o.arch,
				   u->p->platform_variant, &d, err);
		if (r < 0)
			return r;
		reg_doc_done(doc);
		*doc = (struct reg_doc){0};
		r = get_document(u, d.digest, doc, err);
		if (r < 0)
			return r;
		if (doc->text.len != d.size)
			return vps_err_set(err, VPS_EDIGEST, "%.19s has %zu bytes, not the stated %llu",
					   d.digest, doc->text.len, (unsigned long long)d.size);
		/* The index's word and the server's have to agree (CVE-2021-41190). */
		if (img_media_of(d.media_type) != img_media_of(doc->media_type))
			return vps_err_set(err, VPS_EBADIMAGE,
					   "%.19s is %.80s to the index and %.80s to the server",
					   d.digest, d.media_type, doc->media_type);
	}
}

static int find_manifest(struct pull *u, struct vps_err *err)
{
	const char *name = u->ref.digest[0] ? u->ref.digest :
			   u->ref.tag[0] ? u->ref.tag : "latest";
	auto_done(reg_doc_done) struct reg_doc doc = {0};
	int r = 0;

	if (u->ref.digest[0]) {
		r = img_blob_has(&u->work, u->ref.digest, err);
		if (r < 0)
			return r;
	}
	if (r == 0) {
		r = get_document(u, name, &doc, err);
		return r < 0 ? r : descend(u, &doc, err);
	}
	autofree char *text = NULL;
	size_t len;
	r = img_blob_read(u->s, u->ref.digest, &text, &len, err);
	return r < 0 ? r : take_manifest(u, text, len, NULL, err);
}

/* ---- layers --------------------------------------------------------------- */

static int plan_layers(struct pull *u, struct vps_err *err)
{
	u->layers = calloc(u->m.n_layers ? u->m.n_layers : 1, sizeof *u->layers);
	if (!u->layers)
		return vps_err_sys(err, -ENOMEM, "layers");
	for (size_t i = 0; i < u->m.n_layers; i++) {
		struct layer *l = &u->layers[i];
		int r = img_layer_has(&u->work, u->info.layers[i], err);

		if (r < 0)
			return r;
		l->there = r == 1;
		l->from = i;
		if (!l->there && u->m.layers[i].media == IMG_MEDIA_FOREIGN)
			return vps_err_set(err, VPS_EBADIMAGE,
					   "layer %zu is one that its registry may not hand out", i);
		/* The same bytes upon another parent are another layer, but one download. */
		for (size_t k = 0; k < i && !l->there; k++)
			if (!u->layers[k].there && l->from == i &&
			    str_eq(u->m.layers[k].digest, u->m.layers[i].digest))
				l->from = u->layers[k].from;
	}
	return 0;
}

static int download(struct pull *u, struct vps_err *err)
{
	autofree struct reg_blob *blobs = calloc(u->m.n_layers ? u->m.n_layers : 1, sizeof *blobs);
	size_t n = 0;
	int r = blobs ? 0 : vps_err_sys(err, -ENOMEM, "layers");

	for (size_t i = 0; r == 0 && i < u->m.n_layers; i++) {
		struct layer *l = &u->layers[i];
		const struct img_desc *d = &u->m.layers[i];

		if (l->there || l->from != i)
			continue;
		r = img_ingest_begin(&u->work, d->digest, d->size, u->o.caps.bytes, &l->in, err);
		blobs[n++] = (struct reg_blob){.desc = d, .in = l->in, .key = (unsigned)i};
	}
	if (r == 0 && n)
		r = need_registry(u, err);
	if (r == 0 && n)
		r = reg_blobs(u->reg, blobs, n, err);
	/* Unpacking forks: no threads of a resolver, no connection may be left then. */
	u->reg = reg_close(u->reg);
	return r;
}

static int unpack(struct pull *u, size_t i, struct vps_err *err)
{
	struct layer *l = &u->layers[u->layers[i].from];
	autoclose int fd = img_ingest_open(l->in, err);

	if (fd < 0)
		return fd;
	struct img_layer_src src = {
		.fd = fd,
		.parent = i ? u->info.layers[i - 1] : NULL,
		.diff_id = u->info.diff_ids[i],
		.size = u->m.layers[i].size,
		.key = (unsigned)i,
	};
	return img_layer_from_fd(&u->work, &src, &u->o, NULL, err);
}

static int unpack_all(struct pull *u, struct vps_err *err)
{
	for (size_t i = 0; i < u->m.n_layers; i++) {
		struct layer *l = &u->layers[i];
		bool last = true;

		if (l->there)
			continue;
		int r = unpack(u, i, err);
		if (r == 0 && u->o.keep_blobs)
			r = img_ingest_keep(u->layers[l->from].in, err);
		if (r < 0)
			return vps_err_wrap(err, r, "layer %zu", i);
		for (size_t k = i + 1; k < u->m.n_layers; k++)
			last = last && (u->layers[k].there || u->layers[k].from != l->from);
		if (last) /* its space back as soon as it can be had */
			u->layers[l->from].in = img_ingest_free(u->layers[l->from].in);
	}
	return 0;
}

static int pull(struct pull *u, const char *name, struct vps_err *err)
{
	autofree char *config = NULL;
	size_t len;

	int r = find_manifest(u, err);
	if (r == 0)
		r = get_blob_text(u, &u->m.config, &config, &len, err);
	if (r == 0)
		r = img_config_parse(config, len, u->m.n_layers, &u->info, err);
	if (r == 0)
		r = plan_layers(u, err);
	if (r == 0)
		r = download(u, err);
	if (r == 0)
		r = unpack_all(u, err);
	return r < 0 ? r : img_register(&u->work, u->digest, name, err);
}

int img_pull(struct img_store *s, const char *ref, const char *tag_as,
	     const struct img_pull_opts *p, const struct img_opts *o, struct img_info *ret,
	     struct vps_err *err)
{
	static const struct img_pull_opts defaults;
	auto_done(pull_done) struct pull u = {
		.s = s, .work = IMG_WORK_INIT, .o = img_opts_fill(o), .p = p ? p : &defaults,
	};
	char name[IMG_REF_MAX + 1];

	int r = img_ref_parse(ref, &u.ref, err);
	if (r < 0)
		return r;
	if (!u.ref.host[0])
		return vps_err_set(err, VPS_EUSAGE,
				   "'%.200s' names no registry; write HOST/%.200s, or set "
				   "default-registry in vps.conf", ref, ref);
	r = tag_as ? img_ref_canonical(tag_as, name, err) : img_ref_name(&u.ref, name, err);
	if (r == 0)
		r = img_work_begin(s, &u.work, err);
	if (r < 0)
		return r;
	r = pull(&u, name, err);
	if (r < 0)
		return vps_err_wrap(err, r, "pull %.200s", ref);
	return ret ? img_inspect(s, u.digest, ret, err) : 0;
}
