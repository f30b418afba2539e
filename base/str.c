/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/str.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void sb_done(struct strbuf *sb)
{
	if (!sb)
		return;
	free(sb->s);
	*sb = (struct strbuf)STRBUF_INIT;
}

void sb_reset(struct strbuf *sb)
{
	sb->len = 0;
	sb->oom = false;
	if (sb->s)
		sb->s[0] = '\0';
}

/* Room for n more bytes and the NUL. */
static bool sb_grow(struct strbuf *sb, size_t n)
{
	size_t need;

	if (sb->oom)
		return false;
	if (__builtin_add_overflow(sb->len, n, &need) || need == SIZE_MAX)
		goto oom;
	need++;
	if (need <= sb->cap)
		return true;

	size_t cap = sb->cap ? sb->cap : 64;

	while (cap < need)
		cap = cap > SIZE_MAX / 2 ? need : cap * 2;

	char *s = realloc(sb->s, cap);

	if (!s)
		goto oom;
	sb->s = s;
	sb->cap = cap;
	return true;
oom:
	sb->oom = true;
	return false;
}

void sb_addn(struct strbuf *sb, const void *p, size_t n)
{
	if (!sb_grow(sb, n))
		return;
	if (n > 0)
		memcpy(sb->s + sb->len, p, n);
	sb->len += n;
	sb->s[sb->len] = '\0';
}

void sb_add(struct strbuf *sb, const char *s)
{
	if (s)
		sb_addn(sb, s, strlen(s));
}

void sb_addc(struct strbuf *sb, char c)
{
	sb_addn(sb, &c, 1);
}

static void PRINTF_LIKE(2, 0) sb_vaddf(struct strbuf *sb, const char *fmt, va_list ap)
{
	va_list again;

	if (!sb_grow(sb, 0))
		return;
	va_copy(again, ap);
	int n = vsnprintf(sb->s + sb->len, sb->cap - sb->len, fmt, ap);

	if (n < 0) {
		sb->s[sb->len] = '\0';
		sb->oom = true;
	} else if ((size_t)n < sb->cap - sb->len) {
		sb->len += (size_t)n;
	} else if (sb_grow(sb, (size_t)n)) {
		vsnprintf(sb->s + sb->len, sb->cap - sb->len, fmt, again);
		sb->len += (size_t)n;
	} else {
		sb->s[sb->len] = '\0'; /* what the first try left there */
	}
	va_end(again);
}

void sb_addf(struct strbuf *sb, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	sb_vaddf(sb, fmt, ap);
	va_end(ap);
}

int sb_ok(const struct strbuf *sb)
{
	return sb->oom ? -ENOMEM : 0;
}

char *sb_take(struct strbuf *sb)
{
	char *s = NULL;

	if (sb_grow(sb, 0)) {
		s = take_ptr(sb->s);
		s[sb->len] = '\0';
	}
	sb_done(sb);
	return s;
}

char *str_fmt(const char *fmt, ...)
{
	struct strbuf sb = STRBUF_INIT;
	va_list ap;

	va_start(ap, fmt);
	sb_vaddf(&sb, fmt, ap);
	va_end(ap);
	return sb_take(&sb);
}

bool str_starts(const char *s, const char *prefix)
{
	return s && strncmp(s, prefix, strlen(prefix)) == 0;
}

bool str_ends(const char *s, const char *suffix)
{
	size_t n = s ? strlen(s) : 0, k = strlen(suffix);

	return s && n >= k && memcmp(s + n - k, suffix, k) == 0;
}

int str_set(char **dst, const char *src)
{
	char *copy = NULL;

	if (src) {
		copy = strdup(src);
		if (!copy)
			return -ENOMEM;
	}
	free(*dst);
	*dst = copy;
	return 0;
}

size_t strv_len(char *const *v)
{
	size_t n = 0;

	while (v && v[n])
		n++;
	return n;
}

int strv_take(char ***v, char *s)
{
	if (!s)
		return -ENOMEM;

	size_t n = strv_len(*v);

	/* No capacity is kept, so that any NULL-terminated vector on the heap will do. */
	char **bigger = reallocarray(*v, n + 2, sizeof(*bigger));

	if (!bigger) {
		free(s);
		return -ENOMEM;
	}
	*v = bigger;
	(*v)[n] = s;
	(*v)[n + 1] = NULL;
	return 0;
}

int strv_add(char ***v, const char *s)
{
	return strv_take(v, strdup(s));
}

