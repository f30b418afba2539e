/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vps-keeper: holds fds by number, runtime/keeper.h. Nothing here parses what a tenant says. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/lock.h"
#include "base/mem.h"
#include "base/sys.h"
#include "runtime/keeper.h"
#include "runtime/monitor/impl.h"

#define LINGER_MS 5000
#define BATCH	  16

struct held {
	unsigned id;
	int fds[KEEP_N];
};

struct keeper {
	int run, lock, ctl, ep;
	struct held *held;
	size_t n, cap;
	unsigned conns;
	bool end; /* asked to; not before the answer is out */
};

static struct held *find(struct keeper *k, unsigned id)
{
	for (size_t i = 0; i < k->n; i++)
		if (k->held[i].id == id)
			return &k->held[i];
	return NULL;
}

static void drop(struct keeper *k, unsigned id)
{
	struct held *h = find(k, id);

	if (!h)
		return;
	for (int i = 0; i < KEEP_N; i++)
		close_fd(&h->fds[i]);
	*h = k->held[--k->n];
}

static int put(struct keeper *k, const struct keeper_msg *m, int *fds, size_t n)
{
	struct held h = {.id = m->id};
	size_t used = 0;

	if ((size_t)__builtin_popcount(m->slots) != n || m->slots >= 1u << KEEP_N)
		return -EINVAL;
	if (mem_grow(k->held, k->n, k->cap) < 0)
		return -ENOMEM;
	drop(k, m->id);
	for (int i = 0; i < KEEP_N; i++)
		h.fds[i] = m->slots & (1u << i) ? take_fd(fds[used++]) : -1;
	k->held[k->n++] = h;
	return 0;
}

static size_t get(struct keeper *k, struct keeper_msg *m, int *fds)
{
	struct held *h = find(k, m->id);
	size_t n = 0;

	m->status = h ? 0 : -ENOENT;
	m->slots = 0;
	for (int i = 0; h && i < KEEP_N; i++)
		if (h->fds[i] >= 0) {
			m->slots |= (uint8_t)(1u << i);
			fds[n++] = h->fds[i];
		}
	return n;
}

/* One request. False: the connection is over. */
static bool serve(struct keeper *k, int conn)
{
	struct keeper_msg m;
	int in[KEEP_N], out[KEEP_N];
	size_t n_in = KEEP_N, n_out = 0;
	ssize_t n = sys_recv_fds(conn, &m, sizeof(m), in, &n_in);

	if (n == -EAGAIN)
		return true;
	if (n <= 0)
		return false;

	bool ok = n == sizeof(m);

	if (ok) {
		m.status = 0;
		switch (m.op) {
		case KEEPER_PUT:
			m.status = put(k, &m, in, n_in);
			break;
		case KEEPER_GET:
			n_out = get(k, &m, out);
			break;
		case KEEPER_DROP:
			drop(k, m.id);
			break;
		case KEEPER_END:
			k->end = k->conns == 1;
			m.status = k->end ? 0 : -EBUSY;
			break;
		default:
			m.status = -EINVAL;
		}
		ok = sys_send_fds(conn, &m, sizeof(m), out, n_out) > 0;
	}
	for (size_t i = 0; i < n_in; i++)
		close_fd(&in[i]); /* put() has taken those it keeps */
	return ok;
}

static void welcome(struct keeper *k)
{
	int fd = accept4(k->ctl, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};

	if (fd < 0)
		return;
	if (!peer_is_root(fd) || epoll_ctl(k->ep, EPOLL_CTL_ADD, fd, &ev) < 0)
		close(fd);
	else
		k->conns++;
}

static int setup(struct keeper *k)
{
	struct rlimit nofile = {.rlim_cur = 1u << 20, .rlim_max = 1u << 20};

	/* Some fds a VPS: beyond any shell's limit. Where raising is refused, up to what is allowed. */
	if (setrlimit(RLIMIT_NOFILE, &nofile) < 0 && getrlimit(RLIMIT_NOFILE, &nofile) == 0) {
		nofile.rlim_cur = nofile.rlim_max;
		setrlimit(RLIMIT_NOFILE, &nofile);
	}
	k->lock = lock_take(k->run, KEEPER_LOCK, true, LOCK_TRY);
	if (k->lock < 0)
		return k->lock;
	k->ctl = listen_at(k->run, KEEPER_FILE, 512);
	if (k->ctl < 0)
		return k->ctl;
	k->ep = epoll_create1(EPOLL_CLOEXEC);

	struct epoll_event ev = {.events = EPOLLIN, .data.fd = k->ctl};

	return k->ep < 0 || epoll_ctl(k->ep, EPOLL_CTL_ADD, k->ctl, &ev) < 0 ? -errno : 0;
}

static void loop(struct keeper *k)
{
	struct epoll_event ev[BATCH];

	for (;;) {
		bool idle = k->n == 0 && k->conns == 0;
		int n = epoll_wait(k->ep, ev, BATCH, idle ? LINGER_MS : -1);

		if (n == 0 || (n < 0 && errno != EINTR))
			return;
		for (int i = 0; i < n; i++) {
			if (ev[i].data.fd == k->ctl) {
				welcome(k);
			} else if (!serve(k, ev[i].data.fd)) {
				close(ev[i].data.fd);
				k->conns--;
			}
			if (k->end)
				return;
		}
	}
}

int keeper_main(int run_fd, int ready_fd)
{
	struct keeper k = {.run = run_fd, .lock = -1, .ctl = -1, .ep = -1};

	prctl(PR_SET_NAME, "vps-keeper");
	if (setup(&k) < 0)
		return 1; /* another one was first */
	close(ready_fd); /* whoever waits may connect */
	loop(&k);
	/* The name goes before the lock does: whoever connects to nothing starts the next one. */
	unlinkat(k.run, KEEPER_FILE, 0);
	unlinkat(k.run, KEEPER_LOCK, 0);
	return 0;
}
