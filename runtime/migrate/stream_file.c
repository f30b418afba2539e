// SPDX-License-Identifier: GPL-2.0-or-later
/* Sparse files as records. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "runtime/migrate/stream.h"

#define BLOCK 4096u

static bool is_zero(const uint8_t *p, size_t len)
{
	return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

static int put_hole(struct stream_out *s, struct stream_file *f, uint64_t at, uint64_t len, struct vps_err *err)
{
	uint8_t rec[STREAM_HOLE_LEN];
	int r;

	stream_put_le(rec, at, 8);
	stream_put_le(rec + 8, len, 8);
	r = stream_put(s, f->hole, rec, sizeof(rec), err);
	f->at = at + len;
	return r;
}

static int put_data(struct stream_out *s, struct stream_file *f, uint64_t at, const uint8_t *p, size_t len,
		    struct vps_err *err)
{
	uint8_t head[STREAM_FILE_HEAD];
	int r;

	stream_put_le(head, at, 8);
	r = stream_put2(s, f->data, head, sizeof(head), p, len, err);
	f->at = at + len;
	return r;
}

/* A chunk in memory: runs of blocks that are zeros, and of blocks that are not. */
static int put_chunk(struct stream_out *s, struct stream_file *f, uint64_t at, const uint8_t *p, size_t len,
		     bool say_holes, struct vps_err *err)
{
	size_t i = 0;

	while (i < len) {
		size_t end = i;
		bool zero = is_zero(p + i, len - i < BLOCK ? len - i : BLOCK);
		int r = 0;

		do
			end += len - end < BLOCK ? len - end : BLOCK;
		while (end < len && zero == is_zero(p + end, len - end < BLOCK ? len - end : BLOCK));
		if (!zero)
			r = put_data(s, f, at + i, p + i, end - i, err);
		else if (say_holes)
			r = put_hole(s, f, at + i, end - i, err);
		if (r < 0)
			return r;
		i = end;
	}
	return 0;
}

/* Where the next data begins, at most end; where the file system cannot tell, here. */
static uint64_t next_data(int fd, uint64_t at, uint64_t end)
{
	off_t d = lseek(fd, (off_t)at, SEEK_DATA);

	if (d < 0)
		return errno == ENXIO ? end : at;
	return (uint64_t)d < end ? (uint64_t)d : end;
}

static uint64_t next_hole(int fd, uint64_t at, uint64_t end)
{
	off_t h = lseek(fd, (off_t)at, SEEK_HOLE);

	return h <= (off_t)at || (uint64_t)h > end ? end : (uint64_t)h;
}

int stream_put_range(struct stream_out *s, struct stream_file *f, int fd, uint64_t offset, uint64_t len,
		     bool say_holes, const struct progress *p, const char *what, struct vps_err *err)
{
	const uint64_t end = offset + len;
	autofree uint8_t *buf = malloc(STREAM_CHUNK);
	struct stat st;
	int r = !buf ? -ENOMEM : fstat(fd, &st) < 0 ? -errno : (uint64_t)st.st_size < end ? -ENODATA : 0;

	if (r < 0)
		return vps_err_sys(err, r, "%s", what);
	for (uint64_t at = offset, data_end = offset; at < end;) {
		size_t n;

		if (at >= data_end) {
			uint64_t data = next_data(fd, at, end);

			if (data > at && say_holes)
				r = put_hole(s, f, at, data - at, err);
			if (r < 0)
				return r;
			at = data;
			data_end = next_hole(fd, at, end);
		}
		n = data_end - at < STREAM_CHUNK ? (size_t)(data_end - at) : STREAM_CHUNK;
		r = fs_pread_all(fd, buf, n, at);
		if (r < 0)
			return vps_err_sys(err, r, "%s", what);
		r = put_chunk(s, f, at, buf, n, say_holes, err);
		if (r < 0)
			return r;
		at += n;
		if (progress_tell(p, 0, what, at, f->size))
			return vps_err_set(err, VPS_EINTERRUPTED, "interrupted");
	}
	return 0;
}

static int punch(int fd, uint64_t at, uint64_t len)
{
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)len) == 0)
		return 0;
	return errno == EOPNOTSUPP && fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, (off_t)at,
						(off_t)len) == 0 ? 0 : -errno;
}

int stream_take_range(struct stream_file *f, const struct stream_rec *rec, int fd, struct vps_err *err)
{
	bool hole = rec->type == f->hole;
	uint64_t at, len;
	int r;

	if (hole ? rec->len != STREAM_HOLE_LEN : rec->len <= STREAM_FILE_HEAD)
		return vps_err_set(err, VPS_EBADIMAGE, "a malformed part of a disk");
	at = stream_get_le(rec->data, 8);
	len = hole ? stream_get_le(rec->data + 8, 8) : rec->len - STREAM_FILE_HEAD;
	if (at < f->at || at > f->size || len > f->size - at || len == 0)
		return vps_err_set(err, VPS_EBADIMAGE, "a part of a disk is out of order or beyond its end");
	r = hole ? punch(fd, at, len) : fs_pwrite_all(fd, rec->data + STREAM_FILE_HEAD, (size_t)len, at);
	if (r < 0)
		return vps_err_sys(err, r, "write the disk");
	f->at = at + len;
	return 0;
}
