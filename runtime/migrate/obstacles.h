/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What stands in the way of writing a running container down: looked for from outside, by procfs. */
#ifndef VPS_RUNTIME_OBSTACLES_H
#define VPS_RUNTIME_OBSTACLES_H

#include "runtime/internal.h"

struct obstacles {
	struct vps_obstacle *v;
	size_t n, cap;
};
/* l: running; its processes come and go meanwhile. */
int obstacles_find(const struct vps_live *l, struct obstacles *ret, struct vps_err *err);
void obstacles_done(struct obstacles *o);

/* Rules alone, for tests. What a link of /proc/PID/fd leads to: NULL when it can be held, else words. */
const char *obstacle_of_link(const char *link);
/* A device that a process has open. */
bool obstacle_device_ok(unsigned major, unsigned minor);
/* A file system that the tenant has mounted. */
bool obstacle_fs_ok(const char *type);

#endif
