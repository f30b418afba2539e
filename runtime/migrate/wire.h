/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What `vps migrate` and `vps receive` say to each other: records of two streams (stream.h), one each way, of kind
 * "VPSm". All that a peer says is checked here or where it is used; nothing is believed because it came.
 *
 *	source: OFFER hello     ->
 *	        <-              ANSWER state           destination: what is there, what is in the way
 *	begin                   ->
 *	        <-              INDEX*                 what came by a connection that broke off
 *	IMAGE*                  ->                     an OCI layout tar, when the answer wants it
 *	TREE ENTRY DATA HOLE GONE* ROUND  ->
 *	        <-              ROUND                  all of it is on the disk
 *	... rounds, of the memory as well when it is moved live; the VPS stands still; a last round, without ROUND; prepare, and so
 *	on: handover.h
 */
#ifndef VPS_RUNTIME_MIGRATE_WIRE_H
#define VPS_RUNTIME_MIGRATE_WIRE_H

#include <limits.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"
#include "runtime/migrate/handover.h"
#include "runtime/migrate/stream.h"

#define WIRE_KIND "VPSm"

enum wire_type {
	WIRE_MSG = 1,	/* one of handover.h */
	WIRE_OFFER,	/* JSON */
	WIRE_ANSWER,	/* JSON */
	WIRE_WORDS,	/* JSON: an error, in front of `failed` */
	WIRE_IMAGE,	/* bytes of an image; none: its end */
	WIRE_TREE,	/* which tree the records up to ROUND are of */
	WIRE_ENTRY,	/* a file's name and what it is; its data follows */
	WIRE_DATA,	/* stream_file */
	WIRE_HOLE,
	WIRE_REMOVED,	/* a path */
	WIRE_ROUND,	/* a number, said back when all is on the disk */
	WIRE_INDEX,	/* of what is there from a connection before: a file; none: its end */
	WIRE_TOOK,	/* in front of `running`: microseconds since `prepare` had come, until it ran */
};
extern const struct stream_type wire_types[];
extern const size_t wire_n_types;

enum wire_tree {
	TREE_DISK,   /* upper/ of a container's disk */
	TREE_BLOCKS, /* a machine's disk: its image file alone */
	TREE_MEMORY, /* a checkpoint */
	N_TREES,
};

#define WIRE_BLOCKS_FILE "disk.img" /* the one of TREE_BLOCKS */
#define WIRE_MSG_LEN   24u
#define WIRE_XATTR_MAX 65536u
#define WIRE_XATTRS_MAX 64u

/* ---- messages ---- */
void wire_msg_put(const struct ho_msg *m, uint8_t buf[WIRE_MSG_LEN]);
/* 0 or -VPS_EBADIMAGE. */
int wire_msg_get(const uint8_t *p, size_t len, struct ho_msg *ret, struct vps_err *err);

/* ---- sending, not faster than the operator wants ---- */
struct wire_out {
	struct stream_out *s;
	uint64_t limit; /* bytes a second of what is bulk; 0: none */
	uint64_t since, had; /* ns, bytes: where the measuring begins */
};
int wire_put(struct wire_out *o, enum wire_type t, const void *data, size_t len, struct vps_err *err);
int wire_put2(struct wire_out *o, enum wire_type t, const void *head, size_t head_len, const void *data, size_t len,
	      struct vps_err *err);
int wire_say(struct wire_out *o, const struct ho_msg *m, struct vps_err *err);

/* ---- entries of a tree ---- */
enum wire_kind {
	KIND_DIR = 'd',
	KIND_FILE = 'f',     /* all of it follows */
	KIND_PATCH = 'p',    /* what has changed follows */
	KIND_SYMLINK = 'l',
	KIND_HARDLINK = 'h', /* to a path that came before */
	KIND_WHITEOUT = 'w', /* overlayfs: what lies below is gone */
	KIND_FIFO = 'q',
	KIND_SOCKET = 's',
};
struct wire_xattr { char *name, *value; size_t len; };
struct wire_entry {
	enum wire_kind kind;
	uint32_t mode, uid, gid; /* mode: the 12 permission bits */
	uint64_t size;
	int64_t mtime_s;
	uint32_t mtime_ns;
	char *path; /* below the tree's top, "." the top itself */
	char *link; /* of the two kinds of link */
	struct wire_xattr *xattrs;
	size_t n_xattrs;
};
void wire_entry_done(struct wire_entry *e);
#define auto_entry auto_done(wire_entry_done) struct wire_entry
/* -ENOMEM, or -E2BIG: no peer would take it. */
int wire_entry_put(const struct wire_entry *e, struct strbuf *sb);
/* A copy, checked: a path without "..", empty parts or a leading '/', owners of a VPS, attributes that a tree takes along.
 * -VPS_EBADIMAGE, -ENOMEM. */
int wire_entry_get(const uint8_t *p, size_t len, struct wire_entry *ret, struct vps_err *err);
/* "a/b", "." */
bool wire_path_ok(const char *path, size_t len);
/* Does a disk take this attribute along? Not the ones by which overlayfs knows inodes of one file system. */
bool wire_xattr_ok(const char *name);

#endif
