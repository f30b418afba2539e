/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hostile driver: the first byte picks a device, then come operations on its registers, on the
 * guest's memory and on the host's end. Guest memory lies between inaccessible pages, so whatever
 * leaves it is seen. Afterwards the device must answer a reset and start again.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "base/sys.h"
#include "tests/unit/vmm_driver.h"
#include "vmm/balloon.h"
#include "vmm/blk.h"
#include "vmm/net.h"
#include "vmm/ports.h"
#include "vmm/rng.h"
#include "vmm/serial.h"
#include "vmm/vsock.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DISK   (256 << 10)
#define PEERS  8
#define REGION 0x200000 /* of the guest's memory, that operations write */

enum { BLK, NET, VSOCK, BALLOON, RNG, SERIAL, PORTS, N_KINDS };
#define RESTORED 0x80 /* the first byte: a snapshot's state comes next */

static struct drv d;
static struct loop loop;
static int wire[2]; /* the device's end, ours */
static int peer[PEERS];
static union {
	struct blk blk;
	struct net net;
	struct vsock vsock;
	struct balloon balloon;
	struct rng rng;
	struct serial serial;
	struct ports ports;
} u;

struct input {
	const uint8_t *p;
	size_t n;
};

static uint64_t take(struct input *in, size_t bytes)
{
	uint64_t v = 0;

	for (size_t i = 0; i < bytes && in->n; i++, in->p++, in->n--)
		v |= (uint64_t)*in->p << 8 * i;
	return v;
}

static void must(int r)
{
	if (r < 0)
		abort();
}

/* Ports: odd ones are refused, of the others some are one way only. */
static int on_accept(struct vsock_host *h, uint32_t port, uint32_t from, int ret[2])
{
	int sv[2], i = 0;

	if (port & 1 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return -ECONNREFUSED;
	ret[0] = port & 2 ? -1 : dup(sv[0]);
	ret[1] = port & 4 ? -1 : dup(sv[0]);
	close(sv[0]);
	while (i < PEERS - 1 && peer[i] >= 0)
		i++;
	close_fd(&peer[i]);
	peer[i] = sv[1];
	return 0;
}

static void on_connected(struct vsock_host *h, void *who, int r)
{
	if (who != peer)
		abort();
}

static struct vsock_host vsock_side = {.accept = on_accept, .connected = on_connected};

static void make(int kind)
{
	int type = kind == NET ? SOCK_DGRAM : SOCK_STREAM;

	memset(&d, 0, sizeof(d));
	memset(peer, -1, sizeof(peer));
	must(gmem_map(&d.mem, MEM_SIZE, -1, NULL));
	must(loop_init(&loop));
	if (kind == BLK) {
		wire[0] = memfd_create("disk", MFD_CLOEXEC);
		wire[1] = -1;
		must(ftruncate(wire[0], DISK));
		must(blk_init(&u.blk, &d.mem, &(struct blk_opts){.fd = wire[0]}, NULL));
		d.v = &u.blk.dev;
		return;
	}
	must(socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, wire));
	switch (kind) {
	case NET:
		must(net_init(&u.net, &d.mem, &(struct net_opts){.tap = wire[0]}, NULL));
		must(net_attach_loop(&u.net, &loop));
		d.v = &u.net.dev;
		break;
	case VSOCK:
		must(vsock_init(&u.vsock, &d.mem, 3, &vsock_side));
		must(vsock_attach_loop(&u.vsock, &loop));
		d.v = &u.vsock.dev;
		break;
	case BALLOON:
		must(balloon_init(&u.balloon, &d.mem));
		d.v = &u.balloon.dev;
		break;
	case RNG:
		must(rng_init(&u.rng, &d.mem));
		d.v = &u.rng.dev;
		break;
	case PORTS:
		ports_init(&u.ports, &loop, wire[0]);
		break;
	case SERIAL:
		must(serial_init(&u.serial));
		must(serial_attach(&u.serial, &loop, wire[0], -1));
		break;
	}
}

static void unmake(int kind)
{
	switch (kind) {
	case BLK:
		blk_done(&u.blk);
		break;
	case NET:
		net_done(&u.net);
		break;
	case VSOCK:
		vsock_done(&u.vsock);
		break;
	case BALLOON:
		balloon_done(&u.balloon);
		break;
	case RNG:
		rng_done(&u.rng);
		break;
	case SERIAL:
		serial_done(&u.serial);
		break;
	case PORTS:
		ports_done(&u.ports);
		break;
	}
	loop_done(&loop);
	gmem_done(&d.mem);
	close_fd(&wire[0]);
	close_fd(&wire[1]);
	for (int i = 0; i < PEERS; i++)
		close_fd(&peer[i]);
}

static void take_bytes(struct input *in, void *p, size_t len)
{
	memset(p, 0, len);
	if (len > in->n)
		len = in->n;
	memcpy(p, in->p, len);
	in->p += len;
	in->n -= len;
}

/* Rings that may be, mostly: numbers of any size would never get further than the first check. */
static int restore(int kind, struct input *in)
{
	struct vq_state vq[VDEV_MAX_QUEUES];
	struct balloon_state b;
	struct vdev_state s;

	take_bytes(in, &s, sizeof(s));
	take_bytes(in, vq, sizeof(vq));
	for (unsigned i = 0; i < VDEV_MAX_QUEUES; i++) {
		vq[i].desc = (vq[i].desc & 0xff0) + RING(i);
		vq[i].driver = (vq[i].driver & 0xffe) + AVAIL(i);
		vq[i].device = (vq[i].device & 0xffc) + USED(i);
		vq[i].size = vq[i].size & 0x8000 ? vq[i].size : 16;
	}
	if (!(s.status & 0x80))
		s.acked &= d.v->offered;
	if (vdev_restore(d.v, &s, vq) < 0)
		return -1;
	if (kind == BALLOON) {
		take_bytes(in, &b, sizeof(b));
		balloon_restore(&u.balloon, &b);
	}
	if (kind == VSOCK)
		vsock_reset_peers(&u.vsock);
	return 0;
}

