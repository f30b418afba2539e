/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Backups from strangers, up to where bytes are handed on. An odd first byte: every sum is made right first. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/sys.h"
#include "runtime/migrate/backup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEADER 24u
#define REC    16u

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
	memcpy(p, "\x89VPSstr\n\1\0\0\0" BACKUP_KIND "\0\0\0\0\0\0\0\0", HEADER);
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

/* A whole one: with itself as what it is incremental to, references lead somewhere. */
static void read_again(int fd, struct chunk_set *set)
{
	struct backup_in b;
	struct piece p;
	uint64_t end = 0;

	if (lseek(fd, 0, SEEK_SET) < 0 || backup_in_open(fd, NULL, &b, NULL) < 0)
		abort(); /* it was right before */
	b.bases = calloc(1, sizeof(*b.bases));
	b.bases[0] = b.s;
	b.n_bases = 1;
	b.known = *set;
	while (backup_in_part(&b, NULL) > 0)
		for (end = 0; backup_in_piece(&b, &p, NULL) > 0; end = p.offset + p.len)
			if (p.offset < end || p.len > STREAM_CHUNK || (b.part == PART_BLOCKS && p.offset + p.len > b.size))
				abort();
	b.n_bases = 0;
	*set = b.known;
	memset(&b.known, 0, sizeof(b.known));
	backup_in_done(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	autoclose int fd = sys_memfd("backup", 0);
	struct chunk_set set = {0};
	struct backup_in in;
	uint8_t *copy;

	if (size < 1 || fd < 0)
		return 0;
	copy = malloc(size);
	if (!copy)
		return 0;
	memcpy(copy, data + 1, size - 1);
	if (data[0] & 1)
		mend(copy, size - 1);
	backup_in_init(&in);
	if (fs_write_all(fd, copy, size - 1) == 0 && lseek(fd, 0, SEEK_SET) == 0 &&
	    backup_scan(fd, 0, NULL, &set, &in, NULL) == 0) {
		backup_in_done(&in);
		read_again(fd, &set);
	}
	chunk_set_done(&set);
	free(copy);
	return 0;
}
