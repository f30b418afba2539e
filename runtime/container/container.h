/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Driver 1: the container wall. Who does what at a start:
 *
 *   M  the caller, later the monitor: pipes, then waits (launch.c)
 *   A  M's child, host root with the effective uid of the VPS's root: user namespace, root file
 *      system and every mount, in a mount namespace of its own (outside.c, rootfs.c, mounts.c,
 *      dev.c). Host mounts never enter the VPS, the VPS's mounts never enter the host.
 *   B  A's child by CLONE_PARENT, so M's: the VPS's PID 1 (inside.c, payload.c)
 *
 * A mounts all of it while it still is host root, and B copies that mount namespace into one that
 * belongs to the VPS's user namespace: the kernel then locks each mount (mount_namespaces(7)),
 * so that the tenant's root cannot take a mask or a read-only bind away.
 *
 * A joining process (exec, cp) is J, which enters cgroup and namespaces, and its child K (join.c).
 */
#ifndef VPS_RUNTIME_CONTAINER_H
#define VPS_RUNTIME_CONTAINER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "runtime/driver.h"

#define VPS_N_IDS 65536u

/* ---- mounts_plan.c: pure ------------------------------------------------------ */

enum mnt_kind {
	MNT_TMPFS,
	MNT_DEV,      /* tmpfs with the device nodes of dev.c */
	MNT_DEVPTS,
	MNT_MQUEUE,
	MNT_PROC,
	MNT_SYSFS,
	MNT_CGROUP,
	MNT_BIND,     /* a tree opened beforehand: tree is its index */
	MNT_READONLY, /* what is there already, read-only */
	MNT_MASK,     /* an empty directory or file in its place */
};

struct mnt {
	enum mnt_kind kind;
	const char *dst;  /* below the root, no slash in front */
	uint64_t attrs;	  /* MOUNT_ATTR_* */
	uint64_t size;	  /* tmpfs: bytes, 0: the kernel's half of the memory */
	uint64_t inodes;  /* tmpfs: 0: the kernel's */
	mode_t mode;	  /* tmpfs, and of a directory made for it */
	unsigned tree;
	bool optional;	  /* no such target: fine */
	bool make;	  /* make the target when it is missing */
	bool strict;	  /* no link on the way to the target, ever */
};

#define MNT_PLAN_MAX 96
struct mnt_plan {
	struct mnt *m;
	size_t n, cap;
};
struct mnt_input {
	uint64_t memory; /* limit in bytes, or SPEC_UNSET / SPEC_MAX */
	bool system;	 /* systemd's container interface: a fresh /run */
	bool whole;	 /* unmasked proc and sysfs at /dev/.vps */
	const struct spec_mount *mounts;
	size_t n_mounts; /* tree i is mounts[i] */
};
/* Services of a stock systemd mount a proc of their own (ProtectProc=), as nested containers do. */
static inline bool run_wants_whole(const struct vps_run *run)
{
	return run->system || spec_has_feature(run->spec, "nesting");
}
/* 0 or -ENOMEM. The strings are constants or the input's. */
int mnt_plan(const struct mnt_input *in, struct mnt_plan *ret);
void mnt_plan_done(struct mnt_plan *p);

/* ---- what M prepares and A and B inherit ---------------------------------------- */

enum box_msg_type {
	BOX_FAILED = 1, /* err */
	BOX_BORN,	/* A: pid of B */
	BOX_CONSOLE,	/* A: one fd, the console's pty master */
	BOX_NETNS,	/* A, at a restore: one fd; M answers when the network stands */
	BOX_READY,	/* B: waits at the gate; or the result of a joined function */
};
struct box_msg {
	int type;
	pid_t pid;
	int result;
	struct vps_err err;
};

struct filter_prog;

struct box {
	const struct vps_run *run;
	uint32_t id_base;
	bool bare;	/* inside_stopped: the root alone, no payload */
	int up[2];	/* messages to M: [1] is A's and B's */
	int ab[2];	/* A has [0], B has [1] */
	int gate[2];	/* B reads [0], M writes [1] */
	int notify;	/* NOTIFY_SOCKET, not bound yet; or -1 */
	int pipes[3][2]; /* CONSOLE_PIPES: [0] read, [1] write end, or -1 */
	/* vps-init, or -1: the host's file, which A copies to INIT_EXE; B's: that copy, to be executed */
	int init_exe;
	const struct filter_prog *seccomp;
	struct mnt_plan plan;
	/* trees cloned from the host's mounts, detached */
	int *layers;
	int disk;
	int *binds;	/* of spec->mounts */
	int *views;	/* of lxcfs_files */
	size_t n_views;
	const char *stage_at; /* restore: where the stage is mounted; NULL: over /sys */
	int dev_saved;	/* restore: dev.tar, or -1 */
	/* inside_stopped */
	int (*fn)(void *arg, struct vps_err *err);
	void *arg;
};

/* Report r and err to M; both ends of this process's life. */
void box_fail(int up, int r, const struct vps_err *err);
int box_send(int up, const struct box_msg *m, const int *fds, size_t n_fds);
/* One byte there, one byte here: the steps of A and B. -EPIPE when the other is gone. */
int box_step_tell(int fd);
int box_step_wait(int fd);