int strv_addf(char ***v, const char *fmt, ...)
{
	struct strbuf sb = STRBUF_INIT;
	va_list ap;

	va_start(ap, fmt);
	sb_vaddf(&sb, fmt, ap);
	va_end(ap);
	return strv_take(v, sb_take(&sb));
}

int strv_copy(char ***ret, char *const *v)
{
	auto_strv copy = NULL;
	int r;

	for (size_t i = 0; v && v[i]; i++)
		if ((r = strv_add(&copy, v[i])) < 0)
			return r;
	*ret = take_ptr(copy);
	return 0;
}

bool strv_has(char *const *v, const char *s)
{
	for (size_t i = 0; v && v[i]; i++)
		if (str_eq(v[i], s))
			return true;
	return false;
}

bool strv_equal(char *const *a, char *const *b)
{
	size_t n = strv_len(a);

	for (size_t i = 0; i < n && strv_len(b) == n; i++)
		if (!str_eq(a[i], b[i]))
			return false;
	return strv_len(b) == n;
}

char **strv_free(char **v)
{
	for (size_t i = 0; v && v[i]; i++)
		free(v[i]);
	free(v);
	return NULL;
}

int strv_split(const char *s, const char *seps, char ***ret)
{
	auto_strv parts = NULL;
	int r;

	for (;;) {
		size_t n = strcspn(s, seps);

		if ((r = strv_take(&parts, strndup(s, n))) < 0)
			return r;
		if (!s[n])
			break;
		s += n + 1;
	}
	*ret = take_ptr(parts);
	return 0;
}

char *fmt_hex(const void *p, size_t n, char *buf)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *b = p;

	for (size_t i = 0; i < n; i++) {
		buf[2 * i] = digits[b[i] >> 4];
		buf[2 * i + 1] = digits[b[i] & 15];
	}
	buf[2 * n] = '\0';
	return buf;
}

/* The well-formed sequences of the Unicode standard, table 3-7: it is the range of the
 * second byte that keeps overlong forms, surrogates and values above U+10FFFF out. */
size_t utf8_next(const char *s, size_t n, uint32_t *ret_cp)
{
	const unsigned char *b = (const unsigned char *)s;
	unsigned char lo = 0x80, hi = 0xbf;
	size_t len;
	uint32_t cp;

	if (n == 0)
		return 0;
	if (b[0] < 0x80) {
		*ret_cp = b[0];
		return 1;
	}
	if (b[0] >= 0xc2 && b[0] <= 0xdf) {
		len = 2;
		cp = b[0] & 0x1f;
	} else if ((b[0] & 0xf0) == 0xe0) {
		len = 3;
		cp = b[0] & 0x0f;
		if (b[0] == 0xe0)
			lo = 0xa0;
		else if (b[0] == 0xed)
			hi = 0x9f;
	} else if (b[0] >= 0xf0 && b[0] <= 0xf4) {
		len = 4;
		cp = b[0] & 0x07;
		if (b[0] == 0xf0)
			lo = 0x90;
		else if (b[0] == 0xf4)
			hi = 0x8f;
	} else {
		return 0;
	}
	if (n < len)
		return 0;
	for (size_t i = 1; i < len; i++) {
		if (b[i] < lo || b[i] > hi)
			return 0;
		cp = cp << 6 | (b[i] & 0x3f);
		lo = 0x80;
		hi = 0xbf;
	}
	*ret_cp = cp;
	return len;
}

bool utf8_is_unsafe(uint32_t cp)
{
	return cp < 0x20 || (cp >= 0x7f && cp <= 0x9f) || cp == 0x061c || cp == 0x200e ||
	       cp == 0x200f || (cp >= 0x2028 && cp <= 0x202e) || (cp >= 0x2066 && cp <= 0x2069);
}

void sb_add_escaped(struct strbuf *sb, const char *s, size_t n)
{
	while (n > 0) {
		uint32_t cp = 0;
		size_t len = utf8_next(s, n, &cp);
		bool bad = len == 0 || utf8_is_unsafe(cp);

		if (len == 0)
			len = 1;
		if (len == 1 && *s == '\n')
			sb_add(sb, "\\n");
		else if (len == 1 && *s == '\\')
			sb_add(sb, "\\\\");
		else if (!bad)
			sb_addn(sb, s, len);
		else
			for (size_t i = 0; i < len; i++)
				sb_addf(sb, "\\x%02x", (unsigned char)s[i]);
		s += len;
		n -= len;
	}
}

char *str_escape(const char *s)
{
	struct strbuf sb = STRBUF_INIT;

	sb_add_escaped(&sb, s, strlen(s));
	return sb_take(&sb);
}
