/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Control groups by sysfs, without libcgroup. This room knows nothing of VPSes:
 * it makes named groups below one parent, writes limits, reads usage.
 *
 *   <hierarchy>/<tag>/<name>/       limits; owned by the host
 *   <hierarchy>/<tag>/<name>/ns/    v2 only: delegated to the tenant, root of its
 *                                   cgroup namespace (cgroups(7), "Delegation")
 *   <hierarchy>/<tag>/monitors/     v2 only: the keepers, outside every limit
 *
 * cgroup v2 (kernel Documentation/admin-guide/cgroup-v2.rst). On hybrid hosts, where
 * v1 holds some controllers, the same table of limits writes v1 files, for each
 * controller where it lives; v2 then still gives freeze, kill, CPU time, pressure (PSI) and the
 * cgroup namespace. v1's freezer and cpuacct are never used: nothing is made there.
 *
 * A function that takes a struct vps_err leaves words in it whenever it fails.
 */
#ifndef VPS_CGROUPS_H
#define VPS_CGROUPS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define CG_UNSET (UINT64_MAX - 1) /* not asked for: the kernel's default stays */
#define CG_MAX	 UINT64_MAX	  /* "max": no limit */

enum cg_controller {
	CG_CPU, CG_CPUACCT, CG_CPUSET, CG_MEMORY, CG_IO, CG_PIDS, CG_HUGETLB, CG_DEVICES,
	CG_FREEZER, CG_N_CONTROLLERS,
};

struct cg_io_max { /* one device's io.max; CG_UNSET or CG_MAX for a field left alone */
	unsigned major, minor;
	uint64_t rbps, wbps, riops, wiops;
};

struct cg_device { /* a rule of the allow list */
	char type; /* 'c', 'b' or 'a' */
	int major, minor; /* -1: any */
	char access[4]; /* of "rwm" */
};

struct cg_hugetlb { /* one page size's limit */
	char size[16]; /* as the kernel names it: "2MB", "1GB" */
	uint64_t max;  /* bytes */
};

struct cg_limits {
	uint64_t memory_min, memory_low, memory_high, memory_max; /* bytes */
	uint64_t swap_max; /* bytes of swap alone, as memory.swap.max */
	uint64_t cpu_max;  /* thousandths of a CPU (1500 = 1.5 CPUs) */
	uint64_t cpu_weight; /* 1..10000, default 100 */
	char *cpuset;	   /* "0-3,8", NULL: unset */
	uint64_t pids_max;
	uint64_t io_weight; /* 1..10000, default 100 */
	struct cg_io_max *io_max;
	size_t n_io_max;
	struct cg_hugetlb *hugetlb;
	size_t n_hugetlb;
	uint64_t cgroups_max; /* cgroup.max.descendants (4.14); ns/ is one of them */
	int oom_group; /* memory.oom.group (4.19): 1: a kill takes the whole group; 0; -1: unset */
};
/* Every field CG_UNSET / NULL / -1. */
void cg_limits_init(struct cg_limits *l);
/* Frees cpuset, io_max and hugetlb, then as cg_limits_init. */
void cg_limits_done(struct cg_limits *l);

struct cg_psi { double some10, some60, full10, full60; uint64_t some_us, full_us; };

struct cg_stats { /* CG_UNSET where this host does not tell */
	uint64_t cpu_usage_us, cpu_user_us, cpu_system_us, cpu_periods, cpu_throttled,
		cpu_throttled_us;
	uint64_t memory_current, memory_peak, memory_max, memory_anon, memory_file, memory_kernel;
	uint64_t swap_current;
	uint64_t oom_kills;
	uint64_t pids_current, pids_max, pids_denied;
	uint64_t io_rbytes, io_wbytes, io_rios, io_wios;
	bool has_psi;
	struct cg_psi psi_cpu, psi_memory, psi_io;
};

/* The host's hierarchies: where each controller lives. */
struct cg_host;
/* Read /proc/self/mountinfo and /sys/fs/cgroup once; opens nothing that stays but directory
 * fds. tag: the parent's name below each hierarchy's root, made by the first cg_create.
 * -VPS_EUNSUPPORTED without cgroup2. A host may be closed before its groups are. */
int cg_host_open(const char *tag, struct cg_host **ret, struct vps_err *err);
struct cg_host *cg_host_close(struct cg_host *h);
static inline void cg_host_closep(struct cg_host **h) { *h = cg_host_close(*h); }
/* Is the whole host cgroup v2? */
bool cg_host_unified(const struct cg_host *h);
/* 2, 1 or 0 (not there): the version that serves a controller here. CG_FREEZER and CG_CPUACCT are
 * always 2 (cgroup.freeze and cpu.stat need no controller); CG_DEVICES is 1 or 2 (BPF). */
