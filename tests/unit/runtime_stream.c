/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Streams: there and back, every byte changed, every length cut off, liars, sparse files. */
#include "base_util.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sys.h"
#include "runtime/migrate/stream.h"

enum { T_NOTE = 1, T_DATA, T_HOLE };
static const struct stream_type types[] = {
	{T_NOTE, 1000, false, "note"},
	{T_DATA, STREAM_FILE_MAX, true, "data"},
	{T_HOLE, STREAM_HOLE_LEN, false, "hole"},
};
#define KIND "TEST"

static const struct stream_opts packed = {.level = 3};

static struct stream_out *begin(int fd, const struct stream_opts *o)
{
	struct stream_out *s = NULL;
	struct vps_err err = {0};

	if (stream_out_begin(fd, KIND, types, ARRAY_LEN(types), o, &s, &err) < 0)
		fail_msg("%s", err.msg);
	return s;
}

static int open_in(int fd, struct stream_in **ret, struct vps_err *err)
{
	assert_true(lseek(fd, 0, SEEK_SET) == 0);
	return stream_in_begin(fd, KIND, types, ARRAY_LEN(types), NULL, ret, err);
}

/* Two notes, one of them empty, and something that compresses; the digest. */
static void write_small(int fd, const struct stream_opts *o, char digest[DIGEST_LEN])
{
	struct stream_out *s = begin(fd, o);
	char big[5000];

	memset(big, 'x', sizeof(big));
	assert_int_equal(stream_put(s, T_NOTE, "hello", 5, NULL), 0);
	assert_int_equal(stream_put(s, T_NOTE, NULL, 0, NULL), 0);
	assert_int_equal(stream_put2(s, T_DATA, "01234567", 8, big, sizeof(big), NULL), 0);
	assert_int_equal(stream_out_end(s, digest, NULL), 0);
	assert_int_equal(stream_out_bytes(s), lseek(fd, 0, SEEK_CUR));
	stream_out_free(s);
}

/* 0 when the stream is read to its end, else what stopped it. */
static int read_all(int fd, unsigned *ret_n, char digest[DIGEST_LEN], struct vps_err *err)
{
	struct stream_in *s __attribute__((cleanup(stream_in_freep))) = NULL;
	struct stream_rec rec;
	int r = open_in(fd, &s, err);

	for (*ret_n = 0; r == 0; ++*ret_n) {
		r = stream_next(s, &rec, err);
		if (r == 0)
			break;
		if (r < 0) {
			/* and for good */
			assert_int_equal(stream_next(s, &rec, NULL), r);
			return r;
		}
		r = 0;
	}
	if (r == 0 && digest)
		stream_in_digest(s, digest);
	return r;
}

static void there_and_back(void **state)
{
	for (int level = 0; level <= 3; level += 3) {
		struct stream_opts o = {.level = level};
		struct stream_in *s = NULL;
		struct stream_rec rec;
		struct vps_err err = {0};
		char d1[DIGEST_LEN], d2[DIGEST_LEN];
		autoclose int fd = sys_memfd("stream", 0);

		write_small(fd, &o, d1);
		if (level)
			assert_in_range(lseek(fd, 0, SEEK_END), 200, 600);
		if (open_in(fd, &s, &err) < 0)
			fail_msg("%s", err.msg);
		assert_int_equal(stream_next(s, &rec, &err), 1);
		assert_int_equal(rec.type, T_NOTE);
		assert_int_equal(rec.len, 5);
		assert_memory_equal(rec.data, "hello", 5);
		assert_int_equal(stream_next(s, &rec, &err), 1);
		assert_int_equal(rec.len, 0);
		assert_int_equal(stream_next(s, &rec, &err), 1);
		assert_int_equal(rec.len, 5008);
		assert_memory_equal(rec.data, "01234567xxx", 11);
		assert_int_equal(stream_next(s, &rec, &err), 0);
		assert_int_equal(stream_next(s, &rec, &err), 0);
		stream_in_digest(s, d2);
		assert_true(digest_valid(d1));
		assert_string_equal(d1, d2);
		assert_int_equal(stream_in_bytes(s), lseek(fd, 0, SEEK_END));
		stream_in_free(s);
	}
}

