/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between migrate.c, which moves a VPS, and migrate_offer.c, which finds out what there is to move, and how. */
#ifndef VPS_RUNTIME_MIGRATE_MIGRATE_IMPL_H
#define VPS_RUNTIME_MIGRATE_MIGRATE_IMPL_H

#include "runtime/internal.h"
#include "runtime/migrate/checkpoint.h"
#include "runtime/migrate/link.h"
#include "runtime/migrate/offer.h"
#include "runtime/migrate/precopy.h"
#include "runtime/migrate/record.h"
#include "runtime/migrate/scan.h"

struct source {
	struct vps_host *h;
	const struct vps_migrate_opts *o;
	struct vps_migrate_result *res;
	struct vps_locked l;
	char who[ID_STR];
	int mlock;
	struct ho_file file;
	struct handover ho;
	struct link link;
	struct offer offer;
	bool answered;
	size_t image_layers; /* that the other side has */
	bool there; /* the destination has it, and runs it: a confirmation that was lost */
	/* the disk */
	int mount, top;
	struct scan *scan;
	int written; /* the driver's session that tells what of it is, or -1 */
	/* its memory: HO_MEMORY, of one migration, with one scan over all rounds */
	struct {
		int dir; /* -1: none yet */
		unsigned rounds; /* of pre-copy that are in it */
		bool news; /* something to send */
		uint64_t bytes; /* of it, about */
		struct scan *scan;
		struct checkpoint_sums sums;
		struct vps_hold hold; /* the driver's, over all rounds */
		struct precopy pace;
		char what[32]; /* for the progress bar */
	} mem;
	struct checkpoint_taking taking;
	bool taken; /* it stands frozen */
	uint64_t round;	    /* its number */
	/* when */
	uint64_t began, deadline; /* ns; 0: none */
	uint64_t still;		  /* since when it stands still; 0: it does not */
	uint64_t rate;		  /* bytes a second, as measured */
	unsigned steps;
	struct vps_err *err;
};

bool source_is_running(struct source *s);
/* Live, by a restart, or stopped; the operator may be asked. */
int source_decide_mode(struct source *s);
/* Its definition, and what it takes; the disk is opened. */
int source_make_offer(struct source *s);
void source_close_disk(struct source *s);
/* What was offered must be what moves. */
int source_is_unchanged(struct source *s);

/* ---- migrate.c, for the memory's rounds ---- */
void source_unlock(struct source *s);
int source_relock(struct source *s);
/* A round of the disk, and of the memory where there is news, until the other side has it on its disk; of the last one that is
 * told later. */
int source_send_round(struct source *s, bool last, struct scan_round *ret);

/* ---- migrate_memory.c ---- */
/* While it runs: until the pause promises to be short enough, or what is left becomes no less. What cannot be copied so is a note,
 * and no failure. */
int source_precopy(struct source *s);
/* Frozen, and its memory written down beside its disk. */
int source_take_memory(struct source *s);
/* To the other side, whatever is news of it. */
int source_send_memory(struct source *s, bool last);
/* It stays here, or has gone: nothing of all that is left. Locked, or the tracking of changes stays. */
void source_drop_memory(struct source *s);

#endif
