/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The second child: tar bytes in, entries to place.c. */
#include <archive.h>
#include <archive_entry.h>
#include <endian.h>
#include <errno.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <locale.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"
#include "images/unpack.h"

#define CHUNK	   (256u << 10)
#define XATTRS_MAX 256
#define ACL_MAX	   1024

struct reader {
	struct unpack_ctx *c;
	struct place place;
	char *buf;
	struct place_xattr xattrs[XATTRS_MAX];
	size_t n_xattrs;
	struct { /* two ACLs in the kernel's words */
		struct posix_acl_xattr_header head;
		struct posix_acl_xattr_entry v[ACL_MAX];
	} acl[2];
};

static la_ssize_t on_read(struct archive *a, void *arg, const void **buf)
{
	struct reader *r = arg;
	size_t n = 0;
	/* Fill it up: a pipe gives its pages as they come, and libarchive copies at the seams. */
	while (n < CHUNK) {
		ssize_t got = read(r->c->pipe_r, r->buf + n, CHUNK - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			archive_set_error(a, errno, "read: %s", strerror(errno));
			return ARCHIVE_FATAL;
		}
		if (got == 0)
			break;
		n += (size_t)got;
	}
	*buf = r->buf;
	return (la_ssize_t)n;
}

static int lib_error(struct archive *a, struct vps_err *err)
{
	const char *msg = archive_error_string(a);
	autofree char *esc = str_escape(msg ? msg : "broken archive");
	if (archive_errno(a) == ENOMEM || (msg && strcasestr(msg, "memory")))
		return vps_err_set(err, VPS_EBADIMAGE, "tar: an entry needs more memory than allowed");
	return vps_err_set(err, VPS_EBADIMAGE, "tar: %.300s", esc ? esc : "broken archive");
}

/*
 * In the C locale libarchive cannot put a pax name that is not ASCII into words, says so, and hands
 * out the bytes as they are. That is what is wanted: in a UTF-8 locale it would change the bytes
 * (to NFC), and two names could become one. Any other warning is about a broken archive.
 */
static bool harmless(struct archive *a)
{
	const char *msg = archive_error_string(a);
	return msg && strstr(msg, "can't be converted");
}

/* ---- xattrs and ACLs ----------------------------------------------------- */

static int acl_tag(int tag)
{
	switch (tag) {
	case ARCHIVE_ENTRY_ACL_USER_OBJ:
		return ACL_USER_OBJ;
	case ARCHIVE_ENTRY_ACL_USER:
		return ACL_USER;
	case ARCHIVE_ENTRY_ACL_GROUP_OBJ:
		return ACL_GROUP_OBJ;
	case ARCHIVE_ENTRY_ACL_GROUP:
		return ACL_GROUP;
	case ARCHIVE_ENTRY_ACL_MASK:
		return ACL_MASK;
	case ARCHIVE_ENTRY_ACL_OTHER:
		return ACL_OTHER;
	default:
		return -1;
	}
}

static int cmp_acl(const void *a, const void *b)
{
	const struct posix_acl_xattr_entry *x = a, *y = b;
	uint16_t tx = le16toh(x->e_tag), ty = le16toh(y->e_tag);
	uint32_t ix = le32toh(x->e_id), iy = le32toh(y->e_id);
	if (tx != ty)
		return tx < ty ? -1 : 1;
	return ix < iy ? -1 : ix > iy;
}

/* SCHILY.acl.* (star, GNU tar, bsdtar) to the kernel's xattr. An entry that gives only a name cannot be
 * resolved: the host's users are none of the image's business. The whole ACL is then left out. */
