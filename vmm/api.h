/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the rest of the house says to a running machine, and what its guest says to the machine: the
 * only header of vmm/ that others include, and libvmmapi.a behind it (no threads, no KVM).
 *
 * vps-vmm listens on a SOCK_SEQPACKET socket (its option ctl=). A connection carries requests of
 * one struct vmm_request, each answered by one struct vmm_answer, with what the table says behind
 * or beside it:
 *
 *     VMM_OP_VSOCK     arg[0] port        a stream socket beside the answer
 *     VMM_OP_PAUSE, VMM_OP_RESUME
 *     VMM_OP_BALLOON   arg[0] bytes
 *     VMM_OP_STATS                        struct vmm_stats behind the answer
 *     VMM_OP_POWER
 *     VMM_OP_RATE      arg[0] disk, arg[1] bytes a second, arg[2] requests a second
 *     VMM_OP_GROW      arg[0] disk
 *     VMM_OP_SNAPSHOT  arg[0] 1: stay paused; arg[1] rounds of a pre-copy, the last of which comes now;
 *                      beside the request a regular file, and one for that round
 *     VMM_OP_CPU                          struct vmm_cpu behind the answer
 *     VMM_OP_PRECOPY   arg[0] which round; a regular file beside the request, struct vmm_round
 *                      behind the answer
 *
 *     VMM_OP_WRITTEN   arg[0] disk; an empty regular file beside the request: a bit for each block of
 *                      VMM_LOG_BLOCK bytes that was written since the last such request, the first
 *                      one of a connection: all of them
 *
 * A pre-copy, and a log of what is written, from its first round on, lives as long as the connection that asked for it.
 *
 * All functions: 0 or an fd, or a negative code with words: -VPS_ESTATE nobody listens there, or
 * the machine is in no state for it; -VPS_ETIMEDOUT; -EPROTO another version. Each waits for at
 * most timeout_ms, -1 for ever. run_dir is the directory that has VMM_SOCKET.
 */
#ifndef VPS_VMM_API_H
#define VPS_VMM_API_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* In the VPS's run directory; made, bound and made to listen by vps-vmm's starter, mode 0600. */
#define VMM_SOCKET "vmm.sock"
/* At the front of each message, in both directions. */
#define VMM_API_VERSION 1

/* ---- vsock ports ---- */

/* Of the guest: its agent (runtime/guest/agent.h). */
#define VMM_PORT_AGENT 1
/*
 * Of the host: lines of at most VMM_LINE_MAX bytes with the newline; a longer one ends the
 * connection. Only guest ports below 1024 may connect, which the guest's kernel gives to its root
 * alone, and VMM_NOTIFY_CONNS at a time.
 *
 *     EXIT=<0..255>   vps-vmm's exit status when the guest powers off
 *     REBOOT=1        the next reset is wanted, whatever the console said
 *     ERROR=<words>   the guest could not be brought up: its end will be a failure with this reason
 *     KEY=VALUE       any other: one datagram to the socket of notify=, as sd_notify(3)
 *
 * Every signal that can be caught makes vps-vmm ask the agent for an orderly power-off, and press
 * the power button when the agent does not agree to that.
 */
#define VMM_PORT_NOTIFY	 1
#define VMM_LINE_MAX	 4096
#define VMM_NOTIFY_CONNS 4

/* ---- how vps-vmm ends ---- */

/*
 * What EXIT= said: the guest powered off after that. Any failure, a guest's panic included (its
 * line is the reason): VMM_EXIT_FAILED with one line on stderr. As PID 1 of its namespace with
 * CAP_SYS_BOOT in it, as reboot(2) has it for that namespace: a reset by the guest is a death by
 * SIGHUP, a power-off without EXIT= one by SIGINT. Without: VMM_EXIT_RESET, and 0.
 */
#define VMM_EXIT_RESET	254
#define VMM_EXIT_FAILED 255

/* The last datagram to notify=, by vps-vmm itself and never passed on from the guest: its wait status (wait(2)) for a
 * monitor that is not its parent. None when it is killed. */
#define VMM_WAIT_STATUS "WAIT_STATUS="

/* ---- numbers ---- */

#define VMM_MAX_DISKS 8
#define VMM_MAX_NETS  2
#define VMM_MAX_CPUS  64
#define VMM_UNKNOWN   UINT64_MAX /* the guest has not told */

/* All since the machine began, sizes in bytes. */
struct vmm_stats {
	uint64_t memory;	 /* of the machine */
	uint64_t balloon_target; /* what was asked for */
	uint64_t balloon_actual; /* what the guest gave */
	uint64_t returned;	 /* given back to the host by balloon and reports, in all */
	struct {		 /* the guest's own numbers (virtio 1.2, 5.5.6.3), or VMM_UNKNOWN */
		uint64_t age_ms; /* since they were told */
		uint64_t total, free, available, caches;
		uint64_t swap_in, swap_out, major_faults, minor_faults;
	} guest;
	struct {
		char serial[24];
		uint64_t read_bytes, reads, written_bytes, writes, flushes, errors;
	} disk[VMM_MAX_DISKS];
	struct { /* as the guest sees it: in is what it received */
		uint64_t in_bytes, in_packets, out_bytes, out_packets, out_dropped;
	} net[VMM_MAX_NETS];
	struct {
		uint64_t pio, mmio; /* exits to vps-vmm */
	} cpu[VMM_MAX_CPUS];
	uint64_t console_lost; /* bytes that nobody took */
	uint32_t n_disks, n_nets, n_cpus;
	uint32_t vsock_conns;
	uint32_t paused; /* by VMM_OP_PAUSE */
	uint32_t pad;
};

