/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The store from the inside: for the files of images/ only.
 *
 * How a change comes about, whoever makes it (import, pull, bootstrap, export):
 *
 *	auto_work struct img_work w = IMG_WORK_INIT;
 *	img_work_begin(s, &w, err);                     a private folder, ours as long as we live
 *	img_ingest_*, img_blob_put, img_layer_from_fd   bring content in, each under a lease
 *	img_register(&w, manifest, "name:tag", err);    the one visible step
 *	(img_work_end by auto_work)                     folder and leases go
 *
 * Content that is in place but not yet registered is kept from gc by the work folder's lease. A
 * work folder is owned by an flock on itself: with its process it is dead, and the next img_work_begin
 * or img_gc removes it. Nothing else has to be undone after a failure, Ctrl-C or kill -9.
 *
 * Locks, outermost first: a layer's (tmp/lock.<hex>, held while it is unpacked), the store's (`lock`:
 * shared for lease, pin, register; exclusive for gc's mark and sweep; both short: gc deletes after it
 * let go). A shared holder never takes it again.
 */
#ifndef VPS_IMAGES_STORE_H
#define VPS_IMAGES_STORE_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "images/images.h"

struct img_store {
	int fd;	    /* <root>/images, mode 0700: layers hold set-uid files with host-root ids */
	int blobs;  /* blobs/sha256 */
	int layers; /* layers */
	int erofs;  /* erofs */
	int exports; /* exports: <hex of what an export was> holds the digest of what it was made of */
	int refs, pins, tmp;
};

/* The store's lock; returned fd is it. Waits. */
int img_lock(struct img_store *s, bool exclusive, struct vps_err *err);

/* opts with every default filled in; o may be NULL. */
struct img_opts img_opts_fill(const struct img_opts *o);
/* This machine's architecture in OCI words ("amd64"). */
const char *img_arch(void);
/* "sha256:<hex>" to <hex> */
#define img_hex(digest) ((digest) + 7)

/* ---- work folders and leases (store.c) ---------------------------------- */

struct img_work {
	struct img_store *s;
	int fd;		/* the folder; holds the flock. -1: none */
	char name[32];	/* below tmp/ */
	unsigned count; /* for names of temp files */
	bool loose;	/* it placed content that no registered image uses yet */
};
#define IMG_WORK_INIT { .fd = -1 }
int img_work_begin(struct img_store *s, struct img_work *ret, struct vps_err *err);
void img_work_end(struct img_work *w);
#define auto_work auto_done(img_work_end)
/* Remove the work folders of dead processes; returns how many. dry: only count. bytes may be NULL. */
int img_work_clean(struct img_store *s, bool dry, uint64_t *bytes);
/* Keep a blob or layer (by digest or chain id) from gc as long as the work lives. Call with the store's
 * lock held (shared will do), before looking whether it exists. */
int img_lease_locked(struct img_work *w, const char *digest);
/* The same, for content that is about to be placed and was not there before: when the work ends or dies
 * without registering it, it goes again, unless somebody else uses it by then (gc finds it later). */
int img_lease_new_locked(struct img_work *w, const char *digest);
/* Take back what a work folder placed and nobody uses: into that folder (gc.c). */
int img_sweep_new(struct img_store *s, int work_fd);
/* The leases of everybody, as hex (strv). For gc, under the exclusive lock. */
int img_leases_read(struct img_store *s, char ***ret);
/* Bytes on disk of a tree. */
uint64_t img_tree_bytes(int dirfd, const char *name);

/* ---- blobs (blob.c) ----------------------------------------------------- */

/*
 * Take content in from the network or a file: written to a temp file in the work folder and hashed on
 * the way; nothing of it can be read before its digest and size were found right.
 */
struct img_ingest;
/* digest NULL: not known beforehand (still computed). size: exact length, or UINT64_MAX: not known;
 * max: cap where size is not known (0: none). A size above max is refused at once. */
int img_ingest_begin(struct img_work *w, const char *digest, uint64_t size, uint64_t max,
		     struct img_ingest **ret, struct vps_err *err);
/* -VPS_EDIGEST as soon as it is longer than size, -VPS_EBADIMAGE above max. */
int img_ingest_write(struct img_ingest *in, const void *p, size_t n, struct vps_err *err);
/* Bytes taken so far: where a broken download goes on (Range:). */
uint64_t img_ingest_bytes(const struct img_ingest *in);
/* Forget what came so far (a server that ignored Range:). */
int img_ingest_restart(struct img_ingest *in, struct vps_err *err);
/* The end: verify. -VPS_EDIGEST on any difference. in stays to be kept or freed. digest: DIGEST_LEN, may
 * be NULL. */
int img_ingest_end(struct img_ingest *in, char *digest, struct vps_err *err);
/* After img_ingest_end. A fresh fd for reading, at offset 0; the file has no name any more once in is freed. */
int img_ingest_open(struct img_ingest *in, struct vps_err *err);
/* After img_ingest_end: make it a blob of the store, synced, under a lease. Already there is fine. */
int img_ingest_keep(struct img_ingest *in, struct vps_err *err);
/* Also removes the temp file. NULL is fine. */
struct img_ingest *img_ingest_free(struct img_ingest *in);
static inline void img_ingest_freep(struct img_ingest **in) { *in = img_ingest_free(*in); }