static void any_byte_changed(void **state)
{
	char d[DIGEST_LEN];
	autoclose int fd = sys_memfd("stream", 0);
	unsigned n;

	write_small(fd, &packed, d);
	for (off_t at = 0, end = lseek(fd, 0, SEEK_END); at < end; at++) {
		struct vps_err err = {0};
		uint8_t was, now;

		assert_int_equal(pread(fd, &was, 1, at), 1);
		now = was ^ 0x10;
		assert_int_equal(pwrite(fd, &now, 1, at), 1);
		if (read_all(fd, &n, NULL, &err) == 0)
			fail_msg("byte %ld", (long)at);
		assert_true(err.code == VPS_EDIGEST || err.code == VPS_EBADIMAGE || err.code == ENODATA);
		assert_int_equal(pwrite(fd, &was, 1, at), 1);
	}
	assert_int_equal(read_all(fd, &n, NULL, NULL), 0);
	assert_int_equal(n, 3);
}

static void cut_off_anywhere(void **state)
{
	char d[DIGEST_LEN];
	autoclose int fd = sys_memfd("stream", 0);
	unsigned n;

	write_small(fd, &packed, d);
	for (off_t at = lseek(fd, 0, SEEK_END) - 1; at >= 0; at--) {
		struct vps_err err = {0};
		int r;

		assert_int_equal(ftruncate(fd, at), 0);
		r = read_all(fd, &n, NULL, &err);
		assert_int_equal(r, at < 24 ? -VPS_EBADIMAGE : -ENODATA);
	}
}

/* What was repeated, left out or moved has right bytes at a wrong place. */
static void records_in_order(void **state)
{
	char d[DIGEST_LEN], a[5 + 48], b[48];
	autoclose int fd = sys_memfd("stream", 0);
	struct vps_err err = {0};
	unsigned n;

	write_small(fd, NULL, d);
	assert_int_equal(pread(fd, a, sizeof(a), 24), sizeof(a));
	assert_int_equal(pread(fd, b, sizeof(b), 24 + sizeof(a)), sizeof(b));
	assert_int_equal(pwrite(fd, b, sizeof(b), 24), sizeof(b));
	assert_int_equal(pwrite(fd, a, sizeof(a), 24 + sizeof(b)), sizeof(a));
	assert_int_equal(read_all(fd, &n, NULL, &err), -VPS_EDIGEST);
	assert_int_equal(n, 0);
}

/* A writer that knows the format and means ill: sums are right, the head lies. */
static int forge(unsigned type, unsigned flags, uint32_t len, uint32_t plain, uint32_t zero, struct vps_err *err)
{
	autoclose int fd = sys_memfd("stream", 0);
	uint8_t head[24] = "\x89VPSstr\n\1\0\0\0" KIND, rec[16] = {0}, sum[32], body[64] = {0};
	struct digest_ctx *h = digest_new();
	unsigned n;

	digest_add(h, head, sizeof(head));
	assert_int_equal(digest_end_raw(h, sum), 0);
	stream_put_le(rec, type, 2);
	stream_put_le(rec + 2, flags, 2);
	stream_put_le(rec + 4, len, 4);
	stream_put_le(rec + 8, plain, 4);
	stream_put_le(rec + 12, zero, 4);
	h = digest_new();
	digest_add(h, sum, sizeof(sum));
	digest_add(h, rec, sizeof(rec));
	digest_add(h, body, len < sizeof(body) ? len : sizeof(body));
	assert_int_equal(digest_end_raw(h, sum), 0);
	assert_int_equal(fs_write_all(fd, head, sizeof(head)), 0);
	assert_int_equal(fs_write_all(fd, rec, sizeof(rec)), 0);
	assert_int_equal(fs_write_all(fd, body, len < sizeof(body) ? len : sizeof(body)), 0);
	assert_int_equal(fs_write_all(fd, sum, sizeof(sum)), 0);
	return read_all(fd, &n, NULL, err);
}

