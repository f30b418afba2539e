/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "images/tree_copy.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"

#define DEPTH_MAX  400 /* two fds a level */
#define XATTR_MAX  65536
#define CLOCK_SLOP 1000000000ull /* stamps come from the coarse clock, of the last tick */

struct link_item {
	uint64_t ino;
	char *path; /* below `to` */
};

struct copier {
	int to;
	const struct tree_copy *o;
	struct vps_err *err;
	struct strbuf path;
	struct link_item *links; /* open addressing by inode */
	size_t n_links, cap_links;
	char *names, *value; /* XATTR_MAX each */
	uint64_t done;
};

static int fail(struct copier *c, int r, const char *what)
{
	autofree char *safe = str_escape(sb_str(&c->path));

	return vps_err_sys(c->err, r, "%s '%.200s'", what, safe ? safe : "?");
}

static bool gone(const struct copier *c, int r)
{
	/* A directory may have become a file, or a link, the moment after it was looked at. */
	return c->o->live && (r == -ENOENT || r == -ESTALE || r == -ENOTDIR || r == -ELOOP || r == -ENODATA);
}

/* ---- hard links ---------------------------------------------------------------------- */

static struct link_item *slot(struct link_item *v, size_t cap, uint64_t ino)
{
	size_t i = (size_t)(ino * 0x9e3779b97f4a7c15ull) & (cap - 1);

	while (v[i].path && v[i].ino != ino)
		i = (i + 1) & (cap - 1);
	return &v[i];
}

static int links_grow(struct copier *c)
{
	size_t cap = c->cap_links ? 2 * c->cap_links : 256;
	struct link_item *v;

	if (2 * (c->n_links + 1) <= c->cap_links)
		return 0;
	v = calloc(cap, sizeof(*v));
	if (!v)
		return -ENOMEM;
	for (size_t i = 0; i < c->cap_links; i++)
		if (c->links[i].path)
			*slot(v, cap, c->links[i].ino) = c->links[i];
	free(c->links);
	c->links = v;
	c->cap_links = cap;
	return 0;
}

/* Where this inode is already, or NULL, and then this path is where it will be. */
static int link_first(struct copier *c, uint64_t ino, const char **ret)
{
	struct link_item *it;

	if (links_grow(c) < 0)
		return -ENOMEM;
	it = slot(c->links, c->cap_links, ino);
	*ret = it->path;
	if (it->path)
		return 0;
	it->path = strdup(sb_str(&c->path));
	if (!it->path)
		return -ENOMEM;
	it->ino = ino;
	c->n_links++;
	return 0;
}

static int make_link(struct copier *c, const char *first, int to, const char *name)
{
	struct stat a, b;

	if (fstatat(c->to, first, &a, AT_SYMLINK_NOFOLLOW) < 0)
		return c->o->live ? 0 : -errno; /* the first one vanished while it was copied */
	if (fstatat(to, name, &b, AT_SYMLINK_NOFOLLOW) == 0) {
		if (a.st_ino == b.st_ino)
			return 0;
		int r = fs_remove_tree(to, name);
		if (r < 0)
			return r;
	}
	return linkat(c->to, first, to, name, 0) < 0 ? -errno : 0;
}

/* ---- attributes ------------------------------------------------------------------------ */

/* Overlayfs finds by these which inode of the layers below, or of the same upper, an inode belongs to. In a copy they
 * would be of somebody else. */
static bool wants_xattr(const char *name)
{
	static const char *const others[] = {"origin", "impure", "nlink", "upper", "uuid"};

	if (!str_starts(name, "trusted.overlay."))
		return true;
	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		if (str_eq(name + strlen("trusted.overlay."), others[i]))
			return false;
	return true;
}

static int copy_xattrs(struct copier *c, int in, int out)
{
	ssize_t n = flistxattr(in, c->names, XATTR_MAX);

	if (n < 0)
		return errno == EOPNOTSUPP ? 0 : -errno;
	for (char *x = c->names; x < c->names + n; x += strlen(x) + 1) {
		ssize_t len = wants_xattr(x) ? fgetxattr(in, x, c->value, XATTR_MAX) : -1;

		if (len < 0) {
			if (wants_xattr(x) && errno != ENODATA)
				return -errno;
			continue;
		}
		if (fsetxattr(out, x, c->value, (size_t)len, 0) < 0)
			return -errno;
	}
	return 0;
}

