/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/memory.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"

#define HUGE (2ull << 20)

int gmem_map(struct gmem *ret, uint64_t size, int fd, struct vps_err *err)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	if (size < GMEM_MIN || size > GMEM_MAX || size % page)
		return vps_err_set(err, EINVAL, "guest memory of %llu bytes",
				   (unsigned long long)size);

	/* Reserve it all without access, then map the middle: what is left over are the guards. */
	size_t map_len = size + 2 * HUGE;
	void *map =
		mmap(NULL, map_len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (map == MAP_FAILED)
		return vps_err_sys(err, -errno, "reserve %llu bytes for the guest's memory",
				   (unsigned long long)size);

	uint8_t *base = (uint8_t *)(((uintptr_t)map + HUGE) & ~(HUGE - 1));
	int flags = MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE | (fd < 0 ? MAP_ANONYMOUS : 0);

	if (mmap(base, size, PROT_READ | PROT_WRITE, flags, fd, 0) == MAP_FAILED) {
		int r = vps_err_sys(err, -errno, "map the guest's memory");

		munmap(map, map_len);
		return r;
	}
	/* Both are wishes. */
	madvise(base, size, MADV_HUGEPAGE);
	madvise(base, size, MADV_DONTDUMP);
	*ret = (struct gmem){.base = base, .size = size, .map = map, .map_len = map_len};
	return 0;
}

void gmem_done(struct gmem *m)
{
	if (!m || !m->map)
		return;
	munmap(m->map, m->map_len);
	*m = (struct gmem)GMEM_INIT;
}

void *gmem_at(const struct gmem *m, uint64_t gpa, uint64_t len)
{
	uint64_t low = gmem_low(m);

	if (gpa < low)
		return len <= low - gpa ? m->base + gpa : NULL;
	if (gpa < GMEM_HOLE_END)
		return NULL;
	gpa -= GMEM_HOLE_END;

	uint64_t high = m->size - low;

	return gpa < high && len <= high - gpa ? m->base + low + gpa : NULL;
}

int gmem_read(const struct gmem *m, uint64_t gpa, void *buf, size_t len)
{
	const void *p = gmem_at(m, gpa, len);

	if (!p)
		return -EFAULT;
	gmem_copy_in(buf, p, len);
	return 0;
}

int gmem_write(const struct gmem *m, uint64_t gpa, const void *buf, size_t len)
{
	void *p = gmem_at(m, gpa, len);

	if (!p)
		return -EFAULT;
	memcpy(p, buf, len);
	gmem_wrote(m, p, len);
	return 0;
}

int gmem_zero(const struct gmem *m, uint64_t gpa, size_t len)
{
	void *p = gmem_at(m, gpa, len);

	if (!p)
		return -EFAULT;
	memset(p, 0, len);
	gmem_wrote(m, p, len);
	return 0;
}

void gmem_mark(uint64_t *log, const struct gmem *m, const void *p, size_t len)
{
	uint64_t from = (uint64_t)((const uint8_t *)p - m->base), to = from + len;

	for (uint64_t page = from / GMEM_PAGE; len && page <= (to - 1) / GMEM_PAGE; page++)
		__atomic_fetch_or(&log[page / 64], 1ull << page % 64, __ATOMIC_RELEASE);
}

size_t gmem_discard(const struct gmem *m, void *p, size_t len)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t from = (uint64_t)((uint8_t *)p - m->base), to;

	if (from > m->size || len > m->size - from)
		return 0;
	to = (from + len) & ~(page - 1);
	from = (from + page - 1) & ~(page - 1);
	if (from >= to || madvise(m->base + from, to - from, MADV_DONTNEED) < 0)
		return 0;
	gmem_wrote(m, m->base + from, to - from);
	return to - from;
}