static void liars(void **state)
{
	struct vps_err err = {0};

	assert_int_equal(forge(T_NOTE, 0, 10, 10, 0, &err), -ENODATA); /* right, but no end */
	static const struct {
		unsigned type, flags;
		uint32_t len, plain, zero;
	} lies[] = {
		{9, 0, 10, 10, 0},		/* no such type */
		{T_NOTE, 0, 1001, 1001, 0},	/* above its bound */
		{T_NOTE, 0, UINT32_MAX, UINT32_MAX, 0},
		{T_NOTE, 0, 10, 11, 0},		/* plain, of two lengths */
		{T_NOTE, 1, 10, 100, 0},	/* compressed, though it may not be */
		{T_NOTE, 2, 10, 10, 0},		/* unknown flag */
		{T_NOTE, 0, 10, 10, 1},
		{T_DATA, 1, 10, 1000, 0},	/* not zstd */
		{T_DATA, 1, 10, UINT32_MAX, 0}, /* a bomb */
		{T_DATA, 1, 10, 10, 0},
		{0, 0, 8, 8, 0},		/* a short end */
		{0, 0, 16, 16, 0},		/* counts 0 records: right; see below */
	};
	for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
		bool right = i == ARRAY_LEN(lies) - 1;

		vps_err_clear(&err);
		assert_int_equal(forge(lies[i].type, lies[i].flags, lies[i].len, lies[i].plain, lies[i].zero, &err),
				 right ? 0 : -VPS_EBADIMAGE);
	}
}

static void other_kinds(void **state)
{
	char d[DIGEST_LEN];
	autoclose int fd = sys_memfd("stream", 0);
	struct stream_in *s = NULL;
	struct vps_err err = {0};

	write_small(fd, NULL, d);
	assert_true(lseek(fd, 0, SEEK_SET) == 0);
	assert_int_equal(stream_in_begin(fd, "ELSE", types, 3, NULL, &s, &err), -VPS_EBADIMAGE);
	assert_int_equal(pwrite(fd, "\2", 1, 8), 1);
	vps_err_clear(&err);
	assert_int_equal(open_in(fd, &s, &err), -VPS_EBADIMAGE);
	assert_non_null(strstr(err.msg, "version 2"));
	assert_null(s);
	struct stream_out *o = begin(fd, NULL);
	char big[1001] = {0};
	assert_int_equal(stream_put(o, T_NOTE, big, sizeof(big), NULL), -EMSGSIZE);
	assert_int_equal(stream_put(o, 9, big, 1, NULL), -EMSGSIZE);
	assert_int_equal(stream_put(o, 0, big, 1, NULL), -EMSGSIZE);
	stream_out_free(o);
}

static bool never(void *arg)
{
	return ++*(int *)arg > 2;
}

static void waits_end(void **state)
{
	struct stream_opts o = {.timeout_ms = 100}, stop = {.stop = never};
	struct stream_in *s = NULL;
	int fds[2], asked = 0;

	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(stream_in_begin(fds[0], KIND, types, 3, &o, &s, NULL), -VPS_ETIMEDOUT);
	stop.arg = &asked;
	assert_int_equal(stream_in_begin(fds[0], KIND, types, 3, &stop, &s, NULL), -VPS_EINTERRUPTED);
	/* a reader that reads nothing */
	struct stream_out *out = NULL;
	char chunk[1000];
	int r = stream_out_begin(fds[1], KIND, types, 3, &o, &out, NULL);
	memset(chunk, 1, sizeof(chunk));
	while (r == 0)
		r = stream_put(out, T_NOTE, chunk, sizeof(chunk), NULL);
	assert_int_equal(r, -VPS_ETIMEDOUT);
	close(fds[0]);
	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(stream_put(out, T_NOTE, chunk, 1, NULL), -EPIPE);
	stream_out_free(out);
	close(fds[1]);
}

/* ---- files ---- */

#define SIZE (8u << 20)

static struct stream_file file_of(uint64_t size)
{
	return (struct stream_file){.data = T_DATA, .hole = T_HOLE, .size = size};
}

static void take(int fd, int out, uint64_t size)
{
	struct stream_file f = file_of(size);
	struct stream_in *s = NULL;
	struct stream_rec rec;
	struct vps_err err = {0};
	int r = open_in(fd, &s, &err);

	while (r >= 0 && (r = stream_next(s, &rec, &err)) > 0)
		r = stream_take_range(&f, &rec, out, &err);
	if (r < 0)
		fail_msg("%s", err.msg);
	stream_in_free(s);
}

static void assert_same(int a, int b)
{
	autofree char *x = malloc(SIZE), *y = malloc(SIZE);

	assert_int_equal(pread(a, x, SIZE, 0), SIZE);
	assert_int_equal(pread(b, y, SIZE, 0), SIZE);
	assert_memory_equal(x, y, SIZE);
}

