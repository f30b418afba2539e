/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One small interface, two walls: a container, or a machine (microvm/). runtime/lifecycle prepares
 * everything first and hands the driver one struct vps_run of plain data and fds. launch always
 * ends gated: init is there but has not run a single instruction of the payload. state.json is
 * written; release opens the gate. Unwinding is lifecycle's alone, in reverse order.
 */
#ifndef VPS_RUNTIME_DRIVER_H
#define VPS_RUNTIME_DRIVER_H

#include "base/err.h"
#include "base/proc.h"
#include "runtime/spec.h"
#include "runtime/vps.h"

struct cg;
struct cg_stats;
struct net_plan;

struct vps_run {
	const struct vps_spec *spec;	/* definition */
	const struct vps_conf *conf;

	/* root file system: read-only layers, lowest first (O_PATH fds of unshifted trees), and the
	 * writable disk as a detached mount with upper/ and work/ */
	const int *layers;
	size_t n_layers;
	int disk_mount;
	/* of a machine instead: the image as one EROFS, and the disk's image file, locked */
	int image, disk_image;
	const struct net_plan *net; /* of a machine: what its card is to be; MTU filled in */

	/* resolved payload: PID 1's argv; under_init: run it below vps-init */
	char *const *argv;
	char *const *env;
	const char *user, *cwd;
	bool under_init;
	bool system;		/* argv is the image's own init: systemd's container interface */

	struct cg *cg;		/* limits are already applied */
	int lxcfs_root;		/* O_PATH of a mounted lxcfs, or -1 */
	int instance_dir;	/* instances/<id> */
	int run_dir;		/* /run/vps/<id> */
	const char *hostname;
	char *const *dns, *const *dns_search; /* for resolv.conf */
	char *const *addrs;	/* as leased, for the guest's own configuration files */
	/* files to be put into the root before init, by inroot: plan of runtime/guestconf */
	const struct guest_file *files;
	size_t n_files;
	bool first_boot;

	/* Directory of a verified checkpoint (runtime/migrate/checkpoint.h) to go on from; -1: boot. What
	 * is in memory then comes from there, everything else from the fields above. */
	int checkpoint;
	/* With a checkpoint: called once, as soon as the network namespace is there. Addresses and routes must
	 * stand when it returns, since connections are restored after it. A driver whose machine brings its
	 * network along in its memory calls it, too. NULL: not wanted. */
	int (*network)(void *arg, const struct proc_ident *init, int netns, struct vps_err *err);
	void *network_arg;
};

struct vps_launched {
	struct proc_ident init;
	int pidfd;
	int gate;	/* write GATE_WORD (runtime/monitor.h): release; close: init gives up */
	int netns;	/* for net_attach, before release */
	int console;	/* pty master (CONSOLE_PTY), or -1 */
	int pipes[3];	/* CONSOLE_PIPES: our ends of stdin, stdout, stderr, or -1 */
	int notify;	/* bound datagram socket of NOTIFY_SOCKET, or -1 */
	int rootfs;	/* O_PATH of the root as init sees it */
};

/* In the run directory: held by whoever works on a checkpoint for a command, and may outlive that. */
#define CHECKPOINT_LOCK "checkpoint.lock"

/* What a driver keeps between checkpoint and checkpoint_end, in the caller's hands. */
struct vps_hold {
	int fd;
	pid_t pid;
	bool there; /* what the driver there says it has (has) need not come along */
};
#define VPS_HOLD_INIT ((struct vps_hold){.fd = -1})

/* A running VPS, without its lock. */
struct vps_live {
	const struct vps_spec *spec;
	const struct vps_conf *conf;   /* NULL: no cache of seccomp profiles */
	int instance_dir, run_dir;     /* the former may be -1: no stored profile is needed */
	struct cg *cg;
	const struct proc_ident *init; /* verified */
	bool paused;
	struct vps_hold *hold; /* for checkpoint and checkpoint_end */
	/* precopy: called, once at most, as soon as all of it runs and what was found of it is only to be written: the VPS's lock is
	 * given up then, and of this here only cg, init and run_dir are still to be used. NULL: not wanted. */
	void (*running)(void *arg);
	void *running_arg;
};

/* What a round of pre-copy did. */
struct precopy_stats {
	uint64_t bytes;	    /* of memory, written in this round */
	uint64_t frozen_us; /* how long it stood still for it */
};

#define DISK_BLOCK 65536u /* bytes: what `written` tells of, and what a round of a disk is compared by */

