// SPDX-License-Identifier: GPL-2.0-or-later
/* The only user of libzstd. */
#include "runtime/migrate/stream.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>
#include <zstd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/sys.h"

#define MAGIC	   "\x89VPSstr\n"
#define MAGIC_LEN  8u
#define HEADER_LEN 24u
#define REC_LEN	   16u
#define SUM_LEN	   DIGEST_RAW_LEN
#define END_TYPE   0u
#define END_LEN	   16u
#define FLAG_ZSTD  1u
#define SLICE_MS   500 /* how long a stop may have to wait */

/* What both directions have. */
struct stream {
	int fd;
	struct stream_opts o;
	struct stream_type *types;
	size_t n_types;
	uint8_t sum[SUM_LEN];
	uint64_t records, plain, wire;
	uint8_t *buf; /* of a record's compressed form */
	size_t buf_cap;
};

struct stream_out {
	struct stream s;
	ZSTD_CCtx *zstd;
	uint8_t *joined; /* the parts of a record that is to be compressed */
	size_t joined_cap;
};

struct stream_in {
	struct stream s;
	ZSTD_DCtx *zstd;
	uint8_t *plain;
	size_t plain_cap;
	bool ended;
	int failed; /* the code of the first failure */
};

static int init(struct stream *s, int fd, const struct stream_type *types, size_t n, const struct stream_opts *o)
{
	s->fd = fd;
	if (o)
		s->o = *o;
	s->types = reallocarray(NULL, n + 1, sizeof(*types));
	if (!s->types)
		return -ENOMEM;
	memcpy(s->types, types, n * sizeof(*types));
	s->types[n] = (struct stream_type){.type = END_TYPE, .max = END_LEN, .name = "end"};
	s->n_types = n + 1;
	return 0;
}

static void done(struct stream *s)
{
	free(s->types);
	free(s->buf);
}

static int room(uint8_t **buf, size_t *cap, size_t want)
{
	uint8_t *p;

	if (*cap >= want)
		return 0;
	p = realloc(*buf, want);
	if (!p)
		return -ENOMEM;
	*buf = p;
	*cap = want;
	return 0;
}

static const struct stream_type *type_of(const struct stream *s, unsigned type)
{
	for (size_t i = 0; i < s->n_types; i++)
		if (s->types[i].type == type)
			return &s->types[i];
	return NULL;
}

/* ---- bytes ------------------------------------------------------------------------------- */

static bool stopped(const struct stream *s)
{
	return s->o.stop && s->o.stop(s->o.arg);
}

/* Until fd is ready. Without a deadline or somebody to ask, read(2) and write(2) may wait themselves. */
static int wait_ready(struct stream *s, short events, bool must)
{
	uint64_t end = s->o.timeout_ms > 0 ? sys_now_mono() + (uint64_t)s->o.timeout_ms * 1000000 : UINT64_MAX;
	struct pollfd p = {.fd = s->fd, .events = events};

	if (!must && s->o.timeout_ms <= 0 && !s->o.stop)
		return 0;
	for (;;) {
		int n;

		if (stopped(s))
			return -VPS_EINTERRUPTED;
		n = poll(&p, 1, SLICE_MS);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (sys_now_mono() >= end)
			return -VPS_ETIMEDOUT;
	}
}

/* Length, or less at the end of the stream, or -errno. */
static ssize_t get(struct stream *s, void *buf, size_t len)
{
	size_t have = 0;
	bool blocked = false;

	while (have < len) {
		int r = wait_ready(s, POLLIN, blocked);
		ssize_t n;

		if (r < 0)
			return r;
		n = read(s->fd, (uint8_t *)buf + have, len - have);
		blocked = n < 0 && errno == EAGAIN;
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return -errno;
		if (n == 0)
			break;
		have += n > 0 ? (size_t)n : 0;
	}
	s->wire += have;
	return (ssize_t)have;
}

static int put(struct stream *s, struct iovec *v, int n_v)
{
	bool blocked = false;

	while (n_v > 0) {
		int r = wait_ready(s, POLLOUT, blocked);
		size_t left;
		ssize_t n;

		if (r < 0)
			return r;
		n = writev(s->fd, v, n_v);
		blocked = n < 0 && errno == EAGAIN;
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return -errno;
		left = n > 0 ? (size_t)n : 0;
		s->wire += left;
		for (; n_v > 0 && left >= v->iov_len; v++, n_v--)
			left -= v->iov_len;
		if (n_v > 0) {
			v->iov_base = (uint8_t *)v->iov_base + left;
			v->iov_len -= left;
		}
	}
	return 0;
}

/* ---- sums ---------------------------------------------------------------------------------- */