/* An attribute that went in the meantime. */
static int drop_xattrs(struct copier *c, int in, int out)
{
	ssize_t n = flistxattr(out, c->names, XATTR_MAX);

	for (char *x = c->names; n > 0 && x < c->names + n; x += strlen(x) + 1)
		if (fgetxattr(in, x, NULL, 0) < 0 && errno == ENODATA && fremovexattr(out, x) < 0)
			return -errno;
	return 0;
}

static int set_times(int dir, const char *name, const struct stat *st)
{
	const struct timespec t[2] = {st->st_atim, st->st_mtim};

	return utimensat(dir, name, t, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

/* Owner first: changing it takes set-id bits and capabilities away. */
static int dress(struct copier *c, int in, int out, const struct stat *st)
{
	int r = fchown(out, st->st_uid, st->st_gid) < 0 ? -errno : 0;

	r = r ?: copy_xattrs(c, in, out);
	if (r == 0 && fchmod(out, st->st_mode & 07777) < 0)
		r = -errno;
	return r;
}

/* ---- one entry ------------------------------------------------------------------------------ */

static int copy_data(struct copier *c, int in, int out, const struct stat *st)
{
	int r;

	if (st->st_size == 0 || ioctl(out, FICLONE, in) == 0)
		return 0;
	if (ftruncate(out, st->st_size) < 0)
		return -errno;
	for (uint64_t left = (uint64_t)st->st_size; left > 0;) {
		uint64_t part = left < (64u << 20) ? left : 64u << 20;

		r = fs_copy_data(in, out, part);
		if (r < 0)
			return r;
		left -= part;
		c->done += part;
		if (progress_tell(c->o->progress, 0, c->o->what, c->done, 0))
			return -VPS_EINTERRUPTED;
	}
	return 0;
}

static int copy_file(struct copier *c, int from, int to, const char *name)
{
	autoclose int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOATIME);
	autoclose int out = -1;
	struct stat st;
	int r;

	if (in < 0 || fstat(in, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -ESTALE;
	out = openat(to, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (out < 0)
		return -errno;
	r = copy_data(c, in, out, &st);
	r = r ?: dress(c, in, out, &st);
	if (r == 0 && futimens(out, (struct timespec[]){st.st_atim, st.st_mtim}) < 0)
		r = -errno;
	return r;
}

static int copy_symlink(int from, int to, const char *name)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(from, name, target, sizeof(target) - 1);

	if (n < 0)
		return errno == EINVAL ? -ESTALE : -errno;
	target[n] = '\0';
	return symlinkat(target, to, name) < 0 ? -errno : 0;
}

static int copy_special(int from, int to, const char *name, const struct stat *st)
{
	int r = S_ISLNK(st->st_mode)			   ? copy_symlink(from, to, name)
		: mknodat(to, name, st->st_mode, st->st_rdev) < 0 ? -errno
								   : 0;

	if (r < 0)
		return r;
	if (fchownat(to, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0 ||
	    (!S_ISLNK(st->st_mode) && fchmodat(to, name, st->st_mode & 07777, 0) < 0))
		return -errno;
	return set_times(to, name, st);
}

static uint64_t stamp(const struct timespec *t)
{
	return (uint64_t)t->tv_sec * 1000000000u + (uint64_t)t->tv_nsec;
}

/* Is what a copy begun at `since` made of it still right? Anything that was done to an inode set its ctime, which
 * nobody can set back; a page mapped for writing did at its first write after the syncfs. */
static bool is_same(const struct copier *c, const struct stat *st, int to, const char *name)
{
	struct stat have;

	return c->o->since && stamp(&st->st_ctim) + CLOCK_SLOP < c->o->since &&
	       fstatat(to, name, &have, AT_SYMLINK_NOFOLLOW) == 0 &&
	       (have.st_mode & S_IFMT) == (st->st_mode & S_IFMT);
}

static int copy_leaf(struct copier *c, int from, int to, const char *name, const struct stat *st)
{
	const char *first = NULL;
	int r = st->st_nlink > 1 ? link_first(c, st->st_ino, &first) : 0;

	if (r == 0 && first)
		return make_link(c, first, to, name);
	if (r < 0 || is_same(c, st, to, name))
		return r;
	if (c->o->since)
		r = fs_remove_tree(to, name);
	if (r < 0)
		return r;
	r = S_ISREG(st->st_mode) ? copy_file(c, from, to, name) : copy_special(from, to, name, st);
	/* Half of it is worse than none: the next round would take it for whole. */
	if (r < 0)
		(void)unlinkat(to, name, 0);
	return r;
}

/* ---- directories --------------------------------------------------------------------------- */

static int copy_dir(struct copier *c, int from, int to, unsigned depth);

static int make_dir(struct copier *c, int to, const char *name)
{
	struct stat st;

	if (c->o->since && fstatat(to, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode)) {
		int r = fs_remove_tree(to, name);
		if (r < 0)
			return r;
	}
	return mkdirat(to, name, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static int copy_subdir(struct copier *c, int from, int to, const char *name, unsigned depth)
{
	autoclose int in = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NOATIME);
	autoclose int out = -1;
	int r;

	if (in < 0)
		return -errno;
	if (depth >= DEPTH_MAX)
		return vps_err_set(c->err, ELOOP, "directories are nested deeper than %d", DEPTH_MAX);
	r = make_dir(c, to, name);
	if (r < 0)
		return r;
	out = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return out < 0 ? -errno : copy_dir(c, in, out, depth + 1);
}

static int copy_entry(struct copier *c, int from, int to, const char *name, unsigned depth)
{
	size_t len = c->path.len;
	struct stat st;
	int r;

	sb_addf(&c->path, "%s%s", len ? "/" : "", name);
	r = sb_ok(&c->path);
	if (r == 0 && fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		r = -errno;
	if (r == 0)
		r = S_ISDIR(st.st_mode) ? copy_subdir(c, from, to, name, depth) : copy_leaf(c, from, to, name, &st);
	if (gone(c, r))
		r = 0;
	if (r < 0)
		fail(c, r, "copy");
	if (c->path.s) {
		c->path.len = len;
		c->path.s[len] = '\0';
	}
	return r;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What is in the copy and no more in the tree. names: sorted. */
static int remove_others(int to, char **names)
{
	const size_t n = strv_len(names);
	auto_strv have = NULL;
	int r = fs_list(to, ".", &have);

	for (char **p = have; r == 0 && p && *p; p++)
		if (!n || !bsearch(p, names, n, sizeof(*names), by_name))
			r = fs_remove_tree(to, *p);
	return r;
}

static int copy_dir(struct copier *c, int from, int to, unsigned depth)
{
	auto_strv names = NULL;
	struct stat st;
	int r = fs_list(from, ".", &names);

	if (r == 0 && names)
		qsort(names, strv_len(names), sizeof(*names), by_name);
	if (r == 0 && c->o->since)
		r = remove_others(to, names);
	for (char **p = names; r == 0 && p && *p; p++)
		r = copy_entry(c, from, to, *p, depth);
	if (r == 0 && fstat(from, &st) < 0)
		r = -errno;
	r = r ?: dress(c, from, to, &st);
	if (r == 0 && c->o->since)
		r = drop_xattrs(c, from, to);
	return r ?: set_times(to, ".", &st);
}

int tree_copy(int from, int to, const struct tree_copy *o, struct vps_err *err)
{
	struct copier c = {.to = to, .o = o, .err = err, .names = malloc(XATTR_MAX), .value = malloc(XATTR_MAX)};
	int r = c.names && c.value ? 0 : -ENOMEM;

	r = r ?: copy_dir(&c, from, to, 0);
	if (r < 0)
		fail(&c, r, "copy");
	for (size_t i = 0; i < c.cap_links; i++)
		free(c.links[i].path);
	free(c.links);
	free(c.names);
	free(c.value);
	sb_done(&c.path);
	return r;
}
