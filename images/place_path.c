/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the name of an entry leads. Nearly always to the folder of the entry before, whose fd is
 * kept; else openat2 below the root without symbolic links; and where that fails, part by part,
 * as the guest would see it: through this layer's and the lower layers' symbolic links (inside the
 * root, always), making parents that the archive does not list.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/str.h"
#include "base/sys.h"
#include "images/place.h"

#define LINKS_MAX 40	    /* as the kernel: path_resolution(7) */
#define STEPS_MAX 4000000 /* in one layer; about 10 s */

int place_open_plain(int root, const char *path, int flags)
{
	return sys_openat2(root, *path ? path : ".", (uint64_t)(flags | O_CLOEXEC), 0,
			   RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS |
				   RESOLVE_NO_XDEV);
}

int place_plain_path(struct place *p, const char *raw, char *out, struct vps_err *err)
{
	size_t n = 0;
	if (!raw || !*raw)
		return place_bad("", err, "entry without a name");
	for (const char *c = raw; *c;) {
		size_t len = strcspn(c, "/");
		if (len == 2 && c[0] == '.' && c[1] == '.')
			return place_bad(raw, err, "name with '..'");
		if (len > NAME_MAX)
			return place_bad(raw, err, "name with a part longer than 255 bytes");
		if (len && !(len == 1 && *c == '.')) {
			if (n + len + 1 > p->caps->path)
				return place_bad(raw, err, "name is over the cap on paths");
			if (n)
				out[n++] = '/';
			memcpy(out + n, c, len);
			n += len;
			bool last = !c[len + strspn(c + len, "/")];
			if (!p->plain && !last && str_starts(c, WH_PREFIX))
				return place_bad(raw, err, "whiteout as a folder");
		}
		c += len;
		c += strspn(c, "/");
	}
	out[n] = 0;
	return 0;
}

/* ---- the current folder -------------------------------------------------- */

int place_leave(struct place *p, struct vps_err *err)
{
	if (p->dir < 0)
		return 0;
	struct timespec ts[2] = { p->dir_mtime, p->dir_mtime };
	if (p->dirty && futimens(p->dir, ts) < 0)
		return place_sys(p->dir_path, -errno, err, "set times of");
	close_fd(&p->dir);
	return 0;
}

static int take_dir(struct place *p, int fd, const char *path, const char *real,
		    struct vps_err *err)
{
	struct stat st;
	p->dir = fd;
	if (fstat(fd, &st) < 0) {
		int r = -errno;
		close_fd(&p->dir);
		return place_sys(path, r, err, "look at");
	}
	p->dir_mtime = st.st_mtim;
	p->dirty = false;
	p->odd = (st.st_mode & S_ISGID) ||
		 fgetxattr(fd, "system.posix_acl_default", NULL, 0) > 0;
	strcpy(p->dir_path, path);
	strcpy(p->dir_real, real);
	return 0;
}

/* ---- the layers below ---------------------------------------------------- */

