/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is mounted where in a VPS, decided without touching anything. */
#include "runtime/container/container.h"

#include <sys/mount.h>

#define NOSUID	MOUNT_ATTR_NOSUID
#define NODEV	MOUNT_ATTR_NODEV
#define NOEXEC	MOUNT_ATTR_NOEXEC
#define RDONLY	MOUNT_ATTR_RDONLY
#define NO_ALL	(NOSUID | NODEV | NOEXEC)

static int add(struct mnt_plan *p, struct mnt m)
{
	if (mem_grow(p->m, p->n, p->cap) < 0)
		return -ENOMEM;
	p->m[p->n++] = m;
	return 0;
}

static bool limited(uint64_t memory)
{
	return memory != SPEC_UNSET && memory != SPEC_MAX;
}

/* A share of the VPS's memory; tmpfs pages are counted there anyway, this only lets `df` say so and keeps a
 * VPS without a limit off half of the host's memory in inodes. */
static uint64_t share(uint64_t memory, unsigned percent, uint64_t dflt)
{
	return limited(memory) ? memory / 100 * percent : dflt;
}

/* The kernel's default gives an inode to each page of half the memory: a limit of our own. */
static uint64_t inodes(uint64_t memory)
{
	if (!limited(memory))
		return 1u << 20;
	uint64_t n = memory / 16384;
	return n < 16384 ? 16384 : n;
}

static int kernel_files(struct mnt_plan *p, const struct mnt_input *in)
{
	int r = add(p, (struct mnt){MNT_PROC, "proc", NO_ALL, .mode = 0555, .make = true,
				    .strict = true});
	if (r == 0)
		r = add(p, (struct mnt){MNT_SYSFS, "sys", NO_ALL | RDONLY, .mode = 0555,
					.make = true, .strict = true});
	if (r == 0)
		r = add(p, (struct mnt){MNT_CGROUP, "sys/fs/cgroup", NO_ALL, .strict = true});
	if (r == 0)
		r = add(p, (struct mnt){MNT_DEV, "dev", NOSUID, .mode = 0755,
					.make = true, .strict = true});
	if (r == 0)
		r = add(p, (struct mnt){MNT_DEVPTS, "dev/pts", NOSUID | NOEXEC, .strict = true});
	if (r == 0)
		r = add(p, (struct mnt){MNT_MQUEUE, "dev/mqueue", NO_ALL, .strict = true});
	if (r == 0)
		r = add(p, (struct mnt){MNT_TMPFS, "dev/shm", NOSUID | NODEV, .mode = 01777,
					.size = share(in->memory, 50, 0),
					.inodes = inodes(in->memory), .strict = true});
	/* A user namespace may mount proc and sysfs only where it can see whole ones (mount_too_revealing() in
	 * fs/namespace.c), and a writable one only where it sees a writable one. */
	if (r == 0 && in->whole)
		r = add(p, (struct mnt){MNT_PROC, "dev/.vps/proc", NO_ALL, .strict = true});
	if (r == 0 && in->whole)
		r = add(p, (struct mnt){MNT_SYSFS, "dev/.vps/sys", NO_ALL, .strict = true});
	/* systemd takes a tmpfs that is there; 20 % is its own measure. */
	if (r == 0 && in->system)
		r = add(p, (struct mnt){MNT_TMPFS, "run", NOSUID | NODEV, .mode = 0755,
					.size = share(in->memory, 20, 0),
					.inodes = inodes(in->memory), .make = true,
					.strict = true});
	return r;
}

static int operators(struct mnt_plan *p, const struct mnt_input *in)
{
	for (size_t i = 0; i < in->n_mounts; i++) {
		const char *dst = in->mounts[i].dst;
		while (*dst == '/')
			dst++;
		int r = add(p, (struct mnt){MNT_BIND, dst,
					    NOSUID | NODEV | (in->mounts[i].ro ? RDONLY : 0),
					    .mode = 0755, .tree = (unsigned)i, .make = true});
		if (r < 0)
			return r;
	}
	return 0;
}

/* Last, so that nothing above can come between. */
static int walls(struct mnt_plan *p)
{
	static const char *const read_only[] = {
		"proc/bus", "proc/fs", "proc/irq", "proc/sysrq-trigger",
	};
	static const char *const masked[] = {
		"proc/acpi", "proc/asound", "proc/kcore", "proc/keys", "proc/latency_stats",
		"proc/sched_debug", "proc/scsi", "proc/timer_list", "proc/timer_stats",
		"sys/firmware",
	};
	int r = 0;
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(read_only); i++)
		r = add(p, (struct mnt){MNT_READONLY, read_only[i], NO_ALL | RDONLY,
					.optional = true, .strict = true});
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(masked); i++)
		r = add(p, (struct mnt){MNT_MASK, masked[i], NO_ALL | RDONLY, .optional = true,
					.strict = true});
	return r;
}

int mnt_plan(const struct mnt_input *in, struct mnt_plan *ret)
{
	struct mnt_plan p = {0};
	int r = kernel_files(&p, in);
	if (r == 0)
		r = operators(&p, in);
	if (r == 0)
		r = walls(&p);
	if (r < 0) {
		mnt_plan_done(&p);
		return r;
	}
	*ret = p;
	return 0;
}

void mnt_plan_done(struct mnt_plan *p)
{
	free(p->m);
	*p = (struct mnt_plan){0};
}
