/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A disk's tree, copied by the host: everything by fd, no link followed, nothing opened but plain files and
 * directories. Inside images/ only. */
#ifndef VPS_IMAGES_TREE_COPY_H
#define VPS_IMAGES_TREE_COPY_H

#include <stdint.h>

#include "base/err.h"
#include "base/progress.h"

struct tree_copy {
	/* 0: `to` is empty. Else it is a copy begun at that time (sys_now_real, nanoseconds; right after a
	 * syncfs): only what changed since is copied again, what is gone goes. */
	uint64_t since;
	/* Somebody may be changing `from`: what vanishes on the way is left out. */
	bool live;
	const struct progress *progress;
	const char *what;
};

/* Owners, modes, times, hard links, holes, device nodes (whiteouts), extended attributes but those by which overlayfs
 * names inodes of another tree. Reflinks where the file system has them. Not synced. */
int tree_copy(int from, int to, const struct tree_copy *o, struct vps_err *err);

#endif