static int sum_next(struct stream *s, const uint8_t rec[REC_LEN], const struct iovec *v, int n_v)
{
	struct digest_ctx *d = digest_new();

	if (!d)
		return -ENOMEM;
	digest_add(d, s->sum, SUM_LEN);
	digest_add(d, rec, REC_LEN);
	for (int i = 0; i < n_v; i++)
		digest_add(d, v[i].iov_base, v[i].iov_len);
	return digest_end_raw(d, s->sum);
}

static int sum_header(struct stream *s, const uint8_t header[HEADER_LEN])
{
	struct digest_ctx *d = digest_new();

	if (!d)
		return -ENOMEM;
	digest_add(d, header, HEADER_LEN);
	return digest_end_raw(d, s->sum);
}

static void sum_text(const struct stream *s, char digest[DIGEST_LEN])
{
	memcpy(digest, "sha256:", 7);
	fmt_hex(s->sum, SUM_LEN, digest + 7);
}

static void make_header(uint8_t h[HEADER_LEN], const char kind[4])
{
	memset(h, 0, HEADER_LEN);
	memcpy(h, MAGIC, MAGIC_LEN);
	stream_put_le(h + 8, STREAM_VERSION, 2);
	memcpy(h + 12, kind, 4);
}

/* ---- writing ---------------------------------------------------------------------------------- */

int stream_out_begin(int fd, const char kind[4], const struct stream_type *types, size_t n,
		     const struct stream_opts *opts, struct stream_out **ret, struct vps_err *err)
{
	struct stream_out *s __attribute__((cleanup(stream_out_freep))) = calloc(1, sizeof(*s));
	uint8_t header[HEADER_LEN];
	struct iovec v = {header, HEADER_LEN};
	int r = s ? init(&s->s, fd, types, n, opts) : -ENOMEM;

	if (r == 0 && s->s.o.level) {
		s->zstd = ZSTD_createCCtx();
		r = s->zstd ? 0 : -ENOMEM;
	}
	if (r == 0) {
		make_header(header, kind);
		r = sum_header(&s->s, header);
	}
	r = r ?: put(&s->s, &v, 1);
	if (r < 0)
		return vps_err_sys(err, r, "begin the stream");
	*ret = take_ptr(s);
	return 0;
}

/* The two parts, compressed into one: its length; 0: not worth it. */
static ssize_t compress(struct stream_out *s, const void *head, size_t head_len, const void *data, size_t len)
{
	size_t n, all = head_len + len;
	int r = room(&s->s.buf, &s->s.buf_cap, ZSTD_compressBound(all));

	if (r == 0 && head_len)
		r = room(&s->joined, &s->joined_cap, all);
	if (r < 0)
		return r;
	if (head_len) {
		memcpy(s->joined, head, head_len);
		memcpy(s->joined + head_len, data, len);
		data = s->joined;
	}
	n = ZSTD_compressCCtx(s->zstd, s->s.buf, s->s.buf_cap, data, all, s->s.o.level);
	if (ZSTD_isError(n))
		return -ENOMEM;
	return n < all - all / 16 ? (ssize_t)n : 0;
}

static int put_record(struct stream_out *s, const struct stream_type *t, const void *head, size_t head_len,
		      const void *data, size_t len)
{
	uint8_t rec[REC_LEN] = {0};
	ssize_t packed = 0;
	int r;

	if (t->bulk && s->zstd && head_len + len >= 256)
		packed = compress(s, head, head_len, data, len);
	if (packed < 0)
		return (int)packed;
	stream_put_le(rec, t->type, 2);
	stream_put_le(rec + 2, packed ? FLAG_ZSTD : 0, 2);
	stream_put_le(rec + 4, packed ? (uint64_t)packed : head_len + len, 4);
	stream_put_le(rec + 8, head_len + len, 4);

	struct iovec v[4] = {
		{rec, REC_LEN},
		{packed ? s->s.buf : (void *)head, packed ? (size_t)packed : head_len},
		{(void *)data, packed ? 0 : len},
		{s->s.sum, SUM_LEN},
	};
	r = sum_next(&s->s, rec, v + 1, 2);
	return r ?: put(&s->s, v, 4);
}

int stream_put2(struct stream_out *s, uint16_t type, const void *head, size_t head_len, const void *data, size_t len,
		struct vps_err *err)
{
	const struct stream_type *t = type_of(&s->s, type);
	int r;

	if (!t || type == END_TYPE || head_len > t->max || len > t->max - head_len)
		return vps_err_set(err, EMSGSIZE, "a record '%s' of %zu bytes is against its own rules",
				   t ? t->name : "?", head_len + len);
	r = put_record(s, t, head, head_len, data, len);
	if (r < 0)
		return vps_err_sys(err, r, "write to the stream");
	s->s.records++;
	s->s.plain += head_len + len;
	return 0;
}

