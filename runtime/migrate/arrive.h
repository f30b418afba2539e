/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What arrives on a host, in its store.
 *
 *   incoming/<uuid>/   lock (held as long as a connection is at it), handover.json RECEIVING, disk/
 *   instances/<id>/    claimed as by a create that is under way: id, name, addresses; without spec.json it is no VPS,
 *                      and if its receiver dies, whoever meets it scraps it
 *
 * PREPARED moves the disk over and writes handover.json, then spec.json.
 */
#ifndef VPS_RUNTIME_MIGRATE_ARRIVE_H
#define VPS_RUNTIME_MIGRATE_ARRIVE_H

#include "runtime/migrate/apply.h"
#include "runtime/migrate/checkpoint.h"
#include "runtime/migrate/offer.h"
#include "runtime/migrate/record.h"

struct arrival {
	struct vps_host *h;
	const struct offer *offer;
	int dir, lock;	     /* incoming/<uuid> */
	struct vps_locked l; /* claimed, or what is here already */
	bool resumed;	     /* its disk is that of a connection before */
	bool there;	     /* it is here already: l has a definition */
	struct ho_file file;
	char digest[DIGEST_LEN]; /* of the image that it gets here */
	int mount;	     /* of the disk that is being filled */
	int upper;
	int blocks;	     /* directory of a machine's disk */
	int memory;	     /* of its checkpoint */
	bool image_ready; /* of a machine: its EROFS is made, and is the same */
	struct checkpoint_sums sums; /* of what has come of that */
};
#define ARRIVAL_INIT \
	{ .dir = -1, .lock = -1, .l = VPS_LOCKED_INIT, .mount = -1, .upper = -1, .blocks = -1, .memory = -1 }

/* Take the lock of this uuid, see what is there (a->file.rec). -VPS_ELOCKED: another connection is at it. */
int arrival_open(struct vps_host *h, const struct offer *o, struct arrival *ret, struct vps_err *err);
/* It went from here and was never confirmed. Now it comes back with a later epoch, so it did arrive: what is left of it here goes
 * now, unless it was to be kept. */
int arrival_confirm(struct arrival *a, uint64_t epoch, struct vps_err *err);
/* What is not to stay goes: a claim without a definition, an empty incoming/<uuid>. */
void arrival_done(struct arrival *a);
#define auto_arrival auto_done(arrival_done) struct arrival
/* Everything that stands in the way, in words. With no problem it is claimed. */
int arrival_check(struct arrival *a, struct answer *ret, struct vps_err *err);
/* Make `want` durable; a->file follows. */
int arrival_save(struct arrival *a, const struct ho_record *want, struct vps_err *err);
/* A disk to be filled, and ap's tops. */
int arrival_disk(struct arrival *a, struct apply *ap, struct vps_err *err);
/* A round is on the disk: look at what it brought of the memory, while there is time. */
int arrival_round(struct arrival *a, struct vps_err *err);
int arrival_prepare(struct arrival *a, struct vps_err *err);
int arrival_discard(struct arrival *a, struct vps_err *err);
int arrival_release(struct arrival *a, struct vps_err *err);

#endif
