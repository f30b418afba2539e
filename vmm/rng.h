/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A virtio entropy source (virtio 1.2, 5.4) from getrandom(2). */
#ifndef VPS_VMM_RNG_H
#define VPS_VMM_RNG_H

#include "vmm/virtio_mmio.h"

struct rng {
	struct vdev dev;
	struct vq_chain chain;
};

int rng_init(struct rng *r, const struct gmem *mem);
void rng_done(struct rng *r);

#endif
