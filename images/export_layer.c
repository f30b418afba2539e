/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A layer's folder back to the tar it came from (or one that unpacks to the same). */
#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <locale.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/fs.h"
#include "images/export.h"
#include "images/place.h"

#define CHUNK	  (256u << 10)
#define KEEP_OPEN 64 /* folders open on the way down; deeper ones are opened again by path */

struct link_item {
	uint64_t ino;
	char *path;
};

struct out {
	int root;
	struct archive *a;
	const struct layer_out *to;
	const struct img_opts *o;
	struct vps_err *err;
	int r; /* of the last write */
	char path[PATH_MAX + 1];
	struct link_item *links; /* open addressing by inode */
	size_t n_links, cap_links;
	char *buf;
	uint64_t done;
};

static la_ssize_t on_write(struct archive *a, void *arg, const void *p, size_t n)
{
	struct out *o = arg;
	o->r = o->to->write(o->to->arg, p, n, o->err);
	if (o->r < 0) {
		archive_set_error(a, EIO, "write");
		return -1;
	}
	return (la_ssize_t)n;
}

static int fail(struct out *o, const char *words)
{
	if (o->r < 0)
		return o->r;
	const char *msg = archive_error_string(o->a);
	return vps_err_set(o->err, EIO, "export: %s: %.200s", words, msg ? msg : "?");
}

static int fail_path(struct out *o, int r) { return place_sys(o->path, r, o->err, "export"); }

/* ---- hard links ------------------------------------------------------------ */

static struct link_item *link_slot(struct link_item *v, size_t cap, uint64_t ino)
{
	size_t i = (size_t)(ino * 0x9e3779b97f4a7c15ull) & (cap - 1);
	while (v[i].path && v[i].ino != ino)
		i = (i + 1) & (cap - 1);
	return &v[i];
}

/* The first path of this inode, or NULL after taking this one as the first. */
static int link_first(struct out *o, uint64_t ino, const char **ret)
{
	if (2 * (o->n_links + 1) > o->cap_links) {
		size_t cap = o->cap_links ? 2 * o->cap_links : 1024;
		struct link_item *v = calloc(cap, sizeof(*v));
		if (!v)
			return -ENOMEM;
		for (size_t i = 0; i < o->cap_links; i++)
			if (o->links[i].path)
				*link_slot(v, cap, o->links[i].ino) = o->links[i];
		free(o->links);
		o->links = v;
		o->cap_links = cap;
	}
	struct link_item *it = link_slot(o->links, o->cap_links, ino);
	*ret = it->path;
	if (it->path)
		return 0;
	it->path = strdup(o->path);
	if (!it->path)
		return -ENOMEM;
	it->ino = ino;
	o->n_links++;
	return 0;
}

/* ---- one entry -------------------------------------------------------------- */

static int add_xattrs(struct out *o, struct archive_entry *e, int fd)
{
	autofree char *names = malloc(65536);
	autofree char *value = malloc(65536);
	if (!names || !value)
		return -ENOMEM;
	ssize_t n = flistxattr(fd, names, 65536);
	if (n < 0)
		return errno == ENOTSUP ? 0 : -errno;
	/* The order of a folder's xattrs is the file system's; a tar must not depend on it. */
	auto_strv v = NULL;
	for (char *x = names; x < names + n; x += strlen(x) + 1)
		if (!str_starts(x, "trusted.") && (str_starts(x, "user.") ||
						   str_eq(x, "security.capability") ||
						   str_starts(x, "system.posix_acl_")) &&
		    strv_add(&v, x) < 0)
			return -ENOMEM;
	size_t len = strv_len(v);
	for (size_t i = 0; i < len; i++) {
		size_t min = i;
		for (size_t k = i + 1; k < len; k++)
			if (strcmp(v[k], v[min]) < 0)
				min = k;
		char *t = v[i];
		v[i] = v[min];
		v[min] = t;
		ssize_t got = fgetxattr(fd, v[i], value, 65536);
		if (got < 0)
			return -errno;
		archive_entry_xattr_add_entry(e, v[i], value, (size_t)got);
	}
	return 0;
}

