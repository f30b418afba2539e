/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Directories and trees: the listing and removing half of base/fs.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/str.h"
#include "base/sys.h"

static void dir_closep(DIR **d)
{
	if (*d)
		closedir(*d);
}
#define auto_dir auto_done(dir_closep) DIR *

/* fdopendir(3) that owns fd on failure, too. */
static DIR *dir_of_fd(int fd)
{
	DIR *d = fdopendir(fd);

	if (!d)
		mem_closep(&fd);
	return d;
}

static bool is_dots(const char *name)
{
	return str_eq(name, ".") || str_eq(name, "..");
}

/* Next entry but "." and "..": 1, at the end 0, -errno. */
static int next_entry(DIR *d, struct dirent **ret)
{
	struct dirent *e;

	do {
		errno = 0;
		e = readdir(d);
		if (!e)
			return -errno;
	} while (is_dots(e->d_name));
	*ret = e;
	return 1;
}

int fs_list(int dirfd, const char *path, char ***ret)
{
	int fd = fs_open_dir(dirfd, path);

	if (fd < 0)
		return fd;

	auto_dir d = dir_of_fd(fd);
	auto_strv names = NULL;
	size_t n = 0, cap = 0;
	struct dirent *e = NULL;
	int r;

	if (!d)
		return -errno;
	while ((r = next_entry(d, &e)) > 0) {
		/* Grown here by doubling: directories may be large. */
		if (mem_grow(names, n + 1, cap) < 0)
			return -ENOMEM;
		names[n] = strdup(e->d_name);
		if (!names[n])
			return -ENOMEM;
		names[++n] = NULL;
	}
	if (r < 0)
		return r;
	*ret = take_ptr(names);
	return 0;
}

/*
 * Removing. A tree may be deeper than we have fds or stack for, and ".." cannot be trusted
 * to lead back. So at a depth of REMOVE_DEPTH a directory is moved up to the top of the tree
 * (one rename, its contents with it) and emptied from there.
 */
#define REMOVE_DEPTH 32

struct remover {
	int top; /* the tree's own directory */
	unsigned long n_moved;
};

static int remove_children(struct remover *rm, int fd, unsigned depth);

static int open_below(int dir, const char *name)
{
	/* One component, so NO_XDEV only asks whether it is a mount point. */
	return sys_openat2(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0,
			   RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS);
}

/* EBUSY is a mount point, most likely: say so by EXDEV. */
static int why_busy(int dir, const char *name)
{
	autoclose int fd = sys_openat2(dir, name, O_PATH | O_NOFOLLOW, 0, RESOLVE_NO_XDEV);

	return fd < 0 ? fd : -EBUSY;
}

static int move_up(struct remover *rm, int dir, const char *name)
{
	char up[64];

	for (;;) {
		snprintf(up, sizeof(up), ".deep.%lu", rm->n_moved++);
		if (renameat2(dir, name, rm->top, up, RENAME_NOREPLACE) == 0)
			break;
		if (errno != EEXIST)
			return -errno;
	}
	return 0;
}

static int remove_dir(struct remover *rm, int dir, const char *name, unsigned depth)
{
	if (unlinkat(dir, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	if (errno == EBUSY)
		return why_busy(dir, name);
	if (errno != ENOTEMPTY && errno != EEXIST)
		return -errno;

	int fd = open_below(dir, name);

	if (fd < 0)
		return fd;
	if (depth >= REMOVE_DEPTH) {
		close(fd);
		return move_up(rm, dir, name);
	}

	int r = remove_children(rm, fd, depth + 1);

	if (r < 0)
		return r;
	return unlinkat(dir, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

static int remove_entry(struct remover *rm, int dir, const char *name, bool maybe_dir,
			unsigned depth)
{
	if (maybe_dir)
		return remove_dir(rm, dir, name, depth);
	if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno == EBUSY)
		return why_busy(dir, name);
	/* EISDIR: the file system did not know the type beforehand. */
	return errno == EISDIR ? remove_dir(rm, dir, name, depth) : -errno;
}

/* Owns fd. */
static int remove_children(struct remover *rm, int fd, unsigned depth)
{
	auto_dir d = dir_of_fd(fd);
	struct dirent *e = NULL;
	bool removed;
	int r;

	if (!d)
		return -errno;
	/* Deleting while reading may skip entries on some file systems: read until a
	 * pass finds nothing. */
	do {
		removed = false;
		rewinddir(d);
		while ((r = next_entry(d, &e)) > 0) {
			r = remove_entry(rm, fd, e->d_name, e->d_type == DT_DIR, depth);
			if (r < 0)
				return r;
			removed = true;
		}
	} while (r == 0 && removed);
	return r;
}

/* Split path into its parent's fd and a name without trailing slashes. */
static int open_tree_parent(int dirfd, const char *path, char name[NAME_MAX + 1])
{
	autofree char *copy = strdup(path);

	if (!copy)
		return -ENOMEM;

	size_t n = strlen(copy);

	while (n > 0 && copy[n - 1] == '/')
		copy[--n] = '\0';

	char *slash = strrchr(copy, '/');
	const char *last = slash ? slash + 1 : copy;

	if (!*last || is_dots(last))
		return -EINVAL;
	if (strlen(last) > NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(name, last, strlen(last) + 1);
	if (!slash)
		return fs_open_dir(dirfd, ".");
	slash[slash == copy ? 1 : 0] = '\0'; /* the parent of "/a" is "/" */
	return fs_open_dir(dirfd, copy);
}

int fs_remove_tree(int dirfd, const char *path)
{
	char name[NAME_MAX + 1];
	autoclose int parent = open_tree_parent(dirfd, path, name);

	if (parent < 0)
		return parent == -ENOENT ? 0 : parent;
	if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno == EBUSY)
		return why_busy(parent, name);
	if (errno != EISDIR && errno != EPERM) /* EPERM: what POSIX says for directories */
		return -errno;

	struct remover rm = {.top = open_below(parent, name)};

	if (rm.top < 0)
		return rm.top;

	autoclose int top = rm.top;
	int fd = fs_open_dir(top, ".");
	int r = fd < 0 ? fd : remove_children(&rm, fd, 1);

	if (r < 0)
		return r;
	return unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}
