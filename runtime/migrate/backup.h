/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A backup is a stream (stream.h) of kind BKUP:
 *
 *   META      JSON: what it is, of whom, of when; the digest of the backup that it is incremental to
 *   SPEC      the definition, as spec.json
 *   SECCOMP   the operator's profile, if there is one
 *   PART      JSON: "image" (an OCI layout tar), "disk" ("tree": the upper as a tar of a layer; "blocks": a guest's
 *             disk by blocks, with its size), or, after that, "memory" (a sealed checkpoint of the same instant, a tar)
 *     CHUNK   offset u64, bytes
 *     REF     offset u64, length u32, SHA-256 of the bytes, which are in the backup that this one is incremental to, or
 *             in one further back
 *   PARTEND   length u64
 *
 * A tar is cut where its contents say so (a rolling hash), so that what did not change gives the same chunks, wherever it
 * is by now; blocks are cut at even places, and windows of zeros are left out.
 */
#ifndef VPS_RUNTIME_MIGRATE_BACKUP_H
#define VPS_RUNTIME_MIGRATE_BACKUP_H

#include "runtime/migrate/feeder.h"
#include "runtime/migrate/migrate.h"
#include "runtime/migrate/stream.h"

#define BACKUP_KIND    "BKUP"
#define BACKUP_VERSION 1

enum { B_META = 1, B_SPEC, B_SECCOMP, B_PART, B_CHUNK, B_REF, B_PARTEND };
extern const struct stream_type backup_types[];
extern const size_t backup_n_types;

#define B_REF_LEN    44u
#define B_PARTEND_LEN 8u
#define B_CHUNK_MIN  4096u	/* but the last one of a part: bounds what a reader has to remember */
#define B_WINDOW     (128u << 10) /* of blocks */
#define B_CHUNKS_MAX (16u << 20)

/* ---- which chunks there are: backup_read.c ------------------------------------------------ */

struct chunk {
	uint8_t hash[DIGEST_RAW_LEN];
	uint32_t file;	/* of the bases */
	uint32_t used;
	uint64_t at;	/* of its record; UINT64_MAX: a reference */
};
struct chunk_set {
	struct chunk *v; /* open addressing */
	size_t n, cap;
	uint64_t key[4]; /* random: a stranger chooses the hashes of references */
};
void chunk_set_done(struct chunk_set *s);
int chunk_set_add(struct chunk_set *s, const uint8_t hash[DIGEST_RAW_LEN], uint32_t file, uint64_t at);
const struct chunk *chunk_set_find(const struct chunk_set *s, const uint8_t hash[DIGEST_RAW_LEN]);

/* ---- reading: backup_read.c ------------------------------------------------------------------ */

struct backup_meta {
	char *source;	/* "name on host" */
	uint64_t created;
	bool booted, memory;
	char base[DIGEST_LEN]; /* "" none */
};

struct backup_in {
	struct stream_in *s;
	struct backup_meta meta;
	struct vps_spec spec;
	char *seccomp;
	size_t seccomp_len;
	enum { PART_NONE, PART_IMAGE, PART_TREE, PART_BLOCKS, PART_MEMORY } part;
	uint64_t size; /* of blocks */
	uint64_t at;   /* in the part */
	bool last;     /* a short chunk came: no more may */
	bool had_image, had_disk, had_memory;
	uint64_t rec_at; /* where the last record began */
	/* to resolve references */
	struct chunk_set known;
	struct stream_in **bases;
	size_t n_bases;
	char digest[DIGEST_LEN]; /* after the end */
};
void backup_in_init(struct backup_in *b);
void backup_in_done(struct backup_in *b);
/* META, SPEC, SECCOMP: parsed, bounded; the definition is checked as any (spec_check). */
int backup_in_open(int fd, const struct stream_opts *o, struct backup_in *ret, struct vps_err *err);
/* The next part: b->part. 0: the end of the backup; b->digest. */
int backup_in_part(struct backup_in *b, struct vps_err *err);
struct piece {
	uint64_t offset;
	const uint8_t *data; /* NULL: a reference, until it is resolved */
	size_t len;
	uint8_t hash[DIGEST_RAW_LEN]; /* of a reference */
};
/* Its next piece: 1; 0: the part's end. In order; of a tree or image without gaps. */
int backup_in_piece(struct backup_in *b, struct piece *ret, struct vps_err *err);
/* The bytes of a reference, from the bases, verified. */
int backup_in_resolve(struct backup_in *b, struct piece *p, struct vps_err *err);
/* Read all of a backup to learn its chunks; meta and digest. file: number for the set, with places if it is wanted. */
int backup_scan(int fd, uint32_t file, const struct stream_opts *o, struct chunk_set *set, struct backup_in *ret,
		struct vps_err *err);
/* Give b what it is incremental to, and that one's, and so on; fds of plain files, in any order. */
int backup_in_bases(struct backup_in *b, const int *fds, size_t n, const struct stream_opts *o, struct vps_err *err);

#define REF_PREFIX "vps-restore:" /* + pid: the name of an image that a restore takes in, as long as it has no VPS */

#endif
