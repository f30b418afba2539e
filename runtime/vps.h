/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtual private servers: what cli/ and daemon/ call. A struct vps_host is one "host": a state
 * tree (--root), a run tree (--run) and a configuration; several can live on one machine.
 *
 * Every call takes the locks it needs, leaves the state clean when it fails or is killed (I2), and
 * says in words what went wrong. Names: `who` is a name, a numeric id, or a unique uuid prefix.
 */
#ifndef VPS_RUNTIME_VPS_H
#define VPS_RUNTIME_VPS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/json.h"
#include "base/progress.h"
#include "runtime/spec.h"

/* ---- host ---------------------------------------------------------------- */

struct vps_conf { /* vps.conf(5), key = value; all strings owned */
	/* prefix of interfaces, cgroup parent, nft table. "vps"; with another --root "v<hash>-" */
	char *tag;
	char *root, *run; /* /var/lib/vps, /run/vps */
	uint32_t uid_base; /* 0x20000000: id n gets uid_base + n * 65536 */
	unsigned first_id; /* 101 */
	char *pool4, *pool6; /* 10.123.0.0/16, fd76:7073::/64; "" none */
	bool nat;
	bool macvlan_unfiltered; /* allow net=macvlan=…, which cannot be filtered */
	char **dns;
	char *default_registry, *default_image;
	char *disk_backend; /* auto */
	char *lxcfs;	/* auto, off, or a path */
	char *criu;	/* the CRIU to use; "": looked for */
	uint64_t console_log_max; /* bytes kept a VPS, 1 MiB */
	uint64_t lock_timeout_ms; /* 10 s */
	char **defaults; /* strv "option=value": spec defaults from the [defaults] section */
	uint64_t hook_timeout_ms; /* of each program in <conf dir>/hooks, 60 s */
};

struct vps_host;
struct vps_host_opts {
	const char *root, *run, *conf; /* NULL: VPS_ROOT, VPS_RUN, VPS_CONF, then the defaults */
	int lock_timeout_ms; /* 0: the configuration's */
};
int vps_host_open(const struct vps_host_opts *o, struct vps_host **ret, struct vps_err *err);
struct vps_host *vps_host_close(struct vps_host *h);
static inline void vps_host_closep(struct vps_host **h) { *h = vps_host_close(*h); }
const struct vps_conf *vps_host_conf(const struct vps_host *h);
struct img_store;
/* The image store below this root, opened at first use; owned by h. */
int vps_host_images(struct vps_host *h, struct img_store **ret, struct vps_err *err);

/* Set what vps.conf's [defaults] say, on top of what s has. */
int vps_spec_defaults(struct vps_host *h, struct vps_spec *s, struct vps_err *err);
/* The same from a profile: a file (a path with '/'), or NAME for <conf dir>/profiles/NAME.conf;
 * lines "option = value" in spec_set words. */
int vps_profile_load(struct vps_host *h, const char *profile, struct vps_spec *s,
		     struct vps_err *err);

/* What of a definition this host enforces only in part: sentences for the operator; strv, NULL:
 * all is well. */
int vps_caveats(struct vps_host *h, const struct vps_spec *s, char ***ret);

/* ---- what is there ------------------------------------------------------- */

enum vps_status { /* absent VPSes have none */
	VPS_STOPPED, VPS_STARTING, VPS_RUNNING, VPS_PAUSED, VPS_STOPPING,
	VPS_RESTARTING, /* between two runs, the monitor's back-off */
	VPS_BROKEN,	/* spec.json unreadable; err says why */
	VPS_SUSPENDED,	/* its memory is on the disk: a start goes on where it stopped */
	VPS_MOVED,	/* handed over to another host: what is here does not start */
	VPS_ARRIVING,	/* from another host, which has not said yet that it is ours */
};
/* Nothing of it runs. */
static inline bool vps_status_is_down(enum vps_status s)
{
	return s == VPS_STOPPED || s == VPS_SUSPENDED || s == VPS_BROKEN || s == VPS_MOVED || s == VPS_ARRIVING;
}
const char *vps_status_name(enum vps_status s);

