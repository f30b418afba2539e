/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between scan.c, which walks and sends, and scan_index.c, which begins with what is there already. */
#ifndef VPS_RUNTIME_MIGRATE_SCAN_IMPL_H
#define VPS_RUNTIME_MIGRATE_SCAN_IMPL_H

#include <sys/types.h>

#include "runtime/driver.h"
#include "runtime/migrate/scan.h"

#define BLOCK	    DISK_BLOCK
#define SUM_LEN	    16u	       /* of SHA-256: two blocks that meet by chance are not met in this universe */
#define SUMS_FROM   (1u << 20) /* a smaller file is sent anew */

struct node {
	char *path;
	uint64_t ino, size;
	int64_t ctime;	    /* ns */
	mode_t mode;
	bool racy;	    /* it may have changed after it was sent without its ctime telling */
	size_t link;	    /* 1 + index of the node that it is a hard link to */
	uint8_t (*sums)[SUM_LEN];
	size_t n_sums;
};

struct nodes {
	struct node *v;
	size_t n, cap;
};

struct inode { uint64_t ino; size_t node; /* 1 + index */ };

struct scan {
	int top;
	dev_t dev;
	enum wire_tree tree;
	struct nodes was, now;
	size_t was_at; /* of `was`: before it all is dealt with */
	struct inode *links; /* of this round: inodes of several names; open addressing */
	size_t n_links, cap_links;
	uint8_t *buf; /* STREAM_CHUNK */
	uint8_t *written; /* scan_written's, for n_written blocks; NULL: not known */
	uint64_t n_written;
	/* of the round under way */
	struct wire_out *out;
	struct scan_round round;
	int64_t began;
	bool last;
	const struct progress *p;
	const char *what;
	uint64_t total;
	struct vps_err *err;
};

/* The order of a walk that sorts each directory by name: '/' is less than anything a name can have. */
int scan_path_cmp(const char *a, const char *b);
/* Names of a directory but "." and "..", sorted. */
int scan_list(int fd, char ***ret);
/* Zeros are as a hole: all zero. */
int scan_sum(const uint8_t *p, size_t n, uint8_t out[SUM_LEN]);

#endif
