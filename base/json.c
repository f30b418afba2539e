/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading JSON. yajl is a tokenizer here: the tree, and every limit on it, is ours. Its
 * upstream is unmaintained, so it never sees more than JSON_MAX_BYTES (its buffers'
 * 32-bit arithmetic, CVE-2022-24795) and we check what it decodes.
 */
#include "base/json.h"

#include <locale.h>
#include <math.h>
#include <string.h>
#include <yajl/yajl_parse.h>

#include "base/fs.h"

/* A value of two bytes of text ("1,") takes sizeof(struct json) here: a cap of its own. */
#define MAX_VALUES (1u << 20)

struct json {
	enum json_type type;
	bool negative; /* JSON_INT */
	char *key;     /* of an object's member */
	union {
		bool b;
		uint64_t u; /* JSON_INT: two's complement when negative */
		struct {
			char *s; /* JSON_STRING; JSON_DOUBLE: as it was written */
			size_t len;
			double d;
		};
		struct { /* JSON_ARRAY, JSON_OBJECT */
			struct json *v;
			size_t n, cap;
		};
	};
};

/* Open containers are held by value in the stack and move into their parent when they
 * close; so nothing points into an array that still grows. stack[0] is an array that
 * receives the document. */
struct parser {
	struct json stack[JSON_MAX_DEPTH + 1];
	unsigned depth;
	size_t n_values;
	char *key; /* read, its value still to come */
	locale_t c_locale;
	int r; /* why a callback stopped yajl */
	const char *why;
	char *why_key;
};

static void json_done(struct json *j)
{
	free(j->key);
	if (j->type == JSON_STRING || j->type == JSON_DOUBLE) {
		free(j->s);
	} else if (j->type == JSON_ARRAY || j->type == JSON_OBJECT) {
		for (size_t i = 0; i < j->n; i++)
			json_done(&j->v[i]);
		free(j->v);
	}
}

struct json *json_free(struct json *j)
{
	if (j)
		json_done(j);
	free(j);
	return NULL;
}

/* yajl's callbacks: 1 to go on, 0 to stop. */
static int stop(struct parser *p, int r, const char *why)
{
	p->r = r;
	p->why = why;
	return 0;
}

/* Move *v into the innermost open container. Owns *v, also on failure. */
static int add(struct parser *p, struct json *v)
{
	struct json *in = &p->stack[p->depth];
	const char *why = NULL;
	int r = -EINVAL;

	v->key = take_ptr(p->key);
	if (++p->n_values > MAX_VALUES)
		why = "too many values";
	else if (mem_grow(in->v, in->n, in->cap) < 0)
		r = -ENOMEM;
	else
		r = 0;
	if (r < 0) {
		json_done(v);
		return stop(p, r, why);
	}
	in->v[in->n++] = *v;
	return 1;
}

/* A C string of valid UTF-8 without NUL, which every user may then rely on. */
static char *copy_text(struct parser *p, const unsigned char *s, size_t n)
{
	const char *text = (const char *)s;
	uint32_t cp;

	for (size_t i = 0, len; i < n; i += len) {
		len = utf8_next(text + i, n - i, &cp);
		if (len == 0 || cp == 0) {
			stop(p, -EINVAL, len ? "NUL in a string" : "invalid UTF-8 in a string");
			return NULL;
		}
	}

	char *copy = strndup(text, n);

	if (!copy)
		stop(p, -ENOMEM, NULL);
	return copy;
}

static int on_null(void *ctx)
{
	return add(ctx, &(struct json){.type = JSON_NULL});
}

static int on_bool(void *ctx, int b)
{
	return add(ctx, &(struct json){.type = JSON_BOOL, .b = b});
}

static int add_int(struct parser *p, const char *s)
{
	struct json v = {.type = JSON_INT, .negative = *s == '-'};

	if (parse_u64(s + v.negative, v.negative ? 1ull << 63 : UINT64_MAX, &v.u) < 0)
		return stop(p, -EINVAL, "integer out of range");
	if (v.negative)
		v.u = -v.u;
	if (v.u == 0)
		v.negative = false;
	return add(p, &v);
}

static int add_double(struct parser *p, const char *s, size_t n)
{
	struct json v = {.type = JSON_DOUBLE, .d = strtod_l(s, NULL, p->c_locale), .len = n};

	if (!isfinite(v.d))
		return stop(p, -EINVAL, "number out of range");
	v.s = strndup(s, n);
	return v.s ? add(p, &v) : stop(p, -ENOMEM, NULL);
}

