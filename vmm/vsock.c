/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/vsock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_ids.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"

#define RX  0
#define TX  1
#define EV  2
#define HDR sizeof(struct virtio_vsock_hdr)

/* What a connection has to tell the guest; the lowest bit goes first. */
enum {
	P_REQUEST = 1,
	P_RESPONSE = 2,
	P_CREDIT = 4,
	P_DATA = 8, /* in has some, or its end */
	P_SHUTDOWN = 16,
	P_RST = 32, /* and then it is no more */
};

struct vsock_conn {
	struct loop_source in, out; /* different fds, or -1: nothing comes, all is dropped */
	struct vsock *vs;
	void *who; /* waits for host->connected */
	uint32_t host_port, guest_port;
	bool open;	     /* false: the guest has not answered our request */
	bool host_end;	     /* in gave its last byte */
	uint32_t guest_shut; /* VIRTIO_VSOCK_SHUTDOWN_* that the guest sent */
	unsigned pending;
	/* Free-running byte counts (5.10.6.3). */
	uint32_t peer_alloc, peer_fwd, sent; /* the guest's buffer, what left it, what we sent */
	uint32_t got, fwd, told;	     /* from the guest; passed on; last told to the guest */
	/* Of the guest, for an out that is full: got - fwd bytes from head on. */
	uint8_t *buf;
	uint32_t head;
};

static void answer(struct vsock_conn *c, int r)
{
	void *who = take_ptr(c->who);

	if (who)
		c->vs->host->connected(c->vs->host, who, r);
}

static void conn_free(struct vsock_conn *c)
{
	for (unsigned i = 0; i < VSOCK_CONNS; i++)
		if (c->vs->conns[i] == c)
			c->vs->conns[i] = NULL;
	loop_remove(c->vs->loop, &c->in);
	loop_remove(c->vs->loop, &c->out);
	close_fd(&c->in.fd);
	close_fd(&c->out.fd);
	answer(c, -ECONNREFUSED);
	free(c->buf);
	free(c);
}

static struct vsock_conn *find(struct vsock *v, uint32_t host_port, uint32_t guest_port)
{
	for (unsigned i = 0; i < VSOCK_CONNS; i++) {
		struct vsock_conn *c = v->conns[i];

		if (c && c->host_port == host_port && c->guest_port == guest_port)
			return c;
	}
	return NULL;
}

unsigned vsock_n_conns(const struct vsock *v)
{
	unsigned n = 0;

	for (unsigned i = 0; i < VSOCK_CONNS; i++)
		n += v->conns[i] != NULL;
	return n;
}

static uint32_t credit(const struct vsock_conn *c)
{
	uint32_t flying = c->sent - c->peer_fwd;

	return flying < c->peer_alloc ? c->peer_alloc - flying : 0;
}

/* Wait for what can be used now. An fd that waits for nothing leaves the loop, where its end would
 * wake us again and again. */
static void watch_for(struct vsock_conn *c, struct loop_source *s, uint32_t ev)
{
	int r = 0;

	if (!ev)
		loop_remove(c->vs->loop, s);
	else
		r = loop_watch(c->vs->loop, s, ev);
	/* Files and /dev/null never wait, so epoll does not take them. */
	if (r == -EPERM && s == &c->in)
		c->pending |= P_DATA;
	else if (r < 0)
		c->pending |= P_RST;
}

static void watch(struct vsock_conn *c)
{
	bool reads = c->open && !c->host_end && !(c->pending & P_DATA) &&
		     !(c->guest_shut & VIRTIO_VSOCK_SHUTDOWN_RCV);

	watch_for(c, &c->in, reads ? EPOLLIN : 0);
	watch_for(c, &c->out, c->got != c->fwd ? EPOLLOUT : 0);
}

static void pump(struct vsock *v);
static void on_in(struct loop_source *s, uint32_t events);
static void on_out(struct loop_source *s, uint32_t events);

static int nonblocking(int fd)
{
	int fl = fd < 0 ? 0 : fcntl(fd, F_GETFL);

	return fl < 0 || (fd >= 0 && fcntl(fd, F_SETFL, fl | O_NONBLOCK) < 0) ? -errno : 0;
}

