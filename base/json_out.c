/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writing JSON. RFC 8259; what comes out is valid UTF-8 and safe on a terminal whatever
 * went in, since names, environments and messages are the tenants'. */
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"

static void add_escaped_unit(struct strbuf *sb, uint32_t cp)
{
	static const char names[] = "\b\f\n\r\t";
	static const char letters[] = "bfnrt";
	const char *at = cp && cp < 0x20 ? strchr(names, (int)cp) : NULL;

	if (at)
		sb_addf(sb, "\\%c", letters[at - names]);
	else
		sb_addf(sb, "\\u%04x", cp); /* all unsafe ones are below U+10000 */
}

static void add_string(struct strbuf *sb, const char *s, size_t n)
{
	sb_addc(sb, '"');
	while (n > 0) {
		uint32_t cp = 0;
		size_t len = utf8_next(s, n, &cp);

		if (len == 0) {
			sb_add(sb, "\xef\xbf\xbd"); /* U+FFFD, a byte each */
			len = 1;
		} else if (utf8_is_unsafe(cp)) {
			add_escaped_unit(sb, cp);
		} else {
			if (cp == '"' || cp == '\\')
				sb_addc(sb, '\\');
			sb_addn(sb, s, len);
		}
		s += len;
		n -= len;
	}
	sb_addc(sb, '"');
}

static uint64_t depth_bit(const struct json_out *o)
{
	return 1ull << (o->depth & 63);
}

static void new_line(struct json_out *o)
{
	sb_addc(o->sb, '\n');
	for (unsigned i = 0; i < o->depth; i++)
		sb_add(o->sb, "  ");
}

/* What stands before a value: comma, line and key. */
static void begin(struct json_out *o, const char *key)
{
	if (o->depth > 0) {
		if (o->filled & depth_bit(o))
			sb_add(o->sb, o->pretty ? "," : ", ");
		if (o->pretty)
			new_line(o);
	}
	o->filled |= depth_bit(o);
	if (key) {
		add_string(o->sb, key, strlen(key));
		sb_add(o->sb, ": ");
	}
}

static void open_container(struct json_out *o, const char *key, char c)
{
	begin(o, key);
	sb_addc(o->sb, c);
	o->depth++;
	o->filled &= ~depth_bit(o);
}

static void close_container(struct json_out *o, char c)
{
	bool filled = o->filled & depth_bit(o);

	o->depth--;
	if (o->pretty && filled)
		new_line(o);
	sb_addc(o->sb, c);
}

void jo_object(struct json_out *o, const char *key)
{
	open_container(o, key, '{');
}

void jo_array(struct json_out *o, const char *key)
{
	open_container(o, key, '[');
}

void jo_end_object(struct json_out *o)
{
	close_container(o, '}');
}

void jo_end_array(struct json_out *o)
{
	close_container(o, ']');
}

void jo_strn(struct json_out *o, const char *key, const char *value, size_t len)
{
	begin(o, key);
	add_string(o->sb, value, len);
}

void jo_str(struct json_out *o, const char *key, const char *value)
{
	if (value)
		jo_strn(o, key, value, strlen(value));
	else
		jo_null(o, key);
}

void jo_int(struct json_out *o, const char *key, int64_t v)
{
	begin(o, key);
	sb_addf(o->sb, "%" PRId64, v);
}

void jo_u64(struct json_out *o, const char *key, uint64_t v)
{
	begin(o, key);
	sb_addf(o->sb, "%" PRIu64, v);
}

/* The shortest of 15 to 17 digits that reads back the same. */
void jo_num(struct json_out *o, const char *key, double v)
{
	char text[32];
	locale_t c, old;

	if (!isfinite(v)) {
		jo_null(o, key); /* JSON knows neither */
		return;
	}
	/* The decimal point is the locale's otherwise. */
	c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	old = uselocale(c);
	for (int digits = 15; digits <= 17; digits++) {
		snprintf(text, sizeof(text), "%.*g", digits, v);
		if (strtod(text, NULL) == v)
			break;
	}
	uselocale(old);
	if (c)
		freelocale(c);
	begin(o, key);
	sb_add(o->sb, text);
}

void jo_bool(struct json_out *o, const char *key, bool v)
{
	begin(o, key);
	sb_add(o->sb, v ? "true" : "false");
}

void jo_null(struct json_out *o, const char *key)
{
	begin(o, key);
	sb_add(o->sb, "null");
}

void jo_strv(struct json_out *o, const char *key, char *const *v)
{
	jo_array(o, key);
	for (size_t i = 0; v && v[i]; i++)
		jo_str(o, NULL, v[i]);
	jo_end_array(o);
}

static void add_number(struct json_out *o, const char *key, const struct json *v)
{
	if (json_num_text(v)) {
		begin(o, key);
		sb_add(o->sb, json_num_text(v)); /* 1.10 stays 1.10 */
	} else if (json_u64(v, 0) > 0) {
		jo_u64(o, key, json_u64(v, 0));
	} else {
		jo_int(o, key, json_int(v, 0));
	}
}

void jo_json(struct json_out *o, const char *key, const struct json *v)
{
	enum json_type type = json_type(v);

	switch (type) {
	case JSON_NULL:
		jo_null(o, key);
		break;
	case JSON_BOOL:
		jo_bool(o, key, json_bool(v, false));
		break;
	case JSON_INT:
	case JSON_DOUBLE:
		add_number(o, key, v);
		break;
	case JSON_STRING:
		jo_str(o, key, json_str(v, ""));
		break;
	case JSON_ARRAY:
	case JSON_OBJECT:
		open_container(o, key, type == JSON_ARRAY ? '[' : '{');
		for (size_t i = 0; i < json_len(v); i++)
			jo_json(o, json_key(v, i), json_at(v, i));
		close_container(o, type == JSON_ARRAY ? ']' : '}');
		break;
	}
}
