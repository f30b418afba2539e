/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What there is: inspect and list. */
#include <string.h>

#include "images/store.h"

/* The most refused nodes that one image's info lists. */
#define REFUSED_SHOWN 4096

int img_info_load(struct img_store *s, const char *digest, struct img_info *ret,
		  struct vps_err *err)
{
	autofree char *text = NULL, *conf = NULL;
	size_t len, clen;
	struct img_opts o = img_opts_fill(NULL);
	auto_done(img_manifest_done) struct img_manifest m = { 0 };
	o.caps.layers = 127; /* what came in under other caps is not judged again by them */
	int r = img_blob_read(s, digest, &text, &len, err);
	if (r < 0)
		return r;
	if ((r = img_manifest_parse(text, len, NULL, &o.caps, &m, err)) < 0 ||
	    (r = img_blob_read(s, m.config.digest, &conf, &clen, err)) < 0)
		return r;
	auto_done(img_info_done) struct img_info i = { 0 };
	if ((r = img_config_parse(conf, clen, m.n_layers, &i, err)) < 0)
		return r;
	memcpy(i.digest, digest, DIGEST_LEN);
	memcpy(i.config, m.config.digest, DIGEST_LEN);
	*ret = i;
	i = (struct img_info){ 0 };
	return 0;
}

static int add_layers(struct img_store *s, struct img_info *i, struct vps_err *err)
{
	for (size_t k = 0; k < i->n_layers; k++) {
		auto_done(img_layer_done) struct img_layer l = { 0 };
		int r = img_layer_read(s, i->layers[k], &l, err);
		if (r < 0)
			return r;
		i->size += l.size;
		i->entries += l.entries;
		for (size_t n = 0; l.refused && l.refused[n] && strv_len(i->refused) < REFUSED_SHOWN;
		     n++)
			if (strv_add(&i->refused, l.refused[n]) < 0)
				return vps_err_sys(err, -ENOMEM, "image");
	}
	return 0;
}

static int add_names(struct img_info *i, const struct img_refs *refs, const struct img_refs *pins)
{
	for (size_t k = 0; k < refs->n; k++)
		if (str_eq(refs->v[k].digest, i->digest) &&
		    strv_add(&i->refs, refs->v[k].name) < 0)
			return -ENOMEM;
	for (size_t k = 0; k < pins->n; k++)
		i->n_pins += str_eq(pins->v[k].digest, i->digest);
	return 0;
}

static int names_read(struct img_store *s, struct img_refs *refs, struct img_refs *pins,
		      struct vps_err *err)
{
	int r = img_refs_read(s, refs);
	if (r == 0)
		r = img_pins_read(s, pins);
	return r < 0 ? vps_err_sys(err, r, "read the image references") : 0;
}

int img_inspect(struct img_store *s, const char *ref, struct img_info *ret, struct vps_err *err)
{
	char digest[DIGEST_LEN];
	auto_done(img_info_done) struct img_info i = { 0 };
	auto_done(img_refs_done) struct img_refs refs = { 0 }, pins = { 0 };
	int r = img_resolve(s, ref, digest, err);
	if (r < 0 || (r = img_info_load(s, digest, &i, err)) < 0 ||
	    (r = add_layers(s, &i, err)) < 0 || (r = names_read(s, &refs, &pins, err)) < 0)
		return r;
	if (add_names(&i, &refs, &pins) < 0)
		return vps_err_sys(err, -ENOMEM, "image");
	*ret = i;
	i = (struct img_info){ 0 };
	return 0;
}

static int cmp_digest(const void *a, const void *b)
{
	return strcmp(((const struct img_refs_item *)a)->digest,
		      ((const struct img_refs_item *)b)->digest);
}

static int cmp_info(const void *a, const void *b)
{
	const struct img_info *x = a, *y = b;
	const char *p = x->refs ? x->refs[0] : "~", *q = y->refs ? y->refs[0] : "~";
	int c = strcmp(p, q);
	return c ? c : strcmp(x->digest, y->digest);
}

/* The distinct digests of references and pins. */
static int all_digests(const struct img_refs *refs, const struct img_refs *pins,
		       struct img_refs *ret)
{
	const struct img_refs *lists[] = { refs, pins };
	for (size_t l = 0; l < 2; l++)
		for (size_t i = 0; i < lists[l]->n; i++) {
			if (mem_grow(ret->v, ret->n, ret->cap) < 0)
				return -ENOMEM;
			ret->v[ret->n++] = lists[l]->v[i];
		}
	if (!ret->n)
		return 0;
	qsort(ret->v, ret->n, sizeof(*ret->v), cmp_digest);
	size_t n = 1;
	for (size_t i = 1; i < ret->n; i++)
		if (!str_eq(ret->v[i].digest, ret->v[n - 1].digest))
			ret->v[n++] = ret->v[i];
	ret->n = n;
	return 0;
}

int img_list(struct img_store *s, struct img_info **ret, size_t *ret_n, struct vps_err *err)
{
	auto_done(img_refs_done) struct img_refs refs = { 0 }, pins = { 0 }, all = { 0 };
	int r = names_read(s, &refs, &pins, err);
	if (r < 0)
		return r;
	if (all_digests(&refs, &pins, &all) < 0)
		return vps_err_sys(err, -ENOMEM, "list images");
	struct img_info *v = calloc(all.n + 1, sizeof(*v));
	if (!v)
		return vps_err_sys(err, -ENOMEM, "list images");
	for (size_t i = 0; i < all.n; i++) {
		/* A damaged image is listed by what is known of it: its digest and names. */
		if (img_info_load(s, all.v[i].digest, &v[i], NULL) < 0 ||
		    add_layers(s, &v[i], NULL) < 0) {
			img_info_done(&v[i]);
			memcpy(v[i].digest, all.v[i].digest, DIGEST_LEN);
		}
		if (add_names(&v[i], &refs, &pins) < 0) {
			img_list_free(v, all.n);
			return vps_err_sys(err, -ENOMEM, "list images");
		}
	}
	qsort(v, all.n, sizeof(*v), cmp_info);
	*ret = v;
	*ret_n = all.n;
	return 0;
}
