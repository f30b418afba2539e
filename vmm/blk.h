/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A virtio disk (virtio 1.2, 5.2) over a file or a block device. It works in its own thread, with
 * plain preadv and pwritev: a slow disk delays nothing but itself. */
#ifndef VPS_VMM_BLK_H
#define VPS_VMM_BLK_H

#include <linux/virtio_blk.h>

#include "vmm/loop.h"
#include "vmm/rate.h"
#include "vmm/virtio_mmio.h"

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
	bool in_thread, filtered;
	bool held;	       /* begins no request */
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
/* Begin and end the thread. A stopped disk has no request half done. */
int blk_start(struct blk *b, struct vps_err *err);
void blk_stop(struct blk *b);

#endif