static int on_number(void *ctx, const char *s, size_t n)
{
	struct parser *p = ctx;
	char text[128];

	if (n >= sizeof(text))
		return stop(p, -EINVAL, "number too long");
	memcpy(text, s, n);
	text[n] = '\0';
	return strpbrk(text, ".eE") ? add_double(p, text, n) : add_int(p, text);
}

static int on_string(void *ctx, const unsigned char *s, size_t n)
{
	struct json v = {.type = JSON_STRING, .s = copy_text(ctx, s, n), .len = n};

	return v.s ? add(ctx, &v) : 0;
}

static int on_key(void *ctx, const unsigned char *s, size_t n)
{
	struct parser *p = ctx;

	p->key = copy_text(p, s, n);
	return p->key != NULL;
}

static int open_container(struct parser *p, enum json_type type)
{
	if (p->depth == JSON_MAX_DEPTH)
		return stop(p, -EINVAL, "nested too deeply");

	struct json *in = &p->stack[++p->depth];

	*in = (struct json){.type = type};
	in->key = take_ptr(p->key);
	return 1;
}

static int close_container(struct parser *p)
{
	struct json v = p->stack[p->depth];

	p->stack[p->depth--] = (struct json){0};
	p->key = take_ptr(v.key);
	return add(p, &v);
}

static int on_start_map(void *ctx)
{
	return open_container(ctx, JSON_OBJECT);
}

static int on_start_array(void *ctx)
{
	return open_container(ctx, JSON_ARRAY);
}