struct vps_info {
	struct vps_spec spec;
	enum vps_status status;
	bool ready;		/* init said READY=1, or has no way to */
	pid_t init, monitor;	/* 0 when stopped */
	uint64_t started;	/* seconds since 1970; 0 when never */
	uint64_t stopped;
	int exit_code;		/* of the last run: 0..255, 128+signal; -1 none or not known */
	unsigned restarts;
	uint64_t oom_kills;	/* of this run, or the last one */
	char *last_error;	/* of the last start, or NULL */
	char *path;		/* instances/<id> */
};
void vps_info_done(struct vps_info *i);
int vps_get(struct vps_host *h, const char *who, struct vps_info *ret, struct vps_err *err);
/* All, by id; broken ones too. */
int vps_list(struct vps_host *h, struct vps_info **ret, size_t *ret_n, struct vps_err *err);
void vps_list_free(struct vps_info *list, size_t n);

struct vps_stats { /* UINT64_MAX - 1: not known here */
	uint64_t cpu_usage_us, cpu_user_us, cpu_system_us, cpu_throttled_us;
	uint64_t memory_current, memory_peak, memory_limit, memory_anon, memory_file, memory_kernel,
		swap_current;
	uint64_t pids_current, pids_limit;
	uint64_t io_rbytes, io_wbytes, io_rios, io_wios;
	uint64_t net_rx_bytes, net_tx_bytes, net_rx_packets, net_tx_packets, net_dropped;
	uint64_t disk_size, disk_used, inodes, inodes_used;
	uint64_t oom_kills;
	/* of a machine: its guest's own view, and what its balloon holds back; the rest of memory is what it
	 * costs the host */
	uint64_t guest_memory, guest_memory_available, balloon;
	double psi_cpu10, psi_memory10, psi_io10; /* some, per cent; negative: not known */
	uint64_t uptime_s;
	double load1, load5, load15; /* negative: not known */
};
int vps_stats(struct vps_host *h, const char *who, struct vps_stats *ret, struct vps_err *err);
/* pid (as seen inside), host pid (0 of a machine's, which only its own kernel knows), user id inside, rss,
 * cpu time, command (raw bytes: escape before print). */
struct vps_proc {
	pid_t pid, host_pid;
	uid_t uid;
	uint64_t rss, cpu_us;
	char state;
	char *cmdline;
};
int vps_procs(struct vps_host *h, const char *who, struct vps_proc **ret, size_t *ret_n,
	      struct vps_err *err);
void vps_procs_free(struct vps_proc *p, size_t n);

/* ---- life ---------------------------------------------------------------- */

/* spec: name may be NULL (generated), id 0. Takes a copy. Image must be in the store. ret: as
 * stored. */
int vps_create(struct vps_host *h, const struct vps_spec *spec, const struct progress *p,
	       struct vps_info *ret, struct vps_err *err);
struct vps_start_opts {
	bool wait;	   /* until ready (NOTIFY_SOCKET READY=1) */
	int timeout_ms;	   /* for wait; 0: 90 s */
	bool hold_for_attach; /* the payload starts once the first client is attached */
};
int vps_start(struct vps_host *h, const char *who, const struct vps_start_opts *o,
	      struct vps_err *err);
struct vps_stop_opts {
	int timeout_ms; /* until force; <0: the spec's */
	bool kill;	/* no asking: cgroup.kill at once */
};
int vps_stop(struct vps_host *h, const char *who, const struct vps_stop_opts *o,
	     struct vps_err *err);
/* a signal to its init */
int vps_kill(struct vps_host *h, const char *who, int sig, struct vps_err *err);
int vps_restart(struct vps_host *h, const char *who, const struct vps_stop_opts *o,
		const struct vps_start_opts *so, struct vps_err *err);
int vps_pause(struct vps_host *h, const char *who, bool paused, struct vps_err *err);
/* The whole running VPS to the disk, and it ends; on failure it runs on. A start brings it back, with what it was
 * doing. A suspended one that is stopped (kill) or deleted (force) loses its memory. -VPS_EUNSUPPORTED tells what cannot
 * be written down. */
struct vps_suspend_opts {
	const char *file; /* the memory goes to, or comes from, this file; NULL: the VPS's own directory */
};
int vps_suspend(struct vps_host *h, const char *who, const struct vps_suspend_opts *o, const struct progress *p,
		struct vps_err *err);
int vps_resume(struct vps_host *h, const char *who, const struct vps_suspend_opts *o,
	       const struct vps_start_opts *so, const struct progress *p, struct vps_err *err);
