/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A one-way stream of records, for backups and migration: framed, versioned, checksummed, optionally compressed.
 *
 *   header  magic[8]  version u16  0 u16  kind[4]  0 u64                                   24 bytes
 *   record  type u16  flags u16  length u32  plain length u32  0 u32                       16 bytes
 *           `length` bytes, zstd-compressed when flag 1 is set, of `plain length` bytes
 *           sum[32]
 *   ...
 *   end     a record of type 0: the number of records before it u64, their plain bytes u64
 *
 * All numbers are little-endian. sum(n) is SHA-256 over sum(n-1), the record's header and its bytes as
 * they are on the wire; sum(0) is that of the stream's header. So each record vouches for all before it, nothing can be
 * changed, left out, repeated or moved, and the end record's sum is the digest of the whole stream.
 * It is no signature: a stream is as trustworthy as the way that it came.
 *
 * A reader believes nothing: a type has to be in its table, a length is bounded by that table before
 * anything is allocated, a compressed record has to give exactly its plain length, and a record's bytes are handed out after
 * their sum was right. Nothing is read beyond a record, nothing is written late: two streams make a dialogue.
 */
#ifndef VPS_RUNTIME_MIGRATE_STREAM_H
#define VPS_RUNTIME_MIGRATE_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/err.h"
#include "base/progress.h"

#define STREAM_VERSION	  1u
#define STREAM_RECORD_MAX (4u << 20) /* plain bytes of any record */
#define STREAM_CHUNK	  (1u << 20) /* of what bulk data is cut into */

/* What a kind of stream is made of; type 0 is the end's. */
struct stream_type {
	uint16_t type;
	uint32_t max;	  /* plain bytes, at most STREAM_RECORD_MAX */
	bool bulk;	  /* may be compressed */
	const char *name; /* for messages */
};

struct stream_opts {
	int level;	/* of zstd, for bulk records; 0: plain */
	int timeout_ms; /* without a byte moving; 0: none. A blocking fd may block in write(2) beyond it: give O_NONBLOCK ones */
	/* Asked when a signal came and now and then: true gives -VPS_EINTERRUPTED. */
	bool (*stop)(void *arg);
	void *arg;
};

/* ---- writing ------------------------------------------------------------------------ */

struct stream_out;
/* Write the header. kind: four characters; types (n of them) and opts (NULL: none) are copied, fd stays the
 * caller's. */
int stream_out_begin(int fd, const char kind[4], const struct stream_type *types, size_t n,
		     const struct stream_opts *opts, struct stream_out **ret, struct vps_err *err);
/* One record, on its way when this returns. -EPIPE: the reader is gone; -VPS_ETIMEDOUT. */
int stream_put(struct stream_out *s, uint16_t type, const void *data, size_t len, struct vps_err *err);
/* The same of two parts, so that a head needs no copy of what follows it. */
int stream_put2(struct stream_out *s, uint16_t type, const void *head, size_t head_len, const void *data,
		size_t len, struct vps_err *err);
/* The end record. digest (may be NULL): of the whole stream. */
int stream_out_end(struct stream_out *s, char digest[DIGEST_LEN], struct vps_err *err);
/* So far: bytes on the wire. */
uint64_t stream_out_bytes(const struct stream_out *s);
struct stream_out *stream_out_free(struct stream_out *s);
static inline void stream_out_freep(struct stream_out **s) { *s = stream_out_free(*s); }

/* ---- reading -------------------------------------------------------------------------- */

struct stream_rec {
	uint16_t type;
	const uint8_t *data; /* until the next record is read */
	size_t len;
};

struct stream_in;
/* Read the header. -VPS_EBADIMAGE: no stream of this kind, or of another version. */
int stream_in_begin(int fd, const char kind[4], const struct stream_type *types, size_t n,
		    const struct stream_opts *opts, struct stream_in **ret, struct vps_err *err);
/* The next record, verified: 1. The end, verified: 0 (and from then on). -VPS_EDIGEST: changed on its way;
 * -VPS_EBADIMAGE: against the rules; -ENODATA: the stream ends without an end; -VPS_ETIMEDOUT. After a failure it fails for good. */
int stream_next(struct stream_in *s, struct stream_rec *ret, struct vps_err *err);
/* A record of a plain file again, by where it began (stream_in_bytes before it was read). Its sum is not looked at, which
 * would take all before it: whoever asks knows by other means what the bytes have to be. Good until the next call. */
int stream_read_at(struct stream_in *s, uint64_t at, struct stream_rec *ret, struct vps_err *err);
/* After the end: the digest of the whole stream. */
void stream_in_digest(const struct stream_in *s, char digest[DIGEST_LEN]);
uint64_t stream_in_bytes(const struct stream_in *s);
struct stream_in *stream_in_free(struct stream_in *s);
static inline void stream_in_freep(struct stream_in **s) { *s = stream_in_free(*s); }

/* ---- numbers of records ------------------------------------------------------------------ */

static inline void stream_put_le(uint8_t *p, uint64_t v, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

static inline uint64_t stream_get_le(const uint8_t *p, unsigned bytes)
{
	uint64_t v = 0;

	for (unsigned i = bytes; i-- > 0;)
		v = v << 8 | p[i];
	return v;
}

/* ---- sparse files (stream_file.c) ---------------------------------------------------------- */

/*
 * A file is a run of two types of record, by ascending offset: data is offset u64 and its bytes, a hole is offset
 * u64 and length u64. What no record names is as it was, which is zeros in a fresh file.
 */
struct stream_file {
	uint16_t data, hole; /* types; data's max: STREAM_FILE_MAX */
	uint64_t size;	     /* of the file; no record may reach beyond */
	uint64_t at;	     /* end of the last record: the next one begins here or later */
};
#define STREAM_FILE_HEAD 8u
#define STREAM_FILE_MAX	 (STREAM_FILE_HEAD + STREAM_CHUNK)
#define STREAM_HOLE_LEN	 16u

/* Send len bytes of fd from offset on: data where it has some that are not all zeros (found by SEEK_DATA and by
 * looking at blocks of 4 KiB), holes elsewhere when say_holes. p is told (key 0, what) of bytes up to f->size.
 * -ENODATA: the file has become shorter. */
int stream_put_range(struct stream_out *s, struct stream_file *f, int fd, uint64_t offset, uint64_t len,
		     bool say_holes, const struct progress *p, const char *what, struct vps_err *err);
/* Write what a record (of one of f's types) says into fd. -VPS_EBADIMAGE: out of order or beyond f->size. */
int stream_take_range(struct stream_file *f, const struct stream_rec *rec, int fd, struct vps_err *err);

#endif