static int by_string(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What two readers of one document may take differently is refused. By sorting: comparing
 * each with each would let a hostile 8 MiB keep us for hours. 0 or -errno. */
static int check_keys(struct parser *p, const struct json *obj)
{
	autofree char **keys = NULL;

	if (obj->n < 2)
		return 0;
	keys = reallocarray(NULL, obj->n, sizeof(*keys));
	if (!keys)
		return -ENOMEM;
	for (size_t i = 0; i < obj->n; i++)
		keys[i] = obj->v[i].key;
	qsort(keys, obj->n, sizeof(*keys), by_string);
	for (size_t i = 1; i < obj->n; i++) {
		if (str_eq(keys[i - 1], keys[i])) {
			p->why_key = str_escape(keys[i]);
			return -EINVAL;
		}
	}
	return 0;
}

static int on_end_map(void *ctx)
{
	struct parser *p = ctx;
	int r = check_keys(p, &p->stack[p->depth]);

	return r < 0 ? stop(p, r, "duplicate key") : close_container(p);
}

static int on_end_array(void *ctx)
{
	return close_container(ctx);
}

static const yajl_callbacks callbacks = {
	.yajl_null = on_null,
	.yajl_boolean = on_bool,
	.yajl_number = on_number,
	.yajl_string = on_string,
	.yajl_start_map = on_start_map,
	.yajl_map_key = on_key,
	.yajl_end_map = on_end_map,
	.yajl_start_array = on_start_array,
	.yajl_end_array = on_end_array,
};

static unsigned line_of(const char *text, size_t at)
{
	unsigned line = 1;

	for (size_t i = 0; i < at; i++)
		line += text[i] == '\n';
	return line;
}

/* yajl's words are "parse error: invalid object key (must be a string)\n". */
static int report(struct parser *p, yajl_handle h, unsigned line, struct vps_err *err)
{
	if (p->r == -ENOMEM)
		return vps_err_sys(err, -ENOMEM, "JSON");
	if (p->why)
		return vps_err_set(err, EINVAL, "JSON line %u: %s%s%s%s", line, p->why,
				   p->why_key ? " \"" : "", p->why_key ? p->why_key : "",
				   p->why_key ? "\"" : "");

	unsigned char *words = yajl_get_error(h, 0, NULL, 0);
	size_t n = words ? strcspn((char *)words, "\n") : 0;

	vps_err_set(err, EINVAL, "JSON line %u: %.*s", line, n ? (int)n : 11,
		    n ? (char *)words : "parse error");
	if (words)
		yajl_free_error(h, words);
	return -EINVAL;
}

static int parse(struct parser *p, const char *text, size_t len, struct vps_err *err)
{
	yajl_handle h = yajl_alloc(&callbacks, NULL, p);
	int r = 0;

	if (!h)
		return vps_err_sys(err, -ENOMEM, "JSON");
	/* After yajl_complete_parse the count of bytes means nothing: it is the end. */
	if (yajl_parse(h, (const unsigned char *)text, len) != yajl_status_ok)
		r = report(p, h, line_of(text, yajl_get_bytes_consumed(h)), err);
	else if (yajl_complete_parse(h) != yajl_status_ok)
		r = report(p, h, line_of(text, len), err);
	yajl_free(h);
	return r;
}

static int take_document(struct parser *p, struct json **ret, struct vps_err *err)
{
	struct json *doc;

	if (p->stack[0].n != 1)
		return vps_err_set(err, EINVAL, "JSON: no document");
	doc = malloc(sizeof(*doc));
	if (!doc)
		return vps_err_sys(err, -ENOMEM, "JSON");
	*doc = p->stack[0].v[0];
	p->stack[0].n = 0;
	*ret = doc;
	return 0;
}

int json_parse(const char *text, size_t len, struct json **ret, struct vps_err *err)
{
	struct parser p = {.stack = {{.type = JSON_ARRAY}}};
	int r;

	if (len > JSON_MAX_BYTES)
		return vps_err_set(err, EINVAL, "JSON: larger than %u MiB", JSON_MAX_BYTES >> 20);
	/* strtod(3) would take the user's decimal comma. */
	p.c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	if (!p.c_locale)
		return vps_err_sys(err, -ENOMEM, "JSON");
	r = parse(&p, text, len, err);
	if (r == 0)
		r = take_document(&p, ret, err);
	for (unsigned i = 0; i <= JSON_MAX_DEPTH; i++)
		json_done(&p.stack[i]);
	free(p.key);
	free(p.why_key);
	freelocale(p.c_locale);
	return r;
}

int json_load(int dirfd, const char *path, struct json **ret, struct vps_err *err)
{
	autofree char *text = NULL;
	size_t len;
	int r = fs_read(dirfd, path, JSON_MAX_BYTES, &text, &len);

	if (r < 0)
		return vps_err_sys(err, r, "read '%s'", path);
	r = json_parse(text, len, ret, err);
	return r < 0 ? vps_err_wrap(err, r, "'%s'", path) : 0;
}

enum json_type json_type(const struct json *j)
{
	return j ? j->type : JSON_NULL;
}

size_t json_len(const struct json *j)
{
	enum json_type t = json_type(j);

	return t == JSON_ARRAY || t == JSON_OBJECT ? j->n : 0;
}

const struct json *json_at(const struct json *j, size_t i)
{
	return i < json_len(j) ? &j->v[i] : NULL;
}

const char *json_key(const struct json *obj, size_t i)
{
	return json_type(obj) == JSON_OBJECT && i < obj->n ? obj->v[i].key : NULL;
}

const struct json *json_get(const struct json *obj, const char *key)
{
	if (json_type(obj) != JSON_OBJECT)
		return NULL;
	for (size_t i = 0; i < obj->n; i++)
		if (str_eq(obj->v[i].key, key))
			return &obj->v[i];
	return NULL;
}

const char *json_str(const struct json *j, const char *dflt)
{
	return json_type(j) == JSON_STRING ? j->s : dflt;
}

int64_t json_int(const struct json *j, int64_t dflt)
{
	if (json_type(j) != JSON_INT || (!j->negative && j->u > INT64_MAX))
		return dflt;
	return (int64_t)j->u;
}

uint64_t json_u64(const struct json *j, uint64_t dflt)
{
	return json_type(j) == JSON_INT && !j->negative ? j->u : dflt;
}

double json_num(const struct json *j, double dflt)
{
	if (json_type(j) == JSON_DOUBLE)
		return j->d;
	if (json_type(j) == JSON_INT)
		return j->negative ? (double)(int64_t)j->u : (double)j->u;
	return dflt;
}

const char *json_num_text(const struct json *j)
{
	return json_type(j) == JSON_DOUBLE ? j->s : NULL;
}

bool json_bool(const struct json *j, bool dflt)
{
	return json_type(j) == JSON_BOOL ? j->b : dflt;
}

int json_strv(const struct json *j, char ***ret)
{
	auto_strv v = NULL;
	size_t n = json_len(j);

	if (!j) {
		*ret = NULL;
		return 0;
	}
	if (j->type != JSON_ARRAY)
		return -EINVAL;
	v = calloc(n + 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		const char *s = json_str(&j->v[i], NULL);

		if (!s)
			return -EINVAL;
		v[i] = strdup(s);
		if (!v[i])
			return -ENOMEM;
	}
	*ret = take_ptr(v);
	return 0;
}
