/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A docker archive (`docker save`, podman, skopeo, kaniko …): manifest.json lists images by the paths of
 * their config and layers. It has no digests of its own but the diff ids in the config, which
 * every layer is held to.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/inroot.h"
#include "base/json.h"
#include "images/store.h"

#define IMAGES_MAX 64

static int bad(struct vps_err *err, const char *what)
{
	return vps_err_set(err, VPS_EBADIMAGE, "manifest.json: %s", what);
}

/* Where a config's file name is its digest, hold it to that. */
static int check_name(const char *path, const char *got, struct vps_err *err)
{
	const char *base = strrchr(path, '/');
	char want[DIGEST_LEN] = "sha256:";
	base = base ? base + 1 : path;
	size_t n = strspn(base, "0123456789abcdef");
	if (n != 64 || (base[n] && !str_eq(base + n, ".json")))
		return 0;
	memcpy(want + 7, base, 64);
	if (!str_eq(want, got))
		return vps_err_set(err, VPS_EDIGEST, "image config is %s, not %s", got, want);
	return 0;
}

static int take_config(const struct img_parts *p, const char *path, size_t n_layers,
		       struct img_desc *d, struct img_info *i, struct vps_err *err)
{
	autofree char *text = NULL;
	size_t len;
	int r = inroot_read_file(p->dir, path, IMG_DOC_MAX, &text, &len);
	if (r == -ENOENT)
		return bad(err, "the archive lacks the config it names");
	if (r < 0)
		return vps_err_sys(err, r, "read the image config");
	*d = (struct img_desc){ .size = len, .media = IMG_MEDIA_CONFIG,
				.media_type = IMG_MT_CONFIG };
	digest_of(text, len, d->digest);
	if ((r = check_name(path, d->digest, err)) < 0 ||
	    (r = img_config_parse(text, len, n_layers, i, err)) < 0 ||
	    (r = img_arch_check(i, p->o, err)) < 0)
		return r;
	return img_blob_put(p->w, text, len, d->digest, err);
}

static int take_layer(const struct img_parts *p, const char *path, const struct img_info *i,
		      size_t k, struct img_desc *d, struct vps_err *err)
{
	struct stat st;
	auto_done(img_layer_done) struct img_layer l = { 0 };
	autoclose int fd = inroot_open(p->dir, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	if (fd == -ENOENT)
		return bad(err, "the archive lacks a layer it names");
	if (fd < 0)
		return vps_err_sys(err, fd, "open a layer");
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return bad(err, "a layer is not a regular file");
	struct img_layer_src src = {
		.fd = fd,
		.parent = k ? i->layers[k - 1] : NULL,
		.diff_id = i->diff_ids[k],
		.size = (uint64_t)st.st_size,
		.key = (unsigned)k,
		.keep = p->o->keep_blobs,
	};
	int r = img_layer_from_fd(p->w, &src, p->o, &l, err);
	if (r < 0)
		return vps_err_wrap(err, r, "layer %zu", k + 1);
	*d = (struct img_desc){ .size = l.tar_size, .media = IMG_MEDIA_LAYER,
				.media_type = IMG_MT_LAYER };
	memcpy(d->digest, l.diff_id, DIGEST_LEN);
	return 0;
}

static int name_image(const struct img_parts *p, const struct json *tags, const char *digest,
		      struct vps_err *err)
{
	if (p->ref)
		return img_register(p->w, digest, p->ref, err);
	if (json_type(tags) != JSON_ARRAY || !json_len(tags))
		return vps_err_set(err, VPS_EUSAGE,
				   "the archive does not name its image: give it a name");
	for (size_t i = 0; i < json_len(tags); i++) {
		const char *tag = json_str(json_at(tags, i), NULL);
		if (!tag)
			return bad(err, "'RepoTags' is not a list of strings");
		int r = img_register(p->w, digest, tag, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int take_image(const struct img_parts *p, const struct json *j, char *digest,
		      struct vps_err *err)
{
	const char *config = json_str(json_get(j, "Config"), NULL);
	const struct json *layers = json_get(j, "Layers");
	size_t n = json_len(layers);
	struct img_desc cd;
	auto_done(img_info_done) struct img_info i = { 0 };
	if (!config || json_type(layers) != JSON_ARRAY || !n)
		return bad(err, "an image without config or layers");
	if (n > p->o->caps.layers)
		return bad(err, "more layers than the cap");
	int r = take_config(p, config, n, &cd, &i, err);
	if (r < 0)
		return r;
	autofree struct img_desc *d = calloc(n, sizeof(*d));
	if (!d)
		return vps_err_sys(err, -ENOMEM, "import");
	for (size_t k = 0; k < n; k++) {
		const char *path = json_str(json_at(layers, k), NULL);
		if (!path)
			return bad(err, "'Layers' is not a list of strings");
		if ((r = take_layer(p, path, &i, k, &d[k], err)) < 0)
			return r;
	}
	if ((r = img_manifest_put(p->w, &cd, d, n, digest, err)) < 0)
		return r;
	return name_image(p, json_get(j, "RepoTags"), digest, err);
}

int img_import_docker(const struct img_parts *p, char *digest, struct vps_err *err)
{
	autofree char *text = NULL;
	auto_json j = NULL;
	size_t len;
	int r = inroot_read_file(p->dir, "manifest.json", IMG_DOC_MAX, &text, &len);
	if (r < 0)
		return vps_err_sys(err, r, "read manifest.json");
	if ((r = img_json_parse("manifest.json", text, len, &j, err)) < 0)
		return r;
	size_t n = json_len(j);
	if (json_type(j) != JSON_ARRAY || !n || n > IMAGES_MAX)
		return bad(err, "not a list of 1 to 64 images");
	if (p->ref && n > 1)
		return vps_err_set(err, VPS_EUSAGE,
				   "the archive holds %zu images: import it without a name", n);
	for (size_t i = 0; i < n; i++) {
		char d[DIGEST_LEN];
		if ((r = take_image(p, json_at(j, i), d, err)) < 0)
			return r;
		if (!i)
			memcpy(digest, d, DIGEST_LEN);
	}
	return 0;
}
