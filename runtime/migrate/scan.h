/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A tree that is copied while it changes, as rounds: each looks at all of it and sends what is not as it was when it
 * was sent. An inode is the same when its number, its ctime and its size are; a ctime that is not older than the
 * beginning of its round may hide a later change, so such a file is looked at again. Of a large file that was sent, only the
 * blocks that differ are sent (by their digests). In the last round nothing changes any more, so what it leaves is true.
 *
 * Dirty pages: a page that is mapped shared and written sets the ctime only when it becomes dirty, so the file system is
 * synced before a round, which makes every page clean; what is dirtied after that has a ctime of this round or later.
 */
#ifndef VPS_RUNTIME_MIGRATE_SCAN_H
#define VPS_RUNTIME_MIGRATE_SCAN_H

#include "runtime/migrate/wire.h"

struct scan;
/* top stays the caller's. tree: whose records they are; TREE_BLOCKS: only this one file. */
int scan_new(int top, enum wire_tree tree, struct scan **ret, struct vps_err *err);
struct scan *scan_free(struct scan *s);
static inline void scan_freep(struct scan **s) { *s = scan_free(*s); }

/* Of TREE_BLOCKS, for the next round: fd has a bit for each block of DISK_BLOCK bytes (driver.h, written) that is not as it was
 * when the last round began; only those are read. -1, and after a failure: not known, so all of them are. */
int scan_written(struct scan *s, int fd);

struct scan_round {
	uint64_t bytes;	  /* of file data sent */
	uint64_t entries; /* sent */
	uint64_t seen;	  /* in the tree */
};
/* TREE, what has changed; not the ROUND. last: it stands still. p is told of bytes of `total` (0: not known). */
int scan_send(struct scan *s, struct wire_out *out, bool last, const struct progress *p, const char *what,
	      uint64_t total, struct scan_round *ret, struct vps_err *err);
/*
 * After a connection that broke off: what of the tree is there already, told by who has it. Each path, and of a large file
 * the digests of its blocks, as they are on that disk now. Sent: in one go, up to its end. Taken: a record each, 1 for the end; before the first
 * round. -VPS_EBADIMAGE.
 */
int scan_index_send(int top, enum wire_tree tree, struct wire_out *out, struct vps_err *err);
int scan_index_take(struct scan *s, const struct stream_rec *rec, struct vps_err *err);
/* Of regular files, as df would count them, and how many entries. */
int scan_measure(int top, uint64_t *ret_bytes, uint64_t *ret_entries, struct vps_err *err);

#endif
