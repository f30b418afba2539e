/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/net.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <linux/virtio_ids.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define RX     0
#define TX     1
#define HDR    sizeof(struct virtio_net_hdr_v1)
#define BIT(n) (1ull << (n))

/* Put the packet at hand into the guest's buffers: 1, 0 when there are too few and the driver will
 * notify us of more, -EAGAIN when more came while we asked, -EPROTO. */
static int deliver(struct net *n)
{
	struct vq *q = &n->dev.vq[RX];
	bool merge = vdev_has(&n->dev, VIRTIO_NET_F_MRG_RXBUF);
	uint16_t bufs = 0;
	uint32_t done = 0;
	struct iovec first[2]; /* where num_buffers is */
	size_t n_first = 0;

	while (done < n->have) {
		int r = vq_pop(q, &n->chain);
		const struct vq_chain *c = &n->chain;

		if (r <= 0) {
			/* Ask before they are given back: to be told of buffers behind these. */
			bool more = r == 0 && vq_listen(q);

			vq_unpop(q, bufs);
			return more ? -EAGAIN : r;
		}
		/* A header must fit into the first one (5.1.6.3.1). */
		if (c->in_len < HDR)
			return -EPROTO;
		if (!bufs)
			n_first = iov_slice(c->iov + c->n_out, c->n_in,
					    offsetof(struct virtio_net_hdr_v1, num_buffers), 2,
					    first);

		uint32_t part = n->have - done < c->in_len ? n->have - done : c->in_len;

		iov_write(n->dev.mem, c->iov + c->n_out, c->n_in, 0, n->packet + done, part);
		done += part;
		/* Without merging, what does not fit is lost, as on a wire. */
		if (!merge)
			done = n->have;
		vq_put(q, bufs++, c->head, part);
	}
	iov_write(n->dev.mem, first, n_first, 0, &bufs, sizeof(bufs));
	vq_publish(q, bufs);
	return 1;
}

static void receive(struct net *n)
{
	struct vq *q = &n->dev.vq[RX];
	int r = 0;

	for (int i = 0; i < VDEV_AT_ONCE; i++) {
		if (!n->have) {
			ssize_t len = read(n->tap.fd, n->packet, sizeof(n->packet));

			if (len < 0 && errno == EINTR)
				continue;
			if (len < (ssize_t)HDR)
				break;
			n->have = (uint32_t)len;
		}
		r = deliver(n);
		if (r == -EPROTO) {
			vdev_broken(&n->dev);
			return;
		}
		if (r == 0)
			break;
		if (r > 0) {
			n->in_packets++;
			n->in_bytes += n->have - HDR;
			n->have = 0;
		}
	}
	vdev_signal(&n->dev, q);
	if (r == -EAGAIN)
		vdev_kick(&n->dev);
	/* Without room in the ring there is nothing to do for the tap until the driver kicks. */
	loop_watch(n->loop, &n->tap, n->have ? 0 : EPOLLIN);
}

static int transmit(struct vdev *v, struct vq *q, const struct vq_chain *c)
{
	struct net *n = container_of(v, struct net, dev);

	/* The kernel copies header and packet once and checks them itself. A tap that is full
	 * drops, as every wire does. */
	if (c->n_in || c->out_len <= HDR || c->out_len > NET_PACKET_MAX ||
	    writev(n->tap.fd, c->iov, c->n_out) < 0) {
		n->dropped++;
	} else {
		n->out_packets++;
		n->out_bytes += c->out_len - HDR;
	}
	vq_push(q, c->head, 0);
	return 0;
}

static void process(struct vdev *v)
{
	struct net *n = container_of(v, struct net, dev);

	vdev_drain(v, &v->vq[TX], &n->chain, transmit);
	if (v->live && n->loop)
		receive(n);
}

static void on_tap(struct loop_source *s, uint32_t events)
{
	struct net *n = container_of(s, struct net, tap);

	pthread_mutex_lock(&n->dev.lock);
	if (events & (EPOLLERR | EPOLLHUP))
		loop_remove(n->loop, s); /* the tap is gone */
	else if (n->dev.live)
		receive(n);
	else
		loop_watch(n->loop, s, 0);
	pthread_mutex_unlock(&n->dev.lock);
}

static void start(struct vdev *v)
{
	struct net *n = container_of(v, struct net, dev);
	unsigned flags = 0;

	if (vdev_has(v, VIRTIO_NET_F_GUEST_CSUM))
		flags |= TUN_F_CSUM;
	if (vdev_has(v, VIRTIO_NET_F_GUEST_TSO4))
		flags |= TUN_F_TSO4;
	if (vdev_has(v, VIRTIO_NET_F_GUEST_TSO6))
		flags |= TUN_F_TSO6;
	if (n->tap_offloads && ioctl(n->tap.fd, TUNSETOFFLOAD, flags) < 0)
		vdev_broken(v);
}

static void stop(struct vdev *v)
{
	container_of(v, struct net, dev)->have = 0;
}

static const struct vdev_ops ops = {
	.id = VIRTIO_ID_NET,
	.n_queues = 2,
	.queue_size = 256,
	.start = start,
	.stop = stop,
	.process = process,
};

int net_init(struct net *n, const struct gmem *mem, const struct net_opts *o, struct vps_err *err)
{
	uint64_t features = BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_MRG_RXBUF);
	int hdr = HDR, r;

	*n = (struct net){.tap = {.fd = o->tap, .fn = on_tap}, .config = {.mtu = o->mtu}};
	memcpy(n->config.mac, o->mac, sizeof(o->mac));
	if (o->mtu)
		features |= BIT(VIRTIO_NET_F_MTU);
	n->tap_offloads = ioctl(o->tap, TUNSETVNETHDRSZ, &hdr) == 0;
	if (n->tap_offloads)
		features |= BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM) |
			    BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6) |
			    BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6);
	r = vdev_init(&n->dev, &ops, mem, features, &n->config, sizeof(n->config));
	return r < 0 ? vps_err_sys(err, r, "make a network card") : 0;
}

int net_attach_loop(struct net *n, struct loop *l)
{
	int r;

	n->loop = l;
	r = loop_watch(l, &n->tap, 0);
	return r < 0 ? r : vdev_attach(&n->dev, l);
}

void net_done(struct net *n)
{
	if (!n || !n->dev.ops)
		return;
	if (n->loop) {
		loop_remove(n->loop, &n->tap);
		loop_remove(n->loop, &n->dev.kick);
	}
	vdev_done(&n->dev);
}
