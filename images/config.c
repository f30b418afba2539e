/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The config of an image (OCI image-spec 1.1, config.md) to struct img_info. Only what describes the
 * image is read; nothing of it configures the host. */
#include <string.h>

#include "base/json.h"
#include "images/store.h"

#define LIST_MAX 4096 /* environment, labels, … */

void img_info_done(struct img_info *i)
{
	strv_free(i->refs);
	strv_free(i->env);
	strv_free(i->entrypoint);
	strv_free(i->cmd);
	strv_free(i->labels);
	strv_free(i->volumes);
	strv_free(i->ports);
	strv_free(i->refused);
	free(i->arch);
	free(i->os);
	free(i->created);
	free(i->author);
	free(i->user);
	free(i->workdir);
	free(i->stop_signal);
	free(i->layers);
	free(i->diff_ids);
	*i = (struct img_info){ 0 };
}

void img_list_free(struct img_info *list, size_t n)
{
	for (size_t i = 0; list && i < n; i++)
		img_info_done(&list[i]);
	free(list);
}

static int bad(struct vps_err *err, const char *what)
{
	return vps_err_set(err, VPS_EBADIMAGE, "image config: %s", what);
}

static int get_str(const struct json *j, const char *key, char **ret, struct vps_err *err)
{
	const struct json *v = json_get(j, key);
	if (json_type(v) == JSON_NULL)
		return 0;
	if (json_type(v) != JSON_STRING)
		return vps_err_set(err, VPS_EBADIMAGE, "image config: '%s' is not a string", key);
	if (!*json_str(v, ""))
		return 0; /* docker writes "" for unset */
	return str_set(ret, json_str(v, NULL)) < 0 ? vps_err_sys(err, -ENOMEM, "image config") : 0;
}

static int get_strv(const struct json *j, const char *key, char ***ret, struct vps_err *err)
{
	const struct json *v = json_get(j, key);
	if (json_type(v) == JSON_NULL)
		return 0;
	if (json_len(v) > LIST_MAX)
		return vps_err_set(err, VPS_EBADIMAGE, "image config: '%s' is too long", key);
	int r = json_strv(v, ret);
	if (r == -ENOMEM)
		return vps_err_sys(err, r, "image config");
	if (r < 0)
		return vps_err_set(err, VPS_EBADIMAGE, "image config: '%s' is not a list of strings",
				   key);
	return 0;
}

/* An object's keys ("/data": {}), or "key=value" where values are strings. */
static int get_map(const struct json *j, const char *key, bool values, char ***ret,
		   struct vps_err *err)
{
	const struct json *v = json_get(j, key);
	if (json_type(v) == JSON_NULL)
		return 0;
	if (json_type(v) != JSON_OBJECT || json_len(v) > LIST_MAX)
		return vps_err_set(err, VPS_EBADIMAGE, "image config: '%s' is not an object", key);
	for (size_t i = 0; i < json_len(v); i++) {
		int r = values ? strv_addf(ret, "%s=%s", json_key(v, i), json_str(json_at(v, i), "")) :
				 strv_add(ret, json_key(v, i));
		if (r < 0)
			return vps_err_sys(err, r, "image config");
	}
	return 0;
}

static int get_process(const struct json *c, struct img_info *i, struct vps_err *err)
{
	int r;
	if (json_type(c) == JSON_NULL)
		return 0;
	if (json_type(c) != JSON_OBJECT)
		return bad(err, "'config' is not an object");
	if ((r = get_strv(c, "Env", &i->env, err)) < 0 ||
	    (r = get_strv(c, "Entrypoint", &i->entrypoint, err)) < 0 ||
	    (r = get_strv(c, "Cmd", &i->cmd, err)) < 0 ||
	    (r = get_str(c, "User", &i->user, err)) < 0 ||
	    (r = get_str(c, "WorkingDir", &i->workdir, err)) < 0 ||
	    (r = get_str(c, "StopSignal", &i->stop_signal, err)) < 0 ||
	    (r = get_map(c, "Labels", true, &i->labels, err)) < 0 ||
	    (r = get_map(c, "Volumes", false, &i->volumes, err)) < 0 ||
	    (r = get_map(c, "ExposedPorts", false, &i->ports, err)) < 0)
		return r;
	return 0;
}

static int get_layers(const struct json *rootfs, size_t n, struct img_info *i, struct vps_err *err)
{
	const struct json *ids = json_get(rootfs, "diff_ids");
	if (!str_eq(json_str(json_get(rootfs, "type"), NULL), "layers") ||
	    json_type(ids) != JSON_ARRAY)
		return bad(err, "no 'rootfs' of type 'layers' with 'diff_ids'");
	if (json_len(ids) != n)
		return vps_err_set(err, VPS_EBADIMAGE, "image config: %zu diff ids for %zu layers",
				   json_len(ids), n);
	i->diff_ids = calloc(n + 1, sizeof(*i->diff_ids));
	i->layers = calloc(n + 1, sizeof(*i->layers));
	if (!i->diff_ids || !i->layers)
		return vps_err_sys(err, -ENOMEM, "image config");
	for (size_t k = 0; k < n; k++) {
		const char *d = json_str(json_at(ids, k), NULL);
		if (!d || !digest_valid(d))
			return bad(err, "a diff id is not a sha256 digest");
		memcpy(i->diff_ids[k], d, DIGEST_LEN);
		img_chain_next(k ? i->layers[k - 1] : NULL, d, i->layers[k]);
	}
	i->n_layers = n;
	return 0;
}

int img_config_parse(const char *text, size_t len, size_t n_layers, struct img_info *ret,
		     struct vps_err *err)
{
	auto_json doc = NULL;
	int r = img_json_parse("image config", text, len, &doc, err);
	if (r < 0)
		return r;
	if (json_type(doc) != JSON_OBJECT)
		return bad(err, "not a JSON object");
	if (json_get(doc, "manifests") || json_get(doc, "layers"))
		return bad(err, "is a manifest, not a config");
	auto_done(img_info_done) struct img_info i = { 0 };
	if ((r = get_str(doc, "architecture", &i.arch, err)) < 0 ||
	    (r = get_str(doc, "os", &i.os, err)) < 0 ||
	    (r = get_str(doc, "created", &i.created, err)) < 0 ||
	    (r = get_str(doc, "author", &i.author, err)) < 0 ||
	    (r = get_process(json_get(doc, "config"), &i, err)) < 0 ||
	    (r = get_layers(json_get(doc, "rootfs"), n_layers, &i, err)) < 0)
		return r;
	if (i.os && !str_eq(i.os, "linux"))
		return bad(err, "not an image for Linux");
	if (!i.os && str_set(&i.os, "linux") < 0)
		return vps_err_sys(err, -ENOMEM, "image config");
	*ret = i;
	i = (struct img_info){ 0 };
	return 0;
}

void img_chain_next(const char *parent, const char *diff_id, char out[DIGEST_LEN])
{
	char text[2 * DIGEST_LEN];
	if (!parent || !*parent) {
		memcpy(out, diff_id, DIGEST_LEN);
		return;
	}
	size_t n = strlen(parent), m = strlen(diff_id);
	memcpy(text, parent, n);
	text[n] = ' ';
	memcpy(text + n + 1, diff_id, m);
	digest_of(text, n + 1 + m, out);
}