/* NOTIFY_SOCKET: host is the VPS's /run/host. */
int box_bind_notify(int sock, int host, struct vps_err *err);
/* The ends of CONSOLE_PIPES belong to the VPS's root. */
int box_hand_pipes(struct box *b, struct vps_err *err);
/* sysctls of the namespaces that the caller is in. */
int box_set_sysctls(char *const *sysctls, struct vps_err *err);

/* outside.c, inside.c, restore.c: bodies of the children; do not return. */
_Noreturn void box_outside(struct box *b);
_Noreturn void box_restore(struct box *b);
_Noreturn void box_inside(struct box *b);

/* ---- rootfs.c --------------------------------------------------------------------- */

/* Detached copies of the host's mounts that the VPS gets: must run in the mount namespace of the
 * fds' opener (open_tree(2) refuses foreign mounts). */
int rootfs_collect(struct box *b, struct vps_err *err);
/* A private tmpfs (b->stage_at), with what overlayfs needs to be named; the current directory is there
 * afterwards. userns: of the VPS. Returns an O_PATH fd of the mounted root, below ./root. */
int rootfs_mount(struct box *b, int userns, struct vps_err *err);

/* ---- mounts.c, dev.c ---------------------------------------------------------------- */

/* Fds of mounts that need the VPS's namespaces; -1 until made. */
struct mnt_made {
	int proc[2];
	int devpts, dev; /* as attached, for the console */
};
/* Make and attach the plan below root. userns: for idmapped binds. empty: O_PATH of the stage, which holds
 * empty.d and empty.f. */
int mounts_apply(struct box *b, int root, int stage, int userns, struct mnt_made *made,
		 struct vps_err *err);
/* A copy of vps-init in the VPS's own tmpfs: /proc/1/exe does not lead to the host's file (CVE-2019-5736), and
 * unlike a memfd's, the path can be found again by a restore. */
#define INIT_EXE ".vps/init" /* below /dev */
/* A detached tmpfs with the nodes of a VPS's /dev. init_exe: to be copied, or -1. saved: a tar stream with what the
 * tenant had there before, or -1. */
int dev_make(const struct vps_run *run, int init_exe, int saved, struct vps_err *err);
/* What a plan's entry mounts, detached. target: O_PATH of where it shall be, for MNT_READONLY and MNT_MASK. */
int mount_make(struct box *b, const struct mnt *m, int target, int stage, int userns, struct mnt_made *made,
	       struct vps_err *err);
/* Device nodes named by features and --device: path below /dev. For plan and check. */
int dev_check(const struct vps_spec *s, struct vps_err *err);
/* A new pty of the devpts mount: its master; the slave is bound on dev/name. */
int dev_console(int devpts, int dev, const char *name, struct vps_err *err);

/* ---- userns.c ------------------------------------------------------------------------- */

/* Take the effective uid and gid id_base without losing capabilities: files are made as the VPS's root,
 * and the user namespace made next belongs to a uid of its own, so that the kernel's per-uid budgets
 * (inotify instances, namespaces: user.max_*, counted on the owner) are not shared by all VPSes. */
int userns_become_owner(uint32_t id_base, struct vps_err *err);
/* Write uid_map and gid_map of pid and open its user namespace. */
int userns_map(pid_t pid, uint32_t id_base, struct vps_err *err);
/* O_PATH of /proc, checked to be a procfs. */
int proc_dir(struct vps_err *err);
/* /proc/PID/what of the host's procfs. fd or -errno. */
int proc_pid_open(pid_t pid, const char *what, int flags);

/* ---- user.c: /etc/passwd and /etc/group of a tenant ---------------------------------------- */

#define USER_GROUPS_MAX 1024
struct vps_user {
	uid_t uid;
	gid_t gid;
	gid_t groups[USER_GROUPS_MAX];
	size_t n_groups;
	char name[64]; /* "" when not in passwd */
	char home[256], shell[256];
};
/* who: NAME, UID, NAME:GROUP, UID:GID; NULL is root. Ids below 65536. -VPS_EEXEC when there is no such
 * user. A missing passwd is fine for numbers and for root. */
int user_lookup(int root, const char *who, struct vps_user *ret, struct vps_err *err);
/* The parsers alone: whole file in text. 1 found, 0 not. */
int user_find(const char *text, size_t len, const char *name, long uid, struct vps_user *ret);
int group_find(const char *text, size_t len, const char *name, gid_t *ret);
void group_members(const char *text, size_t len, const char *user, struct vps_user *ret);

/* ---- caps.c: the only user of libcap --------------------------------------------------------- */

#define CAPS_ALL "CAP_ALL" /* in cap_add or cap_drop: every one */
/* Does libcap know this name? CAPS_ALL too. */
bool caps_known(const char *name);
/* Has this process the capability, in effect? */
bool caps_has(const char *name);
/* All ids become uid, and every capability stays, through execve(2) as well. 0 or -errno. */
int caps_become(uid_t uid);
/* Take one capability out of the effective set of this process. 0 or -errno. */
int caps_lower(const char *name);
/* Bounding set less cap_drop and those that mean nothing in a user namespace (unless in cap_add); keep
 * capabilities over the change of uid that follows. CAPS_ALL in drop spares what add names. */
