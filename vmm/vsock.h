/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtio stream sockets (virtio 1.2, 5.10) in user space. A connection's host side is one fd to
 * read and one to write: sockets or pipes, which become nonblocking. Flow control is the guest's
 * credit one way and a buffer of VSOCK_BUF a connection the other way; a guest that sends more than
 * it may loses the connection. SIGPIPE must be blocked or ignored.
 */
#ifndef VPS_VMM_VSOCK_H
#define VPS_VMM_VSOCK_H

#include <linux/virtio_vsock.h>

#include "vmm/virtio_mmio.h"

#define VSOCK_BUF   (64u << 10)
#define VSOCK_CONNS 128
#define VSOCK_RSTS  64
#define VSOCK_HOST  2 /* the host's context id */

/* Who serves the host's ports. */
struct vsock_host {
	/* The guest's port from connects to port: ret[0] is read for it, ret[1] gets what it sends;
	 * either may be -1, both become the device's. 0, or -errno: refused. */
	int (*accept)(struct vsock_host *h, uint32_t port, uint32_t from, int ret[2]);
	/* What became of vsock_connect: 0, -ECONNREFUSED (also when the device was reset). */
	void (*connected)(struct vsock_host *h, void *who, int r);
};

struct vsock_conn;

struct vsock {
	struct vdev dev;
	struct virtio_vsock_config config;
	struct loop *loop;
	struct vsock_host *host; /* NULL: no port is open */
	struct vsock_conn *conns[VSOCK_CONNS];
	unsigned turn; /* whose packet is next */
	uint32_t next_port;
	/* Answers to packets that belong to no connection: {host port, guest port}. */
	uint32_t rst[VSOCK_RSTS][2];
	unsigned n_rst;
	bool reset_due; /* the guest is to forget its connections */
	struct vq_chain chain;
	struct iovec part[VQ_MAX_SIZE];
};

/* cid: the guest's context id, 3 or more. host's functions are called in the loop with the device
 * locked. */
int vsock_init(struct vsock *v, const struct gmem *mem, uint64_t cid, struct vsock_host *host);
int vsock_attach_loop(struct vsock *v, struct loop *l);
void vsock_done(struct vsock *v);
/* In the loop's thread: connect fd, which becomes the device's also on failure, to a port of the
 * guest. host->connected(who) tells the guest's answer, unless who is NULL. -ECONNREFUSED: it has
 * no driver yet, or too many connections. */
int vsock_connect(struct vsock *v, uint32_t port, int fd, void *who);
/* Nobody waits for that any more: without an answer so far the connection ends. */
void vsock_cancel(struct vsock *v, void *who);
/* After a restore: tell the guest that its connections are gone. */
void vsock_reset_peers(struct vsock *v);
unsigned vsock_n_conns(const struct vsock *v);

#endif
