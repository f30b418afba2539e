// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Reading a stream and making files of it. Two rules hold for every entry, whatever came before it
 * in the stream or is changed meanwhile by somebody else: a name is walked component by component
 * from the directory fd (on the host no link is followed anywhere; in a VPS links stay in its root,
 * and magic links, which could lead to our own fds, never count), and ".." is refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/sys.h"
#include "runtime/tar_impl.h"

#define PATH_LONGEST 4095
#define PAX_MAX	     (1u << 20) /* bytes of one extended header */
#define DIRS_MAX     (1u << 20)

int tar_fail(struct unpacker *u, int r, const char *path, const char *what)
{
	autofree char *safe = str_escape(path);

	return vps_err_sys(u->err, r, "%s '%.200s'", what, safe ? safe : "?");
}

static int broken(struct unpacker *u, const char *why)
{
	return vps_err_set(u->err, EBADMSG, "not a good tar stream: %s", why);
}

static void entry_done(struct entry *e)
{
	free(e->path);
	free(e->link);
	strv_free(e->xattrs);
	memset(e, 0, sizeof(*e));
}

/* ---- reading ------------------------------------------------------------------ */

int tar_get(struct unpacker *u, void *buf, size_t len)
{
	ssize_t n = fs_read_full(u->in, buf, len);

	if (n < 0)
		return vps_err_sys(u->err, (int)n, "reading the stream");
	return (size_t)n == len ? 0 : broken(u, "it ends too early");
}

int tar_skip(struct unpacker *u, uint64_t len)
{
	char buf[16384];

	while (len) {
		size_t n = len < sizeof(buf) ? (size_t)len : sizeof(buf);
		int r = tar_get(u, buf, n);
		if (r < 0)
			return r;
		len -= n;
	}
	return 0;
}

/* Octal text, or GNU's base-256 with the top bit set. -ERANGE. */
static int number(const char *field, size_t size, uint64_t *ret)
{
	const unsigned char *p = (const unsigned char *)field;
	uint64_t v = 0;
	size_t i = 0;

	if (p[0] & 0x80) {
		if (p[0] != 0x80)
			return -ERANGE; /* negative, or beyond 64 bits */
		for (i = 1; i < size; i++) {
			if (v >> 56)
				return -ERANGE;
			v = v << 8 | p[i];
		}
		*ret = v;
		return 0;
	}
	while (i < size && p[i] == ' ')
		i++;
	for (; i < size && p[i] >= '0' && p[i] <= '7'; i++) {
		if (v >> 60)
			return -ERANGE;
		v = v << 3 | (uint64_t)(p[i] - '0');
	}
	if (i < size && p[i] && p[i] != ' ')
		return -EINVAL;
	*ret = v;
	return 0;
}

static int read_text(struct unpacker *u, uint64_t size, char **ret)
{
	char *text;
	int r;

	if (size > PAX_MAX)
		return broken(u, "an extended header is too long");
	text = malloc(size + 1);
	if (!text)
		return vps_err_sys(u->err, -ENOMEM, "stream");
	r = tar_get(u, text, size);
	r = r ?: tar_skip(u, tar_padding(size));
	if (r < 0) {
		free(text);
		return r;
	}
	text[size] = '\0';
	*ret = text;
	return 0;
}

static int pax_value(struct entry *e, const char *key, const char *value)
{
	uint64_t whole = 0;
	const char *dot = strchr(value, '.');
	autofree char *head = strndup(value, dot ? (size_t)(dot - value) : strlen(value));

	if (!head)
		return -ENOMEM;
	if (str_eq(key, "path"))
		return str_set(&e->path, value);
	if (str_eq(key, "linkpath"))
		return str_set(&e->link, value);
	if (str_eq(key, "size"))
		return parse_u64(value, INT64_MAX, &e->size);
	if (str_eq(key, "uid"))
		return parse_u64(value, UINT32_MAX - 1, &e->uid);
	if (str_eq(key, "gid"))
		return parse_u64(value, UINT32_MAX - 1, &e->gid);
	if (str_eq(key, "mtime")) {
		if (parse_u64(head, INT64_MAX / 2, &whole) == 0) /* before 1970: not kept */
			e->mtime = (int64_t)whole;
		return 0;
	}
	if (str_starts(key, TAR_XATTR))
		return strv_addf(&e->xattrs, "%s=%s", key + strlen(TAR_XATTR), value);
	/* GNU's sparse files hold less than their size says: not to be taken for plain ones */
	return str_starts(key, "GNU.sparse") ? -EOPNOTSUPP : 0;
}

