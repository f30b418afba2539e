/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/inroot.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/sys.h"

/* openat2(2): with IN_ROOT a ".." gives EAGAIN when anything on the host was renamed or
 * mounted at the same moment. A bound keeps a renaming tenant from holding us here. */
#define RESOLVE_TRIES 128

int inroot_open(int root, const char *path, int flags, mode_t mode)
{
	/* openat2 refuses a mode that would have no effect, and O_NOCTTY with O_PATH. */
	bool creates = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
	uint64_t all = (uint64_t)(unsigned)flags | ((flags & O_PATH) ? 0 : O_NOCTTY);
	int fd = -EAGAIN;

	for (int i = 0; i < RESOLVE_TRIES && fd == -EAGAIN; i++)
		fd = sys_openat2(root, path, all, creates ? mode & 07777 : 0,
				 RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
	return fd;
}

int inroot_fd_is_fs(int fd, long f_type)
{
	struct statfs sfs;

	if (fstatfs(fd, &sfs) < 0)
		return -errno;
	return (unsigned long)sfs.f_type == (unsigned long)f_type ? 0 : -EXDEV;
}

int inroot_fd_is_char(int fd, unsigned maj, unsigned min)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	return S_ISCHR(st.st_mode) && st.st_rdev == makedev(maj, min) ? 0 : -EXDEV;
}

int inroot_reopen(int fd, int flags)
{
	char name[16];
	autoclose int proc = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (proc < 0)
		return -errno;
	r = inroot_fd_is_fs(proc, PROC_SUPER_MAGIC);
	if (r < 0)
		return r;
	snprintf(name, sizeof(name), "%d", fd);
	r = openat(proc, name, flags | O_CLOEXEC | O_NOCTTY);
	return r < 0 ? -errno : r;
}

/* Where the last component of path starts. */
static const char *last_component(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

int inroot_open_parent(int root, const char *path, const char **ret_name)
{
	const char *name = last_component(path);
	char dir[PATH_MAX];
	size_t n = (size_t)(name - path);

	if (!*name || str_eq(name, ".") || str_eq(name, ".."))
		return -EINVAL;
	if (n >= sizeof(dir))
		return -ENAMETOOLONG;
	memcpy(dir, path, n);
	dir[n] = '\0';

	int fd = inroot_open(root, n ? dir : ".", O_PATH | O_DIRECTORY, 0);

	if (fd >= 0)
		*ret_name = name;
	return fd;
}

/* The directory name in parent, just made by us, gets its final owner and mode. It is
 * opened without following anything, so that a tenant who swaps it in between gains at
 * most his own directory. */
static int dress_dir(int parent, const char *name, mode_t mode, uid_t uid, gid_t gid)
{
	autoclose int fd = sys_openat2(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0,
				       RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV);

	if (fd < 0)
		return fd;
	if (fchown(fd, uid, gid) < 0 || fchmod(fd, mode) < 0)
		return -errno;
	return 0;
}

static int make_one(int root, const char *path, mode_t mode, uid_t uid, gid_t gid)
{
	const char *name;
	autoclose int parent = inroot_open_parent(root, path, &name);

	if (parent < 0)
		return parent;
	if (mkdirat(parent, name, 0700) < 0)
		/* EEXIST: another maker won, or a link that leads nowhere; the caller looks. */
		return errno == EEXIST ? 0 : -errno;
	return dress_dir(parent, name, mode, uid, gid);
}

/* The directory at path, made when it is not there; its parent must be. */
static int open_or_make(int root, const char *path, mode_t mode, uid_t uid, gid_t gid)
{
	int fd = inroot_open(root, path, O_PATH | O_DIRECTORY, 0);

	if (fd != -ENOENT)
		return fd;

	int r = make_one(root, path, mode, uid, gid);

	if (r < 0)
		return r;
	fd = inroot_open(root, path, O_PATH | O_DIRECTORY, 0);
	return fd == -ENOENT ? -ENOTDIR : fd; /* a dangling link is in the way */
}

/* From the root down, each prefix resolved anew: a link in it may lead elsewhere in the
 * root (/var/run -> /run), where the rest is then made. part has room for path. */
static int make_each(int root, const char *path, char *part, mode_t mode, uid_t uid, gid_t gid)
{
	autoclose int fd = -ENOENT;
	size_t n = 0;

	while (path[n]) {
		n += strspn(path + n, "/");
		n += strcspn(path + n, "/");
		memcpy(part, path, n);
		part[n] = '\0';
		close_fd(&fd);
		fd = open_or_make(root, part, mode, uid, gid);
		if (fd < 0)
			return fd;
		n += strspn(path + n, "/");
	}
	return take_fd(fd);
}

int inroot_mkdir_p(int root, const char *path, mode_t mode, uid_t uid, gid_t gid)
{
	int fd = inroot_open(root, path, O_PATH | O_DIRECTORY, 0);

	if (fd != -ENOENT || !*path)
		return fd;

	autofree char *part = malloc(strlen(path) + 1);

	return part ? make_each(root, path, part, mode, uid, gid) : -ENOMEM;
}

static int fill_file(int fd, const void *data, size_t len, mode_t mode, uid_t uid, gid_t gid)
{
	int r = fs_write_all(fd, data, len);

	if (r < 0)
		return r;
	/* In this order: chown clears the set-id bits. */
	if (fchown(fd, uid, gid) < 0 || fchmod(fd, mode) < 0)
		return -errno;
	return 0;
}

int inroot_write_file(int root, const char *path, const void *data, size_t len, mode_t mode,
		      uid_t uid, gid_t gid)
{
	const char *name;
	char temp[64];
	uint64_t rnd = 0;
	autoclose int parent = inroot_open_parent(root, path, &name);

	if (parent < 0)
		return parent;
	/* Not to be guessed: a tenant could otherwise make the name first, each time. */
	if (getrandom(&rnd, sizeof(rnd), 0) < 0)
		return -errno;
	snprintf(temp, sizeof(temp), FS_TMP_PREFIX "%016llx", (unsigned long long)rnd);

	autoclose int fd =
		openat(parent, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;

	int r = fill_file(fd, data, len, mode, uid, gid);

	if (r == 0 && renameat(parent, temp, parent, name) < 0)
		r = -errno;
	if (r < 0)
		unlinkat(parent, temp, 0);
	return r;
}

int inroot_read_file(int root, const char *path, size_t max, char **ret, size_t *ret_len)
{
	autoclose int at = inroot_open(root, path, O_PATH, 0);
	struct stat st;

	if (at < 0)
		return at;
	if (fstat(at, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;

	autoclose int fd = inroot_reopen(at, O_RDONLY | O_NONBLOCK);

	return fd < 0 ? fd : fs_read_fd(fd, max, ret, ret_len);
}

/* Stat what path leads to: 1, 0 when there is nothing, -errno. */
static int look(int root, const char *path, struct stat *st)
{
	autoclose int fd = inroot_open(root, path, O_PATH, 0);

	if (fd == -ENOENT || fd == -ENOTDIR)
		return 0;
	if (fd < 0)
		return fd;
	return fstat(fd, st) < 0 ? -errno : 1;
}

int inroot_exists(int root, const char *path)
{
	struct stat st;

	return look(root, path, &st);
}

int inroot_is_executable(int root, const char *path)
{
	struct stat st;
	int r = look(root, path, &st);

	return r <= 0 ? r : S_ISREG(st.st_mode) && (st.st_mode & 0111) != 0;
}
