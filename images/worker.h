/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Child processes that touch hostile bytes, so that nobody else has to: bounded memory, no other fds,
 * dead with their parent. Inside images/ only. */
#ifndef VPS_IMAGES_WORKER_H
#define VPS_IMAGES_WORKER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct worker_limits {
	const int *fds; /* stay open (-1 is skipped); everything else is closed */
	size_t n_fds;
	uint64_t memory;  /* private memory on top of what the parent has, bytes */
	bool nobody;	  /* drop every right: reads and writes its fds, no more */
	bool writes;	  /* nobody: may write to regular files that it has */
	int write_below;  /* Landlock, where the kernel has it: names are made only below this
			     directory; -1: no limit */
};
/* fork(2); the child gets its limits and runs fn(arg), whose result 0..127 is its exit status. Signals of
 * the terminal are the parent's to handle. pid or -errno. Not for processes with threads. */
pid_t worker_fork(const struct worker_limits *l, int (*fn)(void *arg), void *arg);
/* Wait for it; the exit status, 128 + signal, or -errno. */
int worker_wait(pid_t pid);
/* Kill it and wait. */
int worker_kill(pid_t pid);

#endif
