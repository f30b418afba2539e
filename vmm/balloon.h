/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A virtio memory balloon (virtio 1.2, 5.5): takes pages from a running guest and gives them to the
 * host, tells the guest's own view of its memory, and returns what the guest reports as free. */
#ifndef VPS_VMM_BALLOON_H
#define VPS_VMM_BALLOON_H

#include <linux/virtio_balloon.h>

#include "vmm/virtio_mmio.h"

struct balloon_stats {
	uint64_t v[VIRTIO_BALLOON_S_NR]; /* by VIRTIO_BALLOON_S_*; UINT64_MAX: not told */
};

struct balloon {
	struct vdev dev;
	struct virtio_balloon_config config;
	struct vq_chain chain;
	struct balloon_stats stats;
	uint64_t told;	    /* when, sys_now_mono; 0: never */
	bool has_stats_buf; /* the guest waits for us to ask again */
	uint16_t stats_head;
	uint64_t inflated; /* bytes given back by inflating, over all times */
	uint64_t reported; /* bytes given back by free page reporting */
};

int balloon_init(struct balloon *b, const struct gmem *mem);
void balloon_done(struct balloon *b);
/* What a snapshot keeps besides vdev_state, and its way back, behind vdev_restore. */
struct balloon_state {
	struct virtio_balloon_config config;
	uint32_t stats_head, has_stats_buf;
};
void balloon_save(struct balloon *b, struct balloon_state *ret);
void balloon_restore(struct balloon *b, const struct balloon_state *s);
/* From any thread: how many bytes the balloon should take from the guest. */
void balloon_set(struct balloon *b, uint64_t bytes);
uint64_t balloon_target(struct balloon *b);
/* What the guest says it has taken so far. */
uint64_t balloon_actual(struct balloon *b);
/* The statistics told last and when (sys_now_mono, 0: never), and ask for new ones. */
uint64_t balloon_get_stats(struct balloon *b, struct balloon_stats *ret);

#endif
