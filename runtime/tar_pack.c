// SPDX-License-Identifier: GPL-2.0-or-later
#include "runtime/tar.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"

#define XATTR_MAX 65536
#define DEPTH_MAX 200 /* one fd a level */

struct seen { /* a file with several names: the later ones are hard links to the first */
	dev_t dev;
	ino_t ino;
	char *path;
};

struct packer {
	int out;
	struct strbuf path; /* of the entry at hand, as the stream names it */
	struct seen *seen;
	size_t n_seen, cap_seen;
	unsigned depth;
	struct vps_err *err;
	/* tar_pack_tree */
	bool tree;
	dev_t dev;
	struct strbuf xattrs; /* records of the entry at hand */
};

unsigned tar_checksum(const struct tar_header *h)
{
	const unsigned char *p = (const unsigned char *)h;
	const size_t from = offsetof(struct tar_header, chksum);
	unsigned sum = 0;

	for (size_t i = 0; i < sizeof(*h); i++)
		sum += i >= from && i < from + sizeof(h->chksum) ? ' ' : p[i];
	return sum;
}

static int fail(struct packer *p, int r, const char *what)
{
	autofree char *safe = str_escape(sb_str(&p->path));

	return vps_err_sys(p->err, r, "%s '%.200s'", what, safe ? safe : "?");
}

static int put(struct packer *p, const void *data, size_t len)
{
	int r = fs_write_all(p->out, data, len);

	return r < 0 ? vps_err_sys(p->err, r, "writing the stream") : 0;
}

static int put_padding(struct packer *p, uint64_t len)
{
	static const char zero[TAR_BLOCK];
	size_t over = (size_t)(len % TAR_BLOCK);

	return over ? put(p, zero, TAR_BLOCK - over) : 0;
}

/* Octal with a NUL, or 0 and false when it does not fit (then a pax record says it). */
static bool octal(char *field, size_t size, uint64_t v)
{
	bool fits = (v >> (3 * (size - 1))) == 0;
	char buf[32];

	snprintf(buf, sizeof(buf), "%0*llo", (int)size - 1, fits ? (unsigned long long)v : 0ull);
	memcpy(field, buf, size);
	return fits;
}

/* "LEN KEY=VALUE\n", where LEN counts itself. pax(1) */
static void pax_record(struct strbuf *sb, const char *key, const char *value)
{
	size_t body = strlen(key) + strlen(value) + 3, len = body + 1;
	char digits[24];

	while (snprintf(digits, sizeof(digits), "%zu", len) + (int)body != (int)len)
		len++;
	sb_addf(sb, "%zu %s=%s\n", len, key, value);
}

static void pax_number(struct strbuf *sb, const char *key, uint64_t v)
{
	char buf[24];

	snprintf(buf, sizeof(buf), "%llu", (unsigned long long)v);
	pax_record(sb, key, buf);
}

static void put_text(char *field, size_t size, const char *s, struct strbuf *pax, const char *key)
{
	size_t n = strlen(s);

	memcpy(field, s, n < size ? n : size);
	if (n > size)
		pax_record(pax, key, s);
}

static int put_header(struct packer *p, struct tar_header *h)
{
	memcpy(h->magic, "ustar", 6);
	memcpy(h->version, "00", 2);
	snprintf(h->chksum, sizeof(h->chksum), "%06o", tar_checksum(h));
	h->chksum[7] = ' ';
	return put(p, h, sizeof(*h));
}

static int put_pax(struct packer *p, const struct strbuf *records)
{
	struct tar_header h = {.name = "pax", .typeflag = 'x'};
	int r;

	octal(h.mode, sizeof(h.mode), 0644);
	octal(h.uid, sizeof(h.uid), 0);
	octal(h.gid, sizeof(h.gid), 0);
	octal(h.size, sizeof(h.size), records->len);
	octal(h.mtime, sizeof(h.mtime), 0);
	r = put_header(p, &h);
	r = r ?: put(p, records->s, records->len);
	return r ?: put_padding(p, records->len);
}