/* What keeps a running VPS from being suspended or migrated as it runs; none: nothing. */
struct vps_obstacle {
	pid_t pid;     /* inside */
	char *process; /* its name (raw bytes: escape before print); NULL: it is no process's matter */
	char *what, *help;
};
int vps_migrate_check(struct vps_host *h, const char *who, struct vps_obstacle **ret, size_t *ret_n,
		      struct vps_err *err);
void vps_obstacles_free(struct vps_obstacle *v, size_t n);
int vps_delete(struct vps_host *h, const char *who, bool force, struct vps_err *err);
int vps_rename(struct vps_host *h, const char *who, const char *name, struct vps_err *err);
/* Fresh disk from image (NULL: the same reference, resolved anew); definition, addresses stay. */
int vps_rebuild(struct vps_host *h, const char *who, const char *image, const struct progress *p,
		struct vps_err *err);
/* settings: strv "option=value" in spec_set words. Live where the option is live; otherwise the
 * VPS must be stopped (-VPS_ESTATE names the option). All or nothing. */
int vps_set(struct vps_host *h, const char *who, char *const *settings, struct vps_err *err);
enum vps_wait_for { VPS_WAIT_STOPPED, VPS_WAIT_RUNNING, VPS_WAIT_READY, VPS_WAIT_DELETED };
/* Blocks without polling. ret_exit (may be NULL): last exit code. */
int vps_wait(struct vps_host *h, const char *who, enum vps_wait_for what, int timeout_ms,
	     int *ret_exit, struct vps_err *err);

/* ---- migration ------------------------------------------------------------- */

enum vps_migrate_mode {
	VPS_MIGRATE_AUTO,    /* live where that is possible */
	VPS_MIGRATE_STOPPED, /* it is stopped, and stays so */
	VPS_MIGRATE_RESTART, /* copied while it runs, stopped for the rest, started there: memory is lost */
	VPS_MIGRATE_LIVE,    /* frozen for the rest, goes on there */
};
const char *vps_migrate_mode_name(enum vps_migrate_mode m);
struct vps_migrate_opts {
	const char *host;     /* [user@]HOST, handed to rsh */
	const char *new_name; /* NULL: as here */
	const char *rsh;      /* command that leads there; NULL: ssh */
	const char *receive;  /* what it is to run there; NULL: "vps receive" */
	enum vps_migrate_mode mode;
	bool require_live;    /* rather not at all than with its memory lost */
	bool dry_run;	      /* only the check */
	bool keep;	      /* what is here stays, stopped and marked */
	int compress;	      /* level of zstd; 0: none */
	uint64_t limit;	      /* bytes a second; 0: none */
	int timeout_ms;	      /* until the hand-over is decided; 0: none */
	int downtime_ms;      /* live: rounds of memory go on until the pause promises to be no longer; 0: 300, <0: none */
	int stop_timeout_ms;  /* of a restart; <0: the definition's */
	/* Memory is about to be lost: go on? NULL: no. */
	bool (*ask)(void *arg, const char *question);
	bool (*stop)(void *arg); /* the operator wants it undone */
	void *arg;
	const struct progress *progress;
};
#define VPS_MIGRATE_ROUNDS 16 /* of memory, at most */
struct vps_migrate_result {
	enum vps_migrate_mode mode;
	char *host;	      /* as it calls itself */
	char **problems;      /* strv: what keeps it from moving; each says what would help */
	char **notes;	      /* strv */
	bool image;	      /* had to be sent, or some of its layers */
	uint64_t image_bytes; /* of that */
	uint64_t disk_used;   /* bytes */
	uint64_t sent;	      /* bytes on the wire */
	unsigned rounds;
	/* Live. Of memory: rounds while it ran, and what each wrote; all that was sent, the rest in the pause included. */
	unsigned memory_rounds;
	uint64_t memory_round[VPS_MIGRATE_ROUNDS];
	uint64_t memory_sent;
	uint64_t predicted_us; /* the pause, when the rounds ended; 0: there were none */
	uint64_t estimate_ms; /* UINT64_MAX: not known */
	uint64_t pause_us;    /* from standing still to running there, by this host's clock */
	/* Of that, by the other host's: from having been sent everything to running. */
	uint64_t pause_there_us;
	uint64_t total_us;
	bool kept;	      /* here, as a stopped copy */
	bool started;	      /* it runs there; false: it was stopped, or its start failed (notes) */
};
void vps_migrate_result_done(struct vps_migrate_result *r);
/* Move a VPS to another host. Whatever becomes of this process, of the connection or of either host: at no time may
 * both run it, and at all times one can (I4). With a hand-over that is not confirmed yet (-VPS_ESTATE tells), the same call, or
 * vps_migrate_continue, ends it. */
