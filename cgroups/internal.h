/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of this room share. Unit tests may include it too; other rooms may not. */
#ifndef VPS_CGROUPS_INTERNAL_H
#define VPS_CGROUPS_INTERNAL_H

#include <stdint.h>

#include "base/mem.h"
#include "base/str.h"
#include "cgroups/cgroups.h"

#define CG_HIERS_MAX 16
#define CG_BIT(c)    (1u << (c))

/* One mounted hierarchy that we use. */
struct cg_hier {
	int version;
	unsigned controllers; /* CG_BIT of what v1 mounted here, or of v2's cgroup.controllers */
	char *path;	      /* the mount point, below the host's root */
	char *prefix;	      /* its root as /proc/PID/cgroup tells it; "" for "/" */
	int tag_fd;	      /* O_PATH of <path>/<tag>; -1 until made */
};

struct cg_host {
	unsigned refs;
	char *root; /* "" but in tests: a fake tree stands for / */
	char *tag;
	struct cg_hier hier[CG_HIERS_MAX];
	size_t n;
	struct cg_hier *v2;
	struct cg_hier *where[CG_N_CONTROLLERS]; /* NULL: not there */
	unsigned enabled; /* v2 controllers known to be on in <tag>/cgroup.subtree_control */
	bool cpuset_ready; /* v1 <tag>/cpuset.cpus is not empty */
	int monitors_fd;
	bool unified;
	bool recursive; /* v2 is mounted with memory_recursiveprot */
};

struct cg {
	struct cg_host *h;
	char *name;
	int v2_fd;	/* <tag>/<name> */
	int ns_fd;	/* <tag>/<name>/ns, -1 until needed */
	int tasks[CG_HIERS_MAX]; /* by index of hier; -1 until needed */
};

#define CG_PATH_MAX 320 /* "<name>/<file>": names are at most 200 bytes */
#define CG_NAME_MAX 200

/* ---- host.c */
/* As cg_host_open, with the file system's root and the text of mountinfo given. */
int cg_host_open_at(const char *root, const char *mountinfo, const char *tag, struct cg_host **ret,
		    struct vps_err *err);
struct cg_host *cg_host_ref(struct cg_host *h);
/* open(2) of an absolute path below the host's root. fd or -errno. */
int cg_host_openat(const struct cg_host *h, const char *path, int flags);
/* Whole text of a small sysfs file by absolute path; -errno. */
ssize_t cg_host_read(const struct cg_host *h, const char *path, char *buf, size_t size);
/* Does a file exist in a hierarchy's <tag>? 1, 0, or -ENOENT while there is no tag. */
int cg_tag_has(const struct cg_hier *hi, const char *file);

/* ---- setup.c */
/* Make <tag> in every hierarchy and ready it for children. */
int cg_tag_setup(struct cg_host *h, struct vps_err *err);
/* Enable v2 controllers (CG_BIT mask) from the root down to the groups below <tag>. */
int cg_v2_enable(struct cg_host *h, unsigned mask, struct vps_err *err);
/* "+cpu +memory" of a mask, into buf. */
char *cg_subtree_words(unsigned mask, char *buf, size_t size);
/* v1: let <tag> have the CPUs and memory nodes that the root has now. */
int cg_cpuset_widen(struct cg_host *h);

/* ---- protect.c */
/* Promise <tag> what the groups in it are promised. 0 or -errno. */
int cg_protect_tag(struct cg_host *h);
bool cg_tag_protected(const struct cg_host *h);

/* ---- files.c: one file of a group in a hierarchy */
int cg_file_open(const struct cg *cg, const struct cg_hier *hi, const char *file, int flags);
/* Text without the last newline; length or -errno. */
ssize_t cg_file_read(const struct cg *cg, const struct cg_hier *hi, const char *file, char *buf,
		     size_t size);
int cg_file_write(const struct cg *cg, const struct cg_hier *hi, const char *file,
		  const char *value);
/* A number, "max" and v1's "no limit" as CG_MAX. 0 or -errno. */
int cg_file_u64(const struct cg *cg, const struct cg_hier *hi, const char *file, uint64_t *ret);
uint64_t cg_parse_u64(const char *s); /* CG_UNSET for what is none */
/* "key value" among lines; CG_UNSET when absent. */
uint64_t cg_parse_key(const char *text, const char *key);

