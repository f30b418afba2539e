/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Placing entries: what is counted, refused and written. See place.h. */
#include "images/place.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/str.h"

/* An image lists its refused nodes; it does not get to fill a disk with them. */
#define REFUSED_MAX	  65536
#define REFUSED_LIST_MAX (1u << 20)

int place_bad(const char *path, struct vps_err *err, const char *words)
{
	autofree char *esc = str_escape(path);
	return vps_err_set(err, VPS_EBADIMAGE, "%s: '%.300s'", words, esc ? esc : "?");
}

int place_sys(const char *path, int r, struct vps_err *err, const char *words)
{
	autofree char *esc = str_escape(path);
	return vps_err_sys(err, r, "%s '%.300s'", words, esc ? esc : "?");
}

int place_begin(struct place *p, struct vps_err *err)
{
	p->dir = p->file = -1;
	p->refused_bytes = 0;
	return place_root_face(p, err);
}

void place_done(struct place *p)
{
	close_fd(&p->dir);
	close_fd(&p->file);
}

int place_count(struct place *p, struct vps_err *err)
{
	if (atomic_fetch_add(&p->st->entries, 1) >= p->caps->entries)
		return vps_err_set(err, VPS_EBADIMAGE, "layer has more than %llu entries",
				   (unsigned long long)p->caps->entries);
	return 0;
}

/* Record what is not made. */
static int refuse(struct place *p, const char *path, const char *what, struct vps_err *err)
{
	if (++p->st->refused > REFUSED_MAX)
		return place_bad(path, err, "layer has more than 65536 device nodes");
	if (p->refused_fd < 0 || p->refused_bytes > REFUSED_LIST_MAX)
		return 0;
	autofree char *esc = str_escape(path);
	autofree char *line = esc ? str_fmt("%s %s", esc, what) : NULL;
	if (!line)
		return vps_err_sys(err, -ENOMEM, "layer");
	size_t n = strlen(line) + 1;
	p->refused_bytes += n;
	int r = fs_write_all(p->refused_fd, line, n);
	return r < 0 ? vps_err_sys(err, r, "layer") : 0;
}

int place_opaque(int fd) { return fsetxattr(fd, XATTR_OPAQUE, "y", 1, 0) < 0 ? -errno : 0; }

/* ---- metadata ------------------------------------------------------------ */

static bool xattr_wanted(const char *name)
{
	if (str_starts(name, "user."))
		return !str_starts(name, "user.overlay.");
	return str_eq(name, "security.capability") || str_eq(name, "system.posix_acl_access") ||
	       str_eq(name, "system.posix_acl_default");
}

/* Of files and folders only: links cannot have them, and fifos with ACLs nobody misses. */
static int put_xattrs(struct place *p, int fd, const struct place_item *it, struct vps_err *err)
{
	for (size_t i = 0; i < it->n_xattrs; i++) {
		const struct place_xattr *x = &it->xattrs[i];
		if (!xattr_wanted(x->name) ||
		    (it->type != S_IFDIR && str_eq(x->name, "system.posix_acl_default"))) {
			p->st->xattrs_dropped++;
			continue;
		}
		if (fsetxattr(fd, x->name, x->value, x->len, 0) == 0)
			continue;
		autofree char *esc = str_escape(x->name);
		autofree char *words = str_fmt("set extended attribute %.100s of", esc ? esc : "?");
		if (errno == EINVAL || errno == ERANGE || errno == EPERM)
			return place_bad(p->path, err, "extended attribute is malformed");
		return place_sys(p->path, -errno, err, words ? words : "xattr");
	}
	return 0;
}

/* Owner first, then xattrs (a change of owner drops capabilities), then the mode (it drops set-uid
 * bits), times last. */
