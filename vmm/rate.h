/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A token bucket: so many units a second, of which a tenth of a second's worth may come at once. */
#ifndef VPS_VMM_RATE_H
#define VPS_VMM_RATE_H

#include <stdint.h>

struct rate {
	uint64_t per_sec; /* 0: no limit */
	int64_t tokens;	  /* may be negative: one request may be larger than the bucket */
	uint64_t at;	  /* nanoseconds of the last refill */
};

/* per_sec may be changed by another thread; the rest is the user's. */
static inline void rate_set(struct rate *r, uint64_t per_sec)
{
	__atomic_store_n(&r->per_sec, per_sec < INT64_MAX ? per_sec : INT64_MAX, __ATOMIC_RELAXED);
}

static inline uint64_t rate_limits(const struct rate *r)
{
	return __atomic_load_n(&r->per_sec, __ATOMIC_RELAXED);
}

/* Nanoseconds to wait before the next request may begin; 0: now. */
static inline uint64_t rate_wait(struct rate *r, uint64_t now)
{
	uint64_t per_sec = rate_limits(r);

	if (!per_sec)
		return 0;

	int64_t full = (int64_t)(per_sec / 10) + 1;
	__int128 fresh = (__int128)(now - r->at) * per_sec / 1000000000;

	if (fresh > 0) {
		r->tokens = fresh + r->tokens > full ? full : (int64_t)(fresh + r->tokens);
		r->at = now;
	}
	if (r->tokens > 0)
		return 0;
	return (uint64_t)((__int128)(1 - r->tokens) * 1000000000 / per_sec) + 1;
}

static inline void rate_take(struct rate *r, uint64_t units)
{
	if (rate_limits(r))
		r->tokens -= (int64_t)(units > INT32_MAX ? INT32_MAX : units);
}

#endif
