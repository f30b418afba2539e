/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtio over MMIO, version 2 (virtio 1.2, 4.2.2), and what all our devices share. A vCPU reads
 * and writes registers; a loop, in a thread of its own, works on the queues when the eventfd kick
 * says so (KVM writes it on a notification, without leaving the kernel). lock is between the two,
 * except for the interrupt's status, which a vCPU must be able to read while a disk is slow.
 */
#ifndef VPS_VMM_VIRTIO_MMIO_H
#define VPS_VMM_VIRTIO_MMIO_H

#include <pthread.h>

#include "vmm/loop.h"
#include "vmm/virtqueue.h"

#define VDEV_MAX_QUEUES 4
#define VDEV_MMIO_SIZE	0x1000
#define VDEV_NOTIFY	0x50 /* the register that KVM's ioeventfd watches */

struct vdev;

struct vdev_ops {
	uint32_t id; /* virtio 1.2, 5 */
	uint8_t n_queues;
	uint16_t queue_size;
	/* All are called with the lock held and may be NULL; but for settle in the loop. */
	void (*start)(struct vdev *v);	 /* the driver is ready; features are agreed */
	void (*stop)(struct vdev *v);	 /* it was reset, or broke the rules; the rings are gone */
	void (*process)(struct vdev *v); /* a queue was notified */
	/* Wait for what was begun and is not in a queue's hands any more: by a vCPU that resets the
	 * device, before the rings are gone. May let go of the lock meanwhile. */
	void (*settle)(struct vdev *v);
};

/* The negotiation, as a snapshot keeps it. */
struct vdev_state {
	uint64_t acked; /* features the driver took */
	uint32_t status, isr;
	uint32_t device_sel, driver_sel, queue_sel;
	uint32_t generation; /* of the configuration */
};

struct vdev {
	const struct vdev_ops *ops;
	const struct gmem *mem;
	uint64_t offered; /* features */
	uint8_t *config;  /* little endian, the device's own */
	uint32_t config_len;
	uint32_t config_rw, config_rw_end; /* of it, what the driver may write */
	int irq_fd;
	bool live;     /* between start and stop */
	bool stop_due; /* the loop is to call stop first */
	struct loop_source kick;
	pthread_mutex_t lock;
	struct vdev_state s;
	struct vq vq[VDEV_MAX_QUEUES];
};

/* VERSION_1, indirect descriptors and the event index are offered in any case; ops and config stay
 * the caller's. 0 or -errno. */
int vdev_init(struct vdev *v, const struct vdev_ops *ops, const struct gmem *mem, uint64_t offered,
	      void *config, uint32_t config_len);
void vdev_done(struct vdev *v);
/* Take over what a snapshot kept, before vdev_attach. -EPROTO: no such state can be. */
int vdev_restore(struct vdev *v, const struct vdev_state *s, const struct vq_state *vq);

/* A vCPU's access at offset off of the device's window. Any width and alignment is answered. */
void vdev_read(struct vdev *v, uint64_t off, void *buf, uint32_t len);
void vdev_write(struct vdev *v, uint64_t off, const void *buf, uint32_t len);
/* Work on the queues in that loop from now on; what waits in them already is done first. 0 or
 * -errno. To end it: loop_remove of v->kick. */
int vdev_attach(struct vdev *v, struct loop *l);
/* What the loop does: stop, start, process, as is due. */
void vdev_kicked(struct vdev *v);

/* For devices, under the lock. */
static inline bool vdev_has(const struct vdev *v, unsigned feature)
{
	return v->s.acked >> feature & 1;
}
/* Hand the chains of q to fn, which pushes each or returns -EPROTO; after VDEV_AT_ONCE of them the
 * others in the loop have their turn first, so no guest can keep us here. */
#define VDEV_AT_ONCE 256
typedef int vdev_chain_fn(struct vdev *v, struct vq *q, const struct vq_chain *c);
void vdev_drain(struct vdev *v, struct vq *q, struct vq_chain *c, vdev_chain_fn *fn);
/* Come back to process soon. */
void vdev_kick(struct vdev *v);
/* Interrupt when the driver wants one for what was published on q. */
void vdev_signal(struct vdev *v, struct vq *q);
/* The configuration changed. */
void vdev_config_changed(struct vdev *v);
/* The driver broke the rules: stop until it resets us. */
void vdev_broken(struct vdev *v);

#endif