static int parse_pax(struct unpacker *u, struct entry *e, char *text, size_t len)
{
	char *p = text, *end = text + len;

	while (p < end) {
		char *space = memchr(p, ' ', (size_t)(end - p)), *eq;
		uint64_t n;
		int r;
		if (!space)
			return broken(u, "an extended header is malformed");
		*space = '\0';
		if (parse_u64(p, (uint64_t)(end - p), &n) < 0 || n < (uint64_t)(space - p) + 3 ||
		    p[n - 1] != '\n')
			return broken(u, "an extended header is malformed");
		p[n - 1] = '\0';
		eq = strchr(space + 1, '=');
		if (!eq || strlen(space + 1) != (size_t)(p + n - 1 - (space + 1)))
			return broken(u, "an extended header is malformed");
		*eq = '\0';
		r = pax_value(e, space + 1, eq + 1);
		if (r == -EOPNOTSUPP)
			return vps_err_set(
				u->err, EOPNOTSUPP,
				"sparse entries are not supported; pack without --sparse");
		if (r < 0)
			return broken(u, "an extended header has a bad value");
		p += n;
	}
	return 0;
}

static int header_fields(struct unpacker *u, const struct tar_header *h, struct entry *e)
{
	bool ustar = memcmp(h->magic, "ustar", 5) == 0 && memcmp(h->magic, "ustar ", 6) != 0;
	uint64_t mode, uid, gid, size, mtime;

	if (number(h->mode, sizeof(h->mode), &mode) < 0 ||
	    number(h->uid, sizeof(h->uid), &uid) < 0 || number(h->gid, sizeof(h->gid), &gid) < 0 ||
	    number(h->size, sizeof(h->size), &size) < 0 || size > INT64_MAX)
		return broken(u, "a header has a bad number");
	if (number(h->mtime, sizeof(h->mtime), &mtime) < 0)
		mtime = 0;
	e->type = h->typeflag ? h->typeflag : '0';
	e->mode = (mode_t)(mode & 07777);
	/* what a pax header said stands */
	if (e->uid == UINT64_MAX)
		e->uid = uid;
	if (e->gid == UINT64_MAX)
		e->gid = gid;
	if (e->size == UINT64_MAX)
		e->size = size;
	if (e->mtime < 0)
		e->mtime = (int64_t)mtime;
	if (!e->path && ustar && h->prefix[0])
		e->path = str_fmt("%.155s/%.100s", h->prefix, h->name);
	else if (!e->path)
		e->path = strndup(h->name, sizeof(h->name));
	if (!e->link)
		e->link = strndup(h->linkname, sizeof(h->linkname));
	if (!e->path || !e->link)
		return vps_err_sys(u->err, -ENOMEM, "stream");
	return 0;
}

/* An extension's own header: its text goes into what is known of the entry to come. */
static int extension(struct unpacker *u, const struct tar_header *h, struct entry *e)
{
	autofree char *text = NULL;
	uint64_t size;
	int r = number(h->size, sizeof(h->size), &size);

	r = r < 0 ? broken(u, "a header has a bad number") : read_text(u, size, &text);
	if (r < 0)
		return r;
	if (h->typeflag == 'x')
		return parse_pax(u, e, text, (size_t)size);
	if (h->typeflag == 'L' || h->typeflag == 'K') {
		r = str_set(h->typeflag == 'L' ? &e->path : &e->link, text);
		return r < 0 ? vps_err_sys(u->err, r, "stream") : 0;
	}
	return 0; /* 'g', 'V': of no account here */
}

/* 1: an entry; 0: the end. */
static int next_entry(struct unpacker *u, struct entry *e)
{
	static const char zero[TAR_BLOCK];

	e->uid = e->gid = e->size = UINT64_MAX;
	e->mtime = -1;
	for (;;) {
		struct tar_header h;
		uint64_t sum;
		ssize_t n = fs_read_full(u->in, &h, sizeof(h));
		int r;
		if (n < 0)
			return vps_err_sys(u->err, (int)n, "reading the stream");
		if (n == 0 || (n == sizeof(h) && memcmp(&h, zero, sizeof(h)) == 0))
			return 0;
		if (n != sizeof(h))
			return broken(u, "it ends too early");
		if (number(h.chksum, sizeof(h.chksum), &sum) < 0 || sum != tar_checksum(&h))
			return broken(u, "a header's checksum is wrong");
		if (!h.typeflag || !strchr("xgLKV", h.typeflag)) {
			r = header_fields(u, &h, e);
			return r < 0 ? r : 1;
		}
		r = extension(u, &h, e);
		if (r < 0)
			return r;
	}
}

