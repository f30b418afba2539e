/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The monitor's side of runtime/ctl.h. What is sent goes to the socket while it takes it, then into a
 * bounded queue whose oldest console bytes give way. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/mem.h"
#include "runtime/monitor/impl.h"

#define SNDBUF (64 << 10) /* what the kernel holds for a slow client cannot give way any more */

void clients_init(struct monitor *m)
{
	for (int i = 0; i < MAX_CLIENTS; i++)
		m->clients[i].fd = -1;
}

static void drop_queue(struct client *c)
{
	if (c->queue)
		munmap(c->queue, QUEUE_SIZE);
	c->queue = NULL;
	c->head = c->tail = 0;
}

static void client_close(struct client *c)
{
	drop_queue(c);
	close_fd(&c->fd);
	*c = (struct client){.fd = -1};
}

void clients_close(struct monitor *m)
{
	for (int i = 0; i < MAX_CLIENTS; i++)
		if (m->clients[i].fd >= 0)
			client_close(&m->clients[i]);
}

/* 1 sent, 0 no room now, -errno. */
static int send_now(struct client *c, enum ctl_type type, const void *data, size_t len)
{
	struct ctl_head head = {.version = CTL_VERSION, .type = (uint8_t)type, .len = (uint16_t)len};
	struct iovec iov[2] = {{&head, sizeof(head)}, {(void *)(uintptr_t)data, len}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = len ? 2 : 1};

	if (sendmsg(c->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
		return 1;
	return errno == EAGAIN || errno == ENOBUFS || errno == EINTR ? 0 : -errno;
}

static size_t frame_at(const struct client *c, size_t at, struct ctl_head *ret)
{
	memcpy(ret, c->queue + at, sizeof(*ret));
	return sizeof(*ret) + ret->len;
}

/* Room for one more frame, at the cost of the oldest console bytes. False: hopeless. */
static bool make_room(struct client *c, size_t need)
{
	struct ctl_head h;

	if (!c->queue) {
		void *p = mmap(NULL, QUEUE_SIZE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED)
			return false;
		c->queue = p;
		c->head = c->tail = 0;
	}
	while (QUEUE_SIZE - (c->tail - c->head) < need) {
		size_t n = frame_at(c, c->head, &h);

		if (h.type != CTL_OUT && h.type != CTL_OUT2)
			return false; /* a watcher that never reads */
		c->lost += h.len;
		c->head += n;
	}
	if (QUEUE_SIZE - c->tail < need) {
		memmove(c->queue, c->queue + c->head, c->tail - c->head);
		c->tail -= c->head;
		c->head = 0;
	}
	return true;
}

static void client_send(struct client *c, enum ctl_type type, const void *data, size_t len)
{
	struct ctl_head h = {.version = CTL_VERSION, .type = (uint8_t)type, .len = (uint16_t)len};
	int r = c->queue ? 0 : send_now(c, type, data, len);

	if (r == 0 && make_room(c, sizeof(h) + len)) {
		memcpy(c->queue + c->tail, &h, sizeof(h));
		if (len)
			memcpy(c->queue + c->tail + sizeof(h), data, len);
		c->tail += sizeof(h) + len;
	} else if (r <= 0) {
		client_close(c);
	}
}

static void client_flush(struct client *c)
{
	struct ctl_head h;

	while (c->fd >= 0 && c->head < c->tail) {
		int r = c->lost ? send_now(c, CTL_LOST, &c->lost, sizeof(c->lost)) : 1;

		if (r > 0) {
			size_t n = frame_at(c, c->head, &h);

			c->lost = 0;
			r = send_now(c, h.type, c->queue + c->head + sizeof(h), h.len);
			if (r > 0)
				c->head += n;
		}
		if (r < 0)
			client_close(c);
		if (r <= 0)
			return;
	}
	drop_queue(c);
}

static void client_ok(struct client *c) { client_send(c, CTL_OK, NULL, 0); }

static void client_err(struct client *c, int code, const char *msg)
{
	struct vps_err e = {0};

	vps_err_set(&e, code, "%s", msg);
	client_send(c, CTL_ERR, &e, sizeof(e));
}

void client_accept(struct monitor *m)
{
	int fd = accept4(m->ctl, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), size = SNDBUF;

	if (fd < 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	for (int i = 0; i < MAX_CLIENTS && peer_is_root(fd); i++) {
		if (m->clients[i].fd >= 0)
			continue;
		m->clients[i].fd = fd;
		return;
	}
	close(fd);
}

static struct client *exclusive_one(struct monitor *m)
{
	for (int i = 0; i < MAX_CLIENTS; i++)
		if (m->clients[i].fd >= 0 && m->clients[i].exclusive)
			return &m->clients[i];
	return NULL;
}

static bool anyone_else(struct monitor *m, const struct client *c)
{
	for (int i = 0; i < MAX_CLIENTS; i++)
		if (&m->clients[i] != c && m->clients[i].fd >= 0 && m->clients[i].attached)
			return true;
	return false;
}

static void attach(struct monitor *m, struct client *c, const struct ctl_attach *a)
{
	struct client *other = exclusive_one(m);

	if (m->con.out[0] < 0 && m->con.out[1] < 0 && m->con.in < 0 && !init_ended(m)) {
		client_err(c, VPS_ESTATE, "the console was lost with its monitor and keeper; "
					  "it is back after a restart of the VPS");
		return;
	}
	if ((other && other != c) || (a->exclusive && anyone_else(m, c))) {
		client_err(c, VPS_ELOCKED, "another client has the console to itself");
		return;
	}
	c->attached = true;
	c->exclusive = a->exclusive != 0;
	console_winsize(m, a->rows, a->cols);
	client_ok(c);
	if (m->a.hold_for_attach)
		open_gate(m);
}

static void send_status(struct monitor *m, struct client *c)
{
	struct ctl_status s = {
		.phase = m->st.phase,
		.ready = m->st.ready,
		.oom_kills = m->st.oom_kills,
	};

	client_send(c, CTL_STATUS, &s, sizeof(s));
}

static void stop(struct monitor *m, struct client *c)
{
	m->stop = true;
	if (m->st.phase == MONITOR_BACKOFF)
		m->over = true;
	/* On record before it is answered: an adopter must know. */
	if (m->st.phase == MONITOR_UP) {
		m->st.phase = MONITOR_STOPPING;
		status_changed(m);
	}
	c->stopping = c->watching = m->stop_by_client = true;
	client_ok(c);
}

static void set_policy(struct monitor *m, struct client *c, const struct ctl_policy *p)
{
	if (p->restart > MONITOR_RESTART_ALWAYS) {
		client_err(c, EINVAL, "no such restart policy");
		return;
	}
	m->a.restart = p->restart;
	m->a.restart_max = p->restart_max;
	m->a.console_log_max = p->console_log_max;
	client_ok(c);
}

/* The body as a struct: only of exactly its size, and copied, since buf has no alignment to promise. */
#define BODY(var) (n == sizeof(var) && memcpy(&(var), data, sizeof(var)))

static void handle(struct monitor *m, struct client *c, uint8_t type, const char *data, size_t n)
{
	struct ctl_attach a;
	struct ctl_policy p;

	switch (type) {
	case CTL_ATTACH:
		if (BODY(a)) {
			attach(m, c, &a);
			return;
		}
		break;
	case CTL_WINSIZE:
		if (BODY(a) && c->attached) {
			console_winsize(m, a.rows, a.cols);
			return;
		}
		break;
	case CTL_INPUT:
		if (c->attached) {
			console_input(m, data, n);
			return;
		}
		break;
	case CTL_WATCH:
		c->watching = true;
		send_status(m, c);
		return;
	case CTL_STOP:
		stop(m, c);
		return;
	case CTL_DONE:
		if (c->stopping && m->recorded) {
			m->over = true;
			return;
		}
		break;
	case CTL_STILL:
		c->still = true;
		client_ok(c);
		return;
	case CTL_POLICY:
		if (BODY(p)) {
			set_policy(m, c, &p);
			return;
		}
		break;
	}
	client_err(c, EPROTO, "the monitor cannot do that now");
}

/* One message. */
static void client_read(struct monitor *m, struct client *c)
{
	struct {
		struct ctl_head head;
		char data[CTL_DATA_MAX + 1];
	} msg;
	ssize_t n = recv(c->fd, &msg, sizeof(msg), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < (ssize_t)sizeof(msg.head) || msg.head.version != CTL_VERSION ||
	    (size_t)n != sizeof(msg.head) + msg.head.len)
		client_close(c); /* the end, or junk */
	else
		handle(m, c, msg.head.type, msg.data, msg.head.len);
}

void clients_poll(struct monitor *m)
{
	for (int i = 0; i < MAX_CLIENTS; i++) {
		struct client *c = &m->clients[i];
		struct pollfd *p = &m->set[P_CLIENTS + i];
		bool wait = c->attached && m->con.n_pending > 0;

		p->fd = c->fd;
		p->events = (short)((wait ? 0 : POLLIN) | (c->queue ? POLLOUT : 0));
	}
}

/* Who wanted the stop was killed over it. Init may not even have been asked: so nobody stops it. One of the
 * monitor before us (adoption) is not ours to judge: it goes on without a connection. */
static void drop_stop(struct monitor *m)
{
	if (!m->stop_by_client || m->st.phase != MONITOR_STOPPING || clients_stopping(m))
		return;
	m->stop = m->stop_by_client = false;
	m->st.phase = MONITOR_UP;
	status_changed(m);
}

void clients_event(struct monitor *m)
{
	for (int i = 0; i < MAX_CLIENTS; i++) {
		struct client *c = &m->clients[i];
		short got = m->set[P_CLIENTS + i].revents;

		bool still = c->still;

		if (c->fd < 0 || m->set[P_CLIENTS + i].fd != c->fd || !got)
			continue;
		if (got & POLLOUT)
			client_flush(c);
		if (c->fd >= 0 && (got & (POLLIN | POLLHUP | POLLERR)))
			client_read(m, c);
		if (still && c->fd < 0)
			timer_in(m, T_THAW, THAW_MS);
	}
	drop_stop(m);
}

bool clients_full(const struct monitor *m)
{
	for (int i = 0; i < MAX_CLIENTS && !m->con.pty; i++) {
		const struct client *c = &m->clients[i];

		if (c->fd >= 0 && c->exclusive && c->queue)
			return true;
	}
	return false;
}

void clients_out(struct monitor *m, enum ctl_type type, const char *data, size_t n)
{
	for (int i = 0; i < MAX_CLIENTS; i++)
		if (m->clients[i].fd >= 0 && m->clients[i].attached)
			client_send(&m->clients[i], type, data, n);
}

void clients_status(struct monitor *m)
{
	for (int i = 0; i < MAX_CLIENTS; i++)
		if (m->clients[i].fd >= 0 && m->clients[i].watching)
			send_status(m, &m->clients[i]);
}

void clients_exit(struct monitor *m)
{
	int32_t code = m->exit_code;

	for (int i = 0; i < MAX_CLIENTS; i++) {
		struct client *c = &m->clients[i];

		if (c->fd < 0 || c->told || !m->recorded)
			continue;
		if (c->attached ? !m->drained : !c->watching)
			continue;
		c->told = true;
		client_send(c, CTL_EXIT, &code, sizeof(code));
	}
}

bool clients_pending(const struct monitor *m)
{
	for (int i = 0; i < MAX_CLIENTS; i++)
		if (m->clients[i].fd >= 0 && m->clients[i].queue)
			return true;
	return false;
}

bool clients_stopping(const struct monitor *m)
{
	for (int i = 0; i < MAX_CLIENTS; i++)
		if (m->clients[i].fd >= 0 && m->clients[i].stopping)
			return true;
	return false;
}

/* Only of an exclusive client of pipes: every byte is its own, however slowly it reads. The monitor's place is
 * free already. */
void clients_last_words(struct monitor *m)
{
	struct client *c = m->con.pty ? NULL : exclusive_one(m);

	while (c && c->fd >= 0 && (!m->drained || !c->told || c->queue)) {
		struct pollfd p = {.fd = c->fd, .events = POLLOUT};

		if (c->queue && poll(&p, 1, -1) < 0 && errno != EINTR)
			return;
		if (c->queue)
			client_flush(c);
		if (!m->drained)
			console_drain(m);
		clients_exit(m);
	}
}
