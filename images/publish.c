/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The tree of a disk as a layer: of a new image upon the one it lies on, or of a backup. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/fs.h"
#include "base/json.h"
#include "images/export.h"
#include "images/unpack.h"

#define LAYERS_MAX 127

struct publishing {
	struct img_store *s;
	const struct img_publish *p;
	const struct img_opts *o;
	struct img_work w;
	struct img_info base;
	struct img_manifest manifest;
	struct img_layer layer;
	struct vps_err *err;
};

static void publishing_done(struct publishing *x)
{
	img_layer_done(&x->layer);
	img_manifest_done(&x->manifest);
	img_info_done(&x->base);
	img_work_end(&x->w);
}

/* ---- the base ------------------------------------------------------------------------ */

/* Manifests of another kind have other names for the same layers. */
static void plain_type(struct img_desc *d)
{
	const char *gz = "application/vnd.docker.image.rootfs.diff.tar.gzip";

	if (str_eq(d->media_type, gz))
		snprintf(d->media_type, sizeof(d->media_type), "%s", IMG_MT_LAYER_GZ);
	else if (str_starts(d->media_type, "application/vnd.docker."))
		snprintf(d->media_type, sizeof(d->media_type), "%s", IMG_MT_LAYER);
}

static int read_base(struct publishing *x)
{
	autofree char *text = NULL;
	size_t len;
	int r = img_inspect(x->s, x->p->base, &x->base, x->err);

	r = r ?: img_blob_read(x->s, x->base.digest, &text, &len, x->err);
	r = r ?: img_manifest_parse(text, len, NULL, &x->o->caps, &x->manifest, x->err);
	if (r < 0)
		return r;
	if (x->base.n_layers + 1 > LAYERS_MAX)
		return vps_err_set(x->err, VPS_EBADIMAGE, "the image has %zu layers, as many as there may be; export it "
				   "and import its root file system as one", x->base.n_layers);
	for (size_t i = 0; i < x->manifest.n_layers; i++)
		plain_type(&x->manifest.layers[i]);
	return 0;
}

/* ---- the layer ---------------------------------------------------------------------------- */

static int make_layer(struct publishing *x, int upper)
{
	auto_done(img_ingest_freep) struct img_ingest *in = NULL;
	struct layer_out out = {.write = img_layer_to_ingest, .leave_out = x->p->leave_out};
	struct img_layer_src src = {.parent = x->base.layers[x->base.n_layers - 1], .keep = x->o->keep_blobs};
	char diff_id[DIGEST_LEN];
	autoclose int fd = -1;
	int r = img_ingest_begin(&x->w, NULL, UINT64_MAX, 0, &in, x->err);

	out.arg = in;
	r = r ?: img_layer_tar(upper, &out, x->o, x->err);
	r = r ?: img_ingest_end(in, diff_id, x->err);
	if (r < 0)
		return r;
	fd = img_ingest_open(in, x->err);
	if (fd < 0)
		return fd;
	src.fd = fd;
	src.size = img_ingest_bytes(in);
	src.diff_id = diff_id;
	return img_layer_from_fd(&x->w, &src, x->o, &x->layer, x->err);
}

/* ---- the documents ------------------------------------------------------------------------- */

static void add_history(struct json_out *o, const struct json *was, const char *when, const char *comment)
{
	jo_array(o, "history");
	for (size_t i = 0; i < json_len(was); i++)
		jo_json(o, NULL, json_at(was, i));
	jo_object(o, NULL);
	jo_str(o, "created", when);
	jo_str(o, "created_by", "vps image publish");
	if (comment)
		jo_str(o, "comment", comment);
	jo_end_object(o);
	jo_end_array(o);
}