/* Documents (manifest, config) are capped at this. */
#define IMG_DOC_MAX (4u << 20)

/* A small document from memory. digest: DIGEST_LEN, written. */
int img_blob_put(struct img_work *w, const void *p, size_t n, char *digest, struct vps_err *err);
/* 1: there, and leased; 0: not there. */
int img_blob_has(struct img_work *w, const char *digest, struct vps_err *err);
/* fd, -ENOENT. Content is not verified again. */
int img_blob_open(struct img_store *s, const char *digest);
/* A document as a NUL-terminated string; verified against its digest at each reading. */
int img_blob_read(struct img_store *s, const char *digest, char **ret, size_t *ret_len,
		  struct vps_err *err);

/* ---- references (ref.c) ------------------------------------------------- */

/*
 * [HOST[:PORT]/]PATH[:TAG][@DIGEST] as in the distribution reference grammar: PATH in lower case.
 * The first part is a host when a '/' follows and it holds a '.' or ':' or is "localhost".
 */
struct img_ref {
	char host[256]; /* with port; "" when none */
	char path[256];
	char tag[129];		/* "" when none */
	char digest[DIGEST_LEN]; /* "" when none */
};
#define IMG_REF_MAX 240 /* the canonical name becomes a file name */
int img_ref_parse(const char *text, struct img_ref *ret, struct vps_err *err);
/* The name under which the store keeps it: HOST/PATH:TAG; without tag: @DIGEST where there is one, else
 * ":latest". name: IMG_REF_MAX + 1 bytes. */
int img_ref_name(const struct img_ref *r, char *name, struct vps_err *err);
int img_ref_canonical(const char *text, char *name, struct vps_err *err); /* both in one */
/* The file of a canonical name below refs/; file: IMG_REF_MAX + 1 bytes. */
void img_ref_file(const char *name, char *file);
/* What a human wrote to the digest of a manifest; -VPS_ENOIMAGE with near names. */
int img_resolve(struct img_store *s, const char *ref, char digest[DIGEST_LEN], struct vps_err *err);
/* Every reference: "name digest" pairs, sorted by name. Broken files are left out. */
struct img_refs {
	size_t n, cap;
	struct img_refs_item {
		char name[IMG_REF_MAX + 1];
		char digest[DIGEST_LEN];
	} *v;
};
void img_refs_done(struct img_refs *r);
int img_refs_read(struct img_store *s, struct img_refs *ret);
/* The pins in the same shape: owner, digest. */
int img_pins_read(struct img_store *s, struct img_refs *ret);

/* The visible step: ref (may be NULL: only check) names the image from now on, atomically replacing
 * what it named before. Refuses a manifest whose config or layers are not in the store.
 * ref is made canonical. */
int img_register(struct img_work *w, const char *digest, const char *ref, struct vps_err *err);

/* ---- manifests (manifest.c) --------------------------------------------- */

enum img_media {
	IMG_MEDIA_OTHER,
	IMG_MEDIA_INDEX,    /* OCI index, docker manifest list */
	IMG_MEDIA_MANIFEST, /* OCI manifest, docker schema 2 */
	IMG_MEDIA_CONFIG,
	IMG_MEDIA_LAYER,    /* tar, plain or gzip or zstd (found by looking at the verified bytes) */
	IMG_MEDIA_FOREIGN,  /* a layer that is not to be distributed */
};
/* json_parse for documents of strangers: at most IMG_DOC_MAX bytes and a bounded number of values, so that
 * the tree stays small too. -VPS_EBADIMAGE "<what>: …". struct json from base/json.h. */
struct json;
int img_json_parse(const char *what, const char *text, size_t len, struct json **ret,
		   struct vps_err *err);

/* Parameters (";charset=…") are ignored; NULL is OTHER. */
enum img_media img_media_of(const char *media_type);

#define IMG_MT_INDEX	 "application/vnd.oci.image.index.v1+json"
#define IMG_MT_MANIFEST	 "application/vnd.oci.image.manifest.v1+json"
#define IMG_MT_CONFIG	 "application/vnd.oci.image.config.v1+json"
#define IMG_MT_LAYER	 "application/vnd.oci.image.layer.v1.tar"
#define IMG_MT_LAYER_GZ	 IMG_MT_LAYER "+gzip"
#define IMG_MT_LAYER_ZST IMG_MT_LAYER "+zstd"
#define IMG_MT_D_LIST	 "application/vnd.docker.distribution.manifest.list.v2+json"
#define IMG_MT_D_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"

struct img_desc {
	char digest[DIGEST_LEN];
	uint64_t size;
	enum img_media media;
	char media_type[128];
};

/* What is this document: INDEX or MANIFEST. media_type: what the server or descriptor called it, NULL
 * when nobody said. A document that says otherwise itself, or that could be both, is refused
 * (CVE-2021-41190): -VPS_EBADIMAGE. */
int img_doc_kind(const char *text, size_t len, const char *media_type, enum img_media *ret,
		 struct vps_err *err);

