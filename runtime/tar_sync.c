/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A tree made equal to a stream: for a VPS that changes its wall. The tree is an overlay of the image and a
 * fresh disk, so what the stream says of an untouched file must not be written: it would cost a copy of the image.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "runtime/tar_impl.h"

#define SEEN_MAX  (16u << 20)
#define CHUNK	  65536
#define DEPTH_MAX 4096 /* of what is removed; as deep as paths can be */
#define XATTR_MAX 65536

/* ---- what was in the stream ------------------------------------------------------ */

/* FNV-1a, never 0. Two names that meet: a tenant's own file stays. */
static uint64_t hash_of(const char *path)
{
	uint64_t h = 0xcbf29ce484222325ull;

	for (; *path; path++)
		h = (h ^ (unsigned char)*path) * 0x100000001b3ull;
	return h ? h : 1;
}

static int remember(struct unpacker *u, const char *path)
{
	if (u->n_seen >= SEEN_MAX || mem_grow(u->seen, u->n_seen, u->cap_seen) < 0)
		return -ENOMEM;
	u->seen[u->n_seen++] = hash_of(path);
	return 0;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static bool was_seen(const struct unpacker *u, const char *path)
{
	uint64_t h = hash_of(path);

	return bsearch(&h, u->seen, u->n_seen, sizeof(h), by_value) != NULL;
}

/* ---- attributes -------------------------------------------------------------------- */

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int parse_hex(const char *s, char *buf, size_t n)
{
	for (size_t i = 0; i < n; i++, s += 2) {
		if (digit(s[0]) < 0 || digit(s[1]) < 0)
			return -EINVAL;
		buf[i] = (char)(digit(s[0]) << 4 | digit(s[1]));
	}
	return 0;
}

/* "name=hex" to its bytes; returns how many. */
static ssize_t xattr_value(const char *entry, char name[256], char *buf)
{
	const char *eq = strchr(entry, '=');
	size_t n = eq ? strlen(eq + 1) / 2 : 0;

	if (!eq || (size_t)(eq - entry) >= 256 || n > XATTR_MAX || strlen(eq + 1) % 2)
		return -EBADMSG;
	memcpy(name, entry, (size_t)(eq - entry));
	name[eq - entry] = '\0';
	if (!tar_wants_xattr(name))
		return -EBADMSG;
	return parse_hex(eq + 1, buf, n) < 0 ? -EBADMSG : (ssize_t)n;
}

static size_t count_xattrs(int fd)
{
	char names[XATTR_MAX];
	ssize_t n = flistxattr(fd, names, sizeof(names));
	size_t wanted = 0;

	for (char *x = names; n > 0 && x < names + n; x += strlen(x) + 1)
		wanted += tar_wants_xattr(x);
	return wanted;
}

static bool same_xattrs(const struct entry *e, int fd)
{
	static char want[XATTR_MAX], have[XATTR_MAX]; /* one process, one stream */
	char name[256];

	for (char **x = e->xattrs; x && *x; x++) {
		ssize_t n = xattr_value(*x, name, want);

		if (n < 0 || fgetxattr(fd, name, have, sizeof(have)) != n || memcmp(want, have, (size_t)n) != 0)
			return false;
	}
	return count_xattrs(fd) == strv_len(e->xattrs);
}

/* What the file system cannot keep is left out, as every archiver does. */
static int set_xattrs(struct unpacker *u, const struct entry *e, int fd)
{
	static char value[XATTR_MAX];
	char names[XATTR_MAX], name[256];
	ssize_t n = flistxattr(fd, names, sizeof(names));

	for (char *x = names; n > 0 && x < names + n; x += strlen(x) + 1)
		if (tar_wants_xattr(x))
			fremovexattr(fd, x);
	for (char **x = e->xattrs; x && *x; x++) {
		n = xattr_value(*x, name, value);
		if (n < 0)
			return (int)n;
		if (fsetxattr(fd, name, value, (size_t)n, 0) < 0)
			u->left_out++;
	}
	return 0;
}

static bool same_owner(const struct entry *e, const struct stat *st)
{
	return st->st_uid == e->uid && st->st_gid == e->gid;
}

static bool same_meta(const struct entry *e, const struct stat *st)
{
	return same_owner(e, st) && (st->st_mode & 07777) == e->mode && st->st_mtime == (e->mtime > 0 ? e->mtime : 0);
}

static int set_meta(struct unpacker *u, const struct entry *e, int fd)
{
	struct timespec t[2] = {{.tv_nsec = UTIME_NOW}, {.tv_sec = e->mtime > 0 ? e->mtime : 0}};
	int r = fchown(fd, (uid_t)e->uid, (gid_t)e->gid) < 0 ? -errno : 0;

	if (r == 0 && fchmod(fd, e->mode) < 0)
		r = -errno;
	r = r ?: set_xattrs(u, e, fd); /* capabilities go with a change of owner */
	futimens(fd, t);
	return r;
}

/* ---- files --------------------------------------------------------------------------- */

static bool all_zero(const char *p, size_t n)
{
	return n && !p[0] && memcmp(p, p + 1, n - 1) == 0;
}

/* Holes stay holes. */
static int write_some(int fd, const char *buf, size_t n)
{
	if (all_zero(buf, n))
		return lseek(fd, (off_t)n, SEEK_CUR) < 0 ? -errno : 0;
	return fs_write_all(fd, buf, n);
}

/* The first len bytes of the file that is there. */
static int copy_start(int from, int to, uint64_t len)
{
	char buf[CHUNK];

	if (lseek(from, 0, SEEK_SET) < 0)
		return -errno;
	while (len) {
		size_t n = len < sizeof(buf) ? (size_t)len : sizeof(buf);
		int r;

		if (fs_read_full(from, buf, n) != (ssize_t)n)
			return -EIO;
		r = write_some(to, buf, n);
		if (r < 0)
			return r;
		len -= n;
	}
	return 0;
}

static int remove_any(int dirfd, const char *name)
{
	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	return errno == EISDIR || errno == EPERM ? fs_remove_tree(dirfd, name) : -errno;
}

/* was: the old file, open and the same as far as `same` bytes; -1: none. */
static int begin_file(int dirfd, const char *name, int was, uint64_t same, int *ret)
{
	int r = remove_any(dirfd, name);
	autoclose int fd = r < 0 ? -1
				 : openat(dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (r < 0 || fd < 0)
		return r < 0 ? r : -errno;
	r = was >= 0 ? copy_start(was, fd, same) : 0;
	if (r == 0)
		*ret = take_fd(fd);
	return r;
}

/* The stream's bytes are held against the old file's, and written from the first that differs. */
static int sync_file(struct unpacker *u, struct entry *e, int dirfd, const char *name)
{
	autoclose int was = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	autoclose int now = -1;
	char buf[CHUNK], old[CHUNK];
	uint64_t done = 0;
	struct stat st;
	bool keep = was >= 0 && fstat(was, &st) == 0 && S_ISREG(st.st_mode) &&
		    (uint64_t)st.st_size == e->size;
	int r = keep ? 0 : begin_file(dirfd, name, -1, 0, &now);

	while (r == 0 && done < e->size) {
		size_t n = e->size - done < sizeof(buf) ? (size_t)(e->size - done) : sizeof(buf);

		r = tar_get(u, buf, n);
		if (r < 0)
			return r;
		if (now < 0 && (fs_read_full(was, old, n) != (ssize_t)n || memcmp(buf, old, n) != 0))
			r = begin_file(dirfd, name, was, done, &now);
		if (r == 0 && now >= 0)
			r = write_some(now, buf, n);
		done += n;
	}
	if (r < 0)
		return tar_fail(u, r, e->path, "writing");
	r = tar_skip(u, tar_padding(e->size));
	if (r < 0 || (now < 0 && same_meta(e, &st) && same_xattrs(e, was)))
		return r;
	if (now >= 0 && ftruncate(now, (off_t)e->size) < 0)
		r = -errno;
	if (now < 0) {
		now = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		r = now < 0 ? -errno : 0;
	}
	r = r ?: set_meta(u, e, now);
	return r < 0 ? tar_fail(u, r, e->path, "writing") : 0;
}

static int sync_dir(struct unpacker *u, struct entry *e, int dirfd, const char *name)
{
	autoclose int fd = openat(dirfd, *name ? name : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	int r = 0;

	if (fd < 0) {
		r = remove_any(dirfd, name);
		if (r == 0 && mkdirat(dirfd, name, 0700) < 0)
			r = -errno;
		fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	}
	if (r == 0 && (fd < 0 || fstat(fd, &st) < 0))
		r = -errno;
	if (r == 0 && same_owner(e, &st) && (st.st_mode & 07777) == e->mode && same_xattrs(e, fd))
		return 0; /* its time is nobody's concern: what is in it may change it */
	r = r ?: set_meta(u, e, fd);
	return r < 0 ? tar_fail(u, r, e->path, "making") : 0;
}

static int sync_symlink(struct unpacker *u, struct entry *e, int dirfd, const char *name)
{
	struct timespec t[2] = {{.tv_nsec = UTIME_NOW}, {.tv_sec = e->mtime > 0 ? e->mtime : 0}};
	char target[4097];
	ssize_t n = readlinkat(dirfd, name, target, sizeof(target) - 1);
	struct stat st;
	int r;

	if (n >= 0 && (size_t)n == strlen(e->link) && memcmp(target, e->link, (size_t)n) == 0 &&
	    fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && same_owner(e, &st))
		return 0;
	r = remove_any(dirfd, name);
	if (r == 0 && symlinkat(e->link, dirfd, name) < 0)
		r = -errno;
	if (r == 0 && fchownat(dirfd, name, (uid_t)e->uid, (gid_t)e->gid, AT_SYMLINK_NOFOLLOW) < 0)
		r = -errno;
	if (r < 0)
		return tar_fail(u, r, e->path, "link");
	utimensat(dirfd, name, t, AT_SYMLINK_NOFOLLOW);
	return 0;
}

static int sync_hardlink(struct unpacker *u, struct entry *e, int dirfd, const char *name)
{
	autofree char *target = NULL;
	autoclose int from = -1;
	const char *from_name;
	struct stat a, b;
	int r = tar_link_target(u, e, &target);

	if (r < 0)
		return r;
	from = *target ? tar_open_parent(u, target, &from_name) : -EINVAL;
	if (from < 0 || fstatat(from, from_name, &a, AT_SYMLINK_NOFOLLOW) < 0)
		return tar_fail(u, from < 0 ? from : -errno, e->link, "link to");
	if (fstatat(dirfd, name, &b, AT_SYMLINK_NOFOLLOW) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
		return 0;
	r = S_ISREG(a.st_mode) || S_ISLNK(a.st_mode) ? remove_any(dirfd, name) : -EBADMSG;
	if (r == 0 && linkat(from, from_name, dirfd, name, 0) < 0)
		r = -errno;
	return r < 0 ? tar_fail(u, r, e->path, "link") : 0;
}

static int sync_fifo(struct unpacker *u, struct entry *e, int dirfd, const char *name)
{
	struct stat st;
	int r;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISFIFO(st.st_mode) && same_owner(e, &st) &&
	    (st.st_mode & 07777) == e->mode)
		return 0;
	r = remove_any(dirfd, name);
	if (r == 0 && mkfifoat(dirfd, name, 0600) < 0)
		r = -errno;
	if (r == 0 && fchownat(dirfd, name, (uid_t)e->uid, (gid_t)e->gid, AT_SYMLINK_NOFOLLOW) < 0)
		r = -errno;
	if (r == 0 && fchmodat(dirfd, name, e->mode, 0) < 0)
		r = -errno;
	return r < 0 ? tar_fail(u, r, e->path, "fifo") : 0;
}

int tar_sync_entry(struct unpacker *u, struct entry *e, int dirfd, const char *name)
{
	int r = remember(u, e->path);

	if (r < 0)
		return tar_fail(u, r, e->path, "too many files:");
	switch (e->type) {
	case '0':
		return sync_file(u, e, dirfd, name);
	case '1':
		return sync_hardlink(u, e, dirfd, name);
	case '2':
		return sync_symlink(u, e, dirfd, name);
	case '5':
		return sync_dir(u, e, dirfd, name);
	case '6':
		return sync_fifo(u, e, dirfd, name);
	case '3':
	case '4':
		u->left_out++;
		return 0;
	default:
		return vps_err_set(u->err, EOPNOTSUPP, "a tree has no entries of type '%c'",
				   e->type > ' ' && e->type < 127 ? e->type : '?');
	}
}

/* ---- what is too many ------------------------------------------------------------------ */

static int prune(struct unpacker *u, int fd, struct strbuf *path, unsigned depth)
{
	auto_strv names = NULL;
	size_t len = path->len;
	int r = depth < DEPTH_MAX ? fs_list(fd, ".", &names) : -ELOOP;

	for (char **n = names; r == 0 && n && *n; n++) {
		autoclose int sub = -1;

		path->len = len;
		sb_addf(path, "%s%s", len ? "/" : "", *n);
		r = sb_ok(path);
		if (r < 0)
			break;
		if (!was_seen(u, path->s)) {
			r = remove_any(fd, *n);
			continue;
		}
		sub = openat(fd, *n, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (sub >= 0)
			r = prune(u, sub, path, depth + 1);
	}
	return r < 0 ? tar_fail(u, r, sb_str(path), "removing") : 0;
}

int tar_sync_finish(struct unpacker *u)
{
	auto_strbuf path = STRBUF_INIT;
	autoclose int top = openat(u->base, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	qsort(u->seen, u->n_seen, sizeof(*u->seen), by_value);
	return top < 0 ? tar_fail(u, -errno, ".", "opening") : prune(u, top, &path, 0);
}

int tar_sync(int dirfd, int fd, struct vps_err *err)
{
	const struct tar_unpack_opts o = {.sync = true, .uid = -1, .gid = -1};

	return tar_unpack(dirfd, &o, fd, err);
}
