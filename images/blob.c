/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Blobs: content that is known by its SHA-256, verified before anybody reads a byte of it. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "images/store.h"

struct img_ingest {
	struct img_work *w;
	int fd;
	char name[24];
	char want[DIGEST_LEN], got[DIGEST_LEN];
	uint64_t size, max, bytes;
	struct digest_ctx *ctx;
	bool ended, kept;
};

int img_ingest_begin(struct img_work *w, const char *digest, uint64_t size, uint64_t max,
		     struct img_ingest **ret, struct vps_err *err)
{
	if (digest && !digest_valid(digest))
		return vps_err_set(err, VPS_EBADIMAGE, "not a sha256 digest");
	if (size != UINT64_MAX && max && size > max)
		return vps_err_set(err, VPS_EBADIMAGE,
				   "blob of %llu bytes is over the cap of %llu",
				   (unsigned long long)size, (unsigned long long)max);
	struct img_ingest *in = calloc(1, sizeof(*in));
	if (!in)
		return vps_err_sys(err, -ENOMEM, "take in a blob");
	in->fd = -1;
	in->w = w;
	in->size = size;
	in->max = max;
	if (digest)
		memcpy(in->want, digest, DIGEST_LEN);
	snprintf(in->name, sizeof(in->name), "blob.%u", w->count++);
	in->ctx = digest_new();
	if (!in->ctx) {
		img_ingest_free(in);
		return vps_err_sys(err, -ENOMEM, "take in a blob");
	}
	in->fd = openat(w->fd, in->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (in->fd < 0) {
		int r = -errno;
		img_ingest_free(in);
		return vps_err_sys(err, r, "make a temporary file in the image store");
	}
	*ret = in;
	return 0;
}

int img_ingest_write(struct img_ingest *in, const void *p, size_t n, struct vps_err *err)
{
	if (in->ended)
		return vps_err_set(err, EINVAL, "blob is complete already");
	if (in->size != UINT64_MAX && n > in->size - in->bytes)
		return vps_err_set(err, VPS_EDIGEST, "blob is longer than its stated %llu bytes",
				   (unsigned long long)in->size);
	if (in->max && n > in->max - in->bytes)
		return vps_err_set(err, VPS_EBADIMAGE, "blob is over the cap of %llu bytes",
				   (unsigned long long)in->max);
	int r = fs_write_all(in->fd, p, n);
	if (r < 0)
		return vps_err_sys(err, r, "write to the image store");
	digest_add(in->ctx, p, n);
	in->bytes += n;
	return 0;
}

uint64_t img_ingest_bytes(const struct img_ingest *in) { return in->bytes; }

int img_ingest_restart(struct img_ingest *in, struct vps_err *err)
{
	char dummy[DIGEST_LEN];
	if (in->ctx)
		digest_end(take_ptr(in->ctx), dummy);
	in->ctx = digest_new();
	in->bytes = 0;
	in->ended = false;
	if (!in->ctx)
		return vps_err_sys(err, -ENOMEM, "take in a blob");
	if (ftruncate(in->fd, 0) < 0 || lseek(in->fd, 0, SEEK_SET) < 0)
		return vps_err_sys(err, -errno, "restart a blob");
	return 0;
}

int img_ingest_end(struct img_ingest *in, char *digest, struct vps_err *err)
{
	if (!in->ctx)
		return vps_err_set(err, EINVAL, "blob is complete already");
	digest_end(take_ptr(in->ctx), in->got);
	if (in->size != UINT64_MAX && in->bytes != in->size)
		return vps_err_set(err, VPS_EDIGEST, "blob has %llu bytes, not the stated %llu",
				   (unsigned long long)in->bytes, (unsigned long long)in->size);
	if (in->want[0] && !str_eq(in->want, in->got))
		return vps_err_set(err, VPS_EDIGEST, "content is %s, not the stated %s", in->got,
				   in->want);
	in->ended = true;
	if (digest)
		memcpy(digest, in->got, DIGEST_LEN);
	return 0;
}

int img_ingest_open(struct img_ingest *in, struct vps_err *err)
{
	if (!in->ended)
		return vps_err_set(err, EINVAL, "blob is not verified");
	int fd = in->kept ? img_blob_open(in->w->s, in->got) :
			    openat(in->w->fd, in->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return vps_err_sys(err, in->kept ? fd : -errno, "open a blob");
	return fd;
}

int img_ingest_keep(struct img_ingest *in, struct vps_err *err)
{
	struct img_store *s = in->w->s;
	if (!in->ended)
		return vps_err_set(err, EINVAL, "blob is not verified");
	if (in->kept)
		return 0;
	if (fsync(in->fd) < 0)
		return vps_err_sys(err, -errno, "write to the image store");
	autoclose int lock = img_lock(s, false, err);
	if (lock < 0)
		return lock;
	bool there = fs_exists(s->blobs, img_hex(in->got));
	int r = there ? img_lease_locked(in->w, in->got) : img_lease_new_locked(in->w, in->got);
	if (r < 0)
		return vps_err_sys(err, r, "lease a blob");
	/* Same name, same content: replacing one that is there heals a damaged one. */
	if (renameat(in->w->fd, in->name, s->blobs, img_hex(in->got)) < 0)
		return vps_err_sys(err, -errno, "place a blob");
	in->kept = true;
	r = fs_sync_dir(s->blobs, ".");
	return r < 0 ? vps_err_sys(err, r, "place a blob") : 0;
}

struct img_ingest *img_ingest_free(struct img_ingest *in)
{
	if (!in)
		return NULL;
	char dummy[DIGEST_LEN];
	if (in->ctx)
		digest_end(in->ctx, dummy);
	if (in->fd >= 0 && !in->kept)
		unlinkat(in->w->fd, in->name, 0);
	close_fd(&in->fd);
	free(in);
	return NULL;
}

int img_blob_put(struct img_work *w, const void *p, size_t n, char *digest, struct vps_err *err)
{
	auto_done(img_ingest_freep) struct img_ingest *in = NULL;
	int r = img_ingest_begin(w, NULL, n, IMG_DOC_MAX, &in, err);
	if (r < 0)
		return r;
	if ((r = img_ingest_write(in, p, n, err)) < 0)
		return r;
	char got[DIGEST_LEN];
	if ((r = img_ingest_end(in, got, err)) < 0 || (r = img_ingest_keep(in, err)) < 0)
		return r;
	memcpy(digest, got, DIGEST_LEN);
	return 0;
}

/* A document that was damaged on disk does not count: who asks fetches it anew, which heals it. */
static bool blob_there(struct img_store *s, const char *digest)
{
	struct stat st;
	char got[DIGEST_LEN];
	autoclose int fd = img_blob_open(s, digest);
	if (fd < 0 || fstat(fd, &st) < 0)
		return false;
	if ((uint64_t)st.st_size > IMG_DOC_MAX)
		return true;
	return digest_of_fd(fd, got, NULL) == 0 && str_eq(got, digest);
}

int img_blob_has(struct img_work *w, const char *digest, struct vps_err *err)
{
	if (!digest_valid(digest))
		return vps_err_set(err, VPS_EBADIMAGE, "not a sha256 digest");
	autoclose int lock = img_lock(w->s, false, err);
	if (lock < 0)
		return lock;
	int r = img_lease_locked(w, digest);
	if (r < 0)
		return vps_err_sys(err, r, "lease a blob");
	return blob_there(w->s, digest);
}

int img_blob_open(struct img_store *s, const char *digest)
{
	if (!digest_valid(digest))
		return -EINVAL;
	int fd = openat(s->blobs, img_hex(digest), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int img_blob_read(struct img_store *s, const char *digest, char **ret, size_t *ret_len,
		  struct vps_err *err)
{
	if (!digest_valid(digest))
		return vps_err_set(err, VPS_EBADIMAGE, "not a sha256 digest");
	autofree char *text = NULL;
	size_t len = 0;
	int r = fs_read(s->blobs, img_hex(digest), IMG_DOC_MAX, &text, &len);
	if (r == -ENOENT)
		return vps_err_set(err, VPS_ENOIMAGE, "no blob %s in the store", digest);
	if (r < 0)
		return vps_err_sys(err, r, "read blob %s", digest);
	char got[DIGEST_LEN];
	digest_of(text, len, got);
	if (!str_eq(got, digest))
		return vps_err_set(err, VPS_EDIGEST, "blob %s is damaged on disk: pull or import "
				   "the image again", digest);
	*ret = take_ptr(text);
	if (ret_len)
		*ret_len = len;
	return 0;
}
