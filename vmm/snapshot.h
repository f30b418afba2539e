/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A paused machine as one file:
 *
 *     memory    guest memory from offset 0 on, zeroes as holes: a restore maps it privately, so
 *               that it begins at once and reads what the guest touches
 *     state     sections of struct snap_section and bytes: CPUs, interrupt controllers, devices
 *     trailer   struct snap_trailer, the last bytes of the file
 *
 * With rounds of a pre-copy (vmm/rounds.h) the memory is in those files instead, and this one has state and trailer.
 *
 * Whoever restores says all options again; what a snapshot tells about the machine is compared with
 * them, and its state is checked as if a guest had written it.
 */
#ifndef VPS_VMM_SNAPSHOT_H
#define VPS_VMM_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define SNAP_MAGIC   "VPSSNAP"
#define SNAP_VERSION 1

struct snap_trailer {
	char magic[8];
	uint32_t version;
	uint16_t cpus, rounds; /* rounds: files with the memory, or 0 */
	uint64_t memory;     /* bytes */
	uint64_t state_len;  /* behind the memory */
	uint64_t memory_sum; /* snap_sum of each chunk, mixed; or of the rounds, by rounds_check */
	uint64_t state_sum;
	uint64_t sum; /* of all before */
};

enum snap_id {
	SNAP_CLOCK = 1, /* struct kvm_clock_data */
	SNAP_IRQCHIP,	/* number 0 to 2: struct kvm_irqchip */
	SNAP_CPUID,	/* number: CPU; struct kvm_cpuid_entry2 each */
	SNAP_MSRS,	/* struct kvm_msr_entry each */
	SNAP_CPU,	/* struct snap_cpu */
	SNAP_DEVICE,	/* number: window; struct snap_device */
	SNAP_SERIAL,	/* struct serial_state */
	SNAP_BALLOON,	/* struct balloon_state */
};

struct snap_section {
	uint32_t id, number;
	uint64_t len;
};

struct machine;

/* Its file, and those of its rounds, in order. */
struct snap_files {
	int fd;
	const int *rounds;
	size_t n_rounds;
};
/* Regular, empty, writable? */
int snapshot_check_target(int fd, struct vps_err *err);
/* Of a paused machine. fd: of snapshot_check_target. rounds: of the pre-copy that has all of its memory, with their sum; 0:
 * the memory is written, too. Disks are flushed. 0 or a negative code. */
int snapshot_write(struct machine *m, int fd, unsigned rounds, uint64_t rounds_sum, struct vps_err *err);
/* Is it one of this version, whole, for that memory and so many CPUs? verify: read all of the
 * memory, too. -VPS_EUSAGE another machine's, -EBADMSG damaged, -VPS_EUNSUPPORTED another version.
 */
int snapshot_check(const struct snap_files *f, uint64_t memory, unsigned cpus, bool verify, struct vps_err *err);
/* The state into a machine whose memory is there, with all devices, none of them started.
 * -VPS_EUNSUPPORTED: its CPU had what this host's has not. */
int snapshot_load(struct machine *m, int fd, struct vps_err *err);

/* A sum against damage, not against forgery. */
uint64_t snap_sum(uint64_t seed, const void *p, uint64_t len);
/* All of it, at off. 0 or -errno; -EBADMSG: the file is shorter. */
int snap_read_all(int fd, void *p, size_t len, uint64_t off);

#endif
