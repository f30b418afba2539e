/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Layers that are there: opened, described. Making them is layer_make.c's, apart so that a program that only
 * starts VPSes is not linked with the unpacker and libarchive. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/json.h"
#include "images/store.h"

#define LAYER_JSON_MAX (8u << 20)

void img_layer_done(struct img_layer *l)
{
	strv_free(l->refused);
	*l = (struct img_layer){ 0 };
}

int img_layer_open(struct img_store *s, const char *chain, struct vps_err *err)
{
	char path[DIGEST_LEN + 4];
	if (!digest_valid(chain))
		return vps_err_set(err, EINVAL, "not a chain id");
	snprintf(path, sizeof(path), "%s/fs", img_hex(chain));
	int fd = openat(s->layers, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return vps_err_set(err, VPS_ENOIMAGE, "layer %s is not in the store", chain);
	return fd < 0 ? vps_err_sys(err, -errno, "open layer %s", chain) : fd;
}

static int get_digest(const struct json *j, const char *key, char *out)
{
	const char *d = json_str(json_get(j, key), NULL);
	if (!d)
		return -ENODATA;
	if (!digest_valid(d))
		return -EINVAL;
	memcpy(out, d, DIGEST_LEN);
	return 0;
}

int img_layer_read(struct img_store *s, const char *chain, struct img_layer *ret,
		   struct vps_err *err)
{
	char path[DIGEST_LEN + 16];
	autofree char *text = NULL;
	size_t len;
	if (!digest_valid(chain))
		return vps_err_set(err, EINVAL, "not a chain id");
	snprintf(path, sizeof(path), "%s/layer.json", img_hex(chain));
	int r = fs_read(s->layers, path, LAYER_JSON_MAX, &text, &len);
	if (r == -ENOENT)
		return vps_err_set(err, VPS_ENOIMAGE, "layer %s is not in the store", chain);
	if (r < 0)
		return vps_err_sys(err, r, "read %s", path);
	auto_json j = NULL;
	if (json_parse(text, len, &j, NULL) < 0)
		return vps_err_set(err, EUCLEAN, "layer.json of %s is damaged", chain);
	auto_done(img_layer_done) struct img_layer l = {
		.size = json_u64(json_get(j, "size"), 0),
		.tar_size = json_u64(json_get(j, "tar_size"), 0),
		.entries = json_u64(json_get(j, "entries"), 0),
		.newest = json_int(json_get(j, "newest"), 0),
	};
	if (get_digest(j, "chain", l.chain) < 0 || !str_eq(l.chain, chain) ||
	    get_digest(j, "diff_id", l.diff_id) < 0 || get_digest(j, "parent", l.parent) == -EINVAL)
		return vps_err_set(err, EUCLEAN, "layer.json of %s is damaged", chain);
	if (json_strv(json_get(j, "refused"), &l.refused) < 0)
		return vps_err_set(err, EUCLEAN, "layer.json of %s is damaged", chain);
	*ret = l;
	l = (struct img_layer){ 0 };
	return 0;
}
