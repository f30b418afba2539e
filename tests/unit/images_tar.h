/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tars written byte by byte, so that they can be as wrong as an attacker likes; and looking at trees. */
#ifndef VPS_TESTS_UNIT_IMAGES_TAR_H
#define VPS_TESTS_UNIT_IMAGES_TAR_H

#include "base_util.h"

#include <archive.h>
#include <archive_entry.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "base/digest.h"
#include "images/store.h"

struct tar {
	struct strbuf b;
	unsigned uid, gid, mode; /* of the entries to come; mode 0: 0644 or 0755 */
	long mtime;
};
#define auto_tar auto_done(tar_done) struct tar
static inline void tar_done(struct tar *t) { sb_done(&t->b); }

/* An octal field of n digits and a NUL. */
static inline void tar_oct(unsigned char *p, int n, uint64_t v)
{
	p[n] = 0;
	for (; n; v >>= 3)
		p[--n] = (unsigned char)('0' + (v & 7));
}

static inline void tar_sum(unsigned char *h)
{
	unsigned sum = 0;
	memset(h + 148, ' ', 8);
	for (int i = 0; i < 512; i++)
		sum += h[i];
	tar_oct(h + 148, 6, sum);
}

/* A header; the caller may spoil it and call tar_sum again. */
static inline unsigned char *tar_head(struct tar *t, const char *name, char type, uint64_t size,
				      const char *link)
{
	unsigned char h[512] = { 0 };
	size_t n = strlen(name);
	memcpy(h, name, n < 100 ? n : 100);
	tar_oct(h + 100, 7, t->mode ? t->mode : type == '5' ? 0755 : 0644);
	tar_oct(h + 108, 7, t->uid);
	tar_oct(h + 116, 7, t->gid);
	tar_oct(h + 124, 11, size);
	tar_oct(h + 136, 11, t->mtime ? (uint64_t)t->mtime : 1000000000);
	h[156] = (unsigned char)type;
	if (link)
		memcpy(h + 157, link, strnlen(link, 100));
	memcpy(h + 257, "ustar\00000", 8);
	tar_sum(h);
	sb_addn(&t->b, h, sizeof(h));
	return (unsigned char *)t->b.s + t->b.len - 512;
}

static inline void tar_body(struct tar *t, const void *p, size_t n)
{
	static const char zero[512];
	sb_addn(&t->b, p, n);
	if (n % 512)
		sb_addn(&t->b, zero, 512 - n % 512);
}

static inline void tar_file(struct tar *t, const char *name, const char *text)
{
	tar_head(t, name, '0', strlen(text), NULL);
	tar_body(t, text, strlen(text));
}

static inline void tar_dir(struct tar *t, const char *name) { tar_head(t, name, '5', 0, NULL); }
static inline void tar_sym(struct tar *t, const char *name, const char *to)
{
	tar_head(t, name, '2', 0, to);
}
static inline void tar_hard(struct tar *t, const char *name, const char *to)
{
	tar_head(t, name, '1', 0, to);
}

static inline void tar_dev(struct tar *t, const char *name, char type, unsigned maj, unsigned min)
{
	unsigned char *h = tar_head(t, name, type, 0, NULL);
	tar_oct(h + 329, 7, maj);
	tar_oct(h + 337, 7, min);
	tar_sum(h);
}

/* One pax record for the next entry. */
static inline void tar_paxn(struct tar *t, const char *key, const void *value, size_t len)
{
	size_t n = strlen(key) + len + 3, digits = 1;
	for (size_t d = 10; n + digits >= d; d *= 10)
		digits++;
	autofree char *head = str_fmt("%zu %s=", n + digits, key);
	auto_strbuf rec = STRBUF_INIT;
	sb_add(&rec, head);
	sb_addn(&rec, value, len);
	sb_addc(&rec, '\n');
	tar_head(t, "pax", 'x', rec.len, NULL);
	tar_body(t, rec.s, rec.len);
}
static inline void tar_pax(struct tar *t, const char *key, const char *value)
{
	tar_paxn(t, key, value, strlen(value));
}

static inline void tar_gnu_long(struct tar *t, char type, const char *name)
{
	tar_head(t, "././@LongLink", type, strlen(name) + 1, NULL);
	tar_body(t, name, strlen(name) + 1);
}

static inline void tar_end(struct tar *t)
{
	static const char zero[1024];
	sb_addn(&t->b, zero, sizeof(zero));
}

