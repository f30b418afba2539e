/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A checkpoint as a directory: what a driver wrote of a running VPS, and
 *
 *   manifest.json  what it is and of which VPS, and every other file with its size and digest
 *   manifest.mac   HMAC-SHA256 of manifest.json by this host's key, <root>/checkpoint.key
 *
 * Nothing in it is parsed, and no driver sees it, before MAC, list and digests are right. What comes from another host
 * is checked against the manifest alone, by a stream that has its own sums, and sealed anew here.
 */
#ifndef VPS_RUNTIME_CHECKPOINT_H
#define VPS_RUNTIME_CHECKPOINT_H

#include "base/err.h"
#include "base/progress.h"
#include "runtime/internal.h"
#include "runtime/migrate/manifest.h"

#define CHECKPOINT_KEY	    "checkpoint.key" /* in root */
#define CHECKPOINT_KEY_LEN  32

/*
 * Digests of files that this process has read already, and of what they were then: while a VPS stands still, nothing is
 * read that rounds of pre-copy brought before. An inode with its size and ctime is the same file; a directory of ours in
 * which nobody else writes.
 */
struct checkpoint_sums {
	struct checkpoint_sum *v; /* sorted by name */
	size_t n, cap;
};
void checkpoint_sums_done(struct checkpoint_sums *s);
/* Of all that lies in dir, while there is time: it may wait until changes to come show in a ctime. */
int checkpoint_sums_make(struct checkpoint_sums *s, int dir, struct vps_err *err);

/* The manifest of what lies in dir, sealed with the host's key. Without sums all of it is on the disk afterwards; with them
 * (NULL: none) that is the caller's. */
int checkpoint_seal(struct vps_host *h, const struct vps_spec *s, uint64_t ran, int dir, struct checkpoint_sums *sums,
		    const struct progress *p, struct vps_err *err);
/* -VPS_EDIGEST when anything in dir is not as it was sealed here; -VPS_EUNSUPPORTED for another format;
 * -VPS_EUSAGE when it is of another VPS. sums and ret may be NULL. */
int checkpoint_verify(struct vps_host *h, const struct vps_spec *s, int dir, struct checkpoint_sums *sums,
		      const struct progress *p, struct checkpoint_info *ret, struct vps_err *err);
/* Of another host, as its stream brought it: as checkpoint_verify but for MAC and uuid; then it is sealed here, for s. */
int checkpoint_adopt(struct vps_host *h, const struct vps_spec *s, int dir, struct checkpoint_sums *sums,
		     const struct progress *p, struct vps_err *err);

/* ---- take.c: of a locked, running VPS ---- */

struct checkpoint_taking {
	struct cg *cg;
	struct proc_ident init;
	struct vps_hold hold;
	struct net_plan net;
	struct vps_live live;
	int run_dir;
	uint64_t ran; /* for checkpoint_seal */
};
/* Write it down into the directory dir, which holds so many rounds of pre-copy, or nothing: it stands still afterwards, its
 * network held, until checkpoint_leave. held: what those rounds have left to the driver, or NULL; it is in t then.
 * On failure it runs on. The run state says "checkpoint" meanwhile: after a kill,
 * reconcile lets it run on. */
int checkpoint_take(struct vps_locked *l, int dir, unsigned rounds, struct vps_hold *held, struct checkpoint_taking *t,
		    struct vps_err *err);
/* A round of pre-copy into dir, see driver.h. A kill in the middle is reconciled like that of a checkpoint. unlock is called as
 * soon as the VPS runs again, if that is known before the end; the lock is not needed from there on. */
struct precopy_stats;
int checkpoint_precopy(struct vps_locked *l, int dir, unsigned round, struct vps_hold *held, void (*unlock)(void *arg),
		       void *arg, struct precopy_stats *ret, struct vps_err *err);
/* No checkpoint will follow on what rounds there were, if any. */
void checkpoint_forget(struct vps_locked *l, struct vps_hold *held);
/* go_on: it runs on. Else it is killed where it stands, and torn down. */
int checkpoint_leave(struct vps_locked *l, struct checkpoint_taking *t, bool go_on, struct vps_err *err);

#endif