static void add_holes(struct archive_entry *e, int fd, off_t size)
{
	off_t at = 0;
	bool whole = lseek(fd, 0, SEEK_HOLE) >= size;
	while (!whole && at < size) {
		off_t data = lseek(fd, at, SEEK_DATA);
		if (data < 0)
			break;
		off_t hole = lseek(fd, data, SEEK_HOLE);
		archive_entry_sparse_add_entry(e, data, hole - data);
		at = hole;
	}
	if (!whole && !archive_entry_sparse_count(e))
		archive_entry_sparse_add_entry(e, size, 0); /* nothing but a hole */
	lseek(fd, 0, SEEK_SET);
}

static int write_data(struct out *o, int fd, uint64_t size)
{
	while (size) {
		size_t want = size < CHUNK ? (size_t)size : CHUNK;
		ssize_t n = fs_read_full(fd, o->buf, want);
		if (n < 0 || (size_t)n < want)
			return fail_path(o, n < 0 ? (int)n : -EIO);
		if (archive_write_data(o->a, o->buf, want) != (la_ssize_t)want)
			return fail(o, "write");
		size -= want;
		o->done += want;
		if (progress_tell(o->o->progress, 0, "export", o->done, 0))
			return vps_err_set(o->err, VPS_EINTERRUPTED, "interrupted");
	}
	return 0;
}

static void set_stat(struct archive_entry *e, const struct stat *st)
{
	archive_entry_set_filetype(e, st->st_mode & S_IFMT);
	archive_entry_set_perm(e, st->st_mode & 07777);
	archive_entry_set_uid(e, st->st_uid);
	archive_entry_set_gid(e, st->st_gid);
	archive_entry_set_mtime(e, st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
}

static int write_marker(struct out *o, struct archive_entry *e, const char *dir, const char *name)
{
	autofree char *path = str_fmt("%s%s%s", dir, *dir ? "/" : "", name);
	if (!path)
		return -ENOMEM;
	archive_entry_clear(e);
	archive_entry_copy_pathname(e, path);
	archive_entry_set_filetype(e, AE_IFREG);
	archive_entry_set_perm(e, 0);
	archive_entry_set_size(e, 0);
	archive_entry_set_mtime(e, 0, 0);
	return archive_write_header(o->a, e) == ARCHIVE_OK ? 0 : fail(o, "whiteout");
}

static int write_file(struct out *o, struct archive_entry *e, int dir, const char *name,
		      const struct stat *st)
{
	int r;
	autoclose int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return fail_path(o, -errno);
	archive_entry_set_size(e, st->st_size);
	if ((r = add_xattrs(o, e, fd)) < 0)
		return fail_path(o, r);
	add_holes(e, fd, st->st_size);
	if (archive_write_header(o->a, e) < ARCHIVE_WARN)
		return fail(o, "header");
	return write_data(o, fd, (uint64_t)st->st_size);
}

static int write_link(struct out *o, struct archive_entry *e, int dir, const char *name)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(dir, name, target, sizeof(target) - 1);
	if (n < 0)
		return fail_path(o, -errno);
	target[n] = 0;
	archive_entry_copy_symlink(e, target);
	archive_entry_set_size(e, 0);
	return archive_write_header(o->a, e) < ARCHIVE_WARN ? fail(o, "link") : 0;
}

/* Everything but folders. */
static int write_leaf(struct out *o, struct archive_entry *e, int dir, const char *name,
		      const struct stat *st, const char *parent)
{
	if (place_is_whiteout(st)) {
		autofree char *wh = str_fmt("%s%s", WH_PREFIX, name);
		return wh ? write_marker(o, e, parent, wh) : -ENOMEM;
	}
	const char *first = NULL;
	int r = st->st_nlink > 1 ? link_first(o, st->st_ino, &first) : 0;
	if (r < 0)
		return fail_path(o, r);
	archive_entry_clear(e);
	archive_entry_copy_pathname(e, o->path);
	set_stat(e, st);
	if (first) {
		archive_entry_set_hardlink(e, first);
		archive_entry_set_size(e, 0);
		return archive_write_header(o->a, e) < ARCHIVE_WARN ? fail(o, "link") : 0;
	}
	if (S_ISREG(st->st_mode))
		return write_file(o, e, dir, name, st);
	if (S_ISLNK(st->st_mode))
		return write_link(o, e, dir, name);
	if (S_ISSOCK(st->st_mode))
		return 0; /* tar has no word for it */
	archive_entry_set_size(e, 0);
	return archive_write_header(o->a, e) < ARCHIVE_WARN ? fail(o, "header") : 0;
}

/* ---- folders ---------------------------------------------------------------- */

static int cmp_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int write_dir(struct out *o, unsigned depth);

