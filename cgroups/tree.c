/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Trees of groups that a tenant made: any width and any depth, so no recursion, no long paths and
 * one fd at a time. */
#include "cgroups/internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/fs.h"
#include "base/sys.h"

struct linux_dirent64 { /* getdents64(2) */
	uint64_t d_ino;
	int64_t d_off;
	unsigned short d_reclen;
	unsigned char d_type;
	char d_name[];
};

static bool is_child(const struct linux_dirent64 *d)
{
	return d->d_type == DT_DIR && !str_eq(d->d_name, ".") && !str_eq(d->d_name, "..");
}

int cg_subdirs(int dirfd, int (*fn)(void *arg, int dirfd, const char *name), void *arg)
{
	autoclose int fd = fs_open_dir(dirfd, ".");
	if (fd < 0)
		return fd;
	char buf[8192] __attribute__((aligned(8)));
	for (;;) {
		long n = syscall(SYS_getdents64, fd, buf, sizeof(buf));
		if (n <= 0)
			return n < 0 ? -errno : 0;
		for (long at = 0; at < n;) {
			struct linux_dirent64 *d = (struct linux_dirent64 *)(buf + at);
			at += d->d_reclen;
			int r = is_child(d) ? fn(arg, fd, d->d_name) : 0;
			if (r)
				return r;
		}
	}
}

/* ---- removal */

struct removal {
	char **names; /* where we are: below the start, one name a level */
	int timeout_ms;
	uint64_t deadline; /* of waiting for the dying; moves on with each removal */
};

static void set_deadline(struct removal *rm)
{
	rm->deadline = sys_now_mono() + (uint64_t)rm->timeout_ms * 1000000;
}

/* Remove a child; one that cannot go yet (it has children, or processes) is where to go next. */
static int remove_or_enter(void *arg, int dirfd, const char *name)
{
	struct removal *rm = arg;
	if (unlinkat(dirfd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	if (errno != EBUSY && errno != ENOTEMPTY)
		return -errno;
	int r = strv_add(&rm->names, name);
	return r < 0 ? r : 1;
}

/* Any process listed here? Reading fails in a threaded group (EOPNOTSUPP): then the threads. */
static bool has_processes(int dirfd)
{
	char buf[64];
	ssize_t n = fs_read_buf(dirfd, "cgroup.procs", buf, sizeof(buf));
	if (n == -EOPNOTSUPP)
		n = fs_read_buf(dirfd, "cgroup.threads", buf, sizeof(buf));
	return n > 0 || n == -EFBIG;
}

/* EBUSY without children: wait for the dying. v1 has no event for it, so a look each ms. */
static int wait_empty(int dirfd, uint64_t deadline)
{
	uint64_t now = sys_now_mono();
	if (now >= deadline)
		return -EBUSY;
	int left = (int)((deadline - now) / 1000000) + 1;
	int r = cg_events_wait(dirfd, "populated", 0, left);
	if (r != -ENOENT)
		return r == -ETIMEDOUT ? -EBUSY : r;
	poll(NULL, 0, 1);
	return has_processes(dirfd) && sys_now_mono() >= deadline ? -EBUSY : 0;
}

static char *pop(char **names)
{
	size_t n = strv_len(names);
	char *last = names[n - 1];
	names[n - 1] = NULL;
	return last;
}

/* Remove what is empty below *fd, then either descend into a child that is not, or remove the
 * directory itself from its parent. Done when no name is left. */
static int removal_step(struct removal *rm, int parent, int *fd)
{
	int r = cg_subdirs(*fd, remove_or_enter, rm);
	if (r < 0)
		return r;
	size_t depth = strv_len(rm->names);
	if (r == 1) {
		int child = openat(*fd, rm->names[depth - 1],
				   O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (child < 0)
			return -errno;
		close_fd(fd);
		*fd = child;
		return 0;
	}
	autoclose int up = openat(depth == 1 ? parent : *fd, depth == 1 ? "." : "..",
				  O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (up < 0)
		return -errno;
	if (unlinkat(up, rm->names[depth - 1], AT_REMOVEDIR) < 0 && errno != ENOENT)
		return errno == EBUSY || errno == ENOTEMPTY ? wait_empty(*fd, rm->deadline)
							    : -errno;
	free(pop(rm->names));
	set_deadline(rm);
	close_fd(fd);
	*fd = take_fd(up);
	return 0;
}

int cg_tree_remove(int parent, const char *name, int timeout_ms)
{
	if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	if (errno != EBUSY && errno != ENOTEMPTY)
		return -errno;
	autoclose int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	/* While anything lives in it, a tenant's empty groups must stay as they are. */
	int r = cg_events_wait(fd, "populated", 0, timeout_ms);
	if (r < 0 && r != -ENOENT && r != -ENODEV)
		return r == -ETIMEDOUT ? -EBUSY : r;
	auto_strv names = NULL;
	r = strv_add(&names, name);
	if (r < 0)
		return r;
	struct removal rm = { .names = take_ptr(names), .timeout_ms = timeout_ms };
	set_deadline(&rm);
	while (r >= 0 && strv_len(rm.names))
		r = removal_step(&rm, parent, &fd);
	strv_free(rm.names);
	if ((r == -ENOENT || r == -ENODEV) && !fs_exists(parent, name))
		return 0; /* somebody else was faster */
	return r;
}

/* ---- killing without cgroup.kill */

static int kill_listed(int dirfd)
{
	autofree char *text = NULL;
	int r = fs_read(dirfd, "cgroup.procs", 16u << 20, &text, NULL);
	if (r == -EOPNOTSUPP)
		r = fs_read(dirfd, "cgroup.threads", 16u << 20, &text, NULL);
	if (r < 0)
		return r == -ENODEV || r == -ENOENT ? 0 : r;
	int n = 0;
	char *save = NULL;
	for (char *w = strtok_r(text, "\n", &save); w; w = strtok_r(NULL, "\n", &save)) {
		pid_t pid = (pid_t)strtol(w, NULL, 10);
		/* 0: a process of another PID namespace, which we cannot name. */
		if (pid > 0 && kill(pid, SIGKILL) == 0)
			n++;
	}
	return n;
}

struct walk {
	int *fds;
	size_t n, cap;
};

static int push_child(void *arg, int dirfd, const char *name)
{
	struct walk *w = arg;
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		/* Out of fds: the caller comes round again, with fewer left to visit. */
		return errno == ENOENT || errno == EMFILE ? 0 : -errno;
	if (mem_grow(w->fds, w->n, w->cap) < 0) {
		close(fd);
		return -ENOMEM;
	}
	w->fds[w->n++] = fd;
	return 0;
}

int cg_tree_kill(int dirfd)
{
	struct walk w = { 0 };
	int total = 0, r = kill_listed(dirfd);
	if (r >= 0) {
		total += r;
		r = cg_subdirs(dirfd, push_child, &w);
	}
	while (w.n) {
		int fd = w.fds[--w.n];
		int k = kill_listed(fd);
		total += k > 0 ? k : 0;
		int s = cg_subdirs(fd, push_child, &w);
		if (k < 0 || s < 0)
			r = k < 0 ? k : s;
		close(fd);
	}
	free(w.fds);
	return r < 0 ? r : total;
}
