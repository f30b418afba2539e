/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtio stream sockets (virtio 1.2, 5.10) in user space. The host's side is one SOCK_SEQPACKET
 * socket on which connections travel as fds, so that a VMM in an empty root needs no paths:
 *
 *     to us:   struct vsock_msg with a port of the guest, and a stream socket: connect the two
 *     from us: struct vsock_msg with a port of the host, and a stream socket: the guest connected
 *
 * A refused connection is a socket that ends. Flow control is the guest's credit one way and a
 * buffer of VSOCK_BUF a connection the other way; a guest that sends more than it may loses the
 * connection.
 */
#ifndef VPS_VMM_VSOCK_H
#define VPS_VMM_VSOCK_H

#include <linux/virtio_vsock.h>

#include "vmm/virtio_mmio.h"

#define VSOCK_BUF   (64u << 10)
#define VSOCK_CONNS 128
#define VSOCK_RSTS  64
#define VSOCK_HOST  2 /* the host's context id */

struct vsock_msg {
	uint32_t port;
};

struct vsock_conn;

struct vsock {
	struct vdev dev;
	struct virtio_vsock_config config;
	struct loop *loop;
	struct loop_source ctl;
	struct vsock_conn *conns[VSOCK_CONNS];
	unsigned turn; /* whose packet is next */
	uint32_t next_port;
	/* Answers to packets that belong to no connection: {host port, guest port}. */
	uint32_t rst[VSOCK_RSTS][2];
	unsigned n_rst;
	struct vq_chain chain;
	struct iovec part[VQ_MAX_SIZE];
};

/* cid: the guest's context id, 3 or more. ctl: as above, or -1; stays the caller's. */
int vsock_init(struct vsock *v, const struct gmem *mem, uint64_t cid, int ctl);
int vsock_attach_loop(struct vsock *v, struct loop *l);
void vsock_done(struct vsock *v);
unsigned vsock_n_conns(const struct vsock *v);

#endif
