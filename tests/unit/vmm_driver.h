/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the VMM's unit tests and fuzzers share: the guest's side of a virtio device, over a small
 * guest memory. Everything is at fixed addresses: queue n at RING(n), data from DATA on. */
#ifndef VPS_TESTS_UNIT_VMM_DRIVER_H
#define VPS_TESTS_UNIT_VMM_DRIVER_H

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/virtio_mmio.h"

#define MEM_SIZE (4ull << 20)
#define RING(n)	 (0x10000ull * ((n) + 1))
#define AVAIL(n) (RING(n) + 0x1000)
#define USED(n)	 (RING(n) + 0x2000)
#define TABLE(n) (RING(n) + 0x4000) /* an indirect table */
#define DATA	 0x100000ull
#define W	 VRING_DESC_F_WRITE
#define NX	 VRING_DESC_F_NEXT
#define IND	 VRING_DESC_F_INDIRECT

struct drv {
	struct gmem mem;
	struct vdev *v;
	uint16_t size, next[VDEV_MAX_QUEUES], seen[VDEV_MAX_QUEUES];
};

static inline uint32_t reg(struct drv *d, uint32_t off)
{
	uint32_t val;

	vdev_read(d->v, off, &val, 4);
	return val;
}

static inline void set_reg(struct drv *d, uint32_t off, uint32_t val)
{
	vdev_write(d->v, off, &val, 4);
}

static inline void set_reg64(struct drv *d, uint32_t low, uint64_t val)
{
	set_reg(d, low, (uint32_t)val);
	set_reg(d, low + 4, (uint32_t)(val >> 32));
}

static inline uint64_t drv_offered(struct drv *d)
{
	set_reg(d, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);

	uint64_t f = reg(d, VIRTIO_MMIO_DEVICE_FEATURES);

	set_reg(d, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	return f | (uint64_t)reg(d, VIRTIO_MMIO_DEVICE_FEATURES) << 32;
}

/* Up to FEATURES_OK with exactly these features (VERSION_1 comes by itself); the status. */
static inline uint32_t drv_features(struct drv *d, uint64_t f)
{
	f |= 1ull << VIRTIO_F_VERSION_1;
	set_reg(d, VIRTIO_MMIO_STATUS, 0);
	set_reg(d, VIRTIO_MMIO_STATUS, 1);
	set_reg(d, VIRTIO_MMIO_STATUS, 3);
	for (uint32_t i = 0; i < 2; i++) {
		set_reg(d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, i);
		set_reg(d, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(f >> 32 * i));
	}
	set_reg(d, VIRTIO_MMIO_STATUS, 0xb);
	return reg(d, VIRTIO_MMIO_STATUS);
}

static inline void drv_queue(struct drv *d, uint32_t n, uint16_t size)
{
	d->size = size;
	d->next[n] = d->seen[n] = 0;
	set_reg(d, VIRTIO_MMIO_QUEUE_SEL, n);
	set_reg(d, VIRTIO_MMIO_QUEUE_NUM, size);
	set_reg64(d, VIRTIO_MMIO_QUEUE_DESC_LOW, RING(n));
	set_reg64(d, VIRTIO_MMIO_QUEUE_AVAIL_LOW, AVAIL(n));
	set_reg64(d, VIRTIO_MMIO_QUEUE_USED_LOW, USED(n));
	set_reg(d, VIRTIO_MMIO_QUEUE_READY, 1);
}

/* All of it: features, every queue with size entries, DRIVER_OK, and the device's start. */
static inline uint32_t drv_start(struct drv *d, uint64_t f, uint16_t size)
{
	gmem_zero(&d->mem, RING(0), 0x10000 * VDEV_MAX_QUEUES);
	drv_features(d, f);
	for (uint32_t n = 0; n < d->v->ops->n_queues; n++)
		drv_queue(d, n, size);
	set_reg(d, VIRTIO_MMIO_STATUS, 0xf);
	vdev_kicked(d->v);
	return reg(d, VIRTIO_MMIO_STATUS);
}

static inline void put_desc(struct drv *d, uint64_t table, uint16_t i, uint64_t addr, uint32_t len,
			    uint16_t flags, uint16_t next)
{
	struct vring_desc e = {.addr = addr, .len = len, .flags = flags, .next = next};

	gmem_write(&d->mem, table + 16 * (uint64_t)i, &e, sizeof(e));
}

static inline uint16_t get16(struct drv *d, uint64_t gpa)
{
	uint16_t v = 0;

	gmem_read(&d->mem, gpa, &v, 2);
	return v;
}

static inline void put16(struct drv *d, uint64_t gpa, uint16_t v)
{
	gmem_write(&d->mem, gpa, &v, 2);
}

/* Make head available on queue n, without telling. */
static inline void drv_avail(struct drv *d, uint32_t n, uint16_t head)
{
	put16(d, AVAIL(n) + 4 + 2 * (uint64_t)(d->next[n] % d->size), head);
	put16(d, AVAIL(n) + 2, ++d->next[n]);
}

/* The next used entry of queue n: 1, or 0 when there is none. */
static inline int drv_used(struct drv *d, uint32_t n, struct vring_used_elem *ret)
{
	if (get16(d, USED(n) + 2) == d->seen[n])
		return 0;
	gmem_read(&d->mem, USED(n) + 4 + 8 * (uint64_t)(d->seen[n]++ % d->size), ret, sizeof(*ret));
	return 1;
}

/* How often the device interrupted since the last time. */
static inline uint64_t drv_irqs(struct drv *d)
{
	uint64_t n = 0;

	return read(d->v->irq_fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

/* vdev_kicked, and whatever page it changed is told (gmem_wrote). A device with threads of its own is not looked at: its
 * driver would be seen, too. */
static inline void drv_kicked(struct drv *d, struct vdev *v)
{
	uint64_t log[MEM_SIZE / GMEM_PAGE / 64] = {0};
	uint8_t there[MEM_SIZE / GMEM_PAGE];
	static const uint8_t none[GMEM_PAGE];
	uint8_t *was = malloc(MEM_SIZE);

	memcpy(was, d->mem.base, MEM_SIZE);
	d->mem.log = log;
	vdev_kicked(v);
	d->mem.log = NULL;
	mincore(d->mem.base, MEM_SIZE, there);
	for (uint64_t p = 0; p < MEM_SIZE / GMEM_PAGE; p++) {
		/* What was given back is not touched by looking. */
		const uint8_t *is = there[p] & 1 ? d->mem.base + p * GMEM_PAGE : none;

		if (memcmp(was + p * GMEM_PAGE, is, GMEM_PAGE) == 0 || (log[p / 64] >> p % 64 & 1))
			continue;
		fprintf(stderr, "the device changed page %#lx and did not say so\n", p);
		abort();
	}
	free(was);
}

#define NEEDS_RESET(d) (reg((d), VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET)

#endif