int vps_migrate(struct vps_host *h, const char *who, const struct vps_migrate_opts *o,
		struct vps_migrate_result *ret, struct vps_err *err);
/* o->host NULL: where it went. */
int vps_migrate_continue(struct vps_host *h, const char *who, const struct vps_migrate_opts *o,
			 struct vps_migrate_result *ret, struct vps_err *err);
/* The other host is lost for good, and the operator says so: what is here is the VPS. */
int vps_migrate_force_here(struct vps_host *h, const char *who, struct vps_err *err);
/* The other end: one VPS by two streams. A failure that the source has been told of has no words here. */
int vps_receive(struct vps_host *h, int in_fd, int out_fd, struct vps_err *err);

/* ---- inside -------------------------------------------------------------- */

struct vps_exec {
	char *const *argv;
	char *const *env;   /* strv "K=V", added to the VPS's own */
	/* NAME, UID or UID:GID, looked up in the VPS's /etc/passwd by our own parser; NULL:
	 * root */
	const char *user;
	const char *cwd;    /* NULL: the user's home, or / */
	bool tty;	    /* a fresh pty of the VPS; *ret_pty */
	unsigned short rows, cols; /* with tty; 0: 24x80 */
	bool detach;	    /* do not wait; stdio is /dev/null */
	int stdio[3];	    /* without tty: fds the command gets */
};
/* Starts it. ret_pidfd polls readable at its end; ret_pty: the pty master (tty only, else -1).
 * -VPS_EEXEC: not found or not executable inside (err tells; err->code stays VPS_EEXEC;
 * *ret_status 127 or 126). */
struct vps_exec_handle { pid_t pid; int pidfd; int pty; int status_fd; };
int vps_exec(struct vps_host *h, const char *who, const struct vps_exec *x,
	     struct vps_exec_handle *ret, struct vps_err *err);
/* After the pidfd polled readable: exit status 0..255 or 128+signal. Closes the handle. */
int vps_exec_wait(struct vps_exec_handle *x);
/* Kill what was started (Ctrl-C of the client without a tty). */
int vps_exec_signal(struct vps_exec_handle *x, int sig);

/* Console: a stream to the monitor. With CONSOLE_PTY bytes both ways on *ret_fd through framed
 * messages, see runtime/ctl.h; use the functions below. */
struct vps_console;
int vps_console_open(struct vps_host *h, const char *who, bool exclusive, struct vps_console **ret,
		     struct vps_err *err);
int vps_console_fd(const struct vps_console *c); /* poll for reading */
/* stream: 0 exited (data: exit code as int), 1 stdout/console, 2 stderr. Bytes, 0 at the end, or
 * -errno. */
ssize_t vps_console_read(struct vps_console *c, int *ret_stream, void *buf, size_t size);
/* len 0: end of input */
int vps_console_write(struct vps_console *c, const void *data, size_t len);
int vps_console_winsize(struct vps_console *c, unsigned short rows, unsigned short cols);
struct vps_console *vps_console_close(struct vps_console *c);

/* Console log (raw bytes): an fd at the start of what is kept. The log is two files: when the one
 * read to its end is not the file at *ret_path (compare inodes), go on there; that also follows a
 * growing log, with inotify. */
int vps_log_open(struct vps_host *h, const char *who, char **ret_path, struct vps_err *err);

/* tar streams out of and into a VPS, running or stopped. Never follows the tenant's links on the
 * host: a helper joins the VPS's mount and user namespaces (or those of the stopped VPS's root,
 * mounted privately). out: one entry tree whose top is the last component of path ("." for "/").
 * in: where path is a directory (or ends with '/'): unpacked below it; else path's parent must be
 * a directory, and the stream's single top entry is renamed to path's last component. Owners: as
 * in the stream, mapped as inside ids; chown_uid/gid >= 0 override all. */
