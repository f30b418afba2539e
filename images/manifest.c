/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Manifests and indexes: OCI image-spec 1.1 (manifest.md, image-index.md) and docker's schema 2. All of
 * it is hostile input; a document is one kind of thing or it is refused (CVE-2021-41190).
 */
#include <string.h>

#include "base/json.h"
#include "images/store.h"

/* No single blob is taken for larger than this: 1 TiB. */
#define BLOB_MAX (1ull << 40)

/* Values in one document. A manifest of 127 layers has about a thousand. */
#define VALUES_MAX 131072

int img_json_parse(const char *what, const char *text, size_t len, struct json **ret,
		   struct vps_err *err)
{
	size_t n = 0;
	if (len > IMG_DOC_MAX)
		return vps_err_set(err, VPS_EBADIMAGE, "%s: larger than 4 MiB", what);
	for (size_t i = 0; i < len; i++)
		n += text[i] == ',' || text[i] == '[' || text[i] == '{';
	if (n > VALUES_MAX)
		return vps_err_set(err, VPS_EBADIMAGE, "%s: has too many values", what);
	struct vps_err why = { 0 };
	int r = json_parse(text, len, ret, &why);
	if (r == -ENOMEM)
		return vps_err_sys(err, r, "%s", what);
	return r < 0 ? vps_err_set(err, VPS_EBADIMAGE, "%s: %.400s", what, why.msg) : 0;
}

enum img_media img_media_of(const char *mt)
{
	static const struct {
		const char *name;
		enum img_media media;
	} known[] = {
		{ IMG_MT_INDEX, IMG_MEDIA_INDEX },
		{ IMG_MT_D_LIST, IMG_MEDIA_INDEX },
		{ IMG_MT_MANIFEST, IMG_MEDIA_MANIFEST },
		{ IMG_MT_D_MANIFEST, IMG_MEDIA_MANIFEST },
		{ IMG_MT_CONFIG, IMG_MEDIA_CONFIG },
		{ "application/vnd.docker.container.image.v1+json", IMG_MEDIA_CONFIG },
		{ IMG_MT_LAYER, IMG_MEDIA_LAYER },
		{ IMG_MT_LAYER_GZ, IMG_MEDIA_LAYER },
		{ IMG_MT_LAYER_ZST, IMG_MEDIA_LAYER },
		{ "application/vnd.docker.image.rootfs.diff.tar", IMG_MEDIA_LAYER },
		{ "application/vnd.docker.image.rootfs.diff.tar.gzip", IMG_MEDIA_LAYER },
		{ "application/vnd.docker.image.rootfs.diff.tar.zstd", IMG_MEDIA_LAYER },
		{ "application/vnd.docker.image.rootfs.foreign.diff.tar", IMG_MEDIA_FOREIGN },
		{ "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", IMG_MEDIA_FOREIGN },
	};
	static const char foreign[] = "application/vnd.oci.image.layer.nondistributable.";
	if (!mt)
		return IMG_MEDIA_OTHER;
	size_t n = strcspn(mt, "; \t");
	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (strlen(known[i].name) == n && strncasecmp(mt, known[i].name, n) == 0)
			return known[i].media;
	return str_starts(mt, foreign) ? IMG_MEDIA_FOREIGN : IMG_MEDIA_OTHER;
}

static int bad(struct vps_err *err, const char *what)
{
	return vps_err_set(err, VPS_EBADIMAGE, "manifest: %s", what);
}

/* Parse and judge the kind, on which everything else rests. */
static int doc_parse(const char *text, size_t len, const char *media_type, struct json **ret,
		     enum img_media *ret_kind, struct vps_err *err)
{
	auto_json doc = NULL;
	int r = img_json_parse("manifest", text, len, &doc, err);
	if (r < 0)
		return r;
	if (json_type(doc) != JSON_OBJECT)
		return bad(err, "not a JSON object");
	bool list = json_get(doc, "manifests");
	bool leaf = json_get(doc, "layers") || json_get(doc, "config");
	if (json_get(doc, "fsLayers") || json_get(doc, "signatures"))
		return bad(err, "docker schema 1 is not supported: push the image again with a "
				"current tool");
	if (list && leaf)
		return bad(err, "has both 'manifests' and 'layers' or 'config': ambiguous, refused");
	if (!list && !leaf)
		return bad(err, "has neither 'manifests' nor 'layers'");
	const struct json *ver = json_get(doc, "schemaVersion");
	if (json_type(ver) != JSON_INT || json_int(ver, 0) != 2)
		return bad(err, "'schemaVersion' is not 2");
	enum img_media kind = list ? IMG_MEDIA_INDEX : IMG_MEDIA_MANIFEST;
	const struct json *own = json_get(doc, "mediaType");
	if (own && json_type(own) != JSON_STRING)
		return bad(err, "'mediaType' is not a string");
	if (own && img_media_of(json_str(own, NULL)) != kind)
		return bad(err, "'mediaType' and content do not match");
	if (media_type && img_media_of(media_type) != kind)
		return bad(err, "is not of the media type it was announced with");
	if (own && media_type) {
		const char *s = json_str(own, "");
		size_t n = strcspn(media_type, "; \t");
		if (strlen(s) != n || strncasecmp(s, media_type, n) != 0)
			return bad(err, "'mediaType' differs from what it was announced with");
	}
	*ret = take_ptr(doc);
	*ret_kind = kind;
	return 0;
}

