/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/waker.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include "base/mem.h"
#include "base/sys.h"
#include "vmm/api.h"

/* The agent's protocol (runtime/guest/agent.h), as much as is needed here. */
#define T_HELLO	  1
#define T_RESUMED 34
#define HELLO	  T_HELLO, 0, 0, 0, 8, 0, 0, 0, 'V', 'P', 'S', 'A', 1, 0, 0, 0
#define SEED	  64
/* The guest handles the reset of its connections and our new one in an order of its own: one that is lost is
 * tried again. */
#define TRIES	 100
#define NAP_NS	 20000000
#define ANSWER_S 10
/* Its clock is wrong by as long as the word took. Who is told again, awake by then, hears it sooner. */
#define LATE_NS	   200000000
#define LATE_TRIES 5

struct request {
	uint8_t hello[16], head[8];
	uint64_t now;
	uint8_t seed[SEED];
};

static void leave(struct waker *w)
{
	if (w->agent.fd < 0)
		return;
	loop_remove(w->loop, &w->agent);
	close_fd(&w->agent.fd);
}

static void set_timer(struct waker *w, long s, long ns)
{
	struct itimerspec t = {.it_value = {.tv_sec = s, .tv_nsec = ns}};

	timerfd_settime(w->timer.fd, 0, &t, NULL);
}

static void again(struct waker *w)
{
	leave(w);
	if (!w->pending)
		return;
	w->pending = ++w->tries < TRIES;
	if (w->pending)
		set_timer(w, 0, NAP_NS);
}

/* Its hello and the head of its answer: whatever that is, it has heard us. */
static void on_agent(struct loop_source *src, uint32_t events)
{
	struct waker *w = container_of(src, struct waker, agent);
	ssize_t n = read(src->fd, w->got + w->n, sizeof(w->got) - w->n);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		again(w);
		return;
	}
	w->n += (uint32_t)n;
	if (w->n < sizeof(w->got))
		return;
	leave(w);
	set_timer(w, 0, 0);
	w->pending = false;
	if (sys_now_mono() - w->told > LATE_NS && w->late++ < LATE_TRIES)
		waker_tell(w);
}

void waker_tell(struct waker *w)
{
	struct request q = {.hello = {HELLO}, .head = {T_RESUMED, 0, 0, 0, 8 + SEED}};
	int sv[2];

	w->told = sys_now_mono();
	q.now = htole64(sys_now_real());
	if (getrandom(q.seed, sizeof(q.seed), GRND_NONBLOCK) != sizeof(q.seed) ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv) < 0) {
		w->pending = false;
		return;
	}
	/* It lies there until the guest takes the connection. */
	bool sent = write(sv[1], &q, sizeof(q)) == sizeof(q);

	explicit_bzero(&q, sizeof(q));
	w->agent = (struct loop_source){.fd = sv[1], .fn = on_agent};
	w->n = 0;
	set_timer(w, ANSWER_S, 0);
	if (vsock_connect(w->vsock, VMM_PORT_AGENT, sv[0], NULL) < 0 || !sent ||
	    loop_watch(w->loop, &w->agent, EPOLLIN) < 0)
		again(w);
}

static void on_timer(struct loop_source *src, uint32_t events)
{
	struct waker *w = container_of(src, struct waker, timer);
	uint64_t n;

	if (read(src->fd, &n, sizeof(n)) != sizeof(n))
		return;
	/* a connection without an answer: a guest without our agent */
	if (w->agent.fd < 0) {
		waker_tell(w);
		return;
	}
	leave(w);
	w->pending = false;
}

int waker_init(struct waker *w, struct vsock *v, struct loop *l)
{
	*w = (struct waker){.vsock = v, .loop = l, .agent.fd = -1, .timer.fn = on_timer, .pending = true};
	w->timer.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	return w->timer.fd < 0 ? -errno : loop_watch(l, &w->timer, EPOLLIN);
}

void waker_done(struct waker *w)
{
	if (!w->loop)
		return;
	leave(w);
	loop_remove(w->loop, &w->timer);
	close_fd(&w->timer.fd);
}
