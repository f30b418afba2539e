/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/loop.h"

#include <errno.h>
#include <sys/eventfd.h>

#include "base/mem.h"

static void on_stop(struct loop_source *s, uint32_t events)
{
	container_of(s, struct loop, stopper)->stopped = true;
}

int loop_init(struct loop *l)
{
	autoclose int ep = epoll_create1(EPOLL_CLOEXEC);
	autoclose int stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (ep < 0 || stop < 0)
		return -errno;
	*l = (struct loop){.epoll_fd = take_fd(ep), .stop_fd = take_fd(stop)};
	l->stopper = (struct loop_source){.fd = l->stop_fd, .fn = on_stop};

	int r = loop_watch(l, &l->stopper, EPOLLIN);

	if (r < 0)
		loop_done(l);
	return r;
}

void loop_done(struct loop *l)
{
	close_fd(&l->epoll_fd);
	close_fd(&l->stop_fd);
}

int loop_watch(struct loop *l, struct loop_source *s, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = s};

	if (s->in && s->events == events)
		return 0;
	if (epoll_ctl(l->epoll_fd, s->in ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, s->fd, &ev) < 0)
		return -errno;
	s->in = true;
	s->events = events;
	return 0;
}

void loop_remove(struct loop *l, struct loop_source *s)
{
	if (!s->in)
		return;
	epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, s->fd, NULL);
	for (int i = l->i; i < l->n; i++)
		if (l->batch[i].data.ptr == s)
			l->batch[i].data.ptr = NULL;
	s->in = false;
	s->events = 0;
}

int loop_once(struct loop *l, int ms)
{
	int n = epoll_wait(l->epoll_fd, l->batch, LOOP_BATCH, ms);

	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	l->n = n;
	for (l->i = 0; l->i < l->n;) {
		struct epoll_event *e = &l->batch[l->i++];
		struct loop_source *s = e->data.ptr;

		if (s)
			s->fn(s, e->events);
	}
	l->n = l->i = 0;
	return n;
}

int loop_run(struct loop *l)
{
	int r = 0;

	while (!l->stopped && r >= 0)
		r = loop_once(l, -1);
	return r < 0 ? r : 0;
}

void loop_stop(struct loop *l)
{
	eventfd_write(l->stop_fd, 1);
}