int img_doc_kind(const char *text, size_t len, const char *media_type, enum img_media *ret,
		 struct vps_err *err)
{
	auto_json doc = NULL;
	enum img_media kind;
	int r = doc_parse(text, len, media_type, &doc, &kind, err);
	if (r < 0)
		return r;
	*ret = kind;
	return 0;
}

static int desc_parse(const struct json *j, struct img_desc *d, struct vps_err *err)
{
	struct img_desc out = { 0 };
	if (json_type(j) != JSON_OBJECT)
		return bad(err, "a descriptor is not an object");
	const char *digest = json_str(json_get(j, "digest"), NULL);
	if (!digest || !digest_valid(digest))
		return bad(err, "a descriptor has no sha256 digest");
	const struct json *size = json_get(j, "size");
	out.size = json_u64(size, UINT64_MAX);
	if (json_type(size) != JSON_INT || out.size > BLOB_MAX)
		return bad(err, "a descriptor's size is missing or out of range");
	const char *mt = json_str(json_get(j, "mediaType"), NULL);
	if (!mt || !*mt || strlen(mt) >= sizeof(out.media_type))
		return bad(err, "a descriptor has no media type");
	for (const char *p = mt; *p; p++)
		if (*p <= ' ' || *p > '~')
			return bad(err, "a descriptor's media type has odd characters");
	memcpy(out.digest, digest, DIGEST_LEN);
	memcpy(out.media_type, mt, strlen(mt) + 1);
	out.media = img_media_of(mt);
	*d = out;
	return 0;
}

void img_manifest_done(struct img_manifest *m)
{
	free(m->layers);
	*m = (struct img_manifest){ 0 };
}

static int layer_check(const struct img_desc *d, struct vps_err *err)
{
	if (d->media == IMG_MEDIA_FOREIGN)
		return bad(err, "has a foreign layer (not to be distributed), which a Linux image "
				"does not need");
	if (d->media != IMG_MEDIA_LAYER)
		return vps_err_set(err, VPS_EBADIMAGE, "manifest: layer of unknown media type '%s'",
				   d->media_type);
	return 0;
}

int img_manifest_parse(const char *text, size_t len, const char *media_type,
		       const struct img_caps *caps, struct img_manifest *ret, struct vps_err *err)
{
	auto_json doc = NULL;
	enum img_media kind;
	int r = doc_parse(text, len, media_type, &doc, &kind, err);
	if (r < 0)
		return r;
	if (kind != IMG_MEDIA_MANIFEST)
		return bad(err, "is an index where a manifest belongs");
	auto_done(img_manifest_done) struct img_manifest m = { 0 };
	if ((r = desc_parse(json_get(doc, "config"), &m.config, err)) < 0)
		return r;
	if (m.config.media != IMG_MEDIA_CONFIG)
		return vps_err_set(err, VPS_EBADIMAGE, "manifest: config of type '%s': not a container "
				   "image", m.config.media_type);
	if (m.config.size > IMG_DOC_MAX)
		return bad(err, "config larger than 4 MiB");
	const struct json *layers = json_get(doc, "layers");
	size_t n = json_len(layers);
	if (json_type(layers) != JSON_ARRAY || n == 0)
		return bad(err, "has no layers");
	if (n > caps->layers)
		return vps_err_set(err, VPS_EBADIMAGE, "manifest: %zu layers, over the cap of %u", n,
				   caps->layers);
	m.layers = calloc(n, sizeof(*m.layers));
	if (!m.layers)
		return vps_err_sys(err, -ENOMEM, "manifest");
	for (m.n_layers = 0; m.n_layers < n; m.n_layers++) {
		struct img_desc *d = &m.layers[m.n_layers];
		if ((r = desc_parse(json_at(layers, m.n_layers), d, err)) < 0 ||
		    (r = layer_check(d, err)) < 0)
			return r;
	}
	*ret = m;
	m = (struct img_manifest){ 0 };
	return 0;
}

/* ---- indexes ------------------------------------------------------------- */

void img_index_done(struct img_index *x)
{
	for (size_t i = 0; i < x->n; i++) {
		free(x->v[i].name);
		free(x->v[i].tag);
		free(x->v[i].os);
		free(x->v[i].arch);
		free(x->v[i].variant);
	}
	free(x->v);
	*x = (struct img_index){ 0 };
}

