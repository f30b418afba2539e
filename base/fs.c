/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#include "base/str.h"

int fs_write_all(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

ssize_t fs_read_full(int fd, void *buf, size_t len)
{
	size_t have = 0;

	while (have < len) {
		ssize_t n = read(fd, (char *)buf + have, len - have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		have += (size_t)n;
	}
	return (ssize_t)have;
}

ssize_t fs_pread_full(int fd, void *buf, size_t len, uint64_t at)
{
	size_t have = 0;

	while (have < len) {
		ssize_t n = pread(fd, (char *)buf + have, len - have, (off_t)(at + have));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		have += (size_t)n;
	}
	return (ssize_t)have;
}

int fs_pread_all(int fd, void *buf, size_t len, uint64_t at)
{
	ssize_t n = fs_pread_full(fd, buf, len, at);

	return n < 0 ? (int)n : (size_t)n < len ? -ENODATA : 0;
}

int fs_pwrite_all(int fd, const void *buf, size_t len, uint64_t at)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = pwrite(fd, (const char *)buf + done, len - done, (off_t)(at + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (size_t)n;
	}
	return 0;
}

static int open_read(int dirfd, const char *path)
{
	int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	return fd < 0 ? -errno : fd;
}

int fs_read_fd(int fd, size_t max, char **ret, size_t *ret_len)
{
	autofree char *buf = NULL;
	size_t len = 0, cap = 4096;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	/* The size is only a hint: procfs says 0, and files grow. */
	if (st.st_size > 4096 && (uint64_t)st.st_size <= max)
		cap = (size_t)st.st_size + 2;
	for (;;) {
		char *bigger = realloc(buf, cap);

		if (!bigger)
			return -ENOMEM;
		buf = bigger;

		ssize_t n = fs_read_full(fd, buf + len, cap - 1 - len);

		if (n < 0)
			return (int)n;
		len += (size_t)n;
		if (len > max)
			return -EFBIG;
		if (len < cap - 1)
			break;
		cap *= 2;
	}
	buf[len] = '\0';
	*ret = take_ptr(buf);
	if (ret_len)
		*ret_len = len;
	return 0;
}

int fs_read(int dirfd, const char *path, size_t max, char **ret, size_t *ret_len)
{
	autoclose int fd = open_read(dirfd, path);

	return fd < 0 ? fd : fs_read_fd(fd, max, ret, ret_len);
}

ssize_t fs_read_buf(int dirfd, const char *path, char *buf, size_t size)
{
	autoclose int fd = open_read(dirfd, path);

	if (fd < 0)
		return fd;

	ssize_t n = fs_read_full(fd, buf, size);

	if (n < 0)
		return n;
	if ((size_t)n == size)
		return -EFBIG;
	if (n > 0 && buf[n - 1] == '\n')
		n--;
	buf[n] = '\0';
	return n;
}

int fs_write(int dirfd, const char *path, const char *data)
{
	autoclose int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	size_t len = strlen(data);
	ssize_t n;

	if (fd < 0)
		return -errno;
	do {
		n = write(fd, data, len);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EIO;
}

int fs_write_sysctl(const char *setting)
{
	char path[256];
	const char *eq = strchr(setting, '=');
	int n = eq ? snprintf(path, sizeof(path), "/proc/sys/%.*s", (int)(eq - setting), setting) : -1;

	if (n < 0 || (size_t)n >= sizeof(path) || strstr(path, ".."))
		return -EINVAL;
	for (char *c = path + strlen("/proc/sys/"); *c; c++)
		if (*c == '.')
			*c = '/';
	return fs_write(AT_FDCWD, path, eq + 1);
}

int fs_open_dir(int dirfd, const char *path)
{
	int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

bool fs_exists(int dirfd, const char *path)
{
	struct stat st;

	return fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

int fs_sync_dir(int dirfd, const char *path)
{
	autoclose int fd = fs_open_dir(dirfd, path);

	if (fd < 0)
		return fd;
	return fsync(fd) < 0 ? -errno : 0;
}

/* An fd of the directory that path is in, and the last component. */
static int open_parent(int dirfd, const char *path, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	char dir[PATH_MAX] = ".";

	if (!*name || str_eq(name, ".") || str_eq(name, ".."))
		return -EINVAL;
	if (slash) {
		size_t n = (size_t)(slash - path) + 1; /* with the slash: "/" stays "/" */

		if (n >= sizeof(dir))
			return -ENAMETOOLONG;
		memcpy(dir, path, n);
		dir[n] = '\0';
	}
	*ret_name = name;
	return fs_open_dir(dirfd, dir);
}

/* ".tmp.<name>.<6 letters>", the name cut so that the whole fits NAME_MAX. */
static void temp_name(const char *name, char out[NAME_MAX + 1])
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz012345";
	unsigned char rnd[6] = {0};
	char suffix[sizeof(rnd) + 1] = "";

	/* Taken names are found by O_EXCL, so it may be weak early in boot. */
	if (getrandom(rnd, sizeof(rnd), GRND_NONBLOCK) < 0)
		memcpy(rnd, &(unsigned){(unsigned)getpid()}, sizeof(unsigned));
	for (size_t i = 0; i < sizeof(rnd); i++)
		suffix[i] = letters[rnd[i] % 32];
	snprintf(out, NAME_MAX + 1, FS_TMP_PREFIX "%.*s.%s", NAME_MAX - 16, name, suffix);
}

static int make_temp(int dir, const char *name, char temp[NAME_MAX + 1])
{
	for (int tries = 0; tries < 16; tries++) {
		temp_name(name, temp);
		int fd = openat(dir, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
				0600);

		if (fd >= 0 || errno != EEXIST)
			return fd < 0 ? -errno : fd;
	}
	return -EEXIST;
}

static int fill_temp(int fd, const void *data, size_t len, mode_t mode, bool sync)
{
	int r = fs_write_all(fd, data, len);

	if (r < 0)
		return r;
	if (fchmod(fd, mode) < 0)
		return -errno;
	if (sync && fsync(fd) < 0)
		return -errno;
	return 0;
}

static int write_by_rename(int dirfd, const char *path, const void *data, size_t len, mode_t mode,
			   bool sync)
{
	char temp[NAME_MAX + 1];
	const char *name;
	autoclose int dir = open_parent(dirfd, path, &name);

	if (dir < 0)
		return dir;

	int fd = make_temp(dir, name, temp);

	if (fd < 0)
		return fd;

	int r = fill_temp(fd, data, len, mode, sync);

	/* close(2) is where network file systems and quotas may still complain. */
	if (close(fd) < 0 && r == 0)
		r = -errno;
	if (r == 0 && renameat(dir, temp, dir, name) < 0)
		r = -errno;
	if (r < 0) {
		unlinkat(dir, temp, 0);
		return r;
	}
	return sync && fsync(dir) < 0 ? -errno : 0;
}

int fs_write_atomic(int dirfd, const char *path, const void *data, size_t len, mode_t mode)
{
	return write_by_rename(dirfd, path, data, len, mode, true);
}

int fs_write_rename(int dirfd, const char *path, const void *data, size_t len, mode_t mode)
{
	return write_by_rename(dirfd, path, data, len, mode, false);
}

int fs_remove_temps(int dirfd, const char *path, unsigned age_s, bool dry)
{
	autoclose int dir = fs_open_dir(dirfd, path);
	auto_strv names = NULL;
	time_t now = time(NULL);
	int n = 0;

	if (dir < 0)
		return dir;

	int r = fs_list(dir, ".", &names);

	for (size_t i = 0; r == 0 && names && names[i]; i++) {
		struct stat st;

		if (!str_starts(names[i], FS_TMP_PREFIX) ||
		    fstatat(dir, names[i], &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    now < st.st_mtime + (time_t)age_s)
			continue;
		if (!dry && unlinkat(dir, names[i], 0) < 0) {
			r = errno == ENOENT ? 0 : -errno;
			continue;
		}
		n++;
	}
	return r < 0 ? r : n;
}

int fs_mkdir_p(int dirfd, const char *path, mode_t mode)
{
	autofree char *part = strdup(path);
	struct stat st;

	if (!part)
		return -ENOMEM;
	for (char *p = part + 1; *part && p[-1]; p++) {
		if (*p && *p != '/')
			continue;

		char end = *p;

		*p = '\0';
		if (mkdirat(dirfd, part, mode) < 0 && errno != EEXIST) {
			/* On a read-only file system an existing one is fine, too. */
			int r = -errno;

			if (fstatat(dirfd, part, &st, 0) < 0 || !S_ISDIR(st.st_mode))
				return r;
		}
		*p = end;
		if (!end)
			break;
	}
	if (fstatat(dirfd, path, &st, 0) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}
