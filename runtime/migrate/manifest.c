/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The manifest of a checkpoint as text: pure. */
#include <stdio.h>
#include <string.h>

#include "base/digest.h"
#include "base/json.h"
#include "base/mem.h"
#include "runtime/migrate/manifest.h"

/* What is no part of it: the manifest itself, what a driver notes down for people, and links that it makes itself. */
bool checkpoint_apart(const char *name)
{
	return str_eq(name, CHECKPOINT_MANIFEST) || str_eq(name, CHECKPOINT_MAC) || str_eq(name, "work") ||
	       str_eq(name, CHECKPOINT_PARENT);
}

bool checkpoint_round_name(const char *name, size_t len)
{
	return len > 0 && len <= 3 && strspn(name, "0123456789") >= len && name[0] != '0';
}

bool checkpoint_name_ok(const char *name)
{
	const char *slash = strchr(name, '/');
	size_t n;

	if (slash) {
		if (!checkpoint_round_name(name, (size_t)(slash - name)))
			return false;
		name = slash + 1;
	}
	n = strlen(name);
	return n > 0 && n < 256 && name[0] != '.' && !strpbrk(name, "/\t\n") && !checkpoint_apart(name);
}

static int bad(struct vps_err *err, const char *what)
{
	return vps_err_set(err, EBADMSG, "the checkpoint's manifest: %s", what);
}

static int parse_file(const struct json *j, const char *last, struct checkpoint_info *i, char ***files,
		      struct vps_err *err)
{
	const char *name = json_str(json_get(j, "name"), ""), *digest = json_str(json_get(j, "digest"), "");
	uint64_t size = json_u64(json_get(j, "size"), UINT64_MAX);
	int r;

	if (!checkpoint_name_ok(name) || !digest_valid(digest) || size > (1ull << 60))
		return bad(err, "a file without name, size or digest");
	/* Sorted, so that none can be there twice. */
	if (last && strcmp(last, name) >= 0)
		return bad(err, "the files are not in order");
	i->bytes += size;
	i->n_files++;
	r = strv_addf(files, "%s\t%llu\t%s", name, (unsigned long long)size, digest);
	return r < 0 ? vps_err_sys(err, r, "checkpoint") : 0;
}

int checkpoint_parse(const char *text, size_t len, struct checkpoint_info *ret, char ***ret_files,
		     struct vps_err *err)
{
	auto_json j = NULL;
	auto_strv files = NULL;
	struct checkpoint_info i = {0};
	const struct json *list;
	const char *isolation;
	int r = json_parse(text, len, &j, err);

	if (r < 0)
		return vps_err_wrap(err, r, "the checkpoint's manifest");
	if (json_int(json_get(j, "version"), 0) != CHECKPOINT_VERSION)
		return vps_err_set(err, VPS_EUNSUPPORTED, "the checkpoint was made by another version of vps");
	isolation = json_str(json_get(j, "isolation"), "");
	list = json_get(j, "files");
	i.machine = str_eq(isolation, "vm");
	if (!i.machine && !str_eq(isolation, "container"))
		return bad(err, "isolation is neither container nor vm");
	if (json_type(list) != JSON_ARRAY || json_len(list) > CHECKPOINT_FILES)
		return bad(err, "no list of files");
	i.created = json_u64(json_get(j, "created"), 0);
	i.ran = json_u64(json_get(j, "ran"), 0);
	snprintf(i.uuid, sizeof(i.uuid), "%s", json_str(json_get(j, "uuid"), ""));
	snprintf(i.kernel, sizeof(i.kernel), "%s", json_str(json_get(j, "kernel"), ""));
	for (size_t k = 0; r == 0 && k < json_len(list); k++)
		r = parse_file(json_at(list, k), k ? json_str(json_get(json_at(list, k - 1), "name"), "") : NULL, &i,
			       &files, err);
	if (r < 0)
		return r;
	*ret = i;
	*ret_files = take_ptr(files);
	return 0;
}
