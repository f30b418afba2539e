/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The first child: packed bytes in, tar bytes out, hashed on the way. Runs as nobody. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/str.h"
#include "images/unpack.h"

#define CHUNK (256u << 10)
/* The ratio says nothing about small things. */
#define RATIO_FROM (64ull << 20)

struct decode {
	struct unpack_ctx *c;
	char *buf;
	size_t seen;	/* bytes of buf that are still to be given out */
	uint64_t zeros; /* at the end so far */
	bool deaf;	/* the tar's reader has seen its end; only the hash goes on */
};

/* The next packed bytes; those that were looked at first come once more. */
static ssize_t read_packed(void *arg, const void **p)
{
	struct decode *d = arg;
	*p = d->buf;
	if (d->seen) {
		ssize_t n = (ssize_t)d->seen;
		d->seen = 0;
		return n;
	}
	ssize_t n;
	do
		n = read(d->c->job->fd, d->buf, CHUNK);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	atomic_fetch_add(&d->c->sh->packed, (uint64_t)n);
	return n;
}

static la_ssize_t on_read(struct archive *a, void *arg, const void **p)
{
	ssize_t n = read_packed(arg, p);
	if (n >= 0)
		return n;
	archive_set_error(a, (int)-n, "read: %s", strerror((int)-n));
	return ARCHIVE_FATAL;
}

/* Fill the buffer and leave it to be read again. */
static int look(struct decode *d, struct vps_err *err)
{
	size_t n = 0;
	while (n < CHUNK) {
		ssize_t got = read(d->c->job->fd, d->buf + n, CHUNK - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return vps_err_sys(err, -errno, "read");
		if (got == 0)
			break;
		n += (size_t)got;
	}
	atomic_fetch_add(&d->c->sh->packed, n);
	d->seen = n;
	return 0;
}

static void count_zeros(struct decode *d, const char *p, size_t n)
{
	size_t z = 0;
	while (z < n && z < 1024 && !p[n - 1 - z])
		z++;
	d->zeros = z == n ? d->zeros + n : z;
}

static int caps_ok(struct decode *d, struct vps_err *err)
{
	const struct img_caps *caps = &d->c->job->opts->caps;
	uint64_t raw = d->c->sh->raw, packed = d->c->sh->packed;
	if (raw > caps->bytes)
		return vps_err_set(err, VPS_EBADIMAGE, "unpacked it is over the cap of %llu bytes",
				   (unsigned long long)caps->bytes);
	if (raw > RATIO_FROM && raw / caps->ratio > packed)
		return vps_err_set(err, VPS_EBADIMAGE,
				   "unpacks to more than %llu times its size: refused as a bomb",
				   (unsigned long long)caps->ratio);
	return 0;
}

/* What libarchive says, with the cap on memory named where that is the likely cause. */
static int lib_error(struct archive *a, const struct img_caps *caps, struct vps_err *err)
{
	const char *msg = archive_error_string(a);
	autofree char *esc = str_escape(msg ? msg : "broken archive");
	if (archive_errno(a) == ENOMEM || (msg && strcasestr(msg, "memory")))
		return vps_err_set(err, VPS_EBADIMAGE,
				   "needs more than %llu MiB of memory to unpack: pack it with a smaller "
				   "window (xz -8, zstd -19)",
				   (unsigned long long)(caps->memory >> 20));
	return vps_err_set(err, VPS_EBADIMAGE, "unpack: %.300s", esc ? esc : "broken archive");
}

static int decode_block(void *arg, const void *p, size_t n, struct vps_err *err)
{
	struct decode *d = arg;
	digest_add(d->c->hash, p, n);
	count_zeros(d, p, n);
	atomic_fetch_add(&d->c->sh->raw, n);
	int r = caps_ok(d, err);
	if (r == 0 && d->c->job->keep >= 0 && (r = fs_write_all(d->c->job->keep, p, n)) < 0)
		return vps_err_sys(err, r, "write to the image store");
	if (r < 0 || d->deaf)
		return r;
	r = fs_write_all(d->c->pipe_w, p, n);
	if (r == -EPIPE) {
		d->deaf = true;
		return 0;
	}
	return r < 0 ? vps_err_sys(err, r, "pipe") : 0;
}

static int decode_all(struct decode *d, struct archive *a, struct vps_err *err)
{
	struct archive_entry *e;
	int r = look(d, err);
	if (r < 0)
		return r;
	if (d->seen >= 3 && memcmp(d->buf, "\x1f\x8b\x08", 3) == 0)
		return unpack_gzip(read_packed, decode_block, d, err);
	const struct img_caps *caps = &d->c->job->opts->caps;
	int (*const setup[])(struct archive *) = {
		archive_read_support_format_raw,  archive_read_support_format_empty,
		archive_read_support_filter_xz,	  archive_read_support_filter_zstd,
		archive_read_support_filter_bzip2,
	};
	for (size_t i = 0; i < ARRAY_LEN(setup); i++)
		/* ARCHIVE_WARN: not built in, would run a program */
		if (setup[i](a) != ARCHIVE_OK)
			return vps_err_set(err, VPS_EUNSUPPORTED,
					   "libarchive lacks xz, zstd or bzip2");
	if (archive_read_open(a, d, NULL, on_read, NULL) != ARCHIVE_OK)
		return lib_error(a, caps, err);
	r = archive_read_next_header(a, &e);
	if (r == ARCHIVE_EOF)
		return 0;
	if (r != ARCHIVE_OK)
		return lib_error(a, caps, err);
	for (;;) {
		const void *p;
		size_t n;
		la_int64_t off;
		r = archive_read_data_block(a, &p, &n, &off);
		if (r == ARCHIVE_EOF)
			return 0;
		if (r != ARCHIVE_OK)
			return lib_error(a, caps, err);
		if ((r = decode_block(d, p, n, err)) < 0)
			return r;
	}
}

int unpack_decode(void *arg)
{
	struct unpack_ctx *c = arg;
	struct unpack_shared *sh = c->sh;
	struct decode d = { .c = c, .buf = malloc(CHUNK) };
	struct archive *a = archive_read_new();
	int r = d.buf && a ? decode_all(&d, a, &sh->dec.err) :
			     vps_err_sys(&sh->dec.err, -ENOMEM, "unpack");
	if (r == 0) {
		digest_end(c->hash, sh->dec.digest);
		sh->dec.end_mark = d.zeros >= 512;
		sh->dec.done = true;
	}
	if (a)
		archive_read_free(a);
	free(d.buf);
	return r < 0;
}
