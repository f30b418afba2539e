/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Between the files of runtime/migrate/ and the life cycle.
 *
 *   instances/<id>/snapshots/<name>/      snapshot.json and disk/, whole; its image has a pin <id>-snap-<name>
 *   instances/<id>/snapshots/.new.<name>/ being made; .old.<name>/ being removed; .use.<n>/ of a backup:
 *                                         whoever is at it holds a flock on the directory, else it is scrap
 *   <run>/<id>/frozen                     somebody keeps it still for a copy; see still.c for who lets it go on
 */
#ifndef VPS_RUNTIME_MIGRATE_MIGRATE_H
#define VPS_RUNTIME_MIGRATE_MIGRATE_H

#include "runtime/internal.h"

#define SNAPSHOTS     "snapshots"
#define SNAPSHOT_FILE "snapshot.json"

/* ---- still.c: a running VPS's disk, still for an instant -------------------------------- */

struct still {
	struct vps_locked *l;
	struct run_state state;
	enum { STILL_NONE, STILL_FS, STILL_GROUP, STILL_GUEST } how;
	int root; /* STILL_FS: of the disk's file system */
	int run_dir, agent;
	int ctl; /* to the monitor */
	pid_t guard;
	int line; /* to the guard */
	uint64_t since, frozen_us;
	struct img_still cb;
};
#define STILL_INIT { .root = -1, .run_dir = -1, .agent = -1, .ctl = -1, .guard = -1, .line = -1 }
/* How it can be done for what the VPS is at this moment. s->cb is for img_disk_copy then, or NULL functions where
 * nothing has to be kept still: use still_of. */
int still_open(struct vps_locked *l, struct still *ret, struct vps_err *err);
static inline const struct img_still *still_of(const struct still *s)
{
	return s->how == STILL_NONE ? NULL : &s->cb;
}
void still_done(struct still *s);
/* "stopped", "frozen file system", … */
const char *still_name(const struct still *s);
/* What was left still by the killed goes on. With the VPS's lock held. */
int still_finish(struct vps_locked *l, struct vps_err *err);
bool still_is_left(int run_dir);

/* ---- snapstore.c ---------------------------------------------------------------------------- */

struct snap {
	struct vps_snapshot s;
	struct vps_spec spec; /* as it was */
	bool booted;	      /* its first boot had been */
	int dir;
};
#define SNAP_INIT { .dir = -1 }
void snap_init(struct snap *s);
void snap_done(struct snap *s);
#define auto_snap auto_done(snap_done) struct snap
/* -VPS_ENOVPS: no such snapshot, with what there is. */
int snap_open(struct vps_locked *l, const char *name, struct snap *ret, struct vps_err *err);
/* Copy the disk of l (running or not) as a snapshot named name, or one in use (name NULL: ret->dir has its lock, and
 * snap_scrap is its end). */
int snap_make(struct vps_locked *l, const char *name, const struct vps_snapshot_opts *o, const struct progress *p,
	      struct snap *ret, struct vps_err *err);
/* Names, sorted by time of creation. */
int snap_names(int instance_dir, char ***ret);
/* Nobody removes it as long as s->dir is open. */
int snap_hold(struct snap *s, struct vps_err *err);
int snap_remove(struct vps_locked *l, const char *name, struct vps_err *err);
/* Remove instances/<id>/snapshots/entry, half-made or whole. */
int snap_scrap(struct vps_locked *l, const char *entry, struct vps_err *err);
/* What is nobody's: after kills. all: everything, with the VPS. */
int snap_clean(struct vps_locked *l, bool all, struct vps_err *err);
bool snap_is_left(int instance_dir);
/* What a copy of its disk gets as limits, and is of. */
void snap_disk(const struct vps_spec *s, struct img_disk_spec *ret);

/* ---- snapmem.c: with memory -------------------------------------------------------------------- */

#define SNAP_MEMORY "memory" /* in a snapshot: a sealed checkpoint */
struct checkpoint_taking;
struct snap_memory {
	struct vps_locked *l;
	struct still still;
	struct checkpoint_taking *taking;
	int dir;
	uint64_t ran, since;
};
/* Copy the disk of the running l, of kind d, into a snapshot's directory, and its memory of the same instant. */
int snap_memory_copy(struct vps_locked *l, int snap_dir, const struct img_disk_spec *d, struct still *still,
		     const struct progress *p, struct vps_err *err);
bool snap_has_memory(int snap_dir);
/* A copy of it, verified, as the directory `suspended` of `to`. */
int snap_memory_back(struct vps_locked *l, int snap_dir, int to, const struct progress *p, struct vps_err *err);

/* restore_refs.c: names of images that a killed restore left. */
void restore_clean(struct vps_host *h);

/* clone.c: take from a definition what two VPSes cannot both have: addresses, ports, MAC, host name. 0 or -ENOMEM. */
int clone_own(struct vps_spec *s);
/* The other way round: a card keeps its address, under whatever number and on whatever host; neighbours, licences of programs and
 * a machine's memory know it. 0 or -ENOMEM. */
int clone_keep_mac(const struct vps_host *h, struct vps_spec *spec);

/* ---- cron.c ---------------------------------------------------------------------------------- */

struct cron { /* bit n: value n */
	uint64_t minutes;
	uint32_t hours, days, months, weekdays;
	bool any_day, any_weekday;
};
/* crontab(5)'s five fields, or @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually. -VPS_EUSAGE. */
int cron_parse(const char *text, struct cron *ret, struct vps_err *err);
/* The last minute in (after, until] that it names, in local time; 0: none. Looks back 366 days at most. */
uint64_t cron_last(const struct cron *c, uint64_t after, uint64_t until);
/* The name that a pattern of strftime(3) gives; -EINVAL: none that a snapshot may have. ret: SPEC_NAME_MAX + 1 bytes. */
struct tm;
int pattern_name(const char *pattern, const struct tm *tm, char *ret);

#endif
