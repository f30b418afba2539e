/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of runtime/ share and nobody else sees: the opened host, the store of
 * definitions, locks and the run state.
 *
 *   <root>/instances/<id>/   lock, spec.json (the commit point: without it there is no such VPS),
 *                            last, disk/, console.log, seccomp.json
 *   <root>/names/<name>      symlink to "<id>": the atomic claim of a name
 *   <root>/next              hint: the id to try next
 *   <root>/leases/ images/   netns' and images' own
 *   <run>/<id>/              state.json (there from before the first thing of a start is made until
 *                            after the last thing of it is gone), the monitor's files
 *
 * Lock order: base/lock.h. A VPS's lock file lives in its directory and dies with it.
 */
#ifndef VPS_RUNTIME_INTERNAL_H
#define VPS_RUNTIME_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/lock.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "cgroups/cgroups.h"
#include "images/images.h"
#include "netns/netns.h"
#include "runtime/driver.h"
#include "runtime/monitor.h"
#include "runtime/vps.h"

#define RUNTIME_IDS_PER_VPS 65536u
/* Ranges end below 0x70000000: systemd's own for foreign ids start there (systemd's UIDS-GIDS). */
#define RUNTIME_UID_END	    1879048192u

struct vps_host {
	struct vps_conf conf;
	char *conf_path; /* as read, or where it would be */
	char *events_path;
	int root_fd, run_fd;	   /* <root>, <run> */
	int instances_fd, names_fd; /* <root>/instances, <root>/names */
	int lock_timeout_ms;
	struct cg_host *cg;	   /* opened at first use, by the functions below */
	struct net_host *net;
	struct img_store *images;
};

/* Lazy parts; owned by h. */
int host_cgroups(struct vps_host *h, struct cg_host **ret, struct vps_err *err);
int host_net(struct vps_host *h, struct net_host **ret, struct vps_err *err);
/* Group name of a VPS, "101". Returns buf. */
#define ID_STR 12
char *id_str(unsigned id, char buf[ID_STR]);

/* conf.c */
void conf_init(struct vps_conf *c);
void conf_done(struct vps_conf *c);
/* Lines "key = value" and [defaults] "option = value"; name is for messages. */
int conf_parse(struct vps_conf *c, const char *text, const char *name, struct vps_err *err);
/* "option = value" lines of a profile. */
int profile_parse(struct vps_spec *s, const char *text, const char *name, struct vps_err *err);

/* ---- store.c, claim.c ------------------------------------------------------ */

/* Id of a name, number or uuid prefix. -VPS_ENOVPS; -VPS_EUSAGE for a prefix of several. No lock:
 * the answer may be old when it is used, vps_lock looks again. */
int store_find(struct vps_host *h, const char *who, unsigned *ret, struct vps_err *err);
/* Ids with a directory, ascending; also unfinished and deleted ones. The caller frees. */
int store_ids(struct vps_host *h, unsigned **ret, size_t *ret_n, struct vps_err *err);
int store_dir(struct vps_host *h, unsigned id);	    /* directory fd of instances/<id>, or -errno */
/* of <run>/<id>, or -errno (-ENOENT: never started) */
int store_run_dir(struct vps_host *h, unsigned id);
int store_make_run_dir(struct vps_host *h, unsigned id);
/* -ENOENT: no finished definition there; -VPS_ECONF: unreadable. */
int store_read_spec(int instance_dir, struct vps_spec *ret, struct vps_err *err);
int store_read_spec_of(struct vps_host *h, unsigned id, struct vps_spec *ret, struct vps_err *err);
int store_write_spec(int instance_dir, const struct vps_spec *s, struct vps_err *err);

/* A locked VPS: every verb that changes something holds one. */
struct vps_locked {
	struct vps_host *h;
	unsigned id;
	int lock; /* flock on instances/<id>/lock */
	int dir;  /* instances/<id> */
	struct vps_spec spec;
};
/* Find, lock (verb is told to whoever waits too long), read the definition, clean up what a killed
 * command left (reconcile). ret is ready for locked_done. -VPS_ENOVPS, -VPS_ELOCKED, -VPS_ECONF. */
int vps_lock(struct vps_host *h, const char *who, const char *verb, struct vps_locked *ret,
	     struct vps_err *err);
void locked_done(struct vps_locked *l);
#define VPS_LOCKED_INIT { .lock = -1, .dir = -1 }
#define auto_locked auto_done(locked_done) struct vps_locked

/* The lock alone: its fd; -VPS_ELOCKED with who holds it, -VPS_ENOVPS when the directory is
 * gone. */
int store_lock_dir(struct vps_host *h, int dir, const char *who, const char *verb, int timeout_ms,
		   struct vps_err *err);

