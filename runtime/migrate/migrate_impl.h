/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between migrate.c, which moves a VPS, and migrate_offer.c, which finds out what there is to move, and how. */
#ifndef VPS_RUNTIME_MIGRATE_MIGRATE_IMPL_H
#define VPS_RUNTIME_MIGRATE_MIGRATE_IMPL_H

#include "runtime/internal.h"
#include "runtime/migrate/checkpoint.h"
#include "runtime/migrate/link.h"
#include "runtime/migrate/offer.h"
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
	bool there; /* the destination has it, and runs it: a confirmation that was lost */
	/* the disk */
	int mount, top;
	struct scan *scan;
	/* its memory */
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

#endif