/* Until the writer is done: it must not die of a closed pipe over its last padding. */
static void drain(struct unpacker *u)
{
	char buf[16384];

	while (fs_read_full(u->in, buf, sizeof(buf)) > 0)
		;
}

/* ---- names ---------------------------------------------------------------------- */

/* With o->as all is one tree: a second one would overwrite the first. */
static int check_top(struct unpacker *u, const char *top)
{
	if (!u->top)
		return str_set(&u->top, top);
	return str_eq(u->top, top) ? 0 : -ENOTDIR;
}

/* The path below the base: no empty, "." or ".." component, top renamed. "": the base itself. */
static int clean_path(struct unpacker *u, const char *raw, char **ret)
{
	auto_strbuf out = STRBUF_INIT;
	auto_strv part = NULL;
	bool dot_top = str_eq(raw, ".") || str_starts(raw, "./"), first = true;

	if (strlen(raw) > PATH_LONGEST)
		return tar_fail(u, -ENAMETOOLONG, raw, "name");
	if (strv_split(raw, "/", &part) < 0)
		return vps_err_sys(u->err, -ENOMEM, "stream");
	if (u->o->as && dot_top)
		sb_add(&out, u->o->as);
	for (char **p = part; *p; p++) {
		if (!**p || str_eq(*p, "."))
			continue;
		if (str_eq(*p, ".."))
			return tar_fail(u, -EPERM, raw, "refused: '..' in");
		if (u->o->as && first && check_top(u, dot_top ? "." : *p) < 0)
			return tar_fail(u, -ENOTDIR, u->o->as, "the stream has several entries:");
		if (out.len)
			sb_addc(&out, '/');
		sb_add(&out, u->o->as && !dot_top && first ? u->o->as : *p);
		first = false;
	}
	*ret = sb_take(&out);
	return *ret ? 0 : vps_err_sys(u->err, -ENOMEM, "stream");
}

int tar_open_at(struct unpacker *u, const char *path, int flags)
{
	uint64_t resolve =
		u->o->host || u->o->sync ? RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS : RESOLVE_NO_MAGICLINKS;

	return sys_openat2(u->base, *path ? path : ".", (uint64_t)(flags | O_CLOEXEC), 0, resolve);
}

/* Directory of path's last component, made when missing. *ret_name points into path. */
int tar_open_parent(struct unpacker *u, const char *path, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	autofree char *dir = slash ? strndup(path, (size_t)(slash - path)) : strdup("");
	int fd;

	*ret_name = slash ? slash + 1 : path;
	if (!dir)
		return -ENOMEM;
	fd = tar_open_at(u, dir, O_RDONLY | O_DIRECTORY);
	if (fd != -ENOENT)
		return fd;
	/* one level at a time, each opened by the same rule */
	for (char *p = strchr(dir, '/');; p = strchr(p + 1, '/')) {
		const char *name;
		if (p)
			*p = '\0';
		name = strrchr(dir, '/');
		{
			autofree char *up = name ? strndup(dir, (size_t)(name - dir)) : strdup("");
			autoclose int at = up ? tar_open_at(u, up, O_RDONLY | O_DIRECTORY) : -ENOMEM;
			if (at < 0)
				return at;
			if (mkdirat(at, name ? name + 1 : dir, 0755) < 0 && errno != EEXIST)
				return -errno;
		}
		if (!p)
			break;
		*p = '/';
	}
	return tar_open_at(u, dir, O_RDONLY | O_DIRECTORY);
}

/* ---- making ---------------------------------------------------------------------- */

static mode_t mode_of(const struct unpacker *u, const struct entry *e)
{
	return u->o->host ? e->mode & 01777 : e->mode;
}