static int put_config(struct publishing *x, struct img_desc *ret)
{
	autofree char *text = NULL;
	auto_json j = NULL;
	auto_strbuf sb = STRBUF_INIT;
	struct json_out o = JSON_OUT(&sb, false);
	char when[40];
	time_t now = time(NULL);
	struct tm tm;
	size_t len;
	int r = img_blob_read(x->s, x->base.config, &text, &len, x->err);

	r = r ?: img_json_parse("image config", text, len, &j, x->err);
	if (r < 0)
		return r;
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
	jo_object(&o, NULL);
	for (size_t i = 0; i < json_len(j); i++) {
		const char *key = json_key(j, i);

		if (!str_eq(key, "rootfs") && !str_eq(key, "history") && !str_eq(key, "created"))
			jo_json(&o, key, json_at(j, i));
	}
	jo_str(&o, "created", when);
	jo_object(&o, "rootfs");
	jo_str(&o, "type", "layers");
	jo_array(&o, "diff_ids");
	for (size_t k = 0; k < x->base.n_layers; k++)
		jo_str(&o, NULL, x->base.diff_ids[k]);
	jo_str(&o, NULL, x->layer.diff_id);
	jo_end_array(&o);
	jo_end_object(&o);
	add_history(&o, json_get(j, "history"), when, x->p->comment);
	jo_end_object(&o);
	if (sb_ok(&sb) < 0)
		return vps_err_sys(x->err, -ENOMEM, "image config");
	*ret = (struct img_desc){.size = sb.len, .media = IMG_MEDIA_CONFIG, .media_type = IMG_MT_CONFIG};
	return img_blob_put(&x->w, sb.s, sb.len, ret->digest, x->err);
}

static int put_manifest(struct publishing *x, char digest[DIGEST_LEN])
{
	const size_t n = x->manifest.n_layers;
	autofree struct img_desc *layers = calloc(n + 1, sizeof(*layers));
	struct img_desc config;
	int r = layers ? put_config(x, &config) : vps_err_sys(x->err, -ENOMEM, "manifest");

	if (r < 0)
		return r;
	memcpy(layers, x->manifest.layers, n * sizeof(*layers));
	layers[n] = (struct img_desc){.size = x->layer.tar_size, .media = IMG_MEDIA_LAYER, .media_type = IMG_MT_LAYER};
	memcpy(layers[n].digest, x->layer.diff_id, DIGEST_LEN);
	return img_manifest_put(&x->w, &config, layers, n + 1, digest, x->err);
}

int img_publish(struct img_store *s, int upper, const struct img_publish *p, const struct img_opts *o,
		struct img_info *ret, struct vps_err *err)
{
	struct img_opts opts = img_opts_fill(o);
	auto_done(publishing_done) struct publishing x = {.s = s, .p = p, .o = &opts, .w = IMG_WORK_INIT, .err = err};
	char digest[DIGEST_LEN];
	int r = p->ref ? img_ref_check(p->ref, err) : 0;

	r = r ?: img_work_begin(s, &x.w, err);
	r = r ?: read_base(&x);
	r = r ?: make_layer(&x, upper);
	r = r ?: put_manifest(&x, digest);
	r = r ?: img_register(&x.w, digest, p->ref, err);
	if (r == 0 && p->pin)
		r = img_pin(s, p->pin, digest, err);
	return r < 0 || !ret ? r : img_inspect(s, digest, ret, err);
}

/* ---- a tar alone ------------------------------------------------------------------------------ */

static int to_fd(void *arg, const void *p, size_t n, struct vps_err *err)
{
	int r = fs_write_all(*(int *)arg, p, n);

	return r < 0 ? vps_err_sys(err, r, "write the tree") : 0;
}

int img_upper_pack(int upper, int fd, const struct img_opts *o, struct vps_err *err)
{
	struct img_opts opts = img_opts_fill(o);
	const struct layer_out out = {.write = to_fd, .arg = &fd};

	return img_layer_tar(upper, &out, &opts, err);
}

int img_upper_unpack(int upper, int fd, const int *layers, size_t n, const struct img_opts *o, struct vps_err *err)
{
	struct img_opts opts = img_opts_fill(o);
	autofree int *lower = calloc(n + 1, sizeof(*lower));
	auto_done(unpack_result_done) struct unpack_result res = {0};
	struct unpack_job job = {.fd = fd,
				 .keep = -1,
				 .root = upper,
				 .lower = lower,
				 .n_lower = n,
				 .mode = UNPACK_LAYER,
				 .need_end = true,
				 .opts = &opts};

	if (!lower)
		return vps_err_sys(err, -ENOMEM, "unpack");
	for (size_t i = 0; i < n; i++) /* top first */
		lower[i] = layers[n - 1 - i];
	return unpack_run(&job, &res, err);
}
