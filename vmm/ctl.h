/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The machine's side of vmm/api.h: one request at a time from each of a few clients. */
#ifndef VPS_VMM_CTL_H
#define VPS_VMM_CTL_H

#include "vmm/api.h"
#include "vmm/loop.h"

#define CTL_CLIENTS 16

struct machine;
struct ctl;

struct ctl_client {
	struct loop_source s;
	struct ctl *ctl;
	int theirs; /* waits for the guest's answer: what the client gets then, or -1 */
};

struct ctl {
	struct machine *m;
	struct loop *loop;
	struct loop_source listener;
	struct ctl_client *client[CTL_CLIENTS];
	struct ctl_client *precopies; /* whose pre-copy it is */
	struct ctl_client *logs;      /* who asks what is written */
};

/* fd: a listening SOCK_SEQPACKET socket, or -1; stays the caller's. 0 or -errno. */
int ctl_init(struct ctl *c, struct machine *m, struct loop *l, int fd);
void ctl_done(struct ctl *c);
/* What the guest said to a client's VMM_OP_VSOCK: vsock_host.connected. */
void ctl_connected(struct ctl *c, void *client, int r);
/* What became of a client's VMM_OP_PRECOPY. */
void ctl_precopied(struct ctl *c, void *client, int r, const char *why, const struct vmm_round *round);

#endif