int stream_put(struct stream_out *s, uint16_t type, const void *data, size_t len, struct vps_err *err)
{
	return stream_put2(s, type, NULL, 0, data, len, err);
}

int stream_out_end(struct stream_out *s, char digest[DIGEST_LEN], struct vps_err *err)
{
	uint8_t end[END_LEN];
	int r;

	stream_put_le(end, s->s.records, 8);
	stream_put_le(end + 8, s->s.plain, 8);
	r = put_record(s, type_of(&s->s, END_TYPE), NULL, 0, end, END_LEN);
	if (r < 0)
		return vps_err_sys(err, r, "end the stream");
	if (digest)
		sum_text(&s->s, digest);
	return 0;
}

uint64_t stream_out_bytes(const struct stream_out *s)
{
	return s->s.wire;
}

struct stream_out *stream_out_free(struct stream_out *s)
{
	if (s) {
		ZSTD_freeCCtx(s->zstd);
		free(s->joined);
		done(&s->s);
	}
	free(s);
	return NULL;
}

/* ---- reading --------------------------------------------------------------------------------------- */

static int read_header(struct stream_in *s, const char kind[4], struct vps_err *err)
{
	uint8_t h[HEADER_LEN], want[HEADER_LEN];
	ssize_t n = get(&s->s, h, HEADER_LEN);
	unsigned version;

	if (n < 0)
		return vps_err_sys(err, (int)n, "read the stream");
	if (n != HEADER_LEN || memcmp(h, MAGIC, MAGIC_LEN) != 0)
		return vps_err_set(err, VPS_EBADIMAGE, "this is no stream that vps has written");
	version = (unsigned)stream_get_le(h + 8, 2);
	if (version != STREAM_VERSION)
		return vps_err_set(err, VPS_EBADIMAGE, "the stream has version %u, this vps reads %u only; use "
				   "the vps that wrote it, or a newer one here", version, STREAM_VERSION);
	make_header(want, kind);
	if (memcmp(h, want, HEADER_LEN) != 0)
		return vps_err_set(err, VPS_EBADIMAGE, "the stream is of another kind than '%.4s'", kind);
	int r = sum_header(&s->s, h);
	return r < 0 ? vps_err_sys(err, r, "read the stream") : 0;
}

int stream_in_begin(int fd, const char kind[4], const struct stream_type *types, size_t n,
		    const struct stream_opts *opts, struct stream_in **ret, struct vps_err *err)
{
	struct stream_in *s __attribute__((cleanup(stream_in_freep))) = calloc(1, sizeof(*s));
	int r = s ? init(&s->s, fd, types, n, opts) : -ENOMEM;

	if (r == 0) {
		s->zstd = ZSTD_createDCtx();
		r = s->zstd ? 0 : -ENOMEM;
	}
	if (r < 0)
		return vps_err_sys(err, r, "read the stream");
	r = read_header(s, kind, err);
	if (r < 0)
		return r;
	*ret = take_ptr(s);
	return 0;
}

static int get_exactly(struct stream_in *s, void *buf, size_t len, struct vps_err *err)
{
	ssize_t n = get(&s->s, buf, len);

	if (n < 0)
		return vps_err_sys(err, (int)n, "read the stream");
	if ((size_t)n < len)
		return vps_err_set(err, ENODATA, "the stream is cut off after %llu bytes",
				   (unsigned long long)s->s.wire);
	return 0;
}

struct head {
	const struct stream_type *t;
	bool packed;
	uint32_t len, plain;
};

static int check_head(struct stream_in *s, const uint8_t rec[REC_LEN], struct head *ret, struct vps_err *err)
{
	unsigned type = (unsigned)stream_get_le(rec, 2), flags = (unsigned)stream_get_le(rec + 2, 2);
	struct head h = {
		.t = type_of(&s->s, type),
		.packed = flags & FLAG_ZSTD,
		.len = (uint32_t)stream_get_le(rec + 4, 4),
		.plain = (uint32_t)stream_get_le(rec + 8, 4),
	};

	if (!h.t)
		return vps_err_set(err, VPS_EBADIMAGE, "the stream has a record of type %u, which has no place here",
				   type);
	if (h.plain > h.t->max || h.plain > STREAM_RECORD_MAX || (flags & ~FLAG_ZSTD) ||
	    stream_get_le(rec + 12, 4) || (h.packed ? !h.t->bulk || h.len >= h.plain : h.len != h.plain))
		return vps_err_set(err, VPS_EBADIMAGE, "a record '%s' of the stream is against its rules (%u of %u "
				   "bytes, flags %u)", h.t->name, h.len, h.plain, flags);
	*ret = h;
	return 0;
}

