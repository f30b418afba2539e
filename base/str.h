/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Strings: a growing buffer, NULL-terminated vectors, numbers with units, and
 * escaping of what comes from a tenant. */
#ifndef VPS_BASE_STR_H
#define VPS_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"

/* A growing byte buffer, NUL-terminated behind len (s is NULL before the first add).
 * Out of memory is sticky: every later add is a no-op and sb_ok()/sb_take() tell. */
struct strbuf {
	char *s;
	size_t len, cap;
	bool oom;
};
#define STRBUF_INIT {0}
#define auto_strbuf auto_done(sb_done) struct strbuf
void sb_done(struct strbuf *sb);
void sb_reset(struct strbuf *sb); /* empty, keeps the memory */
void sb_add(struct strbuf *sb, const char *s); /* NULL adds nothing */
void sb_addn(struct strbuf *sb, const void *p, size_t n);
void sb_addc(struct strbuf *sb, char c);
void sb_addf(struct strbuf *sb, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* The text so far, "" when empty; good until the next add. */
static inline const char *sb_str(const struct strbuf *sb) { return sb->s ? sb->s : ""; }
/* 0 or -ENOMEM */
int sb_ok(const struct strbuf *sb);
/* The string, now the caller's ("" when nothing was added), or NULL when out of memory. */
char *sb_take(struct strbuf *sb);

/* printf into fresh memory; NULL when out of memory. */
char *str_fmt(const char *fmt, ...) PRINTF_LIKE(1, 2);
static inline bool str_eq(const char *a, const char *b)
{
	return a == b || (a && b && __builtin_strcmp(a, b) == 0);
}
bool str_starts(const char *s, const char *prefix);
bool str_ends(const char *s, const char *suffix);
/* Replace *dst by a copy of src (NULL clears). 0 or -ENOMEM. */
int str_set(char **dst, const char *src);

/* NULL-terminated vectors of owned strings; NULL is an empty vector. */
size_t strv_len(char *const *v);
int strv_add(char ***v, const char *s);		/* copies; 0 or -ENOMEM */
int strv_addf(char ***v, const char *fmt, ...) PRINTF_LIKE(2, 3);
int strv_take(char ***v, char *s);		/* owns s, also on failure; NULL is -ENOMEM */
int strv_copy(char ***ret, char *const *v);
bool strv_has(char *const *v, const char *s);
bool strv_equal(char *const *a, char *const *b); /* in the same order; NULL as an empty one */
char **strv_free(char **v);			/* returns NULL */
static inline void strv_freep(char ***v) { *v = strv_free(*v); }
#define auto_strv auto_done(strv_freep) char **
/* Split at any of seps; empty parts are kept. 0 or -ENOMEM. */
int strv_split(const char *s, const char *seps, char ***ret);

/* Numbers with units (base/units.c). Each parser wants the whole string: -EINVAL on junk,
 * sign or space, -ERANGE when the value does not fit; *ret is untouched on failure. */

/* Unsigned decimal of at most max. */
int parse_u64(const char *s, uint64_t max, uint64_t *ret);
/* Bytes with an optional unit: K M G T P, also Ki.. KiB.. (powers of 1024), kB MB..
 * (powers of 1000), B; upper or lower case. A fraction is allowed ("1.5G"), except of
 * a byte. "max", "unlimited" give UINT64_MAX. */
int parse_size(const char *s, uint64_t *ret);
/* Seconds from "90", "90s", "5m", "2h", "7d"; result in milliseconds. "1.5s" and "250ms" too. */
int parse_duration_ms(const char *s, uint64_t *ret);
/* Bits a second: "10M", "10mbit", "1G"; powers of 1000. */
int parse_bitrate(const char *s, uint64_t *ret);
/* "512B", "1.4G": up to 3 significant digits (4 below the next unit: "1023M"), powers of
 * 1024; UINT64_MAX is "max". buf of at least 16. Returns buf. */
char *fmt_size(uint64_t bytes, char *buf, size_t len);
/* The two largest units: "3d4h", "12m", "1m30s", "45s"; buf of at least 16. Returns buf. */
char *fmt_duration(uint64_t seconds, char *buf, size_t len);
/* Hex of n bytes, lower case, into buf of 2n+1. */
char *fmt_hex(const void *p, size_t n, char *buf);

/* Decode one UTF-8 character of s[0..n): its length 1..4 and code point, or 0 when the
 * bytes are no valid UTF-8 (overlong forms, surrogates and cut sequences included). */
size_t utf8_next(const char *s, size_t n, uint32_t *ret_cp);
/* True for code points that act on a terminal or a log line instead of being shown: C0 and
 * C1 controls, DEL, line separators (U+2028/9), bidi controls (U+202A..202E, U+2066..2069,
 * U+200E/F, U+061C). */
bool utf8_is_unsafe(uint32_t cp);

/* Append untrusted text so that a terminal or a log line cannot be taken over: the bytes of
 * unsafe characters and of invalid UTF-8 become \xNN; newline becomes \n; a backslash is
 * doubled. */
void sb_add_escaped(struct strbuf *sb, const char *s, size_t n);
/* The same in fresh memory; NULL when out of memory. */
char *str_escape(const char *s);

#endif
