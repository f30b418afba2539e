/* SPDX-License-Identifier: GPL-2.0-or-later */
/* JSON. The only user of yajl. Reading caps size, depth and number range;
 * duplicate keys are refused; strings are UTF-8. */
#ifndef VPS_BASE_JSON_H
#define VPS_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

enum json_type { JSON_NULL, JSON_BOOL, JSON_INT, JSON_DOUBLE, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

/* Read-only tree; a child is valid as long as its root. */
struct json;

#define JSON_MAX_BYTES (8u << 20)
#define JSON_MAX_DEPTH 32

/* Parse exactly one document (RFC 8259; trailing junk is an error). -EINVAL with line and
 * reason in err for bad text, duplicate keys, NUL or invalid UTF-8 in a string, an integer
 * beyond int64 and uint64, a number beyond double, over a cap. -ENOMEM. */
int json_parse(const char *text, size_t len, struct json **ret, struct vps_err *err);
/* The same from a file of the host's own trees (base/fs.h); -errno when it cannot be read. */
int json_load(int dirfd, const char *path, struct json **ret, struct vps_err *err);
struct json *json_free(struct json *j);
static inline void json_freep(struct json **j) { *j = json_free(*j); }
#define auto_json auto_done(json_freep) struct json *

enum json_type json_type(const struct json *j); /* NULL counts as JSON_NULL */
/* Member of an object, NULL when absent or not an object. */
const struct json *json_get(const struct json *obj, const char *key);
size_t json_len(const struct json *j); /* of an array or object, else 0 */
const struct json *json_at(const struct json *j, size_t i); /* value i of an array or object */
const char *json_key(const struct json *obj, size_t i);
/* Typed views; the default when absent or of another type. */
const char *json_str(const struct json *j, const char *dflt);
int64_t json_int(const struct json *j, int64_t dflt); /* also for dflt when above INT64_MAX */
uint64_t json_u64(const struct json *j, uint64_t dflt); /* also for dflt when negative */
double json_num(const struct json *j, double dflt); /* an integer, too */
const char *json_num_text(const struct json *j); /* a JSON_DOUBLE as it was written, else NULL */
bool json_bool(const struct json *j, bool dflt);
/* Array of strings to strv; -EINVAL when it is anything else. Absent gives NULL, 0; an empty
 * array gives an empty vector that is not NULL. */
int json_strv(const struct json *j, char ***ret);

/* Writing: into a strbuf, pretty (two spaces) or on one line; no newline at the end. A key of
 * NULL inside an array. Out of memory is the strbuf's to tell. Strings come out as valid
 * UTF-8 without anything that acts on a terminal: bad bytes become U+FFFD, unsafe characters
 * (utf8_is_unsafe) \u escapes. At most 63 levels. */
struct json_out {
	struct strbuf *sb;
	bool pretty;
	unsigned depth;
	uint64_t filled; /* bit a depth: something was written there */
};
#define JSON_OUT(sbp, prettyp) { .sb = (sbp), .pretty = (prettyp) }
void jo_object(struct json_out *o, const char *key);
void jo_array(struct json_out *o, const char *key);
void jo_end_object(struct json_out *o);
void jo_end_array(struct json_out *o);
void jo_str(struct json_out *o, const char *key, const char *value); /* NULL writes null */
void jo_strn(struct json_out *o, const char *key, const char *value, size_t len);
void jo_int(struct json_out *o, const char *key, int64_t v);
void jo_u64(struct json_out *o, const char *key, uint64_t v);
void jo_num(struct json_out *o, const char *key, double v); /* null when not finite */
void jo_bool(struct json_out *o, const char *key, bool v);
void jo_null(struct json_out *o, const char *key);
void jo_strv(struct json_out *o, const char *key, char *const *v);
/* Copy a parsed value. */
void jo_json(struct json_out *o, const char *key, const struct json *v);

#endif
