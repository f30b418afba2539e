// SPDX-License-Identifier: GPL-2.0-or-later
/* vps-spec(5): the definition as JSON, field by field from the table. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "runtime/spec.h"
#include "runtime/spec_fields.h"

/* ---- writing ------------------------------------------------------------ */

static void put_limit(struct json_out *o, const char *key, uint64_t v)
{
	if (v == SPEC_UNSET)
		return;
	if (v == SPEC_MAX)
		jo_str(o, key, "max");
	else
		jo_u64(o, key, v);
}

static void put_mounts(struct json_out *o, const char *key, const struct spec_mount *m, size_t n)
{
	if (n == 0)
		return;
	jo_array(o, key);
	for (size_t i = 0; i < n; i++) {
		jo_object(o, NULL);
		jo_str(o, "src", m[i].src);
		jo_str(o, "dst", m[i].dst);
		if (m[i].ro)
			jo_bool(o, "ro", true);
		jo_end_object(o);
	}
	jo_end_array(o);
}

static void put_io_max(struct json_out *o, const char *key, const struct spec_io_max *m, size_t n)
{
	if (n == 0)
		return;
	jo_array(o, key);
	for (size_t i = 0; i < n; i++) {
		jo_object(o, NULL);
		jo_str(o, "device", m[i].device);
		put_limit(o, "rbps", m[i].rbps);
		put_limit(o, "wbps", m[i].wbps);
		put_limit(o, "riops", m[i].riops);
		put_limit(o, "wiops", m[i].wiops);
		jo_end_object(o);
	}
	jo_end_array(o);
}

static void put_field(const struct vps_spec *s, const struct spec_field *f, struct json_out *o)
{
	const void *p = spec_member(s, f);

	switch (f->type) {
	case SF_STR:
		if (*(char *const *)p)
			jo_str(o, f->key, *(char *const *)p);
		break;
	case SF_STRV:
		if (*(char **const *)p)
			jo_strv(o, f->key, *(char **const *)p);
		break;
	case SF_UUID:
		if (*(const char *)p)
			jo_str(o, f->key, p);
		break;
	case SF_UINT:
		if (*(const unsigned *)p)
			jo_u64(o, f->key, *(const unsigned *)p);
		break;
	case SF_INT:
		if (*(const int *)p)
			jo_int(o, f->key, *(const int *)p);
		break;
	case SF_U64:
		if (*(const uint64_t *)p)
			jo_u64(o, f->key, *(const uint64_t *)p);
		break;
	case SF_LIMIT:
		put_limit(o, f->key, *(const uint64_t *)p);
		break;
	case SF_BOOL:
		if (*(const bool *)p)
			jo_bool(o, f->key, true);
		break;
	case SF_ENUM:
		jo_str(o, f->key, f->names[*(const unsigned *)p]);
		break;
	case SF_MOUNTS:
		put_mounts(o, f->key, *(struct spec_mount *const *)p, *spec_member_n(s, f));
		break;
	case SF_IO_MAX:
		put_io_max(o, f->key, *(struct spec_io_max *const *)p, *spec_member_n(s, f));
		break;
	}
}

void spec_to_json(const struct vps_spec *s, struct json_out *o, const char *key)
{
	jo_object(o, key);
	jo_u64(o, "version", SPEC_VERSION);
	for (const struct spec_field *f = spec_fields; f->key; f++)
		put_field(s, f, o);
	jo_end_object(o);
}

/* ---- reading ------------------------------------------------------------ */

static int wrong_type(struct vps_err *err, const char *key, const char *want)
{
	return vps_err_set(err, VPS_ECONF, "'%s' must be %s", key, want);
}

/* A C string cannot hold a NUL: the reader refuses what would be cut silently. */
static int get_str(const struct json *j, const char *key, char **ret, struct vps_err *err)
{
	if (json_type(j) != JSON_STRING)
		return wrong_type(err, key, "a string");
	return str_set(ret, json_str(j, NULL)) < 0 ? vps_err_sys(err, -ENOMEM, "%s", key) : 0;
}

