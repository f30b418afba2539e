/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Split virtqueues (virtio 1.2, 2.7): the device's side, for rings in memory that a hostile guest
 * writes at any time. Each descriptor is copied once; a chain has at most as many descriptors as
 * the queue, its buffers lie in guest memory, readable before writable, at most 4 GiB less one.
 * Anything else is -EPROTO, and the device then stops until the driver resets it.
 */
#ifndef VPS_VMM_VIRTQUEUE_H
#define VPS_VMM_VIRTQUEUE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/memory.h"

#define VQ_MAX_SIZE 256

/* All that a snapshot keeps of a queue. */
struct vq_state {
	uint64_t desc, driver, device; /* guest addresses of table, available and used ring */
	uint16_t size;
	uint16_t next_avail, next_used;
	uint16_t signalled; /* used index when we last interrupted */
	uint8_t ready, event_idx, indirect, pad[5];
};

struct vq {
	struct vq_state s;
	uint16_t max;
	const struct gmem *mem;
	/* Host addresses, checked by vq_start. */
	const uint8_t *desc;
	uint16_t *avail, *used;
};

struct vq_chain {
	uint16_t head;
	uint16_t n_out, n_in; /* iov: first what the driver wrote, then what we may write */
	uint32_t out_len, in_len;
	struct iovec iov[VQ_MAX_SIZE];
};

/* Check what the driver told (s.size and addresses) and begin, or go on with restored indices.
 * 0 or -EPROTO. */
int vq_start(struct vq *q, const struct gmem *mem);
/* Forget the ring; s is zeroed except s.size, which is max again. */
void vq_reset(struct vq *q);

/* The next available chain: 1, 0 when there is none, -EPROTO. */
int vq_pop(struct vq *q, struct vq_chain *ret);
/* Take the last n pops back. */
static inline void vq_unpop(struct vq *q, uint16_t n)
{
	q->s.next_avail -= n;
}
/* Put a chain at place i (from 0) behind the published used entries; vq_publish shows n of them to
 * the driver at once. */
void vq_put(struct vq *q, uint16_t i, uint16_t head, uint32_t written);
void vq_publish(struct vq *q, uint16_t n);
static inline void vq_push(struct vq *q, uint16_t head, uint32_t written)
{
	vq_put(q, 0, head, written);
	vq_publish(q, 1);
}
/* Whether the driver wants an interrupt for what was published since the last true. */
bool vq_wants_signal(struct vq *q);
/* Ask for no notifications while we poll; ask for them again. The latter is true when chains came
 * in between: poll on. */
void vq_quiet(struct vq *q);
bool vq_listen(struct vq *q);

/* Copy between iov[0..n) from byte off on and a buffer; the bytes copied. */
size_t iov_read(const struct iovec *iov, size_t n, size_t off, void *buf, size_t len);
size_t iov_write(const struct gmem *m, const struct iovec *iov, size_t n, size_t off, const void *buf,
		 size_t len);
/* The kernel has written len bytes into iov[0..n), or some of them: gmem_wrote. */
void iov_wrote(const struct gmem *m, const struct iovec *iov, size_t n, size_t len);
/* The part [off, off + len) of iov as vectors of its own; their number. dst: room for n. */
size_t iov_slice(const struct iovec *iov, size_t n, size_t off, size_t len, struct iovec *dst);

#endif
