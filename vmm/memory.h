/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's memory: one mapping of ours. Every guest address goes through gmem_at. What a guest
 * can write while we look is copied once (gmem_read, gmem_copy_in), then checked, then used: never
 * read twice (invariant I7 of docs/design.md).
 */
#ifndef VPS_VMM_MEMORY_H
#define VPS_VMM_MEMORY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"

/* Guest-physical addresses: memory, then a hole below 4 GiB for devices and the interrupt
 * controllers, then the rest of the memory. */
#define GMEM_HOLE     0xc0000000ull
#define GMEM_HOLE_END 0x100000000ull
#define GMEM_MIN      (2ull << 20)
#define GMEM_MAX      (4ull << 40)

struct gmem {
	uint8_t *base; /* guest-physical 0; everything above the hole follows what is below it */
	uint64_t size; /* bytes of memory */
	void *map;     /* with the guards */
	size_t map_len;
	/* While a pre-copy runs (vmm/precopy.h): a bit for each page that this process, not the guest, has changed. */
	uint64_t *log;
};
#define GMEM_PAGE 4096u
#define GMEM_INIT                                                                                  \
	{                                                                                          \
		0                                                                                  \
	}

/* Map size bytes (a multiple of 2 MiB is best): aligned to 2 MiB, huge pages where the host has
 * them, an inaccessible page before and behind, no swap reserved, not in core dumps. fd: a
 * snapshot's memory, mapped privately from its start, or -1: fresh zeroes. */
int gmem_map(struct gmem *ret, uint64_t size, int fd, struct vps_err *err);
void gmem_done(struct gmem *m);

/* The host's address of the len bytes at a guest address, or NULL when not all of them are memory
 * (a zero len: NULL unless the address itself is). */
void *gmem_at(const struct gmem *m, uint64_t gpa, uint64_t len);
/* Copy; 0 or -EFAULT, then nothing was copied. */
int gmem_read(const struct gmem *m, uint64_t gpa, void *buf, size_t len);
int gmem_write(const struct gmem *m, uint64_t gpa, const void *buf, size_t len);
int gmem_zero(const struct gmem *m, uint64_t gpa, size_t len);
/* Give the whole pages inside [p, p + len) of our mapping back to the host; they read as zeroes (or
 * as the snapshot's) next time. Bytes given back. */
size_t gmem_discard(const struct gmem *m, void *p, size_t len);
/* Whoever writes through gmem_at or a descriptor's vector says so here, *after* it has written: KVM knows of what the
 * guest does alone. p lies in our mapping. */
void gmem_mark(uint64_t *log, const struct gmem *m, const void *p, size_t len);
static inline void gmem_wrote(const struct gmem *m, const void *p, size_t len)
{
	uint64_t *log = __atomic_load_n(&m->log, __ATOMIC_ACQUIRE);

	if (__builtin_expect(log != NULL, 0))
		gmem_mark(log, m, p, len);
}
/* Below the hole; the rest is at GMEM_HOLE_END. */
static inline uint64_t gmem_low(const struct gmem *m)
{
	return m->size < GMEM_HOLE ? m->size : GMEM_HOLE;
}

/* Copy out of memory that a guest may be writing: afterwards the compiler knows nothing about the
 * source any more, so it cannot read it again instead of the copy. */
static inline void gmem_copy_in(void *dst, const void *src, size_t len)
{
	memcpy(dst, src, len);
	__asm__ volatile("" ::: "memory");
}

#endif