/* The record's bytes, still as they are on the wire, against their sum. */
static int get_bytes(struct stream_in *s, const uint8_t rec[REC_LEN], const struct head *h, uint8_t *buf,
		     struct vps_err *err)
{
	uint8_t sum[SUM_LEN];
	struct iovec v = {buf, h->len};
	int r = get_exactly(s, buf, h->len, err);

	r = r ?: get_exactly(s, sum, SUM_LEN, err);
	if (r < 0)
		return r;
	r = sum_next(&s->s, rec, &v, 1);
	if (r < 0)
		return vps_err_sys(err, r, "checksum of the stream");
	if (memcmp(sum, s->s.sum, SUM_LEN) != 0)
		return vps_err_set(err, VPS_EDIGEST, "record %llu ('%s') of the stream was changed on its way: its "
				   "checksum is wrong", (unsigned long long)s->s.records + 1, h->t->name);
	return 0;
}

static int unpack(struct stream_in *s, const struct head *h, struct vps_err *err)
{
	size_t n = ZSTD_decompressDCtx(s->zstd, s->plain, h->plain, s->s.buf, h->len);

	if (ZSTD_isError(n) || n != h->plain)
		return vps_err_set(err, VPS_EBADIMAGE, "a record '%s' of the stream cannot be decompressed (%s)",
				   h->t->name, ZSTD_isError(n) ? ZSTD_getErrorName(n) : "another length");
	return 0;
}

static int check_end(struct stream_in *s, struct vps_err *err)
{
	if (stream_get_le(s->plain, 8) != s->s.records || stream_get_le(s->plain + 8, 8) != s->s.plain)
		return vps_err_set(err, VPS_EBADIMAGE, "the stream counts wrongly");
	s->ended = true;
	return 0;
}

/* One byte more than nothing, so that there is always an address. */
static int make_room(struct stream_in *s, const struct head *h, struct vps_err *err)
{
	int r = room(&s->plain, &s->plain_cap, h->plain + 1u);

	if (r == 0 && h->packed)
		r = room(&s->s.buf, &s->s.buf_cap, h->len + 1u);
	return r < 0 ? vps_err_sys(err, r, "read the stream") : 0;
}

static int next(struct stream_in *s, struct stream_rec *ret, struct vps_err *err)
{
	uint8_t rec[REC_LEN];
	struct head h = {0};
	int r = get_exactly(s, rec, REC_LEN, err);

	r = r ?: check_head(s, rec, &h, err);
	r = r ?: make_room(s, &h, err);
	if (r < 0)
		return r;
	r = get_bytes(s, rec, &h, h.packed ? s->s.buf : s->plain, err);
	if (r == 0 && h.packed)
		r = unpack(s, &h, err);
	if (r < 0)
		return r;
	if (h.t->type == END_TYPE)
		return h.plain == END_LEN ? check_end(s, err)
					  : vps_err_set(err, VPS_EBADIMAGE, "the stream's end is malformed");
	s->s.records++;
	s->s.plain += h.plain;
	*ret = (struct stream_rec){.type = h.t->type, .data = s->plain, .len = h.plain};
	return 1;
}

int stream_next(struct stream_in *s, struct stream_rec *ret, struct vps_err *err)
{
	int r;

	if (s->ended)
		return 0;
	if (s->failed)
		return vps_err_sys(err, s->failed, "read the stream");
	r = next(s, ret, err);
	if (r < 0)
		s->failed = r;
	return r;
}

static int pread_exactly(struct stream_in *s, void *buf, size_t len, uint64_t at, struct vps_err *err)
{
	int r = fs_pread_all(s->s.fd, buf, len, at);

	return r < 0 ? vps_err_sys(err, r, "read the stream") : 0;
}

int stream_read_at(struct stream_in *s, uint64_t at, struct stream_rec *ret, struct vps_err *err)
{
	uint8_t rec[REC_LEN];
	struct head h = {0};
	int r = pread_exactly(s, rec, REC_LEN, at, err);

	r = r ?: check_head(s, rec, &h, err);
	r = r ?: make_room(s, &h, err);
	r = r ?: pread_exactly(s, h.packed ? s->s.buf : s->plain, h.len, at + REC_LEN, err);
	if (r == 0 && h.packed)
		r = unpack(s, &h, err);
	if (r < 0)
		return r;
	*ret = (struct stream_rec){.type = h.t->type, .data = s->plain, .len = h.plain};
	return 0;
}

void stream_in_digest(const struct stream_in *s, char digest[DIGEST_LEN])
{
	sum_text(&s->s, digest);
}

uint64_t stream_in_bytes(const struct stream_in *s)
{
	return s->s.wire;
}

struct stream_in *stream_in_free(struct stream_in *s)
{
	if (s) {
		ZSTD_freeDCtx(s->zstd);
		free(s->plain);
		done(&s->s);
	}
	free(s);
	return NULL;
}