int vps_copy_out(struct vps_host *h, const char *who, const char *path, int tar_fd,
		 struct vps_err *err);
int vps_copy_in(struct vps_host *h, const char *who, const char *path, int tar_fd, long chown_uid,
		long chown_gid, struct vps_err *err);
/* The host's side of `cp`, by the same code: pack dirfd/name as a stream with top entry `as`;
 * unpack a stream (hostile: it may come from a tenant) below dirfd, its top entry renamed to `as`
 * (NULL: kept), owned by the caller, without device nodes and setuid bits. Symbolic links stay as
 * they are, wherever they lead: they are never followed here, and whoever reads the copy should
 * not follow them either. */
int vps_tar_pack(int dirfd, const char *name, const char *as, int tar_fd, struct vps_err *err);
/* unpack: the number of entries that were left out. */
int vps_tar_unpack(int dirfd, const char *as, int tar_fd, struct vps_err *err);

/* ---- snapshots, clones, backups --------------------------------------------- */

/* The disk of a VPS as it was at one instant; of a running one consistent, by a pause of mostly milliseconds. */
struct vps_snapshot {
	char *name, *description; /* description may be NULL */
	uint64_t created;	  /* seconds since 1970 */
	uint64_t expires;	  /* 0: never */
	bool scheduled, memory;
	char *how;		  /* "stopped", "frozen file system", … */
	uint64_t still_us;	  /* for how long it was */
	char *image, *image_digest, *disk_backend;
	uint64_t disk;		  /* SPEC_UNSET: without limit */
	uint64_t used;		  /* bytes in it; UINT64_MAX - 1: nobody counts */
};
struct vps_snapshot_opts {
	const char *description;
	uint64_t expiry_ms; /* 0: kept until it is deleted */
	bool scheduled;
	bool memory; /* of a running one: what it has in memory, too, as vps_suspend */
};
void vps_snapshot_done(struct vps_snapshot *s);
/* name NULL: made of the definition's pattern, or "snap-<date>-<time>". -VPS_EEXISTS. ret may be NULL. */
int vps_snapshot_create(struct vps_host *h, const char *who, const char *name, const struct vps_snapshot_opts *o,
			const struct progress *p, struct vps_snapshot *ret, struct vps_err *err);
/* Oldest first. No lock. */
int vps_snapshot_list(struct vps_host *h, const char *who, struct vps_snapshot **ret, size_t *ret_n,
		      struct vps_err *err);
void vps_snapshot_list_free(struct vps_snapshot *s, size_t n);
int vps_snapshot_delete(struct vps_host *h, const char *who, const char *name, struct vps_err *err);
/* The VPS gets the snapshot's disk (and its image, if that was another); limits, address and all else stay as they are.
 * A running one is stopped for the exchange alone and started again. With memory in it the VPS goes on where it was then: at
 * once, if it runs now, else it is suspended. */
struct vps_snapshot_restore_opts {
	struct vps_stop_opts stop;
	bool no_memory; /* the disk alone: it boots */
};
int vps_snapshot_restore(struct vps_host *h, const char *who, const char *name,
			 const struct vps_snapshot_restore_opts *o, const struct progress *p, struct vps_err *err);
struct vps_clone_opts {
	const char *snapshot; /* of that one; NULL: the disk as it is now, of a running VPS as of a snapshot */
	/* The disk so far becomes a layer below a fresh one, shared by all linked clones of a snapshot; the
	 * original can be deleted. */
	bool linked;
	char *const *settings; /* strv "option=value" over the original's */
};
/* A new VPS named name, stopped: definition and disk of another, an identity of its own (uuid, machine-id, ssh host
 * keys, random seeds, addresses, MAC, host name); published ports are not taken along. */
int vps_clone(struct vps_host *h, const char *who, const char *name, const struct vps_clone_opts *o,
	      const struct progress *p, struct vps_info *ret, struct vps_err *err);
struct img_info;
/* A golden image named ref: the VPS's image and one more layer, its disk. Of a stopped VPS, or a snapshot (not NULL). What
 * is one server's own (keys, ids, seeds, cloud-init's instance) is left out. ret may be NULL. */
int vps_publish(struct vps_host *h, const char *who, const char *snapshot, const char *ref, const struct progress *p,
		struct img_info *ret, struct vps_err *err);