/* Owner first: chown(2) clears set-id bits. */
static int set_owner(struct unpacker *u, const struct entry *e, int dirfd, const char *name)
{
	uid_t uid = u->o->uid >= 0 ? (uid_t)u->o->uid : (uid_t)e->uid;
	gid_t gid = u->o->gid >= 0 ? (gid_t)u->o->gid : (gid_t)e->gid;

	if (u->o->host)
		return 0;
	return fchownat(dirfd, name, uid, gid, AT_SYMLINK_NOFOLLOW | (*name ? 0 : AT_EMPTY_PATH)) <
			       0
		       ? -errno
		       : 0;
}

static struct timespec *times(int64_t mtime, struct timespec t[2])
{
	t[0] = (struct timespec){.tv_nsec = UTIME_NOW};
	t[1] = (struct timespec){.tv_sec = mtime > 0 ? mtime : 0};
	return t;
}

/* Whatever is in the way goes, but for a directory. */
static int clear_way(int dirfd, const char *name)
{
	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	return errno == EISDIR || errno == EPERM ? -EISDIR : -errno;
}

static int copy_body(struct unpacker *u, const struct entry *e, int fd)
{
	char buf[65536];
	uint64_t left = e->size;

	while (left) {
		size_t n = left < sizeof(buf) ? (size_t)left : sizeof(buf);
		int r = tar_get(u, buf, n);
		if (r < 0)
			return r;
		r = fs_write_all(fd, buf, n);
		if (r < 0)
			return tar_fail(u, r, e->path, "writing");
		left -= n;
	}
	return tar_skip(u, tar_padding(e->size));
}

static int make_file(struct unpacker *u, struct entry *e, int dirfd, const char *name)
{
	autoclose int fd = -1;
	struct timespec t[2];
	int r = clear_way(dirfd, name);

	if (r < 0)
		return tar_fail(u, r, e->path, "replacing");
	fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return tar_fail(u, -errno, e->path, "making");
	r = copy_body(u, e, fd);
	if (r < 0)
		return r;
	r = set_owner(u, e, fd, "");
	if (r == 0 && fchmod(fd, mode_of(u, e)) < 0)
		r = -errno;
	if (r < 0)
		return tar_fail(u, r, e->path, "owner of");
	futimens(fd, times(e->mtime, t));
	return 0;
}

static int make_dir(struct unpacker *u, struct entry *e, int dirfd, const char *name)
{
	struct stat st;
	int r = 0;

	if (mkdirat(dirfd, name, 0700) < 0 && errno != EEXIST)
		return tar_fail(u, -errno, e->path, "making");
	if (fstatat(dirfd, name, &st, u->o->host ? AT_SYMLINK_NOFOLLOW : 0) < 0)
		return tar_fail(u, -errno, e->path, "making");
	if (!S_ISDIR(st.st_mode))
		return tar_fail(u, -ENOTDIR, e->path, "making");
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode))
		return 0; /* a link to a directory, in a VPS: what it leads to keeps its owner */
	r = set_owner(u, e, dirfd, name);
	if (r < 0)
		return tar_fail(u, r, e->path, "owner of");
	if (u->n_dirs >= DIRS_MAX || mem_grow(u->dirs, u->n_dirs, u->cap_dirs) < 0)
		return vps_err_sys(u->err, -ENOMEM, "stream");
	u->dirs[u->n_dirs++] = (struct pending){take_ptr(e->path), mode_of(u, e), e->mtime};
	return 0;
}

/* Links are kept as they are, wherever they lead, as other tools' cp does: to follow one is what
 * would hurt, and nothing here does. */
static int make_symlink(struct unpacker *u, struct entry *e, int dirfd, const char *name)
{
	struct timespec t[2];
	int r;

	r = clear_way(dirfd, name);
	if (r == 0 && symlinkat(e->link, dirfd, name) < 0)
		r = -errno;
	r = r ?: set_owner(u, e, dirfd, name);
	if (r < 0)
		return tar_fail(u, r, e->path, "link");
	utimensat(dirfd, name, times(e->mtime, t), AT_SYMLINK_NOFOLLOW);
	return 0;
}

int tar_link_target(struct unpacker *u, const struct entry *e, char **ret)
{
	return clean_path(u, e->link, ret);
}