/* Child name of the folder at o->path, whose fd is *dir (closed on the way down when deep). */
static int write_child(struct out *o, struct archive_entry *e, int *dir, const char *name,
		       unsigned depth)
{
	struct stat st;
	size_t n = strlen(o->path);
	if (*dir < 0)
		*dir = place_open_plain(o->root, o->path, O_RDONLY | O_DIRECTORY);
	if (*dir < 0)
		return fail_path(o, *dir);
	if (n + 1 + strlen(name) > PATH_MAX)
		return fail_path(o, -ENAMETOOLONG);
	autofree char *parent = strdup(o->path);
	if (!parent)
		return -ENOMEM;
	if (n)
		o->path[n] = '/';
	strcpy(o->path + n + (n > 0), name);
	int r;
	if (fstatat(*dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		r = fail_path(o, -errno);
	} else if (o->to->leave_out && !place_is_whiteout(&st) && o->to->leave_out(o->path)) {
		r = 0;
	} else if (S_ISDIR(st.st_mode)) {
		if (depth > KEEP_OPEN)
			close_fd(dir);
		r = write_dir(o, depth + 1);
	} else {
		r = write_leaf(o, e, *dir, name, &st, parent);
	}
	o->path[n] = 0;
	return r;
}

static int write_dir(struct out *o, unsigned depth)
{
	struct stat st;
	char y;
	auto_strv names = NULL;
	autoclose int dir = place_open_plain(o->root, o->path, O_RDONLY | O_DIRECTORY);
	if (dir < 0 || fstat(dir, &st) < 0)
		return fail_path(o, dir < 0 ? dir : -errno);
	struct archive_entry *e = archive_entry_new();
	if (!e)
		return -ENOMEM;
	autofree char *name = str_fmt("%s/", o->path[0] ? o->path : ".");
	archive_entry_copy_pathname(e, name ? name : "?");
	set_stat(e, &st);
	archive_entry_set_size(e, 0);
	int r = add_xattrs(o, e, dir);
	if (r < 0)
		r = fail_path(o, r);
	else if (archive_write_header(o->a, e) < ARCHIVE_WARN)
		r = fail(o, "folder");
	else if (fgetxattr(dir, XATTR_OPAQUE, &y, 1) == 1)
		r = write_marker(o, e, o->path, WH_OPAQUE);
	if (r == 0 && (r = fs_list(dir, ".", &names)) < 0)
		r = fail_path(o, r);
	if (names)
		qsort(names, strv_len(names), sizeof(*names), cmp_name);
	for (size_t i = 0; r == 0 && names && names[i]; i++)
		r = write_child(o, e, &dir, names[i], depth);
	archive_entry_free(e);
	return r;
}

static int write_tar(struct out *o)
{
	o->a = archive_write_new();
	o->buf = malloc(CHUNK);
	if (!o->a || !o->buf)
		return vps_err_sys(o->err, -ENOMEM, "export");
	archive_write_set_format_pax(o->a);
	archive_write_set_format_option(o->a, "pax", "xattrheader", "SCHILY");
	archive_write_set_bytes_per_block(o->a, CHUNK);
	archive_write_set_bytes_in_last_block(o->a, 512);
	if (archive_write_open(o->a, o, NULL, on_write, NULL) != ARCHIVE_OK)
		return fail(o, "open");
	int r = write_dir(o, 0);
	if (r == 0 && archive_write_close(o->a) != ARCHIVE_OK)
		r = fail(o, "close");
	return r < 0 ? vps_err_sys(o->err, r, "export") : 0;
}

int img_layer_to_ingest(void *ingest, const void *p, size_t n, struct vps_err *err)
{
	return img_ingest_write(ingest, p, n, err);
}

int img_layer_tar(int fs, const struct layer_out *out, const struct img_opts *opts, struct vps_err *err)
{
	struct out o = { .root = fs, .to = out, .o = opts, .err = err };
	/* libarchive writes pax names in UTF-8 and asks the locale what ours are in. */
	locale_t loc = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
	locale_t old = loc ? uselocale(loc) : (locale_t)0;
	int r = write_tar(&o);
	if (o.a)
		archive_write_free(o.a);
	if (loc) {
		uselocale(old);
		freelocale(loc);
	}
	for (size_t i = 0; i < o.cap_links; i++)
		free(o.links[i].path);
	free(o.links);
	free(o.buf);
	return r;
}