/*
 * ref.name is free text in the specification; tools write a tag (umoci, docker, buildah) or a whole name
 * (skopeo). umoci copies containerd's name to the next tag's manifest unchanged: the tag is right.
 */
static int item_names(const struct json *an, struct img_index_item *it)
{
	const char *full = json_str(json_get(an, "io.containerd.image.name"), NULL);
	const char *tag = json_str(json_get(an, "org.opencontainers.image.ref.name"), NULL);
	struct img_ref r;
	char name[IMG_REF_MAX + 1];
	if (str_set(&it->tag, tag) < 0)
		return -ENOMEM;
	if (!full)
		return tag && strpbrk(tag, ":/@") ? str_set(&it->name, tag) : 0;
	if (tag && !strpbrk(tag, ":/@") && strlen(tag) < sizeof(r.tag) &&
	    img_ref_parse(full, &r, NULL) == 0) {
		strcpy(r.tag, tag);
		r.digest[0] = 0;
		if (img_ref_name(&r, name, NULL) == 0 && img_ref_check(name, NULL) == 0)
			return str_set(&it->name, name);
	}
	return str_set(&it->name, full);
}

static int item_parse(const struct json *j, struct img_index_item *it, struct vps_err *err)
{
	int r = desc_parse(j, &it->desc, err);
	if (r < 0)
		return r;
	const struct json *pf = json_get(j, "platform");
	if (item_names(json_get(j, "annotations"), it) < 0 ||
	    str_set(&it->os, json_str(json_get(pf, "os"), NULL)) < 0 ||
	    str_set(&it->arch, json_str(json_get(pf, "architecture"), NULL)) < 0 ||
	    str_set(&it->variant, json_str(json_get(pf, "variant"), NULL)) < 0)
		return vps_err_sys(err, -ENOMEM, "index");
	return 0;
}

int img_index_parse(const char *text, size_t len, const char *media_type, struct img_index *ret,
		    struct vps_err *err)
{
	auto_json doc = NULL;
	enum img_media kind;
	int r = doc_parse(text, len, media_type, &doc, &kind, err);
	if (r < 0)
		return r;
	if (kind != IMG_MEDIA_INDEX)
		return bad(err, "is not an index");
	const struct json *list = json_get(doc, "manifests");
	size_t n = json_len(list);
	if (json_type(list) != JSON_ARRAY || n == 0)
		return bad(err, "index is empty");
	if (n > IMG_INDEX_MAX)
		return bad(err, "index has more than 1024 manifests");
	auto_done(img_index_done) struct img_index x = { 0 };
	x.v = calloc(n, sizeof(*x.v));
	if (!x.v)
		return vps_err_sys(err, -ENOMEM, "index");
	for (; x.n < n;) {
		struct img_index_item *it = &x.v[x.n++];
		if ((r = item_parse(json_at(list, x.n - 1), it, err)) < 0)
			return r;
	}
	*ret = x;
	x = (struct img_index){ 0 };
	return 0;
}

int img_index_fit(const struct img_index_item *it, const char *arch, const char *variant)
{
	if (it->desc.media != IMG_MEDIA_MANIFEST && it->desc.media != IMG_MEDIA_INDEX)
		return 0;
	if (!it->os && !it->arch)
		return 1;
	if ((it->os && !str_eq(it->os, "linux")) || !str_eq(it->arch, arch))
		return 0;
	if (variant)
		return str_eq(it->variant, variant) ? 4 : 0;
	if (!it->variant)
		return 3;
	/* Unasked, take the variant that every machine of that name can run. */
	if (str_eq(arch, "arm64"))
		return str_eq(it->variant, "v8") ? 3 : 0;
	if (str_eq(arch, "arm"))
		return str_eq(it->variant, "v7") ? 3 : 2;
	return str_eq(it->variant, "v1") ? 3 : 0;
}

int img_index_pick(const char *text, size_t len, const char *media_type, const char *arch,
		   const char *variant, struct img_desc *ret, struct vps_err *err)
{
	auto_done(img_index_done) struct img_index x = { 0 };
	int r = img_index_parse(text, len, media_type, &x, err);
	if (r < 0)
		return r;
	const struct img_index_item *best = NULL;
	int score = 0;
	auto_strbuf have = STRBUF_INIT;
	for (size_t i = 0; i < x.n; i++) {
		const struct img_index_item *it = &x.v[i];
		int f = img_index_fit(it, arch, variant);
		if (f > score) {
			score = f;
			best = it;
		}
		if (it->arch && have.len < 200) {
			sb_add(&have, have.len ? ", " : "");
			sb_add_escaped(&have, it->arch, strnlen(it->arch, 20));
		}
	}
	if (!best)
		return vps_err_set(err, VPS_EBADIMAGE, "the index has no linux/%s%s%s image (it has: %s)",
				   arch, variant ? "/" : "", variant ? variant : "",
				   have.len ? have.s : "nothing with a platform");
	*ret = best->desc;
	return 0;
}