struct img_manifest {
	struct img_desc config;
	size_t n_layers;
	struct img_desc *layers; /* lowest first */
};
void img_manifest_done(struct img_manifest *m);
/* -VPS_EBADIMAGE on anything that is not a manifest of a container image within caps. */
int img_manifest_parse(const char *text, size_t len, const char *media_type,
		       const struct img_caps *caps, struct img_manifest *ret, struct vps_err *err);
/* The manifest for os linux, arch (and variant, may be NULL) in an index. When that is an index again,
 * ret->media says so; go down once more, not deeper. */
int img_index_pick(const char *text, size_t len, const char *media_type, const char *arch,
		   const char *variant, struct img_desc *ret, struct vps_err *err);

#define IMG_INDEX_MAX 1024
struct img_index {
	size_t n;
	struct img_index_item {
		struct img_desc desc;
		char *name; /* full name: containerd's annotation with the tag of ref.name; NULL: none */
		char *tag;  /* ref.name as it is: a tag or a name; NULL: none */
		char *os, *arch, *variant; /* NULL: not said */
	} *v;
};
void img_index_done(struct img_index *x);
/* 0: not for this machine; higher is better. A manifest that does not say its platform may be ours. */
int img_index_fit(const struct img_index_item *it, const char *arch, const char *variant);
int img_index_parse(const char *text, size_t len, const char *media_type, struct img_index *ret,
		    struct vps_err *err);

/* The config of an image. Also checks that it has n_layers diff ids. Fills arch, os, …, diff_ids, layers
 * (chain ids) of *ret. */
int img_config_parse(const char *text, size_t len, size_t n_layers, struct img_info *ret,
		     struct vps_err *err);

/* ---- layers (layer.c) --------------------------------------------------- */

/* Chain id of a layer upon parent (NULL or "": the lowest). OCI image-spec, config.md. */
void img_chain_next(const char *parent, const char *diff_id, char out[DIGEST_LEN]);

struct img_layer_src {
	int fd;		     /* the packed layer from its current offset; a pipe will do */
	const char *parent;  /* chain id of the layer below, unpacked already; NULL: the lowest */
	const char *diff_id; /* digest of the unpacked tar, checked; NULL: not known (rootfs import) */
	uint64_t size;	     /* packed bytes, for progress; 0: not known */
	unsigned key;	     /* of progress */
	bool keep;	     /* keep the unpacked tar as a blob named by its diff id */
	bool look, parts;    /* it may turn out to be, or is, an archive of image parts: import.c */
};
struct img_layer {
	char chain[DIGEST_LEN], diff_id[DIGEST_LEN], parent[DIGEST_LEN];
	uint64_t size;	   /* bytes of file data */
	uint64_t tar_size; /* bytes of the unpacked tar */
	uint64_t entries;
	int64_t newest;	   /* newest mtime of a file in it, seconds; 0: none */
	char **refused;
	bool members;	      /* src.look: image parts, now in … */
	char members_dir[48]; /* … this folder of the work folder; nothing else is set */
};
void img_layer_done(struct img_layer *l);
/* Unpack a layer whose packed digest was verified already. Once only, whoever asks: waits for another
 * process that is at it. Leased. Lowest layers first. ret may be NULL. */
int img_layer_from_fd(struct img_work *w, const struct img_layer_src *src, const struct img_opts *o,
		      struct img_layer *ret, struct vps_err *err);
/* 1: there, and leased; 0: not there. */
int img_layer_has(struct img_work *w, const char *chain, struct vps_err *err);
/* What layer.json says. */
int img_layer_read(struct img_store *s, const char *chain, struct img_layer *ret,
		   struct vps_err *err);

/* ---- what there is (info.c) ---------------------------------------------- */

/* Manifest and config of an image by digest; sizes, names and pins are not filled. */
int img_info_load(struct img_store *s, const char *digest, struct img_info *ret,
		  struct vps_err *err);

/* ---- whole images -------------------------------------------------------- */

/* A root file system as an image of one layer. fd: tar in any packing, a pipe will do. (import.c) */
int img_import_rootfs_fd(struct img_store *s, int fd, const char *ref, const struct img_opts *o,
			 struct img_info *ret, struct vps_err *err);
/* Manifest document of one image from parts that are in the store, put as a blob. */
int img_manifest_put(struct img_work *w, const struct img_desc *config,
		     const struct img_desc *layers, size_t n, char *digest, struct vps_err *err);
/* Is this config for the machine that o asks for? */
int img_arch_check(const struct img_info *i, const struct img_opts *o, struct vps_err *err);

/* An image's parts in a folder (import_oci.c, import_docker.c). ours: nobody else can write to it, what is
 * verified stays so. First image's digest in digest. */
struct img_parts {
	struct img_work *w;
	int dir;
	bool ours;
	const struct img_opts *o; /* filled */
	const char *ref;	  /* NULL: their own names */
};
int img_import_oci(const struct img_parts *p, char *digest, struct vps_err *err);
int img_import_docker(const struct img_parts *p, char *digest, struct vps_err *err);

#endif