/* Owns the fds, also on failure. NULL: too many, or no memory. */
static struct vsock_conn *conn_new(struct vsock *v, int in, int out, uint32_t host_port,
				   uint32_t guest_port)
{
	autoclose int in_fd = in, out_fd = out;
	struct vsock_conn *c = NULL;

	if (nonblocking(in) < 0 || nonblocking(out) < 0)
		return NULL;
	for (unsigned i = 0; i < VSOCK_CONNS && !c; i++)
		if (!v->conns[i])
			c = v->conns[i] = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->vs = v;
	c->in = (struct loop_source){.fd = take_fd(in_fd), .fn = on_in};
	c->out = (struct loop_source){.fd = take_fd(out_fd), .fn = on_out};
	c->host_port = host_port;
	c->guest_port = guest_port;
	if (c->in.fd < 0) {
		c->host_end = true;
		c->pending = P_SHUTDOWN;
	}
	return c;
}

static void add_rst(struct vsock *v, uint32_t host_port, uint32_t guest_port)
{
	/* A guest that takes no answers gets no more of them. */
	if (v->n_rst == VSOCK_RSTS)
		return;
	v->rst[v->n_rst][0] = host_port;
	v->rst[v->n_rst++][1] = guest_port;
}

/* ---- from the guest ---- */

/* The host gets no more; a socket of which we hold another fd is to know it, too. */
static void end_out(struct vsock_conn *c)
{
	if (c->out.fd < 0)
		return;
	loop_remove(c->vs->loop, &c->out);
	shutdown(c->out.fd, SHUT_WR);
	close_fd(&c->out.fd);
}

/* Bytes went out: the guest may send as many again, and is told in time. */
static void passed_on(struct vsock_conn *c, uint32_t n)
{
	c->fwd += n;
	if (c->got - c->told > VSOCK_BUF / 2)
		c->pending |= P_CREDIT;
	if (c->got != c->fwd)
		return;
	if ((c->guest_shut & 3) == 3)
		c->pending |= P_RST;
	else if (c->guest_shut & VIRTIO_VSOCK_SHUTDOWN_SEND)
		end_out(c);
}

/* Write what waits. */
static void flush(struct vsock_conn *c)
{
	while (c->got != c->fwd) {
		uint32_t part = VSOCK_BUF - c->head, len = c->got - c->fwd;
		ssize_t n = write(c->out.fd, c->buf + c->head, part < len ? part : len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			c->pending |= P_RST;
		if (n <= 0)
			return;
		c->head = (c->head + (uint32_t)n) % VSOCK_BUF;
		passed_on(c, (uint32_t)n);
	}
}

/* Keep len bytes of iov from off on: there is room, as the credit was checked. */
static int keep(struct vsock_conn *c, const struct vq_chain *ch, size_t off, uint32_t len)
{
	if (!c->buf)
		c->buf = malloc(VSOCK_BUF);
	if (!c->buf)
		return -ENOMEM;

	uint32_t at = (c->head + (c->got - c->fwd)) % VSOCK_BUF, part = VSOCK_BUF - at;

	if (part > len)
		part = len;
	iov_read(ch->iov, ch->n_out, off, c->buf + at, part);
	iov_read(ch->iov, ch->n_out, off + part, c->buf, len - part);
	c->got += len;
	return 0;
}

static void got_data(struct vsock_conn *c, const struct vq_chain *ch, uint32_t len)
{
	struct vsock *v = c->vs;

	if (!c->open || (c->guest_shut & VIRTIO_VSOCK_SHUTDOWN_SEND) ||
	    len > VSOCK_BUF - (c->got - c->fwd)) {
		c->pending |= P_RST;
		return;
	}

	ssize_t n = c->out.fd < 0 ? (ssize_t)len : 0;

	if (n) {
		c->got += len;
		passed_on(c, len);
	} else if (len && c->got == c->fwd) {
		size_t k = iov_slice(ch->iov, ch->n_out, HDR, len, v->part);

		n = writev(c->out.fd, v->part, (int)k);
		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			c->pending |= P_RST;
			return;
		}
		if (n < 0)
			n = 0;
		c->got += (uint32_t)n;
		if (n)
			passed_on(c, (uint32_t)n);
	}
	if ((uint32_t)n < len && keep(c, ch, HDR + (size_t)n, len - (uint32_t)n) < 0)
		c->pending |= P_RST;
}