/* What a host's CPU must have for the guest to go on there, as "vps-vmm check" takes it. */
struct vmm_cpu {
	char text[192];
};

/* A round of a pre-copy. */
struct vmm_round {
	uint64_t bytes;	 /* of memory, written to the file */
	uint64_t zeroes; /* bytes that need not be */
};
#define VMM_ROUNDS_MAX 32

#define VMM_LOG_BLOCK 65536u

/* Connect to a port of the guest. The fd of a stream socket, close-on-exec and blocking.
 * -ECONNREFUSED: nobody listens on that port, or the guest has no driver yet. */
int vmm_api_vsock(int run_dir, uint32_t port, int timeout_ms, struct vps_err *err);
/* Afterwards no CPU runs. Both may be repeated. */
int vmm_api_pause(int run_dir, int timeout_ms, struct vps_err *err);
int vmm_api_resume(int run_dir, int timeout_ms, struct vps_err *err);
/* How much the balloon should take from the guest, in bytes. The guest follows as it can:
 * vmm_stats.balloon_actual. */
int vmm_api_balloon(int run_dir, uint64_t bytes, int timeout_ms, struct vps_err *err);
/* Asks the guest and waits a moment for its numbers; old or unknown ones when it does not answer.
 */
int vmm_api_stats(int run_dir, struct vmm_stats *ret, int timeout_ms, struct vps_err *err);
/* Press the power button. */
int vmm_api_power(int run_dir, int timeout_ms, struct vps_err *err);
/* Limits of a disk, by its place in argv from 0 on; 0: none. */
int vmm_api_rate(int run_dir, unsigned disk, uint64_t bytes_per_sec, uint64_t ops_per_sec,
		 int timeout_ms, struct vps_err *err);
/* The disk's file has another size now, which may only have grown: tell the guest. */
int vmm_api_grow(int run_dir, unsigned disk, int timeout_ms, struct vps_err *err);
/* text: letters, digits, '.', ':' and '-'. */
int vmm_api_cpu(int run_dir, struct vmm_cpu *ret, int timeout_ms, struct vps_err *err);
/* Pause, and write the machine to fd (regular, empty, writable): what restore= of vps-vmm takes.
 * Disks are flushed but not copied: that is the caller's while it is paused. It runs on afterwards
 * unless stay_paused. Open vsock connections are not part of it. */
int vmm_api_snapshot(int run_dir, int fd, bool stay_paused, int timeout_ms, struct vps_err *err);

/*
 * The machine's memory, copied while it runs: round 1 has all of it, each other what has changed since the one before it
 * (vmm/rounds.h). session: -1 for the first one, which makes it: a connection, for the others. Whoever closes it ends the
 * pre-copy, and its owner's death does. After a failure there is none. -EBUSY: another one is at work, or just ending;
 * -VPS_EUNSUPPORTED: this KVM cannot tell what changes.
 */
int vmm_api_precopy(int run_dir, int *session, unsigned round, int fd, struct vmm_round *ret, int timeout_ms,
		    struct vps_err *err);
/* As vmm_api_snapshot, with the rounds of a pre-copy before it: its last one goes to last_fd, the rest, which has no memory,
 * to fd. round: that of the last one. */
int vmm_api_snapshot_rounds(int session, unsigned round, int last_fd, int fd, bool stay_paused, int timeout_ms,
			    struct vps_err *err);

/*
 * Which blocks of a disk were written, discarded or made zero since the last call: a bit each in fd, an empty regular file, the
 * lowest of a byte first. session: as vmm_api_precopy's; the first call begins it, and gives all. A block counts from
 * when it is on the host, so one that is being written when this is asked is in the next answer. Of a paused machine nothing is
 * under way. -EBUSY: another one asks.
 */
int vmm_api_written(int run_dir, int *session, unsigned disk, int fd, int timeout_ms, struct vps_err *err);

/* ---- the wire ---- */

enum vmm_op {
	VMM_OP_VSOCK = 1,
	VMM_OP_PAUSE,
	VMM_OP_RESUME,
	VMM_OP_BALLOON,
	VMM_OP_STATS,
	VMM_OP_POWER,
	VMM_OP_RATE,
	VMM_OP_GROW,
	VMM_OP_SNAPSHOT,
	VMM_OP_PRECOPY,
	VMM_OP_CPU,
	VMM_OP_WRITTEN,
};

struct vmm_request {
	uint32_t version, op;
	uint64_t arg[3];
};

struct vmm_answer {
	uint32_t version;
	int32_t result; /* 0 or a negative code */
	char why[120];	/* words for it, "" when the code says it all */
};

#endif
