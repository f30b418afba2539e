/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A whole machine of plain options and fds: memory, kernel, devices, and the loop that serves it.
 */
#ifndef VPS_VMM_MACHINE_H
#define VPS_VMM_MACHINE_H

#include "vmm/balloon.h"
#include "vmm/blk.h"
#include "vmm/net.h"
#include "vmm/rng.h"
#include "vmm/vm.h"
#include "vmm/vsock.h"

#define MACHINE_DISKS	8
#define MACHINE_NETS	2
#define MACHINE_INITRDS 4

/* All fds stay the caller's. */
struct machine_opts {
	uint64_t memory; /* bytes */
	unsigned cpus;
	int kernel;
	int initrds[MACHINE_INITRDS];
	size_t n_initrds;
	const char *cmdline;
	int console_in, console_out; /* nonblocking, or -1 */
	struct blk_opts disks[MACHINE_DISKS];
	size_t n_disks;
	struct net_opts nets[MACHINE_NETS];
	size_t n_nets;
	int vsock; /* of vsock_init, or -1: no such device */
	uint64_t cid;
	bool any_kvm; /* also one that cannot run a stock kernel */
};
#define MACHINE_OPTS_INIT                                                                          \
	{                                                                                          \
		.cpus = 1, .kernel = -1, .console_in = -1, .console_out = -1, .vsock = -1,         \
		.cid = 3                                                                           \
	}

struct machine {
	int kvm;
	struct vm vm;
	struct loop loop;
	struct loop_source ended;
	struct serial com;
	struct blk disks[MACHINE_DISKS];
	size_t n_disks;
	struct net nets[MACHINE_NETS];
	size_t n_nets;
	struct vsock vsock;
	struct balloon balloon;
	struct rng rng;
};

/* Prepare it all, up to the CPUs' threads, which wait for machine_run. -VPS_EUNSUPPORTED when this
 * host cannot run it; what else can go wrong is loader_load's and the system's. */
int machine_new(const struct machine_opts *o, struct machine **ret, struct vps_err *err);
/* Let it run, and serve it until it ends. */
enum vm_end machine_run(struct machine *m, char *why, size_t size);
struct machine *machine_free(struct machine *m);
static inline void machine_freep(struct machine **m)
{
	*m = machine_free(*m);
}

#endif
