/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between tar_unpack.c, which reads a stream, and tar_sync.c, which makes a tree equal to it. */
#ifndef VPS_RUNTIME_TAR_IMPL_H
#define VPS_RUNTIME_TAR_IMPL_H

#include "base/str.h"
#include "runtime/tar.h"

struct entry {
	char *path, *link; /* owned */
	char type;
	mode_t mode;
	uint64_t uid, gid, size;
	int64_t mtime;
	char **xattrs; /* strv "name=hex"; tar_sync only */
};

struct pending { /* a directory gets its mode when all is in it */
	char *path;
	mode_t mode;
	int64_t mtime;
};

struct unpacker {
	int in, base;
	const struct tar_unpack_opts *o;
	struct vps_err *err;
	char *top; /* owned; with o->as: what the first entry's top component was */
	struct pending *dirs;
	size_t n_dirs, cap_dirs;
	int left_out;
	uint64_t *seen; /* tar_sync: hashes of the paths */
	size_t n_seen, cap_seen;
};

/* Words with the path, escaped. r. */
int tar_fail(struct unpacker *u, int r, const char *path, const char *what);
/* Exactly len bytes of the stream; len and what fills them up to a block. */
int tar_get(struct unpacker *u, void *buf, size_t len);
int tar_skip(struct unpacker *u, uint64_t len);
static inline uint64_t tar_padding(uint64_t size)
{
	return (TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK;
}
int tar_open_at(struct unpacker *u, const char *path, int flags);
/* A hard link's target as a path below the base; owned. */
int tar_link_target(struct unpacker *u, const struct entry *e, char **ret);
int tar_open_parent(struct unpacker *u, const char *path, const char **ret_name);

/* tar_sync.c: an entry whose parent is dirfd. */
int tar_sync_entry(struct unpacker *u, struct entry *e, int dirfd, const char *name);
int tar_sync_finish(struct unpacker *u);

#endif