int cg_host_version(const struct cg_host *h, enum cg_controller c);
const char *cg_controller_name(enum cg_controller c);

/* Would every limit that is set be enforced in a new group here? 0, or -VPS_EUNSUPPORTED with why and
 * what to do; -VPS_EUSAGE for a value out of range (io_weight 0, cpuset with CPUs that are not
 * there, min above max, …). Pure but for reading sysfs. */
int cg_limits_check(const struct cg_host *h, const struct cg_limits *l, struct vps_err *err);
/* What of l holds here only in part (v1 counts buffered writes to the host, not to the VPS):
 * sentences to show the operator as warnings; strv, NULL when all is well. */
int cg_limits_caveats(const struct cg_host *h, const struct cg_limits *l, char ***ret);

/* A name for a group or a tag: letters, digits, "_-." beginning with a letter or digit, at most
 * 200 bytes, not "monitors" and not like one of the kernel's own files ("cpu.stat", "tasks"). */
bool cg_name_valid(const char *name);
/* Remove the tag's own directories, once no group and no monitor is left (uninstall, tests). */
int cg_host_purge(struct cg_host *h, struct vps_err *err);

/* A group. */
struct cg;
/* Make the group in every hierarchy it needs (made parents get their controllers enabled
 * top-down), delegate ns/ to owner (uid = gid) in v2: the directory, cgroup.procs,
 * cgroup.subtree_control, cgroup.threads and memory.oom.group / memory.pressure as
 * /sys/kernel/cgroup/delegate lists. An existing empty group is taken over (removed and
 * made again, so that no limit of its past stays); one with processes in it is -VPS_ESTATE. On
 * failure nothing stays. */
int cg_create(struct cg_host *h, const char *name, uid_t owner, struct cg **ret,
	      struct vps_err *err);
/* Open an existing one; -ENOENT. Costs one system call. */
int cg_open(struct cg_host *h, const char *name, struct cg **ret, struct vps_err *err);
struct cg *cg_close(struct cg *cg);
static inline void cg_closep(struct cg **cg) { *cg = cg_close(*cg); }

/* Write every field that is set and differs, in an order that is valid at each step (raising
 * before lowering: high/max/min against each other, live). Checks as cg_limits_check does, but holds
 * what is set against what the group has. On failure what was written is put back.
 * Lowering memory_max below what is used is allowed only if the kernel can reclaim down to it
 * (memory.high first, bounded reclaim), else -VPS_ERESOURCE and the old limit stays. */
int cg_limits_apply(struct cg *cg, const struct cg_limits *l, struct vps_err *err);
/* Replace the device allow list: BPF on v2 (BPF_CGROUP_DEVICE, replaced atomically, 5.6),
 * devices.allow/deny on v1 (what is allowed before and after is allowed throughout, but for the
 * step from "everything" to a list). -VPS_EUSAGE for a rule that makes no sense. A new group
 * allows everything: set the rules before anything enters it. */
int cg_devices_set(struct cg *cg, const struct cg_device *rules, size_t n, struct vps_err *err);

/* For clone3(CLONE_INTO_CGROUP, 5.7): the fd of v2 <name>/ns. Owned by cg. Also opens what
 * cg_enter_v1 needs, so call it before the clone. -errno. */
int cg_clone_fd(struct cg *cg);
/* Put the calling (single-threaded) process into the v1 groups, by writing "0" to `tasks`: a
 * cgroup.procs write waits for a grace period (7–14 ms when cold), tasks does not. Only
 * async-signal-safe calls; the fds were opened by cg_create, cg_clone_fd or cg_exec_fd. Their
 * opener's rights count, not the writer's (5.16), so this works in a new user namespace too.
 * -errno; 0 where there is nothing of v1. */
int cg_enter_v1(const struct cg *cg);
/* For exec: the v2 cgroup where the process init is now (a leaf: systemd moves itself to
 * init.scope), for CLONE_INTO_CGROUP; the child then calls cg_enter_v1. The caller's to close;
 * -ESRCH when init is gone, -EXDEV when it is not inside this group, or another -errno. */
int cg_exec_fd(struct cg *cg, pid_t init);
/* Make <tag>/monitors (v2). Its fd for CLONE_INTO_CGROUP, owned by h, or -errno. */
int cg_monitors_fd(struct cg_host *h, struct vps_err *err);
/* Make <tag>/monitors and move pid there (v2). May wait for a grace period (7-14 ms): the fd
 * above does not. */
