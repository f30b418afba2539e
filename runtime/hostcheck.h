/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between hostcheck.c (leftovers) and hostfacts.c (what this host can do). */
#ifndef VPS_RUNTIME_HOSTCHECK_H
#define VPS_RUNTIME_HOSTCHECK_H

#include "runtime/internal.h"

struct check {
	struct vps_host *h;
	bool fix;
	struct vps_finding *found;
	size_t n, cap;
	int oom; /* sticky: -ENOMEM */
	unsigned *defined, *live, *busy; /* ascending; busy ones count as live */
	size_t n_defined, n_live, n_busy;
	struct check_held *held; /* VPSes whose lock is kept for a while */
	size_t n_held, cap_held;
};

enum check_kind { CHECK_NOTE, CHECK_LEFTOVER, CHECK_FIXED };
/* help may be NULL. */
void check_add(struct check *c, enum check_kind kind, unsigned id, const char *help,
	       const char *fmt, ...) PRINTF_LIKE(5, 6);
/* migrate/leftovers.c: what migrations left. */
void check_migrations(struct check *c);
/* Notes and advice. */
void check_facts(struct check *c);

#endif