/* ---- tree.c */
/* Remove <parent>/<name> and all below. Missing is fine. -EBUSY when processes are left. */
int cg_tree_remove(int parent, const char *name, int timeout_ms);
/* SIGKILL every process in the tree at dirfd (before 5.14). Number of signals sent or -errno. */
int cg_tree_kill(int dirfd);
/* Call fn for each subdirectory of dirfd (O_PATH will do). A nonzero result ends it. */
int cg_subdirs(int dirfd, int (*fn)(void *arg, int dirfd, const char *name), void *arg);

/* ---- freeze.c */
/* Wait until key of dirfd/cgroup.events has the value want. 0, -ETIMEDOUT, -errno. */
int cg_events_wait(int dirfd, const char *key, uint64_t want, int timeout_ms);
int cg_events_get(int dirfd, const char *key); /* 0, 1 or -errno */

/* ---- limits.c: limits to writes */
struct cg_write {
	const struct cg_hier *hi;
	enum cg_controller ctl; /* CG_N_CONTROLLERS: none is needed */
	char file[64];
	char value[128];
	const char *long_value; /* not NULL: instead of value (cpuset lists); the limits' own */
	char key[24];	 /* "8:0": the file has a line a device, this is ours */
	uint64_t num;	 /* memory amounts: raised before lowered; else CG_UNSET */
	bool shrinks;	 /* lowering it may need reclaim first */
	/* Filled by cg_write_load: */
	int fd;		  /* the file, for reading and writing; -1 until then */
	char *old;	  /* what to write to undo */
	uint64_t old_num; /* as num */
};
struct cg_plan {
	struct cg_write *w;
	size_t n, cap;
};
void cg_plan_done(struct cg_plan *p);
/* Open the file and read the old value, once. 0 or -errno. (apply.c) */
int cg_write_load(const struct cg *cg, struct cg_write *w);
/* Pure but for reading: the writes, in raising order. cg is needed for v1's memory+swap sum. */
int cg_limits_plan(const struct cg *cg, const struct cg_limits *l, struct cg_plan *ret,
		   struct vps_err *err);

/* check.c: each limit by itself, and what is set of them against each other. */
int cg_limits_check_each(const struct cg_host *h, const struct cg_limits *l, struct vps_err *err);
/* v1 has no file for swap alone. */
int cg_v1_swap_alone(uint64_t memory, uint64_t swap, struct vps_err *err);

/* Order of writing (apply.c), once the old values are known: all that is not lowered as planned,
 * then what is lowered, backwards; without what is so already. ret has room for p->n. */
size_t cg_plan_order(const struct cg_plan *p, struct cg_write **ret);

/* The table: one row a limit that is a number. */
struct cg_limit_row {
	const char *name; /* as the operator knows it */
	size_t offset;	  /* in struct cg_limits */
	enum cg_controller ctl;
	const char *v2, *v1; /* file; v1 NULL: none */
	uint64_t min, max;   /* range of the value, CG_MAX apart */
	uint64_t neutral;    /* asks for nothing: fine where the limit cannot be held, too */
	bool may_max;	     /* "max" has a meaning */
	bool amount;	     /* memory: order of writing matters */
	bool shrinks;
	void (*format2)(uint64_t v, char *buf, size_t size);
	void (*format1)(uint64_t v, char *buf, size_t size);
};
extern const struct cg_limit_row cg_limit_rows[];
extern const size_t cg_n_limit_rows;
static inline uint64_t cg_limit_get(const struct cg_limit_row *r, const struct cg_limits *l)
{
	return *(const uint64_t *)((const char *)l + r->offset);
}

/* ---- check.c */
/* CPUs that exist of a list; 0, -EINVAL for a bad list, -ERANGE when one is not in have. */
int cg_cpulist_within(const char *list, const char *have);
/* Files that give the I/O weight effect here: which of them are in use. */
enum { CG_IOW_BFQ = 1, CG_IOW_COST = 2 };
unsigned cg_io_weight_ways(const struct cg_host *h);

/* ---- devices.c */
/* Rules merged: one per type, major, minor; 'a' that is not "everything" becomes c and b. */
struct cg_devrule {
	char type; /* 'a' (everything), 'c', 'b' */
	int major, minor;
	unsigned access; /* BPF_DEVCG_ACC_* */
};
#define CG_DEVICES_MAX 512
int cg_devices_merge(const struct cg_device *rules, size_t n, struct cg_devrule **ret,
		     size_t *ret_n, struct vps_err *err);

/* ---- devbpf.c */
struct bpf_insn;
/* The program for merged rules; insns is fresh memory. */
int cg_devbpf_build(const struct cg_devrule *rules, size_t n, struct bpf_insn **ret, size_t *ret_n);
int cg_devbpf_attach(int cgroup_fd, const struct cg_devrule *rules, size_t n, struct vps_err *err);

#endif
