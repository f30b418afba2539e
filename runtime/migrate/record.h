/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The hand-over's record beside a VPS, handover.json: what is durable of handover.h, and what a command needs that
 * finds it. A VPS without one is this host's, and never moved.
 *
 *   instances/<id>/handover.json   of a VPS that is here, going, gone or prepared
 *   instances/<id>/migrate.lock    held by the process that is at it
 *   incoming/<uuid>/               what has come of one so far; also has a lock and a handover.json
 */
#ifndef VPS_RUNTIME_MIGRATE_RECORD_H
#define VPS_RUNTIME_MIGRATE_RECORD_H

#include "runtime/internal.h"
#include "runtime/migrate/handover.h"

#define HO_LOCK "migrate.lock"
#define INCOMING "incoming"
#define HO_MEMORY "moving" /* in the instance: a checkpoint that is being sent */

struct ho_file {
	struct ho_record rec;
	bool was_running; /* it is to go on where it ends */
	bool keep;	  /* GONE: what is here stays */
	char *peer;	  /* the other host, in words, or NULL */
	char *rsh, *far;  /* source: the command that leads there, and what it runs, or NULL */
	char *disk;	  /* RECEIVING: the disk's backend, or NULL */
};
void ho_file_done(struct ho_file *f);
#define auto_ho_file auto_done(ho_file_done) struct ho_file

/* Without a file: HERE, epoch 0. dir: of the instance, or incoming/<uuid>. -VPS_ECONF: unreadable. */
int ho_file_read(int dir, struct ho_file *ret, struct vps_err *err);
/* Durable when it returns. HERE with epoch 0, and NONE: no file. */
int ho_file_write(int dir, const struct ho_file *f, struct vps_err *err);

/* A VPS that another host has, or may have, must not do this ("started") here: -VPS_ESTATE with what to do. */
int ho_fence(struct vps_locked *l, const char *done, struct vps_err *err);
/* Which of two hosts has it is not settled: what is here is not to be thrown away without force. -VPS_ESTATE. */
int ho_undecided(struct vps_locked *l, struct vps_err *err);
/* Not while a process is moving it: -VPS_ELOCKED. */
int ho_not_moving(struct vps_locked *l, const char *done, struct vps_err *err);
/* Another host has it, or may have: what stands frozen of it here never goes on. Also when nobody can tell. */
bool ho_is_elsewhere(const struct vps_locked *l);
/* With the lock held: a dead migration's record is brought to its end as far as that needs nobody else. What cannot
 * be done now (a start that fails) is left for the next one. -VPS_ENOVPS: it had moved, and its copy here is gone now. */
int ho_finish(struct vps_locked *l, struct vps_err *err);

#endif