static void got_request(struct vsock *v, const struct virtio_vsock_hdr *h)
{
	struct vsock_conn *c = NULL;
	int fd[2] = {-1, -1};

	if (v->host && v->host->accept(v->host, h->dst_port, h->src_port, fd) == 0)
		c = conn_new(v, fd[0], fd[1], h->dst_port, h->src_port);
	if (!c) {
		add_rst(v, h->dst_port, h->src_port);
		return;
	}
	c->open = true;
	c->peer_alloc = h->buf_alloc;
	c->peer_fwd = h->fwd_cnt;
	c->pending |= P_RESPONSE;
	watch(c);
}

static void got_shutdown(struct vsock_conn *c, uint32_t flags)
{
	c->guest_shut |= flags & 3;
	passed_on(c, 0);
}

static void got_packet(struct vsock_conn *c, const struct virtio_vsock_hdr *h,
		       const struct vq_chain *ch)
{
	c->peer_alloc = h->buf_alloc;
	c->peer_fwd = h->fwd_cnt;
	switch (h->op) {
	case VIRTIO_VSOCK_OP_RESPONSE:
		if (c->open)
			c->pending |= P_RST;
		c->open = true;
		answer(c, 0);
		break;
	case VIRTIO_VSOCK_OP_RST:
		conn_free(c);
		return;
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		got_shutdown(c, h->flags);
		break;
	case VIRTIO_VSOCK_OP_RW:
		got_data(c, ch, h->len);
		break;
	case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
		break;
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		c->pending |= P_CREDIT;
		break;
	default:
		c->pending |= P_RST;
	}
	watch(c);
}

static int transmit(struct vdev *dev, struct vq *q, const struct vq_chain *ch)
{
	struct vsock *v = container_of(dev, struct vsock, dev);
	struct virtio_vsock_hdr h;

	if (iov_read(ch->iov, ch->n_out, 0, &h, HDR) != HDR || h.len > ch->out_len - HDR)
		return -EPROTO;
	/* Forged addresses go nowhere. */
	if (h.src_cid == v->config.guest_cid && h.dst_cid == VSOCK_HOST) {
		struct vsock_conn *c = find(v, h.dst_port, h.src_port);

		if (h.type != VIRTIO_VSOCK_TYPE_STREAM)
			add_rst(v, h.dst_port, h.src_port);
		else if (!c && h.op == VIRTIO_VSOCK_OP_REQUEST)
			got_request(v, &h);
		else if (c)
			got_packet(c, &h, ch);
		else if (h.op != VIRTIO_VSOCK_OP_RST)
			add_rst(v, h.dst_port, h.src_port);
	}
	vq_push(q, ch->head, 0);
	return 0;
}

/* ---- to the guest ---- */

static void put_header(struct vsock *v, uint16_t op, uint32_t flags, uint32_t host_port,
		       uint32_t guest_port, const struct vsock_conn *c, uint32_t len)
{
	struct virtio_vsock_hdr h = {
		.src_cid = VSOCK_HOST,
		.dst_cid = v->config.guest_cid,
		.src_port = host_port,
		.dst_port = guest_port,
		.len = len,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = op,
		.flags = flags,
		.buf_alloc = c ? VSOCK_BUF : 0,
		.fwd_cnt = c ? c->fwd : 0,
	};

	iov_write(v->dev.mem, v->chain.iov + v->chain.n_out, v->chain.n_in, 0, &h, HDR);
	vq_push(&v->dev.vq[RX], v->chain.head, (uint32_t)HDR + len);
}

