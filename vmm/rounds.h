/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A machine's memory as it was copied while it ran, in files, one a round. The first is all of it:
 *
 *     memory    from offset 0 on, zeroes as holes: as a snapshot's, to be mapped
 *     trailer   struct round_trailer
 *
 * and each that follows has what has changed since:
 *
 *     pages     those that are not zero, in their order
 *     bitmap    of the pages that this round has, a bit a page
 *     bitmap    of those of them that are in the file; the others are zero
 *     trailer
 *
 * A finished file is not changed any more. Whoever reads them checks all but the guest's own bytes.
 */
#ifndef VPS_VMM_ROUNDS_H
#define VPS_VMM_ROUNDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "vmm/memory.h"

#define ROUNDS_MAGIC   "VPSROUND"
#define ROUNDS_VERSION 1
#define ROUNDS_MAX     32

struct round_trailer {
	char magic[8];
	uint32_t version, number; /* from 1 on */
	uint64_t session;	  /* the same in all of one machine's pre-copy */
	uint64_t memory;	  /* bytes of the machine */
	uint64_t pages;		  /* in the file */
	uint64_t data_sum;	  /* snap_sum of each page in the file, mixed */
	uint64_t index_sum;	  /* of the bitmaps */
	uint64_t sum;		  /* of all before */
};

/* Words of 64 bits of a bitmap. */
static inline size_t rounds_words(uint64_t memory)
{
	return (size_t)((memory / GMEM_PAGE + 63) / 64);
}

/* ---- writing ---- */

#define ROUND_BUF (256u << 10)

struct round_out {
	int fd;
	uint64_t *in, *data; /* bitmaps, zeroed by round_begin */
	uint8_t *buf;	     /* of ROUND_BUF bytes */
	size_t len;	     /* of buf, to be written at at */
	uint64_t at, seen;
	struct round_trailer t;
};

/* fd, in, data and buf are there. */
void round_begin(struct round_out *o, uint32_t number, uint64_t session, uint64_t memory);
/* The next page, in order. A guest may be writing to it. */
int round_page(struct round_out *o, uint64_t page, const uint8_t *bytes);
int round_end(struct round_out *o);

/* ---- reading ---- */

/* n files, the first round's first, of a machine with that memory: whole, one session's, in this order? ret_sum: what
 * binds a snapshot to them. verify: read all of the pages, too. -EBADMSG, -VPS_EUSAGE, -VPS_EUNSUPPORTED. */
int rounds_check(const int *fds, size_t n, uint64_t memory, bool verify, uint64_t *ret_sum, struct vps_err *err);
/* Into memory that is mapped from the first one's file: what the others have. After rounds_check. */
int rounds_load(struct gmem *m, const int *fds, size_t n, struct vps_err *err);

#endif
