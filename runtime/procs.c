// SPDX-License-Identifier: GPL-2.0-or-later
/* runtime/procs.h */
#include "runtime/procs.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"

#define CMDLINE_MAX 4096

/* The name in brackets may hold anything, so fields count from the last ')'. */
int procs_stat(const char *text, struct vps_proc *p, pid_t *ret_ppid)
{
	const char *s = strrchr(text, ')');
	unsigned long long utime, stime;
	int ppid;
	long rss;

	if (!s ||
	    sscanf(s + 1,
		   " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d "
		   "%*u %*u %ld",
		   &p->state, &ppid, &utime, &stime, &rss) != 5)
		return -EINVAL;
	p->cpu_us = (utime + stime) * (1000000 / (uint64_t)sysconf(_SC_CLK_TCK));
	p->rss = rss > 0 ? (uint64_t)rss * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
	if (ret_ppid)
		*ret_ppid = ppid;
	return 0;
}

int procs_uid(const char *text, uint32_t *ret)
{
	const char *uid = strstr(text, "\nUid:");
	unsigned n;

	if (!uid || sscanf(uid + 5, "%u", &n) != 1)
		return -EINVAL;
	*ret = n;
	return 0;
}

char *procs_cmdline(int dir, const char *stat)
{
	char buf[CMDLINE_MAX];
	autoclose int fd = openat(dir, "cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : fs_read_full(fd, buf, sizeof(buf) - 1);
	const char *from, *to;

	if (n > 0) {
		while (n > 0 && !buf[n - 1])
			n--;
		for (ssize_t i = 0; i < n; i++)
			if (!buf[i])
				buf[i] = ' ';
		return strndup(buf, (size_t)n);
	}
	/* a zombie has no words any more, only a name */
	from = strchr(stat, '(');
	to = strrchr(stat, ')');
	if (!from || !to || to < from)
		return strdup("");
	return str_fmt("[%.*s]", (int)(to - from - 1), from + 1);
}

void vps_procs_free(struct vps_proc *p, size_t n)
{
	for (size_t i = 0; p && i < n; i++)
		free(p[i].cmdline);
	free(p);
}
