// SPDX-License-Identifier: GPL-2.0-or-later
#include "runtime/migrate/apply.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/sys.h"

#define BENEATH	    (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV)

static int fail(int r, const char *path, const char *what, struct vps_err *err)
{
	autofree char *safe = str_escape(path);

	return vps_err_sys(err, r, "%s '%.300s'", what, safe ? safe : "?");
}

static int against_rules(const char *path, const char *what, struct vps_err *err)
{
	autofree char *safe = str_escape(path);

	return vps_err_set(err, VPS_EBADIMAGE, "'%.300s': %s", safe ? safe : "?", what);
}

/* ---- where it goes --------------------------------------------------------------------- */

/* Directory of a path's last component, and what it looked like: our own changes do not show in its mtime. */
struct place {
	int dir;
	const char *name;
	struct timespec times[2];
};

static void place_done(struct place *p)
{
	if (p->dir >= 0)
		futimens(p->dir, p->times);
	close_fd(&p->dir);
}
#define auto_place auto_done(place_done) struct place
#define PLACE_INIT { .dir = -1 }

static int place_of(int top, const char *path, struct place *ret)
{
	const char *slash = strrchr(path, '/');
	autofree char *parent = slash ? strndup(path, (size_t)(slash - path)) : strdup(".");
	struct stat st;
	int fd;

	if (!parent)
		return -ENOMEM;
	fd = sys_openat2(top, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, BENEATH);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0) {
		close(fd);
		return -errno;
	}
	*ret = (struct place){
		.dir = fd,
		.name = slash ? slash + 1 : path,
		.times = {{.tv_nsec = UTIME_OMIT}, st.st_mtim},
	};
	return 0;
}

/* Whatever is at the place goes. */
static int clear(const struct place *p)
{
	if (unlinkat(p->dir, p->name, 0) == 0 || errno == ENOENT)
		return 0;
	return errno == EISDIR || errno == EPERM ? fs_remove_tree(p->dir, p->name) : -errno;
}

/* ---- what it is like ------------------------------------------------------------------------ */

static bool has_xattr(const struct wire_entry *e, const char *name)
{
	for (size_t i = 0; i < e->n_xattrs; i++)
		if (str_eq(e->xattrs[i].name, name))
			return true;
	return false;
}

static int set_xattrs(int fd, const struct wire_entry *e)
{
	char list[WIRE_XATTR_MAX];
	ssize_t n = flistxattr(fd, list, sizeof(list));

	for (char *p = list; n > 0 && p < list + n; p += strlen(p) + 1)
		if (wire_xattr_ok(p) && !has_xattr(e, p) && fremovexattr(fd, p) < 0 && errno != ENODATA)
			return -errno;
	for (size_t i = 0; i < e->n_xattrs; i++) {
		const struct wire_xattr *x = &e->xattrs[i];
		if (fsetxattr(fd, x->name, x->value, x->len, 0) < 0)
			return -errno;
	}
	return 0;
}

static void times_of(const struct wire_entry *e, struct timespec t[2])
{
	t[0] = (struct timespec){.tv_nsec = UTIME_OMIT};
	t[1] = (struct timespec){.tv_sec = e->mtime_s, .tv_nsec = e->mtime_ns};
}

/* Owner first: changing it takes set-id bits and capabilities away. */
static int set_all(int fd, const struct wire_entry *e)
{
	struct timespec t[2];
	int r;

	if (fchown(fd, e->uid, e->gid) < 0 || fchmod(fd, e->mode) < 0)
		return -errno;
	r = set_xattrs(fd, e);
	times_of(e, t);
	return r < 0 ? r : futimens(fd, t) < 0 ? -errno : 0;
}

/* ---- entries ---------------------------------------------------------------------------------- */

