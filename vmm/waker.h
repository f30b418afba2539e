/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tells a guest that goes on from a snapshot what it cannot know: the time of day, and that its random pool may
 * be another machine's, too. By its agent; one without it is left as it is. */
#ifndef VPS_VMM_WAKER_H
#define VPS_VMM_WAKER_H

#include "vmm/vsock.h"

struct waker {
	struct vsock *vsock;
	struct loop *loop;
	struct loop_source agent, timer;
	uint8_t got[24];
	uint32_t n;
	unsigned tries, late;
	uint64_t told; /* ns, monotonic */
	bool pending; /* the guest may still be about to forget connections: no new ones from outside */
};

int waker_init(struct waker *w, struct vsock *v, struct loop *l);
void waker_done(struct waker *w);
/* In the loop's thread, once. */
void waker_tell(struct waker *w);

#endif
