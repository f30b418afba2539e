/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Ownership: autofree and autoclose locals are always initialised; ownership
 * moves by take_ptr and take_fd. */
#ifndef VPS_BASE_MEM_H
#define VPS_BASE_MEM_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

static inline void mem_freep(void *p) { free(*(void **)p); }
static inline void mem_closep(int *fd)
{
	if (*fd >= 0) {
		int saved = errno;
		close(*fd);
		errno = saved;
	}
}

#define autofree  __attribute__((cleanup(mem_freep)))
#define autoclose __attribute__((cleanup(mem_closep)))
/* auto_done(x_done) struct x v = {0}; runs x_done(&v) at the end of the scope. */
#define auto_done(fn) __attribute__((cleanup(fn)))

#define take_ptr(p)                       \
	({                                \
		__typeof__(p) *_pp = &(p); \
		__typeof__(p) _v = *_pp;  \
		*_pp = NULL;              \
		_v;                       \
	})
static inline int take_fd_(int *fd)
{
	int v = *fd;
	*fd = -1;
	return v;
}
#define take_fd(fd) take_fd_(&(fd))
/* Close *fd if open and set it to -1. */
static inline void close_fd(int *fd)
{
	mem_closep(fd);
	*fd = -1;
}

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
/* For printf-like own functions. */
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))

/* Grow an array for one more element (capacity doubles from 8). arr: lvalue of
 * pointer type, n, cap: lvalues of size_t. 0 or -ENOMEM. */
#define mem_grow(arr, n, cap) mem_grow_((void **)&(arr), (n), &(cap), sizeof(*(arr)))
static inline int mem_grow_(void **arr, size_t n, size_t *cap, size_t size)
{
	if (n < *cap)
		return 0;
	size_t want = *cap ? *cap * 2 : 8;
	void *p = reallocarray(*arr, want, size);
	if (!p)
		return -ENOMEM;
	*arr = p;
	*cap = want;
	return 0;
}

#endif