static uint64_t blocks(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void sparse_file(void **state)
{
	struct test_dir *t = *state;
	autoclose int in = openat(t->fd, "in", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	autoclose int out = openat(t->fd, "out", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	autoclose int stream = openat(t->fd, "s", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct stream_file f = file_of(SIZE);
	struct stream_out *s;
	struct vps_err err = {0};
	char page[4096], zeros[4096] = {0};

	memset(page, 'p', sizeof(page));
	assert_int_equal(ftruncate(in, SIZE), 0);
	assert_int_equal(ftruncate(out, SIZE), 0);
	assert_int_equal(pwrite(in, page, 4096, 0), 4096);
	assert_int_equal(pwrite(in, page, 100, 3 << 20), 100);
	assert_int_equal(pwrite(in, zeros, 4096, 5 << 20), 4096); /* written, and still nothing */
	assert_int_equal(pwrite(in, page, 4096, SIZE - 4096), 4096);
	assert_int_equal(pwrite(out, page, 4096, 4 << 20), 4096); /* is to become a hole */

	s = begin(stream, &packed);
	if (stream_put_range(s, &f, in, 0, SIZE, true, NULL, "file", &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(stream_out_end(s, NULL, &err), 0);
	stream_out_free(s);
	assert_true(lseek(stream, 0, SEEK_END) < 1500);
	take(stream, out, SIZE);
	assert_same(in, out);
	assert_true(blocks(out) <= 16384);

	/* Only a part of it, of what changed. */
	assert_int_equal(pwrite(in, page, 4096, 2 << 20), 4096);
	assert_int_equal(ftruncate(stream, 0), 0);
	assert_true(lseek(stream, 0, SEEK_SET) == 0);
	s = begin(stream, NULL);
	f = file_of(SIZE);
	assert_int_equal(stream_put_range(s, &f, in, 2 << 20, 1 << 20, true, NULL, "file", &err), 0);
	assert_int_equal(stream_out_end(s, NULL, &err), 0);
	stream_out_free(s);
	take(stream, out, SIZE);
	assert_same(in, out);
	f = file_of(SIZE);
	s = begin(stream, NULL);
	assert_int_equal(stream_put_range(s, &f, in, 0, SIZE + 1, true, NULL, "file", &err), -ENODATA);
	stream_out_free(s);
}

static void hostile_ranges(void **state)
{
	autoclose int fd = sys_memfd("out", 0);
	uint8_t b[40] = {0};
	struct stream_file f = file_of(100);
	struct stream_rec data = {T_DATA, b, sizeof(b)}, hole = {T_HOLE, b, STREAM_HOLE_LEN};

	assert_int_equal(ftruncate(fd, 100), 0);
	stream_put_le(b, 60, 8);
	assert_int_equal(stream_take_range(&f, &data, fd, NULL), 0);
	assert_int_equal(f.at, 92);
	assert_int_equal(stream_take_range(&f, &data, fd, NULL), -VPS_EBADIMAGE); /* again */
	f.at = 0;
	stream_put_le(b, 69, 8);
	assert_int_equal(stream_take_range(&f, &data, fd, NULL), -VPS_EBADIMAGE); /* one beyond */
	stream_put_le(b, UINT64_MAX - 3, 8);
	assert_int_equal(stream_take_range(&f, &data, fd, NULL), -VPS_EBADIMAGE); /* wraps */
	stream_put_le(b, 10, 8);
	stream_put_le(b + 8, UINT64_MAX - 5, 8);
	assert_int_equal(stream_take_range(&f, &hole, fd, NULL), -VPS_EBADIMAGE);
	stream_put_le(b + 8, 0, 8);
	assert_int_equal(stream_take_range(&f, &hole, fd, NULL), -VPS_EBADIMAGE);
	hole.len = 15;
	assert_int_equal(stream_take_range(&f, &hole, fd, NULL), -VPS_EBADIMAGE);
	data.len = 8;
	assert_int_equal(stream_take_range(&f, &data, fd, NULL), -VPS_EBADIMAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(there_and_back),
		cmocka_unit_test(any_byte_changed),
		cmocka_unit_test(cut_off_anywhere),
		cmocka_unit_test(records_in_order),
		cmocka_unit_test(liars),
		cmocka_unit_test(other_kinds),
		cmocka_unit_test(waits_end),
		dir_test(sparse_file),
		cmocka_unit_test(hostile_ranges),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