int cg_move_monitor(struct cg_host *h, pid_t pid, struct vps_err *err);
/* In a forked child that will be a program of others which serves all VPSes (lxcfs): into <tag>/monitors,
 * for a service of systemd takes with it who is in its group when it ends; and on a host that is all
 * cgroup v2 into a cgroup namespace of the same view. cgroup2 has one set of options for all its mounts, and
 * a mount without them, made in the first namespace, takes nsdelegate and memory_recursiveprot from the
 * whole host (kernel/cgroup/cgroup.c, apply_cgroup_root_flags; lxcfs 5.0 does that). -errno. The fd of
 * cg_monitors_fd must be open. */
int cg_enter_monitors(struct cg_host *h);

/* ---- for a checkpoint (nstree.c): what the tenant made of ns/ ---- */
struct json;
struct json_out;
/* Its groups, their owners and settings, and who is in them, as an array. While it is frozen. */
int cg_tree_save(struct cg *cg, struct json_out *o, const char *key, struct vps_err *err);
/* The groups again, empty. -EBADMSG for what cg_tree_save cannot have written. */
int cg_tree_make(struct cg *cg, const struct json *tree, struct vps_err *err);
/* Every process that is brought back into its own. */
int cg_tree_place(struct cg *cg, const struct json *tree, struct vps_err *err);
/* Before that: processes that are not of a PID namespace below ours (a restorer and its like) go to the keepers. */
int cg_tree_leave(struct cg *cg, struct vps_err *err);
/* After cg_tree_make, in a forked child that makes a checkpoint's processes: into a cgroup namespace whose root ns/ is, the v1
 * groups, and a group of its own below ns/; then all groups get their settings and controllers. */
int cg_tree_enter(struct cg *cg, const struct json *tree);
/* Absolute path of ns/; owned. NULL when out of memory. */
char *cg_ns_path(const struct cg *cg);
/* cgroup.freeze of the group, for writing: "0" thaws it. The caller's to close; or -errno. */
int cg_freeze_fd(const struct cg *cg);

/* cgroup.freeze (5.2), waits for cgroup.events frozen to follow (poll, no sleeps); -ETIMEDOUT thaws
 * again. */
int cg_freeze(struct cg *cg, bool frozen, int timeout_ms, struct vps_err *err);
/* Without waiting: of processes that are stopped for a tracer, none is counted as frozen. */
int cg_freeze_begin(struct cg *cg, struct vps_err *err);
int cg_is_frozen(struct cg *cg);
/* cgroup.kill, then waits until the group is empty (-ETIMEDOUT); falls back to SIGKILL loops before
 * 5.14. A frozen group dies too. */
int cg_kill(struct cg *cg, int timeout_ms, struct vps_err *err);
/* 1 when any process is in it or below, 0 when not. */
int cg_populated(struct cg *cg);
/* Processes in it and below, as this pid namespace numbers them, in no order; fresh memory. */
int cg_pids(struct cg *cg, pid_t **ret, size_t *ret_n);
int cg_stats(struct cg *cg, struct cg_stats *ret, struct vps_err *err);
/* An fd that polls POLLPRI or POLLIN when the group's OOM count changes (v2: memory.events;
 * v1: eventfd through cgroup.event_control). The caller's to close. */
int cg_oom_fd(struct cg *cg);
/* Read (and re-arm) after poll: the count of OOM kills so far. oom_fd may be -1. v1 wakes when the
 * group runs out of memory, an instant before the kill is counted, and once more when the group is
 * removed: ask again when the VPS has ended. v2 wakes for other events of memory too (a group at
 * its limit: up to 100 times a second), so do not look again at once. */
int cg_oom_count(struct cg *cg, int oom_fd, uint64_t *ret);
/* The file that has the line "oom_kill N", for a process that keeps count without this room: pread it
 * when cg_oom_fd polls. The caller's to close. */
int cg_oom_stat_fd(struct cg *cg);
/* Remove the group and all that the tenant made below it, in every hierarchy. Missing is fine.
 * -EBUSY when processes are left (those that are dying already are waited for, 200 ms). */
int cg_destroy(struct cg_host *h, const char *name, struct vps_err *err);
/* Names of the groups below the tag, over all hierarchies, each once: strv. For host check. */
int cg_list(struct cg_host *h, char ***ret, struct vps_err *err);

#endif
