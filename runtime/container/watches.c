/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files of the root that somebody inside watches (inotify). The kernel tells their inodes, and overlayfs without
 * nfs_export cannot open an inode, so CRIU looks for the path, below some places that it knows. Where the rest is
 * we tell it; found while the VPS runs, so that the search costs no standstill.
 */
#include "runtime/container/container.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/fs.h"
#include "base/sys.h"
#include "cgroups/cgroups.h"

#define MAX_ENTRIES 2000000u /* looked at */
#define MAX_DEPTH   40
#define MAX_WATCHES 4096u

struct watches {
	uint64_t *ino;
	size_t n, cap;
	size_t left;	/* not found yet */
	dev_t dev;	/* of the root */
	uint64_t seen;
	char path[4096];
	size_t len;
	unsigned depth;
	char ***ret;
};

static int by_ino(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* "inotify wd:1 ino:20010e433 sdev:3a mask:…", proc(5). sdev is the kernel's own number: 20 bits of minor. */
static int add_line(struct watches *w, const char *line)
{
	unsigned long long ino;
	unsigned sdev;

	if (sscanf(line, "inotify wd:%*x ino:%llx sdev:%x", &ino, &sdev) != 2)
		return 0;
	if (makedev(sdev >> 20, sdev & 0xfffff) != w->dev || w->n >= MAX_WATCHES)
		return 0;
	if (mem_grow(w->ino, w->n, w->cap) < 0)
		return -ENOMEM;
	w->ino[w->n++] = ino;
	return 0;
}

static int read_info(struct watches *w, int dir, const char *name)
{
	autofree char *text = NULL;
	int r = 0;

	/* a descriptor that was closed meanwhile */
	if (fs_read(dir, name, 1u << 20, &text, NULL) < 0)
		return 0;
	for (char *line = strstr(text, "inotify "); line && r == 0; line = strstr(line + 1, "\ninotify "))
		r = add_line(w, *line == '\n' ? line + 1 : line);
	return r;
}

static int of_process(struct watches *w, pid_t pid)
{
	auto_strv names = NULL;
	autoclose int dir = proc_pid_open(pid, "fdinfo", O_RDONLY | O_DIRECTORY);
	int r = 0;

	if (dir < 0 || fs_list(dir, ".", &names) < 0)
		return 0;
	for (char **n = names; r == 0 && n && *n; n++)
		r = read_info(w, dir, *n);
	return r;
}

/* ---- the walk ------------------------------------------------------------------------ */

static int walk(struct watches *w, int fd);

static int look(struct watches *w, int dir, const char *name)
{
	size_t was = w->len;
	struct stat st;
	int r = 0;

	if (++w->seen > MAX_ENTRIES || w->left == 0)
		return 1;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0 || st.st_dev != w->dev)
		return 0;
	int n = snprintf(w->path + was, sizeof(w->path) - was, "/%s", name);
	if (n < 0 || (size_t)n >= sizeof(w->path) - was) {
		w->path[was] = '\0';
		return 0;
	}
	w->len = was + (size_t)n;
	if (bsearch(&(uint64_t){st.st_ino}, w->ino, w->n, sizeof(*w->ino), by_ino)) {
		w->left--;
		r = strv_add(w->ret, w->path);
	}
	if (r == 0 && S_ISDIR(st.st_mode) && w->depth < MAX_DEPTH) {
		int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		w->depth++;
		r = fd < 0 ? 0 : walk(w, fd);
		w->depth--;
	}
	w->len = was;
	w->path[was] = '\0';
	return r;
}

/* Takes fd. */
static int walk(struct watches *w, int fd)
{
	DIR *d = fdopendir(fd);
	struct dirent *e;
	int r = 0;

	if (!d) {
		close(fd);
		return 0;
	}
	while (r == 0 && (e = readdir(d)))
		if (!str_eq(e->d_name, ".") && !str_eq(e->d_name, ".."))
			r = look(w, dirfd(d), e->d_name);
	closedir(d);
	return r;
}

static size_t distinct(uint64_t *v, size_t n)
{
	size_t k = 0;

	for (size_t i = 0; i < n; i++)
		if (k == 0 || v[k - 1] != v[i])
			v[k++] = v[i];
	return k;
}

int watches_find(struct cg *cg, pid_t init, char ***ret, struct vps_err *err)
{
	struct watches w = {.ret = ret};
	autofree pid_t *pids = NULL;
	autoclose int root = proc_pid_open(init, "root", O_RDONLY | O_DIRECTORY);
	struct stat st;
	size_t n = 0;
	int r = root < 0 ? root : fstat(root, &st) < 0 ? -errno : cg_pids(cg, &pids, &n);

	w.dev = r < 0 ? 0 : st.st_dev;
	for (size_t i = 0; r == 0 && i < n; i++)
		r = of_process(&w, pids[i]);
	if (r == 0 && w.n) {
		qsort(w.ino, w.n, sizeof(*w.ino), by_ino);
		w.left = w.n = distinct(w.ino, w.n);
		r = walk(&w, take_fd(root));
	}
	free(w.ino);
	return r < 0 ? vps_err_sys(err, r, "look for watched files") : 0;
}