#define STORE_LOCK "store.lock" /* in root: ids and names are claimed under it */
/* Claim an id (want 0: the next free one): directory and lock. l->dir, l->lock, l->id are set. */
int claim_id(struct vps_host *h, unsigned want, const char *verb, struct vps_locked *l,
	     struct vps_err *err);
/* Atomically take a name for id; a stale claim is taken over. -VPS_EEXISTS. */
int claim_name(struct vps_host *h, unsigned id, const char *name, struct vps_err *err);
void release_name(struct vps_host *h, unsigned id, const char *name);
/* Undo an unfinished create or delete of a locked id: everything, the directory last. */
int store_scrap(struct vps_locked *l, struct vps_err *err);
/* The same for whatever id nobody holds and that has no definition; -VPS_ELOCKED when somebody
 * does. 1: there was something to remove. */
int store_scrap_id(struct vps_host *h, unsigned id, struct vps_err *err);
/* Until the delete that is under way is done; one that was killed is finished. */
void store_scrap_wait(struct vps_host *h, unsigned id);
/* First host uid of id, and whether the range fits. */
int id_base_of(const struct vps_conf *c, unsigned id, uint32_t *ret, struct vps_err *err);

/* ---- run state: <run>/<id>/state.json --------------------------------------- */

/* RUN_CHECKPOINT: it stands still, to be written down; runtime/migrate/take.c */
enum run_phase { RUN_STARTING, RUN_RUNNING, RUN_PAUSED, RUN_CHECKPOINT };
struct run_state {
	enum run_phase phase;
	/* of this init, where the definition says nothing at the time of the stop */
	int stop_signal;
	unsigned stop_timeout_ms;
	struct proc_ident init; /* pid 0 while starting */
	uint64_t started;	/* seconds since 1970 */
	char name[SPEC_NAME_MAX + 1];
};
/* 0; -ENOENT when there is none; a state of another boot counts as none (and is removed by
 * reconcile). */
int run_state_read(int run_dir, struct run_state *ret);
int run_state_write(int run_dir, const struct run_state *s, struct vps_err *err);
/* Identity of init of a running (or paused) VPS; -VPS_ESTATE when it does not run. No lock
 * needed. */
int run_init(struct vps_host *h, unsigned id, const char *who, struct run_state *ret,
	     struct vps_err *err);

bool run_state_is_of_this_boot(const struct run_state *s);
struct monitor_args;
/* What the definition, the host and the run state say; fds but the directories stay -1. */
void monitor_args_of(const struct vps_locked *l, int run_dir, const struct run_state *s,
		     struct monitor_args *ret);
/* vps_get by id; -ENOENT when there is none. */
int info_of(struct vps_host *h, unsigned id, struct vps_info *ret, struct vps_err *err);

/* Compare run state and identities with what is there; tear down what has no living init, adopt a
 * VPS whose monitor is gone. ret (may be NULL): the state afterwards, ret_running: is there one.
 * Call with the VPS's lock held. */
int reconcile(struct vps_locked *l, struct run_state *ret, bool *ret_running, struct vps_err *err);
/* Remove everything that a start made: processes, network, cgroup, state. Works from any half of
 * it, with or without a definition. Last of all: state.json. */
int teardown(struct vps_host *h, unsigned id, struct vps_err *err);

/* ---- verbs' shared parts ---------------------------------------------------- */


/* The wall that a definition asks for. */
const struct vps_driver *driver_of(const struct vps_spec *s);
unsigned online_cpus(void);
/* -VPS_ESTATE with "must be stopped to be <done>" unless it is stopped (a back-off is not). */
int need_stopped(struct vps_locked *l, const char *done, struct vps_err *err);
/* The run state, or -VPS_ESTATE. */
int need_running(struct vps_locked *l, struct run_state *ret, struct vps_err *err);
/* Nothing in it runs afterwards, or all goes on; after a failure to freeze it goes on, too. */
int vps_freeze(struct vps_locked *l, const struct run_state *s, bool frozen, int timeout_ms,
	       struct vps_err *err);
/* Would this host enforce all of a definition? */
int spec_check_host(struct vps_host *h, const struct vps_spec *s, struct vps_err *err);
/* Copy the operator's seccomp profile into the instance directory. */
int store_seccomp(int dir, struct vps_spec *s, struct vps_err *err);
/* Complete a rebuild that was killed. */
int rebuild_finish(struct vps_locked *l, struct vps_err *err);
/* A set was killed while it took leases: some may be in no definition. */
#define LEASING_FILE "leasing"
/* A copy of another disk (of a snapshot) as the one that is about to be exchanged for this VPS's: d as img_disk_copy has
 * it. Until set_exchange, or after a kill, it is scrap. */
