/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An epoll loop, one a thread. A source is embedded in its owner, which may remove any source from
 * any handler: no event of a removed source is delivered. */
#ifndef VPS_VMM_LOOP_H
#define VPS_VMM_LOOP_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

struct loop_source {
	int fd;
	uint32_t events; /* 0 while it is not in a loop or waits for nothing */
	bool in;	 /* in the loop */
	void (*fn)(struct loop_source *s, uint32_t events);
};

#define LOOP_BATCH 32

struct loop {
	int epoll_fd, stop_fd;
	struct epoll_event batch[LOOP_BATCH];
	int n, i; /* of the batch: how many, which next */
	struct loop_source stopper;
	bool stopped;
};

int loop_init(struct loop *l);
void loop_done(struct loop *l);
/* Wait for events (EPOLLIN, EPOLLOUT, 0: only errors) on s->fd: add it, or change what is waited
 * for. 0 or -errno. */
int loop_watch(struct loop *l, struct loop_source *s, uint32_t events);
void loop_remove(struct loop *l, struct loop_source *s);
/* Until loop_stop, which any thread may call. 0 or -errno. */
int loop_run(struct loop *l);
/* One wait of at most ms and what came: the number of events, or -errno. */
int loop_once(struct loop *l, int ms);
void loop_stop(struct loop *l);

#define container_of(p, type, member)                                                              \
	((type *)(void *)((uint8_t *)(p) - __builtin_offsetof(type, member)))

#endif
