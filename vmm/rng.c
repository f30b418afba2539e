/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/rng.h"

#include <linux/virtio_ids.h>
#include <sys/random.h>

#define AT_ONCE 256	       /* bytes: of so few getrandom never gives less */
#define MOST	(16 * AT_ONCE) /* a request; the driver asks again */

static uint32_t fill(const struct gmem *m, const struct vq_chain *c)
{
	uint8_t buf[AT_ONCE];
	uint32_t done = 0;

	while (done < c->in_len && done < MOST) {
		ssize_t n = getrandom(buf, sizeof(buf), 0);

		if (n <= 0)
			break;
		done += (uint32_t)iov_write(m, c->iov + c->n_out, c->n_in, done, buf, (size_t)n);
	}
	return done;
}

static int one(struct vdev *v, struct vq *q, const struct vq_chain *c)
{
	vq_push(q, c->head, fill(v->mem, c));
	return 0;
}

static void process(struct vdev *v)
{
	vdev_drain(v, &v->vq[0], &container_of(v, struct rng, dev)->chain, one);
}

static const struct vdev_ops ops = {
	.id = VIRTIO_ID_RNG,
	.n_queues = 1,
	.queue_size = 16,
	.process = process,
};

int rng_init(struct rng *r, const struct gmem *mem)
{
	return vdev_init(&r->dev, &ops, mem, 0, NULL, 0);
}

void rng_done(struct rng *r)
{
	vdev_done(&r->dev);
}