static int put_entry(struct packer *p, const struct stat *st, char type, const char *link,
		     uint64_t size)
{
	auto_strbuf pax = STRBUF_INIT;
	auto_strbuf name = STRBUF_INIT;
	struct tar_header h = {.typeflag = type};

	sb_addf(&name, "%s%s", sb_str(&p->path), type == '5' ? "/" : "");
	put_text(h.name, sizeof(h.name), sb_str(&name), &pax, "path");
	if (link)
		put_text(h.linkname, sizeof(h.linkname), link, &pax, "linkpath");
	octal(h.mode, sizeof(h.mode), st->st_mode & 07777);
	if (!octal(h.uid, sizeof(h.uid), st->st_uid))
		pax_number(&pax, "uid", st->st_uid);
	if (!octal(h.gid, sizeof(h.gid), st->st_gid))
		pax_number(&pax, "gid", st->st_gid);
	if (!octal(h.size, sizeof(h.size), size))
		pax_number(&pax, "size", size);
	octal(h.mtime, sizeof(h.mtime), st->st_mtime > 0 ? (uint64_t)st->st_mtime : 0);
	if (type == '3' || type == '4') {
		octal(h.devmajor, sizeof(h.devmajor), major(st->st_rdev));
		octal(h.devminor, sizeof(h.devminor), minor(st->st_rdev));
	}
	sb_addn(&pax, p->xattrs.s, p->xattrs.len);
	p->xattrs.len = 0;
	if (sb_ok(&pax) < 0 || sb_ok(&name) < 0)
		return fail(p, -ENOMEM, "packing");
	if (pax.len) {
		int r = put_pax(p, &pax);
		if (r < 0)
			return r;
	}
	return put_header(p, &h);
}

bool tar_wants_xattr(const char *name)
{
	return str_starts(name, "user.") || str_eq(name, "security.capability") ||
	       str_eq(name, "system.posix_acl_access") || str_eq(name, "system.posix_acl_default");
}

static int one_xattr(struct packer *p, int fd, const char *name)
{
	char value[XATTR_MAX];
	autofree char *hex = NULL, *key = NULL;
	ssize_t n = fgetxattr(fd, name, value, sizeof(value));

	if (n < 0)
		return errno == ENODATA ? 0 : -errno;
	hex = malloc((size_t)n * 2 + 1);
	key = str_fmt(TAR_XATTR "%s", name);
	if (!hex || !key)
		return -ENOMEM;
	fmt_hex(value, (size_t)n, hex);
	pax_record(&p->xattrs, key, hex);
	return sb_ok(&p->xattrs);
}

static int look_for_xattrs(struct packer *p, int fd)
{
	char names[XATTR_MAX];
	ssize_t n = p->tree ? flistxattr(fd, names, sizeof(names)) : 0;
	int r = 0;

	p->xattrs.len = 0;
	if (n < 0)
		return errno == EOPNOTSUPP ? 0 : -errno;
	for (char *x = names; x < names + n && r == 0; x += strlen(x) + 1)
		if (tar_wants_xattr(x))
			r = one_xattr(p, fd, x);
	return r;
}

/* Exactly size bytes: less is filled up, more is left. */
static int put_data(struct packer *p, int fd, uint64_t size)
{
	char buf[16384]; /* of a guest its vsock packet: AGENT_SEND_MAX */
	uint64_t left = size;

	while (left) {
		size_t want = left < sizeof(buf) ? (size_t)left : sizeof(buf);
		ssize_t n = read(fd, buf, want);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail(p, -errno, "reading");
		if (n == 0) {
			memset(buf, 0, want);
			n = (ssize_t)want;
		}
		int r = put(p, buf, (size_t)n);
		if (r < 0)
			return r;
		left -= (uint64_t)n;
	}
	return put_padding(p, size);
}

/* 1 and the first name when this file was there already; 0 after it is remembered. */
static int find_link(struct packer *p, const struct stat *st, const char **ret)
{
	if (st->st_nlink < 2)
		return 0;
	for (size_t i = 0; i < p->n_seen; i++) {
		if (p->seen[i].ino == st->st_ino && p->seen[i].dev == st->st_dev) {
			*ret = p->seen[i].path;
			return 1;
		}
	}
	if (mem_grow(p->seen, p->n_seen, p->cap_seen) < 0)
		return -ENOMEM;
	p->seen[p->n_seen] = (struct seen){st->st_dev, st->st_ino, strdup(sb_str(&p->path))};
	return p->seen[p->n_seen++].path ? 0 : -ENOMEM;
}

/* O_NONBLOCK: a fifo that was swapped in must not hold us. Looked at again after opening. */
static int pack_file(struct packer *p, int dirfd, const char *name)
{
	autoclose int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	const char *first = NULL;
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return fail(p, -errno, "opening");
	if (!S_ISREG(st.st_mode))
		return fail(p, -ESTALE, "opening");
	r = find_link(p, &st, &first);
	if (r < 0)
		return fail(p, r, "packing");
	if (r == 1)
		return put_entry(p, &st, '1', first, 0);
	r = look_for_xattrs(p, fd);
	if (r < 0)
		return fail(p, r, "attributes of");
	r = put_entry(p, &st, '0', NULL, (uint64_t)st.st_size);
	return r ?: put_data(p, fd, (uint64_t)st.st_size);
}