/* In one layer. *stop: what is seen here hides everything further down. */
static int lower_one(struct place *p, int layer, const char *path, bool *stop)
{
	autoclose int cur = place_open_plain(layer, "", O_RDONLY | O_DIRECTORY);
	if (cur < 0)
		return cur;
	for (const char *c = path;;) {
		char part[NAME_MAX + 1], y;
		p->steps++;
		size_t len = strcspn(c, "/");
		memcpy(part, c, len);
		part[len] = 0;
		int fd = openat(cur, part, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0) {
			int r = -errno;
			if (fgetxattr(cur, XATTR_OPAQUE, &y, 1) == 1)
				*stop = true;
			return r;
		}
		struct stat st;
		if (fstat(fd, &st) < 0 || place_is_whiteout(&st)) {
			close(fd);
			*stop = true;
			return -ENOENT;
		}
		c += len;
		if (!*c) {
			*stop = true;
			return fd;
		}
		c++;
		if (!S_ISDIR(st.st_mode)) {
			close(fd);
			*stop = true;
			return -ENOENT;
		}
		if (fgetxattr(cur, XATTR_OPAQUE, &y, 1) == 1)
			*stop = true;
		close(fd);
		fd = openat(cur, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		close_fd(&cur);
		cur = fd;
	}
}

/* A whiteout in or below an opaque folder of this layer would hide nothing, and an overlay's readdir
 * would show it. */
bool place_cut_off(struct place *p, const char *dir)
{
	for (size_t n = 0;; n += strcspn(dir + n, "/")) {
		char part[PATH_MAX], y;
		memcpy(part, dir, n);
		part[n] = 0;
		p->steps++;
		autoclose int fd = place_open_plain(p->root, part, O_RDONLY | O_DIRECTORY);
		if (fd >= 0 && fgetxattr(fd, XATTR_OPAQUE, &y, 1) == 1)
			return true;
		if (!dir[n])
			return false;
		n += n > 0; /* the slash */
	}
}

int place_lower(struct place *p, const char *path)
{
	for (size_t i = 0; i < p->n_lower; i++) {
		bool stop = false;
		int fd = lower_one(p, p->lower[i], path, &stop);
		if (fd >= 0 || stop)
			return fd >= 0 ? fd : -ENOENT;
		if (fd != -ENOENT)
			return fd;
	}
	return -ENOENT;
}

/* The face of a folder below: owner, mode, ACLs and user xattrs, times. */
static int copy_face(int from, int to)
{
	struct stat st;
	char names[4096], value[4096];
	if (fstat(from, &st) < 0 || fchown(to, st.st_uid, st.st_gid) < 0)
		return -errno;
	autoclose int fd = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n = flistxattr(fd, names, sizeof(names));
	for (char *x = names; n > 0 && x < names + n; x += strlen(x) + 1) {
		if (str_starts(x, "trusted."))
			continue;
		ssize_t len = fgetxattr(fd, x, value, sizeof(value));
		if (len >= 0 && fsetxattr(to, x, value, (size_t)len, 0) < 0)
			return -errno;
	}
	if (fchmod(to, st.st_mode & 07777) < 0)
		return -errno;
	struct timespec ts[2] = { st.st_mtim, st.st_mtim };
	return futimens(to, ts) < 0 ? -errno : 0;
}

int place_root_face(struct place *p, struct vps_err *err)
{
	int r = 0;
	if (p->n_lower)
		r = copy_face(p->lower[0], p->root);
	else if (fchmod(p->root, 0755) < 0)
		r = -errno;
	return r < 0 ? vps_err_sys(err, r, "layer's root") : 0;
}

/* ---- part by part -------------------------------------------------------- */

struct walk {
	struct place *p;
	int cur; /* readable folder fd */
	char at[PATH_MAX];	  /* where cur is, plain */
	char rest[2 * PATH_MAX]; /* still to go */
	unsigned links;
};

static int walk_goto(struct walk *w, const char *path)
{
	int fd = place_open_plain(w->p->root, path, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	close_fd(&w->cur);
	w->cur = fd;
	return 0;
}

static int walk_up(struct walk *w)
{
	char *slash = strrchr(w->at, '/');
	*(slash ? slash : w->at) = 0;
	return walk_goto(w, w->at);
}

/* Put a link's target before what is still to go. */
static int walk_link(struct walk *w, int link)
{
	char target[PATH_MAX], rest[2 * PATH_MAX];
	ssize_t n = readlinkat(link, "", target, sizeof(target) - 1);
	if (n < 0)
		return -errno;
	target[n] = 0;
	if (++w->links > LINKS_MAX)
		return -ELOOP;
	size_t old = strlen(w->rest);
	if ((size_t)n + 1 + old + 1 > sizeof(rest))
		return -ENAMETOOLONG;
	memcpy(rest, target, (size_t)n);
	rest[n] = '/';
	memcpy(rest + n + 1, w->rest, old + 1);
	memcpy(w->rest, rest, (size_t)n + 1 + old + 1);
	if (target[0] != '/')
		return 0;
	w->at[0] = 0;
	return walk_goto(w, "");
}

static int walk_make(struct walk *w, const char *part, const char *path, bool was_whiteout,
		     struct vps_err *err)
{
	struct place *p = w->p;
	struct stat st;
	if (fstat(w->cur, &st) < 0)
		return place_sys(path, -errno, err, "look at");
	if (was_whiteout && unlinkat(w->cur, part, 0) < 0)
		return place_sys(path, -errno, err, "replace");
	autoclose int below = was_whiteout ? -ENOENT : place_lower(p, path);
	if (mkdirat(w->cur, part, 0700) < 0)
		return place_sys(path, -errno, err, "make folder");
	autoclose int fd = openat(w->cur, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return place_sys(path, -errno, err, "open folder");
	(void)!fremovexattr(fd, "system.posix_acl_access");
	(void)!fremovexattr(fd, "system.posix_acl_default");
	int r = was_whiteout ? place_opaque(fd) : 0;
	struct stat bst;
	if (r == 0 && below >= 0 && fstat(below, &bst) == 0 && S_ISDIR(bst.st_mode)) {
		r = copy_face(below, fd);
	} else if (r == 0) {
		struct timespec zero[2] = { { 0 }, { 0 } };
		if (fchown(fd, 0, 0) < 0 || fchmod(fd, p->plain ? 0700 : 0755) < 0 ||
		    futimens(fd, zero) < 0)
			r = -errno;
	}
	struct timespec ts[2] = { st.st_mtim, st.st_mtim };
	if (r == 0 && futimens(w->cur, ts) < 0)
		r = -errno;
	if (r < 0)
		return place_sys(path, r, err, "make folder");
	close_fd(&w->cur);
	w->cur = take_fd(fd);
	return place_count(p, err);
}

/* One part that is a name. */
static int walk_step(struct walk *w, const char *part, struct vps_err *err)
{
	struct place *p = w->p;
	char path[PATH_MAX];
	size_t n = strlen(w->at), len = strlen(part);
	if (n + 1 + len + 1 > sizeof(path))
		return place_bad(p->path, err, "links lead to a path that is too long");
	memcpy(path, w->at, n);
	if (n)
		path[n++] = '/';
	memcpy(path + n, part, len + 1);

	autoclose int fd = openat(w->cur, part, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	bool whiteout = false;
	if (fd < 0 && errno != ENOENT)
		return place_sys(p->path, -errno, err, "look up");
	if (fd < 0) { /* not in this layer; does a lower one have a link there? */
		fd = place_lower(p, path);
		if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISLNK(st.st_mode)))
			close_fd(&fd);
	} else if (fstat(fd, &st) < 0) {
		return place_sys(p->path, -errno, err, "look up");
	}
	if (fd >= 0 && S_ISLNK(st.st_mode)) {
		int r = walk_link(w, fd);
		if (r == -ELOOP)
			return place_bad(p->path, err, "too many symbolic links on the way");
		return r < 0 ? place_sys(p->path, r, err, "look up") : 0;
	}
	if (fd >= 0 && place_is_whiteout(&st))
		whiteout = true;
	else if (fd >= 0 && !S_ISDIR(st.st_mode))
		return place_bad(p->path, err, "entry below what is not a folder");
	int r;
	if (fd < 0 || whiteout) {
		r = walk_make(w, part, path, whiteout, err);
	} else {
		int d = openat(w->cur, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (d < 0)
			return place_sys(p->path, -errno, err, "open folder");
		close_fd(&w->cur);
		w->cur = d;
		r = 0;
	}
	memcpy(w->at, path, n + len + 1);
	return r;
}

/* The folder's fd, and its plain path in real (PATH_MAX). */
static int walk_parent(struct place *p, const char *parent, char *real, struct vps_err *err)
{
	struct walk w = { .p = p, .cur = -1 };
	int r = walk_goto(&w, "");
	if (r < 0)
		return place_sys(p->path, r, err, "open the layer's root");
	strcpy(w.rest, parent);
	while (r == 0 && w.rest[0]) {
		char part[NAME_MAX + 1];
		if (++p->steps > STEPS_MAX) {
			r = place_bad(p->path, err, "too many detours through symbolic links");
			break;
		}
		size_t len = strcspn(w.rest, "/");
		size_t skip = len + strspn(w.rest + len, "/");
		if (len > NAME_MAX) {
			r = place_bad(p->path, err, "link with a part longer than 255 bytes");
			break;
		}
		memcpy(part, w.rest, len);
		part[len] = 0;
		memmove(w.rest, w.rest + skip, strlen(w.rest + skip) + 1);
		if (!len || str_eq(part, "."))
			continue;
		if (!str_eq(part, "..")) {
			r = walk_step(&w, part, err);
		} else if ((r = walk_up(&w)) < 0) {
			r = place_sys(p->path, r, err, "look up");
		}
	}
	if (r == 0) {
		strcpy(real, w.at);
		return take_fd(w.cur);
	}
	close_fd(&w.cur);
	return r;
}

int place_enter(struct place *p, struct vps_err *err)
{
	char parent[PATH_MAX];
	char *slash = strrchr(p->path, '/');
	size_t n = slash ? (size_t)(slash - p->path) : 0;
	memcpy(parent, p->path, n);
	parent[n] = 0;
	p->name = slash ? slash + 1 : p->path;
	if (p->dir >= 0 && str_eq(parent, p->dir_path))
		return 0;
	int r = place_leave(p, err);
	if (r < 0)
		return r;
	int fd = place_open_plain(p->root, parent, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
	if (fd == -ENOENT || fd == -ELOOP || fd == -ENOTDIR) {
		char real[PATH_MAX];
		fd = walk_parent(p, parent, real, err);
		return fd < 0 ? fd : take_dir(p, fd, parent, real, err);
	}
	if (fd < 0)
		return place_sys(p->path, fd, err, "open folder of");
	return take_dir(p, fd, parent, parent, err);
}
