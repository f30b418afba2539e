/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Streams from strangers. An odd first byte: every sum is made right first, as a stranger can, so that what is
 * behind them is reached. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/sys.h"
#include "runtime/migrate/stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEADER 24u
#define REC    16u
#define FILE_SIZE (1u << 20)

static const struct stream_type types[] = {
	{1, 1000, false, "note"},
	{2, STREAM_FILE_MAX, true, "data"},
	{3, STREAM_HOLE_LEN, false, "hole"},
};

static void sum(uint8_t out[32], const uint8_t *chain, const uint8_t *p, size_t n)
{
	struct digest_ctx *d = digest_new();

	if (chain)
		digest_add(d, chain, 32);
	digest_add(d, p, n);
	if (digest_end_raw(d, out) < 0)
		abort();
}

static void mend(uint8_t *p, size_t n)
{
	uint8_t chain[32];

	if (n < HEADER)
		return;
	memcpy(p, "\x89VPSstr\n\1\0\0\0FUZZ\0\0\0\0\0\0\0\0", HEADER);
	sum(chain, NULL, p, HEADER);
	for (size_t at = HEADER; n - at >= REC + 32;) {
		uint64_t len = stream_get_le(p + at + 4, 4);

		if (len > n - at - REC - 32)
			return;
		sum(chain, chain, p + at, REC + len);
		memcpy(p + at + REC + len, chain, 32);
		at += REC + len + 32;
	}
}

static void read_all(int fd, int out)
{
	struct stream_file f = {.data = 2, .hole = 3, .size = FILE_SIZE};
	struct stream_in *s = NULL;
	struct stream_rec rec;
	struct stat st;
	int r = stream_in_begin(fd, "FUZZ", types, 3, NULL, &s, NULL);

	while (r >= 0 && (r = stream_next(s, &rec, NULL)) > 0)
		if (rec.type != 1 && stream_take_range(&f, &rec, out, NULL) < 0)
			break;
	if (f.at > f.size || fstat(out, &st) < 0 || st.st_size != FILE_SIZE)
		abort(); /* written beyond its end */
	stream_in_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	autoclose int fd = sys_memfd("stream", 0);
	autoclose int out = sys_memfd("out", 0);
	uint8_t *copy;

	if (size < 1 || fd < 0 || out < 0 || ftruncate(out, FILE_SIZE) < 0)
		return 0;
	copy = malloc(size);
	if (!copy)
		return 0;
	memcpy(copy, data + 1, size - 1);
	if (data[0] & 1)
		mend(copy, size - 1);
	if (fs_write_all(fd, copy, size - 1) == 0 && lseek(fd, 0, SEEK_SET) == 0)
		read_all(fd, out);
	free(copy);
	return 0;
}