/* NULL where a wall has no such thing. */
struct vps_driver {
	const char *name;
	bool machine; /* a kernel of its own: disk and image as block devices, a tap */
	/* Can this spec run here? -VPS_EUNSUPPORTED says why. */
	int (*check)(const struct vps_spec *s, const struct vps_conf *c, struct vps_err *err);
	/* Called in the process that will become the monitor: it stays init's parent. */
	int (*launch)(const struct vps_run *run, struct vps_launched *ret, struct vps_err *err);
	int (*release)(struct vps_launched *l, struct vps_err *err);
	/* Run a command in it. Of ret, pidfd is the command's, or of what passes its signals on;
	 * its status comes by status_fd, written by pid, a child of the caller that waits for
	 * the command whatever the caller does. */
	int (*exec)(const struct vps_live *l, const struct vps_exec *x, struct vps_exec_handle *ret,
		    struct vps_err *err);
	/* O_PATH of the root of a running VPS (through its mount namespace), for usage and
	 * views. */
	int (*open_root)(const struct proc_ident *init, struct vps_err *err);
	/* Run fn in a forked child inside the running VPS's mount, user and pid namespaces (as its
	 * root, no host privileges left); fn's int is the result. For cp. */
	int (*inside)(const struct vps_live *l, int (*fn)(void *arg, struct vps_err *err), void *arg,
		      struct vps_err *err);
	/* The same for a stopped one: its root mounted in a private mount namespace, in its user
	 * namespace. */
	int (*inside_stopped)(const struct vps_run *run, int (*fn)(void *arg, struct vps_err *err),
			      void *arg, struct vps_err *err);
	/* Where nobody can be sent inside: cp, by the guest's agent. As vps_copy_out and _in. */
	int (*pack)(const struct vps_live *l, const char *path, int tar_fd, struct vps_err *err);
	int (*unpack)(const struct vps_live *l, const char *path, long uid, long gid, int tar_fd,
		      struct vps_err *err);
	/* A signal to what runs inside; NULL: init is it. */
	int (*signal)(const struct vps_live *l, int sig, struct vps_err *err);
	/* Nothing inside runs afterwards, until it goes on. May be repeated. NULL: its cgroup is frozen. */
	int (*pause)(const struct vps_live *l, bool paused, struct vps_err *err);
	/* Its processes; NULL: those of its group are. */
	int (*procs)(const struct vps_live *l, struct vps_proc **ret, size_t *ret_n, struct vps_err *err);
	/* The console's size, where the terminal is not the monitor's pty. Best effort. */
	void (*winsize)(const struct vps_live *l, unsigned short rows, unsigned short cols);
	/* What only the inside knows; fields that are not known stay as they are. */
	void (*stats)(const struct vps_live *l, struct vps_stats *s);
	/* Live changes that are not the cgroup's, the network's or the disk's; called before those when
	 * something gets less, else after them, and with was and now exchanged to undo. */
	int (*update)(const struct vps_live *l, const struct vps_spec *was, const struct vps_spec *now,
		      struct vps_err *err);
	/* The disk has grown. */
	void (*grown)(const struct vps_live *l);
	/* Freeze it and write what it holds in memory into the empty directory dir. It stays frozen afterwards, until
	 * checkpoint_end; a caller that dies in between leaves it to reconcile, which lets it go on. On failure it
	 * runs on as if nothing had been. rounds: how many rounds of pre-copy dir already holds; 0: it is empty. */
	int (*checkpoint)(const struct vps_live *l, int dir, unsigned rounds, struct vps_err *err);
	/* After a checkpoint. go_on: it runs on. Else all of it is killed, without having run another instruction; the
	 * monitor sees init's end, and the normal teardown follows. */
	int (*checkpoint_end)(const struct vps_live *l, bool go_on, struct vps_err *err);
	/*
	 * One round of pre-copy while it runs, into dir, the directory of the checkpoint that will follow. round counts from
	 * 1, for which dir is empty; what earlier rounds left there is the driver's to lay out. NULL, or -VPS_EUNSUPPORTED in
	 * round 1: what changes cannot be told here. On failure it runs on, and dir and the tracking are as after
	 * precopy_end: no checkpoint follows but one of 0 rounds.
	 *
	 * dir is a tree with rounds, as the disk is: after each round, what is new or changed in it is sent, and its digests
	 * are made. What a round leaves alone costs nothing later. So a driver does best to add files: of one that is changed
	 * in place all is read once more, in the last round while the VPS stands still. Regular files, in dir or in
	 * directories of it named by numbers ("2/pages"); symbolic links are the driver's own and are not sent.
	 */
	int (*precopy)(const struct vps_live *l, int dir, unsigned round, struct precopy_stats *ret, struct vps_err *err);
	/* What another host must have for a running one to go on there, as a text that fits understands, there. NULL: nothing that
	 * the definition and the check there do not know of. */
	int (*needs)(const struct vps_live *l, char **ret, struct vps_err *err);
	/* Is it here? image: of a machine, as vps_run.image; -1: not known yet, and not asked. -VPS_EUNSUPPORTED names what is
	 * missing. */
	int (*fits)(const char *needs, int image, struct vps_err *err);
	/* Of what it needs, is the large part here, byte for byte, so that no checkpoint has to bring it? make: it may take a
	 * while. NULL: there is no such part. */
	bool (*has)(const char *needs, const struct vps_conf *c, bool make);
	/* Which blocks of DISK_BLOCK bytes of its disk were written since the last call: a bit each in fd, an empty memfd, the
	 * lowest of a byte first. *session: a connection, which the first call makes (-1), and then all of them count.
	 * NULL: nobody knows. */
	int (*written)(const struct vps_live *l, int *session, int fd, struct vps_err *err);
	/* No checkpoint will follow: forget the tracking. Best effort, at any time, also when there was no round. NULL: what is
	 * tracked costs nothing. */
	void (*precopy_end)(const struct vps_live *l);
};

extern const struct vps_driver container_driver, microvm_driver;

/* A file for the guest: made below its root by inroot as the VPS's root user, never following
 * links out. */
struct guest_file {
	char *path;
	char *data;
	size_t len;
	mode_t mode;
	bool only_missing; /* keep what is there */
	/* keep a file that does not begin with GUEST_MARK: the tenant took it over */
	bool only_ours;
	bool append_line;  /* add the line unless present */
	bool optional;	   /* what the tenant made of the place is no reason not to start */
	char *link_to;	   /* make a symbolic link instead */
	bool remove;
};

#endif