static int pack_link(struct packer *p, int dirfd, const char *name, const struct stat *st)
{
	char target[4096];
	ssize_t n = readlinkat(dirfd, name, target, sizeof(target) - 1);

	if (n < 0)
		return fail(p, -errno, "reading the link");
	target[n] = '\0';
	return put_entry(p, st, '2', target, 0);
}

static int pack_any(struct packer *p, int dirfd, const char *name);

static int pack_children(struct packer *p, DIR *d)
{
	size_t len = p->path.len;

	for (;;) {
		struct dirent *e;
		int r;
		errno = 0;
		e = readdir(d);
		if (!e)
			return errno ? fail(p, -errno, "reading") : 0;
		if (str_eq(e->d_name, ".") || str_eq(e->d_name, ".."))
			continue;
		sb_addf(&p->path, "/%s", e->d_name);
		r = sb_ok(&p->path) < 0 ? -ENOMEM : pack_any(p, dirfd(d), e->d_name);
		if (r < 0)
			return r;
		p->path.len = len;
		p->path.s[len] = '\0';
	}
}

/* The kernel's own views: no data, much of it unreadable, sizes that are not true. */
static bool is_view(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return false;
	switch ((unsigned long)fs.f_type) {
	case PROC_SUPER_MAGIC:
	case SYSFS_MAGIC:
	case CGROUP_SUPER_MAGIC:
	case CGROUP2_SUPER_MAGIC:
	case DEVPTS_SUPER_MAGIC:
		return true;
	default:
		return false;
	}
}

static int pack_dir(struct packer *p, int dirfd, const char *name)
{
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	DIR *d;
	int r;

	if (fd < 0)
		return fail(p, -errno, "opening");
	if (fstat(fd, &st) < 0 || !(d = fdopendir(fd))) {
		r = fail(p, -errno, "opening");
		close(fd);
		return r;
	}
	if (p->depth++ >= DEPTH_MAX) {
		r = fail(p, -ELOOP, "too deep");
	} else {
		r = look_for_xattrs(p, fd);
		r = r < 0 ? fail(p, r, "attributes of") : put_entry(p, &st, '5', NULL, 0);
		if (p->depth == 1)
			p->dev = st.st_dev;
		if (r == 0 && (p->depth == 1 || !is_view(fd)) && (!p->tree || st.st_dev == p->dev))
			r = pack_children(p, d);
	}
	p->depth--;
	closedir(d);
	return r;
}

static int pack_any(struct packer *p, int dirfd, const char *name)
{
	struct stat st;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		/* a live tree: what vanished since it was listed is no error */
		return errno == ENOENT && p->depth ? 0 : fail(p, -errno, "looking at");
	switch (st.st_mode & S_IFMT) {
	case S_IFREG:
		return pack_file(p, dirfd, name);
	case S_IFDIR:
		return pack_dir(p, dirfd, name);
	case S_IFLNK:
		return pack_link(p, dirfd, name, &st);
	case S_IFIFO:
		return put_entry(p, &st, '6', NULL, 0);
	case S_IFCHR:
		return put_entry(p, &st, '3', NULL, 0);
	case S_IFBLK:
		return put_entry(p, &st, '4', NULL, 0);
	default: /* a socket is nothing without its process */
		return 0;
	}
}

static int pack(int dirfd, const char *name, const char *as, bool tree, int fd, struct vps_err *err)
{
	static const char end[2 * TAR_BLOCK];
	struct packer p = {.out = fd, .err = err, .tree = tree};
	int r;

	sb_add(&p.path, as);
	r = sb_ok(&p.path) < 0 ? vps_err_sys(err, -ENOMEM, "packing") : pack_any(&p, dirfd, name);
	r = r ?: put(&p, end, sizeof(end));
	for (size_t i = 0; i < p.n_seen; i++)
		free(p.seen[i].path);
	free(p.seen);
	sb_done(&p.path);
	sb_done(&p.xattrs);
	return r;
}

int tar_pack(int dirfd, const char *name, const char *as, int fd, struct vps_err *err)
{
	return pack(dirfd, name, as, false, fd, err);
}

int tar_pack_tree(int dirfd, int fd, struct vps_err *err)
{
	return pack(dirfd, ".", ".", true, fd, err);
}
