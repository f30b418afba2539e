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

/* Nanoseconds to wait before the next request may begin; 0: now. */
static inline uint64_t rate_wait(struct rate *r, uint64_t now)
{
	if (!r->per_sec)
		return 0;

	int64_t full = (int64_t)(r->per_sec / 10) + 1;
	__int128 fresh = (__int128)(now - r->at) * r->per_sec / 1000000000;

	if (fresh > 0) {
		r->tokens = fresh + r->tokens > full ? full : (int64_t)(fresh + r->tokens);
		r->at = now;
	}
	if (r->tokens > 0)
		return 0;
	return (uint64_t)((__int128)(1 - r->tokens) * 1000000000 / r->per_sec) + 1;
}

static inline void rate_take(struct rate *r, uint64_t units)
{
	if (r->per_sec)
		r->tokens -= (int64_t)(units > INT32_MAX ? INT32_MAX : units);
}

#endif