static void turn(void)
{
	if (d.v)
		vdev_kicked(d.v);
	for (int i = 0; i < 50 && loop_once(&loop, 0) > 0; i++)
		;
}

/* A chain of up to four descriptors at any addresses, made available. */
static void add_chain(struct input *in)
{
	uint32_t q = (uint32_t)take(in, 1) % VDEV_MAX_QUEUES;
	unsigned n = 1 + (unsigned)take(in, 1) % 4;
	uint16_t head = (uint16_t)take(in, 1) % 16;

	for (unsigned i = 0; i < n; i++) {
		uint64_t at = DATA + take(in, 2);
		uint32_t len = (uint32_t)take(in, 2);
		uint8_t flags = (uint8_t)take(in, 1);

		put_desc(&d, RING(q), (uint16_t)(head + i) % 16, at, len,
			 (uint16_t)((flags & W) | (i + 1 < n ? NX : 0)),
			 (uint16_t)(head + i + 1) % 16);
	}
	if (d.size)
		drv_avail(&d, q, head);
}

/* The host's end: packets, connections, bytes, ends. */
static void host(int kind, struct input *in)
{
	uint8_t op = (uint8_t)take(in, 1), buf[512];
	size_t len = (size_t)take(in, 2) % sizeof(buf);
	int *p = &peer[op % PEERS];

	memset(buf, op, sizeof(buf));
	if (kind == PORTS) {
		/* lines, in pieces; a new connection now and then */
		int fd[2];

		if (*p < 0 && ports_accept(&u.ports, VMM_PORT_NOTIFY, op, fd) == 0) {
			*p = fd[0];
			close(fd[1]);
		}
		len = len < in->n ? len : in->n;
		if (*p >= 0 && send(*p, in->p, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			close_fd(p);
		in->p += len;
		in->n -= len;
		return;
	}
	if (kind == BALLOON) {
		struct balloon_stats st;

		balloon_set(&u.balloon, len << 12);
		balloon_get_stats(&u.balloon, &st);
		balloon_actual(&u.balloon);
	} else if (kind == NET || kind == SERIAL) {
		if (send(wire[1], buf, len, MSG_NOSIGNAL) < 0 && errno == EBADF)
			abort();
		while (recv(wire[1], buf, sizeof(buf), 0) > 0)
			;
	} else if (kind == VSOCK && *p < 0) {
		int sv[2];

		if (op & 0x80) {
			vsock_cancel(&u.vsock, peer);
		} else if (op & 0x40) {
			vsock_reset_peers(&u.vsock);
		} else if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) == 0) {
			vsock_connect(&u.vsock, op, sv[1], peer);
			*p = sv[0];
		}
	} else if (kind == VSOCK) {
		if (op & 0x40)
			close_fd(p);
		else if (op & 0x20)
			shutdown(*p, SHUT_WR);
		else if (op & 0x10)
			len = (size_t)recv(*p, buf, sizeof(buf), MSG_DONTWAIT);
		else
			len = (size_t)send(*p, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
}

static void access_reg(int kind, struct input *in, bool write)
{
	uint64_t off = take(in, 2) % 0x220;
	uint32_t width = 1u << take(in, 1) % 4;
	uint64_t val = take(in, width);

	if (kind == PORTS)
		return;
	if (kind == SERIAL && write)
		serial_write(&u.serial, off % 10, (uint8_t)val);
	else if (kind == SERIAL)
		serial_read(&u.serial, off % 10);
	else if (write)
		vdev_write(d.v, off, &val, width);
	else
		vdev_read(d.v, off, &val, width);
}

static void operate(int kind, struct input *in)
{
	uint8_t op = (uint8_t)take(in, 1);
	size_t len;
	uint64_t at;

	switch (op % 8) {
	case 0:
		access_reg(kind, in, true);
		break;
	case 1:
		access_reg(kind, in, false);
		break;
	case 2: /* any bytes anywhere: rings, tables, headers */
		at = take(in, 3) % REGION;
		len = take(in, 1) % 64;
		if (len > in->n)
			len = in->n;
		gmem_write(&d.mem, at, in->p, len);
		in->p += len;
		in->n -= len;
		break;
	case 3:
		if (d.v)
			drv_start(&d, drv_offered(&d) & ~(take(in, 1) << 24), 16);
		break;
	case 4:
	case 5:
		if (d.v)
			add_chain(in);
		if (op % 8 == 5)
			turn();
		break;
	case 6:
		host(kind, in);
		break;
	case 7:
		turn();
		break;
	}
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	signal(SIGPIPE, SIG_IGN);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	int kind;

	if (size < 2 || size > 4096)
		return 0;
	uint8_t first = (uint8_t)take(&in, 1);

	kind = (first & ~RESTORED) % N_KINDS;
	make(kind);
	if (first & RESTORED && d.v && restore(kind, &in) < 0) {
		unmake(kind);
		return 0;
	}
	while (in.n)
		operate(kind, &in);
	turn();
	if (d.v && drv_start(&d, drv_offered(&d), 16) != 0xf)
		abort();
	unmake(kind);
	return 0;
}