/*
 * Backups: one stream (runtime/migrate/backup.h) with definition, image, disk and perhaps memory, of a running VPS
 * consistent as a snapshot's disk is. Streams are verified as they are read; they are not secret and not signed: keep them as what they
 * hold.
 */
struct vps_backup_opts {
	int fd;		      /* to write to; a pipe will do */
	int base_fd;	      /* incremental to this backup (read first); -1: whole */
	const char *snapshot; /* of that one; NULL: the disk as it is now */
	bool no_image;	      /* only the digest of its image: whoever restores has to have it */
	bool memory;	      /* of what runs or is suspended, or of a snapshot that has it: what it has in memory, too */
	int level;	      /* of zstd; 0: 3, negative: none */
};
struct vps_backup_result {
	char digest[72]; /* of the stream */
	uint64_t bytes;	 /* written */
	uint64_t data;	 /* what they stand for */
};
int vps_backup(struct vps_host *h, const char *who, const struct vps_backup_opts *o, const struct progress *p,
	       struct vps_backup_result *ret, struct vps_err *err);
struct vps_restore_opts {
	int fd;
	const int *base_fds; /* plain files: what the backup is incremental to, and what that is, in any order */
	size_t n_bases;
	const char *name;    /* NULL: as it was called */
	bool trust;	     /* its definition may reach for directories, devices, rights of this host */
	bool new_identity;   /* as a clone has it: beside the original, not instead of it */
	bool no_memory;	     /* though there is memory in it, it is to boot */
	char *const *settings; /* strv "option=value" over the backup's */
};
/* A stopped VPS (with memory: a suspended one) out of a backup, with its uuid (unless somebody has it) and addresses.
 * All or nothing: it is there when the last byte was right. -VPS_EDIGEST, -VPS_EBADIMAGE, -ENODATA: damaged, hostile, cut off; -VPS_EEXISTS: name or
 * address are taken; -VPS_EUSAGE: it wants trust, or the backup that it is incremental to. */
int vps_restore(struct vps_host *h, const struct vps_restore_opts *o, const struct progress *p, struct vps_info *ret,
		struct vps_err *err);
/* What is due now: scheduled snapshots, and the end of those that have expired. For a timer, each minute. tell: each
 * thing done ("snapshot auto-1", "expired auto-0"), or not. */
int vps_snapshot_run(struct vps_host *h,
		     void (*tell)(void *arg, const char *vps, const char *what, int r, const struct vps_err *e),
		     void *arg, struct vps_err *err);

/* ---- host ----------------------------------------------------------------- */

/* One line of the run tree's event log: {"time":…,"id":…,"name":…,"event":"start",…}. Path to
 * follow by inotify. */
const char *vps_events_path(struct vps_host *h);

struct vps_finding {
	unsigned id;
	char *what;
	char *help;
	bool fixed;
	bool leftover; /* else: advice */
};
/* What this host can do and every leftover; fix = host gc. */
int vps_host_check(struct vps_host *h, bool fix, struct vps_finding **ret, size_t *ret_n,
		   struct vps_err *err);
void vps_findings_free(struct vps_finding *f, size_t n);
/* Start all with autostart, by boot order; parallel at a time. */
int vps_host_start_all(struct vps_host *h, unsigned parallel,
		       void (*tell)(void *arg, const char *name, int r, const struct vps_err *e),
		       void *arg, struct vps_err *err);
int vps_host_stop_all(struct vps_host *h, unsigned parallel,
		      void (*tell)(void *arg, const char *name, int r, const struct vps_err *e),
		      void *arg, struct vps_err *err);
/* For the monitor (vps _teardown ID): init has ended; remove what the run made, and a --rm VPS
 * itself. */
int vps_teardown_by_monitor(struct vps_host *h, unsigned id, struct vps_err *err);
/* For the monitor (vps _restart ID): start again if the definition and state still say so. */
int vps_restart_by_monitor(struct vps_host *h, unsigned id, struct vps_err *err);
/* For the monitor (vps _thaw ID): who kept the VPS still for a copy was killed. */
int vps_thaw_by_monitor(struct vps_host *h, unsigned id, struct vps_err *err);
/* For the monitor (vps _lxcfs-heal ID): the host's lxcfs died; put living views into the VPS. */
int vps_lxcfs_heal_by_monitor(struct vps_host *h, unsigned id, struct vps_err *err);

#endif
