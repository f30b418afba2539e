/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Apart from lxcfs.c, for the monitor: a file of its own keeps the rest out of that executable. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "runtime/lxcfs.h"
#include "runtime/lxcfs_impl.h"

int lxcfs_pidfd(int run_fd)
{
	struct proc_ident id = {0};
	unsigned long long start;
	char text[128];
	ssize_t n = fs_read_buf(run_fd, LXCFS_PID_FILE, text, sizeof(text));

	if (n < 0)
		return n == -ENOENT ? -ESRCH : (int)n;
	if (sscanf(text, "%36s %d %llu", id.boot_id, &id.pid, &start) != 3 || id.pid <= 0)
		return -ESRCH;
	id.start_time = start;
	return proc_ident_open(&id);
}
