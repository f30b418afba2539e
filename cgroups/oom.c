/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Out-of-memory kills: an fd that wakes, and the count. */
#include "cgroups/internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/eventfd.h>

#include "base/fs.h"

/* v1: an eventfd tied to memory.oom_control (cgroup-v1/memory.rst, "OOM Control"). */
static int oom_fd_v1(struct cg *cg, const struct cg_hier *hi)
{
	autoclose int control = cg_file_open(cg, hi, "memory.oom_control", O_RDONLY);
	if (control < 0)
		return control;
	autoclose int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (event < 0)
		return -errno;
	char words[32];
	snprintf(words, sizeof(words), "%d %d", event, control);
	int r = cg_file_write(cg, hi, "cgroup.event_control", words);
	return r < 0 ? r : take_fd(event);
}

int cg_oom_fd(struct cg *cg)
{
	const struct cg_hier *hi = cg->h->where[CG_MEMORY];
	if (!hi)
		return -EOPNOTSUPP;
	if (hi->version == 1)
		return oom_fd_v1(cg, hi);
	int fd = cg_file_open(cg, hi, "memory.events", O_RDONLY);
	if (fd < 0)
		return fd;
	/* A first read, or the first poll would report what was before. */
	char buf[512];
	if (pread(fd, buf, sizeof(buf), 0) < 0) {
		int r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

int cg_oom_count(struct cg *cg, int oom_fd, uint64_t *ret)
{
	const struct cg_hier *hi = cg->h->where[CG_MEMORY];
	if (!hi)
		return -EOPNOTSUPP;
	char buf[512];
	if (hi->version == 2 && oom_fd >= 0) {
		ssize_t n = pread(oom_fd, buf, sizeof(buf) - 1, 0); /* re-arms */
		if (n < 0)
			return -errno;
		buf[n] = 0;
	} else {
		uint64_t ticks;
		if (oom_fd >= 0 && read(oom_fd, &ticks, sizeof(ticks)) < 0 && errno != EAGAIN)
			return -errno;
		ssize_t n = cg_file_read(cg, hi, hi->version == 2 ? "memory.events"
								  : "memory.oom_control",
					 buf, sizeof(buf));
		if (n < 0)
			return (int)n;
	}
	uint64_t v = cg_parse_key(buf, "oom_kill"); /* v1: 4.13 */
	if (v == CG_UNSET)
		return -EOPNOTSUPP;
	*ret = v;
	return 0;
}

int cg_oom_stat_fd(struct cg *cg)
{
	const struct cg_hier *hi = cg->h->where[CG_MEMORY];
	if (!hi)
		return -EOPNOTSUPP;
	return cg_file_open(cg, hi, hi->version == 2 ? "memory.events" : "memory.oom_control",
			    O_RDONLY);
}