/* Data of in into the chain at hand. False: the chain was not used. */
static bool put_data(struct vsock *v, struct vsock_conn *c)
{
	uint32_t want = v->chain.in_len - (uint32_t)HDR, may = credit(c);

	if (want > may)
		want = may;
	if (want > VSOCK_BUF)
		want = VSOCK_BUF;
	if (!want) /* no credit: goes on when the guest gives some; pump does not ask us before */
		return false;

	size_t k = iov_slice(v->chain.iov + v->chain.n_out, v->chain.n_in, HDR, want, v->part);
	ssize_t n = readv(c->in.fd, v->part, (int)k);

	if (n > 0)
		iov_wrote(v->dev.mem, v->part, k, (size_t)n);
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		c->pending &= ~(unsigned)P_DATA;
		return false;
	}
	if (n <= 0) {
		c->host_end = true;
		c->pending &= ~(unsigned)P_DATA;
		c->pending |= n < 0 ? P_RST : P_SHUTDOWN;
		return false;
	}
	c->sent += (uint32_t)n;
	put_header(v, VIRTIO_VSOCK_OP_RW, 0, c->host_port, c->guest_port, c, (uint32_t)n);
	return true;
}

static unsigned next_pending(const struct vsock_conn *c)
{
	unsigned p = c->pending;

	if (p & P_RST)
		return P_RST;
	if (!credit(c) || !c->open)
		p &= ~(unsigned)P_DATA;
	/* What in still gives comes before its end. */
	return p & -p;
}

/* One packet of c into the chain at hand. False: the chain was not used. */
static bool put_packet(struct vsock *v, struct vsock_conn *c)
{
	static const uint16_t op_of[] = {
		[P_REQUEST] = VIRTIO_VSOCK_OP_REQUEST,
		[P_RESPONSE] = VIRTIO_VSOCK_OP_RESPONSE,
		[P_CREDIT] = VIRTIO_VSOCK_OP_CREDIT_UPDATE,
		[P_SHUTDOWN] = VIRTIO_VSOCK_OP_SHUTDOWN,
		[P_RST] = VIRTIO_VSOCK_OP_RST,
	};
	unsigned p = next_pending(c);
	bool used = true;

	if (p == P_DATA) {
		used = put_data(v, c);
	} else {
		put_header(v, op_of[p], p == P_SHUTDOWN ? VIRTIO_VSOCK_SHUTDOWN_SEND : 0,
			   c->host_port, c->guest_port, c, 0);
		c->pending &= ~p;
	}
	if (used) {
		c->told = c->fwd;
		c->pending &= ~(unsigned)P_CREDIT;
	}
	if (p == P_RST)
		conn_free(c);
	else
		watch(c);
	return used;
}

static struct vsock_conn *whose_turn(struct vsock *v)
{
	for (unsigned i = 0; i < VSOCK_CONNS; i++) {
		struct vsock_conn *c = v->conns[(v->turn + i) % VSOCK_CONNS];

		if (c && next_pending(c)) {
			v->turn = (v->turn + i + 1) % VSOCK_CONNS;
			return c;
		}
	}
	return NULL;
}

/* Send the guest what there is, as long as it has buffers. */
static void pump(struct vsock *v)
{
	struct vq *q = &v->dev.vq[RX];
	struct vsock_conn *c;
	int i;

	for (i = 0; i < VDEV_AT_ONCE; i++) {
		c = v->n_rst ? NULL : whose_turn(v);
		if (!c && !v->n_rst)
			break;

		int r = vq_pop(q, &v->chain);

		if (r < 0 || (r > 0 && v->chain.in_len < HDR)) {
			vdev_broken(&v->dev);
			return;
		}
		if (r == 0 && vq_listen(q))
			continue;
		if (r == 0)
			break;
		if (v->n_rst) {
			v->n_rst--;
			put_header(v, VIRTIO_VSOCK_OP_RST, 0, v->rst[v->n_rst][0],
				   v->rst[v->n_rst][1], NULL, 0);
		} else if (!put_packet(v, c)) {
			vq_unpop(q, 1);
		}
	}
	vdev_signal(&v->dev, q);
	if (i == VDEV_AT_ONCE)
		vdev_kick(&v->dev);
}

/* Its driver keeps buffers for events at all times; one that has none is told later. */
static void tell_reset(struct vsock *v)
{
	struct virtio_vsock_event e = {.id = VIRTIO_VSOCK_EVENT_TRANSPORT_RESET};
	struct vq *q = &v->dev.vq[EV];

	if (vq_pop(q, &v->chain) <= 0)
		return;

	size_t n = iov_write(v->dev.mem, v->chain.iov + v->chain.n_out, v->chain.n_in, 0, &e, sizeof(e));

	vq_push(q, v->chain.head, (uint32_t)n);
	vdev_signal(&v->dev, q);
	v->reset_due = false;
}

