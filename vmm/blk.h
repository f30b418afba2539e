/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A virtio disk (virtio 1.2, 5.2) over a file or a block device. It works in its own thread, with
 * plain preadv and pwritev: a slow disk delays nothing but itself. What may take long (flush,
 * discard, zeroes) is done by a second thread, so that nobody's reads wait for it. */
#ifndef VPS_VMM_BLK_H
#define VPS_VMM_BLK_H

#include <linux/virtio_blk.h>

#include "vmm/loop.h"
#include "vmm/rate.h"
#include "vmm/virtio_mmio.h"

#define BLK_RANGES 16

struct blk_opts {
	int fd; /* stays the caller's */
	bool read_only;
	char serial[VIRTIO_BLK_ID_BYTES + 1]; /* the guest finds it in /dev/disk/by-id */
	uint64_t bytes_per_sec, ops_per_sec;  /* 0: no limit */
	bool filtered;			      /* the thread gets its filter (vmm/filter.h) */
};

/* Written by the disk's thread, read by any (blk_counts_of). */
struct blk_counts {
	uint64_t read_bytes, reads, written_bytes, writes, flushes, errors;
};

#define BLK_SLOW 8 /* requests for the second thread; one more is done by the first */

struct blk_slow {
	uint32_t type;
	uint16_t head;
	bool only_status; /* all that the driver may read of the answer */
	uint8_t *status;  /* in the guest's memory */
	unsigned n;
	struct virtio_blk_discard_write_zeroes range[BLK_RANGES];
};

struct blk {
	struct vdev dev;
	struct virtio_blk_config config;
	int fd;
	bool read_only;
	char serial[VIRTIO_BLK_ID_BYTES];
	struct rate bytes, ops;
	struct blk_counts counts;
	uint64_t wait_ns; /* until the rate allows the next request; 0: idle */
	struct loop loop;
	struct loop_source timer;
	pthread_t thread;
	/* The second thread, and from slow_at on what it has to do: the first is being done. */
	pthread_t helper;
	pthread_cond_t work, idle;
	struct blk_slow slow[BLK_SLOW];
	unsigned slow_at, n_slow;
	bool helps, quit;
	bool in_thread, filtered;
	bool held;	       /* begins no request */
	uint64_t *log;	       /* of the first log_blocks blocks: a bit for each that was written; NULL: nobody asks */
	uint64_t log_blocks;
	struct vq_chain chain; /* of the request at hand */
	struct iovec data[VQ_MAX_SIZE];
};

/* The capacity is the file's size now, in whole sectors. */
int blk_init(struct blk *b, const struct gmem *mem, const struct blk_opts *o, struct vps_err *err);
void blk_done(struct blk *b);
/* From any thread, at any time: limits from now on, 0: none. */
void blk_set_rate(struct blk *b, uint64_t bytes_per_sec, uint64_t ops_per_sec);
void blk_counts_of(struct blk *b, struct blk_counts *ret);
/* From any thread: begin no more requests and wait for the one at hand; go on. */
void blk_hold(struct blk *b, bool hold);
/* From any thread: the file has grown. -EINVAL: it has shrunk. */
int blk_grow(struct blk *b, struct vps_err *err);
/* From any thread: which blocks of VMM_LOG_BLOCK bytes were written, discarded or made zero since the last call: a bit each to
 * fd, an empty file, the lowest of a byte first. The first call begins that: all of them. After a failure, and
 * blk_log_end, nothing is noted any more. */
int blk_log(struct blk *b, int fd, struct vps_err *err);
void blk_log_end(struct blk *b);
/* Begin and end the thread. A stopped disk has no request half done. */
int blk_start(struct blk *b, struct vps_err *err);
void blk_stop(struct blk *b);

#endif
