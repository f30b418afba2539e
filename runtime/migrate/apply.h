/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The other end of scan.h: what a peer says of a tree, made below a directory of ours that nobody else uses. Every
 * path is resolved below that directory, through no link and onto no other file system; there are no device nodes but whiteouts.
 */
#ifndef VPS_RUNTIME_MIGRATE_APPLY_H
#define VPS_RUNTIME_MIGRATE_APPLY_H

#include "runtime/migrate/wire.h"

struct apply {
	int tops[N_TREES];    /* -1: this tree is not to come. Not owned */
	uint64_t blocks_size; /* of TREE_BLOCKS' file, which is there already */
	/* its own */
	int tree; /* -1: none yet */
	bool touched[N_TREES]; /* in this round */
	int file; /* being written */
	struct wire_entry entry;
	struct stream_file data;
	uint64_t bytes, entries; /* so far */
};
#define APPLY_INIT { .tops = {-1, -1, -1}, .tree = -1, .file = -1 }
void apply_done(struct apply *a);

/* One of TREE, ENTRY, DATA, HOLE, REMOVED. -VPS_EBADIMAGE: against the rules; -ENOSPC … of the file system. */
int apply_record(struct apply *a, const struct stream_rec *rec, struct vps_err *err);
/* The end of a round: all of it is on the disk when this returns. */
int apply_round(struct apply *a, struct vps_err *err);

#endif