static void process(struct vdev *dev)
{
	struct vsock *v = container_of(dev, struct vsock, dev);

	if (!v->loop)
		return;
	if (v->reset_due)
		tell_reset(v);
	vdev_drain(dev, &dev->vq[TX], &v->chain, transmit);
	if (dev->live)
		pump(v);
}

static void on_in(struct loop_source *s, uint32_t events)
{
	struct vsock_conn *c = container_of(s, struct vsock_conn, in);
	struct vsock *v = c->vs;

	pthread_mutex_lock(&v->dev.lock);
	c->pending |= P_DATA;
	watch(c);
	if (v->dev.live)
		pump(v);
	pthread_mutex_unlock(&v->dev.lock);
}

static void on_out(struct loop_source *s, uint32_t events)
{
	struct vsock_conn *c = container_of(s, struct vsock_conn, out);
	struct vsock *v = c->vs;

	pthread_mutex_lock(&v->dev.lock);
	flush(c);
	if ((events & (EPOLLHUP | EPOLLERR)) && c->got != c->fwd)
		c->pending |= P_RST; /* nobody will read it */
	watch(c);
	if (v->dev.live)
		pump(v);
	pthread_mutex_unlock(&v->dev.lock);
}

/* ---- the host's side ---- */

static uint32_t free_port(struct vsock *v, uint32_t guest_port)
{
	do
		v->next_port = v->next_port < 0x40000000 || v->next_port == UINT32_MAX - 1
				       ? 0x40000000
				       : v->next_port + 1;
	while (find(v, v->next_port, guest_port));
	return v->next_port;
}

int vsock_connect(struct vsock *v, uint32_t port, int fd, void *who)
{
	struct vsock_conn *c = NULL;
	int out = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	pthread_mutex_lock(&v->dev.lock);
	if (v->dev.live && out >= 0) {
		c = conn_new(v, fd, out, free_port(v, port), port);
	} else {
		close(fd);
		close_fd(&out);
	}
	if (c) {
		c->pending = P_REQUEST;
		c->who = who;
		pump(v);
	}
	pthread_mutex_unlock(&v->dev.lock);
	return c ? 0 : -ECONNREFUSED;
}

void vsock_cancel(struct vsock *v, void *who)
{
	pthread_mutex_lock(&v->dev.lock);
	for (unsigned i = 0; i < VSOCK_CONNS; i++) {
		if (!v->conns[i] || v->conns[i]->who != who)
			continue;
		v->conns[i]->who = NULL;
		v->conns[i]->pending |= P_RST;
	}
	if (v->dev.live)
		pump(v);
	pthread_mutex_unlock(&v->dev.lock);
}

void vsock_reset_peers(struct vsock *v)
{
	pthread_mutex_lock(&v->dev.lock);
	v->reset_due = true;
	vdev_kick(&v->dev);
	pthread_mutex_unlock(&v->dev.lock);
}

static void stop(struct vdev *dev)
{
	struct vsock *v = container_of(dev, struct vsock, dev);

	for (unsigned i = 0; i < VSOCK_CONNS; i++)
		if (v->conns[i])
			conn_free(v->conns[i]);
	v->n_rst = 0;
	v->reset_due = false;
}

static const struct vdev_ops ops = {
	.id = VIRTIO_ID_VSOCK,
	.n_queues = 3, /* the third, for events, is used by a restore only */
	.queue_size = 128,
	.stop = stop,
	.process = process,
};

int vsock_init(struct vsock *v, const struct gmem *mem, uint64_t cid, struct vsock_host *host)
{
	*v = (struct vsock){.config.guest_cid = cid, .host = host};
	return vdev_init(&v->dev, &ops, mem, 0, &v->config, sizeof(v->config));
}

int vsock_attach_loop(struct vsock *v, struct loop *l)
{
	v->loop = l;
	return vdev_attach(&v->dev, l);
}

void vsock_done(struct vsock *v)
{
	if (!v || !v->dev.ops)
		return;
	stop(&v->dev);
	if (v->loop)
		loop_remove(v->loop, &v->dev.kick);
	vdev_done(&v->dev);
}
