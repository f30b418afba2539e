/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A suspended VPS: instances/<id>/suspended/ is a sealed checkpoint of it, and it does not run.
 *
 *   suspended.tmp/  being written, while it stands still; the VPS runs
 *   suspended/      by rename: from here on the VPS is suspended, whoever is killed
 *   suspended.in/   unpacked from a file, being verified
 *   resuming/       by rename, before it is let go: its memory is not true any more
 */
#ifndef VPS_RUNTIME_SUSPEND_H
#define VPS_RUNTIME_SUSPEND_H

#include "runtime/internal.h"

#define SUSPENDED	"suspended"
#define SUSPENDED_TMP	"suspended.tmp"
#define SUSPENDED_IN	"suspended.in"
#define SUSPENDED_USED	"resuming"
#define SUSPENDED_PLACE "elsewhere" /* in suspended/, with the seal alone: path of the checkpoint's file */

bool suspended_is(const struct vps_locked *l);
/* 1: its checkpoint, verified, as a directory fd, and the seconds that it had been up; 0: it is not suspended. Of more: from,
 * sums, progress. */
int suspended_open(struct vps_locked *l, const struct start_more *more, int *ret_dir, uint64_t *ret_ran,
		   struct vps_err *err);
/* It is about to be let go; and: it was not, after all. */
int suspended_use(struct vps_locked *l, struct vps_err *err);
void suspended_unuse(struct vps_locked *l);
/* Forget the memory. */
int suspended_drop(struct vps_locked *l, struct vps_err *err);
/* After a kill: what is in no state that counts goes. */
int suspended_finish(struct vps_locked *l, bool running, const struct run_state *s, struct vps_err *err);
/* The run state says "checkpoint" and whoever wrote that is gone: it runs on, or, when it was suspended already, ends. */
int checkpoint_recover(struct vps_locked *l, struct run_state *s, bool *ret_living, struct vps_err *err);

#endif