/* To another entry of the same stream, found by the same walk; of a symbolic link it is a second name. */
static int make_hardlink(struct unpacker *u, struct entry *e, int dirfd, const char *name)
{
	autofree char *target = NULL;
	autoclose int from = -1;
	const char *from_name;
	struct stat st;
	int r = clean_path(u, e->link, &target);

	if (r < 0)
		return r;
	if (str_eq(target, e->path))
		return 0;
	from = *target ? tar_open_parent(u, target, &from_name) : -EINVAL;
	if (from < 0 || fstatat(from, from_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return tar_fail(u, from < 0 ? from : -errno, e->link, "link to");
	if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode)) {
		u->left_out++;
		return 0;
	}
	r = clear_way(dirfd, name);
	if (r == 0 && linkat(from, from_name, dirfd, name, 0) < 0)
		r = -errno;
	return r < 0 ? tar_fail(u, r, e->path, "link") : 0;
}

static int make_fifo(struct unpacker *u, struct entry *e, int dirfd, const char *name)
{
	int r = clear_way(dirfd, name);

	if (r == 0 && mkfifoat(dirfd, name, 0600) < 0)
		r = -errno;
	r = r ?: set_owner(u, e, dirfd, name);
	if (r == 0 && fchmodat(dirfd, name, mode_of(u, e), 0) < 0)
		r = -errno;
	return r < 0 ? tar_fail(u, r, e->path, "fifo") : 0;
}

static int make_typed(struct unpacker *u, struct entry *e, int dirfd, const char *name)
{
	switch (e->type) {
	case '0':
	case '7':
		return make_file(u, e, dirfd, name);
	case '1':
		return make_hardlink(u, e, dirfd, name);
	case '2':
		return make_symlink(u, e, dirfd, name);
	case '5':
		return make_dir(u, e, dirfd, name);
	case '6':
		return make_fifo(u, e, dirfd, name);
	case '3':
	case '4':
		u->left_out++;
		return 0;
	default:
		return vps_err_set(u->err, EOPNOTSUPP, "entries of type '%c' are not supported",
				   e->type > ' ' && e->type < 127 ? e->type : '?');
	}
}

static int one_entry(struct unpacker *u, struct entry *e)
{
	autoclose int dirfd = -1;
	autofree char *path = NULL;
	const char *name;
	int r = clean_path(u, e->path, &path);

	if (r < 0)
		return r;
	/* pre-POSIX writers: a directory is a file whose name ends in a slash */
	if (e->type == '0' && str_ends(e->path, "/"))
		e->type = '5';
	free(e->path);
	e->path = take_ptr(path);
	if (!*e->path && u->o->sync)
		return e->type == '5' ? tar_sync_entry(u, e, u->base, "") : broken(u, "an entry without a name");
	if (!*e->path) /* "./": the directory that is there */
		return e->type == '5' ? 0 : broken(u, "an entry without a name");
	dirfd = tar_open_parent(u, e->path, &name);
	if (dirfd < 0)
		return tar_fail(u, dirfd, e->path, "directory of");
	/* only a plain file has a body; for others a size says nothing */
	return u->o->sync ? tar_sync_entry(u, e, dirfd, name) : make_typed(u, e, dirfd, name);
}

/* Deepest last in the stream, so from the end: a parent's time is touched by nothing after it. */
static int finish_dirs(struct unpacker *u)
{
	for (size_t i = u->n_dirs; i-- > 0;) {
		struct pending *d = &u->dirs[i];
		autoclose int fd = tar_open_at(u, d->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
		struct timespec t[2];
		if (fd < 0)
			continue; /* replaced by a later entry */
		if (fchmod(fd, d->mode) < 0)
			return tar_fail(u, -errno, d->path, "mode of");
		futimens(fd, times(d->mtime, t));
	}
	return 0;
}

int tar_unpack(int dirfd, const struct tar_unpack_opts *o, int fd, struct vps_err *err)
{
	struct unpacker u = {.in = fd, .base = dirfd, .o = o, .err = err};
	bool any = false;
	int r;

	for (;;) {
		auto_done(entry_done) struct entry e = {0};
		r = next_entry(&u, &e);
		if (r <= 0)
			break;
		any = true;
		r = one_entry(&u, &e);
		if (r < 0)
			break;
	}
	if (r == 0 && !any)
		r = broken(&u, "it is empty");
	if (r == 0 && o->sync)
		r = tar_sync_finish(&u);
	r = r ?: finish_dirs(&u);
	if (r == 0)
		drain(&u);
	for (size_t i = 0; i < u.n_dirs; i++)
		free(u.dirs[i].path);
	free(u.dirs);
	free(u.top);
	free(u.seen);
	return r < 0 ? r : u.left_out;
}