static int get_u64(const struct json *j, const char *key, uint64_t max, uint64_t *ret,
		   struct vps_err *err)
{
	int64_t v = json_type(j) == JSON_INT ? json_int(j, -1) : -1;

	if (v < 0 || (uint64_t)v > max)
		return vps_err_set(err, VPS_ECONF, "'%s' must be a number from 0 to %llu", key,
				   (unsigned long long)max);
	*ret = (uint64_t)v;
	return 0;
}

static int get_limit(const struct json *j, const char *key, uint64_t *ret, struct vps_err *err)
{
	if (json_type(j) == JSON_STRING && str_eq(json_str(j, NULL), "max")) {
		*ret = SPEC_MAX;
		return 0;
	}
	return get_u64(j, key, INT64_MAX, ret, err);
}

static int get_enum(const struct json *j, const struct spec_field *f, unsigned *ret,
		    struct vps_err *err)
{
	const char *s = json_str(j, NULL);

	for (unsigned i = 0; s && f->names[i]; i++) {
		if (str_eq(s, f->names[i])) {
			*ret = i;
			return 0;
		}
	}
	return vps_err_set(err, VPS_ECONF, "'%s': not a known value (%s, …)", f->key, f->names[0]);
}

static int get_mount(const struct json *j, struct spec_mount *m, struct vps_err *err)
{
	if (json_type(j) != JSON_OBJECT)
		return wrong_type(err, "mounts", "an array of objects");
	for (size_t i = 0; i < json_len(j); i++) {
		const char *key = json_key(j, i);
		const struct json *v = json_at(j, i);
		int r = 0;
		if (str_eq(key, "src"))
			r = get_str(v, key, &m->src, err);
		else if (str_eq(key, "dst"))
			r = get_str(v, key, &m->dst, err);
		else if (str_eq(key, "ro") && json_type(v) == JSON_BOOL)
			m->ro = json_bool(v, false);
		else
			r = vps_err_set(err, VPS_ECONF, "mounts: unknown or wrong key '%s'", key);
		if (r < 0)
			return r;
	}
	if (!m->src || !m->dst)
		return vps_err_set(err, VPS_ECONF, "mounts: 'src' or 'dst' is missing");
	return 0;
}