int caps_begin(char *const *add, char *const *drop, struct vps_err *err);
/* All permitted ones effective again, after the change of uid. */
int caps_regain(struct vps_err *err);
/* The final sets. root (uid 0): permitted and effective all that is left in the bounding set. Another uid: add only, ambient
 * too. Inheritable is empty but for what ambient needs. */
int caps_finish(uid_t uid, char *const *add, char *const *drop, struct vps_err *err);

/* ---- seccomp_cache.c; seccomp.c is the only user of libseccomp ------------------------------------- */

struct sock_filter;
struct filter_prog {
	struct sock_filter *filter;
	unsigned short len;
};
void filter_done(struct filter_prog *p);
#define FILTER_CACHE_DIR "cache/seccomp" /* below the root */
/* The program for a spec, by the cache below root (NULL: no cache). len 0: unconfined. instance_dir: where
 * SPEC_SECCOMP_FILE lies; may be -1 without one. */
int filter_for(const struct vps_spec *s, const char *root, int instance_dir, struct filter_prog *ret,
		struct vps_err *err);
/* Put it on this process; needs CAP_SYS_ADMIN in the user namespace. */
int filter_load(const struct filter_prog *p, struct vps_err *err);

/* ---- payload.c: the last steps before execve, of init and of exec ---------------------------------- */

struct payload {
	const struct vps_spec *spec;
	char *const *argv;
	char **env; /* complete; strv, owned */
	struct vps_user user;
	char *path; /* owned: what is executed */
	const struct filter_prog *seccomp;
	int exe;    /* of vps-init, or -1 */
	bool tty;   /* fd 0 becomes the controlling terminal */
	bool under_init;
	bool make_cwd; /* make the directory when it is missing, as images expect of their WorkingDir */
};
void payload_done(struct payload *p);
/* Root and the namespaces are the VPS's. Finds user, home, program; changes into cwd. base_env may be NULL.
 * extra wins over it. -VPS_EEXEC: *ret_status 126 or 127. */
int payload_find(struct payload *p, const char *user, const char *cwd, char *const *base_env,
		 char *const *extra_env, int *ret_status, struct vps_err *err);
/* Limits, ids, seccomp, capabilities. After it nothing but read(2) and execve(2). */
int payload_drop(struct payload *p, struct vps_err *err);
/* Returns only on failure: -errno. */
int payload_exec(struct payload *p);
/* Resource limits. Only the host's CAP_SYS_RESOURCE raises a ceiling, so it is done outside, and again inside.
 * outside: without ceilings for what create_user_ns() makes a budget of the whole VPS (locked memory, message
 * queues), which the memory limit covers. */
int payload_rlimits(bool outside, struct vps_err *err);
/* Signals to their defaults and none blocked. */
void payload_signals(void);
/* Close every fd above 2 but these (ascending or not). */
#define FDS_KEEP_MAX 32
int fds_keep_only(const int *keep, size_t n);

/* ---- watches.c: for a checkpoint ---- */

/* Paths, below the root of init, of files on its root file system that a process of cg watches: strv. */
int watches_find(struct cg *cg, pid_t init, char ***ret, struct vps_err *err);

/* ---- join.c, exec.c, cp ------------------------------------------------------------------------------ */

int container_exec(const struct vps_live *l, const struct vps_exec *x, struct vps_exec_handle *ret,
		   struct vps_err *err);
int container_inside(const struct vps_live *l, int (*fn)(void *arg, struct vps_err *err), void *arg,
		     struct vps_err *err);
int container_inside_stopped(const struct vps_run *run, int (*fn)(void *arg, struct vps_err *err),
			     void *arg, struct vps_err *err);
int container_launch(const struct vps_run *run, struct vps_launched *ret, struct vps_err *err);
/* The same with run->checkpoint: M's side of restore.c, in launch.c. */
int container_restore(const struct vps_run *run, struct vps_launched *ret, struct vps_err *err);
/* checkpoint.c */
int container_checkpoint(const struct vps_live *l, int dir, unsigned rounds, struct vps_err *err);
int container_precopy(const struct vps_live *l, int dir, unsigned round, struct precopy_stats *ret, struct vps_err *err);
int container_checkpoint_end(const struct vps_live *l, bool go_on, struct vps_err *err);

struct joined {
	bool inside;  /* this is K */
	pid_t keeper; /* J, the caller's child */
	int pidfd;    /* of K; the caller's to close */
};
/* Join a running VPS (join.c). Returns twice: in K, inside and as the VPS's root, and in the caller. up: a pair of
 * sockets for messages, the caller's [0], K's [1]; the caller closes what is open of it, also after a
 * failure. status_fd: J writes K's exit status to it, an int as a shell has it; or -1. After a success the caller
 * owes join_reap(keeper), once K has ended. */
int join_fork(struct cg *cg, const struct proc_ident *init, int up[2], int status_fd,
	      struct joined *ret, struct vps_err *err);
void join_reap(pid_t keeper);

#endif
