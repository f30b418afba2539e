/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * base/json: whatever text comes, parsing ends in a tree or a worded error; what we write of
 * a tree is read back as the same tree; and nothing in it acts on a terminal.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void check_text(const char *s)
{
	size_t n = strlen(s);
	uint32_t cp;

	for (size_t i = 0, len; i < n; i += len) {
		len = utf8_next(s + i, n - i, &cp);
		check(len > 0 && (cp == '\n' || !utf8_is_unsafe(cp)));
	}
}

static char *emit(const struct json *j, bool pretty)
{
	struct strbuf sb = STRBUF_INIT;
	struct json_out o = JSON_OUT(&sb, pretty);

	jo_json(&o, NULL, j);
	return sb_take(&sb);
}

/* Each value by each view, wrong ones too. */
static void look_at(const struct json *j, unsigned depth)
{
	auto_strv v = NULL;
	const char *s = json_str(j, NULL);

	check(depth <= JSON_MAX_DEPTH + 1);
	if (s)
		check(strlen(s) < JSON_MAX_BYTES);
	json_int(j, 0);
	json_u64(j, 0);
	json_num(j, 0);
	json_bool(j, false);
	json_strv(j, &v);
	for (size_t i = 0; i < json_len(j); i++) {
		const char *key = json_key(j, i);

		if (key)
			check(json_get(j, key) == json_at(j, i)); /* no second one before it */
		look_at(json_at(j, i), depth + 1);
	}
}

static void check_round_trip(const struct json *j, bool pretty)
{
	autofree char *first = emit(j, pretty);
	auto_json back = NULL;

	check_text(first);
	check(json_parse(first, strlen(first), &back, NULL) == 0);

	autofree char *second = emit(back, pretty);

	check(strcmp(first, second) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vps_err err = {0};
	auto_json j = NULL;
	int r = json_parse((const char *)data, size, &j, &err);

	if (r < 0) {
		check(!j && err.code == -r && err.msg[0]);
		check_text(err.msg);
		return 0;
	}
	check(r == 0 && j && err.code == 0);
	look_at(j, 1);
	check_round_trip(j, false);
	check_round_trip(j, true);
	return 0;
}