static int put_meta(struct place *p, int fd, const struct place_item *it, struct vps_err *err)
{
	if (p->odd) {
		(void)!fremovexattr(fd, "system.posix_acl_access");
		if (it->type == S_IFDIR)
			(void)!fremovexattr(fd, "system.posix_acl_default");
	}
	if (!p->plain) {
		/* An earlier entry of that name may have left an owner: folders are always told. */
		bool told = it->uid || it->gid || p->odd || it->type == S_IFDIR;
		if (told && fchown(fd, (uid_t)it->uid, (gid_t)it->gid) < 0)
			return place_sys(p->path, -errno, err, "chown");
		int r = put_xattrs(p, fd, it, err);
		if (r < 0)
			return r;
	}
	if (fchmod(fd, it->mode) < 0)
		return place_sys(p->path, -errno, err, "chmod");
	struct timespec t = { .tv_sec = it->mtime, .tv_nsec = it->mtime_ns };
	struct timespec ts[2] = { t, t };
	if (futimens(fd, ts) < 0)
		return place_sys(p->path, -errno, err, "set times of");
	return 0;
}

/* Links, fifos and sockets: by name in the current folder, which nobody but us writes to. */
static int put_meta_at(struct place *p, const struct place_item *it, struct vps_err *err)
{
	if (!p->plain && (it->uid || it->gid || p->odd) &&
	    fchownat(p->dir, p->name, (uid_t)it->uid, (gid_t)it->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return place_sys(p->path, -errno, err, "chown");
	if (it->type != S_IFLNK && fchmodat(p->dir, p->name, it->mode, 0) < 0)
		return place_sys(p->path, -errno, err, "chmod");
	struct timespec t = { .tv_sec = it->mtime, .tv_nsec = it->mtime_ns };
	struct timespec ts[2] = { t, t };
	if (utimensat(p->dir, p->name, ts, AT_SYMLINK_NOFOLLOW) < 0)
		return place_sys(p->path, -errno, err, "set times of");
	p->st->xattrs_dropped += it->n_xattrs;
	return 0;
}

/* ---- making -------------------------------------------------------------- */

/* A later entry of the same name wins. 1: there was a folder and one is wanted: it stays;
 * 2: our whiteout was there; 0: the place is free now. */
static int clear_place(struct place *p, bool want_dir, struct vps_err *err)
{
	struct stat st;
	if (fstatat(p->dir, p->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : place_sys(p->path, -errno, err, "look at");
	p->dirty = true;
	if (S_ISDIR(st.st_mode)) {
		if (want_dir)
			return 1;
		int r = fs_remove_tree(p->dir, p->name);
		return r < 0 ? place_sys(p->path, r, err, "replace") : 0;
	}
	if (unlinkat(p->dir, p->name, 0) < 0)
		return place_sys(p->path, -errno, err, "replace");
	return place_is_whiteout(&st) ? 2 : 0;
}

static int add_dir(struct place *p, const struct place_item *it, struct vps_err *err)
{
	bool opaque = false;
	if (mkdirat(p->dir, p->name, 0700) < 0) {
		if (errno != EEXIST)
			return place_sys(p->path, -errno, err, "make folder");
		int r = clear_place(p, true, err);
		if (r < 0)
			return r;
		if (r != 1 && mkdirat(p->dir, p->name, 0700) < 0)
			return place_sys(p->path, -errno, err, "make folder");
		opaque = r == 2; /* removed below, and made anew here */
	}
	p->dirty = true;
	autoclose int fd =
		openat(p->dir, p->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return place_sys(p->path, -errno, err, "open folder");
	int r = opaque ? place_opaque(fd) : 0;
	if (r < 0)
		return place_sys(p->path, r, err, "mark opaque");
	return put_meta(p, fd, it, err);
}

static int add_file(struct place *p, const struct place_item *it, struct vps_err *err)
{
	if (it->size > p->caps->bytes || p->st->logical > p->caps->bytes - it->size)
		return vps_err_set(err, VPS_EBADIMAGE, "layer is over the cap of %llu bytes",
				   (unsigned long long)p->caps->bytes);
	p->st->logical += it->size;
	const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(p->dir, p->name, flags, 0600);
	if (fd < 0 && errno == EEXIST) {
		int r = clear_place(p, false, err);
		if (r < 0)
			return r;
		fd = openat(p->dir, p->name, flags, 0600);
	}
	if (fd < 0)
		return place_sys(p->path, -errno, err, "make file");
	p->dirty = true;
	p->file = fd;
	p->file_size = it->size;
	p->file_end = 0;
	return 0;
}

int place_data(struct place *p, const void *data, size_t len, uint64_t off, struct vps_err *err)
{
	if (off > p->file_size || len > p->file_size - off)
		return place_bad(p->path, err, "more data than the entry's size");
	for (const char *c = data; len;) {
		ssize_t n = pwrite(p->file, c, len, (off_t)off);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return place_sys(p->path, n < 0 ? -errno : -EIO, err, "write");
		c += n;
		off += (uint64_t)n;
		len -= (size_t)n;
		atomic_fetch_add(&p->st->bytes, (uint64_t)n);
	}
	if (off > p->file_end)
		p->file_end = off;
	return 0;
}

int place_close(struct place *p, const struct place_item *it, struct vps_err *err)
{
	if (p->file_end < p->file_size && ftruncate(p->file, (off_t)p->file_size) < 0)
		return place_sys(p->path, -errno, err, "size");
	int r = put_meta(p, p->file, it, err);
	close_fd(&p->file);
	return r;
}

static int add_symlink(struct place *p, const struct place_item *it, struct vps_err *err)
{
	if (!*it->symlink || strlen(it->symlink) >= PATH_MAX)
		return place_bad(p->path, err, "symbolic link with an empty or too long target");
	if (symlinkat(it->symlink, p->dir, p->name) < 0) {
		if (errno != EEXIST)
			return place_sys(p->path, -errno, err, "make symbolic link");
		int r = clear_place(p, false, err);
		if (r < 0)
			return r;
		if (symlinkat(it->symlink, p->dir, p->name) < 0)
			return place_sys(p->path, -errno, err, "make symbolic link");
	}
	p->dirty = true;
	return put_meta_at(p, it, err);
}

static int add_node(struct place *p, const struct place_item *it, struct vps_err *err)
{
	mode_t mode = it->type | 0600;
	if (mknodat(p->dir, p->name, mode, 0) < 0) {
		if (errno != EEXIST)
			return place_sys(p->path, -errno, err, "make fifo");
		int r = clear_place(p, false, err);
		if (r < 0)
			return r;
		if (mknodat(p->dir, p->name, mode, 0) < 0)
			return place_sys(p->path, -errno, err, "make fifo");
	}
	p->dirty = true;
	return put_meta_at(p, it, err);
}

/*
 * The target is looked up through plain folders of this layer only: a link through a symbolic link
 * would reach what the archive does not name (CVE-2014-6407 and its kin).
 */
static int add_hardlink(struct place *p, const struct place_item *it, struct vps_err *err)
{
	char target[PATH_MAX];
	struct stat st, old;
	int r = place_plain_path(p, it->hardlink, target, err);
	if (r < 0)
		return r;
	if (!*target)
		return place_bad(p->path, err, "hard link to the root");
	autoclose int fd = place_open_plain(p->root, target, O_PATH | O_NOFOLLOW);
	if (fd == -ENOENT && p->st->refused)
		return refuse(p, p->path, "link to a node that was not made", err);
	if (fd == -ELOOP)
		return place_bad(p->path, err, "hard link through a symbolic link");
	if (fd == -ENOENT || fd == -ENOTDIR)
		return place_bad(p->path, err, "hard link to what is not in this layer");
	if (fd < 0)
		return place_sys(p->path, fd, err, "link");
	if (fstat(fd, &st) < 0)
		return place_sys(p->path, -errno, err, "link");
	if (S_ISDIR(st.st_mode) || S_ISCHR(st.st_mode))
		return place_bad(p->path, err, "hard link to a folder or a whiteout");
	if (fstatat(p->dir, p->name, &old, AT_SYMLINK_NOFOLLOW) == 0) {
		if (old.st_ino == st.st_ino && old.st_dev == st.st_dev)
			return 0; /* is that link already */
		if ((r = clear_place(p, false, err)) < 0)
			return r;
	}
	p->dirty = true;
	if (linkat(fd, "", p->dir, p->name, AT_EMPTY_PATH) < 0) {
		if (errno == ENOENT) /* it was inside what was just replaced */
			return place_bad(p->path, err, "hard link to what it replaces");
		return place_sys(p->path, -errno, err, "link");
	}
	return 0;
}

/* ---- whiteouts ----------------------------------------------------------- */

static int add_whiteout(struct place *p, const struct place_item *it, struct vps_err *err)
{
	const char *victim = p->name + strlen(WH_PREFIX);
	if (it->hardlink || it->type != S_IFREG || it->size)
		return place_bad(p->path, err, "whiteout that is not an empty file");
	if (str_eq(p->name, WH_OPAQUE)) {
		int r = p->n_lower ? place_opaque(p->dir) : 0;
		return r < 0 ? place_sys(p->path, r, err, "mark opaque") : 0;
	}
	if (!*victim || str_eq(victim, ".") || str_eq(victim, "..") ||
	    str_starts(p->name, WH_META))
		return place_bad(p->path, err, "misplaced whiteout");

	/* A whiteout speaks of the layers below only (OCI layer.md). */
	char path[2 * PATH_MAX];
	if (!p->n_lower || place_cut_off(p, p->dir_real))
		return 0;
	snprintf(path, sizeof(path), "%s%s%s", p->dir_real, p->dir_real[0] ? "/" : "", victim);
	autoclose int below = place_lower(p, path);
	if (below == -ENOENT)
		return 0;
	if (below < 0)
		return place_sys(p->path, below, err, "look below");
	p->dirty = true;
	if (mknodat(p->dir, victim, S_IFCHR, 0) == 0) {
		/* the same layer always looks the same */
		struct timespec zero[2] = { { 0 }, { 0 } };
		utimensat(p->dir, victim, zero, AT_SYMLINK_NOFOLLOW);
		return 0;
	}
	if (errno != EEXIST)
		return place_sys(p->path, -errno, err, "make whiteout");
	autoclose int fd = openat(p->dir, victim, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) /* this layer has a file there: it hides what is below by itself */
		return errno == ENOTDIR || errno == ELOOP ? 0 :
							    place_sys(p->path, -errno, err, "look at");
	int r = place_opaque(fd);
	return r < 0 ? place_sys(p->path, r, err, "mark opaque") : 0;
}

/* ---- one entry ----------------------------------------------------------- */

static int add_root(struct place *p, const struct place_item *it, struct vps_err *err)
{
	if (it->hardlink || it->type != S_IFDIR)
		return place_bad("/", err, "the root is not a folder");
	int r = place_leave(p, err);
	if (r < 0)
		return r;
	p->odd = true;
	return put_meta(p, p->root, it, err);
}

static int check_ids(struct place *p, const struct place_item *it, struct vps_err *err)
{
	if (p->plain || (it->uid >= 0 && it->uid <= 65535 && it->gid >= 0 && it->gid <= 65535))
		return 0;
	autofree char *esc = str_escape(p->path);
	return vps_err_set(err, VPS_EBADIMAGE,
			   "'%.250s' belongs to %lld:%lld, but a VPS has ids up to 65535 (a root file "
			   "system taken from a shifted container?)", esc ? esc : "?",
			   (long long)it->uid, (long long)it->gid);
}

int place_add(struct place *p, const struct place_item *it, struct vps_err *err)
{
	int r = place_plain_path(p, it->path, p->path, err);
	if (r < 0 || (r = place_count(p, err)) < 0 || (r = check_ids(p, it, err)) < 0)
		return r;
	if (it->mtime > p->st->newest)
		p->st->newest = it->mtime;
	if (!p->path[0])
		return add_root(p, it, err);
	if (!it->hardlink && (it->type == S_IFCHR || it->type == S_IFBLK)) {
		char what[64];
		snprintf(what, sizeof(what), "%c %u:%u", it->type == S_IFCHR ? 'c' : 'b', it->major,
			 it->minor);
		return refuse(p, p->path, what, err);
	}
	if ((r = place_enter(p, err)) < 0)
		return r;
	if (!p->plain && str_starts(p->name, WH_PREFIX))
		return add_whiteout(p, it, err);
	if (it->hardlink)
		return add_hardlink(p, it, err);
	switch (it->type) {
	case S_IFREG:
		return add_file(p, it, err);
	case S_IFDIR:
		return add_dir(p, it, err);
	case S_IFLNK:
		return add_symlink(p, it, err);
	case S_IFIFO:
	case S_IFSOCK:
		return add_node(p, it, err);
	default:
		return place_bad(p->path, err, "entry of unknown type");
	}
}

int place_end(struct place *p, struct vps_err *err) { return place_leave(p, err); }
