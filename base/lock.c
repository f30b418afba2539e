/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "base/mem.h"
#include "base/sys.h"

#define MS	     1000000ull /* in nanoseconds */
#define WAIT_FIRST   (1 * MS)
#define WAIT_LONGEST (50 * MS)

/* flock(2) knows no timeout and a timer signal would be the whole process's business, so
 * we ask again, at growing distances. */
static int flock_until(int fd, int op, uint64_t deadline)
{
	uint64_t wait = WAIT_FIRST;

	while (flock(fd, op | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK)
			return -errno;

		uint64_t now = sys_now_mono();

		if (now >= deadline)
			return -EWOULDBLOCK;
		if (wait > deadline - now)
			wait = deadline - now;

		struct timespec ts = {.tv_nsec = (long)wait};

		if (nanosleep(&ts, NULL) < 0)
			return -errno;
		wait = wait * 2 < WAIT_LONGEST ? wait * 2 : WAIT_LONGEST;
	}
	return 0;
}

static int flock_wait(int fd, int op)
{
	return flock(fd, op) < 0 ? -errno : 0;
}

/* Does the name still lead to the file we hold? 1, 0, -errno. */
static int is_current(int dirfd, const char *name, int fd)
{
	struct stat held, there;

	if (fstat(fd, &held) < 0)
		return -errno;
	if (fstatat(dirfd, name, &there, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	return held.st_dev == there.st_dev && held.st_ino == there.st_ino;
}

int lock_take(int dirfd, const char *name, bool exclusive, int timeout_ms)
{
	int op = exclusive ? LOCK_EX : LOCK_SH;
	uint64_t deadline = sys_now_mono() + (timeout_ms > 0 ? (uint64_t)timeout_ms * MS : 0);

	for (;;) {
		autoclose int fd =
			openat(dirfd, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

		if (fd < 0)
			return -errno;

		int r = timeout_ms < 0 ? flock_wait(fd, op) : flock_until(fd, op, deadline);

		if (r == 0)
			r = is_current(dirfd, name, fd);
		if (r < 0)
			return r;
		if (r > 0)
			return take_fd(fd);
		/* The holder before us removed the file: lock the new one. */
	}
}
