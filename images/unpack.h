/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A packed tar into a folder, by two children joined by a pipe: one unpacks (gzip, xz, zstd, bzip2, or
 * nothing) and hashes as nobody, one reads the tar and places its entries. The caller never
 * touches a hostile byte, and its memory, time and locks are its own. Inside images/ only.
 */
#ifndef VPS_IMAGES_UNPACK_H
#define VPS_IMAGES_UNPACK_H

#include "images/images.h"
#include "images/place.h"

enum unpack_mode {
	UNPACK_LAYER,	/* an OCI layer or a root file system */
	UNPACK_MEMBERS, /* an archive of image parts: plain files, owned by us, no more */
	UNPACK_LOOK,	/* MEMBERS when the first entry looks like it, else LAYER */
};

struct unpack_job {
	int fd;	     /* from its current offset; a pipe will do */
	int root;    /* empty folder */
	int keep;	  /* the unpacked tar is written here too; -1: not */
	const int *lower; /* the layers below, top first */
	size_t n_lower;
	enum unpack_mode mode;
	bool need_end; /* nobody knows the digest: a tar without its end mark counts as cut off */
	uint64_t size; /* packed, for progress; 0: not known */
	unsigned key;
	const struct img_opts *opts; /* filled */
};

struct unpack_result {
	char diff_id[DIGEST_LEN];
	uint64_t tar_size, packed;
	uint64_t entries, size;
	int64_t newest;
	uint64_t xattrs_dropped, n_refused;
	char **refused;
	bool members; /* what UNPACK_LOOK found */
};
void unpack_result_done(struct unpack_result *r);
int unpack_run(const struct unpack_job *job, struct unpack_result *ret, struct vps_err *err);

/* ---- between the files ---- */

/* Memory that parent and children share. Each side writes its own part. */
struct unpack_shared {
	_Atomic uint64_t packed, raw; /* so far */
	struct {
		bool done, end_mark;
		char digest[DIGEST_LEN];
		struct vps_err err;
	} dec;
	struct {
		bool done, members;
		struct place_stats st;
		struct vps_err err;
	} tar;
};

/* Where unpacked bytes go; -errno or -VPS_… stops. (unpack_decode.c) */
typedef int unpack_out(void *arg, const void *p, size_t n, struct vps_err *err);
/* gzip (RFC 1952), one member or several, every checksum verified. in gives packed bytes: n, 0 at the end,
 * -errno. (unpack_gzip.c) */
typedef ssize_t unpack_in(void *arg, const void **p);
int unpack_gzip(unpack_in *in, unpack_out *out, void *arg, struct vps_err *err);

struct unpack_ctx {
	const struct unpack_job *job;
	struct unpack_shared *sh;
	int pipe_r, pipe_w, refused, alive;
	struct digest_ctx *hash;
};
/* The children: unpack_decode.c, unpack_tar.c. Exit status. */
int unpack_decode(void *ctx);
int unpack_tar(void *ctx);

#endif