static int get_mounts(const struct json *j, struct vps_spec *s, struct vps_err *err)
{
	size_t n = json_len(j);

	if (json_type(j) != JSON_ARRAY)
		return wrong_type(err, "mounts", "an array of objects");
	s->mounts = calloc(n ? n : 1, sizeof(*s->mounts));
	if (!s->mounts)
		return vps_err_sys(err, -ENOMEM, "mounts");
	s->n_mounts = n;
	for (size_t i = 0; i < n; i++) {
		int r = get_mount(json_at(j, i), &s->mounts[i], err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int get_io_max_one(const struct json *j, struct spec_io_max *m, struct vps_err *err)
{
	m->rbps = m->wbps = m->riops = m->wiops = SPEC_UNSET;
	if (json_type(j) != JSON_OBJECT)
		return wrong_type(err, "io_max", "an array of objects");
	for (size_t i = 0; i < json_len(j); i++) {
		const char *key = json_key(j, i);
		const struct json *v = json_at(j, i);
		int r;
		if (str_eq(key, "device"))
			r = get_str(v, key, &m->device, err);
		else if (str_eq(key, "rbps"))
			r = get_limit(v, key, &m->rbps, err);
		else if (str_eq(key, "wbps"))
			r = get_limit(v, key, &m->wbps, err);
		else if (str_eq(key, "riops"))
			r = get_limit(v, key, &m->riops, err);
		else if (str_eq(key, "wiops"))
			r = get_limit(v, key, &m->wiops, err);
		else
			r = vps_err_set(err, VPS_ECONF, "io_max: unknown key '%s'", key);
		if (r < 0)
			return r;
	}
	if (!m->device)
		return vps_err_set(err, VPS_ECONF, "io_max: 'device' is missing");
	return 0;
}

static int get_io_max(const struct json *j, struct vps_spec *s, struct vps_err *err)
{
	size_t n = json_len(j);

	if (json_type(j) != JSON_ARRAY)
		return wrong_type(err, "io_max", "an array of objects");
	s->io_max = calloc(n ? n : 1, sizeof(*s->io_max));
	if (!s->io_max)
		return vps_err_sys(err, -ENOMEM, "io_max");
	s->n_io_max = n;
	for (size_t i = 0; i < n; i++) {
		int r = get_io_max_one(json_at(j, i), &s->io_max[i], err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int get_field(const struct json *j, const struct spec_field *f, struct vps_spec *s,
		     struct vps_err *err)
{
	void *p = spec_member(s, f);
	uint64_t u = 0;
	int r;

	switch (f->type) {
	case SF_STR:
		return get_str(j, f->key, p, err);
	case SF_STRV:
		if (json_type(j) != JSON_ARRAY || json_strv(j, p) < 0)
			return wrong_type(err, f->key, "an array of strings");
		return 0;
	case SF_UUID:
		if (json_type(j) != JSON_STRING || strlen(json_str(j, "")) != sizeof(s->uuid) - 1)
			return wrong_type(err, f->key, "36 characters long");
		memcpy(p, json_str(j, ""), sizeof(s->uuid));
		return 0;
	case SF_UINT:
		r = get_u64(j, f->key, UINT32_MAX, &u, err);
		*(unsigned *)p = (unsigned)u;
		return r;
	case SF_U64:
		return get_u64(j, f->key, INT64_MAX, p, err);
	case SF_LIMIT:
		return get_limit(j, f->key, p, err);
	case SF_INT:
		if (json_type(j) != JSON_INT || json_int(j, 0) < -1000000 ||
		    json_int(j, 0) > 1000000)
			return wrong_type(err, f->key, "a small number");
		*(int *)p = (int)json_int(j, 0);
		return 0;
	case SF_BOOL:
		if (json_type(j) != JSON_BOOL)
			return wrong_type(err, f->key, "true or false");
		*(bool *)p = json_bool(j, false);
		return 0;
	case SF_ENUM:
		return get_enum(j, f, p, err);
	case SF_MOUNTS:
		return get_mounts(j, s, err);
	case SF_IO_MAX:
		return get_io_max(j, s, err);
	}
	return -EINVAL;
}

static int read_fields(const struct json *j, struct vps_spec *s, struct vps_err *err)
{
	/* Written in the table's order, so the search starts where the last one ended. */
	const struct spec_field *next = spec_fields;
	bool has_version = false;

	for (size_t i = 0; i < json_len(j); i++) {
		const char *key = json_key(j, i);
		const struct json *v = json_at(j, i);
		if (str_eq(key, "version")) {
			if (json_type(v) != JSON_INT || json_int(v, 0) != SPEC_VERSION)
				return vps_err_set(err, VPS_ECONF,
						   "version %lld; this program reads %d",
						   (long long)json_int(v, 0), SPEC_VERSION);
			has_version = true;
			continue;
		}
		const struct spec_field *f = next;
		while (f->key && !str_eq(f->key, key))
			f++;
		for (f = f->key ? f : spec_fields; f->key && !str_eq(f->key, key); f++)
			;
		if (!f->key)
			return vps_err_set(err, VPS_ECONF, "unknown key '%s'", key);
		int r = get_field(v, f, s, err);
		if (r < 0)
			return r;
		next = f + 1;
	}
	return has_version ? 0 : vps_err_set(err, VPS_ECONF, "'version' is missing");
}

int spec_from_json(const struct json *j, struct vps_spec *ret, struct vps_err *err)
{
	struct vps_spec s;
	int r;

	if (json_type(j) != JSON_OBJECT)
		return vps_err_set(err, VPS_ECONF, "not a JSON object");
	spec_init(&s);
	r = read_fields(j, &s, err);
	if (r < 0) {
		spec_done(&s);
		return r;
	}
	*ret = s;
	return 0;
}
