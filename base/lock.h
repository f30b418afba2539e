/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Locks: flock(2) on files of our own state trees. An fd is the lock; closing
 * it (or dying) unlocks. Order, outermost first: one VPS's lock, then the store's
 * (ids, names), then the image store's, then the network's. Never two VPSes at once,
 * except in ascending order of id, or the second is
 * of a VPS that is being created: nobody waits for that one. host gc goes another way and waits for none: it tries.
 */
#ifndef VPS_BASE_LOCK_H
#define VPS_BASE_LOCK_H

#include <stdbool.h>

#include "base/err.h"

#define LOCK_TRY     0	/* timeout_ms: do not wait */
#define LOCK_FOREVER (-1)

/* Take the lock file dirfd/name (made with mode 0600). The fd, or -EWOULDBLOCK when
 * the time (milliseconds) is over, -EINTR when a signal handler ran while waiting, or
 * -errno. After the lock is had, the path is checked to lead to the same inode still: its
 * holder may remove a lock file (unlink first, then close). A fork without exec holds the
 * lock as well: it must close the fd. */
int lock_take(int dirfd, const char *name, bool exclusive, int timeout_ms);

#endif
