/* SPDX-License-Identifier: GPL-2.0-or-later */
/* memory.min and memory.low hold within what the parent has of them (cgroup-v2.rst, memory.min; mm/page_counter.c,
 * effective_protection): with none on <tag>, the host's own reclaim would take everything that the groups below
 * were promised. So <tag> has the sum, no more: what is left over would go to groups that asked for
 * nothing (memory_recursiveprot). */
#include "cgroups/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/file.h>

#include "base/fs.h"

static const char *const files[] = { "memory.min", "memory.low" };

struct sums {
	uint64_t of[ARRAY_LEN(files)];
};

static uint64_t read_amount(int dir, const char *file)
{
	char buf[32];
	if (fs_read_buf(dir, file, buf, sizeof(buf)) < 0)
		return 0; /* removed meanwhile, or a group without limits */
	uint64_t v = cg_parse_u64(buf);
	return v == CG_UNSET ? 0 : v;
}

static int add_up(void *arg, int dirfd, const char *name)
{
	struct sums *s = arg;
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		char path[CG_PATH_MAX];
		snprintf(path, sizeof(path), "%s/%s", name, files[i]);
		uint64_t v = read_amount(dirfd, path);
		s->of[i] = s->of[i] > CG_MAX - v ? CG_MAX : s->of[i] + v;
	}
	return 0;
}

int cg_protect_tag(struct cg_host *h)
{
	if (!h->v2 || h->where[CG_MEMORY] != h->v2 || h->v2->tag_fd < 0)
		return 0;
	/* Two that add up at once, and the one that saw less writes last. */
	autoclose int lock = fs_open_dir(h->v2->tag_fd, ".");
	if (lock < 0)
		return lock;
	while (flock(lock, LOCK_EX) < 0)
		if (errno != EINTR)
			return -errno;
	struct sums s = { 0 };
	int r = cg_subdirs(lock, add_up, &s);
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(files); i++) {
		char value[24] = "max";
		if (s.of[i] != CG_MAX)
			snprintf(value, sizeof(value), "%" PRIu64, s.of[i]);
		if (read_amount(lock, files[i]) != s.of[i])
			r = fs_write(lock, files[i], value);
	}
	return r;
}

bool cg_tag_protected(const struct cg_host *h)
{
	if (!h->v2 || h->where[CG_MEMORY] != h->v2 || h->v2->tag_fd < 0)
		return false;
	return read_amount(h->v2->tag_fd, files[0]) || read_amount(h->v2->tag_fd, files[1]);
}