static int take_acl(struct reader *r, struct archive_entry *e, int type, size_t slot,
		    const char *name, struct vps_err *err)
{
	int et, perm, tag, id;
	const char *who;
	size_t n = 0;
	/* one entry is no ACL but the mode; libarchive adds the basic three when there is more */
	if (archive_entry_acl_reset(e, type) <= 0)
		return 0;
	while (archive_entry_acl_next(e, type, &et, &perm, &tag, &id, &who) == ARCHIVE_OK) {
		int t = acl_tag(tag);
		if (t < 0 || n >= ACL_MAX)
			return place_bad(r->place.path, err, "malformed ACL");
		bool named = t == ACL_USER || t == ACL_GROUP;
		if (named && id < 0) {
			r->place.st->xattrs_dropped++;
			return 0;
		}
		if (named && id > 65535)
			return place_bad(r->place.path, err, "ACL with an id above 65535");
		r->acl[slot].v[n++] = (struct posix_acl_xattr_entry){
			.e_tag = htole16((uint16_t)t),
			.e_perm = htole16((uint16_t)(perm & 7)),
			.e_id = htole32(named ? (uint32_t)id : (uint32_t)ACL_UNDEFINED_ID),
		};
	}
	if (!n || r->n_xattrs >= XATTRS_MAX)
		return 0;
	qsort(r->acl[slot].v, n, sizeof(r->acl[slot].v[0]), cmp_acl);
	r->acl[slot].head.a_version = htole32(POSIX_ACL_XATTR_VERSION);
	r->xattrs[r->n_xattrs++] = (struct place_xattr){
		name, &r->acl[slot], sizeof(r->acl[slot].head) + n * sizeof(r->acl[slot].v[0])
	};
	return 0;
}

static int take_xattrs(struct reader *r, struct archive_entry *e, struct vps_err *err)
{
	const char *name;
	const void *value;
	size_t len;
	uint64_t sum = 0;
	r->n_xattrs = 0;
	if (archive_entry_xattr_count(e) > XATTRS_MAX - 2)
		return vps_err_set(err, VPS_EBADIMAGE, "entry with more than %d extended attributes",
				   XATTRS_MAX - 2);
	archive_entry_xattr_reset(e);
	while (archive_entry_xattr_next(e, &name, &value, &len) == ARCHIVE_OK) {
		sum += strlen(name) + len;
		if (sum > r->c->job->opts->caps.xattr_bytes)
			return vps_err_set(err, VPS_EBADIMAGE,
					   "entry with more than %llu bytes of extended attributes",
					   (unsigned long long)r->c->job->opts->caps.xattr_bytes);
		r->xattrs[r->n_xattrs++] = (struct place_xattr){ name, value, len };
	}
	int e1 = take_acl(r, e, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, 0, "system.posix_acl_access", err);
	return e1 < 0 ? e1 :
			take_acl(r, e, ARCHIVE_ENTRY_ACL_TYPE_DEFAULT, 1,
				 "system.posix_acl_default", err);
}

/* ---- entries ------------------------------------------------------------- */

/* Does an archive that begins like this hold an image's parts rather than a root file system? */
static bool looks_like_parts(const char *path, mode_t type)
{
	static const char *const exact[] = { "blobs", "oci-layout", "repositories" };
	while (str_starts(path, "./"))
		path += 2;
	size_t n = strcspn(path, "/");
	for (size_t i = 0; i < ARRAY_LEN(exact); i++)
		if (strlen(exact[i]) == n && strncmp(path, exact[i], n) == 0)
			return true;
	/* docker save: a folder, .json or .tar named by 64 hex digits */
	size_t hex = strspn(path, "0123456789abcdef");
	if (hex == 64 && (path[hex] == '/' || path[hex] == '.' || !path[hex]))
		return true;
	return type == S_IFREG && !path[n] &&
	       (str_ends(path, ".json") || str_ends(path, ".tar") || str_ends(path, ".tar.gz"));
}

static int read_item(struct reader *r, struct archive_entry *e, struct place_item *it,
		     struct vps_err *err)
{
	*it = (struct place_item){
		.path = archive_entry_pathname(e),
		.type = archive_entry_filetype(e),
		.mode = archive_entry_perm(e) & 07777,
		.uid = archive_entry_uid(e),
		.gid = archive_entry_gid(e),
		.mtime = archive_entry_mtime(e),
		.mtime_ns = archive_entry_mtime_nsec(e),
		.hardlink = archive_entry_hardlink(e),
		.symlink = archive_entry_symlink(e),
		.major = (unsigned)archive_entry_rdevmajor(e),
		.minor = (unsigned)archive_entry_rdevminor(e),
	};
	if (!it->path)
		return vps_err_set(err, VPS_EBADIMAGE, "tar: entry without a name");
	if (it->mtime_ns < 0 || it->mtime_ns > 999999999)
		it->mtime_ns = 0;
	if (it->type == S_IFREG && !it->hardlink) {
		la_int64_t size = archive_entry_size(e);
		if (size < 0)
			return place_bad(it->path, err, "tar: entry of negative size");
		it->size = (uint64_t)size;
	}
	if (it->type == S_IFLNK && !it->symlink)
		return place_bad(it->path, err, "tar: symbolic link without a target");
	if (r->place.plain) {
		it->mode = it->type == S_IFDIR ? 0700 : 0600;
		return 0;
	}
	int x = take_xattrs(r, e, err);
	it->xattrs = r->xattrs;
	it->n_xattrs = r->n_xattrs;
	return x;
}

