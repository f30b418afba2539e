/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Long work reports by callback; what is drawn (a bar on a terminal, nothing in a
 * pipe) is the caller's business. A callback that returns true asks to stop: the work
 * unwinds and returns -VPS_EINTERRUPTED. */
#ifndef VPS_BASE_PROGRESS_H
#define VPS_BASE_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	/* what: short words ("unpack", "pull sha256:ab12…"); total 0: not known. key tells
	 * parallel parts apart (0, 1, …); done == total ends a part. */
	bool (*fn)(void *arg, unsigned key, const char *what, uint64_t done, uint64_t total);
	void *arg;
};

static inline bool progress_tell(const struct progress *p, unsigned key, const char *what,
				 uint64_t done, uint64_t total)
{
	return p && p->fn && p->fn(p->arg, key, what, done, total);
}

#endif