struct switch_disk {
	int from;
	const struct img_disk_spec *was, *d;
	bool booted; /* somebody's first boot was on it */
	bool memory; /* the memory beside it as well, if there is one */
};
int switch_begin(struct vps_locked *l, const struct switch_disk *d, const struct progress *p, struct vps_err *err);
/* Of a stopped VPS: now, in which only image and kind of disk may be others, and that disk. From its marker on, which is
 * set's, it happens. */
int set_exchange(struct vps_locked *l, const struct vps_spec *now, struct vps_err *err);
/* Pin an image for it, instead of the one before. */
int store_pin(struct vps_host *h, unsigned id, const char *digest, struct vps_err *err);
/* The other wall for a stopped VPS, in set's steps (switch.c): the kind of disk that it wants; a copy on one, when
 * that must be; the exchange, once set's marker is there; the rest goes. */
int switch_plan(struct vps_locked *l, struct vps_spec *now, struct vps_err *err);
int switch_prepare(struct vps_locked *l, struct vps_spec *now, struct vps_err *err);
int switch_commit(struct vps_locked *l, struct vps_err *err);
int switch_clean(struct vps_locked *l, struct vps_err *err);
/* Complete a set that was killed. */
int set_finish(struct vps_locked *l, struct vps_err *err);
/* Let go of the name that a killed rename left. */
int rename_finish(struct vps_locked *l, struct vps_err *err);
/* Addresses and ports: lease.c. was (may be NULL): what is leased already and stays until given
 * back. */
int lease_default_ips(struct vps_host *h, struct vps_spec *s);
int lease_take(struct vps_host *h, const struct vps_spec *was, struct vps_spec *now,
	       struct vps_err *err);
/* Whatever have holds and keep (may be NULL) does not. */
void lease_give_back(struct vps_host *h, const struct vps_spec *have, const struct vps_spec *keep);
/* Its disk began as a copy of another VPS's. */
#define COPIED_FILE "copied"
/* Of a create that is a clone or a restore; all may be 0. */
struct create_more {
	/* Instead of a fresh disk: l->dir/disk, of s's limits and kind. s->disk_backend is set when it returns. */
	int (*make_disk)(void *arg, struct vps_locked *l, struct vps_spec *s, struct vps_err *err);
	void *arg;
	bool booted, copied;
	const char *uuid; /* its own from before, if nobody has it */
};
/* As vps_create, but for these; the image is the one of spec->image_digest. */
int create_with(struct vps_host *h, const struct vps_spec *spec, const struct create_more *more, struct vps_info *ret,
		struct vps_err *err);
/* Start and stop of a locked VPS. */
struct start_more {
	unsigned restarts, failures; /* of a restart by the monitor */
	const char *from;	     /* of a resume: the file of the checkpoint, or NULL */
	struct checkpoint_sums *sums; /* what of the checkpoint this process has read already, or NULL */
	/* Called when all of it stands and waits: 0 opens the gate, anything else ends the start. Or NULL. */
	int (*gate)(void *arg, struct vps_err *err);
	void *gate_arg;
	const struct progress *progress;
};
int start_locked(struct vps_locked *l, const struct vps_start_opts *o,
		 const struct start_more *more, struct vps_err *err);
/* Lets go of the lock and waits until the VPS is ready, if that is wanted. */
int start_wait(struct vps_locked *l, const struct vps_start_opts *o, struct vps_err *err);
int stop_locked(struct vps_locked *l, const struct vps_stop_opts *o, struct vps_err *err);
/* The end of a VPS that kill brings about, with all that follows on it: as stop_locked. */
int stop_killing(struct vps_locked *l, const struct run_state *s, int (*kill)(void *arg, struct vps_err *err),
		 void *arg, struct vps_err *err);
/* End a monitor that waits to start the VPS again: after it nobody will. 1 when there was one. */
int cancel_backoff(struct vps_locked *l);
int delete_locked(struct vps_locked *l, struct vps_err *err);

/* ---- plans (plan.c): pure -------------------------------------------------- */

/* The cgroup limits of a definition. n_cpus: online CPUs, to narrow the cpuset to ceil(cpus) of
 * them. */
int plan_limits(const struct vps_spec *s, unsigned n_cpus, struct cg_limits *ret,
		struct vps_err *err);
int plan_net(const struct vps_spec *s, struct net_plan *ret, struct vps_err *err);
int plan_devices(const struct vps_spec *s, struct cg_device **ret, size_t *ret_n,
		 struct vps_err *err);
void plan_disk(const struct vps_spec *s, struct img_disk_spec *ret);

#endif
