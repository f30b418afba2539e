/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fs_copy_data: sparse-aware copying. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"

#define COPY_BUF   (64u << 10)
#define COPY_CHUNK (1u << 30) /* copy_file_range takes no more than 2 GiB at once */

/* Bytes copied, 0 when this pair of files cannot (or in is at its end), -errno. */
static ssize_t copy_in_kernel(int in, int out, uint64_t len)
{
	ssize_t n;

	do {
		n = copy_file_range(in, NULL, out, NULL, len < COPY_CHUNK ? len : COPY_CHUNK, 0);
	} while (n < 0 && errno == EINTR);
	if (n >= 0)
		return n;
	switch (errno) {
	case EXDEV:
	case EINVAL:
	case EOPNOTSUPP:
	case ENOSYS:
	case EPERM:
	case EBADF: /* O_APPEND */
	case ETXTBSY:
		return 0;
	default:
		return -errno;
	}
}

static int copy_by_buffer(int in, int out, uint64_t len)
{
	autofree char *buf = malloc(COPY_BUF);

	if (!buf)
		return -ENOMEM;
	while (len > 0) {
		ssize_t n = fs_read_full(in, buf, len < COPY_BUF ? len : COPY_BUF);

		if (n <= 0)
			return n < 0 ? (int)n : -ENODATA;

		int r = fs_write_all(out, buf, (size_t)n);

		if (r < 0)
			return r;
		len -= (uint64_t)n;
	}
	return 0;
}

static int copy_range(int in, int out, uint64_t len)
{
	while (len > 0) {
		ssize_t n = copy_in_kernel(in, out, len);

		if (n < 0)
			return (int)n;
		if (n == 0)
			return copy_by_buffer(in, out, len);
		len -= (uint64_t)n;
	}
	return 0;
}

static int write_zeros(int out, uint64_t len)
{
	static const char zeros[4096];

	while (len > 0) {
		size_t n = len < sizeof(zeros) ? len : sizeof(zeros);
		int r = fs_write_all(out, zeros, n);

		if (r < 0)
			return r;
		len -= n;
	}
	return 0;
}

/* Move out's offset over len bytes that read as zeros, without taking space. */
static int skip_hole(int out, uint64_t len)
{
	off_t at = lseek(out, 0, SEEK_CUR);
	off_t end = at + (off_t)len;
	struct stat st;

	if (at < 0 || fstat(out, &st) < 0)
		return -errno;
	if (st.st_size > at &&
	    fallocate(out, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, (off_t)len) < 0)
		return errno == EOPNOTSUPP ? write_zeros(out, len) : -errno;
	if (st.st_size < end && ftruncate(out, end) < 0)
		return -errno;
	return lseek(out, end, SEEK_SET) < 0 ? -errno : 0;
}

/* Length of the run of data (*hole false) or of the hole at in's offset, at most len.
 * Where the file system cannot tell, everything is data. */
static int next_run(int in, uint64_t len, uint64_t *run, bool *hole)
{
	off_t at = lseek(in, 0, SEEK_CUR), next;
	struct stat st;

	if (at < 0 || fstat(in, &st) < 0)
		return -errno;
	if (at >= st.st_size)
		return -ENODATA;

	off_t data = lseek(in, at, SEEK_DATA);

	if (data < 0 && errno != ENXIO)
		data = at; /* not supported */
	if (data < 0 || data > at) {
		*hole = true;
		next = data < 0 ? st.st_size : data;
	} else {
		*hole = false;
		next = lseek(in, at, SEEK_HOLE);
		if (next <= at)
			next = st.st_size;
	}
	if (lseek(in, at, SEEK_SET) < 0)
		return -errno;
	*run = (uint64_t)(next - at) < len ? (uint64_t)(next - at) : len;
	return 0;
}

static bool is_sparse_pair(int in, int out)
{
	struct stat a, b;
	int flags = fcntl(out, F_GETFL);

	return fstat(in, &a) == 0 && fstat(out, &b) == 0 && S_ISREG(a.st_mode) &&
	       S_ISREG(b.st_mode) && a.st_size > 0 && flags >= 0 && !(flags & O_APPEND);
}

int fs_copy_data(int in, int out, uint64_t len)
{
	if (!is_sparse_pair(in, out))
		return copy_range(in, out, len);
	while (len > 0) {
		uint64_t run = 0;
		bool hole = false;
		int r = next_run(in, len, &run, &hole);

		if (r == 0 && hole) {
			r = skip_hole(out, run);
			if (r == 0 && lseek(in, (off_t)run, SEEK_CUR) < 0)
				r = -errno;
		} else if (r == 0) {
			r = copy_range(in, out, run);
		}
		if (r < 0)
			return r;
		len -= run;
	}
	return 0;
}
