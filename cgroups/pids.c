/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who is in a group: cgroup.procs of it and of all below. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "cgroups/internal.h"

/* A reader's memory and stack are not the tenant's to choose: what is deeper is left out. */
#define MAX_PIDS  (1u << 20)
#define MAX_DEPTH 100

struct pids {
	pid_t *v;
	size_t n, cap;
	unsigned depth;
};

static int read_procs(struct pids *p, int dirfd)
{
	int fd = openat(dirfd, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "re");
	long pid;
	int r = 0;

	if (!f) {
		r = -errno;
		if (fd >= 0)
			close(fd);
		/* a threaded group lists its processes at its domain's root; one that went away: none */
		return r == -EOPNOTSUPP || r == -ENOENT || r == -ENODEV ? 0 : r;
	}
	while (r == 0 && p->n < MAX_PIDS && fscanf(f, "%ld", &pid) == 1) {
		if (pid <= 0) /* not in our pid namespace */
			continue;
		r = mem_grow(p->v, p->n, p->cap);
		if (r == 0)
			p->v[p->n++] = (pid_t)pid;
	}
	fclose(f);
	return r;
}

static int walk(void *arg, int dirfd, const char *name)
{
	struct pids *p = arg;
	autoclose int fd = openat(dirfd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int r;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	r = read_procs(p, fd);
	if (r < 0 || p->depth == MAX_DEPTH)
		return r;
	p->depth++;
	r = cg_subdirs(fd, walk, p);
	p->depth--;
	return r;
}

int cg_pids(struct cg *cg, pid_t **ret, size_t *ret_n)
{
	struct pids p = {0};
	int r = read_procs(&p, cg->v2_fd);

	if (r == 0)
		r = cg_subdirs(cg->v2_fd, walk, &p);
	if (r < 0) {
		free(p.v);
		return r;
	}
	*ret = p.v;
	*ret_n = p.n;
	return 0;
}
