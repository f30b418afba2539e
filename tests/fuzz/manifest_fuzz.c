/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Manifests, indexes, configs, references: whatever is taken must hold together. */
#include <stdlib.h>
#include <string.h>

#include "images/store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_digest(const char *d)
{
	if (!digest_valid(d))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const types[] = { NULL, IMG_MT_MANIFEST, IMG_MT_INDEX, IMG_MT_D_LIST };
	struct img_opts o = img_opts_fill(NULL);
	struct img_manifest m = { 0 };
	struct img_index x = { 0 };
	struct img_info i = { 0 };
	struct img_desc d;
	struct img_ref r;
	struct vps_err err = { 0 };
	if (size < 1)
		return 0;
	const char *mt = types[data[0] & 3];
	size_t n_layers = data[0] >> 2;
	char *text = malloc(size);
	if (!text)
		return 0;
	memcpy(text, data + 1, size - 1);
	text[size - 1] = 0;
	bool man = img_manifest_parse(text, size - 1, mt, &o.caps, &m, &err) == 0;
	bool idx = img_index_parse(text, size - 1, mt, &x, NULL) == 0;
	if (man && idx)
		abort(); /* one thing at a time */
	for (size_t k = 0; k < m.n_layers; k++)
		check_digest(m.layers[k].digest);
	for (size_t k = 0; k < x.n; k++)
		check_digest(x.v[k].desc.digest);
	if (img_index_pick(text, size - 1, mt, "amd64", NULL, &d, NULL) == 0)
		check_digest(d.digest);
	if (img_config_parse(text, size - 1, n_layers, &i, NULL) == 0 && i.n_layers != n_layers)
		abort();
	for (size_t k = 0; k < i.n_layers; k++)
		check_digest(i.layers[k]);
	if (img_ref_parse(text, &r, NULL) == 0) {
		char name[IMG_REF_MAX + 1], again[IMG_REF_MAX + 1], file[IMG_REF_MAX + 1];
		/* a canonical name names itself, and its file stays in its folder */
		if (img_ref_name(&r, name, NULL) < 0 || img_ref_canonical(name, again, NULL) < 0 ||
		    strcmp(name, again) != 0)
			abort();
		img_ref_file(name, file);
		if (strchr(file, '/') || file[0] == '.')
			abort();
	}
	img_manifest_done(&m);
	img_index_done(&x);
	img_info_done(&i);
	free(text);
	return 0;
}
