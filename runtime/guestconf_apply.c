/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writing the plan: in a process that is the VPS's root and no more, below its root fd. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/inroot.h"
#include "base/str.h"
#include "runtime/guestconf.h"

#define FILE_MAX (1u << 20) /* of what is read there: a tenant's */

/* "/a/b/c" -> "a/b"; "" for a file of the root itself. */
static int parent_of(const char *path, char *buf, size_t size)
{
	const char *slash = strrchr(path, '/');

	if (!slash || (size_t)(slash - path) >= size)
		return -ENAMETOOLONG;
	memcpy(buf, path, (size_t)(slash - path));
	buf[slash - path] = '\0';
	return 0;
}

static int make_parent(int root, const struct guest_file *f)
{
	bool private = !f->link_to && !(f->mode & 077);
	char dir[PATH_MAX], above[PATH_MAX];
	int fd, r = parent_of(f->path, dir, sizeof(dir));

	if (r < 0 || !*dir)
		return r;
	if (parent_of(dir, above, sizeof(above)) == 0 && *above) {
		fd = inroot_mkdir_p(root, above, 0755, 0, 0);
		if (fd < 0)
			return fd;
		close(fd);
	}
	fd = inroot_mkdir_p(root, dir, private ? 0700 : 0755, 0, 0);
	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

static int remove_file(int root, const char *path)
{
	const char *name;
	autoclose int dir = inroot_open_parent(root, path, &name);

	if (dir == -ENOENT || dir == -ENOTDIR)
		return 0;
	if (dir < 0)
		return dir;
	return unlinkat(dir, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

static int make_link(int root, const struct guest_file *f)
{
	char was[PATH_MAX];
	const char *name;
	autoclose int dir = inroot_open_parent(root, f->path, &name);

	if (dir < 0)
		return dir;

	ssize_t n = readlinkat(dir, name, was, sizeof(was) - 1);

	if (n >= 0 && (size_t)n == strlen(f->link_to) && memcmp(was, f->link_to, (size_t)n) == 0)
		return 0;
	if (unlinkat(dir, name, 0) < 0 && errno != ENOENT)
		return -errno;
	return symlinkat(f->link_to, dir, name) < 0 ? -errno : 0;
}

/* The mode a rewritten file keeps; -ENOENT when it is new. */
static int mode_of(int root, const char *path, mode_t *ret)
{
	struct stat st;
	autoclose int fd = inroot_open(root, path, O_PATH, 0);

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	*ret = st.st_mode & 07777;
	return 0;
}

static bool has_line(const char *text, const char *line, size_t len)
{
	for (const char *p = text; p && *p; p = strchr(p, '\n')) {
		p += *p == '\n';
		if (strncmp(p, line, len) == 0 && (p[len] == '\n' || p[len] == '\0'))
			return true;
	}
	return false;
}

static int append_line(int root, const struct guest_file *f)
{
	auto_strbuf sb = STRBUF_INIT;
	autofree char *was = NULL;
	mode_t mode = f->mode;
	size_t len = 0;
	int r = inroot_read_file(root, f->path, FILE_MAX, &was, &len);

	if (r == -ENOENT)
		r = 0;
	else if (r >= 0)
		r = mode_of(root, f->path, &mode);
	if (r < 0 || (was && has_line(was, f->data, f->len)))
		return r;
	sb_addn(&sb, was ? was : "", len);
	if (len && was[len - 1] != '\n')
		sb_addc(&sb, '\n');
	sb_addn(&sb, f->data, f->len);
	sb_addc(&sb, '\n');
	r = sb_ok(&sb);
	return r < 0 ? r : inroot_write_file(root, f->path, sb.s, sb.len, mode, 0, 0);
}

static int write_file(int root, const struct guest_file *f)
{
	autofree char *was = NULL;
	size_t len = 0;
	int r = inroot_exists(root, f->path);

	if (r < 0 && r != -ELOOP) /* a link to itself is replaced like any other */
		return r;
	if (r > 0 && f->only_missing)
		return 0;
	if (r > 0) {
		r = inroot_read_file(root, f->path, FILE_MAX, &was, &len);
		if (r == 0 && len == f->len && memcmp(was, f->data, len) == 0)
			return 0;
		if (f->only_ours && (r < 0 || !str_starts(was, GUEST_MARK)))
			return 0;
	}
	return inroot_write_file(root, f->path, f->data, f->len, f->mode, 0, 0);
}

static int apply_one(int root, const struct guest_file *f)
{
	if (f->remove)
		return remove_file(root, f->path);

	int r = make_parent(root, f);

	if (r < 0)
		return r;
	if (f->link_to)
		return make_link(root, f);
	return f->append_line ? append_line(root, f) : write_file(root, f);
}

int guestconf_apply(int root, const struct guest_file *f, size_t n, struct vps_err *err)
{
	for (size_t i = 0; i < n; i++) {
		int r = apply_one(root, &f[i]);

		if (r < 0 && !f[i].optional)
			return vps_err_sys(err, r, "write '%s' of the guest", f[i].path);
	}
	return 0;
}