static int copy_data(struct reader *r, struct archive *a, struct vps_err *err)
{
	for (;;) {
		const void *p;
		size_t n;
		la_int64_t off;
		int x = archive_read_data_block(a, &p, &n, &off);
		if (x == ARCHIVE_EOF)
			return 0;
		if (x != ARCHIVE_OK)
			return lib_error(a, err);
		if (off < 0)
			return vps_err_set(err, VPS_EBADIMAGE, "tar: data at a negative offset");
		if (n && (x = place_data(&r->place, p, n, (uint64_t)off, err)) < 0)
			return x;
	}
}

static int one_entry(struct reader *r, struct archive *a, struct archive_entry *e,
		     struct vps_err *err)
{
	struct place_item it;
	int x = read_item(r, e, &it, err);
	if (x < 0)
		return x;
	if (r->place.plain && !it.hardlink && it.type != S_IFREG && it.type != S_IFDIR &&
	    it.type != S_IFLNK)
		return 0;
	if ((x = place_add(&r->place, &it, err)) < 0 || r->place.file < 0)
		return x;
	if (it.size && (x = copy_data(r, a, err)) < 0)
		return x;
	return place_close(&r->place, &it, err);
}

static int read_tar(struct reader *r, struct archive *a, struct vps_err *err)
{
	struct archive_entry *e;
	bool first = true;
	if (archive_read_support_format_tar(a) != ARCHIVE_OK ||
	    archive_read_support_format_empty(a) != ARCHIVE_OK)
		return lib_error(a, err);
	if (archive_read_open(a, r, NULL, on_read, NULL) != ARCHIVE_OK)
		return lib_error(a, err);
	for (;;) {
		int x = archive_read_next_header(a, &e);
		if (x == ARCHIVE_EOF)
			return place_end(&r->place, err);
		if (x != ARCHIVE_OK && !(x == ARCHIVE_WARN && harmless(a)))
			return lib_error(a, err);
		const char *path = archive_entry_pathname(e);
		bool root = path && (str_eq(path, "./") || str_eq(path, ".") || str_eq(path, "/"));
		if (first && !root) {
			first = false;
			if (r->c->job->mode == UNPACK_LOOK && path &&
			    looks_like_parts(path, archive_entry_filetype(e)))
				r->place.plain = r->c->sh->tar.members = true;
		}
		if ((x = one_entry(r, a, e, err)) < 0)
			return x;
	}
}

int unpack_tar(void *arg)
{
	struct unpack_ctx *c = arg;
	struct unpack_shared *sh = c->sh;
	struct reader *r = calloc(1, sizeof(*r));
	struct archive *a = archive_read_new();
	char *buf = malloc(CHUNK);
	int x = -ENOMEM;
	if (r && a && buf) {
		setlocale(LC_ALL, "C");
		umask(0);
		r->c = c;
		r->buf = buf;
		r->place = (struct place){
			.root = c->job->root,
			.lower = c->job->lower,
			.n_lower = c->job->n_lower,
			.caps = &c->job->opts->caps,
			.plain = c->job->mode == UNPACK_MEMBERS,
			.refused_fd = c->refused,
			.st = &sh->tar.st,
		};
		x = place_begin(&r->place, &sh->tar.err);
		if (x == 0)
			x = read_tar(r, a, &sh->tar.err);
		place_done(&r->place);
	}
	if (x < 0)
		vps_err_sys(&sh->tar.err, x, "unpack");
	sh->tar.done = x == 0;
	if (a)
		archive_read_free(a);
	free(buf);
	free(r);
	return x < 0;
}
