/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A whole machine of plain options and fds: memory, kernel, devices, and the loop that serves it.
 */
#ifndef VPS_VMM_MACHINE_H
#define VPS_VMM_MACHINE_H

#include "vmm/api.h"
#include "vmm/balloon.h"
#include "vmm/blk.h"
#include "vmm/ctl.h"
#include "vmm/net.h"
#include "vmm/ports.h"
#include "vmm/precopy.h"
#include "vmm/rng.h"
#include "vmm/stopper.h"
#include "vmm/vm.h"
#include "vmm/vsock.h"
#include "vmm/waker.h"

#define MACHINE_DISKS	VMM_MAX_DISKS
#define MACHINE_NETS	VMM_MAX_NETS
#define MACHINE_INITRDS 4

struct machine_port {
	uint32_t port;
	int fd;
	bool in, out;
};

/* All fds stay the caller's, those of kernel, initrds and ports for no longer than machine_new. */
struct machine_opts {
	int kvm;	 /* /dev/kvm, or -1: by its path */
	uint64_t memory; /* bytes */
	unsigned cpus;
	int restore; /* a snapshot, instead of kernel, initrds, cmdline; or -1 */
	int rounds[ROUNDS_MAX]; /* that belong to it (vmm/rounds.h) */
	size_t n_rounds;
	bool verify; /* read all of its memory first */
	int kernel;
	int initrds[MACHINE_INITRDS];
	size_t n_initrds;
	const char *cmdline;
	int console_in, console_out; /* nonblocking, or -1 */
	struct blk_opts disks[MACHINE_DISKS];
	size_t n_disks;
	struct net_opts nets[MACHINE_NETS];
	size_t n_nets;
	uint64_t cid;
	int ctl;    /* of ctl_init, or -1 */
	int notify; /* of ports_init, or -1 */
	struct machine_port ports[PORTS_MAX];
	size_t n_ports;
	bool filtered; /* threads get their filters */
	bool any_kvm;  /* also one that cannot run a stock kernel */
};
#define MACHINE_OPTS_INIT                                                                          \
	{                                                                                          \
		.kvm = -1, .cpus = 1, .restore = -1, .kernel = -1, .console_in = -1,               \
		.console_out = -1, .cid = 3, .ctl = -1, .notify = -1                               \
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
	struct vsock_host host;
	struct ports ports;
	struct ctl ctl;
	struct stopper stopper;
	struct waker waker;
	struct precopy precopy;
	bool paused;
	int tsc_khz; /* of CPU 0: one that runs is not asked, or who asks waits for its next exit */
};

/* Prepare it all, up to the CPUs' threads, which wait for machine_run. -VPS_EUNSUPPORTED when this
 * host cannot run it; what else can go wrong is loader_load's and the system's. */
int machine_new(const struct machine_opts *o, struct machine **ret, struct vps_err *err);
/* Let it run, and serve it until it ends. VM_FAILED also when the guest said that it failed, or its
 * kernel panicked; *ret_code is what the guest wants to be its exit status after VM_POWEROFF. */
enum vm_end machine_run(struct machine *m, int *ret_code, char *why, size_t size);
/* In the loop's thread. Paused: no CPU runs, no disk is used. */
void machine_pause(struct machine *m);
void machine_resume(struct machine *m);
void machine_stats(struct machine *m, struct vmm_stats *ret);
struct machine *machine_free(struct machine *m);
static inline void machine_freep(struct machine **m)
{
	*m = machine_free(*m);
}

#endif