static int make_dir(int top, const struct wire_entry *e, struct vps_err *err)
{
	auto_place p = PLACE_INIT;
	autoclose int fd = -1;
	int r = 0;

	if (str_eq(e->path, ".")) {
		fd = fcntl(top, F_DUPFD_CLOEXEC, 0);
	} else {
		struct stat st;
		r = place_of(top, e->path, &p);
		if (r < 0)
			return fail(r, e->path, "directory of", err);
		if (fstatat(p.dir, p.name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode))
			r = clear(&p);
		if (r == 0 && mkdirat(p.dir, p.name, 0700) < 0 && errno != EEXIST)
			r = -errno;
		if (r == 0)
			fd = openat(p.dir, p.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	}
	if (r == 0)
		r = fd < 0 ? -errno : set_all(fd, e);
	return r < 0 ? fail(r, e->path, "make", err) : 0;
}

static int make_node(int top, const struct wire_entry *e, struct vps_err *err)
{
	auto_place p = PLACE_INIT;
	auto_place from = PLACE_INIT;
	struct timespec t[2];
	struct stat st;
	int r = place_of(top, e->path, &p);

	if (r == 0 && e->kind == KIND_HARDLINK) {
		r = place_of(top, e->link, &from);
		if (r == 0 && (fstatat(from.dir, from.name, &st, AT_SYMLINK_NOFOLLOW) < 0 || S_ISDIR(st.st_mode) ||
			       S_ISCHR(st.st_mode)))
			return against_rules(e->path, "a hard link to what can have none", err);
	}
	r = r ?: clear(&p);
	if (r < 0)
		return fail(r, e->path, "make", err);
	switch (e->kind) {
	case KIND_SYMLINK: r = symlinkat(e->link, p.dir, p.name); break;
	case KIND_HARDLINK: r = linkat(from.dir, from.name, p.dir, p.name, 0); break;
	case KIND_WHITEOUT: r = mknodat(p.dir, p.name, S_IFCHR, makedev(0, 0)); break;
	case KIND_FIFO: r = mknodat(p.dir, p.name, S_IFIFO | 0600, 0); break;
	default: r = mknodat(p.dir, p.name, S_IFSOCK | 0600, 0); break;
	}
	if (r == 0 && e->kind != KIND_HARDLINK) {
		times_of(e, t);
		r = fchownat(p.dir, p.name, e->uid, e->gid, AT_SYMLINK_NOFOLLOW);
		if (r == 0 && (e->kind == KIND_FIFO || e->kind == KIND_SOCKET))
			r = fchmodat(p.dir, p.name, e->mode, 0);
		if (r == 0)
			r = utimensat(p.dir, p.name, t, AT_SYMLINK_NOFOLLOW);
	}
	return r < 0 ? fail(-errno, e->path, "make", err) : 0;
}

/* The same inode where that can be, so that its directory stays untouched. */
static int open_file(struct place *p, bool patch)
{
	struct stat st;
	int fd, r;

	if (fstatat(p->dir, p->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
	    (patch || st.st_nlink == 1)) {
		fd = openat(p->dir, p->name, O_RDWR | O_NOFOLLOW | O_CLOEXEC | (patch ? 0 : O_TRUNC));
		return fd < 0 ? -errno : fd;
	}
	if (patch)
		return -ENOENT;
	r = clear(p);
	if (r < 0)
		return r;
	fd = openat(p->dir, p->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : fd;
}

static int begin_file(struct apply *a, struct vps_err *err)
{
	const struct wire_entry *e = &a->entry;
	auto_place p = PLACE_INIT;
	int r = place_of(a->tops[a->tree], e->path, &p);

	r = r < 0 ? r : open_file(&p, e->kind == KIND_PATCH || a->tree == TREE_BLOCKS);
	if (r < 0)
		return fail(r, e->path, "write", err);
	a->file = r;
	/* what its maker had put there is not the source's */
	if (a->tree == TREE_BLOCKS && e->kind == KIND_FILE && ftruncate(a->file, 0) < 0)
		return fail(-errno, e->path, "write", err);
	if (ftruncate(a->file, (off_t)e->size) < 0)
		return fail(-errno, e->path, "write", err);
	a->data = (struct stream_file){.data = WIRE_DATA, .hole = WIRE_HOLE, .size = e->size};
	return 0;
}

/* The file that was being written has all that is to come. */
static int end_file(struct apply *a, struct vps_err *err)
{
	int r = 0;

	if (a->file >= 0 && a->tree != TREE_BLOCKS)
		r = set_all(a->file, &a->entry);
	if (r < 0)
		fail(r, a->entry.path, "write", err);
	close_fd(&a->file);
	wire_entry_done(&a->entry);
	return r;
}

/* A machine's disk is one file, and not more of it than it was made for. */
static int blocks_entry(struct apply *a, struct vps_err *err)
{
	const struct wire_entry *e = &a->entry;

	if (e->kind == KIND_DIR && str_eq(e->path, "."))
		return 0;
	if (!str_eq(e->path, WIRE_BLOCKS_FILE) || (e->kind != KIND_FILE && e->kind != KIND_PATCH) ||
	    e->size != a->blocks_size)
		return against_rules(e->path, "no part of such a disk", err);
	return begin_file(a, err);
}

static int take_entry(struct apply *a, const struct stream_rec *rec, struct vps_err *err)
{
	int r = end_file(a, err);

	r = r ?: wire_entry_get(rec->data, rec->len, &a->entry, err);
	if (r < 0)
		return r;
	a->entries++;
	if (a->tree == TREE_BLOCKS)
		return blocks_entry(a, err);
	if (a->tree == TREE_MEMORY && a->entry.kind != KIND_DIR && a->entry.kind != KIND_FILE && a->entry.kind != KIND_PATCH)
		return against_rules(a->entry.path, "no part of a checkpoint", err);
	switch (a->entry.kind) {
	case KIND_DIR: return make_dir(a->tops[a->tree], &a->entry, err);
	case KIND_FILE:
	case KIND_PATCH: return begin_file(a, err);
	default: return make_node(a->tops[a->tree], &a->entry, err);
	}
}

static int take_removed(struct apply *a, const struct stream_rec *rec, struct vps_err *err)
{
	autofree char *path = NULL;
	auto_place p = PLACE_INIT;
	int r = end_file(a, err);

	if (r < 0)
		return r;
	if (!wire_path_ok((const char *)rec->data, rec->len) || a->tree == TREE_BLOCKS)
		return vps_err_set(err, VPS_EBADIMAGE, "no path to remove");
	path = strndup((const char *)rec->data, rec->len);
	if (!path)
		return vps_err_sys(err, -ENOMEM, "remove");
	if (str_eq(path, "."))
		return against_rules(path, "the top stays", err);
	r = place_of(a->tops[a->tree], path, &p);
	if (r == -ENOENT || r == -ENOTDIR || r == -ELOOP) /* gone with what it was in */
		return 0;
	r = r ?: clear(&p);
	return r < 0 ? fail(r, path, "remove", err) : 0;
}

static int take_tree(struct apply *a, const struct stream_rec *rec, struct vps_err *err)
{
	int r = end_file(a, err);

	if (r < 0)
		return r;
	if (rec->len != 1 || rec->data[0] >= N_TREES || a->tops[rec->data[0]] < 0)
		return vps_err_set(err, VPS_EBADIMAGE, "a tree that nobody asked for");
	a->tree = rec->data[0];
	a->touched[a->tree] = true;
	return 0;
}

int apply_record(struct apply *a, const struct stream_rec *rec, struct vps_err *err)
{
	int r;

	if (rec->type == WIRE_TREE)
		return take_tree(a, rec, err);
	if (a->tree < 0)
		return vps_err_set(err, VPS_EBADIMAGE, "files of no tree");
	switch (rec->type) {
	case WIRE_ENTRY: return take_entry(a, rec, err);
	case WIRE_REMOVED: return take_removed(a, rec, err);
	case WIRE_DATA:
	case WIRE_HOLE:
		if (a->file < 0)
			return vps_err_set(err, VPS_EBADIMAGE, "data of no file");
		r = stream_take_range(&a->data, rec, a->file, err);
		if (r == 0 && rec->type == WIRE_DATA)
			a->bytes += rec->len - STREAM_FILE_HEAD;
		return r < 0 ? fail(r, a->entry.path, "write", err) : 0;
	default: return vps_err_set(err, VPS_EBADIMAGE, "a record out of place");
	}
}

int apply_round(struct apply *a, struct vps_err *err)
{
	int r = end_file(a, err);

	for (int t = 0; r == 0 && t < N_TREES; t++) {
		if (a->touched[t] && syncfs(a->tops[t]) < 0)
			r = vps_err_sys(err, -errno, "write the disk");
		a->touched[t] = false;
	}
	return r;
}

void apply_done(struct apply *a)
{
	close_fd(&a->file);
	wire_entry_done(&a->entry);
}
