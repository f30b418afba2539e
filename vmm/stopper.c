/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/stopper.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include "base/mem.h"
#include "vmm/api.h"

#define PATIENCE_S 3

/* The agent's protocol (runtime/guest/agent.h), as much as is needed here: a frame is a type, a
 * stream, two zeroes, a length; hello has a magic number and a version. */
#define T_HELLO 1
#define T_STOP	23
#define T_DONE	67
#define HELLO	T_HELLO, 0, 0, 0, 8, 0, 0, 0, 'V', 'P', 'S', 'A', 1, 0, 0, 0
static const uint8_t request[] = {HELLO, T_STOP, 0, 0, 0, 0, 0, 0, 0};
static const uint8_t hello[] = {HELLO};

/* No more of the agent; the connection's end does not take back what was asked. */
static void leave(struct stopper *s)
{
	struct itimerspec never = {0};

	if (s->agent.fd < 0)
		return;
	loop_remove(s->loop, &s->agent);
	close_fd(&s->agent.fd);
	timerfd_settime(s->timer.fd, 0, &never, NULL);
}

static void press(struct stopper *s)
{
	leave(s);
	vm_press_power(s->vm);
}

static void on_agent(struct loop_source *src, uint32_t events)
{
	struct stopper *s = container_of(src, struct stopper, agent);
	ssize_t n = read(src->fd, s->got + s->n, sizeof(s->got) - s->n);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n > 0)
		s->n += (uint32_t)n;
	if (n > 0 && s->n < sizeof(s->got))
		return;
	if (n > 0 && memcmp(s->got, hello, sizeof(hello)) == 0 && s->got[sizeof(hello)] == T_DONE)
		leave(s);
	else
		press(s);
}

static void on_timer(struct loop_source *src, uint32_t events)
{
	uint64_t n;

	if (read(src->fd, &n, sizeof(n)) == sizeof(n))
		press(container_of(src, struct stopper, timer));
}

int stopper_init(struct stopper *s, struct vm *vm, struct vsock *v, struct loop *l)
{
	*s = (struct stopper){.vm = vm, .vsock = v, .loop = l, .agent.fd = -1};
	s->timer.fn = on_timer;
	s->timer.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	return s->timer.fd < 0 ? -errno : loop_watch(l, &s->timer, EPOLLIN);
}

void stopper_done(struct stopper *s)
{
	if (!s->loop)
		return;
	leave(s);
	loop_remove(s->loop, &s->timer);
	close_fd(&s->timer.fd);
}

void stopper_ask(struct stopper *s)
{
	struct itimerspec soon = {.it_value.tv_sec = PATIENCE_S};
	int sv[2];

	if (s->agent.fd >= 0)
		return;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv) < 0) {
		vm_press_power(s->vm);
		return;
	}
	/* It lies there until the guest takes the connection; a refusal is the end of it. */
	bool sent = write(sv[1], request, sizeof(request)) == sizeof(request);

	s->agent = (struct loop_source){.fd = sv[1], .fn = on_agent};
	s->n = 0;
	timerfd_settime(s->timer.fd, 0, &soon, NULL);
	if (vsock_connect(s->vsock, VMM_PORT_AGENT, sv[0], NULL) < 0 || !sent ||
	    loop_watch(s->loop, &s->agent, EPOLLIN) < 0)
		press(s);
}