static inline int mem_fd(const void *p, size_t n)
{
	int fd = memfd_create("test", MFD_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fs_write_all(fd, p, n), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

/* Packed by libarchive: filter name as archive_write_add_filter_by_name. */
static inline int packed_fd(const void *p, size_t n, const char *filter, const char *level)
{
	int fd = memfd_create("test", MFD_CLOEXEC);
	struct archive *a = archive_write_new();
	struct archive_entry *e = archive_entry_new();
	assert_int_equal(archive_write_add_filter_by_name(a, filter), ARCHIVE_OK);
	assert_int_equal(archive_write_set_format_raw(a), ARCHIVE_OK);
	if (level)
		assert_int_equal(archive_write_set_filter_option(a, filter, "compression-level",
								 level), ARCHIVE_OK);
	assert_int_equal(archive_write_open_fd(a, fd), ARCHIVE_OK);
	archive_entry_set_filetype(e, AE_IFREG);
	assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
	for (size_t at = 0; at < n;) {
		size_t k = n - at < (1u << 20) ? n - at : 1u << 20;
		assert_int_equal(archive_write_data(a, (const char *)p + at, k), k);
		at += k;
	}
	archive_entry_free(e);
	assert_int_equal(archive_write_free(a), ARCHIVE_OK);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

/* ---- trees ------------------------------------------------------------------ */

static inline void xattrs_add(int fd, struct strbuf *out)
{
	char names[4096], value[4096], hex[8193];
	auto_strv v = NULL;
	ssize_t n = flistxattr(fd, names, sizeof(names));
	for (char *x = names; n > 0 && x < names + n; x += strlen(x) + 1) {
		ssize_t len = fgetxattr(fd, x, value, sizeof(value));
		assert_true(len >= 0);
		assert_int_equal(strv_addf(&v, "%s=%s", x, fmt_hex(value, (size_t)len, hex)), 0);
	}
	size_t count = strv_len(v);
	for (size_t i = 0; i < count; i++) {
		size_t min = i;
		for (size_t k = i + 1; k < count; k++)
			if (strcmp(v[k], v[min]) < 0)
				min = k;
		char *t = v[i];
		v[i] = v[min];
		v[min] = t;
		sb_addf(out, " %s", v[i]);
	}
}

static inline void tree_add(int dirfd, const char *name, const char *path, bool strict,
			    struct strbuf *out)
{
	struct stat st;
	assert_int_equal(fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
	sb_addf(out, "%s %o", path, st.st_mode);
	if (strict)
		sb_addf(out, " %u:%u %ld.%ld n%lu", st.st_uid, st.st_gid, st.st_mtim.tv_sec,
			st.st_mtim.tv_nsec, S_ISDIR(st.st_mode) ? 0 : (unsigned long)st.st_nlink);
	if (S_ISLNK(st.st_mode)) {
		char to[PATH_MAX + 1] = "";
		assert_true(readlinkat(dirfd, name, to, PATH_MAX) >= 0);
		sb_addf(out, " -> %s", to);
	} else if (S_ISREG(st.st_mode)) {
		char d[DIGEST_LEN];
		autoclose int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW);
		assert_true(fd >= 0);
		assert_int_equal(digest_of_fd(fd, d, NULL), 0);
		sb_addf(out, " %s", d);
		if (strict)
			xattrs_add(fd, out);
	} else if (S_ISCHR(st.st_mode)) {
		sb_addf(out, " dev %lu", (unsigned long)st.st_rdev);
	}
	sb_addc(out, '\n');
	if (!S_ISDIR(st.st_mode))
		return;
	autoclose int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
	auto_strv names = NULL;
	assert_true(fd >= 0);
	if (strict) {
		out->len--; /* the newline */
		xattrs_add(fd, out);
		sb_addc(out, '\n');
	}
	assert_int_equal(fs_list(fd, ".", &names), 0);
	for (size_t i = 0; i + 1 < strv_len(names); i++)
		for (size_t k = i + 1; names[k]; k++)
			if (strcmp(names[k], names[i]) < 0) {
				char *x = names[i];
				names[i] = names[k];
				names[k] = x;
			}
	for (size_t i = 0; names && names[i]; i++) {
		autofree char *sub = str_fmt("%s/%s", path, names[i]);
		tree_add(fd, names[i], sub, strict, out);
	}
}

/* Every name with type, mode, content; strict: owners, times, link counts, xattrs too. */
static inline char *tree_text(int dirfd, const char *path, bool strict)
{
	auto_strbuf sb = STRBUF_INIT;
	tree_add(dirfd, path, "", strict, &sb);
	return sb_take(&sb);
}

static inline struct img_store *test_store(int dirfd, const char *name)
{
	struct img_store *s = NULL;
	struct vps_err err = { 0 };
	assert_int_equal(fs_mkdir_p(dirfd, name, 0700), 0);
	autoclose int root = fs_open_dir(dirfd, name);
	if (img_store_open(root, &s, &err) < 0)
		fail_msg("store: %s", err.msg);
	return s;
}

/* The failed one's message in the log. */
#define assert_ok(call, err)                                             \
	do {                                                             \
		int r_ = (call);                                         \
		if (r_ < 0)                                              \
			fail_msg("%s: %d %s", #call, r_, (err)->msg);    \
	} while (0)

/* A layer from a tar; its diff id may be given wrong. */
static inline int test_layer(struct img_work *w, const struct tar *t, const char *parent,
			     const char *diff_id, struct img_layer *ret, struct vps_err *err)
{
	char d[DIGEST_LEN];
	autoclose int fd = mem_fd(t->b.s, t->b.len);
	if (!diff_id)
		digest_of(t->b.s, t->b.len, d);
	struct img_layer_src src = { .fd = fd, .parent = parent, .diff_id = diff_id ? diff_id : d };
	return img_layer_from_fd(w, &src, NULL, ret, err);
}

#endif
