/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The host's vsock ports: fds that were given for them, and the lines of VMM_PORT_NOTIFY
 * (vmm/api.h). */
#ifndef VPS_VMM_PORTS_H
#define VPS_VMM_PORTS_H

#include "vmm/api.h"
#include "vmm/loop.h"

#define PORTS_MAX 8

struct port {
	uint32_t port;
	int in, out; /* different fds, or -1; the first connection takes them */
};

struct ports;

struct notify_conn {
	struct loop_source s;
	struct ports *ports;
	uint32_t len;
	char line[VMM_LINE_MAX];
};

struct ports {
	struct loop *loop;
	struct port port[PORTS_MAX];
	size_t n;
	int notify; /* a connected datagram socket, or -1; the caller's */
	struct notify_conn *conn[VMM_NOTIFY_CONNS];
	int exit_code;	 /* of EXIT=, -1 before */
	bool reboot;	 /* REBOOT=1 was said */
	char error[128]; /* of ERROR=, harmless to show; "" before */
};

void ports_init(struct ports *p, struct loop *l, int notify);
void ports_done(struct ports *p);
/* Give fd, of which a duplicate is made, to a port; in: the guest gets its bytes, out: it gets the
 * guest's. -E2BIG, -EEXIST, or another -errno. */
int ports_add(struct ports *p, uint32_t port, int fd, bool in, bool out);
/* The guest connects: vsock_host.accept. */
int ports_accept(struct ports *p, uint32_t port, uint32_t from, int ret[2]);

#endif
